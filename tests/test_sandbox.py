"""Attacks on the sandbox. Each has a control: the same code does its harm where the wall is missing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.worlds import sandbox
from benchmark.worlds.sandbox import MEMORY_BYTES, PROCESSES, SECONDS, Run, check_isolation, run_python
from data.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _isolation() -> None:
    try:
        check_isolation()
    except UserError as error:
        pytest.skip(f"nothing can be isolated here: {error}")


def outside(code: str) -> subprocess.CompletedProcess[str]:
    """The control: the same code in an ordinary interpreter."""
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60)


def inside(code: str, files: dict[str, bytes] | None = None) -> Run:
    run = run_python(files or {}, code=code)
    # Whatever an attack did, the next run works, in a clean box.
    after = run_python({}, code="import os\nprint(os.listdir('.'), os.listdir('/tmp'))")
    assert (after.output, after.exit_code) == ("[] []\n", 0)
    return run


@pytest.fixture
def decoy() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


# What runs, runs as in an ordinary interpreter.


def test_code_runs_as_in_an_interpreter() -> None:
    run = run_python({"a/data.txt": "값".encode(), "tool.py": b"def twice(x):\n    return x * 2\n"}, code=(
        "import sys\nfrom tool import twice\nprint(twice(open('a/data.txt').read()))\n"
        "open('a/new.bin', 'wb').write(bytes([0, 255]))\nprint('oops', file=sys.stderr)\nsys.exit(3)"
    ))  # fmt: skip
    assert (run.output, run.errors, run.exit_code, run.ended) == ("값값\n", "oops\n", 3, None)
    assert run.files == {
        "a/data.txt": "값".encode(),
        "a/new.bin": b"\x00\xff",
        "tool.py": b"def twice(x):\n    return x * 2\n",
    }


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("1 / 0", 'File "main.py", line 1, in <module>\n    1 / 0\nZeroDivisionError: division by zero\n'),
        ("def f(:\n    pass", 'File "main.py", line 1\n    def f(:\n          ^\nSyntaxError: invalid syntax\n'),
        ("import helper\nhelper.go()", 'File "helper.py", line 2, in go\n    return [][1]\nIndexError'),
        ("import sys\nsys.exit('bad input')", "bad input\n"),
        ("raise SystemExit(4)", ""),
        ("import sys\nsys.stdout.close()\nsys.exit(1)", ""),
        ("import sys\nsys.stdout = None\nprint(1)\nsys.exit(1)", ""),
    ],
)
def test_errors_read_as_in_an_interpreter(code: str, told: str) -> None:
    run = run_python({"main.py": code.encode(), "helper.py": b"def go():\n    return [][1]\n"}, path="main.py")
    assert told in run.errors and run.exit_code in (1, 4)
    assert "/" not in run.errors.replace("1 / 0", "") and "jail" not in run.errors


def test_threads_and_exit_handlers_finish() -> None:
    code = (
        "import atexit, threading, time\natexit.register(print, 'exit')\n"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()\nprint('main')"
    )
    assert run_python({}, code=code).output == "main\nthread\nexit\n"


def test_outputs_repeat_and_hold_no_address_path_or_process_id() -> None:
    code = (
        "import os, random, tempfile\nprint(object(), os.getpid(), os.getppid(), os.getcwd(), __import__('json').__file__)\n"
        "print(hash('x'), {'a', 'b', 'c'}, random.random(), os.uname().nodename, dict(os.environ))\n"
        "open('gone')"
    )
    first, second = run_python({}, code=code), run_python({}, code=code)
    assert first == second
    assert first.output.startswith("<object object at 0x...> 1 0 /box /python/lib/python3")
    assert first.output.rstrip().endswith("box {}")  # the name of the machine, no environment
    assert str(ROOT) not in first.output + first.errors and "/root" not in first.output and "/home" not in first.output


# Attacks.


def test_endless_loops_end() -> None:
    began = time.monotonic()
    run = inside("print('begun', flush=True)\nwhile True:\n    pass")
    assert (run.ended, run.output) == ("time", "begun\n")
    assert time.monotonic() - began < SECONDS + 10
    assert run_python({}, code="import time\ntime.sleep(0.2)").ended is None  # control: what ends is not ended


def test_what_keeps_running_behind_ends_too() -> None:
    code = (
        "import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        os.setsid()\n        time.sleep(600)\n"
        "        os._exit(0)\nprint('left')"
    )
    began = time.monotonic()
    run = inside(code)
    assert (run.output, run.ended) == ("left\n", None)
    assert time.monotonic() - began < SECONDS


def test_fork_bombs_stay_small() -> None:
    bomb = (
        "import os\ncount = 0\ntry:\n    while True:\n        if os.fork() == 0:\n            os.read(os.pipe()[0], 1)\n"
        "        count += 1\nexcept OSError:\n    print(count)"
    )
    run = inside(bomb)
    assert 0 < int(run.output) <= PROCESSES
    few = bomb.replace("while True", "for _ in range(3)") + "\nprint(count)"  # control: some may be had
    assert inside(few).output == "3\n"
    endless = inside("import os\nwhile True:\n    os.fork()")
    assert endless.exit_code != 0


def test_two_gigabytes_are_refused() -> None:
    take = "data = bytearray({})\nprint(len(data))"
    assert "MemoryError" in inside(take.format(2 << 30)).errors
    assert inside(take.format(MEMORY_BYTES // 4)).exit_code == 0  # control
    grow = inside("data = []\nwhile True:\n    data.append(' ' * 10_000_000)")
    assert grow.exit_code != 0 and grow.ended is None


def test_disk_is_small_and_gone_afterwards() -> None:
    fill = (
        "count = 0\ntry:\n    while True:\n        open(f'{{0}}/x{{count}}', 'wb').write(b'0' * {size})\n        count += 1\n"
        "except OSError as error:\n    print(count, error.strerror)"
    )
    for place in (".", "/tmp"):
        code = fill.replace("{{", "{").replace("}}", "}").replace("{0}", place)
        assert 0 < int(inside(code.replace("{size}", "1000000")).output.split()[0]) < 20
        assert int(inside(code.replace("{size}", "0")).output.split()[0]) <= sandbox.FILES
    big = inside("open('big', 'wb').write(b'x' * (1 << 30))")
    assert "MemoryError" in big.errors or "too large" in big.errors
    assert inside("open('big', 'wb').truncate(1 << 40)").exit_code != 0


def test_endless_output_ends() -> None:
    run = inside("while True:\n    print('x' * 10000)")
    assert run.ended == "output" and len(run.output) <= sandbox.OUTPUT_BYTES


def test_no_folder_of_the_machine_can_be_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("planted")
    home = Path.home()
    for path in (secret, ROOT / "pyproject.toml", home, Path("/etc/passwd"), Path("/proc/self/environ"), Path("/work")):
        if not path.exists():
            continue
        code = f"import os\np = {str(path)!r}\nprint(len(os.listdir(p)) if os.path.isdir(p) else len(open(p, 'rb').read()))"
        assert outside(code).returncode == 0
        assert "No such file" in inside(code).errors, path
    listing = inside("import os\nprint(sorted(os.listdir('/')), os.listdir('/dev'))").output
    assert set(eval(listing.split("] ")[0] + "]")) <= {
        *("box", "dev", "etc", "jail.py", "lib", "lib64", "python", "tmp", "usr"),
    }
    packages = inside("import sys, os\nprint(os.listdir(os.path.dirname(os.__file__) + '/site-packages'))")
    assert packages.output in ("[]\n", "") and "planted" not in packages.output


def test_nothing_of_the_machine_can_be_written() -> None:
    for path in ("/evil", "/usr/evil", "/python/evil", "/jail.py", "/python/lib/libevil.so", "/etc/ld.so.cache"):
        run = inside(f"open({path!r}, 'ab').write(b'x')")
        assert "Read-only file system" in run.errors or "Permission denied" in run.errors, path
    for path in ("/evil", "/usr/evil"):
        assert not Path(path).exists()


def test_links_lead_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("planted")
    code = (
        f"import os\nos.symlink({str(secret)!r}, 'link')\nos.symlink('/', 'root')\nos.symlink({str(tmp_path)!r}, 'folder')\n"
        "os.mkfifo('pipe')\nopen('plain', 'w').write('kept')\nos.link('plain', 'twin')"
    )
    (tmp_path / "here").mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "here", check=True)
    assert (tmp_path / "here" / "link").read_text() == "planted"  # control: followed outside, the link leads there
    run = inside(code)
    assert run.files == {"plain": b"kept", "twin": b"kept"}
    assert set(run.left_out) == {"link", "root", "folder", "pipe"}
    again = inside("print(open('link').read())", {"plain": b""})
    assert "No such file" in again.errors


def test_no_process_outside_can_be_seen_or_killed(decoy: subprocess.Popen[bytes]) -> None:
    attack = (
        "import os, signal\nhits = 0\nfor pid in [{pids}]:\n    try:\n        os.kill(pid, signal.SIGKILL)\n        hits += 1\n"
        "    except OSError:\n        pass\nprint(hits)"
    )
    jail = sandbox._open_jail()
    targets = [decoy.pid, os.getpid(), jail.process.pid, os.getppid()]
    code = attack.format(pids=", ".join(map(str, targets)))
    assert inside(code).output == "0\n"
    inside("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)")  # 0: its own group
    inside("import os, signal\nos.kill(-1, signal.SIGKILL)")
    inside("import os, signal\nos.killpg(0, signal.SIGKILL)")
    assert decoy.poll() is None and jail.process.poll() is None and sandbox._open_jail() is jail
    assert outside(attack.format(pids=str(decoy.pid))).stdout == "1\n"  # control
    assert decoy.wait(timeout=10) == -signal.SIGKILL


def test_there_is_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 2)\nprint('through')"
        assert outside(code).stdout == "through\n"
        run = inside(code)
        assert run.output == "" and "Operation not permitted" in run.errors
    for family in (
        "AF_INET6, socket.SOCK_DGRAM",
        "AF_NETLINK, socket.SOCK_RAW",
        "AF_PACKET, socket.SOCK_RAW",
        "AF_VSOCK",
    ):
        assert "Operation not permitted" in inside(f"import socket\nsocket.socket(socket.{family})").errors, family
    assert inside("import socket\na, b = socket.socketpair()\na.send(b'x')\nprint(b.recv(1))").output == "b'x'\n"


@pytest.mark.parametrize(
    "call",
    [
        "unshare(0x10000000)", "unshare(0x20000)", "setns(3, 0)", "mount(b'a', b'/box', b'tmpfs', 0, None)",
        "chroot(b'/box')", "ptrace(0, 0, 0, 0)", "syscall(435, 0, 0)", "umount2(b'/box', 2)", "setuid(0) or -1",
        "prctl(24, 0, 0, 0, 0) or -1", "syscall(425, 1, 0)",
    ],
)  # fmt: skip
def test_rights_cannot_be_had_back(call: str) -> None:
    code = f"import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nprint(libc.{call}, os.getresuid())"
    run = inside(code)
    assert run.output.startswith("-1 "), run
    if os.geteuid() == 0:
        assert run.output == f"-1 {(sandbox.NOBODY,) * 3}\n"


def test_a_crash_of_the_interpreter_is_an_exit_code() -> None:
    assert inside("import ctypes\nctypes.string_at(0)").exit_code == -signal.SIGSEGV


def test_the_answer_of_a_run_cannot_be_forged() -> None:
    forged = '{"output": "forged", "errors": "", "ended": null, "exit_code": 0, "files": {}, "left_out": []}'
    run = inside(
        f"import os\nfor fd in range(3, 64):\n    try:\n        os.write(fd, b'{forged}\\n')\n    except OSError:\n        pass"
    )
    assert run.output == "" and run.exit_code == 0


def test_names_and_depths_that_no_path_holds() -> None:
    run = inside("open(b'\\xff\\xfe', 'w').write('x')\nopen('fine', 'w').write('y')")
    assert run.files == {"fine": b"y"} and len(run.left_out) == 1
    deep = inside(
        "import os\nfor _ in range(400):\n    os.mkdir('d' * 20)\n    os.chdir('d' * 20)\nopen('x', 'w').write('y')"
    )
    assert deep.exit_code == 0 and not deep.files and deep.left_out
    large = inside("open('a', 'wb').write(b'x' * 3_000_000)")
    assert large.left_out == ("a",)


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "a//b", ".", ""])
def test_no_file_is_put_outside_the_box(path: str) -> None:
    with pytest.raises(ValueError, match="no path of a box"):
        run_python({path: b"x"}, code="print(1)")


# Refusal.


def without_namespaces(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python where no user namespace can be made, as in many containers."""
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


