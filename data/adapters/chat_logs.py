"""Datasets of whole conversations as messages of role and content, under column names of their own -> Chat."""

from __future__ import annotations

from typing import Any

from data.adapters.openai_chat import say_messages
from data.adapters.parts import (
    Conversation,
    Row,
    Unrepresentable,
    list_of_objects,
    row_id,
    skip_if_unrepresentable,
    tools_of,
)
from data.adapters.sharegpt_tools import sharegpt_tools_row
from data.chats import Chat, Skip

_SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "tool"}


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
def smoltalk_row(row: Row) -> Chat | Skip:
    """`{"messages": [{"role", "content"}], "source"}`. Where an assistant's text holds `<tool_call>` (apigen-80k), it is read
    like Hermes' files: the calls become calls, and the tools that the system prompt tells are taken from it."""
    messages = list_of_objects(row, "messages")
    source = _name(row.get("source"))
    if any(turn.get("role") == "assistant" and "<tool_call>" in str(turn.get("content")) for turn in messages):
        turns = [{"from": _SHAREGPT_ROLES.get(str(t.get("role"))), "value": t.get("content")} for t in messages]
        chat = sharegpt_tools_row({"conversations": turns})
        return chat if isinstance(chat, Skip) else chat.model_copy(update={"source": source, "id": row_id(row)})
    conversation = Conversation()
    say_messages(conversation, messages)
    return conversation.chat(id=row_id(row), tools=tools_of(row.get("tools")), source=source)


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
