"""Command lines: options mean the same with hyphens and underscores, and mistakes are told without a traceback."""

from __future__ import annotations

import argparse
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from core.errors import WHITE, UserError, disk_fault, nearest, printable


def hyphened(name: str) -> str:
    """The spelling under which names of options are compared: `max_length` and `max-length` mean the same."""
    return name.replace("_", "-")


def as_declared(arguments: Iterable[str], options: Iterable[str]) -> list[str]:
    """The arguments, with each option that differs from one of `options` in hyphens and underscores alone spelled like it.

    Values stay as they are, and so does all that follows a bare `--`.
    """
    declared = {hyphened(option): option for option in sorted(options)}  # of two spellings the one with underscores
    spelled = list(arguments)
    end = spelled.index("--") if "--" in spelled else len(spelled)
    for at, argument in enumerate(spelled[:end]):
        name, equals, value = argument.partition("=")
        if name.startswith("--"):
            spelled[at] = declared.get(hyphened(name), name) + equals + value
    return spelled


class Parser(argparse.ArgumentParser):
    """argparse's parser, for commands that typer does not read: no abbreviations, any spelling, nearest choices in errors."""

    def __init__(self, **settings: Any) -> None:
        kept = {"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(**{**kept, **settings})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """argparse's, which all its ways to parse come through."""
        given = sys.argv[1:] if args is None else args
        return super().parse_known_args(as_declared(given, self._option_string_actions), namespace)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            if hint := nearest(str(value), map(str, action.choices or ())):
                error.message += f".{hint}"
            raise


_running: list[str] = []
"""The command line that `run_command` runs."""


def words_called(function: Callable[..., Any], given: Mapping[str, Any]) -> list[str]:
    """What led to a result: the command line that runs, or, as in a notebook, the function that was called instead.

    Args:
        given: its arguments by name, of which those that are not the default are told.
    """
    if _running:
        return list(_running)
    usual = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    told = [f"{name}={value!r}" for name, value in given.items() if name in usual and value != usual[name]]
    return [f"{function.__module__}.{function.__qualname__}", *told]


def run_command(app: Callable[..., Any], *, name: str) -> NoReturn:
    """Run a typer app called `name` and end the process with its exit code; a mistake is told on one screen, exit 2."""
    _running[:] = [*name.split(), *sys.argv[1:]]
    with errors_told():
        try:
            code = app(prog_name=name, standalone_mode=False, token_normalize_func=hyphened)
        except Exception as error:
            # What typer has to say about the command line itself: of all these classes it publishes none.
            if not (hasattr(error, "show") and hasattr(error, "exit_code")):
                raise
            told: Any = error
            told.message = _with_nearest(told.message)
            told.show()
            code = told.exit_code
        finally:
            _running.clear()
    sys.exit(code if isinstance(code, int) else 0)


def _with_nearest(message: str) -> str:
    """typer's words about a wrong choice, with the nearest right one."""
    found = re.search(r"'([^']*)' is not one of ('.*')\.$", message)
    return message + nearest(hyphened(found[1]), re.findall(r"'([^']*)'", found[2])) if found else message


@contextmanager
def errors_told() -> Iterator[None]:
    """End the process with one message and exit code 2 where the user can mend what is wrong; all else keeps its traceback."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except UserError as error:
        _end(printable(str(error), keep=WHITE))
    except BrokenPipeError:  # who read the output has seen enough
        _end("")
    except Exception as error:
        told = disk_fault(error)
        if told is None:
            raise
        _end(printable(told))


def _end(message: str) -> NoReturn:
    """Say what is wrong and exit with 2. Output that could not be written is dropped, or Python would fail over it again."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if message:
        with suppress(OSError):
            sys.stderr.write(f"error: {message}\n")
            sys.stderr.flush()
    sys.exit(2 if message else 1)
