"""How far a long step is, on standard error: a live count on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

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
            print(f"{what}: {count}" + (f" of {total}" if total else ""), file=sys.stderr, flush=True)  # noqa: T201
            next_line = time.monotonic() + SECONDS_BETWEEN_LINES
