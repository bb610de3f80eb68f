"""Agents that repair software, as SWE-agent writes them -> Chat: `.traj` files, Nebius' trajectories, SWE-smith's.

A step is words and then one action, in one of three dialects: OpenAI tool calls; `<function=name><parameter=key>value
</parameter></function>` (SWE-smith's xml); or a command between ``` or <command> (older files, "ticks"). Each action becomes
a call, and the next user turn is its result, without the "OBSERVATION:" that SWE-smith writes before it. The words before the
action are content, because the agent says them to whoever reads along. A command in ticks has no schema, so it is the call
`bash(command=...)`.

The function list that the xml prompt appends ("---- BEGIN FUNCTION #1: bash ----") becomes tools. The prompt itself is the
agent's own and stays as it is, that list included: it also tells how to work.

Outcome: `resolved` or `target` where the row has one. A `.traj` file does not know whether its patch was right; it counts as
a success when it was submitted (`exit_status` "submitted"), and as a failure when it ended otherwise. A demonstration
without `info` passes.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from data.chats import Chat
from data.formats.adapter import Adapter, Terms
from data.formats.json_schema import type_to_schema
from data.formats.parts import (
    SUCCESS,
    Conversation,
    Row,
    RowCall,
    Unrepresentable,
    objects_in,
    require_outcome,
    row_id,
    skip_if_unrepresentable,
    text_of,
    text_to_object,
    unknown_role,
    with_columns,
    with_content,
)
from data.formats.turns import calls_of
from data.records import Outcome, ToolFunction, ToolSpec

_XML_CALL = re.compile(r"<function=([^>\n]+)>(.*?)</function>", re.DOTALL)
_XML_PARAMETER = re.compile(r"<parameter=([^>\n]+)>(.*?)</parameter>", re.DOTALL)
_TICKS = re.compile(r"(?:\A|\n)```[^\S\n]*(?:bash|sh)?[^\S\n]*\n(.*?)\n?```\s*\Z", re.DOTALL)
_COMMAND = re.compile(r"<command>\n?(.*?)\n?</command>\s*\Z", re.DOTALL)
_OBSERVATION = re.compile(r"\AOBSERVATION:\n?")
_FUNCTION_DOC = re.compile(r"---- BEGIN FUNCTION #\d+: (.+?) ----\n(.*?)---- END FUNCTION #\d+ ----", re.DOTALL)
_PARAMETER_DOC = re.compile(r"^ *\(\d+\) (\S+) \(([^,()]+), (required|optional)\): ?(.*)$")

BASH = ToolSpec(
    function=ToolFunction(
        name="bash",
        description="Run a command in the agent's terminal.",
        parameters={"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
    )
)


def tools_of_prompt(text: str) -> tuple[ToolSpec, ...]:
    """The functions that a system prompt of SWE-agent or OpenHands describes in words."""
    tools = []
    for name, body in _FUNCTION_DOC.findall(text):
        description, _, listed = body.partition("\nParameters:\n")
        properties: dict[str, Any] = {}
        required: list[str] = []
        told = ""
        for line in listed.splitlines():
            if found := _PARAMETER_DOC.match(line):
                told, kind, need, words = found.groups()
                properties[told] = {**(type_to_schema(kind) or {}), "description": words}
                required += [told] if need == "required" else []
            elif told and line.strip():  # a description that goes on
                properties[told]["description"] += f"\n{line}"
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        if required:
            schema["required"] = required
        description = description.removeprefix("Description:").removesuffix(
            "No parameters are required for this function.\n"
        )
        tools.append(ToolSpec(function=ToolFunction(name=name, description=description.strip(), parameters=schema)))
    return tuple(tools)


_PYTHON_TYPES: dict[str, type | tuple[type, ...]] = {
    "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict,
}  # fmt: skip


def _typed(value: str, kind: Any) -> Any:
    """A parameter's text as its declared type. Text that is not of that type stays text, as the agent wrote it."""
    if kind not in _PYTHON_TYPES:
        return value
    try:
        made = text_to_object(value.strip())
    except ValueError:
        return value
    return made if isinstance(made, _PYTHON_TYPES[kind]) and isinstance(made, bool) == (kind == "boolean") else value


