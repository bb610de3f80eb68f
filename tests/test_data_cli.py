"""The commands of `python -m data`: what they print, what they write, and how they end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from core.config import read_yaml
from data.records import Trajectory, read_trajectories, write_trajectories
from support.commands import Run
from support.paths import SAMPLES
from support.record_samples import record

ROOT = Path(__file__).parents[1]
COMMANDS = ["validate", "redact", "score", "plan", "schema", "build", "pairs", "show"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(run: Run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0 and re.search("Examples?:", out) and f"python -m data {command}" in out


def test_commands_run_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    """As processes of their own, because torch may be in this one already."""
    config = tmp_path / "config.yaml"
    source = {"adapter": "trajectory", "path": str(SAMPLES / "trajectories.jsonl")}
    config.write_text(yaml.safe_dump({"sources": [source]}), encoding="utf-8")
    commands = [
        ["adapters"],
        ["validate", str(SAMPLES / "trajectories.jsonl")],
        ["redact", str(SAMPLES / "trajectories.jsonl"), "--out", str(tmp_path / "redacted.jsonl")],
        ["score", str(SAMPLES / "trajectories.jsonl"), "--out", str(tmp_path / "scores.jsonl")],
        ["plan", str(ROOT / "configs/data/support-desk.plan.yaml"), str(SAMPLES / "trajectories.jsonl")],
        ["build", "--config", str(config), "--out", str(tmp_path / "set")],
        ["pairs", str(SAMPLES / "trajectories.jsonl"), "--out", str(tmp_path / "pairs.jsonl")],
        ["convert", "--adapter", "openai_chat", str(SAMPLES / "openai_chat.jsonl"), "--out", str(tmp_path / "c.jsonl")],
    ]
    program = f"""
import sys
for name in ("torch", "transformers", "trl", "datasets"):
    sys.modules[name] = None
import data, data.sets.prepared
from data.__main__ import app
from core.command_line import run_command
for arguments in {commands!r}:
    sys.argv = ["data", *arguments]
    try:
        run_command(app, name="python -m data")
    except SystemExit as stop:
        assert stop.code == 0, (arguments, stop.code)
assert data.sets.prepared.read_prepared({str(tmp_path / "set")!r}).train
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_schema_is_the_committed_file(run: Run, tmp_path: Path) -> None:
    committed = (ROOT / "docs" / "trajectory.schema.json").read_text(encoding="utf-8")
    assert run("schema") == (0, committed, "")
    assert run("schema", "--out", tmp_path / "s.json")[0] == 0
    assert (tmp_path / "s.json").read_text(encoding="utf-8") == committed


# --- build ---


def build_config(tmp_path: Path, **source: object) -> Path:
    entry = {"adapter": "trajectory", "path": str(SAMPLES / "trajectories.jsonl"), **source}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"out": str(tmp_path / "set"), "sources": [entry]}), encoding="utf-8")
    return path


def test_build_prints_counts_that_add_up(run: Run, tmp_path: Path) -> None:
    code, out, err = run("build", "--config", build_config(tmp_path, outcomes=["success", "partial"]))
    assert code == 0, err
    counts = [int(line.split()[-1]) for line in out.splitlines()[1:4]]
    assert counts == [2, 1, 3] and "dropped: outcome is failure" in out
    assert "train: 1 rows in 1 groups" in out and "validation: 1 rows in 1 groups" in out
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["sources"][0]["licences"] == ["CC-BY-4.0", "not stated"]


