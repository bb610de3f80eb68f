"""Decontamination: planted leaks are found in any disguise that keeps the words; what is shared by design is not."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmark.__main__ import app as benchmark_app
from core.errors import UserError
from data.curation.contamination import Decontaminate, Reference
from data.curation.rows import record_to_row, value_to_record
from data.curation.text import Words
from data.records import read_trajectories
from support.curation_rows import chat, pair, run_steps, trajectory, write_rows

QUESTION = (
    "A farmer has 17 sheep, sells 5 of them at the market on Monday and buys twice as many goats as he has sheep left; "
    "how many animals are there?"
)
KOREAN = (
    "농부가 양 열일곱 마리를 기르다가 월요일 시장에서 다섯 마리를 팔고 "
    "남은 양의 두 배만큼 염소를 샀다면 동물은 모두 몇 마리인가요?"
)
WORDS = ("the", "quick", "빠른", "갈색여우", "fox7", "jumps", "Über", "naïve", "42", "über")


def matches(reference: Path, row: dict[str, Any], **options: Any) -> Any:
    index = Reference(Decontaminate(against=[str(reference)], **options))
    return index.match(record_to_row(value_to_record(row)))


def asked(text: str, **options: Any) -> dict[str, Any]:
    return chat(("user", text), ("assistant", "Let me see."), **options)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "test.jsonl", [{"id": "q1", "question": QUESTION}, {"id": "q2", "question": KOREAN}])


DISGUISES = {
    "as it is": lambda text: text,
    "shouting": str.upper,
    "white space": lambda text: text.replace(" ", " \n\t "),
    "non-breaking and zero-width": lambda text: text.replace(" ", "\u00a0\u200b"),
    "without punctuation": lambda text: "".join(c for c in text if c.isalnum() or c == " "),
    "more punctuation": lambda text: text.replace(" ", ", "),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "full width": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "inside other text": lambda text: f"Think of this. {text} Thank you!",
    "cut at both ends": lambda text: text[text.index(" ") + 1 : text.rindex(" ")],
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("question", [QUESTION, KOREAN])
def test_prose_is_found_in_each_disguise(questions: Path, question: str, disguise: str) -> None:
    match = matches(questions, asked(DISGUISES[disguise](question)))
    assert match is not None
    assert match.reason == "prose of a test"
    assert match.reference == ("q1" if question is QUESTION else "q2")
    assert len(match.text.split()) >= 13


def test_korean_is_found_wherever_its_spaces_stand(questions: Path) -> None:
    assert matches(questions, asked(KOREAN.replace(" ", ""))) is not None
    assert matches(questions, asked(" ".join(KOREAN))) is not None


@given(
    st.lists(st.sampled_from(WORDS), min_size=14, max_size=30),
    st.lists(st.sampled_from([" ", "\n", " - ", "... ", "\t", "\u3000"]), min_size=30, max_size=30),
)
def test_windows_depend_on_words_alone(found: list[str], gaps: list[str]) -> None:
    plain = Words(" ".join(found))
    other = Words("".join(word.upper() + gap for word, gap in zip(found, gaps, strict=False)))
    assert plain.words == other.words
    cut = plain.windows(5)
    assert cut.hashes.tolist() == other.windows(5).hashes.tolist()
    texts = [tuple(plain.words[start:end]) for start, end in zip(cut.starts, cut.ends, strict=True)]
    assert len(set(texts)) == len(set(cut.hashes.tolist()))  # equal hashes exactly where the words are equal


def test_leaks_are_found_in_tool_results_reasoning_pairs_and_trajectories(questions: Path) -> None:
    in_result = chat(("user", "Read it."), ("call", "read", {"path": "a"}, QUESTION), ("assistant", "I read it."))
    in_rejected = pair([("user", "Hello there")], [("assistant", "Hi!")], [("assistant", QUESTION)])
    in_trajectory = trajectory(QUESTION, ("count", {"what": "animals"}, "36"))
    thought = asked("Hm.")
    thought["messages"][1]["reasoning_content"] = QUESTION
    for row in (in_result, in_rejected, in_trajectory, thought):
        assert matches(questions, row) is not None


def test_system_prompts_and_tools_do_not_count(tmp_path: Path) -> None:
    system = (
        "You are a careful assistant that solves each task with the tools it has been given and copies names exactly."
    )
    tools = [{"type": "function", "function": {"name": "read_file", "description": system}}]
    test = {**chat(("system", system), ("user", QUESTION), ("assistant", "36")), "tools": tools}
    reference = write_rows(tmp_path / "test.jsonl", [test])
    other = {**chat(("system", system), ("user", "Read a.txt."), ("assistant", "It is empty.")), "tools": tools}
    assert matches(reference, other) is None


def test_a_call_is_found_in_any_order_of_keys_and_any_case(tmp_path: Path) -> None:
    call = {"city": "Busan", "days": 3, "options": {"unit": "celsius", "wind": True}}
    reference = write_rows(
        tmp_path / "test.jsonl",
        [chat(("user", "Weather?"), ("call", "get_forecast", call, "sunny"), ("assistant", "Sunny."))],
    )
    turned = {"options": {"wind": True, "unit": "Celsius"}, "days": "3", "city": "BUSAN "}
    match = matches(
        reference, chat(("user", "How is it?"), ("call", "get_forecast", turned, "x"), ("assistant", "Fine."))
    )
    assert match is not None
    assert match.reason == "call of a test"
    for other in ({**call, "city": "Seoul"}, {**call, "days": 4}, {"city": "Busan"}):
        assert (
            matches(reference, chat(("user", "How?"), ("call", "get_forecast", other, "x"), ("assistant", "Fine.")))
            is None
        )


def test_calls_in_foreign_formats_are_read(tmp_path: Path) -> None:
    function = {"name": "book_table", "arguments": json.dumps({"people": 4, "where": "Café Luna", "when": "19:30"})}
    reference = write_rows(tmp_path / "test.jsonl", [{"question": "Book.", "tool_calls": [{"function": function}]}])
    call = ("call", "book_table", {"when": "19:30", "where": "Cafe\u0301 Luna", "people": 4}, "ok")
    assert matches(reference, chat(("user", "Go."), call, ("assistant", "Booked."))) is not None


def test_eight_words_of_a_short_call_are_enough(tmp_path: Path) -> None:
    text = "Dear Anna, the meeting moves to Thursday at nine in room five."
    reference = write_rows(
        tmp_path / "test.jsonl", [chat(("user", "Mail."), ("call", "send_mail", {"to": "anna", "text": text}, "ok"))]
    )
    row = chat(("user", "Mail."), ("call", "send_mail", {"text": text.lower(), "to": "bob", "cc": "eve"}, "ok"))
    match = matches(reference, row)
    assert match is not None
    assert match.reason == "words of a test's call"


def test_calls_that_say_little_are_no_sign(tmp_path: Path) -> None:
    reference = write_rows(
        tmp_path / "test.jsonl",
        [chat(("user", "List."), ("call", "list_folder", {"path": "src"}, "a"), ("assistant", "a"))],
    )
    assert matches(reference, chat(("user", "Look."), ("call", "list_folder", {"path": "src"}, "b"))) is None


def test_a_sentence_of_many_tests_is_a_template(tmp_path: Path) -> None:
    frame = "Please answer the following question in one short sentence and do not explain how you found it: {}"
    reference = write_rows(
        tmp_path / "test.jsonl", [{"question": frame.format(word)} for word in ("one", "two", "three", "four")]
    )
    assert matches(reference, asked(frame.format("five"))) is None
    assert matches(reference, asked(frame.format("five")), common=4) is not None
    sure = write_rows(tmp_path / "few.jsonl", [{"question": frame.format("one")}])
    assert matches(sure, asked(frame.format("five"))) is not None
    assert matches(sure, asked(frame.format("five")), ignore=[frame.format("")]) is None


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The test tasks as `benchmark tasks` writes them, and records of training tasks and of these very tasks."""
    folder = tmp_path_factory.mktemp("tasks")
    files = {name: folder / f"{name}.jsonl" for name in ("tasks", "train", "test")}
    options = {
        "tasks": ["tasks", "--count", "60", "--seed", "1"],
        "train": ["record", "--split", "train", "--count", "240", "--seed", "3", "--freeze-clock"],
        "test": ["record", "--split", "test", "--count", "60", "--seed", "1", "--freeze-clock"],
    }
    for name, arguments in options.items():
        result = CliRunner().invoke(benchmark_app, [*arguments, "--out", str(files[name])])
        assert result.exit_code == 0, result.output
    return files


