"""One command for everything: `tooltune COMMAND`, in any folder.

The commands are those of `python -m data` and `python -m benchmark` and the entry points in train/: the very objects. A folder
that holds a data.py, a train.py or a benchmark.py, as that of every other project does, makes no difference.
"""

from __future__ import annotations

import ast
import runpy
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # `data` is this project's, whatever else is called so

import typer.main

from core.command_line import errors_told, hyphened, run_command
from core.errors import UserError, nearest

ROOT = Path(__file__).resolve().parent
FOLDERS = {
    "data": "Records in, prepared sets out",
    "train": "Prepared set in, checkpoint out",
    "benchmark": "Checkpoint in, trajectories and KPIs out",
}
TRAIN = ("sft", "dpo", "orpo", "kto", "export", "audit")
"""Modules of train/ that are commands. Each is run as `python -m train.NAME` runs it."""
SHARED = ("export",)
"""Names that two folders have: they are said with their folder."""
ABOUT = """Usage: tooltune COMMAND [OPTIONS]

Records of agents using tools in, a measurably better tool-using model out. Each command has --help. A command may be said with
its folder too: `tooltune data convert` is `tooltune convert`."""


def main() -> None:
    """Run what the command line names."""
    with errors_told():
        words = sys.argv[1:]
        if not words or words[0] in ("-h", "--help"):
            sys.stdout.write(overview())
            sys.exit(0 if words else 2)
        folder = words[0] if words[0] in FOLDERS else folder_of(hyphened(words[0]))
        if words[0] in FOLDERS:
            del sys.argv[1]
        if folder == "train":
            run_train(sys.argv[1:])
    run_command(app_of(folder), name=f"tooltune {folder}" if words[0] in FOLDERS else "tooltune")


def app_of(folder: str) -> Any:
    """The typer app of `python -m FOLDER`."""
    return import_module(f"{folder}.__main__").app


def commands_of(folder: str) -> dict[str, str]:
    """What each command of a folder is for, in a line."""
    if folder == "train":
        return {name: _first_line(ROOT / "train" / name) for name in TRAIN}
    found = typer.main.get_command(app_of(folder)).commands  # type: ignore[attr-defined] # of a group, which both apps are
    return {name: command.get_short_help_str(limit=100) for name, command in found.items()}


def _first_line(module: Path) -> str:
    """The first line of a module's docstring, read without importing it, because that takes seconds."""
    file = module / "__main__.py" if module.is_dir() else module.with_suffix(".py")
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").splitlines()[0]


def folder_of(command: str) -> str:
    """The folder that has a command.

    Raises:
        UserError: if none has it, or two.
    """
    if command in SHARED:
        both = " or ".join(
            f"`tooltune {each} {command}` ({told})" for each in FOLDERS if (told := commands_of(each).get(command))
        )
        raise UserError(f"{command} is two commands: {both}")
    if command in TRAIN:
        return "train"
    for folder in ("data", "benchmark"):  # one after the other, because each takes a while to import
        if command in commands_of(folder):
            return folder
    known = [*FOLDERS, *(name for each in FOLDERS for name in commands_of(each))]
    raise UserError(f"there is no command {command!r}.{nearest(command, known)} `tooltune --help` lists them")


def run_train(words: list[str]) -> None:
    """Become `python -m train.NAME`.

    Raises:
        UserError: for an unknown name.
    """
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(f"Usage: tooltune train COMMAND [OPTIONS]\n\n{section('train')}")
        sys.exit(0 if words else 2)
    name, *arguments = words
    if name not in TRAIN:
        raise UserError(f"there is no command {name!r}.{nearest(name, TRAIN)} `tooltune train --help` lists them")
    sys.argv = [f"tooltune {name}", *arguments]
    runpy.run_module(f"train.{name}", run_name="__main__")
    sys.exit(0)


def section(folder: str) -> str:
    """A folder's commands with a line each."""
    lines = (
        f"  {f'{folder} {name}' if name in SHARED else name:18}{about}\n" for name, about in commands_of(folder).items()
    )
    return f"{FOLDERS[folder]}:\n{''.join(lines)}"


def overview() -> str:
    """All commands, by folder."""
    return "\n".join([f"{ABOUT}\n", *map(section, FOLDERS)])


if __name__ == "__main__":
    main()
