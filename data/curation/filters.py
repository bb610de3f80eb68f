"""Rules that a row must not break: refusals, AI boilerplate, empty and looping turns, languages, length, calls.

Each rule names the text that triggered it. Rules about words look only at the turns that a model would be trained on:
a user may ask about refusals, a tool may answer "I cannot", and the rejected side of a pair may be as bad as it likes.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from core.config import read_config
from data.chats import Message
from data.curation.language import identify_language, prose
from data.curation.rows import CuratedRow
from data.curation.shards import ShardStage, Work, per_shard
from data.curation.text import split_words

PHRASES = Path(__file__).parent / "lists" / "phrases.yaml"
START_CHARACTERS = 300
"""How far into a turn a refusal is looked for: who refuses, refuses at once."""


Phrase = Annotated[str, Field(min_length=3, pattern=r"[^\s*]{2}")]  # `*` alone would be found everywhere


class Phrases(BaseModel):
    """The list file: see data/curation/lists/phrases.yaml."""

    model_config = ConfigDict(extra="forbid")

    refusals: list[Phrase] = Field(default_factory=list)
    boilerplate: list[Phrase] = Field(default_factory=list)


Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1, strict=True)]


class Filter(BaseModel):
    """Options of the step `filter`. A rule whose option is null is not applied."""

    model_config = ConfigDict(extra="forbid")

    step: Literal["filter"] = "filter"
    phrases: str | None = None
    """List file of refusals and boilerplate; null takes the one of the project."""
    refusals: bool = True
    boilerplate: bool = True
    repeated_calls: Annotated[int, Field(ge=2, strict=True)] | None = 4
    """A row is looping when one call with the same arguments got the same answer that many times."""
    repeated_text: Share | None = 0.6
    """A turn is looping when this share of its five-word stretches stood in it before."""
    garbled_text: Share | None = 0.02
    """Share of characters that are no text: replacement characters, control characters, private use."""
    languages: Annotated[list[str], Field(min_length=1)] | None = None
    """Languages that are wanted, as ISO 639-1 codes such as en and ko; null takes all."""
    other_languages: Share = 0.3
    """Share of letters that may stand in messages of other languages."""
    min_chars: Annotated[int, Field(ge=0, strict=True)] | None = 1
    """Fewest characters in all trained turns together, calls included."""
    max_chars: Count | None = 400_000
    """Most characters of a row, in all messages."""
    max_turns: Count | None = None
    """Most messages of a row."""

    @cached_property
    def searches(self) -> dict[str, list[tuple[str, re.Pattern[str]]]]:
        """Rule -> for each of its phrases a word that must be there, and the pattern to look for then."""
        phrases = read_config(self.phrases or PHRASES, Phrases)
        lists = {
            "refusal": phrases.refusals if self.refusals else [],
            "AI boilerplate": phrases.boilerplate if self.boilerplate else [],
        }
        return {rule: list(map(_phrase_to_search, found)) for rule, found in lists.items()}


class Finding(NamedTuple):
    """A broken rule and the text that broke it."""

    rule: str
    text: str


_QUOTES = str.maketrans({"’": "'", "‘": "'", "´": "'", "“": '"', "”": '"', "„": '"'})
_QUOTED = re.compile(r'```.*?(?:```|\Z)|`[^`\n]*`|"[^"\n]{0,400}"|[「『«][^」』»\n]{0,400}[」』»]', re.DOTALL)
_HANGUL = re.compile(r"[가-힣]")


def _phrase_to_search(phrase: str) -> tuple[str, re.Pattern[str]]:
    """(what must be there, pattern) of a phrase. Korean is found wherever its spaces stand, and before any ending.

    To look first for the longest word, or for Korean the first syllable, is ten times as fast as one pattern of all phrases.
    """
    is_korean = _HANGUL.search(phrase) is not None
    words = _plain(phrase).split()
    parts = [part for word in words for part in (word if is_korean and word != "*" else [word])]
    pattern = (r"\s*" if is_korean else r"\s+").join(
        r"[^.!?\n]{0,40}?" if part == "*" else re.escape(part) for part in parts
    )
    if is_korean:
        return next(part for part in parts if part != "*"), re.compile(pattern)
    return max(words, key=len), re.compile(rf"\b{pattern}\b")


def _plain(text: str) -> str:
    """Text in which case, composition and kinds of quotes make no difference."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_QUOTES)
    return text.lower()


