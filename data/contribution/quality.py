"""How much a record is worth: 0 to 100 points in five parts. docs/quality.md gives the formula for computing it by hand.

Points are earned by what is stated and never by what is left out. A field that is missing counts as unknown, unknown is
worth nothing, and an unknown output is taken for a repetition. So removing a field from a valid record never raises its
score, and a record that lacks a required field scores 0 (`tests/test_quality.py`).
"""

from __future__ import annotations

import io
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.config import describe_validation_error
from core.errors import UserError
from core.json_lines import BadLine, read_jsonl
from core.screen import with_progress
from data.contribution.validate import Checker, path_to_text
from data.records import Action, Outcome, Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = {"completeness": 30.0, "labels": 20.0, "reproducibility": 15.0, "steps": 20.0, "informativeness": 15.0}
"""The most that each part can give. Without a replay report, reproducibility is left out and the rest is scaled to 100."""


class ReplayDifference(BaseModel):
    """Where a replay first differs from the record."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    step: int = Field(ge=0)
    """Index into `action_sequence`."""
    field: str
    """`output`, `error` or `outcome`."""
    recorded: Any = None
    replayed: Any = None


class Replay(BaseModel):
    """One row of the report that `python -m benchmark replay --out` writes: one record, run again from its beginning."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    id: str
    ok: bool
    """Whether every step gave what the record says."""
    steps: int = Field(ge=0)
    """Actions that the record holds."""
    first_difference: ReplayDifference | None = None
    structure_only: bool = False
    """Whether only keys, types, lengths and errors were compared, because the tools are not deterministic."""

    @property
    def share_reproduced(self) -> float:
        """Share of the steps before the first difference: 1 if all is as recorded."""
        if self.ok:
            return 1.0
        if self.first_difference is None or not self.steps:
            return 0.0
        return min(1.0, self.first_difference.step / self.steps)


def read_replays(path: Path) -> dict[str, Replay]:
    """A replay report by record id.

    Raises:
        UserError: at the first row that is none.
    """
    replays: dict[str, Replay] = {}
    for number, value in read_jsonl(path):
        if isinstance(value, BadLine):
            raise UserError(str(value))
        try:
            replay = Replay.model_validate(value)
        except ValidationError as error:
            raise UserError(f"{path}:{number}: {describe_validation_error(error, Replay)}") from None
        replays[replay.id] = replay
    return replays


def _states_errors(record: Trajectory) -> bool:
    return all("error" in action.model_fields_set for action in record.action_sequence)


def checklist(record: Trajectory) -> dict[str, bool]:
    """What a complete record states, and whether this one does. Each entry is worth 2 points."""
    actions, metadata = record.action_sequence, record.metadata
    extra = metadata.model_extra or {}
    return {
        "time": True,  # the reader asks for it
        "action times": bool(actions),
        "environment": True,
        "environment version": bool(record.environment.version),
        "environment details": bool(record.environment.details),
        "failure cause": record.outcome is Outcome.SUCCESS or bool(extra.get("failure_cause") or extra.get("why")),
        "error texts": bool(actions) and _states_errors(record) and all(action.error != "" for action in actions),
        "instruction": bool(metadata.instruction),
        "tools": bool(metadata.tools),
        "answer": "answer" in metadata.model_fields_set,
        "language": bool(metadata.language),
        "source": bool(metadata.source),
        "licence": bool(metadata.licence),
        "group": bool(metadata.group),
        "reproduction": bool(extra.get("reproduction") or extra.get("task")),
    }


def error_type(error: str) -> str:
    """The kind of an error: its text up to the first colon, in lower case. `not found: a.txt` is `not found`."""
    return error.partition(":")[0].strip().lower()


def label_signature(record: Trajectory) -> bytes | None:
    """What records of one scenario should share: tool, group, outcome and kinds of errors. None where one is unknown."""
    if not record.metadata.group or not record.action_sequence or not _states_errors(record):
        return None
    kinds = sorted({error_type(action.error) for action in record.action_sequence if action.error is not None})
    text = json.dumps([record.tool, record.metadata.group, record.outcome, kinds])
    return blake2b(text.encode(), digest_size=16).digest()


