"""Servers that a run starts by itself for the models it is given, one after the other, and ends.

One server serves a base and, by name, the adapters on it: they are loaded into it through vLLM's own requests, so the next
model of the same base waits for no start. Prompts are rendered here from each model's own folder, whatever template the
server has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from core.errors import UserError
from core.processes import own_environment
from core.server_process import server_words, serving
from data.models import find_base

_ENVIRONMENT = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
_LOAD_SECONDS = 600.0


class Served(NamedTuple):
    """A model that can be asked."""

    url: str
    name: str
    """What the server calls it."""


class StartedServers:
    """The servers of one command: at most one at a time, ended when another base is asked for, and at the end.

    Args:
        command: with `{port}`, and `{base}` where the base's folder or hub id belongs.
        log: file for what the servers print.

    Raises:
        UserError: if the command is none, or names no port.
    """

    def __init__(self, command: str, log: Path) -> None:
        server_words(command)  # a mistake in it is told before anything is computed
        self.command, self.log = command, log
        self._running = ExitStack()
        self._base: str | None = None
        self._served = Served("", "")

    def __enter__(self) -> StartedServers:
        return self

    def __exit__(self, *exc: object) -> None:
        self._running.close()

    @contextmanager
    def serving(self, model: str, name: str) -> Iterator[Served]:
        """A model folder, hub id or adapter folder, which the server then knows as `name` for as long as it is asked.

        Raises:
            UserError: if the server does not start, or does not take the adapter.
        """
        base, adapter = find_base(model)
        if base != self._base:
            self._start(base)
        if adapter is None:
            yield self._served
            return
        path = str(Path(adapter).resolve()) if Path(adapter).exists() else adapter
        self._ask("load_lora_adapter", {"lora_name": name, "lora_path": path})
        try:
            yield Served(self._served.url, name)
        finally:
            self._ask("unload_lora_adapter", {"lora_name": name})

    def _start(self, base: str) -> None:
        self._running.close()
        self._base = None
        environment = {**own_environment(), **_ENVIRONMENT, "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "0")}
        url = self._running.enter_context(
            serving(self.command, log=self.log, values={"base": base}, environment=environment)
        )
        try:
            told = httpx.get(f"{url}/v1/models", timeout=60.0, trust_env=False).json()
            names = [str(each["id"]) for each in told["data"]]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"--serve {self.command!r}: does not tell its models at {url}/v1/models: {error}") from None
        if base not in names and len(names) != 1:
            raise UserError(f"--serve {self.command!r}: serves {', '.join(names) or 'nothing'}; expected {base}")
        self._base, self._served = base, Served(url, base if base in names else names[0])

    def _ask(self, what: str, body: dict[str, str]) -> None:
        try:
            answer = httpx.post(f"{self._served.url}/v1/{what}", json=body, timeout=_LOAD_SECONDS, trust_env=False)
            refused = "" if answer.status_code < 400 else f"HTTP {answer.status_code}: {answer.text[:300]}"
        except httpx.HTTPError as error:
            refused = str(error) or type(error).__name__
        if refused and what == "load_lora_adapter":
            raise UserError(
                f"--serve {self.command!r}: the adapter {body['lora_path']} is not taken: {refused}. vLLM needs --enable-lora "
                "and --max-lora-rank of its rank; other servers: merge it with `python -m train.export`"
            )
