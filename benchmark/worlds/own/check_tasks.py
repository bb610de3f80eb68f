"""Whether a folder's tasks are worth anything: each can be solved, and none is solved by doing nothing, by reading, by talk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from benchmark.worlds.own.check_asking import check_asking
from benchmark.worlds.own.folder import WorldFile
from benchmark.worlds.own.judge import Expected, says, says_to_answer
from benchmark.worlds.own.kind import OwnKind, Solved
from benchmark.worlds.own.sources import NamedCall
from benchmark.worlds.own.state import Entries, part_to_pointer, text_to_value, without
from benchmark.worlds.own.tasks import SaidNumber, TaskRow, references
from benchmark.worlds.own.toolsets.toolset import ServersFault
from benchmark.worlds.own.varying import differing, propose_volatile
from benchmark.worlds.own.world import CannotRun, OwnWorld, fill_references
from benchmark.worlds.tools import DONE
from benchmark.worlds.world import Verdict
from data.records import Outcome, ToolSpec


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
    """Pointers of what differs in the state from one run of the solution to the next. The rest was checked without it."""
    volatile_results: list[str] = field(default_factory=list)
    """The same of results, which only a replay compares."""
    not_deterministic: str = ""
    """What differs and has no pointer."""
    unproved: bool = False
    """It has no solution, so nothing shows that it can be solved."""
    matters: list[str] = field(default_factory=list)
    """Which arguments decide, and whether the order does."""

    def refuse(self, goal: str, seen: str) -> None:
        """Note what must be so and is not."""
        self.refusals.append(Refusal(self.task, goal, seen))


def check_task(kind: OwnKind, row: TaskRow, *, vary: bool = False) -> Checked:
    """Run a task's setup, nothing, reading, talk and the solution, in two starts of its servers.

    Args:
        vary: also change each argument of the solution, and the order of its calls, each in a start of its own. Where the
            state does not judge, everything is changed at once all the same.
    """
    found = Checked(row.id, unproved=not row.solution and row.expects is None)
    _check_words(row, found)
    unknown = [call.name for call in (*row.setup, *row.solution) if call.name not in kind.origins]
    unknown += [check.call for check in row.check if check.call not in kind.origins]
    if unknown:
        found.refuse("its tools are there", f"there is no tool {unknown[0]!r}")
        return found
    try:
        if row.user is not None and row.expects is not None and not row.says:
            _check_user(kind, row, found)
            return found  # there is nothing to do, so there is no solution to try
        first = kind.run_solution(row)
        expected = first.expected(kind.folder.world)
        with kind.without_faults(row, expected) as world:
            second = _try_all(kind, world, row, expected, found)
        if second is not None:
            _compare_runs(kind, row, first, second, found)
        if found.volatile:
            return _check_without(kind, row, found, vary=vary)
        if row.user is not None:
            _check_user(kind, row, found)
        if kind.judged_by == "state" and not found.refusals:
            kind.keep_expected(row, expected)
        if row.solution and row.expects is None and not found.refusals:
            if vary:
                _vary(kind, row, expected, found)
            elif kind.judged_by != "state":
                _vary_at_once(kind, row, expected, found)
    except CannotRun as error:
        found.refuse("setup and solution run", str(error))
    except ServersFault as fault:
        found.refuse("setup and solution run", fault.text)
    return found


def _check_words(row: TaskRow, found: Checked) -> None:
    for said in row.says:
        shown = said.number if isinstance(said, SaidNumber) else said
        if says(row.instruction, said):
            found.refuse("what must be said does not stand in the instruction", f"it holds {shown!r}")
        if isinstance(said, SaidNumber) and said.tolerance > max(1.0, abs(said.number) / 2):
            found.refuse("a number that must be said is not any number", f"{shown:g}, give or take {said.tolerance:g}")


def _check_user(kind: OwnKind, row: TaskRow, found: Checked) -> None:
    for goal, seen in check_asking(kind, row):
        found.refuse(goal, seen)


def _check_without(kind: OwnKind, row: TaskRow, found: Checked, *, vary: bool) -> Checked:
    """Check a task anew as if what differs stood under `volatile` already; it differs in no way that matters then."""
    again = check_task(kind.with_volatile(found.volatile), row, vary=vary)
    again.volatile = sorted({*found.volatile, *again.volatile})
    again.volatile_results = sorted({*found.volatile_results, *again.volatile_results})
    return again


def _compare_runs(kind: OwnKind, row: TaskRow, first: Solved, second: Solved, found: Checked) -> None:
    """What the same solution did otherwise the second time."""
    world = kind.folder.world
    proposed = propose_volatile([(first.before, second.before), (first.after, second.after)], world.volatile)
    if proposed is None or (proposed and not _leaves_goals(row, first, world, proposed)):
        where = ", ".join(proposed or _roots(first, second))
        found.not_deterministic = f"the state differs at {where}"
        found.refusals.clear()  # whatever the state told is of no use then
        found.refuse(
            "the state after the solution is the same each time",
            f"it differs at {where}, and nothing is left to compare without that; choose another look, or judge with check.py",
        )
        return
    found.volatile = proposed
    if not world.deterministic:
        return
    for call, one, other in zip(row.solution, first.outputs, second.outputs, strict=False):
        left, right = (_read(kind.sameness().compared(call.name, output)) for output in (one, other))
        for pointer in differing(left, right):
            if pointer:
                found.volatile_results.append(part_to_pointer(call.name) + pointer)
            else:
                found.not_deterministic = f"{call.name} gives {_short(one)}, then {_short(other)}"
    found.volatile_results = sorted({*found.volatile_results} - {*proposed})
    if found.volatile_results and not _leaves_goals(row, first, world, [*proposed, *found.volatile_results]):
        # what a result and the state call alike is a goal in the state
        found.not_deterministic = f"results differ at {', '.join(found.volatile_results)}"
        found.volatile_results = []


def _leaves_goals(row: TaskRow, solved: Solved, world: WorldFile, proposed: Sequence[str]) -> bool:
    """Whether the solution still changes what it changed, seen without some pointers."""
    more = solved.expected(world.model_copy(update={"volatile": [*world.volatile, *proposed]}))
    whole = solved.expected(world)
    return row.expects is not None or whole.before == whole.after or more.before != more.after


def _roots(first: Solved, second: Solved) -> list[str]:
    pairs = ((first.before, second.before), (first.after, second.after))
    return sorted({pointer or "/" for pair in pairs for pointer in differing(*pair, by_name=True)})


def _read(value: JsonValue) -> JsonValue:
    return text_to_value(value) if isinstance(value, str) else value


def _short(value: JsonValue) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _try_all(kind: OwnKind, world: OwnWorld, row: TaskRow, expected: Expected, found: Checked) -> Solved | None:
    """Nothing, reading and talk, which must not pass, then the solution, which must; what the solution did, if it ran."""
    judged = kind.judged_by == "state"
    before = world.state() if judged else {}
    if judged:
        found.volatile = propose_volatile([(before, world.state())], kind.folder.world.volatile) or []
        if found.volatile:
            return None  # such as the time of a look: seen without it, the rest can be told
    if _passes(verdict := world.verdict()):
        found.refuse("an empty run does not pass", verdict.why)
    if judged and (moved := _moved(kind, before, world.state())):
        found.refuse("judging changes nothing", f"the calls of check change {moved}")
    read: list[JsonValue] = []
    untold: list[JsonValue] = []
    changed_by = ""
    for name, arguments, is_told in _readings(kind, row):
        result = world.call(name, arguments)
        if result.error is None:
            read.append(result.output)
            untold += [] if is_told else [result.output]
        if judged and not changed_by and (moved := _moved(kind, before, world.state())):
            changed_by = f"{name} changes {moved}"
    if changed_by:
        found.refuse("what only reads changes nothing", changed_by)
    if _passes(verdict := world.verdict()):
        found.refuse("reading with every tool does not pass", verdict.why)
    _say_back(world, row.instruction, "the instruction", found)
    # of a question, what the solution reads may be the answer, where it holds nothing else: the judge sees to that
    _say_back(world, "\n".join(map(_told, untold if row.expects else read)), "all that was read", found)
    world.said = None
    world.made.clear()
    outputs = _try_solving(world, row, expected, found)
    if outputs is None or changed_by:
        return None
    return Solved(before, world.state() if judged else {}, (), outputs)


def _moved(kind: OwnKind, before: JsonValue, now: JsonValue) -> str:
    """What is not as it was, of what is compared; empty where all is."""
    volatile = kind.folder.world.volatile
    return ", ".join(
        sorted(pointer or "/" for pointer in differing(without(before, volatile), without(now, volatile), by_name=True))
    )


def _say_back(world: OwnWorld, text: str, what: str, found: Checked) -> None:
    world.answer(text)
    if _passes(verdict := world.verdict()):
        found.refuse(f"{what} said back as the answer does not pass", verdict.why)


def _told(output: JsonValue) -> str:
    return output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)


def _readings(kind: OwnKind, row: TaskRow) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Calls of every tool that only reads: with the least it asks for, and as the solution makes them; the last says which."""
    looks = {call.name: call.arguments for call in kind.folder.world.look}
    texts = [] if row.expects else [
        value for call in row.solution for value in call.arguments.values() if isinstance(value, str)
    ]  # fmt: skip
    for tool in kind.tool_list:
        name = tool.function.name
        if not kind.is_read_only(name):
            continue
        made = [dict(looks[name]) if name in looks else _least(tool, texts)]
        yield name, made[0], False
        for call in row.solution:
            if call.name == name and call.arguments not in made and not any(references(call.arguments)):
                made.append(dict(call.arguments))
                yield name, made[-1], True


