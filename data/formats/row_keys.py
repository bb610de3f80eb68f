"""Keys that change what a row means, in whatever format it is written: one table for all adapters.

    {"messages": [...], "label": false}        a bad answer: never imitated
    {"messages": [...], "rejected": "..."}     half of a pair: never a chat
    {"messages": [...], "images": ["a.png"]}   words about a picture that nobody would see
    {"messages": [...], "license": "cc-by-nc-4.0"}

An adapter reads the columns that its format has. All others come here, and one of three things happens to each: what the table
knows is obeyed, what the table knows and cannot judge (`score: 0.37`) stops the command and asks the user, and the rest is
counted as not read. `look_at_row` does that before the adapter reads a row, `RowFacts.put_into` after it.

How an answer is judged: true, 1, "true" and "good" are good; false, 0, -1, "False", "0" and "bad" are bad
(data/formats/judgements.py has all words); null and blank text do not judge.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any

from core.errors import UserError
from data.chats import Chat, Label, Message, PreferencePair, Skip
from data.formats.judgements import (
    is_nothing,
    judged,
    judged_in_words,
    named_scores,
    shown,
    to_number,
    to_weight,
    with_last_answer_only,
)
from data.formats.ratings import Ratings

Row = dict[str, Any]


class Meaning(Enum):
    """What a key says of its row or turn."""

    JUDGEMENT = "whether the answer is good"
    FAULT = "whether the answer is bad"
    CHOSEN = "the side of a pair that was preferred"
    REJECTED = "the side of a pair that was not"
    WEIGHT = "how much is learned from it"
    MEDIA = "something that is not text"
    SYSTEM = "a system prompt"
    TRUTH = "the result that a reward is computed from"
    LICENCE = "the licence of the row"
    SOURCE = "where the row came from"
    GROUP = "what must not be split"


MEANINGS: dict[Meaning, str] = {
    Meaning.JUDGEMENT: """
        label labels kto_tag kto_label reward rewards score scores rating success successful succeeded resolved solved correct
        passed accepted desirable preferred thumbs thumb thumbs_up verdict outcome win winner
        feedback user_feedback human_feedback
        라벨 레이블 보상 점수 평점 성공 성공_여부 정답_여부
    """,
    Meaning.FAULT: "bad undesirable incorrect wrong failed failure thumbs_down 실패",
    Meaning.WEIGHT: """
        loss train training loss_weight weight sample_weight loss_scale loss_mask trainable learn train_detail training_detail
    """,
    Meaning.MEDIA: """
        image images img imgs picture pictures photo photos video videos audio audios media attachments pixel_values
        이미지 그림 사진 영상 동영상 음성
    """,
    Meaning.SYSTEM: """
        system system_prompt system_message system_instruction system_instructions sys_prompt 시스템 시스템_프롬프트
    """,
    Meaning.TRUTH: "ground_truth ground_truths groundtruth reward_model verification_info",
    Meaning.LICENCE: "license licence licenses licences license_name dataset_license data_license 라이선스 라이센스",
    Meaning.SOURCE: "source",
    Meaning.GROUP: "group",
}
"""The table. A key is looked up in small letters with `_` between its words, and without an `is_` in front; what begins with
`chosen`, `rejected` or `loser` is a side of a pair. `winner` alone judges, or names somebody."""

_OFTEN_FREE_TEXT = frozenset({"feedback", "user_feedback", "human_feedback"})
"""Keys that judge where they hold a judgement, and of which anything else is somebody's own words."""

CONTAINERS = frozenset({"metadata", "meta", "extra", "extra_info", "info", "attributes", "annotations"})
"""Columns of details in which judgements, licences and the results of tasks are looked for, too."""

_BY_NAME = {name: meaning for meaning, names in MEANINGS.items() for name in names.split()}
_MEDIA_OF = re.compile(r"(?P<what>\w+?)_(?:url|urls|path|paths|file|files|bytes|base64|b64|data|list|content)\Z")
_ABOUT_A_SIDE = re.compile(r"_(?:models?|scores?|ratings?|avg_rating|ids?|source|policy|tokens|length|logps?)\Z")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[-\s]+")

