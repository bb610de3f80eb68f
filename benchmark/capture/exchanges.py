"""One request of an agent with the answer that it got, as both passed by."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Api(StrEnum):
    """What is recorded, whoever serves it."""

    CHAT_COMPLETIONS = "chat_completions"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"


_PATHS = {
    "/chat/completions": Api.CHAT_COMPLETIONS,
    "/completions": Api.COMPLETIONS,
    "/responses": Api.RESPONSES,
    "/messages": Api.MESSAGES,
}


def api_of(method: str, path: str) -> Api | None:
    """The API that a request asks; null where it passes unrecorded."""
    return next((api for end, api in _PATHS.items() if path.endswith(end)), None) if method == "POST" else None


@dataclass(frozen=True)
class Exchange:
    """A request with its answer, on the way from the process that serves to the one that writes."""

    id: str
    api: Api
    asked_at: datetime
    answered_at: datetime
    status: int
    request: bytes
    response: bytes
    request_encoding: str = ""
    response_encoding: str = ""
    """How the bodies are packed: `gzip`, `br`; empty where they are not."""
    is_whole: bool = True
    """Whether the answer came to its end."""
    conversation: str | None = None
    """A hash of the header that names the conversation."""
    keys: tuple[str, ...] = ()
    """What the request's headers hold that is a secret: looked for in the bodies, and never written."""

    def to_line(self) -> bytes:
        """A line of JSON."""
        value = dict(vars(self))
        value |= {key: base64.b64encode(value[key]).decode() for key in ("request", "response")}
        value |= {key: value[key].isoformat() for key in ("asked_at", "answered_at")}
        return json.dumps(value).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Exchange:
        """What `to_line` wrote."""
        value = json.loads(line)
        value |= {key: base64.b64decode(value[key]) for key in ("request", "response")}
        value |= {key: datetime.fromisoformat(value[key]) for key in ("asked_at", "answered_at")}
        return cls(**{**value, "api": Api(value["api"]), "keys": tuple(value["keys"])})
