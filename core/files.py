"""The one way in which files are written: whole or not at all, and by one command at a time.

    with whole_file(out) as file:                          one file
        file.write(b"...")

    with whole_result(out) as result:                      a file and what belongs to it
        rows = result.open(out)
        ...
        result.write(out.with_suffix(".counts.json"), text)

    with claimed_folder(out):                              a folder that is filled over some time
        ...

What is written has a name of its own (`.NAME.PID-RANDOM.partial`, in the same folder) until the block has ended well and all
of it is on the disk. Then it is moved to where it belongs, so that a reader sees the old file or the new one. When the block
ends otherwise, also because the disk is full, nothing of it is left and what was there before is untouched.

While a command writes a file or fills a folder, no other does: it holds an advisory lock (`.NAME.lock` beside a file, `.lock`
in a folder), which the operating system takes back when the process dies in whatever way. A second command is refused
with the first one's name. Where a file system has no locks, two commands still cannot mix what they write into one file.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import io
import json
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from core.errors import UserError


def file_sha256(path: str | Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


DECIDING_SUFFIXES = {".py", ".yaml", ".jinja", ".html", ".css", ".js"}


def code_sha256(root: Path, patterns: Iterable[str]) -> str:
    """sha256 over the code, tables and templates that lie under `root` and match a pattern, by path and content.

    Results that are kept under a key hold it, so that none of another code is taken for one of this.
    """
    files = {path for pattern in patterns for path in root.glob(pattern) if path.suffix in DECIDING_SUFFIXES}
    named = [f"{path.relative_to(root).as_posix()} {file_sha256(path)}" for path in sorted(files)]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()


@contextmanager
def open_unpacked(path: str | Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, those inside where its name ends in .gz or .zst.

    Raises:
        OSError: also where the packing is broken.
    """
    with ExitStack() as stack:
        if str(path).endswith(".gz"):
            yield stack.enter_context(gzip.open(path, "rb"))  # type: ignore[arg-type] # bytes, in all but its annotation
        elif str(path).endswith(".zst"):
            import pyarrow  # noqa: PLC0415 - takes a fifth of a second, and few files are packed this way

            packed = stack.enter_context(pyarrow.input_stream(str(path), compression="zstd"))
            yield stack.enter_context(io.BufferedReader(packed))
        else:
            yield stack.enter_context(open(path, "rb"))


LONGEST_NAME_BYTES = 120
"""Names that are longer stand in a temporary name as a hash: a file name has 255 bytes at most."""


def _stem(path: Path) -> str:
    name = path.name.encode(errors="surrogateescape")
    return path.name if len(name) <= LONGEST_NAME_BYTES else hashlib.sha256(name).hexdigest()[:32]


def partial_path(path: Path) -> Path:
    """A name beside `path` that nobody else has, for what is to be moved there when it is whole."""
    return path.with_name(f".{_stem(path)}.{os.getpid()}-{secrets.token_hex(4)}.partial")


@contextmanager
def naming(path: Path, *own: Path) -> Iterator[None]:
    """Errors of the operating system that name no file, or one of `own`, name `path`: somebody has to know which disk it is.

    What comes from a network or a closed pipe is no matter of files and stays as it is.
    """
    try:
        yield
    except (ConnectionError, TimeoutError):
        raise
    except OSError as error:
        # numpy raises one without a number when it could write a part only
        anonymous = error.filename is None and (error.errno is not None or type(error) is OSError)
        if anonymous or (error.filename is not None and error.filename in map(str, own)):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from None
        raise


# -------------------------------------------------------------------- one command at a time


