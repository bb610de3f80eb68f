"""Training runs that take a second or two: their rows and sets, a random model so small that six steps cost nothing, their
options, what they leave behind, and runs of two processes.

The vocabulary is what costs: the tiny model carries 49,152 tokens, the minute one 500 that are learned from the test rows.
"""

from __future__ import annotations

import gc
import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from data.chats import Chat, Message, PreferencePair, ToolCall
from data.records import ToolSpec
from data.sets.build import BuildConfig, build
from support.forking import fork, forked_command, wait_for_all
from support.paths import ROOT
from train import dpo, kto, orpo, sft
from train.fit import read_metrics
from train.outcome import run_main

# A run empties its memory at its end. Without torch itself to look through, that costs a tenth; children inherit it.
gc.collect()
gc.freeze()

MAIN = {"sft": sft.main, "dpo": dpo.main, "orpo": orpo.main, "kto": kto.main}
KINDS = {"sft": "chats", "dpo": "pairs", "orpo": "pairs", "kto": "labelled"}
"""Method -> the prepared set that it is trained on."""
STEPS = 8
CLOCK = ("time", "runtime", "samples_per_second", "steps_per_second")
TOOL = ToolSpec.model_validate(
    {"function": {"name": "read_file", "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}}}
)


def read_chat(n: int) -> Chat:
    call = ToolCall(id="c", name="read_file", arguments={"path": f"{'파일' * (n % 3)}{n}.csv"})
    return Chat(
        messages=(
            Message(role="user", content=f"Read {n}"),
            Message(role="assistant", tool_calls=(call,), weight=0.0 if n % 5 == 0 else None),
            Message(role="tool", content="1,2 " * (n % 4 + 1), tool_call_id="c", name="read_file"),
            Message(role="assistant", content="Done."),
        ),
        tools=(TOOL,), id=f"chat{n}", source="test", group=f"g{n}",
    )  # fmt: skip


def read_pair(n: int) -> PreferencePair:
    chat = read_chat(n * 5 + 1)
    bad = ToolCall(id="c", name="read_file", arguments={"path": "nothing"})
    return PreferencePair(
        prompt=chat.messages[:1], chosen=chat.messages[1:], rejected=(Message(role="assistant", tool_calls=(bad,)),),
        tools=(TOOL,), id=f"pair{n}", source="test", group=f"t{n // 2}", trunk=f"t{n // 2}",
    )  # fmt: skip


def read_labelled(n: int) -> Chat:
    """Two of a task stand next to each other; two of three are good."""
    return read_chat(n).model_copy(update={"group": f"g{n // 2}", "label": "bad" if n % 3 == 0 else "good"})


def make_sets(folder: Path, **rows: Sequence[Chat | PreferencePair]) -> dict[str, Path]:
    """Prepared sets of `chats`, `pairs` and `labelled` chats, in folders of these names."""
    made = {}
    for kind, kept in rows.items():
        source = folder / f"{kind}.jsonl"
        source.write_text("".join(row.model_dump_json() + "\n" for row in kept), encoding="utf-8")
        adapter = "chats" if kind == "labelled" else kind
        config = {"sources": [{"adapter": adapter, "path": str(source)}], "labelled": kind == "labelled"}
        build(BuildConfig.model_validate(config), out=folder / kind)
        made[kind] = folder / kind
    return made


def make_minute_model(tiny_model: Path, folder: Path) -> Path:
    rows = [*map(read_chat, range(40)), *map(read_pair, range(40))]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model).train_new_from_iterator(
        [row.model_dump_json() for row in rows], vocab_size=500
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=4096, tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.copy(tiny_model / "chat_template.jinja", folder)
    return folder


def options(tiny_model: Path, data: Path, out: Path, **more: Any) -> list[str]:
    """Command-line options of a short run; commas in a value make a list."""
    values = {
        "model_name_or_path": tiny_model, "data": data, "output_dir": out, "use_cpu": "true", "bf16": "false",
        "gradient_checkpointing": "false", "max_steps": 4, "per_device_train_batch_size": 2, "logging_steps": 1,
        "learning_rate": 5e-3, "lora_dropout": 0.1, "report_to": "none", "save_strategy": "no", "max_length": 512, **more,
    }  # fmt: skip
    return [part for name, value in values.items() for part in (f"--{name}", *str(value).split(","))]


def six_steps(model: Path, data: Path, out: Path, **more: Any) -> list[str]:
    """A run of six steps over uneven epochs, dropout on, with a checkpoint every second step."""
    short = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 4}
    return options(model, data, out, **{**short, **more})


def eight_steps(model: Path, data: Path, out: Path, *, processes: int = 1, **more: Any) -> list[str]:
    """Eight steps over three uneven epochs; a checkpoint every third step, a line every second, an evaluation every fourth."""
    run = {
        "max_steps": STEPS, "save_strategy": "steps", "save_steps": 3, "logging_steps": 2, "eval_strategy": "steps",
        "eval_steps": 4, "eval_on_start": "true", "per_device_train_batch_size": 4 // processes,
        "per_device_eval_batch_size": 2, **more,
    }  # fmt: skip
    return options(model, data, out, **run)


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(folder) if "loss" in line]


def steps(folder: Path) -> list[int]:
    return [line["step"] for line in read_metrics(folder) if "loss" in line]


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what a clock has measured."""
    return [{name: value for name, value in line.items() if not name.endswith(CLOCK)} for line in read_metrics(folder)]


def adapter_hash(folder: Path) -> str:
    return hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()


def train(
    method: str, arguments: Sequence[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`python train/METHOD.py`, in a child that is forked from this process, in which torch is loaded already."""
    return forked_command(lambda: run_main(lambda: MAIN[method](list(arguments))), cwd=cwd, environment=environment)


def launch_two(script: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a training script in two gloo processes, as a user starts them."""
    launch = [Path(sys.executable).parent / "accelerate", "launch"]
    launch += ["--config_file", ROOT / "configs/accelerate/cpu-2.yaml"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*launch, script, *arguments], capture_output=True, env=environment, text=True)


def forked_two(work: Callable[[], object]) -> list[int]:
    """The exit codes of `work` in two gloo processes, as torchrun starts them. When one dies by a signal, so does the other."""
    return wait_for_all(fork_two(work))


def fork_two(work: Callable[[], object]) -> list[int]:
    """Start `work` in two gloo processes; their process ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def in_rank(rank: int) -> Callable[[], object]:
        def begin() -> object:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()
            return work()

        return begin

    return [fork(in_rank(rank)) for rank in range(2)]
