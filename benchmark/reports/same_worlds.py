"""Whether runs go together: made in the same folders of own tools, and not spoilt by their servers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmark.runs.invalid import MOST
from benchmark.runs.results import identity_changes
from benchmark.worlds.own.folder import read_folder
from core.errors import UserError
from data.wire import BenchmarkRun

OfWorlds = Annotated[
    str,
    typer.Option(
        "--worlds", help="Worlds that the runs must be of; a folder (./DIR) also as it is now. Starts nothing."
    ),
]


def require_same_worlds(runs: Sequence[tuple[Path, BenchmarkRun]], worlds: str = "") -> None:
    """Refuse to mix runs of a folder before and after it changed, and runs of which too much is missing.

    Raises:
        UserError: which run, and what has changed or is missing.
    """
    for folder, run in runs:
        if run.invalid_share > MOST:
            told = ", ".join(f"{count} {reason}" for reason, count in run.invalid.items())
            raise UserError(
                f"{folder}: {run.invalid_share:.0%} of the tries of {run.label!r} are invalid ({told}), more than {MOST:.0%}: "
                "mend the server and run again"
            )
    first: dict[str, tuple[Path, dict[str, str]]] = {}
    for folder, run in runs:
        for name, identity in run.identity.items():
            earlier, before = first.setdefault(name, (folder, identity))
            if changed := identity_changes(before, identity):
                raise UserError(
                    f"{earlier} and {folder}: world {name!r} changed between them ({changed}): their numbers do not go together"
                )
    for word in filter(None, (word.strip() for word in worlds.split(","))):
        _require_world(runs, word)


def _require_world(runs: Sequence[tuple[Path, BenchmarkRun]], word: str) -> None:
    own = read_folder(Path(word)) if "/" in word else None
    name = own.world.name if own is not None else word
    for folder, run in runs:
        if name not in run.by_world:
            raise UserError(
                f"--worlds {word}: {folder} has no tries in world {name!r}, only in {', '.join(run.by_world)}"
            )
        if own is not None:
            known = {part: value for part, value in run.identity.get(name, {}).items() if part in own.identity}
            if changed := identity_changes(known, own.identity):
                raise UserError(f"--worlds {word}: has changed since the run in {folder} ({changed})")
