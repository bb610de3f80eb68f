"""Part d: whole steps beside TRL's own, in turn. Targets are told and decide nothing."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from scripts.measure.gpu.report import Finding
from scripts.measure.gpu.roof import is_installed
from scripts.measure.gpu.setting import Setting, branching_chats, trajectories
from scripts.measure.step_speed import Bench, forms_of, ideal_ratios, pair_rows, sft_rows, trajectory_rows
from train.tree import Rendered

TARGETS = {"trajectory": 6.0, "pair": 1.6, "sft": 1.0}
SHARE_OF_BOUND = 0.9
WARM_STEPS, MOST_REPS, FEWEST_REPS = 3, 10, 3
Step = Callable[[], None]


def against_trl(setting: Setting) -> Iterator[Finding]:
    """The most telling case first."""
    for case in TARGETS:
        about = f"{case}: steps against TRL's"
        if setting.clock.left < (25 if setting.cuda else 0):
            yield Finding("d", about, "not run", "no time was left")
            continue
        yield measured(setting, case, about)
        gc.collect()
        if setting.cuda:
            torch.cuda.empty_cache()


def rows_of(setting: Setting, case: str) -> list[Rendered]:
    """The rows of scripts/measure/step_speed.py, or short ones for a rehearsal."""
    if setting.cuda:
        return {"pair": pair_rows, "trajectory": trajectory_rows, "sft": sft_rows}[case]()
    lengths = replace(setting.lengths, turns=1 if case == "pair" else 3)
    if case != "sft":
        return trajectories(1, lengths)
    chats = branching_chats(4, lengths)
    return [Rendered(chat.id, chat.group, (chat.sides[0][-1:],)) for chat in chats]


def measured(setting: Setting, case: str, about: str) -> Finding:
    """The fastest form of each side, in turn, as often as the clock allows."""
    bench = Bench("random", setting.folder / "trl", config=setting.whole_shape, tokenizer=setting.tokenizer)
    bench.cuda = setting.cuda
    rows = rows_of(setting, case)
    attention: list[str | None] = [
        None,
        *(["flash_attention_2"] if setting.cuda and is_installed("flash_attn") else []),
    ]
    forms = forms_of(bench, case, rows, attention)
    failed: dict[str, str] = {}
    fastest: dict[bool, tuple[float, str, Step]] = {}  # by whether it is ours; only these stay in memory
    with setting.flex():
        for name, make in forms.items():
            ours = name.startswith("ours")
            try:
                step = make()
                for _ in range(WARM_STEPS if setting.cuda else 1):
                    step()
                seconds = setting.seconds_of(step)
            except Exception as error:  # a form of either side that does not run here is told, the others go on
                failed[name] = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
                continue
            if ours not in fastest or seconds < fastest[ours][0]:
                fastest[ours] = (seconds, name, step)
            del step
            gc.collect()
            if fastest.keys() == {True, False} and setting.clock.left < 10 and setting.cuda:
                break
        if fastest.keys() != {True, False}:
            return Finding("d", about, "broken", "; ".join(f"{name}: {why}" for name, why in failed.items()))
        times: dict[bool, list[float]] = {True: [], False: []}
        for rep in range(MOST_REPS if setting.cuda else FEWEST_REPS):
            for ours in (True, False) if rep % 2 else (False, True):
                times[ours].append(setting.seconds_of(fastest[ours][2]))
            if rep + 1 >= FEWEST_REPS and setting.clock.left < 10:
                break
    medians = {ours: statistics.median(values) for ours, values in times.items()}
    ratio = medians[False] / medians[True]
    _, bound = ideal_ratios("chat" if case == "sft" else "pair", rows, setting.whole_shape)
    figures: dict[str, Any] = {
        "ours": fastest[True][1], "trl": fastest[False][1], "ours_seconds": times[True], "trl_seconds": times[False],
        "ratio": ratio, "bound_by_operations": bound, "share_of_bound": ratio / bound, "target": TARGETS[case],
        "failed_forms": failed,
    }  # fmt: skip
    reached = "reached" if ratio >= TARGETS[case] else "missed"
    share = "reached" if ratio / bound >= SHARE_OF_BOUND else "missed"
    line = (
        f"{ratio:.2f} times as fast ({medians[True] * 1000:.0f} ms against {medians[False] * 1000:.0f} of "
        f"{fastest[False][1]}); target {TARGETS[case]:g} {reached}; {ratio / bound:.0%} of the bound by operations, "
        f"{bound:.2f}: target 90 % {share}"
    )
    if failed:
        line += f"; did not run: {', '.join(failed)}"
    return Finding("d", about, "told", line, figures)
