"""The read API of a release: `python -m data serve RELEASE`. It needs the extra `serve` (FastAPI and uvicorn).

Records are never held in memory. At the start each file is hashed against the manifest, and what filters ask for is put
into an SQLite index with the place of each record in its file; answers copy the bytes of the file.

Everything a request can say is described in /openapi.json, and nothing else is accepted: an unknown parameter is an error
(422) with the nearest right name, never ignored.
"""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, WithJsonSchema
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import UserError, nearest
from core.json_lines import json_to_object
from data.records import KOREAN_CATEGORIES, KOREAN_OUTCOMES, Category, CategoryName, Outcome, OutcomeName, Trajectory
from data.release.documents import KOREAN_NAMES
from data.release.index import _AS_TIMESTAMP, Filters, RecordIndex, cursor_to_number, number_to_cursor

NDJSON = "application/x-ndjson"
MAX_LEADERBOARD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class ApiLimits:
    """What one request may cost."""

    query_bytes: int = 2_048
    page_bytes: int = 8 * 2**20
    """A page ends early, after at least one record, before it grows beyond this."""
    request_seconds: float = 30.0
    stream_seconds: float = 600.0
    connections: int = 200
    """More at once are answered with 503."""


DEFAULT_PAGE_RECORDS = 100
MAX_PAGE_RECORDS = 1_000


# ---- what requests say and answers hold ----


AnswerFormat = Literal["json", "ndjson"]
"""How records come: a page as one JSON object, or one JSON object a line."""

_DAY = r"\d{4}-\d{2}-\d{2}"
_SINCE_PATTERN = rf"^{_DAY}([Tt ]\d{{2}}:\d{{2}}(:\d{{2}}(\.\d+)?)?([Zz]|[+-]\d{{2}}:?\d{{2}}))?$"


def _text_to_since(value: object) -> object:
    if isinstance(value, str):
        try:
            if re.fullmatch(_DAY, value, re.ASCII):
                day = date.fromisoformat(value)
                return datetime(day.year, day.month, day.day, tzinfo=UTC)
            if re.match(_SINCE_PATTERN, value, re.ASCII):
                return _AS_TIMESTAMP.validate_python(value)
        except ValueError:
            pass
    raise ValueError("expected a day (2026-11-21) or a time with its zone (2026-11-21T09:00:00Z; write + as %2B)")


Since = Annotated[
    datetime, BeforeValidator(_text_to_since), WithJsonSchema({"type": "string", "pattern": _SINCE_PATTERN})
]
Text = Query(min_length=1, max_length=200)


class Dataset(BaseModel):
    """The records of one category."""

    category: Category
    korean: str
    records: int
    licences: list[str]
    url: str


class Catalogue(BaseModel):
    """What the release holds."""

    name: str
    version: str
    release_sha256: str
    datasets: list[Dataset]
    statistics: dict[str, Any]


class Page(BaseModel):
    """Some records, and where the next ones begin."""

    records: list[Trajectory]
    total: int
    """Records that pass the filters, on all pages."""
    next: str | None
    """The `cursor` of the next page; null on the last one."""


class BadParameter(BaseModel):
    """What is wrong with one parameter."""

    type: str
    loc: list[str | int]
    """`query` or `path`, and the name of the parameter."""
    msg: str
    input: str


class Refusal(BaseModel):
    """The answer to a request that cannot be understood."""

    detail: list[BadParameter]


class Leaderboard(BaseModel):
    """What `python -m benchmark leaderboard` writes as leaderboard.json."""

    runs: list[dict[str, Any]]


# ---- the application ----


