"""Exact and near duplicates. Of each group the best row is kept.

The best row is the one with the highest score (`scores` of the config, or the record's own `metadata.score`; a row
without a score comes after all that have one), then the one with the better outcome (success, partial, failure or none),
then the one that was read first.

Rows whose trained calls differ (`Row.trained_calls`) are two examples, and no step here takes them for one: in an agent's
records a long prompt and long tool results are alike, and the one call that differs is what is learned.

* exact: the canonical JSON of what is said, of which turns are trained and of the tools is the same; ids, times, how much a
  trained turn weighs and the order of keys are not looked at.
* near: MinHash over stretches of words (Broder 1997; https://github.com/beowolx/rensa), bands to find candidates, then the
  estimated Jaccard similarity of the whole signatures, once without the tools' results and once with them. So results never
  make two rows alike, and may tell them apart. No dropped row is less similar to the row that was kept for it than the
  threshold, and no chain of neighbours can pull two different rows together.

Everything that grows with the number of rows lies on disk; a task holds one band (16 bytes a row) or a sixteenth of the
exact hashes at a time. Semantic duplicates are in data/curation/semantic.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from data.chats import Chat, Message, what_is_said
from data.curation.rows import CuratedRow
from data.curation.shards import ShardStage, Work, at_once, per_shard
from data.curation.text import Words, hash_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BUCKETS = 16
"""Exact duplicates are looked for in so many parts, each by itself, so that memory holds a sixteenth of the hashes."""


class Exact(BaseModel):
    """Options of the step `exact`."""

    model_config = ConfigDict(extra="forbid")

    step: Literal["exact"] = "exact"


class Near(BaseModel):
    """Options of the step `near`."""

    model_config = ConfigDict(extra="forbid")

    step: Literal["near"] = "near"
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """Estimated Jaccard similarity from which on two rows are near duplicates."""
    shingle_words: Annotated[int, Field(ge=1, strict=True)] = 3
    """Words of one stretch."""
    bands: Annotated[int, Field(ge=1, le=256, strict=True)] = 20
    band_rows: Annotated[int, Field(ge=1, le=64, strict=True)] = 6
    """Hashes of one band. 20 bands of 6 find a pair of similarity 0.8 with probability 0.998, one of 0.5 with 0.27."""


# --- what a row is compared by -----------------------------------------------------------------------------------


def said_hash(row: CuratedRow) -> bytes:
    """128-bit hash of the canonical JSON of what is said, of which turns are trained and of the tools that could be called;
    and of the label of a chat that has one."""
    tools = [json.dumps(tool.model_dump(), sort_keys=True, ensure_ascii=False) for tool in row.tools]
    said = [what_is_said(part) for part in row.parts]
    trained = [[message.loss_weight > 0 for message in part] for part in row.parts]
    labels = [row.record.label] if isinstance(row.record, Chat) and row.record.label is not None else []
    text = json.dumps([said, trained, tools, *labels], sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _message_text(message: Message) -> str:
    calls = " ".join(f"{call.name} {json.dumps(call.arguments, ensure_ascii=False)}" for call in message.tool_calls)
    return "\n".join(filter(None, (message.reasoning_content, message.content, calls)))


def compared_texts(row: CuratedRow) -> tuple[str, str]:
    """The words in which near duplicates are looked for, and those of tool results, which can only tell rows apart.

    System prompts and tool descriptions are in neither. Of a pair only the request and the two sides: the pairs of one
    trajectory share their history and differ in what is preferred.
    """
    messages = row.messages
    if row.kind == "pair":
        request = next((message for message in row.parts[0] if message.role == "user"), None)
        messages = (*([request] if request else []), *row.parts[1], *row.parts[2])
    words = "\n".join(_message_text(message) for message in messages if message.role in ("user", "assistant"))
    return words, "\n".join(message.content for message in messages if message.role == "tool")


# --- names and order of rows -------------------------------------------------------------------------------------

PLACE_BITS = 40


def row_number(shard: int, place: Any) -> Any:
    """One number for a row, in the order of reading: works on ints and on arrays."""
    return (shard << PLACE_BITS) + place


def split_number(number: int) -> tuple[int, int]:
    """(shard, place) of a row number."""
    return number >> PLACE_BITS, number & ((1 << PLACE_BITS) - 1)


def ranks_of(work: Work, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each row in the order from best to worst; `numbers` must be sorted."""
    import numpy as np  # noqa: PLC0415 - a command that only prints its help need not load it

    scores = np.empty(len(numbers), np.float64)
    outcomes = np.empty(len(numbers), np.int64)
    shards = numbers >> PLACE_BITS
    for shard in np.unique(shards):
        low, high = np.searchsorted(shards, [shard, shard + 1])
        priority = np.load(work.path("read", f"priority-{shard:05d}.npy"))
        places = numbers[low:high] - row_number(int(shard), 0)
        scores[low:high] = priority[places, 0]
        outcomes[low:high] = priority[places, 1]
    order = np.lexsort((numbers, outcomes, -np.nan_to_num(scores, nan=-np.inf)))
    ranks = np.empty(len(numbers), np.int64)
    ranks[order] = np.arange(len(numbers))
    return ranks


