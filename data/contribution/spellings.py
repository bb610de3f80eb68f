"""A text in every spelling that it can be read in, each character with the place that it was written at.

Results of tools are escaped, nested, coloured and encoded: a token stands behind the two characters `\\n` of JSON text, in
JSON inside JSON, behind a colour code, percent-encoded, as HTML entities, cut by soft hyphens. `read_all_ways` decodes a
text until nothing is left to decode. Each result is a `View`: the decoded text, and for any part of it the span of the
text as it was written, so that a search of the view can be answered in the original.

What can be a separator or nothing at all (a colour code in the middle of a token or between two words, a zero-width
character, the border of two list items) is read both ways.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_DEPTH = 8
"""Layers of escapes and encodings that are taken off."""
MAX_CHARACTERS = 2**20
"""A text that is longer is not decoded."""

CUT = "\ufdd0"
"""Stands between two items of a list that are read as one text; no character of any language."""
BORDER = "\v"
"""How `CUT` reads where it is no part of a word: a blank for an expression, but none that stands within a line."""


_LOOK_ALIKES = re.compile(
    r"[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"  # blanks
    r"\u2010-\u2015\u2212\u301c\u30fc\ufe58\ufe63"  # dashes, and what stands for one beside Korean and Japanese
    r"\u0660-\u0669\u06f0-\u06f9\u0966-\u096f\u09e6-\u09ef\u0e50-\u0e59"  # digits
    r"\uff01-\uff5e\U0001d400-\U0001d7ff]"  # full-width and mathematical
)


def _ascii_of(match: re.Match[str]) -> str:
    character = match[0]
    if (digit := unicodedata.decimal(character, None)) is not None:
        return str(digit)
    if character >= "\uff01" and not "\ufe58" <= character <= "\ufe63":
        simple = unicodedata.normalize("NFKC", character)
        return simple if len(simple) == 1 and simple.isascii() else character
    return " " if unicodedata.category(character) == "Zs" else "-"


def to_plain(text: str) -> str:
    """A text of the same length in which look-alikes of ASCII characters are ASCII."""
    return text if text.isascii() or _LOOK_ALIKES.search(text) is None else _LOOK_ALIKES.sub(_ascii_of, text)


@dataclass(frozen=True)
class View:
    """A text as it reads once escapes are decoded. `parent` is None where it stands as it was written."""

    text: str
    parent: View | None = None
    depth: int = 0
    # Every decoded escape: where its characters start and end in `text`, and where it stands in the parent.
    _starts: list[int] = field(default_factory=list)
    _ends: list[int] = field(default_factory=list)
    _parent_starts: list[int] = field(default_factory=list)
    _parent_ends: list[int] = field(default_factory=list)

    def spans(self, start: int, end: int) -> list[tuple[int, int]]:
        """Where [start, end) was written. More than one span where the borders of items in JSON text lie inside."""
        if self.parent is None:
            return [(start, end)]
        return self.parent.spans(self._start_in_parent(start), self._end_in_parent(end))

    def _start_in_parent(self, at: int) -> int:
        last = bisect_right(self._starts, at) - 1
        # One that says nothing ends here: the character behind it starts behind its spelling.
        if last < 0:
            return at
        if at < self._ends[last]:
            return self._parent_starts[last]
        return self._parent_ends[last] + at - self._ends[last]

    def _end_in_parent(self, end: int) -> int:
        last = bisect_right(self._starts, end - 1) - 1
        if last < 0:
            return end
        if end - 1 < self._ends[last]:
            return self._parent_ends[last]
        return self._parent_ends[last] + end - self._ends[last]


@dataclass(frozen=True)
class JoinedItems(View):
    """JSON text whose neighbouring strings are read as one: a finding may reach over their borders, and only those count."""

    def spans(self, start: int, end: int) -> list[tuple[int, int]]:
        """The part of each string; none where no border lies inside."""
        first, last = bisect_right(self._starts, start), bisect_right(self._starts, end - 1)
        if first == last or self.parent is None:
            return []
        borders = [(self._parent_starts[border], self._parent_ends[border]) for border in range(first, last)]
        edges = [self._start_in_parent(start), *(edge for border in borders for edge in border)]
        edges.append(self._end_in_parent(end))
        parts = zip(edges[::2], edges[1::2], strict=True)
        return [span for a, b in parts if a < b for span in self.parent.spans(a, b)]


# --- escapes ---

_CSI = r"(?:\x1b\[|\x9b|\u241b\[|\^\[\[)[0-?]*[ -/]*[@-~]"
_COLOUR = (
    _CSI + r"|\x1b(?:\][0-9]*;?|[()#][A-Za-z0-9]|[=>78cDEHMNOZ\\])"
    r"|\[\d{1,3}(?:;\d{1,3}){0,5}m"  # whose escape character was lost
)
# Control characters, soft hyphens, zero-width characters, marks of direction, variation selectors, fillers, tags.
_INVISIBLE = (
    r"\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\u0080-\u009a\u009c-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e"
    r"\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e01ef"
)
_LETTERS = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "e": "\x1b", "E": "\x1b"}
_BYTE = r"%[0-9A-Fa-f]{2}|\\x[0-9A-Fa-f]{2}|\\[0-3][0-7]{2}"
_ESCAPE = re.compile(
    rf"(?P<colour>(?:{_COLOUR})+)"
    rf"|(?P<invisible>[{_INVISIBLE}]+)"
    rf"|(?P<cut>{CUT})"
    rf"|(?P<byte>{_BYTE})"
    r"|(?P<pair>\\u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2})"
    r"|(?:\\u|%u)(?P<code>[0-9A-Fa-f]{4})|\\u\{(?P<braced>[0-9A-Fa-f]{1,6})\}|\\U(?P<long>[0-9A-Fa-f]{8})"
    r"|\\(?P<letter>[nrtbfvaeE])|(?P<nul>\\0)|\\(?P<sign>[!-/:-@\[-`{-~])|(?P<continued>\\\r?\n)"
    r"|(?P<entity>&(?:\#[0-9]{1,7};?|\#[xX][0-9A-Fa-f]{1,6};?|[A-Za-z][A-Za-z0-9]{1,31};))"
)
# What an escape can start with; found many times faster than the expression above, which then decides.
_LEAD = re.compile(rf"[\\%&\x1b\x9b\[^\u241b{_INVISIBLE}{CUT}]")
_ASCII_LEAD = re.compile(r"[\\\x00-\x08\x0e-\x1f\x7f]|%[0-9A-Fa-fu]|&[#A-Za-z]|\[\d|\^\[")
_ONE_BYTE = re.compile(_BYTE)


def _byte(escape: str) -> int:
    return int(escape[1:], 8) if escape[0] == "\\" and escape[1] != "x" else int(escape[-2:], 16)


def _character_of_bytes(text: str, first: re.Match[str]) -> tuple[str, int]:
    """The character that a run of escaped bytes starts with (UTF-8, else Latin-1), and where its spelling ends."""
    lead = _byte(first[0])
    if lead < 0xC2 or lead > 0xF4:
        return chr(lead), first.end()
    data, end = bytearray([lead]), first.end()
    for _ in range(1 + (lead >= 0xE0) + (lead >= 0xF0)):
        more = _ONE_BYTE.match(text, end)
        if more is None:
            return chr(lead), first.end()
        data.append(_byte(more[0]))
        end = more.end()
    try:
        return data.decode(), end
    except UnicodeDecodeError:
        return chr(lead), first.end()


def _code_to_text(digits: str, base: int = 16) -> str:
    code = int(digits, base)
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"


def _said(text: str, match: re.Match[str], joined: frozenset[str]) -> tuple[str, int] | None:
    """What an escape says and where its spelling ends; None where it is none."""
    name, end = match.lastgroup, match.end()
    spelling = match[0]
    if name in ("colour", "invisible", "cut"):
        return ("" if name in joined else BORDER if name == "cut" else " "), end
    if name == "byte":
        return _character_of_bytes(text, match)
    if name in ("code", "braced", "long"):
        return _code_to_text(match[name]), end
    if name == "pair":
        high, low = int(spelling[2:6], 16), int(spelling[8:12], 16)
        return chr(0x10000 + ((high - 0xD800) << 10) + low - 0xDC00), end
    if name == "letter":
        return _LETTERS[match["letter"]], end
    if name == "sign":
        return match["sign"], end
    if name == "entity":
        said = html.unescape(spelling)
        return (said, end) if said != spelling else None
    return " ", end  # \0, and a backslash at the end of a line


def _lead(text: str) -> re.Pattern[str]:
    return _ASCII_LEAD if text.isascii() else _LEAD


class _Layer:
    """Collects what the escapes of a view say, for the view with this layer taken off.

    Where nothing is escaped for long, the text reads as before and is left out, but for the words next to an escape.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._parts: list[str] = []
        self._length = self._done = 0
        self._arrays: tuple[list[int], list[int], list[int], list[int]] = ([], [], [], [])

    def add(self, start: int, end: int, said: str) -> None:
        """[start, end) of the view says this."""
        self._copy(start)
        self._replace(start, end, said)

    def _replace(self, start: int, end: int, said: str) -> None:
        for array, value in zip(self._arrays, (self._length, self._length + len(said), start, end), strict=True):
            array.append(value)
        self._parts.append(said)
        self._length += len(said)
        self._done = end

    def _copy(self, end: int, *, is_last: bool = False) -> None:
        """The text up to the next escape."""
        text, start = self._view.text, self._done
        if end - start > 3 * KEPT_AROUND:
            first = start
            if self._arrays[0]:
                blank = _BLANK.search(text, start + KEPT_AROUND, end)
                first = blank.start() if blank else end
            last = end
            if not is_last:
                blanks = [text.rfind(blank, first, end - KEPT_AROUND) for blank in " \n\t"]
                last = max(blanks) + 1 if max(blanks) >= 0 else first
            if last - first > KEPT_AROUND:
                self._parts.append(text[start:first])
                self._length += first - start
                self._replace(first, last, BETWEEN)
                start = last
        self._parts.append(text[start:end])
        self._length += end - start

    def view(self, kind: type[View], depth: int) -> View | None:
        """The view; None where nothing was added."""
        if not self._arrays[0]:
            return None
        self._copy(len(self._view.text), is_last=True)
        return kind(to_plain("".join(self._parts)), self._view, depth, *self._arrays)


