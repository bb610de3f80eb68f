"""`python -m data export`: chats written in a public format, so that other tools can read them.

A chat that a format cannot hold is left out with a counted reason, as on the way in.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from data.adapters import adapter_named, read_adapted
from data.adapters.atif import chat_to_atif, trajectory_to_atif
from data.adapters.glaive import chat_to_glaive_row
from data.adapters.openai_chat import chat_to_openai_row
from data.adapters.parts import Row
from data.adapters.react import chat_to_react_row
from data.adapters.sharegpt_tools import chat_to_hermes_row, chat_to_sharegpt_row
from data.chats import Chat, Skip
from data.errors import UserError, nearest
from data.files import whole_result
from data.output import count_rows, print_table, save_counts, write_lines
from data.progress import with_progress
from data.records import read_trajectories

FORMATS: dict[str, Callable[[Chat], Row | Skip]] = {
    "openai": chat_to_openai_row,
    "hermes": chat_to_hermes_row,
    "sharegpt": chat_to_sharegpt_row,
    "atif": chat_to_atif,
    "glaive": chat_to_glaive_row,
    "react": chat_to_react_row,
}


def _exported(source: Path, adapter: str, format: str) -> Iterator[Row | Skip]:
    if (adapter, format) == ("trajectory", "atif"):  # keeps the times and outcomes that a chat has no place for
        yield from map(trajectory_to_atif, read_trajectories(source))
        return
    for _, result in read_adapted(adapter_named(adapter), source):
        if isinstance(result, Skip):
            yield result
        elif isinstance(result, Chat):
            yield FORMATS[format](result)
        else:
            yield Skip("a preference pair, which these formats do not hold")


def export_command(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Chats, as `convert` and `build` write them.")],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")],
    out: Annotated[Path, typer.Option(help="File to write, one row a line.")],
    adapter: Annotated[str, typer.Option(help="Format of FILE; `adapters` lists them.")] = "chats",
) -> None:
    """Write chats as OpenAI fine-tuning rows, Hermes or ShareGPT conversations, ATIF, Glaive or ReAct.

    What is written reads back as the same chat. A chat that a format cannot hold (a text with the format's own tags, say) is
    left out; counts are printed and saved beside OUT as .counts.json. Trajectories go to ATIF whatever their outcome
    (`--adapter trajectory`).

    \b
    Example:
        python -m data export --format atif runs/glaive.jsonl --out runs/glaive.atif.jsonl
    """
    if format not in FORMATS:
        raise UserError(f"there is no format {format!r}.{nearest(format, FORMATS)} All of them: {', '.join(FORMATS)}")
    read, dropped = 0, Counter[str]()

    def lines() -> Iterator[str]:
        nonlocal read
        for row in with_progress(_exported(source, adapter, format), f"exporting {source}"):
            read += 1
            if isinstance(row, Skip):
                dropped[row.reason] += 1
            else:
                yield json.dumps(row, ensure_ascii=False)

    with whole_result(out) as result:
        kept = write_lines(result, out, lines())
        if not kept:
            reasons = "".join(f"\n  {count} x {reason}" for reason, count in dropped.most_common())
            raise UserError(
                f"{source}: no chat of {read} can be written as {format}:{reasons or ' there was nothing to read'}"
            )
        counts = {"format": format, "input": str(source), "read": read, "kept": kept, "dropped": dict(dropped)}
        saved = save_counts(result, out, counts)
    print_table(("source", "rows", "count"), count_rows(str(source), counts))
    typer.echo(f"wrote {out} and {saved}")
