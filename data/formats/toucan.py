"""Toucan-1.5M (Xu et al. 2025): trajectories over real MCP servers -> Chat.

A row: `uuid`, `subset_name`, `messages` and `available_tools` as JSON text, and judgements that are not read. Messages are in
Qwen-Agent's style: the words of a turn, each of its parallel calls (`function_call`) and each result (role `function`) are
messages of their own, results in the order of the calls. They are joined to one turn here. The `SFT` configuration writes
roles `tool_call` and `tool_response` and the column `tools` instead.

The first system message is the tool declaration of the model that made the data (`<|im_system|>tool_declare...`): a pure
rendering of `available_tools`, and dropped. Another system message is kept.
"""

from __future__ import annotations

from data.chats import Chat
from data.formats.adapter import Adapter, Terms
from data.formats.parts import (
    Conversation,
    Row,
    Unrepresentable,
    arguments_of,
    objects_in,
    row_id,
    skip_if_unrepresentable,
    text_of,
    text_to_object,
    tools_of,
    unknown_role,
    with_columns,
)

_DECLARATION = "<|im_system|>tool_declare"


@skip_if_unrepresentable
def toucan_row(row: Row) -> Chat:
    """One trajectory."""
    conversation = Conversation()
    for message in objects_in(row.get("messages"), "messages"):
        role, text, call = message.get("role"), text_of(message.get("content")), message.get("function_call")
        if role == "tool_call":
            try:
                role, call, text = "assistant", text_to_object(text), ""
            except ValueError:
                raise Unrepresentable("a call that is no JSON") from None
        if role == "assistant":
            reasoning = message.get("reasoning_content")
            if not isinstance(reasoning, str | None):
                raise Unrepresentable("reasoning that is not text")
            if text or call is None or reasoning:
                conversation.say("assistant", text, reasoning=reasoning or None)
            if call is not None:
                if not isinstance(call, dict) or not isinstance(call.get("name"), str):
                    raise Unrepresentable("a call without a name")
                conversation.call_too(call["name"], arguments_of(call.get("arguments")), weight=None)
        elif role in ("function", "tool", "tool_response"):
            name = message.get("name")
            conversation.answer(text, name=name if isinstance(name, str) and name else None)
        elif role == "user":
            conversation.say("user", text)
        elif role == "system":
            if not text.startswith(_DECLARATION):
                conversation.say("system", text)
        else:
            raise unknown_role(role)
    subset = row.get("subset_name")
    return conversation.chat(
        id=row_id(row, "uuid", "id"),
        tools=tools_of(row.get("available_tools") or row.get("tools")),
        source=subset if isinstance(subset, str) else "",
    )


ADAPTERS = (
    Adapter(
        name="toucan_1_5m",
        kind="chat",
        function=toucan_row,
        columns=("messages", "available_tools", "tools", "subset_name", "uuid"),
        hub_id="Agent-Ark/Toucan-1.5M",
        terms=Terms(licence="apache-2.0"),
        matches=with_columns("uuid", "subset_name", "messages", "target_tools"),
        turns=("messages",),
        turn_keys=frozenset({"role", "content", "function_call", "reasoning_content", "name"}),
        schema="real rows",
        note="Turns that were cut into words, calls and results are joined again. Columns of the SFT part are recalled.",
    ),
)
