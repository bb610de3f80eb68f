"""MCP servers that behave and that do not: each call has one clear outcome, and nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("mcp")

from benchmark.worlds.own.sources import McpConfigSource, McpServer, McpSource
from benchmark.worlds.own.toolsets.mcp import McpToolset
from benchmark.worlds.own.toolsets.opening import source_to_toolset
from benchmark.worlds.own.toolsets.toolset import Hints, Place, ServersFault
from core.errors import UserError
from support.signals import HEARS_SIGNALS

SERVER = Path(__file__).parent / "support" / "odd_server.py"


@contextmanager
def opened(how: str, folder: Path, timeout_s: float = 20, **more: object) -> Iterator[McpToolset]:
    source = McpSource(mcp=McpServer.model_validate({"command": ["{python}", "-S", str(SERVER), how], **more}))
    toolset = source_to_toolset(source, Place(folder=folder, timeout_s=timeout_s))
    assert isinstance(toolset, McpToolset)
    try:
        toolset.open()
        yield toolset
    finally:
        toolset.close()


def said(how: str, folder: Path, word: str = "hi") -> tuple[object, str | None]:
    with opened(how, folder) as toolset:
        result = toolset.call("say", {"word": word})
        return result.output, result.error


@pytest.mark.parametrize(
    "how, output",
    [
        ("well", "said hi"),
        ("prints", "said hi"),
        ("twice", "said hi"),
        ("disorder", "said hi"),
        ("batch", "said hi"),
        ("old", "said hi"),
        ("parts", "one\n둘"),
        ("structured", '{"도시":"서울","n":[1,2]}'),
        ("image", "[image image/png]"),
        ("empty", ""),
    ],
)
def test_what_can_be_read_is_the_result(how: str, output: str, tmp_path: Path) -> None:
    assert said(how, tmp_path) == (output, None)


@pytest.mark.parametrize("how, error", [("is_error", "no such word"), ("error", "word is too short")])
def test_an_error_that_the_server_tells_is_the_tools(how: str, error: str, tmp_path: Path) -> None:
    assert said(how, tmp_path) == (None, error)


@pytest.mark.parametrize(
    "how, reason, words",
    [
        ("crash", "crashed", "exit code 3; it said: boom: out of luck"),
        ("killed", "crashed", "signal 11"),
        ("closes", "crashed", "closed its output"),
        ("late", "late", "say: no answer within 2 s"),
        ("hangs", "late", "say: no answer within 2 s"),
        ("huge", "too_large", "more than 8 MiB"),
        ("cut", "garbled", "cannot be read"),
        ("latin", "garbled", "cannot be read"),
        ("pretty", "late", "it wrote what is no message: {"),
        ("unmarked", "garbled", "cannot be read"),
        ("surrogate", "garbled", "cannot be read"),
        ("deep", "garbled", "cannot be read"),
        ("nan", "garbled", "cannot hold"),
        ("shapeless", "protocol", "content"),
    ],
)
def test_the_servers_fault_has_a_reason(how: str, reason: str, words: str, tmp_path: Path) -> None:
    with opened(how, tmp_path, timeout_s=2) as toolset:
        for _ in range(2):  # what comes after it has an outcome, too
            with pytest.raises(ServersFault) as fault:
                toolset.call("say", {"word": "hi"})
            assert fault.value.reason == reason and words in fault.value.text
            if reason in ("late", "protocol") or how == "nan":
                break


@pytest.mark.parametrize(
    "how, reason, words",
    [
        ("dies", "crashed", "no licence for this machine"),
        ("silent", "not_started", "not ready within 2 s"),
        ("prehistoric", "protocol", "2019-01-01"),
        ("twins", "protocol", "'say' stands twice"),
        ("circle", "protocol", "circle"),
        ("endless", "protocol", "more than 100 pages"),
    ],
)
def test_a_server_that_does_not_get_ready_is_told(how: str, reason: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ServersFault) as fault, opened(how, tmp_path, timeout_s=2 if how == "silent" else 20):
        pass
    assert fault.value.reason == reason and words in fault.value.text


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    toolset = source_to_toolset(McpSource(mcp=McpServer(command=["no-such-program"])), Place(folder=tmp_path))
    with pytest.raises(ServersFault, match=r"not_started: no-such-program: no such program"):
        toolset.open()
    toolset.close()


def test_all_pages_of_tools_are_asked_for_with_their_hints(tmp_path: Path) -> None:
    with opened("pages", tmp_path) as toolset:
        assert [tool.function.name for tool in toolset.tools] == ["say0", "say1", "say2"]
        assert toolset.tools[0].function.parameters["properties"] == {"word": {"type": "string"}}
    with opened("hints", tmp_path) as toolset:
        assert toolset.hints["say"] == Hints(read_only=True, destructive=False)


@pytest.mark.parametrize("method", ["sampling/createMessage", "elicitation/create", "roots/list"])
def test_what_a_server_asks_back_is_refused_and_counted(method: str, tmp_path: Path) -> None:
    with opened(method, tmp_path) as toolset:
        assert toolset.call("say", {"word": "hi"}).error == "refused"
        assert toolset.asked_back == 1


CANARY = 'ca"nary-5f1e/0+가'


def test_a_secret_is_seen_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one of mcp.json nor one of the environment: not in tools, results, errors, faults, logs, nor in a repr."""
    monkeypatch.setenv("KEY", CANARY)
    entry = {"command": sys.executable, "args": ["-S", str(SERVER), "leaks"]}
    config = {
        "mcpServers": {"literal": {**entry, "env": {"KEY": CANARY}}, "named": {**entry, "env": {"KEY": "${KEY}"}}}
    }
    (tmp_path / "mcp.json").write_text(json.dumps(config), encoding="utf-8")
    sources = [McpConfigSource(mcp_config="mcp.json", server=name) for name in config["mcpServers"]]
    own = McpSource(mcp=McpServer.model_validate({"command": ["{python}", "-S", str(SERVER), "leaks"], "env": ["KEY"]}))
    for source in (*sources, own):
        toolset = source_to_toolset(source, Place(folder=tmp_path, timeout_s=20))
        try:
            toolset.open()
            result, failed = toolset.call("say", {"word": "hi"}), toolset.call("say", {"word": "error"})
            assert isinstance(toolset, McpToolset)
            told = [str(toolset.tools), str(result), str(failed), toolset.log, repr(vars(toolset)), repr(source)]
            assert "[hidden: KEY]" in str(result.output) and "[hidden: KEY]" in toolset.log
            assert toolset.tools[0].function.description == "key [hidden: KEY]"
            if source is not sources[0]:
                told.append(repr(source))
            assert not any("nary-5f1e" in text for text in told)
        finally:
            toolset.close()


