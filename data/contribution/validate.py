"""Is this contribution sound? Bytes -> UTF-8 -> JSON -> schema -> sense, line by line, in bounded memory.

    python -m data validate mine.jsonl
    mine.jsonl:7:5120: E305 field 'timestamp': Input should have timezone info, got '2026-11-21T09:00:00'.

A place is path:line:byte-offset: the line counts from 1, the offset is where the line starts in the file, so that
`tail -c +$((OFFSET + 1)) FILE | head -n 1` shows it. Codes are explained by `--explain CODE` and in
docs/validation-codes.md.

What is printed or quarantined has its secrets and personal data replaced (data/contribution/redaction.py), because a report
is shown to others: quarantine keeps the place, and the place leads to the line as it was.
"""

from __future__ import annotations

import difflib
import os
import re
import sqlite3
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.config import Fault, validation_faults
from core.errors import UserError, nearest
from core.json_lines import NotJson, is_deeper_than, json_to_object
from data.contribution.redaction import describe_findings, redact_text, redact_value
from data.records import Action, Metadata, Outcome, Trajectory


@dataclass(frozen=True)
class LineLimits:
    """How much one contribution may hold."""

    line_bytes: int = 8 * 2**20
    depth: int = 64
    records: int = 10_000_000
    actions: int = 10_000


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a line, and where. Secrets are replaced in `message`."""

    path: str
    line: int
    byte_offset: int
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.byte_offset}: {self.code} {self.message}"


@dataclass(frozen=True)
class CheckedLine:
    """A line and what is wrong with it. `raw` is the line without its line break; a line that is too long is cut."""

    path: str
    line: int
    byte_offset: int
    size_bytes: int
    raw: bytes
    problems: tuple[Problem, ...]
    record: Trajectory | None = None
    """The record, if the line holds one that is good."""

    @property
    def is_bad(self) -> bool:
        """Whether an error was found; a blank line is neither bad nor a record."""
        return any(problem.code.startswith("E") for problem in self.problems)


BINARY = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"7z\xbc\xaf": "7-Zip",
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"%PDF": "PDF",
    b"SQLite format 3": "SQLite",
    b"\x80\x04\x95": "pickle",
}
MERGE_MARK = re.compile(rb"(?:<{7}|>{7}|\|{7})(?: .*)?|={7}")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Further keys of `metadata` that have a meaning somewhere; docs/quality.md describes them.
KNOWN_METADATA = (*Metadata.model_fields, "failure_cause", "reproduction", "tier", "task")
OTHER_FORMATS = {
    "messages": "a chat",
    "conversations": "a ShareGPT chat",
    "chosen": "a preference pair",
    "prompt": "a prompt with its answer",
}
MAX_FIELDS = 10_000
Found = tuple[str, str]
"""A code and its message."""
MAX_PROBLEMS_OF_A_LINE = 20
START_OF_LONG_LINE = 8192
"""Bytes of a line beyond the limit that are kept, so that what is quarantined of it can be searched before it is cut."""
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


def path_to_text(path: Path) -> str:
    """A path as it is printed: names of files may hold bytes that are no UTF-8, and those are written as \\xNN."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def _kind_of_scalar(value: Any) -> str | None:
    """text, number or truth value; None for what may stand beside any of them."""
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, str):
        return "text"
    return "a number" if isinstance(value, int | float) else None


def _shown(value: Any) -> str:
    return repr(redact_value(value)[0])


def _big_integers(value: Any) -> Iterator[int]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _big_integers(inner)
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        yield value


