"""Two runs of the same tasks: is the second one worse, where, on which tasks, and what was different about it?

Tasks are paired, so how hard they are cancels out (`benchmark.kpis.compare_shares`, a paired bootstrap over tasks).
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark.kpis import UNITS, Comparison, compare_shares
from benchmark.reports.same_worlds import OfWorlds, require_same_worlds
from benchmark.runs.results import RECORDS, RunDifference, Tried, differences, read_run, read_tries
from benchmark.runs.shown import interval, kpi_to_text, percent, points, print_asking, title_of
from core.errors import UserError, printable
from core.screen import print_table
from data.wire import BenchmarkRun, Replies


@dataclass(frozen=True)
class Paired:
    """Success over the tasks that both runs have tried, and how many of these changed."""

    comparison: Comparison
    before: float | None
    """Share of successes over the shared tasks."""
    after: float | None
    better: int
    """Tasks of which more tries succeed than before."""
    worse: int

    @property
    def verdict(self) -> str:
        """In words."""
        if self.comparison.significant_loss:
            return "a significant loss"
        return "a significant gain" if self.comparison.significant_gain else "within chance"

    @property
    def sign_test(self) -> float:
        """Two-sided exact p of the tasks that changed, were each as likely to change for the better (McNemar's exact test).

        A check on the bootstrap, which is too sure of itself where only a handful of tasks changed.
        """
        changed, fewer = self.better + self.worse, min(self.better, self.worse)
        ways = sum(math.comb(changed, count) for count in range(fewer + 1))
        return min(1.0, 2 * ways / 2**changed)


@dataclass(frozen=True)
class Changed:
    """A task of which another share of the tries succeeds: the first try of each run, and their shares."""

    task: str
    before: Tried
    after: Tried
    share_before: float
    share_after: float


@dataclass(frozen=True)
class RunComparison:
    """Everything that `compare` tells of two runs."""

    before: BenchmarkRun
    after: BenchmarkRun
    success: Paired
    by_world: dict[str, Paired]
    newly_failed: list[Changed]
    newly_solved: list[Changed]
    other_tasks: int
    """Tasks of the same id and another instruction, which are therefore not the same tasks."""
    differences: list[RunDifference]

    def to_json(self) -> dict[str, Any]:
        """Numbers, tasks and differences, JSON-ready."""
        runs = {
            side: {
                "label": run.label,
                "title": run.title,
                "model": run.model,
                "kpis": {name: asdict(kpi) for name, kpi in run.kpis.items()},
                "replies": None if run.replies is None else run.replies.model_dump(),
            }
            for side, run in (("before", self.before), ("after", self.after))
        }
        changed = {
            name: [
                {
                    "task": each.task,
                    "world": each.after.world,
                    **{
                        side: {"record": one.id, "line": one.line, "outcome": one.outcome.value, "success": share}
                        for side, one, share in (
                            ("before", each.before, each.share_before),
                            ("after", each.after, each.share_after),
                        )
                    },
                }
                for each in tasks
            ]
            for name, tasks in (("newly_failed", self.newly_failed), ("newly_solved", self.newly_solved))
        }
        return {
            **runs,
            "success": paired_to_json(self.success),
            "by_world": {world: paired_to_json(paired) for world, paired in self.by_world.items()},
            **changed,
            "other_tasks_of_the_same_id": self.other_tasks,
            "differences": [asdict(difference) for difference in self.differences],
        }


def paired_to_json(paired: Paired) -> dict[str, Any]:
    """The comparison with its verdict, JSON-ready."""
    return {
        "before": paired.before,
        "after": paired.after,
        "difference": asdict(paired.comparison),
        "verdict": paired.verdict,
        "better": paired.better,
        "worse": paired.worse,
        "sign_test_p": paired.sign_test,
    }


def compare_runs(
    before: BenchmarkRun, tries_before: Sequence[Tried], after: BenchmarkRun, tries_after: Sequence[Tried]
) -> RunComparison:
    """Pair the tasks of two runs and tell what changed."""
    old, new = _by_task(tries_before), _by_task(tries_after)
    others = {task for task in old.keys() & new.keys() if old[task][0].content != new[task][0].content}
    old, new = ({task: tries for task, tries in side.items() if task not in others} for side in (old, new))
    worlds: dict[str, list[str]] = defaultdict(list)
    for task in sorted(old.keys() & new.keys()):
        worlds[new[task][0].world].append(task)
    changed = [
        Changed(task, old[task][0], new[task][0], share(old[task]), share(new[task]))
        for task in sorted(old.keys() & new.keys())
        if share(old[task]) != share(new[task])
    ]
    return RunComparison(
        before,
        after,
        _pair(old, new),
        {
            world: _pair({task: old[task] for task in tasks}, {task: new[task] for task in tasks})
            for world, tasks in sorted(worlds.items())
        },
        newly_failed=[each for each in changed if each.share_after < each.share_before],
        newly_solved=[each for each in changed if each.share_after > each.share_before],
        other_tasks=len(others),
        differences=differences(before, after),
    )


def compare(before: Path, after: Path, worlds: str = "") -> RunComparison:
    """Two folders of runs, compared.

    Raises:
        UserError: if one is no run or damaged, they have no task in common, or a folder of own tools changed in between.
    """
    old, new = read_run(before), read_run(after)
    require_same_worlds([(before, old), (after, new)], worlds)
    report = compare_runs(old, read_tries(before), new, read_tries(after))
    if report.success.comparison.value is None:
        raise UserError(
            f"{before} and {after} have no task in common: run both with the same split, seed, worlds and version of the "
            f"project{_other_tasks(report)}"
        )
    return report


def share(tries: Sequence[Tried]) -> float:
    """Share of the tries that succeeded."""
    return sum(each.solved for each in tries) / len(tries)


def _by_task(tries: Sequence[Tried]) -> dict[str, list[Tried]]:
    found: dict[str, list[Tried]] = defaultdict(list)
    for each in tries:
        found[each.task].append(each)
    return dict(found)


def _pair(old: Mapping[str, list[Tried]], new: Mapping[str, list[Tried]]) -> Paired:
    of_old, of_new = ({task: share(tries) for task, tries in side.items()} for side in (old, new))
    common = sorted(of_old.keys() & of_new.keys())
    return Paired(
        compare_shares(of_old, of_new),
        before=_mean([of_old[task] for task in common]),
        after=_mean([of_new[task] for task in common]),
        better=sum(of_new[task] > of_old[task] for task in common),
        worse=sum(of_new[task] < of_old[task] for task in common),
    )


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


# ---- in words ----


def describe(paired: Paired) -> str:
    """`+12.5 points (95 % -2.5 to +27.5), within chance; 7 tasks better, 2 worse, sign test p = 0.18`."""
    assert paired.comparison.value is not None
    range_ = interval(paired.comparison).replace("(", "(95 % ")
    return (
        f"{points(paired.comparison.value)} points{range_}, {paired.verdict}; "
        f"{paired.better} tasks better, {paired.worse} worse, sign test p = {paired.sign_test:.2g}"
    )


def reply_rows(runs: Sequence[BenchmarkRun]) -> list[tuple[str, ...]]:
    """How the replies of runs were read, a row for each count; `-` where a run did not count, and no rows where none did."""
    if all(run.replies is None for run in runs):
        return []
    forms = sorted({form for run in runs if run.replies for form in run.replies.in_another_form})
    counts: list[tuple[str, Callable[[Replies], int]]] = [
        ("unreadable", lambda replies: replies.unreadable),
        ("unreadable by the server's fault", lambda replies: replies.unreadable_by_the_servers_fault),
        *((f"calls read as {printable(form)}", _count_of(form)) for form in forms),
    ]
    return [
        (what, *("-" if run.replies is None else f"{count(run.replies):,}" for run in runs)) for what, count in counts
    ]


def _count_of(form: str) -> Callable[[Replies], int]:
    return lambda replies: replies.in_another_form.get(form, 0)


# ---- the command ----

SHOWN = 20
"""Tasks that are listed on a terminal; `--json` lists them all."""


def compare_command(
    before: Annotated[Path, typer.Argument(help="Folder of the run to compare with.")],
    after: Annotated[Path, typer.Argument(help="Folder of the run that should be no worse.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    worlds: OfWorlds = "",
) -> None:
    """Whether the second run solves fewer of the same tasks, which, and what was different: data, training, benchmark.

    Exit codes: 0 no significant loss; 1 a significant loss, that is, the 95 % interval of the paired bootstrap over all shared
    tasks lies below 0; 2 wrong input, or no task in common. Single worlds never decide.

    Example: python -m benchmark compare runs/quickstart/round-1/test/sft-1 runs/quickstart/round-1/test/dpo-1
    """
    report = compare(before, after, worlds)
    if as_json:
        print(json.dumps(report.to_json(), ensure_ascii=False, indent=2))
    else:
        _print_report(report, before, after)
    if report.success.comparison.significant_loss:
        raise typer.Exit(1)


def _print_report(report: RunComparison, before: Path, after: Path) -> None:
    names = printable(report.before.title), printable(report.after.title)
    comparison = report.success.comparison
    left_out = f"; {comparison.unpaired} tasks are in one of them only" if comparison.unpaired else ""
    print(
        f"success {names[1]} - {names[0]} on {comparison.n} shared tasks: {describe(report.success)}{left_out}"
        f"{_other_tasks(report)}"
    )
    rows = [
        (
            printable(world),
            paired.comparison.n,
            f"{percent(paired.before)} %",
            f"{percent(paired.after)} %",
            points(paired.comparison.value or 0) + interval(paired.comparison),
            f"+{paired.better} -{paired.worse}",
        )
        for world, paired in [*report.by_world.items(), ("all", report.success)]
    ]
    print_table(("world", "tasks", *names, "points (95 %)", "tasks changed"), rows, title="\nsuccess by world")
    print_table(
        ("KPI", *names),
        [
            (title_of(name), *(kpi_to_text(name, run.kpi(name)) for run in (report.before, report.after)))
            for name in UNITS
        ],
        title="\nover all tasks of each run",
    )
    print_asking([report.before, report.after])
    if replies := reply_rows([report.before, report.after]):
        print_table(("turns", *names), replies, title="\nhow replies were read")
    if report.differences:
        print_table(
            ("about", "what", *names),
            [
                (each.about, *(printable(text or "-") for text in (each.what, each.before, each.after)))
                for each in report.differences
            ],
            title="\nwhat was different",
        )
    else:
        print("\nwhat was different: nothing that the runs recorded")
    for title, tasks in (("newly failed", report.newly_failed), ("newly solved", report.newly_solved)):
        if tasks:
            lines = [
                (printable(each.task), each.after.world, *_outcomes(each), *(_place(each, before, after)))
                for each in tasks[:SHOWN]
            ]
            print_table(("task", "world", *names, "records", ""), lines, title=f"\n{title}: {len(tasks)}")
        if len(tasks) > SHOWN:
            print(f"... and {len(tasks) - SHOWN} more; --json lists them all")


def _outcomes(changed: Changed) -> tuple[str, str]:
    whole = {changed.share_before, changed.share_after} <= {0.0, 1.0}
    if whole:
        return changed.before.outcome.value, changed.after.outcome.value
    return f"{percent(changed.share_before)} % of tries", f"{percent(changed.share_after)} % of tries"


def _place(changed: Changed, before: Path, after: Path) -> tuple[str, str]:
    return f"{before / RECORDS}:{changed.before.line}", f"{after / RECORDS}:{changed.after.line}"


def _other_tasks(report: RunComparison) -> str:
    if not report.other_tasks:
        return ""
    return f"; {report.other_tasks} tasks have the same id and another instruction, from another version of the worlds"
