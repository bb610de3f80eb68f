"""The folder of a finished run, read back: its numbers, its tries one by one, and what its model was trained from and on.

`python -m benchmark run` leaves `kpis.json` and `trajectories.jsonl`. Training leaves `run.json` in the folder of each model;
following these from a model to what it was trained from gives its stages, which `run` keeps in `kpis.json`. So the
pages and `compare` need the models no more.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.kpis import task_of, worked
from core.errors import UserError, nearest
from core.files import file_sha256
from data.records import Outcome, Trajectory, read_trajectories
from data.wire import BenchmarkRun, PreparedSet, Source, Split, TrainingStage, read_benchmark_run

RECORDS = "trajectories.jsonl"
KIND = {Outcome.SUCCESS: "good", Outcome.FAILURE: "bad", Outcome.PARTIAL: "middling"}


class Tried(NamedTuple):
    """One record of a run, as far as tables need it."""

    id: str
    line: int
    """In `trajectories.jsonl`, from 1."""
    task: str
    content: str
    """Hash of the instruction: tasks with one id and two contents were made by two versions of a world."""
    instruction: str
    world: str
    tier: str
    language: str
    context_tokens: int
    outcome: Outcome
    score: str
    calls: int
    errors: int
    faults: int

    @property
    def solved(self) -> bool:
        """Whether all goals hold."""
        return self.outcome is Outcome.SUCCESS

    @property
    def kind(self) -> str:
        """Class that colours the outcome on a page."""
        return KIND[self.outcome]


def read_run(folder: Path) -> BenchmarkRun:
    """What `kpis.json` of a run folder says.

    Raises:
        UserError: if it is missing, is no JSON, lacks a field, or `trajectories.jsonl` is not the file that it was made of.
    """
    path = folder / "kpis.json"
    if not path.is_file():
        beside = [each for each in folder.parent.glob("*") if (each / "kpis.json").is_file()]
        raise UserError(
            f"{path}: cannot be read: no such file. Is {folder} the folder of a finished run?"
            f"{nearest(str(folder), map(str, beside))}"
        )
    run = read_benchmark_run(path)
    records = folder / RECORDS
    if run.trajectories_sha256 is not None and records.is_file() and file_sha256(records) != run.trajectories_sha256:
        raise UserError(
            f"{records}: changed since kpis.json was written (other sha256), so its numbers are of other records"
        )
    return run


def read_tries(folder: Path) -> list[Tried]:
    """The records of a run folder, by task and then as in the file.

    Raises:
        UserError: at the first bad line.
    """
    records = enumerate(read_trajectories(folder / RECORDS), start=1)
    return sorted((record_to_try(record, line) for line, record in records), key=lambda each: (each.task, each.line))


def record_to_try(record: Trajectory, line: int) -> Tried:
    """A record in short."""
    task, extra = task_of(record), record.metadata.model_extra or {}
    instruction, size = record.metadata.instruction or "", task.get("context_tokens")
    injected = extra.get("injected")
    return Tried(
        id=record.id,
        line=line,
        task=str(task.get("id", record.id)),
        content=hashlib.sha256(instruction.encode()).hexdigest()[:16],
        instruction=instruction[:200],
        world=str(task.get("world", record.category.value)),
        tier=str(task.get("tier", "")),
        language=language_of(record),
        context_tokens=size if type(size) is int else 0,
        outcome=record.outcome,
        score=str(extra.get("score", "")),
        calls=len(record.action_sequence),
        errors=sum(not worked(action) for action in record.action_sequence),
        faults=len(injected) if isinstance(injected, list) else 0,
    )


def language_of(record: Trajectory) -> str:
    """The record's language as a tag that an attribute may hold, such as `ko`; empty where it states none."""
    language = record.metadata.language or ""
    return language if re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", language) else ""


# ---- what two runs differ in ----


def identity_changes(before: object, after: Mapping[str, object]) -> str:
    """Which parts of a world have other hashes than before, such as `tools, tasks`; empty where none has."""
    old = before if isinstance(before, dict) else {}
    return ", ".join(name for name in dict.fromkeys([*old, *after]) if old.get(name) != after.get(name))


@dataclass(frozen=True)
class RunDifference:
    """One thing in which two runs differ; None where one of them has no such thing."""

    about: str
    """"data", "training", "model" or "benchmark"."""
    what: str
    before: str | None
    after: str | None


NO_MATTER = frozenset({
    "output_dir", "data", "resume", "run_name", "logging_dir", "model_name_or_path", "allow_mismatch", "audit_allow", "dry_run",
    "report_to", "disable_tqdm", "log_level", "logging_steps", "save_steps", "save_total_limit", "config", "project",
})  # fmt: skip
"""Options that name places or what is written down; what they name is compared by its content."""


