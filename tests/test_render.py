"""Promises 1 to 4 of docs/architecture.md: contexts as served, only the model's words scored, text is text, cuts counted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trl
from hypothesis import HealthCheck, given, settings
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from core.errors import UserError
from data.__main__ import app
from data.chats import Chat, Message, PreferencePair, Skip, ToolCall
from data.records import ToolSpec
from data.rendering.renderer import Renderer, Unrenderable
from data.rendering.replies import text_to_message
from data.rendering.show import cut_before
from data.rendering.token_tree import TokenTree
from support.made_chats import CONTROL_TEXT, chats

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

STRIPS_HISTORY = """{%- for m in messages -%}
{{- '<|im_start|>' + m.role + '\\n' -}}
{%- if m.role == 'assistant' and m.reasoning_content and loop.last and not add_generation_prompt -%}
{{- '<think>\\n' + m.reasoning_content + '\\n</think>\\n' -}}{%- endif -%}
{{- m.content + '<|im_end|>\\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""


@pytest.fixture(scope="module")
def renderer(tiny_model: Path) -> Renderer:
    return Renderer.from_pretrained(tiny_model)


def with_template(tiny_model: Path, template: str, **options: list[int]) -> Renderer:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(tiny_model))
    tokenizer.chat_template = template
    return Renderer(tokenizer, **options)


def served_ids(renderer: Renderer, messages: tuple[Message, ...], tools: tuple[ToolSpec, ...]) -> list[int]:
    """What a server gives the model: the tokenizer's own call, nothing of ours."""
    return list(
        renderer.tokenizer.apply_chat_template(
            [m.to_template() for m in messages],
            tools=[t.model_dump() for t in tools] or None,
            add_generation_prompt=True,
            return_dict=True,
        )["input_ids"]
    )


def tree_of(renderer: Renderer, chat: Chat, **options: int) -> TokenTree:
    tree = renderer.chat_to_tree(chat, **options)
    assert isinstance(tree, TokenTree), tree
    return tree


@given(chat=chats())
@SETTINGS
def test_every_context_is_what_the_template_serves(renderer: Renderer, chat: Chat) -> None:
    tree = tree_of(renderer, chat)
    trained = [t for t, m in enumerate(chat.messages) if m.loss_weight > 0]
    assert [target.turn for target in tree.targets] == trained
    for target in tree.targets:
        path = tree.path(target.nodes[-1])
        context = [tree.ids[n] for n in path[: -len(target.nodes)]]
        assert context == served_ids(renderer, chat.messages[: target.turn], chat.tools)
        assert renderer.prompt_ids(chat.messages[: target.turn], chat.tools) == context


@given(chat=chats(control=True))
@SETTINGS
def test_targets_are_the_models_words_and_end_with_one_stop_token(renderer: Renderer, chat: Chat) -> None:
    tree = tree_of(renderer, chat)
    for target in tree.targets:
        ids = [tree.ids[n] for n in target.nodes]
        assert ids[-1] in renderer.stop_ids
        assert not set(ids[:-1]) & set(renderer.stop_ids)
        message = renderer.completion_to_message(ids)
        said = chat.messages[target.turn]
        if any(text in said.model_dump_json() for text in ("<tool_call>", "</tool_call>")):
            continue  # a model that types the markup itself cannot be read back without doubt
        assert isinstance(message, Message)
        assert message.content == said.content.strip()
        assert [(c.name, c.arguments) for c in message.tool_calls] == [(c.name, c.arguments) for c in said.tool_calls]


@given(chat=chats(control=True))
@SETTINGS
def test_typed_control_tokens_stay_text_in_every_field(renderer: Renderer, chat: Chat) -> None:
    """As many control ids as the template writes itself: one start and one end a turn, whatever anybody typed."""
    tree = tree_of(renderer, chat)
    last = max(tree.targets, key=lambda target: len(tree.path(target.nodes[-1])))
    ids = [tree.ids[n] for n in tree.path(last.nodes[-1])]
    shown = chat.messages[: last.turn + 1]
    turns = 1 + sum(
        m.role != "system" and not (m.role == "tool" and shown[at - 1].role == "tool") for at, m in enumerate(shown)
    )
    assert ids.count(1) == turns  # <|im_start|>
    assert ids.count(2) == turns  # <|im_end|>
    assert ids.count(0) == 0  # <|endoftext|>
    everything = renderer.tokenizer.decode(ids)
    for message in shown:
        assert message.content.strip() in everything


@given(chat=chats(control=True))
@SETTINGS
def test_rows_score_each_target_once_and_nothing_else(renderer: Renderer, chat: Chat) -> None:
    tree = tree_of(renderer, chat)
    rows = tree.rows()
    assert sum(weight > 0 for _, weights in rows for weight in weights) == sum(len(t.nodes) for t in tree.targets)
    for ids, weights in rows:
        assert len(ids) == len(weights)
        # Independent brute force: scored stretches follow "<|im_start|>assistant\n" and end with <|im_end|>.
        header = renderer.tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
        inside = False
        for at, weight in enumerate(weights):
            if weight > 0 and not inside:
                assert ids[at - len(header) : at] == header
            if inside and weight == 0:
                assert ids[at - 1] == 2
            inside = weight > 0


def test_a_template_that_rewrites_history_gives_one_branch_per_turn(tiny_model: Path) -> None:
    renderer = with_template(tiny_model, STRIPS_HISTORY)
    messages = tuple(
        message
        for n in range(3)
        for message in (
            Message(role="user", content=f"question {n}"),
            Message(role="assistant", content=f"answer {n}", reasoning_content=f"thought {n}"),
        )
    )
    chat = Chat(messages=messages, id="x", source="t")
    tree = tree_of(renderer, chat)
    assert len(tree.rows()) == 3
    for target in tree.targets:
        path = tree.path(target.nodes[-1])
        assert [tree.ids[n] for n in path[: -len(target.nodes)]] == served_ids(renderer, messages[: target.turn], ())
        said = renderer.tokenizer.decode([tree.ids[n] for n in target.nodes])
        assert said == f"<think>\nthought {target.turn // 2}\n</think>\nanswer {target.turn // 2}<|im_end|>"
    assert len(tree.ids) < sum(len(ids) for ids, _ in tree.rows())


def test_trl_assistant_only_loss_scores_the_same_tokens_where_it_can(tiny_model: Path) -> None:
    """A comparison only: TRL's training template for Qwen2.5 against the served template, on a chat without traps."""
    folder = Path(trl.__file__).parent / "chat_templates"
    renderer = with_template(tiny_model, (folder / "qwen2_5.jinja").read_text())
    call = ToolCall(id="c0", name="read_file", arguments={"path": "가.csv"})
    tool = ToolSpec.model_validate({"function": {"name": "read_file", "description": "Read."}})
    messages = (
        Message(role="user", content="Read 가.csv"),
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", content="1,2", tool_call_id="c0", name="read_file"),
        Message(role="assistant", content="It says 1,2."),
    )
    ((ids, weights),) = tree_of(renderer, Chat(messages=messages, tools=(tool,), id="x", source="t")).rows()
    theirs = renderer.tokenizer.apply_chat_template(
        [m.to_template() for m in messages],
        tools=[tool.model_dump()],
        chat_template=(folder / "qwen2_5_training.jinja").read_text(),
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    assert theirs["input_ids"][: len(ids)] == ids
    ours = [int(weight > 0) for weight in weights]
    differs = [at for at, (a, b) in enumerate(zip(theirs["assistant_masks"], ours, strict=False)) if a != b]
    # TRL also scores line breaks that belong to the template: one after the generation header of a call, and those after
    # the stop token, which no model gets to emit. Nothing else differs, and nothing of ours is missing in theirs.
    assert all(theirs["assistant_masks"][at] and renderer.tokenizer.decode([ids[at]]) == "\n" for at in differs)
    assert sum(ours) > 40


def test_a_template_that_loses_tools_is_refused_with_advice(tiny_model: Path) -> None:
    plain = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    renderer = with_template(tiny_model, plain)
    tool = ToolSpec.model_validate({"function": {"name": "read_file"}})
    chat = (Message(role="user", content="hi"), Message(role="assistant", content="ho"))
    assert isinstance(renderer.chat_to_tree(Chat(messages=chat, id="x", source="t")), TokenTree)
    skip = renderer.chat_to_tree(Chat(messages=chat, tools=(tool,), id="x", source="t"))
    assert isinstance(skip, Skip)
    assert "loses tools" in skip.reason
    assert "--chat_template_path" in skip.reason
    with pytest.raises(Unrenderable, match="loses tools"):
        renderer.prompt_ids(chat[:1], (tool,))
    reasons = Message(role="assistant", content="ho", reasoning_content="because")
    skip = renderer.chat_to_tree(Chat(messages=(chat[0], reasons), id="x", source="t"))
    assert isinstance(skip, Skip) and "reasoning" in skip.reason


def test_a_template_without_a_stop_token_is_refused(tiny_model: Path) -> None:
    endless = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    renderer = with_template(tiny_model, endless)
    chat = Chat(
        messages=(Message(role="user", content="hi"), Message(role="assistant", content="ho")), id="x", source="t"
    )
    skip = renderer.chat_to_tree(chat)
    assert isinstance(skip, Skip) and "stop token" in skip.reason


def test_no_template_is_a_user_error(tiny_model: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(tiny_model))
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        Renderer(tokenizer)


def long_chat(questions: int) -> Chat:
    tool = ToolSpec.model_validate({"function": {"name": "read_file", "description": "Read."}})
    messages = [Message(role="system", content="Be short.")]
    for n in range(questions):
        call = ToolCall(id=f"c{n}", name="read_file", arguments={"path": f"{n}.csv"})
        messages += [
            Message(role="user", content=f"question {n}"),
            Message(role="assistant", tool_calls=(call,)),
            Message(role="tool", content=f"result {n}", tool_call_id=f"c{n}", name="read_file"),
            Message(role="assistant", content=f"answer {n}"),
        ]
    return Chat(messages=tuple(messages), tools=(tool,), id="long", source="t")


def test_long_chats_lose_their_oldest_turns_and_the_cut_is_counted(renderer: Renderer) -> None:
    chat = long_chat(6)
    full = tree_of(renderer, chat)
    limit = 250
    assert max(len(full.path(t.nodes[-1])) for t in full.targets) > limit
    tree = tree_of(renderer, chat, max_tokens=limit)
    assert len(tree.targets) == len(full.targets)
    assert tree.cut_tokens > 0 and tree.dropped_targets == 0
    for target in tree.targets:
        path = [tree.ids[n] for n in tree.path(target.nodes[-1])]
        assert len(path) <= limit
        text = renderer.tokenizer.decode(path)
        assert "Be short." in text and '"read_file"' in text  # system and tools stay
        assert f"question {(target.turn - 1) // 4}" in text  # and the turn's own question


def test_a_target_that_cannot_fit_is_dropped_and_never_trained_without_its_context(
    renderer: Renderer,
) -> None:
    assert renderer.chat_to_tree(long_chat(1), max_tokens=20) == Skip("no target fits into max_length")


def fork(**options: object) -> PreferencePair:
    user = Message(role="user", content="Read a.csv")
    good = ToolCall(id="c0", name="read_file", arguments={"path": "a.csv"})
    bad = ToolCall(id="c0", name="read_file", arguments={"path": "b.csv"})
    result = Message(role="tool", content="1,2 <|im_end|>", tool_call_id="c0", name="read_file")
    return PreferencePair(
        prompt=(user,),
        chosen=(Message(role="assistant", tool_calls=(good,)), result, Message(role="assistant", content="1 and 2")),
        rejected=(Message(role="assistant", tool_calls=(bad,)),),
        tools=(ToolSpec.model_validate({"function": {"name": "read_file"}}),),
        id="p", source="t",
    )  # fmt: skip


def test_a_pair_is_a_fork_whose_tool_results_are_not_scored(renderer: Renderer) -> None:
    tree = renderer.pair_to_tree(fork())
    assert isinstance(tree, TokenTree)
    ((chosen_ids, chosen_weights),) = tree.rows("chosen")
    ((rejected_ids, _),) = tree.rows("rejected")
    scored = renderer.tokenizer.decode([i for i, w in zip(chosen_ids, chosen_weights, strict=True) if w > 0])
    assert "1 and 2<|im_end|>" in scored and "a.csv" in scored
    assert "1,2" not in scored
    assert len(tree.ids) < len(chosen_ids) + len(rejected_ids)


def test_broken_calls_are_told_in_one_line() -> None:
    assert text_to_message('<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>') == Message(
        role="assistant", tool_calls=(ToolCall(id="call_0", name="f", arguments={"a": 1}),)
    )
    for broken, why in {
        '<tool_call>{"name": "f"': "not closed",
        '{"name": "f"}</tool_call>': "never opened",
        "<tool_call>{'name': 1}</tool_call>": "not JSON",
        '<tool_call>{"arguments": {}}</tool_call>': "no name",
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>': "not a JSON object",
        '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>': "NaN",
    }.items():
        message = text_to_message(broken)
        assert isinstance(message, str) and why in message and "\n" not in message


def test_control_text_list_is_what_the_tokenizer_really_has(renderer: Renderer) -> None:
    """The traps of this file are real: encoded plainly, these strings become control ids."""
    specials = {
        text for text in CONTROL_TEXT if len(renderer.tokenizer(text, add_special_tokens=False)["input_ids"]) == 1
    }
    assert {"<|im_end|>", "<|endoftext|>"} <= specials


# ---------------------------------------------------------------- templates with habits of their own

OPENS_REASONING = """{%- for m in messages -%}
{{- '<|im_start|>' + m.role + '\\n' + m.content.split('</think>')[-1] + '<|im_end|>\\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n<think>\\n' -}}{%- endif -%}"""


def ask(**answer: object) -> Chat:
    said = Message.model_validate({"role": "assistant", "content": "ho", **answer})
    return Chat(messages=(Message(role="user", content="hi"), said), id="x", source="t")


def only_target(renderer: Renderer, chat: Chat) -> str:
    tree = tree_of(renderer, chat)
    (target,) = tree.targets
    return str(renderer.tokenizer.decode([tree.ids[n] for n in target.nodes]))


def test_where_the_prompt_opens_reasoning_the_target_goes_on_inside(tiny_model: Path) -> None:
    """As DeepSeek's templates: with a thought it is trained and closed, without one it is closed at once."""
    renderer = with_template(tiny_model, OPENS_REASONING)
    assert only_target(renderer, ask(reasoning_content="because")) == "because\n</think>\n\nho<|im_end|>"
    assert only_target(renderer, ask()) == "\n</think>\n\nho<|im_end|>"
    ids = renderer.tokenizer("because\n</think>\n\nho<|im_end|>", add_special_tokens=False)["input_ids"]
    assert renderer.completion_to_message(ids) == Message(role="assistant", content="ho", reasoning_content="because")


def test_a_template_may_show_reasoning_in_one_way_only(tiny_model: Path) -> None:
    """As Nemotron: the prompt opens reasoning, a finished turn without any is shown as <think></think>."""
    template = STRIPS_HISTORY.replace(
        "{{- m.content",
        "{%- if m.role == 'assistant' and not m.reasoning_content -%}"
        "{{- '<think></think>' -}}{%- endif -%}{{- m.content",
    ).replace("assistant\\n' -}}{%- endif", "assistant\\n<think>\\n' -}}{%- endif")
    renderer = with_template(tiny_model, template)
    assert only_target(renderer, ask()) == "\n</think>\nho<|im_end|>"
    assert only_target(renderer, ask(reasoning_content="because")) == "because\n</think>\nho<|im_end|>"


def test_a_stop_token_inside_the_turn_is_refused(tiny_model: Path) -> None:
    template = STRIPS_HISTORY.replace("'\\n</think>\\n'", "'<|endoftext|>'")
    renderer = with_template(tiny_model, template, stop_ids=[0, 2])
    assert isinstance(renderer.chat_to_tree(ask()), TokenTree)
    skip = renderer.chat_to_tree(ask(reasoning_content="because"))
    assert isinstance(skip, Skip) and "inside the turn" in skip.reason


NEXT_ROLE_STOPS = """{%- for m in messages -%}
{{- ('<|im_start|>' if m.role == 'user' else '<|endoftext|>') + m.role + '\\n' + m.content -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|endoftext|>assistant\\n' -}}{%- endif -%}"""


def test_the_next_role_ends_a_turn_where_generation_stops_there(tiny_model: Path) -> None:
    """As GLM's <|user|>: learned from the template, refused where generation_config does not name it."""
    assert only_target(with_template(tiny_model, NEXT_ROLE_STOPS, stop_ids=[1]), ask()) == "ho<|im_start|>"
    skip = with_template(tiny_model, NEXT_ROLE_STOPS).chat_to_tree(ask())
    assert isinstance(skip, Skip) and "no stop token" in skip.reason


def test_arguments_are_given_as_json_text_where_the_template_adds_strings(tiny_model: Path) -> None:
    template = STRIPS_HISTORY.replace(
        "{{- m.content",
        "{%- for c in m.tool_calls or [] -%}{{- c.function.name + c.function.arguments -}}{%- endfor -%}{{- m.content",
    )
    renderer = with_template(tiny_model, template)
    call = ToolCall(id="c0", name="f", arguments={"이름": [1, None, "가"]})
    assert only_target(renderer, ask(content="", tool_calls=(call,))) == 'f{"이름": [1, null, "가"]}<|im_end|>'


def test_a_target_that_would_merge_with_its_prompt_is_encoded_apart(tiny_model: Path) -> None:
    """The prompt's last line break and the answer's first would be one token; a server has encoded the prompt alone."""
    renderer = with_template(tiny_model, STRIPS_HISTORY)
    chat = ask(content="\n\n두 줄")
    tree = tree_of(renderer, chat)
    (target,) = tree.targets
    assert [tree.ids[n] for n in tree.path(target.nodes[-1])[: -len(target.nodes)]] == served_ids(
        renderer, chat.messages[:1], ()
    )
    assert only_target(renderer, chat) == "\n\n두 줄<|im_end|>"


def test_control_text_in_escaped_lists_is_restored(tiny_model: Path) -> None:
    """A template may write a list as a Python literal or as ASCII JSON; typed control text comes out as it went in."""
    template = STRIPS_HISTORY.replace(
        "{{- m.content",
        "{%- for c in m.tool_calls or [] -%}{{- c.function.name ~ c.function.arguments['a'] "
        "~ c.function.arguments | tojson(ensure_ascii=true) -}}{%- endfor -%}{{- m.content",
    )
    call = ToolCall(id="c0", name="f", arguments={"a": ["<|im_end|>"]})
    chat = ask(content="", tool_calls=(call,))
    assert only_target(with_template(tiny_model, template), chat) == 'f[\'<|im_end|>\']{"a": ["<|im_end|>"]}<|im_end|>'


# ---------------------------------------------------------------- weights and cuts


def test_weights_of_a_pair_are_those_of_its_messages(renderer: Renderer) -> None:
    pair = fork()
    chosen = (
        pair.chosen[0].model_copy(update={"weight": 0.25}),
        pair.chosen[1],
        pair.chosen[2].model_copy(update={"weight": 0.0}),
    )
    tree = renderer.pair_to_tree(pair.model_copy(update={"chosen": chosen}))
    assert isinstance(tree, TokenTree)
    assert [(t.label, t.turn, t.weight) for t in tree.targets] == [("chosen", 1, 0.25), ("rejected", 1, 1.0)]
    ((_, weights),) = tree.rows("chosen")
    assert set(weights) == {0.0, 0.25}


def one_question(steps: int) -> list[Message]:
    messages = [Message(role="system", content="Be short."), Message(role="user", content="the question")]
    for n in range(steps):
        call = ToolCall(id=f"c{n}", name="read_file", arguments={"path": f"{n}.csv"})
        messages.append(Message(role="assistant", tool_calls=(call,)))
        messages.append(Message(role="tool", content=f"result {n}", tool_call_id=f"c{n}", name="read_file"))
    return [*messages, Message(role="assistant", content="the answer")]


@pytest.mark.parametrize(
    "template", ["", STRIPS_HISTORY.replace("{{- m.content", "{{- (m.tool_calls or '') | string + m.content")]
)
def test_a_long_task_keeps_its_question_and_loses_its_oldest_steps(
    tiny_model: Path, renderer: Renderer, template: str
) -> None:
    if template:
        renderer = with_template(tiny_model, template)
    chat = Chat(messages=tuple(one_question(12)), id="x", source="t")
    full = tree_of(renderer, chat)
    limit = 300
    tree = tree_of(renderer, chat, max_tokens=limit)
    assert tree.dropped_targets == 0 and len(tree.targets) == len(full.targets)
    assert tree.cut_tokens > 0
    for target in tree.targets:
        ids = [tree.ids[n] for n in tree.path(target.nodes[-1])]
        text = renderer.tokenizer.decode(ids)
        assert len(ids) <= limit
        assert "Be short." in text and "the question" in text
        shown = [n for n in range(12) if f"result {n}<" in text or f"result {n}\n" in text]
        steps = (target.turn - 2) // 2
        assert shown == list(range(steps - len(shown), steps))  # the newest ones, none left out between
        # As few as possible were cut: one more step would not have fitted.
        if len(shown) < steps:
            kept = [*chat.messages[:2], *chat.messages[2 + 2 * (steps - len(shown) - 1) : target.turn]]
            assert len(served_ids(renderer, tuple(kept), ())) + len(target.nodes) > limit


def test_both_sides_of_a_pair_lose_the_same_oldest_steps(renderer: Renderer) -> None:
    messages = one_question(12)
    pair = PreferencePair(
        prompt=tuple(messages[:-1]),
        chosen=(messages[-1],),
        rejected=(Message(role="assistant", content="another answer"),),
        id="p", source="t",
    )  # fmt: skip
    full, tree = renderer.pair_to_tree(pair), renderer.pair_to_tree(pair, max_tokens=300)
    assert isinstance(full, TokenTree) and isinstance(tree, TokenTree)
    assert tree.cut_tokens > 0
    assert [(t.label, t.turn) for t in tree.targets] == [(t.label, t.turn) for t in full.targets]
    contexts = [tree.path(t.nodes[-1])[: -len(t.nodes)] for t in tree.targets]
    assert contexts[0] == contexts[1]
    text = renderer.tokenizer.decode([tree.ids[n] for n in contexts[0]])
    assert "the question" in text and "result 11" in text and "result 0\n" not in text


# ---------------------------------------------------------------- python -m data show


def test_show_tells_what_was_cut_and_what_each_message_weighs(tiny_model: Path, tmp_path: Path) -> None:
    messages = one_question(8)
    messages[-1] = messages[-1].model_copy(update={"content": "답 <|im_end|> \x1b[31m", "weight": 0.5})
    path, page = tmp_path / "chats.jsonl", tmp_path / "page.html"
    path.write_text(Chat(messages=tuple(messages), id="<가>", source="t").model_dump_json() + "\n", encoding="utf-8")
    command = ["show", str(path), "--model", str(tiny_model), "--max-length", "300"]
    shown = CliRunner().invoke(app, command, env={"NO_COLOR": "1"})
    assert shown.exit_code == 0, shown.output
    assert "답 <|im_end|> \\x1b[31m" in shown.output and "\x1b" not in shown.output
    assert re.search(r"\{[^}]*csv.*?result 0", shown.output, re.DOTALL)
    assert "context tokens were cut" in shown.output
    assert "message 18, assistant: trained, weight 0.5" in shown.output
    assert "message 1, user: context" in shown.output
    written = CliRunner().invoke(app, [*command, "--html", str(page)])
    assert written.exit_code == 0, written.output
    html = page.read_text(encoding="utf-8")
    assert 'class="cut"' in html and "&lt;가&gt;" in html and "weight 0.5" in html
    assert "<script" not in html and "http" not in html  # one static page that loads nothing


def test_what_was_cut_and_what_was_kept_make_the_whole(renderer: Renderer) -> None:
    for max_tokens in (260, 300, 400):
        chat = Chat(messages=tuple(one_question(8)), id="x", source="t")
        full, tree = tree_of(renderer, chat), tree_of(renderer, chat, max_tokens=max_tokens)
        cuts = cut_before(tree, full)
        for one, whole in zip(tree.targets, full.targets, strict=True):
            path = tree.path(one.nodes[-1])
            ids = [full.ids[n] for n in full.path(whole.nodes[-1])]
            if len(ids) > len(path):
                assert [i for n in path for i in (*cuts.get(n, ()), tree.ids[n])] == ids


def test_messages_kept_in_a_namespace_are_those_of_the_beginning_that_is_rendered(tiny_model: Path) -> None:
    template = (
        "{%- set ns = namespace(all=messages) -%}{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\\n' + m.content -}}"
        "{%- if ns.all[loop.index0 + 1] is defined -%}{{- ' ' + ns.all[loop.index0 + 1].role -}}{%- endif -%}"
        "{{- '<|im_end|>' -}}{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
    )
    messages = [{"role": ("user", "assistant")[n % 2], "content": f"words {n}"} for n in range(8)]
    renderer = with_template(tiny_model, template)
    beginnings = renderer.template.beginnings(messages, [])
    for count in range(1, 9):
        for generate in (True, False):
            assert beginnings.text(count, generate=generate) == renderer.template.render(
                messages[:count], [], generate=generate
            )
