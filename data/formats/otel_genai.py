"""OpenTelemetry's conventions for generative AI: spans of requests to models -> Chat.

A row is a span, or an export of many: `{"resourceSpans": [{"scopeSpans": [{"spans": [...]}]}]}`. `attributes` are OTLP's
list of `{"key", "value": {"stringValue": ...}}` or an object; those of the span's events are read, too. Of these:

* `gen_ai.input.messages` and `gen_ai.output.messages`, lists of `{"role", "parts"}` or their JSON text. A part is `text`,
  `reasoning`, `tool_call` with `id`, `name`, `arguments`, or `tool_call_response` with `id` and `response`, which becomes
  its JSON text where it is none. Every message of the output is an answer of its own, and all are one group.
* `gen_ai.system_instructions` and `gen_ai.tool.definitions`.

Two older ways to write the same are put into this one first: OpenLLMetry's and OpenInference's attributes with numbers in
their names (`gen_ai.prompt.0.role`, `llm.input_messages.0.message.role`), which Phoenix exports as objects or as columns, and
one event a message (`gen_ai.user.message`).

Spans of tools and of whole agents are left out: what they did stands in the spans of the requests. Where an agent's requests
were not recorded, its own span is read. What a chat cannot hold is left out, too: pictures, tools that the service runs,
replies that were cut off or failed, requests that nobody recorded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from core.json_lines import json_to_object
from data.chats import Chat, Skip
from data.formats.adapter import Adapter
from data.formats.anthropic_messages import message_to_turns
from data.formats.parts import (
    Conversation,
    Row,
    Unrepresentable,
    first_fit,
    objects_in,
    row_id,
    skip_if_unrepresentable,
    speaker_of,
    tools_of,
    unknown_role,
    value_in,
    with_content,
)
from data.formats.results import result_to_text
from data.formats.traces import FAILED, text_in
from data.formats.turns import AssistantParts, say_messages

INPUT, OUTPUT = "gen_ai.input.messages", "gen_ai.output.messages"
SYSTEM, TOOLS = "gen_ai.system_instructions", "gen_ai.tool.definitions"
FINISH, OPERATION, CONVERSATION = "gen_ai.response.finish_reasons", "gen_ai.operation.name", "gen_ai.conversation.id"
COLUMNS = (INPUT, OUTPUT, SYSTEM, TOOLS, FINISH, OPERATION, CONVERSATION, "traceId", "spanId", "status")
"""What is read of a span, as `otel_spans` lays it out."""

NO_REQUEST = "a span that is no request to a model"
_REQUESTS = frozenset({"chat", "generate_content", "text_completion"})
_FINISHED = frozenset({
    "stop", "tool_call", "tool_calls", "function_call", "end_turn", "tool_use", "stop_sequence", "eos", "completed",
})  # fmt: skip


# --- spans ---


def otel_spans(row: Row) -> list[tuple[str, Row]]:
    """The spans of a row, each in the columns `COLUMNS` and with its other attributes in `attributes`."""
    exports = _first(row, "resourceSpans", "resource_spans")
    if not isinstance(exports, list):
        return [_span_of(row)]
    scopes = [scope for each in exports for scope in _list_in(each, "scopeSpans", "scope_spans")]
    return [_span_of(span) for scope in scopes for span in _list_in(scope, "spans") if isinstance(span, dict)]


def _span_of(row: Row) -> tuple[str, Row]:
    row = _folded(row)
    attributes = _in_dotted_keys(_attributes_in(row.get("attributes")))
    events = [event for event in _list_in(row, "events") if isinstance(event, dict)]
    for event in events:
        own = _attributes_in(event.get("attributes"))
        attributes |= {key: value for key, value in own.items() if key in COLUMNS and key not in attributes}
    attributes = _as_conventions(attributes, events)
    context = row.get("context")
    ids = {**context, **row} if isinstance(context, dict) else row
    span = {key: value for key, value in row.items() if key not in ("attributes", "context", *_IDS)}
    span |= {"traceId": text_in(ids, "traceId", "trace_id"), "spanId": text_in(ids, "spanId", "span_id")}
    if "events" in span and any(event.get("name") in _ROLES_OF_EVENTS or _holds(event) for event in events):
        del span["events"]
    if span.get("status") is None and isinstance(span.get("status_code"), str):
        span["status"] = span.pop("status_code")
    span |= {key: attributes.pop(key) for key in COLUMNS if key in attributes}
    if attributes:
        span["attributes"] = attributes
    return text_in(span, CONVERSATION, "traceId"), span


_IDS = ("traceId", "trace_id", "spanId", "span_id")


def _folded(row: Row) -> Row:
    """A row of a table, whose columns are called `attributes.llm.model_name` and `context.span_id` (Phoenix), as a span."""
    held = {
        name: {key: v for key, v in row.items() if key.startswith(f"{name}.")} for name in ("attributes", "context")
    }
    if not any(held.values()):
        return row
    folded = {key: value for key, value in row.items() if not any(key in columns for columns in held.values())}
    for name, columns in held.items():
        inner = {key.removeprefix(f"{name}."): value for key, value in columns.items() if value is not None}
        folded[name] = {**(row[name] if isinstance(row.get(name), dict) else {}), **inner}
    return folded


def _in_dotted_keys(attributes: Row) -> Row:
    """Attributes in which those of models stand in objects, `{"llm": {"model_name": ...}}`, under names with dots."""
    made: Row = {}
    for key, value in attributes.items():
        if isinstance(value, dict) and key.partition(".")[0] in ("llm", "gen_ai", "openinference"):
            made |= _in_dotted_keys({f"{key}.{inner}": item for inner, item in value.items()})
        else:
            made[key] = value
    return made


def with_agents(spans: Sequence[Row]) -> list[Row]:
    """Spans of one conversation, of which those of agents become requests where no request of the agent was recorded: what
    the agent was asked and answered stands nowhere else then."""
    by_id = {text_in(span, "spanId"): span for span in spans}
    requests = [span for span in spans if span.get(OPERATION) != _AGENT and (span.get(INPUT) or span.get(OUTPUT))]
    covered = {
        text_in(agent, "spanId") for agent in (_agent_above(span, by_id) for span in requests) if agent is not None
    }
    is_flat = any(not _parent_of(span) for span in requests)  # then nobody tells whose they are
    return [
        {**span, OPERATION: "chat"}
        if span.get(OPERATION) == _AGENT and not is_flat and text_in(span, "spanId") not in covered
        else span
        for span in spans
    ]


_AGENT = "invoke_agent"


def _parent_of(span: Row) -> str:
    return text_in(span, "parentSpanId", "parent_span_id", "parent_id")


def _agent_above(span: Row, by_id: dict[str, Row]) -> Row | None:
    seen = set[str]()
    while (parent := _parent_of(span)) and parent in by_id and parent not in seen:
        seen.add(parent)
        span = by_id[parent]
        if span.get(OPERATION) == _AGENT:
            return span
    return None


def _first(row: Row, *keys: str) -> Any:
    return next((row[key] for key in keys if row.get(key) is not None), None)


def _list_in(row: Any, *keys: str) -> list[Any]:
    found = _first(row, *keys) if isinstance(row, dict) else None
    return found if isinstance(found, list) else []


def _attributes_in(value: Any) -> Row:
    """Attributes as an object, from OTLP's list of keys and typed values, too."""
    if isinstance(value, str):
        try:
            value = value_in(value, "")
        except Unrepresentable:
            return {}
    if isinstance(value, dict):
        return dict(value)
    pairs = [pair for pair in value if isinstance(pair, dict)] if isinstance(value, list) else []
    return {pair["key"]: _plain(pair.get("value")) for pair in pairs if isinstance(pair.get("key"), str)}


