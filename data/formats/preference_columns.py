"""Pairs whose sides stand in columns of many names -> PreferencePair: ms-swift's, LLaMA-Factory's, and people's own.

    {"messages": [...], "rejected_response": "..."}              the last turn is chosen, the text takes its place
    {"messages": [...], "rejected_messages": [...]}              both are whole conversations, or what follows the prompt
    {"messages": [...], "chosen": {turn}, "rejected": {turn}}    messages are the prompt
    {"chosen_messages": [...], "rejected_messages": [...]}
    {"instruction", "input", "chosen", "rejected"}, {"question", ...}, {"query", "response", "rejected_response", "history"}
    {"prompt", "winner", "loser"}
    {"prompt", "chosen", "rejected": ["...", "..."]}             several answers: each makes a pair

Turns are OpenAI's (role, content) or ShareGPT's (from, value). A side is a text, a turn, or a list of turns; one that begins
before the assistant is a whole conversation, any other continues the prompt. Columns are read in any spelling
(`rejectedResponse`, `Rejected`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from typing import Any

from data.chats import Chat, PreferencePair, Skip
from data.formats.adapter import Adapter
from data.formats.judgements import is_nothing
from data.formats.openai_chat import openai_chat_row
from data.formats.parts import Fit, Row, Unrepresentable, row_id, skip_if_unrepresentable, speaker_of
from data.formats.preference import conversations_to_pair
from data.formats.row_keys import Meaning, has_side, in_usual_spelling, meaning_of, name_of
from data.formats.turns import TURN_KEYS

_ONE = ("message", "response", "conversation", "answer", "completion", "output", "text", "reply")
_KINDS = ("", *(f"_{kind}" for kind in _ONE), *(f"_{kind}s" for kind in _ONE if kind != "reply"), "_replies")
WINNER, LOSER = (tuple(f"{side}{kind}" for kind in _KINDS) for side in ("winner", "loser"))
CHOSEN = (*(f"chosen{kind}" for kind in _KINDS), "accepted")
REJECTED = (*(f"rejected{kind}" for kind in _KINDS), *LOSER)
TURNS = ("messages", "conversations", "conversation")
QUESTIONS = ("prompt", "instruction", "question", "query")
ANSWERS = ("response", "output", "answer", "completion")
COLUMNS = (*TURNS, *QUESTIONS, "input", "history", *ANSWERS, *CHOSEN, *WINNER, *REJECTED, "tools", "id")
TURN_COLUMNS = (*TURNS, "prompt", *CHOSEN, *WINNER, *REJECTED)
_NAME = re.compile(r"(?:model|response|answer|assistant|output|completion|side)[ _-]?[ab12]", re.IGNORECASE)

Turns = list[Row]


def _role(turn: Row) -> Any:
    return turn.get("role", turn.get("from"))


def _is_models(turn: Row) -> bool:
    return speaker_of(_role(turn)) in ("assistant", "call")


def _turns(value: Any, column: str) -> Turns | str | None:
    """A value as turns or as a text; null where it holds nothing."""
    if is_nothing(value):
        return None
    if isinstance(value, str):
        if value.lstrip().startswith(("[", "{")):  # turns as JSON text; other JSON is an answer
            try:
                read = json.loads(value)
            except (ValueError, RecursionError):
                return value
            read = [read] if isinstance(read, dict) else read
            if read and all(isinstance(turn, dict) and isinstance(_role(turn), str) for turn in read):
                return list(read)
        return value
    turns = [value] if isinstance(value, dict) else value
    if not isinstance(turns, list) or not all(isinstance(turn, dict) and _role(turn) is not None for turn in turns):
        raise Unrepresentable(f"column {column!r} is neither text nor turns")
    return turns


def _only(row: Row, columns: Sequence[str], what: str) -> tuple[str, Any] | None:
    """The one of these columns that holds something, and that."""
    held = [(column, row[column]) for column in columns if not is_nothing(row.get(column))]
    if len(held) > 1:
        raise Unrepresentable(f"{what} in two columns")
    return held[0] if held else None


def _only_turns(row: Row, columns: Sequence[str], what: str) -> Turns | str | None:
    held = _only(row, columns, what)
    return None if held is None else _turns(held[1], held[0])


def _answers(row: Row, columns: Sequence[str], what: str) -> list[Turns | str | None]:
    """The answers of one side, mostly one; null is one that holds nothing. None at all where no column has them."""
    held = _only(row, columns, what)
    if held is None:
        return []
    column, value = held
    is_plural = column.endswith("s") and not column.endswith(("messages", "conversations"))
    if is_plural and isinstance(value, str) and value.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):  # of a text that only begins so
            value = json.loads(value)
    several = isinstance(value, list) and (
        all(isinstance(item, str | list | None) for item in value)
        or (is_plural and all(isinstance(item, dict) and _is_models(item) for item in value))
    )
    answers = [_turns(item, column) for item in (value if several else [value])]
    if column in (*WINNER, *LOSER) and any(isinstance(answer, str) and _is_name(answer, row) for answer in answers):
        raise Unrepresentable(f"{column} only names an answer, which stands elsewhere")
    return answers


def _is_name(text: str, row: Row) -> bool:
    """Whether a winner or loser is `model_a`, or the last word of a column such as `answer_a`."""
    text = text.strip().lower()
    return _NAME.fullmatch(text) is not None or any(f"_{name_of(key)}".endswith(f"_{text}") for key in row)


def _user(text: str) -> Row:
    return {"role": "user", "content": text}


def _prompt(row: Row) -> Turns | None:
    """What stands before the answers, where a column holds it."""
    turns = _only_turns(row, TURNS, "messages")
    if isinstance(turns, str):
        raise Unrepresentable("messages are no list of objects")
    if turns is not None:
        return turns
    asked = _only_turns(row, QUESTIONS, "a prompt")
    given = row.get("input")
    if asked is None and isinstance(given, str) and given.strip():
        asked, given = given, None
    if isinstance(asked, str) and not is_nothing(given):
        if not isinstance(given, str):
            raise Unrepresentable("column 'input' is no text")
        asked = f"{asked}\n\n{given}"
    if asked is None:
        return None
    history = row.get("history") or []
    if not isinstance(history, list):
        raise Unrepresentable("column 'history' is no list")
    before: Turns = []
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise Unrepresentable("column 'history' is no list of pairs")
        before += [_user(pair[0]), {"role": "assistant", "content": pair[1]}]
    return [*before, *([_user(asked)] if isinstance(asked, str) else asked)]


def _continued(prompt: Turns, side: Turns | str, what: str) -> Turns:
    """A side as a whole conversation."""
    if isinstance(side, str):
        side = [{"role": "assistant", "content": side}]
    if not _is_models(side[0]):
        return side
    if not prompt:
        raise Unrepresentable("no prompt before the answers")
    if _is_models(prompt[-1]):
        raise Unrepresentable(f"a prompt that ends within the assistant's turn, before the {what} side")
    return [*prompt, *side]


def _until_replaced(whole: Turns, side: Turns | str) -> Turns:
    """What of a conversation stands before the part that `side` takes the place of: its last turn, or all turns after the
    last user's where the side is several."""
    if not _is_models(whole[-1]):
        raise Unrepresentable("messages that do not end with the chosen answer")
    if isinstance(side, str) or len(side) == 1:
        return whole[:-1]
    last = max((place for place, turn in enumerate(whole) if speaker_of(_role(turn)) == "user"), default=-1)
    return whole[: last + 1]


