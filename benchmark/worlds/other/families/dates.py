"""Dates, weekdays and the days between."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from pydantic import JsonValue

from benchmark.worlds.expert import Look, Plan
from benchmark.worlds.other.families.family import common, family, plan_of
from benchmark.worlds.other.families.tables import person
from benchmark.worlds.other.reckoning import WEEKDAYS
from benchmark.worlds.pools import Draw
from benchmark.worlds.world import Task


def _draw_date(draw: Draw) -> str:
    return f"{draw.number(2020, 2099)}-{draw.number(1, 12):02d}-{draw.number(1, 28):02d}"


def _draw_day(draw: Draw) -> dict[str, JsonValue]:
    return {**common(draw), "date": _draw_date(draw), "days": draw.number(10, 400)}


def _later(day: str, days: int) -> str:
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()


def _plan_later(task: Task) -> Plan:
    p: Any = task.parameters
    answer = _later(p["date"], p["days"])
    return plan_of({p["name"]: answer}, ((Look("add_days", {"date": p["date"], "days": p["days"]}),),))


def _plan_weekday(task: Task) -> Plan:
    p: Any = task.parameters
    answer = WEEKDAYS[date.fromisoformat(p["date"]).weekday()]
    return plan_of({p["name"]: answer}, ((Look("weekday", {"date": p["date"]}),),))


def _draw_between(draw: Draw) -> dict[str, JsonValue]:
    first, second = sorted((_draw_date(draw), _draw_date(draw)))
    return {**common(draw), "start": first, "end": second}


def _plan_between(task: Task) -> Plan:
    p: Any = task.parameters
    answer = str((date.fromisoformat(p["end"]) - date.fromisoformat(p["start"])).days)
    return plan_of({p["name"]: answer}, ((Look("days_between", {"start": p["start"], "end": p["end"]}),),))


def _draw_due(draw: Draw) -> dict[str, JsonValue]:
    person, other, table = draw.person(), draw.bystander(), draw.folder()
    tables: dict[str, JsonValue] = {table: {person: _draw_date(draw), other: _draw_date(draw)}}
    return {**common(draw), "table": table, "tables": tables, "people": [person], "days": draw.number(10, 400)}


def _plan_due(task: Task) -> Plan:
    p: Any = task.parameters
    day = p["tables"][p["table"]][p["people"][0]]
    looks = (
        (Look("look_up", {"table": p["table"], "key": p["people"][0]}),),
        (Look("add_days", {"date": day, "days": p["days"]}),),
    )
    return plan_of({p["name"]: _later(day, p["days"])}, looks)


LATER = family(
    "later", 2, ("add_days", "weekday", "days_between"), _draw_day, _plan_later,
    ('Which date is {days} days after {date}? Save it as "{name}".',
     'Save as "{name}" the date that comes {days} days after {date}.'),
    '{date}에서 {days}일 뒤의 날짜를 "{name}"(으)로 저장하세요.',
    facts=("name", "date"),
)  # fmt: skip


WEEKDAY = family(
    "weekday", 2, ("weekday", "add_days", "days_between"), _draw_day, _plan_weekday,
    ('Which weekday is {date}? Save it in English as "{name}".',
     'Save as "{name}" on which day of the week {date} is (in English).'),
    '{date}의 요일을 영어로 "{name}"에 저장하세요.',
    facts=("name", "date"),
)  # fmt: skip


DUE = family(
    "due", 3, ("look_up", "add_days", "weekday", "list_tables", "reload_table"), _draw_due, _plan_due,
    ('The table "{table}" has a date for {person}. Save as "{name}" the date {days} days later.',
     'Look up the date of {person} in "{table}", add {days} days, and save the result as "{name}".'),
    '"{table}" 표에 있는 {person}의 날짜에서 {days}일 뒤의 날짜를 "{name}"(으)로 저장하세요.',
    phrases=person, facts=("name", "table"),
)  # fmt: skip


BETWEEN = family(
    "between", 2, ("days_between", "add_days", "weekday"), _draw_between, _plan_between,
    ('How many days is it from {start} to {end}? Save the number as "{name}".',),
    '{start}부터 {end}까지 며칠입니까? 숫자를 "{name}"(으)로 저장하세요.',
    facts=("name", "start", "end"), held_out=True,
)  # fmt: skip
