"""Running the loop of benchmark/loop/plan.py: `python -m benchmark loop`.

A stage that has finished leaves a marker (core/stages.py) with the hashes of its code, of what it read and what it made, and
its options. Started again, the loop reuses what is unchanged and says of the rest what has changed.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from benchmark.kpis import UNITS, kpis
from benchmark.loop.plan import (
    NO_PAIRS,
    ROOT,
    Loop,
    LoopConfig,
    Plan,
    Stage,
    command_words,
    decision_to_text,
    kpi_text,
)
from benchmark.runs.shown import title_of
from core.config import read_config, read_yaml
from core.errors import UserError, nearest
from core.files import Lock, Taken, code_sha256, file_sha256, read_json, write_json, write_whole
from core.processes import last_line, start_command
from core.screen import print_table
from core.stages import Marker, file_fingerprint
from data.models import model_files
from data.records import read_trajectories

if TYPE_CHECKING:
    from types import FrameType

    from rich.live import Live
    from rich.table import Table

STOPPED = 75
"""Exit code after SIGTERM or Ctrl-C: EX_TEMPFAIL of sysexits.h, try again later."""
SECONDS_BETWEEN_LINES = 60.0


# ---------------------------------------------------------------- what a stage was made of


def _fingerprint(path: Path) -> str | None:
    """sha256 of a file, or of a model's weights, configs, tokenizer and template; null where nothing is."""
    if not path.is_dir():
        return file_fingerprint(path)
    named = "".join(f"{file.name} {file_sha256(file)}" for file in model_files(path))
    return hashlib.sha256(named.encode()).hexdigest()


def _marker(loop: Plan, stage: Stage) -> Marker:
    """Everything that decides what a stage makes, by name: its options and code, its configs' keys, the contents it reads."""
    described: dict[str, Any] = {"code": code_sha256(ROOT, stage.code), "arguments": []}
    name = None
    for word in stage.command:
        if word.startswith("--"):
            name = word
            described.setdefault(name, [])
        else:
            described[name or "arguments"].append(word)
    for path in stage.configs:
        try:
            values = read_yaml(path)
        except UserError:
            continue  # the command itself says what is wrong with it
        if isinstance(values, dict):
            described |= {f"{path}: {key}": value for key, value in values.items()}
            # A template, or whatever else a config names: its content decides, too.
            named = {value for value in values.values() if isinstance(value, str) and Path(value).is_file()}
            described |= {name: _fingerprint(Path(name)) for name in sorted(named)}
    described |= {str(path): text for path, text in stage.writes.items()}
    described |= {str(path): _fingerprint(path) or str(path) for path in stage.reads}
    described |= loop.decides(stage)
    return Marker(stage.marker, described, _fingerprint)


# ---------------------------------------------------------------- running


