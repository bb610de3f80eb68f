"""Ids of tool calls, as chat templates demand them.

Records and adapters write the id of their source, or `call_0`. Some templates want a certain form: Mistral's raise for
anything but nine letters and digits, and Kimi K2's write a call's id in the place of its name. A `CallIds` gives each call
of a chat such an id:

* an id that has the form stays, unless an earlier call of the chat got it;
* any other becomes the one of the call's place in the chat, which a model can learn to write;
* it depends on earlier calls only, so a beginning of a chat has the ids that the whole chat has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, count

from data.chats import Message, ToolCall


@dataclass(frozen=True)
class CallIds:
    """One form of ids: what it is called, whether a call's id has it, and the id of a call at a place (from 0)."""

    told: str
    has: Callable[[ToolCall], bool]
    make: Callable[[ToolCall, int], str]

    def apply(self, messages: Sequence[Message]) -> list[Message]:
        """The messages with ids of this form, in calls and in the results that answer them."""
        ids: dict[str, str] = {}
        taken: set[str] = set()
        fitted = []
        for message in messages:
            for call in message.tool_calls:
                own = [call.id] if self.has(call) else []
                made = (self.make(call, place) for place in count(len(ids)))
                ids[call.id] = next(free for free in chain(own, made) if free not in taken)
                taken.add(ids[call.id])
            if message.tool_calls:
                calls = tuple(call.model_copy(update={"id": ids[call.id]}) for call in message.tool_calls)
                message = message.model_copy(update={"tool_calls": calls})
            elif message.tool_call_id in ids:
                message = message.model_copy(update={"tool_call_id": ids[message.tool_call_id]})
            fitted.append(message)
        return fitted


ANY = CallIds("any", lambda call: True, lambda call, place: f"call_{place}")
NINE = CallIds(
    "9 letters or digits",
    lambda call: re.fullmatch(r"[A-Za-z0-9]{9}", call.id) is not None,
    lambda call, place: f"call{place:05}"[-9:],
)
NAMED = CallIds(
    "`functions.NAME:NUMBER`",
    lambda call: re.fullmatch(rf"functions\.{re.escape(call.name)}:[0-9]+", call.id) is not None,
    lambda call, place: f"functions.{call.name}:{place}",
)
ID_FORMS = (ANY, NINE, NAMED)
"""What templates are known to demand, in the order in which they are tried."""
