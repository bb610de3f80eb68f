"""Tools that are never quite the same: what names the difference, what a replay compares; and answers that only repeat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.agent.episodes import FROZEN_START, run_tasks
from benchmark.agent.policies import Expert
from benchmark.runs.replay import CannotReplay, replay
from benchmark.worlds.own.said_back import without_results
from benchmark.worlds.own.varying import Sameness, differing, propose_volatile, value_to_structure
from benchmark.worlds.world import ToolResult
from data.records import Trajectory
from support.commands import Run
from support.own_tools import Notes, open_notes, play_notes


def test_differences_are_named_by_pointers_with_stars() -> None:
    one = {"list": [{"id": 1, "at": 3}, {"id": 2, "at": 4}], "by": {"a1": {"n": 1}, "b2": {"n": 2}}, "가/나": 1}
    other = {"list": [{"id": 2, "at": 5}, {"id": 1, "at": 6}], "by": {"a1": {"n": 1}, "b2": {"n": 3}}, "가/나": 2}
    assert set(differing(one, other, by_name=True)) == {"/list/*/at", "/by/*/n", "/가~1나"}
    assert set(differing(True, 1)) == {""} and not list(differing(one, one))


def test_ids_that_differ_are_proposed_and_what_has_no_pointer_is_none() -> None:
    def state(new: str, at: int) -> Any:
        return {"notes": [{"id": "a", "title": "x"}, {"id": new, "title": "y"}], "log": [at] * at}

    assert propose_volatile([(state("b", 1), state("c", 2))], []) == ["/log", "/notes/*/id"]
    assert propose_volatile([(state("b", 1), state("c", 2))], ["/log"]) == ["/notes/*/id"]
    assert propose_volatile([("text 1", "text 2")], []) is None


def test_structure_is_keys_types_and_lengths() -> None:
    one = {"id": "8f2", "rows": [1, 2], "by": {"k1": None}, "text": "a"}
    assert value_to_structure(one) == value_to_structure({"id": "77", "rows": [3, 4], "by": {"k9": None}, "text": "나"})
    for other in ({**one, "rows": [1]}, {**one, "id": 5}, {**one, "more": 1}, {**one, "text": True}):
        assert value_to_structure(one) != value_to_structure(other)
    assert value_to_structure(json.dumps(one)) == value_to_structure(one)


def test_an_id_that_is_another_one_now_is_used_in_later_calls() -> None:
    same = Sameness(structure_only=True)
    same.learn('[{"id": "aa11", "n": 1}]', '[{"id": "bb22", "n": 1}]')
    same.learn("made note-8c2f01 at 1", "made note-77aa10 at 2")
    same.learn({"count": 4, "more": 4}, {"count": 5, "more": 6})
    assert same.translated({"ids": ["aa11", "note-8c2f01"], "n": 1, "count": 4}) == {
        "ids": ["bb22", "note-77aa10"],
        "n": 1,
        "count": 4,  # it stood for two things, so it stays
    }
    assert Sameness().translated({"id": "aa11"}) == {"id": "aa11"}


@pytest.fixture
def tickets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Notes whose ids and results are others in every start."""
    play_notes(monkeypatch, tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    call = Notes.call

    def varying(self: Notes, name: str, arguments: dict[str, Any]) -> ToolResult:
        shift = 1000 * Notes.starts
        given = {key: value - shift if key == "id" else value for key, value in arguments.items()}
        result = call(self, name, given)
        if result.error is not None:
            return result
        if name == "find_note":
            note = json.loads(str(result.output))
            return ToolResult(json.dumps({**note, "id": note["id"] + shift}))
        return ToolResult(f"done after {shift} steps") if name == "change_note" else result

    monkeypatch.setattr(Notes, "call", varying)


def recorded(kind: Any) -> Trajectory:
    task = kind.task("change-1")
    [record] = run_tasks(Expert(), [task], label="x", kinds={kind.name: kind}, start=FROZEN_START)
    assert record.outcome == "success"
    return record


@pytest.mark.usefixtures("tickets")
def test_a_record_of_tools_that_are_not_deterministic_replays_by_structure(run_app: Run, tmp_path: Path) -> None:
    exact = open_notes(tmp_path / "exact", name="exact")
    result = replay(recorded(exact), {"exact": exact})
    assert not isinstance(result, CannotReplay) and not result.ok and not result.structure_only
    kind = open_notes(tmp_path / "notes", deterministic=False)
    record = recorded(kind)
    result = replay(record, {"notes": kind})
    assert not isinstance(result, CannotReplay) and result.ok and result.structure_only, result
    # another key, another outcome, an error that is none: still seen
    steps = list(record.action_sequence)
    other_key = steps[0].model_copy(update={"output": str(steps[0].output).replace('"text"', '"body"')})
    no_error = steps[1].model_copy(update={"error": "no", "output": None})
    for place, step in ((0, other_key), (1, no_error)):
        changed = record.model_copy(update={"action_sequence": (*steps[:place], step, *steps[place + 1 :])})
        result = replay(changed, {"notes": kind})
        assert not isinstance(result, CannotReplay) and not result.ok and result.first_difference is not None
        assert result.first_difference.step == place
    (tmp_path / "records.jsonl").write_text(record.to_json() + "\n", encoding="utf-8")
    code, said, err = run_app("benchmark", "replay", "records.jsonl", "--worlds", "./notes", "--trust")
    assert code == 0 and "1 compared by structure only" in said, said + err


@pytest.mark.usefixtures("tickets")
def test_what_is_volatile_in_results_is_not_compared_in_a_replay(tmp_path: Path) -> None:
    volatile = ["/list_notes/*/at", "/find_note/id", "/change_note"]
    kind = open_notes(tmp_path / "notes", volatile=volatile)
    record = recorded(kind)
    result = replay(record, {"notes": kind})
    assert not isinstance(result, CannotReplay) and result.ok and not result.structure_only, result
    steps = list(record.action_sequence)
    steps[0] = steps[0].model_copy(update={"output": str(steps[0].output).replace("old words", "other words")})
    result = replay(record.model_copy(update={"action_sequence": tuple(steps)}), {"notes": kind})
    assert not isinstance(result, CannotReplay) and not result.ok


NOTES = '[{"id": 1, "title": "사과", "due": "2026-03-02"}, {"id": 2, "title": "배", "due": "2026-04-01"}]'


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("It is due 2026-03-02.", True),
        (f"The list is {NOTES}, so it is due 2026-03-02.", True),
        (NOTES, False),
        (json.dumps(json.loads(NOTES), indent=2, ensure_ascii=False), False),  # spaces and lines do not matter
        ("1, 사과, 2026-03-02; 2, 배, 2026-04-01", False),  # nor do keys
        (f"42\n{NOTES}", False),
        ("2026-03-02", True),
    ],
)
def test_a_result_that_is_said_back_whole_is_no_answer(answer: str, kept: bool) -> None:
    alone = without_results(answer, [NOTES, "42"], lambda value: value == "2026-03-02")
    assert ("2026-03-02" in alone) is kept


def test_a_result_that_holds_only_what_is_asked_may_be_said() -> None:
    asked = {"a", "b"}.__contains__
    assert without_results("a, b", [["a", "b"]], asked) == "a, b"
    assert without_results("17", ["17", "42"], {"17"}.__contains__) == "17"
    assert without_results("17\n42", ["17", "42"], {"17"}.__contains__).strip() == ""
    document = "First line.\nThe code is 4711.\n"
    assert "4711" not in without_results(f"It says: {document}", [document], {"4711"}.__contains__)