def create_app(index: RecordIndex, *, leaderboard: Path | None = None, limits: ApiLimits | None = None) -> FastAPI:
    """The API over an index.

    Args:
        leaderboard: leaderboard.json of `python -m benchmark leaderboard`; it is read for each request.
    """
    limits = limits or ApiLimits()
    manifest = index.manifest
    app = FastAPI(
        title=f"{manifest.name} {manifest.version}",
        version=manifest.version,
        description="Records of agents using tools. Each category is a data set; Korean names of categories and outcomes "
        f"are accepted: {', '.join(f'{korean} = {name}' for korean, name in KOREAN_CATEGORIES.items())}.",
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(_only_known_parameters)],
        responses={
            422: {"model": Refusal, "description": "A parameter is unknown or wrong; it is named."},
            414: {"description": f"The query is longer than {limits.query_bytes} bytes."},
            503: {"description": "The server is busy, or the request took too long."},
        },
    )
    app.add_middleware(_Guard, limits=limits)
    app.add_exception_handler(RequestValidationError, _refused)

    @app.get("/datasets", summary="What the release holds")
    def datasets() -> Catalogue:
        return Catalogue(
            name=manifest.name,
            version=manifest.version,
            release_sha256=manifest.release_sha256,
            datasets=[
                Dataset(
                    category=category,
                    korean=KOREAN_NAMES[category],
                    records=file.rows or 0,
                    licences=sorted({part.licence for part in file.parts}),
                    url=f"/datasets/{category}",
                )
                for category in manifest.categories
                if (file := manifest.data_file(category))
            ],
            statistics=manifest.statistics,
        )

    @app.get(
        "/datasets/{category}",
        summary="Records of one category, sorted by id",
        description="As a page, or with format=ndjson (or `Accept: application/x-ndjson`) one record a line: all of them, or "
        "with `limit` a page, whose header X-Next-Cursor says where the next begins.",
        response_model=Page,
        responses={200: {"content": {NDJSON: {"schema": {"type": "string"}}}}},
    )
    def records(
        category: Annotated[CategoryName, PathParameter(description="Category, in English or Korean.")],
        tool: Annotated[str | None, Text] = None,
        outcome: Annotated[OutcomeName | None, Query(description="Outcome, in English or Korean.")] = None,
        language: Annotated[str | None, Text] = None,
        since: Annotated[
            Since | None, Query(description="Only records of this time or later; a day begins at 00:00 UTC.")
        ] = None,
        limit: Annotated[
            int | None,
            Query(ge=1, le=MAX_PAGE_RECORDS, description=f"Records of a page, {DEFAULT_PAGE_RECORDS} by default."),
        ] = None,
        cursor: Annotated[
            str | None, Query(min_length=1, max_length=200, description="`next` of the page before.")
        ] = None,
        format: Annotated[AnswerFormat | None, Query(description="Instead of the header Accept.")] = None,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
    ) -> Response:
        filters = Filters(category, tool, outcome, language, since)
        try:
            after = 0 if cursor is None else cursor_to_number(cursor, filters, manifest.release_sha256)
        except ValueError as error:
            raise RequestValidationError([_fault("cursor", str(error), cursor)]) from None
        wants_lines = format == "ndjson" or (format is None and NDJSON in accept.lower())
        if wants_lines and limit is None:
            lines = index.lines(filters, after=after)
            return StreamingResponse(_joined(lines), media_type=NDJSON)
        page, last, has_more = _page(
            index.lines(filters, after=after), limit or DEFAULT_PAGE_RECORDS, limits.page_bytes
        )
        next_cursor = number_to_cursor(last, filters, manifest.release_sha256) if has_more else None
        if wants_lines:
            headers = {} if next_cursor is None else {"X-Next-Cursor": next_cursor}
            return Response(b"".join(line + b"\n" for line in page), media_type=NDJSON, headers=headers)
        total = index.count(filters)
        end = f'],"total":{total},"next":{json.dumps(next_cursor)}}}'
        return Response(b'{"records":[' + b",".join(page) + end.encode(), media_type="application/json")

    @app.get(
        "/leaderboard",
        summary="Models and their KPIs",
        response_model=Leaderboard,
        responses={
            404: {"description": "The server was started without a leaderboard."},
            503: {"description": "As elsewhere, or the leaderboard's file is damaged."},
        },
    )
    def leaderboard_of_models() -> Response:
        if leaderboard is None:
            raise HTTPException(404, "this server was started without --leaderboard FILE")
        try:
            content = read_leaderboard(leaderboard)
        except UserError:
            raise HTTPException(503, "the leaderboard's file is missing or damaged") from None
        return Response(content, media_type="application/json")

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        return HTMLResponse(_docs_page(app.openapi()), headers={"Content-Security-Policy": policy})

    @app.get("/", include_in_schema=False)
    def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    return app


