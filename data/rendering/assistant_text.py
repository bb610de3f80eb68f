"""What an assistant's text holds beside its words, for rows of data sets and for what a model writes alike.

Calls are blocks of JSON between tags, `<tool_call>{"name": ...}</tool_call>`. A block ends where its JSON ends: a closing tag
inside one of its values is text, and a block that nobody closed is whole where its JSON is. What it holds is for the caller to
read, who may be strict or not.

Thoughts are a `<think>` block that opens the turn. Tags under other names (`<thinking>`, `<reasoning>`) are words: no chat
template writes thoughts like that, so they are trained and served as they stand.
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


def json_end(text: str, start: int) -> int | None:
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
        found = json_end(text, body) if is_whole else None
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


_THOUGHT = re.compile(r"<think>\n?(.*?)\n?</think>", re.DOTALL)
_END = re.compile(r"(?:^|\n)[ \t]*</think>|</think>[ \t]*(?:\n|\Z)")
"""A closing tag at an edge of its line, as templates and models write it; inside a line it may be talked about."""


def split_reasoning(text: str) -> tuple[str | None, str]:
    """(what was thought or null, what was said) of a turn; null where the text opens with no `<think>` block.

    One line break on the inner side of a tag and up to two behind the block belong to it, which is how templates write them.
    Blocks that follow each other are one thought, with what stood between them; a later one is text. A block of nothing is no
    thought. Models whose prompt opens the block write only its end: where `</think>` stands at an edge of its line and no
    opening tag before it, all before it was thought.

    Raises:
        ValueError: where a block that opens the turn has no end, or an end that does not fit, in words for a counted reason.
    """
    rest = text.lstrip()
    if not rest.startswith("<think>"):
        found = _END.search(text)
        if found is None or "<think>" in text[: found.start()]:
            return None, text
        start = text.index("</think>", found.start())
        thought, rest = text[:start].removesuffix("\n"), text[start + len("</think>") :]
    else:
        thoughts: list[str] = []
        gap = ""
        while block := _THOUGHT.match(rest):
            thoughts += [(gap or "\n") if thoughts else "", block[1]]
            rest = rest[block.end() :]
            following = rest.lstrip()
            if not following.startswith("<think>"):
                break
            gap, rest = rest[: len(rest) - len(following)], following
        if rest.startswith("<think>"):
            raise ValueError("a <think> block without an end")
        thought = "".join(thoughts)
    if (stray := _END.search(rest)) is not None and "<think>" not in rest[: stray.start()]:
        raise ValueError("a </think> that ends nothing")
    for _ in range(2):
        rest = rest.removeprefix("\n")
    return thought if thought.strip() else None, rest
