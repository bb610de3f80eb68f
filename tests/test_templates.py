"""Every text template that TRL ships, with tokenizers of all three kinds: promises 1 to 3 hold, or a chat is refused."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path

import pytest
import trl
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from made_chats import WORDS, chats
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from data.chats import Chat, Message, Skip, ToolCall
from data.records import ToolSpec
from data.rendering.control_tokens import Unrenderable
from data.rendering.renderer import Renderer
from data.rendering.templates_page import facts_to_markdown, template_facts, trl_templates
from data.rendering.token_tree import TokenTree

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


OPTIONS = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("name", NAMES)
def test_every_template_is_exact_or_refused_with_a_reason(name: str) -> None:
    @OPTIONS
    @given(
        chat=chats(reasoning=True, reasoning_beside_calls=True)
        | chats(tools=False)
        | chats(content_beside_calls=False, parallel=False),
        kind=st.sampled_from(KINDS),
    )
    def check(chat: Chat, kind: str) -> None:
        renderer = renderer_of(name, kind)
        tree = renderer.chat_to_tree(chat)
        if isinstance(tree, Skip):
            assert name not in SHOWS or "loses" in tree.reason or "refuses" in tree.reason or "room" in tree.reason, (
                tree.reason
            )
            return
        check_exact(renderer, chat, tree)

    check()


@pytest.mark.parametrize("name", SHOWS)
def test_named_templates_refuse_nothing_they_can_show(name: str) -> None:
    shows = {flag: flag in SHOWS[name] for flag in EVERYTHING}

    @OPTIONS
    @given(chat=chats(**shows), kind=st.sampled_from(KINDS))
    def check(chat: Chat, kind: str) -> None:
        renderer = renderer_of(name, kind)
        tree = renderer.chat_to_tree(chat)
        assert isinstance(tree, TokenTree), tree
        check_exact(renderer, chat, tree)

    check()


def without(value: object, planted: dict[str, str]) -> object:
    """`value` with each planted control string replaced by an ordinary word."""
    if isinstance(value, str):
        for text, word in planted.items():
            value = value.replace(text, word)
        return value
    if isinstance(value, dict):
        return {without(key, planted): without(item, planted) for key, item in value.items()}
    return [without(item, planted) for item in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("name", NAMES)
def test_planted_control_text_leaks_from_no_field(name: str) -> None:
    """A chat with control text in its fields has exactly the control ids of the same chat with ordinary words there."""
    special, plain = control_tokens(name, (FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
    planted = {
        text: f"planted{number}x" for number, text in enumerate(sorted([*special, *plain], key=len, reverse=True))
    }
    shows = {flag: flag in SHOWS.get(name, EVERYTHING) for flag in EVERYTHING}
    texts = st.sampled_from([*special, *plain])

    @OPTIONS
    @given(
        chat=chats(control=tuple(planted), **shows) | chats(control=tuple(planted), tools=False, system=False),
        tool=texts,
        kind=st.sampled_from(KINDS),
    )
    def check(chat: Chat, tool: str, kind: str) -> None:
        spec = ToolSpec.model_validate(
            {
                "function": {
                    "name": f"f{tool}",
                    "description": f"{tool} described",
                    "parameters": {
                        "type": "object",
                        "properties": {f"k{tool}": {"type": "string", "description": tool}},
                    },
                }
            }
        )
        messages = tuple(
            message.model_copy(
                update={"tool_calls": tuple(c.model_copy(update={"name": f"f{tool}"}) for c in message.tool_calls)}
            )
            if message.tool_calls
            else message
            for message in chat.messages
        )
        chat = Chat(messages=messages, tools=(spec,) if chat.tools else (), id="planted", source="test")
        twin = Chat.model_validate(without(chat.model_dump(), planted))
        renderer = renderer_of(name, kind)
        tree, plain_tree = renderer.chat_to_tree(chat), renderer.chat_to_tree(twin)
        assert type(tree) is type(plain_tree), (tree, plain_tree)
        if isinstance(tree, Skip) or isinstance(plain_tree, Skip):
            assert tree == plain_tree
            return
        control = set(renderer.tokenizer.convert_tokens_to_ids(list(planted)))
        for one, other in zip(tree.targets, plain_tree.targets, strict=True):
            ids, plain_ids = ([t.ids[n] for n in t.path(x.nodes[-1])] for t, x in ((tree, one), (plain_tree, other)))
            assert [i for i in ids if i in control] == [i for i in plain_ids if i in control]
            assert renderer.prompt_ids(chat.messages[: one.turn], chat.tools) == ids[: -len(one.nodes)]

    check()


@pytest.mark.parametrize("name", NAMES)
def test_beginnings_are_what_the_whole_template_renders(name: str) -> None:
    """Taking a template apart changes no character, for any number of messages, with and without generation prompt."""

    @OPTIONS
    @given(chat=chats(reasoning=True, reasoning_beside_calls=True) | chats(tools=False, system=False))
    def check(chat: Chat) -> None:
        renderer = renderer_of(name, "bytes")
        messages = renderer.template_messages(chat.messages)
        tools = [tool.model_dump() for tool in chat.tools]
        beginnings = renderer.template.beginnings(messages, tools)
        for count in range(1, len(messages) + 1):
            for generate in (True, False):
                try:
                    whole = renderer.tokenizer.apply_chat_template(
                        messages[:count], tools=tools or None, add_generation_prompt=generate, tokenize=False
                    )
                except Exception:  # whatever the template raises
                    with pytest.raises(Unrenderable):
                        beginnings.text(count, generate=generate)
                else:
                    assert beginnings.text(count, generate=generate) == whole
            other = {**messages[count - 1], "reasoning_content": "another thought", "content": "other words"}
            try:
                whole = renderer.template.render([*messages[: count - 1], other], tools, generate=False)
            except Unrenderable:
                with pytest.raises(Unrenderable):
                    beginnings.text_with(count, other)
            else:
                assert beginnings.text_with(count, other) == whole

    check()


def test_a_prompt_that_opens_reasoning_costs_no_whole_chat_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its turns are rendered a second time with a placeholder; that must not make long chats quadratic."""
    renderer = renderer_of("nemotron_3_nano", "bytes")
    steps = [
        message
        for n in range(20)
        for message in (
            Message(role="assistant", tool_calls=(ToolCall(id=f"call_{n}", name="f", arguments={"n": n}),)),
            Message(role="tool", content="1", tool_call_id=f"call_{n}", name="f"),
        )
    ]
    tool = ToolSpec.model_validate({"function": {"name": "f", "description": "", "parameters": {}}})
    chat = Chat(messages=(Message(role="user", content="Count."), *steps), tools=(tool,), id="long", source="test")
    rendered = []
    monkeypatch.setattr(renderer.template, "render", lambda *_args, **_options: rendered.append(1))
    tree = renderer.chat_to_tree(chat)
    assert isinstance(tree, TokenTree)
    assert len(tree.targets) == 20
    assert not rendered


