"""Whether the arguments of a call are such as the tool's JSON Schema takes, told in words for the model that made it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import regex
from jsonschema import SchemaError
from jsonschema.exceptions import UnknownType, ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, extend, validator_for
from pydantic import JsonValue
from referencing import Registry
from referencing.exceptions import Unresolvable

from benchmark.worlds.tools import ToolError
from core.errors import nearest
from core.json_lines import MAX_DEPTH, is_deeper_than
from data.records import ToolSpec

_PATTERN_SECONDS = 0.2
_SHOWN = 80


def check_call(tools: Mapping[str, ToolSpec], name: str, arguments: dict[str, Any]) -> None:
    """Check a call against the schemas of `tools`, which are by name.

    Raises:
        ToolError: unknown tool, or what the schema has against the arguments: a missing or unknown one with the nearest
            right name, a wrong type, a value that is not among those there are.
    """
    if name not in tools:
        raise ToolError(f"unknown tool {name!r}.{nearest(name, tools) or ' There are: ' + ', '.join(tools) + '.'}")
    if not isinstance(arguments, dict):
        raise ToolError(f"arguments must be a JSON object, got {type(arguments).__name__}")
    if is_deeper_than(arguments, MAX_DEPTH):
        raise ToolError(f"arguments are nested more than {MAX_DEPTH} levels deep")
    for key, value in arguments.items():
        if not _can_be_written(key) or not _can_be_written(value):
            raise ToolError(
                f"argument {key.encode('utf-8', 'replace').decode()!r} holds characters that are not allowed"
            )
    schema = tools[name].function.parameters
    try:
        error = best_match(_validator(json.dumps(schema)).iter_errors(arguments))
    except (Unresolvable, UnknownType, RecursionError, TypeError, AttributeError):
        return  # a schema that is none, or points outside of itself, says nothing; `schema_problem` tells of it
    if error is not None:
        raise ToolError(_told(name, schema, error))


def schema_problem(tool: ToolSpec) -> str | None:
    """What is wrong with a tool's schema, in one line; calls of such a tool are not checked, or less."""
    schema = tool.function.parameters
    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
        _validator(json.dumps(schema)).is_valid({})
        unresolved = [ref for ref in _references(schema) if not ref.startswith("#")]
    except SchemaError as error:
        return f"its schema is none: {error.message[:200]}"
    except Unresolvable as error:
        return f"its schema points to {str(error.ref)[:100]!r}, which is not in it"
    except RecursionError:
        return "its schema goes in circles"
    return f"its schema points to {unresolved[0][:100]!r}, which is not in it" if unresolved else None


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _can_be_written(value: JsonValue) -> bool:
    """False for half surrogate pairs, which UTF-8 cannot hold."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _pattern(validator: Validator, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """A pattern of a stranger's gets a time limit; one that cannot be read or takes too long says nothing."""
    if not isinstance(instance, str):
        return
    try:
        found = regex.search(pattern, instance, timeout=_PATTERN_SECONDS)
    except (regex.error, TimeoutError):
        return
    if not found:
        yield ValidationError(f"does not match {pattern!r}")


@lru_cache(maxsize=4096)
def _validator(schema: str) -> Validator:
    """The validator of a schema. Nothing outside of it is ever looked up."""
    value = json.loads(schema)
    kind: Any = validator_for(value, default=Draft202012Validator)
    return extend(kind, {"pattern": _pattern})(value, registry=Registry())


def _told(name: str, schema: dict[str, Any], error: ValidationError) -> str:
    """One sentence about what is wrong, and the nearest right name."""
    while error.context and error.validator in ("anyOf", "oneOf", "allOf"):
        deeper = best_match(error.context)
        if deeper is None or (len(deeper.absolute_path) <= len(error.absolute_path) and deeper.validator == "type"):
            break
        error = deeper
    where = _place(error)
    value: Any = error.instance
    rule: Any = error.validator_value
    argument = f"argument {where!r}" if where else "the arguments"
    if error.validator == "required":
        missing = next(key for key in rule if key not in value)
        known = _properties(error.schema)
        unknown = [key for key in value if key not in known]
        meant = next((key for key in unknown if nearest(key, [missing])), None)
        if meant is not None:
            return f"{f'argument {where!r}' if where else name} has no argument {meant!r}.{nearest(meant, [missing])}"
        hint = f" There is {unknown[0]!r}, which is unknown." if unknown else ""
        return f"argument {_join(where, missing)!r} is missing.{hint}"
    if error.validator in ("additionalProperties", "unevaluatedProperties"):
        known = _properties(error.schema)
        unknown = [key for key in value if key not in known]
        if unknown:
            owner = f"argument {where!r}" if where else name
            return f"{owner} has no argument {unknown[0]!r}.{nearest(unknown[0], known) or _listed(known)}"
    if error.validator == "type":
        kinds = " or ".join(rule) if isinstance(rule, list) else rule
        return f"{argument} must be {kinds}, got {_shown(value)}"
    if error.validator == "enum":
        hint = nearest(value, [each for each in rule if isinstance(each, str)]) if isinstance(value, str) else ""
        return f"{argument} must be one of {', '.join(map(_shown, rule[:20]))}, got {_shown(value)}.{hint}"
    if error.validator == "const":
        return f"{argument} must be {_shown(rule)}, got {_shown(value)}"
    if error.validator in ("anyOf", "oneOf"):
        kinds = " or ".join(
            dict.fromkeys(str(each["type"]) for each in rule if isinstance(each, dict) and "type" in each)
        )
        return f"{argument} must be {kinds or 'of another form'}, got {_shown(value)}"
    if error.validator in _LIMITS:
        return f"{argument} must {_LIMITS[str(error.validator)].format(rule)}, got {_shown(value)}"
    return f"{argument} is not such as {name} takes ({error.validator}: {_shown(rule)}), got {_shown(value)}"


_LIMITS = {
    "minimum": "be at least {}",
    "maximum": "be at most {}",
    "exclusiveMinimum": "be more than {}",
    "exclusiveMaximum": "be less than {}",
    "multipleOf": "be a multiple of {}",
    "minLength": "have at least {} characters",
    "maxLength": "have at most {} characters",
    "pattern": "match {}",
    "minItems": "have at least {} items",
    "maxItems": "have at most {} items",
    "minProperties": "have at least {} entries",
    "maxProperties": "have at most {} entries",
    "uniqueItems": "have no item twice",
}


def _place(error: ValidationError) -> str:
    where = ""
    for part in error.absolute_path:
        where = f"{where}[{part}]" if isinstance(part, int) else _join(where, str(part))
    return where


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _properties(schema: Any) -> list[str]:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return list(properties) if isinstance(properties, dict) else []


def _listed(names: list[str]) -> str:
    return f" There are: {', '.join(names[:20])}." if names else " It takes none."


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
