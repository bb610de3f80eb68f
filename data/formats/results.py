"""Results of calls, as rows hold them -> texts, one for each call.

    {"role": "tool", "content": {"temperature": 21.5}}          an object, a list or a number: its JSON text
    {"role": "tool", "content": "[\\"sunny\\", \\"rainy\\"]"}        one turn for two calls: by name, by id, or by order

A list of text parts is the text that they make, as everywhere; a picture or a file is no text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from data.formats.parts import Unrepresentable, text_of, text_to_object
from data.formats.row_keys import Meaning, meaning_of

UNTOLD = "results that do not say which call they answer"
_PAYLOADS = frozenset({"source", "file", "file_id", "file_data", "file_url", "resource", "blob"})
_CALL_IDS = ("tool_call_id", "tool_use_id", "call_id", "id")
_NAMES = ("name", "tool_name", "function_name")
_OF_A_TURN = frozenset({"role", "type", "content", *_CALL_IDS, *_NAMES})


class GivenResult(NamedTuple):
    """The text of a result, and which call it says that it answers: by the id in the row, by name, or neither."""

    text: str
    own_id: str | None = None
    name: str | None = None


def _is_media(part: Any) -> bool:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str):
        return False
    kind = kind.removeprefix("input_").removeprefix("output_")
    return meaning_of(kind) is Meaning.MEDIA or (
        kind in ("file", "document", "resource") and bool(part.keys() & _PAYLOADS)
    )


def result_to_text(content: Any) -> str:
    """The content of a result as text: what is no text (an object, a list, a number) is its JSON text.

    Raises:
        Unrepresentable: for a picture or file, and for what JSON has no word for.
    """
    if content is None or isinstance(content, str):
        return content or ""
    parts = content if isinstance(content, list) else [content]
    if any(_is_media(part) for part in parts):
        raise Unrepresentable("content that is not text")
    if content and all(
        isinstance(part, dict) and part.get("type") == "text" and not part.keys().isdisjoint(("text", "value"))
        for part in parts
    ):
        return text_of(parts)
    try:
        return json.dumps(content, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        raise Unrepresentable("a value that a chat cannot hold") from None


Waiting = Sequence[tuple[str | None, str]]
"""Id in the row and name of each call without a result."""


def _told(value: Any, waiting: Waiting) -> tuple[str | None, str | None]:
    """Which of the calls an object says that it is the result of, by id and by name."""
    if not isinstance(value, dict):
        return None, None
    ids, names = {own_id for own_id, _ in waiting if own_id is not None}, {name for _, name in waiting}
    told = [str(value[key]) for key in _CALL_IDS if isinstance(value.get(key), str | int) and str(value[key]) in ids]
    named = [value[key] for key in _NAMES if isinstance(value.get(key), str) and value[key] in names]
    return (told[0] if told else None), (named[0] if named else None)


def _value_in(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return text_to_object(text)
    except ValueError:
        return None


def result_in(text: str, waiting: Waiting) -> GivenResult:
    """A result whose turn has neither id nor name; its own JSON may have one of them (`{"name": "f", "content": ...}`)."""
    return GivenResult(text, *_told(_value_in(text), waiting))


def results_in(text: str, waiting: Waiting) -> list[GivenResult]:
    """The results of several calls in the text of the only turn that holds any: a list of them, or an object by name or id.

    Raises:
        Unrepresentable: where a list holds another number of results and they have no names. A text that is neither is one
            result.
    """
    value = _value_in(text)
    if isinstance(value, dict):
        ids, names = [own_id for own_id, _ in waiting], [name for _, name in waiting]
        if len(set(names)) == len(names) and value.keys() == set(names):
            return [GivenResult(result_to_text(item), None, name) for name, item in value.items()]
        if len(set(ids)) == len(ids) and value.keys() == set(ids):
            return [GivenResult(result_to_text(item), own_id) for own_id, item in value.items()]
    if not isinstance(value, list):
        return [result_in(text, waiting)]
    results = [_item_to_result(item, waiting) for item in value]
    is_told = all(result.own_id or result.name for result in results)
    if len(results) != len(waiting) and not (results and is_told and len(results) < len(waiting)):
        raise Unrepresentable(UNTOLD)
    return results


def _item_to_result(item: Any, waiting: Waiting) -> GivenResult:
    own_id, name = _told(item, waiting)
    is_turn = isinstance(item, dict) and "content" in item and item.keys() <= _OF_A_TURN
    if is_turn and (own_id is not None or "role" in item):
        return GivenResult(result_to_text(item["content"]), own_id, name)
    return GivenResult(result_to_text(item), own_id, name)
