"""`benchmark headroom`: the expert steps in where it is said to, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmark.agent.episodes import Episode, Turn, Unreadable, move_to_message
from benchmark.agent.policies import POLICIES
from benchmark.kpis import wilson
from benchmark.runs.headroom import records_to_spread
from data.chats import Message, ToolCall
from data.records import Outcome, Trajectory, read_trajectories
from support.commands import Run

Says = Callable[[Episode], Turn]


class Scripted:
    def __init__(self, says: Says) -> None:
        self.says = says

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        return [self.says(episode) for episode in episodes]

    def forget(self, episode: Episode) -> None:
        return


def expert(episode: Episode) -> Message:
    return move_to_message(episode.world.expert(episode.actions))


def wrong(number: int) -> Message:
    return Message(
        role="assistant", tool_calls=(ToolCall(id="call_0", name=f"없는_도구_{number}", arguments={"값": "가"}),)
    )


def is_own(command: str) -> bool:
    return command.startswith("없는_도구") or command == "invalid_call"


def repeats(episode: Episode) -> Turn:
    """Errs at first and once more later, and never gets away from a mistake."""
    errors = [action for action in episode.actions if is_own(action.command)]
    if errors and episode.actions[-1] is errors[-1]:
        return wrong(int(errors[-1].command.rsplit("_", 1)[1]))
    fine = len(episode.actions) - len(errors)
    made = {action.command for action in errors}
    return wrong(fine) if fine < 2 and wrong(fine).tool_calls[0].name not in made else expert(episode)


def repeats_text(episode: Episode) -> Turn:
    """The same with what cannot be read."""
    fine = [action for action in episode.actions if not is_own(action.command)]
    stuck = episode.actions and is_own(episode.actions[-1].command)
    errors = {str(action.input) for action in episode.actions if is_own(action.command)}
    text = f"<tool_call>{len(fine)}"
    is_new = str({"text": text}) not in errors
    return Unreadable(text, "not JSON") if stuck or (len(fine) < 2 and is_new) else expert(episode)


def ends(episode: Episode) -> Turn:
    """Says that it is done, whatever is left to do."""
    return Message(role="assistant", content="다 했습니다.")


def slips_once(episode: Episode) -> Turn:
    """One mistake from which it never comes back, by words that are always other ones."""
    return wrong(len(episode.actions)) if not episode.interventions else expert(episode)


def solves(episode: Episode) -> Turn:
    return expert(episode)


@pytest.fixture
def headroom(run_app: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    monkeypatch.setenv("COLUMNS", "200")

    def measure(says: Says, *options: object, worlds: str = "files,web,other") -> dict[str, Any]:
        monkeypatch.setitem(POLICIES, "echo", partial(Scripted, says))
        code, out, err = run_app(
            "benchmark", "headroom", "--policy", "echo", "--worlds", worlds, "--count", 6, "--samples", 2,
            "--max-steps", 60, "--out", tmp_path, *options,
        )  # fmt: skip
        assert code == 0, err
        told: dict[str, Any] = json.loads((tmp_path / "echo" / "headroom.json").read_text(encoding="utf-8"))
        assert "ceiling of stuck pairs" in out
        return told

    return measure


def rates(told: dict[str, Any]) -> list[float]:
    numbers = told["all"]["all"]
    return [
        numbers["greedy"]["value"],
        *(numbers[rule]["success"]["value"] for rule in ("repeat", "end", "divergence")),
    ]


@pytest.mark.parametrize(
    "says, expected",
    [
        (repeats, [0, 1, 0, 0]),
        (repeats_text, [0, 1, 0, 0]),
        (ends, [0, 0, 1, 0]),
        (slips_once, [0, 0, 0, 1]),
        (solves, [1, 1, 1, 1]),
    ],
)
def test_only_the_rule_of_a_policys_mistake_helps_it(
    headroom: Callable[..., dict[str, Any]], says: Says, expected: list[float], tmp_path: Path
) -> None:
    told = headroom(says)
    assert rates(told)[:3] == expected[:3]
    if expected[3]:
        assert rates(told)[3] == 1
    for record in read_trajectories(tmp_path / "echo" / "divergence" / "trajectories.jsonl"):
        if record.outcome is Outcome.SUCCESS and not expected[3]:  # then one turn of the expert's was all that it took
            fine = [action for action in record.action_sequence if action.error is None]
            assert len(fine) < 2 or len({action.turn for action in fine} - {None}) == 1
    assert set(told["world"]) == {"files", "web", "other"}
    assert sum(numbers["tasks"] for numbers in told["tier"].values()) == 6


def test_records_tell_which_turns_were_the_experts(headroom: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    told = headroom(repeats, worlds="files")
    records = list(read_trajectories(tmp_path / "echo" / "repeat" / "trajectories.jsonl"))
    counted = 0
    for record in records:
        interventions = (record.metadata.model_extra or {})["interventions"]
        counted += len(interventions)
        for step, rule in interventions:
            assert rule == "repeat"
            assert is_own(record.action_sequence[step - 1].command)
            assert not any(is_own(action.command) for action in record.action_sequence[step : step + 1])
    assert told["all"]["all"]["repeat"]["interventions"] == counted > 6
    greedy = list(read_trajectories(tmp_path / "echo" / "greedy" / "trajectories.jsonl"))
    assert not any("interventions" in (record.metadata.model_extra or {}) for record in greedy)


def test_what_was_measured_is_not_measured_again(
    headroom: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []

    def counted(episode: Episode) -> Turn:
        asked.append(1)
        return expert(episode)

    first = headroom(counted, worlds="files")
    before = len(asked)
    assert before
    (tmp_path / "echo" / "end" / "kpis.json").unlink()
    (tmp_path / "echo" / "end" / "trajectories.jsonl").unlink()
    assert headroom(counted, worlds="files") == first
    assert 0 < len(asked) - before < before / 3


def test_a_run_in_which_the_expert_stepped_in_is_on_no_leaderboard(
    headroom: Callable[..., dict[str, Any]], run_app: Run, tmp_path: Path
) -> None:
    headroom(ends, worlds="files")
    code, _, err = run_app("benchmark", "leaderboard", tmp_path / "echo" / "end", "--out", tmp_path / "page")
    assert code == 2
    assert "the expert has made some of the turns" in err


def test_average_and_best_of_several_tries() -> None:
    def tried(task: str, *successes: bool) -> list[Trajectory]:
        return [
            Trajectory.model_validate(
                {
                    "id": f"{task}-{place}", "category": "file-ops", "timestamp": "2026-01-01T00:00:00Z",
                    "environment": {"name": "files"}, "tool": "files", "action_sequence": [],
                    "outcome": "success" if solved else "failure", "metadata": {"task": {"id": task}},
                }
            )
            for place, solved in enumerate(successes)
        ]  # fmt: skip

    spread = records_to_spread([*tried("a", True, False), *tried("b", False, False), *tried("c", True, True)])
    assert spread.average.value == pytest.approx(0.5)
    assert spread.at_least_once == wilson(2, 3)
    assert spread.mixed == wilson(1, 3)
