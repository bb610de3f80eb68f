"""The model a run trains: a base with a fresh LoRA adapter, an existing adapter to go on from, or all weights."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from trl import get_peft_config

from core.errors import UserError, first_line, nearest
from data.models import find_base
from data.rendering.renderer import Renderer
from train.options import DTYPES
from train.parsing import ModelOptions


class LoadedModel(NamedTuple):
    """What a trainer needs: the model, its renderer, and the adapter it shall add (None when it has one or trains all)."""

    model: PreTrainedModel | PeftModel
    renderer: Renderer
    peft_config: LoraConfig | None
    base: str
    adapter: str | None


def load_model(options: ModelOptions, template: str | None, training: Any) -> LoadedModel:
    """Load tokenizer, template and weights.

    4-bit loading is bitsandbytes NF4 with compute in bf16, or fp16 where a GPU has no bf16. Weights are read from
    safetensors only, and no code of a model's repository is run.

    Raises:
        UserError: if the model is not named, missing or damaged, the template is unusable, the adapter does not fit or has
            modules that are not there, or 4-bit cannot run here.
    """
    if not options.model_name_or_path:
        raise UserError("--model_name_or_path is missing: a Hugging Face model id or a folder")
    if options.dtype not in DTYPES:  # of a YAML file argparse looks at no choices
        hint = nearest(str(options.dtype), DTYPES)
        raise UserError(f"--dtype {options.dtype}: expected one of {', '.join(DTYPES)}.{hint}")
    if options.model_revision not in (None, "main"):
        # Tokenizer, template and the benchmark would still take main: another model than the one that is trained.
        raise UserError(
            f"--model_revision {options.model_revision}: load that revision into a folder (`hf download NAME --revision "
            "REVISION --local-dir FOLDER`) and name the folder, so that everything after training takes the same"
        )
    base, adapter = find_base(options.model_name_or_path)
    renderer = Renderer.from_pretrained(options.model_name_or_path, chat_template_path=template)
    keywords: dict[str, Any] = {
        "dtype": options.dtype if options.dtype == "auto" else getattr(torch, options.dtype),
        "attn_implementation": options.attn_implementation,
        "use_safetensors": True,
    }
    if options.load_in_4bit or options.load_in_8bit:
        keywords["quantization_config"] = quantization_config(options)
        if torch.cuda.is_available():
            # One whole model a process; sharding is the launcher's work.
            keywords["device_map"] = {"": int(os.environ.get("LOCAL_RANK", "0"))}
    try:
        model = AutoModelForCausalLM.from_pretrained(base, **keywords)
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{base}: the model cannot be loaded: {first_line(error)}") from None
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # bitsandbytes would turn the weights of its linear layers, at the first evaluation on such a CPU, into a format
            # for inference through which no gradient flows.
            module.support_avx512bf16_for_cpu = False
    tokenizer = renderer.tokenizer
    if tokenizer.pad_token is None or tokenizer.pad_token_id in renderer.stop_ids:
        # Padding is masked out of attention and loss, so any token serves; one that is no stop token keeps logs honest.
        tokenizer.pad_token = _free_pad_token(tokenizer, renderer.stop_ids)
    if options.use_peft:
        # Gradient checkpointing of a frozen base needs inputs that carry gradients.
        if training.gradient_checkpointing:
            model.enable_input_require_grads()
    elif adapter is not None:
        raise UserError(
            f"{adapter}: an adapter can be trained on, or merged first; --use_peft false trains whole models"
        )
    if adapter is not None:
        try:
            adapted = PeftModel.from_pretrained(model, adapter, is_trainable=True)
        except (RuntimeError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise UserError(f"{adapter}: the adapter cannot be loaded onto {base}: {first_line(error)}") from None
        return LoadedModel(adapted, renderer, None, base, adapter)
    peft_config = get_peft_config(options)
    if peft_config is not None:
        _check_target_modules(peft_config, model)
    return LoadedModel(model, renderer, peft_config, base, None)


def _check_target_modules(peft_config: LoraConfig, model: PreTrainedModel) -> None:
    """Read a single name as a name, and refuse names that no module has: PEFT would leave them out as long as one is there."""
    wanted = peft_config.target_modules
    if isinstance(wanted, str) and re.fullmatch(r"[\w.]+", wanted):
        # TRL hands a list of one name on as a string, which PEFT takes for a pattern of whole names.
        peft_config.target_modules = wanted = {wanted}
    names = [name for name, _ in model.named_modules()]
    if isinstance(wanted, str) and wanted != "all-linear":
        # A pattern is tried once, here, where its author is: adapters that hold one are not read.
        peft_config.target_modules = {name for name in names if re.fullmatch(wanted, name)}
        if not peft_config.target_modules:
            raise UserError(f"--lora_target_modules {wanted}: the model has no such module")
        return
    if not isinstance(wanted, set):
        return  # all-linear, or PEFT's own choice for this model
    for target in sorted(wanted):
        if not any(f".{name}".endswith(f".{target}") for name in names):
            hint = nearest(target, {name.rpartition(".")[2] for name in names})
            raise UserError(f"--lora_target_modules {target}: the model has no such module.{hint}")


def quantization_config(options: ModelOptions) -> Any:
    """bitsandbytes' NF4 (or 8-bit) configuration.

    Raises:
        UserError: if bitsandbytes is missing.
    """
    if find_spec("bitsandbytes") is None:
        raise UserError("--load_in_4bit needs bitsandbytes: pip install 'tooltune[gpu]'")
    if options.load_in_8bit:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=options.bnb_4bit_quant_type,
        bnb_4bit_compute_dtype=_four_bit_compute_dtype(),
        bnb_4bit_use_double_quant=options.use_bnb_nested_quant,
    )


def _four_bit_compute_dtype() -> torch.dtype:
    """bf16, fp16 on GPUs that only emulate bf16, fp32 on a CPU."""
    if not torch.cuda.is_available():
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def _free_pad_token(tokenizer: Any, stop_ids: tuple[int, ...]) -> str:
    vocabulary = tokenizer.get_vocab()  # once: it is copied each time, which takes a second for a large one
    for name in (
        "<|pad|>",
        "<|finetune_right_pad_id|>",
        "<pad>",
        "<|endoftext|>",
        tokenizer.unk_token,
        tokenizer.bos_token,
    ):
        token_id = vocabulary.get(name)
        if token_id is not None and token_id not in stop_ids:
            return str(name)
    return str(tokenizer.eos_token)
