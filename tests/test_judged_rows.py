"""Rows that say whether their answer is good, of all peers: bad ones are left out, or chats with the label bad if asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.json_lines import read_jsonl
from support.commands import Run

ASKED = {"role": "user", "content": "뭐야?"}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


OF_TWO_TURNS = [ASKED, said("먼저"), ASKED]


def observation(text: str, *scores: dict[str, Any]) -> dict[str, Any]:
    """Of a trace of its own."""
    row = {"id": f"o-{text}", "traceId": f"t-{text}", "type": "GENERATION", "output": text, "scores": list(scores)}
    return {**row, "input": OF_TWO_TURNS}


PEERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "TRL, messages": (
        {"prompt": OF_TWO_TURNS, "completion": [said("좋다")], "label": True},
        {"prompt": OF_TWO_TURNS, "completion": [said("나쁘다")], "label": False},
    ),
    "TRL, texts": (
        {"prompt": "뭐야?", "completion": "좋다", "label": 1},
        {"prompt": "뭐야?", "completion": "나쁘다", "label": 0},
    ),
    "axolotl": (
        {"system": "짧게.", "instruction": "뭐야?", "completion": "좋다", "label": True},
        {"system": "짧게.", "instruction": "뭐야?", "completion": "나쁘다", "label": False},
    ),
    "LLaMA-Factory, alpaca": (
        {"instruction": "뭐야?", "input": "", "output": "좋다", "kto_tag": True},
        {"instruction": "뭐야?", "input": "", "output": "나쁘다", "kto_tag": False},
    ),
    "LLaMA-Factory, ShareGPT": (
        {"conversations": [{"from": "human", "value": "뭐야?"}, {"from": "gpt", "value": "좋다"}], "kto_tag": True},
        {
            "conversations": [{"from": "human", "value": "뭐야?"}, {"from": "gpt", "value": "나쁘다"}],
            "kto_tag": "false",
        },
    ),
    "ms-swift": (
        {"messages": [*OF_TWO_TURNS, said("좋다")], "label": True},
        {"messages": [*OF_TWO_TURNS, said("나쁘다")], "label": False},
    ),
    "words": (
        {"messages": [*OF_TWO_TURNS, said("좋다")], "label": "desirable"},
        {"messages": [*OF_TWO_TURNS, said("나쁘다")], "label": "Undesirable"},
    ),
    "thumbs": (
        {"messages": [*OF_TWO_TURNS, said("좋다")], "thumbs": "up", "feedback": "쓸모 있었어요"},
        {"messages": [*OF_TWO_TURNS, said("나쁘다")], "thumbs": None, "feedback": "thumbs down"},
    ),
    "Langfuse's scores": (
        observation("좋다", {"name": "user-feedback", "value": 1, "dataType": "BOOLEAN"}),
        observation("나쁘다", {"name": "correct", "value": None, "stringValue": "incorrect"}),
    ),
}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def scored(row: Any) -> list[str]:
    weights = {None: 1.0}
    return [m["content"] for m in row["messages"] if m["role"] == "assistant" and weights.get(m["weight"], m["weight"])]


def rows_in(path: Path) -> list[Any]:
    return [row for _, row in read_jsonl(path)]


@pytest.mark.parametrize("peer", PEERS)
def test_bad_answers_are_left_out_or_chats_that_are_labelled_bad(peer: str, run: Run, tmp_path: Path) -> None:
    file, out = write(tmp_path / "rows.jsonl", *PEERS[peer]), tmp_path / "out.jsonl"
    code, shown, _ = run("convert", file, "--out", out)
    assert code == 0 and "1 bad answers are left out; `--labelled` keeps them" in shown
    (good,) = rows_in(out)
    assert good["messages"][-1]["content"] == "좋다" and "label" not in good
    assert run("convert", file, "--out", out, "--labelled")[0] == 0
    made = {row["messages"][-1]["content"]: (row["label"], scored(row)) for row in rows_in(out)}
    assert made == {"좋다": ("good", ["좋다"]), "나쁘다": ("bad", ["나쁘다"])}


def test_what_convert_labels_is_built_for_kto_and_not_for_sft(run: Run, tmp_path: Path) -> None:
    file, out = write(tmp_path / "rows.jsonl", *PEERS["ms-swift"]), tmp_path / "chats.jsonl"
    assert run("convert", file, "--out", out, "--labelled")[0] == 0
    for labelled, kept in ((True, {"good": 1, "bad": 1}), (False, {None: 1})):
        source = {"path": str(out), "adapter": "chats"}
        config = {
            "sources": [source],
            "seed": 1,
            "labelled": labelled,
            "validation_share": 0,
            "out": str(tmp_path / "set"),
        }
        path = tmp_path / "build.yaml"
        path.write_text(json.dumps(config), encoding="utf-8")
        code, shown, _ = run("build", "--config", path, "--out", tmp_path / f"set-{labelled}")
        assert code == 0
        if not labelled:
            assert "labelled bad, so it is not imitated" in shown
            (row,) = rows_in(tmp_path / "set-False" / "train.jsonl")
            assert row["messages"][-1]["content"] == "좋다"
        else:
            labels = [row["label"] for row in rows_in(tmp_path / "set-True" / "train.jsonl")]
            assert sorted(labels) == sorted(kept)


def test_ratings_of_another_file_label_answers(run: Run, tmp_path: Path) -> None:
    rows = [{"id": name, "messages": [*OF_TWO_TURNS, said(name)]} for name in ("a", "b", "c", "d")]
    file, out, scores = write(tmp_path / "rows.jsonl", *rows), tmp_path / "out.jsonl", tmp_path / "scores.csv"
    scores.write_text("id,value\na,1\nb,0\nc,0.5\n", encoding="utf-8")
    options = ("--labels", scores, "--on", "id", "--good", "value>=1", "--bad", "value<=0")
    code, shown, _ = run("convert", file, "--out", out, "--labelled", *options)
    assert code == 0 and "no rating of this answer" in shown and "neither good nor bad" in shown
    assert [(row["id"], row["label"], scored(row)) for row in rows_in(out)] == [
        ("a", "good", ["a"]),
        ("b", "bad", ["b"]),
    ]
    code, shown, _ = run("convert", file, "--out", out, *options)
    assert [(row["id"], row.get("label"), scored(row)) for row in rows_in(out)] == [("a", None, ["a"])]


def test_a_longer_chat_of_a_trace_learns_no_answer_that_is_labelled_bad(run: Run, tmp_path: Path) -> None:
    bad = {**observation("나쁘다", {"name": "thumbs", "value": 0}), "traceId": "t"}
    longer = {**observation("끝"), "traceId": "t", "input": [*OF_TWO_TURNS, said("나쁘다"), ASKED], "scores": None}
    file, out = write(tmp_path / "rows.jsonl", bad, longer), tmp_path / "out.jsonl"
    assert run("convert", file, "--out", out, "--labelled")[0] == 0
    made = [(row.get("label"), scored(row)) for row in rows_in(out)]
    assert made == [("bad", ["나쁘다"]), (None, ["먼저", "끝"])]


def test_a_score_whose_name_does_not_judge_is_asked_about(run: Run, tmp_path: Path) -> None:
    file, out = (
        write(tmp_path / "rows.jsonl", observation("좋다", {"name": "toxicity", "value": 0})),
        tmp_path / "out.jsonl",
    )
    code, _, error = run("convert", file, "--out", out)
    assert code == 2 and "scores.toxicity: 0 (line 1" in error
    assert run("convert", file, "--out", out, "--ignore", "scores.toxicity")[0] == 0
    assert len(rows_in(out)) == 1


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": [ASKED], "answer": "72", "info": {"x": 1}, "task": "t"}, "'answer': tasks for RL"),
        ({"problem": "1+1?", "solution": "2"}, "'solution': tasks for RL"),
        (
            {"prompt": [ASKED], "reward_model": {"ground_truth": "72"}},
            "tasks for RL with a verifiable reward (reward_model)",
        ),
        ({"messages": [ASKED], "solution": "72"}, "solution without an answer: a task for RL"),
        ({"messages": [ASKED], "ground_truth": "72"}, "ground_truth without an answer: a task for RL"),
    ],
)
def test_prompts_with_a_result_are_named_and_refused(row: dict[str, Any], told: str, run: Run, tmp_path: Path) -> None:
    code, shown, error = run("convert", write(tmp_path / "rows.jsonl", row, row), "--out", tmp_path / "out.jsonl")
    assert code == 2 and told in shown + error
