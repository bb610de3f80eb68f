"""Every KPI again with other code from the JSON lines alone, by hand on small cases, and the properties they must have."""

from __future__ import annotations

import json
import math
import random
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.kpis import (
    UNITS,
    Kpi,
    bootstrap_mean,
    calls_of,
    compare_success,
    count_errors,
    error_episodes,
    kpis,
    kpis_by,
    success_by_context,
    wilson,
)
from benchmark.kpis import retention_tokens as retention_of
from benchmark.reports.foreign import kpis_command, read_records
from core.command_line import run_command
from core.errors import UserError
from data.records import INVALID_CALL, Trajectory, read_trajectories, write_trajectories

START = datetime(2026, 1, 1, tzinfo=UTC)


def made(*actions: tuple[str, Any, Any, str | None], **more: Any) -> Trajectory:
    """A record of (command, input, output, error) actions, half a second each; `more` may set any part of it."""
    task = {"id": more.get("task_id", "t-1"), "world": "files", "facts": more.get("facts", {}), **more.get("task", {})}
    return Trajectory.model_validate(
        {
            "id": more.get("id", "r-1"),
            "category": "file-ops",
            "timestamp": START,
            "environment": {"name": "files"},
            "tool": "files",
            "action_sequence": [
                {
                    "command": command,
                    "input": arguments,
                    "output": output,
                    "error": error,
                    "start_time": START + timedelta(seconds=place / 2),
                    "end_time": START + timedelta(seconds=(place + 1) / 2),
                }
                for place, (command, arguments, output, error) in enumerate(actions)
            ],
            "outcome": more.get("outcome", "success"),
            "metadata": {"instruction": more.get("instruction", "Do it."), "answer": more.get("answer"), "task": task},
        }
    )


def ok(command: str) -> tuple[str, Any, Any, None]:
    return command, {}, "ok", None


def bad(command: str) -> tuple[str, Any, None, str]:
    return command, {}, None, "no"


# ---- by hand ----

EXAMPLE = made(
    ("list_orders", {}, None, "500 server error"),
    ("list_orders", {}, {"orders": {"89": "Mina"}}, None),
    ("update_order", {"id": "89", "city": "Busan"}, "ok", None),
    instruction='Send order of Mina to "Busan".',
    answer="Done.",
    facts={"id": "89", "city": "Busan"},
)


def test_the_worked_example_of_the_docs() -> None:
    found = kpis([EXAMPLE])
    assert found["success_rate"].value == 1 and round(found["success_rate"].low or 0, 2) == 0.21
    assert found["call_success_rate"].value == 2 / 3
    assert [round(100 * (end or 0)) for end in (found["call_success_rate"].low, found["call_success_rate"].high)] == [
        21,
        94,
    ]
    assert found["recovery_rate"].value == 1
    assert found["recovery_steps"] == Kpi(1.0, None, None, 1)
    assert found["recovery_seconds"] == Kpi(0.5, None, None, 1)
    assert retention_of(EXAMPLE) == {"id": 14, "city": 41}
    assert found["retention_tokens"] == Kpi(27.5, None, None, 2)
    docs = (Path(__file__).parents[1] / "docs" / "kpis.md").read_text(encoding="utf-8")
    for said in ("14 tokens", "41 tokens", "(14 + 41) / 2 = 27.5", "67 % (21-94)", "0.490 to 0.943", *UNITS):
        assert said in docs


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_wilson_by_hand(hits: int, n: int, low: float, high: float) -> None:
    found = wilson(hits, n)
    assert found.value == hits / n and found.n == n
    assert found.low == pytest.approx(low, abs=5e-5) and found.high == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize(
    ("actions", "episodes"),
    [
        ([bad("a"), ok("a")], [(0, 1)]),
        ([bad("a"), bad("a"), ok("a")], [(0, 2)]),
        ([bad("a"), ok("b"), bad("a"), ok("a")], [(0, 3)]),  # another command in between neither repairs nor splits
        ([bad("a"), ok("a"), bad("a")], [(0, 1), (2, None)]),
        ([bad("a"), bad("b"), ok("b"), ok("a")], [(0, 3), (1, 2)]),
        ([bad("a"), ok("b")], [(0, None)]),
        ([bad(INVALID_CALL), ok("a")], [(0, 1)]),
        ([bad(INVALID_CALL), bad("a"), ok("a")], [(0, 2), (1, 2)]),
        ([ok(INVALID_CALL), bad(INVALID_CALL)], [(0, None)]),  # an unreadable turn has failed whatever it says
        ([ok("a")], []),
    ],
)
def test_error_episodes_by_hand(actions: list[Any], episodes: list[tuple[int, int | None]]) -> None:
    assert [tuple(episode) for episode in error_episodes(made(*actions))] == episodes


