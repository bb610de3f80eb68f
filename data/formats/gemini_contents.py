"""Google's Gemini API: requests, and files to tune its models -> Chat.

A row: `{"systemInstruction", "contents", "tools"}`, each key also in snake case, or `{"request", "response"}` with these in the
request and `candidates` in the response, of which each is a chat and all are one group.

A content is `{"role": "user" | "model", "parts": [...]}`, a part one of `text` (with `thought`: what was thought),
`functionCall` with `name`, `args` and perhaps `id`, and `functionResponse` with `name` and `response`, an object that
becomes its JSON text. Without ids a result answers the open call of its name; calls of one name are answered in their
order. Types of parameters are written in capitals and become JSON Schema. Thought signatures are not copied; pictures,
files, code that the service runs and its own tools leave the row out.
"""

from __future__ import annotations

import json
from typing import Any

from data.chats import Chat, Skip
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
    tools_of,
    value_in,
    with_content,
)
from data.formats.row_keys import WEIGHT_KEYS
from data.formats.turns import AssistantParts, say_messages
from data.records import ToolSpec

CONTENT_KEYS = frozenset({"role", "parts", *WEIGHT_KEYS})
_PART = ("text", "functionCall", "functionResponse")
_NOT_HELD = {
    "executableCode": "a call of a tool that the service runs",
    "codeExecutionResult": "a call of a tool that the service runs",
}
_SPELLINGS = {
    "functionCall": "function_call",
    "functionResponse": "function_response",
    "executableCode": "executable_code",
    "codeExecutionResult": "code_execution_result",
    "systemInstruction": "system_instruction",
    "functionDeclarations": "function_declarations",
    "finishReason": "finish_reason",
    "responseId": "response_id",
    "parametersJsonSchema": "parameters_json_schema",
}


def _get(value: Row, key: str) -> Any:
    return value[key] if value.get(key) is not None else value.get(_SPELLINGS.get(key, key))


def _part_in(part: Row) -> tuple[str, Any]:
    """What a part is, and what it holds."""
    for key, reason in _NOT_HELD.items():
        if _get(part, key) is not None:
            raise Unrepresentable(reason)
    kinds = [(kind, _get(part, kind)) for kind in _PART if _get(part, kind) is not None]
    if len(kinds) != 1:
        raise Unrepresentable("content that is not text" if not kinds else "a part that is two things")
    kind, value = kinds[0]
    if not isinstance(value, str if kind == "text" else dict):
        raise Unrepresentable("content that is not text" if kind == "text" else f"a {kind} that is no object")
    return kind, value


def _parts_of(content: Row) -> list[tuple[Row, str, Any]]:
    parts = content.get("parts")
    if parts is None:
        raise Unrepresentable("a message without content")
    if isinstance(parts, str):
        parts = [{"text": parts}]
    if isinstance(parts, dict):
        parts = [parts]
    return [(part, *_part_in(part)) for part in (objects_in(parts, "parts") if parts != [] else [])]


def _model_turn(content: Row) -> Row:
    made = AssistantParts()
    for part, kind, value in _parts_of(content):
        if kind == "text" and part.get("thought"):
            made.think(value)
        elif kind == "text":
            made.speak(value)
        elif kind == "functionCall":
            made.call(value.get("id"), value.get("name"), value.get("args"))
        else:
            raise Unrepresentable("a result in the name of another")
    return made.turn(content)


def _user_turns(content: Row) -> list[Row]:
    turns: list[Row] = []
    for _, kind, value in _parts_of(content):
        if kind == "functionResponse":
            if value.get("parts"):
                raise Unrepresentable("content that is not text")
            response = value.get("response")
            text = response if isinstance(response, str) else json.dumps(response or {}, ensure_ascii=False)
            turns.append({
                "role": "tool", "content": text, "tool_call_id": value.get("id"), "name": value.get("name"),
            })  # fmt: skip
        elif kind != "text":
            raise Unrepresentable("a call in the name of another")
        elif turns and turns[-1]["role"] == "user":
            turns[-1]["content"] += value
        else:
            turns.append({"role": "user", "content": value})
    return turns or [{"role": "user", "content": ""}]


