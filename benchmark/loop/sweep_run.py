"""`python -m benchmark sweep`: the stages of benchmark/loop/sweep.py, one after the other, each only once."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from benchmark.loop.plan import Plan, Stage
from benchmark.loop.run import STOPPED, Board, StageFailed, Stop, run_stage, stop
from benchmark.loop.sweep import START, Sweep, SweepConfig
from benchmark.loop.sweep_table import write_table
from core.config import read_config
from core.errors import UserError, nearest


def sweep_command(
    config: Annotated[Path, typer.Option(help="YAML file; configs/benchmark/preferences.yaml shows every key.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the commands that are known by now, and run none.")
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(help="Arms to run now, with commas between; the table tells of the others what is there."),
    ] = None,
) -> None:
    """Compare arms that learn from the same model and tries: variants halved on validation tasks, one table on test tasks.

    Killed or stopped, the same command goes on. An arm that fails does not stop the others. Exit codes: 0 done, 2 wrong input,
    75 stopped by a signal, others are those of the first stage that failed.

    Example: python -m benchmark sweep --config configs/benchmark/preferences.yaml --dry-run
    """
    sweep = Sweep(read_config(config, SweepConfig), write_table=write_table)
    require_configs(config, sweep.config)
    arms = None if only is None else {name.strip() for name in only.split(",") if name.strip()}
    for name in sorted(arms or ()):
        if name not in sweep.arms:
            raise UserError(f"--only {name}: there is no such arm.{nearest(name, sweep.arms)}")
    if dry_run:
        for stage in sweep.stages():
            print(f"# {stage.id}")
            for path, text in stage.writes.items():
                where = shlex.quote(str(path))
                print(f"mkdir -p {shlex.quote(str(path.parent))} && cat > {where} <<'YAML'\n{text}YAML")
            print((shlex.join(stage.command) or "# decided by the sweep itself") + "\n")
        return

    def tell(stage: Stage) -> None:
        if stage.name == "test":  # what is known by now, for whoever does not want to wait
            write_table(sweep)

    run_plan(
        sweep, tell=tell, wanted=lambda stage: arms is None or arm_of(stage) in (None, *arms, *_before(sweep, arms))
    )


def require_configs(path: Path, config: SweepConfig) -> None:
    """Whether the trainings' configs are there.

    Raises:
        UserError: one is not.
    """
    for kind in filter(None, (config.sft, config.dpo, config.kto)):
        if not Path(kind.config).is_file():
            siblings = [str(each) for each in Path(kind.config).parent.glob("*.yaml")]
            raise UserError(f"{path}: {kind.config}: there is no such file.{nearest(kind.config, siblings)}")


def arm_of(stage: Stage) -> str | None:
    """The arm of a stage; None where it belongs to all."""
    parts = stage.part.split("/")
    return parts[1] if len(parts) > 1 else None


def _before(sweep: Sweep, arms: set[str]) -> set[str]:
    """The arms that some arms rest on."""
    found = {START}
    for name in reversed(sweep.arms):
        if name in arms | found:
            found |= {other for other in (sweep.arms[name].after, sweep.arms[name].chosen_of) if other}
    return found


def run_plan(
    plan: Plan,
    *,
    tell: Callable[[Stage], None] = lambda stage: None,
    wanted: Callable[[Stage], bool] = lambda stage: True,
) -> None:
    """Run all stages of a plan that are `wanted`; one that fails takes those with it that rest on it.

    Args:
        tell: called after each stage that is done.

    Raises:
        typer.Exit: with the code of the first stage that failed, or 75 after a signal.
    """
    before = signal.signal(signal.SIGTERM, stop)
    failed: dict[str, int] = {}
    try:
        with Board(plan) as board:
            done: set[str] = set()
            while (following := _next(plan, done, wanted)) is not None:
                done.add(following.id)
                missing = [path for path in following.reads if path.is_relative_to(plan.out) and not path.exists()]
                if failed and missing:
                    board.say(f"{following.id}: left out, because a stage before it has failed")
                    continue
                try:
                    run_stage(plan, following, board)
                    tell(following)
                except StageFailed as fault:
                    failed[following.id] = fault.code
                    sys.stderr.write(f"error: {fault}\n")
    except (Stop, KeyboardInterrupt):
        sys.stderr.write("stopped; the same command goes on from there\n")
        raise typer.Exit(STOPPED) from None
    finally:
        signal.signal(signal.SIGTERM, before)
    if failed:
        raise typer.Exit(next(iter(failed.values())))


def _next(plan: Plan, done: set[str], wanted: Callable[[Stage], bool]) -> Stage | None:
    return next((each for each in plan.stages() if each.id not in done and wanted(each)), None)
