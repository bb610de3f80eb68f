"""families.yaml: many tasks from few templates, without a teacher.

A family has templates of its instruction in English or Korean, values that are drawn from pools, and a template of the
solution. Pools are disjoint in train and test: by lists of their own, or by the hash of each value. Values may also come from
read-only calls of the tools; `python -m benchmark tasks make` asks for these and keeps them in pools.json.
"""

from __future__ import annotations

import hashlib
import json
import random
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from benchmark.worlds.own.sources import NamedCall
from benchmark.worlds.own.tasks import TaskRow
from core.config import describe_validation_error
from core.errors import UserError, nearest

Split = Literal["train", "test"]
Language = Literal["en", "ko"]
_TRAIN_SHARE = 0.6
_DRAWN = 400
"""Draws of one task until the pools count as empty."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, populate_by_name=True)


class Pool(_Strict):
    """Values of one sort. A plain list is short for `values`."""

    values: list[JsonValue] | None = None
    """Texts, numbers, or rows (objects) whose columns a template names as `{name.column}`; the hash of each decides its
    split."""
    train: list[JsonValue] | None = None
    test: list[JsonValue] | None = None
    """Lists of their own for the two splits."""
    first: int | None = Field(default=None, alias="from")
    last: int | None = Field(default=None, alias="to")
    """Whole numbers from `from` to `to`; the hash of each decides its split."""
    call: NamedCall | None = None
    """A read-only call whose result holds the values."""
    pointer: str = "/*"
    """With `call`: JSON Pointer of the values in its result; `*` is every entry."""

    @model_validator(mode="before")
    @classmethod
    def _list_is_short(cls, value: Any) -> Any:
        return {"values": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _one_way(self) -> Pool:
        ways = [self.values is not None, self.train is not None, self.first is not None, self.call is not None]
        if sum(ways) != 1 or (self.train is None) != (self.test is None) or (self.first is None) != (self.last is None):
            raise ValueError("a pool has exactly one of: a list, train and test, from and to, call")
        if self.train is not None and self.test is not None:
            both = {_text(each) for each in self.train} & {_text(each) for each in self.test}
            if both:
                raise ValueError(f"{sorted(both)[0]} stands in train and in test")
        if self.first is not None and self.last is not None and self.last < self.first:
            raise ValueError("to is below from")
        return self


class FamilyTemplate(_Strict):
    """Tasks that are solved in the same way."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    values: dict[str, str] = Field(default_factory=dict)
    """Names in the templates, each with the pool that it is drawn from."""
    en: list[str] = Field(default_factory=list)
    ko: list[str] = Field(default_factory=list)
    """Ways to say it; `{name}` is a value, `{name.column}` a column of a row."""
    solution: list[NamedCall] = Field(default_factory=list)
    """A text that is one `{name}` alone keeps the value's type."""
    setup: list[NamedCall] = Field(default_factory=list)
    says: list[JsonValue] = Field(default_factory=list)
    check: list[dict[str, JsonValue]] = Field(default_factory=list)
    expects: Literal["no_change"] | None = None
    shared: list[str] = Field(default_factory=list)
    """Values that may stand in both splits, such as words of the template itself."""
    row: dict[str, JsonValue] = Field(default_factory=dict)
    held_out: bool = False
    """In the test split only."""
    user: dict[str, JsonValue] | None = None
    """Who can be asked, as in tasks.jsonl; `{en: ..., ko: ...}` where the languages differ. Such families are drawn with
    --asking only."""
    policy: str | dict[Literal["en", "ko"], str] | None = None
    """A rule at the end of the system prompt, in one language or two; goes with user."""

    @model_validator(mode="after")
    def _says_something(self) -> FamilyTemplate:
        if not self.en and not self.ko:
            raise ValueError("a family has instructions: en, ko or both")
        if self.policy is not None and self.user is None:
            raise ValueError("policy goes with user; an empty user is {}")
        spoken = {language for language, told in (("en", self.en), ("ko", self.ko)) if told}
        for what, told in (("user", self.user), ("policy", self.policy)):
            if isinstance(told, dict) and told and told.keys() <= {"en", "ko"} and not spoken <= told.keys():
                raise ValueError(
                    f"{what}: {', '.join(sorted(spoken - told.keys()))} is missing, the family is told in it"
                )
        return self


