"""Tools that are the operations of an HTTP interface, which an OpenAPI document describes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from pydantic import JsonValue

from benchmark.worlds.own.sources import OpenApi, OpenApiSource
from benchmark.worlds.own.toolsets.http import check_host
from benchmark.worlds.own.toolsets.openapi_document import Argument, Operation, json_text, read_operations
from benchmark.worlds.own.toolsets.resetting import reset_shared
from benchmark.worlds.own.toolsets.servers import LOOP, MESSAGE_BYTES, Server, Surroundings
from benchmark.worlds.own.toolsets.toolset import Hints, ServersFault
from benchmark.worlds.world import ToolResult
from core.errors import first_line
from core.json_lines import json_to_object
from data.records import ToolFunction, ToolSpec

REDIRECTS = 5
ERROR_CHARACTERS = 4000
"""What a model reads of an error's body."""

_BASE_URL = "http://127.0.0.1:{port}"


class OpenApiToolset:
    """The operations of one HTTP interface."""

    def __init__(self, source: OpenApiSource, around: Surroundings) -> None:
        self._api: OpenApi = source.openapi
        self._around = around
        self._headers = around.read(self._api.headers)
        given = frozenset(name.lower() for name in self._headers)
        operations = read_operations(around.place.folder, self._api.file, self._api.operations, given)
        self._operations = {operation.name: operation for operation in operations}
        self._environment = around.read(self._api.env)
        self._url = check_host(around.fill(self._api.base_url or _BASE_URL), around.place.hosts).rstrip("/")
        self.tools: tuple[ToolSpec, ...] = tuple(map(_spec, operations))
        self.hints: Mapping[str, Hints] = {operation.name: _hints(operation.method) for operation in operations}
        self.asked_back = 0
        self._server: Server | None = None
        self._client: httpx.AsyncClient | None = None

    def open(self) -> None:
        """Start the server where there is a command, and wait until it answers.

        Raises:
            ServersFault: it does not.
        """
        LOOP.run(self._open())

    def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """What the server answers; a status from 400 on is an error with its body.

        Raises:
            ServersFault: it gives no answer that can be read.
        """
        return LOOP.run(self._call(self._operations[name], arguments))

    def reset(self) -> None:
        """Do what world.yaml says of a server that episodes share.

        Raises:
            ServersFault: it could not be done.
        """
        has_tool = self._operations.__contains__
        reset_shared(self._around, self.call, has_tool=has_tool, url=self._url + "/", headers=self._headers)

    def reward(self) -> float | None:
        return None

    def close(self) -> None:
        LOOP.run(self._close())
        self._around.remove()

    async def _open(self) -> None:
        around, seconds = self._around, self._around.place.timeout_s
        self._client = httpx.AsyncClient(headers=self._headers, trust_env=False, timeout=None, follow_redirects=False)
        if self._api.command is None:
            return
        cwd = around.working_directory(self._api.cwd)
        environment = around.environment(self._environment)
        self._server = await Server.start(around.command(self._api.command, cwd), cwd, environment, around)
        parts = urlsplit(self._url)
        await self._server.listening(parts.port or (443 if parts.scheme == "https" else 80), seconds)
        await self._healthy(seconds)

    async def _healthy(self, seconds: float) -> None:
        """Wait until it answers with anything but 502, 503 or 504, which say that it is not ready yet."""
        assert self._client is not None and self._server is not None
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        if (await self._client.get(self._url)).status_code not in (502, 503, 504):
                            return
                    except httpx.TransportError:
                        if not self._server.is_alive:
                            raise ServersFault("not_started", (await self._server.fault_of_ending()).text) from None
                    await asyncio.sleep(0.05)
        except TimeoutError:
            text = f"the server did not answer within {seconds:g} s{self._server.said_last()}"
            raise ServersFault("not_started", text) from None

    async def _call(self, operation: Operation, arguments: dict[str, Any]) -> ToolResult:
        assert self._client is not None, "not open"
        seconds = self._around.place.timeout_s
        try:
            request = _request(self._client, self._url, operation, arguments)
        except _Wrong as error:
            return ToolResult(error=str(error))
        try:
            async with asyncio.timeout(seconds):
                return await self._sent(request)
        except TimeoutError:
            text = f"{operation.name}: no answer within {seconds:g} s"
            raise ServersFault("late", text + (self._server.said_last() if self._server else "")) from None
        except httpx.DecodingError as error:
            raise ServersFault("garbled", f"{operation.name}: {error}") from None
        except httpx.TransportError as error:
            if self._server is not None and not isinstance(error, httpx.RemoteProtocolError):
                raise await self._server.fault_of_ending() from None
            if self._server is not None and await self._server.exit_code(0.2) is not None:
                raise await self._server.fault_of_ending() from None
            is_garbled = isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in str(error)
            text = self._around.secrets.hide(f"{operation.name}: {error or type(error).__name__}")
            raise ServersFault("garbled" if is_garbled else "crashed", text) from None

    async def _sent(self, request: httpx.Request) -> ToolResult:
        assert self._client is not None
        for _ in range(REDIRECTS + 1):
            response = await self._client.send(request, stream=True)
            try:
                if (following := response.next_request) is not None:
                    if _origin(following.url) != _origin(request.url):
                        host = f"{following.url.scheme}://{following.url.netloc.decode('ascii', 'replace')}"
                        raise ServersFault("elsewhere", f"a redirect to {host} was refused")
                    request = following
                    continue
                body = bytearray()
                async for piece in response.aiter_bytes(1 << 16):
                    body += piece
                    if len(body) > MESSAGE_BYTES:
                        raise ServersFault("too_large", f"an answer of more than {MESSAGE_BYTES >> 20} MiB")
            finally:
                await response.aclose()
            return self._result(response, bytes(body))
        raise ServersFault("protocol", f"more than {REDIRECTS} redirects")

    def _result(self, response: httpx.Response, body: bytes) -> ToolResult:
        value = self._around.secrets.hide_in(_body_to_value(response, body))
        if response.status_code < 400:
            return ToolResult(output=value)
        text = value if isinstance(value, str) else json_text(value)
        return ToolResult(error=f"HTTP {response.status_code}: {text[:ERROR_CHARACTERS]}".rstrip(": "))

    async def _close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
        if self._server is not None:
            await self._server.stop()
            self._server = None


