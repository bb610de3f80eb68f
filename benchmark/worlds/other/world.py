"""Other: small questions about units, dates, words and tables, whose answers are saved as notes, and some that no tool answers.

The tools reckon and look up; `save_note` writes down. Nothing but the notes is judged, so whoever reckons without a tool
and is right has done the task.

Its faults stand in `troubles.py`.

The verdict: goals are notes with their texts; numbers count as numbers, other texts without white space around. A note
that was there and differs, and one too many, is damage: the score is goals held / (goals + damages).

In the families without a fitting tool the one goal is to say so, and each call is damage. Every task of this world tells
what to say: "no tool". An answer says so when it holds these words beside the words of the instruction, which echoing it
would repeat. These are the only tasks in which words count, and they are few: whoever always says so fails in all others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar

from pydantic import JsonValue

from benchmark.worlds.family import WorldKind
from benchmark.worlds.other.expert import OtherExpert
from benchmark.worlds.other.families import FAMILIES
from benchmark.worlds.other.reckoning import UNITS, WEEKDAYS, date_of, decimal_text, number_of
from benchmark.worlds.other.troubles import TROUBLES
from benchmark.worlds.tools import (
    Commit,
    ToolError,
    ToolWorld,
    score_to_verdict,
)
from benchmark.worlds.troubles import Values
from benchmark.worlds.world import Move, Task, ToolResult, Verdict
from core.errors import nearest
from data.records import Action, Category

_SAYS_NO_TOOL = re.compile(r"\bno\W+(\w+\W+)?tools?\b|도구\S?\s*없", re.IGNORECASE)


class OtherWorld(ToolWorld):
    """One task's tables and notes, all in memory."""

    troubles: ClassVar = TROUBLES

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.plan = OTHER.family_of(task).plan(task)
        self.goals: dict[str, str] = self.plan.goals
        """Notes that must be saved, by name; none where no tool fits."""
        p: Any = task.parameters
        self._tables: dict[str, dict[str, str]] = {name: dict(rows) for name, rows in p.get("tables", {}).items()}
        self.before = {p["kept"]: p["kept_text"]}
        self.notes = dict(self.before)
        self.calls = 0
        self.said = ""
        self._renamed: dict[str, str] = {}

    def __enter__(self) -> OtherWorld:
        return self

    def __exit__(self, *exc: object) -> None:
        self.notes.clear()

    # What the model can call. A docstring's first line is the description that the model reads.

    def convert_unit(self, value: str, unit: str, to: str) -> Commit:
        """Convert mm cm m km inch foot mile, g kg ton ounce pound, second minute hour day, ml liter gallon; 3 decimals."""
        number = number_of(value)
        known = {name: kind for kind, names in UNITS.items() for name in names}
        for name in (unit, to):
            if name not in known:
                raise ToolError(
                    f"unknown unit {name[:40]!r}.{nearest(name, known) or ' There are: ' + ', '.join(known)}"
                )
        if known[unit] != known[to]:
            raise ToolError(f"cannot convert {known[unit]} to {known[to]}")
        factors = UNITS[known[unit]]
        return lambda: decimal_text(number * factors[unit] / factors[to])

    def convert_temperature(self, value: str, unit: str, to: str) -> Commit:
        """Convert between celsius and fahrenheit; rounded to 3 decimals."""
        number = number_of(value)
        if {unit, to} != {"celsius", "fahrenheit"}:
            raise ToolError("units are celsius and fahrenheit")
        return lambda: decimal_text(number * 9 / 5 + 32 if to == "fahrenheit" else (number - 32) * 5 / 9)

    def add_days(self, date: str, days: int) -> Commit:
        """The date so many days after a date (YYYY-MM-DD)."""
        start = date_of(date)
        try:
            end = start + timedelta(days=days)
        except OverflowError:
            raise ToolError("too far away") from None
        return lambda: end.isoformat()

    def days_between(self, start: str, end: str) -> Commit:
        """Number of days from a date to another (YYYY-MM-DD)."""
        first, last = date_of(start), date_of(end)
        return lambda: str((last - first).days)

    def weekday(self, date: str) -> Commit:
        """The weekday of a date (YYYY-MM-DD)."""
        day = date_of(date)
        return lambda: WEEKDAYS[day.weekday()]

    def add(self, a: str, b: str) -> Commit:
        """Add two numbers."""
        first, second = number_of(a), number_of(b)
        return lambda: decimal_text(first + second)

    def multiply(self, a: str, b: str) -> Commit:
        """Multiply two numbers."""
        first, second = number_of(a), number_of(b)
        return lambda: decimal_text(first * second)

    def count_words(self, text: str) -> Commit:
        """Count the words of a text."""
        return lambda: str(len(text.split()))

    def sort_words(self, text: str) -> Commit:
        """Sort the words of a text."""
        return lambda: " ".join(sorted(text.split()))

    def reverse_words(self, text: str) -> Commit:
        """Put the words of a text in reverse order."""
        return lambda: " ".join(reversed(text.split()))

    def list_tables(self) -> Commit:
        """List the tables."""
        return lambda: ", ".join(self._tables) or "no tables"

    def look_up(self, table: str, key: str) -> Commit:
        """Look up what a table says for a key."""
        rows = self._table(table)
        if key not in rows:
            raise ToolError(f"no {key[:40]!r} in {table!r}.{nearest(key, rows)}")
        return lambda: rows[key]

    def reload_table(self, table: str) -> Commit:
        """Load a table that was changed."""
        self._table(table)
        return lambda: "ok"

    def read_note(self, name: str) -> Commit:
        """Read a note."""
        self._check_note(name)
        return lambda: self.notes[name]

    def save_note(self, name: str, text: str) -> Commit:
        """Save a note."""
        if not name or not text or len(name) + len(text) > 10000 or len(self.notes) > 100:
            raise ToolError("a note needs a name and a text, and has up to 10000 characters")

        def commit() -> JsonValue:
            self.notes[name] = text
            return "ok"

        return commit

    def delete_note(self, name: str) -> Commit:
        """Delete a note."""
        self._check_note(name)

        def commit() -> JsonValue:
            del self.notes[name]
            return "ok"

        return commit

    def unlock_note(self, name: str) -> Commit:
        """Unlock a note."""
        return lambda: "ok"

    def sign_in(self) -> Commit:
        """Begin a new session."""
        return lambda: "ok"

    # The world's side of a call.

    def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """Run one tool call; see `World`."""
        self.calls += 1
        return super().call(name, arguments)

    def _table(self, table: str) -> dict[str, str]:
        if table in self._renamed:
            raise self.error("renamed", table=table, now=self._renamed[table])
        if table not in self._tables:
            raise ToolError(f"no table {table[:40]!r}.{nearest(table, self._tables)}")
        return self._tables[table]

    def _check_note(self, name: str) -> None:
        if name not in self.notes:
            raise ToolError(f"no note {name[:40]!r}.{nearest(name, self.notes)}")

    def fill(self) -> Values:
        """Somebody else saves a note, after which there is no room."""
        name = str(self.task.parameters["spare"])
        self.notes[name] = "old"
        return {"name": name}

    def rename_table(self, table: str) -> None:
        """Somebody else gives a table another name."""
        self._renamed[table] = str(self.task.parameters["spare"])
        self._tables[self._renamed[table]] = self._tables.pop(table)

    def answer(self, text: str) -> None:
        """The agent's last words; where no tool fits, they must say so."""
        self.said = text

    @property
    def says_no_tool(self) -> bool:
        """Whether the last words say that no tool fits; repeating the instruction says nothing."""
        return bool(_SAYS_NO_TOOL.search(" ".join(self.said.replace(self.task.instruction, " ").split())))

    def verdict(self) -> Verdict:
        """Judge the notes as they are now; see the module's docstring."""
        if not self.goals:
            missing = [] if self.says_no_tool else ["nothing says that no tool fits"]
            return score_to_verdict(1, missing, [f"call {number} is too many" for number in range(1, self.calls + 1)])
        missing = [f"the note {name!r} is not as asked" for name in self.missing_notes()]
        damage = [
            f"the note {name!r} is changed"
            for name, text in self.before.items()
            if name not in self.goals and self.notes.get(name) != text
        ]
        damage += [f"the note {name!r} is too many" for name in self.too_many()]
        return score_to_verdict(len(self.goals), missing, damage)

    def missing_notes(self) -> list[str]:
        """Names of the notes that are not as asked."""
        return [
            name for name, text in self.goals.items() if name not in self.notes or not _same(self.notes[name], text)
        ]

    def too_many(self) -> list[str]:
        """Names of the notes that the agent has added and nobody asked for."""
        others = {values["name"] for values in self.standing("full")}
        return [name for name in self.notes if name not in {*self.before, *self.goals, *others}]

    def expert(self, history: Sequence[Action]) -> Move:
        """Say so where no tool fits; else look up and save."""
        return OtherExpert(self, history).move()


def _same(text: str, wanted: str) -> bool:
    try:
        return Decimal(text.strip()) == Decimal(wanted)
    except InvalidOperation:
        return text.strip() == wanted


OTHER = WorldKind("other", Category.OTHER, "2", FAMILIES, OtherWorld)
