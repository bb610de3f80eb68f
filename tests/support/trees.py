"""Rows that share beginnings, on small models of several kinds: what they give on a tree, and one at a time."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from trl.trainer.utils import add_fused_lm_head

from train.on_trees import compute_on_trees
from train.tree import Rendered, UnitCollator, rendered_to_unit

VOCABULARY = 97

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "max_position_embeddings": 512,
    "pad_token_id": 0,
}  # fmt: skip

WINDOW = 11

MODELS: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZES)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SIZES)),
    "gemma3, two kinds of layers": (
        Gemma3ForCausalLM,
        Gemma3TextConfig(
            **SIZES, sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention", "sliding_attention"]
        ),
    ),
    "mistral, all layers with a window": (MistralForCausalLM, MistralConfig(**SIZES, sliding_window=WINDOW)),
}


def made_pairs(seed: int) -> list[Rendered]:
    """Three step pairs of one trajectory whose lengths are no multiple of any block, and one pair of its own.

    Some sides begin alike, one is a prefix of its sibling, two have a tool's result inside, and weights are fractions.
    """
    generator = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> list[int]:
        return torch.randint(1, VOCABULARY, (count,), generator=generator).tolist()

    trunk, middle, alike = tokens(37), tokens(13), tokens(4)
    pairs = []
    for number, context in enumerate([trunk, trunk + middle, trunk + middle + tokens(7)]):
        chosen, rejected = [*alike, *tokens(5)], [*alike, *tokens(3)]
        result = tokens(6)
        sides = (
            (
                (
                    context + chosen + result + [9, 8],
                    [0.0] * len(context) + [1.0] * len(chosen) + [0.0] * 6 + [0.5, 1.0],
                ),
            ),
            ((context + rejected, [0.0] * len(context) + [1.0] * len(rejected)),),
        )
        pairs.append(Rendered(f"step{number}", "trajectory", sides))
    context = tokens(3)
    sides = ((([*context, 5, 6, 7], [0.0] * 3 + [1.0] * 3),), (([*context, 5, 6], [0.0] * 3 + [1.0, 0.25]),))
    return [*pairs, Rendered("alone", "alone", sides)]


def with_adapter(kind: str, *, implementation: str = "sdpa") -> Any:
    torch.manual_seed(0)
    architecture, config = MODELS[kind]
    model = architecture._from_config(copy.deepcopy(config), attn_implementation=implementation)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    add_fused_lm_head(adapted.get_base_model(), outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    return adapted


def batch_to_arguments(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in batch.items() if name.startswith("tree_") or name == "attention_mask"}


def brute_force(model: Any, rows: list[Rendered]) -> tuple[list[list[float]], dict[str, torch.Tensor]]:
    """Weighted log-probs of each side and the gradient of their sum, by the model's plain logits, one sequence at a time."""
    sides, total = [], torch.zeros(())
    order = [row.sides[side] for side in range(len(rows[0].sides)) for row in rows]
    for side in order:
        values = []
        for ids, weights in side:
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()
            log_probs = torch.log_softmax(logits[:-1], -1)[range(len(ids) - 1), ids[1:]]
            kept = [at for at, weight in enumerate(weights) if weight > 0]
            values += [log_probs[at - 1] * weights[at] for at in kept]
        total = total + torch.stack(values).sum()
        sides.append([float(value.detach()) for value in values])
    total.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return sides, gradients


def on_trees(
    model: Any, rows: list[Rendered], backend: Any, *, share: bool = True, layout: Any = "one"
) -> tuple[list[list[float]], dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Log-probs of each side, gradients and the batch. Layout "joined": each row a unit, all of them one forest in one row."""
    joined = layout == "joined"
    groups = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row.id if joined else row.group)]
    collate = UnitCollator(0, "one", share=True) if joined else UnitCollator(0, layout)
    batch = collate([rendered_to_unit(group, share=share) for group in groups])
    compute_on_trees(model, backend)
    outputs = model(**batch_to_arguments(batch), use_cache=False, fused_lm_head=True)
    outputs.log_probs.sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    sides = [values[:size].tolist() for values, size in zip(outputs.log_probs, outputs.label_mask.sum(1), strict=True)]
    return sides, gradients, batch


def largest_difference(first: Any, second: Any) -> float:
    (sides, gradients, *_), (other_sides, other_gradients, *_) = first, second
    assert [len(side) for side in sides] == [len(side) for side in other_sides]
    assert gradients.keys() == other_gradients.keys() and any("lora" in name for name in gradients)
    log_probs = max(
        abs(a - b) for side, other in zip(sides, other_sides, strict=True) for a, b in zip(side, other, strict=True)
    )
    # Gradients are compared by their own size: an absolute bound would let small ones be anything.
    gradient = max(
        float((gradients[name] - other_gradients[name]).norm() / other_gradients[name].norm().clamp(min=1e-6))
        for name in gradients
    )
    return max(log_probs, gradient)
