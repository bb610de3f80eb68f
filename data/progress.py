"""How far a long step is, on standard error: a live count on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 30.0


def with_progress(items: Iterable[Item], what: str, *, total: int | None = None) -> Iterator[Item]:
    """Pass the items on while showing how many have gone by; `total` is how many there will be, where that is known."""
    if not sys.stderr.isatty():
        yield from _with_lines(items, what, total)
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, total=total)


def _with_lines(items: Iterable[Item], what: str, total: int | None) -> Iterator[Item]:
    next_line = time.monotonic() + SECONDS_BETWEEN_LINES
    for count, item in enumerate(items, start=1):
        yield item
        if time.monotonic() >= next_line:
            print(f"{what}: {count}" + (f" of {total}" if total else ""), file=sys.stderr, flush=True)  # noqa: T201
            next_line = time.monotonic() + SECONDS_BETWEEN_LINES
