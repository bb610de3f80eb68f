"""`--user-server`: a user played by a model, for training data in words that no script has.

The model is told what the user of the task knows and says it in its own words. What was told is read from its words: a value
counts as told where it stands there. The world's check holds in the end as ever. It is no user to compare models with, so the
leaderboard refuses such runs.
"""

from __future__ import annotations

from typing import Any

from benchmark.worlds.asking.user import Conversation
from benchmark.worlds.world import Task
from core.chat_server import ChatServer, Refused, WrongShape, answer_to_choice
from core.errors import UserError

_LONGEST_ANSWER_TOKENS = 200
_LANGUAGES = {"en": "English", "ko": "Korean"}


class UserModel:
    """A served model that plays the users of tasks.

    Args:
        url: the base of its API.
        model: its name there.

    Raises:
        UserError: if the URL is none.
    """

    def __init__(self, url: str, model: str, *, api_key: str | None = None, timeout_seconds: float = 300.0) -> None:
        self.url, self.model = url, model
        self._server = ChatServer(url, api_key=api_key, concurrency=1, timeout_seconds=timeout_seconds)

    def close(self) -> None:
        """Close its connections."""
        self._server.close()

    def answer(self, task: Task, talk: Conversation, question: str) -> str:
        """What the user says to a question.

        Raises:
            UserError: if the server refuses, or answers with no words.
        """
        said = [
            message for asked, told in talk.said for message in (_message("user", asked), _message("assistant", told))
        ]
        body = {
            "model": self.model,
            "messages": [_message("system", _role(task, talk)), *said, _message("user", question)],
            "max_tokens": _LONGEST_ANSWER_TOKENS,
            "temperature": 0.0,
        }
        try:
            choice = answer_to_choice(self._server.run(self._server.post("/chat/completions", body)))
        except (Refused, WrongShape) as fault:
            raise UserError(f"--user-server {self.url}: {fault}") from None
        message: Any = choice.get("message")
        words = message.get("content") if isinstance(message, dict) else None
        if not isinstance(words, str) or not words.strip():
            raise UserError(f"--user-server {self.url}: {self.model!r} answered a question with no words")
        return words.strip()


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _role(task: Task, talk: Conversation) -> str:
    """What the model is told of the user that it plays."""
    user = talk.user
    lines = [
        f"You are the user of an assistant. You told it: {task.instruction}",
        f"It asks you a question now. Answer in one or two sentences in {_LANGUAGES[task.language]}, as a person would. "
        "Tell what you know only where it is asked for, and copy its values exactly. Never offer help.",
    ]
    lines += [
        f"You know: {slot} is {value}"
        for slot, value in user.knows.items()
        if not (talk.has_changed and slot in user.changes)
    ]
    if talk.has_changed:
        lines += [
            f"You have changed your mind, say so now: {slot} is {value}, not what you said before"
            for slot, value in user.changes.items()
        ]
    if user.confirms:
        lines.append(
            "Asked whether it may go on, you " + ("agree." if user.agrees else "say no: everything stays as it is.")
        )
    lines += [f"Asked about {' or '.join(answer.when)}, you say: {answer.say}" for answer in user.answers]
    lines.append(user.otherwise or "You know nothing else.")
    return "\n".join(lines)
