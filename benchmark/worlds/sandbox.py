"""Run Python that nobody trusts: files in, what it printed and the files it left out.

`jail.py` is the inside and says how the walls are made. What they hold:

==========================  ========================================================================================
other files                 a root of its own: the interpreter and the system's libraries, read-only, and nothing else
other processes             a process namespace of its own: nothing outside can be seen or signalled
the network                 a network namespace without any interface, and no socket but AF_UNIX
rights                      no capability, `no_new_privs`, a filter on system calls; nobody's user where we are root
time                        `SECONDS` on the clock, then everything that the code has started ends
memory                      `MEMORY_BYTES` of addresses a process and `PROCESSES` processes; ends first when memory ends
disk                        a folder in memory of `DISK_BYTES`, gone with the run; one file at most `FILE_BYTES`
==========================  ========================================================================================

Nothing runs where one of the walls is missing: `run_python` raises `UserError` and says which and what to do about it.

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
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data.errors import UserError

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
NOBODY = 65534

_ADVICE = (
    "It needs Linux 5.12 or newer on x86_64 or aarch64, and user namespaces: on Ubuntu "
    "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`, in a container `docker run --privileged` (or podman). "
    "Without, leave the world out with --worlds."
)
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")


@dataclass(frozen=True)
class Run:
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


def run_python(files: Mapping[str, bytes], *, code: str | None = None, path: str = "<code>") -> Run:
    """Run `code`, or else the file at `path`, in a box that holds `files` and nothing else.

    The same files and code give the same result, as long as the code asks neither for the time nor for chance of the system
    (`random` starts the same in each run).

    Raises:
        UserError: where this machine cannot isolate it; nothing has run then.
    """
    return _open_jail().run(files, code=code, path=path)


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
    return _jail


class _Jail:
    """A running `jail.py` and the pipes to it."""

    def __init__(self) -> None:
        if not sys.platform.startswith("linux"):
            raise UserError(
                f"the code world runs code that nobody trusts, and {platform.system()} has no way. {_ADVICE}"
            )
        self.owner = os.getpid()
        self._one_at_a_time = threading.Lock()
        self._requests = 0
        self._unread = b""
        base = os.path.realpath(sys.base_prefix)
        executable = os.path.realpath(sys.executable)
        if not executable.startswith(base + "/"):
            executable = f"{base}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
        self.process = subprocess.Popen(
            [executable, "-I", "-S", str(Path(__file__).with_name("jail.py")), base, executable],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={},
            start_new_session=True,
        )
        atexit.register(self.close)
        self._expect("unshared")
        # As root: root stays root for making the walls, and code becomes nobody. Else there is only the one user.
        self.user = NOBODY if os.geteuid() == 0 else 0
        try:
            self._map_users()
        except OSError as error:
            self._refuse(f"mapping users: {error.strerror}")
        self._send("go")
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

    def run(self, files: Mapping[str, bytes], *, code: str | None, path: str) -> Run:
        for name in files:
            if not name or name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
                raise ValueError(f"{name!r} is no path of a box")
        with self._one_at_a_time:
            return self._run(files, code, path)

    def _run(self, files: Mapping[str, bytes], code: str | None, path: str) -> Run:
        self._requests += 1
        self._send(
            {
                "number": self._requests,
                "files": {name: content.decode("utf-8", "surrogateescape") for name, content in files.items()},
                "code": code,
                "path": path,
                "user": self.user,
                "seconds": SECONDS,
                "disk_bytes": DISK_BYTES,
                "max_files": FILES,
                "keep_bytes": KEEP_BYTES,
                "output_bytes": OUTPUT_BYTES,
                "limits": {
                    "RLIMIT_CPU": SECONDS + 1,
                    "RLIMIT_AS": MEMORY_BYTES,
                    "RLIMIT_NPROC": PROCESSES,
                    "RLIMIT_FSIZE": FILE_BYTES,
                    "RLIMIT_NOFILE": 64,
                    "RLIMIT_CORE": 0,
                },
            }
        )
        answer = self._answer(SECONDS + 30)
        while answer and answer["number"] != self._requests:  # of a supervisor that was ended after it had answered
            answer = self._answer(SECONDS + 30)
        if "output" not in answer:
            self.close()
            raise RuntimeError(f"the sandbox broke: {answer}")
        return Run(
            output=_normal(answer["output"]),
            errors=_normal(answer["errors"]),
            ended=answer["ended"],
            exit_code=answer["exit_code"],
            files={name: text.encode("utf-8", "surrogateescape") for name, text in answer["files"].items()},
            left_out=tuple(answer["left_out"]),
        )

    def close(self) -> None:
        """End the sandbox and everything in it."""
        if self.owner == os.getpid():
            self.process.kill()
            self.process.wait()

    def _send(self, message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write((json.dumps(message) + "\n").encode("ascii"))
        self.process.stdin.flush()

    def _answer(self, seconds: float) -> dict[str, Any]:
        """The next answer, or nothing where the sandbox has ended or lets us wait for longer than that."""
        assert self.process.stdout is not None
        pipe = self.process.stdout.fileno()
        while b"\n" not in self._unread:
            readable, _, _ = select.select([pipe], [], [], seconds)
            piece = os.read(pipe, 1 << 16) if readable else b""
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

    def _refuse(self, why: str) -> None:
        self.close()
        assert self.process.stderr is not None
        more = self.process.stderr.read().decode("utf-8", "replace").strip().splitlines()[-1:]
        raise UserError(
            f"the code world runs code that nobody trusts, and this machine cannot isolate it "
            f"({'; '.join([why, *more])}). {_ADVICE}"
        )


def _normal(text: str) -> str:
    """Paths as the code sees them from its folder, and no addresses."""
    return _ADDRESS.sub("0x...", text.replace("/box/", ""))
