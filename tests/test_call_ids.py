"""Templates that take only call ids of a certain form: chats get such ids, in training and in served prompts alike."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.agent.transformers_model import read_renderer
from core.errors import UserError
from data.chats import Chat, Message, ToolCall, check_messages
from data.records import ToolSpec
from data.rendering.call_ids import ANY, ID_FORMS, NAMED, NINE, CallIds
from data.rendering.renderer import Renderer
from data.rendering.templates_page import small_tokenizer
from data.rendering.token_tree import TokenTree
from support.commands import Run
from support.made_chats import chats

# As Mistral's templates of 2024: ids of nine characters, and the id is part of what the model writes.
NINE_ONLY = """{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- if tools and loop.index0 == 0 %}{{- '[AVAILABLE_TOOLS]' ~ (tools | tojson) ~ '[/AVAILABLE_TOOLS]' }}{%- endif %}
        {{- '[INST]' ~ message.content ~ '[/INST]' }}
    {%- elif message.role == 'assistant' %}
        {{- message.content }}
        {%- if message.tool_calls is defined %}
            {{- '[TOOL_CALLS][' }}
            {%- for call in message.tool_calls %}
                {%- if call.id | length LENGTH 9 %}{{- raise_exception('call ids have nine letters or digits') }}{%- endif %}
                {{- (call.function | tojson)[:-1] ~ ', "id": "' ~ call.id[-9:] ~ '"}' ~ (', ' if not loop.last else ']') }}
            {%- endfor %}
        {%- endif %}
        {{- eos_token }}
    {%- elif message.role == 'tool' %}
        {%- if message.tool_call_id | length LENGTH 9 %}{{- raise_exception('so have those of results') }}{%- endif %}
        {{- '[TOOL_RESULTS]{"content": ' ~ (message.content | tojson) ~ ', "call_id": "' ~ message.tool_call_id[-9:] ~ '"}' }}
        {{- '[/TOOL_RESULTS]' }}
    {%- else %}{{- raise_exception('no ' ~ message.role) }}
    {%- endif %}
{%- endfor %}
"""
# As Kimi K2's: the name of a tool stands in the id and nowhere else.
ID_IS_NAME = """{%- if tools %}{{- '<|im_system|>' ~ (tools | tojson) ~ '<|im_end|>' }}{%- endif %}
{%- for message in messages %}
    {{- '<|im_' ~ ('assistant' if message.role == 'assistant' else 'user') ~ '|>' ~ (message.name or message.role) }}
    {{- '<|im_middle|>' }}
    {%- if message.role == 'tool' %}{{- '## Return of ' ~ message.tool_call_id ~ '\\n' }}{%- endif %}
    {{- message.content }}
    {%- for call in message.tool_calls or [] %}
        {{- '<|tool_call_begin|>' ~ call.id ~ '<|tool_call_argument_begin|>' ~ (call.function.arguments | tojson) }}
        {{- '<|tool_call_end|>' }}
    {%- endfor %}
    {{- '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_assistant|>assistant<|im_middle|>' }}{%- endif %}
