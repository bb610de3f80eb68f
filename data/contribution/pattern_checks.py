"""What decides whether a text that looks like a secret is one, where its shape is not enough.

A check gets the match and the span of the finding; it returns the span, or a shorter one, or None for a false alarm. Where
a leak and a false alarm cannot be told apart, as for `900101-1234567`, it is taken for a leak.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from itertools import pairwise

Span = tuple[int, int]


Check = Callable[["re.Match[str]", int, int], Span | None]


def digits_of(text: str) -> str:
    return "".join(character for character in text if character.isdigit())


def _kinds_changes(text: str) -> tuple[set[str], int]:
    """Which of small letters, capitals and digits a text has, and how often one kind follows another."""
    kinds = ["u" if c.isupper() else "l" if c.islower() else "d" if c.isdigit() else "" for c in text]
    return set(kinds) - {""}, sum(a != b for a, b in pairwise(kinds) if a and b)


def changes_of_kind(text: str) -> int:
    """How often a small letter, a capital and a digit follow one another in a text."""
    return _kinds_changes(text)[1]


_PLACEHOLDER = re.compile(
    r"^[<${%*(\[]|^(?:env|vault|op|arn|ref|secrets?|keyring|ssm|aws-sm)[:/.]|<[A-Z_]+_\d+>|\$\{|\{\{|%\(|x{4}|X{4}|\*{3}|\.{3}|…"
    r"|(?i:your[-_ ]|[-_]your|change[-_]?me|placeholder|redacted|example[-_](?:key|token|secret)|to-?do|[-_]here$)"
)


_WORDS_FOR_NOTHING = re.compile(
    r"(?i)(?:pass(?:word|wd|phrase|code)?|pwd?|secret|token|key|string|str|none|null|true|false|required|optional|user|username"
    r"|changeme|undefined|value|text|hidden|masked|removed|empty|pw)[\d_]{0,2}"
)


def _is_placeholder(text: str) -> bool:
    return _PLACEHOLDER.search(text) is not None


# --- tokens and passwords ---


def _token(match: re.Match[str], start: int, end: int) -> Span | None:
    """Not `ghp_xxxxxxxx` and `sk-your-key-here`."""
    text = match.string[start:end]
    body = re.sub(r"^[A-Za-z0-9]{1,9}[-_.]", "", text)
    return None if len(set(body) - {"-", "_"}) < 3 or _is_placeholder(body) else (start, end)


def _token_with_digit(match: re.Match[str], start: int, end: int) -> Span | None:
    return _token(match, start, end) if re.search(r"\d", match.string[start:end]) else None


def _bearer(match: re.Match[str], start: int, end: int) -> Span | None:
    text = match.string[start:end]
    mixes = re.search(r"[A-Za-z]", text) and re.search(r"\d", text)
    return (start, end) if (mixes or len(text) >= 32) and not _is_placeholder(text) else None


def _credential(match: re.Match[str], start: int, end: int) -> Span | None:
    text = match.string[start:end]
    if match.lastgroup == "hit":
        return None if _is_placeholder(text) else (start, end)
    return _bearer(match, start, end) if re.search(r"[\d+/=]", text) else None


def _random(match: re.Match[str], start: int, end: int) -> Span | None:
    """Letters of base64 that nobody would write: all kinds of characters, changing all the time."""
    kinds, changes = _kinds_changes(match.string[start:end])
    return (start, end) if kinds == {"u", "l", "d"} and changes >= (end - start) // 4 else None


def _named_key(match: re.Match[str], start: int, end: int) -> Span | None:
    text = match.string[start:end]
    if _is_placeholder(text) or _WORDS_FOR_NOTHING.fullmatch(text) or _is_code(match, start, end):
        return None
    kinds, _ = _kinds_changes(text)
    return (start, end) if "d" in kinds or len(kinds) > 1 else None


def _is_code(match: re.Match[str], start: int, end: int) -> bool:
    """Whether what is assigned without quotes is an expression: a call, an attribute, another variable."""
    text, after = match.string[start:end], match.string[end : end + 1]
    if match.string[start - 1 : start] in ("'", '"', "`") and start:
        return False
    if after in ("(", "[", "{") or "(" in text or text.endswith("->"):
        return True
    if re.fullmatch(r"[A-Za-z_]\w*(?:(?:\.|->|::|\?\.)[A-Za-z_]\w*)+[.!?]*", text):
        return True
    has_blanks = re.search(r"[:=]\s", match.string[max(match.start(), start - 3) : start]) is not None
    name_like = re.fullmatch(
        r"[a-z]+(?:_[a-z]+)*_?\d{0,2}|[a-z]+(?:[A-Z][a-z]+)+\d{0,2}|[A-Z]+(?:_[A-Z]+)+_?\d{0,2}", text
    )
    return name_like is not None and (has_blanks or after in (")", ",") or "_" in text)


def _password(match: re.Match[str], start: int, end: int) -> Span | None:
    """Told from words such as `required` by what a password policy asks for: a letter, and a digit or a sign."""
    text = match.string[start:end]
    if _is_placeholder(text) or _WORDS_FOR_NOTHING.fullmatch(text) or _is_code(match, start, end):
        return None
    if re.match(r"(?:[~.]{0,2}/|[A-Za-z]:\\|[a-z]{2,10}://)", text) and re.search(r"\.\w{1,5}$|/.*/|://", text):
        return None  # the path of a file that holds it
    if re.match(r"\d{4}-\d\d-\d\d(?:$|T)|v?\d+\.\d+\.\d+|[\d.:,/%-]+(?:ms|s|px|MB|KB|GB|%)?$", text):
        # A date, a version, a number; all digits are a password where that word stands there.
        named = re.search(r"pass|pwd|비밀번호|비번|암호|패스워드", match[0][: start - match.start()], re.IGNORECASE)
        return (start, end) if named and text.isdigit() and match.string[start - 1] in "'\"=" else None
    has_sign = re.search(r"[\d!@#$%^&*+=?~]", text)
    if has_sign and re.search(r"[^\W\d_]", text):
        return start, end
    # Letters alone: capitals come and go more often than where words begin.
    letters = re.match(r"[A-Za-z]{12,}(?![!-~])", text)
    return (start, end) if letters and changes_of_kind(letters[0]) * 3 >= len(letters[0]) else None


_NAMES_BEFORE = {
    "key": "api|access|private|account|auth|master|signing|encryption|subscription|service|storage|sharedaccess|rest[_-]?api"
    "|admin",
    "token": "access|auth|refresh|api|session|bearer|id|client|bot|deploy|app",
    "secret": "(?:client|webhook|consumer|app|api|jwt)?",
    "pass": "(?:db|pg|my|user|admin|root|redis|smtp|ftp|login)?",
}


_BEFORE_NAME = {name: re.compile(rf"(?:{words})[_-]?\Z", re.IGNORECASE) for name, words in _NAMES_BEFORE.items()}


def _assigned(match: re.Match[str], start: int, end: int) -> Span | None:
    """A password whose variable, key or option has a telling name: dbPassword, api_key, not compass, key, token."""
    text, at = match.string, match.start()
    name = next((name for name in _BEFORE_NAME if text[at : at + len(name)].lower() == name), "pass")
    before = _BEFORE_NAME[name].search(text, max(0, at - 16), at)
    if before is None:
        return None
    for first in (before.start(), at):
        letter = text[first - 1 : first] if first else ""
        is_start = not letter.isalpha() or not letter.isascii() or (letter.islower() and text[first].isupper())
        if is_start and (first < at or name in ("secret", "pass")):
            return _password(match, start, end)
    return None


def _said_password(match: re.Match[str], start: int, end: int) -> Span | None:
    text = match.string[start:end].rstrip(".,;:)\"'`")
    kinds, _ = _kinds_changes(text)
    if len(text) < 6 or "d" not in kinds or not kinds & {"u", "l"} or _is_placeholder(text) or "(" in text:
        return None
    return start, start + len(text)


_BEFORE_OPTION = re.compile(r"(?:^|[^\w-])(?:--?[A-Za-z][A-Za-z-]*|-?)\Z")


def _option(match: re.Match[str], start: int, end: int) -> Span | None:
    """What stands behind --password, --db-password, -token."""
    text = match.string[start:end]
    if _BEFORE_OPTION.search(match.string[max(0, match.start() - 40) : match.start()]) is None:
        return None
    if _is_placeholder(text) or _WORDS_FOR_NOTHING.fullmatch(text) or re.fullmatch(r"[\d.]+", text):
        return None
    return _password(match, start, end)


def _typed_password(match: re.Match[str], start: int, end: int) -> Span | None:
    """Behind an option that takes nothing else, so any word will do but those that stand for one; `-p 8080:80` is ports."""
    text = match.string[start:end]
    if _is_placeholder(text) or _WORDS_FOR_NOTHING.fullmatch(text) or len(text) < 4:
        return None
    if re.fullmatch(r"(?:[\d.]+:)?[\d-]+:[\d-]+(?:/\w+)?|\d{1,5}", text) or re.match(r"[~.]{0,2}/|https?:", text):
        return None
    return start, end


def _url_password(match: re.Match[str], start: int, end: int) -> Span | None:
    text = match.string[start:end]
    return None if _is_placeholder(text) or (_WORDS_FOR_NOTHING.fullmatch(text) and text.islower()) else (start, end)


def _secret(match: re.Match[str], start: int, end: int) -> Span | None:
    text = match.string[start:end]
    before = match.string[max(0, match.start() - 12) : match.start()]
    if re.search(
        r"(?:page|next|sync|pad|eos|bos|unk|mask|sep|cls|special|cursor|continuation)[_-]?\Z|[a-z]\Z",
        before,
        re.IGNORECASE,
    ) and not (before[-1:].islower() and match[0][:1].isupper()):
        return None
    if _is_code(match, start, end) or not (re.search(r"[A-Za-z]", text) and re.search(r"\d", text)):
        return None
    _, changes = _kinds_changes(text)
    return (start, end) if changes * 6 >= len(text) and _password(match, start, end) else None


def _cookie(match: re.Match[str], start: int, end: int) -> Span | None:
    text = match.string[start:end].rstrip()
    values = [pair.partition("=")[2] for pair in text.split(";")]
    is_secret = any(len(v) >= 16 or (len(v) >= 6 and re.search(r"\d", v)) for v in map(str.strip, values))
    return (start, start + len(text)) if is_secret and not _is_placeholder(values[0]) else None


_BODY_LINE = re.compile(r"(?:[+>|\s-]|\d{1,4}[:|\t])*[A-Za-z0-9+/=]{8,}\s*")


def _end_of_private_key(match: re.Match[str], start: int, end: int) -> Span | None:
    """The lines right before the last one of a key whose beginning was cut off."""
    lines = match.string[max(0, start - 20_000) : start].splitlines(keepends=True)
    while lines and _BODY_LINE.fullmatch(lines[-1]):
        start -= len(lines.pop())
    return start, end


# --- numbers ---

_IS_STAMP = re.compile(
    r"(?:(?:(?<![A-Za-z])|(?<=\\[nrt])|(?<=\dm))(?:build|stamp|version|release|rev(?:ision)?|ver|order|ord|snapshot|nightly|commit|tag|batch|job|run|ticket|invoice|lot"
    r"|serial|sku)|빌드|버전|릴리스|주문|송장|배치)[ \t_.:#=/(\"'-]*(?:(?:번호|no|number|id)[ \t.:#=]*)?\Z",
    re.IGNORECASE,
)


def _context_before(match: re.Match[str], start: int) -> str:
    return match.string[max(0, start - 32) : start]


def _is_arithmetic(match: re.Match[str], start: int, end: int) -> bool:
    """Whether a number with hyphens is a formula: `123-45-67890 = x`."""
    before, after = match.string[max(0, start - 3) : start], match.string[end : end + 3]
    if re.search(r"=[ \t]*\Z", before) and re.search(r"\d[ \t]+-[ \t]+\d", match.string[start:end]):
        return True
    return (
        re.match(r"[ \t]*=(?![=>])|[ \t]+[*+^/][ \t]|\^", after) is not None
        or re.search(r"[ \t][*+^][ \t]+\Z|\^\Z", before) is not None
    )


def _card(match: re.Match[str], start: int, end: int) -> Span | None:
    from stdnum import luhn  # noqa: PLC0415 - imported where a number looks like one

    text = match.string[start:end]
    number = digits_of(text)
    if len(set(number)) == 1 or not luhn.is_valid(number):
        return None
    if number != text:  # written in groups: the grouping says that it is a card, Korean ones with 9 in front too
        is_card = number[0] in "234569"
    elif len(number) == 15:
        is_card = number[:2] in ("34", "37")
    else:
        is_card = len(number) == 16 and _CARD_PREFIX.fullmatch(number) is not None
    return (start, end) if is_card else None


_CARD_PREFIX = re.compile(
    r"(?:4|5[1-5]|35|6011|64[4-9]|65|62|222[1-9]|22[3-9]|2[3-6]|27[01]|2720)\d*"  # 16 digits
)


def _birthday(number: str) -> date | None:
    """The birthday in the first six digits, of the century that the seventh names."""
    century = 1900 if number[6] in "1256" else 2000
    try:
        birthday = date(century + int(number[:2]), int(number[2:4]), int(number[4:6]))
    except ValueError:
        return None
    return (
        birthday if 1920 <= birthday.year < 2040 else None
    )  # Korean barcodes start with 880, milliseconds with 1[5-9]


def _resident_number_checks(number: str) -> bool:
    from stdnum.kr import rrn  # noqa: PLC0415

    # Foreigners' numbers (5 to 8) end in a digit that is 2 further.
    return int(number[12]) == (int(rrn.calc_check_digit(number)) + (2 if number[6] in "5678" else 0)) % 10


def _resident_number(match: re.Match[str], start: int, end: int) -> Span | None:
    # The last digits are random since October 2020, so a hyphen and a birthday are enough. Thirteen digits alone are more
    # often milliseconds, so there the check digit decides. What says build or order before it, or has a time of day behind
    # a recent date, is a stamp.
    text = match.string[start:end]
    number = digits_of(text)
    if (birthday := _birthday(number)) is None:
        return None
    before = _context_before(match, start)
    if re.search(r"주민|외국인\s?등록|resident|rrn", before, re.IGNORECASE):
        return start, end
    checks = _resident_number_checks(number)
    if not 10 <= birthday.year % 100 <= 35:  # the date of no build that anybody keeps
        return (start, end) if checks or ("-" in text and not _is_arithmetic(match, start, end)) else None
    is_time = re.match(r"(?:[01]\d|2[0-3])[0-5]\d[0-5]\d", number[6:]) is not None
    is_stamp = _IS_STAMP.search(before) is not None or re.search(r"[A-Za-z0-9][-.+_]\Z", before) is not None
    if checks:
        return None if is_stamp or (number == text and is_time) else (start, end)
    goes_on = re.match(r"[-._+]\w", match.string[end : end + 2], re.ASCII) is not None
    if "-" not in text or is_stamp or goes_on or is_time or _is_arithmetic(match, start, end):
        return None
    # Who was born before 1930 has a valid check digit, and hardly anybody of them lives.
    return (start, end) if birthday.year >= 1930 else None


def _corporate_number(match: re.Match[str], start: int, end: int) -> Span | None:
    number = digits_of(match.string[start:end])
    if match.groupdict().get("hit"):
        return start, end
    total = sum(int(digit) * (1 + place % 2) for place, digit in enumerate(number[:12]))
    checks = (10 - total % 10) % 10 == int(number[12])
    # The register's office, and 11 for a company limited by shares, 21 and on for others.
    is_office = re.match(r"(?:1[1-9]|2[0-2])\d\d(?:1[1-5]|2[1-9]|3[1-9]|4[1-9]|7[1-5])", number) is not None
    is_stamp = _IS_STAMP.search(_context_before(match, start)) is not None or _is_arithmetic(match, start, end)
    if not is_office or is_stamp or re.match(r"[-._+]\w", match.string[end : end + 2], re.ASCII):
        return None
    is_date = re.match(r"\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])", number) is not None
    return (start, end) if checks or (number[4:6] == "11" and not is_date) or number[:6] == "110111" else None


def _business_number(match: re.Match[str], start: int, end: int) -> Span | None:
    from stdnum.kr import brn  # noqa: PLC0415

    text = match.string[start:end]
    if match.groupdict().get("hit"):
        return start, end
    if _is_arithmetic(match, start, end):
        return None
    is_stamp = _IS_STAMP.search(_context_before(match, start)) is not None
    return (start, end) if brn.is_valid(text) or (text[0] != "0" and not is_stamp) else None


def _number(match: re.Match[str], start: int, end: int) -> Span | None:
    """A number with groups of its own; not where it is a formula or an order's."""
    if match.groupdict().get("hit"):
        return start, end
    is_other = _IS_STAMP.search(_context_before(match, start)) or _is_arithmetic(match, start, end)
    return None if is_other or len(set(digits_of(match.string[start:end]))) < 3 else (start, end)


