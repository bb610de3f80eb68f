"""Other: small questions about units, dates, words and tables, whose answers are saved as notes, and some that no tool answers.

The tools reckon and look up; `save_note` writes down. Nothing but the notes is judged, so whoever reckons without a tool
and is right has done the task.

Faults, each striking a call that was right:

* `busy`, `timed_out`: nothing was done. Way out: the same call again. So with `malformed` (the output is cut off).
* `rate_limited`: every call is refused until a time is over. Way out: `wait`, then again.
* `signed_out`: the session has ended. Way out: `sign_in`, then again.
* `stale`: a table was changed meanwhile. Way out: `reload_table`, then again.
* `renamed`: a table has a new name, which the error tells. Way out: use it.
* `locked`: the note is locked. Way out: `unlock_note`, then again.
* `full`: there is no room until a note that the error names is deleted. Way out: `delete_note`, then again.

The verdict: goals are notes with their texts; numbers count as numbers, other texts without white space around. A note
that was there and differs, and one too many, is damage: the score is goals held / (goals + damages).

In the families without a fitting tool the one goal is to say so, and each call is damage. Every task of this world tells
what to say: "no tool". An answer says so when it holds these words beside the words of the instruction, which echoing it
would repeat. These are the only tasks in which words count, and they are few: whoever always says so fails in all others.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import JsonValue

from benchmark.worlds.family import CONTEXT_TOKENS, Family, families_to_tasks
from benchmark.worlds.pools import Draw
from benchmark.worlds.tools import (
    DONE,
    GIVEN_UP,
    Commit,
    ToolError,
    ToolWorld,
    failed_in_a_row,
    first_open_group,
    function_to_spec,
    score_to_verdict,
)
from benchmark.worlds.world import Fault, Move, Result, Split, Task, Verdict
from core.errors import nearest
from data.records import Action, Category

category: Category = Category.OTHER
version: str = "2"

NO_TOOL = {"en": "No tool can do that.", "ko": "도구 없음: 할 수 있는 도구가 없습니다."}
"""What the expert says where none fits."""
_SAYS_NO_TOOL = re.compile(r"\bno\W+(\w+\W+)?tools?\b|도구\S?\s*없", re.IGNORECASE)
_WAIT = re.compile(r"too many requests, wait (\d+) seconds")
_RENAMED = re.compile(r"no table '(.+)', it is called '(.+)' now")
_LOCKED = re.compile(r"the note '(.+)' is locked")
_FULL = re.compile(r"no room, delete the note '(.+)'")
_STALE = re.compile(r"the table '(.+)' was changed, reload it")

# Each unit in the base unit of its kind.
_UNITS = {
    "length": {
        "mm": Fraction(1, 1000), "cm": Fraction(1, 100), "m": Fraction(1), "km": Fraction(1000),
        "inch": Fraction(254, 10000), "foot": Fraction(3048, 10000), "mile": Fraction(1609344, 1000),
    },
    "mass": {
        "g": Fraction(1), "kg": Fraction(1000), "ton": Fraction(10**6),
        "ounce": Fraction(28349523125, 10**9), "pound": Fraction(45359237, 10**5),
    },
    "time": {"second": Fraction(1), "minute": Fraction(60), "hour": Fraction(3600), "day": Fraction(86400)},
    "volume": {"ml": Fraction(1, 1000), "liter": Fraction(1), "gallon": Fraction(3785411784, 10**9)},
}  # fmt: skip
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class OtherWorld(ToolWorld):
    """One task's tables and notes, all in memory."""

    TOLD: ClassVar = {
        "busy": "busy, nothing was done, try again",
        "timed_out": "timed out, nothing was done, try again",
    }

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        plan = _FAMILY_OF[task.family].plan(task)
        self.goals = plan.goals
        self.looks = plan.looks
        self.fits = plan.fits
        p: Any = task.parameters
        self._tables: dict[str, dict[str, str]] = {name: dict(rows) for name, rows in p.get("tables", {}).items()}
        self.before = {p["kept"]: p["kept_text"]}
        self.notes = dict(self.before)
        self.calls = 0
        self.said = ""
        self._free_at_s = 0.0
        self._is_signed_out = False
        self._stale: set[str] = set()
        self._locked: set[str] = set()
        self._in_the_way: str | None = None
        self._renamed: dict[str, str] = {}

    def __enter__(self) -> OtherWorld:
        return self

    def __exit__(self, *exc: object) -> None:
        self.notes.clear()

    # What the model can call. A docstring's first line is the description that the model reads.

    def convert_unit(self, value: str, unit: str, to: str) -> Commit:
        """Convert mm cm m km inch foot mile, g kg ton ounce pound, second minute hour day, ml liter gallon; 3 decimals."""
        number = _number(value)
        known = {name: kind for kind, names in _UNITS.items() for name in names}
        for name in (unit, to):
            if name not in known:
                raise ToolError(
                    f"unknown unit {name[:40]!r}.{nearest(name, known) or ' There are: ' + ', '.join(known)}"
                )
        if known[unit] != known[to]:
            raise ToolError(f"cannot convert {known[unit]} to {known[to]}")
        factors = _UNITS[known[unit]]
        return lambda: _shown(number * factors[unit] / factors[to])

    def convert_temperature(self, value: str, unit: str, to: str) -> Commit:
        """Convert between celsius and fahrenheit; rounded to 3 decimals."""
        number = _number(value)
        if {unit, to} != {"celsius", "fahrenheit"}:
            raise ToolError("units are celsius and fahrenheit")
        return lambda: _shown(number * 9 / 5 + 32 if to == "fahrenheit" else (number - 32) * 5 / 9)

    def add_days(self, date: str, days: int) -> Commit:
        """The date so many days after a date (YYYY-MM-DD)."""
        start = _date(date)
        try:
            end = start + timedelta(days=days)
        except OverflowError:
            raise ToolError("too far away") from None
        return lambda: end.isoformat()

    def days_between(self, start: str, end: str) -> Commit:
        """Number of days from a date to another (YYYY-MM-DD)."""
        first, last = _date(start), _date(end)
        return lambda: str((last - first).days)

    def weekday(self, date: str) -> Commit:
        """The weekday of a date (YYYY-MM-DD)."""
        day = _date(date)
        return lambda: _WEEKDAYS[day.weekday()]

    def add(self, a: str, b: str) -> Commit:
        """Add two numbers."""
        first, second = _number(a), _number(b)
        return lambda: _shown(first + second)

    def multiply(self, a: str, b: str) -> Commit:
        """Multiply two numbers."""
        first, second = _number(a), _number(b)
        return lambda: _shown(first * second)

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
        if table in self._stale:
            raise ToolError(f"the table {table!r} was changed, reload it")
        return lambda: rows[key]

    def reload_table(self, table: str) -> Commit:
        """Load a table that was changed."""
        self._table(table)

        def commit() -> JsonValue:
            self._stale.discard(table)
            return "ok"

        return commit

    def read_note(self, name: str) -> Commit:
        """Read a note."""
        self._check_note(name)
        return lambda: self.notes[name]

    def save_note(self, name: str, text: str) -> Commit:
        """Save a note."""
        if not name or not text or len(name) + len(text) > 10000 or len(self.notes) > 100:
            raise ToolError("a note needs a name and a text, and has up to 10000 characters")
        if name in self._locked:
            raise ToolError(f"the note {name!r} is locked")
        if self._in_the_way is not None:
            raise ToolError(f"no room, delete the note {self._in_the_way!r}")

        def commit() -> JsonValue:
            self.notes[name] = text
            return "ok"

        return commit

    def delete_note(self, name: str) -> Commit:
        """Delete a note."""
        self._check_note(name)

        def commit() -> JsonValue:
            del self.notes[name]
            if name == self._in_the_way:
                self._in_the_way = None
            return "ok"

        return commit

    def unlock_note(self, name: str) -> Commit:
        """Unlock a note."""

        def commit() -> JsonValue:
            self._locked.discard(name)
            return "ok"

        return commit

    def sign_in(self) -> Commit:
        """Begin a new session."""

        def commit() -> JsonValue:
            self._is_signed_out = False
            return "ok"

        return commit

    # The world's side of a call.

    def call(self, name: str, arguments: dict[str, Any]) -> Result:
        """Run one tool call; see `World`."""
        self.calls += 1
        return super().call(name, arguments)

    def check(self, name: str, arguments: dict[str, Any]) -> Commit:
        """Whether a call is right as things are."""
        commit = super().check(name, arguments)
        if self.is_limited and name != "wait":
            raise ToolError(f"too many requests, wait {round(self._free_at_s - self.clock_s)} seconds")
        if self._is_signed_out and name not in ("sign_in", "wait"):
            raise ToolError("the session has ended, sign in")
        return commit

    @property
    def is_limited(self) -> bool:
        """True while every call but waiting is refused."""
        return self.clock_s < self._free_at_s

    def _table(self, table: str) -> dict[str, str]:
        if table in self._renamed:
            raise ToolError(f"no table {table!r}, it is called {self._renamed[table]!r} now")
        if table not in self._tables:
            raise ToolError(f"no table {table[:40]!r}.{nearest(table, self._tables)}")
        return self._tables[table]

    def _check_note(self, name: str) -> None:
        if name not in self.notes:
            raise ToolError(f"no note {name[:40]!r}.{nearest(name, self.notes)}")

    def bring_about(self, kind: str, name: str, arguments: dict[str, Any]) -> None:
        """Refuse, change, rename, lock or fill what the call needs."""
        p: Any = self.task.parameters
        if kind == "rate_limited":
            self._free_at_s = self.clock_s + p["wait_s"]
        elif kind == "signed_out":
            self._is_signed_out = True
        elif kind == "stale":
            self._stale.add(arguments["table"])
        elif kind == "renamed":
            old = arguments["table"]
            self._renamed[old] = p["spare"]
            self._tables[p["spare"]] = self._tables.pop(old)
        elif kind == "locked":
            self._locked.add(arguments["name"])
        else:
            self._in_the_way = p["spare"]
            self.notes[p["spare"]] = "old"

    def answer(self, text: str) -> None:
        """The agent's last words; where no tool fits, they must say so."""
        self.said = text

    @property
    def says_no_tool(self) -> bool:
        """Whether the last words say that no tool fits; repeating the instruction says nothing."""
        return bool(_SAYS_NO_TOOL.search(" ".join(self.said.replace(self.task.instruction, " ").split())))

    def verdict(self) -> Verdict:
        """Judge the notes as they are now; see the module's docstring."""
        if not self.fits:
            missing = [] if self.says_no_tool else ["nothing says that no tool fits"]
            return score_to_verdict(1, missing, [f"call {number} is too many" for number in range(1, self.calls + 1)])
        missing = [f"the note {name!r} is not as asked" for name in self.missing_notes()]
        damage = [
            f"the note {name!r} is changed"
            for name, text in self.before.items()
            if name not in self.goals and self.notes.get(name) != text
        ]
        damage += [f"the note {name!r} is too many" for name in self._too_many()]
        return score_to_verdict(len(self.goals), missing, damage)

    def missing_notes(self) -> list[str]:
        """Names of the notes that are not as asked."""
        return [
            name for name, text in self.goals.items() if name not in self.notes or not _same(self.notes[name], text)
        ]

    def _too_many(self) -> list[str]:
        return [
            name
            for name in self.notes
            if name not in self.before and name not in self.goals and name != self._in_the_way
        ]

    def expert(self, history: Sequence[Action]) -> Move:
        """Say so where no tool fits; else remove what is in the way, look up, and save."""
        if not self.fits:
            return Move(None, answer=NO_TOOL[self.task.language])
        if self.verdict().score == 1:
            return Move(None, answer=DONE)
        known = _history_to_known(history)
        move = self._repair(known)
        if move is None:
            groups = [[known.where(each) for each in group] for group in self.looks]
            left = [Move("save_note", {"name": name, "text": self.goals[name]}) for name in self.missing_notes()]
            move = first_open_group(groups, history) or (replace(left[0], beside=tuple(left[1:])) if left else None)
        if move is None or failed_in_a_row(history, str(move.command), move.input) > 2:
            return Move(None, answer=GIVEN_UP)
        return move

    def _repair(self, known: _Known) -> Move | None:
        names = {tool.function.name for tool in self.task.tools}
        moves: list[Move] = []
        if self.is_limited and known.wait_s is not None:
            moves.append(Move("wait", {"seconds": known.wait_s}))
        if self._is_signed_out and known.signed_out:
            moves.append(Move("sign_in"))
        if self._in_the_way is not None and known.in_the_way == self._in_the_way:
            moves.append(Move("delete_note", {"name": self._in_the_way}))
        moves += [Move("reload_table", {"table": table}) for table in sorted(self._stale & known.stale)]
        moves += [Move("unlock_note", {"name": name}) for name in sorted(self._locked & known.locked)]
        moves += [Move("delete_note", {"name": name}) for name in self._too_many()]
        moves += [
            Move("save_note", {"name": name, "text": text})
            for name, text in known.read.items()
            if self.before.get(name) == text and name not in self.goals and self.notes.get(name) != text
        ]
        return next((move for move in moves if move.command in names), None)


