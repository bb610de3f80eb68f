"""TokenTree -> units -> packed batches: what a trainer computes on.

A *unit* is what a batch is counted in, whatever it is computed as: one chat, one pair, all step pairs of one trajectory, or
some labelled chats of one task. It is a forest, flat and in preorder (see train/attention.py), with the scored tokens of its
*sides*: a chat has one side, each pair has two. With sharing, every token that sequences have in common stands in it once;
without, each sequence is a tree of its own. The units of a batch that begin alike, as all records of one set of tools do,
share that beginning, too. Both ways give the same loss: sharing saves work and nothing else.

    unit["ids"], ["depths"], ["ends"]     a token each: its id, its position, where its subtree ends
    unit["parents"], ["labels"]           a scored token each: the token before it in the forest, and its id
    unit["scored"], ["weights"]           the sides one after the other: indices into `labels`, and loss weights
    unit["sides"]                         how many of those each side has; of pairs chosen, rejected, chosen, ...
    unit["count"]                         examples in it: 1 for a chat, else its pairs; 0 for a filler
    unit["example_weights"], ["good"]     an example each: its weight; and of labelled chats 1 for good, 0 for bad

The logit that scores a token stands at its parent. So a fork needs no copies: the head runs once on the parent of each
scored token, and a token that two sides share is scored once and counted in both.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from multiprocessing import get_context
from typing import Any, Literal

import torch

from core.screen import with_progress
from data.chats import Chat, Label, PreferencePair, Skip
from data.rendering.renderer import Renderer
from data.rendering.token_tree import TokenTree

Scored = tuple[list[int], list[float]]
"""Token ids and loss weights of one sequence, of one length."""
Unit = dict[str, Any]
REFERENCE_COLUMNS = ("ref_first_logps", "ref_second_logps")
"""Of a unit: the reference's log-probs of each example's first and second side, where they are known before a run."""


@dataclass
class RenderReport:
    """What became of the rows of one split: read = kept + dropped by reason, and the tokens in what was kept."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    units: int = 0
    """What batches are counted in; fewer than `kept` where one trajectory gave several pairs."""
    tokens: int = 0
    """Tokens of all sequences."""
    unique_tokens: int = 0
    """Tokens that are left when those that sequences of one batch share are counted once."""
    scored_tokens: int = 0
    longest: int = 0
    cut_tokens: int = 0
    cut_rows: int = 0
    dropped_targets: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    """Rows by what of their context the template does not show."""
    lost_rows: int = 0

    @property
    def sharing(self) -> float:
        """Tokens of all sequences / unique tokens: what trees can save."""
        return self.tokens / max(self.unique_tokens, 1)

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "dropped": dict(self.dropped), "lost": dict(self.lost)}


@dataclass(frozen=True)
class Rendered:
    """A row as sequences: its sides, each a list of sequences in which every scored token of the side is scored once.

    A side is one sequence unless the template rewrites history inside it. `group` names the trajectory of a step pair, or the
    task of a labelled chat: neighbours of one group are one unit. `weight` is that of a pair.
    """

    id: str
    group: str
    sides: tuple[tuple[Scored, ...], ...]
    weight: float = 1.0
    label: Label | None = None


def tree_to_rendered(tree: TokenTree, group: str = "", weight: float = 1.0, label: Label | None = None) -> Rendered:
    """The sequences of a chat's tree (one side) or a pair's (chosen, rejected)."""
    labels = ("chat",) if any(target.label == "chat" for target in tree.targets) else ("chosen", "rejected")
    return Rendered(tree.id, group or tree.id, tuple(tuple(tree.rows(name)) for name in labels), weight, label)


