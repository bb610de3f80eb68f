"""BFCL: our scorer by hand, against the package's own checker where that is installed, and the command on questions of ours."""

from __future__ import annotations

import copy
import importlib
import json
import random
import sys
import types
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.agent.episodes import Episode, Turn, Unreadable
from benchmark.agent.transformers_model import TransformersPolicy
from benchmark.bfcl.questions import (
    CATEGORIES,
    Gold,
    Item,
    PredictedCall,
    Prediction,
    argument_f1,
    argument_is_right,
    calls_are_right,
    find_data,
    read_items,
    read_predictions,
    score_items,
    silence,
)
from benchmark.bfcl.run import Question, answer_all, ask, bfcl_command
from core.command_line import run_command
from core.errors import UserError
from data.chats import Message, ToolCall

# ---- questions of ours ----


def function(name: str, required: Sequence[str] = (), **properties: Any) -> dict[str, Any]:
    return {
        "name": name,
        "description": f"Does {name}.",
        "parameters": {"type": "dict", "properties": properties, "required": list(required)},
    }


TEXT, WHOLE, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "float"}
TEXTS = {"type": "array", "items": {"type": "string"}}
POINT = {"type": "tuple", "items": {"type": "float"}}
SIZE = {"type": "dict", "properties": {"wide": {"type": "integer"}, "unit": {"type": "string"}}}
SIZES = {"type": "array", "items": {"type": "dict"}}
PLAY = function("music.play", ["song"], song=TEXT, volume=WHOLE)
STOP = function("music_stop")
TRAIN = function("train.book", ["to", "seats"], to=TEXT, seats=WHOLE, when=TEXT)

QUESTIONS: dict[str, list[tuple[str, str | None, list[dict[str, Any]], list[dict[str, Any]] | None]]] = {
    "simple_python": [
        ("simple_0", "Play Arirang.", [PLAY], [{"music.play": {"song": ["Arirang"], "volume": ["", 5]}}]),
        ("simple_1", "아리랑 틀어 줘.", [PLAY], [{"music.play": {"song": ["아리랑", "정선 아리랑"], "volume": [""]}}]),
    ],
    "multiple": [
        ("multiple_0", "Two seats to Busan.", [PLAY, STOP, TRAIN],
         [{"train.book": {"to": ["Busan", "부산"], "seats": [2], "when": ["", "today"]}}]),
    ],
    "parallel": [
        ("parallel_0", "부산 두 자리, 서울 한 자리.", [TRAIN],
         [{"train.book": {"to": ["부산"], "seats": [2], "when": [""]}},
          {"train.book": {"to": ["서울"], "seats": [1], "when": [""]}}]),
    ],
    "irrelevance": [("irrelevance_0", "What is 2 + 2?", [PLAY], None), ("irrelevance_1", "오늘 며칠이야?", [TRAIN], None)],
    "live_relevance": [("live_relevance_0", "Make it quiet.", [PLAY, STOP], None)],
}  # fmt: skip


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """A folder in the layout of the package's data."""
    folder = tmp_path / "data"
    (folder / "possible_answer").mkdir(parents=True)
    for category, rows in QUESTIONS.items():
        name = f"BFCL_v4_{category}.json"
        lines = [
            {"id": id, "question": [[{"role": "user", "content": text}]], "function": functions}
            for id, text, functions, _ in rows
        ]
        write(folder / name, lines)
        if rows[0][3] is not None:
            write(folder / "possible_answer" / name, [{"id": id, "ground_truth": gold} for id, _, _, gold in rows])
    return folder


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def called(name: str, /, **arguments: Any) -> PredictedCall:
    return PredictedCall(name=name, arguments=arguments)


# ---- the rules, by hand ----


