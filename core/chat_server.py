"""A server with OpenAI's API, asked with dicts and answering with dicts: vLLM, llama.cpp, `transformers serve` and others.

    server = ChatServer("http://127.0.0.1:8000/v1", concurrency=4)
    answer = server.run(server.post("/chat/completions", {"model": "m", "messages": [...], "max_tokens": 64}))
    choice = answer_to_choice(answer)
    server.close()

It sends, waits, tries again, breaks off, and checks that what comes back has the API's shape. What the messages are and what
an answer means is the caller's.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, TypeVar

import httpx

from core.errors import UserError
from core.json_lines import json_to_object

Returned = TypeVar("Returned")

TRIES = 6
"""How often a request is sent before it counts as failed."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 30.0
LONGEST_ASKED_WAIT_SECONDS = 600.0
"""A server that asks for a longer wait than this with Retry-After has stopped for today."""
LONGEST_ANSWER_BYTES = 64 * 2**20
"""No answer of a model is longer; a body that goes on is no answer."""


class Refused(Exception):
    """The server has read the request and will not answer it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_the_models(self) -> bool:
        """Whether the server could not read what the model wrote: llama.cpp answers a malformed call so."""
        return self.status == 500

    @property
    def is_of_the_limit(self) -> bool:
        """Whether the server does not know `max_tokens`, which newer models of OpenAI call `max_completion_tokens`."""
        text = str(self).lower()
        unknown = (
            "max_completion_tokens",
            "unsupported",
            "not supported",
            "unrecognized",
            "not permitted",
            "not allowed",
        )
        return self.status in (400, 422) and "max_tokens" in text and any(word in text for word in unknown)

    @property
    def is_too_long(self) -> bool:
        """Whether the prompt does not fit; each server has its own words for it."""
        text = str(self).lower()
        return self.status in (400, 413, 422) and "context" in text and any(
            word in text for word in ("length", "size", "window", "exceed", "too long")
        )  # fmt: skip


class _Passing(Exception):
    """A failure that may be gone the next time; `wait_seconds` is what the server asked for."""

    def __init__(self, reason: str, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class _Body(NamedTuple):
    """An answer of a server, read whole."""

    status: int
    headers: httpx.Headers
    text: str
    is_utf_8: bool
    reason: str


class ChatServer:
    """One server, and what is asked of it.

    Rate limits (429), failures of the server (5xx, or an `error` in an answer), broken connections, timeouts and broken JSON
    are tried again, after the time that `Retry-After` names or else after a growing one. A refusal is not.

    Args:
        url: the API's base, such as http://127.0.0.1:8000/v1; `/v1` is added where there is no path.
        concurrency: most requests at once.
        timeout_seconds: how long one answer may take.

    Raises:
        UserError: if the URL is none.
    """

    def __init__(
        self, url: str, *, api_key: str | None = None, concurrency: int = 16, timeout_seconds: float = 300.0
    ) -> None:
        self.url, self.timeout_seconds = check_url(url), timeout_seconds
        self._loop = asyncio.Runner()
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout_seconds, connect=min(10.0, timeout_seconds), pool=None),
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )
        self._room = asyncio.Semaphore(concurrency)
        self._limit = "max_tokens"
        """How this server calls the most new tokens; newer models of OpenAI know `max_completion_tokens` only."""
        self._has_answered = False
        self._waits = random.Random(0)
        self._asked: dict[str, asyncio.Task[Any]] = {}

    def run(self, asking: Coroutine[Any, Any, Returned]) -> Returned:
        """Wait for one result."""
        return self._loop.run(asking)

    def first_of(self, asking: Mapping[str, Callable[[], Coroutine[Any, Any, Returned]]]) -> dict[str, Returned]:
        """The results that are there by now, at least one, by key. What is asked already goes on; the rest begins now."""
        return self._loop.run(self._first_of(asking))

    async def _first_of(self, asking: Mapping[str, Callable[[], Coroutine[Any, Any, Returned]]]) -> dict[str, Returned]:
        for key, ask in asking.items():
            if key not in self._asked:
                self._asked[key] = asyncio.ensure_future(ask())
        await asyncio.wait(self._asked.values(), return_when=asyncio.FIRST_COMPLETED)
        return {key: self._asked.pop(key).result() for key in asking if self._asked[key].done()}

    def close(self) -> None:
        """Break off what is still asked, and close the connections."""
        self._loop.run(self._break_off())
        self._loop.close()

    async def _break_off(self) -> None:
        for asked in self._asked.values():
            asked.cancel()
        # One failure has been told; asyncio would print a traceback of each other one that nobody has looked at.
        await asyncio.gather(*self._asked.values(), return_exceptions=True)
        await self._client.aclose()

    async def models(self) -> dict[str, int | None]:
        """The names of what is served, with the windows where they are told. Not all servers tell.

        Raises:
            Refused: if the key is not the right one.
            UserError: if nobody answers.
        """
        try:
            answer = await self._request("GET", "/models", None)
        except Refused as refusal:
            if refusal.status in (401, 403):
                raise
            return {}
        rows = answer.get("data")
        served: dict[str, int | None] = {}
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict) and isinstance(row.get("id"), str):
                meta = row.get("meta")
                told = row.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else None)
                served[row["id"]] = told if isinstance(told, int) else None
        return served

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What the server answers.

        Raises:
            Refused: if it will not answer.
            WrongShape: if its answer is no text.
            UserError: if it failed `TRIES` times.
        """
        try:
            return await self._request("POST", path, self._with_limit(body))
        except Refused as refusal:
            if "max_tokens" not in body or not refusal.is_of_the_limit:
                raise
            self._limit = "max_completion_tokens"
            return await self._request("POST", path, self._with_limit(body))

    def _with_limit(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {self._limit if key == "max_tokens" else key: value for key, value in body.items()}

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """Send a request until it is answered.

        Raises:
            Refused: if the server will not answer it.
            UserError: if it failed `TRIES` times.
        """
        began = time.monotonic()
        for number in range(TRIES):
            try:
                return await self._request_once(method, path, body)
            except _Passing as failure:
                asked = failure.wait_seconds
                if number + 1 == TRIES or (asked or 0.0) > LONGEST_ASKED_WAIT_SECONDS:
                    spent = f"{number + 1} tries in {time.monotonic() - began:.0f} s"
                    wait = f"; it asks to wait {asked:.0f} s" if asked else ""
                    raise UserError(f"{self.url}{path}: no answer after {spent}: {failure}{wait}") from None
                longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**number)
                # Spread out, so that requests that failed together do not come back together.
                await asyncio.sleep(asked if asked is not None else longest * self._waits.uniform(0.5, 1.0))
        raise AssertionError("TRIES is at least 1")

    async def _request_once(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        try:
            async with self._room, asyncio.timeout(self.timeout_seconds):
                response = await self._read(method, path, body)
        except httpx.ConnectError as error:
            raise _Passing(f"nobody listens there ({error})") from None
        except (httpx.TimeoutException, TimeoutError):
            raise _Passing(f"it took longer than {self.timeout_seconds:g} s") from None
        except httpx.RequestError as error:  # broken compression too, which is no TransportError
            raise _Passing(f"the connection broke ({type(error).__name__})") from None
        if response.status == 500 and _error_text(response).startswith("Failed to parse input"):
            raise Refused(500, _error_text(response))
        # A list of models that fails may do so for good (transformers serve without a hub cache), and is not needed.
        if response.status in (408, 429) or (response.status >= 500 and method == "POST"):
            raise _Passing(f"HTTP {response.status}: {_error_text(response)}", _retry_after_seconds(response.headers))
        if response.status >= 300:
            moved = response.headers.get("location") if response.status < 400 else None
            raise Refused(response.status, f"it has moved to {moved}" if moved else _error_text(response))
        try:
            answer = json_to_object(response.text)
        except ValueError as error:
            answer = events_to_answer(response.text)
            if answer is None:
                is_json = "json" in response.headers.get("content-type", "") or response.text.lstrip().startswith("{")
                if is_json or self._has_answered:  # an address that has answered is the right one
                    raise _Passing(f"a broken answer ({error})") from None
                raise Refused(response.status, _error_text(response)) from None
        if not isinstance(answer, dict):
            raise Refused(response.status, _error_text(response))
        if fault := _fault_of(answer):
            if (refusal := Refused(400, fault)).is_too_long or refusal.is_of_the_limit:
                raise refusal
            raise _Passing(f"an answer that is an error: {fault}", _retry_after_seconds(response.headers))
        self._has_answered = self._has_answered or method == "POST"
        if not response.is_utf_8:
            raise WrongShape("it is not UTF-8")
        return answer

    async def _read(self, method: str, path: str, body: Mapping[str, Any] | None) -> _Body:
        content = bytearray()
        async with self._client.stream(method, self.url + path, json=body) as response:
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > LONGEST_ANSWER_BYTES:
                    raise WrongShape(f"it is longer than {LONGEST_ANSWER_BYTES // 2**20} MiB")
        try:
            text, is_utf_8 = content.decode(response.charset_encoding or "utf-8"), True
        except (UnicodeDecodeError, LookupError):
            text, is_utf_8 = content.decode("utf-8", errors="replace"), False
        return _Body(
            response.status_code, response.headers, text.removeprefix("\ufeff"), is_utf_8, response.reason_phrase
        )


def check_url(url: str) -> str:
    """The API's base without a slash at its end.

    Raises:
        UserError: if it is no address of a server, or holds a secret.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise UserError(f"--server {url}: no URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UserError(f"--server {url}: expected a URL such as http://127.0.0.1:8000/v1")
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise UserError("--server: the URL holds more than an address; put a key into the environment (--api-key-env)")
    return str(parsed.copy_with(path=parsed.path.rstrip("/") or "/v1"))


# ---- what it says


class WrongShape(ValueError):
    """An answer that OpenAI's API does not have; the message says in one line what is wrong with it."""


def answer_to_choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first choice of an answer.

    Raises:
        WrongShape: if there is none.
    """
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        what = "is missing" if "choices" not in answer else f"is {json_kind(choices)}"
        raise WrongShape(f"field 'choices' {what}, expected a list of objects")
    return choices[0]


def prompt_tokens(answer: Mapping[str, Any]) -> int | None:
    """How many tokens the server has read, where it tells."""
    usage = answer.get("usage")
    used = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return used if type(used) is int else None


def json_kind(value: object) -> str:
    """What kind of JSON a value is, in words for a message."""
    kinds = (
        (type(None), "null"),
        (bool, "a truth value"),
        (int | float, "a number"),
        (str, "a text"),
        (list, "a list"),
    )
    kind = next((name for kind, name in kinds if isinstance(value, kind)), "an object")
    return "an empty list" if value == [] else kind


def _fault_of(answer: Mapping[str, Any]) -> str | None:
    """The words of an error that came with the status of a success; None where there is an answer."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    fault = answer.get("error") if not choice else choice.get("error")
    if not fault and answer.get("object") == "error":  # vLLM's older errors
        fault = answer
    if not fault and choice.get("finish_reason") in ("error", "abort"):
        fault = f"finish_reason {choice['finish_reason']!r}"
    return _error_words(fault) if fault else None


def _error_words(said: object) -> str:
    """An error in one line: its `message`, or the error itself."""
    said = said.get("message", said) if isinstance(said, dict) else said
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    return " ".join(text.split())[:300]


def _error_text(response: _Body) -> str:
    """What a server says about a failure, in one line: OpenAI's `error.message`, FastAPI's `detail`, or how the text begins."""
    try:
        body = json_to_object(response.text)
    except ValueError:
        body = None
    said = body.get("error", body.get("detail", body.get("message"))) if isinstance(body, dict) else None
    said = said.get("message", said) if isinstance(said, dict) else said
    text = said if isinstance(said, str) else response.text
    return " ".join(text.split())[:300] or response.reason


def _retry_after_seconds(headers: httpx.Headers) -> float | None:
    """What the server asks to wait (RFC 9110, 10.2.3: seconds or a date)."""
    asked = headers.get("retry-after")
    if asked is None:
        return None
    try:
        seconds = float(asked)
    except ValueError:
        try:
            at = parsedate_to_datetime(asked)
        except ValueError:
            return None
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp()
    return max(0.0, seconds) or None  # an answer that asks for no wait gets the usual one


def events_to_answer(text: str) -> dict[str, Any] | None:
    """The answer that server-sent events add up to, from a server that streams unasked; None if the text holds none."""
    answer: dict[str, Any] = {}
    message: dict[str, Any] = {"role": "assistant", "content": None}
    choice: dict[str, Any] = {"message": message, "finish_reason": None}
    events = 0
    for line in text.splitlines():
        if not line.startswith("data:") or line[5:].strip() == "[DONE]":
            if line.strip() and not line.startswith(("data:", ":", "event:", "id:", "retry:")):
                return None
            continue
        try:
            event = json_to_object(line[5:])
        except ValueError:
            return None
        if not isinstance(event, dict):
            return None
        events += 1
        answer |= {key: event[key] for key in ("error", "usage") if event.get(key)}
        parts = event.get("choices")
        if not isinstance(parts, list) or not parts or not isinstance(parts[0], dict) or parts[0].get("index", 0) != 0:
            continue
        choice["finish_reason"] = parts[0].get("finish_reason") or choice["finish_reason"]
        if isinstance(parts[0].get("text"), str):
            choice["text"] = choice.get("text", "") + parts[0]["text"]
        delta = parts[0].get("delta", parts[0].get("message"))
        for key, value in delta.items() if isinstance(delta, dict) else ():
            if key == "tool_calls" and isinstance(value, list):
                for call in value:
                    _add_call(message.setdefault("tool_calls", []), call)
            elif key != "role" and isinstance(value, str):
                message[key] = (message.get(key) or "") + value
    if not events:
        return None
    return answer | ({"choices": [choice]} if choice["finish_reason"] or len(message) > 2 or message["content"] else {})


def _add_call(calls: list[Any], part: object) -> None:
    """Add a piece of a call to the calls so far."""
    if not isinstance(part, dict) or not isinstance(part.get("function"), dict):
        return
    index = part.get("index", len(calls) - 1)
    if not isinstance(index, int) or index >= len(calls) or not calls:
        calls.append({"function": {"name": "", "arguments": ""}})
        index = len(calls) - 1
    function = calls[index]["function"]
    for key in ("name", "arguments"):
        if isinstance(part["function"].get(key), str):
            function[key] += part["function"][key]
