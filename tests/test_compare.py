"""Two runs are held against each other task by task: exit codes, intervals, and what was different about their data."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.__main__ import app
from benchmark.kpis import compare_shares
from benchmark.reports.compare import Paired, compare_runs
from benchmark.runs.results import differences, read_run, read_tries
from core.command_line import run_command
from data.models import read_stages, weights_sha256
from support.run_folders import PLANTED, made, sha, source, stage, write_run


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `python -m benchmark compare` in this process: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["benchmark", "compare", *map(str, arguments)])
        try:
            run_command(app, name="python -m benchmark")
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def solved(folder: Path, name: str, tasks: set[int], count: int = 40, **changes: Any) -> Path:
    records = [
        made(n, outcome="success" if n in tasks else "failure", world="files" if n % 2 else "api") for n in range(count)
    ]
    return write_run(folder / name, records, **changes)


def test_a_significant_loss_exits_1_and_everything_else_0(tmp_path: Path, compare: Any) -> None:
    good, poor, near = (
        solved(tmp_path, name, set(range(count))) for name, count in (("good", 30), ("poor", 12), ("near", 29))
    )
    code, out, _ = compare(good, poor)
    assert code == 1 and "-45.0 points (95 % -60.0 to -30.0), a significant loss" in out.splitlines()[0]
    assert "0 tasks better, 18 worse, sign test p = 7.6e-06" in out.splitlines()[0]
    code, out, _ = compare(poor, good)
    assert code == 0 and "+45.0 points" in out and "a significant gain" in out and "newly solved: 18" in out
    code, out, _ = compare(good, near)
    assert code == 0 and "-2.5 points" in out and "within chance" in out
    # The one task that changed is named, with the places of both its records.
    assert (
        "newly failed: 1" in out and f"{good}/trajectories.jsonl:30" in out and f"{near}/trajectories.jsonl:30" in out
    )
    assert compare(good, good)[0] == 0


def test_the_interval_is_the_paired_bootstrap_of_the_documentation(tmp_path: Path, compare: Any) -> None:
    """docs/kpis.md, recomputed from the two files by other code."""
    a, b = solved(tmp_path, "a", set(range(3, 25))), solved(tmp_path, "b", set(range(14, 30)))
    code, out, _ = compare(a, b, "--json")
    told = json.loads(out)["success"]

    def successes(folder: Path) -> dict[str, bool]:
        lines = map(json.loads, (folder / "trajectories.jsonl").read_text(encoding="utf-8").splitlines())
        return {line["metadata"]["task"]["id"]: line["outcome"] == "success" for line in lines}

    of_a, of_b = successes(a), successes(b)
    changes = np.sort([of_b[task] - float(of_a[task]) for task in of_a])
    rng = np.random.default_rng(0)
    means = [changes[rng.integers(40, size=40)].mean() for _ in range(2000)]
    assert told["difference"]["value"] == pytest.approx(changes.mean())
    assert [told["difference"][end] for end in ("low", "high")] == pytest.approx(
        list(np.percentile(means, [2.5, 97.5]))
    )
    assert (told["better"], told["worse"]) == (5, 11) and (code == 1) == (told["difference"]["high"] < 0)


REPLIES = {
    "unreadable": 1203,
    "unreadable_by_the_servers_fault": 2,
    "in_another_form": {"llama-json": 17, "[red]\x1b[2J": 5},
}


def test_how_replies_were_read_stands_in_both_runs(tmp_path: Path, compare: Any) -> None:
    old = solved(tmp_path, "old", {1, 2})
    new = solved(tmp_path, "new", {1, 2}, replies=REPLIES)
    code, out, _ = compare(old, new)
    assert code == 0 and "\x1b[2J" not in out
    lines = [
        re.split("  +", line.strip()) for line in out.split("how replies were read")[1].split("\n\n")[0].splitlines()
    ]
    assert ["turns", "old", "new"] in lines and ["unreadable", "-", "1,203"] in lines
    assert ["unreadable by the server's fault", "-", "2"] in lines and ["calls read as llama-json", "-", "17"] in lines
    replies = {
        side: run["replies"]
        for side, run in json.loads(compare(old, new, "--json")[1]).items()
        if side in ("before", "after")
    }
    assert replies == {"before": None, "after": REPLIES}
    assert "how replies" not in compare(old, solved(tmp_path, "third", {1, 2}))[1]
    none = {"unreadable": 0, "unreadable_by_the_servers_fault": 0, "in_another_form": {}}
    assert "unreadable                        0" in compare(solved(tmp_path, "fourth", {1}, replies=none), new)[1]


def test_worlds_are_told_apart_and_never_decide(tmp_path: Path, compare: Any) -> None:
    # Ten tasks of files are lost and ten of api are won: nothing over all, and a loss in one world.
    before, after = solved(tmp_path, "before", set(range(1, 20, 2))), solved(tmp_path, "after", set(range(0, 20, 2)))
    code, out, _ = compare(before, after, "--json")
    report = json.loads(out)
    assert code == 0 and report["success"]["difference"]["value"] == 0
    assert report["by_world"]["files"]["verdict"] == "a significant loss"
    assert report["by_world"]["api"]["verdict"] == "a significant gain"
    assert [len(report[name]) for name in ("newly_failed", "newly_solved")] == [10, 10]
    assert report["newly_failed"][0] == {
        "task": "t-001",
        "world": "files",
        "before": {"record": "r-1", "line": 2, "outcome": "success", "success": 1.0},
        "after": {"record": "r-1", "line": 2, "outcome": "failure", "success": 0.0},
    }


def test_only_the_same_tasks_are_paired(tmp_path: Path, compare: Any) -> None:
    a = solved(tmp_path, "a", set(range(10)), count=20)
    other = [made(n, instruction=f"another task {n}") if n < 5 else made(n) for n in range(15)]
    b = write_run(tmp_path / "b", other)
    code, out, _ = compare(a, b)
    assert code == 0 and "on 10 shared tasks" in out.splitlines()[0]
    assert "5 tasks have the same id and another instruction" in out.splitlines()[0]
    assert "5 tasks are in one of them only" in out.splitlines()[0]
    code, _, err = compare(a, write_run(tmp_path / "c", [made(n) for n in range(50, 60)]))
    assert code == 2 and "no task in common" in err


def test_mistakes_are_told_with_the_nearest_name(tmp_path: Path, compare: Any) -> None:
    a = solved(tmp_path, "기본모델", {1})
    code, _, err = compare(a, tmp_path / "기본모댈")
    assert code == 2 and "Did you mean" in err and "기본모델'" in err and "Traceback" not in err
    (a / "kpis.json").unlink()  # a run that was broken off has no numbers yet
    code, _, err = compare(a, a)
    assert code == 2 and "finished run" in err


def test_several_tries_of_a_task_count_as_its_share(tmp_path: Path) -> None:
    tries = [made(n, outcome="success" if n < 3 else "failure") for n in range(4)]
    for each in tries:
        (each.metadata.model_extra or {})["task"]["id"] = "t"
    once = made(9, outcome="failure")
    (once.metadata.model_extra or {})["task"]["id"] = "t"
    before, after = write_run(tmp_path / "a", [once]), write_run(tmp_path / "b", tries)
    report = compare_runs(read_run(before), read_tries(before), read_run(after), read_tries(after))
    assert report.success.comparison.value == 0.75 and report.success.comparison.low is None
    assert [(each.share_before, each.share_after) for each in report.newly_solved] == [(0.0, 0.75)]


@pytest.mark.parametrize(
    ("better", "worse", "p"), [(0, 0, 1.0), (5, 0, 0.0625), (6, 0, 0.03125), (8, 1, 0.0390625), (3, 3, 1.0)]
)
def test_the_sign_test_is_exact(better: int, worse: int, p: float) -> None:
    """Values of the binomial distribution with one half."""
    assert Paired(compare_shares({}, {}), None, None, better, worse).sign_test == p


def told(before: Path, after: Path) -> dict[str, tuple[str | None, str | None]]:
    return {each.what: (each.before, each.after) for each in differences(read_run(before), read_run(after))}


def test_the_data_difference_names_what_a_contributor_added(tmp_path: Path, compare: Any) -> None:
    old = stage("sft", "old", "base", source("train", 100, release="1.0.0", lee=100))
    new = stage(
        "sft", "new", "base",
        source("train", 100, release="1.1.0", content="changed", lee=100),
        source("김민수", 40, release="1.1.0", 김민수=40),
        learning_rate=2e-4,
    )  # fmt: skip
    before = solved(tmp_path, "old", {1}, weights_sha256=sha("old"), trained_on=[old])
    after = solved(tmp_path, "new", {1}, weights_sha256=sha("new"), trained_on=[new], options={"max_steps": 8})
    assert told(before, after) == {
        "sft: records/train.jsonl (trajectory)": (
            f"100 rows, sha256 {sha('train')[:12]}",
            f"100 rows, sha256 {sha('changed')[:12]}",
        ),
        "sft: records/김민수.jsonl (trajectory)": (None, f"40 rows, sha256 {sha('김민수')[:12]}"),
        "sft: rows from 김민수": (None, "40"),
        "sft: release tool-records": (f"1.0.0 (sha256 {sha('1.0.0')[:12]})", f"1.1.0 (sha256 {sha('1.1.0')[:12]})"),
        "sft: train rows": (
            f"100 rows, sha256 {old['data']['splits']['train']['sha256'][:12]}",
            f"140 rows, sha256 {new['data']['splits']['train']['sha256'][:12]}",
        ),
        "sft: learning_rate": ("0.0001", "0.0002"),
        "model": ("models/old", "models/new"),
        "max_steps": ("12", "8"),
    }
    out = compare(before, after)[1]
    assert "rows from 김민수" in out and "1.1.0" in out
    assert told(before, before) == {}


def test_a_file_that_only_moved_is_no_difference_and_shared_stages_are_not_told_again(tmp_path: Path) -> None:
    sft = stage("sft", "sft", "base", source("train", 100))
    one = stage("dpo", "one", "sft", source("pairs", 50))
    two = stage("dpo", "two", "sft", source("moved", 50, content="pairs"))
    two["data"]["splits"] = one["data"]["splits"]
    before = solved(tmp_path, "one", {1}, weights_sha256=sha("one"), trained_on=[sft, one])
    after = solved(tmp_path, "two", {1}, weights_sha256=sha("two"), trained_on=[sft, two])
    assert told(before, after) == {"model": ("models/one", "models/two")}
    alone = solved(tmp_path, "sft", {1}, weights_sha256=sha("sft"), trained_on=[sft])
    assert told(alone, before)["stage"] == (None, "dpo in models/one")
    assert not any(what.startswith("sft") for what in told(alone, before))
    assert told(before, alone)["stage"] == ("dpo in models/one", None)


def test_nothing_planted_drives_the_terminal(tmp_path: Path, compare: Any) -> None:
    sources = [source(PLANTED, 3, release=PLANTED, **{PLANTED: 3})]
    a = solved(tmp_path, "a", {1}, label=PLANTED, model=PLANTED, trained_on=[stage(PLANTED, PLANTED, "base", *sources)])
    b = solved(tmp_path, "b", {1, 2})
    assert "\x1b" not in compare(a, b)[1] and "\u202e" not in compare(a, b)[1]


# ---- what training leaves ----


def train(folder: Path, method: str, start: Path, **changes: Any) -> Path:
    """A model folder with the run.json of a training, as far as it is read."""
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(method.encode() + str(start).encode())
    is_adapter = (start / "adapter_model.safetensors").exists()
    record = {
        "method": method,
        "finished": "2026-11-20T10:00:00+00:00",
        "options": {"learning_rate": 1e-4},
        "model": {
            "base": "base",
            "adapter": str(start) if is_adapter else None,
            "sha256": {"base": "0" * 64, "adapter": weights_sha256(str(start)) if is_adapter else None},
        },
        "data": {
            "kind": "chat",
            "sources": [source(method, 3)],
            "splits": {"train": {"rows": 3, "sha256": sha(method)}},
        },
        **changes,
    }
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def test_stages_are_followed_from_a_model_to_what_it_was_trained_from(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    sft = train(tmp_path / "sft", "sft", tmp_path / "base")
    dpo = train(tmp_path / "dpo", "dpo", sft)
    stages = read_stages(str(dpo))
    assert [(each.method, each.folder) for each in stages] == [("sft", str(sft)), ("dpo", str(dpo))]
    assert stages[1].started_sha256 == stages[0].sha256 == weights_sha256(str(sft))
    # A checkpoint's data stand with its run.
    (dpo / "checkpoint-9").mkdir()
    (dpo / "checkpoint-9" / "adapter_model.safetensors").write_bytes(b"nine")
    assert [each.folder for each in read_stages(str(dpo / "checkpoint-9"))] == [str(sft), str(dpo / "checkpoint-9")]
    # A folder that was trained again is no longer what DPO started from.
    (sft / "adapter_model.safetensors").write_bytes(b"trained again")
    assert [each.method for each in read_stages(str(dpo))] == ["dpo"]
    assert read_stages(str(tmp_path / "base")) == [] == read_stages("somebody/on-the-hub")


@pytest.mark.parametrize("text", ["", "[]", '{"model": null}', '{"model": {"adapter": 3, "base": "b"}}'])
def test_a_broken_run_json_hinders_no_benchmark(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    assert read_stages(str(tmp_path)) == []
