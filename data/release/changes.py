"""What changed between two releases, and which version numbers that allows (https://semver.org, 2.0.0).

Two releases are compared in one SQLite file, so memory does not grow with them. A user of a release reads records by
their fields, from a file per category, under a licence; that is the interface which the version number speaks about:

    major   a record, a field or a category's file is gone; a field has values of a new type; a record's licence changed
    minor   records, fields or a category's file were added
    patch   the content of records was mended, or nothing changed at all
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from semver import Version

from core.errors import UserError
from core.files import file_sha256
from core.json_lines import read_jsonl
from core.screen import with_progress
from data.release.licences import licence_to_spdx
from data.release.manifest import FIELDS, Manifest, data_path, read_manifest


class Level(IntEnum):
    """The least part of a version that has to grow."""

    PATCH = 0
    MINOR = 1
    MAJOR = 2


@dataclass(frozen=True)
class Changes:
    """What is different in the second of two releases."""

    added: list[str]
    """Ids, sorted, as are all lists here."""
    removed: list[str]
    changed: dict[str, list[str]]
    """Id -> names of the fields that are not as before."""
    relicensed: dict[str, tuple[str, str]]
    """Id -> licence before and after."""
    fields_added: list[str]
    fields_removed: list[str]
    fields_retyped: dict[str, list[str]]
    """Field -> JSON types that its values have now and had not before."""
    files_added: list[str]
    files_removed: list[str]
    schema_versions: tuple[str, str]
    licences_added: list[str]
    licences_removed: list[str]
    statistics: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """Statistic, such as `outcomes.web.success` -> its value before and after, where they differ."""

    def reasons(self) -> dict[Level, list[str]]:
        """Why the version has to grow, per level."""
        before, after = (Version.parse(version) for version in self.schema_versions)
        major = [
            _count(self.removed, "record was removed", "records were removed"),
            _list("field removed", self.fields_removed),
            _list("category removed", self.files_removed),
            _list("field with values of a new type", self.fields_retyped),
            _count(self.relicensed, "record has another licence", "records have another licence"),
            f"schema {before} became {after}" if after.major != before.major or after < before else "",
        ]
        minor = [
            _count(self.added, "record was added", "records were added"),
            _list("field added", self.fields_added),
            _list("category added", self.files_added),
            f"schema {before} became {after}" if after.major == before.major and after > before else "",
        ]
        patch = [_count(self.changed, "record was changed", "records were changed")]
        levels = {Level.MAJOR: major, Level.MINOR: minor, Level.PATCH: patch}
        return {level: [reason for reason in reasons if reason] for level, reasons in levels.items()}

    @property
    def level(self) -> Level:
        """The least part of the version that has to grow."""
        return next((level for level, reasons in self.reasons().items() if reasons), Level.PATCH)

    def sentences(self) -> list[str]:
        """All that changed, for people, the gravest first."""
        return [reason for reasons in self.reasons().values() for reason in reasons]


def _count(items: Iterable[str], one: str, many: str) -> str:
    ids = list(items)
    shown = ", ".join(repr(name) for name in ids[:3]) + (", ..." if len(ids) > 3 else "")
    return f"{len(ids)} {one if len(ids) == 1 else many} ({shown})" if ids else ""


def _list(what: str, names: Iterable[str]) -> str:
    joined = ", ".join(names)
    return f"{what}: {joined}" if joined else ""


# ---- records as what can be compared ----

_INNER = {
    "environment",
    "action_sequence[]",
    "metadata",
    "metadata.tools[]",
    "metadata.tools[].function",
    "metadata.advice[]",
}
"""The objects whose keys are fields. Arguments, outputs, schemas and contributors' own keys hold what they like."""

_TYPES = {str: "string", bool: "boolean", int: "number", float: "number", dict: "object", list: "array"}


