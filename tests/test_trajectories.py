"""Trajectory -> Chat with its weights, trajectories -> pairs, and the invariants of both."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from data.chats import Chat, Message, PreferencePair, Skip, ToolCall, check_messages
from data.records import Outcome, Trajectory, read_trajectories
from data.trajectories import Level, trajectories_to_pairs, trajectory_to_chat
from support.paths import SAMPLES
from support.record_samples import action, record, with_metadata

USER = Message(role="user", content="hi")


def call(name: str = "f", id: str = "c", **arguments: Any) -> ToolCall:
    return ToolCall(id=id, name=name, arguments=arguments)


def chat_of(row: dict[str, Any], **options: Any) -> Chat:
    chat = trajectory_to_chat(Trajectory.model_validate(row), **options)
    assert isinstance(chat, Chat)
    return chat


def skip_of(row: dict[str, Any]) -> str:
    result = trajectory_to_chat(Trajectory.model_validate(row))
    assert isinstance(result, Skip)
    return result.reason


def pairs_of(row: dict[str, Any]) -> list[PreferencePair | Skip]:
    return list(trajectories_to_pairs([Trajectory.model_validate(row)]))


def one_pair(row: dict[str, Any]) -> PreferencePair:
    (pair,) = pairs_of(row)
    assert isinstance(pair, PreferencePair), pair
    return pair


def test_failed_step_is_context_and_its_repair_is_learned() -> None:
    chat = chat_of(record())
    assert [(message.role, message.loss_weight) for message in chat.messages] == [
        ("user", 0.0), ("assistant", 0.0), ("tool", 0.0), ("assistant", 1.0), ("tool", 0.0), ("assistant", 1.0),
    ]  # fmt: skip
    assert chat.messages[2].content == "Error: not found: a.txt"
    assert chat.messages[3].tool_calls[0].arguments == {"path": "b/a.txt"}
    assert chat.messages[-1].content == "It says hello."
    assert (chat.id, chat.source, chat.group) == ("files-1", "files", "files-1")


def test_weight_of_the_record_goes_before_the_rule() -> None:
    actions = [action("f", {}, error="no", weight=1), action("f", {"a": 1}, weight=0)]
    weights = [m.loss_weight for m in chat_of(record(action_sequence=actions)).messages if m.role == "assistant"]
    assert weights == [1.0, 0.0, 1.0]


def test_parallel_calls_are_one_message_and_fail_together() -> None:
    actions = [action("f", {}, turn=0, text="Both."), action("g", "ls", error="no", turn=0), action("f", {}, turn=1)]
    chat = chat_of(record(action_sequence=actions))
    said = [message for message in chat.messages if message.role == "assistant"]
    assert [call.name for call in said[0].tool_calls] == ["f", "g"]
    assert said[0].tool_calls[1].arguments == {"input": "ls"}
    assert (said[0].content, said[0].loss_weight) == ("Both.", 0.0)
    assert [message.role for message in chat.messages[1:4]] == ["assistant", "tool", "tool"]


def test_unreadable_call_is_text_and_a_user_message_names_the_fault() -> None:
    invalid = action("invalid_call", {"text": "read_file(a"}, error="no readable call", turn=0)
    chat = chat_of(record(action_sequence=[action("f", {}, turn=0), invalid, action("f", {"a": 1}, turn=0)]))
    assert [(m.role, m.content, len(m.tool_calls)) for m in chat.messages[1:7]] == [
        ("assistant", "", 1), ("tool", "null", 0),
        ("assistant", "read_file(a", 0), ("user", "Error: no readable call", 0),
        ("assistant", "", 1), ("tool", "null", 0),
    ]  # fmt: skip
    assert chat.messages[3].loss_weight == 0


def test_results_are_shown_as_text_or_json() -> None:
    actions = [action("f", {}, output="그대로"), action("f", {}, output={"값": [1, None]})]
    chat = chat_of(record(action_sequence=actions))
    assert [m.content for m in chat.messages if m.role == "tool"] == ["그대로", '{"값": [1, null]}']


def test_rows_that_cannot_be_imitated_are_skipped() -> None:
    assert skip_of(record(outcome="failure")) == "outcome is failure"
    assert skip_of(record(metadata={"answer": "x"})) == "no instruction in metadata"
    hopeless = record(action_sequence=[action("f", {}, error="no")], metadata={"instruction": "x"})
    assert skip_of(hopeless) == "nothing to train on: every step failed"
    assert chat_of(record(outcome="partial"), outcomes=frozenset({Outcome.PARTIAL})).id == "files-1"


def test_all_samples_become_chats_or_skips() -> None:
    results = [
        trajectory_to_chat(r, outcomes=frozenset(Outcome)) for r in read_trajectories(SAMPLES / "trajectories.jsonl")
    ]
    assert [type(result) for result in results] == [Chat, Chat, Skip]
    korean = results[1]
    assert isinstance(korean, Chat)
    assert (korean.licence, korean.group, korean.messages[0].role) == ("CC-BY-4.0", "report", "system")


def test_direct_repair_becomes_the_chosen_side() -> None:
    pair = one_pair(record())
    assert [message.role for message in pair.prompt] == ["user"]
    assert pair.rejected[0].tool_calls[0].arguments == {"path": "a.txt"}
    assert pair.chosen[0].tool_calls[0].arguments == {"path": "b/a.txt"}
    assert (pair.rejected[0].loss_weight, pair.chosen[0].loss_weight) == (1.0, 1.0)
    assert (pair.id, pair.trunk, pair.group) == ("files-1#0", "files-1", "files-1")


def test_advice_goes_before_the_repair_and_shares_the_history() -> None:
    advice = [{"step": 1, "command": "list_files", "input": {"path": "."}}]
    actions = [action("f", {}), action("read_file", {"path": "x"}, error="no"), action("read_file", {"path": "y"})]
    pair = one_pair(record(action_sequence=actions, metadata={"instruction": "go", "advice": advice}))
    assert [message.role for message in pair.prompt] == ["user", "assistant", "tool"]
    assert (pair.chosen[0].tool_calls[0].name, pair.chosen[0].tool_calls[0].arguments) == ("list_files", {"path": "."})


def test_premature_answer_is_rejected_against_the_advised_call() -> None:
    pair = one_pair(
        record(
            outcome="failure",
            action_sequence=[action("list_files", {}, output=[])],
            metadata={"instruction": "go", "answer": "Done.", "advice": [{"step": 1, "command": "read_file"}]},
        )
    )
    assert pair.rejected[0].content == "Done." and not pair.rejected[0].tool_calls
    assert pair.chosen[0].tool_calls[0].name == "read_file"
    assert len(pair.prompt) == 3


def test_advice_to_answer_instead_of_calling_on() -> None:
    advice = [{"step": 0, "command": None, "answer": "42"}]
    pair = one_pair(
        record(action_sequence=[action("f", {}, error="no")], metadata={"instruction": "go", "advice": advice})
    )
    assert (pair.chosen[0].content, pair.chosen[0].tool_calls) == ("42", ())


def test_unreadable_call_is_a_rejected_side() -> None:
    invalid = action("invalid_call", {"text": "read_file(a"}, error="no readable call")
    advice = [{"step": 0, "command": "read_file", "input": {"path": "a"}}]
    pair = one_pair(record(action_sequence=[invalid], metadata={"instruction": "go", "advice": advice}))
    assert pair.rejected[0].content == "read_file(a" and pair.rejected[0].loss_weight == 1.0


@pytest.mark.parametrize(
    ("actions", "reason"),
    [
        ([action("f", {"a": 1}, error="429"), action("f", {"a": 1})], "both sides do the same thing"),
        ([action("f", {}, error="no"), action("g", {})], "failed step without advice or direct repair"),
        (
            [action("f", {}, error="no"), action("f", {"a": 1}, error="no")],
            "failed step without advice or direct repair",
        ),
        ([action("f", {}, error="no"), action("g", {}), action("f", {"a": 1})], "failed step without advice or direct"),
        ([action("f", {}, error="no")], "failed step without advice or direct repair"),
        ([action("f", {}, error="no", turn=0), action("f", {"a": 1}, turn=1)], "failed step without advice or direct"),
    ],
)
def test_steps_that_give_no_pair_are_counted(actions: list[dict[str, Any]], reason: str) -> None:
    results = pairs_of(record(action_sequence=actions))
    assert len(results) == sum(action["error"] is not None for action in actions)
    assert all(isinstance(result, Skip) and result.reason.startswith(reason) for result in results)


def test_only_a_repair_that_is_known_to_be_right_is_chosen() -> None:
    """After an injected fault a model may go on to something else with the same tool, and do that badly."""
    actions = [action("open_page", {"address": "/a"}, error="503"), action("open_page", {"address": "/b"})]
    [skipped] = pairs_of(record(action_sequence=actions, metadata={"instruction": "go", "injected": [[0, "busy"]]}))
    assert isinstance(skipped, Skip) and skipped.reason == "an injected fault made the step fail, not the model"
    for outcome in ("failure", "partial"):
        [skipped] = pairs_of(record(action_sequence=actions, outcome=outcome))
        assert isinstance(skipped, Skip) and skipped.reason == "repaired in a record that did not succeed"
    for foreign in ("twice", [3], [["0", "busy"]], [[1, "busy"]], None):
        assert one_pair(record(action_sequence=actions, metadata={"instruction": "go", "injected": foreign}))
    advice = [{"step": 0, "command": "open_page", "input": {"address": "/c"}}]
    advised = {"instruction": "go", "injected": [[0, "busy"]], "advice": advice}
    assert one_pair(record(action_sequence=actions, outcome="failure", metadata=advised))


def test_arguments_that_differ_only_in_type_are_another_call() -> None:
    for wrong, right in ((True, 1), (1.0, 1), ("1", 1)):
        pair = one_pair(record(action_sequence=[action("f", {"n": wrong}, error="type"), action("f", {"n": right})]))
        assert json.dumps(pair.chosen[0].tool_calls[0].arguments) == json.dumps({"n": right})
    same = [action("f", {"a": 1, "b": 2}, error="429"), action("f", {"b": 2, "a": 1})]
    assert pairs_of(record(action_sequence=same)) == [Skip("both sides do the same thing")]


def test_advice_beyond_what_was_said_and_records_without_instruction() -> None:
    assert (
        pairs_of(with_metadata(answer=None, advice=[{"step": 2, "command": "f"}, {"step": 9, "command": "f"}]))[1:]
        == [Skip("nothing was said at the advised step")] * 2
    )
    assert pairs_of(record(metadata={})) == [Skip("no instruction in metadata")]


def test_pairs_of_one_record_stay_together() -> None:
    actions = [action("f", {}, error="no"), action("f", {"a": 1}), action("g", {}, error="no"), action("g", {"a": 1})]
    records = [Trajectory.model_validate(record(id=name, action_sequence=actions)) for name in "ab"]
    pairs = [pair for pair in trajectories_to_pairs(records) if isinstance(pair, PreferencePair)]
    assert [pair.trunk for pair in pairs] == ["a", "a", "b", "b"]
    assert pairs[1].prompt[: len(pairs[0].prompt)] == pairs[0].prompt


# ---------------------------------------------------------------- two records of one task

LOOK = action("list_files", {"path": "."}, output=["a.txt", "나.txt"])


def of_task(id: str, actions: list[dict[str, Any]], *, outcome: str = "failure", **metadata: Any) -> dict[str, Any]:
    """A record of the one task of these tests."""
    told = {**record()["metadata"], "group": "task", "answer": "Done.", **metadata}
    return record(id=id, action_sequence=actions, outcome=outcome, metadata=told)


def results_of(level: Level, *rows: dict[str, Any]) -> list[PreferencePair | Skip]:
    return list(trajectories_to_pairs([Trajectory.model_validate(row) for row in rows], level=level))


RIGHT = of_task("right", [LOOK, action("read_file", {"path": "나.txt"}, output="옳음")], outcome="success", score=1.0)
WRONG = of_task("wrong", [LOOK, action("read_file", {"path": "a.txt"}, output="틀림"), LOOK], score=0.25)


def test_two_records_share_their_beginning_and_differ_in_all_that_follows() -> None:
    [pair] = results_of("trajectory", WRONG, RIGHT)
    assert isinstance(pair, PreferencePair)
    assert [message.role for message in pair.prompt] == ["user", "assistant", "tool"]
    assert [message.role for message in pair.chosen] == ["assistant", "tool", "assistant"]
    assert [message.role for message in pair.rejected] == ["assistant", "tool", "assistant", "tool", "assistant"]
    assert pair.chosen[1].content == "옳음" and pair.rejected[1].content == "틀림"
    assert (pair.margin, pair.trunk, pair.group, pair.id) == (0.75, "wrong", "task", "wrong#1:right")


def test_by_steps_only_the_first_other_turn_is_kept() -> None:
    [pair] = results_of("step", WRONG, RIGHT)
    assert isinstance(pair, PreferencePair)
    assert [side[0].tool_calls[0].arguments for side in (pair.chosen, pair.rejected)] == [
        {"path": "나.txt"}, {"path": "a.txt"},
    ]  # fmt: skip
    assert (len(pair.chosen), len(pair.rejected), pair.margin) == (1, 1, 0.75)


def test_every_turn_of_the_failed_side_is_scored_and_failed_turns_of_the_other_are_not() -> None:
    failed, worked = action("f", {}, error="no"), action("f", {"a": 1}, output=1)
    right = of_task("right", [failed, worked], outcome="success")
    unreadable = action("invalid_call", {"text": "f(("}, error="no readable call")
    [pair] = results_of("trajectory", of_task("wrong", [unreadable, action("g", {}, error="no")]), right)
    assert isinstance(pair, PreferencePair) and pair.margin is None  # no scores
    weights = [[m.loss_weight for m in side if m.role == "assistant"] for side in (pair.chosen, pair.rejected)]
    assert weights == [[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]


def test_the_success_that_goes_along_farthest_is_compared_with() -> None:
    elsewhere = of_task("elsewhere", [action("f", {}, output=0)], outcome="success", score=1.0)
    [pair] = results_of("trajectory", elsewhere, WRONG, RIGHT)
    assert isinstance(pair, PreferencePair) and pair.id == "wrong#1:right"


ONE = action("f", {"n": 1}, output="x")
BOTH = [action("f", {"n": 1}, turn=0), action("g", {}, turn=0)]


@pytest.mark.parametrize(
    ("level", "right", "wrong", "more", "reason"),
    [
        ("trajectory", [ONE], [ONE], {}, "both sides do the same thing"),
        ("trajectory", BOTH, BOTH[::-1], {}, "both sides do the same thing"),
        ("trajectory", [ONE], [{**ONE, "text": "저는 f를 부릅니다."}], {}, "both sides do the same thing"),
        ("step", [{**ONE, "reasoning": "hm"}, ONE], [ONE], {}, "both sides do the same thing"),
        ("trajectory", [ONE], [ONE], {"answer": None}, "one record ends where the other goes on"),
        ("trajectory", [ONE], [{**ONE, "output": "y"}], {}, "the same call had another result"),
        ("trajectory", [ONE], [ONE], {"instruction": "Another."}, "the two records begin with other words"),
        ("trajectory", [ONE], [ONE], {"tools": []}, "the two records have other tools"),
        ("trajectory", [ONE], [ONE], {"instruction": None}, "no instruction in metadata"),
        ("step", [{**ONE, "error": "no"}, ONE], [LOOK], {}, "the successful record's step failed too"),
        ("trajectory", [ONE], [LOOK], {"score": 1}, "the successful record has no higher score"),
    ],
)
def test_two_records_that_give_no_pair_are_counted(
    level: Level, right: list[dict[str, Any]], wrong: list[dict[str, Any]], more: dict[str, Any], reason: str
) -> None:
    good = of_task("right", right, outcome="success", score=1.0)
    results = results_of(level, good, of_task("wrong", wrong, **{"score": 0, **more}))
    assert [each for each in results if isinstance(each, PreferencePair)] == []
    assert Skip(reason) in results


def test_numbers_of_another_type_are_another_deed() -> None:
    for number in (1.0, True, "1"):
        [pair] = results_of(
            "trajectory",
            of_task("right", [ONE], outcome="success"),
            of_task("wrong", [action("f", {"n": number}, output="x")]),
        )
        assert isinstance(pair, PreferencePair)


def test_records_without_a_partner_are_counted_and_successes_are_no_failures() -> None:
    lonely = {**WRONG, "metadata": {**WRONG["metadata"], "group": "another"}}
    assert results_of("trajectory", lonely, RIGHT) == [Skip("no success of its task to compare with")]
    assert results_of("trajectory", RIGHT, {**RIGHT, "id": "again"}) == []
    assert results_of("step", lonely, RIGHT) == []


def test_advice_at_the_same_place_goes_before_another_record() -> None:
    advice = [{"step": 1, "command": "read_file", "input": {"path": "나.txt"}}]
    advised = {**WRONG, "metadata": {**WRONG["metadata"], "advice": advice}}
    pair, skip = results_of("step", advised, RIGHT)
    assert isinstance(pair, PreferencePair) and (pair.id, pair.margin) == ("wrong#1", 0.75)
    assert skip == Skip("its first divergence has a pair already")


@pytest.mark.parametrize(
    ("score", "margin"), [(0, 1.0), (0.4, 0.6), (1.0, None), (True, None), ("half", None), (7, None)]
)
def test_the_margin_of_advice_is_what_the_score_lacks(score: Any, margin: float | None) -> None:
    failed = [action("f", {}, error="no")]
    advice = [{"step": 0, "command": "g", "input": {}}]
    assert one_pair(of_task("wrong", failed, advice=advice, score=score)).margin == margin


BROKEN_CHATS = [
    ([USER, Message(role="system")], "a system message stands first or nowhere"),
    ([Message(role="user", tool_calls=(call(),))], "only an assistant calls tools"),
    ([Message(role="user", reasoning_content="hm")], "only an assistant calls tools or reasons"),
    ([Message(role="user", weight=1)], "words that are not the model's"),
    ([Message(role="tool", tool_call_id="c")], "no open call"),
    ([Message(role="assistant", tool_calls=(call(),)), USER], "speaks while call 'c' is unanswered"),
    ([Message(role="assistant", tool_calls=(call(), call()))], "occurs twice"),
    ([Message(role="user", tool_call_id="c")], "only a tool message has a tool_call_id"),
    (
        [
            Message(role="assistant", tool_calls=(call(),)),
            Message(role="tool", tool_call_id="c"),
            Message(role="tool", tool_call_id="c"),
        ],
        "no open call",
    ),
]


@pytest.mark.parametrize(("messages", "fault"), BROKEN_CHATS, ids=[fault for _, fault in BROKEN_CHATS])
def test_a_wrong_chat_cannot_exist(messages: list[Message], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        Chat(messages=tuple(messages), id="x", source="s")


def test_a_chat_may_end_with_an_open_call() -> None:
    assert check_messages([USER, Message(role="assistant", tool_calls=(call(),))]) is None


@pytest.mark.parametrize(
    ("chosen", "rejected", "fault"),
    [
        (Message(role="assistant", content="a"), Message(role="assistant", content=" a\n"), "are the same"),
        (USER, Message(role="assistant", content="a"), "chosen starts with user"),
        (
            Message(role="assistant", tool_calls=(call(id="1", a=1),)),
            Message(role="assistant", tool_calls=(call(id="2", a=1),)),
            "are the same",
        ),
    ],
)
def test_a_wrong_pair_cannot_exist(chosen: Message, rejected: Message, fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        PreferencePair(prompt=(USER,), chosen=(chosen,), rejected=(rejected,), id="x", source="s")
