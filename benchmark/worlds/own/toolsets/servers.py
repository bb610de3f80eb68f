"""Servers of a user's folder as processes: started without a shell, watched, and ended with all that they have started."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from benchmark.worlds.own.sources import PLACEHOLDERS, FromEnvironment
from benchmark.worlds.own.toolsets.secrets import Secrets
from benchmark.worlds.own.toolsets.toolset import Place, ServersFault
from core.errors import UserError

Result = TypeVar("Result")

MESSAGE_BYTES = 8 << 20
"""What a server may say in one message."""
LOG_BYTES = 64 << 10
"""What is kept of its standard error: the end."""
GRACE_SECONDS = 0.5
"""How long a server has to end by itself, once its input is closed."""

_GUARD = str(Path(__file__).with_name("guard.py"))
_FILLED = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")


class _Loop:
    """The event loop of this process that all servers share, in a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owner = 0

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Have `work` done there, and wait for it. Ctrl-C meanwhile cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._open())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _open(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._owner != os.getpid():
                self._loop, self._owner = asyncio.new_event_loop(), os.getpid()
                threading.Thread(target=self._loop.run_forever, name="servers", daemon=True).start()
            return self._loop


LOOP = _Loop()


class Surroundings:
    """What a source's commands, environments and addresses mean in one episode: placeholders filled in, variables read.

    `secrets` holds the values that must not be seen. `remove` takes the temporary folder away.
    """

    def __init__(self, place: Place, source: str) -> None:
        self.place = place
        self.secrets = Secrets()
        self._source = source
        self._port = place.port
        self._temporary: Path | None = None

    @property
    def temporary(self) -> Path:
        """The folder in which servers put what is temporary, made when it is first needed."""
        if self._temporary is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="tooltune-servers-"))
        return self._temporary

    @property
    def port(self) -> int:
        """A port that was free when it was first asked for."""
        if self._port is None:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self._port = int(probe.getsockname()[1])
        return self._port

    def fill(self, text: str) -> str:
        """`text` with {state}, {port}, {python} and {slot} filled in.

        Raises:
            UserError: {state} stands where world.yaml names no state.
        """
        return _FILLED.sub(lambda found: self._value(found[1]), text)

    def _value(self, name: str) -> str:
        if name == "state":
            if self.place.state is None:
                raise UserError(f"{self._source}: {{state}} stands in it, and world.yaml has no state: {{dir: ...}}")
            return str(self.place.state)
        return {"port": lambda: str(self.port), "python": lambda: sys.executable, "slot": lambda: str(self.place.slot)}[
            name
        ]()

    def read(self, named: Mapping[str, FromEnvironment | str]) -> dict[str, str]:
        """Variables or headers with their values; those from the environment are secrets from now on.

        Raises:
            UserError: a variable that is not set.
        """
        values = {}
        for name, value in named.items():
            if isinstance(value, FromEnvironment):
                if value.env not in os.environ:
                    raise UserError(f"{self._source}: variable {value.env!r} is not set, and {name!r} needs it")
                values[name] = os.environ[value.env]
                self.secrets.add(value.env, values[name])
            else:
                values[name] = self.fill(value)
        return values

    def environment(self, named: Mapping[str, str]) -> dict[str, str]:
        """All that a server's environment holds."""
        base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {**base, "LANG": os.environ.get("LANG", "C.UTF-8"), "TMPDIR": str(self.temporary), **named}

    def working_directory(self, cwd: str | None) -> Path:
        """The directory a command is started in.

        Raises:
            UserError: it is not there.
        """
        is_state = cwd is None or cwd == "{state}"
        path = self.place.state or self.place.folder if is_state else self.place.folder / str(cwd)
        if not path.is_dir():
            raise UserError(f"{self._source}: cwd {cwd!r} is no folder in {self.place.folder}")
        return path.absolute()

    def command(self, words: Sequence[str], cwd: Path) -> list[str]:
        """The words of a command. A file of the user's folder is found from another working directory, too."""
        return [self._found(self.fill(word), cwd) for word in words]

    def _found(self, word: str, cwd: Path) -> str:
        in_folder = self.place.folder / word
        is_file = word and not os.path.isabs(word) and "\0" not in word and in_folder.is_file()
        return str(in_folder.absolute()) if is_file and not (cwd / word).exists() else word

    def remove(self) -> None:
        """Take the temporary folder away."""
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None


