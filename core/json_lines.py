"""Strict JSON and JSON Lines: what loads here loads everywhere else. Errors say in one line what is wrong and where."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from pydantic_core import from_json

from core.errors import UserError

MAX_DEPTH = 150
"""Levels of nesting that are read. Readers of JSON give up at some hundreds, each at another number."""


NotJsonKind = Literal["encoding", "syntax", "constant", "duplicate_key", "number", "depth", "surrogate"]


@dataclass(frozen=True)
class BadLine:
    """One line that is not a record, and why."""

    path: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


class NotJson(ValueError):
    """Bytes or text that are not strict JSON. `kind` says in one word what is wrong."""

    def __init__(self, kind: NotJsonKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def _reject_constant(name: str) -> Any:
    raise NotJson("constant", f"{name} is not JSON")


def _finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise NotJson("number", f"number {text[:40]} is too large to be kept")
    return value


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise NotJson("duplicate_key", f"key {twice!r} stands twice in one object")
    return keys


# Made once: `json.loads` with hooks would build it anew for each text, which takes longer than reading a short row.
STRICT_JSON = json.JSONDecoder(
    parse_constant=_reject_constant, parse_float=_finite_float, object_pairs_hook=_reject_duplicate_keys
)


def is_deeper_than(value: Any, depth: int) -> bool:
    """Whether lists and dicts stand in each other more than `depth` levels deep."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(depth):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return bool(level)


def json_to_object(text: str) -> Any:
    """`json.loads` that refuses what could not be written back: NaN, infinities, duplicate keys, half characters, and
    what is nested deeper than `MAX_DEPTH`.

    Raises:
        NotJson: a ValueError with a one-line reason.
    """
    try:
        value = STRICT_JSON.decode(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
        if text.count("{") + text.count("[") > MAX_DEPTH and is_deeper_than(value, MAX_DEPTH):
            raise NotJson("depth", f"nested deeper than {MAX_DEPTH} levels")
        return value
    except NotJson:
        raise
    except json.JSONDecodeError as error:
        raise NotJson("syntax", f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}") from None
    except UnicodeEncodeError:
        raise NotJson("surrogate", "half of a surrogate pair (\\ud800 to \\udfff) is no character") from None
    except RecursionError:
        raise NotJson("depth", f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:  # Python reads no integer of more than 4,300 digits
        raise NotJson("number", "a number of thousands of digits is too large to be kept") from None


_ODD = -(2**62)
"""Makes a sum of keys that no line can have, so that the slow reader decides."""


def _keys_in(value: Any) -> int:
    """How many keys all objects of a value have."""
    keys, items = (len(value), value.values()) if type(value) is dict else (0, value)
    for item in items:
        kind = type(item)
        if kind is str:
            continue
        if kind is dict or kind is list:
            keys += _keys_in(item)
        elif kind is float and math.isinf(item):
            return _ODD
    return keys


def json_line_to_object(line: bytes) -> Any:
    """One line of a JSON Lines file, in the strict way of `json_to_object`.

    Most lines are read by pydantic's reader, which is three times as fast and as strict but for numbers that are too large
    and for keys that stand twice. Each key that was written has its colon, so a line with as many colons as the value has keys
    has none twice. Where texts hold colons too, `":` is counted instead, if no space stands before a colon. All other lines,
    and all that are refused, go the slow way, which decides and says what is wrong.

    Raises:
        NotJson: a ValueError with a one-line reason.
    """
    line = line.rstrip(b"\r\n")
    try:
        value = from_json(line, allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        value = None
    if type(value) is dict or type(value) is list:
        keys = _keys_in(value)
        if line.count(b":") == keys or (
            line.count(b'":') == keys
            # Inside a text a tab or a line break would not be JSON, so they stand between its parts.
            and not (b"\t" in line or b"\r" in line or b"\n" in line or b" :" in line)
        ):
            return value
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotJson("encoding", f"not UTF-8: byte {error.start} of the line") from None
    return json_to_object(text)


LONGEST_LINE_BYTES = 2**26
"""Beyond 64 MiB a line is refused, so that a file that is one endless line does not fill the memory."""


def bounded_lines(path: str | Path, file: IO[bytes]) -> Iterator[bytes]:
    """The lines of an open file with their ends.

    Raises:
        UserError: at a line of more than `LONGEST_LINE_BYTES`.
    """
    number = 0
    while line := file.readline(LONGEST_LINE_BYTES + 1):
        number += 1
        if len(line) > LONGEST_LINE_BYTES:
            raise UserError(f"{path}:{number}: a line of more than {LONGEST_LINE_BYTES >> 20} MiB")
        yield line


def read_jsonl(path: str | Path) -> Iterator[tuple[int, Any | BadLine]]:
    """Lines of a JSON Lines file as (line number from 1, object or BadLine). Blank lines are skipped.

    Raises:
        UserError: if the file cannot be opened.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed by the with below; split so that only opening is guarded
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        for number, raw in enumerate(bounded_lines(path, file), start=1):
            if not raw.strip():
                continue
            try:
                yield number, json_line_to_object(raw)
            except ValueError as error:
                yield number, BadLine(str(path), number, str(error))
