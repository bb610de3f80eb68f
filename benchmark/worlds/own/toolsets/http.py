"""HTTP to a user's servers: to the loopback and listed hosts only, never on to another place, within bounds."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from urllib.parse import urlsplit

import httpx2

from benchmark.worlds.own.toolsets.servers import MESSAGE_BYTES
from benchmark.worlds.own.toolsets.toolset import ServersFault
from core.errors import UserError, nearest

EVENT_BYTES = 1 << 20
"""What the SDK's client of the older transport takes in one event."""


def is_loopback(host: str) -> bool:
    """Whether a host of an address is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_host(url: str, hosts: Sequence[str]) -> str:
    """`url`, if it may be asked.

    Raises:
        UserError: no address, or one of a host that is neither the loopback nor listed.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise UserError(f"{url!r} is no address, expected http://HOST:PORT/PATH or https://...")
    if not is_loopback(host) and host not in hosts:
        listed = f"lists {', '.join(hosts)}" if hosts else "lists none"
        raise UserError(
            f"host {host!r}: only the loopback and `hosts:` of world.yaml are asked, which {listed}.{nearest(host, hosts)}"
        )
    return url


def origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    """Scheme, host and port: where a secret header may go."""
    return url.scheme, url.host, url.port


class Refused(ServersFault):
    """A message was answered with a status of HTTP that is an error, and no JSON."""

    def __init__(self, status: int) -> None:
        super().__init__("protocol", f"the server answered HTTP {status}")
        self.status = status


class _Bounded(httpx2.AsyncBaseTransport):
    """A transport that tells what the SDK would hide: redirects elsewhere, failures of HTTP itself, floods of bytes."""

    def __init__(self, url: str, note: Callable[[ServersFault], None]) -> None:
        self._inner = httpx2.AsyncHTTPTransport()
        self._url = httpx2.URL(url)
        self._note = note

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = await self._inner.handle_async_request(request)
        except httpx2.TransportError as error:
            if request.method == "POST":
                self._note(
                    ServersFault(
                        "crashed",
                        f"no connection to {self._url.host}:{self._url.port}: {error or type(error).__name__}",
                    )
                )
            raise
        if "location" in response.headers and 300 <= response.status_code < 400:
            target = self._url.join(response.headers["location"])
            if origin(target) != origin(self._url):
                self._note(ServersFault("elsewhere", f"a redirect to {target.scheme}://{target.host} was refused"))
        elif (
            response.status_code >= 400
            and request.method == "POST"
            and "json" not in response.headers.get("content-type", "")
        ):
            self._note(Refused(response.status_code))
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            self._note(ServersFault("garbled", "the server sent a packed answer, which was not asked for"))
            raise httpx2.DecodingError("a packed answer", request=request)
        inner = response.stream
        assert isinstance(inner, httpx2.AsyncByteStream)
        is_stream = "event-stream" in response.headers.get("content-type", "")
        response.stream = _Counted(
            inner,
            self._note,
            EVENT_BYTES if is_stream and request.method == "GET" else MESSAGE_BYTES,
            is_stream=is_stream,
        )
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Counted(httpx2.AsyncByteStream):
    """A body of at most so many bytes; of a stream, each event."""

    def __init__(
        self, inner: httpx2.AsyncByteStream, note: Callable[[ServersFault], None], most: int, *, is_stream: bool
    ) -> None:
        self._inner = inner
        self._note = note
        self._most = most
        self._is_stream = is_stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        count = 0
        async for piece in self._inner:
            end = max(piece.rfind(b"\n\n"), piece.rfind(b"\n\r\n")) if self._is_stream else -1
            count = len(piece) - end if end >= 0 else count + len(piece)
            if count > self._most:
                self._note(ServersFault("too_large", f"the server sent more than {self._most >> 20} MiB"))
                raise httpx2.ReadError("too large")
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


def bounded_client(url: str, headers: Mapping[str, str], note: Callable[[ServersFault], None]) -> httpx2.AsyncClient:
    """A client for the MCP SDK. What goes wrong beneath the protocol is told to `note`."""
    return httpx2.AsyncClient(
        headers={**headers, "accept-encoding": "identity"},
        transport=_Bounded(url, note),
        timeout=httpx2.Timeout(30, read=None),
        trust_env=False,
    )
