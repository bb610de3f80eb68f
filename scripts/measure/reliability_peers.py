"""The same faults for our commands and for the scripts that TRL installs: what each does, as a Markdown table.

    python scripts/embedded_model.py .cache/tiny --tiny
    python scripts/measure/reliability_peers.py sft dpo

Both train the same tiny model on made-up rows, six steps with a checkpoint at every second, LoRA dropout on, on the CPU. TRL's
scripts (trl/scripts/sft.py and dpo.py, as installed) run as they are. "Same command" is what a scheduler does; where that makes
TRL start over, `--resume_from_checkpoint NEWEST` is typed by hand for it. Processes are forked from one that has torch loaded.

Each cell tells the exit code of each command in turn; whether the final adapter has the bytes of the unbroken run; how many
steps were made more than once; and the last complaint, where there was one.
Exit codes: 0 the table is printed, whatever it says; 1 an unbroken run failed.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import runpy
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRL_EXPERIMENTAL_SILENCE": "1"}

import torch  # noqa: E402 - the environment first
import trl.scripts  # noqa: E402
from accelerate import Accelerator  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers.trainer_callback import CallbackHandler  # noqa: E402

from core.command_line import Parser  # noqa: E402
from data.chats import Chat, Message, PreferencePair  # noqa: E402
from data.sets.build import BuildConfig, build  # noqa: E402
from train import dpo, sft  # noqa: E402
from train.outcome import run_main  # noqa: E402

STEPS = 6
Fault = Callable[["Runner"], list[int]]
"""Makes a fault happen in `Runner.run`; the exit codes of its commands."""


class Runner:
    """One of the two programs, for one method and one fault."""

    def __init__(self, who: str, method: str, model: Path, folder: Path) -> None:
        self.who, self.method, self.model, self.folder = who, method, model, folder
        self.out = folder / "run"
        self.log = folder / "log"
        self.steps = folder / "steps"
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, *more: str, data: str = "data", at_step: int = 0, then: Callable[[], object] = lambda: None) -> int:
        """Start the command in a child, which calls `then` at the end of step `at_step`; its process id."""
        child = os.fork()
        if child:
            return child
        torch.set_num_threads(1)
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        original = CallbackHandler.on_step_end

        def on_step_end(handler: Any, args: Any, state: Any, control: Any) -> Any:
            with open(self.steps, "a", encoding="utf-8") as file:
                file.write(f"{state.global_step}\n")
            if state.global_step == at_step:
                then()
            return original(handler, args, state, control)

        CallbackHandler.on_step_end = on_step_end  # type: ignore[method-assign] # in the child only
        code = 1
        try:
            self._command([*self._options(data), *more])
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        finally:
            sys.stderr.flush()
            os._exit(code)

    def run(self, *more: str, **how: Any) -> int:
        """The command's exit code; below zero it is the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.start(*more, **how), 0)[1])

    def again(self, *more: str, **how: Any) -> int:
        """The same command; for TRL with the newest checkpoint, which somebody has to name."""
        if self.who == "TRL" and (newest := self.newest()):
            more = (*more, "--resume_from_checkpoint", str(newest))
        return self.run(*more, **how)

    def newest(self) -> Path | None:
        found = sorted(self.out.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        return found[-1] if found else None

    def adapter(self) -> str | None:
        """sha256 of the final adapter."""
        path = self.out / "adapter_model.safetensors"
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None

    def outcome(self, codes: Sequence[int], unbroken: str | None) -> str:
        """The cell of the table."""
        adapter = self.adapter()
        same = "no adapter" if adapter is None else "same bytes" if adapter == unbroken else "OTHER bytes"
        if adapter is not None:
            weights = load_file(self.out / "adapter_model.safetensors").values()
            same += "" if all(weight.isfinite().all() for weight in weights) else ", not finite"
        made = self.steps.read_text().split() if self.steps.exists() else []
        repeated = len(made) - len(set(made))
        said = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        told = [line for line in said if any(word in line for word in ("error", "Error", "not used", "SIG", "refused"))]
        message = f"; “{told[-1][:150]}”" if told else ""
        exits = ", then ".join(
            f"{'killed' if code == -9 else code if code >= 0 else f'signal {-code}'}" for code in codes
        )
        return f"exit {exits}; {same}; {repeated} steps twice{message}".replace("|", "/").replace(f"{self.folder}/", "")

    def _command(self, arguments: list[str]) -> None:
        if self.who == "TRL":
            script = Path(trl.scripts.__path__[0]) / f"{self.method}.py"
            sys.argv = [str(script), *arguments]
            runpy.run_path(str(script), run_name="__main__")
        else:
            run_main(lambda: {"sft": sft.main, "dpo": dpo.main}[self.method](arguments))

    def _options(self, data: str) -> list[str]:
        values: dict[str, Any] = {
            "model_name_or_path": self.model, "output_dir": self.out, "max_steps": STEPS, "save_strategy": "steps",
            "save_steps": 2, "logging_steps": 1, "per_device_train_batch_size": 2, "learning_rate": 1e-3, "use_cpu": "true",
            "bf16": "false", "gradient_checkpointing": "false", "report_to": "none", "max_length": 256, "lora_dropout": 0.1,
        }  # fmt: skip
        if self.who == "TRL":
            values |= {"dataset_name": f"{self.folder.parents[1]}/{data}-trl", "use_peft": "true"}
        else:
            values |= {"data": f"{self.folder.parents[1]}/{data}"}
        return [part for name, value in values.items() for part in (f"--{name}", str(value))]


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_same_command(run: Runner) -> list[int]:
    return [run.run(at_step=5, then=kill), run.run()]


def killed(run: Runner) -> list[int]:
    return [run.run(at_step=5, then=kill), run.again()]


def killed_in_a_save(run: Runner) -> list[int]:
    """While the optimizer of step 4 is written."""

    def arm() -> None:
        original = torch.save

        def save(value: Any, file: Any, *args: Any, **kwargs: Any) -> None:
            if "optimizer" in str(file):
                Path(file).write_bytes(b"half")
                kill()
            original(value, file, *args, **kwargs)

        torch.save = save

    return [run.run(at_step=3, then=arm), run.again()]


def terminated(run: Runner) -> list[int]:
    return [run.run(at_step=3, then=lambda: os.kill(os.getpid(), signal.SIGTERM)), run.again()]


def truncated(name: str) -> Fault:
    def fault(run: Runner) -> list[int]:
        codes = [run.run(at_step=5, then=kill)]
        path = (run.newest() or run.out) / name
        path.write_bytes(path.read_bytes()[:-1000])
        return [*codes, run.again()]

    return fault


def without_optimizer(run: Runner) -> list[int]:
    codes = [run.run(at_step=5, then=kill)]
    ((run.newest() or run.out) / "optimizer.pt").unlink()
    return [*codes, run.again()]


def full_disk(run: Runner) -> list[int]:
    """No file may grow beyond 100 kB from step 3 on; then there is room again."""
    limit = (100_000, resource.RLIM_INFINITY)
    return [run.run(at_step=3, then=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)), run.again()]


