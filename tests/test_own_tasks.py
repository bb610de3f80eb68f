"""`benchmark tasks check` and `make`: which tasks are refused, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.worlds.own.check_tasks import Checked, check_task
from benchmark.worlds.own.check_together import check_together
from benchmark.worlds.world import ToolResult
from support.commands import Run
from support.own_tools import TASKS, Notes, open_notes, play_notes, write_notes


@pytest.fixture(autouse=True)
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    play_notes(monkeypatch, tmp_path / "home")
    monkeypatch.chdir(tmp_path)


def checked(tmp_path: Path, *, vary: bool = False, world: dict[str, Any] | None = None, **changes: Any) -> Checked:
    task = {"id": "t", "split": "train", "instruction": "Do it.", **changes}
    kind = open_notes(tmp_path / "notes", tasks=[task], **(world or {}))
    return check_task(kind, kind.rows["t"], vary=vary)


ADD = {"name": "add_note", "arguments": {"title": "new", "text": "words"}}
CHANGE = {"name": "change_note", "arguments": {"id": 1, "text": "new words"}}
BACK = {"name": "change_note", "arguments": {"id": 1, "text": "old words"}}


def test_good_tasks_pass_in_two_starts(tmp_path: Path) -> None:
    kind = open_notes(tmp_path / "notes")
    Notes.starts = 0
    for row in kind.folder.rows:
        assert check_task(kind, row).refusals == []
    assert Notes.starts == 2 * len(kind.folder.rows)


@pytest.mark.parametrize(
    ("changes", "goal", "seen"),
    [
        ({"solution": [{"name": "list_notes"}]}, "the solution passes", "changes nothing"),
        ({"solution": [CHANGE, BACK]}, "the solution passes", "changes nothing"),
        ({"solution": [{"name": "add_nte"}]}, "its tools are there", "'add_nte'"),
        ({"solution": [{"name": "delete_note", "arguments": {"id": 9}}]}, "setup and solution run", "there is no note 9"),
        ({"setup": [{"name": "delete_note", "arguments": {"id": 9}}], "solution": [ADD]}, "setup and solution run", "setup.0"),
        ({"solution": [ADD], "check": [{"call": "list_notes", "contains": "zebra"}]}, "the solution passes", "zebra"),
        ({"check": [{"call": "list_notes", "contains": "seed"}]}, "", ""),
        (
            {"expects": "no_change", "says": ["do it"], "solution": [{"name": "list_notes"}]},
            "what must be said does not stand in the instruction",
            "do it",
        ),
        (
            {"expects": "no_change", "says": ["stays"], "solution": [ADD]},
            "the solution passes",
            "expected nothing",
        ),
    ],
)  # fmt: skip
def test_bad_tasks_are_refused_with_goal_and_what_was_seen(
    tmp_path: Path, changes: dict[str, Any], goal: str, seen: str
) -> None:
    found = checked(tmp_path, **changes)
    if goal:
        assert any(each.goal.startswith(goal) and seen in each.seen for each in found.refusals), found.refusals


def test_a_check_py_that_always_holds_is_found(tmp_path: Path) -> None:
    write_notes(tmp_path / "notes")
    (tmp_path / "notes" / "check.py").write_text("def check(task, run):\n    return True\n", encoding="utf-8")
    goals = [each.goal for each in checked(tmp_path, solution=[ADD]).refusals]
    assert "an empty run does not pass" in goals and "reading with every tool does not pass" in goals
    (tmp_path / "notes" / "check.py").write_text(
        "def check(task, run):\n    return task['instruction'] in (run.answer or '')\n", encoding="utf-8"
    )
    goals = [each.goal for each in checked(tmp_path, solution=[ADD]).refusals]
    assert "the instruction said back as the answer does not pass" in goals


def test_what_differs_from_run_to_run_is_proposed_as_volatile(tmp_path: Path) -> None:
    found = checked(tmp_path, solution=[ADD], world={"volatile": []})
    assert found.volatile == ["/list_notes/*/at"] and found.refusals == []


def test_what_differs_is_ready_to_paste_and_the_tasks_are_checked_without_it(run_app: Run, tmp_path: Path) -> None:
    write_notes(tmp_path / "notes", volatile=[])
    code, said, err = run_app("benchmark", "tasks", "check", "notes", "--trust", "--workers", "1")
    assert code == 1 and "0 refused" in said, said + err
    line = said[said.index("volatile: [") :].split("\n")[0]
    assert line == 'volatile: ["/list_notes/*/at"]'
    write_notes(tmp_path / "notes", **yaml.safe_load(line))
    code, said, _ = run_app("benchmark", "tasks", "check", "notes", "--trust", "--workers", "1")
    assert code == 0 and "volatile" not in said


def play_varying(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Have `change(tool, result, start)` alter the results of notes; `start` counts the servers."""
    call = Notes.call

    def varying(self: Notes, name: str, arguments: dict[str, Any]) -> ToolResult:
        result = call(self, name, arguments)
        return result if result.error is not None else ToolResult(change(name, result.output, Notes.starts))

    monkeypatch.setattr(Notes, "call", varying)


