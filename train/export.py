"""A trained adapter merged into its base: one folder that transformers loads and a server such as vLLM serves.

    python -m train.export runs/quickstart/round-1/dpo --out exported/quickstart
    python -m train.export runs/8b/dpo --out exported/8b --dtype bfloat16 --kpis results/dpo/kpis.json

Weights are merged in float32, `W + scale * B A`, and only then cast, so that nothing is rounded twice. An adapter that was
trained on a 4-bit base learned beside *rounded* weights: those are what it is merged into, de-quantised, never the original
ones; the result is a plain model that behaves as the trained one did. Before anything is written, the merged model's logits
are compared with the adapter's; afterwards the folder is loaded again and compared once more.

The folder holds safetensors, config, generation config (with every stop token), tokenizer with chat template, and a model
card that names base, data with hashes, settings and, with `--kpis`, the benchmark's numbers.

Exit codes: 0 done; 2 a mistake in the options, or logits that differ, and then nothing is left behind.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.options import DTYPES, export_parser

if __name__ == "__main__":
    export_parser(__doc__).parse_args()  # before torch is imported: help and mistakes are told at once

import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from core.command_line import errors_told
from core.errors import UserError, first_line, nearest
from data.chats import Message
from data.models import find_base, read_stages
from data.rendering.renderer import Renderer
from data.wire import BenchmarkRun, TrainingStage, read_benchmark_run
from train import checkpoints
from train.environment import quiet
from train.model import quantization_config
from train.outcome import say
from train.parsing import ModelOptions

TOLERANCE = 1e-4
"""Largest difference of two logits that is rounding, as a share of the largest logit (but of no less than 1)."""


def export(
    model: str, out: str | Path, *, dtype: str = "auto", load_in_4bit: bool | None = None, kpis: str | None = None
) -> dict[str, Any]:
    """Merge the adapter folder `model` into its base and save the whole model in `out`.

    Args:
        dtype: of the saved weights; auto takes the base's own.
        load_in_4bit: whether the adapter was trained on an NF4 base; None asks the run.json beside the adapter.
        kpis: a `kpis.json` of `python -m benchmark run`, for the model card.

    Returns:
        `max_logit_difference` of the merged model, and of the saved one after loading it again; `parameters`, `dtype`.

    Raises:
        UserError: if `model` is no adapter, `out` is taken, there is no room, or the logits differ.
    """
    folder = Path(out)
    if dtype not in DTYPES:
        raise UserError(f"--dtype {dtype}: expected one of {', '.join(DTYPES)}.{nearest(dtype, DTYPES)}")
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        raise UserError(f"--out {out}: is there already; name a folder that is not")
    base, adapter = find_base(model)
    if adapter is None:
        raise UserError(f"{model}: holds no adapter (adapter_config.json), so there is nothing to merge")
    card_kpis = read_benchmark_run(Path(kpis)) if kpis else None
    options = _options_of(adapter, load_in_4bit)
    renderer = Renderer.from_pretrained(model)
    trained = _load_trained(base, adapter, options)
    saved_dtype = (
        (AutoConfig.from_pretrained(base).dtype or torch.float32) if dtype == "auto" else getattr(torch, dtype)
    )
    parameters = sum(parameter.numel() for parameter in trained.get_base_model().parameters())
    _check_room(folder.parent, parameters * saved_dtype.itemsize)
    ids = _probe_ids(renderer)
    wanted = _logits(trained, ids)
    if not torch.isfinite(wanted).all():
        raise UserError(f"{model}: its logits are not finite, it is not exported")
    merged = trained.merge_and_unload(safe_merge=True)
    merged_difference = _difference(_logits(merged, ids), wanted, "the merged model's logits", strict=True)

    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _save(merged.to(saved_dtype), renderer, base, partial)
        del merged, trained
        problems = layout_problems(partial)
        if problems:
            raise UserError(f"{model}: the merged model could not be served: {'; '.join(problems)}")
        again = AutoModelForCausalLM.from_pretrained(partial, dtype=torch.float32, use_safetensors=True)
        saved_difference = _difference(
            _logits(again, ids), wanted, "the saved model's logits", strict=saved_dtype is torch.float32
        )
        report = {
            "max_logit_difference": merged_difference,
            "max_logit_difference_saved": saved_difference,
            "parameters": parameters,
            "dtype": str(saved_dtype).removeprefix("torch."),
        }
        card = model_card(base, Path(adapter), card_kpis, options, report)
        (partial / "README.md").write_text(card, encoding="utf-8")
        for path in partial.iterdir():
            path.chmod((partial / "config.json").stat().st_mode)  # safetensors leaves files that only their owner reads
            checkpoints.flush(path)
        if folder.exists():
            folder.rmdir()  # it is empty
        partial.rename(folder)
        checkpoints.flush(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


def _check_room(folder: Path, needed_bytes: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise UserError(f"{folder}: the merged model needs {needed_bytes:,} bytes, {free_bytes:,} bytes are free")


def _load_trained(base: str, adapter: str, options: ModelOptions) -> PeftModel:
    """Base and adapter in float32; a 4-bit base as the de-quantised weights that the adapter was trained beside."""
    keywords: dict[str, Any] = {"use_safetensors": True, "dtype": torch.float32}
    if options.load_in_4bit:
        # NF4 rounds what it is given, and training gave it the weights in this dtype.
        dtype = options.dtype if options.dtype == "auto" else getattr(torch, options.dtype)
        keywords |= {"quantization_config": quantization_config(options), "dtype": dtype}
    try:
        model = AutoModelForCausalLM.from_pretrained(base, **keywords)
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{base}: the base cannot be loaded: {first_line(error)}") from None
    if options.load_in_4bit:
        model = model.dequantize(torch.float32).float()
        model.is_loaded_in_4bit = False
    try:
        _untie(model, Path(adapter))
        return PeftModel.from_pretrained(model, adapter).eval()
    except (RuntimeError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise UserError(f"{adapter}: the adapter does not fit {base}: {first_line(error)}") from None


def _untie(model: PreTrainedModel, adapter: Path) -> None:
    """Give head and embedding a tensor each, where they share one and the adapter changes either: merging changes one."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is not embedding.weight:
        return
    names = {name.rpartition(".")[2] for name, module in model.named_modules() if module is head or module is embedding}
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as weights:
        if not any(part in names for key in weights.keys() for part in key.split(".")):  # noqa: SIM118 - it is no dict
            return
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    model.config.tie_word_embeddings = model.config.get_text_config().tie_word_embeddings = False


