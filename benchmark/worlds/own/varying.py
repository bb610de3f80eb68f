"""What differs from run to run: named by JSON Pointers where it can be, else compared by its structure alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from benchmark.worlds.own.state import naming, part_to_pointer, pointer_to_parts, text_to_value, without

_ROUNDS = 5
"""Without a name that differs, other entries are compared with each other, so what differs is looked for again."""
_ID_LENGTH = 6
"""A word of a plain text that differs may be an id if it has so many characters and a digit."""


def propose_volatile(pairs: Sequence[tuple[JsonValue, JsonValue]], known: Sequence[str]) -> list[str] | None:
    """JSON Pointers, beside those that are known, without whose values two runs' states are the same.

    Args:
        pairs: states of two runs at the same moment.

    Returns:
        None where no pointer names what differs.
    """
    proposed: list[str] = []
    for _ in range(_ROUNDS):
        left = [tuple(without(state, [*known, *proposed]) for state in pair) for pair in pairs]
        found = {pointer for one, other in left for pointer in differing(one, other, by_name=True)}
        if not found:
            return sorted(proposed)
        if "" in found:
            return None
        proposed += sorted(found)
    return None


def differing(one: JsonValue, other: JsonValue, pointer: str = "", *, by_name: bool = False) -> Iterator[str]:
    """Pointers of what is not the same, `*` for entries of lists and of objects that are alike.

    Args:
        by_name: entries of lists are compared by what names them, as states are; else by their places.
    """
    if type(one) is type(other) and one == other:
        return  # at once, for large states
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        alike = _are_alike(list(one.values()))
        for key in one:
            part = "/*" if alike else part_to_pointer(key)
            yield from differing(one[key], other[key], pointer + part, by_name=by_name)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        name = naming(one) if one and by_name else None
        if name is not None and name == naming(other):
            others = {str(_part(each, name)): each for each in other}
            if others.keys() == {str(_part(each, name)) for each in one}:
                other = [others[str(_part(each, name))] for each in one]
        for left, right in zip(one, other, strict=True):
            yield from differing(left, right, pointer + "/*", by_name=by_name)
    elif type(one) is not type(other) or one != other:
        yield pointer


def _part(value: JsonValue, name: str) -> JsonValue:
    return value[name] if isinstance(value, dict) else None


def _are_alike(values: Sequence[JsonValue]) -> bool:
    """Whether an object is a collection whose keys are names: its values are objects with the same keys."""
    objects = [value for value in values if isinstance(value, dict)]
    return len(objects) == len(values) > 1 and len({frozenset(value) for value in objects}) == 1


def value_to_structure(value: JsonValue) -> JsonValue:
    """Keys, types and lengths of a value. A key that holds a digit is taken for a value, since ids are such keys."""
    if isinstance(value, str):
        read = text_to_value(value)
        return "text" if isinstance(read, str) else value_to_structure(read)
    if isinstance(value, dict):
        shape = {key: value_to_structure(each) for key, each in value.items() if not _is_id(key)}
        by_id = [value_to_structure(each) for key, each in value.items() if _is_id(key)]
        return {**shape, "#": by_id} if by_id else dict(shape)
    if isinstance(value, list):
        return [value_to_structure(each) for each in value]
    if value is None:
        return None
    return "true or false" if isinstance(value, bool) else "number"


def _is_id(key: str) -> bool:
    return re.search(r"\d", key) is not None


@dataclass
class Sameness:
    """What two runs of the same calls in a world have to share, and what the second calls by other ids."""

    volatile: Sequence[str] = ()
    """JSON Pointers into results, each after the name of its tool."""
    structure_only: bool = False
    _ids: dict[tuple[type, Any], set[Any]] = field(default_factory=dict)

    @property
    def is_exact(self) -> bool:
        """Whether everything is compared."""
        return not self.volatile and not self.structure_only

    def compared(self, tool: str, output: JsonValue) -> JsonValue:
        """What of a result is compared."""
        if self.structure_only:
            return value_to_structure(output)
        pointers = pointers_of(tool, self.volatile)
        if not pointers:
            return output
        if "" in pointers:
            return None
        return without(text_to_value(output) if isinstance(output, str) else output, pointers)

    def learn(self, recorded: JsonValue, replayed: JsonValue) -> None:
        """Note which ids a result has in the place of those that were recorded."""
        if self.is_exact:
            return
        if isinstance(recorded, str) and isinstance(replayed, str):
            read = text_to_value(recorded), text_to_value(replayed)
            if not any(isinstance(each, str) for each in read):
                self.learn(*read)
                return
            words = re.findall(r"[\w-]+", recorded), re.findall(r"[\w-]+", replayed)
            if len(words[0]) == len(words[1]):
                for one, other in zip(*words, strict=True):
                    if one != other and len(one) >= _ID_LENGTH and _is_id(one):
                        self._note(one, other)
        if isinstance(recorded, dict) and isinstance(replayed, dict) and len(recorded) == len(replayed):
            for (key, one), (other_key, other) in zip(recorded.items(), replayed.items(), strict=True):
                self.learn(key, other_key)
                self.learn(one, other)
        elif isinstance(recorded, list) and isinstance(replayed, list):
            for one, other in zip(recorded, replayed, strict=False):
                self.learn(one, other)
        elif type(recorded) is type(replayed) and isinstance(recorded, str | int) and not isinstance(recorded, bool):
            self._note(recorded, replayed)

    def _note(self, one: JsonValue, other: JsonValue) -> None:
        self._ids.setdefault((type(one), one), set()).add(other)

    def translated(self, value: Any) -> Any:
        """Arguments with this run's ids; a value that stood for several things stays."""
        if isinstance(value, Mapping):
            return {key: self.translated(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.translated(each) for each in value]
        if isinstance(value, str | int):
            found = self._ids.get((type(value), value), ())
            return next(iter(found)) if len(found) == 1 else value
        return value


def pointers_of(tool: str, volatile: Sequence[str]) -> list[str]:
    """The pointers into a tool's results, without its name; a second `look` of the tool has its arguments behind it."""
    found = []
    for pointer in volatile:
        first, *rest = pointer_to_parts(pointer)
        if first == tool or first.startswith(tool + " {"):
            found.append("".join(map(part_to_pointer, rest)))
    return found
