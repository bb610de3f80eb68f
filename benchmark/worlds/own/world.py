"""A user's folder as a world: its servers started for an episode, its tools with faults around them, its state judged."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import JsonValue

from benchmark.worlds.expert import Expert, Plan
from benchmark.worlds.own.faults import WAIT
from benchmark.worlds.own.folder import Folder, ToolFacts
from benchmark.worlds.own.judge import Expected, Made, answer_alone, judge, result_fault, says_to_answer
from benchmark.worlds.own.sources import NamedCall, PythonSource
from benchmark.worlds.own.state import Entries, files_to_state, point, state_to_entries, text_to_value
from benchmark.worlds.own.tasks import FROM, ResultCheck, TaskRow
from benchmark.worlds.own.toolsets.opening import source_to_toolset
from benchmark.worlds.own.toolsets.python import STATE, run_check
from benchmark.worlds.own.toolsets.toolset import Place, ServersFault, Toolset
from benchmark.worlds.tools import DONE, GIVEN_UP, Commit, ToolError, ToolWorld, score_to_verdict
from benchmark.worlds.troubles import Troubles
from benchmark.worlds.world import Move, Task, ToolResult, Verdict
from data.records import Action, Outcome, ToolFunction, ToolSpec

WAIT_TOOL = ToolSpec(
    function=ToolFunction(
        name=WAIT,
        description="Wait some seconds.",
        parameters={"type": "object", "properties": {"seconds": {"type": "integer"}}, "required": ["seconds"]},
    )
)


JudgedBy = Literal["state", "get_reward", "check.py"]


class CannotRun(Exception):
    """A call of a task's setup or solution does not work, and why."""


def check_call(tools: Mapping[str, ToolSpec], name: str, arguments: dict[str, Any]) -> None:
    """Check a call against the schemas of the tools; see `arguments.check_call`."""
    from benchmark.worlds.own import arguments as own  # noqa: PLC0415 - of the extra `tools`, which our worlds do without

    own.check_call(tools, name, arguments)


class KindOfOwn(Protocol):
    """What a world asks of its kind."""

    folder: Folder
    origins: dict[str, tuple[int, str]]
    facts: dict[str, ToolFacts]
    judged_by: JudgedBy

    @property
    def troubles(self) -> Troubles[Any, Any]: ...

    def expected(self, row: TaskRow) -> Expected: ...

    def names_of(self, toolsets: Sequence[Toolset]) -> dict[str, tuple[int, str]]: ...

    def is_read_only(self, name: str) -> bool: ...

    def take_slot(self) -> int: ...

    def give_slot_back(self, slot: int) -> None: ...


