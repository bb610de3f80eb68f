"""Part g: answers in batches with kept caches, and a server beside them where one is installed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmark.agent.episodes import run_tasks
from benchmark.agent.served_model import ServerPolicy
from benchmark.agent.transformers_model import TransformersPolicy, read_renderer
from benchmark.worlds.kinds import make_tasks
from core.server_process import serving
from scripts.measure.generation_speed import measure
from scripts.measure.gpu.report import Finding
from scripts.measure.gpu.roof import is_installed
from scripts.measure.gpu.setting import Setting, save_model, tokens

VLLM = "vllm serve {model} --port {port}"
SERVER_SECONDS = 150.0
"""What vLLM takes to load and compile, about."""
BOUND = 1e-3
"""By so many nats a token that was taken greedily may lie below the best one, computed again from its start in fp32."""


def generation(setting: Setting) -> Iterator[Finding]:
    """Kept caches give what the plain model gives; then how fast they are; then a server."""
    shape = setting.short_shape
    shape.vocab_size = max(shape.vocab_size, len(setting.tokenizer))
    folder = save_model(setting, shape, torch.float32, setting.folder / "answers")
    renderer = read_renderer(str(folder))
    yield _kept_is_right(setting, shape, renderer)
    whole = setting.whole_shape
    whole.vocab_size = max(whole.vocab_size, len(setting.tokenizer))
    half = setting.half if setting.cuda else torch.float32
    new_tokens, count = (64, 32) if setting.cuda else (4, 2)
    policy = TransformersPolicy(setting.new_model(whole, half), renderer, max_new_tokens=new_tokens)
    tasks = make_tasks(["files", "api"], "test", count, 1, short=True)
    told: Any = measure(policy, tasks, reps=1, turns=2)
    rates = told["by_the_clock"]["tokens_per_second"]
    yield Finding(
        "g", f"{count} tasks at once, {str(half).removeprefix('torch.')}, 1.7B shape", "told",
        f"{rates['kept']:,.0f} tokens/s with kept caches, {rates['one_by_one']:,.0f} one by one", told,
    )  # fmt: skip
    yield _served(setting, renderer, tasks, new_tokens)


def _kept_is_right(setting: Setting, shape: Any, renderer: Any) -> Finding:
    """Two turns of several tries; each token is looked up in a plain pass over the whole sequence."""
    model = setting.new_model(shape, torch.float32)
    policy = TransformersPolicy(model, renderer, max_new_tokens=16 if setting.cuda else 4)
    keys = [f"try{number}" for number in range(6)]
    shared = tokens(40 if setting.cuda else 6, 1, shape.vocab_size)
    prompts = [[*shared, *tokens(10 + 3 * number, number + 2, shape.vocab_size)] for number in range(len(keys))]
    worst = 0.0
    for turn in range(2):
        completions = policy.generate(prompts, keys)
        for prompt, ids in zip(prompts, completions, strict=True):
            worst = max(worst, _below_the_best(model, prompt, ids))
        prompts = [
            [*prompt, *ids, *tokens(7, 50 + turn, shape.vocab_size)]
            for prompt, ids in zip(prompts, completions, strict=True)
        ]
    return Finding(
        "g", "kept caches in fp32 against plain passes", "right" if worst <= BOUND else "wrong",
        f"no greedy token lies more than {worst:.1e} below the best; bound {BOUND:g}", {"worst": worst},
    )  # fmt: skip


@torch.no_grad()
def _below_the_best(model: Any, prompt: Sequence[int], ids: Sequence[int]) -> float:
    whole = torch.tensor([[*prompt, *ids]], device=model.device)
    logits = model(input_ids=whole).logits[0, len(prompt) - 1 : -1].float()
    taken = logits.gather(1, torch.tensor(ids, device=model.device)[:, None])[:, 0]
    return float((logits.max(dim=1).values - taken).max())


def _served(setting: Setting, renderer: Any, tasks: Sequence[Any], new_tokens: int) -> Finding:
    """Tokens a second of a server over the same tasks."""
    about = "the same tasks behind a server"
    if setting.server is None and not is_installed("vllm"):
        return Finding("g", about, "not run", "vllm is not installed; --server names another server's command")
    if setting.cuda and setting.clock.left < SERVER_SECONDS:
        return Finding(
            "g", about, "not run", f"takes about {SERVER_SECONDS:.0f} s, and {setting.clock.left:.0f} are left"
        )
    command = setting.server or VLLM
    folder = (
        save_model(setting, setting.whole_shape, setting.half, setting.folder / "served")
        if "{model}" in command
        else Path()
    )
    log = setting.folder / "server.log"
    with serving(command, log=log, values={"model": shlex.quote(str(folder))}, start_seconds=SERVER_SECONDS) as url:
        policy = ServerPolicy(url, renderer=renderer, max_new_tokens=new_tokens, concurrency=len(tasks))
        try:
            seconds = setting.seconds_of(
                lambda: list(run_tasks(policy, tasks, label="served", max_steps=2, live=len(tasks)))
            )
        finally:
            policy.close()
    rate = len(tasks) * 2 * new_tokens / seconds
    figures = {"seconds": seconds, "at_most_tokens_per_second": rate, "command": command}
    return Finding(
        "g", about, "told", f"at most {rate:,.0f} tokens/s ({len(tasks)} tasks, two turns of {new_tokens})", figures
    )
