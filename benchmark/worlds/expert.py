"""One expert for all worlds: it pursues a plan, and repairs what goes wrong as the world's troubles say.

A `Plan` has goals, which hold or do not hold in the world as it is, and stages of steps; the steps of a stage need nothing of
each other, so their calls can be made in one turn. Values that are known only later (a version, a token, an id) are named by
reference (`Later`), and things by the names that they have at the beginning; what they are called now comes from the history.

A world contributes a subclass of `Expert` with what only it knows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from benchmark.worlds.tools import DONE, GIVEN_UP, failed_in_a_row
from benchmark.worlds.troubles import Trouble, Troubles, Values
from benchmark.worlds.world import Move, Task, Verdict
from data.records import Action

Meant = tuple[str, str]
"""A call by what it means: the tool, and the arguments with first names and without what depends on the moment."""


class Pursued(Protocol):
    """What an expert asks of a world."""

    @property
    def task(self) -> Task: ...

    @property
    def plan(self) -> Plan: ...

    @property
    def troubles(self) -> Troubles[Any, Any]: ...

    def stands(self, trouble: Trouble[Any, Any], values: Values) -> bool:
        """Whether a trouble has not been repaired yet."""
        ...

    def verdict(self) -> Verdict: ...


AnyWorld = TypeVar("AnyWorld", bound=Pursued)


@dataclass(frozen=True)
class Later:
    """A value that is known only later: what a call gives under a key."""

    command: str
    input: Mapping[str, Any]
    key: str


class Step(Protocol):
    """Something to do."""

    def next(self, expert: Any) -> Sequence[Move]:
        """The calls that do it, or what they need first; none when it is done."""
        ...


@dataclass(frozen=True)
class Look:
    """See something once."""

    command: str
    input: dict[str, Any] = field(default_factory=dict)

    def next(self, expert: Expert[Any]) -> Sequence[Move]:
        """The call, until it has worked."""
        return [] if expert.output(self.command, self.input) is not None else [expert.call(self.command, self.input)]


@dataclass(frozen=True)
class Act:
    """Reach a goal. Where an answer did not come, the call is made again, because nobody can know."""

    command: str
    input: dict[str, Any]
    goal: Any

    def next(self, expert: Expert[Any]) -> Sequence[Move]:
        """The call, or that which tells what it needs."""
        is_done = expert.holds(self) and expert.meant(self.command, self.input) not in expert.unsure
        return [] if is_done else [expert.call(self.command, self.input)]


@dataclass(frozen=True)
class Plan:
    """What must hold in the end, in the words of a world, and the way there."""

    goals: Any
    stages: Sequence[Sequence[Step]] = ()


class Expert(Generic[AnyWorld]):
    """The expert before its next move: what can be known after a history, and what follows from that."""

    names: ClassVar[tuple[str, ...]] = ()
    """Arguments that name what may be called otherwise later."""
    moment: ClassVar[tuple[str, ...]] = ()
    """Arguments that depend on the moment, such as tokens; they say nothing of what a call means."""

    def __init__(self, world: AnyWorld, history: Sequence[Action]) -> None:
        self.world = world
        self.history = history
        self.offered = {tool.function.name for tool in world.task.tools}
        self.worked: Counter[Meant] = Counter()
        self.unsure: set[Meant] = set()
        """Calls that were made and whose answers never came."""
        self.called_now: dict[str, str] = {}
        """First name -> name now."""
        self._outputs: dict[Meant, Any] = {}
        self._met: dict[tuple[object, ...], tuple[Trouble[Any, Any], Values]] = {}
        self.start()
        for action in history:
            self._learn(action)

    # What can be known.

    def _learn(self, action: Action) -> None:
        given = action.input if isinstance(action.input, dict) else {}
        if action.error is None:
            call = self.meant(action.command, given)
            self.unsure.discard(call)
            self.worked[call] += 1
            self._outputs[call] = action.output
            self.learn(action.command, given, action.output)
        elif met := self.world.troubles.recognise(action.error):
            trouble, values = met
            # Told again, it is the same trouble with less time left.
            key = (trouble.kind, *(value for name, value in values.items() if name != "seconds"))
            self._met[key] = met
            trouble.repair.learn(self, action.command, given, values)

    def meant(self, command: str, given: Mapping[str, Any]) -> Meant:
        """A call by what it means."""
        kept = {
            name: self.first(value) if name in self.naming(command) and isinstance(value, str) else value
            for name, value in given.items()
            if name not in self.moment and value != ""
        }
        return command, json.dumps(kept, sort_keys=True, default=repr)

    def output(self, command: str, given: Mapping[str, Any]) -> Any:
        """What a call gave when it worked last; None if it never did, or if that holds no longer."""
        return self._outputs.get(self.meant(command, given))

    def first(self, name: str) -> str:
        """The name that a thing had at the beginning."""
        return next((first for first, now in self.called_now.items() if now == name), name)

    def now(self, name: str) -> str:
        """What a thing is called now, as far as is known."""
        return self.called_now.get(name, name)

    def rename(self, old: str, new: str) -> None:
        """A thing is called otherwise from now on."""
        self.called_now[self.first(old)] = new

    def met(self, kind: str) -> list[Values]:
        """What errors told of troubles of a kind."""
        return [values for trouble, values in self._met.values() if trouble.kind == kind]

    # What to do.

    def call(self, command: str, given: Mapping[str, Any]) -> Move:
        """The call with what things are called now and with the values that it needs; or the call that tells such a value."""
        filled = {}
        for name, value in given.items():
            if isinstance(value, Later):
                known = self.known(value)
                if known is None:
                    return self.call(value.command, value.input)
                filled[name] = known
            else:
                is_name = name in self.naming(command) and isinstance(value, str)
                filled[name] = self.now(value) if is_name else value
        return Move(command, filled)

    def known(self, later: Later) -> Any:
        """The value of a reference, or None where it is not known yet."""
        output = self.output(later.command, later.input)
        return output.get(later.key) if isinstance(output, dict) else output

    def move(self) -> Move:
        """The end, or a repair, or the first steps of the plan that are not done."""
        answer = self.answer()
        if answer is not None:
            return Move(None, answer=answer)
        moves = self._repairs()[:1] or self.next_moves()
        if (
            not moves
            or failed_in_a_row(self.history, str(moves[0].command), moves[0].input) > 2
            or self.is_vain(moves[0])
        ):
            return Move(None, answer=GIVEN_UP)
        return replace(moves[0], beside=tuple(moves[1:]))

    def _repairs(self) -> list[Move]:
        kinds = list(self.world.troubles.kinds)
        met = sorted(self._met.values(), key=lambda each: kinds.index(each[0]))
        repairs = (
            trouble.repair.move(values)
            for trouble, values in met
            if not trouble.repair.is_over(self, values) and self.world.stands(trouble, values)
        )
        moves = [*filter(None, repairs), *self.mend()]
        return [move for move in moves if move.command in self.offered and self.can(move)]

    def next_moves(self) -> Sequence[Move]:
        """What can be done of the first stage that has something to do."""
        for stage in self.world.plan.stages:
            if moves := self.possible([move for step in stage for move in step.next(self)]):
                return moves
        return []

    # What only a world knows.

    def start(self) -> None:
        """Set up what is known of nothing yet."""

    def learn(self, command: str, given: Mapping[str, Any], output: Any) -> None:
        """Draw from a call that worked what only this world knows."""

    def forget(self, what: str, command: str, given: Mapping[str, Any]) -> None:
        """What a call gave holds no longer; `what` is that of `Anew`."""
        if what == "output":
            self._outputs = {call: output for call, output in self._outputs.items() if call[0] != command}

    def naming(self, command: str) -> tuple[str, ...]:
        """The arguments of a tool that name what may be called otherwise later."""
        return self.names

    def holds(self, act: Act) -> bool:
        """Whether the goal of a step holds."""
        raise NotImplementedError(act)

    def answer(self) -> str | None:
        """The last words, or None where something is left to do."""
        return DONE if self.world.verdict().score == 1 else None

    def mend(self) -> Sequence[Move]:
        """What puts right what the agent itself has done wrong."""
        return []

    def can(self, move: Move) -> bool:
        """Whether a repair would work as things are."""
        return True

    def possible(self, moves: list[Move]) -> Sequence[Move]:
        """Those of a stage's calls that can be made in one turn now."""
        return moves

    def is_vain(self, move: Move) -> bool:
        """Whether a call has worked so often that it will not help any more."""
        return False
