"""Rollouts of Codex (~/.codex/sessions/**/rollout-*.jsonl, also .zst), one line an item -> Chat.

A line is `{"timestamp", "type", "payload"}`:

* `session_meta`: the session's `id`, and its instructions, which become the system prompt (those of older versions only where
  no message holds them too). It may stand there again, where a session went on; one of another id begins another session.
* `response_item`: items of OpenAI's Responses API, read as data/formats/openai_logs.py does. A call whose input is text is
  `{"input": text}`, one of the local shell the call `local_shell` with its `action`, a search for tools the call `tool_search`.
* `event_msg` says again what items hold, for the screen. Only a thought that no item holds (`agent_reasoning`) is read.
* `compacted` ends a chat. The next begins with the history that replaced it, as context, or with the summary as the user's.

Messages of a developer that open the session belong to the system prompt; later ones, which the program put in, are left out
and counted. Left out is what a chat cannot hold: pictures, searches of the web that the service ran, histories that are
encrypted, sessions with turns that were taken back. There are no tool definitions in these files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from data.chats import Chat, Skip
from data.formats.adapter import Adapter
from data.formats.openai_logs import items_to_turns
from data.formats.parts import Conversation, Fit, Row, Unrepresentable, objects_in, row_id, skip_if_unrepresentable
from data.formats.session_tree import as_context
from data.formats.turns import say_messages

LINE = ("type", "payload")
PAYLOAD_KEYS = frozenset({
    "type", "id", "instructions", "base_instructions", "role", "content", "summary", "name", "arguments", "call_id", "output",
    "input", "action", "tools", "status", "text", "message", "replacement_history",
})  # fmt: skip
_TYPES = frozenset({"session_meta", "response_item", "event_msg", "turn_context", "compacted"})
_NO_ITEMS = ("ghost_snapshot", "other")
"""Items that the program keeps for itself."""


def _payload(line: Row) -> Row:
    payload = line.get("payload")
    return payload if isinstance(payload, dict) else {}


def not_read(line: Row) -> str | None:
    """What a line is called that is no part of the conversation; null where it is one."""
    kind, payload = line.get("type"), _payload(line)
    if kind in ("session_meta", "compacted") or (kind == "response_item" and payload.get("type") not in _NO_ITEMS):
        return None
    if kind == "event_msg" and payload.get("type") in ("agent_reasoning", "thread_rolled_back"):
        return None
    if not isinstance(kind, str):
        return "a line without a type"
    inner = payload.get("type")
    return f"type={kind}/{inner}" if isinstance(inner, str) else f"type={kind}"


def _item(payload: Row) -> Row:
    """An item in the words of the public API."""
    kind, call_id, output = payload.get("type"), payload.get("call_id") or payload.get("id"), payload.get("output")
    if kind in ("function_call_output", "custom_tool_call_output", "local_shell_call_output"):
        if isinstance(output, dict) and isinstance(output.get("content"), str | list):  # of older versions
            output = output["content"]
        return {"type": "function_call_output", "call_id": call_id, "output": output}
    if kind == "tool_search_output":
        tools = json.dumps(payload.get("tools"), ensure_ascii=False)
        return {"type": "function_call_output", "call_id": call_id, "output": tools}
    calls: dict[Any, tuple[Any, Any]] = {
        "custom_tool_call": (payload.get("name"), {"input": payload.get("input")}),
        "local_shell_call": ("local_shell", payload.get("action")),
        "tool_search_call": ("tool_search", payload.get("arguments")),
    }
    if isinstance(kind, str) and "compaction" in kind:
        return {"type": "compaction"}
    if isinstance(kind, str) and kind in calls:
        name, arguments = calls[kind]
        call = {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}
        return call | {"status": payload.get("status")}
    return payload


def _texts(parts: Any) -> list[str]:
    parts = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return [part["text"] for part in parts if isinstance(part.get("text"), str)]


def _sessions(lines: list[Row]) -> Iterator[tuple[Row, list[Row]]]:
    """The first meta line of each session in a file, and its lines. A session that was forked begins with its own meta line and
    goes on with that of the other one, so one without items is none."""
    meta: Row = {}
    own: list[Row] = []
    for line in lines:
        payload = _payload(line)
        if line.get("type") == "session_meta" and payload.get("id") != meta.get("id"):
            if any(each.get("type") == "response_item" for each in own):
                yield meta, own
                own = []
                meta = payload
            meta = meta or payload
        own.append(line)
    yield meta, own


def _instructions(meta: Row, lines: list[Row]) -> str:
    base, older = meta.get("base_instructions"), meta.get("instructions")
    text = base.get("text") if isinstance(base, dict) else base
    if text is None and isinstance(older, str):
        held = (part for line in lines for part in _texts(_payload(line).get("content")))
        text = None if any(older.strip() in part for part in held) else older
    if not isinstance(text, str | None):
        raise Unrepresentable("instructions that are not text")
    return text or ""


def _parts(lines: list[Row]) -> Iterator[tuple[list[Row], int]]:
    """Items of each chat of a session, and how many of them are there as context only."""
    shown = {text for line in lines for key in ("summary", "content") for text in _texts(_payload(line).get(key))}
    items: list[Row] = []
    context = 0
    for line in lines:
        kind, payload = line.get("type"), _payload(line)
        if not_read(line) is not None or kind == "session_meta":
            continue
        if kind == "compacted":
            yield items, context
            history = payload.get("replacement_history")
            if not history and not payload.get("message"):
                history = [{"type": "compaction"}]  # it is stored elsewhere
            items = (
                [_item(item) for item in objects_in(history, "items")]
                if history
                else [{"type": "message", "role": "user", "content": payload.get("message")}]
            )
            context = len(items)
        elif kind == "event_msg" and payload.get("type") == "thread_rolled_back":
            raise Unrepresentable("turns that were taken back")
        elif kind == "event_msg":
            text = payload.get("text")
            if isinstance(text, str) and text not in shown:
                items.append({"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]})
        else:
            items.append(_item(payload))
    yield items, context


LATE = "a developer's message between turns"


@skip_if_unrepresentable
def _chat(names: Row, system: str, items: list[Row], context: int) -> list[Chat | Skip]:
    given, said = items_to_turns(items[:context]), items_to_turns(items[context:])
    if context and not any(turn["role"] == "assistant" for turn in said):
        raise Unrepresentable("nothing new behind a compaction")
    turns = [*as_context(given), *said]
    opening = next((place for place, turn in enumerate(turns) if turn["role"] != "system"), len(turns))
    prompts = [system, *(turn["content"] for turn in turns[:opening])]
    prompt = "\n\n".join(text for text in prompts if text.strip())
    later = [turn for turn in turns[opening:] if turn["role"] != "system"]
    if later and later[0]["role"] == "assistant":
        raise Unrepresentable("a session that begins with an answer")
    conversation = Conversation()
    say_messages(conversation, [*([{"role": "system", "content": prompt}] if prompt else []), *later])
    chat = conversation.chat(**names)
    return [chat, *(Skip(LATE) for turn in turns[opening:] if turn["role"] == "system")]


@skip_if_unrepresentable
def _session(meta: Row, lines: list[Row]) -> list[Chat | Skip]:
    name = row_id({"id": meta.get("id"), "rows": lines} if meta.get("id") else {"rows": lines})
    system = _instructions(meta, lines)
    results: list[Chat | Skip] = []
    for place, (items, context) in enumerate(_parts(lines)):
        names = {"id": f"{name}/{place}" if place else name, "group": name}
        made = _chat(names, system, items, context)
        results += [made] if isinstance(made, Skip) else made
    return results


@skip_if_unrepresentable
def codex_rollout_row(row: Row) -> list[Chat | Skip]:
    """All lines of a file, as `data.formats.inputs.whole_files` puts them together."""
    lines = objects_in(row.get("rows"), "lines of a session")
    if any(0 < place < len(lines) for place in row.get("holes") or ()):
        raise Unrepresentable("a line between others cannot be read")
    results: list[Chat | Skip] = []
    for meta, own in _sessions(lines):
        made = _session(meta, own)
        results += [made] if isinstance(made, Skip) else made
    return results


def _is_line(row: Row) -> bool:
    kind = row.get("type")
    return isinstance(kind, str) and kind in _TYPES and isinstance(row.get("payload"), dict)


def matches_codex(rows: Sequence[Row]) -> Fit | None:
    """Whether rows are lines of such a file."""
    lines = [
        row
        for row in rows
        if isinstance(row.get("type"), str) and row["type"] in _TYPES and isinstance(row.get("payload"), dict)
    ]
    items = [line for line in lines if line["type"] == "response_item"]
    if 2 * len(lines) <= len(rows) or not items:
        return None
    return Fit(4, f"{len(lines)} of {len(rows)} rows are lines of a rollout, {len(items)} of them items")


ADAPTERS = (
    Adapter(
        name="codex_rollout",
        kind="chat",
        function=codex_rollout_row,
        columns=LINE,
        matches=matches_codex,
        turns=("payload",),
        turn_keys=PAYLOAD_KEYS,
        whole_file=True,
        is_log=True,
        not_read=not_read,
        schema="public pages",
        note="Rollouts of Codex; a file is one session, and what follows a compaction a chat of its own. Calls whose input "
        "is text become {input}. They hold no tool definitions. OpenAI's terms apply to the answers.",
    ),
)
