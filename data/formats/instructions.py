"""Datasets of one instruction and one answer in columns of their own -> Chat.

A text that goes with an instruction (Alpaca's input, Dolly's context) follows it in the same user turn after an empty line.
No prompt is written around them ("Below is an instruction ..."): what a model is served, its chat template writes.
"""

from __future__ import annotations

from typing import Any

from data.chats import Chat
from data.formats.adapter import Adapter, Terms
from data.formats.parts import (
    Conversation,
    Row,
    Unrepresentable,
    list_of_objects,
    row_id,
    skip_if_unrepresentable,
    tools_of,
    value_in,
    with_columns,
    with_content,
)
from data.formats.turns import say_messages


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str):
        raise Unrepresentable(f"column {column!r} is no text")
    return value


def _optional_text(row: Row, column: str) -> str:
    return "" if row.get(column) is None else _text(row, column)


def _with_context(instruction: str, context: str) -> str:
    return "\n\n".join(text for text in (instruction, context) if text)


def _source(row: Row, column: str) -> str:
    value: Any = row.get(column)
    return value if isinstance(value, str) else ""


def _chat(row: Row, messages: list[dict[str, Any]], *id_columns: str, source: str = "") -> Chat:
    """A chat of messages given as fields; checked all at once they take less time than one `Message` after the other."""
    return Chat.model_validate({"messages": messages, "id": row_id(row, *id_columns), "source": source})


def _says(role: str, content: str, **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **fields}


def _history(row: Row) -> list[dict[str, Any]]:
    """Earlier turns, given as a list of pairs of question and answer."""
    pairs = value_in(row.get("history"), "column 'history' is no JSON") or []
    if not isinstance(pairs, list):
        raise Unrepresentable("column 'history' is no list")
    messages: list[dict[str, Any]] = []
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise Unrepresentable("column 'history' is no list of pairs")
        messages += [_says("user", pair[0]), _says("assistant", pair[1])]
    return messages


@skip_if_unrepresentable
def alpaca_row(row: Row) -> Chat:
    """`{"instruction", "input", "output", "text"}`; LLaMA-Factory's `system` and `history` (a list of pairs) too.

    `text` repeats the other columns inside Alpaca's prompt and is not read.
    """
    messages: list[dict[str, Any]] = []
    if system := _optional_text(row, "system"):
        messages.append(_says("system", system))
    messages += _history(row)
    question = _with_context(_text(row, "instruction"), _optional_text(row, "input"))
    messages += [_says("user", question), _says("assistant", _text(row, "output"))]
    return _chat(row, messages)


@skip_if_unrepresentable
def query_response_row(row: Row) -> Chat:
    """`{"query", "response", "system", "history", "tools"}`, one of ms-swift's own; history is a list of pairs, and calls
    stand in the texts as Hermes and Qwen write them."""
    system = _optional_text(row, "system")
    messages = [_says("system", system)] if system else []
    messages += [*_history(row), _says("user", _text(row, "query")), _says("assistant", _text(row, "response"))]
    return _said(row, messages)


@skip_if_unrepresentable
def human_assistant_row(row: Row) -> Chat:
    """`{"system", "conversation": [{"human", "assistant"}]}`, ms-swift's other way of writing turns, a pair each."""
    system = _optional_text(row, "system")
    messages = [_says("system", system)] if system else []
    for pair in list_of_objects(row, "conversation"):
        messages += [_says("user", _text(pair, "human")), _says("assistant", _text(pair, "assistant"))]
    return _said(row, messages)


def _said(row: Row, messages: list[Row]) -> Chat:
    conversation = Conversation()
    say_messages(conversation, messages)
    return conversation.chat(id=row_id(row), tools=tools_of(row.get("tools")))


def holds_pairs_of_turns(row: Row) -> bool:
    """Whether each turn is a pair of what the human and the assistant said."""
    return all({"human", "assistant"} <= pair.keys() for pair in row["conversation"])


@skip_if_unrepresentable
def dolphin_row(row: Row) -> Chat:
    """`{"instruction", "input", "output"}`, where instruction is the system prompt (of FLAN and Orca) and input the user."""
    messages = [
        _says("user", _text(row, "input")),
        _says("assistant", _text(row, "output")),
    ]
    if system := _optional_text(row, "instruction"):
        messages.insert(0, _says("system", system))
    return _chat(row, messages)


@skip_if_unrepresentable
def dolly_row(row: Row) -> Chat:
    """`{"instruction", "context", "response", "category"}`."""
    question = _with_context(_text(row, "instruction"), _optional_text(row, "context"))
    messages = [_says("user", question), _says("assistant", _text(row, "response"))]
    return _chat(row, messages, source=_source(row, "category"))


@skip_if_unrepresentable
def web_instruct_row(row: Row) -> Chat:
    """`{"question", "answer", "source", "orig_question", "orig_answer", "index"}`; orig_ is what stood on the web."""
    messages = [
        _says("user", _text(row, "question")),
        _says("assistant", _text(row, "answer")),
    ]
    return _chat(row, messages, "index", source=_source(row, "source"))