class Counts(_Strict):
    """How many tasks of each split."""

    train: int = Field(default=160, ge=0)
    test: int = Field(default=100, ge=0)


class AskingCounts(_Strict):
    """How many tasks with a user of each split."""

    train: int = Field(default=80, ge=0)
    test: int = Field(default=40, ge=0)


class Families(_Strict):
    """families.yaml."""

    tasks: Counts = Counts()
    """How many tasks are made; the families take turns."""
    asking: AskingCounts = AskingCounts()
    """How many are made of the families with a user, beside these."""
    korean: float = Field(default=0.5, ge=0, le=1)
    """Share told in Korean, of families that have both languages."""
    pools: dict[str, Pool] = Field(default_factory=dict)
    families: list[FamilyTemplate] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_known(self) -> Families:
        names = [family.name for family in self.families]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two families are called {twice!r}")
        for family in self.families:
            for name, pool in family.values.items():
                if pool not in self.pools:
                    raise ValueError(
                        f"family {family.name}: values.{name}: pool {pool!r} is unknown.{nearest(pool, self.pools)}"
                    )
            template: JsonValue = family.model_dump(exclude={"name", "values", "shared"})
            for used in _names_in(template):
                if used.partition(".")[0] not in family.values:
                    raise ValueError(
                        f"family {family.name}: {{{used}}} is no value of it.{nearest(used, family.values)} "
                        "Write {{ and }} for braces"
                    )
        return self


