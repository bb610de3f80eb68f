"""Secrets and personal data out of records before they leave the place where they were made.

A finding is replaced by a placeholder such as `<EMAIL_1>`. The same value gets the same placeholder within one record, in
every field, as a key and in every spelling, so that a trajectory still makes sense: the address that a tool returned is the
address that the next call uses. Numbering starts anew in each record, so nobody can be followed from one record to the next.

What is looked for stands in patterns.yaml, what decides beside a shape in data/contribution/patterns.py, and in which
spellings a text is read in data/contribution/spellings.py: JSON in JSON, Python's repr, percent, HTML entities,
base64, colour codes, zero-width characters.
The placeholder goes into the text as it was written, so that it still decodes. A text with more layers, or
longer, than is read is a finding itself, `UNREAD`. docs/contributing-data.md says what is *not* found: names, addresses,
anything without a shape.

A key and its value are read as the line `key: "value"`, and neighbouring items of a list as one text too, since a secret may
be split over them.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import Any, NamedTuple

from core.errors import UserError
from data.contribution.pattern_checks import Span, changes_of_kind, digits_of
from data.contribution.patterns import Patterns, our_patterns
from data.contribution.record_texts import Reading, Texts, long_readings, number_to_text
from data.contribution.spellings import (
    BETWEEN,
    CUT,
    MAX_DEPTH,
    Encoded,
    View,
    encoded_runs,
    read_all_ways,
    to_plain,
)


class Finding(NamedTuple):
    """A secret or personal datum: `text`, as it reads, stands at [start, end) of the string that was searched."""

    kind: str
    start: int
    end: int
    text: str


Finder = Callable[[str], list[Finding]]

UNREAD = "UNREAD"
"""The kind of a text that holds more layers, or is longer, than is read."""
SHORTEST_KNOWN = 8
"""A shorter secret is not searched for where nothing else gives it away: it may be a part of any word."""
MOST_KNOWN = 200
"""More are not searched for one by one, so that a record made to be slow is not."""

LAST = 1000
"""Behind all patterns in the order in which they name a finding."""


# --- one text ---


@dataclass
class _Hit:
    """A finding in a text. It has several parts where borders of list items lie inside."""

    kind: str
    parts: list[Span]
    secret: str
    """As it reads."""
    rank: int
    whole: int = 0
    quote: str = ""
    """How quotes are spelt that the placeholder needs, where a bare number of JSON text stood."""
    run: Encoded | None = None
    inner: list[_Hit] = field(default_factory=list)
    """What the content of `run` holds; the run is encoded anew then."""
    is_rest: bool = False
    """Whether it began in the item before, and is counted there."""

    @property
    def size(self) -> int:
        return sum(end - start for start, end in self.parts)


@dataclass
class _Search:
    """What to look for.

    `known` are secrets of the record by their text. One that only its context gave away, such as a token behind
    `Bearer`, is found by it where it stands alone. `used` are the numbers of placeholders that the texts hold already.
    """

    patterns: Patterns
    more: Finder | None = None
    known: dict[str, str] = field(default_factory=dict)
    used: Counter[str] = field(default_factory=Counter)
    given_away: dict[str, str] = field(default_factory=dict)
    """What was found by its context, with its kind."""

    def hits(self, text: str, depth: int = 0) -> list[_Hit]:
        """All findings in a text, from left to right, not overlapping."""
        found: list[_Hit] = []
        for hit in self._raw_hits(text, depth):
            if hit.kind == UNREAD:
                return [hit]
            found.append(hit)
        return _merged([hit for hit in found if len(hit.parts) == 1 or _goes_on(hit, found, text)])

    def _raw_hits(self, text: str, depth: int = 0) -> Iterator[_Hit]:
        """Findings in every reading of a text; one may come up many times."""
        seen: set[Span] = set()
        for view in read_all_ways(text, depth):
            if view is None:
                yield _Hit(UNREAD, _without_cuts(text, 0, len(text)), text, -1)
                return
            self._note_placeholders(view.text)
            for rank, kind, start, end, whole in self._places(view.text):
                if parts := _parts(text, view, start, end):
                    # In look-alikes of ASCII characters it is the writer's.
                    secret = (view.text if view.parent else text)[start:end]
                    yield _Hit(kind, parts, secret, rank, whole, _quote(text, view, start, end))
            for run in encoded_runs(view.text):
                parts = _parts(text, view, run.start, run.end)
                if parts and parts[0] not in seen:
                    seen.add(parts[0])
                    yield from self._hits_in_run(run, parts, text, view.depth + 1)

    def _hits_in_run(self, run: Encoded, parts: list[Span], text: str, depth: int) -> Iterator[_Hit]:
        if depth > MAX_DEPTH:
            yield _Hit(UNREAD, _without_cuts(text, 0, len(text)), text, -1)
        elif inner := self.hits(run.content, depth):
            if inner[0].kind == UNREAD:
                yield _Hit(UNREAD, _without_cuts(text, 0, len(text)), text, -1)
                return
            start, end = parts[0]
            can_be_encoded = len(parts) == 1 and text[start:end] == run.spelling and not re.search(r"\s", run.spelling)
            # What the run itself is, such as a password, goes first.
            yield _Hit(inner[0].kind, parts, inner[0].secret, LAST, run=run if can_be_encoded else None, inner=inner)

    def _places(self, text: str) -> Iterator[tuple[int, str, int, int, int]]:
        for rank, pattern, start, end in self.patterns.spans(text):
            if _OWN_PLACEHOLDER.search(text, start, end) is None and text.find(BETWEEN, start, end) < 0:
                if pattern.by_name and end - start >= SHORTEST_KNOWN:
                    self.given_away.setdefault(text[start:end], pattern.kind)
                yield rank, pattern.kind, start, end, pattern.whole
        for kind, start, end, _ in self.more(text) if self.more else ():
            yield LAST, kind, start, end, 0
        for secret, kind in self.known.items():
            at = text.find(secret)
            while at >= 0:
                yield LAST, kind, at, at + len(secret), 0
                at = text.find(secret, at + len(secret))

    def _note_placeholders(self, text: str) -> None:
        if "_" in text and ">" in text:
            for kind, number in _OWN_PLACEHOLDER.findall(text):
                self.used[kind] = max(self.used[kind], int(number))


_OWN_PLACEHOLDER = re.compile(r"<([A-Z_]+)_(\d{1,9})>")


def _parts(text: str, view: View, start: int, end: int) -> list[Span]:
    return [part for span in view.spans(start, end) for part in _without_cuts(text, *span)]


def _without_cuts(text: str, start: int, end: int) -> list[Span]:
    """The spans between the borders of list items in [start, end)."""
    if CUT not in text:
        return [(start, end)]
    parts = []
    for piece in text[start:end].split(CUT):
        if piece:
            parts.append((start, start + len(piece)))
        start += len(piece) + 1
    return parts


_BARE_BEFORE = re.compile(r'(?:"\s*:|[\[,])\s*-?$')
_BARE_AFTER = re.compile(r"\s*[,}\]]")
_BARE = re.compile(r"\d[\d.]*")


def _quote(text: str, view: View, start: int, end: int) -> str:
    """The spelling of a quote where the finding is a bare number of JSON text; else nothing."""
    if not (
        _BARE.fullmatch(view.text, start, end)
        and _BARE_AFTER.match(view.text, end)
        and _BARE_BEFORE.search(view.text[max(0, start - 16) : start])
    ):
        return ""
    at = view.text.rfind('"', 0, start)
    if at < 0:
        return '"'
    ((first, last),) = view.spans(at, at + 1) or [(0, 0)]
    return text[first:last] or '"'


_COMMON_DOMAINS = {"com", "net", "org", "edu", "gov", "info", "biz", "dev", "app", "example", "test", "io", "ai"}


def _goes_on(hit: _Hit, found: list[_Hit], text: str) -> bool:
    """Whether a finding that reaches over the border of two list items is one, or two items stand side by side by chance.

    It is one unless the first part is whole by itself, and the rest may be anything else.
    """
    (start, end), (rest_start, rest_end) = hit.parts[:2]
    alone = [other for other in found if len(other.parts) == 1]
    if len(hit.parts) == 2 and any(other.parts[0][0] == rest_start for other in alone):
        return hit.kind == "EMAIL" and text[rest_start] in "._%+-"
    left = [other for other in alone if other.parts[0][1] == end and other.parts[0][0] <= start]
    rest = text[rest_start:rest_end]
    if not left and hit.kind == "PASSWORD":
        return len(rest) < 3 or re.search(r"[\d!@#$%^&*+=?~]", rest) is not None
    if not left:
        # An end of a domain that nobody has: x@2x.png and the next item.
        end_of_domain = hit.secret.rpartition(".")[2].lower()
        is_cut_there = "." not in text[slice(*hit.parts[-1])]
        return hit.kind != "EMAIL" or not is_cut_there or end_of_domain in _COMMON_DOMAINS or len(end_of_domain) == 2
    if hit.kind == "EMAIL":
        before, after = (text[a:b].rpartition(".")[2].lower() for a, b in (left[0].parts[0], hit.parts[-1]))
        return before not in _COMMON_DOMAINS and len(before) > 2 and (after in _COMMON_DOMAINS or len(after) == 2)
    if hit.kind == "PHONE":
        return False
    if not re.search("[A-Za-z]", rest):
        return hit.kind != "COOKIE"
    if hit.whole > end - start:
        return re.fullmatch("[A-Za-z]?[a-z]*", rest) is None or hit.kind == "PRIVATE_KEY"
    return len(rest) >= 6 and re.search(r"\d", rest) is not None and changes_of_kind(rest) >= 0.3 * len(rest)


def _merged(found: list[_Hit]) -> list[_Hit]:
    """One hit for all that overlap: their whole span, and the kind and secret of the longest, so that none is cut."""
    spans = sorted((start, end, index) for index, hit in enumerate(found) for start, end in hit.parts)
    group_of = list(range(len(found)))

    def root(index: int) -> int:
        while group_of[index] != index:
            index = group_of[index]
        return index

    reach, last = -1, 0
    for start, end, index in spans:
        if start < reach:
            group_of[root(index)] = root(last)
        if end > reach:
            reach, last = end, index
    groups: dict[int, list[_Hit]] = {}
    for index, hit in enumerate(found):
        groups.setdefault(root(index), []).append(hit)
    merged = []
    for group in groups.values():
        best = min(group, key=lambda hit: (-hit.size, hit.rank, -len(hit.secret)))
        parts: list[Span] = []
        for start, end in sorted(span for hit in group for span in hit.parts):
            if parts and start < parts[-1][1]:
                parts[-1] = (parts[-1][0], max(end, parts[-1][1]))
            else:
                parts.append((start, end))
        run = best.run if parts == best.parts and all(hit.run is not None for hit in group) else None
        quote = best.quote if parts == best.parts else ""
        inner = best.inner if run else []
        is_rest = all(hit.is_rest for hit in group)
        merged.append(_Hit(best.kind, parts, best.secret, best.rank, best.whole, quote, run, inner, is_rest))
    return sorted(merged, key=lambda hit: hit.parts)


# --- one record ---


class _Redactor:
    """The placeholders of one record."""

    def __init__(self, search: _Search, placeholders: dict[tuple[str, str], str]) -> None:
        self.found: list[Finding] = []
        self._search = search
        self._placeholders = placeholders
        self._at = 0
        self._hits: list[list[_Hit]] = []

    def redact(self, value: Any, texts: Texts) -> Any:
        """The value with placeholders; `found` says what they stand for."""
        by_text: list[list[_Hit]] = [[] for _ in texts.texts]
        readings = list(long_readings(texts))
        for reading in readings:
            self._search_reading(self._search, reading, texts, by_text)
        if self._search.given_away:
            known = dict(sorted(self._search.given_away.items(), key=lambda item: -len(item[0]))[:MOST_KNOWN])
            search = _Search(Patterns(()), known=known)
            for reading in readings:
                self._search_reading(search, reading, texts, by_text)
        if not any(by_text):
            return value
        self._hits = [_merged(hits) if len(hits) > 1 else hits for hits in by_text]
        return self._value(value)

    def _search_reading(self, search: _Search, reading: Reading, texts: Texts, by_text: list[list[_Hit]]) -> None:
        words = [texts.text_of(part) for part in reading]
        hits = search.hits("".join(words))
        if not hits:
            return
        if hits[0].kind == UNREAD and BETWEEN in reading:
            # Which of its texts it is, each says by itself.
            for _, parts in groupby(reading, lambda part: part == BETWEEN):
                self._search_reading(search, list(parts), texts, by_text)
            return
        starts = [0, *accumulate(map(len, words))]
        for hit in hits:
            is_rest = False
            for number in range(bisect_right(starts, hit.parts[0][0]) - 1, bisect_left(starts, hit.parts[-1][1])):
                part, at, end = reading[number], starts[number], starts[number + 1]
                spans = [(max(a, at) - at, min(b, end) - at) for a, b in hit.parts if a < end and at < b]
                if spans and isinstance(part, int):
                    is_whole = spans == [(a - at, b - at) for a, b in hit.parts]
                    run, inner = (hit.run, hit.inner) if is_whole else (None, [])
                    by_text[part].append(
                        _Hit(hit.kind, spans, hit.secret, hit.rank, hit.whole, hit.quote, run, inner, is_rest)
                    )
                    is_rest = True

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._next_text(value)
        if isinstance(value, dict):
            redacted: dict[str, Any] = {}
            for name, inner in value.items():
                key = self._next_text(name)
                while key in redacted:  # two spellings of one address
                    key += "_"
                redacted[key] = self._value(inner)
            return redacted
        if isinstance(value, list):
            return [self._value(inner) for inner in value]
        if (number := number_to_text(value)) is not None:
            hits = self._hits[self._at]
            self._at += 1
            return self._written(number, hits) if [(0, len(number))] in [hit.parts for hit in hits] else value
        return value

    def _next_text(self, text: str) -> str:
        hits = self._hits[self._at]
        self._at += 1
        if not hits:
            return text
        if hits[0].kind == UNREAD:
            return self._written(text, hits)
        before = len(self.found)
        written = self._written(text, hits)
        if text.lstrip()[:1] in ("{", "[", '"') and _is_json(text) and not _is_json(written):
            # A finding took some of JSON's own signs: what the text says is written anew.
            value = json.loads(text)
            texts = Texts()
            texts.add(value)
            inner = _Redactor(self._search, self._placeholders)
            said = inner.redact(value, texts)
            self.found[before:] = inner.found
            return json.dumps(said, ensure_ascii=False)
        return written

    def _written(self, text: str, hits: list[_Hit]) -> str:
        parts, at = [], 0
        spans = sorted((start, end, index) for index, hit in enumerate(hits) for start, end in hit.parts)
        for start, end, index in spans:
            parts += [text[at:start], self._replacement(hits[index], start, end)]
            at = end
        return "".join([*parts, text[at:]])

    def _replacement(self, hit: _Hit, start: int, end: int) -> str:
        if hit.run is not None:
            before = len(self.found)
            content = self._written(hit.run.content, hit.inner)
            self.found[before:] = [Finding(f.kind, start, end, f.text) for f in self.found[before:]]
            return hit.run.encode(content)
        if hit.parts[0][0] == start and not hit.is_rest:
            self.found.append(Finding(hit.kind, start, end, hit.secret))
        return f"{hit.quote}{self._placeholder(hit)}{hit.quote}"

    def _placeholder(self, hit: _Hit) -> str:
        plain = to_plain(hit.secret)
        if hit.kind in ("PHONE", "CARD", "RESIDENT_NUMBER", "ACCOUNT_NUMBER", "BUSINESS_NUMBER", "CORPORATE_NUMBER"):
            plain = digits_of(plain)
        if hit.kind == "PHONE":  # +82 10 and 010 are one number
            plain = re.sub(r"^(?:00)?820?(?=[1-9]\d{7})", "0", plain)
        if hit.kind in ("PRIVATE_KEY", "IBAN"):
            plain = re.sub(r"\\[nr]|[\s-]", "", plain)
        key = (hit.kind, plain.lower() if hit.kind == "EMAIL" else plain)
        if key not in self._placeholders:
            # Numbers that an earlier redaction, or the writer, has used already are not given to somebody else.
            self._search.used[hit.kind] += 1
            self._placeholders[key] = f"<{hit.kind}_{self._search.used[hit.kind]}>"
        return self._placeholders[key]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


class Redaction:
    """The redaction of a record that grows: a value has the same placeholder in all parts of it, whenever they come."""

    def __init__(self, *, patterns: Patterns | None = None, more: Finder | None = None) -> None:
        """`patterns` are ours where nothing is said; `more` searches beside them."""
        self._search = _Search(our_patterns() if patterns is None else patterns, more)
        self._placeholders: dict[tuple[str, str], str] = {}

    def copy(self) -> Redaction:
        """Another one, for a record that begins as this one does."""
        other = Redaction(patterns=self._search.patterns, more=self._search.more)
        other._search.known = dict(self._search.known)
        other._search.used = Counter(self._search.used)
        other._search.given_away = dict(self._search.given_away)
        other._placeholders = dict(self._placeholders)
        return other

    @property
    def given_away(self) -> list[str]:
        """Secrets that only what stood beside them gave away, and that are looked for wherever they stand."""
        return list(self._search.given_away)

    def know(self, secret: str, kind: str) -> None:
        """Look for a secret that nothing in the record gives away."""
        self._search.given_away.setdefault(secret, kind)

    def redact(self, value: Any) -> tuple[Any, list[Finding]]:
        """A part of the record, a JSON value, with placeholders in the place of findings, and the findings.

        The value itself comes back, unchanged, when there are none. Places in the findings are those within each string.

        Raises:
            SearchTookTooLong: where a pattern of the user's own does.
        """
        texts = Texts()
        texts.add(value)
        redactor = _Redactor(self._search, self._placeholders)
        redacted = redactor.redact(value, texts)
        return (redacted, redactor.found) if redactor.found else (value, [])


def redact_value(
    value: Any, *, patterns: Patterns | None = None, more: Finder | None = None
) -> tuple[Any, list[Finding]]:
    """`Redaction.redact` of a record that is there as a whole. `more` is for example `detect_secrets_finder()`.

    Raises:
        SearchTookTooLong: where a pattern of the user's own does.
    """
    return Redaction(patterns=patterns, more=more).redact(value)


def redact_text(text: str) -> str:
    """A text with placeholders in the place of findings."""
    return str(redact_value(text)[0])


def findings(text: str) -> list[Finding]:
    """Secrets and personal data in a text, from left to right, not overlapping."""
    return redact_value(text)[1]


# --- the command ---


def detect_secrets_finder() -> Finder:
    """The detectors of the package detect-secrets as a finder: Azure, Discord, SendGrid, Telegram, Twilio and others.

    Its guesses by entropy and by keyword are left out: they take hashes and words for secrets.

    Raises:
        UserError: if the package is not installed.
    """
    try:
        from detect_secrets.core.plugins.util import (  # noqa: PLC0415 - an extra
            get_mapping_from_secret_type_to_class,
        )
    except ModuleNotFoundError:
        raise UserError("--detect-secrets: the package is missing: pip install 'tooltune[redaction]'") from None
    guesses = {"Base64HighEntropyString", "HexHighEntropyString", "KeywordDetector", "IPPublicDetector"}
    by_name: dict[str, Any] = get_mapping_from_secret_type_to_class()
    detectors = [
        (re.sub(r"[^A-Z]+", "_", name.upper()).strip("_"), detector())
        for name, detector in by_name.items()
        if detector.__name__ not in guesses
    ]

    def find(text: str) -> list[Finding]:
        return [
            Finding(kind, match.start(), match.end(), secret)
            for kind, detector in detectors
            for secret in set(detector.analyze_string(text))
            if secret
            for match in re.finditer(re.escape(secret), text)
        ]

    return find


def describe_findings(found: list[Finding]) -> str:
    """`2 EMAIL, 1 HF_TOKEN`: kinds and counts, never what was found."""
    return ", ".join(f"{count} {kind}" for kind, count in Counter(finding.kind for finding in found).most_common())
