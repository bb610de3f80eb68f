"""Rows with a chosen and a rejected side -> PreferencePair: TRL's formats and the datasets that are written in them.

TRL's preference type (https://huggingface.co/docs/trl/dataset_formats#preference) has four forms, all read here:

    {"prompt": [messages], "chosen": [messages], "rejected": [messages]}      conversational
    {"chosen": [messages], "rejected": [messages]}                            conversational, implicit prompt
    {"prompt": "text", "chosen": "text", "rejected": "text"}                  plain
    {"chosen": "text", "rejected": "text"}                                    plain, implicit prompt

Messages are OpenAI's, with calls and results, and `tools` is a list of definitions or its JSON text. However a row is written,
its two sides are two whole conversations, and `conversations_to_pair` finds where they part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data.chats import Message, PreferencePair, Skip, what_is_said
from data.formats.adapter import Adapter, Terms
from data.formats.parts import (
    Conversation,
    Row,
    Unrepresentable,
    list_of_objects,
    row_id,
    skip_if_unrepresentable,
    tools_of,
    with_columns,
    with_content,
)
from data.formats.sharegpt_tools import sharegpt_tools_row
from data.formats.turns import TURN_KEYS, say_messages
from data.records import ToolSpec

SAME = "both sides are the same"

# Where other formats keep the prompt. Two plain texts beside one of these are answers, and begin with no prompt.
_FOREIGN_PROMPTS = ("instruction", "input", "question", "query", "history", "context", "messages", "conversations")


def conversations_to_pair(
    chosen: Sequence[Message],
    rejected: Sequence[Message],
    *,
    id: str,
    tools: tuple[ToolSpec, ...] = (),
    margin: float | None = None,
    source: str = "",
    group: str | None = None,
) -> PreferencePair:
    """The pair of two whole conversations: what both begin with is the prompt, the first difference starts the sides.

    Messages are compared by what is said in them, so whitespace at their ends makes no difference.

    Raises:
        Unrepresentable: where the conversations say the same, one is the beginning of the other, or they part at words that
            are not the model's; then they are answers to different prompts.
    """
    shared = 0
    same_ids: dict[str | None, str | None] = {None: None}  # a call's id in the chosen conversation and in the other
    for one, other in zip(chosen, rejected, strict=False):
        is_answer_to_same = same_ids.get(one.tool_call_id, one.tool_call_id) == other.tool_call_id
        if not is_answer_to_same or what_is_said([one]) != what_is_said([other]):
            break
        same_ids |= {call.id: same.id for call, same in zip(one.tool_calls, other.tool_calls, strict=True)}
        shared += 1
    if shared == len(chosen) == len(rejected):
        raise Unrepresentable(SAME)
    if shared in (len(chosen), len(rejected)):
        raise Unrepresentable("one side is the beginning of the other")
    if chosen[shared].role != "assistant" or rejected[shared].role != "assistant":
        raise Unrepresentable("the sides part at words that are not the model's")
    if not shared:
        raise Unrepresentable("no prompt before the answers")
    return PreferencePair(
        prompt=tuple(chosen[:shared]),
        chosen=tuple(chosen[shared:]),
        rejected=tuple(rejected[shared:]),
        tools=tools,
        margin=margin,
        id=id,
        source=source,
        group=group,
    )


def with_answers(prompt: str | Sequence[Message], *answers: Any) -> list[list[Message]]:
    """One conversation for each answer text to one prompt, which is a user's text or a history.

    Raises:
        Unrepresentable: where an answer is null or no text.
    """
    if not all(isinstance(answer, str) for answer in answers):
        raise Unrepresentable("an answer that is not text")
    history = [Message(role="user", content=prompt)] if isinstance(prompt, str) else list(prompt)
    return [[*history, Message(role="assistant", content=answer)] for answer in answers]


def text_in(row: Row, column: str) -> str:
    """The text of a column, which may be empty but not null.

    Raises:
        Unrepresentable: where it is no text.
    """
    value = row.get(column)
    if not isinstance(value, str):
        raise Unrepresentable(f"column {column!r} is no text")
    return value


def number_in(row: Row, column: str) -> float:
    """The number of a column.

    Raises:
        Unrepresentable: where it is no number that a float can hold.
    """
    value = row.get(column)
    # A range and no isfinite, which fails on whole numbers that no float can hold.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e300 < value < 1e300:
        raise Unrepresentable(f"column {column!r} is no number")
    return float(value)


def source_in(row: Row) -> str:
    """The row's own name of the part it came from, or nothing."""
    source = row.get("source")
    return source if isinstance(source, str) else ""


