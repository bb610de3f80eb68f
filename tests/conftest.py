"""Fixtures of several test files. What they import from each other is in tests/support."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from support.commands import Run, run_here

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


@pytest.fixture(scope="session")
def minute_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random two-layer model with 500 tokens and the ChatML tool template."""
    from support.training import make_minute_model  # noqa: PLC0415 - loads torch

    return make_minute_model(tiny_model, tmp_path_factory.mktemp("minute") / "model")


@pytest.fixture
def without_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training runs that draw no loss.png, which costs a sixth of so short a run; tests/test_train.py looks at one."""
    monkeypatch.setattr("train.fit.plot_metrics", lambda *_, **__: None)


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Prepared sets of 13 chats and 9 pairs: numbers that no batch divides."""
    from support.training import make_sets, read_chat, read_pair  # noqa: PLC0415 - loads torch

    folder = tmp_path_factory.mktemp("sets")
    return make_sets(folder, chats=[*map(read_chat, range(13))], pairs=[*map(read_pair, range(9))])


@pytest.fixture
def run_app(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command of `python -m data` or `python -m benchmark` in this process; the first word is the package."""

    def run(package: str, *arguments: object) -> tuple[int, str, str]:
        code = run_here(package, *arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def run(run_app: Run) -> Run:
    """Run a command of `python -m data` in this process: exit code, standard output, standard error."""
    return partial(run_app, "data")