def _plain(value: Any) -> Any:
    """OTLP's typed value as that value."""
    if value == {}:
        return None
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((kind, held),) = value.items()
    kind = kind.replace("_v", "V")
    if kind == "arrayValue":
        return [_plain(item) for item in _list_in(held, "values")]
    if kind == "kvlistValue":
        return _attributes_in(_list_in(held, "values"))
    if kind == "intValue" and isinstance(held, str) and held.lstrip("-").isdigit():
        return int(held)  # OTLP writes whole numbers as text
    return held if kind in ("stringValue", "boolValue", "intValue", "doubleValue", "bytesValue") else value


def _holds(event: Row) -> bool:
    return bool(_attributes_in(event.get("attributes")).keys() & {INPUT, OUTPUT})


# --- older ways to write it ---

_NUMBERED = re.compile(
    r"(?P<of>gen_ai\.prompt|gen_ai\.completion|llm\.input_messages|llm\.output_messages|llm\.request\.functions|llm\.tools)"
    r"\.(?P<place>\d{1,6})\.(?P<rest>.+)"
)
_NUMBERED_OF = {
    "gen_ai.prompt": INPUT,
    "llm.input_messages": INPUT,
    "gen_ai.completion": OUTPUT,
    "llm.output_messages": OUTPUT,
    "llm.request.functions": TOOLS,
    "llm.tools": TOOLS,
}
_ROLES_OF_EVENTS = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
    "gen_ai.choice": "assistant",
}


