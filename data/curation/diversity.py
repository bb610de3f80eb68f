"""Diversity: what a set is made of, and samples that balance it.

A row is described by facets: its kind, source, category, tier, language, outcome, number of turns, number of calls, and its
topic. The step `sample` caps or balances the rows by any of them; the step `report` counts them, in tables and pictures.
Topics are clusters of embeddings (k-means; extra `semantic`).

What a record states about itself is taken; a language that is not stated is identified with code left out.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from data.curation.language import row_language
from data.curation.rows import CuratedRow
from data.curation.semantic import DEFAULT_ENCODER, embed, request_text
from data.curation.shards import ShardStage, Work, at_once, per_shard
from data.curation.text import split_words
from data.records import Trajectory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Facet = Literal["kind", "source", "category", "tier", "language", "outcome", "turns", "calls", "topic"]
NOT_STATED = "not stated"


class Sample(BaseModel):
    """Options of the step `sample`: at most so many rows of each cell, or so many rows as evenly as can be.

    A cell is the set of rows that agree in all facets of `by`. Which rows of a cell stay is decided by a hash of the seed
    and the row's words, so a row keeps its luck when others come or go.
    """

    model_config = ConfigDict(extra="forbid")

    step: Literal["sample"] = "sample"
    by: list[Facet] = Field(default_factory=list)
    """Facets; with none of them the whole set is one cell."""
    cap: Annotated[int, Field(ge=1, strict=True)] | Literal["smallest"] | None = None
    """Most rows of a cell; `smallest` takes as many of each as the smallest cell has."""
    total: Annotated[int, Field(ge=1, strict=True)] | None = None
    """Rows in all, in equal parts; what a small cell cannot give is given by the others."""
    seed: int = Field(default=7, strict=True)
    topics: Annotated[int, Field(ge=2, le=500, strict=True)] = 20
    encoder: str = DEFAULT_ENCODER

    @model_validator(mode="after")
    def _one_limit(self) -> Sample:
        if (self.cap is None) == (self.total is None):
            raise ValueError("give one of cap (rows of each cell) and total (rows in all)")
        return self


class DiversityReport(BaseModel):
    """Options of the step `report`, which drops nothing."""

    model_config = ConfigDict(extra="forbid")

    step: Literal["report"] = "report"
    topics: Annotated[int, Field(ge=2, le=500, strict=True)] | None = None
    """How many topics; null leaves them out. They need the extra `semantic`."""
    encoder: str = DEFAULT_ENCODER


def _bucket(count: int) -> str:
    """Counts as ranges, in an order that sorts."""
    for low, high in ((0, 0), (1, 1), (2, 2), (3, 3), (4, 5), (6, 8), (9, 12), (13, 20), (21, 40), (41, 100)):
        if count <= high:
            return f"{low:02d}" if low == high else f"{low:02d}-{high:02d}"
    return "over 100"


def facets(row: CuratedRow) -> dict[str, str]:
    """All facets of a row but its topic."""
    metadata = row.metadata
    task = metadata.get("task")
    tier = metadata.get("tier", task.get("tier") if isinstance(task, dict) else None)
    is_trajectory = isinstance(row.record, Trajectory)
    source = (row.record.metadata.source or row.record.environment.name) if is_trajectory else row.record.source  # type: ignore[union-attr] # told apart above
    return {
        "kind": row.kind,
        "source": source,
        "category": str(row.record.category) if isinstance(row.record, Trajectory) else NOT_STATED,
        "tier": NOT_STATED if tier is None else str(tier),
        "language": row_language(row),
        "outcome": str(row.record.outcome) if isinstance(row.record, Trajectory) else NOT_STATED,
        "turns": _bucket(len(row.imitated)),
        "calls": _bucket(sum(len(message.tool_calls) for message in row.imitated)),
    }


# --- topics ------------------------------------------------------------------------------------------------------

ROWS_TO_LEARN_FROM = 20_000
"""Topics are found in about so many rows, chosen by a hash; then each row gets the nearest."""
EXAMPLE_CHARS = 240


def _luck(seed: int, row: CuratedRow) -> int:
    """64 bits that depend on the seed and on what the row says."""
    said = json.dumps([row.id, request_text(row)], ensure_ascii=False)
    return int.from_bytes(hashlib.blake2b(f"{seed} {said}".encode(errors="replace"), digest_size=8).digest())


def _embed_requests(work: Work, step: str, encoder: str, earlier: Sequence[str], shard: int) -> None:

    share = min(1.0, ROWS_TO_LEARN_FROM / max(work.totals()["read"], 1))
    texts, examples = [], {}
    for index, (_, row) in enumerate(work.rows(shard, earlier)):
        texts.append(request_text(row))
        if _luck(0, row) < share * 2**64:
            examples[index] = texts[-1][:EXAMPLE_CHARS]
    if texts:
        work.save(step, f"vectors-{shard:05d}.npy", embed(encoder, texts))
    work.save_json(step, f"examples-{shard:05d}.json", examples)


def _kmeans(vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Centres by Lloyd's algorithm from a k-means++ start with a fixed seed (Arthur and Vassilvitskii 2007)."""
    import numpy as np  # noqa: PLC0415 - as above

    random = np.random.default_rng(7)
    centres = vectors[[int(random.integers(len(vectors)))]]
    distance = np.full(len(vectors), np.inf)
    while len(centres) < count:
        distance = np.minimum(distance, ((vectors - centres[-1]) ** 2).sum(axis=1))
        if not distance.sum() > 0:
            break  # fewer different rows than topics
        following = int(random.choice(len(vectors), p=distance / distance.sum()))
        centres = np.concatenate([centres, vectors[[following]]])
    for _ in range(30):
        nearest = _nearest(vectors, centres)
        moved = np.stack(
            [
                vectors[nearest == at].mean(axis=0) if (nearest == at).any() else centres[at]
                for at in range(len(centres))
            ]
        )
        if np.allclose(moved, centres, atol=1e-5):
            break
        centres = moved
    return centres