def _account_by_name(match: re.Match[str], start: int, end: int) -> Span | None:
    text = match.string[start:end]
    number = digits_of(text)
    after = match.string[end : end + 2]
    if not 9 <= len(number) <= 16 or re.match(r"\s?[원달%]|,\d", after) or re.match(r"(?:19|20)\d\d-\d\d-\d\d", text):
        return None
    return start, end


def _passport(match: re.Match[str], start: int, end: int) -> Span | None:
    text = match.string[start:end]
    if match.groupdict().get("hit"):
        return start, end
    is_date = re.fullmatch(r"M20[0-3]\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])", text)
    return None if is_date or len(set(text)) < 4 else (start, end)


def _korean_phone(match: re.Match[str], start: int, end: int) -> Span | None:
    number = digits_of(match.string[start:end])
    if not 9 <= len(number) <= 15 or set(number) <= {"0", "1"} or _is_arithmetic(match, start, end):
        return None
    return start, end


@lru_cache(4096)
def _is_number_abroad(text: str) -> bool:
    import phonenumbers  # noqa: PLC0415 - takes a while

    try:
        number = phonenumbers.parse("+" + digits_of(text).removeprefix("00") if text[0] == "0" else text)
    except phonenumbers.NumberParseException:
        return False
    if phonenumbers.is_valid_number(number):
        return True
    # Numbers of films and documents (555, 7946) are of no operator; a long one that may be dialled is taken for one.
    return text[0] == "+" and len(digits_of(text)) >= 10 and phonenumbers.is_possible_number(number)


