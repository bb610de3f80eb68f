"""OpenHands: event streams, and runs exported as chat messages -> Chat.

* Events: `{"trajectory": [...]}` (shared feedback) or `{"history": [...]}` (an evaluation's output), each event
  `{"id", "source", "action" | "observation", "args" | "extras", "content", "tool_call_metadata"?}`. With
  `tool_call_metadata` the call is the one that the model wrote; without it, the action's name with the arguments of an
  allow-list. What runs the agent (state changes, recall, initialisation) is no message.
* Messages: `{"trajectory" | "messages": [OpenAI messages], "tools", "resolved"}`, as SWE-Gym and Nebius publish them.

Some exports are flat: what stands in `args` and `extras` stands in the event itself, and nobody is named as the `source`. The
first message is then the task; a later one that does not say who speaks makes the row a Skip.

The thought beside an action is what the agent says to whoever reads along, and stays content. `finish` without
`tool_call_metadata` is the agent's last word. Outcome: `resolved`, the evaluation's report, or the user's `feedback`.
"""

from __future__ import annotations

from typing import Any

from data.chats import Chat
from data.formats.adapter import Adapter, Terms
from data.formats.openai_chat import openai_chat_row
from data.formats.parts import (
    SUCCESS,
    Conversation,
    Row,
    Unrepresentable,
    objects_in,
    require_outcome,
    row_id,
    skip_if_unrepresentable,
    text_of,
    tools_of,
    with_columns,
    with_content,
)
from data.formats.turns import TURN_KEYS, calls_of
from data.records import Outcome, ToolSpec

_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "run": ("command",),
    "run_ipython": ("code",),
    "read": ("path", "start", "end"),
    "write": ("path", "content", "start", "end"),
    "edit": (
        "command",
        "path",
        "content",
        "start",
        "end",
        "file_text",
        "old_str",
        "new_str",
        "insert_line",
        "view_range",
    ),
    "browse": ("url",),
    "browse_interactive": ("browser_actions",),
    "delegate": ("agent", "inputs"),
    "think": ("thought",),
    "call_tool_mcp": ("name", "arguments"),
    "task_tracking": ("command", "task_list"),
}
_MACHINERY = frozenset(
    {"initialize", "change_agent_state", "recall", "null", "pause", "resume", "condensation", "start"}
)
EVENT_KEYS = frozenset(
    {
        *("source", "action", "observation", "content", "args", "extras", "tool_call_metadata"),
        *("thought", "final_thought", "outputs", "tools", *(key for keys in _ARGUMENTS.values() for key in keys)),
    }
)
"""Keys of an event that are read, those of flat events among them."""
_STATES = frozenset({"agent_state_changed", "null", "recall", "condense"})


def _details(event: Row) -> Row:
    """The event's arguments: `args` in OpenHands, moved to `extras` in the published feedback, flat in other exports."""
    for key in ("args", "extras"):
        if isinstance(event.get(key), dict):
            return event[key]
    return {} if "source" in event else event


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _message_of_response(event: Row) -> tuple[str, Row] | None:
    """The id and the assistant message of the response that an event was read from."""
    metadata = event.get("tool_call_metadata")
    response = metadata.get("model_response") if isinstance(metadata, dict) else None
    choices = response.get("choices") if isinstance(response, dict) else None
    if (
        not isinstance(response, dict)
        or not isinstance(choices, list)
        or not choices
        or not isinstance(choices[0], dict)
    ):
        return None
    message = choices[0].get("message")
    if not isinstance(message, dict) or not message.get("tool_calls"):
        return None
    return str(response.get("id")), message


class _Stream:
    """Events on their way to a chat."""

    def __init__(self) -> None:
        self.conversation = Conversation()
        self.tools: tuple[ToolSpec, ...] = ()
        self.responses: set[str] = set()
        self.waiting = 0
        self.acted = False

    def add(self, event: Row) -> None:
        action, observation = event.get("action"), event.get("observation")
        if action:
            self._act(str(action), event)
            self.acted = self.acted or str(action) not in (*_MACHINERY, "system")
        elif observation and str(observation) not in _STATES:
            if not self.waiting:
                raise Unrepresentable("an observation without its action")
            metadata = event.get("tool_call_metadata")
            own_id = metadata.get("tool_call_id") if isinstance(metadata, dict) else None
            self.conversation.answer(text_of(event.get("content")), own_id=own_id if isinstance(own_id, str) else None)
            self.waiting -= 1

    def _act(self, action: str, event: Row) -> None:
        details = _details(event)
        if action in _MACHINERY:
            return
        if action == "system":
            self.tools = tools_of(details.get("tools"))
            self.conversation.say("system", _text(details.get("content")))
        elif action == "message":
            source = event.get("source")
            if not (source in ("user", "agent") or (source is None and not self.acted)):
                raise Unrepresentable("a message that does not say who speaks")
            role = "assistant" if source == "agent" else "user"
            self.conversation.say(role, _text(details.get("content")) or _text(event.get("content")))
        elif (made := _message_of_response(event)) is not None:
            response, message = made
            if response not in self.responses:  # the other actions of one response were said with the first
                self.responses.add(response)
                calls = calls_of(message)
                reasoning = _text(message.get("reasoning_content")) or None
                self.conversation.say("assistant", text_of(message.get("content")), reasoning=reasoning, calls=calls)
                self.waiting = len(calls)
        elif action in ("finish", "reject"):
            outputs = details.get("outputs")
            said = outputs.get("content") if isinstance(outputs, dict) else None
            words = [_text(details.get("thought")), _text(details.get("final_thought")), _text(said)]
            words += [_text(details.get("content"))] if details is event else []
            self.conversation.say("assistant", "\n".join(dict.fromkeys(word for word in words if word)))
        elif action in _ARGUMENTS:
            arguments = {key: details[key] for key in _ARGUMENTS[action] if details.get(key) is not None}
            if not arguments:
                raise Unrepresentable("an action without its arguments")
            thought = "" if action == "think" else _text(details.get("thought"))
            self.conversation.say("assistant", thought, calls=[(None, action, arguments)])
            self.waiting = 1
        else:
            raise Unrepresentable("an action that is not known")


