"""What all trainers share: TRL's trainers on packed trees, in whatever way they score them.

What is overridden is small and stands here in full: the model's forward, which computes the rows of a packed batch and hands
TRL the log-probs in the layout that it expects; dataset preparation (nothing is left to prepare); which columns reach the
collator; and by what a loss is divided. Losses, logging, prediction, saving and resuming stay TRL's. tests/test_trainers.py
names each method of TRL that is leaned on, so that an upgrade which moves one fails loudly.

Normalisation, always over the whole global batch (all processes and all accumulation steps): SFT by the sum of loss weights,
the preference terms by the weights of pairs (1 unless a pair says otherwise) and those of labelled chats by chats, the NLL
terms of ORPO and of DPO's `sft` mix by the chosen sides' loss weights. So 8 x 1, 1 x 8 and two processes of 4 make the same
step.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import save_fsdp_optimizer
from datasets import Dataset
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import distribute_tensor
from transformers.trainer import SCHEDULER_NAME
from transformers.utils import ADAPTER_SAFE_WEIGHTS_NAME

from train.attention import Backend, attention_arguments, prepare_attention
from train.checkpoints import publishing
from train.global_batch import UNIT_COLUMNS, EpochSampler, gather_uneven, units_to_dataset
from train.logging_state import read_logging_state, save_logging_state
from train.tree import REFERENCE_COLUMNS, Unit
from train.tree_check import check_trees

if TYPE_CHECKING:
    # The mixin stands before one of TRL's trainers; for the type checker it is one.
    from transformers import Trainer as _Trainer
else:
    _Trainer = object

PER_TOKEN = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


def compute_on_trees(model: Any, backend: Backend) -> None:
    """Let the model read the batches of `train.tree.UnitCollator`. Call it after TRL has added its head.

    The base model's forward is wrapped, inside of PEFT, DDP and FSDP. With `tree_ids` among its arguments it computes the
    packed rows and keeps, of the backbone's hidden states (rows, length, size), those at `tree_parents`: (1, scored, size).
    TRL's head scores them with `shift_labels` (it would run on every position of the batch where it has no Triton
    kernel). The outputs are then laid out like the compact batch, (sides, longest side), zero where padding, and
    log-probs are multiplied with the loss weights.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if hasattr(base, "tree_backend"):
        return
    base.tree_backend = backend
    prepare_attention(base, backend)
    fused_forward = base.forward
    kept: list[torch.Tensor] = []

    def keep_scored(_module: Any, _args: Any, output: Any) -> Any:
        if kept:
            states = output.last_hidden_state
            output.last_hidden_state = states.reshape(-1, states.shape[-1])[kept[0].to(states.device)][None]
        return output

    @functools.wraps(fused_forward)
    def forward(*args: Any, tree_ids: torch.Tensor | None = None, **kwargs: Any) -> Any:
        if tree_ids is None:
            return fused_forward(*args, **kwargs)
        parents, labels, scored, weights, depths, ends = (
            kwargs.pop(f"tree_{name}") for name in ("parents", "labels", "scored", "weights", "depths", "ends")
        )
        for name in ("input_ids", "labels", "completion_mask"):  # the compact batch is TRL's, not the model's
            kwargs.pop(name, None)
        real_tokens = kwargs.pop("attention_mask")
        arguments = attention_arguments(backend, base.config.get_text_config(), depths, ends)
        if kwargs.get("output_router_logits"):
            arguments["attention_mask"] = real_tokens
        kept.append(parents)
        try:
            outputs = fused_forward(input_ids=tree_ids, shift_labels=labels[None], **arguments, **kwargs)
        finally:
            kept.clear()
        real = scored >= 0
        for name in PER_TOKEN:
            values = getattr(outputs, name)
            if values is not None:
                setattr(outputs, name, values[0][scored.clamp(min=0)].masked_fill(~real, 0))
        outputs.log_probs = outputs.log_probs * weights
        outputs.label_mask = real
        return outputs

    base.base_model.register_forward_hook(keep_scored)
    base.forward = forward


