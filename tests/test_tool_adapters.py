"""Adapters of tool data: conversions checked by hand, rules about outcomes and tools, and formats that lose nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from data.__main__ import app
from data.chats import Chat, Message, Skip, ToolCall
from data.formats.atif import atif_row, chat_to_atif, trajectory_to_atif
from data.formats.catalogue import ADAPTERS
from data.formats.export import FORMATS
from data.formats.glaive import chat_to_glaive_row, glaive_v2_row
from data.formats.json_schema import parameters_to_schema, type_to_schema
from data.formats.openai_chat import chat_to_openai_row, openai_chat_row
from data.formats.react import chat_to_react_row, react_row
from data.formats.reading import adapt
from data.formats.row_keys import Undecided
from data.formats.sharegpt_tools import chat_to_hermes_row, chat_to_sharegpt_row, sharegpt_tools_row
from data.formats.swe_agents import tools_of_prompt, xml_calls
from data.formats.toolace import bracket_calls
from data.formats.trajectory import trajectory_row
from data.records import Outcome, ToolSpec, Trajectory
from data.trajectories import trajectory_to_chat
from support.made_chats import chats
from support.paths import SAMPLES
from support.record_samples import record

EVERY_OUTCOME = frozenset(Outcome)


def sample(name: str, index: int, **options: Any) -> list[Chat | Skip]:
    """What the adapter of a name makes of one sample row."""
    line = (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[index]
    result = ADAPTERS[name].function(json.loads(line), **options)
    return result if isinstance(result, list) else [result]


def chat_of(name: str, index: int, part: int = 0, **options: Any) -> Chat:
    chat = sample(name, index, **options)[part]
    assert isinstance(chat, Chat), chat
    return chat


def said(chat: Chat) -> list[tuple[Any, ...]]:
    """Role, content and calls of each message: what a hand conversion writes down."""
    return [(m.role, m.content, *((call.name, call.arguments) for call in m.tool_calls)) for m in chat.messages]


# --- one row a family, converted by hand ---


def test_hermes_tools_leave_the_system_prompt_and_calls_become_calls() -> None:
    chat = chat_of("hermes_function_calling_v1", 0)
    assert said(chat) == [
        ("user", "서울과 Oslo 날씨 알려줘"),
        ("assistant", "", ("get_weather", {"city": "서울", "days": None}), ("get_weather", {"city": "Oslo"})),
        ("tool", '{"name": "get_weather", "content": {"temp": -3}}'),
        ("tool", "{}"),
        ("assistant", "서울은 영하 3도입니다."),
    ]
    assert [tool.function.name for tool in chat.tools] == ["get_weather"]
    planning = chat_of("hermes_function_calling_v1", 1)
    # This prompt asks for <scratch_pad> too, which no template writes: it stays, and its tools are read all the same.
    assert "<scratch_pad>" in planning.messages[0].content and len(planning.tools) == 1
    assert planning.messages[2].content == "<scratch_pad>\nGoal: weather\n</scratch_pad>"


def test_typed_parts_are_one_turn() -> None:
    chat = chat_of("llama_factory_v1", 0)
    assert said(chat)[1:] == [
        ("user", "서울과 Oslo?"),
        ("assistant", "", ("get_weather", {"city": "서울"}), ("get_weather", {"city": "Oslo", "days": None})),
        ("tool", "-3"),
        ("tool", ""),
        ("assistant", "춥다."),
    ]
    assert chat.messages[2].reasoning_content == "Two calls." and chat.messages[-1].weight == 0
    assert chat.tools[0].function.parameters["required"] == ["city"]


CALL = "<tool_call>\n{}\n</tool_call>"
HERMES = f"You are a function calling AI model. Use <tools>\n[]\n</tools>\nFor each function call return JSON.\n{CALL}"
QWEN = f"# Tools\n\nYou may call one or more functions.\n<tools>\n[]\n</tools>\nUse {CALL}"


@pytest.mark.parametrize(
    ("system", "kept"),
    [
        (HERMES, None),
        (f"Speak Korean.\n\n{HERMES}", "Speak Korean."),
        (f"{HERMES}\nSpeak Korean.", f"{HERMES}\nSpeak Korean."),
        (f"당신은 해적입니다.\n\n{QWEN}", "당신은 해적입니다."),
        ("Pick from <tools>[]</tools> wisely.", "Pick from <tools>[]</tools> wisely."),
        ("<tools>[]</tools>", None),
    ],
)
def test_only_a_published_tool_prompt_is_cut_off(system: str, kept: str | None) -> None:
    turns = [{"from": "system", "value": system}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    chat = sharegpt_tools_row({"conversations": turns})
    assert isinstance(chat, Chat)
    first = chat.messages[0]
    assert (first.content if first.role == "system" else None) == kept


def test_glaive_transcript() -> None:
    chat = chat_of("glaive_function_calling_v2", 0)
    assert said(chat) == [
        ("user", "서울 날씨?"),
        ("assistant", "Let me look.", ("get_weather", {"city": "서울", "note": "it's\nnew", "deep": {"a": [1, None]}})),
        ("tool", '{"temp": -3}'),
        ("assistant", "영하 3도입니다."),
        ("user", "고마워"),
        ("assistant", ""),
    ]
    assert [tool.function.name for tool in chat.tools] == ["get_weather", "get_time"]
    # An announcement of functions is dropped; a system text that says more is kept.
    assert chat_of("glaive_function_calling_v2", 1).messages[0].content.endswith("no access to external functions.")
    assert chat_of("glaive_function_calling_v2", 3).messages[0].content.startswith("You are a pirate")


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("""{"name": "f", "arguments": '{"a": "it\\'s"}'}""", {"a": "it's"}),
        ("""{"name": "f", "arguments": '{"a": "x\\ny"}'}""", {"a": "x\ny"}),
        ("""{"name": "f", "arguments": '{"code": "print(\\"{}\\")"}'}""", {"code": 'print("{}")'}),
        ("""{"name": "f", "arguments": '{}'}""", {}),
        ("""{"name": "f", "arguments": {"a": 1}}""", {"a": 1}),
        ("""{"name": "f", "arguments": "{\\"a\\": 1}"}""", {"a": 1}),
    ],
)
def test_glaive_arguments_in_every_quoting(call: str, arguments: dict[str, Any]) -> None:
    chat = glaive_v2_row({"system": "", "chat": f"USER: q\n\n\nASSISTANT: <functioncall> {call} <|endoftext|>"})
    assert isinstance(chat, Chat) and chat.messages[1].tool_calls[0].arguments == arguments


