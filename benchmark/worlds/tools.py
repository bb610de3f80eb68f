"""Tool calls as every world treats them: described by a signature, checked before they run, failed on schedule.

A tool is a typed method of a world. It works in two steps, *check* and *commit*: the method itself raises `ToolError` if
the call is wrong and changes nothing; it returns a function that does the work. Between the two a scheduled fault may
strike, so that a fault hits only calls that were right and leaves nothing half done.
"""

from __future__ import annotations

import inspect
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from pydantic import JsonValue

from benchmark.worlds.troubles import Trouble, Troubles, Values
from benchmark.worlds.world import Fault, Move, Task, ToolResult, Verdict
from core.errors import nearest
from data.records import Action, Outcome, ToolFunction, ToolSpec

Commit = Callable[[], JsonValue]

DONE = "Done."
GIVEN_UP = "I could not do all of it."
"""What an expert says at the end: everything holds, or something is beyond repair."""

_JSON_TYPE = {str: "string", int: "integer"}


class ToolError(Exception):
    """A call that did not work. Its text is what the model reads; `injected` names the fault that made it."""

    def __init__(self, text: str, injected: str | None = None) -> None:
        super().__init__(text)
        self.injected = injected


def function_to_spec(function: Callable[..., Any]) -> ToolSpec:
    """A typed method as a tool: its name, the first line of its docstring, its parameters.

    The list `required` is left out (it costs about six tokens a tool in every prompt); a call that lacks an argument is
    told so.
    """
    properties: dict[str, JsonValue] = {
        name: {"type": _JSON_TYPE[parameter.annotation]} for name, parameter in _parameters(function).items()
    }
    return ToolSpec(
        function=ToolFunction(
            name=function.__name__,
            description=(function.__doc__ or "").splitlines()[0],
            parameters={"type": "object", "properties": properties},
        )
    )


