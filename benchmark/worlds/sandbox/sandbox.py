"""Run Python that nobody trusts: files in, what it printed and the files it left out.

`jail.py` is the inside and says how the walls are made. What they hold:

==========================  ========================================================================================
other files                 a root of its own: the interpreter, its library and what these are linked with, read-only
other processes             a process namespace of its own: nothing outside can be seen or signalled
the network                 a network namespace without any interface, and no socket but AF_UNIX
rights                      no capability, `no_new_privs`, a filter on system calls; nobody's user where we are root
time                        `SECONDS` on the clock, then everything that the code has started ends
memory                      `MEMORY_BYTES` of addresses a process and `PROCESSES` processes; ends first when memory ends
disk                        a folder in memory of `DISK_BYTES`, gone with the run; one file at most `FILE_BYTES`
==========================  ========================================================================================

Nothing runs where one of the walls is missing, or where code could not have what is promised to it (`ulimit`): `run_python`
raises `UserError` and says which and what to do about it. So what a `Run` says is the code's own doing. Whatever runs ends with
the process that asked for it, however that ends.

The files of a box are data outside of it, `{path: bytes}`, never a folder that code has written to. So no link that code
leaves behind can lead anybody anywhere.
"""

from __future__ import annotations

import atexit
import json
import os
import platform
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from core.errors import UserError

SECONDS = 5
MEMORY_BYTES = 512 << 20
PROCESSES = 16
FILE_BYTES = 4 << 20
DISK_BYTES = 16 << 20
FILES = 512
"""Files and folders that a box can hold."""
KEEP_BYTES = 1 << 20
"""What is taken out of a box; files beyond are left out and named."""
OUTPUT_BYTES = 64 << 10
"""What code may write to each of standard output and error; it is ended at more."""
OPEN_FILES = 64
STACK_BYTES = 8 << 20
NOBODY = 65534

_LEAVE_OUT = "or leave the world out with --worlds."
_ADVICE = (
    "It needs Linux 5.12 or newer on x86_64 or aarch64, and user namespaces: on Ubuntu "
    "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`, in a container `docker run --privileged` (or podman). "
    "Without, leave the world out with --worlds."
)
_OURS = 3
"""Processes of the sandbox itself, which count for the same user where we are not root; two more beside another run."""
_NEEDED = {
    "RLIMIT_CPU": (SECONDS + 1, "-t", 1, "seconds of processor time"),
    "RLIMIT_AS": (MEMORY_BYTES, "-v", 1024, "KiB of memory"),
    "RLIMIT_DATA": (MEMORY_BYTES, "-d", 1024, "KiB of data"),
    "RLIMIT_STACK": (STACK_BYTES, "-s", 1024, "KiB of stack"),
    "RLIMIT_NPROC": (PROCESSES + _OURS + 2, "-u", 1, "processes"),
    "RLIMIT_FSIZE": (FILE_BYTES, "-f", 1024, "KiB a file"),
    "RLIMIT_NOFILE": (OPEN_FILES, "-n", 1, "open files"),
}
"""Hard limits below which code could not have what it is promised: the value, and how a shell names and counts it."""
_PROBE = f"""
import mmap, os
held = mmap.mmap(-1, {MEMORY_BYTES // 2})
files = [os.open("probe", os.O_CREAT | os.O_RDWR) for _ in range({OPEN_FILES // 2})]
os.pwrite(files[0], b"x", {FILE_BYTES - 1})
reader, writer = os.pipe()
for _ in range({PROCESSES - 1}):
    if os.fork() == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
print("held")
"""
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")


@dataclass(frozen=True)
class Execution:
    """What became of some code."""

    output: str
    """Standard output, without the paths and addresses that differ between runs."""
    errors: str
    """Standard error, the same."""
    ended: Literal["time", "output", "memory"] | None
    """Why it was ended, or None where it ended by itself. `memory` is that of the whole machine; no files are left then."""
    exit_code: int
    """As a shell shows it, a signal negative."""
    files: dict[str, bytes]
    """The regular files of the box afterwards, by path."""
    left_out: tuple[str, ...]
    """Paths of what is not among them: links, devices, pipes, and files that are too large."""


def run_python(files: Mapping[str, bytes], *, code: str | None = None, path: str = "<code>") -> Execution:
    """Run `code`, or else the file at `path`, in a box that holds `files` and nothing else.

    The same files and code give the same result, as long as the code asks neither for the time nor for chance of the system
    (`random` starts the same in each run).

    Raises:
        UserError: where this machine cannot isolate it; nothing has run then.
    """
    return _run(_request(files, code, path))[0]


