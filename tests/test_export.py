"""A merged model is the adapter's model: the same logits, loadable, servable, with a card that tells what it was made of."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from core.command_line import errors_told
from core.errors import UserError
from data.models import source_sha256
from train.export import export, layout_problems, main
from train.model import quantization_config
from train.parsing import ModelOptions

IDS = torch.tensor([[1, 5, 900, 42, 17_000, 3, 8, 40_123]])


def make_adapter(tiny: Path, folder: Path, *, seed: int = 0, quantised: bool = False, **lora: Any) -> Path:
    """An adapter with weights that matter: B is not 0."""
    torch.manual_seed(seed)
    keywords: dict[str, Any] = {"dtype": torch.float32}
    if quantised:
        keywords["quantization_config"] = quantization_config(ModelOptions(load_in_4bit=True, dtype="float32"))
    base = AutoModelForCausalLM.from_pretrained(tiny, **keywords)
    model = get_peft_model(
        base, LoraConfig(**{"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **lora})
    )
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lora" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(folder)
    return folder


def write_run(
    folder: Path, base: Path, *, method: str, options: Any, data: Any = None, adapter: Path | None = None
) -> None:
    """run.json as training leaves it, as far as it is read."""
    sha256 = {"base": source_sha256(str(base)), "adapter": source_sha256(str(adapter)) if adapter else None}
    model = {"base": str(base), "adapter": str(adapter) if adapter else None, "sha256": sha256}
    run = {"method": method, "options": options, "data": data or {}, "model": model, "finished": "2026-01-01T00:00:00"}
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits.float()


def of_adapter(tiny: Path, adapter: Path) -> torch.Tensor:
    base = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    return logits(PeftModel.from_pretrained(base, adapter))


@pytest.mark.parametrize(
    "lora",
    [
        {},
        {"use_rslora": True, "lora_alpha": 3},
        {"use_dora": True},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["v_proj", "embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    ],
    ids=["plain", "rslora", "dora", "head", "embedding", "saved-head"],
)
def test_the_merged_model_has_the_adapters_logits(tiny_model: Path, tmp_path: Path, lora: dict[str, Any]) -> None:
    """Also where head and embedding are one tensor in the base and the adapter changes one of them."""
    adapter = make_adapter(tiny_model, tmp_path / "adapter", **lora)
    wanted = of_adapter(tiny_model, adapter)
    base = logits(AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32))
    report = export(str(adapter), tmp_path / "merged", dtype="float32")
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32))
    assert (merged - wanted).abs().max() < 1e-4
    assert (
        merged - base
    ).abs().max() > 1e-2 or "modules_to_save" in lora  # a merge that did nothing would differ by this
    assert report["max_logit_difference_saved"] < 1e-4


def test_the_merged_model_says_what_the_trained_one_says(tiny_model: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tiny_model, tmp_path / "adapter")
    export(str(adapter), tmp_path / "merged")
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    trained = PeftModel.from_pretrained(base, adapter)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    messages = [{"role": "user", "content": "오늘 날씨는? <|im_end|>"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == AutoTokenizer.from_pretrained(
        adapter
    ).apply_chat_template(messages, tokenize=False)
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    spoken = [model.generate(**ids, max_new_tokens=12, do_sample=False)[0].tolist() for model in (trained, merged)]
    assert spoken[0] == spoken[1]


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_an_adapter_of_a_4_bit_base_is_merged_into_the_rounded_weights(tiny_model: Path, tmp_path: Path) -> None:
    """Merged into the original weights it would be another model: the control."""
    adapter = make_adapter(tiny_model, tmp_path / "adapter", quantised=True)
    options = {"load_in_4bit": True, "dtype": "float32", "bnb_4bit_quant_type": "nf4", "use_bnb_nested_quant": False}
    write_run(adapter, tiny_model, method="sft", options=options)
    quantised = AutoModelForCausalLM.from_pretrained(
        tiny_model,
        dtype=torch.float32,
        quantization_config=quantization_config(ModelOptions(load_in_4bit=True, dtype="float32")),
    )
    for module in quantised.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # as in training; else bitsandbytes computes in bf16 here
    wanted = logits(PeftModel.from_pretrained(quantised, adapter))
    export(str(adapter), tmp_path / "merged", dtype="float32")
    export(str(adapter), tmp_path / "control", dtype="float32", load_in_4bit=False)
    merged, control = (
        logits(AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=torch.float32))
        for name in ("merged", "control")
    )
    assert (merged - wanted).abs().max() < 1e-4
    assert (control - wanted).abs().max() > 1e-2
    assert "quantization_config" not in json.loads((tmp_path / "merged" / "config.json").read_text())
    assert "4-bit" in (tmp_path / "merged" / "README.md").read_text()


def test_what_is_saved_can_be_served(tiny_model: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tiny_model, tmp_path / "adapter")
    report = export(str(adapter), tmp_path / "merged", dtype="bfloat16")
    merged = tmp_path / "merged"
    assert layout_problems(merged) == []
    config = json.loads((merged / "config.json").read_text())
    assert config["dtype"] == report["dtype"] == "bfloat16"
    with safe_open(merged / "model.safetensors", framework="pt") as weights:
        assert {weights.get_tensor(key).dtype for key in weights.keys()} == {torch.bfloat16}  # noqa: SIM118 - no dict
        assert not [key for key in weights.keys() if "lora" in key or "base_layer" in key]  # noqa: SIM118 - as above
    stop = json.loads((merged / "generation_config.json").read_text())["eos_token_id"]
    assert AutoTokenizer.from_pretrained(tiny_model).eos_token_id in stop
    (merged / "adapter_config.json").write_text("{}")
    (merged / "chat_template.jinja").unlink()
    (merged / "model.safetensors").rename(merged / "model-00001.safetensors")
    problems = " ".join(layout_problems(merged))
    assert "adapter_config.json" in problems
    assert "chat_template" in problems
    assert "model-00001.safetensors" in problems


def test_the_card_names_data_and_numbers_and_nothing_breaks_out_of_it(tiny_model: Path, tmp_path: Path) -> None:
    first, second = make_adapter(tiny_model, tmp_path / "sft"), make_adapter(tiny_model, tmp_path / "dpo", seed=1)
    splits = {"train": {"rows": 12, "sha256": "ab" * 32}}
    sources = [{"adapter": "chats", "files": [{"path": "주문 `|<script>`.jsonl", "sha256": "cd" * 32}], "kept": 12}]
    data = {"kind": "chat", "splits": splits, "sources": sources}
    write_run(first, tiny_model, method="sft", options={"learning_rate": 1e-4}, data=data)
    write_run(second, tiny_model, method="dpo", options={"beta": 0.1}, data=data, adapter=first)
    kpis = {"success_rate": {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8}, "recovery_rate": dict.fromkeys(
        ("value", "low", "high"), None) | {"n": 0}}  # fmt: skip
    (tmp_path / "kpis.json").write_text(
        json.dumps(
            {"label": "x", "kpis": kpis, "count": 8, "split": "test", "seed": 1, "model": "x", "wall_seconds": 1}
        )
    )
    export(str(second), tmp_path / "merged", kpis=str(tmp_path / "kpis.json"))
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    assert card.index("Training: sft") < card.index("Training: dpo")
    assert "ab" * 32 in card
    assert "cd" * 32 in card
    assert "| success_rate | 0.500 | 0.250 to 0.750 | 8 |" in card
    assert "주문" in card
    assert "<script>" not in card
    assert str(tmp_path) not in card.replace("주문", "")


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda adapter, out: out.mkdir() or (out / "x").touch(), "there already"),
        (
            lambda adapter, out: (adapter / "adapter_config.json").unlink(),
            "neither config.json nor adapter_config.json",
        ),
        (lambda adapter, out: (adapter / "adapter_model.safetensors").unlink(), "adapter_model.safetensors"),
    ],
)
def test_mistakes_are_told_and_nothing_is_left(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], break_it: Any, said: str
) -> None:
    adapter, out = make_adapter(tiny_model, tmp_path / "adapter"), tmp_path / "merged"
    break_it(adapter, out)
    with pytest.raises(SystemExit) as stop, errors_told():
        main([str(adapter), "--out", str(out)])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob(".merged*"))
    assert not (out / "config.json").exists()


def test_weights_that_are_not_finite_and_a_broken_merge_are_refused(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_adapter(tiny_model, tmp_path / "adapter")
    monkeypatch.setattr(LoraModel, "merge_and_unload", lambda self, **_: self.unload())
    with pytest.raises(UserError, match="differ from the adapter's"):
        export(str(adapter), tmp_path / "merged")
    monkeypatch.undo()
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - only here

    weights = load_file(adapter / "adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = float("nan")
    save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="not finite"):
        export(str(adapter), tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]
