"""Does somebody hold exactly what was released? Every file is hashed, and what the manifest says is counted anew.

A release comes from anywhere, so nothing in it is trusted: no link is followed, nothing is unpacked to the disk, and no
more is read of a member of a ZIP than the manifest says it has.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import IO, Protocol

from pydantic import ValidationError

from core.config import describe_validation_error
from core.errors import UserError
from core.json_lines import json_line_to_object
from core.screen import with_progress
from data.records import Category, Trajectory
from data.release.build import record_to_row
from data.release.manifest import (
    FIELDS,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Manifest,
    ReleasedFile,
    data_path,
    printable,
    text_to_manifest,
)
from data.release.totals import Totals

MAX_LINE_BYTES = 64 * 2**20
MAX_MEMBERS = 10_000
MAX_ARCHIVE_BYTES = 2**40
"""Unpacked size of a ZIP that is still read; the largest releases of others are far below."""
CHUNK = 2**20
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError)
"""What reading a damaged member of a ZIP may raise."""


@dataclass(frozen=True)
class Fault:
    """One thing that is not as it was released."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class Verified:
    """What was found. `manifest` is None where there is none that can be read."""

    manifest: Manifest | None
    faults: list[Fault]


class _Holder(Protocol):
    """A folder or a ZIP, as files by their paths within the release."""

    def paths(self) -> dict[str, int]:
        """Each file with its size in bytes."""

    def open(self, path: str) -> IO[bytes]:
        """A file to read."""

    def faults(self) -> list[Fault]:
        """What has no place in a release, such as links."""


def verify_release(path: Path, *, release_sha256: str | None = None) -> Verified:
    """Everything that is wrong with a release folder or a release's ZIP.

    Args:
        release_sha256: the number that the publisher announced.

    Raises:
        UserError: if there is nothing at `path`, or it is no release at all.
    """
    if path.is_dir():
        return _verify(_Folder(path), release_sha256)
    if not path.is_file():
        raise UserError(f"{path}: there is no such folder or ZIP of a release")
    try:
        with zipfile.ZipFile(path) as archive:
            return _verify(_Zip(archive), release_sha256)
    except (zipfile.BadZipFile, NotImplementedError, OverflowError) as error:
        raise UserError(f"{path}: cannot be read as a ZIP: {error}") from None


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def _entries(self) -> Iterator[tuple[str, os.stat_result]]:
        waiting = [self._root]
        while waiting:
            folder = waiting.pop()
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(Path(entry.path))
                else:
                    yield Path(entry.path).relative_to(self._root).as_posix(), status

    def paths(self) -> dict[str, int]:
        return {path: status.st_size for path, status in self._entries() if stat.S_ISREG(status.st_mode)}

    def open(self, path: str) -> IO[bytes]:
        return open(self._root / path, "rb")

    def faults(self) -> list[Fault]:
        return [
            Fault(
                printable(path),
                "is a link; a release has files only" if stat.S_ISLNK(status.st_mode) else "is no regular file",
            )
            for path, status in self._entries()
            if not stat.S_ISREG(status.st_mode)
        ]


class _Zip:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        infos = archive.infolist()
        if len(infos) > MAX_MEMBERS or sum(info.file_size for info in infos) > MAX_ARCHIVE_BYTES:
            raise UserError(f"{archive.filename}: unpacks to more than a release can be; it is not opened")
        # A release's ZIP has everything in one folder.
        self._top = next(
            (info.filename.partition("/")[0] for info in infos if info.filename.endswith(f"/{MANIFEST}")), ""
        )
        self._members: dict[str, zipfile.ZipInfo] = {}
        self._faults: list[Fault] = []
        for info in infos:
            if reason := self._unfit(info):
                self._faults.append(Fault(printable(info.filename), reason))
            else:
                self._members[info.filename.removeprefix(f"{self._top}/")] = info

    def _unfit(self, info: zipfile.ZipInfo) -> str:
        mode = info.external_attr >> 16
        parts = info.filename.split("/")
        if stat.S_ISLNK(mode) or info.is_dir():
            return (
                "is a link; a release has files only"
                if stat.S_ISLNK(mode)
                else "is a folder entry, which was not released"
            )
        if info.filename.startswith("/") or "\\" in info.filename or ":" in parts[0] or {"", ".", ".."} & set(parts):
            return "leads out of the folder of the release"
        if parts[0] != self._top:
            return f"is not in the folder {self._top}/ of the release"
        if info.filename.removeprefix(f"{self._top}/") in self._members:
            return "stands twice in the ZIP"
        if info.flag_bits & 1:
            return "is encrypted"
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return "is packed in a way that no release is"
        return ""

    def paths(self) -> dict[str, int]:
        return {path: info.file_size for path, info in self._members.items()}

    def open(self, path: str) -> IO[bytes]:
        return self._archive.open(self._members[path])

    def faults(self) -> list[Fault]:
        return self._faults