def _phone_abroad(match: re.Match[str], start: int, end: int) -> Span | None:
    """A number with a country's prefix (ITU-T E.123), less groups at its end that are another number."""
    if match.string[start - 1 : start] in (")", "]") or _is_arithmetic(match, start, end):
        return None
    text = match.string[start:end]
    if set(digits_of(text)[2:]) <= {"0"}:
        return None
    while len(digits_of(text)) >= 8:
        if len(digits_of(text)) <= 17 and _is_number_abroad(text):
            return (start, start + len(text)) if not re.match(r"\.\d", match.string[start + len(text) :]) else None
        shorter = re.match(r"(.*\d\)?)[-. /]+\(?\d+\)?$", text)
        if shorter is None:
            return None
        text = shorter[1]
    return None


@lru_cache(4096)
def _is_american(text: str) -> bool:
    import phonenumbers  # noqa: PLC0415

    number = phonenumbers.parse(text, "US")
    return phonenumbers.is_valid_number(number) or digits_of(text)[-7:-4] == "555"


def _american_phone(match: re.Match[str], start: int, end: int) -> Span | None:
    text = match.string[start:end]
    if _is_arithmetic(match, start, end):
        return None
    if "(" in text or text.count("-") >= 2:
        return start, end
    # With points or blanks it may be a version or a row of numbers.
    is_row = re.search(r"\d[ \t,]+\Z", match.string[max(0, start - 3) : start]) or re.match(
        r"[ \t,]+\d", match.string[end : end + 4]
    )
    is_stamp = _IS_STAMP.search(_context_before(match, start)) is not None
    return (start, end) if not is_row and not is_stamp and _is_american(text) else None


