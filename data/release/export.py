"""Tables of a release for people and notebooks: one row per record, nested fields as JSON text.

A spreadsheet takes a cell that begins with `=` for a formula and runs it. So in CSV a cell that begins with one of
`= + - @`, their full-width forms, a tab or a line break gets an apostrophe in front; so does a cell that begins with an
apostrophe. Reading takes one leading apostrophe away, and every cell is again what it was (`cell_to_text`).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from core.errors import UserError, nearest
from core.files import whole_file
from core.json_lines import BadLine, read_jsonl
from core.screen import with_progress
from data.records import KOREAN_CATEGORIES, Category, CategoryName
from data.release.build import record_to_row, write_parquet
from data.release.changes import check_unchanged
from data.release.manifest import FIELDS, NESTED_FIELDS, Manifest, data_path, read_manifest

if TYPE_CHECKING:
    import pandas

_ACTIVE = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n", "'")


class TableFormat(StrEnum):
    """What `release export` writes."""

    CSV = "csv"
    PARQUET = "parquet"


def text_to_cell(text: str) -> str:
    """A cell that no spreadsheet runs."""
    return f"'{text}" if text.startswith(_ACTIVE) else text


def cell_to_text(cell: str) -> str:
    """What `text_to_cell` was given."""
    return cell.removeprefix("'")


def read_release(folder: Path | str, category: Category | None = None) -> Iterator[dict[str, Any]]:
    """Records of a release in its order, or those of one category. Files that were changed are refused.

    Raises:
        UserError: if the folder is no release, or a file is not the released one.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    for wanted in _categories(manifest, category):
        check_unchanged(manifest, folder, data_path(wanted))
        for _, record in read_jsonl(folder / data_path(wanted)):
            if isinstance(record, BadLine):
                raise UserError(str(record))
            yield record


def _categories(manifest: Manifest, category: Category | None) -> list[Category]:
    if category is None:
        return manifest.categories
    if category not in manifest.categories:
        raise UserError(f"the release holds no record of {category}; it has {', '.join(manifest.categories)}")
    return [category]


def export_release(folder: Path, out: Path, *, table: TableFormat, category: Category | None = None) -> int:
    """Write the records of a release as one table; returns how many.

    Raises:
        UserError: as `read_release`.
    """
    count = 0

    def counted() -> Iterator[dict[str, Any]]:
        nonlocal count
        for record in with_progress(read_release(folder, category), f"exporting {folder}"):
            count += 1
            yield record

    with whole_file(out) as file:
        if table is TableFormat.PARQUET:
            write_parquet(file, counted())
        else:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            # All cells are quoted: a spreadsheet that splits at ; must not find a formula behind one.
            writer = csv.writer(text, quoting=csv.QUOTE_ALL)
            writer.writerow(FIELDS)
            for record in counted():
                writer.writerow([text_to_cell(cell) for cell in record_to_row(record).values()])
            text.flush()
            text.detach()
    return count


def csv_to_records(path: Path | str) -> Iterator[dict[str, Any]]:
    """The records of a CSV export, as they were."""
    csv.field_size_limit(2**31 - 1)
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row_to_record({name: cell_to_text(cell) for name, cell in row.items()})


def row_to_record(row: dict[str, str]) -> dict[str, Any]:
    """A row of a table (Parquet or DataFrame) as the record that it was made of."""
    return {name: json.loads(cell) if name in NESTED_FIELDS else cell for name, cell in row.items()}


def release_to_dataframe(folder: Path | str, category: Category | str | None = None) -> pandas.DataFrame:
    """The records of a release as a DataFrame with one text column per field; nested fields are JSON text.

    Raises:
        UserError: as `read_release`, and for a category that the release does not have.
    """
    import pandas  # noqa: PLC0415 - slow to import

    wanted = None if category is None else text_to_category(category)
    rows = [record_to_row(record) for record in read_release(folder, wanted)]
    return pandas.DataFrame(rows, columns=list(FIELDS), dtype="str")


def text_to_category(text: str) -> Category:
    """A category by its English or Korean name.

    Raises:
        UserError: with the nearest right name.
    """
    try:
        return TypeAdapter(CategoryName).validate_python(text)
    except ValidationError:
        names = [*map(str, Category), *KOREAN_CATEGORIES]
        raise UserError(f"category {text!r} is unknown.{nearest(text, names)} There are {', '.join(names)}") from None
