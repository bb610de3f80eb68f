"""Answers that people or models rated, ranked or voted on -> PreferencePair, by the rule in each function's docstring.

A margin is what the source measured, in its own unit: margins of two datasets are not comparable.
"""

from __future__ import annotations

import re
from typing import Any

from data.chats import Message, PreferencePair, Skip
from data.formats.adapter import Adapter, Terms
from data.formats.parts import (
    Conversation,
    Row,
    Unrepresentable,
    list_of_objects,
    row_id,
    skip_if_unrepresentable,
    with_columns,
)
from data.formats.preference import conversations_to_pair, number_in, source_in, text_in, with_answers
from data.formats.turns import TURN_KEYS, say_messages

_ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")


def _mean_rating(completion: Row) -> float | None:
    """The mean of GPT-4's ratings (1 to 5) of the four aspects; "N/A" ones are left out, null where all are."""
    annotations = completion.get("annotations")
    if not isinstance(annotations, dict):
        return None
    ratings = []
    for aspect in _ASPECTS:
        annotation = annotations.get(aspect)
        rating = annotation.get("Rating") if isinstance(annotation, dict) else None
        if isinstance(rating, str | int | float) and re.fullmatch(r"[1-4](\.\d+)?|5(\.0+)?", str(rating)):
            ratings.append(float(rating))
    return sum(ratings) / len(ratings) if ratings else None


@skip_if_unrepresentable
def ultrafeedback_row(row: Row) -> list[PreferencePair | Skip]:
    """The best of the completions against each one that is rated lower; the margin is the difference of their mean ratings.

    The mean of the aspect ratings is used and not `overall_score`, which was 10 for many bad answers in the first release;
    Argilla's binarisation does the same. The first of several best ones is chosen, the others are Skips, as are completions
    without any rating. A completion's `custom_system_prompt` differs from answer to answer and is left out. The pairs of a
    row are one group.
    """
    instruction, own_id = text_in(row, "instruction"), row_id(row)
    rated: list[tuple[float, Row]] = []
    results: list[PreferencePair | Skip] = []
    for completion in list_of_objects(row, "completions"):
        rating = _mean_rating(completion)
        if rating is None:
            results.append(Skip("a completion without a rating"))
        else:
            rated.append((rating, completion))
    if len(rated) < 2:
        raise Unrepresentable("fewer than two rated completions")
    rated.sort(key=lambda entry: -entry[0])  # stable: of equals the first in the row stays first
    best, chosen = rated[0]
    for place, (rating, completion) in enumerate(rated[1:], start=1):
        if rating == best:
            results.append(Skip("a completion rated as high as the chosen one"))
            continue
        try:
            pair = conversations_to_pair(
                *with_answers(instruction, chosen.get("response"), completion.get("response")),
                margin=best - rating,
                id=f"{own_id}/{place}",
                source=source_in(row),
                group=own_id,
            )
        except Unrepresentable as reason:
            results.append(Skip(str(reason)))
        else:
            results.append(pair)
    return results


@skip_if_unrepresentable
def shp_row(row: Row) -> PreferencePair:
    """A Reddit post and two comments: `labels` 1 prefers A, 0 prefers B; the margin is `score_ratio`, the higher score over
    the lower one (1 or more; the authors train on 2 and more). The pairs of a post are one group."""
    label = row.get("labels")
    if isinstance(label, bool) or label not in (0, 1):
        raise Unrepresentable("column 'labels' is neither 0 nor 1")
    better, worse = ("A", "B") if label == 1 else ("B", "A")
    if number_in(row, f"score_{better}") < number_in(row, f"score_{worse}"):
        raise Unrepresentable("the preferred comment has the lower score")
    post = row_id(row, "post_id")
    better_id, worse_id = row.get(f"c_root_id_{better}"), row.get(f"c_root_id_{worse}")
    named = isinstance(better_id, str) and isinstance(worse_id, str)
    return conversations_to_pair(
        *with_answers(text_in(row, "history"), row.get(f"human_ref_{better}"), row.get(f"human_ref_{worse}")),
        margin=number_in(row, "score_ratio"),
        id=f"{post}/{better_id}/{worse_id}" if named else row_id(row),
        source=row["domain"] if isinstance(row.get("domain"), str) else "",
        group=post,
    )


@skip_if_unrepresentable
def chatbot_arena_conversations_row(row: Row) -> PreferencePair:
    """The conversation whose model a visitor preferred against the other; both hold several turns where the visitor went
    on. `winner` is model_a, model_b, tie or "tie (bothbad)"; ties are Skips. No margin."""
    winner = row.get("winner")
    if winner in ("tie", "tie (bothbad)"):
        raise Unrepresentable(str(winner))
    if winner not in ("model_a", "model_b"):
        raise Unrepresentable("an unknown winner")
    sides: dict[str, list[Message]] = {}
    for side in ("a", "b"):
        conversation = Conversation()
        say_messages(conversation, list_of_objects(row, f"conversation_{side}"))
        sides[f"model_{side}"] = conversation.finished()
    chosen = sides.pop(winner)
    (rejected,) = sides.values()
    return conversations_to_pair(chosen, rejected, id=row_id(row, "question_id"))


