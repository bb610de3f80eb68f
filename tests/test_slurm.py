"""scripts/submit and the sbatch files on a real Slurm: chains, preemption, requeue, failures, many nodes, arrays."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from data.sets.build import BuildConfig, build
from support.commands import Run
from support.slurm_cluster import NODES, Cluster, NoSlurm, slurm_cluster, wait_for

ROOT = Path(__file__).resolve().parents[1]
GRACE_SECONDS = 60
STEPS = 12


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    try:
        with slurm_cluster(grace_seconds=GRACE_SECONDS) as running:
            running.environment |= {
                "OMP_NUM_THREADS": "1",
                "TOOLTUNE_SETUP": f"PATH={Path(sys.executable).parent}:$PATH",
            }
            yield running
    except NoSlurm as why:
        pytest.skip(str(why))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Prepared sets of a few chats and pairs."""
    folder = tmp_path_factory.mktemp("sets")
    tool = {"type": "function", "function": {"name": "read_file", "parameters": {"type": "object", "properties": {}}}}

    def messages(n: int, path: str) -> list[dict[str, Any]]:
        call = {"id": "c", "name": "read_file", "arguments": {"path": path}}
        return [
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "content": "1,2 " * (n % 4 + 1), "tool_call_id": "c", "name": "read_file"},
            {"role": "assistant", "content": "끝났습니다."},
        ]

    rows: dict[str, list[dict[str, Any]]] = {"chats": [], "pairs": []}
    for n in range(12):
        asked = [{"role": "user", "content": f"파일 {n}"}]
        same = {"tools": [tool], "source": "test"}
        rows["chats"].append({"messages": asked + messages(n, f"{n}.csv"), "id": f"chat{n}", "group": f"g{n}", **same})
        sides = {"chosen": messages(n, f"{n}.csv"), "rejected": messages(n, "nothing")[:1]}
        rows["pairs"].append({"prompt": asked, **sides, "id": f"pair{n}", "group": f"g{n}", **same})
    for kind, made in rows.items():
        source = folder / f"{kind}.jsonl"
        source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made), encoding="utf-8")
        config = {"sources": [{"adapter": kind, "path": str(source)}], "validation_share": 0.2}
        build(BuildConfig.model_validate(config), out=folder / kind)
    return {kind: folder / kind for kind in rows}


def write_configs(folder: Path, model: Path, sets: dict[str, Path], **more: object) -> dict[str, Path]:
    """Configs of an SFT run and a DPO run from its adapter, dropout on; their folder's name has a space in it."""
    same: dict[str, object] = {
        "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "logging_steps": 1, "lora_dropout": 0.1,
        "learning_rate": 5e-3, "report_to": "none", "save_strategy": "no", "eval_strategy": "no", "max_length": 512, **more,
    }  # fmt: skip
    kinds = {
        "sft": {"model_name_or_path": model, "data": sets["chats"], "max_steps": STEPS},
        "dpo": {"model_name_or_path": folder / "sft", "data": sets["pairs"], "max_steps": 2},
    }
    paths = {}
    for kind, own in kinds.items():
        options = {**same, **own, "output_dir": folder / kind}
        paths[kind] = folder / f"{kind}.yaml"
        paths[kind].parent.mkdir(parents=True, exist_ok=True)
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
        paths[kind].write_text(yaml.safe_dump(plain), encoding="utf-8")
    return paths


def submit(*arguments: object, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / "submit", *arguments]
    return subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)


def submitted(cluster: Cluster, *arguments: object) -> dict[str, str]:
    """Name and id of each job."""
    done = submit(*arguments, environment=cluster.environment)
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r"^(\w+): job (\d+)", done.stdout, re.MULTILINE))


def log(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted((folder / "slurm").glob("*.log")))


def metrics(folder: Path) -> list[int]:
    file = folder / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [line["step"] for line in map(json.loads, lines) if "loss" in line]


def preempt(cluster: Cluster, job: str, run: Path) -> str:
    """Submit a short job that takes all nodes from a run, after its first steps; returns that job's id.

    The run stands still until Slurm has asked it to go, so that it cannot be done before.
    """
    wait_for(lambda: len(metrics(run)) >= 2 or None, 120, "two steps")
    process = json.loads((run / "status.json").read_text())["process"]
    os.kill(process, signal.SIGSTOP)
    line = ("--partition=high", f"--nodes={len(NODES)}", "--exclusive", "--output=/dev/null", "--wrap=true")
    urgent = cluster.run("sbatch", "--parsable", *line).strip()
    wait_for(lambda: cluster.job(job)["PreemptTime"] != "None" or None, 60, "the preemption")
    os.kill(process, signal.SIGCONT)
    return urgent


