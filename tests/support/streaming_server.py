"""A server of models that answers what a test says, in parts where it is a stream, and notes what it was asked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Reply(NamedTuple):
    """An answer. Of several parts it is a stream, one that is broken off where it does not end well."""

    parts: Sequence[bytes]
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)
    is_broken: bool = False
    wait: Callable[[int], None] = lambda place: None
    """Called before each part, with its place."""


def as_json(value: Any, **more: Any) -> Reply:
    """An answer in one piece."""
    return Reply([json.dumps(value, ensure_ascii=False).encode()], **more)


def as_events(events: Iterable[Any], *, named: bool = False, done: bool = True, **more: Any) -> Reply:
    """A stream of server-sent events."""
    parts = [
        (f"event: {event['type']}\n" if named else "").encode()
        + b"data: "
        + json.dumps(event, ensure_ascii=False).encode()
        + b"\n\n"
        for event in events
    ]
    parts += [b"data: [DONE]\n\n"] if done else []
    return Reply(parts, headers=(("Content-Type", "text/event-stream; charset=utf-8"),), **more)


Answer = Callable[[str, Any], Reply]


class Scripted:
    """Serves on a port of 127.0.0.1 until its block ends. `asked` are paths, headers and bodies."""

    def __init__(self, answer: Answer, port: int = 0) -> None:
        self.asked: list[tuple[str, list[tuple[str, str]], bytes]] = []
        self._connections: list[socket.socket] = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                scripted._connections.append(self.connection)

            def do_GET(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                scripted.asked.append((self.path, list(self.headers.items()), body))
                try:
                    value = json.loads(body)
                except ValueError:
                    value = None
                self.reply(answer(self.path, value))

            def reply(self, reply: Reply) -> None:
                is_stream = len(reply.parts) > 1
                self.send_response_only(reply.status)
                for name, text in reply.headers:
                    self.send_header(name, text)
                if is_stream:
                    self.send_header("Transfer-Encoding", "chunked")
                else:
                    self.send_header("Content-Length", str(sum(map(len, reply.parts))))
                self.end_headers()
                self.wfile.flush()
                try:
                    for place, part in enumerate(reply.parts):
                        reply.wait(place)
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if is_stream else part)
                    if reply.is_broken:
                        self.close_connection = True
                        self.connection.close()
                    elif is_stream:
                        self.wfile.write(b"0\r\n\r\n")
                except OSError:
                    self.close_connection = True

            def log_message(self, *arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def end(self) -> None:
        """Close the port and all connections."""
        self.server.shutdown()
        self.server.server_close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
