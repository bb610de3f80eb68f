"""What the rows of a set hold: their trained turns, their repetitions, the tasks of a benchmark among them."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.json_lines import BadLine, read_jsonl
from core.screen import with_progress
from data.chats import Chat, Message, PreferencePair, ToolCall, what_is_said
from data.curation.contamination import Decontaminate, Reference
from data.curation.rows import record_to_row
from train.audit.findings import EXAMPLES, Finding, Tallies, Tally

Example = Chat | PreferencePair


def imitated_turns(row: Example) -> tuple[Sequence[Message], list[int]]:
    """The messages that a row teaches to say, and the indices of the trained ones: a chat's unless it is a bad one, or a
    pair's chosen side."""
    if isinstance(row, Chat):
        messages, start = row.messages, len(row.messages) if row.label == "bad" else 0
    else:
        messages, start = (*row.prompt, *row.chosen), len(row.prompt)
    return messages, [t for t in range(start, len(messages)) if messages[t].loss_weight > 0]


def avoided_turns(row: Example) -> list[Message]:
    """The turns that a row teaches not to say: a bad chat's, or a pair's rejected side."""
    avoided: Sequence[Message] = ()
    if isinstance(row, PreferencePair):
        avoided = row.rejected
    elif row.label == "bad":
        avoided = row.messages
    return [message for message in avoided if message.loss_weight > 0]


_ERROR = re.compile(
    r'\s*(\[?(error|traceback|exception)\b[^\n]{0,60}:|\{\s*"error"\s*:\s*+(?!null|false|""|\[\]|\{\}))', re.I
)


def turn_failed(messages: Sequence[Message], t: int) -> bool | None:
    """Whether a call of turn t was answered by an error; None where nothing was answered."""
    ids = {call.id for call in messages[t].tool_calls}
    results = [m for m in messages[t + 1 :] if m.role == "tool" and m.tool_call_id in ids]
    return any(_ERROR.match(result.content) for result in results) if results else None


def call_fault(call: ToolCall, parameters: Mapping[str, Any] | None) -> str | None:
    """Why a call does not fit its tool's JSON Schema, by names alone; null arguments are another check."""
    if parameters is None:
        return "undeclared"
    known, extra, required = (parameters.get(key) for key in ("properties", "additionalProperties", "required"))
    if isinstance(required, list) and any(name not in call.arguments for name in required if isinstance(name, str)):
        return "missing"
    if isinstance(known, dict) and known and not extra:
        return (
            "unknown" if any(name not in known for name in call.arguments if call.arguments[name] is not None) else None
        )
    return None


def _has_invented_null(call: ToolCall, parameters: Mapping[str, Any]) -> bool:
    known = parameters.get("properties")
    if not isinstance(known, dict) or not known:
        return False
    for name, value in call.arguments.items():
        if value is None:
            schema = known.get(name)
            if schema is None or (isinstance(schema, dict) and not _takes_null(schema)):
                return True
    return False


def _takes_null(schema: Mapping[str, Any]) -> bool:
    if "type" not in schema or schema.get("nullable") or ("default" in schema and schema["default"] is None):
        return True
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    values = schema.get("enum")
    return "null" in kinds or (isinstance(values, list) and None in values)


def _has_null_schema(parameters: Any) -> bool:
    """Whether a property stands in a schema with null where its own schema should be, at any depth."""
    if isinstance(parameters, dict):
        properties = parameters.get("properties")
        if isinstance(properties, dict) and None in properties.values():
            return True
        return any(_has_null_schema(value) for value in parameters.values())
    return isinstance(parameters, list) and any(map(_has_null_schema, parameters))


def audit_turns(rows: Iterable[Example], control_texts: Collection[str]) -> Iterator[Finding]:
    """What the trained turns of `rows` hold."""
    tallies = Tallies()
    control = re.compile("|".join(map(re.escape, sorted(control_texts, key=len, reverse=True))) or r"(?!)")
    for row in with_progress(rows, "auditing turns"):
        messages, trained = imitated_turns(row)
        tools = {tool.function.name: tool.function.parameters for tool in row.tools}
        inferred = row.inferred_tools if isinstance(row, Chat) else ()
        invented = any(map(_has_null_schema, tools.values()))
        for t in trained:
            message = messages[t]
            silent = not (message.content.strip() or message.tool_calls or (message.reasoning_content or "").strip())
            tallies["empty_turns"].add(silent, row.id)
            failed = turn_failed(messages, t)
            if failed is not None:
                tallies["failed_steps"].add(failed, row.id)
            for call in message.tool_calls:
                parameters = tools.get(call.name)
                fault = call_fault(call, parameters)
                tallies["undeclared_tools"].add(fault == "undeclared", row.id)
                tallies["inferred_tools"].add(call.name in inferred, row.id)
                if parameters is not None:
                    tallies["unfit_calls"].add(fault, row.id)
                    invented = invented or _has_invented_null(call, parameters)
            words = [
                message.content,
                message.reasoning_content or "",
                *strings([c.arguments for c in message.tool_calls]),
            ]
            tallies["control_text"].add(any(map(control.search, words)), row.id)
            tallies["inline_think"].add(_holds_thought(message), row.id)
        for message in avoided_turns(row):
            tallies["inline_think"].add(_holds_thought(message), row.id)
        if trained:
            tallies["null_filled"].add(invented, row.id)
            asked = any(m.content.strip() for m in messages[: trained[0]] if m.role in ("user", "tool"))
            tallies["no_question"].add(not asked, row.id)
            doubled = any(t and messages[t - 1].role == "assistant" and not messages[t - 1].tool_calls for t in trained)
            tallies["doubled_turns"].add(doubled, row.id)
    yield from tallies.findings()