def rendered_to_unit(rows: Sequence[Rendered], *, share: bool) -> Unit:
    """The unit of a chat, a pair, the step pairs of one trajectory, or labelled chats of one task.

    Raises:
        ValueError: if a sequence is scored from its very first token, which nothing predicts.
    """
    sides = [side for row in rows for side in row.sides]
    forest = _Forest(share)
    places: list[list[tuple[int, int, float]]] = []  # a side: (node, its parent, weight)
    for side in sides:
        scored = []
        for ids, weights in side:
            nodes = forest.add(ids)
            for at, weight in enumerate(weights):
                if weight > 0:
                    if at == 0:
                        raise ValueError(f"{rows[0].id}: its first token is scored, but nothing comes before it")
                    scored.append((nodes[at], nodes[at - 1], weight))
        places.append(scored)
    order, depths, ends = forest.preorder()
    rank = {node: at for at, node in enumerate(order)}
    index: dict[int, int] = {}
    parents: list[int] = []
    labels: list[int] = []
    for node, parent, _ in (place for side in places for place in side):
        if node not in index:
            index[node] = len(index)
            parents.append(rank[parent])
            labels.append(forest.ids[node])
    return {
        "id": " ".join(row.id for row in rows),
        "count": len(rows),
        "example_weights": [row.weight for row in rows],
        **({"good": [int(row.label == "good") for row in rows]} if rows[0].label is not None else {}),
        "ids": [forest.ids[node] for node in order],
        "depths": depths,
        "ends": ends,
        "parents": parents,
        "labels": labels,
        "scored": [index[node] for side in places for node, _, _ in side],
        "weights": [float(weight) for side in places for _, _, weight in side],
        "sides": [len(side) for side in places],
    }


class _Forest:
    """Sequences as a trie, or side by side where nothing is shared."""

    def __init__(self, share: bool) -> None:
        self.share = share
        self.ids: list[int] = []
        self._children: list[dict[int, int]] = []
        self._roots: dict[int, int] = {}

    def add(self, ids: Sequence[int]) -> list[int]:
        """The nodes of a sequence, made where they are not there yet."""
        nodes: list[int] = []
        at = -1
        for token in ids:
            at = self.child(at, token)
            nodes.append(at)
        return nodes

    def child(self, parent: int, token: int) -> int:
        """The node of a token behind its parent (-1 for none), made where it is not there yet."""
        siblings = self._children[parent] if parent >= 0 else self._roots
        child = siblings.get(token) if self.share else None
        if child is None:
            child = len(self.ids)
            self.ids.append(token)
            self._children.append({})
            # Without sharing each root is one of its own, whatever its token.
            siblings[token if self.share or parent >= 0 else -1 - child] = child
        return child

    def preorder(self) -> tuple[list[int], list[int], list[int]]:
        """Nodes in preorder, and for each place in that order its depth and the end of its subtree."""
        order: list[int] = []
        depths: list[int] = []
        ends: list[int] = []
        stack = [(root, 0) for root in reversed(self._roots.values())]
        while stack:
            node, depth = stack.pop()
            if node < 0:  # all below the node at place `depth` has been seen
                ends[depth] = len(order)
                continue
            stack.append((-1, len(order)))
            order.append(node)
            depths.append(depth)
            ends.append(0)
            stack += [(child, depth + 1) for child in reversed(self._children[node].values())]
        return order, depths, ends


def chats_to_rendered(
    chats: Sequence[Chat], renderer: Renderer, *, max_tokens: int | None
) -> tuple[list[Rendered], RenderReport]:
    """All chats as sequences, and the report of what was kept, cut and dropped."""
    return _render(chats, renderer.chat_to_tree, "rendering chats", max_tokens)


def pairs_to_rendered(
    pairs: Sequence[PreferencePair], renderer: Renderer, *, max_tokens: int | None
) -> tuple[list[Rendered], RenderReport]:
    """All pairs as sequences, and the report. Step pairs of one trajectory are of one group (`PreferencePair.trunk`)."""
    return _render(pairs, renderer.pair_to_tree, "rendering pairs", max_tokens)


