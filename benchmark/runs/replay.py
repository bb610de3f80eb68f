"""Run recorded trajectories again, each in a fresh world, and find the first step that does not give what the record says.

The task is made anew from the world, split, seed and number that the record names, and must be the recorded one to the last
parameter and fault. Then every call is made again with the recorded input; the world never sees a recorded output. Compared are
the output, the error and the time of each step, and at the end the outcome, the score and its reason. Of a folder's tools
what is `volatile` is left out; where they are not deterministic, only keys, types, lengths and whether there is an error are
compared. An id that is another one now is used in later calls in the place of the one that was recorded.

Inputs and words that change nothing of that are found by the checksums that `benchmark.agent.episodes.close_episode` puts into
`metadata.replay`.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from benchmark.agent.episodes import CRASHED, LATENCY_SECONDS, crash_to_verdict, record_checksums, task_to_metadata
from benchmark.agent.repeat_guard import RepeatGuard
from benchmark.runs.record import in_processes
from benchmark.runs.results import identity_changes
from benchmark.worlds.asking.world import ASK, give_voice
from benchmark.worlds.kinds import WORLDS, Kind, with_folders
from benchmark.worlds.own.kind import OwnKind
from benchmark.worlds.own.toolsets.toolset import ServersFault
from benchmark.worlds.own.varying import Sameness
from benchmark.worlds.world import Task, ToolResult, World
from core.json_lines import BadLine
from data.contribution.quality import Replay, ReplayDifference
from data.records import INVALID_CALL, Action, Trajectory, scan_trajectories

_RECORDS_TOGETHER = 50


@dataclass(frozen=True)
class CannotReplay:
    """A record that was not made by this version of a world of ours, and why; or a bad line, said whole in `id`."""

    id: str
    reason: str


NO_RECORD = "the line is no record"
_UNKNOWN = "; give its folder: --worlds ./FOLDER"


def replay(record: Trajectory, kinds: Mapping[str, Kind] = WORLDS) -> Replay | CannotReplay:
    """Run one record again, in the worlds of `kinds`."""
    task = record_to_task(record, kinds)
    if isinstance(task, CannotReplay):
        return task
    extra = record.metadata.model_extra or {}
    told, made_with = extra["task"], extra["replay"]
    kind = kinds[task.world]
    try:
        difference = _other_task(record, told, task, kind) or _other_run(record, extra, made_with["sums"], task, kind)
    except ServersFault as fault:
        return CannotReplay(record.id, f"the server's fault: {fault.reason}")
    python = str(made_with.get("python"))
    if difference is not None and python.split(".")[:2] != platform.python_version().split(".")[:2]:
        # What Python prints, such as a traceback, changes from version to version.
        return CannotReplay(record.id, f"made under Python {python!r}, this is {platform.python_version()!r}")
    return Replay(
        id=record.id,
        ok=difference is None,
        steps=len(record.action_sequence),
        first_difference=difference,
        structure_only=_sameness_of(kind).structure_only,
    )


def record_to_task(record: Trajectory, kinds: Mapping[str, Kind] = WORLDS) -> Task | CannotReplay:
    """The task of a record, if the worlds of `kinds` are those in which it was made."""
    extra = record.metadata.model_extra or {}
    told = extra.get("task")
    if not isinstance(told, dict):
        return CannotReplay(record.id, "no task of this benchmark (metadata.task is missing)")
    made_with = extra.get("replay")
    if not isinstance(made_with, dict) or not isinstance(made_with.get("sums"), list):
        return CannotReplay(record.id, "nothing says what was called (metadata.replay is missing)")
    name = record.environment.name
    if name not in kinds:
        return CannotReplay(
            record.id, f"world {name!r} is unknown here{_UNKNOWN * ('identity' in record.environment.details)}"
        )
    kind = kinds[name]
    if record.environment.version != kind.version:
        was = record.environment.version
        return CannotReplay(record.id, f"made by version {was!r} of world {name}, this is {kind.version!r}")
    if changed := identity_changes(record.environment.details.get("identity"), kind.identity):
        return CannotReplay(record.id, f"world {name} has changed since: {changed}")
    places = [kind, *(other for other in kinds.values() if other is not kind)]
    task = next(filter(None, (each.task(str(told.get("id"))) for each in places)), None)
    if task is None:
        return CannotReplay(record.id, "metadata.task.id names no task of this benchmark")
    return task


def _differs(step: int, field: str, recorded: Any, replayed: Any) -> ReplayDifference | None:
    # As JSON, because Python takes 1, 1.0 and true for equal.
    if json.dumps(recorded, sort_keys=True) == json.dumps(replayed, sort_keys=True):
        return None
    return ReplayDifference(step=step, field=field, recorded=recorded, replayed=replayed)


def _other_task(record: Trajectory, told: dict[str, Any], task: Task, kind: Kind) -> ReplayDifference | None:
    """Where the record's task is not the one that its id names; that is a difference before the first step."""
    made = json.loads(json.dumps(task_to_metadata(task)))
    for key in sorted({*made, *told}):
        if difference := _differs(0, f"metadata.task.{key}", told.get(key), made.get(key)):
            return difference
    metadata = record.metadata
    pairs: dict[str, tuple[Any, Any]] = {
        "instruction": (metadata.instruction, task.instruction),
        "system": (metadata.system, task.system),
        "tools": ([tool.model_dump() for tool in metadata.tools], [tool.model_dump() for tool in task.tools]),
        "group": (metadata.group, task.id),
        "language": (metadata.language, task.language),
    }
    for key, (recorded, replayed) in pairs.items():
        if difference := _differs(0, f"metadata.{key}", recorded, replayed):
            return difference
    return (
        _differs(0, "category", record.category, kind.category)
        or _differs(0, "environment.name", record.environment.name, task.world)
        or _differs(0, "tool", record.tool, task.world)
    )


