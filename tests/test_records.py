"""The strict reader of the public record, and the JSON Schema that is generated from it."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import UserError
from core.json_lines import BadLine, json_to_object
from data.records import (
    KOREAN_CATEGORIES,
    KOREAN_OUTCOMES,
    Trajectory,
    read_trajectories,
    scan_trajectories,
    trajectory_json_schema,
    write_trajectories,
)
from support.paths import SAMPLES
from support.record_samples import action, record, with_action, with_metadata

SCHEMA_FILE = Path(__file__).parents[1] / "docs" / "trajectory.schema.json"


def scan_text(tmp_path: Path, text: str | bytes) -> list[Trajectory | BadLine]:
    path = tmp_path / "records.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(scan_trajectories(path))


def only_reason(tmp_path: Path, row: dict[str, Any] | str) -> str:
    (line,) = scan_text(tmp_path, row if isinstance(row, str) else json.dumps(row))
    assert isinstance(line, BadLine)
    assert line.line == 1 and line.path.endswith("records.jsonl")
    assert "\n" not in line.reason
    return line.reason


BROKEN_VALUES = [
    (record(id=0), "field 'id': Input should be a valid string, got 0"),
    (record(id=""), "field 'id'"),
    (record(tool=None), "field 'tool' is missing"),
    (record(catgory="web"), "field 'catgory' is unknown. Did you mean 'category'?"),
    (record(category="fil-ops"), "Did you mean 'file-ops'?"),
    (record(category=3), "field 'category'"),
    (record(outcome="sucess"), "Did you mean 'success'?"),
    (record(outcome="실페"), "Did you mean '실패'?"),
    (record(category="파일작엄"), "Did you mean '파일작업'?"),
    (record(outcome=True), "field 'outcome'"),
    (record(timestamp="2026-11-21T09:00:00"), "timezone"),
    (record(timestamp="2026-11-21"), "timezone"),
    (record(timestamp=1763715600), "ISO 8601 text"),
    (record(timestamp="1763715600"), "ISO 8601 text"),
    (record(environment="files"), "field 'environment'"),
    (
        record(environment={"name": "files", "versoin": "1"}),
        "'environment.versoin' is unknown. Did you mean 'version'?",
    ),
    (record(action_sequence={}), "field 'action_sequence'"),
    (with_action(comand="x"), "'action_sequence.0.comand' is unknown. Did you mean 'command'?"),
    (with_action(input=5), "field 'action_sequence.0.input': Input should be a valid dictionary, got 5"),
    (with_action(error=False), "field 'action_sequence.0.error'"),
    (with_action(start_time=0), "field 'action_sequence.0.start_time'"),
    (with_action(end_time="09:00"), "field 'action_sequence.0.end_time'"),
    (with_action(turn="0"), "field 'action_sequence.0.turn'"),
    (with_action(turn=True), "field 'action_sequence.0.turn'"),
    (with_action(turn=-1), "field 'action_sequence.0.turn'"),
    (with_action(weight="1"), "field 'action_sequence.0.weight'"),
    (with_action(weight=1.5), "less than or equal to 1"),
    (with_metadata(instruction=["x"]), "field 'metadata.instruction'"),
    (with_metadata(tools=[{"type": "retrieval"}]), "field 'metadata.tools.0.type'"),
    (with_metadata(tools=[{"function": {"name": "f", "parmeters": {}}}]), "Did you mean 'parameters'?"),
    (with_metadata(advice=[{"step": 0}]), "field 'metadata.advice.0.command' is missing"),
    (with_metadata(advice=[{"step": "0", "command": None}]), "field 'metadata.advice.0.step'"),
]


@pytest.mark.parametrize(("row", "reason"), BROKEN_VALUES, ids=lambda value: value if isinstance(value, str) else "")
def test_wrong_value_is_named_and_never_coerced(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    assert reason in only_reason(tmp_path, row)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"id": "cut off\n', "not JSON: Unterminated string starting at column 8"),
        (json.dumps(record())[:-1], "not JSON: Expecting ',' delimiter at column"),
        ('{"id": NaN}', "NaN is not JSON"),
        ('{"id": -Infinity}', "-Infinity is not JSON"),
        ('{"metadata": {"x": 1e999}}', "1e999 is too large"),
        ('{"id": "a", "id": "b"}', "key 'id' stands twice"),
        ('{"metadata": {"x": {"y": 1, "y": 1}}}', "key 'y' stands twice"),
        ('{"id": "\\ud800"}', "surrogate"),
        ("[" * 100_000, "nested deeper than 150 levels"),
        ("[1]", "a record is a JSON object, got list"),
        ("null", "got NoneType"),
    ],
)
def test_broken_json_is_one_bad_line(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in only_reason(tmp_path, text)


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    (line,) = scan_text(tmp_path, "한국".encode("cp949"))
    assert isinstance(line, BadLine) and "not UTF-8: byte 0" in line.reason


def test_line_numbers_count_blank_lines_and_good_lines_go_on(tmp_path: Path) -> None:
    text = "\n".join(["", json.dumps(record(id="a")), "", "{", json.dumps(record(id="b")), json.dumps(record(id="a"))])
    first, broken, second, twice = scan_text(tmp_path, text)
    assert isinstance(first, Trajectory) and isinstance(second, Trajectory)
    assert isinstance(broken, BadLine) and broken.line == 4
    assert isinstance(twice, BadLine) and twice.line == 6 and "stands already on line 2" in twice.reason


def test_read_trajectories_stops_at_the_first_bad_line() -> None:
    with pytest.raises(UserError, match=r"trajectories_broken\.jsonl:2: not JSON"):
        list(read_trajectories(SAMPLES / "trajectories_broken.jsonl"))


def test_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.jsonl: cannot be read: No such file"):
        list(scan_trajectories(tmp_path / "nowhere.jsonl"))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(("korean", "english"), [*KOREAN_CATEGORIES.items(), ("파일 작업", "file-ops")])
def test_korean_category_is_read_and_written_in_english(form: Any, korean: str, english: str) -> None:
    read = Trajectory.model_validate(record(category=unicodedata.normalize(form, korean)))
    assert json.loads(read.to_json())["category"] == english


@pytest.mark.parametrize(("korean", "english"), [*KOREAN_OUTCOMES.items(), ("부분 성공", "partial")])
def test_korean_outcome_is_read_and_written_in_english(korean: str, english: str) -> None:
    assert json.loads(Trajectory.model_validate(record(outcome=korean)).to_json())["outcome"] == english


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(arguments=st.dictionaries(st.text(), JSON_VALUES, max_size=4), output=JSON_VALUES)
def test_free_form_values_come_back_as_written(arguments: dict[str, Any], output: Any) -> None:
    row = record(action_sequence=[action("f", arguments, output=output)], metadata={"extra": output})
    read = Trajectory.model_validate(json_to_object(json.dumps(row)))
    again = json_to_object(read.to_json())
    # Compared as text, because 1 == 1.0 == True in Python.
    assert json.dumps(again["action_sequence"][0]["input"]) == json.dumps(arguments)
    assert json.dumps(again["action_sequence"][0]["output"]) == json.dumps(output)
    assert json.dumps(again["metadata"]["extra"]) == json.dumps(output)
    assert Trajectory.model_validate(again) == read


def test_write_and_read_samples_back(tmp_path: Path) -> None:
    records = list(read_trajectories(SAMPLES / "trajectories.jsonl"))
    assert write_trajectories(tmp_path / "new" / "copy.jsonl", records) == 3
    assert list(read_trajectories(tmp_path / "new" / "copy.jsonl")) == records
    assert "한국어로" in (tmp_path / "new" / "copy.jsonl").read_text(encoding="utf-8")


def test_schema_file_is_the_generated_one() -> None:
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == trajectory_json_schema(), (
        "run: python -m data schema --out docs/trajectory.schema.json"
    )
    assert set(trajectory_json_schema()["properties"]) == {
        "id", "category", "timestamp", "environment", "tool", "action_sequence", "outcome", "metadata",
    }  # fmt: skip


@pytest.fixture(scope="module")
def schema_validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_json_schema_accepts_the_samples(schema_validator: jsonschema.Draft202012Validator) -> None:
    for line in (SAMPLES / "trajectories.jsonl").read_text(encoding="utf-8").splitlines():
        schema_validator.validate(json.loads(line))
        schema_validator.validate(json.loads(Trajectory.model_validate(json.loads(line)).to_json()))


@pytest.mark.parametrize("row", [row for row, _ in BROKEN_VALUES], ids=[reason for _, reason in BROKEN_VALUES])
def test_json_schema_rejects_what_the_reader_rejects(
    schema_validator: jsonschema.Draft202012Validator, row: dict[str, Any]
) -> None:
    assert not schema_validator.is_valid(row)
