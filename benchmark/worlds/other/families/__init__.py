"""The families of tasks of this world, a file a subject. The order decides which tasks a seed gives."""

from __future__ import annotations

from benchmark.worlds.other.families import dates, no_tool, tables, units, words
from benchmark.worlds.other.families.family import OtherFamily

FAMILIES: tuple[OtherFamily, ...] = (
    words.NOTE,
    units.UNIT,
    dates.LATER,
    dates.WEEKDAY,
    tables.LOOK_UP,
    units.CURRENCY,
    words.COUNT,
    words.SORT,
    dates.DUE,
    units.TWO_UNITS,
    tables.CHAIN,
    tables.BILL,
    tables.SIX,
    words.RECALL,
    no_tool.NO_TOOL_ACT,
    no_tool.NO_TOOL_QUESTION,
    units.TEMPERATURE,
    dates.BETWEEN,
    words.REVERSE,
)