def test_xlam_calls_are_parallel_and_tools_become_json_schema() -> None:
    chat = chat_of("xlam_function_calling_60k", 0)
    assert said(chat)[1:] == [
        (
            "assistant",
            "",
            ("live.odds", {"match_id": 7, "markets": ["승", "패"]}),
            ("live.odds", {"match_id": 8, "markets": [], "league": None}),
        )
    ]
    parameters: Any = chat.tools[0].function.parameters
    assert parameters["required"] == ["match_id", "markets"]
    assert parameters["properties"]["league"] == {"type": "string", "description": "League.", "default": ""}
    assert parameters["properties"]["when"] == {"description": "Day. (type: datetime, optional)"}
    assert parameters["properties"]["type"] == {"type": "string", "description": "Kind.", "default": "pre"}
    # Hammer marks what is required, so that what has no mark in the same row is not.
    odds, everything = (tool.function.parameters for tool in chat_of("xlam_function_calling_60k", 1).tools)
    assert odds["required"] == ["match_id"] and "required" not in everything
    conversation = chat_of("xlam_function_calling_60k", 2)
    assert [m.loss_weight for m in conversation.messages] == [0, 0, 0, 1]


def test_toolace_brackets_and_results() -> None:
    chat = chat_of("toolace", 0)
    assert said(chat)[:5] == [
        ("user", "상승 종목과 뉴스"),
        (
            "assistant",
            "",
            ("Market Trends API", {"trend_type": "GAINERS", "limit": 1.5}),
            ("news/get", {"q": "a, b) 주식"}),
        ),
        ("tool", '{"name": "Market Trends API", "results": {"list": []}}'),
        ("tool", '{"name": "news/get", "results": {"뉴스": null}}'),
        ("assistant", "없습니다."),
    ]
    first, second = (tool.function.parameters for tool in chat.tools)
    assert first["type"] == "object" and first["properties"]["limit"] == {"type": "number"}  # type: ignore[index,call-overload]
    assert second["required"] == ["q"]
    # What follows the published prompt is no rendering of tools.
    assert chat_of("toolace", 1).messages[0].content == "Today is 2024-07-31."


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("[f()]", [("f", {})]),
        (" [a b.c(x=-1.5, y=[{'k': true}], z=None)] ", [("a b.c", {"x": -1.5, "y": [{"k": True}], "z": None})]),
        ("[f(s='it\\'s )], ')]", [("f", {"s": "it's )], "})]),
        ("[f(a=1),g(b=2)]", [("f", {"a": 1}), ("g", {"b": 2})]),
        ("[f(1)]", None),
        ("[f(a=g())]", None),
        ("[f(a=(1, 2))]", None),
        ("[f(a=1, a=2)]", None),
        ("[f(a={'k': 1, 'k': 2})]", None),
        ("[f(a=1e999)]", None),
        ("[f(a=1) and words]", None),
        ("[f(a='open)]", None),
        ("[words]", None),
        ("f(a=1)", None),
    ],
)
def test_calls_in_brackets(text: str, calls: Any) -> None:
    assert bracket_calls(text) == calls


