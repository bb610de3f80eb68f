"""OpenAI's chat fine-tuning JSONL -> Chat, and back.

A row: `{"messages": [...], "tools": [...]}`. What differs from a `Chat`:

* arguments of a call are JSON text; `content` is text, null or a list of text parts;
* the role `developer` is today's name of `system`;
* older rows use `functions`, one `function_call` a turn and the role `function`, without ids;
* `weight` (0 or 1) stands on assistant turns; `parallel_tool_calls` is an option of the service and not data.

Beside OpenAI's own keys `reasoning_content` is read and written, as many open models' files have it; `reasoning` and
`thinking` are read too, and so are the roles that other models give a result.
"""

from __future__ import annotations

import json
from typing import Any

from data.adapters.parts import (
    Conversation,
    Row,
    Unrepresentable,
    arguments_of,
    list_of_objects,
    row_id,
    skip_if_unrepresentable,
    text_of,
    tools_of,
    weight_of,
)
from data.adapters.row_keys import WEIGHT_KEYS
from data.chats import Chat

RESULT = ("tool", "function", "ipython", "observation", "environment")
"""A result's role: OpenAI's, OpenAI's of old, Llama's, GLM's, and that of AllenAI's sets."""
REASONING = ("reasoning_content", "reasoning", "thinking")
"""Where servers and open models' files put what was thought; the first that is there is read."""
TURN_KEYS = frozenset(
    {"role", "content", "tool_calls", "function_call", "tool_call_id", "name", *REASONING, *WEIGHT_KEYS}
)
"""Keys of a message that `say_messages` reads."""


def _call_of(function: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Unrepresentable("a call without a name")
    return function["name"], arguments_of(function.get("arguments"))


def calls_of(message: Row) -> list[tuple[str | None, str, dict[str, Any]]]:
    """The calls of an assistant's message in OpenAI's style, as (id or null, name, arguments)."""
    calls: list[tuple[str | None, str, dict[str, Any]]] = []
    tool_calls = message.get("tool_calls") or []
    if not isinstance(tool_calls, list):
        raise Unrepresentable("tool_calls are no list")
    for call in tool_calls:
        if not isinstance(call, dict) or call.get("type", "function") != "function":
            raise Unrepresentable("a call of something that is no function")
        own_id = call.get("id")
        if not isinstance(own_id, str | None):
            raise Unrepresentable("a call id that is no text")
        calls.append((own_id, *_call_of(call.get("function"))))
    if message.get("function_call") is not None:
        if calls:
            raise Unrepresentable("function_call beside tool_calls")
        calls.append((None, *_call_of(message["function_call"])))
    return calls


def say_messages(conversation: Conversation, messages: list[Row]) -> None:
    """Say messages in OpenAI's style one after the other: roles, texts, reasoning, calls, results and weights.

    Raises:
        Unrepresentable: at the first message that a conversation cannot hold.
    """
    for message in messages:
        role = message.get("role")
        if role == "assistant":
            _assistant_says(conversation, message)
        elif role in ("system", "developer", "user"):
            if message.get("content") is None:
                raise Unrepresentable("a message without content")
            conversation.say("user" if role == "user" else "system", text_of(message["content"]))
        elif role in RESULT:
            own_id, name = message.get("tool_call_id"), message.get("name")
            if not isinstance(own_id, str | None) or not isinstance(name, str | None):
                raise Unrepresentable("a result whose id or name is no text")
            conversation.answer(text_of(message.get("content")), own_id=own_id, name=name)
        else:
            raise Unrepresentable("an unknown role")


@skip_if_unrepresentable
def openai_chat_row(row: Row) -> Chat:
    """One fine-tuning row. Copied are roles, texts, calls, results, weights and function tools; nothing else."""
    conversation = Conversation()
    say_messages(conversation, list_of_objects(row, "messages"))
    functions = row.get("functions")
    if row.get("tools") is not None and functions is not None:
        raise Unrepresentable("functions beside tools")
    return Chat(
        messages=tuple(conversation.messages),
        tools=tools_of(row.get("tools") if functions is None else functions),
        id=row_id(row),
        source="",
    )


def _assistant_says(conversation: Conversation, message: Row) -> None:
    calls = calls_of(message)
    reasoning = next((message[key] for key in REASONING if message.get(key) is not None), None)
    if not isinstance(reasoning, str | None):
        raise Unrepresentable("reasoning that is not text")
    if message.get("content") is None and not calls:
        # A refusal or an audio answer: what the model said stands in a field that a chat does not have.
        raise Unrepresentable("a message without content")
    conversation.say(
        "assistant", text_of(message.get("content")), weight=weight_of(message), reasoning=reasoning, calls=calls
    )


def holds_openai_calls(row: Row) -> bool:
    """Whether a row shows a call, a result or a developer, which plain chat messages do not have."""
    return any(
        message["role"] in ("tool", "function", "developer")
        or message.get("tool_calls")
        or message.get("function_call")
        for message in row["messages"]
    )


def chat_to_openai_row(chat: Chat) -> Row:
    """A chat as a fine-tuning row. Every chat fits; OpenAI's own service takes only the weights 0 and 1."""
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
    return row