class OwnWorld(ToolWorld):
    """A live world of one task of a folder. Entering it starts what the folder starts; leaving it ends all of that."""

    def __init__(self, kind: KindOfOwn, task: Task, row: TaskRow, expected: Expected | None = None) -> None:
        super().__init__(task)
        self.kind, self.row = kind, row
        self.troubles = kind.troubles  # type: ignore[misc]  # of ours a class has them, here a folder does
        self.plan = Plan(None, [[_Do(place)] for place in range(len(row.solution))])
        self.made: list[Made] = []
        self.said: str | None = None
        self.asked_back = 0
        """How often servers asked their client for something and were refused; known when the world is left."""
        self._tools = {tool.function.name: tool for tool in task.tools}
        self._expected = expected
        self._toolsets: list[Toolset] = []
        self._scratch: Path | None = None
        self._place: Place | None = None
        self._slot: int | None = None

    # Beginning and end.

    def __enter__(self) -> OwnWorld:
        if self.kind.judged_by == "state" and self._expected is None:
            self._expected = self.kind.expected(self.row)
        self.start()
        return self

    def start(self) -> None:
        """Start the servers and make the calls of `setup`.

        Raises:
            ServersFault: they do not start, or the setup does not work.
        """
        try:
            self._slot = self.kind.take_slot()
            self._toolsets, self._scratch, self._place = open_toolsets(self.kind.folder, self._slot, self.row)
            found = self.kind.names_of(self._toolsets)
            if found.keys() != self.kind.origins.keys():
                raise ServersFault("protocol", "the server has other tools than when it was asked first")
            for toolset in self._toolsets:
                toolset.reset()
            self.do(self.row.setup, "setup")
        except CannotRun as error:
            self.__exit__()
            raise ServersFault("broke", str(error)) from None
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *exc: object) -> None:
        toolsets, self._toolsets = self._toolsets, []
        for toolset in toolsets:
            self.asked_back += toolset.asked_back
            toolset.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None
        if self._slot is not None:
            self.kind.give_slot_back(self._slot)
            self._slot = None

    # Calls.

    def ask(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """A call that goes straight to its server: no fault, no clock, no check of arguments."""
        place, own_name = self.kind.origins[name]
        return self._toolsets[place].call(own_name, dict(arguments))

    def do(self, calls: Sequence[NamedCall], what: str) -> list[JsonValue]:
        """Make calls one after the other, with what they refer to filled in; their results.

        Raises:
            CannotRun: the first that does not work.
        """
        outputs: list[JsonValue] = []
        for place, call in enumerate(calls):
            shown = f"{what}.{place}: {call.name}"
            if call.name not in self.kind.origins:
                raise CannotRun(f"{shown}: there is no such tool")
            try:
                given = fill_references(call.arguments, calls, outputs)
                check_call(self._tools, call.name, given)
            except (LookupError, ToolError) as error:
                raise CannotRun(f"{shown}: {error}") from None
            result = self.ask(call.name, given)
            if result.error is not None:
                raise CannotRun(f"{shown}({json.dumps(given, ensure_ascii=False)}): {result.error}")
            outputs.append(result.output)
        return outputs

    def check(self, name: str, arguments: dict[str, Any]) -> Commit:
        """Whether a call may be made; see `ToolWorld.check`."""
        check_call(self._tools, name, arguments)
        met = next((each for each in self._standing if each.meets(self, self.clock_s, name, arguments)), None)
        if met is not None:
            raise self.error(met.trouble.kind, **met.told(self.clock_s))
        if name == WAIT and WAIT not in self.kind.origins:
            return self.wait(**arguments)

        def commit() -> JsonValue:
            self.clock_s += self.kind.facts[name].seconds
            result = self.ask(name, arguments)
            if result.error is not None:
                raise ToolError(result.error)
            return result.output

        return commit

    def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """Run one tool call; see `World`."""
        result = super().call(name, arguments)
        self.made.append(Made(name, arguments, result.error is None, result.output))
        return result

    def answer(self, text: str) -> None:
        """Words count where nothing may change."""
        self.said = text

    # Judging.

    def state(self) -> JsonValue:
        """What is there now: results of the `look` calls by their tools, or the files of the state.

        Raises:
            ServersFault: a look does not work.
        """
        looks = self.kind.folder.world.look
        if not looks:
            files = (
                files_to_state(self._place.state) if self._place is not None and self._place.state is not None else {}
            )
            return {**files, **self._objects()}
        seen: dict[str, JsonValue] = {}
        for call in looks:
            result = self.ask(call.name, call.arguments)
            if result.error is not None:
                raise ServersFault("broke", f"look: {call.name}: {result.error}")
            key = (
                call.name if call.name not in seen else f"{call.name} {json.dumps(call.arguments, ensure_ascii=False)}"
            )
            seen[key] = text_to_value(result.output) if isinstance(result.output, str) else result.output
        return seen

    def _objects(self) -> dict[str, JsonValue]:
        """The whole state of the objects of Python sources, by class."""
        pairs = zip(self.kind.folder.world.tools, self._toolsets, strict=True)
        python = [(source, toolset) for source, toolset in pairs if isinstance(source, PythonSource)]
        found: dict[str, JsonValue] = {}
        for source, toolset in python:
            result = toolset.call(STATE, {})
            if result.error is None:
                found[source.class_name] = (
                    text_to_value(result.output) if isinstance(result.output, str) else result.output
                )
        return found

    def entries(self) -> Entries:
        """The state as entries that are compared."""
        world = self.kind.folder.world
        return state_to_entries(self.state(), volatile=world.volatile, ignore_case=world.ignore_case)

    def verdict(self) -> Verdict:
        """Judge the state as it is now."""
        if self.kind.judged_by == "get_reward":
            rewards = [reward for toolset in self._toolsets if (reward := toolset.reward()) is not None]
            return share_to_verdict(rewards[0] if rewards else 0.0, "get_reward")
        if self.kind.judged_by == "check.py":
            return self._checked()
        assert self._expected is not None
        return judge(self.row, self._expected, self.entries(), self.said, self.made, self.ask)

    def _checked(self) -> Verdict:
        """What check.py says."""
        assert self._place is not None
        actions: list[dict[str, JsonValue]] = [
            {"name": each.name, "arguments": each.arguments, "worked": each.worked} for each in self.made
        ]
        row = self.row.model_dump(mode="json")
        said = self.said or ""
        answer = answer_alone(said, self.row, self.made) if self.row.expects == "no_change" else said
        told = run_check(self._place, row, answer=answer, actions=actions, call=self.ask)
        if isinstance(told, float):
            return share_to_verdict(told, "check.py")
        return score_to_verdict(len(told), [f"{goal}: {why}" for goal, held, why in told if not held], [])

    def goals_held(self) -> tuple[bool, ...]:
        """Of each goal in `check`, whether it holds now."""
        return tuple(
            result_fault(check, self.ask) is None for check in self.row.check if isinstance(check, ResultCheck)
        )

    def expert(self, history: Sequence[Action]) -> Move:
        """The next call of the solution, or the repair of a fault; a task without a solution has none."""
        return OwnExpert(self, history).move()


def share_to_verdict(share: float, why: str) -> Verdict:
    """A score that something else gave."""
    score = min(max(float(share), 0.0), 1.0)
    outcome = Outcome.SUCCESS if score == 1 else Outcome.PARTIAL if score > 0 else Outcome.FAILURE
    return Verdict(outcome, score, why)


def open_toolsets(folder: Folder, slot: int, row: TaskRow | None) -> tuple[list[Toolset], Path, Place]:
    """Start all that a folder's tools need, with a copy of its state; the opened toolsets, a folder to remove, and the place.

    Raises:
        ServersFault: something does not start. Nothing of it is left then.
    """
    world = folder.world
    scratch = Path(tempfile.mkdtemp(prefix="tooltune-own-"))
    opened: list[Toolset] = []
    try:
        state = None
        if world.state is not None:
            state = scratch / "state"
            shutil.copytree(folder.path / world.state.dir, state, symlinks=True)
        place = Place(
            folder=folder.path,
            state=state,
            slot=slot,
            timeout_s=world.timeout_s,
            hosts=tuple(world.hosts),
            reset=world.reset,
            row=dict(row.row) if row is not None else {},
            task=row.model_dump(mode="json", exclude={"row"}) if row is not None else {},
        )
        for source in world.tools:
            toolset = source_to_toolset(source, place)
            opened.append(toolset)
            toolset.open()
    except BaseException:
        for toolset in opened:
            toolset.close()
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return opened, scratch, place


# ---- references, and the expert ----


def fill_references(value: Any, calls: Sequence[NamedCall], outputs: Sequence[JsonValue]) -> Any:
    """A value with each `{"$from": [call, pointer]}` replaced by what it names.

    Raises:
        LookupError: there is no such thing.
    """
    if isinstance(value, dict):
        if FROM in value:
            source, pointer = value[FROM]
            place = source if isinstance(source, int) else [call.name for call in calls].index(source)
            if place >= len(outputs):
                raise LookupError(f"$from names call {source}, which was not made yet")
            try:
                return point(outputs[place], pointer)
            except LookupError:
                raise LookupError(f"$from: the result of {calls[place].name} holds nothing at {pointer}") from None
        return {key: fill_references(each, calls, outputs) for key, each in value.items()}
    if isinstance(value, list):
        return [fill_references(each, calls, outputs) for each in value]
    return value


@dataclass(frozen=True)
class _Do:
    """One call of the solution, by its place."""

    place: int

    def next(self, expert: OwnExpert) -> Sequence[Move]:
        """The call, until it has worked as often as the solution has it so far."""
        given = expert.arguments_of(self.place)
        if given is None:
            return []
        call = expert.world.row.solution[self.place]
        meant = expert.meant(call.name, given)
        earlier = [expert.meant(each.name, expert.arguments_of(place) or {})
                   for place, each in enumerate(expert.world.row.solution[: self.place + 1])]  # fmt: skip
        return [] if expert.worked[meant] >= earlier.count(meant) else [Move(call.name, given)]


class OwnExpert(Expert[OwnWorld]):
    """The solution, with faults repaired around it."""

    def arguments_of(self, place: int) -> dict[str, Any] | None:
        """The arguments of a call of the solution; None as long as what it refers to is not known."""
        calls = self.world.row.solution
        outputs: list[JsonValue] = []
        for earlier in range(place):
            given = self._filled(earlier, outputs)
            outputs.append(None if given is None else self.output(calls[earlier].name, given))
        return self._filled(place, outputs)

    def _filled(self, place: int, outputs: list[JsonValue]) -> dict[str, Any] | None:
        try:
            filled: dict[str, Any] = fill_references(
                self.world.row.solution[place].arguments, self.world.row.solution, outputs
            )
        except LookupError:
            return None
        return filled

    def answer(self) -> str | None:
        """The last words, once every call of the solution has worked."""
        row = self.world.row
        if any(step.next(self) for stage in self.world.plan.stages for step in stage):
            return None
        if not self._is_whole():
            return GIVEN_UP
        return says_to_answer(row) if row.expects == "no_change" else DONE

    def _is_whole(self) -> bool:
        places = range(len(self.world.row.solution))
        return bool(places or self.world.row.says) and all(self.arguments_of(place) is not None for place in places)
