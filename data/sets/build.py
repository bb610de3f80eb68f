"""Weighted sources -> one prepared set: train.jsonl, validation.jsonl and manifest.json in a folder.

`build` writes it, `read_prepared` reads it back and checks it, `rows_to_dataset` is the one place that builds Arrow.

Every row that was read is kept or dropped for a reason, and both are counted in the manifest:

* an adapter's Skip, and "no turn to train on" for a chat in which no assistant turn has a weight above 0;
* a chat that is labelled bad, unless the set is of labelled chats (`labelled: true`); in such a set, one without a label;
* `max_rows: N` stops reading a source once N of its rows are kept, from the top;
* `weight: 0.5` then keeps half of those rows, chosen by a hash and not by their place; `weight: 2.0` takes each twice,
  `weight: 1.5` takes every row once and half of them twice. Copies go into train only; validation holds each row once.

The split is by group (`Chat.group`; a row without one is a group of its own): a hash of seed and group decides, so a
group keeps its side when other sources come or go. With two groups or more, neither side is empty.

The same config and the same files give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from itertools import chain, compress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from core.errors import UserError
from core.files import ResultFiles, claimed_folder, file_sha256, partial_path, whole_result
from core.screen import with_progress
from data import wire
from data.chats import Chat, PreferencePair, Result, Skip
from data.formats.adapter import Adapter
from data.formats.inferred_tools import read_tools
from data.formats.inputs import Input, find_input
from data.formats.ratings import read_ratings
from data.formats.reading import not_commercial, read_adapted, why_not_commercial
from data.formats.recognise import AUTO, RecognisedPart, find_parts
from data.formats.row_keys import KeyCounts, KeyRules, key_rules
from data.records import SCHEMA_VERSION, Outcome, OutcomeName
from data.release.manifest import find_release
from data.sets.convert import Licence, Shape, names_of
from data.sets.labelled import BAD_IS_NOT_IMITATED, to_labelled
from data.sets.windows import SPLIT_LONG_TOKENS

if TYPE_CHECKING:
    pass

Example = Chat | PreferencePair
Kind = Literal["chat", "pair", "labelled chat"]
ROW_MODEL: dict[str, type[Example]] = {"chat": Chat, "pair": PreferencePair, "labelled chat": Chat}

NOTHING_TO_TRAIN = Skip("no turn to train on")
JUDGED = frozenset({Outcome.SUCCESS, Outcome.FAILURE})
"""Outcomes that label a trajectory where nobody names them; a partial one is neither good nor bad."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class LabelsConfig(BaseModel):
    """`labels` of a source: as `--labels`, `--on`, `--good` and `--bad` of `convert`."""

    model_config = ConfigDict(extra="forbid")

    path: str
    on: str
    good: str
    bad: str | None = None


class SourceConfig(BaseModel):
    """One entry of `sources`."""

    model_config = ConfigDict(extra="forbid")

    adapter: str = AUTO
    """A name that `python -m data adapters` lists, `auto`, or a mapping (FILE.yaml); never a function, as that is code."""
    path: Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
    """A file, a folder, a pattern such as `runs/*/train.jsonl`, the id of a dataset on the hub, or a list of them; files are
    relative to the working directory."""
    revision: str | None = None
    """Branch, tag or commit of a dataset on the hub."""
    subset: str | None = None
    """Subset (config) of a dataset on the hub."""
    split: str | None = None
    """Split of a dataset on the hub; null means train."""
    weight: float = Field(default=1.0, gt=0, strict=True, allow_inf_nan=False)
    max_rows: Annotated[int, Field(gt=0, strict=True)] | None = None
    outcomes: Annotated[list[OutcomeName], Field(min_length=1)] | None = None
    """Which trajectories are taken; null means successful ones, and in a set of labelled chats failed ones as bad chats, too.
    Only for adapters whose rows are trajectories."""
    ignore: list[str] = Field(default_factory=list)
    """Keys that may say that an answer is bad and are read past."""
    good_from: dict[str, float] = Field(default_factory=dict)
    """The least number that is good, by key that may say that an answer is bad."""
    redact: Annotated[bool, Field(strict=True)] = True
    """Whether secrets in logs of agents become placeholders as they are read."""
    tools: str | None = None
    """A JSON file with definitions of the tools, for logs that hold none."""
    labels: LabelsConfig | None = None
    """Ratings of the answers that stand in another file."""


