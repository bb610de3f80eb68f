"""Duplicates: planted ones are found, the better row is kept, and different tasks in the same words are not duplicates."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmark.__main__ import app as benchmark_app
from core.errors import UserError
from data.curation.text import Words
from support.curation_rows import chat, pair, read_rows, run_steps, trajectory, write_rows

WORDS = [f"{start}{end}" for start in "ba ke li mo nu pa re si to vu".split() for end in "ron lim tas dek por".split()]  # noqa: SIM905 - reads better


def story(seed: int, length: int = 120) -> list[str]:
    return random.Random(seed).choices(WORDS, k=length)


def said(words: list[str], **options: Any) -> dict[str, Any]:
    return chat(("user", "Tell me a story."), ("assistant", " ".join(words)), **options)


def changed(words: list[str], places: int, seed: int = 1) -> list[str]:
    words = list(words)
    for place in random.Random(seed).sample(range(len(words)), places):
        words[place] = f"new{place}"
    return words


def jaccard(one: list[str], other: list[str], length: int = 3) -> float:
    cut = [{tuple(words[at : at + length]) for at in range(len(words) - length + 1)} for words in (one, other)]
    return len(cut[0] & cut[1]) / len(cut[0] | cut[1])


def test_exact_duplicates_differ_in_ids_times_and_order_of_keys_only(tmp_path: Path) -> None:
    call = ("call", "move", {"from": "a", "to": "b"}, "ok")
    turned = ("call", "move", {"to": "b", "from": "a"}, "ok")
    first = chat(("user", "Move a to b."), call, ("assistant", "Done."), id="1")
    rows = [
        first,
        chat(("user", "Move a to b."), turned, ("assistant", "Done."), id="2"),
        chat(("user", "Move a to b."), ("call", "move", {"from": "a", "to": 1}, "ok"), ("assistant", "Done."), id="3"),
        chat(
            ("user", "Move a to b."), ("call", "move", {"from": "a", "to": "1"}, "ok"), ("assistant", "Done."), id="4"
        ),
        {**first, "id": "5", "tools": [{"type": "function", "function": {"name": "move"}}]},
    ]
    kept, dropped, _ = run_steps(tmp_path, rows, {"step": "exact"})
    assert [row["id"] for row in kept] == ["1", "3", "4", "5"]
    entry = dropped[0]
    assert (entry["reason"], entry["row"]["id"], entry["similarity"]) == ("exact duplicate", "2", 1.0)
    assert entry["duplicate_of"] == {"file": str(tmp_path / "rows.jsonl"), "line": 1}


def test_pairs_are_compared_with_their_sides(tmp_path: Path) -> None:
    prompt = [("user", "Delete a.txt."), ("call", "delete", {"path": "a.txt"}, "busy")]
    good, bad = [("call", "delete", {"path": "a.txt"}, None)], [("assistant", "Done.")]
    rows = [pair(prompt, good, bad, id="1"), pair(prompt, bad, good, id="2"), pair(prompt, good, bad, id="3")]
    kept, _, _ = run_steps(tmp_path, rows, {"step": "exact"}, {"step": "near"})
    assert [row["id"] for row in kept] == ["1", "2"]


def test_steps_of_one_trajectory_are_no_near_duplicates(tmp_path: Path) -> None:
    history = [("user", "Sort my files."), ("call", "list", {}, " ".join(story(1, 300)))]
    rows = [
        pair(history, [("call", "move", {"path": name}, None)], [("assistant", f"I moved {name}, be happy.")], id=name)
        for name in ("winter.txt", "summer.txt")
    ]
    kept, _, _ = run_steps(tmp_path, rows, {"step": "near"})
    assert len(kept) == 2


def test_the_better_scored_row_is_kept_then_the_better_outcome_then_the_first(tmp_path: Path) -> None:
    call = ("read", {"path": "a"}, "x")
    scored = [trajectory("Read a.", call, id=f"s{score}", metadata={"score": score}) for score in (0.2, 0.9, 0.5)]
    ended = [trajectory("Read b.", call, id=end, outcome=end) for end in ("failure", "success", "partial", "success")]
    ended[3]["id"] = "later"
    some = [trajectory("Read c.", call, id="unscored"), trajectory("Read c.", call, id="zero", metadata={"score": 0})]
    kept, _, _ = run_steps(tmp_path, [*scored, *ended, *some], {"step": "exact"})
    assert [row["id"] for row in kept] == ["s0.9", "success", "zero"]
    clusters = read_rows(tmp_path / "out/clusters.jsonl")
    assert [(entry["kept"]["id"], {copy["id"] for copy in entry["dropped"]}) for entry in clusters] == [
        ("s0.9", {"s0.2", "s0.5"}),
        ("success", {"failure", "partial", "later"}),
        ("zero", {"unscored"}),
    ]


def test_scores_may_come_from_a_file_of_their_own(tmp_path: Path) -> None:
    scores = write_rows(
        tmp_path / "scores.jsonl", [{"id": "b", "score": 0.7}, {"id": "a", "score": 0.1, "why": "short"}]
    )
    rows = [said(story(1), id=name) for name in "abc"]
    kept, _, _ = run_steps(tmp_path, rows, {"step": "exact"}, scores=str(scores))
    assert [row["id"] for row in kept] == ["b"]
    scores.write_text('{"id": "a"}\n')
    with pytest.raises(UserError, match=r"scores\.jsonl:1: expected an object with `id` and a number `score`"):
        run_steps(tmp_path, rows, {"step": "exact"}, scores=str(scores))


def test_near_duplicates_are_found_and_others_are_not(tmp_path: Path) -> None:
    rows, near, far = [], set(), set()
    for number in range(120):
        words = story(number)
        rows.append(said(words, id=f"{number}"))
        places = (1, 2, 3, 12, 20)[number % 5]
        other = changed(words, places, seed=number)
        rows.append(said(other, id=f"{number}-{places}"))
        similarity = jaccard(words, other)
        if similarity >= 0.9:
            near.add(f"{number}-{places}")
        elif similarity <= 0.65:
            far.add(f"{number}-{places}")
    random.Random(2).shuffle(rows)
    _, dropped, _ = run_steps(tmp_path, rows, {"step": "near"})
    gone = {entry["row"]["id"] for entry in dropped} | {entry["row"]["id"] + "-" for entry in dropped}
    lost_pairs = {name.split("-")[0] for name in gone}
    assert len(near) > 40
    assert len(far) > 40
    assert all(name.split("-")[0] in lost_pairs for name in near)
    assert not any(name.split("-")[0] in lost_pairs for name in far)
    assert all(entry["similarity"] >= 0.8 for entry in dropped)


def fixes(
    *lines: int, source: str = "value = compute(base, scale, offset, mode)", **options: Any
) -> list[dict[str, Any]]:
    """Agents that read the same long file and change another line of it."""
    listing = "\n".join(f"{line:4d}  {source}" for line in range(60))
    return [
        chat(
            (
                "user",
                f"Delete today: {line}번째 줄이 잘못되었으니 m.py 파일을 열어서 고친 다음에 무엇을 했는지 알려 주세요.",
            ),
            ("call", "cat", {"path": "m.py"}, listing),
            ("call", "edit", {"path": "m.py", "line": line, "new": f"value = {line}"}, f"Changed.\n{listing}"),
            ("assistant", "한 줄을 고쳤고 다른 줄은 그대로 두었습니다."),
            id=f"fix-{line}",
        )
        for line in lines
    ]


def with_weights(row: dict[str, Any], *weights: float) -> dict[str, Any]:
    """A row whose assistant turns have these weights."""
    given = iter(weights)
    messages = [
        {**message, "weight": next(given)} if message["role"] == "assistant" else message for message in row["messages"]
    ]
    return {**row, "messages": messages}


def test_rows_whose_trained_calls_differ_are_two_examples(tmp_path: Path, encoder: Path) -> None:
    rows = fixes(7, 14, 21, 70)
    # 1 and "1", the order of calls, and a name are differences, too.
    turned = [{**row, "id": f"{row['id']}-text", "messages": [*row["messages"]]} for row in rows[:1]]
    call = turned[0]["messages"][3]["tool_calls"][0]
    turned[0]["messages"][3] = {
        "role": "assistant",
        "tool_calls": [{**call, "arguments": {**call["arguments"], "line": "7"}}],
    }
    renamed = json.loads(json.dumps(rows[0]).replace('"edit"', '"replace"')) | {"id": "fix-7-replace"}
    rows += [*turned, renamed]
    for step in ({"step": "exact"}, {"step": "near"}, {"step": "semantic", "encoder": str(encoder), "threshold": 0.5}):
        kept, _, _ = run_steps(tmp_path, rows, step)
        assert [row["id"] for row in kept] == [row["id"] for row in rows], step
        kept, _, _ = run_steps(tmp_path, [*rows, *(row | {"id": f"{row['id']}-copy"} for row in rows)], step)
        assert [row["id"] for row in kept] == [row["id"] for row in rows], step


def test_a_row_that_trains_another_call_of_the_same_words_is_another_example(tmp_path: Path, encoder: Path) -> None:
    (fix,) = fixes(7)
    rows = [with_weights(fix, *weights) | {"id": str(weights)} for weights in ((1, 1, 1), (0, 1, 1), (1, 0, 1))]
    rows.append(with_weights(fix, 0.5, 1, 1) | {"id": "the first with less weight"})
    for step in ({"step": "exact"}, {"step": "near"}, {"step": "semantic", "encoder": str(encoder)}):
        kept, _, _ = run_steps(tmp_path, rows, step)
        assert kept == rows[:3], step


def test_pairs_with_another_rejected_call_are_two_examples(tmp_path: Path, encoder: Path) -> None:
    story_of_user = ("user", "Delete the file. " + " ".join(story(4, 300)))
    good = [("call", "edit", {"line": 7}, None)]
    rows = [
        pair([story_of_user], good, [("call", "edit", {"line": line}, None)], id=str(line)) for line in (8, 9, 10, 8)
    ]
    for step in ({"step": "exact"}, {"step": "near"}, {"step": "semantic", "encoder": str(encoder)}):
        kept, _, _ = run_steps(tmp_path, rows, step)
        assert [row["id"] for row in kept] == ["8", "9", "10"], step


def test_tool_results_never_make_rows_alike_and_may_tell_them_apart(tmp_path: Path) -> None:
    def asked_of(file: str, question: list[str], result: list[str]) -> dict[str, Any]:
        call = ("call", "read", {"path": "a.txt"}, " ".join(result))
        return chat(("user", " ".join(question)), call, ("assistant", "I have read it."), id=file)

    question = story(1, 40)
    same_results = [asked_of(str(seed), story(seed, 40), story(9, 600)) for seed in (1, 2, 3)]
    other_results = [asked_of(str(seed), question, story(seed, 600)) for seed in (1, 2, 3)]
    nearly = [asked_of(str(seed), question, changed(story(9, 600), 8, seed)) for seed in (1, 2, 3)]
    for rows, expected in ((same_results, ["1", "2", "3"]), (other_results, ["1", "2", "3"]), (nearly, ["1"])):
        kept, _, _ = run_steps(tmp_path, rows, {"step": "near"})
        assert [row["id"] for row in kept] == expected


def test_no_chain_of_neighbours_pulls_different_rows_together(tmp_path: Path) -> None:
    words = story(1, 200)
    rows = []
    for step in range(12):  # each differs a little from the one before, the last one much from the first
        rows.append(said(words, id=str(step)))
        words = [*words[: step * 12], *(f"new{step}x{at}" for at in range(6)), *words[step * 12 + 6 :]]
    kept, dropped, _ = run_steps(tmp_path, rows, {"step": "near"})
    assert 2 <= len(kept) < len(rows)
    by_line = dict(enumerate(rows, start=1))
    for entry in dropped:
        instead = by_line[entry["duplicate_of"]["line"]]
        assert instead in kept
        texts = [row["messages"][1]["content"].split() for row in (entry["row"], instead)]
        assert jaccard(*texts) > 0.7


def test_korean_near_duplicates_do_not_depend_on_spaces(tmp_path: Path) -> None:
    text = "보고서를 읽고 합계를 구한 다음에 새로운 폴더로 옮겨 주세요. 그리고 날짜별로 정리한 표를 만들어서 저장해 주세요."
    rows = [
        chat(("user", text), ("assistant", "정리했습니다."), id="1"),
        chat(("user", text.replace(" ", "")), ("assistant", "정리했습니다!"), id="2"),
        chat(("user", "오늘 서울 날씨를 알려 주세요."), ("assistant", "맑습니다."), id="3"),
    ]
    kept, _, _ = run_steps(tmp_path, rows, {"step": "near"})
    assert [row["id"] for row in kept] == ["1", "3"]


def test_short_and_empty_texts_are_compared_as_a_whole(tmp_path: Path) -> None:
    rows = [
        chat(("user", "Hi"), ("assistant", "?"), id="1"),
        chat(("user", "hi!"), ("assistant", "..."), id="2"),
        chat(("user", "Ho"), ("assistant", "?"), id="3"),
    ]
    kept, _, _ = run_steps(tmp_path, rows, {"step": "near"})
    assert [row["id"] for row in kept] == ["1", "3"]


def test_training_tasks_of_one_family_are_not_taken_for_duplicates(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    arguments = [
        "record",
        "--worlds",
        "files,api",
        "--count",
        "300",
        "--seed",
        "5",
        "--freeze-clock",
        "--out",
        str(file),
    ]
    result = CliRunner().invoke(benchmark_app, arguments)
    assert result.exit_code == 0, result.output
    kept, _, _ = run_steps(tmp_path, file.read_text(encoding="utf-8").splitlines(), {"step": "exact"}, {"step": "near"})
    assert len(kept) >= 0.99 * 200


# --- semantic ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model2vec model in which synonyms have the same vector: small enough to know what it must find."""
    model2vec = pytest.importorskip("model2vec")
    pytest.importorskip("semhash")
    tokenizers = pytest.importorskip("tokenizers")
    meanings = [
        ["book", "reserve"], ["a", "the", "please", "could", "you", "me"], ["table", "seat"], ["dinner", "meal", "저녁"],
        ["tonight", "today"], ["weather", "forecast", "날씨"], ["show", "tell"], ["delete", "remove"], ["file", "document"],
    ]  # fmt: skip
    words = ["[UNK]", *(word for group in meanings for word in group)]
    of_word = [0, *(number + 1 for number, group in enumerate(meanings) for _ in group)]
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(16, 16)))[0].astype(np.float32)
    vectors = basis[of_word]
    vectors[0] = 0
    vectors[np.array(of_word) == 2] *= 0.05  # words that carry no meaning
    model = tokenizers.models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("encoder")
    model2vec.StaticModel(vectors, tokenizer).save_pretrained(folder)
    return folder


