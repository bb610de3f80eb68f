"""What a server with OpenAI's API answers, as a turn. Servers differ, and what one of them gets wrong is one turn at worst.

A turn in another shape than the API's, or one that the server's own parser has left half read, is unreadable, and its reason
names the server: it says nothing about the model. `python -m benchmark run` counts these turns in `kpis.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.agent.episodes import SERVERS_FAULT, Heard, Turn, Unreadable
from core.chat_server import WrongShape, json_kind
from core.json_lines import json_to_object
from data.chats import Message, ToolCall
from data.records import ToolSpec
from data.rendering.call_forms.table import HERMES
from data.rendering.replies import NOTHING_SAID, Reply, breaks_off_in_call, left_call, read_reply

PARSER = SERVERS_FAULT + "parser"
_REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
"""What servers call the model's thoughts, vLLM's older and newer name first."""
_SAID, _THOUGHT = ("text", "output_text", "refusal"), ("thinking", "reasoning", "redacted_thinking")
"""Types of the parts that a content may be made of."""
_WHICH_PARSER = "is its tool parser that of the model (vLLM: --tool-call-parser)?"


def choice_to_turn(choice: Mapping[str, Any], *, tools: Sequence[ToolSpec], max_new_tokens: int) -> Turn:
    """What a server says that the model said, as a turn. Calls that it has left in the text are read there.

    Raises:
        WrongShape: if it is no message of the API.
    """
    said = choice.get("message")
    if not isinstance(said, dict):
        raise WrongShape(f"field 'choices.0.message' is {json_kind(said)}, expected an object")
    content, thoughts = _words(said.get("content"), "content")
    refusal = said.get("refusal")
    if not content and isinstance(refusal, str):
        content = refusal
    reasoning = next((text for key in _REASONING if (text := _thoughts(said.get(key)))), thoughts)
    finish = choice.get("finish_reason")
    # A broken call is told after a broken ending: a call that was cut off says nothing but that.
    calls = _calls(said)
    written = json.dumps({"content": content, "tool_calls": calls}, ensure_ascii=False) if calls else content
    if finish == "length":
        return Unreadable(written or reasoning, f"no end within {max_new_tokens} tokens")
    if calls:
        try:
            read = tuple(_call_to_message(call, place) for place, call in enumerate(calls))
        except ValueError as error:
            return Unreadable(written, str(error))
        beside = read_reply(content, own=None, is_bare_text=True).said if content.strip() else content
        if isinstance(beside, Message) and not beside.tool_calls:
            content, reasoning = beside.content, reasoning or beside.reasoning_content or ""
        return Message(role="assistant", content=content, reasoning_content=reasoning or None, tool_calls=read)
    if finish == "content_filter" and not content.strip():
        return Unreadable("", SERVERS_FAULT + "filter has stopped the answer")
    reply = read_reply(content, own=HERMES, tools=tools, is_bare_text=True)
    if isinstance(reply.said, str) and reply.said != NOTHING_SAID:
        return Unreadable(content, reply.said)
    is_call = isinstance(reply.said, Message) and bool(reply.said.tool_calls)
    if not is_call and (fault := _left_by_parser(content, reasoning, finish, tools)):
        return Unreadable(content or reasoning, fault)
    if isinstance(reply.said, str):
        return Unreadable(reasoning, reply.said)
    message = reply.said.model_copy(update={"reasoning_content": reasoning or reply.said.reasoning_content})
    return _heard(message, reply)


def _heard(message: Message, reply: Reply) -> Message:
    form = (reply.form or HERMES.name) if message.tool_calls else None
    return message if form is None else Heard(**message.model_dump(), form=f"{form}, left in the text by the server")


def _left_by_parser(content: str, reasoning: str, finish: object, tools: Sequence[ToolSpec]) -> str | None:
    """Why a turn without calls should have held one, so far as it shows."""
    for text, where in ((reasoning, "reasoning"), (content, "text")):
        ends = text.rstrip()
        form = left_call(text, tools)
        if form is not None and (where == "text" or not content.strip() or ends.endswith((">", "]", "}", "|"))):
            return f"{PARSER} has left a call in the {where} ({form}); {_WHICH_PARSER}"
        if (where == "text" or not content.strip()) and breaks_off_in_call(text):
            return f"{PARSER} has left half a call in the {where}; {_WHICH_PARSER}"
    if finish in ("tool_calls", "function_call"):
        return f"{PARSER} has found a call, says finish_reason, and gives none; {_WHICH_PARSER}"
    return None


def _words(value: object, field: str) -> tuple[str, str]:
    """Words and thoughts of a content: a text, or parts of several kinds.

    Raises:
        WrongShape: if it is something else.
    """
    if value is None:
        return "", ""
    if isinstance(value, str):
        return value, ""
    if not isinstance(value, list):
        raise WrongShape(f"field '{field}' is {json_kind(value)}, expected a text")
    words, thoughts = [], []
    for part in value:
        if isinstance(part, str):
            words.append(part)
            continue
        kind = part.get("type", "text") if isinstance(part, dict) else json_kind(part)
        if not isinstance(part, dict) or kind not in (*_SAID, *_THOUGHT):
            raise WrongShape(f"field '{field}' holds a part of the type {kind!r:.40}, expected text")
        if kind in _SAID:
            text = part.get("text", part.get("refusal"))
            if not isinstance(text, str):
                raise WrongShape(f"a part of field '{field}' is {json_kind(text)}, expected a text")
            words.append(text)
        else:
            thoughts.append(
                _thoughts(part.get("thinking", part.get("reasoning", part.get("text", part.get("summary")))))
            )
    return "".join(words), "".join(thoughts)


def _thoughts(value: object) -> str:
    """Thoughts, in whatever shape; what is none of them is left out."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return next(
            (text for key in ("text", "thinking", "content", "summary") if (text := _thoughts(value.get(key)))), ""
        )
    return "".join(map(_thoughts, value)) if isinstance(value, list) else ""


def _calls(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The functions that are called.

    Raises:
        WrongShape: if they do not stand as the API says.
    """
    calls = said.get("tool_calls")
    if not calls and isinstance(said.get("function_call"), dict):  # the API of 2023
        return [said["function_call"]]
    if calls is None:
        return []
    if not isinstance(calls, list):
        raise WrongShape(f"field 'tool_calls' is {json_kind(calls)}, expected a list")
    functions = []
    for call in calls:
        function = call.get("function", call) if isinstance(call, dict) else call
        if not isinstance(function, dict):
            raise WrongShape(f"a call of field 'tool_calls' is {json_kind(function)}, expected an object")
        functions.append({"name": function.get("name"), "arguments": function.get("arguments")})
    return functions


def _call_to_message(call: Mapping[str, Any], place: int) -> ToolCall:
    name, arguments = call["name"], call["arguments"]
    if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
        arguments = {}
    try:
        arguments = json_to_object(arguments if isinstance(arguments, str) else json.dumps(arguments))
    except ValueError as error:
        raise ValueError(f"the call's arguments are {error}") from None
    if not isinstance(arguments, dict):
        raise ValueError("the call's arguments are not a JSON object")
    if not isinstance(name, str) or not name:
        raise ValueError("the call has no name")
    return ToolCall(id=f"call_{place}", name=name, arguments=arguments)
