"""Part a: what the machine is, and the rates that nothing on it can beat."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import torch
from packaging.requirements import Requirement

from scripts.measure.gpu.report import Finding
from scripts.measure.gpu.setting import ROOT, Setting

NAMES = (
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "triton", "bitsandbytes", "flash-attn", "vllm",
    "deepspeed",
)  # fmt: skip


def versions() -> dict[str, str | None]:
    """Of what matters here; null where it is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in NAMES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def about(setting: Setting) -> dict[str, Any]:
    """The head of the report."""
    name = (
        torch.cuda.get_device_name(0) if setting.cuda else f"{platform.processor() or platform.machine()} (rehearsal)"
    )
    asked = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    try:
        revision = subprocess.run(asked, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        revision = ""
    return {"device": name, "versions": versions(), "revision": revision}


def roof(setting: Setting) -> Iterator[Finding]:
    """Versions against those that are asked for, the card, matrix and copy rates."""
    told = versions()
    yield Finding("a", "versions", "told", _older(told) or "as pyproject.toml asks for", {"versions": told})
    yield _card(setting)
    size = 8192 if setting.cuda else 256
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16} if setting.cuda else {"bf16": torch.bfloat16}
    rates = {name: matrix_rate(setting, dtype, size) for name, dtype in kinds.items()}
    torch.set_float32_matmul_precision("highest")
    rates["fp32"] = matrix_rate(setting, torch.float32, size // 2)
    setting.roof = rates["fp16" if setting.half == torch.float16 else "bf16"]
    line = ", ".join(f"{name} {rate / 1e12:,.3g} TFLOP/s" for name, rate in rates.items())
    yield Finding("a", "matrix rates", "told", line, {"flop_per_second": rates, "roof": setting.roof})
    copied = copy_rate(setting)
    yield Finding(
        "a",
        "copy rate on the device",
        "told",
        f"{copied / 1e9:,.0f} GB/s read and written",
        {"bytes_per_second": copied},
    )


def _older(told: dict[str, str | None]) -> str:
    """What is older than pyproject.toml says, or missing."""
    import tomllib  # noqa: PLC0415 - only here

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {r.name: r.specifier for r in map(Requirement, project["dependencies"])}
    lines = []
    for name, specifier in asked.items():
        there = told.get(name)
        if there and not specifier.contains(there.split("+")[0], prereleases=True):
            lines.append(f"{name} {there} is not {specifier}: tried all the same")
    return "; ".join(lines)


def _card(setting: Setting) -> Finding:
    if not setting.cuda:
        return Finding("a", "device", "told", f"CPU, {os.cpu_count()} cores: a rehearsal with tiny shapes")
    facts = torch.cuda.get_device_properties(0)
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        driver = subprocess.run(asked, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        driver = ""
    figures = {
        "name": facts.name, "count": setting.gpus, "memory_bytes": facts.total_memory,
        "capability": f"{facts.major}.{facts.minor}", "multiprocessors": facts.multi_processor_count, "driver": driver,
        "cuda": torch.version.cuda, "bf16_is_native": setting.half == torch.bfloat16,
    }  # fmt: skip
    half = (
        ""
        if setting.half == torch.bfloat16
        else "; bf16 is only emulated, so fp16 is taken: --bf16 false --fp16 true --dtype float16"
    )
    compiler = "" if _compiler() else "; no C compiler was found, which Triton needs"
    line = (
        f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, capability {facts.major}.{facts.minor}, "
        f"driver {driver or 'unknown'}, CUDA {torch.version.cuda}{half}{compiler}"
    )
    return Finding("a", "card", "told", line, figures)


def _compiler() -> bool:
    import shutil  # noqa: PLC0415 - only here

    return bool(os.environ.get("CC")) or any(shutil.which(name) for name in ("gcc", "clang", "cc"))


def matrix_rate(setting: Setting, dtype: torch.dtype, size: int) -> float:
    """Operations a second of a large matmul, the best of three rounds."""
    left, right = (torch.randn(size, size, device=setting.device).to(dtype) for _ in range(2))
    rounds = 10 if setting.cuda else 2
    left @ right
    seconds = min(setting.seconds_of(lambda: [left @ right for _ in range(rounds)]) for _ in range(3))
    return rounds * 2.0 * size**3 / seconds


def copy_rate(setting: Setting) -> float:
    """Bytes a second that are read and written by a copy from the device's memory to itself."""
    count = 2**29 if setting.cuda else 2**20
    source = torch.zeros(count, dtype=torch.uint8, device=setting.device)
    target = torch.empty_like(source)
    target.copy_(source)
    seconds = min(setting.seconds_of(lambda: [target.copy_(source) for _ in range(4)]) for _ in range(3))
    return 4 * 2.0 * count / seconds


def is_installed(name: str) -> bool:
    """Whether a module can be imported."""
    return find_spec(name) is not None
