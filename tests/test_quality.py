"""The quality score: the formula of docs/quality.md, computed here a second time, and that leaving things out never pays."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data.contribution.quality import POINTS, checklist, error_type, label_signature, sane_steps, score_record
from data.records import Trajectory
from support.commands import Run
from support.paths import ROOT, SAMPLES
from support.record_samples import TOOLS, action, record

FULL_METADATA = {
    "instruction": "What does a.txt say?",
    "tools": TOOLS,
    "answer": "It says hello.",
    "language": "en",
    "source": "tests",
    "licence": "CC-BY-4.0",
    "group": "a.txt",
    "reproduction": "seed 7",
}


def full(**changes: Any) -> dict[str, Any]:
    """A record that states everything and could not score better."""
    steps = [
        action("list_files", {}, output=["b"], text="First the list."),
        action("read_file", {"path": "a"}, error="not found: a", reasoning="It may be here."),
        action("read_file", {"path": "b"}, output="hello", text="Then the file."),
    ]
    environment = {"name": "files", "version": "1", "details": {"os": "linux"}}
    return record(**{"environment": environment, "metadata": FULL_METADATA, "action_sequence": steps, **changes})


def score(row: dict[str, Any], **options: Any) -> float:
    """The score of a row, 0 if it is no record."""
    try:
        return score_record(Trajectory.model_validate(row), **options).score
    except ValidationError:
        return 0.0


def score_by_hand(row: dict[str, Any], *, confirmed: bool, reproduced: float | None) -> float:
    """docs/quality.md once more, from plain JSON and without a line of data/contribution/quality.py."""
    actions, meta, environment = row["action_sequence"], row["metadata"], row["environment"]
    success = row["outcome"] in ("success", "성공")
    cause = meta.get("failure_cause") or meta.get("why")
    stated = [
        True,
        actions,
        True,
        environment.get("version"),
        environment.get("details"),
        success or cause,
        actions and all("error" in step and step["error"] != "" for step in actions),
        *(meta.get(key) for key in ("instruction", "tools")),
        "answer" in meta,
        *(meta.get(key) for key in ("language", "source", "licence", "group")),
        meta.get("reproduction") or meta.get("task"),
    ]
    completeness = 2 * sum(map(bool, stated))

    labels = 0.0
    if actions and success:
        if "error" in actions[-1] and actions[-1]["error"] is None:
            labels = 15
        elif actions[-1].get("error") is not None and meta.get("answer"):
            labels = 7.5
    elif actions and (any(step.get("error") for step in actions) or cause):
        labels = 15
    labels += 5 if confirmed and meta.get("group") and actions and all("error" in step for step in actions) else 0

    sane = 0
    for index, step in enumerate(actions):

        def may_repeat(other: dict[str, Any], step: dict[str, Any] = step) -> bool:
            same_call = (other["command"], other["input"]) == (step["command"], step["input"])
            unknown_or_same = [
                key not in other or key not in step or other[key] == step[key] for key in ("output", "error")
            ]
            return same_call and all(unknown_or_same)

        loop = (index and may_repeat(actions[index - 1])) or sum(map(may_repeat, actions[:index])) >= 2
        followed = step.get("error") is None or index + 1 < len(actions) or meta.get("answer")
        sane += bool("output" in step and "error" in step and followed and not loop)
    steps = 20 * sane / len(actions) if actions else 0

    informativeness = 0.0
    if actions:
        calls = len({json.dumps([step["command"], step["input"]], sort_keys=True) for step in actions})
        results = sum(bool(s.get("error")) or s.get("output") not in (None, "", [], {}) for s in actions)
        words = sum(bool(step.get("text") or step.get("reasoning")) for step in actions)
        informativeness = (
            5 * min(calls, 3) / 3 + (4 * results + 3 * words) / len(actions) + 3 * bool(meta.get("answer"))
        )

    earned, possible = completeness + labels + steps + informativeness, 85
    if reproduced is not None:
        earned, possible = earned + 15 * reproduced, 100
    return round(100 * earned / possible, 1)


def test_a_record_that_states_everything_scores_100() -> None:
    quality = score_record(Trajectory.model_validate(full()), is_confirmed=True, reproduced=1.0)
    assert (quality.score, quality.parts, quality.missing) == (100.0, POINTS, [])
    assert sum(POINTS.values()) == 100
    assert score(full(), is_confirmed=True) == 100.0
    assert score(full()) == round(100 * 80 / 85, 1)


ERRORS = st.sampled_from([None, "", "not found: a", "denied"])
OUTPUTS = st.sampled_from([None, "", "hello", ["b"], {}])
STEPS = st.lists(
    st.fixed_dictionaries(
        {
            "command": st.sampled_from(["read_file", "list_files"]),
            "input": st.sampled_from([{}, {"path": "a"}, "ls"]),
            "start_time": st.just("2026-11-21T09:00:00Z"),
            "end_time": st.just("2026-11-21T09:00:01Z"),
        },
        optional={
            "output": OUTPUTS,
            "error": ERRORS,
            "text": st.sampled_from([None, "", "so"]),
            "reasoning": st.sampled_from([None, "hm"]),
            "turn": st.sampled_from([None, 1]),
        },
    ),
    max_size=6,
)
WORDS = st.sampled_from([None, "", "words"])
METADATA = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("instruction", "answer", "language", "source", "licence", "failure_cause", "why"), WORDS),
        "group": st.sampled_from([None, "g1", "g2"]),
        "tools": st.sampled_from([[], TOOLS]),
        "reproduction": WORDS,
        "task": st.sampled_from([{}, {"seed": 7}]),
    },
)
RECORDS = st.fixed_dictionaries(
    {
        "id": st.just("a"),
        "category": st.sampled_from(["file-ops", "파일작업"]),
        "timestamp": st.just("2026-11-21T09:00:00Z"),
        "environment": st.fixed_dictionaries(
            {"name": st.just("files")}, optional={"version": WORDS, "details": st.sampled_from([{}, {"os": "x"}])}
        ),
        "tool": st.just("files"),
        "action_sequence": STEPS,
        "outcome": st.sampled_from(["success", "failure", "partial", "성공"]),
        "metadata": METADATA,
    }
)


@given(row=RECORDS, confirmed=st.booleans(), reproduced=st.none() | st.floats(0, 1))
def test_the_score_is_the_formula_of_the_page(row: dict[str, Any], confirmed: bool, reproduced: float | None) -> None:
    by_hand = score_by_hand(row, confirmed=confirmed, reproduced=reproduced)
    assert score(row, is_confirmed=confirmed, reproduced=reproduced) == by_hand


def places_of_keys(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every key of a JSON value, at any depth."""
    if isinstance(value, dict):
        return [p for key, inner in value.items() for p in [(*place, key), *places_of_keys(inner, (*place, key))]]
    if isinstance(value, list):
        return [p for index, inner in enumerate(value) for p in places_of_keys(inner, (*place, index))]
    return []


