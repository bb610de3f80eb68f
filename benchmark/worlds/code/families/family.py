"""What a family of the code world is, and what families share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from benchmark.worlds.code.expert import PutRight, RunTests
from benchmark.worlds.code.functions import Function, filled
from benchmark.worlds.code.goals import Goal
from benchmark.worlds.code.troubles import TROUBLES
from benchmark.worlds.expert import Look, Plan
from benchmark.worlds.family import Family
from benchmark.worlds.pools import Draw
from benchmark.worlds.world import Task


@dataclass(frozen=True)
class CodePlan(Plan):
    """A plan with the files at the start. With `confirms` it ends with tests that pass."""

    before: dict[str, str] = field(default_factory=dict)
    confirms: bool = False


def plan_of(
    before: dict[str, str],
    goals: Sequence[Goal],
    looks: Sequence[Sequence[Look]] = (),
    *,
    at_once: bool = False,
    confirms: bool = False,
) -> CodePlan:
    """The files at the start, what must become of them (`at_once`: in one turn), and what has to be seen first."""
    stages = (*looks, (PutRight(at_once),), *(((RunTests(),),) if confirms else ()))
    return CodePlan(goals, stages, before, confirms)


@dataclass(frozen=True)
class CodeFamily(Family):
    """A family with its projects."""

    plan: Callable[[Task], CodePlan] = lambda task: plan_of({}, ())


def reads(*paths: str) -> tuple[Look, ...]:
    return tuple(Look("read_file", {"path": path}) for path in paths)


def draw_module(draw: Draw) -> dict[str, JsonValue]:
    module = draw.word()
    return {"module": module, "path": f"{module}.py", "f": draw.word(), "n": draw.number(3, 99)}


def common(draw: Draw) -> dict[str, JsonValue]:
    """What faults need."""
    return {"junk": draw.folder(), "wait_s": draw.number(100, 300)}


def draw_one(draw: Draw) -> dict[str, JsonValue]:
    """A module with a function to work on and another one that must stay as it is."""
    return {**draw_module(draw), "g": draw.word(), "m": draw.number(3, 99), **common(draw)}


def draw_change(draw: Draw) -> dict[str, JsonValue]:
    return {**draw_one(draw), "new_n": draw.number(3, 99)}


def bare(function: Function) -> str:
    """The function with its number as a constant at the top."""
    name = function.f.upper()
    source = filled(function.kernel.source.replace("$n", name), function.f, function.n)
    return f"{name} = {function.n}\n\n\n{source}"


REPAIRS = ("make_writable", "delete_file", "wait", "restart_runner")
FIXING = ("run_tests", "read_file", "edit_file", "write_file", "list_files", "run_python", *REPAIRS)
EDITING = ("read_file", "edit_file", "write_file", "list_files", "run_python", *REPAIRS)
RUNNING = ("run_file", "write_file", "read_file", "list_files", "install_package", *REPAIRS)
READING = ("read_file", "edit_file", "write_file", "list_files", "install_package", "make_writable", "delete_file")

EDIT_FAULTS = TROUBLES.faults("editing", "edit_file")
TEST_FAULTS = TROUBLES.faults("testing", "run_tests")
WRITE_FAULTS = TROUBLES.faults("writing", "write_file")
RUN_FAULTS = TROUBLES.faults("running", "run_file")