def find_faults(row: CuratedRow, options: Filter) -> Iterator[Finding]:
    """The rules that a row breaks, the first of each kind."""
    yield from _phrase_faults(row, options)
    yield from _empty_turns(row)
    yield from _loops(row, options)
    yield from _text_faults(row, options)
    yield from _length_faults(row, options)
    yield from _unbalanced_calls(row)


def _phrase_faults(row: CuratedRow, options: Filter) -> Iterator[Finding]:
    texts = [(_QUOTED.sub(" ", _plain(message.content)), bool(message.tool_calls)) for message in row.trained]
    for rule, searches in options.searches.items():
        for text, calls in texts:
            if rule == "refusal":
                text = "" if calls else text[:START_CHARACTERS]
            if found := _first_phrase(text, searches):
                yield Finding(rule, _around(text, found.start(), found.end()))
                break


def _first_phrase(text: str, searches: Sequence[tuple[str, re.Pattern[str]]]) -> re.Match[str] | None:
    for word, pattern in searches:
        if word in text and (match := pattern.search(text)):
            return match
    return None


def _around(text: str, start: int, end: int) -> str:
    """What was found, with some of the text around it, on one line."""
    before, after = max(start - 40, 0), end + 40
    shown = " ".join(text[before:after].split())
    return ("…" if before else "") + shown + ("…" if after < len(text) else "")


def _empty_turns(row: CuratedRow) -> Iterator[Finding]:
    for message in row.trained:
        if not message.content.strip() and not message.tool_calls:
            yield Finding("empty turn", message.reasoning_content or "")
            return
    if any(message.role == "user" and not message.content.strip() for message in row.imitated):
        yield Finding("empty user turn", "")


def _call_text(name: str, arguments: object) -> str:
    return f"{name} {json.dumps(arguments, ensure_ascii=False, sort_keys=True)}"


def _loops(row: CuratedRow, options: Filter) -> Iterator[Finding]:
    if options.repeated_calls is not None:
        # The answer counts: to ask again until a job is done is no loop, because the answer changes.
        answers = {m.tool_call_id: m.content for m in row.imitated if m.role == "tool"}
        calls = Counter(
            (_call_text(call.name, call.arguments), answers.get(call.id))
            for message in row.imitated
            for call in message.tool_calls
        )
        (call, _), times = calls.most_common(1)[0] if calls else (("", None), 0)
        if times >= options.repeated_calls:
            yield Finding("repeated call", f"{times} x {call}")
    if options.repeated_text is not None:
        for message in row.trained:
            for text in (message.content, message.reasoning_content or ""):
                if found := _repeated_stretch(text, options.repeated_text):
                    yield Finding("repeated text", found)
                    return


_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_ONE_WORD_LOOP = re.compile(r"([^\W\d_]{1,12}?)\1{24,}")
STRETCH_WORDS = 5
FEWEST_WORDS = 40
"""A shorter turn cannot be told from one that lists similar things."""


def _repeated_stretch(text: str, share: float) -> str | None:
    """The commonest five-word stretch, when `share` of all stretches stood there before; code is left out."""
    if len(text) < FEWEST_WORDS:
        return None
    text = _CODE.sub(" ", text)
    if match := _ONE_WORD_LOOP.search(text):
        return match[0][:80]
    found = split_words(text)
    if len(found) < FEWEST_WORDS:
        return None
    stretches = list(zip(*(found[start:] for start in range(STRETCH_WORDS)), strict=False))
    if 1 - len(set(stretches)) / len(stretches) < share:
        return None
    stretch, times = Counter(stretches).most_common(1)[0]
    return f"{times} x {' '.join(stretch)}"


