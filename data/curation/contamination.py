"""Contamination: rows that hold what a model will be tested on.

A reference is a file of test tasks (`python -m benchmark tasks`), of chats, pairs or trajectories, or any JSON Lines with
text in it. A row is dropped when it shares with a reference

* thirteen words in a row of prose (GPT-3, arXiv 2005.14165, appendix C), or eight where the reference text itself is shorter
  than thirteen; a request shorter than eight words counts when a whole message repeats it, and from five words on, where
  the task names its parameters, also when it stands inside a message;
* eight words in a row of a call's name and arguments (thirteen for calls longer than `SHORT_CALL_WORDS`);
* a whole call: same name, same arguments.

Case, white space, punctuation, composition of characters and the order of keys make no difference (data/curation/text.py).
The audit before a training (train/audit.py) asks this index, too, so a row is found by both or by neither.

What is shared by design must not count. System prompts and descriptions of tools are never looked at. A stretch that
stands in more than `common` different reference texts is a template and proves nothing. Where a task names its parameters,
only a stretch with a parameter in it counts, because training tasks are made from the same sentences with other parameters.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from core.errors import UserError
from core.json_lines import BadLine, read_jsonl
from data.chats import Message
from data.curation.rows import FIELD_OF_KIND, CuratedRow, record_to_row, value_to_record
from data.curation.shards import ShardStage, Work, per_shard
from data.curation.text import Words, hash_words, split_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHORT_CALL_WORDS = 26
FEWEST_REQUEST_WORDS = 3
"""A request of fewer words, such as "Thank you!", is no sign of anything."""
LONGEST_NAME_WORDS = 8
FEWEST_INNER_WORDS = 5
"""A request with parameters is looked for inside longer messages from this length on."""


class Decontaminate(BaseModel):
    """Options of the step `decontaminate`."""

    model_config = ConfigDict(extra="forbid")

    step: Literal["decontaminate"] = "decontaminate"
    against: Annotated[list[str], Field(min_length=1)]
    """Files of test tasks or of any JSON Lines."""
    prose_words: Annotated[int, Field(ge=2, strict=True)] = 13
    short_words: Annotated[int, Field(ge=2, strict=True)] = 8
    common: Annotated[int, Field(ge=1, strict=True)] = 3
    """A stretch or a call in more different reference texts than this is a template."""
    ignore: list[str] = Field(default_factory=list)
    """Sentences that prove nothing, such as a licence or an instruction that test and training share."""


# --- what a reference holds --------------------------------------------------------------------------------------


@dataclass
class Item:
    """One row of a reference: what it asks, what it says, which calls it makes."""

    name: str
    requests: list[str] = field(default_factory=list)
    prose: list[str] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    values: frozenset[str] | None = None
    """The values of a task's parameters, each as its words; null where a reference names none."""
    tools: frozenset[str] = frozenset()
    """Names of the tools of a task that names its parameters."""


