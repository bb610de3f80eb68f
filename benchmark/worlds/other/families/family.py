"""What a family of this world is, and what families share."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import JsonValue

from benchmark.worlds.expert import Act, Look, Plan
from benchmark.worlds.family import Family
from benchmark.worlds.other.troubles import TROUBLES
from benchmark.worlds.pools import Draw
from benchmark.worlds.world import Fault, Task


def plan_of(goals: dict[str, str], looks: Sequence[Sequence[Look]] = ()) -> Plan:
    """The notes that must be saved (none where no tool fits), and what has to be looked up first."""
    saves = tuple(Act("save_note", {"name": name, "text": text}, name) for name, text in goals.items())
    return Plan(goals, (*looks, saves))


@dataclass(frozen=True)
class OtherFamily(Family):
    """A family with its way."""

    plan: Callable[[Task], Plan] = lambda task: Plan({})


Choice = TypeVar("Choice")


def choice_of(name: str, options: Sequence[Choice]) -> Choice:
    """One of the constants of a family. A drawn name decides, because train and test tasks would share a parameter."""
    return options[zlib.crc32(name.encode("utf-8")) % len(options)]


def common(draw: Draw) -> dict[str, JsonValue]:
    """The note to save, one to leave alone, and what faults need."""
    return {
        "name": draw.word(),
        "kept": draw.word(),
        "kept_text": f"{draw.bystander()} {draw.number(10, 99)}",
        "spare": draw.word(),
        "wait_s": draw.number(100, 300),
    }


_ELSE = {
    "en": ' If no tool fits, call none and answer "no tool".',
    "ko": ' 맞는 도구가 없으면 호출하지 말고 "도구 없음"이라고 답하세요.',
}
_NOTES = ("save_note", "read_note", "delete_note", "unlock_note", "sign_in", "wait")
TABLES = ("look_up", "list_tables", "reload_table")


def _faults_of(tool: str) -> tuple[Fault, ...]:
    at_tool = TROUBLES.faults("looking up" if tool == "look_up" else "reckoning", tool) if tool in _NEEDED else ()
    return (*at_tool, *TROUBLES.faults("saving", "save_note"))


def family(
    name: str,
    tier: int,
    tools: tuple[str, ...],
    draw: Callable[[Draw], dict[str, JsonValue]],
    plan: Callable[[Task], Plan],
    english: tuple[str, ...],
    korean: str,
    *,
    facts: tuple[str, ...] = ("name",),
    **more: Any,
) -> OtherFamily:
    """A family of this world: the first of `tools` is the one that it needs, notes are always there."""
    return OtherFamily(
        name=name,
        tier=tier,
        tools=(*tools, *_NOTES),
        draw=draw,
        english=tuple(sentence + _ELSE["en"] for sentence in english),
        korean=korean + _ELSE["ko"],
        facts=facts,
        faults=_faults_of(tools[0]) if tier else (),
        plan=plan,
        **more,
    )


_NEEDED = (
    "convert_unit", "convert_temperature", "add_days", "weekday", "days_between", "look_up", "multiply", "count_words",
    "sort_words", "reverse_words",
)  # fmt: skip