class StageFailed(UserError):
    """A stage's command ended with an exit code other than 0."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Stop(Exception):
    """SIGTERM: stop the stage in order."""


def stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Stop


@contextmanager
def _alone(stage: Stage) -> Iterator[None]:
    """Nobody else runs this stage meanwhile.

    Raises:
        UserError: if somebody does.
    """
    path = stage.marker.with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = Lock(path)
    except Taken as owner:
        raise UserError(f"{stage.id}: is being run by {owner}") from None
    try:
        yield
    finally:
        lock.release()


class Board:
    """What has become of each stage: a table on a terminal, a line for each start and end elsewhere."""

    def __init__(self, loop: Plan) -> None:
        self.loop = loop
        self.states: dict[str, str] = {}
        self.words = ""
        """What the running stage has printed last."""
        self.live: Live | None = None

    def __enter__(self) -> Board:
        if sys.stderr.isatty():
            from rich.console import Console  # noqa: PLC0415 - only where somebody looks on
            from rich.live import Live  # noqa: PLC0415 - as above

            self.live = Live(console=Console(stderr=True), get_renderable=self._table, refresh_per_second=1)
            self.live.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.words = ""
        if self.live is not None:
            self.live.__exit__(*exc)

    def say(self, text: str) -> None:
        """A line that stays."""
        if self.live is not None:
            self.live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def _table(self) -> Table:
        from rich.table import Table  # noqa: PLC0415 - only where somebody looks on

        stages = self.loop.stages()
        cells = {(stage.name, stage.round): self._state(stage) for stage in stages}
        rounds = sorted({stage.round for stage in stages} - {0})
        table = Table("stage", *(f"round {number}" for number in rounds), caption=self.words, caption_justify="left")
        for name in dict.fromkeys(stage.name for stage in stages):
            # What belongs to all rounds stands in the first column.
            table.add_row(name, *(cells.get((name, number), cells.get((name, 0), "") if number == 1 else "")
                                  for number in rounds))  # fmt: skip
        return table

    def _state(self, stage: Stage) -> str:
        return self.states.get(stage.id) or ("done before" if "made" in read_json(stage.marker) else "")


def run_stage(loop: Plan, stage: Stage, board: Board) -> None:
    """Run a stage, unless what it made is there and made of the same.

    Raises:
        UserError: if something that it reads is missing, or somebody else runs it.
        StageFailed: with the exit code of the command.
    """
    with _alone(stage):
        marker = _marker(loop, stage)
        changed = marker.changes()
        if changed == []:
            board.states[stage.id] = "done before"
            board.say(f"{stage.id}: already done")
            return
        if changed:
            board.say(f"{stage.id}: runs again, because it has changed:\n" + "\n".join(f"  {line}" for line in changed))
        for path in stage.reads:
            # The base may be a hub id, which is no path.
            if not path.exists() and path.is_relative_to(loop.out):
                raise UserError(f"{stage.id}: {path} is missing; these stages come before it: {', '.join(stage.after)}")
        if stage.trains and not marker.was_broken_off() and (trained := stage.folder / stage.name).exists():
            # Broken off, training goes on from its checkpoint; made of something else, it is another run and starts over.
            earlier = trained.with_name(f"{trained.name}.earlier")
            shutil.rmtree(earlier, ignore_errors=True)
            trained.rename(earlier)
            board.say(f"{stage.id}: what was trained before is in {earlier}")
        marker.begin()
        for path, text in stage.writes.items():
            write_whole(path, text)
        command = list(stage.command)
        board.say(f"\n$ {shlex.join(command)}")
        began = time.monotonic()
        decided = loop.decide(stage)
        if decided is not None:
            board.say(decided)
        else:
            _run(stage, command, board)
        seconds = round(time.monotonic() - began, 1)
        try:
            marker.finish(
                [*stage.makes, *(path for path in stage.may_make if path.exists())], command=command, seconds=seconds
            )
        except FileNotFoundError as missing:
            raise UserError(f"{stage.id}: ended well without {missing}; what it printed is in {stage.log}") from None
        board.states[stage.id] = f"{seconds:.0f} s"
        board.say(f"{stage.id}: done in {seconds:.0f} s")


def _run(stage: Stage, command: list[str], board: Board) -> None:
    """Run a command to its end, with its output in the stage's log."""
    counts = stage.folder / "pairs.counts.json"
    if stage.name == "pairs":
        counts.unlink(missing_ok=True)
    with open(_in_folder(stage.log), "a", encoding="utf-8") as log:
        log.write(f"$ {shlex.join(command)}\n")
    began = time.monotonic()
    next_line = began + SECONDS_BETWEEN_LINES
    child = start_command(_executable(command), log=stage.log)
    try:
        while child.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=0.5)
            seconds = time.monotonic() - began
            board.states[stage.id], board.words = f"running, {seconds:.0f} s", last_line(stage.log)
            if board.live is None and time.monotonic() > next_line:
                board.say(f"{stage.id}, {seconds:.0f} s: {last_line(stage.log)}")
                next_line += SECONDS_BETWEEN_LINES
    except (Stop, KeyboardInterrupt):
        board.say(f"{stage.id}: stopping it")
        child.terminate()
        child.wait()
        raise
    code = child.returncode
    if code == 2 and stage.name == "pairs" and read_json(counts).get("kept") == 0:
        board.say(f"{stage.id}: {NO_PAIRS}; {counts} says why")
    elif code:
        board.states[stage.id] = f"failed, exit code {code}"
        raise StageFailed(f"{stage.id} failed with exit code {code}: {last_line(stage.log)} (all in {stage.log})", code)


