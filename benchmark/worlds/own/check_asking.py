"""Whether a folder's tasks with a user are worth anything: asking and then doing passes, doing without asking does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from pydantic import JsonValue

from benchmark.worlds.asking.user import needs
from benchmark.worlds.asking.world import ASK, REFUSAL
from benchmark.worlds.own.judge import says, says_to_answer
from benchmark.worlds.own.kind import OwnKind
from benchmark.worlds.own.tasks import TaskRow
from benchmark.worlds.own.world import fill_references
from benchmark.worlds.tools import DONE
from benchmark.worlds.world import Task, Verdict, World
from data.records import Outcome

_CHOICE = re.compile(r"\b(or|either|which|one of)\b|또는|아니면|중|어느|둘", re.IGNORECASE)


def check_asking(kind: OwnKind, row: TaskRow) -> Iterator[tuple[str, str]]:
    """What is wrong with a task's user: what must be so, and what is seen instead.

    Raises:
        ServersFault: its servers do not do what they should.
    """
    task = replace(kind.task(row.id) or _missing(row), faults=())
    assert task.user is not None
    told = [need for need in needs(task.user, task.language) if need.sort != "agreement"]
    for value in (value for need in told for value in need.values):
        if says(row.instruction, value) and not _CHOICE.search(row.instruction):
            yield "what only the user knows does not stand in the instruction", f"it holds {value!r}"
    for value in (value for need in told for value in need.values):
        if value not in " ".join(need.say for need in told):
            yield "the user tells what they know", f"no answer holds {value!r}"
    verdict = _asked_and_done(kind, task, row)
    if verdict.outcome is not Outcome.SUCCESS:
        yield "asking, then the solution, passes", f"score {verdict.score:.2f}: {verdict.why}"
    if task.user.is_to_refuse:
        return
    with kind.open(task) as world:
        world.answer(DONE)
        verdict = world.verdict()
        if verdict.outcome is Outcome.SUCCESS:
            yield "an empty run does not pass", verdict.why
        if task.user.questions and row.solution:
            _do(world, row)
            verdict = world.verdict()
            if verdict.score > 0:
                yield "the solution without asking scores nothing", f"score {verdict.score:.2f}: {verdict.why}"


def _missing(row: TaskRow) -> Task:
    raise LookupError(row.id)


def _asked_and_done(kind: OwnKind, task: Task, row: TaskRow) -> Verdict:
    """The verdict of a run that asks what the expert would and then does what the solution does, or says that nothing can be
    done."""
    assert task.user is not None
    with kind.open(task) as world:
        for question in task.user.questions:
            world.call(ASK.function.name, {"question": question})
        if task.user.is_to_act:
            _do(world, row)
        refusal = REFUSAL.get((task.user.case, task.language), DONE)
        world.answer(says_to_answer(row) if row.says else refusal)
        return world.verdict()


def _do(world: World, row: TaskRow) -> None:
    outputs: list[JsonValue] = []
    for call in row.solution:
        outputs.append(world.call(call.name, fill_references(call.arguments, row.solution, outputs)).output)
