"""`benchmark run --prove`: the step at which success was lost, and nothing that is only another way."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.agent.episodes import Episode, Try, Turn, move_to_message, run_tasks
from benchmark.agent.policies import POLICIES
from benchmark.runs.proving import Search
from benchmark.worlds.kinds import make_tasks
from data.chats import Message, PreferencePair, ToolCall
from data.records import Outcome, read_trajectories
from data.trajectories import trajectory_to_pairs
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


def call(name: str) -> Message:
    return Message(role="assistant", tool_calls=(ToolCall(id="call_0", name=name, arguments={"값": "가"}),))


LOST = call("없는_도구")
HARMLESS = call("다른_길")


def loses_it(episode: Episode) -> Turn:
    """Makes a harmless detour, then one call after which it never acts again. With another seed, it does not make that call."""
    made = [action.command for action in episode.actions]
    if "없는_도구" in made:
        return Message(role="assistant", content="모르겠습니다.")
    if not made:
        return HARMLESS
    is_from_the_start = episode.attempt.beginning is None
    return LOST if is_from_the_start and len(made) == 2 else expert(episode)


@pytest.fixture
def bench(run_app: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[str, Path]]:
    monkeypatch.setenv("COLUMNS", "200")

    def run(says: Says, *options: object) -> tuple[str, Path]:
        monkeypatch.setitem(POLICIES, "echo", partial(Scripted, says))
        code, out, err = run_app(
            "benchmark", "run", "--policy", "echo", "--label", "m", "--worlds", "web,code", "--split", "train",
            "--count", 12, "--seed", 5, "--max-steps", 30, "--advise", "--out", tmp_path, *options,
        )  # fmt: skip
        assert code == 0, err
        return out, tmp_path / "m"

    return run


def proof_of(record: Any) -> Any:
    return (record.metadata.model_extra or {}).get("proof")


def test_the_step_at_which_success_was_lost_is_found_and_gives_the_pair(
    bench: Callable[..., tuple[str, Path]], run: Run, tmp_path: Path
) -> None:
    out, folder = bench(loses_it, "--prove", 3)
    records = list(read_trajectories(folder / "trajectories.jsonl"))
    failed = [record for record in records if record.outcome is not Outcome.SUCCESS]
    assert len(failed) > 3 and "have a step at which success was lost" in out
    for record in failed:
        proof = proof_of(record)
        assert record.action_sequence[proof["pit"]].command == "없는_도구"
        assert proof["samples"] == 3
        assert {state["step"]: state["successes"] for state in proof["states"]}[0] == 3
    assert not any(proof_of(record) for record in records if record.outcome is Outcome.SUCCESS)
    code, _, err = run(
        "pairs",
        folder / "trajectories.jsonl",
        folder / "rollouts.jsonl",
        "--kinds",
        "pit",
        "--out",
        tmp_path / "p.jsonl",
    )
    assert code == 0, err
    pairs = [
        PreferencePair.model_validate_json(line) for line in (tmp_path / "p.jsonl").read_text("utf-8").splitlines()
    ]
    rollouts = {record.id: record for record in read_trajectories(folder / "rollouts.jsonl")}
    assert len(pairs) == len(failed)
    for pair in pairs:
        [rejected] = pair.rejected
        assert rejected.tool_calls[0].name == "없는_도구" and pair.kind == "pit"
        way = rollouts[pair.id.split(":")[1]]
        assert way.outcome is Outcome.SUCCESS and pair.chosen[-1].content == way.metadata.answer


def test_another_way_that_also_succeeds_is_no_rejected_side(bench: Callable[..., tuple[str, Path]]) -> None:
    """The first turn that is not the expert's is a detour that works; success is lost later."""

    def wanders(episode: Episode) -> Turn:
        first = move_to_message(episode.world.expert(()))
        if not episode.actions:
            return first
        if len(episode.actions) == 1 and not first.tool_calls[1:]:
            return first  # once more: it works, and is not what the expert would do
        if any(action.command == "없는_도구" for action in episode.actions):
            return Message(role="assistant", content="모르겠습니다.")
        return LOST if episode.attempt.beginning is None else expert(episode)

    _, folder = bench(wanders, "--prove", 2)
    skipped = [
        result.reason
        for record in read_trajectories(folder / "trajectories.jsonl")
        for result in trajectory_to_pairs(record)
        if not isinstance(result, PreferencePair)
    ]
    assert skipped.count("another way, from which success was still reached") > 2


def test_at_most_so_many_states_are_proved_and_a_stopped_run_goes_on(bench: Callable[..., tuple[str, Path]]) -> None:
    asked: list[int] = []

    def counted(episode: Episode) -> Turn:
        asked.append(1)
        return loses_it(episode)

    out, folder = bench(counted, "--prove", 2, "--prove-states", 5)
    assert "5 states of" in out
    records = list(read_trajectories(folder / "trajectories.jsonl"))
    states = [state for record in records if (proof := proof_of(record)) for state in proof["states"]]
    assert len(states) == 5 and len(list(read_trajectories(folder / "rollouts.jsonl"))) == 10
    before = (folder / "rollouts.jsonl").read_bytes()
    asked.clear()
    bench(counted, "--prove", 2, "--prove-states", 5)
    assert not asked and (folder / "rollouts.jsonl").read_bytes() == before
    # A kill after some tries from states: what is in the file of the run under way is not made again.
    key = json.loads((folder / "kpis.json").read_text("utf-8"))["key"][:16]
    lines = before.splitlines(keepends=True)
    (folder / f"unfinished-rollouts-{key}.jsonl").write_bytes(b"".join(lines[:9]) + lines[9][:20])
    (folder / "trajectories.jsonl").rename(folder / f"unfinished-{key}.jsonl")
    (folder / "kpis.json").unlink()
    (folder / "rollouts.jsonl").unlink()
    bench(counted, "--prove", 2, "--prove-states", 5)
    assert 0 < len(asked) < 40
    made = {record.id for record in read_trajectories(folder / "rollouts.jsonl")}
    assert made == {json.loads(line)["id"] for line in lines}
    assert not list(folder.glob("unfinished-*"))


RECORD = next(iter(run_tasks(Scripted(loses_it), make_tasks(["files"], "train", 1, 5), label="x", max_steps=30)))


@given(st.data())
def test_halving_finds_the_first_turn_from_which_success_is_lost(data: st.DataObject) -> None:
    turns = data.draw(st.integers(1, 40))
    lost = data.draw(st.integers(0, turns))
    actions = [RECORD.action_sequence[0]] * turns
    record = RECORD.model_copy(update={"action_sequence": actions})
    record.metadata.answer = "끝"
    search = Search(Try(make_tasks(["files"], "train", 1, 5)[0]), record)
    asked = 0
    while (step := search.next()) is not None:
        asked += 1
        search.successes[step] = int(step <= lost)
    assert search.pit == lost and asked <= 7
