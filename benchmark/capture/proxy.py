"""The server between an agent and its model: whatever comes goes on, and what was answered is handed over to be written.

Bytes go on as they come, both ways, but for the headers that belong to one connection. An answer's end is held back until the
process that writes has the exchange, which takes no longer than writing into a pipe.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from benchmark.capture.exchanges import Api, Exchange, api_of
from core.errors import UserError

CONVERSATION_HEADER = "x-conversation-id"
"""A header by which an agent may name the conversation. It goes no further, and only a hash of it is written."""
Headers = list[tuple[bytes, bytes]]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_OF_ONE_CONNECTION = {
    *(
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
    ),
    *(b"transfer-encoding", b"upgrade"),
}
_OURS = {b"host", b"content-length", b"expect", CONVERSATION_HEADER.encode()}
_SECRET_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
_SHORTEST_KEY = 16
"""A shorter one, such as `not-needed`, may be a word."""
_CLOSED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
_REDIRECTS = (301, 302, 303, 307, 308)
_LAST_EVENT = re.compile(
    rb"(?:^|[\r\n])(?:data: ?\[DONE\]|event: ?(?:message_stop|response\.(?:completed|failed|incomplete)))"
)


# --- where it goes ---


@dataclass(frozen=True)
class Upstream:
    """The server that is asked."""

    origin: str
    """Scheme, host and port."""
    path: str
    """What stands before the path of each request."""
    has_v1: bool
    """Whether clients of OpenAI's API put /v1 before it."""


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def read_upstream(url: str) -> Upstream:
    """An address as the user gives it.

    Raises:
        UserError: for one that is no https and not on this machine, or holds a user, a query or a fragment.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UserError(f"--upstream: {error}; expected an address such as https://api.openai.com/v1") from None
    shown = f"{parts.scheme}://{host}"
    if parts.scheme not in ("http", "https") or not host:
        raise UserError("--upstream: expected an address such as https://api.openai.com/v1 or http://127.0.0.1:8000/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UserError(f"--upstream {shown}: a user, a query or a fragment in it; keys stay with the agent")
    if parts.scheme == "http" and not _is_loopback(host):
        raise UserError(f"--upstream {shown}: expected https; http goes to this machine alone")
    named = f"[{host}]" if ":" in host else host
    origin = f"{parts.scheme}://{named}" + (f":{port}" if port is not None else "")
    path = parts.path.rstrip("/")
    has_v1 = path == "" or path.endswith("/v1")
    return Upstream(origin, path.removesuffix("/v1") if has_v1 else path, has_v1)


# --- what is handed over ---


class Recording:
    """The way to the process that writes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        self._to = process.stdin
        # So that `drain` waits until all of it is in the pipe, where it outlives this process.
        self._to.transport.set_write_buffer_limits(0)
        self._one = asyncio.Lock()
        self.failed: str | None = None
        """Why nothing can be written; while it is so, nobody is answered."""

    async def take(self, exchange: Exchange) -> bool:
        """Hand an exchange over; whether that went well."""
        try:
            async with self._one:
                self._to.write(exchange.to_line())
                await self._to.drain()
        except OSError:
            self.failed = "the process that writes has ended"
        return self.failed is None


# --- the server ---