def xml_calls(text: str, tools: tuple[ToolSpec, ...]) -> tuple[str, list[RowCall]]:
    """Words and calls of a text in the xml dialect. One line break inside a parameter's tags belongs to the tags."""
    calls: list[RowCall] = []
    types = {tool.function.name: tool.function.parameters.get("properties") for tool in tools}
    found = list(_XML_CALL.finditer(text))
    if not found:
        if "<function=" in text:
            raise Unrepresentable("a <function> block without an end")
        return text, []
    for match in found:
        if _XML_PARAMETER.sub("", match[2]).strip():
            raise Unrepresentable("a <function> block that cannot be read")
        declared: Any = types.get(match[1]) or {}
        arguments = {
            key: _typed(value.removeprefix("\n").removesuffix("\n"), (declared.get(key) or {}).get("type"))
            for key, value in _XML_PARAMETER.findall(match[2])
        }
        calls.append((None, match[1], arguments))
    between = [text[one.end() : two.start()] for one, two in pairwise(found)]
    if any(part.strip() for part in (*between, text[found[-1].end() :])):
        raise Unrepresentable("text after a call")
    return text[: found[0].start()].rstrip(), calls


def _text_action(text: str, tools: tuple[ToolSpec, ...]) -> tuple[str, list[RowCall], bool]:
    """Words, calls, and whether the call is a command in ticks."""
    if "<function=" in text:
        return *xml_calls(text, tools), False
    for dialect in (_TICKS, _COMMAND):
        if found := dialect.search(text):
            return text[: found.start()].rstrip(), [(None, "bash", {"command": found[1]})], True
    return text, [], False


def _result_id(message: Row) -> str | None:
    """The call that a result answers: SWE-agent's `tool_call_ids` (a list of one) or OpenAI's `tool_call_id`."""
    ids = message.get("tool_call_ids")
    own = ids[0] if isinstance(ids, list) and len(ids) == 1 else message.get("tool_call_id")
    return own if isinstance(own, str) else None


def _reasoning(message: Row) -> str | None:
    """What a model thought: `reasoning_content`, or the thinking blocks that Claude's API returns."""
    blocks = message.get("thinking_blocks")
    thoughts = (
        [block.get("thinking") for block in blocks if isinstance(block, dict)] if isinstance(blocks, list) else []
    )
    reasoning = message.get("reasoning_content") or "\n".join(
        thought for thought in thoughts if isinstance(thought, str)
    )
    if not isinstance(reasoning, str):
        raise Unrepresentable("reasoning that is not text")
    return reasoning or None


def agent_steps(messages: list[Row]) -> tuple[Conversation, tuple[ToolSpec, ...]]:
    """Messages of one run in any of the three dialects, and the tools that they show."""
    conversation, waiting = Conversation(), False
    tools: tuple[ToolSpec, ...] = ()
    for message in messages:
        role, text = message.get("role"), text_of(message.get("content"))
        if role == "system":
            tools = tools_of_prompt(text)
            conversation.say("system", text)
        elif role == "assistant":
            if message.get("tool_calls"):
                calls, ticks = calls_of(message), False
            else:
                text, calls, ticks = _text_action(text, tools)
            if ticks and not any(tool.function.name == BASH.function.name for tool in tools):
                tools = (*tools, BASH)
            weight = 0.0 if message.get("is_demo") else None
            conversation.say("assistant", text, weight=weight, reasoning=_reasoning(message), calls=calls)
            waiting = bool(calls)
        elif role == "tool":
            conversation.answer(text, own_id=_result_id(message))
            waiting = False
        elif role == "user":
            if waiting:
                conversation.answer(_OBSERVATION.sub("", text))
            else:
                conversation.say("user", text)
            waiting = False
        else:
            raise unknown_role(role)
    return conversation, tools


@skip_if_unrepresentable
def swe_agent_row(row: Row, *, outcomes: frozenset[Outcome] = SUCCESS) -> Chat:
    """One `.traj` file: its `history`, in which demonstrations (`is_demo`) are context of weight 0."""
    info = row.get("info")
    if isinstance(info, dict) and "exit_status" in info:
        require_outcome(info["exit_status"] == "submitted", outcomes)
    history = objects_in(row.get("history"), "messages")
    conversation, tools = agent_steps(history)
    return conversation.chat(id=row_id(row, "instance_id", "environment_id"), tools=tools)


