"""Langfuse's exports: observations of traces -> Chat.

A row is an observation, or a trace with its `observations`; columns are spelt as its API does (`traceId`) or as its exports
to buckets do (`trace_id`), and any value may be JSON text, as in CSV. Observations of type GENERATION are requests to a
model; all others (SPAN, EVENT, TOOL, AGENT ...) are left out under their type.

Langfuse keeps `input` and `output` as the application sent them, so that they are read as the API of the model has them:

* input: a text, a message, a list of messages or `{"messages", "tools", "system"}`, as OpenAI, Anthropic or LangChain write
  them, or items of OpenAI's Responses (`{"input", "instructions", "tools"}` too);
* output: a text, a message, `{"choices": [...]}` of which each is a chat, or items. An output that is another object, such as
  an answer in JSON that Langfuse parsed, no longer says what the model wrote.

Tools stand in `toolDefinitions`, in the input, in `metadata` or in `modelParameters`; LangChain's integration writes them
as messages of the role tool.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.json_lines import json_to_object
from data.chats import Chat, Skip
from data.formats.adapter import Adapter
from data.formats.anthropic_messages import message_to_turns
from data.formats.langchain_messages import message_to_turn
from data.formats.openai_logs import items_to_turns
from data.formats.parts import (
    Conversation,
    Row,
    Unrepresentable,
    first_fit,
    objects_in,
    row_id,
    skip_if_unrepresentable,
    tools_of,
    value_in,
    with_content,
)
from data.formats.traces import FAILED, text_in
from data.formats.turns import say_messages
from data.records import ToolSpec

COLUMNS = ("id", "traceId", "sessionId", "type", "level", "input", "output", "tools")
"""What is read of an observation, as `langfuse_spans` lays it out."""

TYPES = frozenset({
    "GENERATION", "SPAN", "EVENT", "AGENT", "TOOL", "CHAIN", "RETRIEVER", "EVALUATOR", "EMBEDDING", "GUARDRAIL",
})  # fmt: skip
_SPELLINGS = {"trace_id": "traceId", "session_id": "sessionId", "tool_definitions": "toolDefinitions"}
_OF_A_TRACE = ("scores", "sessionId", "session_id")
_HOLDERS = ("metadata", "modelParameters", "model_parameters")
_FINISHED = frozenset({"stop", "tool_calls", "function_call", "end_turn", "tool_use", "stop_sequence", "eos"})
_ITEMS = frozenset({"function_call", "function_call_output", "reasoning", "item_reference"})
_ITEM_TEXTS = frozenset({"input_text", "output_text"})
_ANTHROPIC_BLOCKS = frozenset({"tool_use", "tool_result", "thinking", "redacted_thinking"})


# --- observations ---


def langfuse_spans(row: Row) -> list[tuple[str, Row]]:
    """The observations of a row, each in the columns `COLUMNS` and what else it has."""
    observations = row.get("observations")
    if not isinstance(observations, list) or not any(isinstance(each, dict) for each in observations):
        return [_span_of(row)]
    trace = row["trace"] if isinstance(row.get("trace"), dict) else row
    shared = {key: trace[key] for key in _OF_A_TRACE if trace.get(key)} | {"traceId": trace.get("id")}
    return [_span_of({**shared, **each}) for each in observations if isinstance(each, dict)]


def _span_of(row: Row) -> tuple[str, Row]:
    span = {_SPELLINGS.get(key, key): value for key, value in row.items()}
    definitions = span.pop("toolDefinitions", None)
    if (tools := _definitions_in(definitions)) is not None:
        span["tools"] = tools
    for column in _HOLDERS:
        holder = _json_in(span.get(column))
        if isinstance(holder, dict) and holder.get("tools") and "tools" not in span:
            span["tools"] = holder["tools"]
            span[column] = {key: value for key, value in holder.items() if key != "tools"}
    return text_in(span, "sessionId", "traceId"), span


def _definitions_in(value: Any) -> Any:
    """Langfuse's own list of tools: an object of JSON texts by name, or definitions as the request had them."""
    value = _json_in(value)
    if not isinstance(value, dict) or not value or "name" in value or "function" in value:
        return value or None
    definitions = [(name, _json_in(definition)) for name, definition in value.items()]
    return [
        {"name": name, **definition} if isinstance(definition, dict) and "function" not in definition else definition
        for name, definition in definitions
    ]


