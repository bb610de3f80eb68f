"""TRL's trainers, fed with packed trees (train/on_trees.py): how each one scores them.

Each override is as small as it can be; losses are TRL's own. What differs from TRL is what is scored: the model's words only.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from torch.autograd.graph import saved_tensors_hooks
from trl import DPOTrainer, KTOTrainer, SFTTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.utils import add_fused_lm_head

from core.errors import UserError
from train.attention import Backend
from train.on_trees import PER_TOKEN, OnTrees, compute_on_trees
from train.reference import LogProbs, ReferenceCache, fill
from train.tree import REFERENCE_COLUMNS, Rendered, Unit, rendered_to_unit

if TYPE_CHECKING:
    # The mixin stands before one of TRL's trainers that have a reference; for the type checker it is one.
    from trl import DPOTrainer as _ReferenceTrainer
else:
    _ReferenceTrainer = object


class ChatTrainer(OnTrees, SFTTrainer):
    """SFT: the weighted mean of the scored tokens' negative log-likelihood."""

    sides_per_example = 1
    counts_examples = False

    def __init__(
        self, *, train_units: Sequence[Unit], eval_units: Sequence[Unit], backend: Backend, args: Any, **kw: Any
    ) -> None:
        if args.label_smoothing_factor:
            raise UserError("label_smoothing_factor: expected 0, because only log-probs of scored tokens are computed")
        if args.loss_type == "dft" and any(weight != 1 for unit in train_units for weight in unit["weights"]):
            raise UserError("loss_type dft: expected loss weights of 0 and 1 only, the data has others")
        self.tree_backend = backend
        super().__init__(args=args, **self._unit_datasets(args, train_units, eval_units), **kw)
        self._start_on_trees()

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        inputs = dict(inputs)
        _, share = self._shares(inputs, num_items_in_batch)
        own = self._totals(inputs)[1]
        del inputs["count"], inputs["unit_tokens"], inputs["example_weights"], inputs["completion_mask"]
        one = torch.ones((), device=own.device)
        result = super().compute_loss(model, inputs, return_outputs, one)  # a sum
        if self.args.average_tokens_across_devices:
            share /= self.accelerator.num_processes // self.get_tp_size()  # which TRL has multiplied in
        scale = share / own.clamp(min=torch.finfo().tiny) if share else own * 0
        return (result[0] * scale, result[1]) if return_outputs else result * scale


class _WithReference(OnTrees, _ReferenceTrainer):
    """What the trainers share that compare the policy with a reference: its log-probs, computed once a row."""

    shares_tokens: bool

    def _start_with_reference(self, train: Sequence[Unit]) -> None:
        # Where sequences do not share tokens, a unit holds a tree for each of them.
        self.shares_tokens = all(unit["ends"][0] == len(unit["ids"]) for unit in train)
        self._start_on_trees()
        if self.ref_model is not None:
            compute_on_trees(self.accelerator.unwrap_model(self.ref_model), self.tree_backend)

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        return (
            dataset  # TRL's constructor would do it here, for the data set as a whole; `use_references` does it by row
        )

    def use_references(
        self, units: dict[str, list[Unit]], rendered: dict[str, list[Rendered]], cache: ReferenceCache
    ) -> None:
        """Take the reference's log-probs from `cache`, and compute the rows that it does not know, before training starts.

        `units` and `rendered` are those that the trainer was made of, by split. Sharded models (FSDP, DeepSpeed) are not
        whole before training starts, so they compute the reference beside each step, as without a cache.
        """
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            self.precompute_ref_logps = False
            return
        model = self.ref_model or self.model
        was_training = model.training
        model.eval()
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        size = self.args.precompute_ref_batch_size or self.args.per_device_eval_batch_size

        def compute(rows: list[Rendered]) -> list[LogProbs]:
            groups = [list(group) for _, group in groupby(rows, key=lambda row: row.group)]
            batch = self.data_collator([rendered_to_unit(group, share=self.shares_tokens) for group in groups])
            del batch["count"], batch["unit_tokens"], batch["example_weights"], batch["labels"]
            batch.pop("good", None)
            first, second = self.compute_ref_log_probs(model, self._prepare_inputs(batch))
            return list(zip(first.tolist(), second.tolist(), strict=True))

        made: dict[str, list[Unit]] = {}
        for split, rows in rendered.items():
            fill(cache, rows[rank::world], compute, batch_size=size)
            self.accelerator.wait_for_everyone()
            references = fill(cache, rows, compute, batch_size=size)
            start, made[split] = 0, []
            for unit in units[split]:
                stop = start + unit["count"]
                of_unit = {name: values[start:stop] for name, values in zip(REFERENCE_COLUMNS, references, strict=True)}
                made[split].append({**unit, **of_unit})
                start = stop
        model.train(was_training)
        datasets = self._unit_datasets(self.args, made["train"], made["validation"])
        self.train_dataset, self.eval_dataset = datasets["train_dataset"], datasets["eval_dataset"]