_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_THINK_TAG = re.compile(r"</?think>|\[/?THINK\]|</?seed:think>|◁/?think▷", re.I)


def _holds_thought(message: Message) -> bool:
    """Whether the words of a turn hold the tags of a think block. In code they are only spoken of."""
    thought = _THINK_TAG.match((message.reasoning_content or "").strip())
    return thought is not None or _THINK_TAG.search(_CODE.sub("", message.content)) is not None


def strings(value: Any) -> Iterator[str]:
    """All strings in a JSON value, and its numbers as text; keys are not values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def digest(value: object) -> bytes:
    """A hash of a JSON value, by which equal ones are told."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=16).digest()


def question_key(row: Example) -> bytes:
    """What a row asks, without case and white space: its tools' names, and what is said before the assistant first speaks."""
    asked = [("tools", " ".join(sorted(tool.function.name for tool in row.tools)))]
    for message in row.messages if isinstance(row, Chat) else row.prompt:
        if message.role == "assistant":
            break
        asked.append((message.role, " ".join(message.content.casefold().split())))
    return digest(asked)


_BESIDE_THE_WORDS = {"id", "source", "licence", "group", "trunk", "margin", "weight"}


def audit_repetition(train: Sequence[Example], validation: Sequence[Example], *, copies: int) -> Iterator[Finding]:
    """Rows that occur twice, in one split or in both, and words that occur nearly always.

    `copies` is how many repetitions the mixture's weights asked for.
    """
    seen: Counter[bytes] = Counter()
    targets: Counter[bytes] = Counter()
    first_id: dict[bytes, str] = {}
    repeated: list[str] = []
    for row in with_progress(train, "auditing repetition"):
        key = digest(row.model_dump(mode="json", exclude=_BESIDE_THE_WORDS))
        seen[key] += 1
        # Copies that were asked for have their original's id; without any, rows of one id are repetitions, too.
        repeats = seen[key] > 1 and (copies == 0 or row.id != first_id[key])
        if repeats and len(repeated) < EXAMPLES and row.id not in repeated:
            repeated.append(row.id)
        first_id.setdefault(key, row.id)
        messages, trained = imitated_turns(row)
        if trained:
            targets[digest(what_is_said([messages[t] for t in trained]))] += 1
    twice = max(sum(seen.values()) - len(seen) - copies, 0)
    yield Finding("duplicates", twice, len(train), tuple(repeated) if twice else ())
    asked = {question_key(row) for row in train}
    if len(train) >= 20 and len(asked) > 1:
        yield Finding("same_target", max(targets.values(), default=0), targets.total())
    leaks = Tally()
    for row in validation:
        leaks.add(question_key(row) in asked, row.id)
    yield Finding("validation_in_train", leaks.count, leaks.total, tuple(leaks.rows))


def read_test_tasks(path: str | Path) -> Reference:
    """The tasks of a JSON Lines file that `python -m benchmark tasks` wrote, ready to be looked for as curation does.

    Only `instruction` is required.

    Raises:
        UserError: with file and line, if the file cannot be read, holds no task, or a line has no instruction.
    """
    for line, task in read_jsonl(path):
        if isinstance(task, BadLine):
            raise UserError(str(task))
        words = task.get("instruction") if isinstance(task, dict) else None
        if not isinstance(words, str) or not words.strip():
            raise UserError(
                f"{path}:{line}: a task is an object with the text field 'instruction', as `python -m benchmark tasks` "
                "writes it"
            )
    return Reference(Decontaminate(against=[str(path)]))


def audit_test_tasks(rows: Iterable[Example], tasks: Reference) -> Finding:
    """How many of the tasks occur in `rows`."""
    found: set[str] = set()
    examples: list[str] = []
    for row in with_progress(rows, "looking for test tasks"):
        here = {match.reference for match in tasks.matches(record_to_row(row))}
        found |= here
        if here and len(examples) < EXAMPLES:
            examples.append(row.id)
    return Finding("test_tasks", len(found), len(tasks.items), tuple(examples))