WEIGHT_KEYS = ("weight", "loss_weight", "loss", "train", "training", "loss_mask", "trainable")
"""How formats spell the loss weight of a turn: OpenAI and TRL, LLaMA-Factory, ms-swift, axolotl, masks (1 is learned)."""
WEIGHT_DETAILS = ("train_detail", "training_detail")
"""Where axolotl writes weights of parts of a turn."""
NOT_PARSED = ("invalid_tool_calls", "unparsed_tool_calls")
"""Where LangChain and tinker put calls of a turn that they could not parse."""
A_CALL_NOT_PARSED = "a call that cannot be read"

_ASSISTANTS = frozenset({
    "assistant", "gpt", "model", "ai", "agent", "bot", "chatgpt", "bing", "bard", "tool_call", "tool_calls", "function_call",
})  # fmt: skip


@lru_cache(maxsize=4096)
def name_of(key: str) -> str:
    """A key as the table spells it: `rejectedResponse` and `Rejected-Response` are `rejected_response`."""
    return _WORDS.sub("_", key.strip()).lower()


def in_usual_spelling(row: Row, columns: Collection[str]) -> Row:
    """The row with those of `columns` under their own names that it has in another spelling. Where both are there and hold
    something, the other one stays as it is."""
    usual = {key: value for key, value in row.items() if key in columns or name_of(key) not in columns}
    for key in row:
        if key not in usual:
            usual[name_of(key) if is_nothing(usual.get(name_of(key))) else key] = row[key]
    return usual


@lru_cache(maxsize=4096)
def meaning_of(key: str) -> Meaning | None:
    """What a key says, in whatever way it is spelt; null for a key that the table does not have."""
    name = name_of(key)
    meaning = _BY_NAME.get(name.removeprefix("is_"))
    if meaning is not None:
        return meaning
    if name.startswith(("chosen", "rejected", "loser")):
        if _ABOUT_A_SIDE.search(name):
            return None
        return Meaning.CHOSEN if name.startswith("chosen") else Meaning.REJECTED
    media = _MEDIA_OF.match(name)
    return Meaning.MEDIA if media and _BY_NAME.get(media["what"]) is Meaning.MEDIA else None


@dataclass(frozen=True)
class KeyRules:
    """What the user said of keys that cannot be judged by themselves."""

    ignore: frozenset[str] = frozenset()
    """Keys (`score`, or `metadata.score`) that are read past, in rows and in turns."""
    good_from: Mapping[str, float] = field(default_factory=dict)
    """The least number that is good, by key."""
    redact: bool = True
    """Whether secrets in logs of agents become placeholders as they are read (`Adapter.is_log`)."""
    ratings: Ratings | None = None
    """What another file says of the answers."""
    labelled: bool = False
    """Whether answers that are called bad are kept, as chats that are labelled so."""
    commercial: bool = False
    """Whether answers of models are left out whose makers forbid training competing ones on them."""


NO_RULES = KeyRules()


def key_rules(
    ignore: Collection[str],
    good_from: Collection[str] | Mapping[str, float],
    *,
    redact: bool = True,
    ratings: Ratings | None = None,
) -> KeyRules:
    """Rules as a command line gives them: `--ignore KEY`, `--good-from KEY=0.5`, `--no-redact`, `--labels FILE`.

    Raises:
        UserError: for a threshold that is no number, or a key that is named twice.
    """
    least: dict[str, float] = {}
    if isinstance(good_from, Mapping):
        least = dict(good_from)
    else:
        for text in good_from:
            key, equals, number = text.rpartition("=")
            try:
                value = float(number)
            except ValueError:
                value = float("nan")
            if not equals or not key or value != value:
                raise UserError(f"--good-from {text}: expected KEY=NUMBER, such as reward=0.5")
            if key in least:
                raise UserError(f"--good-from {key}: stands twice")
            least[key] = value
    if both := least.keys() & set(ignore):
        raise UserError(f"{min(both)}: is told to be ignored and to be good from {least[min(both)]:g}; choose one")
    return KeyRules(frozenset(ignore), least, redact, ratings)


