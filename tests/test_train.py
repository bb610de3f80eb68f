"""The entry points on a tiny random model: what they learn, what they leave behind, and that their steps add up."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from trl import DPOConfig, SFTConfig
from trl.experimental.orpo import ORPOConfig

from benchmark.loop.plan import LoopConfig
from benchmark.loop.sweep import SweepConfig
from core.config import read_config
from core.errors import UserError
from data.chats import Chat, PreferencePair
from data.contribution.coverage import PlanSpec
from data.curation.pipeline import CurateConfig
from data.models import read_stages, weights_sha256
from data.rendering.renderer import Renderer
from data.rendering.token_tree import TokenTree
from data.sets.build import BuildConfig, build
from data.sets.prepared import read_prepared
from support.forking import forked
from support.training import adapter_hash, forked_two, launch_two, losses, options, read_chat, read_pair, train
from train import dpo, fit, kto, orpo, sft
from train.fit import MetricsFile, read_metrics
from train.options import DataOptions, DpoOptions, PairOptions
from train.outcome import run_main
from train.parsing import LabelConfig, ModelOptions, parse_options
from train.trainers import PairTrainer
from train.tree import UnitCollator, rendered_to_unit, tree_to_rendered

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def sft_run(tiny_model: Path, sets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "sft"
    sft.main(
        options(tiny_model, sets["chats"], out, max_steps=14, save_strategy="steps", save_steps=9, learning_rate=3e-2)
    )
    return out


def test_sft_learns_and_leaves_a_whole_run_folder(sft_run: Path) -> None:
    assert losses(sft_run)[-1] < losses(sft_run)[0] - 0.1
    for name in (
        "adapter_model.safetensors",
        "adapter_config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "loss.png",
    ):
        assert (sft_run / name).stat().st_size > 0, name
    run = json.loads((sft_run / "run.json").read_text())
    assert run["finished"] and run["method"] == "sft"
    assert run["versions"]["torch"] and run["git"].keys() == {"revision", "changed"}
    assert run["data"]["splits"]["train"]["sha256"]
    assert run["options"]["learning_rate"] == 3e-2
    rows = run["rows"]["train"]
    assert rows["read"] == rows["kept"] + sum(rows["dropped"].values())
    assert [line["step"] for line in read_metrics(sft_run) if "loss" in line] == list(range(1, 15))


def test_resume_after_a_kill_gives_the_same_adapter(
    tiny_model: Path, sets: dict[str, Path], sft_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that stopped dead after its checkpoint at step 9 goes on to the same bytes, dropout on."""
    arguments = options(
        tiny_model,
        sets["chats"],
        tmp_path / "run",
        max_steps=14,
        save_strategy="steps",
        save_steps=9,
        learning_rate=3e-2,
    )

    class Killed(MetricsFile):
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step == 11:
                os._exit(9)

    with monkeypatch.context() as patched:
        patched.setattr(fit, "MetricsFile", Killed)
        assert forked(lambda: sft.main(arguments)) == 9
    assert not (tmp_path / "run" / "adapter_model.safetensors").exists()
    sft.main(arguments)
    assert adapter_hash(tmp_path / "run") == adapter_hash(sft_run)
    assert [line["step"] for line in read_metrics(tmp_path / "run") if "loss" in line] == list(range(1, 15))


