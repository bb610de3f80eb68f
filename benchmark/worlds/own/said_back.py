"""An answer that only says back what tools have said is no answer: which parts of it are whole results."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from benchmark.worlds.own.state import text_to_value

_WORD = re.compile(r"\w+")
_ONE_VALUE = 200
"""A text of one line and at most so many characters is one value; a longer one is a document."""


@dataclass(frozen=True)
class _Result:
    """A result as words, with its keys and without, and the values that it holds."""

    forms: tuple[tuple[str, ...], ...]
    values: tuple[str, ...]


def without_results(answer: str, results: Sequence[JsonValue], is_asked: Callable[[str], bool]) -> str:
    """An answer without the results that stand in it whole, whatever stands between their words.

    Results that follow each other without a word between count as one. One with a single value may be said: that is how a
    question with a short answer is answered. So may one that holds nothing but what is asked for.

    Args:
        is_asked: whether a value is asked for, or known from the question.
    """
    words = [(match.start(), match.end()) for match in _WORD.finditer(answer)]
    said = [answer[start:end].casefold() for start, end in words]
    known = [found for found in map(_to_result, results) if found.values]
    by_first: dict[str, list[tuple[tuple[str, ...], _Result]]] = {}
    for result in known:
        for form in result.forms:
            if form and len(form) <= len(said):
                by_first.setdefault(form[0], []).append((form, result))
    kept, at = answer, len(said)
    for start, end, values in reversed(list(_runs(said, by_first))):
        assert end <= at
        at = start
        if len(values) > 1 and not all(map(is_asked, values)):
            kept = f"{kept[: words[start][0]]} {kept[words[end - 1][1] :]}"
    return kept


def _runs(
    said: Sequence[str], by_first: dict[str, list[tuple[tuple[str, ...], _Result]]]
) -> Iterator[tuple[int, int, list[str]]]:
    """Stretches of words that are whole results one after the other, each the longest that fits, with their values."""
    place = 0
    while place < len(said):
        start, values = place, list[str]()
        while place < len(said):
            fitting = [
                (form, result)
                for form, result in by_first.get(said[place], ())
                if tuple(said[place : place + len(form)]) == form
            ]
            if not fitting:
                break
            form, result = max(fitting, key=lambda pair: len(pair[0]))
            values += result.values
            place += len(form)
        if place > start:
            yield start, place, values
        else:
            place += 1


def _to_result(output: JsonValue) -> _Result:
    read = text_to_value(output) if isinstance(output, str) else output
    if isinstance(read, str):
        is_one = "\n" not in read.strip() and len(read) <= _ONE_VALUE
        values = [read] if is_one else [line for line in read.splitlines() if _WORD.search(line)]
        if len(values) == 1 and not is_one:
            values = re.findall(r"[^.!?]+", read)  # a document of one line
        return _Result((_words([read]),), tuple(values))
    with_keys, alone = list(_texts(read, keys=True)), list(_texts(read, keys=False))
    return _Result((_words(with_keys), _words(alone)), tuple(alone))


def _texts(value: JsonValue, *, keys: bool) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if keys:
                yield key
            yield from _texts(each, keys=keys)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, keys=keys)
    elif isinstance(value, bool) or value is None:
        if keys:
            yield {True: "true", False: "false", None: "null"}[value]
    else:
        yield str(value)


def _words(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(word.casefold() for text in texts for word in _WORD.findall(text))
