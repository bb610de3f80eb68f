"""Arguments against a tool's JSON Schema: what the model reads when they do not fit, and that nothing hangs or is fetched."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytest.importorskip("jsonschema")

from benchmark.worlds.own.arguments import check_call, schema_problem
from benchmark.worlds.tools import ToolError
from data.records import ToolFunction, ToolSpec

ORDER = {
    "type": "object",
    "properties": {
        "product": {"type": "string", "minLength": 2},
        "count": {"type": "integer", "minimum": 1},
        "colour": {"enum": ["red", "green", "파랑"]},
        "to": {"$ref": "#/$defs/address"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
    },
    "required": ["product"],
    "additionalProperties": False,
    "$defs": {"address": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
}


def told(arguments: Any, schema: dict[str, Any] = ORDER, name: str = "order") -> str | None:
    tools = {"order": ToolSpec(function=ToolFunction(name="order", parameters=schema))}
    try:
        check_call(tools, name, arguments)
    except ToolError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"product": "tea", "count": 2, "note": None, "to": {"city": "서울"}, "colour": "파랑", "tags": []}, None),
        ({"product": "tea", "count": 2.0}, None),
        ({}, "argument 'product' is missing."),
        ({"prodct": "tea"}, "order has no argument 'prodct'. Did you mean 'product'?"),
        ({"product": 3}, "argument 'product' must be string, got 3"),
        ({"product": "t"}, 'argument \'product\' must have at least 2 characters, got "t"'),
        ({"product": "tea", "count": True}, "argument 'count' must be integer, got true"),
        ({"product": "tea", "count": "2"}, "argument 'count' must be integer, got \"2\""),
        ({"product": "tea", "count": 0}, "argument 'count' must be at least 1, got 0"),
        (
            {"product": "tea", "colour": "rad"},
            'argument \'colour\' must be one of "red", "green", "파랑", got "rad". Did you mean \'red\'?',
        ),
        ({"product": "tea", "to": {"town": "서울"}}, "argument 'to.city' is missing. There is 'town', which is unknown."),
        ({"product": "tea", "note": 3}, "argument 'note' must be string or null, got 3"),
        ({"product": "tea", "tags": ["a", 2]}, "argument 'tags[1]' must be string, got 2"),
        ({"product": "tea", "tags": ["a", "b", "c"]}, "argument 'tags' must have at most 2 items, got [\"a\", \"b\", \"c\"]"),
        ({"product": "\ud800"}, "argument 'product' holds characters that are not allowed"),
        ([1], "arguments must be a JSON object, got list"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_in_a_sentence(arguments: Any, error: str | None) -> None:
    assert told(arguments) == error


def test_an_unknown_tool_is_told_with_the_nearest() -> None:
    assert told({}, name="ordr") == "unknown tool 'ordr'. Did you mean 'order'?"


def test_a_schema_of_a_stranger_neither_hangs_nor_fetches_nor_breaks() -> None:
    start = time.monotonic()
    slow = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    assert "must match" in str(told({"a": "a" * 40 + "!"}, slow)) and time.monotonic() - start < 5
    assert told({"a": "b"}, slow) == "argument 'a' must match ^(a+)+$, got \"b\""
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "n": {"type": "integer"}}}
    tree = {"type": "object", "properties": {"node": {"$ref": "#/$defs/node"}}, "$defs": {"node": node}}
    assert (
        told({"node": {"next": {"next": {"n": "x"}}}}, tree) == "argument 'node.next.next.n' must be integer, got \"x\""
    )
    away = {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/x.json"}}}
    circle = {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}}
    for schema in (away, circle):
        assert told({"a": 1}, schema) is None
    problem = schema_problem(ToolSpec(function=ToolFunction(name="x", parameters=away)))
    assert problem == "its schema points to 'http://127.0.0.1:9/x.json', which is not in it"
    wrong = {"type": "object", "properties": {"a": {"type": "strin"}}}
    assert "its schema is none" in str(schema_problem(ToolSpec(function=ToolFunction(name="x", parameters=wrong))))
    assert told({"a": 1}, wrong) is None
    assert schema_problem(ToolSpec(function=ToolFunction(name="x", parameters=ORDER))) is None
