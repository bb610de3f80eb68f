"""Inspect: samples of an evaluation's log -> Chat.

A row is a sample: `{"id", "epoch", "input", "target", "messages", "scores", "events"}`. A log is a `.eval` archive, of
which each sample is a row (data/formats/eval_archive.py), or JSON that holds them under `samples`. Messages are OpenAI's
with arguments as objects and thoughts as parts; tools are those of the last request among the events. A sample is imitated
where all its scores are right: C, 1 or true.
"""

from __future__ import annotations

from typing import Any

from data.chats import Chat
from data.formats.adapter import Adapter
from data.formats.judgements import judged
from data.formats.parts import (
    Conversation,
    Row,
    Unrepresentable,
    list_of_objects,
    objects_in,
    row_id,
    skip_if_unrepresentable,
    tools_of,
    with_columns,
)
from data.formats.turns import AssistantParts, say_messages

_RIGHT, _WRONG = ("C", "correct"), ("I", "N", "incorrect")
_ATTACHMENT = "attachment://"


def _require_right(scores: Any) -> None:
    if not isinstance(scores, dict | None):
        raise Unrepresentable("scores that are no object")
    for score in (scores or {}).values():
        value = score.get("value") if isinstance(score, dict) else score
        right = True if value in _RIGHT else False if value in _WRONG else judged(value)
        if right is None:
            raise Unrepresentable("a score that is neither right nor wrong")
        if not right:
            raise Unrepresentable("scores: a bad answer")


def _whole(value: Any, attachments: Row) -> Any:
    """A value with the texts that the log keeps in one place for all."""
    if isinstance(value, str) and value.startswith(_ATTACHMENT):
        return attachments.get(value.removeprefix(_ATTACHMENT), value)
    if isinstance(value, dict):
        return {key: _whole(item, attachments) for key, item in value.items()}
    return [_whole(item, attachments) for item in value] if isinstance(value, list) else value


def _turn(message: Row) -> Row:
    role, content = message.get("role"), message.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise Unrepresentable("content that is not text")
    if role == "assistant":
        parts = AssistantParts()
        for block in blocks:
            if block.get("type") == "reasoning" and not block.get("redacted"):
                parts.think(block.get("reasoning"))
            elif block.get("type") == "text":
                parts.speak(block.get("text"))
            elif block.get("type") != "reasoning":
                raise Unrepresentable("content that is not text")
        calls = message.get("tool_calls") or []
        for call in objects_in(calls, "calls") if calls else ():
            if call.get("parse_error"):
                raise Unrepresentable("a call that could not be read")
            parts.call(call.get("id"), call.get("function"), call.get("arguments"))
        return parts.turn({})
    error = message.get("error")
    if role == "tool" and isinstance(error, dict) and isinstance(error.get("message"), str):
        blocks = [{"type": "text", "text": error["message"]}]
    turn = {"role": role, "content": [{key: block.get(key) for key in ("type", "text")} for block in blocks]}
    return turn | (
        {"tool_call_id": message.get("tool_call_id"), "name": message.get("function")} if role == "tool" else {}
    )


def _tools(events: Any) -> Any:
    asked = [
        event
        for event in (events if isinstance(events, list) else ())
        if isinstance(event, dict) and event.get("event") == "model"
    ]
    return next(
        (event["tools"] for event in reversed(asked) if isinstance(event.get("tools"), list) and event["tools"]), ()
    )


@skip_if_unrepresentable
def inspect_log_row(row: Row) -> Chat:
    """One sample; its epochs are a group."""
    if row.get("error"):
        raise Unrepresentable("a run that failed")
    if row.get("limit"):
        raise Unrepresentable("a run that was cut off")
    _require_right(row.get("scores"))
    attachments = row["attachments"] if isinstance(row.get("attachments"), dict) else {}
    messages = [_whole(message, attachments) for message in list_of_objects(row, "messages")]
    conversation = Conversation()
    say_messages(conversation, [_turn(message) for message in messages])
    own = row_id(row)
    tools = tools_of([
        {key: tool[key] for key in ("name", "description", "parameters") if key in tool}
        for tool in _whole(list(_tools(row.get("events"))), attachments)
        if isinstance(tool, dict)
    ])  # fmt: skip
    return conversation.chat(id=f"{own}/{row['epoch']}" if row.get("epoch") else own, tools=tools, group=own)


ADAPTERS = (
    Adapter(
        name="inspect_log",
        kind="chat",
        function=inspect_log_row,
        columns=("id", "epoch", "messages", "scores", "events", "attachments", "error", "limit"),
        harmless=frozenset({"target", "metadata", "score"}),
        matches=with_columns("epoch", "input", "target", "messages"),
        is_log=True,
        turns=("messages",),
        turn_keys=frozenset(
            {"role", "content", "tool_calls", "tool_call_id", "function", "error", "id", "source", "model"}
        ),
        schema="recalled",
        note="Samples of .eval archives and JSON logs. One with a wrong score, an error or a limit that was hit is left out.",
    ),
)
