"""Calls whose arguments are JSON: between tags, behind a name, in a fence, or with nothing around them.

A block of JSON ends where its JSON ends, so a closing tag inside of a value is text.
"""

from __future__ import annotations

import re
from typing import Any

from core.json_lines import json_to_object
from data.rendering.assistant_text import json_end
from data.rendering.call_forms.form import Call, Schemas, Unread, skip


def json_at(text: str, start: int) -> tuple[Any, int]:
    """The object or list that begins at `start`, and its end: a block ends where its JSON ends.

    Raises:
        Unread: if there is none, or it is not strict JSON.
    """
    while text[start : start + 1].isspace():
        start += 1
    if start >= len(text):
        raise Unread("the call is not closed: nothing stands in it")
    end = json_end(text, start)
    if end is None and text[start : start + 1] in ("{", "["):
        raise Unread("the call is not closed: its JSON has no end")
    try:
        return json_to_object(text[start:end] if end else text[start : start + 200]), end or len(text)
    except ValueError as error:
        raise Unread(f"the call is {error}") from None


def values_to_calls(value: Any) -> list[Call]:
    """One call or a list of calls, as families spell them.

    Raises:
        Unread: if one has no name, or arguments that are no object.
    """
    return [_value_to_call(item) for item in (value if isinstance(value, list) else [value])]


def _value_to_call(value: Any) -> Call:
    """`{"name": ..., "arguments": ...}` in the spellings that families have for it."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        raise Unread("the call has no name")
    name = next((value[key] for key in ("name", "tool_name", "function") if key in value), None)
    if not isinstance(name, str) or not name:
        raise Unread("the call has no name")
    return name, to_arguments(next((value[key] for key in ("arguments", "parameters") if key in value), None))


def to_arguments(value: Any) -> dict[str, Any]:
    """Arguments as an object; some models write JSON text of it, or JSON text of such text. None at all are {}.

    Raises:
        Unread: if they are something else.
    """
    for _ in range(3):
        if value is None or (isinstance(value, str) and not value.strip()):
            return {}
        if isinstance(value, dict):
            return value
        if not isinstance(value, str):
            break
        try:
            value = json_to_object(value)
        except ValueError as error:
            raise Unread(f"the call's arguments are {error}") from None
    raise Unread("the call's arguments are not a JSON object")


def read_json(text: str, opening: re.Match[str], _: Schemas, *, closing: str) -> tuple[list[Call], int]:
    """One or several JSON values between tags. The closing tag may be missing at the end of the turn."""
    calls: list[Call] = []
    place = opening.end()
    while True:
        value, place = json_at(text, place)
        calls += values_to_calls(value)
        following = skip(text, place, r"[\s;,]*")
        if text[following : following + 1] not in ("{", "["):
            break
        place = following
    if not closing:
        return calls, place
    following = skip(text, place, r"\s*")
    closed = re.compile(closing).match(text, following)
    if closed is None and following < len(text) and not opening.re.match(text, following):
        raise Unread(f"the call is not closed: words follow its JSON ({text[following : following + 20]!r})")
    return calls, closed.end() if closed else following


def read_bare_json(text: str, opening: re.Match[str], _: Schemas) -> tuple[list[Call], int]:
    """Llama's calls: JSON with nothing around it, several joined by `;`, commas or line breaks.

    Whatever has not the shape of a call is an answer in JSON and no call.
    """
    place, calls = opening.start(), list[Call]()
    before = place - 1
    while before >= 0 and text[before].isspace():
        before -= 1
    if before >= 0 and (text[before] in ">[]{},|`" or text[before - 1 : before + 1] == '":'):
        return calls, place + 1  # a part of something else
    while True:
        begins = re.compile(r'\s*\[?\s*\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"(?:name|function)"\s*:').match(
            text, place
        )
        try:
            value, end = json_at(text, place)
        except Unread:
            is_call = begins and re.compile(r'.{0,400}?"(?:parameters|arguments)"\s*:', re.DOTALL).match(
                text, begins.end()
            )
            if not is_call or calls:
                return calls, place if calls else len(text)
            raise
        values = value if isinstance(value, list) else [value]
        if not values or not all(_is_call(each) for each in values):
            return calls, place if calls else end
        calls += values_to_calls(values)
        place = end
        following = skip(text, place, r"[\s;,]*")
        if text[following : following + 1] not in ("{", "["):
            return calls, place
        place = following


def _is_call(value: Any) -> bool:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        return value.keys() <= {"type", "function", "id"} and _is_call(value["function"])
    return (
        isinstance(value, dict)
        and value.keys() <= {"type", "name", "function", "parameters", "arguments", "id", "index"}
        and ("parameters" in value or "arguments" in value)
        and isinstance(value.get("name", value.get("function")), str)
    )


def read_fenced_json(text: str, opening: re.Match[str], _: Schemas) -> tuple[list[Call], int]:
    """xLAM's calls: JSON in a fence. Whatever has not the shape of a call is no call."""
    value, place = json_at(text, opening.end())
    values = value if isinstance(value, list) else [value]
    if not all(_is_call(each) for each in values):
        return [], len(text)
    return values_to_calls(values), skip(text, place, r"\s*```")


def read_apertus(text: str, opening: re.Match[str], _: Schemas) -> tuple[list[Call], int]:
    """`[{"name": {arguments}}, ...]`."""
    value, place = json_at(text, opening.end())
    calls = [
        (name, to_arguments(arguments))
        for item in (value if isinstance(value, list) else [value])
        for name, arguments in (item.items() if isinstance(item, dict) else [("", item)])
    ]
    if not all(name for name, _ in calls):
        raise Unread("the call has no name")
    return calls, skip(text, place, r"\s*<\|tools_suffix\|>")


def read_named_json(
    text: str, opening: re.Match[str], _: Schemas, *, name: re.Pattern[str], closing: str, again: str
) -> tuple[list[Call], int]:
    """A name and then the arguments as JSON, once or several times."""
    calls: list[Call] = []
    place = opening.end()
    while (named := name.match(text, place)) is not None:
        value, place = json_at(text, named.end())
        calls.append((named["name"], to_arguments(value)))
        place = skip(text, place, closing)
        if not (again and re.compile(again).match(text, place)):
            break
        place = skip(text, place, again)
    if not calls:
        raise Unread("the call has no name")
    return calls, place


def read_mistral(text: str, opening: re.Match[str], schemas: Schemas) -> tuple[list[Call], int]:
    """A list of calls, or from its 11th tokenizer on a name and its arguments."""
    if text[skip(text, opening.end(), r"\s*") :].startswith(("[{", "{", "[ {", "[\n", "[]")):
        value, place = json_at(text, opening.end())
        if not value:
            raise Unread("the call has no name")
        return values_to_calls(value), place
    name = re.compile(r"\s*(?P<name>[^\s\[\]{}]+)\s*(?:\[CALL_ID\]\s*[^\s\[\]{}]*)?\s*(?:\[ARGS\])?(?=\s*\{)")
    return read_named_json(text, opening, schemas, name=name, closing="", again="")
