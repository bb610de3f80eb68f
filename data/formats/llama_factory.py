"""LLaMA-Factory's v1 format: chat messages made of typed parts -> Chat.

A row: `{"messages": [{"role", "content": [{"type": "text" | "reasoning" | "tool_call", "value"}]}], "tools"}`. A call is the
JSON of {name, arguments}; parts of one message are one turn, and results answer its calls in order. `loss_weight` is the
weight of an assistant's turn. Its pairs (`chosen_messages`, `rejected_messages`) are read by `preference_columns`. (The files
that LLaMA-Factory has read for longer are `sharegpt_tools`.)
"""

from __future__ import annotations

from data.chats import Chat
from data.formats.adapter import Adapter
from data.formats.parts import (
    Conversation,
    Row,
    first_fit,
    list_of_objects,
    row_id,
    skip_if_unrepresentable,
    tools_of,
    with_content,
)
from data.formats.turns import TURN_KEYS, say_messages


@skip_if_unrepresentable
def llama_factory_v1_row(row: Row) -> Chat:
    """One conversation."""
    conversation = Conversation()
    say_messages(conversation, list_of_objects(row, "messages"))
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
        matches=first_fit(
            with_content("messages", "tools", holds=holds_typed_parts, what="parts with type and value"),
            with_content("messages", holds=holds_typed_parts, what="parts with type and value"),
        ),
        turns=("messages",),
        turn_keys=TURN_KEYS,
        schema="real rows",
        note="Messages of typed parts: text, reasoning, tool_call.",
    ),
)
