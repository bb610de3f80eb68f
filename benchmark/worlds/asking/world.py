"""A world whose task has a user: `ask_user` beside its tools, and a verdict that looks at how the agent got there.

It stands around any world and leaves that world's own judgement as it is. On top of it:

* acting before everything that only the user knows has been asked is guessing and scores 0, even where the guess was right;
* where nothing is to be done (the user says no, no tool can do it, the policy forbids it), any change scores 0;
* where that is for the agent to see, it has to say so, and that is all there is to score;
* each needless question costs `NEEDLESS_COST`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import JsonValue

from benchmark.worlds.asking.user import NEEDLESS_COST, Conversation
from benchmark.worlds.tools import DONE
from benchmark.worlds.world import Move, Task, ToolResult, User, Verdict, World
from core.errors import nearest
from data.records import Action, Outcome, ToolFunction, ToolSpec

ASK = ToolSpec(
    function=ToolFunction(
        name="ask_user",
        description="Ask the user a question and read the answer.",
        parameters={"type": "object", "properties": {"question": {"type": "string"}}},
    )
)
_REFUSES = re.compile(
    r"\b(cannot|can ?not|can['’]?t|unable|not (able|allowed|permitted|possible)|forbid\w*|impossible|no (fitting )?tool|policy"
    r"|policies|(may|must|will) not|won['’]?t)\b"
    r"|수\s*없|없습니다|불가|금지|허용(되지|하지)|안\s*됩니다|못\s*(합|하)|정책|도구\S?\s*없",
    re.IGNORECASE,
)
REFUSAL = {
    ("impossible", "en"): "I cannot do that: no tool can.",
    ("impossible", "ko"): "할 수 없습니다. 그것을 할 수 있는 도구가 없습니다.",
    ("forbidden", "en"): "I cannot do that: the policy does not allow it.",
    ("forbidden", "ko"): "할 수 없습니다. 정책이 허용하지 않습니다.",
}
"""What the expert says."""


Voice = Callable[[Task, Conversation, str], str]
"""Says what the user of a task answers to a question."""


def give_voice(world: object, voice: Voice) -> None:
    """Have the user of a world, if it has one, speak in other words than the script's, whatever stands around them."""
    inner: object | None = world
    while inner is not None:
        if isinstance(inner, AskingWorld):
            inner.voice = voice
        inner = getattr(inner, "_world", None)


class AskingWorld:
    """A world with the user of its task.

    Args:
        state: gives the world's state as something to compare. Without it, every call of a tool that may change something is
            taken for a change.
    """

    def __init__(self, world: World, task: Task, state: Callable[[], object] | None = None) -> None:
        assert task.user is not None
        self._world, self.task, self._state = world, task, state
        self.user: User = task.user
        self.conversation = Conversation(task.user, task.language)
        self.voice: Voice | None = None
        """Who says it in other words than the script."""
        self._has_changed = self._has_guessed = False
        self._before: object = None
        self._said = ""

    def __enter__(self) -> World:
        self._world.__enter__()
        if self._state is not None and not self.user.is_to_act:
            self._before = self._state()
        return self

    def __exit__(self, *exc: object) -> None:
        self._world.__exit__(*exc)

    @property
    def asked_back(self) -> int:
        """How often a server of the world has asked its client; 0 where it has none."""
        return int(getattr(self._world, "asked_back", 0))

    def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """Ask the user, or call a tool of the world."""
        if name == ASK.function.name:
            fault = _fault_of(arguments)
            return ToolResult(error=fault) if fault else ToolResult(self._ask(arguments["question"]))
        forbidden = self.conversation.forbids(name)
        watches = forbidden and self._state is not None and name not in self.user.confirms
        before = self._state() if watches and self._state is not None else None
        result = self._world.call(name, arguments)
        # A fault strikes only what was right, so what it strikes was meant, and may even be done.
        is_act = name in self.user.acts and (result.error is None or result.injected is not None)
        self._has_changed |= is_act
        if is_act and forbidden:
            self._has_guessed |= not watches or (self._state is not None and self._state() != before)
        return result

    def _ask(self, question: str) -> str:
        if self.voice is None:
            return self.conversation.ask(question)
        answer = self.voice(self.task, self.conversation, question)
        self.conversation.hear(question, answer)
        return answer

    def answer(self, text: str) -> None:
        """The agent's last words."""
        self._said = text
        self._world.answer(text)

    @property
    def refuses(self) -> bool:
        """Whether nothing was changed and the last words say that it cannot be done; words of the instruction say nothing."""
        said = " ".join(self._said.replace(self.task.instruction, " ").split())
        return not self._changes() and bool(_REFUSES.search(said))

    def _changes(self) -> bool:
        """Whether anything was changed."""
        if self._state is not None and not self.user.is_to_act:
            return self._state() != self._before
        return self._has_changed

    def verdict(self) -> Verdict:
        """Judge the state, and how it came to be; see the module's docstring."""
        asking: dict[str, JsonValue] = {
            "case": self.user.case,
            "needed": self.conversation.needed,
            "needless": self.conversation.needless,
            "refused": self.refuses,
        }
        own = self._judge()
        score, why = own.score, own.why
        cost = NEEDLESS_COST * self.conversation.needless
        if score and cost:
            score, why = max(0.0, score - cost), f"{why}; {self.conversation.needless} needless questions"
        score = round(score, 6)
        outcome = Outcome.SUCCESS if score == 1 else Outcome.PARTIAL if score > 0 else Outcome.FAILURE
        return replace(own, outcome=outcome, score=score, why=why, asking=asking)

    def _judge(self) -> Verdict:
        if not self.user.is_to_act:
            if self._changes():
                return _failed("something was changed, though nothing was to be")
            if self.user.is_to_refuse:
                said = "it was said that it cannot be done"
                return (
                    Verdict(Outcome.SUCCESS, 1.0, said)
                    if self.refuses
                    else _failed("nothing says that it cannot be done")
                )
            is_over = self.conversation.is_over
            return (
                Verdict(Outcome.SUCCESS, 1.0, "asked, and left as it was") if is_over else _failed("nobody was asked")
            )
        if self._has_guessed:
            return _failed("guessed: acted before everything that only the user knows was asked")
        if not self.conversation.is_over:
            return _failed("not everything that only the user knows was asked")
        return self._world.verdict()

    def expert(self, history: Sequence[Action]) -> Move:
        """Ask what is needed, then do what the world's own expert would; where nothing is to be done, say so."""
        language = self.task.language
        if not self.conversation.is_over:
            return Move(ASK.function.name, {"question": self.user.questions[self.conversation.needed]})
        if (self.user.case, language) in REFUSAL:
            return Move(None, answer=REFUSAL[self.user.case, language])
        if not self.user.is_to_act:
            return Move(None, answer=DONE)
        return self._world.expert(history)


def _failed(why: str) -> Verdict:
    return Verdict(Outcome.FAILURE, 0.0, why)


def _fault_of(arguments: Any) -> str | None:
    """What a call of `ask_user` has against it."""
    if not isinstance(arguments, dict):
        return f"arguments must be a JSON object, got {type(arguments).__name__}"
    for key in arguments:
        if key != "question":
            return f"ask_user has no argument {key!r}.{nearest(str(key), ['question'])}"
    if "question" not in arguments:
        return "argument 'question' is missing"
    question = arguments["question"]
    if not isinstance(question, str):
        return f"argument 'question' must be string, got {json.dumps(question, ensure_ascii=False)[:40]}"
    if not any(character.isalpha() for character in question) or len(question) > 2000:
        return "argument 'question' must be a question of up to 2000 characters"
    return None
