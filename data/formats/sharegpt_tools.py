"""ShareGPT with tools, in LLaMA-Factory's and in Hermes' way of writing calls -> Chat, and back.

A row: `{"conversations": [{"from": ..., "value": ...}], "tools": ..., "system": ...}`.

* LLaMA-Factory: `function_call` turns hold the JSON of a call (or a list of calls), `observation` turns its result.
* Hermes: `gpt` turns hold `<tool_call>{...}</tool_call>` after their text, `tool` turns `<tool_response>`; a leading
  `<think>` block is the reasoning. data/formats/turns.py reads both.

A system turn may tell the tools in a `<tools>` block; they are taken where the row has no `tools`. Where that part is the
prompt that Hermes or Qwen publish, a chat template writes it by itself from the definitions, so it is cut off and what stands
before it stays. Any other system turn stays whole: it may hold rules beside the tools, such as the `<scratch_pad>` of Hermes.

Results carry no id, so they answer the open calls in order; too few or too many make the row a `Skip`.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from data.chats import Chat, Message, Skip
from data.formats.adapter import Adapter, Terms
from data.formats.parts import (
    ASSISTANT,
    CALL,
    Conversation,
    Row,
    Unrepresentable,
    list_of_objects,
    row_id,
    row_if_read_back,
    skip_if_unrepresentable,
    tools_of,
    with_columns,
    with_content,
)
from data.formats.turns import TURN_KEYS, content_of, role_of, say_messages, say_system

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


@skip_if_unrepresentable
def sharegpt_tools_row(row: Row) -> Chat:
    """One conversation. Copied are texts, calls, results, weights and function tools; nothing else."""
    conversation = Conversation()
    system = row.get("system")
    if system:
        if not isinstance(system, str):
            raise Unrepresentable("a system prompt that is not text")
        say_system(conversation, system)
    say_messages(conversation, list_of_objects(row, "conversations"))
    return conversation.chat(id=row_id(row), tools=tools_of(row.get("tools")))


def holds_sharegpt_calls(row: Row) -> bool:
    """Whether a row shows a call or a result, which plain ShareGPT does not have."""
    return any(
        role_of(turn) in (*CALL, "observation")
        or (role_of(turn) in ASSISTANT and "<tool_call>" in content_of(turn))
        or (role_of(turn) == "tool" and "<tool_response>" in content_of(turn))
        for turn in list_of_objects(row, "conversations")
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


ADAPTERS = (
    Adapter(
        name="sharegpt_tools",
        kind="chat",
        function=sharegpt_tools_row,
        columns=("conversations", "tools", "system", "id"),
        matches=with_content("conversations", holds=holds_sharegpt_calls, what="calls in turns or <tool_call>"),
        turns=("conversations",),
        turn_keys=TURN_KEYS,
        schema="real rows",
        note="LLaMA-Factory's function_call and observation turns, and Hermes' <tool_call> and <tool_response>.",
    ),
    Adapter(
        name="hermes_function_calling_v1",
        kind="chat",
        function=sharegpt_tools_row,
        columns=("conversations", "tools", "system", "id"),
        hub_id="NousResearch/hermes-function-calling-v1",
        terms=Terms(licence="apache-2.0"),
        matches=with_columns("conversations", "category", "subcategory", "task"),
        turns=("conversations",),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="The published system prompt only tells the tools and is dropped; one with rules beside them is kept whole.",
    ),
    Adapter(
        name="apigen_mt_5k",
        kind="chat",
        function=sharegpt_tools_row,
        columns=("conversations", "tools", "system"),
        hub_id="Salesforce/APIGen-MT-5k",
        terms=Terms(licence="cc-by-nc-4.0", gated=True, non_commercial=True, openai_derived=True),
        turns=("conversations",),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="Written by GPT-4o and DeepSeek-V3. In the layout of sharegpt_tools.",
    ),
)
