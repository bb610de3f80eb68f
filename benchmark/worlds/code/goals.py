"""What must become of a project: files that hold a text, modules that give the right values, tests that tell apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from benchmark.worlds.code.written_tests import UnderTest, are_good_tests
from benchmark.worlds.sandbox.sandbox import Execution, run_python

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
def run_cached(files: Files, code: str | None, path: str) -> Execution:
    """Runs are asked for again and again with the same files: by the twin of a world, by advice, by the verdict."""
    return run_python(dict(files), code=code, path=path)


def values_of_calls(files: Files, calls: Sequence[tuple[str, str]]) -> list[str | None]:
    """`repr` of each expression, evaluated in the box within the module at its path; None for one that raises."""
    run = run_cached(files, _CALL_ALL.format(calls=json.dumps(calls)), "<calls>")
    try:
        values = json.loads(run.output.rstrip("\n").rsplit("\n", 1)[-1])
    except ValueError:
        values = None
    is_whole = isinstance(values, list) and len(values) == len(calls)
    return values if is_whole else [None] * len(calls)


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
