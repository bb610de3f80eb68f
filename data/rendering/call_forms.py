"""The documented ways in which models write calls, one reader for each kind of them.

`CALL_FORMS` is the table, by family, after what the model cards say and what the parsers of vLLM and SGLang are tested on;
docs/replies.md shows each. Which form a reply is read in, and when text is a call at all, data/rendering/replies.py decides.

A block of JSON ends where its JSON ends, so a closing tag inside of a value is text. Where a form has only texts, an argument
has the type that the tool's schema names, and a string keeps its edges.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from core.errors import first_line
from core.json_lines import json_to_object
from data.records import ToolSpec
from data.rendering.assistant_text import json_end

_NAME = r"[^\s()\[\]{},=<>\"'`|]+"
_BAR, _JOIN = "[｜|]", "[▁_ ]"
_CALLS_BEGIN, _CALL_BEGIN, _SEP, _CALL_END, _CALLS_END = (
    f"<{_BAR}tool{_JOIN}{word}{_BAR}>"
    for word in (f"calls{_JOIN}begin", f"call{_JOIN}begin", "sep", f"call{_JOIN}end", f"calls{_JOIN}end")
)
Call = tuple[str, dict[str, Any]]
Schemas = dict[str, dict[str, Any]]
"""By name of a tool: the JSON Schemas of its parameters by their names."""


class Unread(ValueError):
    """A block of this form begins here and cannot be read; the message says why."""


class Written(NamedTuple):
    """What one form makes of a reply. `alone` is false where something comes after the last call, or between two."""

    calls: list[Call]
    content: str
    before: str
    alone: bool
    reasoning: str | None = None


@dataclass(frozen=True)
class Form:
    """One way to write calls.

    `read` reads the calls of one block from the match of its opening, and gives the place after the block; it raises
    `Unread` where the block is broken. A bare form has no tag of its own.
    """

    name: str
    family: str
    opening: re.Pattern[str]
    read: Callable[[str, re.Match[str], Schemas], tuple[list[Call], int]]
    bare: bool = False
    tags: tuple[str, ...] = ()
    """Text that can stand nowhere but in a call of this form."""

    def turn(self, text: str, schemas: Schemas) -> Written | None:
        """The reply's calls and the words around them, or None where this form does not occur.

        Raises:
            Unread: if a block is broken.
        """
        if self.family == "harmony":
            return _harmony_to_turn(text, schemas)
        calls: list[Call] = []
        words: list[str] = []
        place = 0
        while (found := self.opening.search(text, place)) is not None:
            if self.bare and calls and text[place : found.start()].strip():
                break
            read, end = self.read(text, found, schemas)
            end = max(end, found.end())
            words.append(text[place : found.start() if read else end])  # what was no call stays among the words
            calls += read
            place = end
        if not words:
            return None
        after = [*words[1:], text[place:]]
        return Written(calls, "".join([*words, text[place:]]), words[0], not "".join(after).strip())


def tools_to_schemas(tools: Sequence[ToolSpec]) -> Schemas:
    named = {}
    for tool in tools:
        properties = tool.function.parameters.get("properties")
        named[tool.function.name] = properties if isinstance(properties, dict) else {}
    return named


def _json_at(text: str, start: int) -> tuple[Any, int]:
    """The object or list that begins at `start`, and its end: a block ends where its JSON ends.

    Raises:
        Unread: if there is none, or it is not strict JSON.
    """
    while text[start : start + 1].isspace():
        start += 1
    if start >= len(text):
        raise Unread("the call is not closed: nothing stands in it")
    end = json_end(text, start)
    if end is None and text[start : start + 1] in ("{", "["):
        raise Unread("the call is not closed: its JSON has no end")
    try:
        return json_to_object(text[start:end] if end else text[start : start + 200]), end or len(text)
    except ValueError as error:
        raise Unread(f"the call is {error}") from None


def _values_to_calls(value: Any) -> list[Call]:
    return [_value_to_call(item) for item in (value if isinstance(value, list) else [value])]


def _value_to_call(value: Any) -> Call:
    """`{"name": ..., "arguments": ...}` in the spellings that families have for it."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        raise Unread("the call has no name")
    name = next((value[key] for key in ("name", "tool_name", "function") if key in value), None)
    if not isinstance(name, str) or not name:
        raise Unread("the call has no name")
    return name, to_arguments(next((value[key] for key in ("arguments", "parameters") if key in value), None))