@pytest.mark.parametrize(
    ("parameter", "allowed", "right", "wrong"),
    [
        (TEXT, ["New York, NY"], ["new york ny", "New-York_NY", "NEW YORK. NY"], ["New York", "", None, 5, ["New York"]]),
        (TEXT, ["it's"], ['it"s', "It's"], ["its"]),
        (TEXT, ["서울역"], ["서울역", "서울 역", "서울-역"], ["부산역", "서울"]),
        (TEXT, ["x", ""], ["x", ""], ["y"]),
        (TEXT, [None, ""], [None, ""], ["None"]),
        (WHOLE, [5], [5], [5.0, "5", True, 6, [5]]),
        (WHOLE, ["n"], ["n"], ["N", 5]),  # a variable's name, letter by letter
        (NUMBER, [5.0], [5.0, 5], ["5", 5.1, True, 10**400]),
        (NUMBER, [5], [5.0, 5], [4, True]),
        ({"type": "boolean"}, [True], [True], [1, "true", False]),
        ({"type": "any"}, ["my_data"], ["my_data", "My Data"], [1, ["my_data"]]),
        (TEXTS, [["A b", "c"]], [["A b", "c"], ["ab", "C"]], [["c", "A b"], ["A b"], [], "A b", ["A b", 5]]),
        (TEXTS, [["a"], ""], [["a"], []], [["b"], [1]]),  # what may be left out may be empty
        (POINT, [[1.0, 2.5]], [[1.0, 2.5]], [[1, 2.5], [2.5, 1.0]]),  # whole numbers are no floats inside a list
        (SIZE, [{"wide": [3], "unit": ["cm", ""]}],
         [{"wide": 3}, {"wide": 3, "unit": "CM"}], [{}, {"unit": "cm"}, {"wide": 4}, {"wide": 3, "x": 1}, "wide"]),
        (SIZES, [[{"wide": [3]}, {"wide": [4]}]],
         [[{"wide": 3}, {"wide": 4}]], [[{"wide": 4}, {"wide": 3}], [{"wide": 3}], ["wide", "wide"], {"wide": 3}]),
    ],
)  # fmt: skip
def test_values_by_hand(parameter: Any, allowed: list[Any], right: list[Any], wrong: list[Any]) -> None:
    gold = Gold("f", {"x": parameter}, [], {"x": allowed})
    assert [value for value in right if not argument_is_right("x", value, gold)] == []
    assert [value for value in wrong if argument_is_right("x", value, gold)] == []
    assert not argument_is_right("y", right[0], gold)


def test_calls_by_hand(questions: Path) -> None:
    [simple, _, multiple, parallel] = read_items(questions, ["simple_python", "multiple", "parallel"])
    assert simple.gold and multiple.gold and parallel.gold
    fits = called("music.play", song="arirang", volume=5)
    assert calls_are_right([fits], simple.gold) and calls_are_right([called("music.play", song="Arirang")], simple.gold)
    for wrong in (
        [],
        [fits, fits],
        [called("music_play", song="Arirang")],
        [called("music.play", volume=5)],
        [called("music.play", song="Arirang", volume=6)],
        [called("music.play", song="Arirang", 곡="아리랑")],
    ):
        assert not calls_are_right(wrong, simple.gold)
    assert calls_are_right([called("train.book", to="부산", seats=2)], multiple.gold)
    assert not calls_are_right([called("music.play", to="부산", seats=2)], multiple.gold)
    busan, seoul = called("train.book", to="부산", seats=2), called("train.book", to="서울", seats=1)
    assert calls_are_right([busan, seoul], parallel.gold) and calls_are_right([seoul, busan], parallel.gold)
    assert not calls_are_right([busan, busan], parallel.gold)
    assert not calls_are_right([busan, called("train.book", to="서울", seats=2)], parallel.gold)


def test_equal_in_python_is_not_the_same_call() -> None:
    """True == 1, so a call that is taken must be taken out by its place."""
    number, truth = {"type": "integer"}, {"type": "boolean"}
    wanted = [Gold("f", {"x": number}, ["x"], {"x": [1]}), Gold("f", {"x": truth}, ["x"], {"x": [True]})]
    for calls in ([called("f", x=1), called("f", x=True)], [called("f", x=True), called("f", x=1)]):
        assert calls_are_right(calls, wanted) and argument_f1(calls, wanted) == 1.0