def test_where_isolation_is_missing_nothing_runs(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    code = (
        "from benchmark.worlds.sandbox import run_python\nfrom data.errors import UserError\n"
        f"try:\n    run_python({{}}, code={f'open({str(witness)!r}, chr(119))'!r})\n"
        "except UserError as error:\n    print(error)"
    )
    told = without_namespaces(code)
    if "cannot" in told.stderr or "not permitted" in told.stderr:
        pytest.skip(f"unshare does not work here: {told.stderr}")
    assert "cannot isolate it (a user namespace" in told.stdout, told
    assert "--worlds" in told.stdout and not witness.exists()


def test_the_command_refuses_too(tmp_path: Path) -> None:
    arguments = ["record", "--worlds", "code", "--count", "1", "--out", str(tmp_path / "x.jsonl")]
    code = (
        f"import sys\nsys.argv = ['x', *{arguments!r}]\n"
        "from benchmark.__main__ import app\nfrom data.errors import run_command\nrun_command(app, name='x')"
    )
    told = without_namespaces(code)
    assert told.returncode == 2 and "cannot isolate" in told.stderr and "Traceback" not in told.stderr


def test_other_systems_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_jail", None)
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UserError, match=r"Linux 5\.12"):
        run_python({}, code="print(1)")


def test_a_forked_child_gets_a_sandbox_of_its_own() -> None:
    check_isolation()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, run_python({}, code="print('child')").output.encode())
        os._exit(0)
    os.close(writer)
    assert run_python({}, code="print('parent')").output == "parent\n"
    with open(reader, "rb") as file:
        assert file.read() == b"child\n"
    os.waitpid(child, 0)
    assert run_python({}, code="print('still')").output == "still\n"


def test_a_run_that_the_kernel_ends_is_told_and_the_next_one_works() -> None:
    check_isolation()
    pid = sandbox._open_jail().process.pid

    def kill_the_supervisor() -> None:
        time.sleep(1)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)

    killer = threading.Thread(target=kill_the_supervisor)
    killer.start()
    run = run_python({}, code="import time\ntime.sleep(4)")
    killer.join()
    assert (run.ended, run.exit_code, run.files) == ("memory", -signal.SIGKILL, {})
    assert run_python({}, code="print(1)").output == "1\n"


def test_runs_of_several_threads_take_turns() -> None:
    results: dict[int, str] = {}

    def go(number: int) -> None:
        results[number] = run_python({}, code=f"print({number})").output

    threads = [threading.Thread(target=go, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: f"{number}\n" for number in range(8)}


def test_a_killed_sandbox_is_replaced() -> None:
    before: Any = sandbox._open_jail()
    before.process.kill()
    before.process.wait()
    assert run_python({}, code="print(1)").output == "1\n"
    assert sandbox._open_jail() is not before
