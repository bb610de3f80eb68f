"""Trees compute what single sequences compute: masks against a brute force, log-probs and gradients against plain passes."""

from __future__ import annotations

import itertools
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.attention import flex_attention
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    Qwen3NextConfig,
)
from trl.trainer.utils import add_fused_lm_head

from core.errors import UserError
from support.trees import (
    MODELS,
    SIZES,
    WINDOW,
    batch_to_arguments,
    brute_force,
    largest_difference,
    made_pairs,
    on_trees,
    with_adapter,
)
from train.attention import block_mask, choose_backend, dense_mask, layer_windows, row_to_stretches
from train.global_batch import gather_uneven
from train.on_trees import compute_on_trees
from train.tree import Rendered, UnitCollator, filler_of, rendered_to_unit, sharing_of_batches
from train.tree_check import check_trees

WAYS = {
    "segments": ("sdpa", "segments", True, "one"),
    "segments, each sequence by itself": ("sdpa", "segments", False, "one"),
    "segments in bins": ("sdpa", "segments", True, "bins"),
    "segments, units that begin alike are one tree": ("sdpa", "segments", True, "joined"),
    "dense, units that begin alike are one tree": ("eager", "dense", True, "joined"),
    "dense with sdpa": ("sdpa", "dense", True, "bins"),
    "dense with eager": ("eager", "dense", True, "one"),
    "causal rows": ("sdpa", "causal", False, "paths"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", MODELS)
def test_log_probs_and_gradients_are_those_of_single_sequences(kind: str, way: str) -> None:
    implementation, backend, share, layout = WAYS[way]
    rows = made_pairs(3)
    truth = brute_force(with_adapter(kind, implementation=implementation), rows)
    model = with_adapter(kind, implementation=implementation)
    assert largest_difference(on_trees(model, rows, backend, share=share, layout=layout), truth) < 2e-5


@pytest.mark.parametrize("kind", MODELS)
def test_a_wrong_mask_is_far_off(kind: str) -> None:
    """The control of the test above: branches that see each other, and a window that is ignored."""
    rows = made_pairs(3)
    truth = brute_force(with_adapter(kind), rows)
    wrong = on_trees(with_adapter(kind), rows, "causal", share=True, layout="one")
    assert largest_difference(wrong, truth) > 0.1
    windows = layer_windows(MODELS[kind][1])
    if any(window is not None for window in windows.values()):
        model = with_adapter(kind)
        for layer_config in {id(model.config): model.config}.values():
            layer_config.sliding_window = 10_000
        assert largest_difference(on_trees(model, rows, "dense", layout="bins"), truth) > 1e-3


# --- the layout, against a brute force ----------------------------------------------------------------------------------

sequences = st.lists(st.lists(st.integers(1, 3), min_size=2, max_size=9), min_size=1, max_size=7)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(sequences, st.booleans(), st.sampled_from([None, 1, 2, 4]))
def test_a_token_sees_its_ancestors_and_nothing_else(
    token_lists: list[list[int]], share: bool, window: int | None
) -> None:
    sides = tuple(((ids, [0.0] + [1.0] * (len(ids) - 1)),) for ids in token_lists)
    unit = rendered_to_unit([Rendered("unit", "unit", sides)], share=share)
    ids, depths, ends = unit["ids"], unit["depths"], unit["ends"]
    prefixes = {tuple(sequence[: at + 1]) for sequence in token_lists for at in range(len(sequence))}
    assert len(ids) == (len(prefixes) if share else sum(map(len, token_lists)))

    # Ancestors from the depths alone: the nearest earlier token that is one less deep is the parent.
    parents = [
        max((k for k in range(q) if depths[k] == depths[q] - 1), default=-1) if depths[q] else -1
        for q in range(len(ids))
    ]

    def path(q: int) -> list[int]:
        return [] if q < 0 else [*path(parents[q]), q]

    mask = dense_mask(torch.tensor([depths]), torch.tensor([ends]), window)[0, 0]
    for q in range(len(ids)):
        seen = [k for k in path(q) if window is None or depths[q] - depths[k] < window]
        assert mask[q].nonzero().flatten().tolist() == seen
    blocks = block_mask(torch.tensor([depths]), torch.tensor([ends]), window)
    rule = torch.tensor([[bool(blocks.mask_mod(0, 0, q, k)) for k in range(len(ids))] for q in range(len(ids))])
    assert torch.equal(rule, mask)

    # Stretches cover the row, and what is above each is the path to its first token.
    stretches = row_to_stretches(depths, ends)
    starts = list(itertools.accumulate([stretch.length for stretch in stretches], initial=0))
    assert starts[-1] == len(ids)
    for start, stretch in zip(starts, stretches, strict=False):
        above = [
            at for number in stretch.above for at in range(starts[number], starts[number] + stretches[number].length)
        ]
        assert [*above, start] == path(start)
        for at in range(start + 1, start + stretch.length):
            assert parents[at] == at - 1

    # Each side's scored tokens can be read back, with their contexts.
    at = 0
    for sequence, size in zip(token_lists, unit["sides"], strict=True):
        entries = unit["scored"][at : at + size]
        assert [unit["labels"][entry] for entry in entries] == sequence[1:]
        assert [ids[node] for node in path(unit["parents"][entries[-1]])] == sequence[:-1]
        at += size


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(sequences, min_size=1, max_size=4),
    st.sampled_from([("one", False), ("bins", False), ("paths", False), ("one", True)]),
    st.sampled_from([1, 8]),
)
@example([[[1, 2, 3]], [[1, 3]], [[1, 2, 1, 3]]], ("one", True), 1)  # the third goes back below what the first began
def test_packing_loses_and_changes_no_tree(token_lists: list[Any], packing: Any, multiple_of: int) -> None:
    layout, share = packing
    token_lists = [lists[0] for lists in token_lists]
    units = []
    for number, ids in enumerate(token_lists):
        row = Rendered(str(number), str(number), (((ids, [0.0] + [0.5] * (len(ids) - 1)),),))
        units.append(rendered_to_unit([row], share=True))
    batch = UnitCollator(99, layout, multiple_of, share)(units)
    length = batch["tree_ids"].shape[1]
    assert length % multiple_of == 0
    prefixes = {tuple(ids[: at + 1]) for ids in token_lists for at in range(len(ids))}
    wanted_tokens = len(prefixes) if share else sum(len(unit["ids"]) for unit in units)
    assert int(batch["attention_mask"].sum()) == wanted_tokens
    mask = dense_mask(batch["tree_depths"], batch["tree_ends"], None)[:, 0]
    flat = batch["tree_ids"].flatten().tolist()
    for side, wanted in enumerate(token_lists):
        entries = [int(entry) for entry in batch["tree_scored"][side] if entry >= 0]
        assert batch["labels"][side, 1 : 1 + len(entries)].tolist() == wanted[1:]
        assert batch["tree_weights"][side, : len(entries)].tolist() == [0.5] * len(entries)
        last = int(batch["tree_parents"][entries[-1]])
        row, place = divmod(last, length)
        seen = mask[row, place].nonzero().flatten().tolist()
        assert [flat[row * length + at] for at in seen] == wanted[:-1]
        assert batch["tree_depths"][row, seen].tolist() == list(range(len(wanted) - 1))


def test_what_batches_share_is_estimated_from_their_units() -> None:
    """Four chats with the same 90 tokens before 10 of their own: 400 tokens a batch of four, 130 of them unique."""
    tools = list(range(1, 91))
    rows = [
        Rendered(str(at), str(at), (((tools + [100 + 10 * at + n for n in range(10)], [0.0] * 99 + [1.0]),),))
        for at in range(4)
    ]
    units = [rendered_to_unit([row], share=True) for row in rows]
    assert sharing_of_batches(units, 4) == pytest.approx(400 / 130)
    assert sharing_of_batches(units, 2) == pytest.approx(400 / 220)
    assert sharing_of_batches(units, 1) == 1.0 and sharing_of_batches([], 4) == 1.0
    joined, apart = (UnitCollator(0, "one", share=share)(units)["tree_ids"].numel() for share in (True, False))
    assert (joined, apart) == (130, 400)


def test_a_sequence_that_is_scored_from_its_first_token_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing comes before it"):
        rendered_to_unit([Rendered("x", "x", ((([1, 2], [1.0, 1.0]),),))], share=True)


def test_fillers_count_for_nothing() -> None:
    units = [rendered_to_unit([row], share=True) for row in made_pairs(1)]
    alone, filled = UnitCollator(0, "one")(units[:1]), UnitCollator(0, "one")([units[0], filler_of(units[1])])
    assert filled.pop("count").tolist() == [1, 0] and alone.pop("count").tolist() == [1]
    assert all(torch.equal(alone[name], filled[name]) for name in alone)
    empty = UnitCollator(0, "one")([filler_of(units[0])])
    assert empty["count"].tolist() == [0] and empty["tree_ids"].numel() == len(units[0]["ids"])


# --- which attention, and the check before the first step ---------------------------------------------------------------


def test_the_backend_follows_the_model_and_says_why_not() -> None:
    llama, config = MODELS["llama"]
    assert choose_backend(llama._from_config(config, attn_implementation="sdpa"), forks=True) == "segments"
    assert choose_backend(llama._from_config(config, attn_implementation="eager"), forks=True) == "dense"
    assert choose_backend(llama._from_config(config, attn_implementation="eager"), forks=False) == "causal"
    flash = llama._from_config(config)
    flash.config._attn_implementation_internal = "flash_attention_2"
    assert choose_backend(flash, forks=False) == "varlen"
    with pytest.raises(UserError, match="flash_attention_2 takes no mask"):
        choose_backend(flash, forks=True)
    experts = Qwen3MoeForCausalLM._from_config(Qwen3MoeConfig(**SIZES, num_experts=2, num_experts_per_tok=1))
    with pytest.raises(UserError, match="balancing loss needs plain rows"):
        choose_backend(experts, forks=True, mixture_loss=True)
    assert choose_backend(experts, forks=False, mixture_loss=True) == "causal"
    with pytest.raises(UserError, match="qwen3_next: layers of the kind linear_attention take no mask"):
        layer_windows(Qwen3NextConfig(num_hidden_layers=4))


def test_a_model_that_attends_in_another_way_is_refused_before_the_first_step() -> None:
    """Gemma 2 caps its scores, which eager attention does and the plain softmax over stretches does not."""
    rows = made_pairs(3)
    config = Gemma2Config(**SIZES, sliding_window=WINDOW, attn_logit_softcapping=0.5)
    torch.manual_seed(0)
    for backend, fails in (("dense", False), ("segments", True)):
        model = Gemma2ForCausalLM._from_config(config, attn_implementation="eager")
        add_fused_lm_head(model)
        batch = UnitCollator(0, "one")([rendered_to_unit([row], share=True) for row in rows])
        compute_on_trees(model, backend)  # type: ignore[arg-type] # one of the backends
        if fails:
            with pytest.raises(UserError, match="--tree false"):
                check_trees(model, batch, backend)  # type: ignore[arg-type] # as above
        else:
            check_trees(model, batch, backend)  # type: ignore[arg-type] # as above


@pytest.mark.parametrize("kind", MODELS)
def test_the_check_passes_on_trees_and_fails_on_a_wrong_mask(kind: str) -> None:
    rows = made_pairs(5)
    batch = UnitCollator(0, "one")([rendered_to_unit(rows[:3], share=True), rendered_to_unit(rows[3:], share=True)])
    right, wrong = with_adapter(kind), with_adapter(kind)
    compute_on_trees(right, "segments")
    right.train()
    check_trees(right, batch, "segments")
    assert right.training
    compute_on_trees(wrong, "causal")
    with pytest.raises(UserError, match="differ from the plain pass by"):
        check_trees(wrong, batch, "causal")


def test_tensors_of_different_lengths_are_gathered_whole() -> None:
    """Three processes, played one after the other: each sees what accelerate's gather would hand it."""
    parts = [torch.tensor([1.0, 2.0]), torch.tensor([3.0]), torch.tensor([4.0, 5.0, 6.0])]
    whole: list[torch.Tensor] = []
    counted: list[bool] = []

    def gather(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dtype == torch.int64:
            return torch.tensor([[len(part), len(part) * c] for part, c in zip(whole, counted, strict=True)])
        return torch.cat([torch.cat([part, torch.zeros(len(tensor) - len(part))]) for part in whole])

    def gathered(values: list[torch.Tensor], *counts: bool) -> list[list[float]]:
        whole[:], counted[:] = [value.reshape(-1) for value in values], counts
        return [gather_uneven(gather, lambda c=c: c)(value).tolist() for value, c in zip(values, counts, strict=True)]  # type: ignore[misc]

    assert gathered(parts, True, True, True) == [[1, 2, 3, 4, 5, 6]] * 3
    assert gathered(parts, False, True, True) == [[3, 4, 5, 6]] * 3  # the first one has fillers only
    assert gathered(parts, False, False, True) == [[4, 5, 6]] * 3
    scalars = [torch.tensor(7.0), torch.tensor(8.0), torch.tensor(9.0)]
    assert gathered(scalars, True, True, True) == [[7, 8, 9]] * 3
    assert gathered(scalars, True, False, True) == [[7, 9]] * 3
    assert gathered(scalars, False, False, False) == [[7, 8, 9]] * 3


@pytest.mark.parametrize("kind", MODELS)
def test_flex_attention_gives_the_same_log_probs(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward only and not compiled: FlexAttention has no backward on a CPU. docs/gpu.md has the command for a GPU."""
    monkeypatch.setattr(flex_attention, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    rows = made_pairs(3)
    truth, _ = brute_force(with_adapter(kind), rows)
    model = with_adapter(kind, implementation="flex_attention").requires_grad_(False)
    groups = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row.group)]
    for layout, multiple_of in (("one", 128), ("bins", 1)):
        batch = UnitCollator(0, layout, multiple_of)([rendered_to_unit(group, share=True) for group in groups])  # type: ignore[arg-type] # one of the layouts
        compute_on_trees(model, "flex")
        with torch.compiler.set_stance("force_eager"):
            outputs = model(**batch_to_arguments(batch), use_cache=False, fused_lm_head=True)
        for side, values in zip(truth, outputs.log_probs, strict=True):
            assert values[: len(side)].tolist() == pytest.approx(side, abs=2e-5)


def _sharded_process(rank: int, port: int, folder: str) -> None:
    """One of two gloo processes that share the model's weights by FSDP2; writes log-probs and whole gradients."""
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    model = with_adapter("gemma3, two kinds of layers")
    compute_on_trees(model, "segments")
    mesh = init_device_mesh("cpu", (2,))
    for layer in model.get_base_model().model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    sides, gradients, _ = on_trees(model, made_pairs(3), "segments")
    whole = {name: gradient.full_tensor() for name, gradient in gradients.items()}
    if rank == 0:
        torch.save({"sides": sides, "gradients": whole}, Path(folder) / "sharded.pt")
    torch.distributed.destroy_process_group()


def test_trees_hold_when_fsdp2_shards_the_model(tmp_path: Path) -> None:
    truth = brute_force(with_adapter("gemma3, two kinds of layers"), made_pairs(3))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_sharded_process, (port, str(tmp_path)), nprocs=2)
    sharded = torch.load(tmp_path / "sharded.pt", weights_only=True)
    assert largest_difference((sharded["sides"], sharded["gradients"]), truth) < 2e-5
