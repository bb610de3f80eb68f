"""Kill a run again and again at random moments, always start the same command again, and compare what it ends with.

    python tests/support/kill_runs.py sft dpo orpo                       # a tiny model, two gloo processes, 20 kills of each
    python tests/support/kill_runs.py dpo --kills 5 --processes 1 -- --config configs/dpo/quickstart.yaml

Without options of a run after `--`, rows and a model of a few thousand weights are made up, dropout on. Processes are forked
from one that has torch loaded already; from there on they are the command. The moments are drawn from the time that the
unbroken run took, so they lie in loading, steps, evaluations and saves. A run that comes to its end before all kills are
done is compared, and another one begun.
Exit codes: 0 all ended with the bytes of the unbroken run, 1 one did not.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path[:0] = map(str, Path(__file__).resolve().parents[1:3])  # this checkout, whatever is installed

from support.forking import fork, wait_for_all
from support.paths import ROOT
from support.training import (
    KINDS,
    MAIN,
    adapter_hash,
    eight_steps,
    fork_two,
    make_minute_model,
    make_sets,
    metrics,
    read_chat,
    read_labelled,
    read_pair,
)
from train.fit import read_metrics
from train.outcome import run_main


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("methods", nargs="+", choices=list(MAIN))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2, choices=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments = parser.parse_args(sys.argv[1:at])
    given = sys.argv[at + 1 :]
    folder = Path(tempfile.mkdtemp(prefix="kill-runs-"))
    os.environ["TOOLTUNE_CACHE"] = str(folder / "cache")
    table = ("| method | processes | steps | kills | last logged step at each kill | runs ended | same bytes | same metrics "
             "| seconds |\n|---|--:|--:|--:|---|--:|--:|--:|--:|\n")  # fmt: skip
    sys.stdout.write(table)
    good = [killed_often(method, arguments, given, folder / method) for method in arguments.methods]
    return 0 if all(good) else 1


def killed_often(method: str, arguments: Any, given: list[str], folder: Path) -> bool:
    """Print one line of the table; whether all runs ended as the unbroken one did."""
    options = given or made_up(method, folder, arguments.processes)
    draw = random.Random(arguments.seed)
    began = time.monotonic()

    def start(name: str) -> list[int]:
        def work() -> None:
            with open(folder / f"{name}.log", "a") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            run_main(lambda: MAIN[method]([*options, "--output_dir", str(folder / name)]))

        return [fork(work)] if arguments.processes == 1 else fork_two(work)

    folder.mkdir(parents=True, exist_ok=True)
    if any(wait_for_all(start("unbroken"))):
        sys.exit(f"the unbroken run failed: {folder / 'unbroken.log'}")
    took = time.monotonic() - began
    kills: list[int] = []
    same_bytes = same_metrics = ended = 0
    while len(kills) < arguments.kills or ended == 0 or (folder / f"run{ended}").exists():
        children = start(f"run{ended}")
        timer = threading.Timer(draw.uniform(0, took * 0.6), lambda: os.kill(draw.choice(children), signal.SIGKILL))  # noqa: B023 - of this turn
        if len(kills) < arguments.kills:
            timer.start()
        codes = wait_for_all(children)
        timer.cancel()
        if any(code < 0 for code in codes):
            kills.append(reached(folder / f"run{ended}"))
            continue
        if any(codes):
            sys.exit(f"exit codes {codes}: {folder / f'run{ended}.log'}")
        same_bytes += adapter_hash(folder / f"run{ended}") == adapter_hash(folder / "unbroken")
        same_metrics += metrics(folder / f"run{ended}") == metrics(folder / "unbroken")
        ended += 1
    steps = max(line["step"] for line in read_metrics(folder / "unbroken"))
    sys.stdout.write(
        f"| {method} | {arguments.processes} | {steps} | {len(kills)} | {' '.join(map(str, kills))} | {ended} | {same_bytes} "
        f"| {same_metrics} | {time.monotonic() - began:.0f} |\n"
    )
    sys.stdout.flush()
    return same_bytes == same_metrics == ended


def reached(run: Path) -> int:
    """The last step that metrics.jsonl tells of."""
    try:
        return max((line["step"] for line in read_metrics(run)), default=0)
    except OSError:
        return 0


def made_up(method: str, folder: Path, processes: int) -> list[str]:
    """A run of 40 steps with a model of a few thousand weights, dropout on, a checkpoint every third step."""
    folder.mkdir(parents=True)
    model = make_minute_model(ROOT / ".cache" / "tiny", folder / "model")
    kind = KINDS[method]
    read: Any = {"chats": read_chat, "pairs": read_pair, "labelled": read_labelled}[kind]
    make_sets(folder, **{kind: [*map(read, range(29 if kind == "chats" else 40))]})
    more: dict[str, Any] = {"tree": "true", "max_steps": 40, "eval_steps": 10, "learning_rate": 1e-3}
    if method == "dpo":
        more["precompute_ref_log_probs"] = "true"
    return eight_steps(model, folder / kind, folder, processes=processes, **more)


if __name__ == "__main__":
    sys.exit(main())
