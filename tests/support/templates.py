"""Every text template that TRL ships, on small tokenizers of three kinds, and what it means that a rendered chat is exact."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path

import trl
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from data.chats import Chat, Message
from data.records import ToolSpec
from data.rendering.renderer import Renderer
from data.rendering.token_tree import TokenTree
from support.made_chats import WORDS

FOLDER = Path(trl.__file__).parent / "chat_templates"
VISION = re.compile(r"idefics|smolvlm|llava|_vl")
NAMES = [path.stem for path in sorted(FOLDER.glob("*.jinja")) if not VISION.search(path.stem)]
KINDS = ("bytes", "metaspace", "unigram")
# What ends generation in each family's generation_config.json, in its order. Other families: <|im_end|>.
STOPS = {
    "cohere": ["<|END_OF_TURN_TOKEN|>"],
    "deepseek": ["<｜end▁of▁sentence｜>"],
    "diffusion_gemma": ["<eos>", "<turn|>", "<|tool_response>"],
    "gemma4": ["<eos>", "<turn|>", "<|tool_response>"],
    "gemma": ["<eos>", "<end_of_turn>"],
    "glm4moe": ["<|endoftext|>", "<|user|>", "<|observation|>"],
    "gptoss": ["<|return|>", "<|endoftext|>", "<|call|>"],
    "llama3": ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
    "muse": ["<|eot|>"],
    "phi3": ["<|endoftext|>", "<|assistant|>", "<|end|>"],
}
# What each named family can show, so that a chat which holds no more than this is never refused.
EVERYTHING = {"system", "parallel", "content_beside_calls", "reasoning", "reasoning_beside_calls"}
SHOWS = {
    "qwen2_5": EVERYTHING - {"reasoning", "reasoning_beside_calls"},
    "qwen3": EVERYTHING,
    "qwen3_instruct_2507": EVERYTHING - {"reasoning", "reasoning_beside_calls"},
    "qwen3_5_think": EVERYTHING,
    "qwen3_5_nothink": EVERYTHING - {"reasoning", "reasoning_beside_calls"},
    "qwen3_6": EVERYTHING,
    "qwen3_8": EVERYTHING,
    "llama3_1": {"system"},
    "llama3_2": {"system"},
    "gemma4": EVERYTHING - {"reasoning"},
    "gemma4_v5": EVERYTHING,
    "gptoss": {"system", "content_beside_calls", "reasoning"},
    "glm4moe": EVERYTHING,
    "nemotron_3_nano": EVERYTHING,
    "nemotron_3_super": EVERYTHING,
    "nemotron_3_ultra": EVERYTHING,
    "nemotron_3_5_lightning": EVERYTHING,
    "lfm2_v2": EVERYTHING - {"reasoning", "reasoning_beside_calls"},
    "lfm2_2_5": EVERYTHING,
    "lfm2_2_5_v2": EVERYTHING,
    "muse_glimmer": EVERYTHING - {"content_beside_calls"},
}
CONTROL = re.compile(
    r"<\|[^<>|{}\s]{1,30}\|?>|<[^<>|{}\s]{1,30}\|>|<｜[^<>{}\s]+｜>|<(?:start|end)_of_\w+>|\[gMASK\]|<sop>|<\|\"\|>"
)
MARKUP = re.compile(r"</?(?:think|tool_call|tool_response|arg_key|arg_value)>")


def control_tokens(name: str, source: str) -> tuple[list[str], list[str]]:
    """Special tokens and plain added tokens of a template's tokenizer."""
    stops = next((stops for family, stops in STOPS.items() if name.startswith(family)), ["<|im_end|>", "<|endoftext|>"])
    special = sorted({*CONTROL.findall(source), *stops, "<bos>", "<eos>"})
    return special, sorted(set(MARKUP.findall(source)))


@lru_cache(maxsize=1)
def corpus() -> list[str]:
    text = [*WORDS, *(path.read_text() for path in sorted(FOLDER.glob("*2*.jinja")))]
    return [*text, "The quick brown fox reads the file and answers. 한국어로 대답하고 파일을 읽어요. 🙂 é ｜ ▁ < > |"]


@lru_cache(maxsize=8)
def trained(kind: str) -> str:
    """A small tokenizer of one kind, as JSON."""
    if kind == "bytes":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
    elif kind == "metaspace":
        made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
        trainer = trainers.BpeTrainer(vocab_size=900, limit_alphabet=150, special_tokens=special, show_progress=False)
    else:
        made = Tokenizer(models.Unigram())
        made.normalizer = normalizers.Sequence([normalizers.NFKC()])
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        made.decoder = decoders.Metaspace(prepend_scheme="always")
        trainer = trainers.UnigramTrainer(
            vocab_size=500, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
        )
    made.train_from_iterator(corpus(), trainer)
    backend = json.loads(made.to_str())
    backend["added_tokens"] = []
    return json.dumps(backend)


@lru_cache(maxsize=300)
def renderer_of(name: str, kind: str) -> Renderer:
    source = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    special, plain = control_tokens(name, source)
    backend = Tokenizer.from_str(trained(kind))
    backend.add_special_tokens(special)
    backend.add_tokens([AddedToken(text, normalized=False) for text in plain])
    stops = next((stops for family, stops in STOPS.items() if name.startswith(family)), ["<|im_end|>", "<|endoftext|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", eos_token=stops[0])
    tokenizer.chat_template = source
    return Renderer(tokenizer, stop_ids=tokenizer.convert_tokens_to_ids(stops))


def served_ids(renderer: Renderer, messages: tuple[Message, ...], tools: tuple[ToolSpec, ...]) -> list[int]:
    """What a server gives the model: the tokenizer's own call."""
    return list(
        renderer.tokenizer.apply_chat_template(
            renderer.template_messages(messages),
            tools=[tool.model_dump() for tool in tools] or None,
            add_generation_prompt=True,
            return_dict=True,
        )["input_ids"]
    )


def check_exact(renderer: Renderer, chat: Chat, tree: TokenTree) -> None:
    trained_turns = [t for t, message in enumerate(chat.messages) if message.loss_weight > 0]
    assert [target.turn for target in tree.targets] == trained_turns
    for target in tree.targets:
        message = chat.messages[target.turn]
        path = tree.path(target.nodes[-1])
        context = [tree.ids[node] for node in path[: -len(target.nodes)]]
        assert context == served_ids(renderer, chat.messages[: target.turn], chat.tools)
        assert target.weight == message.loss_weight
        ids = [tree.ids[node] for node in target.nodes]
        assert ids[-1] in renderer.stop_ids
        assert not set(ids[:-1]) & set(renderer.stop_ids)
