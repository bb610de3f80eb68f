"""A conversation of one instruction -> the public record."""

from __future__ import annotations

from datetime import datetime

from benchmark.capture.conversations import Turn
from data.chats import Chat, what_is_said
from data.records import Action, Category, Environment, Metadata, Outcome, Trajectory
from data.trajectories import trajectory_to_turns


def turn_to_trajectory(turn: Turn) -> Trajectory | None:
    """The record of a conversation up to this answer; null where it has other than one instruction, or a call without a result.

    Nobody has judged it: its outcome is `partial`, which nothing imitates unasked, and `metadata.judged` is false. Whether a
    call failed is told by its result alone, so `error` is null. Category and environment are not known.
    """
    chat = turn.chat()
    said = chat.messages[1:] if chat.messages[0].role == "system" else chat.messages
    if said[0].role != "user" or any(message.role == "user" for message in said[1:]):
        return None
    *steps, answer = said[1:]
    if answer.tool_calls or any(message.role == "assistant" and not message.tool_calls for message in steps):
        return None
    way = turn.way()
    root = way[0].recorded
    record = Trajectory(
        id=chat.id,
        category=Category.OTHER,
        timestamp=root.asked_at,
        environment=Environment(name="capture", details={"api": root.api, "model": turn.recorded.model}),
        tool="capture",
        action_sequence=_actions(way),
        outcome=Outcome.PARTIAL,
        metadata=Metadata.model_validate(
            {
                "instruction": said[0].content,
                "system": chat.messages[0].content if chat.messages[0].role == "system" else None,
                "tools": chat.tools,
                "answer": answer.content,
                "answer_reasoning": answer.reasoning_content,
                "source": chat.source,
                "group": chat.group,
                "inferred_tools": list(chat.inferred_tools),
                "judged": False,
            }
        ),
    )
    return record if _says_the_same(record, chat) else None


def _says_the_same(record: Trajectory, chat: Chat) -> bool:
    """Whether the record holds all that was said, and in its order."""
    turns = trajectory_to_turns(record)
    return what_is_said(turns) == what_is_said(chat.messages) and all(
        one.content == other.content for one, other in zip(turns, chat.messages, strict=True)
    )


def _actions(way: list[Turn]) -> list[Action]:
    results: dict[str | None, tuple[str, datetime]] = {}
    for turn in way:
        for message in turn.recorded.messages:
            if message.role == "tool":
                results[message.tool_call_id] = message.content, turn.recorded.asked_at
    actions = []
    place = 0
    for turn in way:
        for message in turn.recorded.messages:
            for number, call in enumerate(message.tool_calls):
                output, ended = results[call.id]
                actions.append(
                    Action(
                        command=call.name,
                        input=call.arguments,
                        output=output,
                        start_time=min(turn.recorded.answered_at, ended),
                        end_time=ended,
                        turn=place if len(message.tool_calls) > 1 else None,
                        text=message.content if number == 0 and message.content else None,
                        reasoning=message.reasoning_content if number == 0 else None,
                        weight=message.weight,
                    )
                )
            place += 1
    return actions
