"""ShareGPT with tools, in LLaMA-Factory's and in Hermes' way of writing calls -> Chat, and back.

A row: `{"conversations": [{"from": ..., "value": ...}], "tools": ..., "system": ...}`.

* LLaMA-Factory: `function_call` turns hold the JSON of a call (or a list of calls), `observation` turns its result.
* Hermes: `gpt` turns hold `<tool_call>{...}</tool_call>` after their text, `tool` turns `<tool_response>`; a leading
  `<think>` block is the reasoning.

A system turn may tell the tools in a `<tools>` block; they are taken where the row has no `tools`. Where that part is the
prompt that Hermes or Qwen publish, a chat template writes it by itself from the definitions, so it is cut off and what stands
before it stays. Any other system turn stays whole: it may hold rules beside the tools, such as the `<scratch_pad>` of Hermes.

Results carry no id, so they answer the open calls in order; too few or too many make the row a `Skip`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from data.adapters.parts import (
    Conversation,
    Row,
    Unrepresentable,
    arguments_of,
    list_of_objects,
    row_id,
    row_if_read_back,
    skip_if_unrepresentable,
    text_to_object,
    tools_of,
    weight_of,
)
from data.adapters.row_keys import WEIGHT_KEYS
from data.chats import Chat, Message, Skip

USER, ASSISTANT = ("human", "user", "prompter"), ("gpt", "assistant", "model", "chatgpt", "bot")
RESULT = ("observation", "tool", "function", "ipython", "tool_response", "function_response", "environment")
CALL = ("function_call", "tool_call")
TURN_KEYS = frozenset({"from", "value", *WEIGHT_KEYS})

# One line break on the inner side of a tag belongs to the tag: that is how templates write them, and what makes reading
# the exact inverse of writing.
_THINK = re.compile(r"\A<think>\n?(.*?)\n?</think>\n{0,2}", re.DOTALL)
_CALL = re.compile(r"\n?<tool_call>(.*?)</tool_call>", re.DOTALL)
_RESPONSE = re.compile(r"<tool_response>\n?(.*?)\n?</tool_response>", re.DOTALL)
_TOOLS = re.compile(r"<tools>\s*([\[{].*?)\s*</tools>", re.DOTALL)
_PUBLISHED_PROMPTS = (
    re.compile(
        r"You are a function calling AI model\.(?!.*<scratch_pad>).*<tools>.*</tools>[.\s]*"
        r"(?:Use the following pydantic model|For each function call).*(?:</tool_call>|tags\.)\s*\Z",
        re.DOTALL,
    ),
    re.compile(r"# Tools\s+You may call one or more functions.*<tools>.*</tool_call>\s*\Z", re.DOTALL),
    re.compile(r"\A\s*<tools>.*</tools>\s*\Z", re.DOTALL),
)
_HERMES_PROMPT = """You are a function calling AI model. You are provided with function signatures within <tools></tools> \
XML tags. You may call one or more functions to assist with the user query. Don't make assumptions about what values to plug \
into functions. Here are the available tools:
<tools>
{tools}
</tools>
For each function call return a JSON object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-dict>}}
</tool_call>"""

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
    called = [_object_of(call) for call in calls]  # APIGen writes one block with a list of calls
    return (
        reasoning,
        content,
        [_call_of(c) for block in called for c in (block if isinstance(block, list) else [block])],
    )


def _split_results(value: str) -> list[str]:
    """The results of one turn: one per `<tool_response>`, or the whole value."""
    if "<tool_response>" not in value:
        return [value]
    if _RESPONSE.sub("", value).strip():
        raise Unrepresentable("text beside a <tool_response>")
    return _RESPONSE.findall(value)


def _system_and_tools(text: str) -> tuple[str | None, Any]:
    """What a system turn says beside the published tool prompts (null where that is nothing), and the definitions in its
    `<tools>` block: a list, or one object a line."""
    block = _TOOLS.search(text)
    if block is None:
        return text, None
    tools = block[1] if block[1].startswith("[") else block[1].splitlines()
    for prompt in _PUBLISHED_PROMPTS:
        if found := prompt.search(text):
            return (text[: found.start()].removesuffix("\n\n") if found.start() else None), tools
    return text, tools


@skip_if_unrepresentable
def sharegpt_tools_row(row: Row) -> Chat:
    """One conversation. Copied are texts, calls, results, weights and function tools; nothing else."""
    tools = tools_of(row.get("tools"))
    conversation = Conversation()

    def set_system(text: Any) -> None:
        nonlocal tools
        if not isinstance(text, str):
            raise Unrepresentable("a value that is not text")
        said, written = _system_and_tools(text)
        if said is not None:
            conversation.say("system", said)
        elif conversation.messages:
            raise Unrepresentable("a system message that is not the first")
        if written is not None and not tools:
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
        elif role in CALL:
            called = _object_of(value)
            for call in called if isinstance(called, list) else [called]:
                conversation.call_too(*_call_of(call), weight=weight_of(turn))
        else:
            raise Unrepresentable("an unknown role")
    if not conversation.messages:
        raise Unrepresentable("nothing is said")
    return Chat(messages=tuple(conversation.messages), tools=tools, id=row_id(row), source="")


def holds_sharegpt_calls(row: Row) -> bool:
    """Whether a row shows a call or a result, which plain ShareGPT does not have."""
    return any(
        turn["from"] in (*CALL, "observation")
        or (turn["from"] in ASSISTANT and "<tool_call>" in turn["value"])
        or (turn["from"] == "tool" and "<tool_response>" in turn["value"])
        for turn in row["conversations"]
    )


def _write(chat: Chat, turns_of: Callable[[Message], list[Row]], system: str | None) -> Row | Skip:
    """The row of a chat, or a Skip where reading it back would give another chat."""
    turns: list[Row] = [] if system is None else [{"from": "system", "value": system}]
    open_ids: list[str] = []
    for message in chat.messages:
        if message.role == "tool":
            if message.tool_call_id != open_ids.pop(0):
                return Skip("results in another order than their calls")
        elif message.role == "assistant":
            open_ids = [call.id for call in message.tool_calls]
        turns += turns_of(message)
    row: Row = {"id": chat.id, "conversations": turns}
    if chat.tools:
        row["tools"] = json.dumps([tool.model_dump() for tool in chat.tools], ensure_ascii=False)
    return row_if_read_back(row, sharegpt_tools_row, chat)


def _turn(role: str, value: str, weight: float | None = None) -> Row:
    turn: Row = {"from": role, "value": value}
    return turn if weight is None else {**turn, "weight": weight}


def _with_thought(message: Message, value: str) -> str:
    if message.reasoning_content is None:
        return value
    return f"<think>\n{message.reasoning_content}\n</think>\n\n{value}"


def _hermes_turns(message: Message) -> list[Row]:
    if message.role == "tool":
        return [_turn("tool", f"<tool_response>\n{message.content}\n</tool_response>")]
    if message.role != "assistant":
        return [] if message.role == "system" else [_turn("human", message.content)]
    value = message.content
    for call in message.tool_calls:
        written = json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
        value += ("\n" if value else "") + f"<tool_call>\n{written}\n</tool_call>"
    return [_turn("gpt", _with_thought(message, value), message.weight)]


def chat_to_hermes_row(chat: Chat) -> Row | Skip:
    """A chat as Hermes function calling v1 writes it: tools in the system turn, calls in `<tool_call>`.

    A Skip where reading it back would give another chat: for a text that holds the format's own tags, and for results in
    another order than their calls.
    """
    parts = [message.content for message in chat.messages[:1] if message.role == "system"]
    if chat.tools:
        tools = json.dumps([tool.model_dump() for tool in chat.tools], ensure_ascii=False)
        parts.append(_HERMES_PROMPT.format(tools=tools))
    return _write(chat, _hermes_turns, "\n\n".join(parts) if parts else None)


def _sharegpt_turns(message: Message) -> list[Row]:
    if message.role == "tool":
        return [_turn("observation", message.content)]
    if message.role != "assistant":
        return [_turn("system" if message.role == "system" else "human", message.content)]
    turns = []
    value = _with_thought(message, message.content)
    if value or not message.tool_calls:
        turns.append(_turn("gpt", value, message.weight))
    if message.tool_calls:
        calls = [{"name": call.name, "arguments": call.arguments} for call in message.tool_calls]
        written = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
        turns.append(_turn("function_call", written, message.weight))
    return turns


def chat_to_sharegpt_row(chat: Chat) -> Row | Skip:
    """A chat as LLaMA-Factory writes it: a call, or a list of parallel calls, is a `function_call` turn after its words.

    A Skip where reading it back would give another chat: for a text that holds the format's own tags, for results in another
    order than their calls, and for a call that follows words of an earlier turn of the assistant.
    """
    return _write(chat, _sharegpt_turns, None)
