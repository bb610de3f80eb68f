"""Short tasks: an order is made or changed in up to three calls."""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import JsonValue

from benchmark.worlds.api.expert import Goal, Walk
from benchmark.worlds.api.families.family import ApiFamily, Stages, draw_access, draw_orders, draw_shop, faults
from benchmark.worlds.expert import Act, Look
from benchmark.worlds.pools import Draw


def _draw_create(draw: Draw) -> dict[str, JsonValue]:
    return draw_shop(draw, orders=draw_orders(draw, 2), customer=draw.person(), item=draw.item())


def _draw_update(draw: Draw, *, rows: int, first: int = 0) -> dict[str, JsonValue]:
    """`first` is the first row that the order to change may stand in."""
    subject = draw.random.randrange(first, rows)
    access: Any = draw_access(draw)
    orders = draw_orders(draw, rows, subject)
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
    orders = draw_orders(draw, 2)
    row = draw.random.choice(orders)
    return draw_shop(draw, orders=orders, id=row["id"], item=row["item"], customer=draw.person())


def _draw_two(draw: Draw) -> dict[str, JsonValue]:
    orders = draw_orders(draw, 2)
    first, second = draw.random.sample(orders, 2)
    return draw_shop(
        draw,
        orders=orders,
        customer=first["customer"],
        id=first["id"],
        customer_2=second["customer"],
        id_2=second["id"],
        city=draw.city(),
    )


def create_order(p: Any) -> Act:
    given = {"customer": p["customer"], "item": p["item"]}
    return Act("create_order", given, Goal("orders", given))


def _update_order(p: Any, order: str = "id") -> Act:
    given = {"id": p[order], "city": p["city"]}
    return Act("update_order", given, Goal("orders", given))


def _find_update(p: Any) -> Stages:
    return (Walk("list_orders", p["customer"]),), (_update_order(p),)


CREATE = ApiFamily(
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
    faults=faults("create_order", "expired_token", "rate_limited", "server_error"),
    stages=lambda p: ((create_order(p),),),
)


UPDATE = ApiFamily(
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
    faults=faults("update_order", "expired_token", "rate_limited", "server_error"),
    stages=lambda p: ((_update_order(p),),),
)


LOGIN_CREATE = ApiFamily(
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
    faults=(*faults("get_token", "server_error", "malformed"), *faults("create_order", "server_error")),
    stages=lambda p: ((create_order(p),),),
)


FIND_UPDATE = ApiFamily(
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
    faults=(*faults("list_orders", "server_error", "malformed"), *faults("update_order", "server_error")),
    stages=_find_update,
)


REORDER = ApiFamily(
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
    faults=(*faults("get_order", "server_error", "malformed"), *faults("create_order", "server_error")),
    stages=lambda p: ((Look("get_order", {"id": p["id"]}),), (create_order(p),)),
)


LOGIN_FIND_UPDATE = ApiFamily(
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
    faults=(*faults("list_orders", "expired_token", "malformed"), *faults("update_order", "moved", "timeout")),
    stages=_find_update,
)


PAGES = ApiFamily(
    name="pages",
    tier=3,
    is_short=True,
    tools=("list_orders", "update_order", "wait"),
    draw=partial(_draw_update, rows=3, first=2),
    english=('Token "{token}": the order of "{customer}" goes to "{city}".',),
    korean='토큰 "{token}": 여러 쪽인 목록에서 "{customer}"의 주문을 찾아 도시를 "{city}"(으)로 바꾸세요.',
    facts=("token", "cursor", "id", "city"),
    faults=(
        *faults("list_orders", "stale_cursor", "malformed", "rate_limited", nth=1),
        *faults("update_order", "moved", "service_down"),
    ),
    stages=_find_update,
)


TWO = ApiFamily(
    name="two",
    tier=3,
    is_short=True,
    tools=("list_orders", "update_order", "wait"),
    draw=_draw_two,
    english=('Token "{token}": the orders of "{customer}" and "{customer_2}" go to "{city}".',),
    korean='토큰 "{token}": "{customer}"와(과) "{customer_2}"의 주문 도시를 "{city}"(으)로 바꾸세요.',
    facts=("token", "id", "id_2", "city"),
    faults=(*faults("update_order", "moved", "timeout", "server_error"), *faults("list_orders", "service_down")),
    stages=lambda p: (
        (Walk("list_orders", p["customer"]),),
        (Walk("list_orders", p["customer_2"]),),
        (_update_order(p),),
        (_update_order(p, "id_2"),),
    ),
)
