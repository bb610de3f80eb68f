"""A model behind a server with OpenAI's API: vLLM, `trl vllm-serve` (which runs vLLM), llama.cpp, `transformers serve`.

There are two ways to ask. Without a renderer, `/chat/completions` is sent messages and tools, and the server's template
writes the prompt and its parser reads the calls. Calls have ids of nine letters or digits there: Mistral's templates demand
such ids, and others take them. With a renderer, `/completions` is sent the ids of the prompt that it made, so the model is
asked in exactly the context that it was trained in; the calls are read here. docs/benchmark.md says what each way guarantees.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import httpx

from benchmark.agent.episodes import Episode, Turn, Unreadable
from benchmark.agent.server_answers import (
    SERVERS_FAULT,
    WrongShape,
    answer_to_choice,
    choice_to_turn,
    events_to_answer,
    prompt_tokens,
)
from benchmark.agent.transformers_model import completion_to_turn, episode_to_prompt, prompt_fits
from core.errors import UserError, nearest
from core.json_lines import json_to_object
from data.chats import Message
from data.records import ToolSpec
from data.rendering.call_ids import NINE
from data.rendering.renderer import Renderer

TRIES = 6
"""How often a request is sent before it counts as failed."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 30.0
LONGEST_ASKED_WAIT_SECONDS = 600.0
"""A server that asks for a longer wait than this with Retry-After has stopped for today."""
LONGEST_ANSWER_BYTES = 64 * 2**20
"""No answer of a model is longer; a body that goes on is no answer."""
_BYTES_THAT_FIT = 4096
"""A chat of so few bytes fits into any window, so nobody is asked."""


class _Refused(Exception):
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


