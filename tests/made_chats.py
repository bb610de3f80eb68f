"""Chats made by hypothesis: every shape that the invariants allow, with text that likes to cause trouble."""

from __future__ import annotations

from hypothesis import strategies as st

from data.chats import Chat, Message, ToolCall
from data.records import ToolSpec

CONTROL_TEXT = ("<|im_end|>", "<|im_start|>assistant\n", "<|endoftext|>", "<tool_call>", "</tool_call>", "<|im_")
WORDS = (
    "read", "a.csv", "파일을", "읽어 주세요", "🙂", "x=1", '{"a": 1}', "\n\n", "  ", "it's", "1234", "é", "\u200b", "C:\\dir",
)  # fmt: skip


def texts(*, control: bool) -> st.SearchStrategy[str]:
    """Short texts of words, with control tokens typed into them when `control`."""
    pool = WORDS + CONTROL_TEXT if control else WORDS
    return st.lists(st.sampled_from(pool), max_size=5).map(" ".join)


def argument_dicts(*, control: bool) -> st.SearchStrategy[dict[str, object]]:
    """Arguments as tools get them: nested, null, Unicode keys."""
    leaf = st.one_of(texts(control=control), st.integers(-5, 10**12), st.booleans(), st.none(), st.just(0.5))
    value = st.recursive(
        leaf,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts(control=control), inner, max_size=2),
        max_leaves=4,
    )
    return st.dictionaries(st.sampled_from(["path", "text", "이름"]), value, max_size=3)


@st.composite
def chats(draw: st.DrawFn, *, control: bool = False, tools: bool = True) -> Chat:
    """A chat of one to four questions, each answered after no, one or several calls."""
    spec = ToolSpec.model_validate(
        {
            "function": {
                "name": "read_file",
                "description": draw(texts(control=control)),
                "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
            }
        }
    )
    messages: list[Message] = []
    if draw(st.booleans()):
        messages.append(Message(role="system", content=draw(texts(control=control))))
    for question in range(draw(st.integers(1, 4))):
        messages.append(Message(role="user", content="Q " + draw(texts(control=control))))
        for step in range(draw(st.integers(0, 2)) if tools else 0):
            calls = tuple(
                ToolCall(id=f"c{question}{step}{n}", name="read_file", arguments=draw(argument_dicts(control=control)))
                for n in range(draw(st.integers(1, 2)))
            )
            weight = draw(st.sampled_from([None, 0.0, 1.0]))
            messages.append(
                Message(role="assistant", content=draw(texts(control=control)).strip(), tool_calls=calls, weight=weight)
            )
            for call in calls:
                messages.append(
                    Message(role="tool", content=draw(texts(control=control)), tool_call_id=call.id, name="read_file")
                )
        messages.append(Message(role="assistant", content="A " + draw(texts(control=control)).strip()))
    return Chat(messages=tuple(messages), tools=(spec,) if tools else (), id="made", source="test")
