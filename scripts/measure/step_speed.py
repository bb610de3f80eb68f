"""How fast a step is, side by side with TRL's own trainers on the same rows.

    python scripts/measure/step_speed.py --case pair --json OUT


    pair         one preference pair, 515 tokens of history and 61 a side
    trajectory   eight step pairs of one trajectory: 130 tokens of prompt, 25 a turn, 23 a result
    sft          eight chats of mixed lengths, against TRL padded (sorted by length, its best batch size) and TRL packed
    render       chats to ids, against apply_chat_template in datasets.map; and how it grows with the turns

Both sides are whole steps in one process, taken in turn: forward, reference, backward, optimizer, with LoRA on all linear
layers. The medians of `--reps` steps are compared:

    measured           TRL as shipped / ours. On a CPU its head runs on every position.
    measured_compact   TRL with its head on scored positions only, as it does by itself on GPUs / ours
    ideal              tokens of all sequences / unique tokens
    ideal_flops        the same by arithmetic operations, attention and head included
    efficiency         measured_compact / ideal

On a GPU `--model qwen3-1.7b` takes that shape with random weights in bf16; tokens/s and MFU are written too.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import torch
import trl.trainer.utils
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from core.command_line import Parser
from core.errors import UserError
from core.files import write_whole
from core.screen import with_progress
from data.chats import Chat, Message, ToolCall
from data.records import ToolSpec
from data.rendering.renderer import Renderer
from data.rendering.token_tree import TokenTree
from data.sets.prepared import rows_to_dataset
from train.attention import FLEX_BLOCK_TOKENS, choose_backend
from train.environment import quiet
from train.trainers import ChatTrainer, PairTrainer
from train.tree import Rendered, UnitCollator, chats_to_rendered, rendered_to_unit

RATIOS = ("measured", "measured_compact", "measured_one_core", "ideal", "ideal_flops")
CASES = ("pair", "trajectory", "sft", "render")
# Lengths of eight chats, spread like those of tool trajectories: many short ones, a long tail.
SFT_LENGTHS_TOKENS = (93, 151, 204, 310, 421, 540, 803, 1024)
WORDS = "order invoice total 서울 부산 파일 customer shipped pending refund 2026-11-21 amount list of rows in the table"
TOOLS = tuple(
    ToolSpec.model_validate({"function": {"name": name, "description": "Works on one file of the workspace.", "parameters": {
        "type": "object", "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}}, "required": ["path"],
    }}})
    for name in ("read_file", "write_file")
)  # fmt: skip
QWEN3_1_7B = {
    "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936, "tie_word_embeddings": True,
}  # fmt: skip


def pair_rows() -> list[Rendered]:
    """One pair: 515 tokens of history, 61 a side."""
    history, chosen, rejected = _tokens(515, 1), _tokens(61, 2), _tokens(61, 3)
    return [_pair("pair", "pair", history, chosen, rejected)]


def trajectory_rows() -> list[Rendered]:
    """Eight step pairs of one trajectory: at each turn the model's action stands against another one."""
    history = _tokens(130, 1)
    rows = []
    for turn in range(8):
        action, other, result = _tokens(25, 10 + turn), _tokens(25, 30 + turn), _tokens(23, 50 + turn)
        rows.append(_pair(f"step{turn}", "trajectory", history, action, other))
        history = history + action + result
    return rows


def sft_rows() -> list[Rendered]:
    """Chats of mixed lengths in which every fourth token is the model's, in turns of 25."""
    rows = []
    for number, length in enumerate(SFT_LENGTHS_TOKENS):
        weights = [float(at >= 60 and at % 100 < 25) for at in range(length - 20)] + [1.0] * 20
        rows.append(Rendered(f"chat{number}", f"chat{number}", (((_tokens(length, number), weights),),)))
    return rows


