"""An OpenAPI document (3.0 or 3.1, JSON or YAML) as operations, each with one flat JSON Schema of its arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from openapi_pydantic import Parameter as DeclaredParameter
from pydantic import ValidationError

from benchmark.worlds.own.sources import Operations
from core.errors import UserError, first_line, nearest
from core.json_lines import json_to_object

Place = Literal["path", "query", "header", "cookie", "body"]

CYCLE_DEPTH = 8
"""How often a schema that holds itself is written out; what is deeper may be anything."""

_LONGEST_BYTES = 32 << 20
_MOST_NODES = 3000
"""Nodes of one tool's schema; where more would be written out, cycles are cut earlier."""
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_OF_THE_CLIENT = ("accept", "content-type", "authorization")
"""Headers that OpenAPI says are no parameters."""
_LEFT_OUT = ("xml", "discriminator", "externalDocs", "example", "readOnly", "writeOnly", "nullable", "deprecated")
"""Keys of a schema that say nothing about which values are right."""


@dataclass(frozen=True)
class Argument:
    """Where an argument of a tool goes."""

    place: Place
    name: str
    """Its name there."""
    style: str = "form"
    explode: bool = True
    is_json: bool = False


@dataclass(frozen=True)
class Operation:
    """One operation: how it is called, and what it takes."""

    name: str
    method: str
    path: str
    description: str
    schema: dict[str, Any]
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    media_type: str | None = None
    whole_body: str | None = None
    """The argument that is the whole body, where it is no object with named properties."""
    may_add: bool = False
    """Whether arguments without a name of their own are properties of the body."""


class _TextLoader(yaml.CSafeLoader):
    """YAML as JSON has it: a date is text."""


_TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def read_operations(
    folder: Path, file: str, wanted: Operations, given_headers: frozenset[str]
) -> tuple[Operation, ...]:
    """The operations of a document that world.yaml wants. `given_headers` are sent anyway, and are no arguments.

    Raises:
        UserError: it cannot be read, is no OpenAPI 3.0 or 3.1, points out of the folder, or lacks a wanted operation.
    """
    path = folder / file
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return _read(folder, file, stat.st_mtime_ns, stat.st_size, (*wanted.allow,), (*wanted.deny,), given_headers)


@lru_cache(maxsize=16)
def _read(
    folder: Path,
    file: str,
    _time: int,
    _size: int,
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    given: frozenset[str],
) -> tuple[Operation, ...]:
    """The operations that are wanted; the others are not looked into."""
    document = _Document(folder, file)
    found = list(document.found())
    if not found:
        raise UserError(f"{folder / file}: no operation is in it")
    for pattern in (*allow, *deny):
        if not any(each.matches(pattern) for each in found):
            names = [name for each in found for name in (each.name, each.address)]
            raise UserError(f"{folder / file}: no operation {pattern!r}.{nearest(pattern, names)}")
    chosen = [each for each in found if any(map(each.matches, allow)) and not any(map(each.matches, deny))]
    if not chosen:
        raise UserError(f"{folder / file}: no operation is left as a tool")
    return tuple(document.operation(each, given) for each in chosen)


class _Found(NamedTuple):
    """An operation where it stands in a document."""

    name: str
    method: str
    path: str
    item: dict[str, Any]
    raw: dict[str, Any]
    file: Path

    @property
    def address(self) -> str:
        return f"{self.method.upper()} {self.path}"

    def matches(self, pattern: str) -> bool:
        """Whether a pattern names it: the tool, the operation's own id, or `GET /path`."""
        return any(fnmatchcase(name, pattern) for name in (self.name, self.address, str(self.raw.get("operationId"))))


