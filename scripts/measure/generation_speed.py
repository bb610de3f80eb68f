"""How fast a model answers in the benchmark's loop: batched with a kept cache, against one prompt at a time without one.

    python scripts/measure/generation_speed.py --model .cache/smollm2-135m --reps 5
    python scripts/measure/generation_speed.py --model runs/quickstart/round-1/sft --tasks 16 --turns 6 --out speed.json

Both sides solve the same tasks in one process, in turn: `TransformersPolicy` as it is, and the same with each prompt
 given whole to `model.generate`, greedy, which keeps its cache within one answer only. A turn without a call is
given back as an error, so that every task has the same number of turns whatever the model can do. Only generation is timed,
by the clock and in CPU time, which tells more on a machine that others use. The JSON holds the medians, every repetition, and
whether both sides wrote the same tokens.

Exit codes: 0 done, 1 the sides differ in a token, 2 a mistake that a message names.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmark.agent.episodes import Episode, Turn, Unreadable, run_tasks
from benchmark.agent.transformers_model import TransformersPolicy
from benchmark.worlds.kinds import make_tasks
from benchmark.worlds.world import Task
from core.command_line import Parser
from core.errors import UserError


class Kept(TransformersPolicy):
    """The benchmark's own way, timed. A turn that calls nothing is no end."""

    def __init__(self, like: TransformersPolicy, batch_size: int) -> None:
        super().__init__(like.model, like.renderer, max_new_tokens=like.max_new_tokens, batch_size=batch_size)
        self.seconds = self.cpu_seconds = 0.0
        self.written: dict[str, list[list[int]]] = {}

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        """As the policy, but words alone go back to the model."""
        turns = super().act(episodes)
        return [
            turn if isinstance(turn, Unreadable) or turn.tool_calls else Unreadable(turn.content, "call a tool")
            for turn in turns
        ]

    def generate(self, prompts: Sequence[list[int]], keys: Sequence[str]) -> list[list[int]]:
        """Timed."""
        began, cpu_began = time.perf_counter(), time.process_time()
        completions = self.complete(prompts, keys)
        self.seconds += time.perf_counter() - began
        self.cpu_seconds += time.process_time() - cpu_began
        for key, ids in zip(keys, completions, strict=True):
            self.written.setdefault(key, []).append(ids)
        return completions

    def complete(self, prompts: Sequence[list[int]], keys: Sequence[str]) -> list[list[int]]:
        """Batched, with what was computed before."""
        return super().generate(prompts, keys)


class OneByOne(Kept):
    """Each prompt alone and from its start."""

    def complete(self, prompts: Sequence[list[int]], keys: Sequence[str]) -> list[list[int]]:
        """`model.generate` of one prompt after the other."""
        import torch  # noqa: PLC0415 - seconds; not for --help

        completions = []
        for prompt in prompts:
            ids = torch.tensor([prompt], device=self.model.device)
            with torch.inference_mode():
                whole = self.model.generate(
                    ids, attention_mask=torch.ones_like(ids), max_new_tokens=self.max_new_tokens, do_sample=False,
                    eos_token_id=list(self.renderer.stop_ids), pad_token_id=self.renderer.stop_ids[0],
                )  # fmt: skip
            completions.append(whole[0, len(prompt) :].tolist())
        return completions


def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("--model", required=True, help="model or adapter folder")
    parser.add_argument("--reps", type=int, default=5, help="how often each side runs")
    parser.add_argument("--tasks", type=int, default=16, help="how many tasks, and how many generate together")
    parser.add_argument("--turns", type=int, default=3, help="turns of each task")
    parser.add_argument("--max-new-tokens", type=int, default=32, help="longest turn")
    parser.add_argument("--worlds", default="files,api", help="worlds to take tasks from")
    parser.add_argument("--out", type=Path, help="file for the JSON; default: standard output")
    arguments = parser.parse_args()
    try:
        tasks = make_tasks(arguments.worlds.split(","), "test", arguments.tasks, 1, short=True)
        loaded = TransformersPolicy.from_pretrained(arguments.model, max_new_tokens=arguments.max_new_tokens)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report = measure(loaded, tasks, reps=arguments.reps, turns=arguments.turns)
    text = json.dumps({"model": arguments.model, **report}, indent=2)
    if arguments.out is None:
        print(text)
    else:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    return 0 if report["same_tokens"] else 1


def measure(loaded: TransformersPolicy, tasks: Sequence[Task], *, reps: int, turns: int) -> dict[str, object]:
    """Both sides, in turn; the first of a repetition changes, and one short run of each warms up."""
    import torch  # noqa: PLC0415 - seconds; not for --help

    seconds: dict[str, list[float]] = {"kept": [], "one_by_one": []}
    cpu_seconds: dict[str, list[float]] = {"kept": [], "one_by_one": []}
    tokens, same = 0, True
    for rep in range(-1, reps):
        written = {}
        sides = [("kept", Kept), ("one_by_one", OneByOne)]
        for name, side in sides[:: 1 if rep % 2 else -1]:
            policy = side(loaded, len(tasks))
            some = tasks[:1] if rep < 0 else tasks
            for _ in run_tasks(policy, some, label=name, max_steps=1 if rep < 0 else turns, live=len(tasks)):
                pass
            written[name] = policy.written
            if rep >= 0:
                seconds[name].append(round(policy.seconds, 3))
                cpu_seconds[name].append(round(policy.cpu_seconds, 3))
                tokens = sum(len(ids) for each in policy.written.values() for ids in each)
                spent = f"{policy.seconds:.1f} s, {policy.cpu_seconds:.1f} s of CPU"
                print(f"{name}, repetition {rep + 1}: {spent} for {tokens} tokens", file=sys.stderr)
        same = same and written["kept"] == written["one_by_one"]
    return {
        "tasks": len(tasks),
        "turns": turns,
        "max_new_tokens": loaded.max_new_tokens,
        "generated_tokens": tokens,
        "same_tokens": same,
        "by_the_clock": compared(seconds, tokens),
        "by_cpu_time": compared(cpu_seconds, tokens),
        "threads": torch.get_num_threads(),
        "device": str(loaded.model.device),
        "cores": os.cpu_count(),
    }


def compared(seconds: dict[str, list[float]], tokens: int) -> dict[str, object]:
    """Both sides by one way of counting seconds: each repetition, medians, tokens a second, and their ratio."""
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    ratios = [round(slow / fast, 2) for fast, slow in zip(seconds["kept"], seconds["one_by_one"], strict=True)]
    return {
        "seconds": seconds,
        "tokens_per_second": {name: round(tokens / median, 2) for name, median in medians.items()},
        "times_as_fast": round(medians["one_by_one"] / medians["kept"], 2),
        "times_as_fast_by_repetition": ratios,
    }


if __name__ == "__main__":
    sys.exit(main())
