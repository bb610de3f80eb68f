"""Records in, a release out: checked, sorted, described, hashed, and there only when it is whole."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sqlite3
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import IO, Any

from semver import Version

from core.errors import UserError
from core.files import claimed, partial_folder
from core.screen import with_progress
from data.contribution.redaction import describe_findings, redact_value
from data.contribution.validate import CheckedLine, Checker
from data.records import SCHEMA_VERSION, Category, Trajectory
from data.release.changes import (
    TABLE,
    Changes,
    check_level,
    check_order,
    check_unchanged,
    compare,
    load_release,
    open_database,
    record_to_digests,
    text_to_version,
)
from data.release.documents import write_documents
from data.release.manifest import (
    FIELDS,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    NAME_PATTERN,
    NESTED_FIELDS,
    Archive,
    Manifest,
    Part,
    Previous,
    ReleasedFile,
    data_path,
    describe_file,
    read_manifest,
)
from data.release.totals import Totals

DEFAULT_NAME = "tool-trajectories"
DOCUMENTS = Part(source="written by `python -m data release build`", licence="CC0-1.0", rows=0)
"""Documents say facts about the records and are free for everybody."""

SHOWN_PROBLEMS = 5
GROUP_ROWS, GROUP_CHARACTERS = 1_000, 16 * 2**20
"""A row group of Parquet is full with so many rows or characters."""


@dataclass
class Stated:
    """What the command line says for records that do not say it themselves."""

    licence: str | None = None
    source: str | None = None
    used: dict[str, int] = field(default_factory=lambda: {"licence": 0, "source": 0})
    """How many records it was used for."""


@dataclass(frozen=True)
class Built:
    """A release that was just built."""

    manifest: Manifest
    changes: Changes | None
    previous: Path | None


def build_release(
    inputs: Sequence[Path],
    out: Path,
    *,
    version: str,
    name: str | None = None,
    previous: Path | None = None,
    day: date | None = None,
    creator: str | None = None,
    url: str | None = None,
    stated: Stated | None = None,
) -> Built:
    """Build a release from trajectory files.

    Args:
        inputs: JSON Lines; how the records are spread over them and their order make no difference.
        out: folder that must not be there yet; it appears when everything in it is right.
        name: name of the data set; that of the releases beside `out` when None.
        previous: folder of the version before; the newest older one beside `out` when None.
        day: day of publication; that of the newest record when None.

    Raises:
        UserError: for a bad line, an id that stands twice, secrets or personal data, a licence that does not allow it, or
            a version that semver does not allow after the previous one.
    """
    number = text_to_version(version)
    if name is not None and not re.fullmatch(NAME_PATTERN, name):
        raise UserError(
            f"--name {name!r}: expected Latin letters, digits and - _ . only, because files are named after it"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is there already, and a release is never changed. Give another folder")
    name, previous = _name_and_previous(out, name, previous, number)
    if previous is not None:  # before anything is read, because that takes a while
        check_order(number, Version.parse(read_manifest(previous).version))
    with claimed(out), partial_folder(out) as staging:
        database = open_database(staging / "records.sqlite")
        totals = _stage(database, inputs, stated or Stated())
        facts: dict[str, Any] = {
            "name": name,
            "version": str(number),
            "date": day or date.fromisoformat(totals.last_day()),
            "schema_version": SCHEMA_VERSION,
            "previous": None,
            "sources": totals.sources(),
            "statistics": totals.statistics(),
            "fields": totals.sorted_fields(),
        }
        files = _write_data(database, staging, totals)
        changes, old_changelog = None, ""
        if previous is not None:
            before = load_release(database, "before", previous)
            facts["previous"] = Previous(version=before.version, release_sha256=before.release_sha256)
            changes = compare(database, before, Manifest(**facts, files=files, archive=None))
            check_level(number, Version.parse(before.version), changes)
            check_unchanged(before, previous, "CHANGELOG.md")
            old_changelog = (previous / "CHANGELOG.md").read_text(encoding="utf-8")
        database.close()
        (staging / "records.sqlite").unlink()
        documents = write_documents(
            staging,
            facts,
            files,
            creator=creator or f"Contributors of {name}",
            url=url,
            changes=changes,
            old_changelog=old_changelog,
        )
        files += [describe_file(staging, path, [DOCUMENTS]) for path in documents]
        manifest = _write_archive(staging, Manifest(**facts, files=files, archive=None).signed())
        text = manifest.to_json().encode()
        if len(text) > MAX_MANIFEST_BYTES:
            raise UserError(
                f"the manifest would have {len(text)} bytes, more than {MAX_MANIFEST_BYTES}: there are too many different "
                "sources, attributions, source addresses or tools. Do records carry one each?"
            )
        (staging / MANIFEST).write_bytes(text)
    return Built(manifest, changes, previous)


def _name_and_previous(out: Path, name: str | None, previous: Path | None, version: Version) -> tuple[str, Path | None]:
    """The data set's name and the version before, from the options or from the releases beside `out`."""
    if previous is not None:
        before = read_manifest(previous).name
        if name is not None and name != before:
            raise UserError(f"{previous}: is a release of {before!r}, not of {name!r}")
        return before, previous
    folders = sorted(out.parent.iterdir()) if out.parent.is_dir() else []
    beside = {
        folder: read_manifest(folder)
        for folder in folders
        if folder != out and not folder.name.startswith(".") and (folder / MANIFEST).is_file()
    }
    names = {manifest.name for manifest in beside.values()}
    if name is None and len(names) > 1:
        raise UserError(
            f"{out.parent}: holds releases of {', '.join(sorted(names))}; say which one this is with --name"
        )
    name = name or next(iter(names), DEFAULT_NAME)
    older: dict[Path, Version] = {}
    for folder, manifest in beside.items():
        if manifest.name == name:
            theirs = Version.parse(manifest.version)
            if theirs.compare(version) == 0:
                raise UserError(f"version {manifest.version} of {name} is released already: {folder}")
            if theirs < version:
                older[folder] = theirs
    # A pre-release promises nothing, so a version is held against the newest one that does.
    firm = {folder: theirs for folder, theirs in older.items() if not theirs.prerelease}
    candidates = firm or older
    return name, max(candidates, key=lambda folder: candidates[folder], default=None)


