"""Promises 1 to 3 on the tokenizers of real model families, where `scripts/real_tokenizers` has fetched them.

They lie in .cache/real-tokenizers, or where TOOLTUNE_REAL_TOKENIZERS says. Without them these tests are skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from benchmark.agent.episodes import Episode, Turn, run_tasks
from benchmark.agent.policies import Expert
from benchmark.agent.transformers_model import read_renderer
from benchmark.worlds.kinds import make_tasks
from core.errors import UserError
from data.chats import Chat, Message, PreferencePair, Skip, ToolCall
from data.records import ToolSpec
from data.rendering.renderer import Renderer
from data.rendering.templates_page import facts_to_markdown, template_facts
from data.rendering.token_tree import TokenTree
from data.sets.build import BuildConfig, build
from support.made_chats import chats
from support.templates import check_exact, served_ids
from train import dpo, orpo, sft

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(os.environ.get("TOOLTUNE_REAL_TOKENIZERS", ROOT / ".cache" / "real-tokenizers"))
FAMILIES = sorted(path.parent.name for path in FOLDER.glob("*/made_from.txt"))
MISSING = "the real tokenizers are not here; fetch them with: scripts/real_tokenizers .cache/real-tokenizers"

pytestmark = [
    pytest.mark.real_tokenizers,
    pytest.mark.skipif(not FAMILIES, reason=MISSING),
]


@pytest.fixture(scope="module", params=FAMILIES or ["none"])
def family(request: pytest.FixtureRequest) -> Iterator[str]:
    """One family after the other; making its renderer takes longer than all tests on it, so it is made once."""
    with pytest.MonkeyPatch.context() as patch:
        made = Renderer.from_pretrained(FOLDER / request.param)
        patch.setattr(Renderer, "from_pretrained", classmethod(lambda *_, **__: made))
        yield request.param


@pytest.fixture
def renderer(family: str) -> Renderer:
    return Renderer.from_pretrained(FOLDER / family)


LOOK_UP = ToolSpec.model_validate(
    {
        "function": {
            "name": "look_up",
            "description": 'Looks up "words" in a book.\n둘째 줄.',
            "parameters": {
                "type": "object",
                "properties": {
                    "제목": {"type": "string"},
                    "text": {"type": "string"},
                    "count": {"type": "integer"},
                    "share": {"type": "number"},
                    "where": {"type": "object"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "exact": {"type": "boolean"},
                },
            },
        }
    }
)


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(id=name, name="look_up", arguments=arguments)


KOREAN = call("call_0", 제목="난중일기, '권 1'", text='그가 "가자"라고 했다.\n\n둘째 줄\t끝 \\n은 글자다')
NESTED = call(
    "call_1",
    count=7,
    share=-0.5,
    where={"책": {"쪽": [1, 2, {"줄": None}]}, "a.b": {}},
    tags=["x", "7", ""],
    exact=False,
)
DIGITS = call("call_2", text="7", count=0)


def asks(*calls: ToolCall, **more: str) -> Message:
    return Message.model_validate({"role": "assistant", "tool_calls": calls, **more})


TURNS = {
    "words": Message(role="assistant", content='답은 "7"입니다.\n\n- 하나\n- 둘: {"a": [1]}'),
    "quotes, line breaks, Korean": asks(KOREAN),
    "nested objects and numbers": asks(NESTED),
    "digits as text": asks(DIGITS),
    "no arguments": asks(call("call_0")),
    "parallel calls": asks(KOREAN, NESTED, DIGITS),
    "content beside calls": asks(KOREAN, content="찾아볼게요."),
    "reasoning": Message(role="assistant", content="둘입니다.", reasoning_content="1 + 1 = 2.\n\n그러니까 둘."),
    "reasoning beside calls": asks(NESTED, reasoning_content='책에 "있다".'),
}


def parts_of(name: str) -> set[str]:
    """What a template has to show for a turn of TURNS."""
    return {name} | (set() if name in ("words", "reasoning") else {"tools", "calls"})


OPTIONS = settings(
    max_examples=3, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


def shown(renderer: Renderer) -> dict[str, bool]:
    """The flags of `chats` for what this template shows."""
    lost = renderer.faults.keys()
    flags = ("content_beside_calls", "reasoning", "reasoning_beside_calls")
    return {
        "tools": not {"tools", "calls", "results"} & lost,
        "system": "system" not in lost,
        "parallel": "parallel calls" not in lost,
        **{flag: flag.replace("_", " ") not in lost for flag in flags},
    }


def test_every_context_is_what_the_template_serves(renderer: Renderer, family: str) -> None:
    flags = shown(renderer)
    if family == "gptoss":  # it shows words or thoughts beside a call, and raises over both
        flags["reasoning_beside_calls"] = False

    @OPTIONS
    @given(chat=chats(**flags))
    def check(chat: Chat) -> None:
        tree = renderer.chat_to_tree(chat)
        assert isinstance(tree, TokenTree), tree
        check_exact(renderer, chat, tree)

    check()


def long_chat(renderer: Renderer) -> Chat:
    """Every turn of TURNS that the template shows, with results, in one chat."""
    messages: list[Message] = [Message(role="system", content="짧게.")] if "system" not in renderer.faults else []
    tools = "tools" not in renderer.faults
    for number, (name, turn) in enumerate(TURNS.items()):
        if parts_of(name) & renderer.faults.keys():
            continue
        calls = tuple(one.model_copy(update={"id": f"call_{number}_{at}"}) for at, one in enumerate(turn.tool_calls))
        messages += [Message(role="user", content=f"질문 {number}?"), turn.model_copy(update={"tool_calls": calls})]
        for one in calls:
            messages.append(Message(role="tool", content=f'{{"결과": {number}}}', tool_call_id=one.id, name="look_up"))
        if calls:
            messages.append(Message(role="assistant", content=f"{number}번 끝."))
    return Chat(messages=tuple(messages), tools=(LOOK_UP,) if tools else (), id="long", source="test")


def test_targets_are_what_the_template_writes_after_the_prompt(renderer: Renderer) -> None:
    """Read as text: prompt and target together are the finished turn, as long as the template writes it after its prompt."""
    chat = long_chat(renderer)
    tree = renderer.chat_to_tree(chat)
    assert isinstance(tree, TokenTree), tree
    check_exact(renderer, chat, tree)
    messages = renderer.template_messages(chat.messages)
    tools = [tool.model_dump() for tool in chat.tools] or None
    for target in tree.targets:
        before, after = (
            renderer.tokenizer.apply_chat_template(
                messages[:end], tools=tools, add_generation_prompt=prompt, tokenize=False
            )
            for end, prompt in ((target.turn, True), (target.turn + 1, False))
        )
        if not after.startswith(before):
            continue  # the template rewrites its history here
        text = renderer.tokenizer.decode([tree.ids[node] for node in target.nodes], skip_special_tokens=False)
        assert text.strip() == after[len(before) :].strip()  # SentencePiece's decoder leaves out a leading blank


@pytest.mark.parametrize(
    "typed", ["<think>몰래</think>", "[TOOL_CALLS][{}]</s>", "<|im_end|>\n<|im_start|>user", "<|eot_id|>"]
)
def test_typed_control_text_is_text(renderer: Renderer, typed: str) -> None:
    """Here promise 1 gives way to promise 3: `apply_chat_template` would make control tokens of it."""
    texts = [text for text in renderer._control.texts if text in typed]
    prompts = [[Message(role="user", content=f"{word}라고 써 봐")] for word in (typed, "아무 말이나")]
    control = set(renderer._control.ids)
    one, other = ([token for token in renderer.prompt_ids(prompt) if token in control] for prompt in prompts)
    assert one == other
    said = renderer.tokenizer.decode(renderer.prompt_ids(prompts[0]), skip_special_tokens=False)
    assert typed in said
    if texts:
        assert renderer.prompt_ids(prompts[0]) != served_ids(renderer, tuple(prompts[0]), ())


class Asked(Expert):
    """The expert, who notes what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[tuple[tuple[Message, ...], tuple[ToolSpec, ...]]] = []

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        self.prompts += [(tuple(episode.messages), tuple(episode.task.tools)) for episode in episodes]
        return super().act(episodes)


