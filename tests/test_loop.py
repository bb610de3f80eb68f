"""The loop: its stages are plain commands, a kill anywhere repeats one stage at most, and validation tasks alone decide.

Most tests put a scripted command in the place of each stage, so that every kill and every rule can be tried; one runs two
real rounds with the tiny model. Real commands run in forks of this process, in which torch is loaded already.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmark.__main__ import app
from benchmark.kpis import kpis
from benchmark.loop import run as loop_run
from benchmark.loop.plan import Loop, LoopConfig
from core.command_line import run_command
from core.config import read_config, read_yaml
from core.errors import UserError
from core.processes import last_line, start_command
from data.__main__ import app as data_app
from data.curation.contamination import Decontaminate
from data.curation.rows import record_to_row
from data.records import Outcome, Trajectory, read_trajectories, write_trajectories
from data.trajectories import trajectory_to_chat
from support.commands import run_here
from support.forking import forked
from support.record_samples import record
from train.audit.rows import read_test_tasks
from train.outcome import run_main

ROOT = Path(__file__).resolve().parents[1]
TINY_TRAINING = {
    "model_name_or_path": "given by the loop", "output_dir": "given by the loop", "max_steps": 2, "learning_rate": 1e-3,
    "per_device_train_batch_size": 2, "max_length": 1024, "dtype": "float32", "bf16": False, "gradient_checkpointing": False,
    "use_cpu": True, "save_strategy": "no", "logging_steps": 1, "report_to": "none", "lora_r": 4,
}  # fmt: skip


def config_file(folder: Path, **changes: Any) -> Path:
    """A config of three rounds; keys that are None are left out."""
    training = folder / "training.yaml"
    if not training.exists():
        training.write_text(yaml.safe_dump(TINY_TRAINING), encoding="utf-8")
    values = {
        "out": str(folder / "돌림"), "model": str(folder / "base"), "rounds": 3, "tasks": "--worlds files,api --short",
        "run": "--max-steps 1 --max-new-tokens 4", "record": {"count": 8, "seed": 7}, "practice": {"count": 4, "seed": 107},
        "validation": {"count": 4, "seed": 207}, "test": {"count": 2, "seed": 1}, "pairs": "--first 2",
        "sft": {"config": str(training)}, "dpo": {"config": str(training)}, **changes,
    }  # fmt: skip
    path = folder / "loop.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}, allow_unicode=True), "utf-8")
    return path


def main(*arguments: object) -> int:
    """`python -m benchmark loop` in this process; its exit code."""
    return run_here("benchmark", "loop", *arguments)


def loop_of(path: Path) -> Loop:
    return Loop(read_config(path, LoopConfig), path)


# ---------------------------------------------------------------- scripted stages


class Scripted:
    """Commands that write what the real ones would, at once. `solves` tells for each model which of 40 tasks it solves."""

    def __init__(self, solves: dict[str, int], *, without_pairs: Sequence[int] = ()) -> None:
        self.solves, self.without_pairs = solves, without_pairs
        self.started: list[str] = []
        self.commands: list[list[str]] = []
        self.before: Callable[[str], object] = lambda _stage: None
        self.code = 0

    def __call__(self, command: list[str], *, log: Path) -> subprocess.Popen[bytes]:
        folder = log.parent.parent
        stage = log.stem if not folder.name.startswith("round-") else f"{folder.name}/{log.stem}"
        self.started.append(stage)
        self.commands.append(command)
        self.before(stage)
        if not self.code:
            self.code = self.run(command, folder, log.stem)
        code, self.code = self.code, 0
        return subprocess.Popen(["sh", "-c", f"echo {stage} 출력; exit {code}"], stdout=open(log, "ab"))

    def run(self, command: list[str], folder: Path, name: str) -> int:
        words = [word for word in command if not word.startswith("--")]
        given = dict(pairwise(command))
        digest = hashlib.sha256(shlex.join(command).encode()).hexdigest()
        if name in ("sft", "dpo", "kto"):
            out = Path(given["--output_dir"])
            out.mkdir(parents=True, exist_ok=True)
            (out / "adapter_model.safetensors").write_text(digest)
        elif name in ("practice", "validate", "test"):
            labels = [command[at + 1] for at, word in enumerate(command) if word == "--label"]
            for label in labels:
                model = label if label == "base" else f"{label.split('-')[0]}-{folder.name.split('-')[1]}"
                write_trajectories(
                    Path(given["--out"]) / label / "trajectories.jsonl",
                    [tried(n, n < self.solves.get(model, 0)) for n in range(40)],
                )
        elif name == "pairs":
            kept = 0 if int(folder.name.split("-")[1]) in self.without_pairs else 5
            (folder / "pairs.counts.json").write_text(json.dumps({"kept": kept}))
            if not kept:
                return 2
            (folder / "pairs.jsonl").write_text(digest)
        else:
            out = Path(given["--out"])
            made = {"build": out / "manifest.json", "leaderboard": out / "index.html"}.get(words[2], out)
            if words[1] == "-m":
                made = {"build": out / "manifest.json", "leaderboard": out / "index.html"}.get(words[3], out)
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text(digest)
        return 0


def tried(number: int, solved: bool) -> Trajectory:
    row = record(id=f"r-{number}", outcome="success" if solved else "failure")
    row["metadata"] |= {"task": {"id": f"t-{number:03}", "world": "files", "tier": 1, "facts": {}}}
    return Trajectory.model_validate(row)


LEARNS = {"base": 0, "sft-1": 12, "dpo-1": 16, "sft-2": 24, "dpo-2": 30, "sft-3": 40, "dpo-3": 40}
NO_GAIN = "no significant gain on the validation tasks in {}"
ROUND = ["record", "sft-data", "sft", "practice", "pairs", "dpo-data", "dpo", "validate", "test"]


def names(*rounds: int) -> list[str]:
    """The commands of a whole loop, in order; `choose` starts none."""
    return ["tasks", *(f"round-{number}/{name}" for number in rounds for name in ROUND), "leaderboard"]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scripted:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    commands = Scripted(dict(LEARNS))
    monkeypatch.setattr(loop_run, "start_command", commands)
    return commands


def test_rounds_follow_each_other_and_go_on_from_the_best(scripted: Scripted, tmp_path: Path) -> None:
    path = config_file(tmp_path)
    assert main("--config", path) == 0
    assert scripted.started == names(1, 2, 3)
    loop = loop_of(path)
    assert [loop.decision(n)["best"] for n in (1, 2, 3)] == [str(loop.folder(n) / "dpo") for n in (1, 2, 3)]
    starts = [dict(pairwise(c)) for c in scripted.commands if any(w.endswith("sft.py") for w in c)]
    assert [given["--model_name_or_path"] for given in starts] == [
        str(tmp_path / "base"), str(loop.folder(1) / "best"), str(loop.folder(2) / "best"),
    ]  # fmt: skip
    assert (loop.folder(1) / "best").resolve() == (loop.folder(1) / "dpo").resolve()
    asked = [c for c in scripted.commands if c[1:4] == ["-m", "benchmark", "record"]]
    assert [dict(pairwise(c))["--seed"] for c in asked] == ["7", "8", "9"]
    assert loop.decision(3)["stop"] == "all rounds are done"
    log = (loop.folder(2) / "logs" / "sft.log").read_text(encoding="utf-8")
    assert log.startswith("$ python ") and "round-2/sft 출력" in log
    scripted.started.clear()
    assert main("--config", path) == 0 and scripted.started == []


def test_kto_or_orpo_may_stand_where_dpo_does(
    scripted: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted.solves |= {"kto-1": 16}
    training = {"config": str(tmp_path / "training.yaml")}
    path = config_file(tmp_path, rounds=1, dpo=None, kto=training)
    assert main("--config", path) == 0
    assert scripted.started == [name.replace("dpo", "kto") for name in names(1)]
    (command,) = [each for each in scripted.commands if any(word.endswith("kto.py") for word in each)]
    given = dict(pairwise(command))
    here = tmp_path / "돌림" / "round-1"
    assert (given["--model_name_or_path"], given["--data"]) == (str(here / "sft"), str(here / "kto-data"))
    assert yaml.safe_load((here / "kto-data.yaml").read_text(encoding="utf-8"))["labelled"] is True
    assert loop_of(path).decision(1)["best"] == str(here / "kto")
    summary = json.loads((tmp_path / "돌림" / "summary.json").read_text(encoding="utf-8"))
    assert list(summary["rounds"][0]["test"]) == ["base", "sft-1", "kto-1"]
    assert {stage.name for stage in loop_of(config_file(tmp_path, dpo=None, orpo=training)).stages()} >= {
        "orpo-data",
        "orpo",
    }
    assert loop_of(path).stages()[3].trains
    for changes, got in (({"kto": training}, "dpo and kto"), ({"dpo": None}, "none")):
        assert main("--config", config_file(tmp_path, **changes)) == 2
        assert f"expected exactly one of dpo, orpo, kto, got {got}" in capsys.readouterr().err


def test_the_summary_tells_the_kpis_of_each_round(
    scripted: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(tmp_path, rounds=2)
    assert main("--config", path) == 0
    told = capsys.readouterr()
    summary = json.loads((tmp_path / "돌림" / "summary.json").read_text(encoding="utf-8"))
    success = [
        {name: each["test"][name]["success_rate"]["value"] for name in each["test"]} for each in summary["rounds"]
    ]
    assert success == [{"base": 0.0, "sft-1": 0.3, "dpo-1": 0.4}, {"sft-2": 0.6, "dpo-2": 0.75}]
    assert [each["pairs"] for each in summary["rounds"]] == [5, 5]
    assert "75 % (60-86)" in told.out and "dpo is taken, +35.0 points" in told.out and "leaderboard" in told.out
    assert "$ python -m benchmark record --split train --count 8 --seed 7" in told.err
    assert (tmp_path / "돌림" / "rounds.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("solves", "changes", "rounds", "stop", "best"),
    [
        # nothing is learned: one round, or as many as patience asks for
        ({}, {}, [1], NO_GAIN.format("1 round"), "round-1/dpo"),
        ({}, {"patience": 2}, [1, 2], NO_GAIN.format("2 rounds"), "round-2/dpo"),
        # a gain of one task of 40 is no significant one; the better model still goes on
        ({**LEARNS, "sft-2": 0, "dpo-2": 17}, {}, [1, 2], NO_GAIN.format("1 round"), "round-2/dpo"),
        # DPO made it worse: SFT is taken
        ({**LEARNS, "dpo-1": 2}, {"rounds": 1}, [1], "all rounds are done", "round-1/sft"),
        # rounds that fall behind: the best of before stays
        (
            dict.fromkeys(LEARNS, 3) | {"base": 0, "dpo-1": 16},
            {"patience": 3},
            [1, 2, 3],
            "all rounds are done",
            "round-1/dpo",
        ),
    ],
)
def test_validation_tasks_decide_what_goes_on_and_when_it_ends(
    solves: dict[str, int],
    changes: dict[str, Any],
    rounds: list[int],
    stop: str,
    best: str,
    scripted: Scripted,
    tmp_path: Path,
) -> None:
    scripted.solves = solves
    path = config_file(tmp_path, **changes)
    assert main("--config", path) == 0
    assert scripted.started == names(*rounds)
    decision = loop_of(path).decision(rounds[-1])
    assert (decision["stop"], decision["best"]) == (stop, str(tmp_path / "돌림" / best))
    assert loop_of(path).stopped_after() == rounds[-1]


def test_a_round_without_pairs_has_no_dpo_and_is_the_last(
    scripted: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted.without_pairs = [2]
    path = config_file(tmp_path)
    assert main("--config", path) == 0
    assert scripted.started == [
        name for name in names(1, 2) if name not in ("round-2/dpo-data", "round-2/dpo")
    ]  # fmt: skip
    decision = loop_of(path).decision(2)
    assert decision["stop"] == "the model's failures gave no new pair" and decision["taken"] == "sft"
    assert main("--config", path, "--stage", "dpo", "--round", 2) == 0
    assert main("--config", path, "--stage", "record", "--round", 3) == 0
    told = capsys.readouterr().out
    assert "round-2/dpo: skipped, the model's failures gave no new pair" in told
    assert "round-3/record: skipped, the loop stopped after round 2" in told


def test_test_tasks_decide_nothing(scripted: Scripted, tmp_path: Path) -> None:
    path = config_file(tmp_path)
    stages = loop_of(path).stages()
    tested = {made for stage in stages if stage.name == "test" for made in stage.makes}
    readers = {stage.name for stage in stages for read in stage.reads if read in tested}
    assert readers == {"leaderboard"}
    runs = {stage.name: stage.command for stage in stages if stage.name in ("practice", "validate", "test")}
    splits = {name: dict(pairwise(c))["--split"] for name, c in runs.items()}
    assert splits == {"practice": "train", "validate": "train", "test": "test"}


@pytest.mark.parametrize("place", range(0, 20, 3))
def test_a_kill_at_any_stage_repeats_this_stage_only(place: int, scripted: Scripted, tmp_path: Path) -> None:
    path = config_file(tmp_path, rounds=2)
    stage = names(1, 2)[place]

    def kill(name: str) -> None:
        if name == stage:
            os.kill(os.getpid(), signal.SIGKILL)

    scripted.before = kill
    assert forked(lambda: main("--config", path)) == -signal.SIGKILL
    scripted.before = lambda _: None
    assert main("--config", path) == 0
    assert scripted.started == names(1, 2)[place:]
    resumed = [c[-2:] for c in scripted.commands[:1] if any(w.endswith(("sft.py", "dpo.py")) for w in c)]
    assert ["--resume", "never"] not in resumed
    assert loop_of(path).decision(2)["best"] == str(tmp_path / "돌림" / "round-2" / "dpo")


def test_what_has_changed_is_named_and_what_depends_on_it_runs_again(
    scripted: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(tmp_path, rounds=1)
    main("--config", path)

    def again(**changes: Any) -> tuple[list[str], str]:
        scripted.started.clear()
        capsys.readouterr()
        assert main("--config", config_file(tmp_path, **{"rounds": 1, **changes})) == 0
        return scripted.started, capsys.readouterr().err

    started, told = again(test={"count": 3, "seed": 1})
    assert "round-1/test: runs again, because it has changed:\n  --count: 2 -> 3\n" in told
    assert started == ["tasks", "round-1/test"]

    training = tmp_path / "training.yaml"
    training.write_text(training.read_text().replace("learning_rate: 0.001", "learning_rate: 0.002"))
    started, told = again(test={"count": 3, "seed": 1})
    assert f"{training}: learning_rate: 0.001 -> 0.002" in told
    assert started[0] == "round-1/sft" and "round-1/record" not in started
    assert told.count("what was trained before is in") == 2  # both trainings start over, as their settings are others

    (tmp_path / "돌림" / "round-1" / "pairs.counts.json").unlink()
    started, told = again(test={"count": 3, "seed": 1})
    assert "pairs.counts.json is missing" in told and started == ["round-1/pairs"]

    (tmp_path / "돌림" / "round-1" / "pairs.jsonl").write_text("edited")
    started, told = again(test={"count": 3, "seed": 1})
    assert "pairs.jsonl is another" in told and started == ["round-1/pairs"]

    (tmp_path / "template.jinja").write_text("{{ messages }}")
    training.write_text(training.read_text() + f"chat_template_path: {tmp_path}/template.jinja\n")
    again(test={"count": 3, "seed": 1})
    (tmp_path / "template.jinja").write_text("{{ messages }} ")
    started, told = again(test={"count": 3, "seed": 1})
    assert f"{tmp_path}/template.jinja: " in told and started[0] == "round-1/sft"

    (tmp_path / "돌림" / "round-1" / ".stages" / "practice.json").write_text("[]")
    started, _ = again(test={"count": 3, "seed": 1}, rounds=2)
    assert started[:2] == ["round-1/practice", "round-2/record"]
    assert loop_of(path).decision(1)["stop"] is None


@pytest.mark.parametrize(
    ("folder", "reruns"),
    [
        ("train", ["round-1/sft", "round-1/dpo"]),
        (
            "benchmark",
            ["tasks", "round-1/record", "round-1/practice", "round-1/validate", "round-1/test", "leaderboard"],
        ),
        ("core", names(1)),
    ],
)
def test_new_code_runs_again_what_it_decides(
    folder: str, reruns: list[str], scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("core", "data", "train", "benchmark"):
        (tmp_path / "code" / name).mkdir(parents=True)
    monkeypatch.setattr(loop_run, "ROOT", tmp_path / "code")
    path = config_file(tmp_path, rounds=1)
    assert main("--config", path) == 0
    (tmp_path / "code" / folder / "new.py").write_text("changed = True\n")
    scripted.started.clear()
    assert main("--config", path) == 0
    assert scripted.started == reruns


def test_a_single_round_needs_no_validation_tasks(
    scripted: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(tmp_path, rounds=1, validation=None)
    assert main("--config", path) == 0
    assert scripted.started == [name for name in names(1) if name != "round-1/validate"]
    told = capsys.readouterr()
    assert "dpo-1" in told.out and "40 % (26-55)" in told.out and "validation" not in told.out
    for command in scripted.commands:  # printed before it runs, as one would type it
        assert f"$ {shlex.join(command)}\n".replace(f"{Path(sys.executable).parent}/", "") in told.err
    summary = json.loads((tmp_path / "돌림" / "summary.json").read_text(encoding="utf-8"))
    assert [name for each in summary["rounds"] for name in each["test"]] == ["base", "sft-1", "dpo-1"]
    assert (tmp_path / "돌림" / "rounds.png").stat().st_size > 1000
    scripted.started.clear()
    assert main("--config", path) == 0 and scripted.started == []


@pytest.mark.parametrize(("arguments", "name"), [([], "quickstart"), (["--fast"], "fast")])
def test_the_quickstart_prepares_and_calls_the_loop(arguments: list[str], name: str, tmp_path: Path) -> None:
    """With commands that only tell that they were called."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / "scripts" / "quickstart").write_bytes((ROOT / "scripts" / "quickstart").read_bytes())
    (tmp_path / "scripts" / "setup").write_text("#!/bin/sh\necho set up\n")
    (tmp_path / ".venv" / "bin" / "activate").write_text('python() { echo called with "$@"; }\n')
    for file in ("quickstart", "setup"):
        (tmp_path / "scripts" / file).chmod(0o755)
    done = subprocess.run([tmp_path / "scripts" / "quickstart", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith(("set up", "called with"))]
    loop = loop_of(ROOT / "configs" / "benchmark" / f"{name}.yaml").config
    assert told[0] == "set up" and loop.model in told[1]
    assert told[2] == f"called with -m benchmark loop --config configs/benchmark/{name}.yaml"
    assert f"$ python -m benchmark loop --config configs/benchmark/{name}.yaml" in done.stdout
    assert loop.rounds == 1 and f"{loop.out}/round-1/" in done.stdout


@pytest.mark.parametrize(("folder", "trusts"), [("examples/todo-mcp", True), ("examples/../elsewhere", False)])
def test_the_quickstart_on_a_folder_asks_for_its_tools_and_fills_in_the_loop(
    folder: str, trusts: bool, tmp_path: Path
) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "scripts" / "quickstart").write_bytes((ROOT / "scripts" / "quickstart").read_bytes())
    (tmp_path / "scripts" / "setup").write_text("#!/bin/sh\n")
    (tmp_path / ".venv" / "bin" / "activate").write_text('python() { echo called with "$@"; }\n')
    for file in ("quickstart", "setup"):
        (tmp_path / "scripts" / file).chmod(0o755)
    done = subprocess.run([tmp_path / "scripts" / "quickstart", "--world", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = [line.removeprefix("called with ") for line in done.stdout.splitlines() if line.startswith("called with")]
    assert told[1] == f"-m benchmark tools {folder}" + " --trust" * trusts, (
        "examples of this checkout alone are trusted"
    )
    out = f"runs/{Path(folder).name}"
    assert told[2] == f"-m benchmark loop --config {out}/loop.yaml"
    loop = loop_of(tmp_path / out / "loop.yaml").config
    assert loop.out == out and loop.tasks == f"--worlds './{folder}'"
    assert f"--examples {out}/round-1/records.jsonl --shots 3 --worlds ./{folder}" in told[3]
    assert f"--count {loop.test.count} --seed {loop.test.seed} {loop.run}" in told[3], "the same tasks as the loop's"


def test_a_failed_stage_ends_the_loop_with_its_code_and_its_last_words(
    scripted: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(tmp_path)

    def fail(name: str) -> None:
        scripted.code = 75 if name == "round-1/sft" else 0

    scripted.before = fail
    assert main("--config", path) == 75
    told = capsys.readouterr().err
    assert "error: round-1/sft failed with exit code 75: round-1/sft 출력 (all in " in told and "Traceback" not in told
    scripted.before = lambda _: None
    assert main("--config", path) == 0
    assert scripted.started.count("round-1/sft") == 2 and scripted.started.count("round-1/record") == 1


def test_stages_run_one_by_one_as_a_scheduler_would(
    scripted: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(tmp_path, rounds=2)
    assert main("--config", path, "--print-stages") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    done: set[str] = set()
    for row in rows:
        assert set(row["depends_on"]) <= done
        done.add(row["id"])
        assert row["run"][:4] == ["python", "-m", "benchmark", "loop"]
        assert main(*row["run"][4:]) == 0
    assert scripted.started == names(1, 2)
    assert {row["name"] for row in rows if row["trains"]} == {"sft", "dpo"}
    scripted.started.clear()
    assert main("--config", path) == 0 and scripted.started == []


def test_a_dry_run_prints_every_command_and_makes_nothing(
    scripted: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(tmp_path, pairs="--level trajectory", launch="accelerate launch --num_processes 2")
    assert main("--config", path, "--dry-run") == 0
    told = capsys.readouterr().out
    assert [line[2:] for line in told.splitlines() if line.startswith("# ")] == [s.id for s in loop_of(path).stages()]
    assert "accelerate launch --num_processes 2 " in told and "--policy expert --label expert" in told
    assert not (tmp_path / "돌림").exists() and scripted.started == []
    script = f"set -e\npython() {{ :; }}\naccelerate() {{ :; }}\n{told}"  # it is a script that a shell can read
    assert subprocess.run(["bash", "-c", script], cwd=tmp_path).returncode == 0
    built = yaml.safe_load((tmp_path / "돌림" / "round-1" / "sft-data.yaml").read_text(encoding="utf-8"))
    assert built["sources"][0]["path"] == str(tmp_path / "돌림" / "round-1" / "records.jsonl")


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"wrolds": 1}, [], "Did you mean"),
        (
            {"practice": {"count": 4, "seed": 8}},
            [],
            "record.seed and practice.seed give the same tasks within 3 rounds",
        ),
        ({"record": {"count": 0, "seed": 7}}, [], "record.count"),
        ({"tasks": "--worlds 'files"}, [], "not a command line"),
        ({"validation": None}, [], "validation is missing; with 3 rounds it decides which model goes on"),
        ({"validation": None, "rounds": 1}, ["--stage", "chose", "--round", 1], "stages tasks, record"),
        ({"sft": {"config": "trainnig.yaml"}}, [], "trainnig.yaml: there is no such file"),
        ({}, ["--stage", "recrod", "--round", 1], "Did you mean 'record'?"),
        ({}, ["--stage", "record", "--round", 4], "rounds are 1 to 3"),
        ({}, ["--stage", "practice", "--round", 2], "these stages come before it: round-2/sft"),
    ],
)
def test_mistakes_are_told(
    changes: dict[str, Any], arguments: list[Any], message: str, scripted: Scripted, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main("--config", config_file(tmp_path, **changes), *arguments) == 2
    told = capsys.readouterr().err
    assert message in told and "Traceback" not in told


def test_a_stage_that_somebody_runs_is_not_run_twice(
    scripted: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(tmp_path)

    def meanwhile(name: str) -> None:
        if name == "tasks":  # a lock of POSIX is held by a process, so another one must ask
            code = forked(lambda: sys.exit(main("--config", path, "--stage", "tasks")))
            assert code == 2

    scripted.before = meanwhile
    assert main("--config", path, "--stage", "tasks") == 0


# ---------------------------------------------------------------- processes


def test_a_started_command_ends_with_whoever_started_it(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from core.processes import start_command\n"
        f"start_command(['sh', '-c', 'echo begun; sleep 5 & wait; touch {tmp_path}/survived'], log=Path('{tmp_path}/log'))\n"
        "print('up', flush=True); time.sleep(60)"
    )
    starter = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE)
    assert starter.stdout is not None and starter.stdout.readline() == b"up\n"
    until = time.monotonic() + 20
    while last_line(tmp_path / "log") != "begun" and time.monotonic() < until:
        time.sleep(0.05)
    starter.kill()
    starter.wait()
    left = b"sleep"
    while left and time.monotonic() < until:
        time.sleep(0.05)
        left = subprocess.run(["pgrep", "-f", f"touch {tmp_path}/survived"], stdout=subprocess.PIPE).stdout
    assert not left and not (tmp_path / "survived").exists()


def test_a_started_command_gives_its_code_its_words_and_hears_signals(tmp_path: Path) -> None:
    log = tmp_path / "하위" / "log"
    assert start_command(["sh", "-c", "printf '10%%\\r끝\\n'; exit 7"], log=log).wait() == 7
    assert last_line(log) == "끝"
    child = start_command(["sh", "-c", "trap 'exit 75' TERM; echo ready; while :; do sleep 0.05; done"], log=log)
    while last_line(log) != "ready":
        time.sleep(0.02)
    child.terminate()
    assert child.wait() == 75
    assert last_line(tmp_path / "none") == "no output yet"


# ---------------------------------------------------------------- real commands


def in_a_fork(command: list[str], *, log: Path) -> Any:
    """`start_command` for the real commands, without loading torch anew."""
    log.parent.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child:
        return Forked(child)
    code = 70
    with contextlib.suppress(BaseException), open(log, "ab", buffering=0) as file:
        torch.set_num_threads(1)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        try:
            if command[1] == "-m":
                sys.argv = command[2:]
                run_command({"data": data_app, "benchmark": app}[command[2]], name=f"python -m {command[2]}")
            else:
                from train import dpo, sft  # noqa: PLC0415 - loads torch

                run_main(lambda: {"sft": sft, "dpo": dpo}[Path(command[1]).stem].main(command[2:]))
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
    os._exit(code)


class Forked:
    """What the loop needs of a Popen."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float) -> None:
        until = time.monotonic() + timeout
        while self.returncode is None and time.monotonic() < until:
            time.sleep(0.01)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)


def test_two_real_rounds_killed_twice_end_whole(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from train import dpo, sft  # noqa: F401, PLC0415 - loaded once, before the forks

    monkeypatch.setenv("TOOLTUNE_CACHE", str(tmp_path / "cache"))
    path = config_file(tmp_path, model=str(tiny_model), rounds=2, patience=2)
    loop, started = loop_of(path), tmp_path / "started"

    def start(command: list[str], *, log: Path) -> Any:
        with open(started, "a", encoding="utf-8") as file:
            file.write(f"{log.parent.parent.name}/{log.stem}\n")
        child = in_a_fork(command, log=log)
        if f"{log.parent.parent.name}/{log.stem}" == deadly:
            time.sleep(0.3)  # it is at work
            os.kill(os.getpid(), signal.SIGKILL)
        return child

    monkeypatch.setattr(loop_run, "start_command", start)
    for deadly in ("round-1/sft", "round-2/validate"):  # noqa: B007 - `start` looks at it
        assert forked(lambda: main("--config", path)) == -signal.SIGKILL
    deadly = "none/none"
    assert main("--config", path) == 0
    begun = started.read_text(encoding="utf-8").split()
    assert {name: begun.count(name) for name in ("round-1/sft", "round-2/validate")} == {
        "round-1/sft": 2, "round-2/validate": 2,
    }  # fmt: skip
    assert len(begun) == len(names(1, 2)) + 2
    assert loop.decision(2)["stop"] == "no significant gain on the validation tasks in 2 rounds"
    for number in (1, 2):
        for kind in ("sft", "dpo"):
            assert (loop.folder(number) / kind / "adapter_model.safetensors").stat().st_size > 0
        records = list(read_trajectories(loop.folder(number) / "test" / f"dpo-{number}" / "trajectories.jsonl"))
        summary = json.loads((loop.out / "summary.json").read_text(encoding="utf-8"))
        told = summary["rounds"][number - 1]["test"][f"dpo-{number}"]["success_rate"]
        assert told["value"] == kpis(records)["success_rate"].value
    run = json.loads((loop.folder(2) / "sft" / "run.json").read_text(encoding="utf-8"))
    assert run["model"]["adapter"] == str(loop.folder(1) / "best")
    files = ["records.jsonl", "practice/sft/trajectories.jsonl", "validation/sft/trajectories.jsonl"]
    groups = [
        {record.metadata.instruction for record in read_trajectories(file)}
        for file in (*(loop.folder(1) / name for name in files), *(loop.folder(2) / name for name in files[:2]))
    ]
    assert sum(map(len, groups)) == len(set.union(*groups))  # no task twice
    assert (loop.out / "leaderboard" / "index.html").is_file()
    assert "no significant gain on the validation tasks in 2 rounds" in capsys.readouterr().out


# ---------------------------------------------------------------- tasks as data


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_written_tasks_are_found_in_their_own_records_and_in_no_training_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the audit and for decontamination, in all worlds, long contexts among them."""
    monkeypatch.chdir(tmp_path)
    same = ("--count", 100, "--seed", 9, "--out")
    assert run_here("benchmark", "tasks", "--split", "test", *same, "tasks.jsonl") == 0
    assert run_here("benchmark", "record", "--split", "test", *same, "test.jsonl") == 0
    assert run_here("benchmark", "record", "--split", "train", *same, "train.jsonl") == 0
    tasks = read_test_tasks(tmp_path / "tasks.jsonl")
    rows = lines_of(tmp_path / "tasks.jsonl")
    assert {row["world"] for row in rows} == {"code", "web", "api", "files", "other"}
    assert any(row["context_tokens"] for row in rows) and len({row["id"] for row in rows}) == 100
    for file, found in (("test.jsonl", 100), ("train.jsonl", 0)):
        chats = [trajectory_to_chat(each, outcomes=frozenset(Outcome)) for each in read_trajectories(tmp_path / file)]
        assert sum(tasks.match(record_to_row(chat)) is not None for chat in chats) == found  # type: ignore[arg-type] # no Skip among them
    curate = {
        "inputs": ["test.jsonl", "train.jsonl"], "out": "curated",
        "steps": [Decontaminate(against=["tasks.jsonl"]).model_dump(mode="json")],
    }  # fmt: skip
    (tmp_path / "curate.yaml").write_text(yaml.safe_dump(curate))
    assert run_here("data", "curate", "--config", "curate.yaml") == 0
    kept = {row["id"] for row in lines_of(tmp_path / "curated" / "curated.jsonl")}
    assert kept == {row["id"] for row in lines_of(tmp_path / "train.jsonl")}


def test_every_example_config_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for path in sorted((ROOT / "configs" / "benchmark").glob("*.yaml")):
        if "arms" in read_yaml(path):  # of a sweep, which tests/test_sweep.py reads
            continue
        loop = loop_of(path)
        for each in (loop.config.sft, loop.config.preferring[1]):
            assert Path(each.config).is_file()
        assert len(loop.stages()) == 2 + (10 if loop.config.validation else 8) * loop.config.rounds
    with pytest.raises(UserError, match="cannot be read"):
        read_config(tmp_path / "none.yaml", LoopConfig)