def to_arguments(value: Any) -> dict[str, Any]:
    """Arguments as an object; some models write JSON text of it, or JSON text of such text. None at all are {}.

    Raises:
        ValueError: if they are something else.
    """
    for _ in range(3):
        if value is None or (isinstance(value, str) and not value.strip()):
            return {}
        if isinstance(value, dict):
            return value
        if not isinstance(value, str):
            break
        try:
            value = json_to_object(value)
        except ValueError as error:
            raise Unread(f"the call's arguments are {error}") from None
    raise Unread("the call's arguments are not a JSON object")


def _skip(text: str, place: int, pattern: str) -> int:
    found = re.compile(pattern).match(text, place)
    return found.end() if found else place


def _read_json(text: str, opening: re.Match[str], _: Schemas, *, closing: str) -> tuple[list[Call], int]:
    """One or several JSON values between tags. The closing tag may be missing at the end of the turn."""
    calls: list[Call] = []
    place = opening.end()
    while True:
        value, place = _json_at(text, place)
        calls += _values_to_calls(value)
        following = _skip(text, place, r"[\s;,]*")
        if text[following : following + 1] not in ("{", "["):
            break
        place = following
    if not closing:
        return calls, place
    following = _skip(text, place, r"\s*")
    closed = re.compile(closing).match(text, following)
    if closed is None and following < len(text) and not opening.re.match(text, following):
        raise Unread(f"the call is not closed: words follow its JSON ({text[following : following + 20]!r})")
    return calls, closed.end() if closed else following


def _read_bare_json(text: str, opening: re.Match[str], schemas: Schemas) -> tuple[list[Call], int]:
    """Llama's calls: JSON with nothing around it, several joined by `;`, commas or line breaks.

    Whatever has not the shape of a call is an answer in JSON and no call.
    """
    place, calls = opening.start(), list[Call]()
    before = place - 1
    while before >= 0 and text[before].isspace():
        before -= 1
    if before >= 0 and (text[before] in ">[]{},|`" or text[before - 1 : before + 1] == '":'):
        return calls, place + 1  # a part of something else
    while True:
        begins = re.compile(r'\s*\[?\s*\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"(?:name|function)"\s*:').match(
            text, place
        )
        try:
            value, end = _json_at(text, place)
        except Unread:
            is_call = begins and re.compile(r'.{0,400}?"(?:parameters|arguments)"\s*:', re.DOTALL).match(
                text, begins.end()
            )
            if not is_call or calls:
                return calls, place if calls else len(text)
            raise
        values = value if isinstance(value, list) else [value]
        if not values or not all(_is_call(each) for each in values):
            return calls, place if calls else end
        calls += _values_to_calls(values)
        place = end
        following = _skip(text, place, r"[\s;,]*")
        if text[following : following + 1] not in ("{", "["):
            return calls, place
        place = following


def _is_call(value: Any) -> bool:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        return value.keys() <= {"type", "function", "id"} and _is_call(value["function"])
    return (
        isinstance(value, dict)
        and value.keys() <= {"type", "name", "function", "parameters", "arguments", "id", "index"}
        and ("parameters" in value or "arguments" in value)
        and isinstance(value.get("name", value.get("function")), str)
    )


def _read_fenced_json(text: str, opening: re.Match[str], schemas: Schemas) -> tuple[list[Call], int]:
    value, place = _json_at(text, opening.end())
    values = value if isinstance(value, list) else [value]
    if not all(_is_call(each) for each in values):
        return [], len(text)
    return _values_to_calls(values), _skip(text, place, r"\s*```")


def _read_apertus(text: str, opening: re.Match[str], _: Schemas) -> tuple[list[Call], int]:
    """`[{"name": {arguments}}, ...]`."""
    value, place = _json_at(text, opening.end())
    calls = [
        (name, to_arguments(arguments))
        for item in (value if isinstance(value, list) else [value])
        for name, arguments in (item.items() if isinstance(item, dict) else [("", item)])
    ]
    if not all(name for name, _ in calls):
        raise Unread("the call has no name")
    return calls, _skip(text, place, r"\s*<\|tools_suffix\|>")


def _read_named_json(
    text: str, opening: re.Match[str], _: Schemas, *, name: re.Pattern[str], closing: str, again: str
) -> tuple[list[Call], int]:
    """A name and then the arguments as JSON, once or several times."""
    calls: list[Call] = []
    place = opening.end()
    while (named := name.match(text, place)) is not None:
        value, place = _json_at(text, named.end())
        calls.append((named["name"], to_arguments(value)))
        place = _skip(text, place, closing)
        if not (again and re.compile(again).match(text, place)):
            break
        place = _skip(text, place, again)
    if not calls:
        raise Unread("the call has no name")
    return calls, place


