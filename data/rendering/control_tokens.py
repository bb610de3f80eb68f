"""Control tokens of a tokenizer, told apart from the same characters typed by somebody: text is text.

A template writes control tokens as strings, so once a chat is rendered nobody can see any more who wrote `<|im_end|>`.
Therefore typed ones are marked first: a private character, the *break*, goes into each. After rendering every unbroken
control string is the template's own. The text is then encoded by a *shadow* of the tokenizer in which each control token
goes by a private character with the same id, so that nothing typed can reach it, neither whole nor through merges.

Text without typed control strings gets exactly the ids of the tokenizer itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

_PRIVATE_START = 0x100000
_PRIVATE_END = 0x10FFFD
_ANY_PRIVATE = re.compile(f"[{chr(_PRIVATE_START)}-{chr(0x10FFFF)}]")
_ANCHORS = ("", "\n", ".", "a", "0", "가")


class Unrenderable(ValueError):
    """A chat that this template cannot show as training needs it; the message is the counted reason."""


class ControlTokens:
    """The tokenizer's control tokens: the special ones, and the added ones that the template writes itself (`<tool_call>`).

    Private characters: `first` is the break, `first + 1 + k` stands for control token k, the one after the last control
    token is free for probes. `first` is 0x100000 except for the rare text that holds such characters itself.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, template: str) -> None:
        added = [
            token
            for token in tokenizer.added_tokens_decoder.values()
            if token.content.strip() and (token.special or token.content in template)
        ]
        self.texts = sorted({token.content for token in added}, key=lambda text: (-len(text), text))
        self.ids = [int(tokenizer.convert_tokens_to_ids(text)) for text in self.texts]
        self._index = {text: k for k, text in enumerate(self.texts)}
        self._by_id = dict(zip(self.ids, self.texts, strict=True))
        special = sorted(
            (t.content for t in added if t.special and t.content != tokenizer.unk_token), key=len, reverse=True
        )
        self.special = re.compile("|".join(map(re.escape, special)) or r"(?!)")
        """Finds the special ones, which are never words."""
        self._pattern = re.compile("|".join(map(re.escape, self.texts)) or r"(?!)")
        self._pattern_in_json = re.compile(
            "|".join({re.escape(form) for t in self.texts for form in (t, json.dumps(t, ensure_ascii=False)[1:-1])})
            or r"(?!)"
        )
        # A token that is matched after normalization is no split: it can still change with what stands around it.
        soft = {token.content for token in added if token.normalized}
        self.splits = {text: k for k, text in enumerate(self.texts) if text not in soft}
        """Index of each control token that splits the text before anything else looks at it."""
        self._backend: str = tokenizer.backend_tokenizer.to_str()
        self._shadows: dict[int, Tokenizer] = {}
        self._sections: dict[str, list[int]] = {}

    # ---------------------------------------------------------------- typed text

    def first_free(self, text: str) -> int:
        """Where the private characters start, so that none of them occurs in `text`."""
        first, width = _PRIVATE_START, len(self.texts) + 2
        if not _ANY_PRIVATE.search(text):
            return first
        taken = {ord(character) for character in text if ord(character) >= first}
        while any(code in taken for code in range(first, first + width)):
            first += width
            if first + width > _PRIVATE_END:
                raise Unrenderable("the text fills the whole private-use plane")
        return first

    def mark(self, value: Any, first: int) -> Any:
        """`value` with the break in each typed control string, in any text or key."""
        if isinstance(value, str):
            while self._pattern.search(value):
                value = self._pattern.sub(lambda match: match[0][:1] + chr(first) + match[0][1:], value)
            return value
        if isinstance(value, dict):
            return {self.mark(key, first): self.mark(item, first) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.mark(item, first) for item in value]
        return value

    def may_be_typed(self, json_text: str) -> bool:
        """Whether a control string may occur in a value that was written as JSON."""
        return self._pattern_in_json.search(json_text) is not None

    def find(self, rendered: str, start: int = 0) -> Iterator[re.Match[str]]:
        """The template's own control tokens in rendered, marked text, from place `start` on."""
        return self._pattern.finditer(rendered, start)

    def without_control(self, rendered: str) -> str:
        """Rendered text without the template's own control tokens."""
        return self._pattern.sub("", rendered)

    def placeholder(self, first: int) -> str:
        """A private character that stands for nothing, to be put in the place of some text and found again."""
        return chr(first + 1 + len(self.texts))

    def written(self, ids: Sequence[int]) -> list[str]:
        """The texts of those ids that are control tokens."""
        return [self._by_id[token_id] for token_id in ids if token_id in self._by_id]

    def to_marked(self, ids: Sequence[int]) -> tuple[str, int | None]:
        """The text of ids that a model wrote, with the break in each control string that is no control token.

        The second is where the private characters start, for `unmark`; None where nothing had to be marked.
        """
        first, width = _PRIVATE_START, len(self.texts) + 2
        wanted = sum(token_id in self._by_id for token_id in ids)
        while True:
            text = self.shadow(first).decode(list(ids), skip_special_tokens=False)
            if sum(first <= ord(character) < first + width for character in text) == wanted:
                break
            first += width  # the model has written such a character itself
            if first + width > _PRIVATE_END:
                raise Unrenderable("the text fills the whole private-use plane")
        marked = self.mark(text, first)
        for k, control in enumerate(self.texts):
            marked = marked.replace(chr(first + 1 + k), control)
        return marked, first if marked != text and chr(first) in marked else None

    @staticmethod
    def unmark(text: str, first: int) -> str:
        """Marked text as it was typed. A template may have written the break as an escape (tojson, a Python repr)."""
        written, pattern = _breaks(first)
        if not any(form in text for form in written):  # a plain search is faster, and mostly finds none
            return text
        return pattern.sub("", text)

    # ---------------------------------------------------------------- ids

    def encode(self, rendered: str, first: int) -> list[int]:
        """Ids of rendered, marked text."""
        return Encoding(self, first).extend_to(rendered).ids

    def to_private(self, rendered: str, first: int) -> str:
        """Rendered text with the template's control tokens as private characters and the typed ones as text again."""
        private = self._pattern.sub(lambda match: chr(first + 1 + self._index[match[0]]), rendered)
        return self.unmark(private, first)

    def section_ids(self, left: str, section: str, right: str, first: int) -> list[int]:
        """Ids of the rendered, marked text between two control tokens (each one private character, or nothing at an end).

        The neighbours stand beside it, because they may swallow its blanks or decide about a leading one.
        """
        window = left + section + right
        key = window if first == _PRIVATE_START else f"{first} {window}"
        found = self._sections.get(key)
        if found is None:
            if len(self._sections) > 50_000:
                self._sections.clear()
            private = left + self.to_private(section, first) + right
            # The batch call is the one that leaves out offsets, which cost a quarter of the time.
            encoded = self.shadow(first).encode_batch_fast([private], add_special_tokens=False)[0].ids
            found = encoded[len(left) : len(encoded) - len(right)]
            self._sections[key] = found
        return found

    def continuations(self, text: str, first: int) -> list[list[int]]:
        """Ways to encode marked `text` as a continuation that merges with nothing before it, likeliest first."""
        shadow, private = self.shadow(first), self.to_private(text, first)
        start = chr(first + 1) if self.texts else ""
        ways = []
        for anchor in _ANCHORS:
            before = shadow.encode(start + anchor, add_special_tokens=False).ids
            both = shadow.encode(start + anchor + private, add_special_tokens=False).ids
            if both[: len(before)] == before:
                ways.append(both[len(before) :])
        return ways

    def shadow(self, first: int = _PRIVATE_START) -> Tokenizer:
        """The tokenizer with each control token renamed to its private character: same id, same everything else."""
        if first not in self._shadows:
            self._shadows[first] = _renamed(self._backend, tuple(self.texts), first)
        return self._shadows[first]

    def follows(self) -> bool:
        """Whether the shadow gives every control token its id."""
        shadow = self.shadow()
        return all(shadow.token_to_id(chr(_PRIVATE_START + 1 + k)) == token_id for k, token_id in enumerate(self.ids))