KEPT_AROUND = 640
"""Characters next to an escape that are read with it, and the rest of the word there."""
BETWEEN = "\n\ufdd1\n"
"""Stands between texts that have nothing to do with each other. Neither a finding nor the blanks inside one reach over it."""
_BLANK = re.compile(r"\s")


def _decoded(view: View, joined: frozenset[str], met: set[str]) -> View | None:
    """The view with one layer of escapes taken off, or None where there is none; their names are added to `met`."""
    text = view.text
    layer = _Layer(view)
    done = 0
    match = _ESCAPE.match
    for lead in _lead(text).finditer(text):
        at = lead.start()
        if at < done or (escape := match(text, at)) is None or (said := _said(text, escape, joined)) is None:
            continue
        met.add(str(escape.lastgroup))
        done = said[1]
        layer.add(at, done, said[0])
    return layer.view(View, view.depth + 1)


# Between two strings of a list; what a colon follows is a key.
_BORDER = re.compile(r"""(?<=[^\\\[{(,:])(["'])\s*,\s*\1(?=[^,\]}):])(?!(?:(?!\1)[^\\\n]|\\.){0,80}\1\s*:)""")
_LIST_OF_TEXTS = re.compile(r"""\[\s*["']""")


def _joined_items(view: View) -> View | None:
    """The view with the borders of neighbouring strings taken out, where JSON or Python text holds a list of them."""
    if _LIST_OF_TEXTS.search(view.text) is None:
        return None
    layer = _Layer(view)
    for border in _BORDER.finditer(view.text):
        layer.add(*border.span(), "")
    return layer.view(JoinedItems, view.depth)