def _scalars(value: Any) -> Iterator[Any]:
    """All values in nested lists and dicts that are neither."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _scalars(inner)
    elif value is not None:
        yield value


def _as_words(value: Any) -> str:
    return " ".join(split_words(str(value)))


def _parameter_values(task: dict[str, Any]) -> list[Any]:
    return list(_scalars([task.get("parameters"), task.get("facts")]))


def _value_to_item(value: dict[str, Any], name: str) -> Item:
    if isinstance(value.get("instruction"), str) and isinstance(value.get("parameters"), dict):
        return Item(
            str(value.get("id", name)),
            requests=[value["instruction"]],
            prose=[text for text in _parameter_values(value) if isinstance(text, str)],
            values=frozenset(map(_as_words, _parameter_values(value))),
            tools=frozenset(tool["function"]["name"] for tool in value.get("tools") or [] if "function" in tool),
        )
    if any(field in value for field in FIELD_OF_KIND.values()):
        try:
            row = record_to_row(value_to_record(value))
        except UserError:
            pass  # some other format that uses the same word; read like any JSON
        else:
            task = row.metadata.get("task")  # as the benchmark records it
            return Item(
                row.id,
                values=frozenset(map(_as_words, _parameter_values(task))) if isinstance(task, dict) else None,
                requests=[message.content for message in row.messages if message.role == "user"][:1],
                prose=[text for message in row.messages for text in _message_prose(message, ("user", "assistant"))],
                calls=[(call.name, call.arguments) for message in row.messages for call in message.tool_calls],
            )
    item = Item(str(value.get("id", name)))
    if isinstance(value.get("instruction"), str) and not value.get("input"):
        item.requests.append(
            value["instruction"]
        )  # a task that names no parameters; with an input it is half a request
    _collect(value, item)
    return item


_NOT_CONTENT = frozenset({"tools", "functions", "system", "id", "source", "licence", "license"})


def _collect(value: Any, item: Item) -> None:
    """Text and calls of any JSON. A call is an object with a name and arguments, as an object or as JSON text."""
    if isinstance(value, str):
        item.prose.append(value)
    elif isinstance(value, list):
        for inner in value:
            _collect(inner, item)
    elif isinstance(value, dict):
        if "system" in (value.get("role"), value.get("from")) or {"name", "parameters"} <= value.keys():
            return  # a system prompt, or the description of a tool
        arguments = value.get("arguments")
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except ValueError:
                arguments = None
        if isinstance(value.get("name"), str) and isinstance(arguments, dict):
            item.calls.append((value["name"], arguments))
            return
        for key, inner in value.items():
            if key not in _NOT_CONTENT:
                _collect(inner, item)


def _message_prose(message: Message, roles: Sequence[str]) -> list[str]:
    if message.role not in roles:
        return []
    return [text for text in (message.content, message.reasoning_content) if text]


def call_words(name: str, arguments: Any) -> Words:
    """The words of a call, arguments in the order of their keys, whatever the order in which they were written."""
    return Words(f"{name} {json.dumps(arguments, sort_keys=True, ensure_ascii=False)}")


def call_hash(name: str, arguments: Any) -> int:
    """The same for two calls with the same name and the same arguments; numbers may be written as text."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {_as_words(key): plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, list) else _as_words(value)

    return hash_words([_as_words(name), json.dumps(plain(arguments), sort_keys=True, ensure_ascii=False)])


def is_telling(arguments: Any) -> bool:
    """Whether arguments say enough to name one task: two values, or one of three words and more."""
    values = [split_words(str(value)) for value in _scalars(arguments)]
    return len(values) >= 2 or any(len(value) >= 3 for value in values)


# --- the index ---------------------------------------------------------------------------------------------------


def _telling_values(item: Item) -> list[str] | None:
    """The values of a task's parameters that name it; None where it has none, so that any stretch may count.

    Whole values, because `rain.py` names a task and `py` does not; no numbers, which any text holds; no long ones, such
    as the text of a file.
    """
    values = [value for value in item.values or () if value.count(" ") < LONGEST_NAME_WORDS and _HAS_LETTER(value)]
    return sorted(values) or None


_HAS_LETTER = re.compile(r"[^\W\d]").search


def _telling_stretches(text: Words, length: int, parameters: list[str] | None) -> list[int]:
    """Hashes of the stretches of a text that hold one of the parameters; of all where there are none."""
    cut = text.windows(length)
    if parameters is None:
        return cut.hashes.tolist()
    found = []
    for value, start, end in zip(*cut, strict=True):
        stretch = f" {' '.join(text.words[start:end])} "
        if any(f" {parameter} " in stretch for parameter in parameters):
            found.append(int(value))
    return found


