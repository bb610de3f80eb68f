"""What all parts share: the device, the shapes of random models, rows, a tokenizer, trainers, and the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch.nn.attention.flex_attention import BlockMask, create_mask
from transformers import AttentionInterface, AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from trl import DPOConfig, SFTConfig
from trl.experimental.orpo import ORPOConfig

from scripts.measure.step_speed import QWEN3_1_7B
from train.attention import FLEX_BLOCK_TOKENS, FLEX_IMPLEMENTATION, Backend, choose_backend, flex_attention
from train.trainers import ChatTrainer, OddsRatioTrainer, PairTrainer
from train.tree import Rendered, UnitCollator, rendered_to_unit

ROOT = Path(__file__).resolve().parents[3]
TEMPLATE = ROOT / "configs" / "chat_templates" / "chatml_tools.jinja"
VOCABULARY = 49_152
"""Of the embedded model, whose tokenizer is used; the rows' ids lie below."""
# Heads and their size are those of the 1.7B shape, which decides the kernels of attention; more layers show nothing more.
FOUR_LAYERS = {**QWEN3_1_7B, "num_hidden_layers": 4, "vocab_size": VOCABULARY}
TINY: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 320, "tie_word_embeddings": True,
}  # fmt: skip
TRAINERS: dict[str, tuple[Any, Any]] = {
    "sft": (ChatTrainer, SFTConfig), "dpo": (PairTrainer, DPOConfig), "orpo": (OddsRatioTrainer, ORPOConfig),
}  # fmt: skip


@dataclass(frozen=True)
class Clock:
    """Seconds that are left until `end`, a time as time.time() tells it: the parts run in another process than the command."""

    end: float

    @property
    def left(self) -> float:
        """Below zero when it is over."""
        return self.end - time.time()


@dataclass
class Setting:
    """Where and on what a check runs. On a CPU every shape is tiny: it shows that the check itself works."""

    cuda: bool
    folder: Path
    """For what parts write; empty, and gone afterwards."""
    tokenizer: Any
    clock: Clock
    server: str | None = None
    """A command that serves `{model}` at `{port}`, instead of vLLM."""
    gpus: int = 1
    """Cards of this machine; this process sees the first."""
    shown_gpus: str | None = None
    """CUDA_VISIBLE_DEVICES of the command, for processes that shall see them all."""
    roof: float = 0.0
    """Operations a second of a large matmul in half precision; part a measures it."""

    @property
    def device(self) -> torch.device:
        """The first card, or the CPU."""
        return torch.device("cuda", 0) if self.cuda else torch.device("cpu")

    @property
    def half(self) -> torch.dtype:
        """bf16, or fp16 where a card only emulates bf16."""
        native = not self.cuda or torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16

    @property
    def whole_shape(self) -> Any:
        """The 1.7B shape."""
        return Qwen3Config(**QWEN3_1_7B) if self.cuda else Qwen3Config(**TINY)

    @property
    def short_shape(self) -> Any:
        """The same with four layers."""
        return Qwen3Config(**FOUR_LAYERS) if self.cuda else Qwen3Config(**TINY)

    @property
    def lengths(self) -> Lengths:
        """Of trajectories like those that are trained on, no multiple of a block."""
        return Lengths(130, 25, 23, 8, VOCABULARY) if self.cuda else Lengths(9, 3, 2, 3, TINY["vocab_size"])

    def new_model(self, shape: Any, dtype: torch.dtype, implementation: str = "sdpa") -> Any:
        """Random weights, the same each time."""
        torch.manual_seed(0)
        with self.device:
            return Qwen3ForCausalLM._from_config(shape, dtype=dtype, attn_implementation=implementation)

    def new_trainer(
        self,
        method: str,
        rows: Sequence[Rendered],
        *,
        shape: Any,
        dtype: torch.dtype,
        share: bool,
        backend: Backend | None = None,
        implementation: str = "sdpa",
        model: Any = None,
        fresh: bool = False,
        **arguments: Any,
    ) -> Any:
        """A trainer over the rows, those of one group as one unit.

        Its LoRA adapter is not zero, or where it is `fresh`, it starts as a run's does. `backend` null takes what a run would.
        """
        model = model if model is not None else self.new_model(shape, dtype, implementation)
        backend = backend or choose_backend(model, forks=share)
        units = rows_to_units(rows, share=share)
        half = self.cuda and dtype != torch.float32
        layout: Any = {"dense": "bins", "causal": "paths"}.get(backend, "one")
        trainer_class, config_class = TRAINERS[method]
        with_default = {
            "output_dir": str(self.folder / method), "per_device_train_batch_size": len(units), "report_to": [],
            "bf16": half and dtype == torch.bfloat16, "fp16": half and dtype == torch.float16, "use_cpu": not self.cuda,
            "gradient_checkpointing": False, "max_length": None, "lr_scheduler_type": "constant", "logging_steps": 1,
            "save_strategy": "no", "disable_tqdm": True, "dataloader_pin_memory": False, **arguments,
        }  # fmt: skip
        torch.manual_seed(0)  # of the adapter
        return trainer_class(
            model=model, args=config_class(**with_default), train_units=units, eval_units=[], backend=backend,
            data_collator=UnitCollator(0, layout, FLEX_BLOCK_TOKENS if backend == "flex" else 1),
            processing_class=self.tokenizer,
            peft_config=LoraConfig(
                r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=fresh
            ),
        )  # fmt: skip

    @contextmanager
    def flex(self) -> Iterator[None]:
        """FlexAttention on a card; on a CPU, where it has no backward pass, its mask with sdpa in its place."""
        if self.cuda:
            yield
            return
        AttentionInterface.register(FLEX_IMPLEMENTATION, flex_double)
        try:
            yield
        finally:
            AttentionInterface.register(FLEX_IMPLEMENTATION, flex_attention)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize()

    def seconds_of(self, work: Callable[[], Any]) -> float:
        """Wall seconds of it, with all that it set going on the device."""
        self.synchronize()
        began = time.perf_counter()
        work()
        self.synchronize()
        return time.perf_counter() - began


