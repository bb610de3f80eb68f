"""`python -m data export`: chats written in a public format, so that other tools can read them.

A chat that a format cannot hold is left out with a counted reason, as on the way in. What is written carries where it came
from and under which licence, so that the next one to read it knows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from data.adapters import adapter_named, read_adapted, why_row_not_commercial
from data.adapters.atif import chat_to_atif, trajectory_to_atif
from data.adapters.glaive import chat_to_glaive_row
from data.adapters.openai_chat import chat_to_openai_row
from data.adapters.parts import Row
from data.adapters.react import chat_to_react_row
from data.adapters.row_keys import KeyCounts, KeyRules, key_rules
from data.adapters.sharegpt_tools import chat_to_hermes_row, chat_to_sharegpt_row
from data.chats import Chat, PreferencePair, Skip
from data.convert import GoodFrom, Ignore, Redact, print_keys
from data.errors import UserError, nearest
from data.files import whole_result
from data.output import count_rows, print_table, save_counts, write_lines
from data.progress import with_progress
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
        else:
            yield (_bare(row, format) if bare else _with_origin(row, origin, format)), origin


def export_command(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Chats, as `convert` and `build` write them.")],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")],
    out: Annotated[Path, typer.Option(help="File to write, one row a line.")],
    adapter: Annotated[str, typer.Option(help="Format of FILE; `adapters` lists them.")] = "chats",
    bare: Annotated[
        bool,
        typer.Option("--bare", help="Leave id, source, licence and group out of the rows, into a file beside them."),
    ] = False,
    ignore: Ignore = None,
    good_from: GoodFrom = None,
    redact: Redact = True,
) -> None:
    """Write chats as OpenAI fine-tuning rows, Hermes or ShareGPT conversations, ATIF, Glaive or ReAct.

    What is written reads back as the same chat. A chat that a format cannot hold (a text with the format's own tags, say) is
    left out; counts are printed and saved beside OUT as .counts.json. Trajectories go to ATIF whatever their outcome
    (`--adapter trajectory`).

    Every row carries its id, source, licence and group. --bare, for services that refuse unknown keys, writes them into OUT's
    neighbour .origins.jsonl, line by line, and leaves out rows whose licence forbids that or is not known.

    Keys that change what a row means are obeyed as `convert` obeys them; --ignore and --good-from mean the same here.

    \b
    Examples:
        python -m data export --format atif runs/glaive.jsonl --out runs/glaive.atif.jsonl
        python -m data export --format openai --adapter sharegpt --ignore score rows.jsonl --out runs/rows.jsonl
    """
    if format not in FORMATS:
        raise UserError(f"there is no format {format!r}.{nearest(format, FORMATS)} All of them: {', '.join(FORMATS)}")
    rules, keys = key_rules(ignore or (), good_from or (), redact=redact), KeyCounts()
    read, dropped = 0, Counter[str]()
    beside = out.with_suffix(".origins.jsonl")

    def lines(origins: IO[bytes] | None) -> Iterator[str]:
        nonlocal read
        found = _exported(source, adapter, format, bare=bare, rules=rules, keys=keys)
        for made in with_progress(found, f"exporting {source}"):
            read += 1
            if isinstance(made, Skip):
                dropped[made.reason] += 1
                continue
            row, origin = made
            if origins is not None:
                origins.write(json.dumps(origin, ensure_ascii=False).encode() + b"\n")
            yield json.dumps(row, ensure_ascii=False)

    with whole_result(out) as result:
        origins = result.open(beside) if bare else None
        kept = write_lines(result, out, lines(origins))
        if not kept:
            reasons = "".join(f"\n  {count} x {reason}" for reason, count in dropped.most_common())
            raise UserError(
                f"{source}: no chat of {read} can be written as {format}:{reasons or ' there was nothing to read'}"
            )
        if not bare:
            result.remove(beside)  # of an earlier run
        counts = {
            "format": format,
            "input": str(source),
            "read": read,
            "kept": kept,
            "dropped": dict(dropped),
            "not_read": dict(keys.unread.most_common()),
            "not_judged": dict(keys.not_judged.most_common()),
            "redacted": dict(keys.redacted.most_common()),
        }
        saved = save_counts(result, out, counts)
    print_table(("source", "rows", "count"), count_rows(str(source), counts))
    print_keys(counts)
    typer.echo(f"wrote {out}{f', {beside}' if bare else ''} and {saved}")
