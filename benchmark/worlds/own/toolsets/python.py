"""Tools that are the methods of a class of the folder, and the folder's check: both run in child processes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from benchmark.worlds.own.sources import PythonSource
from benchmark.worlds.own.toolsets.servers import LOOP, Server, Surroundings
from benchmark.worlds.own.toolsets.toolset import Hints, Place, ServersFault
from benchmark.worlds.world import ToolResult
from data.records import ToolFunction, ToolSpec

STATE = "__state__"
"""A call of every Python source that no model sees: the object's whole state, which for a tau2 toolkit is its database."""

_CHILD = Path(__file__).with_name("child.py")
_ROOT = Path(__file__).resolve().parents[4]

Goals = list[tuple[str, bool, str]]
"""What a check found: each goal, whether it holds, and why."""


class _Child:
    """A process that runs the folder's Python."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._server: Server | None = None
        self._fault: ServersFault | None = None

    def ask(
        self, request: dict[str, Any], answer: Callable[[str, dict[str, Any]], ToolResult] | None = None
    ) -> dict[str, Any]:
        """What the child says to a request. A check asks for calls meanwhile, which `answer` makes.

        Raises:
            ServersFault: it says nothing, or the folder's code raised.
        """
        line = json.dumps(request)
        while True:
            said = LOOP.run(self._exchange(line))
            if "ask" in said and answer is not None:
                result = answer(said["ask"]["name"], said["ask"]["arguments"])
                line = json.dumps({"output": result.output, "error": result.error})
                continue
            if "broke" in said:
                raise ServersFault("broke", str(said["broke"]))
            return said

    async def _exchange(self, line: str) -> dict[str, Any]:
        if self._fault is not None:
            raise self._fault
        seconds = self._around.place.timeout_s
        try:
            async with asyncio.timeout(seconds):
                if self._server is None:
                    self._server = await self._start()
                await self._server.write_line(line.encode())
                said = await self._server.read_line()
            if not said:
                raise await self._server.fault_of_ending()
            value = json.loads(said)
            if not isinstance(value, dict):
                raise ValueError
            return value
        except TimeoutError:
            self._fault = ServersFault("late", f"the folder's Python gave no answer within {seconds:g} s")
        except (ValueError, RecursionError):
            self._fault = ServersFault("garbled", "the folder's Python wrote over the answers of its process")
        except ServersFault as fault:
            self._fault = fault
        raise self._fault

    async def _start(self) -> Server:
        place = self._around.place
        cwd = self._around.working_directory(None)
        state = str(place.state.absolute()) if place.state else ""
        command = [sys.executable, "-I", "-B", "-X", f"pycache_prefix={self._around.temporary}", str(_CHILD)]
        environment = self._around.environment({})
        return await Server.start(
            [*command, str(_ROOT), str(place.folder.absolute()), state], cwd, environment, self._around
        )

    def stop(self) -> None:
        if self._server is not None:
            LOOP.run(self._server.stop())
            self._server = None
        self._around.remove()


class PythonToolset:
    """The typed public methods of a class, or the marked ones of a tau2 toolkit."""

    def __init__(self, source: PythonSource, around: Surroundings) -> None:
        self.tools: tuple[ToolSpec, ...] = ()
        self.hints: Mapping[str, Hints] = {}
        self.asked_back = 0
        self._source = source
        self._place = around.place
        self._child = _Child(around)

    def open(self) -> None:
        """Make an object of the class.

        Raises:
            ServersFault: its file cannot be run, or it cannot be made.
        """
        described = self._child.ask({"do": "open", "file": self._source.file, "class": self._source.class_name})[
            "value"
        ]
        self.tools = tuple(
            ToolSpec(
                function=ToolFunction(name=each["name"], description=each["description"], parameters=each["parameters"])
            )
            for each in described
        )
        self.hints = {each["name"]: Hints(read_only=each["read_only"]) for each in described}

    def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """What the method gave back, as JSON; what it raised is the tool's error.

        Raises:
            ServersFault: its process ended, or was too slow.
        """
        said = self._child.ask({"do": "call", "name": name, "arguments": arguments})
        return ToolResult(output=said.get("value"), error=said.get("error"))

    def reset(self) -> None:
        """Call its `reset(**row)`, where it has one: the fields of the task, and those of its `row`.

        Raises:
            ServersFault: it raised.
        """
        self._child.ask({"do": "reset", "task": dict(self._place.task), "row": dict(self._place.row)})

    def reward(self) -> float | None:
        """What its `get_reward()` says; None where it has none.

        Raises:
            ServersFault: it raised, or gave no number.
        """
        value = self._child.ask({"do": "reward"})["value"]
        return None if value is None else float(value)

    def close(self) -> None:
        self._child.stop()


def run_check(
    place: Place,
    task: Mapping[str, JsonValue],
    *,
    answer: str,
    actions: Sequence[Mapping[str, JsonValue]],
    call: Callable[[str, dict[str, Any]], ToolResult],
    file: str = "check.py",
) -> Goals | float:
    """What the folder's `check(task, run)` says of an episode: goals, or a score from 0 to 1.

    `run.call(name, arguments)` goes to `call`; an error of the tool is an exception in the check.

    Raises:
        ServersFault: it raised, ended, was too slow, or gave back something else.
    """
    child = _Child(Surroundings(place, file))
    try:
        request = {
            "do": "check",
            "file": file,
            "task": dict(task),
            "answer": answer,
            "actions": [dict(each) for each in actions],
        }
        value = child.ask(request, call)["value"]
    finally:
        child.stop()
    if isinstance(value, bool):
        return [("check", value, "" if value else f"{file} says no")]
    if isinstance(value, int | float) and 0 <= value <= 1:
        return float(value)
    is_goals = isinstance(value, list) and value
    if is_goals and all(isinstance(each, list) and len(each) == 3 and isinstance(each[1], bool) for each in value):
        return [(str(goal), held, str(why)) for goal, held, why in value]
    shown = json.dumps(value, ensure_ascii=False)[:80]
    raise ServersFault(
        "broke", f"{file}: expected True or False, a score from 0 to 1 or [(goal, held, why)], got {shown}"
    )
