"""What several tests share: the tiny random model, and chats that hypothesis makes up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import run_command
from data.__main__ import app

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """Folder of the random two-layer model with the embedded model's tokenizer and the ChatML tool template."""
    folder = ROOT / ".cache" / "tiny"
    if not (folder / "config.json").exists():
        subprocess.run([sys.executable, ROOT / "scripts" / "embedded_model.py", folder, "--tiny"], check=True)
    return folder


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command of `python -m data` in this process: exit code, standard output, standard error."""

    def run_here(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["data", *map(str, arguments)])
        try:
            run_command(app, name="python -m data")
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_here