@dataclass(frozen=True)
class Stretches:
    """Hashes of stretches of `length` words, sorted, and the item that each comes from."""

    length: int
    hashes: NDArray[np.uint64]
    items: NDArray[np.int64]

    def find(self, text: Words) -> Iterator[tuple[str, int]]:
        """Each item of the reference that shares a stretch with a text, and the first such stretch."""
        import numpy as np  # noqa: PLC0415 - a command that only prints its help need not load it

        if not len(self.hashes) or len(text.words) < self.length:
            return
        cut = text.windows(self.length)
        at = np.searchsorted(self.hashes, cut.hashes)
        at[at == len(self.hashes)] = 0
        found: set[int] = set()
        for hit in np.flatnonzero(self.hashes[at] == cut.hashes):
            item = int(self.items[at[hit]])
            if item not in found:
                found.add(item)
                yield " ".join(text.words[cut.starts[hit] : cut.ends[hit]]), item


class _Gathering:
    """Hashes and where they come from, until it is known which of them stand in too many texts."""

    def __init__(self, common: int) -> None:
        self.common = common
        self.texts: defaultdict[int, set[int]] = defaultdict(set)
        self.item: dict[int, int] = {}

    def add(self, hashes: Sequence[int], text: int, item: int) -> None:
        for value in hashes:
            if len(self.texts[value]) <= self.common:
                self.texts[value].add(text)
            self.item.setdefault(value, item)

    def kept(self, ignored: frozenset[int] = frozenset()) -> dict[int, int]:
        """Hash -> item, without templates and what the user ignores."""
        few = (value for value, texts in self.texts.items() if len(texts) <= self.common)
        return {value: self.item[value] for value in sorted(few) if value not in ignored}

    def stretches(self, length: int, ignored: frozenset[int]) -> Stretches:
        import numpy as np  # noqa: PLC0415 - as above

        kept = self.kept(ignored)
        return Stretches(length, np.array(list(kept), np.uint64), np.array(list(kept.values()), np.int64))


class Match(NamedTuple):
    """Why a row counts as contaminated."""

    reason: str
    text: str
    """What is shared."""
    reference: str
    """Id of the reference row that it is shared with."""