def _render(
    rows: Sequence[Any], row_to_tree: Any, what: str, max_tokens: int | None
) -> tuple[list[Rendered], RenderReport]:
    report = RenderReport(read=len(rows))
    kept: list[Rendered] = []
    for done in with_progress(_in_processes(_Job(rows, row_to_tree, max_tokens)), what, total=len(rows)):
        if isinstance(done, str):
            report.dropped[done] += 1
            continue
        rendered, scored_tokens, cut_tokens, dropped_targets, lost = done
        kept.append(rendered)
        lengths = [len(ids) for side in rendered.sides for ids, _ in side]
        report.kept += 1
        report.tokens += sum(lengths)
        report.scored_tokens += scored_tokens
        report.longest = max(report.longest, *lengths)
        report.cut_tokens += cut_tokens
        report.cut_rows += bool(cut_tokens)
        report.dropped_targets += dropped_targets
        report.lost.update(lost)
        report.lost_rows += bool(lost)
    return kept, report


ROWS_WORTH_A_PROCESS = 256
_Done = str | tuple[Rendered, int, int, int, tuple[str, ...]]
"""The reason of a drop; or the sequences, scored tokens, cut tokens, dropped targets and lost parts of a row."""


@dataclass
class _Job:
    """Rows to render, for processes that are forked from this one: they find it in `_job`, so nothing is sent to them."""

    rows: Sequence[Any]
    row_to_tree: Any
    max_tokens: int | None

    def chunk(self, start: int) -> list[_Done]:
        done: list[_Done] = []
        for row in self.rows[start : start + ROWS_WORTH_A_PROCESS]:
            tree = self.row_to_tree(row, max_tokens=self.max_tokens)
            if isinstance(tree, Skip):
                done.append(tree.reason)
                continue
            scored = sum(len(target.nodes) for target in tree.targets)
            rendered = _row_to_rendered(row, tree)
            done.append((rendered, scored, tree.cut_tokens, tree.dropped_targets, tree.lost))
        return done


def _row_to_rendered(row: Chat | PreferencePair, tree: TokenTree) -> Rendered:
    if isinstance(row, PreferencePair):
        return tree_to_rendered(tree, row.trunk or "", row.weight)
    return tree_to_rendered(tree, (row.group or "") if row.label is not None else "", label=row.label)


_job: _Job | None = None


def _chunk(start: int) -> list[_Done]:
    assert _job is not None
    return _job.chunk(start)


def _in_processes(job: _Job) -> Iterator[_Done]:
    """The rows of a job in their order, rendered by as many processes as there are cores for this one."""
    global _job
    starts = range(0, len(job.rows), ROWS_WORTH_A_PROCESS)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1  # no fork where that is missing
    workers = min(cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), len(starts))
    if workers < 2:
        for start in starts:
            yield from job.chunk(start)
        return
    _job = job
    try:
        # Forked, not spawned: workers render text and touch neither threads of torch nor a GPU.
        with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
            for chunk in pool.map(_chunk, starts):
                yield from chunk
    finally:
        _job = None


CHATS_OF_A_UNIT = 8
"""Labelled chats of one task that are one unit at most: a task may have hundreds of tries, and a unit is computed at once."""


def rendered_to_units(rows: Sequence[Rendered], report: RenderReport, *, share: bool) -> list[Unit]:
    """Units in the order of the rows; rows of one group that stand next to each other are one unit."""
    units = []
    for _, neighbours in groupby(rows, key=lambda row: (row.group, len(row.sides))):
        group = list(neighbours)
        size = len(group) if group[0].label is None else CHATS_OF_A_UNIT
        units += [rendered_to_unit(group[at : at + size], share=share) for at in range(0, len(group), size)]
    report.units = len(units)
    if share:
        report.unique_tokens = sum(len(unit["ids"]) for unit in units)
    return units


@dataclass(frozen=True)
class _Flat:
    """The trees of several units side by side, in preorder; and the place of the token before each scored one."""

    ids: list[int]
    depths: list[int]
    ends: list[int]
    parents: list[int]


def _side_by_side(units: Sequence[Unit]) -> _Flat:
    flat = _Flat([], [], [], [])
    for unit in units:
        before = len(flat.ids)
        flat.ids.extend(unit["ids"])
        flat.depths.extend(unit["depths"])
        flat.ends.extend(end + before for end in unit["ends"])
        flat.parents.extend(parent + before for parent in unit["parents"])
    return flat