def test_a_server_gets_the_named_variables_and_few_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "1")
    monkeypatch.setenv("NOT_MINE", "2")
    with opened("environment", tmp_path, env=["MINE", {"SLOT": "n{slot}"}]) as toolset:
        names = json.loads(str(toolset.call("say", {}).output))
    # What Python and libc put there themselves is left aside.
    assert set(names) - {"LC_CTYPE"} == {"PATH", "HOME", "LANG", "TMPDIR", "MINE", "SLOT"} and names["SLOT"] == "n0"


def test_a_variable_or_state_that_is_missing_is_named(tmp_path: Path) -> None:
    for server, words in [
        ({"command": ["x"], "env": ["NOT_SET_ANYWHERE"]}, "'NOT_SET_ANYWHERE' is not set"),
        ({"command": ["x"], "env": {"A": "{state}"}}, "has no state"),
    ]:
        with pytest.raises(UserError, match=words):
            source_to_toolset(McpSource(mcp=McpServer.model_validate(server)), Place(folder=tmp_path))
    (tmp_path / "mcp.json").write_text('{"mcpServers": {"files": {"command": "x"}}}')
    with pytest.raises(UserError, match=r"no server 'file', there are: files. Did you mean 'files'"):
        source_to_toolset(McpConfigSource(mcp_config="mcp.json", server="file"), Place(folder=tmp_path))


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def all_gone(processes: list[int], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while any(map(is_alive, processes)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(is_alive, processes))


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="descendants are found in /proc")