@skip_if_unrepresentable
def s1k_row(row: Row) -> Chat:
    """`{"question", "thinking_trajectories": [text, ...], "attempt", "solution", "source_type", ...}`.

    The parts of the thinking become the reasoning, one after the other, a line each, and `attempt` is the answer.
    `solution` is the reference, which the model did not write.
    """
    thoughts = row.get("thinking_trajectories")
    if not isinstance(thoughts, list) or not thoughts or not all(isinstance(thought, str) for thought in thoughts):
        raise Unrepresentable("column 'thinking_trajectories' is no list of texts")
    answer = _says("assistant", _text(row, "attempt"), reasoning_content="\n".join(thoughts))
    return _chat(row, [_says("user", _text(row, "question")), answer], source=_source(row, "source_type"))


@skip_if_unrepresentable
def s1k_1_1_row(row: Row) -> Chat:
    """s1K-1.1: the same questions, thought about and answered by DeepSeek R1; Gemini's columns are not read."""
    answer = _says(
        "assistant",
        _text(row, "deepseek_attempt"),
        reasoning_content=_text(row, "deepseek_thinking_trajectory"),
    )
    return _chat(row, [_says("user", _text(row, "question")), answer], source=_source(row, "source_type"))


ADAPTERS = (
    Adapter(
        name="alpaca",
        kind="chat",
        function=alpaca_row,
        columns=("instruction", "input", "output", "system", "history", "id"),
        matches=with_columns("instruction", "output"),
        schema="public pages",
        note="Also LLaMA-Factory's system and history. Input follows the instruction after an empty line.",
    ),
    Adapter(
        name="query_response",
        kind="chat",
        function=query_response_row,
        columns=("query", "response", "system", "history", "tools", "id"),
        matches=with_columns("query", "response"),
        schema="public pages",
        note="ms-swift's query and response, with history as a list of pairs.",
    ),
    Adapter(
        name="human_assistant",
        kind="chat",
        function=human_assistant_row,
        columns=("conversation", "system", "tools", "id"),
        matches=with_content("conversation", holds=holds_pairs_of_turns, what="pairs of human and assistant"),
        turns=("conversation",),
        turn_keys=frozenset({"human", "assistant"}),
        schema="public pages",
        note="ms-swift's pairs of turns.",
    ),
    Adapter(
        name="web_instruct_sub",
        kind="chat",
        function=web_instruct_row,
        columns=("question", "answer", "source", "index"),
        hub_id="TIGER-Lab/WebInstructSub",
        terms=Terms(licence="apache-2.0"),
        matches=with_columns("question", "answer", "orig_question", "orig_answer"),
        schema="recalled",
        note="question, answer and source were read in public loaders, the rest is recalled.",
    ),
    Adapter(
        name="dolphin",
        kind="chat",
        function=dolphin_row,
        columns=("instruction", "input", "output"),
        hub_id="QuixiAI/dolphin",
        terms=Terms(licence="apache-2.0", openai_derived=True),
        schema="recalled",
        note="Alpaca's columns mean other things here (instruction is the system prompt), so auto errs: name dolphin.",
    ),
    Adapter(
        name="alpaca_52k",
        kind="chat",
        function=alpaca_row,
        columns=("instruction", "input", "output", "system", "history"),
        hub_id="tatsu-lab/alpaca",
        terms=Terms(licence="cc-by-nc-4.0", non_commercial=True, openai_derived=True),
        schema="public pages",
        note="Answers by text-davinci-003. The column text repeats the others and is not read.",
    ),
    Adapter(
        name="dolly_15k",
        kind="chat",
        function=dolly_row,
        columns=("instruction", "context", "response", "category"),
        hub_id="databricks/databricks-dolly-15k",
        terms=Terms(licence="cc-by-sa-3.0"),
        matches=with_columns("instruction", "context", "response"),
        schema="public pages",
        note="Written by people; source names the category.",
    ),
    Adapter(
        name="s1k",
        kind="chat",
        function=s1k_row,
        columns=("question", "thinking_trajectories", "attempt", "source_type"),
        hub_id="simplescaling/s1K",
        terms=Terms(licence="apache-2.0"),
        matches=with_columns("question", "thinking_trajectories", "attempt"),
        schema="public pages",
        note="The thinking (by Gemini) is kept as reasoning_content. The column solution is the reference and is not read.",
    ),
    Adapter(
        name="s1k_1_1",
        kind="chat",
        function=s1k_1_1_row,
        columns=("question", "deepseek_thinking_trajectory", "deepseek_attempt", "source_type"),
        hub_id="simplescaling/s1K-1.1",
        terms=Terms(licence="mit"),
        matches=with_columns("question", "deepseek_thinking_trajectory", "deepseek_attempt"),
        schema="public pages",
        note="The thinking (by DeepSeek R1) is kept as reasoning_content.",
    ),
)