def _json_in(value: Any) -> Any:
    """A value, or the object or list that a text is the JSON of; any other text stays."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return json_to_object(value)
    except ValueError:
        return value


# --- what was asked and answered ---


def _is_messages(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, dict) and (each.get("role") or each.get("type")) for each in value)
    )


def _asked(value: Any) -> tuple[list[Row], Any]:
    """The messages or items of a request, and its tools."""
    given = _json_in(value)
    if given is None or (isinstance(given, str) and not given.strip()):
        raise Unrepresentable("a request whose content was not recorded")
    if isinstance(given, str) or not isinstance(given, list | dict):
        return [{"role": "user", "content": str(value)}], None
    if isinstance(given, list):
        if isinstance(value, str) and not _is_messages(given):  # a prompt that is JSON by chance
            return [{"role": "user", "content": value}], None
        return objects_in(given, "input messages"), None
    for key, before in (("messages", "system"), ("input", "instructions")):
        inner = _json_in(given.get(key))
        if inner is None:
            continue
        said = [{"role": "user", "content": inner}] if isinstance(inner, str) else objects_in(inner, "input messages")
        system = given.get(before)
        return [*([{"role": "system", "content": system}] if system else []), *said], given.get("tools")
    if given.get("role"):
        return [given], given.get("tools")
    if isinstance(value, str):
        return [{"role": "user", "content": value}], None
    raise Unrepresentable("an input that is no messages")


def _answered(value: Any) -> list[list[Row]]:
    """What came back: for each choice its message with what it says of its end, or its items."""
    given = _json_in(value)
    if given is None or (isinstance(given, str) and not given.strip()) or given == []:
        raise Unrepresentable("a request without its answer")
    if isinstance(given, str):
        return [[{"content": given}]]
    if isinstance(given, dict) and isinstance(given.get("choices"), list):
        given = given["choices"]
    elif isinstance(given, dict) and isinstance(given.get("output"), list):
        given = given["output"]
    if isinstance(given, dict):
        given = [given]
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise Unrepresentable("an output that is no message")
    if all(isinstance(each.get("message"), dict) for each in given):
        return [[{**each["message"], "finish_reason": each.get("finish_reason")}] for each in given]
    if _are_items(given):
        return [given]
    if len(given) > 1:
        raise Unrepresentable("an output of several messages")
    if not any(given[0].get(key) is not None for key in ("role", "content", "tool_calls", "function_call")):
        raise Unrepresentable("an output that is no message")
    return [given]


def _finished(message: Row) -> Row:
    """A message or item of an answer, which ends as it should."""
    finish = message.get("finish_reason") or message.get("stop_reason")
    if finish and finish not in _FINISHED:
        raise Unrepresentable("a reply that was cut off")
    is_typed = message.get("role") or (message.get("type") and message["type"] != "message")
    return message if is_typed else {**message, "role": "assistant"}


def _parts_of(message: Row) -> list[Row]:
    content = message.get("content")
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def _has_type(value: Row, types: frozenset[str]) -> bool:
    return isinstance(value.get("type"), str) and value["type"] in types


def _are_items(messages: Sequence[Row]) -> bool:
    return any(
        _has_type(message, _ITEMS) or any(_has_type(part, _ITEM_TEXTS) for part in _parts_of(message))
        for message in messages
    )


def _turns_of(messages: Sequence[Row]) -> list[Row]:
    """Messages of any of these APIs as turns for `say_messages`."""
    if _are_items(messages):
        return items_to_turns(list(messages))
    turns: list[Row] = []
    for message in messages:
        if any(_has_type(part, _ANTHROPIC_BLOCKS) for part in _parts_of(message)):
            turns += message_to_turns(message)
        elif not message.get("role") and message.get("type"):
            turns.append(message_to_turn(message))
        else:
            turns.append(message)
    return turns


def _is_definition(message: Row) -> bool:
    """Whether a message is a tool's definition, as LangChain's integration writes it."""
    content = message.get("content")
    return message.get("role") == "tool" and isinstance(content, dict) and _has_type(content, frozenset({"function"}))


def _tools_of(span: Row, asked: Any, defined: list[Any]) -> tuple[ToolSpec, ...]:
    found = (tools_of(value_in(value, "tools are no JSON")) for value in (asked, defined, span.get("tools")))
    return next((tools for tools in found if tools), ())


@skip_if_unrepresentable
def _answer_chat(span: Row, answer: list[Row], id: str, group: str | None) -> Chat:
    messages, tools = _asked(span.get("input"))
    defined = [message["content"] for message in messages if _is_definition(message)]
    asked = [message for message in messages if not _is_definition(message)]
    conversation = Conversation()
    say_messages(conversation, _turns_of([*asked, *map(_finished, answer)]))
    return conversation.chat(id=id, tools=_tools_of(span, tools, defined), group=group)


@skip_if_unrepresentable
def langfuse_row(span: Row) -> Chat | Skip | list[Chat | Skip]:
    """One observation, as `langfuse_spans` lays it out. Copied are roles, texts, thoughts, calls, results and tools."""
    kind = str(span.get("type") or "").upper()
    if kind != "GENERATION":
        raise Unrepresentable(f"an observation of type {kind}" if kind in TYPES else "an observation without a type")
    if span.get("level") == "ERROR":
        raise Unrepresentable(FAILED)
    answers = _answered(span.get("output"))
    own, group = row_id(span), text_in(span, "sessionId", "traceId") or None
    if len(answers) == 1:
        return _answer_chat(span, answers[0], own, group)
    return [_answer_chat(span, answer, f"{own}/{n}", group or own) for n, answer in enumerate(answers)]


def holds_generation(row: Row) -> bool:
    """Whether an observation has one of Langfuse's types."""
    return any(_has_type(span, TYPES) for _, span in langfuse_spans(row))


ADAPTERS = (
    Adapter(
        name="langfuse",
        kind="chat",
        function=langfuse_row,
        columns=COLUMNS,
        is_log=True,
        spans=langfuse_spans,
        matches=first_fit(
            with_content("traceId", "type", "input", "output", holds=holds_generation, what="types of Langfuse"),
            with_content("trace_id", "type", "input", "output", holds=holds_generation, what="types of Langfuse"),
            with_content("observations", holds=holds_generation, what="types of Langfuse"),
        ),
        schema="public pages",
        note="Exports of observations or traces. Only GENERATION is a request to a model. Those of one session are read "
        "together: one that another goes on with is left out.",
    ),
)
