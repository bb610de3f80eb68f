"""Runs -> a folder of static pages and one JSON file, and the table of the terminal.

    index.html            what was trained from what, KPIs with intervals, bars by world, success by context length, data
    leaderboard.json      the same numbers
    runs/LABEL/           the run's list of tasks, a page for each task, and what changed against the run before it

All links are relative, so the folder can be opened from a disk or published as it is. docs/leaderboard.md says how to read it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console

from benchmark.kpis import UNITS, context_to_size, in_order
from benchmark.reports.compare import RunComparison, compare_runs, paired_to_json, reply_rows
from benchmark.reports.page import file_names, render
from benchmark.reports.same_worlds import OfWorlds, require_same_worlds
from benchmark.reports.transcripts import Entry, write_run_pages
from benchmark.runs.results import read_run, read_tries
from benchmark.runs.shown import TITLES, asking_rows, kpi_table, points, print_asking
from core.errors import UserError, printable
from core.files import claimed_folder, whole_result
from core.screen import print_table
from data.wire import NOTHING, BenchmarkRun, Kpi, TrainingStage

RUNS = "runs"
JSON = "leaderboard.json"


@dataclass(frozen=True)
class BoardRow:
    """A run on the board: with the run it is held against, and whether its model was trained from that one's."""

    entry: Entry
    before: Entry | None
    trained: tuple[TrainingStage, ...]
    """The trainings that lead from the model of `before` to this one; empty where that is only the first run of the board."""
    report: RunComparison | None
    """None for a run without one before it, and where the two share no task."""

    @property
    def run(self) -> BenchmarkRun:
        return self.entry.run

    @property
    def changes(self) -> str:
        """Page of what changed."""
        return f"{RUNS}/{self.entry.folder}/changes.html"

    def change_of(self, name: str) -> str:
        """The plain difference of a KPI to the run before, where both ran the same tasks."""
        if (
            self.before is None
            or self.report is None
            or self.report.success.comparison.unpaired
            or self.report.other_tasks
        ):
            return ""
        now, then = (run.kpi(name).value for run in (self.run, self.before.run))
        if now is None or then is None:
            return ""
        return f"{points(now - then)} points" if UNITS[name] == "share" else f"{round(now - then, 1) + 0:+.1f}"


def leaderboard_command(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, in the order in which they are shown.")],
    out: Annotated[Path, typer.Option(help="Folder of the pages.")],
    worlds: OfWorlds = "",
) -> None:
    """Static pages and one JSON file from runs: KPIs, what was trained from what and on which data, every transcript.

    Example: python -m benchmark leaderboard results/base results/sft results/dpo --out results/leaderboard
    """
    write_leaderboard(runs, out, worlds)
    Console().print(kpi_table(runs))
    read = [read_run(folder) for folder in runs]
    print_asking(read)
    if replies := reply_rows(read):
        print_table(("turns", *(printable(run.title) for run in read)), replies, title="\nhow replies were read")
    print(f"wrote {out / 'index.html'}")


def write_leaderboard(runs: Sequence[Path], out: Path, of_worlds: str = "") -> None:
    """Write the pages of run folders into `out`, in the order given; pages of an earlier board there are replaced.

    Raises:
        UserError: if a folder is no run, a file is damaged, two runs have the same label, or `out` holds something else.
    """
    rows = _read_rows(runs)
    require_same_worlds([(row.entry.source, row.entry.run) for row in rows], of_worlds)
    _check_room(runs, out)
    entries = [row.entry for row in rows]
    with claimed_folder(out), whole_result(out / JSON) as result:
        content = json.dumps({"runs": [_row_to_json(row) for row in rows]}, indent=2, ensure_ascii=False)
        result.write(out / JSON, content + "\n")
        result.write(out / "index.html", _index_page(rows))
        pages = result.folder(out / RUNS)
        for row in rows:
            write_run_pages(row.entry, entries, pages / row.entry.folder)
            if row.report is not None:
                worlds = [*row.report.by_world.items(), ("all", row.report.success)]
                content = render("changes.html", before=row.before, after=row.entry, report=row.report, worlds=worlds)
                (pages / Path(row.changes).relative_to(RUNS)).write_text(content, encoding="utf-8")


