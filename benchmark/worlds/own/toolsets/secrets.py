"""Values that must not be seen: found in whatever a server says, and hidden."""

from __future__ import annotations

import base64
import json
import re
from typing import Any
from urllib.parse import quote

from pydantic import JsonValue

_SHORTEST = 5
"""Characters of what can be a secret. Hiding each `1` would destroy results and hide nothing."""


class Secrets:
    """Secret values by the name of their variable, in each spelling that a text may have."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    def add(self, name: str, value: str) -> None:
        """Hide `value` from now on. A header's `Bearer x` hides `x`, too."""
        for part in {value, value.rpartition(" ")[2]}:
            if len(part) < _SHORTEST:
                continue
            raw = part.encode("utf-8", "surrogateescape")
            encoded = {base64.b64encode(raw), base64.urlsafe_b64encode(raw)}
            spellings = {
                part,
                json.dumps(part)[1:-1],
                json.dumps(part, ensure_ascii=False)[1:-1],
                quote(raw),
                quote(raw, safe=""),
            }
            spellings |= {each.decode().rstrip("=") for each in encoded} | {raw.hex()}
            for spelling in spellings:
                self._names[spelling] = name
        if self._names:
            longest_first = sorted(self._names, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def hide(self, text: str) -> str:
        """`text` with the name of the variable in place of each secret."""
        return self._pattern.sub(lambda found: f"[hidden: {self._names[found[0]]}]", text) if self._pattern else text

    def hide_in(self, value: JsonValue) -> Any:
        """The same for each text and key of a JSON value."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, list):
            return [self.hide_in(inner) for inner in value]
        if isinstance(value, dict):
            return {self.hide(key): self.hide_in(inner) for key, inner in value.items()}
        return value
