"""Recorded trajectories: their shares, the same bytes from any number of processes, a replay that finds what was changed."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmark.__main__ import app
from benchmark.agent.episodes import FROZEN_START, Episode, Policy, Turn, Unreadable, run_tasks
from benchmark.agent.policies import Echo, Expert, SameTool
from benchmark.runs.record import RecordKind, Scripted, kinds_of
from benchmark.runs.replay import CannotReplay, replay
from benchmark.worlds.family import MAX_NUMBER
from benchmark.worlds.kinds import WORLDS, make_tasks
from benchmark.worlds.sandbox.sandbox import check_isolation
from core.errors import UserError
from data.chats import Message, ToolCall
from data.contribution.quality import ReplayDifference, read_replays
from data.records import Outcome, Trajectory, read_trajectories


def worlds_here() -> list[str]:
    """All worlds; without the one that runs code where nothing can be isolated."""
    try:
        check_isolation()
    except UserError:
        return [name for name in WORLDS if name != "code"]
    return list(WORLDS)


HERE = worlds_here()
RECORD = ("record", "--seed", 21, "--worlds", ",".join(HERE))
SAMPLES = Path(__file__).parent / "samples" / "trajectories.jsonl"
Row = dict[str, Any]


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of all worlds and kinds."""
    out = tmp_path_factory.mktemp("recorded") / "train.jsonl"
    code, text = invoke(*RECORD, "--count", 100, "--freeze-clock", "--out", out)
    assert code == 0 and "100 trajectories" in text
    return out


@pytest.fixture(scope="module")
def records(recorded: Path) -> list[Trajectory]:
    return list(read_trajectories(recorded))


# Recording.


@given(
    count=st.integers(1, 3000),
    shares=st.tuples(*[st.floats(0, 1 / 3)] * 3),
    seed=st.integers(0, 10**6),
    stretch=st.tuples(st.integers(0, 2000), st.integers(1, 1000)),
)
def test_any_stretch_of_a_recording_holds_the_shares(
    count: int, shares: tuple[float, float, float], seed: int, stretch: tuple[int, int]
) -> None:
    wanted: dict[RecordKind, float] = dict(zip(("recovery", "partial", "failure"), shares, strict=True))
    kinds = kinds_of(count, wanted, seed)
    assert len(kinds) == count
    assert kinds == kinds_of(count + 7, wanted, seed)[:count]
    part = kinds[stretch[0] :][: stretch[1]]
    for kind, share in wanted.items():
        # Multiples of the golden section keep within a few of the share, where chance would be off by tens.
        assert abs(part.count(kind) - share * len(part)) < 6


def test_shares_of_more_than_everything_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"recovery 0.5, partial 0.3, failure 0.3 are more than 1"):
        invoke("record", "--mistakes", 0.5, "--partials", 0.3, "--failures", 0.3, "--out", tmp_path / "x.jsonl")
    assert not list(tmp_path.iterdir())