def _read_mistral(text: str, opening: re.Match[str], schemas: Schemas) -> tuple[list[Call], int]:
    if text[_skip(text, opening.end(), r"\s*") :].startswith(("[{", "{", "[ {", "[\n", "[]")):
        value, place = _json_at(text, opening.end())
        if not value:
            raise Unread("the call has no name")
        return _values_to_calls(value), place
    name = re.compile(r"\s*(?P<name>[^\s\[\]{}]+)\s*(?:\[CALL_ID\]\s*[^\s\[\]{}]*)?\s*(?:\[ARGS\])?(?=\s*\{)")
    return _read_named_json(text, opening, schemas, name=name, closing="", again="")


_TYPES: dict[str, Callable[[Any], bool]] = {
    "integer": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "null": lambda value: value is None,
}


def _types(schema: Any) -> list[str]:
    """The types that a JSON Schema allows, in its order; none where it does not tell."""
    if not isinstance(schema, dict):
        return []
    if "type" in schema:
        told = schema["type"]
        return [str(each).lower() for each in (told if isinstance(told, list) else [told])]
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(key), list):
            return list(dict.fromkeys(each for part in schema[key] for each in _types(part)))
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if isinstance(values, list) and values:
        kinds = [("string", str), ("boolean", bool), ("number", int | float), ("null", type(None))]
        return list(dict.fromkeys(next((n for n, k in kinds if isinstance(each, k)), "object") for each in values))
    return []


def _text_to_literal(text: str) -> Any:
    """A text as JSON or as a Python literal says it; the text itself where it is neither."""
    stripped = text.strip()
    named = {"True": True, "False": False, "None": None}
    if stripped in named:
        return named[stripped]
    try:
        return json_to_object(stripped)
    except ValueError:
        pass
    if stripped[:1] in ("{", "[", "("):
        try:
            return json_to_object(json.dumps(ast.literal_eval(stripped), ensure_ascii=False))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
    try:
        return int(stripped) if re.fullmatch(r"[+-]?\d+", stripped) else text
    except ValueError:
        return text


def _typed(text: str, schema: Any) -> Any:
    """An argument that was written as text, in the type that the tool's schema names: a string stays as it was written."""
    types = _types(schema)
    value = _text_to_literal(text)
    if not types:
        return value
    if value is None and "null" in types:
        return None
    for each in types:
        if each not in _TYPES:  # a string, or a type that JSON does not know
            return text
        if _TYPES[each](value):
            return value
    return text


def _add(arguments: dict[str, Any], key: str, value: Any) -> None:
    if key in arguments:
        raise Unread(f"the call gives argument {key!r:.80} twice")
    arguments[key] = value


def _end_of_value(
    text: str,
    start: int,
    closing: str,
    following: re.Pattern[str],
    is_border: Callable[[int], bool] = lambda place: False,
) -> int:
    """Where a value ends: at the first closing tag after which the call goes on as calls do, or that is one for another reason
    (`is_border`). Any other one is text."""
    place = start
    while (place := text.find(closing, place)) >= 0:
        if following.match(text, place + len(closing)) or is_border(place):
            return place
        place += len(closing)
    raise Unread("the call is not closed: an argument has no end")


_NEXT_PARAMETER = re.compile(r"</parameter>[ \t]*\n[ \t]*<parameter=([^\s<>]+)>(?=.*?</parameter>)", re.DOTALL)


def _read_function_xml(text: str, opening: re.Match[str], schemas: Schemas, *, lines: bool) -> tuple[list[Call], int]:
    """`<function=f><parameter=p>value</parameter></function>`; with `lines`, a value stands on lines of its own."""
    name, arguments = opening["name"].strip(), dict[str, Any]()
    properties = schemas.get(name, {})
    place = opening.end()
    ended = r"\s*</function>\s*(?:</(?:seed:)?tool_call>|<(?:seed:)?tool_call>|<function=|\Z)"
    while (parameter := re.compile(r"\s*<parameter=([^>\n]+)>").match(text, place)) is not None:
        key = parameter[1].strip()
        left = [re.escape(each) for each in properties if each != key and each not in arguments]
        others = "|".join(left) if key in properties else r"[^>\n]+"
        following = re.compile(rf"{ended}" + (rf"|\s*<parameter=(?:{others})>" if others else ""))

        def is_border(place: int, begins: int = parameter.end(), given: tuple[str, ...] = (key, *arguments)) -> bool:
            """Whether lines show that a parameter which the tool does not have comes next."""
            found = _NEXT_PARAMETER.match(text, place)
            in_lines = text.startswith("\n", begins)
            return found is not None and found[1] not in given and (not in_lines or text[place - 1] == "\n")

        try:
            end = _end_of_value(text, parameter.end(), "</parameter>", following, is_border)
        except Unread:  # a parameter that the tool does not have comes next
            end = _end_of_value(text, parameter.end(), "</parameter>", re.compile(rf"{ended}|\s*<parameter=[^>\n]+>"))
        value = text[parameter.end() : end]
        if lines:
            value = value.removeprefix("\n").removesuffix("\n")
        _add(arguments, key, _typed(value, properties.get(key)))
        place = end + len("</parameter>")
    closed = re.compile(r"\s*</function>").match(text, place)
    if closed is None:
        raise Unread("the call is not closed: </function> is missing")
    return [(name, arguments)], _skip(text, closed.end(), r"\s*</(?:seed:)?tool_call>")


