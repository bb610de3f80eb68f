"""The recording proxy in this process, with the one that writes beside it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.capture.command import capture, listen
from benchmark.capture.proxy import read_upstream


@dataclass
class Capturing:
    """A proxy that runs. `openai` and `anthropic` are the base URLs that it printed."""

    out: Path
    told: list[str] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)

    @property
    def openai(self) -> str:
        return self.told[1].partition("=")[2]

    @property
    def anthropic(self) -> str:
        return self.told[2].partition("=")[2]

    def rows(self, name: str) -> list[Any]:
        return [json.loads(line) for line in (self.out / f"{name}.jsonl").read_bytes().splitlines()]


@contextmanager
def capturing(upstream: str, out: Path, *, redact: bool = True) -> Iterator[Capturing]:
    """Record until the block ends; then all files are there."""
    running = Capturing(out)
    servers: list[Any] = []
    faults: list[BaseException] = []
    ready = threading.Event()

    def started(server: Any) -> None:
        servers.append(server)
        ready.set()

    def serve() -> None:
        try:
            with listen(0) as listening:
                where = read_upstream(upstream)
                made = capture(where, out, listening, redact=redact, tell=running.told.append, started=started)
                running.counts.update(asyncio.run(made))
        except BaseException as fault:
            faults.append(fault)
        ready.set()

    thread = threading.Thread(target=serve)
    thread.start()
    ready.wait()
    try:
        if not faults:
            yield running
    finally:
        for server in servers:
            server.should_exit = True
        thread.join()
    if faults:
        raise faults[0]
