"""Rows out of whatever a user points at: a file, a folder, a pattern, or a dataset on the Hugging Face Hub.

    for chunk in find_input("rows.jsonl.gz").chunks():
        for number, row in chunk.rows():
            ...

Read are JSON Lines, JSON (one list, one object after the other over any number of lines, or one object that wraps a list of
rows: `{"data": [...]}`), CSV and Parquet; the first three also as .gz and .zst. What is none of them, such as a page that was
saved in the place of a download, is refused with what it is (data/formats/file_kinds.py). A file is read in chunks, so memory
holds a few MiB however long the file is. A chunk can be sent to another process; most of the work on it, the parsing,
is done where its `rows` are asked for.

JSON is read strictly (`core.json_lines.json_to_object`) and passed on as it is written. Arrow, and so Parquet and the hub,
gives each struct the keys of all rows and fills them with null. Nobody can tell such a null from a written one, so keys
inside structs that hold null are left out, and `nulls` of a chunk counts the rows in which that happened.
"""

from __future__ import annotations

import codecs
import csv
import glob
import json
import math
import re
import zlib
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from io import BufferedReader, RawIOBase, TextIOWrapper
from itertools import chain, groupby, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from core.errors import UserError, nearest
from core.files import open_unpacked
from core.json_lines import BadLine, json_line_to_object
from data.formats import json_documents
from data.formats.eval_archive import samples_in
from data.formats.file_kinds import refuse_other_kinds
from data.formats.json_documents import (
    JsonDocument,
    NumberedRow,
    half_character,
    is_one_document,
    wrapped_rows,
)
from data.formats.parquet_size import rows_of_a_batch

if TYPE_CHECKING:
    import pyarrow

CHUNK_ROWS = 1000

ROW_SUFFIXES = (".jsonl", ".ndjson", ".json", ".traj", ".csv", ".parquet", ".eval")
PACKED_SUFFIXES = (".gz", ".zst")
_NO_ROWS = re.compile(r"dataset_infos?\.json|.*\.counts\.json|.*\.(bad|origins)\.jsonl")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class NoRows(UserError):
    """A file that is whole and holds no row."""


@dataclass
class Lines:
    """Whole lines of a JSON Lines file."""

    path: str
    first_line: int
    raw: bytes
    nulls: int = field(default=0, init=False)

    def rows(self) -> Iterator[NumberedRow]:
        """One row a line; blank lines are none."""
        for number, line in enumerate(self.raw.split(b"\n"), start=self.first_line):
            if not line or line.isspace():
                continue
            try:
                yield number, json_line_to_object(line)
            except ValueError as error:
                yield number, BadLine(self.path, number, str(error))

    def texts(self, numbers: Collection[int]) -> list[str]:
        """Lines as they are written; bytes that are no UTF-8 stand as \\xNN."""
        lines = self.raw.split(b"\n")
        return [
            lines[number - self.first_line].rstrip(b"\r").decode("utf-8", errors="backslashreplace")
            for number in numbers
        ]


@dataclass
class Rows:
    """Rows that have been parsed already."""

    path: str
    numbered: list[NumberedRow]
    nulls: int = field(default=0, init=False)

    def rows(self) -> Iterator[NumberedRow]:
        """The rows."""
        return iter(self.numbered)

    def texts(self, numbers: Collection[int]) -> list[str]:
        """Rows as JSON; empty where one could not be read at all."""
        rows = dict(self.numbered)
        return [
            "" if isinstance(rows[number], BadLine) else json.dumps(rows[number], ensure_ascii=False)
            for number in numbers
        ]


@dataclass
class ArrowRows:
    """Rows out of Arrow: a record batch, or the dicts that `datasets` makes of one."""

    path: str
    first_row: int
    batch: pyarrow.RecordBatch | list[dict[str, Any]]
    nulls: int = field(default=0, init=False)

    def rows(self) -> Iterator[NumberedRow]:
        """The rows as JSON values."""
        self.nulls = 0
        for number, row in enumerate(self._dicts(), start=self.first_row):
            left_out: list[str] = []
            try:
                # A column that is null is no invention: all rows have the columns of the file.
                plain = {name: _arrow_to_json(value, left_out) for name, value in row.items()}
            except ValueError as error:
                yield number, BadLine(self.path, number, str(error))
                continue
            self.nulls += bool(left_out)
            yield number, plain

    def _dicts(self) -> list[dict[str, Any]]:
        return self.batch if isinstance(self.batch, list) else self.batch.to_pylist(maps_as_pydicts="strict")

    def texts(self, numbers: Collection[int]) -> list[str]:
        """Rows as JSON, nulls and all."""
        rows = self._dicts()
        return [json.dumps(rows[number - self.first_row], ensure_ascii=False, default=str) for number in numbers]


