"""OpenHands' SDK: the events of a conversation -> Chat.

A file is one conversation, an event a line; or a row holds them all (`{"history": [...]}`, an evaluation's output). Events
are told by `kind`: the system prompt with the tools, messages, actions with the call that the model wrote, observations,
errors of the agent and refusals of the user. Actions of one response (`llm_response_id`) are one turn. What runs the agent
(state, pauses, token counts) is no message. Behind a condensation the model sees a summary in the place of what was
forgotten: what it says there is a chat of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data.chats import Chat, Skip
from data.formats.adapter import Adapter
from data.formats.parts import (
    Conversation,
    Fit,
    Row,
    Unrepresentable,
    objects_in,
    row_id,
    skip_if_unrepresentable,
    text_of,
    tools_of,
)
from data.formats.session_tree import as_context
from data.formats.turns import AssistantParts, say_messages
from data.records import ToolSpec

_RESULTS = frozenset({"ObservationEvent", "AgentErrorEvent", "UserRejectObservation"})
_SAID = frozenset({"SystemPromptEvent", "MessageEvent", "ActionEvent", "Condensation", *_RESULTS})
EVENT = (
    *("kind", "id", "source", "system_prompt", "dynamic_context", "tools", "llm_message", "extended_content"),
    *("thought", "reasoning_content", "tool_name", "tool_call_id", "tool_call", "llm_response_id"),
    *("observation", "error", "rejection_reason", "forgotten_event_ids", "summary", "summary_offset"),
)


def not_read(event: Row) -> str | None:
    """What an event is called that says nothing to the model; null where it does."""
    kind = event.get("kind")
    if not isinstance(kind, str):
        return "an event without a kind"
    return None if kind in _SAID else f"kind={kind}"


def _text(parts: Any) -> str:
    return text_of([parts] if isinstance(parts, dict) else parts)


def _result(event: Row) -> Row:
    if event["kind"] == "AgentErrorEvent":
        content = _text(event.get("error"))
    elif event["kind"] == "UserRejectObservation":
        content = f"Action rejected: {_text(event.get('rejection_reason'))}"
    else:
        seen = event.get("observation")
        if not isinstance(seen, dict):
            raise Unrepresentable("an observation that is no object")
        content = _text(next((seen[key] for key in ("content", "output", "text", "message") if seen.get(key)), None))
    return {"role": "tool", "tool_call_id": event.get("tool_call_id"), "content": content}


def _call(event: Row) -> tuple[Any, Any, Any]:
    call = event.get("tool_call")
    if not isinstance(call, dict):
        raise Unrepresentable("an action without its call")
    inner = call["function"] if isinstance(call.get("function"), dict) else call
    return event.get("tool_call_id") or call.get("id"), inner.get("name"), inner.get("arguments")


def _message(event: Row) -> Row:
    message = event.get("llm_message")
    if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
        raise Unrepresentable("a message that does not say who speaks")
    content = _text(message.get("content")) + _text(event.get("extended_content"))
    turn: Row = {"role": message["role"], "content": content}
    if message["role"] == "assistant":
        turn |= {key: message[key] for key in ("reasoning_content", "tool_calls") if message.get(key)}
    return turn


def _turns(events: Sequence[Row]) -> list[Row]:
    turns: list[Row] = []
    waiting: list[Row] = []  # results of a response whose actions are still being read
    parts, response = None, None
    for event in [*events, {"kind": ""}]:
        is_same = event["kind"] == "ActionEvent" and response is not None and event.get("llm_response_id") == response
        if parts is not None and not is_same and event["kind"] not in _RESULTS:
            turns += [parts.turn({}), *waiting]
            parts, response, waiting = None, None, []
        if event["kind"] == "ActionEvent":
            if parts is None:
                parts, response = AssistantParts(), event.get("llm_response_id")
                parts.think(event.get("reasoning_content"))
                parts.speak(_text(event.get("thought")))
            parts.call(*_call(event))
        elif event["kind"] in _RESULTS:
            (turns if parts is None else waiting).append(_result(event))
        elif event["kind"] == "MessageEvent":
            turns.append(_message(event))
        elif event["kind"] == "summary":
            turns.append({"role": "user", "content": event["summary"]})
    return turns


def _tools(event: Row) -> tuple[ToolSpec, ...]:
    try:
        return tools_of(event.get("tools"))
    except Unrepresentable:  # the SDK's own classes, which say nothing of parameters
        return ()


@skip_if_unrepresentable
def _chat(names: Row, system: Row | None, context: Sequence[Row], events: Sequence[Row]) -> Chat:
    before = as_context(_turns(context))
    turns = [*before, *_turns(events)]
    if not any(turn["role"] == "assistant" for turn in turns[len(before) :]):
        raise Unrepresentable("no new answer")
    head = []
    if system is not None:
        head = [
            {"role": "system", "content": _text(system.get("system_prompt")) + _text(system.get("dynamic_context"))}
        ]
    conversation = Conversation()
    say_messages(conversation, [*head, *turns])
    return conversation.chat(**names, tools=() if system is None else _tools(system))


@skip_if_unrepresentable
def openhands_sdk_row(row: Row) -> list[Chat | Skip]:
    """All events of a conversation, which `rows` holds, or `history`, `events` or `trajectory`."""
    held = next((row[key] for key in ("rows", "history", "events", "trajectory") if row.get(key)), None)
    events = [event for event in objects_in(held, "events") if not_read(event) is None]
    own = row_id(row, "id", "instance_id", "conversation_id")
    system = next((event for event in events if event["kind"] == "SystemPromptEvent"), None)
    events = [event for event in events if event["kind"] != "SystemPromptEvent"]
    made: list[Chat | Skip] = []
    context: list[Row] = []
    said: list[Row] = []
    for event in [*events, None]:
        if event is not None and event["kind"] != "Condensation":
            said.append(event)
            continue
        if said or not made:
            names = {"id": f"{own}/{len(made)}" if made else own, "group": own}
            made.append(_chat(names, system, context, said))
        if event is not None:
            forgotten = event.get("forgotten_event_ids")
            if not isinstance(forgotten, list):
                raise Unrepresentable("a condensation that does not say what it forgot")
            context = [each for each in [*context, *said] if each.get("id") not in forgotten]
            if isinstance(event.get("summary"), str) and event["summary"]:
                offset = event.get("summary_offset")
                place = max(offset - (system is not None), 0) if isinstance(offset, int) else 1
                context.insert(place, {"kind": "summary", "summary": event["summary"]})
            said = []
    return made


def matches_openhands_sdk(rows: Sequence[Row]) -> Fit | None:
    """Whether rows are such events, or hold a list of them."""

    def is_event(value: Row) -> bool:
        return not_read(value) is None and "source" in value

    lines = sum(map(is_event, rows))
    if 2 * lines > len(rows):
        return Fit(5, f"{lines} of {len(rows)} rows are events of OpenHands' SDK")
    return None


ADAPTERS = (
    Adapter(
        name="openhands_sdk",
        kind="chat",
        function=openhands_sdk_row,
        columns=(*EVENT, "history", "events", "trajectory", "instance_id", "conversation_id"),
        matches=matches_openhands_sdk,
        whole_file=True,
        is_log=True,
        not_read=not_read,
        schema="recalled",
        note="Events of OpenHands' SDK; a file is one conversation. What follows a condensation is a chat of its own. "
        "Tools that the SDK writes as its own classes are inferred from their calls.",
    ),
)