def _nearest(vectors: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    """Index of the nearest centre of each vector."""
    best: NDArray[np.int64] = (vectors @ centres.T - 0.5 * (centres**2).sum(axis=1)).argmax(axis=1)
    return best


def _find_topics(work: Work, step: str, count: int, _task: int) -> None:
    """Write each row's topic, and topics.json: size, words and examples of each, and points of a picture."""
    import numpy as np  # noqa: PLC0415 - as above

    shards = range(len(work.shards))
    examples = [json.loads(work.path(step, f"examples-{s:05d}.json").read_text(encoding="utf-8")) for s in shards]
    texts = [text for found in examples for text in found.values()]
    parts = [
        np.load(work.path(step, f"vectors-{s:05d}.npy"))[list(map(int, examples[s]))] for s in shards if examples[s]
    ]
    if not parts:
        work.save_json(step, "topics.json", [])
        return
    learned = np.concatenate(parts)
    centres = _kmeans(learned, count)
    sizes = np.zeros(len(centres), np.int64)
    labels = []
    for shard in shards:
        path = work.path(step, f"vectors-{shard:05d}.npy")
        labels.append(_nearest(np.load(path), centres) if path.exists() else np.empty(0, np.int64))
        sizes += np.bincount(labels[-1], minlength=len(centres))
    # The largest topic is number 0, whatever the order in which k-means found them.
    new_number = np.empty(len(centres), np.int64)
    new_number[np.argsort(-sizes, kind="stable")] = np.arange(len(centres))
    for shard in shards:
        work.save(step, f"topics-{shard:05d}.npy", new_number[labels[shard]])
    topic_of = new_number[_nearest(learned, centres)]
    centred = learned - learned.mean(axis=0)
    _, _, axes = np.linalg.svd(centred[:4000], full_matrices=False)
    points = centred @ axes[:2].T
    topics = _describe_topics(texts, topic_of.tolist(), sorted(sizes.tolist(), reverse=True))
    shown = range(0, len(texts), max(1, len(texts) // 4000))
    picture = [[round(float(points[i, 0]), 3), round(float(points[i, -1]), 3), int(topic_of[i])] for i in shown]
    found = {"topics": topics, "points": picture}
    work.save_json(step, "topics.json", found)


def _describe_topics(texts: Sequence[str], topic_of: Sequence[int], sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Size, telling words and examples of each topic. Words tell when they are more frequent there than elsewhere."""
    everywhere: Counter[str] = Counter()
    inside: defaultdict[int, Counter[str]] = defaultdict(Counter)
    examples: defaultdict[int, list[str]] = defaultdict(list)
    for text, topic in zip(texts, topic_of, strict=True):
        # Korean words as they are written; syllables alone tell nothing.
        found = {word for word in text.lower().split() if word.isalpha() and len(word) > 1} or set(split_words(text))
        everywhere.update(found)
        inside[topic].update(found)
        if len(examples[topic]) < 3:
            examples[topic].append(text)
    described = []
    for topic, size in enumerate(sizes):
        counts = inside[topic]
        telling = sorted(counts, key=lambda word: (-(counts[word] ** 2) / everywhere[word], word))[:5]
        described.append({"topic": topic, "rows": size, "words": telling, "examples": examples[topic]})
    return described


def _topic_stages(work: Work, step: str, encoder: str, topics: int, earlier: Sequence[str]) -> list[ShardStage]:
    return [
        per_shard(work, step, "embeddings", _embed_requests, encoder, earlier),
        at_once(work, step, "topics", _find_topics, topics),
    ]


def _rows_with_facets(work: Work, step: str, with_topics: bool, earlier: Sequence[str], shard: int) -> Iterator[Any]:
    """(place, row, facets) of each row that is left, its topic among them where topics were found."""
    import numpy as np  # noqa: PLC0415 - as above

    path = work.path(step, f"topics-{shard:05d}.npy")
    topics = np.load(path).tolist() if with_topics and path.exists() else None
    for index, (place, row) in enumerate(work.rows(shard, earlier)):
        yield place, row, {**facets(row), **({"topic": f"{topics[index]:03d}"} if topics is not None else {})}


# --- sampling ----------------------------------------------------------------------------------------------------


def _name_cells(work: Work, step: str, options: Sample, earlier: Sequence[str], shard: int) -> None:
    import numpy as np  # noqa: PLC0415 - as above

    places, luck, cells = [], [], []
    for place, row, described in _rows_with_facets(work, step, "topic" in options.by, earlier, shard):
        places.append(place)
        luck.append(_luck(options.seed, row))
        cells.append(" / ".join(described[facet] for facet in options.by) or "all")
    names = sorted(set(cells))
    work.save_json(step, f"cells-{shard:05d}.json", names)
    table = list(zip(places, luck, map({name: at for at, name in enumerate(names)}.__getitem__, cells), strict=True))
    work.save(
        step,
        f"luck-{shard:05d}.npy",
        np.array(table, dtype=[("place", "i8"), ("luck", "u8"), ("cell", "i8")]),
    )


def rows_of_each_cell(
    sizes: dict[str, int], *, cap: int | Literal["smallest"] | None, total: int | None
) -> dict[str, int]:
    """How many rows of each cell stay. With `total`: as even as can be, what remains to the first cells by name."""
    if total is None:
        limit = min(sizes.values(), default=0) if cap == "smallest" else int(cap or 0)
        return {name: min(size, limit) for name, size in sizes.items()}
    taken = {}
    left = total
    for done, name in enumerate(sorted(sizes, key=lambda name: (sizes[name], name))):
        taken[name] = min(sizes[name], left // (len(sizes) - done))
        left -= taken[name]
    return taken


def _draw(work: Work, step: str, options: Sample, _task: int) -> None:
    """Write for each cell the luck that a row needs at most in order to stay."""
    import numpy as np  # noqa: PLC0415 - as above

    luck_of: defaultdict[str, list[NDArray[np.uint64]]] = defaultdict(list)
    for shard in range(len(work.shards)):
        names = json.loads(work.path(step, f"cells-{shard:05d}.json").read_text(encoding="utf-8"))
        table = np.load(work.path(step, f"luck-{shard:05d}.npy"))
        rows = np.arange(len(table)) + (np.uint64(shard) << np.uint64(32))
        for at, name in enumerate(names):
            mine = table["cell"] == at
            luck_of[name].append(np.stack([table["luck"][mine], rows[mine].astype(np.uint64)]))
    joined = {name: np.concatenate(parts, axis=1) for name, parts in sorted(luck_of.items())}
    stays = rows_of_each_cell(
        {name: part.shape[1] for name, part in joined.items()}, cap=options.cap, total=options.total
    )
    result = {}
    for name, part in joined.items():
        # Of two rows with equal luck, which say the same, the first one read stays.
        order = np.lexsort((part[1], part[0]))
        size = part.shape[1]
        border = (
            [int(part[0][order[stays[name] - 1]]), int(part[1][order[stays[name] - 1]])] if stays[name] else [-1, -1]
        )
        result[name] = {"rows": size, "stay": stays[name], "last": border}
    work.save_json(step, "cells.json", result)


def _drop_unlucky(work: Work, step: str, options: Sample, shard: int) -> None:
    import numpy as np  # noqa: PLC0415 - as above

    cells = json.loads(work.path(step, "cells.json").read_text(encoding="utf-8"))
    names = json.loads(work.path(step, f"cells-{shard:05d}.json").read_text(encoding="utf-8"))
    drops = []
    for index, (place, luck, at) in enumerate(np.load(work.path(step, f"luck-{shard:05d}.npy")).tolist()):
        cell = cells[names[at]]
        if [luck, (shard << 32) + index] > cell["last"]:
            text = f"{names[at]}: {cell['stay']} of {cell['rows']} rows stay"
            drops.append({"place": place, "reason": "over the sample", "text": text})
    work.write_drops(step, shard, drops)


def sample_stages(work: Work, step: str, options: Sample, earlier: Sequence[str]) -> list[ShardStage]:
    """The work of the step `sample`."""
    topics = _topic_stages(work, step, options.encoder, options.topics, earlier) if "topic" in options.by else []
    return [
        *topics,
        per_shard(work, step, "cells", _name_cells, options, earlier),
        at_once(work, step, "draw", _draw, options),
        per_shard(work, step, "drops", _drop_unlucky, options),
    ]


# --- report ------------------------------------------------------------------------------------------------------

REPORT_PAGES = ("report.json", "report.md", "report.png", "topics.png")

CROSSED = ("category", "tier", "language", "outcome")


def _count_shard(work: Work, step: str, options: DiversityReport, earlier: Sequence[str], shard: int) -> None:
    crossed: Counter[str] = Counter()
    single: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for _, _, described in _rows_with_facets(work, step, options.topics is not None, earlier, shard):
        crossed[json.dumps([described[facet] for facet in CROSSED], ensure_ascii=False)] += 1
        for facet, value in described.items():
            single[facet][value] += 1
    counts = {"crossed": crossed, "single": single}
    work.save_json(step, f"counts-{shard:05d}.json", counts)
    work.write_drops(step, shard, [])


def _write_report(work: Work, step: str, options: DiversityReport, _task: int) -> None:
    """Sum the counts up; write report.json, report.md and the pictures, which will stand beside the curated rows."""
    crossed: Counter[str] = Counter()
    single: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for shard in range(len(work.shards)):
        counts = json.loads(work.path(step, f"counts-{shard:05d}.json").read_text(encoding="utf-8"))
        crossed.update(counts["crossed"])
        for facet, values in counts["single"].items():
            single[facet].update(values)
    cells = [dict(zip(CROSSED, json.loads(key), strict=True)) | {"rows": crossed[key]} for key in sorted(crossed)]
    found: dict[str, Any] = {"topics": [], "points": []}
    if options.topics is not None:
        found = json.loads(work.path(step, "topics.json").read_text(encoding="utf-8")) or found
    report = {
        "rows": crossed.total(),
        " x ".join(CROSSED): cells,
        "facets": {facet: dict(sorted(values.items())) for facet, values in single.items()},
        "topics": found["topics"],
    }
    texts = json.dumps(report, ensure_ascii=False, indent=2) + "\n", _report_to_markdown(report, cells)
    for name, text in zip(REPORT_PAGES, texts, strict=False):
        with work.open(step, name) as file:
            file.write(text.encode())
    with work.open(step, "report.png") as file:
        _draw_distributions(file, single)
    if found["topics"]:
        with work.open(step, "topics.png") as file:
            _draw_topics(file, found["topics"], found["points"])


def _cell_text(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(_cell_text, line)) + " |" for line in lines) + "\n"


def _report_to_markdown(report: dict[str, Any], cells: Sequence[dict[str, Any]]) -> str:
    parts = [f"# What the set is made of\n\n{report['rows']} rows\n"]
    parts.append(_markdown_table([*CROSSED, "rows"], [list(cell.values()) for cell in cells]))
    for facet, values in report["facets"].items():
        if facet != "topic":
            parts.append(f"## {facet}\n\n" + _markdown_table([facet, "rows"], list(values.items())))
    if report["topics"]:
        rows = [[t["topic"], t["rows"], ", ".join(t["words"]), (t["examples"] or [""])[0]] for t in report["topics"]]
        parts.append(
            "## topics\n\n![topics](topics.png)\n\n" + _markdown_table(["topic", "rows", "words", "example"], rows)
        )
    parts.append("![distributions](report.png)\n")
    return "\n".join(parts)


def _draw_distributions(file: IO[bytes], single: dict[str, Counter[str]]) -> None:
    import matplotlib  # noqa: PLC0415 - slow, and only wanted where a picture is drawn

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415 - as above

    shown = ("category", "tier", "language", "outcome", "turns", "calls")
    figure, axes = plt.subplots(2, 3, figsize=(13, 6.5), layout="constrained")
    for axis, facet in zip(axes.flat, shown, strict=True):
        values = sorted(single.get(facet, Counter()).items())[:20]
        axis.barh([name for name, _ in values], [count for _, count in values], color="#4c72b0")
        axis.invert_yaxis()
        axis.set(title=facet, xlabel="rows")
    figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)


def _draw_topics(file: IO[bytes], topics: Sequence[dict[str, Any]], points: Sequence[Sequence[float]]) -> None:
    import matplotlib  # noqa: PLC0415 - as above

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415 - as above

    colours = plt.get_cmap("tab20")
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(13, max(4.5, 0.28 * len(topics))), layout="constrained", width_ratios=(1.2, 1)
    )
    of_point = [int(topic) for _, _, topic in points]
    left.scatter([p[0] for p in points], [p[1] for p in points], c=[colours(t % 20) for t in of_point], s=8, alpha=0.7)
    left.set(title="rows by their embeddings, first two principal axes", xticks=[], yticks=[])
    # Words that the font cannot draw would come out as boxes; report.md has them all.
    names = [f"{t['topic']}: " + ", ".join(word for word in t["words"][:3] if word.isascii()) for t in topics]
    right.barh(names, [t["rows"] for t in topics], color=[colours(t["topic"] % 20) for t in topics])
    right.invert_yaxis()
    right.set(title="topics", xlabel="rows")
    figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)


def report_stages(work: Work, step: str, options: DiversityReport, earlier: Sequence[str]) -> list[ShardStage]:
    """The work of the step `report`."""
    topics = _topic_stages(work, step, options.encoder, options.topics, earlier) if options.topics is not None else []
    return [
        *topics,
        per_shard(work, step, "counts", _count_shard, options, earlier),
        at_once(work, step, "pages", _write_report, options),
    ]
