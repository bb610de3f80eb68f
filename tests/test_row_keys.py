"""Keys beside those of a format: what they say of a row is obeyed, asked for, or told; never lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.config import read_config
from core.errors import UserError
from data.chats import Chat, PreferencePair, Skip
from data.formats.catalogue import ADAPTERS
from data.formats.inputs import find_input
from data.formats.reading import adapt, chunks_for
from data.formats.row_keys import CONTAINERS, KeyCounts, Meaning, Undecided, has_side, key_rules, meaning_of, name_of
from data.sets.build import BuildConfig, build
from data.sets.convert import convert
from support.golden import sample_file

Run = Callable[..., tuple[int, str, str]]

SAID = [{"role": "user", "content": "서울 날씨?"}, {"role": "assistant", "content": "맑아요."}]
BASES: dict[str, dict[str, Any]] = {
    "openai_chat": {"messages": SAID},
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "답"}]},
    "alpaca": {"instruction": "q", "input": "", "output": "답"},
    "trl_prompt_completion": {"prompt": "q", "completion": "답"},
    "llama_factory_v1": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "value": "q"}]},
            {"role": "assistant", "content": [{"type": "text", "value": "a"}]},
        ]
    },
    "glaive_function_calling_v2": {"system": "", "chat": "USER: q\n\n\nASSISTANT: a <|endoftext|>"},
}


def one(name: str, row: dict[str, Any], **rules: Any) -> Any:
    (result,) = adapt(ADAPTERS[name], row, rules=key_rules(rules.get("ignore", ()), rules.get("good_from", {})))
    return result


def write_rows(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- answers that are judged ---


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize(
    "key", ["label", "kto_tag", "reward", "score", "success", "resolved", "isCorrect", "보상", "성공 여부"]
)
def test_bad_answers_are_left_out_of_every_format(name: str, key: str) -> None:
    for good in (True, 1, 1.0, "true", "True", "1"):
        assert isinstance(one(name, {**BASES[name], key: good}), Chat), good
    for bad in (False, 0, 0.0, -1, -1.0, "false", "False", "FALSE", "0", "-1", " false "):
        assert one(name, {**BASES[name], key: bad}) == Skip(f"{key} is {json.dumps(bad)}: a bad answer")
    counts = KeyCounts()
    for nothing in (None, "", "  "):
        (kept,) = adapt(ADAPTERS[name], {**BASES[name], key: nothing}, counts=counts)
        assert isinstance(kept, Chat)
    assert counts.not_judged == {key: 3} and not counts.unread


@pytest.mark.parametrize("value", [0.37, 2, -2, "좋음", {"helpful": 1}, [1], 10**400])
def test_what_cannot_be_judged_asks_the_user(value: Any) -> None:
    for name in ("openai_chat", "sharegpt", "alpaca"):
        with pytest.raises(Undecided):
            one(name, {**BASES[name], "score": value})
        assert isinstance(one(name, {**BASES[name], "score": value}, ignore=["score"]), Chat)
    counts = KeyCounts()  # of a published dataset the same key is told and stops nothing
    (kept,) = adapt(
        ADAPTERS["glaive_function_calling_v2"], {**BASES["glaive_function_calling_v2"], "score": value}, counts=counts
    )
    assert isinstance(kept, Chat) and counts.unread == {"score": 1}


def test_a_dataset_knows_a_harmless_column() -> None:
    turns = BASES["sharegpt"]
    assert isinstance(one("infinity_instruct", {**turns, "label": 0}), Chat)
    assert isinstance(one("slim_orca", {**turns, "label": 0}), Skip)


def test_good_from_is_a_threshold() -> None:
    base = BASES["openai_chat"]
    for value, good in ((0.5, True), (0.49, False), ("0.7", True), (1, True), (0, False), (True, True)):
        result = one("openai_chat", {**base, "reward": value}, good_from={"reward": 0.5})
        assert result == Skip("reward is below 0.5: a bad answer") if not good else isinstance(result, Chat)
    with pytest.raises(Undecided):
        one("openai_chat", {**base, "reward": "fine"}, good_from={"reward": 0.5})


def test_details_are_looked_into() -> None:
    base = BASES["openai_chat"]
    assert one("openai_chat", {**base, "metadata": {"reward": 0}}) == Skip("metadata.reward is 0: a bad answer")
    assert one("openai_chat", {**base, "metadata": '{"reward": false}'}) == Skip(
        "metadata.reward is false: a bad answer"
    )
    assert one("openai_chat", {**base, "extra_info": {"license": "MIT", "score": 1}}).licence == "MIT"
    with pytest.raises(Undecided):
        one("openai_chat", {**base, "info": {"score": 0.5}})
    assert isinstance(one("openai_chat", {**base, "info": {"score": 0.5}}, ignore=["info.score"]), Chat)
    assert all(meaning_of(name) is None for name in CONTAINERS)


def test_a_turn_that_is_judged_bad_is_not_imitated() -> None:
    said = [SAID[0], {**SAID[1], "label": False}]
    assert one("openai_chat", {"messages": said}) == Skip("label of a turn is false: a bad answer")
    # A result that says that a tool failed says nothing of the model's words.
    failed = {"role": "tool", "content": "timeout", "success": False}
    calls = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    counts = KeyCounts()
    (kept,) = adapt(ADAPTERS["openai_chat"], {"messages": [SAID[0], calls, failed, SAID[1]]}, counts=counts)
    assert isinstance(kept, Chat) and counts.unread == {"messages[].success": 1}


def test_one_message_names_keys_values_lines_and_ways_out(run: Run, tmp_path: Path) -> None:
    rows = [{**BASES["openai_chat"], "score": value, "reward": "ok"} for value in (1, 0.37, 0.9)]
    path = write_rows(tmp_path / "rows.jsonl", *rows, {"messages": SAID, "label": {"x": 1}})
    code, _, err = run("convert", path, "--out", tmp_path / "out.jsonl")
    assert code == 2 and not (tmp_path / "out.jsonl").exists() and "Traceback" not in err
    assert (
        "score: 0.37, 0.9 (line 2, 2 rows" in err
        and 'reward: "ok" (line 1, 3 rows' in err
        and 'label: {"x": 1} (line 4' in err
    )
    assert "--good-from" in err and "--ignore" in err
    ways = ("--ignore", "reward", "--ignore", "label", "--good-from", "score=0.5")
    code, out, _ = run("convert", path, *ways, "--out", tmp_path / "out.jsonl")
    assert code == 0 and "dropped: score is below 0.5: a bad answer  1" in out
    counts = json.loads((tmp_path / "out.counts.json").read_text(encoding="utf-8"))
    assert (counts["kept"], counts["not_read"]) == (3, {"reward": 3, "label": 1})
    for wrong in (("--good-from", "score"), ("--good-from", "score=much"), ("--good-from", "a=1", "--ignore", "a")):
        code, _, err = run("convert", path, *wrong, "--out", tmp_path / "other.jsonl")
        assert code == 2 and ("KEY=NUMBER" in err or "choose one" in err)


def test_a_build_obeys_the_same_keys(tmp_path: Path) -> None:
    rows = [{**BASES["openai_chat"], "score": value} for value in (0.9, 0.2, None)]
    source = {"path": str(write_rows(tmp_path / "rows.jsonl", *rows)), "adapter": "openai_chat"}

    def built(**keys: Any) -> dict[str, Any]:
        (tmp_path / "mix.yaml").write_text(json.dumps({"sources": [{**source, **keys}], "validation_share": 0.0}))
        made: dict[str, Any] = build(
            read_config(tmp_path / "mix.yaml", BuildConfig), out=tmp_path / "set", name="mix.yaml"
        )
        return made["sources"][0]

    for stop in ({}, {"max_rows": 1}):
        with pytest.raises(UserError, match=r"score: 0\.9, 0\.2 \(line 1"):
            built(**stop)
    counts = built(good_from={"score": 0.5})
    assert counts["dropped"] == {"score is below 0.5: a bad answer": 1} and counts["not_judged"] == {"score": 1}
    assert built(ignore=["score"])["not_read"] == {"score": 2}


# --- weights ---


@pytest.mark.parametrize("key", ["weight", "loss", "train", "training", "loss_weight", "loss_mask", "trainable"])
def test_a_weight_of_a_turn_is_read_under_every_name(key: str) -> None:
    for value, weight in (
        (False, 0),
        (True, 1),
        (0, 0),
        (0.25, 0.25),
        (1.0, 1),
        ("false", 0),
        (None, 1),
        ("", 1),
        ("0.5", 0.5),
    ):
        said = [SAID[0], {**SAID[1], key: value}, SAID[0], SAID[1]]
        chat = one("openai_chat", {"messages": said})
        assert [message.loss_weight for message in chat.messages] == [0, weight, 0, 1]
        turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", key: value}]
        assert one("sharegpt", {"conversations": turns}).messages[1].loss_weight == weight
    # A format without weights does not learn what it was told not to.
    turns = [{"from": "user", "value": "q"}, {"from": "assistant", "value": "a", key: False}]
    assert isinstance(one("toolace", {"system": "s", "conversations": turns}), Skip)


@pytest.mark.parametrize(
    "key", ["weight", "loss", "train", "loss_weight", "loss_mask", "trainable", "lossMask", "learn"]
)
@pytest.mark.parametrize("value", ["아마", 2, -1, [0, 1], {"x": 1}])
def test_a_weight_that_is_none_stops_once_and_can_be_read_past(run: Run, tmp_path: Path, key: str, value: Any) -> None:
    bad = {"messages": [SAID[0], {**SAID[1], key: value}]}
    path, out = write_rows(tmp_path / "rows.jsonl", BASES["openai_chat"], bad, bad), tmp_path / "out.jsonl"
    code, _, err = run("convert", path, "--adapter", "openai_chat", "--out", out)
    assert code == 2 and f"{key}: {json.dumps(value, ensure_ascii=False)} (line 2, 2 rows" in err and not out.exists()
    assert f"`--ignore {key}`" in err and "--good-from" not in err
    code, _, _ = run("convert", path, "--adapter", "openai_chat", "--ignore", key, "--out", out)
    assert code == 0 and [row["messages"][1].get("weight") for row in rows_in(out)] == [None] * 3
    assert json.loads(out.with_suffix(".counts.json").read_text(encoding="utf-8"))["not_read"] == {
        f"messages[].{key}": 2
    }
    asked = {"messages": [{**SAID[0], key: value}, SAID[1]]}  # of a user's words nobody learns anyway
    assert isinstance(one("openai_chat", asked), Chat)


def test_a_weight_is_read_past_in_turns_of_any_kind() -> None:
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "loss": "x"}]
    for value in (turns, json.dumps(turns)):
        with pytest.raises(Undecided):
            one("sharegpt_tools", {"conversations": value})
        assert isinstance(one("sharegpt_tools", {"conversations": value}, ignore=["conversations[].loss"]), Chat)
    pair = {"conversations": turns[:1], "chosen": turns[1], "rejected": {"from": "gpt", "value": "b"}}
    with pytest.raises(Undecided):
        one("sharegpt_preference", pair)
    assert one("sharegpt_preference", pair, ignore=["loss"]).chosen[0].content == "a"
    with pytest.raises(Undecided):  # a format that reads no weights
        one("react", {"messages": [SAID[0], {**SAID[1], "loss_mask": "x"}]})


def test_a_weight_of_a_row_is_obeyed() -> None:
    base = BASES["openai_chat"]
    assert one("openai_chat", {**base, "train": False}) == Skip("train is false: not to be learned")
    assert one("openai_chat", {**base, "weight": 0}) == Skip("weight is 0: not to be learned")
    said = [*SAID, SAID[0], {**SAID[1], "loss_weight": 0.5}]
    assert [m.loss_weight for m in one("openai_chat", {"messages": said, "weight": 0.5}).messages] == [0, 0.5, 0, 0.25]
    for value in (70, "heavy", -1, [1, 0]):
        for key in ("weight", "loss", "loss_mask", "trainable"):
            with pytest.raises(Undecided):
                one("openai_chat", {**base, key: value})
    pair = one("trl_preference", {"prompt": "q", "chosen": "a", "rejected": "b", "weight": 0.5})
    assert [m.loss_weight for m in (*pair.chosen, *pair.rejected)] == [0.5, 0.5]
    with pytest.raises(Undecided):  # a measured loss is no weight
        one("openai_chat", {**base, "loss": 0.37})


# --- media, sides of pairs, tasks for RL, system prompts ---


@pytest.mark.parametrize(
    ("key", "value"),
    [("images", ["a.png"]), ("image", "a.png"), ("videos", ["b.mp4"]), ("audios", ["c.wav"]), ("audio", {"path": "c"}),
     ("image_url", "http://x"), ("imagePath", "a"), ("이미지", "가.png")],
)  # fmt: skip
def test_words_about_something_that_is_not_text_are_left_out(key: str, value: Any) -> None:
    for name, row in BASES.items():
        assert one(name, {**row, key: value}) == Skip("content that is not text"), name
        for nothing in (None, [], ""):
            assert isinstance(one(name, {**row, key: nothing}), Chat)
    assert one("openai_chat", {"messages": [{**SAID[0], key: value}, SAID[1]]}) == Skip("content that is not text")


def test_a_picture_as_bytes_is_seen(tmp_path: Path) -> None:
    rows = [{"messages": SAID, "image": b"\x89PNG"}, {"messages": SAID, "image": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    counts = convert(find_input(str(tmp_path / "rows.parquet")), tmp_path / "out.jsonl")
    assert (counts["kept"], counts["dropped"]) == (1, {"content that is not text": 1})


@pytest.mark.parametrize(
    "key",
    [
        *("rejected", "rejected_response", "rejected_messages", "chosen", "chosen_messages"),
        *("rejectedResponse", "Rejected", "rejected answers", "loser", "loser_response"),
    ],
)
def test_half_of_a_pair_is_no_chat(key: str) -> None:
    for name, row in BASES.items():
        for side in ("나쁨", SAID, SAID[1], ["나쁨", "더 나쁨"]):
            assert one(name, {**row, key: side}) == Skip(f"{key}: a side of a pair, which no chat holds")
        assert isinstance(one(name, {**row, key: None}), Chat)


def test_a_flag_of_that_name_judges() -> None:
    base = BASES["openai_chat"]
    assert one("openai_chat", {**base, "rejected": True}) == Skip("rejected is true: a bad answer")
    assert one("openai_chat", {**base, "chosen": 0}) == Skip("chosen is 0: a bad answer")
    assert isinstance(one("openai_chat", {**base, "rejected": False, "chosen": "true", "chosen_model": "m"}), Chat)
    assert one("openai_chat", {**base, "is_bad": 1}) == Skip("is_bad is 1: a bad answer")
    assert isinstance(one("openai_chat", {**base, "undesirable": "false"}), Chat)
    assert one("openai_chat", {**base, "winner": False}) == Skip("winner is false: a bad answer")
    assert isinstance(one("openai_chat", {**base, "winner": True, "loser": 0, "loser_model": "m"}), Chat)
    with pytest.raises(Undecided):
        one("openai_chat", {**base, "winner": "model_b"})
    assert has_side({"rejected": "나쁨"}, Meaning.REJECTED)
    assert not any(has_side({"rejected": flag}, Meaning.REJECTED) for flag in (True, "false", "0", None, ""))


def test_a_task_for_rl_is_named() -> None:
    prompt = {"messages": SAID[:1], "reward_model": {"style": "rule", "ground_truth": "2"}}
    assert one("openai_chat", prompt) == Skip("reward_model without an answer: a task for RL")
    assert one("openai_chat", {"messages": SAID[:1]}) == Skip("no word of an assistant")
    with pytest.raises(Undecided):
        one("openai_chat", {"messages": SAID, "ground_truth": "맑음"})
    assert isinstance(one("openai_chat", {"messages": SAID, "ground_truth": "맑음"}, ignore=["ground_truth"]), Chat)


def test_a_system_prompt_in_a_column_of_its_own_is_kept() -> None:
    for key in ("system", "system_prompt", "systemPrompt"):
        chat = one("openai_chat", {"messages": SAID, key: "짧게."})
        assert (chat.messages[0].role, chat.messages[0].content) == ("system", "짧게.")
        pair = one("trl_preference", {"prompt": "q", "chosen": "a", "rejected": "b", key: "짧게."})
        assert isinstance(pair, PreferencePair) and (pair.prompt[0].role, pair.prompt[0].content) == ("system", "짧게.")
    same = [{"role": "system", "content": "짧게."}, *SAID]
    assert len(one("openai_chat", {"messages": same, "system": "짧게."}).messages) == 3
    assert len(one("openai_chat", {"messages": same, "system": " 짧게.\n"}).messages) == 3
    assert one("openai_chat", {"messages": same, "system": "길게."}) == Skip("two system prompts")
    assert one("openai_chat", {"messages": SAID, "system": {"a": 1}}) == Skip("a system prompt that is not text")


# --- what is not read is told ---


def test_columns_and_keys_of_turns_that_are_not_read_are_told(run: Run, tmp_path: Path) -> None:
    rows = [
        {
            "messages": [{**SAID[0], "tokens": 3}, {**SAID[1], "logprobs": [0.1], "tokens": 4}],
            "언어": "ko",
            "split": None,
        },
        {"messages": SAID, "언어": "ko", "chat_template_kwargs": {"x": 1}},
    ]
    path = write_rows(tmp_path / "rows.jsonl", *rows)
    code, out, _ = run("convert", path, "--out", tmp_path / "out.jsonl")
    assert code == 0 and "not read" in out
    told = {"언어": 2, "messages[].tokens": 1, "messages[].logprobs": 1, "chat_template_kwargs": 1}
    assert all(f"{key}" in out for key in told)
    counts = json.loads((tmp_path / "out.counts.json").read_text(encoding="utf-8"))
    assert counts["not_read"] == told


def test_what_is_told_does_not_depend_on_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.formats.json_documents.CHUNK_BYTES", 300)
    rows = [{**BASES["openai_chat"], "score": score, "x": 1} for score in (1, 0, None, 1, 0) * 4]
    path = write_rows(tmp_path / "rows.jsonl", *rows)
    made = [
        convert(find_input(str(path)), tmp_path / f"{workers}.jsonl", adapter="openai_chat", workers=workers)
        for workers in (1, 2)
    ]
    assert made[0] == made[1]
    assert (made[0]["not_read"], made[0]["not_judged"], made[0]["kept"]) == ({"x": 12 + 8}, {"score": 4}, 12)


class Recorded(dict[str, Any]):
    """A row that notes which of its keys are asked for."""

    def __init__(self, value: dict[str, Any], path: str, asked: set[str]) -> None:
        super().__init__({key: recorded(item, f"{path}{key}", asked) for key, item in value.items()})
        self.path, self.asked = path, asked

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(self.path + key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.asked.add(self.path + key)
        return super().__getitem__(key)


def recorded(value: Any, path: str, asked: set[str]) -> Any:
    if isinstance(value, dict):
        return Recorded(value, f"{path}." if path else "", asked)
    return [recorded(item, f"{path}[]", asked) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "name", [name for name, adapter in ADAPTERS.items() if not adapter.reads_all and name != "trl_preference"]
)
def test_what_an_adapter_asks_for_is_what_it_declares(name: str) -> None:
    """Else a key would be told as not read that was, or the other way round."""
    adapter = ADAPTERS[name]
    asked: set[str] = set()
    for chunk in chunks_for(adapter, find_input(str(sample_file(name)))):
        for _, row in chunk.rows():
            if isinstance(row, dict):
                for each in row["rows"] if adapter.joins_rows else [row]:
                    adapter.function(
                        {"rows": [recorded(each, "", asked)]} if adapter.joins_rows else recorded(each, "", asked)
                    )
    columns = {name_of(key) if adapter.any_spelling else key for key in asked if "." not in key}
    assert columns <= {*adapter.columns, "id"}
    for path in asked:
        turns, _, key = path.rpartition(".")
        if turns.removesuffix("[]") in adapter.turns:
            assert key in adapter.turn_keys, path


EVERY_KEY = {
    Meaning.JUDGEMENT: (
        "label labels kto_tag kto_label reward rewards score scores rating success successful succeeded resolved solved"
        " correct passed accepted desirable preferred thumbs_up verdict outcome win winner 라벨 레이블 보상 점수 평점 성공"
        " 성공_여부 정답_여부"
    ),
    Meaning.FAULT: "bad undesirable incorrect wrong failed failure 실패",
    Meaning.WEIGHT: (
        "loss train training loss_weight weight sample_weight loss_scale loss_mask trainable learn train_detail"
        " training_detail"
    ),
    Meaning.MEDIA: (
        "image images img imgs picture pictures photo photos video videos audio audios media attachments pixel_values 이미지"
        " 그림 사진 영상 동영상 음성 image_url video_urls audio_path image_paths image_file audio_files image_bytes"
        " image_base64 img_b64 image_data image_list image_content"
    ),
    Meaning.SYSTEM: (
        "system system_prompt system_message system_instruction system_instructions sys_prompt 시스템 시스템_프롬프트"
    ),
    Meaning.TRUTH: "ground_truth ground_truths groundtruth reward_model verification_info",
    Meaning.LICENCE: "license licence licenses licences license_name dataset_license data_license 라이선스 라이센스",
    Meaning.SOURCE: "source",
    Meaning.GROUP: "group",
    Meaning.CHOSEN: "chosen chosen_response chosen_messages",
    Meaning.REJECTED: "rejected rejected_response rejected_messages loser loser_response",
}


def test_every_key_of_the_table_has_its_meaning() -> None:
    for meaning, keys in EVERY_KEY.items():
        for key in keys.split():
            for spelling in (key, key.upper(), key.replace("_", " "), key.replace("_", "-"), f" {key} "):
                assert meaning_of(spelling) is meaning, spelling
    for about in ("model", "score", "rating", "avg_rating", "id", "source", "policy", "tokens", "length", "logps"):
        assert meaning_of(f"chosen_{about}") is meaning_of(f"rejected_{about}") is None, about


def test_every_key_has_one_meaning_in_every_spelling() -> None:
    for key in ("label", "Label", "kto_tag", "kto-tag", "KTO Tag", "ktoTag", "is_success"):
        assert meaning_of(key) is Meaning.JUDGEMENT, key
    for key in ("id", "messages", "labelled_by", "scoreboard", "image_count", "medium"):
        assert meaning_of(key) is None, key


# --- which adapter, file by file ---


def test_a_folder_of_chats_and_pairs_is_refused_with_both_lists(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    write_rows(folder / "a.jsonl", *[BASES["sharegpt"]] * 3)
    write_rows(folder / "b.jsonl", *[{"messages": SAID, "rejected_response": "몰라요."}] * 3)
    code, _, err = run("convert", folder, "--out", tmp_path / "out.jsonl")
    assert code == 2 and f"chats (sharegpt): {folder / 'a.jsonl'}" in err
    assert f"pairs (preference_columns): {folder / 'b.jsonl'}" in err
    (folder / "b.jsonl").unlink()
    write_rows(folder / "c.jsonl", *[BASES["openai_chat"]] * 3)
    for workers in (1, 2):  # each file by its own adapter
        out_file = tmp_path / f"{workers}.jsonl"
        code, out, _ = run("convert", folder, "--workers", workers, "--out", out_file)
        assert code == 0 and "read as sharegpt" in out and "read as trl_messages" in out
        assert [row["messages"][-1]["content"] for row in rows_in(out_file)] == ["답"] * 3 + ["맑아요."] * 3


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_file_of_chats_and_pairs_is_refused_wherever_the_pairs_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr("data.formats.json_documents.CHUNK_BYTES", 4000)
    chat, pair = BASES["openai_chat"], {**BASES["openai_chat"], "rejected_response": "몰라요."}
    rows = [chat] * 900
    start = {"first": 0, "middle": 400, "last": 800}[place]
    rows[start : start + 100] = [pair] * 100
    path = write_rows(tmp_path / "rows.jsonl", *rows)
    with pytest.raises(UserError, match=r"chats: lines (.|\n)*pairs: lines "):
        convert(find_input(str(path)), tmp_path / "out.jsonl")
    as_list = tmp_path / "rows.json"
    as_list.write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(UserError, match="rows of chats and rows of pairs"):
        convert(find_input(str(as_list)), tmp_path / "out.jsonl")


def test_auto_takes_what_keeps_most_and_says_why(run: Run, tmp_path: Path) -> None:
    prompt = {"prompt": "q", "completion": "a"}
    odd = {"messages": SAID, "instruction": "", "output": None, **prompt}
    rows = [odd] * 8 + [{**prompt, "instruction": "i", "output": "o"}]
    code, out, _ = run("convert", write_rows(tmp_path / "rows.jsonl", *rows), "--out", tmp_path / "out.jsonl")
    assert code == 0 and "read as trl_prompt_completion" in out and "it keeps 9 of 9 sampled rows" in out
    assert "alpaca would keep 1 (8 x column 'output' is no text)" in out and "warning" not in out
    rows = [BASES["openai_chat"]] * 4 + [{"messages": [{"role": "critic", "content": "x"}]}]
    code, out, _ = run("convert", write_rows(tmp_path / "rows.jsonl", *rows), "--out", tmp_path / "out.jsonl")
    assert code == 0 and "warning: 20% of the sampled rows cannot be read so" in out


def test_columns_give_no_name_and_no_licence(run: Run, tmp_path: Path) -> None:
    rows = {
        "dolly_15k": {"instruction": "q", "context": "c", "response": "a"},
        "xlam_function_calling_60k": {
            "query": "q",
            "answers": '[{"name": "f", "arguments": {}}]',
            "tools": '[{"name": "f"}]',
        },
        "ultrachat": {"id": "1", "data": ["q", "a"]},
        "ultrafeedback_binarized": {
            "prompt": "q",
            "chosen": "a",
            "rejected": "b",
            "score_chosen": 2,
            "score_rejected": 1,
        },
    }
    for name, row in rows.items():
        for workers in (1, 2):
            path = write_rows(tmp_path / "우리.jsonl", row)
            code, out, _ = run("convert", path, "--workers", workers, "--out", tmp_path / "out.jsonl")
            assert code == 0 and f"--adapter {name}" in out
            (made,) = rows_in(tmp_path / "out.jsonl")
            assert made["licence"] is None and made["source"] == "우리"
        run("convert", path, "--adapter", name, "--out", tmp_path / "out.jsonl")
        (made,) = rows_in(tmp_path / "out.jsonl")
        assert made["licence"] == ADAPTERS[name].terms.licence and made["source"] == name
    # A file that is called like a dataset is not that dataset.
    run("convert", write_rows(tmp_path / "dolphin.jsonl", rows["dolly_15k"]), "--out", tmp_path / "out.jsonl")
    assert rows_in(tmp_path / "out.jsonl")[0]["source"] == "dolphin.jsonl"


# --- licences and origins ---


@pytest.mark.parametrize(
    ("licence", "passes"),
    [
        ("cc-by-nc-4.0", False), ("CC BY-NC-SA 4.0", False), ("cc_by_nc_4_0", False), ("Non-Commercial use", False),
        ("research only", False), ("Research Use Only", False), ("비상업적 이용", False), ("상업적 이용 금지", False),
        (["MIT", "CC-BY-NC-4.0"], False), ("MIT", True), ("apache-2.0", True), ("cc-by-4.0", True), ("AFL-3.0", True),
        (None, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["license", "licence", "라이선스"])
def test_the_licence_of_a_row_is_obeyed(run: Run, tmp_path: Path, key: str, licence: Any, passes: bool) -> None:
    rows = [{**BASES["openai_chat"], "id": "a", key: licence}, {**BASES["openai_chat"], "id": "b", "license": "MIT"}]
    path = write_rows(tmp_path / "rows.jsonl", *rows)
    assert run("convert", path, "--licence", "commercial", "--out", tmp_path / "out.jsonl")[0] == 0
    assert [row["id"] for row in rows_in(tmp_path / "out.jsonl")] == (["a", "b"] if passes else ["b"])
    assert rows_in(tmp_path / "out.jsonl")[-1]["licence"] == "MIT"


FORMATS = ("openai", "hermes", "sharegpt", "atif", "glaive", "react")


@pytest.mark.parametrize("format", FORMATS)
def test_every_export_carries_where_a_row_came_from(run: Run, tmp_path: Path, format: str) -> None:
    rows = [
        {"messages": SAID, "id": f"행 {place}", "license": licence, "source": "우리 팀", "group": "과제 1"}
        for place, licence in enumerate(["MIT", None, "cc-by-nc-4.0", "CC-BY-4.0"])
    ]
    assert run("convert", write_rows(tmp_path / "rows.jsonl", *rows), "--out", tmp_path / "chats.jsonl")[0] == 0
    assert run("export", tmp_path / "chats.jsonl", "--format", format, "--out", tmp_path / "x.jsonl")[0] == 0
    read_by = {
        "openai": "openai_chat",
        "hermes": "sharegpt_tools",
        "sharegpt": "sharegpt_tools",
        "atif": "atif",
        "react": "react",
    }
    if format in read_by:
        assert (
            run("convert", tmp_path / "x.jsonl", "--adapter", read_by[format], "--out", tmp_path / "back.jsonl")[0] == 0
        )
        keys = ("messages", "id", "source", "licence", "group")
        wanted, back = (rows_in(tmp_path / name) for name in ("chats.jsonl", "back.jsonl"))
        assert [[row[key] for key in keys] for row in back] == [[row[key] for key in keys] for row in wanted]
    for row, told in zip(rows_in(tmp_path / "x.jsonl"), rows, strict=True):
        held = {**row, **row.get("extra", {})}
        assert held.get("id", held.get("session_id")) == told["id"]
        assert (held["licence"], held["source"], held["group"]) == (told["license"], "우리 팀", "과제 1")


@pytest.mark.parametrize("format", FORMATS)
def test_bare_rows_leave_their_origin_beside_them(run: Run, tmp_path: Path, format: str) -> None:
    rows = [
        {"messages": SAID, "id": f"{place}", "license": licence, "source": "우리 팀", "group": "과제 1"}
        for place, licence in enumerate(["MIT", None, "cc-by-nc-4.0", "CC-BY-4.0", "some house licence"])
    ]
    run("convert", write_rows(tmp_path / "rows.jsonl", *rows), "--out", tmp_path / "chats.jsonl")
    code, out, _ = run("export", tmp_path / "chats.jsonl", "--format", format, "--bare", "--out", tmp_path / "x.jsonl")
    assert code == 0 and "dropped: its licence is not known, so it cannot go bare" in out
    text = (tmp_path / "x.jsonl").read_text(encoding="utf-8")
    assert len(text.splitlines()) == 2
    assert not any(told in text for told in ("우리 팀", "과제 1", "MIT", "licence", '"id"', "session_id"))
    assert rows_in(tmp_path / "x.origins.jsonl") == [
        {"id": place, "source": "우리 팀", "licence": licence, "group": "과제 1"}
        for place, licence in (("0", "MIT"), ("3", "CC-BY-4.0"))
    ]
    counts = json.loads((tmp_path / "x.counts.json").read_text(encoding="utf-8"))
    assert counts["read"] == 5 == counts["kept"] + sum(counts["dropped"].values())
    write_rows(tmp_path / "chats.jsonl", *[{**row, "licence": None} for row in rows_in(tmp_path / "chats.jsonl")])
    code, _, err = run("export", tmp_path / "chats.jsonl", "--format", format, "--bare", "--out", tmp_path / "y.jsonl")
    assert code == 2 and "5 x its licence is not known" in err and not list(tmp_path.glob("y.*"))


def test_an_export_obeys_the_same_rules(run: Run, tmp_path: Path) -> None:
    rows = [{"messages": SAID, "score": value, "note": "n"} for value in (0.9, 0.37, "좋음")]
    path, out = write_rows(tmp_path / "rows.jsonl", *rows), tmp_path / "out.jsonl"
    export = ("export", path, "--adapter", "openai_chat", "--format", "sharegpt", "--out", out)
    code, _, err = run(*export)
    assert code == 2 and 'score: 0.9, 0.37, "좋음" (line 1, 3 rows' in err and not out.exists()
    code, told, _ = run(*export, "--ignore", "score")
    assert code == 0 and [row["conversations"][1]["value"] for row in rows_in(out)] == ["맑아요."] * 3
    counts = json.loads(out.with_suffix(".counts.json").read_text(encoding="utf-8"))
    assert counts["not_read"] == {"score": 3, "note": 3} and "note" in told
    write_rows(path, *rows[:2])
    code, told, _ = run(*export, "--good-from", "score=0.5")
    assert code == 0 and len(rows_in(out)) == 1 and "dropped: score is below 0.5: a bad answer  1" in told
    assert run(*export, "--ignore", "score", "--good-from", "score=0.5")[0] == 2
