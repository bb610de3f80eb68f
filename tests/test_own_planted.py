"""Tasks planted to pass without work, in every way to judge: each is refused, and the good ones beside them are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.worlds.own.check_tasks import Checked, check_task
from benchmark.worlds.own.toolsets.child import Row, Run
from benchmark.worlds.own.toolsets.toolset import Place
from benchmark.worlds.world import ToolResult
from support.own_tools import Notes, open_notes, play_notes, write_notes


@pytest.fixture(autouse=True)
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    play_notes(monkeypatch, tmp_path / "home")
    monkeypatch.setattr("benchmark.worlds.own.world.run_check", check_here)


def check_here(place: Place, task: dict[str, Any], *, answer: str, actions: list[dict[str, Any]], call: Any) -> Any:
    """What check.py says, without a process of its own."""
    names: dict[str, Any] = {}
    exec((place.folder / "check.py").read_text(encoding="utf-8"), names)

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        result = call(request["ask"]["name"], request["ask"]["arguments"])
        return {"output": result.output, "error": result.error}

    said = names["check"](Row(task), Run(ask, answer, actions))
    return [("check", said, "")] if isinstance(said, bool) else float(said)


ADD = {"name": "add_note", "arguments": {"title": "new", "text": "words"}}
CHANGE = {"name": "change_note", "arguments": {"id": 1, "text": "new words"}}
FIND = {"name": "find_note", "arguments": {"title": "other"}}
LIST = {"name": "list_notes"}


def checked(tmp_path: Path, code: str = "", *, vary: bool = False, **task: Any) -> Checked:
    world = task.pop("world", {})
    folder = write_notes(tmp_path / "notes")
    if code:
        lines = "\n".join(f"    {line}" for line in code.splitlines())
        (folder / "check.py").write_text(f"def check(task, run):\n{lines}\n", encoding="utf-8")
    row = {"id": "t", "split": "train", "instruction": "Do it.", **task}
    kind = open_notes(folder, tasks=[row], **world)
    return check_task(kind, kind.rows["t"], vary=vary)


def question(*says: Any, **more: Any) -> dict[str, Any]:
    return {"expects": "no_change", "says": list(says), "instruction": "What does 'other' say?", **more}


@pytest.mark.parametrize(
    ("task", "goal"),
    [
        # the state
        ({"solution": [LIST, FIND]}, "the solution passes"),
        ({"solution": [{"name": "change_note", "arguments": {"id": 1, "text": "old words"}}]}, "the solution passes"),
        ({"setup": [CHANGE], "solution": [CHANGE]}, "the solution passes"),
        ({"solution": [CHANGE], "world": {"volatile": ["/list_notes"]}}, "the solution passes"),
        (
            {"solution": [{"name": "change_note", "arguments": {"id": 1, "text": "OLD WORDS"}}],
             "world": {"ignore_case": True, "volatile": ["/list_notes/*/at"]}},
            "the solution passes",
        ),
        # check
        ({"solution": [LIST], "check": [{"call": "list_notes", "contains": "seed"}]}, "the solution passes"),
        ({"solution": [LIST], "check": [{"call": "list_notes", "matches": ""}]}, "the solution passes"),
        ({"solution": [LIST], "check": [{"call": "list_notes", "pointer": "/0"}]}, "the solution passes"),
        ({"check": [{"call": "list_notes", "called": "once"}]}, "there is something to reach"),
        ({"check": [{"call": "list_notes", "contains": "seed"}]}, "there is something to reach"),
        ({"solution": [ADD], "check": [{"call": "add_note", "called": "never"}]}, "the solution passes"),
        (
            {"solution": [CHANGE], "check": [{"call": "add_note", "arguments": ADD["arguments"], "contains": "ok"}]},
            "judging changes nothing",
        ),
        # says
        (question("note"), "all that was read"),
        (question("stays", solution=[CHANGE]), "the solution passes"),
        (question("other"), "what must be said does not stand in the instruction"),
        (question({"number": 5, "tolerance": 100}), "a number that must be said is not any number"),
    ],
)  # fmt: skip
def test_a_planted_task_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: dict[str, Any], goal: str
) -> None:
    if task.get("says") == ["note"]:  # the one tool that only reads says one thing
        call = Notes.call
        monkeypatch.setattr(
            Notes,
            "call",
            lambda self, name, given: ToolResult("a note") if name == "list_notes" else call(self, name, given),
        )
        task = {**task, "world": {"per_tool": {"find_note": {"read_only": False}}}}
    found = checked(tmp_path, **task)
    assert any(each.goal.startswith(goal) for each in found.refusals), found.refusals
    assert all(refusal.task == "t" and refusal.seen for refusal in found.refusals)


@pytest.mark.parametrize(
    ("check", "goal"),
    [
        ("return True", "an empty run does not pass"),
        ("return 1.0", "an empty run does not pass"),
        ("return bool(run.actions)", "reading with every tool does not pass"),
        ("return any(a.name == 'find_note' for a in run.actions)", "reading with every tool does not pass"),
        ("return len(run.answer or '') > 4", "the instruction said back as the answer does not pass"),
        ("return 'stays' in (run.answer or '')", "all that was read said back as the answer does not pass"),
        ("return any(a.name == 'change_note' for a in run.actions)", "some argument or the order matters"),
        ("return sum(a.name == 'change_note' for a in run.actions) > 0", "some argument or the order matters"),
        ("return False", "the solution passes"),
        ("return 0.5", "the solution passes"),
    ],
)
def test_a_check_that_says_yes_too_soon_is_found_in_any_task(tmp_path: Path, check: str, goal: str) -> None:
    found = checked(tmp_path, check, solution=[FIND, CHANGE])
    assert goal in [refusal.goal for refusal in found.refusals], found.refusals


def test_a_good_check_is_not_refused_for_a_last_look_or_for_what_it_leaves_open(tmp_path: Path) -> None:
    check = "import json\nreturn json.loads(run.call('list_notes'))[0]['text'] == 'new words'"
    assert checked(tmp_path, check, solution=[CHANGE, LIST]).refusals == []
    found = checked(tmp_path, check, solution=[FIND, CHANGE], vary=True)
    assert found.refusals == [] and "change_note.text matters" in found.matters
    asks = "return 'stays' in (run.answer or '')"
    assert checked(tmp_path, asks, **question("stays", solution=[FIND])).refusals == []


def test_a_reward_that_is_always_whole_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewards: list[float] = [1.0]
    monkeypatch.setattr(Notes, "reward", lambda self: rewards[0])
    kind = open_notes(
        tmp_path / "notes", tasks=[{"id": "t", "split": "train", "instruction": "Do.", "solution": [ADD]}]
    )
    kind.judged_by = "get_reward"
    goals = [refusal.goal for refusal in check_task(kind, kind.rows["t"]).refusals]
    assert "an empty run does not pass" in goals and "reading with every tool does not pass" in goals
    rewards[0] = 0.9
    assert [refusal.goal for refusal in check_task(kind, kind.rows["t"]).refusals] == ["the solution passes"]


def test_a_tool_that_only_reads_by_its_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Notes.call

    def forgetful(self: Notes, name: str, arguments: dict[str, Any]) -> ToolResult:
        if name == "find_note":
            notes = json.loads(self.file.read_text(encoding="utf-8"))
            self.file.write_text(json.dumps(notes[:1]), encoding="utf-8")
        return call(self, name, arguments)

    monkeypatch.setattr(Notes, "call", forgetful)
    found = checked(tmp_path, solution=[ADD])
    [refusal] = [each for each in found.refusals if each.goal == "what only reads changes nothing"]
    assert refusal.seen.startswith("find_note changes /list_notes") and found.volatile == []


@pytest.mark.parametrize("says", ["stays", "STAYS"])
def test_a_question_whose_answer_stands_in_a_result_is_good_and_the_result_alone_is_not_the_answer(
    tmp_path: Path, says: str
) -> None:
    found = checked(tmp_path, **question(says, solution=[FIND]))
    assert found.refusals == []
    kind = open_notes(tmp_path / "again", tasks=[{"id": "q", "split": "train", **question(says, solution=[FIND])}])
    task = kind.task("q")
    assert task is not None
    with kind.open(task) as world:
        result = world.call("find_note", {"title": "other"}).output
        for answer, score in ((f"It says {says}.", 1.0), (str(result), 0.0), (f"Here: {result}", 0.0)):
            world.answer(answer)
            assert world.verdict().score == score, answer
