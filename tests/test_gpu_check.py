"""scripts/gpu_check, rehearsed on the CPU with tiny shapes; what it collects; what stands for branches that need CUDA."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmark.agent.transformers_model import TransformersPolicy
from core.errors import UserError
from core.processes import start_command
from scripts.measure.gpu import __main__ as command
from scripts.measure.gpu import exact, runs, wheels, worker
from scripts.measure.gpu.report import Finding, exit_code, to_markdown
from scripts.measure.gpu.setting import Clock, Setting, read_tokenizer
from support.paths import ROOT
from train import attention, benchmarking, model, plan, training_data
from train.parsing import ModelOptions

# ---------------------------------------------------------------- the parts, rehearsed


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(False, tmp_path, read_tokenizer(None), Clock(time.time() + 600))


def told_by(setting: Setting, parts: str) -> list[Finding]:
    lines: list[dict[str, Any]] = []
    worker.run_parts(setting, parts, lines.append)
    assert [line["end"] for line in lines if "end" in line] == [part for part in worker.PARTS if part in parts]
    return [Finding(**line["finding"]) for line in lines if "finding" in line]


def test_trees_are_exact_and_a_missing_mask_shows(setting: Setting) -> None:
    findings = told_by(setting, "b")
    checked = {finding.about for finding in findings if finding.verdict == "right"}
    assert len(checked) == 15 and len(findings) == 16, [f for f in findings if f.verdict != "right"]
    for method in ("sft", "dpo", "orpo"):
        assert f"{method}, FlexAttention, fp32 against plain rows" in checked
        assert f"{method}, control: no mask" in checked
    assert all(f.figures["gradients"] < 1e-4 for f in findings if "gradients" in f.figures)


def test_a_wrong_attention_is_wrong(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.attention.dense_mask", lambda depths, ends, window: _causal(depths))
    monkeypatch.setattr(exact, "METHODS", ("sft",))
    found = {f.about: f.verdict for f in told_by(setting, "b") if f.about.startswith("sft")}
    assert (
        found["sft, sdpa with a dense mask, fp32 against plain rows"] == "broken"
    )  # the first batch's own check says it
    assert found["sft, FlexAttention, fp32 against plain rows"] == "right"


def _causal(depths: torch.Tensor) -> torch.Tensor:
    at = torch.arange(depths.shape[1])
    return (at[None] <= at[:, None])[None, None].expand(depths.shape[0], 1, -1, -1)


def test_twenty_steps_of_each_method_learn(setting: Setting) -> None:
    findings = told_by(setting, "ac")
    trained = [finding for finding in findings if finding.part == "c"]
    assert [finding.verdict for finding in trained] == ["right"] * 3
    assert all(len(finding.figures["losses"]) == 20 for finding in trained)
    assert setting.roof > 0 and {f.about for f in findings} >= {"versions", "matrix rates", "copy rate on the device"}


def test_steps_stand_beside_those_of_trl_and_targets_are_told_only(setting: Setting) -> None:
    findings = told_by(setting, "d")
    assert [finding.about.split(":")[0] for finding in findings] == ["trajectory", "pair", "sft"]
    assert {finding.verdict for finding in findings} == {"told"}, findings
    assert all("target" in finding.line and finding.figures["ratio"] > 0 for finding in findings)


def test_compiles_are_counted_and_kept_caches_are_right(setting: Setting) -> None:
    compiled, kept, rates, served = told_by(setting, "hg")
    assert compiled.verdict == "right" and len(compiled.figures["seconds"]) == 30
    assert kept.verdict == "right" and "tokens/s" in rates.line
    assert served.verdict == "not run" and "vllm is not installed" in served.line


def test_a_killed_run_goes_on_to_the_same_bytes(
    setting: Setting, without_picture: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "STEPS", 12)
    exactly, otherwise = told_by(setting, "f")
    assert (exactly.verdict, exactly.line) == ("right", "equal bytes")
    assert exactly.figures["was_killed"] and otherwise.verdict == "told"


def test_two_processes_are_compared_with_one(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """With scripted runs; tests/test_accelerate_configs.py starts real ones."""
    losses = {"one": [3.0, 2.0], "cpu-2": [3.0, 2.001]}

    class Scripted:
        def __init__(self, _setting: Setting, arguments: list[str], log: Path, launcher: Any = ()) -> None:
            self.log = log
            out = Path(arguments[arguments.index("--output_dir") + 1])
            out.mkdir(parents=True)
            lines = [json.dumps({"step": n, "loss": loss}) for n, loss in enumerate(losses[out.name])]
            (out / "metrics.jsonl").write_text("\n".join(lines) + "\n")

        def wait(self, _seconds: float) -> int:
            return 0

    monkeypatch.setattr(runs, "Process", Scripted)
    (finding,) = told_by(setting, "i")
    assert finding.verdict == "right" and finding.figures["largest_difference"] == pytest.approx(0.001)


def test_a_part_that_breaks_is_one_line_and_the_rest_goes_on(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_setting: Setting) -> Iterator[Finding]:
        yield Finding("a", "before", "right", "fine")
        raise RuntimeError("CUDA error: an illegal memory access\nwas encountered")

    monkeypatch.setattr(
        worker, "PARTS", {"a": (breaks, 1), "b": (lambda _: iter([Finding("b", "after", "told", "")]), 1)}
    )
    findings = told_by(setting, "ab")
    assert [finding.verdict for finding in findings] == ["right", "broken", "told"]
    assert "RuntimeError: CUDA error: an illegal memory access (test_gpu_check.py:" in findings[1].line
    assert exit_code(findings) == 1


def test_what_does_not_fit_into_the_time_is_told_as_not_run(setting: Setting) -> None:
    setting.clock = Clock(time.time())
    assert {finding.verdict for finding in told_by(setting, "".join(worker.PARTS))} == {"not run"}


# ---------------------------------------------------------------- the command


SCRIPTED = """
import json, os, sys, time
asked = json.load(open(sys.argv[1]))
lines = open(asked["lines"], "a")
def tell(**line): print(json.dumps(line), file=lines, flush=True)
def finding(part, verdict): tell(finding=dict(part=part, about="x", verdict=verdict, line="y | z", figures={}))
tell(about={"device": "a card", "versions": {"torch": "2"}})
for part in asked["parts"]:
    tell(begin=part)
    if part == "b": print("a kernel's fault", file=sys.stderr, flush=True); os._exit(9)
    if part == "f": time.sleep(600)
    finding(part, "told" if part != "c" else "right")
    tell(end=part)
