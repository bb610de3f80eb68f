"""core <- data <- train, data <- benchmark, no circle, few doors, no file too long to read: all read from the source."""

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


def modules() -> dict[str, ast.Module]:
    """Every module of the four packages by its dotted name."""
    paths = [path for package in (*FORBIDDEN,) for path in (ROOT / package).rglob("*.py")]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in names.items()}


def imports_of(tree: ast.Module, known: dict[str, ast.Module]) -> set[str]:
    """Modules of ours that one imports, anywhere in its code; also what only types ask for."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & known.keys()


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The names of one circle in their order, or none."""
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph.get(name, ())):
            if found := walk(other, [*way, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := walk(name, []))), [])


def test_a_circle_is_found_where_there_is_one() -> None:
    assert (
        circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"] and circle({"a": {"b", "c"}, "b": {"c"}}) == []
    )


def test_no_module_and_no_room_imports_itself_in_a_circle() -> None:
    known = modules()
    graph = {name: imports_of(tree, known) - {name} for name, tree in known.items()}
    assert circle(graph) == []
    rooms: dict[str, set[str]] = {}
    for name, others in graph.items():
        room = ".".join(name.split(".")[:2])
        rooms.setdefault(room, set()).update({".".join(other.split(".")[:2]) for other in others} - {room})
    assert circle(rooms) == []


@pytest.mark.parametrize("package, most", [("data", 15), ("benchmark", 11)])
def test_a_package_has_few_doors(package: str, most: int) -> None:
    children = {path.name for path in (ROOT / package).iterdir()} - {"__init__.py", "__main__.py", "__pycache__"}
    assert len(children) <= most, sorted(children)


def test_only_the_commands_of_data_know_typer() -> None:
    knowing = [name for name, tree in modules().items() if "typer" in imported_packages(ast.unparse(tree))]
    of_data = [name for name in knowing if name.startswith("data.")]
    assert of_data and all(name.startswith(("data.commands.", "data.__main__")) for name in of_data)
    assert not any(name.startswith("core.") for name in knowing)


def test_no_file_is_too_long_to_read() -> None:
    folders = (*FORBIDDEN, "scripts")
    lines = {
        path: len(path.read_text(encoding="utf-8").splitlines()) for f in folders for path in (ROOT / f).rglob("*.py")
    }
    longest = sorted(lines.values())
    assert longest[-1] <= 600, max(lines, key=lines.__getitem__)
    assert longest[int(len(longest) * 0.95)] <= 500


def test_the_jail_imports_nothing_of_ours() -> None:
    source = (ROOT / "benchmark/worlds/sandbox/jail.py").read_text(encoding="utf-8")
    assert not imported_packages(source) & set(FORBIDDEN)