# Replacement character, control characters without tab and line ends, private use.
_GARBLED = re.compile("[\ufffd\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f\ue000-\uf8ff]")


def _text_faults(row: CuratedRow, options: Filter) -> Iterator[Finding]:
    if options.garbled_text is not None:
        for message in row.trained:
            garbled = _GARBLED.findall(message.content)
            if garbled and len(garbled) / len(message.content) >= options.garbled_text:
                at = message.content.index(garbled[0])
                yield Finding("garbled text", _around(message.content, at, at + 1))
                break
    if options.languages is not None:
        letters: Counter[str] = Counter()
        example: dict[str, str] = {}
        for message in row.imitated:
            if message.role in ("user", "assistant") and (text := prose(message.content)):
                language = identify_language(text)
                letters[language] += sum(map(str.isalpha, text))
                example.setdefault(language, text)
        others = {code: n for code, n in letters.items() if code not in options.languages and code != "und"}
        if others and sum(others.values()) > options.other_languages * letters.total():
            code = max(others, key=others.__getitem__)
            yield Finding("other language", f"{code}: {example[code][:120]}")


def _said_chars(message: Message) -> int:
    calls = sum(len(_call_text(call.name, call.arguments)) for call in message.tool_calls)
    return len(message.content.strip()) + len(message.reasoning_content or "") + calls


def _length_faults(row: CuratedRow, options: Filter) -> Iterator[Finding]:
    trained = list(row.trained)
    if not trained:
        yield Finding("nothing to train", "")
    elif options.min_chars is not None and (count := sum(map(_said_chars, trained))) < options.min_chars:
        yield Finding("too short", f"{count} characters in trained turns: {trained[0].content[:80]}")
    if options.max_chars is not None and (count := sum(map(_said_chars, row.messages))) > options.max_chars:
        yield Finding("too long", f"{count} characters: {row.messages[0].content[:80]}")
    if options.max_turns is not None and (count := len(row.imitated)) > options.max_turns:
        yield Finding("too many turns", f"{count} messages: {row.messages[0].content[:80]}")


_MARKS = (("<tool_call>", "</tool_call>"), ("<think>", "</think>"), ("<tool_response>", "</tool_response>"))


def _unbalanced_calls(row: CuratedRow) -> Iterator[Finding]:
    """Calls of one turn of which some were answered and some not, and marks of a call that stand in text half open.

    A chat may end on calls that nobody answered: many sets for function calling hold nothing else. A call that is
    left open in the middle cannot be read as a chat at all, and is dropped as `unbalanced calls` while reading.
    """
    answered = {message.tool_call_id for message in row.imitated if message.role == "tool"}
    for message in row.imitated:
        open_calls = [call for call in message.tool_calls if call.id not in answered]
        if open_calls and len(open_calls) < len(message.tool_calls):
            yield Finding("unbalanced calls", _call_text(open_calls[0].name, open_calls[0].arguments)[:200])
            return
    for message in row.trained:
        text = _QUOTED.sub(" ", message.content)
        for opening, closing in _MARKS:
            if text.count(opening) != text.count(closing):
                mark = opening if opening in text else closing
                yield Finding("unbalanced calls", _around(text, text.index(mark), text.index(mark) + len(mark)))
                return


def _filter_shard(work: Work, step: str, options: Filter, earlier: Sequence[str], shard: int) -> None:
    drops = []
    for place, row in work.rows(shard, earlier):
        # A row may break several rules; it is counted under the first, and all of them are written aside.
        if faults := list(find_faults(row, options)):
            first, *others = faults
            also = {"also": [fault._asdict() for fault in others]} if others else {}
            drops.append({"place": place, "reason": first.rule, "text": first.text, **also})
    work.write_drops(step, shard, drops)


def filter_stages(work: Work, step: str, options: Filter, earlier: Sequence[str]) -> list[ShardStage]:
    """The work of the step `filter`."""
    return [per_shard(work, step, "rows", _filter_shard, options, earlier)]
