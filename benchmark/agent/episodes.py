"""The loop: render -> the model speaks -> parse the call -> run the tool -> ... -> a `Trajectory`.

The history that a policy is given is made by `data.trajectories.actions_to_messages` from the very record that grows here.
So a model is trained on exactly the contexts in which it was, and will be, asked.

Many tasks are live at once, each in a world of its own: a policy is asked for all of them together, so that a model can
generate in batches. Time is virtual: a call takes `LATENCY_SECONDS` and whatever the world says on top (waiting for a rate
limit, say), so records do not depend on how fast a machine is.
"""

from __future__ import annotations

import json
import platform
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from pydantic import JsonValue

from benchmark.agent.examples import examples_to_messages
from benchmark.agent.repeat_guard import RepeatGuard
from benchmark.worlds.asking.world import give_voice
from benchmark.worlds.kinds import WORLDS, Kind
from benchmark.worlds.own.toolsets.toolset import ServersFault
from benchmark.worlds.world import Move, Task, ToolResult, Verdict, World
from core.errors import UserError
from data.chats import Message, ToolCall
from data.records import INVALID_CALL, Action, Advice, Environment, Metadata, Outcome, Trajectory
from data.trajectories import actions_to_messages, group_turns, input_to_arguments

if TYPE_CHECKING:
    from benchmark.agent.user_model import UserModel

LATENCY_SECONDS = 0.5
FROZEN_START = datetime(2026, 1, 1, tzinfo=UTC)
_VERSIONS: dict[str, JsonValue] = {"python": platform.python_version(), "tooltune": version("tooltune")}


SERVERS_FAULT = "the server's "
"""How the reason of a turn begins which the server, not the model, has made unreadable."""

Invalid = Literal["stop", "retry"]
"""What an unreadable turn does to its task: end it, or be given back as an error."""


class Unreadable(NamedTuple):
    """A turn that held no readable call: what was written, and why it cannot be read."""

    text: str
    reason: str
    ends: bool = False
    """Whether nothing can follow, because the model's window is full."""


class Heard(Message):
    """A turn whose calls were read in another form than the template's own, which a better parser would not have read."""

    form: str


Turn = Message | Unreadable


@dataclass(frozen=True)
class Beginning:
    """Where in a record a try begins: its actions are done again, weigh nothing, and then somebody goes on."""

    record: str
    actions: tuple[Action, ...]
    kind: str | None = None
    """What is wrong there, where that is why it begins there."""

    @property
    def name(self) -> str:
        """Names the state."""
        return f"{self.record}#{len(self.actions)}"

    def to_metadata(self) -> dict[str, JsonValue]:
        """As records tell it."""
        told: dict[str, JsonValue] = {"record": self.record, "step": len(self.actions)}
        return told if self.kind is None else {**told, "kind": self.kind}


@dataclass(frozen=True)
class Try:
    """A task to be tried. Where it is tried more than once, `sample` counts the tries and `seed` makes them differ."""

    task: Task
    sample: int | None = None
    seed: int | None = None
    """What a model that samples draws from in this try; null for one that does not."""
    examples: tuple[Trajectory, ...] = ()
    """Records that the model is shown before the task, the nearest last."""
    beginning: Beginning | None = None
    """Where it begins, if not at the start."""

    @property
    def name(self) -> str:
        """Names the state in which it begins."""
        return self.task.id if self.beginning is None else self.beginning.name

    @property
    def key(self) -> str:
        """Names the try among all tries of a run."""
        return self.name if self.sample is None else f"{self.name}-s{self.sample}"


