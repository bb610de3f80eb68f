"""xLAM / APIGen: one query, the tools that are offered, and the calls that answer it -> Chat.

A row: `{"id", "query", "tools", "answers"}`, the last two as JSON text in Salesforce's set and as lists in the test files of
Hammer, which also name things differently (`tool` for `name`, `parameters` for `arguments`) and may have a whole conversation
as the query. In API-Bank's such conversations hold calls, as JSON in the assistant's text, and their results as turns. Tools
are bare mappings in Python's types; data/formats/json_schema.py says how they become JSON Schema.

All calls are one turn of the assistant, in parallel. No result was recorded, so the chat ends there.
"""

from __future__ import annotations

import re
from typing import Any

from data.chats import Chat
from data.formats.adapter import Adapter, Terms
from data.formats.parts import (
    Conversation,
    Row,
    Unrepresentable,
    call_in,
    row_id,
    skip_if_unrepresentable,
    speaker_of,
    text_to_object,
    tools_of,
    unknown_role,
    value_in,
    with_columns,
)

_FENCE = re.compile(r"\s*```(?:json)?\s*(.*?)\s*```\s*", re.DOTALL)


def _call_of(answer: Any) -> tuple[str | None, str, dict[str, Any]]:
    if isinstance(answer, dict) and "tool" in answer:
        answer = {**{key: value for key, value in answer.items() if key != "tool"}, "name": answer["tool"]}
    return None, *call_in(answer)


def _calls_said(text: str) -> list[tuple[str | None, str, dict[str, Any]]]:
    """The calls that an assistant's text consists of, as a JSON list with or without a fence; empty for words."""
    fenced = _FENCE.fullmatch(text)
    try:
        said = text_to_object(fenced[1] if fenced else text)
    except ValueError:
        return []
    is_calls = (
        isinstance(said, list) and said and all(isinstance(c, dict) and {"name", "arguments"} <= c.keys() for c in said)
    )
    return [_call_of(call) for call in said] if is_calls else []


def _with_marks(tools: Any) -> Any:
    """Hammer's tools say of a parameter that it is required, and nothing of others: where any tool of a row says so, a
    parameter without the mark is optional, also in a tool that has no mark at all."""
    tools = value_in(tools, "tools are no JSON")
    if not isinstance(tools, list) or not any(
        "required" in item for tool in tools for item in _parameters(tool).values()
    ):
        return tools
    return [
        {**tool, "parameters": {key: {"required": False, **item} for key, item in marked.items()}}
        if (marked := _parameters(tool))
        else tool
        for tool in tools
    ]


def _parameters(tool: Any) -> dict[str, Row]:
    """The parameters of a tool in xLAM's layout, a mapping from names to objects; empty for any other layout."""
    parameters = tool.get("parameters") if isinstance(tool, dict) else None
    if not isinstance(parameters, dict) or not all(isinstance(item, dict) for item in parameters.values()):
        return {}
    return parameters


@skip_if_unrepresentable
def xlam_function_calling_row(row: Row) -> Chat:
    """One query with its calls."""
    conversation = Conversation()
    query: Any = row.get("query")
    for turn in query if isinstance(query, list) else [{"role": "user", "content": query}]:
        role, text = (turn.get("role"), turn.get("content")) if isinstance(turn, dict) else ("user", None)
        speaker = speaker_of(role)
        if not isinstance(text, str):
            raise Unrepresentable("a query that is no text")
        if speaker == "result":
            conversation.answer(text)
        elif speaker == "assistant":
            # Only the answers are the data's; what an agent said and called before them is context.
            calls = _calls_said(text)
            conversation.say("assistant", "" if calls else text, weight=0.0, calls=calls)
        elif speaker == "call":
            raise unknown_role(role)
        else:
            conversation.say(speaker, text)
    answers = value_in(row.get("answers"), "answers are no JSON")
    if answers is None:
        answers = []
    if not isinstance(answers, list):
        raise Unrepresentable("answers are no list")
    if not answers:
        raise Unrepresentable("no call and no words")
    conversation.say("assistant", "", calls=[_call_of(answer) for answer in answers])
    return conversation.chat(id=row_id(row), tools=tools_of(_with_marks(row.get("tools"))))


ADAPTERS = (
    Adapter(
        name="xlam_function_calling_60k",
        kind="chat",
        function=xlam_function_calling_row,
        columns=("query", "answers", "tools", "id"),
        hub_id="Salesforce/xlam-function-calling-60k",
        terms=Terms(licence="cc-by-4.0", gated=True),
        matches=with_columns("query", "answers", "tools"),
        turns=("query",),
        turn_keys=frozenset({"role", "content"}),
        schema="public pages",
        note="No results were recorded: a chat ends with its calls. Hammer's test files are read too.",
    ),
)