def record_to_fields(record: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Each field of a record, such as `action_sequence[].error`, with the JSON type of its value; None for null."""
    return _object_to_fields(record, "")


def _object_to_fields(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, str | None]]:
    for key, part in value.items():
        name = prefix + key
        yield name, None if part is None else _TYPES[type(part)]
        inner, items = (f"{name}[]", part) if isinstance(part, list) else (name, [part])
        if inner in _INNER:
            for item in items:
                if isinstance(item, dict):
                    yield from _object_to_fields(item, f"{inner}.")


def collect_fields(found: dict[str, set[str]], record: dict[str, Any]) -> None:
    """Add a record's fields and their types to those found before."""
    for name, kind in record_to_fields(record):
        types = found.setdefault(name, set())
        if kind is not None:
            types.add(kind)


_DIGEST_BYTES = 16


def record_to_digests(record: dict[str, Any]) -> bytes:
    """A hash of each of the fields, in the order of FIELDS. The order of keys does not count."""
    return b"".join(
        hashlib.blake2b(
            json.dumps(record.get(name), ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode(),
            digest_size=_DIGEST_BYTES,
        ).digest()
        for name in FIELDS
    )


def _differing_fields(before: bytes, after: bytes) -> list[str]:
    cuts = range(0, len(before), _DIGEST_BYTES)
    return [
        name for name, at in zip(FIELDS, cuts, strict=True) if before[at:][:_DIGEST_BYTES] != after[at:][:_DIGEST_BYTES]
    ]


# ---- two releases in one database ----

TABLE = "id BLOB PRIMARY KEY, licence TEXT, digests BLOB"
"""What `compare` reads of the tables `before` and `after`."""


def open_database(path: Path) -> sqlite3.Connection:
    """A database that is thrown away after use, so nothing is done to keep it safe from a crash."""
    database = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=OFF", "synchronous=OFF", "temp_store=FILE", "cache_size=-65536"):
        database.execute(f"PRAGMA {pragma}")
    return database


def load_release(database: sqlite3.Connection, table: str, folder: Path) -> Manifest:
    """Read a release's records into a table.

    Raises:
        UserError: if the folder is no release or a file of records is not the one that the manifest names.
    """
    manifest = read_manifest(folder)
    database.execute(f"CREATE TABLE {table} ({TABLE}) WITHOUT ROWID")
    database.execute("BEGIN")
    for category in manifest.categories:
        path = folder / data_path(category)
        check_unchanged(manifest, folder, data_path(category))
        record: Any  # a BadLine has none of the fields either
        for number, record in with_progress(read_jsonl(path), f"reading {path}"):
            try:
                row = (record["id"].encode(), licence_to_spdx(record["metadata"]["licence"]), record_to_digests(record))
                database.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", row)
            except (*NO_RECORD, sqlite3.IntegrityError):
                raise UserError(no_released_record(folder, path, number)) from None
    database.execute("COMMIT")
    return manifest


NO_RECORD = (KeyError, TypeError, AttributeError, ValueError)
"""What reading a record's fields raises where a folder calls itself a release and its lines are no records."""


def no_released_record(folder: Path, path: Path, number: int) -> str:
    """What to tell of such a line."""
    return f"{path}:{number}: is no record that can be released. `python -m data release verify {folder}` says more"


def check_unchanged(manifest: Manifest, folder: Path, path: str) -> None:
    """Refuse a file that is not, byte for byte, the one that the manifest names.

    Raises:
        UserError: if it is missing or another.
    """
    (known,) = [file for file in manifest.files if file.path == path]
    try:
        digest = file_sha256(folder / path)
    except OSError as error:
        raise UserError(f"{folder / path}: cannot be read: {error.strerror}") from None
    if digest != known.sha256:
        raise UserError(
            f"{folder / path}: is not the file that was released. `python -m data release verify {folder}` says more"
        )


def compare(database: sqlite3.Connection, before: Manifest, after: Manifest) -> Changes:
    """What changed from the release in table `before` to the one in table `after`."""

    def only_in(one: str, other: str) -> list[str]:
        rows = database.execute(f"SELECT id FROM {one} WHERE id NOT IN (SELECT id FROM {other}) ORDER BY id")
        return [key.decode() for (key,) in rows]

    changed: dict[str, list[str]] = {}
    relicensed: dict[str, tuple[str, str]] = {}
    for key, *licences, old, new in database.execute(
        "SELECT id, before.licence, after.licence, before.digests, after.digests FROM before JOIN after USING (id) "
        "WHERE before.digests != after.digests ORDER BY id"
    ):
        changed[key.decode()] = _differing_fields(old, new)
        if licences[0] != licences[1]:
            relicensed[key.decode()] = (licences[0], licences[1])
    old_licences, new_licences = ({source.licence for source in m.sources} for m in (before, after))
    old_files, new_files = (set(m.categories) for m in (before, after))
    old_numbers, new_numbers = (dict(_flat(m.statistics)) for m in (before, after))
    return Changes(
        added=only_in("after", "before"),
        removed=only_in("before", "after"),
        changed=changed,
        relicensed=relicensed,
        fields_added=sorted(after.fields.keys() - before.fields.keys()),
        fields_removed=sorted(before.fields.keys() - after.fields.keys()),
        fields_retyped={
            name: gained
            for name, types in after.fields.items()
            # A field that was null everywhere promised no type.
            if before.fields.get(name)
            and (gained := sorted(set(types) - set(before.fields[name])))
            and name not in _ANY_TYPE
        },
        files_added=sorted(new_files - old_files),
        files_removed=sorted(old_files - new_files),
        schema_versions=(before.schema_version, after.schema_version),
        licences_added=sorted(new_licences - old_licences),
        licences_removed=sorted(old_licences - new_licences),
        statistics={
            name: (old_numbers.get(name, 0), new_numbers.get(name, 0))
            for name in sorted(old_numbers.keys() | new_numbers.keys())
            if old_numbers.get(name, 0) != new_numbers.get(name, 0)
        },
    )


_ANY_TYPE = frozenset({"action_sequence[].input", "action_sequence[].output"})
"""Fields whose type the schema leaves open."""


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(part, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value


# ---- version numbers ----


def text_to_version(text: str) -> Version:
    """A version as semver.org writes it.

    Raises:
        UserError: if it is not one.
    """
    try:
        return Version.parse(text)
    except ValueError:
        hint = f" Did you mean {text[1:]}?" if text[:1] in "vV" and Version.is_valid(text[1:]) else ""
        raise UserError(
            f"version {text!r} is not as semver.org 2.0.0 has it, such as 1.4.0 or 2.0.0-rc.1.{hint}"
        ) from None


def check_order(version: Version, before: Version) -> None:
    """Refuse a version that semver does not allow after `before`, whatever changed.

    Raises:
        UserError: naming the rule.
    """
    if version.compare(before) <= 0:
        more = " Build metadata (after +) does not count." if version.compare(before) == 0 else ""
        raise UserError(f"version {version} does not come after {before}, the version before it.{more}")
    _, name = _grown(version, before)
    zeros = {"major": (version.minor, version.patch), "minor": (version.patch,)}.get(name, ())
    if any(zeros):
        right = {"major": f"{version.major}.0.0", "minor": f"{version.major}.{version.minor}.0"}[name]
        raise UserError(
            f"version {version} does not follow {before}: when the {name} version grows, what is right of it starts at 0. "
            f"Use {right}"
        )


def check_level(version: Version, before: Version, changes: Changes) -> None:
    """Refuse a version that is too small a step from `before` for these changes.

    In 0.y.z and between pre-releases of the same version anything may change (semver 4 and 9); a pre-release still has to
    fit the version that it is a pre-release of, as far as that shows in its zeros.

    Raises:
        UserError: naming the changes and the version that would do.
    """
    grown, _ = _grown(version, before)
    if changes.level > grown:
        reasons = changes.reasons()[changes.level]
        least = before.finalize_version()
        right = str(least.bump_major() if changes.level is Level.MAJOR else least.bump_minor())
        raise UserError(
            f"version {version} is not allowed after {before}: this change is {changes.level.name.lower()}, because "
            f"{'; '.join(reasons)}. The least version that semver allows is {right}"
        )


def _grown(version: Version, before: Version) -> tuple[Level, str]:
    """How much may change from `before` to `version`, and which part of the number grew."""
    if version.major > before.major:
        return Level.MAJOR, "major"
    if version.minor > before.minor:
        return (Level.MAJOR if version.major == 0 else Level.MINOR), "minor"
    if version.patch > before.patch:
        return (Level.MAJOR if version.major == 0 else Level.PATCH), "patch"
    # The same numbers, so `before` is a pre-release: 2.0.0-rc.1 -> 2.0.0 may hold what a new major version may.
    if version.major == 0 or (version.minor, version.patch) == (0, 0):
        return Level.MAJOR, "pre-release"
    return (Level.MINOR if version.patch == 0 else Level.PATCH), "pre-release"


def diff_releases(before: Path, after: Path, workplace: Path) -> Changes:
    """What changed from one release folder to another; `workplace` is an empty folder for the database.

    Raises:
        UserError: if one of them is no release, or damaged.
    """
    database = open_database(workplace / "diff.sqlite")
    try:
        manifests = load_release(database, "before", before), load_release(database, "after", after)
        return compare(database, *manifests)
    finally:
        database.close()