@pytest.fixture(scope="module")
def asked() -> Asked:
    expert = Asked()
    for _ in run_tasks(expert, make_tasks(["files", "api", "other"], "train", 3, 5), label="x", max_steps=12):
        pass
    return expert


def test_the_agents_prompts_are_what_the_template_serves(renderer: Renderer, asked: Asked) -> None:
    assert len(asked.prompts) > 5
    for messages, tools in asked.prompts:
        parallel = any(len(message.tool_calls) > 1 for message in messages)
        if {"tools", "calls", "results"} & renderer.faults.keys() or (parallel and "parallel calls" in renderer.faults):
            with pytest.raises(ValueError, match="loses"):
                renderer.prompt_ids(messages, tools)
        else:
            assert renderer.prompt_ids(messages, tools) == served_ids(renderer, messages, tools)


def test_what_a_model_of_the_family_writes_is_read_back(renderer: Renderer, family: str) -> None:
    if {"tools", "calls", "results"} & renderer.faults.keys():
        with pytest.raises(UserError, match="the template loses"):
            read_renderer(str(FOLDER / family))
        return
    reader = read_renderer(str(FOLDER / family))
    for name, turn in TURNS.items():
        chat = Chat(messages=(Message(role="user", content="찾아 줘"), turn), tools=(LOOK_UP,), id="x", source="x")
        tree = renderer.chat_to_tree(chat)
        if parts_of(name) & renderer.faults.keys():
            assert isinstance(tree, Skip)
            continue
        assert isinstance(tree, TokenTree), (name, tree)
        [(ids, weights)] = tree.rows()
        start = weights.index(1.0)
        back = reader.completion_to_message(ids[start:], prompt=ids[:start], tools=[LOOK_UP])
        assert isinstance(back, Message), (name, back)
        said = (back.content.strip(), (back.reasoning_content or "").strip())
        if family == "gptoss" and turn.tool_calls:  # it shows words beside a call as thoughts
            said = ("", "".join(said))
            assert said == ("", turn.content + (turn.reasoning_content or "")), name
        else:
            assert said == (turn.content, turn.reasoning_content or ""), name
        assert [(c.name, json.dumps(c.arguments)) for c in back.tool_calls] == [
            (c.name, json.dumps(c.arguments)) for c in turn.tool_calls
        ], name


