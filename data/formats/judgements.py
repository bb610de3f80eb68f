"""Values that judge an answer, or say how much is learned from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from data.chats import Message

GOOD_TEXTS, BAD_TEXTS = frozenset({"true", "1", "1.0"}), frozenset({"false", "0", "0.0", "-1", "-1.0"})
_GOOD_WORDS = frozenset({
    "good", "desirable", "thumbs_up", "like", "liked", "accepted", "correct", "pass", "passed", "success", "successful",
    "👍",
})  # fmt: skip
_BAD_WORDS = frozenset({
    "bad", "undesirable", "thumbs_down", "dislike", "disliked", "rejected", "incorrect", "wrong", "fail", "failed", "failure",
    "unsuccessful", "👎",
})  # fmt: skip
"""Words for both, of which none may be about anything but an answer, as `positive` may be about what a user feels."""


def is_nothing(value: Any) -> bool:
    """Whether a value holds nothing that could be lost: null, blank text, an empty list or object."""
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or value == [] or value == {}


def judged(value: Any, good_from: float | None = None) -> bool | None:
    """Whether a value says that an answer is good; null where it says neither."""
    number = to_number(value)
    if good_from is not None:
        return None if number is None else number >= good_from
    if isinstance(value, str):
        text = value.strip().lower()
        return True if text in GOOD_TEXTS else False if text in BAD_TEXTS else None
    return None if number is None or number not in (1, 0, -1) else number == 1


def judged_in_words(value: Any) -> bool | None:
    """The same of a column that is known to judge, where a word tells as well: "good", "thumbs down"."""
    good = judged(value)
    if good is not None or not isinstance(value, str):
        return good
    word = "_".join(value.strip().lower().replace("-", " ").split())
    return True if word in _GOOD_WORDS else False if word in _BAD_WORDS else None


def named_scores(value: Any) -> list[tuple[str, Any]] | None:
    """A list of scores by name, `[{"name": "thumbs", "value": 1}]`; null where a value is no such list."""
    if not isinstance(value, list) or not value:
        return None
    if not all(isinstance(each, dict) and isinstance(each.get("name"), str) and "value" in each for each in value):
        return None
    texts = ("stringValue", "string_value")
    return [
        (each["name"], next((each[key] for key in ("value", *texts) if each.get(key) is not None), None))
        for each in value
    ]


def to_weight(value: Any) -> float | None:
    """A value as a loss weight from 0 to 1; null where it is none."""
    number = to_number(value)
    if number is None and isinstance(value, str) and (learned := judged(value)) is not None:
        number = float(learned)
    return number if number is not None and 0 <= number <= 1 else None


def to_number(value: Any) -> float | None:
    """A number or truth value, or the number that a text is; null for anything else."""
    if isinstance(value, bool | int | float):
        return float(value) if -1e300 < value < 1e300 else None
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def with_last_answer_only(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Messages of which only what was answered last is scored: a judgement is of that, and what was said before is context."""
    asked = max((place for place, message in enumerate(messages) if message.role == "user"), default=-1)
    return tuple(
        message.model_copy(update={"weight": 0}) if message.role == "assistant" and place < asked else message
        for place, message in enumerate(messages)
    )


def shown(value: Any) -> str:
    """A value as messages show it: its JSON, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else f"{text[:39]}…"