def test_paraphrases_are_semantic_duplicates_unless_their_calls_differ(tmp_path: Path, encoder: Path) -> None:
    rows = [
        chat(("user", "Book a table dinner tonight"), ("assistant", "Done."), id="1"),
        chat(("user", "Could you please reserve the seat: meal, today?"), ("assistant", "Yes!"), id="2"),
        chat(("user", "Show me the weather"), ("assistant", "Sunny."), id="3"),
        chat(("user", "날씨 tell"), ("assistant", "Sunny."), id="4"),
        chat(("user", "Delete the file"), ("call", "delete", {"path": "a.txt"}, "ok"), ("assistant", "Ok."), id="5"),
        chat(
            ("user", "Remove the document"), ("call", "delete", {"path": "b.txt"}, "ok"), ("assistant", "Ok."), id="6"
        ),
        chat(
            ("user", "Remove the document"), ("call", "delete", {"path": "A.txt"}, "ok"), ("assistant", "Ok."), id="7"
        ),
        chat(
            ("user", "Remove the document"), ("call", "delete", {"path": "a.txt"}, "ok"), ("assistant", "Ok."), id="5b"
        ),
        chat(("user", "zzz"), ("assistant", "yyy"), id="8"),
        chat(("user", "qqq"), ("assistant", "xxx"), id="9"),
    ]
    options = {"step": "semantic", "encoder": str(encoder), "threshold": 0.9}
    kept, dropped, _ = run_steps(tmp_path, rows, options)
    assert [row["id"] for row in kept] == ["1", "3", "5", "6", "7", "8", "9"]
    assert {entry["reason"] for entry in dropped} == {"semantic duplicate"}
    two, _, _ = run_steps(tmp_path, rows, options, workers=2, shard_mb=1)
    assert two == kept


def test_a_missing_encoder_is_told_before_anything_is_read(tmp_path: Path) -> None:
    pytest.importorskip("semhash")
    with pytest.raises(UserError, match=r"steps\.0 \(semantic\): encoder: there is no folder \./none"):
        run_steps(tmp_path, [said(story(1))], {"step": "semantic", "encoder": "./none"})


def test_words_weigh_what_they_should() -> None:
    assert Words("one two, three").size == 3
    assert Words("파일을 옮겨").size == pytest.approx(5 / 3)
    assert json.dumps(Words("파일 a.txt").words, ensure_ascii=False) == '["파", "일", "a", "txt"]'