def _form_fields(view: View) -> View | None:
    """The view with the `+` of form fields (`a=1+2&b=3`) as blanks."""
    if _FORM_FIELD.search(view.text) is None:
        return None
    layer = _Layer(view)
    for plus in re.finditer(r"\+", view.text):
        layer.add(*plus.span(), " ")
    return layer.view(View, view.depth)


_FORM_FIELD = re.compile(r"(?:^|[?&\s\"'])[\w.~-]{1,64}=[^\s&+]{0,200}\+[^\s+]")
_HARMLESS_BACKSLASHES = re.compile(r"\\+(?=\s|$)")


def read_all_ways(text: str, depth: int = 0) -> Iterator[View | None]:
    """The text as it stands and in every spelling that it can be read in, at most `MAX_DEPTH` layers deep.

    None comes last where more is left to decode than these layers, or more than `MAX_CHARACTERS` to read: then nobody
    can say what the text holds.
    """
    written = View(to_plain(text).replace(CUT, BORDER), depth=depth)
    yield written
    if len(text) > MAX_CHARACTERS:
        if any(_ESCAPE.match(written.text, lead.start()) for lead in _lead(written.text).finditer(written.text)):
            yield None
        return
    yield from _with_variants(written)
    met = {"cut"} if CUT in text else set[str]()
    seen = {written.text}
    yield from _layers(written, frozenset(), met, seen)
    borders = frozenset(met & {"colour", "invisible", "cut"})
    if CUT in text:
        written = View(to_plain(text), depth=depth)
    for way in {borders, *(frozenset({name}) for name in borders)} - {frozenset()}:
        yield from _layers(written, way, met, seen)


def _with_variants(view: View) -> Iterator[View]:
    if (joined := _joined_items(view)) is not None:
        yield joined
    if (fields := _form_fields(view)) is not None:
        yield fields
        # Here, because %2B is a plus that is meant.
        if (decoded := _decoded(fields, frozenset(), set())) is not None:
            yield decoded