def _joined(units: Sequence[Unit]) -> _Flat:
    """The same with what units begin with alike in it once."""
    forest = _Forest(share=True)
    parents: list[int] = []
    for unit in units:
        nodes: list[int] = []
        path: list[int] = []
        for token, depth in zip(unit["ids"], unit["depths"], strict=True):
            del path[depth:]
            path.append(forest.child(path[-1] if path else -1, token))
            nodes.append(path[-1])
        parents += [nodes[parent] for parent in unit["parents"]]
    order, depths, ends = forest.preorder()
    rank = {node: at for at, node in enumerate(order)}
    return _Flat([forest.ids[node] for node in order], depths, ends, [rank[parent] for parent in parents])


JOINED_BATCHES = 16
"""From so many batches is estimated what units share."""


def sharing_of_batches(units: Sequence[Unit], batch_units: int) -> float:
    """Tokens of units / tokens that are left when units of one batch share what they begin with; 1 where they share nothing.

    From `JOINED_BATCHES` batches of `batch_units` units in an order of its own.
    """
    order = torch.randperm(len(units), generator=torch.Generator().manual_seed(0)).tolist()
    starts = range(0, len(order), batch_units)[:JOINED_BATCHES]
    batches = [[units[at] for at in order[start : start + batch_units]] for start in starts]
    alone = sum(len(unit["ids"]) for batch in batches for unit in batch)
    return alone / max(sum(len(_joined(batch).ids) for batch in batches), 1) if alone else 1.0


def filler_of(unit: Unit) -> Unit:
    """A unit that fills up an epoch to whole global batches: computed where nothing else is there, counted nowhere."""
    return {**unit, "id": "", "count": 0}


Rows = Literal["one", "bins", "paths"]