def open(task: Task) -> OtherWorld:
    """The world of a task."""
    return OtherWorld(task)


def _number(text: str) -> Fraction:
    if not re.fullmatch(r"-?\d{1,15}(\.\d{1,15})?", text):
        raise ToolError(f"not a number: {text[:40]!r}")
    return Fraction(text)


def _shown(number: Fraction) -> str:
    """Rounded to three decimals (half to even), without zeros at the end."""
    scaled = round(number * 1000)
    text = f"{abs(scaled) // 1000}.{abs(scaled) % 1000:03d}".rstrip("0").rstrip(".")
    return "-" * (scaled < 0) + text


def _date(text: str) -> date:
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise ToolError(f"not a date like 2026-01-31: {text[:40]!r}") from None


def _same(text: str, wanted: str) -> bool:
    try:
        return Decimal(text.strip()) == Decimal(wanted)
    except InvalidOperation:
        return text.strip() == wanted


@dataclass
class _Known:
    """What a model can know after a history."""

    read: dict[str, str]
    """Notes, as they were when they were read first."""
    renamed: dict[str, str]
    stale: set[str]
    locked: set[str]
    in_the_way: str | None = None
    wait_s: int | None = None
    signed_out: bool = False

    def where(self, move: Move) -> Move:
        """The same call with the name that a table has now."""
        table = move.input.get("table")
        return replace(move, input={**move.input, "table": self.renamed[table]}) if table in self.renamed else move


