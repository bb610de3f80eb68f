"""Part h: how often FlexAttention is compiled while batches of ever other lengths come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import torch
import torch._dynamo
from torch._dynamo.utils import counters

from scripts.measure.gpu.report import Finding, Verdict
from scripts.measure.gpu.setting import Setting, branching_chats, rows_to_units
from train.attention import FLEX_COMPILES

BATCHES = 30


def compiles(setting: Setting) -> Iterator[Finding]:
    """Forward and backward passes over ragged batches; torch is told to fail where it would go on uncompiled."""
    random = Random(0)
    batches = []
    for _ in range(BATCHES):
        turns = random.randint(1, 8 if setting.cuda else 2)
        prompt = random.randint(4, 2000 if setting.cuda else 12)
        lengths = replace(setting.lengths, turns=turns, prompt=prompt)
        batches.append(rows_to_units(branching_chats(random.randint(1, 3), lengths), share=True))
    rows = branching_chats(1, setting.lengths)
    counters.clear()
    torch._dynamo.reset()
    seconds: list[float] = []
    graphs: list[int] = []
    with setting.flex(), torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        trainer = setting.new_trainer(
            "sft", rows, shape=setting.short_shape, dtype=setting.half, share=True, backend="flex"
        )
        trainer.current_gradient_accumulation_steps = 1
        for units in batches:
            if graphs and setting.clock.left < 3:
                break
            batch = trainer.data_collator(units)
            items = trainer._get_num_items_in_batch([batch], trainer.args.device)
            seconds.append(
                setting.seconds_of(lambda b=batch, i=items: trainer.training_step(trainer.model, dict(b), i))
            )  # type: ignore[misc]
            graphs.append(int(counters["stats"]["unique_graphs"]))
    late = graphs[-1] - graphs[min(9, len(graphs) - 1)]
    figures = {"seconds": seconds, "graphs_after_each_batch": graphs, "limit": FLEX_COMPILES}
    line = (
        f"{graphs[-1]} graphs over {len(graphs)} ragged batches, {late} of them after the tenth; first batch "
        f"{seconds[0]:.1f} s, the last ones {min(seconds[-5:]) * 1000:.0f} ms; the limit is {FLEX_COMPILES}"
    )
    verdict: Verdict = "right" if graphs[-1] <= FLEX_COMPILES // 2 else "wrong"
    if len(graphs) < BATCHES and verdict == "right":
        verdict, line = "told", f"the clock ran out: {line}"
    yield Finding("h", "FlexAttention is compiled a bounded number of times", verdict, line, figures)
