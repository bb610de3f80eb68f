"""Completions behind prompts that they do not answer: what the loss `kto` estimates its KL term from (arXiv 2402.01306).

TRL puts behind each prompt the completion of the row before, in turn within a batch of the data set's order. Here a batch is
drawn anew each epoch, so the partner is found once, in the same blocks. A row of the same prompt would be no mismatch (the two
sides of a pair, the tries of one task), so the nearest one before it with another prompt is taken, of the whole set where the
block has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from train.tree import Rendered, Scored


def with_mismatched(rows: Sequence[Rendered], *, block: int, max_tokens: int | None) -> list[Rendered]:
    """Each row with a second side: its prompt, and behind it what another row of its block says.

    `block` is the size of a batch. Mismatched sequences longer than `max_tokens` are cut at their end, as TRL does.
    """
    prompts = [prompt_of(row.sides[0]) for row in rows]
    partners = [_partner(prompts, at, block) for at in range(len(rows))]
    return [
        replace(row, sides=(row.sides[0], _mismatched(prompt, rows[partner].sides[0], prompts[partner], max_tokens)))
        for row, prompt, partner in zip(rows, prompts, partners, strict=True)
    ]


def prompt_of(side: Sequence[Scored]) -> list[int]:
    """The ids before the first token that is scored."""
    ids, weights = side[0]
    return ids[: _first_scored(weights)]


def _first_scored(weights: Sequence[float]) -> int:
    return next((at for at, weight in enumerate(weights) if weight > 0), len(weights))


def _partner(prompts: Sequence[list[int]], at: int, block: int) -> int:
    """The row whose completion is mismatched with the prompt of row `at`; itself where all have this prompt."""
    begin = at - at % block
    size = min(block, len(prompts) - begin)
    in_block = (begin + (at - begin - back) % size for back in range(1, size))
    in_set = ((at - back) % len(prompts) for back in range(1, len(prompts)))
    for places in (in_block, in_set):
        found = next((place for place in places if prompts[place] != prompts[at]), None)
        if found is not None:
            return found
    return at


def _mismatched(
    prompt: list[int], side: Sequence[Scored], own_prompt: list[int], max_tokens: int | None
) -> tuple[Scored, ...]:
    sequences = []
    for ids, weights in side:
        # A template that rewrites history gives a side several sequences, of which some may begin in another way.
        start = len(own_prompt) if ids[: len(own_prompt)] == own_prompt else _first_scored(weights)
        mixed = prompt + ids[start:], [0.0] * len(prompt) + weights[start:]
        sequences.append((mixed[0][:max_tokens], mixed[1][:max_tokens]))
    return tuple(sequences)
