"""The families of the API world: what their shops hold, what they ask for, and the expert's way through them.

A way is a row of stages; the steps of a stage need nothing of each other, so their calls can be made in one turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from pydantic import JsonValue

from benchmark.worlds.api.expert import Act, Goal, GraphWalk, Look, Report, Step, Walk, quoted
from benchmark.worlds.api.site import SCHEMA, Rules
from benchmark.worlds.family import CONTEXT_TOKENS, Family
from benchmark.worlds.pools import Draw, filler
from benchmark.worlds.world import Fault, Task

Stages = tuple[tuple[Step, ...], ...]


# Shops.


def _draw_access(draw: Draw) -> dict[str, JsonValue]:
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


def _draw_key(draw: Draw) -> str:
    return f"{draw.word()}-{draw.number(100, 999)}"


def _draw_orders(draw: Draw, rows: int, subject: int | None = None) -> list[dict[str, str]]:
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


def _draw_customers(draw: Draw, *names: str) -> list[dict[str, str]]:
    return [_draw_customer(draw, name, draw.city()) for name in names]


def _draw_customer(draw: Draw, name: str, city: str) -> dict[str, str]:
    phone, version = str(draw.number(1000, 9999)), str(draw.number(100, 999))
    return {"id": name, "city": city, "phone": phone, "code": _draw_key(draw), "version": version}


def _draw_items(draw: Draw, count: int) -> list[dict[str, str]]:
    return [
        {
            "id": draw.item(),
            "price": str(draw.number(100, 999)),
            "count": str(draw.number(1000, 9999)),
            "version": str(draw.number(100, 999)),
        }
        for _ in range(count)
    ]


def _draw_charges(draw: Draw, customers: Sequence[str]) -> list[dict[str, str]]:
    return [
        {"id": str(draw.number(1000, 9999)), "customer": name, "amount": str(draw.number(100, 999))}
        for name in customers
    ]


def _draw(draw: Draw, **more: Any) -> dict[str, JsonValue]:
    return {**_draw_access(draw), **more}


# The families of short tasks.


def _draw_create(draw: Draw) -> dict[str, JsonValue]:
    return _draw(draw, orders=_draw_orders(draw, 2), customer=draw.person(), item=draw.item())


def _draw_update(draw: Draw, *, rows: int, first: int = 0) -> dict[str, JsonValue]:
    """`first` is the first row that the order to change may stand in."""
    subject = draw.random.randrange(first, rows)
    access: Any = _draw_access(draw)
    orders = _draw_orders(draw, rows, subject)
    row = orders[subject]
    cursor = access["cursors"][0]
    return {
        **access,
        "orders": list(orders),
        "id": row["id"],
        "customer": row["customer"],
        "city": draw.city(),
        "cursor": cursor,
    }


def _draw_reorder(draw: Draw) -> dict[str, JsonValue]:
    orders = _draw_orders(draw, 2)
    row = draw.random.choice(orders)
    return _draw(draw, orders=orders, id=row["id"], item=row["item"], customer=draw.person())


def _draw_two(draw: Draw) -> dict[str, JsonValue]:
    orders = _draw_orders(draw, 2)
    first, second = draw.random.sample(orders, 2)
    return _draw(
        draw,
        orders=orders,
        customer=first["customer"],
        id=first["id"],
        customer_2=second["customer"],
        id_2=second["id"],
        city=draw.city(),
    )


def _create(p: Any) -> Act:
    given = {"customer": p["customer"], "item": p["item"]}
    return Act("create_order", given, Goal("orders", given))


def _update(p: Any, order: str = "id") -> Act:
    given = {"id": p[order], "city": p["city"]}
    return Act("update_order", given, Goal("orders", given))


def _find_update(p: Any) -> Stages:
    return (Walk("list_orders", p["customer"]),), (_update(p),)


# The others.


def _charge(p: Any, customer: str = "customer", amount: str = "amount", key: str = "key") -> Act:
    given = {"customer": p[customer], "amount": p[amount], "key": p[key]}
    return Act("charge_customer", given, Goal("charges", {**given, "amount": str(p[amount])}))


def _message(to: str, text: str, key: str) -> Act:
    given = {"to": to, "text": text, "key": key}
    return Act("send_message", given, Goal("messages", given))


def _count(item: str, count: int) -> Act:
    return Act("set_count", {"item": item, "count": count}, Goal("items", {"id": item, "count": str(count)}))


def _refund(charge: str, key: str) -> Act:
    return Act("refund_charge", {"id": charge, "key": key}, Goal("refunds", {"charge": charge, "key": key}))


def _mutation(field: str, goal: Goal, **given: str) -> Act:
    """`field` is the name of the mutation; every argument is text."""
    arguments = ", ".join(f"{name}: {quoted(value)}" for name, value in given.items())
    return Act("graphql", {"query": f"mutation {{ {field}({arguments}) {{ id }} }}"}, goal)


def _set_city(order: str, city: str) -> Act:
    return _mutation("setCity", Goal("orders", {"id": order, "city": city}), order=order, city=city)


def _draw_charge(draw: Draw) -> dict[str, JsonValue]:
    customer, other = draw.person(), draw.bystander()
    return _draw(
        draw,
        customers=_draw_customers(draw, customer, other),
        customer=customer,
        other=other,
        amount=draw.number(100, 999),
        key=_draw_key(draw),
    )


def _draw_messages(draw: Draw, *, count: int) -> dict[str, JsonValue]:
    people = [draw.bystander() for _ in range(count)]
    return _draw(
        draw,
        people=people,
        keys=[_draw_key(draw) for _ in people],
        other=draw.bystander(),
        text=f"{draw.word()} {draw.item()} {draw.number(100, 999)}",
        window_s=draw.number(61, 120),
    )


def _list_words(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    return {
        "list": ", ".join(f'"{person}"' for person in p.get("people", ())),
        "keys_list": ", ".join(f'"{key}"' for key in p["keys"]),
    }


def _messages(p: Any) -> tuple[Step, ...]:
    return tuple(_message(person, p["text"], key) for person, key in zip(p["people"], p["keys"], strict=True))


def _draw_stock(draw: Draw) -> dict[str, JsonValue]:
    items = _draw_items(draw, 3)
    item, other = draw.random.sample(items, 2)
    of_item = {"item": item["id"], "version": item["version"], "count": draw.number(1000, 9999)}
    return _draw(draw, items=items, other=other["id"], **of_item)


def _draw_profile(draw: Draw) -> dict[str, JsonValue]:
    customers = _draw_customers(draw, draw.person(), draw.bystander())
    return _draw(
        draw,
        customers=customers,
        customer=customers[0]["id"],
        version=customers[0]["version"],
        other=customers[1]["id"],
        city=draw.city(),
    )


def _change_city(p: Any) -> Act:
    given = {"name": p["customer"], "field": "city", "value": p["city"]}
    return Act("change_customer", given, Goal("customers", {"id": p["customer"], "city": p["city"]}))


def _draw_graph(draw: Draw, *, rows: int = 3, first: int = 0) -> dict[str, JsonValue]:
    subject = draw.random.randrange(first, rows)
    orders = _draw_orders(draw, rows, subject)
    customers = [_draw_customer(draw, row["customer"], row["city"]) for row in orders]
    access: Any = _draw_access(draw)
    row = orders[subject]
    return {
        **access,
        "orders": list(orders),
        "customers": list(customers),
        "cursor": access["cursors"][0],
        "id": row["id"],
        "customer": row["customer"],
        "city": draw.city(),
    }


def _schema_words(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    return {"schema": " ".join(SCHEMA.split())}


def _ask(field: str, of: str, wanted: str) -> Look:
    return Look("graphql", {"query": f"{{ {field}(name: {quoted(of)}) {{ {wanted} }} }}"})


def _draw_cheaper(draw: Draw) -> dict[str, JsonValue]:
    items = _draw_items(draw, 3)
    first, second = draw.random.sample(items, 2)
    cheaper = min(first, second, key=lambda item: int(item["price"]))
    return _draw(draw, items=items, first=first["id"], second=second["id"], item=cheaper["id"], customer=draw.person())


def _draw_report(draw: Draw) -> dict[str, JsonValue]:
    return _draw(
        draw,
        report=draw.folder(),
        job=str(draw.number(1000, 9999)),
        ready_s=draw.number(61, 300),
        total=str(draw.number(10000, 99999)),
        person=draw.person(),
        key=_draw_key(draw),
    )


def _draw_refund(draw: Draw, *, rows: int, first: int) -> dict[str, JsonValue]:
    subject = draw.random.randrange(first, rows)
    people = [draw.person() if row == subject else draw.bystander() for row in range(rows)]
    charges = _draw_charges(draw, people)
    access: Any = _draw_access(draw)
    return {
        **access,
        "charges": list(charges),
        "cursor": access["cursors"][first // 2 - 1],
        "customer": people[subject],
        "charge": charges[subject]["id"],
        "key": _draw_key(draw),
    }


def _draw_recall(draw: Draw) -> dict[str, JsonValue]:
    person, other = draw.person(), draw.bystander()
    customers = _draw_customers(draw, person, other)
    return _draw(
        draw,
        customers=customers,
        person=person,
        code=customers[0]["code"],
        document=draw.folder(),
        desk=draw.word(),
        key=_draw_key(draw),
    )


def _draw_recall_charge(draw: Draw) -> dict[str, JsonValue]:
    recall: Any = _draw_recall(draw)
    payer = recall["customers"][1]["id"]
    return {**recall, "payer": payer, "amount": draw.number(100, 999)}


def _document(line: str) -> Callable[[Task], dict[str, str]]:
    """A document whose last line has to be read, below much that has not."""

    def documents(task: Task) -> dict[str, str]:
        text = filler(task.id, task.split, task.context_tokens)
        return {str(task.parameters["document"]): f"{text}\n{line.format(**task.parameters)}"}

    return documents


def _draw_checkout(draw: Draw) -> dict[str, JsonValue]:
    return {**_draw_recall(draw), **_draw_stock(draw), "amount": draw.number(100, 999), "key_2": _draw_key(draw)}


def _plan_checkout(p: Any) -> Stages:
    return (
        (Look("get_customer", {"name": p["person"]}), Look("get_item", {"item": p["item"]})),
        (
            _count(p["item"], p["count"]),
            _charge(p, customer="person"),
            _message(p["desk"], p["code"], p["key_2"]),
        ),
    )


def _draw_close_account(draw: Draw) -> dict[str, JsonValue]:
    customer, others = draw.person(), [draw.bystander(), draw.bystander()]
    names = [customer] * 4 + others
    draw.random.shuffle(names)
    charges = _draw_charges(draw, names)
    customers = _draw_customers(draw, customer, *others)
    return _draw(
        draw,
        charges=charges,
        customers=customers,
        customer=customer,
        ids=[charge["id"] for charge in charges if charge["customer"] == customer],
        keys=[_draw_key(draw) for _ in range(4)],
        amount=draw.number(100, 999),
        key=_draw_key(draw),
        desk=draw.word(),
        code=customers[0]["code"],
        key_2=_draw_key(draw),
    )


def _plan_close_account(p: Any) -> Stages:
    return (
        (Walk("list_charges"),),
        tuple(_refund(charge, key) for charge, key in zip(p["ids"], p["keys"], strict=True)),
        (_charge(p), Look("get_customer", {"name": p["customer"]})),
        (_message(p["desk"], p["code"], p["key_2"]),),
    )


def _draw_follow(draw: Draw) -> dict[str, JsonValue]:
    graph: Any = _draw_graph(draw)
    host = next(row for row in graph["customers"] if row["id"] != graph["customer"])
    return {**graph, "host": host["id"], "city": host["city"]}


def _draw_swap(draw: Draw) -> dict[str, JsonValue]:
    items = _draw_items(draw, 3)
    first, second = draw.random.sample(items, 2)
    return _draw(
        draw,
        items=items,
        item=first["id"],
        version=first["version"],
        count=draw.number(1000, 9999),
        item_2=second["id"],
        version_2=second["version"],
        count_2=draw.number(1000, 9999),
    )


def _draw_graph_order(draw: Draw) -> dict[str, JsonValue]:
    return {**_draw_graph(draw), "item": draw.item(), "key": _draw_key(draw)}


@dataclass(frozen=True)
class ApiFamily(Family):
    """A family with its way, which also holds its goals; what is special in its shop; and the documents there."""

    stages: Callable[[Any], Stages] = lambda p: ()
    rules: Rules = field(default_factory=Rules)
    documents: Callable[[Task], dict[str, str]] = lambda task: {}


def _faults(tool: str, *kinds: str, nth: int = 0) -> tuple[Fault, ...]:
    return tuple(Fault(kind, tool, nth) for kind in kinds)


_REFUSALS = ("server_error", "timeout", "rate_limited", "service_down")
_ONCE = (*_REFUSALS, "lost_answer", "expired_token")
"""What may strike a call with an idempotency key."""
_AT_READING = ("malformed", *_REFUSALS)
_REFRESH = ("refresh_token", "wait")

FAMILIES: tuple[ApiFamily, ...] = (
    ApiFamily(
        name="create",
        tier=1,
        is_short=True,
        tools=("create_order", "get_token", "wait"),
        draw=_draw_create,
        english=(
            'Token "{token}", client "{client}", secret "{secret}": order "{item}" for "{customer}".',
            'Order "{item}" for "{customer}". Token "{token}", client "{client}", secret "{secret}".',
        ),
        korean='토큰 "{token}", client "{client}", secret "{secret}": "{customer}"에게 "{item}" 주문을 만드세요.',
        facts=("token", "customer", "item"),
        faults=_faults("create_order", "expired_token", "rate_limited", "server_error"),
        stages=lambda p: ((_create(p),),),
    ),
    ApiFamily(
        name="update",
        tier=1,
        is_short=True,
        tools=("update_order", "get_token", "wait"),
        draw=partial(_draw_update, rows=2),
        english=(
            'Token "{token}", client "{client}", secret "{secret}": order "{id}" goes to "{city}".',
            'Order "{id}" goes to "{city}". Token "{token}", client "{client}", secret "{secret}".',
        ),
        korean='토큰 "{token}", client "{client}", secret "{secret}": 주문 "{id}"의 도시를 "{city}"(으)로 바꾸세요.',
        facts=("token", "id", "city"),
        faults=_faults("update_order", "expired_token", "rate_limited", "server_error"),
        stages=lambda p: ((_update(p),),),
    ),
    ApiFamily(
        name="login-create",
        tier=2,
        is_short=True,
        tools=("get_token", "create_order", "wait"),
        draw=_draw_create,
        english=(
            'Client "{client}", secret "{secret}": order "{item}" for "{customer}".',
            'Order "{item}" for "{customer}" as client "{client}" with secret "{secret}".',
        ),
        korean='client "{client}", secret "{secret}": "{customer}"에게 "{item}" 주문을 만드세요.',
        facts=("client", "secret", "token", "customer", "item"),
        faults=(*_faults("get_token", "server_error", "malformed"), *_faults("create_order", "server_error")),
        stages=lambda p: ((_create(p),),),
    ),
    ApiFamily(
        name="find-update",
        tier=2,
        is_short=True,
        tools=("list_orders", "update_order", "wait"),
        draw=partial(_draw_update, rows=2),
        english=(
            'Token "{token}": the order of "{customer}" goes to "{city}".',
            'Change the city of the order of "{customer}" to "{city}", token "{token}".',
        ),
        korean='토큰 "{token}": "{customer}"의 주문 도시를 "{city}"(으)로 바꾸세요.',
        facts=("token", "id", "city"),
        faults=(*_faults("list_orders", "server_error", "malformed"), *_faults("update_order", "server_error")),
        stages=_find_update,
    ),
    ApiFamily(
        name="reorder",
        tier=2,
        is_short=True,
        tools=("get_order", "create_order", "wait"),
        draw=_draw_reorder,
        english=(
            'Token "{token}": order for "{customer}" the item of order "{id}".',
            'Order the item of order "{id}" for "{customer}" too, token "{token}".',
        ),
        korean='토큰 "{token}": 주문 "{id}"의 item을 "{customer}"에게도 주문하세요.',
        facts=("token", "id", "item", "customer"),
        faults=(*_faults("get_order", "server_error", "malformed"), *_faults("create_order", "server_error")),
        stages=lambda p: ((Look("get_order", {"id": p["id"]}),), (_create(p),)),
    ),
    ApiFamily(
        name="login-find-update",
        tier=3,
        is_short=True,
        tools=("get_token", "list_orders", "update_order"),
        draw=partial(_draw_update, rows=2),
        english=(
            'Client "{client}", secret "{secret}": the order of "{customer}" goes to "{city}".',
            'The order of "{customer}" goes to "{city}". Client "{client}", secret "{secret}".',
        ),
        korean='client "{client}", secret "{secret}": "{customer}"의 주문 도시를 "{city}"(으)로 바꾸세요.',
        facts=("secret", "token", "id", "city"),
        faults=(*_faults("list_orders", "expired_token", "malformed"), *_faults("update_order", "moved", "timeout")),
        stages=_find_update,
    ),
    ApiFamily(
        name="pages",
        tier=3,
        is_short=True,
        tools=("list_orders", "update_order", "wait"),
        draw=partial(_draw_update, rows=3, first=2),
        english=('Token "{token}": the order of "{customer}" goes to "{city}".',),
        korean='토큰 "{token}": 여러 쪽인 목록에서 "{customer}"의 주문을 찾아 도시를 "{city}"(으)로 바꾸세요.',
        facts=("token", "cursor", "id", "city"),
        faults=(
            *_faults("list_orders", "stale_cursor", "malformed", "rate_limited", nth=1),
            *_faults("update_order", "moved", "service_down"),
        ),
        stages=_find_update,
    ),
    ApiFamily(
        name="two",
        tier=3,
        is_short=True,
        tools=("list_orders", "update_order", "wait"),
        draw=_draw_two,
        english=('Token "{token}": the orders of "{customer}" and "{customer_2}" go to "{city}".',),
        korean='토큰 "{token}": "{customer}"와(과) "{customer_2}"의 주문 도시를 "{city}"(으)로 바꾸세요.',
        facts=("token", "id", "id_2", "city"),
        faults=(*_faults("update_order", "moved", "timeout", "server_error"), *_faults("list_orders", "service_down")),
        stages=lambda p: (
            (Walk("list_orders", p["customer"]),),
            (Walk("list_orders", p["customer_2"]),),
            (_update(p),),
            (_update(p, "id_2"),),
        ),
    ),
    ApiFamily(
        name="charge",
        tier=1,
        tools=("refund_charge", "charge_customer", "list_charges", *_REFRESH),
        draw=_draw_charge,
        english=(
            'Charge "{customer}" {amount}, exactly once, with the idempotency key "{key}"; "{other}" pays nothing. '
            'Token "{token}", refresh token "{refresh}".',
            'Token "{token}", refresh token "{refresh}". One charge of {amount} for "{customer}", none for "{other}"; '
            'the idempotency key is "{key}".',
        ),
        korean='토큰 "{token}", refresh 토큰 "{refresh}": "{other}"이(가) 아니라 "{customer}"에게 {amount}을(를) 한 번만 '
        '청구하세요. idempotency key는 "{key}"입니다.',
        facts=("token", "customer", "key"),
        faults=_faults("charge_customer", *_ONCE),
        stages=lambda p: ((_charge(p),),),
    ),
    ApiFamily(
        name="graph-city",
        tier=1,
        tools=("graphql", "get_order", "delete_order", "wait"),
        draw=_draw_graph,
        english=(
            'Token "{token}": with a GraphQL mutation, let order "{id}" go to "{city}". The schema: {schema}',
            'The GraphQL schema is: {schema} Use it to change the city of order "{id}" to "{city}", token "{token}".',
        ),
        korean='토큰 "{token}": GraphQL mutation으로 주문 "{id}"의 도시를 "{city}"(으)로 바꾸세요. 스키마: {schema}',
        phrases=_schema_words,
        facts=("token", "id", "city"),
        faults=_faults("graphql", "malformed", "lost_answer", *_REFUSALS),
        stages=lambda p: ((_set_city(p["id"], p["city"]),),),
    ),
    ApiFamily(
        name="refresh-charge",
        tier=2,
        tools=("get_token", "refresh_token", "charge_customer", "list_charges", "wait"),
        draw=_draw_charge,
        english=(
            'The token has ended; the refresh token is "{refresh}" (client "{client}", secret "{secret}" if that has ended, '
            'too). Charge "{customer}" {amount}, not "{other}", with the idempotency key "{key}".',
        ),
        korean='토큰이 만료되었습니다. refresh 토큰은 "{refresh}"이고, 그것도 만료되었으면 client "{client}", secret '
        '"{secret}"을(를) 쓰세요. "{other}"이(가) 아니라 "{customer}"에게 idempotency key "{key}"(으)로 {amount}을(를) '
        "청구하세요.",
        facts=("refresh", "token", "customer", "key"),
        faults=(
            *_faults("refresh_token", "invalid_grant", "server_error"),
            *_faults("charge_customer", "expired_token", "lost_answer", "service_down"),
        ),
        stages=lambda p: ((_charge(p),),),
    ),
    ApiFamily(
        name="stock",
        tier=2,
        tools=("set_count", "get_item", "delete_order", "wait", "refresh_token"),
        draw=_draw_stock,
        english=(
            'Set the count of "{item}" to {count} and leave "{other}" alone. Token "{token}", refresh token "{refresh}".',
            'Token "{token}", refresh token "{refresh}": there are {count} of "{item}" now, not of "{other}". Set the count.',
        ),
        korean='토큰 "{token}", refresh 토큰 "{refresh}": "{item}"의 수량을 {count}(으)로 바꾸세요. "{other}"은(는) 그대로 '
        "두세요.",
        facts=("token", "item", "version"),
        faults=(
            *_faults("get_item", "moved", "malformed", "expired_token"),
            *_faults("set_count", "version_conflict", "moved", "service_down", "timeout"),
        ),
        stages=lambda p: ((_count(p["item"], p["count"]),),),
    ),
    ApiFamily(
        name="profile",
        tier=2,
        tools=("get_customer", "change_customer", "get_order", "wait"),
        draw=_draw_profile,
        english=(
            'Token "{token}": change the field "city" of the customer "{customer}" to "{city}", not that of "{other}".',
            'The customer "{customer}" (not "{other}") moves to "{city}". Change the field "city", token "{token}".',
        ),
        korean='토큰 "{token}": "{other}"이(가) 아니라 고객 "{customer}"의 "city" 필드를 "{city}"(으)로 바꾸세요.',
        facts=("token", "customer", "city", "version"),
        faults=(
            *_faults("get_customer", "moved", "malformed", "rate_limited"),
            *_faults("change_customer", "renamed_field", "version_conflict", "moved", "server_error"),
        ),
        stages=lambda p: ((_change_city(p),),),
    ),
    ApiFamily(
        name="message-three",
        tier=3,
        tools=("send_message", "get_customer", *_REFRESH),
        draw=partial(_draw_messages, count=3),
        english=(
            'Token "{token}", refresh token "{refresh}": send "{text}" to {list}, once each and not to "{other}". The '
            "idempotency keys are, in this order, {keys_list}.",
        ),
        korean='토큰 "{token}", refresh 토큰 "{refresh}": {list}에게 한 번씩 "{text}"(이)라고 보내세요. "{other}"에게는 보내지 '
        "마세요. idempotency key는 차례로 {keys_list}입니다.",
        phrases=_list_words,
        facts=("token", "text"),
        faults=(*_faults("send_message", *_ONCE), *_faults("send_message", "lost_answer", "timeout", nth=1)),
        stages=lambda p: (_messages(p),),
    ),
    ApiFamily(
        name="graph-move",
        tier=3,
        tools=("read_schema", "graphql", "get_order", "delete_order", "wait"),
        draw=_draw_graph,
        english=(
            'Token "{token}": with GraphQL, find the order of "{customer}" and let it go to "{city}". Its schema can be read.',
            'Let the order of "{customer}" go to "{city}" with GraphQL, token "{token}". Read the schema first.',
        ),
        korean='토큰 "{token}": 스키마를 읽고 GraphQL로 "{customer}"의 주문을 찾아 도시를 "{city}"(으)로 바꾸세요.',
        facts=("token", "id", "city"),
        faults=(
            *_faults("graphql", "partial_data", *_AT_READING),
            *_faults("graphql", "lost_answer", "service_down", nth=1),
        ),
        stages=lambda p: (
            (Look("read_schema"),),
            (_ask("customer", p["customer"], "orders { id }"),),
            (_set_city(p["id"], p["city"]),),
        ),
    ),
    ApiFamily(
        name="exchange-charge",
        tier=3,
        tools=("get_token", "exchange_token", "charge_customer", "refund_charge", "wait"),
        rules=Rules(restricted=("charges",)),
        draw=_draw_charge,
        english=(
            'The service "charges" takes only a token that was exchanged for it. As client "{client}" with the secret '
            '"{secret}", charge "{customer}" {amount}, not "{other}"; the idempotency key is "{key}".',
        ),
        korean='"charges" 서비스는 교환한 토큰만 받습니다. client "{client}", secret "{secret}"(으)로 로그인해 토큰을 '
        '교환하고, "{other}"이(가) 아니라 "{customer}"에게 {amount}을(를) 청구하세요. idempotency key는 "{key}"입니다.',
        facts=("client", "secret", "token", "customer", "key"),
        faults=(
            *_faults("exchange_token", "server_error", "malformed", "expired_token"),
            *_faults("charge_customer", "expired_token", "lost_answer", "timeout", "service_down"),
        ),
        stages=lambda p: ((_charge(p),),),
    ),
    ApiFamily(
        name="cheaper",
        tier=3,
        tools=("get_item", "create_order", "set_count", "wait", "list_orders"),
        draw=_draw_cheaper,
        english=(
            'Token "{token}": order for "{customer}" either "{first}" or "{second}", whichever has the lower price.',
            'Which costs less, "{first}" or "{second}"? Order that one for "{customer}", token "{token}".',
        ),
        korean='토큰 "{token}": "{first}"와(과) "{second}" 중 더 싼 것을 "{customer}"에게 주문하세요.',
        facts=("token", "item", "customer"),
        faults=(*_faults("get_item", "moved", *_AT_READING), *_faults("create_order", "server_error", "rate_limited")),
        stages=lambda p: (
            (Look("get_item", {"item": p["first"]}), Look("get_item", {"item": p["second"]})),
            (_create(p),),
        ),
    ),
    ApiFamily(
        name="recall-told",
        tier=1,
        tools=("send_message", "get_customer", *_REFRESH),
        draw=_draw_recall,
        english=(
            'The code of "{person}" is "{code}". A list of stores:\n{filler}\nSend only the code of "{person}" to "{desk}", '
            'idempotency key "{key}", token "{token}", refresh token "{refresh}".',
        ),
        korean='"{person}"의 코드는 "{code}"입니다. 상점 목록:\n{filler}\n"{person}"의 코드만 "{desk}"에 보내세요. idempotency '
        'key "{key}", 토큰 "{token}", refresh 토큰 "{refresh}".',
        facts=("code", "desk"),
        faults=_faults("send_message", *_ONCE),
        context_tokens=CONTEXT_TOKENS,
        stages=lambda p: ((_message(p["desk"], p["code"], p["key"]),),),
    ),
    ApiFamily(
        name="recall",
        tier=3,
        tools=("get_customer", "read_document", "send_message", "change_customer", "wait"),
        draw=_draw_recall,
        english=(
            'Token "{token}": look up the code of the customer "{person}". The document "{document}" says at its end where '
            'codes are sent. Send the code there, and nothing else, with the idempotency key "{key}".',
        ),
        korean='토큰 "{token}": 고객 "{person}"의 코드를 찾으세요. 코드를 보낼 곳은 "{document}" 문서의 끝에 있습니다. '
        'idempotency key "{key}"(으)로 코드만 그곳에 보내세요.',
        facts=("code", "desk"),
        faults=(
            *_faults("get_customer", *_AT_READING, "moved"),
            *_faults("read_document", "malformed", "server_error", "service_down"),
            *_faults("send_message", "lost_answer", "timeout", "rate_limited"),
        ),
        context_tokens=CONTEXT_TOKENS,
        documents=_document("Codes are sent to {desk}."),
        stages=lambda p: (
            (Look("get_customer", {"name": p["person"]}),),
            (Look("read_document", {"name": p["document"]}),),
            (_message(p["desk"], p["code"], p["key"]),),
        ),
    ),
    ApiFamily(
        name="report",
        tier=4,
        tools=("start_report", "get_report", "send_message", "get_customer", *_REFRESH),
        draw=_draw_report,
        english=(
            'Token "{token}", refresh token "{refresh}": have the report "{report}" made, wait until it is done, and send '
            'only its total to "{person}", with the idempotency key "{key}".',
        ),
        korean='토큰 "{token}", refresh 토큰 "{refresh}": "{report}" 보고서를 만들고 끝날 때까지 기다린 뒤 total 값만 '
        '"{person}"에게 보내세요. idempotency key는 "{key}"입니다.',
        facts=("job", "total", "person"),
        faults=(
            *_faults("start_report", "server_error", "expired_token", "malformed"),
            *_faults("get_report", "service_down", "rate_limited", "timeout"),
            *_faults("send_message", "lost_answer", "expired_token"),
        ),
        stages=lambda p: ((Report(p["report"]),), (_message(p["person"], p["total"], p["key"]),)),
    ),
    ApiFamily(
        name="refund",
        tier=4,
        tools=("list_charges", "get_charge", "refund_charge", "charge_customer", *_REFRESH),
        draw=partial(_draw_refund, rows=6, first=4),
        english=(
            'Token "{token}", refresh token "{refresh}": the list of charges has several pages. Find the charge of '
            '"{customer}" and refund it once, with the idempotency key "{key}".',
        ),
        korean='토큰 "{token}", refresh 토큰 "{refresh}": 여러 쪽인 청구 목록에서 "{customer}"의 청구를 찾아 한 번만 '
        '환불하세요. idempotency key는 "{key}"입니다.',
        facts=("cursor", "charge", "key"),
        faults=(
            *_faults("list_charges", "stale_cursor", "malformed", "expired_token", nth=1),
            *_faults("refund_charge", "lost_answer", "timeout", "moved", "service_down"),
        ),
        stages=lambda p: ((Walk("list_charges", p["customer"]),), (_refund(p["charge"], p["key"]),)),
    ),
    ApiFamily(
        name="graph-pages",
        tier=5,
        tools=("read_schema", "graphql", "list_orders", "delete_order", "wait"),
        draw=partial(_draw_graph, rows=6, first=4),
        english=(
            'Token "{token}": read the GraphQL schema, go through the pages of orders until you find that of "{customer}", '
            'and let it go to "{city}". Use GraphQL only.',
        ),
        korean='토큰 "{token}": GraphQL 스키마를 읽고 GraphQL로만 orders를 한 쪽씩 넘기며 "{customer}"의 주문을 찾아 도시를 '
        '"{city}"(으)로 바꾸세요.',
        facts=("cursor", "id", "city"),
        faults=(
            *_faults("graphql", "stale_cursor", "partial_data", "malformed", "rate_limited", nth=1),
            *_faults("graphql", "lost_answer", "service_down", nth=3),
            *_faults("read_schema", "server_error"),
        ),
        stages=lambda p: ((Look("read_schema"),), (GraphWalk(until=p["customer"]),), (_set_city(p["id"], p["city"]),)),
    ),
    ApiFamily(
        name="checkout",
        tier=6,
        tools=(
            "get_token",
            "get_customer",
            "get_item",
            "set_count",
            "charge_customer",
            "send_message",
            "wait",
            "list_orders",
        ),
        draw=_draw_checkout,
        english=(
            'As client "{client}" with the secret "{secret}": set the count of "{item}" to {count}, charge "{person}" {amount} '
            'with the idempotency key "{key}", and send only the code of the customer "{person}" to "{desk}" with the key '
            '"{key_2}".',
        ),
        korean='client "{client}", secret "{secret}": "{item}"의 수량을 {count}(으)로 바꾸고, idempotency key "{key}"(으)로 '
        '"{person}"에게 {amount}을(를) 청구하고, key "{key_2}"(으)로 고객 "{person}"의 코드만 "{desk}"에 보내세요.',
        facts=("secret", "token", "version", "code", "desk"),
        faults=(
            *_faults("get_token", "server_error"),
            *_faults("get_item", "expired_token", "moved", "malformed"),
            *_faults("set_count", "version_conflict", "rate_limited"),
            *_faults("charge_customer", "lost_answer", "expired_token", "service_down"),
        ),
        stages=_plan_checkout,
    ),
    ApiFamily(
        name="quota",
        tier=7,
        tools=("send_message", "get_customer", "wait", "list_orders"),
        rules=Rules(calls_per_window=3),
        draw=partial(_draw_messages, count=6),
        english=(
            'Token "{token}". At most three requests in {window_s} seconds are allowed. Send "{text}" to {list}, once each '
            'and not to "{other}", with the idempotency keys {keys_list}, in this order.',
        ),
        korean='토큰 "{token}". {window_s}초에 세 번까지만 요청할 수 있습니다. {list}에게 한 번씩 "{text}"(이)라고 보내세요. '
        '"{other}"에게는 보내지 마세요. idempotency key는 차례로 {keys_list}입니다.',
        phrases=_list_words,
        facts=("token", "text"),
        faults=(*_faults("send_message", "server_error", "timeout"), *_faults("send_message", "lost_answer", nth=4)),
        stages=lambda p: (_messages(p),),
    ),
    ApiFamily(
        name="close-account",
        tier=12,
        tools=(
            *("get_token", "exchange_token", "list_charges", "refund_charge", "charge_customer"),
            *("get_customer", "send_message", "wait", "get_charge"),
        ),
        rules=Rules(restricted=("charges",)),
        draw=_draw_close_account,
        english=(
            'Client "{client}", secret "{secret}"; the service "charges" takes only a token that was exchanged for it. Refund '
            'every charge of "{customer}", with the idempotency keys {keys_list} in the order of the list, which has several '
            'pages. Then charge "{customer}" {amount} with the key "{key}", and send only the code of this customer to '
            '"{desk}" with the key "{key_2}".',
        ),
        korean='client "{client}", secret "{secret}". "charges" 서비스는 교환한 토큰만 받습니다. 여러 쪽인 청구 목록에서 '
        '"{customer}"의 청구를 모두 환불하세요(목록 차례로 idempotency key {keys_list}). 그다음 key "{key}"(으)로 '
        '"{customer}"에게 {amount}을(를) 청구하고, key "{key_2}"(으)로 이 고객의 코드만 "{desk}"에 보내세요.',
        phrases=_list_words,
        facts=("secret", "token", "code", "desk"),
        faults=(
            *_faults("list_charges", "stale_cursor", "malformed", "service_down", nth=1),
            *_faults("refund_charge", "lost_answer", "expired_token", "moved", nth=1),
            *_faults("charge_customer", "lost_answer", "timeout"),
            *_faults("get_customer", "server_error", "moved"),
        ),
        stages=_plan_close_account,
    ),
    ApiFamily(
        name="graph-order",
        tier=2,
        held_out=True,
        tools=("read_schema", "graphql", "create_order", "delete_order", "wait"),
        draw=_draw_graph_order,
        english=(
            'Token "{token}": read the GraphQL schema and create one order of "{item}" for "{customer}" with a mutation; its '
            'key is "{key}".',
        ),
        korean='토큰 "{token}": GraphQL 스키마를 읽고 mutation으로 "{customer}"에게 "{item}" 주문을 하나 만드세요. key는 '
        '"{key}"입니다.',
        facts=("item", "customer", "key"),
        faults=(*_faults("graphql", "lost_answer", *_AT_READING), *_faults("read_schema", "service_down")),
        stages=lambda p: (
            (Look("read_schema"),),
            (
                _mutation(
                    "createOrder",
                    Goal("orders", {"customer": p["customer"], "item": p["item"], "key": p["key"]}),
                    customer=p["customer"],
                    item=p["item"],
                    key=p["key"],
                ),
            ),
        ),
    ),
    ApiFamily(
        name="graph-follow",
        tier=4,
        held_out=True,
        tools=("read_schema", "graphql", "get_order", "delete_order", "wait"),
        draw=_draw_follow,
        english=(
            'Token "{token}": with GraphQL only, let the order of "{customer}" go to the city in which the customer "{host}" '
            "lives. The schema can be read.",
        ),
        korean='토큰 "{token}": 스키마를 읽고 GraphQL로만 "{customer}"의 주문 도시를 고객 "{host}"의 도시로 바꾸세요.',
        facts=("id", "city"),
        faults=(
            *_faults("graphql", *_AT_READING),
            *_faults("graphql", "partial_data", "server_error", nth=1),
            *_faults("graphql", "lost_answer", nth=2),
        ),
        stages=lambda p: (
            (Look("read_schema"),),
            (_ask("customer", p["host"], "city"), _ask("customer", p["customer"], "orders { id }")),
            (_set_city(p["id"], p["city"]),),
        ),
    ),
    ApiFamily(
        name="swap",
        tier=4,
        held_out=True,
        tools=("get_item", "set_count", "create_order", *_REFRESH),
        draw=_draw_swap,
        english=(
            'Token "{token}", refresh token "{refresh}": set the count of "{item}" to {count} and that of "{item_2}" to '
            "{count_2}.",
        ),
        korean='토큰 "{token}", refresh 토큰 "{refresh}": "{item}"의 수량을 {count}(으)로, "{item_2}"의 수량을 {count_2}(으)로 '
        "바꾸세요.",
        facts=("item", "version", "item_2", "version_2"),
        faults=(
            *_faults("get_item", "moved", "expired_token", "malformed"),
            *_faults("set_count", "version_conflict", "moved", "service_down", nth=1),
        ),
        stages=lambda p: (
            (Look("get_item", {"item": p["item"]}), Look("get_item", {"item": p["item_2"]})),
            (_count(p["item"], p["count"]), _count(p["item_2"], p["count_2"])),
        ),
    ),
    ApiFamily(
        name="refresh-report",
        tier=5,
        held_out=True,
        tools=("get_token", "refresh_token", "start_report", "get_report", "send_message", "get_customer", "wait"),
        draw=_draw_report,
        english=(
            'The token has ended; refresh it with "{refresh}", or log in as client "{client}", secret "{secret}". Have the '
            'report "{report}" made and send only its total to "{person}", idempotency key "{key}".',
        ),
        korean='토큰이 만료되었습니다. "{refresh}"(으)로 갱신하거나 client "{client}", secret "{secret}"(으)로 로그인하세요. '
        '"{report}" 보고서를 만들어 total 값만 "{person}"에게 보내세요. idempotency key는 "{key}"입니다.',
        facts=("refresh", "job", "total"),
        faults=(
            *_faults("refresh_token", "invalid_grant", "server_error"),
            *_faults("get_report", "expired_token", "service_down", "malformed"),
            *_faults("send_message", "lost_answer", "rate_limited"),
        ),
        stages=lambda p: ((Report(p["report"]),), (_message(p["person"], p["total"], p["key"]),)),
    ),
    ApiFamily(
        name="exchange-refund",
        tier=5,
        held_out=True,
        tools=("get_token", "exchange_token", "list_charges", "get_charge", "refund_charge", "wait"),
        rules=Rules(restricted=("charges",)),
        draw=partial(_draw_refund, rows=4, first=2),
        english=(
            'Client "{client}", secret "{secret}". Charges are in several pages and need a token that was exchanged for the '
            'service "charges". Refund the one of "{customer}", idempotency key "{key}".',
        ),
        korean='client "{client}", secret "{secret}". 여러 쪽인 청구 목록에는 "charges" 서비스용으로 교환한 토큰이 필요합니다. '
        '"{customer}"의 청구를 idempotency key "{key}"(으)로 환불하세요.',
        facts=("token", "cursor", "charge", "key"),
        faults=(
            *_faults("list_charges", "stale_cursor", "expired_token", "rate_limited", nth=1),
            *_faults("refund_charge", "moved", "lost_answer", "timeout"),
        ),
        stages=lambda p: ((Walk("list_charges", p["customer"]),), (_refund(p["charge"], p["key"]),)),
    ),
    ApiFamily(
        name="recall-charge",
        tier=3,
        held_out=True,
        tools=("get_customer", "read_document", "charge_customer", "list_charges", "wait"),
        draw=_draw_recall_charge,
        english=(
            'Token "{token}". The document "{document}" says at its end who pays for "{person}". Charge the one who pays '
            '{amount}; the idempotency key is the code of the customer "{person}", which you look up first.',
        ),
        korean='토큰 "{token}". 먼저 고객 "{person}"의 코드를 찾으세요. "{person}" 대신 낼 사람은 "{document}" 문서의 끝에 '
        "있습니다. 그 코드를 idempotency key로 하여 낼 사람에게 {amount}을(를) 청구하세요.",
        facts=("code", "payer"),
        faults=(
            *_faults("get_customer", *_AT_READING, "moved"),
            *_faults("read_document", "malformed", "service_down"),
            *_faults("charge_customer", "lost_answer", "timeout"),
        ),
        context_tokens=CONTEXT_TOKENS,
        documents=_document("{payer} pays for {person}."),
        stages=lambda p: (
            (Look("get_customer", {"name": p["person"]}),),
            (Look("read_document", {"name": p["document"]}),),
            (_charge(p, customer="payer", key="code"),),
        ),
    ),
)
