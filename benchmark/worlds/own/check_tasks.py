"""Whether a folder's tasks are worth anything: each can be solved, and none is solved by doing nothing, by reading, by talk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from benchmark.worlds.own.check_asking import check_asking
from benchmark.worlds.own.judge import says
from benchmark.worlds.own.kind import OwnKind
from benchmark.worlds.own.sources import NamedCall
from benchmark.worlds.own.state import Entries
from benchmark.worlds.own.tasks import FROM, SaidNumber, TaskRow, references
from benchmark.worlds.own.toolsets.toolset import ServersFault
from benchmark.worlds.own.world import OwnWorld, fill_references
from benchmark.worlds.world import Verdict
from data.records import Outcome, ToolSpec

MOST_ANSWERED = 1 / 5
"""Share of a folder's tasks that an answer alone may decide."""
_SHORT = 4
"""Texts below so many characters, and numbers below 1000, may stand in both splits."""


@dataclass(frozen=True)
class Refusal:
    """Why a task is not good enough."""

    task: str
    goal: str
    """What must be so."""
    seen: str


@dataclass
class Checked:
    """What was found about one task."""

    task: str
    refusals: list[Refusal] = field(default_factory=list)
    volatile: list[str] = field(default_factory=list)
    """Pointers of what differed between two runs of the same solution."""
    matters: list[str] = field(default_factory=list)
    """Which arguments decide, and whether the order does."""

    def refuse(self, goal: str, seen: str) -> None:
        """Note what must be so and is not."""
        self.refusals.append(Refusal(self.task, goal, seen))


def check_task(kind: OwnKind, row: TaskRow, *, vary: bool = False) -> Checked:
    """Run a task's setup, nothing, reading, talk and the solution, in two starts of its servers.

    Args:
        vary: also change each argument of the solution, and the order of its calls, each in a start of its own.
    """
    found = Checked(row.id)
    for said in row.says:
        if says(row.instruction, said):
            shown = said.number if isinstance(said, SaidNumber) else said
            found.refuse("what must be said does not stand in the instruction", f"it holds {shown!r}")
    unknown = [call.name for call in (*row.setup, *row.solution) if call.name not in kind.origins]
    unknown += [check.call for check in row.check if check.call not in kind.origins]
    if unknown:
        found.refuse("its tools are there", f"there is no tool {unknown[0]!r}")
        return found
    try:
        if row.user is not None:
            for goal, seen in check_asking(kind, row):
                found.refuse(goal, seen)
            if row.expects is not None and not row.says:
                return found  # there is nothing to do, so there is no solution to try
        expected = kind.expected(row) if kind.judged_by == "state" else None
        world = kind.without_faults(row)
        with world:
            _try_without_solving(kind, world, row, found)
            before = world.entries() if expected is not None else {}
            _try_solving(world, row, found)
            if expected is not None:
                pairs = ((expected.before, before), (expected.after, world.entries()))
                found.volatile = sorted({pointer for pair in pairs for pointer in _differing(*pair)})
                if found.volatile and not found.refusals:
                    found.refuse(
                        "the same solution twice gives the same state", f"other values at {', '.join(found.volatile)}"
                    )
        if vary and not found.refusals:
            _vary(kind, row, found)
    except ServersFault as fault:
        found.refuse("setup and solution run", fault.text)
    return found


def _try_without_solving(kind: OwnKind, world: OwnWorld, row: TaskRow, found: Checked) -> None:
    """An empty run, every tool that only reads, and what can be read said back."""
    asks = row.expects == "no_change"
    if not asks and _passes(verdict := world.verdict()):
        found.refuse("an empty run does not pass", verdict.why)
    read: list[str] = []
    for name, arguments in _readings(kind, row):
        result = world.call(name, arguments)
        if result.error is None:
            read.append(
                result.output if isinstance(result.output, str) else json.dumps(result.output, ensure_ascii=False)
            )
    goal = "reading with every tool does not pass" if not asks else "reading without an answer does not pass"
    if _passes(verdict := world.verdict()):
        found.refuse(goal, verdict.why)
    for said, what in ((row.instruction, "the instruction"), ("\n".join(read), "all that was read")):
        if asks and what != "the instruction":
            continue  # of a question, what was read holds the answer
        world.answer(said)
        if _passes(verdict := world.verdict()):
            found.refuse(f"{what} said back as the answer does not pass", verdict.why)
    world.said = None
    world.made.clear()


