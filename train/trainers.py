"""TRL's trainers, fed with rows that are already tokens.

What is overridden is small and stands here in full: dataset preparation (nothing is left to prepare), which columns reach
the collator, how the loss is weighted and normalised, and for ORPO the forward pass, because TRL's scores prompts and tool
results. Losses, logging, prediction, saving and resuming stay TRL's. tests/test_train.py names each method of TRL that
is leaned on, so that an upgrade which moves one fails loudly.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import Sampler
from trl import DPOTrainer, SFTTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.utils import add_fused_lm_head

from data.mixture import rows_to_dataset


def score_targets_only(model: Any) -> None:
    """Let TRL's fused head see only the positions that are scored, on every device.

    TRL does that itself where it has a Triton kernel; elsewhere its head runs on every position of the batch, which on a
    CPU costs a third of a step when a fifth of the tokens is scored. So the backbone's hidden states (batch, length, size)
    are reduced to those before a scored token (1, scored, size), and the head's outputs are put back to (batch, length - 1)
    with zeros elsewhere, exactly as TRL returns them. Call it after TRL has added its head.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    fused_forward = base.forward
    scored: list[torch.Tensor] = []

    def keep_scored(_module: Any, _args: Any, output: Any) -> Any:
        if scored:
            output.last_hidden_state = output.last_hidden_state[:, :-1][scored[0]][None]
        return output

    @functools.wraps(fused_forward)
    def forward(*args: Any, fused_lm_head: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        mask = labels[:, 1:] != -100 if fused_lm_head and labels is not None else None
        if mask is None or not mask.any():  # TRL's own way keeps a batch without targets differentiable
            return fused_forward(*args, fused_lm_head=fused_lm_head, labels=labels, **kwargs)
        scored.append(mask)
        try:
            outputs = fused_forward(*args, fused_lm_head=True, shift_labels=labels[:, 1:][mask][None], **kwargs)
        finally:
            scored.clear()
        for name in ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1"):
            values = getattr(outputs, name)
            if values is not None:
                setattr(outputs, name, values.new_zeros(mask.shape).masked_scatter(mask, values))
        outputs.label_mask = mask
        return outputs

    base.base_model.register_forward_hook(keep_scored)
    base.forward = forward


class EpochSampler(Sampler[int]):
    """A new permutation of the rows each epoch, then the filler rows.

    Filler rows (a single pad token, nothing scored) make every epoch a whole number of global batches. So each real row
    is seen exactly once an epoch, in an order that does not depend on the number of processes.
    """

    def __init__(self, rows: int, fillers: int, seed: int) -> None:
        self.rows, self.fillers, self.seed, self.epoch = rows, fillers, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate's data loader before each epoch, also after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows + self.fillers

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        yield from torch.randperm(self.rows, generator=generator).tolist()
        yield from range(self.rows, self.rows + self.fillers)


class ChatTrainer(SFTTrainer):
    """SFT on rows of `train.tree.chat_to_rows`.

    The loss is the weighted mean of the scored tokens' negative log-likelihood over the whole global batch: sum of
    weight * nll over all processes and accumulation steps, divided by the sum of weights. So 8x1, 1x8 and 2 processes of
    4 are the same step.
    """

    def __init__(
        self, *, train_dataset: list[dict[str, Any]], eval_dataset: list[dict[str, Any]], args: Any, **kw: Any
    ):
        global_batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        self._real_rows = len(train_dataset)
        self._filler_rows = -len(train_dataset) % global_batch
        filler = {"id": "", "input_ids": [kw["data_collator"].pad_token_id], "labels": [-100], "loss_weights": [0.0]}
        super().__init__(
            args=args,
            train_dataset=rows_to_dataset([*train_dataset, *[filler] * self._filler_rows]),
            eval_dataset=rows_to_dataset(eval_dataset) if eval_dataset else None,
            **kw,
        )
        score_targets_only(self.model)

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["input_ids", "labels", "loss_weights"]

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> EpochSampler:
        return EpochSampler(self._real_rows, self._filler_rows, self.args.data_seed or self.args.seed)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor | None:
        if not batch_samples:
            return None
        weights = sum(batch["loss_weights"][:, 1:].sum() for batch in batch_samples).to(device)
        return self.accelerator.gather(weights).sum() if self.args.world_size > 1 else weights

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        weights = inputs.pop("loss_weights")[:, 1:]
        scored = (inputs["labels"][:, 1:] != -100).sum()
        # In evaluation TRL divides by the number of scored tokens; this makes it the sum of their weights.
        scale = 1.0 if num_items_in_batch is not None else scored / weights.sum().clamp(min=torch.finfo().tiny)

        def weighted(**kwargs: Any) -> Any:
            outputs = model(**kwargs)
            if kwargs.get("fused_lm_head"):
                outputs.log_probs = outputs.log_probs * weights * scale
            return outputs

        return super().compute_loss(weighted, inputs, return_outputs, num_items_in_batch)


class PairTrainer(DPOTrainer):
    """DPO on rows of `train.tree.pair_to_row`: only the model's own tokens of each side are scored."""

    def __init__(self, *, train_dataset: list[dict[str, Any]], eval_dataset: list[dict[str, Any]], **kw: Any):
        super().__init__(
            train_dataset=rows_to_dataset(train_dataset),
            eval_dataset=rows_to_dataset(eval_dataset) if eval_dataset else None,
            **kw,
        )
        score_targets_only(self.model)

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = [
            "prompt_ids", "chosen_ids", "rejected_ids", "chosen_mask", "rejected_mask",
            "ref_chosen_logps", "ref_rejected_logps",
        ]  # fmt: skip


class OddsRatioTrainer(ORPOTrainer):
    """ORPO (arXiv 2403.07691) on rows of `train.tree.pair_to_row`.

    TRL's own forward pass puts the NLL term on prompt and tool results too and drops tools from the prompt. Here both
    terms cover the chosen side's scored tokens only, and the prompt is whatever the model's template makes of it.
    """

    def __init__(
        self, *, model: Any, train_dataset: list[dict[str, Any]], eval_dataset: list[dict[str, Any]], **kw: Any
    ):
        super().__init__(
            model=model,
            train_dataset=rows_to_dataset(train_dataset),
            eval_dataset=rows_to_dataset(eval_dataset) if eval_dataset else None,
            **kw,
        )
        self.use_dpo_data_collator = True  # ours gives what TRL's would; without this it warns at every evaluation
        base = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        add_fused_lm_head(base, outputs=("log_probs", "mean_logits"))
        score_targets_only(self.model)

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        return feature

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["prompt_ids", "chosen_ids", "rejected_ids", "chosen_mask", "rejected_mask"]

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> tuple[Any, ...]:
        """Mean log-prob and mean logit of each side's scored tokens (batch,), and the chosen side's NLL."""
        labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
        outputs = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            labels=labels,
            use_cache=False,
            fused_lm_head=True,
        )
        lengths = (labels[:, 1:] != -100).sum(dim=1).clamp(min=1)
        sums = outputs.log_probs.sum(dim=1)
        chosen, rejected = (sums / lengths).chunk(2)
        chosen_sums, _ = sums.chunk(2)
        chosen_lengths, _ = lengths.chunk(2)
        chosen_logits, rejected_logits = (outputs.mean_logits.sum(dim=1) / lengths).chunk(2)
        nll = -chosen_sums.sum() / chosen_lengths.sum()
        forward = (chosen, rejected, chosen_logits, rejected_logits, nll)
        return (*forward, outputs.aux_loss) if self.aux_loss_enabled else forward


def steps_per_run(rows: int, args: Any) -> int:
    """Optimizer steps of a run over `rows`, as the HF Trainer counts them."""
    if args.max_steps > 0:
        return int(args.max_steps)
    batches = math.ceil(rows / (args.per_device_train_batch_size * args.world_size))
    return max(1, math.ceil(batches / args.gradient_accumulation_steps)) * math.ceil(args.num_train_epochs)