def _phone_by_name(match: re.Match[str], start: int, end: int) -> Span | None:
    number = digits_of(match.string[start:end])
    return (start, end) if 8 <= len(number) <= 15 and len(set(number)) > 2 else None


def _iban(match: re.Match[str], start: int, end: int) -> Span | None:
    from stdnum import iban  # noqa: PLC0415

    text = match.string[start:end]
    while len(text) >= 15:
        if iban.is_valid(text, check_country=False):
            return start, start + len(text)
        text = re.sub(r"[ -]?[A-Z0-9]+$", "", text) if re.search(r"[ -]", text) else ""
    return None


def _ip_address(match: re.Match[str], start: int, end: int) -> Span | None:
    try:
        address = ipaddress.ip_address(match.string[start:end])
    except ValueError:
        return None
    return None if address.is_loopback or address.is_unspecified else (start, end)


# --- e-mail ---

_NO_DOMAINS = re.compile(
    r"(?:png|jpe?g|gif|svg|webp|pdf|json|ya?ml|toml|txt|md|py|js|ts|tsx|jsx|css|html|xml|csv|tgz|gz|zip|service|socket|timer|mount"
    r"|target|slice|scope|internal|local|localhost|localdomain|lan|intranet|svc|cluster|consul|home|corp|vm|node"
    r"|shape|sum|mean|dot|reshape|transpose|size|dtype|weight|bias|values?|detach|grad|data|proj|view|mt|numpy|inverse|conj|matrix"
    r"|astype|flatten|item|squeeze|unsqueeze|permute|diag|real|imag|std|var|min|max|norm|kernel)",
    re.IGNORECASE,
)


