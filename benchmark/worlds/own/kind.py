"""A folder with the user's own tools as a kind of world, once its tools are known."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import JsonValue

from benchmark.worlds.around import own_part, with_surroundings
from benchmark.worlds.asking.tasks import ASKING_GUIDE, with_policy
from benchmark.worlds.asking.world import ASK
from benchmark.worlds.injection import INJECTED, Harm
from benchmark.worlds.own.asking import row_to_user
from benchmark.worlds.own.faults import WAIT, draw_fault, troubles
from benchmark.worlds.own.folder import Folder, ToolFacts, WorldFile
from benchmark.worlds.own.injection import SUFFIX, read_harms, with_instruction
from benchmark.worlds.own.judge import Expected
from benchmark.worlds.own.sources import McpConfigSource, McpSource, OpenApiSource, PythonSource, Source, WorldSource
from benchmark.worlds.own.state import state_to_entries
from benchmark.worlds.own.tasks import TaskRow, row_to_text
from benchmark.worlds.own.tool_names import sounds_read_only
from benchmark.worlds.own.toolsets.toolset import Hints, ServersFault, Toolset
from benchmark.worlds.own.varying import Sameness
from benchmark.worlds.own.world import WAIT_TOOL, CannotRun, JudgedBy, OwnWorld, open_toolsets
from benchmark.worlds.troubles import Troubles
from benchmark.worlds.world import PARTS, Part, Split, Task, World
from core.errors import UserError, nearest
from core.files import write_whole
from data.records import Category, ToolSpec


@dataclass(frozen=True)
class Solved:
    """What a task's solution has done in a twin."""

    before: JsonValue
    after: JsonValue
    """The states before and after it."""
    held: tuple[bool, ...]
    outputs: list[JsonValue]

    def expected(self, world: WorldFile) -> Expected:
        """What is compared of it."""
        before, after = (
            state_to_entries(state, volatile=world.volatile, ignore_case=world.ignore_case)
            for state in (self.before, self.after)
        )
        return Expected(before, after, self.held, tuple(self.outputs))


