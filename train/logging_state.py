"""What the next logged line is made of beside the model, kept in each checkpoint.

So a resumed run logs what an unbroken one would. The sums belong to the HF Trainer and to TRL, which keep them in memory only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.errors import UserError

LOGGING_STATE = "logging_state.json"


def save_logging_state(trainer: Any, checkpoint: Path, losses: list[float]) -> None:
    """Write the sums since the last line and since the run's start. `losses` are those since the last line, by process."""
    told = {
        "loss sums": losses,
        "loss sum": trainer._total_loss_scalar,  # of the whole run until the last line
        "last logged step": trainer._globalstep_last_logged,
        "metrics": trainer.collected_metrics(),
        "tokens": getattr(trainer, "_total_train_tokens", 0),  # TRL's ORPO counts none
        "batches without targets": trainer.batches_without_targets,
        "lines of metrics": _count_lines(Path(trainer.args.output_dir, "metrics.jsonl")),
    }
    Path(checkpoint, LOGGING_STATE).write_text(json.dumps(told, indent=1), encoding="utf-8")


def read_logging_state(checkpoint: Path) -> dict[str, Any]:
    """What `save_logging_state` wrote.

    Raises:
        UserError: if the checkpoint holds none, as those of older versions do.
    """
    try:
        text = (checkpoint / LOGGING_STATE).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"{checkpoint}: written by an older version, without {LOGGING_STATE}. --resume never starts over"
        ) from None
    state: dict[str, Any] = json.loads(text)
    return state


def restore_logging_state(trainer: Any) -> None:
    """Go on where the checkpoint's lines of metrics.jsonl end. Called when training begins, after the HF Trainer has set its
    sums to zero."""
    told = trainer.logging_state
    if told is None:
        return
    losses, own = told["loss sums"], trainer.accelerator.process_index
    same_processes = len(losses) == trainer.accelerator.num_processes
    trainer._tr_loss += losses[own] if same_processes else sum(losses) / len(losses)
    trainer._total_loss_scalar = told["loss sum"]
    trainer._globalstep_last_logged = told["last logged step"]
    trainer.collected_metrics().update(told["metrics"])
    if hasattr(trainer, "_total_train_tokens"):
        trainer._total_train_tokens = told["tokens"]
    trainer.batches_without_targets = told["batches without targets"]


def _count_lines(path: Path) -> int:
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        return sum(1 for _ in file)
