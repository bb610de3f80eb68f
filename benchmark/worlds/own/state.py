"""What a run has left behind, as entries that can be compared: results of `look` calls, or the files of `state.dir`."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from pydantic import JsonValue

Entries = dict[str, JsonValue]
"""Leaves of a state by JSON Pointer. An entry of a list stands under `[key=value]` where something names it, else its place."""

_EMPTY: tuple[JsonValue, ...] = ({}, [])
_NAMES = ("id", "uuid", "key", "code", "number", "path", "name", "title")
"""What names an entry of a list, the best first; beside these whatever ends with `_id`."""
_BESIDE_SQLITE = ("-wal", "-shm", "-journal")
_MAX_TEXT = 2_000_000


def files_to_state(folder: Path) -> dict[str, JsonValue]:
    """The files of a folder by their paths: JSON and SQLite as what they hold, other texts as they are, the rest by hash."""
    state: dict[str, JsonValue] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                state[name + "/"] = {}
        elif path.is_file() and "__pycache__" not in path.parts and not name.endswith(_BESIDE_SQLITE):
            state[name] = _file_to_value(path)
    return state


def _file_to_value(path: Path) -> JsonValue:
    with open(path, "rb") as file:
        head = file.read(16)
    if head == b"SQLite format 3\0":
        try:
            return _sqlite_to_value(path)
        except sqlite3.Error:
            return _digest(path)
    if path.stat().st_size > _MAX_TEXT:
        return _digest(path)
    try:
        return text_to_value(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return _digest(path)


def _digest(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def _sqlite_to_value(path: Path) -> JsonValue:
    """All rows of all tables, read from a copy: the server may be writing."""
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("", *_BESIDE_SQLITE):
            if (beside := path.with_name(path.name + suffix)).is_file():
                shutil.copy(beside, Path(folder, "copy" + suffix))
        with closing(sqlite3.connect(Path(folder, "copy"))) as base:
            names = base.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
            tables: dict[str, JsonValue] = {}
            for (name,) in sorted(names.fetchall()):
                quoted = '"' + name.replace('"', '""') + '"'
                rows = base.execute(f"SELECT * FROM {quoted}")
                columns = [each[0] for each in rows.description]
                tables[name] = [
                    {
                        column: value.hex() if isinstance(value, bytes) else value
                        for column, value in zip(columns, row, strict=True)
                    }
                    for row in rows
                ]
            return tables


def text_to_value(text: str) -> JsonValue:
    """A text as the JSON object or list that it holds; else the text."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            value: JsonValue = json.loads(text)
        except ValueError:
            return text
        return value
    return text


def without(value: JsonValue, pointers: Sequence[str]) -> JsonValue:
    """A value without what JSON Pointers with `*` name."""
    for pointer in pointers:
        value = _without(value, pointer_to_parts(pointer))
    return value


def _without(value: JsonValue, parts: Sequence[str]) -> JsonValue:
    if not parts:
        return None
    first, rest = parts[0], parts[1:]
    if isinstance(value, dict):
        return {
            key: _without(each, rest) if first in ("*", key) else each
            for key, each in value.items()
            if rest or first not in ("*", key)
        }
    if isinstance(value, list):
        return [
            _without(each, rest) if first in ("*", str(place)) else each
            for place, each in enumerate(value)
            if rest or first not in ("*", str(place))
        ]
    return value


def pointer_to_parts(pointer: str) -> list[str]:
    """The parts of a JSON Pointer."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def part_to_pointer(part: str) -> str:
    """A part, as it stands in a pointer."""
    return "/" + part.replace("~", "~0").replace("/", "~1")


def point(value: JsonValue, pointer: str) -> JsonValue:
    """What a JSON Pointer names; a text that holds JSON is read.

    Raises:
        LookupError: there is no such thing.
    """
    if isinstance(value, str) and pointer:
        value = text_to_value(value)
    for part in pointer_to_parts(pointer):
        if isinstance(value, dict):
            value = value[part]
        elif isinstance(value, list) and part.isdecimal():
            value = value[int(part)]
        else:
            raise LookupError(part)
    return value


def point_all(value: JsonValue, pointer: str) -> list[JsonValue]:
    """Everything that a JSON Pointer with `*` names."""
    found = [text_to_value(value) if isinstance(value, str) else value]
    for part in pointer_to_parts(pointer):
        inner: list[JsonValue] = []
        for each in found:
            if part == "*":
                inner += each.values() if isinstance(each, dict) else each if isinstance(each, list) else []
            else:
                try:
                    inner.append(point(each, part_to_pointer(part)))
                except LookupError:
                    continue
        found = inner
    return found


def state_to_entries(state: JsonValue, *, volatile: Sequence[str], ignore_case: bool) -> Entries:
    """The leaves of a state, minus what is volatile."""
    entries: Entries = {}
    _flatten(without(state, volatile), "", entries, ignore_case)
    return entries


def _flatten(value: JsonValue, pointer: str, entries: Entries, ignore_case: bool) -> None:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            _flatten(each, pointer + part_to_pointer(key), entries, ignore_case)
    elif isinstance(value, list) and value:
        name = naming(value)
        for place, each in enumerate(value):
            part = f"[{name}={each[name]}]" if name and isinstance(each, dict) else str(place)
            _flatten(each, pointer + part_to_pointer(part), entries, ignore_case)
    else:
        entries[pointer] = value.casefold() if ignore_case and isinstance(value, str) else value


def naming(values: Sequence[JsonValue]) -> str | None:
    """The key that names each object of a list, if one does."""
    if not all(isinstance(each, dict) for each in values):
        return None
    objects: list[Mapping[str, Any]] = [each for each in values if isinstance(each, dict)]
    shared = [key for key in objects[0] if all(isinstance(each.get(key), str | int) for each in objects)]
    candidates = [*(name for name in _NAMES if name in shared), *(key for key in shared if key.endswith("_id"))]
    return next((key for key in candidates if len({str(each[key]) for each in objects}) == len(objects)), None)


def compare_states(before: Entries, expected: Entries, actual: Entries) -> tuple[int, list[str], list[str]]:
    """How many entries had to change, which of these are not right, and which others have changed."""
    filled: set[str] | None = None
    goals = 0
    missing: list[str] = []
    damage: list[str] = []
    for pointer in dict.fromkeys([*before, *expected, *actual]):
        old, wanted, now = (entries.get(pointer, _ABSENT) for entries in (before, expected, actual))
        is_goal, is_right = not _same(old, wanted), _same(wanted, now)
        if is_right and not is_goal:
            continue  # nearly all of a large state
        if all(each in _EMPTY or each is _ABSENT for each in (old, wanted, now)):
            if filled is None:
                filled = {
                    parent for entries in (before, expected, actual) for each in entries for parent in _parents(each)
                }
            if pointer in filled:
                continue  # an empty list is nothing beside the entries that it holds elsewhere
        goals += is_goal
        if not is_right:
            told = f"{pointer or '/'}: expected {_shown(wanted)}, is {_shown(now)}"
            (missing if is_goal else damage).append(told)
    return goals, missing, damage


_ABSENT = object()


def _parents(pointer: str) -> list[str]:
    parts = pointer.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def _same(one: object, other: object) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other


def _shown(value: object) -> str:
    if value is _ABSENT:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
