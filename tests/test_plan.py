"""`python -m data plan`: what a service needs, what is there, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.config import read_config
from data.contribution.coverage import PlanSpec, need_to_cells
from support.commands import Run
from support.paths import ROOT
from support.record_samples import record

SPEC: dict[str, Any] = {
    "service": "고객지원 데스크",
    "tiers": {1: "one call", "hard": "five calls or more"},
    "needs": [
        {
            "why": "everyday requests",
            "category": ["파일작업", "web"],
            "tier": 1,
            "language": ["en", "ko"],
            "outcome": "성공",
            "records": 2,
            "test_records": 1,
        },
        {
            "why": "failures",
            "category": "file-ops",
            "tier": "hard",
            "language": "ko",
            "outcome": ["failure", "partial"],
            "records": 1,
        },
    ],
    "labelling": {"by": "final-state", "success": "all goals hold", "failure": "none holds"},
    "test_set": {"holds": "tasks that training never saw"},
}


def made(tier: object, language: str | None, **changes: Any) -> dict[str, Any]:
    extra = {"tier": tier} if not isinstance(tier, dict) else {"task": tier}
    return record(metadata={"language": language, "group": str(changes.get("id")), **extra}, **changes)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_spec(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump({**SPEC, **changes}, allow_unicode=True), encoding="utf-8")
    return path


def test_cells_are_counted_and_the_rest_has_reasons(run: Run, tmp_path: Path) -> None:
    rows = [
        made(1, "en", id="1"),
        made("1", "en-GB", id="2", category="파일작업", outcome="성공"),
        made({"tier": 1}, "ko", id="3"),
        made("hard", "ko", id="4", outcome="failure"),
        made(1, "en", id="5", outcome="partial"),
        made(None, "en", id="6"),
        made(1, None, id="7"),
        made(True, "en", id="8"),
    ]
    train = write_rows(tmp_path / "train.jsonl", rows)
    test = write_rows(tmp_path / "test.jsonl", [made(1, "ko", id="3"), made(1, "ko", id="9")])
    spec = write_spec(tmp_path / "spec.yaml")
    code, out, _ = run(
        "plan", spec, train, "--test", test, "--out", tmp_path / "p.json", "--picture", tmp_path / "p.png"
    )
    assert code == 0 and out.startswith("고객지원 데스크\n")
    result = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    cells = {
        (cell["category"], cell["tier"], cell["language"], cell["outcome"]): (
            cell["need"], cell["have"], cell["missing"], cell["test_need"], cell["test_have"], cell["test_missing"]
        )
        for cell in result["cells"]
    }  # fmt: skip
    assert cells == {
        ("file-ops", "1", "en", "success"): (2, 2, 0, 1, 0, 1),
        ("file-ops", "1", "ko", "success"): (2, 1, 1, 1, 2, 0),
        ("web", "1", "en", "success"): (2, 0, 2, 1, 0, 1),
        ("web", "1", "ko", "success"): (2, 0, 2, 1, 0, 1),
        ("file-ops", "hard", "ko", "failure"): (1, 1, 0, 0, 0, 0),
        ("file-ops", "hard", "ko", "partial"): (1, 0, 1, 0, 0, 0),
    }
    assert result["left_out"]["training"] == {
        "metadata.tier is missing": 2,
        "metadata.language is missing": 1,
        "no need asks for file-ops x 1 x en x partial": 1,
    }
    assert sum(cell["have"] for cell in result["cells"]) + 4 == len(rows)
    assert result["groups_in_both"] == ["3"] and "1 groups stand in training and in test" in out
    assert "2 of 6 cells are covered; 6 training and 3 test records are missing" in out
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert run("plan", spec, train, "--check")[0] == 1


def test_a_covered_plan_passes(run: Run, tmp_path: Path) -> None:
    need = {**SPEC["needs"][1], "outcome": "success"}
    spec = write_spec(tmp_path / "spec.yaml", needs=[need])
    train = write_rows(tmp_path / "train.jsonl", [made("hard", "ko", id="1")])
    code, out, _ = run("plan", spec, train, "--check")
    assert code == 0 and "1 of 1 cells are covered; 0 training and 0 test records are missing" in out


def need(**changes: Any) -> dict[str, Any]:
    return {"needs": [{**SPEC["needs"][0], **changes}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (need(record=3), "field 'needs.0.record' is unknown. Did you mean 'records'?"),
        (need(category="fil-ops"), "Did you mean 'file-ops'?"),
        (need(outcome=[]), "needs.0.outcome"),
        (need(records=0), "needs.0.records"),
        (need(records="4"), "needs.0.records"),
        (need(language="korean"), "needs.0.language"),
        (need(tier=2), "needs.0.tier: 2 is none of the tiers 1, hard"),
        ({"needs": [SPEC["needs"][0]] * 2}, "needs.1 and needs.0 both ask for file-ops x 1 x en x success"),
        ({"labelling": {**SPEC["labelling"], "by": "vibes"}}, "labelling.by"),
        ({"test_set": {"holds": "x", "shares_groups_with_training": True}}, "test_set.shares_groups_with_training"),
        ({"servise": "x"}, "field 'servise' is unknown. Did you mean 'service'?"),
    ],
)
def test_mistakes_in_a_specification_are_named(run: Run, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    train = write_rows(tmp_path / "train.jsonl", [made(1, "en", id="1")])
    code, _, err = run("plan", write_spec(tmp_path / "spec.yaml", **changes), train)
    assert code == 2 and err.startswith(f"error: {tmp_path / 'spec.yaml'}: ") and message in err
    assert "Traceback" not in err and len(err.splitlines()) == 1


def test_mistakes_on_the_command_line(run: Run, tmp_path: Path) -> None:
    spec, train = write_spec(tmp_path / "s.yaml"), write_rows(tmp_path / "t.jsonl", [made(1, "en", id="1")])
    (tmp_path / "empty.jsonl").write_text("")
    for arguments, message in [
        ((tmp_path / "none.yaml", train), "none.yaml: cannot be read"),
        ((spec, tmp_path / "none.jsonl"), "none.jsonl: cannot be read"),
        ((spec, tmp_path / "empty.jsonl"), "holds no record"),
        ((spec, train, "--picture", "plan.gif"), "a picture ends in"),
    ]:
        code, _, err = run("plan", *arguments)
        assert code == 2 and message in err and "Traceback" not in err


def test_the_example_names_every_key() -> None:
    path = ROOT / "configs" / "data" / "support-desk.plan.yaml"
    spec = read_config(path, PlanSpec)
    assert sum(1 for need in spec.needs for _ in need_to_cells(need)) == 26
    text = path.read_text(encoding="utf-8")
    for model in (PlanSpec, *(type(part) for part in (spec.needs[0], spec.labelling, spec.test_set))):
        assert all(f"{name}:" in text for name in model.model_fields)
