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
from dataclasses import dataclass, field
from http.client import responses
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from benchmark.worlds.api.graph import SCHEMA, answer_query
from benchmark.worlds.api.requests import (
    AUTH,
    TABLES,
    Answer,
    Refusal,
    Request,
    environ_to_request,
    number_of,
    text_of,
    version_of,
)
from benchmark.worlds.api.troubles import TROUBLES, Served
from benchmark.worlds.tools import Schedule, Standing
from benchmark.worlds.troubles import Values
from benchmark.worlds.world import Task
from core.errors import nearest

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

CALL_SECONDS = 0.2
TIMEOUT_SECONDS = 30.0
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_UNAUTHORIZED = {"WWW_Authenticate": 'Bearer error="invalid_token"'}
_PAGE_ROWS = 2
_MOST_ROWS = 200
_GRANTS = {"client_credentials": "get_token", "refresh_token": "refresh_token", TOKEN_EXCHANGE: "exchange_token"}

Entity = dict[str, str]


@dataclass(frozen=True)
class Rules:
    """What holds in the shop of a family, beside its rows."""

    restricted: tuple[str, ...] = ()
    """Services that take only a token that was exchanged for them."""
    calls_per_window: int = 0
    """Most requests within the task's `window_s`; 0 where there is no such limit."""


