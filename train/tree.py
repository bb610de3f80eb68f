"""TokenTree -> what a trainer computes on: rows of ids and loss weights, then padded batches.

Every scored token of a tree is scored in exactly one row. A chat whose template only appends is one row with all its
turns; a template that rewrites history gives one row more for each rewriting. A pair is one row with two sides that share
their prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from data.chats import Chat, PreferencePair, Skip
from data.progress import with_progress
from data.render import Renderer, TokenTree


@dataclass
class RenderReport:
    """What became of the rows of one split: read = kept + dropped by reason, and the tokens in what was kept."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    unique_tokens: int = 0
    """Tokens of the trees: what is left when shared histories are counted once."""
    scored_tokens: int = 0
    longest: int = 0
    cut_tokens: int = 0
    cut_rows: int = 0
    dropped_targets: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "dropped": dict(self.dropped)}


def chat_to_rows(tree: TokenTree) -> list[dict[str, Any]]:
    """Rows of a chat's tree: `input_ids`, `labels` (-100: not scored), `loss_weights`, of one length."""
    rows = []
    for ids, weights in tree.rows("chat"):
        labels = [token if weight > 0 else -100 for token, weight in zip(ids, weights, strict=True)]
        rows.append({"id": tree.id, "input_ids": ids, "labels": labels, "loss_weights": weights})
    return rows


def pair_to_row(tree: TokenTree) -> dict[str, Any] | Skip:
    """The row of a pair's tree: `prompt_ids`, then per side its ids after the prompt and which of them are scored."""
    sides = {}
    for label in ("chosen", "rejected"):
        rows = tree.rows(label)
        if len(rows) != 1:
            return Skip(f"the template rewrites history inside {label}")
        sides[label] = rows[0]
    start = min(next(at for at, weight in enumerate(weights) if weight > 0) for _, weights in sides.values())
    if sides["chosen"][0][:start] != sides["rejected"][0][:start]:
        return Skip("the template shows the sides different histories")
    row: dict[str, Any] = {"id": tree.id, "prompt_ids": sides["chosen"][0][:start]}
    for label, (ids, weights) in sides.items():
        row[f"{label}_ids"] = ids[start:]
        row[f"{label}_mask"] = [int(weight > 0) for weight in weights[start:]]
    return row


def chats_to_rows(
    chats: Sequence[Chat],
    renderer: Renderer,
    *,
    max_tokens: int | None,
) -> tuple[list[dict[str, Any]], RenderReport]:
    """Rows of all chats, and the report of what was kept, cut and dropped."""
    report = RenderReport(read=len(chats))
    kept: list[dict[str, Any]] = []
    for chat in with_progress(chats, "rendering chats"):
        tree = renderer.chat_to_tree(chat, max_tokens=max_tokens)
        if isinstance(tree, Skip):
            report.dropped[tree.reason] += 1
            continue
        rows = chat_to_rows(tree)
        kept.extend(rows)
        _count(report, tree, sum(len(row["input_ids"]) for row in rows), max(len(row["input_ids"]) for row in rows))
    return kept, report


def pairs_to_rows(
    pairs: Sequence[PreferencePair],
    renderer: Renderer,
    *,
    max_tokens: int | None,
) -> tuple[list[dict[str, Any]], RenderReport]:
    """Rows of all pairs, and the report of what was kept, cut and dropped."""
    report = RenderReport(read=len(pairs))
    kept: list[dict[str, Any]] = []
    for pair in with_progress(pairs, "rendering pairs"):
        tree = renderer.pair_to_tree(pair, max_tokens=max_tokens)
        row = tree if isinstance(tree, Skip) else pair_to_row(tree)
        if isinstance(row, Skip) or isinstance(tree, Skip):
            report.dropped[row.reason if isinstance(row, Skip) else ""] += 1
            continue
        kept.append(row)
        prompt, chosen, rejected = (len(row[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
        _count(report, tree, 2 * prompt + chosen + rejected, prompt + max(chosen, rejected))
    return kept, report


def _count(report: RenderReport, tree: TokenTree, tokens: int, longest: int) -> None:
    report.kept += 1
    report.tokens += tokens
    report.unique_tokens += len(tree.ids)
    report.scored_tokens += sum(len(target.nodes) for target in tree.targets)
    report.longest = max(report.longest, longest)
    report.cut_tokens += tree.cut_tokens
    report.cut_rows += bool(tree.cut_tokens)
    report.dropped_targets += tree.dropped_targets


@dataclass
class ChatCollator:
    """Rows -> right-padded tensors (batch, length): input_ids, attention_mask, labels (int64), loss_weights (float32)."""

    pad_token_id: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        length = max(len(row["input_ids"]) for row in rows)
        return {
            "input_ids": _pad([row["input_ids"] for row in rows], length, self.pad_token_id),
            "attention_mask": _pad([[1] * len(row["input_ids"]) for row in rows], length, 0),
            "labels": _pad([row["labels"] for row in rows], length, -100),
            "loss_weights": _pad([row["loss_weights"] for row in rows], length, 0.0).float(),
        }


@dataclass
class PairCollator:
    """Rows -> TRL's preference layout: chosen sides in the first half of the batch, rejected in the second, right-padded.

    input_ids, attention_mask and completion_mask are (2 * batch, length) int64; completion_mask is 1 exactly on the
    tokens that the model itself must emit, so a tool's result inside a side is never scored.
    """

    pad_token_id: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids, masks = [], []
        for side in ("chosen", "rejected"):
            for row in rows:
                ids.append([*row["prompt_ids"], *row[f"{side}_ids"]])
                masks.append([0] * len(row["prompt_ids"]) + list(row[f"{side}_mask"]))
        length = max(map(len, ids))
        return {
            "input_ids": _pad(ids, length, self.pad_token_id),
            "attention_mask": _pad([[1] * len(row) for row in ids], length, 0),
            "completion_mask": _pad(masks, length, 0),
        }


def _pad(rows: Sequence[Sequence[Any]], length: int, value: Any) -> torch.Tensor:
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows])
