"""Small records for tests: a good trajectory, and ways to change it."""

from __future__ import annotations

import copy
from typing import Any

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "read_file",
            "description": "Read a text file.",
            "parameters": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
        },
    },
    {"type": "function", "function": {"name": "list_files", "description": ""}},
]


def action(
    command: str, arguments: Any, *, error: str | None = None, output: Any = None, **more: Any
) -> dict[str, Any]:
    """One action; times are a second apart."""
    return {
        "command": command,
        "input": arguments,
        "output": output,
        "error": error,
        "start_time": "2026-11-21T09:00:00Z",
        "end_time": "2026-11-21T18:00:01+09:00",
        **more,
    }


def record(**changes: Any) -> dict[str, Any]:
    """A successful record: a failed call, its repair, an answer. `changes` replace whole fields; None removes one."""
    row: dict[str, Any] = {
        "id": "files-1",
        "category": "file-ops",
        "timestamp": "2026-11-21T09:00:00Z",
        "environment": {"name": "files", "version": "1"},
        "tool": "files",
        "action_sequence": [
            action("read_file", {"path": "a.txt"}, error="not found: a.txt"),
            action("read_file", {"path": "b/a.txt"}, output="hello"),
        ],
        "outcome": "success",
        "metadata": {"instruction": "What does a.txt say?", "tools": copy.deepcopy(TOOLS), "answer": "It says hello."},
    }
    row.update(changes)
    return {key: value for key, value in row.items() if value is not None}


def with_action(**changes: Any) -> dict[str, Any]:
    """A record with one action, changed."""
    return record(action_sequence=[{**action("read_file", {"path": "a"}), **changes}])


def with_metadata(**changes: Any) -> dict[str, Any]:
    """A record whose metadata is changed."""
    return record(metadata={**record()["metadata"], **changes})