"""
TEMPLATES = {
    "exactly nine": (NINE_ONLY.replace("LENGTH", "!="), NINE),
    "at least nine, the last count": (NINE_ONLY.replace("LENGTH", "<"), NINE),
    "the id is the name": (ID_IS_NAME, NAMED),
}
TOOL = ToolSpec.model_validate(
    {"function": {"name": "read_file", "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}}}
)


def renderer_of(name: str) -> Renderer:
    tokenizer = small_tokenizer(TEMPLATES[name][0])
    tokenizer.eos_token = "<|im_end|>" if "<|im_end|>" in TEMPLATES[name][0] else "<eos>"
    return Renderer(tokenizer)


def steps(*ids: str) -> list[Message]:
    """A question, a call with its result for each id, and an answer."""
    messages = [Message(role="user", content="읽어 주세요")]
    for number, name in enumerate(ids):
        call = ToolCall(id=name, name="read_file", arguments={"path": f"{number}.txt", "이름": "값"})
        messages += [
            Message(role="assistant", tool_calls=(call,)),
            Message(role="tool", content=str(number), tool_call_id=name, name="read_file"),
        ]
    return [*messages, Message(role="assistant", content="Done.")]


def ids_of(messages: list[Message]) -> list[str]:
    return [call.id for message in messages for call in message.tool_calls]


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_ids_a_template_takes_is_found_by_trying(name: str) -> None:
    assert renderer_of(name).call_ids is TEMPLATES[name][1]


def test_a_template_that_takes_any_ids_gets_those_of_the_row(tiny_model: Path) -> None:
    renderer = Renderer.from_pretrained(tiny_model)
    assert renderer.call_ids is ANY
    messages = steps("call_0", "chatcmpl-tool-1")
    assert ids_of(list(renderer.habits.form.with_ids(messages))) == ["call_0", "chatcmpl-tool-1"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_contexts_are_what_the_template_gives_of_the_messages_with_its_ids(name: str) -> None:
    renderer = renderer_of(name)
    messages = steps("call_0", "call_1", "abcDEF123")
    tree = renderer.chat_to_tree(Chat(messages=tuple(messages), tools=(TOOL,), id="x", source="x"))
    assert isinstance(tree, TokenTree), tree
    fitted = renderer.call_ids.apply(messages)
    for target in tree.targets:
        context = [tree.ids[node] for node in tree.path(target.nodes[0])[:-1]]
        served = renderer.tokenizer.apply_chat_template(
            [message.to_template() for message in fitted[: target.turn]],
            tools=[TOOL.model_dump()], add_generation_prompt=True, return_dict=True,
        )["input_ids"]  # fmt: skip
        assert context == list(served) == renderer.prompt_ids(messages[: target.turn], [TOOL])
    texts = [renderer.tokenizer.decode([tree.ids[n] for n in target.nodes]) for target in tree.targets]
    if TEMPLATES[name][1] is NINE:
        assert [re.findall(r'"id": "(\w+)"', text) for text in texts] == [
            ["call00000"],
            ["call00001"],
            ["abcDEF123"],
            [],
        ]
    else:
        found = [re.findall(r"functions\.read_file:\d+", text) for text in texts]
        assert found == [[f"functions.read_file:{n}"] for n in range(3)] + [[]]


ODD_IDS = st.text(alphabet="aZ09_가", max_size=9) | st.sampled_from(["call00000", "call00001", "functions.read_file:1"])


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(chat=chats(), form=st.sampled_from(ID_FORMS), data=st.data())
def test_ids_are_of_the_form_without_a_clash_and_the_same_in_every_beginning(
    chat: Chat, form: CallIds, data: st.DataObject
) -> None:
    old = ids_of(list(chat.messages))
    new = dict(zip(old, data.draw(st.lists(ODD_IDS, min_size=len(old), max_size=len(old), unique=True)), strict=True))
    messages = [
        message.model_copy(
            update={
                "tool_calls": tuple(c.model_copy(update={"id": new[c.id]}) for c in message.tool_calls),
                "tool_call_id": None if message.tool_call_id is None else new[message.tool_call_id],
            }
        )
        for message in chat.messages
    ]
    fitted = form.apply(messages)
    assert check_messages(fitted) is None
    assert all(form.has(call) for message in fitted for call in message.tool_calls)
    for end in range(len(messages)):
        assert form.apply(messages[:end]) == fitted[:end]
    assert form.apply(fitted) == fitted


def test_more_calls_than_five_digits_count_still_have_ids_of_their_own() -> None:
    call = ToolCall(id="", name="f", arguments={})
    made = [NINE.make(call, place) for place in (0, 99_999, 100_000, 1_234_567)]
    assert len(set(made)) == 4
    assert all(NINE.has(call.model_copy(update={"id": name})) for name in made)


def folder_of(template: str, tmp_path: Path) -> Path:
    tokenizer = small_tokenizer(template)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    return tmp_path


def test_a_model_whose_calls_cannot_be_shown_is_refused_and_not_scored(tmp_path: Path) -> None:
    """A probe that cannot be made proves nothing: else each good call would be taken for a final answer."""
    never = NINE_ONLY.replace("LENGTH", ">= 0 or 0 ==")
    with pytest.raises(UserError, match=r"the template loses calls .*call ids have nine letters or digits"):
        read_renderer(str(folder_of(never, tmp_path)))


def test_a_probe_that_is_skipped_is_a_refusal(tmp_path: Path) -> None:
    """The template shows a call with a tool of that name, and raises for a second argument."""
    picky = NINE_ONLY.replace("LENGTH", "!= 9 or call and call.function.arguments.count == 16 -")
    with pytest.raises(UserError, match="no call can be shown, so none could be read"):
        read_renderer(str(folder_of(picky, tmp_path)))


def test_the_templates_command_tells_the_ids(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text(TEMPLATES["exactly nine"][0], encoding="utf-8")
    code, out, _ = run("templates", file)
    assert code == 0
    assert "| 9 letters or digits |" in out
