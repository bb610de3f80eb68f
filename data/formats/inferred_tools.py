"""Tools of logs that hold no definitions: those of a file of the user's, else what the calls show of them.

An inferred schema says what was seen and no more: the types of arguments, which ones every call gave, and never an enum. The
names of such tools stand in `Chat.inferred_tools`, so that nobody takes them for what the agent was told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from core.errors import UserError, first_line
from core.json_lines import json_to_object
from data.chats import Chat, ToolCall
from data.formats.parts import Unrepresentable, tools_of
from data.records import ToolFunction, ToolSpec

_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
    (type(None), "null"),
)


def _type_of(value: Any) -> str:
    return next(name for kind, name in _TYPES if isinstance(value, kind))


def _schema_of(values: Sequence[Any]) -> dict[str, Any]:
    kinds = list(dict.fromkeys(map(_type_of, values)))
    if "number" in kinds and "integer" in kinds:
        kinds.remove("integer")
    schema: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds}
    items = [item for value in values if isinstance(value, list) for item in value]
    if items:
        schema["items"] = _schema_of(items)
    objects = [value for value in values if isinstance(value, dict)]
    if any(objects):
        schema |= _object_of(objects)
    return schema


def _object_of(objects: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for each in objects for name in each))
    return {
        "properties": {name: _schema_of([each[name] for each in objects if name in each]) for name in names},
        "required": [name for name in names if all(name in each for each in objects)],
    }


def calls_to_tools(calls: Iterable[ToolCall]) -> list[ToolSpec]:
    """The tools that were called, in the order of their first calls."""
    given: dict[str, list[dict[str, Any]]] = {}
    for call in calls:
        given.setdefault(call.name, []).append(call.arguments)
    return [
        ToolSpec(function=ToolFunction(name=name, parameters={"type": "object", **_object_of(arguments)}))
        for name, arguments in given.items()
    ]


def with_inferred_tools(chats: Sequence[Chat]) -> list[Chat]:
    """Chats of one log, each with the tools that it calls and does not declare, as the calls of all of them show them."""
    inferred = calls_to_tools(call for chat in chats for message in chat.messages for call in message.tool_calls)
    made = []
    for chat in chats:
        missing = _undeclared(chat)
        added = tuple(tool for tool in inferred if tool.function.name in missing)
        names = (*chat.inferred_tools, *(tool.function.name for tool in added))
        update = {"tools": (*chat.tools, *added), "inferred_tools": names}
        made.append(chat.model_copy(update=update) if added else chat)
    return made


def with_declared_tools(chat: Chat, declared: Sequence[ToolSpec]) -> Chat:
    """A chat with tools of the user's in the place of inferred ones: all of them where it declares none itself, else those
    that it calls."""
    own = [tool for tool in chat.tools if tool.function.name not in chat.inferred_tools]
    names = {tool.function.name for tool in own}
    called = {call.name for message in chat.messages for call in message.tool_calls}
    own += [tool for tool in declared if not names or (tool.function.name in called - names)]
    names = {tool.function.name for tool in own}
    left = [
        tool for tool in chat.tools if tool.function.name in chat.inferred_tools and tool.function.name not in names
    ]
    inferred = tuple(tool.function.name for tool in left)
    return chat.model_copy(update={"tools": (*own, *left), "inferred_tools": inferred})


def _undeclared(chat: Chat) -> set[str]:
    called = {call.name for message in chat.messages for call in message.tool_calls}
    return called - {tool.function.name for tool in chat.tools}


def read_tools(path: Path) -> tuple[ToolSpec, ...]:
    """The definitions in a JSON file: a list of them in any usual style, or an object with such a list under `tools`.

    Raises:
        UserError: for a file that is missing, no JSON, or holds something else.
    """
    try:
        value = json_to_object(path.read_text(encoding="utf-8"))
        tools = tools_of(value["tools"] if isinstance(value, dict) and "tools" in value else value)
    except OSError as error:
        raise UserError(f"--tools {path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"--tools {path}: no JSON: {first_line(error)}") from None
    except Unrepresentable as reason:
        raise UserError(
            f"--tools {path}: {reason}; expected a list of definitions as OpenAI's or Anthropic's API takes them"
        ) from None
    names = [tool.function.name for tool in tools]
    if not tools or len(set(names)) < len(names):
        what = f"{next(name for name in names if names.count(name) > 1)!r} stands twice" if tools else "holds no tool"
        raise UserError(f"--tools {path}: {what}")
    return tools