@pytest.mark.parametrize(
    ("calls", "f1"),
    [
        ([("train.book", {"to": "부산", "seats": 2}), ("train.book", {"to": "서울", "seats": 1})], 1.0),
        ([("train.book", {"to": "서울", "seats": 1}), ("train.book", {"to": "부산", "seats": 2})], 1.0),
        ([("train.book", {"to": "부산", "seats": 1}), ("train.book", {"to": "서울", "seats": 1})], 2 * 3 / (4 + 4)),
        ([("train.book", {"to": "부산", "seats": 2})], 2 * 2 / (2 + 4)),
        ([("train.book", {"to": "부산", "seats": 2, "x": 1})], 2 * 2 / (3 + 4)),
        ([("music.play", {"to": "부산", "seats": 2})], 0.0),  # right values of the wrong tool
        ([], 0.0),
    ],
)
def test_argument_f1_by_hand(questions: Path, calls: list[Any], f1: float) -> None:
    [parallel] = read_items(questions, ["parallel"])
    assert parallel.gold
    assert argument_f1([called(name, **arguments) for name, arguments in calls], parallel.gold) == pytest.approx(f1)


def test_argument_f1_of_calls_without_arguments() -> None:
    wanted = [Gold("f", {}, [], {})]
    assert argument_f1([called("f")], wanted) == 1.0
    assert (
        argument_f1([], wanted) == argument_f1([called("g")], wanted) == argument_f1([called("f")] * 2, wanted) == 0.0
    )


VALUES = st.sampled_from(["부산", "서울", "부 산", 1, 2, 2.0, True, None, [], {}])
CALLS = st.lists(
    st.builds(
        PredictedCall,
        name=st.sampled_from(["train.book", "train_book", "music.play"]),
        arguments=st.dictionaries(st.sampled_from(["to", "seats", "when", "x"]), VALUES, max_size=3),
    ),
    max_size=4,
)
PARALLEL = (
    Gold(
        "train.book", TRAIN["parameters"]["properties"], ["to", "seats"], {"to": ["부산"], "seats": [2], "when": [""]}
    ),
    Gold(
        "train.book",
        TRAIN["parameters"]["properties"],
        ["to", "seats"],
        {"to": ["서울"], "seats": [1, 2], "when": [""]},
    ),
)


@settings(max_examples=150, deadline=None)
@given(CALLS)
def test_f1_lies_between_0_and_1_and_is_1_for_right_calls(calls: list[PredictedCall]) -> None:
    f1 = argument_f1(calls, PARALLEL)
    assert 0.0 <= f1 <= 1.0
    assert f1 == pytest.approx(other_f1(calls, PARALLEL))
    if calls_are_right(calls, PARALLEL):
        assert f1 == 1.0
    assert calls_are_right(calls, PARALLEL) or len(calls) != len(PARALLEL) or f1 < 1.0


def other_f1(calls: Sequence[PredictedCall], wanted: Sequence[Gold]) -> float:
    """docs/bfcl.md read literally, from lists of pairs instead of counts."""
    free = dict(enumerate(calls))
    hits: list[tuple[int, str]] = []
    due: list[tuple[int, str]] = []
    for number, gold in enumerate(wanted):
        needed = set(gold.required) | {name for name, values in gold.allowed.items() if "" not in values}
        best: tuple[float, int | None, set[str]] = (-1.0, None, set())
        for place, call in free.items():
            if call.name == gold.name:
                right = {name for name in call.arguments if argument_is_right(name, call.arguments[name], gold)}
                own = 2 * len(right) / ((len(call.arguments) + len(needed | right)) or 1)
                own = own if call.arguments or needed else 1.0
                best = max(best, (own, place, right), key=lambda found: found[0])
        if best[1] is not None:
            del free[best[1]]
        hits += [(number, name) for name in best[2]]
        due += [(number, name) for name in needed | best[2]]
    said = sum(len(call.arguments) for call in calls)
    return 2 * len(hits) / (said + len(due)) if said + len(due) else float(not free and len(calls) == len(wanted))


# ---- questions as a model sees them ----


