"""check.py of a folder asked about a run, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from benchmark.worlds.own.folder import Folder
from benchmark.worlds.own.judge import Made
from benchmark.worlds.own.tasks import TaskRow
from benchmark.worlds.own.toolsets.toolset import ServersFault
from benchmark.worlds.tools import score_to_verdict
from benchmark.worlds.world import ToolResult, Verdict
from data.records import Outcome

_CHILD = Path(__file__).with_name("check_child.py")
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR")


class Checked(Protocol):
    """What check.py is asked about."""

    row: TaskRow
    said: str | None
    made: list[Made]

    def ask(self, name: str, arguments: dict[str, Any]) -> ToolResult: ...


def run_check(world: Checked, folder: Folder) -> Verdict:
    """What check.py says: true or false, a share, or goals as (goal, held, why).

    Raises:
        ServersFault: it raises, does not answer in time, or says something else.
    """
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    child = subprocess.Popen(
        [sys.executable, "-I", str(_CHILD), str(folder.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
        env=environment, cwd=folder.path, start_new_session=True,
    )  # fmt: skip
    late = threading.Event()

    def end() -> None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)

    def give_up() -> None:
        late.set()
        end()

    timer = threading.Timer(folder.world.timeout_s, give_up)
    timer.start()
    try:
        said = _talk(child, world)
    except (OSError, ValueError, KeyError, TypeError):
        said = None
    finally:
        timer.cancel()
        end()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]  # both are pipes
    if late.is_set():
        raise ServersFault("late", f"check.py did not answer within {folder.world.timeout_s:g} s")
    if said is None:
        raise ServersFault("broke", "check.py ended without a verdict")
    if "error" in said:
        raise ServersFault("broke", f"check.py raised {said['error']}")
    return _to_verdict(said["verdict"])


def _talk(child: subprocess.Popen[str], world: Checked) -> dict[str, Any] | None:
    assert child.stdin is not None and child.stdout is not None

    def say(value: dict[str, Any]) -> None:
        assert child.stdin is not None
        child.stdin.write(json.dumps(value, ensure_ascii=True) + "\n")
        child.stdin.flush()

    actions = [{"name": each.name, "arguments": each.arguments, "worked": each.worked} for each in world.made]
    say({"task": world.row.model_dump(mode="json"), "answer": world.said, "actions": actions})
    for line in child.stdout:
        told = json.loads(line)
        if "call" not in told:
            return told if isinstance(told, dict) else None
        try:
            result = world.ask(told["call"], told["arguments"])
        except KeyError:
            result = ToolResult(error=f"there is no tool {told['call']!r}")
        say({"output": result.output, "error": result.error})
    return None


def _to_verdict(told: Any) -> Verdict:
    if isinstance(told, bool | int | float):
        score = min(max(float(told), 0.0), 1.0)
        outcome = Outcome.SUCCESS if score == 1 else Outcome.PARTIAL if score > 0 else Outcome.FAILURE
        return Verdict(outcome, score, "check.py")
    if not told:
        raise ServersFault("broke", "check.py gave no goals")
    return score_to_verdict(len(told), [f"{goal}: {why}" for goal, held, why in told if not held], [])
