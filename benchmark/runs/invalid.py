"""Tries that a tool's server spoilt: counted by reason, told, and too many of them end a command with 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import typer

from benchmark.agent.episodes import InvalidTry

MOST = 0.05
"""Share of invalid tries above which a run is not to be trusted."""


def invalid_to_text(spoilt: Sequence[InvalidTry]) -> str:
    """How many tries there are no records of, and why."""
    reasons = Counter(each.reason for each in spoilt)
    told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    first = spoilt[0]
    return f"invalid by the server's fault, without a record: {len(spoilt)} ({told}); {first.id}: {first.text}"


def end_if_too_many(spoilt: int, of: int) -> None:
    """Exit with 1 where more than 5 % are invalid."""
    if spoilt > MOST * of:
        print(f"{spoilt} of {of} tries are invalid, more than {MOST:.0%}: mend the server first")
        raise typer.Exit(1)
