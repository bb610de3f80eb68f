"""Rule filters: each finds what it is for, names the text, and lets neighbours of it pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from data.curation.pipeline import CurateConfig, curate
from support.curation_rows import chat, pair, read_rows, run_steps, trajectory, write_rows

GOOD = chat(
    ("user", "Move a.txt to b."), ("call", "move", {"from": "a.txt"}, "ok"), ("assistant", "I moved it."), id="good"
)


def dropped_for(folder: Path, row: Any, **options: Any) -> tuple[str, str] | None:
    """(reason, text) for which a row is dropped, or None where it is kept; a good row stands beside it."""
    kept, dropped, _ = run_steps(folder, [GOOD, row], {"step": "filter", **options})
    assert GOOD in kept
    return (dropped[0]["reason"], dropped[0].get("text", "")) if dropped else None


LOOP = [("call", "list_folder", {"path": "a"}, "empty")] * 4
BAD = [
    ("refusal", "can't assist with", chat(("user", "Do it."), ("assistant", "I’m sorry, but I can’t  assist with that."))),
    ("refusal", "도와드릴 수 없습니다", chat(("user", "해 줘."), ("assistant", "죄송하지만 그 일은 도와드릴 수 없습니다."))),
    ("refusal", "도와드릴수없습니다", chat(("user", "해 줘."), ("assistant", "죄송하지만 도와드릴수없습니다."))),
    ("refusal", "도와 드릴 수가 없어요", chat(("user", "해 줘."), ("assistant", "미안하지만 도와 드릴 수가 없어요."))),
    ("AI boilerplate", "as an ai language model", chat(("user", "Hi"), ("assistant", "Well. As an AI language model I ..."))),
    ("AI boilerplate", "언어 모델로서", chat(("user", "안녕"), ("assistant", "저는 AI 언어 모델로서 의견이 없습니다."))),
    ("empty turn", "", chat(("user", "Hi"), ("assistant", "  \n"))),
    ("empty user turn", "", chat(("user", " "), ("assistant", "Hello!"))),
    ("repeated call", '4 x list_folder {"path": "a"}', chat(("user", "Look."), *LOOP, ("assistant", "It is empty."))),
    ("repeated text", "50 x i will try again now", chat(("user", "Go."), ("assistant", "I will try again now. " * 50))),
    ("repeated text", "하하하", chat(("user", "웃어."), ("assistant", "하" * 60))),
    ("garbled text", "\ufffd", chat(("user", "Read it."), ("assistant", "The caf\ufffd\ufffd is \ufffd\ufffdpen."))),
    ("unbalanced calls", "<tool_call>", chat(("user", "Go."), ("assistant", '<tool_call>{"name": "x"'))),
    ("empty user turn", "", trajectory("", ("list_folder", {"path": "a"}, "x"))),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "text", "row"), BAD)
def test_a_bad_row_is_dropped_and_the_text_that_triggered_it_is_named(
    tmp_path: Path, reason: str, text: str, row: Any
) -> None:
    found = dropped_for(tmp_path, row)
    assert found is not None
    assert found[0] == reason
    assert text in found[1]


POLL = [("call", "get_status", {"job": 7}, f"{share} % done") for share in (10, 40, 70, 90, 100)]
FINE = [
    # Somebody else speaks of refusals, or a tool refuses.
    chat(("user", "Why do models say: I cannot assist with that?"), ("assistant", "They were trained to.")),
    chat(("user", "Open it."), ("call", "open", {"path": "a"}, "I cannot help with that, as an AI language model"),
         ("assistant", "It could not be opened.")),
    chat(("user", "왜 \"도와드릴 수 없습니다\"라고 해?"), ("assistant", "그렇게 배웠기 때문입니다.")),
    # The assistant quotes one, or writes one into code.
    chat(("user", "What did it say?"), ("assistant", 'It answered "I cannot assist with that" and stopped.')),
    chat(("user", "Write a filter."), ("assistant", "```python\nBAD = ['as an AI language model']\n```\nDone.")),
    # It says what it could not do, and does the work.
    chat(("user", "Read a.txt."), ("assistant", "I cannot find a.txt, so I read b.txt: it is empty.")),
    # A refusal is what is rejected, and words of weight 0 are not learned.
    pair([("user", "Delete a.txt.")], [("call", "delete", {"path": "a.txt"}, None)],
         [("assistant", "I cannot assist with that.")]),
    {**chat(("user", "Hi"), ("assistant", "Hello!")), "messages": [
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "I can't help with that.", "weight": 0},
        {"role": "user", "content": "Please."}, {"role": "assistant", "content": "Hello!"}]},
    # Waiting for a job is no loop, nor is a failed call that was tried again.
    chat(("user", "Wait for job 7."), *POLL, ("assistant", "It is done.")),
    trajectory("Read a.txt.", ("read", {"path": "a.txt"}, None, "busy"), ("read", {"path": "a.txt"}, None, "busy"),
               ("read", {"path": "a.txt"}, "hello")),
    # A table says similar things; a function call may be the end of a chat.
    chat(("user", "List them."), ("assistant", "\n".join(f"| row {n} | name {n} | {n * n} |" for n in range(60)))),
    chat(("user", "What time is it?"), ("call", "get_time", {}, None)),
    chat(("user", "Show code."), ("assistant", "```\n" + "x = x + 1 ; y = y + 1\n" * 60 + "```")),
    chat(("user", "파일을 옮겨 주세요."), ("assistant", "a.txt 파일을 옮겼습니다.")),
]  # fmt: skip


@pytest.mark.parametrize("row", FINE)
def test_a_good_row_that_looks_like_a_bad_one_is_kept(tmp_path: Path, row: Any) -> None:
    assert dropped_for(tmp_path, row) is None


def test_languages_are_told_apart_with_code_left_out(tmp_path: Path) -> None:
    rows = [
        chat(
            ("user", "Please tell me what this function does."),
            ("assistant", "It adds two numbers and prints them."),
            id="en",
        ),
        chat(("user", "이 함수가 무엇을 하는지 알려 주세요."), ("assistant", "두 수를 더해서 출력합니다."), id="ko"),
        chat(
            ("user", "Bitte sage mir, was diese Funktion macht und warum."),
            ("assistant", "Sie addiert zwei Zahlen und gibt das Ergebnis danach aus."),
            id="de",
        ),
        chat(
            ("user", "Run it."),
            ("assistant", "```\nprint('Dies ist ein deutscher Satz, der nur im Code steht')\n```"),
            id="code",
        ),
    ]
    kept, dropped, _ = run_steps(tmp_path, rows, {"step": "filter", "languages": ["en", "ko"]})
    assert [row["id"] for row in kept] == ["en", "ko", "code"]
    assert (dropped[0]["reason"], dropped[0]["text"][:4]) == ("other language", "de: ")


def test_lengths_have_limits(tmp_path: Path) -> None:
    rows = [
        GOOD,
        chat(("user", "Hi"), ("assistant", "Yo"), id="short"),
        chat(("user", "Hi"), ("assistant", " ".join(map(str, range(400))))),
    ]
    _, dropped, manifest = run_steps(tmp_path, rows, {"step": "filter", "min_chars": 5, "max_chars": 1000})
    assert [entry["reason"] for entry in dropped] == ["too short", "too long"]
    assert manifest["dropped"]["filter"] == {"too long": 1, "too short": 1}


def test_calls_of_which_only_some_were_answered_are_unbalanced(tmp_path: Path) -> None:
    row = chat(("user", "Read both."), ("call", "read", {"path": "a"}, "x"))
    row["messages"][1]["tool_calls"].append({"id": "c9", "name": "read", "arguments": {"path": "b"}})
    assert dropped_for(tmp_path, row) == ("unbalanced calls", 'read {"path": "b"}')
    # In the middle of a chat it can be no chat at all.
    row["messages"].append({"role": "assistant", "content": "a holds x."})
    found = dropped_for(tmp_path, row)
    assert found is not None
    assert found[0] == "unbalanced calls"
    assert "c9" in found[1]


def test_users_can_bring_their_own_list(tmp_path: Path) -> None:
    phrases = tmp_path / "phrases.yaml"
    phrases.write_text("boilerplate:\n  - happy to * help\n  - 무엇이든 물어보세요\n", encoding="utf-8")
    rows = [
        GOOD,
        chat(("user", "Hi"), ("assistant", "I am HAPPY to gladly\nhelp."), id="1"),
        chat(("user", "안녕"), ("assistant", "무엇이든   물어보세요!"), id="2"),
        chat(("user", "Hi"), ("assistant", "I can't assist with that."), id="3"),
    ]
    kept, dropped, _ = run_steps(tmp_path, rows, {"step": "filter", "phrases": str(phrases)})
    assert [row["id"] for row in kept] == ["good", "3"]
    assert [entry["row"]["id"] for entry in dropped] == ["1", "2"]


def test_a_misspelt_list_is_told_with_its_nearest_name(tmp_path: Path) -> None:
    phrases = tmp_path / "phrases.yaml"
    phrases.write_text("refusal:\n  - no way\n", encoding="utf-8")
    config = CurateConfig.model_validate(
        {
            "inputs": [str(write_rows(tmp_path / "a.jsonl", [GOOD]))],
            "steps": [{"step": "filter", "phrases": str(phrases)}],
        }
    )
    with pytest.raises(UserError, match=r"steps\.0 \(filter\).*'refusal' is unknown\. Did you mean 'refusals'"):
        curate(config, out=tmp_path / "out")


def test_a_row_that_breaks_several_rules_is_counted_once_and_all_are_written(tmp_path: Path) -> None:
    row = chat(("user", ""), ("assistant", "I can't assist with that. As an AI language model I must not."))
    kept, dropped, manifest = run_steps(tmp_path, [GOOD, row], {"step": "filter"})
    assert manifest["dropped"]["filter"] == {"refusal": 1}
    assert {also["rule"] for also in dropped[0]["also"]} == {"AI boilerplate", "empty user turn"}
    assert read_rows(tmp_path / "out/curated.jsonl") == kept == [GOOD]