def run_beside(
    files: Mapping[str, bytes], code: str, *, other_files: Mapping[str, bytes], other_code: str
) -> tuple[Execution, Execution]:
    """Run two codes at the same time, each in a box of its own. What one writes to file descriptor 4 the other reads from 3.

    They have nothing else in common: neither can see the other's files, memory or processes.

    Raises:
        UserError: as `run_python`.
    """
    code_run, other_run = _run(_request(files, code, "<code>"), _request(other_files, other_code, "<other>"))
    return code_run, other_run


def check_isolation() -> None:
    """Start the sandbox, if it is not there yet.

    Raises:
        UserError: where this machine lacks what isolation takes; says what.
    """
    _open_jail()


_jail: _Jail | None = None


def _open_jail() -> _Jail:
    """The one of this process: a child made by fork needs its own, because answers would get mixed up."""
    global _jail
    if _jail is None or _jail.owner != os.getpid() or _jail.process.poll() is not None:
        _jail = _Jail()
        _jail.probe()
    return _jail


def _run(*requests: dict[str, Any]) -> list[Execution]:
    for _ in range(2):  # a sandbox that was ended meanwhile is replaced
        answers = _open_jail().ask(requests)
        if answers is not None:
            return answers
    raise UserError(
        "the sandbox of the code world was ended twice before it could run anything: memory may be short here, or "
        f"something ends its processes. Make room and run the command again, {_LEAVE_OUT}"
    )


def _request(files: Mapping[str, bytes], code: str | None, path: str) -> dict[str, Any]:
    for name in files:
        if not name or name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
            raise ValueError(f"{name!r} is no path of a box")
    return {
        "files": {name: content.decode("utf-8", "surrogateescape") for name, content in files.items()},
        "code": code,
        "path": path,
        "seconds": SECONDS,
        "disk_bytes": DISK_BYTES,
        "max_files": FILES,
        "keep_bytes": KEEP_BYTES,
        "output_bytes": OUTPUT_BYTES,
    }