def _check_room(runs: Sequence[Path], out: Path) -> None:
    """An earlier board's pages are replaced, and nothing that is not known to be one's."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file, expected a folder")
    if inside := [folder for folder in runs if folder.resolve().is_relative_to((out / RUNS).resolve())]:
        raise UserError(f"--out {out}: the pages would replace {inside[0]}; take another folder")
    ours = (out / JSON).is_file()
    if not ours and ((out / "index.html").exists() or (out / RUNS).exists()):
        raise UserError(f"--out {out}: holds an index.html or runs that are not of a leaderboard; take another folder")


def _read_rows(folders: Sequence[Path]) -> list[BoardRow]:
    if not folders:
        raise UserError("a leaderboard needs at least one run folder")
    runs: list[BenchmarkRun] = []
    for folder in folders:
        run = read_run(folder)
        if any(each.label == run.label for each in runs):
            raise UserError(f"{folder / 'kpis.json'}: field 'label': {run.label!r} is taken by a run before it")
        if run.options.get("repeat_guard"):
            raise UserError(
                f"{folder}: {run.label!r} was run with --repeat-guard, which helps where a leaderboard compares models; "
                "leave it out, or run it without"
            )
        if user := run.options.get("user_model"):
            raise UserError(
                f"{folder}: in {run.label!r} the users were played by a model (--user-model {user}), in other words each time; "
                "that makes training data and no comparison"
            )
        if run.options.get("intervene"):
            raise UserError(
                f"{folder}: in {run.label!r} the expert has made some of the turns; it is no model's result"
            )
        runs.append(run)
    names = file_names(run.label for run in runs)
    entries = [
        Entry(place, folder, run, read_tries(folder), names[run.label])
        for place, (folder, run) in enumerate(zip(folders, runs, strict=True))
    ]
    parents = _parents(runs)
    rows = []
    for entry in entries:
        parent, stages = parents.get(entry.place, (0 if entry.place else None, ()))
        before = None if parent is None else entries[parent]
        report = None
        if before is not None:
            report = compare_runs(before.run, before.tries, entry.run, entry.tries)
            report = report if report.success.comparison.value is not None else None
        rows.append(BoardRow(entry, before, stages, report))
    return rows


def _parents(runs: Sequence[BenchmarkRun]) -> dict[int, tuple[int, tuple[TrainingStage, ...]]]:
    """For each run whose model was trained from that of another: the nearest such run, and the trainings between."""
    found: dict[int, tuple[int, tuple[TrainingStage, ...]]] = {}
    for place, run in enumerate(runs):
        for at in reversed(range(len(run.stages))):
            parent = next(
                (other for other in range(len(runs)) if other != place and _is_start(run.stages[at], runs[other])),
                None,
            )
            if parent is not None:
                found[place] = parent, tuple(run.stages[at:])
                break
    for place in list(found):  # files may say anything, also that two models were trained from each other
        seen, at = {place}, found[place][0]
        while at in found and at not in seen:
            seen.add(at)
            at = found[at][0]
        if at in seen:
            del found[place]
    return found


def _is_start(stage: TrainingStage, run: BenchmarkRun) -> bool:
    """Whether a training began with the model of this run: by its weights, or by its name on the hub."""
    if run.weights_sha256 is None:
        return run.model == stage.started_from
    return run.weights_sha256 == stage.started_sha256


def _row_to_json(row: BoardRow) -> dict[str, Any]:
    return {
        **row.run.model_dump(mode="json"),
        "page": f"{RUNS}/{row.entry.folder}/index.html",
        "compared_with": row.before.run.label if row.before and row.report else None,
        "trained_from": row.before.run.label if row.before and row.trained else None,
        "change": None if row.report is None else paired_to_json(row.report.success),
        "differences": None if row.report is None else [asdict(each) for each in row.report.differences],
    }


# ---- the index ----


class Group(NamedTuple):
    """Task success of every run within one world, tier or language."""

    name: str
    kpis: list[tuple[Entry, Kpi]]


def _index_page(rows: Sequence[BoardRow]) -> str:
    children: dict[int, list[BoardRow]] = defaultdict(list)
    for row in rows:
        if row.trained and row.before is not None:
            children[row.before.place].append(row)
    # A bar of a mean is drawn against the largest end of an interval among all runs; a share against 100 %.
    largest = {
        name: 1.0 if unit == "share" else max(_reach(row.run.kpi(name)) for row in rows) for name, unit in UNITS.items()
    }
    return render(
        "index.html",
        rows=rows,
        roots=[row for row in rows if not row.trained and children[row.entry.place]],
        children=children,
        kpis=list(UNITS),
        largest=largest,
        sampled=any(max(row.run.pass_hat_k, default=1) > 1 for row in rows),
        what_was_run=_what_was_run(rows),
        groupings=[
            ("world", "world", _groups(rows, lambda run: run.by_world)),
            ("tier (calls that a task needs)", "", _groups(rows, lambda run: run.by_tier)),
            ("language", "language", _groups(rows, lambda run: run.by_language)),
            ("kind of fault that struck", "", _groups(rows, lambda run: run.by_fault)),
        ],
        curve=_curve(rows),
        replies=reply_rows([row.run for row in rows]),
        asking=asking_rows([row.run for row in rows]),
        meanings=[(name, TITLES[name][1]) for name in UNITS if name in TITLES],
    )


def _what_was_run(rows: Sequence[BoardRow]) -> str:
    kinds = {(row.run.split, row.run.count, row.run.seed, row.run.worlds) for row in rows}
    if len(kinds) > 1:
        return "These runs used different tasks, so their numbers cannot be compared row by row."
    split, count, seed, _ = kinds.pop()
    return f"{count} tasks of the {split} split, seed {seed}, judged by the final state of real sandboxes."


def _reach(kpi: Kpi) -> float:
    return max(kpi.value or 0.0, kpi.high or 0.0)


def _groups(rows: Sequence[BoardRow], of: Callable[[BenchmarkRun], Mapping[str, Mapping[str, Kpi]]]) -> list[Group]:
    names = sorted({group for row in rows for group in of(row.run)}, key=in_order)
    return [
        Group(name, [(row.entry, of(row.run).get(name, {}).get("success_rate", NOTHING)) for row in rows])
        for name in names
    ]


# ---- success by context length ----


class Point(NamedTuple):
    """A measured length: where its circle stands, and the ends of its interval."""

    x: float
    y: float
    low: float
    high: float
    kpi: Kpi


class Line(NamedTuple):
    """A run in the picture and in the table below it."""

    label: str
    colour: str
    points: list[Point]
    apart: list[Point]
    """That of tasks without such a length, which are other tasks, so no line leads there."""
    beyond: list[tuple[float, float]]
    """Where "n/a" stands, one above the other."""
    cells: list[tuple[Kpi | None, int]]
    """Per length: success, and how many tasks did not fit into the model's window."""


