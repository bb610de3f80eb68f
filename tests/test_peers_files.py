"""Rows as other trainers' own files have them: axolotl, LLaMA-Factory's v1, tinker, ms-swift, NVIDIA's sets, through `auto`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data.chats import Chat, PreferencePair, Result, Skip
from data.formats.inputs import find_input
from data.formats.reading import read_adapted
from data.formats.recognise import find_parts

ASKED = {"role": "user", "content": "서울 날씨?"}
TOOL = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
ONLY_A_PART = "a turn of which only a part is learned"


def read(tmp_path: Path, *rows: dict[str, Any]) -> tuple[str, list[Result]]:
    """The adapter that `auto` takes, and what it makes of the rows."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    (part,) = find_parts("auto", find_input(str(file)), may_import=False)
    return part.adapter.name, [result for _, result in read_adapted(part.adapter, part.source)]


def chat(tmp_path: Path, row: dict[str, Any]) -> Chat:
    (made,) = read(tmp_path, row)[1]
    assert isinstance(made, Chat), made
    return made


def of_model(made: Chat) -> list[Any]:
    return [
        (m.reasoning_content, m.content, [(c.name, c.arguments) for c in m.tool_calls], m.weight)
        for m in made.messages
        if m.role == "assistant"
    ]


# --- axolotl ---


def details(*flags: bool) -> list[dict[str, Any]]:
    return [{"begin_offset": 3 * n, "end_offset": 3 * n + 2, "train": flag} for n, flag in enumerate(flags)]


@pytest.mark.parametrize(
    ("turn", "weight"),
    [
        ({"train_detail": details(True, False)}, ONLY_A_PART),
        ({"train_detail": details(False, False)}, 0),
        ({"train_detail": details(True)}, 1),
        ({"train_detail": []}, None),
        ({"train_detail": None, "train": False}, 0),
        ({"train_detail": details(True), "train": False}, 1),
        (
            {"train_detail": [{"begin_offset": 0, "end_offset": 1, "train": "perhaps"}]},
            "weight is no number from 0 to 1",
        ),
    ],
)
def test_weights_of_parts_are_the_turns_or_the_row_is_left_out(
    tmp_path: Path, turn: dict[str, Any], weight: float | str | None
) -> None:
    turns = [{"from": "human", "value": "잘 지내?"}, {"from": "gpt", "value": "잘 지내요", **turn}]
    ((made,),) = [read(tmp_path, {"conversations": turns})[1]]
    if isinstance(weight, str):
        assert made == Skip(weight)
    else:
        assert isinstance(made, Chat) and [m.weight for m in made.messages] == [None, weight]


@pytest.mark.parametrize(
    ("flags", "turn", "weight"),
    [
        ((False, True), {}, ONLY_A_PART),
        ((False, None), {}, ONLY_A_PART),
        ((False, None), {"weight": 0}, 0),
        ((False, False), {}, 0),
        ((None, None), {"train": False}, 0),
        ((True, None), {}, 1),
    ],
)
def test_flags_of_parts_of_a_content_are_obeyed(
    tmp_path: Path, flags: tuple[bool | None, ...], turn: dict[str, Any], weight: float | str
) -> None:
    marks = [{} if flag is None else {"train": flag} for flag in flags]
    parts = [{"type": "text", "text": text, **mark} for text, mark in zip(("먼저 ", "답"), marks, strict=True)]
    (made,) = read(tmp_path, {"messages": [ASKED, {"role": "assistant", "content": parts, **turn}]})[1]
    if isinstance(weight, str):
        assert made == Skip(weight)
    else:
        assert isinstance(made, Chat) and of_model(made) == [(None, "먼저 답", [], weight)]


def test_axolotls_prompts_of_kto_rows_are_read(tmp_path: Path) -> None:
    for column in ("prompt", "instruction", "question"):
        name, (made,) = read(tmp_path, {"system": "짧게.", column: "뭐야?", "completion": "고양이", "label": True})
        assert name == "trl_prompt_completion" and isinstance(made, Chat)
        assert [(m.role, m.content) for m in made.messages] == [
            ("system", "짧게."),
            ("user", "뭐야?"),
            ("assistant", "고양이"),
        ]


# --- LLaMA-Factory's v1 ---


def part(value: str, kind: str = "text") -> dict[str, str]:
    return {"type": kind, "value": value}


def test_typed_parts_need_no_tools_and_mix_with_what_cannot_be_held(tmp_path: Path) -> None:
    thought = {"role": "assistant", "content": [part("음", "reasoning"), part("네")], "loss_weight": 0.5}
    asked = {"role": "user", "content": [part("서울은?")], "loss_weight": 0.0}
    seen = {"role": "user", "content": [part("https://x.y/z.png", "image_url"), part("뭐야?")]}
    name, (made, picture) = read(tmp_path, {"messages": [asked, thought]}, {"messages": [seen, thought]})
    assert name == "llama_factory_v1" and picture == Skip("content that is not text")
    assert isinstance(made, Chat) and of_model(made) == [("음", "네", [], 0.5)]