def test_types_become_json_schema_and_dots_go_and_come_back(questions: Path) -> None:
    write(
        questions / "BFCL_v4_irrelevance.json",
        [{"id": "irrelevance_0", "question": [[{"role": "system", "content": "짧게."}, {"role": "user", "content": "?"}]],
          "function": [
              function("a.b", x=TEXT, size=SIZE, at=POINT, what={"type": "any"}, n=NUMBER, all=SIZES | {"items": SIZE}),
              function("a_b", x=TEXT), function("가.나", x=TEXT)]}],
    )  # fmt: skip
    [item] = read_items(questions, ["irrelevance"])
    assert [message.role for message in item.messages] == ["system", "user"]
    assert item.names == {"a_b_": "a.b", "a_b": "a_b", "가_나": "가.나"}
    assert [tool.function.name for tool in item.tools] == list(item.names)
    parameters: Any = item.tools[0].function.parameters
    assert parameters["type"] == "object"
    size = {"type": "object", "properties": {"wide": {"type": "integer"}, "unit": {"type": "string"}}}
    assert parameters["properties"] == {
        "x": {"type": "string"},
        "size": size,
        "at": {"type": "array", "items": {"type": "number"}},
        "what": {},
        "n": {"type": "number"},
        "all": {"type": "array", "items": size},
    }


class Scripted:
    """A policy that asks a function, remembers whom it was asked about, and may think twice."""

    def __init__(self, says: Callable[[Question], Turn | None]) -> None:
        self.says = says
        self.asked: list[str] = []
        self.forgotten: list[str] = []

    def act(self, episodes: Sequence[Episode]) -> list[Turn | None]:
        self.asked += [episode.task.id for episode in episodes]
        assert all(isinstance(episode, Question) for episode in episodes)
        return [self.says(episode) for episode in episodes if isinstance(episode, Question)]

    def forget(self, episode: Episode) -> None:
        self.forgotten.append(episode.task.id)


def gold_turn(question: Question) -> Turn:
    """The gold calls, under the names that the model is shown."""
    item = question.item
    assert question.messages == list(item.messages) and question.task.tools == item.tools
    if item.gold is None:
        return Message(role="assistant", content="도구가 없습니다.")
    shown = {name: shown for shown, name in item.names.items()}
    return Message(
        role="assistant",
        tool_calls=tuple(
            ToolCall(
                id=f"call_{place}",
                name=shown[gold.name],
                arguments={name: values[0] for name, values in gold.allowed.items() if "" not in values},
            )
            for place, gold in enumerate(item.gold)
        ),
    )


def test_the_calls_of_a_policy_are_scored_under_the_datas_own_names(questions: Path) -> None:
    items = read_items(questions, [category for category in QUESTIONS if category != "live_relevance"])
    waits = {items[0].id}
    policy = Scripted(
        lambda question: None if waits.discard(question.item.id) or question.item.id in waits else gold_turn(question)
    )
    said = {prediction.id: prediction for prediction in ask(policy, items, live=2)}
    assert all(of["strict"].value == 1.0 for of in score_items(items, said).values())
    assert said["simple_0"].calls == (called("music.play", song="Arirang"),)
    assert sorted(policy.forgotten) == sorted(item.id for item in items)


def test_a_silent_model_is_right_only_where_no_call_is_wanted(questions: Path) -> None:
    items = read_items(questions, list(QUESTIONS))
    found = score_items(items, silence(items))
    assert {name: of["strict"].value for name, of in found.items()} == {
        **{"simple_python": 0, "multiple": 0, "parallel": 0, "irrelevance": 1, "live_relevance": 0},
        **{"all that want calls": 0, "all that want none": 1},
    }
    assert found["all that want calls"]["strict"].n == 5 and found["all that want none"]["strict"].n == 2
    assert all(of["called"].value == 0 and of["parsed"].value == 1 for of in found.values())
    for name in ("irrelevance", "live_relevance"):
        assert found[name]["argument_f1"].value is None and found[name]["right_names"].n == 0


def test_an_unreadable_turn_is_no_call(questions: Path) -> None:
    items = read_items(questions, ["irrelevance", "live_relevance"])
    said = {item.id: Prediction(id=item.id, unreadable="no end", text="<tool_call>") for item in items}
    found = score_items(items, said)
    assert found["irrelevance"]["strict"].value == 1 and found["irrelevance"]["parsed"].value == 0
    assert found["live_relevance"]["strict"].value == 0