def test_toucan_joins_what_was_cut() -> None:
    assert said(chat_of("toucan_1_5m", 0)) == [
        ("user", "과일 이모지 두 개"),
        ("assistant", "찾아볼게요.", ("emoji-get", {"group": "과일"}), ("emoji-get", {"group": "food", "n": None})),
        ("tool", "🍇"),
        ("tool", ""),
        ("assistant", "🍇뿐입니다."),
    ]


def test_toolbench_learns_the_last_step_of_a_prefix() -> None:
    chat = chat_of("toolbench", 0)
    assert [m.loss_weight for m in chat.messages] == [0, 0, 0, 0, 1]
    assert chat.messages[2].reasoning_content == "I need the rate." and chat.group == "원화 환율은?"
    assert "Output should follow" not in chat.messages[0].content and "rate_for_fx" not in chat.messages[0].content
    assert [tool.function.name for tool in chat.tools] == ["rate_for_fx", "Finish"]
    answers = chat_of("toolbench_answers", 0)
    assert [m.reasoning_content for m in answers.messages if m.role == "assistant"] == ["Ask for KRW.", "Now I know."]
    assert [m.loss_weight for m in answers.messages] == [0, 0, 1, 0, 1]


def test_toolalpaca_instances_and_golden_answers() -> None:
    chat = chat_of("toolalpaca", 0)
    assert said(chat) == [
        ("user", "원화 환율?"),
        ("assistant", "", ("getDetails", {"Question": "Which day?"})),
        ("tool", "Today."),
        ("assistant", "", ("getRate", {"base": "KRW", "days": 1})),
        ("tool", 'Status Code: 200. Response: {"rate": 1300}'),
        ("assistant", "1300원입니다."),
    ]
    assert [m.reasoning_content for m in chat.messages if m.role == "assistant"] == [
        "I should ask.",
        "Now the rate.",
        "I know it.",
    ]
    rate: Any = chat.tools[1].function.parameters
    assert rate["required"] == ["base"]
    assert rate["properties"]["tags"] == {"type": "array", "items": {"type": "string"}, "description": "Tags."}
    assert rate["properties"]["filters"] == {"description": "Object{from, to}. Filters."}
    assert chat.tools[2].function.description == "Ping.\nOutput: #Pong\nThe formats:\n#Pong: Object{ok}"
    assert said(chat_of("toolalpaca", 1)) == [("user", "원화?"), ("assistant", "", ("getRate", {"base": "KRW"}))]


def test_react_thoughts_are_reasoning_and_the_end_is_the_answer() -> None:
    chat = chat_of("react", 0)
    assert said(chat) == [
        ("user", "세종대왕은 언제 태어났나?"),
        ("assistant", "", ("search", {"input": "세종대왕 [출생]"})),
        ("tool", "1397"),
        ("assistant", "1397년"),
    ]
    assert [m.reasoning_content for m in chat.messages[1::2]] == ["I need a date.", "Known."]


def test_react_as_langchain_writes_it() -> None:
    chat = chat_of("react", 6)
    assert said(chat) == [
        ("user", "서울 날씨?"),
        ("assistant", "", ("get weather", {"city": "서울", "days": None})),
        ("tool", "-3"),
        ("assistant", "", ("note", {"input": "춥다"})),
        ("tool", "ok"),
        ("assistant", "영하 3도"),
    ]
    assert [m.reasoning_content for m in chat.messages if m.role == "assistant"] == ["Ask.", "Again.", "Known."]


