"""Preference adapters: where two conversations part, which answer is chosen and by what margin, and what is skipped."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.chats import Chat, Message, PreferencePair, Skip, what_is_said
from data.formats.catalogue import ADAPTERS
from data.formats.hh_rlhf import hh_rlhf_row, transcript_to_messages
from data.formats.inputs import find_input
from data.formats.oasst import oasst_pairs_row, paths_to, row_to_tree
from data.formats.preference import trl_preference_row
from data.formats.rated_answers import ultrafeedback_row
from data.formats.reading import adapt
from data.formats.row_keys import meaning_of, name_of
from data.sets.convert import convert
from support.commands import Run
from support.paths import SAMPLES

PAIR_ADAPTERS = [name for name, adapter in ADAPTERS.items() if adapter.kind == "pair" and name != "pairs"]


def rows_of(name: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    column = ADAPTERS[name].group_by
    return [{"rows": list(group)} for _, group in groupby(rows, key=lambda row: row[column])] if column else rows


def pairs_of(name: str) -> list[PreferencePair]:
    results = [result for row in rows_of(name) for result in adapt(ADAPTERS[name], row)]
    return [result for result in results if isinstance(result, PreferencePair)]


def one(result: Chat | PreferencePair | Skip) -> PreferencePair:
    assert isinstance(result, PreferencePair), result
    return result


def texts(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


# --- where two conversations part ---


def test_the_four_forms_of_trl_agree() -> None:
    plain = {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}
    forms: list[dict[str, Any]] = [
        plain,
        {"chosen": plain["prompt"] + plain["chosen"], "rejected": plain["prompt"] + plain["rejected"]},
        {
            "prompt": [user(plain["prompt"])],
            "chosen": [assistant(plain["chosen"])],
            "rejected": [assistant(plain["rejected"])],
        },
        {side: [user(plain["prompt"]), assistant(plain[side])] for side in ("chosen", "rejected")},
    ]
    pairs = [one(trl_preference_row(form)) for form in forms]
    assert {(pair.prompt, pair.chosen, pair.rejected) for pair in pairs} == {
        (
            (Message(role="user", content="The sky is"),),
            (Message(role="assistant", content=" blue."),),
            (Message(role="assistant", content=" green."),),
        )
    }
    assert [pair.margin for pair in pairs] == [None] * 4


def test_texts_with_an_implicit_prompt_part_between_words() -> None:
    pair = one(trl_preference_row({"chosen": "Name it: black", "rejected": "Name it: blue"}))
    assert (pair.prompt[0].content, pair.chosen[0].content, pair.rejected[0].content) == ("Name it:", " black", " blue")


def test_calls_and_results_of_both_sides_become_real_ones() -> None:
    pair = next(pair for pair in pairs_of("trl_preference") if pair.id == "tools-1")
    assert texts(pair.prompt) == [("system", "Be brief."), ("user", "서울 날씨?")]
    assert [message.role for message in pair.chosen] == ["assistant", "tool", "assistant"]
    assert pair.chosen[0].tool_calls[0].arguments == {"city": "서울"}
    assert pair.rejected[0].tool_calls[0].arguments == {"city": "부산"}
    assert pair.tools[0].function.name == "get_weather"
    assert "enable_thinking" not in pair.model_dump_json()


def test_a_result_in_the_prompt_stays_there() -> None:
    pair = pairs_of("trl_preference")[5]
    assert [message.role for message in pair.prompt] == ["user", "assistant", "tool"]
    assert (pair.chosen[0].content, pair.rejected[0].content) == ("It snows.", "It rains.")


WORDS = st.sampled_from(["", " ", "a", "네", "한국어 텍스트", "two\n\nlines", "\n\nHuman:", "<|im_end|>", "𝄞"])


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, str]]:
    turns = [{"role": "system", "content": draw(WORDS)}] if draw(st.booleans()) else []
    turns.append(user(draw(WORDS)))
    for _ in range(draw(st.integers(0, 2))):
        turns += [assistant(draw(WORDS)), user(draw(WORDS))]
    return turns


@given(
    history=histories(),
    chosen=st.lists(WORDS, min_size=1, max_size=3),
    rejected=st.lists(WORDS, min_size=1, max_size=3),
)
def test_a_pair_holds_both_conversations_whole_and_parts_where_they_do(
    history: list[dict[str, str]], chosen: list[str], rejected: list[str]
) -> None:
    sides: list[list[dict[str, str]]] = [
        [*history, *(turn(text) for turn, text in zip([assistant, user, assistant], side, strict=False))]
        for side in (chosen, rejected)
    ]
    result = trl_preference_row({"chosen": sides[0], "rejected": sides[1]})
    if isinstance(result, Skip):
        said = [[(turn["role"], turn["content"].strip()) for turn in side] for side in sides]
        shorter = min(map(len, said))
        parting = next((place for place in range(shorter) if said[0][place] != said[1][place]), shorter)
        assert parting == shorter or said[0][parting][0] == "user"
        return
    assert len(result.prompt) >= len(history)
    assert texts([*result.prompt, *result.chosen]) == [(turn["role"], turn["content"]) for turn in sides[0]]
    back = [(role, text.strip()) for role, text in texts([*result.prompt, *result.rejected])]
    assert back == [(turn["role"], turn["content"].strip()) for turn in sides[1]]
    assert what_is_said(result.chosen[:1]) != what_is_said(result.rejected[:1])


def test_a_plain_prompt_beside_whole_conversations_is_a_copy_and_not_said_twice() -> None:
    for pair in (*pairs_of("infinity_preference")[:4], *pairs_of("tulu_3_pref_personas_if")[:2]):
        assert [message.role for message in pair.prompt] == ["user"]
        assert [message.role for message in pair.chosen] == ["assistant"]


def test_openai_and_sharegpt_sides_may_be_calls() -> None:
    by_call = [pairs_of("openai_preference")[1], pairs_of("sharegpt_preference")[2]]
    assert [pair.chosen[0].tool_calls[0].name for pair in by_call] == ["get_weather", "get_weather"]
    assert by_call[0].chosen[0].tool_calls[0].arguments == {"city": "Oslo", "days": None}
    assert by_call[0].prompt[0].role == "system"


# --- HH-RLHF ---

H, A = "\n\nHuman: ", "\n\nAssistant: "


def hh(chosen: str, rejected: str) -> PreferencePair | Skip:
    return hh_rlhf_row({"chosen": chosen, "rejected": rejected})


def test_a_marker_typed_by_a_person_is_text_of_that_turn() -> None:
    log = f"What is this log?{H}is it up?"
    pair = one(hh(H + log + A + "A question.", H + log + A + "No idea."))
    assert texts(pair.prompt) == [("user", log)]
    assert texts(pair.chosen) == [("assistant", "A question.")]


def test_a_marker_typed_by_the_model_is_text_of_its_answer() -> None:
    pair = one(hh(H + "Find it." + A + "Here:" + A + "let us try.", H + "Find it." + A + "No."))
    assert texts(pair.prompt) == [("user", "Find it.")]
    assert texts(pair.chosen) == [("assistant", "Here:" + A + "let us try.")]


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (
            H + "Hi" + A + "Hello." + H + "Who?" + A + "Me.",
            H + "Hi" + A + "No.",
            "a human's marker after the transcripts part",
        ),
        (H + "Hi" + A + "So:" + A + "yes", H + "Hi" + A + "So:" + A + "no", "a typed marker that both answers share"),
        (H + "Hi" + A + "x", H + "Ho" + A + "y", "the sides part at words that are not the model's"),
        (H + "Hi" + A + "x", H + "Hi" + A + "x", "both sides are the same"),
        (H + "Hi" + A + "x", "Human: Hi" + A + "x", "a transcript that does not begin with a human"),
        (H + "Hi", H + "Ho", "the sides part at words that are not the model's"),
    ],
)
def test_transcripts_that_cannot_be_told_apart_are_skipped(chosen: str, rejected: str, reason: str) -> None:
    assert hh(chosen, rejected) == Skip(reason)


@given(turns=st.lists(st.text("ab :\n", max_size=6) | st.just("네"), min_size=2, max_size=6))
def test_a_transcript_is_read_without_losing_a_letter(turns: list[str]) -> None:
    text = "".join((A if place % 2 else H) + turn for place, turn in enumerate(turns))
    messages = transcript_to_messages(text)
    assert "".join((H if message.role == "user" else A) + message.content for message in messages) == text


# --- rated, ranked and voted answers ---


def test_ultrafeedback_sets_the_best_mean_rating_against_each_lower_one() -> None:
    pairs = [pair for pair in pairs_of("ultrafeedback") if pair.prompt[0].content == "Name a prime."]
    assert {pair.chosen[0].content for pair in pairs} == {"7 is prime."}
    # 4's own overall score is 10, the bug of the first release; its ratings are the lowest.
    assert [(pair.rejected[0].content, pair.margin) for pair in pairs] == [
        ("7", 0.5),
        ("Nine.", 5 - 4 / 3),
        ("4", 3.75),
    ]
    assert len({pair.id for pair in pairs}) == 3 and len({pair.group for pair in pairs}) == 1
    assert {pair.source for pair in pairs} == {"ultrafeedback/evol_instruct"}
    assert {pair.licence for pair in pairs} == {"mit"}


def test_of_equally_rated_completions_the_first_is_chosen_and_the_others_are_counted() -> None:
    results = ultrafeedback_row(rows_of("ultrafeedback")[1])
    assert isinstance(results, list)
    assert [result for result in results if isinstance(result, Skip)] == [
        Skip("a completion without a rating"),
        Skip("a completion rated as high as the chosen one"),
    ]
    (pair,) = (result for result in results if isinstance(result, PreferencePair))
    assert (pair.chosen[0].content, pair.rejected[0].content, pair.margin) == ("2입니다.", "", 4.0)


def test_the_preferred_side_is_chosen_whichever_letter_or_number_it_has() -> None:
    assert [pair.chosen[0].content for pair in pairs_of("shp")][:2] == ["Eight minutes.", "Eight minutes."]
    assert [pair.chosen[0].content for pair in pairs_of("helpsteer2_preference")[:3]] == [
        "C# is a language by Microsoft.",
        "서울입니다.",
        "Hello again.",
    ]
    first, second = pairs_of("chatbot_arena_conversations")[:2]
    assert (first.chosen[0].content, second.chosen[0].content) == ("Hello!", "봄이 왔네")


def test_the_sides_of_an_arena_battle_hold_every_turn_after_the_first_question() -> None:
    battle = pairs_of("chatbot_arena_conversations")[1]
    assert texts(battle.prompt) == [("user", "시 한 편")]
    assert [message.role for message in battle.rejected] == ["assistant", "user", "assistant"]
    assert battle.licence == "cc-by-4.0 (prompts), cc-by-nc-4.0 (answers)"


def test_earlier_turns_in_a_helpsteer2_prompt_become_messages() -> None:
    assert texts(pairs_of("helpsteer2_preference")[2].prompt) == [
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "More"),
    ]


def test_pairs_of_one_post_or_tree_are_one_group() -> None:
    assert [pair.group for pair in pairs_of("shp")][:3] == ["abc1", "abc1", "abc2"]
    assert [pair.group for pair in pairs_of("oasst1_pairs")][:3] == ["t1"] * 3


# --- message trees ---


def test_every_two_ranked_answers_to_one_message_are_a_pair() -> None:
    pairs = pairs_of("oasst1_pairs")[:3]
    assert [(pair.chosen[0].content, pair.rejected[0].content) for pair in pairs] == [
        ("An oak, for example.", "A pine."),
        ("An oak, for example.", ""),
        ("A pine.", ""),
    ]
    deep = pairs_of("oasst2_pairs")[1]
    assert texts(deep.prompt) == [("user", "Name a tree."), ("assistant", "An oak."), ("user", "Smaller?")]


def nested(message: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    replies = [nested(row, rows) for row in rows if row["parent_id"] == message["message_id"]]
    return {**{key: value for key, value in message.items() if key != "parent_id"}, "replies": replies}


def test_both_layouts_of_a_tree_are_one_tree_and_the_order_of_rows_does_not_matter() -> None:
    rows = rows_of("oasst1_pairs")[0]["rows"]
    tree_row = {"message_tree_id": "t1", "tree_state": "ready_for_export", "prompt": nested(rows[0], rows)}
    assert row_to_tree({"rows": rows}) == row_to_tree(tree_row) == row_to_tree({"rows": [tree_row]})
    assert oasst_pairs_row(tree_row) == oasst_pairs_row({"rows": rows})
    root = row_to_tree({"rows": rows[::-1]})[1]
    assert sorted(path[-1].id for path in paths_to(root)) == sorted(
        row["message_id"] for row in rows if row["review_result"] is not False
    )
    for path in paths_to(root):
        assert all(child in parent.replies for parent, child in pairwise(path))


# --- all of them ---

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats()
    | st.sampled_from(["", "x", "\n\nHuman: a", "model_a", "tie"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "response", "annotations", "messages", "tool_calls"]),
            inner,
            max_size=3,
        )
        | st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "tool", "system"]), "content": inner})
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("name", PAIR_ADAPTERS)
@settings(max_examples=60)
@given(data=st.data())
def test_no_row_breaks_an_adapter(name: str, data: st.DataObject) -> None:
    """A good row of the format in which some columns hold anything is a pair or a Skip, and never an exception."""
    row = data.draw(st.sampled_from(rows_of(name)))
    if "rows" in row and data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(row["rows"]) - 1))
        spoilt = {
            **row["rows"][place],
            **data.draw(st.dictionaries(st.sampled_from(ADAPTERS[name].columns), VALUES, max_size=2)),
        }
        row = {"rows": [*row["rows"][:place], spoilt, *row["rows"][place + 1 :]]}
    else:
        row = {
            **row,
            **data.draw(st.dictionaries(st.sampled_from([*ADAPTERS[name].columns, *row]), VALUES, max_size=2)),
        }
    assert adapt(ADAPTERS[name], row)


@pytest.mark.parametrize("name", PAIR_ADAPTERS)
def test_columns_that_are_not_listed_change_nothing(name: str) -> None:
    """The table's list of columns is the whole allow-list, beside the keys that mean the same in every format: without the
    others the same comes out, ids of a hash apart."""
    columns, usual = ADAPTERS[name].columns, name_of if ADAPTERS[name].any_spelling else str

    def only_listed(row: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in row.items() if usual(key) in columns or key in columns or meaning_of(key)}

    for row in rows_of(name):
        if "rows" in row:
            bare: dict[str, Any] = {"rows": [only_listed(message) for message in row["rows"]]}
        else:
            bare = only_listed(row)
        for whole, less in zip(adapt(ADAPTERS[name], row), adapt(ADAPTERS[name], bare), strict=True):
            if isinstance(whole, PreferencePair):
                assert one(less).model_copy(update={"id": whole.id, "group": whole.group}) == whole


@pytest.mark.parametrize("name", PAIR_ADAPTERS)
def test_what_may_not_be_used_commercially_is_flagged(name: str) -> None:
    adapter = ADAPTERS[name]
    assert adapter.terms.non_commercial == ("-nc" in (adapter.terms.licence or ""))
    if adapter.hub_id is not None and adapter.terms.licence is None:
        assert "states no licence" in adapter.note


# --- the guide ---

GUIDE = (Path(__file__).parents[1] / "docs" / "adapters.md").read_text(encoding="utf-8")


def test_the_mapping_and_the_function_of_the_guide_make_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    blocks = dict(re.findall(r"^```(yaml|python)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL))
    (tmp_path / "choices.yaml").write_text(blocks["yaml"], encoding="utf-8")
    (tmp_path / "mine.py").write_text(blocks["python"], encoding="utf-8")
    mapped = {"uid": 7, "history": "수도는?", "better": "서울", "worse": [assistant("부산")], "task": "t"}
    voted = {"id": "d", "question": "수도는?", "a": "부산", "b": "서울", "votes_a": 1, "votes_b": 4}
    for row, adapter in ((mapped, "choices.yaml"), (voted, "mine:duel")):
        (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        convert(find_input("rows.jsonl"), tmp_path / "out.jsonl", adapter=adapter)
        pair = PreferencePair.model_validate_json((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
        assert (pair.prompt[0].content, pair.chosen[0].content, pair.rejected[0].content) == ("수도는?", "서울", "부산")
    assert (pair.margin, pair.id) == (3, "d")


def test_the_guide_names_every_adapter_of_pairs() -> None:
    assert set(PAIR_ADAPTERS) <= set(re.findall(r"`(\w+)`", GUIDE))


# --- columns under other names ---


def sides_of(results: Any) -> list[tuple[str, str]]:
    assert all(isinstance(result, PreferencePair) for result in results), results
    return [(pair.chosen[0].content, pair.rejected[0].content) for pair in results]


@pytest.mark.parametrize(
    "written", ["rejected", "Rejected", "REJECTED", "rejectedResponse", "rejected-answer", "loser"]
)
@pytest.mark.parametrize("better", ["chosen", "Chosen", "response", "Output", "winner"])
def test_sides_are_read_under_their_names_in_any_spelling(run: Run, tmp_path: Path, better: str, written: str) -> None:
    if better == "winner" and written != "loser":
        better = "accepted"
    row = {"Prompt": "어디로?", better: "왼쪽.", written: "오른쪽.", "id": 7}
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows.write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    code, told, _ = run("convert", rows, "--out", out)
    assert code == 0 and "read as preference_columns" in told and "not read" not in told
    made = json.loads(out.read_text(encoding="utf-8"))
    texts = [made[part][0]["content"] for part in ("prompt", "chosen", "rejected")]
    assert texts == ["어디로?", "왼쪽.", "오른쪽."] and made["id"] == "7"


@given(answers=st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=5, unique_by=str.strip))
def test_each_of_several_rejected_answers_makes_a_pair_and_none_is_lost(answers: list[str]) -> None:
    best, *worse = answers
    row = {"prompt": "q", "chosen": best, "rejected": worse, "id": "r"}
    results = adapt(ADAPTERS["preference_columns"], row)
    assert sides_of(results) == [(best, text) for text in worse]
    assert [pair.id for pair in results] == (["r"] if len(worse) == 1 else [f"r/{n + 1}" for n in range(len(worse))])
    assert {pair.group for pair in results} == ({None} if len(worse) == 1 else {"r"})  # never on both sides of a split
