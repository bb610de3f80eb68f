"""Chats that are labelled good or bad: what KTO trains on, and what is never imitated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from data.chats import Chat, Message, PreferencePair
from data.curation.duplicates import said_hash
from data.curation.rows import record_to_row
from data.sets.build import BuildConfig, build
from data.sets.prepared import Prepared, read_prepared
from support.record_samples import action, record


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def chat(number: int, label: str | None) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"질문 {number}?"}, {"role": "assistant", "content": f"답 {number}."}]
    row = Chat.model_validate({"messages": messages, "id": f"c{number}", "source": "made", "label": label})
    return row.model_dump(mode="json")


def pair(number: int, **changes: Any) -> PreferencePair:
    return PreferencePair(
        prompt=(
            Message(role="user", content=f"Question {number}?"),
            Message(role="assistant", content="Which one?"),
            Message(role="user", content="이것."),
        ),
        chosen=(Message(role="assistant", content="good words"),),
        rejected=(Message(role="assistant", content="bad words"),),
        id=f"p{number}",
        source="made",
        **changes,
    )


def set_of(tmp_path: Path, *sources: dict[str, Any], **keys: Any) -> Prepared:
    build(BuildConfig.model_validate({"out": str(tmp_path / "set"), "sources": list(sources), **keys}))
    return read_prepared(tmp_path / "set")


def test_a_chat_without_a_label_and_a_pair_of_weight_1_are_written_as_before() -> None:
    assert "label" not in chat(1, None)
    assert chat(1, "bad")["label"] == "bad"
    assert "weight" not in pair(1).model_dump(mode="json")
    assert PreferencePair.model_validate_json(pair(1, weight=0.5).model_dump_json()).weight == 0.5


def test_a_label_is_good_or_bad() -> None:
    with pytest.raises(ValueError, match="'good' or 'bad'"):
        chat(1, "so so")


def test_a_set_to_imitate_leaves_bad_chats_out_and_counts_them(tmp_path: Path) -> None:
    rows = [chat(1, "good"), chat(2, "bad"), chat(3, None), chat(4, "bad")]
    made = set_of(tmp_path, {"path": str(write_jsonl(tmp_path / "chats.jsonl", rows))}, validation_share=0)
    assert [row.id for row in made.train] == ["c1", "c3"]
    (source,) = made.manifest["sources"]
    assert source["dropped"] == {"labelled bad, so it is not imitated": 2}
    assert made.kind == "chat"
    assert "labels" not in made.manifest["splits"]["train"]


TRIES = (("r1", "success"), ("r2", "success"), ("f1", "failure"), ("h1", "partial"))


def test_a_labelled_set_takes_chats_pairs_and_trajectories(tmp_path: Path) -> None:
    chats = [chat(1, "good"), chat(2, "bad"), chat(3, None)]
    pairs = [pair(1).model_dump(mode="json"), pair(2, trunk="t", weight=2.0).model_dump(mode="json")]
    tries = [record(id=name, outcome=outcome) for name, outcome in TRIES]
    made = set_of(
        tmp_path,
        {"path": str(write_jsonl(tmp_path / "chats.jsonl", chats))},
        {"path": str(write_jsonl(tmp_path / "pairs.jsonl", pairs))},
        {"path": str(write_jsonl(tmp_path / "tries.jsonl", tries)), "adapter": "trajectory"},
        labelled=True,
        validation_share=0,
    )
    assert made.kind == "labelled chat"
    labels = {row.id: row.label for row in made.train}
    assert {name: labels[name] for name in ("c1", "c2", "p1/chosen", "p1/rejected", "p2/rejected")} == {
        "c1": "good", "c2": "bad", "p1/chosen": "good", "p1/rejected": "bad", "p2/rejected": "bad",
    }  # fmt: skip
    assert [label for name, label in labels.items() if name[0] in "rf"] == ["good", "good", "bad"]
    assert made.manifest["splits"]["train"]["labels"] == {"bad": 4, "good": 5}
    dropped = [source["dropped"] for source in made.manifest["sources"]]
    assert dropped == [{"no label": 1}, {}, {"outcome is partial": 1}]
    by_id = {row.id: row for row in made.train}
    assert by_id["p2/chosen"].group == by_id["p2/rejected"].group == "t"
    assert [message.loss_weight for message in by_id["p1/rejected"].messages] == [0, 0, 0, 1]


def test_of_a_bad_try_the_failed_step_counts_and_a_step_of_weight_0_never(tmp_path: Path) -> None:
    failed = ("read_file", {"path": "가.txt"})
    steps = [action(*failed, error="없는 파일"), action(*failed, error="없는 파일", weight=0.0)]
    row = record(outcome="failure", action_sequence=steps)
    made = set_of(
        tmp_path, {"path": str(write_jsonl(tmp_path / "t.jsonl", [row])), "adapter": "trajectory"}, labelled=True
    )
    said = [message.loss_weight for message in made.train[0].messages if message.role == "assistant"]
    assert said[:2] == [1, 0]


def test_the_two_sides_of_a_pair_stand_on_the_same_side_of_the_split(tmp_path: Path) -> None:
    rows = [pair(number).model_dump(mode="json") for number in range(30)]
    made = set_of(tmp_path, {"path": str(write_jsonl(tmp_path / "p.jsonl", rows))}, labelled=True, validation_share=0.3)
    for split in (made.train, made.validation):
        assert split
        assert sorted(row.id for row in split if row.label == "good") == sorted(
            row.id.replace("/rejected", "/chosen") for row in split if row.label == "bad"
        )


def test_pairs_and_chats_do_not_mix_without_labels_and_the_error_says_how(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="labelled: true"):
        set_of(
            tmp_path,
            {"path": str(write_jsonl(tmp_path / "chats.jsonl", [chat(1, "good")]))},
            {"path": str(write_jsonl(tmp_path / "pairs.jsonl", [pair(1).model_dump(mode="json")]))},
        )


def test_equal_words_under_two_labels_are_two_examples() -> None:
    good, bad, neither = (record_to_row(Chat.model_validate(chat(1, label))) for label in ("good", "bad", None))
    assert good.trained_calls != bad.trained_calls
    assert said_hash(good) != said_hash(bad)
    assert neither.trained_calls == "[[]]"


def test_a_bad_chat_is_exported_only_where_its_label_goes_with_it(tmp_path: Path, run: Any) -> None:
    rows = [chat(1, "good"), chat(2, "bad")]
    file = write_jsonl(tmp_path / "chats.jsonl", rows)
    run("export", "--format", "openai", file, "--out", tmp_path / "openai.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "openai.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["label"] for line in lines] == [True, False]
    run("export", "--format", "sharegpt", file, "--out", tmp_path / "sharegpt.jsonl")
    counts = json.loads((tmp_path / "sharegpt.counts.json").read_text(encoding="utf-8"))
    assert counts["kept"] == 1
    assert counts["dropped"] == {"labelled bad, and so no example to imitate": 1}
