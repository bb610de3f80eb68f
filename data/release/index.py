"""Where each record of a release lies, and the cursors that lead on from it: what the read API asks."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from core.errors import UserError
from core.json_lines import json_line_to_object
from core.screen import with_progress
from data.records import Category, Outcome, Timestamp
from data.release.changes import NO_RECORD, check_unchanged, no_released_record
from data.release.manifest import Manifest, data_path, read_manifest

_BATCH_RECORDS = 256
_AS_TIMESTAMP = TypeAdapter(Timestamp)


@dataclass(frozen=True)
class Filters:
    """Which records of a category are asked for; None lets all pass."""

    category: Category
    tool: str | None = None
    outcome: Outcome | None = None
    language: str | None = None
    since: datetime | None = None

    def to_sql(self) -> tuple[str, list[Any]]:
        """A condition on the table `records`, and its values."""
        tests: list[tuple[str, Any]] = [
            ("category = ?", self.category),
            ("tool = ?", self.tool),
            ("outcome = ?", self.outcome),
            ("language = ?", self.language),
            ("time >= ?", None if self.since is None else _microseconds(self.since)),
        ]
        used = [(test, value) for test, value in tests if value is not None]
        return " AND ".join(test for test, _ in used), [value for _, value in used]


def _microseconds(moment: datetime) -> int:
    since_epoch = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since_epoch.days * 86_400 + since_epoch.seconds) * 1_000_000 + since_epoch.microseconds


class RecordIndex:
    """Where each record of a release stands in its file, and what it can be filtered by.

    Args:
        folder: a release.
        index: file for the index, which must not be there yet.

    Raises:
        UserError: if the folder is no release, or a file of records was changed.
    """

    def __init__(self, folder: Path, index: Path) -> None:
        self.manifest: Manifest = read_manifest(folder)
        # Opened anew for each batch, because requests run in threads and a slow reader must hold nothing.
        self._address = f"{index.resolve().as_uri()}?mode=ro&immutable=1"
        self._files: dict[Category, int] = {}
        with closing(sqlite3.connect(index, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode=OFF")
            database.execute("PRAGMA synchronous=OFF")
            database.execute(
                "CREATE TABLE records (number INTEGER PRIMARY KEY, category TEXT, tool TEXT, outcome TEXT, language TEXT,"
                " time INTEGER, start INTEGER, bytes INTEGER)"
            )
            database.execute("BEGIN")
            for category in self.manifest.categories:
                check_unchanged(self.manifest, folder, data_path(category))
                path = folder / data_path(category)
                self._files[category] = os.open(path, os.O_RDONLY)
                rows = ((category, *row) for row in with_progress(_index_rows(path), f"indexing {path}"))
                database.executemany(
                    "INSERT INTO records (category, tool, outcome, language, time, start, bytes) VALUES (?,?,?,?,?,?,?)",
                    rows,
                )
            for column in ("tool", "outcome", "language"):
                database.execute(f"CREATE INDEX by_{column} ON records (category, {column}, number)")
            database.execute("CREATE INDEX by_time ON records (category, time)")
            database.execute("COMMIT")

    def close(self) -> None:
        """Close the files; no record can be read afterwards."""
        for file in self._files.values():
            os.close(file)

    def count(self, filters: Filters) -> int:
        """How many records pass."""
        condition, values = filters.to_sql()
        with closing(sqlite3.connect(self._address, uri=True)) as database:
            (count,) = database.execute(f"SELECT count(*) FROM records WHERE {condition}", values).fetchone()
        return int(count)

    def lines(self, filters: Filters, *, after: int = 0) -> Iterator[tuple[int, bytes]]:
        """(number, JSON) of the records that pass and stand behind the number `after`, in the order of their ids."""
        condition, values = filters.to_sql()
        query = f"SELECT number, start, bytes FROM records WHERE {condition} AND number > ? ORDER BY number LIMIT ?"
        while True:
            with closing(sqlite3.connect(self._address, uri=True)) as database:
                found = database.execute(query, [*values, after, _BATCH_RECORDS]).fetchall()
            for number, start, size in found:
                yield number, os.pread(self._files[filters.category], size, start)
            if len(found) < _BATCH_RECORDS:
                return
            after = found[-1][0]


def _index_rows(path: Path) -> Iterator[tuple[str, str, str | None, int, int, int]]:
    """(tool, outcome, language, time in microseconds, first byte, bytes without the line's end) of each line."""
    start = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = json_line_to_object(line)
                time = _microseconds(_AS_TIMESTAMP.validate_python(record["timestamp"]))
                filtered = (str(record["tool"]), str(record["outcome"]), record["metadata"].get("language"))
            except NO_RECORD:
                raise UserError(no_released_record(path.parents[1], path, number)) from None
            yield *filtered, time, start, len(line) - 1
            start += len(line)


def number_to_cursor(number: int, filters: Filters, release_sha256: str) -> str:
    """Where the next page begins, as text that fits this release and these filters only."""
    return (
        base64.urlsafe_b64encode(number.to_bytes(8, "big") + _check(number, filters, release_sha256))
        .decode()
        .rstrip("=")
    )


def cursor_to_number(cursor: str, filters: Filters, release_sha256: str) -> int:
    """The number of the last record before the page.

    Raises:
        ValueError: if the cursor is of another release or of other filters, or nobody gave it out.
    """
    try:
        content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except ValueError:
        content = b""
    number = int.from_bytes(content[:8], "big")
    if content[8:] != _check(number, filters, release_sha256):
        raise ValueError("is not the `next` of a page with these filters; begin again without it")
    return number


def _check(number: int, filters: Filters, release_sha256: str) -> bytes:
    text = json.dumps([number, release_sha256, *filters.to_sql()])
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
