"""A to-do list as an MCP server: lists, and tasks with a due date, in one SQLite file.

    python server.py FOLDER        todo.db in FOLDER; begun from todo.sql beside it where there is none yet

It is deterministic (ids are counted, no clock is read), keeps everything in that folder, and its errors say what to do next.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import ToolAnnotations

READS = ToolAnnotations(read_only_hint=True)
ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False)
SETS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True)
DELETES = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False)

state: sqlite3.Connection


def open_state(folder: Path) -> sqlite3.Connection:
    """The database of a folder; every statement is committed by itself."""
    path = folder / "todo.db"
    is_new = not path.exists()
    found = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    found.row_factory = sqlite3.Row
    if is_new:
        found.executescript((folder / "todo.sql").read_text(encoding="utf-8"))
    return found


def compact(value: Any) -> str:
    """A result in few tokens."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def names() -> list[str]:
    """All lists."""
    return [row["name"] for row in state.execute("SELECT name FROM lists ORDER BY rowid")]


def check_list(name: str) -> None:
    if name not in names():
        raise ToolError(f"no list {name!r}; there are {', '.join(names())}; create_list makes a new one")


def check_due(due: str) -> None:
    try:
        date.fromisoformat(due)
    except ValueError:
        raise ToolError(f"due {due!r} is no date, expected YYYY-MM-DD") from None


def task(id: int) -> sqlite3.Row:
    found = state.execute("SELECT * FROM tasks WHERE id = ?", (id,)).fetchone()
    if found is None:
        raise ToolError(f"no task {id}; find_tasks gives the ids")
    return found


def shown(row: sqlite3.Row) -> dict[str, Any]:
    """A task without what it has not."""
    told = {"id": row["id"], "list": row["list"], "title": row["title"]}
    return told | ({"due": row["due"]} if row["due"] else {}) | ({"finished": True} if row["finished"] else {})


def show_lists() -> str:
    """Names of all lists."""
    return compact(names())


def find_tasks(text: str) -> str:
    """Tasks whose title contains the text; all if it is empty."""
    rows = state.execute("SELECT * FROM tasks WHERE instr(title, ?) > 0 OR ? = '' ORDER BY id", (text, text))
    return compact([shown(row) for row in rows])


def create_list(name: str) -> str:
    """Make a new list."""
    if not name.strip():
        raise ToolError("a list needs a name")
    if name in names():
        raise ToolError(f"there is a list {name!r} already; use it")
    state.execute("INSERT INTO lists (name) VALUES (?)", (name,))
    return compact({"list": name})


def add_task(list: str, title: str, due: str = "") -> str:
    """Add a task to a list."""
    check_list(list)
    if not title.strip():
        raise ToolError("a task needs a title")
    if due:
        check_due(due)
    if same := state.execute("SELECT id FROM tasks WHERE list = ? AND title = ?", (list, title)).fetchone():
        raise ToolError(f"{list!r} has this task already: it is task {same['id']}")
    made = state.execute("INSERT INTO tasks (list, title, due) VALUES (?, ?, ?)", (list, title, due))
    return compact({"id": made.lastrowid})


def move_task(id: int, list: str) -> str:
    """Move a task to another list."""
    found = task(id)
    check_list(list)
    if found["list"] == list:
        raise ToolError(f"task {id} is in {list!r} already")
    state.execute("UPDATE tasks SET list = ? WHERE id = ?", (list, id))
    return compact(shown(task(id)))


def set_due(id: int, due: str) -> str:
    """Set when a task is due, as YYYY-MM-DD."""
    found = task(id)
    check_due(due)
    if found["finished"]:
        raise ToolError(f"task {id} is finished and needs no date")
    state.execute("UPDATE tasks SET due = ? WHERE id = ?", (due, id))
    return compact(shown(task(id)))


def finish_task(id: int) -> str:
    """Mark a task as finished."""
    if task(id)["finished"]:
        raise ToolError(f"task {id} is finished already")
    state.execute("UPDATE tasks SET finished = 1 WHERE id = ?", (id,))
    return compact(shown(task(id)))


def delete_task(id: int) -> str:
    """Delete a finished task."""
    if not task(id)["finished"]:
        raise ToolError(f"task {id} is not finished; finish_task comes first")
    state.execute("DELETE FROM tasks WHERE id = ?", (id,))
    return compact({"deleted": id})


TOOLS: dict[Callable[..., str], ToolAnnotations] = {
    show_lists: READS,
    find_tasks: READS,
    create_list: ADDS,
    add_task: ADDS,
    move_task: SETS,
    set_due: SETS,
    finish_task: SETS,
    delete_task: DELETES,
}


def function_to_tool(function: Callable[..., str], annotations: ToolAnnotations) -> Tool:
    """A function as a tool. The titles that pydantic invents ("Id" of id) go: they cost every prompt 150 tokens."""
    tool = Tool.from_function(function, annotations=annotations, structured_output=False)
    for schema in (tool.parameters, *tool.parameters["properties"].values()):
        schema.pop("title", None)
    return tool


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python server.py FOLDER")
    state = open_state(Path(sys.argv[1]))
    MCPServer("todo", tools=[function_to_tool(*each) for each in TOOLS.items()], log_level="ERROR").run("stdio")
