"""`benchmark serve-mcp`: a task's tools for agents that speak MCP, tried with the SDK's own client over stdio."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmark.agent.episodes import open_episode, run_tasks
from benchmark.agent.policies import Expert
from benchmark.runs.replay import replay
from benchmark.worlds.kinds import make_tasks
from data.contribution.quality import Replay
from data.records import Action, Outcome, Trajectory, read_trajectories
from data.trajectories import output_to_text
from support.commands import Run

ROOT = Path(__file__).resolve().parents[1]
TASK = next(
    task for task in make_tasks(["files"], "train", 40, 7) if task.tier >= 3 and task.language == "ko" and task.faults
)
"""Several calls, a fault on the way."""


def command(out: Path) -> list[str]:
    return ["-m", "benchmark", "serve-mcp", "--world", "files", "--task", TASK.id, "--out", str(out)]


def actions() -> list[Action]:
    """What the expert does, one call after the other."""
    [record] = run_tasks(Expert(), [TASK], label="x", max_steps=40)
    return record.action_sequence


async def session(out: Path, calls: Sequence[tuple[str, Any]]) -> tuple[str, list[str], list[tuple[str, bool]]]:
    """Instructions, tools and results that the SDK's client sees."""
    from mcp import Client, StdioServerParameters  # noqa: PLC0415 - of an extra

    server = StdioServerParameters(command=sys.executable, args=command(out), env={**os.environ}, cwd=ROOT)
    async with Client(server) as client:
        tools = (await client.list_tools()).tools
        assert [tool.input_schema for tool in tools] == [tool.function.parameters for tool in TASK.tools]
        results = [await client.call_tool(name, arguments) for name, arguments in calls]
        read = [("".join(part.text for part in each.content), bool(each.is_error)) for each in results]  # type: ignore[union-attr]
        return str(client.instructions), [tool.name for tool in tools], read


def only(out: Path) -> Trajectory:
    [record] = read_trajectories(out)
    return record


def test_the_experts_calls_solve_the_task_and_the_record_replays(tmp_path: Path) -> None:
    out, done = tmp_path / "records.jsonl", actions()
    instructions, tools, read = asyncio.run(session(out, [(action.command, action.input) for action in done]))
    assert instructions == TASK.instruction and tools == [tool.function.name for tool in TASK.tools]
    assert read == [(action.error or output_to_text(action.output), action.error is not None) for action in done]
    record = only(out)
    assert record.outcome is Outcome.SUCCESS and record.metadata.answer is None
    assert [(each.command, each.input, each.output, each.error) for each in record.action_sequence] == [
        (each.command, each.input, each.output, each.error) for each in done
    ]
    assert (record.metadata.model_extra or {})["client"]["name"]
    again = replay(record)
    assert isinstance(again, Replay) and again.ok, again

    # Left half done: a second record beside the first, with an id of its own and the state as it was left.
    half = [("no_such_tool", {"이름": "값"}), *((action.command, action.input) for action in done[:1])]
    _, _, [wrong, _] = asyncio.run(session(out, half))
    assert wrong[1] and "unknown tool 'no_such_tool'" in wrong[0]
    first, second = read_trajectories(out)
    assert first == record and second.id == f"{TASK.id}-mcp-s1"
    with open_episode(TASK, label="x").world as world:
        world.call(*half[0])
        world.call(*half[1])
        verdict = world.verdict()
    assert second.outcome is verdict.outcome is not Outcome.SUCCESS
    assert (second.metadata.model_extra or {})["score"] == verdict.score and len(second.action_sequence) == 2


INITIALIZE = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "옛것", "version": "0.1"}},
}  # fmt: skip


@pytest.mark.parametrize("end", ["vanishes", "terminated", "talks nonsense"])
def test_a_client_that_vanishes_leaves_a_record_of_what_it_did(end: str, tmp_path: Path) -> None:
    out, temporary = tmp_path / "records.jsonl", tmp_path / "tmp"
    temporary.mkdir()
    first = actions()[0]
    lines: list[dict[str, Any]] = [
        INITIALIZE,
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": first.command, "arguments": first.input},
        },
    ]
    server = subprocess.Popen(
        [sys.executable, *command(out)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=ROOT, env={**os.environ, "TMPDIR": str(temporary)},
    )  # fmt: skip
    assert server.stdin is not None and server.stdout is not None and server.stderr is not None
    for line in lines:
        server.stdin.write(json.dumps(line).encode() + b"\n")
    server.stdin.flush()
    answers = [json.loads(server.stdout.readline()) for _ in range(2)]
    assert answers[0]["result"]["instructions"] == TASK.instruction and answers[1]["id"] == 2
    if end == "vanishes":
        # Nobody reads and nobody writes any more, in the middle of a line.
        server.stdin.write(b'{"jsonrpc": "2.0", "id": 3, "meth')
        server.stdin.flush()
        server.stdout.close()
        server.stdin.close()
    elif end == "talks nonsense":
        server.stdin.write(b"hello\n\xff\xfe\n[]\n")
        server.stdin.close()
    else:
        server.send_signal(signal.SIGTERM)
    told = server.stderr.read().decode()
    assert server.wait(timeout=20) == 0, told
    assert "Traceback" not in told and f"wrote {out}" in told
    record = only(out)
    assert [action.command for action in record.action_sequence] == [first.command]
    assert (record.metadata.model_extra or {})["client"] == {"name": "옛것", "version": "0.1"}
    assert not list(temporary.iterdir()) and not list(tmp_path.glob(".*"))


def test_a_client_that_is_killed_leaves_a_record(tmp_path: Path) -> None:
    out = tmp_path / "records.jsonl"
    code = (
        "import asyncio, os, sys\n"
        "from mcp import Client, StdioServerParameters\n"
        "async def main():\n"
        "    server = StdioServerParameters(command=sys.executable, args=sys.argv[1:], env={**os.environ})\n"
        "    async with Client(server) as client:\n"
        "        await client.call_tool('list_folder', {'path': ''})\n"
        "        os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    client = subprocess.run([sys.executable, "-c", code, *command(out)], cwd=ROOT, capture_output=True, timeout=60)
    assert client.returncode == -9
    deadline = time.monotonic() + 20
    while not out.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [action.command for action in only(out).action_sequence] == ["list_folder"]


@pytest.mark.parametrize(
    ("world", "task", "told"),
    [
        ("fles", "files-train-7-0003", "Did you mean 'files'"),
        ("files", "files-train-7", "world files has no such task"),
        ("files", "api-train-7-0003", "world files has no such task"),
        ("files", "files-train-7-0003", "records.jsonl:1"),
    ],
)
def test_mistakes_are_told_before_anything_is_served(
    run_app: Run, tmp_path: Path, world: str, task: str, told: str
) -> None:
    (tmp_path / "records.jsonl").write_text("{}\n")
    bench = partial(run_app, "benchmark")
    code, _, err = bench("serve-mcp", "--world", world, "--task", task, "--out", tmp_path / "records.jsonl")
    assert code == 2 and told in err and (tmp_path / "records.jsonl").read_text() == "{}\n"
