"""One process, two with DDP and two with FSDP2: the same steps; killed and resumed, the same bytes.

Each method, on trees and on plain rows. Epochs end with a batch of which one process gets nothing but fillers, lines of metrics
lie between checkpoints, and evaluations come in between.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PeftModel, get_peft_model
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaMLP
from transformers.trainer_callback import CallbackHandler
from trl import SFTConfig
from trl.trainer.utils import add_fused_lm_head

from core.errors import UserError
from data.sets.prepared import read_prepared
from support.forking import forked, kill
from support.paths import ROOT
from support.training import (
    KINDS,
    MAIN,
    STEPS,
    adapter_hash,
    eight_steps,
    forked_two,
    losses,
    make_sets,
    metrics,
    read_chat,
    read_labelled,
    read_pair,
)
from support.trees import brute_force, largest_difference, made_pairs, on_trees
from train import dpo, sft
from train.model import load_model
from train.outcome import Watch, run_main
from train.parsing import ModelOptions


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Prepared sets of nine chats and nine units of pairs and labelled chats: of a batch of four, the last holds one."""
    twenty = range(20)
    return make_sets(
        tmp_path_factory.mktemp("sets"),
        chats=[*map(read_chat, range(10))], pairs=[*map(read_pair, twenty)], labelled=[*map(read_labelled, twenty)],
    )  # fmt: skip


pytestmark = pytest.mark.usefixtures("without_picture")


