"""Small rows for the tests of curation: chats, pairs and trajectories in one line each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data.curation.pipeline import CurateConfig, curate

Turn = tuple[Any, ...]


def messages_of(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """("user", text), ("assistant", text), ("call", name, arguments, result) ... as messages; a result of None stays open."""
    messages: list[dict[str, Any]] = []
    for number, turn in enumerate(turns):
        if turn[0] == "call":
            _, name, arguments, result = turn
            call = {"id": f"c{number}", "name": name, "arguments": arguments}
            messages.append({"role": "assistant", "tool_calls": [call]})
            if result is not None:
                messages.append({"role": "tool", "content": result, "tool_call_id": f"c{number}", "name": name})
        else:
            messages.append({"role": turn[0], "content": turn[1]})
    return messages


def chat(*turns: Turn, id: str = "chat") -> dict[str, Any]:
    return {"messages": messages_of(turns), "id": id, "source": "tests"}


def pair(
    prompt: Sequence[Turn], chosen: Sequence[Turn], rejected: Sequence[Turn], *, id: str = "pair"
) -> dict[str, Any]:
    sides = {"prompt": messages_of(prompt), "chosen": messages_of(chosen), "rejected": messages_of(rejected)}
    return {**sides, "id": id, "source": "tests"}


def trajectory(instruction: str, *calls: tuple[Any, ...], id: str = "trajectory", **changes: Any) -> dict[str, Any]:
    """calls: (command, input, output) or (command, input, None, error)."""
    actions = [
        {
            "command": call[0],
            "input": call[1],
            "output": call[2],
            "error": call[3] if len(call) > 3 else None,
            "start_time": "2026-11-21T09:00:00Z",
            "end_time": "2026-11-21T09:00:01Z",
        }
        for call in calls
    ]
    metadata = {"instruction": instruction, "answer": "Done.", **changes.pop("metadata", {})}
    return {
        "id": id,
        "category": "file-ops",
        "timestamp": "2026-11-21T09:00:00Z",
        "environment": {"name": "files"},
        "tool": "files",
        "action_sequence": actions,
        "outcome": "success",
        "metadata": metadata,
        **changes,
    }


def write_rows(path: Path, rows: Iterable[Any]) -> Path:
    """Rows as JSON Lines; a row that is text already is written as it is."""
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run_steps(
    folder: Path, rows: Iterable[Any], *steps: dict[str, Any], **options: Any
) -> tuple[list[Any], list[Any], Any]:
    """(kept rows, what was dropped, manifest) of some steps over some rows."""
    source = write_rows(folder / "rows.jsonl", rows)
    workers = options.pop("workers", 1)
    config = CurateConfig.model_validate({"inputs": [str(source)], "steps": list(steps), **options})
    manifest = curate(config, out=folder / "out", workers=workers)
    return read_rows(folder / "out/curated.jsonl"), read_rows(folder / "out/dropped.jsonl"), manifest
