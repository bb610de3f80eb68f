"""The errors that are the user's to fix.

Every command catches `UserError`, and what a disk or a file refuses (`disk_fault`), at its outermost line, prints it without
a traceback and exits with 2. Everything else is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
import errno
import sqlite3
import unicodedata
from collections.abc import Iterable

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


_DISK_ERRORS = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENOENT,
    errno.EMFILE, errno.ENFILE,
)  # fmt: skip
_SQLITE_ERRORS = (
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM,
)  # fmt: skip
_WORDS_OF_LIBRARIES = ("No space left on device", "Disk quota exceeded", "PytorchStreamWriter", "iostream error")
"""How torch, safetensors and tokenizers, which raise errors of their own, say that a file could not be written."""


def disk_fault(error: BaseException) -> str | None:
    """What a disk or a file refused, in one line; None where an error is about something else."""
    if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
        if error.filename is not None:
            return f"{error.filename}: {error.strerror}"
        if error.errno in _DISK_ERRORS:
            return error.strerror
    if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _SQLITE_ERRORS:
        return f"a temporary database: {error}"
    text = first_line(error)
    return text if any(words in text for words in _WORDS_OF_LIBRARIES) else None