def _read_glm(text: str, opening: re.Match[str], schemas: Schemas) -> tuple[list[Call], int]:
    name, arguments = opening["name"].strip(), dict[str, Any]()
    properties = schemas.get(name, {})
    place = opening.end()
    while (pair := re.compile(r"\s*<arg_key>(.*?)</arg_key>\s*<arg_value>", re.DOTALL).match(text, place)) is not None:
        end = _end_of_value(
            text, pair.end(), "</arg_value>", re.compile(r"\s*(?:<arg_key>|</tool_call>|<tool_call>|\Z)")
        )
        _add(arguments, pair[1], _typed(text[pair.end() : end], properties.get(pair[1])))
        place = end + len("</arg_value>")
    closed = re.compile(r"\s*(?:</tool_call>|(?=<tool_call>)|\Z)").match(text, place)
    if closed is None or (not arguments and "</tool_call>" not in closed[0]):
        raise Unread("the call is not closed: </tool_call> is missing")
    return [(name, arguments)], closed.end()


def _read_invokes(text: str, opening: re.Match[str], schemas: Schemas) -> tuple[list[Call], int]:
    """`<invoke name="f"><parameter name="p">value</parameter></invoke>`, each tag with the family's prefix."""
    calls: list[Call] = []
    place = opening.end()
    invoke = re.compile(rf'\s*(?:{_CALL_BEGIN}[^<]*{_SEP})?\s*<(?P<prefix>[｜\w]*:?)invoke name="(?P<name>[^"]+)">')
    while (begun := invoke.match(text, place)) is not None:
        prefix, name = re.escape(begun["prefix"]), begun["name"]
        properties, arguments = schemas.get(name, {}), dict[str, Any]()
        place = begun.end()
        parameter = re.compile(rf'\s*<{prefix}parameter name="(?P<key>[^"]+)"(?: string="(?P<string>true|false)")?>')
        following = re.compile(rf'\s*(?:<{prefix}parameter name="|</{prefix}invoke>)')
        closing = f"</{begun['prefix']}parameter>"
        while (found := parameter.match(text, place)) is not None:
            end = _end_of_value(text, found.end(), closing, following)
            value = text[found.end() : end]
            typed = (
                value
                if found["string"] == "true"
                else _text_to_literal(value)
                if found["string"]
                else _typed(value, properties.get(found["key"]))
            )
            _add(arguments, found["key"], typed)
            place = end + len(closing)
        closed = re.compile(rf"\s*</{prefix}invoke>\s*(?:{_CALL_END})?").match(text, place)
        if closed is None:
            raise Unread("the call is not closed: </invoke> is missing")
        calls.append((name, arguments))
        place = closed.end()
    if not calls:
        raise Unread("the call has no name")
    closing = rf"\s*(?:</[｜\w]*:?(?:tool_call|function_calls|tool_calls)>|{_CALLS_END})"
    closed = re.compile(closing).match(text, place)
    if closed is None and text[place:].strip():
        raise Unread("the call is not closed")
    return calls, closed.end() if closed else len(text)


