"""Charges, messages, stock and customers: keys, versions, tokens, limits."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from pydantic import JsonValue

from benchmark.worlds.api.expert import Goal, Walk
from benchmark.worlds.api.families.family import (
    AT_READING,
    ONCE,
    REFRESH,
    ApiFamily,
    Stages,
    charge_customer,
    draw_access,
    draw_charge,
    draw_charges,
    draw_customers,
    draw_items,
    draw_key,
    draw_shop,
    draw_stock,
    faults,
    refund_charge,
    send_message,
    set_count,
)
from benchmark.worlds.api.families.orders import create_order
from benchmark.worlds.api.families.recall import draw_recall
from benchmark.worlds.api.site import Rules
from benchmark.worlds.expert import Act, Later, Look, Step
from benchmark.worlds.pools import Draw


def _draw_messages(draw: Draw, *, count: int) -> dict[str, JsonValue]:
    people = [draw.bystander() for _ in range(count)]
    return draw_shop(
        draw,
        people=people,
        keys=[draw_key(draw) for _ in people],
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
    return tuple(send_message(person, p["text"], key) for person, key in zip(p["people"], p["keys"], strict=True))


def _draw_profile(draw: Draw) -> dict[str, JsonValue]:
    customers = draw_customers(draw, draw.person(), draw.bystander())
    return draw_shop(
        draw,
        customers=customers,
        customer=customers[0]["id"],
        version=customers[0]["version"],
        other=customers[1]["id"],
        city=draw.city(),
    )


def _change_city(p: Any) -> Act:
    version = Later("get_customer", {"name": p["customer"]}, "version")
    given = {"name": p["customer"], "field": "city", "value": p["city"], "version": version}
    return Act("change_customer", given, Goal("customers", {"id": p["customer"], "city": p["city"]}))


def _draw_cheaper(draw: Draw) -> dict[str, JsonValue]:
    items = draw_items(draw, 3)
    first, second = draw.random.sample(items, 2)
    cheaper = min(first, second, key=lambda item: int(item["price"]))
    return draw_shop(
        draw, items=items, first=first["id"], second=second["id"], item=cheaper["id"], customer=draw.person()
    )


def _draw_refund(draw: Draw, *, rows: int, first: int) -> dict[str, JsonValue]:
    subject = draw.random.randrange(first, rows)
    people = [draw.person() if row == subject else draw.bystander() for row in range(rows)]
    charges = draw_charges(draw, people)
    access: Any = draw_access(draw)
    return {
        **access,
        "charges": list(charges),
        "cursor": access["cursors"][first // 2 - 1],
        "customer": people[subject],
        "charge": charges[subject]["id"],
        "key": draw_key(draw),
    }


def _draw_checkout(draw: Draw) -> dict[str, JsonValue]:
    return {**draw_recall(draw), **draw_stock(draw), "amount": draw.number(100, 999), "key_2": draw_key(draw)}


def _plan_checkout(p: Any) -> Stages:
    return (
        (Look("get_customer", {"name": p["person"]}), Look("get_item", {"item": p["item"]})),
        (
            set_count(p["item"], p["count"]),
            charge_customer(p, customer="person"),
            send_message(p["desk"], p["code"], p["key_2"]),
        ),
    )


def _draw_close_account(draw: Draw) -> dict[str, JsonValue]:
    customer, others = draw.person(), [draw.bystander(), draw.bystander()]
    names = [customer] * 4 + others
    draw.random.shuffle(names)
    charges = draw_charges(draw, names)
    customers = draw_customers(draw, customer, *others)
    return draw_shop(
        draw,
        charges=charges,
        customers=customers,
        customer=customer,
        ids=[charge["id"] for charge in charges if charge["customer"] == customer],
        keys=[draw_key(draw) for _ in range(4)],
        amount=draw.number(100, 999),
        key=draw_key(draw),
        desk=draw.word(),
        code=customers[0]["code"],
        key_2=draw_key(draw),
    )


def _plan_close_account(p: Any) -> Stages:
    return (
        (Walk("list_charges"),),
        tuple(refund_charge(charge, key) for charge, key in zip(p["ids"], p["keys"], strict=True)),
        (charge_customer(p), Look("get_customer", {"name": p["customer"]})),
        (send_message(p["desk"], p["code"], p["key_2"]),),
    )


def _draw_swap(draw: Draw) -> dict[str, JsonValue]:
    items = draw_items(draw, 3)
    first, second = draw.random.sample(items, 2)
    return draw_shop(
        draw,
        items=items,
        item=first["id"],
        version=first["version"],
        count=draw.number(1000, 9999),
        item_2=second["id"],
        version_2=second["version"],
        count_2=draw.number(1000, 9999),
    )


CHARGE = ApiFamily(
    name="charge",
    tier=1,
    tools=("refund_charge", "charge_customer", "list_charges", *REFRESH),
    draw=draw_charge,
    english=(
        'Charge "{customer}" {amount}, exactly once, with the idempotency key "{key}"; "{other}" pays nothing. '
        'Token "{token}", refresh token "{refresh}".',
        'Token "{token}", refresh token "{refresh}". One charge of {amount} for "{customer}", none for "{other}"; '
        'the idempotency key is "{key}".',
    ),
    korean='토큰 "{token}", refresh 토큰 "{refresh}": "{other}"이(가) 아니라 "{customer}"에게 {amount}을(를) 한 번만 '
    '청구하세요. idempotency key는 "{key}"입니다.',
    facts=("token", "customer", "key"),
    faults=faults("charge_customer", *ONCE),
    stages=lambda p: ((charge_customer(p),),),
)


REFRESH_CHARGE = ApiFamily(
    name="refresh-charge",
    tier=2,
    tools=("get_token", "refresh_token", "charge_customer", "list_charges", "wait"),
    draw=draw_charge,
    english=(
        'The token has ended; the refresh token is "{refresh}" (client "{client}", secret "{secret}" if that has ended, '
        'too). Charge "{customer}" {amount}, not "{other}", with the idempotency key "{key}".',
    ),
    korean='토큰이 만료되었습니다. refresh 토큰은 "{refresh}"이고, 그것도 만료되었으면 client "{client}", secret '
    '"{secret}"을(를) 쓰세요. "{other}"이(가) 아니라 "{customer}"에게 idempotency key "{key}"(으)로 {amount}을(를) '
    "청구하세요.",
    facts=("refresh", "token", "customer", "key"),
    faults=(
        *faults("refresh_token", "invalid_grant", "server_error"),
        *faults("charge_customer", "expired_token", "lost_answer", "service_down"),
    ),
    stages=lambda p: ((charge_customer(p),),),
)


STOCK = ApiFamily(
    name="stock",
    tier=2,
    tools=("set_count", "get_item", "delete_order", "wait", "refresh_token"),
    draw=draw_stock,
    english=(
        'Set the count of "{item}" to {count} and leave "{other}" alone. Token "{token}", refresh token "{refresh}".',
        'Token "{token}", refresh token "{refresh}": there are {count} of "{item}" now, not of "{other}". Set the count.',
    ),
    korean='토큰 "{token}", refresh 토큰 "{refresh}": "{item}"의 수량을 {count}(으)로 바꾸세요. "{other}"은(는) 그대로 '
    "두세요.",
    facts=("token", "item", "version"),
    faults=(
        *faults("get_item", "moved", "malformed", "expired_token"),
        *faults("set_count", "version_conflict", "moved", "service_down", "timeout"),
    ),
    stages=lambda p: ((set_count(p["item"], p["count"]),),),
)


PROFILE = ApiFamily(
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
        *faults("get_customer", "moved", "malformed", "rate_limited"),
        *faults("change_customer", "renamed_field", "version_conflict", "moved", "server_error"),
    ),
    stages=lambda p: ((_change_city(p),),),
)


MESSAGE_THREE = ApiFamily(
    name="message-three",
    tier=3,
    tools=("send_message", "get_customer", *REFRESH),
    draw=partial(_draw_messages, count=3),
    english=(
        'Token "{token}", refresh token "{refresh}": send "{text}" to {list}, once each and not to "{other}". The '
        "idempotency keys are, in this order, {keys_list}.",
    ),
    korean='토큰 "{token}", refresh 토큰 "{refresh}": {list}에게 한 번씩 "{text}"(이)라고 보내세요. "{other}"에게는 보내지 '
    "마세요. idempotency key는 차례로 {keys_list}입니다.",
    phrases=_list_words,
    facts=("token", "text"),
    faults=(*faults("send_message", *ONCE), *faults("send_message", "lost_answer", "timeout", nth=1)),
    stages=lambda p: (_messages(p),),
)


EXCHANGE_CHARGE = ApiFamily(
    name="exchange-charge",
    tier=3,
    tools=("get_token", "exchange_token", "charge_customer", "refund_charge", "wait"),
    rules=Rules(restricted=("charges",)),
    draw=draw_charge,
    english=(
        'The service "charges" takes only a token that was exchanged for it. As client "{client}" with the secret '
        '"{secret}", charge "{customer}" {amount}, not "{other}"; the idempotency key is "{key}".',
    ),
    korean='"charges" 서비스는 교환한 토큰만 받습니다. client "{client}", secret "{secret}"(으)로 로그인해 토큰을 '
    '교환하고, "{other}"이(가) 아니라 "{customer}"에게 {amount}을(를) 청구하세요. idempotency key는 "{key}"입니다.',
    facts=("client", "secret", "token", "customer", "key"),
    faults=(
        *faults("exchange_token", "server_error", "malformed", "expired_token"),
        *faults("charge_customer", "expired_token", "lost_answer", "timeout", "service_down"),
    ),
    stages=lambda p: ((charge_customer(p),),),
)


CHEAPER = ApiFamily(
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
    faults=(*faults("get_item", "moved", *AT_READING), *faults("create_order", "server_error", "rate_limited")),
    stages=lambda p: (
        (Look("get_item", {"item": p["first"]}), Look("get_item", {"item": p["second"]})),
        (create_order(p),),
    ),
)


REFUND = ApiFamily(
    name="refund",
    tier=4,
    tools=("list_charges", "get_charge", "refund_charge", "charge_customer", *REFRESH),
    draw=partial(_draw_refund, rows=6, first=4),
    english=(
        'Token "{token}", refresh token "{refresh}": the list of charges has several pages. Find the charge of '
        '"{customer}" and refund it once, with the idempotency key "{key}".',
    ),
    korean='토큰 "{token}", refresh 토큰 "{refresh}": 여러 쪽인 청구 목록에서 "{customer}"의 청구를 찾아 한 번만 '
    '환불하세요. idempotency key는 "{key}"입니다.',
    facts=("cursor", "charge", "key"),
    faults=(
        *faults("list_charges", "stale_cursor", "malformed", "expired_token", nth=1),
        *faults("refund_charge", "lost_answer", "timeout", "moved", "service_down"),
    ),
    stages=lambda p: ((Walk("list_charges", p["customer"]),), (refund_charge(p["charge"], p["key"]),)),
)


CHECKOUT = ApiFamily(
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
        *faults("get_token", "server_error"),
        *faults("get_item", "expired_token", "moved", "malformed"),
        *faults("set_count", "version_conflict", "rate_limited"),
        *faults("charge_customer", "lost_answer", "expired_token", "service_down"),
    ),
    stages=_plan_checkout,
)


QUOTA = ApiFamily(
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
    faults=(*faults("send_message", "server_error", "timeout"), *faults("send_message", "lost_answer", nth=4)),
    stages=lambda p: (_messages(p),),
)


CLOSE_ACCOUNT = ApiFamily(
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
        *faults("list_charges", "stale_cursor", "malformed", "service_down", nth=1),
        *faults("refund_charge", "lost_answer", "expired_token", "moved", nth=1),
        *faults("charge_customer", "lost_answer", "timeout"),
        *faults("get_customer", "server_error", "moved"),
    ),
    stages=_plan_close_account,
)


SWAP = ApiFamily(
    name="swap",
    tier=4,
    held_out=True,
    tools=("get_item", "set_count", "create_order", *REFRESH),
    draw=_draw_swap,
    english=(
        'Token "{token}", refresh token "{refresh}": set the count of "{item}" to {count} and that of "{item_2}" to '
        "{count_2}.",
    ),
    korean='토큰 "{token}", refresh 토큰 "{refresh}": "{item}"의 수량을 {count}(으)로, "{item_2}"의 수량을 {count_2}(으)로 '
    "바꾸세요.",
    facts=("item", "version", "item_2", "version_2"),
    faults=(
        *faults("get_item", "moved", "expired_token", "malformed"),
        *faults("set_count", "version_conflict", "moved", "service_down", nth=1),
    ),
    stages=lambda p: (
        (Look("get_item", {"item": p["item"]}), Look("get_item", {"item": p["item_2"]})),
        (set_count(p["item"], p["count"]), set_count(p["item_2"], p["count_2"])),
    ),
)


EXCHANGE_REFUND = ApiFamily(
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
        *faults("list_charges", "stale_cursor", "expired_token", "rate_limited", nth=1),
        *faults("refund_charge", "moved", "lost_answer", "timeout"),
    ),
    stages=lambda p: ((Walk("list_charges", p["customer"]),), (refund_charge(p["charge"], p["key"]),)),
)
