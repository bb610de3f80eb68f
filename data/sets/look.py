"""A first look at a file of anybody's, before anything is trained on it: what can be read, its tools, errors, loops, lengths,
languages, models and what they cost. Nothing that was said is shown, so that a look gives no secret away.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any

from data.chats import Chat, PreferencePair, Skip
from data.formats.inputs import Input
from data.formats.model_terms import models_in
from data.formats.reading import adapt, chunks_for
from data.formats.recognise import find_parts
from data.formats.row_keys import KeyCounts, KeyRules, Undecided
from data.sets.windows import count_by_bytes

LOOP = 3
"""So many equal calls one after the other are a loop."""
_ERROR = re.compile(
    r'\s*(\[?(error|traceback|exception)\b[^\n]{0,60}:|\{\s*"error"\s*:\s*+(?!null|false|""|\[\]|\{\}))', re.I
)
_HANGUL, _KANA, _HAN = re.compile("[가-힣]"), re.compile("[ぁ-ヿ]"), re.compile("[一-鿿]")
_TOKENS = {
    **dict.fromkeys(
        ("input_tokens", "prompt_tokens", "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"), "input tokens"
    ),
    **dict.fromkeys(("output_tokens", "completion_tokens", "gen_ai.usage.output_tokens"), "output tokens"),
    **dict.fromkeys(("costusd", "total_cost_usd", "cost_usd", "calculatedtotalcost", "totalcost"), "cost in USD"),
}
_DEEPEST = 8

Table = tuple[str, tuple[str, ...], list[tuple[Any, ...]]]
"""A title, columns and rows."""


@dataclass
class Look:
    """What a file holds."""

    name: str
    formats: list[str] = field(default_factory=list)
    rows: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    turns: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    """Results that say that they failed, by tool."""
    undeclared: set[str] = field(default_factory=set)
    looping: int = 0
    messages: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    languages: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    used: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)

    def tables(self) -> Iterator[Table]:
        """All of it, as one reads it."""
        chats = len(self.messages)
        facts: list[tuple[Any, ...]] = [
            ("read as", ", ".join(self.formats)),
            ("rows", self.rows),
            ("chats or pairs", self.kept),
            ("turns of the model", self.turns),
            ("calls", self.calls.total()),
            ("results that are errors", self.errors.total()),
            (f"chats with {LOOP} equal calls in a row", f"{self.looping} of {chats}"),
            ("tools that nobody declares", len(self.undeclared)),
        ]
        facts += [(f"secrets found: {kind}", count) for kind, count in self.redacted.most_common()]
        yield "what it holds", ("", ""), facts
        if chats:
            lengths = [("messages", *_spread(self.messages)), ("tokens, about", *_spread(self.tokens))]
            yield "lengths of chats", ("", "shortest", "median", "95 %", "longest"), lengths
        if self.calls:
            rows = [(name, count, self.errors[name]) for name, count in self.calls.most_common(12)]
            yield "tools", ("tool", "calls", "errors"), rows
        if self.languages:
            yield "languages of the users", ("language", "chats"), list(self.languages.most_common(5))
        if self.models:
            yield "models that rows name", ("model", "times"), list(self.models.most_common(8))
        if self.used:
            yield "used, as rows say", ("", ""), [(what, f"{count:,.6g}") for what, count in self.used.items()]
        if self.dropped:
            yield "left out", ("reason", "count"), list(self.dropped.most_common(8))


def _spread(numbers: list[int]) -> tuple[int, int, int, int]:
    ordered = sorted(numbers)
    at = [0, len(ordered) // 2, min(int(0.95 * len(ordered)), len(ordered) - 1), len(ordered) - 1]
    first, middle, high, last = (ordered[place] for place in at)
    return first, middle, high, last


def look_at(source: Input, *, adapter: str = "auto") -> Look:
    """Read all rows of an input and say what they hold; a row that convert would ask about is counted as left out.

    Raises:
        UserError: for an input that cannot be read or recognised.
    """
    look = Look(source.name)
    keys = KeyCounts()
    for part in find_parts(adapter, source, may_import=False):
        if part.adapter.name not in look.formats:
            look.formats.append(part.adapter.name)
        for chunk in chunks_for(part.adapter, part.source):
            for _, row in chunk.rows():
                if not isinstance(row, dict):
                    look.dropped["a row that is no object, or no JSON"] += 1
                    continue
                gathered = row.get("rows") if part.adapter.joins_rows or part.adapter.spans is not None else None
                look.rows += len(gathered) if isinstance(gathered, list) else 1
                look.models.update(models_in(row))
                _add_used(row, look.used, 0)
                try:
                    results = adapt(part.adapter, row, rules=KeyRules(), counts=keys)
                except Undecided as asked:
                    look.dropped[f"{', '.join(asked.values)} must be judged: --good-from or --ignore"] += 1
                    continue
                for result in results:
                    if isinstance(result, Skip):
                        look.dropped[result.reason] += 1
                    else:
                        _add(result, look)
    look.redacted = keys.redacted
    return look


def _add(result: Chat | PreferencePair, look: Look) -> None:
    look.kept += 1
    messages = result.messages if isinstance(result, Chat) else (*result.prompt, *result.chosen)
    look.messages.append(len(messages))
    look.tokens.append(sum(count_by_bytes(json.dumps(m.to_template(), ensure_ascii=False)) for m in messages))
    names: dict[str, str] = {}
    last, times, is_loop = "", 0, False
    for message in messages:
        look.turns += message.role == "assistant"
        for call in message.tool_calls:
            names[call.id] = call.name
            look.calls[call.name] += 1
            said = json.dumps([call.name, call.arguments], sort_keys=True)
            times = times + 1 if said == last else 1
            last, is_loop = said, is_loop or times >= LOOP
        if message.role == "tool" and _ERROR.match(message.content):
            look.errors[names.get(message.tool_call_id or "", "")] += 1
    look.looping += is_loop
    inferred = result.inferred_tools if isinstance(result, Chat) else ()
    declared = {tool.function.name for tool in result.tools} - set(inferred)
    look.undeclared |= set(names.values()) - declared
    look.languages[_language("".join(m.content for m in messages if m.role == "user"))] += 1


def _language(text: str) -> str:
    for name, signs in (("Korean", _HANGUL), ("Japanese", _KANA), ("Chinese", _HAN)):
        if len(signs.findall(text)) > 0.1 * len(text.strip() or "x"):
            return name
    return "others, most likely English"


def _add_used(value: Any, used: Counter[str], depth: int) -> None:
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        for item in value:
            _add_used(item, used, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            what = _TOKENS.get(key.lower())
            if what is None:
                _add_used(item, used, depth + 1)
            elif isinstance(item, int | float) and not isinstance(item, bool):
                used[what] += item  # type: ignore[assignment] # money is no whole number


def look_to_page(look: Look) -> str:
    """The same as a page without scripts."""
    parts = [f"<h1>{escape(look.name)}</h1>"]
    for title, columns, rows in look.tables():
        head = "".join(f"<th>{escape(column)}</th>" for column in columns)
        body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
        parts.append(f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{body}</table>")
    style = "body{font:15px system-ui;margin:2em auto;max-width:60em}td,th{padding:.2em 1em .2em 0;text-align:left}"
    policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    head = f'<meta charset="utf-8">{policy}<title>look</title><style>{style}</style>'
    return f'<!doctype html><html lang="en">{head}{"".join(parts)}'
