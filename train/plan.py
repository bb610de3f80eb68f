"""The plan of a run: steps, and what it will need of memory, disk and time. Estimates, each from a stated rule of thumb."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped] # accelerate brings it, without types
import torch

if TYPE_CHECKING:
    from train.tree import RenderReport


@dataclass(frozen=True)
class TrainingPlan:
    """What a run will do and need, estimated. Sizes are bytes, for one process; times are seconds of wall clock."""

    steps: int
    warmup_steps: int
    global_batch: int
    rows: int
    trained_parameters: int
    parameters: int
    memory: float
    memory_free: float
    disk: float
    disk_free: float
    seconds: float

    def lines(self, training: Any) -> dict[str, str]:
        """The plan as text by name."""
        epochs = f" over {training.num_train_epochs:g} epochs" if training.max_steps <= 0 else ""
        share = self.trained_parameters / self.parameters
        return {
            "steps": f"{self.steps:,}{epochs}, global batch {self.global_batch}",
            "trainable parameters": f"{self.trained_parameters:,} of {self.parameters:,} ({share:.2%})",
            "memory, estimated": f"{self.memory / 1e9:.1f} GB a process, {self.memory_free / 1e9:.1f} GB free",
            "disk, estimated": f"{self.disk / 1e9:.2f} GB, {self.disk_free / 1e9:.0f} GB free in {training.output_dir}",
            "time, estimated": f"{duration(self.seconds)} (from a matmul timed just now; good to a factor of two)",
        }


# Share of the rate of one large matmul that a training step reaches; attention, norms and memory traffic take the rest.
REACHED = 0.4


def shape_of(parameter: torch.Tensor) -> torch.Size:
    """The shape of a parameter, also where DeepSpeed's ZeRO-3 has left an empty tensor and holds parts of it elsewhere."""
    return getattr(parameter, "ds_shape", parameter.shape)


def make_plan(trainer: Any, training: Any, report: RenderReport, *, units: int, steps: int) -> TrainingPlan:
    """The plan of a run over `units` batch units, `report.unique_tokens` tokens an epoch, in `steps` steps.

    Memory is weights + gradients and optimizer state of what is trained (4 + 8 bytes a parameter, AdamW in fp32) +
    activations of one batch: about 34 * hidden bytes a token and layer at two bytes a number (arXiv 2205.05198, eq. 2
    without attention scores), or one hidden state a layer with gradient checkpointing. FSDP and ZeRO-3 divide the first two.

    Time is 2 FLOP a parameter and token (arXiv 2001.08361, section 2.1) for each pass: forward, backward to the
    activations, backward to the weights where all of them are trained, once more forward with gradient checkpointing, and
    forward for a reference; at 40 % of the rate of a matmul that is timed here. Evaluation and saving come on top.
    """
    model = trainer.model
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    trained = sum(shape_of(parameter).numel() for parameter in model.parameters() if parameter.requires_grad)
    stored = sum(shape_of(parameter).numel() for parameter in model.parameters())
    # 4-bit weights are stored in pairs; the model knows how many they are.
    total = base.num_parameters() if getattr(base, "is_quantized", False) else stored
    weights = sum(shape_of(parameter).numel() * parameter.element_size() for parameter in model.parameters())
    config = model.config.get_text_config()
    element = next(model.parameters()).element_size()
    tokens = report.longest * training.per_device_train_batch_size * trainer.sides_per_example
    per_token = config.hidden_size * element * (2 if training.gradient_checkpointing else 17)
    sharded = training.world_size if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled else 1
    global_batch = training.per_device_train_batch_size * training.gradient_accumulation_steps * training.world_size

    whole_model_is_trained = trained > total / 2
    reference = hasattr(trainer, "beta") and hasattr(trainer, "ref_model")
    passes = 2 + whole_model_is_trained + bool(training.gradient_checkpointing) + reference
    computed = report.unique_tokens / max(units, 1) * global_batch * steps
    matmul_parameters = total - shape_of(base.get_input_embeddings().weight).numel()
    weights_dtype = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    half = torch.bfloat16 if training.bf16 else torch.float16 if training.fp16 else weights_dtype
    rate = matmul_rate(training.device, half)
    loaded = weights if model.device.type == training.device.type else 0  # FSDP moves them later
    saves = {"no": 0, "epoch": math.ceil(training.num_train_epochs), "best": 1}.get(
        str(training.save_strategy.value), int(steps // max(training.save_steps, 1))
    )
    return TrainingPlan(
        steps=steps,
        warmup_steps=training.get_warmup_steps(steps),
        global_batch=global_batch,
        rows=units,
        trained_parameters=trained,
        parameters=total,
        memory=(weights + trained * 12) / sharded + tokens * config.num_hidden_layers * per_token,
        memory_free=_free_memory(training.device) + loaded,
        disk=trained * (4 + 8) * (min(training.save_total_limit or saves, saves) + 1),
        disk_free=shutil.disk_usage(_existing_parent(Path(training.output_dir))).free,
        seconds=2.0 * passes * matmul_parameters * computed / (rate * REACHED * training.world_size),
    )


def matmul_rate(device: Any, dtype: Any) -> float:
    """FLOP a second of one large matmul on `device`, the best of four."""
    size = 8192 if device.type == "cuda" else 512
    left = torch.ones(size, size, device=device, dtype=dtype)
    best = math.inf
    for _ in range(4):
        begun = time.perf_counter()
        product = left @ left
        product[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - begun)
    return 2.0 * size**3 / best


def half_precision_advice(training: Any) -> str | None:
    """What to do where a run asks for bf16 and its GPU only emulates it (before Ampere: V100, T4); null where all is well."""
    if not training.bf16 or training.device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False):
        return None
    return "bf16: this GPU emulates it, slowly; take --bf16 false --fp16 true --dtype float16"


def _free_memory(device: Any) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)


def _existing_parent(path: Path) -> Path:
    return path if path.exists() else _existing_parent(path.absolute().parent)


def duration(seconds: float) -> str:
    """Seconds as `40 s`, `12 min`, `3.5 h` or `2.1 days`."""
    for unit, size in (("days", 86400.0), ("h", 3600.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def steps_per_run(units: int, args: Any) -> int:
    """Optimizer steps of a run over `units` (fillers included), as the HF Trainer counts them."""
    if args.max_steps > 0:
        return int(args.max_steps)
    batches = math.ceil(units / (args.per_device_train_batch_size * args.world_size))
    return math.ceil(args.num_train_epochs * max(1, math.ceil(batches / args.gradient_accumulation_steps)))
