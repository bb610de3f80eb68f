"""core <- data <- train, data <- benchmark: the imports of each folder, read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "core": {"data", "train", "benchmark"},
    "data": {"train", "benchmark"},
    "train": {"benchmark"},
    "benchmark": {"train"},
}


def imported_packages(source: str) -> set[str]:
    """First names of everything that is imported, at any depth of the source and also by import_module("...")."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("import_module", "importlib.import_module"):
            names |= {argument.value.split(".")[0] for argument in node.args if _is_text(argument)}  # type: ignore[attr-defined]
    return names


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_folders_import_only_downwards(folder: str) -> None:
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        wrong = imported_packages(path.read_text(encoding="utf-8")) & FORBIDDEN[folder]
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


def test_the_reading_itself_sees_every_form() -> None:
    source = "def f():\n    import a.b\n    from c.d import e\n    importlib.import_module('g.h')\nfrom . import i\n"
    assert imported_packages(source) == {"a", "c", "g"}


def loaded_with(module: str) -> set[str]:
    """Modules of ours that are loaded when this one is: all imports outside of functions, followed."""
    seen, left = set(), [module]
    while left:
        name = left.pop()
        path = ROOT / Path(*name.split(".")).with_suffix(".py")
        if name in seen or not path.is_file():
            continue
        seen.add(name)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                left += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                left += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return seen


def test_only_what_asks_a_server_loads_the_client() -> None:
    assert "core.chat_server" in loaded_with("benchmark.agent.served_model")
    for command in ("benchmark.__main__", "data.__main__", "train.sft"):
        loaded = loaded_with(command)
        assert len(loaded) > 20 and "core.chat_server" not in loaded, command
