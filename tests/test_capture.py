"""The recording proxy: what passes is what came, and what was answered is on the disk."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from benchmark.capture.command import listen
from benchmark.capture.proxy import read_upstream
from core.errors import UserError
from data.chats import Chat, Skip
from data.formats.inputs import find_input
from data.formats.reading import read_adapted
from data.formats.recognise import find_adapter
from data.records import read_trajectories
from support.capturing import Capturing, capturing
from support.commands import Run
from support.streaming_server import Answer, Reply, Scripted, as_events, as_json

KEY = "sk-proj-Zq81Tj4Rk0Lw7Vb2"


def completion(text: str, *, calls: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message |= {"tool_calls": calls}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop", **more}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m-1", "choices": [choice]}


def chunks(text: str, finish: str | None = "stop") -> list[dict[str, Any]]:
    """A chat completion's stream, a chunk for each character."""
    common = {"id": "chatcmpl-2", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": each} for each in text)]
    made = [{**common, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    end = {**common, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    return [*made, end] if finish else made


def echo(path: str, body: Any) -> Reply:
    """Says again what was asked last."""
    if body is None:
        return as_json({"data": [{"id": "m-1"}]})
    text = f"답: {body['messages'][-1]['content']}"
    return as_events(chunks(text)) if body.get("stream") else as_json(completion(text))


def asked(*texts: str, **more: Any) -> dict[str, Any]:
    """A request with turns of user and assistant."""
    roles = ("user", "assistant")
    return {"model": "m-1", "messages": [{"role": roles[n % 2], "content": t} for n, t in enumerate(texts)], **more}


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Any]:
    """Starts a scripted server with a proxy before it."""
    with ExitStack() as stack:

        def start(answer: Answer = echo, **options: Any) -> tuple[Scripted, Capturing]:
            scripted = stack.enter_context(Scripted(answer))
            return scripted, stack.enter_context(capturing(scripted.url, tmp_path / "out", **options))

        yield start


def post(base: str, path: str, body: Any, **more: Any) -> httpx.Response:
    return httpx.post(base + path, json=body, timeout=60, **more)


# ---------------------------------------------------------------- what passes


def test_an_answer_passes_byte_for_byte_and_its_headers_too(tmp_path: Path) -> None:
    odd = (
        b'{"choices": [ {"message":{"role":"assistant","content":"\\uac00 \xea\xb0\x80"},"finish_reason":"stop"}]}\n\n'
    )
    headers = (
        ("Content-Type", "application/json"),
        ("X-Request-Id", "r1"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    )
    with Scripted(lambda *_: Reply([odd], headers=headers)) as scripted, capturing(scripted.url, tmp_path) as proxy:
        sent = b'{"model": "m-1",  "messages": [{"role":"user","content":"\xea\xb0\x80"}]}'
        there = httpx.post(
            proxy.openai + "/chat/completions?api-version=7&x=%2F", content=sent, headers={"X-Mine": "가".encode()}
        )
        direct = httpx.post(scripted.url + "/v1/chat/completions", content=sent)
    assert there.content == direct.content == odd and there.status_code == 200
    assert there.headers.get_list("set-cookie") == ["a=1", "b=2"] and there.headers["x-request-id"] == "r1"
    path, given, body = scripted.asked[0]
    assert (path, body) == ("/v1/chat/completions?api-version=7&x=%2F", sent)
    names = {name.lower(): value for name, value in given}
    assert names["host"] == f"127.0.0.1:{scripted.port}" and names["x-mine"].encode("latin-1") == "가".encode()
    assert names.keys() == {name.lower() for name, _ in scripted.asked[1][1]} - {"connection"} | {"x-mine"}


def test_a_stream_passes_at_once_and_byte_for_byte(tmp_path: Path) -> None:
    go_on = threading.Event()
    whole = b"".join(as_events(chunks("한국어로 답합니다")).parts)
    # In the middle of events and of characters.
    parts = [whole[at : at + 7] for at in range(0, len(whole), 7)]
    reply = as_events([])._replace(parts=parts, wait=lambda place: go_on.wait(30) and None if place == 20 else None)
    with Scripted(lambda *_: reply) as scripted, capturing(scripted.url, tmp_path / "out") as proxy:
        came = []
        with httpx.stream(
            "POST", proxy.openai + "/chat/completions", json=asked("가", stream=True), timeout=60
        ) as answer:
            for part in answer.iter_raw():
                came.append(part)
                if len(b"".join(came)) == 140:  # all that was sent before the wait
                    go_on.set()
        assert b"".join(came) == whole and go_on.is_set()
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    (chat,) = proxy.rows("chats")
    assert [message["content"] for message in chat["messages"]] == ["가", "한국어로 답합니다"]


def compressed(name: str, data: bytes) -> bytes:
    if name == "gzip":
        return gzip.compress(data)
    if name == "deflate":
        return zlib.compress(data)
    return bytes(pa.compress(data, codec={"br": "brotli"}.get(name, name), asbytes=True))


@pytest.mark.parametrize("is_stream", [False, True])
def test_packed_answers_and_requests_pass_packed_and_are_read(tmp_path: Path, is_stream: bool) -> None:
    names = ("gzip", "deflate", "br", "zstd")

    def answer(path: str, body: Any) -> Reply:
        name = path.rpartition("=")[2]
        plain = as_events(chunks(f"안녕 {name}")) if is_stream else as_json(completion(f"안녕 {name}"))
        data = compressed(name, b"".join(plain.parts))
        parts = [data[:9], data[9:]] if is_stream else [data]
        return plain._replace(parts=parts, headers=(*plain.headers, ("Content-Encoding", name)))

    with Scripted(answer) as scripted, capturing(scripted.url, tmp_path / "out") as proxy:
        for name in names:
            sent = compressed(name, json.dumps(asked(f"묻기 {name}", stream=is_stream)).encode())
            headers = {"Content-Encoding": name, "Accept-Encoding": "gzip, br, zstd"}
            url = f"{proxy.openai}/chat/completions?as={name}"
            with httpx.stream("POST", url, content=sent, headers=headers, timeout=60) as there:
                raw = b"".join(there.iter_raw())
            assert raw == b"".join(answer(url, None).parts) and there.headers["content-encoding"] == name
            assert scripted.asked[-1][2] == sent and dict(scripted.asked[-1][1])["accept-encoding"] == "gzip, br, zstd"
    said = [[message["content"] for message in chat["messages"]] for chat in proxy.rows("chats")]
    assert said == [[f"묻기 {name}", f"안녕 {name}"] for name in names]


def test_other_requests_pass_unrecorded(serving: Any) -> None:
    scripted, proxy = serving()
    assert httpx.get(proxy.openai + "/models").json() == {"data": [{"id": "m-1"}]}
    assert post(proxy.anthropic, "/v1/messages/count_tokens", asked("가")).status_code == 200
    assert [path for path, _, _ in scripted.asked] == ["/v1/models", "/v1/messages/count_tokens"]
    assert (proxy.out / "exchanges.jsonl").read_bytes() == b""


# ---------------------------------------------------------------- who may ask, and where it goes


def test_neither_another_host_nor_a_page_nor_a_wrong_token_gets_through(serving: Any) -> None:
    scripted, proxy = serving()
    port = proxy.openai.split(":")[2].split("/")[0]
    refused = [
        ({"Host": "evil.example"}, proxy.openai, 403),
        ({"Host": "127.0.0.1"}, proxy.openai, 403),
        ({"Origin": "https://evil.example"}, proxy.openai, 403),
        ({"Origin": "null"}, proxy.openai, 403),
        ({"Origin": "http://127.0.0.1.evil.example"}, proxy.openai, 403),
        ({}, f"http://127.0.0.1:{port}/v1", 404),
        ({}, f"http://127.0.0.1:{port}", 404),
        ({}, proxy.openai.replace("/v1", "x/v1"), 404),
    ]
    for headers, base, status in refused:
        answer = post(base, "/chat/completions", asked("가"), headers=headers)
        assert answer.status_code == status and "capture: " in answer.json()["error"]["message"], headers
    assert not scripted.asked
    for headers in ({"Host": f"localhost:{port}"}, {"Origin": "http://localhost:5173"}):
        assert post(proxy.openai, "/chat/completions", asked("가"), headers=headers).status_code == 200
    assert len(proxy.openai.split("/")[3]) >= 20


def test_it_listens_on_this_machine_alone(serving: Any) -> None:
    _, proxy = serving()
    port = int(proxy.openai.split(":")[2].split("/")[0])
    with socket.socket() as other:
        other.settimeout(5)
        assert other.connect_ex(("127.0.0.2", port)) != 0


def test_parts_are_sent_at_once_and_not_gathered_for_forty_milliseconds() -> None:
    with listen(0) as listening:
        assert listening.proto == socket.IPPROTO_TCP, "asyncio switches Nagle's algorithm off for such sockets alone"


@pytest.mark.parametrize(
    "url, told",
    [
        ("http://example.com/v1", "expected https"),
        ("http://127.0.0.1.example.com", "expected https"),
        ("http://10.0.0.7:8000", "expected https"),
        ("https://user:word@example.com", "a user"),
        ("https://example.com/v1?key=SECRET", "a query"),
        ("example.com", "expected an address"),
        ("ftp://example.com", "expected an address"),
        ("https://example.com:99999", "expected an address"),
    ],
)
def test_an_upstream_is_https_or_this_machine(url: str, told: str) -> None:
    with pytest.raises(UserError) as raised:
        read_upstream(url)
    assert told in str(raised.value) and "SECRET" not in str(raised.value) and "word" not in str(raised.value)


def test_an_upstreams_path_is_kept_with_its_version_or_without() -> None:
    for url in (
        "https://api.openai.com",
        "https://api.openai.com/",
        "https://api.openai.com/v1",
        "https://api.openai.com/v1/",
    ):
        found = read_upstream(url)
        assert (found.origin, found.path, found.has_v1) == ("https://api.openai.com", "", True)
    found = read_upstream("http://[::1]:8000/api/v1")
    assert (found.origin, found.path, found.has_v1) == ("http://[::1]:8000", "/api", True)
    found = read_upstream("https://x.example/openai/deployments/d")
    assert (found.path, found.has_v1) == ("/openai/deployments/d", False)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(tmp_path: Path, status: int) -> None:
    with Scripted(echo) as other:
        reply = Reply([b"moved"], status=status, headers=(("Location", other.url + "/v1/chat/completions"),))
        with Scripted(lambda *_: reply) as scripted, capturing(scripted.url, tmp_path) as proxy:
            there = httpx.post(proxy.openai + "/chat/completions", json=asked("가"), follow_redirects=True)
    assert there.status_code == 502 and "redirects" in there.json()["error"]["message"] and not other.asked


# ---------------------------------------------------------------- what is never written


def test_headers_cookies_keys_and_queries_are_never_written(tmp_path: Path) -> None:
    def answer(path: str, body: Any) -> Reply:
        return echo(path, body)._replace(
            headers=(("Content-Type", "application/json"), ("X-Back", "secret-of-the-answer-7"))
        )

    headers = {
        "Authorization": f"Bearer {KEY}",
        "Cookie": "session=cookie-value-1234567",
        "X-Own": "value-of-a-header",
        "X-Conversation-Id": "the-name-of-the-conversation",
    }
    said = f"키는 {KEY}이고 cookie-value-1234567"
    with Scripted(answer) as scripted, capturing(scripted.url, tmp_path) as proxy:
        post(proxy.openai, "/chat/completions?key=query-secret", asked(said), headers=headers)
        post(proxy.openai, "/models?key=query-secret", asked(said), headers=headers)
    secrets = (KEY, "cookie-value", "value-of-a-header", "query-secret", "the-name-of", "secret-of-the-answer")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 5 and "키는 <" in (tmp_path / "exchanges.jsonl").read_text()
    for path in files:
        for secret in (*secrets, proxy.openai.split("/")[3]):
            assert secret not in path.read_text(), path


def test_secrets_and_names_become_placeholders_and_their_tokens_are_not_written(tmp_path: Path) -> None:
    def answer(path: str, body: Any) -> Reply:
        text = body["messages"][-1]["content"].removeprefix("say ")
        tokens = [{"token": each, "logprob": -0.1, "id": ord(each)} for each in text]
        return as_json(completion(text, logprobs={"content": tokens}))

    turns = ["say 번호는 010-9876-5432", "say mina입니다", "say ls /home/mina/app"]
    with Scripted(answer) as scripted, capturing(scripted.url, tmp_path / "out") as proxy:
        told: list[str] = []
        for turn in turns:
            told += [turn, turn.removeprefix("say ")]
            post(proxy.openai, "/chat/completions", asked(*told[:-1]))
    texts = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.json*")}
    assert len(texts) == 5
    assert not any(secret in text for text in texts.values() for secret in ("9876", "5432", "mina"))
    (chat,) = proxy.rows("chats")
    assert [message["content"] for message in chat["messages"][1::2]] == [
        "번호는 <PHONE_1>",
        "<USER_1>입니다",
        "ls <HOME_1>/app",
    ]
    assert proxy.rows("samples") == []
    assert proxy.counts["redacted"]["PHONE"] == 2


def test_without_redaction_all_is_as_it_was_said(tmp_path: Path) -> None:
    with Scripted(echo) as scripted, capturing(scripted.url, tmp_path, redact=False) as proxy:
        post(proxy.openai, "/chat/completions", asked("010-9876-5432, /home/mina"))
    (chat,) = proxy.rows("chats")
    assert chat["messages"][1]["content"] == "답: 010-9876-5432, /home/mina"


# ---------------------------------------------------------------- what goes wrong


def test_a_client_that_goes_ends_the_answer_and_what_it_got_is_kept(tmp_path: Path) -> None:
    stopped = threading.Event()

    def wait(place: int) -> None:
        if place > 5:
            stopped.wait(0.05)

    reply = as_events(chunks("가" * 2000), wait=wait)
    with Scripted(lambda *_: reply) as scripted, capturing(scripted.url, tmp_path / "out") as proxy:
        with httpx.stream(
            "POST", proxy.openai + "/chat/completions", json=asked("길게", stream=True), timeout=60
        ) as answer:
            next(answer.iter_raw())
        deadline = time.monotonic() + 60
        while not (rows := proxy.rows("exchanges")) and time.monotonic() < deadline:
            time.sleep(0.05)
        stopped.set()
        # The next one is answered as ever.
        assert httpx.get(proxy.openai + "/models").status_code == 200
    assert rows[0]["left_out"] == "a reply that was cut off"
    assert rows[0]["response"]["choices"][0]["message"]["content"].startswith("가")
    assert proxy.counts["left_out"] == {"a reply that was cut off": 1} and proxy.counts["chats"] == 0


def test_an_answer_that_breaks_off_breaks_off_and_is_kept(serving: Any) -> None:
    _, proxy = serving(lambda *_: as_events(chunks("안녕하세요", None), done=False, is_broken=True))
    with (
        pytest.raises(httpx.RemoteProtocolError),
        httpx.stream("POST", proxy.openai + "/chat/completions", json=asked("가", stream=True), timeout=60) as answer,
    ):
        came = [*answer.iter_raw()]
        assert came
    deadline = time.monotonic() + 60
    while not (rows := proxy.rows("exchanges")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert rows[0]["left_out"] == "a reply that was cut off"
    assert rows[0]["response"]["choices"][0]["message"]["content"] == "안녕하세요"


def test_errors_of_the_server_pass_and_are_kept(tmp_path: Path) -> None:
    error = {"error": {"message": f"Incorrect API key provided: {KEY}", "type": "invalid_request_error"}}
    with (
        Scripted(lambda *_: as_json(error, status=401)) as scripted,
        capturing(scripted.url, tmp_path / "out") as proxy,
    ):
        answer = post(proxy.openai, "/chat/completions", asked("가"), headers={"Authorization": f"Bearer {KEY}"})
        assert (answer.status_code, answer.json()) == (401, error)
    assert proxy.counts["left_out"] == {"a request that failed": 1}
    (row,) = proxy.rows("exchanges")
    assert row["status"] == 401 and KEY not in json.dumps(row) and row["request"]["messages"][0]["content"] == "가"


def test_a_server_that_starts_again_is_asked_again(tmp_path: Path) -> None:
    with Scripted(echo) as first, capturing(first.url, tmp_path / "out") as proxy, httpx.Client(timeout=60) as client:
        assert client.post(proxy.openai + "/chat/completions", json=asked("하나")).status_code == 200
        first.end()
        status = [client.post(proxy.openai + "/chat/completions", json=asked("둘")).status_code for _ in range(2)]
        assert status[-1] == 502
        with Scripted(echo, port=first.port):
            assert client.post(proxy.openai + "/chat/completions", json=asked("셋")).status_code == 200
    said = [chat["messages"][0]["content"] for chat in proxy.rows("chats")]
    assert said[0] == "하나" and said[-1] == "셋"


def test_a_kept_connection_that_the_server_has_closed_costs_no_answer(tmp_path: Path) -> None:
    with Scripted(echo) as first, capturing(first.url, tmp_path) as proxy:
        assert post(proxy.openai, "/chat/completions", asked("하나")).status_code == 200
        first.end()
        with Scripted(echo, port=first.port):
            assert post(proxy.openai, "/chat/completions", asked("둘")).status_code == 200
    assert [chat["messages"][0]["content"] for chat in proxy.rows("chats")] == ["하나", "둘"]


STARTED = """
import sys
from benchmark.__main__ import app
app(["capture", *sys.argv[1:]], prog_name="x")
"""


def started(upstream: str, out: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-c", STARTED, "--upstream", upstream, "--out", str(out), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    return process, lines[1].strip().partition("=")[2]


def test_killed_it_has_lost_nothing_and_goes_on(tmp_path: Path) -> None:
    with Scripted(echo) as scripted:
        process, base = started(scripted.url, tmp_path)
        told = ["질문 0"]
        for number in range(6):
            answer = post(base, "/chat/completions", asked(*told)).json()["choices"][0]["message"]["content"]
            told += [answer, f"질문 {number + 1}"]
            if number == 2:
                process.send_signal(signal.SIGKILL)
                process.wait()
                with open(tmp_path / "exchanges.jsonl", "ab") as file:
                    file.write(b"")
                process, base = started(scripted.url, tmp_path)
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=60)[0]
    assert process.returncode == 0 and "wrote" in printed
    (chat,) = [json.loads(line) for line in (tmp_path / "chats.jsonl").read_bytes().splitlines()]
    assert [message["content"] for message in chat["messages"]] == told[:-1]
    assert {message["weight"] for message in chat["messages"]} == {None}


def test_a_half_line_is_cut_off_and_another_bad_one_is_named(tmp_path: Path) -> None:
    with Scripted(echo) as scripted:
        with capturing(scripted.url, tmp_path) as proxy:
            post(proxy.openai, "/chat/completions", asked("하나"))
        whole = (tmp_path / "exchanges.jsonl").read_bytes()
        (tmp_path / "exchanges.jsonl").write_bytes(whole + whole[:50])
        with capturing(scripted.url, tmp_path) as proxy:
            post(proxy.openai, "/chat/completions", asked("둘"))
        assert (tmp_path / "exchanges.jsonl").read_bytes().startswith(whole)
        assert [chat["messages"][0]["content"] for chat in proxy.rows("chats")] == ["하나", "둘"]
        (tmp_path / "exchanges.jsonl").write_bytes(b"{}\n" + whole)
        with pytest.raises(UserError, match=r"exchanges\.jsonl:1: "), capturing(scripted.url, tmp_path):
            pass


@pytest.mark.skipif(os.geteuid() != 0 and not os.access("/dev/full", os.W_OK), reason="no full disk to be had")
def test_where_nothing_can_be_written_nobody_is_answered(serving: Any) -> None:
    _, proxy = serving()
    post(proxy.openai, "/chat/completions", asked("하나"))
    while not proxy.rows("exchanges"):
        time.sleep(0.02)
    journal = proxy.out / "exchanges.jsonl"
    aside = proxy.out / "aside"
    journal.rename(aside)
    journal.symlink_to("/dev/full")
    post(proxy.openai, "/chat/completions", asked("둘"))  # in memory until it can be written
    deadline = time.monotonic() + 60
    while (
        answer := post(proxy.openai, "/chat/completions", asked("셋"))
    ).status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert answer.status_code == 503 and "No space left" in answer.json()["error"]["message"]
    journal.unlink()
    aside.rename(journal)
    while (
        answer := post(proxy.openai, "/chat/completions", asked("넷"))
    ).status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert answer.status_code == 200
    while len(rows := proxy.rows("exchanges")) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    said = [row["messages"][0]["content"] for row in rows]
    assert said[:2] == ["하나", "둘"] and said[-1] == "넷"


def test_two_do_not_write_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        Scripted(echo) as scripted,
        capturing(scripted.url, tmp_path),
        pytest.raises(UserError, match="is being written by"),
        capturing(scripted.url, tmp_path),
    ):
        pass


def test_mistakes_of_the_command_line_are_told(run_app: Run, tmp_path: Path) -> None:
    code, _, error = run_app("benchmark", "capture", "--upstream", "http://example.com", "--out", tmp_path)
    assert code == 2 and "expected https" in error
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, error = run_app(
            "benchmark", "capture", "--upstream", "http://127.0.0.1:1", "--out", tmp_path, "--port", port
        )
    assert code == 2 and f"--port {port}" in error
    (tmp_path / "file").write_text("")
    code, _, error = run_app(
        "benchmark", "capture", "--upstream", "http://127.0.0.1:1", "--out", tmp_path / "file", "--port", 0
    )
    assert code == 2 and "is a file" in error


# ---------------------------------------------------------------- what is written


def test_what_was_written_is_read_by_the_adapters(serving: Any) -> None:
    _, proxy = serving()
    post(proxy.openai, "/chat/completions", asked("하나"))
    deadline = time.monotonic() + 60
    while not (proxy.out / "chats.jsonl").read_bytes() and time.monotonic() < deadline:
        time.sleep(0.05)  # made anew when nothing has come for a while, without an end
    for name, adapter in (("chats", "chats"), ("trajectories", "trajectory")):
        source = find_input(str(proxy.out / f"{name}.jsonl"))
        found, _ = find_adapter("auto", source, may_import=False)
        assert found.name == adapter
        assert [type(result) for _, result in read_adapted(found, source)] == [Chat if name == "chats" else Skip]
    (record,) = read_trajectories(proxy.out / "trajectories.jsonl")
    assert (
        record.outcome == "partial" and record.metadata.instruction == "하나" and record.metadata.answer == "답: 하나"
    )


def test_ratings_and_terms_of_models_decide_about_captured_chats(run: Run, tmp_path: Path) -> None:
    def answer(path: str, body: Any) -> Reply:
        return as_json({**completion("네"), "model": body["model"]})

    with Scripted(answer) as scripted, capturing(scripted.url, tmp_path / "out") as proxy:
        for text, model in (("좋은", "qwen3"), ("나쁜", "qwen3"), ("셋", "gpt-4o-mini")):
            post(proxy.openai, "/chat/completions", {**asked(text), "model": model})
    chats = proxy.rows("chats")
    assert [chat["source"] for chat in chats] == ["capture/qwen3", "capture/qwen3", "capture/gpt-4o-mini"]
    rated = zip(chats, (1, 0, 1), strict=True)
    (tmp_path / "scores.csv").write_text("id,value\n" + "".join(f"{chat['id']},{value}\n" for chat, value in rated))
    labels = ("--labels", tmp_path / "scores.csv", "--on", "id", "--good", "value>=1", "--bad", "value<=0")
    source, out = tmp_path / "out" / "chats.jsonl", tmp_path / "rated.jsonl"
    for licence, kept in (((), ["좋은", "셋"]), (("--licence", "commercial"), ["좋은"])):
        code, _, error = run("convert", source, "--out", out, *labels, *licence)
        assert code == 0, error
        assert [json.loads(line)["messages"][0]["content"] for line in out.read_text().splitlines()] == kept
