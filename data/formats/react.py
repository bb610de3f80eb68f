"""ReAct text (Yao et al. 2022, arXiv 2210.03629) -> Chat, and back: FireAct's files and AgentInstruct's.

A model that was taught ReAct writes its thought, its action and nothing else, and reads the observation as the next user
turn. Here a thought that is labelled as one ("Thought:", "Think:") becomes `reasoning_content`; words before an action
without a label stay `content`; the action becomes a call, the observation its result. An action that ends the episode
(`finish[...]`, `answer(...)`, "Final Answer:") is what the model says in the end, so it becomes content.

The prompts of AgentInstruct describe how an action is written in text. They are the user's words and stay as they are; the
calls beside them are of tools that this file defines, one small set an environment.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from data.chats import Chat, Skip
from data.formats.adapter import Adapter, Terms
from data.formats.parts import (
    SUCCESS,
    Conversation,
    Row,
    RowCall,
    Unrepresentable,
    list_of_objects,
    require_outcome,
    row_id,
    row_if_read_back,
    skip_if_unrepresentable,
    text_of,
    text_to_object,
    unknown_role,
    weight_of,
    with_content,
)
from data.formats.row_keys import WEIGHT_KEYS
from data.records import Outcome, ToolFunction, ToolSpec

_THOUGHT = re.compile(r"\A\s*(?:thought|think)\s*:[ \t]*", re.IGNORECASE)
_BRACKET_ACTION = re.compile(r"\A([A-Za-z_]\w*)\[(.*)\]\s*\Z", re.DOTALL)
_REWARD = re.compile(r"\AEpisode finished, reward = ([\w.]+)\s*\Z")


class Turn(NamedTuple):
    """What one assistant text says."""

    reasoning: str | None
    content: str
    calls: list[RowCall]


def split_thought(text: str, marker: re.Pattern[str]) -> tuple[str | None, str, str | None]:
    """A text cut at the first `marker` into (labelled thought or null, words without a label, what follows the marker)."""
    found = marker.search(text)
    before, after = (text[: found.start()], text[found.end() :]) if found else (text, None)
    if label := _THOUGHT.match(before):
        return before[label.end() :].strip() or None, "", after
    return None, before.strip(), after


def _observed(text: str) -> str:
    label = "Observation:"
    return text.removeprefix(label).removeprefix(" ") if text.startswith(label) else text


def _tool(name: str, description: str, **parameters: str) -> ToolSpec:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {key: {"type": "string", "description": text} for key, text in parameters.items()},
        "required": list(parameters),
    }
    return ToolSpec(function=ToolFunction(name=name, description=description, parameters=schema))


# --- FireAct ---

_ACTION_INPUT = re.compile(r"([^\n]+?)[ \t]*\nAction Input:[ \t]*(.*)\Z", re.DOTALL)
_FINAL_ANSWER = re.compile(r"(?:\A|\n)\s*Final Answer:[ \t]*")
_ACTION = re.compile(r"(?:\A|\n)\s*Action:[ \t]*")
_SEARCH = (_tool("search", "Search for a fact.", input="What to search for."),)


def _input_of(text: str) -> dict[str, Any]:
    """The input of a tool in LangChain's way of writing: the JSON of an object, or one text."""
    try:
        value = text_to_object(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"input": text}


def _react_turn(text: str) -> Turn:
    reasoning, words, action = split_thought(text, _ACTION)
    if action is None:
        reasoning, words, answer = split_thought(text, _FINAL_ANSWER)
        return (
            Turn(None, text, []) if answer is None else Turn(reasoning, f"{words}\n{answer}" if words else answer, [])
        )
    if two_lines := _ACTION_INPUT.match(action):
        return Turn(reasoning, words, [(None, two_lines[1], _input_of(two_lines[2].strip()))])
    found = _BRACKET_ACTION.match(action.strip())
    if found is None:
        raise Unrepresentable("an action that is no name[input]")
    if found[1].lower() == "finish":
        return Turn(reasoning, f"{words}\n{found[2]}" if words else found[2], [])
    return Turn(reasoning, words, [(None, found[1], {"input": found[2]})])


