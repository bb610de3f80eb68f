"""Adapters: one small file per format, each a function from a row to a `Chat`, a `PreferencePair` or a `Skip`.

An adapter copies an allow-list of fields, so a row can change neither a template nor an option. What a `Chat` cannot
hold is a `Skip` with a short reason that can be counted, never a guess. To add one: write the function, give it a line
in `ADAPTERS`, and put sample rows of the format beside the tests.

    from data.adapters import adapter_named, read_adapted

    for line, result in read_adapted(adapter_named("openai_chat"), "rows.jsonl"):
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data.adapters.openai_chat import openai_chat_row
from data.adapters.sharegpt_tools import sharegpt_tools_row
from data.adapters.trajectory import chat_row, pair_row, trajectory_row
from data.chats import Chat, PreferencePair, Skip
from data.errors import UserError, nearest
from data.records import BadLine, json_to_object, read_jsonl

Result = Chat | PreferencePair | Skip


@dataclass(frozen=True)
class Adapter:
    """One format: what its rows are, where they come from, and the function that reads one."""

    name: str
    kind: Literal["chat", "pair", "trajectory"]
    """What a row is. A trajectory becomes a chat; which outcomes are imitated is chosen where it is read."""
    hub_id: str | None
    """Dataset on the Hugging Face Hub, or null for a format that many files share."""
    licence: str | None
    """Licence of that dataset, or null where each file has its own."""
    columns: tuple[str, ...]
    """Columns that are read; all others are ignored."""
    function: Callable[[dict[str, Any]], Result]


ADAPTERS: dict[str, Adapter] = {
    adapter.name: adapter
    for adapter in (
        Adapter("trajectory", "trajectory", None, None, ("the public schema, see `schema`",), trajectory_row),
        Adapter("openai_chat", "chat", None, None, ("messages", "tools", "functions", "id"), openai_chat_row),
        Adapter("sharegpt_tools", "chat", None, None, ("conversations", "tools", "system", "id"), sharegpt_tools_row),
        Adapter("chats", "chat", None, None, ("a Chat, as `convert` writes it",), chat_row),
        Adapter("pairs", "pair", None, None, ("a PreferencePair, as `pairs` writes it",), pair_row),
    )
}


def adapter_named(name: str) -> Adapter:
    """The adapter of a name.

    Raises:
        UserError: if there is none, naming the nearest one.
    """
    if name not in ADAPTERS:
        raise UserError(f"there is no adapter {name!r}.{nearest(name, ADAPTERS)} All of them: {', '.join(ADAPTERS)}")
    return ADAPTERS[name]


def _read_rows(path: str | Path) -> Iterator[tuple[int, Any | BadLine]]:
    """Rows of JSON Lines as they come, or of one JSON list (a .json file that starts with `[`), which is read whole."""
    if Path(path).suffix != ".json":
        yield from read_jsonl(path)
        return
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if not raw.lstrip().startswith(b"["):  # several public files of JSON Lines are named .json
        yield from read_jsonl(path)
        return
    try:
        yield from enumerate(json_to_object(raw.decode()), start=1)
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def read_adapted(adapter: Adapter, path: str | Path) -> Iterator[tuple[int, Result]]:
    """Every row of a file as (line, or place in a JSON list, from 1; what the adapter makes of it).

    Raises:
        UserError: at the first bad line (not JSON, no object, not what a format of ours promises), naming file:line;
            for trajectories also where an id occurs twice.
    """
    first_line_of: dict[str, int] = {}
    for number, row in _read_rows(path):
        if isinstance(row, BadLine):
            raise UserError(f"{row}\n{_ADVICE}" if adapter.kind == "trajectory" else str(row))
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: a row is a JSON object, got {type(row).__name__}")
        try:
            result = adapter.function(row)
        except UserError as error:
            advice = f"\n{_ADVICE}" if adapter.kind == "trajectory" else ""
            raise UserError(f"{path}:{number}: {error}{advice}") from None
        if adapter.kind == "trajectory":
            first = first_line_of.setdefault(row["id"], number)
            if first != number:
                raise UserError(f"{path}:{number}: id {row['id']!r} stands already on line {first}\n{_ADVICE}")
        yield number, result


_ADVICE = "`python -m data validate` lists every bad line of a file."
