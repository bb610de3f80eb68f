"""`python -m benchmark run`: what it leaves, what it reuses, and that a killed run goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmark.agent.episodes import Try
from benchmark.kpis import pass_hat_k
from benchmark.runs.actors import model_sha256
from benchmark.runs.done import DECIDING_CODE
from benchmark.runs.run import tasks_to_tries
from benchmark.worlds.kinds import make_tasks
from core.errors import UserError
from data.records import Outcome, Trajectory, read_trajectories
from support.chat_server import Fake, chat
from support.commands import Run, run_here
from support.forking import fork, wait

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def bench(run_app: Run) -> Run:
    """A command of `python -m benchmark` in this process: exit code, standard output, standard error."""
    return partial(run_app, "benchmark")


def result(folder: Path) -> dict[str, Any]:
    value = json.loads((folder / "kpis.json").read_text(encoding="utf-8"))
    assert isinstance(value, dict)
    return value


def records(folder: Path) -> list[Trajectory]:
    return list(read_trajectories(folder / "trajectories.jsonl"))


def without_clock(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "trajectories.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row.pop("timestamp")
        for action in row["action_sequence"]:
            del action["start_time"], action["end_time"]
    return rows


def test_a_run_leaves_records_in_the_order_of_the_tasks_and_all_numbers(bench: Run, tmp_path: Path) -> None:
    code, out, err = bench("run", "--policy", "expert", "--policy", "echo", "--count", 20, "--out", tmp_path)
    assert (code, err) == (0, "") and "100 %" in out
    tasks = make_tasks(["code", "web", "api", "files", "other"], "test", 20, 1)
    for label in ("expert", "echo"):
        found = records(tmp_path / label)
        assert [record.id for record in found] == [f"{task.id}-{label}" for task in tasks]
        assert not list((tmp_path / label).glob("unfinished*"))
    told = result(tmp_path / "expert")
    assert told["kpis"]["success_rate"]["value"] == told["pass_hat_k"]["1"]["value"] == 1.0
    for part, names in {
        "by_world": {"code", "web", "api", "files", "other"},
        "by_language": {task.language for task in tasks},
        "by_tier": {str(task.tier) for task in tasks},
        "by_fault": {task.faults[0].kind if task.faults else "none" for task in tasks},
    }.items():
        assert set(told[part]) == names
        assert sum(group["success_rate"]["n"] for group in told[part].values()) == 20
    assert sum(group["n"] for group in told["success_by_context"].values()) == 20
    assert (told["count"], told["samples"], told["options"]["invalid"]) == (20, 1, "retry")
    assert told["not_applicable"] == {"window": None, "tries": 0, "tasks": [], "by_context": {}}


def test_what_is_unchanged_is_reused_and_more_tasks_cost_only_those(bench: Run, tmp_path: Path) -> None:
    run = ["run", "--policy", "expert", "--worlds", "files,api", "--seed", 3, "--out", tmp_path]
    assert bench(*run, "--count", 12, "--limit", 4)[0] == 0
    first = (tmp_path / "expert" / "trajectories.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(first) == result(tmp_path / "expert")["count"] == 4
    code, out, _ = bench(*run, "--count", 12)
    assert code == 0 and "4 of 12 tries are done already" in out
    lines = (tmp_path / "expert" / "trajectories.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[:4] == first and len(lines) == 12
    assert "already done, reused" in bench(*run, "--count", 12)[1]
    # Another option, another seed, a changed file: nothing is reused.
    assert "done already" not in bench(*run, "--count", 12, "--max-steps", 30)[1]
    assert "done already" not in bench(*run[:-3], 4, *run[-2:], "--count", 12, "--max-steps", 30)[1]
    (tmp_path / "expert" / "trajectories.jsonl").write_text(lines[0] + "\n", encoding="utf-8")
    assert "done already" not in bench(*run, "--count", 12)[1]


def test_a_killed_run_goes_on_and_ends_as_an_unbroken_one(bench: Run, tmp_path: Path) -> None:
    run = ("run", "--policy", "expert", "--worlds", "files,api,web", "--count", 60, "--advise", "--out")
    broken = tmp_path / "broken" / "expert"
    child = fork(lambda: run_here("benchmark", *run, tmp_path / "broken"))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        files = list(broken.glob("unfinished-*.jsonl"))
        if files and files[0].read_bytes().count(b"\n") >= 20:
            break
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    assert wait(child) == -signal.SIGKILL
    [unfinished] = broken.glob("unfinished-*.jsonl")
    assert not (broken / "kpis.json").exists()
    whole = unfinished.read_bytes().count(b"\n")
    assert 20 <= whole < 60
    with open(unfinished, "ab") as file:  # as a kill inside a write leaves it
        file.write(b'{"id": "files-test-1-0')
    code, out, _ = bench(*run, tmp_path / "broken")
    assert code == 0 and f"{whole} of 60 tries are done already" in out
    assert bench(*run, tmp_path / "unbroken")[0] == 0
    assert without_clock(broken) == without_clock(tmp_path / "unbroken" / "expert")
    assert not list(broken.glob("unfinished*"))


def test_a_model_is_known_by_its_files(tiny_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    first = model_sha256(str(tiny_model))
    assert model_sha256(str(copy)) == first
    (copy / "run.json").write_text("{}", encoding="utf-8")
    assert model_sha256(str(copy)) == first
    for name in ("model.safetensors", "tokenizer.json", "chat_template.jinja", "generation_config.json", "config.json"):
        before = (copy / name).read_bytes()
        (copy / name).write_bytes(before + b" ")
        assert model_sha256(str(copy)) != first, name
        (copy / name).write_bytes(before)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(copy)}), encoding="utf-8")
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    seen = {first, model_sha256(str(adapter))}
    (adapter / "adapter_model.safetensors").write_bytes(b"other")
    seen.add(model_sha256(str(adapter)))
    (copy / "model.safetensors").write_bytes(b"another base")
    seen.add(model_sha256(str(adapter)))
    assert len(seen) == 4
    template = tmp_path / "t.jinja"
    template.write_text("x", encoding="utf-8")
    assert model_sha256(str(tiny_model), str(template)) != first


def test_samples_of_a_model_differ_and_repeat_with_their_seed(bench: Run, tiny_model: Path, tmp_path: Path) -> None:
    run = [
        "run", "--model", tiny_model, "--label", "tiny", "--worlds", "files", "--short", "--count", 2, "--max-steps", 1,
        "--max-new-tokens", 6, "--temperature", 1.2, "--samples", 3,
    ]  # fmt: skip
    said = {}
    for out, seed in (("a", 5), ("b", 5), ("c", 6)):
        assert bench(*run, "--sampling-seed", seed, "--out", tmp_path / out)[0] == 0
        found = records(tmp_path / out / "tiny")
        assert [record.id[-3:] for record in found] == ["-s0", "-s1", "-s2"] * 2
        sampling = [(record.metadata.model_extra or {})["sampling"] for record in found]
        assert [each["sample"] for each in sampling] == [0, 1, 2] * 2 and len({each["seed"] for each in sampling}) == 6
        said[out] = [str(record.action_sequence[0].input) for record in found]
    assert said["a"] == said["b"] != said["c"] and len(set(said["a"])) == 6
    told = result(tmp_path / "a" / "tiny")
    assert list(told["pass_hat_k"]) == ["1", "2", "3"] and told["pass_hat_k"]["3"]["n"] == 2
    assert told["options"]["temperature"] == 1.2 and told["options"]["sampling_seed"] == 5


def test_seeds_of_tries_depend_on_nothing_but_seed_task_and_sample() -> None:
    tasks = make_tasks(["files"], "test", 6, 1)
    many = tasks_to_tries(tasks, samples=4, temperature=0.7, sampling_seed=1)
    few = tasks_to_tries(tasks[3:], samples=2, temperature=0.7, sampling_seed=1)
    assert all(attempt in many for attempt in few) and len({attempt.seed for attempt in many}) == 24
    others = tasks_to_tries(tasks, samples=4, temperature=0.7, sampling_seed=2)
    assert not {attempt.seed for attempt in others} & {attempt.seed for attempt in many}
    assert tasks_to_tries(tasks, samples=1, temperature=0.0, sampling_seed=1) == [Try(task) for task in tasks]


def test_tasks_beyond_the_window_are_not_applicable_and_no_failures(
    bench: Run, tiny_model: Path, tmp_path: Path
) -> None:
    run = [
        "run", "--model", tiny_model, "--label", "tiny", "--worlds", "other,web", "--count", 60, "--max-steps", 1,
        "--max-new-tokens", 4, "--window", 4096, "--out", tmp_path,
    ]  # fmt: skip
    code, out, err = bench(*run)
    assert (code, err) == (0, "")
    told, tasks = result(tmp_path / "tiny"), make_tasks(["other", "web"], "test", 60, 1)
    beyond = told["not_applicable"]
    sizes = {task.id: task.context_tokens for task in tasks}
    assert (
        beyond["window"] == 4096 and beyond["tries"] == len(beyond["tasks"]) == sum(beyond["by_context"].values()) > 0
    )
    assert {task for task, size in sizes.items() if size >= 4096} <= set(beyond["tasks"])
    assert not {task for task, size in sizes.items() if size == 0} & set(beyond["tasks"])
    assert told["kpis"]["success_rate"]["n"] == 60 - beyond["tries"] == len(records(tmp_path / "tiny"))
    assert {str(record.metadata.group) for record in records(tmp_path / "tiny")} == set(sizes) - set(beyond["tasks"])
    assert "Not" in out and f"not applicable: {beyond['tries']} tries beyond the window of 4096 tokens" in out
    assert "already done, reused" in bench(*run)[1]


@pytest.mark.parametrize(
    ("tries", "expected"),
    [
        ({"a": "1111", "b": "0000"}, {1: 0.5, 2: 0.5, 4: 0.5}),
        ({"a": "1100"}, {1: 0.5, 2: 1 / 6, 3: 0.0}),
        ({"a": "1110", "b": "1"}, {1: 0.875, 2: 0.5, 3: 0.25}),
    ],
)
def test_pass_hat_k_counts_the_choices_that_hold_successes_only(
    tries: dict[str, str], expected: dict[int, float]
) -> None:
    made = [record_of(task, won == "1", n) for task, each in tries.items() for n, won in enumerate(each)]
    for k, value in expected.items():
        kpi = pass_hat_k(made, k)
        assert kpi.value == pytest.approx(value)
        assert kpi.n == sum(len(each) >= k for each in tries.values())
    assert pass_hat_k(made, 5).n == 0
    with pytest.raises(UserError, match="from 1, got 0"):
        pass_hat_k(made, 0)


def record_of(task: str, won: bool, sample: int) -> Trajectory:
    return Trajectory.model_validate(
        {
            "id": f"{task}-{sample}", "category": "web", "timestamp": "2026-01-01T00:00:00Z", "environment": {"name": "x"},
            "tool": "x", "action_sequence": [], "outcome": "success" if won else "failure",
            "metadata": {"task": {"id": task}},
        }
    )  # fmt: skip


def test_a_served_model_is_run_and_a_broken_run_is_kept(
    bench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.chat_server.FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    run = [
        "run", "--label", "served", "--api-key-env", "MY_KEY", "--worlds", "files,api", "--count", 6, "--batch-size", 2,
        "--out", tmp_path,
    ]  # fmt: skip
    fine, broken = chat("아니요."), (500, {"content-type": "application/json"}, '{"error": "out of memory"}')
    with Fake(fine, fine, fine, broken) as fake:
        url = fake.url
        code, _, err = bench(*run, "--server", url)
        assert code == 2 and "out of memory" in err and "Traceback" not in err
        assert all(headers["Authorization"] == "Bearer sk-very-secret" for headers in fake.headers)
        [unfinished] = (tmp_path / "served").glob("unfinished-*.jsonl")
        kept = unfinished.read_text(encoding="utf-8").count("\n")
        assert 1 <= kept <= 3
        fake.answers = [fine]
        code, out, _ = bench(*run, "--server", url)
        assert code == 0 and f"{kept} of 6 tries are done already" in out
        assert "a server's weights cannot be seen" in bench(*run, "--server", url)[1]
    assert [record.outcome for record in records(tmp_path / "served")] == [Outcome.FAILURE] * 6
    told = (tmp_path / "served" / "kpis.json").read_text(encoding="utf-8")
    assert "sk-very-secret" not in told
    assert (result(tmp_path / "served")["model"], result(tmp_path / "served")["server"]) == ("tiny", url + "/v1")
    code, _, err = bench(*run[:-1], tmp_path / "other", "--server", url, "--model", "tiny")
    assert code == 2 and "nobody listens there" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing to run: give --model, --server or --policy"),
        (["--policy", "expertt"], "Did you mean 'expert'"),
        (["--policy", "echo", "--invalid", "rety"], "is not one of 'stop', 'retry'. Did you mean 'retry'"),
        (
            ["--policy", "echo", "--dtype", "float16"],
            "is not one of 'auto', 'float32', 'bfloat16'. Did you mean 'bfloat16'",
        ),
        (["--server", "http://x/v1", "--model", "x", "--dtype", "bfloat16"], "--dtype goes with --model"),
        (["--policy", "echo", "--samples", "3"], "--samples 3 with --temperature 0"),
        (["--policy", "echo", "--tokenizer", "x"], "--tokenizer goes with --server"),
        (["--policy", "echo", "--label", "a", "--label", "b"], "2 labels for 1 models"),
        (["--policy", "echo", "--policy", "echo"], "two models are called 'echo'"),
        (["--policy", "echo", "--label", "../x"], "expected the name of a folder"),
        (["--model", "no/such/model"], "no such model folder"),
        (["--server", "localhost:1", "--model", "x"], "expected a URL such as"),
        (["--server", "http://x/v1", "--model", "x", "--chat_template_path", "t"], "give --tokenizer to render here"),
        (["--policy", "echo", "--worlds", "fles"], "Did you mean 'files'"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: list[str], told: str, bench: Run, tmp_path: Path) -> None:
    code, _, err = bench("run", *arguments, "--out", tmp_path / "out")
    assert code == 2 and told in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_all_code_that_decides_a_record_is_in_its_key() -> None:
    """What the agent, the backends and the worlds import of ours is in the key, but for what only tells and counts."""
    code = (
        "import sys, benchmark.agent.transformers_model, benchmark.agent.policies, benchmark.agent.served_model\n"
        "print(*[n for n in sys.modules if n.startswith(('benchmark.', 'data.'))])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    files = {name.replace(".", "/") for name in loaded.stdout.split()}
    covered = {str(path.relative_to(ROOT).with_suffix("")) for pattern in DECIDING_CODE for path in ROOT.glob(pattern)}
    covered |= {str(Path(name).parent) for name in covered if name.endswith("/__init__")}
    # Files are written by the one, and folders refused by the other.
    assert files - covered <= {"data/models", "data/wire"}
