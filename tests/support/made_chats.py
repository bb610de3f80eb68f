"""Chats made by hypothesis: every shape that the invariants allow, with text that likes to cause trouble."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from data.chats import Chat, Message, ToolCall
from data.records import ToolSpec

CONTROL_TEXT = ("<|im_end|>", "<|im_start|>assistant\n", "<|endoftext|>", "<tool_call>", "</tool_call>", "<|im_")
WORDS = (
    "read", "a.csv", "파일을", "읽어 주세요", "🙂", "x=1", '{"a": 1}', "\n\n", "  ", "it's", "1234", "é", "\u200b", "C:\\dir",
)  # fmt: skip


def texts(*, control: bool | Sequence[str]) -> st.SearchStrategy[str]:
    """Short texts of words, with control tokens typed into them when `control` (which may name them)."""
    planted = CONTROL_TEXT if control is True else tuple(control or ())
    return st.lists(st.sampled_from(WORDS + planted), max_size=5).map(" ".join)


def argument_dicts(*, control: bool | Sequence[str]) -> st.SearchStrategy[dict[str, object]]:
    """Arguments as tools get them: nested, null, Unicode keys."""
    leaf = st.one_of(texts(control=control), st.integers(-5, 10**12), st.booleans(), st.none(), st.just(0.5))
    value = st.recursive(
        leaf,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts(control=control), inner, max_size=2),
        max_leaves=4,
    )
    names = st.sampled_from(["path", "text", "이름", *([] if isinstance(control, bool) else control)])
    return st.dictionaries(names, value, max_size=3)


@st.composite
def chats(
    draw: st.DrawFn,
    *,
    control: bool | Sequence[str] = False,
    tools: bool = True,
    system: bool = True,
    parallel: bool = True,
    content_beside_calls: bool = True,
    reasoning: bool = False,
    reasoning_beside_calls: bool = False,
) -> Chat:
    """A chat of one to four questions, each answered after no, one or several calls; flags say what it may hold."""
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
    if system and draw(st.booleans()):
        messages.append(Message(role="system", content=draw(texts(control=control))))
    for question in range(draw(st.integers(1, 4))):
        messages.append(Message(role="user", content="Q " + draw(texts(control=control))))
        for step in range(draw(st.integers(0, 2)) if tools else 0):
            calls = tuple(
                ToolCall(
                    id=f"c{question}{step}{n}00000", name="read_file", arguments=draw(argument_dicts(control=control))
                )
                for n in range(draw(st.integers(1, 2)) if parallel else 1)
            )
            messages.append(
                Message(
                    role="assistant",
                    content=draw(texts(control=control)).strip() if content_beside_calls else "",
                    reasoning_content=draw(_thoughts(control)) if reasoning_beside_calls else None,
                    tool_calls=calls,
                    weight=draw(st.sampled_from([None, 0.0, 0.25, 1.0])),
                )
            )
            for call in calls:
                messages.append(
                    Message(role="tool", content=draw(texts(control=control)), tool_call_id=call.id, name="read_file")
                )
        messages.append(
            Message(
                role="assistant",
                content="A " + draw(texts(control=control)).strip(),
                reasoning_content=draw(_thoughts(control)) if reasoning else None,
            )
        )
    return Chat(messages=tuple(messages), tools=(spec,) if tools else (), id="made", source="test")


def _thoughts(control: bool | Sequence[str]) -> st.SearchStrategy[str | None]:
    return st.none() | texts(control=control).map(lambda text: f"thought {text}".strip())
