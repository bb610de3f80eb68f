"""Record many trajectories: which of them succeed, recover, end half done or fail, and processes that share the work.

Every record is a real run in a world. An *expert* record does what the world's expert would; in a *recovery* the expert errs
once and goes on. A *careless* record is rehearsed in twins of the world until a run ends as wanted: somebody who stops too
early, or who puts a wrong value into a call and goes on as if nothing had happened. Its words at the end claim success in
half of the cases.

What happens in a record depends on its task, on its place in the list and on the seed, so it is the same for any number of
processes.
"""

from __future__ import annotations

import math
import os
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Literal, TypeVar

from benchmark.agent.episodes import (
    FROZEN_START,
    Episode,
    InvalidTry,
    Policy,
    Turn,
    move_to_message,
    open_episode,
    run_tasks,
    take_turn,
)
from benchmark.agent.policies import Expert
from benchmark.worlds.kinds import WORLDS, Kind, with_folders
from benchmark.worlds.own.toolsets.toolset import ServersFault
from benchmark.worlds.tools import DONE, GIVEN_UP
from benchmark.worlds.world import Task
from core.errors import UserError
from data.chats import Message, ToolCall
from data.records import Outcome

RecordKind = Literal["success", "recovery", "partial", "failure"]
KINDS: tuple[RecordKind, ...] = ("success", "recovery", "partial", "failure")

MAX_TURNS = 60
_SLIPS_TRIED = 4
"""Wrong values that are tried in a task until it ends as wanted."""
_TASKS_TRIED = 8
"""Tasks that are tried until one ends as wanted."""
_GOLDEN = (math.sqrt(5) - 1) / 2

Given = TypeVar("Given")
Made = TypeVar("Made")


def kinds_of(count: int, shares: dict[RecordKind, float], seed: int) -> list[RecordKind]:
    """The kind of each of `count` records, so that any stretch of the list holds the shares; what is left over succeeds.

    Raises:
        UserError: if the shares are more than the whole.
    """
    if sum(shares.values()) > 1 + 1e-9:
        told = ", ".join(f"{kind} {share:g}" for kind, share in shares.items())
        raise UserError(f"the shares of {told} are more than 1 together")
    start = random.Random(f"kinds-{seed}").random()
    kinds: list[RecordKind] = []
    for place in range(count):
        # Multiples of the golden section fall evenly into 0..1, and so do those of every fifth or fifteenth place.
        point = (start + place * _GOLDEN) % 1
        for kind, share in shares.items():
            if point < share:
                kinds.append(kind)
                break
            point -= share
        else:
            kinds.append("success")
    return kinds


class Scripted:
    """Says what was rehearsed, by task."""

    def __init__(self, scripts: dict[str, list[Message]]) -> None:
        self.scripts = scripts

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        """The next turn of each script."""
        return [self.scripts[episode.task.id][episode.turns] for episode in episodes]

    def forget(self, episode: Episode) -> None:
        """Nothing was kept."""


@dataclass(frozen=True)
class _Run:
    """A rehearsal: what was said, and the outcome if it had ended before each turn, and at the end."""

    turns: list[Message]
    outcomes: list[Outcome]


def _run(kinds: Mapping[str, Kind], task: Task, given: Sequence[Message], answer: str | None) -> _Run:
    """Play `given` in a twin of the world, then end with `answer`; with None the expert goes on to the end."""
    episode = open_episode(task, label="rehearsal", start=FROZEN_START, kinds=kinds)
    run = _Run([], [])
    try:
        while not episode.over and episode.turns < MAX_TURNS:
            run.outcomes.append(episode.world.verdict().outcome)
            if episode.turns < len(given):
                turn = given[episode.turns]
            elif answer is not None:
                turn = Message(role="assistant", content=answer)
            else:
                turn = move_to_message(episode.world.expert(episode.actions))
            run.turns.append(turn)
            take_turn(episode, turn, advise=False, invalid="stop")
        run.outcomes.append(episode.world.verdict().outcome)
    finally:
        episode.world.__exit__(None, None, None)
    return run


def rehearse(
    task: Task, wanted: Outcome, chance: random.Random, *, kinds: Mapping[str, Kind] = WORLDS
) -> list[Message] | None:
    """Turns that end a task as wanted, or None where none were found."""
    run_of = partial(_run, kinds, task)
    expert = run_of([], None)
    answer = chance.choice([DONE, GIVEN_UP])
    plan = [turn for turn in expert.turns if turn.tool_calls]

    def stop_early() -> Iterator[_Run]:
        if stops := [place for place in range(1, len(plan)) if expert.outcomes[place] is wanted]:
            yield run_of(plan[: chance.choice(stops)], answer)

    def err_and_go_on() -> Iterator[_Run]:
        for _ in range(_SLIPS_TRIED if plan else 0):
            place = chance.randrange(len(plan))
            if slip := _slip(task, plan[place], chance):
                if wanted is Outcome.PARTIAL:
                    yield run_of([*plan[:place], slip], None)
                else:
                    yield run_of([*plan[:place], slip, *plan[place + 1 :]], answer)

    def do_too_much() -> Iterator[_Run]:
        for place in reversed(range(len(plan))[-_SLIPS_TRIED:]):
            for wrong in reversed(range(place, len(plan))[-2:]):
                if slip := _slip(task, plan[wrong], chance):
                    yield run_of([*plan, *plan[place:wrong], slip, *plan[wrong + 1 :]], answer)

    def do_nothing() -> Iterator[_Run]:
        yield run_of([], answer)

    ways = [stop_early, err_and_go_on]
    chance.shuffle(ways)
    for way in (*ways, do_too_much if wanted is Outcome.PARTIAL else do_nothing):
        for run in way():
            if run.outcomes[-1] is wanted:
                return run.turns
    return None