def test_a_finished_run_is_not_trained_again_and_a_changed_one_only_if_told_to(
    minute_model: Path, sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    sft.main(options(minute_model, sets["chats"], out, max_steps=1))
    before = (out / "adapter_model.safetensors").stat().st_mtime_ns
    sft.main(options(minute_model, sets["chats"], out, max_steps=1))
    assert "already finished" in capsys.readouterr().err
    assert (out / "adapter_model.safetensors").stat().st_mtime_ns == before
    changed = options(minute_model, sets["chats"], out, max_steps=1, learning_rate=1e-3)
    with pytest.raises(UserError, match=r"learning_rate: 0\.005 -> 0\.001"):
        sft.main(changed)
    assert (out / "adapter_model.safetensors").stat().st_mtime_ns == before
    sft.main([*changed, "--resume", "never"])
    assert (out / "adapter_model.safetensors").stat().st_mtime_ns != before


@pytest.mark.parametrize(
    ("method", "kind"), [("sft", "chats"), ("dpo", "pairs"), ("orpo", "pairs"), ("kto", "labelled")]
)
def test_batches_of_any_shape_and_two_processes_make_the_same_steps(
    method: str, kind: str, minute_model: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    """4x1 == 1x4 == two processes of 1x2 == each sequence by itself, over the end of an epoch that 4 does not divide.

    The pairs are step pairs of trajectories, so processes hold different numbers of them.
    """
    main = {"sft": sft, "dpo": dpo, "orpo": orpo, "kto": kto}[method].main
    plain = {"lora_dropout": 0.0, "max_steps": 5, "disable_dropout": "true"}
    if method == "sft":
        del plain["disable_dropout"]
    if method == "dpo":
        plain |= {"loss_type": "sigmoid,sft", "loss_weights": "1.0,0.5"}
    shapes = {"wide": (4, 1, "true"), "narrow": (1, 4, "true"), "alone": (4, 1, "false")}
    for name, (batch, steps, tree) in shapes.items():
        more = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": steps, "tree": tree, **plain}
        main(options(minute_model, sets[kind], tmp_path / name, **more))
    more = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "tree": "true", **plain}
    two = options(minute_model, sets[kind], tmp_path / "two", **more)
    if method == "sft":  # as a user starts them; the others without loading torch three times more
        done = launch_two(ROOT / f"train/{method}.py", two)
        assert done.returncode == 0, done.stderr
    else:
        assert forked_two(lambda: run_main(lambda: main(two))) == [0, 0]
    assert len(losses(tmp_path / "two")) == 5
    for name in ("narrow", "alone", "two"):
        assert losses(tmp_path / name) == pytest.approx(losses(tmp_path / "wide"), abs=1e-4)


def test_two_processes_with_activation_checkpointing_train_the_same_adapter(
    minute_model: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    """On trees, against one process. (accelerate shards no model on a CPU; tests/test_trees.py does that with FSDP2.)"""
    plain = {"lora_dropout": 0.0, "tree": "true"}
    dpo.main(options(minute_model, sets["pairs"], tmp_path / "one", per_device_train_batch_size=4, **plain))
    more = {**plain, "gradient_accumulation_steps": 2, "gradient_checkpointing": "true"}
    more |= {"per_device_train_batch_size": 1}
    arguments = options(minute_model, sets["pairs"], tmp_path / "two", **more)
    assert forked_two(lambda: run_main(lambda: dpo.main(arguments))) == [0, 0]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)


def test_sft_loss_is_the_weighted_mean_over_scored_tokens(
    tiny_model: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    """The first logged loss against a brute-force computation, with float weights."""
    renderer = Renderer.from_pretrained(tiny_model)
    chat = read_chat(1)
    weighted = chat.model_copy(
        update={"messages": (*chat.messages[:3], chat.messages[3].model_copy(update={"weight": 0.25}))}
    )
    source = tmp_path / "one.jsonl"
    source.write_text(weighted.model_dump_json() + "\n", encoding="utf-8")
    build(BuildConfig.model_validate({"sources": [{"adapter": "chats", "path": str(source)}]}), out=tmp_path / "set")
    sft.main(options(tiny_model, tmp_path / "set", tmp_path / "run", max_steps=1, lora_dropout=0.0))

    tree = renderer.chat_to_tree(weighted)
    assert isinstance(tree, TokenTree)
    ((ids, weights),) = tree.rows()
    assert set(weights) == {0.0, 0.25, 1.0}
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(tiny_model)(torch.tensor([ids])).logits[0]
    nll = -torch.log_softmax(logits[:-1].float(), -1)[range(len(ids) - 1), ids[1:]]
    weight = torch.tensor(weights[1:])
    assert losses(tmp_path / "run")[0] == pytest.approx(float((nll * weight).sum() / weight.sum()), abs=1e-4)


def test_dpo_starts_from_the_sft_adapter_with_its_copy_as_reference(
    sft_run: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "dpo"
    dpo.main(options(sft_run, sets["pairs"], out, lora_dropout=0.0, learning_rate=1e-2, max_steps=6))
    lines = [line for line in read_metrics(out) if "loss" in line]
    assert lines[0]["loss"] == pytest.approx(0.6931, abs=1e-3)  # log 2: policy and reference are the same at first
    assert lines[-1]["loss"] < lines[0]["loss"]
    trained, start = load_file(out / "adapter_model.safetensors"), load_file(sft_run / "adapter_model.safetensors")
    assert trained.keys() == start.keys()
    assert any(not torch.equal(trained[name], start[name]) for name in trained)
    assert not (out / "ref").exists()
    # The benchmark follows the run.json files back, from weights to weights.
    stages = read_stages(str(out))
    assert [(stage.method, stage.data.kind, stage.rows) for stage in stages] == [
        ("sft", "chat", len(read_prepared(sets["chats"]).train)),
        ("dpo", "pair", len(read_prepared(sets["pairs"]).train)),
    ]
    assert stages[0].started_sha256 == weights_sha256(stages[0].started_from)
    assert stages[1].started_sha256 == stages[0].sha256
    assert stages[1].data.sources[0].kept_by_source == {"test": 9}


def test_dpo_ends_when_its_chosen_sides_become_too_unlikely(
    sft_run: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    more: dict[str, Any] = {
        "lora_dropout": 0.0,
        "learning_rate": 3e-1,
        "max_steps": 9,
        "beta": 0.01,
        "loss_type": "sigmoid",
    }
    dpo.main(options(sft_run, sets["pairs"], tmp_path / "dpo", stop_at_chosen_drop=0.001, **more))
    stopped = json.loads((tmp_path / "dpo" / "run.json").read_text("utf-8"))["stopped_at_chosen_drop"]
    logged = {line["step"]: line for line in read_metrics(tmp_path / "dpo") if "loss" in line}
    assert 1 <= stopped["step"] < 9 and max(logged) == stopped["step"]
    for step, line in logged.items():
        reference = line["logps/chosen"] - line["rewards/chosen"] / 0.01
        fell = (reference - line["logps/chosen"]) / -reference > 0.001
        assert fell == (step == stopped["step"])
    assert (tmp_path / "dpo" / "adapter_model.safetensors").exists()


def test_references_are_computed_once_for_all_runs_and_change_nothing(
    sft_run: Path, sets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLTUNE_CACHE", str(tmp_path / "cache"))
    computed: list[int] = []
    original = PairTrainer.compute_ref_log_probs

    def counted(trainer: Any, model: Any, inputs: Any) -> Any:
        computed.append(len(inputs["input_ids"]) // 2)
        return original(trainer, model, inputs)

    monkeypatch.setattr(PairTrainer, "compute_ref_log_probs", counted)
    more: dict[str, Any] = {"lora_dropout": 0.0, "learning_rate": 1e-2, "max_steps": 5}
    dpo.main(options(sft_run, sets["pairs"], tmp_path / "beside", **more))
    assert not computed
    more["precompute_ref_log_probs"] = "true"
    dpo.main(options(sft_run, sets["pairs"], tmp_path / "first", **more))
    assert sum(computed) == 9  # each pair of both splits once, in five steps of two trajectories
    assert losses(tmp_path / "first") == pytest.approx(losses(tmp_path / "beside"), abs=1e-5)
    dpo.main(options(sft_run, sets["pairs"], tmp_path / "second", beta=0.5, tree="false", **more))
    assert sum(computed) == 9
    assert losses(tmp_path / "second") != losses(tmp_path / "first")
    # The policy has moved; the reference is still the adapter that SFT left.
    assert [line for line in read_metrics(tmp_path / "second") if "loss" in line][-1]["rewards/margins"] != 0


def test_orpo_trains_on_the_same_pairs(tiny_model: Path, sets: dict[str, Path], tmp_path: Path) -> None:
    orpo.main(options(tiny_model, sets["pairs"], tmp_path / "orpo", learning_rate=2e-2, max_steps=6))
    lines = [line for line in read_metrics(tmp_path / "orpo") if "loss" in line]
    assert lines[-1]["nll_loss"] < lines[0]["nll_loss"]


def test_dry_run_prints_the_plan_and_trains_nothing(
    tiny_model: Path, sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sft.main(options(tiny_model, sets["chats"], tmp_path / "run", dry_run="true"))
    shown = capsys.readouterr().err
    for word in ("kept", "dropped", "scored", "steps: 4", "trainable parameters", "memory", "disk"):
        assert word in shown
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_session_of_300_turns_is_split_built_and_planned(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "파일을 모두 읽어 줘"}]
    for number in range(150):
        call = {"id": f"toolu_{number}", "function": {"name": "read_file", "arguments": {"path": f"{number}.txt"}}}
        messages.append({"role": "assistant", "content": f"{number}번", "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"toolu_{number}", "content": f"내용 {number} " * 20})
    log, tool = (
        tmp_path / "session.jsonl",
        {"name": "read_file", "parameters": {"properties": {"path": {"type": "string"}}}},
    )
    messages.append({"role": "assistant", "content": "끝"})
    log.write_text(json.dumps({"messages": messages, "tools": [tool]}), encoding="utf-8")
    source = {"path": str(log), "adapter": "openai_chat"}
    config = {"sources": [source], "split_long": 1000, "tokenizer": str(tiny_model), "validation_share": 0}
    build(BuildConfig.model_validate({**config, "out": str(tmp_path / "set")}))
    rows = [json.loads(line) for line in (tmp_path / "set" / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [c["id"] for row in rows for m in row["messages"] for c in m["tool_calls"]] == [
        f"toolu_{n}" for n in range(150)
    ]
    sft.main(options(tiny_model, tmp_path / "set", tmp_path / "run", dry_run="true", max_length=1024))
    assert re.search(rf"train +│ +{len(rows)} │ +{len(rows)} │ +0 │", capsys.readouterr().err)


def test_four_bit_loads_where_bitsandbytes_runs(tiny_model: Path, sets: dict[str, Path], tmp_path: Path) -> None:
    sft.main(options(tiny_model, sets["chats"], tmp_path / "run", max_steps=1, load_in_4bit="true"))
    assert (tmp_path / "run" / "adapter_model.safetensors").exists()


def test_scored_tokens_are_the_models_own_words(tiny_model: Path) -> None:
    renderer = Renderer.from_pretrained(tiny_model)

    def scored(row: Chat | PreferencePair) -> list[str]:
        tree = renderer.chat_to_tree(row) if isinstance(row, Chat) else renderer.pair_to_tree(row)
        assert isinstance(tree, TokenTree)
        batch = UnitCollator(0, "one")([rendered_to_unit([tree_to_rendered(tree)], share=True)])
        return [renderer.tokenizer.decode(ids[ids != -100]) for ids in batch["labels"]]

    chosen, rejected = scored(read_pair(0))
    assert chosen.endswith("</tool_call><|im_end|>Done.<|im_end|>") and "1,2" not in chosen
    assert rejected.count("<|im_end|>") == 1
    assert scored(read_chat(5)) == ["Done.<|im_end|>"]  # its first step is marked 0


COMMANDS = {
    "sft": (sft, (DataOptions, ModelOptions, SFTConfig)),
    "dpo": (dpo, (DpoOptions, ModelOptions, DPOConfig)),
    "orpo": (orpo, (PairOptions, ModelOptions, ORPOConfig)),
    "kto": (kto, (PairOptions, ModelOptions, LabelConfig)),
}


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("configs/*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_every_config_is_read_by_its_real_parser(path: Path) -> None:
    kind = path.parent.name
    if kind in COMMANDS:
        # A config for GPUs asks for bf16, which the options refuse on a machine without one.
        parsed = parse_options(COMMANDS[kind][1], ["--config", str(path), "--bf16", "false", "--use_cpu", "true"])
        assert parsed[0].data and parsed[1].model_name_or_path and parsed[2].output_dir
    elif kind == "accelerate":
        from accelerate.commands.config.config_args import load_config_from_file  # noqa: PLC0415 - only here

        assert load_config_from_file(str(path)).num_processes >= 1
    elif kind == "data":
        kinds: dict[str, Any] = {".plan.yaml": PlanSpec, "curate.yaml": CurateConfig}
        read_config(path, next((kind for end, kind in kinds.items() if path.name.endswith(end)), BuildConfig))
    elif kind == "benchmark":
        if "\narms:" in path.read_text(encoding="utf-8"):
            assert read_config(path, SweepConfig).arms
        else:
            assert read_config(path, LoopConfig).rounds >= 1
    else:
        pytest.fail(f"nothing reads configs/{kind}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning_rat", "1"], "--learning_rate"),
        (["--config", "configs/sft/fastt.yaml"], "configs/sft/fast.yaml"),
        (["--config", "configs/sft/fast.yaml", "--learning_rate", "abc"], "invalid float value: 'abc'"),
        (["quickstart"], "expected options"),
    ],
)
def test_mistyped_options_are_named_with_their_neighbour(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=message):
        parse_options((DataOptions, ModelOptions, SFTConfig), arguments)


def test_mistyped_yaml_keys_are_named_with_file_and_line(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("seed: 1\nlearning_rat: 1\n")
    with pytest.raises(
        UserError, match=r"run\.yaml:2: option 'learning_rat' is unknown\. Did you mean 'learning_rate'"
    ):
        parse_options((DataOptions, ModelOptions, SFTConfig), ["--config", str(config)])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"model_name_or_path": "/nowhere/model"}, "no such model folder"),
        ({"data": "/nowhere/data"}, "no such folder of a prepared set"),
        ({"max_length": 10}, "no row is left to train on"),
        ({"trust_remote_code": "true"}, "trust_remote_code is off"),
        ({"wandb": "ofline"}, "Did you mean 'offline'"),
        ({"resume": "/nowhere/checkpoint"}, "expected auto, never or a checkpoint folder"),
        ({"model_revision": "v2"}, "name the folder"),
        ({"lora_target_modules": "q_prj"}, "Did you mean 'q_proj'"),
    ],
)
def test_what_cannot_be_trained_is_a_message(
    tiny_model: Path, sets: dict[str, Path], tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        sft.main(options(**{"tiny_model": tiny_model, "data": sets["chats"], "out": tmp_path / "run", **more}))


def test_words_that_yaml_reads_as_truth_values_are_words(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("wandb: off\ntree: true\nresume: never\ndata: x\noutput_dir: y\nuse_cpu: true\nbf16: false\n")
    parsed, *_ = parse_options((DataOptions, ModelOptions, SFTConfig), ["--config", str(config)])
    assert (parsed.wandb, parsed.tree, parsed.resume) == ("off", "true", "never")


def test_pairs_are_refused_by_sft(tiny_model: Path, sets: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds pairs, this method trains on chats"):
        sft.main(options(tiny_model, sets["pairs"], tmp_path / "run"))


def test_a_users_mistake_exits_2_without_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "train/dpo.py", "--data", "/nowhere", "--model_name_or_path", "/nowhere", "--output_dir",
         tmp_path / "x", "--use_cpu", "true", "--bf16", "false"], cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1] == "error: /nowhere: there is no such model folder."


def test_wandb_is_off_unless_asked_for_and_offline_without_a_key(
    minute_model: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment["HOME"] = str(tmp_path)  # no netrc
    for asked in ("off", "online"):
        out = tmp_path / asked
        arguments = options(minute_model, sets["chats"], out, max_steps=1, wandb=asked)
        done = train("sft", arguments, environment=environment)
        assert done.returncode == 0, done.stderr
        assert bool(list(out.glob("wandb/offline-run-*"))) == (asked == "online")