def _outcome_points(record: Trajectory) -> float:
    """0 to 15: does the outcome go with the final action?"""
    actions, metadata = record.action_sequence, record.metadata
    if not actions:
        return 0.0
    if record.outcome is Outcome.SUCCESS:
        last = actions[-1]
        if "error" in last.model_fields_set and last.error is None:
            return 15.0
        return 7.5 if last.error is not None and metadata.answer else 0.0
    extra = metadata.model_extra or {}
    is_explained = any(action.error for action in actions) or extra.get("failure_cause") or extra.get("why")
    return 15.0 if is_explained else 0.0


def _may_be_same(first: Action, second: Action) -> bool:
    """Whether two calls with the same input may be verbatim repetitions; what is not stated may be anything."""
    return all(
        name not in first.model_fields_set
        or name not in second.model_fields_set
        or json.dumps(getattr(first, name)) == json.dumps(getattr(second, name))
        for name in ("output", "error")
    )


LOOK_BACK = 50
"""Earlier calls with the same input that are compared; a loop shows in far fewer."""


def sane_steps(record: Trajectory) -> list[bool]:
    """For each action: is its result stated, is an error followed by something, and is it no step of a loop?

    A step of a loop repeats the action before it, or two earlier actions, in command, input, output and error.
    """
    actions = record.action_sequence
    earlier: dict[str, list[Action]] = defaultdict(list)
    sane: list[bool] = []
    for index, action in enumerate(actions):
        call = json.dumps([action.command, action.input], sort_keys=True)
        same = [other for other in earlier[call][-LOOK_BACK:] if _may_be_same(other, action)]
        is_loop = len(same) >= 2 or (bool(same) and same[-1] is actions[index - 1])
        is_stated = {"output", "error"} <= action.model_fields_set
        is_followed = action.error is None or index + 1 < len(actions) or bool(record.metadata.answer)
        sane.append(is_stated and is_followed and not is_loop)
        earlier[call].append(action)
    return sane


def _says_something(action: Action) -> bool:
    return bool(action.error) or action.output not in (None, "", [], {})


def _informativeness_points(record: Trajectory) -> float:
    actions, metadata = record.action_sequence, record.metadata
    if not actions:
        return 0.0
    calls = {json.dumps([action.command, action.input], sort_keys=True) for action in actions}
    results = sum(_says_something(action) for action in actions) / len(actions)
    words = sum(bool(action.text or action.reasoning) for action in actions) / len(actions)
    return 5 * min(len(calls), 3) / 3 + 4 * results + 3 * words + 3 * bool(metadata.answer)


@dataclass(frozen=True)
class Quality:
    """The score of a record, its parts in points, and what the checklist misses."""

    score: float
    parts: dict[str, float]
    missing: list[str]


def score_record(record: Trajectory, *, is_confirmed: bool = False, reproduced: float | None = None) -> Quality:
    """The score of one record.

    Args:
        is_confirmed: whether another record has the same `label_signature`.
        reproduced: share of the steps that a replay reproduced; None when nothing was replayed at all.
    """
    stated = checklist(record)
    sane = sane_steps(record)
    parts = {
        "completeness": 2.0 * sum(stated.values()),
        "labels": _outcome_points(record) + 5.0 * (is_confirmed and label_signature(record) is not None),
        "steps": POINTS["steps"] * sum(sane) / len(sane) if sane else 0.0,
        "informativeness": _informativeness_points(record),
    }
    if reproduced is not None:
        parts["reproducibility"] = POINTS["reproducibility"] * reproduced
    score = 100 * sum(parts.values()) / sum(POINTS[name] for name in parts)
    missing = [name for name, is_stated in stated.items() if not is_stated]
    return Quality(round(score, 1), {name: round(parts[name], 2) for name in POINTS if name in parts}, missing)


