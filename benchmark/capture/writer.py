"""The process that writes: exchanges in on standard input, files out.

    OUT/exchanges.jsonl     what was answered, a line each, added to and flushed to the disk
    OUT/chats.jsonl         the conversations, made anew from it now and then and at the end, as are the next three
    OUT/trajectories.jsonl  those of one instruction, as records
    OUT/samples.jsonl       ids and log-probs of answers, by chat and place of the message in it
    OUT/counts.json         what became of all exchanges

It is a process of its own so that redaction slows no stream, and so that what the server has handed over is written although
the server is killed. A line that a kill or a full disk has left half is cut off at the next start.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmark.capture.conversations import Conversations, Recorded, Turn
from benchmark.capture.exchanges import Exchange
from benchmark.capture.trajectory import turn_to_trajectory
from core.command_line import Parser
from core.config import describe_validation_error
from core.errors import UserError, disk_fault, first_line
from core.files import claimed_folder, whole_file, whole_result
from core.json_lines import LONGEST_LINE_BYTES, BadLine, read_jsonl

WAIT_FOR_LOCK_SECONDS = 5.0
"""How long another writer on the same folder, whose server was killed, may take to its end."""
QUIET_SECONDS = 0.5
"""How long nothing comes before the chats are written."""
TRIES_AT_THE_END = 20
"""How often a disk that refuses is tried, half a second apart, when nothing more comes."""
SHARE_OF_TIME = 20
"""Chats are made anew after this many times as long as that took."""


class Journal:
    """exchanges.jsonl."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = 0

    def read(self) -> list[Recorded]:
        """All lines; the last one is cut off where it is half.

        Raises:
            UserError: for any other line that is none of ours.
        """
        if not self.path.exists():
            self.path.touch()
        with open(self.path, "rb+") as file:
            end = file.seek(0, os.SEEK_END)
            while end:  # back to the last line's end
                start = max(0, end - 65536)
                file.seek(start)
                at = file.read(end - start).rfind(b"\n")
                if at >= 0:
                    end = start + at + 1
                    break
                end = start
            file.truncate(end)
        self._size = end
        lines = []
        for number, value in read_jsonl(self.path):
            if isinstance(value, BadLine):
                raise UserError(str(value))
            try:
                lines.append(Recorded.model_validate(value))
            except ValidationError as error:
                raise UserError(f"{self.path}:{number}: {describe_validation_error(error, Recorded)}") from None
        return lines

    def append(self, lines: list[Recorded]) -> None:
        """Add lines and wait until they are on the disk.

        Raises:
            OSError: and then the file is as it was.
        """
        data = b"".join(map(_bounded, lines))
        with open(self.path, "rb+") as file:
            try:
                file.seek(self._size)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    file.truncate(self._size)
                raise
        self._size += len(data)

    def replace(self, changed: dict[str, Recorded]) -> None:
        """Write lines anew, by their ids."""
        with open(self.path, "rb") as old, whole_file(self.path) as new:
            for line in old:
                recorded = changed.get(json.loads(line)["id"])
                new.write(line if recorded is None else recorded.to_line())
        self._size = self.path.stat().st_size


def _bounded(recorded: Recorded) -> bytes:
    line = recorded.to_line()
    if len(line) <= LONGEST_LINE_BYTES:
        return line
    reason = f"more than {LONGEST_LINE_BYTES >> 20} MiB"
    update = {"left_out": reason, "request": None, "response": None, "messages": (), "tools": (), "sampled": None}
    return recorded.model_copy(update=update).to_line()


@dataclass
class _Written:
    """What a chat gives to each file."""

    chat: bytes
    trajectory: bytes
    samples: bytes


@dataclass
class Outputs:
    """The files that are made from the journal."""

    folder: Path
    _of: dict[str, _Written] = field(default_factory=dict)
    """By the id of a chat's last answer."""

    def forget(self) -> None:
        """What was written has changed."""
        self._of.clear()

    def write(self, conversations: Conversations, answers: int) -> dict[str, Any]:
        """All files, whole; the counts."""
        turns = list(conversations.last_turns())
        self._of = {turn.recorded.id: self._of.get(turn.recorded.id) or _written(turn) for turn in turns}
        made = [self._of[turn.recorded.id] for turn in turns]
        counts = {
            "answers": answers,
            "chats": len(made),
            "trajectories": sum(bool(each.trajectory) for each in made),
            "left_out": dict(conversations.left_out.most_common()),
            "redacted": dict(conversations.redacted.most_common()),
        }
        with whole_result(self.folder / "chats.jsonl") as result:
            chats = result.open(self.folder / "chats.jsonl")
            trajectories = result.open(self.folder / "trajectories.jsonl")
            samples = result.open(self.folder / "samples.jsonl")
            for each in made:
                chats.write(each.chat)
                trajectories.write(each.trajectory)
                samples.write(each.samples)
            result.write(self.folder / "counts.json", json.dumps(counts, indent=1, ensure_ascii=False) + "\n")
        return counts