@dataclass
class UnitCollator:
    """Units -> one batch of tensors.

    `rows` says how trees are packed: all in `one` row; best fit decreasing into `bins` as long as the longest tree; or each
    tree in a row of its own (`paths`). `multiple_of` rounds the length of the rows up. With `share`, units that begin alike are
    one tree; that is for `one` row, because joined trees are longer than any unit.

    The model reads, in int64: tree_ids, tree_depths, tree_ends and attention_mask (1 at real tokens), all (rows, length);
    tree_parents (scored,), flat places in those rows; tree_labels (scored,).

    TRL reads a compact batch: each side is a row that holds just its scored tokens, after one column that stands for all its
    context. input_ids and labels are (sides, 1 + longest side) int64, completion_mask likewise float32, the loss weights.
    tree_scored (sides, longest side) says which scored token stands at a place of the compact batch, -1 for padding;
    tree_weights (sides, longest side) float32 are their weights. The first sides of all examples come first.

    `count` (units,) has the examples of each unit, `example_weights` (examples,) their weights, `good` (examples,) the labels
    of labelled chats. Fillers are left out unless there is nothing else.
    """

    pad_token_id: int
    rows: Rows
    multiple_of: int = 1
    share: bool = False

    def __call__(self, units: Sequence[Unit]) -> dict[str, torch.Tensor]:
        count = torch.tensor([unit["count"] for unit in units])
        real = [unit for unit in units if unit["count"]] or list(units[:1])
        tokens = torch.tensor([sum(len(unit["ids"]) for unit in real)])
        batch = {"count": count, "unit_tokens": tokens, **self._compact(real), **self._packed(real)}
        for name in ("example_weights", "good", *REFERENCE_COLUMNS):
            if name in real[0]:
                batch[name] = torch.tensor([value for unit in real for value in unit[name]])
        return batch

    def _packed(self, units: Sequence[Unit]) -> dict[str, torch.Tensor]:
        flat = _joined(units) if self.share else _side_by_side(units)
        trees = list(_trees(flat.ends))
        lengths = [stop - start for start, stop in trees]
        rows = _pack(lengths, self.rows)
        length = max(sum(lengths[tree] for tree in row) for row in rows)
        length = -(-length // self.multiple_of) * self.multiple_of
        shifts = [0] * len(trees)
        """From a place in `flat` to one in the rows, for each tree."""
        columns: dict[str, list[list[int]]] = {"tree_ids": [], "tree_depths": [], "tree_ends": [], "attention_mask": []}
        for number, row in enumerate(rows):
            ids: list[int] = []
            depths: list[int] = []
            ends: list[int] = []
            for tree in row:
                start, stop = trees[tree]
                shift = len(ids) - start
                shifts[tree] = number * length + shift
                ids += flat.ids[start:stop]
                depths += flat.depths[start:stop]
                ends += [end + shift for end in flat.ends[start:stop]]
            padding = range(len(ids), length)
            columns["attention_mask"].append([1] * len(ids) + [0] * len(padding))
            columns["tree_ids"].append(ids + [self.pad_token_id] * len(padding))
            columns["tree_depths"].append(depths + [0] * len(padding))
            columns["tree_ends"].append(ends + [at + 1 for at in padding])  # padding sees itself, nothing sees it
        starts = [start for start, _ in trees]
        labels = [label for unit in units for label in unit["labels"]]
        return {
            **{name: torch.tensor(values) for name, values in columns.items()},
            "tree_parents": torch.tensor([shifts[bisect_right(starts, at) - 1] + at for at in flat.parents]),
            "tree_labels": torch.tensor(labels),
        }

    def _compact(self, units: Sequence[Unit]) -> dict[str, torch.Tensor]:
        sides: list[tuple[list[int], list[int], list[float]]] = []
        before = 0
        for unit in units:
            start = 0
            for size in unit["sides"]:
                scored = unit["scored"][start : start + size]
                weights = unit["weights"][start : start + size]
                sides.append(([unit["labels"][at] for at in scored], [before + at for at in scored], weights))
                start += size
            before += len(unit["labels"])
        of_each = len(units[0]["sides"]) // len(units[0]["example_weights"])
        sides = [side for first in range(of_each) for side in sides[first::of_each]]
        width = max(len(ids) for ids, _, _ in sides)
        pad = [width - len(ids) for ids, _, _ in sides]
        return {
            "input_ids": torch.tensor([[0, *ids, *[0] * n] for (ids, _, _), n in zip(sides, pad, strict=True)]),
            "labels": torch.tensor([[-100, *ids, *[-100] * n] for (ids, _, _), n in zip(sides, pad, strict=True)]),
            "completion_mask": torch.tensor(
                [[0.0, *weights, *[0.0] * n] for (_, _, weights), n in zip(sides, pad, strict=True)]
            ),
            "tree_weights": torch.tensor(
                [[*weights, *[0.0] * n] for (_, _, weights), n in zip(sides, pad, strict=True)]
            ),
            "tree_scored": torch.tensor([[*at, *[-1] * n] for (_, at, _), n in zip(sides, pad, strict=True)]),
        }


def _trees(ends: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(start, stop) of each tree of a forest."""
    start = 0
    while start < len(ends):
        yield start, ends[start]
        start = ends[start]


def _pack(lengths: Sequence[int], rows: Rows) -> list[list[int]]:
    """Indices of trees by row. Bins: best fit decreasing with the longest tree as capacity."""
    if rows == "one":
        return [list(range(len(lengths)))]
    if rows == "paths":
        return [[at] for at in range(len(lengths))]
    capacity = max(lengths)
    bins: list[list[int]] = []
    free: list[int] = []
    for at in sorted(range(len(lengths)), key=lambda at: -lengths[at]):
        fitting = [row for row, space in enumerate(free) if space >= lengths[at]]
        if fitting:
            row = min(fitting, key=lambda row: free[row])
            bins[row].append(at)
            free[row] -= lengths[at]
        else:
            bins.append([at])
            free.append(capacity - lengths[at])
    return bins