def test_results_that_differ_are_proposed_or_else_the_world_is_not_deterministic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        play_varying(
            patch, lambda tool, result, n: {"done": True, "at": n, "log": [n]} if tool == "add_note" else result
        )
        found = checked(tmp_path, solution=[ADD])
        assert (found.volatile_results, found.not_deterministic) == (["/add_note/at", "/add_note/log/*"], "")
    play_varying(monkeypatch, lambda tool, result, n: f"made at {n}" if tool == "add_note" else result)
    found = checked(tmp_path, solution=[ADD])
    assert found.refusals == [] and found.not_deterministic.startswith('add_note gives "made at ')
    assert checked(tmp_path, solution=[ADD], world={"deterministic": False}).not_deterministic == ""


def test_a_state_that_is_never_the_same_is_refused_with_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_varying(monkeypatch, lambda tool, result, n: f"{n}: {result}" if tool == "list_notes" else result)
    [refusal] = checked(tmp_path, solution=[ADD]).refusals
    assert refusal.goal == "the state after the solution is the same each time" and "/list_notes" in refusal.seen


def test_which_arguments_and_which_order_matter_is_told(tmp_path: Path) -> None:
    found = checked(tmp_path, vary=True, solution=[{"name": "find_note", "arguments": {"title": "seed"}}, CHANGE])
    assert found.refusals == []
    assert found.matters == [
        "find_note.title does not matter",
        "change_note.id matters",
        "change_note.text matters",
        "find_note before change_note does not matter",
    ]


def test_values_of_both_splits_and_too_many_questions_are_refused(tmp_path: Path) -> None:
    both = {**TASKS[0], "id": "other", "split": "train"}
    kind = open_notes(tmp_path / "a", tasks=[TASKS[0], both])
    assert {each.seen for each in check_together(kind)} == {
        "'title 0' stands in other, too",
        "'words 0' stands in other, too",
    }
    plain = {**TASKS[0], "solution": [{"name": "delete_note", "arguments": {"id": 1}}], "shared": []}
    [refusal] = check_together(open_notes(tmp_path / "d", tasks=[plain, {**plain, "id": "other", "split": "train"}]))
    assert refusal.goal == "no task stands in both splits" and "other" in refusal.seen
    assert (
        check_together(open_notes(tmp_path / "b", tasks=[{**TASKS[0], "shared": ["title 0", "words 0"]}, both])) == []
    )
    question = {"id": "q", "split": "test", "instruction": "?", "expects": "no_change", "says": ["seed"]}
    [refusal] = check_together(open_notes(tmp_path / "c", tasks=[TASKS[1], TASKS[2], question]))
    assert "1 of 3" in refusal.seen


