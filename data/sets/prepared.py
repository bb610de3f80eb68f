"""A prepared set read back, and its rows on their way into Arrow, which invents nothing in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from core.config import describe_validation_error
from core.errors import UserError
from core.files import file_sha256
from core.screen import with_progress
from data.chats import Chat, PreferencePair
from data.records import SCHEMA_VERSION
from data.sets.build import ROW_MODEL, Example, Kind
from data.wire import PreparedSet

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class Prepared:
    """A prepared set in memory. Rows are `Chat` where kind is "chat", `PreferencePair` where it is "pair"."""

    folder: Path
    kind: Kind
    train: list[Any]
    validation: list[Any]
    manifest: dict[str, Any]


def read_prepared(folder: str | Path) -> Prepared:
    """Read what `build` wrote, if it is still exactly that.

    Raises:
        UserError: if the folder or its manifest is missing, a file is not the one in the manifest, or train is empty.
    """
    folder = Path(folder)
    again = "Build it again with `python -m data build --config FILE.yaml`."
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder of a prepared set. {again}")
    try:
        manifest = PreparedSet.model_validate_json((folder / "manifest.json").read_bytes())
        kind, version = cast("Kind", manifest.kind), manifest.schema_version
        hashes = {split: manifest.splits[split].sha256 for split in ("train", "validation")}
        model = ROW_MODEL[kind]
    except FileNotFoundError:
        raise UserError(
            f"{folder}: no manifest.json, so this is no prepared set or a broken-off one. {again}"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{folder}/manifest.json: not a manifest of a prepared set. {again}") from None
    if version != SCHEMA_VERSION:
        raise UserError(f"{folder}: made with schema {version}, this is {SCHEMA_VERSION}. {again}")
    rows: dict[str, list[Any]] = {}
    for split, expected in hashes.items():
        path = folder / f"{split}.jsonl"
        if not path.is_file():
            raise UserError(f"{path}: missing. {again}")
        if file_sha256(path) != expected:
            raise UserError(f"{path}: changed since manifest.json was written (other sha256). {again}")
        with open(path, encoding="utf-8") as file:
            lines = enumerate(with_progress(file, f"reading {path}"), start=1)
            rows[split] = [_prepared_row(model, line, f"{path}:{number}") for number, line in lines]
    if not rows["train"]:
        raise UserError(f"{folder}: train.jsonl is empty. {again}")
    return Prepared(
        folder, kind, rows["train"], rows["validation"], manifest.model_dump(mode="json", exclude_unset=True)
    )


def _prepared_row(model: type[Example], line: str, where: str) -> Example:
    try:
        return model.model_validate_json(line)
    except ValidationError as error:  # `build` never writes such a row; a set made by hand may hold one
        raise UserError(f"{where}: {describe_validation_error(error, model)}") from None


def rows_to_dataset(rows: Sequence[Example] | Sequence[dict[str, Any]]) -> datasets.Dataset:
    """Rows as a Dataset for a trainer; no other line of this project builds Arrow.

    Rendered rows (dicts of text, numbers and flat lists of numbers) keep their columns. A `Chat` or `PreferencePair`
    becomes the columns `id`, `kind` and `row`, where `row` is its JSON text; `dataset_row` is the way back.

    Text, because no other column type gives arguments back as written: structs fill the keys of other rows with null,
    and the Json type of datasets 5.2 rounds floats to ten decimals, turns integers beyond 64 bits into text, and is only
    chosen where rows differ, so that two splits get two schemas and cannot be joined.

    Raises:
        TypeError: if a dict holds a dict or nested lists, which Arrow would change.
    """
    import datasets  # noqa: PLC0415 - takes a second, and hashing a Dataset imports torch

    examples: list[dict[str, Any]] = []
    for row in rows:
        if isinstance(row, Chat | PreferencePair):
            kind = "pair" if isinstance(row, PreferencePair) else "chat"
            examples.append({"id": row.id, "kind": kind, "row": row.model_dump_json()})
            continue
        for name, value in row.items():
            first = value[0] if isinstance(value, list) and value else value
            if isinstance(first, dict | list | tuple) and first:
                raise TypeError(f"column {name!r} is nested; give rows_to_dataset a Chat or a PreferencePair instead")
        examples.append(row)
    return datasets.Dataset.from_list(examples)


def dataset_row(example: dict[str, Any]) -> Example:
    """The `Chat` or `PreferencePair` of one example of `rows_to_dataset`."""
    return ROW_MODEL[example["kind"]].model_validate_json(example["row"])
