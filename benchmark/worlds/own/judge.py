"""How a run in a folder's world is judged: its state beside the state after the solution, what was said, checks."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import JsonValue

from benchmark.worlds.own.said_back import without_results
from benchmark.worlds.own.state import Entries, compare_states, point
from benchmark.worlds.own.tasks import Before, CalledCheck, ResultCheck, Said, SaidNumber, TaskRow
from benchmark.worlds.tools import score_to_verdict
from benchmark.worlds.world import ToolResult, Verdict
from data.records import Outcome

_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?")
_TOLD = 6
"""Goals and damages that a verdict tells."""


@dataclass(frozen=True)
class Expected:
    """What a task begins with and what its solution leaves: made once in a twin."""

    before: Entries
    after: Entries
    held: tuple[bool, ...]
    """Of each goal in `check`, whether it holds already in the beginning."""
    outputs: tuple[JsonValue, ...] = ()
    """What the calls of the solution gave."""


@dataclass(frozen=True)
class Made:
    """A call that was made, and whether it worked."""

    name: str
    arguments: dict[str, Any]
    worked: bool
    output: JsonValue = None


Ask = Callable[[str, dict[str, Any]], ToolResult]


def judge(
    row: TaskRow, expected: Expected, actual: Entries, said: str | None, made: Sequence[Made], ask: Ask
) -> Verdict:
    """The verdict. A goal is an entry of the state that had to change, a result that must be, or words that must be said."""
    after = expected.before if row.expects == "no_change" else expected.after
    goals, missing, damage = compare_states(expected.before, after, actual)
    results = [check for check in row.check if isinstance(check, ResultCheck)]
    for check, held_before in zip(results, expected.held, strict=True):
        fault = result_fault(check, ask)
        goals += not held_before
        if fault is not None:
            (damage if held_before else missing).append(fault)
    damage += filter(None, (_broken(check, made) for check in row.check if isinstance(check, CalledCheck)))
    if row.expects == "no_change":
        answer = answer_alone(said or "", row, made)
        for wanted in row.says:
            goals += 1
            if not says(answer, wanted):
                beside = " beside results that it says back whole" if says(said or "", wanted) else ""
                missing.append(f"the answer does not say {_said_text(wanted)}{beside}")
    if row.expects == "no_change" and row.user is not None and not (row.says or goals):
        goals = 1  # that nothing changes; what has to be asked or said for it is the user's matter
        if damage:
            return _shortened(Verdict(Outcome.FAILURE, 0.0, "; ".join(damage)))
    if not goals:
        return Verdict(Outcome.FAILURE, 0.0, "the solution changes nothing, so there is no goal")
    return _shortened(score_to_verdict(goals, missing, damage))


def _shortened(verdict: Verdict) -> Verdict:
    parts = verdict.why.split("; ")
    more = f"; and {len(parts) - _TOLD} more" if len(parts) > _TOLD else ""
    return replace(verdict, why="; ".join(parts[:_TOLD]) + more)


def result_fault(check: ResultCheck, ask: Ask) -> str | None:
    """What is wrong with a result that must be so; None where it is right."""
    name = f"{check.call}({json.dumps(check.arguments, ensure_ascii=False)})"
    result = ask(check.call, dict(check.arguments))
    if result.error is not None:
        return f"{name}: {result.error}"
    where = check.pointer or ""
    try:
        found = point(result.output, where)
    except LookupError:
        return f"{name}: there is nothing at {where}"
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    shown = text if len(text) <= 80 else text[:77] + "..."
    if "equals" in check.model_fields_set and not _equal(found, check.equals):
        return f"{name}{where}: expected {json.dumps(check.equals, ensure_ascii=False)}, is {shown}"
    if check.contains is not None and check.contains not in text:
        return f"{name}{where}: expected to contain {check.contains!r}, is {shown}"
    if check.matches is not None and not re.search(check.matches, text):
        return f"{name}{where}: expected to match {check.matches!r}, is {shown}"
    return None


def _equal(one: JsonValue, other: JsonValue) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other


def _broken(check: CalledCheck, made: Sequence[Made]) -> str | None:
    calls = [
        place
        for place, call in enumerate(made)
        if call.worked
        and call.name == check.call
        and (check.arguments is None or check.arguments.items() <= call.arguments.items())
    ]
    if check.called == "once":
        return None if len(calls) == 1 else f"{check.call} was called {len(calls)} times, expected once"
    if check.called == "never":
        return f"{check.call} was called, expected never" if calls else None
    assert isinstance(check.called, Before)
    later = next((place for place, call in enumerate(made) if call.worked and call.name == check.called.before), None)
    if later is None or (calls and calls[0] < later):
        return None
    return f"{check.call} was not called before {check.called.before}"


# ---- what was said ----


def answer_alone(said: str, row: TaskRow, made: Sequence[Made]) -> str:
    """An answer without the results that it says back whole, where these hold more than is asked for."""

    def is_asked(value: str) -> bool:
        return any(says(value, wanted) for wanted in row.says) or says(row.instruction, value)

    return without_results(said, [call.output for call in made if call.worked], is_asked)


def says(answer: str, wanted: Said) -> bool:
    """Whether an answer holds words as whole words, or a number within its tolerance."""
    number, tolerance = _said_number(wanted)
    if number is not None:
        found = (float(each.replace(",", "")) for each in _NUMBER.findall(answer))
        return any(math.isclose(each, number, rel_tol=1e-9, abs_tol=tolerance) for each in found)
    return re.search(_word_pattern(str(wanted)), answer, re.IGNORECASE) is not None


def _said_number(wanted: Said) -> tuple[float | None, float]:
    if isinstance(wanted, SaidNumber):
        return wanted.number, wanted.tolerance
    if isinstance(wanted, int | float):
        return float(wanted), 0.0
    plain = wanted.strip().replace(",", "")
    return (
        (float(plain), 0.0)
        if re.fullmatch(r"[-+]?\d+(\.\d+)?", plain) and not _has_leading_zero(plain)
        else (None, 0.0)
    )


def _has_leading_zero(text: str) -> bool:
    return re.match(r"[-+]?0\d", text) is not None  # 0042 is a code, not a number


def _word_pattern(text: str) -> str:
    """Whole words. After Korean a particle may follow, so only a Latin end must be one."""
    words = r"\s+".join(re.escape(word) for word in text.split())
    before = r"(?<!\w)" if re.match(r"\w", text.strip()) else ""
    after = r"(?![A-Za-z0-9_])" if re.search(r"[A-Za-z0-9_]$", text.strip()) else ""
    return before + words + after


def _said_text(wanted: Said) -> str:
    return json.dumps(wanted.number if isinstance(wanted, SaidNumber) else wanted, ensure_ascii=False)


def says_to_answer(row: TaskRow) -> str:
    """An answer that holds everything that a task wants said."""
    return ", ".join(str(each.number if isinstance(each, SaidNumber) else each) for each in row.says) + "."