@dataclass
class OwnKind:
    """A folder whose tools are known. It holds no process: each episode starts its own."""

    folder: Folder
    tool_list: tuple[ToolSpec, ...]
    """As a model reads them; names that two sources share have a prefix."""
    origins: dict[str, tuple[int, str]]
    """The source of each tool, by its place, and the name that it has there."""
    facts: dict[str, ToolFacts]
    """What is known of each tool: world.yaml first, then what the source says, then what its name suggests."""
    judged_by: JudgedBy
    hints: Mapping[str, Hints] = field(default_factory=dict)
    """What the sources say of their tools."""
    is_trial: bool = False
    """world.yaml says something else, so no state of it is kept."""
    _slots: set[int] = field(default_factory=set, repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.folder.world.name

    @property
    def category(self) -> Category:
        return self.folder.world.category

    @property
    def version(self) -> str:
        return self.folder.world.version

    @property
    def source(self) -> str:
        return self.name

    @property
    def licence(self) -> str | None:
        return self.folder.world.licence

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """sha256 of the world, its tools, tasks and checks."""
        tools = json.dumps([tool.model_dump() for tool in self.tool_list], sort_keys=True)
        own = self.folder.identity
        judged = {} if self.judged_by == "state" else {"judged_by": self.judged_by}
        return {
            "world": own["world"],
            "tools": _sha256(tools),
            "tasks": own["tasks"],
            "checks": own["checks"],
            **judged,
        }

    @property
    def parallel(self) -> int | None:
        return self.folder.world.episodes

    @cached_property
    def tools(self) -> Mapping[str, ToolSpec]:
        return {tool.function.name: tool for tool in self.tool_list}

    @property
    def troubles(self) -> Troubles[Any, Any]:
        return troubles(wait=self.folder.world.wait)

    @property
    def task_tools(self) -> tuple[ToolSpec, ...]:
        """What a task offers."""
        return (*self.tool_list, *((WAIT_TOOL,) if self.folder.world.wait else ()))

    def is_read_only(self, name: str) -> bool:
        """Whether a tool changes nothing."""
        return name == WAIT or bool(self.facts[name].read_only)

    # Tasks.

    @cached_property
    def rows(self) -> dict[str, TaskRow]:
        """The rows of all tasks by their ids."""
        return {row.id: row for row in self.folder.rows}

    def rows_of(
        self, split: Split, part: Part | None, *, asking: bool = False, injections: bool = False
    ) -> list[TaskRow]:
        """The tasks of a split, or of a part of the training tasks; with `asking` those with a user, else those without; with
        `injections` those in which something is called."""
        return [
            row
            for row in self.folder.rows
            if row.split == split
            and (part is None or split == "test" or row.part == part)
            and (row.user is not None) is asking
            and bool(row.solution or not injections)
        ]

    def tasks(
        self,
        split: Split,
        count: int,
        seed: int,
        *,
        short: bool = False,
        asking: bool = False,
        injections: bool = False,
        part: Part | None = None,
    ) -> list[Task]:
        """`count` tasks, families in turn. The seed orders them and moves none to another part.

        Raises:
            UserError: there are fewer, or `short`.
        """
        if short:
            raise UserError(f"worlds: {self.name!r} has no short tasks, leave out --short or the world")
        rows = self.rows_of(split, part, asking=asking, injections=injections)
        if count > len(rows):
            parts = "".join(
                f", {each} {len(self.rows_of('train', each, asking=asking, injections=injections))}" for each in PARTS
            ) if split == "train" else ""  # fmt: skip
            of = f"{part} part of the training" if part and split == "train" else split
            what = "tasks with a user" if asking else "tasks"
            train, test = (
                len(self.rows_of(each, None, asking=asking, injections=injections)) for each in ("train", "test")
            )
            raise UserError(
                f"count: {count}, but world {self.name!r} has {len(rows)} {what} in its {of} split (train {train}{parts}; test "
                f"{test}); "
                + ("ask for fewer" if rows or not asking else "give tasks or families a user, or leave out --asking")
            )
        families: dict[str, list[TaskRow]] = {}
        for row in sorted(rows, key=lambda each: _sha256(f"{seed}:{each.id}")):
            families.setdefault(row.family, []).append(row)
        order: list[TaskRow] = []
        while len(order) < len(rows):
            order += [left.pop(0) for _, left in sorted(families.items()) if left]
        return [self._injected(row) if injections else self._task(row) for row in order[:count]]

    def task(self, task_id: str) -> Task | None:
        if (row := self.rows.get(task_id)) is not None:
            return self._task(row)
        row = self.rows.get(task_id.removesuffix(SUFFIX))
        return self._injected(row) if row is not None and row.solution else None

    def _row_of(self, task: Task) -> TaskRow:
        return self.rows.get(task.id) or self.rows[task.id.removesuffix(SUFFIX)]

    @cached_property
    def _harms(self) -> list[Harm]:
        """What an injected instruction may ask for."""
        key = _sha256(json.dumps([*self.identity.values(), [row_to_text(row) for row in self.folder.rows]]))
        return read_harms(self, _cache() / f"harms-{key}.json")

    def _injected(self, row: TaskRow) -> Task:
        task = own_part(self._plain(row))
        return with_instruction(task, row, self.is_read_only, self._harms) or task

    def _task(self, row: TaskRow) -> Task:
        task = self._plain(row)
        if not any(fault.kind == INJECTED for fault in task.faults):
            return task
        struck = with_instruction(own_part(task), row, self.is_read_only, self._harms)
        return own_part(task) if struck is None else replace(struck, id=row.id)

    def _plain(self, row: TaskRow) -> Task:
        """The task of a row; where an instruction is to be injected, it is not written yet."""
        world = self.folder.world
        values: dict[str, JsonValue] = {
            f"{call.name}.{name}": value
            for call in row.solution
            for name, value in call.arguments.items()
            if isinstance(value, str | int | float) and not isinstance(value, bool)
        }
        known = [call for call in row.solution if call.name in self.facts]
        user = row_to_user(row, lambda name: not self.is_read_only(name), [*self.tools])
        if user is not None:  # what else makes such a task what it is
            values = {**values, "task_sha256": _sha256(row_to_text(row))}
        return Task(
            id=row.id,
            world=self.name,
            family=row.family,
            split=row.split,
            seed=0,
            tier=len(row.solution),
            language=cast(Literal["en", "ko"], row.language),
            instruction=row.instruction,
            tools=self.task_tools if user is None else (*self.task_tools, ASK),
            parameters=values,
            faults=draw_fault(
                row.id, known, world.faults, world.share, [self.is_read_only(call.name) for call in known]
            ),
            system=world.system if user is None else with_policy(f"{world.system} {ASKING_GUIDE}", row.policy),
            user=user,
        )

    def has_expert(self, task: Task) -> bool:
        """Whether the task has a solution, or words that are to be said."""
        row = self._row_of(task)
        return bool(row.solution or row.says or (row.user and row.expects))

    # Worlds.

    def open(self, task: Task) -> World:
        own = OwnWorld(self, own_part(task), self._row_of(task))
        return with_surroundings(own, task, own.entries)

    def take_slot(self) -> int:
        """A number that no other live episode of this process has."""
        slot = next(number for number in range(len(self._slots) + 1) if number not in self._slots)
        self._slots.add(slot)
        return slot

    def give_slot_back(self, slot: int) -> None:
        """The episode of a slot is over."""
        self._slots.discard(slot)

    def names_of(self, toolsets: Sequence[Toolset]) -> dict[str, tuple[int, str]]:
        """The names under which a model sees the tools of opened toolsets."""
        return _names(self.folder.world.tools, toolsets)

    def without_faults(self, row: TaskRow, expected: Expected | None = None) -> OwnWorld:
        """A twin of a task's world that nothing strikes; for its solution, and for `tasks check`."""
        return OwnWorld(self, replace(self._plain(row), faults=()), row, expected)

    def with_volatile(self, pointers: Sequence[str]) -> OwnKind:
        """The same with more that is left out of the state; for `tasks check`."""
        world = self.folder.world
        more = world.model_copy(update={"volatile": [*world.volatile, *pointers]})
        return replace(self, folder=replace(self.folder, world=more), is_trial=True)

    def sameness(self) -> Sameness:
        """What two runs of the same calls have to share."""
        world = self.folder.world
        return Sameness(tuple(world.volatile), structure_only=not world.deterministic)

    @contextmanager
    def unjudged_world(self, row: TaskRow) -> Iterator[OwnWorld]:
        """A world to ask, which is never judged."""
        world = self.without_faults(row)
        world.start()
        try:
            yield world
        finally:
            world.__exit__()

    def solves(self, row: TaskRow) -> bool:
        """Whether a solution works and changes something."""
        try:
            made = self.make_expected(row)
        except (CannotRun, ServersFault):
            return False
        return made.before != made.after

    def expected(self, row: TaskRow) -> Expected:
        """The states before and after a task's solution. Made once, then kept in the user's cache.

        Raises:
            ServersFault: the twin does not start, or the solution does not work.
        """
        try:
            kept = {} if self.is_trial else json.loads(self._kept_at(row).read_text(encoding="utf-8"))
            return Expected(kept["before"], kept["after"], tuple(kept["held"]), tuple(kept["outputs"]))
        except (OSError, ValueError, KeyError, TypeError):
            pass
        try:
            made = self.make_expected(row)
        except CannotRun as error:
            raise ServersFault("broke", f"task {row.id}: {error}") from None
        self.keep_expected(row, made)
        return made

    def keep_expected(self, row: TaskRow, made: Expected) -> None:
        """Keep the states of a task, so that an episode starts its server once."""
        if self.is_trial:
            return
        path = self._kept_at(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asdict(made)))

    def _kept_at(self, row: TaskRow) -> Path:
        told = [self.identity["world"], self.identity["tools"], json.loads(row_to_text(row))]
        return _cache() / f"{_sha256(json.dumps(told, sort_keys=True))}.json"

    def make_expected(self, row: TaskRow) -> Expected:
        """The same, made anew in a twin.

        Raises:
            CannotRun: a call of the solution does not work.
            ServersFault: the twin does not start.
        """
        return self.run_solution(row).expected(self.folder.world)

    def run_solution(self, row: TaskRow) -> Solved:
        """A task's solution in a twin. The states are empty where something else than the state judges.

        Raises:
            CannotRun: a call of the solution does not work.
            ServersFault: the twin does not start.
        """
        twin = self.without_faults(row)
        twin.start()
        try:
            judged = self.judged_by == "state"
            before, held = twin.state() if judged else {}, twin.goals_held()
            outputs = twin.do(row.solution, "solution")
            return Solved(before, twin.state() if judged else {}, held, outputs)
        finally:
            twin.__exit__()


