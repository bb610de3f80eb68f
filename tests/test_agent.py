"""The agent loop in the real worlds, with scripted policies and with small models."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmark.agent.episodes import (
    FROZEN_START,
    LATENCY_SECONDS,
    Episode,
    Try,
    Turn,
    Unreadable,
    move_to_message,
    run_tasks,
)
from benchmark.agent.policies import POLICIES, Expert, policy_named
from benchmark.worlds.kinds import WORLDS, make_tasks
from benchmark.worlds.world import Task
from core.errors import UserError
from data.chats import Chat, Message, PreferencePair, Skip, ToolCall
from data.records import INVALID_CALL, Outcome, Trajectory
from data.trajectories import actions_to_messages, trajectory_to_chat, trajectory_to_pairs

BOTH = ["files", "api"]
Said = Callable[[Episode], Turn]


class Scripted:
    """A policy that asks a function, and remembers what it was given."""

    def __init__(self, says: Said) -> None:
        self.says = says
        self.given: dict[str, list[list[Message]]] = {}
        self.forgotten: list[str] = []

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        for episode in episodes:
            self.given.setdefault(episode.task.id, []).append(episode.messages)
        return [self.says(episode) for episode in episodes]

    def forget(self, episode: Episode) -> None:
        self.forgotten.append(episode.task.id)


def call(name: str, **arguments: Any) -> Message:
    return Message(role="assistant", tool_calls=(ToolCall(id="call_0", name=name, arguments=arguments),))


def expert(episode: Episode) -> Message:
    return move_to_message(episode.world.expert(episode.actions))


def first_then_expert(turn: Turn) -> Said:
    return lambda episode: turn if episode.turns == 0 else expert(episode)


def one(says: Said, task: Task, **options: Any) -> Trajectory:
    [record] = run_tasks(Scripted(says), [task], label="x", **options)
    return Trajectory.model_validate_json(record.to_json())


def extra(record: Trajectory, name: str) -> Any:
    assert record.metadata.model_extra is not None
    return record.metadata.model_extra[name]


def task_of_family(world: str, family: str, *, fault: str | None = None) -> Task:
    """The first training task of a family, with a fault of that kind or without any."""
    for task in make_tasks([world], "train", 400, 3):
        if task.family == family and [f.kind for f in task.faults] == ([fault] if fault else []):
            return task
    raise AssertionError(f"no {family} task with fault {fault}")


def test_what_a_policy_was_given_is_what_training_will_show() -> None:
    policy = Scripted(Expert(mistakes=0.5, seed=1)._turn)
    for record in run_tasks(policy, make_tasks(BOTH, "train", 40, 5), label="x", max_steps=40):
        chat = trajectory_to_chat(record)
        assert isinstance(chat, Chat)
        asked_at = [place for place, message in enumerate(chat.messages) if message.role == "assistant"]
        given = policy.given[str(record.metadata.group)]
        assert [list(chat.messages[:place]) for place in asked_at] == given


def test_the_expert_solves_everything_and_recovers_from_its_own_mistakes() -> None:
    records = list(run_tasks(Expert(mistakes=1, seed=2), make_tasks(BOTH, "train", 80, 2), label="x", max_steps=40))
    assert all(record.outcome is Outcome.SUCCESS for record in records)
    own = 0
    for record in records:
        struck = {step for step, _ in extra(record, "injected")}
        failed = {step for step, action in enumerate(record.action_sequence) if action.error is not None}
        assert struck <= failed
        turns: dict[object, set[int]] = {}
        for step, action in enumerate(record.action_sequence):
            turns.setdefault(step if action.turn is None else f"turn {action.turn}", set()).add(step)
        mistaken = [steps for steps in turns.values() if steps & failed and not steps & struck]
        own += len(mistaken)
        assert len(mistaken) <= 1
        # What failed stays as context and is not imitated.
        messages = actions_to_messages(record.metadata, record.action_sequence)
        weights = [message.loss_weight for message in messages if message.role == "assistant"]
        assert weights == [0.0 if steps & failed else 1.0 for steps in turns.values()]
    assert own > len(records) / 2


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "expert"])
def test_trivial_policies_score_about_nothing(name: str) -> None:
    records = list(run_tasks(policy_named(name), make_tasks(BOTH, "test", 150, 1), label=name, max_steps=6))
    assert sum(record.outcome is Outcome.SUCCESS for record in records) < 0.02 * len(records)


def test_an_unknown_policy_is_told_its_nearest_name() -> None:
    with pytest.raises(UserError, match="say-done"):
        policy_named("saydone")


def test_records_do_not_depend_on_how_many_tasks_are_live() -> None:
    tasks = make_tasks(BOTH, "train", 24, 4)

    def lines(live: int) -> dict[str, str]:
        policy = Expert(mistakes=0.5, seed=4)
        records = run_tasks(policy, tasks, label="x", start=FROZEN_START, live=live)
        return {record.id: record.to_json() for record in records}

    assert lines(1) == lines(5) == lines(24)
    assert len(lines(5)) == 24


def test_stopping_early_leaves_no_world_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # else the folders are in memory
    running = run_tasks(Expert(), make_tasks(["files"], "train", 8, 1), label="x")
    assert isinstance(running, Generator)
    next(running)
    assert len(list(tmp_path.iterdir())) == 7
    running.close()
    assert not list(tmp_path.iterdir())


def test_an_unreadable_turn_ends_the_task_or_goes_back_to_the_model() -> None:
    task = task_of_family("files", "move")
    stopped = one(first_then_expert(Unreadable("<tool_call>{", "not JSON")), task, invalid="stop")
    assert [action.command for action in stopped.action_sequence] == [INVALID_CALL]
    assert stopped.action_sequence[0].input == {"text": "<tool_call>{"}
    assert (stopped.outcome, stopped.metadata.answer) == (Outcome.FAILURE, None)

    policy = Scripted(first_then_expert(Unreadable("<tool_call>{", "not JSON")))
    [retried] = run_tasks(policy, [task], label="x")
    assert retried.outcome is Outcome.SUCCESS
    assert [message.content for message in policy.given[task.id][1][-2:]] == ["<tool_call>{", "Error: not JSON"]

    full = one(first_then_expert(Unreadable("", "no room", ends=True)), task)
    assert [action.error for action in full.action_sequence] == ["no room"]


def test_a_policy_may_take_its_time_and_each_task_goes_on_at_its_own_pace() -> None:
    tasks = make_tasks(BOTH, "train", 6, 8)
    asked = 0

    class Slow(Scripted):
        def act(self, episodes: Sequence[Episode]) -> list[Turn | None]:  # type: ignore[override]
            nonlocal asked
            asked += 1
            chosen = asked % len(episodes)
            return [self.says(each) if place == chosen else None for place, each in enumerate(episodes)]

    records = list(run_tasks(Slow(expert), tasks, label="x", max_steps=40, live=3))
    assert {record.metadata.group for record in records} == {task.id for task in tasks}
    assert all(record.outcome is Outcome.SUCCESS for record in records)


def test_each_try_of_a_task_is_a_record_of_its_own() -> None:
    task = task_of_family("files", "move")
    tries = [Try(task, sample, 100 + sample) for sample in range(3)]
    records = list(run_tasks(Scripted(expert), tries, label="x"))
    assert [record.id for record in records] == [f"{task.id}-x-s{sample}" for sample in range(3)]
    assert [extra(record, "sampling") for record in records] == [{"sample": n, "seed": 100 + n} for n in range(3)]
    assert {record.metadata.group for record in records} == {task.id}


def test_a_tool_named_like_the_mark_of_unreadable_turns_is_unreadable() -> None:
    task = task_of_family("files", "move")
    record = one(first_then_expert(call(INVALID_CALL, path="a")), task)
    assert record.action_sequence[0].command == INVALID_CALL
    said = actions_to_messages(record.metadata, record.action_sequence)[2]
    assert INVALID_CALL in said.content and not said.tool_calls


def test_parallel_calls_become_one_message_again() -> None:
    task = task_of_family("files", "find-copy")
    calls = tuple(
        ToolCall(id=f"call_{n}", name="search_text", arguments={"text": text}) for n, text in enumerate(("a", "b"))
    )
    turn = Message(role="assistant", content="Both.", reasoning_content="Look.", tool_calls=calls)
    policy = Scripted(first_then_expert(turn))
    [record] = run_tasks(policy, [task], label="x")
    assert record.outcome is Outcome.SUCCESS
    again = policy.given[task.id][1]
    assert [message.role for message in again[2:]] == ["assistant", "tool", "tool"]
    assert (again[2].content, again[2].reasoning_content) == ("Both.", "Look.")
    assert [(c.name, c.arguments) for c in again[2].tool_calls] == [(c.name, c.arguments) for c in calls]


def test_an_episode_ends_after_max_steps() -> None:
    record = one(lambda episode: call("list_folder", path="."), task_of_family("files", "count"), max_steps=3)
    assert len(record.action_sequence) == 3
    assert record.outcome is Outcome.FAILURE
    assert record.metadata.answer is None


def test_a_model_that_is_stuck_may_be_stopped() -> None:
    """Between the errors other calls may work, and the same call may fail in another way: only equal errors count."""
    says = [call("read_file", path="none.txt"), call("list_folder", path="."), call("read_file", path="other.txt")]
    task = task_of_family("files", "count")
    assert len(one(lambda episode: says[episode.turns % 3], task, max_same_errors=2).action_sequence) == 4
    assert len(one(lambda episode: says[episode.turns % 3], task, max_same_errors=3).action_sequence) == 7
    assert len(one(lambda episode: says[1], task, max_same_errors=1).action_sequence) == 12, (
        "a call that works is no error"
    )
    text = Unreadable("<tool_call>", "no end within 8 tokens")
    assert len(one(lambda episode: text, task, max_same_errors=4).action_sequence) == 4
    assert len(one(lambda episode: text, task).action_sequence) == 12


def test_the_expert_is_never_taken_for_stuck() -> None:
    tasks = make_tasks([*WORLDS], "test", 250, 11)
    assert sum(len(task.faults) for task in tasks) > 50
    for record in run_tasks(Expert(), tasks, label="x", max_steps=40, max_same_errors=2):
        assert record.outcome is Outcome.SUCCESS, record.id


def test_time_is_the_worlds_own() -> None:
    record = one(expert, task_of_family("api", "create", fault="rate_limited"), start=FROZEN_START)
    assert record.timestamp == FROZEN_START
    clock = FROZEN_START
    for action in record.action_sequence:
        assert action.start_time == clock
        clock = action.end_time
        spent = clock - action.start_time
        assert spent >= timedelta(seconds=LATENCY_SECONDS)
        if action.command == "wait":
            assert isinstance(action.input, dict)
            assert spent >= timedelta(seconds=LATENCY_SECONDS + float(str(action.input["seconds"])))
    assert "wait" in [action.command for action in record.action_sequence]


def test_the_record_says_what_is_needed_to_make_the_task_again() -> None:
    [task] = make_tasks(["api"], "test", 1, 9)
    record = one(expert, task)
    assert record.metadata.group == task.id
    assert record.metadata.instruction == task.instruction
    assert record.metadata.tools == list(task.tools)
    said = extra(record, "task")
    assert (said["world"], said["family"], said["split"], said["seed"], said["tier"]) == (
        "api", task.family, "test", 9, task.tier,
    )  # fmt: skip
    assert said["parameters"] == json.loads(json.dumps(task.parameters)) and said["facts"] == task.facts
    assert extra(record, "score") == 1.0


# ---------------------------------------------------------------- advice


def pairs_of(record: Trajectory) -> list[PreferencePair | Skip]:
    return list(trajectory_to_pairs(record))


def test_a_failed_call_is_advised_with_the_experts_move_from_that_state() -> None:
    task = task_of_family("files", "copy")
    wrong = call("read_file", path="no/such.txt")
    record = one(first_then_expert(wrong), task, advise=True)
    assert record.outcome is Outcome.SUCCESS
    [advice] = record.metadata.advice
    first_right = record.action_sequence[1]
    assert (advice.step, advice.command, advice.input) == (0, first_right.command, first_right.input)
    [pair] = pairs_of(record)
    assert isinstance(pair, PreferencePair)
    assert pair.rejected[0].tool_calls[0].arguments == {"path": "no/such.txt"}
    assert pair.chosen[0].tool_calls[0].arguments == first_right.input


def test_a_premature_answer_is_advised_when_the_task_failed() -> None:
    claim = Message(role="assistant", content="All done!")
    record = one(lambda episode: claim, task_of_family("api", "update"), advise=True)
    [advice] = record.metadata.advice
    assert (advice.step, advice.command) == (0, "update_order")
    [pair] = pairs_of(record)
    assert isinstance(pair, PreferencePair) and pair.rejected[0].content == "All done!"


def test_a_wrong_call_that_worked_is_advised_when_the_task_failed() -> None:
    task = task_of_family("files", "write")
    right = task.parameters
    wrong = call("write_file", path=str(right["path"]) + "x", text=right["text"])
    record = one(
        lambda episode: wrong if episode.turns == 0 else Message(role="assistant", content="Done."), task, advise=True
    )
    assert record.outcome is not Outcome.SUCCESS and record.action_sequence[0].error is None
    assert [advice.step for advice in record.metadata.advice] == [0]


def test_unreadable_turns_are_advised() -> None:
    record = one(first_then_expert(Unreadable("{", "not JSON")), task_of_family("api", "update"), advise=True)
    assert [(advice.step, advice.command) for advice in record.metadata.advice] == [(0, "update_order")]
    [pair] = pairs_of(record)
    assert isinstance(pair, PreferencePair) and pair.rejected[0].content == "{"


def test_nobody_is_advised_to_do_what_was_done() -> None:
    for record in run_tasks(Expert(), make_tasks(BOTH, "train", 60, 6), label="x", max_steps=40, advise=True):
        assert record.metadata.advice == []
    # An injected fault is no mistake; giving up after it is one.
    struck = task_of_family("files", "write", fault="busy")
    gave_up = lambda e: expert(e) if e.turns == 0 else Message(role="assistant", content="Done.")  # noqa: E731
    record = one(gave_up, struck, advise=True)
    assert record.action_sequence[0].error is not None
    assert [advice.step for advice in record.metadata.advice] == [1]


def test_a_number_of_the_wrong_type_is_not_what_the_expert_did() -> None:
    task = task_of_family("api", "create", fault="rate_limited")

    def says(episode: Episode) -> Message:
        message = expert(episode)
        tried = [action.input for action in episode.actions if action.command == "wait"]
        if message.tool_calls and message.tool_calls[0].name == "wait" and not tried:
            return call("wait", seconds=float(str(message.tool_calls[0].arguments["seconds"])))
        return message

    record = one(says, task, advise=True)
    [advice] = record.metadata.advice
    assert record.action_sequence[advice.step].error is not None
    assert isinstance(advice.input["seconds"], int)


def test_worlds_and_agent_need_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None\n"
        "from benchmark.agent.episodes import run_tasks\nfrom benchmark.agent.policies import Expert\n"
        "from benchmark.worlds.kinds import WORLDS, make_tasks\n"
        "records = list(run_tasks(Expert(), make_tasks(['files', 'api'], 'train', 4, 1), label='x'))\n"
        "assert all(record.outcome == 'success' for record in records)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
