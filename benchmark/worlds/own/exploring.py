"""What can be found out about tools by calling them: which change nothing, what shows the state, what differs by itself.

Only `benchmark init` explores. Names and hints of the source are the guess, calls with made-up arguments prove or refute it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import JsonValue

from benchmark.worlds.own.check_tasks import check_task
from benchmark.worlds.own.kind import OwnKind
from benchmark.worlds.own.sources import NamedCall
from benchmark.worlds.own.state import Entries, part_to_pointer, point_all, state_to_entries, text_to_value
from benchmark.worlds.own.tasks import TaskRow, share_values
from benchmark.worlds.own.tool_names import sounds_destructive, sounds_idempotent, sounds_read_only
from benchmark.worlds.own.toolsets.toolset import Hints, ServersFault
from benchmark.worlds.own.world import OwnWorld
from benchmark.worlds.world import ToolResult
from core.screen import with_progress
from data.records import ToolSpec

TASKS = 3
"""Example tasks that are made."""
_PAUSE_SECONDS = 1.1
"""Between two readings: times are most often told in seconds."""
_CALL_SECONDS = 10.0
_PLACE = re.compile(r"path|file|dir|folder|repo|root", re.I)
_DEPTH = 5

Way = Literal["files", "looks"]
"""Where a changed state is seen."""


@dataclass
class Found:
    """What was found out."""

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By tool, as `per_tool` of world.yaml has them."""
    looks: list[NamedCall] = field(default_factory=list)
    """Calls that change nothing, and give the same twice but for `volatile`."""
    volatile: list[str] = field(default_factory=list)
    changing: list[tuple[str, int]] = field(default_factory=list)
    """Tools of which a call with made-up arguments worked and changed the state, with the way that these were made up."""
    ways: list[Way] = field(default_factory=list)
    """Where the changes were seen."""
    silent: dict[str, str] = field(default_factory=dict)
    """Tools that gave no answer, with the fault."""
    known: dict[str, list[JsonValue]] = field(default_factory=dict)
    """Values that the looks gave, by their keys."""
    files: list[str] = field(default_factory=list)
    """Files of the state."""


def find_out(kind: OwnKind) -> Found:
    """Call each tool of a folder whose world.yaml says nothing of them yet.

    Of a server that runs already, only what is meant to read is called.

    Raises:
        ServersFault: the tools do not start.
    """
    found = Found()
    said = {tool.function.name: kind.hints.get(tool.function.name, Hints()) for tool in kind.tool_list}
    reads = {
        name: sounds_read_only(name) if hints.read_only is None else hints.read_only for name, hints in said.items()
    }
    with _Probe(kind, found) as probe:
        found.files = probe.files()
        _find_looks(probe, [tool for tool in kind.tool_list if reads[tool.function.name]], found)
        proved = _prove_reading(probe, [tool for tool in kind.tool_list if reads[tool.function.name]], found)
        found.looks = [call for call in found.looks if proved[call.name]]
        others = sorted(
            (tool for tool in kind.tool_list if not proved.get(tool.function.name)),
            key=lambda tool: _is_destructive(tool.function.name, said[tool.function.name]) or False,
        )
        again: dict[str, bool] = {}
        if not kind.folder.world.is_shared:
            again = _try_changing(probe, others, found)
    for name, hints in said.items():
        facts: dict[str, Any] = {"read_only": proved.get(name, False)}
        if not facts["read_only"]:
            is_idempotent = sounds_idempotent(name) if hints.idempotent is None else hints.idempotent
            if again.get(name) is False:
                is_idempotent = False  # a second call changed something more
            more = {"destructive": _is_destructive(name, hints), "idempotent": is_idempotent}
            facts |= {key: value for key, value in more.items() if value is not None}
        found.facts[name] = {**facts, "guessed": True}
    return found


def _is_destructive(name: str, hints: Hints) -> bool | None:
    return hints.destructive if hints.destructive is not None else sounds_destructive(name)


def example_tasks(kind: OwnKind, found: Found) -> tuple[list[TaskRow], list[str]]:
    """Up to three calls with made-up arguments as tasks that `tasks check` accepts, and what differs from run to run."""
    rows: list[TaskRow] = []
    volatile: set[str] = set()
    tools = {tool.function.name: tool for tool in kind.tool_list}
    good = list(found.changing)
    for number in range(1, TASKS + 1):
        for name, way in list(good):
            if len(rows) == TASKS:
                break
            given = made_up(tools[name], number, way, found)
            row = TaskRow(
                id=f"{name}-{number}"[:120], split="test" if len(rows) == TASKS - 1 else "train", family=name,
                instruction=_told(name, given), solution=[NamedCall(name=name, arguments=given)],
            )  # fmt: skip
            checked = check_task(kind, row)
            volatile |= set(checked.volatile)
            if checked.refusals:
                good.remove((name, way))
            elif [row.solution for row in rows].count(row.solution) == 0:
                rows.append(row)
    return share_values(rows)[0], sorted(volatile)


