"""The one kind of error that is the user's to fix.

Every command catches `UserError` at its outermost line, prints it without a traceback and exits with 2. Everything else
is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input, told to the person who can fix it: where, which field, which value, what was expected."""


def nearest(name: str, names: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the closest of `names`, or an empty string when nothing is close."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
