"""ATIF, the Agent Trajectory Interchange Format (Harbor RFC 0001, versions 1.0 to 1.8): import and export.

A document: `{"schema_version": "ATIF-v1.7", "session_id", "trajectory_id", "agent": {"name", "version", "tool_definitions"},
"steps": [{"step_id", "source": "system" | "user" | "agent", "message", "reasoning_content", "tool_calls", "observation"}]}`.

Import: a step is a turn, its observation the results of its calls. A result that names no call answers the only one; where a
step called nothing, its observation is what the model reads next, so a user turn. Steps that were copied from another
trajectory (`is_copied_context`) or not made by a model (`llm_call_count` 0) have weight 0. Embedded subagents are chats of
their own. Pictures and sound cannot be held. A run that says `"outcome"` in `extra` obeys the asked `outcomes`.

Export: what the format has no field for (weights, licence, group; of a trajectory its outcome, category and environment) goes
into `extra`, which the format keeps for that, and is read back from there.
"""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue

from data.chats import Chat, Message, Skip
from data.formats.adapter import Adapter
from data.formats.parts import (
    SUCCESS,
    Conversation,
    Row,
    Unrepresentable,
    arguments_of,
    objects_in,
    require_outcome,
    row_id,
    skip_if_unrepresentable,
    text_of,
    tools_of,
    weight_of,
    with_columns,
)
from data.records import Outcome, Trajectory
from data.trajectories import actions_to_messages

ATIF_VERSION = "ATIF-v1.7"
_SOURCES = {"system": "system", "user": "user", "agent": "assistant"}


def _extra(value: Row) -> Row:
    extra = value.get("extra")
    return extra if isinstance(extra, dict) else {}