class Undecided(Exception):
    """Keys of a row that may say whether it is good, with values that do not say it."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.values = values


@dataclass
class KeyCounts:
    """In how many rows a key was not read, and so on. Of a chunk, or of all of them."""

    unread: Counter[str] = field(default_factory=Counter)
    """Columns, and `column[].key` for keys of turns, that held something."""
    not_judged: Counter[str] = field(default_factory=Counter)
    """Keys that judge answers and held null or blank text. Such rows are kept."""
    redacted: Counter[str] = field(default_factory=Counter)
    """How many secrets became placeholders, by kind."""
    too_long: int = 0
    """How many windows are longer than was asked for."""

    def add(self, other: KeyCounts) -> None:
        """Count what another chunk holds."""
        self.unread.update(other.unread)
        self.not_judged.update(other.not_judged)
        self.redacted.update(other.redacted)
        self.too_long += other.too_long


def _is_side(value: Any) -> bool:
    return isinstance(value, str | list | dict) and judged(value) is None and not is_nothing(value)


def has_side(row: Row, meaning: Meaning, *, beside: Collection[str] = ()) -> bool:
    """Whether a row has a side of a pair: a text, a turn or turns under a key of that meaning that is not in `beside`."""
    return any(meaning_of(key) is meaning and _is_side(value) for key, value in row.items() if key not in beside)


@dataclass
class RowFacts:
    """What keys beside those of its format say of a row that may be kept."""

    system: str | None = None
    licence: str | None = None
    source: str | None = None
    group: str | None = None
    weight: float = 1.0
    label: Label | None = None
    """What the row calls the answer, where labelled chats are asked for."""
    bad: str = ""
    """Which key calls it bad."""
    truth: tuple[str, Any] | None = None
    """The key that holds the result that a reward is computed from, and that."""

    def put_into(self, result: Chat | PreferencePair | Skip) -> Chat | PreferencePair | Skip:
        """A result with what the row says of itself, or a Skip where both contradict each other.

        The result was made just now and nobody else holds it, so that it need not be copied, which takes longer.
        """
        if isinstance(result, Chat):
            for message in result.messages:
                if message.role == "assistant":
                    break
            else:
                result = Skip("no word of an assistant")
        if isinstance(result, Skip):
            return result if self.truth is None else Skip(f"{self.truth[0]} without an answer: a task for RL")
        if self is NO_FACTS:
            return result
        if self.truth is not None:  # nobody compared the answer with it
            raise Undecided({self.truth[0]: self.truth[1]})
        if self.label == "bad" and isinstance(result, PreferencePair):
            return Skip(self.bad)
        fields = result.__dict__
        if self.label is not None and isinstance(result, Chat):
            fields |= {"label": self.label, "messages": with_last_answer_only(result.messages)}
        first = "messages" if isinstance(result, Chat) else "prompt"
        if self.system is not None:
            head: Message = fields[first][0]
            if head.role != "system":
                fields[first] = (Message(role="system", content=self.system), *fields[first])
            elif head.content.strip() != self.system.strip():
                return Skip("two system prompts")
        if self.weight != 1:
            for part in ("messages",) if isinstance(result, Chat) else ("chosen", "rejected"):
                fields[part] = tuple(
                    message.model_copy(update={"weight": message.loss_weight * self.weight})
                    if message.role == "assistant"
                    else message
                    for message in fields[part]
                )
        if self.licence is not None:
            fields["licence"] = self.licence
        if self.source is not None and not result.source:
            fields["source"] = self.source
        if self.group is not None and result.group is None:
            fields["group"] = self.group
        return result


NO_FACTS = RowFacts()


@dataclass(frozen=True, kw_only=True)
class Reader:
    """What is known of the format that reads a row."""

    columns: frozenset[str]
    """Columns that it reads, which it judges by itself."""
    turns: tuple[str, ...] = ()
    """Columns that hold a turn or a list of turns."""
    turn_keys: frozenset[str] = frozenset()
    """Keys of a turn that it reads."""
    harmless: frozenset[str] = frozenset()
    """Columns that are not read and say nothing of the row, because the publisher's page says what they are."""
    is_own: bool = True
    """Whether rows are of a format that many files share. In a published dataset a value that cannot be judged is not read."""
    is_pair: bool = False


