"""Faults of worlds. A kind is declared once, as a `Trouble`, and everything follows from that.

Its error is what the model reads and, read backwards, how the expert recognises it in a history; its repair is what the expert
does and what the documentation says; its occasions are the calls that it may strike. `python -m benchmark.worlds.kinds` writes
the table of docs/architecture.md anew.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Literal, Protocol, TypeVar

from benchmark.worlds.world import Fault, Move

Values = Mapping[str, Any]
"""What the names in an error stand for."""

Struck = TypeVar("Struck", contravariant=True)
Call = TypeVar("Call", contravariant=True)


class Learner(Protocol):
    """What repairs tell an expert, and ask it."""

    unsure: set[tuple[str, str]]
    """Calls that were made and whose answers never came, by what they mean."""

    def meant(self, command: str, given: Mapping[str, Any]) -> tuple[str, str]:
        """A call by what it means."""
        ...

    def first(self, name: str) -> str:
        """The name that a thing had at the beginning."""
        ...

    def now(self, name: str) -> str:
        """What a thing is called now, as far as is known."""
        ...

    def rename(self, old: str, new: str) -> None:
        """A thing is called otherwise from now on."""
        ...

    def forget(self, what: str, command: str, given: Mapping[str, Any]) -> None:
        """What a call gave holds no longer."""
        ...


class Repair(Protocol):
    """The way out of a trouble. As it stands here: nothing to learn, and the plan's own steps do what is left to do."""

    def learn(self, expert: Learner, command: str, given: Mapping[str, Any], values: Values) -> None:
        """Draw what follows from an error that was read just now."""
        return

    def is_over(self, expert: Learner, values: Values) -> bool:
        """Whether the history shows that nothing is left to do beside the plan's steps, however the world stands."""
        return True

    def move(self, values: Values) -> Move | None:
        """The call that ends the trouble; None where the plan's own steps do."""
        return None

    @property
    def tool(self) -> str | None:
        """The tool without which there is no way out; None where the plan's own tools are enough."""
        return None

    @property
    def calls(self) -> int:
        """How many calls it takes beside that which failed."""
        return 0

    @property
    def told(self) -> str:
        """The way out, in words."""
        ...


@dataclass(frozen=True)
class Again(Repair):
    """Make the same call again. With `unsure` it may have been done, so even a goal that holds does not show that it was."""

    unsure: bool = False
    how: str = "the same call again"

    def learn(self, expert: Learner, command: str, given: Mapping[str, Any], values: Values) -> None:
        """Remember a call of which nobody knows."""
        if self.unsure:
            expert.unsure.add(expert.meant(command, given))

    @property
    def told(self) -> str:
        """The way out, in words."""
        return self.how


@dataclass(frozen=True)
class By(Repair):
    """Call another tool, as long as the trouble stands, then go on. `{name}` in an argument is a value of the error."""

    command: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    then: str = "then again"
    tells: str = ""
    """What the call tells a new name of, by its name in the error; once that is known, the trouble is over."""

    def is_over(self, expert: Learner, values: Values) -> bool:
        """Whether the new name is known."""
        return bool(self.tells) and expert.now(expert.first(values[self.tells])) != values[self.tells]

    def move(self, values: Values) -> Move | None:
        """The call. The only argument that is a number is `seconds`."""
        filled = {name: text.format_map(values) for name, text in self.arguments.items()}
        return Move(self.command, {name: int(text) if name == "seconds" else text for name, text in filled.items()})

    @property
    def tool(self) -> str | None:
        """The tool without which there is no way out."""
        return self.command

    @property
    def calls(self) -> int:
        """How many calls it takes beside that which failed."""
        return 1

    @property
    def told(self) -> str:
        """The way out, in words."""
        given = ", ".join(f"{name} = {value}" for name, value in self.arguments.items())
        return f"`{self.command}`{f' ({given})' * bool(given)}, {self.then}"


@dataclass(frozen=True)
class Use(Repair):
    """From now on use the new name that the error tells."""

    old: str
    new: str

    def learn(self, expert: Learner, command: str, given: Mapping[str, Any], values: Values) -> None:
        """Remember the new name."""
        expert.rename(values[self.old], values[self.new])

    @property
    def told(self) -> str:
        """The way out, in words."""
        return f"use {{{self.new}}} from now on"


