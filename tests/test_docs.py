"""What the documentation says is there: paths, links, tests and commands."""

from __future__ import annotations

import importlib
import itertools
import re
import shlex
from pathlib import Path

import pytest
import yaml

from data.sets.build import BuildConfig
from support.commands import Run

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.ko.md")
CODE = ("core", "data", "train", "benchmark")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Contents of the fenced code blocks of a language; an empty one means blocks without."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [content for named, content in fenced if named == language]


def tree_paths(text: str) -> list[str]:
    """Paths of a file tree: one a line, two blanks deeper for each folder, then what it is for."""
    (tree,) = [block for block in blocks(text, "") if block.startswith(("core/ ", "data/ "))]
    paths: list[str] = []
    folders: list[str] = []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name, what_for = line.split(maxsplit=1)
        assert what_for
        paths.append("".join(folders[:depth]) + name)
        folders[depth:] = [name]
    return paths


def test_every_path_of_the_tree_exists() -> None:
    for path in tree_paths(text_of("docs/architecture.md")):
        assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file(), path


def test_the_tree_leaves_no_module_and_no_page_out() -> None:
    named = tree_paths(text_of("docs/architecture.md"))
    opened = {str(Path(path).parent) for path in named}
    closed = {path.rstrip("/") for path in named if path.endswith("/")} - opened  # folders that stand for all they hold
    for folder in CODE:
        for module in (ROOT / folder).rglob("*.py"):
            path = module.relative_to(ROOT)
            is_family = "\nADAPTERS = (" in module.read_text(encoding="utf-8")  # `python -m data adapters` lists these
            is_told = str(path) in named or closed & set(map(str, path.parents)) or is_family
            assert module.name == "__init__.py" or is_told, path
    assert {f"docs/{path.name}" for path in (ROOT / "docs").iterdir()} <= {name.rstrip("/") for name in named}


def spine(text: str) -> list[str]:
    """The files that a README prints in bold: the way from a raw record to a number."""
    return re.findall(r"\*\*\[[^\]]+\]\(([^)]+)\)\*\*", text)


def test_both_readmes_fit_five_minutes_and_name_the_same_rooms_and_spine() -> None:
    english, korean = map(text_of, READMES)
    assert all(len(text.splitlines()) <= 200 for text in (english, korean))
    assert spine(english) == spine(korean) and 24 <= len(spine(english)) <= 30
    assert all((ROOT / path).is_file() for path in spine(english))
    for text in (english, korean):
        assert re.findall(r"^- `(\w+)/`: ", text, re.MULTILINE) == list(CODE)


def commands(text: str) -> list[list[str]]:
    """Commands of the bash blocks as words, without their comments."""
    lines = [line for block in blocks(text, "bash") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def test_both_readmes_give_the_same_commands_and_sections() -> None:
    english, korean = map(text_of, READMES)
    assert commands(english) == commands(korean)
    assert len(commands(english)) > 12
    assert english.count("\n## ") == korean.count("\n## ")


def test_the_example_config_is_valid() -> None:
    (example,) = blocks(text_of("docs/your-data.md"), "yaml")
    assert BuildConfig.model_validate(yaml.safe_load(example)).sources


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.split("#")[0]).exists(), f"{page.name} links to {target}"


FOLDERS = "core|configs|scripts|docs|tests|notebooks|data|train|benchmark"
NAMED = re.compile(rf"(?<![\w./-])(?:{FOLDERS})/[\w./-]*\w", re.ASCII)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    text = re.sub(r"\]\([^)]*\)", "", page.read_text(encoding="utf-8"))  # links have a test of their own
    for path in NAMED.findall(text):
        assert (ROOT / path).exists() or any(ROOT.glob(f"{path}.*")), f"{page.name} names {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_is_named_exists(page: Path) -> None:
    for path, name in re.findall(r"`(tests/\w+\.py)::(\w+)`", page.read_text(encoding="utf-8")):
        assert f"def {name}(" in text_of(path), f"{page.name} names {path}::{name}"


def python_options() -> list[tuple[str, tuple[str, ...], frozenset[str]]]:
    """(package, command and its subcommand, options) of each `python -m data` and `python -m benchmark` line in any page."""
    found = set()
    for page in PAGES:
        for line in re.findall(r"python -m (?:data|benchmark) [^`\n]+", page.read_text(encoding="utf-8")):
            _, _, package, *words = line.split("#")[0].split()
            command = tuple(itertools.takewhile(re.compile(r"[a-z]+").fullmatch, words))
            if command:
                options = frozenset(word.rstrip(",.;") for word in words if word.startswith("--"))
                found.add((package, command, options))
    return sorted(found, key=str)


@pytest.mark.parametrize("package", ["data", "benchmark"])
def test_every_command_line_names_real_commands_and_options(package: str, run_app: Run) -> None:
    used: dict[tuple[str, ...], set[str]] = {}
    for name, command, options in python_options():
        if name == package:
            used.setdefault(command, set()).update(options)
    assert len(used) > 2
    for command, options in used.items():
        code, out, err = run_app(package, *command, "--help")
        assert code == 0, f"{package} {command}: {err}"
        for option in options:
            assert re.search(rf"{re.escape(option)}\b", out), f"{package} {command} has no {option}"


def test_every_function_that_stands_for_a_command_exists() -> None:
    rows = re.findall(r"^\| `python [^|]*\| `([\w.]+)`.* of `([\w/]+)\.py`", text_of("docs/notebooks.md"), re.MULTILINE)
    assert len(rows) >= 12
    for name, path in rows:
        found = importlib.import_module(path.replace("/", "."))
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found), name