def look_at_row(row: Row, reader: Reader, rules: KeyRules, counts: KeyCounts) -> RowFacts | Skip:
    """What the keys that an adapter does not read say of its row: that it must be left out, or facts to put into the result.

    Raises:
        Undecided: where a key may say that the answer is bad, and its value does not tell.
    """
    columns = []
    for key in row.keys() - reader.columns:
        if meaning_of(key) is not None or key in CONTAINERS:
            columns.append(key)
        elif not is_nothing(row[key]):
            counts.unread[key] += 1
    turns = [
        (column, turn)
        for column in reader.turns
        if column in row
        for turn in turns_in(row[column])
        if not (turn.keys() <= reader.turn_keys and turn.keys().isdisjoint(WEIGHT_KEYS))
    ]
    if not columns and not turns:  # most rows
        return NO_FACTS
    look = _Look(reader, rules)
    for key in columns:
        look.at_column(key, row[key])
    for column, turn in turns:
        for key in turn.keys() - reader.turn_keys:
            look.at_turn_key(f"{column}[].{key}", key, turn)
        for key in WEIGHT_KEYS:
            if key in turn and key in reader.turn_keys:
                look.at_weight(key, turn)
    for key in look.unread:
        counts.unread[key] += 1
    if look.skip is not None:  # one that is left out anyway is no reason to stop
        return look.skip
    if look.undecided:
        raise Undecided(look.undecided)
    for key in look.not_judged:
        counts.not_judged[key] += 1
    return look.facts or NO_FACTS


