"""Benchmarks while a run trains: they change no weight, none is repeated or lost, and a failed one costs nothing else.

The first test runs the real benchmark. The others put a scripted one in its place: a folder `benchmark` in the working
directory, which `python -m` finds first.
"""

from __future__ import annotations

import json
import signal
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmark.kpis import kpis
from core.errors import UserError
from data.records import read_trajectories
from support.forking import forked, kill
from support.training import adapter_hash, forked_two, steps
from support.training import options as short_options
from train import benchmarking, sft
from train.benchmarking import BEST_FILE, Benchmarking, check_benchmark, spared_checkpoints
from train.checkpoints import checkpoints
from train.fit import read_metrics
from train.outcome import run_main

pytestmark = pytest.mark.usefixtures("without_picture")
ROOT = Path(__file__).resolve().parents[1]


def options(tiny_model: Path, data: Path, out: Path, **more: Any) -> list[str]:
    """Six steps over uneven epochs, dropout on; a benchmark every second step, and no other checkpoints."""
    short = {"max_steps": 6, "per_device_train_batch_size": 4, "benchmark_every": 2}
    return short_options(tiny_model.resolve(), data, out, **{**short, **more})


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A benchmark that notes each of its calls in `calls` and reads its scores from `scores.json` (step -> success rate);
    `at-STEP.py` is run first, once. Returns the folder of these files."""
    folder = tmp_path / "work"
    (folder / "benchmark").mkdir(parents=True)
    (folder / "benchmark" / "__init__.py").touch()
    (folder / "benchmark" / "__main__.py").write_text(
        textwrap.dedent(
            f"""
            import json, os, signal, sys, time
            from pathlib import Path
            folder, arguments = Path({str(folder)!r}), sys.argv[1:]
            if "--policy" in arguments:
                sys.exit(0)
            label = arguments[arguments.index("--label") + 1]
            step = label.split("-")[1]
            assert (Path(arguments[arguments.index("--model") + 1]) / "adapter_model.safetensors").exists()
            with open(folder / "calls", "a") as file:
                file.write(step + "\\n")
            guard = Path(f"/proc/{{os.getppid()}}/stat").read_text()
            trainer = int(guard.rpartition(")")[2].split()[1])  # its parent
            action = folder / f"at-{{step}}.py"
            if action.exists():
                text = action.read_text()
                action.unlink()
                exec(text)
            score = json.loads((folder / "scores.json").read_text()).get(step, 0.5)
            result = Path(arguments[arguments.index("--out") + 1]) / label
            result.mkdir(parents=True, exist_ok=True)
            kpis = {{"success_rate": {{"value": score, "low": 0.0, "high": 1.0, "n": 8}}}}
            told = {{"label": label, "model": "m", "split": "test", "count": 8, "seed": 1, "wall_seconds": 1.0, "kpis": kpis}}
            (result / "kpis.json").write_text(json.dumps(told))
            """
        )
    )
    (folder / "scores.json").write_text("{}")
    own = benchmarking._environment
    # the commands of a training find this project's benchmark, whatever lies in the current folder: it is put before that
    monkeypatch.setattr(benchmarking, "_environment", lambda: {**own(), "PYTHONPATH": str(folder)})
    monkeypatch.chdir(folder)
    return folder


def calls(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "calls").read_text().split()]


def best(folder: Path) -> dict[str, Any]:
    return json.loads((folder / BEST_FILE).read_text(encoding="utf-8"))  # type: ignore[no-any-return] # JSON


def lines(folder: Path) -> list[tuple[int, float | None]]:
    """Step and success rate of each benchmark in metrics.jsonl."""
    found = [line for line in read_metrics(folder) if "benchmark/step" in line]
    return [(line["benchmark/step"], line.get("benchmark/success_rate")) for line in found]


@pytest.fixture(scope="module")
def plain(tiny_model: Path, sets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run without a benchmark."""
    out = tmp_path_factory.mktemp("plain") / "run"
    sft.main(options(tiny_model, sets["chats"], out, benchmark_every=0))
    return out