def _history_to_known(history: Sequence[Action]) -> _Known:
    known = _Known({}, {}, set(), set())
    for action in history:
        if action.error is None:
            if action.command == "read_note" and isinstance(action.input, dict):
                known.read.setdefault(str(action.input["name"]), str(action.output))
        elif told := _WAIT.fullmatch(action.error):
            known.wait_s = int(told[1])
        elif told := _RENAMED.fullmatch(action.error):
            known.renamed[told[1]] = told[2]
        elif told := _STALE.fullmatch(action.error):
            known.stale.add(told[1])
        elif told := _LOCKED.fullmatch(action.error):
            known.locked.add(told[1])
        elif told := _FULL.fullmatch(action.error):
            known.in_the_way = told[1]
        elif "sign in" in action.error:
            known.signed_out = True
    return known


# Families.


@dataclass(frozen=True)
class _Plan:
    """The notes that must be saved, and what has to be looked up first: groups of independent calls."""

    goals: dict[str, str]
    looks: tuple[tuple[Move, ...], ...] = ()
    fits: bool = True
    """False where no tool can do what is asked."""


@dataclass(frozen=True)
class OtherFamily(Family):
    """A family with its way."""

    plan: Callable[[Task], _Plan] = lambda task: _Plan({})


Choice = TypeVar("Choice")


