"""A server as a command, which needs nothing but Python. It answers each prompt of ids with one sentence.

    python scripted_server.py --port 8000 --model NAME [--slow SECONDS] [--refuse-adapters] --told FILE

What it is asked is written to FILE, a line of JSON each: the path and the body.
"""

from __future__ import annotations

import argparse
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--model", required=True)
parser.add_argument("--told", required=True)
parser.add_argument("--slow", type=float, default=0.0)
parser.add_argument("--refuse-adapters", action="store_true")
options = parser.parse_args()
began = time.monotonic()
served = [options.model]


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def say(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        ready = time.monotonic() - began >= options.slow
        if self.path == "/health":
            self.say(200 if ready else 503, {})
        elif self.path == "/v1/models":
            self.say(200, {"data": [{"id": name, "max_model_len": 8192} for name in served]})
        else:
            self.say(404, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with open(options.told, "a") as file:
            file.write(json.dumps([self.path, body]) + "\n")
        if self.path.endswith("lora_adapter") and options.refuse_adapters:
            self.say(400, {"error": {"message": "LoRA is not enabled"}})
        elif self.path == "/v1/load_lora_adapter":
            served.append(body["lora_name"])
            self.say(200, {})
        elif self.path == "/v1/unload_lora_adapter":
            served.remove(body["lora_name"])
            self.say(200, {})
        elif body["model"] not in served:
            self.say(404, {"error": {"message": f"no model {body['model']}"}})
        else:
            usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": 3}
            choice = {"index": 0, "text": "다 했습니다.", "finish_reason": "stop"}
            self.say(200, {"id": "1", "object": "text_completion", "choices": [choice], "usage": usage})


ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()