def test_records_of_training_tasks_raise_no_alarm(tmp_path: Path, tasks: dict[str, Path]) -> None:
    rows = tasks["train"].read_text(encoding="utf-8").splitlines()
    for against in ("tasks", "test"):
        kept, _, _ = run_steps(tmp_path, rows, {"step": "decontaminate", "against": [str(tasks[against])]})
        assert len(kept) > 0.995 * len(rows)


def test_records_of_test_tasks_are_all_found(tasks: dict[str, Path]) -> None:
    index = Reference(Decontaminate(against=[str(tasks["tasks"])]))
    assert all(index.match(record_to_row(record)) for record in read_trajectories(tasks["test"]))


def test_the_solution_of_a_test_task_is_found_without_its_request(tasks: dict[str, Path]) -> None:
    index = Reference(Decontaminate(against=[str(tasks["tasks"])]))
    found = checked = 0
    for record in read_trajectories(tasks["test"]):
        calls = [
            ("call", action.command, dict(reversed(list(action.input.items()))), "ok")
            for action in record.action_sequence
            if isinstance(action.input, dict) and len(action.input) >= 2
        ]
        # In other worlds a solution holds values that must be found out, and a careless run wrong ones; no task names them.
        is_solution = (record.metadata.model_extra or {})["policy"] == "expert"
        if calls and is_solution and record.environment.name in ("files", "api"):
            checked += 1
            row = chat(("user", "Do what I said."), *calls, ("assistant", "Done."))
            found += index.match(record_to_row(value_to_record(row))) is not None
    assert checked >= 15
    assert found >= 0.8 * checked


