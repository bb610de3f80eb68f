"""Parts c and e: twenty real steps of each method, and the same on a base in four bits."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from transformers import TrainerCallback

from scripts.measure.gpu.report import Finding
from scripts.measure.gpu.roof import is_installed
from scripts.measure.gpu.setting import Setting, branching_chats, rows_to_units, save_model, trajectories
from train.model import load_model
from train.parsing import ModelOptions

STEPS = 20
WARM_STEPS = 5
"""Compiled and allocated in these; they are not timed."""
METHODS = ("sft", "dpo", "orpo")


class StepTimes(TrainerCallback):
    """When each step ended."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.ended = setting, [time.perf_counter()]

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Waits for the device."""
        self.setting.synchronize()
        self.ended.append(time.perf_counter())

    @property
    def median(self) -> float:
        """Seconds of a step, without the first ones."""
        steps = [after - before for before, after in zip(self.ended, self.ended[1:], strict=False)]
        return statistics.median(steps[WARM_STEPS:] or steps)


def train(setting: Setting) -> Iterator[Finding]:
    """SFT, DPO and ORPO on trees, as a run does it."""
    for method in METHODS:
        about = f"{method}, {STEPS} steps in {str(setting.half).removeprefix('torch.')}, 1.7B shape"
        if setting.clock.left < (15 if setting.cuda else 0):
            yield Finding("c", about, "not run", "no time was left")
            continue
        yield twenty_steps(setting, "c", about, method, setting.whole_shape)


def twenty_steps(setting: Setting, part: str, about: str, method: str, shape: Any, model: Any = None) -> Finding:
    """The finding of a short run: does the loss fall, how fast is a step, how much memory does it take."""
    make = branching_chats if method == "sft" else trajectories
    rows = make(8 if setting.cuda else 2, setting.lengths)
    if setting.cuda:
        torch.cuda.reset_peak_memory_stats()
    with setting.flex():
        trainer = setting.new_trainer(
            method, rows, shape=shape, dtype=setting.half, share=True, model=model, max_steps=STEPS, fresh=True,
            learning_rate=5e-4 if setting.cuda else 5e-3,
        )  # fmt: skip
        times = StepTimes(setting)
        trainer.add_callback(times)
        trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    first, last = statistics.mean(losses[:3]), statistics.mean(losses[-3:])
    units = rows_to_units(rows, share=True)
    unique = sum(len(unit["ids"]) for unit in units)
    in_sequences = sum(len(ids) for row in rows for side in row.sides for ids, _ in side)
    scored = sum(len(unit["labels"]) for unit in units)
    base = trainer.model.get_base_model()
    in_layers = base.num_parameters(exclude_embeddings=True)
    # The layers' weights see every unique token, the head each scored one; LoRA has no gradient of the weights themselves.
    passes = 3 if method == "dpo" else 2
    head = shape.hidden_size * shape.vocab_size
    operations = 2.0 * passes * (in_layers * unique + head * scored)
    figures = {
        "losses": losses, "step_seconds": times.median, "unique_tokens": unique, "tokens_in_sequences": in_sequences,
        "unique_tokens_per_second": unique / times.median, "sequence_tokens_per_second": in_sequences / times.median,
        "mfu": operations / times.median / setting.roof if setting.roof else None, "backend": trainer.tree_backend,
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if setting.cuda else None,
    }  # fmt: skip
    falls = all(map(math.isfinite, losses)) and len(losses) == STEPS and last < first
    share = f", MFU {figures['mfu']:.0%}" if setting.cuda and figures["mfu"] else ""
    memory = f", {figures['peak_memory_bytes'] / 1e9:.1f} GB" if setting.cuda else ""
    line = (
        f"loss {first:.3f} to {last:.3f}; {in_sequences / times.median:,.0f} tokens/s of sequences, "
        f"{unique / times.median:,.0f} unique{share}{memory}; {trainer.tree_backend}, {times.median * 1000:.0f} ms a step"
    )
    del trainer, base
    gc.collect()
    if setting.cuda:
        torch.cuda.empty_cache()
    return Finding(part, about, "right" if falls else "wrong", line, figures)


def four_bits(setting: Setting) -> Iterator[Finding]:
    """QLoRA as a run loads it."""
    about = f"sft, {STEPS} steps on an NF4 base"
    if not is_installed("bitsandbytes"):
        yield Finding("e", about, "not run", "bitsandbytes is not installed (--collect --with-4bit brings it)")
        return
    shape = setting.short_shape
    folder = save_model(setting, shape, setting.half, setting.folder / "four-bits")
    options = ModelOptions(
        model_name_or_path=str(folder), load_in_4bit=True, dtype=str(setting.half).removeprefix("torch."),
        attn_implementation="sdpa",
    )  # fmt: skip

    class Arguments:
        gradient_checkpointing = False

    loaded = load_model(options, None, Arguments)
    yield twenty_steps(setting, "e", about, "sft", shape, model=loaded.model)