def test_pairs_of_typed_parts_are_pairs(tmp_path: Path) -> None:
    sides = {
        f"{side}_messages": [
            {"role": "user", "content": [part("서울은?")]},
            {"role": "assistant", "content": [part(text)]},
        ]
        for side, text in (("chosen", "맑음"), ("rejected", "몰라"))
    }
    (made,) = read(tmp_path, sides)[1]
    assert isinstance(made, PreferencePair)
    assert (made.prompt[0].content, made.chosen[0].content, made.rejected[0].content) == ("서울은?", "맑음", "몰라")


# --- tinker ---


def call(city: str, own_id: str) -> dict[str, Any]:
    return {
        "type": "function",
        "id": own_id,
        "function": {"name": "get_weather", "arguments": json.dumps({"city": city})},
    }


def test_tinkers_thoughts_calls_and_trainable_flags_are_read(tmp_path: Path) -> None:
    thinks = [{"type": "thinking", "thinking": "둘 다"}, {"type": "text", "text": "봅니다"}]
    calls = [call("서울", "a"), call("부산", "b")]
    results = [{"role": "tool", "tool_call_id": name, "name": "get_weather", "content": name} for name in ("b", "a")]
    end = {"role": "assistant", "content": "끝", "trainable": True}
    asks = {"role": "assistant", "content": thinks, "tool_calls": calls, "trainable": False}
    made = chat(tmp_path, {"messages": [ASKED, asks, *results, end]})
    cities = [("get_weather", {"city": city}) for city in ("서울", "부산")]
    assert of_model(made) == [("둘 다", "봅니다", cities, 0), (None, "끝", [], 1)]
    in_parts = {
        "role": "assistant",
        "content": [*thinks, *({"type": "tool_call", "tool_call": each} for each in calls)],
    }
    again = chat(tmp_path, {"messages": [ASKED, {**in_parts, "trainable": False}, *results, end]})
    assert again.messages == made.messages


def test_a_call_that_nobody_could_parse_is_not_lost_in_silence(tmp_path: Path) -> None:
    broken = {"raw_text": "<tool_call>{x</tool_call>", "error": "Invalid JSON"}
    beside = {"role": "assistant", "content": "음", "unparsed_tool_calls": [broken]}
    inside = {
        "role": "assistant",
        "content": [{"type": "text", "text": "음"}, {"type": "unparsed_tool_call", **broken}],
    }
    good = {"role": "assistant", "content": [{"type": "thinking", "thinking": "t"}], "tool_calls": [call("서울", "a")]}
    made = read(tmp_path, *({"messages": [ASKED, turn]} for turn in (beside, inside, good)))[1]
    assert made[:2] == [Skip("a call that cannot be read")] * 2 and isinstance(made[2], Chat)


# --- tools in a column of details ---


@pytest.mark.parametrize("as_text", [True, False])
def test_tools_in_metadata_are_the_rows_where_it_has_no_others(tmp_path: Path, as_text: bool) -> None:
    asks = {"role": "assistant", "content": "", "tool_calls": [call("서울", "a")]}
    messages = [
        ASKED,
        asks,
        {"role": "tool", "tool_call_id": "a", "content": "3"},
        {"role": "assistant", "content": "3도"},
    ]
    details = {"tools": [{"type": "function", "function": TOOL}]}
    row = {"messages": messages, "metadata": json.dumps(details) if as_text else details}
    assert [tool.function.name for tool in chat(tmp_path, row).tools] == ["get_weather"]
    own = {**row, "tools": [{"name": "other", "parameters": {}}]}
    assert [tool.function.name for tool in chat(tmp_path, own).tools] == ["other"]


# --- traces ---


def span(number: int, attributes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"traceId": "t", "spanId": f"s{number}", "name": "x", "attributes": attributes, **more}


def numbered(prefix: str, *messages: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{n}.{key}": value for n, message in enumerate(messages) for key, value in message.items()}


def test_what_openllmetry_writes_of_anthropics_blocks_is_read(tmp_path: Path) -> None:
    """A thought is a message of its own, a content is JSON text, and beside calls it may be an empty list."""
    words = json.dumps([{"type": "text", "text": "봅니다"}])
    result = json.dumps([{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "맑음"}]}])
    calls = {"tool_calls.0.id": "t1", "tool_calls.0.name": "f", "tool_calls.0.arguments": '{"a": 1}'}
    for content, said in (("[]", ""), (words, "봅니다")):
        asked = numbered(
            "gen_ai.prompt",
            {"role": "user", "content": "질문"},
            {"role": "assistant", "content": content, **calls},
            {"role": "user", "content": result},
        )
        answer = numbered(
            "gen_ai.completion", {"role": "thinking", "content": "음"}, {"role": "assistant", "content": "끝"}
        )
        made = chat(tmp_path, span(1, {**asked, **answer}))
        assert of_model(made) == [(None, said, [("f", {"a": 1})], None), ("음", "끝", [], None)]
        assert [m.content for m in made.messages if m.role == "tool"] == ["맑음"]