def test_a_recording_holds_what_was_asked_for(records: list[Trajectory]) -> None:
    extras = [record.metadata.model_extra or {} for record in records]
    assert set(Counter(record.category for record in records).values()) == {100 // len(HERE)}
    outcomes = Counter(record.outcome for record in records)
    assert abs(outcomes[Outcome.PARTIAL] - 10) <= 2 and abs(outcomes[Outcome.FAILURE] - 15) <= 2
    assert 15 < sum(record.metadata.language == "ko" for record in records) < 60
    own_errors = [
        record
        for record, extra in zip(records, extras, strict=True)
        if sum(action.error is not None for action in record.action_sequence) > len(extra["injected"])
    ]
    recovered = sum(record.outcome is Outcome.SUCCESS for record in own_errors)
    assert 20 <= recovered <= 27, "a quarter errs and recovers"
    assert sum(bool(extra["injected"]) for extra in extras) > 20
    for record, extra in zip(records, extras, strict=True):
        assert (extra["policy"] == "expert") == (record.outcome is Outcome.SUCCESS)
        assert set(extra["replay"]) == {"python", "tooltune", "sums"} and record.environment.version
        assert extra["task"]["seed"] == 21 and extra["task"]["world"] == record.environment.name


def test_records_hold_no_trace_of_the_machine(recorded: Path) -> None:
    text = recorded.read_text(encoding="utf-8")
    assert tempfile.gettempdir() + "/" not in text and str(Path.home()) + "/" not in text
    assert "0x" not in text


def test_the_same_seed_gives_the_same_bytes_for_any_number_of_processes(recorded: Path, tmp_path: Path) -> None:
    for workers in (2, 3):
        out = tmp_path / f"{workers}.jsonl"
        invoke(*RECORD, "--count", 100, "--freeze-clock", "--workers", workers, "--out", out)
        assert out.read_bytes() == recorded.read_bytes()


def test_only_the_clock_differs_where_it_is_not_frozen(recorded: Path, tmp_path: Path) -> None:
    out = tmp_path / "now.jsonl"
    invoke(*RECORD, "--count", 40, "--out", out)

    def without_clock(path: Path) -> list[Row]:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            for timed in (row, *row["action_sequence"]):
                for key in ("timestamp", "start_time", "end_time"):
                    timed.pop(key, None)
        return rows

    assert without_clock(out)[:40] == without_clock(recorded)[:40]
    assert out.read_bytes() not in recorded.read_bytes()


def test_a_recording_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("benchmark.runs.record.run_tasks", broken)
    with pytest.raises(OSError, match="no space"):
        invoke("record", "--count", 3, "--worlds", "files", "--out", tmp_path / "x.jsonl")
    assert not list(tmp_path.iterdir())


# Replay.


@pytest.mark.parametrize("workers", [1, 2])
def test_everything_recorded_replays(recorded: Path, records: list[Trajectory], tmp_path: Path, workers: int) -> None:
    report = tmp_path / "replay.jsonl"
    code, text = invoke("replay", recorded, "--out", report, "--workers", workers)
    assert code == 0, text
    assert "as recorded  100" in text and "different    0" in text
    rows = read_replays(report)  # as `python -m data score --replay` reads it
    assert list(rows) == [record.id for record in records]
    for record in records:
        assert rows[record.id].ok and rows[record.id].steps == len(record.action_sequence)
    first = json.loads(report.read_text(encoding="utf-8").splitlines()[0])
    assert set(first) == {"id", "ok", "steps", "first_difference"} and first["first_difference"] is None


class Mumbles(Scripted):
    """Says something unreadable first, then calls two tools at once, then answers."""

    def __init__(self) -> None:
        super().__init__({})

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        return [self._turn(episode) for episode in episodes]

    def _turn(self, episode: Episode) -> Turn:
        if episode.turns == 0:
            return Unreadable("<tool_call>{", "not JSON: 글자")
        if episode.turns == 1:
            names = [tool.function.name for tool in episode.task.tools[:2]]
            calls = tuple(ToolCall(id=name, name=name, arguments={"text": "x"}) for name in names)
            return Message(role="assistant", content="둘 다", tool_calls=calls)
        return Message(role="assistant", content="끝")


@pytest.mark.parametrize("policy", [Echo(), SameTool(), Mumbles()], ids=lambda policy: type(policy).__name__)
def test_what_other_policies_do_replays_too(policy: Policy) -> None:
    tasks = make_tasks(["files", "web", "other"], "test", 45, 5)
    for record in run_tasks(policy, tasks, label="x", max_steps=3, invalid="retry"):
        result = replay(Trajectory.model_validate_json(record.to_json()))
        assert not isinstance(result, CannotReplay) and result.ok, result
    if isinstance(policy, Mumbles):
        row = json.loads(record.to_json())
        row["action_sequence"][0]["error"] = "not JSON"
        result = replay(Trajectory.model_validate(row))
        assert not isinstance(result, CannotReplay) and result.first_difference is not None
        assert (result.first_difference.step, result.first_difference.field) == (0, "input")


def other(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool) or value is None:
        return "x"
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, list):
        return [*value, "x"]
    return {**value, "x": 1}


def change_output(row: Row, step: int) -> bool:
    action = row["action_sequence"][step]
    if action["error"] is not None:
        return False
    action["output"] = other(action["output"])
    return True


def change_error(row: Row, step: int) -> bool:
    action = row["action_sequence"][step]
    if action["error"] is None:
        return False
    action["error"] = other(action["error"])
    return True


def hide_error(row: Row, step: int) -> bool:
    action = row["action_sequence"][step]
    if action["error"] is None:
        return False
    action["error"], action["output"] = None, "ok"
    return True


def change_input(row: Row, step: int) -> bool:
    given = row["action_sequence"][step]["input"]
    if not given:
        return False
    name = sorted(given)[-1]
    given[name] = other(given[name])
    return True


def change_command(row: Row, step: int) -> bool:
    row["action_sequence"][step]["command"] += "_x"
    return True


def change_duration(row: Row, step: int) -> bool:
    action = row["action_sequence"][step]
    if action["start_time"] == action["end_time"]:
        return False
    action["end_time"] = action["start_time"]
    return True