def _slip(task: Task, turn: Message, chance: random.Random) -> Message | None:
    """A turn with one wrong value: another that the instruction names, or one that lacks a character."""
    call = turn.tool_calls[0]
    texts = [name for name, value in call.arguments.items() if isinstance(value, str) and value]
    if not texts:
        return None
    name = chance.choice(texts)
    text = str(call.arguments[name])
    named = [word for word in task.instruction.split('"')[1::2] if word != text]
    if named and chance.random() < 0.5:
        wrong = chance.choice(named)
    else:
        at = chance.randrange(len(text))
        wrong = text[:at] + text[at + 1 :]
    slip = ToolCall(id=call.id, name=call.name, arguments={**call.arguments, name: wrong})
    return turn.model_copy(update={"tool_calls": (slip, *turn.tool_calls[1:])})


@dataclass(frozen=True)
class Order:
    """Tasks for one process, with the kind of record that each is to become."""

    tasks: Sequence[Task]
    kinds: Sequence[RecordKind]
    seed: int
    start: datetime
    folders: Sequence[Kind] = ()
    """Kinds of world beside ours."""


@dataclass(frozen=True)
class Recorded:
    """One record as a line of JSON, and what is counted of it."""

    line: str
    outcome: Outcome
    category: str
    language: str
    errors: int
    injected: int


def record_order(order: Order) -> list[Recorded | InvalidTry]:
    """Run the tasks; records in the order of the tasks."""
    worlds = with_folders(order.folders)
    kinds, scripts = _cast(order, worlds)
    made: dict[str, Recorded | InvalidTry] = {}
    spoilt: list[InvalidTry] = []
    for kind in KINDS:
        tasks = [task for task in order.tasks if kinds[task.id] == kind]
        policy: Policy = Scripted(scripts)
        label = "careless"
        if kind in ("success", "recovery"):
            label, policy = "expert", Expert(mistakes=float(kind == "recovery"), seed=order.seed)
        for record in run_tasks(
            policy,
            tasks,
            label=label,
            start=order.start,
            max_steps=MAX_TURNS,
            live=1,
            kinds=worlds,
            invalid_tries=spoilt,
        ):
            made[str(record.metadata.group)] = Recorded(
                line=record.to_json(),
                outcome=record.outcome,
                category=record.category,
                language=str(record.metadata.language),
                errors=sum(action.error is not None for action in record.action_sequence),
                injected=len((record.metadata.model_extra or {})["injected"]),
            )
    made |= {each.task: each for each in spoilt}
    return [made[task.id] for task in order.tasks]


def _cast(order: Order, worlds: Mapping[str, Kind]) -> tuple[dict[str, RecordKind], dict[str, list[Message]]]:
    """The kind of each task, and the scripts of those that are careless.

    Not every task can end half done. Where one cannot end as wanted, another of the order does in its place, of the same
    world if there is one.
    """
    kinds: dict[str, RecordKind] = {task.id: kind for task, kind in zip(order.tasks, order.kinds, strict=True)}
    scripts: dict[str, list[Message]] = {}
    for task in order.tasks:
        kind = kinds[task.id]
        if kind not in ("partial", "failure") or task.id in scripts:
            continue
        kinds[task.id] = "success"
        free = sorted(
            (each for each in order.tasks if kinds[each.id] == "success" and each is not task),
            key=lambda each: each.world != task.world,
        )
        for each in [task, *free][:_TASKS_TRIED]:
            chance = random.Random(f"{kind}:{order.seed}:{each.id}")
            script = None
            with suppress(ServersFault):  # it shows again when the task itself is run
                script = rehearse(each, Outcome(kind), chance, kinds=worlds)
            if script:
                kinds[each.id], scripts[each.id] = kind, script
                break
    return kinds, scripts


def in_processes(function: Callable[[Given], Made], parts: Iterable[Given], workers: int) -> Iterator[Made]:
    """`function` of each part, in order; several processes share the parts, and few are in memory at a time."""
    if workers == 1:
        yield from map(function, parts)
        return
    # Started anew, not forked: nothing of this process, such as threads or open files, goes along.
    context = get_context("spawn")
    lifeline, held = context.Pipe(duplex=False)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with, initargs=(lifeline,)) as pool:
        waiting = iter(parts)
        running: deque[Future[Made]] = deque(pool.submit(function, part) for part in islice(waiting, 3 * workers))
        try:
            while running:
                done = running.popleft().result()
                running.extend(pool.submit(function, part) for part in islice(waiting, 1))
                yield done
        except BrokenProcessPool:
            raise UserError("a process was killed, most often for want of memory; use fewer --workers") from None
        finally:
            for future in running:
                future.cancel()
            if running:  # somebody stopped early: what runs ends at once
                held.close()


def _end_with(lifeline: Connection) -> None:
    """End this process as soon as the one that started it lets go of the other end, or ends, in whatever way."""

    def wait() -> None:
        with suppress(EOFError, OSError):
            lifeline.recv_bytes()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
