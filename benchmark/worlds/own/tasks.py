"""One task of a folder with the user's own tools: a line of tasks.jsonl. Reading it starts nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    field_validator,
    model_validator,
)

from benchmark.worlds.own.sources import NamedCall
from benchmark.worlds.world import Part

FROM = "$from"
"""Key of an argument that refers to an earlier result: `{"$from": [call, "/json/pointer"]}`."""

SHORT = 4
"""Values of fewer characters may stand in both splits."""
_PARTS: tuple[tuple[Part, float], ...] = (("record", 0.60), ("practice", 0.85), ("validation", 1.0))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, populate_by_name=True)


class SaidNumber(_Strict):
    """A number that the answer must hold."""

    number: float
    tolerance: float = Field(default=0.0, ge=0)


Said = str | int | float | SaidNumber
"""Words that the answer must hold as whole words, or a number."""


class Before(_Strict):
    """A call that must come first."""

    before: str
    """Name of the tool whose first call must come later."""


class CalledCheck(_Strict):
    """A condition on the calls that were made: broken it is damage, held it scores nothing."""

    call: str
    """Name of the tool."""
    arguments: dict[str, JsonValue] | None = None
    """Only calls with these arguments count."""
    called: Literal["once", "never"] | Before


class ResultCheck(_Strict):
    """A goal: what a read-only call gives after the run."""

    call: str
    """Name of the tool."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    pointer: str | None = None
    """JSON Pointer into the result; alone, that something is there."""
    equals: JsonValue = None
    contains: str | None = None
    matches: str | None = None
    """A regular expression that is found in the result's text."""

    @field_validator("matches")
    @classmethod
    def _is_pattern(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _says_something(self) -> ResultCheck:
        given = self.model_fields_set & {"equals", "contains", "matches"}
        if len(given) > 1 or not (given or self.pointer is not None):
            raise ValueError("a check has exactly one of equals, contains, matches, or a pointer alone")
        return self


def _sort_of_check(value: Any) -> str:
    called = value.get("called") if isinstance(value, dict) else getattr(value, "called", None)
    return "[called]" if called is not None else "[result]"


Check = Annotated[
    Annotated[CalledCheck, Tag("[called]")] | Annotated[ResultCheck, Tag("[result]")], Discriminator(_sort_of_check)
]


Known = str | int | float


class AnswerRow(_Strict):
    """What the user says to certain questions."""

    when: Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)] = Field(
        min_length=1
    )
    """What is asked for: a slot of `knows`, a tool of `confirms`, or words. One text or several; each may stand for the others,
    and all words of a text must stand in the question."""
    say: str = Field(min_length=1)


class UserRow(_Strict):
    """Who answers `ask_user`: a script, so that the same questions get the same answers."""

    knows: dict[str, Known] = Field(default_factory=dict)
    """Values that only the user knows, by what they are called. Whatever the question's words, it gets them."""
    answers: list[AnswerRow] = Field(default_factory=list)
    """How the user says it, where that is not said by itself, and what else they answer. The first that fits counts."""
    otherwise: str = ""
    """What is said to any other question; empty is a plain sentence."""
    changes_mind_after: int | None = Field(default=None, ge=0)
    """After so many answers of what the user knows, the next question hears of `changes`."""
    changes: dict[str, Known] = Field(default_factory=dict)
    """Values that the user changes their mind to, by what they are called."""
    confirms: list[str] = Field(default_factory=list)
    """Tools before which the user wants to be asked. One answer is for all of them."""

    @model_validator(mode="after")
    def _fits(self) -> UserRow:
        if (self.changes_mind_after is None) == bool(self.changes):
            raise ValueError("changes_mind_after and changes go together: after how many answers, and to which values")
        known = {name: value for name, value in self.knows.items() if name in self.changes}
        if unchanged := next((name for name, value in known.items() if self.changes[name] == value), None):
            raise ValueError(f"changes.{unchanged}: is what the user knew before, expected another value")
        return self


