"""MANIFEST.json: what a release is made of, and the hashes that prove it.

A release is a folder::

    MANIFEST.json                 this file
    README.md croissant.json ...  documents, made from the records
    data/web.jsonl                records of one category, sorted by id, one JSON object a line
    data/web.parquet              the same records; nested fields are JSON text
    NAME-VERSION.zip              all of the above in one file

Three hashes stand on each other. Each file has its own. `release_sha256` covers everything the manifest says, the ZIP's
entry excepted, so it is the same for the folder and for the ZIP: it is the number that a publisher announces.
`manifest_sha256` covers the whole manifest, so that damage to this file is told apart from damage to the others.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError
from semver import Version

from core.config import describe_validation_error
from core.errors import UserError
from core.files import file_sha256
from core.json_lines import json_to_object
from data.records import Category

MANIFEST = "MANIFEST.json"
MAX_MANIFEST_BYTES = 64 * 2**20

FIELDS = ("id", "category", "timestamp", "environment", "tool", "action_sequence", "outcome", "metadata")
"""The columns of a table, in the order of the schema."""
NESTED_FIELDS = ("environment", "action_sequence", "metadata")
"""The columns that hold JSON text."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$"
FileName = Annotated[str, Field(pattern=NAME_PATTERN)]
SemanticVersion = Annotated[str, AfterValidator(lambda text: str(Version.parse(text)))]
# No part of a path may begin with a dot, so that none leads out of the folder or hides in it.
FilePath = Annotated[str, Field(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]*/)*[A-Za-z0-9_][A-Za-z0-9_.-]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Part(_Strict):
    """Records of one source under one licence."""

    source: str
    licence: str
    """SPDX identifier."""
    rows: int


class ReleasedFile(_Strict):
    """One file. `rows` and `schema_version` are null for documents."""

    path: FilePath
    """From the folder of the release, with forward slashes."""
    bytes: int
    sha256: Sha256
    rows: int | None
    schema_version: str | None
    parts: list[Part]


class ReleaseSource(_Strict):
    """Who is to be named for records of one source under one licence."""

    source: str
    licence: str
    rows: int
    attribution: list[str]
    """What the records' `metadata.attribution` asks to be named."""
    urls: list[str]
    """What the records' `metadata.source_url` says."""


class Previous(_Strict):
    """The version before."""

    version: SemanticVersion
    release_sha256: Sha256


class Archive(_Strict):
    """The ZIP of the release; null in the manifest inside the ZIP."""

    path: FileName
    bytes: int
    sha256: Sha256


class Manifest(_Strict):
    """The content of MANIFEST.json."""

    format: str = "tool-trajectory-release/1"
    name: FileName
    version: SemanticVersion
    date: date
    schema_version: SemanticVersion
    previous: Previous | None
    sources: list[ReleaseSource]
    statistics: dict[str, JsonValue]
    fields: dict[str, list[str]]
    """Each field that some record has, such as `metadata.language`, with the JSON types of its values."""
    files: list[ReleasedFile]
    archive: Archive | None
    release_sha256: Sha256 = "0" * 64
    manifest_sha256: Sha256 = "0" * 64

    def signed(self) -> Manifest:
        """The same with its two hashes computed."""
        known = self.model_copy(update={"release_sha256": self._hash_without("archive", "release_sha256")})
        return known.model_copy(update={"manifest_sha256": known._hash_without()})

    def _hash_without(self, *names: str) -> str:
        content = self.model_dump(mode="json", exclude={*names, "manifest_sha256"})
        text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False, indent=2) + "\n"

    def data_file(self, category: str, ending: str = "jsonl") -> ReleasedFile | None:
        """The file of a category's records, if the release has any."""
        return next((file for file in self.files if file.path == data_path(category, ending)), None)

    @property
    def categories(self) -> list[Category]:
        """The categories that the release has records of."""
        return [category for category in Category if self.data_file(category)]

    @property
    def folder_in_archive(self) -> str:
        """The folder that everything in the ZIP stands in."""
        return f"{self.name}-{self.version}"


def printable(text: str) -> str:
    """Text that cannot drive a terminal or break a line: as it is where it is plain, else with escapes."""
    return text if text.isprintable() else ascii(text)


def data_path(category: str, ending: str = "jsonl") -> str:
    """Path of a category's records: `data/web.jsonl`."""
    return f"data/{category}.{ending}"


def text_to_manifest(text: bytes, where: str) -> Manifest:
    """A manifest that is whole and unchanged since it was built, as far as its own hashes can tell.

    Raises:
        UserError: if it is not.
    """
    try:
        value = json_to_object(text.decode("utf-8"))
        manifest = Manifest.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{where}: {describe_validation_error(error, Manifest)}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 at byte {error.start}") from None
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    if manifest.signed() != manifest or manifest.to_json().encode() != text:
        raise UserError(f"{where}: was changed after the release was built (it is not what its own sha256 says)")
    return manifest


def read_manifest(folder: Path | str) -> Manifest:
    """The manifest of a release folder.

    Raises:
        UserError: if the folder is no release, or its manifest was changed.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        zipped = " Unzip it first." if folder.suffix == ".zip" else ""
        raise UserError(f"{folder}: is no folder of a release ({MANIFEST} is missing).{zipped}")
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise UserError(f"{path}: is larger than {MAX_MANIFEST_BYTES} bytes, so it is no manifest")
    return text_to_manifest(path.read_bytes(), str(path))


def find_release(file: Path, sha256: str) -> dict[str, str] | None:
    """`name`, `version` and `release_sha256` of the release in whose folder a file lies; None where it lies in none.

    Raises:
        UserError: if it is not the file that the release lists under its path.
    """
    for folder in list(file.parents)[:2]:  # records lie in data/
        try:
            manifest = read_manifest(folder)
        except UserError:
            continue
        listed = next((each for each in manifest.files if folder / each.path == file), None)
        if listed is not None and listed.sha256 != sha256:
            raise UserError(
                f"{file}: is not the file that {folder / MANIFEST} lists (other sha256). "
                f"`python -m data release verify {folder}` says what else differs"
            )
        if listed is not None:
            return {"name": manifest.name, "version": manifest.version, "release_sha256": manifest.release_sha256}
    return None


def describe_file(folder: Path, path: str, parts: list[Part], **more: Any) -> ReleasedFile:
    """The manifest's entry of a file that lies in the folder."""
    size = (folder / path).stat().st_size
    return ReleasedFile(
        path=path,
        bytes=size,
        sha256=file_sha256(folder / path),
        parts=parts,
        **{"rows": None, "schema_version": None, **more},
    )