class _Jail:
    """A running `jail.py` and the pipes to it."""

    def __init__(self) -> None:
        if not sys.platform.startswith("linux"):
            raise UserError(
                f"the code world runs code that nobody trusts, and {platform.system()} has no way. {_ADVICE}"
            )
        _check_limits()
        self.owner = os.getpid()
        self._one_at_a_time = threading.Lock()
        self._unread = b""
        base = os.path.realpath(sys.base_prefix)
        executable = os.path.realpath(sys.executable)
        if not executable.startswith(base + "/"):
            executable = f"{base}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
        inside = str(Path(__file__).with_name("jail.py"))
        try:
            self.process = subprocess.Popen(
                [executable, "-I", "-S", inside, str(self.owner), str(STACK_BYTES), base, executable],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env={},
                start_new_session=True,
            )
        except OSError as error:
            raise UserError(
                f"the sandbox of the code world cannot be started: {error.strerror}. Raise the limit (`ulimit -a` shows "
                f"them) or end other programs, {_LEAVE_OUT}"
            ) from error
        atexit.register(self.close)
        self._expect("unshared")
        # As root: root stays root for making the walls, and code becomes nobody. Else there is only the one user.
        self.user = NOBODY if os.geteuid() == 0 else 0
        try:
            self._map_users()
            self._write(b"!")
        except OSError as error:
            self._refuse(f"mapping users: {error.strerror}")
        self.python = self._expect("ready")["python"]

    def _map_users(self) -> None:
        place = Path(f"/proc/{self.process.pid}")
        if self.user:
            for name in ("uid_map", "gid_map"):
                (place / name).write_text(f"0 0 1\n{NOBODY} {NOBODY} 1\n", encoding="ascii")
        else:
            (place / "setgroups").write_text("deny", encoding="ascii")
            (place / "uid_map").write_text(f"0 {os.geteuid()} 1\n", encoding="ascii")
            (place / "gid_map").write_text(f"0 {os.getegid()} 1\n", encoding="ascii")

    def probe(self) -> None:
        """See that code can have what it is promised, which control groups and other programs of the user may forbid.

        Raises:
            UserError: it cannot.
        """
        answers = self.ask([_request({}, _PROBE, "<probe>")])
        if answers is None or answers[0].output != "held\n":
            self.close()
            told = (answers[0].errors.strip().splitlines() if answers else [])[-1:] or ["it was ended"]
            raise UserError(
                f"the code world gives code {PROCESSES} processes, {MEMORY_BYTES >> 20} MiB and {OPEN_FILES} open files, and "
                f"this machine does not ({told[0]}). Raise the limit (`ulimit -a`, or that of the control group) or "
                f"end other programs, {_LEAVE_OUT}"
            )

    def ask(self, requests: Sequence[dict[str, Any]]) -> list[Execution] | None:
        """Have requests run, the first two side by side; None where the sandbox was ended before their code began.

        Raises:
            UserError: their code could not be started.
        """
        with self._one_at_a_time:
            try:
                return self._ask(requests)
            except BaseException:  # Ctrl-C for one: nothing runs on, and no late answer is taken for another's
                self.close()
                raise

    def _ask(self, requests: Sequence[dict[str, Any]]) -> list[Execution] | None:
        limits = {
            "RLIMIT_CPU": SECONDS + 1,
            "RLIMIT_AS": MEMORY_BYTES,
            "RLIMIT_NPROC": PROCESSES if self.user else PROCESSES + _OURS + 2 * (len(requests) - 1),
            "RLIMIT_FSIZE": FILE_BYTES,
            "RLIMIT_NOFILE": OPEN_FILES,
            "RLIMIT_CORE": 0,
        }
        common = {"user": self.user, "limits": limits, "beside": len(requests) > 1}
        try:
            for request in requests:
                message = json.dumps(request | common).encode("ascii")
                self._write(len(message).to_bytes(8, "big") + message)
        except BrokenPipeError:
            self._check_whole()
            return None
        answer = self._answer(30)
        has_started = "started" in answer
        if has_started:
            answer = self._answer(SECONDS + 30)
        if not answer:
            self._check_whole()
            if not has_started:
                return None
        answers = [answer or _ENDED, *([answer.get("beside") or _ENDED] if len(requests) > 1 else [])]
        for each in answers:
            if "failed" in each:
                raise UserError(
                    f"the sandbox of the code world could not start code: {each['failed']}. That is this machine's doing, not "
                    f"the code's: look at `ulimit -a` and at what else runs here, then run the command again, {_LEAVE_OUT}"
                )
        return [_answer_to_run(each) for each in answers]

    def _check_whole(self) -> None:
        """Close what has ended, and raise `RuntimeError` where that was a mistake of ours."""
        self.close()
        assert self.process.stderr is not None
        if told := self.process.stderr.read().decode("utf-8", "replace").strip().splitlines():
            raise RuntimeError(f"the sandbox broke: {told[-1]}")

    def close(self) -> None:
        """End the sandbox and everything in it."""
        if self.owner == os.getpid():
            self.process.kill()
            self.process.wait()
            atexit.unregister(self.close)

    def _write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        left = memoryview(data)
        while left:
            left = left[os.write(self.process.stdin.fileno(), left) :]

    def _answer(self, seconds: float) -> dict[str, Any]:
        """The next answer, or nothing where the sandbox has ended.

        Raises:
            UserError: none has come in that time.
        """
        assert self.process.stdout is not None
        pipe = self.process.stdout.fileno()
        while b"\n" not in self._unread:
            readable, _, _ = select.select([pipe], [], [], seconds)
            if not readable:
                raise UserError(
                    f"the sandbox of the code world gave no answer for {seconds} seconds: the machine is overloaded, or "
                    f"something has stopped it. Run the command again, {_LEAVE_OUT}"
                )
            piece = os.read(pipe, 1 << 16)
            if not piece:
                return {}
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return dict(json.loads(line))

    def _expect(self, word: str) -> dict[str, Any]:
        answer = self._answer(30)
        if word not in answer:
            self._refuse(str(answer.get("failed") or "the sandbox did not start"))
        return answer

    def _refuse(self, why: str) -> NoReturn:
        self.close()
        assert self.process.stderr is not None
        more = self.process.stderr.read().decode("utf-8", "replace").strip().splitlines()[-1:]
        raise UserError(
            f"the code world runs code that nobody trusts, and this machine cannot isolate it "
            f"({'; '.join([why, *more])}). {_ADVICE}"
        )


_ENDED: dict[str, Any] = {
    "output": "",
    "errors": "",
    "ended": "memory",
    "exit_code": -signal.SIGKILL,
    "files": {},
    "left_out": [],
}
"""Of a run with which the sandbox was ended: only the kernel does that, when the memory of the machine ends."""


def _answer_to_run(answer: dict[str, Any]) -> Execution:
    return Execution(
        output=_normal(answer["output"]),
        errors=_normal(answer["errors"]),
        ended=answer["ended"],
        exit_code=answer["exit_code"],
        files={name: text.encode("utf-8", "surrogateescape") for name, text in answer["files"].items()},
        left_out=tuple(answer["left_out"]),
    )


def _check_limits() -> None:
    import resource  # noqa: PLC0415 - there is none on Windows, where other worlds can be used

    for name, (needed, flag, unit, what) in _NEEDED.items():
        _, hard = resource.getrlimit(getattr(resource, name))
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise UserError(
                f"the code world gives code {needed // unit} {what}, and this machine's hard limit is {hard // unit} "
                f"(`ulimit -H {flag}`). Raise it, {_LEAVE_OUT}"
            )


def _normal(text: str) -> str:
    """Paths as the code sees them from its folder, and no addresses."""
    return _ADDRESS.sub("0x...", text.replace("/box/", ""))
