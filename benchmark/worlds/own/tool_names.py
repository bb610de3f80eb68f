"""What the names of tools suggest. Each is a guess, for where the source of a tool says nothing of it."""

from __future__ import annotations

import re

_READS = frozenset((
    *("check", "count", "describe", "fetch", "find", "get", "has", "is", "list", "look", "query", "read", "search",),
    *("show", "view",),
))  # fmt: skip
"""Words of names of tools that most often change nothing."""
_CHANGES = frozenset((
    *("add", "append", "apply", "archive", "assign", "book", "cancel", "change", "clear", "close", "commit",),
    *("complete", "create", "delete", "disable", "drop", "edit", "enable", "execute", "exchange", "finish",),
    *("insert", "install", "kill", "mark", "merge", "modify", "move", "open", "pay", "post", "publish", "push",),
    *("put", "refund", "remove", "rename", "replace", "reset", "return", "run", "save", "send", "set", "start",),
    *("stop", "store", "submit", "toggle", "transfer", "undo", "uninstall", "update", "upload", "wipe", "write",),
))  # fmt: skip
"""Words that such a name does not begin with."""
_DESTROYS = frozenset((
    *("cancel", "clear", "delete", "destroy", "drop", "erase", "kill", "overwrite", "purge", "remove", "reset",),
    *("truncate", "uninstall", "wipe",),
))  # fmt: skip
"""Words of names of tools after which something is gone."""
_SAME_AGAIN = frozenset((
    *("clear", "delete", "disable", "enable", "put", "rename", "replace", "set", "update", "wipe",),
))  # fmt: skip
"""Words of names of tools that do no more when they are called again."""


def sounds_read_only(name: str) -> bool:
    """Whether a tool's name is one of those that most often change nothing."""
    words = _words(name)
    return any(word in _READS for word in words) and words[0] not in _CHANGES


def sounds_destructive(name: str) -> bool | None:
    """Whether a tool's name says that something is gone after a call; None where it says nothing."""
    return True if _DESTROYS & set(_words(name)) else None


def sounds_idempotent(name: str) -> bool | None:
    """Whether a tool's name says that a second call does nothing more; None where it says nothing."""
    return True if _SAME_AGAIN & set(_words(name)) else None


def _words(name: str) -> list[str]:
    """The first two words of a name in whichever case."""
    return re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())[:2]