def drop(row: Row, step: int) -> bool:
    del row["action_sequence"][step]
    return True


def add(row: Row, step: int) -> bool:
    row["action_sequence"].insert(step, dict(row["action_sequence"][step]))
    return True


def swap(row: Row, step: int) -> bool:
    actions = row["action_sequence"]
    if step == 0 or {**actions[step], "start_time": 0, "end_time": 0} == {
        **actions[step - 1], "start_time": 0, "end_time": 0
    }:  # fmt: skip
        return False
    actions[step - 1], actions[step] = actions[step], actions[step - 1]
    return True


@pytest.mark.parametrize(
    "tamper",
    [change_output, change_error, hide_error, change_input, change_command, change_duration, drop, add, swap],
)
def test_a_changed_step_is_found(tamper: Callable[[Row, int], bool], records: list[Trajectory]) -> None:
    found = 0
    for number, record in enumerate(records):
        row = json.loads(record.to_json())
        steps = len(row["action_sequence"])
        if record.environment.name == "code" and number % 4:
            continue  # the code world takes real processes
        step = (7 * number) % steps if steps else 0
        if not steps or not tamper(row, step):
            continue
        result = replay(Trajectory.model_validate(row))
        assert not isinstance(result, CannotReplay) and not result.ok, (tamper.__name__, record.id, step)
        difference = result.first_difference
        assert isinstance(difference, ReplayDifference) and difference.recorded != difference.replayed
        # Nothing before the change differs. A step that was added or dropped may equal what stands there by chance.
        if tamper in (add, drop):
            assert difference.step >= step
        else:
            assert difference.step == (step - 1 if tamper is swap else step), (tamper.__name__, record.id, difference)
        found += 1
    assert found > (8 if tamper in (change_error, hide_error) else 40)


def put(*path: str, value: Callable[[Any], Any] = other) -> Callable[[Row], str]:
    """Changes the value at a path; returns the name of the field that a report must give."""

    def tamper(row: Row) -> str:
        place = row
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value(place[path[-1]])
        return ".".join(path)

    return tamper


def another_world(row: Row) -> str:
    """Names another world and its version."""
    name = next(name for name in WORLDS if name != row["environment"]["name"])
    row["environment"] |= {"name": name, "version": WORLDS[name].version}
    return "environment.name"


