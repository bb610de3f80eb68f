"""Exchanges put together: each as what it adds to the conversation that it goes on with.

A request holds the whole conversation before it. One that begins with all that an earlier exchange said, tools and answer
included, goes on with it; of several the longest. So a conversation is a tree of exchanges, and each way from its root to a
last answer is a chat. A header may tell conversations apart that begin alike; `previous_response_id` names what goes before.

What is compared is what was said; what is kept is redacted. After a restart only that is left, and a placeholder stands for
anything.

Assistants' turns that nobody here has seen a model say weigh 0.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from benchmark.capture.exchanges import Api, Exchange
from benchmark.capture.rows import Read, Sampled, read_exchange
from data.chats import Chat, Message, Skip, check_messages
from data.contribution.names import Names, texts_in
from data.contribution.redaction import Redaction, redact_value
from data.formats.inferred_tools import with_inferred_tools
from data.formats.reading import CAPTURED, commands_of, without_names
from data.formats.row_keys import Row
from data.records import ToolSpec


class Recorded(BaseModel):
    """A line of exchanges.jsonl: one answer of a model, with what the conversation got since the answer before."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    after: str | None = None
    """The line that it goes on with; null at the beginning of a conversation."""
    same_as: str | None = None
    """An earlier line that goes on with the same one and says the same."""
    conversation: str | None = None
    """A hash of the header that named it."""
    api: Api
    model: str | None = None
    status: int
    asked_at: AwareDatetime
    answered_at: AwareDatetime
    response_id: str | None = None
    call_ids: tuple[str, ...] = ()
    """The service's own names of the answer's calls, by which a later request that goes on from this response answers them."""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    usage: dict[str, JsonValue] | None = None
    messages: tuple[Message, ...] = ()
    """What is new; the last one is the answer."""
    tools: tuple[ToolSpec, ...] = ()
    """Those of the conversation, at its beginning."""
    sampled: Sampled | None = None
    redacted: dict[str, int] = Field(default_factory=dict)
    left_out: str | None = None
    """Why it is in no chat; then the whole row stands here."""
    request: JsonValue = None
    response: JsonValue = None

    def to_line(self) -> bytes:
        """A line of JSON without what is not there."""
        return self.model_dump_json(exclude_defaults=True).encode() + b"\n"


@dataclass(eq=False)
class Turn:
    """A recorded answer in its conversation."""

    recorded: Recorded
    parent: Turn | None
    chat_id: str
    size: int
    """How many messages the conversation has, up to this answer."""
    children: int = 0
    redaction: Redaction | None = None
    """What is known of its secrets; null where it was recorded before this process began."""
    names: Names | None = None

    def way(self) -> list[Turn]:
        """From the beginning of the conversation to here."""
        turns = [self]
        while turns[-1].parent is not None:
            turns.append(turns[-1].parent)
        return turns[::-1]

    def messages(self) -> list[Message]:
        """The conversation up to this answer."""
        return [message for turn in self.way() for message in turn.recorded.messages]

    def chat(self) -> Chat:
        """The conversation as a chat."""
        root = self.way()[0].recorded
        model = self.recorded.model
        chat = Chat(
            messages=tuple(self.messages()),
            tools=root.tools,
            id=self.chat_id,
            source=CAPTURED if model is None else f"{CAPTURED}/{model}",
            group=root.conversation or root.id.partition("/")[0],  # several answers of one request are one group
        )
        return with_inferred_tools([chat])[0]


