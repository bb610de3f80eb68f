"""How a run ends, and how that is told: exit codes, `status.json`, one run per folder, signals, numbers that went bad.

`accelerate launch` and `torchrun` turn every failure of a child into exit code 1, so the outcome also stands in the run
folder's `status.json`, which a batch script can read:

    running, finished, preempted, diverged, no_checkpoint, user_error, interrupted, crashed

`running` with nobody running means that the run was killed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from transformers import TrainerCallback

from core.errors import WHITE, UserError, disk_fault, printable
from core.files import Lock, Taken, write_whole
from train.environment import quiet
from train.logging_state import restore_logging_state
from train.tree import Rendered, Unit

Returned = TypeVar("Returned")


class NoCheckpoint(UserError):
    """There are checkpoints to resume from, and none of them is whole."""


class Diverged(UserError):
    """Loss, gradients or weights stopped being finite numbers."""


class Preempted(Exception):
    """A signal asked the run to stop. What was to be saved is saved."""


EXIT_CODES = {
    "finished": 0, "crashed": 1, "user_error": 2, "no_checkpoint": 3, "diverged": 4, "preempted": 75, "interrupted": 130,
}  # fmt: skip
"""75 is EX_TEMPFAIL of sysexits.h: try again later. 130 is what shells give for Ctrl-C."""

CUBLAS_WORKSPACES = (":4096:8", ":16:8")
"""Those that NVIDIA names as deterministic."""

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


def status_of(error: BaseException | None) -> str:
    """The outcome of a run that ended with `error`."""
    kinds: dict[type[BaseException], str] = {
        NoCheckpoint: "no_checkpoint", Diverged: "diverged", Preempted: "preempted", UserError: "user_error",
        KeyboardInterrupt: "interrupted",
    }  # fmt: skip
    if error is None:
        return "finished"
    if disk_fault(error) is not None:
        return "user_error"
    return next((status for kind, status in kinds.items() if isinstance(error, kind)), "crashed")


def is_main() -> bool:
    """Whether this is the process that prints and writes."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """One line on stderr, from one process only."""
    if is_main():
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def from_main(work: Callable[[], Returned]) -> Returned:
    """What `work` gives in the main process, in every process; a mistake that it meets is raised in every process too."""
    box: list[Any] = [None, None]
    if is_main():
        try:
            box[0] = work()
        except UserError as error:
            box[1] = error
    if PartialState().num_processes > 1:
        broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    return box[0]


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Let torch run only operations that give the same bits each time; the first other one ends the block.

    Raises:
        UserError: naming the operation, or if cuBLAS is told to use a workspace that is not deterministic.
    """
    if not wanted:
        yield
        return
    workspace = os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACES[0])  # read by the first matmul
    if workspace not in CUBLAS_WORKSPACES:
        expected = " or ".join(CUBLAS_WORKSPACES)
        raise UserError(f"--deterministic true: CUBLAS_WORKSPACE_CONFIG={workspace}: expected {expected}")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        if not is_about_determinism(error):
            raise
        raise UserError(
            f"--deterministic true: the run came to an operation that may give another result each time: "
            f"{str(error).split(', but you set')[0].splitlines()[0]}. Without --deterministic it runs"
        ) from None
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark


def is_about_determinism(error: BaseException) -> bool:
    """Whether torch refused an operation because of `deterministic`."""
    return "use_deterministic_algorithms" in str(error)


