"""Every adapter's samples -> OpenAI's fine-tuning rows -> the same chats: no call, result, thought, weight or id is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.json_lines import read_jsonl
from data.chats import Chat, Message, PreferencePair, Skip, ToolCall
from data.formats.catalogue import ADAPTERS, adapter_named
from data.formats.openai_chat import chat_to_openai_row, openai_chat_row
from data.formats.reading import adapt
from support.commands import Run
from support.golden import results_of, sample_file
from support.made_chats import chats


def said(chat: Chat) -> list[dict[str, Any]]:
    """Messages without the names of results, which OpenAI's rows do not have."""
    return [message.model_dump(exclude={"name"}) for message in chat.messages]


def chats_of(name: str) -> list[Chat]:
    """The chats of an adapter's samples, and of pairs both sides."""
    results = [result for _, result in results_of(ADAPTERS[name], sample_file(name))]
    made = [result for result in results if isinstance(result, Chat)]
    for pair in results:
        if isinstance(pair, PreferencePair):
            sides = {"chosen": pair.chosen, "rejected": pair.rejected}
            for side, messages in sides.items():
                made.append(
                    Chat(
                        messages=(*pair.prompt, *messages), tools=pair.tools, id=f"{pair.id}-{side}", source=pair.source
                    )
                )
    return made


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_every_adapter_reads_is_written_as_openais_rows_and_read_back_equal(name: str) -> None:
    made = chats_of(name)
    assert made
    for chat in made:
        row = chat_to_openai_row(chat)
        assert not isinstance(row, Skip), (chat.id, row)
        row = json.loads(json.dumps(row, ensure_ascii=False))  # as a file holds it
        (back,) = adapt(adapter_named("openai_chat"), {**row, "id": chat.id})
        assert isinstance(back, Chat), back
        assert (said(back), back.tools, back.inferred_tools, back.id) == (
            said(chat),
            chat.tools,
            chat.inferred_tools,
            chat.id,
        )


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(chat=chats(), data=st.data())
def test_ids_of_calls_come_back_whatever_they_are(chat: Chat, data: st.DataObject) -> None:
    old = [call.id for message in chat.messages for call in message.tool_calls]
    own = st.text(min_size=1, max_size=12) | st.sampled_from(["call_0", "call_1", "0", "toolu_01가"])
    new = dict(zip(old, data.draw(st.lists(own, min_size=len(old), max_size=len(old), unique=True)), strict=True))
    named = chat.model_copy(update={"messages": tuple(_renamed(message, new) for message in chat.messages)})
    row = chat_to_openai_row(named)
    if not isinstance(row, Skip):  # a text that reads as a thought or a call
        back = openai_chat_row({**row, "id": chat.id})
        assert isinstance(back, Chat) and said(back) == said(named)


def _renamed(message: Message, ids: dict[str, str]) -> Message:
    calls = tuple(call.model_copy(update={"id": ids[call.id]}) for call in message.tool_calls)
    answered = None if message.tool_call_id is None else ids[message.tool_call_id]
    return message.model_copy(update={"tool_calls": calls, "tool_call_id": answered})


def call(own_id: Any, number: int) -> dict[str, Any]:
    return {"id": own_id, "type": "function", "function": {"name": "f", "arguments": json.dumps({"n": number})}}


def test_a_call_without_an_id_or_with_one_that_is_taken_gets_that_of_its_place() -> None:
    """Some formats begin to count anew in every turn."""
    ids = ["call_1", None, "call_1", "", 7]
    messages: list[Any] = [{"role": "user", "content": "가자"}]
    for number, own_id in enumerate(ids):
        messages.append({"role": "assistant", "content": "", "tool_calls": [call(own_id, number)]})
        messages.append({"role": "tool", "content": str(number), **({"tool_call_id": str(own_id)} if own_id else {})})
    made = openai_chat_row({"messages": messages})
    assert isinstance(made, Chat)
    calls: list[ToolCall] = [call for message in made.messages for call in message.tool_calls]
    assert [call.id for call in calls] == ["call_1", "call_2", "call_3", "call_4", "7"]
    answers = {m.tool_call_id: m.content for m in made.messages if m.role == "tool"}
    assert [answers[call.id] for call in calls] == [str(call.arguments["n"]) for call in calls]


def test_a_secret_in_ids_of_calls_of_a_log_is_no_id_and_they_stay_apart(tmp_path: Path, run: Run) -> None:
    secrets = [f"ghp_{letter * 36}" for letter in ("aB3", "cD4")]
    secrets = [secret[:40] for secret in secrets]
    blocks = [{"type": "tool_use", "id": secret, "name": "f", "input": {"n": n}} for n, secret in enumerate(secrets)]
    results = [
        {"type": "tool_result", "tool_use_id": s, "content": f"답 {n}"} for n, s in reversed(list(enumerate(secrets)))
    ]
    row = {"messages": [
        {"role": "user", "content": "가자"}, {"role": "assistant", "content": blocks}, {"role": "user", "content": results},
        {"role": "assistant", "content": [{"type": "text", "text": "끝"}]},
    ]}  # fmt: skip
    file, out = tmp_path / "log.jsonl", tmp_path / "out.jsonl"
    file.write_text(json.dumps(row), encoding="utf-8")
    assert run("convert", file, "--out", out)[0] == 0
    text = out.read_text(encoding="utf-8")
    assert not any(secret in text for secret in secrets)
    ((_, made),) = read_jsonl(out)
    calls = made["messages"][1]["tool_calls"]
    answers = {m["tool_call_id"]: m["content"] for m in made["messages"] if m["role"] == "tool"}
    assert [answers[each["id"]] for each in calls] == ["답 0", "답 1"]
