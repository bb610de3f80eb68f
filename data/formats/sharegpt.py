"""ShareGPT, the format of most SFT datasets -> Chat. Conversations with tools are passed to sharegpt_tools.py.

A row: `{"id", "conversations": [{"from": "human" | "gpt" | "system" | ..., "value", "weight": 0 | 1 | null}, ...]}`.
Turns keep their order, whoever speaks first or twice. `bard`, `bing` and `chatgpt` are the assistants that people shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from data.chats import Chat, Skip
from data.formats.adapter import Adapter, Terms
from data.formats.parts import (
    Fit,
    Row,
    Unrepresentable,
    list_of_objects,
    row_id,
    skip_if_unrepresentable,
    speaker_of,
    tools_of,
    weight_of,
)
from data.formats.sharegpt_tools import sharegpt_tools_row
from data.formats.turns import TURN_KEYS, content_of, role_of


def sharegpt_from(source_column: str | None = None) -> Callable[[Row], Chat | Skip]:
    """A reader of ShareGPT rows whose `source_column` names the part of the dataset that a row came from."""

    @skip_if_unrepresentable
    def row_to_chat(row: Row) -> Chat | Skip:
        source = row.get(source_column) if source_column else None
        if not isinstance(source, str):
            source = ""
        messages = None if tools_of(row.get("tools")) else _plain_messages(row)
        if messages is None:
            chat = sharegpt_tools_row(row)
            return chat if isinstance(chat, Skip) else chat.model_copy(update={"source": source})
        if not any(message["role"] == "assistant" for message in messages):
            raise Unrepresentable("no word of an assistant")
        return Chat.model_validate({"messages": messages, "id": row_id(row), "source": source})

    return row_to_chat


def _plain_messages(row: Row) -> list[dict[str, Any]] | None:
    """The turns as fields of `Message`, or null where one of them is a call or a result.

    Checked all at once as a chat they take a third less time than as one `Message` after the other.
    """
    turns = list_of_objects(row, "conversations")
    messages: list[dict[str, Any]] = []
    system = row.get("system") or row.get("system_prompt")
    if system is not None:
        if not isinstance(system, str):
            raise Unrepresentable("a system prompt that is not text")
        if role_of(turns[0]) != "system":
            messages.append({"role": "system", "content": system})
        elif system != content_of(turns[0]):
            raise Unrepresentable("two system prompts")
    for turn in turns:
        speaker, value = speaker_of(role_of(turn)), content_of(turn)
        if not isinstance(value, str) or speaker in ("call", "result"):
            return None
        # In a user's words a tag may be a question about it, here it is a call or a thought.
        if speaker == "assistant":
            if "<tool_call>" in value or "think>" in value or "<functioncall>" in value:
                return None
            messages.append({"role": "assistant", "content": value, "weight": weight_of(turn)})
        elif speaker == "system" and ("<tools>" in value or messages):
            return None
        else:
            messages.append({"role": speaker, "content": value})
    return messages


sharegpt_row = sharegpt_from()
sharegpt_row_with_source = sharegpt_from("source")
sharegpt_row_with_dataset = sharegpt_from("dataset")


def _has_turns(row: Row) -> bool:
    try:
        turns = list_of_objects(row, "conversations")
    except Unrepresentable:
        return row.get("conversations") == []
    return all(isinstance(role_of(turn), str) and isinstance(content_of(turn), str) for turn in turns)


def matches_sharegpt(rows: Sequence[Row]) -> Fit | None:
    """Most rows have turns of from and value. Formats with something beside them are more specific."""
    fitting = sum(map(_has_turns, rows))
    reason = f"{fitting} of {len(rows)} rows have conversations of turns with from and value"
    return Fit(1, reason) if 2 * fitting > len(rows) else None


ADAPTERS = (
    Adapter(
        name="sharegpt",
        kind="chat",
        function=sharegpt_row,
        columns=("conversations", "system", "system_prompt", "tools", "id"),
        matches=matches_sharegpt,
        turns=("conversations",),
        turn_keys=TURN_KEYS,
        schema="real rows",
        note="Plain turns fast; a conversation with tools or calls is passed to sharegpt_tools.",
    ),
    Adapter(
        name="infinity_instruct",
        kind="chat",
        function=sharegpt_row_with_source,
        columns=("conversations", "id", "source", "system", "system_prompt", "tools"),
        hub_id="BAAI/Infinity-Instruct",
        terms=Terms(licence="cc-by-sa-4.0", gated=True, openai_derived=True),
        turns=("conversations",),
        turn_keys=TURN_KEYS,
        harmless=frozenset({"label"}),
        schema="recalled",
        note="Choose a subset (3M, 7M, 0625, Gen, 7M_domains). Label and langdetect are not read.",
    ),
    Adapter(
        name="the_tome",
        kind="chat",
        function=sharegpt_row_with_dataset,
        columns=("conversations", "id", "dataset", "system", "system_prompt", "tools"),
        hub_id="arcee-ai/The-Tome",
        terms=Terms(licence="mit", openai_derived=True),
        turns=("conversations",),
        turn_keys=TURN_KEYS,
        schema="recalled",
        note="A mixture. Calls in it that are written as text are left out: use glaive_function_calling_v2.",
    ),
    Adapter(
        name="open_perfectblend",
        kind="chat",
        function=sharegpt_row_with_source,
        columns=("conversations", "source", "system", "system_prompt", "tools"),
        hub_id="mlabonne/open-perfectblend",
        terms=Terms(licence="apache-2.0", openai_derived=True),
        turns=("conversations",),
        turn_keys=TURN_KEYS,
        schema="recalled",
        note="A mixture; each part keeps its own terms.",
    ),
    Adapter(
        name="openhermes_2_5",
        kind="chat",
        function=sharegpt_row_with_source,
        columns=("conversations", "id", "source", "system", "system_prompt", "tools"),
        hub_id="teknium/OpenHermes-2.5",
        terms=Terms(openai_derived=True),
        turns=("conversations",),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="The card states no licence. weight of a turn is kept where it is not null.",
    ),
    Adapter(
        name="slim_orca",
        kind="chat",
        function=sharegpt_row,
        columns=("conversations", "system", "system_prompt", "tools"),
        hub_id="Open-Orca/SlimOrca",
        terms=Terms(licence="mit", openai_derived=True),
        turns=("conversations",),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="weight of a turn is kept. Answers by GPT-4.",
    ),
    Adapter(
        name="sharegpt_vicuna",
        kind="chat",
        function=sharegpt_row,
        columns=("conversations", "id", "system", "system_prompt", "tools"),
        hub_id="anon8231489123/ShareGPT_Vicuna_unfiltered",
        terms=Terms(openai_derived=True),
        turns=("conversations",),
        turn_keys=TURN_KEYS,
        schema="real rows",
        note="A copy by users: Vicuna's own files were never published, and no licence is stated.",
    ),
)