def flex_double(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any) -> Any:
    """What FlexAttention would compute, from the rule of its block mask, for a CPU."""
    if isinstance(attention_mask, BlockMask):
        rows, length = query.shape[0], query.shape[2]
        rule = attention_mask.mask_mod
        attention_mask = create_mask(rule, rows, None, length, key.shape[2], device=str(query.device))
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def rows_to_units(rows: Sequence[Rendered], *, share: bool) -> list[Any]:
    """Rows of one group that stand next to each other are one unit."""
    return [rendered_to_unit(list(group), share=share) for _, group in groupby(rows, key=lambda row: row.group)]


@dataclass(frozen=True)
class Lengths:
    """Tokens of the made rows."""

    prompt: int
    action: int
    result: int
    turns: int
    vocabulary: int


def tokens(count: int, seed: int, vocabulary: int) -> list[int]:
    """Random ids, none of them a control token."""
    return torch.randint(4, vocabulary, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def trajectories(count: int, of: Lengths) -> list[Rendered]:
    """Step pairs of `count` trajectories: at each turn the model's action stands against another one."""
    rows = []
    for number in range(count):
        seed = 1000 * number
        history = tokens(of.prompt, seed, of.vocabulary)
        for turn in range(of.turns):
            action, other, result = (
                tokens(length, seed + 100 * part + turn + 1, of.vocabulary)
                for part, length in enumerate((of.action, of.action, of.result))
            )
            sides = tuple(((history + ids, [0.0] * len(history) + [1.0] * len(ids)),) for ids in (action, other))
            rows.append(Rendered(f"{number}, turn {turn}", f"trajectory {number}", sides))
            history = history + action + result
    return rows


def branching_chats(count: int, of: Lengths) -> list[Rendered]:
    """Chats whose template rewrites history: each turn is a sequence of its own, which branches off the others."""
    rows = trajectories(count, of)
    groups = [list(group) for _, group in groupby(rows, key=lambda row: row.group)]
    return [Rendered(group[0].group, group[0].group, (tuple(row.sides[1][0] for row in group),)) for group in groups]


def read_tokenizer(folder: Path | None) -> Any:
    """The embedded model's tokenizer from `folder`, or where none is, one whose tokens are bytes."""
    if folder is not None:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    else:
        alphabet = {token: number for number, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
        made = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        made.add_special_tokens(
            [AddedToken(text, special=True) for text in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
        )
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = TEMPLATE.read_text(encoding="utf-8")
    return tokenizer


def save_model(setting: Setting, shape: Any, dtype: torch.dtype, folder: Path) -> Path:
    """A model folder of random weights with the tokenizer."""
    if not (folder / "config.json").exists():
        shape.bos_token_id = shape.eos_token_id = setting.tokenizer.convert_tokens_to_ids("<|im_end|>")
        shape.pad_token_id = setting.tokenizer.pad_token_id
        model = setting.new_model(shape, dtype)
        setting.tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    return folder
