"""TRL's own formats of single answers -> Chat; its pairs are in preference.py.

`{"messages": [...], "tools"}` is read like OpenAI's format. A prompt/completion row is `{"prompt": [...], "completion": [...],
"tools"}` with messages, or `{"prompt": "...", "completion": "..."}` with texts. TRL computes the loss on the completion only,
so assistant turns inside the prompt are context (weight 0).

Both may have a boolean `label` (TRL's unpaired preferences, for KTO): an answer that is labelled false is not to be imitated.
"""

from __future__ import annotations

from data.adapters.openai_chat import openai_chat_row, say_messages
from data.adapters.parts import (
    Conversation,
    Row,
    Unrepresentable,
    list_of_objects,
    row_id,
    skip_if_unrepresentable,
    tools_of,
)
from data.chats import Chat, Skip

_BAD_ANSWER = "an answer labelled as bad"


def trl_messages_row(row: Row) -> Chat | Skip:
    """A row of messages."""
    return Skip(_BAD_ANSWER) if row.get("label") is False else openai_chat_row(row)


@skip_if_unrepresentable
def trl_prompt_completion_row(row: Row) -> Chat:
    """A row in either of TRL's forms. A plain prompt is a user's message, a plain completion the answer to it, as written."""
    if row.get("label") is False:
        raise Unrepresentable(_BAD_ANSWER)
    conversation = Conversation()
    for column, role in (("prompt", "user"), ("completion", "assistant")):
        said = row.get(column)
        messages = [{"role": role, "content": said}] if isinstance(said, str) else list_of_objects(row, column)
        if column == "prompt":
            messages = [{**turn, "weight": 0} if turn.get("role") == "assistant" else turn for turn in messages]
        elif messages[0].get("role") != "assistant":
            raise Unrepresentable("a completion that does not begin with the assistant")
        say_messages(conversation, messages)
    return Chat(messages=tuple(conversation.messages), tools=tools_of(row.get("tools")), id=row_id(row), source="")
