"""`python -m benchmark record`: the expert's work on tasks, as a file of records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from benchmark.agent.episodes import FROZEN_START, InvalidTry
from benchmark.runs.invalid import end_if_too_many, invalid_to_text
from benchmark.runs.options import (
    ALL_WORLDS,
    Asking,
    Chosen,
    Count,
    Injections,
    Seed,
    Short,
    Skip,
    SplitName,
    Trust,
    Worlds,
    check_no_folder,
    choose_worlds,
    draw_tasks,
    require_expert,
)
from benchmark.runs.record import Order, Recorded, in_processes, kinds_of, record_order
from core.errors import UserError
from core.files import whole_file
from core.screen import print_table, with_progress
from data.records import Outcome

_TASKS_TOGETHER = 20
"""What a process records before it hands the records on."""


def record(
    out: Annotated[Path, typer.Option(help="Where the trajectories go, JSON Lines.")],
    split: Annotated[SplitName, typer.Option(help="Whose tasks.")] = SplitName.train,
    count: Count = None,
    seed: Seed = 7,
    worlds: Worlds = ALL_WORLDS,
    short: Short = False,
    asking: Asking = False,
    injections: Injections = False,
    skip: Skip = 0,
    trust: Trust = False,
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
) -> list[Recorded]:
    """Let the expert solve tasks in real sandboxes, with injected faults, mistakes and their recoveries, and without success.

    Example: python -m benchmark record --split train --count 160 --seed 7 --out train.jsonl
    """
    check_no_folder(out)
    chosen = choose_worlds(worlds, trust=trust)
    _check_twins(chosen, mistakes, workers)
    tasks = draw_tasks(
        chosen,
        split,
        count,
        seed,
        short=short,
        asking=asking,
        injections=injections,
        part="record",
        skip=skip,
        usual=120,
    )
    require_expert(chosen, tasks, "record")
    count = len(tasks)
    kinds = kinds_of(count, {"recovery": mistakes, "partial": partials, "failure": failures}, seed)
    start = FROZEN_START if freeze_clock else datetime.now(UTC).replace(microsecond=0)
    orders = (
        Order(tasks[at : at + _TASKS_TOGETHER], kinds[at : at + _TASKS_TOGETHER], seed, start, chosen.folders)
        for at in range(0, count, _TASKS_TOGETHER)
    )
    made: list[Recorded] = []
    spoilt: list[InvalidTry] = []
    with whole_file(out) as file:
        parts = in_processes(record_order, orders, workers)
        for part in with_progress(parts, "recording", total=count, size=len):
            for record in part:
                if isinstance(record, InvalidTry):
                    spoilt.append(record)
                    continue
                file.write(record.line.encode() + b"\n")
                made.append(replace(record, line=""))
    print_table(("category", "records", "Korean", "success", "partial", "failure", "with errors", "with faults"), [
        *((category, *_counts([record for record in made if record.category == category]))
          for category in dict.fromkeys(record.category for record in made)),
        ("all", *_counts(made)),
    ])  # fmt: skip
    print(f"wrote {out}: {len(made)} trajectories")
    if spoilt:
        print(invalid_to_text(spoilt))
        end_if_too_many(len(spoilt), count)
    return made


def _check_twins(chosen: Chosen, mistakes: float, workers: int) -> None:
    """Refuse what a shared server cannot do.

    Raises:
        UserError: mistakes, which are tried in a twin first, or several processes.
    """
    if (kind := chosen.shared) is not None and mistakes:
        raise UserError(
            f"--mistakes {mistakes:g}: the server of world {kind.name!r} takes one episode at a time, and a mistake is tried "
            "in a twin first; give --mistakes 0"
        )
    if workers > 1 and (limited := next((kind for kind in chosen.folders if kind.parallel is not None), None)):
        raise UserError(f"--workers {workers}: world {limited.name!r} has a shared server; give --workers 1")


def _counts(made: Sequence[Recorded]) -> tuple[int, ...]:
    outcomes = Counter(record.outcome for record in made)
    return (
        len(made),
        sum(record.language == "ko" for record in made),
        *(outcomes[outcome] for outcome in (Outcome.SUCCESS, Outcome.PARTIAL, Outcome.FAILURE)),
        sum(bool(record.errors) for record in made),
        sum(bool(record.injected) for record in made),
    )
