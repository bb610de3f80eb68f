"""What files hold: tables in four formats, texts in three encodings, headers of pictures and sounds, zip archives.

Everything works on bytes and strings and knows of no disk. What is read here may have been written by a model, so it may be
anything: what cannot be read is a `ToolError`, and nothing unpacks to more than it may.
"""

from __future__ import annotations

import csv
import io
import json
import re
import struct
import tomllib
import zipfile
import zlib
from collections.abc import Callable
from pathlib import PurePosixPath
from xml.etree import ElementTree

from benchmark.worlds.tools import ToolError
from core.errors import nearest

MAX_BYTES = 1 << 20
"""Of a file, and of all that an archive holds."""
MAX_FILES = 400
LONGEST_CELL = 2**17
"""Characters of a cell of CSV. The limit of Python's csv is one for the whole process, and readers of rows raise it."""
ENCODINGS = ("utf-8", "cp949", "utf-16")

Rows = list[dict[str, str]]

_XML_NAME = re.compile(r"[^\W\d][\w.-]*")

# Tables.


def convert_text(text: str, source: str, target: str) -> str:
    """A table from one format into another; `source` and `target` are suffixes, such as `.csv`.

    In JSON a table is a list of equal, flat objects; in TOML an array of tables `row`; in XML `rows` that hold `row`s.

    Raises:
        ToolError: other suffixes, text that is no such table, or a table that the target cannot hold.
    """
    if source == target or source not in _READERS or target not in _WRITERS:
        told = f"{source or 'no suffix'} to {target or 'no suffix'}"
        raise ToolError(f"can convert between {', '.join(_READERS)}, not {told}")
    rows = _text_to_rows(text, source)
    converted = _WRITERS[target](rows)
    try:
        is_kept = _text_to_rows(converted, target) == rows
    except ToolError:
        is_kept = False
    if not is_kept:
        raise ToolError(f"the table holds what {target} cannot hold")
    return converted


def _text_to_rows(text: str, suffix: str) -> Rows:
    try:
        rows = _READERS[suffix](text)
        if not rows or not rows[0] or any(list(row) != list(rows[0]) for row in rows):
            raise ValueError
        return rows
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, csv.Error, ElementTree.ParseError):
        raise ToolError(f"not a table in {suffix.removeprefix('.').upper()}") from None


def _csv_to_rows(text: str) -> Rows:
    csv.field_size_limit(LONGEST_CELL)
    header, *rows = csv.reader(io.StringIO(text), strict=True)
    if len(set(header)) < len(header):
        raise ValueError
    return [dict(zip(header, row, strict=True)) for row in rows]


def _rows_to_csv(rows: Rows) -> str:
    output = io.StringIO()
    csv.writer(output, lineterminator="\n").writerows([list(rows[0]), *(row.values() for row in rows)])
    return output.getvalue()


def _objects_to_rows(objects: object) -> Rows:
    if not isinstance(objects, list):
        raise ValueError
    return [{key: _cell(value) for key, value in each.items()} for each in objects]


def _cell(value: object) -> str:
    if not isinstance(value, str | int | float):
        raise ValueError
    return value if isinstance(value, str) else json.dumps(value)


def _rows_to_toml(rows: Rows) -> str:
    # A JSON string is a basic string of TOML.
    def line(key: str, value: str) -> str:
        name = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)
        return f"{name} = {json.dumps(value, ensure_ascii=False)}"

    return "\n".join("\n".join(["[[row]]", *(line(*cell) for cell in row.items()), ""]) for row in rows)


def _parse_xml(text: str) -> ElementTree.Element:
    if "<!DOCTYPE" in text:  # entities may grow without end
        raise ValueError
    return ElementTree.fromstring(text)


def _xml_to_rows(text: str) -> Rows:
    table = _parse_xml(text)
    if table.tag != "rows" or any(row.tag != "row" for row in table):
        raise ValueError
    if any(len(cell) or len({each.tag for each in row}) < len(row) for row in table for cell in row):
        raise ValueError
    return [{cell.tag: cell.text or "" for cell in row} for row in table]


def _rows_to_xml(rows: Rows) -> str:
    table = ElementTree.Element("rows")
    for row in rows:
        line = ElementTree.SubElement(table, "row")
        for key, value in row.items():
            if not _XML_NAME.fullmatch(key):
                raise ToolError(f"{key[:40]!r} cannot be the name of an XML element")
            ElementTree.SubElement(line, key).text = value
    ElementTree.indent(table)
    return ElementTree.tostring(table, encoding="unicode") + "\n"


_READERS: dict[str, Callable[[str], Rows]] = {
    ".csv": _csv_to_rows,
    ".json": lambda text: _objects_to_rows(json.loads(text)),
    ".toml": lambda text: _objects_to_rows(tomllib.loads(text)["row"]),
    ".xml": _xml_to_rows,
}
_WRITERS: dict[str, Callable[[Rows], str]] = {
    ".csv": _rows_to_csv,
    ".json": lambda rows: json.dumps(rows, ensure_ascii=False),
    ".toml": _rows_to_toml,
    ".xml": _rows_to_xml,
}


