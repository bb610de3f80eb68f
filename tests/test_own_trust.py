"""Nothing of a folder starts until it is trusted, as it is now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.worlds.own.sources import (
    LookupSource,
    McpConfigSource,
    McpServer,
    McpSource,
    PythonSource,
    Reset,
    Source,
    WorldSource,
)
from benchmark.worlds.own.trust import require_trust, trust, what_starts
from core.errors import UserError


@pytest.fixture(autouse=True)
def own_grants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "grants"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "lib").mkdir(parents=True)
    (folder / "state").mkdir()
    for name in ("server.py", "tools.py", "lib/helper.py", "state/data.csv", "tasks.jsonl", "start"):
        (folder / name).write_text("x = 1\n")
    server = {"command": "npx", "args": ["-y", "a\x1b[2Jb"], "env": {"TOKEN": "canary-5f1e"}}
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": {"a": server}}))
    return folder


MCP = McpSource(mcp=McpServer.model_validate({"command": ["{python}", "start"], "env": ["KEY"]}))
CONFIG = McpConfigSource(mcp_config="mcp.json", server="a")


def test_what_would_start_is_shown_and_asked_for_once(folder: Path) -> None:
    sources: list[Source] = [MCP, CONFIG, PythonSource(python="tools.py:Shop")]
    startable = what_starts(folder, sources, hosts=["api.example.com"])
    with pytest.raises(UserError, match="is not trusted yet") as asked:
        require_trust(startable, granted=False)
    text = str(asked.value)
    for line in (
        'command: ["{python}", "start"]',
        'command: ["npx", "-y", "a\\u001b[2Jb"]',
        'command: ["{python}", "tools.py:Shop"]',
        "host: api.example.com",
        "variable: KEY",
        "variable: TOKEN",
        "file: lib/helper.py",
        "file: mcp.json",
        "file: start",
    ):
        assert f"  {line}\n" in text
    assert "canary" not in text and "\x1b" not in text and "--trust" in text
    with pytest.raises(UserError):
        require_trust(startable, granted=False)  # asking grants nothing
    require_trust(startable, granted=True)
    require_trust(startable, granted=False)


@pytest.mark.parametrize(
    "changed", ["server.py", "lib/helper.py", "mcp.json", "start", "check.py", "lib/new.sh", "state/new.py"]
)
def test_another_state_of_the_code_is_asked_for_again(changed: str, folder: Path) -> None:
    sources: list[Source] = [MCP, CONFIG]
    trust(what_starts(folder, sources))
    before = (folder / changed).read_text() if (folder / changed).exists() else ""
    (folder / changed).write_text(before + "\n")
    with pytest.raises(UserError, match="has changed since it was trusted"):
        require_trust(what_starts(folder, sources), granted=False)


def test_other_sources_or_hosts_are_asked_for_again_and_data_are_not(folder: Path) -> None:
    trust(what_starts(folder, [MCP]))
    for name in ("tasks.jsonl", "state/data.csv"):
        (folder / name).write_text("changed")
    require_trust(what_starts(folder, [MCP]), granted=False)
    other = McpSource(mcp=McpServer.model_validate({"command": ["{python}", "start", "--all"], "env": ["KEY"]}))
    for startable in (
        what_starts(folder, [other]),
        what_starts(folder, [MCP], hosts=["elsewhere.example"]),
        what_starts(folder, [MCP], reset=Reset(command=["rm", "x"])),
    ):
        with pytest.raises(UserError, match="has changed"):
            require_trust(startable, granted=False)


def test_what_starts_nothing_needs_no_trust_until_it_has_a_check(folder: Path) -> None:
    sources: list[Source] = [WorldSource(world="files"), LookupSource(lookup="results.jsonl")]
    require_trust(what_starts(folder, sources), granted=False)
    (folder / "check.py").write_text("def check(task, run): return True\n")
    with pytest.raises(UserError, match=r"check\.py"):
        require_trust(what_starts(folder, sources), granted=False)