class _Ids:
    """Where each id was seen first. A temporary database on disk, so that memory stays the same for any number of ids."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # "" is a private file that closing deletes
        self._database.execute("PRAGMA journal_mode=OFF")
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute("PRAGMA cache_size=-32768")  # KiB
        self._database.execute("BEGIN")
        self._database.execute("CREATE TABLE ids (id BLOB PRIMARY KEY, path INTEGER, line INTEGER) WITHOUT ROWID")
        self._paths: list[str] = []

    def first_place(self, name: str, path: str, line: int) -> str | None:
        """path:line of the first line with this id, or None if this is it."""
        if not self._paths or self._paths[-1] != path:
            self._paths.append(path)
        key = blake2b(name.encode(), digest_size=16).digest()
        row = (key, len(self._paths) - 1, line)
        if self._database.execute("INSERT OR IGNORE INTO ids VALUES (?, ?, ?)", row).rowcount:
            return None
        found = self._database.execute("SELECT path, line FROM ids WHERE id = ?", (key,)).fetchone()
        return f"{self._paths[found[0]]}:{found[1]}"

    def close(self) -> None:
        self._database.close()


def validate(files: Sequence[Path], limits: LineLimits | None = None) -> Iterator[CheckedLine]:
    """Every line of the files (those of a folder, too) with its problems.

    Raises:
        UserError: if a file cannot be read.
    """
    checker = Checker(limits or LineLimits())
    try:
        for path in files_to_check(files):
            yield from checker.check_file(path)
    finally:
        checker.close()


@dataclass
class Checker:
    """What is remembered from line to line and from file to file: ids, and the types of free fields."""

    limits: LineLimits = field(default_factory=LineLimits)

    def __post_init__(self) -> None:
        self._ids = _Ids()
        self._kinds: dict[tuple[str, ...], tuple[str, str]] = {}
        self._latest = datetime.now(UTC) + timedelta(days=1)

    def close(self) -> None:
        """Delete the temporary database."""
        self._ids.close()

    def check_file(self, path: Path) -> Iterator[CheckedLine]:
        """Every line of a file with its problems.

        Raises:
            UserError: if the file cannot be read.
        """
        try:
            mode = path.stat().st_mode
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                raise UserError(f"{path}: is a device, not a file")
            file = open(path, "rb")  # noqa: SIM115 - closed by the with below; split so that only opening is guarded
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        with file:
            name = path_to_text(path)
            if problem := self._problem_of_file(name, file):
                yield CheckedLine(name, problem.line, problem.byte_offset, 0, b"", (problem,))
                return
            yield from self._check_lines(name, file)

    def _problem_of_file(self, path: str, file: BufferedReader) -> Problem | None:
        start = file.peek(4096)[:4096]
        for magic, name in BINARY.items():
            if start.startswith(magic):
                return Problem(path, 1, 0, "E101", f"the file is {name}, not text")
        if start.startswith((b"\xff\xfe", b"\xfe\xff")) or start[:64].count(0) > len(start[:64]) / 4:
            return Problem(path, 1, 0, "E102", "the file is UTF-16 or UTF-32, not UTF-8")
        if start.startswith(b"version https://git-lfs"):
            return Problem(path, 1, 0, "E111", "the file is a Git LFS pointer; the data was not fetched")
        text = start.removeprefix(BYTE_ORDER_MARK).lstrip()
        first_line = text.split(b"\n", 1)[0].strip()
        if first_line in (b"[", b"{") or re.match(rb"\[\s*\{", text):
            kind = "list" if text.startswith(b"[") else "object"
            return Problem(path, 1, 0, "E209", f"the file is one JSON {kind}, not one record a line")
        return None

    def _check_lines(self, path: str, file: BufferedReader) -> Iterator[CheckedLine]:
        # Two bytes more than the limit, so that a line of exactly that size still has its line break.
        most = self.limits.line_bytes + 2
        offset, number, holds_record = 0, 0, False
        while raw := file.readline(most):
            number += 1
            if number > self.limits.records:
                message = f"more than {self.limits.records:,} lines; the rest of the file was not read"
                problem = Problem(path, number, offset, "E109", message)
                yield CheckedLine(path, number, offset, 0, b"", (problem,))
                return
            size = len(raw)
            if size == most and not raw.endswith(b"\n"):
                while more := file.readline(2**20):
                    size += len(more)
                    if more.endswith(b"\n"):
                        break
            line = raw.removesuffix(b"\n")
            if size > most or len(line.removesuffix(b"\r")) > self.limits.line_bytes:
                message = f"the line has {size:,} bytes, more than {self.limits.line_bytes:,}"
                problem = Problem(path, number, offset, "E107", message)
                yield CheckedLine(path, number, offset, size, raw[:START_OF_LONG_LINE], (problem,))
            elif not line.strip():
                problem = Problem(path, number, offset, "W601", "the line is blank")
                yield CheckedLine(path, number, offset, size, line, (problem,))
            else:
                found, record = self._check_line(path, number, line, is_whole=raw.endswith(b"\n"))
                problems = tuple(Problem(path, number, offset, code, redact_text(text)) for code, text in found)
                is_bad = any(code.startswith("E") for code, _ in found)
                yield CheckedLine(path, number, offset, size, line, problems, None if is_bad else record)
            offset += size
            holds_record |= bool(line.strip())
        if not holds_record:
            problem = Problem(path, 1, 0, "E110", "the file holds no record")
            yield CheckedLine(path, 1, 0, 0, b"", (problem,))

    def _check_line(
        self, path: str, number: int, line: bytes, *, is_whole: bool
    ) -> tuple[list[Found], Trajectory | None]:
        """Everything that is wrong with a line, and its record."""
        found: list[Found] = []
        if line.startswith(BYTE_ORDER_MARK):
            found.append(("E103", "the line starts with a byte-order mark"))
            line = line.removeprefix(BYTE_ORDER_MARK)
        if line.endswith(b"\r"):
            found.append(("E104", "the line ends in CR LF"))
            line = line.removesuffix(b"\r")
        if MERGE_MARK.fullmatch(line):
            return [*found, ("E112", "a conflict mark of git")], None
        if b"\0" in line:
            return [*found, ("E106", f"a zero byte, at byte {line.index(0)} of the line")], None
        try:
            value = json_to_object(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            return [*found, ("E105", f"not UTF-8: byte {error.start} of the line is {line[error.start]:02x}")], None
        except NotJson as error:
            return [*found, _json_problem(error, line, is_whole)], None
        if not is_whole:
            found.append(("W602", "the last record has no line break"))
        brackets = line.count(b"{") + line.count(b"[")
        if brackets > self.limits.depth and is_deeper_than(value, self.limits.depth + 1):
            return [*found, ("E205", f"nested deeper than {self.limits.depth} levels")], None
        if re.search(rb"\d{19}", line):
            found += [
                ("E206", f"the integer {str(big)[:24]}... needs more than 64 bits") for big in _big_integers(value)
            ]
        if not isinstance(value, dict):
            return [*found, ("E208", f"a record is a JSON object, got {type(value).__name__}")], None
        record, wrong = self._check_record(path, number, value)
        found += wrong
        if b"\\u0000" in line:
            found.append(("W611", "a text holds \\u0000"))
        return found[:MAX_PROBLEMS_OF_A_LINE], record

    def _check_record(self, path: str, number: int, value: dict[str, Any]) -> tuple[Trajectory | None, list[Found]]:
        try:
            record = Trajectory.model_validate(value)
        except ValidationError as error:
            other = next((name for key, name in OTHER_FORMATS.items() if key in value), None)
            if other and "action_sequence" not in value:
                return None, [("E308", f"the row is {other}, not a trajectory")]
            return None, [(_code_of(f), f.reason) for f in validation_faults(error, Trajectory, show=_shown)]
        found = [*self._check_sense(record), *self._check_against_others(path, number, record)]
        _, secrets = redact_value(value)
        if secrets:
            found.append(("W603", f"secrets or personal data: {describe_findings(secrets)}"))
        return record, [*found, *_advice(record)]

    def _check_against_others(self, path: str, number: int, record: Trajectory) -> Iterator[Found]:
        if place := self._ids.first_place(record.id, path, number):
            yield "E501", f"id {record.id!r} stands already at {place}"
        here = f"{path}:{number}"
        extra, details = record.metadata.model_extra or {}, record.environment.details
        free = [(f"metadata.{key}", inner) for key, inner in extra.items()]
        free += [(f"environment.details.{key}", inner) for key, inner in details.items()]
        for name, inner in free:
            if drift := self._drift((name,), inner, here):
                yield "E306", f"field {name!r} is {drift}"
        for action in record.action_sequence:
            # A failed call may have failed because of the type.
            if action.error is None and isinstance(action.input, dict):
                for key, inner in action.input.items():
                    if drift := self._drift((record.tool, action.command, key), inner, here):
                        yield "W609", f"argument {key!r} of {action.command!r} is {drift}"

    def _drift(self, place: tuple[str, ...], value: Any, here: str) -> str | None:
        kind = _kind_of_scalar(value)
        if kind is None:
            return None
        first = self._kinds.get(place)
        if first is None:
            if len(self._kinds) < MAX_FIELDS:
                self._kinds[place] = (kind, here)
            return None
        return f"{kind} here and {first[0]} at {first[1]}" if first[0] != kind else None

    def _check_sense(self, record: Trajectory) -> Iterator[Found]:
        actions = record.action_sequence
        if len(actions) > self.limits.actions:
            yield "E307", f"{len(actions):,} actions, more than {self.limits.actions:,}"
        times = [("timestamp", record.timestamp)]
        for index, action in enumerate(actions):
            where = f"action_sequence.{index}"
            times += [(f"{where}.start_time", action.start_time), (f"{where}.end_time", action.end_time)]
            if action.end_time < action.start_time:
                yield "E401", f"field '{where}.end_time' {action.end_time} lies before its start {action.start_time}"
            if index and action.start_time < actions[index - 1].start_time and not _are_parallel(actions, index):
                yield "E402", f"action {index} starts at {action.start_time}, before action {index - 1}"
        for name, time in times:
            if not EARLIEST <= time <= self._latest:
                yield "E403", f"field {name!r}: {time} is {'in the future' if time > EARLIEST else 'before 2000'}"
        steps = [advice.step for advice in record.metadata.advice]
        for index, step in enumerate(steps):
            if step > len(actions):
                yield "E404", f"field 'metadata.advice.{index}.step' is {step}, but there are {len(actions)} actions"
            elif step in steps[:index]:
                yield "E404", f"field 'metadata.advice.{index}.step': step {step} has an advice already"


def _are_parallel(actions: list[Action], index: int) -> bool:
    return actions[index].turn is not None and actions[index].turn == actions[index - 1].turn


def _json_problem(error: NotJson, line: bytes, is_whole: bool) -> Found:
    reason = str(error)
    if error.kind != "syntax":
        codes = {"constant": "E202", "duplicate_key": "E203", "surrogate": "E204", "depth": "E205", "number": "E206"}
        return codes[error.kind], reason
    if "Extra data" in reason:
        return "E207", f"more stands behind the JSON value, {reason.removeprefix('not JSON: Extra data ')}"
    if not is_whole:
        return "E108", f"the file ends inside a record ({reason})"
    if "Invalid control character" in reason:
        return "E210", f"a raw control character stands in a text, {reason[reason.index('at column') :]}"
    if re.match(rb"\s*\{\s*'", line):
        reason += "; JSON wants double quotes, this looks like Python's repr"
    return "E201", reason


def _code_of(fault: Fault) -> str:
    if fault.kind == "missing":
        return "E301"
    if fault.kind == "extra_forbidden":
        return "E302"
    if fault.where.endswith(("timestamp", "start_time", "end_time")):
        return "E305"
    if fault.kind in ("enum", "literal_error", "string_too_short") or fault.kind.endswith(("_than", "_than_equal")):
        return "E304"
    return "E306" if _kind_of_scalar(fault.value) and not fault.kind.startswith(("model", "list", "dict")) else "E303"


def _advice(record: Trajectory) -> Iterator[Found]:
    actions, metadata = record.action_sequence, record.metadata
    if not actions:
        yield "W605", "the record holds no action"
    elif record.outcome is Outcome.SUCCESS and actions[-1].error is not None and not metadata.answer:
        yield "W604", "outcome is success, but the last action failed and no answer follows"
    if not metadata.instruction:
        yield "W606", "field 'metadata.instruction' is missing: the record cannot be trained on"
    if not metadata.licence:
        yield "W607", "field 'metadata.licence' is missing"
    for key in metadata.model_extra or {}:
        if hint := _hint_for_metadata(key):
            yield "W608", f"key {key!r} of metadata has no meaning.{hint}"
    defined = {tool.function.name for tool in metadata.tools}
    unknown: dict[str, int] = {}
    for index, action in enumerate(actions):
        if action.error == "":
            yield "W612", f"field 'action_sequence.{index}.error' is an empty text; null is a call that succeeded"
        if defined and action.error is None and action.command not in defined:
            unknown.setdefault(action.command, index)
    for command, index in islice(unknown.items(), MAX_PROBLEMS_OF_A_LINE):
        hint = nearest(command, defined)
        yield "W610", f"action {index} calls {command!r}, which metadata.tools does not define.{hint}"


@lru_cache(4096)
def _hint_for_metadata(key: str) -> str:
    """The known key that this one is a slip of, if any: nearer than `nearest`, because other keys are allowed."""
    if key in KNOWN_METADATA:
        return ""
    near = difflib.get_close_matches(key, KNOWN_METADATA, n=1, cutoff=0.85)
    return f" Did you mean {near[0]!r}?" if near else ""


def files_to_check(paths: Sequence[Path]) -> list[Path]:
    """The files, with each folder replaced by its *.jsonl files, at any depth.

    Raises:
        UserError: if a folder holds none, or a file is named twice.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(inner for inner in path.rglob("*.jsonl") if inner.is_file())
            if not inside:
                raise UserError(f"{path}: the folder holds no file that ends in .jsonl")
            files += inside
        else:
            files.append(path)
    twice = [path for path, times in Counter(path.resolve() for path in files).items() if times > 1]
    if twice:
        raise UserError(f"{twice[0]} is named twice")
    return files
