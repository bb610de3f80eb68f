"""A folder with the user's own tools, read: world.yaml, tasks.jsonl, families.yaml, check.py. Reading starts nothing.

`python -m benchmark.worlds.own.folder` writes the JSON Schemas in docs/ anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from benchmark.worlds.own.families import Families, families_to_rows
from benchmark.worlds.own.sources import (
    McpConfigSource,
    McpSource,
    NamedCall,
    OpenApiSource,
    PathInside,
    PythonSource,
    Reset,
    Source,
)
from benchmark.worlds.own.tasks import TaskRow, row_to_text
from benchmark.worlds.world import SYSTEM
from core.config import describe_validation_error, read_config
from core.errors import UserError, nearest
from core.files import file_sha256, write_whole
from core.json_lines import BadLine, read_jsonl
from data.records import Category, CategoryName

WORLD_FILE, TASKS_FILE, FAMILIES_FILE = "world.yaml", "tasks.jsonl", "families.yaml"
POOLS_FILE, CHECK_FILE = "pools.json", "check.py"
OUR_NAMES = ("code", "web", "api", "files", "other")
"""Names of our worlds, which a folder cannot have."""
FaultKind = Literal[
    "busy", "timed_out", "rate_limited", "malformed", "server_error", "truncated", "injected_instruction"
]
_CODE = (".py", ".js", ".mjs", ".cjs", ".ts", ".sh", ".sql")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class State(_Strict):
    """What an episode starts from."""

    dir: PathInside
    """Folder that is copied for each episode: its working directory, and {state}."""


class ToolFacts(_Strict):
    """What is known of a tool beside what its source says."""

    read_only: bool | None = None
    """It changes nothing."""
    destructive: bool | None = None
    """What it does cannot be undone by calling it again or another way."""
    idempotent: bool | None = None
    """Called twice, it does what it does once."""
    seconds: float = Field(default=0.0, ge=0)
    """What a call takes on the world's virtual clock."""
    guessed: bool = False
    """Written by `benchmark init`; a person has not looked at it yet."""


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


class WorldFile(_Strict):
    """world.yaml."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    version: Annotated[str, BeforeValidator(_number_as_text)] = "1"
    """Goes up when the same task gives another world."""
    category: CategoryName = Category.OTHER
    licence: str | None = None
    """Of the records that are made here, as an SPDX identifier; without one none is claimed."""
    system: str = SYSTEM
    """What the model is told before the instruction."""
    languages: list[str] = ["en"]
    tools: list[Source] = Field(min_length=1)
    """Where the tools come from; names that two sources share get the source's prefix."""
    state: State | None = None
    reset: Reset | None = None
    """How a server that episodes share is put back to its start."""
    parallel: int | None = Field(default=None, ge=1)
    """Episodes at a time. 1 where a server is shared and cannot tell episodes apart; else any number."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Seconds that a start or a call may take."""
    hosts: list[str] = []
    """Hosts beside the loopback that may be spoken to."""
    per_tool: dict[str, ToolFacts] = {}
    """By the tool's name."""
    look: list[NamedCall] = []
    """Read-only calls whose results are the state. Without them it is the files of `state.dir`."""
    volatile: list[str] = []
    """JSON Pointers into the state (or into the results of a tool, after its name), with `*` for any one part, of what differs
    from run to run. It is not compared."""
    deterministic: bool = True
    """False where the same calls give other results in ways that `volatile` cannot name: `replay` compares keys, types, lengths
    and errors only."""
    ignore_case: bool = False
    """Whether texts of the state are compared without regard to case."""
    faults: list[FaultKind] = []
    """What may strike a call."""
    harmful: list[NamedCall] = []
    """Calls that an injected instruction may ask for, with `{word}` for a drawn word. Without them they are found by trying."""
    share: float = Field(default=1 / 3, ge=0, le=1)
    """Share of the tasks in which a fault strikes."""
    wait: bool = False
    """Whether the model has a tool `wait`, which passes time on the virtual clock."""

    @model_validator(mode="after")
    def _fits(self) -> WorldFile:
        if self.name in OUR_NAMES:
            raise ValueError(f"name: {self.name!r} is one of our worlds, expected another")
        for pointer in self.volatile:
            if not pointer.startswith("/"):
                raise ValueError(f"volatile: {pointer!r} is no JSON Pointer: it begins with /")
        if self.is_shared and self.parallel is not None and self.parallel > 1 and self.reset is None:
            raise ValueError("parallel: a shared server without reset takes one episode at a time")
        return self

    @property
    def is_shared(self) -> bool:
        """Whether some server runs already and is not started for each episode."""
        return any(
            (isinstance(source, McpSource) and source.mcp.command is None)
            or (isinstance(source, OpenApiSource) and source.openapi.command is None)
            for source in self.tools
        )

    @property
    def episodes(self) -> int | None:
        """How many episodes may be live at once; None is any number."""
        return self.parallel if self.parallel is not None else 1 if self.is_shared else None