class _Document:
    """A document with the files of the folder that it points to."""

    def __init__(self, folder: Path, file: str) -> None:
        self._folder = folder.resolve()
        self._path = self._folder / file
        self._files: dict[Path, Any] = {}
        whole = self._read(self._path)
        if isinstance(whole, dict) and str(whole.get("swagger", "")).startswith("2"):
            raise UserError(
                f"{folder / file}: Swagger 2.0, expected OpenAPI 3.0 or 3.1: convert it, as with swagger2openapi"
            )
        version = str(whole.get("openapi", "")) if isinstance(whole, dict) else ""
        if not version.startswith("3."):
            raise UserError(f"{folder / file}: field 'openapi': expected 3.0.x or 3.1.x, got {version or None!r}")
        self._whole: dict[str, Any] = whole

    def found(self) -> Iterator[_Found]:
        """All operations, each with a name of its own."""
        taken: set[str] = set()
        paths = self._whole.get("paths") or {}
        if not isinstance(paths, dict):
            raise UserError(f"{self._path}: field 'paths': expected an object, got {type(paths).__name__}")
        for path, raw in paths.items():
            if not str(path).startswith("/"):
                continue  # an extension
            try:
                item, file = self._followed(raw, self._path)
            except UserError as error:
                raise UserError(f"{self._path}: {path}: {error}") from None
            for method in _METHODS:
                if isinstance(operation := item.get(method), dict):
                    name = _tool_name(operation.get("operationId"), method, str(path))
                    unique, number = name, 2
                    while unique in taken:
                        unique, number = f"{name[:60]}_{number}", number + 1
                    taken.add(unique)
                    yield _Found(unique, method, str(path), item, operation, file)

    def operation(self, found: _Found, given_headers: frozenset[str]) -> Operation:
        """One operation with all that it points to."""
        try:
            return self._operation(*found, given_headers)
        except UserError as error:
            raise UserError(f"{self._path}: {found.address}: {error}") from None

    def _operation(
        self, name: str, method: str, path: str, item: Any, operation: Any, file: Path, given_headers: frozenset[str]
    ) -> Operation:
        found: list[tuple[Argument, dict[str, Any], bool]] = []
        declared: dict[tuple[str, str], tuple[dict[str, Any], Path]] = {}
        for raw in [*(item.get("parameters") or []), *(operation.get("parameters") or [])]:
            parameter, where = self._followed(raw, file)
            declared[str(parameter.get("name")), str(parameter.get("in"))] = parameter, where
        for parameter, where in declared.values():
            if (taken := self._parameter(parameter, where, given_headers)) is not None:
                found.append(taken)
        for segment in re.findall(r"\{([^}/]+)\}", path):
            if not any(argument.place == "path" and argument.name == segment for argument, _, _ in found):
                found.append((Argument("path", segment, "simple", False), {"type": "string"}, True))
        body, media_type, is_whole, may_add = self._body(operation.get("requestBody"), file)
        found += body
        names = [argument.name for argument, _, _ in found]
        properties: dict[str, Any] = {}
        arguments: dict[str, Argument] = {}
        required = []
        for argument, schema, is_required in found:
            own = argument.name if names.count(argument.name) == 1 else f"{argument.place}_{argument.name}"
            properties[own], arguments[own] = schema, argument
            if is_required:
                required.append(own)
        whole: dict[str, Any] = {"type": "object", "properties": properties}
        if required:
            whole["required"] = required
        whole["additionalProperties"] = may_add
        texts = [str(operation[key]).strip() for key in ("summary", "description") if operation.get(key)]
        return Operation(
            name=name,
            method=method,
            path=path,
            description="\n\n".join(dict.fromkeys(texts)),
            schema=whole,
            arguments=arguments,
            media_type=media_type,
            whole_body=next((own for own, each in arguments.items() if each.place == "body"), None)
            if is_whole
            else None,
            may_add=may_add,
        )

    def _parameter(
        self, raw: dict[str, Any], file: Path, given_headers: frozenset[str]
    ) -> tuple[Argument, dict[str, Any], bool] | None:
        content = next(iter((raw.get("content") or {}).values()), None)
        schema = content.get("schema", {}) if isinstance(content, dict) else raw.get("schema", {})
        try:
            kept = {
                key: raw[key] for key in ("name", "in", "required", "style", "explode", "description") if key in raw
            }
            parameter = DeclaredParameter.model_validate(kept)
        except ValidationError as error:
            fault = error.errors()[0]
            raise UserError(
                f"parameter {raw.get('name')!r}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            ) from None
        place = str(parameter.param_in.value)
        if place == "header" and parameter.name.lower() in (*_OF_THE_CLIENT, *given_headers):
            return None
        style = parameter.style or ("form" if place in ("query", "cookie") else "simple")
        explode = parameter.explode if parameter.explode is not None else style == "form"
        written = self._schema(schema, file)
        if parameter.description and "description" not in written:
            written = {**written, "description": parameter.description.strip()}
        argument = Argument(place, parameter.name, style, explode, is_json=isinstance(content, dict))  # type: ignore[arg-type]  # one of four
        return argument, written, bool(parameter.required) or place == "path"

    def _body(self, raw: Any, file: Path) -> tuple[list[tuple[Argument, dict[str, Any], bool]], str | None, bool, bool]:
        """Arguments of a body, its media type, whether one of them is the whole body, and whether more may be given."""
        if raw is None:
            return [], None, False, False
        body, file = self._followed(raw, file)
        content = body.get("content") or {}
        media_type = next((kind for kind in content if "json" in kind), next(iter(content), None))
        if media_type is None:
            return [], None, False, False
        is_required = bool(body.get("required"))
        schema = _one_object(self._schema((content[media_type] or {}).get("schema", {}), file, is_request=True))
        properties = schema.get("properties")
        has_names = "json" in media_type or "form" in media_type
        if not has_names or not isinstance(properties, dict) or not properties or _is_other(schema):
            if body.get("description") and "description" not in schema:
                schema = {**schema, "description": str(body["description"]).strip()}
            return [(Argument("body", "body"), schema, is_required)], media_type, True, False
        needed = schema.get("required", []) if is_required else []
        arguments = [(Argument("body", name), inner, name in needed) for name, inner in properties.items()]
        return arguments, media_type, False, schema.get("additionalProperties") not in (None, False)

    def _schema(self, raw: Any, file: Path, *, is_request: bool = False) -> dict[str, Any]:
        """A schema with all that it points to written out, as JSON Schema 2020-12 has it."""
        for depth in (CYCLE_DEPTH, 4, 2, 1):
            self._nodes = 0
            written = self._written(raw, file, (), depth, is_request)
            if self._nodes <= _MOST_NODES:
                break
        return written if isinstance(written, dict) else {} if written is True else {"not": {}}

    def _written(self, raw: Any, file: Path, way: tuple[str, ...], depth: int, is_request: bool) -> Any:
        self._nodes += 1
        if self._nodes > _MOST_NODES and depth > 1:
            return {}
        if isinstance(raw, list):
            return [self._written(inner, file, way, depth, is_request) for inner in raw]
        if not isinstance(raw, dict):
            return raw
        if isinstance(raw.get("$ref"), str):
            target, place = self._target(raw["$ref"], file)
            key = f"{place}{raw['$ref'].partition('#')[2]}"
            if way.count(key) >= depth:
                return {}
            beside = {name: value for name, value in raw.items() if name != "$ref"}
            whole = self._written(target, place, (*way, key), depth, is_request)
            return (
                {**whole, **self._written(beside, file, way, depth, is_request)} if isinstance(whole, dict) else whole
            )
        written: dict[str, Any] = {}
        for name, value in raw.items():
            if name in _LEFT_OUT or name.startswith("x-"):
                continue
            if name in ("enum", "const", "default", "required", "type", "examples"):
                written[name] = value
            elif name in ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas") and isinstance(
                value, dict
            ):
                written[name] = {
                    str(key): self._written(inner, file, way, depth, is_request)
                    for key, inner in value.items()
                    if not (is_request and isinstance(inner, dict) and inner.get("readOnly") is True)
                }
            else:
                written[name] = self._written(value, file, way, depth, is_request)
        return _to_2020(raw, written)

    def _followed(self, raw: Any, file: Path) -> tuple[dict[str, Any], Path]:
        """An object, or the one that it points to."""
        for _ in range(CYCLE_DEPTH):
            if not isinstance(raw, dict):
                raise UserError(f"expected an object, got {type(raw).__name__}")
            if not isinstance(raw.get("$ref"), str):
                return raw, file
            raw, file = self._target(raw["$ref"], file)
        raise UserError("$ref points in a circle")

    def _target(self, reference: str, file: Path) -> tuple[Any, Path]:
        name, _, pointer = reference.partition("#")
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", name):
            raise UserError(
                f"$ref {reference!r}: only this document and files of the folder are read, never the network"
            )
        if name:
            file = (file.parent / name).resolve()
            if not file.is_relative_to(self._folder):
                raise UserError(f"$ref {reference!r} points out of the folder")
        value = self._read(file)
        for part in pointer.split("/")[1:]:
            key = (
                re.sub(r"%([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), part)
                .replace("~1", "/")
                .replace("~0", "~")
            )
            if isinstance(value, dict) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
                value = value[int(key)]
            else:
                hint = nearest(key, map(str, value)) if isinstance(value, dict) else ""
                raise UserError(f"$ref {reference!r} points to nothing.{hint}")
        return value, file

    def _read(self, path: Path) -> Any:
        if path not in self._files:
            try:
                with open(path, "rb") as stream:
                    raw = stream.read(_LONGEST_BYTES + 1)
                if len(raw) > _LONGEST_BYTES:
                    raise UserError(f"{path}: longer than {_LONGEST_BYTES >> 20} MiB")
                text = raw.decode("utf-8-sig")
                self._files[path] = json_to_object(text) if text.lstrip()[:1] == "{" else yaml.load(text, _TextLoader)
            except OSError as error:
                raise UserError(f"{path}: cannot be read: {error.strerror}") from None
            except (ValueError, yaml.YAMLError, RecursionError) as error:
                raise (
                    error
                    if isinstance(error, UserError)
                    else UserError(f"{path}: neither JSON nor YAML: {first_line(error)}")
                ) from None
        return self._files[path]


def _tool_name(operation_id: Any, method: str, path: str) -> str:
    """A name that every API of models takes: the operation's id, else its method and path."""
    raw = operation_id if isinstance(operation_id, str) and operation_id.strip() else f"{method}_{path}"
    return re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9_-]+", "_", raw)).strip("_")[:64] or method


