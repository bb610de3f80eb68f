"""Glaive function calling v2: two columns of text -> Chat, and back.

`system` holds "SYSTEM: ..." with the definitions of the functions one after the other, `chat` the whole transcript:

    USER: ...

    ASSISTANT: <functioncall> {"name": "f", "arguments": '{"a": 1}'} <|endoftext|>

    FUNCTION RESPONSE: {"b": 2}

The arguments stand in single quotes, which is neither JSON nor Python where the text in them has line breaks, so they are
read by their own rule. A role's name starts a turn only after an empty line, a stop token or at the start; where it starts a
line otherwise, nobody can tell a turn from a text, and the row is left out. The system text that only announces the
functions is dropped, because chat templates write it from the definitions.
"""

from __future__ import annotations

import json
import re
from typing import Any

from data.chats import Chat, Skip
from data.formats.adapter import Adapter, Terms
from data.formats.parts import (
    Conversation,
    Row,
    Unrepresentable,
    arguments_of,
    row_id,
    row_if_read_back,
    skip_if_unrepresentable,
    text_to_object,
    tools_of,
    with_columns,
)

_ROLES = "USER|ASSISTANT|FUNCTION RESPONSE"
_TURN = re.compile(rf"(?:\A\s*|<\|endoftext\|>\s*|\n[ \t]*\n\s*)({_ROLES}):")
_ROLE_IN_TEXT = re.compile(rf"^\s*(?:{_ROLES}):", re.MULTILINE)
_ANNOUNCEMENT = re.compile(
    r"you are an? helpful assistant,? (?:with access|who has access) to the following functions[^\n{]*-?\s*\Z",
    re.IGNORECASE,
)
_QUOTED_ARGUMENTS = re.compile(r"""\A(\{.*"arguments"\s*:\s*)'(.*)'\s*\}\s*\Z""", re.DOTALL)


def _system_and_tools(text: str) -> tuple[str | None, list[Any]]:
    """What the system turn says beside the functions (null where it only announces them), and the functions."""
    text = text.strip().removeprefix("SYSTEM:").strip()
    start = text.find("{")
    if start < 0:
        return text or None, []
    said, rest = text[:start], text[start:]
    decoder, functions = json.JSONDecoder(), []
    while rest:
        try:
            _, end = decoder.raw_decode(rest)
            functions.append(text_to_object(rest[:end]))
        except ValueError:
            raise Unrepresentable("tools are no JSON") from None
        rest = rest[end:].lstrip()
        if rest and not rest.startswith("{"):
            raise Unrepresentable("text after the tools")
    return (None if _ANNOUNCEMENT.fullmatch(said.strip()) else text), functions


def _call_of(text: str) -> tuple[str, dict[str, Any]]:
    quoted = _QUOTED_ARGUMENTS.match(text)
    try:
        call = text_to_object(f"{quoted[1]}{{}}}}" if quoted else text)
    except ValueError:
        raise Unrepresentable("a call that is no JSON") from None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise Unrepresentable("a call without a name")
    if quoted:
        return call["name"], arguments_of(quoted[2].replace("\\'", "'"))
    return call["name"], arguments_of(call.get("arguments", {}))


@skip_if_unrepresentable
def glaive_v2_row(row: Row) -> Chat:
    """One transcript."""
    system, chat = row.get("system"), row.get("chat")
    if not isinstance(chat, str) or not isinstance(system, str | None):
        raise Unrepresentable("columns 'system' and 'chat' are no texts")
    said, functions = _system_and_tools(system or "")
    conversation = Conversation()
    if said is not None:
        conversation.say("system", said)
    before, *parts = _TURN.split(chat)
    if before.strip() or not parts:
        raise Unrepresentable("a transcript that starts with no role")
    for role, text in zip(parts[::2], parts[1::2], strict=True):
        text = text.strip().removesuffix("<|endoftext|>").strip()
        if _ROLE_IN_TEXT.search(text) or "<|endoftext|>" in text:
            raise Unrepresentable("a role's name inside a text")
        if role == "USER":
            conversation.say("user", text)
        elif role == "FUNCTION RESPONSE":
            conversation.answer(text)
        else:
            content, *calls = text.split("<functioncall>")
            conversation.say("assistant", content.strip(), calls=[(None, *_call_of(call.strip())) for call in calls])
    return conversation.chat(id=row_id(row), tools=tools_of(functions))


def chat_to_glaive_row(chat: Chat) -> Row | Skip:
    """A chat as a transcript; a Skip where reading it back would give another chat.

    A transcript holds no reasoning and no weights, one call a turn, and a system text or tools but not both; a text in it
    has no open space at its ends, no role's name and no stop token.
    """
    first = chat.messages[0]
    announced = "You are a helpful assistant with access to the following functions. Use them if required -"
    system = f"SYSTEM: {first.content if first.role == 'system' else announced if chat.tools else ''}\n"
    tools = [json.dumps(tool.function.model_dump(), indent=4, ensure_ascii=False) for tool in chat.tools]
    turns = []
    for message in chat.messages:
        if message.role == "tool":
            turns.append(f"FUNCTION RESPONSE: {message.content}")
        elif message.role == "user":
            turns.append(f"USER: {message.content}")
        elif message.role == "assistant":
            words = [message.content] if message.content else []
            for call in message.tool_calls:
                arguments = json.dumps(call.arguments, ensure_ascii=False).replace("'", "\\'")
                name = json.dumps(call.name, ensure_ascii=False)
                words.append(f'<functioncall> {{"name": {name}, "arguments": \'{arguments}\'}}')
            turns.append(f"ASSISTANT: {' '.join([*words, '<|endoftext|>'])}")
    row: Row = {"system": system + "\n\n".join(tools), "chat": "\n\n\n".join(turns)}
    return row_if_read_back(row, glaive_v2_row, chat)


ADAPTERS = (
    Adapter(
        name="glaive_function_calling_v2",
        kind="chat",
        function=glaive_v2_row,
        columns=("system", "chat"),
        hub_id="glaiveai/glaive-function-calling-v2",
        terms=Terms(licence="apache-2.0"),
        matches=with_columns("system", "chat"),
        schema="public pages",
        note="Transcripts as text; rows in which a role's name stands inside a text are left out.",
    ),
)
