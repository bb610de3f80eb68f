"""Secrets and personal data out of records before they leave the place where they were made.

A finding is replaced by a placeholder such as `<EMAIL_1>`. The same value gets the same placeholder within one record,
in every field, as a key and inside JSON text, so that a trajectory still makes sense: the address that a tool returned
is the address that the next call uses. Numbering starts anew in each record, so nobody can be followed from one record
to the next.

What is found: tokens by the shape that their issuer documents (Hugging Face, OpenAI, Anthropic, GitHub, GitLab, Slack,
Google, Stripe, npm, PyPI, AWS), private keys in PEM, JSON Web Tokens (RFC 7519), Bearer and Basic credentials, passwords
in URLs and in assignments, e-mail addresses, Korean and international phone numbers, Korean resident registration
numbers, card numbers with a valid check digit (Luhn, ISO/IEC 7812). docs/contributing-data.md says what is *not* found:
names, addresses, anything without a shape.

Patterns are narrow on purpose. Times, hashes, UUIDs, versions, prices and most order numbers have neighbours, lengths or
check digits that rule them out (`tests/test_redaction.py` holds a list). Where a leak and a false alarm cannot be told
apart, as for `900101-1234567`, it is taken for a leak.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from data.errors import UserError
from data.files import whole_result
from data.output import print_table, save_counts
from data.progress import with_progress
from data.records import json_line_to_object


class Finding(NamedTuple):
    """A secret or personal datum: `text` stands at [start, end) of the string that was searched."""

    kind: str
    start: int
    end: int
    text: str


Finder = Callable[[str], list[Finding]]


@dataclass(frozen=True)
class _Pattern:
    kind: str
    hints: tuple[str, ...]
    """Lower-case literals, one of which must stand in the text before the expression is tried; `_DIGITS` is a shape."""
    expression: re.Pattern[str]
    """Where it has a group `hit`, only that part is the finding."""
    is_real: Callable[[str], bool] = lambda _: True


_DIGITS = "nine digits"
_NINE_DIGITS = re.compile(r"(?:\d[ ().-]{0,3}){8}\d")

# One character for one, so that places stay right: full-width forms, and the many dashes and blanks of word processors.
_PLAIN = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_PLAIN |= dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2013, 0x2014, 0x2212, 0x30FC), ord("-"))
_PLAIN |= dict.fromkeys((0x00A0, 0x2007, 0x202F, 0x3000), ord(" "))


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdigit())


def _passes_luhn(number: str) -> bool:
    """The check digit of ISO/IEC 7812: every second digit from the right is doubled, the digits sum to a multiple of 10."""
    doubled = [2 * int(digit) if place % 2 else int(digit) for place, digit in enumerate(reversed(number))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


_CARD_PREFIX = re.compile(
    r"(?:4|5[1-5]|35|6011|64[4-9]|65|62|222[1-9]|22[3-9]|2[3-6]|27[01]|2720)\d*"  # 16 digits
)


def _is_card(text: str) -> bool:
    number = _digits(text)
    if len(set(number)) == 1 or not _passes_luhn(number):
        return False
    if number != text:  # written in groups: the grouping says that it is a card, Korean ones with 9 in front too
        return number[0] in "234569"
    if len(number) == 15:
        return number[:2] in ("34", "37")
    return len(number) == 16 and _CARD_PREFIX.fullmatch(number) is not None


def _resident_number_is_dated(number: str) -> bool:
    """Whether the first six digits are a birthday of the century that the seventh digit names."""
    century = {"1": 1900, "2": 1900, "5": 1900, "6": 1900, "3": 2000, "4": 2000, "7": 2000, "8": 2000}[number[6]]
    try:
        birthday = date(century + int(number[:2]), int(number[2:4]), int(number[4:6]))
    except ValueError:
        return False
    return 1920 <= birthday.year < 2040  # Korean barcodes start with 880, milliseconds with 1[5-9]


def _resident_number_checks(number: str) -> bool:
    weights = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)
    total = sum(weight * int(digit) for weight, digit in zip(weights, number, strict=False))
    # Foreigners' numbers (5 to 8) end in a digit that is 2 further.
    return (11 - total % 11 + (2 if number[6] in "5678" else 0)) % 10 == int(number[12])


def _is_resident_number(text: str) -> bool:
    # The last digits are random since October 2020, so a hyphen and a birthday are enough. Thirteen digits alone are more
    # often milliseconds, so there the check digit decides.
    number = _digits(text)
    return _resident_number_is_dated(number) and (number != text or _resident_number_checks(number))


def _is_email(text: str) -> bool:
    local, _, domain = text.rpartition("@")
    # git@host is an account of a program; picture@2x.png and x@y.shape are no addresses.
    not_domains = r"(?:png|jpe?g|gif|svg|webp|pdf|json|py|js|ts|shape|sum|mean|dot|reshape|transpose|size|dtype)"
    last = domain.rpartition(".")[2]
    return local.lower() != "git" and not re.fullmatch(not_domains, last, re.IGNORECASE) and ".." not in domain


def _has_nine_to_fifteen_digits(text: str) -> bool:
    return 9 <= len(_digits(text)) <= 15


def _mixes_letters_and_digits(text: str) -> bool:
    return bool(re.search(r"[A-Za-z]", text) and re.search(r"\d", text))


def _is_bearer(text: str) -> bool:
    return _mixes_letters_and_digits(text) or len(text) >= 32


def _is_password(text: str) -> bool:
    """Told from words such as `required` by what a password policy asks for: a letter, and a digit or a sign."""
    if re.fullmatch(r"[<${\[*].*|.*\(\)?", text):  # a placeholder, a variable, stars, a call
        return False
    return bool(re.search(r"[^\W\d_]", text) and re.search(r"[\d!@#$%^&*+=?~]", text))


def _is_random(text: str) -> bool:
    """Forty characters of base64 that nobody would write: all kinds of characters, changing all the time."""
    kinds = ["u" if c.isupper() else "l" if c.islower() else "d" if c.isdigit() else "" for c in text]
    changes = sum(a != b for a, b in pairwise(kinds) if a and b)
    return {"u", "l", "d"} <= set(kinds) and changes >= 10


# A number's neighbours: no letter or digit, no digit behind a hyphen or a point. Korean particles may stand there.
_BEFORE = r"(?<![A-Za-z0-9])(?<!\d[-.])"
_AFTER = r"(?![A-Za-z0-9])(?![-.]\d)"
_NO_WORD_BEFORE = r"(?<![A-Za-z0-9_-])"
_SECRET_NAME = (
    r"(?:pass(?:word|wd|phrase)?|pwd|secret(?:[_-]?(?:access)?[_-]?key)?|(?:api|access|private|account|auth)[_-]?key"
    r"|(?:access|auth|refresh|api|session|bearer|id)[_-]?token|비밀번호|패스워드|암호|비번)"
)
_SECRET_KEY = re.compile(rf"(?:.*[_\-. ])?{_SECRET_NAME}", re.IGNORECASE)
_SECRET_HINTS = ("pass", "pwd", "secret", "key", "token", "비밀번호", "패스워드", "암호", "비번")
_KOREA = r"(?:(?:\+|00)82[-. ]?|82[-. ])(?:\(0\)|0)?"
_AREA = r"(?:2|3[1-3]|4[1-4]|5[1-5]|6[1-4]|70|80|50\d)"


def _compiled(expression: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    # ASCII, so that a Korean particle right behind a token is no part of it.
    return re.compile(expression, re.ASCII | (re.IGNORECASE if ignore_case else 0))


# The first that matches a place has it.
_PATTERNS = (
    _Pattern(
        "PRIVATE_KEY",
        ("private key",),
        # The line breaks may be the two characters \\n of JSON text, and the end may be missing.
        _compiled(
            r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:"
            r"(?:(?!-----)[A-Za-z0-9+/=\s\\:,.()-])*-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
            r"|(?:(?:\s|\\[nr])*[A-Za-z0-9+/=]{12,})*)"
        ),
    ),
    _Pattern("JWT", ("eyj",), _compiled(r"(?<![A-Za-z0-9_])eyJ[\w-]{6,}\.eyJ[\w-]{4,}(?:\.[\w-]*){0,3}")),
    _Pattern("HF_TOKEN", ("hf_", "api_org_"), _compiled(_NO_WORD_BEFORE + r"(?:hf|api_org)_[A-Za-z0-9]{16,}")),
    _Pattern("ANTHROPIC_KEY", ("sk-ant-",), _compiled(_NO_WORD_BEFORE + r"sk-ant-[\w-]{16,}", ignore_case=False)),
    _Pattern(
        "API_KEY",
        ("sk-",),
        _compiled(
            _NO_WORD_BEFORE + r"sk-(?:(?:proj|svcacct|admin|or-v1)-[\w-]{20,}"
            r"|(?:[A-Za-z0-9]{1,12}-){0,3}(?=\w{0,200}\d)\w{16,}[\w-]*)"
        ),
    ),
    _Pattern(
        "GITHUB_TOKEN",
        ("gh", "github_pat_"),
        _compiled(_NO_WORD_BEFORE + r"(?:gh[opusr]_[A-Za-z0-9_]{16,}|github_pat_\w{20,})"),
    ),
    _Pattern("GITLAB_TOKEN", ("glpat-",), _compiled(_NO_WORD_BEFORE + r"glpat-[\w-]{16,}")),
    _Pattern(
        "SLACK_TOKEN",
        ("xox", "xapp-", "hooks.slack.com"),
        _compiled(
            _NO_WORD_BEFORE + r"(?:xox[a-z]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,})"
            r"|hooks\.slack\.com/services/(?P<hit>T\w+/B\w+/\w+)"
        ),
    ),
    _Pattern("GOOGLE_KEY", ("aiza", "ya29."), _compiled(_NO_WORD_BEFORE + r"(?:AIza[\w-]{35}|ya29\.[\w-]{20,})")),
    _Pattern(
        "STRIPE_KEY", ("k_live_", "k_test_"), _compiled(_NO_WORD_BEFORE + r"[rsp]k_(?:live|test)_[A-Za-z0-9]{16,}")
    ),
    _Pattern("NPM_TOKEN", ("npm_",), _compiled(_NO_WORD_BEFORE + r"npm_[A-Za-z0-9]{36}")),
    _Pattern("PYPI_TOKEN", ("pypi-",), _compiled(_NO_WORD_BEFORE + r"pypi-AgE[\w-]{40,}")),
    _Pattern("AWS_KEY_ID", ("akia", "asia"), _compiled(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])")),
    _Pattern(
        "AWS_SECRET",
        ("akia", "asia", "aws", "secret", "key"),
        _compiled(r"(?<![A-Za-z0-9/+_-])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=_-])"),
        _is_random,
    ),
    _Pattern(
        "BEARER",
        ("bearer",),
        _compiled(r"(?<![A-Za-z])bearer\s+(?P<hit>[A-Za-z0-9._~+/=-]{12,})", ignore_case=True),
        _is_bearer,
    ),
    _Pattern(
        "CREDENTIAL",
        ("authorization",),
        _compiled(
            r"authorization\\?[\"']?\s*[:=]\s*\\?[\"']?(?:basic|token|apikey|digest)\s+(?P<hit>[A-Za-z0-9._~+/=-]{8,})",
            ignore_case=True,
        ),
    ),
    _Pattern(
        "PASSWORD",
        ("://",),
        _compiled(r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]*://[^\s:/@\"'<>]*:(?P<hit>[^\s/@\"'<>]+)@", ignore_case=True),
    ),
    _Pattern(
        "PASSWORD",
        _SECRET_HINTS,
        _compiled(
            rf"(?:(?<![A-Za-z])|(?<=[a-z])(?-i:(?=[A-Z]))){_SECRET_NAME}\\?[\"']?\s*[:=]\s*\\?[\"']?"
            r"(?P<hit>[^\s\"'\\,;<>(){}\[\]]{6,})",
            ignore_case=True,
        ),
        _is_password,
    ),
    _Pattern(
        "EMAIL",
        ("@",),
        _compiled(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9_%+-][A-Za-z0-9._%+-]*@(?:[A-Za-z0-9-]+\.)+(?:[A-Za-z]{2,24}|한국)"),
        _is_email,
    ),
    _Pattern(
        "RESIDENT_NUMBER",
        (_DIGITS,),
        _compiled(_BEFORE + r"(?:\d{6} ?- ?[1-8]\d{6}|\d{6}[1-8]\d{6})" + _AFTER),
        _is_resident_number,
    ),
    _Pattern(
        "CARD",
        (_DIGITS,),
        # Looks ahead only, because a year before a card number may look like its first group.
        _compiled(
            r"(?<![A-Za-z0-9_.])(?<!\d-)(?=(?P<hit>\d{4}([ -])\d{4}\2\d{4}\2\d{4}(?:\2\d{3})?"
            r"|3\d{3}([ -])\d{6}\3\d{4,5}|\d{15,16})(?![A-Za-z0-9_])(?![-.]\d))"
        ),
        _is_card,
    ),
    _Pattern(
        "PHONE",
        (_DIGITS,),
        _compiled(
            _BEFORE + r"(?:"
            rf"(?:(?:{_KOREA}|0)10|\(010\))[-. ]{{0,3}}\d{{4}}[-. ]{{0,3}}\d{{4}}"  # Korean mobile
            rf"|(?:{_KOREA}|0)1[16789][-. ]{{1,3}}\d{{3,4}}[-. ]{{1,3}}\d{{4}}"  # older ones
            rf"|(?:(?:{_KOREA}|0){_AREA}(?:[-. ]{{1,3}}|\)[-. ]{{0,2}})|\(0{_AREA}\)[-. ]{{0,2}})"
            r"\d{3,4}[-. ]{1,3}\d{4}"  # Korean landline
            r"|\+(?!82)[1-9]\d{0,2}(?:[-. ]?(?:\(\d{1,4}\)|\d{1,4})){2,5}"  # E.123, international
            r"|(?:1[-. ])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[-.])\d{3}[-.]\d{4}"  # North America
            r")" + _AFTER
        ),
        _has_nine_to_fifteen_digits,
    ),
)


def _patterns_worth_trying(text: str) -> list[_Pattern]:
    lowered = text.lower()
    has_digits = _NINE_DIGITS.search(text) is not None
    return [
        pattern
        for pattern in _PATTERNS
        if any(has_digits if hint is _DIGITS else hint in lowered for hint in pattern.hints)
    ]


def _span(match: re.Match[str]) -> tuple[int, int]:
    """The place of the group `hit` where the expression has one, else of the whole match."""
    return match.span("hit") if match.groupdict().get("hit") is not None else match.span()


def _matches(text: str, patterns: list[_Pattern]) -> Iterator[tuple[str, int, int]]:
    """(kind, start, end) in a text of plain characters; the same place may come up twice."""
    for pattern in patterns:
        for match in pattern.expression.finditer(text):
            start, end = _span(match)
            if start < end and pattern.is_real(text[start:end]):
                yield pattern.kind, start, end


def _plain(text: str) -> str:
    return text if text.isascii() else text.translate(_PLAIN)


@dataclass(frozen=True)
class _Search:
    """What to look for in the texts of one record.

    `known` are secrets of the record by their text. One that only its context gave away, such as a token behind
    `Bearer`, is found by it where it stands alone.
    """

    patterns: list[_Pattern]
    known: dict[str, str]
    more: Finder | None = None

    def findings(self, text: str) -> list[Finding]:
        plain = _plain(text)
        found: list[Finding] = []

        def add(kind: str, start: int, end: int) -> None:
            at = bisect_left(found, start, key=lambda finding: finding.start)
            is_free = (at == 0 or found[at - 1].end <= start) and (at == len(found) or end <= found[at].start)
            if is_free:
                found.insert(at, Finding(kind, start, end, text[start:end]))

        for place in _matches(plain, self.patterns):
            add(*place)
        for kind, start, end, _ in self.more(text) if self.more else ():
            add(kind, start, end)
        for secret in sorted(self.known, key=len, reverse=True):
            at = plain.find(secret)
            while at >= 0:
                add(self.known[secret], at, at + len(secret))
                at = plain.find(secret, at + len(secret))
        return found


GIVEN_AWAY_BY_CONTEXT = ("BEARER", "CREDENTIAL", "PASSWORD", "AWS_SECRET")
SHORTEST_KNOWN = 8
"""A shorter secret is not searched for where nothing else gives it away: it may be a part of any word."""
MOST_KNOWN = 200
"""More are not searched for one by one, so that a record made to be slow is not."""


def _search_for(parts: list[str], more: Finder | None) -> _Search | None:
    """The search that fits the texts of a record, or None where there is nothing to find, as in most records.

    All texts are searched at once first, so that a record without findings is not walked again.
    """
    texts = _plain(_BETWEEN.join(parts))
    known: dict[str, str] = {}
    patterns: list[_Pattern] = []
    for pattern in _patterns_worth_trying(texts):
        places = list(_matches(texts, [pattern]))
        if places:
            patterns.append(pattern)
        if pattern.kind in GIVEN_AWAY_BY_CONTEXT:
            known.update((texts[start:end], kind) for kind, start, end in places[:MOST_KNOWN])
    for key, inner in pairwise(parts):
        if _is_secret_of(key, inner):
            known.setdefault(_plain(inner), "PASSWORD")
    if "\\u00" in texts:  # JSON text in which @ may be spelt \\u0040
        patterns = list(_PATTERNS)
    if not (patterns or known or more):
        return None
    for secret, kind in list(known.items()):
        known.setdefault(json.dumps(secret, ensure_ascii=False)[1:-1], kind)  # as it stands in JSON text
    long_enough = ((secret, kind) for secret, kind in known.items() if len(secret) >= SHORTEST_KNOWN)
    return _Search(patterns, dict(islice(long_enough, MOST_KNOWN)), more)


def findings(text: str) -> list[Finding]:
    """Secrets and personal data in a text, from left to right, not overlapping."""
    search = _search_for([text], None)
    return search.findings(text) if search else []


def _add_texts(value: Any, texts: list[str]) -> None:
    """Every text of a JSON value, keys too, each key right before its value."""
    if isinstance(value, str):
        texts.append(value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            texts.append(key)
            _add_texts(inner, texts)
    elif isinstance(value, list):
        for inner in value:
            _add_texts(inner, texts)
    elif isinstance(value, int) and abs(value) > 10**12:
        texts.append(str(value))


# Neither a finding nor the blanks inside one reach over it.
_BETWEEN = "\n\0\n"


@lru_cache(4096)
def _names_a_secret(key: str) -> bool:
    return _SECRET_KEY.fullmatch(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key)) is not None


def _is_secret_of(key: str, value: str) -> bool:
    """{"password": "..."}: the key says what the value is."""
    return (
        len(key) < 64
        and _names_a_secret(key)
        and 6 <= len(value) <= 200
        and not re.search(r"\s", value)
        and _is_password(value)
    )


class _Redactor:
    """The placeholders of one record."""

    def __init__(self, search: _Search, parts: list[str]) -> None:
        self.found: list[Finding] = []
        self._search = search
        self._placeholders: dict[tuple[str, str], str] = {}
        # Numbers that an earlier redaction, or the writer, has used already.
        self._numbers: Counter[str] = Counter()
        for kind, number in re.findall(r"<([A-Z_]+)_(\d{1,9})>", _BETWEEN.join(parts)):
            self._numbers[kind] = max(self._numbers[kind], int(number))

    def value(self, value: Any, key: str | None = None) -> Any:
        if isinstance(value, str):
            if key is not None and _is_secret_of(key, value):
                found = [f for f in self._search.findings(value) if f.text == value]
                return self._replaced(value, found or [Finding("PASSWORD", 0, len(value), value)])
            return self._text(value)
        if isinstance(value, dict):
            return {self._text(name): self.value(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner) for inner in value]
        if isinstance(value, int) and abs(value) > 10**12:
            text = str(value)
            whole = [f for f in self._search.findings(text) if (f.start, f.end) == (0, len(text))]
            return self._replaced(text, whole) if whole else value
        return value

    def _text(self, text: str) -> str:
        redacted = self._replaced(text, self._search.findings(text))
        if "\\u00" in redacted and redacted.lstrip()[:1] in ("{", "["):
            # JSON text may spell @ as \\u0040; what it says is searched too, and written anew only where that helps.
            try:
                inner = json.loads(redacted)
            except ValueError:
                return redacted
            before = len(self.found)
            said = self.value(inner)
            if len(self.found) > before:
                return json.dumps(said, ensure_ascii=False)
        return redacted

    def _replaced(self, text: str, found: list[Finding]) -> str:
        self.found += found
        parts, at = [], 0
        for finding in found:
            parts += [text[at : finding.start], self._placeholder(finding)]
            at = finding.end
        return "".join([*parts, text[at:]])

    def _placeholder(self, finding: Finding) -> str:
        plain = _plain(finding.text).replace("\\n", "\n")
        if finding.kind in ("PHONE", "CARD", "RESIDENT_NUMBER"):
            plain = _digits(plain)
        if finding.kind == "PHONE":  # +82 10 and 010 are one number
            plain = re.sub(r"^(?:00)?820?(?=[1-9]\d{7})", "0", plain)
        key = (finding.kind, plain.lower() if finding.kind == "EMAIL" else plain)
        if key not in self._placeholders:
            self._numbers[finding.kind] += 1
            self._placeholders[key] = f"<{finding.kind}_{self._numbers[finding.kind]}>"
        return self._placeholders[key]


def redact_value(value: Any, *, more: Finder | None = None) -> tuple[Any, list[Finding]]:
    """A JSON value with placeholders in the place of findings, and the findings.

    The value itself comes back, unchanged, when there are none. `more` searches beside our own patterns, for example
    `detect_secrets_finder()`. Places in the findings are those within each string.
    """
    parts: list[str] = []
    _add_texts(value, parts)
    search = _search_for(parts, more)
    if search is None:
        return value, []
    redactor = _Redactor(search, parts)
    redacted = redactor.value(value)
    return (redacted, redactor.found) if redactor.found else (value, [])


def redact_text(text: str) -> str:
    """A text with placeholders in the place of findings."""
    return str(redact_value(text)[0])


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


_NAMES = ("id", "group", "trunk")


def _keep_names_apart(row: Any, redacted: Any, names: dict[str, str]) -> None:
    """Give redacted names of records and groups a number in `names`, so that two people do not become one record."""
    for before, after in ((row, redacted), (row.get("metadata"), redacted.get("metadata"))):
        if isinstance(before, dict):
            for key in _NAMES:
                if key in before and before[key] != after[key]:
                    after[key] = names.setdefault(str(before[key]), f"redacted-{len(names) + 1}")


def _redacted_lines(
    path: Path, more: Finder | None, names: dict[str, str]
) -> Iterator[tuple[int, bytes, list[Finding]]]:
    """(line number, line, findings); a line without findings is passed on byte for byte."""
    with open(path, "rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.strip():
                continue
            try:
                row = json_line_to_object(raw)
                redacted, found = redact_value(row, more=more)
            except RecursionError:
                raise UserError(f"{path}:{number}: nested too deeply; `python -m data validate` says more") from None
            except ValueError as error:
                raise UserError(f"{path}:{number}: {error}; `python -m data validate` says more") from None
            if found:
                if isinstance(row, dict):
                    _keep_names_apart(row, redacted, names)
                raw = json.dumps(redacted, ensure_ascii=False, separators=(",", ":")).encode()
            yield number, raw.rstrip(b"\r\n") + b"\n", found


def redact_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Records, chats or pairs (JSON Lines).")],
    out: Annotated[Path | None, typer.Option(help="File for the rows of all FILEs, with placeholders.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only name the lines; exit 1 if there are any.")] = False,
    detect_secrets: Annotated[
        bool, typer.Option("--detect-secrets", help="Search with the package detect-secrets too.")
    ] = False,
) -> None:
    """Replace secrets and personal data with placeholders such as <EMAIL_1>, the same one for the same value of a record.

    Rows without findings are written byte for byte. Counts are printed and saved beside OUT as .counts.json; what was
    found is never printed. Exit codes: 0 done or nothing found, 1 --check found something, 2 wrong input.

    \b
    Example:
        python -m data redact mine.jsonl --out mine.redacted.jsonl
        python -m data redact --check mine.jsonl
    """
    if check == (out is not None):
        raise UserError("give either --out FILE, to write redacted rows, or --check, to look only")
    if out is not None and any(path.exists() and out.exists() and path.samefile(out) for path in files):
        raise UserError(f"--out {out} is one of the inputs; the rows as they are would be lost")
    more = detect_secrets_finder() if detect_secrets else None
    rows, changed, kinds, names = 0, 0, Counter[str](), dict[str, str]()
    with whole_result(out) if out is not None else nullcontext() as result:
        target = None if result is None or out is None else result.open(out)
        for path in files:
            for number, line, found in with_progress(_redacted_lines(path, more, names), f"redacting {path}"):
                rows += 1
                changed += bool(found)
                kinds.update(finding.kind for finding in found)
                if check and found:
                    typer.echo(f"{path}:{number}: {describe_findings(found)}")
                if target is not None:
                    target.write(line)
        if not rows:
            raise UserError(f"{', '.join(map(str, files))}: holds no row")
        if result is not None and out is not None:
            counts = {
                "inputs": [str(path) for path in files],
                "rows": rows,
                "rows_changed": changed,
                "found": dict(kinds),
            }
            saved = save_counts(result, out, counts)
    if kinds:
        print_table(("kind", "found"), kinds.most_common())
    typer.echo(f"{rows} rows, {changed} of them with findings")
    if out is not None:
        typer.echo(f"wrote {out} and {saved}")
    elif kinds:
        raise typer.Exit(1)