def open_kind(folder: Folder, *, unjudged: bool = False) -> OwnKind:
    """A folder's tools, asked for once. Whoever calls this has made sure that the folder is trusted.

    Args:
        unjudged: nothing has to tell yet what a run has changed.

    Raises:
        UserError: they cannot be started, or world.yaml and the tools do not fit.
    """
    try:
        toolsets, scratch, _ = open_toolsets(folder, 0, next(iter(folder.rows), None))
    except ServersFault as fault:
        raise UserError(f"{folder.path}: its tools do not start: {fault.reason}: {fault.text}") from None
    try:
        origins = _names(folder.world.tools, toolsets)
        listed = {(place, tool.function.name): tool for place, toolset in enumerate(toolsets) for tool in toolset.tools}
        tools = tuple(
            listed[origin].model_copy(update={"function": listed[origin].function.model_copy(update={"name": name})})
            for name, origin in origins.items()
        )
        facts = {name: _facts(folder, name, toolsets[place].hints.get(own)) for name, (place, own) in origins.items()}
        judged_by = _judged_by(folder, toolsets)
    except ServersFault as fault:
        raise UserError(f"{folder.path}: its tools do not start: {fault.reason}: {fault.text}") from None
    finally:
        for toolset in toolsets:
            toolset.close()
        shutil.rmtree(scratch, ignore_errors=True)
    hints = {name: toolsets[place].hints.get(own, Hints()) for name, (place, own) in origins.items()}
    kind = OwnKind(folder, tools, origins, facts, judged_by, hints)
    _check_names(kind, unjudged=unjudged)
    return kind


