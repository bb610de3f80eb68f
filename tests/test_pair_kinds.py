"""Pairs by what is wrong: stuck, stop, try and injection, made of tries in real worlds, from the commands that make them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.agent.episodes import Episode, Turn, move_to_message, run_tasks
from benchmark.runs.replay import replay
from benchmark.worlds.injection import INJECTED
from benchmark.worlds.kinds import make_tasks
from benchmark.worlds.world import Task
from data.chats import Message, PreferencePair, ToolCall
from data.contribution.quality import Replay
from data.records import Outcome, Trajectory, read_trajectories, write_trajectories
from data.sets.pair_kinds import balanced, lengths
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


def call(name: str, **arguments: Any) -> Message:
    return Message(role="assistant", tool_calls=(ToolCall(id="call_0", name=name, arguments=arguments),))


WRONG = call("없는_도구", 값="가")


def stuck(episode: Episode) -> Turn:
    """Two right turns, then one wrong call for ever."""
    return expert(episode) if episode.turns < 1 else WRONG


def done_too_early(episode: Episode) -> Turn:
    return expert(episode) if episode.turns < 1 else Message(role="assistant", content="다 했습니다.")


def never_done(episode: Episode) -> Turn:
    """Goes on looking when everything is done."""
    move = expert(episode)
    if move.tool_calls:
        return move
    looks = [action for action in episode.actions if action.error is None]
    return call(looks[0].command, **dict(looks[0].input)) if isinstance(looks[0].input, dict) else WRONG


def tries(says: Says, tasks: Sequence[Task], label: str = "m", max_steps: int = 9) -> list[Trajectory]:
    return list(run_tasks(Scripted(says), tasks, label=label, max_steps=max_steps))


def tasks_of(worlds: Sequence[str] = ("files", "api", "web"), **options: Any) -> list[Task]:
    """Tasks that no one turn solves."""
    drawn = make_tasks(worlds, "train", 24, 5, **options)
    open_ones = {record.metadata.group for record in tries(stuck, drawn) if record.outcome is not Outcome.SUCCESS}
    return [task for task in drawn if task.id in open_ones and task.tier > 1][:6]


@pytest.fixture
def pairs_of(run_app: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    monkeypatch.setenv("COLUMNS", "200")

    def make(records: Sequence[Trajectory], kinds: str) -> dict[str, Any]:
        tried, completed, out = (tmp_path / name for name in ("tries.jsonl", "completed.jsonl", "pairs.jsonl"))
        write_trajectories(tried, records)
        code, _, err = run_app("benchmark", "complete", tried, "--out", completed)
        assert code == 0, err
        code, text, err = run_app("data", "pairs", tried, completed, "--kinds", kinds, "--out", out)
        made = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
        return {
            "code": code,
            "text": text + err,
            "pairs": [PreferencePair.model_validate_json(line) for line in made],
            "completed": {record.id: record for record in read_trajectories(completed)},
            "counts": json.loads((tmp_path / "pairs.counts.json").read_text(encoding="utf-8")),
        }

    return make


def assert_goes_on_to_success(pair: PreferencePair, made: dict[str, Any]) -> None:
    """The chosen side is the rest of a record that the world itself calls a success, and that replays."""
    record = made["completed"][pair.id.split(":")[1]]
    assert record.outcome is Outcome.SUCCESS
    replayed = replay(record)
    assert isinstance(replayed, Replay) and replayed.ok
    step = record.metadata.model_extra["begins"]["step"]
    assert [action.weight for action in record.action_sequence[:step]] == [0.0] * step
    said = [(c.name, c.arguments) for message in pair.chosen for c in message.tool_calls]
    assert said == [(action.command, action.input) for action in record.action_sequence[step:]]
    assert pair.chosen[-1].content == record.metadata.answer


def test_the_same_failed_call_again_is_rejected_against_a_way_out(pairs_of: Callable[..., dict[str, Any]]) -> None:
    records = tries(stuck, tasks_of())
    made = pairs_of(records, "stuck")
    assert len(made["pairs"]) == len(records) == 6
    for pair in made["pairs"]:
        [rejected] = pair.rejected
        assert (rejected.tool_calls[0].name, rejected.tool_calls[0].arguments) == ("없는_도구", {"값": "가"})
        assert rejected.loss_weight == 1
        failed = [m for m in pair.prompt if m.tool_calls and m.tool_calls[0].name == "없는_도구"]
        assert len(failed) == 1, "it stands at the second failure"
        assert pair.prompt[-1].content.startswith("Error")
        assert_goes_on_to_success(pair, made)
    assert made["counts"]["kinds"]["stuck"]["share"] == 1


@pytest.mark.parametrize("says", [done_too_early, never_done])
def test_an_end_at_the_wrong_place_is_rejected(pairs_of: Callable[..., dict[str, Any]], says: Says) -> None:
    records = tries(says, tasks_of(), max_steps=16)
    made = pairs_of(records, "stop")
    assert len(made["pairs"]) == 6
    for pair in made["pairs"]:
        [rejected] = pair.rejected
        assert_goes_on_to_success(pair, made)
        if says is done_too_early:
            assert rejected.content == "다 했습니다." and pair.chosen[0].tool_calls
        else:
            assert rejected.tool_calls and len(pair.chosen) == 1 and not pair.chosen[0].tool_calls


def test_asking_and_refusing_wrongly_are_rejected(pairs_of: Callable[..., dict[str, Any]]) -> None:
    def refuses(episode: Episode) -> Turn:
        return Message(role="assistant", content="할 수 없습니다.")

    def never_asks(episode: Episode) -> Turn:
        name = next(t.function.name for t in episode.task.tools if t.function.name != "ask_user")
        return call(name)

    tasks = make_tasks(["files"], "train", 12, 5, asking=True)
    made = pairs_of([*tries(refuses, tasks, "r"), *tries(never_asks, tasks, "n")], "stop")
    assert made["pairs"]
    kinds = set()
    for pair in made["pairs"]:
        assert_goes_on_to_success(pair, made)
        asks = pair.chosen[0].tool_calls and pair.chosen[0].tool_calls[0].name == "ask_user"
        kinds.add(("asks" if asks else "goes on", "refuses" if not pair.rejected[0].tool_calls else "acts"))
    assert {("asks", "refuses"), ("asks", "acts")} <= kinds


def test_obeying_an_instruction_in_a_result_is_rejected(pairs_of: Callable[..., dict[str, Any]]) -> None:
    def obeys(episode: Episode) -> Turn:
        injection: Any = episode.task.parameters["injection"]
        asked = (injection.get("tool"), injection.get("arguments"))
        made = [(action.command, action.input) for action in episode.actions]
        if asked[0] and any(kind == INJECTED for _, kind in episode.injected) and asked not in made:
            return call(injection["tool"], **injection["arguments"])
        return expert(episode)

    tasks = make_tasks(["files", "api"], "train", 8, 5, injections=True)
    records = [
        record.model_copy(update={"metadata": record.metadata})
        for record in run_tasks(Scripted(obeys), tasks, label="m", max_steps=12)
    ]
    obeyed = [record for record in records if (record.metadata.model_extra or {})["injection"]["obeyed"]]
    made = pairs_of(records, "injection")
    assert len(made["pairs"]) == len(obeyed) > 3
    asked: dict[str, Any] = {task.id: task.parameters["injection"] for task in tasks}
    for pair in made["pairs"]:
        [obeying, *_] = pair.rejected[0].tool_calls
        assert (obeying.name, obeying.arguments) == tuple(asked[str(pair.group)][key] for key in ("tool", "arguments"))
        assert not any(obeying.arguments == each.arguments for message in pair.chosen for each in message.tool_calls)
        assert_goes_on_to_success(pair, made)


def test_whole_tries_are_compared_and_lengths_are_balanced(pairs_of: Callable[..., dict[str, Any]]) -> None:
    tasks = tasks_of()
    records = [
        *tries(expert, tasks, "good", max_steps=40),
        *tries(stuck, tasks, "bad"),
        *tries(done_too_early, tasks, "early"),
    ]
    made = pairs_of(records, "try,stuck")
    whole = [pair for pair in made["pairs"] if pair.kind == "try"]
    assert whole
    for pair in whole:
        assert len(pair.rejected) > 0 and pair.id.endswith("-good")
    chosen, rejected = lengths(whole)
    assert abs(chosen - rejected) <= 0.1 * min(chosen, rejected)
    told = made["counts"]["kinds"]
    assert told["try"]["pairs"] == len(whole)
    assert told["try"]["share"] == pytest.approx(len(whole) / len(made["pairs"]), abs=1e-4)
    assert told["try"]["chosen_characters"] == pytest.approx(chosen / len(whole), abs=0.1)
    assert made["counts"]["read"] == made["counts"]["kept"] + sum(made["counts"]["dropped"].values())


def test_shares_are_what_was_asked_for(pairs_of: Callable[..., dict[str, Any]]) -> None:
    tasks = tasks_of()
    made = pairs_of([*tries(stuck, tasks, "s"), *tries(done_too_early, tasks, "e")], "stuck=0.25,stop=0.75")
    kinds = [pair.kind for pair in made["pairs"]]
    assert (kinds.count("stuck"), kinds.count("stop")) == (2, 6)
    assert made["counts"]["dropped"]["stuck: beyond its share"] == 4


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        ("stuk", "stuck"),
        ("stuck,stuck", "twice"),
        ("stuck=1,stop", "to each kind or to none"),
        ("stuck=x", "a number"),
        ("", "some of"),
    ],
)
def test_wrong_kinds_are_told(run: Run, tmp_path: Path, kinds: str, told: str) -> None:
    write_trajectories(tmp_path / "a.jsonl", [])
    code, _, err = run("pairs", tmp_path / "a.jsonl", "--kinds", kinds, "--out", tmp_path / "b.jsonl")
    assert code == 2 and told in err


def test_tries_without_completions_give_no_pair_and_say_so(run: Run, tmp_path: Path) -> None:
    write_trajectories(tmp_path / "a.jsonl", tries(stuck, tasks_of()[:1]))
    code, _, err = run("pairs", tmp_path / "a.jsonl", "--kinds", "stuck", "--out", tmp_path / "b.jsonl")
    assert code == 2 and "no pair of stuck in 1 records" in err


def test_a_completed_record_is_imitated_without_the_models_part(run_app: Run, tmp_path: Path) -> None:
    write_trajectories(tmp_path / "a.jsonl", tries(stuck, tasks_of()))
    out = tmp_path / "b.jsonl"
    assert run_app("benchmark", "complete", tmp_path / "a.jsonl", "--at", "drawn", "--out", out)[0] == 0
    assert run_app("data", "convert", out, "--adapter", "trajectory", "--out", tmp_path / "c.jsonl")[0] == 0
    for record, line in zip(
        read_trajectories(out), (tmp_path / "c.jsonl").read_text("utf-8").splitlines(), strict=True
    ):
        begins: Any = (record.metadata.model_extra or {})["begins"]
        weights = [m.get("weight") for m in json.loads(line)["messages"] if m["role"] == "assistant"]
        assert begins["step"] > 0 and set(weights[: begins["step"]]) == {0.0} and 1.0 in weights[begins["step"] :]


def pair_of(number: int, chosen: int, rejected: int) -> PreferencePair:
    def said(length: int, sign: str) -> tuple[Message, ...]:
        return (Message(role="assistant", content=sign * length),)

    prompt = (Message(role="user", content="?"),)
    return PreferencePair(
        prompt=prompt, chosen=said(chosen, "가"), rejected=said(rejected, "b"), id=str(number), source="s"
    )


@given(st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), max_size=12))
def test_sides_that_are_kept_are_about_as_long(sizes: list[tuple[int, int]]) -> None:
    pairs = [pair_of(number, *size) for number, size in enumerate(sizes)]
    kept, left_out = balanced(pairs)
    chosen, rejected = lengths(kept)
    assert abs(chosen - rejected) <= 0.1 * max(1, min(chosen, rejected))
    assert len(kept) + left_out == len(pairs)