Chunk = Lines | Rows | ArrowRows


def _arrow_to_json(value: Any, left_out: list[str]) -> Any:
    """A value as JSON knows it. Times become ISO text, exact decimals text, and bytes an object with
    their number, which no adapter takes for a text or for nothing."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, dict):
        kept = {key: _arrow_to_json(item, left_out) for key, item in value.items() if item is not None}
        left_out += [key for key in value if value[key] is None]
        return kept
    if isinstance(value, list | tuple):
        return [_arrow_to_json(item, left_out) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"the number {value} is not JSON")
        return value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return {"bytes": len(value)}
    return str(value) if isinstance(value, Decimal) else None


@dataclass(frozen=True)
class Input:
    """What a user pointed at: files, or a dataset on the hub."""

    name: str
    files: tuple[Path, ...] = ()
    revision: str | None = None
    subset: str | None = None
    split: str | None = None

    @property
    def hub_id(self) -> str | None:
        """The id on the hub; null for files."""
        return None if self.files else self.name

    def chunks(self) -> Iterator[Chunk]:
        """All rows, in order.

        Raises:
            UserError: where a file or the hub cannot be read on. A row that is bad by itself is a `BadLine`.
            NoRows: for a file without one.
        """
        if not self.files:
            yield from _hub_chunks(self)
        for path in self.files:
            found = False
            for chunk in _file_chunks(path):
                found = True
                yield chunk
            # Beside others an empty file is a part without rows, as jobs on clusters leave them.
            if not found and len(self.files) == 1:
                raise NoRows(f"{path}: {_why_empty(path)}")

    def sample_rows(self, count: int) -> list[tuple[int, dict[str, Any]]]:
        """Rows that are objects, with their numbers: a third each from the beginning, the middle and the end of the files,
        all of them where there are no more than `count`. Of a dataset on the hub, which is streamed, the first ones.

        A chunk parses its rows only when they are asked for, so most of a file of lines is read past here.
        """
        if not self.files:
            return list(islice(_objects(self.chunks()), count))
        chunks = self.chunks()
        first = list(islice(chunks, 1))
        # Of a file whose length is not known, chunk 1, 2, 3, 4, 6, 8, 12, 16 ... so that one of them is near the middle.
        steps: list[tuple[int, Chunk]] = []
        last: deque[Chunk] = deque(maxlen=2)
        place = 0
        for place, chunk in enumerate(chunks, start=1):
            last.append(chunk)
            if place & (place - 1) == 0 or (place % 3 == 0 and (place // 3) & (place // 3 - 1) == 0):
                steps = [step for step in steps if 4 * step[0] >= place] + [(place, chunk)]
        if not place:
            rows = list(_objects(first))
            third = count // 3
            middle = (len(rows) - third) // 2
            if len(rows) <= count:
                return rows
            return rows[: count - 2 * third] + rows[middle : middle + third] + rows[-third:]
        _, between = min(steps, key=lambda step: abs(step[0] - place / 2))
        end = list(_objects(last))
        sampled = [*islice(_objects(first), count - 2 * (count // 3)), *islice(_objects([between]), count // 3)]
        seen = {number for number, _ in sampled}
        return sampled + [(number, row) for number, row in end[-(count // 3) :] if number not in seen]


def _objects(chunks: Iterable[Chunk]) -> Iterator[tuple[int, dict[str, Any]]]:
    return ((number, row) for chunk in chunks for number, row in chunk.rows() if isinstance(row, dict))


def find_input(name: str, *, revision: str | None = None, subset: str | None = None, split: str | None = None) -> Input:
    """What `name` stands for: a file, a folder (all its files of rows), a pattern such as `runs/*.jsonl`, or a hub id.

    Args:
        revision: branch, tag or commit of a dataset on the hub; so with `subset` and `split` ("train" where null).

    Raises:
        UserError: if there is nothing of that name.
    """
    path = Path(name)
    files: list[Path] = []
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if _holds_rows(file.relative_to(path)) and file.is_file()]
        if not files:
            raise UserError(f"{name}: a folder without a file of rows ({', '.join(ROW_SUFFIXES)}, also .gz and .zst)")
    elif path.exists():
        files = [path]
    else:
        files = [Path(found) for found in sorted(glob.glob(name, recursive=True)) if Path(found).is_file()]
    if files:
        for option, value in (("revision", revision), ("subset", subset), ("split", split)):
            if value is not None:
                raise UserError(f"{option}: only a dataset on the hub has one, and {name} is a file or folder here")
        return Input(name, tuple(files))
    is_file_name = path.suffix in (*ROW_SUFFIXES, *PACKED_SUFFIXES) or (
        path.parent.is_dir() and path.parent != Path(".")
    )
    if is_file_name or not _HUB_ID.fullmatch(name):
        siblings = [str(file) for file in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"{name}: there is no such file or folder (looked in {Path.cwd()}).{nearest(name, siblings)}")
    return Input(name, revision=revision, subset=subset, split=split)


def _holds_rows(file: Path) -> bool:
    suffixes = [suffix for suffix in file.suffixes if suffix not in PACKED_SUFFIXES]
    hidden = any(part.startswith(".") for part in file.parts)
    return bool(suffixes) and suffixes[-1] in ROW_SUFFIXES and not hidden and not _NO_ROWS.fullmatch(file.name)


def neighbours(chunks: Iterable[Chunk], column: str) -> Iterator[Chunk]:
    """Chunks in which neighbouring rows with an equal value in `column` are one row, `{"rows": [...]}`.

    A row without such a value stands alone. Where a value comes back after others, its rows are no neighbours, and each of
    them becomes a `BadLine`, because half a tree would read as a whole one.
    """
    for path, of_file in groupby(chunks, key=lambda chunk: chunk.path):
        numbered = chain.from_iterable(chunk.rows() for chunk in of_file)
        yield from _in_chunks(Path(path), _groups(path, numbered, column))


LARGEST_FILE_BYTES = 2**28
"""Beyond 256 MiB a file that is read as one thing is refused, since all of it stands in memory."""


def whole_files(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """One chunk a file, in which all its rows are one row, `{"rows": [...], "holes": [...]}`, at the line of the first.

    What is no object stays a row of its own; `holes` has the places in `rows` before which it stood.

    Raises:
        UserError: for a file of more than `LARGEST_FILE_BYTES`.
    """
    for path, of_file in groupby(chunks, key=lambda chunk: chunk.path):
        together: list[Any] = []
        holes: list[int] = []
        numbered: list[NumberedRow] = []
        first, size = 0, 0
        for chunk in of_file:
            size += len(chunk.raw) if isinstance(chunk, Lines) else 0
            if size > LARGEST_FILE_BYTES:
                raise UserError(
                    f"{path}: a log of more than {LARGEST_FILE_BYTES >> 20} MiB, which is read as one thing"
                )
            for number, row in chunk.rows():
                if isinstance(row, dict):
                    first = first or number
                    together.append(row)
                else:
                    numbered.append((number, row))
                    holes.append(len(together))
        if together:
            numbered.append((first, {"rows": together, "holes": holes}))
        yield Rows(path, numbered)


def _groups(path: str, numbered: Iterable[NumberedRow], column: str) -> Iterator[NumberedRow]:
    seen: set[str | int] = set()
    group: list[NumberedRow] = []
    key: object = None

    def finished() -> Iterator[NumberedRow]:
        if isinstance(key, str | int) and key in seen:
            reason = f"rows of {column} {key!r} stand in two places; sort the file by {column}"
            for number, _ in group:
                yield number, BadLine(path, number, reason)
        elif group:
            yield group[0][0], {"rows": [row for _, row in group]}
        if isinstance(key, str | int):
            seen.add(key)

    for number, row in numbered:
        if not isinstance(row, dict):
            yield number, row
            continue
        own = row.get(column)
        if group and not (isinstance(own, str | int) and own == key):
            yield from finished()
            group = []
        key = own
        group.append((number, row))
    yield from finished()


def _file_chunks(path: Path) -> Iterator[Chunk]:
    suffix, packed = _suffixes(path)
    try:
        if suffix == ".eval" and not packed:
            yield from _in_chunks(path, samples_in(path))
            return
        if packed or suffix == ".parquet":
            with open(path, "rb") as file:
                refuse_other_kinds(path, file.read(json_documents.CHUNK_BYTES), is_one_of=packed or suffix)
        if suffix == ".parquet":
            if packed:
                raise UserError(f"{path}: Parquet is packed inside; unpack the {packed} first")
            yield from _parquet_chunks(path)
            return
        with open_unpacked(path) as file:
            head = file.read(json_documents.CHUNK_BYTES)
            refuse_other_kinds(path, head, is_packed=bool(packed))
            if suffix == ".csv":
                yield from _csv_chunks(path, BufferedReader(_Rejoined(head, file)))
            else:
                yield from _json_chunks(path, head.removeprefix(codecs.BOM_UTF8), file)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"{path}: cannot be read: {reason}") from None


def _suffixes(path: Path) -> tuple[str, str]:
    """How a file is written and how it is packed, by its name: (".jsonl", ".gz"), or (".jsonl", "")."""
    packed = path.suffix if path.suffix in PACKED_SUFFIXES else ""
    return (path.with_suffix("").suffix if packed else path.suffix), packed


def _why_empty(path: Path) -> str:
    """What a file is that holds no row."""
    if not path.stat().st_size:
        return "the file is empty (0 bytes); was it written or downloaded to its end?"
    suffix, _ = _suffixes(path)
    if suffix == ".parquet":
        return "holds columns and no row"
    with open_unpacked(path) as file:
        text = file.read(json_documents.CHUNK_BYTES).removeprefix(codecs.BOM_UTF8)
    if not text.strip():
        return "holds nothing but blank space" if text else "is empty inside its packing"
    return "holds a header and no row" if suffix == ".csv" else "holds an empty list, and no row"


class _Rejoined(RawIOBase):
    """A file whose beginning was read already, from its beginning on."""

    def __init__(self, head: bytes, file: IO[bytes]) -> None:
        self._head, self._file = head, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        block = block or self._file.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)


def _json_chunks(path: Path, head: bytes, file: IO[bytes]) -> Iterator[Chunk]:
    if is_one_document(head):
        yield from _in_chunks(path, JsonDocument(path, head, file).rows())
        return
    chunks = _line_chunks(path, head, file)
    first, second = next(chunks, None), next(chunks, None)
    if first is not None and second is None and b"\n" not in first.raw.strip():
        wrapped = wrapped_rows(next((row for _, row in first.rows()), None))
        if wrapped is not None:
            yield from _in_chunks(path, enumerate(wrapped, start=1))
            return
    yield from (chunk for chunk in (first, second) if chunk is not None)
    yield from chunks


def _line_chunks(path: Path, head: bytes, file: IO[bytes]) -> Iterator[Lines]:
    line = 1
    block = head
    rest: list[bytes] = []  # `rest` is the beginning of a line whose end is still to come
    while block:
        whole, line_break, begun = block.rpartition(b"\n")
        if line_break:
            raw = b"".join((*rest, whole))
            if not raw.isspace() and raw:
                yield Lines(str(path), line, raw)
            line += raw.count(b"\n") + 1
            rest = []
        rest.append(begun)
        if sum(map(len, rest)) > json_documents.LONGEST_ROW_BYTES:
            raise UserError(f"{path}:{line}: a line of more than {json_documents.LONGEST_ROW_BYTES >> 20} MiB")
        block = file.read(json_documents.CHUNK_BYTES)
    if b"".join(rest).strip():
        yield Lines(str(path), line, b"".join(rest))


def _in_chunks(path: Path, rows: Iterator[NumberedRow]) -> Iterator[Rows]:
    while numbered := list(islice(rows, CHUNK_ROWS)):
        yield Rows(str(path), numbered)


def _csv_chunks(path: Path, file: IO[bytes]) -> Iterator[Rows]:
    csv.field_size_limit(json_documents.LONGEST_ROW_BYTES)  # csv's own limit, 128 KiB, is short for a chat
    with TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(_bounded_text(path, text), strict=True)
        try:
            header = next(reader, [])
        except csv.Error as error:
            raise UserError(f"{path}:1: not CSV: {error}") from None
        twice = [name for name in header if header.count(name) > 1]
        if twice:
            raise UserError(f"{path}:1: column {twice[0]!r} stands twice in the header")
        yield from _in_chunks(path, _csv_rows(path, reader, header))


def _bounded_text(path: Path, text: TextIOWrapper) -> Iterator[str]:
    """Lines of text; csv itself would take one of any length before it looks at its fields."""
    number = 0
    while line := text.readline(json_documents.LONGEST_ROW_BYTES + 1):
        number += 1
        if len(line) > json_documents.LONGEST_ROW_BYTES:
            raise UserError(f"{path}:{number}: a line of more than {json_documents.LONGEST_ROW_BYTES >> 20} MiB")
        yield line


def _csv_rows(path: Path, reader: Any, header: list[str]) -> Iterator[NumberedRow]:
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, BadLine(str(path), line, f"not CSV: {error}")
            continue
        if not cells:
            continue
        row = dict(zip(header, cells, strict=False))
        if len(cells) != len(header):
            yield line, BadLine(str(path), line, f"{len(cells)} cells under {len(header)} columns")
        elif half_character("".join(cells), row) == "not UTF-8":
            yield line, BadLine(str(path), line, "not UTF-8")
        else:
            yield line, row


def _parquet_chunks(path: Path) -> Iterator[ArrowRows]:
    import pyarrow  # noqa: PLC0415 - takes a fifth of a second, and most files are JSON
    import pyarrow.parquet  # noqa: PLC0415 - as above

    try:
        # A buffer, or each column of a row group would be read in one piece.
        with pyarrow.parquet.ParquetFile(path, buffer_size=json_documents.CHUNK_BYTES) as file:
            row = 1
            for group, rows_at_once in enumerate(rows_of_a_batch(path, file.metadata)):
                for batch in file.iter_batches(batch_size=rows_at_once, row_groups=[group]):
                    yield ArrowRows(str(path), row, batch)
                    row += batch.num_rows
    except pyarrow.ArrowException as error:
        raise UserError(f"{path}: not Parquet, or not all of it: {error}") from None


def _hub_chunks(source: Input) -> Iterator[ArrowRows]:
    import datasets  # noqa: PLC0415 - takes a second, and most inputs are files

    row = 1
    try:
        rows = iter(
            datasets.load_dataset(
                source.name, source.subset, split=source.split or "train", revision=source.revision, streaming=True
            )
        )
        while batch := list(islice(rows, CHUNK_ROWS)):
            yield ArrowRows(source.name, row, batch)
            row += len(batch)
    except Exception as error:  # the network, the hub, and loading code of a data set: none of it is ours
        raise UserError(f"{source.name}: {_why_not_from_hub(source, error)}") from None


def _why_not_from_hub(source: Input, error: Exception) -> str:
    import huggingface_hub.constants  # noqa: PLC0415 - read only when something went wrong

    reason = str(error).strip()
    page = f"https://huggingface.co/datasets/{source.name}"
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return (
            "there is no such file or folder here, and a dataset on the hub cannot be read while HF_HUB_OFFLINE is set. "
            f"With a network, `hf download {source.name} --repo-type dataset --local-dir FOLDER` fetches it; then give FOLDER."
        )
    if "gated" in reason.lower() or "401" in reason or "403" in reason:
        return f"is gated. Accept its terms on {page}, then `hf auth login` or set HF_TOKEN, and try again ({reason})"
    if type(error).__name__ == "DatasetNotFoundError":
        return (
            f"there is no such file or folder here, and the hub does not show it. If {page} is gated or private, accept its "
            f"terms and `hf auth login` or set HF_TOKEN ({reason})"
        )
    return f"cannot be read from the hub: {reason or type(error).__name__}"