class PairTrainer(_WithReference, DPOTrainer):
    """DPO: only the model's own tokens of each side are scored. Loss types are TRL's.

    The `sft` part of a mix is the NLL of the chosen side's scored tokens. Loss types that compare pairs of a batch with
    each other (aot, bco_pair) see the pairs of one process and one accumulation step, as in TRL.

    Where pairs have weights of their own, losses are weighted means over pairs, and the NLL counts each token as often as its
    pair.
    """

    sides_per_example = 2
    loss_types: list[str]
    loss_weights: list[float]
    use_weighting: bool
    weighs_pairs: bool
    """Whether some pair has another weight than 1."""

    def __init__(
        self, *, train_units: Sequence[Unit], eval_units: Sequence[Unit], backend: Backend, args: Any, **kw: Any
    ) -> None:
        self.tree_backend = backend
        self.weighs_pairs = _have_weights(train_units) or _have_weights(eval_units)
        compared = {"aot", "aot_unpaired"} & set(args.loss_type)
        if self.weighs_pairs and compared:
            raise UserError(f"loss_type {compared.pop()}: sorts the pairs of a batch, so pairs cannot have weights")
        super().__init__(args=args, **self._unit_datasets(args, train_units, eval_units), **kw)
        self._start_with_reference(train_units)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        inputs = dict(inputs)
        by_pairs, by_weights = self._shares(inputs, num_items_in_batch)
        del inputs["count"], inputs["unit_tokens"], inputs["labels"]
        of_pairs = inputs.pop("example_weights")
        for name, theirs in zip(REFERENCE_COLUMNS, ("ref_chosen_logps", "ref_rejected_logps"), strict=True):
            if name in inputs:
                inputs[theirs] = inputs.pop(name)
        if self.weighs_pairs:
            return self._weighted_loss(model, inputs, of_pairs, by_pairs, by_weights)
        weights = self.loss_weights
        # TRL's `sft` part is a mean over this batch's scored tokens.
        chosen = inputs["tree_weights"].chunk(2)[0]
        sft = by_weights / max(by_pairs, 1e-9) * float((chosen > 0).sum() / chosen.sum())
        self.loss_weights = [
            weight * sft if kind == "sft" else weight for kind, weight in zip(self.loss_types, weights, strict=True)
        ]
        try:
            result = super().compute_loss(model, inputs, return_outputs)
        finally:
            self.loss_weights = weights
        return (result[0] * by_pairs, result[1]) if return_outputs else result * by_pairs

    def _weighted_loss(
        self, model: Any, inputs: dict[str, Any], of_pairs: torch.Tensor, by_pairs: float, by_weights: float
    ) -> torch.Tensor:
        """TRL multiplies the loss of a pair with weights where it weighs by the policy (WPO), which it computes of
        `log_sum_sq_probs`; that is where the weights of pairs go in. Its `sft` part has no pairs, and is computed here."""
        outputs = _forward(model, inputs, balances_experts=self.aux_loss_enabled)
        chosen = inputs["tree_weights"].chunk(2)[0] * of_pairs[:, None]
        nll = -(outputs.log_probs.chunk(2)[0] * of_pairs[:, None]).sum() / chosen.sum()
        normal = of_pairs * len(of_pairs) / of_pairs.sum()
        lengths = inputs["tree_weights"].sum(dim=1)
        of_sides = torch.cat([normal.log(), torch.zeros_like(normal)]) * lengths.clamp(min=1) / lengths
        before = outputs.log_sum_sq_probs if self.use_weighting else outputs.log_probs.detach()
        outputs.log_sum_sq_probs = before - of_sides[:, None]

        weighs_by_policy, types, weights = self.use_weighting, self.loss_types, self.loss_weights
        preferring = [(kind, weight) for kind, weight in zip(types, weights, strict=True) if kind != "sft"]
        self.use_weighting = True
        self.loss_types, self.loss_weights = [kind for kind, _ in preferring], [weight for _, weight in preferring]
        try:
            # TRL multiplies in place, and what some losses have saved for their gradient would change.
            with saved_tensors_hooks(torch.clone, lambda saved: saved):
                loss = super().compute_loss(lambda **_: outputs, inputs)
        finally:
            self.use_weighting, self.loss_types, self.loss_weights = weighs_by_policy, types, weights
        imitating = sum(weight for kind, weight in zip(types, weights, strict=True) if kind == "sft")
        return loss * by_pairs + imitating * nll * by_weights