def _text_or_null(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _calls_of(step: Row) -> list[tuple[str | None, str, dict[str, Any]]]:
    if not step.get("tool_calls"):
        return []
    calls = []
    for call in objects_in(step["tool_calls"], "tool_calls"):
        if not isinstance(call.get("function_name"), str):
            raise Unrepresentable("a call without a name")
        own_id = _text_or_null(call.get("tool_call_id"))
        calls.append((own_id, call["function_name"], arguments_of(call.get("arguments"))))
    return calls


def _results_of(step: Row) -> list[tuple[str | None, str]]:
    """(id of the call or null, text) of each result."""
    observation = step.get("observation")
    if observation is None:
        return []
    if not isinstance(observation, dict):
        raise Unrepresentable("an observation that is no object")
    results = []
    for result in objects_in(observation["results"], "results") if observation.get("results") else []:
        if result.get("content") is None and result.get("subagent_trajectory_ref"):
            raise Unrepresentable("a result that stands in another trajectory")
        results.append((_text_or_null(result.get("source_call_id")), text_of(result.get("content"))))
    return results


def _add_step(conversation: Conversation, step: Row) -> None:
    source = str(step.get("source"))
    if not isinstance(source, str) or source not in _SOURCES:
        raise Unrepresentable("a step from an unknown source")
    calls, results = _calls_of(step), _results_of(step)
    if source != "agent":
        if calls:
            raise Unrepresentable("a call that the user makes")
        conversation.say(_SOURCES[source], text_of(step.get("message")))
    else:
        copied = step.get("is_copied_context") or step.get("llm_call_count") == 0
        weight = 0.0 if copied else weight_of(_extra(step))
        reasoning = step.get("reasoning_content")
        if not isinstance(reasoning, str | None):
            raise Unrepresentable("reasoning that is not text")
        conversation.say("assistant", text_of(step.get("message")), weight=weight, reasoning=reasoning, calls=calls)
    for own_id, text in results:
        if calls:
            conversation.answer(text, own_id=own_id)
        elif own_id is not None:
            raise Unrepresentable("a result without its call")
        else:
            conversation.say("user", text)


@skip_if_unrepresentable
def _document_to_chat(row: Row, told: Row, outcomes: frozenset[Outcome]) -> Chat:
    """The steps of one document; `told` is what it and the run around it say in `extra`."""
    version = row.get("schema_version")
    if not isinstance(version, str) or not version.startswith("ATIF-v1."):
        raise Unrepresentable("schema_version is no ATIF-v1")
    if isinstance(outcome := told.get("outcome"), str):
        if outcome not in set(Outcome):
            raise Unrepresentable("an outcome that is not known")
        if Outcome(outcome) not in outcomes:
            raise Unrepresentable(f"outcome is {outcome}")
    elif isinstance(told.get("resolved"), bool):
        require_outcome(told["resolved"], outcomes)
    conversation = Conversation()
    for step in objects_in(row.get("steps"), "steps"):
        _add_step(conversation, step)
    agent = row.get("agent")
    chat = conversation.chat(
        id=row_id(row, "trajectory_id", "session_id"),
        tools=tools_of(agent.get("tool_definitions") if isinstance(agent, dict) else None),
        group=_text_or_null(told.get("group")),
        source=_text_or_null(told.get("source")) or "",
    )
    return chat.model_copy(update={"licence": _text_or_null(told.get("licence"))})


_OF_THE_RUN = ("outcome", "resolved", "source", "licence", "group")
"""What a document's `extra` says also of the subagents inside it, where theirs say nothing else."""


def _documents_to_chats(row: Row, above: Row, outcomes: frozenset[Outcome]) -> list[Chat | Skip]:
    embedded = row.get("subagent_trajectories")
    subagents = embedded if isinstance(embedded, list) else []
    told = {**above, **_extra(row)}
    if subagents and not told.get("group"):
        told["group"] = row_id(row, "trajectory_id", "session_id")
    chats: list[Chat | Skip] = [_document_to_chat(row, told, outcomes)]
    for subagent in subagents:
        if not isinstance(subagent, dict):
            chats.append(Skip("a subagent's trajectory that is no object"))
            continue
        chats += _documents_to_chats(subagent, {key: told[key] for key in _OF_THE_RUN if key in told}, outcomes)
    return chats


def atif_row(row: Row, *, outcomes: frozenset[Outcome] = SUCCESS) -> list[Chat | Skip]:
    """A document's own steps, then those of the subagents that are embedded in it: all in one group, with the outcome and the
    licence of the whole run where a subagent has none of its own."""
    return _documents_to_chats(row, {}, outcomes)


def _step(number: int, message: Message) -> Row:
    source = {"system": "system", "user": "user", "assistant": "agent"}[message.role]
    step: Row = {"step_id": number, "source": source, "message": message.content}
    if message.reasoning_content is not None:
        step["reasoning_content"] = message.reasoning_content
    if message.tool_calls:
        step["tool_calls"] = [
            {"tool_call_id": call.id, "function_name": call.name, "arguments": call.arguments}
            for call in message.tool_calls
        ]
    if message.weight is not None:
        step["extra"] = {"weight": message.weight}
    return step


def _steps(messages: tuple[Message, ...]) -> list[Row]:
    steps: list[Row] = []
    for message in messages:
        if message.role == "tool":
            observation = steps[-1].setdefault("observation", {"results": []})
            observation["results"].append({"source_call_id": message.tool_call_id, "content": message.content})
        else:
            steps.append(_step(len(steps) + 1, message))
    return steps


def chat_to_atif(chat: Chat) -> Row:
    """A chat as a document. Every chat fits."""
    agent: Row = {"name": chat.source or "unknown", "version": "unknown"}
    if chat.tools:
        agent["tool_definitions"] = [tool.model_dump() for tool in chat.tools]
    extra = {"source": chat.source, "licence": chat.licence, "group": chat.group}
    row: Row = {
        "schema_version": ATIF_VERSION,
        "session_id": chat.id,
        "trajectory_id": chat.id,
        "agent": agent,
        "steps": _steps(chat.messages),
    }
    if kept := {key: value for key, value in extra.items() if value}:
        row["extra"] = kept
    return row


def trajectory_to_atif(record: Trajectory) -> Row:
    """A record of the public schema as a document, whatever its outcome; the times of calls become those of steps."""
    metadata = record.metadata
    messages = actions_to_messages(metadata, record.action_sequence)
    if metadata.answer is not None:
        messages.append(Message(role="assistant", content=metadata.answer, reasoning_content=metadata.answer_reasoning))
    chat = Chat(
        messages=tuple(messages),
        tools=tuple(metadata.tools),
        id=record.id,
        source=metadata.source or record.environment.name,
        licence=metadata.licence,
        group=metadata.group or record.id,
    )
    row = chat_to_atif(chat)
    row["agent"]["name"] = record.tool
    times = {f"call_{index}": action.start_time.isoformat() for index, action in enumerate(record.action_sequence)}
    for step in row["steps"]:
        if calls := step.get("tool_calls"):
            step["timestamp"] = times[calls[0]["tool_call_id"]]
    details: dict[str, JsonValue] = {
        "outcome": record.outcome.value,
        "category": record.category.value,
        "timestamp": record.timestamp.isoformat(),
        "environment": record.environment.model_dump(mode="json"),
    }
    row["extra"] = {**row.get("extra", {}), **details}
    return row


ATIF_STEP = frozenset({
    "source", "message", "reasoning_content", "tool_calls", "observation", "is_copied_context", "llm_call_count", "extra",
})  # fmt: skip

ADAPTERS = (
    Adapter(
        name="atif",
        kind="trajectory",
        function=atif_row,
        columns=(
            "schema_version",
            "steps",
            "agent",
            "session_id",
            "trajectory_id",
            "subagent_trajectories",
            "extra",
        ),
        matches=with_columns("schema_version", "steps", "agent"),
        turns=("steps",),
        turn_keys=ATIF_STEP,
        schema="public pages",
        note="Agent Trajectory Interchange Format 1.x. Copied steps are context only. `data export` writes it.",
    ),
)
