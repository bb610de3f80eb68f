"""YAML files of the user's, read strictly into a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from core.errors import UserError, nearest

Config = TypeVar("Config", bound=BaseModel)


LONGEST_BYTES = 2**19
"""A config of more than half a MiB is refused: YAML takes a thousand times as much memory as its text."""
LONGEST_WRITTEN_OUT = 2**20
"""Characters of a config in which each alias stands written out. A few lines of aliases of aliases are terabytes."""


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, where plain YAML would silently take the last, and so are aliases
    that stand for more than anybody would write."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            self._written_out(node, {})
        return node

    def _written_out(self, node: yaml.Node, known: dict[int, int | None]) -> int:
        """Characters of a node with its aliases written out."""
        if id(node) in known:
            size = known[id(node)]
            if size is None:
                raise yaml.constructor.ConstructorError(None, None, "a value that holds itself", node.start_mark)
            return size
        known[id(node)] = None
        if isinstance(node, yaml.ScalarNode):
            size = 1 + len(node.value)
        else:
            pairs = isinstance(node, yaml.MappingNode)
            inner = [part for pair in node.value for part in pair] if pairs else node.value
            size = 1 + sum(self._written_out(part, known) for part in inner)
        if size > LONGEST_WRITTEN_OUT:
            problem = f"aliases that stand for more than {LONGEST_WRITTEN_OUT:,} characters"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        known[id(node)] = size
        return size

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            for index, (key, _) in enumerate(node.value):
                if isinstance(key, yaml.ScalarNode) and key.value in keys[:index]:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key.value!r} stands twice", key.start_mark
                    )
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> Any:
    """The value of a YAML file of a stranger's: no tags that make objects, no key twice, no bombs of aliases.

    Raises:
        UserError: naming file, line and what is wrong.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(LONGEST_BYTES + 1)
        if len(raw) > LONGEST_BYTES:
            raise UserError(f"{path}: longer than {LONGEST_BYTES >> 10} KiB, which is no config")
        return yaml.load(raw.decode("utf-8-sig"), _StrictLoader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError(f"{path}: not YAML: nested too deeply") from None
    except (ValueError, OverflowError) as error:  # a date with a 13th month, a number of thousands of digits
        raise error if isinstance(error, UserError) else UserError(f"{path}: not YAML: {error}") from None


def read_config(path: str | Path, model: type[Config]) -> Config:
    """A YAML file as a strict model.

    Raises:
        UserError: naming file, key path, value and the nearest right key.
    """
    value = read_yaml(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: a config is a mapping of keys to values, got {type(value).__name__}")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{path}: {describe_validation_error(error, model)}") from None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a type such as `list[Action]` or `Metadata | None` is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _field_names_at(model: type[BaseModel], place: Iterable[int | str]) -> list[str]:
    """The field names known at a place such as ("action_sequence", 0)."""
    models = [model]
    for part in place:
        if isinstance(part, str):
            models = [
                m
                for outer in models
                if part in outer.model_fields
                for m in _models_in(outer.model_fields[part].annotation)
            ]
    return [name for m in models for name in m.model_fields]


def _names_at(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """The names that the schema of a field lists, which may be more than those of its type: it is read in two languages."""
    *outer, name = (part for part in place if isinstance(part, str))
    models = [model]
    for part in outer:
        models = [
            m for each in models if part in each.model_fields for m in _models_in(each.model_fields[part].annotation)
        ]
    fields = [each.model_json_schema()["properties"][name] for each in models if name in each.model_fields]
    return [str(value) for field in fields for value in field.get("enum", [])]


class Fault(NamedTuple):
    """One thing that is wrong with a value: pydantic's name for it, the field's place, the value there, and one line."""

    kind: str
    where: str
    value: Any
    reason: str


def validation_faults(
    error: ValidationError, model: type[BaseModel], *, show: Callable[[Any], str] = repr
) -> list[Fault]:
    """The faults of a pydantic error, one for each field, the most telling first. `show` writes a value down."""
    faults: dict[str, Fault] = {}
    # An unknown name first: where one is misspelt, the right one is missing too, and its neighbour says more than the gap.
    for fault in sorted(error.errors(include_url=False), key=lambda fault: fault["type"] != "extra_forbidden"):
        # Pydantic puts the name of a union's branch into the place, such as "dict[str,...]"; nobody wrote that.
        parts = [part for part in fault["loc"] if "[" not in str(part)]
        where = ".".join(map(str, parts)) or "record"
        if fault["type"] == "extra_forbidden":
            *place, name = parts
            reason = f"field {where!r} is unknown.{nearest(str(name), _field_names_at(model, place))}"
        elif fault["type"] == "missing":
            reason = f"field {where!r} is missing"
        elif fault["type"] == "value_error" and not fault["loc"]:
            reason = fault["msg"].removeprefix("Value error, ")  # says itself which fields do not go together
        else:
            hint = ""
            if fault["type"] == "enum" and isinstance(fault["input"], str):
                names = _names_at(model, fault["loc"]) or fault["ctx"]["expected"].replace("'", "").replace(
                    " or ", ", "
                ).split(", ")
                hint = nearest(fault["input"], names)
            shown = show(fault["input"])
            shown = shown if len(shown) <= 80 else shown[:77] + "..."
            reason = f"field {where!r}: {fault['msg'].removeprefix('Value error, ')}, got {shown}.{hint}"
        faults.setdefault(where, Fault(fault["type"], where, fault["input"], reason))
    return list(faults.values())


def describe_validation_error(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault of a pydantic error as one line, and how many more there are."""
    first, *others = validation_faults(error, model)
    return first.reason + (f" (and {len(others)} more)" if others else "")