@skip_if_unrepresentable
def react_row(row: Row, *, outcomes: frozenset[Outcome] = SUCCESS) -> Chat:
    """One episode as chat messages, with "Action: name[input]" (or, as LangChain has it, "Action: name" and "Action Input:"
    on two lines, and "Final Answer:" in the end) and "Observation: ..." in their texts.

    The last observation of FireAct says how the episode ended; it is read as the outcome and is no message.
    """
    conversation, waiting, succeeded = Conversation(), False, None
    names: dict[str, None] = {}
    for message in list_of_objects(row, "messages"):
        role, text = message.get("role"), text_of(message.get("content"))
        if role == "system":
            conversation.say("system", text)
        elif role == "assistant":
            turn = _react_turn(text)
            conversation.say("assistant", turn.content, reasoning=turn.reasoning, calls=turn.calls)
            waiting = bool(turn.calls)
            names.update(dict.fromkeys(name for _, name, _ in turn.calls))
        elif role == "user":
            observed = text.startswith("Observation:")
            if observed:
                text = _observed(text)
            if observed and (reward := _REWARD.match(text)):
                succeeded = reward[1] in ("True", "1", "1.0")
            elif waiting:
                conversation.answer(text)
                waiting = False
            else:
                conversation.say("user", text)
        else:
            raise unknown_role(role)
    require_outcome(succeeded, outcomes)
    return conversation.chat(id=row_id(row), tools=_SEARCH if list(names) == ["search"] else ())


def chat_to_react_row(chat: Chat) -> Row | Skip:
    """A chat as ReAct text; a Skip where reading it back would give another chat.

    The text holds one call a turn, with `input` as its only argument, no weights, and no tools but FireAct's `search`.
    """
    messages: list[Row] = []
    for message in chat.messages:
        role, text = message.role, message.content
        if message.role == "tool":
            role, text = "user", f"Observation: {text}"
        elif message.role == "assistant":
            actions = [f"{call.name}[{call.arguments.get('input')}]" for call in message.tool_calls]
            if message.reasoning_content is not None:
                actions, text = actions or [f"finish[{text}]"], f"Thought: {message.reasoning_content}"
            text = "\n".join([*([text] if text or not actions else []), *(f"Action: {action}" for action in actions)])
        messages.append({"role": role, "content": text})
    return row_if_read_back({"id": chat.id, "messages": messages}, react_row, chat)


# --- AgentInstruct ---

_OS_ACTION = re.compile(r"(?:\A|\n)\s*Act:[ \t]*")
_OS_BASH = re.compile(r"\Abash\s*```(?:bash|sh|shell)?[ \t]*\n(.*?)\n?```\s*\Z", re.DOTALL)
_OS_ANSWER = re.compile(r"\Aanswer\((.*)\)\s*\Z", re.DOTALL)
_DB_SQL = re.compile(r"\AOperation\s*```(?:sql)?\s*(.*?)\s*```\s*\Z", re.DOTALL)
_ANY_ACTION = re.compile(r"(?:\A|\n)\s*action:\s*", re.IGNORECASE)
_KG_CALL = re.compile(r"\A(\w+)\((.*)\)\s*\Z", re.DOTALL)
_FINAL = re.compile(r"(?:\A|\n)\s*(?=Final Answer:)")

_KG_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "get_relations": ("variable",),
    "get_neighbors": ("variable", "relation"),
    "intersection": ("variable1", "variable2"),
    "get_attributes": ("variable",),
    "argmax": ("variable", "attribute"),
    "argmin": ("variable", "attribute"),
    "count": ("variable",),
}
_TOOLS: dict[str, tuple[ToolSpec, ...]] = {
    "os": (_tool("bash", "Run bash code in the operating system.", command="The code."),),
    "db": (_tool("execute_sql", "Run one SQL statement in the MySQL database.", sql="The statement."),),
    "kg": tuple(
        _tool(name, "A function over the knowledge graph.", **dict.fromkeys(keys, "A variable, entity or relation."))
        for name, keys in _KG_ARGUMENTS.items()
    ),
    "webshop": (
        _tool("search", "Search the shop.", keywords="What to search for."),
        _tool("click", "Click on something that the page offers.", element="What to click on."),
    ),
    "alfworld": (_tool("act", "Do one action in the household.", action="An action in the words of the game."),),
    "mind2web": (),
}


def _os_turn(text: str) -> Turn:
    reasoning, words, action = split_thought(text, _OS_ACTION)
    if action is None:
        return Turn(None, text, [])
    if code := _OS_BASH.match(action):
        return Turn(reasoning, words, [(None, "bash", {"command": code[1]})])
    if answer := _OS_ANSWER.match(action):
        return Turn(reasoning, f"{words}\n{answer[1]}" if words else answer[1], [])
    if action.strip() == "finish":
        return Turn(reasoning, f"{words}\nfinish" if words else "finish", [])
    raise Unrepresentable("an action that cannot be read")


def _db_turn(text: str) -> Turn:
    reasoning, words, action = split_thought(text, _ANY_ACTION)
    if action is None:
        return Turn(None, text, [])
    if sql := _DB_SQL.match(action):
        return Turn(reasoning, words, [(None, "execute_sql", {"sql": sql[1]})])
    if action.startswith("Answer"):
        answer = action.removeprefix("Answer").strip()
        return Turn(reasoning, f"{words}\n{answer}" if words else answer, [])
    raise Unrepresentable("an action that cannot be read")


