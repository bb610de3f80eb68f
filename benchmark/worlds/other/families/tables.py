"""What tables say."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from pydantic import JsonValue

from benchmark.worlds.expert import Look, Plan
from benchmark.worlds.other.families.family import TABLES, common, family, plan_of
from benchmark.worlds.pools import Draw
from benchmark.worlds.world import Task


def draw_look_up(draw: Draw, *, rows: int, asked: int = 1) -> dict[str, JsonValue]:
    """A table of people, the first `asked` of whom the task is about. Sorted, so that the order tells nothing."""
    people = [draw.person() if place < asked else draw.bystander() for place in range(rows)]
    table = draw.folder()
    values: dict[str, JsonValue] = {person: str(draw.number(1000, 9999)) for person in sorted(people)}
    return {**common(draw), "table": table, "tables": {table: values}, "people": list(people[:asked])}


def person(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    return {"person": p["people"][0]}


def _plan_look_up(task: Task) -> Plan:
    p: Any = task.parameters
    person = p["people"][0]
    move = Look("look_up", {"table": p["table"], "key": person})
    return plan_of({p["name"]: p["tables"][p["table"]][person]}, ((move,),))


def _draw_six(draw: Draw) -> dict[str, JsonValue]:
    names: list[JsonValue] = [draw.word() for _ in range(6)]
    return {**draw_look_up(draw, rows=9, asked=6), "names": names}


def _six_words(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    arrow = " → " if language == "ko" else " as "
    return {"list": ", ".join(f'{person}{arrow}"{name}"' for person, name in zip(p["people"], p["names"], strict=True))}


def _plan_six(task: Task) -> Plan:
    p: Any = task.parameters
    rows = p["tables"][p["table"]]
    goals = {name: rows[person] for person, name in zip(p["people"], p["names"], strict=True)}
    return plan_of(goals, (tuple(Look("look_up", {"table": p["table"], "key": person}) for person in p["people"]),))


def _draw_chain(draw: Draw) -> dict[str, JsonValue]:
    """Three tables, in which what one says is the key in the next."""
    person, other, team, other_team, room, other_room = (
        *(draw.person(), draw.bystander()),
        *(draw.word(), draw.word()),
        *(draw.city(), draw.city()),
    )
    first, second, third = draw.folder(), draw.folder(), draw.folder()
    tables: dict[str, JsonValue] = {
        first: {person: team, other: other_team},
        second: {team: room, other_team: other_room},
        third: {room: str(draw.number(1000, 9999)), other_room: str(draw.number(1000, 9999))},
    }
    steps: list[JsonValue] = [first, person, second, team, third, room]
    return {**common(draw), "tables": tables, "steps": steps}


def _chain_words(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    first, person, second, _, third, _ = p["steps"]
    return {"person": person, "first": first, "second": second, "third": third}


def _plan_chain(task: Task) -> Plan:
    p: Any = task.parameters
    steps = p["steps"]
    pairs = list(zip(steps[::2], steps[1::2], strict=True))
    looks = tuple((Look("look_up", {"table": table, "key": key}),) for table, key in pairs)
    table, key = pairs[-1]
    return plan_of({p["name"]: p["tables"][table][key]}, looks)


def _draw_bill(draw: Draw) -> dict[str, JsonValue]:
    items: list[str] = [draw.item() for _ in range(5)]
    table = draw.folder()
    prices: dict[str, JsonValue] = {item: str(draw.number(10, 999)) for item in items}
    return {**common(draw), "table": table, "tables": {table: prices}, "items": list(items[:3])}


def _bill_words(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    return {"list": ", ".join(p["items"])}


def _plan_bill(task: Task) -> Plan:
    p: Any = task.parameters
    a, b, c = (p["tables"][p["table"]][item] for item in p["items"])
    two, three = str(int(a) + int(b)), str(int(a) + int(b) + int(c))
    looks = tuple(Look("look_up", {"table": p["table"], "key": item}) for item in p["items"])
    return plan_of({p["name"]: three}, (looks, (Look("add", {"a": a, "b": b}),), (Look("add", {"a": two, "b": c}),)))


LOOK_UP = family(
    "look-up", 2, (*TABLES, "count_words"), partial(draw_look_up, rows=5), _plan_look_up,
    ('What does the table "{table}" say for {person}? Save it as "{name}".',
     'Save the entry of {person} in the table "{table}" as "{name}".'),
    '"{table}" 표에서 {person}의 값을 찾아 "{name}"(으)로 저장하세요.',
    phrases=person, facts=("name", "table"),
)  # fmt: skip


CHAIN = family(
    "chain", 4, (*TABLES, "add"), _draw_chain, _plan_chain,
    ('Look up {person} in "{first}", what you find there in "{second}", and what you find there in "{third}". Save '
     'the last as "{name}".',),
    '"{first}" 표에서 {person}을(를) 찾고, 그 값을 "{second}"에서, 다시 그 값을 "{third}"에서 찾아 '
    '"{name}"(으)로 저장하세요.',
    phrases=_chain_words,
)  # fmt: skip


BILL = family(
    "bill", 6, ("look_up", "add", "multiply", "list_tables", "reload_table"), _draw_bill, _plan_bill,
    ('What do these cost together at the prices of the table "{table}": {list}? Save the sum as "{name}".',
     'Add up the prices of {list} from the table "{table}" and save the sum as "{name}".'),
    '"{table}" 표의 가격으로 {list}의 합계를 구해 "{name}"(으)로 저장하세요.',
    phrases=_bill_words, facts=("name", "table"),
)  # fmt: skip


SIX = family(
    "six", 12, TABLES, _draw_six, _plan_six,
    ('Look these up in the table "{table}" and save each entry as a note: {list}.',),
    '"{table}" 표에서 다음을 찾아 각각 메모로 저장하세요: {list}.',
    phrases=_six_words, facts=("table",),
)  # fmt: skip
