"""The inside of the sandbox: what starts as a program of its own, locks itself in, and then runs code on request.

Standard library only, because nothing else is in there. `sandbox.py` starts it and talks to it through two pipes; each
message is one line of JSON.

1. `enter` makes the walls: user, mount, network, IPC and host-name namespaces, and a new root that holds an interpreter,
   the system's libraries and three devices, all read-only. Then it starts an interpreter in there (so that no path of the
   machine is known inside) which calls `serve`.
2. `serve` forks a *supervisor* for each request. It gets a mount, IPC and process namespace of its own, with empty folders in
   memory as `/box` and `/tmp`, and writes the request's files to `/box`.
3. The supervisor forks the *runner*, process 1 of the namespace: another user where that is possible, no capability, no
   way to get one, limits, a filter on system calls. It runs the code in the interpreter that is already there, because
   starting one takes ten times as long.
4. When the runner ends, or its time is over, the kernel ends everything it has started. Only then does the supervisor
   read `/box`, following no link, and answer.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import gc
import json
import linecache
import os
import platform
import random
import resource
import select
import signal
import stat
import struct
import sys
import threading
import time
import traceback
from functools import cache
from typing import Any, NoReturn

BOX = "/box"
SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")

_NEW_NS, _NEW_IPC, _NEW_UTS, _NEW_USER, _NEW_PID, _NEW_NET = (
    0x00020000, 0x08000000, 0x04000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_BIND, _REC, _PRIVATE, _NOSUID, _NODEV = 4096, 16384, 1 << 18, 2, 4
_MOUNT_SETATTR, _AT_RECURSIVE, _ATTR_RDONLY, _ATTR_NOSUID = 442, 0x8000, 1, 2
_NO_RANDOM_ADDRESSES = 0x0040000
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _unshare(flags: int, what: str) -> None:
    _check(_libc.unshare(flags), what)


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _check(result, f"mount {target}")


# System calls that the runner may not make: (name, number on x86_64, number on aarch64). Most need a capability that it
# does not have anyway; what counts is that it cannot make namespaces, look into other processes or reach the kernel's
# large interfaces.
_DENIED = (
    ("ptrace", 101, 117), ("mount", 165, 40), ("umount2", 166, 39), ("pivot_root", 155, 41), ("chroot", 161, 51),
    ("unshare", 272, 97), ("setns", 308, 268), ("bpf", 321, 280), ("perf_event_open", 298, 241), ("keyctl", 250, 219),
    ("add_key", 248, 217), ("request_key", 249, 218), ("userfaultfd", 323, 282), ("process_vm_readv", 310, 270),
    ("process_vm_writev", 311, 271), ("io_uring_setup", 425, 425), ("open_tree", 428, 428), ("move_mount", 429, 429),
    ("fsopen", 430, 430), ("fsmount", 432, 432), ("mount_setattr", 442, 442),
)  # fmt: skip
_ARCHITECTURES = {"x86_64": (0, 0xC000003E, 41, 56), "aarch64": (1, 0xC00000B7, 198, 220)}
"""Column of the table, audit number, and the numbers of `socket` and `clone`, by machine."""
_CLONE3 = 435


@cache
def system_call_filter() -> bytes:
    """The BPF program of the runner. Sockets other than AF_UNIX are refused: a network namespace does not cover them all."""
    column, audit, socket_call, clone_call = _ARCHITECTURES[platform.machine()]
    allow, deny, kill = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
    missing = 0x00050000 | errno.ENOSYS  # C libraries fall back from clone3, whose flags cannot be read here, to clone
    load, equal, greater, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    number, architecture, argument = 0, 4, 16  # offsets in struct seccomp_data; the low half of the first argument
    program: list[tuple[int, int, int, int]] = [
        (load, 0, 0, architecture), (equal, 1, 0, audit), (give, 0, 0, kill),
        (load, 0, 0, number), (greater, 0, 1, 0x40000000), (give, 0, 0, kill),  # x32 calls
        (equal, 0, 1, _CLONE3), (give, 0, 0, missing),
    ]  # fmt: skip
    for row in _DENIED:
        program += [(equal, 0, 1, int(row[1 + column])), (give, 0, 0, deny)]
    program += [
        (equal, 0, 3, socket_call), (load, 0, 0, argument), (equal, 4, 0, 1), (give, 0, 0, deny),
        (equal, 0, 2, clone_call), (load, 0, 0, argument), (any_bit, 1, 0, _NEW_USER), (give, 0, 0, allow),
        (give, 0, 0, deny),
    ]  # fmt: skip
    return b"".join(struct.pack("HBBI", *line) for line in program)


# 1. The walls.


def enter(base_prefix: str, executable: str) -> None:
    """Lock this process in and become the interpreter inside. Writes `{"failed": why}` where a wall cannot be made.

    Between the two namespaced steps the parent must write the maps of users: a process cannot map others than itself.
    """
    try:
        if platform.machine() not in _ARCHITECTURES:
            raise OSError(0, f"no filter of system calls for {platform.machine()}")
        _raise_oom_score()
        _unshare(_NEW_USER, "a user namespace")
        _say({"unshared": True})
        if not sys.stdin.buffer.readline():
            return
        _unshare(_NEW_NS | _NEW_NET | _NEW_IPC | _NEW_UTS, "mount, network, IPC and host-name namespaces")
        _check(_libc.sethostname(b"box", 3), "the host's name")
        with open(__file__, encoding="utf-8") as file:
            source = file.read()
        # Put together over a folder that the interpreter is not in; in a mount namespace of its own, nobody else sees it.
        _make_root("/mnt" if base_prefix.startswith("/tmp/") else "/tmp", base_prefix, source)
        inside = "/python" + executable.removeprefix(base_prefix)
        environment = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "LD_LIBRARY_PATH": "/python/lib"}
        arguments = ["-s", "-S", "-P", "-B", "-X", "no_debug_ranges", "/jail.py", "serve"]
        _libc.personality(_NO_RANDOM_ADDRESSES)  # so that what depends on them, such as the order of a set, repeats
        os.execve(inside, [inside, *arguments], environment)
    except OSError as error:
        _say({"failed": error.strerror or str(error)})


def _raise_oom_score() -> None:
    """When memory ends, whatever runs in here is what the kernel ends first."""
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def _make_root(root: str, base_prefix: str, source: str) -> None:
    _mount("none", "/", "", _REC | _PRIVATE)
    _mount("box", root, "tmpfs", _NOSUID, "size=1m,mode=755")
    for path in (*SYSTEM, *DEVICES):
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)
        elif os.path.exists(path):
            _bind(path, root + path)
    _bind(base_prefix, root + "/python")
    library = f"{root}/python/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    if os.path.isdir(library):
        _mount("none", library, "tmpfs", _NOSUID, "size=4k")
    for name in (BOX, "/tmp", "/old"):
        os.mkdir(root + name, 0o755)
    with open(root + "/jail.py", "w", encoding="utf-8") as file:
        file.write(source)
    os.chdir(root)
    _check(_libc.pivot_root(b".", b"old"), "pivot_root")
    os.chdir("/")
    _check(_libc.umount2(b"/old", 2), "umount")  # 2: at once, whoever uses it
    os.rmdir("/old")
    read_only = struct.pack("QQQQ", _ATTR_RDONLY | _ATTR_NOSUID, 0, 0, 0)
    result = _libc.syscall(_MOUNT_SETATTR, -100, b"/", _AT_RECURSIVE, read_only, ctypes.c_size_t(len(read_only)))
    _check(result, "mount_setattr (Linux 5.12)")


def _bind(path: str, place: str) -> None:
    if os.path.isdir(path):
        os.makedirs(place, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb"):
            pass
    _mount(path, place, "", _BIND | _REC)


# 2. and 4. One request: a supervisor outside the walls of the code, inside those of the sandbox.


def serve() -> None:
    """Answer requests until the pipe ends."""
    for module in ("collections", "csv", "datetime", "functools", "itertools", "math", "re"):
        __import__(module)  # most code needs some of them; loaded once instead of in each run
    system_call_filter()
    gc.freeze()  # a collection in a run would copy every page that is shared with it
    _say({"ready": True, "python": platform.python_version()})
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        number = {"number": request["number"]}
        supervisor = os.fork()
        if supervisor == 0:
            try:
                _say(number | _supervise(request))
            except BaseException as error:
                _say(number | {"broken": f"{type(error).__name__}: {error}"})
            os._exit(0)
        _, status = os.waitpid(supervisor, 0)
        if status:  # only the kernel does that, when the memory of the machine ends
            ended = {"ended": "memory", "exit_code": -signal.SIGKILL}
            _say(number | {"output": "", "errors": "", "files": {}, "left_out": []} | ended)


def _supervise(request: dict[str, Any]) -> dict[str, Any]:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _unshare(_NEW_NS | _NEW_IPC | _NEW_PID, "a run's namespaces")
    owner = request["user"]
    options = f"size={request['disk_bytes']},nr_inodes={request['max_files']},mode=700,uid={owner},gid={owner}"
    for place in (BOX, "/tmp"):
        _mount("box", place, "tmpfs", _NOSUID | _NODEV, options)
    for path, text in request["files"].items():
        place = f"{BOX}/{path}"
        folder = os.path.dirname(place)
        os.makedirs(folder, exist_ok=True)
        with open(place, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
        while owner and place != BOX:
            os.chown(place, owner, owner)
            place = os.path.dirname(place)
    pipes = [os.pipe(), os.pipe()]
    runner = os.fork()
    if runner == 0:
        _run(request, pipes[0][1], pipes[1][1])
    for _, end in pipes:
        os.close(end)
    began = time.monotonic()
    texts, ended = _watch(runner, [pipes[0][0], pipes[1][0]], began + request["seconds"], request["output_bytes"])
    _, status = os.waitpid(runner, 0)
    files, left_out = _collect(request["keep_bytes"])
    return {
        "output": texts[0],
        "errors": texts[1],
        "ended": ended,
        "exit_code": os.waitstatus_to_exitcode(status),
        "files": files,
        "left_out": left_out,
    }


def _watch(runner: int, ends: list[int], deadline: float, most: int) -> tuple[list[str], str | None]:
    """What the code writes, until it ends, its time is over or it has written more than `most` bytes."""
    watched = os.pidfd_open(runner)
    texts = dict.fromkeys(ends, b"")
    ended = None
    alive, open_ends = True, list(ends)
    while alive or open_ends:
        left = deadline - time.monotonic()
        readable, _, _ = select.select(
            [*open_ends, *([watched] if alive else [])], [], [], max(left, 0) if alive else 1
        )
        if alive and (not readable or sum(map(len, texts.values())) > most):
            ended = "output" if readable else "time"
            os.kill(runner, signal.SIGKILL)
            alive = False  # the kernel ends the rest of its namespace with it, and so closes the pipes
        if not alive and not readable:
            break
        for end in readable:
            if end == watched:
                alive = False
                continue
            piece = os.read(end, 65536)
            if not piece:
                open_ends.remove(end)
            texts[end] = (texts[end] + piece)[: most + 1]
    return [texts[end][:most].decode("utf-8", "replace") for end in ends], ended


def _collect(most: int) -> tuple[dict[str, str], list[str]]:
    """The regular files of the box, by path, and what is no file or too much. No link is followed."""
    files: dict[str, str] = {}
    left_out: list[str] = []

    def unreadable(error: OSError) -> None:  # a path that is too long
        left_out.append(str(error.filename).removeprefix(f"{BOX}/")[:100])

    for folder, folders, names in os.walk(BOX, onerror=unreadable):
        folders.sort()
        for name in sorted([*names, *(each for each in folders if os.path.islink(f"{folder}/{each}"))]):
            path = f"{folder}/{name}"
            shown = path.removeprefix(f"{BOX}/")
            status = os.lstat(path)
            try:
                shown.encode("utf-8")
                if not stat.S_ISREG(status.st_mode) or status.st_size > most:
                    raise OSError
                with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                    content = file.read()
            except (OSError, UnicodeEncodeError):
                left_out.append(shown.encode("utf-8", "replace").decode("utf-8"))
                continue
            most -= len(content)
            files[shown] = content.decode("utf-8", "surrogateescape")
    return files, left_out


# 3. The code itself.


def _run(request: dict[str, Any], output: int, errors: int) -> NoReturn:
    """Become a process without rights, run the code, and end. Never returns."""
    code = 1
    try:
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(errors, 2)
        os.closerange(3, 4096)
        os.chdir(BOX)
        for name, value in request["limits"].items():
            resource.setrlimit(getattr(resource, name), (value, value))
        _give_up_rights(request["user"])
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a change of user would clear it
        sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
        os.environ.clear()
        random.seed(0)  # after a fork it would be seeded by chance
        code = _execute(request["code"], request["path"])
    finally:
        os._exit(code)


def _give_up_rights(user: int) -> None:
    for capability in range(48):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    if user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    no_rights = struct.pack("IIIIII", 0, 0, 0, 0, 0, 0)
    _check(_libc.capset(struct.pack("Ii", 0x20080522, 0), no_rights), "capset")
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    program = ctypes.create_string_buffer(system_call_filter())
    header = struct.pack("HxxxxxxP", (len(program) - 1) // 8, ctypes.addressof(program))
    _check(_libc.prctl(_PR_SET_SECCOMP, 2, header, 0, 0), "seccomp")


def _execute(code: str | None, path: str) -> int:
    """Run `code`, or the file at `path`, as `__main__`; as the interpreter does it, tracebacks and exit codes too."""
    module = type(sys)("__main__")
    sys.modules["__main__"] = module
    sys.argv = [path]
    sys.path.insert(0, BOX)
    try:
        if code is None:
            module.__file__ = path
            with open(path, "rb") as file:
                source: str | bytes = file.read()
        else:
            source = code
            linecache.cache[path] = (len(code), None, code.splitlines(keepends=True), path)
        exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)
        return _flush(0)
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return _flush((stop.code or 0) & 255)
        sys.stderr.write(f"{stop.code}\n")
        return _flush(1)
    except BaseException as error:
        shown = error.__traceback__
        while shown is not None and shown.tb_frame.f_code.co_filename == __file__:
            shown = shown.tb_next
        traceback.print_exception(type(error), error, shown)
        return _flush(1)


def _flush(code: int) -> int:
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except (OSError, ValueError):
            code = code or 1
    return code


def _say(message: dict[str, Any]) -> None:
    line = (json.dumps(message) + "\n").encode("ascii")
    while line:
        line = line[os.write(1, line) :]


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        enter(*sys.argv[1:])
