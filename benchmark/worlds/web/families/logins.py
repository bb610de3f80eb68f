"""Pages that only a session opens."""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue

from benchmark.worlds.pools import Draw
from benchmark.worlds.web.expert import ReadPrivate, Send
from benchmark.worlds.web.families.family import (
    AFTER_LOGIN,
    ALL_TOOLS,
    WebFamily,
    draw_address,
    draw_login,
    draw_vote,
    faults,
    poll_of,
    sent,
    table_of,
    voted,
)
from benchmark.worlds.web.pages import Form, Page
from benchmark.worlds.world import Task


def _draw_profile(draw: Draw) -> dict[str, JsonValue]:
    return {
        **draw_login(draw),
        "path": draw_address(draw),
        "other": draw_address(draw),
        "old_city": draw.city(),
        "city": draw.city(),
        "phone": str(draw.number(1000, 9999)),
    }


def _draw_message(draw: Draw) -> dict[str, JsonValue]:
    return {
        **draw_login(draw),
        "path": draw_address(draw),
        "person": draw.person(),
        "text": f"{draw.word()} {draw.item()} {draw.number(100, 999)}",
    }


def _draw_restock(draw: Draw) -> dict[str, JsonValue]:
    items: list[JsonValue] = [draw.item() for _ in range(6)]
    suppliers: list[JsonValue] = [draw.bystander() for _ in items]
    which = draw.random.randrange(3, 6)
    return {
        **draw_login(draw),
        "list": f"/{draw.folder()}",
        "path": draw_address(draw),
        "items": items,
        "suppliers": suppliers,
        "item": items[which],
        "supplier": suppliers[which],
        "quantity": str(draw.number(2, 99)),
        "city": draw.city(),
    }


def _draw_login_vote(draw: Draw) -> dict[str, JsonValue]:
    return {**draw_vote(draw), **draw_login(draw)}


def _pages_restock(task: Task) -> dict[str, Page]:
    p: Any = task.parameters
    halves = [table_of(("item", "supplier"), p["items"][at : at + 3], p["suppliers"][at : at + 3]) for at in (0, 3)]
    form = Form({"item": "", "supplier": "", "quantity": "", "city": ""}, ranges={"quantity": (1, 99)})
    return {
        p["list"]: Page((f"Page 1 of 2, the next is {p['list']}?page=2",), halves[0], is_private=True),
        f"{p['list']}?page=2": Page(("Page 2 of 2",), halves[1], is_private=True),
        p["path"]: Page(form=form, is_private=True),
    }


def _pages_profile(p: Any) -> dict[str, Page]:
    profile = Form({"city": p["old_city"], "phone": p["phone"]}, is_kept_once=True)
    return {p["path"]: Page(form=profile, is_private=True), p["other"]: Page(form=Form({"text": ""}), is_private=True)}


LOGIN_PROFILE = WebFamily(
    name="login-profile",
    tier=7,
    tools=ALL_TOOLS,
    draw=_draw_profile,
    english=(
        'Log in at "/login" as "{user}" with the password "{password}" and change the city at "{path}" to "{city}".',
        'The user "{user}" (password "{password}", "/login") has moved to "{city}". Put that into the profile at "{path}".',
    ),
    korean='"/login"에서 "{user}", 비밀번호 "{password}"(으)로 로그인하고 "{path}"의 도시를 "{city}"(으)로 바꾸세요.',
    facts=("user", "password", "path", "city"),
    faults=AFTER_LOGIN,
    pages=lambda task: _pages_profile(task.parameters),
    goals=lambda p: sent(p["path"], city=p["city"], phone=p["phone"]),
    stages=lambda p: ((Send(p["path"]),),),
)


LOGIN_MESSAGE = WebFamily(
    name="login-message",
    tier=8,
    tools=ALL_TOOLS,
    draw=_draw_message,
    english=(
        'Log in at "/login" as "{user}", password "{password}". With the form at "{path}" write "{text}" to "{person}".',
        'As "{user}" (password "{password}", "/login") send "{person}" the message "{text}" from "{path}".',
    ),
    korean='"/login"에서 "{user}", 비밀번호 "{password}"(으)로 로그인하고 "{path}"에서 "{person}"에게 '
    '"{text}"(이)라고 보내세요.',
    facts=("user", "password", "path", "person", "text"),
    faults=(*AFTER_LOGIN, *faults("submit_form", "renamed_field", nth=1)),
    pages=lambda task: {str(task.parameters["path"]): Page(form=Form({"to": "", "text": ""}), is_private=True)},
    goals=lambda p: sent(p["path"], to=p["person"], text=p["text"]),
    stages=lambda p: ((Send(p["path"]),),),
)


LOGIN_RESTOCK = WebFamily(
    name="login-restock",
    tier=12,
    tools=ALL_TOOLS,
    draw=_draw_restock,
    english=(
        'Log in at "/login" as "{user}", password "{password}". The list at "{list}" has several pages and tells the '
        'supplier of "{item}". With the form at "{path}" order "{quantity}" of it from there to "{city}".',
    ),
    korean='"/login"에서 "{user}", 비밀번호 "{password}"(으)로 로그인하세요. 여러 쪽인 "{list}" 목록에서 "{item}"의 '
    '공급자를 찾아 "{path}" 양식으로 "{quantity}"개를 "{city}"(으)로 주문하세요.',
    facts=("supplier", "quantity", "city", "path"),
    faults=(
        *faults("read_page", "truncated", "session_expired", "moved", "server_error"),
        *faults("submit_form", "session_expired", "renamed_field", "stale_form", nth=1),
    ),
    pages=_pages_restock,
    goals=lambda p: sent(p["path"], item=p["item"], supplier=p["supplier"], quantity=p["quantity"], city=p["city"]),
    stages=lambda p: (
        (ReadPrivate(p["list"]),),
        (ReadPrivate(p["list"] + "?page=2"),),
        (Send(p["path"]),),
    ),
)


LOGIN_VOTE = WebFamily(
    name="login-vote",
    tier=6,
    held_out=True,
    tools=ALL_TOOLS,
    draw=_draw_login_vote,
    english=(
        'Log in at "/login" as "{user}", password "{password}", and vote at "{path}" for "{item}", not for "{other}".',
    ),
    korean='"/login"에서 "{user}", 비밀번호 "{password}"(으)로 로그인하고 "{path}"에서 '
    '"{other}"이(가) 아니라 "{item}"에 투표하세요.',
    facts=("user", "password", "path", "item"),
    faults=AFTER_LOGIN,
    pages=lambda task: {str(task.parameters["path"]): Page(form=poll_of(task.parameters), is_private=True)},
    goals=voted,
    stages=lambda p: ((Send(p["path"]),),),
)