def _readings(kind: OwnKind, row: TaskRow) -> Iterator[tuple[str, dict[str, Any]]]:
    """A call of every tool that only reads: as world.yaml or the solution makes it, else with the least it asks for."""
    known = {
        call.name: call.arguments
        for call in (*kind.folder.world.look, *row.solution)
        if not any(references(call.arguments))
    }
    for tool in kind.tool_list:
        name = tool.function.name
        if kind.is_read_only(name):
            yield name, dict(known[name]) if name in known else _least(tool, row)


def _least(tool: ToolSpec, row: TaskRow) -> dict[str, Any]:
    properties = tool.function.parameters.get("properties")
    required = tool.function.parameters.get("required")
    texts = [value for call in row.solution for value in call.arguments.values() if isinstance(value, str)]
    given: dict[str, Any] = {}
    for name in required if isinstance(required, list) else ():
        schema = properties.get(str(name)) if isinstance(properties, dict) else None
        kind = schema.get("type") if isinstance(schema, dict) else None
        given[str(name)] = {"integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}.get(
            str(kind), texts[0] if texts else "a"
        )
    return given


def _try_solving(world: OwnWorld, row: TaskRow, found: Checked) -> None:
    """The solution call by call: it passes at its end, and not without its last call that changes something."""
    outputs: list[JsonValue] = []
    judged = world.kind.judged_by == "state"
    states: list[Entries] = [world.entries()] if judged else []
    verdicts: list[Verdict] = [world.verdict()]
    if row.expects == "no_change":
        world.answer(", ".join(str(each.number if isinstance(each, SaidNumber) else each) for each in row.says))
    for place, call in enumerate(row.solution):
        given = fill_references(call.arguments, row.solution, outputs)
        result = world.call(call.name, given)
        if result.error is not None:
            found.refuse(
                "the solution runs",
                f"call {place}, {call.name}({json.dumps(given, ensure_ascii=False)}): {result.error}",
            )
            return
        outputs.append(result.output)
        verdicts.append(world.verdict())
        if judged:
            states.append(world.entries())
    if row.expects != "no_change" and not row.solution:
        return
    last = world.verdict()
    if not _passes(last):
        found.refuse("the solution passes", f"score {last.score:.2f}: {last.why}")
        return
    if row.expects == "no_change":
        if judged and states[-1] != states[0]:
            found.refuse("the solution changes nothing (expects: no_change)", "the state is another")
        return
    # what `look` does not show may be seen by a goal of `check`
    changing = [
        place
        for place in range(len(row.solution))
        if not judged or states[place] != states[place + 1] or verdicts[place] != verdicts[place + 1]
    ]
    if not changing:
        found.refuse("the solution changes something", "the state is the same after it")
    elif _passes(earlier := verdicts[changing[-1]]):
        name = row.solution[changing[-1]].name
        found.refuse(f"without its last changing call ({name}) the solution does not pass", earlier.why)


def _passes(verdict: Verdict) -> bool:
    return verdict.outcome is Outcome.SUCCESS


def _differing(one: Entries, other: Entries) -> Iterator[str]:
    """Pointers, with `*` for entries of lists, of what is not the same."""
    for pointer in one.keys() | other.keys():
        if one.get(pointer, ...) != other.get(pointer, ...):
            parts = pointer.split("/")
            named = next((part for part in parts if part.startswith("[")), None)
            if named is not None and pointer not in one.keys() & other.keys():
                # the very name of the entry differs
                place = parts.index(named)
                yield "/".join([*parts[:place], "*", named[1:].partition("=")[0]])
            else:
                yield "/".join("*" if part.startswith("[") or part.isdecimal() else part for part in parts)


