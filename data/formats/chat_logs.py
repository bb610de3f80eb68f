"""Datasets of whole conversations as messages of role and content, under column names of their own -> Chat."""

from __future__ import annotations

from typing import Any

from data.chats import Chat
from data.formats.adapter import Adapter, Terms
from data.formats.parts import (
    Conversation,
    Row,
    Unrepresentable,
    list_of_objects,
    row_id,
    skip_if_unrepresentable,
    tools_of,
    value_in,
    with_columns,
    with_content,
)
from data.formats.turns import TURN_KEYS, holds_function_calls, say_messages


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


ADAPTERS = (
    Adapter(
        name="dolci_tool_use",
        kind="chat",
        function=smoltalk_row,
        columns=("messages", "tools", "source", "id"),
        hub_id="allenai/Dolci-Instruct-SFT-Tool-Use",
        terms=Terms(licence="odc-by"),
        matches=with_content("messages", "source", holds=holds_function_calls, what="function_calls"),
        turns=("messages",),
        turn_keys=TURN_KEYS,
        schema="recalled",
        note="Calls in Python, read and never run. One result for several calls says not whose it is and is left out.",
    ),
    Adapter(
        name="nemotron_post_training_v1",
        kind="chat",
        function=nemotron_v1_row,
        columns=("messages", "metadata", "category", "uuid"),
        hub_id="nvidia/Nemotron-Post-Training-Dataset-v1",
        terms=Terms(licence="cc-by-4.0"),
        matches=with_columns("uuid", "category", "messages", "metadata", "reasoning"),
        turns=("messages",),
        turn_keys=TURN_KEYS,
        schema="recalled",
        note="Choose the split (tool_calling, chat, code, math, stem). Tools are taken from the column metadata.",
    ),
    Adapter(
        name="smoltalk",
        kind="chat",
        function=smoltalk_row,
        columns=("messages", "source", "tools", "id"),
        hub_id="HuggingFaceTB/smoltalk",
        terms=Terms(licence="apache-2.0 (new parts; public parts keep their own)", openai_derived=True),
        turns=("messages",),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="Choose a subset (all, apigen-80k, ...). The text calls of apigen-80k become calls; its system prompt stays.",
    ),
    Adapter(
        name="wildchat_1m",
        kind="chat",
        function=chat_log_row,
        columns=("conversation", "conversation_hash", "model"),
        hub_id="allenai/WildChat-1M",
        terms=Terms(licence="odc-by", openai_derived=True),
        matches=with_columns("conversation", "conversation_hash", "model"),
        turns=("conversation",),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="Answers by GPT-3.5 and GPT-4; source names the model. Redacted and toxic rows are kept: filter them.",
    ),
    Adapter(
        name="lmsys_chat_1m",
        kind="chat",
        function=chat_log_row,
        columns=("conversation", "conversation_id", "conversation_hash", "model"),
        hub_id="lmsys/lmsys-chat-1m",
        terms=Terms(licence="LMSYS-Chat-1M Dataset License Agreement", gated=True, openai_derived=True),
        matches=with_columns("conversation", "conversation_id", "model"),
        turns=("conversation",),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="Answers by 25 models, some of OpenAI; source names the model, whose terms apply. Unsafe rows are kept.",
    ),
    Adapter(
        name="ultrachat",
        kind="chat",
        function=ultrachat_row,
        columns=("data", "id"),
        hub_id="stingning/ultrachat",
        terms=Terms(licence="mit", openai_derived=True),
        matches=with_content("id", "data", holds=lambda row: isinstance(row["data"], list), what="lists"),
        schema="recalled",
        note="Both sides by GPT-3.5.",
    ),
    Adapter(
        name="ultrachat_200k",
        kind="chat",
        function=ultrachat_200k_row,
        columns=("messages", "prompt_id"),
        hub_id="HuggingFaceH4/ultrachat_200k",
        terms=Terms(licence="mit", openai_derived=True),
        matches=with_columns("messages", "prompt", "prompt_id"),
        turns=("messages",),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="Splits train_sft and test_sft (the _gen splits have no answers).",
    ),
)
