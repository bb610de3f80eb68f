"""Words and windows of words: what near duplicates and contamination are measured in.

Two texts that differ only in case, white space, punctuation or the way their characters are composed (NFC, NFD, full
width) have the same words. A Hangul syllable, a Han character or a kana is a word of its own that weighs a third of a
word, because Korean is written with and without spaces: so thirteen words are about 39 syllables, wherever the spaces
stand.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CJK = "\u3041-\u30ff\u3131-\u318e\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufe0f\ufeff]")

PARTS_OF_A_WORD = 3
"""A word weighs three parts, a Hangul syllable or a Han character one."""


# What is no letter, digit or underscore becomes a space. Four times as fast as the pattern.
_ASCII_WORDS = bytes(at if chr(at).isalnum() or at == ord("_") else ord(" ") for at in range(128)) + b" " * 128


def split_words(text: str) -> list[str]:
    """The words of a text, lower case, in order."""
    if text.isascii():
        return text.lower().encode().translate(_ASCII_WORDS).decode().split()
    return _WORD.findall(unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold())


def is_syllable(word: str) -> bool:
    """Whether a word of `split_words` is one syllable or character of Korean, Chinese or Japanese."""
    return len(word) == 1 and word >= "\u3041"


_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_MIX = 0xD6E8FEB86659FD93  # without mixing, windows over words would be polynomials over letters and collide more


@lru_cache(maxsize=32)
def _powers(length: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """base^0 .. base^(length-1), and their inverses, modulo 2^64."""
    import numpy as np  # noqa: PLC0415 - a command that hashes nothing need not load it

    inverse = pow(_BASE, -1, 2**64)
    tables = []
    for base in (_BASE, inverse):
        table = np.full(length, base, np.uint64)
        table[0] = 1
        tables.append(np.multiply.accumulate(table))
    return tables[0], tables[1]


def _hash_each(found: Sequence[str]) -> NDArray[np.uint64]:
    """A 64-bit hash of each word: polynomial over its bytes and the space after it, then mixed; all words at once."""
    import numpy as np  # noqa: PLC0415 - as above

    if not found:
        return np.empty(0, np.uint64)
    text = np.frombuffer((" ".join(found) + " ").encode("utf-8", "surrogatepass"), np.uint8)
    ends = np.flatnonzero(text == ord(" ")) + 1
    lengths = np.diff(ends, prepend=0)
    starts = ends - lengths
    inside = np.arange(len(text)) - np.repeat(starts, lengths)
    powers = _powers(1 << max(6, int(lengths.max()).bit_length()))[0]
    hashes: NDArray[np.uint64] = np.add.reduceat(text * powers[inside], starts)
    hashes ^= hashes >> np.uint64(32)
    hashes *= np.uint64(_MIX)
    hashes ^= hashes >> np.uint64(29)
    return hashes


class Windows(NamedTuple):
    """Windows over some words: window i covers words[starts[i]:ends[i]] and has the 64-bit hash hashes[i]."""

    hashes: NDArray[np.uint64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


class Words:
    """The words of a text, and the hashes of all its windows of some length.

    The hash of a window is polynomial, over prefix sums that are computed once, so its length costs nothing.
    """

    def __init__(self, text: str) -> None:
        self.words = split_words(text)

    @cached_property
    def _reached(self) -> NDArray[np.int64] | None:
        """The weight of all words before each word, in parts; None where each word weighs the same."""
        import numpy as np  # noqa: PLC0415 - as above

        if all(map(str.isascii, self.words)):
            return None
        weights = [1 if is_syllable(word) else PARTS_OF_A_WORD for word in self.words]
        return np.cumsum([0, *weights])

    @cached_property
    def _sums(self) -> NDArray[np.uint64]:
        import numpy as np  # noqa: PLC0415 - as above

        count = len(self.words)
        sums = np.zeros(count + 1, np.uint64)
        np.cumsum(_hash_each(self.words) * self._tables[0][:count], out=sums[1:])
        return sums

    @property
    def _tables(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        return _powers(1 << max(12, len(self.words).bit_length()))

    @property
    def size(self) -> float:
        """How long the text is in words, in which three syllables are one word."""
        reached = self._reached
        return len(self.words) if reached is None else int(reached[-1]) / PARTS_OF_A_WORD

    @property
    def hash(self) -> int:
        """One 64-bit hash of all the words."""
        return hash_words(self.words)

    def windows(self, length: int) -> Windows:
        """Each stretch of `length` words, from each word on; none when the text is shorter."""
        import numpy as np  # noqa: PLC0415 - as above

        reached, count = self._reached, len(self.words)
        if reached is None:
            starts = np.arange(max(count - length + 1, 0))
            ends = starts + length
        else:
            ends = np.searchsorted(reached, reached[:-1] + length * PARTS_OF_A_WORD)
            starts = np.flatnonzero(ends <= count)
            ends = ends[starts]
        return Windows((self._sums[ends] - self._sums[starts]) * self._tables[1][starts], starts, ends)


def hash_words(found: Iterable[str]) -> int:
    """One 64-bit hash of some words in their order."""
    import xxhash  # noqa: PLC0415 - as above

    return xxhash.xxh64_intdigest("\0".join(found).encode())
