"""The code world: bugs that tests catch, verdicts that cannot be cheated, every fault overcome, the same record each time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.agent.episodes import FROZEN_START, run_tasks
from benchmark.agent.policies import Expert
from benchmark.kpis import kpis
from benchmark.worlds.code import world as code_world
from benchmark.worlds.code.families import FAMILIES
from benchmark.worlds.code.functions import KERNELS, Function, filled, value_of
from benchmark.worlds.code.world import CODE, CodeWorld
from benchmark.worlds.code.written_tests import UnderTest, are_good_tests
from benchmark.worlds.pools import split_of
from benchmark.worlds.sandbox.sandbox import check_isolation
from benchmark.worlds.world import Task
from core.errors import UserError
from data.records import Outcome
from data.trajectories import trajectory_to_chat
from support.written_tests import CHEATING, HONEST

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _isolation() -> None:
    try:
        check_isolation()
    except UserError as error:
        pytest.skip(f"nothing can be isolated here: {error}")


def task_of(family: str, split: Any = "train", seed: int = 3, **changes: Any) -> Task:
    """The first task of a family, in English and without faults."""
    found = (task for task in CODE.tasks(split, 120, seed) if (task.family, task.language) == (family, "en"))
    return replace(next(found), **{"faults": (), **changes})


def record_of(task: Task, policy: Any = None) -> Any:
    [record] = run_tasks(policy or Expert(), [task], label="x", max_steps=40, start=FROZEN_START)
    return record


# Families.


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.source.split("\n", 2)[1].strip()[:20])
def test_every_bug_is_caught_by_the_tests_of_its_task(kernel: Any) -> None:
    assert set(kernel.bugs) == {"syntax", "name", "operator", "boundary", "type"}
    for n in range(3, 100):
        source = filled(kernel.source, "f", n)
        seen, hidden = ([filled(each, "f", n) for each in calls] for calls in (kernel.seen, kernel.hidden))
        right = [value_of(source, each) for each in seen + hidden]
        assert len(set(right)) > 1
        for kind, (good, bad) in kernel.bugs.items():
            assert kernel.source.count(good) == 1 or kind == "name" or kernel.source.index(good) >= 0
            wrong = filled(kernel.source.replace(good, bad, 1), "f", n)
            values = [value_or_none(wrong, each) for each in seen]
            assert values != right[: len(seen)], (kind, n)


def value_or_none(source: str, expression: str) -> str | None:
    try:
        return value_of(source, expression)
    except Exception:
        return None


def test_train_lacks_the_families_that_are_held_out() -> None:
    families = {split: {task.family for task in CODE.tasks(split, 400, 1)} for split in ("train", "test")}  # type: ignore[arg-type]
    assert families["test"] - families["train"] == {"fix-type", "compute-digits", "write-test"}
    assert families["train"] < families["test"] and len(families["train"]) >= 12
    assert {family.tier for family in FAMILIES} == {1, 2, 3, 4, 5, 6, 12}
    for family in FAMILIES:
        offered = set(family.tools)
        kinds = {fault.kind for fault in family.faults}
        assert {fault.tool for fault in family.faults} <= offered, family.name
        needed = {
            "permission_denied": "make_writable",
            "disk_full": "delete_file",
            "stale": "read_file",
            "queue_full": "wait",
            "crashed": "restart_runner",
        }
        assert {needed[kind] for kind in kinds & set(needed)} <= offered, family.name


def test_hidden_values_and_right_code_are_not_told() -> None:
    """What decides stands in no file of the project and in no instruction; it depends on numbers of the task."""
    for task in CODE.tasks("test", 90, 4):
        world = CodeWorld(task)
        told = task.instruction + "".join(content.decode() for content in world.before.values())
        assert not any(goal.text in told for goal in world.goals if goal.calls or len(goal.text) > 4)
        assert all(split_of(leaf) == "test" for leaf in task.parameters.values() if isinstance(leaf, int))


def test_the_expert_calls_side_by_side_what_is_independent() -> None:
    record = record_of(task_of("five-modules"))
    assert record.outcome is Outcome.SUCCESS
    turns = [action.turn for action in record.action_sequence]
    assert [action.command for action in record.action_sequence] == [
        "run_tests", *["read_file"] * 5, *["edit_file"] * 5, "run_tests",
    ]  # fmt: skip
    assert turns == [None, *[2] * 5, *[3] * 5, None]
    chat: Any = trajectory_to_chat(record)
    assert [len(message.tool_calls) for message in chat.messages if message.role == "assistant"] == [1, 5, 5, 1, 0]


@pytest.mark.parametrize("size", [512, 4096, 32768])
def test_a_fact_is_used_as_far_back_as_the_tier_says(size: int) -> None:
    task = task_of("log", context_tokens=size)
    record = record_of(replace(task, facts={"new_n": task.facts["new_n"]}))
    assert record.outcome is Outcome.SUCCESS
    assert record.metadata.model_extra["task"]["context_tokens"] == size
    assert 0.98 * size < kpis([record])["retention_tokens"].value < 1.02 * size + 100


# Faults.

FAULTS = [
    ("change", "stale", "edit_file"),
    ("change", "permission_denied", "edit_file"),
    ("change", "disk_full", "edit_file"),
    ("create", "disk_full", "write_file"),
    ("create", "permission_denied", "write_file"),
    ("run", "not_found", "run_file"),
    ("chain", "not_found", "run_file"),
    ("run", "out_of_memory", "run_file"),
    ("compute", "queue_full", "run_python"),
    ("fix-name", "crashed", "run_tests"),
    ("fix-name", "malformed", "run_tests"),
    ("fix-name", "timed_out", "run_tests"),
    ("log", "not_found", "read_file"),
    ("log", "busy", "read_file"),
    ("five-modules", "stale", "edit_file"),
    ("five-modules", "queue_full", "run_tests"),
    ("rename", "disk_full", "edit_file"),
]


# Verdicts.


def opened(task: Task) -> CodeWorld:
    return CodeWorld(task).__enter__()


def test_repairs_of_any_shape_count() -> None:
    task = task_of("fix-operator")
    world, p = opened(task), task.parameters
    goal = world.goals[0]
    other = f"# written anew\n{goal.text}\n\nUNUSED = 1\n"
    assert world.call("write_file", {"path": goal.path, "text": other}).error is None
    assert world.verdict().outcome is Outcome.SUCCESS
    assert world.call("edit_file", {"path": goal.path, "old": f"def {p['f']}(", "new": "def gone("}).error is None
    assert world.verdict().score == 0
    # A scratch file is nobody's business, even one that could stand in a module's way.
    world.call("write_file", {"path": goal.path, "text": other})
    world.call("write_file", {"path": "scratch.py", "text": "print(1)"})
    assert world.verdict().outcome is Outcome.SUCCESS


def test_what_the_tests_ask_is_not_enough() -> None:
    task = task_of("from-tests")
    world, p = opened(task), task.parameters
    tests = world.files[f"test_{p['path']}"].decode()
    answers = re.findall(r"assert (.+?) == (.+)", tests)
    branches = "".join(
        f"    if values == ({call[len(str(p['f'])) :][1:-1]}):\n        return {value}\n" for call, value in answers
    )
    cheat = f"def {p['f']}(values):\n{branches}"
    assert world.call("write_file", {"path": p["path"], "text": cheat}).error is None
    last = str(world.call("run_tests", {}).output).splitlines()[-1]
    assert world.verdict().score == 0, (cheat, last)


CHEATS = {
    "exit": "import os\nos._exit(0)\n",
    "raise": "raise SystemExit(0)\n",
    "repr": "class Any:\n    def __repr__(self):\n        return 'True'\n    def __eq__(self, other):\n        return True\n"
    "def FUNCTION(*args):\n    return Any()\n",
    "print": "import atexit, json\natexit.register(print, json.dumps(['1'] * 9))\ndef FUNCTION(*args):\n    return 1\n",
    "builtins": "import builtins\nbuiltins.repr = lambda value: '0'\nbuiltins.eval = lambda *a: 0\n"
    "def FUNCTION(*a):\n    return 0\n",
    "loop": "while True:\n    pass\n",
    "noise": "def FUNCTION(*args):\n    print('x' * 100000)\n    return 0\n",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_modules_cannot_cheat(cheat: str) -> None:
    task = task_of("fix-name")
    world = opened(task)
    text = CHEATS[cheat].replace("FUNCTION", str(task.parameters["f"]))
    assert world.call("write_file", {"path": task.parameters["path"], "text": text}).error is None
    assert world.verdict().score == 0


def test_changing_the_tests_is_damage() -> None:
    task = task_of("fix-boundary")
    world, p = opened(task), task.parameters
    path = f"test_{p['path']}"
    world.call("write_file", {"path": path, "text": "def test_all():\n    pass\n"})
    assert "1 passed" in str(world.call("run_tests", {}).output)
    assert world.verdict().score == 0 and f"{path} is changed" in world.verdict().why
    world.call("write_file", {"path": p["path"], "text": world.goals[0].text})
    assert (world.verdict().outcome, world.verdict().score) == (Outcome.PARTIAL, 0.5)
    world.call("delete_file", {"path": path})
    assert world.verdict().score == 0.5


def test_parts_of_many_repairs_are_partial() -> None:
    world = opened(task_of("five-modules"))
    for number, goal in enumerate(world.goals, 1):
        world.call("write_file", {"path": goal.path, "text": goal.text})
        assert world.verdict().score == number / 5


def told_apart(tests: str, kernel: Any = KERNELS[0], n: int = 5) -> bool:
    """Whether tests of `total` in `sums.py` count. Of the first kernel it sums the values greater than 5, wrong: 5 or more."""
    function = Function("total", n, kernel)
    under_test = UnderTest("sums.py", "total", function.argument, function.source, function.with_bug("boundary"))
    return are_good_tests("test_sums.py", tests.encode("utf-8"), under_test)


@pytest.mark.parametrize("style", HONEST)
def test_honest_tests_of_any_style_count(style: str) -> None:
    assert told_apart(HONEST[style])


@pytest.mark.parametrize("cheat", CHEATING)
def test_tests_that_do_not_test_count_for_nothing(cheat: str) -> None:
    assert not told_apart(CHEATING[cheat])


@pytest.mark.parametrize("coin", ["os.urandom(1)[0]", "time.time_ns() // 1_000_000", "threading.get_native_id()"])
def test_tests_that_guess_seldom_count(coin: str) -> None:
    text = "import os, threading, time\nfrom sums import total\ndef test_{}():\n    total([5])\n    assert {} % 2\n"
    assert sum(told_apart(text.format(number, coin)) for number in range(6)) < 3  # one try in 256 does


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.source.split("\n", 2)[1].strip()[:20])
def test_the_tests_that_an_expert_writes_count_for_every_function(kernel: Any) -> None:
    for n in (3, 41, 99):
        function = Function("total", n, kernel)
        assert told_apart(function.tests("sums"), kernel, n)
        right = function.values((*kernel.seen, *kernel.hidden))
        checks = "".join(f"    assert {call} == {value}\n" for call, value in right)
        assert told_apart(f"from sums import total\ndef test_all():\n{checks}", kernel, n)
        assert not told_apart(f"from sums import total\ndef test_all():\n{checks.replace('==', '!=')}", kernel, n)


def test_written_tests_decide_the_task() -> None:
    task = task_of("write-test", "test")
    world, p = opened(task), task.parameters
    path = f"test_{p['path']}"
    right = world.goals[0].text
    for text, score in (
        (f"{right}\n\ndef test_more():\n    assert True\n", 1),
        (right.replace("assert", "return"), 0),
        (f"print('9 passed, 0 failed')\nimport os\nos._exit(0)\n{right}", 0),
        (right, 1),
    ):
        world.call("write_file", {"path": path, "text": text})
        assert world.verdict().score == score
    # Whatever else lies in the project, the tests are run with the module alone.
    world.call("write_file", {"path": "conftest.py", "text": "1 / 0"})
    assert world.verdict().score == 1
    assert str(world.call("run_tests", {}).output).endswith(" passed, 0 failed")


def test_the_tool_runs_the_same_tests_as_the_verdict() -> None:
    world = opened(task_of("from-tests"))
    for name in list(world.files):
        world.call("delete_file", {"path": name})
    world.call("write_file", {"path": "sums.py", "text": Function("total", 5, KERNELS[0]).source})
    for text in HONEST.values():
        world.call("write_file", {"path": "test_sums.py", "text": text})
        assert re.search(r"(?m)^[1-9]\d* passed, 0 failed$", str(world.call("run_tests", {}).output)), text
    world.call(
        "write_file", {"path": "test_sums.py", "text": "import sums\ndef test_it():\n    assert sums.total([6]) == 5\n"}
    )
    assert world.call("run_tests", {}).output == (
        'FAILED test_sums.py test_it\nTraceback (most recent call last):\n  File "test_sums.py", line 3, in test_it\n'
        "    assert sums.total([6]) == 5\nAssertionError\n0 passed, 1 failed"
    )


def test_a_caller_that_holds_the_value_is_not_renamed() -> None:
    for seed in range(8):
        task = task_of("rename", seed=seed)
        world, p = opened(task), task.parameters
        for goal in world.goals:
            world.call("write_file", {"path": goal.path, "text": goal.text})
        for user, goal in zip(p["users"], world.goals[1:], strict=True):
            value = goal.calls[0][1]
            world.call("write_file", {"path": user["path"], "text": f"def {user['name']}():\n    return {value}\n"})
            assert world.verdict().score == pytest.approx(2 / 3)
            other = f"from {p['module']} import {p['new']} as f\n{goal.text}"
            world.call("write_file", {"path": user["path"], "text": other})
            assert world.verdict().score == 1


# Calls.


def test_what_code_writes_is_in_the_project() -> None:
    world = opened(task_of("compute"))
    assert world.call("run_python", {"code": "open('a.txt', 'w').write('값')\nprint('written')"}).output == "written"
    assert world.call("read_file", {"path": "a.txt"}).output == "값"
    failed = world.call("run_python", {"code": "open('b.txt', 'w').write('x')\n1 / 0"})
    assert failed.error is not None and failed.error.startswith("exit code 1\nTraceback")
    assert "b.txt" in str(world.call("list_files", {}).output)
    linked = world.call("run_python", {"code": "import os\nos.symlink('/etc', 'c')"})
    assert linked.output == "(not kept, no plain files or too large: c)"
    long = str(world.call("run_python", {"code": "print('x' * 20000)"}).output)
    assert len(long) < 4100 and "16001 characters left out" in long.replace("16000", "16001")
    endless = world.call("run_python", {"code": "while True:\n    pass"})
    assert endless.error == "ended after 5 seconds, nothing was kept" and endless.seconds == 5
    noisy = world.call("run_python", {"code": "open('c.txt', 'w')\nwhile True:\n    print('noise')"})
    assert str(noisy.error).startswith("ended because of too much output, no file was kept\nnoise")
    assert "c.txt" not in world.files
    assert world.call("run_python", {"code": "print('😀', '\\ud800')"}).error is not None


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", ".", "x" * 300, "a/" * 700 + "b"])
def test_no_path_leads_out(path: str) -> None:
    world = opened(task_of("fix-name"))
    before = dict(world.files)
    for call, arguments in (("read_file", {}), ("write_file", {"text": "x"}), ("edit_file", {"old": "a", "new": "b"})):
        assert world.call(call, {"path": path, **arguments}).error is not None
    assert world.files == before


def test_files_and_folders_do_not_get_mixed_up() -> None:
    world = opened(task_of("fix-name"))
    assert world.call("write_file", {"path": "a/b.txt", "text": "x"}).error is None
    assert "folder" in str(world.call("write_file", {"path": "a", "text": "x"}).error)
    assert "folder is needed" in str(world.call("write_file", {"path": "a/b.txt/c", "text": "x"}).error)
    assert "0 times" in str(world.call("edit_file", {"path": "a/b.txt", "old": "", "new": "y"}).error)
    assert "too large" in str(world.call("write_file", {"path": "big", "text": "x" * (2 << 20)}).error)
    assert world.call("run_python", {"code": "print(open('a/b.txt').read())"}).output == "x"


def test_what_a_box_cannot_hold_is_refused_before() -> None:
    """Folders count, too; a project that is too large for a box would end the whole benchmark."""
    world = opened(task_of("compute"))
    assert world.call("write_file", {"path": "a/" * 300 + "b", "text": "x"}).error is None
    assert "too large" in str(world.call("write_file", {"path": "b/" * 300 + "b", "text": "x"}).error)
    assert world.call("run_python", {"code": "print(1)"}).output == "1"
    many = world.call("run_python", {"code": "for x in range(150):\n    open(f'{x}', 'w')"})
    assert many.error == "more than 400 files and folders were left, nothing was kept"
    assert len(world.files) == 1


# Policies and records.


def test_records_are_the_same_in_every_process_and_tell_nothing_of_the_machine() -> None:
    script = (
        "from benchmark.agent.episodes import FROZEN_START, run_tasks\nfrom benchmark.agent.policies import Expert\n"
        "from benchmark.worlds.code.world import CODE\n"
        "for record in run_tasks(Expert(mistakes=0.5, seed=1), CODE.tasks('train', 30, 6), label='x', max_steps=40, "
        "start=FROZEN_START):\n    print(record.to_json())"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "TMPDIR": folder},
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed, folder in (("1", "/tmp"), ("2", "/var/tmp"))
    }
    [text] = texts
    assert not re.search(r"/box|/tmp|/var|/root|/home|/python|0x[0-9a-f]{6}|jail", text)
    outcomes = [json.loads(line)["outcome"] for line in text.splitlines()]
    assert outcomes == ["success"] * 30


def test_tasks_need_no_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are data; only opening them runs anything."""

    def refuse() -> None:
        raise UserError("no isolation")

    monkeypatch.setattr(code_world, "check_isolation", refuse)
    [task] = CODE.tasks("train", 1, 1)
    with pytest.raises(UserError, match="no isolation"), CODE.open(task):
        pass


@pytest.mark.parametrize(
    "change", [{"f": "x():\n    import os\ndef y"}, {"n": "__import__('os').getpid()"}, {"f": "F"}]
)
def test_parameters_that_are_no_names_and_numbers_are_not_run(change: dict[str, Any]) -> None:
    task = task_of("fix-name")
    with pytest.raises(ValueError, match="small letters"):
        CODE.open(replace(task, parameters={**task.parameters, **change}))
