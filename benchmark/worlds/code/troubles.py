"""What can go wrong in the code world; see `benchmark/worlds/troubles.py`."""

from __future__ import annotations

from typing import Any, Protocol

from benchmark.worlds.tools import Called, cut_off
from benchmark.worlds.troubles import By, Trouble, Troubles, Use, Values
from benchmark.worlds.world import Task


class Struck(Protocol):
    """What troubles ask of the code world."""

    task: Task
    files: dict[str, bytes]

    def plain(self, name: str, value: Any) -> Any: ...

    def fill(self) -> Values: ...

    def add_line(self, path: str) -> Values: ...

    def move_away(self, path: str) -> None: ...


_RUNNING = ("run_python", "run_file", "run_tests")
_WRITING = ("write_file", "edit_file")


def _path(world: Struck, called: Called) -> str:
    return str(world.plain("path", called.given["path"]))


def _is_written(world: Struck, tool: str, given: Any, values: Values) -> bool:
    return tool in _WRITING and given.get("path") == values["path"]


TROUBLES: Troubles[Struck, Called] = Troubles(
    (
        Trouble("busy", "the project is busy, try again", occasions=("editing", "writing")),
        Trouble(
            "permission_denied",
            "permission denied: {path} is read-only",
            By("make_writable", {"path": "{path}"}),
            ("editing",),
            happens=lambda world, called: {"path": _path(world, called)},
            refuses=_is_written,
        ),
        Trouble(
            "disk_full",
            "no space left, delete {path}",
            By("delete_file", {"path": "{path}"}),
            ("editing", "writing"),
            happens=lambda world, called: world.fill(),
            refuses=lambda world, tool, given, values: (
                tool == "write_file" or (tool == "edit_file" and given.get("path") in world.files)
            ),
        ),
        Trouble(
            "stale",
            "{path} was changed after it was read, read it again",
            By("read_file", {"path": "{path}"}),
            ("editing",),
            happens=lambda world, called: world.add_line(_path(world, called)),
            refuses=lambda world, tool, given, values: tool == "edit_file" and given.get("path") == values["path"],
        ),
        Trouble(
            "not_found",
            "not found: {path}, it is now {now}",
            Use("path", "now"),
            ("running",),
            happens=lambda world, called: world.move_away(_path(world, called)),
        ),
        Trouble("out_of_memory", "out of memory before it began, try again", occasions=("running",)),
        Trouble(
            "queue_full",
            "the queue is full, wait {seconds} seconds",
            By("wait", {"seconds": "{seconds}"}),
            ("testing", "running"),
            happens=lambda world, called: {"lasts_s": world.task.parameters["wait_s"]},
            refuses=lambda world, tool, given, values: tool in _RUNNING,
        ),
        Trouble(
            "crashed",
            "the runner has crashed, restart it",
            By("restart_runner"),
            ("testing", "running"),
            refuses=lambda world, tool, given, values: tool in _RUNNING,
        ),
        Trouble("timed_out", "timed out before it began, try again", occasions=("testing",)),
        Trouble("malformed", "malformed output, cut off: {start}", occasions=("testing", "running"), happens=cut_off),
    )
)
