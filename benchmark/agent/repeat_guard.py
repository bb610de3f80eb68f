"""`--repeat-guard`: a call that has failed already is not made again, as long as nothing has changed.

Small models say a failed call again and again. The guard answers in the world's place, so it helps a model in use; it is no
part of the model, so the leaderboard refuses runs with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from benchmark.worlds.world import Move, ToolResult, Verdict, World
from data.records import Action


class RepeatGuard:
    """A world in which the same call fails once at most.

    A call counts as tried once it has failed, until another one works: then things may be otherwise. A fault of the schedule
    does not count, because making the same call again is the way out of it.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._failed: dict[str, str] = {}
        """Errors of the calls that have failed since the last one that worked."""

    def __enter__(self) -> World:
        self._world.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._world.__exit__(*exc)

    @property
    def asked_back(self) -> int:
        """How often a server of the world has asked its client; 0 where it has none."""
        return int(getattr(self._world, "asked_back", 0))

    @property
    def obeys_in_words(self) -> bool:
        """Whether the last words are what an instruction in a result has asked for."""
        return bool(getattr(self._world, "obeys_in_words", False))

    def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """Make a call, or say that it was tried."""
        said = json.dumps([name, arguments], sort_keys=True)
        if said in self._failed:
            return ToolResult(error=f"you have tried this, and nothing has changed since: {self._failed[said]}")
        result = self._world.call(name, arguments)
        if result.error is None:
            self._failed.clear()
        elif result.injected is None:
            self._failed[said] = result.error
        return result

    def answer(self, text: str) -> None:
        """The agent's last words, for the world."""
        self._world.answer(text)

    def verdict(self) -> Verdict:
        """The world's."""
        return self._world.verdict()

    def expert(self, history: Sequence[Action]) -> Move:
        """The world's."""
        return self._world.expert(history)
