"""An exchange as the row that the adapters of logs read, and what the server tells of the tokens that it drew."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from benchmark.capture.exchanges import Api, Exchange
from core.json_lines import json_to_object
from data.chats import Chat, Skip
from data.formats.catalogue import ADAPTERS
from data.formats.reading import adapt
from data.formats.row_keys import KeyRules, Row
from data.formats.streams import is_stream, stream_to_response

MOST_BYTES = 2**28
"""What an unpacked body may hold; what is behind it is not read."""
_ADAPTERS = {
    Api.CHAT_COMPLETIONS: "openai_request_response",
    Api.COMPLETIONS: "trl_prompt_completion",
    Api.RESPONSES: "openai_request_response",
    Api.MESSAGES: "anthropic_messages",
}
_SAID = frozenset({"messages", "tools", "functions", "prompt", "instructions", "input", "system"})
"""What a chat holds of a request; all else are parameters."""
_TOKENS = ("logprobs", "token_ids", "prompt_token_ids", "prompt_logprobs", "__verbose", "output_ids")
"""Where answers spell out what was said, token by token, so that no secret in it would be found."""
_NOT_REDACTED = KeyRules(redact=False)


class Sampled(BaseModel):
    """The tokens of one answer, each list null where the server does not give it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_ids: tuple[int, ...] | None = None
    tokens: tuple[str, ...] | None = None
    logprobs: tuple[float | None, ...] | None = None


class Answer(NamedTuple):
    """One answer of an exchange: the conversation up to it, or why no chat can hold it."""

    chat: Chat | Skip
    sampled: Sampled | None


class Read(NamedTuple):
    """An exchange, read."""

    row: Row
    """The request and the response in one piece, without what spells tokens out."""
    answers: list[Answer]
    parameters: dict[str, Any]
    model: str | None
    usage: Any
    response_id: str | None
    call_ids: tuple[str, ...]
    """The service's names of the calls in an answer of the Responses API."""
    previous_id: str | None
    """The response at the service that this one goes on from."""


# --- bytes ---


def unpacked(body: bytes, encoding: str) -> bytes:
    """A body without its packing, as far as it came. Of an unknown packing, or broken, what can be read."""
    for each in reversed([name.strip().lower() for name in encoding.split(",")]):
        if each in ("gzip", "x-gzip", "deflate"):
            body = b"".join(_inflated(body))
        elif each in ("br", "zstd"):
            body = b"".join(_decompressed(body, {"br": "brotli"}.get(each, each)))
    return body


def _inflated(body: bytes) -> Iterator[bytes]:
    # Deflate comes with zlib's head and without it.
    bare = len(body) > 1 and body[:2] != b"\x1f\x8b" and (body[0] & 15 != 8 or (body[0] * 256 + body[1]) % 31)
    left = MOST_BYTES
    while body and left > 0:
        inflate = zlib.decompressobj(-15 if bare else 47)
        try:
            made = inflate.decompress(body, left)
        except zlib.error:
            return
        yield made
        left -= len(made)
        body = inflate.unused_data


def _decompressed(body: bytes, name: str) -> Iterator[bytes]:
    left = MOST_BYTES
    try:
        with pa.input_stream(pa.BufferReader(body), compression=name) as stream:
            while left > 0 and (made := stream.read(1 << 14)):
                yield made
                left -= len(made)
    except OSError:  # it ends, or is broken, here
        return


def _value(body: bytes) -> Any:
    """What a body holds: JSON, or its text."""
    text = body.decode("utf-8", errors="replace")
    try:
        return json_to_object(text)
    except ValueError:
        return text


def _response(exchange: Exchange) -> Any:
    """The answer in one piece."""
    text = unpacked(exchange.response, exchange.response_encoding).decode("utf-8", errors="replace")
    if not is_stream(text) and not text.lstrip().startswith(":"):
        value = _value(text.encode())
        return value if isinstance(value, dict) else {"error": value}
    if not exchange.is_whole:  # the last event may be a part of one
        text = text[: max((found.end() for found in re.finditer(r"\r?\n\r?\n", text)), default=0)]
    try:
        value = stream_to_response(text if is_stream(text) else text[text.find("\n") + 1 :])
    except (ValueError, TypeError, AttributeError, KeyError):
        return {"error": "a stream that cannot be put together"}
    return value if isinstance(value, dict) else {"error": "a stream without an answer", "events": value}


# --- rows ---


def read_exchange(exchange: Exchange, stored: Callable[[str], list[Row] | None]) -> Read:
    """An exchange as a row and as chats.

    Args:
        stored: the items of a conversation that the service keeps, by the id of its last response; null where it is unknown.
    """
    request = _value(unpacked(exchange.request, exchange.request_encoding))
    response = _response(exchange)
    asked = request if isinstance(request, dict) else {}
    row = {"request": request, "response": _without_tokens(response)}
    previous = asked.get("previous_response_id")
    before = stored(previous) if isinstance(previous, str) else None
    usage = response.get("usage")
    return Read(
        row,
        _answers(exchange, asked, response, before),
        {key: value for key, value in asked.items() if key not in _SAID},
        next((each["model"] for each in (response, asked) if isinstance(each.get("model"), str)), None),
        usage if isinstance(usage, dict) else None,
        response["id"] if isinstance(response.get("id"), str) else None,
        _call_ids(response),
        previous if isinstance(previous, str) else None,
    )