@dataclass(eq=False)
class Episode:
    """One task under way: its live world and the record so far."""

    attempt: Try
    kind: Kind
    world: World
    metadata: Metadata
    clock: datetime
    actions: list[Action] = field(default_factory=list)
    injected: list[tuple[int, str]] = field(default_factory=list)
    experts: list[tuple[int, Move, bool]] = field(default_factory=list)
    """Per turn, when advice is wanted: its first action, the expert's move there, and whether the model did the same."""
    interventions: list[tuple[int, str]] = field(default_factory=list)
    """First action of each turn that was the expert's in the model's place, and by which rule."""
    failed_turns: set[int] = field(default_factory=set)
    read_as: list[tuple[int, str]] = field(default_factory=list)
    """First action of each turn whose calls were read in another form than the template's own, and that form."""
    errors: Counter[str] = field(default_factory=Counter)
    """How often each call has failed in each way."""
    turns: int = 0
    over: bool = False
    earlier_crash: str | None = None
    """In a second try: the call on which the server crashed in the first, or an empty text where something else went wrong."""
    crashed_on: str | None = None
    """The call on which the server crashed now."""

    @property
    def task(self) -> Task:
        """The task that is tried."""
        return self.attempt.task

    @property
    def messages(self) -> list[Message]:
        """What the policy is given now."""
        return show_examples(self.attempt, actions_to_messages(self.metadata, self.actions))


@dataclass(frozen=True)
class InvalidTry:
    """A try of which there is no record, because a server spoilt it twice."""

    id: str
    """The id that its record would have had."""
    task: str
    reason: str
    text: str


CRASHED = "the server crashed on this call, again after a fresh start"
"""What a model reads that made the same call which has crashed the server before: this is its own failure."""


def crash_to_verdict(command: str) -> Verdict:
    """The verdict of a run that ended with such a crash."""
    return Verdict(Outcome.FAILURE, 0.0, f"the call of {command} crashed the server twice")


class Policy(Protocol):
    """Whatever chooses the next turn: a model, an expert, or something trivial to compare with."""

    def act(self, episodes: Sequence[Episode]) -> Sequence[Turn | None]:
        """The next turn of each episode; None for one that is still being thought about, which is asked for again."""
        ...

    def forget(self, episode: Episode) -> None:
        """The episode is over; what was kept for it can go."""
        ...


def run_tasks(
    policy: Policy,
    tasks: Iterable[Task | Try],
    *,
    label: str,
    kinds: Mapping[str, Kind] = WORLDS,
    max_steps: int = 12,
    max_same_errors: int | None = None,
    live: int = 16,
    advise: bool = False,
    invalid: Invalid = "retry",
    start: datetime | None = None,
    repeat_guard: bool = False,
    step_in: Callable[[Episode, Turn], Turn] | None = None,
    invalid_tries: list[InvalidTry] | None = None,
    user: UserModel | None = None,
) -> Iterator[Trajectory]:
    """Carry out every try and yield its record, in the order in which they end. A bare task is tried once.

    Args:
        label: who acted; part of each record's id.
        kinds: the kinds of the tasks' worlds, by name.
        max_steps: turns after which an episode ends as it is.
        max_same_errors: an episode also ends once the same call has failed so many times with the same error: a model that is
            stuck, greedy ones above all, would say it until its last turn. Null: it goes on.
        live: how many tasks are under way at once.
        advise: store the expert's move at each failed step (see `_advice`).
        invalid: whether a turn that cannot be read goes back to the model as an error or ends the episode.
        start: time of the first action of every record; null is now.
        repeat_guard: whether a call that has failed is not made again as long as nothing has changed.
        step_in: what is done instead of what the policy would do; see `benchmark/agent/interventions.py`.
        user: a model that plays the users of tasks, where these are not to say what their script says.
        invalid_tries: where tries go that a server spoilt twice. A first time they are tried once more; without such a list the
            second fault is raised.

    Raises:
        ServersFault: see `invalid_tries`.
        UserError: a try begins in a record whose calls give other results now.
    """
    waiting = iter(tasks)
    again: deque[tuple[Task | Try, str | None]] = deque()
    episodes: list[Episode] = []
    live = min([live, *(kind.parallel for kind in kinds.values() if kind.parallel is not None)])

    def spoilt(attempt: Task | Try, fault: ServersFault, *, is_second: bool, crashed_on: str | None = None) -> None:
        if not is_second:
            again.append((attempt, crashed_on or ""))
        elif invalid_tries is None:
            raise fault
        else:
            known = attempt if isinstance(attempt, Try) else Try(attempt)
            name = try_to_record_id(known, label=label)
            invalid_tries.append(InvalidTry(name, known.task.id, fault.reason, fault.text))

    def drop(episode: Episode, fault: ServersFault) -> None:
        episodes.remove(episode)
        policy.forget(episode)
        episode.world.__exit__(None, None, None)
        spoilt(episode.attempt, fault, is_second=episode.earlier_crash is not None, crashed_on=episode.crashed_on)

    try:
        while True:
            while len(episodes) < live:
                attempt, crash = again.popleft() if again else (next(waiting, None), None)
                if attempt is None:
                    break
                try:
                    episode = open_episode(
                        attempt, label=label, start=start, repeat_guard=repeat_guard, kinds=kinds, user=user
                    )
                except ServersFault as fault:
                    spoilt(attempt, fault, is_second=crash is not None)
                    continue
                episode.earlier_crash = crash
                episodes.append(episode)
            if not episodes:
                return
            for episode, turn in zip(tuple(episodes), policy.act(episodes), strict=True):
                if turn is None:
                    continue
                try:
                    turn = turn if step_in is None else step_in(episode, turn)
                    take_turn(episode, turn, advise=advise, invalid=invalid)
                except ServersFault as fault:
                    drop(episode, fault)
                    continue
                stuck = max_same_errors is not None and max(episode.errors.values(), default=0) >= max_same_errors
                episode.over = episode.over or stuck or episode.turns >= max_steps
            for episode in [episode for episode in episodes if episode.over]:
                try:
                    verdict = judge(episode)
                except ServersFault as fault:
                    drop(episode, fault)
                    continue
                episodes.remove(episode)
                policy.forget(episode)
                yield close_episode(episode, verdict, advise=advise)
    finally:  # somebody stopped early: no world stays behind
        for episode in episodes:
            episode.world.__exit__(None, None, None)