def not_a_number(run: Runner) -> list[int]:
    """The gradients of step 4 are NaN."""

    def arm() -> None:
        original = Accelerator.backward

        def backward(accelerator: Any, loss: Any, **more: Any) -> None:
            original(accelerator, loss * float("nan"), **more)

        Accelerator.backward = backward  # type: ignore[method-assign] # in the child only

    return [run.run(at_step=3, then=arm)]


def two_at_once(run: Runner) -> list[int]:
    """A second command on the same folder while the first one is at step 3."""
    ready, go = run.folder / "ready", run.folder / "go"

    def wait() -> None:
        ready.touch()
        while not go.exists():
            os.sched_yield()

    first = run.start(at_step=3, then=wait)
    while not ready.exists():
        os.sched_yield()
    second = run.run()
    go.touch()
    return [second, os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])]


def other_learning_rate(run: Runner) -> list[int]:
    return [run.run(at_step=5, then=kill), run.again("--learning_rate", "5e-3")]


def other_data(run: Runner) -> list[int]:
    return [run.run(at_step=5, then=kill), run.again(data="other")]


FAULTS: dict[str, Fault] = {
    "SIGKILL at step 5, same command": killed_same_command,
    "SIGKILL at step 5, resumed": killed,
    "SIGKILL inside of a save, resumed": killed_in_a_save,
    "SIGTERM at step 3, resumed": terminated,
    "newest checkpoint: adapter truncated": truncated("adapter_model.safetensors"),
    "newest checkpoint: optimizer truncated": truncated("optimizer.pt"),
    "newest checkpoint: optimizer missing": without_optimizer,
    "disk full in the second save, then room again": full_disk,
    "gradients of step 4 are NaN": not_a_number,
    "a second run on the same folder, then the first": two_at_once,
    "resumed with another learning rate": other_learning_rate,
    "resumed with other data": other_data,
}


