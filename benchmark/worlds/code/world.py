"""Code: a small Python project in a box, to be written, run and repaired.

Files are data of the world, `{path: bytes}`; code runs in `sandbox.run_python` on a copy of them, and what it leaves replaces
them. So no tool ever touches a folder of the machine, and outputs hold no path of it.

Faults, each striking a call that was right:

* `busy`: nothing was done. Way out: the same call again. So with `timed_out`, `out_of_memory` (runs) and `malformed` (runs
  and reading: the output is cut off).
* `queue_full`: runs are refused until a time is over. Way out: `wait`, then again.
* `crashed`: the runner is down. Way out: `restart_runner`, then again.
* `permission_denied`: the file has become read-only. Way out: `make_writable`, then again.
* `disk_full`: nothing can be written until a file that the error names is deleted. Way out: `delete_file`, then again.
* `stale`: somebody has added a line to the file since it was read. Way out: `read_file`, then again.
* `not_found`: somebody has moved the file; the error names the new place. Way out: use the new path.

The verdict: goals are texts (compared without white space at the end), modules (calls that the model never sees give the right
values) and tests (they pass with the right module and fail with a wrong one). The right values never enter the box; they
are worked out outside of it. Nor does a module that is tested: it answers calls from a box of its own, where they are
counted, so tests can tell a right one from a wrong one by what it does and by nothing else. A file of the project that differs
and is no goal is damage; files that were not there at the start are nobody's business. The score is goals held / (goals +
damages).
"""

from __future__ import annotations

import ast
import json
import re
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal

from pydantic import JsonValue

from benchmark.worlds.code.written_tests import RUN_TESTS, UnderTest, are_good_tests
from benchmark.worlds.family import CONTEXT_TOKENS, Family, families_to_tasks
from benchmark.worlds.pools import Draw, filler
from benchmark.worlds.sandbox.sandbox import SECONDS, Run, check_isolation, run_python
from benchmark.worlds.tools import (
    DONE,
    GIVEN_UP,
    Commit,
    ToolError,
    ToolWorld,
    failed_in_a_row,
    first_open_group,
    function_to_spec,
    score_to_verdict,
)
from benchmark.worlds.world import Fault, Move, Split, Task, Verdict
from data.records import Action, Category

category: Category = Category.CODE_EXECUTION
version: str = "2"

RUN_SECONDS = 1.0
"""Of the virtual clock, for a run that ends; one that does not takes all of `sandbox.SECONDS`."""
_OUTPUT_CHARACTERS = 4000
_MAX_BYTES = 1 << 20
_MAX_ENTRIES = 400
"""Files and folders of a project; a box holds a few more, for those that faults and the verdict add."""
_NOW_AT = re.compile(r"not found: (.+), it is now (.+)")
_READ_ONLY = re.compile(r"permission denied: (.+) is read-only")
_FULL = re.compile(r"no space left, delete (.+)")
_QUEUE = re.compile(r"the queue is full, wait (\d+) seconds")

_CALL_ALL = """\
import json
values = []
for path, expression in json.loads({calls!r}):
    try:
        values.append(repr(eval(expression, vars(__import__(path.removesuffix(".py"))))))
    except BaseException as error:
        values.append(None)
print()
print(json.dumps(values))
"""

Files = tuple[tuple[str, bytes], ...]


@lru_cache(maxsize=512)
def _run(files: Files, code: str | None, path: str) -> Run:
    """Runs are asked for again and again with the same files: by the twin of a world, by advice, by the verdict."""
    return run_python(dict(files), code=code, path=path)


def values_of_calls(files: Files, calls: Sequence[tuple[str, str]]) -> list[str | None]:
    """`repr` of each expression, evaluated in the box within the module at its path; None for one that raises."""
    run = _run(files, _CALL_ALL.format(calls=json.dumps(calls)), "<calls>")
    try:
        values = json.loads(run.output.rstrip("\n").rsplit("\n", 1)[-1])
    except ValueError:
        values = None
    is_whole = isinstance(values, list) and len(values) == len(calls)
    return values if is_whole else [None] * len(calls)


