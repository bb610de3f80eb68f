"""A streamed answer, as logs hold it -> the answer that the same API gives in one piece.

Streams are texts of server-sent events, or lists of what they hold: chunks of chat completions, events of the Responses API or
of Anthropic's Messages. One that was broken off has no reason of its end, and is left out as a reply that was cut off.
"""

from __future__ import annotations

import json
import re
from typing import Any

from core.json_lines import json_to_object
from data.formats.row_keys import Row

CUT_OFF = "length"
"""The reason of its end that a stream gets which has none."""


def is_stream(value: Any) -> bool:
    """Whether a value is a stream."""
    if isinstance(value, str):
        return value.lstrip().startswith(("data:", "event:"))
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def stream_to_response(value: Any) -> Any:
    """The answer that a stream gives; any other value as it is.

    Raises:
        ValueError: for an event that is no JSON.
    """
    if not is_stream(value):
        return value
    if isinstance(value, str):
        # Of all that Python takes for the end of a line, these are the ones that end one of a stream.
        split = re.split(r"\r\n|\n|\r", value)
        lines = (line.removeprefix("data:").strip() for line in split if line.startswith("data:"))
        value = [json_to_object(line) for line in lines if line and line != "[DONE]"]
    events: list[Row] = [each for each in value if isinstance(each, dict)]
    whole = [
        each["response"] for each in events if str(each.get("type")).startswith("response.") and each.get("response")
    ]
    if whole:
        return whole[-1]
    if any(each.get("type") == "message_start" for each in events):
        return _message(events)
    return _completion(events) if any("choices" in each for each in events) else value


def _message(events: list[Row]) -> Row:
    """A message of Anthropic's."""
    message: Row = {}
    blocks: dict[Any, Row] = {}
    texts: dict[Any, str] = {}
    for event in events:
        place, delta = event.get("index"), event.get("delta") or {}
        if event.get("type") == "message_start":
            message = dict(event.get("message") or {})
        elif event.get("type") == "content_block_start":
            blocks[place] = dict(event.get("content_block") or {})
        elif event.get("type") == "content_block_delta" and place in blocks:
            for key in ("text", "thinking", "signature"):
                if isinstance(delta.get(key), str):
                    blocks[place][key] = str(blocks[place].get(key) or "") + delta[key]
            if isinstance(delta.get("partial_json"), str):
                texts[place] = texts.get(place, "") + delta["partial_json"]
        elif event.get("type") == "message_delta":
            message |= {key: item for key, item in delta.items() if item is not None}
    for place, text in texts.items():
        if text.strip():
            try:
                blocks[place]["input"] = json_to_object(text)
            except ValueError:  # of a call that was cut off, what there is of it
                blocks[place]["input"] = text
    return {**message, "content": list(blocks.values()), "stop_reason": message.get("stop_reason") or "max_tokens"}


def _completion(chunks: list[Row]) -> Row:
    """A chat completion, or a completion."""
    choices: dict[Any, Row] = {}
    calls: dict[tuple[Any, Any], Row] = {}
    for chunk in chunks:
        for part in chunk.get("choices") or ():
            choice = choices.setdefault(part.get("index", 0), {})
            if part.get("finish_reason") is not None:
                choice["finish_reason"] = part["finish_reason"]
            _add_tokens(choice, part)
            if isinstance(part.get("text"), str):
                choice["text"] = choice.get("text", "") + part["text"]
                continue
            delta, message = part.get("delta") or {}, choice.setdefault("message", {"role": "assistant", "content": ""})
            for key in ("content", "reasoning_content", "reasoning", "refusal"):
                if isinstance(delta.get(key), str):
                    message[key] = str(message.get(key) or "") + delta[key]
            if isinstance(delta.get("function_call"), dict):
                _add_texts(message.setdefault("function_call", {"name": "", "arguments": ""}), delta["function_call"])
            for piece in delta.get("tool_calls") or ():
                where = (part.get("index", 0), piece.get("index", 0))
                call = calls.get(where)
                if call is None or (piece.get("id") and call.get("id") not in (None, piece["id"])):
                    # Where servers number no calls, another id is another call.
                    call = calls[where] = {"type": "function", "function": {"name": "", "arguments": ""}}
                    message.setdefault("tool_calls", []).append(call)
                call |= {"id": piece["id"]} if piece.get("id") else {}
                _add_texts(call["function"], piece.get("function") or {})
    for choice in choices.values():
        message = choice.get("message", {})
        if message.get("refusal") and not message["content"]:
            message["content"] = None  # as where it comes in one piece
    made = [{"finish_reason": CUT_OFF, **choices[index], "index": index} for index in sorted(choices)]
    told = {key: each[key] for each in chunks for key in ("model", "usage") if each.get(key)}
    return {
        "id": next((each["id"] for each in chunks if each.get("id")), None),
        **told,
        "choices": json.loads(json.dumps(made)),
    }


def _add_texts(whole: Row, piece: Row) -> None:
    for key, text in piece.items():
        if isinstance(text, str):
            whole[key] = whole.get(key, "") + text


def _add_tokens(choice: Row, part: Row) -> None:
    """The ids and log-probs of a chunk behind those of the chunks before it."""
    if isinstance(part.get("token_ids"), list):
        choice.setdefault("token_ids", []).extend(part["token_ids"])
    for key, items in (part.get("logprobs") or {}).items():
        if isinstance(items, list):
            choice.setdefault("logprobs", {}).setdefault(key, []).extend(items)
