"""What surrounds a run: the plan before it, provenance and metrics during it, and what is left behind after it.

A run folder holds

* `status.json`: how the run ended (train/outcome.py), and `.lock` while it runs;
* `run.json`: resolved options, versions, git revision, hashes of the data and the model it started from, final metrics;
* `metrics.jsonl`: one line per logged step, each step once, also after a resume;
* `loss.png`: the training and validation loss;
* the final adapter (or weights) with tokenizer and chat template; checkpoints in `checkpoint-N/` (train/checkpoints.py).

docs/reliability.md says what happens when something goes wrong.
"""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from peft import PeftModel
from rich.console import Console
from rich.table import Table
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_callback import ProgressCallback

from core.errors import UserError, disk_fault
from core.files import appending, write_whole
from data.chats import Label
from train import checkpoints
from train.audit.audit import audit, print_findings, refusal
from train.audit.findings import Finding
from train.benchmarking import Benchmarking, check_benchmark
from train.chosen_drop import ChosenDrop
from train.environment import open_wandb
from train.logging_state import read_logging_state
from train.model import LoadedModel
from train.options import DataOptions
from train.outcome import NoCheckpoint, Preempted, RunFolder, Watch, from_main, is_main, say
from train.plan import half_precision_advice, make_plan, steps_per_run
from train.run_record import read_record, run_settings, start_record, write_record
from train.training_data import TrainingData

INEXACT = {
    "save_only_model": "a run that goes on without its optimizer ends with other weights",
    "ignore_data_skip": "a run that goes on would see rows of its epoch twice",
    "auto_find_batch_size": "a step would hold other rows than the options say",
}
"""The HF Trainer's options with which a resumed run is silently another one."""


def print_plan(
    options: DataOptions, training: Any, loaded: LoadedModel, trainer: Any, data: TrainingData
) -> list[Finding]:
    """The plan of a run: what is trained on, what was dropped and why, what it will cost, and what the audit found.

    Raises:
        UserError: in every process, if the audit refuses the run.
    """
    findings = from_main(lambda: _print_and_audit(options, training, loaded, trainer, data))
    if why := refusal(findings, options.audit_allow):
        raise UserError(why)
    return findings