def without(row: dict[str, Any], place: tuple[Any, ...]) -> dict[str, Any]:
    changed: Any = copy.deepcopy(row)
    inner = changed
    for part in place[:-1]:
        inner = inner[part]
    del inner[place[-1]]
    return changed


@settings(max_examples=150, deadline=None)
@given(row=RECORDS | st.just(full()), other=RECORDS, reproduced=st.sampled_from([None, 0.0, 0.5, 1.0]))
def test_removing_any_field_never_raises_any_score(
    row: dict[str, Any], other: dict[str, Any], reproduced: float | None
) -> None:
    """Neither that of the record nor that of another one, whose labels it may confirm. Inside a call's arguments, an output
    or a tool definition there are values, not fields.
    """

    def scores(*rows: dict[str, Any]) -> list[float]:
        signatures = []
        for one in rows:
            try:
                signatures.append(label_signature(Trajectory.model_validate(one)))
            except ValidationError:
                signatures.append(None)
        return [
            score(one, is_confirmed=signatures.count(mine) > 1, reproduced=reproduced)
            for one, mine in zip(rows, signatures, strict=True)
        ]

    before = scores(row, other)
    for place in places_of_keys(row):
        if {"input", "output", "tools"} & set(place[:-1]):
            continue
        after = scores(without(row, place), other)
        assert after[0] <= before[0] and after[1] <= before[1], place


