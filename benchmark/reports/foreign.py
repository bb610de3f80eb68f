"""`python -m benchmark kpis`: the KPIs of any file of runs, our own trajectories or transcripts that were recorded elsewhere.

Foreign rows are read by the adapters of `data`, so that a run is a run only if it can also be trained on. docs/kpis.md says
what counts as an error, a recovery and a success there. What a format does not tell is left out and shown as `-`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from benchmark.kpis import (
    UNITS,
    CallOutcome,
    ForeignRun,
    Kpi,
    Record,
    count_errors,
    kpis,
    kpis_by,
    pass_hat_k,
    success_by_context,
    task_of,
)
from benchmark.runs.shown import kpi_to_text
from core.config import describe_validation_error
from core.errors import UserError, nearest, printable
from core.files import whole_file
from core.json_lines import BadLine
from core.screen import print_table, with_progress
from data.chats import Chat, Skip
from data.formats.adapter import Adapter
from data.formats.inputs import Input, find_input
from data.formats.parts import LoggedRun, Row
from data.formats.reading import chunks_for
from data.formats.recognise import AUTO, find_adapter
from data.records import Outcome, Trajectory

GROUPS = ("world", "tier", "language", "family", "fault")
"""What `--by` takes: fields of `metadata.task`, and the kinds of its faults."""


def read_records(source: str, adapter: str = AUTO) -> tuple[list[Record], Counter[str]]:
    """The runs of a file or folder, and how many were left out for each reason.

    Args:
        adapter: as in `python -m data convert`; `auto` recognises the format by the rows.

    Raises:
        UserError: if nothing can be read, a row is damaged, or the format holds no runs.
    """
    found = find_input(source)
    which, _ = find_adapter(adapter, found, may_import=True)
    if which.kind != "trajectory":
        raise UserError(
            f"{source}: rows of {which.name} are {which.kind}s to learn from; they tell neither how a run ended nor which "
            "calls failed, so there is nothing to measure"
        )
    records: list[Record] = []
    dropped = Counter[str]()
    for run in with_progress(_runs(which, found), f"reading {source}"):
        if isinstance(run, Skip):
            dropped[run.reason] += 1
        else:
            records.append(run)
    if not records:
        reasons = "".join(f"\n  {count} x {reason}" for reason, count in dropped.most_common())
        raise UserError(f"{source}: holds no run that {which.name} can read:{reasons or ' there was nothing to read'}")
    return records, dropped


def _runs(adapter: Adapter, source: Input) -> Iterator[Record | Skip]:
    line_of_id: dict[tuple[str, str], int] = {}
    for chunk in chunks_for(adapter, source):
        for number, row in chunk.rows():
            if isinstance(row, BadLine):
                raise UserError(str(row))
            if not isinstance(row, dict):
                raise UserError(f"{chunk.path}:{number}: a row is a JSON object, got {type(row).__name__}")
            try:
                runs = row_to_runs(adapter, row)
            except ValidationError as error:
                raise UserError(f"{chunk.path}:{number}: {describe_validation_error(error, Trajectory)}") from None
            except Exception as error:  # a row that is strange in a way its adapter does not know
                fault = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                raise UserError(f"{chunk.path}:{number}: the adapter {adapter.name} failed on it: {fault}") from None
            for run in runs:
                if isinstance(run, Trajectory) and line_of_id.setdefault((chunk.path, run.id), number) != number:
                    first = line_of_id[chunk.path, run.id]
                    raise UserError(f"{chunk.path}:{number}: id {run.id!r} stands already on line {first}")
                yield run


def row_to_runs(adapter: Adapter, row: Row) -> Sequence[Record | Skip]:
    """What a row of a trajectory format tells of its runs.

    Raises:
        ValidationError: if a row of our own format does not hold what it promises.
    """
    if adapter.name == "trajectory":
        return [Trajectory.model_validate(row)]
    if adapter.runs is not None:
        return [run if isinstance(run, Skip) else _run_to_foreign(run) for run in adapter.runs(row)]
    return _runs_by_outcome(adapter.function, row)


def _run_to_foreign(run: LoggedRun) -> ForeignRun:
    answered = {message.tool_call_id for message in run.chat.messages if message.role == "tool"}
    calls = tuple(
        CallOutcome(call.name, call.id not in run.failed if call.id in answered else None, run.ended.get(call.id))
        for message in run.chat.messages
        for call in message.tool_calls
    )
    return _foreign(run.chat, run.outcome, calls)


def _runs_by_outcome(function: Callable[..., Any], row: Row) -> list[ForeignRun | Skip]:
    """Runs of a format that does not tell which calls failed. An adapter of runs leaves out the outcomes that are not asked
    for, so asking for one after the other tells the outcome; a run that passes each time does not say how it ended."""

    def ask(*outcomes: Outcome) -> list[Chat | Skip]:
        made = function(row, outcomes=frozenset(outcomes))
        return [made] if isinstance(made, Chat | Skip) else list(made)

    runs: list[ForeignRun | Skip] = []
    passed = {outcome: ask(outcome) for outcome in Outcome}
    for place, chat in enumerate(ask(*Outcome)):
        if isinstance(chat, Skip):
            runs.append(chat)
            continue
        outcomes = [outcome for outcome in Outcome if isinstance(passed[outcome][place], Chat)]
        calls = tuple(CallOutcome(call.name, None, None) for message in chat.messages for call in message.tool_calls)
        runs.append(_foreign(chat, outcomes[0] if len(outcomes) == 1 else None, calls))
    return runs


def _foreign(chat: Chat, outcome: Outcome | None, calls: tuple[CallOutcome, ...]) -> ForeignRun:
    tools = frozenset(tool.function.name for tool in chat.tools)
    return ForeignRun(chat.id, outcome, calls, tools, chat.group)


def kpis_command(
    source: Annotated[str, typer.Argument(metavar="FILE", help="Runs: a file or a folder of files.")],
    adapter: Annotated[
        str, typer.Option(help="Format of FILE as `python -m data adapters` lists them; auto recognises it.")
    ] = AUTO,
    by: Annotated[
        str, typer.Option(help=f"Also show the KPIs of groups, with commas between: {', '.join(GROUPS)}.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Where all numbers go, JSON.")] = None,
) -> None:
    """KPIs with intervals from any file of runs: our trajectories, or those of tau-bench, tau2-bench and others.

    \b
    Examples:
        python -m benchmark kpis results/sft/trajectories.jsonl --by world,tier
        python -m benchmark kpis gpt-4o-airline.json
    """
    keys = list(dict.fromkeys(key.strip() for key in by.split(",") if key.strip()))
    for key in keys:
        if key not in GROUPS:
            raise UserError(f"--by {key!r}: expected {', '.join(GROUPS)}.{nearest(key, GROUPS)}")
    records, dropped = read_records(source, adapter)
    counts, of_all = count_errors(records), kpis(records)
    contexts, passes = success_by_context(records), _passes(records)
    left_out = [(f"left out: {reason}", count) for reason, count in dropped.items()]
    told = [(name, "-" if count is None else count) for name, count in counts.items()]
    print_table(("", "count"), [("read", len(records) + dropped.total()), *left_out, *told])
    typer.echo("")
    print_table(("", "value", "95 %", "cases"), [(name, *_cells(name, kpi), kpi.n) for name, kpi in of_all.items()])
    grouped = {key: kpis_by(records, key) for key in keys}
    for key, groups in grouped.items():
        typer.echo("")
        print_table(
            (key, "judged", *UNITS),
            [
                (printable(name), of["success_rate"].n, *(kpi_to_text(each, kpi) for each, kpi in of.items()))
                for name, of in groups.items()
            ],
        )
    if passes:
        typer.echo("")
        rows = [(name, *_cells("success_rate", kpi), kpi.n) for name, kpi in passes.items()]
        print_table(("tries of one task", "all succeed", "95 %", "tasks"), rows)
    if any(kpi.n for kpi in contexts.values()):
        typer.echo("")
        rows = [(name, *_cells("success_rate", kpi), kpi.n) for name, kpi in contexts.items()]
        print_table(("context tokens", "success_rate", "95 %", "cases"), rows)
    if out is not None:
        result = {
            "source": source,
            "left_out": dict(dropped),
            "counts": counts,
            "kpis": _plain(of_all),
            **{f"by_{key}": {name: _plain(of) for name, of in groups.items()} for key, groups in grouped.items()},
            "pass_hat_k": _plain(passes),
            "success_by_context": _plain(contexts),
        }
        with whole_file(out) as file:
            file.write(json.dumps(result, indent=2, ensure_ascii=False).encode() + b"\n")
        typer.echo(f"wrote {out}")


def _passes(records: Sequence[Record]) -> dict[str, Kpi]:
    """pass^k for each k that every task has tries for; empty where tasks are unknown or were tried once."""
    judged = [record for record in records if record.outcome is not None]
    tries = Counter(task_of(record).get("id") for record in judged)
    least = min(tries.values(), default=0)
    if None in tries or least < 2:
        return {}
    return {f"pass^{k}": pass_hat_k(judged, k) for k in range(1, least + 1)}


def _cells(name: str, kpi: Kpi) -> tuple[str, str]:
    def text(value: float | None) -> str | None:
        if value is None:
            return None
        return f"{100 * value:.1f} %" if UNITS[name] == "share" else f"{value:.1f} {UNITS[name]}"

    low, high = text(kpi.low), text(kpi.high)
    return text(kpi.value) or "-", f"{low} to {high}" if low and high else "-"


def _plain(of: dict[str, Kpi]) -> dict[str, Any]:
    return {name: asdict(kpi) for name, kpi in of.items()}