class BuildConfig(BaseModel):
    """The YAML of `python -m data build`."""

    model_config = ConfigDict(extra="forbid")

    out: str | None = None
    """Folder of the prepared set; `--out` goes before it."""
    seed: int = Field(default=7, strict=True)
    validation_share: float = Field(default=0.1, ge=0, lt=1, strict=True)
    """Share of the groups that are kept apart for validation."""
    licence: Licence | None = None
    """`commercial` refuses sources, and leaves out rows, that may not be used for a commercial model."""
    labelled: Annotated[bool, Field(strict=True, exclude_if=lambda labelled: not labelled)] = False
    """A set of good and bad chats for KTO (data/sets/labelled.py), from chats with labels, pairs and trajectories alike."""
    split_long: Annotated[bool | Annotated[int, Field(gt=0)], Field(exclude_if=lambda split: not split)] = False
    """Cut chats that are longer than so many tokens (true: 8192) into windows that repeat system, tools and task."""
    tokenizer: Annotated[str | None, Field(exclude_if=lambda model: model is None)] = None
    """The model folder whose tokens are counted for that; null estimates them by bytes."""
    sources: list[SourceConfig] = Field(min_length=1)


def _inputs_of(source: SourceConfig) -> list[Input]:
    inputs = [
        find_input(path, revision=source.revision, subset=source.subset, split=source.split) for path in source.path
    ]
    named = Counter(name for item in inputs for name in (item.files or [item.name]))
    twice = [name for name, times in named.items() if times > 1]
    if twice:
        raise UserError(f"{twice[0]} is named twice; `weight: 2.0` takes rows twice")
    return inputs


@dataclass(frozen=True)
class _Source:
    """A source whose names are all resolved."""

    asked: SourceConfig
    parts: list[RecognisedPart]
    inputs: list[Input]
    licence: Licence | None
    rules: KeyRules
    shape: Shape
    labelled: bool


def _resolve(config: BuildConfig, name: str) -> tuple[Kind, list[_Source]]:
    """Look every name up before any row is read."""
    sources: list[_Source] = []
    for index, asked in enumerate(config.sources):
        try:
            inputs = _inputs_of(asked)
            parts = [part for item in inputs for part in find_parts(asked.adapter, item, may_import=False)]
            labels = asked.labels
            ratings = read_ratings(labels.path, on=labels.on, good=labels.good, bad=labels.bad) if labels else None
            rules = key_rules(asked.ignore, asked.good_from, redact=asked.redact, ratings=ratings)
            rules = replace(rules, commercial=config.licence == "commercial", labelled=config.labelled)
            tools = read_tools(Path(asked.tools)) if asked.tools else ()
            split = SPLIT_LONG_TOKENS if config.split_long is True else config.split_long or None
            shape = Shape(tools, split, config.tokenizer)
            for part in parts:
                if asked.outcomes is not None and part.adapter.kind != "trajectory":
                    raise UserError("outcomes: only adapters whose rows are trajectories know outcomes")
                if config.licence == "commercial" and (refused := why_not_commercial(part.adapter)):
                    raise UserError(f"`licence: commercial` refuses {refused}")
        except UserError as error:
            raise UserError(f"{name}: sources.{index}: {error}") from None
        sources.append(_Source(asked, parts, inputs, config.licence, rules, shape, config.labelled))
    if config.labelled:
        return "labelled chat", sources
    kinds: dict[Kind, str] = {
        "pair" if part.adapter.kind == "pair" else "chat": part.adapter.name for s in sources for part in s.parts
    }
    if len(kinds) > 1:
        raise UserError(
            f"{name}: sources are of two kinds: {kinds['chat']!r} gives chats, {kinds['pair']!r} gives pairs. "
            "Build one set for SFT and one for DPO or ORPO, or a set of labelled chats for KTO (`labelled: true`)."
        )
    return next(iter(kinds)), sources