def save_decisions(work: Work, step: str, part: int, decisions: Sequence[tuple[int, int, float]]) -> None:
    """Write (dropped row, kept row, similarity) where the last stage of a step finds them."""
    import numpy as np  # noqa: PLC0415 - as above

    table = np.array(sorted(decisions), dtype=[("row", "i8"), ("kept", "i8"), ("similarity", "f8")])
    work.save(step, f"decided-{part:05d}.npy", table)


def read_decisions(work: Work, step: str) -> Any:
    """All (row, kept, similarity) of a step, in the order of rows."""
    import numpy as np  # noqa: PLC0415 - as above

    tables = [np.load(path) for path in sorted(work.path(step, ".").glob("decided-*.npy"))]
    decided = np.concatenate(tables)
    return decided[np.argsort(decided["row"], kind="stable")]


REASONS = {"exact": "exact duplicate", "near": "near duplicate", "semantic": "semantic duplicate"}


def drop_decided(work: Work, step: str, kind: str, shard: int) -> None:
    decided = read_decisions(work, step)
    low, high = decided["row"].searchsorted([row_number(shard, 0), row_number(shard + 1, 0)])
    drops = [
        {
            "place": split_number(int(row))[1],
            "reason": REASONS[kind],
            "kept": split_number(int(kept)),
            "similarity": round(float(similarity), 4),
        }
        for row, kept, similarity in decided[low:high]
    ]
    work.write_drops(step, shard, drops)


# --- exact -------------------------------------------------------------------------------------------------------


def _hash_shard(work: Work, step: str, earlier: Sequence[str], shard: int) -> None:
    import numpy as np  # noqa: PLC0415 - as above

    rows = [
        (*np.frombuffer(said_hash(row), ">u8"), row_number(shard, place)) for place, row in work.rows(shard, earlier)
    ]
    table = np.array(rows, dtype=[("high", "u8"), ("low", "u8"), ("row", "i8")])
    work.save(step, f"hashes-{shard:05d}.npy", np.sort(table, order="high", kind="stable"))


