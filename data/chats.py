"""What every source becomes: a `Chat` to imitate, or a `PreferencePair` to prefer, or a `Skip` with its reason.

A message holds what was said, never how a model writes it down: a call's arguments are a dict, reasoning stands apart
from content, and no control token of any template appears here. Turning messages into ids is the work of
data/rendering/renderer.py alone.

Invariants (checked on construction, so that a wrong chat cannot exist):

* only assistants call tools, only assistants carry a weight above 0;
* a system message stands first or nowhere;
* every call id occurs once, every tool message answers a call that came before it and was not answered yet;
* no assistant or user speaks while a call is unanswered (a chat may end there).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from data.records import ToolSpec


class Skip(NamedTuple):
    """A row that was read and left out, and why. Reasons are counted, so keep them few and without row details."""

    reason: str


class ToolCall(BaseModel):
    """One call: the tool's name and its arguments as a dict, exactly as the source wrote them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    name: str = Field(min_length=1)
    arguments: dict[str, JsonValue]


class Message(BaseModel):
    """One turn of a chat.

    `weight` is the loss weight of the whole turn: 0 is context only, 1 is trained; null means 1 for an assistant and 0
    for everybody else.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    reasoning_content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    weight: Annotated[float, Field(ge=0, le=1)] | None = None

    @property
    def loss_weight(self) -> float:
        """The weight with its default filled in."""
        if self.weight is None:
            return 1.0 if self.role == "assistant" else 0.0
        return self.weight

    def to_template(self) -> dict[str, Any]:
        """The dict that `apply_chat_template` takes: only the keys that hold something, and content always."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning_content is not None:
            message["reasoning_content"] = self.reasoning_content
        if self.tool_calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.tool_calls
            ]
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            message["name"] = self.name
        return message


def check_messages(messages: Sequence[Message]) -> str | None:
    """The first broken invariant as one line, or None when all hold."""
    seen: set[str] = set()
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        if fault := _fault_of(message, index, seen, open_calls):
            return f"message {index} ({message.role}): {fault}"
    return None


def _fault_of(message: Message, index: int, seen: set[str], open_calls: set[str]) -> str | None:
    if message.role == "system" and index > 0:
        return "a system message stands first or nowhere"
    if message.role != "assistant":
        if message.tool_calls or message.reasoning_content is not None:
            return "only an assistant calls tools or reasons"
        if message.weight:
            return f"weight {message.weight} on words that are not the model's"
    if message.role == "tool":
        if message.tool_call_id not in open_calls:
            return f"answers {message.tool_call_id!r}, which is no open call"
        open_calls.remove(message.tool_call_id)
        return None
    if message.tool_call_id is not None:
        return "only a tool message has a tool_call_id"
    if open_calls:
        return f"speaks while call {min(open_calls)!r} is unanswered"
    for call in message.tool_calls:
        if call.id in seen:
            return f"call id {call.id!r} occurs twice"
        seen.add(call.id)
        open_calls.add(call.id)
    return None


Label = Literal["good", "bad"]


class Chat(BaseModel):
    """One conversation to imitate. `id` names the record it came from, `group` what must not be split (a task).

    `label` is what somebody judged: what a chat says is good, or it is bad and never imitated; null where nobody judged.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    messages: tuple[Message, ...] = Field(min_length=1)
    tools: tuple[ToolSpec, ...] = ()
    inferred_tools: Annotated[tuple[str, ...], Field(exclude_if=lambda names: not names)] = ()
    """Names of those tools that nobody declared: their schemas only say what the calls show."""
    id: str
    source: str
    licence: str | None = None
    group: str | None = None
    label: Annotated[Label | None, Field(exclude_if=lambda label: label is None)] = None

    @model_validator(mode="after")
    def _invariants_hold(self) -> Chat:
        if fault := check_messages(self.messages):
            raise ValueError(fault)
        return self


class PreferencePair(BaseModel):
    """One history and two continuations; `chosen` is preferred by `margin` (null where the source gives none).

    `weight` is what the pair counts for beside the others: 2 is as much as to have it twice.

    Both sides may hold several turns, tool results among them; only the assistant turns are scored. `trunk` names the
    trajectory that step-level pairs share, so that they can be trained as one tree.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: tuple[Message, ...] = Field(min_length=1)
    chosen: tuple[Message, ...] = Field(min_length=1)
    rejected: tuple[Message, ...] = Field(min_length=1)
    tools: tuple[ToolSpec, ...] = ()
    margin: float | None = None
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False, exclude_if=lambda weight: weight == 1)] = 1.0
    id: str
    source: str
    licence: str | None = None
    group: str | None = None
    trunk: str | None = None
    kind: Annotated[str | None, Field(exclude_if=lambda kind: kind is None)] = None
    """What kind of mistake the rejected side is (`python -m data pairs --kinds`)."""

    @model_validator(mode="after")
    def _invariants_hold(self) -> PreferencePair:
        for name, side in (("chosen", self.chosen), ("rejected", self.rejected)):
            if side[0].role != "assistant":
                raise ValueError(f"{name} starts with {side[0].role}, not with the assistant")
            if fault := check_messages([*self.prompt, *side]):
                raise ValueError(f"{name}: {fault}")
        if what_is_said(self.chosen) == what_is_said(self.rejected):
            raise ValueError("chosen and rejected are the same")
        return self


def what_is_said(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages without ids and weights: equal exactly when both sides say and do the same.

    Arguments are compared as JSON text, because Python takes 1, 1.0 and true for equal and a tool does not.
    """
    return [
        {
            "role": message.role,
            "content": message.content.strip(),
            "reasoning": message.reasoning_content,
            "calls": [(call.name, json.dumps(call.arguments, sort_keys=True)) for call in message.tool_calls],
        }
        for message in messages
    ]


def what_is_done(messages: Sequence[Message]) -> list[Any]:
    """The assistant's deeds: the calls of each turn, or the words of a turn without any.

    Equal when both sides call the same tools with the same arguments, whatever they say or think beside them. Calls of one
    turn have no order; arguments are compared as `what_is_said` does.
    """
    return [
        sorted((call.name, json.dumps(call.arguments, sort_keys=True)) for call in message.tool_calls)
        or message.content.strip()
        for message in messages
        if message.role == "assistant"
    ]


Result = Chat | PreferencePair | Skip
"""What an adapter makes of a row."""