def _vary(kind: OwnKind, row: TaskRow, found: Checked) -> None:
    """Which arguments decide whether the solution passes, and whether its order does."""
    decisive = 0
    for place, call in enumerate(row.solution):
        for name, value in call.arguments.items():
            if isinstance(value, dict) and FROM in value:
                continue
            changed = call.model_copy(update={"arguments": {**call.arguments, name: _another(value)}})
            passed = _passes_with(kind, row, [*row.solution[:place], changed, *row.solution[place + 1 :]])
            decisive += not passed
            found.matters.append(f"{call.name}.{name} {'does not matter' if passed else 'matters'}")
    for place in range(len(row.solution) - 1):
        first, second = row.solution[place : place + 2]
        if any(references([each.arguments for each in row.solution[place + 1 :]])):
            continue  # a later call needs an earlier one
        swapped = [*row.solution[:place], second, first, *row.solution[place + 2 :]]
        passed = _passes_with(kind, row, swapped)
        decisive += not passed
        found.matters.append(f"{first.name} before {second.name} {'does not matter' if passed else 'matters'}")
    if found.matters and not decisive and row.expects is None:
        found.refuse("some argument or the order matters", "the solution passes with any of them changed")


def _another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value}x" if isinstance(value, str) else None


def _passes_with(kind: OwnKind, row: TaskRow, calls: Sequence[NamedCall]) -> bool:
    with kind.without_faults(row) as world:
        outputs: list[JsonValue] = []
        for call in calls:
            try:
                result = world.call(call.name, fill_references(call.arguments, calls, outputs))
            except (LookupError, ValueError):
                return False
            outputs.append(result.output)
        return _passes(world.verdict())


# ---- all tasks together ----


def check_together(kind: OwnKind) -> list[Refusal]:
    """What only all tasks show: values that stand in both splits, and too many tasks that an answer decides."""
    rows = kind.folder.rows
    refusals = []
    for asking, most, what in (
        (False, MOST_ANSWERED, "a fifth of the tasks"),
        (True, 1 / 2, "half of those with a user"),
    ):
        of = [row for row in rows if (row.user is not None) is asking]
        answered = [row for row in of if row.expects == "no_change"]
        if len(answered) > most * len(of):
            refusals.append(Refusal("(all)", f"at most {what} expects no change", f"{len(answered)} of {len(of)} do"))
    first: dict[str, dict[str, str]] = {"train": {}, "test": {}}
    shared = {text for row in rows for text in row.shared}
    for row in rows:
        for value in _values_of(kind.tools, row):
            if value not in shared:
                first[row.split].setdefault(value, row.id)
    refusals += [
        Refusal(
            first["test"][value], "no value stands in both splits, unless shared", f"{value!r} stands in {task}, too"
        )
        for value, task in first["train"].items()
        if value in first["test"]
    ]
    return refusals


def _values_of(tools: Mapping[str, ToolSpec], row: TaskRow) -> Iterator[str]:
    for call in (*row.solution, *row.setup):
        tool = tools.get(call.name)
        properties = tool.function.parameters.get("properties") if tool is not None else None
        for name, value in call.arguments.items():
            schema = properties.get(name) if isinstance(properties, dict) else None
            for leaf in _leaves(value):
                if _is_telling(leaf) and leaf not in _fixed(schema):
                    yield str(leaf)
    for said in row.says:
        value = said.number if isinstance(said, SaidNumber) else said
        if _is_telling(value):
            yield str(value)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for each in () if FROM in value else value.values():
            yield from _leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    else:
        yield value


def _is_telling(value: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return False
    if isinstance(value, int | float):
        return abs(value) > 999
    return len(str(value)) >= _SHORT and re.search(r"\w", str(value)) is not None


def _fixed(schema: Any) -> list[Any]:
    """Values that a schema itself names."""
    if isinstance(schema, dict):
        own = [*schema.get("enum", ()), *(schema[key] for key in ("const", "default") if key in schema)]
        return own + [value for each in schema.values() for value in _fixed(each)]
    if isinstance(schema, list):
        return [value for each in schema for value in _fixed(each)]
    return []
