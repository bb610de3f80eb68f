"""`--repeat-guard`: a call that failed is not made again while nothing has changed, and no recovery is in its way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmark.agent.episodes import Episode, Turn, move_to_message, run_tasks
from benchmark.agent.policies import Expert
from benchmark.runs.replay import replay
from benchmark.worlds.kinds import WORLDS, make_tasks
from benchmark.worlds.tools import ToolWorld
from data.chats import Message, ToolCall
from data.contribution.quality import Replay
from data.records import Outcome
from support.commands import Run


@pytest.fixture
def bench(run_app: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "200")
    return partial(run_app, "benchmark")


def call(name: str, **arguments: Any) -> Message:
    return Message(role="assistant", tool_calls=(ToolCall(id="call_0", name=name, arguments=arguments),))


class Stubborn:
    """Makes one wrong call three times, then another that works, then the wrong one twice, then what the expert would."""

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        wrong, fine = call("read_file", path="없는.txt"), call("list_folder", path="")
        said = [wrong, wrong, wrong, fine, wrong, wrong]
        return [
            said[episode.turns] if episode.turns < len(said) else move_to_message(episode.world.expert(episode.actions))
            for episode in episodes
        ]

    def forget(self, episode: Episode) -> None:
        return


def test_a_failed_call_is_made_again_only_after_another_has_worked(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    called = ToolWorld.call
    monkeypatch.setattr(ToolWorld, "call", lambda self, name, given: made.append(name) or called(self, name, given))
    task = next(
        task
        for task in make_tasks(["files"], "train", 60, 3)
        if {"read_file", "list_folder"} <= {tool.function.name for tool in task.tools} and not task.faults
    )
    [record] = run_tasks(Stubborn(), [task], label="x", max_steps=40, repeat_guard=True)
    assert made[:3] == ["read_file", "list_folder", "read_file"]
    errors = [action.error for action in record.action_sequence[:6]]
    first = errors[0]
    assert first and errors[3] is None and errors[4] == first
    assert errors[1] == errors[2] == errors[5] == f"you have tried this, and nothing has changed since: {first}"
    assert record.outcome is Outcome.SUCCESS
    again = replay(record)
    assert isinstance(again, Replay) and again.ok, again
    [plain] = run_tasks(Stubborn(), [task], label="x", max_steps=40)
    assert [action.error for action in plain.action_sequence[:3]] == [first] * 3


def test_no_recovery_from_a_fault_is_in_its_way() -> None:
    tasks = [task for task in make_tasks([*WORLDS], "train", 200, 5) if task.faults]
    assert len(tasks) > 40
    for record in run_tasks(Expert(), tasks, label="x", max_steps=60, repeat_guard=True):
        assert record.outcome is Outcome.SUCCESS, record.id
        assert not any("you have tried" in (action.error or "") for action in record.action_sequence)


def test_it_is_part_of_the_key_and_no_leaderboard_takes_it(bench: Run, tmp_path: Path) -> None:
    run = ["run", "--policy", "expert", "--worlds", "other", "--count", 3, "--out", tmp_path]
    assert bench(*run)[0] == 0
    code, out, _ = bench(*run, "--label", "guarded", "--repeat-guard")
    assert code == 0 and "guarded (repeat guard)" in out
    plain, guarded = (json.loads((tmp_path / each / "kpis.json").read_text()) for each in ("expert", "guarded"))
    assert plain["key"] != guarded["key"] and guarded["options"]["repeat_guard"] is True
    code, _, err = bench("leaderboard", tmp_path / "expert", tmp_path / "guarded", "--out", tmp_path / "board")
    assert code == 2 and "'guarded' was run with --repeat-guard" in err and not (tmp_path / "board").exists()
    assert "repeat_guard" in bench("compare", tmp_path / "expert", tmp_path / "guarded")[1]


def test_arguments_are_the_same_only_as_json(tmp_path: Path) -> None:
    from benchmark.agent.repeat_guard import RepeatGuard  # noqa: PLC0415
    from benchmark.worlds.world import ToolResult  # noqa: PLC0415

    class World:
        def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
            return ToolResult(error=f"{arguments}")

    guard = RepeatGuard(World())  # type: ignore[arg-type]
    for arguments in ({"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}):
        assert "tried" not in str(guard.call("x", arguments).error)
    assert "tried" in str(guard.call("x", {"a": 1}).error) and "tried" not in str(guard.call("y", {"a": 1}).error)