def test_agent_instruct_in_its_six_environments() -> None:
    calls = [
        [(call.name, call.arguments) for m in chat_of("agent_instruct", index).messages for call in m.tool_calls]
        for index in range(6)
    ]
    assert calls == [
        [("bash", {"command": "ls /etc | wc -l"})],
        [("execute_sql", {"sql": "SELECT `값` FROM t"})],
        [("get_relations", {"variable": "Oslo"}), ("get_neighbors", {"variable": "Oslo", "relation": "city.country"})],
        [("search", {"keywords": "파란 셔츠"}), ("click", {"element": "Buy Now"})],
        [("act", {"action": "go to desk 1"}), ("act", {"action": "take pen 1 from desk 1"})],
        [],
    ]
    os = chat_of("agent_instruct", 0)
    assert [m.weight for m in os.messages if m.role == "assistant"] == [0.0, 1.0, 1.0]
    assert (os.messages[-1].reasoning_content, os.messages[-1].content) == ("Now I get the answer.", "220")
    for index in range(6):
        chat = chat_of("agent_instruct", index)
        known = {tool.function.name for tool in chat.tools}
        assert {call.name for m in chat.messages for call in m.tool_calls} <= known


def test_swe_agent_in_its_dialects() -> None:
    assert said(chat_of("swe_agent", 0))[2:] == [
        ("assistant", "Open it.", ("open", {"path": "a.py", "line": None})),
        ("tool", "[File: a.py]"),
        ("assistant", "", ("submit", {})),
        ("tool", "diff"),
    ]
    assert said(chat_of("swe_agent", 1))[3:] == [
        ("assistant", "List.", ("bash", {"command": "ls -F"})),
        ("tool", "a.py\nbash-$"),
        ("assistant", "Done.", ("bash", {"command": "submit"})),
    ]
    assert chat_of("swe_agent", 0).messages[4].reasoning_content == "다 됐다."
    smith = chat_of("swe_smith", 0)
    assert said(smith)[2:] == [
        ("assistant", "See.", ("bash", {"command": "ls | head -3"})),
        ("tool", "a.py"),
        ("assistant", "", ("edit", {"path": "a.py", "line": 3, "range": [1, 2]})),
        ("tool", "ok"),
        ("assistant", "", ("edit", {"path": "a.py\nb", "line": "three"})),
        ("tool", ""),
        ("assistant", "", ("submit", {})),
    ]
    assert chat_of("nebius_swe_agent", 0).messages[0].content == "SETTING: 명령을 하나씩"


def test_functions_told_in_words_become_tools() -> None:
    prompt = chat_of("swe_smith", 0).messages[0].content
    bash, submit, edit = tools_of_prompt(prompt)
    assert bash.function.parameters["properties"] == {
        "command": {"type": "string", "description": "The command.\nIt may be empty."}
    }
    assert submit.function.description == "Finish." and submit.function.parameters["properties"] == {}
    assert edit.function.parameters["required"] == ["path"]
    # A parameter of no declared type, and a text that is not of its type, stay text.
    assert xml_calls("<function=edit><parameter=line>3</parameter></function>", ())[1][0][2] == {"line": "3"}
    assert xml_calls("<function=edit><parameter=line>true</parameter></function>", (edit,))[1][0][2] == {"line": "true"}


def test_tau_failed_calls_are_context_and_the_stop_mark_is_no_word() -> None:
    chat = chat_of("tau_bench", 0)
    assert [m.loss_weight for m in chat.messages if m.role == "assistant"] == [0.0, 1.0, 1.0]
    assert chat.messages[-1] == Message(role="user", content="Thank you!")
    assert chat_of("tau_bench", 2).messages[-1].role == "assistant"
    assert (chat.id, chat.group) == ("3#1", "3")
    tau2 = chat_of("tau2_bench", 0)
    assert said(tau2) == [
        ("system", "# 정책"),
        ("assistant", "Hi! How can I help you today?"),
        ("user", "두 예약 취소"),
        ("assistant", "", ("cancel", {"id": "A"}), ("cancel", {"id": "B", "meta": {"이유": None}})),
        ("tool", "ok B"),
        ("tool", "ok A"),
        ("assistant", "Done."),
    ]
    assert chat_of("tau2_bench", 0, 4).messages[2].loss_weight == 0


def test_adp_actions_and_observations() -> None:
    assert said(chat_of("adp", 0)) == [
        ("user", "파일이 몇 개?"),
        ("assistant", "Count them.", ("execute_code", {"language": "bash", "code": "ls | wc -l"})),
        ("tool", "220"),
        ("assistant", "", ("look", {"path": "/etc", "deep": {"n": None}}), ("look", {"path": "/"})),
        ("tool", ""),
        ("tool", "etc"),
        ("assistant", "<finish> 220 </finish>"),
    ]
    assert [m.reasoning_content for m in chat_of("adp", 0).messages if m.role == "assistant"] == [
        None,
        "One look.",
        "Now I know.",
    ]