def _have_weights(units: Sequence[Unit]) -> bool:
    return any(weight != 1 for unit in units for weight in unit["example_weights"])


class LabelTrainer(_WithReference, KTOTrainer):
    """KTO and its relatives on chats that are good or bad: only the model's own tokens are scored. Loss types are TRL's.

    With `apo_zero_unpaired` a chat has one side. With `kto` it has a second one, its prompt with the completion of another chat
    (train/mismatched.py); both are computed in one pass, and only the first is learned from. The KL term is estimated over
    the chats of one accumulation step of all processes, as in TRL.
    """

    calculate_KL: bool

    def __init__(
        self, *, train_units: Sequence[Unit], eval_units: Sequence[Unit], backend: Backend, args: Any, **kw: Any
    ) -> None:
        self.tree_backend = backend
        self.sides_per_example = 2 if args.loss_type == "kto" else 1
        super().__init__(args=args, **self._unit_datasets(args, train_units, eval_units), **kw)
        self._start_with_reference(train_units)

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs of the first and second side of each example; zeros where there is no second one."""
        estimates_kl, self.calculate_KL = self.calculate_KL, False
        try:
            sums, _ = super().compute_ref_log_probs(lambda **_: _forward(model, inputs), inputs)
        finally:
            self.calculate_KL = estimates_kl
        return sums.chunk(2) if estimates_kl else (sums, torch.zeros_like(sums))

    def _compute_kl_logps(self, model: Any, batch: dict[str, Any]) -> torch.Tensor | None:
        if not self.calculate_KL:
            return None
        if isinstance(model, _ComputedOnce):
            return model.mismatched
        return _forward(model, batch).log_probs.sum(-1).chunk(2)[1]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        inputs = dict(inputs)
        by_chats, _ = self._shares(inputs, num_items_in_batch)
        del inputs["count"], inputs["unit_tokens"], inputs["labels"], inputs["example_weights"]
        inputs["label"] = inputs.pop("good").bool()
        for name, theirs in zip(REFERENCE_COLUMNS, ("ref_logps", "ref_KL_logps"), strict=True):
            if name in inputs:
                inputs[theirs] = inputs.pop(name)
        if self.calculate_KL:
            model = _ComputedOnce(model, inputs, balances_experts=self.aux_loss_enabled)
            for name in ("input_ids", "completion_mask"):  # what TRL reads of the compact batch: the first sides
                inputs[name] = inputs[name].chunk(2)[0]
        result = super().compute_loss(model, inputs, return_outputs)
        return (result[0] * by_chats, result[1]) if return_outputs else result * by_chats


def _forward(model: Any, inputs: dict[str, Any], *, balances_experts: bool = False) -> Any:
    arguments = {name: value for name, value in inputs.items() if name.startswith("tree_") or name == "attention_mask"}
    if balances_experts:
        arguments["output_router_logits"] = True
    return model(**arguments, use_cache=False, fused_lm_head=True)


class _ComputedOnce:
    """A model's outputs for a batch of which each example has two sides, given out as those of the first sides."""

    def __init__(self, model: Any, inputs: dict[str, Any], *, balances_experts: bool) -> None:
        self.outputs = _forward(model, inputs, balances_experts=balances_experts)
        self.mismatched = self.outputs.log_probs.chunk(2)[1].sum(-1).detach()
        for name in (*PER_TOKEN, "label_mask"):
            values = getattr(self.outputs, name)
            if values is not None:
                setattr(self.outputs, name, values.chunk(2)[0])

    def __call__(self, **_: Any) -> Any:
        return self.outputs