def _kg_turn(text: str) -> Turn:
    reasoning, words, answer = split_thought(text, _FINAL)
    if answer is not None:
        return Turn(reasoning, f"{words}\n{answer}" if words else answer, [])
    reasoning, words, action = split_thought(text, _ANY_ACTION)
    if action is None:
        return Turn(None, text, [])
    called = _KG_CALL.match(action.strip())
    names = _KG_ARGUMENTS.get(called[1]) if called else None
    values = [value.strip() for value in called[2].split(",")] if called else []
    if called is None or names is None or len(names) != len(values):
        raise Unrepresentable("an action that cannot be read")
    return Turn(reasoning, words, [(None, called[1], dict(zip(names, values, strict=True)))])


def _webshop_turn(text: str) -> Turn:
    reasoning, words, action = split_thought(text, _ANY_ACTION)
    if action is None:
        return Turn(None, text, [])
    called = _BRACKET_ACTION.match(action.strip())
    key = {"search": "keywords", "click": "element"}.get(called[1]) if called else None
    if called is None or key is None:
        raise Unrepresentable("an action that cannot be read")
    return Turn(reasoning, words, [(None, called[1], {key: called[2]})])


def _alfworld_turn(text: str) -> Turn:
    reasoning, words, action = split_thought(text, _ANY_ACTION)
    if action is None:
        return Turn(None, text, [])
    return Turn(reasoning, words, [(None, "act", {"action": action.strip()})])


_MIND2WEB_ANSWER = re.compile(r"(?:\A|\n)\s*(?=Answer:)")


def _mind2web_turn(text: str) -> Turn:
    reasoning, words, answer = split_thought(text, _MIND2WEB_ANSWER)
    return Turn(None, text, []) if answer is None else Turn(reasoning, f"{words}\n{answer}" if words else answer, [])


_TURNS = {
    "os": _os_turn,
    "db": _db_turn,
    "kg": _kg_turn,
    "webshop": _webshop_turn,
    "alfworld": _alfworld_turn,
    "mind2web": _mind2web_turn,
}


@skip_if_unrepresentable
def agent_instruct_row(row: Row) -> Chat:
    """One episode. Its id ("os_42") names the environment, and so how an action is written. `loss` is the weight."""
    own = row_id(row)
    environment = own.split("_")[0]
    if environment not in _TURNS:
        raise Unrepresentable("an id that names no environment of AgentInstruct")
    conversation, waiting = Conversation(), False
    for turn in list_of_objects(row, "conversations"):
        role, value = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
        if not isinstance(value, str):
            raise Unrepresentable("a value that is not text")
        if role == "system":
            conversation.say("system", value)
        elif role in ("gpt", "assistant"):
            said = _TURNS[environment](value)
            weight = weight_of(turn)
            conversation.say("assistant", said.content, weight=weight, reasoning=said.reasoning, calls=said.calls)
            waiting = bool(said.calls)
        elif role in ("human", "user"):
            if waiting:
                conversation.answer(_observed(value))
            else:
                conversation.say("user", value)
            waiting = False
        else:
            raise unknown_role(role)
    return conversation.chat(id=own, tools=_TOOLS[environment], source=environment)


def holds_react_action(row: Row) -> bool:
    """Whether an assistant message acts in ReAct's words."""
    return any(
        message["role"] == "assistant"
        and re.search(r"(?:\A|\n)Action: ?(?:\w+\[|[^\n]+\nAction Input:)", message["content"])
        for message in row["messages"]
    )


def holds_agent_instruct_id(row: Row) -> bool:
    """Whether the id names an environment, such as "os_42"."""
    environment, _, number = row["id"].partition("_")
    return environment in _TURNS and number.isdigit()


ADAPTERS = (
    Adapter(
        name="react",
        kind="trajectory",
        function=react_row,
        columns=("messages", "id"),
        matches=with_content("messages", holds=holds_react_action, what="Action: name[input]"),
        turns=("messages",),
        turn_keys=frozenset({"role", "content"}),
        schema="real rows",
        note="ReAct text as FireAct's files have it (MIT, written by GPT-4). Episodes without reward are left out.",
    ),
    Adapter(
        name="agent_instruct",
        kind="chat",
        function=agent_instruct_row,
        columns=("conversations", "id"),
        hub_id="zai-org/AgentInstruct",
        terms=Terms(openai_derived=True),
        matches=with_content("conversations", "id", holds=holds_agent_instruct_id, what="an environment in the id"),
        turns=("conversations",),
        turn_keys=frozenset({"from", "value", "role", "content", *WEIGHT_KEYS}),
        schema="real rows",
        note="Written by GPT-4. Actions of the six environments become calls of tools that the adapter defines.",
    ),
)
