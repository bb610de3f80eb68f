"""Sessions of Pi (~/.pi/agent/sessions/*/*.jsonl), one line an entry -> Chat.

The first line is `{"type": "session", "id"}`. Entries have an `id` and the `parentId` of the one that they follow; of files in
which none names one, each follows the one above. What they say:

* `message` with role `user`, `assistant` (parts `text`, `thinking`, `toolCall`) or `toolResult`. A reply that was cut off
  (`stopReason` `length`, `error`, `aborted`) is context. A command that the user ran (`bashExecution`) is not read.
* `compaction`: what follows begins with its `summary`, as the user's, and the entries from `firstKeptEntryId` on, as context.
* `branch_summary` and `custom_message` are what the program told the model in the user's name.

Entries of other types (`model_change`, `label` ...) say nothing and are counted by name. Prompts that were asked anew make a
chat each, see data/formats/session_tree.py. There are no tool definitions and no system prompt in these files.
"""

from __future__ import annotations

from collections.abc import Sequence

from data.chats import Chat, Skip
from data.formats.adapter import Adapter
from data.formats.parts import Fit, Row, Unrepresentable, objects_in, row_id, skip_if_unrepresentable, text_of
from data.formats.session_tree import MISSING, Step, as_context, blocks_to_turns, tree_to_chats

LINE = ("type", "id", "parentId", "message", "summary", "firstKeptEntryId", "content")
MESSAGE_KEYS = frozenset({"role", "content", "toolCallId", "toolName", "stopReason"})
_CUT_OFF = ("length", "error", "aborted")


def not_read(line: Row) -> str | None:
    """What an entry is called that holds no turn of the conversation; null where it holds one."""
    kind, message = line.get("type"), _message(line)
    if kind in ("session", "compaction", "branch_summary", "custom_message"):
        return None
    if kind == "message":
        return "role=bashExecution" if message.get("role") == "bashExecution" else None
    return f"type={kind}" if isinstance(kind, str) else "a line without a type"


def _message(line: Row) -> Row:
    message = line.get("message")
    return message if isinstance(message, dict) else {}


def _text(line: Row, key: str) -> str | None:
    value = line.get(key)
    return value if isinstance(value, str) and value else None


def _answer(message: Row) -> list[Row]:
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    turns = blocks_to_turns(
        objects_in(content, "content blocks") if content else [], call="toolCall", arguments="arguments"
    )
    return as_context(turns) if message.get("stopReason") in _CUT_OFF else turns


def _turns(line: Row) -> list[Row]:
    kind, message = line.get("type"), _message(line)
    if kind in ("branch_summary", "compaction"):
        return [{"role": "user", "content": text_of(line.get("summary"))}]
    if kind == "custom_message":
        return [{"role": "user", "content": text_of(line.get("content"))}]
    if kind != "message" or not_read(line) is not None:
        return []
    role, content = message.get("role"), message.get("content")
    if role == "assistant":
        return _answer(message)
    if role == "toolResult":
        turn = {"role": "tool", "content": text_of(content), "tool_call_id": message.get("toolCallId")}
        return [{**turn, "name": message.get("toolName")}]
    if role != "user":
        raise Unrepresentable("a message of an unknown role")
    return [{"role": "user", "content": text_of(content)}]


def _kept(first: str | None, at: str | None, entries: dict[str, Row], parents: dict[str, str | None]) -> list[Row]:
    """Turns that stay behind a compaction's summary: those of the entries from `first` to `at`."""
    kept: list[list[Row]] = []
    passed: set[str] = set()
    while first is not None:
        if at is None or at not in entries or at in passed:
            raise Unrepresentable(MISSING)
        passed.add(at)
        kept.append(_turns(entries[at]) if entries[at].get("type") != "compaction" else [])
        at, first = (at, None) if at == first else (parents[at], first)
    return as_context([turn for turns in kept[::-1] for turn in turns])


def _steps(lines: list[Row], session: str) -> list[Step]:
    is_tree = any(_text(line, "parentId") for line in lines)
    entries: dict[str, Row] = {}
    parents: dict[str, str | None] = {}
    above = None
    for place, line in enumerate(lines):
        own = _text(line, "id") or f"line {place}"
        if own in entries:
            raise Unrepresentable("two lines of one id")
        entries[own] = line
        parents[own] = _text(line, "parentId") if is_tree else above
        above = own
    steps = []
    for own, line in entries.items():
        is_start = line.get("type") == "compaction"
        step = Step(own, session, None if is_start else parents[own])
        try:
            step.turns = _turns(line)
            if is_start:
                step.turns += _kept(_text(line, "firstKeptEntryId"), parents[own], entries, parents)
        except Unrepresentable as reason:
            step.fault = str(reason)
        steps.append(step)
    return steps


@skip_if_unrepresentable
def _session(whole: Row, name: str | None, is_torn: bool) -> list[Chat | Skip]:
    lines = whole["rows"]
    if is_torn and not any(_text(line, "parentId") for line in lines):
        raise Unrepresentable("a line between others cannot be read")
    return tree_to_chats(_steps(lines, name or row_id(whole)))


@skip_if_unrepresentable
def pi_session_row(row: Row) -> list[Chat | Skip]:
    """All lines of a file, as `data.formats.inputs.whole_files` puts them together."""
    lines = objects_in(row.get("rows"), "lines of a session")
    is_torn = any(0 < place < len(lines) for place in row.get("holes") or ())
    sessions: list[tuple[str | None, list[Row]]] = []
    for line in lines:
        if line.get("type") == "session" or not sessions:
            sessions.append((_text(line, "id") if line.get("type") == "session" else None, []))
        if line.get("type") != "session":
            sessions[-1][1].append(line)
    results: list[Chat | Skip] = []
    for name, own in sessions:
        made = _session({"rows": own}, name, is_torn)
        results += [made] if isinstance(made, Skip) else made
    return results


def matches_pi(rows: Sequence[Row]) -> Fit | None:
    """Whether rows are lines of such a file."""
    lines = [row for row in rows if isinstance(row.get("type"), str) and "id" in row]
    turns = [line for line in lines if line["type"] == "message" and "content" in _message(line) and "parentId" in line]
    if 2 * len(lines) <= len(rows) or not turns:
        return None
    return Fit(4, f"{len(lines)} of {len(rows)} rows are entries of a session, {len(turns)} of them messages")


ADAPTERS = (
    Adapter(
        name="pi_session",
        kind="chat",
        function=pi_session_row,
        columns=LINE,
        matches=matches_pi,
        turns=("message",),
        turn_keys=MESSAGE_KEYS,
        whole_file=True,
        is_log=True,
        not_read=not_read,
        schema="public pages",
        note="Sessions of Pi; a file is one session. What follows a compaction and what was asked anew are chats of their "
        "own. They hold no tool definitions. The terms of the model's maker apply to the answers.",
    ),
)
