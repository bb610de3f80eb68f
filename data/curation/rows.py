"""What a curation step sees of a line: one `Row`, whether the line is a chat, a pair or a trajectory.

The kind is told by one field (`messages`, `chosen`, `action_sequence`), in `value_to_record` and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Literal

from pydantic import ValidationError

from core.config import describe_validation_error
from core.errors import UserError
from core.json_lines import json_line_to_object
from data.chats import Chat, Message, PreferencePair
from data.records import ToolSpec, Trajectory
from data.trajectories import actions_to_messages

Kind = Literal["chat", "pair", "trajectory"]
Record = Chat | PreferencePair | Trajectory

MODEL: dict[Kind, type[Chat] | type[PreferencePair] | type[Trajectory]] = {
    "chat": Chat,
    "pair": PreferencePair,
    "trajectory": Trajectory,
}
FIELD_OF_KIND: dict[Kind, str] = {"chat": "messages", "pair": "chosen", "trajectory": "action_sequence"}


def value_to_record(value: Any) -> Record:
    """A parsed line as the record that it is.

    Raises:
        UserError: if it is none of the three kinds, or breaks what its kind promises.
    """
    if not isinstance(value, dict):
        raise UserError(f"expected an object, got {type(value).__name__}")
    for kind, field in FIELD_OF_KIND.items():
        if field in value:
            try:
                return MODEL[kind].model_validate(value)
            except ValidationError as error:
                raise UserError(describe_validation_error(error, MODEL[kind])) from None
    raise UserError("neither a chat (messages), a pair (chosen) nor a trajectory (action_sequence)")


@dataclass(frozen=True)
class CuratedRow:
    """One record, seen as messages."""

    record: Record
    parts: tuple[tuple[Message, ...], ...]
    """What is said: (messages,) of a chat or a trajectory; (prompt, chosen, rejected) of a pair."""

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def kind(self) -> Kind:
        return "chat" if isinstance(self.record, Chat) else "pair" if len(self.parts) == 3 else "trajectory"

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        if isinstance(self.record, Trajectory):
            return tuple(self.record.metadata.tools)
        return self.record.tools

    @cached_property
    def messages(self) -> tuple[Message, ...]:
        """Everything that is said, in order."""
        return tuple(chain.from_iterable(self.parts))

    @property
    def imitated(self) -> tuple[Message, ...]:
        """The messages of what is imitated: all of a chat, prompt and chosen of a pair, never its rejected side."""
        return tuple(chain.from_iterable(self.parts[:2]))

    @property
    def trained(self) -> Iterator[Message]:
        """The turns that a model shall learn to say: assistant turns with a weight above 0; of a pair those of chosen."""
        side = self.parts[1] if self.kind == "pair" else self.parts[0]
        return (message for message in side if message.loss_weight > 0)

    @property
    def trained_calls(self) -> str:
        """The calls that are trained, as canonical JSON: turn by turn, of a pair those of chosen and those of rejected; and
        the label of a chat that has one.

        Rows in which it differs are different examples, however alike their words are.
        """
        sides = self.parts[1:] if self.kind == "pair" else self.parts
        calls = [
            [
                [[call.name, call.arguments] for call in message.tool_calls]
                for message in side
                if message.loss_weight > 0 and message.tool_calls
            ]
            for side in sides
        ]
        label = self.record.label if isinstance(self.record, Chat) else None
        return json.dumps(calls if label is None else [label, calls], sort_keys=True, ensure_ascii=False)

    @property
    def metadata(self) -> dict[str, Any]:
        """What the record says about itself beside its words; a chat and a pair say nothing."""
        if not isinstance(self.record, Trajectory):
            return {}
        metadata = self.record.metadata
        return {"language": metadata.language, **(metadata.model_extra or {})}

    @property
    def score(self) -> float | None:
        """The score that the record carries (`metadata.score` of a trajectory), or None."""
        score = self.metadata.get("score")
        return float(score) if isinstance(score, int | float) and not isinstance(score, bool) else None


def record_to_row(record: Record) -> CuratedRow:
    """The row of a record."""
    if isinstance(record, Chat):
        return CuratedRow(record, (record.messages,))
    if isinstance(record, PreferencePair):
        return CuratedRow(record, (record.prompt, record.chosen, record.rejected))
    messages = actions_to_messages(record.metadata, record.action_sequence)
    if (answer := record.metadata.answer) is not None:
        messages.append(Message(role="assistant", content=answer, reasoning_content=record.metadata.answer_reasoning))
    return CuratedRow(record, (tuple(messages),))


def line_to_row(line: bytes) -> CuratedRow:
    """A line that may hold anything as a row.

    Raises:
        UserError: with the reason why it is none.
    """
    try:
        value = json_line_to_object(line)
    except ValueError as error:
        raise UserError(str(error)) from None
    return record_to_row(value_to_record(value))


def known_line_to_row(line: bytes, kind: Kind) -> CuratedRow:
    """A line of which `line_to_row` once made a row of `kind`; twice as fast."""
    return record_to_row(MODEL[kind].model_validate_json(line))
