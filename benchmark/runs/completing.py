"""`python -m benchmark complete`: the expert goes on from where a model went wrong, to the end.

What it leaves are records: the model's own actions up to there, which weigh nothing, then the expert's. Those that end in
success are the chosen sides of pairs (`python -m data pairs --kinds`), or are imitated (DAgger with expert completion).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from benchmark.agent.episodes import Beginning, InvalidTry, Try, actions_to_turns, open_episode, run_tasks, take_turn
from benchmark.agent.policies import Expert
from benchmark.runs.options import OURS, Chosen, Trust, Worlds, check_no_folder, choose_worlds
from benchmark.runs.record import MAX_TURNS
from benchmark.runs.replay import CannotReplay, record_to_task
from benchmark.worlds.asking.world import ASK
from benchmark.worlds.injection import instruction_of
from benchmark.worlds.world import Task
from core.errors import UserError, nearest
from core.files import whole_result
from core.screen import count_rows, print_table, save_counts, with_progress, write_lines
from data.chats import Message
from data.records import Outcome, Trajectory, read_trajectories
from data.sets.pair_kinds import is_own_try, stuck_steps
from data.trajectories import group_turns

STATES = ("stuck", "injection", "stop", "drawn")
"""Where the expert can go on: at these mistakes, or anywhere in a try that failed."""
LABEL = "expert"


class State(NamedTuple):
    """A place in a record, before the turn that starts at an action, and what is wrong with that turn."""

    kind: str
    step: int


def complete_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Trajectory files of models' tries.")],
    out: Annotated[Path, typer.Option(help="Where the completed records go, JSON Lines.")],
    at: Annotated[
        str,
        typer.Option(
            help=f"Where the expert goes on, with commas between: {', '.join(STATES)} (one place in each failure)."
        ),
    ] = "stuck,stop,injection",
    seed: Annotated[int, typer.Option(min=0, help="Of the places that are drawn.")] = 0,
    worlds: Worlds = "",
    trust: Trust = False,
) -> None:
    """Let the expert go on from where models went wrong, to the end.

    stuck: where a failed call is made again. stop: where an answer is given while goals are open, where none is given though
    all goals hold, and where the user is asked or not asked against the expert. injection: where an instruction in a tool's
    result is obeyed. drawn: at one turn of each failed try, for imitation: the model's part weighs 0.

    Example: python -m benchmark complete runs/practice/sft/trajectories.jsonl --out runs/completed.jsonl
    """
    check_no_folder(out)
    kinds = [word.strip() for word in at.split(",") if word.strip()]
    for kind in kinds:
        if kind not in STATES:
            raise UserError(f"--at {kind}: expected {', '.join(STATES)}.{nearest(kind, STATES)}")
    if any(out.resolve() == file.resolve() for file in files):
        raise UserError(f"--out {out}: the completed records would overwrite the tries")
    chosen = choose_worlds(worlds, trust=trust)
    dropped, read, ended = Counter[str](), 0, Counter[str]()

    def lines() -> Iterator[str]:
        nonlocal read
        for file in files:
            for record in with_progress(read_trajectories(file), f"completing {file}"):
                for result in complete(record, kinds, chosen, seed=seed):
                    read += 1
                    if isinstance(result, str):
                        dropped[result] += 1
                    else:
                        begins = (result.metadata.model_extra or {})["begins"]
                        ended[f"{begins['kind']}: {result.outcome}"] += 1
                        yield result.to_json()

    with whole_result(out) as result:
        kept = write_lines(result, out, lines())
        counts = {"inputs": [str(file) for file in files], "read": read, "kept": kept, "dropped": dict(dropped)}
        saved = save_counts(result, out, {**counts, "outcomes": dict(sorted(ended.items()))})
    print_table(("source", "states", "count"), count_rows("states of tries", counts))
    print_table(("state and outcome", "records"), sorted(ended.items()))
    print(f"wrote {out} and {saved}")


def complete(
    record: Trajectory, kinds: Sequence[str], chosen: Chosen = OURS, *, seed: int = 0
) -> Iterator[Trajectory | str]:
    """The record completed from each of its states of these kinds; or why it is not."""
    if not is_own_try(record):
        yield "not a model's own try"
        return
    task = record_to_task(record, chosen.kinds)
    if isinstance(task, CannotReplay):
        yield task.reason
        return
    if not chosen.kinds[task.world].has_expert(task):
        yield "the task has no solution"
        return
    try:
        states = list(_states(record, task, kinds, chosen, seed))
    except UserError:
        yield "its world gives other results now"
        return
    for state in states:
        attempt = Try(task, beginning=Beginning(record.id, tuple(record.action_sequence[: state.step]), state.kind))
        spoilt: list[InvalidTry] = []
        made = run_tasks(
            Expert(), [attempt], label=LABEL, kinds=chosen.kinds, max_steps=MAX_TURNS + len(record.action_sequence),
            start=record.timestamp, live=1, invalid_tries=spoilt,
            repeat_guard=(record.metadata.model_extra or {}).get("repeat_guard") is True,
        )  # fmt: skip
        try:
            yield from made
        except UserError:
            yield "its world gives other results now"
        yield from (f"the server's fault: {each.reason}" for each in spoilt)


def _states(record: Trajectory, task: Task, kinds: Sequence[str], chosen: Chosen, seed: int) -> Iterator[State]:
    """Where the record goes wrong, each place once, as what it is first in the order of `STATES`."""
    actions = record.action_sequence
    starts = [group[0][0] for group in group_turns(actions)]
    seen: set[int] = set()
    is_solved = record.outcome is Outcome.SUCCESS
    for kind in (each for each in STATES if each in kinds):
        if kind == "stuck":
            found = [] if is_solved else stuck_steps(record)
        elif kind == "injection":
            found = _obeying_steps(record, task)
        elif kind == "stop":
            found = _stop_steps(record, task, starts, chosen)
        else:
            # Not at the very start, where nothing of the model's would be seen.
            later = starts[1:] + ([len(actions)] if record.metadata.answer is not None and actions else [])
            found = [random.Random(f"{seed}:{record.id}").choice(later)] if later and not is_solved else []
        for step in found:
            if step not in seen:
                seen.add(step)
                yield State(kind, step)


def _obeying_steps(record: Trajectory, task: Task) -> list[int]:
    """The first turn that does what an instruction in a result has asked for."""
    instruction = instruction_of(task)
    told = (record.metadata.model_extra or {}).get("injection")
    if instruction is None or not isinstance(told, dict) or not told.get("obeyed"):
        return []
    has_struck = False
    for group in group_turns(record.action_sequence):
        if has_struck and any(instruction.is_obeyed_by_call(action.command, action.input) for _, action in group):
            return [group[0][0]]
        has_struck = has_struck or any(_holds(action.output, instruction.text) for _, action in group)
    return [len(record.action_sequence)] if instruction.is_obeyed_by_words(record.metadata.answer or "") else []


def _holds(output: object, text: str) -> bool:
    if isinstance(output, str):
        return text in output
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, list) else ()
    return any(_holds(value, text) for value in values)


def _stop_steps(record: Trajectory, task: Task, starts: Sequence[int], chosen: Chosen) -> list[int]:
    """Where it answers too early, should have answered, or asks and does not ask against the expert; the first of these."""
    has_answered = record.metadata.answer is not None
    is_solved = record.outcome is Outcome.SUCCESS
    if task.user is not None or not has_answered:
        episode = open_episode(task, label=LABEL, start=record.timestamp, kinds=chosen.kinds)
        try:
            turns = actions_to_turns(record.action_sequence)
            for step, turn in zip(starts, turns, strict=True):
                if not has_answered and episode.world.verdict().outcome is Outcome.SUCCESS:
                    return [step]
                if task.user is not None and not is_solved:
                    asks = isinstance(turn, Message) and any(c.name == ASK.function.name for c in turn.tool_calls)
                    if asks != (episode.world.expert(episode.actions).command == ASK.function.name):
                        return [step]
                take_turn(episode, turn, advise=False, invalid="retry")
        finally:
            episode.world.__exit__(None, None, None)
    return [len(record.action_sequence)] if has_answered and not is_solved else []
