"""What a family of the files world is, and what families share."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import JsonValue

from benchmark.worlds.expert import Act, Look, Plan, Step
from benchmark.worlds.family import Family
from benchmark.worlds.files.file_formats import convert_text
from benchmark.worlds.files.troubles import TROUBLES
from benchmark.worlds.pools import Draw
from benchmark.worlds.world import Fault, Task

Content = str | bytes
"""Of a file; text stands for its bytes in UTF-8."""
Parameters = dict[str, JsonValue]
Language = Literal["en", "ko"]


@dataclass(frozen=True)
class FilesPlan(Plan):
    """A plan whose goals are the files that must be new or changed, with the files at the start."""

    before: Mapping[str, Content] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    """Files that must have been moved away."""
    modes: dict[str, str] = field(default_factory=dict)
    """File -> permissions in octal that it must have at the end."""


def plan_of(
    before: Mapping[str, Content],
    made: Mapping[str, Content],
    stages: Sequence[Sequence[Step]],
    gone: frozenset[str] = frozenset(),
    modes: dict[str, str] | None = None,
) -> FilesPlan:
    """The files at the start, those that must be new or changed at the end, and the way there."""
    return FilesPlan(made, stages, before, gone, modes or {})


def _no_plan(task: Task) -> FilesPlan:
    raise NotImplementedError(task.family)


@dataclass(frozen=True)
class FilesFamily(Family):
    """A family with its files and the way to the end."""

    plan: Callable[[Task], FilesPlan] = _no_plan


LOOKS = ("list_folder", "find_files", "search_text", "read_file", "file_info", "read_bytes", "read_number", "list_zip")
"""Tools that change nothing."""


def step(command: str, **given: Any) -> Look | Act:
    """A call: a look, which is done once it has worked, or else one that makes its target, or changes its path, as asked."""
    return Look(command, given) if command in LOOKS else Act(command, given, given.get("target", given.get("path")))


def write(path: str, text: str) -> Look | Act:
    return step("write_file", path=path, text=text)


def read(path: str) -> Look | Act:
    return step("read_file", path=path)


def pick(options: tuple[Any, ...], *values: str) -> Any:
    """One of the options, told by values of the task: what is the same in both splits must be no parameter."""
    return options[zlib.crc32(" ".join(values).encode("utf-8")) % len(options)]


def trouble(draw: Draw) -> Parameters:
    """What faults need: where files move to, what fills the disk, how long a file is locked."""
    return {"elsewhere": draw.folder(), "junk": draw.word(), "wait_s": draw.number(20, 300)}


def note(draw: Draw) -> str:
    return f"{draw.person()} {draw.number(10, 99)} {draw.word()}"


def paths(draw: Draw, count: int, suffix: str, folder: str | None = None) -> list[JsonValue]:
    folder = folder or draw.folder()
    return [f"{folder}/{draw.word()}{suffix}" for _ in range(count)]


def table(suffix: str, **columns: Any) -> str:
    """A table in the format of a suffix."""
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    text = "\n".join(lines) + "\n"
    return text if suffix == "csv" else convert_text(text, ".csv", f".{suffix}")


def suffix(path: str) -> str:
    return path.rsplit(".", 1)[-1]


def faults(tool: str, *kinds: str, nth: int = 0) -> tuple[Fault, ...]:
    return tuple(Fault(kind, tool, nth) for kind in kinds)


def reading(tool: str, nth: int = 0) -> tuple[Fault, ...]:
    """Of tools that read one file."""
    return TROUBLES.faults("reading", tool, nth=nth)


def looking(tool: str) -> tuple[Fault, ...]:
    """Of tools that look through folders."""
    return TROUBLES.faults("looking", tool)


def writing(tool: str, *more: str, nth: int = 0) -> tuple[Fault, ...]:
    """Of tools that write a file."""
    return TROUBLES.faults("writing", tool, *more, nth=nth)


REPAIRS = ("make_writable", "delete_file", "wait", "mount_folder")
"""What faults need beside a family's own tools."""