def _as_conventions(attributes: Row, events: Sequence[Row]) -> Row:
    """The same attributes with what older ways wrote under today's names."""
    if INPUT in attributes or OUTPUT in attributes:
        return attributes
    numbered: dict[str, dict[int, Row]] = {}
    rest: Row = {}
    for key, value in attributes.items():
        if found := _NUMBERED.fullmatch(key):
            places = numbered.setdefault(_NUMBERED_OF[found["of"]], {})
            _put(places.setdefault(int(found["place"]), {}), found["rest"].split("."), value)
        else:
            rest[key] = value
    for key, name in _NUMBERED_OF.items():
        if isinstance(rest.get(key), list):
            rest.setdefault(name, _with_thoughts([_with_parts(_unwrapped(_undotted(each))) for each in rest.pop(key)]))
    for key, places in numbered.items():
        rest.setdefault(key, _with_thoughts([_with_parts(_unwrapped(places[place])) for place in sorted(places)]))
    if not numbered:
        rest |= _messages_in_events(events)
    return rest


def _with_parts(message: Any) -> Any:
    """A message whose parts OpenLLMetry wrote as one text."""
    content = message.get("content") if isinstance(message, dict) else None
    is_nothing_beside_calls = content == "[]" and message.get("tool_calls")
    if not isinstance(content, str) or not (content.startswith('[{"type":') or is_nothing_beside_calls):
        return message
    try:
        return {**message, "content": json_to_object(content)}
    except ValueError:
        return message


def _with_thoughts(messages: list[Any]) -> list[Any]:
    """Messages with what OpenLLMetry writes as a message of the role `thinking` in the one that follows it."""
    made: list[Any] = []
    for message in messages:
        before = made[-1] if made and isinstance(made[-1], dict) and isinstance(message, dict) else {}
        if before.get("role") == "thinking" and message.get("role") == "assistant":
            made[-1] = {**message, "reasoning_content": before.get("content")}
        else:
            made.append(message)
    return made


def _undotted(value: Any) -> Any:
    """A message whose keys are called `message.role` and `tool_call.function.name`, as objects in objects."""
    if isinstance(value, list):
        return [_undotted(item) for item in value]
    if not isinstance(value, dict):
        return value
    made: Row = {}
    for key, item in value.items():
        _put(made, key.split("."), item if key.endswith("json_schema") else _undotted(item))
    return made


def _put(holder: Row, path: list[str], value: Any) -> None:
    """Write a value at a path of keys, of which numbers are places in lists (put together by `_unwrapped`)."""
    for key in path[:-1]:
        inner = holder.setdefault(key, {})
        if not isinstance(inner, dict):
            return
        holder = inner
    holder[path[-1]] = value


