"""What a chat holds, and whether a text of the template shows it: nothing is trained that the template loses."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from data.chats import Message
from data.records import ToolSpec
from data.rendering.control_tokens import Unrenderable

TEMPLATE_ADVICE = "choose a template that keeps them with --chat_template_path"

OF_A_PROMPT = {"system", "tools", "calls", "parallel calls", "results"}
"""Parts without which a prompt would not tell what happened. What was said or thought beside a call is not one of them."""


def system_places(messages: Sequence[Message]) -> range:
    """Indices of the system message: none or one."""
    return range(1 if messages and messages[0].role == "system" else 0)


def held_parts(messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> set[str]:
    """Which parts a chat holds that some template loses."""
    asks = [message for message in messages if message.tool_calls]
    held = {
        "system": any(messages[k].content.strip() for k in system_places(messages)),
        "tools": bool(tools),
        "calls": bool(asks),
        "parallel calls": any(len(message.tool_calls) > 1 for message in asks),
        "results": any(message.role == "tool" for message in messages),
        "content beside calls": any(message.content.strip() for message in asks),
        "reasoning": any((m.reasoning_content or "").strip() for m in messages if not m.tool_calls),
        "reasoning beside calls": any((message.reasoning_content or "").strip() for message in asks),
    }
    return {part for part, is_held in held.items() if is_held}


def refuse_lost_parts(held: set[str], faults: dict[str, str]) -> None:
    """`faults` are the parts that the template loses, with the reasons.

    Raises:
        Unrenderable: with the reason of the first part that is held and lost.
    """
    for part, reason in faults.items():
        if part in held:
            raise Unrenderable(reason)


def lost_parts(
    messages: Sequence[Message], trained: Sequence[int], tools: Sequence[ToolSpec], faults: dict[str, str]
) -> set[str]:
    """Parts that the template loses of turns which are only context, where a served prompt loses them just so.

    Raises:
        Unrenderable: if a trained turn holds a part that the template loses, or a prompt one that it must show.
    """
    if not faults:
        return set()
    for t in trained:
        refuse_lost_parts(held_parts(messages[t : t + 1]) | (OF_A_PROMPT & held_parts(messages[:t], tools)), faults)
    return (held_parts(messages[: trained[-1]]) & faults.keys()) - OF_A_PROMPT


def refuse_lost_words(message: Message, completion: str) -> None:
    """`completion` is what the template makes of the message, unmarked.

    Raises:
        Unrenderable: if words, thoughts, a call or an argument of the message are not in it.
    """
    if message.content.strip() not in completion:
        raise Unrenderable(f"the template loses an assistant's content; {TEMPLATE_ADVICE}")
    if (message.reasoning_content or "").strip() not in completion:
        raise Unrenderable(f"the template loses an assistant's reasoning; {TEMPLATE_ADVICE}")
    names = Counter(call.name for call in message.tool_calls)
    if any(not is_shown(name, completion, times=times) for name, times in names.items()):
        raise Unrenderable(f"the template loses a tool call; {TEMPLATE_ADVICE}")
    for call in message.tool_calls:
        if not all(is_shown(leaf, completion) for leaf in _leaves(call.arguments)):
            raise Unrenderable(f"the template loses a call's arguments; {TEMPLATE_ADVICE}")


def is_shown(words: str, text: str, *, times: int = 1) -> bool:
    """Whether a text holds the words in any of the spellings that templates have for a string."""
    words = words.strip()
    if not words or (times == 1 and words in text):
        return True
    return any(text.count(spelling) >= times for spelling in _spellings(words))


def _spellings(words: str) -> Iterator[str]:
    """How templates write a string: as it is, inside JSON, inside a Python literal."""
    yield words
    yield json.dumps(words, ensure_ascii=False)[1:-1]
    yield json.dumps(words)[1:-1]
    yield repr(words)[1:-1]
    escaped = words.replace("\\", "\\\\").replace("'", "\\'")
    yield escaped.replace("\n", "\\n").replace("\r", "\\r")


def _leaves(value: Any) -> Iterator[str]:
    """Keys, texts and numbers inside arguments, as texts."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield json.dumps(value)