REQUIRED = [
    (), ("environment",), ("action_sequence", 0),
]  # fmt: skip


def test_a_record_without_a_required_field_scores_nothing() -> None:
    for outer in REQUIRED:
        inner: Any = full()
        for part in outer:
            inner = inner[part]
        for key in ("id", "category", "timestamp", "environment", "tool", "action_sequence", "outcome", "name", "command",
                    "input", "start_time", "end_time"):  # fmt: skip
            if key in inner:
                assert score(without(full(), (*outer, key))) == 0.0


def test_loops_and_abandoned_errors_cost_points() -> None:
    look, busy = action("read_file", {"path": "a"}, output="x"), action("read_file", {"path": "a"}, error="busy")
    other = action("list_files", {}, output=["a"])

    def sane(*steps: dict[str, Any], answer: str | None = None) -> list[bool]:
        return sane_steps(Trajectory.model_validate(full(action_sequence=list(steps), metadata={"answer": answer})))

    assert sane(look, look, look) == [True, False, False]
    assert sane(look, other, look) == [True, True, True]  # looking again is no loop,
    assert sane(look, other, look, other, look) == [True, True, True, True, False]  # twice again is one
    assert sane(busy, look) == [True, True]  # the same call, another result
    assert sane(other, busy) == [True, False]
    assert sane(other, busy, answer="It cannot be read.") == [True, True]


def test_error_types_and_what_records_of_a_scenario_share() -> None:
    assert [error_type(text) for text in ("Not found: a.txt", "HTTP 404: x", "busy", "")] == [
        "not found",
        "http 404",
        "busy",
        "",
    ]
    same = full(id="b", action_sequence=[*full()["action_sequence"][:2], action("x", {}, error="NOT FOUND: c")])
    signatures = [
        label_signature(Trajectory.model_validate(row))
        for row in (full(), same, full(outcome="failure"), full(tool="x"), full(metadata={}))
    ]
    assert signatures[0] == signatures[1] and len(set(signatures)) == 4 and signatures[-1] is None


def test_the_outcome_is_held_against_the_final_action() -> None:
    def labels(outcome: str, last_error: str | None, **metadata: Any) -> float:
        row = full(outcome=outcome, action_sequence=[action("f", {}, error=last_error)], metadata=metadata)
        return score_record(Trajectory.model_validate(row)).parts["labels"]

    assert labels("success", None) == 15
    assert labels("success", "denied") == 0
    assert labels("success", "denied", answer="It is not allowed.") == 7.5
    assert labels("failure", "denied") == 15
    assert labels("failure", None) == 0
    assert labels("failure", None, failure_cause="wrong file") == 15


def test_checklist_has_fifteen_entries_that_the_page_names() -> None:
    names = checklist(Trajectory.model_validate(full()))
    page = (ROOT / "docs" / "quality.md").read_text(encoding="utf-8")
    assert len(names) == 15 and all(f"| {name} |" in page for name in names)
    assert all(f"| {name} | {points:g} |" in page for name, points in POINTS.items())


# --- the command ---


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_score_writes_a_row_for_each_line_and_a_picture(run: Run, tmp_path: Path) -> None:
    rows = [full(id="a"), full(id="b", outcome="failure"), full(id="c", category="웹상호작용")]
    source = write_rows(tmp_path / "in.jsonl", rows)
    out_file = tmp_path / "new" / "scores.jsonl"
    code, out, _ = run("score", source, SAMPLES / "trajectories_broken.jsonl", "--out", out_file)
    scores = read_rows(out_file)
    assert code == 0 and len(scores) == 3 + 13
    assert [row["id"] for row in scores[:3]] == ["a", "b", "c"] and scores[2]["category"] == "web"
    assert scores[4]["score"] == 0 and scores[4]["fault"].startswith("E201 ") and scores[4]["line"] == 2
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["web", "file-ops", "bad"]
    assert (tmp_path / "new" / "scores.png").read_bytes().startswith(b"\x89PNG")