def test_a_run_that_was_broken_off_goes_on(questions: Path, tmp_path: Path) -> None:
    items = read_items(questions, list(QUESTIONS))
    path = tmp_path / "out" / "predictions.jsonl"

    def dies_at_third(question: Question) -> Turn:
        if len(first.asked) == 3:
            raise KeyboardInterrupt
        return gold_turn(question)

    first = Scripted(dies_at_third)
    with pytest.raises(KeyboardInterrupt):
        answer_all(first, items, path, run="a", live=1)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2
    with open(path, "a", encoding="utf-8") as file:
        file.write(f'{{"id": "{first.asked[2]}", "calls": [{{"na')  # killed while writing
    second = Scripted(gold_turn)
    found = answer_all(second, items, path, run="a", live=3)
    assert sorted(first.asked[:2] + second.asked) == sorted(found) == sorted(item.id for item in items)
    whole = tmp_path / "whole.jsonl"
    answer_all(Scripted(gold_turn), items, whole, run="a", live=3)
    assert sorted(path.read_text(encoding="utf-8").splitlines()) == sorted(
        whole.read_text(encoding="utf-8").splitlines()
    )
    third = Scripted(gold_turn)
    assert answer_all(third, items, path, run="a", live=3) == found and third.asked == []
    other = Scripted(gold_turn)
    answer_all(other, items[:2], path, run="another model", live=3)
    assert sorted(other.asked) == sorted(item.id for item in items[:2])
    assert {json.loads(line)["run"] for line in path.read_text(encoding="utf-8").splitlines()} == {"another model"}


def test_a_limit_takes_the_same_questions_for_everybody(questions: Path) -> None:
    row = json.loads((questions / "BFCL_v4_irrelevance.json").read_text(encoding="utf-8").splitlines()[0])
    rows = [{**row, "id": f"irrelevance_{number}"} for number in range(40)]
    write(questions / "BFCL_v4_irrelevance.json", rows)
    few = [item.id for item in read_items(questions, ["irrelevance"], limit=5)]
    write(questions / "BFCL_v4_irrelevance.json", rows[::-1])
    more = [item.id for item in read_items(questions, ["irrelevance"], limit=10)]
    assert more[:5] == few != [f"irrelevance_{number}" for number in range(5)]


def test_a_question_that_fits_no_window_is_wrong_and_stops_nothing(questions: Path, tiny_model: Path) -> None:
    policy = TransformersPolicy.from_pretrained(str(tiny_model), max_new_tokens=4, batch_size=2, window=60)
    items = read_items(questions, ["simple_python", "irrelevance"])
    said = {prediction.id: prediction for prediction in ask(policy, items, live=4)}
    assert said.keys() == {item.id for item in items}
    assert all("no room" in str(prediction.unreadable) for prediction in said.values())


