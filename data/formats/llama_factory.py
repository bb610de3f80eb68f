"""LLaMA-Factory's v1 format: chat messages made of typed parts -> Chat.

A row: `{"messages": [{"role", "content": [{"type": "text" | "reasoning" | "tool_call", "value"}]}], "tools"}`. A call is the
JSON of {name, arguments}; parts of one message are one turn, and results answer its calls in order. `loss_weight` is the
weight of an assistant's turn. (The files that LLaMA-Factory has read for longer are `sharegpt_tools`.)
"""

from __future__ import annotations

from typing import Any

from data.chats import Chat
from data.formats.adapter import Adapter
from data.formats.parts import (
    Conversation,
    Row,
    Unrepresentable,
    arguments_of,
    list_of_objects,
    objects_in,
    row_id,
    skip_if_unrepresentable,
    text_to_object,
    tools_of,
    unknown_role,
    weight_of,
    with_content,
)
from data.formats.row_keys import WEIGHT_KEYS


def _call_of(text: str) -> tuple[None, str, dict[str, Any]]:
    try:
        call = text_to_object(text)
    except ValueError:
        raise Unrepresentable("a call that is no JSON") from None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise Unrepresentable("a call without a name")
    return None, call["name"], arguments_of(call.get("arguments"))


@skip_if_unrepresentable
def llama_factory_v1_row(row: Row) -> Chat:
    """One conversation."""
    conversation = Conversation()
    for message in list_of_objects(row, "messages"):
        role = message.get("role")
        parts: dict[str, list[str]] = {"text": [], "reasoning": [], "tool_call": []}
        for part in objects_in(message.get("content"), "content parts"):
            kind, value = str(part.get("type")), part.get("value")
            if kind not in parts or not isinstance(value, str):
                raise Unrepresentable("content that is not text")
            parts[kind].append(value)
        if role != "assistant" and (parts["reasoning"] or parts["tool_call"]):
            raise Unrepresentable("reasoning or a call that is not the assistant's")
        text = "".join(parts["text"])
        if role == "assistant":
            reasoning = "\n".join(parts["reasoning"]) if parts["reasoning"] else None
            weight = weight_of(message)
            calls = [_call_of(call) for call in parts["tool_call"]]
            conversation.say("assistant", text, weight=weight, reasoning=reasoning, calls=calls)
        elif role == "tool":
            conversation.answer(text)
        elif role in ("system", "user"):
            conversation.say(role, text)
        else:
            raise unknown_role(role)
    return conversation.chat(id=row_id(row), tools=tools_of(row.get("tools")))


def holds_typed_parts(row: Row) -> bool:
    """Whether every content is a list of parts with a `value`."""
    return all("value" in part for message in row["messages"] for part in message["content"])


ADAPTERS = (
    Adapter(
        name="llama_factory_v1",
        kind="chat",
        function=llama_factory_v1_row,
        columns=("messages", "tools", "id"),
        matches=with_content("messages", "tools", holds=holds_typed_parts, what="parts with type and value"),
        turns=("messages",),
        turn_keys=frozenset({"role", "content", *WEIGHT_KEYS}),
        schema="real rows",
        note="Messages of typed parts: text, reasoning, tool_call.",
    ),
)