def _probe_ids(renderer: Renderer) -> torch.Tensor:
    """int64 [2, 64]: a small chat as the model sees it, filled up, and ids drawn from the whole vocabulary."""
    vocabulary = len(renderer.tokenizer)
    drawn = torch.randint(vocabulary, (2, 64), generator=torch.Generator().manual_seed(0))
    words = renderer.prompt_ids([Message(role="user", content="What is 17 + 25? 서울의 날씨는?")])[:64]
    drawn[0, : len(words)] = torch.tensor(words)
    return drawn


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """float32 [2, 64, vocabulary]."""
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=ids.to(model.device), use_cache=False).logits.float().cpu()
    return logits


def _difference(logits: torch.Tensor, wanted: torch.Tensor, what: str, *, strict: bool) -> float:
    """The largest difference; `strict` refuses what is more than rounding."""
    difference = (logits - wanted).abs().max().item()
    allowed = TOLERANCE * max(1.0, wanted.abs().max().item())
    if strict and not difference <= allowed:
        raise UserError(
            f"{what} differ from the adapter's by {difference:.3g}, more than {allowed:.3g}: nothing is written"
        )
    return difference


def _save(model: PreTrainedModel, renderer: Renderer, base: str, folder: Path) -> None:
    """Weights, configs, tokenizer and template."""
    model.config.dtype = model.dtype
    try:
        generation = GenerationConfig.from_pretrained(base)
    except OSError:  # a base without one
        generation = GenerationConfig()
    generation.eos_token_id = list(renderer.stop_ids)
    if not generation.do_sample:  # left-over values of sampling make transformers refuse to save it
        generation.temperature = generation.top_p = generation.top_k = None
    model.generation_config = generation
    model.save_pretrained(folder)
    renderer.tokenizer.save_pretrained(folder)


def layout_problems(folder: Path) -> list[str]:
    """Why a server such as vLLM would not take a model folder: by the files alone, empty where it would.

    vLLM reads config.json (one architecture, no adapter), model*.safetensors (through their index where there are several),
    tokenizer.json, and the chat template; ids of the tokenizer have to have a row in the embedding.
    """
    problems = []
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if len(config.get("architectures") or []) != 1:
        problems.append("config.json: architectures: expected exactly one")
    if "quantization_config" in config:
        problems.append("config.json: quantization_config: the weights are not quantised")
    problems += [
        f"{name} is missing" for name in ("tokenizer.json", "generation_config.json") if not (folder / name).is_file()
    ]
    for pattern in ("adapter_*", "*.bin", "*.pt", "*.py"):
        problems += [f"{path.name} has no place in a merged model" for path in sorted(folder.glob(pattern))]
    files = sorted(folder.glob("model*.safetensors"))
    index = folder / "model.safetensors.index.json"
    named = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    if named != {path.name for path in files}:
        problems.append(f"weights: {sorted(named)} are named, {[path.name for path in files]} are there")
    rows = [
        weights.get_slice(key).get_shape()[0]
        for path in files
        for weights in [safe_open(path, framework="pt")]
        for key in weights.keys()  # noqa: SIM118 - it is no dict
        if key.endswith("embed_tokens.weight")
    ]
    template = folder / "chat_template.jinja"
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    if not template.is_file() and "chat_template" not in tokenizer:
        problems.append("chat_template.jinja is missing")
    backend = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    largest = max((token["id"] for token in backend.get("added_tokens", [])), default=-1)
    if rows and largest >= min(rows):
        problems.append(f"tokenizer.json: id {largest} has no row in the embedding of {min(rows)}")
    return problems