@needs_proc
def test_nothing_that_a_server_started_outlives_it(tmp_path: Path) -> None:
    with opened("leaves", tmp_path) as toolset:
        child, server, folder = str(toolset.call("say", {}).output).split()
        assert is_alive(int(child)) and Path(folder, "left").exists()
    assert all_gone([int(child), int(server)]) and not Path(folder).exists()


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_server_ends_with_its_runner(number: int, tmp_path: Path) -> None:
    """The runner is killed as a process group, or interrupted while a call is under way."""
    state = tmp_path / "tooltune-scratch" / "state"
    state.mkdir(parents=True)
    code = f"""{HEARS_SIGNALS}
import sys, time
from pathlib import Path
from benchmark.worlds.own.sources import McpServer, McpSource
from benchmark.worlds.own.toolsets.opening import source_to_toolset
from benchmark.worlds.own.toolsets.toolset import Place
server = McpServer(command=["{{python}}", "-S", {str(SERVER)!r}, "leaves"])
toolset = source_to_toolset(McpSource(mcp=server), Place(Path({str(tmp_path)!r}), Path({str(state)!r})))
toolset.open()
try:
    print(toolset.call("say", {{}}).output, flush=True)
    toolset.call("say", {{"word": "again"}})
    time.sleep(60)
finally:
    toolset.close()
"""
    environment = {**os.environ, "PYTHONPATH": str(SERVER.parents[2])}
    runner = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    assert runner.stdout is not None
    child, server, folder = runner.stdout.readline().decode().split()
    os.killpg(runner.pid, number)
    runner.wait(20)
    assert all_gone([int(child), int(server)])
    left = [
        Path(folder),
        *([state] if number == signal.SIGKILL else []),
    ]  # whoever is interrupted removes its own state
    end = time.monotonic() + 5
    while any(path.exists() for path in left) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(path.exists() for path in left)


OVER_HTTP = """
import os, sys
from mcp.server import MCPServer
server = MCPServer("sums")

@server.tool()
def add(a: int, b: int) -> str:
    "Add."
    return f"{a + b} {os.environ.get('KEY')}"

@server.tool()
def flood() -> str:
    return "x" * 20_000_000

@server.tool()
def crash() -> None:
    os._exit(3)

@server.tool()
async def late() -> None:
    import asyncio
    await asyncio.sleep(60)

server.run(sys.argv[2], port=int(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("transport", "path", "ways"),
    [
        ("streamable-http", "mcp", [("flood", "too_large"), ("late", "late"), ("crash", "crashed")]),
        ("sse", "sse", [("flood", "too_large"), ("crash", "crashed")]),  # how servers spoke before 2025-03-26
    ],
)
def test_a_server_over_http_is_started_at_a_free_port_and_has_the_same_outcomes(
    transport: str, path: str, ways: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", CANARY)
    (tmp_path / "server.py").write_text(OVER_HTTP)
    command = ["{python}", "server.py", "{port}", transport]
    entry = {"command": command, "url": f"http://127.0.0.1:{{port}}/{path}", "env": ["KEY"]}
    state = tmp_path / "state"  # server.py is found in the folder, though the server runs in the state
    state.mkdir()
    for name, reason in ways:
        place = Place(folder=tmp_path, state=state, timeout_s=6 if name == "late" else 20)
        toolset = source_to_toolset(McpSource(mcp=McpServer.model_validate(entry)), place)
        try:
            toolset.open()
            assert toolset.call("add", {"a": 1, "b": 2}).output == "3 [hidden: KEY]"
            with pytest.raises(ServersFault) as fault:
                toolset.call(name, {})
            assert fault.value.reason == reason
        finally:
            toolset.close()


class _Redirecting(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(307)
        self.send_header("location", "http://127.0.0.1:1/mcp")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *words: object) -> None: ...


def test_a_redirect_to_another_place_is_refused(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Redirecting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/mcp"
        toolset = source_to_toolset(McpSource(mcp=McpServer(url=url)), Place(folder=tmp_path, timeout_s=10))
        with pytest.raises(ServersFault, match=r"elsewhere: a redirect to http://127.0.0.1 was refused"):
            toolset.open()
        toolset.close()
        server.shutdown()
    elsewhere = McpSource(mcp=McpServer(url="https://mcp.example.com/"))
    with pytest.raises(UserError, match=r"host 'mcp.example.com': only the loopback"):
        source_to_toolset(elsewhere, Place(folder=tmp_path))
    source_to_toolset(elsewhere, Place(folder=tmp_path, hosts=("mcp.example.com",))).close()


def test_no_temporary_folder_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for how in ("well", "crash", "hangs"):
        with opened(how, tmp_path, timeout_s=1) as toolset:
            assert list(tmp_path.glob("tooltune-servers-*"))
            if how != "well":
                with pytest.raises(ServersFault):
                    toolset.call("say", {})
    assert not list(tmp_path.glob("tooltune-servers-*"))
