"""What commands print and write: tables, counts that add up, and files that appear only when they are whole."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from data.errors import printable


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """A table on a terminal; elsewhere aligned text without frames, never cut to a width."""
    cells = [[printable(str(cell), keep="\u200d") for cell in row] for row in rows]
    if sys.stdout.isatty():
        table = Table(*columns, title=title or None, title_justify="left")
        for row in cells:
            table.add_row(*row)
        Console(markup=False, emoji=False).print(table)
        return
    lines = [list(columns), *cells]
    widths = [max(cell_len(line[index]) for line in lines) for index in range(len(columns))]  # Korean takes two columns
    if title:
        print(title)
    for line in lines:
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())


def count_rows(name: str, counts: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Lines of a table that adds up: what was kept, each reason of dropping, what was read."""
    dropped = [(name, f"dropped: {reason}", count) for reason, count in counts["dropped"].items()]
    return [(name, "kept", counts["kept"]), *dropped, (name, "read", counts["read"])]


def write_lines(out: Path, lines: Iterator[str]) -> int:
    """Write lines so that `out` appears only when it is whole; nothing is written when there is no line."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    count = 0
    try:
        with open(partial, "w", encoding="utf-8") as file:
            for line in lines:
                file.write(line + "\n")
                count += 1
        if count:
            os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return count


@contextmanager
def whole_file(out: Path) -> Iterator[IO[bytes]]:
    """A file to write bytes to, which stands at `out` once the block has ended well, and nowhere otherwise."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    try:
        with open(partial, "wb") as file:
            yield file
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)


def save_counts(out: Path, counts: dict[str, Any]) -> Path:
    path = out.with_suffix(".counts.json")
    path.write_text(json.dumps(counts, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return path
