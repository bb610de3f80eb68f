"""Every text of a record, and how it is read: alone, behind its key, joined to its neighbours in a list."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from data.contribution.spellings import (
    BETWEEN,
    CUT,
    MAX_CHARACTERS,
)

_TELLING = re.compile(
    r"pass|pwd|secret|key|token|auth|cookie|sess|cred|phone|tel|mobile|fax|account|acct|licen|business|ssn|social|naver|kakao"
    r"|ncp|brn|bank|비밀|암호|비번|패스워드|전화|연락처|휴대|핸드폰|팩스|계좌|은행|여권|면허|사업자|법인|주민|pin",
    re.IGNORECASE,
)


_NAME_KEYS, _VALUE_KEYS = ("name", "key", "header", "field", "variable", "label"), ("value", "val", "content", "text")


@lru_cache(4096)
def is_telling(key: str) -> bool:
    return len(key) < 64 and _TELLING.search(key) is not None


Reading = list[int | str]
"""Places of texts in `Texts.texts`, and words beside them that stand in no text."""


@dataclass
class Texts:
    """Every text of a JSON value, and how they are read: alone, behind their key, joined to their neighbours in a list."""

    texts: list[str] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    _alone: dict[int, int] = field(default_factory=dict)

    def add(self, value: Any, key: str | None = None) -> dict[tuple[int | str, ...], int]:
        """Add a value's texts; returns the place of each by its path, less those that a list below has joined."""
        if isinstance(value, str):
            return {(): self._add_text(value, key)}
        if (number := number_to_text(value)) is not None:
            self._add_text(number, key, quoted=False)
            return {}
        paths: dict[tuple[int | str, ...], int] = {}
        if isinstance(value, dict):
            named = next((value[name] for name in _NAME_KEYS if isinstance(value.get(name), str)), None)
            for name, inner in value.items():
                if _IS_NAME.fullmatch(name):
                    self.texts.append(name)
                else:
                    self._add_text(name, None)
                label = named if named is not None and name in _VALUE_KEYS and is_telling(named) else name
                for path, place in self.add(inner, label).items():
                    paths[(name, *path)] = place
        elif isinstance(value, list):
            items = [self.add(inner, key) for inner in value]
            if len(items) == 1:
                return {(0, *path): place for path, place in items[0].items()}
            columns: dict[tuple[int | str, ...], list[int]] = {}
            for item in items:
                for path, place in item.items():
                    columns.setdefault(path, []).append(place)
            for column in columns.values():
                self._join(column)
        return paths

    def _add_text(self, text: str, key: str | None, *, quoted: bool = True) -> int:
        self.texts.append(text)
        place = len(self.texts) - 1
        if key is None or not is_telling(key):
            self._alone[place] = len(self.readings)
            self.readings.append([place])
        elif quoted and not re.search(r"[\"\n\\]", text):
            self.readings.append([f'{key}: "', place, '"'])
        else:
            self.readings.append([f"{key}: ", place])
        return place

    def _join(self, column: list[int]) -> None:
        """Read neighbours as one text, as long as something could go on over each border."""
        joined: Reading = []
        size = 0
        for place in column:
            text = self.texts[place]
            if joined and (_CAN_START.match(text) is None or size + len(text) > MAX_CHARACTERS):
                self._add_reading(joined)
                joined, size = [], 0
            joined += [CUT, place] if joined else [place]
            size += len(text) + 1
            if _CAN_END.search(text[-40:]) is None:
                self._add_reading(joined)
                joined, size = [], 0
        self._add_reading(joined)

    def _add_reading(self, joined: Reading) -> None:
        if len(joined) > 1:
            self.readings.append(joined)
            for place in joined:
                if isinstance(place, int) and place in self._alone:
                    self.readings[self._alone[place]] = []

    def text_of(self, part: int | str) -> str:
        return part if isinstance(part, str) else self.texts[part]


_IS_NAME = re.compile("[A-Za-z_]{1,24}")
"""A key that holds nothing, and need not be read."""
_CAN_START = re.compile(r"\s*[^\s\"'`{}\[\]<>,;!?]")
_CAN_END = re.compile(r"[^\s\"'`{}\[\]<>,;!?]\s*$")


def number_to_text(value: Any) -> str | None:
    """A number that is long enough for a card's or an account's."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 10**17:
        value = int(value)
    is_long = isinstance(value, int) and not isinstance(value, bool) and 10**8 < abs(value) < 10**20
    return str(value) if is_long else None


def long_readings(texts: Texts) -> Iterator[Reading]:
    """All readings of a record in few long ones, so that one without findings is searched once.

    Those of joined items come last, because a text with borders is read in more than one way.
    """
    long: Reading = []
    size, has_cuts = 0, False
    readings = [reading for reading in texts.readings if reading]
    readings.sort(key=lambda reading: CUT in reading)
    for reading in readings:
        length = sum(map(len, map(texts.text_of, reading)))
        if long and (size + length > MAX_CHARACTERS or (CUT in reading and not has_cuts)):
            yield long
            long, size = [], 0
        has_cuts = CUT in reading
        if long:
            long.append(BETWEEN)
        long += reading
        size += length + len(BETWEEN)
    if long:
        yield long