def show_examples(attempt: Try, messages: Sequence[Message]) -> list[Message]:
    """The messages of a try with its examples before the instruction."""
    place = 1 if messages[0].role == "system" else 0
    return [*messages[:place], *examples_to_messages(attempt.examples), *messages[place:]]


def open_episode(
    attempt: Task | Try,
    *,
    label: str,
    start: datetime | None = None,
    repeat_guard: bool = False,
    kinds: Mapping[str, Kind] = WORLDS,
    user: UserModel | None = None,
) -> Episode:
    """A fresh world of a task and an empty record. `user` plays the user of a task that has one."""
    if isinstance(attempt, Task):
        attempt = Try(attempt)
    task = attempt.task
    kind = kinds[task.world]
    metadata = Metadata.model_validate(
        {
            "instruction": task.instruction,
            "system": task.system,
            "tools": [tool.model_dump() for tool in task.tools],
            "language": task.language,
            "source": kind.source,
            "licence": kind.licence,
            "group": task.id,
            "policy": label,
            "task": task_to_metadata(task),
            **({} if attempt.seed is None else {"sampling": {"sample": attempt.sample, "seed": attempt.seed}}),
            **({"examples": [record.id for record in attempt.examples]} if attempt.examples else {}),
            **({"repeat_guard": True} if repeat_guard else {}),
            **({} if user is None or task.user is None else {"user_model": {"server": user.url, "model": user.model}}),
            **({} if attempt.beginning is None else {"begins": attempt.beginning.to_metadata()}),
        }
    )
    world: World = kind.open(task)
    if user is not None:
        give_voice(world, user.answer)
    if repeat_guard:
        world = RepeatGuard(world)
    world.__enter__()
    episode = Episode(attempt, kind, world, metadata, start or datetime.now(UTC).replace(microsecond=0))
    if attempt.beginning is not None:
        try:
            _do_again(episode, attempt.beginning)
        except BaseException:
            world.__exit__(None, None, None)
            raise
    return episode


def _do_again(episode: Episode, beginning: Beginning) -> None:
    """Bring a fresh world to where a record was, by the record's own actions."""
    for turn in actions_to_turns(beginning.actions):
        take_turn(episode, turn, advise=False, invalid="retry")
    for step, (was, now) in enumerate(zip(beginning.actions, episode.actions, strict=True)):
        if json.dumps([was.output, was.error], sort_keys=True) != json.dumps([now.output, now.error], sort_keys=True):
            raise UserError(f"{beginning.record}: step {step}: the call gives another result now than in the record")
        episode.actions[step] = now.model_copy(update={"weight": 0.0})
    episode.over = False