def _choice(name: str, options: Sequence[Choice]) -> Choice:
    """One of the constants of a family. A drawn name decides, because train and test tasks would share a parameter."""
    return options[zlib.crc32(name.encode("utf-8")) % len(options)]


def _common(draw: Draw) -> dict[str, JsonValue]:
    """The note to save, one to leave alone, and what faults need."""
    return {
        "name": draw.word(),
        "kept": draw.word(),
        "kept_text": f"{draw.bystander()} {draw.number(10, 99)}",
        "spare": draw.word(),
        "wait_s": draw.number(100, 300),
    }


def _draw_note(draw: Draw) -> dict[str, JsonValue]:
    return {**_common(draw), "text": f"{draw.person()} {draw.number(10, 99)} {draw.word()}"}


# (unit, its name in both languages, the unit that is asked for, its name in both languages)
_UNIT_QUESTIONS = (
    ("mile", "miles", "마일", "km", "kilometers", "킬로미터"),
    ("km", "kilometers", "킬로미터", "mile", "miles", "마일"),
    ("foot", "feet", "피트", "cm", "centimeters", "센티미터"),
    ("inch", "inches", "인치", "mm", "millimeters", "밀리미터"),
    ("pound", "pounds", "파운드", "g", "grams", "그램"),
    ("kg", "kilograms", "킬로그램", "pound", "pounds", "파운드"),
    ("gallon", "US gallons", "미국 갤런", "liter", "liters", "리터"),
    ("hour", "hours", "시간", "second", "seconds", "초"),
    ("day", "days", "일", "minute", "minutes", "분"),
)


def _draw_unit(draw: Draw) -> dict[str, JsonValue]:
    return {**_common(draw), "value": str(draw.number(3, 999))}


