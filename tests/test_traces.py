"""Traces: spans of one conversation become one chat, and what a span says comes back whatever way it is written."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import UserError
from data.chats import Chat, Message, Skip
from data.formats.catalogue import ADAPTERS
from data.formats.inputs import find_input
from data.formats.openai_chat import chat_to_openai_row, openai_chat_row
from data.formats.reading import adapt, read_adapted
from data.formats.recognise import find_adapter
from data.formats.traces import BEGINNING, without_beginnings
from data.sets.convert import convert
from support.made_chats import chats
from support.paths import SAMPLES

TRACES = ("otel_genai", "langfuse")


def read(path: Path, name: str) -> list[Chat | Skip]:
    return [result for _, result in read_adapted(ADAPTERS[name], path) if isinstance(result, Chat | Skip)]


def chats_of(path: Path, name: str) -> list[Chat]:
    return [result for result in read(path, name) if isinstance(result, Chat)]


def as_text(chat: Any) -> str:
    """All that was said and declared; without ids of rows."""
    assert isinstance(chat, Chat), chat
    return chat.model_dump_json(exclude={"id", "source", "group", "licence"})


def write_rows(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def sample_rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


# --- a chat written as a span ---


def message_to_otel(message: Message) -> dict[str, Any]:
    if message.role == "tool":
        return {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": message.tool_call_id, "response": message.content}],
        }
    thought = [{"type": "reasoning", "content": message.reasoning_content}] if message.reasoning_content else []
    calls = [{"type": "tool_call", "id": c.id, "name": c.name, "arguments": c.arguments} for c in message.tool_calls]
    parts = [*thought, {"type": "text", "content": message.content}, *calls]
    weight = {} if message.weight is None else {"weight": message.weight}
    return {"role": message.role, "parts": parts, **weight}


def typed(value: Any) -> dict[str, Any]:
    """A value as OTLP's JSON writes it."""
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, str | float):
        return {"stringValue" if isinstance(value, str) else "doubleValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, list):
        return {"arrayValue": {"values": [typed(item) for item in value]}}
    return {"kvlistValue": {"values": [{"key": key, "value": typed(item)} for key, item in value.items()]}}


def chat_to_attributes(chat: Chat) -> dict[str, Any]:
    *asked, answer = [message_to_otel(message) for message in chat.messages]
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": asked,
        "gen_ai.output.messages": [{**answer, "finish_reason": "stop"}],
        "gen_ai.tool.definitions": [{"type": "function", **tool.function.model_dump()} for tool in chat.tools],
    }


@given(chats(reasoning=True))
@settings(max_examples=60, deadline=None)
def test_a_chat_comes_back_from_a_span_in_every_way_of_writing_it(chat: Chat) -> None:
    if chat.messages[-1].role != "assistant":
        return
    want = as_text(openai_chat_row(json.loads(json.dumps(chat_to_openai_row(chat)))))
    attributes = chat_to_attributes(chat)
    listed = typed(attributes)["kvlistValue"]["values"]
    ways = (
        attributes,
        {key: value if isinstance(value, str) else json.dumps(value) for key, value in attributes.items()},
        listed,
    )
    for way in ways:
        span = {"traceId": "t", "spanId": "s", "attributes": way}
        for row in (span, {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}):
            (made,) = adapt(ADAPTERS["otel_genai"], json.loads(json.dumps(row)))
            assert as_text(made) == want


@given(chats(reasoning=True))
@settings(max_examples=60, deadline=None)
def test_a_chat_comes_back_from_an_observation(chat: Chat) -> None:
    row = json.loads(json.dumps(chat_to_openai_row(chat)))
    *asked, answer = row["messages"]
    if answer["role"] != "assistant":
        return
    one = {"id": "o", "traceId": "t", "type": "GENERATION"}
    tools = row.get("tools")
    ways = [
        {"input": asked, "output": answer, "metadata": {"tools": tools}},
        {"input": {"messages": asked, "tools": tools}, "output": {"choices": [{"message": answer}]}},
    ]
    for way in ways:
        as_json = {key: json.dumps(value) for key, value in way.items()}
        for columns in (way, as_json):
            (made,) = adapt(ADAPTERS["langfuse"], {**one, **columns})
            assert as_text(made) == as_text(openai_chat_row(row))


@pytest.mark.parametrize("name", TRACES)
def test_kept_samples_survive_openai_rows(name: str) -> None:
    kept = chats_of(SAMPLES / f"{name}.jsonl", name)
    assert len(kept) > 5
    for chat in kept:
        row = json.loads(json.dumps(chat_to_openai_row(chat)))
        assert as_text(openai_chat_row(row)) == as_text(chat)


# --- spans of one conversation ---