def test_atif_steps_subagents_and_what_is_not_imitated() -> None:
    chat, subagent = (chat_of("atif", 0, part) for part in (0, 1))
    assert said(chat) == [
        ("system", "규칙"),
        ("user", "서울 날씨?"),
        ("assistant", "Copied."),
        ("user", "Go on"),
        ("assistant", "", ("get_weather", {"city": "서울"}), ("get_weather", {"city": "Oslo", "days": None})),
        ("tool", "snow"),
        ("tool", ""),
        ("assistant", "dispatch", ("get_weather", {})),
        ("tool", "sun"),
        ("assistant", "눈과 해."),
        ("user", "terminal shows $"),
        ("assistant", ""),
    ]
    assert [m.loss_weight for m in chat.messages if m.role == "assistant"] == [0.0, 1.0, 0.0, 0.5, 1.0]
    assert [m.tool_call_id for m in chat.messages[5:7]] == ["b", "a"]
    assert (chat.licence, chat.group) == ("mit", "weather") and (subagent.id, subagent.group) == ("t-sub", "weather")
    assert subagent.licence == "mit", "a subagent's steps are part of the run that says under which licence it stands"


def test_openhands_events_with_and_without_the_models_message() -> None:
    assert said(chat_of("openhands", 0)) == [
        ("user", "도와줘"),
        ("assistant", "Certainly!", ("run_ipython", {"code": "print(1)"})),
        ("tool", "1"),
        ("assistant", "끝났습니다."),
        ("user", ""),
        ("assistant", "bye"),
    ]
    with_message = chat_of("openhands", 1)
    assert said(with_message)[2:] == [
        (
            "assistant",
            "Look at both.",
            ("execute_bash", {"command": "ls", "is_input": "false"}),
            ("str_replace_editor", {"command": "view", "path": "/a"}),
        ),
        ("tool", "text"),
        ("tool", "a"),
        ("assistant", "Done."),
    ]
    assert [m.tool_call_id for m in with_message.messages[3:5]] == ["tc2", "tc1"]
    assert len(with_message.tools) == 1
    assert with_message.messages[2].reasoning_content == "Two at once."


# --- rules ---


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("toolbench", 1), ("toolbench_answers", 1), ("react", 1), ("swe_agent", 2), ("nebius_swe_agent", 1), ("swe_smith", 1),
        ("tau_bench", 1), ("atif", 1), ("openhands", 2), ("swe_rebench_openhands", 1), ("swe_gym_openhands", 1),
    ],
)  # fmt: skip
def test_failed_runs_are_imitated_only_when_asked_for(name: str, index: int) -> None:
    assert sample(name, index) == [Skip("outcome is failure")]
    assert isinstance(sample(name, index, outcomes=EVERY_OUTCOME)[0], Chat)


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("str", {"type": "string"}),
        ("STRING", {"type": "string"}),
        ("dict", {"type": "object"}),
        ("float", {"type": "number"}),
        ("any", {}),
        ("List[int]", {"type": "array", "items": {"type": "integer"}}),
        (
            "list[Dict[str, float]]",
            {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "number"}}},
        ),
        ("Tuple[int, str]", {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]}),
        ("tuple[int, ...]", {"type": "array", "items": {"type": "integer"}}),
        ("Optional[int]", {"type": ["integer", "null"]}),
        ("int | str", {"type": ["integer", "string"]}),
        ("Union[int, List[int]]", {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]}),
        ("Literal['가', 'b']", {"enum": ["가", "b"]}),
        ("Callable[[float], float]", None),
        ("datetime", None),
    ],
)
def test_types_in_python_become_json_schema(text: str, schema: Any) -> None:
    assert type_to_schema(text) == schema


@pytest.mark.parametrize(
    ("parameters", "required", "schema"),
    [
        ({}, None, {}),
        (
            {"type": "dict", "properties": {"a": {"type": "float", "items": {"type": "str"}}, "type": {"type": "any"}}},
            ["a"],
            {
                "type": "object",
                "properties": {"a": {"type": "number", "items": {"type": "string"}}, "type": {}},
                "required": ["a"],
            },
        ),
        (
            {
                "a": {"type": "int, default=5"},
                "b": {"type": "str, optional"},
                "c": {"type": "frame", "description": "C"},
            },
            None,
            {
                "type": "object",
                "properties": {
                    "a": {"type": "integer", "default": 5},
                    "b": {"type": "string"},
                    "c": {"description": "C (type: frame)"},
                },
                "required": ["c"],
            },
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string", "required": True}}},
            None,
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        ),
        (
            {"type": {"type": "str"}},
            None,
            {"type": "object", "properties": {"type": {"type": "string"}}, "required": ["type"]},
        ),
    ],
)
def test_parameters_in_every_style_become_json_schema(parameters: Any, required: Any, schema: Any) -> None:
    assert parameters_to_schema(parameters, required) == schema
    assert parameters_to_schema(schema) == schema


