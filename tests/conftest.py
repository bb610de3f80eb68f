"""Fixtures of several test files. What they import from each other is in tests/support."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from support.commands import Run, run_here
from support.quick import NOT_QUICK, QUICK_FILES, nothing_started

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="only the tests that tests/support/quick.py names")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    name = collection_path.stem
    is_other = name.startswith("test_") and name.removeprefix("test_") not in QUICK_FILES
    return True if config.getoption("--quick") and is_other else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--quick"):
        items[:] = [item for item in items if getattr(item, "originalname", item.name) not in NOT_QUICK]


@pytest.fixture(autouse=True)
def nothing_started_by_a_quick_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """With --quick, a test that starts a process or opens a port fails."""
    if not request.config.getoption("--quick"):
        yield
        return
    with nothing_started() as tried:
        yield
    assert not tried


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
    """Prepared sets of 13 chats, 9 pairs and 13 labelled chats: numbers that no batch divides."""
    from support.training import make_sets, read_chat, read_labelled, read_pair  # noqa: PLC0415 - loads torch

    folder = tmp_path_factory.mktemp("sets")
    rows = {"chats": read_chat, "labelled": read_labelled}
    return make_sets(
        folder, pairs=[*map(read_pair, range(9))], **{name: [*map(made, range(13))] for name, made in rows.items()}
    )


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
