"""ToolACE: tools in the system prompt, calls as `[Name(argument="value"), Other(n=1)]` -> Chat.

A row: `{"system", "conversations": [{"from": "user" | "assistant" | "tool", "value"}]}`. Names of functions may hold spaces,
dots and slashes, so the brackets are read by hand and only the arguments as Python.

The system prompt tells which tools there are and how to write a call in brackets. That is what chat templates write in their
own way, so where it is the published prompt its tools become the chat's, and of its text only what follows it is kept; another
text is kept as it is, tools included.

Several calls in one list are parallel calls, and the following `tool` turn holds the results of all of them as one JSON list
in the order of the calls. Where it does not (another number, other names), the row is left out.
"""

from __future__ import annotations

import json
import re
from typing import Any

from data.chats import Chat
from data.formats.adapter import Adapter, Terms
from data.formats.parts import (
    Conversation,
    Row,
    Unrepresentable,
    list_of_objects,
    row_id,
    skip_if_unrepresentable,
    text_to_object,
    tools_of,
    unknown_role,
    with_content,
)
from data.formats.python_calls import bracket_calls

_TOOLS_START = re.compile(r"functions? (?:in JSON format )?that you can (?:invoke|use)[^\[]*(?=\[)", re.IGNORECASE)
_PROMPT = re.compile(
    r"\s*You are an expert in composing functions\. You are given a question and a set of possible functions\.\s*"
    r"Based on the question, you will need to make one or more function/tool calls to achieve the purpose\.\s*"
    r"If none of the functions? can be used, point it out\.\s*"
    r"If the given question lacks the parameters required by the function,\s*also point it out\.\s*"
    r"(?:You should only return the function call in tools call sections\.\s*)?"
    r"Here is a list of functions in JSON format that you can (?:invoke|use):\s*"
)
_FORMAT = re.compile(
    r"\.?\s*Should you decide to return the function call\(s\)\.\s*"
    r"Put it in the format of \[func1\(params_name=params_value[^\]]*\]\s*NO other text MUST be included\.\s*"
)


def _looks_like_a_call(text: str) -> bool:
    return re.match(r"\s*\[[^\[\](){}\"'\n]+\(", text) is not None


def _system_and_tools(text: str) -> tuple[str | None, Any]:
    """What the system text says beside the published prompt (null where that is nothing), and the tools in it."""
    found = _TOOLS_START.search(text)
    if found is None:
        return text, None
    try:
        _, end = json.JSONDecoder().raw_decode(text, found.end())
    except ValueError:
        raise Unrepresentable("tools are no JSON") from None
    said, after = _PROMPT.fullmatch(text, 0, found.end()), _FORMAT.match(text, end)
    if said is None or after is None:
        return text, text[found.end() : end]
    return text[after.end() :].strip() or None, text[found.end() : end]


def _results_of(value: str, names: list[str]) -> list[str]:
    """The results of one `tool` turn for the calls of these names."""
    if len(names) == 1:
        return [value]
    try:
        results = text_to_object(value)
    except ValueError:
        raise Unrepresentable("results that do not say which call they answer") from None
    if not isinstance(results, list) or len(results) != len(names):
        raise Unrepresentable("results that do not say which call they answer")
    told = [result.get("name") if isinstance(result, dict) else None for result in results]
    if any(name is not None and name != call for name, call in zip(told, names, strict=True)):
        raise Unrepresentable("a result under another tool's name")
    return [json.dumps(result, ensure_ascii=False) for result in results]


@skip_if_unrepresentable
def toolace_row(row: Row) -> Chat:
    """One conversation."""
    conversation = Conversation()
    tools: Any = None
    if isinstance(row.get("system"), str) and row["system"].strip():
        said, tools = _system_and_tools(row["system"])
        if said is not None:
            conversation.say("system", said)
    for turn in list_of_objects(row, "conversations"):
        role, value = turn.get("from"), turn.get("value")
        if not isinstance(value, str):
            raise Unrepresentable("a value that is not text")
        if role in ("user", "human"):
            conversation.say("user", value)
        elif role == "tool":
            last = conversation.messages[-1] if conversation.messages else None
            if last is None or not last.tool_calls:
                raise Unrepresentable("a result without its call")
            for result in _results_of(value, [call.name for call in last.tool_calls]):
                conversation.answer(result)
        elif role in ("assistant", "gpt"):
            calls = bracket_calls(value)
            if calls is None and _looks_like_a_call(value):
                raise Unrepresentable("a call that cannot be read")
            numbered = [(None, name, arguments) for name, arguments in calls or ()]
            conversation.say("assistant", "" if calls else value, calls=numbered)
        else:
            raise unknown_role(role)
    return conversation.chat(id=row_id(row), tools=tools_of(tools))


def holds_toolace_prompt(row: Row) -> bool:
    """Whether the system prompt lists functions in ToolACE's words."""
    return _TOOLS_START.search(row["system"]) is not None


ADAPTERS = (
    Adapter(
        name="toolace",
        kind="chat",
        function=toolace_row,
        columns=("system", "conversations"),
        hub_id="Team-ACE/ToolACE",
        terms=Terms(licence="apache-2.0"),
        matches=with_content("system", "conversations", holds=holds_toolace_prompt, what="ToolACE's list of functions"),
        turns=("conversations",),
        turn_keys=frozenset({"from", "value"}),
        schema="public pages",
        note="Calls in brackets become calls. The published prompt only tells the tools and is dropped.",
    ),
)