_END_OF_ESCAPE = re.compile(r"\\[nrt]|\[[\d;]{1,12}m")


_REMOTE_COMMAND = re.compile(
    r"(?:^|[\s;&|$#`\"'(>]|\\[nrt])(?:ssh|scp|sftp|rsync|mosh|ssh-copy-id|sshfs|autossh|git clone)"
    r"((?:[ \t]+[^\s@]+)*)[ \t]+[\"']?\Z"
)


def _is_behind_remote_command(before: str) -> bool:
    """Whether an address stands where ssh and its like take one: behind options, their values and files."""
    command = _REMOTE_COMMAND.search(before)
    words = command[1].split() if command else []
    return command is not None and all(
        word[0] == "-" or re.search(r"[/.~*:]", word) or (at and words[at - 1][0] == "-")
        for at, word in enumerate(words)
    )


_ACCOUNTS = re.compile(
    r"(?:root|git|deploy(?:er)?|ubuntu|debian|centos|fedora|ec2-user|admin|administrator|postgres|mysql|jenkins|vagrant|pi|user|core"
    r"|hdfs|hadoop|spark|airflow|runner|ansible|oracle|www-data|nginx|docker|ops|svc[\w-]*|backup|build(?:er)?|ci|gitlab|hg|svn)",
    re.IGNORECASE,
)