class OddsRatioTrainer(OnTrees, ORPOTrainer):
    """ORPO (arXiv 2403.07691), with the odds ratio as a weighted mean where pairs have weights of their own.

    TRL's own forward pass puts the NLL term on prompt and tool results too and drops tools from the prompt. Here both
    terms cover the sides' scored tokens only, and the prompt is whatever the model's template makes of it.
    """

    sides_per_example = 2

    def __init__(
        self,
        *,
        model: Any,
        train_units: Sequence[Unit],
        eval_units: Sequence[Unit],
        backend: Backend,
        args: Any,
        **kw: Any,
    ) -> None:
        self.tree_backend = backend
        super().__init__(model=model, args=args, **self._unit_datasets(args, train_units, eval_units), **kw)
        self.use_dpo_data_collator = True  # ours gives what TRL's would; without this it warns at every evaluation
        base = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        add_fused_lm_head(base, outputs=("log_probs", "mean_logits"))
        self._start_on_trees()

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        return feature

    def collected_metrics(self) -> dict[str, list[float]]:
        return self._stored_metrics["train"]

    def store_metrics(self, metrics: dict[str, Any], train_eval: Any = "train") -> None:
        """TRL's, in plain numbers: a mean over values in bf16 would differ from one over those that a checkpoint keeps."""
        super().store_metrics({name: float(value) for name, value in metrics.items()}, train_eval)

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> tuple[Any, ...]:
        """Mean log-prob and mean logit of each side's scored tokens (pairs,), and the chosen side's NLL."""
        outputs = _forward(model, batch)
        lengths = batch["tree_weights"].sum(dim=1)
        sums = outputs.log_probs.sum(dim=1)
        chosen, rejected = (sums / lengths).chunk(2)
        means = outputs.mean_logits.sum(dim=1) / outputs.label_mask.sum(dim=1)
        weights = batch["example_weights"]
        self._of_pairs = weights * len(weights) / weights.sum()
        self._nll = -(sums.chunk(2)[0] * weights).sum() / (lengths.chunk(2)[0] * weights).sum()
        forward = (chosen, rejected, *means.chunk(2), self._nll)
        return (*forward, outputs.aux_loss) if self.aux_loss_enabled else forward

    def odds_ratio_loss(self, *log_probs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        losses, *told = super().odds_ratio_loss(*log_probs)
        return (losses * self._of_pairs, *told)  # TRL takes their mean

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        by_pairs, by_weights = self._shares(inputs, num_items_in_batch)
        loss, metrics = super().compute_loss(model, inputs, True, num_items_in_batch)
        loss = (loss - self._nll) * by_pairs + self._nll * by_weights
        return (loss, metrics) if return_outputs else loss
