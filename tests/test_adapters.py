"""Adapters: what is kept of OpenAI's and ShareGPT's formats, what is skipped and why, and the table of adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from data.chats import Chat, Message, PreferencePair, Skip
from data.formats.catalogue import ADAPTERS, adapter_named
from data.formats.openai_chat import openai_chat_row
from data.formats.reading import read_adapted
from data.formats.sharegpt_tools import sharegpt_tools_row
from data.records import ToolFunction, ToolSpec
from support.paths import SAMPLES
from support.record_samples import record


def sample(name: str) -> list[Chat | PreferencePair | Skip]:
    return [result for _, result in read_adapted(adapter_named(name), SAMPLES / f"{name}.jsonl")]


def chat_at(name: str, index: int) -> Chat:
    chat = sample(name)[index]
    assert isinstance(chat, Chat)
    return chat


def openai(*messages: dict[str, Any], **row: Any) -> Chat | Skip:
    return openai_chat_row({"messages": list(messages), **row})


def sharegpt(*turns: tuple[str, str], **row: Any) -> Chat | Skip:
    return sharegpt_tools_row({"conversations": [{"from": role, "value": value} for role, value in turns], **row})


USER = {"role": "user", "content": "hi"}
SAID = {"role": "assistant", "content": "hello"}


def calls(*ids: str | None, name: str = "f", arguments: Any = "{}") -> dict[str, Any]:
    entries = [{"id": i, "type": "function", "function": {"name": name, "arguments": arguments}} for i in ids]
    return {"role": "assistant", "content": None, "tool_calls": entries}


def result(content: str = "ok", **keys: Any) -> dict[str, Any]:
    return {"role": "tool", "content": content, **keys}


# --- OpenAI ---


def test_openai_calls_results_parts_weights_and_the_developer() -> None:
    chat = chat_at("openai_chat", 0)
    assert [m.role for m in chat.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
        "user",
        "assistant",
    ]
    assert chat.messages[1].content == "Weather in 서울?"
    first, second = chat.messages[2].tool_calls
    assert first.arguments == {"city": "서울", "days": None, "nested": {"a": [1, {"b": None}]}}
    # The results stand in another order than the calls; ids decide.
    assert [m.tool_call_id for m in chat.messages[3:5]] == [second.id, first.id]
    assert [m.loss_weight for m in chat.messages if m.role == "assistant"] == [1.0, 0.0, 1.0]
    assert chat.messages[-1].content == ""


def test_options_of_a_row_never_pass() -> None:
    chat = chat_at("openai_chat", 0)
    assert "strict" not in chat.model_dump_json() and "chat_template_kwargs" not in chat.model_dump_json()
    assert chat.tools[0].function.parameters["required"] == ["city"]


def test_openai_legacy_functions() -> None:
    chat = chat_at("openai_chat", 1)
    assert chat.messages[1].tool_calls[0].arguments == {"city": "Oslo"}
    assert (chat.messages[2].role, chat.messages[2].content) == ("tool", "snow")
    assert chat.tools[0].function.name == "get_weather"


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "column 'messages' is no list of objects"),
        ([USER, "hello"], "column 'messages' is no list of objects"),
        ([USER, {"role": "critic", "content": "x"}], "an unknown role 'critic'"),
        ([USER, {"content": "x"}], "a turn without a role"),
        ([USER, SAID, {"role": "system", "content": "x"}], "a system message that is not the first"),
        ([{"role": "user", "content": None}], "a message without content"),
        ([USER, {**SAID, "weight": [1]}], "weight is no number from 0 to 1"),
        ([USER, {**SAID, "weight": 1, "loss": False}], "one turn with two weights"),
        ([USER, calls("a"), SAID], "a call without its result"),
        ([USER, calls("a", "a")], "two calls of one id in one turn"),
        ([USER, result(tool_call_id="a")], "a result without its call"),
        ([USER, calls("a"), result(tool_call_id="b")], "a result of an unknown call"),
        ([USER, calls("a", "b"), result()], "results that do not say which call they answer"),
        ([USER, calls("a"), result(tool_call_id="a", name="g")], "a result under another tool's name"),
        ([USER, calls("a", arguments="[1]")], "arguments of a call are no object"),
        ([USER, calls("a", arguments='{"x": NaN}')], "arguments of a call are no JSON"),
        ([USER, calls("a", arguments='{"x": 1, "x": 2}')], "arguments of a call are no JSON"),
        ([USER, calls("a", name="")], "a call without a name"),
        (
            [USER, {"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}],
            "a call of something that is no",
        ),
        ([USER, {**calls("a"), "function_call": {"name": "f", "arguments": "{}"}}], "function_call beside tool_calls"),
    ],
)
def test_openai_skips(messages: list[Any], reason: str) -> None:
    skip = openai_chat_row({"messages": messages})
    assert isinstance(skip, Skip) and skip.reason.startswith(reason)


def test_a_single_result_needs_no_id_and_ids_may_repeat_between_turns() -> None:
    chat = openai(USER, calls("a"), result("1"), calls("a"), result("2", tool_call_id="a"), SAID)
    assert isinstance(chat, Chat)
    assert [c.id for m in chat.messages for c in m.tool_calls] == ["a", "call_1"]


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ("{", "tools are no JSON"),
        ("7", "tools are no list"),
        ([7], "a tool definition is no object"),
        ([{"type": "web_search"}], "a tool that is no named function"),
        ([{"name": "f", "arguments": {}}], "a tool definition in an unknown style"),
        ([{"name": "f", "parameters": {"city": "a city"}}], "a tool's parameters in an unknown style"),
        ([{"name": "f", "parameters": []}], "a tool's parameters are no object"),
        ([{"name": "f", "description": 3}], "a tool's description is no text"),
    ],
)
def test_tool_definitions_that_cannot_be_held(tools: Any, reason: str) -> None:
    assert openai(USER, SAID, tools=tools) == Skip(reason)


@pytest.mark.parametrize(
    "tools",
    [
        [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {}, "strict": True}}],
        [{"name": "f", "description": "d", "parameters": {}}],
        [{"name": "f", "description": "d", "input_schema": {}}],
        [{"name": "f", "description": "d", "inputSchema": {}}],
        '[{"name": "f", "description": "d", "parameters": {}}]',
        ['{"name": "f", "description": "d", "parameters": {}}'],
        "[{'name': 'f', 'description': 'd', 'parameters': {}}]",
    ],
)
def test_every_usual_style_of_tool_definitions(tools: Any) -> None:
    chat = sharegpt(("human", "hi"), ("gpt", "hello"), tools=tools)
    assert isinstance(chat, Chat)
    assert chat.tools == (ToolSpec(function=ToolFunction(name="f", description="d", parameters={})),)


# --- ShareGPT ---


def test_sharegpt_calls_as_turns() -> None:
    chat = chat_at("sharegpt_tools", 0)
    assert [m.role for m in chat.messages] == ["user", "assistant", "tool", "assistant"]
    assert chat.messages[1].tool_calls[0].arguments == {"city": "서울", "days": None}
    assert chat.tools[0].function.name == "get_weather"


def test_hermes_calls_in_text_become_calls() -> None:
    chat = chat_at("sharegpt_tools", 1)
    # The system turn only told the tools, which the row's own column does not have.
    assert [m.role for m in chat.messages] == ["user", "assistant", "tool", "tool", "assistant"]
    assert chat.messages[1].content == "Let me look."
    assert [c.arguments for c in chat.messages[1].tool_calls] == [{"city": "Oslo"}, {"city": "Rome"}]
    assert [m.content for m in chat.messages[2:4]] == ['{"name": "get_weather", "content": "snow"}', "sun"]
    assert (chat.messages[4].reasoning_content, chat.messages[4].content) == ("Both are known.", "Snow and sun.")
    assert (chat.id, [tool.function.name for tool in chat.tools]) == ("hermes-1", ["get_weather"])


def test_text_and_several_calls_in_a_row_are_one_turn() -> None:
    chat = chat_at("sharegpt_tools", 2)
    assert [m.role for m in chat.messages] == ["system", "user", "assistant", "tool", "tool", "assistant"]
    assert chat.messages[2].content == "Looking."
    assert [c.arguments for c in chat.messages[2].tool_calls] == [{"city": "Oslo"}, {"city": "Rome"}]
    assert chat.messages[5].weight == 1.0


CALL = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([("human", "hi"), ("gpt", CALL + " and more")], "text after a call"),
        ([("human", "hi"), ("gpt", "</tool_call>")], "a <tool_call> block without an end"),
        ([("human", "hi"), ("gpt", "<tool_call>f(1)</tool_call>")], "a call that is no JSON"),
        ([("human", "hi"), ("gpt", '<tool_call>{"arguments": {}}</tool_call>')], "a call without a name"),
        (
            [("human", "hi"), ("gpt", '<tool_call>{"name": "f", "argumets": {}}</tool_call>')],
            "a call whose arguments have",
        ),
        ([("human", "hi"), ("gpt", "<tool_call>{'name': 'f', 'arguments': {1: 2}}</tool_call>")], "a call that is no"),
        ([("human", "hi"), ("gpt", "<tool_call>{'name': 'f', 'arguments': (1,)}</tool_call>")], "a call that is no"),
        (
            [("human", "hi"), ("gpt", "<tool_call>{'name': 'f', 'name': 'g', 'arguments': {}}</tool_call>")],
            "a call that",
        ),
        ([("human", "hi"), ("gpt", "<think>so")], "a <think> block without an end"),
        ([("human", "hi"), ("gpt", CALL), ("tool", "a"), ("tool", "b")], "a result without its call"),
        ([("human", "hi"), ("gpt", f"{CALL}\n{CALL}"), ("tool", "a"), ("gpt", "x")], "a call without its result"),
        ([("human", "hi"), ("gpt", CALL), ("tool", "x <tool_response>a</tool_response>")], "text beside a"),
        ([("human", "hi"), ("function_call", "f()")], "a call that is no JSON"),
        ([("human", "hi"), ("function_call", "[]"), ("human", "x"), ("critic", "x")], "an unknown role"),
        ([("human", "hi"), ("system", "be brief")], "a system message that is not the first"),
        ([("system", "<tools>[]</tools>")], "no word of an assistant"),
    ],
)
def test_sharegpt_skips(turns: list[tuple[str, str]], reason: str) -> None:
    skip = sharegpt(*turns)
    assert isinstance(skip, Skip) and skip.reason.startswith(reason)


def test_tags_of_a_user_stay_text() -> None:
    chat = sharegpt(("human", f"What does {CALL} mean?"), ("gpt", "A call."))
    assert isinstance(chat, Chat)
    assert chat.messages[0].content == f"What does {CALL} mean?" and not chat.messages[1].tool_calls


def test_two_system_prompts_and_two_weights() -> None:
    assert sharegpt(("system", "a"), ("gpt", "b"), system="c") == Skip("a system message that is not the first")
    turns = [
        {"from": "gpt", "value": "x", "weight": 0},
        {"from": "function_call", "value": '{"name": "f", "arguments": {}}'},
    ]
    assert sharegpt_tools_row({"conversations": turns}) == Skip("one turn with two weights")


def test_rows_without_an_id_get_one_from_their_content() -> None:
    first, same, other = (sharegpt(("human", "hi"), ("gpt", text)) for text in ("a", "a", "b"))
    assert isinstance(first, Chat) and isinstance(same, Chat) and isinstance(other, Chat)
    assert first.id == same.id != other.id


@pytest.mark.parametrize("role", ["tool", "function", "ipython", "observation", "environment"])
def test_a_result_under_every_models_role(role: str) -> None:
    chat = openai(USER, calls("a"), {"role": role, "content": "ok"}, SAID)
    assert isinstance(chat, Chat) and [m.role for m in chat.messages][2] == "tool"
    both = sharegpt(("prompter", "hi"), ("tool_call", '{"name": "f", "arguments": {}}'), (role, "ok"), ("model", "x"))
    assert isinstance(both, Chat) and [m.role for m in both.messages] == ["user", "assistant", "tool", "assistant"]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_under_every_servers_name(key: str) -> None:
    chat = openai(USER, {**SAID, "reasoning_content": None, key: "생각"})
    assert isinstance(chat, Chat) and chat.messages[1].reasoning_content == "생각"


# --- the table and the reader ---


def test_unknown_adapter_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no adapter 'openai_chats'\. Did you mean 'openai_chat'"):
        adapter_named("openai_chats")


def test_a_foreign_row_is_skipped_and_a_wrong_row_of_ours_is_an_error() -> None:
    rows: list[dict[str, Any]] = [{}, {"messages": None}, {"conversations": [{}]}, {"messages": [{}], "tools": 3}]
    for adapter in ADAPTERS.values():
        for row in rows:
            if adapter.name in ("trajectory", "chats", "pairs"):
                with pytest.raises(UserError):
                    adapter.function(row)
            else:
                made = adapter.function(row)
                assert all(isinstance(result, Skip) for result in (made if isinstance(made, list) else [made]))


def test_a_json_list_and_misnamed_json_lines_are_read(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (SAMPLES / "sharegpt_tools.jsonl").read_text(encoding="utf-8").splitlines()]
    (tmp_path / "list.json").write_text("\n " + json.dumps(rows, indent=1), encoding="utf-8")
    (tmp_path / "lines.json").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    adapter = adapter_named("sharegpt_tools")
    expected = list(read_adapted(adapter, SAMPLES / "sharegpt_tools.jsonl"))
    assert [r for _, r in expected] == [r for _, r in read_adapted(adapter, tmp_path / "list.json")]
    assert expected == list(read_adapted(adapter, tmp_path / "lines.json"))


@pytest.mark.parametrize(
    ("adapter", "text", "message"),
    [
        ("openai_chat", '{"messages": []}\n{', r"rows\.jsonl:2: not JSON"),
        ("openai_chat", "[]\n[]", r"rows\.jsonl:1: a row is a JSON object, got list"),
        ("trajectory", json.dumps(record(outcome="x")), r"rows\.jsonl:1: field 'outcome'(.|\n)*data validate"),
        (
            "trajectory",
            f"{json.dumps(record())}\n{json.dumps(record())}",
            r"rows\.jsonl:2: id 'files-1' stands already",
        ),
        ("chats", '{"messages": [{"role": "user", "contnet": ""}]}', r"'messages.0.contnet' is unknown. Did you mean"),
        ("pairs", "{}", r"rows\.jsonl:1: field 'prompt' is missing"),
    ],
)
def test_bad_lines_stop_the_reader(tmp_path: Path, adapter: str, text: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        list(read_adapted(adapter_named(adapter), path))


def test_own_chats_and_pairs_are_read_back(tmp_path: Path) -> None:
    chat = chat_at("openai_chat", 0)
    (tmp_path / "chats.jsonl").write_text(chat.model_dump_json() + "\n", encoding="utf-8")
    assert list(read_adapted(adapter_named("chats"), tmp_path / "chats.jsonl")) == [(1, chat)]
    pair = PreferencePair(
        prompt=(Message(role="user", content="안녕"),),
        chosen=(Message(role="assistant", content="a"),),
        rejected=(Message(role="assistant", content="b"),),
        id="p", source="s", trunk="t", margin=0.5,
    )  # fmt: skip
    (tmp_path / "pairs.jsonl").write_text(pair.model_dump_json() + "\n", encoding="utf-8")
    assert list(read_adapted(adapter_named("pairs"), tmp_path / "pairs.jsonl")) == [(1, pair)]
