"""`python -m data look`: what a file holds, before anything is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.files import write_whole
from core.screen import print_table
from data.formats.inputs import find_input
from data.formats.recognise import AUTO
from data.sets.look import look_at, look_to_page


def look_command(
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="File, folder, pattern, or id of a dataset on the hub.")
    ],
    out: Annotated[Path | None, typer.Option(help="File for the page; without it, runs/look/NAME.html.")] = None,
    adapter: Annotated[str, typer.Option(help="auto, or a name that `adapters` lists.")] = AUTO,
) -> None:
    """Say what a file holds before it is trained on: tools, errors, loops, lengths, languages, models, cost.

    One screen, and the same as a page. Nothing that was said is shown.

    \b
    Example:
        python -m data look traces.jsonl
    """
    look = look_at(find_input(source), adapter=adapter)
    for title, columns, rows in look.tables():
        print_table(columns, rows, title=title)
    page = out if out is not None else Path("runs/look") / f"{Path(source).name}.html"
    write_whole(page, look_to_page(look))
    print(f"wrote {page}")
