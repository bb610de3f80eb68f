"""The inside of the sandbox: what starts as a program of its own, locks itself in, and then runs code on request.

Standard library only, because nothing else is in there. `sandbox.py` starts it and talks to it through two pipes.

1. `enter` makes a user namespace and becomes the *keeper*, which stays outside of the rest. It watches the process that it
   works for, by a pidfd, and ends the sandbox with it, however it ended.
2. Its child is process 1 of mount, network, IPC, host-name and process namespaces of their own. It makes a new root that
   holds an interpreter, its library and what these are linked with, all read-only; then it starts that interpreter (so that
   no path of the machine is known inside), which calls `serve`. When it ends, the kernel ends whatever is left in there.
3. `serve` forks a *supervisor* for each request and never reads one itself, so that nothing of a request is in the memory of
   the next. The supervisor gets a mount, IPC and process namespace of its own, with empty folders in memory as `/box` and
   `/tmp`, and writes the request's files to `/box`.
4. The supervisor forks the *runner*, process 1 of the namespace: another user where that is possible, no capability, no
   way to get one, limits, a filter on system calls. It runs the code in the interpreter that is already there, because
   starting one takes ten times as long.
5. When the runner ends, or its time is over, the kernel ends everything it has started. Only then does the supervisor
   read `/box`, following no link, and answer. Where a supervisor is ended from outside, `serve` ends, and with it the rest.

A request is JSON behind its length. An answer is a line of JSON, and `{"started": true}` comes before it as soon as the code
runs; what goes wrong earlier is `{"failed": why}` and none of the code's doing.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import fcntl
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
from contextlib import suppress
from functools import cache
from typing import Any, NoReturn

BOX = "/box"
FOLDER_LINKS = ("/lib", "/lib64")
SYSTEM = ("/etc/ld.so.cache", "/usr/share/zoneinfo", "/dev/null", "/dev/zero", "/dev/urandom")
PACKAGES = ("site-packages", "dist-packages", "ensurepip/_bundled")
"""Folders of the library that hold what is none of it."""

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


# System calls that the runner may not make: (name, number on x86_64, number on aarch64; 0 where there is none). Many need a
# capability that it does not have anyway. What counts is that it cannot make namespaces, look into other processes, reach the
# kernel's large interfaces, or hold memory that no limit counts (System V's and POSIX's shared memory and queues, memfd).
_DENIED = (
    ("ptrace", 101, 117), ("mount", 165, 40), ("umount2", 166, 39), ("pivot_root", 155, 41), ("chroot", 161, 51),
    ("unshare", 272, 97), ("setns", 308, 268), ("bpf", 321, 280), ("perf_event_open", 298, 241), ("keyctl", 250, 219),
    ("add_key", 248, 217), ("request_key", 249, 218), ("userfaultfd", 323, 282), ("process_vm_readv", 310, 270),
    ("process_vm_writev", 311, 271), ("pidfd_getfd", 438, 438), ("kcmp", 312, 272), ("process_madvise", 440, 440),
    ("io_uring_setup", 425, 425), ("io_uring_enter", 426, 426), ("io_uring_register", 427, 427),
    ("open_tree", 428, 428), ("move_mount", 429, 429), ("fsopen", 430, 430), ("fsconfig", 431, 431),
    ("fsmount", 432, 432), ("fspick", 433, 433), ("mount_setattr", 442, 442),
    ("shmget", 29, 194), ("shmctl", 31, 195), ("shmat", 30, 196), ("shmdt", 67, 197),
    ("semget", 64, 190), ("semctl", 66, 191), ("semtimedop", 220, 192), ("semop", 65, 193),
    ("msgget", 68, 186), ("msgctl", 71, 187), ("msgrcv", 70, 188), ("msgsnd", 69, 189),
    ("mq_open", 240, 180), ("mq_unlink", 241, 181), ("memfd_create", 319, 279), ("memfd_secret", 447, 447),
    ("name_to_handle_at", 303, 264), ("open_by_handle_at", 304, 265), ("fanotify_init", 300, 262),
    ("personality", 135, 92), ("syslog", 103, 116), ("acct", 163, 89), ("quotactl", 179, 60), ("quotactl_fd", 443, 443),
    ("swapon", 167, 224), ("swapoff", 168, 225), ("reboot", 169, 142), ("vhangup", 153, 58),
    ("init_module", 175, 105), ("finit_module", 313, 273), ("delete_module", 176, 106),
    ("kexec_load", 246, 104), ("kexec_file_load", 320, 294), ("settimeofday", 164, 170), ("clock_settime", 227, 112),
    ("adjtimex", 159, 171), ("clock_adjtime", 305, 266), ("lookup_dcookie", 212, 18), ("move_pages", 279, 239),
    ("migrate_pages", 256, 238), ("mbind", 237, 235), ("set_mempolicy", 238, 237), ("get_mempolicy", 239, 236),
    ("modify_ldt", 154, 0), ("ioperm", 173, 0), ("iopl", 172, 0),
)  # fmt: skip
_ARCHITECTURES = {"x86_64": (0, 0xC000003E, (41, 53), 56), "aarch64": (1, 0xC00000B7, (198, 199), 220)}
"""Column of the table, audit number, and the numbers of `socket` and `socketpair` and of `clone`, by machine."""
_CLONE3 = 435
_NEWEST_CALL = 452
"""Later calls are taken for missing, as on an older kernel: nobody has looked at what they reach (statmount, for one)."""
_NEW_NAMESPACE = 0x7E020000
"""Every flag of clone that makes a namespace."""


@cache
def system_call_filter() -> bytes:
    """The BPF program of the runner. Sockets other than AF_UNIX are refused: a network namespace does not cover them all."""
    column, audit, socket_calls, clone_call = _ARCHITECTURES[platform.machine()]
    allow, deny, kill = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
    missing = 0x00050000 | errno.ENOSYS  # C libraries fall back from clone3, whose flags cannot be read here, to clone
    load, equal, greater_equal, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    number, architecture, argument = 0, 4, 16  # offsets in struct seccomp_data; the low half of the first argument
    program: list[tuple[int, int, int, int]] = [
        (load, 0, 0, architecture), (equal, 1, 0, audit), (give, 0, 0, kill),
        (load, 0, 0, number), (greater_equal, 0, 1, 0x40000000), (give, 0, 0, kill),  # x32 calls
        (equal, 1, 0, _CLONE3), (greater_equal, 0, 1, _NEWEST_CALL + 1), (give, 0, 0, missing),
    ]  # fmt: skip
    for row in _DENIED:
        if call := int(row[1 + column]):
            program += [(equal, 0, 1, call), (give, 0, 0, deny)]
    for call in socket_calls:
        program += [
            (equal, 0, 4, call),
            (load, 0, 0, argument),
            (equal, 0, 1, 1),
            (give, 0, 0, allow),
            (give, 0, 0, deny),
        ]
    program += [
        (equal, 0, 2, clone_call), (load, 0, 0, argument), (any_bit, 1, 0, _NEW_NAMESPACE), (give, 0, 0, allow),
        (give, 0, 0, deny),
    ]  # fmt: skip
    return b"".join(struct.pack("HBBI", *line) for line in program)


# 1. The walls.


def enter(owner: str, stack_bytes: str, base_prefix: str, executable: str) -> None:
    """Lock a child in, which becomes the interpreter inside, and keep it until it or the process `owner` has ended.

    Writes `{"failed": why}` where a wall cannot be made. Between the two namespaced steps the owner must write the maps of
    users: a process cannot map others than itself.
    """
    try:
        if platform.machine() not in _ARCHITECTURES:
            raise OSError(0, f"no filter of system calls for {platform.machine()}")
        watched = os.pidfd_open(int(owner))
        if os.getppid() != int(owner):
            return  # it ended before it could be watched
        os.umask(0o022)
        _raise_oom_score()
        _raise_limits(int(stack_bytes))
        _unshare(_NEW_USER, "a user namespace")
        _say({"unshared": True})
        if os.read(0, 1) != b"!":
            return
        _unshare(_NEW_NS | _NEW_NET | _NEW_IPC | _NEW_UTS | _NEW_PID, "mount, network, IPC and process namespaces")
        inside = os.fork()
        if inside == 0:
            os.close(watched)  # whoever holds it may send signals
            _lock_in(base_prefix, executable)
    except OSError as error:
        _say({"failed": error.strerror or str(error)})
        return
    for stream in (0, 1):
        os.close(stream)  # the owner sees the pipes end when the child does
    ended = os.pidfd_open(inside)
    readable, _, _ = select.select([watched, ended], [], [])
    if ended not in readable:
        os.kill(inside, signal.SIGKILL)
    os._exit(0)


def _lock_in(base_prefix: str, executable: str) -> NoReturn:
    """Make the walls around this process, process 1, and become the interpreter behind them."""
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # with the keeper, too
        _check(_libc.sethostname(b"box", 3), "the host's name")
        with open(__file__, encoding="utf-8") as file:
            source = file.read()
        # Put together over a folder that the interpreter is not in; in a mount namespace of its own, nobody else sees it.
        _make_root("/mnt" if base_prefix.startswith("/tmp/") else "/tmp", base_prefix, executable, source)
        inside = "/python" + executable.removeprefix(base_prefix)
        environment = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "LD_LIBRARY_PATH": "/python/lib"}
        arguments = ["-s", "-S", "-P", "-B", "-X", "no_debug_ranges", "/jail.py", "serve"]
        _libc.personality(_NO_RANDOM_ADDRESSES)  # so that what depends on them, such as the order of a set, repeats
        os.execve(inside, [inside, *arguments], environment)
    except Exception as error:
        _say({"failed": getattr(error, "strerror", None) or str(error)})
    finally:
        os._exit(1)


def _raise_oom_score() -> None:
    """When memory ends, whatever runs in here is what the kernel ends first."""
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def _raise_limits(stack_bytes: int) -> None:
    """What somebody has set for himself (`ulimit -S`) must not change what code can do; but the stack is the same everywhere,
    because new threads and the places of libraries follow it."""
    for kind in (resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_DATA, resource.RLIMIT_AS,
                 resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):  # fmt: skip
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (hard, hard))
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (stack_bytes, hard))


def _make_root(root: str, base_prefix: str, executable: str, source: str) -> None:
    """The new root: nothing in it but what is named here, so no package of the machine is."""
    library = os.path.realpath(os.path.dirname(os.__file__))
    if not library.startswith(base_prefix + "/"):
        raise OSError(0, f"the interpreter's library is in {library}, not under {base_prefix}")
    linked = _linked_libraries(library)
    _mount("none", "/", "", _REC | _PRIVATE)
    _mount("box", root, "tmpfs", _NOSUID, "size=1m,mode=755")
    for path in FOLDER_LINKS:
        if os.path.islink(path) and not (target := os.readlink(path)).startswith("/"):
            os.makedirs(f"{root}/{target}", exist_ok=True)
            os.symlink(target, root + path)
    for path in (*SYSTEM, *linked):
        if os.path.exists(path):
            is_own = path.startswith(base_prefix + "/") and base_prefix != "/usr"
            _bind(path, root + ("/python" + path.removeprefix(base_prefix) if is_own else path))
    for path in (library, executable):
        _bind(path, root + "/python" + path.removeprefix(base_prefix))
    for name in PACKAGES:
        if os.path.isdir(f"{library}/{name}"):
            place = f"{root}/python{library.removeprefix(base_prefix)}/{name}"
            _mount("none", place, "tmpfs", _NOSUID, "size=4k,mode=755")
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


def _linked_libraries(library: str) -> list[str]:
    """What the interpreter and all modules of its library are linked with, by the paths under which the loader finds them."""
    for name in sorted(os.listdir(f"{library}/lib-dynload") if os.path.isdir(f"{library}/lib-dynload") else ()):
        if "tkinter" not in name:  # there is no display, and its libraries are many
            with suppress(OSError):
                ctypes.CDLL(f"{library}/lib-dynload/{name}")
    paths: list[str] = []

    def add(about: Any, size: int, data: Any) -> int:
        paths.append(os.fsdecode(ctypes.cast(about, ctypes.POINTER(ctypes.c_char_p))[1] or b""))
        return 0

    visit = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)(add)
    _libc.dl_iterate_phdr(visit, None)
    return [path for path in paths if path.startswith("/") and not path.startswith(library + "/")]


def _bind(path: str, place: str) -> None:
    if os.path.isdir(path):
        os.makedirs(place, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb"):
            pass
    _mount(os.path.realpath(path), place, "", _BIND | _REC)


# 3. and 5. One request: a supervisor outside the walls of the code, inside those of the sandbox.


def serve() -> None:
    """Have requests answered until the pipe ends, or until a supervisor is ended by somebody else than itself."""
    for module in ("collections", "csv", "datetime", "functools", "itertools", "math", "re"):
        __import__(module)  # most code needs some of them; loaded once instead of in each run
    system_call_filter()
    gc.freeze()  # a collection in a run would copy every page that is shared with it
    seconds, _ = resource.getrlimit(resource.RLIMIT_CPU)
    _say({"ready": True, "python": platform.python_version()})
    while seconds == resource.RLIM_INFINITY or time.process_time() < seconds / 2:  # else a new one goes on
        try:
            supervisor = os.fork()
        except OSError as error:
            _say({"failed": f"fork: {error.strerror}"})
            return
        if supervisor == 0:
            os._exit(_answer_one())
        _, status = os.waitpid(supervisor, 0)
        if status:
            return
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)  # all that this process can see, which is only what is in here
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)


def _answer_one() -> int:
    """Wait for a request and answer it. With `beside` a second one follows, which is run at the same time in a box of its own.

    The two have nothing in common but two pipes, each other's file descriptors 3 (to read) and 4 (to write). The memory of
    the first never holds the second.
    """
    message = _receive()
    if not message:
        return 1
    request = json.loads(message)
    if not request["beside"]:
        _say(_supervise(request, (), tell=True))
        return 0
    there, back, told = os.pipe(), os.pipe(), os.pipe()
    other = os.fork()
    if other == 0:
        os.close(there[1])
        os.close(back[0])
        _write(told[1], json.dumps(_supervise(json.loads(_receive()), (there[0], back[1]))).encode("ascii"))
        os._exit(0)
    for end in (there[0], back[1], told[1]):
        os.close(end)
    answer = _supervise(request, (back[0], there[1]), tell=True)
    with open(told[0], "rb") as file:
        text = file.read()
    os.waitpid(other, 0)
    _say(answer | {"beside": json.loads(text) if text else None})
    return 0


def _supervise(request: dict[str, Any], channel: tuple[int, ...], *, tell: bool = False) -> dict[str, Any]:
    """The answer to a request; with `tell` it is said when the code has started."""
    try:
        runner, ends, begin = _start(request, channel)
    except OSError as error:
        return {"failed": f"{error.strerror or error} {error.filename or ''}".rstrip()}
    finally:
        for end in channel:
            os.close(end)
    if tell:
        _say({"started": True})
    os.close(begin)
    deadline = time.monotonic() + request["seconds"]
    texts, ended = _watch(runner, ends, deadline, request["output_bytes"])
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


def _start(request: dict[str, Any], channel: tuple[int, ...]) -> tuple[int, list[int], int]:
    """The process that will run the code, where its output and errors can be read, and a pipe: closed, the code begins.

    Raises:
        OSError: the code was not started; says why.
    """
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
    output, errors, state, begin = os.pipe(), os.pipe(), os.pipe(), os.pipe()
    runner = os.fork()
    if runner == 0:
        os.close(begin[1])
        _run(request, channel, output[1], errors[1], state[1], begin[0])
    for end in (output[1], errors[1], state[1], begin[0]):
        os.close(end)
    with open(state[0], "rb") as file:
        told = file.read().decode("utf-8", "replace")
    if told != "ready":
        os.close(begin[1])
        _, status = os.waitpid(runner, 0)
        raise OSError(0, told or f"the runner ended before the code began ({os.waitstatus_to_exitcode(status)})")
    return runner, [output[0], errors[0]], begin[1]


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
            try:
                status = os.lstat(path)
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


# 4. The code itself.


def _run(
    request: dict[str, Any], channel: tuple[int, ...], output: int, errors: int, state: int, begin: int
) -> NoReturn:
    """Become a process without rights, run the code, and end. Never returns.

    Tells on `state` that it is ready, or why not, and waits until `begin` is closed.
    """
    code = 1
    try:
        try:
            os.setsid()  # else it shares a process group with its supervisor, and signals to a group reach all of it
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(errors, 2)
            state, begin, *ends = (fcntl.fcntl(end, fcntl.F_DUPFD, 30) for end in (state, begin, *channel))
            for place, end in enumerate(ends, 3):
                os.dup2(end, place, inheritable=True)
            os.closerange(3 + len(channel), state)
            os.closerange(begin + 1, 4096)
            os.chdir(BOX)
            for name, value in request["limits"].items():
                resource.setrlimit(getattr(resource, name), (value, value))
            _give_up_rights(request["user"])
            sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
            os.environ.clear()
            random.seed(0)  # after a fork it would be seeded by chance
        except BaseException as error:
            _write(state, f"{type(error).__name__}: {error}".encode("utf-8", "replace"))
            os._exit(1)
        _write(state, b"ready")
        os.close(state)
        os.read(begin, 1)
        os.close(begin)
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
    _write(1, (json.dumps(message) + "\n").encode("ascii"))


def _write(place: int, data: bytes) -> None:
    while data:
        data = data[os.write(place, data) :]


def _receive() -> bytes:
    """The next request; nothing where the pipe has ended. Never reads beyond it."""
    head = _read_exactly(8)
    return _read_exactly(int.from_bytes(head, "big")) if head else b""


def _read_exactly(count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = os.read(0, min(count - len(data), 1 << 16))
        if not piece:
            return b""
        data += piece
    return bytes(data)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        enter(*sys.argv[1:])