@dataclass(frozen=True)
class Folder:
    """A folder as data."""

    path: Path
    world: WorldFile
    rows: tuple[TaskRow, ...]

    @property
    def check(self) -> Path | None:
        """check.py, if there is one."""
        path = self.path / CHECK_FILE
        return path if path.is_file() else None

    @cached_property
    def identity(self) -> dict[str, str]:
        """sha256 of the world, its tasks and its checks; that of the tool list is known once the tools are."""
        digest = hashlib.sha256()
        for path in sorted(set(_deciding_files(self.path, self.world))):
            digest.update(f"{path.relative_to(self.path).as_posix()} {file_sha256(path)}\n".encode())
        # Tasks with a user are told apart one by one: what is drawn without them does not change with them.
        rows = "\n".join(row_to_text(row) for row in self.rows if row.user is None)
        return {
            "world": digest.hexdigest(),
            "tasks": hashlib.sha256(rows.encode()).hexdigest(),
            "checks": file_sha256(self.check) if self.check else "none",
        }


def _deciding_files(folder: Path, world: WorldFile) -> Iterator[Path]:
    """What decides how the tools behave: world.yaml, code, what world.yaml names, the state."""
    yield folder / WORLD_FILE
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") or part in ("__pycache__", "node_modules") for part in inside.parts)
        if path.is_file() and not hidden and path.suffix in _CODE and str(inside) != CHECK_FILE:
            yield path
    named = [source.openapi.file for source in world.tools if isinstance(source, OpenApiSource)]
    named += [source.mcp_config for source in world.tools if isinstance(source, McpConfigSource)]
    named += [source.file for source in world.tools if isinstance(source, PythonSource)]
    named += [getattr(source, "lookup", "") for source in world.tools]
    yield from (folder / name for name in named if name and (folder / name).is_file())
    if world.state is not None:
        yield from (path for path in (folder / world.state.dir).rglob("*") if path.is_file())


def read_folder(path: Path, *, without_tasks: bool = False) -> Folder:
    """A folder's world and tasks. Nothing of it is run.

    Raises:
        UserError: names file, line or field, value, and what was expected.
    """
    if not path.is_dir():
        raise UserError(f"{path}: there is no such folder")
    if not (path / WORLD_FILE).is_file():
        beside = [each.name for each in path.iterdir() if each.suffix in (".yaml", ".yml")]
        raise UserError(
            f"{path}: has no {WORLD_FILE}, so it is no folder of tools; `python -m benchmark init {path}` makes one."
            f"{nearest(WORLD_FILE, beside)}"
        )
    world = read_config(path / WORLD_FILE, WorldFile)
    if world.state is not None and not (path / world.state.dir).is_dir():
        raise UserError(f"{path / WORLD_FILE}: state.dir: {world.state.dir!r}: there is no such folder")
    rows = [] if without_tasks else [*_read_rows(path / TASKS_FILE), *_read_families(path)]
    judges_itself = (path / CHECK_FILE).is_file() or any(isinstance(source, PythonSource) for source in world.tools)
    for row in rows:
        if not (judges_itself or row.solution or row.check or row.expects):
            raise UserError(f"{path}: task {row.id!r}: solution is missing: the state after it is what must be reached")
    places: dict[str, int] = {}
    for number, row in enumerate(rows):
        if row.id in places:
            raise UserError(f"{path}: task {row.id!r}: two tasks have this id (in {TASKS_FILE} and {FAMILIES_FILE})")
        places[row.id] = number
    return Folder(path.resolve(), world, tuple(rows))


def _read_rows(path: Path) -> Iterator[TaskRow]:
    if not path.is_file():
        return
    lines: dict[str, int] = {}
    for number, value in read_jsonl(path):
        if isinstance(value, BadLine):
            raise UserError(str(value))
        try:
            row = TaskRow.model_validate(value)
        except ValidationError as error:
            raise UserError(f"{path}:{number}: {describe_validation_error(error, TaskRow)}") from None
        if row.id in lines:
            raise UserError(f"{path}:{number}: id {row.id!r} stands already on line {lines[row.id]}")
        lines[row.id] = number
        yield row


def _read_families(path: Path) -> list[TaskRow]:
    file = path / FAMILIES_FILE
    if not file.is_file():
        return []
    return families_to_rows(read_config(file, Families), read_pools(path), where=file)


def read_pools(path: Path) -> dict[str, list[Any]]:
    """The values that `tasks make` read from the tools, by pool.

    Raises:
        UserError: if the file is no such thing.
    """
    file = path / POOLS_FILE
    if not file.is_file():
        return {}
    try:
        pools = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: not JSON: {error}") from None
    if not isinstance(pools, dict) or not all(isinstance(values, list) for values in pools.values()):
        raise UserError(f"{file}: expected a list of values by the name of each pool")
    return pools


def schemas() -> dict[str, str]:
    """The JSON Schemas of a folder's files, by their names in docs/."""
    models: dict[str, type[BaseModel]] = {"world": WorldFile, "tasks": TaskRow, "families": Families}
    return {
        f"{name}.schema.json": json.dumps(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()},
            indent=2,
            ensure_ascii=False,
        )
        + "\n"
        for name, model in models.items()
    }


def main() -> None:
    """Write the schemas."""
    for name, text in schemas().items():
        write_whole(Path(__file__).resolve().parents[3] / "docs" / name, text)


if __name__ == "__main__":
    main()
