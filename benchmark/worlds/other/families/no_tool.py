"""What no tool of this world can do: acts, and questions whose answer stands nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from pydantic import JsonValue

from benchmark.worlds.expert import Plan
from benchmark.worlds.other.families.family import TABLES, choice_of, family, plan_of
from benchmark.worlds.other.families.tables import draw_look_up
from benchmark.worlds.pools import Draw
from benchmark.worlds.world import Task

# What no tool of this world can do: acts, and questions whose answer stands nowhere.
_ACTS = (
    ("Book a flight to {city} for {person}.", "{person}의 {city}행 항공편을 예약하세요."),
    ("Call {person} in {city} on the phone.", "{city}에 있는 {person}에게 전화를 거세요."),
    ("Send {person} in {city} an e-mail.", "{city}에 있는 {person}에게 이메일을 보내세요."),
    ("Take a photo of {person} in {city}.", "{city}에서 {person}의 사진을 찍으세요."),
    ("Print a map of {city} for {person}.", "{person}을(를) 위해 {city} 지도를 인쇄하세요."),
    ("Reserve a table in {city} for {person}.", "{city}의 식당에 {person} 이름으로 자리를 예약하세요."),
)
_QUESTIONS = (
    (
        'How warm is it in {city} now? Save it as "{name}".',
        '지금 {city}의 기온을 "{name}"(으)로 저장하세요.',
    ),
    (
        'What does {person} in {city} do right now? Save it as "{name}".',
        '{city}의 {person}이(가) 지금 하는 일을 "{name}"(으)로 저장하세요.',
    ),
    (
        'Who is ahead in the game in {city}? Save it as "{name}".',
        '지금 {city} 경기에서 이기는 팀을 "{name}"(으)로 저장하세요.',
    ),
    (
        'How long is the queue at the airport of {city}? Save it as "{name}".',
        '지금 {city} 공항의 대기 시간을 "{name}"(으)로 저장하세요.',
    ),
)


def _draw_no_tool(draw: Draw) -> dict[str, JsonValue]:
    return {**draw_look_up(draw, rows=3), "city": draw.city()}


def _no_tool_words(p: Any, language: Literal["en", "ko"], *, options: Sequence[tuple[str, str]]) -> dict[str, str]:
    pattern = choice_of(p["name"], options)[1 if language == "ko" else 0]
    return {"request": pattern.format(city=p["city"], person=p["people"][0], name=p["name"])}


def _plan_no_tool(task: Task) -> Plan:
    return plan_of({})


NO_TOOL_ACT = family(
    "no-tool-act", 0, (*TABLES, "add_days", "weekday"), _draw_no_tool, _plan_no_tool, ("{request}",), "{request}",
    phrases=partial(_no_tool_words, options=_ACTS), facts=(),
)  # fmt: skip


NO_TOOL_QUESTION = family(
    "no-tool-question", 0, (*TABLES, "convert_unit", "convert_temperature"), _draw_no_tool, _plan_no_tool,
    ("{request}",), "{request}",
    phrases=partial(_no_tool_words, options=_QUESTIONS), facts=(),
)  # fmt: skip