@dataclass(frozen=True)
class Curve:
    """Geometry of the picture, in the SVG's units."""

    columns: list[tuple[str, float]]
    lines: list[Line]
    width: int = 760
    height: int = 300
    left: int = 46
    right: int = 748
    top: int = 12
    floor: int = 256

    @property
    def levels(self) -> list[tuple[int, float]]:
        """Lines of the grid."""
        return [(percent, self.y(percent / 100)) for percent in (0, 25, 50, 75, 100)]

    def y(self, share: float) -> float:
        """Where a share stands."""
        return round(self.top + (1 - share) * (self.floor - self.top), 1)


def _beyond(run: BenchmarkRun) -> Counter[str]:
    """Tries that do not fit into the model's window, by the sizes of `success_by_context`."""
    sizes: Counter[str] = Counter()
    for tokens, tries in run.not_applicable.by_context.items():
        sizes[context_to_size(tokens)] += tries
    return sizes


def _curve(rows: Sequence[BoardRow]) -> Curve | None:
    """None where fewer than two lengths were to be tried."""
    measured = [{size: kpi for size, kpi in row.run.success_by_context.items() if kpi.n} for row in rows]
    beyond = [_beyond(row.run) for row in rows]
    found = {size for of_run in measured for size in of_run} | {size for of_run in beyond for size in of_run}
    sizes = sorted(found, key=lambda size: (not size.isdecimal(), int(size) if size.isdecimal() else 0))
    if len(sizes) < 2:
        return None
    step = (Curve.right - Curve.left) / len(sizes)
    middles = {size: round(Curve.left + step * (at + 0.5), 1) for at, size in enumerate(sizes)}
    curve = Curve([(_size_to_text(size), x) for size, x in middles.items()], [])
    stacked: Counter[str] = Counter()
    spread = min(14.0, step * 0.7 / len(rows))  # side by side, so that intervals do not cover each other
    for row, kpis, left_out in zip(rows, measured, beyond, strict=True):
        shift = (row.entry.place - (len(rows) - 1) / 2) * spread
        places = {size: round(x + shift, 1) for size, x in middles.items()}
        drawn = {
            size: Point(places[size], curve.y(kpi.value or 0), curve.y(kpi.low or 0), curve.y(kpi.high or 0), kpi)
            for size, kpi in kpis.items()
        }
        points, apart = ([point for size, point in drawn.items() if (size == "0") is none] for none in (False, True))
        untried = [size for size in left_out if size not in kpis]
        curve.lines.append(
            Line(
                row.run.title,
                row.entry.colour,
                points,
                apart,
                beyond=[(middles[size], Curve.floor - 6 - 13 * stacked[size]) for size in untried],
                cells=[(kpis.get(size), left_out[size]) for size in sizes],
            )
        )
        stacked.update(untried)
    return curve


def _size_to_text(size: str) -> str:
    """`none`, `0.5k`, `32k`, or what is no number as it is."""
    return "none" if size == "0" else f"{int(size) / 1024:g}k" if size.isdecimal() else size