def actions_to_turns(actions: Sequence[Action]) -> list[Turn]:
    """What was said, turn by turn."""
    turns: list[Turn] = []
    for group in group_turns(actions):
        first = group[0][1]
        if first.command == INVALID_CALL:
            text = first.input.get("text", "") if isinstance(first.input, dict) else first.input
            turns.append(Unreadable(str(text), first.error or ""))
            continue
        calls = tuple(
            ToolCall(id=f"call_{place}", name=action.command, arguments=input_to_arguments(action.input))
            for place, (_, action) in enumerate(group)
        )
        turns.append(
            Message(role="assistant", content=first.text or "", reasoning_content=first.reasoning, tool_calls=calls)
        )
    return turns


def task_to_metadata(task: Task) -> dict[str, object]:
    """A task as data: what replay, decontamination and the KPIs need of it."""
    values = asdict(task)
    kept = (
        *("id", "world", "family", "split", "seed", "tier", "context_tokens", "language"),
        *("parameters", "facts", "faults"),
    )
    told = {name: list(values[name]) if name == "faults" else values[name] for name in kept}
    return told if task.user is None else {**told, "user": values["user"]}


def take_turn(episode: Episode, turn: Turn, *, advise: bool, invalid: Invalid) -> None:
    """Carry out one turn: run its calls, or note the answer or the fault."""
    step = len(episode.actions)
    if isinstance(turn, Message) and any(call.name == INVALID_CALL for call in turn.tool_calls):
        # In a record this command stands for text that is no call; as a tool's name it would be read back as that.
        turn = Unreadable(json.dumps(turn.to_template(), ensure_ascii=False), f"{INVALID_CALL!r} is no tool's name")
    if advise:
        move = episode.world.expert(episode.actions)
        episode.experts.append((step, move, is_move(turn, move)))
    episode.turns += 1
    if isinstance(turn, Unreadable):
        _append(episode, INVALID_CALL, {"text": turn.text}, ToolResult(error=turn.reason), None, None)
        episode.failed_turns.add(step)
        episode.over = invalid == "stop" or turn.ends
        return
    if not turn.tool_calls:
        episode.metadata.answer = turn.content
        episode.metadata.answer_reasoning = turn.reasoning_content
        episode.world.answer(turn.content)
        episode.over = True
        if getattr(episode.world, "obeys_in_words", False):  # an instruction in a result has asked for this answer
            episode.failed_turns.add(step)
            episode.experts[-1:] = [(at, move, False) for at, move, _ in episode.experts[-1:]]
        return
    if isinstance(turn, Heard):
        episode.read_as.append((step, turn.form))
    parallel = episode.turns if len(turn.tool_calls) > 1 else None
    for place, call in enumerate(turn.tool_calls):
        result = _call(episode, call)
        if result.injected is not None:
            episode.injected.append((len(episode.actions), result.injected))
        elif result.error is not None or result.obeys:
            episode.failed_turns.add(step)
        _append(episode, call.name, dict(call.arguments), result, parallel, turn if place == 0 else None)
        if episode.crashed_on is not None:
            return


def _call(episode: Episode, call: ToolCall) -> ToolResult:
    """Make a call. One that crashes a fresh server once more is the model's failure and ends the episode."""
    try:
        return episode.world.call(call.name, dict(call.arguments))
    except ServersFault as fault:
        if fault.reason == "crashed":
            episode.crashed_on = json.dumps([call.name, call.arguments], sort_keys=True)
        if episode.crashed_on is None or episode.crashed_on != episode.earlier_crash:
            raise
        episode.over = True
        return ToolResult(error=CRASHED)


def _append(
    episode: Episode,
    command: str,
    arguments: dict[str, object],
    result: ToolResult,
    turn: int | None,
    said: Message | None,
) -> None:
    if result.error is not None:
        episode.errors[json.dumps([command, arguments, result.error], sort_keys=True)] += 1
    began = episode.clock
    episode.clock = began + timedelta(seconds=LATENCY_SECONDS + result.seconds)
    episode.actions.append(
        Action.model_validate(
            {
                "command": command,
                "input": arguments,
                "output": result.output,
                "error": result.error,
                "start_time": began,
                "end_time": episode.clock,
                "turn": turn,
                "text": (said.content or None) if said else None,
                "reasoning": said.reasoning_content if said else None,
            }
        )
    )


