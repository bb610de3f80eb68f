"""ToolBench (Qin et al. 2023): ToolLLaMA's training rows, and the raw answers of the tree search -> Chat.

Training rows (`toolllama_*.json`): `{"id": "Step 5: <query>", "conversations": [{"from": "system" | "user" | "assistant" |
"function", "value"}]}`. A trajectory is cut into growing prefixes, one row a step, of which only the last assistant turn is
meant to be learned; so the turns before it have weight 0, and the rows of one query are one group.

Raw answers (`*_DFS_woFilter_w2.json`): one object a query, whose `train_messages` are the same growing prefixes in OpenAI's
old style. The last one is the whole path; every assistant turn in it is learned. `win` is the outcome.

A thought is `reasoning_content`. `Finish` is a tool like the others and the chat ends with its call; a row that ends in
`give_up_and_restart` is a failure. The list of tools that ToolLLaMA's rows append to the system prompt, and the sentence
on how to write an action in text, are what a chat template writes from the definitions, and are cut off.
"""

from __future__ import annotations

import re
from typing import Any

from data.chats import Chat
from data.formats.adapter import Adapter, Terms
from data.formats.parts import (
    SUCCESS,
    Conversation,
    Row,
    Unrepresentable,
    arguments_of,
    list_of_objects,
    objects_in,
    require_outcome,
    row_id,
    skip_if_unrepresentable,
    text_of,
    tools_of,
    unknown_role,
    with_columns,
    with_content,
)
from data.records import Outcome

_ACTION = re.compile(r"(?:\A|\n)Action:[ \t]*([^\n]*)\nAction Input:[ \t]*(.*)\Z", re.DOTALL)
_APIS = "Specifically, you have access to the following APIs:"
_FORMAT = re.compile(r" ?Your output should follow this format:\s*Thought:\s*Action:?\s*Action Input:[ \t]*\n?")
_STEP = re.compile(r"\AStep \d+: ?")


def _gave_up(name: str, arguments: dict[str, Any]) -> bool:
    return name == "Finish" and arguments.get("return_type") == "give_up_and_restart"


@skip_if_unrepresentable
def toolbench_row(row: Row, *, outcomes: frozenset[Outcome] = SUCCESS) -> Chat:
    """One step with its history."""
    conversation = Conversation()
    tools: Any = None
    turns = list_of_objects(row, "conversations")
    last = max((index for index, turn in enumerate(turns) if turn.get("from") == "assistant"), default=-1)
    for index, turn in enumerate(turns):
        role, value = turn.get("from"), turn.get("value")
        if not isinstance(value, str):
            raise Unrepresentable("a value that is not text")
        if role == "system":
            said, _, apis = value.partition(_APIS)
            tools = apis.strip() or None
            conversation.say("system", _FORMAT.sub("", said).strip())
        elif role == "user":
            conversation.say("user", value)
        elif role == "function":
            conversation.answer(value)
        elif role == "assistant":
            weight = None if index == last else 0.0
            action = _ACTION.search(value)
            if action is None:
                conversation.say("assistant", value, weight=weight)
                continue
            arguments = arguments_of(action[2].strip())
            thought = value[: action.start()].strip().removeprefix("Thought:").strip()
            calls = [(None, action[1].strip(), arguments)]
            conversation.say("assistant", "", weight=weight, reasoning=thought or None, calls=calls)
            if index == last and _gave_up(action[1].strip(), arguments):
                require_outcome(False, outcomes)
        else:
            raise unknown_role(role)
    own = row_id(row)
    return conversation.chat(id=own, tools=tools_of(tools), group=_STEP.sub("", own))


@skip_if_unrepresentable
def toolbench_answers_row(row: Row, *, outcomes: frozenset[Outcome] = SUCCESS) -> Chat:
    """The path that the tree search ended with."""
    answer = row.get("answer_generation")
    if not isinstance(answer, dict):
        raise Unrepresentable("column 'answer_generation' is no object")
    won = row.get("win")
    require_outcome(won if isinstance(won, bool) else None, outcomes)
    paths = answer.get("train_messages")
    if not isinstance(paths, list) or not paths:
        raise Unrepresentable("no train_messages: the search found no path")
    conversation, thoughts = Conversation(), list[str]()
    for message in objects_in(paths[-1], "train_messages"):
        role, text = message.get("role"), text_of(message.get("content"))
        call = message.get("function_call")
        if role == "assistant":
            if text:
                thoughts.append(text)
            if call is None:
                continue
            if not isinstance(call, dict) or not isinstance(call.get("name"), str):
                raise Unrepresentable("a call without a name")
            arguments = arguments_of(call.get("arguments"))
            if _gave_up(call["name"], arguments):
                require_outcome(False, outcomes)
            reasoning = "\n".join(thoughts) or None
            conversation.say("assistant", "", reasoning=reasoning, calls=[(None, call["name"], arguments)])
            thoughts = []
            continue
        if thoughts:
            conversation.say("assistant", "\n".join(thoughts))
            thoughts = []
        if role == "function":
            name = message.get("name")
            conversation.answer(text, name=name if isinstance(name, str) else None)
        elif role in ("system", "user"):
            conversation.say(role, text)
        else:
            raise unknown_role(role)
    if thoughts:
        conversation.say("assistant", "\n".join(thoughts))
    query = answer.get("query")
    group = query if isinstance(query, str) else None
    return conversation.chat(id=row_id(row), tools=tools_of(answer.get("function")), group=group)


def holds_toolbench_action(row: Row) -> bool:
    """Whether an assistant turn writes its action as ToolLLaMA does."""
    return any(turn["from"] == "assistant" and _ACTION.search(turn["value"]) for turn in row["conversations"])


ADAPTERS = (
    Adapter(
        name="toolbench",
        kind="trajectory",
        function=toolbench_row,
        columns=("conversations", "id"),
        matches=with_content("conversations", holds=holds_toolbench_action, what="Action Input in an assistant turn"),
        turns=("conversations",),
        turn_keys=frozenset({"from", "value"}),
        schema="public pages",
        note="toolllama_*.json of OpenBMB/ToolBench. One row a step: only the last turn is learned.",
        terms=Terms(licence="apache-2.0", openai_derived=True),
    ),
    Adapter(
        name="toolbench_answers",
        kind="trajectory",
        function=toolbench_answers_row,
        columns=("answer_generation", "win"),
        matches=with_columns("answer_generation", "win", "tree"),
        schema="real rows",
        note="Raw answers of ToolBench's tree search: the whole path it ended with, where it won.",
        terms=Terms(licence="apache-2.0", openai_derived=True),
    ),
)
