"""Tools that answer as they were recorded. A call that nobody recorded makes the episode invalid."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import JsonValue

from benchmark.worlds.own.toolsets.toolset import Hints, ServersFault
from benchmark.worlds.world import ToolResult
from core.errors import UserError, nearest
from core.json_lines import BadLine, read_jsonl
from data.records import ToolFunction, ToolSpec

_KEYS = ("name", "arguments", "result", "error", "description", "parameters")
_TYPES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
    type(None): "null",
}


class LookupToolset:
    """Results by tool and arguments.

    A line is `{name, arguments, result}` or `{name, arguments, error}`; `tool` is read as `name`. A line without both may
    give a tool's `description` and `parameters`; else these are taken from the arguments that were recorded.
    """

    def __init__(self, path: Path) -> None:
        self.hints: Mapping[str, Hints] = {}
        self.asked_back = 0
        self._path = path
        self._results: dict[tuple[str, str], tuple[int, ToolResult]] = {}
        self._arguments: dict[str, list[dict[str, Any]]] = {}
        self._declared: dict[str, dict[str, Any]] = {}
        for number, row in read_jsonl(path):
            self._add(f"{path}:{number}", number, row)
        self.tools: tuple[ToolSpec, ...] = tuple(self._spec(name) for name in self._arguments)

    def _add(self, where: str, number: int, row: Any) -> None:
        if isinstance(row, BadLine):
            raise UserError(str(row))
        if not isinstance(row, dict):
            raise UserError(f"{where}: expected an object, got {type(row).__name__}")
        row = {"name" if key == "tool" else key: value for key, value in row.items()}
        for key in row:
            if key not in _KEYS:
                raise UserError(f"{where}: field {key!r} is unknown.{nearest(key, _KEYS)}")
        name, arguments = row.get("name"), row.get("arguments", {})
        if not isinstance(name, str) or not name:
            raise UserError(f"{where}: field 'name' must be the tool's name, got {name!r}")
        if not isinstance(arguments, dict):
            raise UserError(f"{where}: field 'arguments' must be an object, got {arguments!r}")
        recorded = self._arguments.setdefault(name, [])
        if "description" in row or "parameters" in row:
            self._declared[name] = {key: row[key] for key in ("description", "parameters") if key in row}
        if "result" not in row and "error" not in row:
            if name not in self._declared:
                raise UserError(f"{where}: expected result or error")
            return
        error = row.get("error")
        if error is not None and not isinstance(error, str):
            raise UserError(f"{where}: field 'error' must be text, got {error!r}")
        result = ToolResult(output=None if error is not None else row.get("result"), error=error)
        recorded.append(arguments)
        line, known = self._results.setdefault((name, _key(arguments)), (number, result))
        if known != result:
            raise UserError(f"{where}: the call of line {line}, with another result: a lookup has one for each")

    def _spec(self, name: str) -> ToolSpec:
        declared = self._declared.get(name, {})
        parameters = declared.get("parameters") or _recorded_schema(self._arguments[name])
        function = ToolFunction(name=name, description=declared.get("description", ""), parameters=parameters)
        return ToolSpec(function=function)

    def open(self) -> None:
        """Nothing is started."""

    def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """What was recorded.

        Raises:
            ServersFault: nothing was.
        """
        found = self._results.get((name, _key(arguments)))
        if found is None:
            shown = json.dumps(arguments, ensure_ascii=False)[:200]
            raise ServersFault("unrecorded", f"{self._path.name} holds no result of {name} {shown}")
        return found[1]

    def reset(self) -> None:
        """Nothing changes."""

    def reward(self) -> float | None:
        return None

    def close(self) -> None:
        """Nothing was started."""


def _key(arguments: Mapping[str, Any]) -> str:
    """The same for arguments that are equal as JSON: order of keys and 1.0 for 1 make no difference."""
    return json.dumps(_plain(arguments), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return value


def _recorded_schema(calls: list[dict[str, Any]]) -> dict[str, JsonValue]:
    """The narrowest plain schema that all recorded arguments have."""
    properties: dict[str, JsonValue] = {}
    for key in dict.fromkeys(key for call in calls for key in call):
        kinds = sorted({_TYPES[type(call[key])] for call in calls if key in call})
        properties[key] = {"type": cast(JsonValue, kinds[0] if len(kinds) == 1 else kinds)}
    required: list[JsonValue] = [key for key in properties if all(key in call for call in calls)]
    return {"type": "object", "properties": properties, "required": required}
