"""Logs of Claude Code (~/.claude/projects/*/*.jsonl), one line a step -> Chat.

A line has a `type`, a `uuid` and the `parentUuid` of the line that it follows; of files in which no line names one, each line
follows the one above. `message` is a message of Anthropic's API (data/formats/anthropic_messages.py):

* An answer is written block by block: lines with one `message.id` are one turn, and so are the results of its calls, which hang
  on the lines of the calls and not on each other. A thought behind words begins another turn.
* A line of a sub-agent (`isSidechain`) begins a chat of its own, and so does what follows a compaction, with the summary as its
  first message. Prompts that were taken back leave a chat that ends with them, see data/formats/session_tree.py.
* An answer that was cut off is context. A failed result keeps its text.

Not read, and counted by name: lines of other types (`summary`, `file-history-snapshot`, `system`, `attachment` ...), those that
the program put in (`isMeta`) and answers that no model wrote (`isApiErrorMessage`, model `<synthetic>`). `toolUseResult` is a
copy of the result. There are no tool definitions and no system prompt in these files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data.chats import Chat, Skip
from data.formats.adapter import Adapter
from data.formats.anthropic_messages import FINISHED, message_to_turns
from data.formats.parts import Fit, Row, Unrepresentable, objects_in, row_id, skip_if_unrepresentable
from data.formats.session_tree import Step, as_context, blocks_to_turns, tree_to_chats

LINE = ("type", "uuid", "parentUuid", "sessionId", "message", "isSidechain", "agentId", "isMeta", "isApiErrorMessage")
MESSAGE_KEYS = frozenset({"id", "role", "content", "model", "stop_reason"})
_SHOWING = frozenset({"uuid", "sessionId", "leafUuid", "messageId"})


def not_read(line: Row) -> str | None:
    """What a line is called that holds no turn of the conversation; null where it holds one."""
    kind, message = line.get("type"), line.get("message")
    if kind not in ("user", "assistant"):
        return f"type={kind}" if isinstance(kind, str) else "a line without a type"
    for key in ("isMeta", "isApiErrorMessage"):
        if line.get(key) is True:
            return key
    if isinstance(message, dict) and message.get("model") == "<synthetic>":
        return "model=<synthetic>"
    return None


def _text(line: Row, key: str) -> str | None:
    value = line.get(key)
    return value if isinstance(value, str) and value else None


def _message(line: Row) -> Row:
    message = line.get("message")
    return message if isinstance(message, dict) else {}


def _blocks(line: Row) -> list[Row]:
    content = _message(line).get("content")
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _assistant_turns(lines: Sequence[Row]) -> list[Row]:
    """One answer, of the lines that it was written in."""
    blocks: list[Row] = []
    for line in lines:
        content = _message(line).get("content")
        if content is None:
            raise Unrepresentable("a message without content")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        blocks += objects_in(content, "content blocks") if content != [] else []
    turns = blocks_to_turns(blocks, call="tool_use", arguments="input")
    ends = [reason for line in lines if (reason := _message(line).get("stop_reason"))]
    is_whole = not ends or (isinstance(ends[-1], str) and ends[-1] in FINISHED)
    return turns if is_whole else as_context(turns)


def _user_turns(line: Row) -> list[Row]:
    turns = message_to_turns({"role": "user", **_message(line)})
    if any(turn["role"] == "assistant" for turn in turns):
        raise Unrepresentable("a user's line in the name of the assistant")
    return turns


def _turns(lines: Sequence[Row]) -> list[Row]:
    """The answer of a step, the results of its calls, and what the user said beside them."""
    answer = [line for line in lines if line.get("type") == "assistant"]
    said = [turn for line in lines if line.get("type") == "user" for turn in _user_turns(line)]
    results = [turn for turn in said if turn["role"] == "tool"]
    words = [turn for turn in said if turn["role"] != "tool"]
    return [*(_assistant_turns(answer) if answer else []), *results, *words]


def _without_copies(lines: list[Row]) -> list[Row]:
    """Lines without those that stand there again, as they do where a session was resumed."""
    seen: dict[str, Any] = {}
    kept = []
    for line in lines:
        own = _text(line, "uuid")
        if own is not None and own in seen:
            if seen[own] != line.get("message"):
                raise Unrepresentable("two lines of one id")
            continue
        if own is not None:
            seen[own] = line.get("message")
        kept.append(line)
    return kept


def _steps(lines: list[Row], called: str) -> list[Step]:
    """Lines as steps of trees; `called` names the session of lines that name none."""
    is_tree = {_text(line, "sessionId") for line in lines if _text(line, "parentUuid")}
    above: dict[Any, str] = {}  # the last line of an agent
    step_of: dict[str, str] = {}  # by the id of a line, the id of its step: that of its first line
    of_answer: dict[str, str] = {}
    of_call: dict[str, str] = {}
    follows: dict[str, str | None] = {}
    read: dict[str, list[Row]] = {}
    for place, line in enumerate(lines):
        own = _text(line, "uuid") or f"line {place}"
        session = _text(line, "sessionId")
        agent = (session, line.get("isSidechain") is True, _text(line, "agentId"))
        parent = _text(line, "parentUuid") if session in is_tree else above.get(agent)
        above[agent] = own
        step = own
        if not_read(line) is None:
            answer = _text(_message(line), "id") if line.get("type") == "assistant" else None
            if answer is not None:
                step = of_answer.setdefault(answer, own)
            elif line.get("type") == "user":
                called_in = (of_call.get(str(block.get("tool_use_id"))) for block in _blocks(line))
                step = next((found for found in called_in if found is not None), own)
            for block in _blocks(line):
                if block.get("type") == "tool_use":
                    of_call.setdefault(str(block.get("id")), step)
        step_of[own] = step
        follows.setdefault(step, parent)
        read.setdefault(step, [])
        read[step] += [line] if not_read(line) is None else []
    steps = []
    for own, of_step in read.items():
        first = of_step[0] if of_step else {}
        parent = follows[own]
        step_before = None if parent is None else step_of.get(parent, parent)
        made = Step(own, _text(first, "sessionId") or called, step_before, is_aside=first.get("isSidechain") is True)
        try:
            made.turns = _turns(of_step)
        except Unrepresentable as reason:
            made.fault = str(reason)
        steps.append(made)
    return steps


@skip_if_unrepresentable
def claude_code_session_row(row: Row) -> list[Chat | Skip]:
    """All lines of a file, as `data.formats.inputs.whole_files` puts them together."""
    lines = objects_in(row.get("rows"), "lines of a session")
    called = row_id({"rows": lines})
    is_torn = any(0 < place < len(lines) for place in row.get("holes") or ())
    if is_torn and not any(_text(line, "parentUuid") for line in lines):
        raise Unrepresentable("a line between others cannot be read")
    return tree_to_chats(_steps(_without_copies(lines), called))


def matches_claude_code(rows: Sequence[Row]) -> Fit | None:
    """Whether rows are lines of such a log."""
    lines = [row for row in rows if isinstance(row.get("type"), str) and _SHOWING & row.keys()]
    turns = [line for line in lines if not_read(line) is None and "content" in _message(line)]
    if 2 * len(lines) <= len(rows) or not turns:
        return None
    return Fit(4, f"{len(lines)} of {len(rows)} rows are lines of a session, {len(turns)} of them with messages")


ADAPTERS = (
    Adapter(
        name="claude_code_session",
        kind="chat",
        function=claude_code_session_row,
        columns=LINE,
        matches=matches_claude_code,
        turns=("message",),
        turn_keys=MESSAGE_KEYS,
        whole_file=True,
        is_log=True,
        not_read=not_read,
        schema="public pages",
        note="Logs of Claude Code; a file is one session. Sub-agents, what follows a compaction and what was asked anew "
        "are chats of their own. They hold no tool definitions. Anthropic's terms apply to the answers.",
    ),
)
