"""Commands around the benchmark: `python -m benchmark COMMAND --help`.

Exit codes, for all commands:

    0  done
    1  `compare` found a significant loss, or `replay` a record that does not give what it says
    2  the input or the command line is wrong; one message on standard error says what to change
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from benchmark.agent.episodes import FROZEN_START, task_to_metadata
from benchmark.bfcl.run import bfcl_command
from benchmark.loop.run import loop_command
from benchmark.reports.compare import compare_command
from benchmark.reports.failures import failures_command
from benchmark.reports.foreign import kpis_command
from benchmark.reports.leaderboard import leaderboard_command
from benchmark.runs.options import ALL_WORLDS, Count, Seed, Short, SplitName, Worlds, draw_tasks
from benchmark.runs.record import Order, Recorded, in_processes, kinds_of, record_order
from benchmark.runs.replay import NO_RECORD, CannotReplay, replay_file
from benchmark.runs.run import run_models
from core.command_line import run_command
from core.errors import UserError, printable
from core.files import whole_file
from core.screen import print_table, with_progress
from data.records import Outcome

app = typer.Typer(
    help="Checkpoint in, trajectories and KPIs out. Exit codes: 0 done, 1 a significant loss or a record that does not replay, "
    "2 wrong input or command line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


_TASKS_TOGETHER = 20
"""What a process records before it hands the records on."""
_SHOWN = 20
"""Differences that `replay` prints; the report holds them all."""


@app.command()
def record(
    out: Annotated[Path, typer.Option(help="Where the trajectories go, JSON Lines.")],
    split: Annotated[SplitName, typer.Option(help="Whose tasks.")] = SplitName.train,
    count: Count = 120,
    seed: Seed = 7,
    worlds: Worlds = ALL_WORLDS,
    short: Short = False,
    mistakes: Annotated[
        float, typer.Option(min=0, max=1, help="Share of records in which the expert errs once and recovers.")
    ] = 0.25,
    partials: Annotated[
        float, typer.Option(min=0, max=1, help="Share of records that end half done, or with damage.")
    ] = 0.1,
    failures: Annotated[float, typer.Option(min=0, max=1, help="Share of records in which nothing is done.")] = 0.15,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the file is the same for any number.")] = 1,
    freeze_clock: Annotated[
        bool,
        typer.Option("--freeze-clock", help="Start every record at a fixed time: byte-identical files."),
    ] = False,
) -> None:
    """Let the expert solve tasks in real sandboxes, with injected faults, mistakes and their recoveries, and without success.

    Example: python -m benchmark record --split train --count 160 --seed 7 --out train.jsonl
    """
    _check_no_folder(out)
    tasks = draw_tasks(worlds, split, count, seed, short=short)
    kinds = kinds_of(count, {"recovery": mistakes, "partial": partials, "failure": failures}, seed)
    start = FROZEN_START if freeze_clock else datetime.now(UTC).replace(microsecond=0)
    orders = (
        Order(tasks[at : at + _TASKS_TOGETHER], kinds[at : at + _TASKS_TOGETHER], seed, start)
        for at in range(0, count, _TASKS_TOGETHER)
    )
    made: list[Recorded] = []
    with whole_file(out) as file:
        parts = in_processes(record_order, orders, workers)
        for part in with_progress(parts, "recording", total=count, size=len):
            for record in part:
                file.write(record.line.encode() + b"\n")
                made.append(replace(record, line=""))
    print_table(("category", "records", "Korean", "success", "partial", "failure", "with errors", "with faults"), [
        *((category, *_counts([record for record in made if record.category == category]))
          for category in dict.fromkeys(record.category for record in made)),
        ("all", *_counts(made)),
    ])  # fmt: skip
    print(f"wrote {out}: {count} trajectories")


def _check_no_folder(out: Path) -> None:
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder, expected the name of a file")


def _counts(made: Sequence[Recorded]) -> tuple[int, ...]:
    outcomes = Counter(record.outcome for record in made)
    return (
        len(made),
        sum(record.language == "ko" for record in made),
        *(outcomes[outcome] for outcome in (Outcome.SUCCESS, Outcome.PARTIAL, Outcome.FAILURE)),
        sum(bool(record.errors) for record in made),
        sum(bool(record.injected) for record in made),
    )


app.command("run")(run_models)
app.command("bfcl")(bfcl_command)
app.command("kpis")(kpis_command)


@app.command("replay")
def replay_command(
    file: Annotated[Path, typer.Argument(help="Trajectories, JSON Lines.")],
    out: Annotated[Path | None, typer.Option(help="Where the report goes, one JSON object a record.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Run every record again in a fresh sandbox and compare outputs, errors and outcome; exits 1 when any differs.

    Records of other worlds or versions cannot be run again: they are counted with the reason and not in the report.

    Example: python -m benchmark replay train.jsonl --out replay.jsonl
    """
    if out is not None:
        _check_no_folder(out)
        if out.resolve() == file.resolve():
            raise UserError(f"{out}: the report would overwrite the records")
    same, reasons, different = 0, Counter[str](), 0
    with whole_file(out) if out is not None else nullcontext() as report:
        for result in with_progress(replay_file(file, workers=workers), "replaying"):
            if isinstance(result, CannotReplay):
                reasons[result.reason] += 1
                if result.reason == NO_RECORD and reasons[NO_RECORD] <= _SHOWN:
                    print(result.id)
                continue
            if report is not None:
                report.write(result.model_dump_json().encode() + b"\n")
            same += result.ok
            if (difference := result.first_difference) is not None:
                different += 1
                if different <= _SHOWN:
                    was, now = (
                        json.dumps(value, ensure_ascii=False)[:200]
                        for value in (difference.recorded, difference.replayed)
                    )
                    line = f"step {difference.step}: {difference.field}: recorded {was}, replayed {now}"
                    print(printable(f"{result.id}: {line}"))
    if different > _SHOWN:
        print(f"... and {different - _SHOWN} more")
    rows = [("as recorded", same), ("different", different)]
    rows += [(f"not replayed: {reason}", count) for reason, count in reasons.most_common()]
    print_table(("", "records"), [*rows, ("read", same + different + reasons.total())])
    if out is not None:
        print(f"wrote {out}")
    if different:
        raise typer.Exit(1)


app.command("compare")(compare_command)
app.command("failures")(failures_command)
app.command("leaderboard")(leaderboard_command)
app.command("loop")(loop_command)


@app.command()
def tasks(
    out: Annotated[Path, typer.Option(help="Where the tasks go, JSON Lines.")],
    split: Annotated[SplitName, typer.Option(help="Whose tasks.")] = SplitName.test,
    count: Count = 40,
    seed: Seed = 1,
    worlds: Worlds = ALL_WORLDS,
    short: Short = False,
) -> None:
    """Write tasks as data: instruction, tools and parameters, for decontamination and audits.

    Example: python -m benchmark tasks --split test --count 200 --seed 1 --out test-tasks.jsonl
    """
    _check_no_folder(out)
    made = draw_tasks(worlds, split, count, seed, short=short)
    with whole_file(out) as file:
        for task in made:
            row = {
                **task_to_metadata(task),
                "instruction": task.instruction,
                "tools": [tool.model_dump() for tool in task.tools],
                "faults": [asdict(fault) for fault in task.faults],
            }
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    print(f"wrote {out}: {len(made)} tasks")


if __name__ == "__main__":
    run_command(app, name="python -m benchmark")
