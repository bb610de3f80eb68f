"""What a source of tools is once it is opened, and how it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import JsonValue

from benchmark.worlds.own.sources import Reset
from benchmark.worlds.world import ToolResult
from data.records import ToolSpec

Reason = Literal[
    "not_started",  # could not be started, or did not get ready in time
    "crashed",  # ended, or closed its connection
    "late",  # no answer in time
    "garbled",  # an answer that cannot be read
    "too_large",  # an answer beyond the limit
    "protocol",  # an answer that breaks the protocol, or a version that nobody here speaks
    "elsewhere",  # a redirect to a host that world.yaml does not list
    "unrecorded",  # a lookup that holds no result for the call
    "broke",  # code of the folder (a class's constructor, its reset, its reward, check.py) that raised
]
"""Why an episode is invalid. A closed set, so that reasons can be counted."""


class ServersFault(Exception):
    """Something that is the server's doing and never the model's: the episode is invalid.

    `text` says what was seen, without secrets.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason: Reason = reason
        self.text = text


@dataclass(frozen=True)
class Hints:
    """What a source says of a tool (MCP annotations, HTTP methods); None where it says nothing. Not to be trusted."""

    read_only: bool | None = None
    destructive: bool | None = None
    idempotent: bool | None = None


@dataclass(frozen=True)
class Place:
    """Where an episode happens: what {state}, {port} and {slot} stand for, and what is allowed."""

    folder: Path
    """The user's folder."""
    state: Path | None = None
    """The episode's copy of the state, which is also the working directory of what is started."""
    slot: int = 0
    port: int | None = None
    """A free port; None lets each source that needs one ask the system for it."""
    timeout_s: float = 30.0
    """Seconds that a start or a call may take."""
    hosts: tuple[str, ...] = ()
    """Hosts beside the loopback that world.yaml lists."""
    reset: Reset | None = None
    row: Mapping[str, JsonValue] = field(default_factory=dict)
    """What `reset(**row)` of a Python source gets: the task's own `row`."""
    task: Mapping[str, JsonValue] = field(default_factory=dict)
    """What it gets beside that: the fields of the task."""


class Toolset(Protocol):
    """The tools of one source, for one episode."""

    tools: tuple[ToolSpec, ...]
    """Known once it is open; names as the source gives them."""
    hints: Mapping[str, Hints]
    asked_back: int
    """How often the server asked its client for something (sampling, elicitation, roots) and was refused."""

    def open(self) -> None:
        """Start what has to be started, and ask for the tools.

        Raises:
            ServersFault: it cannot be started, or what it says cannot be read.
        """
        ...

    def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """A tool's own error is in the result.

        Raises:
            ServersFault: there is no result, and that is not the call's doing.
        """
        ...

    def reset(self) -> None:
        """Put what is shared back to its start, and a Python source to the task's row. Call it once after `open`.

        Raises:
            ServersFault: it could not be done.
        """
        ...

    def reward(self) -> float | None:
        """What a Python source's `get_reward()` says; None where there is none."""
        ...

    def close(self) -> None:
        """End everything that was started. Never raises, and may be called twice."""
        ...
