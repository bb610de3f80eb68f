"""Facts that stand long before their use, and reports that take a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import JsonValue

from benchmark.worlds.api.expert import FetchReport
from benchmark.worlds.api.families.family import (
    AT_READING,
    ONCE,
    REFRESH,
    ApiFamily,
    charge_customer,
    draw_customers,
    draw_key,
    draw_shop,
    faults,
    send_message,
)
from benchmark.worlds.expert import Look
from benchmark.worlds.family import CONTEXT_TOKENS
from benchmark.worlds.pools import Draw, filler
from benchmark.worlds.world import Task


def _draw_report(draw: Draw) -> dict[str, JsonValue]:
    return draw_shop(
        draw,
        report=draw.folder(),
        job=str(draw.number(1000, 9999)),
        ready_s=draw.number(61, 300),
        total=str(draw.number(10000, 99999)),
        person=draw.person(),
        key=draw_key(draw),
    )


def draw_recall(draw: Draw) -> dict[str, JsonValue]:
    person, other = draw.person(), draw.bystander()
    customers = draw_customers(draw, person, other)
    return draw_shop(
        draw,
        customers=customers,
        person=person,
        code=customers[0]["code"],
        document=draw.folder(),
        desk=draw.word(),
        key=draw_key(draw),
    )


def _draw_recall_charge(draw: Draw) -> dict[str, JsonValue]:
    recall: Any = draw_recall(draw)
    payer = recall["customers"][1]["id"]
    return {**recall, "payer": payer, "amount": draw.number(100, 999)}


def _document(line: str) -> Callable[[Task], dict[str, str]]:
    """A document whose last line has to be read, below much that has not."""

    def documents(task: Task) -> dict[str, str]:
        text = filler(task.id, task.split, task.context_tokens)
        return {str(task.parameters["document"]): f"{text}\n{line.format(**task.parameters)}"}

    return documents


RECALL_TOLD = ApiFamily(
    name="recall-told",
    tier=1,
    tools=("send_message", "get_customer", *REFRESH),
    draw=draw_recall,
    english=(
        'The code of "{person}" is "{code}". A list of stores:\n{filler}\nSend only the code of "{person}" to "{desk}", '
        'idempotency key "{key}", token "{token}", refresh token "{refresh}".',
    ),
    korean='"{person}"의 코드는 "{code}"입니다. 상점 목록:\n{filler}\n"{person}"의 코드만 "{desk}"에 보내세요. idempotency '
    'key "{key}", 토큰 "{token}", refresh 토큰 "{refresh}".',
    facts=("code", "desk"),
    faults=faults("send_message", *ONCE),
    context_tokens=CONTEXT_TOKENS,
    stages=lambda p: ((send_message(p["desk"], p["code"], p["key"]),),),
)


RECALL = ApiFamily(
    name="recall",
    tier=3,
    tools=("get_customer", "read_document", "send_message", "change_customer", "wait"),
    draw=draw_recall,
    english=(
        'Token "{token}": look up the code of the customer "{person}". The document "{document}" says at its end where '
        'codes are sent. Send the code there, and nothing else, with the idempotency key "{key}".',
    ),
    korean='토큰 "{token}": 고객 "{person}"의 코드를 찾으세요. 코드를 보낼 곳은 "{document}" 문서의 끝에 있습니다. '
    'idempotency key "{key}"(으)로 코드만 그곳에 보내세요.',
    facts=("code", "desk"),
    faults=(
        *faults("get_customer", *AT_READING, "moved"),
        *faults("read_document", "malformed", "server_error", "service_down"),
        *faults("send_message", "lost_answer", "timeout", "rate_limited"),
    ),
    context_tokens=CONTEXT_TOKENS,
    documents=_document("Codes are sent to {desk}."),
    stages=lambda p: (
        (Look("get_customer", {"name": p["person"]}),),
        (Look("read_document", {"name": p["document"]}),),
        (send_message(p["desk"], p["code"], p["key"]),),
    ),
)


REPORT = ApiFamily(
    name="report",
    tier=4,
    tools=("start_report", "get_report", "send_message", "get_customer", *REFRESH),
    draw=_draw_report,
    english=(
        'Token "{token}", refresh token "{refresh}": have the report "{report}" made, wait until it is done, and send '
        'only its total to "{person}", with the idempotency key "{key}".',
    ),
    korean='토큰 "{token}", refresh 토큰 "{refresh}": "{report}" 보고서를 만들고 끝날 때까지 기다린 뒤 total 값만 '
    '"{person}"에게 보내세요. idempotency key는 "{key}"입니다.',
    facts=("job", "total", "person"),
    faults=(
        *faults("start_report", "server_error", "expired_token", "malformed"),
        *faults("get_report", "service_down", "rate_limited", "timeout"),
        *faults("send_message", "lost_answer", "expired_token"),
    ),
    stages=lambda p: ((FetchReport(p["report"]),), (send_message(p["person"], p["total"], p["key"]),)),
)


REFRESH_REPORT = ApiFamily(
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
        *faults("refresh_token", "invalid_grant", "server_error"),
        *faults("get_report", "expired_token", "service_down", "malformed"),
        *faults("send_message", "lost_answer", "rate_limited"),
    ),
    stages=lambda p: ((FetchReport(p["report"]),), (send_message(p["person"], p["total"], p["key"]),)),
)


RECALL_CHARGE = ApiFamily(
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
        *faults("get_customer", *AT_READING, "moved"),
        *faults("read_document", "malformed", "service_down"),
        *faults("charge_customer", "lost_answer", "timeout"),
    ),
    context_tokens=CONTEXT_TOKENS,
    documents=_document("{payer} pays for {person}."),
    stages=lambda p: (
        (Look("get_customer", {"name": p["person"]}),),
        (Look("read_document", {"name": p["document"]}),),
        (charge_customer(p, customer="payer", key="code"),),
    ),
)
