"""One of our five worlds beside a user's tools: its tools, on a state of its own or on the folder of the episode."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from benchmark.worlds.files.world import FilesWorld
from benchmark.worlds.kinds import WORLDS
from benchmark.worlds.own.sources import WorldSource
from benchmark.worlds.own.toolsets.toolset import Hints, Place
from benchmark.worlds.tools import ToolWorld
from benchmark.worlds.world import ToolResult, World
from core.errors import UserError, nearest

READING = frozenset(
    (
        "list_folder",
        "find_files",
        "read_file",
        "file_info",
        "read_bytes",
        "read_number",
        "list_zip",
        "search_text",
        "wait",
    )
)
"""Tools of the files world that change nothing."""


class OurToolset:
    """The tools of a world of ours, which begins as one of its tasks without faults.

    With `files` and a state, the tools work on the episode's copy of it instead.
    """

    def __init__(self, source: WorldSource, place: Place) -> None:
        if source.world not in WORLDS:
            raise UserError(
                f"world: {source.world!r} is unknown, expected {', '.join(WORLDS)}.{nearest(source.world, WORLDS)}"
            )
        kind = WORLDS[source.world]
        task = kind.task(source.task) if source.task is not None else kind.tasks("train", 1, 0)[0]
        if task is None:
            raise UserError(
                f"task: {source.task!r} is no task of {source.world}, such as {kind.tasks('train', 1, 0)[0].id!r}"
            )
        self.tools = tuple(kind.tools.values())
        self.hints: Mapping[str, Hints] = {
            name: Hints(read_only=name in READING) for name in kind.tools if source.world == "files"
        }
        self.asked_back = 0
        task = dataclasses.replace(task, tools=self.tools, faults=())
        is_here = source.world == "files" and source.task is None and place.state is not None
        self._world: World | ToolWorld = _FilesHere(task, place) if is_here else kind.open(task)
        self._is_open = False

    def open(self) -> None:
        """Make the world's state."""
        self._world.__enter__()  # type: ignore[union-attr]  # each world of ours is entered; ToolWorld says so nowhere
        self._is_open = True

    def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """As that world answers it."""
        return self._world.call(name, arguments)

    def reset(self) -> None:
        """Each episode has a world of its own."""

    def reward(self) -> float | None:
        return None

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._world.__exit__(None, None, None)  # type: ignore[union-attr]  # as above


class _FilesHere(FilesWorld):
    """The files world on a folder that is there, and stays."""

    def __init__(self, task: Any, place: Place) -> None:
        super().__init__(task)
        assert place.state is not None
        self.root = place.state

    def __enter__(self) -> _FilesHere:
        return self

    def __exit__(self, *exc: object) -> None:
        pass