class CodeWorld(ToolWorld):
    """One task's project. Nothing is on disk; entering makes sure that code can be isolated here."""

    TOLD: ClassVar = {
        "busy": "the project is busy, try again",
        "timed_out": "timed out before it began, try again",
        "out_of_memory": "out of memory before it began, try again",
    }

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._family = _FAMILY_OF[task.family]
        plan = self._family.plan(task)
        self.goals = plan.goals
        self.looks = plan.looks
        self.before = {path: text.encode("utf-8") for path, text in plan.before.items()}
        """The files at the start, with the changes that faults make."""
        self.files = dict(self.before)
        self.is_crashed = False
        self._free_at_s = 0.0
        self._read_only: set[str] = set()
        self._stale: set[str] = set()
        self._in_the_way: str | None = None
        self._now_at: dict[str, str] = {}

    def __enter__(self) -> CodeWorld:
        check_isolation()
        return self

    def __exit__(self, *exc: object) -> None:
        self.files.clear()

    # What the model can call. A docstring's first line is the description that the model reads.

    def list_files(self) -> Commit:
        """List the files of the project."""
        return lambda: "\n".join(sorted(self.files)) or "no files"

    def read_file(self, path: str) -> Commit:
        """Read a file."""
        name = self._file(path)

        def commit() -> JsonValue:
            self._stale.discard(name)
            return self.files[name].decode("utf-8", "replace")

        return commit

    def write_file(self, path: str, text: str) -> Commit:
        """Write a whole file."""
        name = self._place(path)
        self._check_writable(name)
        return lambda: self._put(name, text.encode("utf-8"))

    def edit_file(self, path: str, old: str, new: str) -> Commit:
        """Replace a text that stands once in a file."""
        name = self._file(path)
        self._check_writable(name)
        if name in self._stale:
            raise ToolError(f"{path} was changed after it was read, read it again")
        content = self.files[name].decode("utf-8", "surrogateescape")
        if not old or content.count(old) != 1:
            raise ToolError(f"the old text stands {content.count(old) if old else 0} times in {path}, not once")
        edited = content.replace(old, new).encode("utf-8", "surrogateescape")
        return lambda: self._put(name, edited)

    def delete_file(self, path: str) -> Commit:
        """Delete a file."""
        name = self._file(path)

        def commit() -> JsonValue:
            del self.files[name]
            if name == self._in_the_way:
                self._in_the_way = None
            return "ok"

        return commit

    def search_text(self, text: str) -> Commit:
        """Find files that contain a text."""
        if not text:
            raise ToolError("argument 'text' is empty")

        def commit() -> JsonValue:
            hits = [name for name, content in sorted(self.files.items()) if text.encode("utf-8") in content]
            return "\n".join(hits) or "no file contains it"

        return commit

    def run_python(self, code: str) -> Commit:
        """Run Python code in the project and return what it prints."""
        self._check_runner()
        return lambda: self._finish(_run(self._snapshot(), code, "<code>"))

    def run_file(self, path: str) -> Commit:
        """Run a Python file and return what it prints."""
        name = self._file(path)
        self._check_runner()
        return lambda: self._finish(_run(self._snapshot(), None, name))

    def run_tests(self) -> Commit:
        """Run the tests of the project."""
        self._check_runner()
        return lambda: self._finish(_run(self._snapshot(), RUN_TESTS, "<tests>"))

    def make_writable(self, path: str) -> Commit:
        """Make a read-only file writable."""
        name = self._place(path)
        if name not in self.files and name not in self._read_only:
            raise self._not_found(path)

        def commit() -> JsonValue:
            self._read_only.discard(name)
            return "ok"

        return commit

    def restart_runner(self) -> Commit:
        """Start what runs code anew; files stay."""

        def commit() -> JsonValue:
            self.is_crashed = False
            return "ok"

        return commit

    def install_package(self, name: str) -> Commit:
        """Install a Python package."""
        raise ToolError(f"cannot install {name[:40]!r}: there is no network")

    # What the tools are made of.

    def _place(self, path: str) -> str:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts:
            raise ToolError(f"outside the project: {path[:100]}")
        name = str(pure)
        if name == "." or any(other.startswith(name + "/") for other in self.files):
            raise ToolError(f"is a folder: {path[:100]}")
        if any(str(parent) in self.files for parent in pure.parents):
            raise ToolError(f"a file stands where a folder is needed: {path[:100]}")
        if max(len(part.encode("utf-8")) for part in pure.parts) > 255 or len(name.encode("utf-8")) > 1024:
            raise ToolError("the path is too long")
        return name

    def _file(self, path: str) -> str:
        name = self._place(path)
        if name not in self.files:
            raise self._not_found(path)
        return name

    def _not_found(self, path: str) -> ToolError:
        now_at = self._now_at.get(str(PurePosixPath(path)))
        return ToolError(f"not found: {path[:100]}" + (f", it is now {now_at}" if now_at else ""))

    def _check_writable(self, name: str) -> None:
        if name in self._read_only:
            raise ToolError(f"permission denied: {name} is read-only")
        if self._in_the_way is not None:
            raise ToolError(f"no space left, delete {self._in_the_way}")

    def _check_runner(self) -> None:
        if self.is_crashed:
            raise ToolError("the runner has crashed, restart it")
        if self.is_queue_full:
            raise ToolError(f"the queue is full, wait {round(self._free_at_s - self.clock_s)} seconds")

    @property
    def is_queue_full(self) -> bool:
        """True while runs are refused."""
        return self.clock_s < self._free_at_s

    def _put(self, name: str, content: bytes) -> JsonValue:
        if sum(map(len, self.files.values())) + len(content) > _MAX_BYTES or _entries(*self.files, name) > _MAX_ENTRIES:
            raise ToolError("the project would become too large")
        self.files[name] = content
        return "ok"

    def _snapshot(self) -> Files:
        return tuple(sorted(self.files.items()))

    def _finish(self, run: Run) -> JsonValue:
        self.clock_s += SECONDS if run.ended == "time" else RUN_SECONDS
        is_small = _entries(*run.files) <= _MAX_ENTRIES
        if run.ended is None and is_small:
            self.files = dict(run.files)
        text = (run.output + run.errors).rstrip()
        if len(text) > _OUTPUT_CHARACTERS:
            half = _OUTPUT_CHARACTERS // 2
            text = f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
        if run.left_out:
            text = f"{text}\n(not kept, no plain files or too large: {', '.join(run.left_out[:5])})".lstrip()
        if run.ended == "time":
            # How far it came differs from run to run, so neither what it printed nor what it wrote is kept.
            raise ToolError(f"ended after {SECONDS} seconds, nothing was kept")
        if run.ended == "memory":
            raise ToolError("ended because memory was short, nothing was kept")
        if run.ended == "output":
            raise ToolError(f"ended because of too much output, no file was kept\n{text[:200]}")
        if not is_small:
            raise ToolError(f"more than {_MAX_ENTRIES} files and folders were left, nothing was kept")
        if run.exit_code:
            raise ToolError(f"exit code {run.exit_code}\n{text}".rstrip())
        return text or "no output"

    def bring_about(self, kind: str, name: str, arguments: dict[str, Any]) -> None:
        """Crash, fill, lock, move or change what the call needs."""
        path = str(PurePosixPath(arguments.get("path", "")))
        p: Any = self.task.parameters
        if kind == "queue_full":
            self._free_at_s = self.clock_s + p["wait_s"]
        elif kind == "crashed":
            self.is_crashed = True
        elif kind == "permission_denied":
            self._read_only.add(path)
        elif kind == "disk_full":
            self._in_the_way = f"{p['junk']}.tmp"
            self.files[self._in_the_way] = b"\0" * 1000
        elif kind == "stale":
            self._stale.add(path)
            self.files[path] += f"# {p['junk']}\n".encode()
        else:
            new = f"{p['junk']}/{path}"
            if new in self.files or path not in self.before:
                return
            self.files[new] = self.files.pop(path)
            self.before[new] = self.before.pop(path)
            self._now_at[path] = new

    def text_at(self, path: str) -> str | None:
        """The text of the file at `path` as it is now, or None where there is none."""
        return self.files[path].decode("utf-8", "replace") if path in self.files else None

    def missing_goals(self) -> list[Goal]:
        """The goals that do not hold now."""
        # The same modules among the same files give the same values; so the expert's way is judged without running it.
        untouched = {path: content for path, content in self.before.items() if path not in self.goal_paths}
        scripts = {path for path in self.files if path.endswith((".py", ".so", ".pyc"))}
        is_plain = scripts <= self.before.keys() | self.goal_paths and all(
            self.files.get(path) == content for path, content in untouched.items()
        )
        open_goals = [goal for goal in self.goals if not (is_plain and self.text_at(goal.path) == goal.text)]
        return [goal for goal in open_goals if not goal.holds(self._snapshot())]

    @property
    def goal_paths(self) -> set[str]:
        """The files that must be new or changed."""
        return {goal.path for goal in self.goals}

    def verdict(self) -> Verdict:
        """Judge the files as they are now; see the module's docstring."""
        missing = [f"{goal.path} is not as asked" for goal in self.missing_goals()]
        allowed = self.goal_paths
        damage = [
            f"{path} is changed{'' if path in self.files else ': it is gone'}"
            for path, content in self.before.items()
            if path not in allowed and self.files.get(path) != content
        ]
        return score_to_verdict(len(self.goals), missing, damage)

    def expert(self, history: Sequence[Action]) -> Move:
        """Remove what is in the way, look, put goals right one by one, and see that the tests pass."""
        known = _history_to_known(history)
        if self.verdict().score == 1:
            passed = history and history[-1].command == "run_tests" and history[-1].error is None
            if not self._family.confirms or passed:
                return Move(None, answer=DONE)
        move = self._repair(known) or self._look(known, history) or self._fix(known)
        if move is None and self._family.confirms:
            move = Move("run_tests")
        if move is None or failed_in_a_row(history, str(move.command), move.input) > 2:
            return Move(None, answer=GIVEN_UP)
        if move.command == "run_tests" and history and history[-1].command == "run_tests" and not history[-1].error:
            return Move(None, answer=GIVEN_UP)  # it has been looked at, and nothing is left to try
        return move

    def _repair(self, known: _Known) -> Move | None:
        names = {tool.function.name for tool in self.task.tools}
        moves: list[Move] = []
        if self.is_crashed and known.crashed:
            moves.append(Move("restart_runner"))
        if self.is_queue_full and known.wait_s is not None:
            moves.append(Move("wait", {"seconds": known.wait_s}))
        if self._in_the_way is not None and known.in_the_way == self._in_the_way:
            moves.append(Move("delete_file", {"path": self._in_the_way}))
        moves += [Move("make_writable", {"path": path}) for path in known.read_only if path in self._read_only]
        moves += [Move("read_file", {"path": path}) for path in sorted(self._stale & known.stale)]
        for path, text in known.texts.items():  # what was read and is no goal goes back to what it was
            home = known.now_at.get(path, path)
            is_fixed = home not in self.goal_paths and self.before.get(home) == text.encode("utf-8")
            if is_fixed and self.text_at(home) != text:
                moves.append(Move("write_file", {"path": home, "text": text}))
        return next((move for move in moves if move.command in names), None)

    def _look(self, known: _Known, history: Sequence[Action]) -> Move | None:
        """What has to be seen before anything can be known: the first group of calls that is not done."""
        groups = [[known.where(move) for move in group] for group in self.looks]
        can_be = [[move for move in group if move.input.get("path") in (None, *self.files)] for group in groups]
        return first_open_group(can_be, history)

    def _fix(self, known: _Known) -> Move | None:
        moves = [self._put_right(goal) for goal in self.missing_goals()]
        if not moves:
            return None
        return Move(moves[0].command, moves[0].input, beside=tuple(moves[1:]) if self._family.is_parallel else ())

    def _put_right(self, goal: Goal) -> Move:
        """An edit of one line where that is enough, with as many lines before it as tell it apart; else the whole text."""
        text = self.text_at(goal.path)
        now, wanted = (text or "").splitlines(), goal.text.splitlines()
        # What somebody has added at the end is kept.
        wrong = [place for place, line in enumerate(wanted) if now[place : place + 1] != [line]]
        can_edit = any(tool.function.name == "edit_file" for tool in self.task.tools)
        if can_edit and text is not None and len(wrong) == 1 and wrong[0] < len(now):
            place = wrong[0]
            for first in range(place, -1, -1):
                old, new = ("\n".join(lines[first : place + 1]) for lines in (now, wanted))
                common = len(old) - len(old.lstrip()) if first == place else 0
                if text.count(old[common:]) == 1 and new[:common].isspace() == bool(common):
                    return Move("edit_file", {"path": goal.path, "old": old[common:], "new": new[common:]})
        return Move("write_file", {"path": goal.path, "text": goal.text})