def test_the_command_names_task_goal_and_what_was_seen_and_exits_1(run_app: Run, tmp_path: Path) -> None:
    write_notes(tmp_path / "notes")
    code, said, err = run_app("benchmark", "tasks", "check", "notes", "--trust", "--workers", "1")
    assert code == 0 and "24 tasks of notes" in said and "0 refused" in said, said + err
    write_notes(tmp_path / "notes", tasks=[*TASKS, {**TASKS[0], "id": "bad", "solution": [{"name": "list_notes"}]}])
    code, said, _ = run_app(
        "benchmark", "tasks", "check", "notes", "--trust", "--workers", "1", "--out", "report.jsonl"
    )
    assert code == 1 and "bad: refused: the solution passes" in said
    rows = [json.loads(line) for line in Path("report.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 25 and rows[-1]["refusals"][0]["task"] == "bad"


def test_pools_are_read_from_read_only_calls(run_app: Run, tmp_path: Path) -> None:
    write_notes(tmp_path / "notes", tasks=[])
    families = {
        "tasks": {"train": 1, "test": 1},
        "pools": {"note": {"call": {"name": "list_notes"}, "pointer": "/*"}},
        "families": [
            {
                "name": "change", "values": {"note": "note"}, "en": ["Empty '{note.title}'."],
                "solution": [{"name": "change_note", "arguments": {"id": "{note.id}", "text": ""}}],
            }
        ],
    }  # fmt: skip
    (tmp_path / "notes" / "families.yaml").write_text(yaml.safe_dump(families), encoding="utf-8")
    code, said, err = run_app("benchmark", "tasks", "make", "notes", "--trust")
    pools = json.loads(Path("notes/pools.json").read_text(encoding="utf-8"))
    assert [note["title"] for note in pools["note"]] == ["seed", "other"]
    assert code == 0 or "has no value for the split" in err, said + err  # two values may lie in one split
    families["pools"]["note"]["call"]["name"] = "delete_note"
    (tmp_path / "notes" / "families.yaml").write_text(yaml.safe_dump(families), encoding="utf-8")
    code, _, err = run_app("benchmark", "tasks", "make", "notes", "--trust")
    assert code == 2 and "read-only" in err


def test_tasks_of_other_projects_become_tasks_and_what_does_not_is_counted(run_app: Run, tmp_path: Path) -> None:
    write_notes(tmp_path / "notes", tasks=[])
    change = {"action_id": "0_0", "name": "change_note", "arguments": {"id": 1, "text": "new"}, "info": None}
    look = {"name": "find_note", "arguments": {"title": "seed"}}
    scenario = {
        "instructions": {
            "reason_for_call": "Change it.",
            "known_info": "It is note 1.",
            "task_instructions": "Be terse.",
        }
    }

    def tau2(number: str, actions: list[Any], says: list[str]) -> dict[str, Any]:
        criteria = {"actions": actions, "communicate_info": says, "nl_assertions": ["x"]}
        return {"id": number, "user_scenario": scenario, "initial_state": None, "evaluation_criteria": criteria}

    tasks = [tau2(number, [look, change], ["7"]) for number in ("0", "3", "4", "5")]
    tasks[1:1] = [tau2("1", [look], ["old words"]), tau2("2", [], []), tau2("6", [look], ["old words"])]
    Path("tau2.json").write_text(json.dumps(tasks), encoding="utf-8")
    code, said, err = run_app("benchmark", "tasks", "import", "notes", "tau2.json", "--from", "tau2", "--split", "test")
    assert code == 0 and "5 tasks (train 0, test 5), 2 left out" in said, said + err
    assert "left out 1: an answer alone decides it, and a fifth of the tasks is such already" in said
    rows = [json.loads(line) for line in Path("notes/tasks.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows[0]["instruction"] == "Change it.\n\nIt is note 1.\n\nBe terse."
    assert [call["name"] for call in rows[0]["solution"]] == ["find_note", "change_note"] and "says" not in rows[0]
    asked = [row for row in rows if row.get("expects") == "no_change"]
    assert len(asked) == 1 and asked[0]["says"] == ["old words"]
    kind = open_notes(tmp_path / "other", tasks=rows)
    assert all(not check_task(kind, row).refusals for row in kind.folder.rows)

    Path("split_tasks.json").write_text(
        json.dumps({"train": ["0", "3"], "test": ["4"], "base": ["0"]}), encoding="utf-8"
    )
    assert run_app("benchmark", "tasks", "import", "split", "tau2.json", "--from", "tau2")[0] == 0
    splits = {row["id"]: row["split"] for row in map(json.loads, Path("split/tasks.jsonl").read_text().splitlines())}
    assert splits["tau2-0"] == splits["tau2-3"] == "train" and splits["tau2-4"] == "test"

    gym = {"id": 5, "responses_create_params": {"input": [{"role": "user", "content": "메모를 바꿔."}]}}
    gym |= {"ground_truth": [{"name": "change_note", "arguments": json.dumps(change["arguments"])}]}
    Path("gym.jsonl").write_text(json.dumps(gym) + "\n", encoding="utf-8")
    assert run_app("benchmark", "tasks", "import", "notes", "gym.jsonl", "--from", "nemo-gym")[0] == 0
    Path("inspect.jsonl").write_text(
        json.dumps({"input": "What does 'seed' say?", "target": "old words"}), encoding="utf-8"
    )
    assert run_app("benchmark", "tasks", "import", "notes", "inspect.jsonl", "--from", "inspect")[0] == 0
    rows = [json.loads(line) for line in Path("notes/tasks.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows[5]["solution"] == [{"name": "change_note", "arguments": {"id": 1, "text": "new"}}]
    assert rows[6]["says"] == ["old words"] and len(rows) == 7
    code, _, err = run_app("benchmark", "tasks", "import", "notes", "gym.jsonl", "--from", "harbor")
    assert code == 2 and "Docker" in err
