"""`python -m data show` and `templates`: what a model reads, made visible."""

from __future__ import annotations

from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from core.errors import UserError
from core.files import write_whole
from core.json_lines import BadLine, read_jsonl
from data.chats import Chat, PreferencePair, Skip
from data.curation.rows import value_to_record
from data.records import Outcome, Trajectory
from data.rendering.renderer import Renderer
from data.rendering.show import cut_before, describe_messages, describe_tree, row_to_tree, tree_to_html, tree_to_text
from data.rendering.templates_page import facts_to_markdown, real_tokenizers, template_facts, trl_templates
from data.trajectories import trajectory_to_chat


def read_row(path: Path, row: int) -> Chat | PreferencePair:
    """Row `row` (from 0) of a file of chats, pairs or trajectory records.

    Raises:
        UserError: if there is no such row, or it is none of the three.
    """
    found = next(islice(read_jsonl(path), row, None), None)
    if found is None:
        count = sum(1 for _ in read_jsonl(path))
        raise UserError(f"{path}: there is no row {row}, it holds {count} (rows count from 0)")
    line, value = found
    if isinstance(value, BadLine):
        raise UserError(str(value))
    try:
        record = value_to_record(value)
    except UserError as error:
        raise UserError(f"{path}:{line}: {error}") from None
    if not isinstance(record, Trajectory):
        return record
    chat = trajectory_to_chat(record, outcomes=frozenset(Outcome))
    if isinstance(chat, Skip):
        raise UserError(f"{path}:{line}: cannot be shown: {chat.reason}")
    return chat


def show_command(
    file: Annotated[Path, typer.Argument(help="Chats, pairs or trajectories, JSON Lines.")],
    model: Annotated[str, typer.Option(help="Model folder or hub id whose tokenizer and template are used.")],
    row: Annotated[int, typer.Option(min=0, help="Which row, from 0.")] = 0,
    chat_template_path: Annotated[
        str | None, typer.Option("--chat_template_path", help="Chat template file instead of the model's own.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(help="Cut as training with this max_length would.")] = None,
    ids: Annotated[bool, typer.Option("--ids", help="Print token ids beside the text.")] = False,
    html_out: Annotated[Path | None, typer.Option("--html", help="Write one static page instead.")] = None,
) -> None:
    """Show the tokens of one row: what is trained, what is context, where the tree branches.

    Example: python -m data show runs/quickstart/round-1/sft-data/train.jsonl --model .cache/smollm2-135m --row 3
    """
    record = read_row(file, row)
    renderer = Renderer.from_pretrained(model, chat_template_path=chat_template_path)
    tree = row_to_tree(record, renderer, max_tokens=max_length)
    cuts = cut_before(tree, row_to_tree(record, renderer)) if tree.cut_tokens else {}
    if html_out is not None:
        write_whole(html_out, tree_to_html(tree, renderer, cuts=cuts, messages=describe_messages(record)))
        Console(highlight=False).print(f"wrote {html_out}")
        return
    console = Console(highlight=False, soft_wrap=True)
    colour = console.is_terminal and not console.no_color
    console.print(tree_to_text(tree, renderer, cuts=cuts, ids=ids, colour=colour))
    console.print()
    for line in (*describe_tree(tree), *describe_messages(record)):
        console.print(line, style="dim" if colour else None, markup=False)


def templates_command(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE...]", help="Template files (Jinja) or model folders; TRL's where none is given."),
    ] = None,
    tokenizers: Annotated[
        Path | None, typer.Option(help="Folder of scripts/real_tokenizers, which are told in a second table.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; without it the page is printed.")] = None,
) -> None:
    """Say what chat templates can show: one path or branches, the stop token, what they lose.

    \b
    Example:
        python -m data templates --out docs/templates.md
        python -m data templates my_template.jinja
    """
    facts = [template_facts(path) for path in files or trl_templates()]
    real = [] if tokenizers is None else [template_facts(path) for path in real_tokenizers(tokenizers)]
    source = "" if files else f" from the templates that TRL {version('trl')} ships"
    page = facts_to_markdown(facts, source=source, real=real)
    if out is None:
        print(page, end="")
        return
    write_whole(out, page)
    print(f"wrote {out}")
