"""Calls whose arguments are texts between tags. An argument has the type that the tool's schema names, and a string keeps its
edges."""

from __future__ import annotations

import re
from typing import Any

from data.rendering.call_forms.form import Call, Schemas, Unread, add_argument, end_of_value, skip
from data.rendering.call_forms.typed import text_to_literal, text_to_typed

_BAR, _JOIN = "[｜|]", "[▁_ ]"
CALLS_BEGIN, CALL_BEGIN, SEP, CALL_END, CALLS_END = (
    f"<{_BAR}tool{_JOIN}{word}{_BAR}>"
    for word in (f"calls{_JOIN}begin", f"call{_JOIN}begin", "sep", f"call{_JOIN}end", f"calls{_JOIN}end")
)
INVOKES = re.compile(
    r"<(?:minimax:tool_call|atem:function_calls|function_calls|[｜|]DSML[｜|](?:function_calls|tool_calls))>(?=\s*<[｜\w]*:?invoke\b)"
)
_NEXT_PARAMETER = re.compile(r"</parameter>[ \t]*\n[ \t]*<parameter=([^\s<>]+)>(?=.*?</parameter>)", re.DOTALL)


def read_function_xml(text: str, opening: re.Match[str], schemas: Schemas, *, lines: bool) -> tuple[list[Call], int]:
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
            end = end_of_value(text, parameter.end(), "</parameter>", following, is_border)
        except Unread:  # a parameter that the tool does not have comes next
            end = end_of_value(text, parameter.end(), "</parameter>", re.compile(rf"{ended}|\s*<parameter=[^>\n]+>"))
        value = text[parameter.end() : end]
        if lines:
            value = value.removeprefix("\n").removesuffix("\n")
        add_argument(arguments, key, text_to_typed(value, properties.get(key)))
        place = end + len("</parameter>")
    closed = re.compile(r"\s*</function>").match(text, place)
    if closed is None:
        raise Unread("the call is not closed: </function> is missing")
    return [(name, arguments)], skip(text, closed.end(), r"\s*</(?:seed:)?tool_call>")


def read_glm(text: str, opening: re.Match[str], schemas: Schemas) -> tuple[list[Call], int]:
    """`f<arg_key>p</arg_key><arg_value>value</arg_value></tool_call>`."""
    name, arguments = opening["name"].strip(), dict[str, Any]()
    properties = schemas.get(name, {})
    place = opening.end()
    while (pair := re.compile(r"\s*<arg_key>(.*?)</arg_key>\s*<arg_value>", re.DOTALL).match(text, place)) is not None:
        end = end_of_value(
            text, pair.end(), "</arg_value>", re.compile(r"\s*(?:<arg_key>|</tool_call>|<tool_call>|\Z)")
        )
        add_argument(arguments, pair[1], text_to_typed(text[pair.end() : end], properties.get(pair[1])))
        place = end + len("</arg_value>")
    closed = re.compile(r"\s*(?:</tool_call>|(?=<tool_call>)|\Z)").match(text, place)
    if closed is None or (not arguments and "</tool_call>" not in closed[0]):
        raise Unread("the call is not closed: </tool_call> is missing")
    return [(name, arguments)], closed.end()


def read_invokes(text: str, opening: re.Match[str], schemas: Schemas) -> tuple[list[Call], int]:
    """`<invoke name="f"><parameter name="p">value</parameter></invoke>`, each tag with the family's prefix."""
    calls: list[Call] = []
    place = opening.end()
    invoke = re.compile(rf'\s*(?:{CALL_BEGIN}[^<]*{SEP})?\s*<(?P<prefix>[｜\w]*:?)invoke name="(?P<name>[^"]+)">')
    while (begun := invoke.match(text, place)) is not None:
        prefix, name = re.escape(begun["prefix"]), begun["name"]
        properties, arguments = schemas.get(name, {}), dict[str, Any]()
        place = begun.end()
        parameter = re.compile(rf'\s*<{prefix}parameter name="(?P<key>[^"]+)"(?: string="(?P<string>true|false)")?>')
        following = re.compile(rf'\s*(?:<{prefix}parameter name="|</{prefix}invoke>)')
        closing = f"</{begun['prefix']}parameter>"
        while (found := parameter.match(text, place)) is not None:
            end = end_of_value(text, found.end(), closing, following)
            value = text[found.end() : end]
            typed = (
                value
                if found["string"] == "true"
                else text_to_literal(value)
                if found["string"]
                else text_to_typed(value, properties.get(found["key"]))
            )
            add_argument(arguments, found["key"], typed)
            place = end + len(closing)
        closed = re.compile(rf"\s*</{prefix}invoke>\s*(?:{CALL_END})?").match(text, place)
        if closed is None:
            raise Unread("the call is not closed: </invoke> is missing")
        calls.append((name, arguments))
        place = closed.end()
    if not calls:
        raise Unread("the call has no name")
    closing = rf"\s*(?:</[｜\w]*:?(?:tool_call|function_calls|tool_calls)>|{CALLS_END})"
    closed = re.compile(closing).match(text, place)
    if closed is None and text[place:].strip():
        raise Unread("the call is not closed")
    return calls, closed.end() if closed else len(text)
