"""TRL's own formats of single answers -> Chat; its pairs are in preference.py.

`{"messages": [...], "tools"}` is read like OpenAI's format. A prompt/completion row is `{"prompt": [...], "completion": [...],
"tools"}` with messages, or `{"prompt": "...", "completion": "..."}` with texts. TRL computes the loss on the completion only,
so assistant turns inside the prompt are context (weight 0).

axolotl's KTO rows have an `instruction` or a `question` in the place of the prompt. All may have a boolean `label` (TRL's
unpaired preferences, for KTO), which row_keys.py judges.
"""

from __future__ import annotations

from data.chats import Chat
from data.formats.adapter import Adapter
from data.formats.parts import (
    Conversation,
    Row,
    Unrepresentable,
    first_fit,
    list_of_objects,
    row_id,
    skip_if_unrepresentable,
    tools_of,
    with_columns,
)
from data.formats.row_keys import WEIGHT_KEYS
from data.formats.turns import TURN_KEYS, say_messages

QUESTIONS = ("prompt", "instruction", "question")
"""Where the prompt stands: TRL's column, and those that axolotl's KTO formats have in its place."""


def _as_context(turn: Row) -> Row:
    return {**{key: value for key, value in turn.items() if key not in WEIGHT_KEYS}, "weight": 0}


@skip_if_unrepresentable
def trl_prompt_completion_row(row: Row) -> Chat:
    """A row in either of TRL's forms. A plain prompt is a user's message, a plain completion the answer to it, as written."""
    conversation = Conversation()
    asked = next((column for column in QUESTIONS if row.get(column) is not None), "prompt")
    for column, role in ((asked, "user"), ("completion", "assistant")):
        said = row.get(column)
        messages = [{"role": role, "content": said}] if isinstance(said, str) else list_of_objects(row, column)
        if column == asked:
            messages = [_as_context(turn) if turn.get("role") == "assistant" else turn for turn in messages]
        elif messages[0].get("role") != "assistant":
            raise Unrepresentable("a completion that does not begin with the assistant")
        say_messages(conversation, messages)
    return conversation.chat(id=row_id(row), tools=tools_of(row.get("tools")))


ADAPTERS = (
    Adapter(
        name="trl_prompt_completion",
        kind="chat",
        function=trl_prompt_completion_row,
        columns=(*QUESTIONS, "completion", "tools", "id"),
        matches=first_fit(*(with_columns(column, "completion") for column in QUESTIONS)),
        turns=("prompt", "completion"),
        turn_keys=TURN_KEYS,
        schema="public pages",
        note="Messages or plain texts. Only the completion is trained, as in TRL; answers with a bad label are left out.",
    ),
)