# ---- reading ----


def _stage(database: sqlite3.Connection, inputs: Sequence[Path], stated: Stated) -> Totals:
    """Check all records and put them into the tables `after` and `lines`; returns what they add up to."""
    database.execute(f"CREATE TABLE after ({TABLE}, category TEXT, line INTEGER) WITHOUT ROWID")
    database.execute("CREATE TABLE lines (number INTEGER PRIMARY KEY, text BLOB)")
    database.execute("BEGIN")
    totals, problems, count = Totals(), _Problems(), 0
    for line, record in _good_lines(inputs):
        count += 1
        # The object that is written differs from the line in its Korean names only.
        value = json.loads(line.raw)
        value |= {"category": str(record.category), "outcome": str(record.outcome)}
        _fill_in(record, value, stated)
        # First, so that no other message shows a secret; it may be the id.
        redacted, found = redact_value(value)
        place = f"{line.path}:{line.line}: id {redacted['id']!r}"
        if found:
            where = f"field {_first_difference(value, redacted)!r}"
            problems.add(f"{place}: {where} holds {describe_findings(found)}, not redacted", secret=True)
            continue
        try:
            licence = totals.add(record, value)
        except ValueError as error:
            problems.add(f"{place}: {error}")
            continue
        row = (record.id.encode(), licence, record_to_digests(value), record.category, count)
        database.execute("INSERT INTO after VALUES (?, ?, ?, ?, ?)", row)
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        database.execute("INSERT INTO lines VALUES (?, ?)", (count, text.encode()))
    database.execute("COMMIT")
    problems.refuse()
    return totals


def _good_lines(inputs: Sequence[Path]) -> Iterator[tuple[CheckedLine, Trajectory]]:
    """Every record of files that must be clean, with its line.

    Raises:
        UserError: at the first bad line, as `python -m data validate` would name it.
    """
    with closing(Checker()) as checker:
        for path in inputs:
            for line in with_progress(checker.check_file(path), f"checking {path}"):
                bad = next((problem for problem in line.problems if problem.code.startswith("E")), None)
                if bad is not None:
                    command = shlex.join(["python", "-m", "data", "validate", *map(str, inputs)])
                    raise UserError(f"{bad}\nNothing was released. All bad lines are listed by: {command}")
                if line.record is not None:
                    yield line, line.record


