"""Commands of the project in this process, as a shell would start them."""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmark.__main__ import app as benchmark_app
from core.command_line import run_command
from data.__main__ import app as data_app

APPS = {"data": data_app, "benchmark": benchmark_app}
Run = Callable[..., tuple[int, str, str]]
"""Words of a command to exit code, standard output and standard error: the fixtures `run` and `run_app`."""


def run_here(package: str, *arguments: object) -> int:
    """`python -m PACKAGE ARGUMENTS` in this process; its exit code."""
    before = sys.argv
    sys.argv = [package, *map(str, arguments)]
    try:
        run_command(APPS[package], name=f"python -m {package}")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    finally:
        sys.argv = before
    return 0
