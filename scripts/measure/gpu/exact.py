"""Part b: one step on trees against the same step on plain rows, in fp32."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch

from scripts.measure.gpu.report import Finding
from scripts.measure.gpu.setting import Setting, branching_chats, trajectories
from train.attention import flex_fault_of

BOUND = 1e-4
"""Of log-probs in nats, and of gradients as a share of the largest one."""
HALF_BOUND = 0.1
"""The same in half precision, for FlashAttention, which knows no fp32."""
WAYS: dict[str, dict[str, Any]] = {
    "FlexAttention": {"share": True, "backend": "flex"},
    "sdpa with a dense mask": {"share": True, "backend": "dense"},
    "sdpa by segments": {"share": True, "backend": "segments"},
    "varlen's arguments, sdpa": {"share": False, "backend": "varlen"},
}
PLAIN: dict[str, Any] = {"share": False, "backend": "causal"}
METHODS = ("dpo", "orpo", "sft")
Step = tuple[torch.Tensor, dict[str, torch.Tensor]]


def exact_in_fp32() -> None:
    """No TF32 anywhere, in Triton's kernels neither: they ask for the same setting."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def exact(setting: Setting) -> Iterator[Finding]:
    """Every way against plain rows, by method."""
    pairs = trajectories(3, setting.lengths)
    rows = {"dpo": pairs, "orpo": pairs, "sft": branching_chats(3, setting.lengths)}
    if fault := flex_fault_of(setting.new_model(setting.short_shape, torch.float32)) if setting.cuda else None:
        yield Finding("b", "FlexAttention in fp32", "broken", fault)
    for method in METHODS:
        truth = one_step(setting, method, rows[method], torch.float32, PLAIN)
        for name, way in WAYS.items():
            if fault and way["backend"] == "flex":
                continue
            yield compared(setting, method, name, truth, rows[method], way)
        wrong = one_step(
            setting, method, rows[method], torch.float32, {"share": True, "backend": "causal"}, check=False
        )
        apart = float((wrong[0] - truth[0]).abs().max())
        yield Finding(
            "b", f"{method}, control: no mask", "right" if apart > 10 * BOUND else "wrong",
            f"log-probs differ by {apart:.2g}, as a wrong mask must show", {"log_probs": apart},
        )  # fmt: skip
    yield from flash(setting, rows["sft"])


def compared(setting: Setting, method: str, name: str, truth: Step, rows: Any, way: dict[str, Any]) -> Finding:
    """One way against the plain rows."""
    about = f"{method}, {name}, fp32 against plain rows"
    try:
        got = one_step(setting, method, rows, torch.float32, way)
    except Exception as error:  # one way that does not run must not hide the others
        text = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        return Finding("b", about, "broken", f"{type(error).__name__}: {text}")
    return difference("b", about, truth, got, BOUND)


def difference(part: str, about: str, truth: Step, got: Step, bound: float) -> Finding:
    """How far log-probs and gradients are apart."""
    log_probs = float((got[0] - truth[0]).abs().max())
    largest = max(float(gradient.abs().max()) for gradient in truth[1].values())
    gradients = max(float((got[1][name] - gradient).abs().max()) for name, gradient in truth[1].items()) / largest
    right = log_probs <= bound and gradients <= bound and largest > 0  # NaN is neither
    return Finding(
        part, about, "right" if right else "wrong",
        f"log-probs within {log_probs:.1e}, gradients within {gradients:.1e} of the largest; bound {bound:g}",
        {"log_probs": log_probs, "gradients": gradients, "bound": bound},
    )  # fmt: skip


def flash(setting: Setting, rows: Any) -> Iterator[Finding]:
    """FlashAttention's own kernels on packed rows, in half precision, where they are installed."""
    about = "sft, FlashAttention 2, varlen, in half precision"
    if not setting.cuda or find_spec("flash_attn") is None:
        yield Finding("b", about, "not run", "flash-attn is not installed" if setting.cuda else "needs a GPU")
        return
    truth = one_step(setting, "sft", rows, setting.half, PLAIN)
    way = {"share": False, "backend": "varlen", "implementation": "flash_attention_2"}
    yield difference("b", about, truth, one_step(setting, "sft", rows, setting.half, way), HALF_BOUND)


def one_step(
    setting: Setting, method: str, rows: Any, dtype: torch.dtype, way: dict[str, Any], *, check: bool = True
) -> Step:
    """(log-probs of all scored tokens side by side, gradients of the adapter by name), on the CPU."""
    exact_in_fp32()
    with setting.flex():
        trainer = setting.new_trainer(method, rows, shape=setting.short_shape, dtype=dtype, tf32=None, **way)
        exact_in_fp32()  # the trainer's own arguments may have said otherwise
        trainer._is_checked = not check
        batch = trainer.data_collator([trainer.train_dataset[at] for at in range(len(trainer.train_dataset))])
        trainer.current_gradient_accumulation_steps = 1
        trainer.model.zero_grad()
        items = trainer._get_num_items_in_batch([batch], trainer.args.device)
        trainer.training_step(trainer.model, dict(batch), items)
        read = {name: value.to(setting.device) for name, value in batch.items()}
        read = {name: value for name, value in read.items() if name.startswith("tree_") or name == "attention_mask"}
        with torch.no_grad():
            log_probs = trainer.model(**read, use_cache=False, fused_lm_head=True).log_probs
        gradients = {
            name: parameter.grad.float().cpu()
            for name, parameter in trainer.model.named_parameters()
            if parameter.requires_grad and parameter.grad is not None and ".ref." not in name
        }
    del trainer
    gc.collect()
    if setting.cuda:
        torch.cuda.empty_cache()
    return log_probs.float().cpu(), gradients
