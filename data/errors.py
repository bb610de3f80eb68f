"""The one kind of error that is the user's to fix.

Every command catches `UserError` at its outermost line, prints it without a traceback and exits with 2. Everything else
is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
import sys
import unicodedata
from collections.abc import Callable, Iterable

WHITE = "\n\t\u200d"
"""What text of several lines may hold; the last one joins emoji."""


class UserError(ValueError):
    """Bad input, told to the person who can fix it: where, which field, which value, what was expected."""


def nearest(name: str, names: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the closest of `names`, or an empty string when nothing is close."""
    # Decomposed, a Korean syllable with one wrong vowel is near to the right one.
    by_letters = {unicodedata.normalize("NFD", known): known for known in names}
    close = difflib.get_close_matches(unicodedata.normalize("NFD", name), by_letters, n=1, cutoff=0.6)
    return f" Did you mean {by_letters[close[0]]!r}?" if close else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, for a message or a reason that is counted."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def printable(text: str, *, keep: str = "") -> str:
    """`text` with an escape for each character that could drive a terminal or reorder a line; those of `keep` stay."""
    if text.isprintable():
        return text
    driving = ("Cc", "Cf", "Zl", "Zp", "Cs")
    return "".join(
        repr(character)[1:-1] if character not in keep and unicodedata.category(character) in driving else character
        for character in text
    )


def run_command(command: Callable[..., object], *, name: str) -> None:
    """Run a command-line app called `name`; what the user can mend is told on one screen, without a traceback, exit 2."""
    try:
        command(prog_name=name)
    except UserError as error:
        sys.stderr.write(f"error: {printable(str(error), keep=WHITE)}\n")
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        sys.stderr.write(f"error: {printable(str(error.filename))}: {error.strerror}\n")
        sys.exit(2)
