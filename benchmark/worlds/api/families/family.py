"""What a family of the API world is, and what its shops and ways are made of.

A way is a row of stages; the steps of a stage need nothing of each other, so their calls can be made in one turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from benchmark.worlds.api.expert import Goal
from benchmark.worlds.api.site import Rules
from benchmark.worlds.api.troubles import TROUBLES
from benchmark.worlds.expert import Act, Later, Step
from benchmark.worlds.family import Family
from benchmark.worlds.pools import Draw
from benchmark.worlds.world import Fault, Task

Stages = tuple[tuple[Step, ...], ...]


def draw_access(draw: Draw) -> dict[str, JsonValue]:
    """What every shop has: who may come in, and what faults need. `token` is the first token that is good."""
    tokens: list[JsonValue] = [draw.word() for _ in range(3)]
    return {
        "client": draw.folder(),
        "secret": draw.word(),
        "tokens": tokens,
        "token": tokens[0],
        "refresh": draw.word(),
        "cursors": [draw.word() for _ in range(3)],
        "new_id": str(draw.number(100, 999)),
        "spare": draw.word(),
        "retry_s": draw.number(5, 60),
    }


def draw_key(draw: Draw) -> str:
    return f"{draw.word()}-{draw.number(100, 999)}"


def draw_orders(draw: Draw, rows: int, subject: int | None = None) -> list[dict[str, str]]:
    """`subject` is the row whose customer the instruction names, if it names one."""
    return [
        {
            "id": str(draw.number(10, 99)),
            "customer": draw.person() if row == subject else draw.bystander(),
            "item": draw.item(),
            "city": draw.city(),
        }
        for row in range(rows)
    ]


def draw_customers(draw: Draw, *names: str) -> list[dict[str, str]]:
    return [draw_customer(draw, name, draw.city()) for name in names]


def draw_customer(draw: Draw, name: str, city: str) -> dict[str, str]:
    phone, version = str(draw.number(1000, 9999)), str(draw.number(100, 999))
    return {"id": name, "city": city, "phone": phone, "code": draw_key(draw), "version": version}


def draw_items(draw: Draw, count: int) -> list[dict[str, str]]:
    return [
        {
            "id": draw.item(),
            "price": str(draw.number(100, 999)),
            "count": str(draw.number(1000, 9999)),
            "version": str(draw.number(100, 999)),
        }
        for _ in range(count)
    ]


def draw_charges(draw: Draw, customers: Sequence[str]) -> list[dict[str, str]]:
    return [
        {"id": str(draw.number(1000, 9999)), "customer": name, "amount": str(draw.number(100, 999))}
        for name in customers
    ]


def draw_shop(draw: Draw, **more: Any) -> dict[str, JsonValue]:
    return {**draw_access(draw), **more}


def charge_customer(p: Any, customer: str = "customer", amount: str = "amount", key: str = "key") -> Act:
    given = {"customer": p[customer], "amount": p[amount], "key": p[key]}
    return Act("charge_customer", given, Goal("charges", {**given, "amount": str(p[amount])}))


def send_message(to: str, text: str, key: str) -> Act:
    given = {"to": to, "text": text, "key": key}
    return Act("send_message", given, Goal("messages", given))


def set_count(item: str, count: int) -> Act:
    given = {"item": item, "count": count, "version": Later("get_item", {"item": item}, "version")}
    return Act("set_count", given, Goal("items", {"id": item, "count": str(count)}))


def refund_charge(charge: str, key: str) -> Act:
    return Act("refund_charge", {"id": charge, "key": key}, Goal("refunds", {"charge": charge, "key": key}))


def draw_charge(draw: Draw) -> dict[str, JsonValue]:
    customer, other = draw.person(), draw.bystander()
    return draw_shop(
        draw,
        customers=draw_customers(draw, customer, other),
        customer=customer,
        other=other,
        amount=draw.number(100, 999),
        key=draw_key(draw),
    )


def draw_stock(draw: Draw) -> dict[str, JsonValue]:
    items = draw_items(draw, 3)
    item, other = draw.random.sample(items, 2)
    of_item = {"item": item["id"], "version": item["version"], "count": draw.number(1000, 9999)}
    return draw_shop(draw, items=items, other=other["id"], **of_item)


@dataclass(frozen=True)
class ApiFamily(Family):
    """A family with its way, which also holds its goals; what is special in its shop; and the documents there."""

    stages: Callable[[Any], Stages] = lambda p: ()
    rules: Rules = field(default_factory=Rules)
    documents: Callable[[Task], dict[str, str]] = lambda task: {}


def faults(tool: str, *kinds: str, nth: int = 0) -> tuple[Fault, ...]:
    return tuple(Fault(kind, tool, nth) for kind in kinds)


REFUSALS = TROUBLES.at("refusing")
ONCE = TROUBLES.at("keyed")
"""What may strike a call with an idempotency key."""
AT_READING = TROUBLES.at("reading")
REFRESH = ("refresh_token", "wait")
