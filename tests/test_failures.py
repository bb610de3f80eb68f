"""What a run fails at: each failed try is counted once, in its world, by how it ended."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmark.__main__ import app
from benchmark.reports.failures import ENDS, count_failures, error_to_shape
from core.command_line import run_command
from data.records import Trajectory
from support.record_samples import action
from support.run_folders import PLANTED, made, write_run


def failed(number: int, actions: list[dict[str, Any]], *, world: str = "files", **metadata: Any) -> Trajectory:
    row = json.loads(made(number, outcome="failure", world=world, **metadata).to_json())
    return Trajectory.model_validate({**row, "action_sequence": actions})


def wrong(error: str, **arguments: Any) -> dict[str, Any]:
    return action("read_file", arguments or {"path": "a"}, error=error)


UNREADABLE = action("invalid_call", {"text": "<tool_call>"}, error="no end within 8 tokens")
ONCE = {
    "ended wrongly, no error": ([wrong("503"), action("read_file", {})], "Done."),  # the fault at step 0 was injected
    "ended wrongly after errors": ([action("read_file", {}), wrong("404"), wrong("404"), wrong("404")], "Done."),
    "stuck on one error": ([wrong("503"), wrong("404"), action("list_files", {}), wrong("404"), wrong("404")], None),
    "unreadable at the end": ([action("read_file", {}), wrong("404"), UNREADABLE], None),
    "out of turns": ([action("read_file", {})] * 12, None),
}


def test_each_end_is_told_from_the_others() -> None:
    assert [*ONCE] == [name for name, _ in ENDS]
    for end, (actions, answer) in ONCE.items():
        counted = count_failures([made(0), failed(1, actions, world="web", answer=answer)])
        assert {name: dict(each) for name, each in counted.ends.items() if each} == {end: {"web": 1}}
        assert counted.tries == {"files": 1, "web": 1}
    assert not count_failures([made(0)]).errors, "what a success has met is no failure"


def test_other_errors_between_do_not_make_a_try_stuck() -> None:
    actions = [action("list_files", {})] + [wrong("404", path=str(n)) for n in range(9)]
    assert count_failures([failed(1, actions, answer=None)]).ends["out of turns"] == {"files": 1}


@pytest.mark.parametrize(
    ("error", "shape"),
    [
        ("404 no order 'Leeds'", "# no order '...'"),
        ('no "잔액" in "말"', "no '...' in '...'"),
        ("not found: input/a.txt", "not found: ..."),
        ("unknown unit '3'. There are: mm, cm", "unknown unit '...'. There are: ..."),
        ("no end within 128 tokens", "no end within # tokens"),
        ("Traceback\n  line 3", "Traceback"),
    ],
)
def test_errors_that_differ_in_names_and_numbers_are_one_kind(error: str, shape: str) -> None:
    assert error_to_shape(error) == shape


def test_the_command_prints_a_table_a_run_and_what_adds_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [made(0), *(failed(n, *ends[:1], answer=ends[1]) for n, ends in enumerate(ONCE.values(), 1))]
    records.append(failed(9, [action("read_file", {}), wrong(PLANTED)], world="api", answer="Done."))
    one, other = write_run(tmp_path / "one", records), write_run(tmp_path / "other", records[:1])

    def run(*arguments: object) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["benchmark", "failures", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            run_command(app, name="python -m benchmark")
        captured = capsys.readouterr()
        assert stop.value.code == (2 if captured.err else 0)
        return captured.out, captured.err

    out, _ = run(one, other, "--top", 2)
    assert f"one: 6 of 7 tries failed ({one})" in out and f"other: 0 of 1 tries failed ({other})" in out
    assert [line.split()[-3:] for line in out.splitlines() if line.startswith("ended wrongly after")] == [
        ["1", "1", "2"],
        ["errors", "0", "0"],
    ]
    assert "\x1b" not in out and "\x00" not in out
    told = json.loads(run(one, "--json")[0])[str(one)]
    assert sum(sum(each.values()) for each in told["ends"].values()) == 6 and sum(told["tries"].values()) == 7
    assert told["errors"]["#"] == 3
    assert "Is" in run(tmp_path / "none")[1]
