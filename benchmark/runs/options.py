"""Which tasks: the options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from benchmark.worlds.kinds import WORLDS, Kind, make_tasks, with_folders
from benchmark.worlds.own.folder import Folder, read_folder
from benchmark.worlds.own.kind import OwnKind, open_kind
from benchmark.worlds.own.trust import Startable, require_trust, what_starts
from benchmark.worlds.world import PARTS, Part, Split, Task
from core.errors import UserError


class SplitName(StrEnum):
    """Which tasks: their parameters are disjoint. The last three are parts of a folder's training tasks."""

    train = "train"
    test = "test"
    record = "record"
    practice = "practice"
    validation = "validation"


ALL_WORLDS = ",".join(WORLDS)
Worlds = Annotated[
    str,
    typer.Option(help="Worlds to take tasks from, with commas between: names, and folders of your own tools (./DIR)."),
]
Trust = Annotated[bool, typer.Option("--trust", help="Trust the folders of --worlds: what they name may be started.")]
Count = Annotated[
    int | None, typer.Option(min=1, help="How many tasks; of folders alone, all that there are by default.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the tasks; the same seed gives the same tasks.")]
Skip = Annotated[int, typer.Option(min=0, help="Leave out the first so many tasks of the seed.")]
Short = Annotated[
    bool, typer.Option("--short", help="Tasks of few calls whose prompts stay short; worlds files and api have them.")
]
Asking = Annotated[
    bool,
    typer.Option(
        "--asking", help="Tasks with a user: something is to be asked, agreed to or refused, or nothing of it."
    ),
]
Injections = Annotated[
    bool,
    typer.Option("--injections", help="Tasks in which a tool's result holds an instruction that must not be obeyed."),
]


@dataclass(frozen=True)
class Chosen:
    """The worlds that `--worlds` names."""

    names: tuple[str, ...]
    folders: tuple[OwnKind, ...] = ()

    @property
    def kinds(self) -> dict[str, Kind]:
        """Ours and the folders, by name."""
        return with_folders(self.folders)

    @property
    def shared(self) -> OwnKind | None:
        """A folder that takes one episode at a time, so that no task has a twin beside it."""
        return next((kind for kind in self.folders if kind.parallel == 1), None)

    @property
    def identity(self) -> dict[str, dict[str, str]]:
        """What makes each folder what it is, by its name."""
        return {kind.name: dict(kind.identity) for kind in self.folders}


OURS = Chosen(tuple(WORLDS))


def choose_worlds(worlds: str, *, trust: bool = False) -> Chosen:
    """Read `--worlds`, and ask the tools of each folder.

    Raises:
        UserError: a folder that cannot be read, is not trusted, or whose tools do not start.
    """
    words = [word.strip() for word in worlds.split(",") if word.strip()]
    folders = {word: open_folder(Path(word), trust=trust) for word in words if "/" in word}
    names = [folders[word].name if word in folders else word for word in words]
    for name in names:
        if name not in WORLDS and "/" not in name and Path(name, "world.yaml").is_file() and name not in folders:
            known = {kind.name for kind in folders.values()}
            if name not in known:
                raise UserError(f"worlds: {name!r} is a folder here: write ./{name}")
    return Chosen(tuple(names), tuple(folders.values()))


def open_folder(path: Path, *, trust: bool = False, without_tasks: bool = False, unjudged: bool = False) -> OwnKind:
    """A folder's tools, if the folder is trusted.

    Args:
        without_tasks: where the tasks do not matter, or cannot be made yet.
        unjudged: nothing has to tell yet what a run has changed.

    Raises:
        UserError: it cannot be read, is not trusted, or its tools do not start.
    """
    folder = read_folder(path, without_tasks=without_tasks)
    require_trust(startable_of(folder), trust)
    return open_kind(folder, unjudged=unjudged)


def startable_of(folder: Folder) -> Startable:
    """What a folder would start."""
    world = folder.world
    state = world.state.dir if world.state else None
    return what_starts(folder.path, world.tools, reset=world.reset, hosts=world.hosts, state=state)


def draw_tasks(
    chosen: Chosen,
    split: SplitName,
    count: int | None,
    seed: int,
    *,
    short: bool = False,
    asking: bool = False,
    injections: bool = False,
    part: Part | None = None,
    skip: int = 0,
    usual: int = 40,
) -> list[Task]:
    """The tasks that the options name.

    Args:
        part: which training tasks of a folder `--split train` means; None is all of them.
        usual: how many tasks are drawn of our worlds where no number is given.

    Raises:
        UserError: for an unknown world, for one without short tasks or tasks with a user where these are asked for, and for
            a folder with fewer.
    """
    base: Split = "test" if split is SplitName.test else "train"
    named: Part | None = next((each for each in PARTS if each == split.value), None)
    if named is not None:
        ours = [name for name in chosen.names if name in WORLDS]
        if ours:
            raise UserError(
                f"--split {split}: worlds {', '.join(ours)} have no such part; another --seed gives other tasks"
            )
        part = named
    if count is None:
        only_folders = bool(chosen.folders) and len(chosen.folders) == len(chosen.names)
        count = (
            _all_of(chosen.folders, base, part, skip, asking=asking, injections=injections) if only_folders else usual
        )
    made = make_tasks(
        chosen.names,
        base,
        count + skip,
        seed,
        short=short,
        asking=asking,
        injections=injections,
        part=part,
        kinds=chosen.kinds,
    )
    return made[skip:]


def _all_of(
    folders: Sequence[OwnKind], split: Split, part: Part | None, skip: int, *, asking: bool, injections: bool
) -> int:
    """How many tasks there are, each folder giving as many as the smallest."""
    least = min((len(kind.rows_of(split, part, asking=asking, injections=injections)) for kind in folders), default=0)
    count = least * len(folders) - skip
    if count < 1:
        of = f"{part} part of the training" if part and split == "train" else split
        what = "task with a user" if asking else "task"
        raise UserError(f"worlds: there is no {what} in the {of} split of {', '.join(kind.name for kind in folders)}")
    return count


def require_expert(chosen: Chosen, tasks: Sequence[Task], wanted_by: str) -> None:
    """Whether every task has an expert.

    Raises:
        UserError: tasks of a folder that have no solution.
    """
    kinds = chosen.kinds
    if without := [task.id for task in tasks if not kinds[task.world].has_expert(task)]:
        shown = ", ".join(without[:3]) + (f" and {len(without) - 3} more" if len(without) > 3 else "")
        raise UserError(
            f"{wanted_by}: there is no expert for {len(without)} of {len(tasks)} tasks ({shown}): they have no solution. A "
            "teacher's tries can be kept instead: python -m benchmark run --server URL --model TEACHER --split train "
            "--samples 4 --temperature 0.7 --keep solved"
        )


def check_no_folder(out: Path) -> None:
    """Refuse a folder where a file is to be written."""
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder, expected the name of a file")