def _unit_words(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    question = _choice(p["name"], _UNIT_QUESTIONS)
    return {"unit": question[2 if language == "ko" else 1], "to": question[5 if language == "ko" else 4]}


def _convert(name: str, value: str) -> tuple[Move, str]:
    unit, _, _, to, _, _ = _choice(name, _UNIT_QUESTIONS)
    factors = next(factors for factors in _UNITS.values() if unit in factors)
    move = Move("convert_unit", {"value": value, "unit": unit, "to": to})
    return move, _shown(Fraction(value) * factors[unit] / factors[to])


def _plan_unit(task: Task) -> _Plan:
    p: Any = task.parameters
    move, answer = _convert(p["name"], p["value"])
    return _Plan({p["name"]: answer}, ((move,),))


def _draw_two_units(draw: Draw) -> dict[str, JsonValue]:
    return {**_draw_unit(draw), "name_2": draw.word(), "value_2": str(draw.number(3, 999))}


def _two_unit_words(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    second = _unit_words({"name": p["name_2"]}, language)
    return {**_unit_words(p, language), "unit_2": second["unit"], "to_2": second["to"]}


def _plan_two_units(task: Task) -> _Plan:
    p: Any = task.parameters
    (first, one), (second, two) = _convert(p["name"], p["value"]), _convert(p["name_2"], p["value_2"])
    return _Plan({p["name"]: one, p["name_2"]: two}, ((first, second),))


def _draw_date(draw: Draw) -> str:
    return f"{draw.number(2020, 2099)}-{draw.number(1, 12):02d}-{draw.number(1, 28):02d}"


def _draw_day(draw: Draw) -> dict[str, JsonValue]:
    return {**_common(draw), "date": _draw_date(draw), "days": draw.number(10, 400)}


def _later(day: str, days: int) -> str:
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()


def _plan_later(task: Task) -> _Plan:
    p: Any = task.parameters
    answer = _later(p["date"], p["days"])
    return _Plan({p["name"]: answer}, ((Move("add_days", {"date": p["date"], "days": p["days"]}),),))


def _plan_weekday(task: Task) -> _Plan:
    p: Any = task.parameters
    answer = _WEEKDAYS[date.fromisoformat(p["date"]).weekday()]
    return _Plan({p["name"]: answer}, ((Move("weekday", {"date": p["date"]}),),))


def _draw_between(draw: Draw) -> dict[str, JsonValue]:
    first, second = sorted((_draw_date(draw), _draw_date(draw)))
    return {**_common(draw), "start": first, "end": second}


def _plan_between(task: Task) -> _Plan:
    p: Any = task.parameters
    answer = str((date.fromisoformat(p["end"]) - date.fromisoformat(p["start"])).days)
    return _Plan({p["name"]: answer}, ((Move("days_between", {"start": p["start"], "end": p["end"]}),),))


def _draw_look_up(draw: Draw, *, rows: int, asked: int = 1) -> dict[str, JsonValue]:
    """A table of people, the first `asked` of whom the task is about. Sorted, so that the order tells nothing."""
    people = [draw.person() if place < asked else draw.bystander() for place in range(rows)]
    table = draw.folder()
    values: dict[str, JsonValue] = {person: str(draw.number(1000, 9999)) for person in sorted(people)}
    return {**_common(draw), "table": table, "tables": {table: values}, "people": list(people[:asked])}


def _person(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    return {"person": p["people"][0]}


def _plan_look_up(task: Task) -> _Plan:
    p: Any = task.parameters
    person = p["people"][0]
    move = Move("look_up", {"table": p["table"], "key": person})
    return _Plan({p["name"]: p["tables"][p["table"]][person]}, ((move,),))


def _draw_six(draw: Draw) -> dict[str, JsonValue]:
    names: list[JsonValue] = [draw.word() for _ in range(6)]
    return {**_draw_look_up(draw, rows=9, asked=6), "names": names}


def _six_words(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    arrow = " → " if language == "ko" else " as "
    return {"list": ", ".join(f'{person}{arrow}"{name}"' for person, name in zip(p["people"], p["names"], strict=True))}


def _plan_six(task: Task) -> _Plan:
    p: Any = task.parameters
    rows = p["tables"][p["table"]]
    goals = {name: rows[person] for person, name in zip(p["people"], p["names"], strict=True)}
    return _Plan(goals, (tuple(Move("look_up", {"table": p["table"], "key": person}) for person in p["people"]),))


def _draw_chain(draw: Draw) -> dict[str, JsonValue]:
    """Three tables, in which what one says is the key in the next."""
    person, other, team, other_team, room, other_room = (
        *(draw.person(), draw.bystander()),
        *(draw.word(), draw.word()),
        *(draw.city(), draw.city()),
    )
    first, second, third = draw.folder(), draw.folder(), draw.folder()
    tables: dict[str, JsonValue] = {
        first: {person: team, other: other_team},
        second: {team: room, other_team: other_room},
        third: {room: str(draw.number(1000, 9999)), other_room: str(draw.number(1000, 9999))},
    }
    steps: list[JsonValue] = [first, person, second, team, third, room]
    return {**_common(draw), "tables": tables, "steps": steps}


def _chain_words(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    first, person, second, _, third, _ = p["steps"]
    return {"person": person, "first": first, "second": second, "third": third}


def _plan_chain(task: Task) -> _Plan:
    p: Any = task.parameters
    steps = p["steps"]
    pairs = list(zip(steps[::2], steps[1::2], strict=True))
    looks = tuple((Move("look_up", {"table": table, "key": key}),) for table, key in pairs)
    table, key = pairs[-1]
    return _Plan({p["name"]: p["tables"][table][key]}, looks)


def _draw_bill(draw: Draw) -> dict[str, JsonValue]:
    items: list[str] = [draw.item() for _ in range(5)]
    table = draw.folder()
    prices: dict[str, JsonValue] = {item: str(draw.number(10, 999)) for item in items}
    return {**_common(draw), "table": table, "tables": {table: prices}, "items": list(items[:3])}


def _bill_words(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    return {"list": ", ".join(p["items"])}


def _plan_bill(task: Task) -> _Plan:
    p: Any = task.parameters
    a, b, c = (p["tables"][p["table"]][item] for item in p["items"])
    two, three = str(int(a) + int(b)), str(int(a) + int(b) + int(c))
    looks = tuple(Move("look_up", {"table": p["table"], "key": item}) for item in p["items"])
    return _Plan({p["name"]: three}, (looks, (Move("add", {"a": a, "b": b}),), (Move("add", {"a": two, "b": c}),)))


def _draw_due(draw: Draw) -> dict[str, JsonValue]:
    person, other, table = draw.person(), draw.bystander(), draw.folder()
    tables: dict[str, JsonValue] = {table: {person: _draw_date(draw), other: _draw_date(draw)}}
    return {**_common(draw), "table": table, "tables": tables, "people": [person], "days": draw.number(10, 400)}


def _plan_due(task: Task) -> _Plan:
    p: Any = task.parameters
    day = p["tables"][p["table"]][p["people"][0]]
    looks = (
        (Move("look_up", {"table": p["table"], "key": p["people"][0]}),),
        (Move("add_days", {"date": day, "days": p["days"]}),),
    )
    return _Plan({p["name"]: _later(day, p["days"])}, looks)


_CURRENCIES = (("dollar", "달러"), ("euro", "유로"), ("pound", "파운드"), ("franc", "프랑"))


def _draw_currency(draw: Draw) -> dict[str, JsonValue]:
    return {
        **_common(draw),
        "item": draw.item(),
        "price": str(draw.number(3, 999)),
        "rate": str(draw.number(1000, 1999)),
    }


def _currency_words(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    lines = []
    for place, (english, korean) in enumerate(_CURRENCIES):
        # Only the rate that counts is a parameter; the others stand beside it.
        is_asked = (english, korean) == _choice(p["name"], _CURRENCIES)
        rate = int(p["rate"]) + (0 if is_asked else 111 * (place + 1))
        lines.append(f"{korean} {rate}원" if language == "ko" else f"1 {english} = {rate} won")
    english, korean = _choice(p["name"], _CURRENCIES)
    return {"rates": "; ".join(lines), "currency": korean if language == "ko" else f"{english}s"}


def _plan_currency(task: Task) -> _Plan:
    p: Any = task.parameters
    answer = str(int(p["price"]) * int(p["rate"]))
    return _Plan({p["name"]: answer}, ((Move("multiply", {"a": p["price"], "b": p["rate"]}),),))


def _draw_words(draw: Draw) -> dict[str, JsonValue]:
    return {**_common(draw), "text": " ".join(draw.word() for _ in range(draw.random.randint(5, 14)))}


_WORDS: dict[str, Callable[[str], str]] = {
    "count_words": lambda text: str(len(text.split())),
    "sort_words": lambda text: " ".join(sorted(text.split())),
    "reverse_words": lambda text: " ".join(reversed(text.split())),
}


def _plan_words(task: Task, *, tool: str) -> _Plan:
    p: Any = task.parameters
    return _Plan({p["name"]: _WORDS[tool](p["text"])}, ((Move(tool, {"text": p["text"]}),),))


def _draw_recall(draw: Draw) -> dict[str, JsonValue]:
    return {**_common(draw), "person": draw.person(), "number": str(draw.number(10000, 99999))}


def _plan_recall(task: Task) -> _Plan:
    p: Any = task.parameters
    return _Plan({p["name"]: p["number"]})


_TEMPERATURES = (("celsius", "fahrenheit"), ("fahrenheit", "celsius"))


def _draw_temperature(draw: Draw) -> dict[str, JsonValue]:
    return {**_common(draw), "value": str(draw.number(3, 99))}


def _plan_temperature(task: Task) -> _Plan:
    p: Any = task.parameters
    unit, to = _choice(p["name"], _TEMPERATURES)
    value = Fraction(p["value"])
    answer = _shown(value * 9 / 5 + 32 if to == "fahrenheit" else (value - 32) * 5 / 9)
    return _Plan({p["name"]: answer}, ((Move("convert_temperature", {"value": p["value"], "unit": unit, "to": to}),),))


def _temperature_words(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    unit, to = _choice(p["name"], _TEMPERATURES)
    korean = {"celsius": "섭씨", "fahrenheit": "화씨"}
    return {"unit": korean[unit], "to": korean[to]} if language == "ko" else {"unit": unit, "to": to}


# What no tool of this world can do: acts, and questions whose answer stands nowhere.
_ACTS = (
    ("Book a flight to {city} for {person}.", "{person}의 {city}행 항공편을 예약하세요."),
    ("Call {person} in {city} on the phone.", "{city}에 있는 {person}에게 전화를 거세요."),
    ("Send {person} in {city} an e-mail.", "{city}에 있는 {person}에게 이메일을 보내세요."),
    ("Take a photo of {person} in {city}.", "{city}에서 {person}의 사진을 찍으세요."),
    ("Print a map of {city} for {person}.", "{person}을(를) 위해 {city} 지도를 인쇄하세요."),
    ("Reserve a table in {city} for {person}.", "{city}의 식당에 {person} 이름으로 자리를 예약하세요."),
)
_QUESTIONS = (
    (
        'How warm is it in {city} now? Save it as "{name}".',
        '지금 {city}의 기온을 "{name}"(으)로 저장하세요.',
    ),
    (
        'What does {person} in {city} do right now? Save it as "{name}".',
        '{city}의 {person}이(가) 지금 하는 일을 "{name}"(으)로 저장하세요.',
    ),
    (
        'Who is ahead in the game in {city}? Save it as "{name}".',
        '지금 {city} 경기에서 이기는 팀을 "{name}"(으)로 저장하세요.',
    ),
    (
        'How long is the queue at the airport of {city}? Save it as "{name}".',
        '지금 {city} 공항의 대기 시간을 "{name}"(으)로 저장하세요.',
    ),
)


def _draw_no_tool(draw: Draw) -> dict[str, JsonValue]:
    return {**_draw_look_up(draw, rows=3), "city": draw.city()}


def _no_tool_words(p: Any, language: Literal["en", "ko"], *, options: Sequence[tuple[str, str]]) -> dict[str, str]:
    pattern = _choice(p["name"], options)[1 if language == "ko" else 0]
    return {"request": pattern.format(city=p["city"], person=p["people"][0], name=p["name"])}


def _plan_no_tool(task: Task) -> _Plan:
    return _Plan({}, fits=False)


_ELSE = {
    "en": ' If no tool fits, call none and answer "no tool".',
    "ko": ' 맞는 도구가 없으면 호출하지 말고 "도구 없음"이라고 답하세요.',
}
_NOTES = ("save_note", "read_note", "delete_note", "unlock_note", "sign_in", "wait")
_TABLES = ("look_up", "list_tables", "reload_table")
_AGAIN = ("busy", "timed_out", "malformed", "rate_limited", "signed_out")
_SAVING = tuple(Fault(kind, "save_note", 0) for kind in ("locked", "full"))


def _faults_of(tool: str) -> tuple[Fault, ...]:
    kinds = (*_AGAIN, "stale", "renamed") if tool == "look_up" else _AGAIN
    return (*(Fault(kind, tool, 0) for kind in kinds), *_SAVING)


def _family(
    name: str,
    tier: int,
    tools: tuple[str, ...],
    draw: Callable[[Draw], dict[str, JsonValue]],
    plan: Callable[[Task], _Plan],
    english: tuple[str, ...],
    korean: str,
    *,
    facts: tuple[str, ...] = ("name",),
    **more: Any,
) -> OtherFamily:
    """A family of this world: the first of `tools` is the one that it needs, notes are always there."""
    return OtherFamily(
        name=name,
        tier=tier,
        tools=(*tools, *_NOTES),
        draw=draw,
        english=tuple(sentence + _ELSE["en"] for sentence in english),
        korean=korean + _ELSE["ko"],
        facts=facts,
        faults=(_faults_of(tools[0]) if tools[0] in _NEEDED else _SAVING) if tier else (),
        plan=plan,
        **more,
    )


_NEEDED = (
    "convert_unit", "convert_temperature", "add_days", "weekday", "days_between", "look_up", "multiply", "count_words",
    "sort_words", "reverse_words",
)  # fmt: skip

FAMILIES: tuple[OtherFamily, ...] = (
    _family(
        "note", 1, ("list_tables", "count_words"), _draw_note,
        lambda task: _Plan({str(task.parameters["name"]): str(task.parameters["text"])}),
        ('Save "{text}" as the note "{name}".', 'Make a note "{name}" that says "{text}".'),
        '"{text}"(을)를 "{name}" 메모로 저장하세요.',
        facts=("name", "text"),
    ),
    _family(
        "unit", 2, ("convert_unit", "convert_temperature", "multiply"), _draw_unit, _plan_unit,
        ('Save as "{name}" how many {to} are {value} {unit}, rounded to 3 decimals.',
         'Convert {value} {unit} to {to} and save the number (3 decimals) as "{name}".'),
        '{value}{unit}은(는) 몇 {to}입니까? 소수 셋째 자리까지 "{name}"(으)로 저장하세요.',
        phrases=_unit_words, facts=("name", "value"),
    ),
    _family(
        "later", 2, ("add_days", "weekday", "days_between"), _draw_day, _plan_later,
        ('Which date is {days} days after {date}? Save it as "{name}".',
         'Save as "{name}" the date that comes {days} days after {date}.'),
        '{date}에서 {days}일 뒤의 날짜를 "{name}"(으)로 저장하세요.',
        facts=("name", "date"),
    ),
    _family(
        "weekday", 2, ("weekday", "add_days", "days_between"), _draw_day, _plan_weekday,
        ('Which weekday is {date}? Save it in English as "{name}".',
         'Save as "{name}" on which day of the week {date} is (in English).'),
        '{date}의 요일을 영어로 "{name}"에 저장하세요.',
        facts=("name", "date"),
    ),
    _family(
        "look-up", 2, (*_TABLES, "count_words"), partial(_draw_look_up, rows=5), _plan_look_up,
        ('What does the table "{table}" say for {person}? Save it as "{name}".',
         'Save the entry of {person} in the table "{table}" as "{name}".'),
        '"{table}" 표에서 {person}의 값을 찾아 "{name}"(으)로 저장하세요.',
        phrases=_person, facts=("name", "table"),
    ),
    _family(
        "currency", 2, ("multiply", "add", "convert_unit"), _draw_currency, _plan_currency,
        ('{rates}. A {item} costs {price} {currency}; save its price in won as "{name}".',
         'Rates today: {rates}. Save as "{name}" how many won {price} {currency} for a {item} are.'),
        '오늘 환율: {rates}. {item} 가격 {price} {currency}은(는) 몇 원입니까? 숫자만 "{name}"(으)로 저장하세요.',
        phrases=_currency_words, facts=("name", "rate"),
    ),
    _family(
        "count", 2, ("count_words", "sort_words", "reverse_words"), _draw_words,
        partial(_plan_words, tool="count_words"),
        ('How many words are in "{text}"? Save the number as "{name}".',
         'Save as "{name}" of how many words "{text}" consists.'),
        '"{text}"의 단어 수를 "{name}"(으)로 저장하세요.',
        facts=("name", "text"),
    ),
    _family(
        "sort", 2, ("sort_words", "reverse_words", "count_words"), _draw_words, partial(_plan_words, tool="sort_words"),
        ('Save the words "{text}" in alphabetical order as "{name}".',
         'Sort "{text}" by the alphabet, and save the words as "{name}".'),
        '"{text}"의 단어를 알파벳순으로 "{name}"에 저장하세요.',
        facts=("name", "text"),
    ),
    _family(
        "due", 3, ("look_up", "add_days", "weekday", "list_tables", "reload_table"), _draw_due, _plan_due,
        ('The table "{table}" has a date for {person}. Save as "{name}" the date {days} days later.',
         'Look up the date of {person} in "{table}", add {days} days, and save the result as "{name}".'),
        '"{table}" 표에 있는 {person}의 날짜에서 {days}일 뒤의 날짜를 "{name}"(으)로 저장하세요.',
        phrases=_person, facts=("name", "table"),
    ),
    _family(
        "two-units", 4, ("convert_unit", "convert_temperature", "multiply"), _draw_two_units, _plan_two_units,
        ('Convert {value} {unit} to {to} and save it as "{name}"; convert {value_2} {unit_2} to {to_2} and save it as '
         '"{name_2}" (3 decimals).',),
        '{value}{unit}을(를) {to}(으)로 바꿔 "{name}"에, {value_2}{unit_2}을(를) {to_2}(으)로 바꿔 "{name_2}"에 저장하세요'
        "(소수 셋째 자리).",
        phrases=_two_unit_words, facts=("name", "name_2", "value", "value_2"),
    ),
    _family(
        "chain", 4, (*_TABLES, "add"), _draw_chain, _plan_chain,
        ('Look up {person} in "{first}", what you find there in "{second}", and what you find there in "{third}". Save '
         'the last as "{name}".',),
        '"{first}" 표에서 {person}을(를) 찾고, 그 값을 "{second}"에서, 다시 그 값을 "{third}"에서 찾아 '
        '"{name}"(으)로 저장하세요.',
        phrases=_chain_words,
    ),
    _family(
        "bill", 6, ("look_up", "add", "multiply", "list_tables", "reload_table"), _draw_bill, _plan_bill,
        ('What do these cost together at the prices of the table "{table}": {list}? Save the sum as "{name}".',
         'Add up the prices of {list} from the table "{table}" and save the sum as "{name}".'),
        '"{table}" 표의 가격으로 {list}의 합계를 구해 "{name}"(으)로 저장하세요.',
        phrases=_bill_words, facts=("name", "table"),
    ),
    _family(
        "six", 12, _TABLES, _draw_six, _plan_six,
        ('Look these up in the table "{table}" and save each entry as a note: {list}.',),
        '"{table}" 표에서 다음을 찾아 각각 메모로 저장하세요: {list}.',
        phrases=_six_words, facts=("table",),
    ),
    _family(
        "recall", 1, ("list_tables", "count_words"), _draw_recall, _plan_recall,
        ('The number of {person} is {number}. Here is a list of stores:\n{filler}\nSave the number of {person} as "{name}".',),
        '{person}의 번호는 {number}입니다. 상점 목록:\n{filler}\n{person}의 번호를 "{name}"(으)로 저장하세요.',
        facts=("name", "number"), context_tokens=CONTEXT_TOKENS,
    ),
    _family(
        "no-tool-act", 0, (*_TABLES, "add_days", "weekday"), _draw_no_tool, _plan_no_tool, ("{request}",), "{request}",
        phrases=partial(_no_tool_words, options=_ACTS), facts=(),
    ),
    _family(
        "no-tool-question", 0, (*_TABLES, "convert_unit", "convert_temperature"), _draw_no_tool, _plan_no_tool,
        ("{request}",), "{request}",
        phrases=partial(_no_tool_words, options=_QUESTIONS), facts=(),
    ),
    _family(
        "temperature", 2, ("convert_temperature", "convert_unit", "multiply"), _draw_temperature, _plan_temperature,
        ('Save as "{name}" how many degrees {to} are {value} degrees {unit}, rounded to 3 decimals.',),
        '{unit} {value}도는 {to} 몇 도입니까? 소수 셋째 자리까지 "{name}"(으)로 저장하세요.',
        phrases=_temperature_words, facts=("name", "value"), held_out=True,
    ),
    _family(
        "between", 2, ("days_between", "add_days", "weekday"), _draw_between, _plan_between,
        ('How many days is it from {start} to {end}? Save the number as "{name}".',),
        '{start}부터 {end}까지 며칠입니까? 숫자를 "{name}"(으)로 저장하세요.',
        facts=("name", "start", "end"), held_out=True,
    ),
    _family(
        "reverse", 2, ("reverse_words", "sort_words", "count_words"), _draw_words,
        partial(_plan_words, tool="reverse_words"),
        ('Save the words "{text}" from last to first as "{name}".',),
        '"{text}"의 단어를 뒤에서부터 거꾸로 "{name}"에 저장하세요.',
        facts=("name", "text"), held_out=True,
    ),
)  # fmt: skip

_FAMILY_OF = {family.name: family for family in FAMILIES}
TOOLS = {
    name: function_to_spec(getattr(OtherWorld, name))
    for name in dict.fromkeys(name for family in FAMILIES for name in family.tools)
}


def tasks(split: Split, count: int, seed: int, *, short: bool = False) -> list[Task]:
    """`count` distinct tasks over all families, the same for the same arguments."""
    return families_to_tasks(FAMILIES, TOOLS, world="other", split=split, count=count, seed=seed, short=short)
