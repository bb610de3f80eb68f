"""`tooltune`: one command, the very objects of the others, in any folder; and options in any spelling."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import benchmark.__main__
import data.__main__
import tooltune
from core.command_line import Parser, as_declared, run_command

ROOT = Path(__file__).resolve().parents[1]
APPS = {"data": data.__main__.app, "benchmark": benchmark.__main__.app}
Started = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def started(tmp_path: Path) -> Started:
    """Start `tooltune` as pip installs it, in a folder of modules that are all called like ours, and without torch."""
    script = tmp_path / "bin" / "tooltune"
    script.parent.mkdir()
    script.write_text("import sys\nfrom tooltune import main\nsys.exit(main())\n")
    folder = tmp_path / "work"
    folder.mkdir()
    for name in ("data", "train", "benchmark", "core", "tests", "torch", "transformers", "trl"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the current folder was run')\n")
    # The current folder comes first, as where somebody has put a dot into PYTHONPATH.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}

    def start(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), *map(str, arguments)]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    return start


def test_all_of_it_works_in_a_folder_that_has_modules_of_the_same_names(started: Started, tmp_path: Path) -> None:
    told = started("--help")
    assert told.returncode == 0, told.stderr
    for folder in tooltune.FOLDERS:
        assert all(re.search(rf"\b{name} +\S", told.stdout) for name in tooltune.commands_of(folder))
    written = started("tasks", "--count", 3, "--split", "test", "--out", "작업.jsonl")
    assert (written.returncode, written.stderr) == (0, "")
    lines = (tmp_path / "work" / "작업.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(line)["instruction"] for line in lines) and len(lines) == 3
    grouped = started("data", "schema")
    assert json.loads(grouped.stdout)["title"] == "Trajectory"
    for command in (("sft",), ("train", "dpo"), ("train", "export")):
        asked = started(*command, "--help")
        assert asked.returncode == 0 and "--out" in asked.stdout, asked.stderr


def test_each_command_is_the_object_of_its_folder() -> None:
    for folder, app in APPS.items():
        assert tooltune.app_of(folder) is app
        assert set(tooltune.commands_of(folder)) == set(get_command(app).commands)  # type: ignore[attr-defined]
    assert {f"train/{name}" for name in tooltune.TRAIN} == {
        str(path.relative_to(ROOT).with_suffix("")).removesuffix("/__main__")
        for path in (ROOT / "train").rglob("*.py")
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8") or path.name == "__main__.py"
    }


def test_a_name_that_two_folders_have_is_said_with_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    names = [name for folder in tooltune.FOLDERS for name in tooltune.commands_of(folder)]
    assert {name for name in names if names.count(name) > 1} == set(tooltune.SHARED)
    assert not set(names) & set(tooltune.FOLDERS)
    with pytest.raises(SystemExit) as ended:
        run_tooltune("export", "x")
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "`tooltune data export`" in told and "`tooltune train export`" in told


def run_tooltune(*arguments: str) -> None:
    before = sys.argv
    sys.argv = ["tooltune", *arguments]
    try:
        tooltune.main()
    finally:
        sys.argv = before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["convrt"], 2, "there is no command 'convrt'. Did you mean 'convert'?"),
        (["train", "stf"], 2, "there is no command 'stf'. Did you mean 'sft'?"),
        (["benchmark", "leaderbord"], 2, "Did you mean 'leaderboard'?"),
        (["benchmark"], 2, ""),
        ([], 2, ""),
        (["--help"], 0, ""),
    ],
)
def test_a_command_that_does_not_exist_is_named_with_its_neighbour(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_tooltune(*arguments)
    assert ended.value.code == code
    assert message in capsys.readouterr().err


def test_what_is_installed_is_this_module() -> None:
    read = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert read["project"]["scripts"] == {"tooltune": "tooltune:main"}
    assert read["tool"]["setuptools"]["py-modules"] == ["tooltune"]


# -------------------------------------------------------------------- spellings


def options_of(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """(command, option) of each option of several words, in a command and those below it."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from options_of(inner, (*path, name))
    for parameter in command.params:
        for option in (*parameter.opts, *parameter.secondary_opts):
            if option.startswith("--") and re.search(r"\w[-_]\w", option):
                yield path, option


@pytest.mark.parametrize("folder", APPS)
def test_every_option_of_every_command_is_read_with_hyphens_and_with_underscores(
    folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = list(options_of(get_command(APPS[folder])))
    assert len(found) > 5
    for path, option in found:
        for spelled in ("--" + option[2:].replace("-", "_"), "--" + option[2:].replace("_", "-")):
            for value in (["1"], []):  # a switch takes none
                with pytest.raises(SystemExit) as ended:
                    monkeypatch.setattr(sys, "argv", [folder, *path, spelled, *value, "--help"])
                    run_command(APPS[folder], name=folder)
                if ended.value.code == 0:
                    break
            told = capsys.readouterr()
            assert ended.value.code == 0, f"{path} {spelled}: {told.err}"


def test_values_keep_their_spelling_and_so_does_what_follows_two_hyphens() -> None:
    options = ["--output_dir", "--load-in", "--load_in"]
    given = ["--output-dir=a-b_c", "--output-dir", "--no-such_thing", "--load-in", "--", "--output-dir", "x"]
    assert as_declared(given, options) == [
        "--output_dir=a-b_c", "--output_dir", "--no-such_thing", "--load_in", "--", "--output-dir", "x",
    ]  # fmt: skip
    assert as_declared(["--benchmark-args", "--max-steps 3"], ["--benchmark_args"]) == [
        "--benchmark_args",
        "--max-steps 3",
    ]


def test_a_plain_parser_takes_any_spelling_and_names_the_nearest_choice(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser()
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--kind_of", choices=("파일", "folder"))
    assert parser.parse_args(["--dry_run", "--kind-of", "파일"]) == parser.parse_args(["--dry-run", "--kind_of=파일"])
    with pytest.raises(SystemExit):
        parser.parse_args(["--kind-of", "foldre"])
    assert "Did you mean 'folder'?" in capsys.readouterr().err