class RunFolder:
    """A command's hold on its output folder: nobody else trains into it, signals stop it in order, its outcome is written.

    The hold is an advisory POSIX lock, which the operating system takes back when the process dies in whatever way. Where
    the file system has no locks, a line says so and the run goes on without.
    """

    def __init__(self, folder: str | Path, *, dry_run: bool = False) -> None:
        self.folder = Path(folder)
        self.dry_run = dry_run
        self.signal: str | None = None
        """Name of the signal that asked this process to stop."""
        self.training = False
        """While steps are made, a signal is noted and the step is finished; at other times the run stops at once."""
        self.progress: dict[str, Any] = {}
        """What `status.json` tells beside the outcome: step, max_steps, checkpoint."""
        self._lock: Lock | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if self.dry_run:
            return self
        from_main(self._claim)
        try:
            for number in SIGNALS:
                self._handlers[number] = signal.signal(number, self._on_signal)
        except ValueError:  # not the main thread, as in some notebooks: signals stay what they were
            self._handlers.clear()
        self._write("running")
        return self

    def start_training(self) -> None:
        """From here on a signal is noted, and the step is finished."""
        self.training = True

    def stop_training(self) -> None:
        """Training is over and saved; from here on a signal stops the run at once, also one that came just before.

        Raises:
            Preempted: if there was one.
        """
        self.training = False
        if self.signal is not None:
            raise Preempted(f"{self.signal} came after the last step; the run goes on from its last checkpoint")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.dry_run:
            return
        self.training = True  # a signal that comes now is late, and does no harm
        self._write(status_of(error), str(error) if error is not None else "")
        if not isinstance(error, Preempted):  # then a second signal may follow until the process is gone
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
        if self._lock is not None:
            self._lock.release()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        first = self.signal is None
        self.signal = self.signal or signal.Signals(number).name
        if first and not self.training:
            raise Preempted(f"{self.signal} came while no step was being made; nothing was left to save")

    def _claim(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(self.folder / ".lock")
        except OSError as problem:
            raise UserError(f"--output_dir {self.folder}: cannot be written: {problem.strerror}") from None
        except Taken as owner:
            raise UserError(
                f"{self.folder}: another run is training into this folder: {owner}. Wait for it or stop it, or take "
                "another --output_dir"
            ) from None
        if not self._lock.is_held:
            say(f"{self.folder}: this file system has no locks, so a second run on this folder is not noticed")

    def _write(self, status: str, message: str = "") -> None:
        if not is_main():
            return
        told: dict[str, Any] = {"status": status, "exit_code": EXIT_CODES.get(status), **self.progress}
        told |= {"message": message, "time": _now(), "process": os.getpid(), "host": socket.gethostname()}
        try:
            write_whole(self.folder / "status.json", json.dumps(told, indent=2, ensure_ascii=False) + "\n")
        except OSError as problem:  # a full disk must not hide why the run ended
            say(f"{self.folder}/status.json: not written: {problem.strerror}")


class Watch(TrainerCallback):
    """Looks at every step: stops the run in all processes alike after a signal, and at once when a number is not finite.

    A checkpoint of an epoch's last step is written at the epoch's end, after its evaluation: a run that resumes from it
    does not come back to that evaluation, and would choose another best checkpoint.
    """

    def __init__(self, trainer: Any, units: Sequence[Unit], rows: Sequence[Rendered], run: RunFolder | None) -> None:
        """`units` are those that are trained on and `rows` what they were made of, in the same order."""
        self.trainer, self.run = trainer, run
        self.stopped_by: str | None = None
        self._save_at_epoch_end = False
        self._records: list[list[str]] = []
        start = 0
        for unit in units:
            self._records.append([row.id for row in rows[start : start + unit["count"]]])
            start += unit["count"]

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After a resume: log as if nothing had happened."""
        restore_logging_state(self.trainer)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Before weights move: are the losses of this step and its gradients finite, and does anybody have to stop?"""
        seen, self.trainer.seen = self.trainer.seen, []
        losses = torch.stack([loss.double() for loss, _ in seen]).isfinite().tolist()
        empty = sum(not scored for _, scored in seen)
        # A gradient scaler (fp16) meets infinite gradients in its normal work: it skips the step and lowers its scale.
        norm = 0.0 if self.trainer.accelerator.scaler is not None else float(self.trainer.gradient_norm)
        asked = self.run is not None and self.run.signal is not None
        told = torch.tensor(
            [not all(losses), not torch.tensor(norm).isfinite(), asked, empty], dtype=torch.float32, device=args.device
        )
        bad_loss, bad_gradient, stop, empty = self.trainer.accelerator.reduce(told, "sum").tolist()
        self.trainer.batches_without_targets += int(empty)
        if bad_loss or bad_gradient:
            what = "the loss" if bad_loss else "the norm of the gradients"
            batches = [number for number, finite in enumerate(losses) if not finite] if bad_loss else range(len(losses))
            self._diverge(what, state.global_step, [self._batch(state.global_step, number) for number in batches])
        if stop and self.stopped_by is None:
            self.stopped_by = (self.run.signal if self.run else None) or "a signal to another process"

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After a signal: save and stop, unless the epoch ends here anyway."""
        if self.run is not None:
            self.run.progress |= {"step": state.global_step, "max_steps": state.max_steps}
            if self.trainer.accelerator.num_processes == 1:  # nobody to agree with: what came since then counts as well
                self.stopped_by = self.run.signal
        if self.stopped_by:
            control.should_save = True
        ends = float(state.epoch).is_integer() or state.global_step >= state.max_steps
        if ends:
            self._save_at_epoch_end, control.should_save = control.should_save, False
        elif self.stopped_by:
            control.should_training_stop = True
        if control.should_save:
            self.check_weights(state)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save what waited for the epoch's evaluation; an epoch that a signal broke off has no end to log or evaluate."""
        broken_off = self.stopped_by and not self._save_at_epoch_end
        if broken_off:
            control.should_log = control.should_evaluate = control.should_save = False
        elif self._save_at_epoch_end:
            control.should_save = True
            control.should_training_stop |= bool(self.stopped_by)
        self._save_at_epoch_end = False
        if control.should_save:
            self.check_weights(state)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell where the run would go on."""
        if self.run is not None:
            self.run.progress["checkpoint"] = f"checkpoint-{state.global_step}"

    def check_weights(self, state: Any) -> None:
        """Refuse to save or publish weights that are not finite.

        Raises:
            Diverged: in every process.
        """
        finite = torch.ones((), device=self.trainer.args.device)
        for parameter in self.trainer.model.parameters():
            if parameter.requires_grad:
                local = parameter.to_local() if hasattr(parameter, "to_local") else parameter
                finite = finite * local.detach().isfinite().all().to(finite.device)
        bad = self.trainer.accelerator.reduce(1 - finite, "sum").item()
        if bad:
            step = max(state.global_step - 1, 0)  # of the batch that moved them
            accumulated = range(self.trainer.args.gradient_accumulation_steps)
            self._diverge("a trained weight", step, [self._batch(step, number) for number in accumulated])

    def _batch(self, step: int, number: int) -> list[str]:
        """Ids of the records in this process's `number`-th batch of the step after `step` steps."""
        args, world = self.trainer.args, self.trainer.accelerator.num_processes
        size = args.per_device_train_batch_size
        a_step = size * args.gradient_accumulation_steps * world
        epoch, at = divmod(step, max(len(self.trainer.train_dataset) // a_step, 1))
        self.trainer.train_sampler.set_epoch(epoch)
        start = at * a_step + (number * world + self.trainer.accelerator.process_index) * size
        units = list(self.trainer.train_sampler)[start : start + size]
        return [record for unit in units if unit < len(self._records) for record in self._records[unit]]

    def _diverge(self, what: str, step: int, batches: list[list[str]]) -> None:
        """Write diverged.json and raise, in all processes."""
        records = sorted({record for batch in gather_object(batches) for record in batch})
        folder = Path(self.trainer.args.output_dir)
        path = folder / "diverged.json"
        if is_main():
            told = {"step": step + 1, "what": what, "records": records, "time": _now()}
            write_whole(path, json.dumps(told, indent=2, ensure_ascii=False) + "\n")
        shown = ", ".join(records[:5]) + (", ..." if len(records) > 5 else "")
        raise Diverged(
            f"step {step + 1}: {what} is not a finite number. Nothing was saved after that; checkpoints before it are "
            f"kept. Records of the batch: {shown} (all in {path}). Look at them, or lower --learning_rate"
        )


def run_main(main: Callable[[], None]) -> NoReturn:
    """Run an entry point: what can be foreseen is one message on stderr and an exit code, never a traceback.

    Exit codes: 2 a user's mistake, 3 no whole checkpoint, 4 numbers that are not finite, 75 stopped by a signal, 130 Ctrl-C.
    """
    quiet()
    try:
        main()
    except Preempted as stop:
        for number in SIGNALS:  # a second one must not change the exit code while Python shuts down
            signal.signal(number, signal.SIG_IGN)
        say(str(stop))
        sys.exit(EXIT_CODES["preempted"])
    except KeyboardInterrupt:
        say("interrupted: nothing since the newest checkpoint is saved; the same command goes on from there")
        sys.exit(EXIT_CODES["interrupted"])
    except UserError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            sys.stderr.write(f"error: {printable(str(error), keep=WHITE)}\n")
        sys.exit(EXIT_CODES[status_of(error)])
    except Exception as error:
        told = disk_fault(error)
        if told is None:
            raise
        if os.environ.get("LOCAL_RANK", "0") == "0":
            sys.stderr.write(f"error: {printable(told)}\n")
        sys.exit(EXIT_CODES["user_error"])
    sys.exit(0)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
