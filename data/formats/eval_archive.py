"""The samples in an archive of Inspect (`.eval`), of which each is a file of JSON."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from core.errors import UserError
from core.json_lines import BadLine, json_to_object
from data.formats import json_documents
from data.formats.json_documents import NumberedRow


def samples_in(path: Path) -> Iterator[NumberedRow]:
    """The samples of an archive with their numbers, in the order of their names. One that is no JSON is a `BadLine`.

    Raises:
        UserError: for a file that is no archive, or is packed in a way that cannot be unpacked here.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(
                name for name in archive.namelist() if name.startswith("samples/") and name.endswith(".json")
            )
            for number, name in enumerate(names, start=1):
                if archive.getinfo(name).file_size > json_documents.LONGEST_ROW_BYTES:
                    raise UserError(f"{path}: {name} has more than {json_documents.LONGEST_ROW_BYTES >> 20} MiB")
                try:
                    yield number, json_to_object(archive.read(name).decode("utf-8"))
                except ValueError:
                    yield number, BadLine(str(path), number, f"{name} is no JSON")
    except zipfile.BadZipFile as error:
        raise UserError(f"{path}: no archive of Inspect: {error}") from None
    except (NotImplementedError, RuntimeError):  # packed with zstd, or with a password
        raise UserError(
            f"{path}: packed in a way that cannot be unpacked here; `inspect log convert --to json` writes JSON"
        ) from None
