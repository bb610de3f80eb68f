"""What a run fails at: how each failed try came to its end, and which errors its calls met.

A success rate says how much is missing, not what. A model that stops too early, one that does the wrong thing without any
error, and one that says the same call to the same error until its turns are used up want other training data.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark.kpis import task_of
from benchmark.reports.same_worlds import OfWorlds, require_same_worlds
from benchmark.runs.results import RECORDS, read_run
from benchmark.runs.shown import print_asking
from core.errors import printable
from core.screen import print_table
from data.records import INVALID_CALL, Action, Outcome, Trajectory, read_trajectories
from data.trajectories import struck_steps

STUCK = 3
"""From how many equal errors of one call on a try without an answer counts as stuck."""

ENDS = (
    ("ended wrongly, no error", "It answered, and no call of its own had failed."),
    ("ended wrongly after errors", "It answered although calls had failed."),
    ("stuck on one error", f"No answer: one call failed {STUCK} times or more with the same error."),
    ("unreadable at the end", "No answer: its last turn could not be read."),
    ("out of turns", "No answer: anything else."),
)


@dataclass
class Failures:
    """The tries of a run that did not succeed, partly solved ones included."""

    tries: Counter[str] = field(default_factory=Counter)
    """All tries by world."""
    ends: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name, _ in ENDS})
    """How failed tries ended, by world."""
    errors: Counter[str] = field(default_factory=Counter)
    """Failed tries by the shape of an error that they met."""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"tries": self.tries, "ends": self.ends, "errors": dict(self.errors.most_common())}


def count_failures(records: Iterable[Trajectory]) -> Failures:
    """How the failed ones among the records ended, and which errors they met."""
    counted = Failures()
    for record in records:
        world = str(task_of(record).get("world", record.category.value))
        counted.tries[world] += 1
        if record.outcome is Outcome.SUCCESS:
            continue
        struck = struck_steps(record)
        own = [a for step, a in enumerate(record.action_sequence) if a.error is not None and step not in struck]
        counted.ends[_end_of(record, own)][world] += 1
        counted.errors.update({error_to_shape(action.error or "") for action in own})
    return counted


def _end_of(record: Trajectory, errors: list[Action]) -> str:
    wrongly, after_errors, stuck, unreadable, out_of_turns = (name for name, _ in ENDS)
    if record.metadata.answer is not None:
        return after_errors if errors else wrongly
    same = Counter(json.dumps([each.command, each.input, each.error], sort_keys=True) for each in errors)
    if max(same.values(), default=0) >= STUCK:
        return stuck
    last = record.action_sequence[-1] if record.action_sequence else None
    return unreadable if last is not None and last.command == INVALID_CALL else out_of_turns


def error_to_shape(error: str) -> str:
    """An error without what differs from task to task: its first line, with quoted texts and numbers replaced."""
    shape = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", error.strip().split("\n", 1)[0])
    return re.sub(r"(:) [^:]*$", r"\1 ...", re.sub(r"\d+", "#", shape))


def failures_command(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.")],
    top: Annotated[int, typer.Option(min=1, help="How many kinds of errors to show.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    of_worlds: OfWorlds = "",
) -> None:
    """How the failed tries of each run ended, by world, and which errors they met. An injected fault is no error of a model.

    Example: python -m benchmark failures runs/quickstart/round-1/test/sft-1 runs/quickstart/round-1/test/dpo-1
    """
    read = [(folder, read_run(folder), count_failures(read_trajectories(folder / RECORDS))) for folder in runs]
    if of_worlds:
        require_same_worlds([(folder, run) for folder, run, _ in read], of_worlds)
    if as_json:
        print(json.dumps({str(folder): found.to_json() for folder, _, found in read}, ensure_ascii=False, indent=2))
        return
    for number, (folder, run, found) in enumerate(read):
        worlds, failed = sorted(found.tries), sum(sum(each.values()) for each in found.ends.values())
        title = f"{printable(run.title)}: {failed} of {found.tries.total()} tries failed ({folder})"
        rows = [(name, *(each[world] for world in worlds), each.total()) for name, each in found.ends.items()]
        print_table(
            ("how it ended", *worlds, "all"),
            [*rows, ("all tries", *(found.tries[world] for world in worlds), found.tries.total())],
            title="\n" * bool(number) + title,
        )
        print_asking([run])
        errors = [(shape, count) for shape, count in found.errors.most_common(top)]
        if errors:
            print_table(("error of a call", "failed tries with it"), errors, title="")
