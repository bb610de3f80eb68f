"""What commands print and write: tables, lines, and counts that add up."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from data.errors import printable
from data.files import ResultFiles


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


def write_lines(result: ResultFiles, out: Path, lines: Iterable[str]) -> int:
    """Write lines to the file `out` of a result; returns how many."""
    file = result.open(out)
    count = 0
    for line in lines:
        file.write(line.encode() + b"\n")
        count += 1
    return count


def counts_path(out: Path) -> Path:
    """Where the counts of a file stand."""
    return out.with_suffix(".counts.json")


def save_counts(result: ResultFiles, out: Path, counts: dict[str, Any]) -> Path:
    """Write the counts of the file `out` beside it, as a part of the same result."""
    path = counts_path(out)
    result.write(path, json.dumps(counts, ensure_ascii=False, indent=2) + "\n")
    return path
