"""What a kind of world is, the five of ours by name, and tasks drawn from several kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from benchmark.worlds.api.world import API
from benchmark.worlds.code.world import CODE
from benchmark.worlds.family import Family, WorldKind
from benchmark.worlds.files.world import FILES
from benchmark.worlds.other.world import OTHER
from benchmark.worlds.troubles import Troubles
from benchmark.worlds.web.world import WEB
from benchmark.worlds.world import Part, Split, Task, World
from core.errors import UserError, nearest
from core.files import write_whole
from data.records import Category, ToolSpec


class Kind(Protocol):
    """A kind of world: one of ours, or a folder with a user's own tools. Whoever runs tasks is given kinds by their names."""

    @property
    def name(self) -> str: ...

    @property
    def category(self) -> Category: ...

    @property
    def version(self) -> str:
        """Goes up when the same task gives another world or another record."""
        ...

    @property
    def source(self) -> str:
        """Where its records come from, as they say themselves."""
        ...

    @property
    def licence(self) -> str | None:
        """The licence of its records; None where nobody has stated one."""
        ...

    @property
    def identity(self) -> Mapping[str, str]:
        """sha256 of what else decides a record, by what it is; empty where the version says all."""
        ...

    @property
    def parallel(self) -> int | None:
        """How many episodes may be live at once; None is any number. Where it is 1, no task has a twin."""
        ...

    @property
    def tools(self) -> Mapping[str, ToolSpec]:
        """Every tool, by name."""
        ...

    @property
    def troubles(self) -> Troubles[Any, Any]: ...

    def tasks(
        self,
        split: Split,
        count: int,
        seed: int,
        *,
        short: bool = False,
        asking: bool = False,
        injections: bool = False,
        part: Part | None = None,
    ) -> list[Task]:
        """`count` distinct tasks, the same for the same arguments. Of ours, seeds keep parts of the training tasks apart.

        Args:
            asking: those with a user; without it none of them.
            injections: those in which a result holds an instruction.
        """
        ...

    def task(self, task_id: str) -> Task | None:
        """The task of an id, or None."""
        ...

    def has_expert(self, task: Task) -> bool:
        """Whether `World.expert` knows the way in this task."""
        ...

    def open(self, task: Task) -> World:
        """The world of a task. Nothing is there before it is entered."""
        ...


WORLDS: dict[str, WorldKind[Family, World]] = {kind.name: kind for kind in (CODE, WEB, API, FILES, OTHER)}


def with_folders(folders: Sequence[Kind]) -> dict[str, Kind]:
    """Our worlds and further kinds, by name."""
    return {**WORLDS, **{kind.name: kind for kind in folders}}


def make_tasks(
    worlds: Sequence[str],
    split: Split,
    count: int,
    seed: int,
    *,
    short: bool = False,
    asking: bool = False,
    injections: bool = False,
    part: Part | None = None,
    kinds: Mapping[str, Kind] = WORLDS,
) -> list[Task]:
    """`count` tasks that take the worlds in turn, the same for the same arguments; with `short` only short tasks, with
    `asking` those with a user, with `injections` those in which a result holds an instruction.

    Raises:
        UserError: an unknown world or split, no world, a count below 1 or above what there is, or `short`, `asking` or
            `injections` and a world without such tasks.
    """
    for name in worlds:
        if name not in kinds:
            raise UserError(f"worlds: {name!r} is unknown, expected {', '.join(kinds)}.{nearest(name, kinds)}")
    if not worlds or len(set(worlds)) != len(worlds):
        raise UserError(f"worlds: expected one or more different names of {', '.join(kinds)}, got {list(worlds)}")
    if split not in ("train", "test"):
        raise UserError(f"split: {split!r} is unknown, expected train or test.{nearest(split, ('train', 'test'))}")
    if count < 1:
        raise UserError(f"count: {count}, expected 1 or more")
    if short and (asking or injections):
        raise UserError("--short draws other tasks than --asking and --injections: leave one out")
    each = -(-count // len(worlds))
    columns = [
        kinds[name].tasks(split, each, seed, short=short, asking=asking, injections=injections, part=part)
        for name in worlds
    ]
    return [task for row in zip(*columns, strict=True) for task in row][:count]


TABLE = "| world | fault | what the model reads | way out |\n|---|---|---|---|\n"


def faults_to_markdown() -> str:
    """The documentation's table of all kinds of faults."""
    return TABLE + "".join(kind.troubles.to_markdown(kind.name) for kind in WORLDS.values())


def main() -> None:
    """Write the table of docs/architecture.md anew."""
    page = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
    text = page.read_text(encoding="utf-8")
    table = text[text.index(TABLE) :].split("\n\n", 1)[0] + "\n"
    write_whole(page, text.replace(table, faults_to_markdown()))


if __name__ == "__main__":
    main()