class Encoding:
    """Ids of one growing text. The next text costs only what differs from the one before it.

    `ids` belongs to `text`; `shared` says how many ids were taken over from the text before.
    """

    def __init__(self, control: ControlTokens, first: int) -> None:
        self.text = ""
        self.ids: list[int] = []
        self.shared = 0
        self._control, self._first = control, first
        self._cuts: list[tuple[int, int, str]] = []
        """After each splitting control token: place in the text, number of ids, its private character."""

    def extend_to(self, text: str) -> Encoding:
        """Make `ids` those of `text`."""
        common = common_prefix(self.text, text)
        while self._cuts and self._cuts[-1][0] > common:
            self._cuts.pop()
        start, self.shared, left = self._cuts[-1] if self._cuts else (0, 0, "")
        del self.ids[self.shared :]
        self.text = text
        first, control = self._first, self._control
        for match in control.find(text, start):
            k = control.splits.get(match[0])
            if k is None:
                continue  # it is part of its section
            right = chr(first + 1 + k)
            if match.start() > start:
                self.ids += control.section_ids(left, text[start : match.start()], right, first)
            self.ids.append(control.ids[k])
            start, left = match.end(), right
            self._cuts.append((start, len(self.ids), left))
        if start < len(text):
            self.ids += control.section_ids(left, text[start:], "", first)
        return self

    def tail_from(self) -> int:
        """How many ids stand before the last splitting control token's end: what comes later may still merge."""
        return self._cuts[-1][1] if self._cuts else 0


@lru_cache(maxsize=2)  # several renderers of one tokenizer are often made, and a large one takes seconds
def _renamed(tokenizer: str, texts: tuple[str, ...], first: int) -> Tokenizer:
    """A tokenizer (given as its JSON) in which text k is called by the private character `first + 1 + k`."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - only needed with a model

    new_name = {text: chr(first + 1 + k) for k, text in enumerate(texts)}
    backend = json.loads(tokenizer)
    for token in backend["added_tokens"]:
        token["content"] = new_name.get(token["content"], token["content"])
    model = backend["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {new_name.get(text, text): token_id for text, token_id in vocabulary.items()}
    else:  # Unigram: a list of [text, score]
        model["vocab"] = [[new_name.get(text, text), score] for text, score in vocabulary]
    if "merges" in model:
        # A merge that would build a control token out of typed characters must not exist.
        pairs = [m.split(" ", 1) if isinstance(m, str) else m for m in model["merges"]]
        model["merges"] = [
            [a, b] for a, b in pairs if a + b not in new_name and a not in new_name and b not in new_name
        ]
    if model.get("unk_token") in new_name:
        model["unk_token"] = new_name[model["unk_token"]]
    # Only names change; the post-processor adds tokens by name, and nothing here asks it to add any.
    backend["post_processor"] = None
    return Tokenizer.from_str(json.dumps(backend))


@lru_cache(maxsize=64)
def _breaks(first: int) -> tuple[tuple[str, ...], re.Pattern[str]]:
    """The break as it is, and as templates write it in JSON and in a Python literal; and what finds any of them."""
    character = chr(first)
    written = character, json.dumps(character)[1:-1], repr(character)[1:-1]
    return written, re.compile("|".join(map(re.escape, written)))


def common_prefix(one: Any, other: Any) -> int:
    """Length of the common prefix of two texts or lists, by halving with slice comparisons (which run in C)."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
