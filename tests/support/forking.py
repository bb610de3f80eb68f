"""Work in children that are forked from this process, so that what it has imported, as torch, costs nothing again."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest


def forked(work: Callable[[], object]) -> int:
    """The exit code of `work` in a child process; below zero it is the signal that ended it."""
    return wait(fork(work))


def forked_command(
    work: Callable[[], object], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`work` in a child process as `subprocess.run` would start it: its folder, its environment, what it printed."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:

        def begin() -> None:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.stdout, sys.stderr = (
                open(number, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115 - as long as the child
                for number in (1, 2)
            )
            for reference in logging._handlerList:  # type: ignore[attr-defined] # no public list of all handlers
                handler = reference()
                if type(handler) is logging.StreamHandler:
                    handler.stream = sys.stderr  # `setStream` would flush the old one, which may be closed
            os.chdir(cwd or ".")
            if environment is not None:
                os.environ.clear()
                os.environ.update(environment)
            work()

        code = forked(begin)
        printed = [(file.seek(0), file.read())[1] for file in (out, err)]
    return subprocess.CompletedProcess([], code, *printed)


def wait_for_all(children: list[int]) -> list[int]:
    """Their exit codes; when one dies by a signal, the others are killed."""
    codes: dict[int, int] = {}
    while len(codes) < len(children):
        child, status = os.wait()
        if child not in children:
            continue
        codes[child] = os.waitstatus_to_exitcode(status)
        if codes[child] < 0:
            for other in set(children) - codes.keys():
                os.kill(other, signal.SIGKILL)
    return [codes[child] for child in children]


def fork(work: Callable[[], object]) -> int:
    """Start `work` in a child of this process; its process id."""
    torch: Any = sys.modules.get("torch")  # not imported for work that does without
    if torch and torch.cuda.is_available():
        pytest.skip("a forked child cannot use CUDA")
    child = os.fork()
    if child == 0:
        code = 70
        try:
            if torch:
                torch.set_num_threads(1)
            work()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return child


def wait(child: int) -> int:
    """Its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill() -> None:
    """End this process as the system does: at once."""
    os.kill(os.getpid(), signal.SIGKILL)
