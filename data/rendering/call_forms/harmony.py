"""gpt-oss and Muse: a turn of messages with channels, some of which are calls."""

from __future__ import annotations

import re

from data.rendering.call_forms.form import Call, Schemas, Unread, Written
from data.rendering.call_forms.json_calls import to_arguments
from data.rendering.call_forms.tagged_calls import INVOKES, read_invokes

HARMONY = re.compile(r"\s*(?:<\|start\|>assistant|<\|channel\|>|to=[^\s<]+\s*(?:json\s*)?<\||<\|message\|>)")


def harmony_to_turn(text: str, schemas: Schemas) -> Written | None:
    """gpt-oss (and Muse): messages with channels, of which those with a recipient are calls.

    Raises:
        Unread: if a message has no header or no end, or there is neither a final message nor a call.
    """
    if "<|message|>" not in text and not HARMONY.match(text):
        return None
    calls: list[Call] = []
    words: list[str] = []
    thoughts: list[str] = []
    alone = True
    for part in re.split(
        r"(?:<\|end\|>|<\|call\|>|<\|return\|>|<\|eot\|>|<\|eom\|>)(?=\s*(?:<\|start\|>|<\|channel\|>|\Z))", text
    ):
        if not part.strip():
            continue
        header, has_body, body = part.partition("<|message|>")
        if not has_body:
            raise Unread("a message of harmony has no body")
        if "<|start|>assistant" in body or "<|channel|>" in body:
            raise Unread("a message of harmony has no end")
        header = header.replace("<|start|>assistant", " ")
        channel = re.search(r"<\|channel\|>\s*(\w+)", header)
        recipient = re.search(r"\bto=([^\s<]+)", header)
        if recipient and recipient[1] == "self":  # Muse thinks so
            thoughts.append(body)
        elif recipient and recipient[1] not in ("all", "user", "assistant"):
            calls.append(_harmony_call(recipient[1], body, schemas))
        elif (channel and channel[1] == "analysis") or (not channel and "<|channel|>" in header):
            thoughts.append(body)
        else:
            alone = alone and not calls
            words.append(body)
    if not calls and not words:
        raise Unread("harmony's turn has neither a final message nor a call")
    return Written(calls, "\n".join(words), "", alone, "\n".join(thoughts))


def _harmony_call(recipient: str, body: str, schemas: Schemas) -> Call:
    name = recipient if recipient in schemas else recipient.removeprefix("functions.")
    invokes = INVOKES.match(body.lstrip())
    if invokes is not None:
        [(_, arguments), *_] = read_invokes(body.lstrip(), invokes, schemas)[0]
        return name, arguments
    try:
        return name, to_arguments(body)
    except Unread as error:
        raise Unread(str(error)) from None