class OnTrees(_Trainer):
    """What the trainers share: units in, shares of the global batch, one check of the trees, exact evaluation loss."""

    sides_per_example: int
    """How many sides an example has; the first is the one that is imitated."""
    counts_examples = True
    """Whether a loss is a mean over examples, and not one over scored tokens."""
    tree_backend: Backend
    _filler_units: int
    _is_checked = False
    settings: dict[str, Any]
    """What decides what is learned; written into each checkpoint."""
    settings_changed = False
    """Whether the checkpoint that is resumed from was written with other settings."""
    seen: list[tuple[torch.Tensor, bool]]
    """Of each batch of the step that is being made: its loss, and whether it had a scored token."""
    gradient_norm: torch.Tensor | float = 0.0
    _counts = True
    """Whether the batch that is being computed has a scored token; fillers have no part in a logged mean."""
    batches_without_targets = 0
    """Of all processes and of the whole run, also of its part before a resume."""
    logging_state: dict[str, Any] | None = None
    """Of the checkpoint that is resumed from."""

    def _unit_datasets(self, args: Any, train: Sequence[Unit], evaluation: Sequence[Unit]) -> dict[str, Any]:
        train_batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        self._filler_units = -len(train) % train_batch
        return {
            "train_dataset": units_to_dataset(train, train_batch),
            "eval_dataset": units_to_dataset(evaluation, args.per_device_eval_batch_size * args.world_size)
            if evaluation
            else None,
        }

    def _start_on_trees(self) -> None:
        self.settings, self.seen = {}, []
        compute_on_trees(self.model, self.tree_backend)
        self.loss_is_scaled_for_ga = True  # by `_shares`
        self.accelerator.gather = gather_uneven(self.accelerator.gather, lambda: self._counts)
        # Fillers leave no remainder that gather_for_metrics would have to cut off.
        self.accelerator.gather_for_metrics = self.accelerator.gather
        self.gather_function = self.accelerator.gather

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = [*UNIT_COLUMNS, "good", *REFERENCE_COLUMNS]

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> EpochSampler:
        units = len(self.train_dataset) - self._filler_units
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        self.train_sampler = EpochSampler(units, self._filler_units, seed)
        return self.train_sampler

    def _totals(self, batch: dict[str, Any]) -> torch.Tensor:
        """(weights of examples, loss weights of the sides that are imitated) of a batch."""
        examples = batch["example_weights"]
        imitated = batch["tree_weights"][: len(examples)] * examples[:, None]
        is_real = batch["count"].sum() > 0  # and no batch of fillers
        return torch.stack([examples.sum() * is_real, imitated.sum() * is_real])

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor | None:
        if not batch_samples:
            return None
        totals = torch.stack([self._totals(batch) for batch in batch_samples]).sum(dim=0).to(device)
        return self.accelerator.gather(totals[None]).sum(dim=0)

    def _shares(self, batch: dict[str, Any], totals: torch.Tensor | None) -> tuple[float, float]:
        """What this batch is of the global batch: by examples and by loss weights.

        Times the number of processes, because gradients are averaged over them. In evaluation a batch is the whole.
        """
        own = self._totals(batch)
        world = 1 if totals is None else self.accelerator.num_processes
        shares = world * own / (own if totals is None else totals).clamp(min=torch.finfo().tiny)
        return float(shares[0]), float(shares[1])

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        if not self._is_checked:
            self._is_checked = True
            half = self.accelerator.mixed_precision != "no"  # the model's forward opens autocast by itself
            check_trees(model, self._prepare_inputs(inputs), self.tree_backend, half_precision=half)
        scored = self._is_scored(inputs)
        anywhere = self.accelerator.gather(torch.tensor([scored], device=self.args.device)).any()
        collected, tokens = self.collected_metrics(), getattr(self, "_total_train_tokens", 0)
        before = {name: list(values) for name, values in collected.items()}
        self._counts = scored
        unit_tokens = inputs["unit_tokens"].to(self.args.device)
        loss = super().training_step(model, inputs, num_items_in_batch)
        if "num_tokens" in collected:  # TRL's would depend on what units of a batch have in common
            self._total_train_tokens = tokens + int(self.accelerator.gather(unit_tokens).sum())
            collected["num_tokens"] = [self._total_train_tokens]
        self._counts = True
        if not anywhere:  # a batch of fillers in all processes: as if it had not been
            collected.clear()
            collected.update(before)
            self._total_train_tokens = tokens
        self.seen.append((loss, scored))
        return loss

    def _is_scored(self, batch: dict[str, Any]) -> bool:
        return bool(batch["count"].any() and batch["tree_weights"].any())

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        self.gradient_norm = super()._get_grad_norm(model, grad_norm)
        return self.gradient_norm

    def _run_epoch(self, *, epoch: int, **kwargs: Any) -> None:
        # Resumed inside an epoch with several processes, accelerate's wrappers do not tell the sampler its epoch.
        self.train_sampler.set_epoch(epoch)
        # Resumed from the last step's checkpoint, the HF Trainer would make one step more.
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(epoch=epoch, **kwargs)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """TRL's; after a resume with other settings, those of the optimizer are the new ones and not the checkpoint's."""
        fresh = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.logging_state = read_logging_state(Path(checkpoint))
        if not self.settings_changed:
            return
        for group, new in zip(self.optimizer.param_groups, fresh, strict=True):
            group.update(new)
        scheduler = self.lr_scheduler
        if isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR):
            scheduler.base_lrs = [new["initial_lr"] for new in fresh]
            for group, base, shape in zip(
                self.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
            ):
                group["lr"] = base * shape(scheduler.last_epoch)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # Gathered before anything is written: a process whose disk is full would not come to it, and the others would wait.
        losses = self.accelerator.gather(self._tr_loss.detach()[None]).tolist()
        with publishing(self, self.settings):
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                save_logging_state(self, Path(self._get_output_dir(), f"checkpoint-{self.state.global_step}"), losses)

    @property
    def _shards_an_adapter(self) -> bool:
        """Whether FSDP2 shards a model of which only an adapter is trained.

        The HF Trainer would gather the whole base model on one process for each checkpoint, write the adapter twice, once
        as a pickle, and read the pickle.
        """
        return self.accelerator.is_fsdp2 and isinstance(self.accelerator.unwrap_model(self.model), PeftModel)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """TRL's; of a sharded model, the trained adapter alone is gathered."""
        if not self._shards_an_adapter:
            super().save_model(output_dir, _internal_call)
            return
        folder = output_dir or self.args.output_dir
        trained = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
        weights = get_model_state_dict(self.model, options=trained)
        if self.args.should_save:
            model = self.accelerator.unwrap_model(self.model)
            model.save_pretrained(folder, state_dict=weights, selected_adapters=["default"])
            self.processing_class.save_pretrained(folder)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self._shards_an_adapter:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        plugin = self.accelerator.state.fsdp_plugin
        save_fsdp_optimizer(plugin, self.accelerator, self.optimizer, self.model, output_dir)
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER_NAME))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self._shards_an_adapter:
            # PEFT loads an adapter in fp32, where TRL has made it bf16 because the base is quantized.
            types = {name: parameter.dtype for name, parameter in self.model.named_parameters()}
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            for name, parameter in self.model.named_parameters():
                parameter.data = parameter.data.to(types.get(name, parameter.dtype))
            return
        weights = load_file(Path(resume_from_checkpoint, ADAPTER_SAFE_WEIGHTS_NAME))
        parameters = {
            name.replace("_checkpoint_wrapped_module.", ""): parameter
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        }
        # PEFT renames parameters when it saves them; names given as values come back under the name in the file.
        in_file = get_peft_model_state_dict(
            self.accelerator.unwrap_model(self.model),
            state_dict={name: name for name in parameters},
            save_embedding_layers=False,
        )
        with torch.no_grad():
            for saved, name in in_file.items():
                parameter = parameters[name]
                whole = weights[saved].to(parameter.device, parameter.dtype)
                parameter.copy_(distribute_tensor(whole, parameter.device_mesh, parameter.placements))

    def _load_best_model(self) -> None:
        if self._shards_an_adapter:
            self._load_from_checkpoint(str(self.state.best_model_checkpoint))
        else:
            super()._load_best_model()

    def collected_metrics(self) -> dict[str, list[float]]:
        """TRL's training metrics since the last logged line."""
        return self._metrics["train"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's; the mean loss of the whole run is over all its steps, not over those since a resume."""
        if "train_loss" in logs:
            logs["train_loss"] = self._total_loss_scalar / max(self.state.global_step, 1)
        super().log(logs, start_time)

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        weight = self._totals(inputs)[0 if self.counts_examples else 1]
        self._counts = self._is_scored(inputs)
        result = super().prediction_step(model, inputs, *args, **kwargs)
        self._counts = True
        self._evaluated += torch.stack([result[0].detach().cpu().double() * weight.cpu(), weight.cpu().double()])
        return result

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's, with the loss over all examples alike instead of the mean of the batches' means."""
        self._evaluated = torch.zeros(2, dtype=torch.float64)
        # A data loader draws from the generator that dropout draws from: evaluating must not move what is trained.
        with torch.random.fork_rng(devices=[]):
            output = super().evaluation_loop(*args, **kwargs)
        loss, weight = self.accelerator.gather(self._evaluated.to(self.args.device)[None]).sum(dim=0).tolist()
        prefix = kwargs.get("metric_key_prefix", "eval")
        output.metrics[f"{prefix}_loss"] = loss / weight if weight else math.nan
        return output
