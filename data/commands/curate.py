"""`python -m data curate`: all steps of a config, or one step alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from core.config import describe_validation_error, read_config
from core.errors import UserError
from core.screen import print_table
from data.curation.pipeline import CurateConfig, curate

curate_app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Files = Annotated[list[str], typer.Argument(metavar="FILE...", help="Chats, pairs or trajectories, JSON Lines.")]
Out = Annotated[Path, typer.Option(help="Folder of the results.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes on this machine; no result depends on it.")]
Scores = Annotated[str | None, typer.Option(help="JSON Lines with id and score: of duplicates the better one is kept.")]
Encoder = Annotated[str | None, typer.Option(help="Folder or hub id of a model2vec model.")]


@curate_app.callback(invoke_without_command=True)
def curate_command(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="YAML file with inputs and steps.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results, before the one of the config.")] = None,
    workers: Workers = 1,
) -> None:
    """Make a clean, diverse and uncontaminated set: all steps of a config in their order, or one step alone.

    Written are curated.jsonl, dropped.jsonl (each with its reason and the text that triggered it), clusters.jsonl and
    manifest.json, whose counts add up. A run that was broken off goes on where it stopped. Exit codes: 0 done, 2 wrong input or
    command line, or no row is left.

    \b
    Examples:
        python -m data curate --config configs/data/curate.yaml --workers 2
        python -m data curate filter runs/quickstart/round-1/records.jsonl --out runs/filtered
    """
    if context.invoked_subcommand is not None:
        if config is not None or out is not None:
            raise UserError(
                f"--config and --out of `curate` do not go with `{context.invoked_subcommand}`; put --out after it"
            )
        return
    if config is None:
        raise UserError("give --config FILE.yaml, or one step: filter, dedup, decontaminate, sample, report")
    _run(read_config(config, CurateConfig), out=out, workers=workers, name=str(config))


def _run(config: CurateConfig, *, out: Path | None, workers: int, name: str) -> None:
    manifest = curate(config, out=out, workers=workers, name=name)
    target = out or config.out
    if manifest is None:
        print(f"submitted; {target}/manifest.json appears when all is done (`squeue --me` shows the jobs)")
        return
    rows: list[tuple[str, str, int]] = []
    left = manifest["read"]
    for step, reasons in manifest["dropped"].items():
        rows += [(step, f"dropped: {reason}", count) for reason, count in reasons.items()]
        left -= sum(reasons.values())
        rows.append((step, "left", left))
    print_table(("step", "rows", "count"), [("", "read", manifest["read"]), *rows])
    verb = "already done, reused" if manifest.get("reused") else "wrote"
    print(f"{verb} {target}: {manifest['kept']} of {manifest['read']} rows kept")


def _run_steps(
    files: list[str], steps: list[dict[str, Any]], out: Path, workers: int, scores: str | None = None
) -> None:
    try:
        config = CurateConfig.model_validate({"inputs": files, "scores": scores, "steps": steps})
    except ValidationError as error:
        raise UserError(f"command line: {describe_validation_error(error, CurateConfig)}") from None
    _run(config, out=out, workers=workers, name="command line")


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given; the others keep the defaults of their step."""
    return {name: value for name, value in options.items() if value is not None and value != []}


@curate_app.command("filter")
def filter_command(
    files: Files,
    out: Out,
    workers: Workers = 1,
    phrases: Annotated[str | None, typer.Option(help="Your own list of refusals and boilerplate (YAML).")] = None,
    language: Annotated[
        list[str] | None, typer.Option(help="Wanted language such as en or ko; may be repeated.")
    ] = None,
) -> None:
    """Drop rows that break a rule: refusals, boilerplate, empty or looping turns, languages, length, calls.

    \b
    Example:
        python -m data curate filter runs/quickstart/round-1/records.jsonl --language en --language ko --out runs/filtered
    """
    _run_steps(files, [{"step": "filter", **_given(phrases=phrases, languages=language)}], out, workers)


@curate_app.command("dedup")
def dedup_command(
    files: Files,
    out: Out,
    workers: Workers = 1,
    scores: Scores = None,
    threshold: Annotated[float | None, typer.Option(help="Jaccard similarity of near duplicates.")] = None,
    semantic: Annotated[bool, typer.Option("--semantic", help="Also by embeddings (extra `semantic`).")] = False,
    semantic_threshold: Annotated[float | None, typer.Option(help="Cosine similarity of semantic duplicates.")] = None,
    encoder: Encoder = None,
) -> None:
    """Drop exact and near duplicates, and semantic ones if asked; the better-scored row is kept.

    \b
    Example:
        python -m data curate dedup runs/quickstart/round-1/records.jsonl --out runs/unique
    """
    steps = [{"step": "exact"}, {"step": "near", **_given(threshold=threshold)}]
    if semantic:
        steps.append({"step": "semantic", **_given(encoder=encoder, threshold=semantic_threshold)})
    _run_steps(files, steps, out, workers, scores)


@curate_app.command("decontaminate")
def decontaminate_command(
    files: Files,
    against: Annotated[list[str], typer.Option(help="Test tasks or any JSON Lines; may be repeated.")],
    out: Out,
    workers: Workers = 1,
) -> None:
    """Drop rows that hold what a model will be tested on.

    \b
    Example:
        python -m data curate decontaminate rows.jsonl --against test-tasks.jsonl --out runs/clean
    """
    _run_steps(files, [{"step": "decontaminate", "against": against}], out, workers)


@curate_app.command("sample")
def sample_command(
    files: Files,
    out: Out,
    by: Annotated[list[str] | None, typer.Option(help="Facet such as category or language; may be repeated.")] = None,
    cap: Annotated[str | None, typer.Option(help="Most rows of each cell, or `smallest`.")] = None,
    total: Annotated[int | None, typer.Option(help="Rows in all, evenly over the cells.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed draws other rows.")] = None,
    encoder: Encoder = None,
    workers: Workers = 1,
) -> None:
    """Cap or balance a set by category, tier, language, outcome, turns, calls, source, kind or topic.

    \b
    Example:
        python -m data curate sample rows.jsonl --by category --by language --cap 500 --out runs/balanced
    """
    limit = int(cap) if cap is not None and cap.isdecimal() else cap
    options = _given(by=by, cap=limit, total=total, seed=seed, encoder=encoder)
    _run_steps(files, [{"step": "sample", **options}], out, workers)


@curate_app.command("report")
def report_command(
    files: Files,
    out: Out,
    topics: Annotated[int | None, typer.Option(help="Also find so many topics (extra `semantic`).")] = None,
    encoder: Encoder = None,
    workers: Workers = 1,
) -> None:
    """Count what a set is made of: report.md, report.json and pictures; no row is dropped.

    \b
    Example:
        python -m data curate report runs/quickstart/round-1/records.jsonl --out runs/report
    """
    _run_steps(files, [{"step": "report", **_given(topics=topics, encoder=encoder)}], out, workers)
