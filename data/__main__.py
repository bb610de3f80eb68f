"""Commands over records and prepared sets: `python -m data COMMAND --help`.

None of them needs torch. Exit codes, for all commands:

    0  done
    1  `validate` found bad lines (they are listed)
    2  the input or the command line is wrong; one message on standard error says what to change
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from data.adapters import ADAPTERS, adapter_named, read_adapted
from data.chats import PreferencePair, Skip
from data.errors import UserError, run_command
from data.mixture import BuildConfig, read_config
from data.mixture import build as build_set
from data.progress import with_progress
from data.records import BadLine, read_trajectories, scan_trajectories, trajectory_json_schema
from data.show import show_command
from data.trajectories import trajectory_to_pairs

app = typer.Typer(
    help="Records in, prepared sets out. Exit codes: 0 done, 1 bad lines were found, 2 wrong input or command line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """A table on a terminal; elsewhere aligned text without frames, never cut to a width."""
    cells = [[str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        table = Table(*columns, title=title or None, title_justify="left")
        for row in cells:
            table.add_row(*row)
        Console(markup=False, emoji=False).print(table)
        return
    widths = [max(len(row[index]) for row in [list(columns), *cells]) for index in range(len(columns))]
    if title:
        print(title)
    for row in [list(columns), *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _count_rows(name: str, counts: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Lines of a table that adds up: what was kept, each reason of dropping, what was read."""
    dropped = [(name, f"dropped: {reason}", count) for reason, count in counts["dropped"].items()]
    return [(name, "kept", counts["kept"]), *dropped, (name, "read", counts["read"])]