class Conversations:
    """All that was recorded, as trees."""

    def __init__(self, *, redact: bool = True) -> None:
        self.redact = redact
        self.left_out = Counter[str]()
        self.redacted = Counter[str]()
        self._turns: dict[str, Turn] = {}
        self._by_response: dict[str, Turn] = {}
        self._ends: dict[tuple[str | None, bytes], Turn] = {}
        self._earlier: list[Turn] = []
        """Those that a process before this one recorded, the longest first once they are all there."""

    # --- what is there ---

    def add(self, recorded: Recorded) -> Turn | None:
        """Take in a line that was written already."""
        self.redacted.update(recorded.redacted)
        if recorded.left_out is not None:
            self.left_out[recorded.left_out] += 1
            return None
        parent = self._turns.get(recorded.after or "")
        chat_id = parent.chat_id if parent is not None and not parent.children else recorded.id
        turn = Turn(recorded, parent, chat_id, (parent.size if parent else 0) + len(recorded.messages))
        if parent is not None:
            parent.children += 1
        self._turns[recorded.id] = turn
        if recorded.response_id is not None:
            self._by_response[recorded.response_id] = turn
        return turn

    def add_earlier(self, lines: Iterable[Recorded]) -> None:
        """Take in what a process before this one wrote."""
        turns = [self.add(line) for line in lines]
        self._earlier = sorted((turn for turn in turns if turn is not None), key=lambda turn: -turn.size)

    def last_turns(self) -> Iterator[Turn]:
        """The last answer of each chat, in the order in which they came; one that another goes on from in the same words is
        none."""
        for turn in self._turns.values():
            same = self._turns.get(turn.recorded.same_as or "")
            if not turn.children and not (same is not None and same.children):
                yield turn

    # --- what comes ---

    def take(self, exchange: Exchange) -> tuple[list[Recorded], dict[str, Recorded]]:
        """The lines that an exchange adds, and those that change because it gives a secret of theirs away, by id."""
        read = read_exchange(exchange, self._stored)
        lines: list[Recorded] = []
        changed: dict[str, Recorded] = {}
        for number, (chat, sampled) in enumerate(read.answers):
            id = exchange.id if len(read.answers) == 1 else f"{exchange.id}/{number}"
            common = self._common(exchange, read, id)
            if isinstance(chat, Skip):
                lines.append(self._left_out(exchange, read.row, common, chat.reason))
                continue
            digests = list(_digests(_said(chat)))
            parent = self._parent(exchange, read, chat, digests)
            added = self._extended(exchange, common, chat, sampled, parent, digests[-1])
            if isinstance(added, str) and parent is not None:
                added = self._extended(exchange, common, chat, sampled, None, digests[-1])
            if isinstance(added, str):
                lines.append(self._left_out(exchange, read.row, common, added))
                continue
            lines.append(added[0])
            changed |= added[1]
        return lines, changed

    def take_unread(self, exchange: Exchange, reason: str) -> Recorded:
        """The line of an exchange that cannot be read at all."""
        row = {"request": exchange.request.decode(errors="replace"), "response": None}
        return self._left_out(exchange, row, self._of(exchange, exchange.id), reason)

    def _of(self, exchange: Exchange, id: str) -> Row:
        return {
            "id": id,
            "conversation": exchange.conversation,
            "api": exchange.api,
            "status": exchange.status,
            "asked_at": exchange.asked_at,
            "answered_at": exchange.answered_at,
        }

    def _common(self, exchange: Exchange, read: Read, id: str) -> Row:
        parameters, _ = self._redacted(self._new_redaction(exchange), read.parameters)
        told = {"model": read.model, "response_id": read.response_id, "parameters": parameters, "usage": read.usage}
        if exchange.api is Api.RESPONSES:
            told["call_ids"] = read.call_ids
        return self._of(exchange, id) | told

    def _stored(self, response_id: str) -> list[Row] | None:
        turn = self._by_response.get(response_id)
        return None if turn is None else list(turns_to_items(turn.way()))

    def _left_out(self, exchange: Exchange, row: Row, common: Row, reason: str) -> Recorded:
        names = Names.told_by(texts_in(row)) if self.redact else Names()
        made, found = self._redacted(self._new_redaction(exchange), row)
        made = names.without(made) if names else made
        counts = found + names.found
        line = Recorded(**common, left_out=reason, redacted=counts, request=made["request"], response=made["response"])
        self.add(line)
        return line

    def _extended(
        self, exchange: Exchange, common: Row, chat: Chat, sampled: Sampled | None, parent: Turn | None, digest: bytes
    ) -> tuple[Recorded, dict[str, Recorded]] | str:
        """The line of an answer that goes on with `parent`, and those that change with it; or why there is none."""
        done = parent.size if parent is not None else 0
        redaction, names = self._known(exchange, parent, chat)
        knew = {*redaction.given_away, *names.users, *names.hosts}
        new = [
            message.model_copy(update={"weight": 0.0}) if message.role == "assistant" else message
            for message in chat.messages[done:-1]
        ]
        new.append(chat.messages[-1])
        before = parent.messages() if parent is not None else []
        new = _with_ids(new, chat.messages[:done], before, redact=self.redact)
        tools = chat.tools if parent is None else ()
        written = {"messages": _dumped(new), "tools": [tool.model_dump(mode="json") for tool in tools]}
        if self.redact:
            names.learn(texts_in(written), commands_of(chat))
        names.found.clear()
        made, found = self._redacted(redaction, written)
        without_names(made, names)
        found += names.found
        is_as_said = made["messages"][-1] == _dumped(new)[-1]
        messages = [Message.model_validate(each) for each in made["messages"]]
        if fault := check_messages([*before, *messages]):
            return f"no chat: {fault.partition(': ')[2]}"
        key = (exchange.conversation, digest)
        same = self._ends.get(key)
        line = Recorded(
            **common,
            after=parent.recorded.id if parent is not None else None,
            same_as=same.recorded.id if same is not None else None,
            messages=tuple(messages),
            tools=made["tools"],
            # The tokens of an answer spell out what was taken out of it.
            sampled=sampled if is_as_said else None,
            redacted=found,
        )
        late = {*redaction.given_away, *names.users, *names.hosts} - knew
        changed = self._changed(parent, redaction, names, late) if parent is not None and late and self.redact else {}
        turn = self.add(line)
        assert turn is not None
        turn.redaction, turn.names = redaction, names
        self._ends.setdefault(key, turn)
        return line, changed

    # --- what goes before ---

    def _parent(self, exchange: Exchange, read: Read, chat: Chat, digests: Sequence[bytes]) -> Turn | None:
        lines = _said(chat)
        before = self._by_response.get(read.previous_id or "")
        if before is not None and _begins(lines, before):
            return before
        for size in range(len(chat.messages) - 1, 0, -1):
            turn = self._ends.get((exchange.conversation, digests[size]))
            if turn is not None:
                return turn
        for turn in self._earlier:
            if turn.recorded.conversation == exchange.conversation and _begins(lines, turn):
                self._ends[exchange.conversation, digests[turn.size]] = turn
                return turn
        return None

    def _known(self, exchange: Exchange, parent: Turn | None, chat: Chat) -> tuple[Redaction, Names]:
        """What is known of the secrets of a conversation, to be added to."""
        redaction, names = self._new_redaction(exchange), Names()
        if parent is None or not self.redact:
            return redaction, names
        if parent.redaction is None or parent.names is None:  # of a process before this one
            begun = {"messages": _dumped(chat.messages[: parent.size]), "tools": []}
            redaction.redact(begun)
            names.learn(texts_in(begun), commands_of(chat))
            return redaction, names
        for key in exchange.keys:
            parent.redaction.know(key, "API_KEY")
        return parent.redaction.copy(), Names(list(parent.names.users), list(parent.names.hosts))

    @staticmethod
    def _new_redaction(exchange: Exchange) -> Redaction:
        redaction = Redaction()
        for key in exchange.keys:
            redaction.know(key, "API_KEY")
        return redaction

    def _redacted(self, redaction: Redaction, value: Any) -> tuple[Any, Counter[str]]:
        if not self.redact:
            return value, Counter()
        made, found = redaction.redact(value)
        return made, Counter(each.kind for each in found)

    def _changed(self, last: Turn, redaction: Redaction, names: Names, late: set[str]) -> dict[str, Recorded]:
        """The lines of a conversation in which something stands that only a later turn gave away, without it."""
        changed = {}
        for turn in last.way():
            old = _dumped(turn.recorded.messages)
            if not any(secret in text for text in texts_in(old) for secret in late):
                continue
            made, _ = redaction.redact({"messages": old, "tools": []})
            without_names(made, names)
            messages = tuple(Message.model_validate(each) for each in made["messages"])
            if messages != turn.recorded.messages:
                is_as_said = messages[-1] == turn.recorded.messages[-1]
                update = {"messages": messages, "sampled": turn.recorded.sampled if is_as_said else None}
                turn.recorded = turn.recorded.model_copy(update=update)
                changed[turn.recorded.id] = turn.recorded
        return changed


