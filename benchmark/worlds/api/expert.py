"""The expert of the API world: the steps of its plans, and what only it knows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from benchmark.worlds.api.requests import AUTH
from benchmark.worlds.api.site import Shop
from benchmark.worlds.expert import Act, Expert, Later, Meant, Pursued
from benchmark.worlds.tools import GIVEN_UP
from benchmark.worlds.world import Move

READ_BY = {"set_count": "get_item", "change_customer": "get_customer"}
"""Changes that need the version of what they change -> the reading that tells it."""
NAMED_BY = {
    **dict.fromkeys(("get_order", "update_order", "delete_order", "get_charge", "refund_charge"), ("id",)),
    **dict.fromkeys(("get_item", "set_count"), ("item",)),
    "get_customer": ("name",),
    "change_customer": ("name", "field"),
    "charge_customer": ("customer",),
}
"""The arguments that name a row or a field, which may be called otherwise later; the row first."""
SERVICE_OF = {
    **dict.fromkeys(("get_token", "refresh_token", "exchange_token"), AUTH),
    **dict.fromkeys(("list_orders", "get_order", "create_order", "update_order", "delete_order"), "orders"),
    **dict.fromkeys(("get_customer", "change_customer"), "customers"),
    **dict.fromkeys(("get_item", "set_count"), "items"),
    **dict.fromkeys(("list_charges", "get_charge", "charge_customer", "refund_charge"), "charges"),
    "send_message": "messages",
    "read_document": "documents",
    **dict.fromkeys(("start_report", "get_report"), "reports"),
    **dict.fromkeys(("read_schema", "graphql"), "graphql"),
    "wait": "",
}
"""The service that a tool asks; "" for none."""


@dataclass(frozen=True)
class Goal:
    """Values that a row of a table must have; with `id` a row that is there from the start, else a new one."""

    table: str
    values: dict[str, str]


@dataclass(frozen=True)
class Walk:
    """Read a list page by page until it names a customer; to its end without one."""

    command: str
    until: str | None = None

    def _page(self, expert: ApiExpert, cursor: str) -> tuple[Move, dict[str, str] | None, str | None]:
        """The call for a page; and, when it was read, customers by id and the next cursor."""
        move = Move(self.command, {"cursor": cursor} if cursor else {})
        page = expert.output(self.command, move.input)
        if page is None:
            return move, None, None
        return move, page[self.command.removeprefix("list_")], page.get("next")

    def next(self, expert: ApiExpert) -> Sequence[Move]:
        """The call for the first page that is not known."""
        cursor: str | None = ""
        while cursor is not None:
            move, rows, cursor = self._page(expert, cursor)
            if rows is None:
                return [move]
            if self.until in rows.values():
                return []
        return []


@dataclass(frozen=True)
class GraphWalk(Walk):
    """The same by GraphQL."""

    command: str = "graphql"

    def _page(self, expert: ApiExpert, cursor: str) -> tuple[Move, dict[str, str] | None, str | None]:
        after = f"(after: {quoted(cursor)})" if cursor else ""
        move = Move("graphql", {"query": f"{{ orders{after} {{ orders {{ id customer {{ name }} }} next }} }}"})
        output = expert.output("graphql", move.input)
        if output is None:
            return move, None, None
        page = output["orders"]
        return move, {row["id"]: row["customer"]["name"] for row in page["orders"]}, page["next"]


@dataclass(frozen=True)
class FetchReport:
    """Have a report made, wait until it is ready, read it."""

    name: str

    def next(self, expert: ApiExpert) -> Sequence[Move]:
        """Start, wait as long as was told, read."""
        job = Later("start_report", {"name": self.name}, "id")
        started = expert.output(job.command, job.input)
        if started is None:
            return [expert.call(job.command, job.input)]
        report = expert.output("get_report", {"id": started["id"]})
        left_s = started["ready_in_s"] if report is None else report.get("ready_in_s")
        if left_s is None:
            return []
        if left_s and expert.output("wait", {"seconds": left_s}) is None:
            return [Move("wait", {"seconds": left_s})]
        return [expert.call("get_report", {"id": job})]


class Services(Pursued, Protocol):
    """What the expert asks of the API world."""

    shop: Shop
    acts: list[Act]

    def missing_goals(self) -> list[Goal]: ...


class ApiExpert(Expert[Services]):
    """What only the expert of the API world knows: which tokens are good, and which versions are up to date."""

    moment: ClassVar = ("token", "version")

    def start(self) -> None:
        """Tokens may stand in the instruction."""
        p: Any = self.world.task.parameters
        told = self.world.task.instruction
        self.tokens: dict[str, str] = {"": p["token"]} if f'"{p["token"]}"' in told else {}
        """Service that a token was exchanged for ("" for none) -> token that is not known to have ended."""
        self.refresh: str | None = p["refresh"] if f'"{p["refresh"]}"' in told else None
        self.versions: dict[Meant, str] = {}
        """Reading -> the version that it gave, until that is used or out of date."""
        self.missing = self.world.missing_goals()

    def naming(self, command: str) -> tuple[str, ...]:
        """Rows may move, fields may be renamed."""
        return NAMED_BY.get(command, ())

    def learn(self, command: str, given: Mapping[str, Any], output: Any) -> None:
        """Remember tokens and versions."""
        if command in ("get_token", "refresh_token"):
            self.tokens[""] = output["token"]
        elif command == "exchange_token":
            self.tokens[str(given["service"])] = output["token"]
        elif command in READ_BY.values():
            self.versions[self.meant(command, given)] = output["version"]
        elif command in READ_BY:
            self.forget("version", command, given)
        if command == "refresh_token":
            self.refresh = output["refresh"]

    def forget(self, what: str, command: str, given: Mapping[str, Any]) -> None:
        """What ended, or is out of date."""
        if what == "version" and command in READ_BY:
            name = naming_row(command)
            self.versions.pop(self.meant(READ_BY[command], {name: given.get(name)}), None)
        elif what == "token":
            self.tokens = {made_for: token for made_for, token in self.tokens.items() if token != given.get("token")}
        elif what == "refresh" and given.get("refresh") == self.refresh:
            self.refresh = None
        else:
            super().forget(what, command, given)

    def known(self, later: Later) -> Any:
        """A version only while it is up to date."""
        is_version = later.key == "version"
        return self.versions.get(self.meant(later.command, later.input)) if is_version else super().known(later)

    def holds(self, act: Act) -> bool:
        """Whether a row is as asked."""
        return act.goal not in self.missing

    def answer(self) -> str | None:
        """What may have been done and what may not is done again, although all is there."""
        if self.missing or any(self.meant(act.command, act.input) in self.unsure for act in self.world.acts):
            return None
        return super().answer() or GIVEN_UP

    def possible(self, moves: list[Move]) -> Sequence[Move]:
        """As many as the limit allows, with their tokens; or what one of them needs first."""
        ready = [self._ready(move) for move in moves]
        needed = next((way for way, move in zip(ready, moves, strict=True) if way.command != move.command), None)
        if needed is not None:
            return [needed] if needed.command else []
        left = self.world.shop.calls_left
        return ready if left is None else ready[: max(1, left)]

    def _ready(self, move: Move) -> Move:
        """The call as it can be made now; or what must be called before it, without a command if nothing helps."""
        command, p, shop = str(move.command), self.world.task.parameters, self.world.shop
        service = SERVICE_OF[command]
        if service and shop.calls_left == 0 and "wait" in self.offered:
            return Move("wait", {"seconds": p["window_s"]})
        if service in ("", AUTH) and command != "exchange_token":
            return move
        made_for = service if service in shop.rules.restricted else ""
        if made_for in self.tokens:
            return Move(command, {"token": self.tokens[made_for], **move.input})
        if made_for:
            return self._ready(Move("exchange_token", {"service": made_for}))
        if self.refresh is not None and "refresh_token" in self.offered:
            return self._ready(Move("refresh_token", {"refresh": self.refresh}))
        if "get_token" in self.offered:
            return self._ready(Move("get_token", {"client": p["client"], "secret": p["secret"]}))
        return Move(None)


def naming_row(command: str) -> str:
    """The argument that names the row which a tool reads or changes."""
    return NAMED_BY[command][0]


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