def families_to_rows(families: Families, read: Mapping[str, list[JsonValue]], *, where: Path) -> list[TaskRow]:
    """The tasks of all families, always the same for the same file.

    Args:
        read: values of the pools with a call, by the pool's name (pools.json).
        where: families.yaml, for errors.

    Raises:
        UserError: a pool that was not asked for yet, one that is too small, a row that is no task.
    """
    rows: list[TaskRow] = []
    splits: tuple[tuple[Split, bool, int], ...] = (
        ("train", False, families.tasks.train),
        ("test", False, families.tasks.test),
        ("train", True, families.asking.train),
        ("test", True, families.asking.test),
    )
    for split, asking, count in splits:
        used = [
            family
            for family in families.families
            if (family.user is not None) is asking and (split == "test" or not family.held_out)
        ]
        seen: set[str] = set()
        for number in range(count if used else 0):
            family = used[number % len(used)]
            rows.append(_row(families, family, read, split, number // len(used), seen, where))
    return rows


def _row(
    families: Families,
    family: FamilyTemplate,
    read: Mapping[str, list[JsonValue]],
    split: Split,
    number: int,
    seen: set[str],
    where: Path,
) -> TaskRow:
    pools = {name: _values_of(families, pool, read, split, where) for name, pool in family.values.items()}
    for attempt in range(_DRAWN):
        chance = random.Random(f"{family.name}-{split}-{number}-{attempt}")  # a text seeds alike on every machine
        drawn: dict[str, JsonValue] = {}
        for name, pool in family.values.items():
            # two values of one pool differ within a task
            taken = [_text(value) for other, value in drawn.items() if family.values[other] == pool]
            for _ in range(_DRAWN):
                drawn[name] = _draw(pools[name], chance, split)
                if _text(drawn[name]) not in taken:
                    break
        key = family.name + _text(drawn)
        if key not in seen:
            break
    else:
        raise UserError(
            f"{where}: family {family.name}: its pools give only {number} different tasks of the split {split}; give them more "
            "values, or lower tasks"
        )
    seen.add(key)
    is_korean = bool(family.ko) and (not family.en or chance.random() < families.korean)
    language: Language = "ko" if is_korean else "en"
    row = {
        "id": f"{family.name}-{split}-{number:03d}",
        "split": split,
        "family": family.name,
        "language": language,
        "instruction": chance.choice(family.ko if is_korean else family.en),
        "solution": [call.model_dump() for call in family.solution],
        "setup": [call.model_dump() for call in family.setup],
        "says": family.says,
        "check": family.check,
        "expects": family.expects,
        "row": family.row,
        "user": _in_language(family.user, language),
        "policy": _in_language(family.policy, language),
    }
    try:
        return TaskRow.model_validate({**_filled(row, drawn), "shared": family.shared})
    except ValidationError as error:
        raise UserError(f"{where}: family {family.name}: {describe_validation_error(error, TaskRow)}") from None
    except KeyError as missing:
        raise UserError(f"{where}: family {family.name}: a drawn row has no column {missing}") from None


def _in_language(told: Any, language: Language) -> Any:
    """What a family says in a language, if it says it in each."""
    return told[language] if isinstance(told, dict) and told and told.keys() <= {"en", "ko"} else told


def _values_of(
    families: Families, name: str, read: Mapping[str, list[JsonValue]], split: Split, where: Path
) -> list[JsonValue] | Pool:
    """The values of a pool for a split; a range of numbers is drawn from as it is."""
    pool = families.pools[name]
    if pool.first is not None:
        return pool
    if pool.call is not None and name not in read:
        raise UserError(
            f"{where}: pool {name!r} comes from a call of {pool.call.name}: run `python -m benchmark tasks make {where.parent}`"
        )
    own = pool.train if split == "train" else pool.test
    values = own if own is not None else [each for each in (pool.values or read.get(name, [])) if _is_in(each, split)]
    if not values:
        raise UserError(
            f"{where}: pool {name!r} has no value for the split {split}; give it more, or lists train and test"
        )
    return values


def _draw(values: list[JsonValue] | Pool, chance: random.Random, split: Split) -> JsonValue:
    if isinstance(values, list):
        return chance.choice(values)
    value = 0
    for _ in range(_DRAWN):
        value = chance.randint(int(values.first or 0), int(values.last or 0))
        if _is_in(value, split):
            break
    return value


def _is_in(value: JsonValue, split: Split) -> bool:
    point = int.from_bytes(hashlib.sha256(_text(value).encode()).digest()[:6], "big") / 2**48
    return (point < _TRAIN_SHARE) == (split == "train")


def _text(value: JsonValue | dict[str, JsonValue]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _names_in(template: Any) -> Iterator[str]:
    if isinstance(template, str):
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError as error:
            raise ValueError(f"{template!r}: {error}; write {{{{ and }}}} for braces") from None
        yield from (name for _, name, _, _ in parsed if name is not None)
    elif isinstance(template, dict):
        for each in template.values():
            yield from _names_in(each)
    elif isinstance(template, list):
        for each in template:
            yield from _names_in(each)


def _filled(template: Any, values: Mapping[str, JsonValue]) -> Any:
    """A template with its values; a text that is one name alone becomes the value itself."""
    if isinstance(template, dict):
        return {key: _filled(each, values) for key, each in template.items()}
    if isinstance(template, list):
        return [_filled(each, values) for each in template]
    if not isinstance(template, str):
        return template
    parts = list(string.Formatter().parse(template))
    if len(parts) == 1 and parts[0][0] == "" and parts[0][1] is not None:
        return _value(parts[0][1], values)
    return "".join(text + ("" if name is None else _said(_value(name, values))) for text, name, _, _ in parts)


def _value(name: str, values: Mapping[str, JsonValue]) -> JsonValue:
    first, *columns = name.split(".")
    value = values[first]
    for column in columns:
        value = value[column] if isinstance(value, dict) else _raise(column)
    return value


def _raise(column: str) -> JsonValue:
    raise KeyError(column)


def _said(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