def _is_other(schema: dict[str, Any]) -> bool:
    """Whether a schema of a body is more than an object with properties."""
    kinds = schema.get("type", "object")
    return any(key in schema for key in ("oneOf", "anyOf", "allOf", "not", "if")) or kinds not in ("object", ["object"])


def _one_object(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema in which `allOf` of plain objects is one object."""
    parts = schema.get("allOf")
    if not isinstance(parts, list):
        return schema
    whole = {key: value for key, value in schema.items() if key != "allOf"}
    properties, required = dict(whole.get("properties", {})), list(whole.get("required", []))
    for part in parts:
        part = _one_object(part) if isinstance(part, dict) else {"not": {}}
        if _is_other(part) or ("properties" not in part and "required" not in part):
            return schema
        properties |= part.get("properties", {})
        required += part.get("required", [])
        if "additionalProperties" in part:
            whole["additionalProperties"] = part["additionalProperties"]
    return {**whole, "type": "object", "properties": properties, "required": list(dict.fromkeys(required))}


def _to_2020(raw: dict[str, Any], written: dict[str, Any]) -> dict[str, Any]:
    """What OpenAPI 3.0 says in words of its own, in those of JSON Schema."""
    if raw.get("nullable") is True:
        if isinstance(written.get("type"), str):
            written["type"] = [written["type"], "null"]
            if "enum" in written and None not in written["enum"]:
                written["enum"] = [*written["enum"], None]
        elif "type" not in written and (inner := {k: written[k] for k in ("allOf", "oneOf", "anyOf") if k in written}):
            kept = {key: value for key, value in written.items() if key not in inner}
            written = {**kept, "anyOf": [inner, {"type": "null"}]}
    for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(written.get(exclusive), bool) and written.pop(exclusive) and limit in written:
            written[exclusive] = written.pop(limit)
    return written


def json_text(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