def test_records_of_test_tasks_as_reference_bring_their_calls(tmp_path: Path, tasks: dict[str, Path]) -> None:
    index = Reference(Decontaminate(against=[str(tasks["test"])]))
    for record in read_trajectories(tasks["test"]):
        calls = [("call", action.command, action.input, "ok") for action in record.action_sequence]
        long = [name for _, name, arguments, _ in calls if len(arguments) >= 2 and len(json.dumps(arguments)) > 60]
        row = chat(("user", "Do what I said."), *calls, ("assistant", "Done."))
        assert not long or index.match(record_to_row(value_to_record(row))), record.id


def test_leaked_requests_are_found_inside_other_words(tmp_path: Path, tasks: dict[str, Path]) -> None:
    randomness = random.Random(3)
    instructions = [json.loads(line)["instruction"] for line in tasks["tasks"].read_text(encoding="utf-8").splitlines()]
    leaks = [asked(f"First: {text.upper()}  And then rest.", id=f"leak-{n}") for n, text in enumerate(instructions)]
    clean = [json.loads(line) for line in tasks["train"].read_text(encoding="utf-8").splitlines()]
    rows = [*leaks, *clean]
    randomness.shuffle(rows)
    _, dropped, _ = run_steps(tmp_path, rows, {"step": "decontaminate", "against": [str(tasks["tasks"])]})
    found = {entry["row"]["id"] for entry in dropped}
    # Requests of three or four words are looked for as whole messages only.
    long_enough = {row["id"] for row, text in zip(leaks, instructions, strict=True) if Words(text).size >= 5}
    assert long_enough <= found <= {row["id"] for row in leaks}
    assert len(long_enough) > 50


def test_a_broken_reference_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "test.jsonl"
    broken.write_text('{"id": 1}\n[1, 2]\n', encoding="utf-8")
    with pytest.raises(
        UserError, match=r"steps\.0 \(decontaminate\).*test\.jsonl:2: a reference is a JSON object, got list"
    ):
        run_steps(tmp_path, [asked("Hi")], {"step": "decontaminate", "against": [str(broken)]})
    with pytest.raises(UserError, match="cannot be read"):
        run_steps(tmp_path, [asked("Hi")], {"step": "decontaminate", "against": [str(tmp_path / "none.jsonl")]})
