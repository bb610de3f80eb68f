"""The expert of the API world: what can be known after a history, and the steps of a way.

A step says what to call with the names that things have at the beginning. Tokens, new ids and waiting are added by
`benchmark.worlds.api.world.ApiWorld.expert`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmark.worlds.world import Move, Task
from data.records import Action

VERSIONED = {"set_count": ("get_item", "item"), "change_customer": ("get_customer", "name")}
"""Changes that need the version of what they change: the reading that tells it, and the argument that names it."""

NAMED_BY = {
    **dict.fromkeys(("get_order", "update_order", "delete_order", "get_charge", "refund_charge"), "id"),
    **dict.fromkeys(("get_customer", "change_customer"), "name"),
    **dict.fromkeys(("get_item", "set_count"), "item"),
    "charge_customer": "customer",
}
"""The argument that names a row, which may have moved."""

_RETRY_AFTER = re.compile(r"(?:429|503) .* retry after (\d+) s")
_MOVED = re.compile(r"301 '(.+)' has moved to '(.+)'")
_RENAMED = re.compile(r"422 no field '(.+)', it is called '(.+)' now")


@dataclass(frozen=True)
class Goal:
    """Values that a row of a table must have; with `id` a row that is there from the start, else a new one."""

    table: str
    values: dict[str, str]


class Known:
    """What a model can know after a history, and which goals do not hold."""

    def __init__(self, task: Task, history: Sequence[Action], missing: Sequence[Goal]) -> None:
        p: Any = task.parameters
        self.missing = missing
        self.tokens: dict[str, str] = {}
        """Service that a token was exchanged for ("" for none) -> token that is not known to have ended."""
        if f'"{p["token"]}"' in task.instruction:
            self.tokens[""] = p["token"]
        self.refresh: str | None = p["refresh"] if f'"{p["refresh"]}"' in task.instruction else None
        self.retry_s: int | None = None
        """What the last refusal said."""
        self.moved: dict[str, str] = {}
        self.renamed: dict[str, str] = {}
        self._outputs: dict[tuple[str, str], Any] = {}
        self._versions: dict[tuple[str, str], str] = {}
        self._unsure: set[tuple[str, str]] = set()
        for action in history:
            if isinstance(action.input, dict):
                self._learn(action.command, action.input, action.output, action.error)

    def _learn(self, command: str, given: dict[str, Any], output: Any, error: str | None) -> None:
        call = self._call(command, given)
        if error is None:
            self._unsure.discard(call)
            self._outputs[call] = output
            self._learn_tokens(command, given, output)
            if command in [read for read, _ in VERSIONED.values()]:
                self._versions[call] = output["version"]
            elif command in VERSIONED:
                self._versions.pop(self._reading(command, given), None)
        elif told := _RETRY_AFTER.fullmatch(error):
            self.retry_s = int(told[1])
        elif told := _MOVED.fullmatch(error):
            self.moved[told[1]] = told[2]
        elif told := _RENAMED.fullmatch(error):
            self.renamed[told[1]] = told[2]
        elif error.startswith("401 token"):
            self.tokens = {made_for: token for made_for, token in self.tokens.items() if token != given.get("token")}
        elif error.startswith("400 invalid_grant") and given.get("refresh") == self.refresh:
            self.refresh = None
        elif error.startswith("410 "):
            self._outputs = {key: value for key, value in self._outputs.items() if key[0] != command}
        elif error.startswith("412 ") and command in VERSIONED:
            self._versions.pop(self._reading(command, given), None)
        elif error.startswith("504 "):
            self._unsure.add(call)

    def _learn_tokens(self, command: str, given: dict[str, Any], output: Any) -> None:
        if command in ("get_token", "refresh_token"):
            self.tokens[""] = output["token"]
        elif command == "exchange_token":
            self.tokens[str(given["service"])] = output["token"]
        if command == "refresh_token":
            self.refresh = output["refresh"]

    def _call(self, command: str, given: dict[str, Any]) -> tuple[str, str]:
        """A call by what it means: without what depends on the moment, and with the names of the beginning."""
        first_names = {new: old for names in (self.moved, self.renamed) for old, new in names.items()}
        meant = {
            name: first_names.get(value, value) if isinstance(value, str) else value
            for name, value in given.items()
            if name not in ("token", "version") and value != ""
        }
        return command, json.dumps(meant, sort_keys=True)

    def _reading(self, command: str, given: dict[str, Any]) -> tuple[str, str]:
        read, name = VERSIONED[command]
        return self._call(read, {name: given.get(name)})

    def output(self, command: str, given: dict[str, Any]) -> Any:
        """What a call gave when it worked last; None if it never did."""
        return self._outputs.get(self._call(command, given))

    def version(self, command: str, given: dict[str, Any]) -> str | None:
        """The version that a change needs, if it has been read and is not known to be out of date."""
        return self._versions.get(self._reading(command, given))

    def is_unsure(self, command: str, given: dict[str, Any]) -> bool:
        """Whether the call was made and its answer never came."""
        return self._call(command, given) in self._unsure


class Step(Protocol):
    """Something to do; `next` is the call that does it, or None when it is done."""

    def next(self, known: Known) -> Move | None: ...


@dataclass(frozen=True)
class Look:
    """Read something once."""

    command: str
    input: dict[str, Any] = field(default_factory=dict)

    def next(self, known: Known) -> Move | None:
        """The call, until it has worked."""
        return None if known.output(self.command, self.input) is not None else Move(self.command, self.input)


@dataclass(frozen=True)
class Act:
    """Reach a goal. Where an answer did not come, the call is made again, because nobody can know."""

    command: str
    input: dict[str, Any]
    goal: Goal

    def next(self, known: Known) -> Move | None:
        """The call, or the reading that tells the version which it needs."""
        if self.goal not in known.missing and not known.is_unsure(self.command, self.input):
            return None
        if self.command not in VERSIONED:
            return Move(self.command, self.input)
        version = known.version(self.command, self.input)
        if version is None:
            read, name = VERSIONED[self.command]
            return Move(read, {name: self.input[name]})
        given = {
            name: known.renamed.get(value, value) if name == "field" else value for name, value in self.input.items()
        }
        return Move(self.command, {**given, "version": version})


@dataclass(frozen=True)
class Walk:
    """Read a list page by page until it names a customer; to its end without one."""

    command: str
    until: str | None = None

    def _page(self, known: Known, cursor: str) -> tuple[Move, dict[str, str] | None, str | None]:
        """The call for a page; and, when it was read, customers by id and the next cursor."""
        move = Move(self.command, {"cursor": cursor} if cursor else {})
        page = known.output(self.command, move.input)
        if page is None:
            return move, None, None
        return move, page[self.command.removeprefix("list_")], page.get("next")

    def next(self, known: Known) -> Move | None:
        """The call for the first page that is not known."""
        cursor: str | None = ""
        while cursor is not None:
            move, rows, cursor = self._page(known, cursor)
            if rows is None:
                return move
            if self.until in rows.values():
                return None
        return None


@dataclass(frozen=True)
class GraphWalk(Walk):
    """The same by GraphQL."""

    command: str = "graphql"

    def _page(self, known: Known, cursor: str) -> tuple[Move, dict[str, str] | None, str | None]:
        after = f"(after: {quoted(cursor)})" if cursor else ""
        move = Move("graphql", {"query": f"{{ orders{after} {{ orders {{ id customer {{ name }} }} next }} }}"})
        output = known.output("graphql", move.input)
        if output is None:
            return move, None, None
        page = output["orders"]
        return move, {row["id"]: row["customer"]["name"] for row in page["orders"]}, page["next"]


@dataclass(frozen=True)
class Report:
    """Have a report made, wait until it is ready, read it."""

    name: str

    def next(self, known: Known) -> Move | None:
        """Start, wait as long as was told, read."""
        started = known.output("start_report", {"name": self.name})
        if started is None:
            return Move("start_report", {"name": self.name})
        report = known.output("get_report", {"id": started["id"]})
        left_s = started["ready_in_s"] if report is None else report.get("ready_in_s")
        if left_s is None:
            return None
        if left_s and known.output("wait", {"seconds": left_s}) is None:
            return Move("wait", {"seconds": left_s})
        return Move("get_report", {"id": started["id"]})


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