def _score_lines(files: list[Path], replays: dict[str, Replay] | None) -> Iterator[dict[str, Any]]:
    """A row for each line of the files. Whether labels agree is known at the end, so records wait on disk until then."""
    confirmations: Counter[bytes] = Counter()
    with tempfile.TemporaryFile() as waiting:
        checker = Checker()
        try:
            for path in files:
                for line in with_progress(checker.check_file(path), f"reading {path_to_text(path)}"):
                    first = next((problem for problem in line.problems if problem.code.startswith("E")), None)
                    if line.record is not None and first is None:
                        confirmations[label_signature(line.record) or b""] += 1
                    elif first is None:
                        continue  # a blank line
                    fault = None if first is None else f"{first.code} {first.message}"
                    kept = {"path": line.path, "line": line.line, "fault": fault}
                    waiting.write(json.dumps(kept).encode() + b"\n" + line.raw.rstrip(b"\r") + b"\n")
        finally:
            checker.close()
        waiting.seek(0)
        for head in waiting:
            raw = waiting.readline()
            kept = json.loads(head)
            place = {"path": kept["path"], "line": kept["line"]}
            if kept["fault"] is not None:
                yield {"id": None, **place, "category": None, "score": 0.0, "parts": None, "fault": kept["fault"]}
                continue
            record = Trajectory.model_validate(json.loads(raw))
            signature = label_signature(record)
            reproduced = None
            if replays is not None:
                reproduced = replays[record.id].share_reproduced if record.id in replays else 0.0
            quality = score_record(
                record, is_confirmed=signature is not None and confirmations[signature] > 1, reproduced=reproduced
            )
            yield {
                "id": record.id,
                **place,
                "category": record.category,
                "score": quality.score,
                "parts": quality.parts,
                "missing": quality.missing,
            }


def quantile(scores: Counter[float], share: float) -> float:
    """The nearest-rank quantile of counted scores."""
    rank, seen = max(1, round(share * scores.total())), 0
    for score, count in sorted(scores.items()):
        seen += count
        if seen >= rank:
            return score
    raise ValueError("no scores")


def mean(scores: Counter[float]) -> float:
    return sum(score * count for score, count in scores.items()) / scores.total()


BIN_POINTS = 5


def scores_to_figure(scores: dict[str, Counter[float]]) -> Figure:
    """A histogram for each category, one above the other on one axis."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import; only pictures need it

    figure = Figure(figsize=(7, 1.0 + 1.5 * len(scores)), layout="constrained")
    axes = figure.subplots(len(scores), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, counted) in zip(axes, scores.items(), strict=True):
        bins: Counter[int] = Counter()
        for score, count in counted.items():
            bins[min(int(score // BIN_POINTS), 100 // BIN_POINTS - 1)] += count
        lefts = sorted(bins)
        axis.bar([left * BIN_POINTS for left in lefts], [bins[left] for left in lefts], BIN_POINTS * 0.92, align="edge")
        median = quantile(counted, 0.5)
        axis.axvline(median, color="black", linewidth=1, linestyle="--")
        axis.set_title(f"{name}: {counted.total():,}, median {median:g}", loc="left", fontsize=10)
        axis.set_ylabel("records", fontsize=8)
        axis.yaxis.get_major_locator().set_params(integer=True)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlim(0, 100)
    axes[-1].set_xlabel("quality score")
    return figure


def check_picture_name(path: Path) -> None:
    """The suffix of a picture says which kind it is.

    Raises:
        UserError: if there is no such kind.
    """
    kinds = (".png", ".svg", ".pdf")
    if path.suffix.lower() not in kinds:
        raise UserError(f"{path}: a picture ends in {', '.join(kinds)}")


def figure_to_bytes(figure: Figure, path: Path) -> bytes:
    """A picture as the file `path` holds it, of the kind that its suffix says."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=150, format=path.suffix.lower().removeprefix("."))
    return picture.getvalue()