def _layers(written: View, joined: frozenset[str], met: set[str], seen: set[str]) -> Iterator[View | None]:
    """Layer after layer; what is in `joined` counts as nothing, other borders as blanks."""
    view = _decoded(written, joined, met)
    while view is not None and view.depth <= MAX_DEPTH:
        if view.text not in seen:
            seen.add(view.text)
            yield view
            yield from _with_variants(view)
        view = _decoded(view, joined, met)
    # A long row of backslashes alone, as in a drawing, says nothing.
    if view is not None and view.parent is not None:
        rest = _HARMLESS_BACKSLASHES.sub("", view.parent.text)
        if _decoded(View(rest), joined, met) is not None:
            yield None


# --- encodings of whole runs ---

_RUN = re.compile(r"[A-Za-z0-9+/_-]{18,}(?:\r?\n[A-Za-z0-9+/_-]{2,})*={0,2}")
SHORTEST_RUN = 20
_DIGIT = re.compile(r"\d")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2}){10,}")
_NO_TEXT = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]")
_WORDS = re.compile(rb"[\x20-\x7e]{12,}")


@dataclass(frozen=True)
class Encoded:
    """A run of base64 or hexadecimal digits that says a text: it stands at [start, end) of the text that was searched."""

    start: int
    end: int
    spelling: str
    content: str
    encoding: str

    def encode(self, content: str) -> str:
        """Another content in the same spelling."""
        data = content.encode(self.encoding, errors="replace")
        if _HEX.fullmatch(self.spelling):
            return data.hex()
        encoded = (base64.urlsafe_b64encode if re.search("[-_]", self.spelling) else base64.b64encode)(data).decode()
        return encoded if self.spelling.endswith("=") or len(self.spelling) % 4 == 0 else encoded.rstrip("=")


def encoded_runs(text: str) -> Iterator[Encoded]:
    """Runs of base64 (RFC 4648, both alphabets, wrapped over lines too) and of hexadecimal digits that say a text."""
    for run in _RUN.finditer(text):
        # Names and paths have no capitals and no digits.
        if len(run[0]) >= SHORTEST_RUN and (not run[0].islower() or _DIGIT.search(run[0]) is not None):
            yield from _encoded_in(run[0], run.start())


def _encoded_in(run: str, at: int) -> Iterator[Encoded]:
    if (found := _read_run(run, at)) is not None:
        yield found
        return
    # Other lines may follow, and words of a path or letters stand right before it.
    lines = run.splitlines(keepends=True)
    if len(lines) > 1:
        if (found := _read_run("".join(lines[:-1]).rstrip(), at)) is not None:
            yield found
            return
        for line in lines:
            yield from _encoded_in(line.rstrip(), at)
            at += len(line)
        return
    parts = [part for part in re.finditer(r"[A-Za-z0-9+]{18,}={0,2}", run) if part.span() != (0, len(run))]
    for part in parts:
        yield from _encoded_in(part[0], at + part.start())
    for skipped in () if parts else range(1, 4):
        if (found := _read_run(run[skipped:], at + skipped, is_text=True)) is not None:
            yield found
            return


def _read_run(run: str, at: int, *, is_text: bool = False) -> Encoded | None:
    """The run as `Encoded` where it says a text, or unless `is_text` holds words beside other bytes."""
    if len(run) < SHORTEST_RUN:
        return None
    if _HEX.fullmatch(run):
        data = bytes.fromhex(run)
    else:
        letters = re.sub(r"\s|=", "", run).replace("-", "+").replace("_", "/")
        if is_text and (start := _base64_to_bytes(letters[:24])) is not None and not _is_text(start):
            return None
        decoded = _base64_to_bytes(letters)
        if decoded is None:
            return None
        data = decoded
    if data.count(0) * 3 > len(data):
        encoding = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
        return Encoded(at, at + len(run), run, data.decode(encoding, errors="replace"), encoding)
    if not _is_text(data[:18]) and (is_text or _WORDS.search(data) is None):
        return None
    try:
        return Encoded(at, at + len(run), run, data.decode(), "utf-8")
    except UnicodeDecodeError:
        # Any bytes are Latin-1, and come back as they were.
        return Encoded(at, at + len(run), run, data.decode("latin-1"), "latin-1")


def _base64_to_bytes(letters: str) -> bytes | None:
    # One that was cut off says what its whole groups say.
    whole = letters + "=" * (-len(letters) % 4) if len(letters) % 4 != 1 else letters[:-1]
    try:
        return binascii.a2b_base64(whole)
    except binascii.Error:
        return None


def _is_text(data: bytes) -> bool:
    if _NO_TEXT.search(data) is not None:
        return False
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start > len(data) - 4 and error.start > 0  # cut within a character
    return True
