"""What commands print and write: tables, lines, and counts that add up."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from core.errors import printable
from core.files import ResultFiles


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


Item = TypeVar("Item")


SECONDS_BETWEEN_LINES = 30.0


def with_progress(
    items: Iterable[Item], what: str, *, total: int | None = None, size: Callable[[Item], int] | None = None
) -> Iterator[Item]:
    """Pass the items on while showing how many have gone by; `total` is how many there will be, where that is known.

    Args:
        size: for how many an item counts, such as a chunk for its rows; null counts each as one.
    """
    if not sys.stderr.isatty():
        yield from _with_lines(items, what, total, size)
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        if size is None:
            yield from progress.track(items, total=total)
            return
        task = progress.add_task(what, total=total)
        for item in items:
            yield item
            progress.advance(task, size(item))


def _with_lines(
    items: Iterable[Item], what: str, total: int | None, size: Callable[[Item], int] | None
) -> Iterator[Item]:
    next_line = time.monotonic() + SECONDS_BETWEEN_LINES
    count = 0
    for item in items:
        yield item
        count += 1 if size is None else size(item)
        if time.monotonic() >= next_line:
            print(f"{what}: {count}" + (f" of {total}" if total else ""), file=sys.stderr, flush=True)
            next_line = time.monotonic() + SECONDS_BETWEEN_LINES
