"""`python -m benchmark tasks`: tasks as data; with make, check and import, those of a folder with your own tools."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from benchmark.agent.episodes import task_to_metadata
from benchmark.runs.options import (
    ALL_WORLDS,
    Asking,
    Count,
    Seed,
    Short,
    SplitName,
    Trust,
    Worlds,
    check_no_folder,
    choose_worlds,
    draw_tasks,
)
from core.errors import UserError
from core.files import whole_file

tasks_app = typer.Typer(
    help="Write tasks as data; make, check or import those of a folder with your own tools.",
    add_completion=False,
    rich_markup_mode=None,
)


@tasks_app.callback(invoke_without_command=True)
def tasks(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(help="Where the tasks go, JSON Lines.")] = None,
    split: Annotated[SplitName, typer.Option(help="Whose tasks.")] = SplitName.test,
    count: Count = None,
    seed: Seed = 1,
    worlds: Worlds = ALL_WORLDS,
    short: Short = False,
    asking: Asking = False,
    trust: Trust = False,
) -> None:
    """Write tasks as data: instruction, tools and parameters, for decontamination and audits.

    Example: python -m benchmark tasks --split test --count 200 --seed 1 --out test-tasks.jsonl
    """
    if context.invoked_subcommand is not None:
        return
    if out is None:
        raise UserError(
            "--out is missing: where the tasks go. To make, check or import tasks: tasks make|check|import DIR"
        )
    check_no_folder(out)
    made = draw_tasks(choose_worlds(worlds, trust=trust), split, count, seed, short=short, asking=asking)
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