class ServerPolicy:
    """A served model. Every episode goes on at its own pace: `act` returns as soon as one answer is there.

    Rate limits (429), failures of the server (5xx, or an `error` in an answer), broken connections, timeouts and broken JSON
    are tried again, after the time that `Retry-After` names or else after a growing one. A refusal is not: it is told at
    once. An answer in another shape than the API's is one unreadable turn.

    Args:
        url: the API's base, such as http://127.0.0.1:8000/v1; `/v1` is added where there is no path.
        model: the name under which the server knows it; null takes the only one that it serves.
        renderer: makes the prompts, which are then sent as ids.
        concurrency: most requests at once.
        timeout_seconds: how long one answer may take.
        window: most tokens of a prompt and its answer; null asks the server.

    Raises:
        UserError: if there is no server, or it serves no such model.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        renderer: Renderer | None = None,
        api_key: str | None = None,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        concurrency: int = 16,
        timeout_seconds: float = 300.0,
        window: int | None = None,
    ) -> None:
        self.url, self.renderer = check_url(url), renderer
        self.max_new_tokens, self.temperature, self.timeout_seconds = max_new_tokens, temperature, timeout_seconds
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
        self._asked: dict[str, asyncio.Task[Turn]] = {}
        try:
            self.served = self._loop.run(self._models())
            self.model = self._model_named(model)
        except BaseException:
            self.close()
            raise
        told = self.served.get(self.model)
        self.window = window if window is not None else told

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

    def fits(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> bool:
        """Whether the window holds the prompt of these messages and one more turn of the model.

        Without a renderer nobody here can count the tokens, so a chat that is not short is sent for one token.
        """
        if self.renderer is not None:
            return self.window is None or prompt_fits(self.renderer, messages, tools, self.window - self.max_new_tokens)
        body = self._chat_body(messages, tools, max_new_tokens=1)
        if len(json.dumps(body, ensure_ascii=False).encode()) + self.max_new_tokens <= _BYTES_THAT_FIT:
            return True
        try:
            used = prompt_tokens(self._loop.run(self._post("/chat/completions", body)))
        except _Refused as refusal:
            if refusal.is_too_long:
                return False
            if refusal.is_the_models:  # one token of a call is no call: the prompt was read, and fits
                return True
            raise self._told(refusal) from None
        except WrongShape:
            return True
        return self.window is None or used is None or used + self.max_new_tokens <= self.window

    def act(self, episodes: Sequence[Episode]) -> list[Turn | None]:
        """The turns that have come by now, at least one; None for the episodes whose answer is still awaited."""
        return self._loop.run(self._act(episodes))

    def forget(self, episode: Episode) -> None:
        """Nothing is kept for an ended episode."""

    async def _act(self, episodes: Sequence[Episode]) -> list[Turn | None]:
        for episode in episodes:
            if episode.attempt.key not in self._asked:
                self._asked[episode.attempt.key] = asyncio.ensure_future(self._turn(episode))
        await asyncio.wait(self._asked.values(), return_when=asyncio.FIRST_COMPLETED)
        turns: list[Turn | None] = []
        for episode in episodes:
            key = episode.attempt.key
            turns.append(self._asked.pop(key).result() if self._asked[key].done() else None)
        return turns

    async def _turn(self, episode: Episode) -> Turn:
        seed = episode.attempt.seed if self.temperature > 0 else None
        try:
            if self.renderer is None:
                return await self._chat_turn(episode, seed)
            return await self._exact_turn(self.renderer, episode, seed)
        except _Refused as refusal:
            if refusal.is_the_models:
                return Unreadable("", f"unreadable turn: {refusal}")
            if refusal.is_too_long and episode.actions:
                return Unreadable("", f"no room in the model's window: {refusal}", ends=True)
            raise self._told(refusal) from None
        except WrongShape as error:
            return Unreadable("", f"{SERVERS_FAULT}answer has another shape than the API's: {error}")

    async def _chat_turn(self, episode: Episode, seed: int | None) -> Turn:
        body = self._chat_body(episode.messages, episode.task.tools)
        if seed is not None:
            body |= {"seed": seed, "top_p": 1.0}
        choice = answer_to_choice(await self._post("/chat/completions", body))
        return choice_to_turn(choice, tools=episode.task.tools, max_new_tokens=self.max_new_tokens)

    def _chat_body(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], *, max_new_tokens: int | None = None
    ) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [message_to_openai(message) for message in NINE.apply(messages)],
            **({"tools": [tool.model_dump() for tool in tools]} if tools else {}),
            self._limit: self.max_new_tokens if max_new_tokens is None else max_new_tokens,
            "temperature": self.temperature,
        }

    async def _exact_turn(self, renderer: Renderer, episode: Episode, seed: int | None) -> Turn:
        prompt = episode_to_prompt(renderer, episode, window=self.window, max_new_tokens=self.max_new_tokens)
        if isinstance(prompt, Unreadable):
            return prompt
        body = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            **({} if seed is None else {"seed": seed}),
            # Servers fill what is not said from the model's generation_config.json or defaults of their own.
            **{"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "repeat_penalty": 1.0},
            **{"stop_token_ids": list(renderer.stop_ids), "skip_special_tokens": False, "return_token_ids": True},
        }
        answer = await self._post("/completions", body)
        used = prompt_tokens(answer)
        if used is not None and used != len(prompt):
            raise UserError(
                f"{self.url}: the server read {used} tokens where {len(prompt)} were sent, so it does not take prompts of ids "
                "as they are; leave out --tokenizer to send messages instead"
            )
        choice = answer_to_choice(answer)
        text, ids = choice.get("text"), choice.get("token_ids")
        is_cut = choice.get("finish_reason") == "length"
        words = len(renderer.tokenizer)
        if not isinstance(ids, list) or not ids or not all(type(each) is int and 0 <= each < words for each in ids):
            if not isinstance(text, str):
                raise WrongShape(
                    "neither 'choices.0.text' is a text nor 'choices.0.token_ids' a list of the tokenizer's ids"
                )
            ids = renderer.tokenizer.encode(text, add_special_tokens=False)
            if not is_cut and (not ids or ids[-1] not in renderer.stop_ids):
                ids.append(renderer.stop_ids[0])  # a text ends without its stop token
        return completion_to_turn(renderer, ids, prompt=prompt, tools=episode.task.tools, is_cut=is_cut)

    # ---------------------------------------------------------------- requests

    async def _models(self) -> dict[str, int | None]:
        """The names of what is served, with the windows where they are told. Not all servers tell."""
        try:
            answer = await self._request("GET", "/models", None)
        except _Refused as refusal:
            if refusal.status in (401, 403):
                raise self._told(refusal) from None
            return {}
        rows = answer.get("data")
        served: dict[str, int | None] = {}
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict) and isinstance(row.get("id"), str):
                meta = row.get("meta")
                told = row.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else None)
                served[row["id"]] = told if isinstance(told, int) else None
        return served

    def _model_named(self, name: str | None) -> str:
        if name is not None:
            return name
        if len(self.served) == 1:
            return next(iter(self.served))
        known = (
            f"it serves {', '.join(sorted(self.served))}" if self.served else "the server does not tell what it serves"
        )
        raise UserError(f"--server {self.url}: which model? Name it with --model; {known}")

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What the server answers.

        Raises:
            _Refused: if it will not answer.
            WrongShape: if its answer is no text.
            UserError: if it failed `TRIES` times.
        """
        try:
            return await self._request("POST", path, body)
        except _Refused as refusal:
            if "max_tokens" not in body or not refusal.is_of_the_limit:
                raise
            self._limit = "max_completion_tokens"
            return await self._request("POST", path, {_renamed(key): value for key, value in body.items()})

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """Send a request until it is answered.

        Raises:
            _Refused: if the server will not answer it.
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
            raise _Refused(500, _error_text(response))
        # A list of models that fails may do so for good (transformers serve without a hub cache), and is not needed.
        if response.status in (408, 429) or (response.status >= 500 and method == "POST"):
            raise _Passing(f"HTTP {response.status}: {_error_text(response)}", _retry_after_seconds(response.headers))
        if response.status >= 300:
            moved = response.headers.get("location") if response.status < 400 else None
            raise _Refused(response.status, f"it has moved to {moved}" if moved else _error_text(response))
        try:
            answer = json_to_object(response.text)
        except ValueError as error:
            answer = events_to_answer(response.text)
            if answer is None:
                is_json = "json" in response.headers.get("content-type", "") or response.text.lstrip().startswith("{")
                if is_json or self._has_answered:  # an address that has answered is the right one
                    raise _Passing(f"a broken answer ({error})") from None
                raise _Refused(response.status, _error_text(response)) from None
        if not isinstance(answer, dict):
            raise _Refused(response.status, _error_text(response))
        if fault := _fault_of(answer):
            if (refusal := _Refused(400, fault)).is_too_long or refusal.is_of_the_limit:
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

    def _told(self, refusal: _Refused) -> UserError:
        """A refusal, for the person who can mend it."""
        where = f"{self.url} refuses with HTTP {refusal.status}: {refusal}"
        if refusal.status in (401, 403):
            return UserError(f"{where}. Is the right key in the environment variable that --api-key-env names?")
        if self.renderer is not None and refusal.status in (400, 422) and not refusal.is_too_long:
            return UserError(f"{where}. Not all servers take prompts of ids; leave out --tokenizer to send messages.")
        if self.served and self.model not in self.served:
            return UserError(f"{where}. It serves {', '.join(sorted(self.served))}.{nearest(self.model, self.served)}")
        if refusal.status == 404:
            return UserError(f"{where}. Is this the API's base, such as http://127.0.0.1:8000/v1?")
        if refusal.status < 300:
            return UserError(f"{self.url}: expected JSON, got: {refusal}. Is this the API's base, such as .../v1?")
        if refusal.is_too_long:
            return UserError(f"{where}. Give the model's window with --window, so that tasks beyond it are left out.")
        return UserError(where)


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


def message_to_openai(message: Message) -> dict[str, Any]:
    """A message as OpenAI's API takes it: arguments are JSON text there."""
    said = message.to_template()
    for call in said.get("tool_calls", []):
        call["function"] = {
            **call["function"],
            "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
        }
    return said


def _renamed(key: str) -> str:
    return "max_completion_tokens" if key == "max_tokens" else key


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