def _with_outcomes(adapter: Adapter, asked: SourceConfig, *, labelled: bool) -> Adapter:
    function: Callable[..., Any] = adapter.function  # those of trajectories take outcomes, and label by them
    if adapter.kind == "trajectory" and labelled:
        function = partial(function, outcomes=JUDGED, labelled=True)
    if asked.outcomes is not None:
        function = partial(function, outcomes=frozenset(asked.outcomes))
    return replace(adapter, function=function)


def _results(source: _Source, counts: KeyCounts) -> Iterator[Result]:
    adapted = chain.from_iterable(
        read_adapted(
            _with_outcomes(part.adapter, source.asked, labelled=source.labelled),
            part.source,
            rules=source.rules,
            counts=counts,
        )
        for part in source.parts
    )
    results = chain.from_iterable(source.shape.results(result, counts) for _, result in adapted)
    for result in chain.from_iterable(map(to_labelled, results)) if source.labelled else results:
        if isinstance(result, Skip):
            yield result
        elif source.licence is not None and (refused := not_commercial(result)) is not None:
            yield refused
        elif isinstance(result, Chat) and not any(message.loss_weight > 0 for message in result.messages):
            yield NOTHING_TO_TRAIN
        elif isinstance(result, Chat) and result.label == "bad" and not source.labelled:
            yield BAD_IS_NOT_IMITATED
        else:
            yield result