# --- nothing is lost ---

TAGS = st.sampled_from(["<tool_call>", "</think>", "<think>", "</tool_response>", "<tools>", "한국어 \n", "\n", " "])
TEXTS = st.lists(st.text(max_size=6) | TAGS, max_size=3).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
ARGUMENTS = st.dictionaries(TEXTS, VALUES, max_size=2)


@st.composite
def hostile_chats(draw: st.DrawFn) -> Chat:
    """Chats of any shape: reasoning, parallel calls answered in any order, an open call at the end, tags in every text."""
    messages = [Message(role="system", content=draw(TEXTS))] if draw(st.booleans()) else []
    number = 0
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            messages.append(Message(role="user", content=draw(TEXTS)))
        names = draw(st.lists(st.sampled_from(["f", "get.weather", "이름"]), max_size=3))
        calls = tuple(
            ToolCall(id=f"call_{number + place}", name=name, arguments=draw(ARGUMENTS))
            for place, name in enumerate(names)
        )
        number += len(calls)
        messages.append(
            Message(
                role="assistant",
                content=draw(TEXTS),
                reasoning_content=draw(st.none() | TEXTS),
                tool_calls=calls,
                weight=draw(st.sampled_from([None, 0.0, 1.0])),
            )
        )
        for call in draw(st.permutations(calls)):
            messages.append(Message(role="tool", content=draw(TEXTS), tool_call_id=call.id, name=call.name))
    if draw(st.booleans()):
        last = ToolCall(id=f"call_{number}", name="f", arguments={})
        messages.append(Message(role="assistant", content="", tool_calls=(last,)))
    described = st.builds(
        lambda description, properties: ToolSpec.model_validate(
            {
                "function": {
                    "name": "f",
                    "description": description,
                    "parameters": {"type": "object", "properties": properties},
                }
            }
        ),
        TEXTS,
        st.dictionaries(TEXTS, st.sampled_from([{"type": "string"}, {"enum": [1, None]}, {}]), max_size=2),
    )
    return Chat(messages=tuple(messages), tools=tuple(draw(st.lists(described, max_size=2))), id="x", source="made")


def as_text(chat: Chat) -> str:
    # As JSON text, because 1 == 1.0 == True in Python.
    return chat.model_dump_json(include={"messages", "tools"})


def atif_back(row: dict[str, Any]) -> Chat | Skip:
    [chat] = atif_row(row)
    return chat


READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "openai": openai_chat_row,
    "hermes": sharegpt_tools_row,
    "sharegpt": sharegpt_tools_row,
    "atif": atif_back,
    "glaive": glaive_v2_row,
    "react": react_row,
}
HOLDS_EVERYTHING = ("atif",)


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=60, deadline=None)
@given(chat=chats(control=True) | hostile_chats())
def test_what_is_exported_reads_back_as_the_same_chat(format: str, chat: Chat) -> None:
    row = FORMATS[format](chat)
    if isinstance(row, Skip):
        assert format not in HOLDS_EVERYTHING
        return
    first = READERS[format](json.loads(json.dumps(row, ensure_ascii=False)))
    assert isinstance(first, Chat)
    # A first reading numbers calls anew and names results after them; after that nothing may change.
    again = READERS[format](json.loads(json.dumps(FORMATS[format](first), ensure_ascii=False)))
    assert as_text(again) == as_text(first)
    assert first.tools == chat.tools
    assert [(m.role, m.content, m.reasoning_content, m.weight) for m in first.messages] == [
        (m.role, m.content, m.reasoning_content, m.weight) for m in chat.messages
    ]
    assert [[(c.name, json.dumps(c.arguments)) for c in m.tool_calls] for m in first.messages] == [
        [(c.name, json.dumps(c.arguments)) for c in m.tool_calls] for m in chat.messages
    ]


@pytest.mark.parametrize("write", [chat_to_hermes_row, chat_to_sharegpt_row])
@settings(max_examples=40, deadline=None)
@given(chat=chats(control=False))
def test_chats_without_the_formats_own_tags_are_never_left_out(write: Callable[[Chat], Any], chat: Chat) -> None:
    assert not isinstance(write(chat), Skip)