# ---- the command ----

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bfcl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `python -m benchmark bfcl` in this process: exit code, standard output, standard error."""
    import typer  # noqa: PLC0415 - an app of one command, so that the tests do not depend on the others

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(bfcl_command)

    def run_here(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["benchmark bfcl", *map(str, arguments)])
        try:
            run_command(app, name="python -m benchmark bfcl")
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_here


def test_predictions_are_scored_beside_silence(questions: Path, tmp_path: Path, bfcl: Run) -> None:
    rows = [
        {"id": "simple_0", "calls": [{"name": "music.play", "arguments": {"song": "Arirang"}}]},
        {"id": "simple_1", "calls": [{"name": "music.play", "arguments": {"song": "정선아리랑", "볼륨": 3}}]},
        {"id": "irrelevance_0", "calls": [], "text": "4"},
        {"id": "irrelevance_1", "calls": [{"name": "train.book", "arguments": {}}]},
        {"id": "parallel_0", "unreadable": "the call is not JSON"},
    ]
    out = tmp_path / "mine"
    code, printed, error = bfcl(
        *("--predictions", write(tmp_path / "mine.jsonl", rows), "--data", questions),
        *("--categories", "simple_python,irrelevance", "--out", out),
    )
    assert code == 0, error
    lines = [line.split("  ") for line in printed.splitlines()]
    cells = {line[0]: [cell.strip() for cell in line if cell.strip()] for line in lines}
    assert cells["simple_python"] == [
        *("simple_python", "2", "50 % (9-91)", "0 %", "100 % (34-100)", "100 % (34-100)", "100 % (34-100)"), "83 % (67-100)",
    ]  # fmt: skip
    assert cells["irrelevance"][2:4] == ["50 % (9-91)", "100 %"]
    assert "1 predictions belong to other questions" in printed
    result = json.loads((out / "bfcl.json").read_text(encoding="utf-8"))
    assert result["scores"]["simple_python"]["argument_f1"]["value"] == pytest.approx((1 + 2 / 3) / 2)
    assert result["never_calls"]["all that want none"]["strict"]["value"] == 1.0
    assert (out / "bfcl.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_answers_and_its_run_is_reused(questions: Path, tmp_path: Path, tiny_model: Path, bfcl: Run) -> None:
    arguments = ("--model", tiny_model, "--data", questions, "--out", tmp_path / "tiny", "--max-new-tokens", 4)
    options = ("--categories", "parallel,live_relevance")
    code, printed, error = bfcl(*arguments, *options)
    assert code == 0, error
    assert "no end within 4 tokens" in printed
    before = (tmp_path / "tiny" / "predictions.jsonl").read_bytes()
    code, printed, _ = bfcl(*arguments, *options)
    assert code == 0 and "2 of 2 questions are answered already" in printed
    assert (tmp_path / "tiny" / "predictions.jsonl").read_bytes() == before


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "arguments", "message"),
    [
        (None, ["--categories", "simple_pyton"], "Did you mean 'simple_python'?"),
        (None, ["--categories", " , "], "names no category"),
        (None, ["--categories", "live_simple"], "BFCL_v4_live_simple.json: cannot be read"),
        (("BFCL_v4_multiple.json", '"type": "string"', '"type": "sting"'), [],
         "BFCL_v4_multiple.json:1: function 'music.play', parameter 'song': type is one of string, integer, float, boolean, "
         "array, tuple, dict, any, got 'sting'. Did you mean 'string'?"),
        (("BFCL_v4_multiple.json", "multiple_0", "multiple_9"), [],
         "has no answer to 'multiple_9'. Did you mean 'multiple_0'?"),
        (("possible_answer/BFCL_v4_multiple.json", "train.book", "train.look"), [],
         "BFCL_v4_multiple.json:1: a gold call of 'train.look', which is no function here. Did you mean 'train.book'?"),
        (("BFCL_v4_multiple.json", '{"type": "string"}', '{"type": ["string"]}'), [], "got ['string']"),
        (("BFCL_v4_multiple.json", "\n", '\n{"id": "multiple_0", "question": [[]], "function": []}\n'), [],
         "BFCL_v4_multiple.json:2: a second question 'multiple_0'"),
        (("BFCL_v4_parallel.json", '"role"', '"rôle"'), ["--categories", "parallel"], "BFCL_v4_parallel.json:1: question:"),
        (("../mine.jsonl", '"calls"', '"cals"'), [], "mine.jsonl:1: field 'cals' is unknown. Did you mean 'calls'?"),
        (("../mine.jsonl", "multiple_0", "multiple_o"), [],
         "1 of 1 questions have no prediction, the first is 'multiple_0'. Did you mean 'multiple_o'?"),
        (("../mine.jsonl", '"id"', "id"), [], "mine.jsonl:1: not JSON"),
        (("../mine.jsonl", "\n", '\n{"id": "multiple_0", "calls": []}\n'), [], "mine.jsonl:2: a second prediction"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(
    questions: Path, tmp_path: Path, bfcl: Run, damage: tuple[str, str, str] | None, arguments: list[str], message: str
) -> None:
    write(tmp_path / "mine.jsonl", [{"id": "multiple_0", "calls": []}])
    if damage is not None:
        changed(questions / damage[0], *damage[1:])
    code, _, error = bfcl(
        *("--predictions", tmp_path / "mine.jsonl", "--data", questions, "--categories", "multiple", *arguments)
    )
    assert code == 2 and message in error and "Traceback" not in error


def test_a_missing_package_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch, bfcl: Run) -> None:
    monkeypatch.setattr("benchmark.bfcl.questions.PACKAGE", "bfcl-eval-that-nobody-has")
    code, _, error = bfcl("--predictions", "mine.jsonl")
    assert code == 2 and "pip install --no-deps bfcl-eval==2026.3.23" in error
    assert bfcl()[0] == bfcl("--model", "x", "--predictions", "y")[0] == bfcl("--model", "x")[0] == 2


# ---- the package's own checker, on its own data ----

needs_package = pytest.mark.skipif(
    find_spec("bfcl_eval") is None, reason="bfcl-eval is not installed (docs/bfcl.md says how)"
)
WITH_ANSWERS = [category for category in CATEGORIES if not category.endswith("relevance")]
Calls = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def checker() -> Callable[..., bool]:
    """The package's `ast_checker`, with its configuration of models stubbed, because that imports every vendor's client."""
    stub = types.ModuleType("bfcl_eval.constants.model_config")
    stub.__dict__["MODEL_CONFIG_MAPPING"] = defaultdict(lambda: types.SimpleNamespace(underscore_to_dot=False))
    sys.modules[stub.__name__] = stub
    ast_checker = importlib.import_module("bfcl_eval.eval_checker.ast_eval.ast_checker").ast_checker
    python = importlib.import_module("bfcl_eval.constants.enums").Language.PYTHON

    def check(functions: Any, calls: Calls, answers: Any, category: str) -> bool:
        said = copy.deepcopy([{name: arguments} for name, arguments in calls])
        return bool(ast_checker(functions, said, answers, python, category, "stub")["valid"])

    return check


def gold_calls(answers: list[dict[str, dict[str, list[Any]]]]) -> Calls:
    """The first allowed value of each argument that has one."""
    calls: Calls = []
    for answer in answers:
        [(name, allowed)] = answer.items()
        given = {key: [value for value in values if value != ""] for key, values in allowed.items()}
        calls.append((name, {key: plain(values[0]) for key, values in given.items() if values}))
    return calls


def plain(value: Any) -> Any:
    """A gold object lists the allowed values of each key; this is one object of these."""
    if isinstance(value, dict):
        lists = {key: each if isinstance(each, list) else [each] for key, each in value.items()}
        given = {key: [each for each in values if each != ""] for key, values in lists.items()}
        return {key: plain(values[0]) for key, values in given.items() if values}
    return [plain(each) if isinstance(each, dict) else each for each in value] if isinstance(value, list) else value


ODD: tuple[Any, ...] = (
    *(None, "", [], {}, [""], [None], [{}], 0, 1, -1, 1.0, True, False, "x", [1], ["x"], [1.5], [[1]], {"a": 1}, {"a": ["x"]}),
    *("서울", ["서울"]),
)  # fmt: skip


def near(value: Any) -> Iterator[Any]:
    """Values a little beside `value`: of another type, in another spelling, with a part more or less."""
    if isinstance(value, bool | int | float):
        yield from (not value, str(value), [value], value + 1, -value, float(value), int(value))
    elif isinstance(value, str):
        yield from (value.upper(), value.replace(" ", ""), value + ".", value + "!", value[:-1], f"'{value}'", [value])
        yield {"value": value}
    elif isinstance(value, list):
        yield from (
            value[::-1],
            value[:-1],
            [*value, *value[:1]],
            [*value, None],
            [value],
            [str(each) for each in value],
        )
        for place, each in enumerate(value):
            yield from ([*value[:place], other, *value[place + 1 :]] for other in near(each))
    elif isinstance(value, dict):
        yield from ([value], {**value, "extra": 1}, {**value, "extra": ""})
        for key, each in value.items():
            yield {name: part for name, part in value.items() if name != key}
            yield from ({**value, key: other} for other in (*near(each), None, [each]))


def mutants(calls: Calls, answers: list[Any], functions: list[Any]) -> Iterator[Calls]:
    """Wrong calls, and some that are right in another way."""
    yield from ([], calls[::-1], [*calls, *calls[:1]], calls[:-1], [*calls, ("other", {})])
    for place, (name, arguments) in enumerate(calls):
        others = [
            (f"{name}x", arguments),
            (name.replace(".", "_"), arguments),
            (name, {}),
            (name, {**arguments, "값": 1}),
        ]
        others += [(each["name"], arguments) for each in functions]
        known = next((each["parameters"]["properties"] for each in functions if each["name"] == name), {})
        others += [(name, {**arguments, key: value}) for key in known if key not in arguments for value in ODD[:8]]
        for key in arguments:
            others.append((name, {each: value for each, value in arguments.items() if each != key}))
        for key, allowed in answers[place][name].items():
            values = [*allowed, *map(plain, allowed), *ODD, *near(arguments.get(key))]
            others += [(name, {**arguments, key: value}) for value in values]
        for other in others:
            yield [*calls[:place], other, *calls[place + 1 :]]


MUTANTS_OF_ITEM = 40


@needs_package
@pytest.mark.parametrize("category", WITH_ANSWERS)
def test_the_packages_own_checker_agrees(category: str, checker: Callable[..., bool]) -> None:
    data = find_data()
    items = read_items(data, [category])
    functions, answers = (
        {row["id"]: row[column] for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
        for path, column in (
            (data / f"BFCL_v4_{category}.json", "function"),
            (data / "possible_answer" / f"BFCL_v4_{category}.json", "ground_truth"),
        )
    )
    seen = Counter[bool]()
    for item in items:
        assert item.gold is not None
        calls = gold_calls(answers[item.id])
        made = list(mutants(calls, answers[item.id], functions[item.id]))
        chosen = random.Random(item.id).sample(made, min(MUTANTS_OF_ITEM, len(made)))
        for said in (calls, *chosen):
            theirs = checker(functions[item.id], said, answers[item.id], category)
            ours = calls_are_right(
                [PredictedCall(name=name, arguments=arguments) for name, arguments in said], item.gold
            )
            assert ours == theirs, (item.id, said)
            seen[ours] += 1
    assert seen[True] > len(items) and seen[False] > 10 * len(items)


CONTRADICTORY = {
    "parallel_multiple_12", "parallel_multiple_26", "live_simple_106-63-0", "live_simple_112-68-0",
    "live_multiple_507-149-4", "live_multiple_862-181-3", "live_multiple_964-207-0",
}  # fmt: skip
"""Their gold calls break their own function's definition or the checker's rules, so nobody can be right."""


@needs_package
def test_gold_calls_are_right_but_for_those_that_contradict_themselves() -> None:
    items = read_items(find_data(), CATEGORIES)
    assert len(items) == 3491
    wrong = set[str]()
    for item in items:
        if item.gold is None:
            continue
        calls = gold_calls([{gold.name: gold.allowed} for gold in item.gold])
        said = [PredictedCall(name=name, arguments=arguments) for name, arguments in calls]
        if not calls_are_right(said, item.gold):
            wrong.add(item.id)
        else:
            assert argument_f1(said, item.gold) == 1.0
    assert wrong == CONTRADICTORY


@needs_package
def test_every_question_can_be_asked(tmp_path: Path) -> None:
    items = read_items(find_data(), CATEGORIES)
    assert all(item.messages for item in items)
    assert {item.category for item in items if not item.tools} == {"live_irrelevance"}
    assert len({item.id for item in items}) == len(items)
    found = score_items(items, silence(items))
    assert found["all that want none"]["strict"].n == 240 + 884 and found["all that want calls"]["strict"].value == 0
    path = write(tmp_path / "said.jsonl", [{"id": item.id} for item in items])
    assert read_predictions(path, items) == (silence(items), 0)


def test_no_item_is_asked_twice(questions: Path) -> None:
    items: list[Item] = read_items(questions, list(QUESTIONS))
    policy = Scripted(lambda question: Unreadable("", "no"))
    assert [prediction.id for prediction in ask(policy, items, live=3)] == [item.id for item in items] == policy.asked


def test_two_answers_cannot_be_given(questions: Path, tmp_path: Path) -> None:
    items = read_items(questions, ["multiple"])
    rows = [{"id": "multiple_0", "calls": [{"name": "f", "arguments": {}}], "unreadable": "x"}]
    with pytest.raises(UserError, match="a turn that could not be read holds no calls"):
        read_predictions(write(tmp_path / "said.jsonl", rows), items)