WHOLE: dict[str, Callable[[Row], str]] = {
    "outcome": put("outcome", value=lambda was: "failure" if was == "success" else "success"),
    "score": put("metadata", "score", value=lambda was: 0.25),
    "why": put("metadata", "why"),
    "injected": put("metadata", "injected", value=lambda was: [] if was else [[0, "busy"]]),
    "answer": put("metadata", "answer"),
    "instruction": put("metadata", "instruction"),
    "system": put("metadata", "system"),
    "tools": put("metadata", "tools", value=lambda was: was[1:]),
    "language": put("metadata", "language"),
    "category": put("category", value=lambda was: "web" if was != "web" else "other"),
    "environment": another_world,
    "tool": put("tool"),
    "seed": put("metadata", "task", "seed"),
    "split": put("metadata", "task", "split", value=lambda was: "test"),
    "faults": put(
        "metadata", "task", "faults", value=lambda was: [] if was else [{"kind": "busy", "tool": "x", "nth": 0}]
    ),
    "parameters": put("metadata", "task", "parameters"),
    "facts": put("metadata", "task", "facts"),
    "tier": put("metadata", "task", "tier"),
    "context_tokens": put("metadata", "task", "context_tokens"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_changed_record_is_found_and_the_field_is_named(name: str, records: list[Trajectory]) -> None:
    for record in records[:: 4 if name in ("outcome", "score", "why", "injected", "answer") else 1]:
        row = json.loads(record.to_json())
        field = WHOLE[name](row)
        result = replay(Trajectory.model_validate(row))
        assert not isinstance(result, CannotReplay) and result.first_difference is not None, record.id
        # An answer may also decide the outcome, where saying so is all that is asked.
        assert result.first_difference.field == field or name == "answer", result
        assert result.first_difference.step == (result.steps if result.first_difference.field in AT_END else 0)


AT_END = {"outcome", "metadata.score", "metadata.why", "metadata.injected", "metadata.answer"}


def test_a_seed_that_is_changed_everywhere_is_another_task(records: list[Trajectory]) -> None:
    for record in records[:20]:
        row = json.loads(record.to_json().replace("-train-21-", "-train-22-"))
        row["metadata"]["task"]["seed"] = 22
        result = replay(Trajectory.model_validate(row))
        assert not isinstance(result, CannotReplay) and not result.ok


def test_the_world_does_not_see_the_recorded_outputs(records: list[Trajectory]) -> None:
    """What the replay says instead of a blanked output is the output itself."""
    for record in records[:40]:
        row = json.loads(record.to_json())
        was = [(action["output"], action["error"]) for action in row["action_sequence"]]
        for action in row["action_sequence"]:
            action["output"], action["error"] = "blank", None
        result = replay(Trajectory.model_validate(row))
        assert not isinstance(result, CannotReplay)
        if was:
            assert result.first_difference is not None
            assert result.first_difference.replayed == (was[0][0] if was[0][1] is None else was[0][1])


def test_short_tasks_replay_under_ids_of_their_own() -> None:
    made = make_tasks(["files", "api"], "train", 16, 4, short=True)
    for record in run_tasks(Expert(), made, label="x", start=FROZEN_START):
        result = replay(record)
        assert not isinstance(result, CannotReplay) and result.ok, result
        row = json.loads(record.to_json())
        row["metadata"]["task"]["id"] = row["metadata"]["task"]["id"].replace("-short", "")
        other = replay(Trajectory.model_validate(row))
        assert not isinstance(other, CannotReplay) and not other.ok
        row["metadata"]["task"]["id"] = "web-short-train-4-0001"  # a world that has no short tasks
        assert isinstance(replay(Trajectory.model_validate(row)), CannotReplay)


def test_what_cannot_be_replayed_is_counted_with_its_reason(recorded: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in recorded.read_text(encoding="utf-8").splitlines()[:7]]
    rows[1]["environment"]["version"] = "0"
    rows[2]["environment"]["name"] = "garden"
    del rows[3]["metadata"]["replay"]
    rows[4]["metadata"]["task"]["id"] = f"files-train-21-{MAX_NUMBER}"
    rows[5]["metadata"]["task"] = 7
    lines = [json.dumps(row) for row in rows] + ["{", *SAMPLES.read_text(encoding="utf-8").splitlines()[:2]]
    mixed, report = tmp_path / "mixed.jsonl", tmp_path / "report.jsonl"
    mixed.write_text("\n".join(lines) + "\n", encoding="utf-8")
    code, text = invoke("replay", mixed, "--out", report)
    assert code == 0
    assert set(read_replays(report)) == {rows[0]["id"], rows[6]["id"]}
    for reason in (
        "as recorded", "made by version '0' of world", "world 'garden' is unknown", "metadata.replay is missing",
        "names no task of this benchmark", "metadata.task is missing", "the line is no record", "mixed.jsonl:8: not JSON",
    ):  # fmt: skip
        assert reason in text
    assert [line.split() for line in text.splitlines() if line.startswith("read")] == [["read", str(len(lines))]]


def test_a_difference_under_another_python_is_no_tampering(records: list[Trajectory]) -> None:
    row = json.loads(records[0].to_json())
    row["metadata"]["replay"]["python"] = "3.99.0"
    same = replay(Trajectory.model_validate(row))
    assert not isinstance(same, CannotReplay) and same.ok
    row["outcome"] = "partial"
    different = replay(Trajectory.model_validate(row))
    assert isinstance(different, CannotReplay) and "Python '3.99.0'" in different.reason


def test_a_tampered_file_exits_1_and_names_step_and_difference(recorded: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in recorded.read_text(encoding="utf-8").splitlines()]
    place = next(
        place
        for place, row in enumerate(rows)
        if len(row["action_sequence"]) > 2 and row["action_sequence"][1]["error"] is None
    )
    rows[place]["action_sequence"][1]["output"] = "조작된 값"
    tampered, report = tmp_path / "tampered.jsonl", tmp_path / "report.jsonl"
    tampered.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    code, text = invoke("replay", tampered, "--out", report)
    assert code == 1
    assert f"{rows[place]['id']}: step 1: " in text and "조작된 값" in text
    assert "as recorded  99" in text and "different    1" in text
    bad = [row for row in read_replays(report).values() if not row.ok]
    assert [row.id for row in bad] == [rows[place]["id"]]
    assert bad[0].first_difference is not None and bad[0].first_difference.step == 1


def test_the_report_never_overwrites_the_records(recorded: Path) -> None:
    before = recorded.read_bytes()
    with pytest.raises(UserError, match="overwrite"):
        invoke("replay", recorded, "--out", recorded)
    assert recorded.read_bytes() == before