def _system_text(instruction: Any) -> str:
    if instruction is None or isinstance(instruction, str):
        return instruction or ""
    if not isinstance(instruction, dict):
        raise Unrepresentable("a system prompt that is not text")
    parts = _parts_of(instruction)
    if any(kind != "text" for _, kind, _ in parts):
        raise Unrepresentable("a system prompt that is not text")
    return "".join(value for _, _, value in parts)


def _tools_of(value: Any) -> tuple[ToolSpec, ...]:
    value = value_in(value, "tools are no JSON")
    if value is None or value == [] or value == {}:
        return ()
    declared: list[Row] = []
    for tool in objects_in([value] if isinstance(value, dict) else value, "tools"):
        functions = _get(tool, "functionDeclarations")
        if functions is None:
            raise Unrepresentable("a tool that is no named function")
        for function in objects_in(functions, "function declarations") if functions != [] else []:
            schema = next(
                (found for key in ("parameters", "parametersJsonSchema") if (found := _get(function, key))), None
            )
            declared.append({"name": function.get("name"), "description": function.get("description")})
            declared[-1] |= {} if schema is None else {"parameters": schema}
    return tools_of(declared)


def _chat(request: Row, contents: list[Row], id: str, group: str | None = None) -> Chat:
    conversation = Conversation()
    system = _system_text(_get(request, "systemInstruction"))
    turns: list[Row] = [{"role": "system", "content": system}] if system.strip() else []
    for content in contents:
        # Without a role the user speaks, as the API has it.
        speaker = speaker_of(content["role"] if content.get("role") is not None else "user")
        if speaker == "assistant":
            turns.append(_model_turn(content))
        elif speaker in ("user", "result"):
            turns += _user_turns(content)
        else:
            raise Unrepresentable("a system message that is not the first")
    say_messages(conversation, turns)
    return conversation.chat(id=id, tools=_tools_of(request.get("tools")), group=group)


@skip_if_unrepresentable
def _candidate_chat(request: Row, candidate: Row, id: str, group: str | None) -> Chat:
    if _get(candidate, "finishReason") not in (None, "", "STOP"):
        raise Unrepresentable("a reply that was cut off")
    content = candidate.get("content")
    if not isinstance(content, dict):
        raise Unrepresentable("a message without content")
    return _chat(request, [*list_of_objects(request, "contents"), {"role": "model", **content}], id, group)


@skip_if_unrepresentable
def gemini_contents_row(row: Row) -> Chat | list[Chat | Skip] | Skip:
    """One request. Copied are roles, texts, thoughts, calls, results and declared functions; nothing else."""
    if row.get("contents") is not None:
        return _chat(row, list_of_objects(row, "contents"), row_id(row))
    request, response = request_and_response(row)
    if response.get("error"):
        raise Unrepresentable("a request that failed")
    candidates = objects_in(response.get("candidates"), "candidates")
    own = row_id({**row, "id": row.get("id") or _get(response, "responseId")})
    if len(candidates) == 1:
        return _candidate_chat(request, candidates[0], own, None)
    return [_candidate_chat(request, candidate, f"{own}/{n}", own) for n, candidate in enumerate(candidates)]


def holds_gemini_parts(row: Row) -> bool:
    """Whether the contents are lists of parts."""
    return bool(row["contents"]) and all(isinstance(content["parts"], list) for content in row["contents"])


def holds_candidates(row: Row) -> bool:
    """Whether a request stands beside a response of this API."""
    request, response = request_and_response(row)
    return isinstance(request["contents"], list) and isinstance(response["candidates"], list)


ADAPTERS = (
    Adapter(
        name="gemini_contents",
        kind="chat",
        function=gemini_contents_row,
        columns=("systemInstruction", "system_instruction", "contents", "tools", "request", "response", "id"),
        matches=first_fit(
            with_content("contents", holds=holds_gemini_parts, what="contents of parts"),
            with_content("request", "response", holds=holds_candidates, what="candidates in the response"),
        ),
        turns=("contents",),
        turn_keys=CONTENT_KEYS,
        schema="recalled",
        note="Requests of the Gemini API, and files to tune its models. Results become their JSON text.",
    ),
)
