# ruff: noqa: E501 - what a model writes is easier to compare on one line
"""What models write, in the documented forms of their families, and what only looks like it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from data.chats import Chat, Message, Skip, ToolCall, what_is_said
from data.records import ToolSpec
from data.rendering.call_forms.form import Form
from data.rendering.call_forms.table import CALL_FORMS, HERMES
from data.rendering.replies import read_reply, text_to_message
from support.templates import NAMES, renderer_of


def tool(name: str) -> ToolSpec:
    kinds = {"path": "string", "이름": "string", "count": "integer", "share": "number", "deep": "object"}
    kinds |= {"items": "array", "sure": "boolean"}
    properties: dict[str, Any] = {key: {"type": kind} for key, kind in kinds.items()}
    properties["limit"] = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    return ToolSpec.model_validate(
        {
            "function": {
                "name": name,
                "description": "Does it.",
                "parameters": {"type": "object", "properties": properties},
            }
        }
    )


TOOLS = [tool("move_file"), tool("list.all-files"), tool("파일")]
BY_NAME = {form.name: form for form in CALL_FORMS}
A = ("move_file", {"path": "가 나/7.txt"})
B = ("list.all-files", {"count": 2, "deep": {"in-side": [1, None, "b"]}})
NONE: tuple[str, dict[str, Any]] = ("move_file", {})
B_JSON = '{"count": 2, "deep": {"in-side": [1, null, "b"]}}'
SEP, CALL, CALL_END = "<｜tool▁sep｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
CALLS, CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
PIPE_Q = '<|"|>'

# Form, what is written, the calls, the words beside them, the reasoning.
WRITTEN: list[tuple[str, str, list[tuple[str, dict[str, Any]]], str, str | None]] = [
    ("hermes", '<tool_call>\n{"name": "move_file", "arguments": {"path": "가 나/7.txt"}}\n</tool_call>', [A], "", None),
    ("hermes", '<think>\nhm\n</think>\n\nOn it.\n<tool_call>{"name": "move_file", "arguments": {"path": "가 나/7.txt"}}</tool_call>\n'
     f'<tool_call>{{"name": "list.all-files", "arguments": {B_JSON}}}</tool_call>', [A, B], "On it.", "hm"),
    ("hermes", '<tool_call>\n{"name": "move_file", "arguments": {"path": "a</tool_call>b"}}\n</tool_call>',
     [("move_file", {"path": "a</tool_call>b"})], "", None),
    ("hermes", '<tool_call>\n{"name": "move_file", "arguments": {"path": "가 나/7.txt"}}', [A], "", None),
    ("hermes", '<tool_call>{"name": "move_file", "arguments": "{\\"path\\": \\"가 나/7.txt\\"}"}</tool_call>', [A], "", None),
    ("hermes", '<tool_call>{"name": "move_file"}</tool_call>', [NONE], "", None),
    ("hermes", '<tool_call>{"name": "move_file", "arguments": null}</tool_call>', [NONE], "", None),
    ("hermes", '<tool_call>{"name": "move_file", "arguments": " "}</tool_call>', [NONE], "", None),
    ("hermes", '<tool_call>{"name": "move_file", "arguments": "\\"{}\\""}</tool_call>', [NONE], "", None),
    ("hermes", '<tool_call>{"function": "move_file", "arguments": {"path": "가 나/7.txt"}}</tool_call>', [A], "", None),
    ("hermes", '<tool_call>{"type": "function", "function": {"name": "move_file", "parameters": {"path": "가 나/7.txt"}}}</tool_call>',
     [A], "", None),
    ("qwen-xml", "<tool_call>\n<function=move_file>\n<parameter=path>\n가 나/7.txt\n</parameter>\n</function>\n</tool_call>", [A], "", None),
    ("qwen-xml", "Text.\n<tool_call>\n<function=move_file>\n</function>\n</tool_call>\n<tool_call>\n<function=list.all-files>\n"
     '<parameter=count>\n2\n</parameter>\n<parameter=deep>\n{"in-side": [1, null, "b"]}\n</parameter>\n</function>\n</tool_call>',
     [NONE, B], "Text.", None),
    ("qwen-xml", "<function=move_file>\n<parameter=path>가 나/7.txt</parameter>\n</function>\n</tool_call>", [A], "", None),
    ("glm", "Text.\n<tool_call>move_file\n<arg_key>path</arg_key>\n<arg_value>가 나/7.txt</arg_value>\n</tool_call>", [A], "Text.", None),
    ("glm", "<tool_call>list.all-files<arg_key>count</arg_key><arg_value>2</arg_value><arg_key>deep</arg_key>"
     '<arg_value>{"in-side": [1, null, "b"]}</arg_value></tool_call><tool_call>move_file</tool_call>', [B, NONE], "", None),
    ("harmony", '<|channel|>commentary to=functions.move_file <|constrain|>json<|message|>{"path": "가 나/7.txt"}<|call|>', [A], "", None),
    ("harmony", "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary<|message|>Text.<|end|>"
     '<|start|>assistant<|channel|>commentary to=functions.move_file <|constrain|>json<|message|>{"path": "가 나/7.txt"}<|call|>',
     [A], "Text.", "hm"),
    ("harmony", '<|start|>assistant to=functions.move_file<|channel|>commentary json<|message|>{"path": "가 나/7.txt"}', [A], "", None),
    ("harmony", f"<|channel|>commentary to=functions.list.all-files<|message|>{B_JSON}<|call|>", [B], "", None),
    ("harmony", "<|channel|>commentary to=functions.move_file<|message|><|call|>", [NONE], "", None),
    ("harmony", "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Done.", [], "Done.", "hm"),
    ("llama-json", '{"type": "function", "name": "move_file", "parameters": {"path": "가 나/7.txt"}}', [A], "", None),
    ("llama-json", '{"name": "move_file", "parameters": {"path": "가 나/7.txt"}}', [A], "", None),
    ("llama-json", f'{{"name": "move_file", "arguments": {{}}}}; {{"name": "list.all-files", "parameters": {B_JSON}}}', [NONE, B], "", None),
    ("llama-json", '{"type": "function", "function": {"name": "move_file", "arguments": {"path": "가 나/7.txt"}}}', [A], "", None),
    ("llama-json", f'[{{"name": "move_file", "arguments": {{}}}}, {{"name": "list.all-files", "arguments": {B_JSON}}}]', [NONE, B], "", None),
    ("python-tag", '<|python_tag|>{"name": "move_file", "parameters": {"path": "가 나/7.txt"}}', [A], "", None),
    ("python-tag", f'Text.<|python_tag|>{{"name": "move_file", "parameters": {{}}}}; {{"name": "list.all-files", "parameters": {B_JSON}}}',
     [NONE, B], "Text.", None),
    ("python-tag-call", '<|python_tag|>move_file.call(path="가 나/7.txt")', [A], "", None),
    ("function-tag", '<function=move_file>{"path": "가 나/7.txt"}</function>', [A], "", None),
    ("pythonic", '[move_file(path="가 나/7.txt"), list.all-files(count=2, deep={"in-side": [1, None, \'b\']})]', [A, B], "", None),
    ("pythonic", "[move_file(path='it\\'s \\n\"', sure=True, share=-1.5, items=[], limit=None)]",
     [("move_file", {"path": "it's \n\"", "sure": True, "share": -1.5, "items": [], "limit": None})], "", None),
    ("python-start", '<|python_start|>[move_file(path="가 나/7.txt")]<|python_end|>', [A], "", None),
    ("lfm2", '<|tool_call_start|>[move_file(path="가 나/7.txt")]<|tool_call_end|>Text.', [A], "Text.", None),
    ("olmo3", '<function_calls>move_file(path="가 나/7.txt")\nmove_file()</function_calls>', [A, NONE], "", None),
    ("mistral", f'[TOOL_CALLS] [{{"name": "move_file", "arguments": {{}}}}, {{"name": "list.all-files", "arguments": {B_JSON}}}]',
     [NONE, B], "", None),
    ("mistral", 'Text.[TOOL_CALLS]move_file[ARGS]{"path": "가 나/7.txt"}[TOOL_CALLS]move_file[CALL_ID]abc123456[ARGS]{}', [A, NONE], "Text.", None),
    ("mistral", '[THINK]hm[/THINK][TOOL_CALLS]move_file{"path": "가 나/7.txt"}', [A], "", "hm"),
    ("deepseek-v3", f'{CALLS}{CALL}function{SEP}move_file\n```json\n{{"path": "가 나/7.txt"}}\n```{CALL_END}\n{CALL}function{SEP}move_file\n'
     f"```json\n{{}}\n```{CALL_END}{CALLS_END}", [A, NONE], "", None),
    ("deepseek-v3.1", f'Text.{CALLS}{CALL}move_file{SEP}{{"path": "가 나/7.txt"}}{CALL_END}{CALL}list.all-files{SEP}{B_JSON}{CALL_END}{CALLS_END}',
     [A, B], "Text.", None),
    ("step3", '<｜tool_calls_begin｜>\n<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="move_file">\n'
     '<steptml:parameter name="path">가 나/7.txt</steptml:parameter>\n</steptml:invoke><｜tool_call_end｜>\n<｜tool_calls_end｜>', [A], "", None),
    ("invoke", '<minimax:tool_call>\n<invoke name="move_file">\n<parameter name="path">가 나/7.txt</parameter>\n</invoke>\n</minimax:tool_call>',
     [A], "", None),
    ("invoke", '<｜DSML｜function_calls>\n<｜DSML｜invoke name="list.all-files">\n<｜DSML｜parameter name="count" string="false">2</｜DSML｜parameter>\n'
     '<｜DSML｜parameter name="deep" string="false">{"in-side": [1, null, "b"]}</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>',
     [B], "", None),
    ("kimi-k2", '<|tool_calls_section_begin|><|tool_call_begin|>functions.move_file:0<|tool_call_argument_begin|>{"path": "가 나/7.txt"}'
     f"<|tool_call_end|><|tool_call_begin|>functions.list.all-files:1<|tool_call_argument_begin|>{B_JSON}<|tool_call_end|>"
     "<|tool_calls_section_end|>", [A, B], "", None),
    ("seed", "<seed:think>hm</seed:think><seed:tool_call>\n<function=move_file>\n<parameter=path>가 나/7.txt</parameter>\n</function>\n"
     "</seed:tool_call>", [A], "", "hm"),
    ("gemma4", f"<|channel>thought\nhm\n<channel|><|tool_call>call:list.all-files{{count:2,deep:{{in-side:[1,null,{PIPE_Q}b{PIPE_Q}]}}}}"
     f"<tool_call|><|tool_call>call:move_file{{path:{PIPE_Q}가 나/7.txt{PIPE_Q}}}<tool_call|>", [B, A], "", "hm"),
    ("functiongemma", "<start_function_call>call:move_file{path:<escape>가 나/7.txt<escape>}<end_function_call>", [A], "", None),
    ("tool-code", '```tool_code\nprint(move_file(path="가 나/7.txt"))\n```', [A], "", None),
    ("tool-code", '```tool_code\nmove_file(path="가 나/7.txt")\nmove_file()\n```', [A, NONE], "", None),
    ("tool-calls", f'<tool_calls>\n{{"name": "move_file", "arguments": {{}}}}\n{{"name": "list.all-files", "arguments": {B_JSON}}}\n</tool_calls>',
     [NONE, B], "", None),
    ("tool-calls", '<tool_calls>[{"name": "move_file", "arguments": {"path": "가 나/7.txt"}}]</tool_calls>', [A], "", None),
    ("phi4-granite", '<|tool_call|>[{"name": "move_file", "arguments": {"path": "가 나/7.txt"}}]<|/tool_call|>', [A], "", None),
    ("phi4-granite", '<|tool_call|>[{"name": "move_file", "arguments": {"path": "가 나/7.txt"}}]', [A], "", None),
    ("granite-function", '<function_call> {"name": "move_file", "arguments": {"path": "가 나/7.txt"}}', [A], "", None),
    ("functools", 'functools[{"name": "move_file", "arguments": {"path": "가 나/7.txt"}}]', [A], "", None),
    ("internlm", '<|action_start|><|plugin|>\n{"name": "move_file", "parameters": {"path": "가 나/7.txt"}}<|action_end|>', [A], "", None),
    ("cohere", '<|START_THINKING|>hm<|END_THINKING|><|START_ACTION|>[\n{"tool_call_id": "0", "tool_name": "move_file", "parameters": '
     '{"path": "가 나/7.txt"}}\n]<|END_ACTION|>', [A], "", "hm"),
    ("cohere", "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Done.<|END_RESPONSE|>", [], "Done.", "hm"),
    ("nemotron", '<TOOLCALL>[{"name": "move_file", "arguments": {"path": "가 나/7.txt"}}]</TOOLCALL>', [A], "", None),
    ("longcat", '<longcat_tool_call>{"name": "move_file", "arguments": {"path": "가 나/7.txt"}}</longcat_tool_call>', [A], "", None),
    ("apertus", '<|tools_prefix|>[{"move_file": {"path": "가 나/7.txt"}}]<|tools_suffix|>', [A], "", None),
    ("gigachat", '<|function_call|>{"name": "move_file", "arguments": {"path": "가 나/7.txt"}}', [A], "", None),
    ("fenced-json", '```json\n[{"name": "move_file", "arguments": {"path": "가 나/7.txt"}}]\n```', [A], "", None),
]  # fmt: skip


def parts(said: Message | str) -> tuple[list[tuple[str, dict[str, Any]]], str, str | None] | str:
    if isinstance(said, str):
        return said
    return [(call.name, call.arguments) for call in said.tool_calls], said.content, said.reasoning_content


@pytest.mark.parametrize(("name", "text", "calls", "words", "thought"), WRITTEN)
def test_each_form_is_read_as_its_family_writes_it(
    name: str, text: str, calls: list[Any], words: str, thought: str | None
) -> None:
    own = BY_NAME[name]
    reply = read_reply(text, own=own, tools=TOOLS)
    assert (parts(reply.said), reply.form) == ((calls, words, thought), None)


@pytest.mark.parametrize(("name", "text", "calls", "words", "thought"), WRITTEN)
def test_a_form_of_another_family_is_read_where_it_stands_alone_and_the_reply_says_which(
    name: str, text: str, calls: list[Any], words: str, thought: str | None
) -> None:
    other = HERMES if BY_NAME[name].family != "qwen" else BY_NAME["llama-json"]
    if words and calls:  # the same on lines of its own, with nothing after it
        text = text.removesuffix(words).replace(words, words + "\n", 1)
        if words not in text:
            words = ""
    reply = read_reply(text, own=other, tools=TOOLS)
    assert (parts(reply.said), reply.form) == ((calls, words, thought), name.removesuffix("-raw") if calls else None)


@pytest.mark.parametrize("own", [form for form in CALL_FORMS if form.family == "llama"], ids=lambda form: form.name)
def test_a_model_may_change_between_the_forms_of_its_family(own: Form) -> None:
    llama = [form.name for form in CALL_FORMS if form.family == "llama"]
    for name, text, calls, content, reasoning in WRITTEN:
        if name in llama:
            assert parts(read_reply(text, own=own, tools=TOOLS).said) == (calls, content, reasoning), text


@pytest.mark.parametrize("own", ["mistral", "gemma4", "llama-json", "deepseek-v3.1"])
def test_a_form_of_another_family_counts_only_on_lines_of_its_own_with_nothing_after_it(own: str) -> None:
    call = '<tool_call>{"name": "move_file", "arguments": {"path": "가.txt"}}</tool_call>'
    for text in (f"{call}\n그렇게 씁니다.", f"{call}\nor\n{call}", f"{call} or\n{call}", f"Write {call}"):
        assert parts(read_reply(text, own=BY_NAME[own], tools=TOOLS).said) == ([], text, None)
    reply = read_reply(f"옮길게요.\n{call}\n{call}", own=BY_NAME[own], tools=TOOLS)
    assert (parts(reply.said), reply.form) == (([("move_file", {"path": "가.txt"})] * 2, "옮길게요.", None), "hermes")


def test_no_words_around_calls_of_the_own_form_are_lost() -> None:
    call, read = (
        '<tool_call>{"name": "move_file", "arguments": {"path": "a"}}</tool_call>',
        ("move_file", {"path": "a"}),
    )
    said = read_reply(f"One {call} two {call} three", own=HERMES, tools=TOOLS).said
    assert parts(said) == ([read, read], "One  two  three", None)
    call = '{"name": "move_file", "parameters": {"path": "a"}}'
    said = read_reply(f"{call}\nor\n{call}", own=BY_NAME["llama-json"], tools=TOOLS).said
    assert parts(said) == ([read], f"or\n{call}", None), "one that words follow is the last"


def test_every_form_of_the_table_is_tested() -> None:
    assert {name for name, *_ in WRITTEN} == BY_NAME.keys() - {"lfm2-raw"}  # that one is a template of TRL, below


def test_the_page_shows_every_form() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "replies.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE) == [form.name for form in CALL_FORMS]


PLAIN = [
    'A call is written as `<tool_call>{"name": "move_file", "arguments": {}}</tool_call>`.',
    'For example:\n```\n<tool_call>{"name": "move_file", "arguments": {}}</tool_call>\n```\nThen wait.',
    'For example:\n```json\n{"name": "move_file", "parameters": {}}\n```\nThen wait.',
    '{"name": "Kim", "age": 3}',
    '{"name": "Kim", "parameters": {"age": 3}}',
    '[{"name": "Kim", "arguments": {}}]',
    '{"answer": 4, "parts": [{"name": "move_file", "parameters": {}}]}',
    "[1, 2, 3]",
    "[note(s) to self]",
    "[see(page=3)]",
    "functools.reduce(f, xs) folds a list.",
    "Use [TOOL_CALLS] before the list.",
    "It holds <function=move_file> tags, and </function> too.",
    "```python\nmove_file(path='a')\n```",
    "I moved the file: move_file(path='a') was right.",
    "to=5 and from=3",
    "한국어 {중괄호} [대괄호] <꺾쇠>",
]


@pytest.mark.parametrize("text", PLAIN)
@pytest.mark.parametrize("own", ["harmony", "llama-json", "mistral", "gemma4", "deepseek-v3.1", "unknown"])
def test_an_answer_that_holds_such_text_is_no_call(own: str, text: str) -> None:
    if own == "harmony":
        reply = read_reply(f"<|channel|>final<|message|>{text}", own=BY_NAME[own], tools=TOOLS)
    elif own == "unknown":
        reply = read_reply(text, own=HERMES, tools=TOOLS, is_bare_text=True)
    else:
        reply = read_reply(text, own=BY_NAME[own], tools=TOOLS)
    if own == "mistral" and "[TOOL_CALLS]" in text:
        assert isinstance(reply.said, str), "its own control token"
    elif own == "llama-json" and text.startswith(('{"name": "Kim", "par', '[{"name": "Kim"')):
        assert parts(reply.said) == ([("Kim", {"age": 3} if "age" in text else {})], "", None), "its own form"
    else:
        assert parts(reply.said) == ([], text, None)


BROKEN = [
    ("hermes", '<tool_call>{"name": "move_file", "arguments": {"path": "a', "not closed"),
    ("hermes", '<tool_call>{"name": "move_file", "arguments": {"path": 1}\n</tool_call>', "not closed"),
    ("hermes", "<tool_call>", "not closed"),
    ("hermes", "<tool_call>nonsense</tool_call>", "names no tool that there is"),
    ("hermes", "Text.</tool_call>", "never opened"),
    ("hermes", '<tool_call>{"name": "move_file", "arguments": {"share": NaN}}</tool_call>', "NaN"),
    ("hermes", '<tool_call>{"name": "move_file", "arguments": {}} and then', "words follow"),
    ("hermes", "<think>\nI will call it", "reasoning is not closed"),
    ("hermes", '<think>\n<tool_call>{"name": "move_file", "arguments": {}}</tool_call>', "reasoning is not closed"),
    ("hermes", "<think>\nhm\n</think>\n", "neither words nor a call"),
    ("hermes", "", "neither words nor a call"),
    ("hermes", " \n", "neither words nor a call"),
    ("qwen-xml", "<tool_call>\n<function=move_file>\n<parameter=path>\na", "not closed"),
    ("qwen-xml", "<tool_call>\n<function=move_file>\n<parameter=path>\na\n</parameter>\n", "not closed"),
    ("glm", "<tool_call>move_file\n<arg_key>path</arg_key>\n<arg_value>a", "not closed"),
    ("harmony", "<|channel|>analysis<|message|>I will", "neither a final message nor a call"),
    ("harmony", '<|channel|>commentary to=functions.move_file <|constrain|>json<|message|>{"path": "a', "JSON"),
    ("harmony", "<|channel|>commentary to=functions.move_file", "no body"),
    ("harmony", "words without a channel", "no channel"),
    ("llama-json", '{"name": "move_file", "parameters": {"path": "a', "not closed"),
    ("llama-json", '{"type": "function", "name": "move_file", "parameters": {"share": NaN}}', "NaN"),
    ("llama-json", '{"name": "move_file", "parameters": [1]}', "not a JSON object"),
    ("python-tag", '<|python_tag|>{"name": "move_file"', "not closed"),
    ("pythonic", '[move_file(path="a', "no end"),
    ("mistral", '[TOOL_CALLS]move_file[ARGS]{"path": "a', "not closed"),
    ("mistral", "[TOOL_CALLS]", "no name"),
    ("deepseek-v3.1", f'{CALLS}{CALL}move_file{SEP}{{"path": "a', "not closed"),
    ("kimi-k2", '<|tool_call_begin|>functions.move_file:0<|tool_call_argument_begin|>{"path', "not closed"),
    ("gemma4", f"<|tool_call>call:move_file{{path:{PIPE_Q}a", "not closed"),
    ("gemma4", f"<|tool_call>call:move_file{{path:{PIPE_Q}a{PIPE_Q}", "not closed"),
    ("lfm2", "<|tool_call_start|>[move_file(path='a')", "not closed"),
    ("invoke", '<minimax:tool_call>\n<invoke name="move_file">\n<parameter name="path">a', "not closed"),
    ("cohere", '<|START_ACTION|>[{"tool_name": "move_file"', "not closed"),
]


@pytest.mark.parametrize(("name", "text", "reason"), BROKEN)
def test_what_breaks_off_or_holds_nothing_is_no_answer(name: str, text: str, reason: str) -> None:
    own = BY_NAME[name]
    said = read_reply(text, own=own, tools=TOOLS).said
    assert isinstance(said, str) and reason in said and "\n" not in said, said
    if name not in ("pythonic",) and text.strip() and "channel" not in text and "words" not in reason:
        other = BY_NAME["llama-json"] if own.family != "llama" else BY_NAME["mistral"]
        if own.opening.match(text):
            assert isinstance(read_reply(text, own=other, tools=TOOLS).said, str), "nor in another family's model"


def test_an_unknown_tool_in_a_foreign_form_is_told() -> None:
    text = '<tool_call>{"name": "mve_file", "arguments": {}}</tool_call>'
    assert (
        read_reply(text, own=BY_NAME["llama-json"], tools=TOOLS).said
        == "the call names no tool that there is: 'mve_file'"
    )
    own = read_reply(text, own=HERMES, tools=TOOLS).said
    assert parts(own) == ([("mve_file", {})], "", None), "in its own form it is a call, which the world answers"


TYPED = [
    ("path", "007", "007"), ("path", "1.0", "1.0"), ("path", "true", "true"), ("path", "null", "null"), ("path", "", ""),
    ("path", " a ", " a "), ("path", "\na\n", "\na\n"), ("path", '{"a": 1}', '{"a": 1}'),
    ("count", "7", 7), ("count", "9007199254740993", 9007199254740993), ("count", str(2**80), 2**80), ("count", "many", "many"),
    ("share", "0.5", 0.5), ("share", "7", 7), ("share", "7.0", 7.0), ("share", "1e3", 1000.0), ("share", "nan", "nan"),
    ("sure", "true", True), ("sure", "False", False), ("sure", "yes", "yes"),
    ("items", '["가", 1]', ["가", 1]), ("items", "['a', None]", ["a", None]), ("deep", "{}", {}), ("deep", "{'a': True}", {"a": True}),
    ("limit", "null", None), ("limit", "None", None), ("limit", "3", 3),
]  # fmt: skip


@pytest.mark.parametrize(("key", "text", "value"), TYPED)
def test_arguments_that_are_written_as_text_have_the_types_of_the_tool(key: str, text: str, value: Any) -> None:
    written = {
        "qwen-xml": f"<tool_call>\n<function=move_file>\n<parameter={key}>\n{text}\n</parameter>\n</function>\n</tool_call>",
        "glm": f"<tool_call>move_file\n<arg_key>{key}</arg_key>\n<arg_value>{text}</arg_value>\n</tool_call>",
        "invoke": f'<minimax:tool_call>\n<invoke name="move_file">\n<parameter name="{key}">{text}</parameter>\n</invoke>\n'
        "</minimax:tool_call>",
        "seed": f"<seed:tool_call><function=move_file><parameter={key}>{text}</parameter></function></seed:tool_call>",
    }
    for name, reply in written.items():
        said = read_reply(reply, own=BY_NAME[name], tools=TOOLS).said
        assert isinstance(said, Message), said
        [call] = said.tool_calls
        assert call.arguments == {key: value} and type(call.arguments[key]) is type(value), name


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        # A parameter that the tool does not have stands behind a text.
        (["path", "\n가\n", "extra", "\nx\n"], {"path": "가", "extra": "x"}),
        (["path", "\n가\n", "extra", "\n3\n", "count", "\n2\n"], {"path": "가", "extra": 3, "count": 2}),
        (["path", "\n\n", "추가-1", "\nx\n"], {"path": "", "추가-1": "x"}),
        (["count", "\n2\n", "extra", "\nx\n", "path", "\na\nb\n"], {"count": 2, "extra": "x", "path": "a\nb"}),
        (["path", "가", "extra", "x"], {"path": "가", "extra": "x"}),  # written without lines
        # What is no border is text.
        (["path", "\na</parameter>\n<parameter=extra>\nb\n"], {"path": "a</parameter>\n<parameter=extra>\nb"}),
        (["path", "\na\n</parameter>\n\nb\n", "extra", "\nx\n"], {"path": "a\n</parameter>\n\nb", "extra": "x"}),
        (["path", "\na\n</parameter>\n<parameter=path>\nb\n"], {"path": "a\n</parameter>\n<parameter=path>\nb"}),
        (["path", "\na\n</parameter>\n<parameter= of >\nb\n"], {"path": "a\n</parameter>\n<parameter= of >\nb"}),
    ],
)
def test_a_parameter_that_the_tool_does_not_have_is_no_part_of_a_text(
    written: list[str], arguments: dict[str, Any]
) -> None:
    body = "\n".join(
        f"<parameter={key}>{text}</parameter>" for key, text in zip(written[::2], written[1::2], strict=True)
    )
    reply = f"<tool_call>\n<function=move_file>\n{body}\n</function>\n</tool_call>"
    said = read_reply(reply, own=BY_NAME["qwen-xml"], tools=TOOLS).said
    assert isinstance(said, Message), said
    assert [call.arguments for call in said.tool_calls] == [arguments]


EDGES = (
    *(
        "",
        " ",
        "\n",
        " 가 ",
        "\nx\n",
        "</tool_call>",
        "a</parameter>b",
        "<parameter=path>",
        'it\'s "q" `b`',
        "{a: [1}",
        "한국어\n둘",
    ),
    *(
        "C:\\new\\dir",
        "007",
        "1.0",
        "true",
        "null",
        "None",
        "<|im_end|>",
        "</arg_value>",
        '<|"|>',
        "'",
        "a', b='c",
        "x)",
        "a,b=c",
    ),
    *(
        "}",
        "<|call|>",
        "[TOOL_CALLS]",
        "```json\n{}\n```",
        '<tool_call>{"name": "f"}</tool_call>',
        "\u2028",
        "🙂",
        "\\",
        "</function>",
    ),
    "text</parameter>\n</function>\n</tool_call>",
)
ARGUMENTS: tuple[dict[str, Any], ...] = (
    *({"path": edge} for edge in EDGES),
    *({"count": count} for count in (0, -5, 2**70)),
    *({"share": share} for share in (1.5, -0.25, 1e20, 7.0)),
    *({"sure": sure} for sure in (True, False)),
    *({}, {"deep": {}}, {"items": []}, {"path": "7", "count": 7, "share": 7.0}, {"이름": " 값\n"}),
    {"deep": {"in-side": [1, "둘", None, {"a.b": " c "}], "k": "v\n\"'"}},
    {"items": ["a,b", "]", "}", "'", 1, 1.0, None, True, [[]]]},
)


@pytest.mark.parametrize("template", [name for name in NAMES if not name.endswith("_training")])
def test_what_a_template_writes_is_read_back_as_it_was(template: str) -> None:
    renderer = renderer_of(template, "bytes")
    if {"tools", "calls"} & renderer.faults.keys():
        return
    assert renderer.call_form is not None
    for name in ("move_file", "list.all-files", "파일", "ns/f", "a:b"):
        spec = tool(name)
        for arguments in ARGUMENTS if name == "move_file" else ARGUMENTS[-3:]:
            call = ToolCall(id="call_0", name=name, arguments=arguments)
            for words, thought in (("", None), ("", "because"), ("Text.", None)):
                if words and template == "gptoss":
                    continue  # it shows words beside a call as analysis
                said = Message(role="assistant", content=words, reasoning_content=thought, tool_calls=(call,))
                chat = Chat(messages=(Message(role="user", content="Go."), said), tools=(spec,), id="x", source="x")
                tree = renderer.chat_to_tree(chat)
                if isinstance(tree, Skip):
                    continue  # what a template cannot show is the matter of tests/test_templates.py
                [(ids, weights)] = tree.rows()
                start = weights.index(1.0)
                reply = renderer.read_completion(ids[start:], prompt=ids[:start], tools=[spec])
                assert isinstance(reply.said, Message), (arguments, reply.said)
                assert (what_is_said([reply.said]), reply.form) == (what_is_said([said]), None), arguments


@pytest.mark.parametrize(
    ("template", "text", "reason"),
    [
        ("llama3_1", "It is done.<|eom_id|>", "ends as a call does"),
        ("llama3_1", "<|python_tag|><|eot_id|>", "not closed"),
        ("llama3_1", "<|python_tag|><|eom_id|>", "not closed"),
        ("gptoss", "<|channel|>final<|message|>Done.<|call|>", "ends as a call does"),
        ("gptoss", "<|channel|>commentary<|message|>{}<|call|>", "ends as a call does"),
        ("gptoss", "<|return|>", "no channel"),
        ("gemma4_v5", "Done.<|tool_response>", "ends as a call does"),
        ("glm4moe", "\n<think></think>\nDone.<|observation|>", "ends as a call does"),
        ("qwen3", "Done.<|im_start|><|im_end|>", "control token"),
        ("qwen3", "<|im_start|><|im_end|>", "control token"),
        ("qwen3", "<|im_end|>", "neither words nor a call"),
        ("qwen3_5_think", "I think and think<|im_end|>", "reasoning is not closed"),
        ("qwen3_5_think", "<tool_call>\n<function=f>\n</function>\n</tool_call><|im_end|>", "reasoning is not closed"),
    ],
)
def test_an_ending_that_cannot_be_an_answer_never_is_one(template: str, text: str, reason: str) -> None:
    renderer = renderer_of(template, "bytes")
    prompt = renderer.prompt_ids([Message(role="user", content="Words of the prompt.")], TOOLS[:1])
    ids = renderer.tokenizer.encode(text, add_special_tokens=False)
    said = renderer.completion_to_message(ids, prompt=prompt, tools=TOOLS)
    assert isinstance(said, str) and reason in said, said


@pytest.mark.parametrize(
    "template", ["llama3_1", "gptoss", "gemma4_v5", "glm4moe", "qwen3", "qwen3_5_think", "lfm2_v2", "muse_glimmer"]
)
def test_no_words_of_the_prompt_come_back(template: str) -> None:
    renderer = renderer_of(template, "bytes")
    prompt = renderer.prompt_ids([Message(role="user", content="Words of the prompt.")], TOOLS[:1])
    for text in (
        "Done.",
        "x</think>Done.",
        "<|channel|>final<|message|>Done.",
        "<think>a</think>Done.",
        "Done.<|tool_call>",
        "",
    ):
        ids = [*renderer.tokenizer.encode(text, add_special_tokens=False), renderer.stop_ids[0]]
        said = renderer.completion_to_message(ids, prompt=prompt, tools=TOOLS)
        assert "Words" not in (said if isinstance(said, str) else said.model_dump_json())


def test_forms_of_the_tokenizer_s_own_tags_are_of_its_family_whatever_its_template_writes() -> None:
    for name, text, calls, words, _ in WRITTEN:
        form = BY_NAME[name]
        if name in ("deepseek-v3", "deepseek-v3.1", "mistral", "gemma4", "kimi-k2") and calls:
            known = frozenset(form.tags)
            for before in ("", "I look at it, "):
                reply = read_reply(before + text, own=BY_NAME["llama-json"], tools=TOOLS, known=known)
                if text.startswith(("[THINK]", "<|channel>")) and before:
                    continue  # reasoning opens a turn
                assert isinstance(reply.said, Message), (name, reply)
                assert parts(reply.said)[0] == calls and reply.said.content == (before + words).strip()


def test_a_foreign_form_is_read_from_ids_and_told() -> None:
    renderer = renderer_of("qwen3", "bytes")
    ids = renderer.tokenizer.encode(
        '<|python_tag|>{"name": "move_file", "parameters": {}}<|im_end|>', add_special_tokens=False
    )
    reply = renderer.read_completion(ids, tools=TOOLS)
    assert (parts(reply.said), reply.form) == (([NONE], "", None), "python-tag")
    typed = renderer_of("gptoss", "bytes")
    text = '{"name": "move_file", "parameters": {"path": "<|call|>"}}'
    body = typed.tokenizer.encode("<|channel|>final<|message|>", add_special_tokens=False)
    assert parts(typed.completion_to_message([*body, *typed.tokenizer.encode(text), typed.stop_ids[0]], tools=TOOLS))


def test_a_server_s_text_is_read_in_any_form_and_a_thought_that_it_left_open_is_one() -> None:
    for _, text, calls, words, thought in WRITTEN:
        if not words:
            assert parts(text_to_message(text, TOOLS)) == (calls, words, thought), text
    assert parts(text_to_message("hm\n</think>\n\nDone.")) == ([], "Done.", "hm")
    stripped = "analysisWe need it.assistantcommentary to=functions.move_file json{}"
    assert text_to_message(stripped, TOOLS) == "harmony's channels without their control tokens"


def test_a_hostile_reply_costs_no_time() -> None:
    began = time.process_time()
    for part in (
        "[",
        "{",
        "<tool_call>",
        '{"name":',
        "<function=a><parameter=b>",
        "<|tool_call>call:f{a:",
        "[f(a=",
        "'",
        "\n",
    ):
        for own in ("hermes", "qwen-xml", "llama-json", "gemma4", "lfm2-raw"):
            read_reply(part * (20_000 // len(part)), own=BY_NAME[own], tools=TOOLS)
    assert time.process_time() - began < 10
