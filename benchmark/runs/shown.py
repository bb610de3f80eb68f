"""KPIs as a person reads them: titles, shares with intervals, a table of run folders for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table
from rich.text import Text

from benchmark.kpis import UNITS, Comparison
from benchmark.runs.asking_kpis import ASKING_TITLES
from benchmark.runs.results import read_run
from core.errors import printable
from core.screen import print_table
from data.wire import NOTHING, BenchmarkRun, Kpi

HALF_UP = 1e-9
"""Added before rounding, so that 37.5 % and 62.5 % become 38 and 63; Python would round to the even 38 and 62."""


TITLES = {
    "success_rate": ("Task success", "Share of tasks whose goals all hold in the final state of the world."),
    "call_success_rate": ("Call success", "Share of calls without an error. An unreadable turn counts as an error."),
    "recovery_rate": ("Recovery", "Share of runs of errors that a later call of the same tool repaired."),
    "recovery_steps": ("Steps to repair", "Calls from an error to its repair; fewer is better."),
    "recovery_seconds": ("Seconds to repair", "The same in seconds of the world's own clock; fewer is better."),
    "retention_tokens": ("Context retention", "Tokens between a fact and its last correct use; unused facts count 0."),
}


def title_of(name: str) -> str:
    """What a KPI is called."""
    return TITLES[name][0] if name in TITLES else name.replace("_", " ").capitalize()


def points(share: float) -> str:
    """A difference of shares in points of a hundred, with its sign: `+12.5`."""
    # Adding 0 turns -0.0 into 0.0, so that no change always reads "+0.0".
    return f"{round(100 * share, 1) + 0:+.1f}"


def percent(share: float | None) -> str:
    """A share in hundredths, `62`."""
    return "-" if share is None else f"{100 * share + HALF_UP:.0f}"


def interval(kpi: Comparison) -> str:
    """` (-2.5 to +7.5)`, or nothing where one case alone gives no interval."""
    return "" if kpi.low is None or kpi.high is None else f" ({points(kpi.low)} to {points(kpi.high)})"


def kpi_to_text(name: str, kpi: Kpi) -> str:
    """`62 % (47-75)` for a share, `1.4 (1.0-2.1)` for a mean, `-` where nothing was measured."""
    if kpi.value is None:
        return "-"
    share = UNITS[name] == "share"
    digits = 0 if share or UNITS[name] == "tokens" else 1
    value, low, high = (
        None if part is None else f"{part * (100 if share else 1) + HALF_UP:.{digits}f}"
        for part in (kpi.value, kpi.low, kpi.high)
    )
    unit = " %" if share else ""
    return f"{value}{unit}" if low is None or high is None else f"{value}{unit} ({low}-{high})"


def asking_rows(runs: Sequence[BenchmarkRun]) -> list[tuple[str, ...]]:
    """The KPIs of tasks with a user, a row for each; no rows where no run has such tasks."""
    if not any(run.asking_kpis for run in runs):
        return []
    rows = []
    for name, title in ASKING_TITLES.items():
        to_text = _mean_to_text if name == "needless_questions" else _share_to_text
        rows.append((title, *(to_text(run.asking_kpis.get(name, NOTHING)) for run in runs)))
    return rows


def _share_to_text(kpi: Kpi) -> str:
    return kpi_to_text("success_rate", kpi)


def _mean_to_text(kpi: Kpi) -> str:
    if kpi.value is None:
        return "-"
    return f"{kpi.value:.2f}" + ("" if kpi.low is None or kpi.high is None else f" ({kpi.low:.2f}-{kpi.high:.2f})")


def print_asking(runs: Sequence[BenchmarkRun]) -> None:
    """The same on a terminal, where there is something to show."""
    if rows := asking_rows(runs):
        print_table(("asking", *(printable(run.title) for run in runs)), rows, title="\nobeying only the user")


def kpi_table(runs: Sequence[Path]) -> Table:
    """The KPIs of run folders for a terminal: a row per run, a column per KPI, cells such as `62 % (47-75)`.

    Raises:
        UserError: as `read_run`.
    """
    read = [read_run(folder) for folder in runs]
    columns = [Column(title_of(name), overflow="fold") for name in UNITS]  # a narrow terminal cuts nothing off
    cells = Table(
        Column(overflow="fold"), *columns, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )
    if any(run.not_applicable.tries for run in read):
        cells.add_column("Not tried", overflow="fold")
    for run in read:
        told = [kpi_to_text(name, run.kpi(name)) for name in UNITS] + [str(run.not_applicable.tries)]
        cells.add_row(Text(run.title), *told[: len(cells.columns) - 1])  # Text: a label may hold rich's markup
    return cells
