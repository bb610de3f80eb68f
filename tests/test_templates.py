"""Every text template that TRL ships, with tokenizers of all three kinds: promises 1 to 3 hold, or a chat is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import trl
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from data.chats import Chat, Message, Skip, ToolCall
from data.records import ToolSpec
from data.rendering.control_tokens import Unrenderable
from data.rendering.templates_page import facts_to_markdown, template_facts, trl_templates
from data.rendering.token_tree import TokenTree
from support.made_chats import chats
from support.templates import (
    EVERYTHING,
    FOLDER,
    KINDS,
    NAMES,
    SHOWS,
    check_exact,
    control_tokens,
    renderer_of,
)

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
