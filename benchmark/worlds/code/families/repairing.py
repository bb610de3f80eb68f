"""Code to repair until its tests pass."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from pydantic import JsonValue

from benchmark.worlds.code.families.family import (
    EDIT_FAULTS,
    FIXING,
    TEST_FAULTS,
    CodeFamily,
    CodePlan,
    common,
    draw_module,
    draw_one,
    plan_of,
    reads,
)
from benchmark.worlds.code.functions import Function
from benchmark.worlds.code.goals import Goal
from benchmark.worlds.expert import Look
from benchmark.worlds.pools import Draw
from benchmark.worlds.world import Task


def _plan_fix(task: Task, *, bug: str) -> CodePlan:
    p: Any = task.parameters
    function, other = Function.of(p["f"], p["n"]), Function.of(p["g"], p["m"])
    after = f"{function.source}\n\n{other.source}"
    before = {
        p["path"]: f"{function.with_bug(bug)}\n\n{other.source}",
        f"test_{p['path']}": function.tests(p["module"]),
    }
    goal = Goal(p["path"], after, (*function.calls, *other.calls))
    return plan_of(before, (goal,), ((Look("run_tests"),), reads(p["path"])), confirms=True)


def _plan_import(task: Task) -> CodePlan:
    """The module calls a function of another one, by a name that it does not have there."""
    p: Any = task.parameters
    function = Function.of(p["f"], p["n"])
    tool, caller = f"{p['tool']}.py", p["g"]
    wrong, right = (
        f"from {p['tool']} import {name}\n\n\ndef {caller}({function.argument}):\n    return {p['f']}({function.argument})\n"
        for name in (p["wrong"], p["f"])
    )
    calls = tuple((expression.replace(f"{p['f']}(", f"{caller}("), value) for expression, value in function.calls)
    seen = len(function.kernel.seen)
    tests = f"from {p['module']} import {caller}\n"
    for number, (expression, value) in enumerate(calls[:seen], 1):
        tests += f"\n\ndef test_{caller}_{number}():\n    assert {expression} == {value}\n"
    before = {tool: function.source, p["path"]: wrong, f"test_{p['path']}": tests}
    looks = ((Look("run_tests"),), reads(p["path"], tool))
    return plan_of(before, (Goal(p["path"], right, calls),), looks, confirms=True)


def _draw_import(draw: Draw) -> dict[str, JsonValue]:
    return {**draw_module(draw), "g": draw.word(), "tool": draw.word(), "wrong": draw.word(), **common(draw)}


def _draw_many(draw: Draw, *, count: int) -> dict[str, JsonValue]:
    modules: list[JsonValue] = [draw_module(draw) for _ in range(count)]
    return {"modules": modules, **common(draw)}


def _plan_many(task: Task) -> CodePlan:
    """Several modules, each with a fault of its own."""
    p: Any = task.parameters
    before: dict[str, str] = {}
    goals = []
    kinds = ("operator", "name", "boundary", "syntax")
    for place, each in enumerate(p["modules"]):
        function = Function.of(each["f"], each["n"])
        before[each["path"]] = function.with_bug(kinds[place % len(kinds)])
        before[f"test_{each['path']}"] = function.tests(each["module"])
        goals.append(Goal(each["path"], function.source, function.calls))
    paths = [goal.path for goal in goals]
    return plan_of(before, goals, ((Look("run_tests"),), reads(*paths)), at_once=True, confirms=True)


def _paths(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    return {"paths": ", ".join(f'"{each["path"]}"' for each in p["modules"])}


def _fix_family(bug: str, english: str, korean: str, *, held_out: bool = False) -> CodeFamily:
    return CodeFamily(
        name=f"fix-{bug}",
        tier=4,
        tools=FIXING,
        draw=draw_one,
        english=(
            f'A test of "{{path}}" fails because of {english}. Repair it until all tests pass; leave the tests as they are.',
            f'There is {english} in "{{path}}". Find and repair it; in the end the tests must pass unchanged.',
        ),
        korean=f'"{{path}}"에 {korean}가 있습니다. 테스트는 그대로 두고, 모든 테스트가 통과하도록 고치세요.',
        facts=("path",),
        faults=(*TEST_FAULTS, *EDIT_FAULTS),
        plan=partial(_plan_fix, bug=bug),
        held_out=held_out,
    )


FIX_SYNTAX = _fix_family("syntax", "a syntax error", "문법 오류")


FIX_NAME = _fix_family("name", "a misspelt name", "이름 오타")


FIX_OPERATOR = _fix_family("operator", "a wrong comparison or operation", "잘못된 비교나 연산")


FIX_BOUNDARY = _fix_family("boundary", "a value that is off at the edge", "경계값 오류")


IMPORT = CodeFamily(
    name="import",
    tier=5,
    tools=FIXING,
    draw=_draw_import,
    english=(
        '"{path}" imports a name that "{tool}.py" does not have. Repair "{path}" until the tests pass.',
        'The tests of "{path}" cannot import it: it takes a wrong name from "{tool}.py". Put "{path}" right.',
    ),
    korean='"{path}"가 "{tool}.py"에 없는 이름을 가져옵니다. 테스트가 통과하도록 "{path}"를 고치세요.',
    facts=("path",),
    faults=(*TEST_FAULTS, *EDIT_FAULTS),
    plan=_plan_import,
)


TWO_MODULES = CodeFamily(
    name="two-modules",
    tier=6,
    tools=FIXING,
    draw=partial(_draw_many, count=2),
    english=("The tests fail: there is one mistake in each of {paths}. Repair them until all tests pass.",),
    korean="{paths}에 잘못이 하나씩 있습니다. 모든 테스트가 통과하도록 고치세요.",
    facts=(),
    faults=(*TEST_FAULTS, *EDIT_FAULTS),
    phrases=_paths,
    plan=_plan_many,
)


FIVE_MODULES = CodeFamily(
    name="five-modules",
    tier=12,
    tools=FIXING,
    draw=partial(_draw_many, count=5),
    english=("Each of {paths} has one mistake in it. Repair them all; in the end every test must pass.",),
    korean="{paths}에 잘못이 하나씩 있습니다. 모두 고쳐서 모든 테스트를 통과시키세요.",
    facts=(),
    faults=(*TEST_FAULTS, *EDIT_FAULTS),
    phrases=_paths,
    plan=_plan_many,
)


FIX_TYPE = _fix_family("type", "a value of the wrong type", "잘못된 자료형의 값", held_out=True)
