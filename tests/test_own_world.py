"""A folder's world: judged by its state, struck by faults, tried once more where its server fails; and every command on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from benchmark.agent.episodes import CRASHED, FROZEN_START, Episode, InvalidTry, Try, Turn, run_tasks
from benchmark.agent.policies import Expert, policy_named
from benchmark.agent.transformers_model import Model
from benchmark.loop.plan import Loop, LoopConfig
from benchmark.runs.replay import CannotReplay, replay
from benchmark.runs.window import solution_to_messages, within_window
from benchmark.worlds.own.folder import read_folder
from benchmark.worlds.own.judge import says
from benchmark.worlds.own.kind import OwnKind, open_kind
from benchmark.worlds.own.state import compare_states, state_to_entries
from benchmark.worlds.own.tasks import SaidNumber
from benchmark.worlds.world import ToolResult
from core.errors import UserError
from data.chats import Message, ToolCall
from data.records import Outcome, Trajectory
from data.trajectories import actions_to_messages
from support.commands import Run
from support.own_tools import TASKS, Notes, open_notes, play_notes, write_notes


@pytest.fixture(autouse=True)
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    play_notes(monkeypatch, tmp_path / "home")


def calls(*made: tuple[str, dict[str, Any]], answer: str = "Done.") -> Any:
    """A policy that makes these calls and answers."""

    class Says:
        def act(self, episodes: Sequence[Episode]) -> list[Turn]:
            return [self.turn(episode) for episode in episodes]

        def turn(self, episode: Episode) -> Turn:
            if episode.turns == len(made):
                return Message(role="assistant", content=answer)
            name, arguments = made[episode.turns]
            return Message(role="assistant", tool_calls=(ToolCall(id="call_0", name=name, arguments=arguments),))

        def forget(self, episode: Episode) -> None:
            pass

    return Says()


def run(kind: OwnKind, policy: Any, name: str, **options: Any) -> list[Trajectory]:
    task = kind.task(name)
    assert task is not None
    return list(run_tasks(policy, [task], label="x", kinds={kind.name: kind}, start=FROZEN_START, **options))


def score(
    kind: OwnKind, name: str, *made: tuple[str, dict[str, Any]], answer: str = "Done."
) -> tuple[Outcome, float, str]:
    [record] = run(kind, calls(*made, answer=answer), name)
    extra = record.metadata.model_extra or {}
    return record.outcome, extra["score"], extra["why"]


def test_the_state_after_the_solution_is_what_must_be_reached(tmp_path: Path) -> None:
    kind = open_notes(tmp_path / "notes")
    right = ("change_note", {"id": 1, "text": "changed 1"})
    assert score(kind, "change-1", right)[:2] == (Outcome.SUCCESS, 1.0)
    assert score(kind, "change-1")[:2] == (Outcome.FAILURE, 0.0)
    assert score(kind, "change-1", ("change_note", {"id": 1, "text": "wrong"}))[1] == 0
    outcome, share, why = score(kind, "change-1", right, ("change_note", {"id": 2, "text": "damaged"}))
    assert (outcome, share) == (Outcome.PARTIAL, 0.5) and '[id=2]/text: expected "stays", is "damaged"' in why
    assert score(kind, "change-1", right, ("delete_note", {"id": 2}))[1] < 0.5
    # a title that is right and a text that is not: two of the three entries of the note
    assert score(kind, "add-1", ("add_note", {"title": "title 1", "text": "no"}))[1] == pytest.approx(2 / 3)


def test_what_a_server_asked_its_client_is_counted_in_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = open_notes(tmp_path / "notes")
    call = Notes.call

    def asking(self: Notes, name: str, arguments: dict[str, Any]) -> ToolResult:
        self.asked_back += 1
        return call(self, name, arguments)

    right = ("change_note", {"id": 1, "text": "changed 1"})
    [quiet] = run(kind, calls(right), "change-1")
    monkeypatch.setattr(Notes, "call", asking)
    [record] = run(kind, calls(right), "change-1")
    # The look at the state that judges asks once, too.
    assert (record.metadata.model_extra or {})["asked_back"] == 2
    assert "asked_back" not in (quiet.metadata.model_extra or {})


def test_a_record_claims_no_licence_but_that_of_its_folder(tmp_path: Path) -> None:
    for licence in (None, "Apache-2.0"):
        kind = open_notes(tmp_path / str(licence), licence=licence)
        [record] = run(kind, Expert(), "change-1")
        assert (record.metadata.source, record.metadata.licence) == ("notes", licence)


def test_trivial_policies_score_nothing_and_the_expert_everything(tmp_path: Path) -> None:
    kind = open_notes(
        tmp_path / "notes", faults=["busy", "malformed", "truncated", "rate_limited"], share=1.0, wait=True
    )
    tasks = kind.tasks("train", 12, 3)
    kinds = {kind.name: kind}
    records = list(run_tasks(Expert(), tasks, label="expert", kinds=kinds))
    assert [record.outcome for record in records] == [Outcome.SUCCESS] * 12
    injected = [pair for record in records for pair in (record.metadata.model_extra or {})["injected"]]
    assert len({name for _, name in injected}) >= 2 and len(injected) == 12
    assert any(action.command == "wait" for record in records for action in record.action_sequence)
    for name in ("say-done", "echo", "same-tool", "say-no-tool"):
        for record in run_tasks(policy_named(name), tasks, label=name, kinds=kinds, max_steps=4):
            assert (record.metadata.model_extra or {})["score"] == 0, (name, record.metadata.model_extra)


def test_what_only_reads_is_struck_by_faults_that_let_the_call_be_made(tmp_path: Path) -> None:
    kind = open_notes(tmp_path / "notes", faults=["malformed", "truncated"], share=1.0)
    struck = [fault.tool for task in kind.tasks("train", 12, 1) for fault in task.faults]
    assert set(struck) == {"find_note"}


def test_an_episode_starts_its_server_once(tmp_path: Path) -> None:
    kind = open_notes(tmp_path / "notes")
    tasks = kind.tasks("train", 6, 1)
    for expected in (6 + 6, 6):  # the states that are expected are made once, and kept
        Notes.starts = 0
        list(run_tasks(Expert(), tasks, label="x", kinds={kind.name: kind}))
        assert Notes.starts == expected


def test_a_try_that_the_server_spoils_is_tried_once_more_and_then_no_record(tmp_path: Path) -> None:
    kind = open_notes(tmp_path / "notes")
    run(kind, Expert(), "add-1")
    Notes.crashes_left = 1
    [record] = run(kind, Expert(), "add-1")
    assert record.outcome is Outcome.SUCCESS
    spoilt: list[InvalidTry] = []

    def late(self: Notes, name: str, arguments: dict[str, Any]) -> Any:
        from benchmark.worlds.own.toolsets.toolset import ServersFault  # noqa: PLC0415

        raise ServersFault("late", "no answer")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Notes, "call", late)
        assert run(kind, Expert(), "add-1", invalid_tries=spoilt) == []
    assert [(each.task, each.reason) for each in spoilt] == [("add-1", "late")]


def test_a_call_that_crashes_a_fresh_server_again_is_the_models_failure_and_replays(tmp_path: Path) -> None:
    kind = open_notes(tmp_path / "notes")
    [record] = run(kind, calls(("add_note", {"title": "title 1", "text": "words 1"}), ("crash", {})), "add-1")
    assert record.outcome is Outcome.FAILURE and record.action_sequence[-1].error == CRASHED
    result = replay(record, {kind.name: kind})
    assert not isinstance(result, CannotReplay) and result.ok, result


def test_records_replay_and_say_what_has_changed(tmp_path: Path) -> None:
    kind = open_notes(tmp_path / "notes", faults=["busy"], share=1.0)
    [record] = run(kind, Expert(mistakes=1.0), "change-1")
    kinds = {kind.name: kind}
    result = replay(record, kinds)
    assert not isinstance(result, CannotReplay) and result.ok
    assert isinstance(replay(record), CannotReplay)
    changed = open_notes(tmp_path / "notes", faults=["busy"], share=1.0, tasks=TASKS[:4])
    told = replay(record, {changed.name: changed})
    assert isinstance(told, CannotReplay) and "has changed since: tasks" in told.reason


def test_an_answer_decides_where_nothing_may_change(tmp_path: Path) -> None:
    asked = {
        "id": "ask", "split": "test", "instruction": "Was steht in der Notiz 'other'?", "expects": "no_change",
        "says": ["stays"], "solution": [{"name": "find_note", "arguments": {"title": "other"}}],
    }  # fmt: skip
    kind = open_notes(tmp_path / "notes", tasks=[asked])
    assert score(kind, "ask", answer="It says: stays.")[0] is Outcome.SUCCESS
    assert score(kind, "ask", answer="It overstays.")[0] is Outcome.FAILURE
    assert score(kind, "ask", ("delete_note", {"id": 1}), answer="stays")[0] is not Outcome.SUCCESS
    [record] = run(kind, Expert(), "ask")
    assert record.outcome is Outcome.SUCCESS and record.metadata.answer == "stays."


@pytest.mark.parametrize(
    ("answer", "wanted", "held"),
    [
        ("모두 3개입니다", 3, True), ("there are 13", 3, False), ("3.5 EUR", 3, False), ("$1,628 in all", "1628", True),
        ("about 41.9", SaidNumber(number=42, tolerance=0.5), True), ("우유를 샀어요", "우유", True), ("Milky", "milk", False),
        ("call 0042", "0042", True), ("call 42", "0042", False), ("2012", 12, False), ("minus -5", 5, False),
    ],
)  # fmt: skip
def test_what_is_said_is_whole_words_and_whole_numbers(answer: str, wanted: Any, held: bool) -> None:
    assert says(answer, wanted) is held


def test_checks_are_goals_and_conditions(tmp_path: Path) -> None:
    find = {"call": "find_note", "arguments": {"title": "seed"}}
    checks = [
        {**find, "pointer": "/text", "contains": "changed"},
        {**find, "pointer": "/id", "equals": 1},
        {"call": "delete_note", "called": "never"},
        {"call": "find_note", "called": {"before": "change_note"}},
    ]
    kind = open_notes(tmp_path / "notes", tasks=[{**TASKS[3], "check": checks}])
    look, change = ("find_note", {"title": "seed"}), ("change_note", {"id": 1, "text": "changed 1"})
    assert score(kind, "change-1", look, change)[1] == 1
    outcome, share, why = score(kind, "change-1", change, look)
    assert outcome is Outcome.PARTIAL and share < 1 and "find_note was not called before change_note" in why
    assert score(kind, "change-1", look)[1] == 0  # what held before is no goal


def test_check_py_judges_in_a_process_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    write_notes(folder)
    (folder / "check.py").write_text(
        "import os, sys\nprint('noise')\n\ndef check(task, run):\n"
        "    found = run.call('find_note', title='seed')\n"
        "    pass\n"
        "    try:\n        import benchmark\n        return 0.5\n    except ImportError:\n        pass\n"
        "    return [('changed', 'changed' in found, found), ('said', run.answer == 'Done.', '')]\n",
        encoding="utf-8",
    )
    kind = open_notes(folder)
    assert kind.judged_by == "check.py" and kind.identity["judged_by"] == "check.py"
    assert score(kind, "change-1", ("change_note", {"id": 1, "text": "changed 1"}))[:2] == (Outcome.SUCCESS, 1.0)
    outcome, _, why = score(kind, "change-1", answer="")
    assert outcome is not Outcome.SUCCESS and "changed: " in why


def test_the_parts_of_the_training_tasks_never_meet_and_a_seed_only_orders(tmp_path: Path) -> None:
    kind = open_notes(tmp_path / "notes")
    ids = {part: [row.id for row in kind.rows_of("train", part)] for part in ("record", "practice", "validation")}
    assert sorted(name for part in ids.values() for name in part) == sorted(
        row.id for row in kind.rows_of("train", None)
    )
    one, other = ([task.id for task in kind.tasks("train", len(ids["record"]), seed, part="record")] for seed in (1, 2))
    assert one != other and sorted(one) == sorted(other) == sorted(ids["record"])
    with pytest.raises(UserError, match=rf"has {len(ids['practice'])} tasks in its practice part"):
        kind.tasks("train", 13, 1, part="practice")


def test_states_are_compared_entry_by_entry() -> None:
    def entries(value: Any) -> Any:
        return state_to_entries(value, volatile=["/*/at"], ignore_case=True)

    before = [{"id": 1, "tags": ["a"], "at": 1}, {"id": 2, "tags": [], "at": 1}]
    expected = [{"id": 2, "tags": ["B"], "at": 5}, {"id": 1, "tags": ["a"], "at": 5}]
    assert compare_states(entries(before), entries(expected), entries([*reversed(expected)])) == (1, [], [])
    goals, missing, damage = compare_states(entries(before), entries(expected), entries(before))
    assert (goals, len(missing), damage) == (1, 1, [])
    goals, missing, damage = compare_states(entries({"a": []}), entries({"a": ["x"]}), entries({"a": ["x", "y"]}))
    assert (goals, missing, len(damage)) == (1, [], 1)


def test_commands_take_a_folder_once_it_is_trusted(
    run_app: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_notes(tmp_path / "notes")
    code, _, told = run_app("benchmark", "record", "--worlds", "./notes", "--out", "r.jsonl")
    assert code == 2 and "server.py" in told and "--trust" in told and not Path("r.jsonl").exists()
    code, said, _ = run_app("benchmark", "record", "--worlds", "./notes", "--trust", "--out", "r.jsonl")
    records = [json.loads(line) for line in Path("r.jsonl").read_text(encoding="utf-8").splitlines()]
    assert code == 0 and len(records) == len(open_notes(tmp_path / "notes").rows_of("train", "record")), said
    assert records[0]["environment"]["details"]["identity"].keys() == {"world", "tools", "tasks", "checks"}
    code, said, _ = run_app("benchmark", "replay", "r.jsonl", "--worlds", "./notes")
    assert code == 0 and f"as recorded  {len(records)}" in " ".join(said.split(" ")).replace("   ", "  "), said
    run_options = ("run", "--policy", "expert", "--worlds", "./notes", "--split", "test", "--out", "runs")
    assert run_app("benchmark", *run_options)[0] == 0
    kpis = json.loads(Path("runs/expert/kpis.json").read_text(encoding="utf-8"))
    assert kpis["kpis"]["success_rate"]["value"] == 1 and kpis["identity"]["notes"]["tasks"] and kpis["count"] == 12
    write_notes(tmp_path / "notes", tasks=TASKS[:6])
    code, _, told = run_app("benchmark", *run_options, "--trust")
    assert code == 2 and "world 'notes' changed (tasks)" in told
    code, _, told = run_app(
        "benchmark", "record", "--worlds", "./notes", "--trust", "--count", "99", "--out", "x.jsonl"
    )
    assert code == 2 and "count: 99" in told


def test_a_task_without_solution_has_no_expert_and_that_is_said_at_once(
    run_app: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bare = [
        {"id": f"t{number}", "split": "train", "instruction": "x", "check": [{"call": "list_notes", "contains": "y"}]}
        for number in range(9)
    ]
    write_notes(tmp_path / "notes", tasks=bare)
    code, _, told = run_app("benchmark", "record", "--worlds", "./notes", "--trust", "--out", "r.jsonl")
    assert code == 2 and "no expert" in told and "--keep solved" in told
    code, _, told = run_app(
        "benchmark", "run", "--policy", "say-done", "--split", "train", "--advise", "--worlds", "./notes", "--out", "r"
    )
    assert code == 2 and "--advise: there is no expert" in told


def test_runs_before_and_after_a_change_are_not_compared_and_invalid_ones_neither(
    run_app: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_notes(tmp_path / "notes")
    options = ("--worlds", "./notes", "--trust", "--split", "test")
    assert run_app("benchmark", "run", "--policy", "expert", *options, "--out", "a")[0] == 0
    assert run_app("benchmark", "run", "--policy", "say-done", *options, "--out", "a")[0] == 0
    assert run_app("benchmark", "compare", "a/say-done", "a/expert", "--worlds", "./notes")[0] == 0
    write_notes(tmp_path / "notes", volatile=["/list_notes/*/at", "/x"])
    code, _, told = run_app("benchmark", "compare", "a/say-done", "a/expert", "--worlds", "./notes")
    assert code == 2 and "has changed since the run in a/say-done (world)" in told
    assert run_app("benchmark", "run", "--policy", "expert", *options, "--out", "b")[0] == 0
    for command in (("compare",), ("leaderboard", "--out", "page")):
        code, _, told = run_app("benchmark", command[0], "a/say-done", "b/expert", *command[1:])
        assert code == 2 and "world 'notes' changed between them (world)" in told
    Notes.crashes_left = 4  # two tries of the same first task: one of twelve is spoilt
    code, said, _ = run_app("benchmark", "run", "--policy", "expert", *options, "--limit", "6", "--out", "c")
    kpis = json.loads(Path("c/expert/kpis.json").read_text(encoding="utf-8"))
    if kpis["invalid"]:
        assert code == 1 and kpis["invalid"] == {"crashed": len(kpis["invalid"])} and "invalid" in said
        code, _, told = run_app("benchmark", "compare", "c/expert", "c/expert")
        assert code == 2 and "are invalid" in told


def test_the_loop_takes_folders_apart_by_use_and_its_rounds_cut_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_notes(tmp_path / "notes")
    training = {"config": "x.yaml"}

    def stages(tasks: str = "--worlds './notes'", **counts: int) -> list[str]:
        config = LoopConfig.model_validate(
            {
                "out": "out", "model": "m", "rounds": 2, "tasks": tasks, "sft": training, "dpo": training,
                "record": {"count": counts.get("record", 4), "seed": 7}, "practice": {"count": 1, "seed": 11},
                "validation": {"count": 2, "seed": 31}, "test": {"count": 5, "seed": 1},
            }
        )  # fmt: skip
        loop = Loop(config, tmp_path / "loop.yaml")
        loop.require_enough_tasks()
        return [" ".join(stage.command) for stage in loop.stages()]

    commands = stages()
    records = [each for each in commands if "benchmark record" in each]
    assert "--split train --count 4 --seed 7 --worlds" in records[0] and "--seed 7 --skip 4" in records[1]
    assert any("--split practice --count 1 --seed 11 --skip 1" in each for each in commands)
    assert any("--split validation --count 2 --seed 31 --worlds" in each for each in commands)
    with pytest.raises(UserError, match=r"record.count: 9 in 2 rounds, but ./notes has 8 training tasks"):
        stages(record=9)
    with pytest.raises(UserError, match=r"record.count: 4 in 2 rounds, but ./notes has 0 training tasks"):
        stages(tasks="--worlds ./notes --asking --injections")


def test_a_window_is_compared_with_what_the_solution_leads_to(tmp_path: Path) -> None:
    kind = open_notes(
        tmp_path / "notes", faults=["busy", "malformed", "truncated", "rate_limited", "timed_out"], share=0.8, wait=True
    )
    tasks = kind.tasks("train", 12, 1)
    assert sum(bool(task.faults) for task in tasks) > 4
    for record in run_tasks(Expert(), tasks, label="x", kinds={"notes": kind}):
        starts = Notes.starts
        told = solution_to_messages(kind, next(task for task in tasks if task.id == record.metadata.group))
        assert Notes.starts == starts, "the twin's results are kept"
        made = actions_to_messages(record.metadata, record.action_sequence)
        assert [message.role for message in told] == [message.role for message in made]
        for mine, its in zip(told, made, strict=True):
            assert [call.name for call in mine.tool_calls] == [call.name for call in its.tool_calls]
            assert abs(len(mine.content or "") - len(its.content or "")) < 30, (mine, its)

    class Small:
        """A model whose window holds so many characters."""

        window: int | None = 900

        def fits(self, messages: Sequence[Message], tools: Sequence[Any]) -> bool:
            return sum(len(message.content or "") for message in messages) <= (self.window or 0)

    long = {"id": "long", "split": "test", "instruction": "Read it.", "solution": [
        {"name": "list_notes"}, {"name": "add_note", "arguments": {"title": "new", "text": "n"}}]}  # fmt: skip
    state = json.loads((tmp_path / "notes" / "state" / "notes.json").read_text(encoding="utf-8"))
    big = write_notes(tmp_path / "big", tasks=[long, TASKS[0]])
    (big / "state" / "notes.json").write_text(json.dumps([{**state[0], "text": "x" * 2000}]), encoding="utf-8")
    other = open_kind(read_folder(big))
    beyond: list[Try] = []
    tries = [Try(task) for task in other.tasks("test", 2, 1)]
    fitting = list(within_window(cast(Model, Small()), tries, beyond, {"notes": other}))
    assert [attempt.task.id for attempt in beyond] == ["long"] and len(fitting) == 1