def test_a_preempted_chain_goes_on_to_the_bytes_of_an_unbroken_run(
    cluster: Cluster, tiny_model: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    configs = write_configs(tmp_path / "a run", tiny_model, sets)
    runs = configs["sft"].parent
    jobs = submitted(
        cluster, "chain", configs["sft"], configs["dpo"], "--gpus", 0, "--cpus", 1, "--partition", "low", "--warn-seconds", 60,
        "--", "--count", 2, "--worlds", "files", "--short", "--max-steps", 1, "--max-new-tokens", 4,
    )  # fmt: skip
    assert list(jobs) == ["sft", "dpo", "benchmark"]
    unbroken = write_configs(tmp_path / "unbroken", tiny_model, sets)["sft"]
    command = [sys.executable, "train/sft.py", "--config", str(unbroken)]
    reference = subprocess.Popen(command, cwd=ROOT, env=cluster.environment, stderr=subprocess.PIPE)

    urgent = preempt(cluster, jobs["sft"], runs / "sft")
    cluster.wait_for_state(jobs["sft"], "PENDING", seconds=60)
    status = json.loads((runs / "sft" / "status.json").read_text())
    assert status["status"] == "preempted" and 2 <= status["step"] < STEPS
    assert cluster.job(jobs["dpo"])["JobState"] == "PENDING"
    assert cluster.wait_for_end(urgent, *jobs.values()) == ["COMPLETED"] * 4, log(runs / "sft") + log(runs / "dpo")

    assert cluster.job(jobs["sft"])["Restarts"] == "1"
    assert "requeued, for the 1. time" in log(runs / "sft") and "going on from" in log(runs / "sft")
    assert metrics(runs / "sft") == list(range(1, STEPS + 1))
    assert reference.wait() == 0, reference.communicate()
    adapter = "adapter_model.safetensors"
    assert (runs / "sft" / adapter).read_bytes() == (unbroken.parent / "sft" / adapter).read_bytes()
    assert json.loads((runs / "dpo" / "run.json").read_text())["model"]["adapter"] == str(runs / "sft")
    for label in ("base", "sft", "dpo"):
        assert json.loads((runs / "benchmark" / label / "kpis.json").read_text())["count"] == 2


def test_two_nodes_are_one_run_and_a_signal_stops_both(
    cluster: Cluster, tiny_model: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    """accelerate's launcher on each node, gloo between them; the launcher lives on while its workers save."""
    configs = write_configs(tmp_path, tiny_model, sets, per_device_train_batch_size=2, ddp_backend="gloo")
    jobs = submitted(
        cluster,
        "sft",
        configs["sft"],
        "--gpus",
        1,
        "--nodes",
        2,
        "--cpus",
        1,
        "--partition",
        "low",
        "--accelerate",
        "ddp",
    )
    urgent = preempt(cluster, jobs["sft"], tmp_path / "sft")
    assert cluster.wait_for_end(urgent, *jobs.values()) == ["COMPLETED"] * 2, log(tmp_path / "sft")
    record = json.loads((tmp_path / "sft" / "run.json").read_text())
    assert record["processes"] == 2 and record["resumed_from"]
    assert metrics(tmp_path / "sft") == list(range(1, STEPS + 1))


def test_a_cancelled_parent_cancels_its_children_and_does_not_come_back(
    cluster: Cluster, tiny_model: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    configs = write_configs(tmp_path, tiny_model, sets)
    jobs = submitted(cluster, "chain", configs["sft"], configs["dpo"], "--gpus", 0, "--cpus", 1, "--", "--count", 2)
    wait_for(lambda: len(metrics(tmp_path / "sft")) >= 2 or None, 120, "two steps")
    cluster.run("scancel", jobs["sft"])
    assert cluster.wait_for_end(*jobs.values()) == ["CANCELLED"] * 3
    assert json.loads((tmp_path / "sft" / "status.json").read_text())["status"] == "preempted"
    assert "Slurm is ending this job" in log(tmp_path / "sft")
    assert cluster.job(jobs["sft"])["Restarts"] == "0"


def test_a_failed_parent_says_why_and_cancels_its_children(
    cluster: Cluster, tiny_model: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    configs = write_configs(tmp_path, tiny_model, sets, max_length=8)  # nothing fits
    jobs = submitted(cluster, "chain", configs["sft"], configs["dpo"], "--gpus", 0, "--cpus", 1, "--", "--count", 2)
    assert cluster.wait_for_end(*jobs.values()) == ["FAILED", "CANCELLED", "CANCELLED"]
    assert cluster.job(jobs["sft"])["ExitCode"] == "2:0"
    assert "slurm: user_error: " in log(tmp_path / "sft")


def test_shards_of_an_array_are_put_together(cluster: Cluster, tmp_path: Path) -> None:
    options = ("--policy", "expert", "--count", 5, "--worlds", "files,api")
    jobs = submitted(
        cluster, "benchmark", "--array", 2, "--gpus", 0, "--cpus", 1, "--", *options, "--out", tmp_path / "two"
    )
    assert list(jobs) == ["shards", "benchmark"]
    alone = [sys.executable, "-m", "benchmark", "run", *map(str, options), "--out", tmp_path / "one"]
    subprocess.run(alone, cwd=ROOT, check=True, capture_output=True)
    assert cluster.wait_for_end(jobs["benchmark"]) == ["COMPLETED"], log(tmp_path / "two")
    one, two = (json.loads((tmp_path / name / "expert" / "kpis.json").read_text()) for name in ("one", "two"))
    assert two["kpis"] == one["kpis"] and two["count"] == 5
    assert len(list((tmp_path / "two" / "expert" / "shards").iterdir())) == 2


# Without a Slurm


def fake(folder: Path, **programs: str) -> dict[str, str]:
    """An environment in which these programs are shell scripts; each notes its arguments in `calls`."""
    folder.mkdir(exist_ok=True)
    for name, script in programs.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\necho {name} \"$*\" >>'{folder}/calls'\n{script}\n")
        path.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    return {**environment, "PATH": f"{folder}:{os.environ['PATH']}"}


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []


def test_a_dry_run_prints_what_a_submission_runs(tmp_path: Path, tiny_model: Path, sets: dict[str, Path]) -> None:
    configs = write_configs(tmp_path / "a run", tiny_model, sets)
    given = ("chain", configs["sft"], configs["dpo"], "--array", 3, "--account", "mine", "--nodes", 2, "--gpus", 8)
    given += ("--accelerate", "fsdp2", "--sbatch=--constraint=a b", "--", "--count", 7)
    environment = fake(tmp_path / "bin", sbatch=f"cat '{tmp_path}/bin/calls' | wc -l")
    printed = submit("--dry-run", *given, environment=environment)
    assert printed.returncode == 0 and calls(tmp_path / "bin") == []
    assert (
        printed.stdout.count("--dependency=afterok:$") == 3 and printed.stdout.count("--kill-on-invalid-dep=yes") == 3
    )

    subprocess.run(["sh", "-euc", printed.stdout], env=environment, check=True)
    typed = calls(tmp_path / "bin")
    (tmp_path / "bin" / "calls").unlink()
    done = submit(*given, environment=environment)
    assert done.returncode == 0 and calls(tmp_path / "bin") == typed, done.stderr
    assert len(typed) == 4 and "afterok:1 " in typed[1] and "--constraint=a b" in typed[0]
    assert "--nodes=2" in typed[0] and "train.sbatch --accelerate configs/accelerate/fsdp2.yaml sft" in typed[0]
    assert "--array=1-3" in typed[2] and "command.sbatch --shards 3 benchmark run" in typed[2]
    assert "scancel 1 (what depends on it goes too)" in done.stdout


def test_a_loop_is_a_chain_of_its_stages(tmp_path: Path) -> None:
    lines = submit("loop", "configs/benchmark/loop.yaml", "--dry-run", "--gpus", 2).stdout.splitlines()
    made = [line.split("=$(")[0] for line in lines]
    assert made[:3] == ["tasks", "round_1_record", "round_1_sft_data"] and made[-1] == "leaderboard"
    for at, line in enumerate(lines):
        assert set(re.findall(r"\$(\w+)", line.split("=$(", 1)[1])) <= set(made[:at])
    training = lines[made.index("round_1_sft")]
    assert "--gpus-per-node=0" in lines[0] and "--gpus-per-node=0" not in training
    assert training.endswith("benchmark loop --config configs/benchmark/loop.yaml --stage sft --round 1)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sft", "configs/sft/qwen3-0.6.yaml"], "Did you mean 'configs/sft/qwen3-0.6b.yaml'?"),
        (["sft", "configs/sft/qwen3-0.6b.yaml", "--gpus", "2", "--accelerate", "fdsp2"], "Did you mean 'fsdp2'?"),
        (["sft"], "expected 1 config file"),
        (["sft", "configs/sft/fast.yaml", "more"], "'more' is one argument too many"),
        (["chain", "configs/sft/qwen3-0.6b.yaml", "configs/dpo/llama-3.1-8b.yaml"], "expected the same folder"),
        (["sft", "configs/sft/qwen3-0.6b.yaml", "--array", "2"], "has no shards"),
        (["benchmark", "--nodes", "2", "--", "--out", "x"], "runs on one node"),
        (["sft", "configs/sft/qwen3-0.6b.yaml", "--time", "9:59"], "300 s before its end, so this is too short"),
        (["sft", "configs/sft/qwen3-0.6b.yaml"], "`hf download Qwen/Qwen3-0.6B` fetches it"),
        (["loop", "configs/benchmark/lop.yaml"], "Did you mean 'configs/benchmark/loop.yaml'?"),
        (["benchmark", "--", "--policy", "expert"], "--out is missing"),
        (["benchmark", "--", "--out", "x", "--dry-run"], "put it before"),
        (["benchmark", "--", "--out", "x", "--dry_run"], "put it before"),
        (["sft", "configs/sft/fast.yaml", "--max_requeues", "x"], "'--max-requeues': Input should be a valid integer"),
        (
            ["sft", "configs/sft/fast.yaml", "--", "--model-name-or_path", "my/Model"],
            "`hf download my/Model` fetches it",
        ),
        (["stf", "configs/sft/fast.yaml"], "Did you mean 'sft'?"),
        (["benchmark", "--", "--policy", "expert", "--out", "{tmp}/out"], "sbatch is not on this machine"),
        (["sft", "{tmp}/없는.yaml"], "없는.yaml: no such config"),
        (["sft", "{tmp}/list.yaml"], "expected a mapping"),
        (["sft", "{tmp}/empty.yaml"], "empty.yaml: model_name_or_path: is missing, expected a path"),
        (["sft", "configs/sft/fast.yaml", "--", "--data", "{tmp}/설정"], "no prepared set is there yet"),
    ],
)
def test_a_mistake_is_one_message(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("[1]")
    (tmp_path / "empty.yaml").write_text("{}")
    environment = {**os.environ, "PATH": "/nowhere"}
    done = submit(*(part.replace("{tmp}", str(tmp_path)) for part in arguments), environment=environment)
    assert done.returncode == 2 and message in done.stderr and done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_refusal_by_slurm_leaves_nothing_in_the_queue(
    tmp_path: Path, tiny_model: Path, sets: dict[str, Path]
) -> None:
    configs = write_configs(tmp_path, tiny_model, sets)
    refuse = 'case "$*" in *=dpo*) echo "invalid account" >&2; exit 1;; esac; echo 41'
    environment = fake(tmp_path / "bin", sbatch=refuse, scancel="")
    done = submit("chain", configs["sft"], configs["dpo"], environment=environment)
    assert done.returncode == 2 and "nothing was submitted: dpo: invalid account" in done.stderr
    assert calls(tmp_path / "bin")[-1] == "scancel 41"


@pytest.mark.parametrize(
    ("status", "code", "state", "restarts", "ends", "says"),
    [
        ("finished", 0, "RUNNING", 0, 0, ""),
        ("finished", 1, "RUNNING", 0, 0, ""),  # another process of a launcher failed after all was saved
        ("preempted", 1, "RUNNING", 0, 75, "requeued, for the 1. time"),
        ("preempted", 75, "COMPLETING", 0, 75, "Slurm is ending this job (COMPLETING)"),
        ("preempted", 75, "RUNNING", 50, 75, "not again"),
        ("running", 143, "RUNNING", 3, 75, "requeued, for the 4. time"),
        ("running", 137, "RUNNING", 0, 137, "exit code 137"),
        (None, 1, "RUNNING", 0, 1, "exit code 1"),
        ("diverged", 1, "RUNNING", 0, 4, "diverged: 이유"),
        ("no_checkpoint", 3, "RUNNING", 0, 3, "no_checkpoint: 이유"),
        ("user_error", 1, "RUNNING", 0, 2, "user_error: 이유"),
        ("crashed", 1, "RUNNING", 0, 1, "crashed: 이유"),
    ],
)
def test_how_a_run_ended_decides_about_its_job(
    status: str | None, code: int, state: str, restarts: int, ends: int, says: str, tmp_path: Path
) -> None:
    run = tmp_path / "실행"
    run.mkdir()
    codes = {"finished": 0, "crashed": 1, "user_error": 2, "no_checkpoint": 3, "diverged": 4, "preempted": 75}
    told = {"status": status, "exit_code": codes.get(str(status)), "message": "이유"}
    (run / "status.json").write_text('{"status": "finished"}')  # of an earlier run
    (tmp_path / "told").write_text(json.dumps(told, ensure_ascii=False))
    write = f"cp '{tmp_path}/told' '{run}/status.json'" if status else ""
    parent = 'kill "$PPID"'  # as Slurm does it to a job that is requeued
    environment = fake(tmp_path / "bin", srun=f"{write}\nexit {code}", squeue=f"echo {state}", scontrol=parent)
    environment |= {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(restarts), "SLURM_CPUS_PER_TASK": "3"}
    (tmp_path / "c.yaml").write_text("output_dir: elsewhere\n")
    job = [
        sys.executable,
        "scripts/slurm/job.py",
        "train",
        "sft",
        tmp_path / "c.yaml",
        "--output-dir",
        run,
        "--seed",
        "1",
    ]
    done = subprocess.run(job, cwd=ROOT, env=environment, capture_output=True, text=True)
    requeued = "scontrol requeue 7" in calls(tmp_path / "bin")
    assert requeued == says.startswith("requeued")
    assert done.returncode == (-signal.SIGTERM if requeued else ends), done.stderr
    assert says in done.stderr and (says or not done.stderr)
    assert f"job.py node sft {tmp_path}/c.yaml --output-dir {run} --seed 1" in calls(tmp_path / "bin")[0]


@pytest.mark.parametrize(
    ("shard", "message"),
    [("3/2", "expected i/n"), ("0/2", "expected i/n"), ("절반", "expected i/n"), ("1/9", "there are 4 tasks only")],
)
def test_a_shard_that_is_none_is_one_message(shard: str, message: str, run_app: Run, tmp_path: Path) -> None:
    options = ("--policy", "expert", "--count", 4, "--shard", shard, "--out", tmp_path / "out")
    code, _, told = run_app("benchmark", "run", *options)
    assert code == 2 and f"--shard {shard}: " in told and message in told
    assert not (tmp_path / "out").exists()


def test_a_stopped_command_goes_back_into_the_queue_and_shards_join_without_a_model(tmp_path: Path) -> None:
    environment = fake(tmp_path / "bin", squeue="echo RUNNING", scontrol='kill "$PPID"')
    environment |= {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7"}
    options = [
        "benchmark",
        "run",
        "--policy",
        "expert",
        "--count",
        "5",
        "--worlds",
        "files,api",
        "--out",
        str(tmp_path / "out"),
    ]
    job = [sys.executable, "scripts/slurm/job.py", "command"]
    for task in ("1", "2"):
        array = {**environment, "SLURM_ARRAY_TASK_ID": task}
        subprocess.run([*job, "--shards", "2", *options], cwd=ROOT, env=array, check=True, capture_output=True)
    joined = subprocess.run([*job, *options], cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    assert "5 of 5 tries are done already" in joined.stdout and calls(tmp_path / "bin") == []

    array = {**environment, "SLURM_ARRAY_TASK_ID": "2"}
    stopped = subprocess.Popen(
        [*job, "--shards", "2", *options[:5], "6000", *options[6:-1], str(tmp_path / "long")],
        cwd=ROOT, env=array, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    long = tmp_path / "long" / "expert" / "shards" / "2-of-2"
    wait_for(lambda: list(long.glob("unfinished-*.jsonl")) or None, 120, "the first try")
    stopped.send_signal(signal.SIGUSR1)
    assert stopped.wait(timeout=60) == -signal.SIGTERM
    assert calls(tmp_path / "bin")[-1] == "scontrol requeue 7_2"
