"""The user behind `ask_user`: a script that is part of a task, so that the same questions always get the same answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

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


@dataclass
class Conversation:
    """What has been asked and told so far.

    The user is patient: a question in whatever words gets what is to be told next, unless it is plainly about something that
    the task has said already.
    """

    user: User
    language: Language
    needed: int = 0
    """Questions whose answers the task needs."""
    needless: int = 0
    _left: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._left = list(needed_answers(self.user, self.language))

    @property
    def is_over(self) -> bool:
        """Whether everything that is needed has been told."""
        return not self._left

    def ask(self, question: str) -> str:
        """The user's answer."""
        said = question.casefold()
        is_value = self.needed < len(self.user.knows)  # else an agreement is next, which any question may ask for
        of_told = {word for slot in self.user.told for word in _words(slot)}
        asked_for = any(word in said for slot in self.user.knows for word in _words(slot) if word not in of_told)
        known = any(word.casefold() in said for word in self.user.told)
        if self._left and (not is_value or asked_for or not known):
            self.needed += 1
            return self._left.pop(0)
        self.needless += 1
        return _TOLD[self.language] if known else _OTHERWISE[self.language]


def needed_answers(user: User, language: Language) -> Sequence[str]:
    """What the user says to the questions that are needed, in turn."""
    told = [_TELLS[language].format(slot=slot, value=value) for slot, value in user.knows.items()]
    changed = [_CHANGED[language].format(slot=slot, value=value) for slot, value in user.changes.items()]
    agreed = [_AGREES[language, user.agrees]] if user.confirms and not changed else []
    return [*told, *changed, *agreed]


def _words(slot: str) -> list[str]:
    return [word for word in slot.casefold().split() if word not in ("the", "of", "to", "for", "into", "a", "in")]