def test_labels_are_confirmed_by_another_record_of_the_whole_file(run: Run, tmp_path: Path) -> None:
    rows = [full(id="a"), full(id="b"), full(id="c", outcome="partial"), full(id="d", tool="other")]
    run(
        "score", write_rows(tmp_path / "in.jsonl", rows), "--out", tmp_path / "s.jsonl", "--picture", tmp_path / "s.svg"
    )
    assert [row["parts"]["labels"] for row in read_rows(tmp_path / "s.jsonl")] == [20, 20, 15, 15]
    assert "<svg" in (tmp_path / "s.svg").read_text(encoding="utf-8")


def test_a_replay_report_gives_and_takes(run: Run, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", [full(id=name) for name in ("same", "differs", "absent")])
    report = [
        {"id": "same", "ok": True, "steps": 3, "first_difference": None},
        {"id": "differs", "ok": False, "steps": 3,
         "first_difference": {"step": 1, "field": "error", "recorded": "not found: a", "replayed": None}},
    ]  # fmt: skip
    replay = write_rows(tmp_path / "replay.jsonl", report)
    run("score", source, "--replay", replay, "--out", tmp_path / "s.jsonl")
    assert [row["parts"]["reproducibility"] for row in read_rows(tmp_path / "s.jsonl")] == [15, 5, 0]
    write_rows(replay, [{"id": "same", "okay": True, "steps": 3}])
    code, _, err = run("score", source, "--replay", replay, "--out", tmp_path / "s.jsonl")
    assert code == 2 and "replay.jsonl:1: field 'okay' is unknown. Did you mean 'ok'?" in err


def test_random_records_of_a_file_recomputed_by_hand(run: Run, tmp_path: Path) -> None:
    chance = random.Random(3)
    rows = []
    for number in range(60):
        row = full(id=str(number), outcome=chance.choice(["success", "failure"]))
        row["metadata"] = {k: v for k, v in FULL_METADATA.items() if chance.random() < 0.8} | {
            "group": f"g{number % 20}"
        }
        row["action_sequence"] = [
            {key: value for key, value in step.items() if key not in ("output", "error") or chance.random() < 0.9}
            for step in chance.choices(row["action_sequence"], k=chance.randrange(5))
        ]
        rows.append(row)
    run("score", write_rows(tmp_path / "in.jsonl", rows), "--out", tmp_path / "s.jsonl")
    labels = [label_signature(Trajectory.model_validate(row)) for row in rows]
    by_hand = [
        score_by_hand(row, confirmed=mine is not None and labels.count(mine) > 1, reproduced=None)
        for row, mine in zip(rows, labels, strict=True)
    ]
    assert [row["score"] for row in read_rows(tmp_path / "s.jsonl")] == by_hand
    assert len(set(by_hand)) > 20


def test_score_mistakes_and_the_threshold(run: Run, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", [full()])
    assert run("score", source, "--out", tmp_path / "s.jsonl", "--fail-under", 90)[0] == 0
    code, out, _ = run("score", source, "--out", tmp_path / "s.jsonl", "--fail-under", 95)
    assert code == 1 and "1 records score below 95" in out
    for arguments, message in [
        ((source, "--out", source), "is one of the inputs"),
        ((source, "--out", tmp_path / "s.jsonl", "--picture", tmp_path / "s.gif"), "a picture ends in .png"),
        ((tmp_path / "none.jsonl", "--out", tmp_path / "s.jsonl"), "No such file"),
    ]:
        code, _, err = run("score", *arguments)
        assert code == 2 and message in err and "Traceback" not in err