def _find_exact(work: Work, step: str, bucket: int) -> None:
    import numpy as np  # noqa: PLC0415 - as above

    slices = []
    for shard in range(len(work.shards)):
        table = np.load(work.path(step, f"hashes-{shard:05d}.npy"), mmap_mode="r")
        if len(table):
            first = np.uint64(bucket * (2**64 // BUCKETS))
            last = np.uint64((bucket + 1) * (2**64 // BUCKETS) - 1)
            low, high = np.searchsorted(table["high"], first), np.searchsorted(table["high"], last, side="right")
            slices.append(np.array(table[low:high]))
    if not slices:
        save_decisions(work, step, bucket, [])
        return
    found = np.concatenate(slices)
    found = found[np.argsort(found["row"], kind="stable")]
    order = np.lexsort((ranks_of(work, found["row"]), found["low"], found["high"]))
    found = found[order]
    same = (found["high"][1:] == found["high"][:-1]) & (found["low"][1:] == found["low"][:-1])
    starts = np.flatnonzero(np.concatenate(([True], ~same)))[: len(found)]
    best = found["row"][np.repeat(starts, np.diff(np.append(starts, len(found))))]
    copies = np.flatnonzero(found["row"] != best)
    save_decisions(work, step, bucket, [(int(found["row"][i]), int(best[i]), 1.0) for i in copies])


def exact_stages(work: Work, step: str, options: Exact, earlier: Sequence[str]) -> list[ShardStage]:
    """The work of the step `exact`."""
    return [
        per_shard(work, step, "hashes", _hash_shard, earlier),
        at_once(work, step, "buckets", _find_exact, tasks=BUCKETS),
        per_shard(work, step, "drops", drop_decided, "exact"),
    ]


# --- near --------------------------------------------------------------------------------------------------------

SEED = 7


def _shingles(text: str, options: Near) -> NDArray[np.uint64]:
    """Hashes of the stretches of a text; one that is shorter than a stretch is one as a whole."""
    import numpy as np  # noqa: PLC0415 - as above

    found = Words(text)
    hashes = found.windows(options.shingle_words).hashes
    return hashes if len(hashes) else np.array([hash_words(found.words)], np.uint64)


def _min_hashes(sets: Sequence[NDArray[np.uint64]], size: int) -> NDArray[np.uint32]:
    """A MinHash signature of each set of hashes; of an empty one the largest number everywhere."""
    import numpy as np  # noqa: PLC0415 - as above
    from rensa import RMinHash  # noqa: PLC0415 - as above

    signatures = np.full((len(sets), size), 2**32 - 1, np.uint32)
    filled = [at for at, hashes in enumerate(sets) if len(hashes)]
    if filled:
        flat = np.concatenate([sets[at] for at in filled])
        offsets = np.cumsum([0, *(len(sets[at]) for at in filled)], dtype=np.uint64)
        signatures[filled] = RMinHash.digest_matrix_from_flat_token_hashes(flat, offsets, size, SEED).to_rows()
    return signatures


def _sign_shard(work: Work, step: str, options: Near, earlier: Sequence[str], shard: int) -> None:
    """Write two MinHash signatures of each row, without results and with them, and one hash for each band of the first."""
    import numpy as np  # noqa: PLC0415 - as above
    import xxhash  # noqa: PLC0415 - as above

    numbers, calls, of_words, of_results = [], [], [], []
    for place, row in work.rows(shard, earlier):
        words, results = compared_texts(row)
        numbers.append(row_number(shard, place))
        calls.append(xxhash.xxh64_intdigest(f"{row.kind} {row.trained_calls}".encode(errors="surrogatepass")))
        of_words.append(_shingles(words, options))
        # The results are stretches of their own, so that no stretch crosses from a call into its result.
        of_results.append(_shingles(results, options) if results else np.empty(0, np.uint64))
    size = options.bands * options.band_rows
    signatures = _min_hashes(of_words, size)
    # The signature of two sets together is the smaller of both their hashes, place by place.
    with_results = np.minimum(signatures, _min_hashes(of_results, size))
    multipliers = np.random.default_rng(SEED).integers(2**63, size=options.band_rows, dtype=np.uint64) | np.uint64(1)
    banded = signatures.reshape(len(numbers), options.bands, options.band_rows).astype(np.uint64)
    # Each band begins with the trained calls, and each step below can be undone: rows of one signature and other calls
    # never share a band.
    band_hashes = np.repeat(np.array(calls, np.uint64)[None], options.bands, axis=0)
    for place in range(options.band_rows):
        # Mixed between the steps, because a plain sum of products of 32-bit numbers would collide more often.
        band_hashes ^= banded[:, :, place].T
        band_hashes *= multipliers[place]
        band_hashes ^= band_hashes >> np.uint64(29)
    work.save(step, f"numbers-{shard:05d}.npy", np.array(numbers, np.int64))
    work.save(step, f"signatures-{shard:05d}.npy", np.stack([signatures, with_results], axis=1))
    work.save(step, f"bands-{shard:05d}.npy", band_hashes)


class _Signatures:
    """The two signatures of each row, read from their shards' files when they are asked for."""

    def __init__(self, work: Work, step: str) -> None:
        import numpy as np  # noqa: PLC0415 - as above

        self._files = [work.path(step, f"signatures-{shard:05d}.npy") for shard in range(len(work.shards))]
        counts = [
            np.load(work.path(step, f"numbers-{s:05d}.npy"), mmap_mode="r").shape[0] for s in range(len(self._files))
        ]
        self._first = np.concatenate(([0], np.cumsum(counts)))

    def of(self, indices: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Signatures of rows by their index among all signed rows, in the order asked."""
        import numpy as np  # noqa: PLC0415 - as above

        order = np.argsort(indices, kind="stable")
        ordered = indices[order]
        parts = []
        bounds = np.searchsorted(ordered, self._first)
        for shard in np.flatnonzero(np.diff(bounds)):
            file = np.load(self._files[shard], mmap_mode="r")
            parts.append(file[ordered[bounds[shard] : bounds[shard + 1]] - self._first[shard]])
        found: NDArray[np.uint32] = np.concatenate(parts)
        result = np.empty_like(found)
        result[order] = found
        return result


PAIRS_AT_ONCE = 1 << 16


def _alike(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Estimated Jaccard similarity of rows by their signatures: without results or with them, whichever is less."""
    alike: NDArray[np.float64] = (left == right).mean(axis=-1).min(axis=-1)
    return alike


def _similarities(signatures: _Signatures, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
    """Estimated Jaccard similarity of rows by their indices, pair by pair."""
    import numpy as np  # noqa: PLC0415 - as above

    parts = [np.empty(0)]
    for start in range(0, len(left), PAIRS_AT_ONCE):
        chunk = slice(start, start + PAIRS_AT_ONCE)
        parts.append(_alike(signatures.of(left[chunk]), signatures.of(right[chunk])))
    return np.concatenate(parts)


_INDEX_BITS = 31
"""A pair of row indices is kept as one number, so one run takes two thousand million rows at most."""

LEADERS = 24
"""With how many different rows of its band a row is compared at most."""


def _band_pairs(work: Work, step: str, options: Near, band: int) -> None:
    """Write the pairs of similar rows that share a band, as indices: each row of a group against the group's leader.

    Who is not like the leader forms the next group with its own leader, so a common band of different rows costs
    `LEADERS` comparisons a row and not the square of their number.
    """
    import numpy as np  # noqa: PLC0415 - as above

    shards = range(len(work.shards))
    hashes = np.concatenate([np.load(work.path(step, f"bands-{s:05d}.npy"), mmap_mode="r")[band] for s in shards])
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    alone = np.concatenate(([True], ordered[1:] != ordered[:-1], [True]))[
        : len(ordered) + 1
    ]  # one border if none is left
    in_group = ~(alone[:-1] & alone[1:])
    rows, groups = order[in_group], ordered[in_group]
    signatures = _Signatures(work, step)
    pairs = [np.empty(0, np.int64)]
    for _ in range(LEADERS):
        if not len(rows):
            break
        starts = np.flatnonzero(np.concatenate(([True], groups[1:] != groups[:-1])))
        leaders = rows[np.repeat(starts, np.diff(np.append(starts, len(rows))))]
        others = np.flatnonzero(rows != leaders)
        alike = _similarities(signatures, leaders[others], rows[others]) >= options.threshold
        pairs.append((leaders[others[alike]] << _INDEX_BITS) + rows[others[alike]])
        left = others[~alike]
        rows, groups = rows[left], groups[left]
    work.save(step, f"pairs-{band:05d}.npy", np.concatenate(pairs))


def _components(pairs: NDArray[np.int64]) -> Iterator[list[int]]:
    """Connected components of a graph that is given by its edges."""
    parent: dict[int, int] = {}

    def root(node: int) -> int:
        while (above := parent.setdefault(node, node)) != node:
            parent[node] = parent[above]
            node = above
        return node

    for left, right in pairs.tolist():
        one, other = sorted((root(left), root(right)))
        parent[other] = one
    members = sorted((root(node), node) for node in parent)
    for _, group in groupby(members, key=lambda pair: pair[0]):
        yield [node for _, node in group]


def _choose_near(work: Work, step: str, options: Near, _task: int) -> None:
    """In each component, from the best row on: keep what is like no kept row, drop the rest for the kept row most like it."""
    import numpy as np  # noqa: PLC0415 - as above

    numbers = np.concatenate([np.load(work.path(step, f"numbers-{s:05d}.npy")) for s in range(len(work.shards))])
    pairs = np.concatenate([np.load(work.path(step, f"pairs-{band:05d}.npy")) for band in range(options.bands)])
    pairs = np.unique(pairs)  # most pairs share several bands
    pairs = np.stack([pairs >> _INDEX_BITS, pairs & ((1 << _INDEX_BITS) - 1)], axis=1)
    signatures = _Signatures(work, step)
    members = np.unique(pairs)
    ranks = dict(zip(members.tolist(), ranks_of(work, numbers[members]).tolist(), strict=True))
    decisions: list[tuple[int, int, float]] = []
    batch: list[list[int]] = []

    def decide() -> None:
        signed = signatures.of(np.array([node for component in batch for node in component]))
        start = 0
        for component in batch:
            kept = [0]
            own = signed[start : start + len(component)]
            for place in range(1, len(component)):
                alike = _alike(own[kept], own[place])
                best = int(alike.argmax())
                if alike[best] >= options.threshold:
                    row, instead = numbers[component[place]], numbers[component[kept[best]]]
                    decisions.append((int(row), int(instead), float(alike[best])))
                else:
                    kept.append(place)
            start += len(component)
        batch.clear()

    size = 0
    for component in _components(pairs):
        batch.append(sorted(component, key=ranks.__getitem__))
        size += len(component)
        if size >= PAIRS_AT_ONCE:
            decide()
            size = 0
    if batch:
        decide()
    save_decisions(work, step, 0, decisions)


def near_stages(work: Work, step: str, options: Near, earlier: Sequence[str]) -> list[ShardStage]:
    """The work of the step `near`."""
    return [
        per_shard(work, step, "signatures", _sign_shard, options, earlier),
        at_once(work, step, "bands", _band_pairs, options, tasks=options.bands),
        at_once(work, step, "choice", _choose_near, options),
        per_shard(work, step, "drops", drop_decided, "near"),
    ]
