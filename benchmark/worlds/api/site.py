"""The services of a shop as one WSGI app: REST and GraphQL, OAuth, cursors, entity tags, idempotency keys, limits, faults.

It knows nothing of tools and tasks beyond the schedule of faults. `benchmark/worlds/api/world.py` has the client that calls
it and says what the faults are.

=========================  ======================================  =====================================================
request                    body, query or header                   answer
=========================  ======================================  =====================================================
POST /oauth/token          a form: grant_type (client_credentials  {"access_token", "refresh_token"}; the second only for
                           of RFC 6749, refresh_token, or the      refresh_token, and then the old one is used up
                           token-exchange of RFC 8693)
GET /orders, /charges      ?cursor=                                {"orders": {id: customer}, "next": cursor}
GET /orders/ID             (customers, items and charges alike)    the row; its version as ETag
POST /orders               {"customer", "item"}                    201
PATCH /orders/ID           {"city"}                                204
DELETE /orders/ID                                                  204
PATCH /customers, /items   one field; If-Match: version            204
POST /charges              {"customer", "amount"};                 201, {"id"}
                           Idempotency-Key
POST /charges/ID/refund    Idempotency-Key                         201, {"id"}
POST /messages             {"to", "text"}; Idempotency-Key         201, {"id"}
GET /documents/NAME                                                {"text"}
POST /reports              {"name"}                                202, {"id", "ready_in_s"}
GET /reports/ID                                                    {"state"}, and {"total"} when it is done
GET /graphql               (the schema)                            {"schema"}
POST /graphql              {"query"}                               {"data", "errors"}
=========================  ======================================  =====================================================

All but the first need `Authorization: Bearer TOKEN`. `next` is missing on the last page. An idempotency key that comes again
with the same request gives the same answer and does nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

from pydantic import JsonValue

from benchmark.worlds.tools import Schedule
from benchmark.worlds.world import Task
from core.errors import nearest

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from graphql import GraphQLSchema

CALL_SECONDS = 0.2
TIMEOUT_SECONDS = 30.0
TABLES = ("orders", "customers", "items", "charges", "refunds", "messages")
AUTH = "oauth"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_PAGE_ROWS = 2
_MOST_ROWS = 200
_GRANTS = {"client_credentials": "get_token", "refresh_token": "refresh_token", TOKEN_EXCHANGE: "exchange_token"}
_MOST_QUERY_TOKENS, _MOST_QUERY_DEPTH = 300, 12

SCHEMA = """\
type Query {
  customer(name: String!): Customer
  order(id: ID!): Order
  orders(after: String): OrderPage
}
type Mutation {
  setCity(order: ID!, city: String!): Order
  createOrder(customer: String!, item: String!, key: String!): Order
  sendMessage(to: String!, text: String!, key: String!): Message
}
type Customer { name: String! city: String! code: String! orders: [Order!] }
type Order { id: ID! item: String! city: String! customer: Customer }
type OrderPage { orders: [Order!]! next: String }
type Message { id: ID! to: String! text: String! }
"""

Row = dict[str, str]


@dataclass(frozen=True)
class Rules:
    """What holds in the shop of a family, beside its rows."""

    restricted: tuple[str, ...] = ()
    """Services that take only a token that was exchanged for them."""
    calls_per_window: int = 0
    """Most requests within the task's `window_s`; 0 where there is no such limit."""


class _Refusal(Exception):
    """An HTTP error answer."""

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


class _Answer(NamedTuple):
    body: JsonValue = None
    status: int = 200
    version: str | None = None


@dataclass(frozen=True)
class _Request:
    method: str
    path: list[str]
    body: dict[str, Any]
    cursor: str
    token: str | None
    key: str | None
    version: str | None

    @property
    def service(self) -> str:
        return self.path[0]