class _Wrong(Exception):
    """Arguments of which no request can be made."""


def _spec(operation: Operation) -> ToolSpec:
    function = ToolFunction(name=operation.name, description=operation.description, parameters=operation.schema)
    return ToolSpec(function=function)


def _hints(method: str) -> Hints:
    if method in ("get", "head", "options", "trace"):
        return Hints(read_only=True, destructive=False, idempotent=True)
    return Hints(read_only=False, destructive=method == "delete", idempotent=method in ("put", "delete"))


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _request(client: httpx.AsyncClient, url: str, operation: Operation, given: dict[str, Any]) -> httpx.Request:
    path, query, headers, cookies = operation.path, list[tuple[str, str]](), dict[str, str](), list[str]()
    body: dict[str, Any] = {}
    for own, value in given.items():
        argument = operation.arguments.get(own) or Argument("body", own)
        if argument.place == "body":
            body[argument.name] = value
        elif value is not None and argument.place == "path":
            path = path.replace("{" + argument.name + "}", _segment(own, value, argument))
        elif value is not None and argument.place == "query":
            query += _query(argument, value)
        elif value is not None:
            text = _joined(argument, value)
            if any(character in text for character in "\r\n\0"):
                raise _Wrong(f"argument {own!r} holds characters that are not allowed")
            if argument.place == "header":
                headers[argument.name] = text
            else:
                cookies.append(f"{argument.name}={quote(text)}")
    if cookies:
        headers["Cookie"] = "; ".join(cookies)
    content: dict[str, Any] = {}
    whole = operation.whole_body
    if whole is not None and whole in given:
        content = _content(operation.media_type or "", given[whole])
    elif body or (operation.media_type is not None and _needs_body(operation)):
        content = _content(operation.media_type or "application/json", body)
    headers |= content.pop("headers", {})
    return client.build_request(
        operation.method.upper(),
        url + path,
        params=tuple(query) or None,
        headers=headers,
        **content,
    )