def _print_and_audit(
    options: DataOptions, training: Any, loaded: LoadedModel, trainer: Any, data: TrainingData
) -> list[Finding]:
    console = Console(stderr=True, highlight=False, markup=False)  # reasons may hold [brackets]
    table = Table(title="data", title_justify="left")
    for name in ("split", "read", "kept", "dropped", "tokens", "scored", "longest", "cut"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split, report in data.reports.items():
        share = f"{report.scored_tokens:,} ({report.scored_tokens / max(report.tokens, 1):.0%})"
        dropped = sum(report.dropped.values())
        table.add_row(
            split, f"{report.read:,}", f"{report.kept:,}", f"{dropped:,}", f"{report.tokens:,}", share,
            f"{report.longest:,}", f"{report.cut_tokens:,} in {report.cut_rows:,}",
        )  # fmt: skip
    console.print(table)
    for split, report in data.reports.items():
        for reason, count in report.dropped.most_common():
            console.print(f"  {split}: dropped {count:,}: {reason}")
        if report.dropped_targets:
            console.print(f"  {split}: {report.dropped_targets:,} turns did not fit into max_length")
        for part, count in report.lost.most_common():
            console.print(f"  {split}: {count:,} rows have {part} in their context that the template does not show")
    steps = steps_per_run(len(trainer.train_dataset), training)
    plan = make_plan(trainer, training, data.reports["train"], units=len(data.units["train"]), steps=steps)
    for name, value in plan.lines(training).items():
        console.print(f"  {name}: {value}")
    console.print(f"  {data.trees}")
    if advice := half_precision_advice(training):
        console.print(f"  {advice}")
    findings = audit(
        data.prepared, data.rendered, data.reports, plan, loaded.renderer, trainer.model,
        max_tokens=training.max_length, tasks=data.tasks, label_weights=_label_weights(training),
    )  # fmt: skip
    print_findings(console, findings, options.audit_allow)
    return findings


def _label_weights(training: Any) -> dict[Label, float] | None:
    if not hasattr(training, "desirable_weight"):
        return None
    return {"good": training.desirable_weight, "bad": training.undesirable_weight}


class MetricsFile(TrainerCallback):
    """Writes what the trainer logs to metrics.jsonl as it comes, and a plain line now and then where there is no terminal."""

    def __init__(self, path: Path, *, kept_lines: int) -> None:
        """`kept_lines` were there when the checkpoint was saved; what came after it is computed again."""
        self.path = path
        if not is_main():
            return
        lines = read_metrics(path.parent)[:kept_lines] if kept_lines and path.exists() else []
        write_whole(path, "".join(json.dumps(line) + "\n" for line in lines))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """One line: the step, the epoch, and every number that was logged."""
        if not state.is_world_process_zero or not logs:
            return
        if "train_runtime" in logs and state.global_step < state.max_steps:
            return  # the sum of a process that a signal stopped, not of the run
        # An evaluation without a scored token has no mean: null, because NaN is no JSON.
        numbers = {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in logs.items()}
        line = {"step": state.global_step, "time": datetime.now(UTC).isoformat(timespec="seconds"), **numbers}
        with appending(self.path) as file:
            file.write(json.dumps(line).encode() + b"\n")
        if "loss" in logs and not sys.stderr.isatty():
            say(f"step {state.global_step}/{state.max_steps}  loss {logs['loss']:.4f}")


def fit(
    *,
    trainer: Any,
    loaded: LoadedModel,
    options: DataOptions,
    training: Any,
    method: str,
    everything: dict[str, Any],
    data: TrainingData,
    findings: list[Finding],
    run: RunFolder | None = None,
    drop: ChosenDrop | None = None,
) -> None:
    """Train, unless this very run is already finished, and leave a run folder behind.

    `run` is a command's hold on the folder; without it, as in a notebook, signals are not looked at. `drop` may end it early.

    Raises:
        UserError: if `options.resume` names no checkpoint, the folder holds another run, or an option would make resuming
            inexact.
        NoCheckpoint: if there are checkpoints and none is whole.
        Diverged: if loss, gradients or weights are not finite.
        Preempted: after a signal, when the checkpoint is written.
    """
    for option, why in INEXACT.items():
        if getattr(training, option):
            raise UserError(f"{option}: expected false: {why}")
    folder = Path(training.output_dir)
    settings = run_settings(method, everything, data, loaded, training)
    start = from_main(lambda: _start(options, folder, settings, training.world_size))
    if start.finished:
        say(f"{folder}: this run is already finished; --resume never trains it again")
        return
    benchmark_arguments = check_benchmark(options.benchmark_every, options.benchmark_args, training)
    from_main(lambda: checkpoints.check_space(folder, checkpoints.bytes_of_a_checkpoint(trainer)))
    record = start_record(
        method,
        settings,
        everything,
        data,
        loaded,
        findings,
        resumed_from=start.checkpoint,
        processes=training.world_size,
    )
    write_record(folder, record)
    trainer.remove_callback(PrinterCallback)
    if not sys.stderr.isatty():
        trainer.remove_callback(ProgressCallback)
    say(data.trees)
    trainer.add_callback(MetricsFile(folder / "metrics.jsonl", kept_lines=start.lines))
    trainer.settings, trainer.settings_changed = {**settings, "processes": training.world_size}, start.changed
    if options.benchmark_every:  # before the watch, which looks at what is to be saved
        trainer.add_callback(Benchmarking(trainer, options.benchmark_every, benchmark_arguments, run))
    if drop is not None:
        trainer.add_callback(drop)
    watch = Watch(trainer, data.units["train"], data.rendered["train"], run)
    trainer.add_callback(watch)

    if start.checkpoint is not None:
        training.eval_on_start = False  # that was at step 0

    if run is not None:
        run.start_training()
    open_wandb(training)
    trainer.train(resume_from_checkpoint=start.checkpoint)
    if watch.stopped_by:
        step = trainer.state.global_step
        raise Preempted(f"{watch.stopped_by}: stopped after step {step}, saved in {folder / f'checkpoint-{step}'}")
    watch.check_weights(trainer.state)
    if run is not None:
        run.stop_training()
    metrics = trainer.evaluate() if trainer.eval_dataset is not None else {}

    save_model(trainer, loaded, folder)
    if is_main():
        plot_metrics(folder)
        record["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        record["metrics"] = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        if drop is not None and drop.stopped is not None:
            record["stopped_at_chosen_drop"] = drop.stopped
        record["batches_without_targets"] = trainer.batches_without_targets
        write_record(folder, record)
        say(f"saved {folder} (adapter, run.json, metrics.jsonl, loss.png)")
    trainer.accelerator.wait_for_everyone()


def save_model(trainer: Any, loaded: LoadedModel, folder: Path) -> None:
    """The trained weights with tokenizer and chat template into `folder`; of adapters only the trained one.

    They are written elsewhere and moved in file by file, weights last: a file that is there is whole.
    """
    saving = folder / checkpoints.SAVING / "final"
    try:
        model = trainer.accelerator.unwrap_model(trainer.model)
        if isinstance(model, PeftModel) and not trainer.is_fsdp_enabled and not trainer.is_deepspeed_enabled:
            if is_main():
                model.save_pretrained(saving, selected_adapters=["default"])
        else:
            if trainer.is_fsdp_enabled:  # a checkpoint may be in shards, what is published is whole
                trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
            trainer.save_model(str(saving))
        if is_main():
            loaded.renderer.tokenizer.save_pretrained(saving)
            for path in sorted(saving.iterdir(), key=lambda path: path.suffix == ".safetensors"):
                if path.is_file() and path.name != "training_args.bin":  # a pickle that nobody needs
                    checkpoints.flush(path)
                    os.replace(path, folder / path.name)
            shutil.rmtree(saving.parent)
            checkpoints.flush(folder)
    except Exception as error:
        told = disk_fault(error)
        if told is None:
            raise
        shutil.rmtree(saving.parent, ignore_errors=True)
        raise UserError(
            f"{folder}: the trained model could not be saved: {told}. Make room; the same command goes on from the newest "
            "checkpoint"
        ) from None


class Start(NamedTuple):
    """Where a run begins."""

    checkpoint: str | None = None
    lines: int = 0
    """Of metrics.jsonl, when the checkpoint was saved."""
    finished: bool = False
    changed: bool = False
    """Whether it was made with other settings."""


def _start(options: DataOptions, folder: Path, settings: dict[str, Any], processes: int) -> Start:
    """Decide what this run goes on from, and refuse to go on with what is another run's.

    Raises:
        UserError: if the folder holds a run with other settings, or `options.resume` is neither a word nor a checkpoint.
        NoCheckpoint: if no checkpoint is whole.
    """
    if options.resume == "never":
        checkpoints.set_aside(folder, after_step=-1)
        return Start()
    if options.resume == "auto":
        record = read_record(folder)
        if record.get("finished") and record.get("settings") and any(folder.glob("*.safetensors")):
            changed = _refuse_changes(f"the finished run in {folder}", record["settings"], settings, options)
            if not changed:
                return Start(finished=True)
        chosen = checkpoints.newest_whole(folder)
        if chosen is None:
            return Start()
    else:
        chosen = Path(options.resume)
        if not (chosen / "trainer_state.json").exists():
            raise UserError(f"--resume {options.resume}: expected auto, never or a checkpoint folder")
        if problems := checkpoints.problems_of(chosen):
            raise NoCheckpoint(f"--resume {options.resume}: not a whole checkpoint: {'; '.join(problems)}")
    before = checkpoints.read_manifest(chosen)["settings"]
    changed = _refuse_changes(str(chosen), before, settings, options)
    if chosen.resolve().parent == folder.resolve() and options.resume != "auto":
        checkpoints.set_aside(folder, after_step=checkpoints.step_of(chosen))
    if before.get("processes") != processes:
        say(
            f"{chosen}: written by {before.get('processes')} processes, now {processes}: the same units in the same steps; "
            "dropout draws other numbers"
        )
    say(f"going on from {chosen}")
    return Start(str(chosen), read_logging_state(chosen)["lines of metrics"], changed=bool(changed))


def _refuse_changes(what: str, before: dict[str, Any], now: dict[str, Any], options: DataOptions) -> list[str]:
    changed = checkpoints.differences(before, now)
    listed = "".join(f"\n  {line}" for line in changed)
    if changed and not options.allow_mismatch:
        raise UserError(
            f"{what} was made with other settings:{listed}\n"
            "--resume never starts over, --allow_mismatch true goes on with the new ones, or take another --output_dir"
        )
    if changed:
        say(f"{what} was made with other settings, and --allow_mismatch goes on:{listed}")
    return changed


def read_metrics(folder: Path | str) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; a last one that a kill cut off is left out."""
    text = (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def plot_metrics(folder: Path) -> None:
    """loss.png: training and validation loss over steps, for pairs the reward accuracy, for labelled chats the margin."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import, and only at the end of a run
    except ImportError as error:  # a finished run is not lost over its picture
        say(f"no loss.png: {error}")
        return
    lines = read_metrics(folder)
    curves = {
        "loss": [("loss", "training"), ("eval_loss", "validation")],
        "benchmark success": [("benchmark/success_rate", "training tasks")],
        "preference accuracy": [("rewards/accuracies", "training"), ("eval_rewards/accuracies", "validation")],
    }
    if not any("rewards/accuracies" in line for line in lines):
        curves["reward, good minus bad"] = [("rewards/margins", "training"), ("eval_rewards/margins", "validation")]
    shown = {
        title: names for title, names in curves.items() if any(name in line for line in lines for name, _ in names)
    }
    figure = Figure(figsize=(6 * max(len(shown), 1), 3.6), layout="constrained")
    for axes, (title, names) in zip(
        figure.subplots(1, max(len(shown), 1), squeeze=False)[0], shown.items(), strict=False
    ):
        for name, label in names:
            points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1.5, label=label)
        axes.set_xlabel("step")
        axes.set_title(title, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    write_whole(folder / "loss.png", picture.getvalue())