def _written(turn: Turn) -> _Written:
    record = turn_to_trajectory(turn)
    samples = [
        json.dumps({"chat": turn.chat_id, "turn": each.size - 1, **sampled.model_dump()}, ensure_ascii=False) + "\n"
        for each in turn.way()
        if (sampled := each.recorded.sampled) is not None
    ]
    return _Written(
        turn.chat().model_dump_json().encode() + b"\n",
        record.to_json().encode() + b"\n" if record is not None else b"",
        "".join(samples).encode(),
    )


class Writer:
    """Takes exchanges in until there are no more."""

    def __init__(self, out: Path, *, redact: bool) -> None:
        self._journal = Journal(out / "exchanges.jsonl")
        self._outputs = Outputs(out)
        self._conversations = Conversations(redact=redact)
        self._came: queue.Queue[bytes | None] = queue.Queue()
        lines = self._journal.read()
        self._answers = len(lines)
        self._conversations.add_earlier(lines)
        self._is_new = True
        self._has_ended = threading.Event()
        self._not_before = 0.0
        self.counts: dict[str, Any] = {}

    def run(self) -> None:
        """Write until standard input ends."""
        threading.Thread(target=self._receive, daemon=True).start()
        self._make_outputs()
        tell(ready=self.counts)
        while True:
            try:
                line = self._came.get(timeout=QUIET_SECONDS if self._is_new else None)
            except queue.Empty:
                if time.monotonic() >= self._not_before:
                    self._make_outputs()
                continue
            if line is None:
                break
            self._take(Exchange.from_line(line))
        self._make_outputs()

    def _receive(self) -> None:
        # At once, so that what was handed over is here and in no pipe.
        for line in sys.stdin.buffer:
            if line.endswith(b"\n"):  # of a half one nothing was answered: the server was killed
                self._came.put(line)
        self._has_ended.set()
        self._came.put(None)

    def _take(self, exchange: Exchange) -> None:
        try:
            lines, changed = self._conversations.take(exchange)
        except Exception as error:  # one strange exchange must not end the recording of others; it is kept
            reason = f"cannot be read: {type(error).__name__}: {first_line(error)}"
            lines, changed = [self._conversations.take_unread(exchange, reason)], {}
        self._until_done(partial(self._journal.append, lines))
        if changed:
            self._until_done(partial(self._journal.replace, changed))
        if changed:
            self._outputs.forget()
        self._answers += len(lines)
        self._is_new = True

    def _until_done(self, write: Callable[[], None]) -> None:
        """Write, again and again where the disk refuses. The server answers nobody meanwhile.

        Raises:
            OSError: where it refuses to the end, and nothing more comes.
        """
        tries = 0
        while True:
            try:
                write()
                break
            except OSError as error:
                tell(failed=disk_fault(error) or str(error))
                tries += 1
                if self._has_ended.is_set() and tries >= TRIES_AT_THE_END:
                    raise
                time.sleep(0.5)
        if tries:
            tell(failed=None)

    def _make_outputs(self) -> None:
        began = time.monotonic()
        try:
            self.counts = self._outputs.write(self._conversations, self._answers)
        except OSError as error:  # the journal has it all, and the next time may go well
            tell(failed=disk_fault(error) or str(error))
        else:
            self._is_new = False
        now = time.monotonic()
        self._not_before = now + SHARE_OF_TIME * (now - began)


def tell(**what: Any) -> None:
    """A line for the server, which may be gone."""
    with suppress(OSError, ValueError):
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Wait for the folder, then write."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the server ends it, by ending its input
        signal.signal(number, signal.SIG_IGN)
    os.nice(10)  # whoever waits for an answer goes first
    parser = Parser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--no-redact", action="store_true")
    options = parser.parse_args()
    until = time.monotonic() + WAIT_FOR_LOCK_SECONDS
    while True:
        claim = claimed_folder(options.out)
        try:
            claim.__enter__()
            break
        except UserError as error:
            if time.monotonic() > until:
                tell(refused=str(error))
                return
            time.sleep(0.1)
    try:
        writer = Writer(options.out, redact=not options.no_redact)
        writer.run()
    except UserError as error:
        tell(refused=str(error))
    except OSError as error:
        tell(refused=disk_fault(error) or str(error))
    else:
        tell(counts=writer.counts)
    finally:
        claim.__exit__(None, None, None)


if __name__ == "__main__":
    main()
