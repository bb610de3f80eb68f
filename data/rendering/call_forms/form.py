"""What a way to write calls is, and what all readers of calls share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from data.records import ToolSpec

NAME = r"[^\s()\[\]{},=<>\"'`|]+"
"""Of a tool, where nothing marks its end."""
Call = tuple[str, dict[str, Any]]
Schemas = dict[str, dict[str, Any]]
"""By name of a tool: the JSON Schemas of its parameters by their names."""


class Unread(ValueError):
    """A block of this form begins here and cannot be read; the message says why."""


class Written(NamedTuple):
    """What one form makes of a reply. `alone` is false where something comes after the last call, or between two."""

    calls: list[Call]
    content: str
    before: str
    alone: bool
    reasoning: str | None = None


ReadBlock = Callable[[str, re.Match[str], Schemas], tuple[list[Call], int]]
"""The calls of one block, from the match of its opening, and the place after the block; raises `Unread` where it is broken."""


@dataclass(frozen=True)
class Form:
    """One way to write calls.

    Calls are blocks among words, or (harmony) all of a turn is written in a form of its own. A bare form has no tag of its own.
    """

    name: str
    family: str
    opening: re.Pattern[str]
    read: ReadBlock | None = None
    """Reads the calls of one block."""
    read_turn: Callable[[str, Schemas], Written | None] | None = None
    """Reads all of a turn, in the place of blocks."""
    bare: bool = False
    tags: tuple[str, ...] = ()
    """Text that can stand nowhere but in a call of this form."""

    def turn(self, text: str, schemas: Schemas) -> Written | None:
        """The reply's calls and the words around them, or None where this form does not occur.

        Raises:
            Unread: if a block is broken.
        """
        if self.read_turn is not None:
            return self.read_turn(text, schemas)
        assert self.read is not None
        calls: list[Call] = []
        words: list[str] = []
        place = 0
        while (found := self.opening.search(text, place)) is not None:
            if self.bare and calls and text[place : found.start()].strip():
                break
            read, end = self.read(text, found, schemas)
            end = max(end, found.end())
            words.append(text[place : found.start() if read else end])  # what was no call stays among the words
            calls += read
            place = end
        if not words:
            return None
        after = [*words[1:], text[place:]]
        return Written(calls, "".join([*words, text[place:]]), words[0], not "".join(after).strip())


def tools_to_schemas(tools: Sequence[ToolSpec]) -> Schemas:
    """The schemas of what can be called."""
    named = {}
    for tool in tools:
        properties = tool.function.parameters.get("properties")
        named[tool.function.name] = properties if isinstance(properties, dict) else {}
    return named


def skip(text: str, place: int, pattern: str) -> int:
    """The place behind what the pattern matches here, if it does."""
    found = re.compile(pattern).match(text, place)
    return found.end() if found else place


def add_argument(arguments: dict[str, Any], key: str, value: Any) -> None:
    """One more argument.

    Raises:
        Unread: if the call gives it twice.
    """
    if key in arguments:
        raise Unread(f"the call gives argument {key!r:.80} twice")
    arguments[key] = value


def end_of_value(
    text: str,
    start: int,
    closing: str,
    following: re.Pattern[str],
    is_border: Callable[[int], bool] = lambda place: False,
) -> int:
    """Where a value ends: at the first closing tag after which the call goes on as calls do, or that is one for another reason
    (`is_border`). Any other one is text.

    Raises:
        Unread: if it has no end.
    """
    place = start
    while (place := text.find(closing, place)) >= 0:
        if following.match(text, place + len(closing)) or is_border(place):
            return place
        place += len(closing)
    raise Unread("the call is not closed: an argument has no end")