def _tokens(count: int, seed: int) -> list[int]:
    """Random ids that every vocabulary has, none of them a control token."""
    return torch.randint(100, 40_000, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def _pair(name: str, group: str, history: list[int], chosen: list[int], rejected: list[int]) -> Rendered:
    def side(ids: list[int]) -> Any:
        return ((history + ids, [0.0] * len(history) + [1.0] * len(ids)),)

    return Rendered(name, group, (side(chosen), side(rejected)))


class _TokenRows:
    """For TRL's trainers: the rows are tokens already."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


class _TrlPairs(_TokenRows, DPOTrainer):
    """TRL's DPOTrainer; nothing else is overridden."""


def rows_to_trl_pairs(rows: Sequence[Rendered]) -> Dataset:
    """prompt_ids, chosen_ids, rejected_ids, as TRL's own tokenisation would leave them."""
    made = []
    for row in rows:
        ((chosen, weights),), ((rejected, _),) = row.sides
        start = weights.index(1.0)
        made.append({"prompt_ids": chosen[:start], "chosen_ids": chosen[start:], "rejected_ids": rejected[start:]})
    return rows_to_dataset(made)


def rows_to_trl_chats(rows: Sequence[Rendered]) -> Dataset:
    """input_ids with a completion_mask, sorted by length."""
    sequences = sorted((row.sides[0][0] for row in rows), key=lambda sequence: len(sequence[0]))
    return rows_to_dataset([{"input_ids": ids, "completion_mask": [int(w) for w in mask]} for ids, mask in sequences])


class Bench:
    """One model and device, from which both sides get their own copy."""

    def __init__(self, model: str, folder: Path, *, config: Any = None, tokenizer: Any = None) -> None:
        """`config` is a shape to fill with random weights instead of loading `model`."""
        self.model_name, self.folder, self.config, self.tokenizer = model, folder, config, tokenizer
        self.cuda = torch.cuda.is_available()
        self.half = torch.bfloat16
        if self.cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
            self.half = torch.float16
        if model == "qwen3-1.7b":
            self.config = config or Qwen3Config(**QWEN3_1_7B)
        elif config is not None:
            pass
        elif not (Path(model) / "config.json").exists():
            raise UserError(
                f"--model {model}: no model folder; make one with `python scripts/embedded_model.py {model}`"
            )
        else:
            self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.tokenizer = self.tokenizer or AutoTokenizer.from_pretrained(".cache/smollm2-135m")  # only asked for pad

    def new_model(self, implementation: str | None = None) -> Any:
        """A fresh copy, in half precision on a GPU and in fp32 elsewhere."""
        keywords: dict[str, Any] = {"dtype": self.half if self.cuda else torch.float32}
        if implementation:
            keywords["attn_implementation"] = implementation
        if self.config is not None:
            torch.manual_seed(0)
            with torch.device("cuda" if self.cuda else "cpu"):
                return Qwen3ForCausalLM._from_config(self.config, **keywords)
        return AutoModelForCausalLM.from_pretrained(self.model_name, **keywords)

    def arguments(self, batch: int, **more: Any) -> dict[str, Any]:
        """Training arguments that both sides share."""
        return {
            "output_dir": str(self.folder), "per_device_train_batch_size": batch, "report_to": [],
            "bf16": self.cuda and self.half == torch.bfloat16, "fp16": self.cuda and self.half == torch.float16,
            "gradient_checkpointing": False, "use_cpu": not self.cuda, "learning_rate": 1e-5, "max_length": None,
            "lr_scheduler_type": "constant", "dataloader_pin_memory": False, **more,
        }  # fmt: skip

    def peft(self) -> LoraConfig:
        return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")

    def ours(self, kind: str, rows: Sequence[Rendered], batch: int) -> Callable[[], None]:
        """A step of our trainer over all rows, `batch` units at a time."""
        model = self.new_model()
        groups: dict[str, list[Rendered]] = {}
        for row in rows:
            groups.setdefault(row.group, []).append(row)
        share = kind == "pair"
        units = [rendered_to_unit(group, share=share) for group in groups.values()]
        backend = choose_backend(model, forks=share)
        layout: Any = {"dense": "bins", "causal": "paths"}.get(backend, "one")
        pair_classes: tuple[Any, Any] = (PairTrainer, DPOConfig)
        trainer_class, config_class = pair_classes if kind == "pair" else (ChatTrainer, SFTConfig)
        arguments: Any = config_class(**self.arguments(batch))
        trainer = trainer_class(
            model=model, args=arguments, train_units=units, eval_units=[], backend=backend,
            data_collator=UnitCollator(0, layout, FLEX_BLOCK_TOKENS if backend == "flex" else 1),
            processing_class=self.tokenizer, peft_config=self.peft(),
        )  # fmt: skip
        return self._steps(trainer)

    def trl_pairs(self, rows: Sequence[Rendered], batch: int, implementation: str | None) -> Callable[[], None]:
        """A step of TRL's DPOTrainer over all rows, `batch` of them at a time."""
        arguments = DPOConfig(**self.arguments(batch))
        trainer = _TrlPairs(
            model=self.new_model(implementation), args=arguments, train_dataset=rows_to_trl_pairs(rows),
            data_collator=DataCollatorForPreference(pad_token_id=0), processing_class=self.tokenizer,
            peft_config=self.peft(),
        )  # fmt: skip
        return self._steps(trainer)

    def trl_chats(
        self, rows: Sequence[Rendered], batch: int, implementation: str | None, *, packing: bool = False
    ) -> Callable[[], None]:
        """A step of TRL's SFTTrainer over all rows, `batch` of them (or of packed rows) at a time."""
        more = {"packing": True, "max_length": max(SFT_LENGTHS_TOKENS)} if packing else {}
        arguments = SFTConfig(**self.arguments(batch, **more))
        trainer = SFTTrainer(
            model=self.new_model(implementation), args=arguments, train_dataset=rows_to_trl_chats(rows),
            processing_class=self.tokenizer, peft_config=self.peft(),
        )  # fmt: skip
        return self._steps(trainer)

    def _steps(self, trainer: Any) -> Callable[[], None]:
        """All rows of the trainer, in the order of its dataset, as one optimizer step."""
        trainer.create_optimizer()
        columns = trainer._signature_columns or []
        if not columns:
            trainer._set_signature_columns_if_needed()
            columns = trainer._signature_columns
        dataset = trainer._remove_unused_columns(trainer.train_dataset, "training")
        size = trainer.args.per_device_train_batch_size
        batches = [
            trainer.data_collator([dataset[at] for at in range(start, min(start + size, len(dataset)))])
            for start in range(0, len(dataset), size)
        ]
        trainer.current_gradient_accumulation_steps = len(batches)

        def step() -> None:
            for batch in batches:
                items = trainer._get_num_items_in_batch([batch], trainer.args.device)
                trainer.training_step(trainer.model, dict(batch), items)
            trainer.optimizer.step()
            trainer.optimizer.zero_grad()
            if self.cuda:
                torch.cuda.synchronize()

        step.tokens = sum(int(batch["attention_mask"].sum()) for batch in batches if "attention_mask" in batch)  # type: ignore[attr-defined] # a note for the report
        return step


def compact(step: Callable[[], None]) -> Callable[[], None]:
    """The step with TRL's head on scored positions only, which is what it does by itself on Triton devices."""

    def run() -> None:
        shipped = trl.trainer.utils._use_triton
        trl.trainer.utils._use_triton = lambda _device: True
        try:
            step()
        finally:
            trl.trainer.utils._use_triton = shipped

    return run


def measure(steps: dict[str, Callable[[], None]], reps: int) -> dict[str, list[float]]:
    """Wall seconds of our fastest form, and of TRL's as shipped and compact, taken in turn.

    A first round warms up and tells which form (batch size, packing, attention) of each side is the fastest; the others are
    left out.
    """
    first = {name: _seconds_of(step) for name, step in with_progress(steps.items(), "warming up", total=len(steps))}
    forms = [name for name in steps if _is_shipped(name)]
    fastest = min(forms, key=lambda form: first[form] + first.get(form + COMPACT, 0.0))
    ours = min((name for name in steps if _is_ours(name)), key=first.__getitem__)
    kept = [name for name in (ours, fastest, fastest + COMPACT) if name in steps]
    seconds: dict[str, list[float]] = {name: [] for name in kept}
    for _ in with_progress(range(reps), "measuring", total=reps):
        for name in kept:
            seconds[name].append(_seconds_of(steps[name]))
    return seconds


COMPACT = ", compact"


def _is_ours(name: str) -> bool:
    return name.startswith("ours")


def _is_shipped(name: str) -> bool:
    return not _is_ours(name) and not name.endswith(COMPACT)


def _seconds_of(step: Callable[[], None]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def ideal_ratios(kind: str, rows: Sequence[Rendered], config: Any) -> tuple[float, float]:
    """(by tokens, by operations) of sequences against trees: what no implementation that is exact can beat.

    Operations are those of a forward pass: 2 a weight and token in the layers, 4 * heads * head size a token and layer for
    every token that it sees, 2 * hidden * vocabulary for each scored token.
    """
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv = config.num_key_value_heads
    layer = config.hidden_size * size * (2 * heads + 2 * kv) + 3 * config.hidden_size * config.intermediate_size
    sequences = [sequence for row in rows for side in row.sides for sequence in side]
    groups: dict[str, list[Rendered]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    units = [rendered_to_unit(group, share=kind == "pair") for group in groups.values()]

    def operations(depths: Sequence[int], scored: int) -> float:
        seen = sum(depth + 1 for depth in depths)
        layers = config.num_hidden_layers * (2 * layer * len(depths) + 4 * heads * size * seen)
        return layers + 2 * config.hidden_size * config.vocab_size * scored

    plain = sum(operations(range(len(ids)), sum(w > 0 for w in weights)) for ids, weights in sequences)
    tree = sum(operations(unit["depths"], len(unit["labels"])) for unit in units)
    tokens = sum(len(ids) for ids, _ in sequences) / sum(len(unit["ids"]) for unit in units)
    return tokens, plain / tree


def forms_of(
    bench: Bench, case: str, rows: Sequence[Rendered], attention: Sequence[str | None]
) -> dict[str, Callable[[], Callable[[], None]]]:
    """What makes a step of each form of both sides, by its name: batch sizes, packing, and TRL's attention."""
    our_sizes = (1, 4) if case == "sft" else (1,)
    kind = "chat" if case == "sft" else "pair"
    makers: dict[str, Callable[[], Callable[[], None]]] = {
        f"ours, batch {size}": partial(bench.ours, kind, rows, size) for size in our_sizes
    }
    for implementation in attention:
        suffix = f", {implementation}" if implementation else ""
        for size in (1,) if case == "pair" else (1, 4):
            name = f"trl, batch {size}{suffix}"
            make: Any = bench.trl_pairs if kind == "pair" else bench.trl_chats
            makers[name] = partial(make, rows, size, implementation)
        if case == "sft":
            makers[f"trl packed{suffix}"] = partial(bench.trl_chats, rows, 1, implementation, packing=True)
    return makers


def training_case(case: str, model: str, reps: int, only: str | None, folder: Path) -> dict[str, Any]:
    """The result of one of the training cases."""
    bench = Bench(model, folder)
    kind = "chat" if case == "sft" else "pair"
    rows = {"pair": pair_rows, "trajectory": trajectory_rows, "sft": sft_rows}[case]()
    attention: list[str | None] = [None]
    if bench.cuda:
        try:
            import flash_attn  # type: ignore[import-not-found] # noqa: F401, PLC0415 - a peer, where it is there

            attention.append("flash_attention_2")
        except ImportError:
            pass
    makers = forms_of(bench, case, rows, attention)
    if only is not None:  # a child that measures the memory of one side
        step = makers[only]()
        for _ in range(2):
            step()
        return {"peak_memory_gb": (torch.cuda.max_memory_allocated() if bench.cuda else _peak_resident_bytes()) / 1e9}
    steps: dict[str, Callable[[], None]] = {}
    for name, maker in makers.items():
        steps[name] = maker()
        if not _is_ours(name) and not bench.cuda:
            steps[name + COMPACT] = compact(steps[name])
    seconds = measure(steps, reps)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    fastest = next(name for name in medians if _is_shipped(name))
    ours = next(name for name in medians if _is_ours(name))
    shipped = medians[fastest]
    # On a GPU TRL's head is compact as it ships.
    best_compact = next((value for name, value in medians.items() if name.endswith(COMPACT)), shipped)
    tokens, flops = ideal_ratios(kind, rows, steps_config(bench))
    result: dict[str, Any] = {
        "measured": shipped / medians[ours],
        "measured_compact": best_compact / medians[ours],
        "ideal": tokens,
        "ideal_flops": flops,
        "efficiency": best_compact / medians[ours] / tokens,
        "median_seconds": medians,
        "seconds": seconds,
        "tokens_in_sequences": sum(len(ids) for row in rows for side in row.sides for ids, _ in side),
    }
    if bench.cuda:
        result |= gpu_figures(bench, rows, kind, medians)
    del steps
    gc.collect()
    result["peak_memory_gb"] = {name: _peak_of(case, model, name) for name in (ours, fastest)}
    return result


def steps_config(bench: Bench) -> Any:
    """The configuration of the model that is measured."""
    if bench.config is not None:
        return bench.config
    from transformers import AutoConfig  # noqa: PLC0415 - only here

    return AutoConfig.from_pretrained(bench.model_name).get_text_config()


def gpu_figures(bench: Bench, rows: Sequence[Rendered], kind: str, medians: dict[str, float]) -> dict[str, Any]:
    """Tokens of sequences a second, and the share of the card's measured matrix rate that useful operations reach."""
    size = 8192
    left = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    for _ in range(3):
        left @ left
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(20):
        left @ left
    torch.cuda.synchronize()
    rate = 20 * 2 * size**3 / (time.perf_counter() - began)
    tokens = sum(len(ids) for row in rows for side in row.sides for ids, _ in side)
    parameters = sum(parameter.numel() for parameter in bench.new_model().parameters())
    passes = 3 if kind == "pair" else 2  # LoRA: forward, backward to activations; DPO's reference forward
    return {
        "device": torch.cuda.get_device_name(),
        "matmul_flops_per_second": rate,
        "sequence_tokens_per_second": {name: tokens / value for name, value in medians.items()},
        "mfu": {name: passes * 2 * parameters * tokens / value / rate for name, value in medians.items()},
    }


def _peak_resident_bytes() -> int:
    """VmHWM of this process. (ru_maxrss starts from the parent's, so a child of a large process cannot use it.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _peak_of(case: str, model: str, name: str) -> float | None:
    """Peak memory of two steps of one side in a process of its own, in 1e9 bytes."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        asked = ["--case", case, "--model", model, "--only", name, "--json", file.name]
        command = [sys.executable, __file__, *asked]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return None
        return float(json.loads(Path(file.name).read_text())["peak_memory_gb"])


def made_chat(seed: int, turns: int, *, words: int = 22) -> Chat:
    """A chat of `turns` calls with their results; 6 turns are about 840 tokens with two tools."""
    random = Random(seed)

    def text() -> str:
        return " ".join(random.choice(WORDS.split(" ")) for _ in range(words))

    messages = [Message(role="system", content="You are a careful assistant."), Message(role="user", content=text())]
    for turn in range(turns):
        arguments: dict[str, Any] = {"path": f"reports/{random.randrange(10_000)}.csv", "limit": random.randrange(100)}
        call = ToolCall(id=f"call_{turn}", name="read_file", arguments=arguments)
        messages.append(Message(role="assistant", tool_calls=(call,)))
        messages.append(Message(role="tool", content=text(), tool_call_id=call.id, name="read_file"))
    messages.append(Message(role="assistant", content=text()))
    return Chat(messages=tuple(messages), tools=TOOLS, id=str(seed), source="speed")


def _one_by_one(renderer: Renderer, chats: Sequence[Chat]) -> None:
    for chat in chats:
        renderer.chat_to_tree(chat)


def render_case(model: str, template: str, reps: int) -> dict[str, Any]:
    """Chats a second against `apply_chat_template` for each row in datasets.map (one process, as TRL does it by default).

    `measured` is how training renders, in as many processes as there are cores; `measured_one_core` is one process. Every
    round is about new chats. The growth is that of one process, too.
    """
    renderer = Renderer.from_pretrained(model, chat_template_path=template)
    tools = [tool.model_dump() for tool in TOOLS]

    def theirs(row: dict[str, Any]) -> dict[str, Any]:
        messages = json.loads(row["messages"])  # as text: as structs, arguments would be given invented keys
        return {"input_ids": renderer.tokenizer.apply_chat_template(messages, tools=tools, return_dict=False)}

    def timed(work: Callable[[], Any]) -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    count, turns = 2000, 6
    seconds: dict[str, list[float]] = {
        "all cores": [], "one core": [], "datasets.map": [], "40 turns": [], "80 turns": []
    }  # fmt: skip
    tokens = 0
    for rep in with_progress(range(reps + 1), "measuring", total=reps + 1):
        chats = [made_chat(rep * 10_000 + number, turns) for number in range(count)]
        few = [made_chat(rep * 10_000 + 5000 + number, turns) for number in range(count // 8)]
        rows = [{"messages": json.dumps([message.to_template() for message in chat.messages])} for chat in chats]
        dataset = rows_to_dataset(rows)
        # A fingerprint of ours, because hashing `theirs` (with its tokenizer) would count against it.
        their_map = partial(dataset.map, theirs, new_fingerprint=f"speed{rep}", keep_in_memory=True)
        round_seconds = {
            "all cores": timed(partial(chats_to_rendered, chats, renderer, max_tokens=None)),
            "one core": 8 * timed(partial(_one_by_one, renderer, few)),
            "datasets.map": timed(their_map),
        }
        for long in (40, 80):
            long_chats = [made_chat(rep * 10_000 + 9000 + long + number, long) for number in range(8)]
            round_seconds[f"{long} turns"] = timed(partial(_one_by_one, renderer, long_chats))
        if rep:
            for name, value in round_seconds.items():
                seconds[name].append(value)
    trees = [renderer.chat_to_tree(chat) for chat in few]
    tokens = sum(len(tree.ids) for tree in trees if isinstance(tree, TokenTree))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "measured": medians["datasets.map"] / medians["all cores"],
        "measured_one_core": medians["datasets.map"] / medians["one core"],
        "growth_80_over_40_turns": medians["80 turns"] / medians["40 turns"],
        "chats_per_second": {name: count / medians[name] for name in ("all cores", "one core", "datasets.map")},
        "tokens_per_chat": tokens / len(few),
        "seconds": seconds,
    }


def plot(result: dict[str, Any], path: Path) -> None:
    """Bars: the ratios of a training case, or the rates of rendering."""
    import matplotlib as mpl  # noqa: PLC0415 - seconds, only for the picture

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415 - as above

    names = [name for name in RATIOS if name in result]
    figure, axes = plt.subplots(figsize=(6, 0.6 * len(names) + 1.2), layout="constrained")
    bars = axes.barh(names[::-1], [result[name] for name in names[::-1]], color="#4477aa")
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.axvline(1, color="0.5", linewidth=0.8)
    axes.set_xlabel("times as fast as TRL" if "ideal" in result else "times as fast as datasets.map")
    axes.set_title(f"{result['case']}: {result['model']}, {result['threads']} threads")
    axes.margins(x=0.15)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the ratios, write JSON and a bar chart."""
    parser = Parser(description=__doc__)  # fmt: skip
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--reps", type=int, default=5, help="steps of each side (default 5)")
    parser.add_argument("--json", type=Path, required=True, help="result file; the chart goes beside it as .png")
    parser.add_argument("--model", default=".cache/smollm2-135m", help="model folder, or qwen3-1.7b for random weights")
    parser.add_argument("--chat_template_path", default="configs/chat_templates/chatml_tools.jinja", help="for render")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    quiet()
    logging.getLogger("trl").setLevel(logging.ERROR)
    if options.reps < 1:
        raise UserError(f"--reps {options.reps}: expected 1 or more")
    with tempfile.TemporaryDirectory() as folder:
        if options.case == "render":
            result = render_case(options.model, options.chat_template_path, options.reps)
        else:
            result = training_case(options.case, options.model, options.reps, options.only, Path(folder))
    result = {
        "case": options.case,
        "model": Path(options.model).name,
        "reps": options.reps,
        **result,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
        "command": ["python", "scripts/measure/step_speed.py", *(sys.argv[1:] if argv is None else argv)],
    }
    write_whole(options.json, json.dumps(result, indent=2) + "\n")
    if options.only is None:
        plot(result, options.json.with_suffix(".png"))
        for name in (*RATIOS, "efficiency", "growth_80_over_40_turns"):
            if name in result:
                sys.stdout.write(f"{name:24} {result[name]:.2f}\n")
        sys.stdout.write(f"wrote {options.json} and {options.json.with_suffix('.png')}\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