def test_a_result_that_is_a_list_of_text_parts_is_their_text(tmp_path: Path) -> None:
    def said(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
        return {"role": role, "parts": list(parts)}

    result = {
        "type": "tool_call_response",
        "id": "c",
        "response": [{"type": "text", "text": "맑"}, {"type": "text", "text": "음"}],
    }
    given = [
        said("user", {"type": "text", "content": "질문"}),
        said("assistant", {"type": "tool_call", "id": "c", "name": "f", "arguments": {}}),
        said("tool", result),
    ]
    made = [said("assistant", {"type": "text", "content": "끝"})]
    row = span(1, {"gen_ai.input.messages": json.dumps(given), "gen_ai.output.messages": json.dumps(made)})
    assert [m.content for m in chat(tmp_path, row).messages if m.role == "tool"] == ["맑음"]


def test_calls_that_langchain_leaves_in_additional_kwargs_are_not_lost(tmp_path: Path) -> None:
    asks = {
        "role": "assistant",
        "content": "",
        "additional_kwargs": {"reasoning_content": "음", "tool_calls": [call("서울", "a")]},
    }
    row = {"id": "o", "traceId": "t", "type": "GENERATION", "input": [ASKED], "output": asks}
    assert of_model(chat(tmp_path, row)) == [("음", "", [("get_weather", {"city": "서울"})], None)]


ANSWER = {"role": "assistant", "content": "끝", "tool_calls": [call("서울", "a"), call("부산", "b")]}


def wrapped(message: dict[str, Any]) -> dict[str, Any]:
    """A message as OpenInference wraps each thing."""
    calls = [{"tool_call": {key: each[key] for key in ("id", "function")}} for each in message.get("tool_calls", ())]
    return {"message": {**message, "tool_calls": calls} if calls else message}


def dotted(value: dict[str, Any]) -> dict[str, Any]:
    """The same with dots in the place of objects in objects."""
    made: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            made |= {f"{key}.{inner}": each for inner, each in dotted(item).items()}
        else:
            made[key] = [dotted(each) for each in item] if isinstance(item, list) else item
    return made


def test_phoenix_exports_spans_as_objects_or_columns(tmp_path: Path) -> None:
    tool = {"tool": {"json_schema": json.dumps({"type": "function", "function": TOOL})}}
    model = {"input_messages": [wrapped(ASKED)], "output_messages": [wrapped(ANSWER)], "tools": [tool]}
    span_ids = {"trace_id": "t", "span_id": "s"}
    nested = {
        "name": "x",
        "context": span_ids,
        "attributes": {"llm": model, "openinference": {"span": {"kind": "LLM"}}},
    }
    table = {
        "name": "x",
        **dotted({"context": span_ids}),
        **dotted({"attributes": {"llm": model}}),
        "attributes.other": None,
    }
    for row in (nested, table):
        made = chat(tmp_path, row)
        cities = [("get_weather", {"city": city}) for city in ("서울", "부산")]
        assert (made.id, of_model(made)) == ("s", [(None, "끝", cities, None)])
        assert [tool.function.name for tool in made.tools] == ["get_weather"]
        assert [each.id for each in made.messages[-1].tool_calls] == ["a", "b"]


def agent_span(number: int, parent: str, operation: str, text: str) -> dict[str, Any]:
    def said(role: str, words: str) -> str:
        return json.dumps([{"role": role, "parts": [{"type": "text", "content": words}]}])

    attributes = {"gen_ai.operation.name": operation, "gen_ai.input.messages": said("user", f"{text}?")}
    return span(number, attributes | {"gen_ai.output.messages": said("assistant", text)}, parentSpanId=parent)


def test_an_agents_own_span_is_read_where_its_requests_were_not_recorded(tmp_path: Path) -> None:
    """One agent with its request, one below it without, and one whose only request is that of another agent."""
    rows = [
        agent_span(0, "", "invoke_agent", "첫째"),
        agent_span(1, "s0", "chat", "첫째"),
        agent_span(2, "s0", "invoke_agent", "둘째"),
        agent_span(3, "", "invoke_agent", "셋째"),
        agent_span(4, "s3", "invoke_agent", "넷째"),
        agent_span(5, "s4", "chat", "넷째"),
    ]
    made = read(tmp_path, *rows)[1]
    assert [result.id for result in made if isinstance(result, Chat)] == ["s1", "s2", "s3", "s5"]
    flat = [{key: value for key, value in row.items() if key != "parentSpanId"} for row in rows]
    made = read(tmp_path, *flat)[1]
    assert [result.id for result in made if isinstance(result, Chat)] == ["s1", "s5"]