"""


@pytest.fixture
def scripted_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "worker.py"
    script.write_text(SCRIPTED)

    def start(words: list[str], **options: Any) -> Any:
        return start_command([words[0], str(script), words[-1]], **options)

    monkeypatch.setattr(command, "start_command", start)
    monkeypatch.setattr(command, "GRACE_SECONDS", 0.0)


def test_a_dead_process_costs_its_part_only_and_the_clock_ends_the_rest(
    scripted_worker: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = command.main(["--device", "cpu", "--minutes", "0.03", "--out", str(tmp_path / "out")])
    told = json.loads((tmp_path / "out" / "check.json").read_text())
    verdicts = {finding["part"]: finding["verdict"] for finding in told["findings"]}
    assert verdicts == {
        "a": "told", "b": "broken", "c": "right", "d": "told", "h": "told", "g": "told",
        "f": "not run", "e": "not run", "i": "not run",
    }  # fmt: skip
    assert code == told["exit_code"] == 1 and told["device"] == "a card"
    assert "a kernel's fault" in next(finding["line"] for finding in told["findings"] if finding["part"] == "b")
    page = (tmp_path / "out" / "check.md").read_text()
    assert (
        "# GPU check: a card" in page
        and "| a | x | told | y \\| z |" in page
        and "| b | the part itself | **broken** |" in page
    )
    assert "1 broken" in capsys.readouterr().out


def test_targets_never_fail_the_check() -> None:
    told = [Finding("d", "pair", "told", "target 1.6 missed"), Finding("i", "all of it", "not run", "")]
    assert exit_code(told) == 0 and exit_code([*told, Finding("b", "x", "wrong", "")]) == 1
    assert "**wrong**" in to_markdown([Finding("b", "x", "wrong", "")], {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "0"], "--minutes 0: expected more than 0"),
        (["--only", "b,z"], "--only b,z: expected letters of a, b, c"),
        (["--have", "x"], "--have: is for --collect DIR"),
        (["--wheels", "nowhere"], "--wheels nowhere: expected the folder that --collect made; it holds 0 wheels"),
        (["--collect", "x", "--python", "four"], "--python four: expected a version such as 3.12"),
    ],
)
def test_mistakes_are_messages(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        command.main([*arguments, "--device", "cpu"])


# ---------------------------------------------------------------- what is collected


def test_only_what_is_missing_there_is_collected(tmp_path: Path) -> None:
    freeze = tmp_path / "have.txt"
    freeze.write_text(
        "# of the card's machine\nTorch==2.11.0+cu130\npyarrow @ file:///x.whl\nhuggingface_hub==1.3\nPyYAML==6.0\n"
    )
    have = wheels.read_freeze(freeze)
    assert have == {"torch": "2.11.0+cu130", "pyarrow": "", "huggingface-hub": "1.3", "pyyaml": "6.0"}
    found = wheels.needed(have, "3.12", four_bit=False)
    assert {"trl", "datasets", "dill", "multiprocess", "xxhash", "transformers", "pip"} <= found.keys()
    assert not found.keys() & {"torch", "triton", "pyarrow", "huggingface-hub", "pyyaml", "bitsandbytes", "tooltune"}
    four = wheels.needed(have, "3.12", four_bit=True)
    assert "bitsandbytes" in four and "matplotlib" not in four
    assert wheels.needed({**have, **found}, "3.12", four_bit=False).keys() == {"pip"}


def test_a_freeze_that_is_none_is_told_with_its_line(tmp_path: Path) -> None:
    freeze = tmp_path / "have.txt"
    freeze.write_text("torch==2.11.0\n<html>\n")
    with pytest.raises(UserError, match=r"have\.txt:2: '<html>': expected NAME==VERSION"):
        wheels.read_freeze(freeze)


def test_more_than_sixty_mebibytes_are_refused_with_the_largest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert {"--no-deps", "--only-binary=:all:"} <= set(words) and "trl==1.16.0" in words
        with open(tmp_path / "wheels" / "big-1.whl", "wb") as file:
            file.truncate(61 * 2**20)
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(wheels.subprocess, "run", download)
    with pytest.raises(UserError, match=r"more than 60; the largest: big-1\.whl 61\.0"):
        wheels.collect(tmp_path / "wheels", have=None, python="3.12", four_bit=False)


# ---------------------------------------------------------------- FlexAttention where it does not run, or half of it does


def test_where_flexattention_does_not_run_segments_do(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = LlamaConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=8)
    model = LlamaForCausalLM._from_config(shape, attn_implementation="sdpa")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    asked: list[Any] = []
    monkeypatch.setattr(attention, "flex_fault_of", lambda of: asked.append(of))
    assert attention.choose_backend(model, forks=True) == "flex" and asked == [model]
    monkeypatch.setattr(attention, "flex_fault_of", lambda _: "out of resource: shared memory")
    assert attention.choose_backend(model, forks=True) == "segments"
    monkeypatch.setattr(attention, "flex_fault_of", lambda _: None)
    model.config.attention_dropout = 0.1  # which FlexAttention has not
    assert attention.choose_backend(model, forks=True) == "segments"


def test_the_trial_of_flexattention_tells_what_fails() -> None:
    fault = attention.flex_fault(2, 1, 16, torch.float32, torch.device("cpu"))
    assert fault is not None and "backward" in fault  # as on every CPU


def test_flexattention_gets_one_type_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[torch.dtype]] = []
    monkeypatch.setattr(
        attention, "flex_attention_forward",
        lambda _module, query, key, value, *_, **__: (seen.append({query.dtype, key.dtype, value.dtype}), None),
    )  # fmt: skip
    full, half = torch.zeros(1, 1, 1, 16), torch.zeros(1, 1, 1, 16, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        attention.flex_attention(torch.nn.Identity(), full, full, half, None)
    attention.flex_attention(torch.nn.Identity(), full, half, full, None)
    assert seen == [{torch.bfloat16}, {torch.float32}]


# ---------------------------------------------------------------- branches that need CUDA, with a card that is pretended


@pytest.fixture
def pretended_card(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What torch would say of a T4: there, with 5 of 16 GB free, and bf16 only emulated. Collects what was asked of it."""
    asked: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (5_000_000_000, 16_000_000_000))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: asked.append("empty_cache"))
    return asked


