"""Stands between a runner and a server: when either ends, nothing that the server has started lives on.

Started as a script with `-I -S`, so it imports nothing of ours. Arguments: the file descriptor whose other end the runner
holds, a JSON list of folders to remove should the runner die, then the command. `t` on the descriptor asks the command to
end, any other byte ends it all now. Its end means that the runner is gone.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def start(command: list[str]) -> int:
    guard = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == guard:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode(errors="replace"))
    finally:
        os._exit(127)


def descendants() -> list[int]:
    """Processes below this one. What left its group or lost its parent is below it, too: it adopts orphans."""
    parents = {}
    for name in os.listdir("/proc") if sys.platform == "linux" else ():
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue
    found = {os.getpid()}
    while True:
        more = {process for process, parent in parents.items() if parent in found} - found
        if not more:
            return sorted(found - {os.getpid()})
        found |= more


def reap() -> bool:
    """Whether there is any child left."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return True
        except ChildProcessError:
            return False


def kill(process: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process, or with a negative number to its group, if it is there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process, number)


def kill_all(child: int) -> None:
    kill(-child)
    for _ in range(1000):
        if not reap():
            return
        for process in descendants():
            kill(process)
        time.sleep(0.002)


def wait(control: int, child: int) -> tuple[int, bool]:
    """The exit code of the child, as a shell shows it, and whether the runner is gone."""
    handle = os.pidfd_open(child) if hasattr(os, "pidfd_open") else None
    while True:
        readable, _, _ = select.select(
            [control] if handle is None else [control, handle], [], [], 0.05 if handle is None else None
        )
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return (code if code >= 0 else 128 - code), False
        if control in readable:
            said = os.read(control, 1)
            if said != b"t":
                return 128 + signal.SIGKILL, not said
            kill(-child, signal.SIGTERM)


def main() -> None:
    control, folders, command = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
    os.set_inheritable(control, False)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    child = start(command)

    def stop(*_: object) -> None:
        kill_all(child)
        os._exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    for stream in (0, 1, 2):
        os.close(stream)  # the server's: whoever reads them must see their end
    code, runner_is_gone = wait(control, child)
    kill_all(child)
    if not runner_is_gone:
        readable, _, _ = select.select([control], [], [], 0)
        runner_is_gone = bool(readable) and not os.read(control, 1)
    if runner_is_gone:
        import shutil  # noqa: PLC0415 - takes longer than all else here, and is seldom needed

        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
            around = os.path.dirname(folder)
            if os.path.basename(around).startswith("tooltune-"):
                with contextlib.suppress(OSError):
                    os.rmdir(around)  # made for the copy of the state, and empty without it
    os._exit(code)


if __name__ == "__main__":
    main()