@cache
def _parameters(method: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a method by name, without `self`."""
    _, *others = inspect.signature(method, eval_str=True).parameters.items()
    return dict(others)


def check_call(world: object, tools: Sequence[ToolSpec], name: str, arguments: dict[str, Any]) -> Commit:
    """Check a call against the task's tools and the world's state; returns what does the work.

    Raises:
        ToolError: what `check_arguments` or the world has against it.
    """
    given = check_arguments(type(world), tools, name, arguments)
    commit: Commit = getattr(world, name)(**given)
    return commit


def check_arguments(world: type, tools: Sequence[ToolSpec], name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call, if they are such as the tool takes.

    Raises:
        ToolError: unknown tool or argument (with the nearest right name), missing argument, wrong type.
    """
    names = [tool.function.name for tool in tools]
    if name not in names:
        raise ToolError(f"unknown tool {name!r}.{nearest(name, names) or ' There are: ' + ', '.join(names) + '.'}")
    if not isinstance(arguments, dict):
        raise ToolError(f"arguments must be a JSON object, got {type(arguments).__name__}")
    known = _parameters(getattr(world, name))
    for key, value in arguments.items():
        if key not in known:
            raise ToolError(f"{name} has no argument {key!r}.{nearest(str(key), known)}")
        if type(value) is not known[key].annotation:
            shown = json.dumps(value, ensure_ascii=False)[:40]
            raise ToolError(f"argument {key!r} must be {_JSON_TYPE[known[key].annotation]}, got {shown}")
        if isinstance(value, str) and not _is_plain_text(value):
            raise ToolError(f"argument {key!r} holds characters that are not allowed")
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in arguments:
            raise ToolError(f"argument {key!r} is missing")
    return arguments


def _is_plain_text(value: str) -> bool:
    """False for what neither a path nor UTF-8 can hold: null characters and half surrogate pairs."""
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def failed_in_a_row(history: Sequence[Action], command: str, arguments: dict[str, Any]) -> int:
    """How often this very call failed at the end of the history."""
    count = 0
    for action in reversed(history):
        if action.error is None or action.command != command or action.input != arguments:
            break
        count += 1
    return count


def score_to_verdict(goals: int, missing: Sequence[str], damage: Sequence[str]) -> Verdict:
    """The verdict of `goals` goals, those that do not hold, and what was broken on the way.

    Damage weighs like a goal that does not hold: score = held / (goals + damages). So doing nothing scores 0 and nothing
    but a flawless state scores 1.
    """
    score = (goals - len(missing)) / (goals + len(damage))
    outcome = Outcome.SUCCESS if score == 1 else Outcome.PARTIAL if score > 0 else Outcome.FAILURE
    why = "; ".join([*missing, *damage]) or "every goal holds"
    return Verdict(outcome, score, why, goals=goals, damages=len(damage))


class Schedule:
    """Which calls fail. Only calls that were right are counted, each fault strikes once."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = faults
        self._calls: Counter[str] = Counter()

    def due(self, tool: str) -> str | None:
        """Count a right call of `tool`; returns the kind of the fault that strikes it."""
        nth = self._calls[tool]
        self._calls[tool] += 1
        return next((fault.kind for fault in self._faults if fault.tool == tool and fault.nth == nth), None)


@dataclass(frozen=True)
class Called:
    """A call that was right: what a fault may strike."""

    name: str
    given: dict[str, Any]
    commit: Commit


@dataclass(frozen=True)
class Standing:
    """A trouble that later calls meet too, until it is repaired or its time is over."""

    trouble: Trouble[Any, Any]
    values: Values
    until_s: float

    @staticmethod
    def since(clock_s: float, trouble: Trouble[Any, Any], values: Values) -> Standing:
        """A trouble that begins now. It ends by its repair, or with `lasts_s` by the clock alone."""
        return Standing(trouble, values, clock_s + values.get("lasts_s", math.inf))

    def told(self, clock_s: float) -> Values:
        """What the names in its error stand for now."""
        return {**self.values, "seconds": math.ceil(round(self.until_s - clock_s, 3)) if self.until_s < math.inf else 0}

    def meets(self, struck: object, clock_s: float, tool: str, given: Mapping[str, Any]) -> bool:
        """Whether a call meets it."""
        refuses = self.trouble.refuses
        return clock_s < self.until_s and refuses is not None and refuses(struck, tool, given, self.values)


def cut_off(world: object, called: Called) -> Values:
    """What happens to a call whose output is cut off: it is made, and its error holds how the output begins."""
    output = str(called.commit())
    return {"start": json.dumps(output[: min(len(output) // 2, 16)], ensure_ascii=False)[:-1]}


class ToolWorld:
    """What worlds share that hold their state themselves: a virtual clock, and calls that a fault may strike.

    A subclass has its tools as methods; those of a task are the ones that can be called.
    """

    troubles: ClassVar[Troubles[Any, Called]]
    """Every kind of fault of this world."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.clock_s = 0.0
        self._schedule = Schedule(task.faults)
        self._standing: list[Standing] = []

    def wait(self, seconds: int) -> Commit:
        """Wait."""
        if not 0 <= seconds <= 600:
            raise ToolError("argument 'seconds' must be 0 to 600")

        def commit() -> JsonValue:
            self.clock_s += seconds
            return "ok"

        return commit

    def answer(self, text: str) -> None:
        """Words change nothing, unless a world says otherwise."""

    def plain(self, name: str, value: Any) -> Any:
        """An argument in the spelling in which arguments are compared."""
        return value

    # Troubles.

    def error(self, kind: str, **values: Any) -> ToolError:
        """What a trouble says."""
        return ToolError(self.troubles[kind].text(values))

    def standing(self, kind: str) -> list[Values]:
        """What happened, for each trouble of a kind that stands."""
        return [each.values for each in self._standing if each.trouble.kind == kind and self.clock_s < each.until_s]

    def stands(self, trouble: Trouble[Any, Any], values: Values) -> bool:
        """Whether a trouble that an error told of has not been repaired yet."""
        if trouble.stands is not None:
            return trouble.stands(self, values)
        told = {name: value for name, value in values.items() if name != "seconds"}
        return any(told.items() <= each.items() for each in self.standing(trouble.kind))

    # A call.

    def check(self, name: str, arguments: dict[str, Any]) -> Commit:
        """Whether a call is right as things are; see `check_call`."""
        given = check_arguments(type(self), self.task.tools, name, arguments)
        plain = {key: self.plain(key, value) for key, value in given.items()}
        met = [each for each in self._standing if each.meets(self, self.clock_s, name, plain)]
        at_once = next((each for each in met if not each.trouble.yields), None)
        if at_once is None:
            commit: Commit = getattr(self, name)(**given)
            if not met:
                return commit
        first = at_once or met[0]
        raise self.error(first.trouble.kind, **first.told(self.clock_s))

    def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """Run one tool call; see `World`."""
        before_s = self.clock_s
        output, error, injected = None, None, None
        try:
            commit = self.check(name, arguments)
            if kind := self._schedule.due(name):
                self._strike(kind, Called(name, arguments, commit))
            output = commit()
            self._repaired_by(name, arguments)
        except ToolError as fault:
            error, injected = str(fault), fault.injected
        return ToolResult(output, error, injected, seconds=round(self.clock_s - before_s, 3))

    def _strike(self, kind: str, called: Called) -> None:
        """Let a fault hit a call that was right.

        Raises:
            ToolError: what the model reads. Nothing is raised where the fault has nothing to hit.
        """
        trouble = self.troubles[kind]
        if not trouble.may_hit(self, called):
            return
        values = trouble.happens(self, called)
        if values is not None:
            if trouble.refuses is None:
                raise ToolError(trouble.text(values), kind)
            self._standing.append(Standing.since(self.clock_s, trouble, values))
        try:
            self.check(called.name, called.given)
        except ToolError as error:
            raise ToolError(str(error), kind) from None

    def _repaired_by(self, name: str, arguments: dict[str, Any]) -> None:
        """End the troubles that this call repairs. Those that have a time end by it alone."""
        given = {key: self.plain(key, value) for key, value in arguments.items()}
        self._standing = [
            each
            for each in self._standing
            if each.until_s < math.inf or each.trouble.repair.move(each.values) != Move(name, given)
        ]