def differences(before: BenchmarkRun, after: BenchmarkRun) -> list[RunDifference]:
    """What decides the results of two runs and is not the same: data first, then how it was trained, then how it was run.

    Stages that both models share (with the same weights at their end) are left out.
    """
    old, new = list(before.stages), list(after.stages)
    while old and new and old[0].sha256 == new[0].sha256 and old[0].sha256 is not None:
        del old[0], new[0]
    found: list[RunDifference] = []
    while old or new:
        # Stages go in pairs as long as they are of the same method; the others stand alone.
        pair = bool(old and new) and old[0].method == new[0].method
        was = old.pop(0) if old and (pair or len(old) >= len(new)) else None
        now = new.pop(0) if new and (pair or was is None) else None
        found += _stage_differences(was, now)
    if before.weights_sha256 != after.weights_sha256 or (before.weights_sha256 is None and before.model != after.model):
        found.append(RunDifference("model", "model", before.model, after.model))
    for what in ("split", "count", "seed", "worlds"):
        found += _changed("benchmark", what, getattr(before, what), getattr(after, what))
    found += _changed_keys("benchmark", "", before.options, after.options)
    found += _changed_keys("benchmark", "version of ", before.versions, after.versions)
    order = ("data", "training", "model", "benchmark")
    return sorted(found, key=lambda difference: order.index(difference.about))


def _stage_differences(before: TrainingStage | None, after: TrainingStage | None) -> Iterator[RunDifference]:
    stage = after or before
    assert stage is not None
    name = stage.method
    old, new = (side.data if side else PreparedSet() for side in (before, after))
    if before is None or after is None:
        yield RunDifference(
            "training", "stage", *(f"{side.method} in {side.folder}" if side else None for side in (before, after))
        )
    else:
        yield from _changed(
            "training", f"{name}: started from", before.started_from, after.started_from,
            same=before.started_sha256 == after.started_sha256,
        )  # fmt: skip
    yield from _source_differences(name, old.sources, new.sources)
    rows_before, rows_after = _by_source(old), _by_source(new)
    if len(rows_before.keys() | rows_after.keys()) > 1:  # of one alone, the sources tell it already
        yield from _changed_keys("data", f"{name}: rows from ", rows_before, rows_after)
    yield from _changed_keys("data", f"{name}: release ", _by_release(old), _by_release(new))
    for split in ("train", "validation"):
        was, now = old.splits.get(split), new.splits.get(split)
        yield from _changed("data", f"{name}: {split} rows", _describe_split(was), _describe_split(now))
    if before is not None and after is not None:
        settings: list[Mapping[str, Any]] = [
            {key: value for key, value in side.config.items() if key not in ("out", "sources")} for side in (old, new)
        ]
        yield from _changed_keys("data", f"{name}: ", *settings)
        options = [
            {key: value for key, value in side.options.items() if key not in NO_MATTER} for side in (before, after)
        ]
        yield from _changed_keys("training", f"{name}: ", *options)


def _source_differences(stage: str, before: Sequence[Source], after: Sequence[Source]) -> Iterator[RunDifference]:
    """Sources that only one of two sets has, or that have other contents, or gave another number of rows."""
    left = list(after)
    for was in before:
        # The same contents, or else the same name with other contents.
        now = next((each for each in left if was.files and each.sha256s == was.sha256s), None)
        now = now or next((each for each in left if each.name == was.name), None)
        if now is not None:
            left.remove(now)
        same = now is not None and (now.sha256s, now.kept, now.hub) == (was.sha256s, was.kept, was.hub)
        yield from _changed("data", f"{stage}: {was.name}", _describe_source(was), _describe_source(now), same=same)
    for now in left:
        yield RunDifference("data", f"{stage}: {now.name}", None, _describe_source(now))


def _describe_source(source: Source | None) -> str | None:
    if source is None:
        return None
    hashes = "".join(f", sha256 {sha256[:12]}" for sha256 in source.sha256s[:3])
    more = f" and {len(source.files) - 3} more" if len(source.files) > 3 else ""
    hub = "".join(f", {each.get('id')}@{each.get('revision')}" for each in source.hub)
    return f"{source.kept} rows{hashes}{more}{hub}"


def _describe_split(split: Split | None) -> str | None:
    return None if split is None else f"{split.rows} rows, sha256 {split.sha256[:12]}"


def _by_source(data: PreparedSet) -> dict[str, int]:
    rows: Counter[str] = Counter()
    for source in data.sources:
        rows.update(source.kept_by_source)
    return dict(rows)


def _by_release(data: PreparedSet) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for file in (file for source in data.sources for file in source.files if file.release):
        release = file.release or {}
        text = f"{release.get('version')} (sha256 {str(release.get('release_sha256'))[:12]})"
        found.setdefault(str(release.get("name")), set()).add(text)
    return {name: ", ".join(sorted(versions)) for name, versions in found.items()}


def _changed_keys(about: str, prefix: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[RunDifference]:
    names = dict.fromkeys([*before, *after])
    return [change for name in names for change in _changed(about, prefix + name, before.get(name), after.get(name))]


def _changed(about: str, what: str, before: Any, after: Any, *, same: bool | None = None) -> list[RunDifference]:
    if same if same is not None else before == after:
        return []
    return [RunDifference(about, what, _as_text(before), _as_text(after))]


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