def _sides(row: Row, chosen: Turns | str | None, rejected: Turns | str) -> tuple[Turns, Turns]:
    """Both sides as whole conversations; null where the chosen one has no column of its own."""
    prompt = _prompt(row) or []
    if chosen is None:
        chosen = _only_turns(row, ANSWERS, "the chosen side")
    if chosen is None:
        if not prompt:
            raise Unrepresentable("no chosen side")
        if isinstance(rejected, str) or _is_models(rejected[0]):
            rejected = _continued(_until_replaced(prompt, rejected), rejected, "rejected")
        return prompt, rejected
    if prompt and _is_models(prompt[-1]) and isinstance(chosen, str):
        if prompt[-1].get("content", prompt[-1].get("value")) != chosen:
            raise Unrepresentable("messages that end with another answer than the chosen one")
        prompt = prompt[:-1]
    return _continued(prompt, chosen, "chosen"), _continued(prompt, rejected, "rejected")


def _read(turns: Turns, row: Row) -> Chat:
    chat = openai_chat_row({"messages": turns, "tools": row.get("tools")})
    if isinstance(chat, Skip):
        raise Unrepresentable(chat.reason)
    return chat


@skip_if_unrepresentable
def _pair(
    row: Row, chosen: Turns | str | None, rejected: Turns | str | None, *, id: str, group: str | None = None
) -> PreferencePair:
    if rejected is None:
        raise Unrepresentable("no rejected side")
    better, worse = (_read(side, row) for side in _sides(row, chosen, rejected))
    return conversations_to_pair(better.messages, worse.messages, tools=better.tools, id=id, group=group)


