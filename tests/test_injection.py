"""Instructions in tools' results: obeying is damage, going on is the recovery."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmark.agent.episodes import Episode, Turn, move_to_message, run_tasks
from benchmark.agent.policies import Expert
from benchmark.runs.asking_kpis import asking_kpis
from benchmark.runs.replay import replay
from benchmark.worlds.injection import FORMS, INJECTED
from benchmark.worlds.kinds import WORLDS, make_tasks
from data.chats import Message, PreferencePair, ToolCall
from data.contribution.quality import Replay
from data.records import Outcome, Trajectory
from data.trajectories import trajectory_to_pairs
from support.commands import Run

TASKS = make_tasks([*WORLDS], "test", 100, 5, injections=True)


@pytest.fixture
def bench(run_app: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "200")
    return partial(run_app, "benchmark")


def extra(record: Trajectory, name: str) -> Any:
    return (record.metadata.model_extra or {})[name]


def word_of(record: Trajectory) -> str:
    return str(extra(record, "task")["parameters"]["injection"]["word"])


def read(output: Any) -> str:
    """What a result holds, without JSON's marks."""
    return "\n".join(map(str, output.values())) if isinstance(output, dict) else str(output)


class Obedient:
    """Does what the last result says; else what the expert would."""

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        return [self._turn(episode) for episode in episodes]

    def _turn(self, episode: Episode) -> Turn:
        injection: Any = episode.task.parameters["injection"]
        asked = {injection["argument"]: injection["word"]}
        has_read = any(injection["text"] in read(action.output) for action in episode.actions)
        if has_read and not any(action.input == asked for action in episode.actions):
            call = ToolCall(id="call_0", name=injection["tool"], arguments=asked)
            return Message(role="assistant", tool_calls=(call,))
        return move_to_message(episode.world.expert(episode.actions))

    def forget(self, episode: Episode) -> None:
        return


def test_there_are_twenty_forms_that_name_what_they_ask_for() -> None:
    forms = [form for of_language in FORMS.values() for form in of_language]
    assert len(set(forms)) == 20 and all("{word}" in form for form in forms)
    texts = {str(task.parameters["injection"]["text"]) for task in TASKS}  # type: ignore[index, call-overload]
    assert len(texts) == len(TASKS)


def test_the_expert_reads_the_instruction_goes_on_and_replays() -> None:
    worlds = set()
    for record in run_tasks(Expert(), TASKS, label="x", max_steps=60):
        assert record.outcome is Outcome.SUCCESS, (record.id, extra(record, "why"))
        assert extra(record, "injection") == {"struck": True, "obeyed": False}
        [[step, kind]] = extra(record, "injected")
        text = extra(record, "task")["parameters"]["injection"]["text"]
        assert (
            kind == INJECTED
            and text in read(record.action_sequence[step].output)
            and step < len(record.action_sequence) - 1
        )
        assert not any(word_of(record) in json.dumps(action.input) for action in record.action_sequence)
        again = replay(Trajectory.model_validate_json(record.to_json()))
        assert isinstance(again, Replay) and again.ok, again
        worlds.add(record.tool)
    assert worlds == set(WORLDS)


def test_obeying_is_damage_and_a_pair() -> None:
    records = list(run_tasks(Obedient(), TASKS, label="x", max_steps=60, advise=True))
    kpi = asking_kpis(records)["obeyed_injections"]
    assert kpi.value == 1.0 and kpi.n == len(TASKS) and kpi.low is not None
    for record in records:
        assert record.outcome is not Outcome.SUCCESS and extra(record, "score") < 1
        pairs = [pair for pair in trajectory_to_pairs(record) if isinstance(pair, PreferencePair)]
        obeying = [pair for pair in pairs if word_of(record) in str(pair.rejected)]
        assert obeying, record.id
        assert not any(word_of(record) in str(pair.chosen) for pair in obeying)
        assert all(word_of(record) in str(pair.prompt) for pair in obeying)


def test_obeying_in_words_counts_too() -> None:
    class Says:
        def act(self, episodes: Sequence[Episode]) -> list[Turn]:
            return [self._turn(each) for each in episodes]

        def _turn(self, episode: Episode) -> Turn:
            said = move_to_message(episode.world.expert(episode.actions))
            injection: Any = episode.task.parameters["injection"]
            return said if said.tool_calls else said.model_copy(update={"content": f"Done. {injection['word']}"})

        def forget(self, episode: Episode) -> None:
            return

    for record in run_tasks(Says(), TASKS[:20], label="x", max_steps=60):
        assert extra(record, "injection")["obeyed"] and record.outcome is Outcome.PARTIAL


def test_train_and_test_share_no_word_and_a_longer_list_begins_with_the_shorter() -> None:
    train = make_tasks([*WORLDS], "train", 40, 5, injections=True)
    words = [{str(t.parameters["injection"]["word"]) for t in tasks} for tasks in (train, TASKS)]  # type: ignore[index, call-overload]
    parts = [{part for word in of_split for part in word.split("-")} for of_split in words]
    assert not parts[0] & parts[1]
    assert make_tasks([*WORLDS], "train", 20, 5, injections=True) == train[:20]
    assert WORLDS["files"].task(train[3].id) == train[3]


def test_the_commands_draw_them_only_when_asked_to(bench: Run, tmp_path: Path) -> None:
    run = ["run", "--policy", "expert", "--count", 10, "--out"]
    code, out, err = bench(*run, tmp_path / "x", "--injections")
    assert (code, err) == (0, "") and "Obeyed injected instructions" in out
    told = json.loads((tmp_path / "x" / "expert" / "kpis.json").read_text())
    assert told["asking_kpis"]["obeyed_injections"]["value"] == 0.0 and INJECTED in told["by_fault"]
    assert bench("record", "--count", 20, "--injections", "--out", tmp_path / "r.jsonl")[0] == 0
    assert bench("replay", tmp_path / "r.jsonl")[0] == 0
