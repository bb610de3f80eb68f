"""`python -m benchmark serve-mcp`: one task's tools for an agent that speaks MCP, over stdin and stdout.

The instruction is the server's instructions, the tools are the task's. Whoever acts is unknown; when the connection ends, in
whatever way, the world is judged as it stands and the episode becomes a record like any other. MCP has no last words, so the
record's answer is null, and a task that is done by words alone cannot be solved this way.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from benchmark.agent.episodes import Episode, Try, close_episode, judge, open_episode, take_turn, try_to_record_id
from benchmark.runs.options import ALL_WORLDS, Trust, choose_worlds
from benchmark.worlds.kinds import Kind
from benchmark.worlds.own.toolsets.toolset import ServersFault
from benchmark.worlds.world import Task, Verdict
from core.errors import UserError, nearest
from core.files import claimed, whole_file
from data.chats import Message, ToolCall
from data.records import Trajectory, read_trajectories
from data.trajectories import output_to_text

if TYPE_CHECKING:
    import mcp_types as types
    from mcp.server.lowlevel import Server

LABEL = "mcp"
"""Who acted, as far as the record's id tells; `metadata.client` names the program where it has named itself."""

Made = TypeVar("Made")


def serve_mcp_command(
    world: Annotated[str, typer.Option(help=f"The task's world: {ALL_WORLDS.replace(',', ', ')}, or ./DIR.")],
    task: Annotated[str, typer.Option(help="The task's id, such as files-train-7-0003.")],
    out: Annotated[Path, typer.Option(help="Where the record goes, JSON Lines; added to what is there.")],
    trust: Trust = False,
) -> None:
    """Serve one task's tools over stdio to an agent that speaks MCP; at disconnect judge the world and write the record.

    Example: python -m benchmark serve-mcp --world files --task files-train-7-0003 --out records.jsonl
    """
    chosen = choose_worlds(world, trust=trust)
    kinds: Mapping[str, Kind] = chosen.kinds
    world = chosen.names[0] if chosen.folders else world
    if world not in kinds:
        raise UserError(f"--world {world}: unknown, expected {', '.join(kinds)}.{nearest(world, kinds)}")
    found = kinds[world].task(task)
    if found is None:
        raise UserError(f"--task {task}: world {world} has no such task; ids are such as {world}-train-7-0003")
    try:
        import mcp.server.stdio  # noqa: F401, PLC0415 - of the extra `tools`, and only needed here
    except ImportError:
        raise UserError("serve-mcp needs the extra 'tools': pip install -c constraints.txt -e '.[tools]'") from None
    with claimed(out):
        before = out.read_bytes() if out.exists() else b""
        attempt = _new_try(found, {record.id for record in read_trajectories(out)} if before else set())
        try:
            record = asyncio.run(_serve(attempt, kinds))
        except ServersFault as fault:
            raise UserError(
                f"no record of {task}: the server that has the tools failed ({fault.reason}): {fault.text}"
            ) from None
        with whole_file(out) as file:
            file.write(before + (b"" if before.endswith(b"\n") or not before else b"\n"))
            file.write(record.to_json().encode() + b"\n")
    score = (record.metadata.model_extra or {})["score"]
    typer.echo(f"wrote {out}: {record.id}, {record.outcome}, score {score:g}", err=True)


def _new_try(task: Task, taken: set[str]) -> Try:
    """A try whose record has an id that is not taken."""
    attempt = Try(task)
    while try_to_record_id(attempt, label=LABEL) in taken:
        attempt = Try(task, sample=(attempt.sample or 0) + 1)
    return attempt


async def _serve(attempt: Try, kinds: Mapping[str, Kind]) -> Trajectory:
    """Serve a try until the client is gone or a signal asks to end; its record."""
    from mcp.server.stdio import stdio_server  # noqa: PLC0415 - of an extra

    loop = asyncio.get_running_loop()
    # The world lives in a thread of its own: it may run an event loop, and its calls come one after the other.
    with ThreadPoolExecutor(1) as thread:

        async def there(function: Callable[[], Made]) -> Made:
            return await loop.run_in_executor(thread, function)

        episode = await there(partial(open_episode, attempt, label=LABEL, kinds=kinds))
        faults: list[ServersFault] = []
        try:
            server = _make_server(episode, there, faults)
            end = _end_stdin_when_asked()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, end)
            async with stdio_server() as (read, write):
                await server.run(read, write, server.create_initialization_options())
        finally:
            verdict = await there(partial(_judge_or_leave, episode, faults))
        return await there(partial(close_episode, episode, verdict))


def _judge_or_leave(episode: Episode, faults: Sequence[ServersFault]) -> Verdict:
    """The verdict; where there is none, the world is left.

    Raises:
        ServersFault: the first one that there was.
    """
    try:
        if faults:
            raise faults[0]
        return judge(episode)
    except BaseException:
        episode.world.__exit__(None, None, None)
        raise


def _end_stdin_when_asked() -> Callable[[], None]:
    """A function that ends stdin. Nothing wakes a thread that waits for a line, so the lines go through a pipe that can end."""
    source = os.dup(0)
    reader, writer = os.pipe()
    os.dup2(reader, 0)
    os.close(reader)

    def pass_on() -> None:
        with suppress(OSError):
            while chunk := os.read(source, 1 << 16):
                while chunk:
                    chunk = chunk[os.write(writer, chunk) :]
        end()

    def end() -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, writer)
        os.close(nowhere)

    threading.Thread(target=pass_on, daemon=True).start()
    return end


def _make_server(
    episode: Episode, there: Callable[[Callable[[], Any]], Any], faults: list[ServersFault]
) -> Server[Any]:
    import mcp_types as types  # noqa: PLC0415 - of an extra
    from mcp.server.lowlevel import Server  # noqa: PLC0415 - as above

    async def list_tools(context: Any, _: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        tools = [
            types.Tool(
                name=tool.function.name,
                description=tool.function.description,
                input_schema=tool.function.parameters,
            )
            for tool in episode.task.tools
        ]
        return types.ListToolsResult(tools=tools)

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        client = context.session.client_params
        named = client and client.client_info
        try:
            text, is_error = await there(partial(_call, episode, params.name, params.arguments or {}, named))
        except ServersFault as fault:
            faults.append(fault)
            text, is_error = f"the tools' own server failed: {fault.text}", True
        return types.CallToolResult(content=[types.TextContent(text=text)], is_error=is_error)

    return Server(
        f"tooltune-{episode.task.world}",
        instructions=episode.task.instruction,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _call(
    episode: Episode, name: str, arguments: dict[str, Any], client: types.Implementation | None
) -> tuple[str, bool]:
    """Make one call in the world; what the client reads, and whether it is an error."""
    if client is not None:
        episode.metadata.__pydantic_extra__["client"] = {"name": client.name, "version": client.version}  # type: ignore[index]
    if not name:
        return "the call has no name", True
    call = ToolCall(id=f"call_{len(episode.actions)}", name=name, arguments=arguments)
    take_turn(episode, Message(role="assistant", tool_calls=(call,)), advise=False, invalid="retry")
    action = episode.actions[-1]
    return (output_to_text(action.output), False) if action.error is None else (action.error, True)