class Reference:
    """Everything of some reference files that a row can be held against."""

    def __init__(self, options: Decontaminate) -> None:
        self.items: list[Item] = []
        self.vocabulary: set[str] = set()
        for path in options.against:
            for line, value in read_jsonl(path):
                if isinstance(value, BadLine):
                    raise UserError(str(value))
                if not isinstance(value, dict):
                    raise UserError(f"{path}:{line}: a reference is a JSON object, got {type(value).__name__}")
                self.items.append(_value_to_item(value, f"{Path(path).name}:{line}"))
        if not self.items:
            raise UserError(f"{', '.join(options.against)}: there is nothing to compare with")
        inner: defaultdict[int, _Gathering] = defaultdict(lambda: _Gathering(options.common))
        long, short, whole, calls, call_stretches, long_calls = (_Gathering(options.common) for _ in range(6))
        for number, item in enumerate(self.items):
            parameters = _telling_values(item)
            for text in map(Words, [*item.requests, *item.prose]):
                length = options.prose_words if text.size >= options.prose_words else options.short_words
                stretches = _telling_stretches(text, length, parameters)
                (long if length == options.prose_words else short).add(stretches, text.hash, number)
                self.vocabulary.update(text.words)
            for text in map(Words, item.requests):
                if FEWEST_REQUEST_WORDS <= text.size < options.short_words:
                    whole.add([text.hash], text.hash, number)
                    if parameters is not None and (length := int(text.size)) >= FEWEST_INNER_WORDS:
                        inner[length].add(_telling_stretches(text, length, parameters), text.hash, number)
            for name, arguments in item.calls:
                text, exact = call_words(name, arguments), call_hash(name, arguments)
                if is_telling(arguments):
                    calls.add([exact], number, number)
                is_short = text.size < SHORT_CALL_WORDS
                length = options.short_words if is_short else options.prose_words
                stretches = _telling_stretches(text, length, parameters)
                (call_stretches if is_short else long_calls).add(stretches, exact, number)
        ignored = {
            length: frozenset(int(value) for text in options.ignore for value in Words(text).windows(length).hashes)
            for length in (options.prose_words, options.short_words)
        }
        self.prose = [
            long.stretches(options.prose_words, ignored[options.prose_words]),
            short.stretches(options.short_words, ignored[options.short_words]),
            *(gathered.stretches(length, frozenset()) for length, gathered in sorted(inner.items())),
        ]
        self.shortest = min(stretches.length for stretches in self.prose)
        self.call_stretches = [
            call_stretches.stretches(options.short_words, ignored[options.short_words]),
            long_calls.stretches(options.prose_words, ignored[options.prose_words]),
        ]
        self.whole = whole.kept(frozenset(Words(text).hash for text in options.ignore))
        self.calls = calls.kept()
        self.items_of_value: defaultdict[str, set[int]] = defaultdict(set)
        for number, item in enumerate(self.items):
            for value in item.values or ():
                if _HAS_LETTER(value):
                    self.items_of_value[value].add(number)

    def match(self, row: CuratedRow) -> Match | None:
        """The first match of a row, or None."""
        return next(self.matches(row), None)

    def matches(self, row: CuratedRow) -> Iterator[Match]:
        """All matches of a row; one reference may come several times."""
        for message in row.messages:
            for text in _message_prose(message, ("user", "assistant", "tool")):
                found = Words(text)
                if self._may_match(found):
                    for stretches in self.prose:
                        for shared, item in stretches.find(found):
                            yield Match("prose of a test", shared, self.items[item].name)
                if self.whole and (whole := self.whole.get(found.hash)) is not None:
                    yield Match("request of a test", text, self.items[whole].name)
            for call in message.tool_calls:
                yield from self._call_matches(call.name, call.arguments)

    def _may_match(self, text: Words) -> bool:
        """Whether as many neighbouring words as the shortest stretch has are all known to the references.

        Most texts stop here, which is several times as fast as to hash their windows.
        """
        run = 0
        for known in map(self.vocabulary.__contains__, text.words):
            run = run + 1 if known else 0
            if run >= self.shortest:
                return True
        return False

    def _call_matches(self, name: str, arguments: dict[str, Any]) -> Iterator[Match]:
        text = f"{name} {json.dumps(arguments, ensure_ascii=False)}"[:400]
        if self.calls and (same := self.calls.get(call_hash(name, arguments))) is not None:
            yield Match("call of a test", text, self.items[same].name)
        if any(len(stretches.hashes) for stretches in self.call_stretches):
            found = call_words(name, arguments)
            for stretches in self.call_stretches:
                for shared, item in stretches.find(found):
                    yield Match("words of a test's call", shared, self.items[item].name)
        # A task's own call: all values are parameters of one task, at least two of them words.
        values = {_as_words(value) for value in _scalars(arguments)} if self.items_of_value else set()
        named = [self.items_of_value[value] for value in values if value in self.items_of_value]
        if len(named) >= 2:
            for item in sorted(set.intersection(*named)):
                tools = self.items[item].tools
                if values <= (self.items[item].values or frozenset()) and (not tools or name in tools):
                    yield Match("call of a test", text, self.items[item].name)


@lru_cache(maxsize=2)
def _read_reference(options_json: str) -> Reference:
    return Reference(Decontaminate.model_validate_json(options_json))


def _decontaminate_shard(work: Work, step: str, options: Decontaminate, earlier: Sequence[str], shard: int) -> None:
    reference = _read_reference(options.model_dump_json())
    drops = []
    for place, row in work.rows(shard, earlier):
        if match := reference.match(row):
            drops.append({"place": place, **match._asdict()})
    work.write_drops(step, shard, drops)


def decontaminate_stages(work: Work, step: str, options: Decontaminate, earlier: Sequence[str]) -> list[ShardStage]:
    """The work of the step `decontaminate`."""
    return [per_shard(work, step, "rows", _decontaminate_shard, options, earlier)]