@given(chats(reasoning=True), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_of_all_beginnings_of_a_chat_only_the_whole_stays(chat: Chat, random: Any) -> None:
    ends = [place + 1 for place, message in enumerate(chat.messages) if message.role == "assistant"]
    spans = [chat.model_copy(update={"messages": chat.messages[:end], "id": str(end)}) for end in ends]
    whole = spans[-1]
    random.shuffle(spans)
    made = without_beginnings(spans)
    assert [result for result in made if result is not BEGINNING] == [whole]
    assert made.count(BEGINNING) == len(spans) - 1


def two_turns(first: str | None, again: str | None, *, system: str = "s") -> list[Chat]:
    asked = (Message(role="system", content=system), Message(role="user", content="q"))
    short = Chat(messages=(*asked, Message(role="assistant", content="a", reasoning_content=first)), id="1", source="")
    more = (
        Message(role="assistant", content="a", reasoning_content=again),
        Message(role="user", content="r"),
        Message(role="assistant", content="b", reasoning_content="last"),
    )
    return [short, Chat(messages=(*asked, *more), id="2", source="")]


def test_a_thought_that_the_history_lacks_is_put_into_it() -> None:
    made = without_beginnings(two_turns("first", None))
    assert made[0] is BEGINNING and isinstance(made[1], Chat)
    assert [message.reasoning_content for message in made[1].messages] == [None, None, "first", None, "last"]


def test_what_is_no_beginning_stays() -> None:
    for spans in (
        two_turns("one thought", "another"),
        [two_turns(None, None)[0], two_turns(None, None, system="another prompt")[1]],
        [two_turns(None, None)[1]] * 2,  # equal ones; `curate dedup` decides over them
    ):
        assert without_beginnings(spans) == spans


def test_another_set_of_tools_is_another_context() -> None:
    tool = ADAPTERS["openai_chat"]
    (with_tools,) = adapt(tool, {
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    })  # fmt: skip
    assert isinstance(with_tools, Chat)
    more = (*with_tools.messages, Message(role="user", content="r"), Message(role="assistant", content="b"))
    without_tools = with_tools.model_copy(update={"tools": (), "messages": more})
    assert without_beginnings([with_tools, without_tools]) == [with_tools, without_tools]


@pytest.mark.parametrize("name", TRACES)
def test_spans_are_put_together_wherever_they_stand(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = sorted(map(as_text, chats_of(SAMPLES / f"{name}.jsonl", name)))
    monkeypatch.setattr("data.formats.json_documents.CHUNK_BYTES", 500)
    rows = sample_rows(name)
    for order in (rows, rows[::-1], rows[1::2] + rows[::2]):
        assert sorted(map(as_text, chats_of(write_rows(tmp_path / "rows.jsonl", *order), name))) == want


@pytest.mark.parametrize("name", TRACES)
def test_spans_in_a_list_are_those_of_lines(name: str, tmp_path: Path) -> None:
    listed = tmp_path / "rows.json"
    listed.write_text(json.dumps(sample_rows(name), indent=1), encoding="utf-8")
    assert read(listed, name) == read(SAMPLES / f"{name}.jsonl", name)


def test_an_export_over_lines_is_read_and_counted_by_its_spans(tmp_path: Path) -> None:
    (exported,) = [row for row in sample_rows("otel_genai") if "resourceSpans" in row]
    path = tmp_path / "traces.json"
    path.write_text(json.dumps(exported, indent=2), encoding="utf-8")
    counts = convert(find_input(str(path)), tmp_path / "out.jsonl")
    assert counts["adapter"] == "otel_genai" and counts["kept"] == 2
    assert counts["dropped"] == {"a span that is no request to a model": 2, "a reply that was cut off": 1}
    assert counts["read"] == counts["rows"] == 5


def test_observations_in_csv_are_those_of_lines(tmp_path: Path) -> None:
    rows = [row for row in sample_rows("langfuse") if "traceId" in row]
    columns = {column: None for row in rows for column in row}
    with open(tmp_path / "rows.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        for row in rows:
            as_text = {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in row.items()}
            writer.writerow({key: "" if value == "null" else value for key, value in as_text.items()})
    found, _ = find_adapter("auto", find_input(str(tmp_path / "rows.csv")), may_import=False)
    assert found.name == "langfuse"
    lines = write_rows(tmp_path / "rows.jsonl", *rows)
    assert read(tmp_path / "rows.csv", "langfuse") == read(lines, "langfuse")


# --- what else a file of traces holds ---


def test_a_trace_is_recognised_among_spans_of_servers(tmp_path: Path) -> None:
    chat = next(row for row in sample_rows("otel_genai") if row.get("spanId") == "a001")
    others = [
        {"traceId": "5b8a", "spanId": f"h{n}", "name": "GET /", "attributes": {"http.route": "/"}} for n in range(30)
    ]
    path = write_rows(tmp_path / "rows.jsonl", *others[:15], chat, *others[15:])
    counts = convert(find_input(str(path)), tmp_path / "out.jsonl")
    assert (counts["adapter"], counts["kept"]) == ("otel_genai", 1)
    assert counts["dropped"] == {"a span that is no request to a model": 30}


def test_a_score_of_a_trace_stops_the_command(tmp_path: Path) -> None:
    trace = next(row for row in sample_rows("langfuse") if "observations" in row)
    path = write_rows(tmp_path / "rows.jsonl", {**trace, "scores": [{"name": "helpful", "value": 0.2}]})
    with pytest.raises(UserError, match=re.escape("scores")):
        convert(find_input(str(path)), tmp_path / "out.jsonl", adapter="langfuse")


def test_attributes_that_were_not_read_are_told(tmp_path: Path) -> None:
    counts = convert(find_input(str(SAMPLES / "otel_genai.jsonl")), tmp_path / "out.jsonl")
    assert "attributes" in counts["not_read"] and not {"events", "gen_ai.input.messages"} & counts["not_read"].keys()
    assert counts["read"] == counts["kept"] + sum(counts["dropped"].values())