class Lock:
    """An advisory lock on a file of its own, held by this process until it is released or the process ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            Taken: if another process holds it.
            OSError: if the file cannot be made.
        """
        self.path = path
        self.is_held = False
        while True:
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 - held until it is released
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    return  # this file system has no locks
                self._file.seek(0)
                owner = self._file.read(2000).decode(errors="replace").strip()
                self._file.close()
                raise Taken(owner or "another process") from None
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(self._file.fileno())):
                    break
            self._file.close()  # somebody released it, and so removed it, in between
        self.is_held = True
        job = f", Slurm job {os.environ['SLURM_JOB_ID']}" if "SLURM_JOB_ID" in os.environ else ""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        owner = f"process {os.getpid()} on {socket.gethostname()}{job}, since {since}: {' '.join(sys.argv)}\n"
        with suppress(OSError):  # on a full disk, a second command learns of some other process
            self._file.truncate(0)
            self._file.write(owner[:2000].encode(errors="replace"))

    def release(self) -> None:
        """Give the lock back. The file goes first, so that nobody takes a lock on a file that is about to go."""
        with suppress(OSError):
            self.path.unlink()
        self._file.close()


class Taken(Exception):
    """Another process holds a lock; the text says which."""


_held: dict[Path, int] = {}
"""Locks of this process, and how many blocks are inside of each."""


@contextmanager
def _alone(lock: Path, out: Path) -> Iterator[bool]:
    """Hold a lock; gives whether nobody else can be at work, which is unknown where there are no locks.

    Raises:
        UserError: naming the process that has it.
    """
    if lock in _held:
        _held[lock] += 1
        try:
            yield False
        finally:
            _held[lock] -= 1
        return
    with naming(out, lock):
        try:
            taken = Lock(lock)
        except Taken as owner:
            raise UserError(f"{out}: is being written by {owner}. Wait for it, or give another name") from None
    _held[lock] = 1
    try:
        yield taken.is_held
    finally:
        del _held[lock]
        taken.release()


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Nobody else writes the file or folder `out`, which need not be there yet, until the block ends.

    Raises:
        UserError: naming the process that does.
        OSError: naming `out`, for each error inside that names no file.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    target = Path(os.path.realpath(out))
    if _is_special(target):
        with naming(out):
            yield
        return
    with naming(out), _alone(target.with_name(f".{_stem(target)}.lock"), out) as is_alone:
        if is_alone:
            for left in _left_behind(target):
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
        yield


def _is_special(target: Path) -> bool:
    """Whether this is a pipe or a device, which nothing can be moved to."""
    return target.exists() and not (target.is_file() or target.is_dir())


def _left_behind(target: Path) -> list[Path]:
    """What killed commands left of `target`. Only for who holds its lock."""
    start = f".{_stem(target)}."
    names = os.listdir(target.parent)
    return [target.with_name(name) for name in names if name.startswith(start) and name.endswith(".partial")]