def _unwrapped(value: Any) -> Any:
    """What stood under numbers as a list, and without the words that OpenInference wraps each thing in."""
    if isinstance(value, list):
        return [_unwrapped(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value and all(key.isdigit() for key in value):
        return [_unwrapped(value[key]) for key in sorted(value, key=int)]
    if len(value) == 1:
        for word in ("message", "tool_call", "message_content", "tool"):
            if isinstance(value.get(word), dict):
                return _unwrapped(value[word])
        if "json_schema" in value:
            return value["json_schema"]
    made = {key: _unwrapped(item) for key, item in value.items()}
    if isinstance(made.get("contents"), list) and made.get("content") is None:
        made["content"] = made.pop("contents")
    return made


def _messages_in_events(events: Sequence[Row]) -> Row:
    """Messages of which each is an event: its body as JSON text, or as attributes."""
    asked: list[Row] = []
    answered: list[Row] = []
    for event in events:
        role = _ROLES_OF_EVENTS.get(event["name"]) if isinstance(event.get("name"), str) else None
        if role is None:
            continue
        body = _attributes_in(event.get("attributes"))
        if "gen_ai.event.content" in body:
            body = _attributes_in(body["gen_ai.event.content"])
        said = body.get("message")
        said = _attributes_in(said) if isinstance(said, dict | str) else body
        message = {key: said[key] for key in ("content", "tool_calls", "name") if said.get(key) is not None}
        message["role"] = role
        if role == "tool":
            message["tool_call_id"] = body.get("id")
        if event["name"] == "gen_ai.choice":
            answered.append({**message, "finish_reason": body.get("finish_reason")})
        else:
            asked.append(message)
    return ({INPUT: asked} if asked else {}) | ({OUTPUT: answered} if answered else {})


# --- messages ---


def _text_in(part: Row) -> Any:
    return part["content"] if part.get("content") is not None else part.get("text")


def _not_held(kind: Any) -> Unrepresentable:
    if isinstance(kind, str) and kind.startswith("server_tool_call"):
        return Unrepresentable("a call of a tool that the service runs")
    if kind == "compaction":
        return Unrepresentable("a part of the conversation that is stored elsewhere")
    if kind in ("tool_call", "tool_call_response", "reasoning", "thinking"):
        return Unrepresentable(f"a {kind} in the name of another")
    return Unrepresentable("content that is not text")


def _assistant_turn(message: Row, parts: list[Row]) -> Row:
    made = AssistantParts()
    for part in parts:
        kind = part.get("type")
        if kind == "text":
            made.speak(_text_in(part))
        elif kind in ("reasoning", "thinking"):
            made.think(_text_in(part))
        elif kind == "tool_call":
            made.call(part.get("id"), part.get("name"), part.get("arguments"))
        else:
            raise _not_held(kind)
    return made.turn(message)


def _other_turns(role: Any, parts: list[Row]) -> list[Row]:
    """Results as turns of their own, and the words between them."""
    turns: list[Row] = []
    speaker = speaker_of(role)
    for part in parts:
        kind, text = part.get("type"), _text_in(part)
        if kind == "tool_call_response" and speaker != "system":
            result = result_to_text(_first(part, "response", "result"))
            turns.append({"role": "tool", "content": result, "tool_call_id": part.get("id"), "name": part.get("name")})
        elif kind != "text" or not isinstance(text, str):
            raise _not_held(kind)
        elif turns and turns[-1]["role"] == role:
            turns[-1]["content"] += text
        else:
            turns.append({"role": role, "content": text})
    return turns or [{"role": role, "content": ""}]


_ANTHROPIC_BLOCKS = frozenset({"tool_use", "tool_result", "redacted_thinking"})


def _turns_of(message: Row) -> list[Row]:
    if message.get("parts") is None:  # as the API of the model writes it
        content = message.get("content")
        blocks = content if isinstance(content, list) else []
        is_anthropic = any(isinstance(block, dict) and block.get("type") in _ANTHROPIC_BLOCKS for block in blocks)
        return message_to_turns(message) if is_anthropic else [message]
    parts = objects_in(message["parts"], "parts") if message["parts"] != [] else []
    speaker = speaker_of(message.get("role"))
    if speaker == "assistant":
        return [_assistant_turn(message, parts)]
    if speaker == "call":
        raise unknown_role(message["role"])
    return _other_turns(message["role"], parts)


def _system_turns(value: Any) -> list[Row]:
    is_text = isinstance(value, str) and not value.lstrip().startswith(("[", "{"))
    parts = value if is_text else value_in(value, "a system prompt that is not text")
    if parts is None or parts == [] or (isinstance(parts, str) and not parts.strip()):
        return []
    if isinstance(parts, str):
        return [{"role": "system", "content": parts}]
    parts = objects_in([parts] if isinstance(parts, dict) else parts, "system instructions")
    if all("parts" in part for part in parts):  # messages in the place of parts
        return [turn for part in parts for turn in _other_turns("system", objects_in(part["parts"], "parts"))]
    return _other_turns("system", parts)


def _definitions_in(value: Any) -> Any:
    """Definitions without what they say of results, which a tool of ours has no place for."""
    tools = value_in(value, "tools are no JSON")
    if isinstance(tools, list):
        return [
            {k: v for k, v in tool.items() if k != "response"} if isinstance(tool, dict) else tool for tool in tools
        ]
    return tools


def _finish_of(span: Row, message: Row, place: int) -> Any:
    own = _first(message, "finish_reason", "finishReason")
    if own is not None:
        return own
    try:
        reasons = value_in(span.get(FINISH), "")
    except Unrepresentable:
        reasons = span[FINISH]
    return reasons[place] if isinstance(reasons, list) and place < len(reasons) else reasons


@skip_if_unrepresentable
def _answer_chat(span: Row, answer: Sequence[Row], place: int, id: str, group: str | None) -> Chat:
    finish = _finish_of(span, answer[-1], place)
    if isinstance(finish, str) and finish and finish.lower() not in _FINISHED:
        raise Unrepresentable("a reply that was cut off")
    messages = [*_messages_in(span.get(INPUT), "input messages"), *answer]
    system = _system_turns(span.get(SYSTEM))
    turns = [turn for message in messages for turn in _turns_of(message)]
    if system and turns and speaker_of(turns[0].get("role")) == "system":
        if turns[0].get("content") != system[0]["content"]:
            raise Unrepresentable("two system prompts")
        system = []
    conversation = Conversation()
    say_messages(conversation, [*system, *turns])
    return conversation.chat(id=id, tools=tools_of(_definitions_in(span.get(TOOLS))), group=group)


def _messages_in(value: Any, what: str) -> list[Row]:
    value = value_in(value, f"{what} are no JSON")
    return [] if value is None or value == [] else objects_in([value] if isinstance(value, dict) else value, what)


@skip_if_unrepresentable
def otel_genai_row(span: Row) -> Chat | Skip | list[Chat | Skip]:
    """One span, as `otel_spans` lays it out. Copied are roles, texts, thoughts, calls, results and tools; nothing else."""
    operation = span.get(OPERATION)
    given, made = span.get(INPUT), span.get(OUTPUT)
    if operation not in (None, "", *_REQUESTS) or (operation in (None, "") and given is None and made is None):
        raise Unrepresentable(NO_REQUEST)
    status = span.get("status")
    code = _first(status, "code", "status_code") if isinstance(status, dict) else status
    if code == 2 or (isinstance(code, str) and code.removeprefix("STATUS_CODE_").upper() == "ERROR"):
        raise Unrepresentable(FAILED)
    if given is None and made is None:
        raise Unrepresentable("a request whose content was not recorded")
    answers = _messages_in(made, "output messages")
    if not answers:
        raise Unrepresentable("a request without its answer")
    group = text_in(span, CONVERSATION, "traceId") or None
    own = text_in(span, "spanId") or row_id(span)
    if len(answers) == 1 or any(_is_no_answer(answer) for answer in answers):
        return _answer_chat(span, answers, 0, own, group)
    return [_answer_chat(span, [answer], n, f"{own}/{n}", group or own) for n, answer in enumerate(answers)]


def _is_no_answer(message: Row) -> bool:
    """Whether an output is the turns of a whole run, and not answers to choose from."""
    return speaker_of(message.get("role")) != "assistant"


# --- how it is recognised ---


def holds_genai(row: Row) -> bool:
    """Whether a span holds messages of a model."""
    return any(span.get(INPUT) or span.get(OUTPUT) for _, span in otel_spans(row))


ADAPTERS = (
    Adapter(
        name="otel_genai",
        kind="chat",
        function=otel_genai_row,
        columns=COLUMNS,
        is_log=True,
        spans=otel_spans,
        of_conversation=with_agents,
        matches=first_fit(
            with_content("attributes", holds=holds_genai, what="messages of gen_ai"),
            with_content("resourceSpans", holds=holds_genai, what="messages of gen_ai"),
            with_content("resource_spans", holds=holds_genai, what="messages of gen_ai"),
            with_content("context.span_id", holds=holds_genai, what="messages of gen_ai"),
            with_content("events", holds=holds_genai, what="messages of gen_ai"),
        ),
        schema="public pages",
        note="Spans, one a line or as OTLP exports; OpenLLMetry's and OpenInference's attributes, too. Those of one "
        "conversation are read together: one that another goes on with is left out.",
    ),
)