def _call_ids(response: Row) -> tuple[str, ...]:
    items = response.get("output")
    calls = [each for each in items if isinstance(each, dict)] if isinstance(items, list) else []
    ids = [each.get("call_id") or each.get("id") for each in calls if each.get("type") == "function_call"]
    named = tuple(id for id in ids if isinstance(id, str))
    return named if len(named) == len(ids) else ()


def _answers(exchange: Exchange, request: Row, response: Row, before: list[Row] | None) -> list[Answer]:
    if exchange.status >= 400 or response.get("error"):
        return [Answer(Skip("a request that failed"), None)]
    if not exchange.is_whole and exchange.api is not Api.COMPLETIONS and not _has_ended(response):
        return [Answer(Skip("a reply that was cut off"), None)]
    if before is not None:
        given = request.get("input")
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        request = {**request, "input": [*before, *(items if isinstance(items, list) else [])]}
        request, response = ({**each, "previous_response_id": None} for each in (request, response))
    choices = response.get("choices")
    if exchange.api is Api.COMPLETIONS:
        return [_completion(exchange, request, choice) for choice in choices or [] if isinstance(choice, dict)] or [
            Answer(Skip("a response without a text"), None)
        ]
    row = {"id": exchange.id, "request": request, "response": response}
    results = adapt(ADAPTERS[_ADAPTERS[exchange.api]], row, rules=_NOT_REDACTED)
    chats = [_declared(result) if isinstance(result, Chat) else result for result in results]
    drawn = choices if isinstance(choices, list) and len(choices) == len(chats) else [response] * len(chats)
    return [
        Answer(chat if isinstance(chat, Chat | Skip) else Skip("a pair"), _sampled(each))
        for chat, each in zip(chats, drawn, strict=True)
    ]


def _has_ended(response: Row) -> bool:
    choices = response.get("choices")
    if isinstance(choices, list):
        return all(isinstance(each, dict) and each.get("finish_reason") for each in choices)
    return bool(response.get("stop_reason")) or response.get("status") == "completed"


def _declared(chat: Chat) -> Chat:
    """A chat with those tools alone that the request declared: what calls show of others changes from turn to turn."""
    tools = tuple(tool for tool in chat.tools if tool.function.name not in chat.inferred_tools)
    return chat.model_copy(update={"tools": tools, "inferred_tools": ()})


def _completion(exchange: Exchange, request: Row, choice: Row) -> Answer:
    """A text that goes on from a prompt, as rows of prompt and completion are read."""
    sampled = _sampled(choice)
    prompt = request.get("prompt")
    prompt = prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt
    if not isinstance(prompt, str):
        return Answer(Skip("a prompt that is no text"), sampled)
    if request.get("echo") or request.get("suffix"):
        return Answer(Skip("a completion that is not what follows its prompt"), sampled)
    if choice.get("finish_reason") not in ("stop", None) or not exchange.is_whole:
        return Answer(Skip("a reply that was cut off"), sampled)
    row = {"prompt": prompt, "completion": choice.get("text"), "id": exchange.id}
    (result,) = adapt(ADAPTERS[_ADAPTERS[exchange.api]], row, rules=_NOT_REDACTED)
    return Answer(result if isinstance(result, Chat | Skip) else Skip("a pair"), sampled)


# --- tokens ---


def _without_tokens(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_tokens(item) for key, item in value.items() if key not in _TOKENS}
    return [_without_tokens(item) for item in value] if isinstance(value, list) else value


_ID_AS_TEXT = re.compile(r"token_id:(\d+)")


def _sampled(choice: Row) -> Sampled | None:
    """What a choice, or an answer of the Responses API, tells of its tokens; null where that is nothing."""
    found: list[Any] = []
    told = choice.get("logprobs")
    if isinstance(told, dict) and isinstance(told.get("content"), list):
        found = told["content"]
    elif isinstance(told, dict) and isinstance(told.get("tokens"), list):
        numbers = told.get("token_logprobs")
        numbers = numbers if isinstance(numbers, list) else [None] * len(told["tokens"])
        found = [{"token": each, "logprob": n} for each, n in zip(told["tokens"], numbers, strict=False)]
    for item in choice.get("output") or ():
        for part in (item.get("content") if isinstance(item, dict) else None) or ():
            found += (part.get("logprobs") if isinstance(part, dict) else None) or ()
    if not all(isinstance(each, dict) and isinstance(each.get("token"), str) for each in found):
        return None
    tokens = [each["token"] for each in found]
    numbers = [each.get("logprob") for each in found]
    ids = choice.get("token_ids")
    if not (isinstance(ids, list) and all(type(each) is int for each in ids)):
        texts = [_ID_AS_TEXT.fullmatch(token) for token in tokens]
        ids = [int(text[1]) if text else each.get("id") for text, each in zip(texts, found, strict=True)]
        ids = ids if ids and all(type(each) is int for each in ids) else None
    if not all(n is None or (isinstance(n, int | float) and not isinstance(n, bool)) for n in numbers):
        return None
    if not found and not ids:
        return None
    return Sampled(
        token_ids=None if ids is None else tuple(ids),
        tokens=tuple(tokens) if found else None,
        logprobs=tuple(numbers) if found else None,
    )
