"""A server that is started as a command, waited for, and ended: vLLM, llama.cpp's or any other that answers HTTP."""

from __future__ import annotations

import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from core.errors import UserError
from core.processes import last_line, start_command

START_SECONDS = 1800.0
"""A large model is loaded and compiled within this time, or never."""
END_SECONDS = 30.0
HEALTH = ("/health", "/v1/models")
"""Asked in this order; one that a server does not have is left out."""


def server_words(command: str, **values: str) -> list[str]:
    """The words of a server's command, with `{port}` and the names in `values` filled in.

    Raises:
        UserError: if it is no command line, names no `{port}`, or holds another name in braces.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserError(f"{command!r}: not a command line: {error}") from None
    if not any("{port}" in word for word in words):
        raise UserError(f"{command!r}: expected {{port}} in it, as in 'vllm serve MODEL --port {{port}}'")
    for name, value in values.items():
        words = [word.replace(f"{{{name}}}", value) for word in words]
    return words


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def serving(
    command: str,
    *,
    log: Path,
    values: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    start_seconds: float = START_SECONDS,
) -> Iterator[str]:
    """Start a server, wait until it is healthy, give its base URL, and end it with all its children.

    Args:
        command: with `{port}`, which is a free one, and the names in `values`.
        log: file for all that it prints.

    Raises:
        UserError: if the command is none, cannot be started, ends before it is healthy, or is not healthy in time.
    """
    port = free_port()
    words = server_words(command, port=str(port), **(values or {}))
    url = f"http://127.0.0.1:{port}"
    process = start_command(words, log=log, environment=environment)
    try:
        _wait_until_healthy(process, url, shlex.join(words), log, start_seconds)
        yield url
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process of `start_command` and all its children to end, and kill them where they do not."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout=END_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGUSR2)  # the guard kills all for it
        process.wait()


def _wait_until_healthy(
    process: subprocess.Popen[bytes], url: str, shown: str, log: Path, start_seconds: float
) -> None:
    deadline = time.monotonic() + start_seconds
    while not _is_healthy(url):
        if (code := process.poll()) is not None:
            raise UserError(f"{shown}: ended with exit code {code} before it served: {last_line(log)} (all in {log})")
        if time.monotonic() > deadline:
            raise UserError(f"{shown}: not healthy after {start_seconds:.0f} s: {last_line(log)} (all in {log})")
        time.sleep(0.2)


def _is_healthy(url: str) -> bool:
    try:
        for path in HEALTH:
            status = httpx.get(url + path, timeout=5.0, trust_env=False).status_code
            if status < 400:
                return True
            if status not in (404, 405):
                return False
    except httpx.HTTPError:
        return False
    return False
