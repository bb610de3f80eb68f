"""xLAM / APIGen: one query, the tools that are offered, and the calls that answer it -> Chat.

A row: `{"id", "query", "tools", "answers"}`, the last two as JSON text in Salesforce's set and as lists in the test files of
Hammer, which also name things differently (`tool` for `name`, `parameters` for `arguments`) and may have a whole conversation
as the query. Tools are bare mappings in Python's types; data/adapters/json_schema.py says how they become JSON Schema.

All calls are one turn of the assistant, in parallel. No result was recorded, so the chat ends there.
"""

from __future__ import annotations

from typing import Any

from data.adapters.parts import (
    Conversation,
    Row,
    Unrepresentable,
    arguments_of,
    row_id,
    skip_if_unrepresentable,
    text_to_object,
    tools_of,
)
from data.chats import Chat

_ROLES = {"user": "user", "agent": "assistant", "assistant": "assistant", "system": "system"}


def _call_of(answer: Any) -> tuple[str | None, str, dict[str, Any]]:
    if not isinstance(answer, dict):
        raise Unrepresentable("a call that is no object")
    name = answer.get("name", answer.get("tool"))
    if not isinstance(name, str):
        raise Unrepresentable("a call without a name")
    return None, name, arguments_of(answer.get("arguments", answer.get("parameters")))


def _with_marks(tools: Any) -> Any:
    """Hammer's tools say of a parameter that it is required, and nothing of others: where any tool of a row says so, a
    parameter without the mark is optional, also in a tool that has no mark at all."""
    if isinstance(tools, str):
        try:
            tools = text_to_object(tools)
        except ValueError:
            raise Unrepresentable("tools are no JSON") from None
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
    answers: Any = row.get("answers")
    for turn in query if isinstance(query, list) else [{"role": "user", "content": query}]:
        role, text = (
            (_ROLES.get(str(turn.get("role"))), turn.get("content")) if isinstance(turn, dict) else (None, None)
        )
        if role is None or not isinstance(text, str):
            raise Unrepresentable("a query that is no text")
        # Only the calls are the data's; what an agent said before them is context.
        conversation.say(role, text, weight=0.0 if role == "assistant" else None)
    if isinstance(answers, str):
        try:
            answers = text_to_object(answers)
        except ValueError:
            raise Unrepresentable("answers are no JSON") from None
    if not isinstance(answers, list):
        raise Unrepresentable("answers are no list")
    if not answers:
        raise Unrepresentable("no call and no words")
    conversation.say("assistant", "", calls=[_call_of(answer) for answer in answers])
    return conversation.chat(id=row_id(row), tools=tools_of(_with_marks(row.get("tools"))))