class _Gemma:
    """`{key:<|"|>text<|"|>,other:[1,true]}`: JSON with bare keys and texts between delimiters that JSON does not have."""

    def __init__(self, text: str, place: int, delimiter: str) -> None:
        self.text, self.place, self.delimiter = text, place, delimiter

    def _takes(self, expected: str) -> bool:
        self.place = _skip(self.text, self.place, r"\s*")
        if not self.text.startswith(expected, self.place):
            return False
        self.place += len(expected)
        return True

    def _delimited(self) -> str:
        text, closed, _ = self.text[self.place :].partition(self.delimiter)
        if not closed:
            raise Unread("the call is not closed: a text has no end")
        self.place += len(text) + len(self.delimiter)
        return text

    def object(self, depth: int = 0) -> dict[str, Any]:
        """Keys and values after an opening brace."""
        found: dict[str, Any] = {}
        while not self._takes("}"):
            if found and not self._takes(","):
                raise Unread("the call is not closed: its arguments have no end")
            if self._takes(self.delimiter):
                key = self._delimited()
                named = self._takes(":")
            else:
                key, colon, _ = self.text[self.place :].partition(":")
                named = bool(colon)
                self.place += len(key) + 1
            if not named:
                raise Unread("the call is not closed: its arguments have no end")
            _add(found, key, self.value(depth + 1))
        return found

    def value(self, depth: int) -> Any:
        """One value. A bare word is a number, a constant, or text."""
        if depth > 100:
            raise Unread("the call's arguments are nested deeper than 100 levels")
        if self._takes(self.delimiter):
            return self._delimited()
        if self._takes("{"):
            return self.object(depth)
        if self._takes("["):
            items: list[Any] = []
            while not self._takes("]"):
                if items and not self._takes(","):
                    raise Unread("the call is not closed: a list has no end")
                items.append(self.value(depth + 1))
            return items
        found = re.compile(r"[^,}\]]*").match(self.text, self.place)
        bare = found[0] if found else ""
        self.place += len(bare)
        if self.place >= len(self.text):
            raise Unread("the call is not closed: its arguments have no end")
        return _text_to_literal(bare.strip())


def _read_gemma(
    text: str, opening: re.Match[str], schemas: Schemas, *, delimiter: str, closing: str
) -> tuple[list[Call], int]:
    parser = _Gemma(text, opening.end(), delimiter)
    name, arguments = opening["name"], parser.object()
    properties = schemas.get(name, {})
    # A bare word where the schema wants a string was meant as one.
    for key, value in arguments.items():
        types = _types(properties.get(key))
        if types == ["string"] and isinstance(value, bool | int | float):
            arguments[key] = json.dumps(value)
    end = _skip(text, parser.place, r"\s*")
    if text.startswith(closing, end):
        return [(name, arguments)], end + len(closing)
    if end < len(text) and not opening.re.match(text, end):
        raise Unread(f"the call is not closed: {closing} is missing")
    return [(name, arguments)], end


