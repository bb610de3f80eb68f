"""A folder of own tools whose source is played in this process: notes in one JSON file of the state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.worlds.own.folder import read_folder
from benchmark.worlds.own.kind import OwnKind, open_kind
from benchmark.worlds.own.toolsets.toolset import Hints, Place, ServersFault
from benchmark.worlds.world import ToolResult
from data.records import ToolFunction, ToolSpec

_TEXT = {"type": "string"}
TOOLS = {
    "list_notes": {},
    "find_note": {"title": _TEXT},
    "add_note": {"title": _TEXT, "text": _TEXT},
    "change_note": {"id": {"type": "integer"}, "text": _TEXT},
    "delete_note": {"id": {"type": "integer"}},
    "crash": {},
}
WORLD: dict[str, Any] = {
    "name": "notes",
    "tools": [{"mcp": {"command": ["{python}", "server.py"]}}],
    "state": {"dir": "state"},
    "look": [{"name": "list_notes"}],
    "volatile": ["/list_notes/*/at"],
}
TASKS: list[dict[str, Any]] = [
    {
        "id": f"{kind}-{number}",
        "split": "train" if number % 2 else "test",
        "family": kind,
        "shared": ["seed"],
        **(
            {
                "instruction": f"Add a note 'title {number}' that says 'words {number}'.",
                "solution": [
                    {"name": "add_note", "arguments": {"title": f"title {number}", "text": f"words {number}"}}
                ],
            }
            if kind == "add"
            else {
                "instruction": f"Change the note 'seed' to 'changed {number}'.",
                "solution": [
                    {"name": "find_note", "arguments": {"title": "seed"}},
                    {"name": "change_note", "arguments": {"id": {"$from": [0, "/id"]}, "text": f"changed {number}"}},
                ],
            }
        ),
    }
    for number in range(12)
    for kind in ("add", "change")
]


class Notes:
    """The toolset. `starts` counts how many were opened in all."""

    starts = 0
    crashes_left = 0
    """How many calls of any tool crash the server before it behaves."""

    def __init__(self, source: object, place: Place) -> None:
        assert place.state is not None
        self.file = place.state / "notes.json"
        self.tools = tuple(
            ToolSpec(
                function=ToolFunction(
                    name=name,
                    description=name.replace("_", " "),
                    parameters={
                        "type": "object",
                        "properties": given,
                        "required": list(given),
                        "additionalProperties": False,
                    },
                )
            )
            for name, given in TOOLS.items()
        )
        self.hints = {
            "list_notes": Hints(read_only=True),
            "find_note": Hints(read_only=True),
            "delete_note": Hints(destructive=True),
        }
        self.asked_back = 0
        self.is_open = False

    def open(self) -> None:
        type(self).starts += 1
        self.is_open = True

    def reset(self) -> None:
        assert self.is_open

    def reward(self) -> None:
        return None

    def close(self) -> None:
        self.is_open = False

    def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        if name == "crash" or Notes.crashes_left > 0:
            Notes.crashes_left -= name != "crash"
            raise ServersFault("crashed", "it ended")
        notes: list[dict[str, Any]] = json.loads(self.file.read_text(encoding="utf-8"))
        if name == "list_notes":
            return ToolResult(json.dumps(notes))
        if name == "find_note":
            found = [note for note in notes if note["title"] == arguments["title"]]
            return ToolResult(json.dumps(found[0])) if found else ToolResult(error="there is no such note")
        if name == "add_note":
            notes.append({"id": len(notes) + 1, **arguments, "at": Notes.starts})
        elif not (note := next((each for each in notes if each["id"] == arguments["id"]), None)):
            return ToolResult(error=f"there is no note {arguments['id']}")
        elif name == "change_note":
            note["text"] = arguments["text"]
        else:
            notes.remove(note)
        self.file.write_text(json.dumps(notes), encoding="utf-8")
        return ToolResult("ok")


def write_notes(folder: Path, *, tasks: list[dict[str, Any]] | None = None, **world: Any) -> Path:
    """Write the folder."""
    (folder / "state").mkdir(parents=True, exist_ok=True)
    seed = [
        {"id": 1, "title": "seed", "text": "old words", "at": 0},
        {"id": 2, "title": "other", "text": "stays", "at": 0},
    ]
    (folder / "state" / "notes.json").write_text(json.dumps(seed), encoding="utf-8")
    (folder / "world.yaml").write_text(yaml.safe_dump({**WORLD, **world}), encoding="utf-8")
    lines = [json.dumps(task, ensure_ascii=False) + "\n" for task in (TASKS if tasks is None else tasks)]
    (folder / "tasks.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def play_notes(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Have every source played by `Notes`, and keep what is remembered of folders in `home`."""
    monkeypatch.setattr("benchmark.worlds.own.world.source_to_toolset", Notes)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    Notes.starts = Notes.crashes_left = 0


def open_notes(folder: Path, **changes: Any) -> OwnKind:
    """The folder as a kind of world."""
    return open_kind(read_folder(write_notes(folder, **changes)))