def _entries(*paths: str) -> int:
    """How many files and folders these make."""
    return len({*paths, *(str(parent) for path in paths for parent in PurePosixPath(path).parents)}) - 1


def open(task: Task) -> CodeWorld:
    """The world of a task."""
    return CodeWorld(task)


@dataclass
class _Known:
    """What a model can know after a history."""

    texts: dict[str, str]
    now_at: dict[str, str]
    read_only: list[str]
    stale: set[str]
    in_the_way: str | None = None
    wait_s: int | None = None
    crashed: bool = False

    def where(self, move: Move) -> Move:
        """The same call of a file that was moved meanwhile."""
        path = move.input.get("path")
        return Move(move.command, {**move.input, "path": self.now_at[path]}) if path in self.now_at else move


def _history_to_known(history: Sequence[Action]) -> _Known:
    known = _Known({}, {}, [], set())
    for action in history:
        given = action.input if isinstance(action.input, dict) else {}
        path = given.get("path")
        if action.error is None:
            if action.command == "read_file":
                known.texts[str(path)] = str(action.output)
            continue
        if told := _NOW_AT.fullmatch(action.error):
            known.now_at[told[1]] = told[2]
        elif told := _READ_ONLY.fullmatch(action.error):
            known.read_only.append(told[1])
        elif told := _FULL.fullmatch(action.error):
            known.in_the_way = told[1]
        elif told := _QUEUE.fullmatch(action.error):
            known.wait_s = int(told[1])
        elif "has crashed" in action.error:
            known.crashed = True
        elif "read it again" in action.error:
            known.stale.add(str(PurePosixPath(str(path))))
    return known


# Goals.


