"""What logs of agents need: tools that nobody declared, windows of long sessions, ratings in another file."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.chats import Chat, Message, ToolCall
from data.formats.catalogue import ADAPTERS
from data.formats.inferred_tools import calls_to_tools, with_inferred_tools
from data.formats.model_terms import maker_of
from data.formats.openai_chat import chat_to_openai_row, openai_chat_row
from data.formats.reading import adapt
from data.sets.prepared import read_prepared
from data.sets.windows import CountTokens, Windows, chat_to_windows, count_by_bytes
from support.commands import Run
from support.made_chats import chats
from support.paths import SAMPLES


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def chats_in(path: Path) -> list[Chat]:
    return [Chat.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]


def session(steps: int) -> list[dict[str, Any]]:
    """A session of Claude Code with so many calls."""
    lines: list[dict[str, Any]] = []

    def say(kind: str, content: Any) -> None:
        own = str(len(lines))
        parent = str(len(lines) - 1) if lines else None
        message = {"role": kind, "content": content}
        lines.append({"type": kind, "uuid": own, "parentUuid": parent, "sessionId": "s", "message": message})

    say("user", "파일을 모두 읽어 줘")
    for n in range(steps):
        arguments = {"path": f"{n}.txt", **({"limit": n} if n % 2 else {})}
        say("assistant", [{"type": "tool_use", "id": f"c{n}", "name": "read", "input": arguments}])
        say("user", [{"type": "tool_result", "tool_use_id": f"c{n}", "content": f"{n} " + "가나다 " * 40}])
    say("assistant", "다 읽었어요")
    return lines


# --- tools ---


def test_schemas_of_undeclared_tools_say_what_calls_show_and_no_more() -> None:
    calls = [
        ToolCall(id="1", name="f", arguments={"a": 1, "b": "x", "c": [{"k": 1}, {"k": 2, "j": None}]}),
        ToolCall(id="2", name="f", arguments={"a": 1.5, "c": []}),
    ]
    (tool,) = calls_to_tools(calls)
    assert tool.function.parameters == {
        "type": "object",
        "properties": {
            "a": {"type": "number"},
            "b": {"type": "string"},
            "c": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"k": {"type": "integer"}, "j": {"type": "null"}},
                    "required": ["k"],
                },
            },
        },
        "required": ["a", "c"],
    }


def test_tools_of_a_log_are_marked_as_inferred_and_those_of_a_file_are_not(tmp_path: Path, run: Run) -> None:
    log = write(tmp_path / "s.jsonl", session(3))
    run("convert", log, "--out", tmp_path / "out.jsonl")
    (chat,) = chats_in(tmp_path / "out.jsonl")
    assert chat.inferred_tools == ("read",)
    assert chat.tools[0].function.parameters["required"] == ["path"]
    assert openai_chat_row(json.loads(json.dumps(chat_to_openai_row(chat)))).inferred_tools == ("read",)  # type: ignore[union-attr] # no Skip
    told = [
        {"name": "read", "description": "Read a file.", "input_schema": {"type": "object", "properties": {}}},
        {"name": "ls"},
    ]
    (tmp_path / "tools.json").write_text(json.dumps({"tools": told}), encoding="utf-8")
    run("convert", log, "--tools", tmp_path / "tools.json", "--out", tmp_path / "out.jsonl")
    (chat,) = chats_in(tmp_path / "out.jsonl")
    assert [tool.function.name for tool in chat.tools] == ["read", "ls"]
    assert chat.tools[0].function.description == "Read a file."
    assert not chat.inferred_tools
    (tmp_path / "tools.json").write_text("[1", encoding="utf-8")
    code, _, error = run("convert", log, "--tools", tmp_path / "tools.json", "--out", tmp_path / "out.jsonl")
    assert code == 2 and "tools.json: no JSON" in error


@given(chats(tools=True))
@settings(max_examples=30, deadline=None)
def test_tools_that_a_chat_declares_stay_as_they_are(chat: Chat) -> None:
    (made,) = with_inferred_tools([chat])
    assert made.tools[: len(chat.tools)] == chat.tools
    called = {call.name for message in chat.messages for call in message.tool_calls}
    assert called <= {tool.function.name for tool in made.tools}


# --- windows ---


def said(message: Message) -> str:
    return message.model_dump_json()


def count_by_words(text: str) -> int:
    """As a tokenizer counts, to which a text is no sum of its bytes."""
    return len(re.findall(r"\w+|\W", text))


@pytest.mark.parametrize("count", [count_by_bytes, count_by_words])
@given(chats(tools=True, reasoning=True), st.integers(1, 400))
@settings(max_examples=100, deadline=None)
def test_windows_hold_every_target_once_and_cut_no_call_from_its_result(
    count: CountTokens, chat: Chat, tokens: int
) -> None:
    windows = chat_to_windows(chat, tokens, count).chats
    trained = [said(m) for m in chat.messages if m.loss_weight > 0]
    assert [said(m) for w in windows for m in w.messages if m.loss_weight > 0] == trained
    whole = count(chat.model_dump_json())
    assert chat_to_windows(chat, 4 * whole + 400, count) == Windows([chat])
    begin = next(n for n, m in enumerate(chat.messages) if m.role == "assistant")
    for window in windows:
        assert window.messages[:begin] == chat.messages[:begin]
        assert window.tools == chat.tools
        assert Chat.model_validate(window.model_dump()) == window  # each result has its call
        asked = {call.id for m in window.messages for call in m.tool_calls}
        answered = {m.tool_call_id for m in chat.messages if m.tool_call_id in asked}
        assert answered <= {m.tool_call_id for m in window.messages}
    assert len({window.id for window in windows}) == len(windows)
    assert len({window.group for window in windows}) == 1


def test_a_session_of_300_turns_becomes_windows_that_fit_and_a_set_on_one_side(tmp_path: Path, run: Run) -> None:
    log = write(tmp_path / "s.jsonl", session(150))
    other = write(tmp_path / "t.jsonl", [{**line, "sessionId": "t"} for line in session(2)])
    code, _, error = run("convert", log, "--split-long", 2000, "--out", tmp_path / "out.jsonl")
    assert code == 0, error
    windows = chats_in(tmp_path / "out.jsonl")
    assert len(windows) > 5
    for window in windows:
        length = count_by_bytes(json.dumps([m.to_template() for m in window.messages], ensure_ascii=False))
        assert length < 2000
        assert window.messages[0].content == "파일을 모두 읽어 줘"
    paths = [call.arguments["path"] for w in windows for m in w.messages for call in m.tool_calls]
    assert paths == [f"{n}.txt" for n in range(150)]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"out: {tmp_path}/set\nsplit_long: 2000\nvalidation_share: 0.5\nsources: [{{path: [{log}, {other}]}}]\n",
        encoding="utf-8",
    )
    code, _, error = run("build", "--config", recipe)
    assert code == 0, error
    built = read_prepared(tmp_path / "set")
    sides = [{row.group for row in rows} for rows in (built.train, built.validation)]
    assert sides[0].isdisjoint(sides[1]) and len(built.train) + len(built.validation) == len(windows) + 1


def turns(*said: str, weight: int | None = None) -> list[dict[str, Any]]:
    return [
        {"role": role, "content": text, **({"weight": weight} if role == "assistant" and weight is not None else {})}
        for text in said
        for role in ("user", "assistant")
    ]


def test_long_steps_and_empty_windows_are_counted_and_told(tmp_path: Path, run: Run) -> None:
    messages = [*turns(*["가" * 200] * 4, weight=0), *turns("가" * 9000), *turns("끝")]
    rows = write(tmp_path / "rows.jsonl", [{"messages": messages}])
    code, shown, error = run("convert", rows, "--split-long", 1000, "--out", tmp_path / "out.jsonl")
    assert code == 0, error
    made = chats_in(tmp_path / "out.jsonl")
    counts = json.loads((tmp_path / "out.counts.json").read_text(encoding="utf-8"))
    empty = counts["dropped"]["a window in which nothing is learned"]
    assert empty >= 1 and counts["read"] == counts["kept"] + empty and "a window in which nothing is learned" in shown
    long = [
        window
        for window in made
        if count_by_bytes(json.dumps([m.to_template() for m in window.messages], ensure_ascii=False)) > 1000
    ]
    assert counts["too_long"] == len(long) == 1 and "too long: 1 windows hold a step" in shown
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"out: {tmp_path}/set\nsplit_long: 1000\nsources: [{{path: {rows}}}]\n", encoding="utf-8")
    code, shown, error = run("build", "--config", recipe)
    assert code == 0 and "too long: 1 windows hold a step" in shown, error


def test_a_question_that_nobody_answered_yet_stands_in_the_window_of_its_answer() -> None:
    said = (("user", "과제"), ("assistant", "네" * 20), ("user", "하나" * 20), ("user", "둘" * 20), ("assistant", "답"))
    messages = [{"role": role, "content": text} for role, text in said]
    chat = Chat.model_validate({"messages": messages, "id": "c", "source": "made"})
    for tokens in range(40, 200, 10):
        (last,) = [w for w in chat_to_windows(chat, tokens).chats if w.messages[-1].content == "답"]
        assert [m.content[0] for m in last.messages if m.role == "user"] == ["과", "하", "둘"]


# --- ratings ---


def spans() -> list[dict[str, Any]]:
    """One conversation of three traces; every request holds the ones before it."""
    messages: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for n in range(3):
        messages = [*messages, {"role": "user", "parts": [{"type": "text", "content": f"question {n}"}]}]
        answer = {"role": "assistant", "parts": [{"type": "text", "content": f"answer {n}"}]}
        attributes = {
            "gen_ai.operation.name": "chat", "gen_ai.conversation.id": "c", "gen_ai.input.messages": messages,
            "gen_ai.output.messages": [answer],
        }  # fmt: skip
        rows.append({"traceId": f"t{n}", "spanId": f"s{n}", "attributes": attributes})
        messages = [*messages, answer]
    return rows


def test_ratings_of_another_file_choose_the_one_answer_that_is_learned(tmp_path: Path, run: Run) -> None:
    write(tmp_path / "spans.jsonl", spans())
    scores = tmp_path / "scores.csv"
    scores.write_text("trace_id,value\nt0,0\nt1,1\n", encoding="utf-8")
    words = ("--labels", scores, "--on", "trace_id", "--good", "value>=1", "--bad", "value<=0")
    code, out, error = run("convert", tmp_path / "spans.jsonl", *words, "--out", tmp_path / "out.jsonl")
    assert code == 0, error
    (chat,) = chats_in(tmp_path / "out.jsonl")
    assert [(m.content, m.loss_weight) for m in chat.messages if m.role == "assistant"] == [
        ("answer 0", 0),
        ("answer 1", 1),
    ]
    assert "rated in the file of labels: a bad answer" in out and "no rating of this answer" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--on", "trace", "--good", "value>=1"), "has no column 'trace'"),
        (("--on", "trace_id", "--good", "valu>=1"), "value"),
        (("--on", "trace_id", "--good", "fine"), "expected COLUMN"),
        (("--on", "trace_id"), "--good"),
    ],
)
def test_a_wrong_rule_for_ratings_says_what_is_right(
    tmp_path: Path, run: Run, words: tuple[str, ...], told: str
) -> None:
    write(tmp_path / "spans.jsonl", spans())
    (tmp_path / "scores.csv").write_text("trace_id,value\nt0,0\n", encoding="utf-8")
    code, _, error = run(
        "convert", tmp_path / "spans.jsonl", "--labels", tmp_path / "scores.csv", *words, "--out", tmp_path / "o.jsonl"
    )
    assert code == 2 and told in error


def test_the_answer_of_a_request_that_failed_is_not_learned_in_the_chat_that_goes_on() -> None:
    rows = spans()
    rows[1]["status"] = {"code": 2}
    results = adapt(
        ADAPTERS["otel_genai"], {"rows": [span for row in rows for _, span in ADAPTERS["otel_genai"].spans(row)]}
    )  # type: ignore[misc] # it has spans
    (chat,) = [result for result in results if isinstance(result, Chat)]
    weights = [m.loss_weight for m in chat.messages if m.role == "assistant"]
    assert weights == [1, 0, 1]


# --- archives of Inspect ---


def test_samples_of_an_eval_archive_are_rows_and_a_zip_of_something_else_is_told(tmp_path: Path, run: Run) -> None:
    samples = (SAMPLES / "inspect_log.jsonl").read_text(encoding="utf-8").splitlines()
    with zipfile.ZipFile(tmp_path / "log.eval", "w") as archive:
        archive.writestr("header.json", "{}")
        for n, sample in enumerate(samples):
            archive.writestr(f"samples/{n}_epoch_1.json", sample)
    code, _, error = run("convert", tmp_path / "log.eval", "--out", tmp_path / "out.jsonl")
    assert code == 0, error
    assert [chat.id for chat in chats_in(tmp_path / "out.jsonl")] == ["s1/1", "2/2", "3/1"]
    (tmp_path / "no.eval").write_text("no archive", encoding="utf-8")
    code, _, error = run("convert", tmp_path / "no.eval", "--out", tmp_path / "o.jsonl")
    assert code == 2 and "no archive of Inspect" in error


# --- whose models answered ---


@pytest.mark.parametrize(
    ("model", "maker"),
    [
        ("claude-sonnet-4-5", "Anthropic"), ("bedrock/anthropic.claude-v2", "Anthropic"), ("openai/gpt-4o", "OpenAI"),
        ("o3-mini", "OpenAI"), ("models/gemini-2.5-pro", "Google"), ("openai/gpt-oss-20b", None), ("google/gemma-3", None),
        ("Qwen/Qwen3-8B", None), ("gpt2", None), ("kimi-k2", None),
    ],
)  # fmt: skip
def test_a_models_name_tells_whose_terms_hold(model: str, maker: str | None) -> None:
    assert maker_of(model) == maker


def test_commercial_leaves_out_what_a_named_model_answered_and_keeps_what_is_only_said_of_one(
    tmp_path: Path, run: Run
) -> None:
    rows = spans()
    rows[2]["attributes"]["gen_ai.response.model"] = "claude-opus-4"
    log = write(tmp_path / "spans.jsonl", rows)
    code, _, error = run("convert", log, "--licence", "commercial", "--out", tmp_path / "out.jsonl")
    assert code == 2 and "a model of Anthropic answered" in error
    said = [{"messages": [{"role": "user", "content": "model: gpt-4?"}, {"role": "assistant", "content": "gpt-4"}]}]
    said.append({**said[0], "model": "gpt-4o"})
    code, out, _ = run(
        "convert", write(tmp_path / "c.jsonl", said), "--licence", "commercial", "--out", tmp_path / "o.jsonl"
    )
    assert code == 0 and "a model of OpenAI answered" in out and len(chats_in(tmp_path / "o.jsonl")) == 1


# --- a first look ---


def test_a_look_tells_tools_errors_loops_languages_and_models_and_nothing_that_was_said(
    tmp_path: Path, run: Run
) -> None:
    lines = session(2)
    lines[1]["message"]["model"] = "claude-x"
    lines[1]["message"]["usage"] = {"input_tokens": 10, "output_tokens": 5}
    lines[2]["message"]["content"][0]["content"] = "Error: <b>비밀</b>"
    log = write(tmp_path / "s.jsonl", lines)
    code, out, error = run("look", log, "--out", tmp_path / "look.html")
    assert code == 0, error
    page = (tmp_path / "look.html").read_text(encoding="utf-8")
    for told in (out, page):
        assert all(word in told for word in ("claude_code_session", "read", "Korean", "claude-x", "input tokens"))
        assert "비밀" not in told and "다 읽었어요" not in told
    assert "<td>results that are errors</td><td>1</td>" in page and "<td>read</td><td>2</td><td>1</td>" in page
    assert "0 of 1" in page


# --- streams ---


def events_as_text(events: list[dict[str, Any]]) -> str:
    return "".join(f"event: x\ndata: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n"


CHUNKS = [
    {"id": "cc-1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "잠시"}}]},
    {"id": "cc-1", "choices": [{"index": 0, "delta": {"content": "만요"}}]},
    {
        "choices": [
            {
                "index": 0,
                "delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}}]},
            }
        ]
    },
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": '}}]}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    {"choices": [], "usage": {"prompt_tokens": 3}},
]
BLOCKS = [
    {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": []}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "잠시만요"}},
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
    },
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a": '}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
]


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize(("adapter", "events"), [("openai_request_response", CHUNKS), ("anthropic_messages", BLOCKS)])
def test_streamed_answers_are_put_together(adapter: str, events: list[dict[str, Any]], as_text: bool) -> None:
    request = {"messages": [{"role": "user", "content": "go"}]}
    for body, is_whole in ((events, True), (events[:4], False)):
        response = events_as_text(body) if as_text else body
        (made,) = adapt(ADAPTERS[adapter], {"id": "x", "request": request, "response": response})
        if not is_whole:
            assert not isinstance(made, Chat)
            continue
        assert isinstance(made, Chat)
        assert made.messages[1].content == "잠시만요"
        assert [(call.name, call.arguments) for call in made.messages[1].tool_calls] == [("f", {"a": 1})]
