"""Logs of OpenAI's APIs, also as other servers offer them -> Chat.

* Chat completions: `{"request": {"messages", "tools"}, "response": {"choices": [{"message", "finish_reason"}]}}`. Each choice
  is a chat of its own, and all of a row are one group.
* Responses: `{"instructions", "input", "output", "tools"}`, where the request and what came back stand in one object, or as
  `request` and `response`. Input is text or items, output is items; where the whole conversation is the
  input, nothing else is needed.

Items that follow each other are one turn of the assistant as long as they stand in the order of a turn: `reasoning` (its text,
or the summary where that is all that is shown), `message`, `function_call`s. `function_call_output` answers by `call_id`.

A reply that was cut off or failed is left out, and so is what a chat cannot hold: refusals beside the text, tools that the
service runs, calls whose input is no JSON, a conversation whose beginning is stored at the service.
"""

from __future__ import annotations

from typing import Any

from data.chats import Chat, Skip
from data.formats.adapter import Adapter
from data.formats.parts import (
    Conversation,
    Row,
    Unrepresentable,
    first_fit,
    objects_in,
    request_and_response,
    row_id,
    skip_if_unrepresentable,
    speaker_of,
    text_of,
    tools_of,
    value_in,
    with_content,
)
from data.formats.results import result_to_text
from data.formats.turns import AssistantParts, say_messages

_FINISHED = frozenset({"stop", "tool_calls", "function_call", "end_turn", "eos"})
_TEXTS = frozenset({"text", "input_text", "output_text", "summary_text", "reasoning_text"})


# --- chat completions ---


def _completion_chat(row: Row, request: Row, choice: Row, id: str, group: str | None) -> Chat:
    if choice.get("finish_reason") not in (None, "", *_FINISHED):
        raise Unrepresentable("a reply that was cut off")
    message = choice.get("message")
    if not isinstance(message, dict):
        raise Unrepresentable("a response without a message")
    conversation = Conversation()
    said = objects_in(request.get("messages"), "messages")
    say_messages(conversation, [*said, {"role": "assistant", **message}])
    tools, functions = tools_of(request.get("tools")), tools_of(request.get("functions"))
    if tools and functions:
        raise Unrepresentable("functions beside tools")
    return conversation.chat(id=id, tools=tools or functions, group=group)


_read_completion = skip_if_unrepresentable(_completion_chat)


@skip_if_unrepresentable
def openai_request_response_row(row: Row) -> list[Chat | Skip] | Chat:
    """One logged request with its response, of either API."""
    request, response = request_and_response(row)
    if "choices" not in response and isinstance(response.get("output"), list):
        return _responses_chat(row, request, response)
    if response.get("error"):
        raise Unrepresentable("a request that failed")
    choices = objects_in(response.get("choices"), "choices")
    own = row_id({**row, "id": row.get("id") or response.get("id")})
    if len(choices) == 1:
        return _completion_chat(row, request, choices[0], own, None)
    return [_read_completion(row, request, choice, f"{own}/{n}", own) for n, choice in enumerate(choices)]


# --- responses ---


def _text_in(content: Any) -> str:
    """The text of an item: text, or a list of typed parts of it."""
    if isinstance(content, list):
        parts = [part if isinstance(part, dict) else {} for part in content]
        if any(part.get("type") == "refusal" for part in parts):
            raise Unrepresentable("a refusal beside the text")
        content = [{**part, "type": "text"} if _is_text(part) else part for part in parts]
    return text_of(content)


def _result_in(output: Any) -> str:
    """The output of a function: text, typed parts, or what a program put there."""
    is_parts = isinstance(output, list) and all(isinstance(part, dict) and _is_text(part) for part in output)
    return _text_in(output) if is_parts else result_to_text(output)


def _is_text(part: Row) -> bool:
    kind = part.get("type")
    return isinstance(kind, str) and kind in _TEXTS


def _not_held(kind: Any) -> Unrepresentable:
    if kind in ("custom_tool_call", "custom_tool_call_output"):
        return Unrepresentable("a call whose input is no JSON")
    if kind in ("item_reference", "compaction"):
        return Unrepresentable("a part of the conversation that is stored elsewhere")
    if isinstance(kind, str) and (kind.startswith("mcp_") or kind.endswith(("_call", "_call_output"))):
        return Unrepresentable("a call of a tool that the service runs")
    return Unrepresentable("an item of an unknown type")


