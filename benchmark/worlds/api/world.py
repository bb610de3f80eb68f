"""API: a shop's real HTTP services, run in process and reached through httpx.

`Shop` (`site.py`) is a WSGI app with its own rows, tokens and clock: REST and GraphQL, OAuth, pages with cursors, entity
tags, idempotency keys, limits. `ApiWorld` offers it to the model as typed functions and turns each call into one HTTP
request. Nothing listens on a port and nothing sleeps: a request takes 0.2 s on the shop's virtual clock, and `wait` moves
that clock. The families of tasks are in `families/`, what the expert knows in `expert.py`.

Its faults stand in `troubles.py`.

The verdict compares all rows with those that the task asks for. Goals are the rows that must be changed or created (a charge,
a refund, a message are rows; one with a second key is a second row). Any other change, and any row too many, is damage: the
score is goals held / (goals + damages).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import quote

import httpx
from pydantic import JsonValue

from benchmark.worlds.api.expert import ApiExpert, Goal
from benchmark.worlds.api.families import FAMILIES
from benchmark.worlds.api.site import AUTH, TOKEN_EXCHANGE, Entity, Shop
from benchmark.worlds.api.troubles import TROUBLES
from benchmark.worlds.expert import Act, Plan
from benchmark.worlds.family import WorldKind
from benchmark.worlds.tools import (
    Commit,
    ToolError,
    check_call,
    score_to_verdict,
)
from benchmark.worlds.troubles import Trouble, Values
from benchmark.worlds.world import Move, Task, ToolResult, Verdict
from data.records import Action, Category

_MOST_SHOWN = 12
"""Characters of a cut-off answer that the error shows."""


class ApiWorld:
    """One task's shop and the functions that reach it. Entering opens the HTTP client, leaving closes it."""

    troubles: ClassVar = TROUBLES

    def __init__(self, task: Task) -> None:
        self.task = task
        family = API.family_of(task)
        self.shop = Shop(task, family.rules, lambda: family.documents(task))
        stages = family.stages(task.parameters)
        self.acts = [step for stage in stages for step in stage if isinstance(step, Act)]
        self.plan = Plan([act.goal for act in self.acts], stages)
        self._at_start = {
            name: {key: dict(row) for key, row in rows.items()} for name, rows in self.shop.tables.items()
        }

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
        form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
        return lambda: self._token(form)

    def refresh_token(self, refresh: str) -> Commit:
        """Get a new token, and a new refresh token, for a refresh token."""
        return lambda: self._token({"grant_type": "refresh_token", "refresh_token": refresh})

    def exchange_token(self, token: str, service: str) -> Commit:
        """Exchange a token for one that is made for a service."""
        return lambda: self._token({"grant_type": TOKEN_EXCHANGE, "subject_token": token, "audience": service})

    def list_orders(self, token: str, cursor: str = "") -> Commit:
        """List orders."""
        return lambda: self._request("GET", "orders", token=token, params={"cursor": cursor} if cursor else None)

    def get_order(self, token: str, id: str) -> Commit:
        """Read an order."""
        return lambda: self._request("GET", "orders", id, token=token)

    def create_order(self, token: str, customer: str, item: str) -> Commit:
        """Create an order."""
        return lambda: self._request("POST", "orders", token=token, json={"customer": customer, "item": item})

    def update_order(self, token: str, id: str, city: str) -> Commit:
        """Change an order."""
        return lambda: self._request("PATCH", "orders", id, token=token, json={"city": city})

    def delete_order(self, token: str, id: str) -> Commit:
        """Delete an order."""
        return lambda: self._request("DELETE", "orders", id, token=token)

    def get_customer(self, token: str, name: str) -> Commit:
        """Read a customer."""
        return lambda: self._request("GET", "customers", name, token=token, with_version=True)

    def change_customer(self, token: str, name: str, field: str, value: str, version: str) -> Commit:
        """Change a field of a customer. The version is that which reading the customer gave."""
        return lambda: self._request("PATCH", "customers", name, token=token, version=version, json={field: value})

    def get_item(self, token: str, item: str) -> Commit:
        """Read the price and the count of an item."""
        return lambda: self._request("GET", "items", item, token=token, with_version=True)

    def set_count(self, token: str, item: str, count: int, version: str) -> Commit:
        """Set the count of an item. The version is that which reading the item gave."""
        return lambda: self._request("PATCH", "items", item, token=token, version=version, json={"count": count})

    def list_charges(self, token: str, cursor: str = "") -> Commit:
        """List charges."""
        return lambda: self._request("GET", "charges", token=token, params={"cursor": cursor} if cursor else None)

    def get_charge(self, token: str, id: str) -> Commit:
        """Read a charge."""
        return lambda: self._request("GET", "charges", id, token=token)

    def charge_customer(self, token: str, customer: str, amount: int, key: str) -> Commit:
        """Charge a customer. Again with the same idempotency key, nothing happens twice."""
        content = {"customer": customer, "amount": amount}
        return lambda: self._request("POST", "charges", token=token, key=key, json=content)

    def refund_charge(self, token: str, id: str, key: str) -> Commit:
        """Give a charge back. Again with the same idempotency key, nothing happens twice."""
        return lambda: self._request("POST", "charges", id, "refund", token=token, key=key)

    def send_message(self, token: str, to: str, text: str, key: str) -> Commit:
        """Send a message. Again with the same idempotency key, nothing happens twice."""
        return lambda: self._request("POST", "messages", token=token, key=key, json={"to": to, "text": text})

    def read_document(self, token: str, name: str) -> Commit:
        """Read a document."""
        return lambda: self._text("text", "documents", name, token=token)

    def start_report(self, token: str, name: str) -> Commit:
        """Begin to make a report, which takes a while."""
        return lambda: self._request("POST", "reports", token=token, json={"name": name})

    def get_report(self, token: str, id: str) -> Commit:
        """Read a report that was begun, by its id."""
        return lambda: self._request("GET", "reports", id, token=token)

    def read_schema(self, token: str) -> Commit:
        """Read the GraphQL schema."""
        return lambda: self._text("schema", "graphql", token=token)

    def graphql(self, token: str, query: str) -> Commit:
        """Send a GraphQL query or mutation."""
        return lambda: self._graphql(token, query)

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

    def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """Run one tool call; see `World`."""
        before_s = self.shop.clock_s
        output, error, injected = None, None, None
        try:
            output = check_call(self, self.task.tools, name, arguments)()
        except ToolError as fault:
            error, injected = str(fault), fault.injected
        except (ValueError, httpx.InvalidURL):  # text that no header or address can hold
            error = "not possible: an argument holds characters that are not allowed"
        return ToolResult(output, error, injected, seconds=round(self.shop.clock_s - before_s, 3))

    def _request(
        self,
        method: str,
        *path: str,
        token: str | None = None,
        key: str | None = None,
        version: str | None = None,
        with_version: bool = False,
        **content: Any,
    ) -> JsonValue:
        """One HTTP request; what it answers, "ok" if that is nothing.

        Raises:
            ToolError: the answer is an error or cannot be read.
        """
        headers = {
            **({} if token is None else {"Authorization": f"Bearer {token}"}),
            **({} if key is None else {"Idempotency-Key": key}),
            **({} if version is None else {"If-Match": f'"{version}"'}),
        }
        address = "".join("/" + quote(part, safe="") for part in path)
        response = self._client.request(method, address, headers=headers, **content)
        if response.is_success and not response.content:
            return "ok"
        try:
            answer: Any = response.json()
        except ValueError:
            start = response.text[:_MOST_SHOWN]
            raise ToolError(TROUBLES["malformed"].text({"start": start}), self.shop.struck) from None
        if not response.is_success:
            raise ToolError(f"{response.status_code} {answer['error']}", self.shop.struck)
        return {**answer, "version": response.headers["ETag"].strip('"')} if with_version else answer

    def _text(self, name: str, *path: str, token: str) -> JsonValue:
        answer: Any = self._request("GET", *path, token=token)
        text: str = answer[name]
        return text

    def _token(self, form: dict[str, str]) -> JsonValue:
        answer: Any = self._request("POST", AUTH, "token", data=form)
        names = {"access_token": "token", "refresh_token": "refresh"}
        return {names[name]: value for name, value in answer.items()}

    def _graphql(self, token: str, query: str) -> JsonValue:
        answer: Any = self._request("POST", "graphql", token=token, json={"query": query})
        data: JsonValue = answer["data"]
        if "errors" in answer:
            told = "; ".join(f"{'.'.join(map(str, error['path']))}: {error['message']}" for error in answer["errors"])
            shown = json.dumps(data, ensure_ascii=False)
            raise ToolError(TROUBLES["partial_data"].text({"data": shown, "errors": told}), self.shop.struck)
        return data

    # Judgement.

    def missing_goals(self) -> list[Goal]:
        """The goals that do not hold."""
        return [goal for goal in self.plan.goals if not self._holds(goal)]

    def _holds(self, goal: Goal) -> bool:
        rows = self.shop.tables[goal.table]
        if "id" in goal.values:
            return goal.values.items() <= rows.get(goal.values["id"], {}).items()
        created = (row for key, row in rows.items() if key not in self._at_start[goal.table])
        return any(goal.values.items() <= row.items() for row in created)

    def verdict(self) -> Verdict:
        """Judge the rows as they are now; see the module's docstring."""
        goals: list[Goal] = self.plan.goals
        missing = [f"no row of {goal.table} with {goal.values}" for goal in self.missing_goals()]
        wanted_new = [goal for goal in goals if "id" not in goal.values]
        damage = []
        for table, rows in self.shop.tables.items():
            before = self._at_start[table]
            for key, row in before.items():
                asked = {
                    name
                    for goal in goals
                    if (goal.table, goal.values.get("id")) == (table, key)
                    for name in goal.values
                }
                if _without(row, {"version", *asked}) != _without(rows.get(key, {}), {"version", *asked}):
                    damage.append(f"{key} of {table} is changed")
            for key, row in rows.items():
                if key in before:
                    continue
                # The city of a new order is empty until somebody who was not asked gives it one.
                values = {name: value for name, value in _without(row, {"id", "version"}).items() if value}
                match = next((goal for goal in wanted_new if (goal.table, goal.values) == (table, values)), None)
                if match is None:
                    damage.append(f"{key} of {table} is too many")
                else:
                    wanted_new.remove(match)
        return score_to_verdict(len(goals), missing, damage)

    # The expert.

    def stands(self, trouble: Trouble[Any, Any], values: Values) -> bool:
        """Whether a trouble that an error told of has not been repaired yet."""
        if trouble.stands is not None:
            return trouble.stands(self.shop, values)
        return any(each.trouble is trouble and self.shop.clock_s < each.until_s for each in self.shop.standing)

    def expert(self, history: Sequence[Action]) -> Move:
        """The calls of the first stage that is not done, and before them whatever they need."""
        return ApiExpert(self, history).move()


def _without(row: Entity, names: set[str]) -> Entity:
    return {name: value for name, value in row.items() if name not in names}


API = WorldKind("api", Category.API_ORCHESTRATION, "2", FAMILIES, ApiWorld)
