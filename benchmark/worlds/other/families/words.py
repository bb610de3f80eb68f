"""Notes, and the words of a text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import JsonValue

from benchmark.worlds.expert import Look, Plan
from benchmark.worlds.family import CONTEXT_TOKENS
from benchmark.worlds.other.families.family import common, family, plan_of
from benchmark.worlds.pools import Draw
from benchmark.worlds.world import Task


def _draw_note(draw: Draw) -> dict[str, JsonValue]:
    return {**common(draw), "text": f"{draw.person()} {draw.number(10, 99)} {draw.word()}"}


def _draw_words(draw: Draw) -> dict[str, JsonValue]:
    return {**common(draw), "text": " ".join(draw.word() for _ in range(draw.random.randint(5, 14)))}


_WORDS: dict[str, Callable[[str], str]] = {
    "count_words": lambda text: str(len(text.split())),
    "sort_words": lambda text: " ".join(sorted(text.split())),
    "reverse_words": lambda text: " ".join(reversed(text.split())),
}


def _plan_words(task: Task, *, tool: str) -> Plan:
    p: Any = task.parameters
    return plan_of({p["name"]: _WORDS[tool](p["text"])}, ((Look(tool, {"text": p["text"]}),),))


def _draw_recall(draw: Draw) -> dict[str, JsonValue]:
    return {**common(draw), "person": draw.person(), "number": str(draw.number(10000, 99999))}


def _plan_recall(task: Task) -> Plan:
    p: Any = task.parameters
    return plan_of({p["name"]: p["number"]})


NOTE = family(
    "note", 1, ("list_tables", "count_words"), _draw_note,
    lambda task: plan_of({str(task.parameters["name"]): str(task.parameters["text"])}),
    ('Save "{text}" as the note "{name}".', 'Make a note "{name}" that says "{text}".'),
    '"{text}"(을)를 "{name}" 메모로 저장하세요.',
    facts=("name", "text"),
)  # fmt: skip


COUNT = family(
    "count", 2, ("count_words", "sort_words", "reverse_words"), _draw_words,
    partial(_plan_words, tool="count_words"),
    ('How many words are in "{text}"? Save the number as "{name}".',
     'Save as "{name}" of how many words "{text}" consists.'),
    '"{text}"의 단어 수를 "{name}"(으)로 저장하세요.',
    facts=("name", "text"),
)  # fmt: skip


SORT = family(
    "sort", 2, ("sort_words", "reverse_words", "count_words"), _draw_words, partial(_plan_words, tool="sort_words"),
    ('Save the words "{text}" in alphabetical order as "{name}".',
     'Sort "{text}" by the alphabet, and save the words as "{name}".'),
    '"{text}"의 단어를 알파벳순으로 "{name}"에 저장하세요.',
    facts=("name", "text"),
)  # fmt: skip


RECALL = family(
    "recall", 1, ("list_tables", "count_words"), _draw_recall, _plan_recall,
    ('The number of {person} is {number}. Here is a list of stores:\n{filler}\nSave the number of {person} as "{name}".',),
    '{person}의 번호는 {number}입니다. 상점 목록:\n{filler}\n{person}의 번호를 "{name}"(으)로 저장하세요.',
    facts=("name", "number"), context_tokens=CONTEXT_TOKENS,
)  # fmt: skip


REVERSE = family(
    "reverse", 2, ("reverse_words", "sort_words", "count_words"), _draw_words,
    partial(_plan_words, tool="reverse_words"),
    ('Save the words "{text}" from last to first as "{name}".',),
    '"{text}"의 단어를 뒤에서부터 거꾸로 "{name}"에 저장하세요.',
    facts=("name", "text"), held_out=True,
)  # fmt: skip
