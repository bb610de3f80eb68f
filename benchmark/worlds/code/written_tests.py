"""Tests that a model has written: how they are run, and whether they tell a right module from a wrong one.

They never see either. The module in their box has the function's name, argument and docstring, and asks a second box, in which
the right or the wrong function answers. So its text, bytecode, path, size and times are the same in every run. The second box
also counts the calls, what passes and what fails; a report counts only with a number that is new in each run.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from functools import lru_cache

from benchmark.worlds.sandbox.sandbox import run_beside

_TRIES = 4
"""How often each module is tried, against tests that guess."""
_FIND_TESTS = """\
import sys
def method(kind, name):
    def test():
        one = kind()
        if hasattr(one, "setup_method"):
            one.setup_method(*[getattr(one, name)][: one.setup_method.__code__.co_argcount - 1])
        return getattr(one, name)()
    return test
def tests_of(module):
    for name, value in list(vars(module).items()):
        unittest = sys.modules.get("unittest")
        if not isinstance(value, type):
            if name.startswith("test_") and callable(value):
                yield name, value
        elif unittest and issubclass(value, unittest.TestCase):
            for each in unittest.defaultTestLoader.getTestCaseNames(value):
                yield f"{name}.{each}", unittest.TestSuite([value(each)]).debug
        elif name.startswith("Test"):
            for each in dir(value):
                if each.startswith("test"):
                    yield f"{name}.{each}", method(value, each)
def run(test):
    result = test()
    if hasattr(result, "__await__"):
        import asyncio
        asyncio.run(result)
    elif hasattr(result, "__next__"):
        raise TypeError("a test that yields never runs")
def is_skipped(error):
    return type(error).__name__ == "SkipTest"
"""
"""Functions and classes as pytest finds them, and unittest's cases."""
RUN_TESTS = (
    _FIND_TESTS
    + """\
import glob, traceback
def show(error):
    shown = error.__traceback__
    while shown is not None and shown.tb_frame.f_code.co_filename == "<tests>":
        shown = shown.tb_next
    traceback.print_exception(type(error), error, shown, file=sys.stdout)
passed = failed = 0
for path in sorted(glob.glob("test_*.py")):
    try:
        tests = list(tests_of(__import__(path[:-3])))
    except BaseException as error:
        tests = []
        failed += 1
        print("FAILED", path)
        show(error)
    for name, test in tests:
        try:
            run(test)
            passed += 1
        except BaseException as error:
            if is_skipped(error):
                continue
            failed += 1
            print("FAILED", path, name)
            show(error)
print(f"{passed} passed, {failed} failed")
"""
)
_REMOTE = """\
import builtins, json, os, threading
from decimal import Decimal
from fractions import Fraction
_lock = threading.RLock()
_unread = b""
def tell(message):
    data = (json.dumps(message) + "\\n").encode("ascii")
    with _lock:
        while data:
            data = data[os.write(4, data):]
def hear():
    global _unread
    while b"\\n" not in _unread:
        piece = os.read(3, 65536)
        if not piece:
            raise EOFError
        _unread += piece
    line, _, _unread = _unread.partition(b"\\n")
    return json.loads(line)
def pack(value):
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, float):
        return ["float", value.hex()]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", value.hex()]
    if isinstance(value, range):
        return ["range", [value.start, value.stop, value.step]]
    if isinstance(value, (complex, Decimal, Fraction)):
        return [next(each.__name__ for each in (complex, Decimal, Fraction) if isinstance(value, each)), str(value)]
    if isinstance(value, dict):
        return ["dict", [[pack(key), pack(each)] for key, each in value.items()]]
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return [kind.__name__, [pack(each) for each in value]]
    for kind in (int, str):
        if isinstance(value, kind):
            return kind(value)
    if hasattr(value, "__iter__") and not isinstance(value, type):
        return ["list" if hasattr(value, "__len__") else "iter", [pack(each) for each in value]]
    return ["object", type(value).__name__]
def unpack(value):
    if not isinstance(value, list):
        return value
    kind, held = value
    if kind == "object":
        return object()
    if kind == "float":
        return float.fromhex(held)
    if kind == "bytes":
        return bytes.fromhex(held)
    if kind == "range":
        return range(*held)
    if kind in ("complex", "Decimal", "Fraction"):
        return {"complex": complex, "Decimal": Decimal, "Fraction": Fraction}[kind](held)
    if kind == "dict":
        return {unpack(key): unpack(each) for key, each in held}
    kinds = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "iter": iter}
    return kinds[kind]([unpack(each) for each in held])
def ask(argument):
    with _lock:
        tell(["call", pack(argument)])
        kind, value = hear()
    if kind == "value":
        return unpack(value)
    error = getattr(builtins, kind, RuntimeError)
    raise error(*unpack(value))
"""
"""Calls between two boxes: plain values as JSON, no code."""
_REPORT_TESTS = (
    _FIND_TESTS
    + """\
import _remote
def report_all(tell, nonce):
    try:
        tests = list(tests_of(__import__(MODULE)))
    except BaseException:
        tests = []
        tell(["failed", nonce])
    for _, test in tests:
        try:
            run(test)
            tell(["passed", nonce])
        except BaseException as error:
            if not is_skipped(error):
                tell(["failed", nonce])
    tell(["done", nonce])
report_all(_remote.tell, _remote.hear())
"""
)
_ANSWER_CALLS = """\
import json, os, _remote
def load(source):
    names = {{}}
    exec(source, names)
    return names[{function!r}]
def outcome(function, packed):
    try:
        return ["value", _remote.pack(function(_remote.unpack(packed)))]
    except Exception as error:
        return [type(error).__name__, _remote.pack(error.args)]
shown, right = load({shown!r}), load({right!r})
nonce = os.urandom(16).hex()
counts = dict.fromkeys(("calls", "different", "passed", "failed", "done"), 0)
try:
    _remote.tell(nonce)
    while True:
        kind, what = _remote.hear()
        if kind == "call":
            answer = outcome(shown, what)
            counts["calls"] += 1
            counts["different"] += json.dumps(outcome(right, what)) != json.dumps(answer)
            _remote.tell(answer)
        elif what == nonce and kind in ("passed", "failed", "done"):
            counts[kind] += 1
        else:
            counts["done"] = -1  # somebody else than the runner reports
            break
except (EOFError, OSError):
    pass
except Exception:
    counts["done"] = -1
print(json.dumps(counts))
"""


