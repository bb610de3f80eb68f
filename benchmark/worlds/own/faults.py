"""What may strike a call of a user's own tool. The world answers instead of the server, which never hears of it.

Kinds whose call is made all the same strike only what changes nothing, so what cannot be undone never happens unseen.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from benchmark.worlds.own.sources import NamedCall
from benchmark.worlds.tools import Called
from benchmark.worlds.troubles import Again, By, Trouble, Troubles, Values
from benchmark.worlds.world import Fault

WAIT = "wait"
_LASTS_S = 20
_READ = ("reading",)
_ANY = ("reading", "writing")


def _is_read(world: Any, called: Called) -> bool:
    return world.kind.is_read_only(called.name)


def _begins(world: Any, called: Called) -> Values:
    """The call is made, and its output breaks off."""
    output = called.commit()
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    return {"start": json.dumps(text[: min(len(text) // 2, 16)], ensure_ascii=False)[:-1]}


@cache
def troubles(*, wait: bool) -> Troubles[Any, Called]:
    """All kinds; with a tool `wait`, a rate limit lasts until it is called."""
    limited: Trouble[Any, Called] = Trouble("rate_limited", "rate limited, try again", occasions=_ANY)
    if wait:
        limited = Trouble(
            "rate_limited",
            "rate limited, retry after {seconds} s",
            By(WAIT, {"seconds": "{seconds}"}),
            _ANY,
            happens=lambda world, called: {"lasts_s": _LASTS_S, "tool": called.name},
            refuses=lambda world, tool, given, values: tool == values["tool"],
        )
    return Troubles(
        (
            Trouble("busy", "busy, nothing was done, try again", occasions=_ANY),
            Trouble("timed_out", "timed out before anything was done, try again", occasions=_ANY),
            limited,
            Trouble(
                "malformed", "malformed output, cut off: {start}", occasions=_READ, may_hit=_is_read, happens=_begins
            ),
            Trouble("server_error", "server error 500, nothing was done, try again", occasions=_ANY),
            Trouble(
                "truncated",
                "output truncated, it begins with {start}",
                Again(how="read it again"),
                _READ,
                may_hit=_is_read,
                happens=_begins,
            ),
        )
    )


def draw_fault(
    task_id: str, solution: Sequence[NamedCall], kinds: Sequence[str], share: float, read_only: Sequence[bool]
) -> tuple[Fault, ...]:
    """What strikes a task: one call of its solution, decided by its id alone.

    Args:
        read_only: of each call of the solution, whether it changes nothing.
    """
    chance = random.Random(f"fault-{task_id}")
    if not solution or chance.random() >= share:
        return ()
    seen: Counter[str] = Counter()
    may: list[Fault] = []
    for call, is_read in zip(solution, read_only, strict=True):
        may += [
            Fault(kind, call.name, seen[call.name])
            for kind in kinds
            if is_read or kind not in ("malformed", "truncated")
        ]
        seen[call.name] += 1
    return (chance.choice(may),) if may else ()
