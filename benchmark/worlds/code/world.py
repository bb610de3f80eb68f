"""Code: a small Python project in a box, to be written, run and repaired.

Files are data of the world, `{path: bytes}`; code runs in `sandbox.run_python` on a copy of them, and what it leaves replaces
them. So no tool ever touches a folder of the machine, and outputs hold no path of it.

Its faults stand in `troubles.py`.

The verdict: goals are texts (compared without white space at the end), modules (calls that the model never sees give the right
values) and tests (they pass with the right module and fail with a wrong one). The right values never enter the box; they
are worked out outside of it. Nor does a module that is tested: it answers calls from a box of its own, where they are
counted, so tests can tell a right one from a wrong one by what it does and by nothing else. A file of the project that differs
and is no goal is damage; files that were not there at the start are nobody's business. The score is goals held / (goals +
damages).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, ClassVar

from pydantic import JsonValue

from benchmark.worlds.code.expert import CodeExpert
from benchmark.worlds.code.families import FAMILIES
from benchmark.worlds.code.goals import Files, Goal, run_cached
from benchmark.worlds.code.troubles import TROUBLES
from benchmark.worlds.code.written_tests import RUN_TESTS
from benchmark.worlds.family import WorldKind
from benchmark.worlds.sandbox.sandbox import SECONDS, Execution, check_isolation
from benchmark.worlds.tools import (
    Commit,
    ToolError,
    ToolWorld,
    score_to_verdict,
)
from benchmark.worlds.troubles import Values
from benchmark.worlds.world import Move, Task, Verdict
from data.records import Action, Category

RUN_SECONDS = 1.0
"""Of the virtual clock, for a run that ends; one that does not takes all of `sandbox.SECONDS`."""
_OUTPUT_CHARACTERS = 4000
_MAX_BYTES = 1 << 20
_MAX_ENTRIES = 400
"""Files and folders of a project; a box holds a few more, for those that faults and the verdict add."""


class CodeWorld(ToolWorld):
    """One task's project. Nothing is on disk; entering makes sure that code can be isolated here."""

    troubles: ClassVar = TROUBLES

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.plan = CODE.family_of(task).plan(task)
        self.goals: Sequence[Goal] = self.plan.goals
        self.before = {path: text.encode("utf-8") for path, text in self.plan.before.items()}
        """The files at the start, with the changes that faults make."""
        self.files: dict[str, bytes] = dict(self.before)
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
        return lambda: self.files[name].decode("utf-8", "replace")

    def write_file(self, path: str, text: str) -> Commit:
        """Write a whole file."""
        name = self._place(path)
        return lambda: self._put(name, text.encode("utf-8"))

    def edit_file(self, path: str, old: str, new: str) -> Commit:
        """Replace a text that stands once in a file."""
        name = self._file(path)
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
        return lambda: self._finish(run_cached(self._snapshot(), code, "<code>"))

    def run_file(self, path: str) -> Commit:
        """Run a Python file and return what it prints."""
        name = self._file(path)
        return lambda: self._finish(run_cached(self._snapshot(), None, name))

    def run_tests(self) -> Commit:
        """Run the tests of the project."""
        return lambda: self._finish(run_cached(self._snapshot(), RUN_TESTS, "<tests>"))

    def make_writable(self, path: str) -> Commit:
        """Make a read-only file writable."""
        name = self._place(path)
        if name not in self.files and {"path": name} not in self.standing("permission_denied"):
            raise self._not_found(path)
        return lambda: "ok"

    def restart_runner(self) -> Commit:
        """Start what runs code anew; files stay."""
        return lambda: "ok"

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
        if now_at is not None:
            return self.error("not_found", path=path[:100], now=now_at)
        return ToolError(f"not found: {path[:100]}")

    def plain(self, name: str, value: Any) -> Any:
        """Paths without what means nothing."""
        return str(PurePosixPath(value)) if name == "path" else value

    def _put(self, name: str, content: bytes) -> JsonValue:
        if sum(map(len, self.files.values())) + len(content) > _MAX_BYTES or _entries(*self.files, name) > _MAX_ENTRIES:
            raise ToolError("the project would become too large")
        self.files[name] = content
        return "ok"

    def _snapshot(self) -> Files:
        return tuple(sorted(self.files.items()))

    def _finish(self, run: Execution) -> JsonValue:
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

    # What faults do.

    def fill(self) -> Values:
        """A file takes up all the room."""
        path = f"{self.task.parameters['junk']}.tmp"
        self.files[path] = b"\0" * 1000
        return {"path": path}

    def add_line(self, path: str) -> Values:
        """Somebody adds a line to a file."""
        self.files[path] += f"# {self.task.parameters['junk']}\n".encode()
        return {"path": path}

    def move_away(self, path: str) -> None:
        """Somebody moves a file, where that is possible."""
        new = f"{self.task.parameters['junk']}/{path}"
        if new not in self.files and path in self.before:
            self.files[new] = self.files.pop(path)
            self.before[new] = self.before.pop(path)
            self._now_at[path] = new

    # What is right.

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
    def confirms(self) -> bool:
        """Whether the task is to end with tests that pass."""
        return self.plan.confirms

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
        """Look, put goals right, and see that the tests pass."""
        return CodeExpert(self, history).move()


def _entries(*paths: str) -> int:
    """How many files and folders these make."""
    return len({*paths, *(str(parent) for path in paths for parent in PurePosixPath(path).parents)}) - 1


CODE = WorldKind("code", Category.CODE_EXECUTION, "2", FAMILIES, CodeWorld)
