"""Anthropic's Messages API: requests as people log and publish them -> Chat.

A row: `{"system", "messages", "tools"}`, or `{"request", "response"}` with these in the request and the answer in the response.
`system` and each `content` are text or a list of blocks:

* `text`; `thinking`, whose signature is not copied (no other service can check it); `tool_use` with `id`, `name`, `input`;
* `tool_result` with `tool_use_id` and a content of its own, in the user's name and before the user's words. One with `is_error`
  keeps its text: that a tool failed does not say that calling it was wrong.

What a chat cannot hold is left out: pictures and documents, `redacted_thinking`, tools that the service runs, words or a
thought behind a call of the same turn.
"""

from __future__ import annotations

from typing import Any

from data.chats import Chat
from data.formats.adapter import Adapter
from data.formats.parts import (
    Conversation,
    Row,
    Unrepresentable,
    first_fit,
    list_of_objects,
    objects_in,
    request_and_response,
    row_id,
    skip_if_unrepresentable,
    speaker_of,
    text_of,
    tools_of,
    unknown_role,
    with_content,
)
from data.formats.row_keys import WEIGHT_KEYS
from data.formats.turns import AssistantParts, say_messages

FINISHED = frozenset({"end_turn", "tool_use", "stop_sequence"})
"""Why an answer ended that was not cut off."""
_BY_THE_SERVICE = ("server_tool_use", "mcp_tool_use", "mcp_tool_result")


def not_held(kind: Any) -> Unrepresentable:
    """The reason to leave out a row with a content block of this type."""
    if kind == "redacted_thinking":
        return Unrepresentable("a thought that is encrypted")
    if isinstance(kind, str) and (kind in _BY_THE_SERVICE or kind.endswith("_tool_result")):
        return Unrepresentable("a call of a tool that the service runs")
    if kind in ("tool_use", "thinking", "tool_result"):
        return Unrepresentable(f"a {kind} block in the name of another")
    return Unrepresentable("content that is not text")


def _assistant_turn(message: Row, blocks: list[Row]) -> Row:
    parts = AssistantParts()
    for block in blocks:
        kind = block.get("type")
        if kind == "text":
            parts.speak(block.get("text"))
        elif kind == "thinking":
            parts.think(block.get("thinking"))
        elif kind == "tool_use":
            parts.call(block.get("id"), block.get("name"), block.get("input"))
        else:
            raise not_held(kind)
    return parts.turn(message)


def _user_turns(blocks: list[Row]) -> list[Row]:
    """Results as turns of their own, and the words between them."""
    turns: list[Row] = []
    for block in blocks:
        if block.get("type") == "tool_result":
            own_id, content = block.get("tool_use_id"), block.get("content")
            turns.append({"role": "tool", "content": text_of(content), "tool_call_id": own_id})
        elif block.get("type") != "text":
            raise not_held(block.get("type"))
        elif turns and turns[-1]["role"] == "user":
            turns[-1]["content"] += text_of([block])
        else:
            turns.append({"role": "user", "content": text_of([block])})
    return turns


def message_to_turns(message: Row) -> list[Row]:
    """One message of the API as turns for `say_messages`."""
    content, speaker = message.get("content"), speaker_of(message.get("role"))
    if message.get("tool_calls") or message.get("function_call"):
        raise Unrepresentable("calls in the way of another API")
    if speaker not in ("system", "user", "assistant"):
        raise unknown_role(message["role"])
    if content is None:
        raise Unrepresentable("a message without content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    blocks = objects_in(content, "content blocks") if content != [] else []
    if speaker == "assistant":
        return [_assistant_turn(message, blocks)]
    if speaker == "system":
        return [{"role": "system", "content": text_of(blocks)}]
    return _user_turns(blocks) or [{"role": "user", "content": ""}]


@skip_if_unrepresentable
def anthropic_messages_row(row: Row) -> Chat:
    """One request. Copied are roles, texts, thoughts, calls, results and client tools; nothing else."""
    if row.get("messages") is not None:
        return _chat(row, list_of_objects(row, "messages"), row_id(row))
    request, response = request_and_response(row)
    if response.get("error"):
        raise Unrepresentable("a request that failed")
    if response.get("stop_reason") not in (None, "", *FINISHED):
        raise Unrepresentable("a reply that was cut off")
    asked = list_of_objects(request, "messages")
    if speaker_of(asked[-1].get("role")) == "assistant":
        raise Unrepresentable("a reply that goes on with words that it was given")
    messages = [*asked, {"role": "assistant", "content": response.get("content")}]
    return _chat(request, messages, row_id({**row, "id": row.get("id") or response.get("id")}))


def _chat(request: Row, messages: list[Row], id: str) -> Chat:
    conversation = Conversation()
    system = text_of(request.get("system"))
    turns: list[Row] = [{"role": "system", "content": system}] if system.strip() else []
    for message in messages:
        turns += message_to_turns(message)
    say_messages(conversation, turns)
    return conversation.chat(id=id, tools=tools_of(request.get("tools")))


def holds_anthropic_blocks(row: Row) -> bool:
    """Whether a message has a block as no other API has them, and none is written in the way of another."""
    if any(message["role"] == "tool" or message.get("tool_calls") for message in row["messages"]):
        return False
    blocks = [
        block for message in row["messages"] if isinstance(message["content"], list) for block in message["content"]
    ]
    return any(block["type"] in ("tool_use", "tool_result", "thinking", "redacted_thinking") for block in blocks)


def holds_anthropic_response(row: Row) -> bool:
    """Whether a request stands beside a response of this API."""
    request, response = request_and_response(row)
    return isinstance(request["messages"], list) and response["role"] == "assistant" and bool(response["content"])


ADAPTERS = (
    Adapter(
        name="anthropic_messages",
        kind="chat",
        function=anthropic_messages_row,
        is_log=True,
        columns=("system", "messages", "tools", "request", "response", "id"),
        matches=first_fit(
            with_content("messages", holds=holds_anthropic_blocks, what="Anthropic's blocks"),
            with_content("request", "response", holds=holds_anthropic_response, what="answers of Anthropic's API"),
        ),
        turns=("messages",),
        turn_keys=frozenset({"role", "content", "tool_calls", "function_call", *WEIGHT_KEYS}),
        schema="recalled",
        note="Requests of the Messages API. The log of every request of one conversation holds its beginning many times.",
    ),
)
