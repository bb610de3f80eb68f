"""What tau2's toolkits import of tau2, where it is not installed: `tau2.domains.NAME.MODULE` is MODULE.py of the folder.

Imported by child.py alone, and imports nothing of ours.
"""

import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import sys
import unicodedata
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any


class ToolType(str, Enum):
    READ = "read"
    WRITE = "write"
    THINK = "think"
    GENERIC = "generic"


def is_tool(tool_type: ToolType = ToolType.READ, mutates_state: bool | None = None) -> Callable[[Any], Any]:
    def mark(function: Any) -> Any:
        function.__tool__ = True
        function.__tool_type__ = tool_type
        function.__mutates_state__ = tool_type == ToolType.WRITE if mutates_state is None else mutates_state
        return function

    return mark


def is_discoverable_tool(
    tool_type: ToolType = ToolType.READ, mutates_state: bool | None = None
) -> Callable[[Any], Any]:
    def mark(function: Any) -> Any:
        is_tool(tool_type, mutates_state)(function).__discoverable__ = True
        return function

    return mark


class ToolKitBase:
    def __init__(self, db: Any = None) -> None:
        self.db = db
        self._conversation_context: list[Any] = []
        self._skip_write_critic = False


class GenericToolKit(ToolKitBase):
    pass


def get_dict_hash(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def fold_for_match(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text)
    return "".join(each for each in letters if not unicodedata.combining(each)).casefold().strip()


def load_file(path: str | Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def _models() -> dict[str, Any]:
    """The two base classes of data, which need pydantic."""
    from pydantic import BaseModel, ConfigDict

    class BaseModelNoExtra(BaseModel):
        model_config = ConfigDict(extra="forbid")

    class DB(BaseModelNoExtra):
        @classmethod
        def load(cls, path: str) -> Any:
            return cls.model_validate(load_file(path))

        def get_json_schema(self) -> dict[str, Any]:
            return self.model_json_schema()

        def get_hash(self) -> str:
            return get_dict_hash(self.model_dump())

        def get_statistics(self) -> dict[str, Any]:
            return {}

    return {"BaseModelNoExtra": BaseModelNoExtra, "DB": DB}


class _Silent(ModuleType):
    """loguru, where it is not installed: a logger that says nothing."""

    class _Logger:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *words, **more: None

    logger = _Logger()


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        if name == "loguru":
            return importlib.machinery.ModuleSpec(name, self)
        if name != "tau2" and not name.startswith("tau2."):
            return None
        parts = name.split(".")
        for file in (self._folder.joinpath(*parts).with_suffix(".py"), self._folder / f"{parts[-1]}.py"):
            if ((parts[1:2] == ["domains"] and len(parts) > 3) or file.parent != self._folder) and file.is_file():
                return importlib.util.spec_from_file_location(name, file)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> ModuleType | None:
        return _Silent("loguru") if spec.name == "loguru" else None

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == "tau2.environment.toolkit":
            names: dict[str, Any] = {
                each.__name__: each for each in (ToolType, is_tool, is_discoverable_tool, ToolKitBase, GenericToolKit)
            }
        elif module.__name__ in ("tau2.environment.db", "tau2.utils.pydantic_utils"):
            names = _models()
        elif module.__name__.startswith("tau2.utils"):
            names = {each.__name__: each for each in (get_dict_hash, fold_for_match, load_file)} | {
                "DATA_DIR": self._folder
            }
        else:
            names = {}
        vars(module).update(names)


def install(folder: Path) -> None:
    """Let `import tau2...` find what is here. loguru is stood in for only where there is none."""
    sys.meta_path.append(_Finder(folder))
