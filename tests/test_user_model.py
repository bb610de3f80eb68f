"""A user played by a model: for training data, marked in the records, replayed, and never on the leaderboard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from data.records import Outcome, Trajectory
from support.chat_server import Answer, Fake, chat
from support.commands import Run


@pytest.fixture
def bench(run_app: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "200")
    return partial(run_app, "benchmark")


def play(body: dict[str, Any]) -> Answer:
    """What a person would say who was told what this model is told."""
    role = body["messages"][0]["content"]
    changed = re.findall(r"say so now: .* is (.*), not what", role)
    known = re.findall(r"^You know: .* is (.*)$", role, re.MULTILINE)
    agrees = "yes, do it" if "you agree" in role else "please do not"
    return chat(f"Well, {' '.join(changed or known) or agrees}!")


@pytest.fixture
def server() -> Iterator[Fake]:
    with Fake(play) as fake:
        yield fake


def records_of(file: Path) -> list[Trajectory]:
    return [Trajectory.model_validate_json(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_records_in_other_words_solve_their_tasks_replay_and_stay_off_the_leaderboard(
    bench: Run, server: Fake, tmp_path: Path
) -> None:
    options = (
        "--policy",
        "expert",
        "--asking",
        "--split",
        "train",
        "--count",
        14,
        "--worlds",
        "other",
        "--max-steps",
        20,
    )
    played = ("--user-server", server.url, "--user-model", "tiny")
    code, out, err = bench("run", *options, *played, "--keep", "solved", "--out", tmp_path / "run")
    assert (code, err) == (0, ""), out
    folder = tmp_path / "run" / "expert"
    records = records_of(folder / "trajectories.jsonl")
    assert [record.outcome for record in records] == [Outcome.SUCCESS] * 14, [r.metadata.model_extra for r in records]
    said = [str(a.output) for record in records for a in record.action_sequence if a.command == "ask_user"]
    assert len(said) == len(server.asked) and all(each.startswith("Well, ") for each in said)
    assert all((record.metadata.model_extra or {})["user_model"]["model"] == "tiny" for record in records)
    assert len(records_of(folder / "solved.jsonl")) == 14
    assert bench("replay", folder / "trajectories.jsonl")[0] == 0
    code, _, err = bench("leaderboard", folder, "--out", tmp_path / "board")
    assert code == 2 and "the users were played by a model (--user-model tiny)" in err
    told = json.loads((folder / "kpis.json").read_text())
    assert told["asking_kpis"]["needed_questions"]["value"] == 1.0


def test_a_value_that_was_not_told_is_not_known(bench: Run, tmp_path: Path) -> None:
    with Fake(chat("Hm, guess.")) as silent:
        options = (
            "--policy",
            "expert",
            "--asking",
            "--count",
            7,
            "--worlds",
            "other",
            "--max-steps",
            4,
            "--keep",
            "solved",
        )
        code, out, _ = bench(
            "run", *options, "--user-server", silent.url, "--user-model", "tiny", "--out", tmp_path / "run"
        )
    assert code == 0, out
    records = records_of(tmp_path / "run" / "expert" / "trajectories.jsonl")
    missing = [
        r for r in records if (r.metadata.model_extra or {})["asking"]["case"] in ("missing", "mind", "ambiguous")
    ]
    assert missing and all((r.metadata.model_extra or {})["score"] == 0 for r in missing)
    solved = records_of(tmp_path / "run" / "expert" / "solved.jsonl")
    assert not {r.id for r in missing} & {r.id for r in solved}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--user-server", "http://127.0.0.1:9", "--asking", "--keep", "solved"), "go together"),
        (("--user-server", "http://127.0.0.1:9", "--user-model", "m", "--asking"), "give --asking and --keep solved"),
        (
            ("--user-server", "http://127.0.0.1:9", "--user-model", "m", "--keep", "solved"),
            "give --asking and --keep solved",
        ),
        (("--user-server", "nowhere", "--user-model", "m", "--asking", "--keep", "solved"), "nowhere"),
    ],
)
def test_what_does_not_go_with_it_is_said(bench: Run, tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    code, _, err = bench("run", "--policy", "expert", "--count", 2, "--out", tmp_path / "x", *options)
    assert code == 2 and told in err, err
