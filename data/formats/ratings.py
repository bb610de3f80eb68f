"""Ratings that stand in another file than the answers: `--labels scores.csv --on trace_id --good "value>=1" --bad "value<=0"`.

A rating judges one answer: that of the rows whose value in the column `on` is its own. Only that answer is learned, what was
said before it is context. A bad one is left out, and so is what nobody rated.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import UserError, nearest
from core.json_lines import BadLine
from data.formats.inputs import find_input

_RULE = re.compile(r"\s*(?P<column>[^\s<>=!]+)\s*(?P<sign>>=|<=|==|!=|=|>|<)\s*(?P<value>.+?)\s*\Z")
_SIGNS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
    "=": operator.eq, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


@dataclass(frozen=True)
class Ratings:
    """What a file of ratings says of answers."""

    on: str
    """The column that names what was rated, in both files."""
    is_good: Mapping[str, bool | None]
    """By its value; null where the rating says neither, or both."""


@dataclass(frozen=True)
class _Rule:
    """A condition such as `value>=1`."""

    option: str
    text: str

    def __post_init__(self) -> None:
        found = _RULE.match(self.text)
        if found is None or (found["sign"] in ("<", ">", "<=", ">=") and _number(found["value"]) is None):
            raise UserError(f'{self.option} {self.text!r}: expected COLUMN, a sign and a number, such as "value>=1"')

    def holds(self, row: dict[str, Any], where: str) -> bool:
        found = _RULE.match(self.text)
        assert found is not None
        if found["column"] not in row:
            raise UserError(f"{where}: has no column {found['column']!r}.{nearest(found['column'], row)}")
        value, limit = row[found["column"]], found["value"].strip("'\"")
        numbers = _number(value), _number(limit)
        if None not in numbers:
            return _SIGNS[found["sign"]](*numbers)
        if found["sign"] in ("=", "==", "!="):
            return _SIGNS[found["sign"]](str(value).strip(), limit)
        return False


def _number(value: Any) -> float | None:
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return float(value.strip().lower() == "true")
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def read_ratings(labels: str, *, on: str | None, good: str | None, bad: str | None) -> Ratings:
    """The ratings of a file of rows.

    Args:
        on: the column that names what was rated.
        good, bad: what a rating of a good and of a bad answer fulfils, such as `value>=1`.

    Raises:
        UserError: for a missing option or column, or a rule that is none.
    """
    if not on or not good:
        raise UserError('--labels: also needs --on COLUMN and --good "COLUMN>=NUMBER"')
    rules = [_Rule("--good", good), *([_Rule("--bad", bad)] if bad else [])]
    is_good: dict[str, bool | None] = {}
    for chunk in find_input(labels).chunks():
        for number, row in chunk.rows():
            where = f"{chunk.path}:{number}"
            if isinstance(row, BadLine) or not isinstance(row, dict):
                raise UserError(f"{row if isinstance(row, BadLine) else where + ': no object'}")
            if on not in row:
                raise UserError(f"{where}: has no column {on!r}.{nearest(on, row)}")
            holds = [rule.holds(row, where) for rule in rules]
            told = None if sum(holds) != 1 else holds[0]
            key = str(row[on])
            is_good[key] = told if is_good.get(key, told) is told else None
    if not is_good:
        raise UserError(f"--labels {labels}: holds no rating")
    return Ratings(on, is_good)
