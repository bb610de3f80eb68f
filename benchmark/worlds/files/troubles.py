"""What can go wrong in the files world; see `benchmark/worlds/troubles.py`."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, Protocol

from benchmark.worlds.tools import Called, cut_off
from benchmark.worlds.troubles import By, Trouble, Troubles, Use, Values
from benchmark.worlds.world import Task

PATHS = ("path", "source", "archive", "target", "folder")
"""Arguments that are paths."""
THERE = ("path", "source", "archive")
"""Arguments that name files which may have been moved meanwhile."""
_FILLING = (
    *("write_file", "edit_file", "write_number", "convert_file"),
    *("change_encoding", "add_to_zip", "extract_file", "unzip_file"),
)


class Struck(Protocol):
    """What troubles ask of the files world."""

    task: Task
    before: dict[str, bytes]
    made: dict[str, bytes]
    modes: dict[str, str]

    def is_writable(self, path: str) -> bool: ...

    def make_read_only(self, called: Called) -> None: ...

    def fill(self) -> Values: ...

    def add_line(self, path: str) -> Values: ...

    def move_away(self, path: str) -> None: ...


def plain(path: str) -> str:
    """A path without what means nothing."""
    return str(PurePosixPath(path))


def _path(called: Called) -> str:
    """The file that a call is about."""
    return plain(next(called.given[name] for name in THERE if name in called.given))


def _names(given: Any, path: str) -> bool:
    return path in [given.get(name) for name in PATHS]


def _is_under(given: Any, folder: str) -> bool:
    paths = [PurePosixPath(given[name]) for name in PATHS if name in given]
    return folder in [path.parts[0] for path in paths if path.parts]


TROUBLES: Troubles[Struck, Called] = Troubles(
    (
        Trouble("busy", "device busy, try again", occasions=("looking", "reading", "writing")),
        Trouble(
            "timed_out", "timed out before anything was done, try again", occasions=("looking", "reading", "writing")
        ),
        Trouble("malformed", "malformed output, cut off: {start}", occasions=("looking", "reading"), happens=cut_off),
        Trouble(
            "not_found",
            "not found: {path}, it is now {now}",
            Use("path", "now"),
            ("reading",),
            may_hit=lambda world, called: _path(called) in world.before,
            happens=lambda world, called: world.move_away(_path(called)),
        ),
        Trouble(
            "permission_denied",
            "permission denied: {path} is read-only",
            By("make_writable", {"path": "{path}"}),
            ("writing",),
            happens=lambda world, called: world.make_read_only(called),
            stands=lambda world, values: not world.is_writable(values["path"]) and values["path"] not in world.modes,
        ),
        Trouble(
            "disk_full",
            "no space left, delete {path}",
            By("delete_file", {"path": "{path}"}),
            ("writing",),
            happens=lambda world, called: world.fill(),
            refuses=lambda world, tool, given, values: tool in _FILLING,
            yields=True,
        ),
        Trouble(
            "locked",
            "locked by another program: {path}, wait {seconds} seconds",
            By("wait", {"seconds": "{seconds}"}),
            ("reading", "writing"),
            happens=lambda world, called: {"path": _path(called), "lasts_s": world.task.parameters["wait_s"]},
            refuses=lambda world, tool, given, values: _names(given, values["path"]),
        ),
        Trouble(
            "unmounted",
            "not mounted: {folder}",
            By("mount_folder", {"path": "{folder}"}),
            ("reading", "writing"),
            happens=lambda world, called: {"folder": PurePosixPath(_path(called)).parts[0]},
            refuses=lambda world, tool, given, values: tool != "mount_folder" and _is_under(given, values["folder"]),
        ),
        Trouble(
            "stale",
            "{path} was changed after it was read, read it again",
            By("read_file", {"path": "{path}"}),
            may_hit=lambda world, called: _path(called) in {*world.made, *world.before},
            happens=lambda world, called: world.add_line(_path(called)),
            refuses=lambda world, tool, given, values: tool == "edit_file" and given.get("path") == values["path"],
        ),
    )
)