@dataclass
class Proxy:
    """An ASGI application."""

    upstream: Upstream
    client: httpx.AsyncClient
    recording: Recording
    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))

    def base(self) -> str:
        """The address that everything begins with."""
        return f"http://127.0.0.1:{self.port}/{self.token}"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, unless its client is gone before."""
        if scope["type"] != "http":
            return
        headers: Headers = list(scope["headers"])
        if refused := self._refused(scope, headers):
            await _say(send, *refused)
            return
        body = await _body(receive)
        if body is None:
            return
        answering = asyncio.ensure_future(self._answer(scope, headers, body, send))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not answering.done():
                answering.cancel()
            with suppress(asyncio.CancelledError):
                await answering

    def _refused(self, scope: Message, headers: Headers) -> tuple[int, str] | None:
        """Why a request is not for us: another page in a browser may send one, but knows neither host nor token."""
        hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
        own = {f"{host}:{self.port}" for host in ("127.0.0.1", "localhost", "[::1]")}
        if len(hosts) != 1 or hosts[0] not in own:
            return 403, f"expected the host 127.0.0.1:{self.port}"
        for name, value in headers:
            if name == b"origin" and not _is_own_page(value.decode("latin-1")):
                return 403, "not for pages of other sites"
        path: bytes = scope["raw_path"]
        if not secrets.compare_digest(path.split(b"/")[1] if path.count(b"/") else b"", self.token.encode()):
            return 404, "expected the address that was printed at the start, with its token"
        if self.recording.failed is not None:
            return 503, f"nothing can be recorded: {self.recording.failed}"
        return None

    async def _answer(self, scope: Message, headers: Headers, body: bytes, send: Send) -> None:
        path: bytes = scope["raw_path"].partition(self.token.encode())[2]
        asked_at = datetime.now(UTC)
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        url = httpx.URL(self.upstream.origin).copy_with(raw_path=self.upstream.path.encode() + path + query)
        passed = _passed_on(headers, _OURS)
        is_empty = not body and not any(name == b"content-length" for name, _ in headers)
        request = httpx.Request(scope["method"], url, headers=passed, content=None if is_empty else body)
        try:
            try:
                response = await self.client.send(request, stream=True)
            except _CLOSED:  # a kept connection that the server has closed meanwhile, as when it has started again
                response = await self.client.send(request, stream=True)
        except httpx.HTTPError as error:
            await _say(send, 502, f"{self.upstream.origin} did not answer: {type(error).__name__}")
            return
        try:
            if response.status_code in _REDIRECTS:
                await _say(send, 502, f"{self.upstream.origin} redirects to another address, which is not followed")
                return
            api = api_of(scope["method"], path.decode("latin-1").rstrip("/"))
            if api is None:
                await _pass_on(response, send)
            else:
                await _Answer(self.recording, api, asked_at, headers, body, response).pass_on(send)
        finally:
            await response.aclose()


@dataclass
class _Answer:
    """An answer that is recorded while it goes on."""

    recording: Recording
    api: Api
    asked_at: datetime
    headers: Headers
    body: bytes
    response: httpx.Response
    _parts: list[bytes] = field(default_factory=list)
    _is_taken: bool = False

    async def pass_on(self, send: Send) -> None:
        is_stream = self.response.headers.get("content-type", "").startswith("text/event-stream")
        is_whole = False
        try:
            if is_stream:
                await send(_start(self.response))
            before = b""
            async for part in self.response.aiter_raw():
                self._parts.append(part)
                if is_stream:
                    if _LAST_EVENT.search(before[-80:] + part) and not await self._take(is_whole=True):
                        return
                    before = part if len(part) >= 80 else before[-80:] + part
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            is_whole = True
        except httpx.HTTPError:
            pass  # the connection ends without the answer's end, as it did here
        finally:
            # Also when the client has gone: what it was sent until then was answered.
            taken = await asyncio.shield(self._take(is_whole=is_whole)) if is_whole or self._parts else True
        if not is_whole and not is_stream:
            await _say(send, 502, "the answer was broken off")
        elif not taken:
            if not is_stream:
                await _say(send, 503, f"nothing can be recorded: {self.recording.failed}")
        elif is_whole:
            if not is_stream:
                await send(_start(self.response))
            rest = b"" if is_stream else b"".join(self._parts)
            await send({"type": "http.response.body", "body": rest, "more_body": False})

    async def _take(self, *, is_whole: bool) -> bool:
        """Hand over what came, once."""
        if self._is_taken:
            return True
        self._is_taken = True
        told = {name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers}
        conversation = told.get(CONVERSATION_HEADER)
        answered_at = datetime.now(UTC)
        exchange = Exchange(
            id=f"{self.asked_at:%Y%m%dT%H%M%S}-{secrets.token_hex(6)}",
            api=self.api,
            asked_at=self.asked_at,
            answered_at=answered_at,
            status=self.response.status_code,
            request=self.body,
            response=b"".join(self._parts),
            request_encoding=told.get("content-encoding", ""),
            response_encoding=self.response.headers.get("content-encoding", ""),
            is_whole=is_whole,
            conversation=None if conversation is None else hashlib.sha256(conversation.encode()).hexdigest()[:16],
            keys=tuple(_keys_in(told)),
        )
        return await self.recording.take(exchange)


def _keys_in(headers: dict[str, str]) -> list[str]:
    keys = [headers[name].rpartition(" ")[2] for name in _SECRET_HEADERS if name in headers]
    keys += [part.partition("=")[2].strip() for part in headers.get("cookie", "").split(";")]
    return [key for key in keys if len(key) >= _SHORTEST_KEY and any(map(str.isdigit, key))]


def _is_own_page(origin: str) -> bool:
    with suppress(ValueError):
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and _is_loopback(parts.hostname or "")
    return False


def _passed_on(headers: Headers, beside: set[bytes]) -> Headers:
    """Headers without those of one connection, which `Connection` may name more of, and without some more."""
    named = {
        each.strip().lower() for name, value in headers if name.lower() == b"connection" for each in value.split(b",")
    }
    left_out = _OF_ONE_CONNECTION | named | beside
    return [(name, value) for name, value in headers if name.lower() not in left_out]


def _start(response: httpx.Response) -> Message:
    headers = _passed_on(response.headers.raw, set())
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}


async def _pass_on(response: httpx.Response, send: Send) -> None:
    await send(_start(response))
    with suppress(httpx.HTTPError):  # then the connection ends without the answer's end, as it did here
        async for part in response.aiter_raw():
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _say(send: Send, status: int, text: str) -> None:
    """An error of ours, in the shape that clients of both APIs read."""
    error = {"type": "error", "error": {"type": "capture_error", "message": f"capture: {text}"}}
    body = json.dumps(error).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _body(receive: Receive) -> bytes | None:
    """A request's body; null where its client is gone before its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
