"""The public trajectory schema -> Chat, and the project's own Chat and PreferencePair lines back again.

These formats are ours and strict: a row that does not hold what they promise is an error, never a `Skip`.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from core.config import describe_validation_error
from core.errors import UserError
from data.chats import Chat, PreferencePair, Skip
from data.formats.adapter import Adapter
from data.formats.parts import Row, with_columns
from data.records import Outcome, Trajectory
from data.trajectories import trajectory_to_chat

Model = TypeVar("Model", bound=BaseModel)


def _row_to_model(row: Row, model: type[Model]) -> Model:
    try:
        return model.model_validate(row)
    except ValidationError as error:
        raise UserError(describe_validation_error(error, model)) from None


def trajectory_row(
    row: Row, *, outcomes: frozenset[Outcome] = frozenset({Outcome.SUCCESS}), labelled: bool = False
) -> Chat | Skip:
    """One line as `benchmark record` and `benchmark run` write it. Only `outcomes` are taken."""
    return trajectory_to_chat(_row_to_model(row, Trajectory), outcomes=outcomes, labelled=labelled)


def chat_row(row: Row) -> Chat:
    """One line as `data convert` and `data build` write it."""
    return _row_to_model(row, Chat)


def pair_row(row: Row) -> PreferencePair:
    """One line as `data pairs` and `data build` write it."""
    return _row_to_model(row, PreferencePair)


ADAPTERS = (
    Adapter(
        name="trajectory",
        kind="trajectory",
        function=trajectory_row,
        reads_all=True,
        columns=("the public schema, see `python -m data schema`",),
        matches=with_columns("category", "action_sequence", "outcome"),
        schema="real rows",
    ),
    Adapter(
        name="chats",
        kind="chat",
        function=chat_row,
        reads_all=True,
        columns=("a Chat, as `convert` writes it",),
        matches=with_columns("messages", "tools", "id", "source", "licence", "group"),
        schema="real rows",
    ),
    Adapter(
        name="pairs",
        kind="pair",
        function=pair_row,
        reads_all=True,
        columns=("a PreferencePair, as `convert` and `pairs` write it",),
        matches=with_columns("prompt", "chosen", "rejected", "id", "source", "margin", "trunk"),
        schema="real rows",
    ),
)