def _hash_fraction(*parts: object) -> float:
    """A number from 0 to 1 that depends on the parts alone, in every process and on every machine."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _copies(weight: float, order: Sequence[float]) -> list[int]:
    """How often each row is taken: together weight times the rows, rounded to the nearest number, halves up. Rows with the
    lowest hash are first to be taken once more than others.

    It counts in decimals, as the YAML does: of five rows 2.3 is 11.5, hence 12, and floats put it below the half.
    """
    if not order:
        return []
    taken = int((Decimal(str(weight)) * len(order)).to_integral_value(ROUND_HALF_UP))
    whole, extra = divmod(taken, len(order))
    copies = [whole] * len(order)
    for index in sorted(range(len(order)), key=order.__getitem__)[:extra]:
        copies[index] += 1
    return copies


def _validation_groups(groups: set[str], *, seed: int, share: float) -> set[str]:
    if share == 0 or len(groups) < 2:
        return set()
    place = {group: _hash_fraction(seed, "group", group) for group in groups}
    chosen = {group for group, fraction in place.items() if fraction < share}
    if not chosen:
        chosen = {min(place, key=place.__getitem__)}
    if len(chosen) == len(groups):
        chosen.remove(max(place, key=place.__getitem__))
    return chosen


def build(config: BuildConfig, *, out: str | Path | None = None, name: str = "config") -> dict[str, Any]:
    """Write the prepared set of `config` into a folder and return its manifest.

    Rows stream through a file beside the result, so memory holds a few numbers a row. manifest.json is written last: a
    folder without one is not whole.

    Args:
        out: the folder; null takes the one of the config.
        name: what the config is called in error messages, its path for instance.

    Raises:
        UserError: for a wrong name, a bad line (with file:line), or when no row is left.
    """
    target = out or config.out
    if target is None:
        raise UserError(f"{name}: field 'out' is missing, and no --out was given")
    kind, resolved = _resolve(config, name)
    folder = Path(target)
    with claimed_folder(folder), whole_result(folder / "train.jsonl") as result:
        return _build(config, kind, resolved, result, folder, name)


def _build(
    config: BuildConfig, kind: str, resolved: Sequence[_Source], result: ResultFiles, folder: Path, name: str
) -> dict[str, Any]:
    staged = partial_path(folder / "train.jsonl")
    sources: list[wire.Source] = []
    groups: list[str] = []  # of each staged row
    labels: list[str | None] = []
    copies: list[int] = []
    try:
        with open(staged, "wb") as file:
            for index, source in enumerate(resolved):
                counts = _stage(source, groups, labels, copies, file.write, seed=config.seed, index=index)
                sources.append(counts)
        if not any(copies):
            raise UserError(f"{name}: {_why_empty(sources)}")
        kept_groups = {group for group, times in zip(groups, copies, strict=True) if times}
        held_out = _validation_groups(kept_groups, seed=config.seed, share=config.validation_share)
        rows: Counter[str] = Counter()
        labelled: dict[str, Counter[str]] = {"train": Counter(), "validation": Counter()}
        copied = 0
        splits = {split: result.open(folder / f"{split}.jsonl") for split in ("train", "validation")}
        hashes = {split: hashlib.sha256() for split in splits}

        def write(split: str, text: bytes) -> None:
            splits[split].write(text)
            hashes[split].update(text)

        with open(staged, "rb") as lines:
            for line, group, label, times in zip(lines, groups, labels, copies, strict=True):
                split, taken = ("validation", min(times, 1)) if group in held_out else ("train", times)
                write(split, line * taken)
                rows[split] += taken
                copied += max(taken - 1, 0)
                if label is not None and config.labelled and taken:
                    labelled[split][label] += taken
    finally:
        staged.unlink(missing_ok=True)

    manifest = wire.PreparedSet(
        kind=kind,
        schema_version=SCHEMA_VERSION,
        seed=config.seed,
        sources=sources,
        splits={
            split: wire.Split(
                rows=rows[split],
                copies=copies_in_split,
                groups=len(of_split),
                labels=dict(sorted(labelled[split].items())),
                sha256=hashes[split].hexdigest(),
            )
            for split, of_split, copies_in_split in (
                ("train", kept_groups - held_out, copied),
                ("validation", held_out, 0),
            )
        },
        config={**config.model_dump(mode="json"), "out": str(folder)},
    ).model_dump(mode="json")
    result.write(folder / "manifest.json", json.dumps(manifest, ensure_ascii=False, indent=2) + "\n")
    return manifest


def _stage(
    source: _Source,
    groups: list[str],
    labels: list[str | None],
    copies: list[int],
    write: Callable[[bytes], object],
    *,
    seed: int,
    index: int,
) -> wire.Source:
    """Read one source, write its rows one a line, note each row's group, label and copies, and return the source's counts."""
    read = 0
    stopped = False
    dropped: Counter[str] = Counter()
    licences: set[str] = set()
    named: list[str] = []  # the source that each row itself names, such as a contributor
    order: list[float] = []
    keys = KeyCounts()
    for result in with_progress(_results(source, keys), f"reading {names_of(source.parts)} {source.asked.path[0]}"):
        read += 1
        if isinstance(result, Skip):
            dropped[result.reason] += 1
            continue
        write(result.model_dump_json().encode() + b"\n")
        groups.append(result.group or f"{result.source}:{result.id}")
        labels.append(result.label if isinstance(result, Chat) else None)
        licences.add(result.licence or "not stated")
        named.append(result.source)
        order.append(_hash_fraction(seed, "row", index, result.id, len(order)))
        if len(order) == source.asked.max_rows:
            stopped = True
            break
    taken = _copies(source.asked.weight, order)
    copies += taken
    if left_out := taken.count(0):
        dropped[f"left out by weight {source.asked.weight:g}"] = left_out
    return wire.Source(
        adapter=names_of(source.parts),
        files=[
            wire.File(path=str(path), sha256=(sha256 := file_sha256(path)), release=find_release(path, sha256))
            for item in source.inputs
            for path in item.files
        ],
        hub=[
            {"id": item.hub_id, "revision": item.revision, "subset": item.subset, "split": item.split}
            for item in source.inputs
            if item.hub_id is not None
        ],
        licences=sorted(licences),
        read=read,
        kept=len(taken) - left_out,
        kept_by_source=dict(sorted(Counter(compress(named, taken)).items())),
        dropped=dict(sorted(dropped.items())),
        not_read=dict(keys.unread.most_common()),
        not_judged=dict(keys.not_judged.most_common()),
        redacted=dict(keys.redacted.most_common()),
        too_long=keys.too_long,
        stopped_at_max_rows=stopped,
    )


def _why_empty(sources: list[wire.Source]) -> str:
    reasons: Counter[str] = Counter()
    for source in sources:
        reasons.update(source.dropped)
    if not reasons:
        return "the sources hold no row at all"
    listed = "\n".join(f"  {count} x {reason}" for reason, count in reasons.most_common())
    return f"no row is left of {sum(source.read for source in sources)}, for these reasons:\n{listed}"