def _judged_by(folder: Folder, toolsets: Sequence[Toolset]) -> JudgedBy:
    if folder.check is not None:
        return "check.py"
    for source, toolset in zip(folder.world.tools, toolsets, strict=True):
        if isinstance(source, PythonSource):
            toolset.reset()
            if toolset.reward() is not None:
                return "get_reward"
    return "state"


def _facts(folder: Folder, name: str, hints: Any) -> ToolFacts:
    told = folder.world.per_tool.get(name, ToolFacts())
    says = {key: getattr(hints, key, None) for key in ("read_only", "destructive", "idempotent")}
    said = {key: value for key, value in says.items() if value is not None and getattr(told, key) is None}
    facts = told.model_copy(update=said)
    if facts.read_only is None and facts.destructive is None:
        facts = facts.model_copy(update={"read_only": sounds_read_only(name)})
    return facts


def _names(sources: Sequence[Source], toolsets: Sequence[Toolset]) -> dict[str, tuple[int, str]]:
    every = [tool.function.name for toolset in toolsets for tool in toolset.tools]
    names: dict[str, tuple[int, str]] = {}
    for place, toolset in enumerate(toolsets):
        for tool in toolset.tools:
            own = tool.function.name
            name = own if every.count(own) == 1 else f"{_prefix(sources, place)}_{own}"
            if name in names:
                raise UserError(f"tools: two tools are called {name!r}; rename one, or leave one out")
            names[name] = (place, own)
    return names


def _prefix(sources: Sequence[Source], place: int) -> str:
    """What the names of a source's tools begin with where another has the same; of two alike, the later gets its place."""

    def plain(source: Source) -> str:
        if isinstance(source, McpConfigSource):
            return source.server
        if isinstance(source, WorldSource):
            return source.world
        if isinstance(source, PythonSource):
            return source.class_name.lower()
        if isinstance(source, OpenApiSource):
            return Path(source.openapi.file).stem
        if isinstance(source, McpSource):
            files = [Path(word).stem for word in source.mcp.command or () if Path(word).suffix]
            return files[-1] if files else "mcp"
        return "lookup"

    names = ["".join(letter if letter.isalnum() else "_" for letter in plain(source)) for source in sources]
    return names[place] if names[:place].count(names[place]) == 0 else f"{names[place]}{place + 1}"


def _check_names(kind: OwnKind, *, unjudged: bool) -> None:
    """Whether the tools that world.yaml names are there.

    Raises:
        UserError: one is not, with the nearest name; or the tools have one called `wait` and world.yaml adds another.
    """
    world, path = kind.folder.world, kind.folder.path / "world.yaml"
    if world.wait and WAIT in kind.origins:
        raise UserError(f"{path}: wait: the tools have one of this name already, leave it out")
    if ASK.function.name in kind.origins and any(row.user is not None for row in kind.folder.rows):
        raise UserError(f"{path}: tools: one is called {ASK.function.name!r}, as that of tasks with a user; rename it")
    for row in kind.folder.rows:
        for name in row.user.confirms if row.user else ():
            if name not in kind.origins:
                raise UserError(
                    f"{kind.folder.path}: task {row.id!r}: user.confirms: tool {name!r} is unknown."
                    f"{nearest(name, kind.origins)}"
                )
    named = {"look": [call.name for call in world.look], "harmful": [call.name for call in world.harmful]}
    for what, names in (*named.items(), ("per_tool", world.per_tool)):
        for name in names:
            if name not in kind.origins:
                raise UserError(f"{path}: {what}: tool {name!r} is unknown.{nearest(name, kind.origins)}")
    only_reads = all(facts.read_only for facts in kind.facts.values())  # then answers decide
    has_state = (
        only_reads
        or world.look
        or world.state is not None
        or any(isinstance(each, PythonSource) for each in world.tools)
    )
    if kind.judged_by == "state" and not has_state and not unjudged:
        raise UserError(
            f"{path}: nothing tells what a run has changed: give look (read-only calls whose results are the state), "
            "state.dir, or check.py"
        )


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base if base else Path.home() / ".cache") / "tooltune" / "expected"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