def _told(name: str, given: Mapping[str, Any]) -> str:
    told = ", ".join(f"{key} {json.dumps(value, ensure_ascii=False)}" for key, value in given.items())
    return f"Use {name}" + (f" with {told}." if told else ".")


class _Probe:
    """A world that is asked, and started anew once a call has broken its server."""

    def __init__(self, kind: OwnKind, found: Found) -> None:
        world = kind.folder.world
        hurried = world.model_copy(update={"timeout_s": min(world.timeout_s, _CALL_SECONDS)})
        self._kind = replace(kind, folder=replace(kind.folder, world=hurried))
        self._found = found
        self._world: OwnWorld | None = None
        first = kind.tool_list[0].function.name
        self._row = TaskRow(id="init", split="train", instruction="-", solution=[NamedCall(name=first)])

    def __enter__(self) -> _Probe:
        self._start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._world is not None:
            self._world.__exit__()
            self._world = None

    def _start(self) -> OwnWorld:
        self._world = self._kind.without_faults(self._row)
        self._world.start()
        return self._world

    def ask(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """What a tool says; where it breaks its server, an error, and the tool is not called again."""
        if name in self._found.silent:
            return ToolResult(error=self._found.silent[name])
        try:
            return (self._world or self._start()).ask(name, arguments)
        except ServersFault as fault:
            self._found.silent[name] = f"{fault.reason}: {fault.text}"
            self.__exit__()
            return ToolResult(error=fault.text)

    def files(self) -> list[str]:
        """Names of files of the state that are not hidden."""
        return [name for name in self._files() if not any(part.startswith(".") for part in name.split("/"))]

    def _files(self) -> dict[str, JsonValue]:
        state = (self._world or self._start()).state()
        return state if isinstance(state, dict) else {}

    def seen(self) -> Entries:
        """Files, objects and looks, without what differs by itself."""
        state = self._files()
        for look in self._found.looks:
            result = self.ask(look.name, look.arguments)
            read = text_to_value(result.output) if isinstance(result.output, str) else result.output
            state[look.name] = read if result.error is None else result.error
        return state_to_entries(state, volatile=self._found.volatile, ignore_case=False)


def _find_looks(probe: _Probe, tools: Sequence[ToolSpec], found: Found) -> None:
    """Calls that need nothing but a place, and give the same twice: at once, and a moment later but for `volatile`."""
    first: dict[str, ToolResult] = {}
    for tool in tools:
        name, given = tool.function.name, _plain(tool)
        if given is None:
            continue
        once, twice = probe.ask(name, given), probe.ask(name, given)
        if once.error is None and twice.error is None and _alike(once.output, twice.output) is not None:
            found.looks.append(NamedCall(name=name, arguments=given))
            first[name] = twice
    if not found.looks:
        return
    time.sleep(_PAUSE_SECONDS)
    for look in list(found.looks):
        varying = _alike(first[look.name].output, probe.ask(look.name, look.arguments).output)
        if varying is None:
            found.looks.remove(look)
            continue
        found.volatile += [part_to_pointer(look.name) + pointer for pointer in varying]
        for key, value in _keyed(first[look.name].output):
            found.known.setdefault(key, []).append(value)


def _alike(one: JsonValue, other: JsonValue) -> list[str] | None:
    """Pointers of the values that differ; None where the shape does, or nothing is the same."""
    entries = [
        state_to_entries(text_to_value(each) if isinstance(each, str) else each, volatile=(), ignore_case=False)
        for each in (one, other)
    ]
    if entries[0].keys() != entries[1].keys():
        return None
    differing = [pointer for pointer, value in entries[0].items() if entries[1][pointer] != value]
    if differing and len(differing) == len(entries[0]):
        return None
    return sorted(set(map(_entry_to_pointer, differing)))


def _entry_to_pointer(entry: str) -> str:
    """The JSON Pointer of an entry, with `*` for those of lists."""
    return "/".join("*" if part.startswith("[") or part.isdecimal() else part for part in entry.split("/"))


def _keyed(value: JsonValue) -> Iterator[tuple[str, JsonValue]]:
    """Values of all objects in a result, by their keys."""
    if isinstance(value, str):
        value = text_to_value(value)
    if isinstance(value, list):
        for each in value:
            yield from _keyed(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if isinstance(each, str | int) and not isinstance(each, bool):
                yield key, each
            elif isinstance(each, dict | list):
                yield from _keyed(each)


def _prove_reading(probe: _Probe, tools: Sequence[ToolSpec], found: Found) -> dict[str, bool]:
    """Of each tool that is meant to read: whether two calls of it left everything as it was."""
    changed: dict[str, set[str]] = {}
    for tool in with_progress(tools, "calling what reads", total=len(tools)):
        before = probe.seen()
        for _ in range(2):
            for way in range(_WAYS):
                if probe.ask(tool.function.name, made_up(tool, 1, way, found)).error is None:
                    break
        if tool.function.name not in found.silent:  # a server that was started anew has another state
            changed[tool.function.name] = _changed(before, probe.seen())
    if len(changed) > 2 and (always := set.intersection(*changed.values())):
        # whatever is called: a log, or a count of calls
        found.volatile += sorted(set(map(_entry_to_pointer, always)) - set(found.volatile))
        changed = {name: pointers - always for name, pointers in changed.items()}
    return {tool.function.name: not changed.get(tool.function.name) for tool in tools}


def _try_changing(probe: _Probe, tools: Sequence[ToolSpec], found: Found) -> dict[str, bool]:
    """Which calls work and change something; of these, whether the same call changes nothing when it is made again."""
    again: dict[str, bool] = {}
    looks = {look.name for look in found.looks}
    ways: set[Way] = set()
    for tool in with_progress(tools, "calling what changes", total=len(tools)):
        name = tool.function.name
        for way in range(_WAYS):
            given = made_up(tool, 1, way, found)
            before = probe.seen()
            if probe.ask(name, given).error is not None:
                continue
            after = probe.seen()
            if changed := _changed(before, after):
                found.changing.append((name, way))
                seen_by_looks = {entry.split("/")[1] in looks for entry in changed}
                ways |= {"looks" if each else "files" for each in seen_by_looks}
                if probe.ask(name, given).error is None:
                    again[name] = not _changed(after, probe.seen())
                break
    found.ways = [way for way in ("files", "looks") if way in ways]
    return again


def _changed(before: Entries, after: Entries) -> set[str]:
    return {entry for entry in before.keys() | after.keys() if before.get(entry, ...) != after.get(entry, ...)}


# ---- arguments ----

_WAYS = 4
"""Ways to make arguments up: of the schema alone; with places that are there; with names of things that the looks gave; with
all that they gave."""
_NAMING = re.compile(r"(id|key|code|number|slug)\Z", re.I)


def _plain(tool: ToolSpec) -> dict[str, Any] | None:
    """Arguments of a call that shows all: none, or a place and what has few values; None where more is asked for."""
    given: dict[str, Any] = {}
    for name, schema in required(tool).items():
        if name_is_place(name):
            given[name] = "."
        elif isinstance(schema, dict) and schema.keys() & {"enum", "const", "default"}:
            given[name] = _value(schema, schema, name, 1)
        else:
            return None
    return given


def made_up(tool: ToolSpec, number: int, way: int, found: Found) -> dict[str, Any]:
    """Arguments for what a tool requires, others for each number."""
    given: dict[str, Any] = {}
    for name, schema in required(tool).items():
        known = [*found.known.get(name, ()), *(found.known.get("id", ()) if name.endswith("id") else ())]
        if way == 1 and name_is_place(name):
            is_file = re.search("path|file", name, re.I) and not re.search("repo|dir|folder|root", name, re.I)
            given[name] = found.files[(number - 1) % len(found.files)] if is_file and found.files else "."
        elif known and (way == 3 or (way == 2 and _NAMING.search(name))):
            given[name] = known[(number - 1) % len(known)]
        else:
            given[name] = _value(schema, tool.function.parameters, name, number)
    return given


def name_is_place(name: str) -> bool:
    """Whether an argument's name says that it is a file or folder."""
    return _PLACE.search(name) is not None


def required(tool: ToolSpec) -> dict[str, Any]:
    """The arguments that a tool asks for, with their schemas."""
    properties, names = (tool.function.parameters.get(key) for key in ("properties", "required"))
    told = properties if isinstance(properties, dict) else {}
    return {str(name): told.get(str(name)) for name in names} if isinstance(names, list) else {}


def _value(schema: Any, whole: Any, name: str, number: int, depth: int = 0) -> Any:
    """A value that a schema takes, as small as it can be."""
    told: dict[str, Any] = schema if isinstance(schema, dict) else {}
    if isinstance(reference := told.get("$ref"), str) and depth < _DEPTH:
        found = point_all(whole, reference.removeprefix("#"))
        return _value(found[0] if found else None, whole, name, number, depth + 1)
    for key in ("default", "const"):
        if key in told:
            return told[key]
    if isinstance(options := told.get("enum") or told.get("examples"), list) and options:
        return options[(number - 1) % len(options)]
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(options := told.get(key), list) and options and depth < _DEPTH:
            return _value(options[0], whole, name, number, depth + 1)
    kind = told.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object" or "properties" in told:
        inner = told.get("properties")
        names = told.get("required") if isinstance(inner, dict) else ()
        return {
            str(each): _value(inner.get(each), whole, str(each), number, depth + 1)  # type: ignore[union-attr]  # a dict
            for each in (names if isinstance(names, list) and depth < _DEPTH else ())
        }
    if kind == "array":
        items = told.get("items")
        return [_value(items, whole, name, number, depth + 1)] if isinstance(items, dict) and depth < _DEPTH else []
    if kind in ("integer", "number"):
        least = told.get("minimum")
        return least + number - 1 if isinstance(least, int | float) else number
    if kind == "boolean":
        return True
    return {
        "date": f"2026-01-{number:02d}",
        "date-time": f"2026-01-{number:02d}T09:00:00Z",
        "email": f"name-{number}@example.com",
        "uuid": f"00000000-0000-4000-8000-{number:012d}",
        "uri": f"https://example.com/{number}",
    }.get(str(told.get("format")), f"{name}-{number}")
