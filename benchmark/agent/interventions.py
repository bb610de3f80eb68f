"""The expert in a model's place for single turns: what a model would reach if it did not make one kind of mistake.

    repeat      at the second identical failed call, as often as it comes to that
    end         instead of a final answer while goals are open, as often as it comes to that
    divergence  once, at the first turn that is not the expert's

Everything else is the model's own, so the success rate is a ceiling for what can be learned from pairs of that kind. Where the
expert knows no way any more, the model goes on.
"""

from __future__ import annotations

from typing import Literal

from benchmark.agent.episodes import Episode, Turn, Unreadable, is_move, move_to_message
from benchmark.worlds.tools import GIVEN_UP
from data.chats import Message
from data.records import INVALID_CALL, Outcome
from data.sets.pair_kinds import call_to_key, is_stuck

Rule = Literal["repeat", "end", "divergence"]
RULES: tuple[Rule, ...] = ("repeat", "end", "divergence")


def step_in(rule: Rule, episode: Episode, turn: Turn) -> Turn:
    """The turn, or the expert's in its place; `episode.interventions` tells which were the expert's."""
    if isinstance(turn, Unreadable) and turn.ends:
        return turn
    if rule == "divergence":
        is_due = not episode.interventions
    elif rule == "repeat":
        is_due = is_stuck(episode.actions, {step for step, _ in episode.injected}, turn_to_keys(turn))
    else:
        is_answer = isinstance(turn, Message) and not turn.tool_calls
        is_due = is_answer and episode.world.verdict().outcome is not Outcome.SUCCESS
    if not is_due:
        return turn
    move = episode.world.expert(episode.actions)
    has_no_way = move.command is None and move.answer == GIVEN_UP
    # Where goals are open and the expert answers too, it is the words that count.
    is_the_same = is_move(turn, move) and (rule != "end" or move.command is not None)
    if has_no_way or is_the_same:
        return turn
    episode.interventions.append((len(episode.actions), rule))
    return move_to_message(move)


def turn_to_keys(turn: Turn) -> list[str]:
    """The calls of a turn; what cannot be read is a call of its own kind, as in records."""
    if isinstance(turn, Unreadable):
        return [call_to_key(INVALID_CALL, {"text": turn.text})]
    return [call_to_key(call.name, dict(call.arguments)) for call in turn.tool_calls]
