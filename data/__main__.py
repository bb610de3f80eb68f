"""Commands over records and prepared sets: `python -m data COMMAND --help`.

None of them needs torch. Exit codes, for all commands:

    0  done
    1  `validate` found bad lines, `redact --check` something to redact, `score --fail-under` a low score, `plan --check` a gap
    2  the input or the command line is wrong; one message on standard error says what to change
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from data.adapters.export import export_command
from data.chats import PreferencePair, Skip
from data.config import read_config
from data.convert import adapters_command, convert_command, print_keys
from data.curation.commands import curate_app
from data.errors import UserError, run_command
from data.files import whole_result, write_whole
from data.mixture import BuildConfig
from data.mixture import build as build_set
from data.output import count_rows, print_table, save_counts, write_lines
from data.plan import plan_command
from data.progress import with_progress
from data.quality import score_command
from data.records import read_trajectories, trajectory_json_schema
from data.redaction import redact_command
from data.release.commands import release_app, serve_command
from data.show import show_command
from data.templates import templates_command
from data.trajectories import pairs_by_record
from data.validate import validate_command

app = typer.Typer(
    help="Records in, prepared sets out. Exit codes: 0 done, 1 bad lines were found, 2 wrong input or command line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _reasons(dropped: Counter[str]) -> str:
    return (
        "\n".join(f"  {count} x {reason}" for reason, count in dropped.most_common()) or "  there was nothing to read"
    )


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
        write_whole(out, text + "\n")
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
        first, *others = [file["path"] for file in source["files"]] + [dataset["id"] for dataset in source["hub"]]
        rows += count_rows(f"{source['adapter']} {first}" + (f" and {len(others)} more" if others else ""), source)
    print_table(("source", "rows", "count"), rows)
    for source in manifest["sources"]:
        print_keys(source)
    for split, counts in manifest["splits"].items():
        print(f"{split}: {counts['rows']} rows in {counts['groups']} groups")
    if not manifest["splits"]["validation"]["rows"] and manifest["config"]["validation_share"]:
        print("validation is empty, because all rows belong to one group")
    print(f"wrote {manifest['config']['out']}")


class LevelName(StrEnum):
    """What the sides of a pair are made of."""

    step = "step"
    trajectory = "trajectory"


@app.command()
def pairs(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Trajectory files (JSON Lines).")],
    out: Annotated[Path, typer.Option(help="File for the preference pairs, one a line.")],
    level: Annotated[
        LevelName, typer.Option(help="Sides of one turn each, or of all that follows the first divergence.")
    ] = LevelName.step,
    first: Annotated[int | None, typer.Option(min=1, help="Keep only the first N pairs of each record.")] = None,
) -> None:
    """Extract preference pairs: one history, then what failed against what should have been done.

    By steps, chosen is the expert's advice at a failed step (`python -m benchmark run --advise`) or the model's own direct
    repair; and the first other turn of a successful record of the same task. By trajectories, chosen is all that a successful
    record did from the first divergence on, and rejected all that the failed one did. Sides that call the same tools with
    the same arguments give no pair. Counts are printed and saved beside OUT as .counts.json.

    \b
    Example:
        python -m data pairs runs/quickstart/practice/sft/trajectories.jsonl --out runs/quickstart/pairs.jsonl
    """
    records, without, steps, dropped = 0, 0, 0, Counter[str]()

    def lines() -> Iterator[str]:
        nonlocal records, without, steps
        read = (record for path in files for record in with_progress(read_trajectories(path), f"reading {path}"))
        kind: Literal["step", "trajectory"] = "step" if level is LevelName.step else "trajectory"
        for _, found in pairs_by_record(read, level=kind):
            records += 1
            results = _first_pairs(found, first)
            without += not results
            steps += len(results)
            for result in results:
                if isinstance(result, Skip):
                    dropped[result.reason] += 1
                else:
                    yield result.model_dump_json()

    nothing = "failed step" if level is LevelName.step else "failure"
    with whole_result(out) as result:
        kept = write_lines(result, out, lines())
        counts = {
            "inputs": [str(path) for path in files],
            "level": level.value,
            "records": records,
            f"records_without_{nothing.replace(' ', '_')}": without,
            "read": steps,
            "kept": kept,
            "dropped": dict(dropped),
        }
        saved = save_counts(result, out, counts)
        if not kept:
            result.remove(out)  # of other records: the counts beside it would not be its own
    if not kept:
        raise UserError(
            f"no pair in {records} records, of which {without} have no {nothing}; failures were left out for:\n"
            f"{_reasons(dropped)}"
        )
    print(f"{records} records, {without} of them without a {nothing}")
    what = "failed or advised steps" if level is LevelName.step else "failed records"
    print_table(("source", "steps" if level is LevelName.step else "records", "count"), count_rows(what, counts))
    print(f"wrote {out} and {saved}")


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


app.command("adapters")(adapters_command)
app.command("convert")(convert_command)
app.command("validate")(validate_command)
app.command("redact")(redact_command)
app.command("score")(score_command)
app.command("plan")(plan_command)
app.command("show")(show_command)
app.command("templates")(templates_command)
app.add_typer(release_app, name="release")
app.command("serve")(serve_command)
app.add_typer(curate_app, name="curate")
app.command("export")(export_command)

if __name__ == "__main__":
    run_command(app, name="python -m data")
