"""Parameters of a tool in any public style -> JSON Schema.

Three styles are met. OpenAI's is JSON Schema already and stays as it is. BFCL and ToolACE write JSON Schema with Python's
names of types ("dict", "float"). xLAM and Hammer write a bare mapping from parameter to {description, type, default}, in
which the type is Python's and may say more: "str, optional", "List[int]", "int, default=5".

A type that JSON Schema has no word for is not guessed: it goes into the description, and any value is allowed.
"""

from __future__ import annotations

import ast
import re
from typing import Any

Schema = dict[str, Any]

JSON_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
_NAMES = {
    "str": "string", "text": "string", "char": "string",
    "int": "integer", "long": "integer",
    "float": "number", "double": "number", "decimal": "number",
    "bool": "boolean",
    "list": "array", "tuple": "array", "set": "array", "sequence": "array", "iterable": "array",
    "dict": "object", "map": "object", "mapping": "object",
    "none": "null", "nonetype": "null",
}  # fmt: skip
_ANYTHING = frozenset({"any", "object | any"})
_GENERIC = re.compile(r"(\w+)\s*\[(.*)\]", re.DOTALL)
_DEFAULT = re.compile(r",?\s*default(?:s to)?\s*[=:]?\s*(.+)\Z", re.DOTALL)
_OPTIONAL = re.compile(r",?\s*\(?optional\)?\s*\Z", re.IGNORECASE)


def _split(text: str, separator: str) -> list[str]:
    """Parts of a type at a separator that stands in no bracket."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "[(") - (sign in "])")
        if sign == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _one_of(types: list[str]) -> Schema | None:
    schemas = [type_to_schema(part) for part in types]
    if any(schema is None for schema in schemas):
        return None
    known = [schema for schema in schemas if schema is not None]
    if {} in known:
        return {}
    if all(set(schema) == {"type"} for schema in known):
        names = list(dict.fromkeys(schema["type"] for schema in known))
        return {"type": names[0] if len(names) == 1 else names}
    return {"anyOf": known}


def type_to_schema(text: str) -> Schema | None:
    """A type as Python or JSON Schema names it, or None for one that JSON Schema has no word for."""
    text = text.strip()
    name = text.lower()
    if name in _ANYTHING:
        return {}
    if name in JSON_TYPES:
        return {"type": name}
    if name in _NAMES:
        return {"type": _NAMES[name]}
    if len(parts := _split(text, "|")) > 1:
        return _one_of(parts)
    if generic := _GENERIC.fullmatch(text):
        outer, inner = generic[1].lower(), [part.strip() for part in _split(generic[2], ",")]
        if outer == "optional" and len(inner) == 1:
            return _one_of([*inner, "null"])
        if outer == "union":
            return _one_of(inner)
        kind = _NAMES.get(outer, outer)
        if kind == "array" and (outer != "tuple" or inner[1:] == ["..."]):
            items = type_to_schema(inner[0]) if inner[1:] in ([], ["..."]) else None
            return {"type": "array", "items": items} if items else {"type": "array"}
        if kind == "array":
            items_of = [type_to_schema(part) for part in inner]
            return {"type": "array", "prefixItems": [item or {} for item in items_of]}
        if kind == "object":
            values = type_to_schema(inner[1]) if len(inner) == 2 else None
            return {"type": "object", "additionalProperties": values} if values else {"type": "object"}
        if outer == "literal":
            try:
                return {"enum": list(ast.literal_eval(f"({generic[2]},)"))}
            except (ValueError, SyntaxError):
                return None
    return None


def _with_type(schema: Schema, text: str) -> tuple[Schema, bool]:
    """A parameter whose type is `text`, and whether the text calls it optional."""
    rest, optional = text, False
    default: Any = None
    if found := _DEFAULT.search(rest):
        rest, optional = rest[: found.start()], True
        try:
            default = ast.literal_eval(found[1].strip())
        except (ValueError, SyntaxError):
            default = None
    while found := _OPTIONAL.search(rest):
        rest, optional = rest[: found.start()], True
    made = type_to_schema(rest) if rest.strip() else {}
    if made is None:
        note = f"(type: {text})"
        described = schema.get("description")
        made = {"description": f"{described} {note}" if isinstance(described, str) and described else note}
        schema = {key: value for key, value in schema.items() if key != "description"}
    if default is not None and "default" not in schema:
        made["default"] = default
    return {**made, **{key: value for key, value in schema.items() if key != "type"}}, optional


def _to_schema(value: Any) -> Any:
    """A schema with Python's names of types replaced at every level; whatever is JSON Schema already stays as it is."""
    if not isinstance(value, dict):
        return value
    schema: Schema = dict(value)
    for key in ("items", "additionalProperties", "not"):
        if key in schema:
            schema[key] = _to_schema(schema[key])
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if isinstance(schema.get(key), list):
            schema[key] = [_to_schema(item) for item in schema[key]]
    for key in ("$defs", "definitions"):
        if isinstance(schema.get(key), dict):
            schema[key] = {name: _to_schema(item) for name, item in schema[key].items()}
    if isinstance(schema.get("properties"), dict):
        # Draft 3's way of saying what is required, which no later draft knows.
        marked = {
            name: item["required"]
            for name, item in schema["properties"].items()
            if isinstance(item, dict) and isinstance(item.get("required"), bool)
        }
        schema["properties"] = {
            name: _to_schema({key: part for key, part in item.items() if key != "required"} if name in marked else item)
            for name, item in schema["properties"].items()
        }
        required = [name for name, needed in marked.items() if needed]
        if required and "required" not in schema:
            schema["required"] = required
    kind = schema.get("type")
    if isinstance(kind, str) and kind not in JSON_TYPES:
        return _with_type(schema, kind)[0]
    return schema


def _is_schema(parameters: Schema) -> bool:
    return isinstance(parameters.get("type"), str | list) or isinstance(parameters.get("properties"), dict)


def parameters_to_schema(parameters: Schema, required: Any = None) -> Schema:
    """The parameters of one tool as JSON Schema of an object.

    In a bare mapping the parameters that say `"required": true` are required; where none says so, those are whose type does
    not say "optional" and that have no default. `required` is the list that ToolACE and others write beside the parameters
    instead of inside.

    Raises:
        ValueError: if it is neither JSON Schema nor a mapping from names to descriptions of parameters.
    """
    if not parameters or _is_schema(parameters):
        schema = _to_schema(parameters)
    elif all(isinstance(item, dict) for item in parameters.values()):
        properties: Schema = {}
        needed: list[str] = []
        marked = any(isinstance(item.get("required"), bool) for item in parameters.values())
        for name, item in parameters.items():
            own = item.get("required")
            schema = {key: part for key, part in item.items() if key != "required" or not isinstance(part, bool)}
            kind, optional = schema.get("type"), False
            if isinstance(kind, str):
                properties[name], optional = _with_type(_to_schema({**schema, "type": "object"}), kind)
            else:
                properties[name] = _to_schema(schema)
            if own is True or not (marked or optional or "default" in properties[name]):
                needed.append(name)
        schema = {"type": "object", "properties": properties}
        if needed:
            schema["required"] = needed
    else:
        raise ValueError("neither JSON Schema nor a mapping of parameters")
    names = schema.get("properties")
    beside = (
        isinstance(required, list) and required and isinstance(names, dict) and set(map(str, required)) <= set(names)
    )
    if beside and "required" not in schema:
        schema = {**schema, "required": required}
    return schema
