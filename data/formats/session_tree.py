"""Sessions whose lines form a tree, because a user may go back and ask again -> one chat for each way through it.

A line names the one that it follows. Lines that say nothing (hooks, changes of mode) are passed through. Each way from a first
line to a last one in which the model says something new is a chat; turns that an earlier chat of the session holds already
have weight 0 in the later ones, so that each turn is learned once. Where a session was compacted, its summary begins a tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from data.chats import Chat, Skip
from data.formats.anthropic_messages import not_held
from data.formats.parts import Conversation, Row, Unrepresentable, skip_if_unrepresentable, text_of
from data.formats.turns import AssistantParts, say_messages

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
        """Whether the model says something in it that is learned."""
        said = (turn for turn in self.turns if turn["role"] == "assistant")
        return self.fault is not None or any(turn.get("weight") != 0 for turn in said)


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
def _chat(names: Row, way: list[Step]) -> Chat:
    conversation = Conversation()
    turns: list[Row] = []
    for step in way:
        if step.fault is not None:
            raise Unrepresentable(step.fault)
        turns += step.turns
    if turns[0]["role"] == "assistant":
        raise Unrepresentable("a session that begins with an answer")
    say_messages(conversation, turns)
    return conversation.chat(**names)


def tree_to_chats(steps: list[Step]) -> list[Chat | Skip]:
    """All chats of a file. The first one of a session is named after it, others, and those of agents that it called, after
    it and their last step; the session is their group. Ways that do not end with an answer come last: where a prompt was taken
    back before anybody answered, nothing of its way is new, and it is left out."""
    by_id = {step.id: step for step in steps}
    if len(by_id) < len(steps):
        return [Skip("two lines of one id")]
    results: list[Chat | Skip] = []
    held: set[str] = set()
    named: set[str] = set()
    for way in sorted(_ways(by_id), key=lambda way: not way[-1].answers):
        if not any(step.answers for step in way if step.id not in held):
            results.append(Skip("no new answer"))
            continue
        last = way[-1]
        is_first = not last.is_aside and last.session not in named
        own = [replace(step, turns=as_context(step.turns)) if step.id in held else step for step in way]
        names = {"id": last.session if is_first else f"{last.session}/{last.id}", "group": last.session}
        chat = _chat(names, own)
        results.append(chat)
        if isinstance(chat, Chat):
            held |= {step.id for step in way}
            named |= {last.session} if is_first else set()
    return results or [Skip("no word of an assistant")]


def as_context(turns: list[Row]) -> list[Row]:
    """Turns of which nothing is learned."""
    return [{**turn, "weight": 0} if turn["role"] == "assistant" else turn for turn in turns]


def blocks_to_turns(blocks: Iterable[Row], *, call: str, arguments: str) -> list[Row]:
    """An answer written as typed blocks: text, thoughts and calls, of which `call` is the type and `arguments` the key of the
    arguments. A thought behind words begins another turn; an answer of nothing is none.

    Raises:
        Unrepresentable: for a block that a chat cannot hold.
    """
    turns: list[Row] = []
    parts = AssistantParts()
    for block in blocks:
        kind = block.get("type")
        if kind == "text":
            parts.speak(text_of([block]))
        elif kind == "thinking":
            thought = block.get("thinking")
            if parts.has_spoken and not parts.has_called and isinstance(thought, str) and thought.strip():
                turns.append(parts.turn({}))
                parts = AssistantParts()
            parts.think(thought)
        elif kind == call:
            parts.call(block.get("id"), block.get("name"), block.get(arguments))
        else:
            raise not_held(kind)
    turns.append(parts.turn({}))
    return [turn for turn in turns if any(turn[key] for key in ("content", "reasoning_content", "tool_calls"))]
