"""GraphQL: read the schema, ask, change."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from pydantic import JsonValue

from benchmark.worlds.api.expert import Goal, GraphWalk, quoted
from benchmark.worlds.api.families.family import (
    AT_READING,
    REFUSALS,
    ApiFamily,
    draw_access,
    draw_customer,
    draw_key,
    draw_orders,
    faults,
)
from benchmark.worlds.api.site import SCHEMA
from benchmark.worlds.expert import Act, Look
from benchmark.worlds.pools import Draw


def _mutation(field: str, goal: Goal, **given: str) -> Act:
    """`field` is the name of the mutation; every argument is text."""
    arguments = ", ".join(f"{name}: {quoted(value)}" for name, value in given.items())
    return Act("graphql", {"query": f"mutation {{ {field}({arguments}) {{ id }} }}"}, goal)


def _set_city(order: str, city: str) -> Act:
    return _mutation("setCity", Goal("orders", {"id": order, "city": city}), order=order, city=city)


def _draw_graph(draw: Draw, *, rows: int = 3, first: int = 0) -> dict[str, JsonValue]:
    subject = draw.random.randrange(first, rows)
    orders = draw_orders(draw, rows, subject)
    customers = [draw_customer(draw, row["customer"], row["city"]) for row in orders]
    access: Any = draw_access(draw)
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


def _draw_follow(draw: Draw) -> dict[str, JsonValue]:
    graph: Any = _draw_graph(draw)
    host = next(row for row in graph["customers"] if row["id"] != graph["customer"])
    return {**graph, "host": host["id"], "city": host["city"]}


def _draw_graph_order(draw: Draw) -> dict[str, JsonValue]:
    return {**_draw_graph(draw), "item": draw.item(), "key": draw_key(draw)}


GRAPH_CITY = ApiFamily(
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
    faults=faults("graphql", "malformed", "lost_answer", *REFUSALS),
    stages=lambda p: ((_set_city(p["id"], p["city"]),),),
)


GRAPH_MOVE = ApiFamily(
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
        *faults("graphql", "partial_data", *AT_READING),
        *faults("graphql", "lost_answer", "service_down", nth=1),
    ),
    stages=lambda p: (
        (Look("read_schema"),),
        (_ask("customer", p["customer"], "orders { id }"),),
        (_set_city(p["id"], p["city"]),),
    ),
)


GRAPH_PAGES = ApiFamily(
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
        *faults("graphql", "stale_cursor", "partial_data", "malformed", "rate_limited", nth=1),
        *faults("graphql", "lost_answer", "service_down", nth=3),
        *faults("read_schema", "server_error"),
    ),
    stages=lambda p: ((Look("read_schema"),), (GraphWalk(until=p["customer"]),), (_set_city(p["id"], p["city"]),)),
)


GRAPH_ORDER = ApiFamily(
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
    faults=(*faults("graphql", "lost_answer", *AT_READING), *faults("read_schema", "service_down")),
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
)


GRAPH_FOLLOW = ApiFamily(
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
        *faults("graphql", *AT_READING),
        *faults("graphql", "partial_data", "server_error", nth=1),
        *faults("graphql", "lost_answer", nth=2),
    ),
    stages=lambda p: (
        (Look("read_schema"),),
        (_ask("customer", p["host"], "city"), _ask("customer", p["customer"], "orders { id }")),
        (_set_city(p["id"], p["city"]),),
    ),
)
