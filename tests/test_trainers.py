"""The trainers against TRL's own: the same losses and metrics on the same rows and mask, however they are batched."""

from __future__ import annotations

import dataclasses
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOTrainer, SFTConfig, SFTTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer
from trl.trainer.utils import FusedCausalLMOutput, add_fused_lm_head

from core.errors import UserError
from data.sets.prepared import rows_to_dataset
from train.global_batch import UNIT_COLUMNS, units_to_dataset
from train.trainers import ChatTrainer, OddsRatioTrainer, PairTrainer
from train.tree import Rendered, UnitCollator, rendered_to_unit

ROOT = Path(__file__).resolve().parents[1]
# What train/on_trees.py and train/trainers.py lean on: (class, name). A TRL that moves one of them fails here.
LEANED_ON = [
    (SFTTrainer, "_prepare_dataset"), (SFTTrainer, "_set_signature_columns_if_needed"), (SFTTrainer, "compute_loss"),
    (SFTTrainer, "_get_train_sampler"), (SFTTrainer, "_get_num_items_in_batch"), (SFTTrainer, "training_step"),
    (SFTTrainer, "prediction_step"), (SFTTrainer, "evaluation_loop"), (SFTTrainer, "get_tp_size"),
    (SFTTrainer, "_save_checkpoint"), (SFTTrainer, "_get_output_dir"), (SFTTrainer, "_run_epoch"),
    (SFTTrainer, "_get_grad_norm"), (SFTTrainer, "_load_optimizer_and_scheduler"),
    (SFTTrainer, "_save_optimizer_and_scheduler"), (SFTTrainer, "_load_from_checkpoint"), (SFTTrainer, "_load_best_model"),
    (SFTTrainer, "save_model"), (SFTTrainer, "log"), (ORPOTrainer, "store_metrics"), (ORPOTrainer, "log"),
    (DPOTrainer, "_prepare_dataset"), (DPOTrainer, "_set_signature_columns_if_needed"), (DPOTrainer, "_compute_loss"),
    (DPOTrainer, "_precompute_ref_logps"), (DPOTrainer, "prediction_step"),
    (ORPOTrainer, "tokenize_row"), (ORPOTrainer, "concatenated_forward"), (ORPOTrainer, "_set_signature_columns_if_needed"),
    (ORPOTrainer, "compute_loss"), (ORPOTrainer, "get_batch_loss_metrics"), (ORPOTrainer, "prediction_step"),
    (ORPOTrainer, "odds_ratio_loss"), (KTOTrainer, "_prepare_dataset"), (KTOTrainer, "_set_signature_columns_if_needed"),
    (KTOTrainer, "_precompute_ref_logps"), (KTOTrainer, "compute_ref_log_probs"), (KTOTrainer, "_compute_kl_logps"),
    (KTOTrainer, "_compute_loss"), (KTOTrainer, "prediction_step"),
]  # fmt: skip


@pytest.mark.parametrize(("owner", "name"), LEANED_ON, ids=lambda part: getattr(part, "__name__", part))
def test_trl_still_has_what_is_overridden(owner: type, name: str) -> None:
    assert callable(getattr(owner, name))


def test_trls_head_still_gives_what_is_laid_out_anew() -> None:
    assert {"log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1", "label_mask"} <= {
        field.name for field in dataclasses.fields(FusedCausalLMOutput)
    }
    assert next(iter(inspect.signature(add_fused_lm_head).parameters)) == "model"
    assert "outputs" in inspect.signature(add_fused_lm_head).parameters


def made_rows(count: int = 5) -> list[Rendered]:
    """Step pairs of two trajectories, sides of different lengths, some with a stretch inside that is not scored."""
    generator = torch.Generator().manual_seed(4)

    def tokens(size: int) -> list[int]:
        return torch.randint(100, 4000, (size,), generator=generator).tolist()

    rows, history = [], tokens(21)
    for number in range(count):
        if number == 3:
            history = tokens(9)
        chosen, rejected, result = tokens(4 + number), tokens(7), tokens(5)
        last = tokens(2)
        scored = [0.0] * len(history) + [1.0] * len(chosen) + [0.0] * 5 + [1.0] * 2
        sides = (
            ((history + chosen + result + last, scored),),
            ((history + rejected, [0.0] * len(history) + [1.0] * 7),),
        )
        rows.append(Rendered(f"pair{number}", "first" if number < 3 else "second", sides))
        history = history + chosen + result
    return rows