def test_plans_ask_the_card_for_its_memory_and_tell_when_bf16_is_emulated(pretended_card: list[str]) -> None:
    card, cpu = SimpleNamespace(type="cuda"), SimpleNamespace(type="cpu")
    assert plan._free_memory(card) == 5e9 and plan._free_memory(cpu) > 0
    advice = plan.half_precision_advice(SimpleNamespace(bf16=True, device=card))
    assert advice is not None and "--bf16 false --fp16 true --dtype float16" in advice
    assert plan.half_precision_advice(SimpleNamespace(bf16=False, device=card)) is None
    assert plan.half_precision_advice(SimpleNamespace(bf16=True, device=cpu)) is None


def test_the_matmul_that_is_timed_is_large_on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *size, device, dtype: (sizes.append(size[0]), ones(2, 2, dtype=dtype))[1])
    for kind in ("cuda", "cpu"):
        assert plan.matmul_rate(SimpleNamespace(type=kind), torch.float32) > 0
    assert sizes == [8192, 512]


def test_four_bits_go_onto_this_processs_card_and_compute_in_what_it_has(
    pretended_card: list[str], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[dict[str, Any]] = []

    def load(_base: str, **keywords: Any) -> Any:
        loaded.append(keywords)
        raise OSError("stop here")

    monkeypatch.setattr(model.AutoModelForCausalLM, "from_pretrained", load)
    monkeypatch.setattr(model, "find_spec", lambda _name: True)
    monkeypatch.setattr(model, "BitsAndBytesConfig", lambda **keywords: keywords)
    monkeypatch.setenv("LOCAL_RANK", "1")
    for four_bit in (True, False):
        options = ModelOptions(model_name_or_path=str(tiny_model), load_in_4bit=four_bit, dtype="float16")
        with pytest.raises(UserError, match="stop here"):
            model.load_model(options, None, SimpleNamespace(gradient_checkpointing=False))
    assert loaded[0]["device_map"] == {"": 1} and "device_map" not in loaded[1]
    assert loaded[0]["quantization_config"]["bnb_4bit_compute_dtype"] == torch.float16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert model._four_bit_compute_dtype() == torch.bfloat16


def test_the_benchmark_loads_onto_the_card_in_what_it_has(
    pretended_card: list[str], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    types: list[torch.dtype] = []

    def load(_base: str, *, dtype: torch.dtype, **_: Any) -> Any:
        types.append(dtype)
        raise OSError("stop here")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", load)
    for dtype in ("auto", "bfloat16", "float32"):
        with pytest.raises(UserError, match="stop here"):
            TransformersPolicy.from_pretrained(str(tiny_model), dtype=dtype)  # type: ignore[arg-type] # one of the three
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    with pytest.raises(UserError, match="stop here"):
        TransformersPolicy.from_pretrained(str(tiny_model))
    assert types == [torch.float16, torch.bfloat16, torch.float32, torch.bfloat16]


def test_a_benchmark_while_training_frees_the_cards_cache_first(
    pretended_card: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_work: Any) -> Any:
        raise InterruptedError

    monkeypatch.setattr(benchmarking, "from_main", stop)
    with pytest.raises(InterruptedError):
        benchmarking.Benchmarking._benchmark(SimpleNamespace(folder=tmp_path), "checkpoint-1", None)  # type: ignore[arg-type]
    assert pretended_card == ["empty_cache"]


def test_flexattention_is_tried_for_the_models_heads_and_its_fault_is_told(
    pretended_card: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = LlamaConfig(
        hidden_size=64,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=8,
    )
    llama = LlamaForCausalLM._from_config(shape, attn_implementation="sdpa", dtype=torch.float16)
    tried: list[Any] = []

    def fault(*asked: Any) -> str:
        tried.append(asked)
        return "no C compiler"

    monkeypatch.setattr(attention, "flex_fault", fault)
    backend, share, line = training_data._choose_trees("auto", llama, 2.0, 1.0)
    assert (backend, share) == ("segments", True)
    assert line.endswith("attention: segments, because FlexAttention does not run here: no C compiler")
    assert set(tried) == {(4, 2, 16, torch.float16, torch.device("cuda", 0))}


# ---------------------------------------------------------------- every branch that needs CUDA has something that stands for it


def cuda_branches(source: str) -> set[str]:
    """Functions (with their class) that ask for CUDA: `torch.cuda`, or a text that is "cuda" or "nccl"."""
    found: set[str] = set()

    def walk(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                walk(child, f"{name}.{child.name}".lstrip("."))
                continue
            is_module = isinstance(child, ast.Attribute) and ast.unparse(child) == "torch.cuda"
            is_name = isinstance(child, ast.Constant) and child.value in ("cuda", "nccl")
            if is_module or is_name:
                found.add(name)
            walk(child, name)

    walk(ast.parse(source), "")
    return found


def test_every_cuda_branch_is_listed_with_what_stands_for_it() -> None:
    there = {
        f"{path.relative_to(ROOT)}: {name}"
        for folder in ("train", "benchmark")
        for path in (ROOT / folder).rglob("*.py")
        for name in cuda_branches(path.read_text(encoding="utf-8"))
    }
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `((?:train|benchmark)/\S+: \S+)` \| [^|]+ \| (.+) \|$", page, re.MULTILINE))
    assert rows.keys() == there
    for row, doubles in rows.items():
        named = re.findall(r"`(tests/\w+\.py)::(\w+)`", doubles)
        assert named, f"{row} names no test"
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), test


def test_the_search_for_cuda_branches_sees_every_form() -> None:
    source = "def f():\n    torch.cuda.is_available()\nclass A:\n    def g(self, d):\n        d.type == 'cuda'\ndef h(): pass\n"
    assert cuda_branches(source) == {"f", "A.g"}


def test_the_wheels_go_over_this_interpreters_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a pip that only unpacks, because a real one is a download."""
    import zipfile  # noqa: PLC0415 - only here

    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "pip-1-py3-none-any.whl", "w") as pip:
        pip.writestr("pip/__main__.py", "import sys, zipfile\nat = sys.argv.index('--target')\n"
                     "for name in sys.argv[at + 2:]: zipfile.ZipFile(name).extractall(sys.argv[at + 1])\n")  # fmt: skip
    with zipfile.ZipFile(folder / "trl-99-py3-none-any.whl", "w") as wheel:
        wheel.writestr("trl/__init__.py", "__version__ = '99'")
    monkeypatch.setattr(wheels, "ROOT", tmp_path)
    python = wheels.environment(folder)
    asks = "import trl, yaml, importlib.metadata as m; print(trl.__version__, yaml.__name__, m.version('tooltune'))"
    done = subprocess.run([python, "-c", asks], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    assert done.stdout.strip() == "99 yaml 0.1.0", done.stderr
    assert wheels.environment(folder) == python and sys.executable != str(python)
