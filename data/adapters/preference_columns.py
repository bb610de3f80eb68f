"""Pairs whose sides stand in columns of many names -> PreferencePair: ms-swift's, LLaMA-Factory's, and people's own.

    {"messages": [...], "rejected_response": "..."}              the last turn is chosen, the text takes its place
    {"messages": [...], "rejected_messages": [...]}              both are whole conversations, or what follows the prompt
    {"messages": [...], "chosen": {turn}, "rejected": {turn}}    messages are the prompt
    {"chosen_messages": [...], "rejected_messages": [...]}
    {"instruction", "input", "chosen", "rejected"}, {"question", ...}, {"query", "response", "rejected_response", "history"}

Turns are OpenAI's (role, content) or ShareGPT's (from, value). A side is a text, a turn, or a list of turns; one that begins
before the assistant is a whole conversation, any other continues the prompt.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from data.adapters.openai_chat import openai_chat_row
from data.adapters.parts import Fit, Row, Unrepresentable, row_id, skip_if_unrepresentable, speaker_of
from data.adapters.preference import conversations_to_pair
from data.adapters.row_keys import Meaning, has_side, is_nothing
from data.chats import Chat, PreferencePair, Skip

_KINDS = ("", "_messages", "_response", "_conversations", "_conversation", "_answer", "_completion", "_output", "_text")
CHOSEN = (*(f"chosen{kind}" for kind in _KINDS), "accepted")
REJECTED = tuple(f"rejected{kind}" for kind in _KINDS)
TURNS = ("messages", "conversations", "conversation")
QUESTIONS = ("prompt", "instruction", "question", "query")
ANSWERS = ("response", "output", "answer", "completion")
COLUMNS = (*TURNS, *QUESTIONS, "input", "history", *ANSWERS, *CHOSEN, *REJECTED, "tools", "id")

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


def _only(row: Row, columns: Sequence[str], what: str) -> Turns | str | None:
    held = [(column, turns) for column in columns if (turns := _turns(row.get(column), column)) is not None]
    if len(held) > 1:
        raise Unrepresentable(f"{what} in two columns")
    return held[0][1] if held else None


def _user(text: str) -> Row:
    return {"role": "user", "content": text}


def _prompt(row: Row) -> Turns | None:
    """What stands before the answers, where a column holds it."""
    turns = _only(row, TURNS, "messages")
    if isinstance(turns, str):
        raise Unrepresentable("messages are no list of objects")
    if turns is not None:
        return turns
    asked = _only(row, QUESTIONS, "a prompt")
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


def _sides(row: Row) -> tuple[Turns, Turns]:
    """Both sides as whole conversations."""
    chosen, rejected = _only(row, CHOSEN, "the chosen side"), _only(row, REJECTED, "the rejected side")
    if rejected is None:
        raise Unrepresentable("no rejected side")
    prompt = _prompt(row) or []
    if chosen is None:
        chosen = _only(row, ANSWERS, "the chosen side")
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
def preference_columns_row(row: Row) -> PreferencePair:
    """A row with a chosen and a rejected side under any of their names. No margin."""
    chosen, rejected = (_read(side, row) for side in _sides(row))
    return conversations_to_pair(chosen.messages, rejected.messages, tools=chosen.tools, id=row_id(row))


def matches_pairs(rows: Sequence[Row]) -> Fit | None:
    """Most rows have a rejected side, and something that was preferred to it."""
    fitting = sum(
        has_side(row, Meaning.REJECTED)
        and any(not is_nothing(row.get(column)) for column in (*CHOSEN, *TURNS, *ANSWERS))
        for row in rows
    )
    return Fit(2, f"{fitting} of {len(rows)} rows have a rejected side") if 2 * fitting > len(rows) else None
