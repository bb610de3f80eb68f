"""Code to write and to change."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import JsonValue

from benchmark.worlds.code.families.family import (
    EDIT_FAULTS,
    EDITING,
    FIXING,
    READING,
    REPAIRS,
    TEST_FAULTS,
    WRITE_FAULTS,
    CodeFamily,
    CodePlan,
    bare,
    common,
    draw_change,
    draw_module,
    draw_one,
    plan_of,
    reads,
)
from benchmark.worlds.code.functions import Function
from benchmark.worlds.code.goals import Goal
from benchmark.worlds.code.written_tests import UnderTest
from benchmark.worlds.family import CONTEXT_TOKENS
from benchmark.worlds.pools import Draw, filler
from benchmark.worlds.world import Fault, Task


def _does(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    function = Function.of(p["f"], p["n"])
    return {"does": function.does(language), "argument": function.argument}


def _plan_create(task: Task) -> CodePlan:
    p: Any = task.parameters
    function, other = Function.of(p["f"], p["n"]), Function.of(p["g"], p["m"])
    goal = Goal(p["path"], function.source, function.calls)
    return plan_of({f"{p['junk']}.py": other.source}, (goal,))


def _plan_from_tests(task: Task) -> CodePlan:
    p: Any = task.parameters
    function = Function.of(p["f"], p["n"])
    path = f"test_{p['path']}"
    tests = f'"""{p["f"]}({function.argument}) returns {function.does("en")}."""\n\n{function.tests(p["module"])}'
    return plan_of({path: tests}, (Goal(p["path"], function.source, function.calls),), (reads(path),), confirms=True)


def _does_new(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    return {"does": Function.of(p["f"], p["n"]).with_number(p["new_n"]).does(language)}


def _plan_change(task: Task) -> CodePlan:
    p: Any = task.parameters
    function, other = Function.of(p["f"], p["n"]), Function.of(p["g"], p["m"])
    changed = function.with_number(p["new_n"])
    # Described by the number's place alone, so that one edit is enough.
    before, after = (f"{bare(each)}\n\n{other.source}" for each in (function, changed))
    goal = Goal(p["path"], after, (*changed.calls, *other.calls))
    return plan_of({p["path"]: before}, (goal,), (reads(p["path"]),))


def _draw_rename(draw: Draw) -> dict[str, JsonValue]:
    users: list[JsonValue] = [{"path": f"{draw.word()}.py", "name": draw.word()} for _ in range(2)]
    return {**draw_module(draw), "new": draw.word(), "users": users, **common(draw)}


def _plan_rename(task: Task) -> CodePlan:
    p: Any = task.parameters
    function = Function.of(p["f"], p["n"])
    renamed = Function(p["new"], p["n"], function.kernel)
    gone = (f"'{p['f']}' in globals()", "False")
    before = {p["path"]: function.source}
    goals = [Goal(p["path"], renamed.source, (*renamed.calls, gone))]
    for place, user in enumerate(p["users"]):
        expression, value = renamed.calls[place % len(renamed.calls)]
        new = f"import {p['module']}\n\n\ndef {user['name']}():\n    return {_qualified(expression, p['module'], p['new'])}\n"
        before[user["path"]] = new.replace(f".{p['new']}(", f".{p['f']}(")
        # It works at the start too, so what counts is that it works once the new name is there.
        call = f"({p['module']}.{p['new']}, {user['name']}())[1]"
        # A caller that holds the value instead of calling does not follow a module that gives another one.
        other, other_value = renamed.other_for(expression)
        goals.append(
            Goal(user["path"], new, ((call, value),), calls_with=((p["path"], other, ((call, other_value),)),))
        )
    return plan_of(before, goals, (reads(*before),), at_once=True)


def _qualified(expression: str, module: str, name: str) -> str:
    return re.sub(rf"\b{name}\(", f"{module}.{name}(", expression)


def _users(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    return {"first": p["users"][0]["path"], "second": p["users"][1]["path"]}


def _plan_log(task: Task) -> CodePlan:
    p: Any = task.parameters
    function, other = Function.of(p["f"], p["n"]), Function.of(p["g"], p["m"])
    before, after = (f"{bare(each)}\n\n{other.source}" for each in (function, function.with_number(p["new_n"])))
    log = f"{p['f'].upper()} must be {p['new_n']}\n{filler(task.id, task.split, task.context_tokens)}\n"
    goal = Goal(p["path"], after, (*function.with_number(p["new_n"]).calls, *other.calls))
    return plan_of({p["path"]: before, p["log"]: log}, (goal,), (reads(p["path"]), reads(p["log"])))


def _draw_log(draw: Draw) -> dict[str, JsonValue]:
    return {**draw_change(draw), "log": f"{draw.word()}.txt"}


def _plan_write_test(task: Task) -> CodePlan:
    p: Any = task.parameters
    function = Function.of(p["f"], p["n"])
    under_test = UnderTest(p["path"], p["f"], function.argument, function.source, function.with_bug("boundary"))
    goal = Goal(f"test_{p['path']}", function.tests(p["module"]), under_test=under_test)
    return plan_of({p["path"]: function.source}, (goal,), (reads(p["path"]),))


CREATE = CodeFamily(
    name="create",
    tier=1,
    tools=("write_file", "read_file", "run_python", "search_text", "make_writable", "delete_file"),
    draw=draw_one,
    english=(
        'Write "{path}" with a function {f}({argument}) that returns {does}.',
        'Make a module "{path}". Its function {f}({argument}) returns {does}.',
    ),
    korean='"{path}"에 {f}({argument}) 함수를 작성하세요. 반환값: {does}.',
    facts=("path",),
    faults=(*WRITE_FAULTS, Fault("permission_denied", "write_file", 0)),
    phrases=_does,
    plan=_plan_create,
)


CHANGE = CodeFamily(
    name="change",
    tier=2,
    tools=EDITING,
    draw=draw_change,
    english=(
        'Change "{path}" so that {f} returns {does}.',
        'From now on {f} in "{path}" has to return {does}. Change nothing else.',
    ),
    korean='"{path}"의 {f}이(가) 다음을 반환하도록 바꾸세요: {does}.',
    facts=("path",),
    faults=(*EDIT_FAULTS, Fault("malformed", "read_file", 0)),
    phrases=_does_new,
    plan=_plan_change,
)


FROM_TESTS = CodeFamily(
    name="from-tests",
    tier=3,
    tools=FIXING,
    draw=draw_one,
    english=(
        'Write the module "{path}" that "test_{path}" asks for, and let the tests pass.',
        '"test_{path}" tests a module that is missing. Write "{path}" and run the tests.',
    ),
    korean='"test_{path}"가 요구하는 모듈 "{path}"를 작성하고 테스트를 통과시키세요.',
    facts=("path",),
    faults=(*WRITE_FAULTS, *TEST_FAULTS, Fault("malformed", "read_file", 0)),
    plan=_plan_from_tests,
)


LOG = CodeFamily(
    name="log",
    tier=3,
    tools=READING,
    draw=_draw_log,
    english=(
        'The first line of "{log}" says what a constant in "{path}" must be. Read the log and set it.',
        'A constant in "{path}" is wrong; "{log}" begins with the right value. Read it and change the constant.',
    ),
    korean='"{log}"의 첫 줄에 "{path}"의 상수가 가져야 할 값이 있습니다. 읽고 바꾸세요.',
    facts=("path", "log", "new_n"),
    faults=(*EDIT_FAULTS, Fault("not_found", "read_file", 1)),
    context_tokens=CONTEXT_TOKENS,
    plan=_plan_log,
)


RENAME = CodeFamily(
    name="rename",
    tier=6,
    tools=("read_file", "edit_file", "write_file", "search_text", "install_package", *REPAIRS),
    draw=_draw_rename,
    english=(
        'Rename the function {f} of "{path}" to {new}, also where "{first}" and "{second}" call it.',
        '{f} in "{path}" shall be called {new}. Change its callers "{first}" and "{second}" too.',
    ),
    korean='"{path}"의 함수 {f}의 이름을 {new}(으)로 바꾸고, "{first}"와 "{second}"에서도 바꾸세요.',
    facts=("path",),
    faults=EDIT_FAULTS,
    phrases=_users,
    plan=_plan_rename,
)


WRITE_TEST = CodeFamily(
    name="write-test",
    tier=2,
    tools=("read_file", "write_file", "run_tests", "list_files", *REPAIRS),
    draw=draw_one,
    english=(
        'Write "test_{path}" with tests (functions test_..., plain asserts) for {f} of "{path}". '
        "They must pass, and one must fail with a {f} that is wrong at the edge only.",
    ),
    korean='"{path}"의 {f}에 대한 테스트 "test_{path}"를 작성하세요(test_... 함수, assert). '
    "지금은 통과하고, 경계값이 틀리면 실패해야 합니다.",
    facts=("path",),
    faults=(*WRITE_FAULTS, Fault("malformed", "read_file", 0)),
    plan=_plan_write_test,
    held_out=True,
)
