"""What runs inside of a Slurm job; train.sbatch and command.sbatch call it, and it calls itself on each node.

    job.py train [--accelerate FILE] METHOD CONFIG [options]   train/METHOD.py on all GPUs of all nodes of the job
    job.py command [--shards N] MODULE [arguments]             python -m MODULE on one node; task i of an array takes shard i/N
    job.py with-server SERVER LOG COMMAND [arguments]          a server beside a command, in which {url} and {port} are its own
    job.py node [--accelerate FILE] METHOD CONFIG [options]    the part of `train` that each node runs

Slurm announces the end of a job, by preemption or the time limit, with a signal to this process. It is handed to the run, which
saves and stops (train/outcome.py). What happens then is decided from the run's status.json, because launchers lose exit codes:

    finished                           exit 0
    preempted, or ended by a signal    `scontrol requeue`, at most TOOLTUNE_MAX_REQUEUES (50) times; the job then goes on
    all else                           the message, and an exit code that fails the job, so that dependents are cancelled

A job that somebody cancels is not requeued.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from core.command_line import Parser
from core.errors import UserError
from core.server_process import serving

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)
PREEMPTED = 75
"""Exit code of commands that a signal stopped and that can go on; train/outcome.py."""


def main() -> int:
    """Parse, and do one of the three things."""
    parser = Parser(description=__doc__)
    modes = parser.add_subparsers(dest="mode", required=True)
    for mode in ("train", "node"):
        train = modes.add_parser(mode)
        train.add_argument("--accelerate", default="configs/accelerate/ddp.yaml", help="for more than one process")
        train.add_argument("method", choices=("sft", "dpo", "orpo", "kto"))
        train.add_argument("config")
        train.add_argument("options", nargs=argparse.REMAINDER)
    command = modes.add_parser("command")
    command.add_argument("--shards", type=int)
    command.add_argument("module")
    command.add_argument("arguments", nargs=argparse.REMAINDER)
    beside = modes.add_parser("with-server")
    beside.add_argument("server")
    beside.add_argument("log", type=Path)
    beside.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()

    if given.mode == "node":
        run_on_node(given.method, given.config, given.options, accelerate=given.accelerate)
    if given.mode == "train":
        os.environ["TOOLTUNE_MAIN_HOST"] = socket.gethostname()  # a batch script runs on the job's first node
        # Since Slurm 22.05 srun takes the CPUs of a task from here. A node that ends must not end others: they may still save.
        os.environ["SRUN_CPUS_PER_TASK"] = os.environ.get("SLURM_CPUS_PER_TASK", "1")
        srun = [
            "srun",
            "--mpi=none",
            "--kill-on-bad-exit=0",
            "--wait=300",
            sys.executable,
            __file__,
            "node",
            *sys.argv[2:],
        ]
        # srun hands it to all processes on all nodes. One that is still starting misses it, so it is sent again and again.
        return supervise(srun, repeat(signal.SIGUSR1), output_dir(given.config, given.options) / "status.json")
    if given.mode == "with-server":
        return run_with_server(given.server, given.log, given.arguments)
    if given.shards and "SLURM_ARRAY_TASK_ID" not in os.environ:
        parser.error(f"--shards {given.shards} is for an array: sbatch --array=1-{given.shards}")
    shard = ["--shard", f"{os.environ['SLURM_ARRAY_TASK_ID']}/{given.shards}"] if given.shards else []
    return supervise([sys.executable, "-m", given.module, *given.arguments, *shard], iter([signal.SIGTERM]))


def run_with_server(server: str, log: Path, command: Sequence[str]) -> int:
    """Start a server, wait until it is healthy, run a command beside it, and end both.

    Returns:
        The exit code of the job: the command's, 2 where the server does not serve.
    """
    try:
        with serving(server, log=log) as url:
            values = {"{url}": url, "{port}": url.rpartition(":")[2]}
            words = [re.sub(r"\{url\}|\{port\}", lambda name: values[name[0]], word) for word in command]
            if words[0] == "python":
                words[0] = sys.executable
            say(f"served at {url}: {shlex.join(words)}")
            return supervise(words, iter([signal.SIGTERM]))
    except UserError as error:
        say(str(error))
        return 2


def output_dir(config: str, options: Sequence[str]) -> Path:
    """Where the run writes: as its own parser decides it, the command line before the file, else the HF Trainer's default."""
    parser = Parser(add_help=False)
    parser.add_argument("--output_dir")
    given, _ = parser.parse_known_args(options)
    try:
        # Composed only, because a merge of aliases may stand for gigabytes. The run itself says what is wrong with the file.
        read = yaml.compose(Path(config).read_text(encoding="utf-8"), yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        read = None
    pairs = read.value if isinstance(read, yaml.MappingNode) else []
    from_file = next((value.value for key, value in pairs if key.value == "output_dir"), None)
    return Path(given.output_dir or from_file or "trainer_output")


def run_on_node(method: str, config: str, options: Sequence[str], *, accelerate: str) -> None:
    """Become the training process of this node, or its launcher where the job has several processes."""
    nodes, processes = int(os.environ["SLURM_NNODES"]), max(int(os.environ.get("SLURM_GPUS_ON_NODE") or 0), 1)
    command = [f"train/{method}.py", "--config", config, *options]
    if nodes * processes > 1:
        command = [
            *("-m", "accelerate.commands.launch", "--config_file", accelerate),
            *("--num_machines", str(nodes), "--machine_rank", os.environ["SLURM_NODEID"]),
            *("--num_processes", str(nodes * processes)),
            *("--main_process_ip", os.environ["TOOLTUNE_MAIN_HOST"]),
            *("--main_process_port", str(15000 + int(os.environ["SLURM_JOB_ID"]) % 15000)),  # one for each job
            *command,
        ]
    # Slurm signals every process of a step. The launcher must live on while its workers, which set handlers of their own, save;
    # by itself it dies of SIGUSR1, and kills its workers 30 s after a SIGTERM.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGINT"
    os.execv(sys.executable, [sys.executable, *command])


def supervise(command: Sequence[str], stops: Iterator[signal.Signals], status_file: Path | None = None) -> int:
    """Run a command and decide what its end means for the job.

    Args:
        stops: what to send to the command when Slurm has announced the end, one each second until it ends.
        status_file: where the command writes how it ended, if it does.

    Returns:
        The exit code of the job.
    """
    received: list[int] = []
    for number in SIGNALS:
        signal.signal(number, lambda number, _: received.append(number))
    before = read_status(status_file)
    process = subprocess.Popen(command)
    while (code := wait(process)) is None:
        # SIGTERM comes when Slurm is ending the job already, and then to all of its processes.
        if signal.SIGUSR1 in received and (stop := next(stops, None)) is not None:
            process.send_signal(stop)
    after = read_status(status_file)
    status: Mapping[str, Any] = after if after != before else {}

    if status.get("status") == "finished" or (not status and code == 0):
        return 0
    killed = status.get("status", "running") == "running"
    by_signal = bool(received) or code == PREEMPTED or -code in SIGNALS or code - 128 in SIGNALS
    if status.get("status") == "preempted" or (killed and by_signal):
        return requeue()
    if killed:
        say(f"the command ended with exit code {code}")
        return code if code > 0 else 1
    say(f"{status['status']}: {status.get('message', '')}")
    return int(status.get("exit_code") or 1)


def wait(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code, or null when it still runs after a second; below zero it is the signal that ended it."""
    try:
        return process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return None


def read_status(file: Path | None) -> dict[str, Any]:
    """What status.json says, empty where there is none."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file is not None else {}
    except (OSError, ValueError):
        return {}


def requeue() -> int:
    """Put this job back into the queue, unless Slurm is ending it anyway; Slurm then ends this process."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    asked = subprocess.run(["squeue", "--noheader", "--format=%T", f"--jobs={job}"], capture_output=True, text=True)
    if asked.returncode == 0 and asked.stdout.strip() != "RUNNING":
        say(f"Slurm is ending this job ({asked.stdout.strip()})")  # requeued now, a cancelled job would come back
        return PREEMPTED
    before, most = int(os.environ.get("SLURM_RESTART_COUNT", 0)), int(os.environ.get("TOOLTUNE_MAX_REQUEUES", 50))
    if before >= most:
        say(
            f"stopped by a signal, and requeued {before} times before: not again. TOOLTUNE_MAX_REQUEUES={most} is the limit"
        )
        return PREEMPTED
    say(f"stopped by a signal: requeued, for the {before + 1}. time")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # with it Slurm ends this process now
    if subprocess.run(["scontrol", "requeue", job]).returncode == 0:
        time.sleep(60)
    return PREEMPTED


def say(text: str) -> None:
    """One line into the job's log."""
    sys.stderr.write(f"slurm: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