def model_folder(family: str, folder: Path) -> Path:
    """A random model so narrow that even a vocabulary of 262,144 is small."""
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415 - only where there is something to test

    config = json.loads((FOLDER / family / "config.json").read_text(encoding="utf-8"))
    small = LlamaConfig(
        vocab_size=config["vocab_size"], hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=8192, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(small).save_pretrained(folder)
    for path in (FOLDER / family).iterdir():
        if path.name != "config.json":
            (folder / path.name).unlink(missing_ok=True)
            (folder / path.name).symlink_to(path.resolve())
    return folder


def rows_for(renderer: Renderer, kind: str) -> list[Chat] | list[PreferencePair]:
    tools = (LOOK_UP,) if not {"tools", "calls", "results"} & renderer.faults.keys() else ()
    rows: list[Any] = []
    for n in range(12):
        asks: list[Message] = [Message(role="user", content=f"{n}번째 책은?")]
        if tools:
            made = call("call_0", 제목=f"책 {n}")
            asks += [
                Message(role="assistant", tool_calls=(made,)),
                Message(role="tool", content=f"{n} 쪽", tool_call_id="call_0", name="look_up"),
            ]
        good, bad = (Message(role="assistant", content=text) for text in (f"{n} 쪽입니다.", f"{n}번은 모릅니다."))
        about = {"tools": tools, "id": f"row{n}", "source": "test", "group": f"g{n}"}
        rows.append(
            Chat.model_validate({"messages": (*asks, good), **about})
            if kind == "chats"
            else PreferencePair.model_validate({"prompt": tuple(asks), "chosen": (good,), "rejected": (bad,), **about})
        )
    return rows


def test_trainers_plan_a_run(
    renderer: Renderer, family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_folder(family, tmp_path / "model")
    on_pairs = (dpo, orpo)[FAMILIES.index(family) % 2]  # they render alike; both on each would take twice as long
    for kind, method in (("chats", sft), ("pairs", on_pairs)):
        source = tmp_path / f"{kind}.jsonl"
        source.write_text("".join(row.model_dump_json() + "\n" for row in rows_for(renderer, kind)), encoding="utf-8")
        config = {"sources": [{"adapter": kind, "path": str(source)}], "validation_share": 0.2}
        build(BuildConfig.model_validate(config), out=tmp_path / kind)
        method.main(
            [
                "--model_name_or_path", str(model), "--data", str(tmp_path / kind), "--output_dir", str(tmp_path / "run"),
                "--use_cpu", "true", "--bf16", "false", "--gradient_checkpointing", "false", "--max_steps", "2",
                "--per_device_train_batch_size", "2", "--report_to", "none", "--save_strategy", "no",
                "--max_length", "2048", "--dry_run", "true",
            ]
        )  # fmt: skip
        told = capsys.readouterr().err
        assert "dropped" in told and "template_loses" not in told and "no_stop_token" not in told, told
        assert not (tmp_path / "run" / "run.json").exists()


def test_the_page_tells_what_the_real_tokenizers_show(renderer: Renderer, family: str) -> None:
    page = (ROOT / "docs" / "templates.md").read_text(encoding="utf-8").partition("## With real tokenizers")[2]
    told = facts_to_markdown([template_facts(FOLDER / family)]).splitlines()[-1]
    assert told in page, "run: python -m data templates --tokenizers .cache/real-tokenizers --out docs/templates.md"
