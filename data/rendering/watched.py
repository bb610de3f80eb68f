"""The messages of a chat as a template sees them while it is watched: how far ahead does it look?

What a template wrote for some messages can be used for more of them, as long as it asked for none that was not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

_EVERYTHING = 1 << 60


class Watch:
    """How far ahead a template looks: `furthest` is the highest index of a message that it asked for."""

    def __init__(self) -> None:
        self.furthest = 0

    def at(self, index: int | None) -> None:
        """Message `index` was looked at, or (None) something that depends on how many there are."""
        if index is None:
            index = _EVERYTHING
        if index > self.furthest:
            self.furthest = index


class Watched(list[Any]):
    """The messages as a template sees them; `offset` is the index of the first one in the chat."""

    def __init__(self, items: list[Any], watch: Watch, offset: int) -> None:
        super().__init__(items)
        self.watch, self.offset = watch, offset

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            items = list.__getitem__(self, key)
            if key.stop is None and key.step in (None, 1) and key.start in range(list.__len__(self) + 1):
                self.watch.at(self.offset + key.start - 1)  # the rest is watched as this is
                return Watched(items, self.watch, self.offset + key.start)
            self.watch.at(None)
            return items
        self.watch.at(self.offset + key if isinstance(key, int) and key >= 0 else None)
        return list.__getitem__(self, key)

    def __bool__(self) -> bool:
        self.watch.at(self.offset)
        return list.__len__(self) > 0

    def __len__(self) -> int:
        self.watch.furthest = _EVERYTHING  # asked often: some templates ask once for each message
        return list.__len__(self)

    def __iter__(self) -> Iterator[Any]:
        self.watch.at(None)
        return list.__iter__(self)

    def __reversed__(self) -> Iterator[Any]:
        self.watch.at(None)
        return list.__reversed__(self)

    def __contains__(self, item: object) -> bool:
        self.watch.at(None)
        return list.__contains__(self, item)

    def __eq__(self, other: object) -> bool:
        self.watch.at(None)
        return list.__eq__(self, other)

    __hash__ = None


class Loop:
    """Jinja's `loop` of one pass."""

    depth, depth0 = 1, 0

    def __init__(self, turns: Watched, k: int, watch: Watch, environment: Environment) -> None:
        self._turns, self._watch, self._environment = turns, watch, environment
        self._count = list.__len__(turns)
        self.index0, self.index, self.first = k, k + 1, k == 0

    @property
    def last(self) -> bool:
        self._watch.at(self._turns.offset + self.index)
        return self.index == self._count

    @property
    def previtem(self) -> Any:
        if self.first:
            return self._environment.undefined("there is no previous item")
        return list.__getitem__(self._turns, self.index0 - 1)

    @property
    def nextitem(self) -> Any:
        if self.last:  # which also tells the watch
            return self._environment.undefined("there is no next item")
        return list.__getitem__(self._turns, self.index)

    @property
    def length(self) -> int:
        self._watch.at(None)
        return self._count

    @property
    def revindex(self) -> int:
        return self.length - self.index0

    @property
    def revindex0(self) -> int:
        return self.length - self.index

    def cycle(self, *items: Any) -> Any:
        return items[self.index0 % len(items)]


def view(value: Watched, shown: Watched) -> Watched:
    """The part of `shown` that `value` is of its own messages."""
    return Watched(list.__getitem__(shown, slice(value.offset, None)), shown.watch, value.offset)
