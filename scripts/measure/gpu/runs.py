"""Parts f and i: whole runs of train/sft.py as processes. One is killed and goes on; several share the work."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from core.processes import last_line
from data.sets.build import BuildConfig, build
from scripts.measure.gpu.report import Finding
from scripts.measure.gpu.roof import is_installed
from scripts.measure.gpu.setting import ROOT, Setting, save_model
from scripts.measure.step_speed import made_chat
from train import sft
from train.fit import read_metrics
from train.outcome import run_main

ADAPTER = "adapter_model.safetensors"
STEPS, SAVE_STEPS = 30, 5
BOUND = 1e-2
"""Of the losses of several processes against one; bf16 adds up in another order."""
SECONDS = 240.0
"""After this a run is taken to hang."""


class Process:
    """A run of train/sft.py: of its own on a card; forked from this process on a CPU, where that is quick."""

    def __init__(self, setting: Setting, arguments: Sequence[str], log: Path, launcher: Sequence[str] = ()) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        if launcher and setting.cuda:
            environment.pop("CUDA_VISIBLE_DEVICES", None)
            environment |= {} if setting.shown_gpus is None else {"CUDA_VISIBLE_DEVICES": setting.shown_gpus}
        command = [sys.executable, *launcher, str(ROOT / "train" / "sft.py"), *arguments]
        self._forked: Any = None
        self._own: subprocess.Popen[bytes] | None = None
        if setting.cuda or launcher:
            with open(log, "ab") as file:
                self._own = subprocess.Popen(command, stdout=file, stderr=file, env=environment, cwd=ROOT)
        else:
            self._forked = multiprocessing.get_context("fork").Process(target=_in_fork, args=(arguments, log))
            self._forked.start()

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self._own.poll() is not None if self._own else not self._forked.is_alive()

    def kill(self) -> None:
        """As the system does."""
        os.kill(self._own.pid if self._own else self._forked.pid, signal.SIGKILL)

    def wait(self, seconds: float) -> int:
        """Its exit code; below zero the signal that ended it. After `seconds` it is killed."""
        deadline = time.monotonic() + seconds
        while not self.ended:
            if time.monotonic() > deadline:
                self.kill()
            time.sleep(0.02)
        if self._own:
            return int(self._own.wait())
        self._forked.join()
        return int(self._forked.exitcode)


def _in_fork(arguments: Sequence[str], log: Path) -> None:
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    run_main(lambda: sft.main(list(arguments)))


def _prepare(setting: Setting) -> tuple[Path, Path]:
    """(model folder, prepared set)."""
    shape = setting.short_shape
    shape.vocab_size = max(shape.vocab_size, len(setting.tokenizer))
    model = save_model(setting, shape, setting.half if setting.cuda else torch.float32, setting.folder / "model")
    data = setting.folder / "chats"
    if not data.exists():
        source = setting.folder / "chats.jsonl"
        chats = [made_chat(number, 2, words=4) for number in range(24)]
        source.write_text("".join(chat.model_dump_json() + "\n" for chat in chats), encoding="utf-8")
        build(BuildConfig.model_validate({"sources": [{"adapter": "chats", "path": str(source)}]}), out=data)
    return model, data


def _arguments(setting: Setting, out: Path, **more: Any) -> list[str]:
    model, data = _prepare(setting)
    half = setting.half if setting.cuda else None
    values = {
        "model_name_or_path": model, "data": data, "output_dir": out, "use_cpu": not setting.cuda,
        "bf16": half == torch.bfloat16, "fp16": half == torch.float16,
        "dtype": "float32" if half is None else str(half).removeprefix("torch."),
        "gradient_checkpointing": False, "max_steps": STEPS, "save_strategy": "steps", "save_steps": SAVE_STEPS,
        "per_device_train_batch_size": 2, "logging_steps": 1, "learning_rate": 1e-3, "lora_dropout": 0.1, "report_to": "none",
        **more,
    }  # fmt: skip
    words = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}
    return [part for name, word in words.items() for part in (f"--{name}", word)]


def kill_and_resume(setting: Setting) -> Iterator[Finding]:
    """An unbroken run against one that SIGKILL ends and that goes on; with --deterministic to the same bytes."""
    kinds = {"with --deterministic": True, "without": False}
    whole, broken = {}, {}
    for name, deterministic in kinds.items():  # all at once on a card
        whole[name] = _begin(setting, f"whole {deterministic}", deterministic)
        if not setting.cuda:
            whole[name].wait(SECONDS)
        broken[name] = _begin(setting, f"broken {deterministic}", deterministic)
        if not setting.cuda:
            _kill_after_a_checkpoint(broken[name], setting.folder / f"broken {deterministic}")
    for name, deterministic in kinds.items():
        about = f"killed and resumed, {name}"
        folders = [setting.folder / f"{kind} {deterministic}" for kind in ("whole", "broken")]
        if setting.cuda:
            _kill_after_a_checkpoint(broken[name], folders[1])
        was_killed = broken[name].wait(SECONDS) == -signal.SIGKILL
        if (code := whole[name].wait(SECONDS)) != 0:
            yield Finding("f", about, "broken", f"the unbroken run ended with {code}: {last_line(whole[name].log)}")
            continue
        again = _begin(setting, f"broken {deterministic}", deterministic)
        if (code := again.wait(SECONDS)) != 0:
            yield Finding("f", about, "broken", f"the resumed run ended with {code}: {last_line(again.log)}")
            continue
        yield _same(about, *folders, deterministic=deterministic, was_killed=was_killed)


def _begin(setting: Setting, name: str, deterministic: bool) -> Process:
    out = setting.folder / name
    more = {"deterministic": True} if deterministic else {}
    return Process(setting, _arguments(setting, out, **more), setting.folder / f"{name}.log")


def _kill_after_a_checkpoint(process: Process, folder: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not process.ended and time.monotonic() < deadline:
        if (folder / f"checkpoint-{SAVE_STEPS}").exists():
            process.kill()
            return
        time.sleep(0.01)


def _same(about: str, whole: Path, broken: Path, *, deterministic: bool, was_killed: bool) -> Finding:
    one, other = (load_file(folder / ADAPTER) for folder in (whole, broken))
    apart = max(float((one[name].float() - other[name].float()).abs().max()) for name in one)
    hashes = [hashlib.sha256((folder / ADAPTER).read_bytes()).hexdigest() for folder in (whole, broken)]
    equal = hashes[0] == hashes[1]
    line = "equal bytes" if equal else f"the largest difference of a weight is {apart:.2g}"
    figures = {"equal_bytes": equal, "largest_difference": apart, "was_killed": was_killed}
    if not was_killed:
        return Finding("f", about, "told", f"it ended before it could be killed; {line}", figures)
    return Finding("f", about, ("right" if equal else "wrong") if deterministic else "told", line, figures)


def several(setting: Setting) -> Iterator[Finding]:
    """The same steps by two processes as by one, each way of sharing the work; on a CPU two with gloo."""
    count = setting.gpus if setting.cuda else 2
    ways = ["ddp", "fsdp2", "zero3"] if setting.cuda else ["cpu-2"]
    if count < 2:
        yield Finding("i", "DDP, FSDP2, ZeRO-3, NCCL", "not run", "needs two GPUs, this machine shows one")
        return
    more = {"max_steps": 6, "save_strategy": "no", "lora_dropout": 0.0}
    alone = Process(
        setting, _arguments(setting, setting.folder / "one", **{**more, "per_device_train_batch_size": 4}),
        setting.folder / "one.log",
    )  # fmt: skip
    if (code := alone.wait(SECONDS)) != 0:
        yield Finding("i", "one process", "broken", f"ended with {code}: {last_line(alone.log)}")
        return
    expected = _losses(setting.folder / "one")
    for way in ways:
        about = f"two processes, {way}"
        if way == "zero3" and not is_installed("deepspeed"):
            yield Finding("i", about, "not run", "deepspeed is not installed")
            continue
        if setting.clock.left < (40 if setting.cuda else 0):
            yield Finding("i", about, "not run", "no time was left")
            continue
        launcher = [
            *(
                "-m",
                "accelerate.commands.launch",
                "--config_file",
                str(ROOT / "configs" / "accelerate" / f"{way}.yaml"),
            ),
            *("--num_processes", "2", "--main_process_port", "0"),
        ]
        run = Process(
            setting, _arguments(setting, setting.folder / way, **more), setting.folder / f"{way}.log", launcher
        )
        if (code := run.wait(SECONDS)) != 0:
            yield Finding("i", about, "broken", f"ended with {code}: {last_line(run.log)}")
            continue
        apart = max(abs(one - two) for one, two in zip(expected, _losses(setting.folder / way), strict=True))
        yield Finding(
            "i", about, "right" if apart <= BOUND else "wrong",
            f"losses of six steps within {apart:.1e} of one process's; bound {BOUND:g}", {"largest_difference": apart},
        )  # fmt: skip


def _losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(folder) if "loss" in line]