@pytest.mark.parametrize(
    ("write", "messages", "reason"),
    [
        (
            chat_to_hermes_row,
            [Message(role="assistant", content="<tool_call>")],
            "the format would read it back as another chat",
        ),
        (
            chat_to_sharegpt_row,
            [Message(role="assistant", content="<think>")],
            "the format would read it back as another chat",
        ),
        (
            chat_to_sharegpt_row,
            [
                Message(role="assistant", content="Words."),
                Message(role="assistant", tool_calls=(ToolCall(id="call_0", name="f", arguments={}),)),
            ],
            "the format would read it back as another chat",
        ),
    ],
)
def test_a_chat_that_would_change_is_left_out(
    write: Callable[[Chat], Any], messages: list[Message], reason: str
) -> None:
    chat = Chat(messages=(Message(role="user", content="q"), *messages), id="x", source="s")
    assert write(chat) == Skip(reason)


def test_glaive_and_react_write_what_they_read() -> None:
    for index in (0, 1, 2):
        chat = chat_of("glaive_function_calling_v2", index)
        row = chat_to_glaive_row(chat)
        assert isinstance(row, dict) and as_text(glaive_v2_row(row)) == as_text(chat)  # type: ignore[arg-type]
    for index in (0, 2):
        chat = chat_of("react", index)
        row = chat_to_react_row(chat)
        assert isinstance(row, dict) and as_text(react_row(row)) == as_text(chat)  # type: ignore[arg-type]
    assert "Action: search[세종대왕 [출생]]" in json.dumps(chat_to_react_row(chat_of("react", 0)), ensure_ascii=False)


@settings(max_examples=40, deadline=None)
@given(chat=hostile_chats())
def test_atif_keeps_what_it_has_no_field_for(chat: Chat) -> None:
    chat = chat.model_copy(update={"licence": "mit", "group": "과제"})
    back = atif_back(json.loads(json.dumps(chat_to_atif(chat))))
    assert back == chat


def test_atif_documents_are_valid_by_the_formats_own_models() -> None:
    models = pytest.importorskip("atif")
    chat = chat_of("atif", 0)
    models.Trajectory.model_validate(chat_to_atif(chat))
    models.Trajectory.model_validate(trajectory_to_atif(Trajectory.model_validate(record())))
    for line in (SAMPLES / "atif.jsonl").read_text(encoding="utf-8").splitlines()[:4]:
        models.Trajectory.model_validate_json(line)


def test_a_trajectory_goes_through_atif_with_its_outcome_and_times() -> None:
    good = Trajectory.model_validate(record())
    row = trajectory_to_atif(good)
    assert row["extra"]["outcome"] == "success" and row["extra"]["category"] == "file-ops"
    assert row["steps"][1]["timestamp"] == "2026-11-21T09:00:00+00:00"
    direct = trajectory_to_chat(good)
    assert isinstance(direct, Chat) and as_text(atif_back(row)) == as_text(direct)  # type: ignore[arg-type]
    failed = trajectory_to_atif(Trajectory.model_validate(record(outcome="failure")))
    assert atif_row(failed) == [Skip("outcome is failure")]
    assert isinstance(atif_row(failed, outcomes=EVERY_OUTCOME)[0], Chat)


@settings(max_examples=40, deadline=None)
@given(ARGUMENTS, TEXTS, VALUES)
def test_the_trajectory_schema_reads_back_what_it_writes(arguments: dict[str, Any], text: str, output: Any) -> None:
    row = record()
    row["action_sequence"][1].update(input=arguments, output=output, text=text, reasoning=text)
    first = Trajectory.model_validate(row)
    again = Trajectory.model_validate_json(first.to_json())
    assert again.to_json() == first.to_json()
    assert trajectory_row(json.loads(first.to_json())) == trajectory_to_chat(first)
    assert json.dumps(json.loads(first.to_json())["action_sequence"][1]["input"]) == json.dumps(arguments)


# --- every sample, and every adapter on foreign rows ---

TOOL_ADAPTERS = (
    "openai_chat", "sharegpt_tools", "llama_factory_v1", "hermes_function_calling_v1", "glaive_function_calling_v2",
    "xlam_function_calling_60k", "apigen_mt_5k", "toolace", "toucan_1_5m", "toolbench", "toolbench_answers", "toolalpaca",
    "react", "agent_instruct", "swe_agent", "nebius_swe_agent", "swe_smith", "tau_bench", "tau2_bench", "adp", "atif",
    "openhands", "swe_rebench_openhands", "swe_gym_openhands",
)  # fmt: skip


