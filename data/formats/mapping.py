"""A source in no known format, read by a YAML file that says which column is what.

    # my_set.yaml: a chat of one question and its answer
    prompt: question
    response: answer
    system: instructions
    id: uid
    licence: MIT

    # support.yaml: a chat of turns
    messages: dialogue
    role_key: speaker
    content_key: utterance
    roles: {customer: user, agent: assistant}
    tools: functions

    # choices.yaml: pairs; each side is a text or a list of turns
    prompt: history
    chosen: better
    rejected: worse

A row must have the columns of messages, prompt, response, chosen and rejected; the others may be missing or null in it. The
columns are renamed to those of OpenAI's and TRL's formats, and the row is then read like one of those. Turns keep the
usual keys beside role and content: tool_calls, tool_call_id, name, reasoning_content, weight and its other names.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from data.chats import Chat, PreferencePair, Skip
from data.formats.openai_chat import openai_chat_row
from data.formats.parts import Row, Unrepresentable, objects_in, row_id, skip_if_unrepresentable
from data.formats.preference import trl_preference_row
from data.formats.turns import TURN_KEYS

_TURN_KEYS = tuple(TURN_KEYS - {"role", "content", "from", "value"})


class Mapping(BaseModel):
    """Which column is what: either `messages`, or `prompt` and `response`, or `chosen` and `rejected`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    messages: str | None = None
    """Column with the list of turns."""
    prompt: str | None = None
    """Column with the question, or with the turns before `response`, `chosen` and `rejected`."""
    response: str | None = None
    reasoning: str | None = None
    """Column with what was thought before `response`."""
    chosen: str | None = None
    rejected: str | None = None
    system: str | None = None
    """Column with a system prompt, for rows that have one."""
    tools: str | None = None
    """Column with tool definitions, in any usual style."""
    id: str | None = None
    """Column with the row's own id; without it the id is a hash of the row."""
    group: str | None = None
    """Column that names what must not be split between training and validation, such as a task."""
    role_key: str = "role"
    content_key: str = "content"
    roles: dict[str, Literal["system", "user", "assistant", "tool"]] = Field(default_factory=dict)
    """Names of roles in the turns; system, user, assistant and tool need none."""
    source: str | None = None
    """What the rows are called afterwards; null takes the name of the file of this mapping."""
    licence: str | None = None
    """Licence of all rows."""

    @model_validator(mode="after")
    def _one_shape(self) -> Mapping:
        shapes = [
            name
            for name, given in (
                ("messages", self.messages is not None),
                ("prompt and response", self.prompt is not None and self.response is not None),
                ("chosen and rejected", self.chosen is not None and self.rejected is not None),
            )
            if given
        ]
        if len(shapes) != 1:
            raise ValueError(
                "name either messages, or prompt and response, or chosen and rejected (with prompt where it is apart); "
                f"found {' beside '.join(shapes) or 'none of them whole'}"
            )
        return self


def _column(row: Row, name: str) -> Any:
    if name not in row:
        raise Unrepresentable(f"there is no column {name!r}")
    return row[name]


def _turns(value: Any, mapping: Mapping) -> list[Row]:
    """Turns in OpenAI's words."""
    turns: list[Row] = []
    for turn in objects_in(value, "turns"):
        role = turn.get(mapping.role_key)
        turns.append(
            {
                **{key: turn[key] for key in _TURN_KEYS if key in turn},
                "role": mapping.roles.get(role, role) if isinstance(role, str) else role,
                "content": turn.get(mapping.content_key),
            }
        )
    return turns


def _said(value: Any, role: str, mapping: Mapping) -> list[Row]:
    """A text as one turn of `role`, or a list of turns."""
    return [{"role": role, "content": value}] if isinstance(value, str) else _turns(value, mapping)


@skip_if_unrepresentable
def mapped_row(row: Row, *, mapping: Mapping) -> Chat | PreferencePair | Skip:
    """A row as the mapping says."""
    system = row.get(mapping.system) if mapping.system else None
    if not isinstance(system, str | None):
        raise Unrepresentable(f"column {mapping.system!r} is no text")
    history = [{"role": "system", "content": system}] if system else []
    if mapping.prompt is not None:
        history += _said(_column(row, mapping.prompt), "user", mapping)
    renamed: Row = {"tools": row.get(mapping.tools) if mapping.tools else None}
    result: Chat | PreferencePair | Skip
    if mapping.chosen is not None and mapping.rejected is not None:
        sides = {
            side: _said(_column(row, column), "assistant", mapping)
            for side, column in (("chosen", mapping.chosen), ("rejected", mapping.rejected))
        }
        result = trl_preference_row({**renamed, **sides, **({"prompt": history} if history else {})})
    else:
        if mapping.messages is not None:
            history += _turns(_column(row, mapping.messages), mapping)
        elif mapping.response is not None:
            answer = _said(_column(row, mapping.response), "assistant", mapping)
            if mapping.reasoning is not None:
                answer[0] = {**answer[0], "reasoning_content": row.get(mapping.reasoning)}
            history += answer
        result = openai_chat_row({**renamed, "messages": history})
    if isinstance(result, Skip):
        return result
    group = row.get(mapping.group) if mapping.group else None
    own = {
        "id": row_id(row, mapping.id) if mapping.id else row_id(row, ""),
        "group": None if group is None else str(group),
        "licence": mapping.licence,
        "source": mapping.source or "",
    }
    return result.model_copy(update=own)
