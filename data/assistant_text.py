"""What an assistant's text holds beside its words, for rows of data sets and for what a model writes alike.

Calls are blocks of JSON between tags, `<tool_call>{"name": ...}</tool_call>`. A block ends where its JSON ends: a closing tag
inside one of its values is text, and a block that nobody closed is whole where its JSON is. What it holds is for the caller to
read, who may be strict or not.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_PARTS = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[{}\[\]"']""", re.DOTALL)


class Block(NamedTuple):
    """`text[start:end]` with its tags; `body` is what stands between them, without the space around it."""

    start: int
    end: int
    body: str


def _json_end(text: str, start: int) -> int | None:
    """Where the object or list that begins at `start` ends, in JSON or as a Python literal; null where it does not."""
    if text[start : start + 1] not in ("{", "["):
        return None
    depth = 0
    for part in _PARTS.finditer(text, start):
        if part[0] in ("{", "["):
            depth += 1
        elif part[0] in ("}", "]"):
            depth -= 1
            if not depth:
                return part.end()
        elif part[0] in ('"', "'"):  # a text without an end
            return None
    return None


def tagged_blocks(text: str, tag: str = "tool_call") -> list[Block]:
    """The blocks of `<tag>` in a text, one after the other.

    A body that is no whole JSON ends at the next closing tag. An opening tag with neither is no block and is left in the text
    around the blocks, like a closing tag without its opening one.
    """
    opening, closing = f"<{tag}>", f"</{tag}>"
    blocks: list[Block] = []
    place, is_whole = 0, True
    while (start := text.find(opening, place)) >= 0:
        body = start + len(opening)
        while text[body : body + 1].isspace():
            body += 1
        # Behind the first broken block only tags are looked for, so that a hostile text is not read once for each of them.
        found = _json_end(text, body) if is_whole else None
        is_whole = found is not None
        end = body if found is None else found
        rest = end
        while text[rest : rest + 1].isspace():
            rest += 1
        if found is not None and (rest == len(text) or text.startswith(opening, rest)):
            place = end
        elif (closed := text.find(closing, end)) >= 0:
            end, place = closed, closed + len(closing)
        else:
            break
        blocks.append(Block(start, place, text[body:end].strip()))
    return blocks
