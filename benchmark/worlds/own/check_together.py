"""What only all tasks of a folder show together: values that stand in both splits, too many questions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from benchmark.worlds.own.check_tasks import Refusal, fixed_values
from benchmark.worlds.own.kind import OwnKind
from benchmark.worlds.own.tasks import FROM, SaidNumber, TaskRow
from data.records import ToolSpec

_SHORT = 4
"""Texts below so many characters, and numbers below 1000, may stand in both splits."""


def check_together(kind: OwnKind) -> list[Refusal]:
    """What only all tasks show: values or whole tasks that stand in both splits, and too many tasks that an answer decides."""
    rows = kind.folder.rows
    refusals = []
    for asking, most, what in ((False, 5, "a fifth of the tasks"), (True, 2, "half of those with a user")):
        of = [row for row in rows if (row.user is not None) is asking]
        answered = [row for row in of if row.expects == "no_change"]
        if len(answered) * most > len(of):
            refusals.append(Refusal("(all)", f"at most {what} expects no change", f"{len(answered)} of {len(of)} do"))
    first: dict[str, dict[str, str]] = {"train": {}, "test": {}}
    whole: dict[str, dict[str, str]] = {"train": {}, "test": {}}
    for row in rows:
        values = list(_values_of(kind.tools, row))
        for value in values:
            first[row.split].setdefault(value, row.id)
        if not values and not row.shared:
            whole[row.split].setdefault(row.model_dump_json(exclude={"id", "split", "family"}), row.id)
    refusals += [
        Refusal(
            first["test"][value], "no value stands in both splits, unless shared", f"{value!r} stands in {task}, too"
        )
        for value, task in first["train"].items()
        if value in first["test"]
    ]
    refusals += [
        Refusal(whole["test"][told], "no task stands in both splits", f"{task} is the same")
        for told, task in whole["train"].items()
        if told in whole["test"]
    ]
    return refusals


def _values_of(tools: Mapping[str, ToolSpec], row: TaskRow) -> Iterator[str]:
    """The values that tell a task, each as it is compared: without regard to case and spaces."""
    shared = {_as_compared(value) for value in row.shared}
    for call in (*row.solution, *row.setup):
        tool = tools.get(call.name)
        schema = tool.function.parameters if tool is not None else {}
        properties = schema.get("properties")
        for name, value in call.arguments.items():
            own = properties.get(name) if isinstance(properties, dict) else None
            fixed = fixed_values([own, schema.get("$defs")])
            yield from (
                _as_compared(leaf)
                for leaf in _leaves(value)
                if _is_telling(leaf) and leaf not in fixed and _as_compared(leaf) not in shared
            )
    for said in row.says:
        value = said.number if isinstance(said, SaidNumber) else said
        if _is_telling(value) and _as_compared(value) not in shared:
            yield _as_compared(value)


def _as_compared(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(str(value).casefold().split())


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for each in () if FROM in value else value.values():
            yield from _leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    else:
        yield value


def _is_telling(value: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return False
    if isinstance(value, int | float):
        return abs(value) > 999
    return len(str(value)) >= _SHORT and re.search(r"\w", str(value)) is not None
