"""How a server that several episodes share is put back to its start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from benchmark.worlds.own.toolsets.http import check_host
from benchmark.worlds.own.toolsets.servers import LOOP, Server, Surroundings
from benchmark.worlds.own.toolsets.toolset import ServersFault
from benchmark.worlds.world import ToolResult


def reset_shared(
    around: Surroundings,
    call: Callable[[str, dict[str, Any]], ToolResult],
    *,
    has_tool: Callable[[str], bool],
    url: str | None,
    headers: dict[str, str],
) -> None:
    """Do what `reset:` of world.yaml says, as far as it is this source's: a command, a call of one of its tools, or a POST.

    Raises:
        ServersFault: it could not be done.
    """
    how = around.place.reset
    if how is None:
        return
    if how.call is not None and has_tool(how.call.name):
        result = call(how.call.name, how.call.arguments)
        if result.error is not None:
            raise ServersFault("broke", f"reset by {how.call.name}: {result.error}")
    elif how.command is not None:
        LOOP.run(_run(how.command, around))
    elif how.post is not None and (url is not None or urlsplit(how.post).scheme):
        _post(check_host(urljoin(url or "", around.fill(how.post)), around.place.hosts), headers, around)


async def _run(command: list[str], around: Surroundings) -> None:
    cwd = around.working_directory(None)
    server = await Server.start(around.command(command, cwd), cwd, around.environment({}), around)
    try:
        server.input.close()
        reading = asyncio.ensure_future(server.discard_output())
        code = await server.exit_code(around.place.timeout_s)
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        if code is None:
            raise ServersFault("late", f"reset: {command[0]} did not end within {around.place.timeout_s:g} s")
        if code:
            raise ServersFault("broke", f"reset: {command[0]} ended with exit code {code}{server.said_last()}")
    finally:
        await server.stop()


def _post(url: str, headers: dict[str, str], around: Surroundings) -> None:
    try:
        with httpx.Client(trust_env=False, timeout=around.place.timeout_s) as client:
            status = client.post(url, headers=headers).status_code
    except httpx.HTTPError as error:
        raise ServersFault("crashed", around.secrets.hide(f"reset: {error or type(error).__name__}")) from None
    if status >= 300:
        raise ServersFault("broke", f"reset: the server answered HTTP {status}")
