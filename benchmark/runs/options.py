"""Which tasks: the options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from benchmark.worlds.kinds import WORLDS, make_tasks
from benchmark.worlds.world import Task
from core.errors import UserError


class SplitName(StrEnum):
    """Which tasks: their parameters are disjoint."""

    train = "train"
    test = "test"


ALL_WORLDS = ",".join(WORLDS)
Worlds = Annotated[str, typer.Option(help="Worlds to take tasks from, with commas between.")]
Count = Annotated[int, typer.Option(min=1, help="How many tasks.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the tasks; the same seed gives the same tasks.")]
Short = Annotated[
    bool, typer.Option("--short", help="Tasks of few calls whose prompts stay short; worlds files and api have them.")
]


def draw_tasks(worlds: str, split: SplitName, count: int, seed: int, *, short: bool = False) -> list[Task]:
    """The tasks that the options name.

    Raises:
        UserError: for an unknown world, and for one without short tasks where these are asked for.
    """
    names = [name.strip() for name in worlds.split(",") if name.strip()]
    kind: Literal["train", "test"] = "train" if split is SplitName.train else "test"
    return make_tasks(names, kind, count, seed, short=short)


def check_no_folder(out: Path) -> None:
    """Refuse a folder where a file is to be written."""
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder, expected the name of a file")
