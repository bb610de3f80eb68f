"""Calls written as Python, `f(a=1)`, one after the other: ToolACE's in brackets, AllenAI's a line each.

The names of tools are often no names of Python (`Get Weather`, `get-weather`), so a call's name and its brackets are found by
hand and only the arguments are read as Python, never run.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from data.formats.parts import Unrepresentable, calls_in

Call = tuple[str, dict[str, Any]]

_CONSTANTS = {"true": True, "false": False, "null": None}
_NAME = re.compile(r"[^\[\](){}=,'\"\n]+")


class _NotACall(ValueError):
    """A text in brackets that is no list of calls."""


def _value_of(node: ast.expr) -> Any:
    """A literal that JSON can hold; `true`, `false` and `null` are JSON's words in Python's call."""
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    if isinstance(node, ast.List):
        return [_value_of(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        pairs = [(_value_of(key), _value_of(item)) for key, item in zip(node.keys, node.values, strict=True) if key]
        if len(pairs) != len(node.keys) or len({key for key, _ in pairs}) != len(pairs):
            raise _NotACall
        if not all(isinstance(key, str) for key, _ in pairs):
            raise _NotACall
        return dict(pairs)
    try:
        value = ast.literal_eval(node)
    except ValueError:
        raise _NotACall from None
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise _NotACall


def _end_of_arguments(text: str, start: int) -> int:
    """Where the bracket that opens at `start` closes; brackets in quotes do not count."""
    depth, quote, position = 0, "", start
    while position < len(text):
        sign = text[position]
        if quote:
            if sign == "\\":
                position += 1
            elif sign == quote:
                quote = ""
        elif sign in "\"'":
            quote = sign
        elif sign in "([{":
            depth += 1
        elif sign in ")]}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    raise _NotACall


def _calls(text: str, separator: re.Pattern[str]) -> list[Call] | None:
    calls: list[Call] = []
    position = 0
    try:
        while True:
            name = _NAME.match(text, position)
            if name is None or not name[0].strip() or text[name.end() : name.end() + 1] != "(":
                return None
            closing = _end_of_arguments(text, name.end())
            made = ast.parse(f"f{text[name.end() : closing + 1]}", mode="eval").body
            if not isinstance(made, ast.Call) or made.args:
                return None
            arguments = {word.arg: _value_of(word.value) for word in made.keywords if word.arg is not None}
            if len(arguments) != len(made.keywords):  # **words, or a name that stands twice
                return None
            json.dumps(arguments, allow_nan=False)
            calls.append((name[0].strip(), arguments))
            if not text[closing + 1 :].strip():
                return calls
            found = separator.match(text, closing + 1)
            if found is None:
                return None
            position = found.end()
    except (_NotACall, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


_COMMA, _BREAK = re.compile(r"\s*,"), re.compile(r"[ \t\r]*[,;\n]\s*")


def bracket_calls(text: str) -> list[Call] | None:
    """The calls of `[Name(argument=value), ...]`, or None where the text is no such list (words in brackets, say)."""
    text = text.strip()
    return _calls(text[1:-1], _COMMA) if text.startswith("[") and text.endswith("]") else None


def python_calls(value: Any) -> list[Call]:
    """The calls of a text with one a line, of a bracketed list, or of JSON.

    Raises:
        Unrepresentable: where it is none of them.
    """
    if not isinstance(value, str) or value.lstrip().startswith(("{", "[{")):
        return calls_in(value)
    calls = bracket_calls(value) or _calls(value.strip(), _BREAK)
    if calls is None:
        raise Unrepresentable("a call that cannot be read")
    return calls
