"""The user of a folder's task, as `ask_user` knows them: what a row says of them, and what follows from its solution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from benchmark.worlds.asking.tasks import expert_questions
from benchmark.worlds.own.judge import says
from benchmark.worlds.own.sources import NamedCall
from benchmark.worlds.own.tasks import FROM, TaskRow, UserRow
from benchmark.worlds.world import Answer, User


def row_to_user(row: TaskRow, changes: Callable[[str], bool], tools: Sequence[str]) -> User | None:
    """The user of a task; None where it has none.

    Args:
        changes: whether a tool may change something.
        tools: the names of all tools.
    """
    told = row.user
    if told is None:
        return None
    answers = [_slot_first(answer.when, answer.say, told) for answer in told.answers]
    knows = {slot: str(value) for slot, value in told.knows.items()}
    # An answer that tells a value of the solution is needed like one of `knows`.
    for answer in answers:
        if answer.when[0] not in {*knows, *told.confirms} and (value := _told_value(row, answer.say)):
            knows[answer.when[0]] = value
    is_to_act = row.expects is None or bool(row.says)
    case = "mind" if told.changes else "missing" if knows else "confirm" if told.confirms else "known"
    if not is_to_act and case == "known":
        case = "forbidden" if row.policy else "impossible"
    user = User(
        case=case,
        acts=tuple(name for name in tools if changes(name) and name not in _free(row, knows, told)),
        is_to_act=is_to_act,
        knows=knows,
        answers=tuple(answers),
        otherwise=told.otherwise,
        changes_mind_after=told.changes_mind_after,
        changes={slot: str(value) for slot, value in told.changes.items()},
        confirms=tuple(told.confirms),
        agrees=is_to_act,
        told=tuple(name for name in dict.fromkeys(_arguments_told(row)) if name not in knows),
    )
    return replace(user, questions=expert_questions(user, cast(Literal["en", "ko"], row.language)))


def _slot_first(when: Sequence[str], say: str, told: UserRow) -> Answer:
    """An answer whose slot or tool stands first."""
    return Answer(tuple(sorted(when, key=lambda each: each not in told.knows and each not in told.confirms)), say)


def _told_value(row: TaskRow, say: str) -> str | None:
    values = (str(value) for _, value in _arguments(row.solution))
    return next(
        (each for each in values if len(each) > 1 and says(say, each) and not says(row.instruction, each)), None
    )


def _arguments(calls: Sequence[NamedCall]) -> Iterator[tuple[str, Any]]:
    for call in calls:
        for name, value in call.arguments.items():
            if isinstance(value, str | int | float) and not isinstance(value, bool):
                yield name, value


def _arguments_told(row: TaskRow) -> Iterator[str]:
    """Arguments whose values stand in the instruction."""
    yield from (name for name, value in _arguments(row.solution) if str(value) and str(value) in row.instruction)


def _free(row: TaskRow, knows: dict[str, str], told: UserRow) -> set[str]:
    """Tools that the solution uses before it needs anything that the user knows, and not after that."""
    values = {*knows.values(), *(str(value) for value in told.changes.values())}
    if not values:
        return set()
    using = [place for place, call in enumerate(row.solution) if values & set(_texts(call.arguments))]
    first = using[0] if using else 0
    return {call.name for call in row.solution[:first]} - {call.name for call in row.solution[first:]}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for each in () if FROM in value else value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    else:
        yield str(value)