_STEERLM_TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")


def _steps_to_pair(history: list[Message], first: Any, second: Any, strength: float, own_id: str) -> PreferencePair:
    """The better of two responses: the strength runs from -3 (the first is much better) to 3 (the second is)."""
    if strength == 0:
        raise Unrepresentable("tie")
    chosen, rejected = (first, second) if strength < 0 else (second, first)
    return conversations_to_pair(*with_answers(history, chosen, rejected), margin=abs(strength), id=own_id)


@skip_if_unrepresentable
def helpsteer2_preference_row(row: Row) -> PreferencePair:
    """Two responses and `preference_strength`, from -3 (response 1 is much better) to 3 (response 2 is); the margin is its
    absolute value, 0 is a Skip. Earlier turns stand in the prompt behind `<extra_id_1>Assistant` and `<extra_id_1>User`."""
    said, *pieces = _STEERLM_TURN.split(text_in(row, "prompt"))
    history = [Message(role="user", content=said)]
    for speaker, text in zip(pieces[::2], pieces[1::2], strict=True):
        history.append(Message(role="user" if speaker == "User" else "assistant", content=text))
    if history[-1].role != "user":
        raise Unrepresentable("a prompt that ends within the assistant's turn")
    return _steps_to_pair(
        history, row.get("response_1"), row.get("response_2"), number_in(row, "preference_strength"), row_id(row)
    )


@skip_if_unrepresentable
def helpsteer3_preference_row(row: Row) -> PreferencePair:
    """As HelpSteer2, with the history as messages in `context`, `response1`, `response2` and `overall_preference`."""
    conversation = Conversation()
    say_messages(conversation, list_of_objects(row, "context"))
    return _steps_to_pair(
        conversation.messages,
        row.get("response1"),
        row.get("response2"),
        number_in(row, "overall_preference"),
        row_id(row),
    )


ADAPTERS = (
    Adapter(
        name="ultrafeedback",
        kind="pair",
        function=ultrafeedback_row,
        columns=("instruction", "completions", "source"),
        hub_id="openbmb/UltraFeedback",
        terms=Terms(licence="mit", openai_derived=True),
        matches=with_columns("instruction", "completions", "models"),
        turns=("completions",),
        turn_keys=frozenset({"response", "annotations"}),
        schema="public pages",
        note="The completion with the best mean of four aspect ratings against each lower one, up to three pairs a row; "
        "margin: difference of the means (1 to 5). Part truthful_qa overlaps with the benchmark of that name.",
    ),
    Adapter(
        name="chatbot_arena_conversations",
        kind="pair",
        function=chatbot_arena_conversations_row,
        columns=("conversation_a", "conversation_b", "winner", "question_id"),
        hub_id="lmsys/chatbot_arena_conversations",
        terms=Terms(
            licence="cc-by-4.0 (prompts), cc-by-nc-4.0 (answers)", gated=True, non_commercial=True, openai_derived=True
        ),
        matches=with_columns("conversation_a", "conversation_b", "winner"),
        turns=("conversation_a", "conversation_b"),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="Ties are left out. Both sides hold all turns after the first question. Some texts are unsafe. No margin.",
    ),
    Adapter(
        name="shp",
        kind="pair",
        function=shp_row,
        columns=(
            "history",
            "human_ref_A",
            "human_ref_B",
            "labels",
            "score_A",
            "score_B",
            "score_ratio",
            "post_id",
            "c_root_id_A",
            "c_root_id_B",
            "domain",
        ),
        hub_id="stanfordnlp/SHP",
        matches=with_columns("history", "human_ref_A", "human_ref_B", "labels", "score_ratio"),
        schema="public pages",
        note="The card states no licence (an early version: MIT); Reddit's terms apply. Margin: the higher score over the "
        "lower one; the authors train on 2 and more.",
    ),
    Adapter(
        name="helpsteer2_preference",
        kind="pair",
        function=helpsteer2_preference_row,
        columns=("prompt", "response_1", "response_2", "preference_strength"),
        hub_id="nvidia/HelpSteer2",
        terms=Terms(licence="cc-by-4.0"),
        matches=with_columns("prompt", "response_1", "response_2", "preference_strength"),
        schema="public pages",
        note="Point at its file preference/preference.jsonl.gz: the hub id alone gives ratings of single answers. "
        "Margin: 1 (slightly better) to 3 (much better); ties are left out.",
    ),
    Adapter(
        name="helpsteer3_preference",
        kind="pair",
        function=helpsteer3_preference_row,
        columns=("context", "response1", "response2", "overall_preference"),
        hub_id="nvidia/HelpSteer3",
        terms=Terms(licence="cc-by-4.0"),
        matches=with_columns("context", "response1", "response2", "overall_preference"),
        turns=("context",),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="Take `--subset preference`. Margin: 1 (slightly better) to 3 (much better); ties are left out.",
    ),
)