@skip_if_unrepresentable
def preference_columns_row(row: Row) -> PreferencePair | Skip | list[PreferencePair | Skip]:
    """A row with a chosen and a rejected side under any of their names. No margin.

    Where one side is a list of answers, each of them makes a pair with the other side; these pairs are one group.
    """
    for key in row:
        if key not in COLUMNS and name_of(key) in COLUMNS and not is_nothing(row[key]):
            raise Unrepresentable(f"column {name_of(key)!r} in two spellings")
    rejected = _answers(row, REJECTED, "the rejected side")
    has_loser = any(not is_nothing(row.get(column)) for column in LOSER)
    chosen = _answers(row, (*CHOSEN, *WINNER) if has_loser else CHOSEN, "the chosen side")
    if len(rejected) < 2 and len(chosen) < 2:
        return _pair(row, chosen[0] if chosen else None, rejected[0] if rejected else None, id=row_id(row))
    if len(chosen) > 1 and len(rejected) > 1:
        raise Unrepresentable("several chosen and several rejected answers, and nothing says which belong together")
    own_id = row_id(row)
    has_group = any(meaning_of(key) is Meaning.GROUP and not is_nothing(value) for key, value in row.items())
    return [
        _pair(row, *sides, id=f"{own_id}/{place}", group=None if has_group else own_id)
        for place, sides in enumerate(product(chosen or [None], rejected or [None]), start=1)
    ]


def matches_pairs(rows: Sequence[Row]) -> Fit | None:
    """Most rows have a rejected side, and something that was preferred to it."""
    fitting = sum(
        has_side(row, Meaning.REJECTED)
        and any(
            not is_nothing(in_usual_spelling(row, COLUMNS).get(column))
            for column in (*CHOSEN, *WINNER, *TURNS, *ANSWERS)
        )
        for row in rows
    )
    return Fit(2, f"{fitting} of {len(rows)} rows have a rejected side") if 2 * fitting > len(rows) else None


ADAPTERS = (
    Adapter(
        name="preference_columns",
        kind="pair",
        function=preference_columns_row,
        columns=COLUMNS,
        any_spelling=True,
        turns=TURN_COLUMNS,
        turn_keys=TURN_KEYS,
        matches=matches_pairs,
        schema="public pages",
        note="Pairs under other names: ms-swift's messages with rejected_response or rejected_messages, LLaMA-Factory's "
        "instruction and input with chosen and rejected, winner and loser, and so on, in any spelling. Of several rejected "
        "answers in a list each one makes a pair. No margin.",
    ),
)