def test_build_out_goes_before_the_config(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("build", "--config", build_config(tmp_path), "--out", tmp_path / "other")
    assert code == 0 and (tmp_path / "other" / "manifest.json").exists() and not (tmp_path / "set").exists()
    assert "validation is empty, because all rows belong to one group" in out


def test_build_mistakes_are_one_screen(run: Run, tmp_path: Path) -> None:
    mistakes: list[tuple[dict[str, object], str]] = [
        ({"wieght": 1.0}, "config.yaml: field 'sources.0.wieght' is unknown. Did you mean 'weight'"),
        ({"path": "nowhere.jsonl"}, "config.yaml: sources.0: nowhere.jsonl: there is no such file"),
        ({"path": str(SAMPLES / "trajectories_broken.jsonl")}, "trajectories_broken.jsonl:2: not JSON"),
        ({"adapter": "openai_chat"}, "keys that change what a row means hold values that do not tell"),
        ({"adapter": "openai_chat", "ignore": ["outcome"]}, "no row is left of 3"),
    ]
    for source, message in mistakes:
        code, _, err = run("build", "--config", build_config(tmp_path, **source))
        assert code == 2 and message in err
        assert "Traceback" not in err and len(err.splitlines()) < 12
    code, _, err = run("build", "--config", tmp_path / "none.yaml")
    assert code == 2 and "none.yaml: cannot be read" in err


# --- pairs ---


def test_pairs_are_counted_and_written(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("pairs", SAMPLES / "trajectories.jsonl", "--out", tmp_path / "pairs.jsonl")
    assert code == 0
    assert len((tmp_path / "pairs.jsonl").read_text(encoding="utf-8").splitlines()) == 3
    assert "3 records, 1 of them without a failed step" in out
    counts = json.loads((tmp_path / "pairs.counts.json").read_text(encoding="utf-8"))
    assert (counts["read"], counts["kept"], counts["dropped"]) == (3, 3, {})


def test_no_pair_is_an_error_with_reasons(run: Run, tmp_path: Path) -> None:
    rows = [record(id="a", action_sequence=[]), record(id="b", metadata={})]
    write_trajectories(tmp_path / "r.jsonl", map(Trajectory.model_validate, rows))
    code, _, err = run("pairs", tmp_path / "r.jsonl", "--out", tmp_path / "pairs.jsonl")
    assert code == 2 and "no pair in 2 records, of which 1 have no failed step" in err
    assert "1 x no instruction in metadata" in err
    assert not (tmp_path / "pairs.jsonl").exists()
    assert len(list(read_trajectories(tmp_path / "r.jsonl"))) == 2


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (BOMB + "sources: *i\n", ":6: not YAML: aliases that stand for more than"),
        ("sources: &a [*a]\n", ":1: not YAML: a value that holds itself"),
        ("[" * 3000, "nested too deeply"),
        ("sources: !!python/object/apply:os.getcwd []\n", "not YAML: could not determine a constructor"),
        ("x: '" + "y" * 600_000 + "'\n", "longer than 512 KiB"),
    ],
)
@pytest.mark.parametrize("command", [["build", "--config"], ["curate", "--config"], ["plan"]])
def test_yaml_that_fills_the_memory_is_one_line(
    command: list[str], text: str, what: str, run: Run, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    more = ["none.jsonl"] if command[0] == "plan" else ["--out", tmp_path / "out"]
    code, _, err = run(*command, config, *more)
    assert code == 2 and what in err and len(err) < 2000
    assert command[0] == "plan" or not (tmp_path / "out").exists()


def test_aliases_that_save_typing_are_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("base: &base {adapter: chats}\nsources: [{<<: *base, path: a}, {<<: *base, path: 나}]\n", "utf-8")
    assert read_yaml(path)["sources"] == [{"adapter": "chats", "path": "a"}, {"adapter": "chats", "path": "나"}]


def test_an_endless_line_is_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.json_lines.LONGEST_LINE_BYTES", 1 << 20)
    monkeypatch.setattr("data.formats.json_documents.LONGEST_ROW_BYTES", 1 << 20)
    rows, table = tmp_path / "rows.jsonl", tmp_path / "rows.csv"
    rows.write_text("{}\n" + '"' + "x" * (2 << 20) + '"\n')
    table.write_text('instruction,output\nhi,"' + "x" * (2 << 20) + '"\n')
    out = tmp_path / "out"
    for command in (
        ["convert", rows, "--adapter", "chats", "--out", out],
        ["convert", table, "--adapter", "alpaca", "--out", out],
        ["curate", "dedup", rows, "--out", tmp_path / "folder"],
        ["redact", rows, "--out", out],
    ):
        code, _, err = run(*command)
        assert (code, err.count("\n")) == (2, 1) and "a line of more than 1 MiB" in err, (command, err)
        assert not out.exists()