def _write_lines(out: Path, lines: Iterator[str]) -> int:
    """Write lines so that `out` appears only when it is whole; nothing is written when there is no line."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    count = 0
    try:
        with open(partial, "w", encoding="utf-8") as file:
            for line in lines:
                file.write(line + "\n")
                count += 1
        if count:
            os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _save_counts(out: Path, counts: dict[str, Any]) -> Path:
    path = out.with_suffix(".counts.json")
    path.write_text(json.dumps(counts, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return path


def _reasons(dropped: Counter[str]) -> str:
    return (
        "\n".join(f"  {count} x {reason}" for reason, count in dropped.most_common()) or "  there was nothing to read"
    )


@app.command()
def adapters(
    markdown: Annotated[bool, typer.Option("--markdown", help="Write the table as Markdown.")] = False,
) -> None:
    """List the formats that can be read.

    \b
    Example:
        python -m data adapters
    """
    columns = ("name", "rows are", "dataset", "licence", "columns that are read")
    rows = [
        (a.name, a.kind, a.hub_id or "any file", a.licence or "the file's own", ", ".join(a.columns))
        for a in ADAPTERS.values()
    ]
    if markdown:
        for row in (columns, ["---"] * len(columns), *rows):
            print(f"| {' | '.join(row)} |")
    else:
        _print_table(columns, rows)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="JSON Lines, or a .json file with one list.")],
    adapter: Annotated[str, typer.Option(help="Format of INPUT; `adapters` lists them.")],
    out: Annotated[Path, typer.Option(help="File for the chats or pairs, one a line.")],
) -> None:
    """Turn a public format into chats or pairs.

    Counts of kept and dropped rows are printed and saved beside OUT as .counts.json.

    \b
    Example:
        python -m data convert --adapter sharegpt_tools glaive.json --out runs/glaive.jsonl
    """
    chosen = adapter_named(adapter)
    read, dropped = 0, Counter[str]()

    def lines() -> Iterator[str]:
        nonlocal read
        for _, result in with_progress(read_adapted(chosen, source), f"converting {source}"):
            read += 1
            if isinstance(result, Skip):
                dropped[result.reason] += 1
            else:
                yield result.model_dump_json()

    kept = _write_lines(out, lines())
    if not kept:
        raise UserError(f"{source}: no row of {read} can be kept:\n{_reasons(dropped)}")
    counts = {"adapter": adapter, "input": str(source), "read": read, "kept": kept, "dropped": dict(dropped)}
    _print_table(("source", "rows", "count"), _count_rows(str(source), counts))
    print(f"wrote {out} and {_save_counts(out, counts)}")


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Trajectory files (JSON Lines).")],
    quarantine: Annotated[
        Path | None, typer.Option(help="Copy every bad line with its reason into this file (JSON Lines).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the result as one JSON object.")] = False,
) -> None:
    """Check trajectory files line by line; every bad line is named as path:line: reason.

    Exit codes: 0 all lines are good, 1 there are bad lines, 2 a file is missing or holds no record.

    \b
    Example:
        python -m data validate runs/quickstart/train.jsonl
    """
    good: dict[str, int] = {}
    bad: list[BadLine] = []
    for path in files:
        good[str(path)] = 0
        before = len(bad)
        for record in with_progress(scan_trajectories(path), f"checking {path}"):
            if isinstance(record, BadLine):
                bad.append(record)
                if not as_json:
                    print(record)
            else:
                good[str(path)] += 1
        if good[str(path)] == 0 and len(bad) == before:
            raise UserError(f"{path}: holds no record")
    if quarantine is not None and bad:
        _write_lines(quarantine, (json.dumps(entry, ensure_ascii=False) for entry in _quarantined(bad)))
    if as_json:
        faults = [{"path": line.path, "line": line.line, "reason": line.reason} for line in bad]
        print(json.dumps({"good": good, "bad": faults}, ensure_ascii=False, indent=2))
    else:
        where = f", copied to {quarantine}" if quarantine is not None and bad else ""
        print(f"{sum(good.values())} good records, {len(bad)} bad lines{where}")
    if bad:
        raise typer.Exit(1)


def _quarantined(bad: list[BadLine]) -> Iterator[dict[str, Any]]:
    """Bad lines with their text, read again from their files; bytes that are no UTF-8 are written as \\xNN."""
    for path in dict.fromkeys(line.path for line in bad):
        reasons = {line.line: line.reason for line in bad if line.path == path}
        with open(path, "rb") as file:
            for number, raw in enumerate(file, start=1):
                if number in reasons:
                    text = raw.rstrip(b"\r\n").decode("utf-8", errors="backslashreplace")
                    yield {"path": path, "line": number, "reason": reasons[number], "text": text}


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option(help="File to write; without it the schema is printed.")] = None,
) -> None:
    """Write the JSON Schema of a trajectory record.

    \b
    Example:
        python -m data schema --out docs/trajectory.schema.json
    """
    text = json.dumps(trajectory_json_schema(), ensure_ascii=False, indent=2)
    if out is None:
        print(text)
    else:
        _write_lines(out, iter([text]))
        print(f"wrote {out}")


@app.command()
def build(
    config: Annotated[Path, typer.Option(help="YAML file with sources, weights, seed and split.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the prepared set, before the one of the config.")] = None,
) -> None:
    """Mix sources into a prepared set for training: train.jsonl, validation.jsonl and manifest.json.

    A group (a task) never stands on both sides of the split.

    \b
    Example:
        python -m data build --config configs/data/quickstart.yaml
    """
    manifest = build_set(read_config(config, BuildConfig), out=out, name=str(config))
    rows: list[tuple[str, str, int]] = []
    for source in manifest["sources"]:
        first, *others = (file["path"] for file in source["files"])
        rows += _count_rows(f"{source['adapter']} {first}" + (f" and {len(others)} more" if others else ""), source)
    _print_table(("source", "rows", "count"), rows)
    for split, counts in manifest["splits"].items():
        print(f"{split}: {counts['rows']} rows in {counts['groups']} groups")
    if not manifest["splits"]["validation"]["rows"] and manifest["config"]["validation_share"]:
        print("validation is empty, because all rows belong to one group")
    print(f"wrote {manifest['config']['out']}")


@app.command()
def pairs(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Trajectory files (JSON Lines).")],
    out: Annotated[Path, typer.Option(help="File for the preference pairs, one a line.")],
    first: Annotated[int | None, typer.Option(min=1, help="Keep only the first N pairs of each record.")] = None,
) -> None:
    """Extract preference pairs: a failed step against what should have been done from that very state.

    Chosen is the expert's advice (`python -m benchmark run --advise`) or the model's own direct repair. Counts are
    printed and saved beside OUT as .counts.json.

    \b
    Example:
        python -m data pairs runs/quickstart/advised.jsonl --out runs/quickstart/pairs.jsonl
    """
    records, without, steps, dropped = 0, 0, 0, Counter[str]()

    def lines() -> Iterator[str]:
        nonlocal records, without, steps
        for path in files:
            for record in with_progress(read_trajectories(path), f"reading {path}"):
                records += 1
                results = _first_pairs(trajectory_to_pairs(record), first)
                without += not results
                steps += len(results)
                for result in results:
                    if isinstance(result, Skip):
                        dropped[result.reason] += 1
                    else:
                        yield result.model_dump_json()

    kept = _write_lines(out, lines())
    if not kept:
        raise UserError(
            f"no pair in {records} records, of which {without} have no failed step; failed steps were left out for:\n"
            f"{_reasons(dropped)}"
        )
    counts = {
        "inputs": [str(path) for path in files],
        "records": records,
        "records_without_failed_step": without,
        "read": steps,
        "kept": kept,
        "dropped": dict(dropped),
    }
    print(f"{records} records, {without} of them without a failed step")
    _print_table(("source", "steps", "count"), _count_rows("failed or advised steps", counts))
    print(f"wrote {out} and {_save_counts(out, counts)}")


def _first_pairs(results: Iterable[PreferencePair | Skip], first: int | None) -> list[PreferencePair | Skip]:
    """All results, with the pairs after the `first` ones as Skips: a model that is stuck fails the same way again."""
    kept: list[PreferencePair | Skip] = []
    pairs_left = first
    for result in results:
        if pairs_left is not None and isinstance(result, PreferencePair):
            result = result if pairs_left else Skip(f"after the first {first} pairs of its record")
            pairs_left = max(0, pairs_left - 1)
        kept.append(result)
    return kept


app.command("show")(show_command)

if __name__ == "__main__":
    run_command(app, name="python -m data")
