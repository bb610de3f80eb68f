"""Tools of an MCP server, started over stdio or reached over HTTP. Whatever it does, a call has one outcome.

The protocol is that of the `mcp` SDK; servers of all its versions are spoken to. Beneath it stands our own transport: it
bounds what a server may say, passes over what is no message, and counts what the server asks of its client.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from typing import Any, cast
from urllib.parse import urlsplit

import anyio
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from pydantic import JsonValue, TypeAdapter, ValidationError

from benchmark.worlds.own.toolsets.http import Refused, bounded_client, check_host
from benchmark.worlds.own.toolsets.mcp_config import McpConnection
from benchmark.worlds.own.toolsets.resetting import reset_shared
from benchmark.worlds.own.toolsets.servers import LOOP, Server, Surroundings
from benchmark.worlds.own.toolsets.toolset import Hints, Reason, ServersFault
from benchmark.worlds.world import ToolResult
from data.records import ToolFunction, ToolSpec

Incoming = MemoryObjectReceiveStream[SessionMessage | Exception]
Outgoing = MemoryObjectSendStream[SessionMessage]

ASKING = ("sampling/createMessage", "elicitation/create", "roots/list")
"""What a server may ask of its client. It is refused: nobody here answers for a person or lends a model."""
PAGES = 100
"""Pages of tools that are asked for."""

_TOOL_RESULT: TypeAdapter[types.CallToolResult | types.InputRequiredResult] = TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)
_MODERN = (types.METHOD_NOT_FOUND, types.UNSUPPORTED_PROTOCOL_VERSION)
"""How a server refuses the handshake that only speaks versions without one."""

_OLDER = (400, 404, 405)
"""How a server that speaks only the older transport, HTTP with SSE, answers a message to its address."""

# What a server gets wrong is told by its fault; the SDK would print it with a traceback, secrets included.
logging.getLogger("mcp").setLevel(logging.CRITICAL)
logging.getLogger("client").setLevel(logging.CRITICAL)


class McpToolset:
    """The tools of one MCP server.

    Raises:
        UserError: its address is not to be asked, or its working directory is not there.
    """

    def __init__(self, connection: McpConnection, around: Surroundings) -> None:
        self.tools: tuple[ToolSpec, ...] = ()
        self.hints: Mapping[str, Hints] = {}
        self.asked_back = 0
        self._connection = connection
        self._around = around
        if connection.url is not None:
            check_host(connection.url, around.place.hosts)
        if connection.command is not None:
            around.working_directory(connection.cwd)
        self._server: Server | None = None
        self._session: ClientSession | None = None
        self._serving: asyncio.Task[None] | None = None
        self._closing: asyncio.Event | None = None
        self._fault: ServersFault | None = None
        self._passed_over = ""
        self._is_older = False

    def open(self) -> None:
        """Start or reach the server, and ask for its tools.

        Raises:
            ServersFault: it does not start, or cannot be understood.
        """
        LOOP.run(self._open())

    def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """What the tool gave back. An error that the server tells is the tool's.

        Raises:
            ServersFault: it gave back nothing that can be read.
        """
        return LOOP.run(self._call(name, arguments))

    def reset(self) -> None:
        """Do what world.yaml says of a server that episodes share.

        Raises:
            ServersFault: it could not be done.
        """
        names = {tool.function.name for tool in self.tools}
        connection = self._connection
        reset_shared(
            self._around, self.call, has_tool=names.__contains__, url=connection.url, headers=connection.headers
        )

    def reward(self) -> float | None:
        return None

    def close(self) -> None:
        LOOP.run(self._close())
        self._around.remove()

    @property
    def log(self) -> str:
        """The end of what the server wrote to standard error."""
        return self._server.log if self._server else ""

    async def _open(self) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._serving = asyncio.ensure_future(self._serve(ready))
        seconds = self._around.place.timeout_s
        try:
            await asyncio.wait_for(asyncio.shield(ready), seconds)
        except TimeoutError:
            text = f"it was not ready within {seconds:g} s{self._seen()}"
            raise self._fault or ServersFault("not_started", text) from None

    def _seen(self) -> str:
        """What else a server did that does not answer: its last words, and what it printed among its messages."""
        said = self._server.said_last() if self._server else ""
        printed = self._around.secrets.hide(self._passed_over)
        return said + (f"; on standard output it wrote what is no message: {printed}" if printed else "")

    async def _serve(self, ready: asyncio.Future[None]) -> None:
        """Hold the connection until it is closed. It is opened and closed in one task, as the SDK wants it."""
        try:
            try:
                await self._converse(ready)
            except Exception:
                refused = self._fault
                if ready.done() or not isinstance(refused, Refused) or refused.status not in _OLDER:
                    raise
                self._is_older, self._fault = True, None
                try:
                    await self._converse(ready)
                except Exception:
                    self._fault = self._fault or refused
                    raise
        except Exception as error:
            fault = await self._fault_of(error)
            self._fault = self._fault or fault
            if not ready.done():
                ready.set_exception(self._fault)
        finally:
            if not ready.done():
                ready.cancel()
            if self._server is not None:
                await self._server.stop()

    async def _converse(self, ready: asyncio.Future[None]) -> None:
        async with AsyncExitStack() as stack:
            read, write = await stack.enter_async_context(self._streams())
            self._session = await stack.enter_async_context(ClientSession(read, write))
            await self._greet(self._session)
            self.tools = await self._list_tools(self._session)
            ready.set_result(None)
            assert self._closing is not None
            await self._closing.wait()

    @staticmethod
    async def _greet(session: ClientSession) -> None:
        try:
            await session.initialize()
        except MCPError as error:
            if error.code not in _MODERN:
                raise
            await session.discover()

    async def _list_tools(self, session: ClientSession) -> tuple[ToolSpec, ...]:
        tools: dict[str, ToolSpec] = {}
        hints: dict[str, Hints] = {}
        cursor, seen = None, set[str]()
        for _ in range(PAGES):
            page = await session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
            for tool in page.tools:
                if tool.name in tools:
                    raise ServersFault("protocol", f"tool {tool.name!r} stands twice in the server's list")
                tools[tool.name] = self._spec(tool)
                hints[tool.name] = _hints(tool.annotations)
            cursor = page.next_cursor
            if cursor is None:
                self.hints = hints
                return tuple(tools.values())
            if cursor in seen:
                raise ServersFault("protocol", "the server's list of tools goes in a circle")
            seen.add(cursor)
        raise ServersFault("protocol", f"the server's list of tools has more than {PAGES} pages")

    def _spec(self, tool: types.Tool) -> ToolSpec:
        hide = self._around.secrets
        function = ToolFunction(
            name=tool.name,
            description=hide.hide(tool.description or ""),
            parameters=hide.hide_in(cast(JsonValue, tool.input_schema)),
        )
        return ToolSpec(function=function)

    async def _call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        seconds = self._around.place.timeout_s
        if self._session is None or self._fault is not None or self._serving is None or self._serving.done():
            raise self._fault or ServersFault("crashed", "the server is not there any more")
        request = types.CallToolRequest(params=types.CallToolRequestParams(name=name, arguments=arguments))
        try:
            with anyio.move_on_after(seconds) as scope:
                result = await self._session.send_request(request, _TOOL_RESULT)
        except MCPError as error:
            if self._fault is None and error.code != types.CONNECTION_CLOSED:
                return ToolResult(error=self._around.secrets.hide(error.message) or f"error {error.code}")
            raise await self._fault_of(error) from None
        except Exception as error:
            raise await self._fault_of(error) from None
        if scope.cancelled_caught:
            raise self._fault or ServersFault("late", f"{name}: no answer within {seconds:g} s{self._seen()}")
        if isinstance(result, types.InputRequiredResult):
            self.asked_back += 1
            return ToolResult(error=f"{name} asks its caller for more than arguments, which is refused")
        return self._result(result)

    def _result(self, result: types.CallToolResult) -> ToolResult:
        output = self._around.secrets.hide_in(result_to_output(result))
        if not result.is_error:
            return ToolResult(output=output)
        return ToolResult(
            error=output if isinstance(output, str) and output.strip() else "the tool failed and says no more"
        )

    async def _fault_of(self, error: Exception) -> ServersFault:
        """What kept the server from answering: what its transport has seen, or what the SDK says of it."""
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, ServersFault):
            return error
        if self._fault is not None:
            return self._fault
        is_closed = isinstance(error, MCPError) and error.code == types.CONNECTION_CLOSED
        if is_closed and self._server is not None:
            self._fault = await self._server.fault_of_ending()
            return self._fault
        reason: Reason = (
            "crashed" if is_closed or not isinstance(error, MCPError | ValidationError | RuntimeError) else "protocol"
        )
        text = self._around.secrets.hide(" ".join(str(error).split())[:300] or type(error).__name__)
        return ServersFault(reason, text)

    @asynccontextmanager
    async def _streams(self) -> AsyncIterator[tuple[Incoming, Outgoing]]:
        """The two streams of a session. What the server asks back is counted on the way."""
        connection, around = self._connection, self._around
        if connection.command is not None and self._server is None:
            cwd = around.working_directory(connection.cwd)
            environment = around.environment(connection.environment)
            self._server = await Server.start(around.command(connection.command, cwd), cwd, environment, around)
        in_send, in_receive = anyio.create_memory_object_stream[SessionMessage | Exception](16)
        if connection.url is None:
            assert self._server is not None
            out_send, out_receive = anyio.create_memory_object_stream[SessionMessage](16)
            tasks = [
                asyncio.ensure_future(self._read_stdio(self._server, in_send)),
                asyncio.ensure_future(_write_stdio(self._server, out_receive)),
            ]
            try:
                yield in_receive, out_send
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            return
        url = connection.url
        if self._server is not None and not self._is_older:
            await self._server.listening(urlsplit(url).port or 80, around.place.timeout_s)
        client = bounded_client(url, connection.headers, self._note)
        is_ours = self._server is not None  # it is ended, and needs no farewell; one that hangs would not take it
        stream = (
            sse_client(url, httpx_client_factory=lambda headers=None, timeout=None, auth=None: client)
            if self._is_older
            else streamable_http_client(
                url, http_client=client, terminate_on_close=not is_ours, max_sse_event_size=None
            )
        )
        async with nullcontext() if self._is_older else client, stream as (read, write):
            relay = asyncio.ensure_future(self._relay(cast(Incoming, read), in_send))
            try:
                yield in_receive, cast(Outgoing, write)
            finally:
                relay.cancel()
                await asyncio.gather(relay, return_exceptions=True)

    def _note(self, fault: ServersFault) -> None:
        """What the transport has seen, before the SDK makes an error of its own of it."""
        told = (
            fault if isinstance(fault, Refused) else ServersFault(fault.reason, self._around.secrets.hide(fault.text))
        )
        self._fault = self._fault or told

    async def _relay(self, read: Incoming, send: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        async with send:
            async for item in read:
                if isinstance(item, SessionMessage):
                    self._count(item.message)
                await send.send(item)

    async def _read_stdio(self, server: Server, send: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        async with send:
            try:
                while line := await server.read_line():
                    messages = _line_to_messages(line)
                    if not messages and line.strip():
                        self._passed_over = self._passed_over or line.strip()[:80].decode("utf-8", "replace")
                    for message in messages:
                        self._count(message)
                        await send.send(SessionMessage(message))
            except ServersFault as fault:
                self._note(fault)

    def _count(self, message: types.JSONRPCMessage) -> None:
        self.asked_back += isinstance(message, types.JSONRPCRequest) and message.method in ASKING

    async def _close(self) -> None:
        if self._serving is None or self._closing is None:
            return
        self._closing.set()
        if self._session is None or self._fault is not None or (not self._serving.done() and not self.tools):
            self._serving.cancel()
        with suppress(Exception, asyncio.CancelledError):
            await asyncio.wait_for(self._serving, 5)


def _line_to_messages(line: bytes) -> list[types.JSONRPCMessage]:
    """The messages of a line; none where it is something else that the server prints.

    Raises:
        ServersFault: it was meant as a message, and cannot be read.
    """
    text = line.strip().removeprefix(b"\xef\xbb\xbf")
    try:
        value = json.loads(text) if text[:1] == b"[" else None
        if isinstance(value, list):  # protocol 2025-03-26 lets several messages stand in one
            return [types.jsonrpc_message_adapter.validate_python(each, by_name=False) for each in value]
        return [types.jsonrpc_message_adapter.validate_json(text, by_name=False)]
    except (ValueError, RecursionError):
        is_answer = b'"id"' in text and (b'"result"' in text or b'"error"' in text)
        if text[:1] == b"{" and (is_answer or b'"jsonrpc"' in text):
            shown = text[:80].decode("utf-8", "replace")
            raise ServersFault("garbled", f"the server wrote a message that cannot be read: {shown}") from None
        return []


async def _write_stdio(server: Server, receive: MemoryObjectReceiveStream[SessionMessage]) -> None:
    async with receive:
        async for item in receive:
            await server.write_line(item.message.model_dump_json(by_alias=True, exclude_unset=True).encode())


def _hints(annotations: types.ToolAnnotations | None) -> Hints:
    if annotations is None:
        return Hints()
    return Hints(annotations.read_only_hint, annotations.destructive_hint, annotations.idempotent_hint)


def result_to_output(result: types.CallToolResult) -> str:
    """Text parts joined by line breaks, else the structured content as compact JSON, else what there is instead.

    Raises:
        ServersFault: the structured content is no JSON.
    """
    texts = [text for part in result.content if (text := _part_to_text(part)) is not None]
    if texts:
        return "\n".join(texts)
    if result.structured_content is not None:
        try:
            return json.dumps(result.structured_content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except ValueError:
            raise ServersFault("garbled", "a result holds a number that JSON cannot hold") from None
    return "\n".join(_part_to_name(part) for part in result.content)


def _part_to_text(part: types.ContentBlock) -> str | None:
    if isinstance(part, types.TextContent):
        return part.text
    if isinstance(part, types.EmbeddedResource) and isinstance(part.resource, types.TextResourceContents):
        return part.resource.text
    return None


def _part_to_name(part: types.ContentBlock) -> str:
    """What stands for a part that is no text: its kind and type, never its bytes."""
    if isinstance(part, types.ImageContent | types.AudioContent):
        return f"[{part.type} {part.mime_type}]"
    if isinstance(part, types.ResourceLink):
        return f"[resource {part.uri}]"
    return f"[{part.type}]"
