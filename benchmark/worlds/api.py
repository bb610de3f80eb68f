"""API: a shop's real HTTP interface, run in process and reached through httpx.

`Shop` is a WSGI app with its own rows, tokens and clock. `ApiWorld` offers it to the model as typed functions and turns
each call into one HTTP request. Nothing listens on a port and nothing sleeps: a call takes 0.2 s on the shop's virtual
clock, and `wait` moves that clock.

=====================  ==============================  ==========================================
request                body or query                   answer
=====================  ==============================  ==========================================
POST /token            {"client", "secret"}            {"token"}
GET /orders            ?cursor=                        {"orders": {id: customer}, "next": cursor}
GET /orders/ID                                         {"item", "city"}
POST /orders           {"customer", "item"}            201, nothing
PATCH /orders/ID       {"city"}                        204, nothing
=====================  ==============================  ==========================================

All but the first need `Authorization: Bearer TOKEN`. `next` is missing on the last page.

Faults, each striking a request that was right and changing no row:

* `expired_token` (401): the token has ended. Way out: `get_token`, then again with the new token.
* `rate_limited` (429): every request is refused until the time in the error is over. Way out: `wait`, then again.
* `server_error` (500): nothing was done. Way out: the same call again.
* `malformed`: the answer's JSON is cut off. Way out: the same call again. Strikes reading calls only.

The verdict compares all rows with those that the task asks for. Goals are the rows that must be changed or created; any
other change, and any row too many, is damage: the score is goals held / (goals + damages).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

import httpx
from pydantic import JsonValue

from benchmark.worlds import Fault, Move, Result, Split, Task, Verdict
from benchmark.worlds.families import Family, families_to_tasks
from benchmark.worlds.pools import Draw
from benchmark.worlds.tools import (
    DONE,
    GIVEN_UP,
    Commit,
    Schedule,
    ToolError,
    check_call,
    failed_in_a_row,
    function_to_spec,
    score_to_verdict,
)
from data.records import Action, Category

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

category: Category = Category.API_ORCHESTRATION
version: str = "1"

CALL_SECONDS = 0.2
_PAGE_ROWS = 2
_STATUS_OF_CHANGE = {"POST": HTTPStatus.CREATED, "PATCH": HTTPStatus.NO_CONTENT}
_RETRY_AFTER = re.compile(r"429 .* retry after (\d+) s")


class _Refusal(Exception):
    """An HTTP error answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Shop:
    """The WSGI app. `struck` names the fault that hit the last request, or is None."""

    def __init__(self, task: Task) -> None:
        p: Any = task.parameters
        self.rows: dict[str, dict[str, str]] = {row["id"]: dict(row) for row in p["orders"]}
        self.clock_s = 0.0
        self.struck: str | None = None
        self.blocked_until_s = 0.0
        self._parameters = p
        self._schedule = Schedule(task.faults)
        self._tokens_issued = 0

    @property
    def token(self) -> str:
        """The token that is valid now; it ends with `expired_token` only."""
        names: list[str] = self._parameters["tokens"]
        turn, which = divmod(self._tokens_issued, len(names))
        return names[which] + (str(turn) if turn else "")

    @property
    def is_blocked(self) -> bool:
        """True while every request is answered with 429."""
        return self.clock_s < self.blocked_until_s

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.struck = None
        self.clock_s += CALL_SECONDS
        headers = [("Content-Type", "application/json")]
        try:
            answer = self._answer(environ)
            status = 200 if answer is not None else _STATUS_OF_CHANGE[environ["REQUEST_METHOD"]]
            body = b"" if answer is None else json.dumps(answer, ensure_ascii=False).encode("utf-8")
            if self.struck == "malformed":
                body = body[: len(body) // 2]
        except _Refusal as refusal:
            status = refusal.status
            body = json.dumps({"error": str(refusal)}, ensure_ascii=False).encode("utf-8")
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            headers.append(("Retry-After", str(self._wait_s())))
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [body]

    def _wait_s(self) -> int:
        # Rounded first, so that sums of tenths do not ask for a second too many.
        return math.ceil(round(self.blocked_until_s - self.clock_s, 3))

    def _answer(self, environ: WSGIEnvironment) -> JsonValue:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"].split("/")[1:]
        if self.is_blocked:
            raise _Refusal(429, f"too many requests, retry after {self._wait_s()} s")
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = json.loads(environ["wsgi.input"].read(length)) if length else {}
        query = parse_qs(environ["QUERY_STRING"])
        # Operations carry the names of the tools that lead to them, so that a fault can name its target.
        operation: str
        commit: Commit
        if (method, path) == ("POST", ["token"]):
            operation, commit = "get_token", self._get_token(body)
        else:
            if environ.get("HTTP_AUTHORIZATION") != f"Bearer {self.token}":
                raise _Refusal(401, "token not valid")
            match method, path:
                case "GET", ["orders"]:
                    operation, commit = "list_orders", self._list(query.get("cursor", [""])[0])
                case "POST", ["orders"]:
                    operation, commit = "create_order", self._create(body)
                case "GET", ["orders", order]:
                    operation, commit = "get_order", self._get(order)
                case "PATCH", ["orders", order]:
                    operation, commit = "update_order", self._update(order, body)
                case _:
                    raise _Refusal(404, "no such page")
        self._strike(operation)
        return commit()

    def _strike(self, operation: str) -> None:
        self.struck = self._schedule.due(operation)
        if self.struck == "expired_token":
            self._tokens_issued += 1
            raise _Refusal(401, "token expired")
        if self.struck == "rate_limited":
            self.blocked_until_s = self.clock_s + self._parameters["retry_s"]
            raise _Refusal(429, f"too many requests, retry after {self._parameters['retry_s']} s")
        if self.struck == "server_error":
            raise _Refusal(500, "server error")

    # Operations: check, then return what does the work.

    def _get_token(self, body: dict[str, str]) -> Commit:
        if (body["client"], body["secret"]) != (self._parameters["client"], self._parameters["secret"]):
            raise _Refusal(401, "wrong client or secret")
        return lambda: {"token": self.token}

    def _list(self, cursor: str) -> Commit:
        cursors = ["", *self._parameters["cursors"]]
        if cursor not in cursors:
            raise _Refusal(400, f"unknown cursor {cursor!r}")
        start = cursors.index(cursor) * _PAGE_ROWS
        rows = list(self.rows.values())

        def commit() -> JsonValue:
            page: dict[str, JsonValue] = {
                "orders": {row["id"]: row["customer"] for row in rows[start : start + _PAGE_ROWS]}
            }
            following = cursors.index(cursor) + 1
            if start + _PAGE_ROWS < len(rows) and following < len(cursors):
                page["next"] = cursors[following]
            return page

        return commit

    def _row(self, order: str) -> dict[str, str]:
        if order not in self.rows:
            raise _Refusal(404, f"no order {order!r}")
        return self.rows[order]

    def _get(self, order: str) -> Commit:
        row = self._row(order)
        return lambda: {"item": row["item"], "city": row["city"]}

    def _create(self, body: dict[str, str]) -> Commit:
        for name in ("customer", "item"):
            if not body[name]:
                raise _Refusal(422, f"{name} is empty")
        number = int(self._parameters["new_id"])
        while str(number) in self.rows:
            number += 1
        order = str(number)

        def commit() -> JsonValue:
            self.rows[order] = {"id": order, "customer": body["customer"], "item": body["item"], "city": ""}
            return None

        return commit

    def _update(self, order: str, body: dict[str, str]) -> Commit:
        row = self._row(order)
        if not body["city"]:
            raise _Refusal(422, "city is empty")

        def commit() -> JsonValue:
            row["city"] = body["city"]
            return None

        return commit


class ApiWorld:
    """One task's shop and the functions that reach it. Entering opens the HTTP client, leaving closes it."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._family = _FAMILY_OF[task.family]
        self.shop = Shop(task)
        self._goals = self._family.goals(task.parameters)
        self._at_start = {order: dict(row) for order, row in self.shop.rows.items()}

    def __enter__(self) -> ApiWorld:
        # trust_env would read proxies from the environment and build a real transport for each.
        self._client = httpx.Client(
            transport=httpx.WSGITransport(self.shop), base_url="http://api.local", trust_env=False
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.close()

    # What the model can call. A docstring's first line is the description that the model reads.

    def get_token(self, client: str, secret: str) -> Commit:
        """Log in."""
        return lambda: self._request("POST", "/token", json={"client": client, "secret": secret})

    def list_orders(self, token: str, cursor: str = "") -> Commit:
        """List orders."""
        return lambda: self._request("GET", "/orders", token, params={"cursor": cursor} if cursor else None)

    def get_order(self, token: str, id: str) -> Commit:
        """Read an order."""
        return lambda: self._request("GET", f"/orders/{quote(id, safe='')}", token)

    def create_order(self, token: str, customer: str, item: str) -> Commit:
        """Create an order."""
        return lambda: self._request("POST", "/orders", token, json={"customer": customer, "item": item})

    def update_order(self, token: str, id: str, city: str) -> Commit:
        """Change an order."""
        return lambda: self._request("PATCH", f"/orders/{quote(id, safe='')}", token, json={"city": city})

    def wait(self, seconds: int) -> Commit:
        """Wait."""
        if not 0 <= seconds <= 600:
            raise ToolError("argument 'seconds' must be 0 to 600")

        def commit() -> JsonValue:
            self.shop.clock_s += seconds
            return "ok"

        return commit

    def answer(self, text: str) -> None:
        """Words change nothing here."""

    # The world's side of a call.

    def call(self, name: str, arguments: dict[str, Any]) -> Result:
        """Run one tool call; see `World`."""
        before_s = self.shop.clock_s
        output, error, injected = None, None, None
        try:
            output = check_call(self, self.task.tools, name, arguments)()
        except ToolError as fault:
            error, injected = str(fault), fault.injected
        except (ValueError, httpx.InvalidURL):  # text that no header or address can hold
            error = "not possible: an argument holds characters that are not allowed"
        return Result(output, error, injected, seconds=round(self.shop.clock_s - before_s, 3))

    def _request(self, method: str, path: str, token: str | None = None, **content: Any) -> JsonValue:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        response = self._client.request(method, path, headers=headers, **content)
        if response.is_success and not response.content:
            return "ok"
        try:
            answer: JsonValue = response.json()
        except ValueError:
            raise ToolError(f"malformed answer, cut off: {response.text[:12]}", self.shop.struck) from None
        if response.is_error:
            assert isinstance(answer, dict)
            raise ToolError(f"{response.status_code} {answer['error']}", self.shop.struck)
        return answer

    def missing_goals(self) -> list[dict[str, str]]:
        """The goals that do not hold: values that a row must have, with `id` where the row is there from the start."""
        rows = self.shop.rows
        created = [row for order, row in rows.items() if order not in self._at_start]
        return [
            goal
            for goal in self._goals
            if not any(goal.items() <= row.items() for row in ([rows[goal["id"]]] if "id" in goal else created))
        ]

    def verdict(self) -> Verdict:
        """Judge the rows as they are now; see the module's docstring."""
        missing = [f"no order with {goal}" for goal in self.missing_goals()]
        damage = []
        wanted_new = [goal for goal in self._goals if "id" not in goal]
        for order, row in self.shop.rows.items():
            if order in self._at_start:
                if row != self._at_start[order] and not any(goal.get("id") == order for goal in self._goals):
                    damage.append(f"order {order} is changed")
                continue
            # The city of a new order is nobody's business unless the task asks for one.
            match = next((goal for goal in wanted_new if goal.items() <= row.items() and not row["city"]), None)
            if match is None:
                damage.append(f"order {order} is too many")
            else:
                wanted_new.remove(match)
        return score_to_verdict(len(self._goals), missing, damage)

    def expert(self, history: Sequence[Action]) -> Move:
        """Wait while refused, get a token when none is known to be good, then the family's next call."""
        if not self.missing_goals():
            return Move(None, answer=DONE if self.verdict().score == 1 else GIVEN_UP)
        known = _history_to_known(history, self.task)
        names = {tool.function.name for tool in self.task.tools}
        move: Move | None
        if self.shop.is_blocked and known.retry_s is not None and "wait" in names:
            move = Move("wait", {"seconds": known.retry_s})
        elif known.token is None:
            p = self.task.parameters
            move = Move("get_token", {"client": p["client"], "secret": p["secret"]}) if "get_token" in names else None
        else:
            move = self._family.next_call(self, known, self.task.parameters)
        if move is None or move.command is None or failed_in_a_row(history, move.command, move.input) > 2:
            return Move(None, answer=GIVEN_UP)
        return move


def open(task: Task) -> ApiWorld:
    """The world of a task."""
    return ApiWorld(task)


@dataclass
class _Known:
    """What a model can know after a history."""

    token: str | None
    retry_s: int | None
    """What the last 429 said."""
    pages: dict[str, dict[str, Any]]
    """Cursor ("" for the first page) -> page."""
    orders: dict[str, dict[str, str]]
    """Id -> row as read."""


def _history_to_known(history: Sequence[Action], task: Task) -> _Known:
    token = str(task.parameters["token"])
    known = _Known(token if f'"{token}"' in task.instruction else None, None, {}, {})
    for action in history:
        if not isinstance(action.input, dict):
            continue
        given = action.input
        if action.error is not None:
            if told := _RETRY_AFTER.fullmatch(action.error):
                known.retry_s = int(told[1])
            elif action.error.startswith("401 token") and given.get("token") == known.token:
                known.token = None
            continue
        output: Any = action.output
        if action.command == "get_token":
            known.token = output["token"]
        elif action.command == "list_orders":
            known.pages[str(given.get("cursor", ""))] = output
        elif action.command == "get_order":
            known.orders[str(given["id"])] = output
    return known


# Steps: each returns the call that does it, or None when it is done.


def _create(world: ApiWorld, known: _Known, customer: str, item: str) -> Move | None:
    if not world.missing_goals():
        return None
    return Move("create_order", {"token": known.token, "customer": customer, "item": item})


def _update(world: ApiWorld, known: _Known, order: str, city: str) -> Move | None:
    if world.shop.rows[order]["city"] == city:
        return None
    return Move("update_order", {"token": known.token, "id": order, "city": city})


def _find(known: _Known, customer: str) -> str | Move:
    """The id of a customer's order, or the call that looks at the next page for it."""
    cursor = ""
    while page := known.pages.get(cursor):
        for order, name in page["orders"].items():
            if name == customer:
                return str(order)
        if "next" not in page:
            break
        cursor = page["next"]
    return Move("list_orders", {"token": known.token, **({"cursor": cursor} if cursor else {})})


def _find_and_update(world: ApiWorld, known: _Known, customer: str, city: str) -> Move | None:
    found = _find(known, customer)
    return found if isinstance(found, Move) else _update(world, known, found, city)


@dataclass(frozen=True)
class ApiFamily(Family):
    """A family with the rows that it asks for and the expert's way; None as next call means that nothing is left."""

    goals: Callable[[Any], list[dict[str, str]]] = lambda p: []
    next_call: Callable[[ApiWorld, _Known, Any], Move | None] = lambda world, known, p: None


def _draw_shop(draw: Draw, *, rows: int, subject: int | None = None) -> dict[str, JsonValue]:
    """A shop with `rows` orders. `token` is the first valid token, which some families state.
    `subject` is the row whose customer the instruction names, if it names one."""
    orders: list[JsonValue] = [
        {
            "id": str(draw.number(10, 99)),
            "customer": draw.person() if index == subject else draw.bystander(),
            "item": draw.item(),
            "city": draw.city(),
        }
        for index in range(rows)
    ]
    tokens: list[JsonValue] = [draw.word(), draw.word()]
    return {
        "client": draw.folder(),
        "secret": draw.word(),
        "tokens": tokens,
        "token": tokens[0],
        "orders": orders,
        "cursors": [draw.word() for _ in range(rows // _PAGE_ROWS)],
        "new_id": str(draw.number(10, 99)),
        "retry_s": draw.number(5, 60),
    }


def _draw_create(draw: Draw) -> dict[str, JsonValue]:
    shop = _draw_shop(draw, rows=2)
    return {**shop, "customer": draw.person(), "item": draw.item()}


def _draw_update(draw: Draw, *, rows: int, first: int = 0) -> dict[str, JsonValue]:
    """`first` is the first row that the order to change may stand in."""
    subject = draw.random.randrange(first, rows)
    shop: Any = _draw_shop(draw, rows=rows, subject=subject)
    row = shop["orders"][subject]
    cursor = shop["cursors"][0]
    return {**shop, "id": row["id"], "customer": row["customer"], "city": draw.city(), "cursor": cursor}


def _draw_reorder(draw: Draw) -> dict[str, JsonValue]:
    shop: Any = _draw_shop(draw, rows=2)
    row = draw.random.choice(shop["orders"])
    return {**shop, "id": row["id"], "item": row["item"], "customer": draw.person()}


def _draw_two(draw: Draw) -> dict[str, JsonValue]:
    shop: Any = _draw_shop(draw, rows=2)
    first, second = draw.random.sample(shop["orders"], 2)
    return {
        **shop,
        "customer": first["customer"],
        "id": first["id"],
        "customer_2": second["customer"],
        "id_2": second["id"],
        "city": draw.city(),
    }


def _next_reorder(world: ApiWorld, known: _Known, p: Any) -> Move | None:
    if p["id"] not in known.orders:
        return Move("get_order", {"token": known.token, "id": p["id"]})
    return _create(world, known, p["customer"], known.orders[p["id"]]["item"])


def _next_two(world: ApiWorld, known: _Known, p: Any) -> Move | None:
    first = _find_and_update(world, known, p["customer"], p["city"])
    return first or _find_and_update(world, known, p["customer_2"], p["city"])


def _goal_created(p: Any) -> list[dict[str, str]]:
    return [{"customer": p["customer"], "item": p["item"]}]


def _goal_updated(p: Any) -> list[dict[str, str]]:
    return [{"id": p["id"], "city": p["city"]}]


FAMILIES: tuple[ApiFamily, ...] = (
    ApiFamily(
        name="create",
        tier=1,
        tools=("create_order", "get_token", "wait"),
        draw=_draw_create,
        english=(
            'Token "{token}", client "{client}", secret "{secret}": order "{item}" for "{customer}".',
            'Order "{item}" for "{customer}". Token "{token}", client "{client}", secret "{secret}".',
        ),
        korean='토큰 "{token}", client "{client}", secret "{secret}": "{customer}"에게 "{item}" 주문을 만드세요.',
        facts=("token", "customer", "item"),
        faults=(
            Fault("expired_token", "create_order", 0),
            Fault("rate_limited", "create_order", 0),
            Fault("server_error", "create_order", 0),
        ),
        goals=_goal_created,
        next_call=lambda world, known, p: _create(world, known, p["customer"], p["item"]),
    ),
    ApiFamily(
        name="update",
        tier=1,
        tools=("update_order", "get_token", "wait"),
        draw=lambda draw: _draw_update(draw, rows=2),
        english=(
            'Token "{token}", client "{client}", secret "{secret}": order "{id}" goes to "{city}".',
            'Order "{id}" goes to "{city}". Token "{token}", client "{client}", secret "{secret}".',
        ),
        korean='토큰 "{token}", client "{client}", secret "{secret}": 주문 "{id}"의 도시를 "{city}"(으)로 바꾸세요.',
        facts=("token", "id", "city"),
        faults=(
            Fault("expired_token", "update_order", 0),
            Fault("rate_limited", "update_order", 0),
            Fault("server_error", "update_order", 0),
        ),
        goals=_goal_updated,
        next_call=lambda world, known, p: _update(world, known, p["id"], p["city"]),
    ),
    ApiFamily(
        name="login-create",
        tier=2,
        tools=("get_token", "create_order", "wait"),
        draw=_draw_create,
        english=(
            'Client "{client}", secret "{secret}": order "{item}" for "{customer}".',
            'Order "{item}" for "{customer}" as client "{client}" with secret "{secret}".',
        ),
        korean='client "{client}", secret "{secret}": "{customer}"에게 "{item}" 주문을 만드세요.',
        facts=("client", "secret", "token", "customer", "item"),
        faults=(
            Fault("server_error", "get_token", 0),
            Fault("malformed", "get_token", 0),
            Fault("server_error", "create_order", 0),
        ),
        goals=_goal_created,
        next_call=lambda world, known, p: _create(world, known, p["customer"], p["item"]),
    ),
    ApiFamily(
        name="find-update",
        tier=2,
        tools=("list_orders", "update_order", "wait"),
        draw=lambda draw: _draw_update(draw, rows=2),
        english=(
            'Token "{token}": the order of "{customer}" goes to "{city}".',
            'Change the city of the order of "{customer}" to "{city}", token "{token}".',
        ),
        korean='토큰 "{token}": "{customer}"의 주문 도시를 "{city}"(으)로 바꾸세요.',
        facts=("token", "id", "city"),
        faults=(
            Fault("server_error", "list_orders", 0),
            Fault("malformed", "list_orders", 0),
            Fault("server_error", "update_order", 0),
        ),
        goals=_goal_updated,
        next_call=lambda world, known, p: _find_and_update(world, known, p["customer"], p["city"]),
    ),
    ApiFamily(
        name="reorder",
        tier=2,
        tools=("get_order", "create_order", "wait"),
        draw=_draw_reorder,
        english=(
            'Token "{token}": order for "{customer}" the item of order "{id}".',
            'Order the item of order "{id}" for "{customer}" too, token "{token}".',
        ),
        korean='토큰 "{token}": 주문 "{id}"의 item을 "{customer}"에게도 주문하세요.',
        facts=("token", "id", "item", "customer"),
        faults=(
            Fault("server_error", "get_order", 0),
            Fault("malformed", "get_order", 0),
            Fault("server_error", "create_order", 0),
        ),
        goals=_goal_created,
        next_call=_next_reorder,
    ),
    ApiFamily(
        name="login-find-update",
        tier=3,
        tools=("get_token", "list_orders", "update_order"),
        draw=lambda draw: _draw_update(draw, rows=2),
        english=(
            'Client "{client}", secret "{secret}": the order of "{customer}" goes to "{city}".',
            'The order of "{customer}" goes to "{city}". Client "{client}", secret "{secret}".',
        ),
        facts=("secret", "token", "id", "city"),
        goals=_goal_updated,
        next_call=lambda world, known, p: _find_and_update(world, known, p["customer"], p["city"]),
    ),
    ApiFamily(
        name="pages",
        tier=3,
        tools=("list_orders", "update_order", "wait"),
        draw=lambda draw: _draw_update(draw, rows=3, first=2),
        english=('Token "{token}": the order of "{customer}" goes to "{city}".',),
        facts=("token", "cursor", "id", "city"),
        goals=_goal_updated,
        next_call=lambda world, known, p: _find_and_update(world, known, p["customer"], p["city"]),
    ),
    ApiFamily(
        name="two",
        tier=3,
        tools=("list_orders", "update_order", "wait"),
        draw=_draw_two,
        english=('Token "{token}": the orders of "{customer}" and "{customer_2}" go to "{city}".',),
        facts=("token", "id", "id_2", "city"),
        goals=lambda p: [{"id": p["id"], "city": p["city"]}, {"id": p["id_2"], "city": p["city"]}],
        next_call=_next_two,
    ),
)

_FAMILY_OF = {family.name: family for family in FAMILIES}
TOOLS = {
    function.__name__: function_to_spec(function)
    for function in (
        ApiWorld.get_token,
        ApiWorld.list_orders,
        ApiWorld.get_order,
        ApiWorld.create_order,
        ApiWorld.update_order,
        ApiWorld.wait,
    )
}


def tasks(split: Split, count: int, seed: int) -> list[Task]:
    """`count` distinct tasks over all families, the same for the same arguments."""
    return families_to_tasks(FAMILIES, TOOLS, world="api", split=split, count=count, seed=seed)
