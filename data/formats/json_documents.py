"""JSON that is no JSON Lines:
one list, one object that wraps a list, or objects one after the other over any number of lines.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from core.errors import UserError
from core.json_lines import LONGEST_LINE_BYTES, MAX_DEPTH, STRICT_JSON, BadLine, is_deeper_than

CHUNK_BYTES = 2**20
LONGEST_ROW_BYTES = LONGEST_LINE_BYTES
"""Beyond 64 MiB a row is refused, so that a file that is one endless line does not fill the memory."""


NumberedRow = tuple[int, Any]
"""Where a row stands, from 1 (its line; in a list, Parquet or on the hub its place), and the row itself or a `BadLine`."""


_WRAPPERS = frozenset(
    {"data", "rows", "records", "examples", "samples", "items", "entries", "instances", "dataset", "train"}
)


def wrapped_rows(value: Any) -> list[Any] | None:
    """The rows in an object whose only list of objects has one of the names that wrap rows; null for any other value. Rows as
    the hub's viewer serves them are unwrapped, too."""
    if not isinstance(value, dict):
        return None
    lists = {
        key: item
        for key, item in value.items()
        if isinstance(item, list) and item and all(isinstance(each, dict) for each in item)
    }
    lists.pop("features", None)  # the viewer's description of the columns
    lists.pop("reductions", None)  # scores of Inspect over all epochs of a sample
    if len(lists) != 1 or not lists.keys() <= _WRAPPERS:
        return None
    (rows,) = lists.values()
    served = all(row.keys() >= {"row_idx", "row"} and isinstance(row["row"], dict) for row in rows)
    return [row["row"] for row in rows] if served else rows


def is_one_document(head: bytes) -> bool:
    """Whether JSON goes over lines: a list, or an object that its first line does not finish."""
    head = head.lstrip()
    line, line_break, _ = head.partition(b"\n")
    if head.startswith(b"["):
        # Lists of which each stands on a line are rows that are no objects; one list is rows.
        return not (line_break and is_whole(line) and head[len(line) :].strip())
    if not head.startswith(b"{") or not line_break:
        return False
    text = line.decode("utf-8", errors="replace").rstrip()
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text)  # it is right so far; a row that is broken is broken earlier
    except RecursionError:
        pass
    return False


def is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


class JsonDocument:
    """The elements of a JSON list, or values one after the other, out of a file that need not fit into memory."""

    _SPACE = re.compile(r"[ \t\r\n]*")
    # The decoder stops with one of these at the place where a text was cut, and never more than so far before it.
    _CUT_WITHIN = 12

    def __init__(self, path: Path, head: bytes, file: IO[bytes]) -> None:
        self._path = path
        self._file = file
        # Bytes that are no UTF-8 become half characters, so that only the row that holds them is bad.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text = self._decoder.decode(head)
        self._at = 0
        self._line = 1
        self._ended = False
        self._is_list = False

    def rows(self) -> Iterator[NumberedRow]:
        """The elements or values with their places, from 1; a single value may wrap rows."""
        numbered = self._numbered()
        first, second = next(numbered, None), next(numbered, None)
        wrapped = wrapped_rows(first[1]) if first is not None and second is None and not self._is_list else None
        if wrapped is not None:
            yield from enumerate(wrapped, start=1)
            return
        yield from (row for row in (first, second) if row is not None)
        yield from numbered

    def _numbered(self) -> Iterator[NumberedRow]:
        place = 0
        self._is_list = is_list = self._next() == "["
        self._at += is_list
        while after := self._next():
            if is_list and after == "]" and not place:
                self._at += 1
                break
            place += 1
            yield place, self._value(place)
            after = self._next()
            if is_list and after not in (",", "]"):
                raise self._broken("a list goes on with , or ends with ]")
            if is_list:
                self._at += 1
            if after == "]":
                break
        else:
            if is_list:
                raise self._broken("the list has no end")
        if is_list and self._next():
            raise self._broken("there is text behind the end of the list")

    def _next(self) -> str:
        """The next character that is no space, or an empty string at the end."""
        while True:
            space = self._SPACE.match(self._text, self._at)
            assert space is not None
            self._at = space.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_more():
                return ""

    def _read_more(self) -> bool:
        if self._ended:
            return False
        held = len(self._text) - self._at
        if held > LONGEST_ROW_BYTES:
            raise self._broken(f"a row of more than {LONGEST_ROW_BYTES >> 20} MiB")
        # Twice as much each time, so that a long row is not parsed from its start again for each MiB of it.
        block = self._file.read(max(CHUNK_BYTES, held))
        self._ended = not block
        self._line += self._text.count("\n", 0, self._at)
        self._text = self._text[self._at :] + self._decoder.decode(block, final=self._ended)
        self._at = 0
        return True

    def _value(self, place: int) -> Any:
        decoder: json.JSONDecoder = STRICT_JSON
        fault: str | None = None
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._at)
                if end == len(self._text) and self._read_more():  # a number may go on
                    continue
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated string") or error.pos + self._CUT_WITHIN > len(self._text)
                if is_cut and self._read_more():
                    continue
                raise self._broken(f"not JSON: {error.msg}", at=error.pos) from None
            except RecursionError:
                raise self._broken("nested too deeply") from None
            except ValueError as error:
                # What the strict decoder refuses is JSON all the same, so that the row has an end and the next a start.
                decoder, fault = json.JSONDecoder(), str(error)
                continue
            text = self._text[self._at : end]
            self._at = end
            fault = fault or half_character(text, value)
            if fault is None and is_deeper_than(value, MAX_DEPTH):
                fault = f"nested deeper than {MAX_DEPTH} levels"
            return value if fault is None else BadLine(str(self._path), place, fault)

    def _broken(self, reason: str, *, at: int | None = None) -> UserError:
        at = self._at if at is None else at
        line = self._line + self._text.count("\n", 0, at)
        return UserError(
            f"{self._path}:{line}: {reason}. Behind this place nobody can tell where a row begins; rows one a line "
            "(JSON Lines) could be read on."
        )


def half_character(text: str, value: Any) -> str | None:
    """What is wrong with a JSON text that was decoded with `surrogateescape`, or null."""
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        return "not UTF-8"
    try:
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair (\\ud800 to \\udfff) is no character"
    return None
