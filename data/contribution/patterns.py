"""The patterns of secrets and personal data, read from patterns.yaml or from a file of the user's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from core.config import read_config
from core.errors import UserError, nearest
from data.contribution.pattern_checks import CHECKS, Check, Span

SECONDS_FOR_A_PATTERN = 1.0
"""How long a search with a pattern of the user's own may take."""


# --- the file ---


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    regex: str
    hints: list[str] = []
    near: tuple[int, int] | None = None
    anywhere: bool = False
    ignore_case: bool = False
    unicode: bool = False
    check: str | None = None
    whole: int = 0
    by_name: bool = False
    setting: str | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    patterns: list[_Entry]
    shapes: dict[str, str] = {}
    fragments: dict[str, str] = {}


class SearchTookTooLong(Exception):
    """A pattern of the user's own ran longer than `SECONDS_FOR_A_PATTERN` on one text."""


@dataclass(frozen=True)
class Pattern:
    """One entry of patterns.yaml, which says what the fields mean."""

    kind: str
    hints: tuple[str, ...]
    shapes: tuple[re.Pattern[str], ...]
    expression: Any
    """A `re.Pattern`, or for one of the user's own a pattern of the package regex, which knows time limits."""
    check: Check | None = None
    near: tuple[int, int] | None = None
    anywhere: bool = False
    whole: int = 0
    by_name: bool = False
    has_time_limit: bool = False

    def matches(self, text: str, spans: list[Span]) -> Iterator[Any]:
        """All matches, where the hints and shapes stand at `spans`.

        Raises:
            SearchTookTooLong: for a pattern of the user's own.
        """
        if self.has_time_limit:
            yield from self._matches_in_time(text)
        elif self.anywhere or not (self.hints or self.shapes):
            yield from self.expression.finditer(text)
        elif self.shapes or self.near is not None:
            yield from self._matches_around(text, spans, self.near or _AROUND_SHAPES)
        else:
            for start, _ in spans:
                if (match := self.expression.match(text, start)) is not None:
                    yield match

    def _matches_around(self, text: str, spans: list[Span], around: Span) -> Iterator[Any]:
        before, after = around
        windows: list[Span] = []
        for start, end in sorted(spans):
            if windows and start - before <= windows[-1][1]:
                windows[-1] = (windows[-1][0], max(windows[-1][1], end + after))
            else:
                windows.append((max(0, start - before), end + after))
        for start, end in windows:
            for match in self.expression.finditer(text, start, end):
                if end < len(text) and max(match.end(), _hit(match)[1]) > end - 4:
                    # It may go on behind the window.
                    match = self.expression.match(text, match.start())
                if match is not None:
                    yield match

    def _matches_in_time(self, text: str) -> Iterator[Any]:
        try:
            yield from self.expression.finditer(text, timeout=SECONDS_FOR_A_PATTERN)
        except TimeoutError:
            message = f"the pattern for {self.kind} took longer than {SECONDS_FOR_A_PATTERN:g} s"
            raise SearchTookTooLong(message) from None