@skip_if_unrepresentable
def nebius_swe_agent_row(row: Row, *, outcomes: frozenset[Outcome] = SUCCESS) -> Chat:
    """One row of nebius/SWE-agent-trajectories: turns of {role: system | user | ai, text, system_prompt}."""
    require_outcome(row.get("target") if isinstance(row.get("target"), bool) else None, outcomes)
    roles = {"ai": "assistant", "user": "user", "system": "system"}
    messages = [
        {"role": roles.get(str(role), role), "content": turn.get("text") or turn.get("system_prompt")}
        for turn in objects_in(row.get("trajectory"), "messages")
        for role in (turn.get("role"),)
    ]
    conversation, tools = agent_steps(messages)
    group = row_id(row, "instance_id")
    # An issue was tried many times and a try has no name of its own, so the content tells tries apart.
    return conversation.chat(id=f"{group}#{row_id(row)}", tools=tools, group=group)


@skip_if_unrepresentable
def swe_smith_row(row: Row, *, outcomes: frozenset[Outcome] = SUCCESS) -> Chat:
    """One trajectory: `messages` as JSON text (on the hub) or a list (files made by `swesmith.train`)."""
    require_outcome(row.get("resolved") if isinstance(row.get("resolved"), bool) else None, outcomes)
    conversation, tools = agent_steps(objects_in(row.get("messages"), "messages"))
    group = row.get("instance_id")
    return conversation.chat(
        id=row_id(row, "traj_id", "instance_id"), tools=tools, group=group if isinstance(group, str) else None
    )


def holds_swe_smith_run(row: Row) -> bool:
    """Whether a row shows a run of SWE-agent. Anybody's chats may have an `instance_id`, and code in ticks is no call there."""
    return "traj_id" in row or "OBSERVATION:" in str(row["messages"]) or "<function=" in str(row["messages"])


def holds_swe_agent_history(row: Row) -> bool:
    """Whether `history` holds messages; OpenHands writes events under that name."""
    return all("role" in message for message in row["history"])


SWE_AGENT_TURN = frozenset({
    "role", "content", "tool_calls", "function_call", "function_calls", "tool_call_id", "tool_call_ids", "reasoning_content",
    "thinking_blocks", "is_demo",
})  # fmt: skip

ADAPTERS = (
    Adapter(
        name="swe_agent",
        kind="trajectory",
        function=swe_agent_row,
        columns=("history", "info", "instance_id", "environment_id"),
        matches=with_content("history", holds=holds_swe_agent_history, what="messages with roles in history"),
        turns=("history",),
        turn_keys=SWE_AGENT_TURN,
        schema="real rows",
        note="SWE-agent's .traj files. Runs that were not submitted are left out.",
    ),
    Adapter(
        name="nebius_swe_agent",
        kind="trajectory",
        function=nebius_swe_agent_row,
        columns=("trajectory", "target", "instance_id"),
        hub_id="nebius/SWE-agent-trajectories",
        terms=Terms(licence="cc-by-4.0"),
        matches=with_columns("trajectory", "target", "instance_id", "generated_patch"),
        turns=("trajectory",),
        turn_keys=frozenset({"role", "text", "system_prompt"}),
        schema="real rows",
        note="Runs that did not resolve their issue (target false) are left out.",
    ),
    Adapter(
        name="swe_smith",
        kind="trajectory",
        function=swe_smith_row,
        columns=("messages", "resolved", "instance_id", "traj_id"),
        hub_id="SWE-bench/SWE-smith-trajectories",
        terms=Terms(licence="mit", openai_derived=True),
        matches=with_content("messages", "instance_id", holds=holds_swe_smith_run, what="observations of SWE-agent"),
        turns=("messages",),
        turn_keys=SWE_AGENT_TURN,
        schema="real rows",
        note="Splits tool, xml and ticks. Column model names the writer: Claude, in a part of the rows GPT-4o.",
    ),
)