@dataclass
class _State:
    """All that a request may change and a fault undoes."""

    tables: dict[str, dict[str, Entity]]
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
        self.standing: list[Standing] = []
        """Troubles that later requests meet too."""
        self.crossings: int = 0
        """How often a GraphQL query went from one type to another; with `partial_data` the first of them fails."""
        self.is_broken = False

    # What others may see.

    @property
    def tables(self) -> dict[str, dict[str, Entity]]:
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
            answer = self._answer(environ_to_request(environ))
            body = (
                b""
                if answer.body is None
                else json.dumps(answer.body, ensure_ascii=False).encode("utf-8", errors="replace")
            )
            if answer.is_cut_off:
                body = body[: len(body) // 2]
            status = answer.status
            if answer.version is not None:
                headers.append(("ETag", f'"{answer.version}"'))
        except Refusal as refusal:
            status = refusal.status
            body = json.dumps({"error": str(refusal)}, ensure_ascii=False).encode("utf-8", errors="replace")
            headers += [(name.replace("_", "-"), value) for name, value in refusal.headers.items()]
        start_response(f"{status} {responses.get(status, 'Unknown')}", headers)
        return [body]

    def _answer(self, request: Request) -> Answer:
        self._refuse_if_closed(request.service)
        self._requests_s.append(self.clock_s)
        operation, run = self._route(request)
        if request.service != AUTH:
            self._check_token(request)
        for each in self.standing:
            if each.meets(self, self.clock_s, operation, request.body):
                raise self._refusal(each.trouble.kind, **each.told(self.clock_s))
        before = self._state.copy()
        self._cursor, self.crossings = "", 0
        try:
            answer = run()
        except Refusal:
            self._state = before
            raise
        kind = self._schedule.due(operation)
        served = Served(operation, request, answer)
        if kind is None or not TROUBLES[kind].may_hit(self, served):
            self.standing = [each for each in self.standing if each.trouble.repair.tool != operation]
            return answer
        self.struck, trouble = kind, TROUBLES[kind]
        if not trouble.is_done:
            self._state = before
        happened = trouble.happens(self, served)
        if isinstance(happened, Answer):
            return happened
        if happened is not None:
            begun = Standing.since(self.clock_s, trouble, happened)
            if trouble.refuses is not None:
                self.standing.append(begun)
            raise self._refusal(kind, **begun.told(self.clock_s))
        self._refuse_if_closed(request.service)
        return run()

    def _refusal(self, kind: str, **values: Any) -> Refusal:
        """What is answered to a request that meets a trouble."""
        status, text = TROUBLES[kind].text(values).split(" ", 1)
        headers = {"Retry_After": str(values["seconds"])} if values.get("seconds") else {}
        return Refusal(int(status), text, **headers, **(_UNAUTHORIZED if status == "401" else {}))

    def _refuse_if_closed(self, service: str) -> None:
        if seconds := self.wait_s(service):
            is_down = self._closed_until_s.get(service, 0) > self.clock_s
            raise self._refusal("service_down" if is_down else "rate_limited", service=service, seconds=seconds)

    def _check_token(self, request: Request) -> None:
        if request.token not in self._state.tokens:
            raise Refusal(401, "token not valid", **_UNAUTHORIZED)
        made_for = self._state.tokens[request.token]
        if made_for not in ("", request.service) or (request.service in self.rules.restricted and not made_for):
            raise Refusal(403, f"this token is not for the service {request.service}, exchange it")

    def _route(self, request: Request) -> tuple[str, Callable[[], Answer]]:
        """The operation, under the name of the tool that leads to it, so that a fault can name its target."""
        body = request.body
        match request.method, request.path:
            case "POST", ["oauth", "token"]:
                grant = _GRANTS.get(str(body.get("grant_type")))
                if grant is None:
                    raise Refusal(400, "unsupported_grant_type")
                return grant, lambda: self._grant(grant, body)
            case "GET", ["orders" | "charges" as table]:
                return f"list_{table}", lambda: self._list(table, request.cursor)
            case "GET", ["orders" | "customers" | "items" | "charges" as table, key]:
                return f"get_{table[:-1]}", lambda: self._read(table, key)
            case "POST", ["orders"]:
                return "create_order", lambda: self._add_order(body)
            case "PATCH", ["orders", key]:
                return "update_order", lambda: self.change("orders", key, {"city": text_of(body, "city")})
            case "DELETE", ["orders", key]:
                return "delete_order", lambda: self._delete("orders", key)
            case "PATCH", ["items", key]:
                return "set_count", lambda: self.change(
                    "items", key, {"count": number_of(body, "count")}, version_of(request)
                )
            case "PATCH", ["customers", key]:
                return "change_customer", lambda: self._change_customer(key, body, version_of(request))
            case "POST", ["charges"]:
                return "charge_customer", lambda: self._charge(body, request.key)
            case "POST", ["charges", key, "refund"]:
                return "refund_charge", lambda: self._refund(key, request.key)
            case "POST", ["messages"]:
                return "send_message", lambda: self._send(body, request.key)
            case "GET", ["documents", key]:
                return "read_document", lambda: self._document(key)
            case "POST", ["reports"]:
                return "start_report", lambda: self._start_report(text_of(body, "name"))
            case "GET", ["reports", key]:
                return "get_report", lambda: self._report(key)
            case "GET", ["graphql"]:
                return "read_schema", lambda: Answer({"schema": SCHEMA})
            case "POST", ["graphql"]:
                return "graphql", lambda: answer_query(self, text_of(body, "query"))
        raise Refusal(404, "no such page")

    # What faults do. What they lead to is what anybody would meet from now on.

    @property
    def has_used_cursor(self) -> bool:
        """Whether the request under way has used a cursor."""
        return bool(self._cursor)

    def close(self, service: str) -> None:
        """A service refuses requests for a while; all of them with ""."""
        self._closed_until_s[service] = self.clock_s + self._parameters["retry_s"]

    def lose_answer(self) -> Values:
        """No answer comes."""
        self.clock_s += TIMEOUT_SECONDS
        return {}

    def end_token(self, request: Request) -> Values:
        """The token of a request ends."""
        del self._state.tokens[str(request.token or request.body["subject_token"])]
        return {}

    def end_refresh(self) -> None:
        """The refresh token ends."""
        self._is_refresh_ended = True

    def end_cursors(self) -> None:
        """Lists have new cursors."""
        self._cursors_ended += 1

    def rename_field(self, request: Request) -> None:
        """The field that a request changes is called otherwise."""
        [name] = request.body
        self._renamed[name] = f"{name}_name"

    def move_row(self, request: Request) -> None:
        """The row that a request names has another id."""
        self._moved[request.service, request.path[1]] = self._parameters["spare"]

    def write_meanwhile(self, request: Request) -> None:
        """Somebody else changes the row that a request names."""
        row = self.tables[request.service][self.key_of(request.service, request.path[1])]
        row["version"] = str(int(row["version"]) + 1)

    def answer_partly(self, request: Request) -> Answer:
        """Answer a query though one service behind it does not."""
        self.is_broken, self.crossings = True, 0
        try:
            return self._route(request)[1]()
        finally:
            self.is_broken = False

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

    def _grant(self, grant: str, body: dict[str, Any]) -> Answer:
        p = self._parameters
        if grant == "get_token":
            if (body.get("client_id"), body.get("client_secret")) != (p["client"], p["secret"]):
                raise Refusal(401, "wrong client or secret")
            return Answer({"access_token": self._issue_token("")})
        if grant == "refresh_token":
            if self._is_refresh_ended:
                raise self._refusal("invalid_grant")
            if "refresh" not in p or body.get("refresh_token") != self._refresh:
                raise Refusal(400, "invalid_grant: no such refresh token")
            self._state.refreshes_used += 1
            return Answer({"access_token": self._issue_token(""), "refresh_token": self._refresh})
        if self._state.tokens.get(str(body.get("subject_token"))) != "":
            raise Refusal(401, "token not valid")
        service = str(body.get("audience"))
        if service not in self.rules.restricted:
            raise Refusal(
                400, f"invalid_target: no tokens for {service[:40]!r}.{nearest(service, self.rules.restricted)}"
            )
        return Answer({"access_token": self._issue_token(service)})

    # Rows.

    def key_of(self, table: str, named: str) -> str:
        """The key of the row that has this id now.

        Raises:
            Refusal: if it has moved, or there is none.
        """
        if (table, named) in self._moved:
            new = self._moved[table, named]
            raise self._refusal("moved", name=named, now=new)
        key = next((old for (where, old), new in self._moved.items() if (where, new) == (table, named)), named)
        if key not in self.tables[table]:
            raise Refusal(404, f"no {table[:-1]} {named[:40]!r}")
        return key

    def id_of(self, table: str, key: str) -> str:
        """The id that a row has now."""
        return self._moved.get((table, key), key)

    def _read(self, table: str, named: str) -> Answer:
        row = self.tables[table][self.key_of(table, named)]
        shown: dict[str, JsonValue] = {
            self._renamed.get(name, name) if table == "customers" else name: int(value)
            if name in ("price", "count", "amount")
            else value
            for name, value in row.items()
            if name not in ("id", "key", "version") and (table, name) != ("orders", "customer")
        }
        return Answer(shown, version=row["version"])

    def page_of(self, table: str, cursor: str) -> tuple[list[Entity], str | None]:
        """The rows of a page and the cursor of the next, which is None on the last."""
        words: list[str] = self._parameters.get("cursors", [])
        cursors = ["", *(word + str(self._cursors_ended or "") for word in words)]
        if cursor not in cursors:
            if cursor.rstrip("0123456789") in words:
                raise self._refusal("stale_cursor", cursor=cursor)
            raise Refusal(400, f"unknown cursor {cursor[:40]!r}")
        self._cursor = cursor
        at = cursors.index(cursor)
        rows = list(self.tables[table].values())
        has_next = (at + 1) * _PAGE_ROWS < len(rows) and at + 1 < len(cursors)
        return rows[at * _PAGE_ROWS : (at + 1) * _PAGE_ROWS], cursors[at + 1] if has_next else None

    def _list(self, table: str, cursor: str) -> Answer:
        rows, following = self.page_of(table, cursor)
        page: dict[str, JsonValue] = {table: {self.id_of(table, row["id"]): row["customer"] for row in rows}}
        return Answer(page if following is None else {**page, "next": following})

    def change(self, table: str, named: str, change: Entity, version: str | None = None) -> Answer:
        """Change values of a row; with `version` only if it still has that one."""
        row = self.tables[table][self.key_of(table, named)]
        if version not in (None, row["version"]):
            raise self._refusal("version_conflict", version=str(version)[:40], name=named)
        row.update(change, version=str(int(row["version"]) + 1))
        return Answer(status=204)

    def _change_customer(self, named: str, body: dict[str, Any], version: str) -> Answer:
        fields = {self._renamed.get(name, name): name for name in ("city", "phone")}
        if len(body) != 1:
            raise Refusal(422, "one field at a time")
        [name] = body
        if name in self._renamed:
            raise self._refusal("renamed_field", name=name, now=self._renamed[name])
        if name not in fields:
            raise Refusal(422, f"no field {name[:40]!r}.{nearest(name, fields)}")
        return self.change("customers", named, {fields[name]: text_of(body, name)}, version)

    def _delete(self, table: str, named: str) -> Answer:
        del self.tables[table][self.key_of(table, named)]
        return Answer(status=204)

    def add(self, table: str, row: Entity, *, is_keyed: bool = True) -> str:
        """Add a row and return its id. A key that was used for the same row gives that row again, and adds none."""
        if is_keyed:
            if not row.get("key"):
                raise Refusal(428, "Idempotency-Key is missing")
            for name, rows in self.tables.items():
                for key, other in rows.items():
                    if other.get("key") == row["key"]:
                        if name == table and row.items() <= other.items():
                            return key
                        raise Refusal(422, f"the key {row['key'][:40]!r} was used for something else")
        rows = self.tables[table]
        if len(rows) >= _MOST_ROWS:
            raise Refusal(409, f"there are too many {table}")
        number = int(self._parameters["new_id"])
        while str(number) in rows:
            number += 1
        rows[str(number)] = {"id": str(number), "version": "1", **row}
        return str(number)

    def _add_order(self, body: dict[str, Any]) -> Answer:
        row = {"customer": text_of(body, "customer"), "item": text_of(body, "item"), "city": ""}
        self.add("orders", row, is_keyed=False)
        return Answer(status=201)

    def _charge(self, body: dict[str, Any], key: str | None) -> Answer:
        customer = self.key_of("customers", text_of(body, "customer"))
        amount = number_of(body, "amount")
        return Answer({"id": self.add("charges", {"customer": customer, "amount": amount, "key": key or ""})}, 201)

    def _refund(self, named: str, key: str | None) -> Answer:
        charge = self.key_of("charges", named)
        for other in self.tables["refunds"].values():
            if other["charge"] == charge and other["key"] != key:
                raise Refusal(409, f"{named!r} is refunded already")
        return Answer({"id": self.add("refunds", {"charge": charge, "key": key or ""})}, 201)

    def _send(self, body: dict[str, Any], key: str | None) -> Answer:
        row = {"to": text_of(body, "to"), "text": text_of(body, "text"), "key": key or ""}
        return Answer({"id": self.add("messages", row)}, 201)

    # Documents and reports.

    def _document(self, name: str) -> Answer:
        documents = self._documents()  # they may be long, so they are written when somebody reads
        if name not in documents:
            raise Refusal(404, f"no document {name[:40]!r}.{nearest(name, documents)}")
        return Answer({"text": documents[name]})

    def _start_report(self, name: str) -> Answer:
        p = self._parameters
        if name != p.get("report"):
            raise Refusal(404, f"no report {name[:40]!r}")
        ready_s = self._state.jobs.setdefault(p["job"], self.clock_s + p["ready_s"])
        return Answer({"id": p["job"], "ready_in_s": max(0, math.ceil(round(ready_s - self.clock_s, 3)))}, 202)

    def _report(self, job: str) -> Answer:
        if job not in self._state.jobs:
            raise Refusal(404, f"no report {job[:40]!r}")
        left_s = math.ceil(round(self._state.jobs[job] - self.clock_s, 3))
        if left_s > 0:
            return Answer({"state": "running", "ready_in_s": left_s})
        return Answer({"state": "done", "total": self._parameters["total"]})