@dataclass(frozen=True)
class Anew(Repair):
    """What was known holds no longer, so that the plan's steps get it again. `what` is told to `Expert.forget`."""

    what: Literal["output", "version", "token", "refresh", "page"]
    how: str

    def learn(self, expert: Learner, command: str, given: Mapping[str, Any], values: Values) -> None:
        """Forget it."""
        expert.forget(self.what, command, given)

    @property
    def calls(self) -> int:
        """How many calls it takes beside that which failed."""
        return 1

    @property
    def told(self) -> str:
        """The way out, in words."""
        return self.how


def _may_hit(struck: Any, call: Any) -> bool:
    return True


def _happens(struck: Any, call: Any) -> Values:
    return {}


@dataclass(frozen=True)
class Trouble(Generic[Struck, Call]):
    """One kind of fault. `Struck` is what it happens to (a world, a server), `Call` what it hits there."""

    kind: str
    error: str
    """What the model reads. `{path}` and the like are named by what happens; `{seconds}` are those that are left."""
    repair: Repair = Again()
    occasions: tuple[str, ...] = ()
    """When it may strike, in the words of the world's families; see `Troubles.faults`."""
    may_hit: Callable[[Struck, Call], bool] = _may_hit
    """Whether there is something to hit. Where there is not, nothing happens."""
    happens: Callable[[Struck, Call], Any] = _happens
    """What changes. It gives what the names in the error stand for (`Values`); or None where what is there now refuses the call
    by itself; a server may also give an answer that is wrong."""
    is_done: bool = False
    """Whether the call that it strikes is done all the same."""
    refuses: Callable[[Struck, str, Mapping[str, Any], Values], bool] | None = None
    """Whether a later call meets it too, by its tool, its arguments and what happened. Without, it is over at once."""
    yields: bool = False
    """Whether what the world itself has against a later call is said first."""
    stands: Callable[[Struck, Values], bool] | None = None
    """Whether it has not been repaired yet; for troubles that the world itself keeps."""
    also: str = ""
    """What later calls read of it, where that is something else."""

    def text(self, values: Values) -> str:
        """The error, filled in."""
        return self.error.format_map(values)

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        return [_to_pattern(error) for error in (self.error, self.also) if error]

    def recognise(self, error: str) -> Values | None:
        """What the names in an error stand for; None if it tells of something else."""
        found = (pattern.fullmatch(error) for pattern in self._patterns)
        return next((match.groupdict() for match in found if match), None)


def _to_pattern(error: str) -> re.Pattern[str]:
    parts = []
    for text, name, _, conversion in string.Formatter().parse(error):
        parts.append(re.escape(text))
        if name:
            group = rf"(?P<{name}>\d+)" if name == "seconds" else rf"(?P<{name}>.+)"
            parts.append(f"'{group}'" if conversion == "r" else group)
    return re.compile("".join(parts), re.DOTALL)  # what is cut off may have several lines


@dataclass(frozen=True)
class Troubles(Generic[Struck, Call]):
    """All kinds of a world. Where several stand, they are repaired in this order."""

    kinds: Sequence[Trouble[Struck, Call]]

    def __getitem__(self, kind: str) -> Trouble[Struck, Call]:
        return next(each for each in self.kinds if each.kind == kind)

    def recognise(self, error: str) -> tuple[Trouble[Struck, Call], Values] | None:
        """The trouble that an error tells of, and what its names stand for; None for an error of another kind."""
        for trouble in self.kinds:
            values = trouble.recognise(error)
            if values is not None:
                return trouble, values
        return None

    def at(self, occasion: str) -> tuple[str, ...]:
        """The kinds that may strike on an occasion."""
        return tuple(each.kind for each in self.kinds if occasion in each.occasions)

    def calls_added(self, kind: str) -> int:
        """How many calls a fault adds to a task: the one that fails, and its repair."""
        return 1 + self[kind].repair.calls

    def to_markdown(self, world: str) -> str:
        """The rows of the documentation's table."""
        return "".join(
            f"| {world} | `{each.kind}` | {_cell(each.error)} | {_cell(each.repair.told)} |\n" for each in self.kinds
        )

    def faults(self, occasion: str, tool: str, *more: str, nth: int = 0) -> tuple[Fault, ...]:
        """What may strike the `nth` right call of a tool: the kinds of an occasion, and `more`."""
        return tuple(Fault(kind, tool, nth) for kind in (*self.at(occasion), *more))


def _cell(text: str) -> str:
    """A cell of a table: names of values in italics."""
    return re.sub(r"\{(\w+)(?:!r)?\}", r"*\1*", text).replace("|", "\\|")
