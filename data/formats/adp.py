"""ADP, the Agent Data Protocol (neulab/agent-data-protocol, schema 1.x): a standardised trajectory -> Chat.

A record: `{"schema_version", "id", "content": [...], "available_apis", "details"}`. Items by `class_`:

* `api_action` (function, kwargs) and `code_action` (language, content) are calls. Code has no function, so it is the call
  `execute_code(language=..., code=...)`. `description` is what the agent says with the call, hence content;
  `reasoning_content` stays that.
* `message_action` is a turn of words; its `description` is the thought behind them, hence reasoning.
* `text_observation` from the environment is a result, from the user a user turn, from the agent an assistant turn.
  `web_observation` is held by its text (URL and accessibility tree, else HTML); one that is only a picture cannot be.

Actions that follow each other before any observation are the parallel calls of one turn; `tool_call_id` links calls and
results. Older records have no links; there an observation right after a call is its result, whoever is said to speak, which
is how the protocol's own `tool_call_links.py` adds the links. No tool definitions stand in the records, so only
`execute_code` has one.
"""

from __future__ import annotations

from data.chats import Chat
from data.formats.adapter import Adapter
from data.formats.parts import (
    Conversation,
    Row,
    RowCall,
    Unrepresentable,
    objects_in,
    row_id,
    skip_if_unrepresentable,
    with_content,
)
from data.records import ToolFunction, ToolSpec

EXECUTE_CODE = ToolSpec(
    function=ToolFunction(
        name="execute_code",
        description="Run code and return what it prints.",
        parameters={
            "type": "object",
            "properties": {"language": {"type": "string"}, "code": {"type": "string"}},
            "required": ["language", "code"],
        },
    )
)


def _text(item: Row, key: str) -> str:
    value = item.get(key)
    if not isinstance(value, str | None):
        raise Unrepresentable(f"field {key!r} is no text")
    return value or ""


def _call_of(item: Row) -> RowCall:
    own_id = _text(item, "tool_call_id") or None
    if item["class_"] == "code_action":
        return own_id, EXECUTE_CODE.function.name, {"language": _text(item, "language"), "code": _text(item, "content")}
    kwargs = item.get("kwargs")
    if not isinstance(kwargs, dict):
        raise Unrepresentable("arguments of a call are no object")
    return own_id, _text(item, "function"), kwargs


def _page(item: Row) -> str:
    """A web page as text."""
    body = _text(item, "axtree") or _text(item, "html")
    if not body:
        raise Unrepresentable("an observation that is only a picture")
    url = _text(item, "url")
    return f"{url}\n{body}" if url else body


class _Turns:
    """Items on their way to a chat: calls are held back until an observation shows that their turn is over."""

    def __init__(self) -> None:
        self.conversation = Conversation()
        self.held: list[tuple[RowCall, str, str]] = []
        self.codes = False
        self.waiting = 0

    def close_turn(self) -> None:
        """Say the held calls as one turn. Several must agree on the words beside them, as parallel calls do."""
        if not self.held:
            return
        words = dict.fromkeys(words for _, words, _ in self.held if words)
        thoughts = dict.fromkeys(thought for _, _, thought in self.held if thought)
        if len(words) > 1 or len(thoughts) > 1:
            raise Unrepresentable("actions with different thoughts before any result")
        calls = [call for call, _, _ in self.held]
        self.conversation.say("assistant", next(iter(words), ""), reasoning=next(iter(thoughts), None), calls=calls)
        self.waiting, self.held = len(calls), []

    def add(self, item: Row) -> None:
        kind = item.get("class_")
        if kind in ("api_action", "code_action"):
            if self.waiting:
                raise Unrepresentable("a call without its result")
            self.codes = self.codes or kind == "code_action"
            self.held.append((_call_of(item), _text(item, "description"), _text(item, "reasoning_content")))
            return
        self.close_turn()
        if kind == "message_action":
            thoughts = [_text(item, "reasoning_content"), _text(item, "description")]
            reasoning = "\n\n".join(dict.fromkeys(thought for thought in thoughts if thought))
            self.conversation.say("assistant", _text(item, "content"), reasoning=reasoning or None)
        elif kind == "image_observation":
            raise Unrepresentable("an observation that is only a picture")
        elif kind in ("text_observation", "web_observation"):
            self._observe(_page(item) if kind == "web_observation" else _text(item, "content"), item)
        else:
            raise Unrepresentable("an item of an unknown class")

    def _observe(self, text: str, item: Row) -> None:
        own_id, source = _text(item, "tool_call_id") or None, _text(item, "source") or "environment"
        if self.waiting and (own_id is not None or source in ("user", "environment")):
            self.conversation.answer(text, own_id=own_id)
            self.waiting -= 1
        elif source == "agent":
            self.conversation.say("assistant", text)
        elif source in ("user", "environment"):
            # What the environment shows without having been asked is what the model reads next.
            self.conversation.say("user", text)
        else:
            raise Unrepresentable("an observation from an unknown source")


@skip_if_unrepresentable
def adp_row(row: Row) -> Chat:
    """One standardised trajectory."""
    turns = _Turns()
    for item in objects_in(row.get("content"), "content"):
        turns.add(item)
    turns.close_turn()
    return turns.conversation.chat(id=row_id(row), tools=(EXECUTE_CODE,) if turns.codes else ())


def holds_adp_items(row: Row) -> bool:
    """Whether `content` is a list of protocol items."""
    return all("class_" in item for item in row["content"])


ADP_ITEM = frozenset({
    "class_", "content", "description", "function", "kwargs", "language", "reasoning_content", "source", "tool_call_id",
    "axtree", "html", "url",
})  # fmt: skip

ADAPTERS = (
    Adapter(
        name="adp",
        kind="chat",
        function=adp_row,
        columns=("content", "id"),
        matches=with_content("id", "content", holds=holds_adp_items, what="items with class_"),
        turns=("content",),
        turn_keys=ADP_ITEM,
        schema="real rows",
        note="Agent Data Protocol, standardised records (schema 1.x). They hold no tool definitions.",
    ),
)
