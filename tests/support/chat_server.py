"""A chat server that answers what a test says, right or wrong, and notes what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], bytes | str]


def chat(
    content: str | None = "Done.", *, calls: list[tuple[str, Any]] | None = None, finish: str = "stop", **more: Any
) -> Answer:
    message: dict[str, Any] = {"role": "assistant", "content": content, **more}
    if calls:
        message["tool_calls"] = [
            {"id": f"x{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for n, (name, arguments) in enumerate(calls)
        ]
    return json_answer({"choices": [{"index": 0, "message": message, "finish_reason": finish}]})


def json_answer(value: Any, status: int = 200, **headers: str) -> Answer:
    return status, {"content-type": "application/json", **headers}, json.dumps(value)


class Fake:
    """A server that answers what `answers` says, in turn and then the last one again, and notes what it was asked."""

    def __init__(self, *answers: Answer | Callable[[dict[str, Any]], Answer], models: Answer | None = None) -> None:
        self.answers, self.asked, self.headers = list(answers), [], []  # type: ignore[var-annotated]
        self.at_once = self.most_at_once = 0
        self.seconds = 0.0
        models = models or json_answer({"data": [{"id": "tiny", "max_model_len": 8192}]})
        lock, fake = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fake.headers.append(dict(self.headers))
                self.send(*(models if self.path == "/v1/models" else json_answer({"detail": "Not Found"}, 404)))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    place = len(fake.asked)
                    fake.asked.append((self.path, body))
                    fake.headers.append(dict(self.headers))
                    fake.at_once += 1
                    fake.most_at_once = max(fake.most_at_once, fake.at_once)
                time.sleep(fake.seconds)
                answer = fake.answers[min(place, len(fake.answers) - 1)]
                with lock:
                    fake.at_once -= 1
                self.send(*(answer(body) if callable(answer) else answer))

            def send(self, status: int, headers: dict[str, str], body: bytes | str) -> None:
                data = body.encode() if isinstance(body, str) else body
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.shutdown()
        self.server.server_close()
