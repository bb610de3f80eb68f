"""The world of small questions: right answers, every fault overcome, and tasks in which no tool fits."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.agent.episodes import FROZEN_START, Turn, run_tasks
from benchmark.agent.policies import POLICIES, Expert, policy_named
from benchmark.kpis import kpis
from benchmark.worlds.other.families import FAMILIES
from benchmark.worlds.other.world import OTHER, OtherWorld
from benchmark.worlds.world import Task
from data.chats import Chat, Message, PreferencePair, ToolCall
from data.records import Outcome, Trajectory
from data.trajectories import trajectory_to_chat, trajectory_to_pairs


@cache
def _tasks(split: Any) -> list[Task]:
    return OTHER.tasks(split, 200, 3)


def task_of(family: str, split: Any = "train", language: str = "en", **changes: Any) -> Task:
    """The first task of a family, without faults."""
    found = (task for task in _tasks(split) if (task.family, task.language) == (family, language))
    return replace(next(found), **{"faults": (), **changes})


def record_of(task: Task, policy: Any = None, **options: Any) -> Trajectory:
    [record] = run_tasks(policy or Expert(), [task], label="x", max_steps=40, start=FROZEN_START, **options)
    return record


class Says:
    """A policy that says one thing after another."""

    def __init__(self, *turns: Turn) -> None:
        self.turns = list(turns)

    def act(self, episodes: Any) -> list[Turn]:
        return [self.turns.pop(0) for _ in episodes]

    def forget(self, episode: Any) -> None:
        """Nothing was kept."""


def says(text: str) -> Message:
    return Message(role="assistant", content=text)


def calls(name: str, **arguments: Any) -> Message:
    return Message(role="assistant", tool_calls=(ToolCall(id="call_0", name=name, arguments=arguments),))


def output(name: str, **arguments: Any) -> Any:
    """What a tool gives back, in a task that offers it."""
    family = next(family for family in FAMILIES if name in family.tools)
    split: Any = "test" if family.held_out else "train"
    result = OtherWorld(task_of(family.name, split)).call(name, arguments)
    return result.output if result.error is None else f"error: {result.error}"


# Tools.


@pytest.mark.parametrize(
    ("name", "arguments", "wanted"),
    [
        ("convert_unit", {"value": "3", "unit": "mile", "to": "km"}, "4.828"),
        ("convert_unit", {"value": "1", "unit": "pound", "to": "g"}, "453.592"),
        ("convert_unit", {"value": "-2.5", "unit": "hour", "to": "minute"}, "-150"),
        ("convert_unit", {"value": "1", "unit": "gallon", "to": "liter"}, "3.785"),
        ("convert_unit", {"value": "0", "unit": "kg", "to": "ounce"}, "0"),
        ("convert_unit", {"value": "1", "unit": "mile", "to": "kg"}, "error: cannot convert length to mass"),
        (
            "convert_unit",
            {"value": "1", "unit": "miles", "to": "km"},
            "error: unknown unit 'miles'. Did you mean 'mile'?",
        ),
        ("convert_unit", {"value": "1e3", "unit": "km", "to": "m"}, "error: not a number: '1e3'"),
        ("convert_unit", {"value": "٣", "unit": "km", "to": "m"}, "3000"),
        ("convert_temperature", {"value": "100", "unit": "celsius", "to": "fahrenheit"}, "212"),
        ("convert_temperature", {"value": "-40", "unit": "fahrenheit", "to": "celsius"}, "-40"),
        ("add_days", {"date": "2024-02-28", "days": 2}, "2024-03-01"),
        ("add_days", {"date": "2024-01-01", "days": -1}, "2023-12-31"),
        ("add_days", {"date": "2024-02-30", "days": 1}, "error: not a date like 2026-01-31: '2024-02-30'"),
        ("add_days", {"date": "9999-12-31", "days": 10**9}, "error: too far away"),
        ("days_between", {"start": "2024-03-01", "end": "2024-02-28"}, "-2"),
        ("weekday", {"date": "2026-11-21"}, "Saturday"),
        ("add", {"a": "0.1", "b": "0.2"}, "0.3"),
        ("multiply", {"a": "-1.5", "b": "3"}, "-4.5"),
        ("count_words", {"text": " a  b\nc "}, "3"),
        ("sort_words", {"text": "나 가 다"}, "가 나 다"),
        ("reverse_words", {"text": "a b c"}, "c b a"),
    ],
)
def test_tools_reckon_rightly(name: str, arguments: dict[str, Any], wanted: str) -> None:
    assert output(name, **arguments) == wanted


@settings(max_examples=100, deadline=None, derandomize=True)
@given(start=st.dates(date(1990, 1, 1), date(2100, 1, 1)), days=st.integers(-9000, 9000))
def test_dates_agree_with_each_other(start: date, days: int) -> None:
    end = output("add_days", date=start.isoformat(), days=days)
    assert date.fromisoformat(end) == start + timedelta(days=days)
    assert output("days_between", start=start.isoformat(), end=end) == str(days)


def test_every_tool_is_offered_and_each_family_offers_more_than_it_needs() -> None:
    assert {family.held_out for family in FAMILIES} == {False, True}
    assert sum(family.held_out for family in FAMILIES) >= 3 and sum(not family.held_out for family in FAMILIES) >= 12
    assert {family.tier for family in FAMILIES} == {0, 1, 2, 3, 4, 6, 12}
    for family in FAMILIES:
        used = {action.command for action in record_of(task_of(family.name, "test")).action_sequence}
        assert used < set(family.tools) <= set(OTHER.tools), family.name


# Faults.


# Verdicts.


def test_numbers_are_judged_as_numbers_and_texts_as_texts() -> None:
    task = task_of("currency")
    world = OtherWorld(task)
    name, text = next(iter(world.goals.items()))
    for right in (text, f" {text}.00 ", f"{text}\n"):
        world.call("save_note", {"name": name, "text": right})
        assert world.verdict().outcome is Outcome.SUCCESS
    for wrong in (f"{text}1", f"{text} won", "NaN", "sNaN", "Infinity", "1e999999"):
        world.call("save_note", {"name": name, "text": wrong})
        assert world.verdict().score == 0


def test_a_note_too_many_or_changed_is_damage() -> None:
    task = task_of("note")
    p: Any = task.parameters
    world = OtherWorld(task)
    world.call("save_note", {"name": p["name"], "text": p["text"]})
    world.call("save_note", {"name": "more", "text": p["text"]})
    assert (world.verdict().outcome, world.verdict().score) == (Outcome.PARTIAL, 0.5)
    world.call("delete_note", {"name": "more"})
    assert world.verdict().score == 1
    world.call("delete_note", {"name": p["kept"]})
    assert world.verdict().score == 0.5 and "is changed" in world.verdict().why


# No tool fits.


@pytest.mark.parametrize("family", ["no-tool-act", "no-tool-question"])
@pytest.mark.parametrize("language", ["en", "ko"])
def test_saying_that_no_tool_fits_is_the_success(family: str, language: str) -> None:
    task = task_of(family, language=language)
    record = record_of(task)
    assert (record.outcome, record.action_sequence) == (Outcome.SUCCESS, [])
    assert Trajectory.model_validate_json(record.to_json()) == record
    chat = trajectory_to_chat(record)
    assert isinstance(chat, Chat) and chat.messages[-1].loss_weight == 1
    english = ("No tool.", '"no tool"', "There is no tool for that.", "There are no suitable tools.", "NO-TOOL")
    for right in (*english, "도구 없음", "맞는 도구가 없습니다.", f"{task.instruction} No tool fits."):
        assert record_of(task, Says(says(right))).outcome is Outcome.SUCCESS, right


@pytest.mark.parametrize("family", ["no-tool-act", "no-tool-question"])
def test_nothing_else_is(family: str) -> None:
    task = task_of(family)
    claims = ("", " ", "Done.", "I booked it.", "I used no more tricks.")
    for wrong in (*claims, task.instruction, f"{task.instruction} {task.instruction}"):
        assert record_of(task, Says(says(wrong))).outcome is Outcome.FAILURE, wrong
    silent = record_of(task, Says(*[calls("list_tables")] * 40))
    assert silent.outcome is Outcome.FAILURE
    late = record_of(task, Says(calls("list_tables"), calls("nothing_of_the_kind"), says("No tool.")))
    assert (late.outcome, late.metadata.model_extra and late.metadata.model_extra["score"]) == (Outcome.PARTIAL, 1 / 3)


def test_a_call_where_none_fits_is_advised_against() -> None:
    task = task_of("no-tool-act")
    record = record_of(task, Says(calls("list_tables"), says("Done.")), advise=True)
    [advice] = record.metadata.advice
    assert (advice.step, advice.command, advice.answer) == (0, None, "No tool can do that.")
    [pair] = list(trajectory_to_pairs(record))
    assert isinstance(pair, PreferencePair)
    assert pair.chosen[0].content == "No tool can do that." and pair.rejected[0].tool_calls


def test_turns_with_several_calls_are_what_the_expert_would_do() -> None:
    records = list(run_tasks(Expert(), OTHER.tasks("train", 96, 8), label="x", max_steps=40, advise=True))
    assert all(record.outcome is Outcome.SUCCESS and record.metadata.advice == [] for record in records)
    sizes = {sum(action.turn == turn for action in record.action_sequence) for record in records for turn in (1, 2)}
    assert 6 in sizes  # one turn of a twelve-call task


def test_instructions_do_not_tell_whether_a_tool_fits() -> None:
    """Every task says what to do where none fits, and the tools of the others are there too."""
    for task in OTHER.tasks("test", 190, 5):
        assert task.instruction.endswith(('answer "no tool".', "답하세요.")), task
        names = {tool.function.name for tool in task.tools}
        assert {"save_note", "delete_note"} < names
    shared = [set(family.tools) for family in FAMILIES if family.tier]
    for family in FAMILIES:
        if not family.tier:
            assert any(set(family.tools) & tools >= {"look_up", "save_note"} for tools in shared)


def test_a_fact_is_used_as_far_back_as_the_tier_says() -> None:
    for size in (512, 8192):
        found = (task for task in OTHER.tasks("train", 2000, 9) if task.context_tokens == size)
        task = next(found)
        record = record_of(replace(task, faults=(), facts={"number": task.facts["number"]}))
        length = kpis([record])["retention_tokens"].value
        assert length is not None and 0.98 * size < length < 1.02 * size + 100


# Policies.


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "expert"])
def test_trivial_policies_win_nothing_but_what_needs_no_tool(name: str) -> None:
    records = list(run_tasks(policy_named(name), OTHER.tasks("test", 190, 2), label=name, max_steps=4))
    won = Counter(record.metadata.model_extra["task"]["family"] for record in records if record.outcome == "success")  # type: ignore[index]
    assert won == (Counter({"no-tool-act": 10, "no-tool-question": 10}) if name == "say-no-tool" else Counter())


def test_guessing_wins_nothing() -> None:
    """Random tools with words of the instruction, then a claim."""
    won = 0
    for task in OTHER.tasks("test", 190, 6):
        chance = random.Random(task.id)
        words = task.instruction.replace('"', " ").split()
        with OtherWorld(task) as world:
            for _ in range(6):
                spec = chance.choice(task.tools).function
                properties: Any = spec.parameters["properties"]
                world.call(spec.name, {name: chance.choice(words) for name in properties})
            world.answer("Done.")
            won += world.verdict().outcome is Outcome.SUCCESS
    assert won == 0
