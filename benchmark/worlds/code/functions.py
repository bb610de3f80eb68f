"""What projects are made of: small functions, each with a number in it, and ways to get them wrong."""

from __future__ import annotations

import re
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal


@dataclass(frozen=True)
class Kernel:
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


KERNELS = (
    Kernel(
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
    Kernel(
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
    Kernel(
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
    Kernel(
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
    Kernel(
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
    Kernel(
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
    Kernel(
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
    Kernel(
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


def filled(text: str, f: str, n: int) -> str:
    return text.replace("$f", f).replace("$n", str(n))


@dataclass(frozen=True)
class Function:
    """A drawn function: its name, its number, and what it does."""

    f: str
    n: int
    kernel: Kernel

    @staticmethod
    def of(f: str, n: int) -> Function:
        """The function that a name decides: were it a parameter, train and test tasks would share it.

        Raises:
            ValueError: if these are no name and number, which matters because the text is run outside of the box.
        """
        if not (isinstance(f, str) and re.fullmatch("[a-z]+", f)) or type(n) is not int:
            raise ValueError(f"expected a name in small letters and a number, got {f!r} and {n!r}")
        return Function(f, n, KERNELS[zlib.crc32(f.encode("utf-8")) % len(KERNELS)])

    @property
    def source(self) -> str:
        return self.with_docstring(self.kernel.source)

    def with_docstring(self, source: str) -> str:
        head, rest = filled(source, self.f, self.n).split("\n", 1)
        return f'{head}\n    """Return {self.does("en")}."""\n{rest}'

    def with_bug(self, kind: str) -> str:
        right, wrong = self.kernel.bugs[kind]
        assert right in self.kernel.source, (self.kernel.english, kind)
        return self.with_docstring(self.kernel.source.replace(right, wrong, 1))

    def with_number(self, n: int) -> Function:
        return Function(self.f, n, self.kernel)

    def does(self, language: Literal["en", "ko"]) -> str:
        return filled(self.kernel.korean if language == "ko" else self.kernel.english, self.f, self.n)

    @property
    def argument(self) -> str:
        return self.kernel.source.split("(", 1)[1].split(")", 1)[0]

    def values(self, expressions: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """The expressions, filled, with the `repr` of their values."""
        return tuple((filled, self.value(filled)) for filled in (filled(each, self.f, self.n) for each in expressions))

    def value(self, expression: str) -> str:
        return value_of(filled(self.kernel.source, self.f, self.n), expression)

    @property
    def calls(self) -> tuple[tuple[str, str], ...]:
        return self.values((*self.kernel.seen, *self.kernel.hidden))

    def other_for(self, expression: str) -> tuple[str, str]:
        """Another function of this name that gives the expression another value: its text and that value."""
        numbers = [filled(self.kernel.source, self.f, self.n + more) for more in range(1, 10)]
        constants = [f"def {self.f}({self.argument}):\n    return {each}\n" for each in ("[7] * 7", "[[7] * 7]")]
        for source in (*numbers, *constants):
            with suppress(TypeError):
                value = value_of(source, expression)
                if value != value_of(filled(self.kernel.source, self.f, self.n), expression):
                    return source, value
        raise AssertionError(expression)

    def tests(self, module: str) -> str:
        lines = [f"from {module} import {self.f}", ""]
        for number, (expression, value) in enumerate(self.values(self.kernel.seen), 1):
            lines += ["", f"def test_{self.f}_{number}():", f"    assert {expression} == {value}", ""]
        return "\n".join(lines)


@lru_cache(maxsize=4096)
def value_of(source: str, expression: str) -> str:
    """Runs our own templates only, never what a model wrote."""
    names: dict[str, Any] = {}
    exec(source, names)
    return repr(eval(expression, names))