@pytest.mark.parametrize(
    ("instruction", "actions", "fact", "tokens"),
    [
        ("Use 89 now.", [("f", {"x": "89"}, "ok", None)], "89", 9),  # now . f { " x " : "
        ("Use 1890.", [("f", {"x": "89"}, "ok", None)], "89", 0),  # never appeared: inside a longer number
        ("Use 89.", [("f", {"x": "89"}, None, "no")], "89", 0),  # used, but the call failed
        ("Use 89.", [("f", {"89": "x"}, "ok", None)], "89", 0),  # a key is no use
        ("Use 89.", [("f", {"x": 89}, "ok", None)], "89", 0),  # a number is no string
        ("Go.", [("f", {"x": "89"}, "89", None)], "89", 0),  # guessed before it appeared
        ("Go.", [("f", {}, None, "is now 89"), ("f", {"x": "89"}, "ok", None)], "89", 0),  # an error shows nothing
        ("민수에게", [("f", {"x": "민수"}, "ok", None)], "민수", 8),  # the particle counts as a token
        ("Go.", [("f", {}, {"n": 89}, None), ("g", {"x": "89"}, "ok", None)], "89", 8),  # a number of an output appears
        ("Go.", [("f", {}, {"t": 'a\n"b"'}, None), ("g", {"x": 'a\n"b"'}, "ok", None)], 'a\n"b"', 9),
        ('Use "a b".', [("f", 'run "a b" or "a b"', "ok", None)], "a b", 14),  # a command line; the later use counts
        ("Use .", [("f", {"x": ""}, "ok", None)], "", 0),
    ],
)
def test_retention_by_hand(instruction: str, actions: list[Any], fact: str, tokens: int) -> None:
    assert retention_of(made(*actions, instruction=instruction, facts={"fact": fact})) == {"fact": tokens}


def test_nothing_measured_is_none_and_one_record_has_no_interval_of_a_mean() -> None:
    assert kpis([]) == dict.fromkeys(UNITS, Kpi(None, None, None, 0))
    found = kpis([made()])
    assert found["success_rate"].n == 1
    assert {name for name, kpi in found.items() if kpi.n == 0} == set(UNITS) - {"success_rate"}


def test_groups_add_up_and_records_without_the_field_are_not_lost() -> None:
    records = [made(id=f"r-{place}", task={"tier": tier}) for place, tier in enumerate([1, 2, 1])]
    stranger = made(id="s").model_copy(deep=True)
    assert stranger.metadata.model_extra is not None
    del stranger.metadata.model_extra["task"]
    found = kpis_by([*records, stranger], "tier")
    assert {name: group["success_rate"].n for name, group in found.items()} == {"1": 2, "2": 1, "unknown": 1}


def test_compare_pairs_by_task() -> None:
    def run(outcomes: dict[str, str]) -> list[Trajectory]:
        return [made(id=task, task_id=task, outcome=outcome) for task, outcome in outcomes.items()]

    tasks = [f"t-{number}" for number in range(20)]
    good, poor = run(dict.fromkeys(tasks, "success")), run(dict.fromkeys(tasks, "failure"))
    half = run({task: "success" if number % 2 else "partial" for number, task in enumerate(tasks)})
    assert (lost := compare_success(good, poor)).value == -1 and lost.significant_loss and not lost.significant_gain
    assert (same := compare_success(half, list(reversed(half)))).value == 0 and same.low == 0 == same.high
    assert not same.significant_loss and not same.significant_gain
    gain = compare_success(poor, half)
    assert gain.value == 0.5 and gain.significant_gain and gain.n == 20 and gain.unpaired == 0
    assert compare_success(good, half[:5]).n == 5 and compare_success(good, half[:5]).unpaired == 15
    alone = compare_success(good[:1], poor[:1])
    assert alone.value == -1 and not alone.significant_loss  # one task proves nothing
    assert compare_success(good[:1], poor[1:2]).value is None