def _with_ids(
    new: Iterable[Message], said: Iterable[Message], written: Iterable[Message], *, redact: bool
) -> list[Message]:
    """Messages whose results answer the calls of a conversation by the ids under which these were written, and whose own calls
    have ids that are neither taken nor a secret."""
    before, after = ([call.id for message in each for call in message.tool_calls] for each in (said, written))
    ids: dict[str | None, str | None] = dict(zip(before, after, strict=True))
    made = []
    for message in new:
        for call in message.tool_calls:
            is_free = call.id not in after and not (redact and redact_value(call.id)[1])
            free = (id for n in count(len(after)) if (id := f"call_{n}") not in after)
            ids[call.id] = call.id if is_free else next(free)
            after.append(str(ids[call.id]))
        calls = tuple(call.model_copy(update={"id": ids[call.id]}) for call in message.tool_calls)
        update = {"tool_calls": calls, "tool_call_id": ids.get(message.tool_call_id, message.tool_call_id)}
        made.append(message.model_copy(update=update))
    return made


def _dumped(messages: Iterable[Message]) -> list[Row]:
    return [message.model_dump(mode="json") for message in messages]


# --- what was said, compared ---


def _said(chat: Chat) -> list[str]:
    """The tools, then each message, as lines that are equal where the same was said. Thoughts do not count, which are not sent
    again, and neither do the space around a text and the names of calls, which some agents change."""
    return list(_said_in(chat.tools, chat.messages))


