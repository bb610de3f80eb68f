"""Code to run, whose output is asked for."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import JsonValue

from benchmark.worlds.code.families.family import (
    REPAIRS,
    RUN_FAULTS,
    RUNNING,
    WRITE_FAULTS,
    CodeFamily,
    CodePlan,
    common,
    draw_module,
    plan_of,
)
from benchmark.worlds.code.functions import Function
from benchmark.worlds.code.goals import Goal
from benchmark.worlds.expert import Look
from benchmark.worlds.pools import Draw
from benchmark.worlds.world import Fault, Task


def _draw_run(draw: Draw) -> dict[str, JsonValue]:
    return {**draw_module(draw), "m": draw.number(100, 999), "target": f"{draw.word()}.txt", **common(draw)}


def _plan_run(task: Task) -> CodePlan:
    p: Any = task.parameters
    function = Function.of(p["f"], p["n"])
    expression, value = function.values(function.kernel.hidden)[0]
    # With a sum behind it, because some functions give the same small value whatever their number.
    script = f"{function.source}\n\nprint({expression}, sum(range({p['m']})))\n"
    goal = Goal(p["target"], f"{ast.literal_eval(value)} {sum(range(p['m']))}")
    return plan_of({p["path"]: script}, (goal,), ((Look("run_file", {"path": p["path"]}),),))


def _draw_chain(draw: Draw) -> dict[str, JsonValue]:
    return {**_draw_run(draw), "first": f"{draw.word()}.py"}


def _plan_chain(task: Task) -> CodePlan:
    p: Any = task.parameters
    plan = _plan_run(task)
    middle = len(p["path"]) // 2
    pieces = [p["path"][:middle], p["path"][middle:]]
    first = f'print("".join({json.dumps(pieces)}))\n'
    stages = ((Look("run_file", {"path": p["first"]}),), *plan.stages)
    return replace(plan, before={**plan.before, p["first"]: first}, stages=stages)


def _draw_compute(draw: Draw) -> dict[str, JsonValue]:
    return {"top": draw.number(1000, 9999), "n": draw.number(3, 99), "target": f"{draw.word()}.txt", **common(draw)}


def _plan_compute(task: Task, *, code: str, value: Callable[[int, int], int]) -> CodePlan:
    p: Any = task.parameters
    goal = Goal(p["target"], str(value(p["top"], p["n"])))
    return plan_of({}, (goal,), ((Look("run_python", {"code": code.format(**p)}),),))


RUN = CodeFamily(
    name="run",
    tier=2,
    tools=RUNNING,
    draw=_draw_run,
    english=(
        'Run "{path}" and write what it prints into "{target}".',
        'What does "{path}" print? Write it into "{target}".',
    ),
    korean='"{path}"를 실행하고 출력을 "{target}"에 쓰세요.',
    facts=("path", "target"),
    faults=(*RUN_FAULTS, *WRITE_FAULTS),
    plan=_plan_run,
)


COMPUTE = CodeFamily(
    name="compute",
    tier=2,
    tools=("run_python", "write_file", "read_file", "list_files", *REPAIRS),
    draw=_draw_compute,
    english=(
        'Use Python to add up all numbers from 1 to {top} that can be divided by {n}. Write the sum into "{target}".',
        'Write into "{target}" the sum of the multiples of {n} among 1 to {top}. Let Python work it out.',
    ),
    korean='1부터 {top}까지 {n}의 배수의 합을 파이썬으로 구해 "{target}"에 쓰세요.',
    facts=("target",),
    faults=(
        *(Fault(kind, "run_python", 0) for kind in ("queue_full", "crashed", "out_of_memory", "timed_out")),
        *WRITE_FAULTS,
    ),
    plan=partial(
        _plan_compute,
        code="print(sum(range(0, {top} + 1, {n})))",
        value=lambda top, n: sum(range(0, top + 1, n)),
    ),
)


CHAIN = CodeFamily(
    name="chain",
    tier=3,
    tools=RUNNING,
    draw=_draw_chain,
    english=(
        '"{first}" prints the name of another file. Run both, and write what the second prints into "{target}".',
        'Run "{first}", then run the file that it names. The output of that one belongs into "{target}".',
    ),
    korean='"{first}"를 실행하면 다른 파일의 이름이 나옵니다. 그 파일을 실행하고 출력을 "{target}"에 쓰세요.',
    facts=("first", "path", "target"),
    faults=WRITE_FAULTS + tuple(Fault(fault.kind, "run_file", 1) for fault in RUN_FAULTS),
    plan=_plan_chain,
)


COMPUTE_DIGITS = CodeFamily(
    name="compute-digits",
    tier=2,
    tools=("run_python", "write_file", "read_file", "list_files", *REPAIRS),
    draw=_draw_compute,
    english=(
        "How many numbers from 1 to {top} have {n} in their decimal digits? Let Python count, "
        'and write it into "{target}".',
    ),
    korean='1부터 {top}까지의 수 중 십진수 표기에 {n}이(가) 들어 있는 수의 개수를 파이썬으로 세어 "{target}"에 쓰세요.',
    facts=("target",),
    faults=(Fault("queue_full", "run_python", 0), Fault("out_of_memory", "run_python", 0), *WRITE_FAULTS),
    plan=partial(
        _plan_compute,
        code='print(sum("{n}" in str(x) for x in range(1, {top} + 1)))',
        value=lambda top, n: sum(str(n) in str(x) for x in range(1, top + 1)),
    ),
    held_out=True,
)
