"""Facts that stand long before their use."""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue

from benchmark.worlds.family import CONTEXT_TOKENS
from benchmark.worlds.pools import Draw
from benchmark.worlds.web.expert import Send, read
from benchmark.worlds.web.families.family import (
    AFTER_LOGIN,
    ALL_TOOLS,
    AT_READING,
    AT_SENDING,
    WebFamily,
    draw_login,
    draw_recall,
    draw_vote,
    poll_of,
    rules_page,
    sent,
    voted,
)
from benchmark.worlds.web.pages import LOGIN, Form, Page
from benchmark.worlds.world import Task


def _draw_recall_login(draw: Draw) -> dict[str, JsonValue]:
    return {**draw_recall(draw), **draw_vote(draw), **draw_login(draw)}


def _pages_recall(task: Task) -> dict[str, Page]:
    p: Any = task.parameters
    return {
        p["source"]: Page((f"The code of {p['person']} is {p['code']}",)),
        p["rules"]: rules_page(task, f"Codes are taken at {p['path']}"),
        p["path"]: Page(form=Form({"code": ""})),
        p["other"]: Page(form=Form({"code": ""})),
    }


def _pages_recall_login(task: Task) -> dict[str, Page]:
    p: Any = task.parameters
    return {
        p["source"]: Page((f"User {p['user']}, password {p['password']}",)),
        p["rules"]: rules_page(task, f"Members log in at {LOGIN} and vote at {p['path']}"),
        p["path"]: Page(form=poll_of(p), is_private=True),
    }


RECALL = WebFamily(
    name="recall",
    tier=5,
    tools=ALL_TOOLS,
    draw=draw_recall,
    english=(
        'Read the code of "{person}" at "{source}". The rules at "{rules}" tell at their end where codes are taken; '
        "send it there.",
    ),
    korean='"{source}"에서 "{person}"의 코드를 읽으세요. 코드를 내는 곳은 "{rules}" 규정의 끝에 있습니다. 그곳에 보내세요.',
    facts=("code", "path"),
    faults=(*AT_READING, *AT_SENDING),
    context_tokens=CONTEXT_TOKENS,
    pages=_pages_recall,
    goals=lambda p: sent(p["path"], code=p["code"]),
    stages=lambda p: (
        (read(p["source"]),),
        (read(p["rules"]),),
        (Send(p["path"]),),
    ),
)


RECALL_LOGIN = WebFamily(
    name="recall-login",
    tier=8,
    held_out=True,
    tools=ALL_TOOLS,
    draw=_draw_recall_login,
    english=(
        'User and password are at "{source}". The rules at "{rules}" tell at their end where to log in and where to vote. '
        'Vote for "{item}", not for "{other}".',
    ),
    korean='사용자와 비밀번호는 "{source}"에 있습니다. 로그인하고 투표할 곳은 "{rules}" 규정의 끝에 있습니다. '
    '"{other}"이(가) 아니라 "{item}"에 투표하세요.',
    facts=("user", "password", "path"),
    faults=(*AT_READING, *AFTER_LOGIN),
    context_tokens=CONTEXT_TOKENS,
    pages=_pages_recall_login,
    goals=voted,
    stages=lambda p: (
        (read(p["source"]),),
        (read(p["rules"]),),
        (Send(p["path"]),),
    ),
)
