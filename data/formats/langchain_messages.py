"""Messages as LangChain and LangGraph dump them -> Chat.

A row: `{"messages": [...]}`, or a state of a thread, `{"values": {"messages": [...]}}`. A message is written in three ways:

* flat, as `model_dump` does: `{"type": "human" | "ai" | "tool" | "system" | "function" | "chat", "content", "id", ...}`;
* `{"type": "human", "data": {...}}`, as `messages_to_dict` does;
* `{"lc": 1, "type": "constructor", "id": [..., "HumanMessage"], "kwargs": {...}}`, as `dumps` does.

Calls stand in `tool_calls` as `{"name", "args", "id"}`; the same calls in `additional_kwargs` or as blocks of the content
repeat them and are read only where `tool_calls` has none. Thoughts stand in blocks of the content or in `additional_kwargs`.
What LangChain could not parse (`invalid_tool_calls`) leaves the row out.
"""

from __future__ import annotations

from typing import Any

from data.chats import Chat
from data.formats.adapter import Adapter
from data.formats.anthropic_messages import not_held
from data.formats.parts import (
    Conversation,
    Row,
    Unrepresentable,
    first_fit,
    list_of_objects,
    objects_in,
    row_id,
    skip_if_unrepresentable,
    speaker_of,
    tools_of,
    with_content,
)
from data.formats.results import result_to_text
from data.formats.row_keys import WEIGHT_KEYS
from data.formats.turns import REASONING, AssistantParts, calls_of, say_messages

MESSAGE_KEYS = frozenset({
    "type", "role", "data", "lc", "id", "kwargs", "content", "name", "tool_calls", "invalid_tool_calls", "additional_kwargs",
    "tool_call_id", "function_call", "function_calls", "reasoning_content", *WEIGHT_KEYS,
})  # fmt: skip
"""Keys of a message that are read; `id` is the class of one that `dumps` wrote."""


def _message_in(dumped: Row) -> Row:
    """A message without what it is wrapped in, under the role that its class or type names."""
    message: Any = dumped
    kind = dumped.get("type")
    if dumped.get("lc") is not None:
        names, message = dumped.get("id"), dumped.get("kwargs")
        kind = names[-1] if isinstance(names, list) and names else None
    elif isinstance(dumped.get("data"), dict):
        message = dumped["data"]
    if not isinstance(message, dict):
        raise Unrepresentable("a dumped message without its values")
    if isinstance(kind, str):
        kind = kind.removesuffix("Chunk").removesuffix("Message").lower()
    return {**message, "role": message.get("role") if kind == "chat" or kind is None else kind}


def _thought_in(value: Any) -> Any:
    """What was thought, as text or as OpenAI's `{"summary": [{"text"}]}`."""
    if isinstance(value, dict):
        value = value.get("summary")
    if isinstance(value, list):
        return "\n".join(str(part.get("text") or "") for part in value if isinstance(part, dict))
    return value


def _blocks_of(content: Any) -> list[Row]:
    if content is None or content == []:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list):
        content = [{"type": "text", "text": block} if isinstance(block, str) else block for block in content]
    return objects_in(content, "content blocks")


def _text_of(content: Any) -> str:
    parts = AssistantParts()
    for block in _blocks_of(content):
        if block.get("type") != "text":
            raise not_held(block.get("type"))
        parts.speak(block.get("text"))
    return str(parts.turn({})["content"])


def _assistant_turn(message: Row) -> Row:
    if message.get("invalid_tool_calls"):
        raise Unrepresentable("arguments of a call are no JSON")
    extra = message.get("additional_kwargs")
    extra = extra if isinstance(extra, dict) else {}
    parts, called, written = AssistantParts(), calls_of(message), list[Any]()
    for thought in (message.get("reasoning_content"), *(extra.get(key) for key in REASONING)):
        parts.think(_thought_in(thought))
    for block in _blocks_of(message.get("content")):
        kind = block.get("type")
        if kind == "text":
            if written and block.get("text"):
                raise Unrepresentable("text after a call")
            parts.speak(block.get("text"))
        elif kind in ("thinking", "reasoning"):
            parts.think(_thought_in(next((block[key] for key in ("thinking", "reasoning") if block.get(key)), block)))
        elif kind in ("tool_use", "tool_call", "function_call"):
            written.append(block)
        else:
            raise not_held(kind)
    written = calls_of({"tool_calls": [{**block, "type": None} for block in written]})
    if not called:
        called = written or calls_of(extra)
    elif written and [call[:2] for call in written] != [call[:2] for call in called]:
        raise Unrepresentable("calls in the content that are not those of the message")
    for call in called:
        parts.call(*call)
    return parts.turn(message)


def message_to_turn(dumped: Row) -> Row:
    """A dumped message as a turn for `say_messages`."""
    message = _message_in(dumped)
    speaker = speaker_of(message["role"])
    if speaker == "assistant":
        return _assistant_turn(message)
    content = message.get("content")
    if speaker != "result":
        return {"role": message["role"], "content": _text_of(content)}
    is_blocks = isinstance(content, str | None) or (
        isinstance(content, list)
        and all(isinstance(block, str) or (isinstance(block, dict) and "type" in block) for block in content)
    )
    text = _text_of(content) if is_blocks else result_to_text(content)
    return {"role": message["role"], "content": text} | {key: message.get(key) for key in ("tool_call_id", "name")}


@skip_if_unrepresentable
def langchain_messages_row(row: Row) -> Chat:
    """One list of messages. Copied are roles, texts, thoughts, calls and results; nothing else."""
    values = row.get("values")
    holder = values if isinstance(values, dict) and row.get("messages") is None else row
    conversation = Conversation()
    say_messages(conversation, [message_to_turn(message) for message in list_of_objects(holder, "messages")])
    return conversation.chat(id=row_id(row, "id", "thread_id"), tools=tools_of(row.get("tools")))


def holds_langchain_messages(row: Row) -> bool:
    """Whether messages have a type in the place of a role, those of people among them."""
    kinds = [_message_in(message)["role"] for message in row["messages"] if not message.get("role")]
    return len(kinds) == len(row["messages"]) and ("human" in kinds or "ai" in kinds)


def holds_langgraph_state(row: Row) -> bool:
    """Whether a state's values hold messages."""
    return holds_langchain_messages(row["values"])


ADAPTERS = (
    Adapter(
        name="langchain_messages",
        kind="chat",
        function=langchain_messages_row,
        is_log=True,
        columns=("messages", "values", "tools", "id", "thread_id"),
        matches=first_fit(
            with_content("messages", holds=holds_langchain_messages, what="types of LangChain"),
            with_content("values", holds=holds_langgraph_state, what="messages with types of LangChain"),
        ),
        turns=("messages",),
        turn_keys=MESSAGE_KEYS,
        schema="recalled",
        note="Dumps of LangChain and states of LangGraph. They hold no tools unless a column has them.",
    ),
)