def make_data(method: str, folder: Path) -> None:
    """Two sets of the same size, in our form and in TRL's."""
    for name, word in (("data", "files"), ("other", "tables")):
        chats = [
            (f"How many {word} are in folder {n}?", f"There are {n % 5} {word} in it.", f"I do not know, {n}.")
            for n in range(16)
        ]
        turns = [(Message(role="user", content=q), Message(role="assistant", content=a)) for q, a, _ in chats]
        rows: list[Any]
        if method == "sft":
            kind = "chats"
            rows = [Chat(messages=turn, id=f"{n}", source="made", group=f"{n}") for n, turn in enumerate(turns)]
            theirs = [
                {"messages": [message.model_dump(include={"role", "content"}) for message in turn]} for turn in turns
            ]
        else:
            kind = "pairs"
            rows = [
                PreferencePair(
                    prompt=turn[:1], chosen=turn[1:], rejected=(Message(role="assistant", content=bad),),
                    id=f"{n}", source="made", group=f"{n}",
                )
                for n, (turn, (_, _, bad)) in enumerate(zip(turns, chats, strict=True))
            ]  # fmt: skip
            theirs = [
                {
                    "prompt": [{"role": "user", "content": question}],
                    "chosen": [{"role": "assistant", "content": answer}],
                    "rejected": [{"role": "assistant", "content": bad}],
                }
                for question, answer, bad in chats
            ]  # fmt: skip
        source = folder / f"{name}-{kind}.jsonl"
        source.write_text("".join(row.model_dump_json() + "\n" for row in rows), encoding="utf-8")
        build(BuildConfig.model_validate({"sources": [{"adapter": kind, "path": str(source)}]}), out=folder / name)
        (folder / f"{name}-trl").mkdir()
        lines = "".join(json.dumps(row) + "\n" for row in theirs)
        (folder / f"{name}-trl" / "train.jsonl").write_text(lines, encoding="utf-8")


def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("methods", nargs="+", choices=["sft", "dpo"])
    parser.add_argument("--model", type=Path, default=ROOT / ".cache" / "tiny")
    parser.add_argument("--faults", nargs="+", default=list(FAULTS), choices=list(FAULTS), metavar="FAULT")
    arguments = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("trl", "transformers", "peft", "accelerate", "torch"))
    print(f"{packages}, Python {sys.version.split()[0]}\n")
    print("| method | fault | tooltune | TRL's script |\n|---|---|---|---|")
    for method in arguments.methods:
        folder = Path(tempfile.mkdtemp(prefix=f"peers-{method}-"))
        os.environ["TOOLTUNE_CACHE"] = str(folder / "cache")
        os.environ["HF_DATASETS_CACHE"] = str(folder / "datasets")
        make_data(method, folder)
        unbroken = {}
        for who in ("tooltune", "TRL"):
            run = Runner(who, method, arguments.model, folder / who / "unbroken")
            if run.run() != 0:
                print(f"the unbroken run of {who} failed: {run.log}", file=sys.stderr)
                return 1
            unbroken[who] = run.adapter()
        for number, name in enumerate(arguments.faults):
            cells = []
            for who in ("tooltune", "TRL"):
                run = Runner(who, method, arguments.model, folder / who / str(number))
                cells.append(run.outcome(FAULTS[name](run), unbroken[who]))
            print(f"| {method} | {name} | {cells[0]} | {cells[1]} |", flush=True)
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
