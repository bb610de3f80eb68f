"""`benchmark sweep`: arms from one start, variants halved, one table; with commands that write what the real ones would."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.loop import run as loop_run
from benchmark.loop.sweep_table import compare_over_seeds, training_numbers
from data.records import Trajectory, write_trajectories
from support.commands import run_here
from support.record_samples import record

ARMS: dict[str, Any] = {
    "guard": {"run": "--repeat-guard"},
    "few": {"shots": 3},
    "more": {"imitates": "records", "records": 16},
    "own": {"imitates": "successes"},
    "done": {"imitates": "completed"},
    "P": {"prefers": "stuck,stop"},
    "C": {"chosen_of": "P"},
    "after": {"prefers": "try", "after": "own"},
}


def config_file(folder: Path, **changes: Any) -> Path:
    training = folder / "설정.yaml"
    training.write_text("learning_rate: 1.0e-3\n", encoding="utf-8")
    values = {
        "out": str(folder / "비교"), "model": str(folder / "base"), "tasks": "--worlds files,api --short",
        "record": {"count": 8, "seed": 7}, "practice": {"count": 4, "seed": 107, "options": "--samples 2 --temperature 0.8"},
        "validation": {"count": 7, "seed": 207}, "test": {"count": 4, "seed": 1},
        "sft": {"config": str(training)}, "dpo": {"config": str(training)},
        "grid": {"learning_rate": [1e-5, 2e-5], "beta": [0.1, 0.5]}, "arms": ARMS, **changes,
    }  # fmt: skip
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), "utf-8")
    return path


def tried(number: int, solved: bool, tier: int = 1) -> Trajectory:
    row = record(id=f"r-{number}", outcome="success" if solved else "failure")
    row["metadata"] |= {
        "task": {"id": f"t-{number:03}", "world": "files", "tier": tier, "facts": {}}, "score": float(solved)
    }  # fmt: skip
    return Trajectory.model_validate(row)


class Scripted:
    """Commands that write what the real ones would, at once."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.commands: dict[str, list[str]] = {}
        self.fails: set[str] = set()
        self.without_pairs: set[str] = set()
        self.stopped: set[str] = set()
        self.solves: Callable[[str], int] = lambda model: len(model) % 4

    def __call__(self, command: list[str], *, log: Path) -> subprocess.Popen[bytes]:
        folder, name = log.parent.parent, log.stem
        stage = "/".join([*folder.parts[folder.parts.index("비교") + 1 :], name])
        self.started.append(stage)
        self.commands[stage] = command
        code = 1 if stage in self.fails else self.run(command, stage, name)
        return subprocess.Popen(["sh", "-c", f"echo 출력; exit {code}"], stdout=open(log, "ab"))

    def run(self, command: list[str], stage: str, name: str) -> int:
        given = dict(pairwise(command))
        digest = hashlib.sha256(shlex.join(command).encode()).hexdigest()
        if name in ("sft", "dpo"):
            out = Path(given["--output_dir"])
            out.mkdir(parents=True, exist_ok=True)
            (out / "adapter_model.safetensors").write_text(digest)
            stopped = {"stopped_at_chosen_drop": {"step": 3}} if stage in self.stopped else {}
            metrics = {
                "eval_entropy": 0.5, "eval_rewards/rejected": -0.4, "eval_rewards/chosen": -0.1, "eval_logps/chosen": -21.0
            }  # fmt: skip
            told = {"metrics": metrics, "options": {"beta": 0.1}, "rows": {"train": {"kept": 12}}, **stopped}
            (out / "run.json").write_text(json.dumps(told))
        elif command[3:4] == ["run"]:
            count = self.solves(given["--model"])
            first = int(given.get("--skip", 0))
            records = [tried(first + n, n < count) for n in range(int(given["--count"]))]
            write_trajectories(Path(given["--out"]) / given["--label"] / "trajectories.jsonl", records)
        elif name == "pairs":
            out = Path(given["--out"])
            kept = 0 if stage.split("/")[1] in self.without_pairs else 5
            out.with_suffix(".counts.json").write_text(json.dumps({"kept": kept, "kinds": {}}))
            if not kept:
                return 2
            out.write_text(digest)
        else:
            out = Path(given["--out"])
            out = out / "manifest.json" if name.endswith("-data") else out
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(digest)
        return 0


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scripted:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    commands = Scripted()
    monkeypatch.setattr(loop_run, "start_command", commands)
    monkeypatch.setattr(
        loop_run, "code_sha256", lambda *_: "code"
    )  # hashed for each stage, it would take most of the time
    return commands


def main(*arguments: object) -> int:
    return run_here("benchmark", "sweep", *arguments)


