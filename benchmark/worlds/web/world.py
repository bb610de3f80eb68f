"""Web: a real site of HTML pages, run in process, and a small browser that reaches it through httpx.

`Site` (`site.py`) is a WSGI app: pages, tables over several pages, links (some lead nowhere), forms with a hidden number
that is good for one sending, rules for what may be filled in, and pages that only a session cookie opens. `WebWorld` is the
browser: it reads the HTML that the site sends and offers it to the model as functions. Nothing listens on a port and nothing
sleeps: a request takes 0.2 s on the site's virtual clock, and `wait` moves that clock.

Its faults stand in `troubles.py`.

The verdict compares what the site has received (forms sent, pages opened that confirm something) with what the task asks for.
Goals are the entries that must be there; any other entry is damage: the score is goals held / (goals + damages). A form that
is kept once, such as a profile, holds what was sent last.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import httpx
from pydantic import JsonValue

from benchmark.worlds.expert import Plan
from benchmark.worlds.family import WorldKind
from benchmark.worlds.tools import (
    Commit,
    ToolError,
    check_call,
    score_to_verdict,
)
from benchmark.worlds.troubles import Trouble, Values
from benchmark.worlds.web.browser import Document
from benchmark.worlds.web.expert import WebExpert
from benchmark.worlds.web.families import FAMILIES
from benchmark.worlds.web.pages import Entry
from benchmark.worlds.web.site import Site
from benchmark.worlds.web.troubles import TROUBLES
from benchmark.worlds.world import Move, Task, ToolResult, Verdict
from core.errors import nearest
from data.records import Action, Category


class WebWorld:
    """One task's site and the browser that visits it. Entering opens the HTTP client, leaving closes it."""

    troubles: ClassVar = TROUBLES

    def __init__(self, task: Task) -> None:
        self.task = task
        self.family = WEB.family_of(task)
        self.plan = Plan(self.family.goals(task.parameters), self.family.stages(task.parameters))
        self.site = Site(task, self.family.pages(task))
        self.page: Document | None = None
        """The page that is open, with what is filled in."""
        self._before: list[Document] = []
        self._bookmarks: dict[str, str] = {}

    def __enter__(self) -> WebWorld:
        # trust_env would read proxies from the environment and build a real transport for each.
        self._client = httpx.Client(
            transport=httpx.WSGITransport(self.site),
            base_url="http://site.local",
            follow_redirects=True,
            trust_env=False,
        )
        start = self.family.start(self.task.parameters)
        if start is not None:
            self.page = self._request("GET", start)
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.close()

    # What the model can call. A docstring's first line is the description that the model reads.

    def open_page(self, address: str) -> Commit:
        """Open a page of the site in the browser and list its links, fields and buttons."""
        _check_address(address)
        return lambda: self._visit("GET", address)

    def read_page(self, address: str) -> Commit:
        """Read the text of a page of the site. The browser stays where it is."""
        _check_address(address)

        def commit() -> JsonValue:
            text = self._request("GET", address).text
            if self.site.struck == "truncated":
                raise ToolError(TROUBLES["truncated"].text({"start": text[:16]}), self.site.struck)
            return text

        return commit

    def follow_link(self, label: str) -> Commit:
        """Follow a link of the open page."""
        page = self._open_page()
        if label not in page.links:
            raise ToolError(f"no link {label!r} on this page.{nearest(label, page.links)}")
        return lambda: self._visit("GET", page.links[label])

    def fill_field(self, field: str, value: str) -> Commit:
        """Fill in a field of the open page."""
        page = self._open_page()
        if field not in page.fields:
            raise ToolError(f"no field {field!r} on this page.{nearest(field, page.fields)}")

        def commit() -> JsonValue:
            page.fields[field] = value
            return "ok"

        return commit

    def submit_form(self, button: str) -> Commit:
        """Send the form of the open page by pressing one of its buttons."""
        page = self._open_page()
        if button not in page.buttons:
            raise ToolError(f"no button {button!r} on this page.{nearest(button, page.buttons)}")
        return lambda: self._visit("POST", page.address, {**page.fields, **page.hidden, "button": button})

    def go_back(self, pages: int) -> Commit:
        """Go back by so many pages."""
        if not 1 <= pages <= len(self._before):
            raise ToolError(f"there are {len(self._before)} pages to go back")

        def commit() -> JsonValue:
            for _ in range(pages):
                self.page = self._before.pop()
            return self._open_page().outline()

        return commit

    def find_text(self, text: str) -> Commit:
        """Find the lines of the open page that hold a text."""
        page = self._open_page()
        if not text:
            raise ToolError("argument 'text' is empty")
        return lambda: "\n".join(line for line in page.lines if text in line) or "no line holds it"

    def bookmark_page(self, name: str) -> Commit:
        """Remember the open page under a name."""
        page = self._open_page()
        if not name or name in self._bookmarks:
            raise ToolError(f"there is a bookmark {name!r} already" if name else "argument 'name' is empty")

        def commit() -> JsonValue:
            self._bookmarks[name] = page.address
            return "ok"

        return commit

    def wait(self, seconds: int) -> Commit:
        """Wait."""
        if not 0 <= seconds <= 600:
            raise ToolError("argument 'seconds' must be 0 to 600")

        def commit() -> JsonValue:
            self.site.clock_s += seconds
            return "ok"

        return commit

    # The world's side of a call.

    def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """Run one tool call; see `World`."""
        before_s = self.site.clock_s
        self.site.struck, self.site.tool = None, name
        output, error, injected = None, None, None
        try:
            output = check_call(self, self.task.tools, name, arguments)()
        except ToolError as fault:
            error, injected = str(fault), fault.injected
        except (ValueError, httpx.InvalidURL):  # text that no address can hold
            error = "not possible: an argument holds characters that are not allowed"
        return ToolResult(output, error, injected, seconds=round(self.site.clock_s - before_s, 3))

    def answer(self, text: str) -> None:
        """Words change nothing here."""

    def _open_page(self) -> Document:
        if self.page is None:
            raise ToolError("no page is open")
        return self.page

    def _visit(self, method: str, address: str, content: dict[str, str] | None = None) -> JsonValue:
        page = self._request(method, address, content)
        if self.page is not None:
            self._before.append(self.page)
        self.page = page
        return page.outline()

    def _request(self, method: str, address: str, content: dict[str, str] | None = None) -> Document:
        response = self._client.request(method, address, data=content)
        page = Document(response.text, response.url.raw_path.decode("ascii"))
        if response.is_error:
            raise ToolError(f"{response.status_code} {page.lines[0]}", self.site.struck)
        return page

    @property
    def is_logged_in(self) -> bool:
        """Whether the browser's session cookie is still good."""
        return self.site.knows(self._client.cookies.get("session"))

    def missing_goals(self) -> list[tuple[str, Entry]]:
        """The entries that are asked for and not there."""
        there = list(self.site.entries)
        missing = []
        for goal in self.plan.goals:
            if goal in there:
                there.remove(goal)
            else:
                missing.append(goal)
        return missing

    def verdict(self) -> Verdict:
        """Judge what the site has received; see the module's docstring."""
        wanted, damage = list(self.plan.goals), []
        for name, entry in self.site.entries:
            form = self.site.pages[name].form
            if (name, entry) in wanted:
                wanted.remove((name, entry))
            elif form is None or not form.is_kept_once:
                damage.append(f"{name}: {entry or 'a confirmation'} is too many")
            elif name not in [goal for goal, _ in self.plan.goals] and not form.fields.items() <= entry.items():
                damage.append(f"{name} is changed")
        missing = [f"{name}: {entry or 'the confirmation'} is missing" for name, entry in wanted]
        return score_to_verdict(len(self.plan.goals), missing, damage)

    def stands(self, trouble: Trouble[Any, Any], values: Values) -> bool:
        """Whether a trouble that an error told of has not been repaired yet."""
        if trouble.stands is not None:
            return trouble.stands(self.site, values)
        # What the site does not keep, such as a broken link, is over when the expert knows the way.
        standing = [each for each in self.site.standing if each.trouble is trouble]
        return trouble.refuses is None or any(self.site.clock_s < each.until_s for each in standing)

    def expert(self, history: Sequence[Action]) -> Move:
        """Look things up, then send or confirm what the task wants."""
        return WebExpert(self, history).move()


def _check_address(address: str) -> None:
    if not re.match(r"/(?!/)", address):
        raise ToolError(f"an address of this site begins with one '/', got {address!r}")


WEB = WorldKind("web", Category.WEB, "1", FAMILIES, WebWorld)