def _in_folder(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _executable(command: Sequence[str]) -> list[str]:
    """The command with the programs of this very environment."""
    program = Path(sys.executable).parent / command[0]
    return [str(program) if program.exists() else command[0], *command[1:]]


# ---------------------------------------------------------------- the summary


def summarise(loop: Loop) -> dict[str, Any]:
    """KPIs of each round as far as it came, printed and written to summary.json and rounds.png."""
    validates = loop.config.validation is not None
    rows: list[tuple[object, ...]] = []
    rounds: list[dict[str, Any]] = []
    for number in range(1, (loop.stopped_after() or loop.config.rounds) + 1):
        decision, here = loop.decision(number), loop.folder(number)
        preferring = loop.config.preferring[0]
        names = {label: label if label == "base" else f"{label}-{number}" for label in ("base", "sft", preferring)}
        files = {label: here / "test" / name / "trajectories.jsonl" for label, name in names.items()}
        tested = {
            names[label]: {name: asdict(kpi) for name, kpi in kpis(read_trajectories(path)).items()}
            for label, path in files.items()
            if path.exists() and (label != preferring or loop.has_pairs(number))
        }
        if not decision and (validates or not tested):
            break
        pairs = read_json(here / "pairs.counts.json").get("kept", 0)
        rounds.append({"round": number, "validation": {}, **decision, "pairs": pairs, "test": tested})
        for label, name in names.items():
            if name in tested:
                cells: list[object] = [number, name, pairs if label == preferring else ""]
                if validates:
                    validated = decision["validation"].get(label)
                    cells.append(kpi_text("success_rate", validated) if validated else "")
                    cells.append("taken" if decision["taken"] == label else "")
                rows.append((*cells, *(kpi_text(*kpi) for kpi in tested[name].items())))
    summary = {"config": loop.config.model_dump(mode="json"), "rounds": rounds}
    if rounds:
        heads = ("round", "model", "pairs", *(("validation", "") if validates else ()), *map(title_of, UNITS))
        title = "on test tasks, with 95 % intervals"
        print_table(heads, rows, title=f"{title}; validation: success on training tasks" if validates else title)
        for each in rounds if validates else ():
            print(decision_to_text(each))
        _picture(rounds, loop.out / "rounds.png")
    write_json(loop.out / "summary.json", summary)
    return summary


def _picture(rounds: list[dict[str, Any]], path: Path) -> None:
    """Success on test and on validation tasks, model by model, with 95 % intervals."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import, and only at the end

    figure = Figure(figsize=(6.5, 3.6), layout="constrained")
    axes = figure.subplots()
    tests: list[tuple[str, dict[str, Any]]] = []
    validations: list[tuple[str, dict[str, Any]]] = []
    for each in rounds:
        tests += [(name, told["success_rate"]) for name, told in each["test"].items()]
        validations += [(f"{label}-{each['round']}", kpi) for label, kpi in each["validation"].items()]
    places = {name: place for place, (name, _) in enumerate(tests)}
    for label, points, shift in (("test tasks", tests, 0.0), ("validation tasks", validations, 0.12)):
        shown = [(places[name] + shift, kpi) for name, kpi in points if name in places and kpi["value"] is not None]
        if not shown:
            continue
        x, y = [place for place, _ in shown], [kpi["value"] for _, kpi in shown]
        bars = [[kpi["value"] - kpi["low"] for _, kpi in shown], [kpi["high"] - kpi["value"] for _, kpi in shown]]
        axes.errorbar(x, y, yerr=bars, marker="o", capsize=3, linewidth=1.5, label=label)
    axes.set_xticks(range(len(tests)), [name for name, _ in tests])
    axes.set_ylim(0, 1)
    axes.set_title("success, with 95 % intervals", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


# ---------------------------------------------------------------- the command


def loop_command(
    config: Annotated[Path, typer.Option(help="YAML file; configs/benchmark/loop.yaml shows every key.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print every command and run none.")] = False,
    print_stages: Annotated[
        bool, typer.Option("--print-stages", help="Print the stages as JSON lines, for a scheduler.")
    ] = False,
    stage: Annotated[
        str | None, typer.Option(help="Run this one stage only, if it is not done; needs --round.")
    ] = None,
    number: Annotated[
        int, typer.Option("--round", min=0, help="The round of --stage; 0 for tasks and leaderboard.")
    ] = 0,
) -> None:
    """Record, train, benchmark, learn from the failures, and again: rounds until nothing is gained any more.

    Killed or stopped, the same command goes on. Exit codes: 0 done, 2 wrong input, 75 stopped by a signal, others are those
    of the stage that failed.

    Example: python -m benchmark loop --config configs/benchmark/loop.yaml --dry-run
    """
    loop = Loop(read_config(config, LoopConfig), config)
    for kind in (loop.config.sft, loop.config.preferring[1]):
        if not Path(kind.config).is_file():
            siblings = [str(path) for path in Path(kind.config).parent.glob("*.yaml")]
            raise UserError(f"{config}: {kind.config}: there is no such file.{nearest(kind.config, siblings)}")
    loop.require_enough_tasks()
    if dry_run:
        _print_commands(loop)
    elif print_stages:
        for each in loop.stages():
            print(json.dumps(_stage_to_json(loop, each), ensure_ascii=False))
    else:
        before = signal.signal(signal.SIGTERM, stop)
        try:
            _run_one(loop, stage, number) if stage is not None else _run_all(loop)
        except StageFailed as failed:
            sys.stderr.write(f"error: {failed}\n")
            raise typer.Exit(failed.code) from None
        except (Stop, KeyboardInterrupt):
            sys.stderr.write("stopped; the same command goes on from there\n")
            raise typer.Exit(STOPPED) from None
        finally:
            signal.signal(signal.SIGTERM, before)


def _print_commands(loop: Loop) -> None:
    for each in loop.stages():
        print(f"# {each.id}")
        for path, text in each.writes.items():
            print(f"mkdir -p {shlex.quote(str(path.parent))} && cat > {shlex.quote(str(path))} <<'YAML'\n{text}YAML")
        print(shlex.join(each.command) + "\n")


def _stage_to_json(loop: Loop, stage: Stage) -> dict[str, Any]:
    """A stage for a scheduler: `argv` is the plain command, `run` the same with the loop's markers around it."""
    run = command_words("python -m benchmark loop --config", loop.path, "--stage", stage.name, "--round", stage.round)
    return {
        "id": stage.id,
        "name": stage.name,
        "round": stage.round,
        "argv": stage.command,
        "run": run,
        "depends_on": stage.after,
        "uses_model": stage.uses_model,
        "trains": stage.trains,
        "log": str(stage.log),
    }


def _run_all(loop: Loop) -> None:
    with Board(loop) as board:
        done: set[str] = set()
        # The stages are asked for anew each time: what has become known may end the loop or leave DPO out.
        while (following := next((each for each in loop.stages() if each.id not in done), None)) is not None:
            run_stage(loop, following, board)
            done.add(following.id)
    summarise(loop)
    print(f"the page: {loop.out / 'leaderboard' / 'index.html'}")


def _run_one(loop: Loop, name: str, number: int) -> None:
    stages = {each.id: each for each in loop.stages()}
    wanted = f"round-{number}/{name}" if number else name
    if wanted in stages:
        with Board(loop) as board:
            run_stage(loop, stages[wanted], board)
        if name == "leaderboard":
            summarise(loop)
        return
    names = list(dict.fromkeys(each.name for each in stages.values()))
    stopped = loop.stopped_after()
    if stopped is not None and number > stopped:
        print(f"{wanted}: skipped, the loop stopped after round {stopped}: {loop.decision(stopped)['stop']}")
    elif name.removesuffix("-data") == loop.config.preferring[0] and 1 <= number <= loop.config.rounds:
        print(f"{wanted}: skipped, {NO_PAIRS}")
    else:
        raise UserError(
            f"--stage {name} --round {number}: there is no such stage; rounds are 1 to {loop.config.rounds} (0 for tasks and "
            f"leaderboard), stages {', '.join(names)}.{nearest(name, names)}"
        )