@dataclass(frozen=True)
class Goal:
    """A file that must become right. `text` is one that is; `holds` says whether the files at hand are."""

    path: str
    text: str
    calls: tuple[tuple[str, str], ...] = ()
    """Expressions that must have a value within the module, and its `repr`; none for a file that must hold the text."""
    calls_with: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = ()
    """Further calls, each where another file has another text: its path, that text, and the calls with their values."""
    under_test: UnderTest | None = None
    """For a file of tests: what they must tell apart."""

    def holds(self, files: Files) -> bool:
        """Whether the file is right among these files."""
        content = dict(files)
        if self.path not in content:
            return False
        if self.under_test is not None:
            return are_good_tests(self.path, content[self.path], self.under_test)
        if self.calls:
            return self._gives(files, self.calls) and all(
                self._gives(tuple(sorted({**content, path: text.encode("utf-8")}.items())), calls)
                for path, text, calls in self.calls_with
            )
        return content[self.path].decode("utf-8", "replace").rstrip() == self.text.rstrip()

    def _gives(self, files: Files, calls: tuple[tuple[str, str], ...]) -> bool:
        values = values_of_calls(files, [(self.path, expression) for expression, _ in calls])
        return values == [value for _, value in calls]


# What projects are made of: small functions, each with a number in it, and ways to get them wrong.


@dataclass(frozen=True)
class _Kernel:
    """A function in which `$f` is the name and `$n` the number."""

    source: str
    english: str
    korean: str
    seen: tuple[str, ...]
    """Calls that the project's tests make."""
    hidden: tuple[str, ...]
    """Calls that only the verdict makes."""
    bugs: dict[str, tuple[str, str]]
    """Kind -> (what is right, what stands in its place)."""


_KERNELS = (
    _Kernel(
        source=(
            "def $f(values):\n    total = 0\n    for value in values:\n        if value > $n:\n"
            "            total += value\n    return total\n"
        ),
        english="the sum of those values that are greater than $n",
        korean="값 중 $n보다 큰 것의 합",
        seen=("$f([1, $n, $n + 1])", "$f([])"),
        hidden=("$f([$n - 1, $n, $n + 2, $n * 3])", "$f([$n + 1] * 4)", "$f([-$n, 0])"),
        bugs={
            "syntax": ("for value in values:", "for value in values"),
            "name": ("total += value", "total += valu"),
            "operator": ("value > $n", "value < $n"),
            "boundary": ("value > $n", "value >= $n"),
            "type": ("total = 0", 'total = "0"'),
        },
    ),
    _Kernel(
        source=(
            "def $f(values):\n    count = 0\n    for value in values:\n        if value >= $n:\n"
            "            count += 1\n    return count\n"
        ),
        english="how many of the values are $n or more",
        korean="값 중 $n 이상인 것의 개수",
        seen=("$f([1, $n, $n + 1])", "$f([0])"),
        hidden=("$f([$n - 1, $n, $n + 2, $n * 3])", "$f([$n] * 5)", "$f([])"),
        bugs={
            "syntax": ("if value >= $n:", "if value >= $n"),
            "name": ("return count", "return cout"),
            "operator": ("value >= $n", "value <= $n"),
            "boundary": ("value >= $n", "value > $n"),
            "type": ("count = 0", 'count = ""'),
        },
    ),
    _Kernel(
        source=(
            "def $f(values):\n    result = []\n    for value in values:\n        result.append(min(value, $n))\n"
            "    return result\n"
        ),
        english="a list of the values in which those above $n are $n",
        korean="$n을 넘는 값을 $n(으)로 바꾼 목록",
        seen=("$f([1, $n + 5])", "$f([$n])"),
        hidden=("$f([$n - 1, $n, $n + 1, 0])", "$f([])", "$f([$n * 2, -1])"),
        bugs={
            "syntax": ("result.append(min(value, $n))", "result.append(min(value, $n)"),
            "name": ("min(value, $n)", "min(valu, $n)"),
            "operator": ("min(value, $n)", "max(value, $n)"),
            "boundary": ("min(value, $n)", "min(value, $n - 1)"),
            "type": ("result = []", "result = 0"),
        },
    ),
    _Kernel(
        source="def $f(price):\n    tax = price * $n // 100\n    return price + tax\n",
        english="the price plus $n percent of it, which are rounded down",
        korean="가격에 그 $n퍼센트(내림)를 더한 값",
        seen=("$f(1000)", "$f(250)"),
        hidden=("$f(99)", "$f(12345)", "$f(0)"),
        bugs={
            "syntax": ("price * $n // 100", "price * $n // (100"),
            "name": ("price + tax", "price + taxes"),
            "operator": ("price + tax", "price - tax"),
            "boundary": ("// 100", "// 10"),
            "type": ("price * $n", 'price * "$n"'),
        },
    ),
    _Kernel(
        source=(
            "def $f(limit):\n    numbers = []\n    number = 0\n    while number <= limit:\n"
            "        numbers.append(number)\n        number += $n\n    return numbers\n"
        ),
        english="a list of the multiples of $n from 0 up to the limit, the limit included",
        korean="0부터 limit까지(포함) $n의 배수 목록",
        seen=("$f($n)", "$f($n * 2 + 1)"),
        hidden=("$f($n * 3)", "$f($n * 4 - 1)", "$f(1)"),
        bugs={
            "syntax": ("while number <= limit:", "while number <= limit"),
            "name": ("number += $n", "numbr += $n"),
            "operator": ("number <= limit", "number >= limit"),
            "boundary": ("number <= limit", "number < limit"),
            "type": ("number = 0", 'number = "0"'),
        },
    ),
    _Kernel(
        source='def $f(word):\n    missing = $n - len(word)\n    return word + "." * missing\n',
        english="the word with dots after it, so that it has $n characters",
        korean="뒤에 점을 붙여 $n글자로 만든 단어",
        seen=('$f("a")', '$f("")'),
        hidden=('$f("b")', '$f("." * $n)', '$f("x" * ($n - 1))'),
        bugs={
            "syntax": ('"." * missing', '"." * '),
            "name": ('"." * missing', '"." * mising'),
            "operator": ("$n - len(word)", "$n + len(word)"),
            "boundary": ("$n - len(word)", "$n - len(word) - 1"),
            "type": ('"." * missing', '"." + missing'),
        },
    ),
    _Kernel(
        source=(
            "def $f(values):\n    parts = []\n    for start in range(0, len(values), $n):\n"
            "        parts.append(values[start : start + $n])\n    return parts\n"
        ),
        english="the values as a list of lists, each of $n values but the last, which may have fewer",
        korean="값을 $n개씩 나눈 목록의 목록(마지막은 더 짧을 수 있음)",
        seen=("[len(part) for part in $f([0] * ($n + 1))]",),
        hidden=("[sum(part) for part in $f(list(range($n * 3)))]", "[len(part) for part in $f([0] * ($n - 1))]", "$f([])"),
        bugs={
            "syntax": ("len(values), $n):", "len(values), $n:"),
            "name": ("parts.append", "part.append"),
            "operator": ("start + $n", "start - $n"),
            "boundary": ("start + $n", "start + $n - 1"),
            "type": ("range(0, len(values), $n)", "range(0, values, $n)"),
        },
    ),
    _Kernel(
        source=(
            "def $f(values):\n    if len(values) < $n:\n        return []\n    return values[-$n:]\n"
        ),
        english="the last $n of the values, and an empty list if there are fewer",
        korean="마지막 $n개의 값(더 적으면 빈 목록)",
        seen=("sum($f(list(range($n))))", "len($f([7] * ($n + 4)))"),
        hidden=("sum($f(list(range($n + 9))))", "$f([1])", "len($f([3] * $n))"),
        bugs={
            "syntax": ("if len(values) < $n:", "if len(values) < $n"),
            "name": ("return values[", "return value["),
            "operator": ("len(values) < $n", "len(values) > $n"),
            "boundary": ("len(values) < $n", "len(values) <= $n"),
            "type": ("len(values) < $n", "values < $n"),
        },
    ),
)  # fmt: skip