def table(folder: Path) -> dict[str, Any]:
    told = json.loads((folder / "비교" / "table.json").read_text("utf-8"))
    return {row["arm"]: row for row in told["arms"]}


def test_all_arms_learn_from_one_start_and_stand_in_one_table(
    scripted: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("--config", config_file(tmp_path)) == 0
    capsys.readouterr()
    rows = table(tmp_path)
    assert list(rows) == ["start", *ARMS]
    assert all(row["test"]["n"] == 4 for row in rows.values())
    assert rows["P"]["rows"] == [12] and rows["guard"]["rows"] == [None]
    given = {stage: dict(pairwise(command)) for stage, command in scripted.commands.items()}
    start = str(tmp_path / "비교" / "seed-7" / "start" / "sft")
    trainings = {stage for stage in scripted.started if stage.endswith(("/sft", "/dpo"))}
    for stage in trainings - {"seed-7/start/sft", "seed-7/more/only/sft"}:
        after = "own/only/sft" if "/after/" in stage else "start/sft"
        assert given[stage]["--model_name_or_path"] == str(tmp_path / "비교" / "seed-7" / after)
    assert given["seed-7/more/only/sft"]["--model_name_or_path"] == str(tmp_path / "base")
    assert sum("/P/" in stage for stage in trainings) == 4 and sum("/C/" in stage for stage in trainings) == 2
    # The control sees the very same rows, without the preference.
    control = next(stage for stage in trainings if "/C/" in stage)
    assert given[control]["--data"] == str(tmp_path / "비교" / "seed-7" / "P" / "data")
    assert "--loss_type sft --loss_weights 1.0" in shlex.join(scripted.commands[control])
    assert "--repeat-guard" in scripted.commands["seed-7/guard/test"]
    assert given["seed-7/few/test"]["--model"] == start and given["seed-7/few/test"]["--shots"] == "3"
    # Tries of its own model for the arm that comes after another.
    assert "own/practice" in " ".join(scripted.commands["seed-7/after/pairs"])
    scripted.started.clear()
    assert main("--config", config_file(tmp_path)) == 0 and scripted.started == []


def test_variants_are_halved_on_tasks_that_are_new_each_time(scripted: Scripted, tmp_path: Path) -> None:
    def solves(model: str) -> int:
        return {"1e-05,beta=0.1": 0, "1e-05,beta=0.5": 1, "2e-05,beta=0.1": 2, "2e-05,beta=0.5": 1}.get(
            m[1] if (m := re.search(r"learning_rate=([^/]*)", model)) else "", 1
        )

    scripted.solves = solves
    assert main("--config", config_file(tmp_path, arms={"P": ARMS["P"]})) == 0
    first = [stage for stage in scripted.started if "/P/" in stage and stage.endswith("validate-0")]
    second = [stage for stage in scripted.started if "/P/" in stage and stage.endswith("validate-1")]
    assert len(first) == 4 and len(second) == 2
    told = [dict(pairwise(scripted.commands[stage])) for stage in (first[0], second[0])]
    assert (told[0].get("--skip"), told[0]["--count"]) == (None, "2")
    assert (told[1]["--skip"], told[1]["--count"]) == ("2", "5")
    assert table(tmp_path)["P"]["variants"] == ["learning_rate=2e-05,beta=0.1"]
    assert table(tmp_path)["P"]["validation"]["n"] == 7
    [tested] = [stage for stage in scripted.started if "/P/" in stage and stage.endswith("/test")]
    assert "learning_rate=2e-05,beta=0.1" in tested


def test_a_training_that_was_stopped_stands_last_and_is_told(scripted: Scripted, tmp_path: Path) -> None:
    scripted.solves = lambda model: 2 if "2e-05" in model else 1
    scripted.stopped = {"seed-7/P/learning_rate=2e-05/dpo"}
    arms = {
        "P": {**ARMS["P"], "grid": {"learning_rate": [1e-5, 2e-5]}},
        "Q": {**ARMS["P"], "grid": {"learning_rate": [2e-5]}},
    }
    scripted.stopped.add("seed-7/Q/learning_rate=2e-05/dpo")
    assert main("--config", config_file(tmp_path, arms=arms)) == 0
    rows = table(tmp_path)
    assert rows["P"]["variants"] == ["learning_rate=1e-05"] and rows["P"]["stopped"] == [None]
    assert rows["Q"]["stopped"] == [{"step": 3}]
    assert "1 of 1" in (tmp_path / "비교" / "table.md").read_text("utf-8")


def test_an_arm_that_fails_or_has_no_pairs_does_not_stop_the_others(scripted: Scripted, tmp_path: Path) -> None:
    scripted.fails = {"seed-7/own/sft-data"}
    scripted.without_pairs = {"P"}
    assert main("--config", config_file(tmp_path)) == 1
    rows = table(tmp_path)
    assert {name for name, row in rows.items() if row["test"] is None} == {"own", "P", "C", "after"}
    scripted.fails.clear()
    scripted.started.clear()
    assert main("--config", config_file(tmp_path)) == 0
    assert scripted.started[0] == "seed-7/own/sft-data" and table(tmp_path)["after"]["test"] is not None


def test_each_seed_has_its_own_start_and_tries(scripted: Scripted, tmp_path: Path) -> None:
    assert main("--config", config_file(tmp_path, seeds=[7, 8], arms={"own": ARMS["own"]})) == 0
    assert dict(pairwise(scripted.commands["seed-8/own/only/sft"]))["--seed"] == "8"
    assert "seed-8/start/practice" in scripted.started and scripted.started.count("record-8") == 1
    assert table(tmp_path)["own"]["seeds"] == [7, 8]


@pytest.mark.parametrize(
    ("arms", "told"),
    [
        ({"a": {"prefers": "stuk"}}, "stuck"),
        ({"a": {"prefers": "stop", "imitates": "successes"}}, "one of these"),
        ({"a": {"imitates": "records"}}, "records: N"),
        ({"a": {"chosen_of": "b"}}, "'b' is no arm before it"),
        ({"a/b": {}}, "a name of letters"),
        ({"a": {"prefers": "pit"}}, "--prove"),
        ({"a": {"rates": "tries"}}, "kto is missing"),
    ],
)
def test_arms_that_cannot_be_are_told(
    tmp_path: Path, arms: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("--config", config_file(tmp_path, arms=arms)) == 2
    assert told in capsys.readouterr().err


def test_success_against_records_is_told_for_each_share_and_seed(
    scripted: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = tmp_path / "설정.yaml"
    training.write_text("learning_rate: 1.0e-3\n", encoding="utf-8")
    values = {
        "out": str(tmp_path / "비교"), "model": str(tmp_path / "base"), "rounds": 1, "record": {"count": 8, "seed": 7},
        "practice": {"count": 4, "seed": 107}, "validation": {"count": 4, "seed": 207}, "test": {"count": 2, "seed": 1},
        "sft": {"config": str(training)}, "dpo": {"config": str(training)},
    }  # fmt: skip
    path = tmp_path / "loop.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True), "utf-8")
    scripted.solves = lambda model: 3 if "/1/" in model else 1
    assert run_here("benchmark", "curve", path, "--shares", "0.5,1") == 0
    points = json.loads((tmp_path / "비교" / "curve" / "curve.json").read_text("utf-8"))["points"]
    assert [(point["share"], point["success"]["value"], point["by_seed"]) for point in points] == [
        (0.5, 0.25, [0.25, 0.25]), (1.0, 0.75, [0.75, 0.75]),
    ]  # fmt: skip
    build = yaml.safe_load((tmp_path / "비교" / "curve" / "0.5" / "seed-2" / "data.yaml").read_text("utf-8"))
    assert (build["seed"], build["sources"][0]["weight"]) == (2, 0.5)
    scripted.started.clear()
    assert run_here("benchmark", "curve", path, "--shares", "0.5,1") == 0 and not scripted.started
    assert run_here("benchmark", "curve", path, "--shares", "2") == 2
    assert "at most 1" in capsys.readouterr().err


def test_intervals_over_seeds_and_tasks_are_wider_than_over_tasks_alone() -> None:
    def pair(*solved: bool) -> tuple[list[Trajectory], list[Trajectory]]:
        return [tried(n, False) for n in range(len(solved))], [tried(n, each) for n, each in enumerate(solved)]

    good, bad = pair(*[True] * 18, *[False] * 2), pair(*[True] * 2, *[False] * 18)
    both = compare_over_seeds([good, bad])
    assert both.value == pytest.approx(0.5) and both.low is not None and both.high is not None
    assert both.low < 0.15 and both.high > 0.85
    assert compare_over_seeds([good]).value == pytest.approx(0.9)


def test_what_a_training_did_is_told_against_its_reference() -> None:
    metrics = {
        "eval_entropy": 0.7,
        "eval_rewards/rejected": -0.5,
        "eval_rewards/chosen": -0.2,
        "eval_logps/chosen": -22.0,
    }
    numbers = training_numbers({"metrics": metrics, "options": {"beta": 0.1}})
    assert numbers == {"entropy": 0.7, "kl": pytest.approx(5.0), "chosen": pytest.approx(-0.1)}
    assert training_numbers({}) == {}
