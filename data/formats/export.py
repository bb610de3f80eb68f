"""`python -m data export`: chats written in a public format, so that other tools can read them.

A chat that a format cannot hold is left out with a counted reason, as on the way in. What is written carries where it came
from and under which licence, so that the next one to read it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from data.chats import Chat, PreferencePair, Skip
from data.formats.atif import chat_to_atif, trajectory_to_atif
from data.formats.catalogue import adapter_named
from data.formats.glaive import chat_to_glaive_row
from data.formats.openai_chat import chat_to_openai_row
from data.formats.parts import Row
from data.formats.react import chat_to_react_row
from data.formats.reading import read_adapted, why_row_not_commercial
from data.formats.row_keys import KeyCounts, KeyRules
from data.formats.sharegpt_tools import chat_to_hermes_row, chat_to_sharegpt_row
from data.records import Trajectory, read_trajectories
from data.release.licences import licence_to_spdx

FORMATS: dict[str, Callable[[Chat], Row | Skip]] = {
    "openai": chat_to_openai_row,
    "hermes": chat_to_hermes_row,
    "sharegpt": chat_to_sharegpt_row,
    "atif": chat_to_atif,
    "glaive": chat_to_glaive_row,
    "react": chat_to_react_row,
}


Origin = dict[str, str | None]
"""id, source, licence and group of a row."""


def _origin(row: Chat | Trajectory) -> Origin:
    if isinstance(row, Chat):
        return {"id": row.id, "source": row.source, "licence": row.licence, "group": row.group}
    metadata = row.metadata
    source, group = metadata.source or row.environment.name, metadata.group or row.id
    return {"id": row.id, "source": source, "licence": metadata.licence, "group": group}


def _with_origin(row: Row, origin: Origin, format: str) -> Row:
    """A written row with its origin: in ATIF where that format keeps such things, elsewhere as columns of their own."""
    if format == "atif":
        return {
            **row,
            "extra": {**row.get("extra", {}), **{key: origin[key] for key in ("source", "licence", "group")}},
        }
    return {**origin, **row}


def _bare(row: Row, format: str) -> Row:
    row = {key: value for key, value in row.items() if key not in ("id", "source", "licence", "group")}
    if format == "atif":
        extra = {key: value for key, value in row.pop("extra", {}).items() if key not in ("source", "licence", "group")}
        row = {key: value for key, value in row.items() if key not in ("session_id", "trajectory_id")}
        row["agent"] = {**row["agent"], "name": "unknown"}  # the name of the source
        if extra:
            row["extra"] = extra
    return row


def _why_not_bare(origin: Origin) -> str | None:
    """Why a row may not go without its licence beside it, or null where it may."""
    if origin["licence"] is None:
        return "its licence is not known, so it cannot go bare"
    if (refused := why_row_not_commercial(origin["licence"], origin["source"] or "")) is not None:
        return refused
    try:
        licence_to_spdx(origin["licence"])
    except ValueError as reason:
        return f"cannot go bare: {reason}"
    return None


def _exported(
    source: Path, adapter: str, format: str, *, bare: bool, rules: KeyRules, keys: KeyCounts
) -> Iterator[tuple[Row, Origin] | Skip]:
    """Each row as it is written, and its origin."""
    write: Callable[[Any], Row | Skip] = FORMATS[format]
    read: Iterable[Chat | Trajectory | Skip | PreferencePair]
    if (adapter, format) == ("trajectory", "atif"):  # keeps the times and outcomes that a chat has no place for
        write, read = trajectory_to_atif, read_trajectories(source)
    else:
        read = (result for _, result in read_adapted(adapter_named(adapter), source, rules=rules, counts=keys))
    for result in read:
        if isinstance(result, Skip):
            yield result
            continue
        if isinstance(result, PreferencePair):
            yield Skip("a preference pair, which these formats do not hold")
            continue
        origin = _origin(result)
        if bare and (reason := _why_not_bare(origin)) is not None:
            yield Skip(reason)
            continue
        row = write(result)
        if isinstance(row, Skip):
            yield row
        elif isinstance(result, Chat) and result.label == "bad" and (bare or format != "openai"):
            yield Skip("labelled bad, and so no example to imitate")
        else:
            if isinstance(result, Chat) and result.label is not None and format == "openai" and not bare:
                row = {**row, "label": result.label == "good"}  # as TRL's rows for KTO have it
            yield (_bare(row, format) if bare else _with_origin(row, origin, format)), origin