@contextmanager
def claimed_folder(folder: Path) -> Iterator[None]:
    """Make `folder`, where it is not there, and let nobody else fill it until the block ends.

    Raises:
        UserError: naming the process that does, or if `folder` is a file.
        OSError: naming `folder`, for each error inside that names no file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, expected a folder")
    folder.mkdir(parents=True, exist_ok=True)
    with naming(folder), _alone(folder.resolve() / ".lock", folder):
        yield


# -------------------------------------------------------------------- whole or not at all


class _Raw(io.FileIO):
    """A file whose errors name the file that it is going to be."""

    def __init__(self, path: Path, mode: str, named: Path) -> None:
        self._named = named
        with naming(named, path):
            super().__init__(path, mode)

    def write(self, data: object) -> int:
        with naming(self._named):
            return super().write(data)  # type: ignore[arg-type] # as above


def appending(path: Path) -> IO[bytes]:
    """A file to add to, whose errors name it. A kill or a full disk may leave a part of the last line."""
    return io.BufferedWriter(_Raw(path, "ab", path))


class ResultFiles:
    """The files of one result, on their way. `whole_result` makes one."""

    def __init__(self) -> None:
        self._files: dict[Path, tuple[Path, IO[bytes]]] = {}
        self._folders: dict[Path, Path] = {}
        self._unwanted: list[Path] = []

    def open(self, path: Path) -> IO[bytes]:
        """A file to write to, which will be `path`. What is no regular file, a pipe for instance, is written at once.

        Raises:
            UserError: if `path` is a folder.
        """
        if path.is_dir():
            raise UserError(f"{path}: is a folder, expected the name of a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        target = Path(os.path.realpath(path))  # a link stays a link
        partial = target if _is_special(target) else partial_path(target)
        raw = _Raw(partial, "wb" if partial == target else "xb", path)
        file: IO[bytes] = io.BufferedWriter(raw, 1 << 16)
        self._files[target] = (partial, file)
        return file

    def write(self, path: Path, text: str | bytes) -> None:
        """A whole file of `text` that will be `path`."""
        self.open(path).write(text.encode() if isinstance(text, str) else text)

    def folder(self, path: Path) -> Path:
        """A folder to fill, which will take the place of the folder `path`."""
        partial = partial_path(path)
        with naming(path, partial):
            partial.mkdir(parents=True)
        self._folders[path] = partial
        return partial

    def remove(self, path: Path) -> None:
        """`path` belongs to this result and is not to be there: neither an earlier file nor what was written until now."""
        self.forget(path)
        self._unwanted.append(path)

    def forget(self, path: Path) -> None:
        """What was written to `path` is not to be there after all; an earlier file stays."""
        target = Path(os.path.realpath(path))
        if target in self._files:
            self._drop(*self._files.pop(target), target)

    def commit(self) -> None:
        """Wait until all is on the disk, then move it to its places; earlier files that belong to the first go before it."""
        moved = [(partial, target) for target, (partial, _) in self._files.items() if partial != target]
        for target, (partial, file) in self._files.items():
            with naming(target):
                file.flush()
                if partial != target:
                    os.fsync(file.fileno())
                file.close()
        for partial in self._folders.values():
            _flush_tree(partial)
        for _, target in moved[1:]:  # a kill in between leaves no row beside the counts of others
            target.unlink(missing_ok=True)
        for path in self._unwanted:
            path.unlink(missing_ok=True)
        for target, partial in self._folders.items():
            shutil.rmtree(target, ignore_errors=True)
            with naming(target, partial):
                os.replace(partial, target)
        for partial, target in moved:
            with naming(target, partial):
                os.replace(partial, target)
        for folder in {target.parent for _, target in moved}:
            flush(folder)

    def discard(self) -> None:
        """Remove what was not moved."""
        for target, (partial, file) in self._files.items():
            self._drop(partial, file, target)
        for partial in self._folders.values():
            shutil.rmtree(partial, ignore_errors=True)

    @staticmethod
    def _drop(partial: Path, file: IO[bytes], target: Path) -> None:
        with suppress(OSError):  # what could not be written before cannot be written now
            file.close()
        if partial != target:
            partial.unlink(missing_ok=True)


@contextmanager
def whole_result(out: Path) -> Iterator[ResultFiles]:
    """Files that belong together, `out` the first of them: all are there once the block has ended well, or none.

    Raises:
        UserError: if another process is writing `out`.
        OSError: naming the file that could not be written.
    """
    if out.is_dir():
        raise UserError(f"{out}: is a folder, expected the name of a file")
    with claimed(out):
        result = ResultFiles()
        try:
            yield result
            result.commit()
        finally:
            result.discard()


@contextmanager
def whole_file(out: Path) -> Iterator[IO[bytes]]:
    """A file to write bytes to, which stands at `out` once the block has ended well, and nowhere otherwise.

    Raises:
        UserError, OSError: as `whole_result`.
    """
    with whole_result(out) as result:
        yield result.open(out)


def write_whole(path: Path, text: str | bytes) -> None:
    """Write a file so that a kill leaves the old text or the new one, never a part."""
    with whole_file(path) as file:
        file.write(text.encode() if isinstance(text, str) else text)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file that one of our own commands wrote; empty where there is none, or no whole one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: Any) -> None:
    """Write a value so that a kill leaves the old one or the new one."""
    write_whole(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def partial_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which stands at `out` once the block has ended well, and nowhere otherwise.

    `out` must not be there, or be empty; who wants nobody else to make it meanwhile claims it.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(out)
    with naming(out, partial):
        partial.mkdir()
        try:
            yield partial
            _flush_tree(partial)
            os.replace(partial, out)
            flush(out.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _flush_tree(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        flush(path)


def flush(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power failure."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
