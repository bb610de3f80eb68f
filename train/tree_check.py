"""The first batch of a run: whether the model computes trees as it computes sequences."""

from __future__ import annotations

from typing import Any

import torch

from core.errors import UserError
from train.attention import Backend
from train.outcome import is_about_determinism


@torch.no_grad()
def check_trees(model: Any, batch: dict[str, torch.Tensor], backend: Backend, *, half_precision: bool = False) -> None:
    """Compare the log-probs of one sequence of the batch, computed inside its tree, with the plain pass over it alone.

    A wrong mask moves log-probs by several nats; what rounding may move is 1e-3 on average in fp32 and 0.1 in half
    precision. The longest sequence is taken, so that sliding windows matter. `half_precision` tells of autocast: weights in
    fp32 do not mean that they are computed with in fp32.

    Raises:
        UserError: if they differ, or if the model refuses the mask.
    """
    depths, ends, ids = (batch[name].flatten().tolist() for name in ("tree_depths", "tree_ends", "tree_ids"))
    parents, labels = batch["tree_parents"].tolist(), batch["tree_labels"].tolist()
    last = max(range(len(parents)), key=lambda entry: depths[parents[entry]])
    row_start = parents[last] - parents[last] % batch["tree_ids"].shape[1]
    path = [at for at in range(row_start, parents[last] + 1) if row_start + ends[at] > parents[last]]
    sequence = [*(ids[at] for at in path), labels[last]]
    position = {at: depth for depth, at in enumerate(path)}
    scored = [
        (entry, position[parent])
        for entry, parent in enumerate(parents)
        if parent in position and sequence[position[parent] + 1] == labels[entry]
    ]
    device = batch["tree_ids"].device
    places = torch.tensor([at for _, at in scored], device=device)
    alone_ids = torch.tensor([sequence], device=device)
    alone_labels = torch.full_like(alone_ids, -100)
    alone_labels[0, places + 1] = alone_ids[0, places + 1]
    of_tree = {name: value for name, value in batch.items() if name.startswith("tree_") or name == "attention_mask"}
    of_tree["tree_scored"] = torch.tensor([[entry for entry, _ in scored]], device=device)
    of_tree["tree_weights"] = torch.ones(1, len(scored), device=device)
    was_training = model.training
    model.eval()
    try:
        on_tree = model(**of_tree, use_cache=False, fused_lm_head=True).log_probs[0].float()
        outputs = model(input_ids=alone_ids, labels=alone_labels, use_cache=False, fused_lm_head=True)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        if is_about_determinism(error):
            raise
        text = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"the model cannot compute trees ({backend} attention): {text}. Use --tree false") from None
    finally:
        model.train(was_training)
    difference = float((on_tree - outputs.log_probs[0, places].float()).abs().mean())
    limit = 1e-3 if next(model.parameters()).dtype == torch.float32 and not half_precision else 0.1
    if not difference <= limit:
        raise UserError(
            f"log-probs computed on trees ({backend} attention) differ from the plain pass by {difference:.2g} on "
            f"average, more than {limit:g}: this model's attention does something that trees do not show. "
            "Use --tree false"
        )
