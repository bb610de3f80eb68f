"""Sessions whose lines form a tree, because a user may go back and ask again -> one chat for each way through it.

A line names the one that it follows. Lines that say nothing (hooks, changes of mode) are passed through. Each way from a first
line to a last one in which the model says something new is a chat; turns that an earlier chat of the session holds already
have weight 0 in the later ones, so that each turn is learned once. Where a session was compacted, its summary begins a tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from data.adapters.parts import Conversation, Row, Unrepresentable, skip_if_unrepresentable
from data.adapters.turns import say_messages
from data.chats import Chat, Skip

MISSING = "a line that follows one that is not in the file"


@dataclass
class Step:
    """One step of a session, of one or more lines."""

    id: str
    session: str
    """What its session is called."""
    follows: str | None
    """Id of the step before; null begins a tree."""
    turns: list[Row] = field(default_factory=list)
    """What is said in it, for `say_messages`; of a step that says nothing, none."""
    fault: str | None = None
    """Why a chat with it cannot be held."""
    is_aside: bool = False
    """Whether it is a step of an agent that the session's own one called."""

    @property
    def speaks(self) -> bool:
        """Whether it is a part of a chat."""
        return bool(self.turns) or self.fault is not None

    @property
    def answers(self) -> bool:
        """Whether the model says something in it."""
        return self.fault is not None or any(turn["role"] == "assistant" for turn in self.turns)


def _ways(steps: dict[str, Step]) -> Iterator[list[Step]]:
    """Each way from a first step to a last one that says something, in the order of their last ones.

    A way whose beginning is missing begins with a step of that fault.
    """
    before: dict[str, str | None] = {}
    for step in steps.values():
        if not step.speaks:
            continue
        seen, at = {step.id}, step.follows
        while at is not None and at in steps and not steps[at].speaks:
            if at in seen:
                break
            seen.add(at)
            at = steps[at].follows
        before[step.id] = at
    inner = set(before.values())
    for last in before:
        if last in inner:
            continue
        way: list[Step] = []
        passed: set[str] = set()
        place: str | None = last
        while place is not None:
            if place not in before or place in passed:
                way.append(Step(place, "", None, fault=MISSING))
                break
            passed.add(place)
            way.append(steps[place])
            place = before[place]
        yield way[::-1]


@skip_if_unrepresentable
def _chat(row: Row, way: list[Step], id: str, group: str | None) -> Chat:
    conversation = Conversation()
    turns: list[Row] = []
    for step in way:
        if step.fault is not None:
            raise Unrepresentable(step.fault)
        turns += step.turns
    if turns[0]["role"] == "assistant":
        raise Unrepresentable("a session that begins with an answer")
    say_messages(conversation, turns)
    return conversation.chat(id=id, group=group)


def tree_to_chats(steps: list[Step]) -> list[Chat | Skip]:
    """All chats of a file. The first one of a session is named after it, others, and those of agents that it called, after
    it and their last step; the session is their group. Ways that end with a prompt come last: where it was taken back before
    anybody answered, nothing of its way is new, and it is left out."""
    by_id = {step.id: step for step in steps}
    if len(by_id) < len(steps):
        return [Skip("two lines of one id")]
    results: list[Chat | Skip] = []
    held: set[str] = set()
    named: set[str] = set()
    for way in sorted(_ways(by_id), key=lambda way: not way[-1].answers):
        if not any(step.answers for step in way if step.id not in held):
            results.append(Skip("a prompt without an answer"))
            continue
        last = way[-1]
        is_first = not last.is_aside and last.session not in named
        own = [_as_context(step) if step.id in held else step for step in way]
        chat = _chat({}, own, last.session if is_first else f"{last.session}/{last.id}", last.session)
        results.append(chat)
        if isinstance(chat, Chat):
            held |= {step.id for step in way}
            named |= {last.session} if is_first else set()
    return results or [Skip("no word of an assistant")]


def _as_context(step: Step) -> Step:
    turns: list[dict[str, Any]] = [
        {**turn, "weight": 0} if turn["role"] == "assistant" else turn for turn in step.turns
    ]
    return replace(step, turns=turns)
