"""What an episode on a user's own MCP server costs, against starting that server as often and making the same calls alone.

    python scripts/measure/own_tools.py examples/todo-mcp --episodes 20 --reps 5
    python scripts/measure/own_tools.py DIR --episodes 200 --reps 5 --trust --out own-tools.json

Both sides run in one process, in turn. Ours is what `benchmark run` does with the expert: state copied, server started, calls
checked and made, state looked at and judged, record written down. The bare side starts the same command with the SDK's own
client on a copy of the state that is there already, asks for the tools and makes the calls of our records, those of `setup`
and `look` included. What is made once for a task (the state after its solution) is made before.

Exit codes: 0 at most --limit times as long, 1 more, 2 a mistake that a message names.
"""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mcp import Client, StdioServerParameters

from benchmark.agent.episodes import run_tasks
from benchmark.agent.policies import Expert
from benchmark.worlds.own.folder import read_folder
from benchmark.worlds.own.kind import OwnKind, open_kind
from benchmark.worlds.own.sources import McpSource
from benchmark.worlds.own.toolsets.servers import Surroundings
from benchmark.worlds.own.toolsets.toolset import Place
from benchmark.worlds.own.trust import require_trust, what_starts
from benchmark.worlds.world import Task
from core.command_line import Parser
from core.errors import UserError
from data.records import Trajectory

Calls = list[tuple[str, dict[str, Any]]]


class Spent(NamedTuple):
    """By the clock, and by processors: this process and all that it waited for."""

    seconds: float
    cpu_seconds: float

    @staticmethod
    def so_far() -> Spent:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return Spent(time.perf_counter(), sum(each.ru_utime + each.ru_stime for each in used))

    def since(self, start: Spent) -> Spent:
        return Spent(self.seconds - start.seconds, self.cpu_seconds - start.cpu_seconds)


def run_ours(kind: OwnKind, tasks: Sequence[Task]) -> tuple[Spent, list[Trajectory]]:
    """What the expert's episodes take, and their records."""
    start = Spent.so_far()
    records = list(run_tasks(Expert(), tasks, label="expert", kinds={kind.name: kind}, live=1))
    return Spent.so_far().since(start), records


def run_bare(kind: OwnKind, source: McpSource, episodes: Sequence[Calls]) -> Spent:
    """What the same calls take through the SDK alone. Copies of the state are made and removed while the clock stands."""
    total = Spent(0, 0)
    for calls in episodes:
        with tempfile.TemporaryDirectory() as folder:
            state = None
            if kind.folder.world.state is not None:
                state = Path(shutil.copytree(kind.folder.path / kind.folder.world.state.dir, Path(folder) / "state"))
            around = Surroundings(Place(kind.folder.path, state), "world.yaml")
            cwd = around.working_directory(source.mcp.cwd)
            command = around.command(source.mcp.command or (), cwd)
            environment = around.environment(around.read(source.mcp.env))
            start = Spent.so_far()
            asyncio.run(_make(command, str(cwd), environment, calls))
            spent = Spent.so_far().since(start)
            total = Spent(total.seconds + spent.seconds, total.cpu_seconds + spent.cpu_seconds)
            around.remove()
    return total


async def _make(command: list[str], cwd: str, environment: dict[str, str], calls: Calls) -> None:
    parameters = StdioServerParameters(command=command[0], args=command[1:], cwd=cwd, env=environment)
    async with Client(parameters) as client:
        await client.list_tools()
        for name, arguments in calls:
            await client.call_tool(name, arguments)


def calls_of(kind: OwnKind, task: Task, record: Trajectory) -> Calls:
    """What an episode asked its server: setup, the expert's calls that were not struck, and the looks of the judge."""
    row = kind.rows[task.id]
    reached = [action for action in record.action_sequence if action.command in kind.origins and action.error is None]
    made = [(action.command, dict(action.input)) for action in reached]
    outer = [(call.name, dict(call.arguments)) for call in row.setup]
    looks = [(call.name, dict(call.arguments)) for call in kind.folder.world.look]
    return [*outer, *made, *looks]


def main(arguments: Sequence[str]) -> int:
    parser = Parser(prog="own_tools.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--limit", type=float, default=1.25)
    parser.add_argument("--trust", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    folder = read_folder(options.folder)
    sources = folder.world.tools
    if (
        len(sources) != 1
        or not isinstance(sources[0], McpSource)
        or sources[0].mcp.command is None
        or sources[0].mcp.url
    ):
        raise UserError(f"{options.folder}: expected one source, an MCP server over stdio")
    require_trust(what_starts(folder.path, sources), options.trust)
    kind = open_kind(folder)
    tasks = kind.tasks("train", options.episodes, 0)
    for task in tasks:
        kind.expected(kind.rows[task.id])
    _, records = run_ours(kind, tasks)  # not counted: what is loaded once is loaded now
    episodes = [calls_of(kind, task, record) for task, record in zip(tasks, records, strict=True)]
    ours: list[Spent] = []
    bare: list[Spent] = []
    for _ in range(options.reps):
        ours.append(run_ours(kind, tasks)[0])
        bare.append(run_bare(kind, sources[0], episodes))
    ratio, cpu_ratio = (
        statistics.median(spent[place] for spent in ours) / statistics.median(spent[place] for spent in bare)
        for place in (0, 1)
    )
    result = {
        "episodes": len(tasks),
        "calls": sum(map(len, episodes)),
        "successes": sum(record.outcome.value == "success" for record in records),
        "ours": [spent._asdict() for spent in ours],
        "bare": [spent._asdict() for spent in bare],
        "ratio": round(ratio, 3),
        "cpu_ratio": round(cpu_ratio, 3),
    }
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if ratio <= options.limit else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
