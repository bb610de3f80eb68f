"""The worlds there are, by name, and tasks drawn from several of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmark.worlds.api.world import API
from benchmark.worlds.code.world import CODE
from benchmark.worlds.family import Family, WorldKind
from benchmark.worlds.files.world import FILES
from benchmark.worlds.other.world import OTHER
from benchmark.worlds.web.world import WEB
from benchmark.worlds.world import Split, Task, World
from core.errors import UserError, nearest
from core.files import write_whole

WORLDS: dict[str, WorldKind[Family, World]] = {kind.name: kind for kind in (CODE, WEB, API, FILES, OTHER)}


def make_tasks(worlds: Sequence[str], split: Split, count: int, seed: int, *, short: bool = False) -> list[Task]:
    """`count` tasks that take the worlds in turn, the same for the same arguments; with `short` only short tasks.

    Raises:
        UserError: an unknown world or split, no world, a count below 1, or `short` and a world without short tasks.
    """
    for name in worlds:
        if name not in WORLDS:
            raise UserError(f"worlds: {name!r} is unknown, expected {', '.join(WORLDS)}.{nearest(name, WORLDS)}")
    if not worlds or len(set(worlds)) != len(worlds):
        raise UserError(f"worlds: expected one or more different names of {', '.join(WORLDS)}, got {list(worlds)}")
    if split not in ("train", "test"):
        raise UserError(f"split: {split!r} is unknown, expected train or test.{nearest(split, ('train', 'test'))}")
    if count < 1:
        raise UserError(f"count: {count}, expected 1 or more")
    each = -(-count // len(worlds))
    columns = [WORLDS[name].tasks(split, each, seed, short=short) for name in worlds]
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