def _said(messages: Sequence[Row]) -> Conversation:
    conversation = Conversation()
    say_messages(conversation, list(messages))
    return conversation


def _is_transcript(text: Any) -> bool:
    return isinstance(text, str) and text.startswith("\n\nHuman:")


def _conversations(row: Row) -> tuple[list[Message], list[Message], tuple[ToolSpec, ...]]:
    """Both sides of a row in any of TRL's forms, as whole conversations, and the tools that their system prompt tells."""
    chosen, rejected, prompt = row.get("chosen"), row.get("rejected"), row.get("prompt")
    if isinstance(chosen, str) and isinstance(rejected, str):
        if _is_transcript(chosen) and _is_transcript(rejected):
            raise Unrepresentable("transcripts are read by the adapter hh_rlhf")
        if prompt is None:
            if any(row.get(column) is not None for column in _FOREIGN_PROMPTS):
                raise Unrepresentable("a prompt in a column that is not of this format")
            prompt, chosen, rejected = _split_texts(chosen, rejected)
    history: list[Row] = []
    if isinstance(prompt, str):
        history = [{"role": "user", "content": prompt}]
    elif prompt is not None:
        history = list_of_objects(row, "prompt")
        if history[-1].get("role") == "assistant":
            raise Unrepresentable("a prompt that ends within the assistant's turn")
    repeats_prompt = isinstance(prompt, list)
    sides = [
        _messages_of(name, side, history, repeats_prompt=repeats_prompt)
        for name, side in (("chosen", chosen), ("rejected", rejected))
    ]
    return sides[0].finished(), sides[1].finished(), sides[0].tools


def _messages_of(name: str, side: Any, history: list[Row], *, repeats_prompt: bool) -> Conversation:
    """One side as a whole conversation. A side that begins before the assistant is whole already, and repeats the prompt
    where that is given as messages; a prompt's text beside it is a copy of some part."""
    if isinstance(side, str):
        return _said([*history, {"role": "assistant", "content": side}])
    if not isinstance(side, list):
        raise Unrepresentable(f"column {name!r} is neither text nor messages")
    messages = list_of_objects({name: side}, name)
    if messages[0].get("role") == "assistant":
        return _said([*history, *messages])
    said = _said(messages)
    if repeats_prompt and said.messages[: len(history)] != _said(history).messages:
        raise Unrepresentable("a side that begins with another prompt than the column has")
    return said