def to_units(rows: list[Rendered], *, share: bool) -> list[Any]:
    groups = dict.fromkeys(row.group for row in rows)
    return [rendered_to_unit([row for row in rows if row.group == group], share=share) for group in groups]


def trainer_of(kind: Any, config: Any, model: Path, units: list[Any], out: Path, **more: Any) -> Any:
    torch.manual_seed(0)
    share = bool(more.pop("share", True))
    arguments = config(
        output_dir=str(out), use_cpu=True, bf16=False, report_to=[], gradient_checkpointing=False, max_length=512,
        per_device_train_batch_size=len(units), per_device_eval_batch_size=len(units), **more,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(model)
    return kind(
        model=AutoModelForCausalLM.from_pretrained(model), args=arguments, train_units=units, eval_units=[],
        backend="segments" if share else "causal", data_collator=UnitCollator(0, "one" if share else "paths"),
        processing_class=tokenizer, peft_config=adapter(),
    )  # fmt: skip


def adapter() -> LoraConfig:
    """Random on both ends, so that the policy differs from its reference."""
    return LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")


class TokenRows(DPOTrainer):
    """TRL's trainer over rows that are tokens already."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


def trl_batch(rows: list[Rendered]) -> dict[str, torch.Tensor]:
    """TRL's preference layout with our mask: all chosen sides, then all rejected, padded on the right."""
    sides = [row.sides[side][0] for side in (0, 1) for row in rows]
    width = max(len(ids) for ids, _ in sides)
    return {
        "input_ids": torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in sides]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in sides]),
        "completion_mask": torch.tensor([[int(w) for w in mask] + [0] * (width - len(mask)) for _, mask in sides]),
    }


