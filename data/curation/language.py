"""Which language a text is in, with code left out before it is looked at."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data.curation.rows import CuratedRow

UNDETERMINED = "und"
"""ISO 639-2: there is too little text, or no language stands out."""

FEWEST_LETTERS = 16
SURE = 0.8
"""Probability from which on py3langid is believed. On a few Latin words it is often wrong, and then seldom sure."""

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|<[^<>\n]{1,200}>|https?://\S+", re.DOTALL)
_QUOTED = re.compile(r'"[^"\n]{0,200}"|“[^”\n]{0,200}”')
# A word of prose: letters, with an apostrophe or hyphen inside and punctuation around; no path, name_of_a_thing or number.
_PROSE_WORD = re.compile(r"(?<!\S)[\"'“”‘’(\[*]*([^\W\d_]+(?:['’-][^\W\d_]+)*)[\"'“”‘’)\]*.,;:!?…。、！？]*(?!\S)")


def prose(text: str) -> str:
    """The words of a text that belong to a language: no code, quoted values, addresses, paths, names or numbers."""
    return " ".join(_PROSE_WORD.findall(_QUOTED.sub(" ", _CODE.sub(" ", text))))


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # noqa: PLC0415 - loads a model, half a second

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def identify_language(text: str) -> str:
    """ISO 639-1 code of the language of some prose, or "und".

    Scripts that only one language is written in decide by themselves; the rest is py3langid's.
    """
    letters = [character for character in text[:4000] if character.isalpha()]
    if not letters:
        return UNDETERMINED
    hangul = sum("가" <= character <= "힣" or "ᄀ" <= character <= "ᇿ" for character in letters)
    if hangul >= 0.3 * len(letters):
        return "ko"
    kana = sum("ぁ" <= character <= "ヿ" for character in letters)
    if kana >= 0.2 * len(letters):
        return "ja"
    if len(letters) < FEWEST_LETTERS:
        return UNDETERMINED
    code, probability = _identifier().classify(text[:4000])
    return str(code) if probability >= SURE else UNDETERMINED


def row_language(row: CuratedRow) -> str:
    """The language that a record states, or else the one of what its user and its assistant say."""
    if stated := row.metadata.get("language"):
        return str(stated)
    said = (prose(message.content[:8000]) for message in row.imitated if message.role in ("user", "assistant"))
    return identify_language(" ".join(filter(None, said)))