def read_leaderboard(path: Path) -> bytes:
    """The content of a leaderboard.json.

    Raises:
        UserError: if it is none.
    """
    try:
        if path.stat().st_size > MAX_LEADERBOARD_BYTES:
            raise UserError(f"{path}: is larger than {MAX_LEADERBOARD_BYTES} bytes")
        content = path.read_bytes()
        value = json_to_object(content.decode("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get("runs"), list):
        raise UserError(f"{path}: is no leaderboard.json of `python -m benchmark leaderboard` (no list 'runs')")
    return content


def _page(lines: Iterator[tuple[int, bytes]], limit: int, max_bytes: int) -> tuple[list[bytes], int, bool]:
    """As many lines as a page holds, the number of the last of them, and whether there are more."""
    page: list[bytes] = []
    size, last = 0, 0
    for number, line in lines:
        size += len(line)
        if len(page) == limit or (page and size > max_bytes):
            return page, last, True
        page.append(line)
        last = number
    return page, last, False


def _joined(lines: Iterator[tuple[int, bytes]]) -> Iterator[bytes]:
    """Lines in pieces that are worth sending."""
    waiting: list[bytes] = []
    size = 0
    for _, line in lines:
        waiting.append(line + b"\n")
        size += len(line)
        if size >= 64 * 1024:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


# ---- refusing ----


def _fault(name: str, message: str, value: object) -> dict[str, Any]:
    return {"type": "value_error", "loc": ("query", name), "msg": f"{name} {message}", "input": value}


def _only_known_parameters(request: Request) -> None:
    """An unknown or doubled parameter would be ignored, and its sender would believe that it had worked."""
    route = request.scope["route"]
    known = [field.alias for field in route.dependant.query_params] if isinstance(route, APIRoute) else []
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name not in known:
            hint = nearest(name, known) or (f" Known are {', '.join(known)}." if known else " There is none here.")
            raise RequestValidationError([_fault(name[:100], f"is no parameter.{hint}", value[:100])])
        if name in seen:
            raise RequestValidationError([_fault(name, "stands twice", value[:100])])
        seen.add(name)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    """422 with the name of each bad parameter, what was expected, and the nearest right value."""
    names: dict[str, list[str]] = {
        "category": [*map(str, Category), *KOREAN_CATEGORIES],
        "outcome": [*map(str, Outcome), *KOREAN_OUTCOMES],
        "format": [*get_args(AnswerFormat)],
    }
    faults = []
    for fault in cast(RequestValidationError, error).errors():
        message, value = fault["msg"].removeprefix("Value error, "), fault["input"]
        if fault["type"] in ("enum", "literal_error"):
            message += "." + nearest(str(value), names.get(fault["loc"][-1], []))
        faults.append({"type": fault["type"], "loc": list(fault["loc"]), "msg": message, "input": str(value)[:200]})
    return JSONResponse({"detail": faults}, status_code=422)


class _Guard:
    """Limits around every request: the length of the query and the time, which is longer for streams."""

    def __init__(self, app: ASGIApp, limits: ApiLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if len(scope["query_string"]) > self._limits.query_bytes:
            answer = JSONResponse(
                {"detail": f"the query is longer than {self._limits.query_bytes} bytes"}, status_code=414
            )
            await answer(scope, receive, send)
            return
        started = False

        async def send_on(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message["headers"], (b"x-content-type-options", b"nosniff")]}
                if any(
                    name == b"content-type" and value.startswith(NDJSON.encode()) for name, value in message["headers"]
                ):
                    timeout.reschedule(asyncio.get_running_loop().time() + self._limits.stream_seconds)
            await send(message)

        try:
            async with asyncio.timeout(self._limits.request_seconds) as timeout:
                await self._app(scope, receive, send_on)
        except TimeoutError:
            # An answer that has begun is left unfinished, which its reader sees; a whole-looking one would be a lie.
            if not started:
                answer = JSONResponse({"detail": "the request took too long"}, status_code=503)
                await answer(scope, receive, send)


# ---- the page ----

_STYLE = """
:root { color-scheme: light dark; --quiet: #6b6b6b; --line: #8884; }
@media (prefers-color-scheme: dark) { :root { --quiet: #a3a3a3; } }
body { font: 16px/1.55 system-ui, "Noto Sans KR", sans-serif; max-width: 56rem; margin: 2.5rem auto; padding: 0 1rem; }
h2 { border-top: 1px solid var(--line); padding-top: 1.5rem; margin-top: 2rem; }
code, pre { font: .9em ui-monospace, Consolas, monospace; }
pre { border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; } th { color: var(--quiet); font-weight: 500; }
"""


def _docs_page(description: dict[str, Any]) -> str:
    """The OpenAPI description as one page that needs no script and no network."""
    info = description["info"]
    parts = [f"<h1>{html.escape(info['title'])}</h1><p>{html.escape(info['description'])}</p>"]
    parts.append('<p>For programs: <a href="/openapi.json">openapi.json</a></p>')
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            parts.append(f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>")
            parts.append(f"<p>{html.escape(operation['summary'])}. {html.escape(operation.get('description', ''))}</p>")
            rows = "".join(_parameter_row(parameter) for parameter in operation.get("parameters", []))
            if rows:
                parts.append(f"<table><tr><th>parameter</th><th>in</th><th>values</th><th></th></tr>{rows}</table>")
            answers = ", ".join(f"{code} {answer['description']}" for code, answer in operation["responses"].items())
            parts.append(f"<p>Answers: {html.escape(answers)}</p>")
    parts.append(
        "<h2>Examples</h2><pre>curl 'http://127.0.0.1:8000/datasets'\n"
        "curl 'http://127.0.0.1:8000/datasets/web?outcome=failure&amp;limit=10'\n"
        "curl 'http://127.0.0.1:8000/datasets/file-ops?since=2026-11-01&amp;format=ndjson' &gt; files.jsonl</pre>"
    )
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head += f"<title>{html.escape(info['title'])}</title><style>{_STYLE}</style>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def _parameter_row(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    schema = next((each for each in schema.get("anyOf", []) if each.get("type") != "null"), schema)
    limits = {
        "minimum": "from",
        "maximum": "to",
        "minLength": "at least characters:",
        "maxLength": "at most characters:",
    }
    values = ", ".join(schema.get("enum", [])) or " ".join(
        [schema.get("type", ""), *(f"{word} {schema[key]}" for key, word in limits.items() if key in schema)]
    )
    cells = (parameter["name"], parameter["in"], values, parameter.get("description", ""))
    return "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>"
