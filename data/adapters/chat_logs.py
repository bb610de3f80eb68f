"""Datasets of whole conversations as messages of role and content, under column names of their own -> Chat."""

from __future__ import annotations

from typing import Any

from data.adapters.parts import (
    Conversation,
    Row,
    Unrepresentable,
    list_of_objects,
    row_id,
    skip_if_unrepresentable,
    tools_of,
    value_in,
)
from data.adapters.turns import say_messages
from data.chats import Chat


def _name(value: Any) -> str:
    return value if isinstance(value, str) else ""


@skip_if_unrepresentable
def chat_log_row(row: Row) -> Chat:
    """`{"conversation": [{"role", "content", ...}], "model", "conversation_hash" | "conversation_id", ...}`.

    `source` becomes the model that answered. What moderation and language detection said is not read.
    """
    conversation = Conversation()
    say_messages(conversation, list_of_objects(row, "conversation"))
    own_id = row_id(row, "conversation_hash", "conversation_id")
    return conversation.chat(id=own_id, source=_name(row.get("model")))


@skip_if_unrepresentable
def smoltalk_row(row: Row) -> Chat:
    """`{"messages": [{"role", "content"}], "source"}`. `<tool_call>` in an assistant's text (apigen-80k) is a call."""
    conversation = Conversation()
    say_messages(conversation, list_of_objects(row, "messages"))
    return conversation.chat(id=row_id(row), tools=tools_of(row.get("tools")), source=_name(row.get("source")))


@skip_if_unrepresentable
def nemotron_v1_row(row: Row) -> Chat:
    """`{"uuid", "category", "messages": [OpenAI messages], "metadata"}`; `metadata` is the JSON text of an object, in which the
    part tool_calling has its `tools`. `source` becomes the category."""
    conversation = Conversation()
    say_messages(conversation, list_of_objects(row, "messages"))
    metadata = value_in(row.get("metadata"), "column 'metadata' is no JSON")
    tools = tools_of(metadata.get("tools") if isinstance(metadata, dict) else None)
    return conversation.chat(id=row_id(row, "uuid"), tools=tools, source=_name(row.get("category")))


@skip_if_unrepresentable
def ultrachat_200k_row(row: Row) -> Chat:
    """`{"prompt", "prompt_id", "messages": [{"role", "content"}]}`; `prompt` repeats the first message."""
    conversation = Conversation()
    say_messages(conversation, list_of_objects(row, "messages"))
    return conversation.chat(id=row_id(row, "prompt_id"))


@skip_if_unrepresentable
def ultrachat_row(row: Row) -> Chat:
    """`{"id", "data": [text, ...]}`: user and assistant in turn, the user first."""
    texts = row.get("data")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Unrepresentable("column 'data' is no list of texts")
    conversation = Conversation()
    for index, text in enumerate(texts):
        conversation.say("assistant" if index % 2 else "user", text)
    return conversation.chat(id=row_id(row))