def same_content(path: str, content: bytes, wanted: bytes) -> bool:
    """Whether two files of a name say the same: by value in formats, else to the byte but for white space at the end."""
    suffix = PurePosixPath(path).suffix
    try:
        if suffix == ".zip":
            there, asked = read_zip(content), read_zip(wanted)
            return there.keys() == asked.keys() and all(same_content(name, there[name], asked[name]) for name in asked)
        if suffix in _VALUES and content != wanted:
            return bool(_VALUES[suffix](content) == _VALUES[suffix](wanted))
        return content.rstrip() == wanted.rstrip()
    except (ToolError, ValueError, LookupError, RecursionError, csv.Error, ElementTree.ParseError):
        return False


def _xml_to_value(content: bytes) -> str:
    text = content.decode("utf-8")
    _parse_xml(text)
    return ElementTree.canonicalize(text, strip_text=True)


_VALUES: dict[str, Callable[[bytes], object]] = {
    # As JSON text again, because Python takes 1, 1.0 and true for equal.
    ".json": lambda content: json.dumps(json.loads(content.decode("utf-8")), sort_keys=True),
    ".toml": lambda content: tomllib.loads(content.decode("utf-8")),
    ".csv": lambda content: list(csv.reader(io.StringIO(content.decode("utf-8").rstrip()), strict=True)),
    ".xml": _xml_to_value,
}


# Encodings.


def change_encoding(content: bytes, old: str, new: str) -> bytes:
    """Text from one encoding into another.

    Raises:
        ToolError: an unknown encoding, bytes that are no text in `old`, or text that `new` cannot hold.
    """
    for name in (old, new):
        if name not in ENCODINGS:
            known = nearest(name, ENCODINGS) or f" There are: {', '.join(ENCODINGS)}."
            raise ToolError(f"unknown encoding {name[:40]!r}.{known}")
    try:
        text = content.decode(old)
    except UnicodeError:
        raise ToolError(f"this is no text in {old}") from None
    try:
        return text.encode(new)
    except UnicodeError:
        raise ToolError(f"{new} cannot hold this text") from None


def name_of_encoding(content: bytes) -> str:
    """The encoding that a file's bytes speak for, or `binary`."""
    if not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        for name in ("utf-8", "cp949"):
            try:
                if "\0" not in content.decode(name):
                    return name
            except UnicodeError:
                continue
        return "binary"
    try:
        content.decode("utf-16")
    except UnicodeError:
        return "binary"
    return "utf-16"


# Headers of binary files.

MAGIC = {"png": "89 50 4e 47", "gif": "47 49 46 38", "bmp": "42 4d"}
"""What pictures begin with, in hexadecimal."""
FIELDS: dict[str, dict[str, tuple[int, int, str]]] = {
    "png": {"width": (16, 4, "big"), "height": (20, 4, "big")},
    "gif": {"width": (6, 2, "little"), "height": (8, 2, "little")},
    "bmp": {"width": (18, 4, "little"), "height": (22, 4, "little")},
    "wav": {"rate": (24, 4, "little")},
}
"""Kind of file -> field of its header -> where it stands: first byte, number of bytes, order of the bytes."""


def header(kind: str, first: int, second: int) -> bytes:
    """The beginning of a file: a picture's width and height, or the sample rate of a sound (`first`).

    PNG: ISO/IEC 15948; GIF89a; BMP: BITMAPINFOHEADER; WAV: RIFF with a `fmt ` chunk of PCM.
    """
    if kind == "png":
        chunk = b"IHDR" + struct.pack(">IIBBBBB", first, second, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    if kind == "gif":
        return b"GIF89a" + struct.pack("<HHBBB", first, second, 0, 0, 0) + b";"
    if kind == "bmp":
        return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, first, second, 1, 24, 0, 0, 2835, 2835, 0, 0)
    sound = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, first, 2 * first, 2, 16) + struct.pack("<4sI", b"data", 0)
    return b"RIFF" + struct.pack("<I", 4 + len(sound)) + b"WAVE" + sound


# Archives.


def write_zip(members: dict[str, bytes]) -> bytes:
    """An archive of files by name: stored, and dated alike, so that the same files give the same bytes."""
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return output.getvalue()


def read_zip(content: bytes) -> dict[str, bytes]:
    """The files of an archive by name. Names are as they stand there: whoever makes paths of them has to check them.

    Raises:
        ToolError: no archive, one that is broken, encrypted or packed in another way than deflate, or one of too much.
    """
    members: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            if len(infos) > MAX_FILES or sum(info.file_size for info in infos) > MAX_BYTES:
                raise ToolError("the archive holds too much")
            for info in infos:
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
                    raise ToolError("the archive is packed in a way that is not known here")
                members[info.filename] = archive.read(info)
    except (zipfile.BadZipFile, zlib.error, struct.error, ValueError, RuntimeError, LookupError, EOFError, OSError):
        raise ToolError("not a zip archive, or a broken one") from None
    return members
