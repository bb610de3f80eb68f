"""Tool calls as every world treats them: described by a signature, checked before they run, failed on schedule.

A tool is a typed method of a world. It works in two steps, *check* and *commit*: the method itself raises `ToolError` if
the call is wrong and changes nothing; it returns a function that does the work. Between the two a scheduled fault may
strike, so that a fault hits only calls that were right and leaves nothing half done.
"""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

from pydantic import JsonValue

from benchmark.worlds.world import Fault, Move, Result, Task, Verdict
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
        ToolError: unknown tool or argument (with the nearest right name), missing argument, wrong type, or whatever the
            world has against it.
    """
    names = [tool.function.name for tool in tools]
    if name not in names:
        raise ToolError(f"unknown tool {name!r}.{nearest(name, names) or ' There are: ' + ', '.join(names) + '.'}")
    if not isinstance(arguments, dict):
        raise ToolError(f"arguments must be a JSON object, got {type(arguments).__name__}")
    method = getattr(type(world), name)
    known = _parameters(method)
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
    commit: Commit = method(world, **arguments)
    return commit


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


def first_open_group(groups: Sequence[Sequence[Move]], history: Sequence[Action]) -> Move | None:
    """The calls of the first group that have not all worked yet, as one turn; None when all have."""
    done = [(action.command, action.input) for action in history if action.error is None]
    for group in groups:
        left = [move for move in group if (move.command, move.input) not in done]
        if left:
            return replace(left[0], beside=tuple(left[1:]))
    return None


def score_to_verdict(goals: int, missing: Sequence[str], damage: Sequence[str]) -> Verdict:
    """The verdict of `goals` goals, those that do not hold, and what was broken on the way.

    Damage weighs like a goal that does not hold: score = held / (goals + damages). So doing nothing scores 0 and nothing
    but a flawless state scores 1.
    """
    score = (goals - len(missing)) / (goals + len(damage))
    outcome = Outcome.SUCCESS if score == 1 else Outcome.PARTIAL if score > 0 else Outcome.FAILURE
    return Verdict(outcome, score, "; ".join([*missing, *damage]) or "every goal holds")


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


class ToolWorld:
    """What worlds share that hold their state themselves: a virtual clock, and calls that a fault may strike.

    A subclass has its tools as methods; those of a task are the ones that can be called.
    """

    TOLD: ClassVar[dict[str, str]]
    """Kinds of faults that change nothing -> what the model reads. A call that is made again works."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.clock_s = 0.0
        self._schedule = Schedule(task.faults)

    def bring_about(self, kind: str, name: str, arguments: dict[str, Any]) -> None:
        """Change the world so that a call that was right is wrong; for kinds that are neither in `TOLD` nor `malformed`."""
        raise NotImplementedError

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

    def check(self, name: str, arguments: dict[str, Any]) -> Commit:
        """Whether a call is right as things are; see `check_call`."""
        return check_call(self, self.task.tools, name, arguments)

    def call(self, name: str, arguments: dict[str, Any]) -> Result:
        """Run one tool call; see `World`."""
        before_s = self.clock_s
        output, error, injected = None, None, None
        try:
            commit = self.check(name, arguments)
            if kind := self._schedule.due(name):
                self._strike(kind, name, arguments, commit)
            output = commit()
        except ToolError as fault:
            error, injected = str(fault), fault.injected
        return Result(output, error, injected, seconds=round(self.clock_s - before_s, 3))

    def _strike(self, kind: str, name: str, arguments: dict[str, Any], commit: Commit) -> None:
        """Let a fault hit a call that was right.

        Raises:
            ToolError: what the model reads. Nothing is raised where the fault has nothing to hit.
        """
        if kind == "malformed":
            output = str(commit())
            start = json.dumps(output[: min(len(output) // 2, 16)], ensure_ascii=False)
            raise ToolError(f"malformed output, cut off: {start[:-1]}", kind)
        if kind in self.TOLD:
            raise ToolError(self.TOLD[kind], kind)
        self.bring_about(kind, name, arguments)
        try:
            self.check(name, arguments)
        except ToolError as error:
            raise ToolError(str(error), kind) from None
