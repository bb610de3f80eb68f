"""What the recording proxy costs on this machine, against asking the same scripted server directly.

    python scripts/measure/capture.py
    python scripts/measure/capture.py --requests 200 --reps 3 --out capture.json

* 200 requests one after the other, each side in turn: what the median takes longer;
* one stream of 200 events a second for five seconds: how much longer from its first event to its last, median of the reps;
* 200 streams of 10 events a second at once: whether all come whole, byte for byte, and are recorded whole.

Server, proxy and client are three processes (and the proxy's own that writes is a fourth), so a machine with two cores shares
them out. Exit codes: 0 under 5 ms, under 2 % and all whole; 1 otherwise.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import httpx
import uvicorn

from core.command_line import Parser
from core.files import write_json

MOST_ADDED_MS = 5.0
MOST_SLOWED = 0.02
STREAM_EVENTS, EVENTS_A_SECOND = 1000, 200
MANY, MANY_EVENTS, MANY_A_SECOND = 200, 50, 10

Message = MutableMapping[str, Any]
PLAIN = {
    "id": "c",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "네. " * 50}, "finish_reason": "stop"}],
}


def events(count: int) -> list[bytes]:
    """A stream of so many events, the last one its end."""
    chunks: list[Any] = [
        {"id": "c", "choices": [{"index": 0, "delta": {"content": f"말{n} "}}]} for n in range(count - 2)
    ]
    chunks.append({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return [f"data: {json.dumps(each, ensure_ascii=False)}\n\n".encode() for each in chunks] + [b"data: [DONE]\n\n"]


async def scripted(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """The server: `events` and `a_second` in the request ask for a stream."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    asked = json.loads(body)
    if "events" not in asked:
        answer = json.dumps(PLAIN).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    began = time.monotonic()
    for place, event in enumerate(events(asked["events"])):
        await asyncio.sleep(began + place / asked["a_second"] - time.monotonic())
        await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def serve(port: int) -> None:
    """The scripted server, until it is ended."""
    uvicorn.run(scripted, port=port, log_level="critical", access_log=False, lifespan="off")


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def request(**more: Any) -> dict[str, Any]:
    """A question of about a thousand characters."""
    return {"model": "m", "messages": [{"role": "user", "content": "무엇을 할까요? " * 100}], **more}


def request_ms(client: httpx.Client, base: str, number: int) -> float:
    """One request."""
    body = request(user=str(number))
    began = time.perf_counter()
    client.post(base + "/chat/completions", json=body).raise_for_status()
    return 1000 * (time.perf_counter() - began)


def stream_seconds(client: httpx.Client, base: str) -> float:
    """From the first event of a stream to its last."""
    body = request(stream=True, events=STREAM_EVENTS, a_second=EVENTS_A_SECOND)
    first = last = 0.0
    with client.stream("POST", base + "/chat/completions", json=body) as answer:
        for _ in answer.iter_raw():
            last = time.perf_counter()
            first = first or last
    return last - first


async def whole_streams(base: str) -> int:
    """How many of many streams at once come byte for byte."""
    expected = b"".join(events(MANY_EVENTS))
    body = request(stream=True, events=MANY_EVENTS, a_second=MANY_A_SECOND)
    async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=None)) as client:

        async def one(number: int) -> bool:
            asked = {**body, "user": str(number)}
            async with client.stream("POST", base + "/chat/completions", json=asked) as answer:
                return b"".join([part async for part in answer.aiter_raw()]) == expected

        return sum(await asyncio.gather(*map(one, range(MANY))))


def main() -> int:
    """Measure, tell, judge."""
    parser = Parser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    port = free_port()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(port,), daemon=True)
    server.start()
    direct = f"http://127.0.0.1:{port}/v1"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmark", "capture", "--upstream", direct, "--out", folder, "--port", "0"]
        proxy = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert proxy.stdout is not None
        lines = [proxy.stdout.readline() for _ in range(3)]
        through = lines[1].strip().partition("=")[2]
        try:
            with httpx.Client(timeout=120, transport=httpx.HTTPTransport(retries=20)) as client:
                for base in (direct, through):  # connections, and all that is made once
                    for number in range(20):
                        request_ms(client, base, number)
                both = [[request_ms(client, base, n) for base in (direct, through)] for n in range(options.requests)]
                seconds = [[stream_seconds(client, base) for base in (direct, through)] for _ in range(options.reps)]
            whole = asyncio.run(whole_streams(through))
        finally:
            proxy.send_signal(signal.SIGINT)
            printed = proxy.communicate()[0]
            server.terminate()
        chats = [json.loads(line) for line in (Path(folder) / "chats.jsonl").read_bytes().splitlines()]
    text = "".join(f"말{n} " for n in range(MANY_EVENTS - 2))
    recorded = sum(chat["messages"][-1]["content"] == text for chat in chats)
    medians = [statistics.median(each) for each in zip(*both, strict=True)]
    spans = [statistics.median(each) for each in zip(*seconds, strict=True)]
    result = {
        "requests": options.requests,
        "direct_median_ms": round(medians[0], 2),
        "through_median_ms": round(medians[1], 2),
        "added_median_ms": round(medians[1] - medians[0], 2),
        "stream_direct_seconds": round(spans[0], 4),
        "stream_through_seconds": round(spans[1], 4),
        "stream_slowed_share": round(spans[1] / spans[0] - 1, 5),
        "streams": MANY,
        "streams_whole": whole,
        "streams_recorded_whole": recorded,
    }
    print(json.dumps(result, indent=1))
    if options.out is not None:
        write_json(options.out, result)
    is_good = result["added_median_ms"] < MOST_ADDED_MS and result["stream_slowed_share"] < MOST_SLOWED
    if not is_good or whole < MANY or recorded < MANY:
        print(printed, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