class _Look:
    """One look at one row."""

    def __init__(self, reader: Reader, rules: KeyRules) -> None:
        self.reader, self.rules = reader, rules
        self.unread: set[str] = set()
        self.not_judged: set[str] = set()
        self.undecided: dict[str, Any] = {}
        self.skip: Skip | None = None
        self.facts: RowFacts | None = None

    def _leave_out(self, reason: str) -> None:
        # In whatever order keys stand, equal rows give equal reasons.
        if self.skip is None or reason < self.skip.reason:
            self.skip = Skip(reason)

    def _fact(self) -> RowFacts:
        if self.facts is None:
            self.facts = RowFacts()
        return self.facts

    def at_column(self, key: str, value: Any) -> None:
        meaning = meaning_of(key)
        if key in self.rules.ignore or key in self.reader.harmless:
            self._not_read(key, value)
        elif meaning is None:  # a container
            if not (self.reader.is_own and self._at_container(key, value)):
                self._not_read(key, value)
        elif meaning in (Meaning.JUDGEMENT, Meaning.FAULT):
            self._judge(key, value, bad_if=meaning is Meaning.FAULT)
        elif is_nothing(value):
            return
        elif meaning in (Meaning.CHOSEN, Meaning.REJECTED):
            self._at_side(key, value, meaning)
        elif meaning is Meaning.WEIGHT:
            self._weigh(key, value)
        elif meaning is Meaning.MEDIA:
            self._at_media(key, value)
        elif meaning is Meaning.SYSTEM:
            self._at_system(value)
        elif meaning is Meaning.TRUTH:
            self._at_truth(key, value)
        elif meaning is Meaning.LICENCE:
            self._at_licence(key, value)
        elif self.reader.is_own and isinstance(value, str | int) and not isinstance(value, bool):
            setattr(self._fact(), meaning.name.lower(), str(value))
        else:
            self._not_read(key, value)

    def _not_read(self, key: str, value: Any) -> None:
        if not is_nothing(value):
            self.unread.add(key)

    def _judge(self, key: str, value: Any, *, bad_if: bool = False) -> None:
        if is_nothing(value):
            self.not_judged.add(key)
            return
        if (scores := named_scores(value)) is not None:  # Langfuse's
            for name, score in scores:
                self._judge_named(f"{key}.{name}", name, score)
            return
        least = self.rules.good_from.get(key)
        good = judged(value, least) if least is not None else judged_in_words(value)
        if good is None and "thumb" in key:
            good = judged_in_words(f"thumbs_{value}")
        if good is None and name_of(key.rpartition(".")[2]) in _OFTEN_FREE_TEXT:
            self._not_read(key, value)
        elif good is None:
            self._cannot_tell(key, value)
        elif good is bad_if:
            told = f"is {shown(value)}" if least is None else f"is below {least:g}"
            self._call_bad(f"{key} {told}: a bad answer")
        elif self.rules.labelled and self._fact().label is None:
            self._fact().label = "good"

    def _judge_named(self, path: str, name: str, score: Any) -> None:
        """A score that only its name tells from others: 0 is bad of `thumbs` and good of `toxicity`."""
        meaning = meaning_of(name)
        if path in self.rules.ignore:
            self._not_read(path, score)
        elif meaning in (Meaning.JUDGEMENT, Meaning.FAULT) or path in self.rules.good_from:
            self._judge(path, score, bad_if=meaning is Meaning.FAULT)
        elif not is_nothing(score):
            self._cannot_tell(path, score)

    def _call_bad(self, reason: str) -> None:
        if not self.rules.labelled:
            self._leave_out(reason)
            return
        facts = self._fact()
        facts.bad = min(facts.bad or reason, reason)
        facts.label = "bad"

    def _at_container(self, key: str, value: Any) -> bool:
        """Judge what a column of details says; whether all of it was read."""
        if isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                return False
        if not isinstance(value, dict):
            return False
        unread = False
        for inner, item in value.items():
            path, meaning = f"{key}.{inner}", meaning_of(inner)
            if path in self.rules.ignore:
                self._not_read(path, item)
            elif meaning in (Meaning.JUDGEMENT, Meaning.FAULT):
                self._judge(path, item, bad_if=meaning is Meaning.FAULT)
            elif meaning is Meaning.LICENCE and not is_nothing(item):
                self._at_licence(path, item)
            elif meaning is Meaning.TRUTH and not is_nothing(item):
                self._at_truth(path, item)
            elif inner != "tools":  # which are read where a row has no others (data/formats/reading.py)
                unread = unread or not is_nothing(item)
        return not unread

    def _at_side(self, key: str, value: Any, meaning: Meaning) -> None:
        if judged(value) is not None:  # `rejected: true` judges an answer; it is no side
            self._judge(key, value, bad_if=meaning is Meaning.REJECTED)
        elif self.reader.is_pair or not _is_side(value):
            self._not_read(key, value)
        else:
            self._leave_out(f"{key}: a side of a pair, which no chat holds")

    def _at_truth(self, key: str, value: Any) -> None:
        if self.reader.is_own:
            self._fact().truth = (key, value)
        else:
            self.unread.add(key)

    def _cannot_tell(self, key: str, value: Any) -> None:
        if self.reader.is_own or key in self.rules.good_from:
            self.undecided[key] = value
        else:
            self.unread.add(key)

    def _weigh(self, key: str, value: Any) -> None:
        number = to_number(value)
        if judged(value) is False and number != -1:
            self._leave_out(f"{key} is {shown(value)}: not to be learned")
        elif "weight" in key and number is not None and 0 < number < 1:
            self._fact().weight *= number
        elif judged(value) is not True:
            self._cannot_tell(key, value)

    def _at_media(self, key: str, value: Any) -> None:
        if isinstance(value, str | list | dict):
            self._leave_out("content that is not text")
        elif value is not False:
            self._not_read(key, value)

    def _at_system(self, value: Any) -> None:
        if isinstance(value, list) and all(
            isinstance(part, dict) and isinstance(part.get("text"), str) for part in value
        ):
            value = "".join(part["text"] for part in value)
        facts = self._fact()
        if not isinstance(value, str):
            self._leave_out("a system prompt that is not text")
        elif facts.system is not None and facts.system != value:
            self._leave_out("two system prompts")
        else:
            facts.system = value

    def _at_licence(self, key: str, value: Any) -> None:
        names = value if isinstance(value, list) else [value]
        if not all(isinstance(name, str) for name in names):
            self._cannot_tell(key, value)
            return
        licence = " AND ".join(name.strip() for name in names)
        facts = self._fact()
        facts.licence = licence if facts.licence in (None, licence) else f"{facts.licence} AND {licence}"

    def at_weight(self, key: str, turn: Row) -> None:
        """A weight that the format reads: it must be one."""
        if _is_models(turn) and not is_nothing(turn[key]) and to_weight(turn[key]) is None:
            self._cannot_tell(key, turn[key])

    def at_turn_key(self, path: str, key: str, turn: Row) -> None:
        value, meaning = turn[key], meaning_of(key)
        if is_nothing(value):
            return
        if key in NOT_PARSED:
            self._leave_out(A_CALL_NOT_PARSED)
        elif key in self.rules.ignore or path in self.rules.ignore or meaning is None:
            self.unread.add(path)
        elif meaning is Meaning.MEDIA:
            self._at_media(path, value)
        elif not _is_models(turn):
            self.unread.add(path)
        elif meaning is Meaning.WEIGHT:
            weight = to_weight(value)
            if weight is None and self.reader.is_own:
                self._cannot_tell(key, value)
            elif weight != 1:
                self._leave_out(f"{key} of a turn, which this format does not read")
        elif meaning in (Meaning.JUDGEMENT, Meaning.FAULT):
            good = judged(value, self.rules.good_from.get(key))
            if good is (meaning is Meaning.FAULT):
                self._leave_out(f"{key} of a turn is {shown(value)}: a bad answer")
            elif good is None:
                self._cannot_tell(key, value)
        else:
            self.unread.add(path)