@pytest.fixture(scope="module")
def adapter(minute_model: Path, sets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SFT adapter to go on from."""
    out = tmp_path_factory.mktemp("adapter") / "sft"
    sft.main(eight_steps(minute_model, sets["chats"], out, max_steps=1))
    return out


@pytest.fixture(autouse=True)
def references_in_a_folder_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOOLTUNE_CACHE", str(tmp_path / "cache"))


def with_events(then: Callable[[int], object]) -> Callable[[], None]:
    """Call `then` with a running number at each event of the trainer; gives what undoes it."""
    original = CallbackHandler.call_event
    done = itertools.count(1)

    def call_event(handler: Any, *args: Any, **kwargs: Any) -> Any:
        then(next(done))
        return original(handler, *args, **kwargs)

    CallbackHandler.call_event = call_event  # type: ignore[method-assign]
    return lambda: setattr(CallbackHandler, "call_event", original)


def start(processes: int, work: Callable[[], object]) -> list[int]:
    return [forked(work)] if processes == 1 else forked_two(work)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("tree", ["true", "false"])
@pytest.mark.parametrize("method", MAIN)
def test_killed_at_any_event_a_run_ends_with_bytes_and_lines_of_an_unbroken_one(
    method: str, tree: str, processes: int, minute_model: Path, adapter: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    """SIGKILL twice, at events of the trainer that differ between cases: in steps, logs, evaluations, saves.

    DPO's reference is computed ahead in one case, and is the frozen copy of an adapter in the other.
    """
    data, model, more = sets[KINDS[method]], minute_model, {"tree": tree}
    if method == "dpo" and tree == "true":
        more["precompute_ref_log_probs"] = "true"
    elif method == "dpo":
        model = adapter
    unbroken, killed = (
        eight_steps(model, data, tmp_path / name, processes=processes, **more) for name in ("unbroken", "killed")
    )

    def counted() -> None:
        with_events(lambda number: (tmp_path / "events").write_text(str(number)))
        run_main(lambda: MAIN[method](unbroken))

    assert start(processes, counted) == [0] * processes
    events = int((tmp_path / "events").read_text())
    draw = random.Random(f"{method} {tree} {processes}")
    first = draw.randint(events // 3, events)

    def dies(at: int) -> Callable[[], None]:
        def work() -> None:
            with_events(lambda number: kill() if number == at else None)
            run_main(lambda: MAIN[method](killed))

        return work

    assert -signal.SIGKILL in start(processes, dies(first))
    start(processes, dies(draw.randint(2, events // 2)))  # where little was left, it comes to its end
    assert start(processes, lambda: run_main(lambda: MAIN[method](killed))) == [0] * processes
    assert adapter_hash(tmp_path / "killed") == adapter_hash(tmp_path / "unbroken")
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "unbroken")
    assert sum("loss" in line for line in metrics(tmp_path / "killed")) == STEPS // 2


@pytest.mark.parametrize("option", ["save_only_model", "ignore_data_skip", "auto_find_batch_size"])
def test_options_that_would_make_a_resumed_run_another_one_are_refused(
    option: str, minute_model: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"{option}: expected false"):
        sft.main([*eight_steps(minute_model, sets["chats"], tmp_path / "run"), f"--{option}", "true"])


def merged(model: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """The base model's weights with the adapter in them."""
    base = AutoModelForCausalLM.from_pretrained(model)
    return dict(PeftModel.from_pretrained(base, adapter).merge_and_unload().state_dict())


def assert_same_training(model: Path, one: Path, other: Path) -> None:
    """Losses and merged weights agree to 1e-4."""
    assert losses(other) == pytest.approx(losses(one), abs=1e-4)
    trained, same = merged(model, one), merged(model, other)
    assert trained.keys() == same.keys()
    assert max(float((trained[name] - same[name]).abs().max()) for name in trained) < 1e-4
    base = AutoModelForCausalLM.from_pretrained(model).state_dict()
    assert any((trained[name] - base[name]).abs().max() > 1e-3 for name in base)


def assert_same_metrics(one: Path, other: Path) -> None:
    """All that is logged beside the losses agrees too, but for the arithmetic done, which fillers add to."""
    for line, same in zip(metrics(one), metrics(other), strict=True):
        assert {**line, "total_flos": 0} == pytest.approx({**same, "total_flos": 0}, rel=1e-3, abs=1e-4)


PLAIN = {"lora_dropout": 0.0, "max_steps": 6}


@pytest.mark.parametrize("tree", ["true", "false"])
@pytest.mark.parametrize("method", MAIN)
def test_two_processes_make_the_steps_of_one(
    method: str, tree: str, minute_model: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    """DDP. The third and the sixth batch hold one unit, so that the second process has none."""
    kind = KINDS[method]
    units = len({row.group for row in read_prepared(sets[kind]).train})
    assert units % 4 == 1
    more = {**PLAIN, "tree": tree, "load_best_model_at_end": "true", "eval_steps": 3}
    MAIN[method](eight_steps(minute_model, sets[kind], tmp_path / "one", **more))
    two = eight_steps(minute_model, sets[kind], tmp_path / "two", processes=2, **more)
    assert forked_two(lambda: run_main(lambda: MAIN[method](two))) == [0, 0]
    assert_same_training(minute_model, tmp_path / "one", tmp_path / "two")
    assert_same_metrics(tmp_path / "one", tmp_path / "two")
    assert json.loads((tmp_path / "two" / "run.json").read_text())["batches_without_targets"] == 2


def test_more_processes_than_units_make_the_steps_of_one(minute_model: Path, tmp_path: Path) -> None:
    """One chat: the second process has nothing but fillers in the whole run."""
    data = make_sets(tmp_path, chats=[read_chat(1)])["chats"]
    more = {**PLAIN, "eval_strategy": "no", "eval_on_start": "false"}
    sft.main(eight_steps(minute_model, data, tmp_path / "one", **more))
    two = eight_steps(minute_model, data, tmp_path / "two", processes=2, **more)
    assert forked_two(lambda: run_main(lambda: sft.main(two))) == [0, 0]
    assert_same_training(minute_model, tmp_path / "one", tmp_path / "two")
    assert_same_metrics(tmp_path / "one", tmp_path / "two")


def with_fsdp2() -> None:
    """Let this process shard its model with FSDP2, as configs/accelerate/fsdp2.yaml says.

    accelerate turns FSDP on where a GPU's backend was found and nowhere else (AcceleratorState.__init__), although its FSDP2
    runs on gloo and CPU. So it is told that the backend is one of GPUs; all that follows is accelerate's own.
    """
    config = yaml.safe_load((ROOT / "configs/accelerate/fsdp2.yaml").read_text(encoding="utf-8"))
    for name, value in config["fsdp_config"].items():  # what `accelerate launch` does with them
        os.environ[name.upper()] = str(value).lower() if isinstance(value, bool) else str(value)
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "ACCELERATE_TORCH_DEVICE": "cpu"}
    torch.distributed.init_process_group("gloo")
    PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)  # type: ignore[method-assign]
    original = Watch.on_step_end

    def look(watch: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        assert all(isinstance(parameter, DTensor) for parameter in watch.trainer.model.parameters())
        original(watch, args, state, control, **more)

    Watch.on_step_end = look  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("sft", {"tree": "false", "load_best_model_at_end": "true", "eval_steps": 3}),
        ("sft", {"tree": "true", "gradient_checkpointing": "true"}),
        ("dpo", {"tree": "true"}),
        ("orpo", {"tree": "true"}),
    ],
)
def test_fsdp2_makes_the_steps_of_one_process_and_resumes_to_the_same_bytes(
    method: str, more: dict[str, Any], minute_model: Path, adapter: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    """DPO goes on from an adapter, whose frozen copy is its reference."""
    data, start_from = sets[KINDS[method]], minute_model
    if method == "dpo":
        start_from = adapter

    def command(name: str, before: Callable[[], object] = with_fsdp2, **others: Any) -> Callable[[], object]:
        processes = 1 if name == "one" else 2
        arguments = eight_steps(start_from, data, tmp_path / name, processes=processes, **PLAIN, **more, **others)

        def work() -> None:
            before()
            run_main(lambda: MAIN[method](arguments))

        return work

    assert forked(command("one", before=lambda: None)) == 0
    assert forked_two(command("sharded")) == [0, 0]
    assert_same_training(minute_model, tmp_path / "one", tmp_path / "sharded")
    assert_same_metrics(tmp_path / "one", tmp_path / "sharded")

    def dies() -> None:
        with_fsdp2()
        with_events(lambda number: kill() if number == 30 else None)

    assert -signal.SIGKILL in forked_two(command("killed", before=dies))
    saved = {path.name for path in (tmp_path / "killed" / "checkpoint-3").iterdir()}
    assert "adapter_model.safetensors" in saved
    assert not {name for name in saved if name.startswith("pytorch_model") or name == "training_args.bin"}
    assert forked_two(command("killed")) == [0, 0]
    assert adapter_hash(tmp_path / "killed") == adapter_hash(tmp_path / "sharded")
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "sharded")


