"""The user behind `ask_user`: a script that is part of a task, so that the same questions always get the same answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from benchmark.worlds.asking.words import asks_for_agreement, holds, is_elsewhere, names_asked_for, without_quotes
from benchmark.worlds.world import User

Language = Literal["en", "ko"]

NEEDLESS_COST = 0.1
"""Share of the score that each question costs whose answer the task has told already, or that nobody can answer."""

_TELLS = {"en": '{slot}: "{value}".', "ko": '{slot}: "{value}"입니다.'}
_CHANGED = {
    "en": 'Wait, I have changed my mind. {slot}: "{value}", not what I said before. Go on with that.',
    "ko": '잠깐만요, 생각이 바뀌었습니다. {slot}: 앞에서 말한 것이 아니라 "{value}"입니다. 그렇게 진행하세요.',
}
_AGREES = {
    ("en", True): "Yes, go on.",
    ("en", False): "No, leave everything as it is.",
    ("ko", True): "네, 진행하세요.",
    ("ko", False): "아니요, 모두 그대로 두세요.",
}
_TOLD = {"en": "I have told you that already.", "ko": "그것은 이미 말씀드렸습니다."}
_OTHERWISE = {"en": "There is nothing more to say about it.", "ko": "더 드릴 말씀이 없습니다."}
Sort = Literal["value", "change", "agreement"]


@dataclass(frozen=True)
class Need:
    """Something that has to be asked before certain tools are used."""

    sort: Sort
    say: str
    gates: tuple[str, ...]
    """Tools that must not be used before."""
    slot: str = ""
    others: tuple[str, ...] = ()
    """Words beside the slot's own that ask for it."""
    values: tuple[str, ...] = ()
    """What is told."""


@dataclass
class Conversation:
    """What has been asked and told so far.

    One question may ask for several things and gets all of them. The user is patient: a question that is about nothing that
    they can make out gets what is to be told next. One that is about something told already, or about something that they know
    nothing of, is needless.
    """

    user: User
    language: Language
    needed: int = 0
    """Things that the task needs and that have been asked for."""
    needless: int = 0
    said: list[tuple[str, str]] = field(default_factory=list)
    """Questions and answers so far."""
    _left: list[Need] = field(default_factory=list)
    _answered: int = 0

    def __post_init__(self) -> None:
        self._left = needs(self.user, self.language)

    @property
    def is_over(self) -> bool:
        """Whether everything that is needed has been told."""
        return not self._left

    def forbids(self, tool: str) -> bool:
        """Whether a tool must not be used yet."""
        return any(tool in need.gates for need in self._left)

    @property
    def has_changed(self) -> bool:
        """Whether the user has changed their mind, whether they have said so or not."""
        return bool(self.user.changes) and self._answered >= (self.user.changes_mind_after or 0)

    def ask(self, question: str) -> str:
        """The user's answer."""
        answer = self._answer(question)
        self.said.append((question, answer))
        return answer

    def hear(self, question: str, answer: str) -> None:
        """Note an answer in words that are not the script's. A value was told where it stands there, an agreement where it was
        asked for."""
        told = answer.casefold()
        asked, _ = self._asked(question)
        heard = [
            need
            for need in self._left
            if (need.sort == "agreement" and need in asked)
            or (need.values and all(value.casefold() in told for value in need.values))
        ]
        self._left = [need for need in self._left if need not in heard]
        if any(need.sort == "change" for need in heard):  # the old value is not needed any more
            gone = [need for need in self._left if need.sort == "value" and need.slot in self.user.changes]
            self._left = [need for need in self._left if need not in gone]
            heard += gone
        self.needed += len(heard)
        self._answered += bool(heard)
        self.needless += not heard
        self.said.append((question, answer))

    def _answer(self, question: str) -> str:
        asked, other = self._asked(question)
        changed = any(need.sort == "change" for need in asked)
        # Of a value that is told by the change already, the old one is not told any more.
        gone = [need for need in self._left if changed and need.sort == "value" and need.slot in self.user.changes]
        self._left = [need for need in self._left if need not in asked and need not in gone]
        self.needed += len({*asked, *gone})
        self._answered += bool(asked)
        if asked:
            return " ".join(dict.fromkeys(need.say for need in asked if need not in gone))
        self.needless += 1
        return other

    def _asked(self, question: str) -> tuple[list[Need], str]:
        """What a question gets of what is needed; else what is said to it."""
        asked = self._about(question)
        change = next((need for need in self._left if need.sort == "change"), None)
        if change is not None and self.has_changed:
            return [change, *asked], ""  # whatever the question is about
        if asked:
            return asked, ""
        said = question.casefold()
        ours = {*self.user.knows, *self.user.confirms}
        for answer in self.user.answers:
            if answer.when[0] not in ours and any(_is_asked(said, words) for words in answer.when):
                return [], answer.say
        plain = without_quotes(question)
        if names_asked_for(plain, [*self.user.knows, *self.user.told]):
            return [], _TOLD[self.language]
        left = [need for need in self._left if need.sort != "change"]
        if not left or is_elsewhere(plain, [need.slot for need in left]):
            return [], self.user.otherwise or _OTHERWISE[self.language]
        return left[:1], ""

    def _about(self, question: str) -> list[Need]:
        """What is left and plainly asked for."""
        said, plain = question.casefold(), without_quotes(question)
        slots = names_asked_for(plain, [*self.user.knows, *self.user.told])
        agrees = asks_for_agreement(plain)
        return [
            need
            for need in self._left
            if (need.sort == "agreement" and agrees)
            or (need.sort == "value" and (need.slot in slots or any(value.casefold() in said for value in need.values)))
            or any(_is_asked(said, words) for words in need.others)
        ]


def _is_asked(said: str, words: str) -> bool:
    """Whether all of some words stand in a question."""
    return all(holds(said, word) for word in words.casefold().split())


def needs(user: User, language: Language) -> list[Need]:
    """What has to be asked of a user, in the order in which a patient one tells it."""
    said = {answer.when[0]: answer for answer in user.answers}
    found = [
        Need(
            "value",
            said[slot].say if slot in said else _TELLS[language].format(slot=slot, value=value),
            user.acts,
            slot,
            said[slot].when[1:] if slot in said else (),
            (value,),
        )
        for slot, value in user.knows.items()
    ]
    if user.changes:
        told = " ".join(_CHANGED[language].format(slot=slot, value=value) for slot, value in user.changes.items())
        slot = next(iter(user.changes))
        found.append(Need("change", told, user.confirms or user.acts, slot, values=tuple(user.changes.values())))
    elif user.confirms:
        tool = next((tool for tool in user.confirms if tool in said), "")
        answer = said[tool].say if tool else _AGREES[language, user.agrees]
        others = said[tool].when[1:] if tool else ()
        found.append(Need("agreement", answer, user.confirms, tool, others))
    return found
