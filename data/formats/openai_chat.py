"""OpenAI's chat fine-tuning JSONL -> Chat, and back.

A row: `{"messages": [...], "tools": [...]}`. What differs from a `Chat`:

* arguments of a call are JSON text; `content` is text, null or a list of text parts;
* the role `developer` is today's name of `system`;
* older rows use `functions`, one `function_call` a turn and the role `function`, without ids;
* `weight` (0 or 1) stands on assistant turns; `parallel_tool_calls` is an option of the service and not data.

Files that call themselves so mix other dialects in; data/formats/turns.py reads them all.
"""

from __future__ import annotations

import json

from data.chats import Chat, Skip
from data.formats.adapter import Adapter
from data.formats.parts import (
    Conversation,
    Row,
    Unrepresentable,
    list_of_objects,
    row_id,
    row_if_read_back,
    skip_if_unrepresentable,
    speaker_of,
    tools_of,
    with_columns,
    with_content,
)
from data.formats.turns import TURN_KEYS, holds_call_parts, say_messages


@skip_if_unrepresentable
def openai_chat_row(row: Row) -> Chat:
    """One fine-tuning row. Copied are roles, texts, calls, results, weights and function tools; nothing else."""
    conversation = Conversation()
    say_messages(conversation, list_of_objects(row, "messages"))
    tools, functions = tools_of(row.get("tools")), tools_of(row.get("functions"))
    if tools and functions:
        raise Unrepresentable("functions beside tools")
    chat = conversation.chat(id=row_id(row), tools=tools or functions)
    names = row.get("inferred_tools")
    if not names or not isinstance(names, list):
        return chat
    return chat.model_copy(update={"inferred_tools": tuple(str(name) for name in names)})


def holds_openai_calls(row: Row) -> bool:
    """Whether a row shows a call, a result or a developer, which plain chat messages do not have."""
    return any(
        speaker_of(message.get("role")) in ("call", "result")
        or message["role"] == "developer"
        or any(message.get(key) for key in ("tool_calls", "function_call", "function_calls"))
        or holds_call_parts(message)
        for message in row["messages"]
    )


def chat_to_openai_row(chat: Chat) -> Row | Skip:
    """A chat as a fine-tuning row; OpenAI's own service takes only the weights 0 and 1.

    A Skip where reading it back would give another chat: for a text that opens with a `<think>` block or holds calls as text.
    """
    messages: list[Row] = []
    for message in chat.messages:
        written = message.to_template()
        for call in written.get("tool_calls", []):
            function = call["function"]
            function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
        if message.role == "assistant" and message.weight is not None:
            written["weight"] = int(message.weight) if message.weight in (0, 1) else message.weight
        if message.role == "tool":
            written.pop("name", None)
        messages.append(written)
    row: Row = {"messages": messages}
    if chat.tools:
        row["tools"] = [tool.model_dump() for tool in chat.tools]
    if chat.inferred_tools:
        row["inferred_tools"] = list(chat.inferred_tools)
    return row_if_read_back(row, openai_chat_row, chat)


ADAPTERS = (
    Adapter(
        name="openai_chat",
        kind="chat",
        function=openai_chat_row,
        columns=("messages", "tools", "functions", "inferred_tools", "id"),
        matches=with_content("messages", holds=holds_openai_calls, what="calls in OpenAI's style"),
        turns=("messages",),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="Chat fine-tuning files of OpenAI, with tool_calls or the older function_call.",
    ),
    Adapter(
        name="trl_messages",
        kind="chat",
        function=openai_chat_row,
        columns=("messages", "tools", "functions", "inferred_tools", "id"),
        matches=with_columns("messages"),
        turns=("messages",),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="TRL's conversational rows, read like openai_chat; answers with a bad label (KTO) are left out.",
    ),
)