class _Python:
    """`[f(a=1, b="x"), g()]`. `raw`: as LFM2.5 writes it, texts in single quotes without any escape."""

    def __init__(self, text: str, place: int, schemas: Schemas, *, raw: bool) -> None:
        self.text, self.place, self.schemas, self.raw = text, place, schemas, raw

    def _takes(self, expected: str) -> bool:
        self.place = _skip(self.text, self.place, r"\s*")
        if not self.text.startswith(expected, self.place):
            return False
        self.place += len(expected)
        return True

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
        self.place = _skip(self.text, self.place, r"\s*")
        named = re.compile(rf"({_NAME})\(").match(self.text, self.place)
        if named is None:
            raise Unread("the call is not closed, or has no name")
        self.place = named.end()
        properties, arguments = self.schemas.get(named[1], {}), dict[str, Any]()
        known = "|".join(map(re.escape, properties)) or _NAME
        following = rf"\s*(?:\)\s*(?:[,\])\n]|\Z)|,\s*(?:{known})\s*=|,\s*\))"
        while not self._takes(")"):
            if arguments and not self._takes(","):
                raise Unread("the call is not closed: its arguments have no end")
            if self._takes(")"):
                break
            self.place = _skip(self.text, self.place, r"\s*")
            keyed = re.compile(rf"({_NAME})\s*=\s*").match(self.text, self.place)
            if keyed is None:
                raise Unread("the call has an argument without a name, or no end")
            self.place = keyed.end()
            _add(arguments, keyed[1], self.value(properties.get(keyed[1]), following, 0))
        return named[1], arguments

    def value(self, schema: Any, following: str, depth: int) -> Any:
        """One value, after which comes what `following` matches."""
        if depth > 100:
            raise Unread("the call's arguments are nested deeper than 100 levels")
        self.place = _skip(self.text, self.place, r"\s*")
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
        found = re.compile(r"[^,)\]}\n]*").match(self.text, self.place)
        bare = (found[0] if found else "").strip()
        self.place += len(found[0]) if found else 0
        value = _text_to_literal(bare)
        if isinstance(value, str) and "string" not in _types(schema):
            raise Unread(f"the call's argument is no literal: {bare!r:.80}")
        if _types(schema) == ["string"] and not isinstance(value, str) and value is not None:
            return bare
        return value

    def _string(self, quote: str, following: str) -> str:
        start = self.place + 1
        if self.raw and quote == "'":
            end = _end_of_value(self.text, start, quote, re.compile(following))
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

    def _list(self, depth: int) -> list[Any]:
        items: list[Any] = []
        while not self._takes("]"):
            if items and not self._takes(","):
                raise Unread("the call is not closed: a list has no end")
            if self._takes("]"):
                break
            items.append(self.value(None, r"\s*[,\]]", depth + 1))
        return items

    def _dict(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self._takes("}"):
            if found and not self._takes(","):
                raise Unread("the call is not closed: an object has no end")
            if self._takes("}"):
                break
            self.place = _skip(self.text, self.place, r"\s*")
            if self.text[self.place : self.place + 1] not in ("'", '"'):
                raise Unread("the call is not closed: an object has no end")
            key = self._string(self.text[self.place], r"\s*:")
            if not self._takes(":"):
                raise Unread("the call is not closed: an object has no end")
            _add(found, key, self.value(None, r"\s*[,}]", depth + 1))
        return found


def _read_python(
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
    end = _skip(text, parser.place, r"\s*")
    if not text.startswith(closing, end) and end < len(text):
        raise Unread(f"the call is not closed: {closing} is missing")
    return calls, end + len(closing)


def _read_builtin(text: str, opening: re.Match[str], schemas: Schemas) -> tuple[list[Call], int]:
    """Llama's own tools: `brave_search.call(query="...")`."""
    calls, place = _read_python(text, opening, schemas, until="")
    return [(name if name in schemas else name.removesuffix(".call"), arguments) for name, arguments in calls], place


def _read_tool_code(text: str, opening: re.Match[str], schemas: Schemas) -> tuple[list[Call], int]:
    """Gemma 3: Python in a fence of its own, perhaps inside of `print()`."""
    body, fenced, _ = text[opening.end() :].partition("```")
    if not fenced:
        raise Unread("the call is not closed: the fence has no end")
    calls: list[Call] = []
    parser = _Python(body.strip(), 0, schemas, raw=False)
    while parser.place < len(parser.text):
        printed = re.compile(r"\s*print\((?=[^()]*\()").match(parser.text, parser.place)
        parser.place = printed.end() if printed else _skip(parser.text, parser.place, r"\s*(?:\w+\s*=\s*)?")
        is_list = parser.text.startswith("[", parser.place)
        parser.place += is_list
        calls += parser.calls("]" if is_list else "")
        parser.place = _skip(parser.text, parser.place, r"\s*\)?\s*" if printed else r"\s*")
    return calls, opening.end() + len(body) + 3


_HARMONY = re.compile(r"\s*(?:<\|start\|>assistant|<\|channel\|>|to=[^\s<]+\s*(?:json\s*)?<\||<\|message\|>)")


def _harmony_to_turn(text: str, schemas: Schemas) -> Written | None:
    """gpt-oss (and Muse): messages with channels, of which those with a recipient are calls.

    Raises:
        Unread: if a message has no header or no end, or there is neither a final message nor a call.
    """
    if "<|message|>" not in text and not _HARMONY.match(text):
        return None
    calls: list[Call] = []
    words: list[str] = []
    thoughts: list[str] = []
    alone = True
    for part in re.split(
        r"(?:<\|end\|>|<\|call\|>|<\|return\|>|<\|eot\|>|<\|eom\|>)(?=\s*(?:<\|start\|>|<\|channel\|>|\Z))", text
    ):
        if not part.strip():
            continue
        header, has_body, body = part.partition("<|message|>")
        if not has_body:
            raise Unread("a message of harmony has no body")
        if "<|start|>assistant" in body or "<|channel|>" in body:
            raise Unread("a message of harmony has no end")
        header = header.replace("<|start|>assistant", " ")
        channel = re.search(r"<\|channel\|>\s*(\w+)", header)
        recipient = re.search(r"\bto=([^\s<]+)", header)
        if recipient and recipient[1] == "self":  # Muse thinks so
            thoughts.append(body)
        elif recipient and recipient[1] not in ("all", "user", "assistant"):
            calls.append(_harmony_call(recipient[1], body, schemas))
        elif (channel and channel[1] == "analysis") or (not channel and "<|channel|>" in header):
            thoughts.append(body)
        else:
            alone = alone and not calls
            words.append(body)
    if not calls and not words:
        raise Unread("harmony's turn has neither a final message nor a call")
    return Written(calls, "\n".join(words), "", alone, "\n".join(thoughts))


def _harmony_call(recipient: str, body: str, schemas: Schemas) -> Call:
    name = recipient if recipient in schemas else recipient.removeprefix("functions.")
    invokes = _INVOKES.match(body.lstrip())
    if invokes is not None:
        [(_, arguments), *_] = _read_invokes(body.lstrip(), invokes, schemas)[0]
        return name, arguments
    try:
        return name, to_arguments(body)
    except Unread as error:
        raise Unread(str(error)) from None


def _tagged(name: str, family: str, opening: str, closing: str) -> Form:
    """A form of JSON between tags, which are given as they are written."""
    begins = re.compile(re.escape(opening) + r"(?=\s*(?:[{\[]|\Z))")
    tags = (opening, closing) if closing else (opening,)
    return Form(name, family, begins, partial(_read_json, closing=re.escape(closing)), tags=tags)


def _named(
    name: str, family: str, opening: str, named: str, closing: str, again: str = "", tags: tuple[str, ...] = ()
) -> Form:
    """A form of JSON after a name, all given as patterns."""
    read = partial(_read_named_json, name=re.compile(named), closing=closing, again=again)
    return Form(name, family, re.compile(opening), read, tags=tags)


_INVOKES = re.compile(
    r"<(?:minimax:tool_call|atem:function_calls|function_calls|[｜|]DSML[｜|](?:function_calls|tool_calls))>(?=\s*<[｜\w]*:?invoke\b)"
)
_DEEPSEEK_TAGS = tuple(f"<｜tool▁{word}｜>" for word in ("calls▁begin", "call▁begin", "sep", "call▁end", "calls▁end"))
HERMES = _tagged("hermes", "qwen", "<tool_call>", "</tool_call>")


CALL_FORMS: tuple[Form, ...] = (
    Form(
        "qwen-xml", "qwen", re.compile(
            r"(?:<tool_call>\s*|(?<!<seed:tool_call>)(?<!<seed:tool_call>\n))"
            r"<function=(?P<name>[^>\n]+)>(?=\s*(?:<parameter=|</function>))"
        ),
        partial(_read_function_xml, lines=True), tags=("<tool_call>", "</tool_call>"),
    ),
    Form(
        "glm", "glm", re.compile(r"<tool_call>\s*(?P<name>[^\s<>{}\[\]\"']+)(?=\s*(?:<arg_key>|</tool_call>))"), _read_glm,
        tags=("<tool_call>", "</tool_call>"),
    ),
    HERMES,
    Form("harmony", "harmony", _HARMONY, _read_bare_json, tags=("<|channel|>", "<|message|>", "<|start|>")),
    Form(
        "llama-json", "llama", re.compile(r'(?=(?:\[\s*)?\{\s*"(?:type|name|function|id|parameters|arguments)"\s*:)'),
        _read_bare_json, bare=True,
    ),
    _tagged("python-tag", "llama", "<|python_tag|>", ""),
    Form(
        "python-tag-call", "llama", re.compile(rf"<\|python_tag\|>\s*(?={_NAME}\()"), _read_builtin,
    ),
    _named(
        "function-tag", "llama", r"<function=(?=[^>\n]+>\s*(?:\{|\Z))", r"(?P<name>[^>\n]+)>(?=\s*\{)",
        r"\s*(?:</function>|<function>)?",
    ),
    Form("pythonic", "llama", re.compile(rf"\A\s*\[(?=\s*{_NAME}\()"), partial(_read_python, until="]"), bare=True),
    Form(
        "python-start", "llama", re.compile(r"<\|python_start\|>\s*\["),
        partial(_read_python, until="]", closing="<|python_end|>"), tags=("<|python_start|>", "<|python_end|>"),
    ),
    Form(
        "lfm2", "lfm2", re.compile(r"<\|tool_call_start\|>\s*\["),
        partial(_read_python, until="]", closing="<|tool_call_end|>"), tags=("<|tool_call_start|>", "<|tool_call_end|>"),
    ),
    Form(
        "lfm2-raw", "lfm2", re.compile(r"<\|tool_call_start\|>\s*\["),
        partial(_read_python, until="]", closing="<|tool_call_end|>", raw=True),
        tags=("<|tool_call_start|>", "<|tool_call_end|>"),
    ),
    Form(
        "olmo3", "olmo", re.compile(rf"<function_calls>(?=\s*{_NAME}\()"), partial(_read_python, until="</function_calls>"),
        tags=("<function_calls>", "</function_calls>"),
    ),
    Form("mistral", "mistral", re.compile(r"\[TOOL_CALLS\]"), _read_mistral, tags=("[TOOL_CALLS]",)),
    _named(
        "deepseek-v3", "deepseek", rf"(?:{_CALLS_BEGIN}\s*)?{_CALL_BEGIN}(?=\s*\w+\s*{_SEP}[^\n]+\n+```)",
        rf"\s*\w+\s*{_SEP}(?P<name>[^\s`]+)\s*```(?:json)?(?=\s*\{{)",
        rf"\s*```\s*(?:{_CALL_END})?(?:\s*{_CALLS_END})?", rf"\s*{_CALL_BEGIN}",
        tags=_DEEPSEEK_TAGS,
    ),
    _named(
        "deepseek-v3.1", "deepseek", rf"(?:{_CALLS_BEGIN}\s*)?{_CALL_BEGIN}(?=[^<]+{_SEP}\s*\{{)",
        rf"\s*(?P<name>[^\s<]+)\s*{_SEP}", rf"\s*(?:{_CALL_END})?(?:\s*{_CALLS_END})?", rf"\s*{_CALL_BEGIN}",
        tags=_DEEPSEEK_TAGS,
    ),
    Form("step3", "step", re.compile(rf"{_CALLS_BEGIN}(?=\s*{_CALL_BEGIN}[^<]*{_SEP}\s*<steptml:invoke)"), _read_invokes),
    Form("invoke", "invoke", _INVOKES, _read_invokes),
    _named(
        "kimi-k2", "kimi", r"(?:<\|tool_calls?_section_begin\|>\s*)?<\|tool_call_begin\|>",
        r"\s*(?:functions\.)?(?P<name>[^\s<]+?)(?::\d+)?\s*<\|tool_call_argument_begin\|>",
        r"\s*(?:<\|tool_call_end\|>)?(?:\s*<\|tool_calls?_section_end\|>)?", r"\s*<\|tool_call_begin\|>",
        tags=("<|tool_calls_section_begin|>", "<|tool_call_begin|>", "<|tool_call_argument_begin|>"),
    ),
    Form(
        "seed", "seed", re.compile(r"<seed:tool_call>\s*<function=(?P<name>[^>\n]+)>"),
        partial(_read_function_xml, lines=False), tags=("<seed:tool_call>", "</seed:tool_call>"),
    ),
    Form(
        "gemma4", "gemma", re.compile(r"<\|tool_call>\s*call:(?P<name>[^\s{]+)\s*\{"),
        partial(_read_gemma, delimiter='<|"|>', closing="<tool_call|>"), tags=("<|tool_call>", "<tool_call|>"),
    ),
    Form(
        "functiongemma", "gemma", re.compile(r"<start_function_call>\s*call:(?P<name>[^\s{]+)\s*\{"),
        partial(_read_gemma, delimiter="<escape>", closing="<end_function_call>"),
        tags=("<start_function_call>", "<end_function_call>"),
    ),
    Form("tool-code", "gemma", re.compile(r"```tool_code[ \t]*\n"), _read_tool_code),
    _tagged("tool-calls", "tool-calls", "<tool_calls>", "</tool_calls>"),  # MiniMax M1, Hunyuan, Jamba
    _tagged("phi4-granite", "granite", "<|tool_call|>", "<|/tool_call|>"),
    _tagged("granite-function", "granite", "<function_call>", "</function_call>"),
    Form("functools", "phi", re.compile(r"functools(?=\s*\[\s*\{)"), partial(_read_json, closing="")),
    Form(
        "internlm", "internlm", re.compile(r"<\|action_start\|>\s*<\|plugin\|>"),
        partial(_read_json, closing=r"<\|action_end\|>"),
        tags=("<|action_start|>", "<|plugin|>", "<|action_end|>"),
    ),
    _tagged("cohere", "cohere", "<|START_ACTION|>", "<|END_ACTION|>"),
    _tagged("nemotron", "nemotron", "<TOOLCALL>", "</TOOLCALL>"),
    _tagged("longcat", "longcat", "<longcat_tool_call>", "</longcat_tool_call>"),
    _tagged("gigachat", "gigachat", "<|function_call|>", ""),
    Form("apertus", "apertus", re.compile(r"<\|tools_prefix\|>"), _read_apertus, tags=("<|tools_prefix|>", "<|tools_suffix|>")),
    Form("fenced-json", "xlam", re.compile(r"\A\s*```(?:json)?\s*\n(?=\s*[{\[])"), _read_fenced_json, bare=True),
)  # fmt: skip
"""The documented ways to write calls, in the order in which they are tried. docs/replies.md shows each."""