@pytest.mark.parametrize("task", [{"facts": ["x"]}, {"facts": {"x": 1}}, "t-1"])
def test_a_task_of_another_shape_is_told(task: object) -> None:
    record = made()
    assert record.metadata.model_extra is not None
    record.metadata.model_extra["task"] = task
    with pytest.raises(UserError, match=r"record 'r-1': field 'metadata\.task"):
        kpis([record])


def test_a_record_without_a_task_id_cannot_be_paired() -> None:
    record = made()
    assert record.metadata.model_extra is not None
    del record.metadata.model_extra["task"]["id"]
    with pytest.raises(UserError, match=r"metadata\.task\.id"):
        compare_success([record], [record])


# ---- again, from the JSON lines, with other code ----


def other_kpis(path: Path) -> dict[str, tuple[float | None, float | None, float | None, int]]:
    """docs/kpis.md read literally; shares no line with benchmark/kpis.py."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def failed(action: dict[str, Any]) -> bool:
        return action["error"] is not None or action["command"] == "invalid_call"

    def share(cases: list[bool]) -> tuple[float | None, float | None, float | None, int]:
        n = len(cases)
        if not n:
            return None, None, None, 0
        p, z = sum(cases) / n, 1.959963984540054
        # The two roots of |p - x| = z sqrt(x (1 - x) / n).
        low, high = sorted(np.roots([1 + z * z / n, -(2 * p + z * z / n), p * p]).real)
        return p, max(low, 0.0), min(high, 1.0), n

    def mean(groups: list[list[float]]) -> tuple[float | None, float | None, float | None, int]:
        pairs = sorted([sum(group), len(group)] for group in groups if group)
        n = sum(pair[1] for pair in pairs)
        if not n:
            return None, None, None, 0
        value = sum(pair[0] for pair in pairs) / n
        if len(pairs) == 1:
            return value, None, None, int(n)
        rng = np.random.default_rng(0)
        means = []
        for _ in range(2000):
            drawn = [pairs[which] for which in rng.integers(len(pairs), size=len(pairs))]
            means.append(sum(pair[0] for pair in drawn) / sum(pair[1] for pair in drawn))
        means.sort()

        def percentile(share: float) -> float:
            place = share * (len(means) - 1)
            floor = math.floor(place)
            return means[floor] + (place - floor) * (means[min(floor + 1, len(means) - 1)] - means[floor])

        return value, percentile(0.025), percentile(0.975), int(n)

    recovered: list[bool] = []
    steps: list[list[float]] = []
    seconds: list[list[float]] = []
    for row in rows:
        actions = row["action_sequence"]
        of_row: list[tuple[int, int | None]] = []
        for first, action in enumerate(actions):
            if not failed(action):
                continue

            def repairs(index: int, command: str = action["command"], actions: list[Any] = actions) -> bool:
                return not failed(actions[index]) and command in (actions[index]["command"], "invalid_call")

            earlier = [i for i in range(first) if actions[i]["command"] == action["command"] and failed(actions[i])]
            if earlier and not any(repairs(index) for index in range(earlier[-1], first)):
                continue  # goes on with an episode
            of_row.append((first, next((i for i in range(first + 1, len(actions)) if repairs(i)), None)))
        recovered += [repair is not None for _, repair in of_row]
        done = [(first, repair) for first, repair in of_row if repair is not None]
        steps.append([repair - first for first, repair in done])
        times = [datetime.fromisoformat(action["end_time"]) for action in actions]
        seconds.append([(times[repair] - times[first]) / timedelta(seconds=1) for first, repair in done])
    return {
        "success_rate": share([row["outcome"] == "success" for row in rows]),
        "call_success_rate": share([not failed(action) for row in rows for action in row["action_sequence"]]),
        "recovery_rate": share(recovered),
        "recovery_steps": mean(steps),
        "recovery_seconds": mean(seconds),
        "retention_tokens": mean(
            [[other_retention(row, f) for f in row["metadata"]["task"]["facts"].values()] for row in rows]
        ),
    }


def other_retention(row: dict[str, Any], fact: str) -> float:
    """Marks every character of the text with what it is, then looks at all places one by one."""
    text = ""
    places: list[tuple[int, int, bool]] = []  # begin, end, whether it is a use (else an appearance)

    def cuts(value: str, place: int) -> bool:
        both = value[place - 1 : place + 1] if place else ""
        return len(both) == 2 and both.isascii() and both.isalnum()

    def look(value: str, encoded: list[str], offset: int, *, use: bool) -> None:
        for begin in range(len(value)):
            end = begin + len(fact)
            if fact and value[begin:end] == fact and not cuts(value, begin) and not cuts(value, end):
                before, until = len("".join(encoded[:begin])), len("".join(encoded[:end]))
                places.append((offset + before, offset + until, use))

    def write(value: Any, *, look_for: str | None) -> None:
        """JSON text of `value`, character by character as json.dumps writes it."""
        nonlocal text
        if isinstance(value, dict | list):
            text += "{" if isinstance(value, dict) else "["
            for number, part in enumerate(value):
                text += ", " if number else ""
                if isinstance(value, dict):
                    write(part, look_for="shows" if look_for == "shows" else None)
                    text += ": "
                    part = value[part]
                write(part, look_for=look_for)
            text += "}" if isinstance(value, dict) else "]"
            return
        if isinstance(value, str):
            encoded = [json.dumps(char, ensure_ascii=False)[1:-1] for char in value]
            if look_for:
                look(value, encoded, len(text) + 1, use=look_for == "uses")
        elif look_for == "shows" and isinstance(value, int | float) and not isinstance(value, bool):
            look(json.dumps(value), list(json.dumps(value)), len(text), use=False)
        text += json.dumps(value, ensure_ascii=False)

    def plain(value: str, *, shows: bool) -> None:
        nonlocal text
        if shows:
            look(value, list(value), len(text), use=False)
        text += value

    plain(row["metadata"]["instruction"] or "", shows=True)
    text += "\n"
    for action in row["action_sequence"]:
        fine = action["error"] is None and action["command"] != "invalid_call"
        text += action["command"] + "\n"
        write(action["input"], look_for="uses" if fine else None)
        text += "\n"
        if action["error"] is not None:
            text += action["error"]
        elif isinstance(action["output"], str):
            plain(action["output"], shows=True)
        else:
            write(action["output"], look_for="shows")
        text += "\n"
    appeared = min((end for _, end, use in places if not use), default=None)
    uses = [begin for begin, _, use in places if use and appeared is not None and begin >= appeared]
    if appeared is None or not uses:
        return 0
    return len(re.findall(r"\w+|[^\w\s]", text[appeared : max(uses)]))


FACTS = ["89", "Busan", "민수", 'a "b"', "papers/coral.txt", "two\nlines", "back\\slash"]


def random_record(rng: random.Random, number: int) -> Trajectory:
    def words(count: int) -> str:
        return rng.choice([" ", "", "1", "에게 "]).join(rng.choice([*FACTS, "x", ":", "{", '"']) for _ in range(count))

    def value() -> Any:
        return rng.choice(
            [
                None,
                True,
                89,
                -8.9,
                words(2),
                [words(1), 89],
                {words(1): words(2), "n": {"89": 89}},
                {"k": rng.choice(FACTS)},
            ]
        )

    def one_action() -> tuple[str, Any, Any, str | None]:
        arguments = words(2) if rng.random() < 0.1 else {rng.choice(["path", "89"]): value(), "b": rng.choice(FACTS)}
        error = words(2) if rng.random() < 0.4 else None
        return rng.choice(["read", "write", INVALID_CALL]), arguments, None if error is not None else value(), error

    return made(
        *(one_action() for _ in range(rng.randint(0, 6))),
        id=f"r-{number}",
        task_id=f"t-{number}",
        task={"world": rng.choice(["files", "api"])},
        instruction=words(4),
        answer=rng.choice([None, words(2)]),
        outcome=rng.choice(["success", "failure", "partial"]),
        facts={str(place): fact for place, fact in enumerate(rng.sample(FACTS, rng.randint(0, 4)))},
    )


@pytest.mark.parametrize("seed", range(5))
def test_all_kpis_recomputed_from_the_file_by_other_code(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    records = [random_record(rng, number) for number in range([0, 1, 2, 40, 60][seed])]
    write_trajectories(tmp_path / "trajectories.jsonl", records)
    found = kpis(read_trajectories(tmp_path / "trajectories.jsonl"))
    other = other_kpis(tmp_path / "trajectories.jsonl")
    assert list(found) == list(UNITS)
    for name, kpi in found.items():
        assert (kpi.value, kpi.low, kpi.high, kpi.n) == pytest.approx(other[name], abs=1e-12), name
    if len(records) >= 40:
        assert all(kpi.value for kpi in found.values()), "a number that is never more than zero tests nothing"


# ---- groups and the curve of context ----

MOST = [0, 512, 1024, 2048, 4096, 8192, 16384, 32768]


def grouped_record(rng: random.Random, number: int) -> Trajectory:
    kinds = rng.sample(["timeout", "rate_limit", "한글"], rng.randint(0, 3))
    task = {
        "world": rng.choice(["files", "api"]),
        "tier": rng.choice([1, 2, 10]),
        "language": rng.choice(["en", "ko"]),
        "context_tokens": rng.choice([0, 1, 511, 512, 513, 2048, 9000, 32768, 32769]),
        "faults": [{"kind": kind, "tool": "read", "nth": 0} for kind in kinds],
    }
    for field in ("tier", "context_tokens", "faults"):
        if rng.random() < 0.2:
            del task[field]
    record = random_record(rng, number)
    assert record.metadata.model_extra is not None
    record.metadata.model_extra["task"] = {"id": f"t-{number}", "facts": {}, **task}
    return record


@pytest.mark.parametrize("seed", range(3))
def test_groups_and_curve_recomputed_by_other_code(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    path = tmp_path / "trajectories.jsonl"
    write_trajectories(path, [grouped_record(rng, number) for number in range(60)])
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def names(row: dict[str, Any], key: str) -> set[str]:
        task = row["metadata"]["task"]
        if key != "fault":
            return {str(task[key]) if key in task else "unknown"}
        return {fault["kind"] for fault in task["faults"]} or {"none"} if "faults" in task else {"unknown"}

    for key in ("world", "tier", "language", "fault"):
        found = kpis_by(read_trajectories(path), key)
        assert set(found) == set().union(*(names(row, key) for row in rows))
        for name, group in found.items():
            part = tmp_path / "part.jsonl"
            part.write_text(
                "".join(json.dumps(row) + "\n" for row in rows if name in names(row, key)), encoding="utf-8"
            )
            for kpi, values in other_kpis(part).items():
                ours = group[kpi]
                assert (ours.value, ours.low, ours.high, ours.n) == pytest.approx(values, abs=1e-12), (key, name, kpi)
    assert list(kpis_by(read_trajectories(path), "tier")) == ["1", "2", "10", "unknown"]

    curve = success_by_context(read_trajectories(path))
    assert list(curve) == [*map(str, MOST), "more than 32768"]
    sizes = [(row["metadata"]["task"].get("context_tokens"), row["outcome"] == "success") for row in rows]
    for least, most, kpi in zip([-1, *MOST], [*MOST, math.inf], curve.values(), strict=True):
        won = [won for size, won in sizes if size is not None and least < size <= most]
        assert kpi.n == len(won) and kpi.value == (sum(won) / len(won) if won else None)
    assert sum(kpi.n for kpi in curve.values()) == sum(size is not None for size, _ in sizes) > 40


def test_a_size_of_context_that_was_not_tried_is_none_and_not_zero() -> None:
    curve = success_by_context([made(task={"context_tokens": 600})])
    assert curve["1024"] == Kpi(1.0, wilson(1, 1).low, 1.0, 1)
    assert all(kpi == Kpi(None, None, None, 0) for name, kpi in curve.items() if name != "1024")


@pytest.mark.parametrize(
    ("field", "value"), [("context_tokens", "512"), ("context_tokens", True), ("faults", [1]), ("faults", 7)]
)
def test_groups_of_another_shape_are_told(field: str, value: object) -> None:
    with pytest.raises(UserError, match=f"record 'r-1': field 'metadata.task.{field}'"):
        record = made(task={field: value})
        success_by_context([record])
        kpis_by([record], "fault")


# ---- transcripts from elsewhere ----


def tau_run(task: int, trial: int, reward: float, *steps: tuple[str, str], call_id: str = "c") -> dict[str, Any]:
    """A run as tau-bench writes it: one call a message, arguments as text, errors as text that begins with Error."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "# Policy"},
        {"role": "user", "content": "예약을 바꿔 주세요."},
    ]
    for number, (name, result) in enumerate(steps):
        own = f"{call_id}{number}"
        function = {"name": name, "arguments": '{"id": "ㄱ1"}'}
        messages.append(
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": own, "type": "function", "function": function}],
            }
        )
        messages.append({"role": "tool", "tool_call_id": own, "name": name, "content": result})
    messages += [{"role": "assistant", "content": "Done."}, {"role": "user", "content": "###STOP###"}]
    return {"task_id": task, "reward": reward, "info": {}, "traj": messages, "trial": trial}