def test_most_templates_can_be_taken_apart() -> None:
    """Else each turn renders the whole history again; the exceptions look far ahead or leave their loop early."""
    whole = {name for name in NAMES if not renderer_of(name, "bytes").template.is_taken_apart}
    assert whole <= {name for name in NAMES if name.startswith(("gemma4", "diffusion_gemma", "cohere2", "gptoss"))}


def test_the_page_about_templates_is_what_the_command_writes() -> None:
    facts = [template_facts(path) for path in trl_templates()]
    page = (Path(__file__).resolve().parents[1] / "docs" / "templates.md").read_text(encoding="utf-8")
    source = f" from the templates that TRL {trl.__version__} ships"
    trl_part = (
        page.partition("\n\n## With real tokenizers")[0] + "\n"
    )  # tests/test_real_tokenizers.py compares the rest
    assert trl_part == facts_to_markdown(facts, source=source), "run: python -m data templates --out docs/templates.md"
    assert {fact.name for fact in facts} == set(NAMES)
    told = {fact.name: fact for fact in facts}
    flags = {"parallel": "parallel calls", "system": "system"}
    flags |= {flag: flag.replace("_", " ") for flag in EVERYTHING - flags.keys()}
    for name, shows in SHOWS.items():  # the page and this file's own table say the same
        # gpt-oss shows content or reasoning beside a call, and raises over both; the made chats hold the first.
        either = {"reasoning beside calls"} if name == "gptoss" else set()
        assert set(told[name].loses) == {flags[flag] for flag in EVERYTHING - shows} - either, name