def items_to_turns(items: list[Row]) -> list[Row]:
    """Items of the Responses API as turns for `say_messages`."""
    turns: list[Row] = []
    parts: AssistantParts | None = None  # of the assistant's turn that is being read
    for item in items:
        kind = item.get("type")
        if item.get("status") == "incomplete":
            raise Unrepresentable("a reply that was cut off")
        if kind is None and item.get("role") is not None:
            kind = "message"
        speaker = speaker_of(item.get("role")) if kind == "message" else None
        thought = _thought_in(item) if kind == "reasoning" else None
        if thought is not None and not thought.strip():  # only its encrypted form, which nobody can read
            continue
        if kind in ("reasoning", "function_call") or speaker == "assistant":
            if parts is not None and not parts.has_called and parts.has_spoken and kind != "function_call":
                turns.append(parts.turn({}))  # each message item ends what was said before
                parts = None
            parts = parts or AssistantParts()
            if kind == "reasoning":
                parts.think(thought)
            elif kind == "message":
                parts.speak(_text_in(item.get("content")))
            else:
                parts.call(item.get("call_id") or item.get("id"), item.get("name"), item.get("arguments"))
            continue
        turns += [parts.turn({})] if parts is not None else []
        parts = None
        if kind == "message" and speaker in ("system", "user"):
            turns.append({"role": speaker, "content": _text_in(item.get("content"))})
        elif kind == "function_call_output":
            turns.append(
                {"role": "tool", "content": _result_in(item.get("output")), "tool_call_id": item.get("call_id")}
            )
        else:
            raise _not_held(kind)
    return [*turns, parts.turn({})] if parts is not None else turns


def _thought_in(item: Row) -> str:
    """What was thought, or the summary where that is all that is shown."""
    for shown in (item.get("content"), item.get("summary")):
        if isinstance(shown, list):
            shown = "\n".join(_text_in([part]) for part in shown)
        if shown is not None and not isinstance(shown, str):
            raise Unrepresentable("reasoning that is not text")
        if shown:
            return shown
    return ""


def _responses_chat(row: Row, request: Row, response: Row) -> Chat:
    if response.get("error") or response.get("status") in ("failed", "cancelled"):
        raise Unrepresentable("a request that failed")
    if response.get("status") in ("incomplete", "in_progress", "queued"):
        raise Unrepresentable("a reply that was cut off")
    if any(holder.get(key) for holder in (request, response) for key in ("previous_response_id", "conversation")):
        raise Unrepresentable("a part of the conversation that is stored elsewhere")
    instructions, given = request.get("instructions"), request.get("input")
    items: list[Row] = []
    if isinstance(instructions, str) and instructions.strip():
        items.append({"role": "system", "content": instructions})
    elif instructions:
        items += objects_in(instructions, "instructions")
    is_text = isinstance(given, str) and not given.lstrip().startswith("[")
    if is_text:
        items.append({"role": "user", "content": given})
    else:
        items += objects_in(given, "input items")
    if response.get("output") is not None or is_text:
        items += objects_in(response.get("output"), "output items")
    conversation = Conversation()
    say_messages(conversation, items_to_turns(items))
    own = row_id({**row, "id": row.get("id") or response.get("id")})
    return conversation.chat(id=own, tools=tools_of(request.get("tools")))


@skip_if_unrepresentable
def openai_responses_row(row: Row) -> Chat:
    """One stored response with its input."""
    return _responses_chat(row, row, row)


def _are_items(value: Any) -> bool:
    items = value_in(value, "items are no JSON")
    return bool(items) and all(item["type"] in ("reasoning", "message") or "_call" in item["type"] for item in items)


def holds_response_items(row: Row) -> bool:
    """Whether what came back is a list of items."""
    return _are_items(row["output"])


def holds_called_items(row: Row) -> bool:
    """Whether the input holds a call, and nothing came back beside it."""
    called = any(item.get("type") in ("function_call", "reasoning") for item in value_in(row["input"], "no JSON"))
    return called and row.get("output") is None


def holds_response(row: Row) -> bool:
    """Whether a request stands beside a response of either API."""
    request, response = request_and_response(row)
    if isinstance(response.get("output"), list):
        return holds_response_items(response)
    return isinstance(request["messages"], list) and isinstance(response["choices"], list)


ADAPTERS = (
    Adapter(
        name="openai_request_response",
        kind="chat",
        function=openai_request_response_row,
        is_log=True,
        columns=("request", "response", "id"),
        matches=with_content("request", "response", holds=holds_response, what="choices or items in the response"),
        schema="recalled",
        note="Logs of chat completions and Responses. Every choice is a chat. The log of every request of one conversation "
        "holds its beginning many times.",
    ),
    Adapter(
        name="openai_responses",
        kind="chat",
        function=openai_responses_row,
        is_log=True,
        columns=(
            "instructions",
            "input",
            "output",
            "tools",
            "status",
            "error",
            "previous_response_id",
            "conversation",
            "id",
        ),
        matches=first_fit(
            with_content("input", "output", holds=holds_response_items, what="items of OpenAI's Responses"),
            with_content("input", holds=holds_called_items, what="items of OpenAI's Responses"),
        ),
        schema="recalled",
        note="Stored responses with their input. Reasoning is the text, or the summary where that is all that is shown.",
    ),
)
