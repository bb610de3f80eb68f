"""Commands around the benchmark: `python -m benchmark COMMAND --help`.

Exit codes, for all commands:

    0  done
    1  `compare` found a significant loss, or `replay` a record that does not give what it says
    2  the input or the command line is wrong; one message on standard error says what to change
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from benchmark.bfcl.run import bfcl_command
from benchmark.capture.command import capture_command
from benchmark.loop.curve import curve_command
from benchmark.loop.run import loop_command
from benchmark.loop.sweep_run import sweep_command
from benchmark.reports.compare import compare_command
from benchmark.reports.failures import failures_command
from benchmark.reports.foreign import kpis_command
from benchmark.reports.leaderboard import leaderboard_command
from benchmark.runs.completing import complete_command
from benchmark.runs.headroom import headroom_command
from benchmark.runs.options import Trust, Worlds, check_no_folder, choose_worlds
from benchmark.runs.own_tools import init_command, tools_command
from benchmark.runs.recording import record
from benchmark.runs.replay import NO_RECORD, CannotReplay, replay_file
from benchmark.runs.run import run_benchmark
from benchmark.runs.serve_mcp import serve_mcp_command
from benchmark.runs.tasks import tasks_app
from core.command_line import run_command
from core.errors import UserError, printable
from core.files import whole_file
from core.screen import print_table, with_progress

app = typer.Typer(
    help="Checkpoint in, trajectories and KPIs out. Exit codes: 0 done, 1 a significant loss or a record that does not replay, "
    "2 wrong input or command line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


_SHOWN = 20
"""Differences that `replay` prints; the report holds them all."""


app.command("record")(record)
app.command("run")(run_benchmark)
app.command("headroom")(headroom_command)
app.command("complete")(complete_command)
app.command("bfcl")(bfcl_command)
app.command("kpis")(kpis_command)


@app.command("replay")
def replay_command(
    file: Annotated[Path, typer.Argument(help="Trajectories, JSON Lines.")],
    out: Annotated[Path | None, typer.Option(help="Where the report goes, one JSON object a record.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    worlds: Worlds = "",
    trust: Trust = False,
) -> None:
    """Run every record again in a fresh sandbox and compare outputs, errors and outcome; exits 1 when any differs.

    Records of other worlds or versions cannot be run again: they are counted with the reason and not in the report.

    Example: python -m benchmark replay train.jsonl --out replay.jsonl
    """
    if out is not None:
        check_no_folder(out)
        if out.resolve() == file.resolve():
            raise UserError(f"{out}: the report would overwrite the records")
    same, reasons, different, by_structure = 0, Counter[str](), 0, 0
    with whole_file(out) if out is not None else nullcontext() as report:
        for result in with_progress(
            replay_file(file, folders=choose_worlds(worlds, trust=trust).folders, workers=workers), "replaying"
        ):
            if isinstance(result, CannotReplay):
                reasons[result.reason] += 1
                if result.reason == NO_RECORD and reasons[NO_RECORD] <= _SHOWN:
                    print(result.id)
                continue
            if report is not None:
                left_out = None if result.structure_only else {"structure_only"}
                report.write(result.model_dump_json(exclude=left_out).encode() + b"\n")
            same += result.ok
            by_structure += result.structure_only
            if (difference := result.first_difference) is not None:
                different += 1
                if different <= _SHOWN:
                    was, now = (
                        json.dumps(value, ensure_ascii=False)[:200]
                        for value in (difference.recorded, difference.replayed)
                    )
                    line = f"step {difference.step}: {difference.field}: recorded {was}, replayed {now}"
                    print(printable(f"{result.id}: {line}"))
    if different > _SHOWN:
        print(f"... and {different - _SHOWN} more")
    rows = [("as recorded", same), ("different", different)]
    rows += [(f"not replayed: {reason}", count) for reason, count in reasons.most_common()]
    print_table(("", "records"), [*rows, ("read", same + different + reasons.total())])
    if by_structure:
        print(
            f"{by_structure} compared by structure only (keys, types, lengths, errors): their tools are not deterministic"
        )
    if out is not None:
        print(f"wrote {out}")
    if different:
        raise typer.Exit(1)


app.command("compare")(compare_command)
app.command("failures")(failures_command)
app.command("leaderboard")(leaderboard_command)
app.command("loop")(loop_command)
app.command("sweep")(sweep_command)
app.command("curve")(curve_command)
app.command("serve-mcp")(serve_mcp_command)
app.add_typer(tasks_app, name="tasks")
app.command("capture")(capture_command)
app.command("init")(init_command)
app.command("tools")(tools_command)


if __name__ == "__main__":
    run_command(app, name="python -m benchmark")