class Patterns:
    """Many patterns that are tried on one text together, so that each hint is looked up once."""

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self._patterns = tuple(patterns)
        self._ranks_of_hint: dict[str, list[int]] = {}
        self._ranks_of_shape: dict[re.Pattern[str], list[int]] = {}
        self._always: list[int] = []
        for rank, pattern in enumerate(self._patterns):
            for hint in pattern.hints:
                self._ranks_of_hint.setdefault(hint, []).append(rank)
            for shape in pattern.shapes:
                self._ranks_of_shape.setdefault(shape, []).append(rank)
            if not pattern.hints and not pattern.shapes:
                self._always.append(rank)

    def __len__(self) -> int:
        return len(self._patterns)

    def __add__(self, more: Iterable[Pattern]) -> Patterns:
        return Patterns([*self._patterns, *more])

    def spans(self, text: str) -> Iterator[tuple[int, Pattern, int, int]]:
        """(rank, pattern, start, end) of what stands in the text; the same place may come up twice.

        Raises:
            SearchTookTooLong: for a pattern of the user's own.
        """
        for rank, spans in sorted(self._spans_of_hints(text).items()):
            pattern = self._patterns[rank]
            for match in pattern.matches(text, spans):
                start, end = _hit(match)
                span = (start, end) if pattern.check is None else pattern.check(match, start, end)
                if span is not None and span[0] < span[1]:
                    yield rank, pattern, *span

    def _spans_of_hints(self, text: str) -> dict[int, list[Span]]:
        """Which patterns are worth trying, and where their hints stand."""
        lowered = text.lower()
        if len(lowered) != len(text):  # a few capitals are two small letters
            lowered = "".join(small if len(small := character.lower()) == 1 else character for character in text)
        found: dict[int, list[Span]] = {rank: [] for rank in self._always}
        for hint, ranks in self._ranks_of_hint.items():
            at = lowered.find(hint)
            if at < 0:
                continue
            spans = []
            while at >= 0:
                spans.append((at, at + len(hint)))
                at = lowered.find(hint, at + 1)
            for rank in ranks:
                found.setdefault(rank, []).extend(spans)
        for shape, ranks in self._ranks_of_shape.items():
            if spans := [match.span() for match in shape.finditer(text)]:
                for rank in ranks:
                    found.setdefault(rank, []).extend(spans)
        return found


_AROUND_SHAPES = (64, 48)


def _hit(match: Any) -> Span:
    """The span of the group hit, hit2, ... that matched, or of the whole match."""
    for name in match.re.groupindex:
        if name.startswith("hit") and match.start(name) >= 0:
            return match.span(name)
    return match.span()


def _with_fragments(text: str, fragments: dict[str, str]) -> str:
    while (name := re.search(r"<<(\w+)>>", text)) is not None:
        text = text.replace(name[0], "".join(fragments[name[1]].splitlines()))
    return text


@lru_cache(1)
def _all_patterns() -> list[tuple[Pattern, str | None]]:
    file = read_config(Path(__file__).with_name("patterns.yaml"), _File)
    shapes = {name: re.compile(shape, re.ASCII) for name, shape in file.shapes.items()}
    patterns = []
    for entry in file.patterns:
        flags = re.IGNORECASE * entry.ignore_case | (re.UNICODE if entry.unicode else re.ASCII)
        pattern = Pattern(
            entry.kind,
            tuple(hint for hint in entry.hints if hint not in shapes),
            tuple(shapes[hint] for hint in entry.hints if hint in shapes),
            re.compile(_with_fragments("".join(entry.regex.splitlines()), file.fragments), flags),
            CHECKS[entry.check] if entry.check else None,
            entry.near,
            entry.anywhere,
            entry.whole,
            entry.by_name,
        )
        patterns.append((pattern, entry.setting))
    return patterns


@lru_cache(2)
def our_patterns(*, ip_addresses: bool = False) -> Patterns:
    """The patterns of patterns.yaml, the most telling first."""
    return Patterns(pattern for pattern, setting in _all_patterns() if setting is None or ip_addresses)


def read_patterns(path: Path) -> list[Pattern]:
    """A user's own patterns.

    Raises:
        UserError: naming the file, and the pattern that is none.
    """
    import regex  # noqa: PLC0415 - has time limits, and only own patterns need them

    patterns = []
    for entry in read_config(path, _File).patterns:
        if not re.fullmatch(r"[A-Z][A-Z_]{0,39}", entry.kind):
            raise UserError(f"{path}: kind {entry.kind!r} is not made of capital letters and _, such as STAFF_NUMBER")
        if entry.check is not None and entry.check not in CHECKS:
            raise UserError(f"{path}: {entry.kind}: check {entry.check!r} is unknown.{nearest(entry.check, CHECKS)}")
        flags = regex.IGNORECASE * entry.ignore_case | (regex.UNICODE if entry.unicode else regex.ASCII)
        try:
            expression = regex.compile(entry.regex, flags)
        except regex.error as error:
            raise UserError(f"{path}: {entry.kind}: not a regular expression: {error}") from None
        hints = tuple(hint.lower() for hint in entry.hints)
        check = CHECKS[entry.check] if entry.check else None
        patterns.append(Pattern(entry.kind, hints, (), expression, check, has_time_limit=True))
    return patterns