class Server:
    """A running command with its three streams. To be used in the loop's thread."""

    def __init__(self, process: asyncio.subprocess.Process, control: int, name: str, secrets: Secrets) -> None:
        assert process.stdin and process.stdout and process.stderr
        self.input, self.output = process.stdin, process.stdout
        self._process = process
        self._control = control
        self._name = name
        self._secrets = secrets
        self._log = bytearray()
        self._discarding: asyncio.Task[None] | None = None
        self._reading = asyncio.ensure_future(self._read_log(process.stderr))

    @staticmethod
    async def start(command: Sequence[str], cwd: Path, environment: Mapping[str, str], around: Surroundings) -> Server:
        """Start `command` in a process group of its own.

        Raises:
            ServersFault: there is no such program.
        """
        if shutil.which(command[0], path=environment.get("PATH")) is None and not (cwd / command[0]).is_file():
            raise ServersFault("not_started", f"{command[0]}: no such program on PATH")
        read_end, control = os.pipe()
        folders = [str(path) for path in (around.temporary, around.place.state) if path is not None]
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", _GUARD, str(read_end), json.dumps(folders), *command),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=MESSAGE_BYTES,
                cwd=cwd,
                env=dict(environment),
                pass_fds=(read_end,),
                start_new_session=True,  # Ctrl-C is for whoever runs the episode, who then ends it
            )
        except (OSError, ValueError) as error:
            os.close(control)
            raise ServersFault("not_started", around.secrets.hide(f"{command[0]}: {error}")) from None
        finally:
            os.close(read_end)
        return Server(process, control, os.path.basename(command[0]), around.secrets)

    async def _read_log(self, stream: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while piece := await stream.read(1 << 16):
                self._log += piece
                del self._log[:-LOG_BYTES]

    @property
    def log(self) -> str:
        """The end of what it wrote to standard error, without secrets."""
        return self._secrets.hide(self._log.decode("utf-8", "replace"))

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    def said_last(self) -> str:
        """`; it said: ...` with the last line of its log, or nothing."""
        lines = [line.strip() for line in self.log.splitlines() if line.strip()]
        return f"; it said: {lines[-1][:300]}" if lines else ""

    async def fault_of_ending(self) -> ServersFault:
        """Why nothing more comes from it."""
        if await self._ended_within(GRACE_SECONDS):
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._reading), 1)
        code = self._process.returncode
        if code == 127:
            return ServersFault("not_started", f"{self._name} could not be started{self.said_last()}")
        how = (
            "closed its output"
            if code is None
            else f"ended with signal {code - 128}"
            if code > 128
            else f"ended with exit code {code}"
        )
        return ServersFault("crashed", f"{self._name} {how}{self.said_last()}")

    async def read_line(self) -> bytes:
        """The next line it wrote to standard output; empty at the end.

        Raises:
            ServersFault: the line is beyond `MESSAGE_BYTES`.
        """
        try:
            return await self.output.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            return error.partial
        except asyncio.LimitOverrunError:
            raise ServersFault(
                "too_large", f"{self._name} wrote a line of more than {MESSAGE_BYTES >> 20} MiB"
            ) from None
        except OSError:
            return b""

    async def write_line(self, line: bytes) -> None:
        """Write a line to its standard input; where nobody reads any more, it is lost."""
        with suppress(OSError, RuntimeError):
            self.input.write(line + b"\n")
            await self.input.drain()

    async def listening(self, port: int, seconds: float) -> None:
        """Wait until something accepts connections at `port`.

        Raises:
            ServersFault: the server has ended, or nothing did in time.
        """
        discarding = asyncio.ensure_future(self.discard_output())
        try:
            async with asyncio.timeout(seconds):
                while True:
                    if not self.is_alive:
                        fault = await self.fault_of_ending()
                        raise ServersFault("not_started", fault.text)
                    with suppress(OSError):
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                        writer.close()
                        break
                    await asyncio.sleep(0.02)
        except TimeoutError:
            text = f"{self._name} did not listen at port {port} within {seconds:g} s{self.said_last()}"
            raise ServersFault("not_started", text) from None
        self._discarding = discarding  # goes on: nobody else reads its output

    async def discard_output(self) -> None:
        """A server that speaks over HTTP may write what it likes; a full pipe would stop it."""
        with suppress(OSError):
            while await self.output.read(1 << 16):
                pass

    async def _ended_within(self, seconds: float) -> bool:
        """Looks by itself: asyncio's own `wait` waits until all of its output has been read, too."""
        end = asyncio.get_running_loop().time() + seconds
        while self.is_alive and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.005)
        return not self.is_alive

    async def exit_code(self, seconds: float) -> int | None:
        """Its exit code, as a shell shows it; None where it has not ended by then."""
        await self._ended_within(seconds)
        return self._process.returncode

    async def stop(self) -> None:
        """End it: it may end by itself, then it is killed with everything that it has started.

        A server over stdio ends when its input does; one that listens at a port is asked to by SIGTERM.
        """
        self.input.close()
        try:
            if self._discarding is not None:
                with suppress(OSError):
                    os.write(self._control, b"t")
            if not await self._ended_within(GRACE_SECONDS):
                with suppress(OSError):
                    os.write(self._control, b"k")
                await self._ended_within(10)
        finally:
            if self._control >= 0:
                os.close(self._control)
                self._control = -1
        self._reading.cancel()
        with suppress(Exception):
            self._process._transport.close()  # type: ignore[attr-defined]  # else it warns when it is collected