def _verify(held: _Holder, release_sha256: str | None) -> Verified:
    faults = held.faults()
    paths = held.paths()
    if MANIFEST not in paths:
        raise UserError(f"{MANIFEST} is missing, so this is no release, or a part of one")
    if paths[MANIFEST] > MAX_MANIFEST_BYTES:
        raise UserError(f"{MANIFEST} has {paths[MANIFEST]} bytes, so it is no manifest")
    try:
        with held.open(MANIFEST) as file:
            manifest = text_to_manifest(file.read(MAX_MANIFEST_BYTES), MANIFEST)
    except (UserError, *UNREADABLE) as error:
        return Verified(None, [*faults, Fault(MANIFEST, str(error).removeprefix(f"{MANIFEST}: "))])
    if release_sha256 is not None and release_sha256.strip().lower() != manifest.release_sha256:
        faults.append(
            Fault(
                MANIFEST,
                f"this is another release: its release_sha256 is {manifest.release_sha256}, not {release_sha256}",
            )
        )
    known = {file.path: file for file in manifest.files}
    archive = manifest.archive  # none in an unpacked ZIP
    if archive is not None:
        known[archive.path] = ReleasedFile(**archive.model_dump(), rows=None, schema_version=None, parts=[])
    for path in sorted(paths.keys() - known.keys() - {MANIFEST}):
        faults.append(Fault(printable(path), "was not released; the manifest does not name it"))
    sound: set[str] = set()
    for path, released in with_progress(sorted(known.items()), "hashing files", total=len(known)):
        reason = "is missing" if path not in paths else _differs(held, path, paths[path], released)
        if reason:
            faults.append(Fault(path, reason))
        else:
            sound.add(path)
    # What is said about records is counted anew where the files are the released ones; others are named already.
    if all(data_path(category) in sound for category in manifest.categories):
        faults += _recount(held, manifest, sound)
    if archive is not None and archive.path in sound:
        faults += _verify_inner(held, archive.path, manifest)
    return Verified(manifest, faults)


def _differs(held: _Holder, path: str, size: int, file: ReleasedFile) -> str:
    if size != file.bytes:
        return f"has {size} bytes, released were {file.bytes}"
    digest = hashlib.sha256()
    left = file.bytes
    try:
        with held.open(path) as stream:
            while chunk := stream.read(min(CHUNK, left + 1)):
                left -= len(chunk)
                if left < 0:
                    return f"is longer than its {file.bytes} bytes"
                digest.update(chunk)
    except UNREADABLE as error:
        return f"cannot be read: {error}"
    return "" if digest.hexdigest() == file.sha256 else "is not what was released (its sha256 is another)"


