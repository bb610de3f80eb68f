"""Sources of tools that start no server: recorded results, and our worlds beside them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.worlds.own.sources import LookupSource, WorldSource
from benchmark.worlds.own.toolsets.opening import source_to_toolset
from benchmark.worlds.own.toolsets.toolset import Place, ServersFault
from core.errors import UserError


def lookup(folder: Path, *rows: object) -> Place:
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Place(folder=folder)


def test_a_lookup_gives_back_what_was_recorded_and_nothing_else(tmp_path: Path) -> None:
    place = lookup(
        tmp_path,
        {"tool": "weather", "arguments": {"city": "서울", "days": 2}, "result": {"sky": "맑음"}},
        {"name": "weather", "arguments": {"city": "Rome"}, "error": "no such city"},
        {"name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}},
        {"name": "now", "arguments": {}, "result": "noon"},
    )
    toolset = source_to_toolset(LookupSource(lookup="results.jsonl"), place)
    weather, now = (tool.function for tool in toolset.tools)
    assert weather.parameters["properties"] == {"city": {"type": "string"}, "days": {"type": "integer"}}
    assert weather.parameters["required"] == ["city"] and now.description == "The time."
    assert toolset.call("weather", {"days": 2.0, "city": "서울"}).output == {"sky": "맑음"}
    assert (
        toolset.call("weather", {"city": "Rome"}).error == "no such city" and toolset.call("now", {}).output == "noon"
    )
    with pytest.raises(ServersFault, match=r'unrecorded: results.jsonl holds no result of weather {"city": "Oslo"}'):
        toolset.call("weather", {"city": "Oslo"})


@pytest.mark.parametrize(
    "rows, words",
    [
        ([{"name": "a", "result": 1}, {"name": "a", "result": 2}], ":2: the call of line 1, with another result"),
        ([{"name": "a", "reslt": 1}], ":1: field 'reslt' is unknown. Did you mean 'result'"),
        ([{"name": "a"}], ":1: expected result or error"),
        ([{"arguments": {}, "result": 1}], ":1: field 'name' must be"),
        ([[1]], ":1: expected an object"),
    ],
)
def test_a_lookup_that_cannot_be_read_is_told(rows: list[object], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        source_to_toolset(LookupSource(lookup="results.jsonl"), lookup(tmp_path, *rows))


def test_our_files_work_on_the_state_of_the_episode(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("안녕", encoding="utf-8")
    toolset = source_to_toolset(WorldSource(world="files"), Place(folder=tmp_path, state=tmp_path))
    toolset.open()
    assert toolset.call("read_file", {"path": "a.txt"}).output == "안녕"
    assert toolset.call("write_file", {"path": "b.txt", "text": "b"}).error is None
    assert "missing" in str(toolset.call("write_file", {"path": "b.txt"}).error)
    assert toolset.call("read_file", {"path": "../../etc/passwd"}).error is not None
    toolset.close()
    assert (tmp_path / "b.txt").read_text() == "b" and toolset.hints["read_file"].read_only


@pytest.mark.parametrize("world", ["files", "web", "api", "code", "other"])
def test_each_world_of_ours_begins_as_a_task_without_faults(world: str, tmp_path: Path) -> None:
    toolset = source_to_toolset(WorldSource(world=world), Place(folder=tmp_path))
    toolset.open()
    try:
        names = [tool.function.name for tool in toolset.tools]
        assert len(names) > 3
        assert "has no argument 'no such'" in str(toolset.call(names[0], {"no such": 1}).error)
    finally:
        toolset.close()
        toolset.close()
    with pytest.raises(UserError, match="Did you mean"):
        source_to_toolset(WorldSource(world=world + "s"), Place(folder=tmp_path))
    with pytest.raises(UserError, match="is no task of"):
        source_to_toolset(WorldSource(world=world, task="nothing"), Place(folder=tmp_path))


def test_without_the_extra_everything_else_works_and_a_folder_says_what_is_missing(tmp_path: Path) -> None:
    code = f"""
import sys
for name in ("mcp", "mcp_types", "httpx2", "openapi_pydantic", "jsonschema", "referencing"):
    sys.modules[name] = None
import benchmark.runs.options, benchmark.runs.record, benchmark.runs.replay, benchmark.runs.own_tools
from pathlib import Path
from benchmark.worlds.own.sources import LookupSource
from benchmark.worlds.own.toolsets.opening import source_to_toolset
from benchmark.worlds.own.toolsets.toolset import Place
source_to_toolset(LookupSource(lookup="results.jsonl"), Place(Path({str(tmp_path)!r})))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "UserError: a folder's own tools need the extra `tools`" in done.stderr, done.stderr
