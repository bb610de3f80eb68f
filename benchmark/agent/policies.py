"""Who acts without a model: the expert, an expert that errs on purpose, and policies too trivial to succeed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from benchmark.agent.episodes import Episode, Policy, Turn, move_to_message
from core.errors import UserError, nearest
from data.chats import Message, ToolCall

_MISTAKES_TRIED = 4
"""Some are no mistake where they are made, such as a wrong text that is written down all the same."""


class _Stateless:
    """A policy that keeps nothing for an episode."""

    def forget(self, episode: Episode) -> None:
        """Nothing was kept."""


class Expert(_Stateless):
    """Does what the world's expert would. With `mistakes`, it errs first in that share of the episodes.

    A mistake is a call that a model might make: a misspelt tool or argument, an argument left out, a path or value that
    is not there. It is tried in a twin of the world first and made only if it fails without doing harm, so what follows
    is a real recovery from a real error.
    """

    def __init__(self, *, mistakes: float = 0.0, seed: int = 0) -> None:
        self.mistakes, self.seed = mistakes, seed

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        """The expert's next move, or a mistake where one is due."""
        return [self._turn(episode) for episode in episodes]

    def _turn(self, episode: Episode) -> Turn:
        message = move_to_message(episode.world.expert(episode.actions))
        # Its own generator for each episode and step: the same record for any order or number of workers.
        chance = random.Random(f"{self.seed}:{episode.task.id}:{len(episode.actions)}")
        if message.tool_calls and self._errs_at(episode) == len(episode.actions):
            for _ in range(_MISTAKES_TRIED):
                wrong = _mistake(message.tool_calls[0], chance)
                if _fails_harmlessly(episode, wrong):
                    return Message(role="assistant", tool_calls=(wrong,))
        return message

    def _errs_at(self, episode: Episode) -> int:
        chance = random.Random(f"{self.seed}:{episode.task.id}")
        return chance.randrange(max(1, episode.task.tier)) if chance.random() < self.mistakes else -1


def _mistake(call: ToolCall, chance: random.Random) -> ToolCall:
    texts = [name for name, value in call.arguments.items() if isinstance(value, str) and len(value) > 3]
    kinds = ["tool", *(["name", "missing"] if call.arguments else []), *(["value"] if texts else [])]
    kind = chance.choice(kinds)
    arguments = dict(call.arguments)
    if kind == "tool":
        return ToolCall(
            id=call.id,
            name=call.name.rsplit("_", 1)[0] if "_" in call.name else f"{call.name}_all",
            arguments=arguments,
        )
    name = chance.choice(texts if kind == "value" else list(arguments))
    if kind == "missing":
        del arguments[name]
    elif kind == "name":
        arguments = {f"{key}_name" if key == name else key: value for key, value in arguments.items()}
    else:
        text = str(arguments[name])
        at = chance.randrange(len(text) - 1)
        arguments[name] = text[:at] + text[at + 1 :]
    return ToolCall(id=call.id, name=call.name, arguments=arguments)


def _fails_harmlessly(episode: Episode, call: ToolCall) -> bool:
    """Whether the call is an error of its own in a twin world brought to the same state."""
    with episode.kind.open(episode.task) as twin:
        for action in episode.actions:
            twin.call(action.command, dict(action.input) if isinstance(action.input, dict) else {})
        result = twin.call(call.name, dict(call.arguments))
    return result.error is not None and result.injected is None


class Echo(_Stateless):
    """Repeats the instruction."""

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        """The instruction, as a final answer."""
        return [Message(role="assistant", content=episode.task.instruction) for episode in episodes]


class SameTool(_Stateless):
    """Calls the first tool every time, with the whole instruction for every argument."""

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        """One call of the first tool."""
        return [self._turn(episode) for episode in episodes]

    @staticmethod
    def _turn(episode: Episode) -> Turn:
        tool = episode.task.tools[0].function
        properties = tool.parameters.get("properties")
        arguments: dict[str, Any] = dict.fromkeys(
            properties if isinstance(properties, dict) else {}, episode.task.instruction
        )
        return Message(role="assistant", tool_calls=(ToolCall(id="call_0", name=tool.name, arguments=arguments),))


class SayDone(_Stateless):
    """Claims success and does nothing."""

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        """`Done.`"""
        return [Message(role="assistant", content="Done.") for _ in episodes]


class SayNoTool(_Stateless):
    """Always says that no tool fits. It is right where none does, which few tasks are made of."""

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        """`No tool can do that.`"""
        return [Message(role="assistant", content="No tool can do that.") for _ in episodes]


POLICIES: dict[str, type[Expert] | type[Echo] | type[SameTool] | type[SayDone] | type[SayNoTool]] = {
    "expert": Expert,
    "echo": Echo,
    "same-tool": SameTool,
    "say-done": SayDone,
    "say-no-tool": SayNoTool,
}


def policy_named(name: str) -> Policy:
    """A policy without a model.

    Raises:
        UserError: for an unknown name, with the nearest.
    """
    if name not in POLICIES:
        raise UserError(f"policy {name!r} is unknown, expected {', '.join(POLICIES)}.{nearest(name, POLICIES)}")
    return POLICIES[name]()
