"""`python -m benchmark capture`: serve, write, and say what was recorded."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import UserError
from core.screen import print_table

if TYPE_CHECKING:
    import uvicorn

    from benchmark.capture.proxy import Proxy, Recording, Upstream

SECONDS_FOR_THE_REST = 10
"""How long answers that have begun may take when the command is to end."""
_LONGEST_LINE_BYTES = 2**20
_ROOT = Path(__file__).parents[2]


def capture_command(
    upstream: Annotated[
        str, typer.Option(help="The server: https, or http on this machine, such as https://api.openai.com/v1.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the records; added to what is there.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 8800,
    redact: Annotated[
        bool, typer.Option("--redact/--no-redact", help="Replace secrets before anything is written.")
    ] = True,
) -> None:
    """Record a working agent: it changes one base URL, and its conversations become chats. Ctrl-C ends it.

    Needs the extra: pip install -e '.[serve]'.

    Example: python -m benchmark capture --upstream https://api.openai.com/v1 --out runs/captured
    """
    try:
        import uvicorn  # noqa: F401, PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is missing: pip install -e '.[serve]'") from None
    from benchmark.capture.proxy import read_upstream  # noqa: PLC0415 - keeps other commands quick

    where = read_upstream(upstream)
    with listen(port) as listening:
        counts = asyncio.run(capture(where, out, listening, redact=redact, tell=lambda line: print(line, flush=True)))
    rows = [(name, counts.get(name, 0)) for name in ("answers", "chats", "trajectories")]
    rows += [(f"in no chat: {reason}", count) for reason, count in counts.get("left_out", {}).items()]
    print_table(("", "recorded"), rows)
    if counts.get("redacted"):
        print("redacted: " + ", ".join(f"{count} {kind}" for kind, count in counts["redacted"].items()))
    print(f"wrote {out}")


def listen(port: int) -> socket.socket:
    """A socket at a port of this machine, seen by nobody else.

    Raises:
        UserError: where the port is taken.
    """
    # Said in full: of a socket without its protocol asyncio does not know that parts are to be sent at once.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as error:
        listening.close()
        raise UserError(f"--port {port}: {error.strerror}; 0 takes a free one") from None
    return listening


async def capture(
    upstream: Upstream,
    out: Path,
    listening: socket.socket,
    *,
    redact: bool,
    tell: Callable[[str], None],
    started: Callable[[uvicorn.Server], None] = lambda server: None,
) -> dict[str, Any]:
    """Serve until a signal asks to end, or `started`'s server is told to; the counts of all that the folder holds.

    Raises:
        UserError: if the folder cannot be written, or another process writes it.
    """
    import httpx  # noqa: PLC0415 - as below
    import uvicorn  # noqa: PLC0415 - an extra

    from benchmark.capture.proxy import Proxy  # noqa: PLC0415 - keeps other commands quick

    async with _writing(out, redact=redact) as (recording, counts):
        # Nothing of this machine's own decides where a request goes or what it holds: no proxies, no .netrc.
        # Many servers close a connection that was idle for five seconds.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=3)
        timeout = httpx.Timeout(None, connect=30)
        async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=timeout, limits=limits) as client:
            proxy = Proxy(upstream, client, recording, listening.getsockname()[1])
            config = uvicorn.Config(
                proxy,
                lifespan="off",
                ws="none",
                log_level="critical",
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=SECONDS_FOR_THE_REST,
            )
            server = _server(config)
            _tell_addresses(proxy, out, tell)
            started(server)
            await server.serve(sockets=[listening])
    return counts


def _server(config: uvicorn.Config) -> uvicorn.Server:
    """A server that ends at a signal, and at the second one at once. uvicorn's own way raises the signal again in the end,
    which would leave the rest unwritten."""
    import uvicorn  # noqa: PLC0415 - an extra

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            yield

    server = Server(config)
    with suppress(RuntimeError, ValueError):  # in another thread than the main one nobody asks by signals
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, server.handle_exit, number, None)
    return server


def _tell_addresses(proxy: Proxy, out: Path, tell: Callable[[str], None]) -> None:
    tell(f"recording what passes on its way to {proxy.upstream.origin} into {out}; Ctrl-C ends it")
    tell(f"  OPENAI_BASE_URL={proxy.base()}{'/v1' if proxy.upstream.has_v1 else ''}")
    tell(f"  ANTHROPIC_BASE_URL={proxy.base()}")


@asynccontextmanager
async def _writing(out: Path, *, redact: bool) -> AsyncIterator[tuple[Recording, dict[str, Any]]]:
    """The process that writes, and the counts that it gives in the end.

    Raises:
        UserError: with what it has to say, where it cannot begin or ends before its time.
    """
    from benchmark.capture.proxy import Recording  # noqa: PLC0415 - keeps other commands quick

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmark.capture.writer", str(out), *(() if redact else ("--no-redact",))),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE_BYTES,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        start_new_session=True,  # Ctrl-C is for this process, which then ends that one
    )
    assert process.stdin is not None and process.stdout is not None
    recording, counts, refused = Recording(process), dict[str, Any](), list[str]()
    ready = asyncio.Event()

    async def hear(lines: asyncio.StreamReader) -> None:
        async for line in lines:
            told = json.loads(line)
            if "failed" in told:
                recording.failed = told["failed"]
                text = "going on" if recording.failed is None else f"nothing can be written: {recording.failed}"
                typer.echo(f"capture: {text}", err=True)
            counts.update(told.get("counts", {}))
            refused.extend([told["refused"]] if "refused" in told else [])
            ready.set()
        if process.stdin is not None and not process.stdin.is_closing():
            recording.failed = "the process that writes has ended"
            typer.echo(f"capture: {recording.failed}", err=True)
        ready.set()

    hearing = asyncio.ensure_future(hear(process.stdout))
    await ready.wait()
    try:
        if not refused and process.returncode is None:
            yield recording, counts
    finally:
        process.stdin.close()
        await hearing
        await process.wait()
    if refused or process.returncode:
        raise UserError(refused[0] if refused else f"{out}: the process that writes ended with {process.returncode}")