def _events(row: Row) -> Any:
    return row.get("history") or row.get("trajectory")


def _resolved(row: Row) -> bool | None:
    """Whether the run reached its goal, or null where nobody judged it."""
    for holder in (row, row.get("test_result"), row.get("report")):
        if isinstance(holder, dict):
            for judged in (holder, holder.get("report")):
                if isinstance(judged, dict) and isinstance(judged.get("resolved"), bool | int):
                    return judged["resolved"] == 1
    return {"positive": True, "negative": False}.get(_text(row.get("feedback")) or _text(row.get("polarity")))


@skip_if_unrepresentable
def openhands_row(row: Row, *, outcomes: frozenset[Outcome] = SUCCESS) -> Chat:
    """One event stream."""
    require_outcome(_resolved(row), outcomes)
    stream = _Stream()
    for event in objects_in(_events(row), "events"):
        stream.add(event)
    group = row.get("instance_id")
    return stream.conversation.chat(
        id=row_id(row, "id", "instance_id"), tools=stream.tools, group=group if isinstance(group, str) else None
    )


@skip_if_unrepresentable
def openhands_messages_row(row: Row, *, outcomes: frozenset[Outcome] = SUCCESS) -> Chat:
    """One run as OpenAI messages with its tools."""
    require_outcome(_resolved(row), outcomes)
    messages = objects_in(row.get("trajectory") or row.get("messages"), "messages")
    # Columns of the hub are filled with nulls; a name is the tool's, and only a result has one.
    kept = [{key: value for key, value in message.items() if value is not None} for message in messages]
    chat = openai_chat_row({"messages": [_nameless(message) for message in kept], "tools": row.get("tools")})
    if not isinstance(chat, Chat):
        raise Unrepresentable(chat.reason)
    group = row.get("instance_id")
    # SWE-Gym's run_id names a run over all issues.
    own = (
        f"{group}/{row['run_id']}"
        if isinstance(row.get("run_id"), str)
        else row_id(row, "trajectory_id", "instance_id")
    )
    return chat.model_copy(update={"id": own, "group": group if isinstance(group, str) else None})


def _nameless(message: Row) -> Row:
    if message.get("role") == "tool":
        return message
    return {"content": "", **{key: value for key, value in message.items() if key != "name"}}


def holds_openhands_events(row: Row) -> bool:
    """Whether the row holds an event stream."""
    return all("role" not in event and ("action" in event or "observation" in event) for event in _events(row))


ADAPTERS = (
    Adapter(
        name="openhands",
        kind="trajectory",
        function=openhands_row,
        columns=(
            "trajectory",
            "history",
            "feedback",
            "polarity",
            "resolved",
            "test_result",
            "report",
            "instance_id",
        ),
        matches=with_content(holds=holds_openhands_events, what="events with source and action"),
        turns=("history", "trajectory"),
        turn_keys=EVENT_KEYS,
        schema="real rows",
        note="Event streams: shared feedback and evaluation outputs. Negative feedback and unresolved runs are left out.",
    ),
    Adapter(
        name="swe_rebench_openhands",
        kind="trajectory",
        function=openhands_messages_row,
        columns=(
            "trajectory",
            "messages",
            "tools",
            "resolved",
            "test_result",
            "report",
            "instance_id",
            "trajectory_id",
            "run_id",
        ),
        hub_id="nebius/SWE-rebench-openhands-trajectories",
        terms=Terms(licence="cc-by-4.0"),
        matches=with_columns("trajectory_id", "instance_id", "trajectory", "tools", "resolved"),
        turns=("trajectory", "messages"),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="Runs that did not resolve their issue are left out.",
    ),
    Adapter(
        name="swe_gym_openhands",
        kind="trajectory",
        function=openhands_messages_row,
        columns=(
            "messages",
            "trajectory",
            "tools",
            "resolved",
            "test_result",
            "report",
            "feedback",
            "polarity",
            "instance_id",
            "trajectory_id",
            "run_id",
        ),
        hub_id="SWE-Gym/OpenHands-Sampled-Trajectories",
        terms=Terms(openai_derived=True),
        matches=with_columns("instance_id", "run_id", "resolved", "messages", "tools"),
        turns=("messages", "trajectory"),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="Runs that did not resolve their issue are left out. Sampled from GPT-4o and Claude.",
    ),
)