def _needs_body(operation: Operation) -> bool:
    return operation.whole_body is None and any(each.place == "body" for each in operation.arguments.values())


def _content(media_type: str, value: Any) -> dict[str, Any]:
    if "json" in media_type:
        return {"content": json_text(value).encode(), "headers": {"Content-Type": media_type}}
    if media_type == "application/x-www-form-urlencoded" and isinstance(value, dict):
        return {"data": {name: _plain(inner) for name, inner in value.items()}}
    if media_type == "multipart/form-data" and isinstance(value, dict):
        return {"files": [(name, (None, _plain(inner))) for name, inner in value.items()]}
    text = value if isinstance(value, str) else json_text(value)
    return {"content": text.encode(), "headers": {"Content-Type": media_type}}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value)


def _joined(argument: Argument, value: Any) -> str:
    """A value in one text: items and fields separated by commas."""
    if argument.is_json:
        return json_text(value)
    if isinstance(value, list):
        return ",".join(map(_plain, value))
    if isinstance(value, dict):
        pairs = [(name, _plain(inner)) for name, inner in value.items()]
        return ",".join(f"{name}={inner}" if argument.explode else f"{name},{inner}" for name, inner in pairs)
    return _plain(value)


def _segment(own: str, value: Any, argument: Argument) -> str:
    text = _joined(argument, value)
    if not text:
        raise _Wrong(f"argument {own!r} must not be empty")
    # A segment of dots would lead to another path.
    return (
        quote(text, safe="," if isinstance(value, list | dict) else "") if text.strip(".") else text.replace(".", "%2E")
    )


def _query(argument: Argument, value: Any) -> list[tuple[str, str]]:
    name = argument.name
    if argument.is_json:
        return [(name, json_text(value))]
    if isinstance(value, dict):
        if argument.style == "deepObject":
            return [(f"{name}[{key}]", _plain(inner)) for key, inner in value.items()]
        if argument.explode:
            return [(key, _plain(inner)) for key, inner in value.items()]
        return [(name, ",".join(f"{key},{_plain(inner)}" for key, inner in value.items()))]
    if isinstance(value, list):
        if argument.explode:
            return [(name, _plain(inner)) for inner in value]
        separator = {"spaceDelimited": " ", "pipeDelimited": "|"}.get(argument.style, ",")
        return [(name, separator.join(map(_plain, value)))]
    return [(name, _plain(value))]


def _body_to_value(response: httpx.Response, body: bytes) -> JsonValue:
    """What a body says: JSON as a value, text as it is, of anything else its type and size.

    Raises:
        ServersFault: it says that it is JSON, and is none.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not body:
        return f"HTTP {response.status_code}" if response.status_code < 400 else ""
    if kind == "application/json" or kind.endswith("+json"):
        try:
            value: JsonValue = json_to_object(body.decode("utf-8-sig"))
            return value
        except ValueError as error:
            if response.status_code < 400:
                text = f"an answer that says it is JSON, and is none: {first_line(error)}"
                raise ServersFault("garbled", text) from None
    is_text = (
        kind.startswith("text/")
        or kind in ("", "application/xml", "application/yaml", "application/javascript")
        or "+xml" in kind
    )
    try:
        return body.decode(response.charset_encoding or "utf-8", "strict" if not is_text else "replace")
    except (UnicodeDecodeError, LookupError):
        return f"[{kind}, {len(body)} bytes]"