def _recount(held: _Holder, manifest: Manifest, sound: set[str]) -> Iterator[Fault]:
    """What a manifest says that does not follow from its files. Honest builders make none of these."""
    totals = Totals()
    has_bad_line = not manifest.categories
    if not manifest.categories:
        yield Fault(MANIFEST, "names no file of records")
    for category in manifest.categories:
        path, parquet = data_path(category), data_path(category, "parquet")
        rows, last, is_bad = 0, b"", False
        for number, reason, key in _records(held, path, category, totals):
            rows = number
            if not reason and key <= last:
                reason = "its id is not after the one of the line before"
            if reason:
                is_bad = True
                yield Fault(f"{path}:{number}", reason)
            last = key
        has_bad_line |= is_bad or not rows
        file = manifest.data_file(category)
        if file is None or not rows or rows != file.rows:
            yield Fault(path, f"has {rows} records, the manifest says {file and file.rows}")
        elif not is_bad and totals.parts(category) != file.parts:
            yield Fault(path, "has records of other sources or licences than the manifest says")
        if not is_bad and parquet in sound and (reason := _differs_in_rows(held, path, parquet)):
            yield Fault(parquet, reason)
    if has_bad_line:
        return  # what follows is then wrong too
    if totals.statistics() != manifest.statistics:
        yield Fault(MANIFEST, "its statistics are not those of the records")
    if totals.sorted_fields() != manifest.fields:
        yield Fault(MANIFEST, "its fields are not those of the records")
    if totals.sources() != manifest.sources:
        yield Fault(MANIFEST, "its sources are not those of the records")


def _lines(held: _Holder, path: str) -> Iterator[bytes]:
    with held.open(path) as stream:
        while line := stream.readline(MAX_LINE_BYTES + 1):
            yield line


def _records(held: _Holder, path: str, category: Category, totals: Totals) -> Iterator[tuple[int, str, bytes]]:
    """(line number, what is wrong, id) of each line."""
    for number, line in enumerate(with_progress(_lines(held, path), f"reading {path}"), start=1):
        try:
            if len(line) > MAX_LINE_BYTES or not line.endswith(b"\n"):
                raise ValueError("the line has no end" if len(line) <= MAX_LINE_BYTES else "the line is too long")
            value = json_line_to_object(line)
            record = Trajectory.model_validate(value)
            if record.category != category or value["category"] != category:
                raise ValueError(f"is a record of category {value['category']!r}")
            totals.add(record, value)
            yield number, "", record.id.encode()
        except ValidationError as error:
            yield number, describe_validation_error(error, Trajectory), b""
        except ValueError as error:
            yield number, str(error), b""


def _differs_in_rows(held: _Holder, jsonl: str, parquet_path: str) -> str:
    from pyarrow import ArrowException, parquet  # noqa: PLC0415 - slow to import

    with held.open(parquet_path) as stream, tempfile.TemporaryFile() as file:
        while chunk := stream.read(CHUNK):  # Parquet is read from its end, which a stream out of a ZIP cannot
            file.write(chunk)
        try:
            table = parquet.ParquetFile(file)
            if table.schema_arrow.names != list(FIELDS):
                return f"has the columns {', '.join(table.schema_arrow.names)}"
            rows = (row for batch in table.iter_batches(1_000) for row in batch.to_pylist())
            expected = (record_to_row(json.loads(line)) for line in _lines(held, jsonl))
            for number, (row, record) in enumerate(zip_longest(rows, expected), start=1):
                if row != record:
                    return f"row {number} is not line {number} of {jsonl}"
        except (ArrowException, OSError, ValueError) as error:
            return f"cannot be read as Parquet: {error}"
    return ""


def _verify_inner(held: _Holder, path: str, manifest: Manifest) -> list[Fault]:
    """The ZIP beside the files holds the same release."""
    with held.open(path) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                inner = _Zip(archive)
                faults = [Fault(f"{path}!{fault.path}", fault.reason) for fault in inner.faults()]
                expected = manifest.model_copy(update={"archive": None}).signed()
                sizes = {
                    MANIFEST: len(expected.to_json().encode()),
                    **{file.path: file.bytes for file in manifest.files},
                }
                if inner.paths() != sizes:
                    return [*faults, Fault(path, "holds other files than the release")]
                if inner.open(MANIFEST).read(MAX_MANIFEST_BYTES) != expected.to_json().encode():
                    return [*faults, Fault(path, "holds another manifest than the release")]
                for file in manifest.files:
                    if reason := _differs(inner, file.path, file.bytes, file):
                        faults.append(Fault(f"{path}!{file.path}", reason))
                return faults
        except (UserError, *UNREADABLE) as error:
            return [Fault(path, f"cannot be read as a ZIP: {error}")]
