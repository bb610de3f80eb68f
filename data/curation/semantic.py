"""Semantic duplicates, and the embeddings that topics are made of (extra `semantic`: semhash, model2vec).

Two rows are semantic duplicates when what is asked and answered means the same and their trained calls are the same
(`Row.trained_calls`). Without the second condition "delete a.txt" and "delete b.txt" would be one example. Rows without
calls are compared with each other.

The bound: a row costs four bytes for each dimension of the encoder, twice, and a group of more than `EXACT_ROWS` rows
with the same calls (in practice: those without any) is searched with an HNSW index, which is approximate and, on several
cores, may find other pairs in another run. Smaller groups are compared completely.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from core.errors import UserError
from data.curation.duplicates import drop_decided, ranks_of, row_number, save_decisions
from data.curation.rows import CuratedRow
from data.curation.shards import ShardStage, Work, at_once, per_shard

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXACT_ROWS = 50_000
DEFAULT_ENCODER = "minishlab/potion-multilingual-128M"


class Semantic(BaseModel):
    """Options of the step `semantic`."""

    model_config = ConfigDict(extra="forbid")

    step: Literal["semantic"] = "semantic"
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Cosine similarity from which on two rows say the same. It depends on the encoder: look at clusters.jsonl."""
    encoder: str = DEFAULT_ENCODER
    """Folder or hub id of a model2vec model."""


def request_text(row: CuratedRow) -> str:
    """What is asked, and the last words that answer it: what embeddings are made of."""
    asked = [message.content for message in row.imitated if message.role == "user"]
    answers = [message.content for message in row.trained if message.content]
    return "\n".join([*asked, *answers[-1:]])[:4000]


@lru_cache(maxsize=1)
def load_encoder(name: str) -> Any:
    """A model2vec model from a folder or the hub.

    Raises:
        UserError: if the packages or the model are not there.
    """
    try:
        import semhash  # noqa: F401, PLC0415 - an extra; told missing before a model is loaded
        from model2vec import StaticModel  # noqa: PLC0415 - as above
    except ImportError:
        raise UserError("embeddings need an extra: pip install -c constraints.txt -e '.[semantic]'") from None
    if not Path(name).is_dir() and (name.startswith((".", "/")) or name.count("/") != 1):
        raise UserError(f"encoder: there is no folder {name}")
    try:
        return StaticModel.from_pretrained(name, force_download=False)
    except Exception as error:  # the hub's client, safetensors and tokenizers each raise their own
        raise UserError(
            f"encoder {name!r} cannot be loaded: {type(error).__name__}: {str(error).splitlines()[0][:200]}\n"
            "Without network give a folder that holds a model2vec model: encoder: FOLDER"
        ) from None


def embed(encoder: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors, one row for each text; a text without a known word gets zeros."""
    import numpy as np  # noqa: PLC0415 - a command that only prints its help need not load it

    vectors = load_encoder(encoder).encode(list(texts), use_multiprocessing=False).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    normed: NDArray[np.float32] = vectors / np.where(lengths == 0, 1, lengths)
    return normed


def _embed_shard(work: Work, step: str, options: Semantic, earlier: Sequence[str], shard: int) -> None:
    import numpy as np  # noqa: PLC0415 - as above
    import xxhash  # noqa: PLC0415 - as above

    numbers, texts, calls = [], [], []
    for place, row in work.rows(shard, earlier):
        numbers.append(row_number(shard, place))
        texts.append(request_text(row))
        calls.append(xxhash.xxh64_intdigest(f"{row.kind} {row.trained_calls}".encode(errors="surrogatepass")))
    work.save(step, f"numbers-{shard:05d}.npy", np.array(numbers, np.int64))
    work.save(step, f"calls-{shard:05d}.npy", np.array(calls, np.uint64))
    if texts:
        work.save(step, f"vectors-{shard:05d}.npy", embed(options.encoder, texts))


def _choose_semantic(work: Work, step: str, options: Semantic, _task: int) -> None:
    """Let SemHash choose in each group of rows with the same calls; the best rows come first and so are the ones kept."""
    import numpy as np  # noqa: PLC0415 - as above
    from semhash import SemHash  # noqa: PLC0415 - an extra
    from vicinity import Backend  # noqa: PLC0415 - comes with semhash

    shards = range(len(work.shards))
    numbers = np.concatenate([np.load(work.path(step, f"numbers-{s:05d}.npy")) for s in shards])
    calls = np.concatenate([np.load(work.path(step, f"calls-{s:05d}.npy")) for s in shards])
    files = [path for s in shards if (path := work.path(step, f"vectors-{s:05d}.npy")).exists()]
    decisions: list[tuple[int, int, float]] = []
    if files:
        vectors = np.concatenate([np.load(path) for path in files])
        groups = defaultdict(list)
        for index in np.argsort(ranks_of(work, numbers), kind="stable").tolist():
            if vectors[index].any():
                groups[int(calls[index])].append(index)
        encoder = load_encoder(options.encoder)
        for group in groups.values():
            if len(group) == 1:
                continue
            found = SemHash.from_embeddings(
                vectors[group],
                [{"row": str(index)} for index in group],
                encoder,
                columns=["row"],
                ann_backend=Backend.BASIC if len(group) <= EXACT_ROWS else Backend.USEARCH,
            ).self_deduplicate(options.threshold)
            for copy in found.filtered:
                row, kept = int(copy.record["row"]), int(copy.duplicate_of["row"])
                decisions.append((int(numbers[row]), int(numbers[kept]), float(copy.score)))
    save_decisions(work, step, 0, decisions)


def semantic_stages(work: Work, step: str, options: Semantic, earlier: Sequence[str]) -> list[ShardStage]:
    """The work of the step `semantic`."""
    return [
        per_shard(work, step, "embeddings", _embed_shard, options, earlier),
        at_once(work, step, "choice", _choose_semantic, options),
        per_shard(work, step, "drops", drop_decided, "semantic"),
    ]
