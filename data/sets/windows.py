"""A chat that is longer than a model reads at once -> windows: the same system prompt, tools and task, each with a part of it.

A session of a day is one chat of 100,000 tokens. No window cuts a call from its results, every target stands in exactly one
window, and a chat that fits stays as it is. What a user asked for later is said again at the head of a window that begins in
the middle of the work on it. A step that is longer than a window stays whole, for whoever trains to refuse, and is counted.
Windows in which nothing is learned are left out and counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from data.chats import Chat, Message, Skip

SPLIT_LONG_TOKENS = 8192
"""How long windows are where nobody says it."""
BYTES_PER_TOKEN = 3
"""Without a tokenizer, a token counts as so many bytes: fewer than tokenizers make of English, code or Korean."""

CountTokens = Callable[[str], int]
EMPTY_WINDOW = Skip("a window in which nothing is learned")


class Windows(NamedTuple):
    """The windows of a chat, and how many were left out because nothing is learned in them."""

    chats: list[Chat]
    empty: int = 0
    too_long: int = 0
    """How many are longer than windows may be, because one of their steps is."""


def count_by_bytes(text: str) -> int:
    """About how many tokens a text is, and hardly ever too few."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def _steps(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Messages in parts that must not be cut: each call with its results."""
    step: list[Message] = []
    for message in messages:
        if message.role != "tool" and step:
            yield step
            step = []
        step.append(message)
    if step:
        yield step


def chat_to_windows(chat: Chat, tokens: int, count: CountTokens = count_by_bytes) -> Windows:
    """The windows of a chat, of `tokens` tokens at most where its steps allow it; those in which nothing is learned are left
    out, but for the first where nothing is learned in any. A chat that fits is its own only window."""

    def length(messages: Sequence[Message]) -> int:
        return sum(count(json.dumps(message.to_template(), ensure_ascii=False)) for message in messages)

    tools = (
        count(json.dumps([tool.model_dump(mode="json") for tool in chat.tools], ensure_ascii=False))
        if chat.tools
        else 0
    )
    if tools + length(chat.messages) <= tokens:
        return Windows([chat])
    begin = next((place for place, message in enumerate(chat.messages) if message.role == "assistant"), 0)
    head = list(chat.messages[:begin])
    room = tokens - tools - length(head)
    windows: list[list[Message]] = []
    asked: list[Message] = []  # what the user said last, behind the head
    window: list[Message] = []
    used = 0
    is_answered = True
    for step in _steps(chat.messages[begin:]):
        size = length(step)
        is_user = step[0].role == "user"
        # A question opens a window rather than ending one, but for its answer.
        if window and used + size > room:
            windows.append(window)
            window = [] if is_user and is_answered else list(asked)
            used = length(window)
        if is_user:
            asked = [*(asked if not is_answered else []), *step]
        is_answered = not is_user
        window += step
        used += size
    windows.append(window)
    group = chat.group or f"{chat.source}:{chat.id}"
    taught = [part for part in windows if any(message.loss_weight > 0 for message in part)] or windows[:1]
    made = [
        chat.model_copy(update={"id": f"{chat.id}/window-{n}", "group": group, "messages": (*head, *part)})
        for n, part in enumerate(taught, start=1)
    ]
    return Windows(made, len(windows) - len(taught), sum(length(part) > room for part in taught))
