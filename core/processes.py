"""Commands that are started as processes of their own, and do not outlive whoever started them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_GUARD = """
import ctypes, os, signal, subprocess, sys
starter, *command = sys.argv[1:]
child = asked = None
def stop(number, _):
    global asked
    asked = number
    if child is not None:
        try:
            os.killpg(child.pid, signal.SIGKILL if number == signal.SIGUSR2 else number)
        except ProcessLookupError:
            pass
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, stop)
if hasattr(ctypes.CDLL(None), "prctl"):
    ctypes.CDLL(None).prctl(1, signal.SIGUSR2)  # PR_SET_PDEATHSIG of prctl(2)
    if os.getppid() != int(starter):
        sys.exit(0)  # it was gone before that
child = subprocess.Popen(command, start_new_session=True)
if asked is not None:
    stop(asked, None)  # it came before there was anybody to tell
code = child.wait()
sys.exit(code if code >= 0 else 128 - code)
"""


def own_environment() -> dict[str, str]:
    """This process's environment, with which Python finds this project first, and nothing in the current folder.

    A user's folder may well hold a data.py, a train.py or a benchmark.py.
    """
    path = [str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(path)}


def start_command(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start `command`, with all that it prints in the file `log`, in `environment` or else in `own_environment()`.

    The process that comes back guards the command: SIGTERM, SIGINT and SIGUSR1 reach the command with all its children, and
    when this process is killed they are killed, too (on Linux). Its exit code is the command's, or 128 + the signal that
    ended it.

    Raises:
        OSError: if the log cannot be written.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    guard = [sys.executable, "-S", "-E", "-c", _GUARD, str(os.getpid()), *command]
    with open(log, "ab") as file:
        return subprocess.Popen(
            guard, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment or own_environment()
        )


def last_line(log: Path) -> str:
    """The last line of a log that holds something, at most 300 characters."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - 10_000))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return "no output yet"
    # What a progress bar overwrote is separated by carriage returns.
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no output yet"