def _other_run(
    record: Trajectory, extra: dict[str, Any], sums: list[Any], task: Task, kind: Kind
) -> ReplayDifference | None:
    """The first step at which the world does not do what the record says."""
    actions, metadata = record.action_sequence, record.metadata
    made_sums = record_checksums(metadata, actions)
    injected: list[list[Any]] = []
    opened: World = kind.open(task)
    crashed = False
    if extra.get("user_model") is not None:  # what a model said as the user cannot be said again; what it did can
        said = iter(
            [str(action.output) for action in actions if action.command == ASK.function.name and action.error is None]
        )
        give_voice(opened, lambda task, talk, question: next(said, ""))
    sameness = _sameness_of(kind)
    with RepeatGuard(opened) if extra.get("repeat_guard") is True else opened as world:
        for step, action in enumerate(actions):
            if action.command != INVALID_CALL:  # text that was no call reached no world
                given = sameness.translated(action.input) if isinstance(action.input, dict) else {}
                try:
                    result = world.call(action.command, given)
                except ServersFault as fault:
                    if fault.reason != "crashed" or action.error != CRASHED:
                        raise
                    result, crashed = ToolResult(error=CRASHED), True
                if result.injected is not None:
                    injected.append([step, result.injected])
                if difference := _other_result(step, action, result, sameness):
                    return difference
                sameness.learn(action.output, result.output)
            if difference := _other_sum(step, sums, made_sums, "input"):
                return difference
        if metadata.answer is not None:
            world.answer(metadata.answer)
        verdict = crash_to_verdict(actions[-1].command) if crashed else world.verdict()
    end = len(actions)
    return (
        _differs(end, "outcome", str(record.outcome), str(verdict.outcome))
        or _differs(end, "metadata.score", extra.get("score"), verdict.score)
        or (None if sameness.structure_only else _differs(end, "metadata.why", extra.get("why"), verdict.why))
        or _differs(end, "metadata.injected", extra.get("injected"), injected)
        or _differs(end, "metadata.asking", extra.get("asking"), verdict.asking)
        or _differs(end, "metadata.injection", extra.get("injection"), verdict.injection)
        or _differs(end, "action_sequence", len(sums) - 1, end)  # steps are missing at the end
        or _other_sum(end, sums, made_sums, "metadata.answer")
    )


def _other_result(step: int, action: Action, result: ToolResult, sameness: Sameness) -> ReplayDifference | None:
    seconds = (action.end_time - action.start_time).total_seconds()
    replayed_s = timedelta(seconds=LATENCY_SECONDS + result.seconds).total_seconds()
    errors: list[str | None] = [action.error, result.error]
    if sameness.structure_only or (result.injected is not None and not sameness.is_exact):
        # an error may quote what differs: how an output began, for one
        errors = [None if error is None else "an error" for error in errors]
    outputs = [sameness.compared(action.command, output) for output in (action.output, result.output)]
    return (
        _differs(step, "error", *errors)
        or _differs(step, "output", *outputs)
        or _differs(step, "end_time - start_time", seconds, replayed_s)
    )


def _sameness_of(kind: Kind) -> Sameness:
    """What a run has to share with the record: of our worlds everything, of a folder what world.yaml says."""
    return kind.sameness() if isinstance(kind, OwnKind) else Sameness()


def _other_sum(step: int, sums: list[Any], made: list[int], field: str) -> ReplayDifference | None:
    """Whether what was said at a step is not what was said when it was recorded; all that is left of that is a checksum."""
    return _differs(step, field, sums[step] if step < len(sums) else None, made[step])


def replay_file(path: Path, *, folders: Sequence[Kind] = (), workers: int = 1) -> Iterator[Replay | CannotReplay]:
    """Run every record of a file again, in its order; a line that is no record cannot be.

    Args:
        folders: kinds of world beside ours.

    Raises:
        UserError: if the file cannot be read.
    """
    lines = scan_trajectories(path)
    parts = iter(lambda: list(islice(lines, _RECORDS_TOGETHER)), [])
    for results in in_processes(partial(_replay_lines, folders), parts, workers):
        yield from results


def _replay_lines(folders: Sequence[Kind], lines: list[Trajectory | BadLine]) -> list[Replay | CannotReplay]:
    kinds = with_folders(folders)
    return [CannotReplay(str(line), NO_RECORD) if isinstance(line, BadLine) else replay(line, kinds) for line in lines]
