"""Arguments that were written as text, in the types that the tool's schema names."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

from core.json_lines import json_to_object

_TYPES: dict[str, Callable[[Any], bool]] = {
    "integer": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "null": lambda value: value is None,
}


def types_of(schema: Any) -> list[str]:
    """The types that a JSON Schema allows, in its order; none where it does not tell."""
    if not isinstance(schema, dict):
        return []
    if "type" in schema:
        told = schema["type"]
        return [str(each).lower() for each in (told if isinstance(told, list) else [told])]
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(key), list):
            return list(dict.fromkeys(each for part in schema[key] for each in types_of(part)))
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if isinstance(values, list) and values:
        kinds = [("string", str), ("boolean", bool), ("number", int | float), ("null", type(None))]
        return list(dict.fromkeys(next((n for n, k in kinds if isinstance(each, k)), "object") for each in values))
    return []


def text_to_literal(text: str) -> Any:
    """A text as JSON or as a Python literal says it; the text itself where it is neither."""
    stripped = text.strip()
    named = {"True": True, "False": False, "None": None}
    if stripped in named:
        return named[stripped]
    try:
        return json_to_object(stripped)
    except ValueError:
        pass
    if stripped[:1] in ("{", "[", "("):
        try:
            return json_to_object(json.dumps(ast.literal_eval(stripped), ensure_ascii=False))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
    try:
        return int(stripped) if re.fullmatch(r"[+-]?\d+", stripped) else text
    except ValueError:
        return text


def text_to_typed(text: str, schema: Any) -> Any:
    """An argument that was written as text, in the type that the tool's schema names: a string stays as it was written."""
    types = types_of(schema)
    value = text_to_literal(text)
    if not types:
        return value
    if value is None and "null" in types:
        return None
    for each in types:
        if each not in _TYPES:  # a string, or a type that JSON does not know
            return text
        if _TYPES[each](value):
            return value
    return text
