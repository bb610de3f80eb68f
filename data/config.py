"""YAML files of the user's, read strictly into a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from data.errors import UserError
from data.records import describe_validation_error

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