class TaskRow(_Strict):
    """One task: what the model is asked, and a way to do it. The state after that way is what must be reached."""

    id: str = Field(min_length=1, max_length=120, pattern=r"^[^\s/\\]+$")
    split: Literal["train", "test"]
    instruction: str = Field(min_length=1)
    solution: list[NamedCall] = Field(default_factory=list)
    """Calls that solve it. An argument may be `{"$from": [call, "/json/pointer"]}`: a value of the result of an earlier call,
    named by its place from 0 or by its tool."""
    family: str = "tasks"
    """Tasks that are solved in the same way."""
    language: str = Field(default="en", min_length=2)
    setup: list[NamedCall] = Field(default_factory=list)
    """Calls before the model is asked; it does not see them."""
    says: list[Said] = Field(default_factory=list)
    """What the answer must hold. It decides only where `expects: no_change`."""
    check: list[Check] = Field(default_factory=list)
    """Further goals and conditions."""
    expects: Literal["no_change"] | None = None
    """For refusals and questions: nothing may change, and the answer decides."""
    shared: list[str] = Field(default_factory=list)
    """Values that may stand in both splits."""
    row: dict[str, JsonValue] = Field(default_factory=dict)
    """What `reset(**row)` of a Python source gets beside the fields of the task that it names."""
    user: UserRow | None = None
    """Who can be asked with `ask_user`. Such tasks are drawn with --asking only."""
    policy: str | None = Field(default=None, min_length=1)
    """A rule that stands at the end of the system prompt; goes with user."""

    @model_validator(mode="after")
    def _fits(self) -> TaskRow:
        if self.says and self.expects is None:
            raise ValueError("says decides only where expects: no_change; elsewhere the state does")
        if self.policy is not None and self.user is None:
            raise ValueError("policy goes with user: such tasks are drawn with --asking only; an empty user is {}")
        if self.expects is not None and not self.says and self.user is None:
            raise ValueError("expects: no_change needs says: an answer decides where nothing may change")
        for calls, what in ((self.setup, "setup"), (self.solution, "solution")):
            for place, call in enumerate(calls):
                for source, _ in references(call.arguments):
                    names = [each.name for each in calls[:place]]
                    if source not in names and not (type(source) is int and 0 <= source < place):
                        raise ValueError(
                            f"{what}.{place}: $from names {source!r}, expected the place (0 to {place - 1}) or the tool of an "
                            "earlier call"
                            if place
                            else f"{what}.0: $from in the first call: there is no earlier one"
                        )
        return self

    @property
    def part(self) -> Part:
        """What a training task is for; it depends on its id alone."""
        return part_of(self.id)


def row_to_text(row: TaskRow) -> str:
    """A row as JSON, to be hashed; what tasks without a user do not have leaves no trace in theirs."""
    return row.model_dump_json(exclude=None if row.user is not None else {"policy"})


def part_of(task_id: str) -> Part:
    """Whether a training task is recorded (60 %), practised (25 %) or validated on (15 %)."""
    point = int.from_bytes(hashlib.sha256(task_id.encode()).digest()[:6], "big") / 2**48
    return next(part for part, end in _PARTS if point < end)


def references(value: Any) -> Iterator[tuple[int | str, str]]:
    """Every reference to an earlier result in a value.

    Raises:
        ValueError: one that has not the form `{"$from": [call, "/json/pointer"]}`.
    """
    if isinstance(value, dict):
        if FROM in value:
            told = value[FROM]
            if not (
                len(value) == 1
                and isinstance(told, list)
                and len(told) == 2
                and isinstance(told[0], int | str)
                and isinstance(told[1], str)
                and (not told[1] or told[1].startswith("/"))
            ):
                raise ValueError(f'expected {{"$from": [call, "/json/pointer"]}}, got {value!r}')
            yield told[0], told[1]
            return
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def share_values(rows: Sequence[TaskRow]) -> tuple[list[TaskRow], int]:
    """Rows whose values that stand in both splits are declared as shared, and how many such values there are.

    For tasks that were not made to be apart.
    """

    def texts(some: Sequence[TaskRow]) -> set[str]:
        found: set[str] = set()
        for row in some:
            found |= set(_strings([call.arguments for call in (*row.solution, *row.setup)]))
            found |= {str(each.number if isinstance(each, SaidNumber) else each) for each in row.says}
        return found

    train, test = (texts([row for row in rows if row.split == split]) for split in ("train", "test"))
    both = {text for text in train & test if len(text) >= SHORT}
    shared = [sorted({*row.shared, *(both & texts([row]))}) for row in rows]
    return [row.model_copy(update={"shared": own}) for row, own in zip(rows, shared, strict=True)], len(both)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _strings(each)
    elif value is not None:
        yield str(value)