def _split_texts(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Prompt and completions of two texts: what both begin with, cut before the last word boundary, as a completion begins
    with the space before its first word. TRL's own rule may cut within a word, which no user would write."""
    if chosen == rejected:
        raise Unrepresentable(SAME)
    parting = next(
        (place for place, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other), None
    )
    if parting is None:
        raise Unrepresentable("one side is the beginning of the other")
    cut = max((place for place in range(parting) if chosen[place].isspace()), default=0)
    if not chosen[:cut].strip():
        raise Unrepresentable("no prompt before the answers")
    return chosen[:cut], chosen[cut:], rejected[cut:]


@skip_if_unrepresentable
def trl_preference_row(row: Row) -> PreferencePair:
    """A row in any of TRL's forms. A plain prompt is a user's message and a plain completion the answer to it, as written.

    Where the sides are whole conversations they decide, and a `prompt` text beside them is not read. No margin.
    """
    chosen, rejected, tools = _conversations(row)
    return conversations_to_pair(chosen, rejected, tools=tools_of(row.get("tools")) or tools, id=row_id(row))


def holds_trl_sides(row: Row) -> bool:
    """Whether the sides are messages, or texts beside a prompt. Two bare texts may be anything, and messages that begin with
    the assistant may continue what stands in a column of another format."""
    return all(
        isinstance(row[side], list) and ("prompt" in row or row[side][0]["role"] != "assistant")
        for side in ("chosen", "rejected")
    ) or all(isinstance(row[text], str) for text in ("prompt", "chosen", "rejected"))


@skip_if_unrepresentable
def preference_with_source_row(row: Row) -> PreferencePair:
    """A mixture in one of TRL's forms whose `source` names the part, such as Skywork's and orpo-dpo-mix-40k. No margin."""
    chosen, rejected, tools = _conversations(row)
    return conversations_to_pair(chosen, rejected, tools=tools, id=row_id(row), source=source_in(row))


def _margin(row: Row, chosen_score: str, rejected_score: str) -> float:
    """By how much the chosen side scores higher. Where the scores are equal, the publisher drew the sides by chance."""
    margin = number_in(row, chosen_score) - number_in(row, rejected_score)
    if margin == 0:
        raise Unrepresentable("both sides have the same score")
    if margin < 0:
        raise Unrepresentable("the rejected side has the higher score")
    return margin


@skip_if_unrepresentable
def ultrafeedback_binarized_row(row: Row) -> PreferencePair:
    """H4's binarisation. Margin: difference of GPT-4's overall scores (1 to 10); a difference of 0 or less is a Skip."""
    margin = _margin(row, "score_chosen", "score_rejected")
    chosen, rejected, tools = _conversations(row)
    return conversations_to_pair(chosen, rejected, tools=tools, margin=margin, id=row_id(row, "prompt_id"))


@skip_if_unrepresentable
def ultrafeedback_binarized_cleaned_row(row: Row) -> PreferencePair:
    """Argilla's binarisation without TruthfulQA. Margin: difference of the mean ratings of four aspects (1 to 5); a
    difference of 0 or less is a Skip."""
    margin = _margin(row, "chosen-rating", "rejected-rating")
    chosen, rejected, tools = _conversations(row)
    return conversations_to_pair(chosen, rejected, tools=tools, margin=margin, id=row_id(row), source=source_in(row))


@skip_if_unrepresentable
def code_preference_pairs_row(row: Row) -> PreferencePair:
    """`input` is the question, `accepted` an answer, `rejected` the same answer with bugs put into its code. No margin.

    `instruction` is not read: TRL's own example leaves it out, and its part in the conversation is not documented.
    """
    sides = with_answers(text_in(row, "input"), row.get("accepted"), row.get("rejected"))
    return conversations_to_pair(*sides, id=row_id(row, "ID", "id"))


@skip_if_unrepresentable
def openai_preference_row(row: Row) -> PreferencePair:
    """OpenAI's preference fine-tuning: `{"input": {"messages", "tools"}, "preferred_output", "non_preferred_output"}`.

    The names `preferred_completion` and `non_preferred_completion` of its older reference are read too. No margin.
    """
    given = row.get("input")
    if not isinstance(given, dict):
        raise Unrepresentable("column 'input' is no object")
    history = list_of_objects(given, "messages")
    sides = []
    for name in ("preferred", "non_preferred"):
        column = f"{name}_completion" if row.get(f"{name}_completion") is not None else f"{name}_output"
        sides.append(_said([*history, *list_of_objects(row, column)]))
    tools = tools_of(given.get("tools")) or sides[0].tools
    return conversations_to_pair(*(side.finished() for side in sides), tools=tools, id=row_id(row))


@skip_if_unrepresentable
def sharegpt_preference_row(row: Row) -> PreferencePair:
    """LLaMA-Factory's ranking format: `conversations` up to the question, `chosen` and `rejected` one turn each. No margin.

    Turns are read as the adapter sharegpt_tools reads them.
    """
    turns = list_of_objects(row, "conversations")
    sides = []
    for name in ("chosen", "rejected"):
        if not isinstance(row.get(name), dict):
            raise Unrepresentable(f"column {name!r} is no turn")
        chat = sharegpt_tools_row({**row, "conversations": [*turns, row[name]]})
        if isinstance(chat, Skip):
            raise Unrepresentable(chat.reason)
        sides.append(chat)
    return conversations_to_pair(sides[0].messages, sides[1].messages, tools=sides[0].tools, id=row_id(row))


ADAPTERS = (
    Adapter(
        name="trl_preference",
        kind="pair",
        function=trl_preference_row,
        columns=("prompt", "chosen", "rejected", "tools", "id"),
        matches=with_content("chosen", "rejected", holds=holds_trl_sides, what="messages, or texts to a prompt"),
        turns=("prompt", "chosen", "rejected"),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="All four forms of TRL: explicit and implicit prompt, messages and plain texts. No margin.",
    ),
    Adapter(
        name="openai_preference",
        kind="pair",
        function=openai_preference_row,
        columns=(
            "input",
            "preferred_output",
            "non_preferred_output",
            "preferred_completion",
            "non_preferred_completion",
            "id",
        ),
        matches=with_columns("input", "preferred_output", "non_preferred_output"),
        turns=("preferred_output", "non_preferred_output", "preferred_completion", "non_preferred_completion"),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="OpenAI's preference fine-tuning. No margin.",
    ),
    Adapter(
        name="sharegpt_preference",
        kind="pair",
        function=sharegpt_preference_row,
        columns=("conversations", "chosen", "rejected", "tools", "system", "id"),
        matches=with_columns("conversations", "chosen", "rejected"),
        turns=("conversations", "chosen", "rejected"),
        turn_keys=TURN_KEYS,
        schema="real rows",
        note="LLaMA-Factory's ranking format. No margin.",
    ),
    Adapter(
        name="skywork_reward_preference",
        kind="pair",
        function=preference_with_source_row,
        columns=("chosen", "rejected", "prompt", "source"),
        hub_id="Skywork/Skywork-Reward-Preference-80K-v0.2",
        terms=Terms(openai_derived=True),
        turns=("chosen", "rejected"),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="The card states no licence; each part keeps its own. v0.1 holds prompts of RewardBench: use v0.2. No margin.",
    ),
    Adapter(
        name="ultrafeedback_binarized",
        kind="pair",
        function=ultrafeedback_binarized_row,
        columns=("chosen", "rejected", "prompt", "score_chosen", "score_rejected", "prompt_id"),
        hub_id="HuggingFaceH4/ultrafeedback_binarized",
        terms=Terms(licence="mit", openai_derived=True),
        matches=with_columns("chosen", "rejected", "score_chosen", "score_rejected"),
        turns=("chosen", "rejected"),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="Take `--split train_prefs`. Margin: difference of the overall scores (1 to 10); no equal ones.",
    ),
    Adapter(
        name="ultrafeedback_binarized_cleaned",
        kind="pair",
        function=ultrafeedback_binarized_cleaned_row,
        columns=("chosen", "rejected", "prompt", "chosen-rating", "rejected-rating", "source"),
        hub_id="argilla/ultrafeedback-binarized-preferences-cleaned",
        terms=Terms(licence="mit", openai_derived=True),
        matches=with_columns("chosen", "rejected", "chosen-rating", "rejected-rating"),
        turns=("chosen", "rejected"),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="Without TruthfulQA. Margin: difference of the mean ratings (1 to 5); no equal ones.",
    ),
    Adapter(
        name="infinity_preference",
        kind="pair",
        function=trl_preference_row,
        columns=("prompt", "chosen", "rejected", "tools", "id"),
        hub_id="BAAI/Infinity-Preference",
        terms=Terms(licence="apache-2.0"),
        turns=("prompt", "chosen", "rejected"),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="Answers by Gemma-2-9B-IT, whose terms apply to them. No margin.",
    ),
    Adapter(
        name="code_preference_pairs",
        kind="pair",
        function=code_preference_pairs_row,
        columns=("input", "accepted", "rejected", "ID"),
        hub_id="Vezora/Code-Preference-Pairs",
        terms=Terms(licence="vezora"),
        matches=with_columns("input", "accepted", "rejected"),
        schema="public pages",
        note="The publisher's own licence: read it. Rejected is the accepted answer with bugs put in. The column "
        "instruction is not read. No margin.",
    ),
    Adapter(
        name="orpo_dpo_mix_40k",
        kind="pair",
        function=preference_with_source_row,
        columns=("chosen", "rejected", "prompt", "source"),
        hub_id="mlabonne/orpo-dpo-mix-40k",
        terms=Terms(licence="apache-2.0", openai_derived=True),
        turns=("chosen", "rejected"),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="A mixture; part toxic-dpo-v0.2 teaches to comply with harmful requests and is often dropped. No margin.",
    ),
    Adapter(
        name="tulu_3_pref_personas_if",
        kind="pair",
        function=trl_preference_row,
        columns=("prompt", "chosen", "rejected", "tools", "id"),
        hub_id="allenai/tulu-3-pref-personas-instruction-following",
        terms=Terms(licence="odc-by", openai_derived=True),
        matches=with_columns("prompt", "constraints", "chosen", "rejected", "chonsen_model"),
        turns=("prompt", "chosen", "rejected"),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="The card spells a column chonsen_model. No margin.",
    ),
    Adapter(
        name="human_like_dpo",
        kind="pair",
        function=trl_preference_row,
        columns=("prompt", "chosen", "rejected", "tools"),
        hub_id="HumanLLMs/Human-Like-DPO-Dataset",
        terms=Terms(licence="llama3"),
        turns=("prompt", "chosen", "rejected"),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="Answers by Llama 3. No margin.",
    ),
)
