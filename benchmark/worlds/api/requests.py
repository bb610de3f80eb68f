"""Requests as the services of the API world read them, and what they answer."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

from pydantic import JsonValue

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


TABLES = ("orders", "customers", "items", "charges", "refunds", "messages")
AUTH = "oauth"


class Refusal(Exception):
    """An HTTP error answer."""

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


class Answer(NamedTuple):
    """What a service answers to a request that is right."""

    body: JsonValue = None
    status: int = 200
    version: str | None = None
    is_cut_off: bool = False
    """Only half of the body arrives."""


@dataclass(frozen=True)
class Request:
    """What is asked of a service."""

    method: str
    path: list[str]
    body: dict[str, Any]
    cursor: str
    token: str | None
    key: str | None
    version: str | None

    @property
    def service(self) -> str:
        return self.path[0]


def environ_to_request(environ: WSGIEnvironment) -> Request:
    path = environ["PATH_INFO"]
    with suppress(UnicodeError):  # WSGI hands bytes on as Latin-1; httpx hands text on as it is
        path = path.encode("latin-1").decode("utf-8")
    length = int(environ.get("CONTENT_LENGTH") or 0)
    content = environ["wsgi.input"].read(length)
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        body: Any = {name: values[0] for name, values in parse_qs(content.decode("utf-8", errors="replace")).items()}
    else:
        try:
            body = json.loads(content) if content else {}
        except (ValueError, RecursionError):
            raise Refusal(400, "the body is no JSON") from None
    if not isinstance(body, dict):
        raise Refusal(400, "the body is no JSON object")
    authorization = environ.get("HTTP_AUTHORIZATION", "")
    return Request(
        method=environ["REQUEST_METHOD"],
        path=path.split("/")[1:] or [""],
        body=body,
        cursor=parse_qs(environ["QUERY_STRING"]).get("cursor", [""])[0],
        token=authorization.removeprefix("Bearer ") if authorization.startswith("Bearer ") else None,
        key=environ.get("HTTP_IDEMPOTENCY_KEY"),
        version=environ["HTTP_IF_MATCH"].strip('"') if "HTTP_IF_MATCH" in environ else None,
    )


def version_of(request: Request) -> str:
    if request.version is None:
        raise Refusal(428, "If-Match with the version is missing")
    return request.version


def text_of(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise Refusal(422, f"{name} is empty" if value in ("", None) else f"{name} must be text")
    return value


def number_of(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if type(value) is not int or not 1 <= value <= 10**6:
        raise Refusal(422, f"{name} must be a number from 1 to 1000000")
    return str(value)