def _least(tool: ToolSpec, texts: Sequence[str]) -> dict[str, Any]:
    properties = tool.function.parameters.get("properties")
    required = tool.function.parameters.get("required")
    plain = {"integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}
    given: dict[str, Any] = {}
    for name in required if isinstance(required, list) else ():
        schema = properties.get(str(name)) if isinstance(properties, dict) else None
        schema = schema if isinstance(schema, dict) else {}
        fixed = fixed_values(schema)
        given[str(name)] = fixed[0] if fixed else plain.get(str(schema.get("type")), texts[0] if texts else "a")
    return given


def _try_solving(world: OwnWorld, row: TaskRow, expected: Expected, found: Checked) -> list[JsonValue] | None:
    """The solution call by call: it passes at its end, and not without its last call that changes something.

    Returns:
        The results, if it ran.
    """
    outputs: list[JsonValue] = []
    judged = world.kind.judged_by == "state"
    states: list[Entries] = [world.entries()] if judged else []
    asks = row.expects == "no_change"
    if not asks:
        world.answer(DONE)
    verdicts: list[Verdict] = [world.verdict()]
    for place, call in enumerate(row.solution):
        given = fill_references(call.arguments, row.solution, outputs)
        result = world.call(call.name, given)
        if result.error is not None:
            told = json.dumps(given, ensure_ascii=False)
            found.refuse("the solution runs", f"call {place}, {call.name}({told}): {result.error}")
            return None
        outputs.append(result.output)
        verdicts.append(world.verdict())
        if judged:
            states.append(world.entries())
    if asks:
        world.answer(says_to_answer(row))
    elif not row.solution:
        if judged and (expected.held == () or all(expected.held)):
            found.refuse("there is something to reach", "no solution, and no goal of check that does not hold already")
        return outputs
    last = world.verdict()
    if not _passes(last):
        found.refuse("the solution passes", f"score {last.score:.2f}: {last.why}")
        return outputs
    if asks:
        if judged and states[-1] != states[0]:
            found.refuse("the solution changes nothing (expects: no_change)", "the state is another")
        return outputs
    # what `look` does not show may be seen by a goal of `check`; where no state judges, whatever is not read-only changes
    changing = [
        place
        for place, call in enumerate(row.solution)
        if verdicts[place] != verdicts[place + 1]
        or (states[place] != states[place + 1] if judged else not world.kind.is_read_only(call.name))
    ]
    if not changing:
        found.refuse("the solution changes something", "the state is the same after it")
    elif _passes(earlier := verdicts[changing[-1]]):
        name = row.solution[changing[-1]].name
        found.refuse(f"without its last changing call ({name}) the solution does not pass", earlier.why)
    return outputs


def _passes(verdict: Verdict) -> bool:
    return verdict.outcome is Outcome.SUCCESS


def _vary(kind: OwnKind, row: TaskRow, expected: Expected, found: Checked) -> None:
    """Which arguments decide whether the solution passes, and whether its order does."""
    calls, decisive = row.solution, 0
    for place, call in enumerate(calls):
        for name in call.arguments:
            if (changed := _changed(kind, call, [name])) is None:
                continue
            passed = _passes_with(kind, row, expected, [*calls[:place], changed, *calls[place + 1 :]])
            decisive += not passed
            found.matters.append(f"{call.name}.{name} {'does not matter' if passed else 'matters'}")
    for place in range(len(calls) - 1):
        first, second = calls[place : place + 2]
        if any(references([each.arguments for each in calls[place + 1 :]])):
            continue  # a later call needs an earlier one
        passed = _passes_with(kind, row, expected, [*calls[:place], second, first, *calls[place + 2 :]])
        decisive += not passed
        found.matters.append(f"{first.name} before {second.name} {'does not matter' if passed else 'matters'}")
    if found.matters and not decisive:
        found.refuse("some argument or the order matters", "the solution passes with any of them changed")


def _vary_at_once(kind: OwnKind, row: TaskRow, expected: Expected, found: Checked) -> None:
    """Whether the solution passes with everything changed; only then is it looked at what matters."""
    changed = [_changed(kind, call, list(call.arguments)) for call in row.solution]
    if any(changed):
        calls = [other or call for call, other in zip(row.solution, changed, strict=True)]
        if _passes_with(kind, row, expected, calls):
            _vary(kind, row, expected, found)


def _changed(kind: OwnKind, call: NamedCall, names: Sequence[str]) -> NamedCall | None:
    """A call with other values for some of its arguments; None where all of them are results of earlier calls."""
    schemas = kind.tools[call.name].function.parameters.get("properties")
    given = dict(call.arguments)
    for name in names:
        if not any(references(given[name])):
            given[name] = _another(given[name], schemas.get(name) if isinstance(schemas, dict) else None)
    return call.model_copy(update={"arguments": given}) if given != call.arguments else None


def _another(value: Any, schema: Any) -> Any:
    """A value that is not this one, of those that the schema names if it does."""
    if (others := [each for each in fixed_values(schema) if each != value]) and value in fixed_values(schema):
        return others[0]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return value[:-1] if value else ["x"]
    return f"{value}x" if isinstance(value, str) else {} if value else "x"


def _passes_with(kind: OwnKind, row: TaskRow, expected: Expected, calls: Sequence[NamedCall]) -> bool:
    try:
        with kind.without_faults(row, expected) as world:
            world.answer(DONE)
            outputs: list[JsonValue] = []
            for call in calls:
                result = world.call(call.name, fill_references(call.arguments, calls, outputs))
                outputs.append(result.output)
            return _passes(world.verdict())
    except (LookupError, ValueError, ServersFault):
        return False


def fixed_values(schema: Any) -> list[Any]:
    """Values that a schema itself names."""
    if isinstance(schema, dict):
        enum = schema.get("enum")
        own = [
            *(enum if isinstance(enum, list) else ()),
            *(schema[key] for key in ("const", "default") if key in schema),
        ]
        return own + [value for each in schema.values() for value in fixed_values(each)]
    if isinstance(schema, list):
        return [value for each in schema for value in fixed_values(each)]
    return []