def test_the_real_benchmark_measures_the_saved_adapter_and_changes_no_weight(
    tiny_model: Path, sets: dict[str, Path], plain: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = "--worlds files --count 2 --max-steps 1 --max-new-tokens 4"
    arguments = options(tiny_model, sets["chats"], tmp_path / "run", benchmark_every=6)
    sft.main([*arguments, "--benchmark_args", asked])
    assert adapter_hash(tmp_path / "run") == adapter_hash(plain)
    [score] = best(tmp_path / "run")["scores"]
    assert (best(tmp_path / "run")["best"], score["step"]) == ("checkpoint-6", 6)
    records = list(read_trajectories(tmp_path / "run" / "benchmarks" / "checkpoint-6" / "trajectories.jsonl"))
    tasks = [(record.metadata.model_extra or {})["task"] for record in records]
    assert [(task["split"], task["world"]) for task in tasks] == [("train", "files")] * 2
    assert score["kpis"]["success_rate"]["value"] == kpis(records)["success_rate"].value
    assert lines(tmp_path / "run") == [(6, score["kpis"]["success_rate"]["value"])]
    assert "python -m benchmark run --split train --seed 5 --worlds files" in capfd.readouterr().err


def test_the_best_is_the_first_of_the_highest_and_is_not_deleted(
    tiny_model: Path, sets: dict[str, Path], plain: Path, scripted: Path
) -> None:
    (scripted / "scores.json").write_text('{"2": 0.25, "4": 0.75, "6": 0.75}')
    run = scripted / "run"
    sft.main(options(tiny_model, sets["chats"], run, save_total_limit=1, save_strategy="steps", save_steps=1))
    assert calls(scripted) == [2, 4, 6]
    assert best(run)["best"] == "checkpoint-4" and best(run)["waiting"] == []
    assert [path.name for path in checkpoints(run)] == ["checkpoint-4", "checkpoint-6"]
    assert lines(run) == [(2, 0.25), (4, 0.75), (6, 0.75)]
    assert adapter_hash(run) == adapter_hash(plain)


def test_the_last_step_is_measured_and_a_failed_benchmark_is_a_counted_line(
    tiny_model: Path, sets: dict[str, Path], plain: Path, scripted: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (scripted / "at-4.py").write_text("sys.exit('서버가 없습니다')")
    (scripted / "scores.json").write_text('{"6": null}')
    sft.main(options(tiny_model, sets["chats"], scripted / "run", benchmark_every=4))
    told = best(scripted / "run")
    assert (told["best"], told["scores"]) == (None, [])
    assert [(each["step"], each["why"]) for each in told["failed"]] == [
        (4, "exit code 1: 서버가 없습니다"), (6, "no success_rate was measured"),
    ]  # fmt: skip
    assert lines(scripted / "run") == [(4, None), (6, None)]
    assert adapter_hash(scripted / "run") == adapter_hash(plain)
    assert "benchmark of checkpoint-4 failed, training goes on: exit code 1: 서버가 없습니다" in capfd.readouterr().err


def test_a_run_killed_in_a_benchmark_measures_it_again_and_no_other(
    tiny_model: Path, sets: dict[str, Path], plain: Path, scripted: Path
) -> None:
    parent = "os.kill(trainer, signal.SIGKILL); time.sleep(60); (folder / 'survived').touch()"
    (scripted / "at-4.py").write_text(parent)
    arguments = options(tiny_model, sets["chats"], scripted / "run", save_total_limit=1)
    assert forked(lambda: sft.main(arguments)) == -signal.SIGKILL
    assert best(scripted / "run")["waiting"] == ["checkpoint-4"]
    sft.main(arguments)
    assert calls(scripted) == [2, 4, 4, 6]
    assert lines(scripted / "run") == [(2, 0.5), (4, 0.5), (6, 0.5)]
    assert steps(scripted / "run") == [1, 2, 3, 4, 5, 6]
    assert adapter_hash(scripted / "run") == adapter_hash(plain)
    assert not (scripted / "survived").exists()


def test_a_kill_between_a_result_and_its_line_loses_and_repeats_nothing(
    tiny_model: Path, sets: dict[str, Path], scripted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = options(tiny_model, sets["chats"], scripted / "run")
    with monkeypatch.context() as patched:
        patched.setattr(Benchmarking, "_log", lambda _self, entry, _state: kill() if entry["step"] == 4 else None)
        assert forked(lambda: sft.main(arguments)) == -signal.SIGKILL
    sft.main(arguments)
    assert calls(scripted) == [2, 4, 6]
    assert sorted(lines(scripted / "run")) == [(2, 0.5), (4, 0.5), (6, 0.5)]


def test_a_signal_stops_the_benchmark_and_the_resumed_run_takes_it_up(
    tiny_model: Path, sets: dict[str, Path], plain: Path, scripted: Path
) -> None:
    (scripted / "at-4.py").write_text("os.kill(trainer, signal.SIGTERM); time.sleep(600)")
    arguments = options(tiny_model, sets["chats"], scripted / "run", save_total_limit=1)
    began = time.monotonic()
    assert forked(lambda: run_main(lambda: sft.main(arguments))) == 75
    assert time.monotonic() - began < 300  # the benchmark itself would sleep for longer
    # The step after it was finished and saved; what still waits was not rotated away.
    assert [path.name for path in checkpoints(scripted / "run")] == ["checkpoint-2", "checkpoint-4", "checkpoint-5"]
    sft.main(arguments)
    assert calls(scripted) == [2, 4, 4, 6]
    assert sorted(lines(scripted / "run")) == [(2, 0.5), (4, 0.5), (6, 0.5)]
    assert adapter_hash(scripted / "run") == adapter_hash(plain)


def test_scores_of_other_tasks_are_not_ranked_together(
    tiny_model: Path, sets: dict[str, Path], scripted: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = options(tiny_model, sets["chats"], scripted / "run")
    (scripted / "at-4.py").write_text("os.kill(trainer, signal.SIGKILL)")
    assert forked(lambda: sft.main(arguments)) == -signal.SIGKILL
    sft.main([*arguments, "--benchmark_args", "--count 9"])
    assert [score["step"] for score in best(scripted / "run")["scores"]] == [4, 6]
    assert "scores of other --benchmark_args" in capfd.readouterr().err


def test_two_processes_wait_in_rounds_shorter_than_their_timeout(
    tiny_model: Path, sets: dict[str, Path], scripted: Path
) -> None:
    (scripted / "at-1.py").write_text("assert 'RANK' not in os.environ; time.sleep(12)")
    more = {"max_steps": 1, "per_device_train_batch_size": 2, "ddp_timeout": 10, "benchmark_every": 1}
    two = options(tiny_model, sets["chats"], scripted / "run", **more)
    assert forked_two(lambda: run_main(lambda: sft.main(two))) == [0, 0]
    assert calls(scripted) == [1] and lines(scripted / "run") == [(1, 0.5)]


class Training:
    """What `check_benchmark` looks at."""

    output_dir = "."
    save_strategy = "no"


@pytest.mark.parametrize(
    ("every", "arguments", "message"),
    [
        (2, "--wrolds files", "No such option: --wrolds"),
        (2, "--worlds filse", "'filse' is unknown"),
        (2, "--worlds 'files", "No closing quotation"),
        (2, "--model x", "--model is given by the run itself"),
        (2, "--out=x", "--out is given by the run itself"),
        (0, "--count 3", "needs --benchmark_every"),
        (-1, "", "expected a number of steps"),
    ],
)
def test_wrong_arguments_are_told_before_the_first_step(every: int, arguments: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_benchmark(every, arguments, Training)


def test_choosing_by_test_tasks_is_allowed_and_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tried: list[Sequence[str]] = []

    def fake(command: Sequence[str], **_: Any) -> Any:
        tried.append(command)
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(benchmarking.subprocess, "run", fake)
    assert check_benchmark(5, "--split test", Training)[-2:] == ["--split", "test"]
    assert tried and "its score is no test" in capfd.readouterr().err
    training = type("Best", (Training,), {"save_strategy": "best"})
    with pytest.raises(UserError, match="--save_strategy best"):
        check_benchmark(5, "", training)


def test_what_is_no_file_of_ours_spares_nothing(tmp_path: Path) -> None:
    for text in ("", "[]", '{"best": null}', "{"):
        (tmp_path / BEST_FILE).write_text(text)
        assert spared_checkpoints(tmp_path) == set()
