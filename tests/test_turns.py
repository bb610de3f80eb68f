"""Turns in all dialects that files of chat messages mix: calls, results, tools, thoughts, and what stays text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.chats import Chat, PreferencePair, Skip
from data.formats.catalogue import ADAPTERS, adapter_named
from data.formats.openai_chat import openai_chat_row
from data.formats.reading import adapt
from data.formats.sharegpt_tools import sharegpt_tools_row
from data.rendering.assistant_text import split_reasoning
from support.commands import Run

USER = {"role": "user", "content": "서울과 부산은?"}
SAID = {"role": "assistant", "content": "네."}
WEATHER = {"name": "get_weather", "arguments": {"city": "서울", "days": 1.0, "deep": [{"a": None}, True]}}
TOOL = {"name": "get_weather", "description": "날씨", "parameters": {"type": "object", "properties": {}}}


def read(*messages: Any, **row: Any) -> Chat | Skip:
    return openai_chat_row({"messages": list(messages), **row})


def chat(*messages: Any, **row: Any) -> Chat:
    made = read(*messages, **row)
    assert isinstance(made, Chat), made
    return made


def asks(*names: str, ids: bool = False) -> dict[str, Any]:
    calls = [{"name": name, "arguments": {"n": place}} for place, name in enumerate(names)]
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": f"x{n}", "function": call} if ids else call for n, call in enumerate(calls)],
    }


def results(*told: tuple[str | None, str]) -> list[dict[str, Any]]:
    return [{"role": "tool", "content": text, **({"name": name} if name else {})} for name, text in told]


def answers(made: Chat) -> dict[str, str]:
    """The text of the result of each call, by its number."""
    numbers = {call.id: number for number, call in enumerate(call for m in made.messages for call in m.tool_calls)}
    return {f"call_{numbers[m.tool_call_id]}": m.content for m in made.messages if m.role == "tool" and m.tool_call_id}


# --- which call a result answers ---


@pytest.mark.parametrize(
    ("calls", "told", "right"),
    [
        (("f", "g"), [("f", "1"), ("g", "2")], "1 2"),
        (("f", "g"), [("g", "2"), ("f", "1")], "1 2"),
        (("f", "g", "h"), [("h", "3"), ("f", "1"), ("g", "2")], "1 2 3"),
        (("f", "g"), [(None, "1"), (None, "2")], "1 2"),
        (("f", "f"), [("f", "1"), ("f", "2")], "1 2"),
        (("f", "g", "f"), [("f", "1"), ("g", "2"), ("f", "3")], "1 2 3"),
        (("f", "g"), [("g", "2"), (None, "1")], "1 2"),
        (("f",), [(None, "1")], "1"),
    ],
)
def test_results_without_ids_are_told_by_name_else_by_order(
    calls: tuple[str, ...], told: list[tuple[str | None, str]], right: str
) -> None:
    made = chat(USER, asks(*calls), *results(*told), SAID)
    assert answers(made) == {f"call_{n}": text for n, text in enumerate(right.split())}


@pytest.mark.parametrize(
    ("calls", "told", "reason"),
    [
        (("f", "g", "f"), [("g", "2"), ("f", "1"), ("f", "3")], "results that do not say which call they answer"),
        (("f", "g", "h"), [(None, "1"), ("h", "3"), (None, "2")], "results that do not say which call they answer"),
        (("f", "g"), [(None, "1"), ("f", "2")], "a result under another tool's name"),
        (("f", "g"), [("h", "1"), ("g", "2")], "a result under another tool's name"),
        (("f", "g"), [(None, "1")], "a call without its result"),
        (("f", "g"), [(None, "1"), (None, "2"), (None, "3")], "a result without its call"),
    ],
)
def test_results_that_could_answer_another_call_are_left_out(
    calls: tuple[str, ...], told: list[tuple[str | None, str]], reason: str
) -> None:
    assert read(USER, asks(*calls), *results(*told), SAID) == Skip(reason)


def test_one_of_two_results_in_order_at_the_end_does_not_tell() -> None:
    assert read(USER, asks("f", "g"), *results((None, "1"))) == Skip("results that do not say which call they answer")
    assert answers(chat(USER, asks("f", "g"), *results(("g", "2")))) == {"call_1": "2"}


def test_ids_tell_before_names_and_may_be_numbers() -> None:
    made = chat(
        USER, asks("f", "f", ids=True), {"role": "tool", "tool_call_id": "x1", "content": "b"}, *results(("f", "a"))
    )
    assert answers(made) == {"call_1": "b", "call_0": "a"}
    calls = {"role": "assistant", "tool_calls": [{"id": 7, "function": WEATHER}, {"id": 8, "function": WEATHER}]}
    made = chat(
        USER,
        calls,
        {"role": "tool", "tool_call_id": 8, "content": "8"},
        {"role": "tool", "tool_call_id": 7, "content": "7"},
    )
    assert answers(made) == {"call_1": "8", "call_0": "7"}


# --- results that are no text, and several in one turn ---


@given(
    content=st.recursive(
        st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner | st.none(), max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    )
)
def test_a_result_that_is_no_text_is_its_json_text(content: Any) -> None:
    right = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    for turn in ({"role": "tool", "content": content}, {"from": "observation", "value": content}):
        assert answers(chat(USER, asks("f"), turn, SAID)) == {"call_0": right}


def test_a_result_in_parts_is_their_text_and_a_picture_is_none() -> None:
    text, picture = {"type": "text", "text": "맑음"}, {"type": "image_url", "image_url": {"url": "x"}}
    assert answers(chat(USER, asks("f"), {"role": "tool", "content": [text, text]}, SAID)) == {"call_0": "맑음맑음"}
    for content in ([text, picture], picture, [{"type": "file", "file": {"file_id": "f"}}]):
        assert read(USER, asks("f"), {"role": "tool", "content": content}, SAID) == Skip("content that is not text")
    files = [{"type": "file", "path": "가.txt"}, {"type": "hotel"}]  # what a tool says of files
    assert answers(chat(USER, asks("f"), {"role": "tool", "content": files}, SAID)) == {"call_0": as_text(files)}


def test_logs_hold_results_that_are_no_text() -> None:
    output = {"도시": ["서울", 1.0, None]}
    items = [
        {"role": "user", "content": "q"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": output},
    ]
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "네."}]}
    (made,) = adapt(adapter_named("openai_responses"), {"input": items, "output": [said]})
    assert isinstance(made, Chat) and answers(made) == {"call_0": as_text(output)}
    call = {"type": "ai", "content": "", "tool_calls": [{"id": "c", "name": "f", "args": {}}]}
    told = {"type": "tool", "tool_call_id": "c", "content": output}
    rows = [{"type": "human", "content": "q"}, call, told, {"type": "ai", "content": "네."}]
    (made,) = adapt(adapter_named("langchain_messages"), {"messages": rows})
    assert isinstance(made, Chat) and answers(made) == {"call_0": as_text(output)}


def blocks(*texts: str) -> str:
    return "\n".join(f"<tool_response>\n{text}\n</tool_response>" for text in texts)


NAMED_G, NAMED_F = '{"name": "g", "content": "둘"}', '{"name": "f", "content": {"하나": 1}}'


@pytest.mark.parametrize("role", ["tool", "user"])
@pytest.mark.parametrize("is_list", [True, False])
@pytest.mark.parametrize(
    ("calls", "told", "right"),
    [
        (("f", "g"), [NAMED_F, NAMED_G], [0, 1]),
        (("f", "g"), [NAMED_G, NAMED_F], [1, 0]),  # names tell before the order does
        (("f", "g", "f"), ['"1"', '"2"', '"3"'], [0, 1, 2]),
        (("f", "g"), [NAMED_G, '{"name": "서울"}'], [1, 0]),
        (("f", "f"), [NAMED_F, '{"name": "f", "content": 2}'], [0, 1]),
    ],
)
def test_results_of_several_calls_in_one_turn_are_told_apart(
    role: str, is_list: bool, calls: tuple[str, ...], told: list[str], right: list[int]
) -> None:
    content = f"[{', '.join(told)}]" if is_list else blocks(*told)
    content = blocks(content) if is_list and role == "user" else content
    made = chat(USER, asks(*calls), {"role": role, "content": content}, SAID)
    texts = [text.strip('"') if is_list else text for text in told]  # a text in a list is that text
    assert answers(made) == {f"call_{call}": text for call, text in zip(right, texts, strict=True)}
    if is_list and role == "tool":  # the same where it is no text
        as_value = chat(USER, asks(*calls), {"role": role, "content": json.loads(content)}, SAID)
        assert answers(as_value) == answers(made)


def test_turns_and_objects_in_one_turn_tell_by_ids_and_names() -> None:
    told = [{"role": "tool", "tool_call_id": f"x{n}", "content": {"값": n}} for n in (1, 0)]
    made = chat(USER, asks("f", "f", ids=True), {"role": "tool", "content": told}, SAID)
    assert answers(made) == {"call_0": '{"값": 0}', "call_1": '{"값": 1}'}
    for by in ({"g": "둘", "f": [1]}, {"x1": "둘", "x0": [1]}):
        made = chat(USER, asks("f", "g", ids=True), {"role": "tool", "content": by}, SAID)
        assert answers(made) == {"call_0": "[1]", "call_1": "둘"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[1, 2, 3]", "results that do not say which call they answer"),
        ([1], "results that do not say which call they answer"),
        ([], "results that do not say which call they answer"),
        ('{"h": 1, "f": 2}', "a call without its result"),
        ([{"name": "g", "content": 1}], "a call without its result"),
        (blocks("1", "2", "3"), "a result without its call"),
        (blocks("1"), "a call without its result"),
        ([{"name": "f"}, {"name": "f"}], "a result under another tool's name"),
    ],
)
def test_one_turn_for_two_calls_that_does_not_tell_is_left_out(content: Any, reason: str) -> None:
    assert read(USER, asks("f", "g"), {"role": "tool", "content": content}, SAID) == Skip(reason)


def test_a_list_is_one_result_where_each_call_has_a_turn_of_its_own() -> None:
    told = [{"role": "tool", "content": [1, 2]}, {"role": "tool", "content": "[3, 4]"}]
    assert answers(chat(USER, asks("f", "g"), *told, SAID)) == {"call_0": "[1, 2]", "call_1": "[3, 4]"}
    assert answers(chat(USER, asks("f"), told[0], SAID)) == {"call_0": "[1, 2]"}
    by_id = [{**turn, "tool_call_id": f"x{n}"} for n, turn in enumerate(told)]
    assert answers(chat(USER, asks("f", "g", ids=True), *by_id[::-1], SAID)) == {"call_1": "[3, 4]", "call_0": "[1, 2]"}
    swapped = [{"role": "tool", "content": text} for text in (NAMED_G, NAMED_F)]
    assert answers(chat(USER, asks("f", "g"), *swapped, SAID)) == {"call_1": NAMED_G, "call_0": NAMED_F}


# --- JSON text in the place of a value, and values that are none ---

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@given(st.dictionaries(st.text(max_size=4), JSON_VALUES, max_size=3), st.integers(0, 31))
def test_json_text_is_read_wherever_a_value_is_expected_and_changes_no_argument(
    arguments: dict[str, Any], texts: int
) -> None:
    function: Any = {"name": "f", "arguments": as_text(arguments) if texts & 1 else arguments}
    call: Any = {"function": as_text(function) if texts & 2 else function}
    tools: Any = [{"type": "function", "function": TOOL}]
    turn = {"role": "assistant", "content": "", "tool_calls": as_text([call]) if texts & 4 else [call]}
    messages: Any = [USER, turn]
    row = {"messages": as_text(messages) if texts & 8 else messages, "tools": as_text(tools) if texts & 16 else tools}
    made = openai_chat_row(row)
    assert isinstance(made, Chat)
    assert as_text(made.messages[1].tool_calls[0].arguments) == as_text(arguments)
    assert [tool.function.name for tool in made.tools] == ["get_weather"]


@pytest.mark.parametrize("arguments", ["", "  \n", None, "null", "None", "{}", '""', {}, "missing"])
def test_blank_null_and_missing_arguments_are_none(arguments: Any) -> None:
    call = {"name": "f"} if arguments == "missing" else {"name": "f", "arguments": arguments}
    for written in (call, {"id": "a", "type": "function", "function": call}):
        assert chat(USER, {"role": "assistant", "tool_calls": [written]}).messages[1].tool_calls[0].arguments == {}


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"name": "f", "argument": {"a": 1}}, "a call whose arguments have an unknown name"),
        ({"name": "f", "arguments": {"a": 1}, "parameters": {"a": 2}}, "a call with two sets of arguments"),
        ({"name": "f", "arguments": "a=1"}, "arguments of a call are no JSON"),
        ({"name": "f", "arguments": []}, "arguments of a call are no object"),
        ({"arguments": {}}, "a call without a name"),
    ],
)
def test_arguments_that_are_something_else_are_never_taken_for_none(call: dict[str, Any], reason: str) -> None:
    assert read(USER, {"role": "assistant", "tool_calls": [call]}) == Skip(reason)


@pytest.mark.parametrize("key", ["arguments", "parameters", "args", "input"])
def test_bare_calls_have_their_arguments_under_any_usual_name(key: str) -> None:
    call = {"name": "f", key: {"도시": "서울"}, "id": "c", "type": "function"}
    assert chat(USER, {"role": "assistant", "tool_calls": [call]}).messages[1].tool_calls[0].arguments == {
        "도시": "서울"
    }


@pytest.mark.parametrize("tools", [" ", "", "None", "null", "[]", [], {}, "{}", None, "\n"])
def test_blank_and_null_tools_are_none(tools: Any) -> None:
    assert chat(USER, SAID, tools=tools).tools == ()
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    for name in ("sharegpt", "sharegpt_tools"):
        (made,) = adapt(adapter_named(name), {"conversations": turns, "tools": tools})
        assert isinstance(made, Chat) and made.tools == ()


@pytest.mark.parametrize("parameters", ["", None, "null"])
def test_a_tool_whose_parameters_are_blank_takes_none(parameters: Any) -> None:
    made = chat(USER, SAID, tools=[{"type": "function", "function": {"name": "f", "parameters": parameters}}])
    assert made.tools[0].function.parameters == {"type": "object", "properties": {}}
    made = chat(USER, SAID, tools=as_text({"name": "f", "parameters": '{"type": "object", "properties": {"a": {}}}'}))
    assert made.tools[0].function.parameters == {"type": "object", "properties": {"a": {}}}


def test_tools_may_stand_one_a_line() -> None:
    text = f"{as_text(TOOL)}\n{as_text({**TOOL, 'name': 'other'})}\n"
    assert [tool.function.name for tool in chat(USER, SAID, tools=text).tools] == ["get_weather", "other"]
    assert [tool.function.name for tool in chat(USER, SAID, tools=json.dumps([TOOL], indent=1)).tools] == [
        "get_weather"
    ]


# --- dialects ---

CALL_TEXT = f"<tool_call>\n{as_text(WEATHER)}\n</tool_call>"
RIGHT = (["user", "assistant", "tool", "assistant"], WEATHER["arguments"], "맑음")
DIALECTS: dict[str, list[dict[str, Any]]] = {
    "swift": [{"role": "tool_call", "content": as_text(WEATHER)}, {"role": "tool_response", "content": "맑음"}],
    "swift list": [{"role": "tool_call", "content": as_text([WEATHER])}, {"role": "tool", "content": "맑음"}],
    "turn with a name": [{"role": "function_call", **WEATHER}, {"role": "observation", "content": "맑음"}],
    "qwen text": [{"role": "assistant", "content": CALL_TEXT}, {"role": "tool", "content": "맑음"}],
    "qwen served": [
        {"role": "assistant", "content": CALL_TEXT},
        {"role": "user", "content": "<tool_response>\n맑음\n</tool_response>"},
    ],
    "qwen agent": [
        {
            "role": "assistant",
            "content": "",
            "function_call": {"name": "get_weather", "arguments": as_text(WEATHER["arguments"])},
        },
        {"role": "function", "name": "get_weather", "content": "맑음"},
    ],
    "ollama": [
        {"role": "assistant", "content": "", "tool_calls": [{"function": WEATHER}]},
        {"role": "tool", "tool_name": "get_weather", "content": "맑음"},
    ],
    "sharegpt keys": [
        {"from": "gpt", "value": CALL_TEXT},
        {"from": "tool", "value": "<tool_response>맑음</tool_response>"},
    ],
    "large letters": [{"role": "Assistant", "content": CALL_TEXT}, {"role": "Tool", "content": "맑음"}],
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_of_calls_is_read_alike(dialect: str) -> None:
    for made in (
        read(USER, *DIALECTS[dialect], SAID, tools=[TOOL]),
        sharegpt_tools_row({"conversations": [USER, *DIALECTS[dialect], SAID], "tools": [TOOL]}),
    ):
        assert isinstance(made, Chat), made
        roles, arguments, result = RIGHT
        assert [m.role for m in made.messages] == roles
        assert as_text(made.messages[1].tool_calls[0].arguments) == as_text(arguments)
        assert (made.messages[1].content, made.messages[2].content) == ("", result)


def test_parallel_calls_that_are_turns_of_their_own_are_one_turn() -> None:
    swift = [{"role": "assistant", "content": "볼게요."}, *[{"role": "tool_call", "content": as_text(WEATHER)}] * 2]
    made = chat(USER, *swift, *[{"role": "tool_response", "content": str(n)} for n in (1, 2)], SAID)
    assert [m.role for m in made.messages] == ["user", "assistant", "tool", "tool", "assistant"]
    assert made.messages[1].content == "볼게요." and len(made.messages[1].tool_calls) == 2
    legacy = [{"role": "assistant", "content": "", "function_call": {"name": name, "arguments": "{}"}} for name in "fg"]
    made = chat(
        USER,
        *legacy,
        {"role": "function", "name": "g", "content": "2"},
        {"role": "function", "name": "f", "content": "1"},
    )
    assert [c.name for c in made.messages[1].tool_calls] == ["f", "g"] and answers(made) == {
        "call_0": "1",
        "call_1": "2",
    }


def test_a_call_ends_where_its_json_ends() -> None:
    note = as_text({"name": "note", "arguments": {"text": "close with </tool_call> and <tool_call> {"}})
    made = chat(
        USER, {"role": "assistant", "content": f"적자.\n<tool_call>{note}</tool_call>\n<tool_call>{note}</tool_call>"}
    )
    assert made.messages[1].content == "적자."
    assert [c.arguments["text"] for c in made.messages[1].tool_calls] == [
        "close with </tool_call> and <tool_call> {"
    ] * 2
    assert read(USER, {"role": "assistant", "content": "<tool_call>{"}) == Skip("a <tool_call> block without an end")
    assert read(USER, {"role": "assistant", "content": CALL_TEXT + " 그리고"}) == Skip("text after a call")
    assert read(USER, {**SAID, "content": CALL_TEXT, "tool_calls": [WEATHER]}) == Skip("a call as text beside calls")


def test_a_result_may_speak_of_a_tag() -> None:
    for text in ("see <tool_response> in the docs", "a </tool_response> b", "<tool_call>{}</tool_call>"):
        made = chat(USER, asks("f"), {"role": "tool", "content": text}, SAID)
        assert made.messages[2].content == text
    assert read(USER, asks("f"), {"role": "tool", "content": "<tool_response>1</tool_response> and"}) == Skip(
        "text beside a <tool_response>"
    )


@pytest.mark.parametrize("turns", [{"role": "user", "content": "가"}, {"from": "user", "value": "가"}])
def test_conversations_are_recognised_in_either_spelling_and_as_text(
    tmp_path: Path, run: Run, turns: dict[str, str]
) -> None:
    answer = {key: {"user": "assistant", "가": "나"}[value] for key, value in turns.items()}
    for written in ([turns, answer], as_text([turns, answer])):
        (tmp_path / "r.jsonl").write_text(as_text({"conversations": written}) + "\n", encoding="utf-8")
        code, out, error = run("convert", tmp_path / "r.jsonl", "--out", tmp_path / "o.jsonl")
        assert code == 0 and "read as sharegpt" in out, error
        made = Chat.model_validate_json((tmp_path / "o.jsonl").read_text(encoding="utf-8"))
        assert [(m.role, m.content) for m in made.messages] == [("user", "가"), ("assistant", "나")]


def test_talk_about_a_call_stays_text_and_an_answered_one_is_a_call() -> None:
    question = {"role": "user", "content": f"What does {CALL_TEXT} mean?"}
    made = chat(question, {"role": "assistant", "content": f"{CALL_TEXT} calls a tool."})
    assert made.messages[1].content == f"{CALL_TEXT} calls a tool." and not made.messages[1].tool_calls
    made = chat(question, {"role": "assistant", "content": CALL_TEXT}, {"role": "tool", "content": "맑음"}, SAID)
    assert made.messages[1].tool_calls[0].name == "get_weather"


def test_tools_are_found_in_the_system_message_and_never_lost() -> None:
    glm = {"role": "system", "content": "규칙", "tools": [TOOL]}
    made = chat(glm, USER, SAID)
    assert [t.function.name for t in made.tools] == ["get_weather"] and made.messages[0].content == "규칙"
    qwen = (
        "짧게.\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n<tools>\n"
        f"{as_text({'type': 'function', 'function': TOOL})}\n</tools>\n\nFor each function call, return a json object:\n"
        "<tool_call>\n{}\n</tool_call>"
    )
    made = chat({"role": "system", "content": qwen}, USER, SAID)
    assert made.messages[0].content == "짧게." and [t.function.name for t in made.tools] == ["get_weather"]
    sides = {side: [{"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
    (pair,) = adapt(adapter_named("trl_preference"), {"prompt": [{"role": "system", "content": qwen}, USER], **sides})
    assert isinstance(pair, PreferencePair) and [t.function.name for t in pair.tools] == ["get_weather"]


@pytest.mark.parametrize(
    ("role", "reason"),
    [
        ("critic", "an unknown role 'critic'"),
        ("심판", "an unknown role '심판'"),
        ("x" * 99, f"an unknown role '{'x' * 29}…'"),
        (None, "a turn without a role"),
        (7, "a role that is no text"),
        (["user"], "a role that is no text"),
    ],
)
def test_an_unknown_role_is_named(role: Any, reason: str) -> None:
    assert read(USER, {"role": role, "content": "x"}, SAID) == Skip(reason)
    turns = [{"from": "human", "value": "a"}, {"from": role, "value": "b"}]
    assert adapt(adapter_named("sharegpt"), {"conversations": turns}) == [Skip(reason)]


# --- thoughts ---


@pytest.mark.parametrize(
    ("text", "thought", "words"),
    [
        ("<think>\nEight.\n</think>\n\nEight legs.", "Eight.", "Eight legs."),
        ("<think>여덟</think>여덟 개", "여덟", "여덟 개"),
        ("\n <think>a</think>b", "a", "b"),
        ("<think></think>b", None, "b"),
        ("<think>\n\n</think>\n\nb", None, "b"),
        ("<think>a</think>", "a", ""),
        ("<think>a</think>\n\n<think>b</think>\nc", "a\n\nb", "c"),
        ("so\n</think>\n\nyes", "so", "yes"),
        ("</think>\n\nyes", None, "yes"),
        ("<think>a</think>now <think>b</think>", "a", "now <think>b</think>"),
        ("Write <think>a</think>.", None, "Write <think>a</think>."),
        ("It ends with </think> there.", None, "It ends with </think> there."),
        ("<thinking>a</thinking>b", None, "<thinking>a</thinking>b"),
    ],
)
def test_a_think_block_that_opens_a_turn_becomes_reasoning(text: str, thought: str | None, words: str) -> None:
    assert split_reasoning(text) == (thought, words)
    made = chat(USER, {"role": "assistant", "content": text})
    assert (made.messages[1].reasoning_content, made.messages[1].content) == (thought, words)


@given(st.text().filter(lambda text: "think>" not in text), st.text().filter(lambda text: "think>" not in text))
def test_a_written_thought_reads_back(thought: str, words: str) -> None:
    assert split_reasoning(f"<think>\n{thought}\n</think>\n\n{words}") == (thought if thought.strip() else None, words)


@pytest.mark.parametrize("text", ["<think>a", "<think>a</think><think>b", "<think>a <think>b</think>\nc\n</think>\nd"])
def test_a_think_block_that_does_not_fit_is_a_skip(text: str) -> None:
    made = read(USER, {"role": "assistant", "content": text})
    assert isinstance(made, Skip) and "think>" in made.reason


def test_reasoning_beside_a_think_block_must_be_the_same() -> None:
    turn = {"role": "assistant", "content": "<think>\na\n</think>\n\nb"}
    assert chat(USER, {**turn, "reasoning_content": "a"}).messages[1].reasoning_content == "a"
    assert read(USER, {**turn, "reasoning": "c"}) == Skip("reasoning beside a <think> block")


THOUGHT = "<think>\n생각\n</think>\n\n답"
ROWS: dict[str, dict[str, Any]] = {
    "openai_chat": {"messages": [{"role": "user", "content": "{}"}, {"role": "assistant", "content": THOUGHT}]},
    "sharegpt": {"conversations": [{"from": "human", "value": "{}"}, {"from": "gpt", "value": THOUGHT}]},
    "alpaca": {"instruction": "{}", "output": THOUGHT},
    "dolly_15k": {"instruction": "{}", "context": "", "response": THOUGHT},
    "query_response": {"query": "{}", "response": THOUGHT},
    "trl_prompt_completion": {"prompt": "{}", "completion": THOUGHT},
    "glaive_function_calling_v2": {"system": "", "chat": "USER: {}\n\n\nASSISTANT: " + THOUGHT + " <|endoftext|>"},
    "trl_preference": {"prompt": "{}", "chosen": THOUGHT, "rejected": "<think>\n틀린 생각\n</think>\n\n오답"},
    "code_preference_pairs": {"input": "{}", "accepted": THOUGHT, "rejected": "b"},
    "hh_rlhf": {"chosen": "\n\nHuman: {}\n\nAssistant: " + THOUGHT, "rejected": "\n\nHuman: {}\n\nAssistant: b"},
    "chats": {
        "messages": [{"role": "user", "content": "{}"}, {"role": "assistant", "content": THOUGHT}],
        **{"tools": [], "id": "x", "source": "s", "licence": None, "group": None},
    },
}


@pytest.mark.parametrize("name", ROWS)
def test_thoughts_become_reasoning_in_every_adapter_and_talk_about_them_stays_text(name: str) -> None:
    def last_turn(question: str) -> Any:
        row = json.loads(json.dumps(ROWS[name]).replace("{}", question))
        (made,) = adapt(ADAPTERS[name], row)
        assert isinstance(made, Chat | PreferencePair), made
        return (made.chosen if isinstance(made, PreferencePair) else made.messages)[-1]

    turn = last_turn("몇 개야?")
    assert (turn.reasoning_content, turn.content) == ("생각", "답")
    turn = last_turn("What does <think> do?")
    assert (turn.reasoning_content, turn.content) == (None, THOUGHT)


# --- a user's own mapping ---


def test_mapped_columns_that_are_optional_may_be_missing_or_null(tmp_path: Path, run: Run) -> None:
    (tmp_path / "m.yaml").write_text(
        "prompt: 질문\nresponse: 답\nsystem: 규칙\ntools: 도구\nreasoning: 생각\nid: 번호\n", encoding="utf-8"
    )
    rows = [
        {"번호": 1, "질문": "a", "답": "b", "규칙": "s", "도구": [TOOL], "생각": "t"},
        {"번호": None, "질문": "a", "답": "b", "규칙": None, "도구": None, "생각": None},
        {"질문": "a", "답": "c"},
        {"질문": "a"},
    ]
    (tmp_path / "r.jsonl").write_text("".join(as_text(row) + "\n" for row in rows), encoding="utf-8")
    code, out, _ = run("convert", tmp_path / "r.jsonl", "--adapter", tmp_path / "m.yaml", "--out", tmp_path / "o.jsonl")
    assert code == 0 and "there is no column '답'" in out and "no sampled row" not in out
    made = [Chat.model_validate_json(line) for line in (tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [[m.content for m in each.messages] for each in made] == [["s", "a", "b"], ["a", "b"], ["a", "c"]]
    assert [len(each.tools) for each in made] == [1, 0, 0] and made[0].messages[2].reasoning_content == "t"


def test_a_mapped_column_that_no_row_has_is_told_with_its_neighbour(tmp_path: Path, run: Run) -> None:
    (tmp_path / "m.yaml").write_text("messages: turns\nsystem: sytem\n", encoding="utf-8")
    row = {"turns": as_text([USER, SAID]), "system": "s"}
    (tmp_path / "r.jsonl").write_text(as_text(row) + "\n", encoding="utf-8")
    arguments = ("convert", tmp_path / "r.jsonl", "--adapter", tmp_path / "m.yaml", "--out", tmp_path / "o.jsonl")
    _, out, _ = run(*arguments)
    assert "no sampled row has the column 'sytem'. Did you mean 'system'?" in out
