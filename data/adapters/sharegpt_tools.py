"""ShareGPT with tools, in LLaMA-Factory's and in Hermes' way of writing calls -> Chat, and back.

A row: `{"conversations": [{"from": ..., "value": ...}], "tools": ..., "system": ...}`.

* LLaMA-Factory: `function_call` turns hold the JSON of a call (or a list of calls), `observation` turns its result.
* Hermes: `gpt` turns hold `<tool_call>{...}</tool_call>` after their text, `tool` turns `<tool_response>`; a leading
  `<think>` block is the reasoning. A system turn with a `<tools>` block is the prompt that a chat template writes by
  itself from the definitions: it is left out, and its tools are taken where the row has no `tools`.

Results carry no id, so they answer the open calls in order; too few or too many make the row a `Skip`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from data.adapters.parts import (
    Conversation,
    Row,
    Unrepresentable,
    arguments_of,
    list_of_objects,
    row_id,
    skip_if_unrepresentable,
    text_to_object,
    tools_of,
    weight_of,
)
from data.chats import Chat, Message, Skip

SOURCE = "sharegpt_tools"

USER, ASSISTANT = ("human", "user"), ("gpt", "assistant")
RESULT = ("observation", "tool", "function")

# One line break on the inner side of a tag belongs to the tag: that is how templates write them, and what makes reading
# the exact inverse of writing.
_THINK = re.compile(r"\A<think>\n?(.*?)\n?</think>\n{0,2}", re.DOTALL)
_CALL = re.compile(r"\n?<tool_call>(.*?)</tool_call>", re.DOTALL)
_RESPONSE = re.compile(r"<tool_response>\n?(.*?)\n?</tool_response>", re.DOTALL)
_TOOLS = re.compile(r"<tools>\s*([\[{].*?)\s*</tools>", re.DOTALL)

Call = tuple[str, dict[str, Any]]


def _call_of(value: Any) -> Call:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        raise Unrepresentable("a call without a name")
    if "arguments" not in value:
        raise Unrepresentable("a call without arguments")
    return value["name"], arguments_of(value["arguments"])


def _object_of(text: str) -> Any:
    try:
        return text_to_object(text)
    except ValueError:
        raise Unrepresentable("a call that is no JSON") from None


def _split_assistant(value: str) -> tuple[str | None, str, list[Call]]:
    """Reasoning, content and calls of one `gpt` value."""
    reasoning = None
    if thought := _THINK.match(value):
        reasoning, value = thought[1], value[thought.end() :]
    elif value.startswith("<think>"):
        raise Unrepresentable("a <think> block without an end")
    parts = _CALL.split(value)  # content, call, between, call, between ...
    content, calls, between = parts[0], parts[1::2], parts[2::2]
    if any(tag in text for text in (content, *between) for tag in ("<tool_call>", "</tool_call>")):
        raise Unrepresentable("a <tool_call> block without an end")
    if any(text.strip() for text in between):
        raise Unrepresentable("text after a call")
    return reasoning, content, [_call_of(_object_of(call)) for call in calls]


def _split_results(value: str) -> list[str]:
    """The results of one turn: one per `<tool_response>`, or the whole value."""
    if "<tool_response>" not in value:
        return [value]
    if _RESPONSE.sub("", value).strip():
        raise Unrepresentable("text beside a <tool_response>")
    return _RESPONSE.findall(value)


def _tools_of_prompt(text: str) -> Any:
    """The definitions inside a `<tools>` block: a list, or one object a line."""
    block = _TOOLS.search(text)
    if block is None:
        return None
    return block[1] if block[1].startswith("[") else block[1].splitlines()


@skip_if_unrepresentable
def sharegpt_tools_row(row: Row) -> Chat:
    """One conversation. Copied are texts, calls, results, weights and function tools; nothing else."""
    tools = tools_of(row.get("tools"))
    conversation = Conversation()

    def set_system(text: Any) -> None:
        nonlocal tools
        if not isinstance(text, str):
            raise Unrepresentable("a value that is not text")
        written = _tools_of_prompt(text)
        if written is None:
            conversation.say("system", text)
        elif conversation.messages:
            raise Unrepresentable("a system message that is not the first")
        elif not tools:
            tools = tools_of(written)

    if row.get("system"):
        set_system(row["system"])
    for turn in list_of_objects(row, "conversations"):
        role, value = turn.get("from"), turn.get("value")
        if not isinstance(value, str):
            raise Unrepresentable("a value that is not text")
        if role in RESULT:
            results = _split_results(value)
            for result in results:
                conversation.answer(result, in_order=True)
        elif role == "system":
            set_system(value)
        elif role in USER:
            conversation.say("user", value)
        elif role in ASSISTANT:
            reasoning, content, calls = _split_assistant(value)
            numbered = [(None, name, arguments) for name, arguments in calls]
            conversation.say("assistant", content, weight=weight_of(turn), reasoning=reasoning, calls=numbered)
        elif role == "function_call":
            called = _object_of(value)
            for call in called if isinstance(called, list) else [called]:
                conversation.call_too(*_call_of(call), weight=weight_of(turn))
        else:
            raise Unrepresentable("an unknown role")
    if not conversation.messages:
        raise Unrepresentable("nothing is said")
    return Chat(messages=tuple(conversation.messages), tools=tools, id=row_id(row), source=SOURCE)


def chat_to_sharegpt_row(chat: Chat) -> Row | Skip:
    """A chat in Hermes' way of writing; a Skip where reading it back would give another chat.

    That is so for a text that holds the format's own tags, and for results in another order than their calls.
    """
    turns: list[Row] = []
    open_ids: list[str] = []
    for message in chat.messages:
        if message.role == "tool":
            if message.tool_call_id != open_ids.pop(0):
                return Skip("results in another order than their calls")
            turns.append({"from": "tool", "value": f"<tool_response>\n{message.content}\n</tool_response>"})
        elif message.role == "assistant":
            open_ids = [call.id for call in message.tool_calls]
            turn: Row = {"from": "gpt", "value": _assistant_value(message)}
            if message.weight is not None:
                turn["weight"] = message.weight
            turns.append(turn)
        else:
            turns.append({"from": "system" if message.role == "system" else "human", "value": message.content})
    row: Row = {"conversations": turns}
    if chat.tools:
        row["tools"] = json.dumps([tool.function.model_dump() for tool in chat.tools], ensure_ascii=False)
    back = sharegpt_tools_row(row)
    if isinstance(back, Skip) or _said(back) != _said(chat):
        return Skip("a text that holds the format's own tags")
    return row


def _said(chat: Chat) -> list[Any]:
    return [
        (m.role, m.content, m.reasoning_content, m.weight, [(call.name, call.arguments) for call in m.tool_calls])
        for m in chat.messages
    ]


def _assistant_value(message: Message) -> str:
    value = message.content
    for call in message.tool_calls:
        written = json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
        value += ("\n" if value else "") + f"<tool_call>\n{written}\n</tool_call>"
    if message.reasoning_content is not None:
        value = f"<think>\n{message.reasoning_content}\n</think>\n\n{value}"
    return value
