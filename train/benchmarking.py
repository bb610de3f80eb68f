"""Benchmarks of checkpoints while a run trains: `--benchmark_every N`.

Every N steps, and after the last one, a checkpoint is saved and `python -m benchmark run` is started on it as a process of
its own. What it measures goes to metrics.jsonl and wandb, and `best_checkpoint.json` names the best checkpoint so far, which
`save_total_limit` then spares.

Training waits for it. At the same time, both would want the memory of one GPU or the cores of one machine, and numbers that
arrive out of order are dropped by wandb. All processes of a run wait together, in rounds far shorter than the timeout of a
collective operation.

The tasks are training tasks unless `--benchmark_args` says otherwise: whoever chooses a checkpoint by test tasks has tuned
on them.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from core.errors import UserError
from core.files import write_whole
from core.processes import last_line, own_environment, start_command
from data.models import source_sha256
from data.wire import read_benchmark_run
from train.outcome import RunFolder, from_main, is_main, say

BEST_FILE = "best_checkpoint.json"
KPI = "success_rate"
DEFAULT_ARGUMENTS = ("--split", "train", "--seed", "5")
"""Before those of the user, who may repeat an option. The seed is none that the configs of this project record with."""
SECONDS_OF_A_ROUND = 20.0
"""How long processes wait for the main one before they hear from it; less where `--ddp_timeout` is short."""
ROUNDS_BETWEEN_LINES = 3

_DISTRIBUTED = re.compile(r"((LOCAL_|GROUP_)?(RANK|WORLD_SIZE)|(MASTER|TORCHELASTIC|ACCELERATE|FSDP|ROLE|PMI|OMPI)_.*)")


def spared_checkpoints(folder: Path) -> set[str]:
    """Names of the checkpoints that must stay: the best by benchmark, and those that still wait for theirs."""
    told = _read(folder)
    return {name for name in (told.get("best"), *told.get("waiting", [])) if isinstance(name, str)}


def check_benchmark(every: int, arguments: str, training: Any) -> list[str]:
    """The arguments for `python -m benchmark run`, tried out with a policy that needs no model.

    Raises:
        UserError: if they are wrong; a typing error shall not wait for the first benchmark.
    """
    if every < 0:
        raise UserError(f"--benchmark_every {every}: expected a number of steps, or 0 for none")
    if not every:
        if arguments:
            raise UserError("--benchmark_args needs --benchmark_every N")
        return []
    if training.save_strategy == "best":
        raise UserError("--benchmark_every saves checkpoints of its own steps, --save_strategy best saves others only")
    try:
        asked = shlex.split(arguments)
    except ValueError as error:
        raise UserError(f"--benchmark_args {arguments!r}: {error}") from None
    named = {part.split("=")[0] for part in asked}
    for name in ("--model", "--policy", "--label", "--out"):
        if name in named:
            raise UserError(f"--benchmark_args: {name} is given by the run itself")
    for name in ("--server", "--shard"):
        if name in named:
            raise UserError(f"--benchmark_args: {name} has no place here: checkpoints are run on this machine, whole")
    full = [*DEFAULT_ARGUMENTS, *asked]

    def try_out() -> None:
        if "test" in asked or "--split=test" in asked:
            say(
                "benchmarks run on test tasks: the checkpoint that they choose is tuned on them, so its score is no test"
            )
        with tempfile.TemporaryDirectory() as folder:
            policy = ["--count", "1", "--policy", "say-done", "--out", folder]
            command = [sys.executable, "-m", "benchmark", "run", *full, *policy]
            done = subprocess.run(command, env=_environment(), capture_output=True, text=True)
        if done.returncode:
            why = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise UserError(f"--benchmark_args {arguments!r}: {why[-1]}")

    from_main(try_out)
    return full


class Benchmarking(TrainerCallback):
    """Saves, measures and ranks a checkpoint every `every` steps and after the last one.

    `best_checkpoint.json` in the output folder::

        {"best": "checkpoint-20", "kpi": "success_rate", "arguments": "--split train ...", "waiting": [],
         "scores": [{"step": 20, "checkpoint": "checkpoint-20", "sha256": "...", "seconds": 41.2,
                     "kpis": {"success_rate": {"value": 0.45, "low": 0.31, "high": 0.6, "n": 40}, ...}}],
         "failed": [{"step": 10, "checkpoint": "checkpoint-10", "why": "exit code 2: ..."}]}

    The best has the highest success rate; of equal ones it is the earliest. A checkpoint stands in `waiting` from before its
    benchmark begins until its result is written, so that a run which was killed in between measures it when it is resumed,
    and measures none twice. A benchmark that fails is told and counted, and training goes on.
    """

    def __init__(self, trainer: Any, every: int, arguments: list[str], run: RunFolder | None) -> None:
        self.trainer, self.every, self.arguments, self.run = trainer, every, arguments, run
        self.folder = Path(trainer.args.output_dir)
        self.told: dict[str, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take up what an earlier process left behind, and measure what still waits."""
        for name in from_main(lambda: self._take_up(state)):
            self._benchmark(name, state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A step that is to be measured has to be saved."""
        if self._is_due(state.global_step, state):
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The checkpoint is whole: measure it."""
        if self._is_due(state.global_step, state):
            self._benchmark(f"checkpoint-{state.global_step}", state)

    def _is_due(self, step: int, state: Any) -> bool:
        return step > 0 and (step % self.every == 0 or step >= state.max_steps)

    def _take_up(self, state: Any) -> list[str]:
        """What is known of steps up to this one, measured in the same way; returns the names of those that wait."""
        told, arguments = _read(self.folder), shlex.join(self.arguments)
        if told and told.get("arguments") != arguments and state.global_step:
            say(f"{self.folder / BEST_FILE}: scores of other --benchmark_args ({told.get('arguments')}) are left out")
            told = {}
        step = state.global_step
        kept = {part: [each for each in told.get(part, []) if each["step"] <= step] for part in ("scores", "failed")}
        self.told = {"best": None, "kpi": KPI, "arguments": arguments, "waiting": [], **kept}
        measured = {each["checkpoint"] for each in kept["scores"]}
        waiting = [name for name in told.get("waiting", []) if int(name.rsplit("-", 1)[-1]) <= step]
        if self._is_due(step, state):
            waiting.append(f"checkpoint-{step}")
        waiting = [name for name in dict.fromkeys(waiting) if name not in measured and (self.folder / name).is_dir()]
        self.told["waiting"] = waiting
        self.told["failed"] = [each for each in kept["failed"] if each["checkpoint"] not in waiting]  # another try
        self._write()
        self._log_again(state)
        return waiting

    def _log_again(self, state: Any) -> None:
        """A kill between the result and its line in metrics.jsonl loses the line: write it now."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8") if path.exists() else ""
        for score in self.told["scores"]:
            if f'"benchmark/step": {score["step"]},' not in lines:
                self._log(score, state)

    def _benchmark(self, name: str, state: Any) -> None:
        """Measure one checkpoint, while all processes wait."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # the benchmark may share this GPU
        child: subprocess.Popen[bytes] | None = None
        began = time.monotonic()
        log = self.folder / "benchmarks" / f"{name}.log"

        def start() -> None:
            nonlocal child
            self.told["waiting"] = [*dict.fromkeys([*self.told["waiting"], name])]
            self._write()
            command = [
                "-m", "benchmark", "run", *self.arguments, "--model", str(self.folder / name), "--label", name,
                "--out", str(self.folder / "benchmarks"),
            ]  # fmt: skip
            say(f"benchmark of {name}: python {shlex.join(command)}")
            child = start_command([sys.executable, *command], log=log, environment=_environment())

        def wait() -> bool:
            """Whether it is over, or there is no more time for it."""
            assert child is not None
            deadline = time.monotonic() + min(SECONDS_OF_A_ROUND, self.trainer.args.ddp_timeout / 4)
            while child.poll() is None and time.monotonic() < deadline and not self._stopped():
                time.sleep(0.05)
            if child.poll() is None and self._stopped():
                child.terminate()
                child.wait()
                return True
            return child.poll() is not None

        from_main(start)
        rounds = 0
        while not from_main(wait):
            rounds += 1
            if is_main() and rounds % ROUNDS_BETWEEN_LINES == 0:
                say(f"benchmark of {name}, {time.monotonic() - began:.0f} s: {last_line(log)}")
        if child is not None and not (child.returncode and self._stopped()):
            self._note(name, child.returncode, time.monotonic() - began, log, state)

    def _stopped(self) -> bool:
        return self.run is not None and self.run.signal is not None

    def _note(self, name: str, code: int, seconds: float, log: Path, state: Any) -> None:
        """Write down what came of it, and name the best."""
        step = int(name.rsplit("-", 1)[-1])
        entry: dict[str, Any] = {"step": step, "checkpoint": name}
        try:
            if code:
                raise UserError(f"exit code {code}: {last_line(log)}")
            run = read_benchmark_run(log.with_suffix("") / "kpis.json")
            if run.kpi(KPI).value is None:
                raise UserError(f"no {KPI} was measured")
        except UserError as problem:
            entry["why"] = str(problem)
            self.told["failed"].append(entry)
            say(f"benchmark of {name} failed, training goes on: {entry['why']} ({log})")
        else:
            entry |= {"sha256": source_sha256(str(self.folder / name)), "seconds": round(seconds, 1)}
            entry["kpis"] = run.model_dump(mode="json")["kpis"]
            self.told["scores"].append(entry)
        self.told["waiting"].remove(name)
        self._write()
        self._log(entry, state)
        if "kpis" in entry:
            told = f"success {entry['kpis'][KPI]['value']:.0%} of {entry['kpis'][KPI]['n']} tasks, {seconds:.0f} s"
            say(f"benchmark of {name}: {told}; the best so far is {self.told['best']}")

    def _write(self) -> None:
        # Python's max keeps the first of equals, and the steps are in order.
        self.told["scores"].sort(key=lambda each: each["step"])
        best = max(self.told["scores"], key=lambda each: each["kpis"][KPI]["value"], default=None)
        self.told["best"] = best["checkpoint"] if best else None
        write_whole(self.folder / BEST_FILE, json.dumps(self.told, indent=2, ensure_ascii=False) + "\n")

    def _log(self, entry: dict[str, Any], state: Any) -> None:
        """To metrics.jsonl and wandb. Not through `trainer.log`, which would also end TRL's running means."""
        logs: dict[str, Any] = {"benchmark/step": entry["step"], "benchmark/failed": int("why" in entry)}
        for kpi, told in entry.get("kpis", {}).items():
            if told["value"] is not None:
                logs[f"benchmark/{kpi}"] = told["value"]
        if "seconds" in entry:
            logs["benchmark/seconds"] = entry["seconds"]
        self.trainer.callback_handler.on_log(self.trainer.args, state, self.trainer.control, logs)


def _read(folder: Path) -> dict[str, Any]:
    try:
        told = json.loads((folder / BEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _environment() -> dict[str, str]:
    """This process's environment without its place among the processes of a run, which is not the benchmark's."""
    return {name: value for name, value in own_environment().items() if not _DISTRIBUTED.fullmatch(name)}
