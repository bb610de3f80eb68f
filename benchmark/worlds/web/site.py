"""A web site of HTML pages as a WSGI app: tables, links, forms with a hidden ticket, a login with a session cookie, faults.

It knows nothing of tools and tasks beyond the schedule of faults. `benchmark/worlds/web/world.py` has the browser that visits
it and says what the faults are.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from http.client import responses
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from benchmark.worlds.tools import Schedule, Standing
from benchmark.worlds.troubles import Values
from benchmark.worlds.web.pages import ACCOUNT, LOGIN, LOGIN_BUTTON, MAP, Entry, Form, Page, title_of
from benchmark.worlds.web.troubles import TROUBLES, Visit
from benchmark.worlds.world import Task

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

CALL_SECONDS = 0.2
TIMEOUT_SECONDS = 30.0


class _Refusal(Exception):
    """An HTTP error answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


_LOGIN_PAGE = Page(form=Form({"user": "", "password": ""}, (LOGIN_BUTTON,)))


class Site:
    """The WSGI app. `struck` names the fault that hit the last call, or is None."""

    def __init__(self, task: Task, pages: dict[str, Page]) -> None:
        p: Any = task.parameters
        self.pages = {**pages, MAP: Page()}
        """By name, which is the first address."""
        if "user" in p:
            private = tuple(name for name, page in pages.items() if page.is_private)
            self.pages |= {LOGIN: _LOGIN_PAGE, ACCOUNT: Page(links=private, is_private=True)}
        self.name_at = {name: name for name in self.pages}
        """Address now -> name of the page."""
        self.entries: list[tuple[str, Entry]] = []
        """What was received: name of the page, entry."""
        self.clock_s = 0.0
        self.struck: str | None = None
        self.tool: str | None = None
        """The tool that is asking, so that a fault can name its target; a call strikes at most once."""
        self.standing: list[Standing] = []
        """Troubles that later requests meet too."""
        self._parameters = p
        self._schedule = Schedule(task.faults)
        self._blocked_until_s = 0.0
        self._block = ""
        self._moved_to: dict[str, str] = {}
        self._gone: dict[str, str] = {}
        """Address that is none any more -> title of its page."""
        self._renamed: dict[str, dict[str, str]] = {}
        """Name of a page -> name of a field -> what it is called now."""
        self._tickets: dict[str, str] = {}
        """Hidden number that is good for one sending -> name of the page."""
        self._tickets_given = 0
        self._sessions: set[str] = set()
        self._sessions_given = 0

    @property
    def is_blocked(self) -> bool:
        """True while every request is refused."""
        return self.clock_s < self._blocked_until_s

    def accepts(self, ticket: str | None) -> bool:
        """Whether the hidden number of a form is still good."""
        return ticket in self._tickets

    def knows(self, session: str | None) -> bool:
        """Whether a session cookie is still good."""
        return session in self._sessions

    def field_names(self, name: str) -> dict[str, str]:
        """What the fields of a page's form are called now, by their first names."""
        form = self.pages[name].form
        return {each: self._renamed.get(name, {}).get(each, each) for each in (form.fields if form else ())}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.clock_s += CALL_SECONDS
        headers = [("Content-Type", "text/html; charset=utf-8")]
        try:
            status, body = self._answer(environ, headers)
        except _Refusal as refusal:
            status, body = refusal.status, _html(f"Error {refusal.status}", [_paragraph(str(refusal))])
        start_response(f"{status} {responses.get(status, 'Unknown')}", headers)
        return [body.encode("utf-8")]

    def _answer(self, environ: WSGIEnvironment, headers: list[tuple[str, str]]) -> tuple[int, str]:
        if self.is_blocked:
            # Rounded first, so that sums of tenths do not ask for a second too many.
            seconds = math.ceil(round(self._blocked_until_s - self.clock_s, 3))
            raise self._refusal(self._block, seconds=seconds)
        address = environ["PATH_INFO"]
        with suppress(UnicodeError):  # WSGI hands bytes on as Latin-1; httpx hands text on as it is
            address = address.encode("latin-1").decode("utf-8")
        address += "?" * bool(environ["QUERY_STRING"]) + environ["QUERY_STRING"]
        name = self._find(address)
        page = self.pages[name]
        cookie = SimpleCookie(environ.get("HTTP_COOKIE", "")).get("session")
        if page.is_private and not self.knows(cookie.value if cookie else None):
            raise _Refusal(401, f"log in first, at {LOGIN}")
        if environ["REQUEST_METHOD"] == "GET":
            self._strike(address, page)
            if page.confirms:
                self._receive(name, {})
            return 200, self._to_html(name)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        sent = parse_qs(environ["wsgi.input"].read(length).decode("utf-8", errors="replace"), keep_blank_values=True)
        values = {key: value[0] for key, value in sent.items()}
        ticket = values.pop("ticket", None)
        entry = self._check(name, ticket, values)
        self._strike(address, page, ticket)
        del self._tickets[str(ticket)]
        if name == LOGIN:
            self._sessions_given += 1
            session = f"{self._parameters['session']}{self._sessions_given}"
            self._sessions.add(session)
            headers += [("Set-Cookie", f"session={session}; Path=/; HttpOnly"), ("Location", ACCOUNT)]
            return 303, ""
        self._receive(name, entry)
        return 200, self._to_html(name, received=entry)

    def _find(self, address: str) -> str:
        if address in self._moved_to:
            raise self._refusal("moved", address=address, now=self._moved_to[address])
        if address in self._gone:
            raise self._refusal("broken_link", address=address, title=self._gone[address])
        if address not in self.name_at:
            raise _Refusal(404, f"no such page: {address}")
        return self.name_at[address]

    def _check(self, name: str, ticket: str | None, values: dict[str, str]) -> Entry:
        """What was sent as an entry, with the first names of the fields."""
        form = self.pages[name].form
        if form is None:
            raise _Refusal(405, "this page takes nothing")
        if ticket is None or self._tickets.get(ticket) != name:
            raise self._refusal("stale_form")
        button = values.pop("button", "")
        if button not in form.buttons:
            raise _Refusal(422, f"no button {button!r}")
        now = self.field_names(name)
        if set(values) != set(now.values()):
            raise self._refusal("renamed_field")
        entry = {first: values[called].strip() for first, called in now.items()}
        for first, value in entry.items():
            low, high = form.ranges.get(first, (0, 0))
            if not value:
                raise _Refusal(422, f"{now[first]} is empty")
            if first in form.ranges and not (re.fullmatch("[0-9]{1,9}", value) and low <= int(value) <= high):
                raise _Refusal(422, f"{now[first]} must be a number from {low} to {high}")
        p = self._parameters
        if name == LOGIN and (entry["user"], entry["password"]) != (p["user"], p["password"]):
            raise _Refusal(422, "wrong user or password")
        return {**entry, "button": button}

    def _receive(self, name: str, entry: Entry) -> None:
        form = self.pages[name].form
        if form is None or form.is_kept_once:
            self.entries = [each for each in self.entries if each[0] != name]
        self.entries.append((name, entry))

    def _refusal(self, kind: str, **values: Any) -> _Refusal:
        """What is answered to a request that meets a trouble."""
        status, text = TROUBLES[kind].text(values).split(" ", 1)
        return _Refusal(int(status), text)

    def _strike(self, address: str, page: Page, ticket: str | None = None) -> None:
        """Let a fault hit a request that was right. Where it has nothing to hit, nothing happens."""
        tool, self.tool = self.tool, None
        kind = None if tool is None else self._schedule.due(tool)
        for each in self.standing:
            if each.meets(self, self.clock_s, tool or "", {"address": address}):
                raise self._refusal(each.trouble.kind, **each.told(self.clock_s))
        if kind is None or tool is None:
            self.standing = [each for each in self.standing if each.trouble.repair.tool != tool]
            return
        visit = Visit(tool, address, self.name_at[address], page, ticket)
        if not TROUBLES[kind].may_hit(self, visit):
            return
        self.struck = kind
        happened = TROUBLES[kind].happens(self, visit)
        if happened is not None:
            begun = Standing.since(self.clock_s, TROUBLES[kind], happened)
            if TROUBLES[kind].refuses is not None:
                self.standing.append(begun)
            raise self._refusal(kind, **{**begun.told(self.clock_s), **happened})
        self._find(address)

    # What faults do.

    def let_time_pass(self) -> Values:
        """No answer comes."""
        self.clock_s += TIMEOUT_SECONDS
        return {}

    def refuse_all(self, kind: str) -> Values:
        """Every request is refused for a while."""
        seconds = self._parameters["retry_s"]
        self._block, self._blocked_until_s = kind, self.clock_s + seconds
        return {"seconds": seconds}

    def move_page(self, visit: Visit, *, is_told: bool = True) -> None:
        """A page gets another address. Where it is not told, only the site map has it."""
        new = f"/{self._parameters['elsewhere']}{visit.address}"
        self.name_at[new] = self.name_at.pop(visit.address)
        if is_told:
            self._moved_to[visit.address] = new
        else:
            self._gone[visit.address] = title_of(visit.name)

    def end_sessions(self) -> Values:
        """Everybody is logged out."""
        self._sessions.clear()
        return {}

    def end_form(self, visit: Visit) -> Values:
        """The hidden number of a form is good no longer."""
        del self._tickets[str(visit.ticket)]
        return {}

    def rename_field(self, visit: Visit) -> Values:
        """The first field of a form is called otherwise."""
        first = next(iter(self.field_names(visit.name)))
        self._renamed[visit.name] = {first: f"{first}_name"}
        return self.end_form(visit)

    def _to_html(self, name: str, received: Entry | None = None) -> str:
        """A page; after a sending with thanks for what was received, and ready for another."""
        page = self.pages[name]
        links = [address for address, each in self.name_at.items() if each in page.links]
        links += [address for address in page.links if address not in self.pages]  # these lead nowhere
        parts = [_paragraph(f"{key}: {value}") for key, value in (received or {}).items()]
        parts += [_paragraph(line) for line in page.lines]
        if name == MAP:
            known = sorted((title_of(each), address) for address, each in self.name_at.items() if each != MAP)
            parts += [_paragraph(f"{title}: {address}") for title, address in known]
        if page.table:
            rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in page.table)
            parts.append("<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>")
        parts += [
            f'<a href="{html.escape(link)}">{html.escape(title_of(self.name_at.get(link, link)))}</a>' for link in links
        ]
        if page.form is not None:
            parts.append(self._form_to_html(name, page.form))
        return _html(title_of(name) if received is None else "Thank you", parts)

    def _form_to_html(self, name: str, form: Form) -> str:
        self._tickets_given += 1
        ticket = str(self._tickets_given)
        self._tickets[ticket] = name
        sent = next((entry for each, entry in self.entries if each == name and form.is_kept_once), {})
        values = {**form.fields, **sent}
        parts = [f'<input type="hidden" name="ticket" value="{ticket}">']
        for first, called in self.field_names(name).items():
            value = html.escape(values[first])
            parts.append(f'<label>{called} <input name="{called}" value="{value}"></label>')
        parts += [
            f'<button name="button" value="{html.escape(each)}">{html.escape(each)}</button>' for each in form.buttons
        ]
        return f'<form method="post">{"".join(parts)}</form>'


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def _html(title: str, parts: Sequence[str]) -> str:
    head = f"<head><title>{html.escape(title)}</title></head>"
    return f"<!doctype html><html>{head}<body>{''.join(parts)}</body></html>"
