"""run.json: what somebody needs to run it again, and to tell one run from another."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from core.files import write_whole
from data.models import source_sha256
from data.wire import TrainingRun
from train.audit.findings import Finding
from train.model import LoadedModel
from train.outcome import is_main
from train.training_data import TrainingData

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "tooltune")


def resolved(*options: Any) -> dict[str, Any]:
    """All options of a run as one flat, JSON-ready dict."""
    flat: dict[str, Any] = {}
    for option in options:
        values = option.to_dict() if hasattr(option, "to_dict") else asdict(option)
        flat.update(values)
    return json.loads(json.dumps(flat, default=str, sort_keys=True))


def run_settings(
    method: str, everything: dict[str, Any], data: TrainingData, loaded: LoadedModel, training: Any
) -> dict[str, Any]:
    """What decides what is learned: the options, and the contents of data, model and tokenizer."""
    tokenizer = loaded.renderer.tokenizer
    batch = training.per_device_train_batch_size * training.gradient_accumulation_steps * training.world_size
    return {
        "method": method,
        "options": everything,
        "units a step": batch,
        "data": {f"{split}.jsonl": entry for split, entry in data.prepared.manifest["splits"].items()},
        "model": {
            "base": source_sha256(loaded.base, revision=getattr(loaded.model.config, "_commit_hash", None)),
            "adapter": source_sha256(loaded.adapter) if loaded.adapter else None,
            "tokenizer": hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
            "chat template": hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest(),
        },
    }


def provenance() -> dict[str, Any]:
    """Versions, machine and git revision: what somebody needs to run it again."""

    def installed(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    def git(*arguments: str) -> str | None:
        root = Path(__file__).resolve().parents[1]
        try:
            done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    return {
        "command": [*Path(sys.argv[0]).name.split(), *sys.argv[1:]],  # `tooltune sft` is two words
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in PACKAGES}},
        "machine": {"platform": platform.platform(), "processor": platform.machine(), "cpus": os.cpu_count()},
        "git": {"revision": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))},
    }


def start_record(
    method: str,
    settings: dict[str, Any],
    everything: dict[str, Any],
    data: TrainingData,
    loaded: LoadedModel,
    findings: list[Finding],
    *,
    resumed_from: str | None,
    processes: int,
) -> dict[str, Any]:
    """The record of a run that starts now; metrics and the time of its end are added when it is over."""
    return {
        "method": method,
        "settings": settings,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": None,
        "resumed_from": resumed_from,
        "processes": processes,
        **provenance(),
        "options": everything,
        "data": {name: entry for name, entry in data.prepared.manifest.items() if name != "schema_version"},
        "model": {"base": loaded.base, "adapter": loaded.adapter, "sha256": settings["model"]},
        "rows": {split: report.as_dict() for split, report in data.reports.items()},
        "trees": data.trees,
        "audit": [finding.as_dict() for finding in findings],
    }


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a run folder; empty where there is none that can be read."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write run.json, in the main process only."""
    if is_main():
        written = TrainingRun.model_validate(record).model_dump(exclude_unset=True)
        write_whole(folder / "run.json", json.dumps(written, indent=2, ensure_ascii=False, default=str) + "\n")