TOOL = ToolSpec.model_validate(
    {"function": {"name": "read_file", "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}}}
)


def asks(*ids: str, **more: object) -> list[Message]:
    """A turn with a call for each id, and their results."""
    calls = tuple(ToolCall(id=name, name="read_file", arguments={"path": f"{name}.txt"}) for name in ids)
    turn = Message.model_validate({"role": "assistant", "tool_calls": calls, **more})
    return [turn, *(Message(role="tool", content="내용", tool_call_id=name, name="read_file") for name in ids)]


ASK, SAY = Message(role="user", content="읽어 줘"), Message(role="assistant", content="읽었어요.")
CONTEXT_ONLY = {
    # what llama3_1 loses in a turn of weight 0: the chat, and what is told, or the reason of the refusal
    "words beside a call": ([ASK, *asks("c1", content="볼게요.", weight=0), SAY], ("content beside calls",)),
    "thoughts": (
        [ASK, *asks("c1", reasoning_content="a.csv?", weight=0), SAY.model_copy(update={"reasoning_content": "x", "weight": 0}),
         ASK, SAY],
        ("reasoning", "reasoning beside calls"),
    ),
    "two calls, behind the last trained turn": ([ASK, *asks("c1"), *asks("c2", "c3", content="또", weight=0)], ()),
    "two calls, in the prompt of a trained turn": ([ASK, *asks("c1", "c2", weight=0), SAY], "loses parallel calls"),
    "words beside a trained call": ([ASK, *asks("c1", content="볼게요."), SAY], "loses content beside calls"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTEXT_ONLY)
def test_only_what_would_be_trained_or_served_wrongly_is_refused(case: str) -> None:
    messages, expected = CONTEXT_ONLY[case]
    renderer = renderer_of("llama3_1", "bytes")
    chat = Chat(messages=tuple(messages), tools=(TOOL,), id="x", source="x")
    tree = renderer.chat_to_tree(chat)
    if isinstance(expected, str):
        assert isinstance(tree, Skip) and expected in tree.reason
        return
    assert isinstance(tree, TokenTree), tree
    assert tree.lost == expected
    check_exact(renderer, chat, tree)


@pytest.mark.parametrize("name", ["llama3_1", "gptoss", "gemma3", "qwen2_5", "lfm2", "muse_glimmer", "phi3_5"])
def test_a_chat_is_refused_only_for_one_of_its_trained_turns(name: str) -> None:
    """Each prompt of a kept chat is served; of a refused one, a turn is refused even where nothing else is trained."""

    @OPTIONS
    @given(chat=chats(reasoning=True, reasoning_beside_calls=True) | chats(tools=False, reasoning=True), data=st.data())
    def check(chat: Chat, data: st.DataObject) -> None:
        renderer = renderer_of(name, "bytes")
        messages = [
            message.model_copy(update={"weight": data.draw(st.sampled_from([0.0, 1.0]))})
            if message.role == "assistant"
            else message
            for message in chat.messages
        ]
        trained = [t for t, message in enumerate(messages) if message.loss_weight > 0]
        tree = renderer.chat_to_tree(chat.model_copy(update={"messages": tuple(messages)}))
        if not trained:
            return
        if isinstance(tree, TokenTree):
            for t in trained:
                assert renderer.prompt_ids(messages[:t], chat.tools)
            return
        alone = []
        for t in trained:
            only = [m.model_copy(update={"weight": None if k == t else 0.0}) for k, m in enumerate(messages[: t + 1])]
            only = [m.model_copy(update={"weight": None}) if m.role != "assistant" else m for m in only]
            alone.append(renderer.chat_to_tree(chat.model_copy(update={"messages": tuple(only)})))
        assert any(isinstance(each, Skip) for each in alone)

    check()