# --- what it was made from ---------------------------------------------------------------------------------------


def _options_of(adapter: str, load_in_4bit: bool | None) -> ModelOptions:
    """How the base was loaded in training, as the run.json beside the adapter says."""
    stages = read_stages(adapter)
    trained: dict[str, Any] = dict(stages[-1].options) if stages else {}
    wanted = bool(trained.get("load_in_4bit")) if load_in_4bit is None else load_in_4bit
    if trained.get("load_in_8bit"):
        raise UserError("the adapter was trained on an 8-bit base; merging is there for 4-bit and unquantised ones")
    known = {
        name: trained[name] for name in ("dtype", "bnb_4bit_quant_type", "use_bnb_nested_quant") if name in trained
    }
    return ModelOptions(load_in_4bit=wanted, **known)


def model_card(
    base: str,
    adapter: Path,
    run: BenchmarkRun | None,
    options: ModelOptions,
    report: dict[str, Any],
) -> str:
    """README.md of a merged model, in the form that model hubs read."""
    name = Path(base).name if Path(base).is_dir() else base
    head = {"base_model": name, "library_name": "transformers", "pipeline_tag": "text-generation"}
    lines = ["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items())]
    lines += ["tags: [tool-use, tooltune]", "---", "", f"# {_cell(adapter.name)}, merged", ""]
    lines += [f"A LoRA adapter on `{_cell(name)}`, merged into it by tooltune, saved in {report['dtype']}."]
    if options.load_in_4bit:
        lines += ["It was trained beside 4-bit (NF4) weights and is merged into those, de-quantised."]
    lines += [
        f"Largest difference of a logit from the adapter's: {report['max_logit_difference']:.2g} merged in float32, "
        f"{report['max_logit_difference_saved']:.2g} as saved.",
        "",
    ]
    if run:
        lines += _results(run)
    stages = read_stages(str(adapter))
    if not stages:
        lines += ["## Training", "", "No run.json lies beside the adapter, so its data is not known.", ""]
    for stage in stages:
        lines += _training(stage)
    return "\n".join(lines)


def _results(run: BenchmarkRun) -> list[str]:
    about = f"split {_cell(run.split)}, seed {run.seed}, worlds {_cell(run.worlds)}"
    lines = [
        "## Results",
        "",
        f"{run.count} tasks of the benchmark ({about}), measured on `{_cell(Path(run.model).name)}`; 95 % intervals.",
    ]
    lines += ["", "| KPI | value | interval | cases |", "|---|---|---|---|"]
    for name, kpi in run.kpis.items():
        value, low, high = ("-" if each is None else f"{each:.3f}" for each in (kpi.value, kpi.low, kpi.high))
        lines.append(f"| {_cell(name)} | {value} | {low} to {high} | {kpi.n} |")
    return [*lines, ""]


_SHOWN = (
    "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
    "lora_r", "lora_alpha", "beta", "loss_type", "desirable_weight", "undesirable_weight", "max_length", "seed",
)  # fmt: skip


def _training(stage: TrainingStage) -> list[str]:
    lines = [f"## Training: {_cell(stage.method)}", "", "| data | rows | sha256 |", "|---|---|---|"]
    for name, split in stage.data.splits.items():
        lines.append(f"| {_cell(name)} | {split.rows} | `{_cell(split.sha256)}` |")
    for source in stage.data.sources:
        for file in source.files:
            # Only the name: where it lay on somebody's disk is nobody's business.
            lines.append(f"| from {_cell(Path(file.path).name)} | | `{_cell(file.sha256)}` |")
        for hub in source.hub:
            lines.append(f"| from {_cell(hub.get('id'))} | | `{_cell(hub.get('revision', '?'))}` |")
    if stage.releases:
        lines += ["", f"Releases: {', '.join(map(_cell, stage.releases))}."]
    shown = ", ".join(f"{name} {_cell(stage.options[name])}" for name in _SHOWN if stage.options.get(name) is not None)
    return [*lines, "", f"Settings: {shown or 'not recorded'}.", ""]


def _cell(value: Any) -> str:
    """A value that cannot break out of a table or a code span."""
    return " ".join(str(value).replace("|", "/").replace("`", "'").replace("<", "&lt;").split())


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, export, say what was written."""
    options = export_parser(__doc__).parse_args(argv)
    quiet()
    report = export(
        options.model,
        options.out,
        dtype=options.dtype,
        load_in_4bit=None if options.load_in_4bit is None else options.load_in_4bit == "true",
        kpis=options.kpis,
    )
    say(
        f"saved {options.out}: {report['parameters']:,} parameters in {report['dtype']}; largest difference of a logit "
        f"{report['max_logit_difference']:.2g} merged, {report['max_logit_difference_saved']:.2g} as saved"
    )


if __name__ == "__main__":
    with errors_told():
        main()