def _email(match: re.Match[str], start: int, end: int) -> Span | None:
    text = match.string[start:end]
    # The rest of an escaped line break or of a colour.
    if (escape := _END_OF_ESCAPE.match(match.string, max(0, start - 1))) is not None and escape.end() < end:
        text, start = match.string[escape.end() : end], escape.end()
    local, _, domain = text.rpartition("@")
    if not local:
        return None
    before, after = match.string[max(0, start - 120) : start], match.string[end : end + 2]
    if ".." in domain or _NO_DOMAINS.fullmatch(domain.rpartition(".")[2]) or after[:1] in ("(", "["):
        return None
    if re.search(r"://[^\s/@]*:\Z", before):  # a password before a host, and a pattern of its own
        return None
    if local.lower() in ("git", "hg") or (len(local) == 1 and re.match(r"(?:self|[A-Za-z])\.", domain)):
        return None
    is_host = re.match(r"[\w-]*\d|ip-", domain) is not None or domain.count(".") >= 2
    is_path = re.match(r":[/~\d]", after) is not None
    if _ACCOUNTS.fullmatch(local) and (is_host or is_path or _is_behind_remote_command(before)):
        return None
    if (is_path and not after[1:2].isdigit()) or _is_behind_remote_command(before):
        return None
    while local[:1] in "'*`{|}~^&$!#-%" and len(local) > 1:  # marks of other languages right before it
        local, start = local[1:], start + 1
    return start, end


CHECKS: dict[str, Check] = {
    check.__name__.lstrip("_"): check
    for check in (
        _token,
        _token_with_digit,
        _bearer,
        _credential,
        _random,
        _named_key,
        _password,
        _assigned,
        _said_password,
        _option,
        _typed_password,
        _url_password,
        _secret,
        _cookie,
        _end_of_private_key,
        _card,
        _resident_number,
        _corporate_number,
        _business_number,
        _number,
        _account_by_name,
        _passport,
        _korean_phone,
        _phone_abroad,
        _american_phone,
        _phone_by_name,
        _iban,
        _ip_address,
        _email,
    )
}