def test_gradients_through_a_four_bit_base_are_the_same_on_trees(minute_model: Path) -> None:
    """Also after an evaluation, which bitsandbytes takes for the end of training on some CPUs."""

    def adapted() -> Any:
        model = load_model(
            ModelOptions(model_name_or_path=str(minute_model), load_in_4bit=True, dtype="float32"),
            None,
            SFTConfig(use_cpu=True, bf16=False),
        ).model
        assert any(isinstance(module, Linear4bit) for module in model.modules())
        torch.manual_seed(0)
        lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
        trained = get_peft_model(model, lora)
        add_fused_lm_head(trained.get_base_model(), outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
        trained.eval()
        with torch.no_grad():
            trained(input_ids=torch.tensor([[5, 6, 7]]))
        return trained.train()

    rows = made_pairs(3)
    truth = brute_force(adapted(), rows)
    assert largest_difference(on_trees(adapted(), rows, "segments"), truth) < 1e-4
    lower = [gradient for name, gradient in truth[1].items() if "layers.0" in name]
    assert len(lower) == 14 and all(gradient.abs().max() > 0 for gradient in lower)


@pytest.mark.parametrize("method", MAIN)
def test_runs_on_a_four_bit_base_resume_to_the_same_bytes(
    method: str, minute_model: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    """TRL holds the adapter in bf16 then."""
    more = {"max_steps": 6, "load_in_4bit": "true", "tree": "true"}
    data = sets[KINDS[method]]
    MAIN[method](eight_steps(minute_model, data, tmp_path / "unbroken", **more))
    killed = eight_steps(minute_model, data, tmp_path / "killed", **more)

    def dies() -> None:
        with_events(lambda number: kill() if number == 30 else None)
        MAIN[method](killed)

    assert forked(dies) == -signal.SIGKILL
    MAIN[method](killed)
    assert adapter_hash(tmp_path / "killed") == adapter_hash(tmp_path / "unbroken")
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "unbroken")


def test_four_bit_is_refused_with_the_reason_where_it_cannot_run(
    minute_model: Path, sets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.model.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"--load_in_4bit needs bitsandbytes: pip install"):
        dpo.main(eight_steps(minute_model, sets["pairs"], tmp_path / "run", load_in_4bit="true"))


# Determinism


def test_deterministic_runs_are_the_same_and_say_that_they_are(
    minute_model: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        dpo.main(eight_steps(minute_model, sets["pairs"], tmp_path / name, deterministic="true"))
    assert adapter_hash(tmp_path / "one") == adapter_hash(tmp_path / "two")
    assert json.loads((tmp_path / "one" / "run.json").read_text())["options"]["deterministic"] is True
    assert not torch.are_deterministic_algorithms_enabled()  # the switch is the run's alone
    with pytest.raises(UserError, match="deterministic: true -> false"):
        dpo.main(eight_steps(minute_model, sets["pairs"], tmp_path / "one"))


@pytest.mark.parametrize("wanted", ["true", "false"])
def test_an_operation_that_is_not_deterministic_ends_the_run_only_where_it_was_asked_for(
    wanted: str,
    minute_model: Path,
    sets: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """`put_` is one that torch has no deterministic form of, here in a layer of the model."""
    original = LlamaMLP.forward

    def forward(layer: Any, states: torch.Tensor) -> Any:
        torch.zeros(3).put_(torch.tensor([1]), torch.tensor([1.0]))
        return original(layer, states)

    monkeypatch.setattr(LlamaMLP, "forward", forward)
    arguments = eight_steps(minute_model, sets["chats"], tmp_path / "run", deterministic=wanted, eval_on_start="false")
    assert forked(lambda: run_main(lambda: sft.main(arguments))) == (2 if wanted == "true" else 0)
    if wanted == "true":
        message = capfd.readouterr().err
        assert "error: --deterministic true: the run came to an operation" in message and "put_ does not" in message
        assert "Traceback" not in message
        status = json.loads((tmp_path / "run" / "status.json").read_text())
        assert status["status"] == "user_error" and "put_" in status["message"]


def test_attention_that_torch_cannot_vouch_for_is_refused_by_name(
    minute_model: Path, sets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"deterministic": "true", "attn_implementation": "flex_attention"}
    with pytest.raises(
        UserError, match=r"--deterministic true: attn_implementation flex_attention .* expected sdpa or eager"
    ):
        sft.main(eight_steps(minute_model, sets["chats"], tmp_path / "run", **more))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    with pytest.raises(UserError, match=r"CUBLAS_WORKSPACE_CONFIG=:0:0: expected :4096:8 or :16:8"):
        sft.main(eight_steps(minute_model, sets["chats"], tmp_path / "run", deterministic="true"))
