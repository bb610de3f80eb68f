"""Sales of shops over HTTP, read-only, with Python's own server: it starts in a tenth of a second.

    python server.py PORT      answers at http://127.0.0.1:PORT with what sales.json beside it holds

openapi.yaml describes it and was written by hand.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

SALES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("sales.json").read_text(encoding="utf-8"))


def answer(address: str) -> tuple[int, Any]:
    """Status and body."""
    asked = urlsplit(address)
    given = {name: values[0] for name, values in parse_qs(asked.query).items()}
    if asked.path == "/stores":
        return 200, [{name: each[name] for name in ("store", "month", "total")} for each in SALES]
    if asked.path != "/report":
        return 404, {"detail": f"no such address: {asked.path}"}
    months = {each["month"]: each for each in SALES if each["store"] == given.get("store")}
    if not months:
        return 404, {"detail": f"no store {given.get('store')!r}; list_stores gives them"}
    found = months.get(int(given["month"])) if given.get("month", "").isdigit() else None
    if found is None:
        return 404, {"detail": f"nothing for this month; there is month {', '.join(map(str, months))}"}
    csv = f"store,orders,total\n{found['store']},{found['orders']},{found['total']}\n"
    return 200, {"total": found["total"], "csv": csv}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status, value = answer(self.path)
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit("usage: python server.py PORT")
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
