"""Nothing outside is needed: with wandb or the hub down a run finishes, and one line says so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from support.training import options, train

ROOT = Path(__file__).resolve().parents[1]
NOBODY = "http://127.0.0.1:9"  # the discard port: a connection is refused


def environment(**more: str) -> dict[str, str]:
    """This one without what names a hub or wandb."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "HF_"))}
    return kept | {"HF_HUB_OFFLINE": "1", "WANDB_API_KEY": "0" * 40} | more


@pytest.fixture
def refusing() -> Iterator[str]:
    """A server that answers, and refuses everything."""

    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"errors": [{"message": "refused"}], "error": "refused"}'
            self.send_response(200 if self.path == "/" else 401)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize("down", ["refuses connections", "refuses the key"])
def test_a_run_with_wandb_down_finishes_and_is_kept_offline(
    down: str, refusing: str, minute_model: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    url = NOBODY if down == "refuses connections" else refusing
    arguments = options(minute_model, sets["chats"], out, max_steps=1, wandb="online")
    done = train("sft", arguments, environment=environment(WANDB_BASE_URL=url))
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stderr.splitlines() if "`wandb sync` sends it later" in line]) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert list(out.glob("wandb/offline-run-*"))
    assert json.loads((out / "status.json").read_text())["status"] == "finished"


def test_with_the_hub_down_a_cached_model_is_taken_and_one_line_says_so(
    tiny_model: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    repository = tmp_path / "hub" / "models--somebody--tiny"
    shutil.copytree(tiny_model, repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    away = environment(HF_ENDPOINT=NOBODY, HF_HUB_CACHE=str(tmp_path / "hub"), HF_HUB_OFFLINE="0")
    out = tmp_path / "run"
    command = [
        sys.executable,
        ROOT / "train" / "sft.py",
        *options(Path("somebody/tiny"), sets["chats"], out, max_steps=1),
    ]
    done = subprocess.run(command, env=away, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stderr.splitlines() if "is taken from the cache" in line]) == 1, done.stderr
    command[command.index("somebody/tiny")] = "somebody/other"
    done = subprocess.run(command, env=away, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == (
        "error: somebody/other: no such folder, not in the hub's cache, and the hub cannot be reached"
    )