def _said_in(tools: Iterable[ToolSpec], messages: Iterable[Message]) -> Iterator[str]:
    yield json.dumps([tool.model_dump(mode="json") for tool in tools], sort_keys=True, ensure_ascii=False)
    places: dict[str | None, int] = {}
    for message in messages:
        places |= {call.id: len(places) + n for n, call in enumerate(message.tool_calls)}
        calls = [[call.name, call.arguments] for call in message.tool_calls]
        said = [message.role, message.content.strip(), calls, places.get(message.tool_call_id)]
        yield json.dumps(said, sort_keys=True, ensure_ascii=False)


def _digests(lines: Iterable[str]) -> Iterator[bytes]:
    """A digest of the tools alone, and with each message more."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
        yield digest.digest()


_PLACEHOLDER = re.compile(r"<[A-Z_]+_\d{1,9}>")


def _reads_as(written: str, said: str) -> bool:
    """Whether a redacted line is one of what was said: a placeholder stands for anything."""
    if written == said:
        return True
    parts = _PLACEHOLDER.split(written)
    return len(parts) > 1 and re.fullmatch("(?s:.+?)".join(map(re.escape, parts)), said) is not None


def _begins(lines: Sequence[str], turn: Turn) -> bool:
    """Whether what was said begins with a conversation as it was written, and goes on."""
    if turn.size + 1 >= len(lines):
        return False
    way = turn.way()
    written = _said_in(way[0].recorded.tools, (message for each in way for message in each.recorded.messages))
    return all(_reads_as(one, other) for one, other in zip(written, lines, strict=False))


def turns_to_items(turns: Iterable[Turn]) -> Iterator[Row]:
    """A conversation as items of the Responses API, without its system prompt, which every request gives anew."""
    ids: dict[str, str] = {}
    for turn in turns:
        calls = turn.recorded.messages[-1].tool_calls
        if len(turn.recorded.call_ids) == len(calls):
            ids |= zip((call.id for call in calls), turn.recorded.call_ids, strict=True)
        yield from _messages_to_items(turn.recorded.messages, ids)


def _messages_to_items(messages: Iterable[Message], ids: Mapping[str, str]) -> Iterator[Row]:
    for message in messages:
        if message.role == "user":
            yield {"role": "user", "content": message.content}
        elif message.role == "tool":
            yield {
                "type": "function_call_output",
                "call_id": ids.get(message.tool_call_id or "", message.tool_call_id),
                "output": message.content,
            }
        elif message.role == "assistant":
            if message.reasoning_content:
                yield {"type": "reasoning", "content": [{"type": "reasoning_text", "text": message.reasoning_content}]}
            if message.content:
                yield {"role": "assistant", "content": message.content}
            for call in message.tool_calls:
                arguments = json.dumps(call.arguments, ensure_ascii=False)
                yield {
                    "type": "function_call",
                    "call_id": ids.get(call.id, call.id),
                    "name": call.name,
                    "arguments": arguments,
                }