@dataclass(frozen=True)
class UnderTest:
    """A module with one function, which tests must find right, and a wrong spelling of it, which they must not."""

    path: str
    function: str
    argument: str
    right: str
    wrong: str


@lru_cache(maxsize=512)
def are_good_tests(path: str, tests: bytes, under_test: UnderTest) -> bool:
    """Whether the tests at `path` pass with the right module and fail with the wrong one, because of what these do.

    A failure counts only where a call has shown the difference.

    Raises:
        UserError: where this machine cannot isolate them.
    """
    for _ in range(_TRIES):
        right = _run_tests_against(path, tests, under_test, under_test.right)
        if right["done"] != 1 or not right["passed"] or right["failed"] or not right["calls"]:
            return False
        wrong = _run_tests_against(path, tests, under_test, under_test.wrong)
        if wrong["done"] != 1 or not wrong["failed"] or not wrong["different"]:
            return False
    return True


def _run_tests_against(path: str, tests: bytes, under_test: UnderTest, shown: str) -> dict[str, int]:
    docstring = ast.get_docstring(ast.parse(under_test.right).body[0])  # type: ignore[arg-type] # our own text, a function
    stands_for = (
        f"from _remote import ask as _ask\n\n\ndef {under_test.function}({under_test.argument}):\n"
        f'    """{docstring}"""\n    return _ask({under_test.argument})\n'
    )
    remote = _REMOTE.encode("utf-8")
    _, answering = run_beside(
        {path: tests, under_test.path: stands_for.encode("utf-8"), "_remote.py": remote},
        f"MODULE = {path.removesuffix('.py')!r}\n{_REPORT_TESTS}",
        other_files={"_remote.py": remote},
        other_code=_ANSWER_CALLS.format(function=under_test.function, shown=shown, right=under_test.right),
    )
    try:
        return dict(json.loads(answering.output))
    except ValueError:  # it was ended: too many calls, or too large
        return dict.fromkeys(("calls", "different", "passed", "failed", "done"), 0)
