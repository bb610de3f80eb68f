"""Calls whose arguments are literals that JSON does not have: Gemma's, and Python's."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

from core.errors import first_line
from core.json_lines import json_to_object
from data.rendering.assistant_text import json_end
from data.rendering.call_forms.form import NAME, Call, Schemas, Unread, add_argument, end_of_value, skip
from data.rendering.call_forms.typed import text_to_literal, types_of


class _Literals:
    """A place in a text, and what both kinds of literals have in common: lists and objects of values apart by commas."""

    comma_may_be_last = False

    def __init__(self, text: str, place: int) -> None:
        self.text, self.place = text, place

    def _takes(self, expected: str) -> bool:
        self.place = skip(self.text, self.place, r"\s*")
        if not self.text.startswith(expected, self.place):
            return False
        self.place += len(expected)
        return True

    def _parts(self, closing: str, unclosed: str) -> Iterator[None]:
        """Stops before each part of a list up to its `closing`, for the caller to read that part.

        Raises:
            Unread: that something is `unclosed`, where no comma stands between two parts.
        """
        is_first = True
        while not self._takes(closing):
            if not is_first:
                if not self._takes(","):
                    raise Unread(f"the call is not closed: {unclosed}")
                if self.comma_may_be_last and self._takes(closing):
                    return
            is_first = False
            yield

    def value(self, depth: int) -> Any:
        """One value, which stands in so many lists and objects."""
        raise NotImplementedError

    def _list(self, depth: int) -> list[Any]:
        """What stands after an opening bracket."""
        items: list[Any] = []
        for _ in self._parts("]", "a list has no end"):
            items.append(self.value(depth + 1))
        return items

    def _bare(self, pattern: str) -> str:
        """A word without quotes: a number, a constant, or text."""
        found = re.compile(pattern).match(self.text, self.place)
        assert found is not None  # the patterns match nothing, too
        self.place = found.end()
        return found[0].strip()

    @staticmethod
    def _check(depth: int) -> None:
        if depth > 100:
            raise Unread("the call's arguments are nested deeper than 100 levels")


class _Gemma(_Literals):
    """`{key:<|"|>text<|"|>,other:[1,true]}`: JSON with bare keys and texts between delimiters that JSON does not have."""

    def __init__(self, text: str, place: int, delimiter: str) -> None:
        super().__init__(text, place)
        self.delimiter = delimiter

    def _delimited(self) -> str:
        text, closed, _ = self.text[self.place :].partition(self.delimiter)
        if not closed:
            raise Unread("the call is not closed: a text has no end")
        self.place += len(text) + len(self.delimiter)
        return text

    def _key(self) -> str:
        if self._takes(self.delimiter):
            key = self._delimited()
            is_key = self._takes(":")
        else:
            key, colon, _ = self.text[self.place :].partition(":")
            is_key = bool(colon)
            self.place += len(key) + 1
        if not is_key:
            raise Unread("the call is not closed: its arguments have no end")
        return key

    def object(self, depth: int = 0) -> dict[str, Any]:
        """Keys and values after an opening brace."""
        found: dict[str, Any] = {}
        for _ in self._parts("}", "its arguments have no end"):
            add_argument(found, self._key(), self.value(depth + 1))
        return found

    def value(self, depth: int) -> Any:
        self._check(depth)
        if self._takes(self.delimiter):
            return self._delimited()
        if self._takes("{"):
            return self.object(depth)
        if self._takes("["):
            return self._list(depth)
        bare = self._bare(r"[^,}\]]*")
        if self.place >= len(self.text):
            raise Unread("the call is not closed: its arguments have no end")
        return text_to_literal(bare)


def read_gemma(
    text: str, opening: re.Match[str], schemas: Schemas, *, delimiter: str, closing: str
) -> tuple[list[Call], int]:
    parser = _Gemma(text, opening.end(), delimiter)
    name, arguments = opening["name"], parser.object()
    properties = schemas.get(name, {})
    # A bare word where the schema wants a string was meant as one.
    for key, value in arguments.items():
        types = types_of(properties.get(key))
        if types == ["string"] and isinstance(value, bool | int | float):
            arguments[key] = json.dumps(value)
    end = skip(text, parser.place, r"\s*")
    if text.startswith(closing, end):
        return [(name, arguments)], end + len(closing)
    if end < len(text) and not opening.re.match(text, end):
        raise Unread(f"the call is not closed: {closing} is missing")
    return [(name, arguments)], end


class _Python(_Literals):
    """`[f(a=1, b="x"), g()]`. `raw`: as LFM2.5 writes it, texts in single quotes without any escape."""

    comma_may_be_last = True

    def __init__(self, text: str, place: int, schemas: Schemas, *, raw: bool) -> None:
        super().__init__(text, place)
        self.schemas, self.raw = schemas, raw

    def calls(self, until: str) -> list[Call]:
        """Calls up to `until`, apart by commas or line breaks; an empty `until` is one call alone."""
        found: list[Call] = []
        while not (until and self._takes(until)):
            self._takes(",")
            if until and self._takes(until):
                break
            found.append(self.call())
            if not until:
                break
        if not found:
            raise Unread("the call has no name")
        return found

    def call(self) -> Call:
        """`name(key=value, ...)`."""
        self.place = skip(self.text, self.place, r"\s*")
        named = re.compile(rf"({NAME})\(").match(self.text, self.place)
        if named is None:
            raise Unread("the call is not closed, or has no name")
        self.place = named.end()
        properties, arguments = self.schemas.get(named[1], {}), dict[str, Any]()
        known = "|".join(map(re.escape, properties)) or NAME
        following = rf"\s*(?:\)\s*(?:[,\])\n]|\Z)|,\s*(?:{known})\s*=|,\s*\))"
        for _ in self._parts(")", "its arguments have no end"):
            self.place = skip(self.text, self.place, r"\s*")
            keyed = re.compile(rf"({NAME})\s*=\s*").match(self.text, self.place)
            if keyed is None:
                raise Unread("the call has an argument without a name, or no end")
            self.place = keyed.end()
            add_argument(arguments, keyed[1], self.value(0, schema=properties.get(keyed[1]), following=following))
        return named[1], arguments

    def value(self, depth: int, *, schema: Any = None, following: str = r"\s*[,\]]") -> Any:
        """One value, after which comes what `following` matches."""
        self._check(depth)
        self.place = skip(self.text, self.place, r"\s*")
        sign = self.text[self.place : self.place + 1]
        if sign in ("'", '"'):
            return self._string(sign, following)
        if sign in ("{", "["):
            end = json_end(self.text, self.place)
            try:
                value = json_to_object(self.text[self.place : end]) if end else None
            except ValueError:
                value = None
            if value is not None and end:
                self.place = end
                return value
            self.place += 1
            return self._dict(depth) if sign == "{" else self._list(depth)
        bare = self._bare(r"[^,)\]}\n]*")
        value = text_to_literal(bare)
        if isinstance(value, str) and "string" not in types_of(schema):
            raise Unread(f"the call's argument is no literal: {bare!r:.80}")
        if types_of(schema) == ["string"] and not isinstance(value, str) and value is not None:
            return bare
        return value

    def _string(self, quote: str, following: str) -> str:
        start = self.place + 1
        if self.raw and quote == "'":
            end = end_of_value(self.text, start, quote, re.compile(following))
            self.place = end + 1
            return self.text[start:end]
        if self.text.startswith(quote * 3, self.place):
            end = self.text.find(quote * 3, self.place + 3)
            literal = self.text[self.place : end + 3] if end >= 0 else ""
        else:
            ended = re.compile(rf"(?:[^{quote}\\]|\\.)*{quote}", re.DOTALL).match(self.text, start)
            literal = quote + ended[0] if ended else ""
        if not literal:
            raise Unread("the call is not closed: a text has no end")
        self.place += len(literal)
        body = literal.replace("\r", "\\r").replace("\n", "\\n") if not literal.startswith(quote * 3) else literal
        try:
            read = json.loads(body) if quote == '"' and not literal.startswith('"""') else ast.literal_eval(body)
        except (ValueError, SyntaxError):
            try:
                read = ast.literal_eval(body)
            except (ValueError, SyntaxError) as error:
                raise Unread(f"the call holds a text that cannot be read: {first_line(error)}") from None
        return str(read)

    def _dict(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in self._parts("}", "an object has no end"):
            self.place = skip(self.text, self.place, r"\s*")
            if self.text[self.place : self.place + 1] not in ("'", '"'):
                raise Unread("the call is not closed: an object has no end")
            key = self._string(self.text[self.place], r"\s*:")
            if not self._takes(":"):
                raise Unread("the call is not closed: an object has no end")
            add_argument(found, key, self.value(depth + 1, following=r"\s*[,}]"))
        return found


def read_python(
    text: str, opening: re.Match[str], schemas: Schemas, *, until: str, closing: str = "", raw: bool = False
) -> tuple[list[Call], int]:
    parser = _Python(text, opening.end(), schemas, raw=raw)
    calls = parser.calls(until)
    for name, arguments in calls:
        try:
            json_to_object(json.dumps(arguments, ensure_ascii=False))
        except ValueError as error:
            raise Unread(f"the arguments of {name!r:.80} are {error}") from None
    if not closing:
        return calls, parser.place
    end = skip(text, parser.place, r"\s*")
    if not text.startswith(closing, end) and end < len(text):
        raise Unread(f"the call is not closed: {closing} is missing")
    return calls, end + len(closing)


def read_builtin(text: str, opening: re.Match[str], schemas: Schemas) -> tuple[list[Call], int]:
    """Llama's own tools: `brave_search.call(query="...")`."""
    calls, place = read_python(text, opening, schemas, until="")
    return [(name if name in schemas else name.removesuffix(".call"), arguments) for name, arguments in calls], place


def read_tool_code(text: str, opening: re.Match[str], schemas: Schemas) -> tuple[list[Call], int]:
    """Gemma 3: Python in a fence of its own, perhaps inside of `print()`."""
    body, fenced, _ = text[opening.end() :].partition("```")
    if not fenced:
        raise Unread("the call is not closed: the fence has no end")
    calls: list[Call] = []
    parser = _Python(body.strip(), 0, schemas, raw=False)
    while parser.place < len(parser.text):
        printed = re.compile(r"\s*print\((?=[^()]*\()").match(parser.text, parser.place)
        parser.place = printed.end() if printed else skip(parser.text, parser.place, r"\s*(?:\w+\s*=\s*)?")
        is_list = parser.text.startswith("[", parser.place)
        parser.place += is_list
        calls += parser.calls("]" if is_list else "")
        parser.place = skip(parser.text, parser.place, r"\s*\)?\s*" if printed else r"\s*")
    return calls, opening.end() + len(body) + 3