def _filled(text: str, f: str, n: int) -> str:
    return text.replace("$f", f).replace("$n", str(n))


@dataclass(frozen=True)
class _Function:
    """A drawn function: its name, its number, and what it does."""

    f: str
    n: int
    kernel: _Kernel

    @staticmethod
    def of(f: str, n: int) -> _Function:
        """The function that a name decides: were it a parameter, train and test tasks would share it.

        Raises:
            ValueError: if these are no name and number, which matters because the text is run outside of the box.
        """
        if not (isinstance(f, str) and re.fullmatch("[a-z]+", f)) or type(n) is not int:
            raise ValueError(f"expected a name in small letters and a number, got {f!r} and {n!r}")
        return _Function(f, n, _KERNELS[zlib.crc32(f.encode("utf-8")) % len(_KERNELS)])

    @property
    def source(self) -> str:
        return self.with_docstring(self.kernel.source)

    def with_docstring(self, source: str) -> str:
        head, rest = _filled(source, self.f, self.n).split("\n", 1)
        return f'{head}\n    """Return {self.does("en")}."""\n{rest}'

    def with_bug(self, kind: str) -> str:
        right, wrong = self.kernel.bugs[kind]
        assert right in self.kernel.source, (self.kernel.english, kind)
        return self.with_docstring(self.kernel.source.replace(right, wrong, 1))

    def with_number(self, n: int) -> _Function:
        return _Function(self.f, n, self.kernel)

    def does(self, language: Literal["en", "ko"]) -> str:
        return _filled(self.kernel.korean if language == "ko" else self.kernel.english, self.f, self.n)

    @property
    def argument(self) -> str:
        return self.kernel.source.split("(", 1)[1].split(")", 1)[0]

    def values(self, expressions: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """The expressions, filled, with the `repr` of their values."""
        return tuple((filled, self.value(filled)) for filled in (_filled(each, self.f, self.n) for each in expressions))

    def value(self, expression: str) -> str:
        return _value(_filled(self.kernel.source, self.f, self.n), expression)

    @property
    def calls(self) -> tuple[tuple[str, str], ...]:
        return self.values((*self.kernel.seen, *self.kernel.hidden))

    def other_for(self, expression: str) -> tuple[str, str]:
        """Another function of this name that gives the expression another value: its text and that value."""
        numbers = [_filled(self.kernel.source, self.f, self.n + more) for more in range(1, 10)]
        constants = [f"def {self.f}({self.argument}):\n    return {each}\n" for each in ("[7] * 7", "[[7] * 7]")]
        for source in (*numbers, *constants):
            with suppress(TypeError):
                value = _value(source, expression)
                if value != _value(_filled(self.kernel.source, self.f, self.n), expression):
                    return source, value
        raise AssertionError(expression)

    def tests(self, module: str) -> str:
        lines = [f"from {module} import {self.f}", ""]
        for number, (expression, value) in enumerate(self.values(self.kernel.seen), 1):
            lines += ["", f"def test_{self.f}_{number}():", f"    assert {expression} == {value}", ""]
        return "\n".join(lines)


@lru_cache(maxsize=4096)
def _value(source: str, expression: str) -> str:
    """Runs our own templates only, never what a model wrote."""
    names: dict[str, Any] = {}
    exec(source, names)
    return repr(eval(expression, names))


# Families.


@dataclass(frozen=True)
class _Plan:
    """The files at the start, what must become of them, and what has to be seen first: groups of independent calls."""

    before: dict[str, str]
    goals: tuple[Goal, ...]
    looks: tuple[tuple[Move, ...], ...] = ()


@dataclass(frozen=True)
class CodeFamily(Family):
    """A family with its project. With `confirms` the expert ends with the tests; with `is_parallel` it edits at once."""

    plan: Callable[[Task], _Plan] = lambda task: _Plan({}, ())
    confirms: bool = False
    is_parallel: bool = False


def _reads(*paths: str) -> tuple[Move, ...]:
    return tuple(Move("read_file", {"path": path}) for path in paths)


def _draw_module(draw: Draw) -> dict[str, JsonValue]:
    module = draw.word()
    return {"module": module, "path": f"{module}.py", "f": draw.word(), "n": draw.number(3, 99)}


def _common(draw: Draw) -> dict[str, JsonValue]:
    """What faults need."""
    return {"junk": draw.folder(), "wait_s": draw.number(100, 300)}


def _draw_one(draw: Draw) -> dict[str, JsonValue]:
    """A module with a function to work on and another one that must stay as it is."""
    return {**_draw_module(draw), "g": draw.word(), "m": draw.number(3, 99), **_common(draw)}


def _does(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    function = _Function.of(p["f"], p["n"])
    return {"does": function.does(language), "argument": function.argument}


def _plan_create(task: Task) -> _Plan:
    p: Any = task.parameters
    function, other = _Function.of(p["f"], p["n"]), _Function.of(p["g"], p["m"])
    goal = Goal(p["path"], function.source, function.calls)
    return _Plan({f"{p['junk']}.py": other.source}, (goal,))


def _plan_from_tests(task: Task) -> _Plan:
    p: Any = task.parameters
    function = _Function.of(p["f"], p["n"])
    path = f"test_{p['path']}"
    tests = f'"""{p["f"]}({function.argument}) returns {function.does("en")}."""\n\n{function.tests(p["module"])}'
    return _Plan({path: tests}, (Goal(p["path"], function.source, function.calls),), (_reads(path),))


def _draw_change(draw: Draw) -> dict[str, JsonValue]:
    return {**_draw_one(draw), "new_n": draw.number(3, 99)}


def _does_new(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    return {"does": _Function.of(p["f"], p["n"]).with_number(p["new_n"]).does(language)}


def _plan_change(task: Task) -> _Plan:
    p: Any = task.parameters
    function, other = _Function.of(p["f"], p["n"]), _Function.of(p["g"], p["m"])
    changed = function.with_number(p["new_n"])
    # Described by the number's place alone, so that one edit is enough.
    before, after = (f"{_bare(each)}\n\n{other.source}" for each in (function, changed))
    goal = Goal(p["path"], after, (*changed.calls, *other.calls))
    return _Plan({p["path"]: before}, (goal,), (_reads(p["path"]),))


def _bare(function: _Function) -> str:
    """The function with its number as a constant at the top."""
    name = function.f.upper()
    source = _filled(function.kernel.source.replace("$n", name), function.f, function.n)
    return f"{name} = {function.n}\n\n\n{source}"


def _plan_fix(task: Task, *, bug: str) -> _Plan:
    p: Any = task.parameters
    function, other = _Function.of(p["f"], p["n"]), _Function.of(p["g"], p["m"])
    after = f"{function.source}\n\n{other.source}"
    before = {
        p["path"]: f"{function.with_bug(bug)}\n\n{other.source}",
        f"test_{p['path']}": function.tests(p["module"]),
    }
    goal = Goal(p["path"], after, (*function.calls, *other.calls))
    return _Plan(before, (goal,), ((Move("run_tests"),), _reads(p["path"])))


def _plan_import(task: Task) -> _Plan:
    """The module calls a function of another one, by a name that it does not have there."""
    p: Any = task.parameters
    function = _Function.of(p["f"], p["n"])
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
    looks = ((Move("run_tests"),), _reads(p["path"], tool))
    return _Plan(before, (Goal(p["path"], right, calls),), looks)


def _draw_import(draw: Draw) -> dict[str, JsonValue]:
    return {**_draw_module(draw), "g": draw.word(), "tool": draw.word(), "wrong": draw.word(), **_common(draw)}


def _draw_many(draw: Draw, *, count: int) -> dict[str, JsonValue]:
    modules: list[JsonValue] = [_draw_module(draw) for _ in range(count)]
    return {"modules": modules, **_common(draw)}


def _plan_many(task: Task) -> _Plan:
    """Several modules, each with a fault of its own."""
    p: Any = task.parameters
    before: dict[str, str] = {}
    goals = []
    kinds = ("operator", "name", "boundary", "syntax")
    for place, each in enumerate(p["modules"]):
        function = _Function.of(each["f"], each["n"])
        before[each["path"]] = function.with_bug(kinds[place % len(kinds)])
        before[f"test_{each['path']}"] = function.tests(each["module"])
        goals.append(Goal(each["path"], function.source, function.calls))
    paths = [goal.path for goal in goals]
    return _Plan(before, tuple(goals), ((Move("run_tests"),), _reads(*paths)))


def _paths(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    return {"paths": ", ".join(f'"{each["path"]}"' for each in p["modules"])}


def _draw_rename(draw: Draw) -> dict[str, JsonValue]:
    users: list[JsonValue] = [{"path": f"{draw.word()}.py", "name": draw.word()} for _ in range(2)]
    return {**_draw_module(draw), "new": draw.word(), "users": users, **_common(draw)}


def _plan_rename(task: Task) -> _Plan:
    p: Any = task.parameters
    function = _Function.of(p["f"], p["n"])
    renamed = _Function(p["new"], p["n"], function.kernel)
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
    return _Plan(before, tuple(goals), (_reads(*before),))


def _qualified(expression: str, module: str, name: str) -> str:
    return re.sub(rf"\b{name}\(", f"{module}.{name}(", expression)


def _users(p: Any, language: Literal["en", "ko"]) -> dict[str, str]:
    return {"first": p["users"][0]["path"], "second": p["users"][1]["path"]}


def _draw_run(draw: Draw) -> dict[str, JsonValue]:
    return {**_draw_module(draw), "m": draw.number(100, 999), "target": f"{draw.word()}.txt", **_common(draw)}


def _plan_run(task: Task) -> _Plan:
    p: Any = task.parameters
    function = _Function.of(p["f"], p["n"])
    expression, value = function.values(function.kernel.hidden)[0]
    # With a sum behind it, because some functions give the same small value whatever their number.
    script = f"{function.source}\n\nprint({expression}, sum(range({p['m']})))\n"
    goal = Goal(p["target"], f"{ast.literal_eval(value)} {sum(range(p['m']))}")
    return _Plan({p["path"]: script}, (goal,), ((Move("run_file", {"path": p["path"]}),),))


def _draw_chain(draw: Draw) -> dict[str, JsonValue]:
    return {**_draw_run(draw), "first": f"{draw.word()}.py"}


def _plan_chain(task: Task) -> _Plan:
    p: Any = task.parameters
    plan = _plan_run(task)
    middle = len(p["path"]) // 2
    pieces = [p["path"][:middle], p["path"][middle:]]
    first = f'print("".join({json.dumps(pieces)}))\n'
    looks = ((Move("run_file", {"path": p["first"]}),), *plan.looks)
    return _Plan({**plan.before, p["first"]: first}, plan.goals, looks)


def _draw_compute(draw: Draw) -> dict[str, JsonValue]:
    return {"top": draw.number(1000, 9999), "n": draw.number(3, 99), "target": f"{draw.word()}.txt", **_common(draw)}


def _plan_compute(task: Task, *, code: str, value: Callable[[int, int], int]) -> _Plan:
    p: Any = task.parameters
    goal = Goal(p["target"], str(value(p["top"], p["n"])))
    return _Plan({}, (goal,), ((Move("run_python", {"code": code.format(**p)}),),))


def _plan_log(task: Task) -> _Plan:
    p: Any = task.parameters
    function, other = _Function.of(p["f"], p["n"]), _Function.of(p["g"], p["m"])
    before, after = (f"{_bare(each)}\n\n{other.source}" for each in (function, function.with_number(p["new_n"])))
    log = f"{p['f'].upper()} must be {p['new_n']}\n{filler(task.id, task.split, task.context_tokens)}\n"
    goal = Goal(p["path"], after, (*function.with_number(p["new_n"]).calls, *other.calls))
    return _Plan({p["path"]: before, p["log"]: log}, (goal,), (_reads(p["path"]), _reads(p["log"])))


def _draw_log(draw: Draw) -> dict[str, JsonValue]:
    return {**_draw_change(draw), "log": f"{draw.word()}.txt"}


def _plan_write_test(task: Task) -> _Plan:
    p: Any = task.parameters
    function = _Function.of(p["f"], p["n"])
    under_test = UnderTest(p["path"], p["f"], function.argument, function.source, function.with_bug("boundary"))
    goal = Goal(f"test_{p['path']}", function.tests(p["module"]), under_test=under_test)
    return _Plan({p["path"]: function.source}, (goal,), (_reads(p["path"]),))


_REPAIRS = ("make_writable", "delete_file", "wait", "restart_runner")
_FIXING = ("run_tests", "read_file", "edit_file", "write_file", "list_files", "run_python", *_REPAIRS)
_EDITING = ("read_file", "edit_file", "write_file", "list_files", "run_python", *_REPAIRS)
_RUNNING = ("run_file", "write_file", "read_file", "list_files", "install_package", *_REPAIRS)
_READING = ("read_file", "edit_file", "write_file", "list_files", "install_package", "make_writable", "delete_file")

_EDIT_FAULTS = tuple(Fault(kind, "edit_file", 0) for kind in ("busy", "permission_denied", "disk_full", "stale"))
_TEST_FAULTS = tuple(Fault(kind, "run_tests", 0) for kind in ("queue_full", "crashed", "timed_out", "malformed"))
_WRITE_FAULTS = tuple(Fault(kind, "write_file", 0) for kind in ("busy", "disk_full"))
_RUN_FAULTS = tuple(
    Fault(kind, "run_file", 0) for kind in ("not_found", "out_of_memory", "queue_full", "crashed", "malformed")
)


def _fix_family(bug: str, english: str, korean: str, *, held_out: bool = False) -> CodeFamily:
    return CodeFamily(
        name=f"fix-{bug}",
        tier=4,
        tools=_FIXING,
        draw=_draw_one,
        english=(
            f'A test of "{{path}}" fails because of {english}. Repair it until all tests pass; leave the tests as they are.',
            f'There is {english} in "{{path}}". Find and repair it; in the end the tests must pass unchanged.',
        ),
        korean=f'"{{path}}"에 {korean}가 있습니다. 테스트는 그대로 두고, 모든 테스트가 통과하도록 고치세요.',
        facts=("path",),
        faults=(*_TEST_FAULTS, *_EDIT_FAULTS),
        plan=partial(_plan_fix, bug=bug),
        confirms=True,
        held_out=held_out,
    )


FAMILIES: tuple[CodeFamily, ...] = (
    CodeFamily(
        name="create",
        tier=1,
        tools=("write_file", "read_file", "run_python", "search_text", "make_writable", "delete_file"),
        draw=_draw_one,
        english=(
            'Write "{path}" with a function {f}({argument}) that returns {does}.',
            'Make a module "{path}". Its function {f}({argument}) returns {does}.',
        ),
        korean='"{path}"에 {f}({argument}) 함수를 작성하세요. 반환값: {does}.',
        facts=("path",),
        faults=(*_WRITE_FAULTS, Fault("permission_denied", "write_file", 0)),
        phrases=_does,
        plan=_plan_create,
    ),
    CodeFamily(
        name="change",
        tier=2,
        tools=_EDITING,
        draw=_draw_change,
        english=(
            'Change "{path}" so that {f} returns {does}.',
            'From now on {f} in "{path}" has to return {does}. Change nothing else.',
        ),
        korean='"{path}"의 {f}이(가) 다음을 반환하도록 바꾸세요: {does}.',
        facts=("path",),
        faults=(*_EDIT_FAULTS, Fault("malformed", "read_file", 0)),
        phrases=_does_new,
        plan=_plan_change,
    ),
    CodeFamily(
        name="run",
        tier=2,
        tools=_RUNNING,
        draw=_draw_run,
        english=(
            'Run "{path}" and write what it prints into "{target}".',
            'What does "{path}" print? Write it into "{target}".',
        ),
        korean='"{path}"를 실행하고 출력을 "{target}"에 쓰세요.',
        facts=("path", "target"),
        faults=(*_RUN_FAULTS, *_WRITE_FAULTS),
        plan=_plan_run,
    ),
    CodeFamily(
        name="compute",
        tier=2,
        tools=("run_python", "write_file", "read_file", "list_files", *_REPAIRS),
        draw=_draw_compute,
        english=(
            'Use Python to add up all numbers from 1 to {top} that can be divided by {n}. Write the sum into "{target}".',
            'Write into "{target}" the sum of the multiples of {n} among 1 to {top}. Let Python work it out.',
        ),
        korean='1부터 {top}까지 {n}의 배수의 합을 파이썬으로 구해 "{target}"에 쓰세요.',
        facts=("target",),
        faults=(
            *(Fault(kind, "run_python", 0) for kind in ("queue_full", "crashed", "out_of_memory", "timed_out")),
            *_WRITE_FAULTS,
        ),
        plan=partial(
            _plan_compute,
            code="print(sum(range(0, {top} + 1, {n})))",
            value=lambda top, n: sum(range(0, top + 1, n)),
        ),
    ),
    CodeFamily(
        name="chain",
        tier=3,
        tools=_RUNNING,
        draw=_draw_chain,
        english=(
            '"{first}" prints the name of another file. Run both, and write what the second prints into "{target}".',
            'Run "{first}", then run the file that it names. The output of that one belongs into "{target}".',
        ),
        korean='"{first}"를 실행하면 다른 파일의 이름이 나옵니다. 그 파일을 실행하고 출력을 "{target}"에 쓰세요.',
        facts=("first", "path", "target"),
        faults=_WRITE_FAULTS + tuple(Fault(fault.kind, "run_file", 1) for fault in _RUN_FAULTS),
        plan=_plan_chain,
    ),
    CodeFamily(
        name="from-tests",
        tier=3,
        tools=_FIXING,
        draw=_draw_one,
        english=(
            'Write the module "{path}" that "test_{path}" asks for, and let the tests pass.',
            '"test_{path}" tests a module that is missing. Write "{path}" and run the tests.',
        ),
        korean='"test_{path}"가 요구하는 모듈 "{path}"를 작성하고 테스트를 통과시키세요.',
        facts=("path",),
        faults=(*_WRITE_FAULTS, *_TEST_FAULTS, Fault("malformed", "read_file", 0)),
        plan=_plan_from_tests,
        confirms=True,
    ),
    CodeFamily(
        name="log",
        tier=3,
        tools=_READING,
        draw=_draw_log,
        english=(
            'The first line of "{log}" says what a constant in "{path}" must be. Read the log and set it.',
            'A constant in "{path}" is wrong; "{log}" begins with the right value. Read it and change the constant.',
        ),
        korean='"{log}"의 첫 줄에 "{path}"의 상수가 가져야 할 값이 있습니다. 읽고 바꾸세요.',
        facts=("path", "log", "new_n"),
        faults=(*_EDIT_FAULTS, Fault("not_found", "read_file", 1)),
        context_tokens=CONTEXT_TOKENS,
        plan=_plan_log,
    ),
    _fix_family("syntax", "a syntax error", "문법 오류"),
    _fix_family("name", "a misspelt name", "이름 오타"),
    _fix_family("operator", "a wrong comparison or operation", "잘못된 비교나 연산"),
    _fix_family("boundary", "a value that is off at the edge", "경계값 오류"),
    CodeFamily(
        name="import",
        tier=5,
        tools=_FIXING,
        draw=_draw_import,
        english=(
            '"{path}" imports a name that "{tool}.py" does not have. Repair "{path}" until the tests pass.',
            'The tests of "{path}" cannot import it: it takes a wrong name from "{tool}.py". Put "{path}" right.',
        ),
        korean='"{path}"가 "{tool}.py"에 없는 이름을 가져옵니다. 테스트가 통과하도록 "{path}"를 고치세요.',
        facts=("path",),
        faults=(*_TEST_FAULTS, *_EDIT_FAULTS),
        plan=_plan_import,
        confirms=True,
    ),
    CodeFamily(
        name="two-modules",
        tier=6,
        tools=_FIXING,
        draw=partial(_draw_many, count=2),
        english=("The tests fail: there is one mistake in each of {paths}. Repair them until all tests pass.",),
        korean="{paths}에 잘못이 하나씩 있습니다. 모든 테스트가 통과하도록 고치세요.",
        facts=(),
        faults=(*_TEST_FAULTS, *_EDIT_FAULTS),
        phrases=_paths,
        plan=_plan_many,
        confirms=True,
        is_parallel=True,
    ),
    CodeFamily(
        name="rename",
        tier=6,
        tools=("read_file", "edit_file", "write_file", "search_text", "install_package", *_REPAIRS),
        draw=_draw_rename,
        english=(
            'Rename the function {f} of "{path}" to {new}, also where "{first}" and "{second}" call it.',
            '{f} in "{path}" shall be called {new}. Change its callers "{first}" and "{second}" too.',
        ),
        korean='"{path}"의 함수 {f}의 이름을 {new}(으)로 바꾸고, "{first}"와 "{second}"에서도 바꾸세요.',
        facts=("path",),
        faults=_EDIT_FAULTS,
        phrases=_users,
        plan=_plan_rename,
        is_parallel=True,
    ),
    CodeFamily(
        name="five-modules",
        tier=12,
        tools=_FIXING,
        draw=partial(_draw_many, count=5),
        english=("Each of {paths} has one mistake in it. Repair them all; in the end every test must pass.",),
        korean="{paths}에 잘못이 하나씩 있습니다. 모두 고쳐서 모든 테스트를 통과시키세요.",
        facts=(),
        faults=(*_TEST_FAULTS, *_EDIT_FAULTS),
        phrases=_paths,
        plan=_plan_many,
        confirms=True,
        is_parallel=True,
    ),
    _fix_family("type", "a value of the wrong type", "잘못된 자료형의 값", held_out=True),
    CodeFamily(
        name="compute-digits",
        tier=2,
        tools=("run_python", "write_file", "read_file", "list_files", *_REPAIRS),
        draw=_draw_compute,
        english=(
            "How many numbers from 1 to {top} have {n} in their decimal digits? Let Python count, "
            'and write it into "{target}".',
        ),
        korean='1부터 {top}까지의 수 중 십진수 표기에 {n}이(가) 들어 있는 수의 개수를 파이썬으로 세어 "{target}"에 쓰세요.',
        facts=("target",),
        faults=(Fault("queue_full", "run_python", 0), Fault("out_of_memory", "run_python", 0), *_WRITE_FAULTS),
        plan=partial(
            _plan_compute,
            code='print(sum("{n}" in str(x) for x in range(1, {top} + 1)))',
            value=lambda top, n: sum(str(n) in str(x) for x in range(1, top + 1)),
        ),
        held_out=True,
    ),
    CodeFamily(
        name="write-test",
        tier=2,
        tools=("read_file", "write_file", "run_tests", "list_files", *_REPAIRS),
        draw=_draw_one,
        english=(
            'Write "test_{path}" with tests (functions test_..., plain asserts) for {f} of "{path}". '
            "They must pass, and one must fail with a {f} that is wrong at the edge only.",
        ),
        korean='"{path}"의 {f}에 대한 테스트 "test_{path}"를 작성하세요(test_... 함수, assert). '
        "지금은 통과하고, 경계값이 틀리면 실패해야 합니다.",
        facts=("path",),
        faults=(*_WRITE_FAULTS, Fault("malformed", "read_file", 0)),
        plan=_plan_write_test,
        held_out=True,
    ),
)

_FAMILY_OF = {family.name: family for family in FAMILIES}
TOOLS = {
    function.__name__: function_to_spec(function)
    for function in (
        CodeWorld.list_files,
        CodeWorld.read_file,
        CodeWorld.write_file,
        CodeWorld.edit_file,
        CodeWorld.delete_file,
        CodeWorld.search_text,
        CodeWorld.run_python,
        CodeWorld.run_file,
        CodeWorld.run_tests,
        CodeWorld.make_writable,
        CodeWorld.wait,
        CodeWorld.restart_runner,
        CodeWorld.install_package,
    )
}


def tasks(split: Split, count: int, seed: int, *, short: bool = False) -> list[Task]:
    """`count` distinct tasks over all families, the same for the same arguments."""
    return families_to_tasks(FAMILIES, TOOLS, world="code", split=split, count=count, seed=seed, short=short)
