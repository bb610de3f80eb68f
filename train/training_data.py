"""A prepared set as a run trains on it: rendered for its model, packed, and with the attention that computes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from core.errors import UserError
from data.curation.contamination import Reference
from data.sets.labelled import BAD_IS_NOT_IMITATED, NO_LABEL
from data.sets.prepared import Prepared, read_prepared
from train.attention import FLEX_BLOCK_TOKENS, Backend, choose_backend, flex_fault_of
from train.audit.audit import check_allowed
from train.audit.rows import read_test_tasks
from train.mismatched import with_mismatched
from train.model import LoadedModel
from train.options import DataOptions
from train.tree import (
    Rendered,
    RenderReport,
    Rows,
    Unit,
    UnitCollator,
    chats_to_rendered,
    pairs_to_rendered,
    rendered_to_units,
    sharing_of_batches,
)

SHARING_WORTH_A_TREE = 1.1
"""Tokens of all sequences / unique tokens, below which plain rows are taken."""


class TrainingData(NamedTuple):
    """The prepared set for this model: units and report per split ("train", "validation"), and how they are computed."""

    prepared: Prepared
    rendered: dict[str, list[Rendered]]
    units: dict[str, list[Unit]]
    reports: dict[str, RenderReport]
    backend: Backend
    share: bool
    """Whether sequences share their tokens."""
    trees: str
    """One line for the log: whether trees are on, with which attention, and why."""
    tasks: Reference | None
    """Tasks of the benchmark that the audit looks for."""

    def collator(self, pad_token_id: int) -> UnitCollator:
        """The collator that packs as the backend needs it."""
        rows: Rows = {"dense": "bins", "causal": "paths"}.get(self.backend, "one")  # type: ignore[assignment] # a str
        multiple_of = FLEX_BLOCK_TOKENS if self.backend == "flex" else 1
        return UnitCollator(pad_token_id, rows, multiple_of, share=self.share and rows == "one")


def load_data(options: DataOptions, loaded: LoadedModel, training: Any, *, kind: str) -> TrainingData:
    """Read the prepared set, render it, and decide whether it is computed on trees.

    Raises:
        UserError: if the set is missing, of another kind than `kind`, nothing of it can be trained on, or `--tree true`
            asks for what the model's attention cannot do.
    """
    if not options.data:
        raise UserError("--data is missing: the folder of a prepared set (make one with `python -m data build`)")
    if options.tree not in ("auto", "true", "false"):
        raise UserError(f"--tree {options.tree}: expected auto, true or false")
    check_allowed(options.audit_allow)
    tasks = read_test_tasks(options.benchmark_tasks) if options.benchmark_tasks else None
    prepared = read_prepared(options.data)
    if prepared.kind != kind:
        how = "; `labelled: true` in the config of `data build` makes such a set" if kind == "labelled chat" else ""
        raise UserError(f"{options.data}: holds {prepared.kind}s, this method trains on {kind}s{how}")
    convert: Any = pairs_to_rendered if kind == "pair" else chats_to_rendered
    rendered, reports = {}, {}
    for split in ("train", "validation"):
        rows, refused = _of_kind(getattr(prepared, split), kind)
        rendered[split], report = convert(rows, loaded.renderer, max_tokens=training.max_length)
        report.read += refused.total()
        report.dropped += refused
        if kind == "labelled chat" and training.loss_type == "kto":
            rendered[split] = with_mismatched(
                rendered[split], block=training.per_device_train_batch_size, max_tokens=training.max_length
            )
            report.tokens += sum(len(ids) for row in rendered[split] for ids, _ in row.sides[1])
        reports[split] = report
    for split, purpose in (
        ("train", "to train on"),
        ("validation", f"for --eval_strategy {training.eval_strategy.value}"),
    ):
        if rendered[split] or (split == "validation" and training.eval_strategy == "no"):
            continue
        why = ", ".join(f"{reason}: {count}" for reason, count in reports[split].dropped.most_common())
        raise UserError(f"{options.data}: no row is left {purpose} ({why or f'the {split} split is empty'})")
    units = {split: rendered_to_units(rendered[split], reports[split], share=True) for split in rendered}
    report = reports["train"]
    across = sharing_of_batches(units["train"], training.per_device_train_batch_size)
    backend, share, line = _choose_trees(options.tree, loaded.model, report.sharing, across)
    if not share:
        units = {split: rendered_to_units(rendered[split], reports[split], share=False) for split in rendered}
    elif backend != "dense":
        report.unique_tokens = round(report.unique_tokens / across)
    return TrainingData(prepared, rendered, units, reports, backend, share, line, tasks)


def _of_kind(rows: Sequence[Any], kind: str) -> tuple[list[Any], Counter[str]]:
    """The rows that the method may train on, and why others are refused: `data build` keeps these out, other makers may not."""
    if kind == "pair":
        return list(rows), Counter()
    is_wrong = {"chat": lambda row: row.label == "bad", "labelled chat": lambda row: row.label is None}[kind]
    why = {"chat": BAD_IS_NOT_IMITATED, "labelled chat": NO_LABEL}[kind]
    kept = [row for row in rows if not is_wrong(row)]
    return kept, Counter({why.reason: len(rows) - len(kept)} if len(kept) < len(rows) else {})


def _choose_trees(wanted: str, model: Any, within: float, across: float) -> tuple[Backend, bool, str]:
    """(backend, whether sequences share their tokens, the line for the log).

    `within` and `across` are tokens in sequences for each unique one: of each unit, and of the units of a batch.
    """
    config = model.config.get_text_config()
    # As TRL decides it: on wherever the model has experts and the coefficient is not 0.
    balancing = hasattr(config, "output_router_logits") and getattr(config, "router_aux_loss_coef", 0.0) != 0.0
    share, why = wanted != "false", "--tree false"
    if share:
        try:
            backend = choose_backend(model, forks=True, mixture_loss=balancing)
            sharing = within if backend == "dense" else within * across
            share = wanted == "true" or sharing >= SHARING_WORTH_A_TREE
            why = f"{sharing:.2f} tokens in sequences for each unique one"
            if not share:
                why += f", below {SHARING_WORTH_A_TREE}"
        except UserError as error:
            if wanted == "true":
                raise UserError(f"--tree true: {error}") from None
            share, why = False, str(error)
    if not share:
        backend = choose_backend(model, forks=False, mixture_loss=balancing)
    line = f"trees: {'on' if share else 'off'} ({why}), attention: {backend}"
    undetermined = torch.cuda.is_available() and not torch.are_deterministic_algorithms_enabled()
    if backend == "segments" and undetermined and (fault := flex_fault_of(model)):
        line += f", because FlexAttention does not run here: {fault}"
    return backend, share, line
