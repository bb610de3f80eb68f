"""Folders of runs for tests, as `python -m benchmark run` leaves them, and models' stages as training writes them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmark.kpis import kpis, kpis_by, pass_hat_k, success_by_context
from data.records import Trajectory, write_trajectories
from support.record_samples import record

PLANTED = """<script>alert(1)</script><img src=x onerror="alert(2)" '&amp;>\u202e\x1b[2J\x00javascript:alert(3)"""


def made(number: int, *, outcome: str = "success", world: str = "files", size: int = 0, **metadata: Any) -> Trajectory:
    """A record of task `t-NUMBER`."""
    row = record(id=f"r-{number}", outcome=outcome)
    row["metadata"] |= {
        "task": {"id": f"t-{number:03}", "world": world, "tier": 1, "language": "en", "facts": {}, "faults": []}
        | {"context_tokens": size},
        "language": "en",
        "score": 1.0,
        "why": "every goal holds",
        "injected": [[0, "not_found"]],
        **metadata,
    }
    return Trajectory.model_validate(row)


def write_run(folder: Path, records: list[Trajectory], **changes: Any) -> Path:
    """A run folder; `changes` replace fields of its kpis.json."""
    write_trajectories(folder / "trajectories.jsonl", records)

    def plain(groups: Any) -> Any:
        return {name: {kpi: asdict(value) for kpi, value in group.items()} for name, group in groups.items()}

    result = {
        "label": folder.name,
        "model": f"models/{folder.name}",
        "model_hash": "abc",
        "weights_sha256": None,
        "split": "test",
        "count": len(records),
        "seed": 1,
        "worlds": "files,api",
        "samples": 1,
        "options": {"max_steps": 12},
        "kpis": {name: asdict(kpi) for name, kpi in kpis(records).items()},
        "pass_hat_k": {
            "1": asdict(pass_hat_k([each for each in records if "task" in (each.metadata.model_extra or {})], 1))
        },
        **{f"by_{part}": plain(kpis_by(records, part)) for part in ("world", "tier", "language")},
        "success_by_context": {size: asdict(kpi) for size, kpi in success_by_context(records).items()},
        "not_applicable": {"window": None, "tries": 0, "tasks": [], "by_context": {}},
        "wall_seconds": 90.0,
        "command": ["python", "-m", "benchmark", "run", "--label", "two words"],
        "versions": {"torch": "2.13.0"},
        "trained_on": None,
        "key": "not shown",
        "trajectories_sha256": hashlib.sha256((folder / "trajectories.jsonl").read_bytes()).hexdigest(),
        **changes,
    }
    (folder / "kpis.json").write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")
    return folder


def sha(text: str) -> str:
    """Some hash."""
    return hashlib.sha256(text.encode()).hexdigest()


def source(
    name: str, rows: int, *, release: str | None = None, content: str | None = None, **by: int
) -> dict[str, Any]:
    """A source as the manifest of a prepared set describes it; `by` is how many rows name which contributor."""
    named = {"name": "tool-records", "version": release, "release_sha256": sha(release)} if release else None
    return {
        "adapter": "trajectory",
        "files": [{"path": f"records/{name}.jsonl", "sha256": sha(content or name), "release": named}],
        "hub": [],
        "licences": ["CC-BY-4.0"],
        "read": rows,
        "kept": rows,
        "kept_by_source": by or {"somebody": rows},
        "dropped": {},
    }


def stage(method: str, name: str, start: str, *sources: dict[str, Any], **options: Any) -> dict[str, Any]:
    """A training that made model `name` from model `start`."""
    rows = sum(each["kept"] for each in sources)
    return {
        "folder": f"models/{name}",
        "sha256": sha(name),
        "method": method,
        "started_from": f"models/{start}",
        "started_sha256": sha(start),
        "finished": "2026-11-20T10:00:00+00:00",
        "data": {
            "kind": "chat",
            "sources": list(sources),
            "splits": {"train": {"rows": rows, "sha256": sha(f"{sources}")}},
            "config": {"seed": 7},
        },
        "options": {"learning_rate": 1e-4, "output_dir": f"models/{name}", **options},
    }