def _is_models(turn: Row) -> bool:
    """Whether the model speaks in a turn, or calls something."""
    roles = (turn.get(key) for key in ("role", "from", "source"))
    return any(isinstance(role, str) and role.strip().lower() in _ASSISTANTS for role in roles)


def without_ignored_weights(row: Row, reader: Reader, rules: KeyRules, counts: KeyCounts) -> Row:
    """The row without the weights of turns that the user told to read past, which its adapter would read."""
    for column in reader.turns:
        ignored = {
            key for key in (*WEIGHT_KEYS, *WEIGHT_DETAILS) if not rules.ignore.isdisjoint((key, f"{column}[].{key}"))
        }
        turns = turns_in(row.get(column)) if ignored else []
        if found := ignored & {key for turn in turns for key in turn if not is_nothing(turn[key])}:
            counts.unread.update(f"{column}[].{key}" for key in found)
            value = row[column] if isinstance(row[column], dict | list) else json.loads(row[column])
            less = [_without(turn, found) for turn in (value if isinstance(value, list) else [value])]
            row = {**row, column: less if isinstance(value, list) else less[0]}
    return row


def _without(turn: Any, keys: Collection[str]) -> Any:
    return {key: value for key, value in turn.items() if key not in keys} if isinstance(turn, dict) else turn


def turns_in(value: Any) -> list[Row]:
    """The turns that a column holds: one, a list, or the JSON text of either."""
    if isinstance(value, str):
        if not value.lstrip().startswith(("[", "{")):
            return []
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    return [turn for turn in (value if isinstance(value, list) else (value,)) if isinstance(turn, dict)]