LOSSES: dict[str, dict[str, Any]] = {
    "sigmoid": {}, "ipo": {}, "hinge": {}, "sigmoid_norm": {}, "robust": {"label_smoothing": 0.2},
    "sigmoid and sft": {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.3]},
    "ipo and sft": {"loss_type": ["ipo", "sft"], "loss_weights": [0.5, 2.0]},
    "sigmoid, another beta and divergence": {"loss_type": ["sigmoid"], "beta": 0.7, "f_divergence_type": "js_divergence"},
    "weighted by policy": {"loss_type": ["sigmoid"], "use_weighting": True},
    "lengths brought together": {"loss_type": ["sigmoid"], "ld_alpha": 0.5},
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_metrics_are_trls_on_the_same_batch_and_mask(name: str, tiny_model: Path, tmp_path: Path) -> None:
    more = {"loss_type": [name], **LOSSES[name]}
    rows = made_rows()
    ours = trainer_of(PairTrainer, DPOConfig, tiny_model, to_units(rows, share=True), tmp_path, **more)
    torch.manual_seed(0)
    theirs = TokenRows(
        model=AutoModelForCausalLM.from_pretrained(tiny_model),
        args=DPOConfig(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], gradient_checkpointing=False, **more
        ),
        train_dataset=rows_to_dataset([{"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]}]),
        processing_class=AutoTokenizer.from_pretrained(tiny_model), peft_config=adapter(),
    )  # fmt: skip
    theirs.model.load_state_dict(ours.model.state_dict())
    results = []
    for trainer, batch in (
        (ours, ours.data_collator([ours.train_dataset[at] for at in range(len(ours.train_dataset))])),
        (theirs, trl_batch(rows)),
    ):
        trainer.model.train()
        loss = trainer.compute_loss(trainer.model, dict(batch))
        loss.backward()
        gradients = {key: p.grad for key, p in trainer.model.named_parameters() if p.grad is not None}
        metrics = {key: values[-1] for key, values in trainer._metrics["train"].items() if key != "num_tokens"}
        results.append((float(loss), gradients, metrics))
    (loss, gradients, metrics), (their_loss, their_gradients, their_metrics) = results
    assert loss == pytest.approx(their_loss, rel=1e-5)
    assert metrics == pytest.approx(their_metrics, rel=1e-4, abs=1e-5)
    assert gradients.keys() == their_gradients.keys()
    for key in gradients:
        assert torch.allclose(gradients[key], their_gradients[key], rtol=1e-3, atol=1e-6), key


WEIGHTED = {
    **{name: (PairTrainer, DPOConfig, {"loss_type": [name], **LOSSES[name]}) for name in LOSSES},
    "sft alone": (PairTrainer, DPOConfig, {"loss_type": ["sft"]}),
    "orpo": (OddsRatioTrainer, ORPOConfig, {"beta": 0.3}),
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_pair_of_weight_2_counts_as_much_as_the_pair_twice(name: str, tiny_model: Path, tmp_path: Path) -> None:
    kind, config, more = WEIGHTED[name]
    rows = made_rows()
    found = []
    for made in (
        [dataclasses.replace(row, weight=1.0 if at in (1, 4) else 0.5) for at, row in enumerate(rows)],
        [row for at, row in enumerate(rows) for _ in range(2 if at in (1, 4) else 1)],
    ):
        trainer = trainer_of(kind, config, tiny_model, to_units(made, share=True), tmp_path, **more)
        batch = trainer.data_collator([trainer.train_dataset[at] for at in range(len(trainer.train_dataset))])
        trainer.model.train()
        loss = trainer.compute_loss(trainer.model, dict(batch))
        loss.backward()
        gradients = {key: p.grad for key, p in trainer.model.named_parameters() if p.grad is not None}
        found.append((float(loss.detach()), gradients))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for key, gradient in found[0][1].items():
        assert torch.allclose(gradient, found[1][1][key], rtol=1e-3, atol=1e-6), key


def test_a_loss_that_sorts_the_pairs_of_a_batch_takes_no_weights(tiny_model: Path, tmp_path: Path) -> None:
    units = to_units([dataclasses.replace(row, weight=2.0) for row in made_rows()], share=True)
    with pytest.raises(UserError, match="aot: sorts the pairs of a batch, so pairs cannot have weights"):
        trainer_of(PairTrainer, DPOConfig, tiny_model, units, tmp_path, loss_type=["aot"])


METHODS = {"sft": (ChatTrainer, SFTConfig), "dpo": (PairTrainer, DPOConfig), "orpo": (OddsRatioTrainer, ORPOConfig)}


@pytest.mark.parametrize("weighted", [False, True], ids=["pairs alike", "pairs with weights"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("share", [True, False], ids=["trees", "plain rows"])
def test_one_global_batch_is_the_sum_of_its_parts(
    method: str, share: bool, weighted: bool, tiny_model: Path, tmp_path: Path
) -> None:
    """The gradient of one wide batch is that of its units one by one, in any order, with uneven sizes and float weights."""
    if weighted and (method == "sft" or not share):
        pytest.skip("weights have no part in it")
    rows = made_rows()
    if weighted:
        rows = [dataclasses.replace(row, weight=0.5 + number) for number, row in enumerate(rows)]
    if method == "sft":
        sides = [row.sides[0] for row in rows]
        rows = [
            Rendered(f"chat{n}", f"chat{n}", (((ids, [w * (0.25 if n == 1 else 1) for w in weights]),),))
            for n, ((ids, weights),) in enumerate(sides)
        ]
    units = to_units(rows, share=share)
    kind, config = METHODS[method]
    more = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]} if method == "dpo" else {}
    trainer = trainer_of(kind, config, tiny_model, units, tmp_path, share=share, **more)
    wide = trainer.data_collator([{name: unit[name] for name in UNIT_COLUMNS} for unit in units])
    narrow = [trainer.data_collator([unit]) for unit in reversed(units)]
    found = []
    for batches in ([wide], narrow):
        totals = trainer._get_num_items_in_batch(batches, torch.device("cpu"))
        trainer.model.zero_grad()
        loss = sum(float(trainer.training_step(trainer.model, dict(batch), totals)) for batch in batches)
        found.append((loss, {key: p.grad.clone() for key, p in trainer.model.named_parameters() if p.grad is not None}))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for key, gradient in found[0][1].items():
        assert torch.allclose(gradient, found[1][1][key], rtol=1e-3, atol=1e-6), key


def test_orpo_scores_the_models_words_only_and_is_orpo(tiny_model: Path, tmp_path: Path) -> None:
    """Against the paper's formulas (arXiv 2403.07691, eq. 4-7) on plain logits."""
    rows = made_rows()
    trainer = trainer_of(OddsRatioTrainer, ORPOConfig, tiny_model, to_units(rows, share=True), tmp_path, beta=0.3)
    batch = trainer.data_collator([trainer.train_dataset[at] for at in range(len(trainer.train_dataset))])
    trainer.model.eval()
    loss = float(trainer.compute_loss(trainer.model, dict(batch)).detach())
    means, chosen_nll, chosen_tokens = [], 0.0, 0
    for row in rows:
        for number, ((ids, weights),) in enumerate(row.sides):
            with torch.no_grad():
                logits = trainer.model(input_ids=torch.tensor([ids])).logits[0].float()
            scored = [at for at, weight in enumerate(weights) if weight]
            log_probs = torch.log_softmax(logits, -1)[[at - 1 for at in scored], [ids[at] for at in scored]]
            means.append(log_probs.mean())
            if number == 0:
                chosen_nll, chosen_tokens = chosen_nll - float(log_probs.sum()), chosen_tokens + len(scored)
    chosen, rejected = torch.stack(means[0::2]), torch.stack(means[1::2])
    odds = (chosen - torch.log1p(-chosen.exp())) - (rejected - torch.log1p(-rejected.exp()))
    wanted = chosen_nll / chosen_tokens - float((0.3 * torch.nn.functional.logsigmoid(odds)).mean())
    assert loss == pytest.approx(wanted, rel=1e-5)


def test_evaluation_loss_is_the_mean_over_examples_and_not_over_batches(tiny_model: Path, tmp_path: Path) -> None:
    rows = made_rows()
    units = to_units([Rendered(row.id, row.id, row.sides) for row in rows], share=True)
    losses = []
    for size in (5, 2):  # five pairs, which two does not divide
        trainer = trainer_of(PairTrainer, DPOConfig, tiny_model, units, tmp_path)
        trainer.args.per_device_eval_batch_size = size
        trainer.eval_dataset = units_to_dataset(units, size)
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
        ({"loss_type": "dft"}, "loss weights of 0 and 1 only"),
    ],
)
def test_what_cannot_be_computed_is_refused(
    more: dict[str, Any], message: str, tiny_model: Path, tmp_path: Path
) -> None:
    unit = rendered_to_unit([Rendered("x", "x", ((([5, 6, 7], [0.0, 0.5, 1.0]),),))], share=True)
    with pytest.raises(UserError, match=message):
        trainer_of(ChatTrainer, SFTConfig, tiny_model, [unit], tmp_path, **more)


def test_a_whole_model_is_saved_with_its_usual_attention(tiny_model: Path, tmp_path: Path) -> None:
    unit = rendered_to_unit([Rendered("x", "x", ((([5, 6, 7], [0.0, 1.0, 1.0]),),))], share=True)
    trainer = trainer_of(ChatTrainer, SFTConfig, tiny_model, [unit], tmp_path)
    trainer.model.get_base_model().save_pretrained(tmp_path / "whole")
    assert "tooltune" not in (tmp_path / "whole" / "config.json").read_text()
    # In a process that knows nothing of our attention.
    code = (
        "from transformers import AutoModelForCausalLM as M; "
        f"print(M.from_pretrained({str(tmp_path / 'whole')!r}).config._attn_implementation)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert done.stdout.strip().splitlines()[-1] == "sdpa", done.stderr
