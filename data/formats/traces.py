"""Traces: what services that watch models record, one row a span, and a conversation as many spans.

Every request of a conversation holds the turns before it, so that its spans repeat each other. `rows_by_conversation` puts
those of one conversation together, wherever they stand in a file, and `without_beginnings` leaves out a chat that is the
beginning of another of them. A span of another prompt, a sub-agent's for one, stays a chat of its own.

    Spans = what an adapter of a trace format gives: a row as spans, each with the id of its conversation
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, groupby, islice
from typing import Any

from data.chats import Chat, Message, Result, Skip
from data.formats.inputs import CHUNK_ROWS, Input, Rows
from data.formats.json_documents import NumberedRow
from data.formats.parts import Row

Spans = Callable[[Row], Sequence[tuple[str, Row]]]
"""A row as the spans that it holds, in the columns that the adapter reads, each with the id of its conversation; an empty id
for a span that stands alone."""

FAILED = "a request that failed"
"""Why a span is left out whose request failed."""
BEGINNING = Skip("the beginning of a longer chat of its trace")


def rows_by_conversation(source: Input, spans: Spans) -> Iterator[Rows]:
    """The spans of each conversation as one row, `{"rows": [...]}`, under the number of its first one.

    A file is read twice, so that memory holds only the conversations whose last span is still to come.
    """
    files = zip(_by_file(source), _by_file(source), strict=True)
    for (path, first), (_, again) in files:
        to_come = Counter(key for _, row in first if isinstance(row, dict) for key, _ in spans(row) if key)
        rows = _gathered(again, spans, to_come)
        while numbered := list(islice(rows, CHUNK_ROWS)):
            yield Rows(path, numbered)


def _by_file(source: Input) -> Iterator[tuple[str, Iterator[NumberedRow]]]:
    for path, chunks in groupby(source.chunks(), key=lambda chunk: chunk.path):
        yield path, chain.from_iterable(chunk.rows() for chunk in chunks)


def _gathered(numbered: Iterator[NumberedRow], spans: Spans, to_come: Counter[str]) -> Iterator[NumberedRow]:
    begun: dict[str, tuple[int, list[Row]]] = {}
    for number, row in numbered:
        if not isinstance(row, dict):
            yield number, row
            continue
        for key, span in spans(row):
            if not key:
                yield number, {"rows": [span]}
                continue
            begun.setdefault(key, (number, []))[1].append(span)
            to_come[key] -= 1
            if not to_come[key]:
                first, gathered = begun.pop(key)
                yield first, {"rows": gathered}


def without_beginnings(results: Sequence[Result], bad: Sequence[Chat] = ()) -> list[Result]:
    """Results of one conversation, with a Skip for each chat that another one with the same tools begins with.

    Services keep no thoughts in what they are sent again: a thought of the shorter chat is put into the longer one, which would
    lack it. Where both thought something else at one place, both stay. Equal chats are no beginnings of each other. A turn that
    the shorter chat learns is learned in the longer one; the answer of a `bad` one is nowhere. A chat with a label scores one
    answer alone, and is left as it is.
    """
    made = list(results)
    chats = [(place, result) for place, result in enumerate(made) if isinstance(result, Chat) and result.label is None]
    longer: dict[bytes, int] = {}  # what a chat begins with -> the place of that chat
    for place, chat in sorted(chats, key=lambda item: -len(item[1].messages)):
        begun = _beginnings(chat)
        whole = longer.get(begun[-1])
        if whole is not None:
            found = made[whole]
            assert isinstance(found, Chat)
            messages = _with_thoughts(found.messages, chat.messages)
            if messages is not None:
                made[whole] = found.model_copy(update={"messages": messages})
                made[place] = BEGINNING
                continue
        for beginning in begun[:-1]:
            longer.setdefault(beginning, place)
    ends = {_beginnings(chat)[-1] for chat in bad}
    for place, result in enumerate(made) if ends else ():
        if isinstance(result, Chat) and result.label is None:
            begun = _beginnings(result)
            turns = [
                message.model_copy(update={"weight": 0}) if digest in ends and message.role == "assistant" else message
                for message, digest in zip(result.messages, begun, strict=True)
            ]
            made[place] = result.model_copy(update={"messages": tuple(turns)})
    return made


_NOT_COMPARED: Any = {
    "reasoning_content": True, "weight": True, "tool_call_id": True, "tool_calls": {"__all__": {"id"}},
}  # fmt: skip


def _beginnings(chat: Chat) -> list[bytes]:
    """A digest for each of the chat's beginnings, the whole chat last. Thoughts, weights and ids of calls do not count, which
    services leave out of what they are sent again. Results count with the place of their call."""
    digest = hashlib.sha256("\n".join(tool.model_dump_json() for tool in chat.tools).encode())
    digests = []
    places: dict[str | None, int] = {}
    for message in chat.messages:
        for call in message.tool_calls:
            places[call.id] = len(places)
        digest.update(f"\n{places.get(message.tool_call_id)} {message.model_dump_json(exclude=_NOT_COMPARED)}".encode())
        digests.append(digest.digest())
    return digests


def _with_thoughts(messages: tuple[Message, ...], beginning: tuple[Message, ...]) -> tuple[Message, ...] | None:
    """The messages with the thoughts of their beginning; null where they hold others."""
    made = list(messages)
    for place, (message, same) in enumerate(zip(messages, beginning, strict=False)):
        if message.reasoning_content is None and same.reasoning_content is not None:
            made[place] = message.model_copy(update={"reasoning_content": same.reasoning_content})
        elif same.reasoning_content not in (None, message.reasoning_content):
            return None
        if same.loss_weight > message.loss_weight:
            made[place] = made[place].model_copy(update={"weight": same.weight})
    return tuple(made)


def text_in(row: Row, *keys: str) -> str:
    """The first of these keys that holds an id; empty without one."""
    value: Any = next((row[key] for key in keys if isinstance(row.get(key), str) and row[key]), "")
    return str(value)