class _Problems:
    """Why a release is refused: the first few in full, all counted."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._count = 0
        self._secrets = False

    def add(self, problem: str, *, secret: bool = False) -> None:
        self._count += 1
        self._secrets = self._secrets or secret
        if len(self._shown) < SHOWN_PROBLEMS:
            self._shown.append(problem)

    def refuse(self) -> None:
        if self._count:
            more = f"\n... and {self._count - len(self._shown)} more" if self._count > len(self._shown) else ""
            hint = "\nRedact first: python -m data redact FILE --out REDACTED" if self._secrets else ""
            raise UserError("nothing was released:\n" + "\n".join(self._shown) + more + hint)


def _fill_in(record: Trajectory, value: dict[str, Any], stated: Stated) -> None:
    """Give a record the licence and source of the command line, if it states none."""
    for name, text in (("licence", stated.licence), ("source", stated.source)):
        if text is not None and not getattr(record.metadata, name):
            setattr(record.metadata, name, text)
            value["metadata"] = {**value.get("metadata", {}), name: text}
            stated.used[name] += 1


def _first_difference(value: Any, redacted: Any, path: str = "") -> str:
    """The place of the first value or key that redaction would change, such as `action_sequence.0.output`."""
    if isinstance(value, dict) and isinstance(redacted, dict):
        for (key, part), (new_key, new_part) in zip(value.items(), redacted.items(), strict=False):
            if key != new_key:
                return f"{path}.(a key)".lstrip(".")
            if part != new_part:
                return _first_difference(part, new_part, f"{path}.{key}".lstrip("."))
    if isinstance(value, list) and isinstance(redacted, list):
        for index, (part, new_part) in enumerate(zip(value, redacted, strict=True)):
            if part != new_part:
                return _first_difference(part, new_part, f"{path}.{index}")
    return path


# ---- writing ----


def _write_data(database: sqlite3.Connection, folder: Path, totals: Totals) -> list[ReleasedFile]:
    (folder / "data").mkdir()
    files = []
    for category in Category:
        parts = totals.parts(category)
        if not parts:
            continue
        rows = sum(part.rows for part in parts)
        query = "SELECT text FROM after JOIN lines ON number = line WHERE category = ? ORDER BY id"
        jsonl, parquet = data_path(category, "jsonl"), data_path(category, "parquet")
        with open(folder / jsonl, "wb") as file:
            for (line,) in database.execute(query, (category,)):
                file.write(line + b"\n")
        write_parquet(folder / parquet, (json.loads(line) for (line,) in database.execute(query, (category,))))
        for path in (jsonl, parquet):
            files.append(describe_file(folder, path, parts, rows=rows, schema_version=SCHEMA_VERSION))
    return files


def record_to_row(record: dict[str, Any]) -> dict[str, str]:
    """A record as one row of a table: texts as they are, nested fields as JSON text."""
    return {
        name: json.dumps(record[name], ensure_ascii=False, separators=(",", ":"))
        if name in NESTED_FIELDS
        else record[name]
        for name in FIELDS
    }


def write_parquet(target: Path | IO[bytes], records: Iterator[dict[str, Any]]) -> None:
    """Write records as rows of text columns, a row group in memory at a time."""
    import pyarrow as pa  # noqa: PLC0415 - slow to import
    from pyarrow import parquet  # noqa: PLC0415

    schema = pa.schema([pa.field(name, pa.string(), nullable=False) for name in FIELDS])
    with parquet.ParquetWriter(target, schema, compression="zstd") as writer:
        for rows in _row_groups(records):
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _row_groups(records: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, str]]]:
    rows: list[dict[str, str]] = []
    size = 0
    for record in records:
        rows.append(record_to_row(record))
        size += sum(map(len, rows[-1].values()))
        if len(rows) == GROUP_ROWS or size >= GROUP_CHARACTERS:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _write_archive(folder: Path, manifest: Manifest) -> Manifest:
    """Write the ZIP of everything so far and of the manifest; returns the manifest that names the ZIP too.

    Times, owners and order are fixed, so that the same files give the same ZIP.
    """
    name = f"{manifest.folder_in_archive}.zip"
    with zipfile.ZipFile(folder / name, "w") as archive:

        def entry(path: str) -> zipfile.ZipInfo:
            info = zipfile.ZipInfo(f"{manifest.folder_in_archive}/{path}", date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix, whose permissions the next line gives
            info.external_attr = 0o100644 << 16
            packed = path.endswith((".png", ".parquet"))
            info.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            return info

        archive.writestr(entry(MANIFEST), manifest.to_json())
        for file in manifest.files:
            info = entry(file.path)
            info.file_size = file.bytes
            with open(folder / file.path, "rb") as source, archive.open(info, "w") as target:
                shutil.copyfileobj(source, target, 2**20)
    whole = describe_file(folder, name, [])
    return manifest.model_copy(update={"archive": Archive(path=name, bytes=whole.bytes, sha256=whole.sha256)}).signed()
