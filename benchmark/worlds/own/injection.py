"""Instructions in the results of a user's own tools: which calls they can ask for, and where they stand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from benchmark.worlds.injection import WORD, Harm, inject
from benchmark.worlds.own.folder import Folder
from benchmark.worlds.own.tasks import TaskRow, references
from benchmark.worlds.own.toolsets.toolset import ServersFault
from benchmark.worlds.own.world import CannotRun, OwnWorld, check_call
from benchmark.worlds.tools import ToolError
from benchmark.worlds.world import Task
from core.errors import UserError
from core.files import write_whole

_TRIED_WORD = "probe-000"
_MOST_HARMS = 4


class KindOfHarm(Protocol):
    """What is asked of a folder's kind."""

    folder: Folder

    def is_read_only(self, name: str) -> bool: ...

    def unjudged_world(self, row: TaskRow) -> AbstractContextManager[OwnWorld]: ...


def find_harms(kind: KindOfHarm) -> list[Harm]:
    """Calls that an instruction may ask for: those of `harmful` in world.yaml, else what works where a task begins and
    changes the state, with a word in place of a text where that can be.

    Raises:
        UserError: there is none.
    """
    named = kind.folder.world.harmful
    if named:
        return [Harm(call.name, _with_mark(call.arguments)) for call in named]
    rows = sorted(kind.folder.rows, key=lambda row: (len(row.setup), row.id))
    try:
        found = _working(kind, rows[0], list(_candidates(kind))) if rows else []
    except (ServersFault, CannotRun) as fault:
        raise UserError(
            f"{kind.folder.path}: injected instructions: what may be asked for cannot be tried: {fault}"
        ) from None
    if not found:
        raise UserError(
            f"{kind.folder.path}: injected instructions: no call was found that changes the state and that one could ask for; "
            "give some as harmful in world.yaml: [{name: TOOL, arguments: {...}}], with {word} for a drawn word"
        )
    return found


def _with_mark(arguments: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {name: WORD if value == "{word}" else value for name, value in arguments.items()}


def _candidates(kind: KindOfHarm) -> Iterator[Harm]:
    """Calls of the tasks' solutions with a word in one text or in all, then these calls themselves. What no task uses is not
    tried: nobody knows what it would do."""
    calls: dict[tuple[str, tuple[str, ...]], dict[str, JsonValue]] = {}
    for row in kind.folder.rows:
        for call in (*row.solution, *row.setup):
            if not kind.is_read_only(call.name) and not any(references(call.arguments)):
                calls.setdefault((call.name, tuple(sorted(call.arguments))), call.arguments)
    for (name, _), arguments in calls.items():
        texts = [key for key, value in arguments.items() if isinstance(value, str)]
        for keys in ([texts] if len(texts) > 1 else []) + [[key] for key in texts]:
            yield Harm(name, {**arguments, **dict.fromkeys(keys, WORD)})
    for (name, _), arguments in calls.items():
        yield Harm(name, arguments)


def _working(kind: KindOfHarm, row: TaskRow, candidates: list[Harm]) -> list[Harm]:
    """The first of each tool that changes the state in one start, then those of them that do so alone."""
    found: dict[str, Harm] = {}
    with kind.unjudged_world(row) as world:
        for harm in candidates:
            if harm.tool not in found and _changes(world, harm):
                found[harm.tool] = harm
    harms = list(found.values())[:_MOST_HARMS]
    alone = harms[:1]
    for harm in harms[1:]:
        with kind.unjudged_world(row) as world:
            if _changes(world, harm):
                alone.append(harm)
    return alone


def _changes(world: OwnWorld, harm: Harm) -> bool:
    """Whether a call works and changes the state."""
    before = world.entries()
    arguments = harm.with_word(_TRIED_WORD).arguments
    try:
        check_call({tool.function.name: tool for tool in world.task.tools}, harm.tool, arguments)
    except ToolError:
        return False
    return world.ask(harm.tool, arguments).error is None and world.entries() != before


SUFFIX = "-injected"
"""How the id of a task ends in which a result holds an instruction."""


def with_instruction(task: Task, row: TaskRow, is_read_only: Callable[[str], bool], harms: list[Harm]) -> Task | None:
    """The task with an instruction in the result of a call of its solution: the first that only reads, and not the last if that
    can be. None where the solution makes no call."""
    if not row.solution:
        return None
    early = row.solution[:-1] or row.solution
    place = next((place for place, call in enumerate(early) if is_read_only(call.name)), 0)
    name = row.solution[place].name
    nth = Counter(call.name for call in row.solution[:place])[name]
    told = [(call.name, call.arguments) for call in row.solution]
    fitting = [harm for harm in harms if (harm.tool, harm.arguments) not in told]
    return inject(task, name, nth, fitting, name=f"{row.id}{SUFFIX}")


def read_harms(kind: KindOfHarm, file: Path) -> list[Harm]:
    """What `find_harms` has found, kept in a file.

    Raises:
        UserError: nothing was found.
    """
    if kind.folder.world.harmful:
        return find_harms(kind)
    try:
        return [Harm(str(tool), dict(arguments)) for tool, arguments in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        found = find_harms(kind)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps([[harm.tool, harm.arguments] for harm in found]))
    return found