@dataclass
class _State:
    """All that a request may change and a fault undoes."""

    tables: dict[str, dict[str, Row]]
    tokens: dict[str, str]
    """Token that is good now -> the service that it was exchanged for; "" where it was not."""
    tokens_issued: int = 0
    refreshes_used: int = 0
    jobs: dict[str, float] = field(default_factory=dict)
    """Id of a report -> second at which it is done."""

    def copy(self) -> _State:
        tables = {name: {key: dict(row) for key, row in rows.items()} for name, rows in self.tables.items()}
        return _State(tables, dict(self.tokens), self.tokens_issued, self.refreshes_used, dict(self.jobs))


class Shop:
    """The WSGI app. `struck` names the fault that hit the last request, or is None."""

    def __init__(self, task: Task, rules: Rules, documents: Callable[[], dict[str, str]]) -> None:
        p: Any = task.parameters
        self.rules = rules
        self.clock_s = 0.0
        self.struck: str | None = None
        self._parameters = p
        self._documents = documents
        self._schedule = Schedule(task.faults)
        tables = {name: {row["id"]: {"version": "1", **row} for row in p.get(name, ())} for name in TABLES}
        self._state = _State(tables, {})
        self._issue_token("")
        self._closed_until_s: dict[str, float] = {}
        """Service ("" for all) -> second until which it refuses requests."""
        self._requests_s: list[float] = []
        self._moved: dict[tuple[str, str], str] = {}
        """(table, id) -> the id that it has now."""
        self._renamed: dict[str, str] = {}
        self._cursors_ended = 0
        self._is_refresh_ended = False
        self._cursor = ""
        """The cursor that the request under way has used."""
        self._crossings = 0
        """How often a GraphQL query went from one type to another; with `partial_data` the first of them fails."""
        self._is_broken = False

    # What others may see.

    @property
    def tables(self) -> dict[str, dict[str, Row]]:
        """The rows by table and id."""
        return self._state.tables

    def wait_s(self, service: str) -> int:
        """Whole seconds until the service takes requests again; 0 where it does now."""
        until_s = max(self._closed_until_s.get("", 0), self._closed_until_s.get(service, 0))
        if self.calls_left == 0:
            until_s = max(until_s, self._requests_s[-self.rules.calls_per_window] + self._parameters["window_s"])
        # Rounded first, so that sums of tenths do not ask for a second too many.
        return max(0, math.ceil(round(until_s - self.clock_s, 3)))

    @property
    def calls_left(self) -> int | None:
        """How many requests the limit allows now; None where there is no limit."""
        if not self.rules.calls_per_window:
            return None
        since_s = round(self.clock_s - self._parameters["window_s"], 3)
        return max(0, self.rules.calls_per_window - sum(at_s > since_s for at_s in self._requests_s))

    # A request.

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.struck = None
        self.clock_s = round(self.clock_s + CALL_SECONDS, 3)
        headers = [("Content-Type", "application/json")]
        try:
            answer = self._answer(_to_request(environ))
            body = (
                b""
                if answer.body is None
                else json.dumps(answer.body, ensure_ascii=False).encode("utf-8", errors="replace")
            )
            if self.struck == "malformed":
                body = body[: len(body) // 2]
            status = answer.status
            if answer.version is not None:
                headers.append(("ETag", f'"{answer.version}"'))
        except _Refusal as refusal:
            status = refusal.status
            body = json.dumps({"error": str(refusal)}, ensure_ascii=False).encode("utf-8", errors="replace")
            headers += [(name.replace("_", "-"), value) for name, value in refusal.headers.items()]
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [body]

    def _answer(self, request: _Request) -> _Answer:
        self._refuse_if_closed(request.service)
        self._requests_s.append(self.clock_s)
        operation, run = self._route(request)
        if request.service != AUTH:
            self._check_token(request)
        before = self._state.copy()
        self._cursor, self._crossings = "", 0
        try:
            answer = run()
            self.struck = self._due(operation, request, answer)
        except _Refusal:
            self._state = before
            raise
        if self.struck is None:
            return answer
        if self.struck != "lost_answer":
            self._state = before
        return self._strike(self.struck, request, run, answer)

    def _refuse_if_closed(self, service: str) -> None:
        if seconds := self.wait_s(service):
            is_down = self._closed_until_s.get(service, 0) > self.clock_s
            status, text = (503, f"the service {service} is down") if is_down else (429, "too many requests")
            raise _Refusal(status, f"{text}, retry after {seconds} s", Retry_After=str(seconds))

    def _check_token(self, request: _Request) -> None:
        if request.token not in self._state.tokens:
            raise _Refusal(401, "token not valid", WWW_Authenticate='Bearer error="invalid_token"')
        made_for = self._state.tokens[request.token]
        if made_for not in ("", request.service) or (request.service in self.rules.restricted and not made_for):
            raise _Refusal(403, f"this token is not for the service {request.service}, exchange it")

    def _route(self, request: _Request) -> tuple[str, Callable[[], _Answer]]:
        """The operation, under the name of the tool that leads to it, so that a fault can name its target."""
        body = request.body
        match request.method, request.path:
            case "POST", ["oauth", "token"]:
                grant = _GRANTS.get(str(body.get("grant_type")))
                if grant is None:
                    raise _Refusal(400, "unsupported_grant_type")
                return grant, lambda: self._grant(grant, body)
            case "GET", ["orders" | "charges" as table]:
                return f"list_{table}", lambda: self._list(table, request.cursor)
            case "GET", ["orders" | "customers" | "items" | "charges" as table, key]:
                return f"get_{table[:-1]}", lambda: self._read(table, key)
            case "POST", ["orders"]:
                return "create_order", lambda: self._add_order(body)
            case "PATCH", ["orders", key]:
                return "update_order", lambda: self._change("orders", key, {"city": _text(body, "city")})
            case "DELETE", ["orders", key]:
                return "delete_order", lambda: self._delete("orders", key)
            case "PATCH", ["items", key]:
                return "set_count", lambda: self._change(
                    "items", key, {"count": _number(body, "count")}, _version(request)
                )
            case "PATCH", ["customers", key]:
                return "change_customer", lambda: self._change_customer(key, body, _version(request))
            case "POST", ["charges"]:
                return "charge_customer", lambda: self._charge(body, request.key)
            case "POST", ["charges", key, "refund"]:
                return "refund_charge", lambda: self._refund(key, request.key)
            case "POST", ["messages"]:
                return "send_message", lambda: self._send(body, request.key)
            case "GET", ["documents", key]:
                return "read_document", lambda: self._document(key)
            case "POST", ["reports"]:
                return "start_report", lambda: self._start_report(_text(body, "name"))
            case "GET", ["reports", key]:
                return "get_report", lambda: self._report(key)
            case "GET", ["graphql"]:
                return "read_schema", lambda: _Answer({"schema": SCHEMA})
            case "POST", ["graphql"]:
                return "graphql", lambda: self._graphql(_text(body, "query"))
        raise _Refusal(404, "no such page")

    # Faults.

    def _due(self, operation: str, request: _Request, answer: _Answer) -> str | None:
        """The fault that strikes a request that was right. Where it has nothing to hit, nothing happens."""
        kind = self._schedule.due(operation)
        may_hit = {
            "malformed": answer.body is not None and operation != "refresh_token",
            "expired_token": request.service != AUTH or operation == "exchange_token",
            "invalid_grant": operation == "refresh_token",
            "lost_answer": request.key is not None or operation == "graphql",
            "stale_cursor": bool(self._cursor),
            "version_conflict": request.version is not None,
            "renamed_field": operation == "change_customer",
            "moved": len(request.path) > 1 and request.service in TABLES,
            "partial_data": self._crossings > 0,
        }
        return kind if kind is not None and may_hit.get(kind, True) else None

    def _strike(self, kind: str, request: _Request, run: Callable[[], _Answer], answer: _Answer) -> _Answer:
        """Let the fault happen; what it leads to is what anybody would meet from now on."""
        retry_s = self._parameters["retry_s"]
        if kind == "malformed":
            return answer
        if kind == "server_error":
            raise _Refusal(500, "server error, nothing was done")
        if kind in ("timeout", "lost_answer"):
            self.clock_s += TIMEOUT_SECONDS
            raise _Refusal(504, f"no answer within {TIMEOUT_SECONDS:.0f} s, it may have been done or not")
        if kind == "expired_token":
            del self._state.tokens[str(request.token or request.body["subject_token"])]
            raise _Refusal(401, "token expired", WWW_Authenticate='Bearer error="invalid_token"')
        if kind in ("rate_limited", "service_down"):
            self._closed_until_s["" if kind == "rate_limited" else request.service] = self.clock_s + retry_s
            self._refuse_if_closed(request.service)
        if kind == "partial_data":
            self._is_broken, self._crossings = True, 0
            try:
                return run()
            finally:
                self._is_broken = False
        if kind == "stale_cursor":
            self._cursors_ended += 1
        elif kind == "invalid_grant":
            self._is_refresh_ended = True
        elif kind == "renamed_field":
            [name] = request.body
            self._renamed[name] = f"{name}_name"
        elif kind == "moved":
            self._moved[request.service, request.path[1]] = self._parameters["spare"]
        elif kind == "version_conflict":
            row = self.tables[request.service][self._key(request.service, request.path[1])]
            row["version"] = str(int(row["version"]) + 1)
        else:
            raise AssertionError(f"no fault {kind!r}")
        return run()

    # Tokens.

    def _issue_token(self, service: str) -> str:
        """The token for a service that is good now, a new one if there is none."""
        state = self._state
        good = next((token for token, made_for in state.tokens.items() if made_for == service), None)
        if good is not None:
            return good
        names: list[str] = self._parameters["tokens"]
        turn, which = divmod(state.tokens_issued, len(names))
        state.tokens_issued += 1
        token = names[which] + (str(turn) if turn else "")
        state.tokens[token] = service
        return token

    @property
    def _refresh(self) -> str:
        return f"{self._parameters['refresh']}{self._state.refreshes_used or ''}"

    def _grant(self, grant: str, body: dict[str, Any]) -> _Answer:
        p = self._parameters
        if grant == "get_token":
            if (body.get("client_id"), body.get("client_secret")) != (p["client"], p["secret"]):
                raise _Refusal(401, "wrong client or secret")
            return _Answer({"access_token": self._issue_token("")})
        if grant == "refresh_token":
            if self._is_refresh_ended:
                raise _Refusal(400, "invalid_grant: the refresh token has ended, log in with client and secret")
            if "refresh" not in p or body.get("refresh_token") != self._refresh:
                raise _Refusal(400, "invalid_grant: no such refresh token")
            self._state.refreshes_used += 1
            return _Answer({"access_token": self._issue_token(""), "refresh_token": self._refresh})
        if self._state.tokens.get(str(body.get("subject_token"))) != "":
            raise _Refusal(401, "token not valid")
        service = str(body.get("audience"))
        if service not in self.rules.restricted:
            raise _Refusal(
                400, f"invalid_target: no tokens for {service[:40]!r}.{nearest(service, self.rules.restricted)}"
            )
        return _Answer({"access_token": self._issue_token(service)})

    # Rows.

    def _key(self, table: str, named: str) -> str:
        """The key of the row that has this id now.

        Raises:
            _Refusal: if it has moved, or there is none.
        """
        if (table, named) in self._moved:
            new = self._moved[table, named]
            raise _Refusal(301, f"{named!r} has moved to {new!r}", Location=f"/{table}/{new}")
        key = next((old for (where, old), new in self._moved.items() if (where, new) == (table, named)), named)
        if key not in self.tables[table]:
            raise _Refusal(404, f"no {table[:-1]} {named[:40]!r}")
        return key

    def _id(self, table: str, key: str) -> str:
        return self._moved.get((table, key), key)

    def _read(self, table: str, named: str) -> _Answer:
        row = self.tables[table][self._key(table, named)]
        shown: dict[str, JsonValue] = {
            self._renamed.get(name, name) if table == "customers" else name: int(value)
            if name in ("price", "count", "amount")
            else value
            for name, value in row.items()
            if name not in ("id", "key", "version") and (table, name) != ("orders", "customer")
        }
        return _Answer(shown, version=row["version"])

    def _page(self, table: str, cursor: str) -> tuple[list[Row], str | None]:
        words: list[str] = self._parameters.get("cursors", [])
        cursors = ["", *(word + str(self._cursors_ended or "") for word in words)]
        if cursor not in cursors:
            if cursor.rstrip("0123456789") in words:
                raise _Refusal(410, f"the cursor {cursor!r} has ended, begin again without one")
            raise _Refusal(400, f"unknown cursor {cursor[:40]!r}")
        self._cursor = cursor
        at = cursors.index(cursor)
        rows = list(self.tables[table].values())
        has_next = (at + 1) * _PAGE_ROWS < len(rows) and at + 1 < len(cursors)
        return rows[at * _PAGE_ROWS : (at + 1) * _PAGE_ROWS], cursors[at + 1] if has_next else None

    def _list(self, table: str, cursor: str) -> _Answer:
        rows, following = self._page(table, cursor)
        page: dict[str, JsonValue] = {table: {self._id(table, row["id"]): row["customer"] for row in rows}}
        return _Answer(page if following is None else {**page, "next": following})

    def _change(self, table: str, named: str, change: Row, version: str | None = None) -> _Answer:
        row = self.tables[table][self._key(table, named)]
        if version not in (None, row["version"]):
            raise _Refusal(412, f"version {str(version)[:40]} of {named!r} is out of date, read it again")
        row.update(change, version=str(int(row["version"]) + 1))
        return _Answer(status=204)

    def _change_customer(self, named: str, body: dict[str, Any], version: str) -> _Answer:
        fields = {self._renamed.get(name, name): name for name in ("city", "phone")}
        if len(body) != 1:
            raise _Refusal(422, "one field at a time")
        [name] = body
        if name in self._renamed:
            raise _Refusal(422, f"no field {name!r}, it is called {self._renamed[name]!r} now")
        if name not in fields:
            raise _Refusal(422, f"no field {name[:40]!r}.{nearest(name, fields)}")
        return self._change("customers", named, {fields[name]: _text(body, name)}, version)

    def _delete(self, table: str, named: str) -> _Answer:
        del self.tables[table][self._key(table, named)]
        return _Answer(status=204)

    def _add(self, table: str, row: Row, *, is_keyed: bool = True) -> str:
        """Add a row and return its id. A key that was used for the same row gives that row again, and adds none."""
        if is_keyed:
            if not row.get("key"):
                raise _Refusal(428, "Idempotency-Key is missing")
            for name, rows in self.tables.items():
                for key, other in rows.items():
                    if other.get("key") == row["key"]:
                        if name == table and row.items() <= other.items():
                            return key
                        raise _Refusal(422, f"the key {row['key'][:40]!r} was used for something else")
        rows = self.tables[table]
        if len(rows) >= _MOST_ROWS:
            raise _Refusal(409, f"there are too many {table}")
        number = int(self._parameters["new_id"])
        while str(number) in rows:
            number += 1
        rows[str(number)] = {"id": str(number), "version": "1", **row}
        return str(number)

    def _add_order(self, body: dict[str, Any]) -> _Answer:
        row = {"customer": _text(body, "customer"), "item": _text(body, "item"), "city": ""}
        self._add("orders", row, is_keyed=False)
        return _Answer(status=201)

    def _charge(self, body: dict[str, Any], key: str | None) -> _Answer:
        customer = self._key("customers", _text(body, "customer"))
        amount = _number(body, "amount")
        return _Answer({"id": self._add("charges", {"customer": customer, "amount": amount, "key": key or ""})}, 201)

    def _refund(self, named: str, key: str | None) -> _Answer:
        charge = self._key("charges", named)
        for other in self.tables["refunds"].values():
            if other["charge"] == charge and other["key"] != key:
                raise _Refusal(409, f"{named!r} is refunded already")
        return _Answer({"id": self._add("refunds", {"charge": charge, "key": key or ""})}, 201)

    def _send(self, body: dict[str, Any], key: str | None) -> _Answer:
        row = {"to": _text(body, "to"), "text": _text(body, "text"), "key": key or ""}
        return _Answer({"id": self._add("messages", row)}, 201)

    # Documents and reports.

    def _document(self, name: str) -> _Answer:
        documents = self._documents()  # they may be long, so they are written when somebody reads
        if name not in documents:
            raise _Refusal(404, f"no document {name[:40]!r}.{nearest(name, documents)}")
        return _Answer({"text": documents[name]})

    def _start_report(self, name: str) -> _Answer:
        p = self._parameters
        if name != p.get("report"):
            raise _Refusal(404, f"no report {name[:40]!r}")
        ready_s = self._state.jobs.setdefault(p["job"], self.clock_s + p["ready_s"])
        return _Answer({"id": p["job"], "ready_in_s": max(0, math.ceil(round(ready_s - self.clock_s, 3)))}, 202)

    def _report(self, job: str) -> _Answer:
        if job not in self._state.jobs:
            raise _Refusal(404, f"no report {job[:40]!r}")
        left_s = math.ceil(round(self._state.jobs[job] - self.clock_s, 3))
        if left_s > 0:
            return _Answer({"state": "running", "ready_in_s": left_s})
        return _Answer({"state": "done", "total": self._parameters["total"]})

    # GraphQL: parsed, checked and carried out by graphql-core, https://spec.graphql.org.

    def _graphql(self, query: str) -> _Answer:
        from graphql import GraphQLError, execute_sync, parse, validate  # noqa: PLC0415 - few tasks need it

        depth = deepest = 0
        for character in query:
            depth += (character in "{([") - (character in "})]")
            deepest = max(deepest, depth)
        if deepest > _MOST_QUERY_DEPTH:  # before a parser that calls itself for each level
            raise _Refusal(400, f"the query is nested more than {_MOST_QUERY_DEPTH} deep")
        try:
            document = parse(query, max_tokens=_MOST_QUERY_TOKENS)
            errors = validate(_schema(), document, max_errors=3)
        except GraphQLError as error:
            errors = [error]
        if errors:
            raise _Refusal(400, "; ".join(error.message for error in errors))
        result = execute_sync(_schema(), document, _Graph(self))
        errors = result.errors or []
        if errors and not self._is_broken:
            if isinstance(errors[0].original_error, _Refusal):
                raise errors[0].original_error
            raise _Refusal(422, "; ".join(error.message for error in errors))
        told: list[JsonValue] = [{"message": error.message, "path": list(error.path or ())} for error in errors]
        data: JsonValue = result.data
        return _Answer({"data": data, "errors": told} if told else {"data": data})


class _Graph:
    """The root of GraphQL's types: what each field gives."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def customer(self, info: Any, name: str) -> dict[str, Any]:
        """A customer by name."""
        return self._customer(self._shop._key("customers", name))

    def order(self, info: Any, id: str) -> dict[str, Any]:
        """An order by id."""
        return self._order(self._shop._key("orders", id))

    def orders(self, info: Any, after: str = "") -> dict[str, Any]:
        """A page of orders."""
        rows, following = self._shop._page("orders", after)
        return {"orders": [self._order(row["id"]) for row in rows], "next": following}

    def setCity(self, info: Any, order: str, city: str) -> dict[str, Any]:
        """Change an order's city."""
        self._shop._change("orders", order, {"city": _text({"city": city}, "city")})
        return self._order(self._shop._key("orders", order))

    def createOrder(self, info: Any, customer: str, item: str, key: str) -> dict[str, Any]:
        """Create an order once for a key."""
        row = {"customer": self._shop._key("customers", customer), "item": _text({"item": item}, "item")}
        return self._order(self._shop._add("orders", {**row, "city": "", "key": key}))

    def sendMessage(self, info: Any, to: str, text: str, key: str) -> Row:
        """Send a message once for a key."""
        row = {"to": _text({"to": to}, "to"), "text": _text({"text": text}, "text"), "key": key}
        return self._shop.tables["messages"][self._shop._add("messages", row)]

    def _customer(self, key: str) -> dict[str, Any]:
        def orders(info: Any) -> list[dict[str, Any]]:
            self._cross("orders")
            return [self._order(row["id"]) for row in self._shop.tables["orders"].values() if row["customer"] == key]

        row = self._shop.tables["customers"][key]
        return {"name": self._shop._id("customers", key), "city": row["city"], "code": row["code"], "orders": orders}

    def _order(self, key: str) -> dict[str, Any]:
        row = self._shop.tables["orders"][key]

        def customer(info: Any) -> dict[str, Any] | None:
            self._cross("customers")
            return self._customer(row["customer"]) if row["customer"] in self._shop.tables["customers"] else None

        return {**row, "id": self._shop._id("orders", key), "customer": customer}

    def _cross(self, service: str) -> None:
        self._shop._crossings += 1
        if self._shop._is_broken and self._shop._crossings == 1:
            raise _Refusal(503, f"the service {service} did not answer")


@cache
def _schema() -> GraphQLSchema:
    from graphql import build_schema  # noqa: PLC0415 - few tasks need it

    return build_schema(SCHEMA)


def _to_request(environ: WSGIEnvironment) -> _Request:
    path = environ["PATH_INFO"]
    with suppress(UnicodeError):  # WSGI hands bytes on as Latin-1; httpx hands text on as it is
        path = path.encode("latin-1").decode("utf-8")
    length = int(environ.get("CONTENT_LENGTH") or 0)
    content = environ["wsgi.input"].read(length)
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        body: Any = {name: values[0] for name, values in parse_qs(content.decode("utf-8", errors="replace")).items()}
    else:
        try:
            body = json.loads(content) if content else {}
        except (ValueError, RecursionError):
            raise _Refusal(400, "the body is no JSON") from None
    if not isinstance(body, dict):
        raise _Refusal(400, "the body is no JSON object")
    authorization = environ.get("HTTP_AUTHORIZATION", "")
    return _Request(
        method=environ["REQUEST_METHOD"],
        path=path.split("/")[1:] or [""],
        body=body,
        cursor=parse_qs(environ["QUERY_STRING"]).get("cursor", [""])[0],
        token=authorization.removeprefix("Bearer ") if authorization.startswith("Bearer ") else None,
        key=environ.get("HTTP_IDEMPOTENCY_KEY"),
        version=environ["HTTP_IF_MATCH"].strip('"') if "HTTP_IF_MATCH" in environ else None,
    )


def _version(request: _Request) -> str:
    if request.version is None:
        raise _Refusal(428, "If-Match with the version is missing")
    return request.version


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise _Refusal(422, f"{name} is empty" if value in ("", None) else f"{name} must be text")
    return value


def _number(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if type(value) is not int or not 1 <= value <= 10**6:
        raise _Refusal(422, f"{name} must be a number from 1 to 1000000")
    return str(value)
