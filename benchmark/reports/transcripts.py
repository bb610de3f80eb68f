"""The pages of one run: a list of its tasks that can be filtered, and a page for each task with its transcript.

A transcript shows what was asked, what the model said and called, what the tools gave back, and how the final state was
judged. Records are read one by one, so a run may be larger than memory.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.kpis import UNITS, task_of
from benchmark.reports.compare import share
from benchmark.reports.page import file_names, render
from benchmark.runs.results import KIND, RECORDS, Tried, record_to_try
from benchmark.runs.shown import kpi_to_text, title_of
from core.screen import with_progress
from data.records import Action, Advice, Outcome, Trajectory, read_trajectories
from data.wire import BenchmarkRun


@dataclass(frozen=True)
class Entry:
    """A run on a leaderboard: where it comes from, what it says, and where its pages go."""

    place: int
    """From 0, in the order given."""
    source: Path
    run: BenchmarkRun
    tries: list[Tried]
    folder: str
    """Of its pages, below `runs/`."""

    @cached_property
    def by_task(self) -> dict[str, list[Tried]]:
        """Its tries, task by task."""
        found: dict[str, list[Tried]] = defaultdict(list)
        for each in self.tries:
            found[each.task].append(each)
        return dict(found)

    @cached_property
    def pages(self) -> dict[str, str]:
        """File name of each task's page."""
        return file_names(self.by_task, ".html", taken=("index.html", "changes.html"))

    @property
    def colour(self) -> str:
        """Class that sets the colour of this run, the same on all pages."""
        return f"s{self.place % 8}"


class ListRow(NamedTuple):
    """A task in the list of a run. With several tries, numbers are means over them and the outcome is the worst."""

    first: Tried
    page: str
    outcome: str
    kind: str
    told: str
    share: float
    calls: str
    errors: str
    faults: str
    score: str


class Step(NamedTuple):
    """An action with the fault that struck it and the expert's advice on it."""

    action: Action
    injected: str | None
    advice: Advice | None


class Transcript(NamedTuple):
    """One try of a task as it is shown. A turn is the actions that were called at once."""

    record: Trajectory
    kind: str
    score: str
    why: str
    known: dict[str, Any]
    turns: list[list[Step]]
    advice_at_end: Advice | None


def write_run_pages(entry: Entry, entries: Sequence[Entry], out: Path) -> None:
    """Write `index.html` and one page for each task into the new folder `out`.

    Args:
        entries: all runs of the leaderboard; a task's page links to the same task of the others.
    """
    out.mkdir(parents=True)
    (out / "index.html").write_text(_list_page(entry), encoding="utf-8")
    tasks = list(entry.by_task)
    place = {task: number for number, task in enumerate(tasks)}
    begun: dict[str, list[Transcript]] = defaultdict(list)  # several tries of a task stand apart in the file
    records = read_trajectories(entry.source / RECORDS)
    for record in with_progress(records, f"writing pages of {entry.run.label}", total=len(entry.tries)):
        task = record_to_try(record, 0).task
        begun[task].append(_record_to_transcript(record))
        if len(begun[task]) == len(entry.by_task[task]):
            content = render(
                "task.html",
                entry=entry,
                first=entry.by_task[task][0],
                about=_about(entry.by_task[task][0]),
                others=[each for each in entries if each is not entry and task in each.by_task],
                transcripts=begun.pop(task),
                before=tasks[place[task] - 1] if place[task] else None,
                after=tasks[place[task] + 1] if place[task] + 1 < len(tasks) else None,
            )
            (out / entry.pages[task]).write_text(content, encoding="utf-8")


def _list_page(entry: Entry) -> str:
    return render(
        "list.html",
        entry=entry,
        facts=_facts(entry.run),
        choices=[
            ("World", "world", sorted({each.world for each in entry.tries})),
            ("Outcome", "outcome", [outcome.value for outcome in Outcome]),
            ("Language", "language", sorted({each.language for each in entry.tries})),
        ],
        rows=[_list_row(entry.pages[task], tries) for task, tries in entry.by_task.items()],
    )


def _facts(run: BenchmarkRun) -> list[tuple[str, str]]:
    worlds = f", worlds {run.worlds}" if run.worlds else ""
    return [
        ("Model", run.model),
        ("Hash of the model", run.model_hash or "-"),
        ("Tasks", f"{run.count} of the {run.split} split, seed {run.seed}{worlds}"),
        ("Options", ", ".join(f"{name} {value}" for name, value in run.options.items()) or "-"),
        ("Command", (run.command if isinstance(run.command, str) else shlex.join(run.command)) or "-"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in run.versions.items()) or "-"),
        *((title_of(name), kpi_to_text(name, run.kpi(name))) for name in UNITS),
    ]


def _list_row(page: str, tries: Sequence[Tried]) -> ListRow:
    worst = min(tries, key=lambda each: (each.solved, each.outcome is Outcome.PARTIAL))
    solved = sum(each.solved for each in tries)
    return ListRow(
        first=tries[0],
        page=page,
        outcome=worst.outcome.value,
        kind=worst.kind,
        told=worst.outcome.value if len(tries) == 1 else f"{solved} of {len(tries)}",
        share=share(tries),
        calls=_mean([each.calls for each in tries]),
        errors=_mean([each.errors for each in tries]),
        faults=_mean([each.faults for each in tries]),
        score=tries[0].score if len(tries) == 1 else "",
    )


def _mean(values: Sequence[int]) -> str:
    return f"{sum(values) / len(values):.1f}".removesuffix(".0")


def _about(first: Tried) -> str:
    """What kind of task it is, in a line."""
    facts = {
        "world": first.world,
        "tier": first.tier,
        "language": first.language,
        "context tokens": first.context_tokens,
    }
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value)


def _record_to_transcript(record: Trajectory) -> Transcript:
    extra, task = record.metadata.model_extra or {}, task_of(record)
    injected = {step: str(kind) for step, kind in _pairs(extra.get("injected"))}
    advice = {advised.step: advised for advised in record.metadata.advice}
    steps = enumerate(record.action_sequence)
    # Actions of one turn were called at once; one without a turn is a turn of its own.
    turns = groupby(steps, key=lambda step: (step[1].turn is None, step[0] if step[1].turn is None else step[1].turn))
    return Transcript(
        record,
        KIND[record.outcome],
        score=str(extra.get("score", "")),
        why=str(extra.get("why", "no reason was recorded")),
        known={name: task[name] for name in ("family", "parameters", "facts", "faults") if task.get(name)},
        turns=[[Step(action, injected.get(at), advice.get(at)) for at, action in turn] for _, turn in turns],
        advice_at_end=advice.get(len(record.action_sequence)),
    )


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    """`injected` as the benchmark writes it, [[step, kind], ...]; records from elsewhere may hold anything there."""
    if not isinstance(value, list):
        return []
    return [(pair[0], pair[1]) for pair in value if isinstance(pair, list) and len(pair) == 2 and type(pair[0]) is int]