@pytest.mark.parametrize("name", TOOL_ADAPTERS)
def test_kept_samples_survive_every_lossless_format(name: str) -> None:
    for line in (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        for chat in adapt(ADAPTERS[name], json.loads(line)):
            if isinstance(chat, Chat):
                assert as_text(openai_chat_row(json.loads(json.dumps(chat_to_openai_row(chat))))) == as_text(chat)  # type: ignore[arg-type]
                assert as_text(atif_back(json.loads(json.dumps(chat_to_atif(chat))))) == as_text(chat)  # type: ignore[arg-type]


def results_of(name: str, row: dict[str, Any]) -> list[Any]:
    """What an adapter makes of a row; nothing where a key of another format asks the user what it means."""
    try:
        return list(adapt(ADAPTERS[name], row))
    except Undecided:
        return []


@pytest.mark.parametrize("name", TOOL_ADAPTERS)
def test_foreign_rows_are_skips_and_never_errors(name: str) -> None:
    files = (path for path in SAMPLES.glob("*.jsonl") if path.name != "trajectories_broken.jsonl")
    rows = [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    rows += [
        {},
        {"messages": None},
        {"messages": [{}]},
        {"conversations": [{}]},
        {"conversations": [{"from": 1, "value": 2}]},
    ]
    rows += [
        {"steps": [{}]},
        {"content": [{}]},
        {"trajectory": [{}]},
        {"history": [{"action": 1}]},
        {"traj": [[]], "reward": 1},
    ]
    for row in rows:
        for result in results_of(name, row):
            assert isinstance(result, Chat | Skip)
        if (matches := ADAPTERS[name].matches) is not None:
            matches([row])


JUNK: tuple[Any, ...] = (None, True, 0, -1.5, "", "x", [], {}, [[]], [{}], [None], {"a": []})


def broken(value: Any) -> Iterator[Any]:
    """The value with one thing in it replaced by junk, for everything in it; JSON in a text is looked into as well."""
    yield from JUNK
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            yield from map(json.dumps, broken(json.loads(value)))
        except ValueError:
            return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        for part in broken(item):
            copy = value.copy()
            copy[key] = part
            yield copy
        rest = value.copy()
        del rest[key]
        yield rest


@pytest.mark.parametrize("name", TOOL_ADAPTERS)
def test_broken_rows_are_skips_and_never_errors(name: str) -> None:
    for line in (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        for row in broken(json.loads(line)):
            if isinstance(row, dict):
                for result in results_of(name, row):
                    assert isinstance(result, Chat | Skip)


# --- the command ---


@pytest.mark.parametrize("format", FORMATS)
def test_export_command_writes_rows_and_counts(tmp_path: Path, format: str) -> None:
    chats_file, out = tmp_path / "chats.jsonl", tmp_path / "out.jsonl"
    good = chat_of(
        {"glaive": "glaive_function_calling_v2", "react": "react"}.get(format, "hermes_function_calling_v1"), 0
    )
    calls = tuple(ToolCall(id=f"call_{number}", name="f", arguments={}) for number in (0, 1))
    results = [Message(role="tool", content="x", tool_call_id=f"call_{number}", name="f") for number in (1, 0)]
    reordered = good.model_copy(update={"messages": (Message(role="assistant", tool_calls=calls), *results)})
    chats_file.write_text(good.model_dump_json() + "\n" + reordered.model_dump_json() + "\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["export", "--format", format, str(chats_file), "--out", str(out)])
    assert result.exit_code == 0, result.output
    counts = json.loads((tmp_path / "out.counts.json").read_text(encoding="utf-8"))
    dropped = 0 if format in ("openai", "atif") else 1  # the others have no ids of calls
    assert (counts["read"], counts["kept"], sum(counts["dropped"].values())) == (2, 2 - dropped, dropped)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert as_text(READERS[format](rows[0])) == as_text(good)


def test_export_of_trajectories_keeps_failures_and_an_unknown_format_names_the_nearest(tmp_path: Path) -> None:
    source, out = tmp_path / "t.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps(record(outcome="failure")) + "\n", encoding="utf-8")
    arguments = ["export", "--adapter", "trajectory", str(source), "--out", str(out), "--format"]
    assert CliRunner().invoke(app, [*arguments, "atif"]).exit_code == 0
    assert json.loads(out.read_text(encoding="utf-8"))["extra"]["outcome"] == "failure"
    assert "Did you mean 'atif'?" in str(CliRunner().invoke(app, [*arguments, "atiff"]).exception)
    assert "no chat of 1 can be written as openai" in str(CliRunner().invoke(app, [*arguments, "openai"]).exception)