TAU = [
    tau_run(0, 0, 1.0, ("find", "Error: not found"), ("list", "[]"), ("find", "{}")),
    tau_run(
        0, 1, 0.0, ("book", "Error: no seats"), ("book", "Error: no seats"), ("book", "ok"), ("book", "Error: closed")
    ),
    tau_run(1, 0, 1.0, ("think", ""), ("find", "errors: 0")),
    tau_run(1, 1, 0.5, ("pay", "Error: balance"), ("find", "Terror island")),
]


def commanded(
    run_args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(kpis_command)
    monkeypatch.setattr(sys, "argv", ["kpis", *run_args])
    try:
        run_command(app, name="python -m benchmark kpis")
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_tau_bench_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gpt.json"
    path.write_text(json.dumps(TAU, ensure_ascii=False), encoding="utf-8")
    records, dropped = read_records(str(path))
    assert not dropped and [record.outcome for record in records] == ["success", "failure", "success", "failure"]
    assert [error_episodes(record) for record in records] == [[(0, 2)], [(0, 2), (3, None)], [], [(0, None)]]
    assert count_errors(records) == {
        "records": 4,
        "records that tell how they ended": 4,
        "successes": 2,
        "calls": 11,
        "calls that tell whether they worked": 11,
        "failed calls": 5,
        "failed calls with a later success of the same tool": 3,
        "records with a failed call": 3,
        "successes with a failed call": 1,
        "error episodes": 4,
        "repaired episodes": 2,
    }
    found = kpis(records)
    assert (found["success_rate"], found["call_success_rate"]) == (wilson(2, 4), wilson(6, 11))
    assert found["recovery_rate"] == wilson(2, 4) and found["recovery_steps"].value == 2
    # No times and no facts: nothing was measured, which is not 0.
    assert found["recovery_seconds"] == found["retention_tokens"] == Kpi(None, None, None, 0)
    out = tmp_path / "kpis.json"
    code, printed, error = commanded([str(path), "--out", str(out), "--by", "world,fault"], monkeypatch, capsys)
    assert code == 0, error
    told = json.loads(out.read_text(encoding="utf-8"))
    assert told["counts"] == count_errors(records) and told["kpis"]["recovery_seconds"]["value"] is None
    # Each task was tried twice and won once: 1 of 2, and no pair of tries wins both.
    assert [(kpi["value"], kpi["n"]) for kpi in told["pass_hat_k"].values()] == [(0.5, 2), (0.0, 2)]
    assert list(told["by_fault"]) == ["unknown"] and told["by_world"]["unknown"]["success_rate"]["n"] == 4
    lines = {line[:52].strip(): line[52:].strip() for line in printed.splitlines()}
    assert lines["failed calls with a later success of the same tool"] == "3" and lines["read"] == "4"


def test_transcripts_recounted_by_other_code(tmp_path: Path) -> None:
    rng = random.Random(7)
    results = ["ok", "Error: no", "Error", "{}", "an Error", ""]
    rows = [
        tau_run(task, trial, rng.choice([0.0, 1.0, 0.3]),
                *((rng.choice(["a", "b", "c"]), rng.choice(results)) for _ in range(rng.randint(0, 6))))
        for task in range(12) for trial in range(3)
    ]  # fmt: skip
    (tmp_path / "runs.json").write_text(json.dumps(rows), encoding="utf-8")
    records, _ = read_records(str(tmp_path / "runs.json"))
    failed = later = 0
    for row in rows:
        tools = [
            (message["name"], message["content"][:5] == "Error") for message in row["traj"] if message["role"] == "tool"
        ]
        while tools:
            (name, wrong), *tools = tools
            failed += wrong
            later += wrong and (name, False) in tools
    found = count_errors(records)
    assert (found["failed calls"], found["failed calls with a later success of the same tool"]) == (failed, later)
    assert later > 5 and found["successes"] == sum(row["reward"] == 1.0 for row in rows)


def tau2_file(path: Path) -> Path:
    def said(seconds: int, **message: Any) -> dict[str, Any]:
        return {"timestamp": f"2025-06-01T09:00:{seconds:02}.500000", **message}

    def calls(*names: str) -> list[dict[str, Any]]:
        return [
            {"id": f"{name}-{place}", "name": name, "arguments": {}, "requestor": "assistant"}
            for place, name in enumerate(names)
        ]

    def result(seconds: int, own: str, *, error: bool) -> dict[str, Any]:
        return said(seconds, role="tool", id=own, content="없음", requestor="assistant", error=error)

    messages = [
        said(0, role="user", content="두 건"),
        said(1, role="assistant", content=None, tool_calls=calls("get", "put")),
        said(2, role="tool", tool_messages=[result(3, "put-1", error=True), result(2, "get-0", error=False)]),
        said(4, role="assistant", content=None, tool_calls=[{**calls("put")[0], "id": "again"}]),
        result(10, "again", error=False),
        said(11, role="assistant", content="끝"),
    ]
    by_user = [
        *messages[:1],
        said(1, role="user", content=None, tool_calls=[{**calls("look")[0], "requestor": "user"}]),
    ]
    simulations = [
        {"id": "s0", "task_id": "7", "trial": 0, "reward_info": {"reward": 1.0}, "messages": messages},
        {"id": "s1", "task_id": "7", "trial": 1, "reward_info": {"reward": 0.0}, "messages": by_user},
    ]
    path.write_text(json.dumps({"info": {}, "tasks": [], "simulations": simulations}), encoding="utf-8")
    return path


def test_tau2_tells_which_of_parallel_calls_failed_and_when(tmp_path: Path) -> None:
    [record], dropped = read_records(str(tau2_file(tmp_path / "tau2.json")))
    assert dict(dropped) == {"a call that the user makes": 1}
    assert [(call.command, call.worked) for call in calls_of(record)] == [("get", True), ("put", False), ("put", True)]
    found = kpis([record])
    assert found["recovery_steps"].value == 1 and found["recovery_seconds"].value == 7.0
    assert found["success_rate"] == wilson(1, 1)


def test_what_a_format_does_not_tell_is_none(tmp_path: Path) -> None:
    def history(status: str | None) -> dict[str, Any]:
        call = {"id": "c", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
        messages = [
            {"role": "user", "content": "Fix it."},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "Error: no such file", "tool_call_ids": ["c"]},
            {"role": "assistant", "content": "Fixed."},
        ]
        return {"history": messages, "info": {} if status is None else {"exit_status": status}, "environment": "x"}

    rows = [history("submitted"), history("exit_cost"), history(None)]
    path = tmp_path / "runs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    records, _ = read_records(str(path))
    assert [record.outcome for record in records] == ["success", "failure", None]
    found = kpis(records)
    assert found["success_rate"] == wilson(1, 2)
    assert all(kpi == Kpi(None, None, None, 0) for name, kpi in found.items() if name != "success_rate")
    counts = count_errors(records)
    assert counts["calls"] == 3 and counts["calls that tell whether they worked"] == 0
    assert counts["failed calls"] is None and counts["repaired episodes"] is None


def test_our_own_file_gives_the_same_through_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(1)
    path, out = tmp_path / "trajectories.jsonl", tmp_path / "kpis.json"
    write_trajectories(path, [grouped_record(rng, number) for number in range(20)])
    code, printed, error = commanded(
        [str(path), "--by", "world,tier,language,fault", "--out", str(out)], monkeypatch, capsys
    )
    assert code == 0, error
    told = json.loads(out.read_text(encoding="utf-8"))
    records = list(read_trajectories(path))
    assert told["kpis"] == {name: asdict(kpi) for name, kpi in kpis(records).items()}
    for key in ("world", "tier", "language", "fault"):
        assert told[f"by_{key}"] == {
            name: {kpi: asdict(value) for kpi, value in group.items()} for name, group in kpis_by(records, key).items()
        }
    assert told["success_by_context"] == {name: asdict(kpi) for name, kpi in success_by_context(records).items()}
    assert "한글" in printed and "context tokens" in printed
    path.write_text(path.read_text(encoding="utf-8") * 2, encoding="utf-8")
    code, _, error = commanded([str(path)], monkeypatch, capsys)
    assert code == 2 and "trajectories.jsonl:21: id 'r-0' stands already on line 1" in error


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ('{"messages": [{"role": "user", "content": "hi"}], "tools": null}', ["--adapter", "openai_chat"],
         "rows of openai_chat are chats to learn from"),
        ('{"task_id": 1, "trial": 0, "reward": 1.0, "traj": "x"}', [], "holds no run that tau_bench can read:\n  1 x messages"),
        ('{"task_id": 1, "trial": 0, "reward": 1.0, "traj": [', [], "runs.jsonl"),
        ("[1]", ["--adapter", "tau_bench"], "a row is a JSON object, got int"),  # a list of rows
        ('{"category": "x", "action_sequence": [], "outcome": "success"}', [], "runs.jsonl:1: field 'id' is missing"),
        ("{}", ["--by", "wolrd"], "Did you mean 'world'?"),
        ("{}", ["--adapter", "tau_bensh"], "Did you mean 'tau_bench'?"),
    ],
)  # fmt: skip
def test_files_that_are_no_runs_are_told(
    text: str,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(text + "\n", encoding="utf-8")
    code, _, error = commanded([str(path), *arguments], monkeypatch, capsys)
    assert code == 2 and message in error and "Traceback" not in error, error


# ---- properties ----

SEEDS = st.integers(0, 10_000)


@given(SEEDS, st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_order_of_the_file_changes_nothing_and_intervals_hold_their_value(seed: int, count: int) -> None:
    rng = random.Random(seed)
    records = [random_record(rng, number) for number in range(count)]
    found = kpis(records)
    rng.shuffle(records)
    assert kpis(records) == found
    for name, kpi in found.items():
        if kpi.value is not None and kpi.low is not None and kpi.high is not None:
            assert kpi.low <= kpi.high
            if UNITS[name] == "share":
                assert 0 <= kpi.low <= kpi.value <= kpi.high <= 1


@given(SEEDS, st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_groups_partition_the_counts(seed: int, count: int) -> None:
    rng = random.Random(seed)
    records = [random_record(rng, number) for number in range(count)]
    found, groups = kpis(records), kpis_by(records, "world")
    assert all(sum(group[name].n for group in groups.values()) == kpi.n for name, kpi in found.items())


@given(st.integers(1, 300), st.data())
def test_wilson_grows_with_hits_and_narrows_with_cases(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n - 1))
    less, more, longer = wilson(hits, n), wilson(hits + 1, n), wilson(4 * hits, 4 * n)
    for kpi in (less, more, longer):
        assert kpi.value is not None and kpi.low is not None and kpi.high is not None
        assert 0 <= kpi.low <= kpi.value <= kpi.high <= 1
    assert more.low > less.low and more.high > less.high  # type: ignore[operator]
    assert longer.high - longer.low < less.high - less.low  # type: ignore[operator]


@given(st.lists(st.lists(st.floats(0, 1000), max_size=4), min_size=2, max_size=8), st.floats(0.1, 50))
@settings(max_examples=20, deadline=None)
def test_a_mean_moves_with_its_values(values: list[list[float]], shift: float) -> None:
    before, after = bootstrap_mean(values), bootstrap_mean([[value + shift for value in group] for group in values])
    assert before.n == after.n == sum(map(len, values))
    if before.value is not None and after.value is not None:
        assert after.value == pytest.approx(before.value + shift)
        assert min(min(group) for group in values if group) - 1e-9 <= before.value
    if before.low is not None and before.high is not None:
        flat = [value for group in values for value in group]
        assert min(flat) - 1e-9 <= before.low <= before.high <= max(flat) + 1e-9


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_repairing_an_open_error_never_lowers_recovery(seed: int) -> None:
    record = random_record(random.Random(seed), 0)
    failed = [episode for episode in error_episodes(record) if episode.repair is None]
    if not failed:
        return
    command = record.action_sequence[failed[0].first].command
    repair = made(ok("read" if command == INVALID_CALL else command)).action_sequence[0]
    mended = record.model_copy(update={"action_sequence": [*record.action_sequence, repair]})
    before, after = kpis([record])["recovery_rate"], kpis([mended])["recovery_rate"]
    assert before.value is not None and after.value is not None
    assert after.value > before.value and after.n == before.n