def judge(episode: Episode) -> Verdict:
    """What the world says of its final state."""
    if episode.crashed_on is not None:
        return crash_to_verdict(episode.actions[-1].command)
    return episode.world.verdict()


def close_episode(episode: Episode, verdict: Verdict, *, advise: bool = False) -> Trajectory:
    """Remove the world, and return the record."""
    episode.world.__exit__(None, None, None)
    metadata = episode.metadata
    if advise:
        metadata.advice = _advice(episode, verdict.outcome)
    extra = {
        "score": verdict.score,
        "why": verdict.why,
        "injected": [list(pair) for pair in episode.injected],
        **({} if verdict.asking is None else {"asking": verdict.asking}),
        # Only servers of a user's own ask their client back.
        **({"asked_back": asked} if (asked := getattr(episode.world, "asked_back", 0)) else {}),
        **({} if verdict.injection is None else {"injection": verdict.injection}),
        **({"read_as": [list(pair) for pair in episode.read_as]} if episode.read_as else {}),
        **({"interventions": [list(pair) for pair in episode.interventions]} if episode.interventions else {}),
        "replay": {**_VERSIONS, "sums": record_checksums(metadata, episode.actions)},
    }
    kind = episode.kind
    details: dict[str, JsonValue] = {**_VERSIONS, **({"identity": dict(kind.identity)} if kind.identity else {})}
    return Trajectory(
        id=try_to_record_id(episode.attempt, label=str((metadata.model_extra or {}).get("policy"))),
        category=kind.category,
        timestamp=episode.actions[0].start_time if episode.actions else episode.clock,
        environment=Environment(name=episode.task.world, version=kind.version, details=details),
        tool=episode.task.world,
        action_sequence=episode.actions,
        outcome=verdict.outcome,
        metadata=Metadata.model_validate({**metadata.model_dump(), **extra}),
    )


def try_to_record_id(attempt: Try, *, label: str) -> str:
    """The id of the record of a try by `label`."""
    return f"{attempt.name}-{label}" + ("" if attempt.sample is None else f"-s{attempt.sample}")


def record_checksums(metadata: Metadata, actions: Sequence[Action]) -> list[int]:
    """CRC-32 of what was said at each step and at the end: what a replay could not tell from the world's answers."""
    said: list[list[object]] = []
    for action in actions:
        said.append([action.command, action.input, action.turn, action.text, action.reasoning])
        if action.command == INVALID_CALL:
            said[-1].append(action.error)  # no world gave it, it says why the text cannot be read
    said.append([metadata.answer, metadata.answer_reasoning])
    return [zlib.crc32(json.dumps(each, sort_keys=True).encode()) for each in said]


def is_move(turn: Turn, move: Move) -> bool:
    """Whether a turn does what the expert would. Any final answer equals any other: only the world's state counts."""
    if isinstance(turn, Unreadable):
        return False
    if not turn.tool_calls:
        return move.command is None
    # As JSON, because Python takes 1, 1.0 and true for equal and a tool does not.
    said = [(call.name, json.dumps(call.arguments, sort_keys=True)) for call in turn.tool_calls]
    return said == [(each.command, json.dumps(each.input, sort_keys=True)) for each in (move, *move.beside)]


def _advice(episode: Episode, outcome: Outcome) -> list[Advice]:
    """The expert's move at each failed step, from the state before it.

    A step failed when it could not be read, or its call was an error that no fault injected. When the task did not end in
    success, the first step that differs from the expert's counts too: it may be a call that worked and was wrong, or an
    answer given too early.
    """
    wrong = [(step, move) for step, move, same in episode.experts if not same]
    first = {wrong[0][0]} if wrong and outcome is not Outcome.SUCCESS else set()
    return [
        Advice(step=step, command=move.command, input=move.input, answer=move.answer)
        for step, move in wrong
        if step in episode.failed_turns or step in first
    ]


def move_to_message(move: Move) -> Message:
    """An expert's move as an assistant turn."""
    if move.command is None:
        return Message(role="assistant", content=move.answer or "Done.")
    calls = tuple(
        ToolCall(id=f"call_{place}", name=str(each.command), arguments=each.input)
        for place, each in enumerate((move, *move.beside))
    )
    return Message(role="assistant", tool_calls=calls)
