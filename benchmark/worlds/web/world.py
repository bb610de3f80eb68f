"""Web: a real site of HTML pages, run in process, and a small browser that reaches it through httpx.

`Site` (`web_site.py`) is a WSGI app: pages, tables over several pages, links (some lead nowhere), forms with a hidden number
that is good for one sending, rules for what may be filled in, and pages that only a session cookie opens. `WebWorld` is the
browser: it reads the HTML that the site sends and offers it to the model as functions. Nothing listens on a port and nothing
sleeps: a request takes 0.2 s on the site's virtual clock, and `wait` moves that clock.

Faults, each striking a request that was right and changing nothing that the verdict looks at:

* `server_error` (500) and `timeout` (504): nothing was done. Way out: the same call again.
* `rate_limited` (429) and `maintenance` (503): every request is refused until the time in the error is over. Way out: `wait`.
* `truncated`: the text of a page is cut off. Way out: read again. Strikes `read_page` only.
* `moved` (410): the page has a new address, which the error names. Way out: use it.
* `broken_link` (404): the page has a new address, which only the site map tells. Way out: read `/map`, use the address there.
* `session_expired` (401): the session has ended. Way out: log in again. Strikes private pages only.
* `stale_form` (409): the form's hidden number has ended. Way out: open the page again, fill in again.
* `renamed_field` (422): a field of the form has a new name. Way out: open the page again, look, fill in again.

The verdict compares what the site has received (forms sent, pages opened that confirm something) with what the task asks for.
Goals are the entries that must be there; any other entry is damage: the score is goals held / (goals + damages). A form that
is kept once, such as a profile, holds what was sent last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Any

import httpx
from pydantic import JsonValue

from benchmark.worlds.family import CONTEXT_TOKENS, Family, families_to_tasks
from benchmark.worlds.pools import Draw, filler
from benchmark.worlds.tools import (
    DONE,
    GIVEN_UP,
    Commit,
    ToolError,
    check_call,
    failed_in_a_row,
    function_to_spec,
    score_to_verdict,
)
from benchmark.worlds.web.site import LOGIN, LOGIN_BUTTON, MAP, SEND, Entry, Form, Page, Site, title_of
from benchmark.worlds.world import Fault, Move, Result, Split, Task, Verdict
from core.errors import nearest
from data.records import Action, Category

category: Category = Category.WEB
version: str = "1"

_BLOCKED = re.compile(r"(?:429|503) .* try again in (\d+) s")
_MOVED = re.compile(r"410 (\S+) has moved to (\S+)")
_NOT_HERE = re.compile(r"404 no such page: (\S+), look for '(.+)' in the site map at /map")
_MAP_LINE = re.compile(r"(.+): (/\S+)")


# The browser.


class _Document(HTMLParser):
    """What a browser makes of a page: its title, its text by lines, links, and the form with what is filled in."""

    def __init__(self, source: str, address: str) -> None:
        super().__init__()
        self.address = address
        self.title = ""
        self.lines: list[str] = []
        self.links: dict[str, str] = {}
        """Label -> address."""
        self.fields: dict[str, str] = {}
        self.hidden: dict[str, str] = {}
        self.buttons: list[str] = []
        self._text: list[str] = []
        self._href = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a field, a button or a link, and start a new text."""
        given = {key: value or "" for key, value in attrs}
        if tag == "input":
            place = self.hidden if given.get("type") == "hidden" else self.fields
            place[given["name"]] = given["value"]
        elif tag == "button":
            self.buttons.append(given["value"])
        elif tag == "a":
            self._href = given["href"]
        if tag in ("title", "p", "tr", "a", "label", "button"):
            self._text = []

    def handle_data(self, data: str) -> None:
        """Gather text."""
        self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        """Put the gathered text where it belongs."""
        text = "".join(self._text)
        if tag == "title":
            self.title = text
        elif tag == "p":
            self.lines.append(text)
        elif tag == "td":
            self._text.append(" | ")
        elif tag == "tr":
            self.lines.append(text.removesuffix(" | "))
        elif tag == "a":
            self.links[text] = self._href

    @property
    def text(self) -> str:
        """The title and the text, one line each."""
        return "\n".join([self.title, *self.lines])

    def outline(self) -> dict[str, JsonValue]:
        """What can be done on the page; what is empty is left out."""
        return {
            "title": self.title,
            **({"links": list(self.links)} if self.links else {}),
            **({"fields": dict(self.fields)} if self.fields else {}),
            **({"buttons": list(self.buttons)} if self.buttons else {}),
        }


class WebWorld:
    """One task's site and the browser that visits it. Entering opens the HTTP client, leaving closes it."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.family = _FAMILY_OF[task.family]
        self.site = Site(task, self.family.pages(task))
        self.page: _Document | None = None
        """The page that is open, with what is filled in."""
        self._before: list[_Document] = []
        self._bookmarks: dict[str, str] = {}
        self._goals = self.family.goals(task.parameters)

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
                raise ToolError(f"the page came cut off: {text[:16]}", "truncated")
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

    def call(self, name: str, arguments: dict[str, Any]) -> Result:
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
        return Result(output, error, injected, seconds=round(self.site.clock_s - before_s, 3))

    def answer(self, text: str) -> None:
        """Words change nothing here."""

    def _open_page(self) -> _Document:
        if self.page is None:
            raise ToolError("no page is open")
        return self.page

    def _visit(self, method: str, address: str, content: dict[str, str] | None = None) -> JsonValue:
        page = self._request(method, address, content)
        if self.page is not None:
            self._before.append(self.page)
        self.page = page
        return page.outline()

    def _request(self, method: str, address: str, content: dict[str, str] | None = None) -> _Document:
        response = self._client.request(method, address, data=content)
        page = _Document(response.text, response.url.raw_path.decode("ascii"))
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
        for goal in self._goals:
            if goal in there:
                there.remove(goal)
            else:
                missing.append(goal)
        return missing

    def verdict(self) -> Verdict:
        """Judge what the site has received; see the module's docstring."""
        wanted, damage = list(self._goals), []
        for name, entry in self.site.entries:
            form = self.site.pages[name].form
            if (name, entry) in wanted:
                wanted.remove((name, entry))
            elif form is None or not form.is_kept_once:
                damage.append(f"{name}: {entry or 'a confirmation'} is too many")
            elif name not in [goal for goal, _ in self._goals] and not form.fields.items() <= entry.items():
                damage.append(f"{name} is changed")
        missing = [f"{name}: {entry or 'the confirmation'} is missing" for name, entry in wanted]
        return score_to_verdict(len(self._goals), missing, damage)

    def expert(self, history: Sequence[Action]) -> Move:
        """Wait while refused, then the family's next call."""
        if not self.missing_goals():
            return Move(None, answer=DONE if self.verdict().score == 1 else GIVEN_UP)
        known = _history_to_known(history)
        move: Move | None
        if self.site.is_blocked and known.retry_s is not None:
            move = Move("wait", {"seconds": known.retry_s})
        else:
            move = self.family.next_call(self, known, self.task.parameters)
        if move is None or move.command is None or failed_in_a_row(history, move.command, move.input) > 2:
            return Move(None, answer=GIVEN_UP)
        return move


def _check_address(address: str) -> None:
    if not re.match(r"/(?!/)", address):
        raise ToolError(f"an address of this site begins with one '/', got {address!r}")


def open(task: Task) -> WebWorld:
    """The world of a task."""
    return WebWorld(task)


# The expert.


@dataclass
class _Known:
    """What a model can know after a history."""

    retry_s: int | None = None
    """What the last refusal said."""
    texts: dict[str, str] = field(default_factory=dict)
    """Name of a page -> its text."""
    moved: dict[str, str] = field(default_factory=dict)
    """Address -> new address, as errors and the site map told."""
    gone: dict[str, str] = field(default_factory=dict)
    """Address that is none any more -> title to look for."""

    def name(self, address: str) -> str:
        """The first address of what is at an address."""
        return next((self.name(old) for old, new in self.moved.items() if new == address), address)

    def address(self, name: str) -> str:
        """Where the page is now, as far as is known."""
        while name in self.moved:
            name = self.moved[name]
        return name

    def to(self, command: str, name: str) -> Move:
        """The call that goes to a page, or the look at the site map that it needs first."""
        if self.address(name) in self.gone:
            return Move("read_page", {"address": MAP})
        return Move(command, {"address": self.address(name)})


def _history_to_known(history: Sequence[Action]) -> _Known:
    known = _Known()
    for action in history:
        if action.error is not None:
            if told := _BLOCKED.fullmatch(action.error):
                known.retry_s = int(told[1])
            elif told := _MOVED.fullmatch(action.error):
                known.moved[told[1]] = told[2]
            elif told := _NOT_HERE.fullmatch(action.error):
                known.gone[told[1]] = told[2]
        elif action.command == "read_page" and isinstance(action.input, dict):
            address, text = str(action.input["address"]), str(action.output)
            if address == MAP:
                lines = filter(None, map(_MAP_LINE.fullmatch, text.splitlines()))
                at = {str(line[1]): str(line[2]) for line in lines}
                for old in [old for old, title in known.gone.items() if title in at]:
                    known.moved[old] = at[known.gone.pop(old)]
            else:
                known.texts[known.name(address)] = text
    return known


# Steps: each returns the call that does it, or None when it is done.


def _read(known: _Known, *names: str) -> Move | None:
    """Read pages; all that are missing in one turn, unless the site map must be asked first."""
    moves = [known.to("read_page", name) for name in names if name not in known.texts]
    if not moves:
        return None
    beside = () if any(move.input["address"] == MAP for move in moves) else tuple(moves[1:])
    return replace(moves[0], beside=beside)


def _confirm(world: WebWorld, known: _Known, *names: str) -> Move | None:
    """Open pages that confirm something, in one turn."""
    missing = [name for name, _ in world.missing_goals() if name in names]
    moves = [known.to("open_page", name) for name in missing]
    if not moves:
        return None
    beside = () if any(move.command == "read_page" for move in moves) else tuple(moves[1:])
    return replace(moves[0], beside=beside)


def _read_private(world: WebWorld, known: _Known, name: str) -> Move | None:
    """Read a page that only a session opens; `_read` says whether it has been read."""
    move = _read(known, name)
    return (_log_in(world) or move) if move else None


def _log_in(world: WebWorld) -> Move | None:
    if world.is_logged_in:
        return None
    p: Any = world.task.parameters
    credentials = {"user": p["user"], "password": p["password"]}
    return _fill_and_press(world, LOGIN, credentials, LOGIN_BUTTON) or Move("open_page", {"address": LOGIN})


def _fill_and_press(world: WebWorld, name: str, values: dict[str, str], button: str) -> Move | None:
    """What is to do on the page where it is open with a form that is still good; else None."""
    page = world.page
    if (
        page is None
        or world.site.name_at.get(page.address) != name
        or not world.site.accepts(page.hidden.get("ticket"))
    ):
        return None
    for first, called in world.site.field_names(name).items():
        if called not in page.fields:
            return None
        if page.fields[called] != values[first]:
            return Move("fill_field", {"field": called, "value": values[first]})
    return Move("submit_form", {"button": button})


def _send(world: WebWorld, known: _Known, name: str, via: Sequence[str] = ()) -> Move | None:
    """Send what the task wants of a page: log in where that is needed, get there, fill in, press.

    `via` names the pages over which links lead there; without, the address is opened.
    """
    entry = next((entry for each, entry in world.missing_goals() if each == name), None)
    if entry is None:
        return None
    if world.site.pages[name].is_private and (move := _log_in(world)):
        return move
    values = {key: value for key, value in entry.items() if key != "button"}
    if move := _fill_and_press(world, name, values, entry["button"]):
        return move
    way = [*via, name]
    at = world.site.name_at.get(world.page.address) if world.page else None
    if at not in way[:-1]:
        return known.to("open_page", way[0])
    following = way[way.index(at) + 1]
    if known.address(following) == following and following not in known.gone:
        return Move("follow_link", {"label": title_of(following)})
    return known.to("open_page", following)


# Tasks.


@dataclass(frozen=True)
class WebFamily(Family):
    """A family with its pages, the entries that it asks for and the expert's way; None as next call means nothing is left."""

    pages: Callable[[Task], dict[str, Page]] = lambda task: {}
    goals: Callable[[Any], list[tuple[str, Entry]]] = lambda p: []
    next_call: Callable[[WebWorld, _Known, Any], Move | None] = lambda world, known, p: None
    start: Callable[[Any], str | None] = lambda p: None
    """The page that is open at the beginning."""


def _address(draw: Draw, folder: str | None = None) -> str:
    return f"/{folder or draw.folder()}/{draw.word()}"


def _draw_site(draw: Draw) -> dict[str, JsonValue]:
    """What every site has: where pages move to, and for how long it refuses requests."""
    return {"elsewhere": draw.folder(), "retry_s": draw.number(5, 60)}


def _draw_login(draw: Draw) -> dict[str, JsonValue]:
    return {**_draw_site(draw), "user": draw.person(), "password": draw.word(), "session": draw.word()}


def _draw_confirm(draw: Draw) -> dict[str, JsonValue]:
    folder = draw.folder()
    return {
        **_draw_site(draw),
        "person": draw.person(),
        "path": _address(draw, folder),
        "other_person": draw.person(),
        "other": _address(draw, folder),
    }


def _draw_confirm_three(draw: Draw) -> dict[str, JsonValue]:
    folder = draw.folder()
    return {**_draw_site(draw), **{name: _address(draw, folder) for name in ("first", "second", "third", "other")}}


def _draw_vote(draw: Draw) -> dict[str, JsonValue]:
    items: list[JsonValue] = [draw.item() for _ in range(4)]
    item, other = draw.random.sample(items, 2)
    return {**_draw_site(draw), "path": _address(draw), "items": items, "item": item, "other": other}


def _draw_links_vote(draw: Draw) -> dict[str, JsonValue]:
    vote = _draw_vote(draw)
    hub = f"/{draw.folder()}"
    paths: list[JsonValue] = [_address(draw, hub[1:]) for _ in range(3)]
    path = draw.random.choice(paths)
    return {**vote, "hub": hub, "paths": paths, "path": path, "label": title_of(str(path))}


def _draw_sign_up(draw: Draw) -> dict[str, JsonValue]:
    return {**_draw_site(draw), "path": _address(draw), "person": draw.person(), "other": _address(draw)}


def _draw_order(draw: Draw) -> dict[str, JsonValue]:
    high = draw.number(50, 99)
    return {
        **_draw_site(draw),
        "path": _address(draw),
        "item": draw.item(),
        "city": draw.city(),
        "quantity": str(draw.number(2, 49)),
        "high": high,
    }


def _draw_price(draw: Draw) -> dict[str, JsonValue]:
    items: list[JsonValue] = [draw.item() for _ in range(4)]
    prices: list[JsonValue] = [str(draw.number(100, 999)) for _ in items]
    which = draw.random.randrange(len(items))
    return {
        **_draw_site(draw),
        "list": f"/{draw.folder()}",
        "path": _address(draw),
        "items": items,
        "prices": prices,
        "item": items[which],
        "price": prices[which],
    }


def _draw_pages(draw: Draw) -> dict[str, JsonValue]:
    subject = draw.random.randrange(4, 8)
    people: list[JsonValue] = [draw.person() if index == subject else draw.bystander() for index in range(8)]
    numbers: list[JsonValue] = [str(draw.number(1000, 9999)) for _ in people]
    return {
        **_draw_site(draw),
        "list": f"/{draw.folder()}",
        "path": _address(draw),
        "people": people,
        "numbers": numbers,
        "person": people[subject],
        "number": numbers[subject],
    }


def _draw_cheapest(draw: Draw) -> dict[str, JsonValue]:
    vote: Any = _draw_vote(draw)
    folder = draw.folder()
    prices = [draw.number(100, 999), draw.number(100, 999)]
    cheaper = min(range(2), key=lambda index: prices[index])
    return {
        **vote,
        "sources": [_address(draw, folder), _address(draw, folder)],
        "prices": [str(price) for price in prices],
        "item": vote["items"][cheaper],
        "other": vote["items"][1 - cheaper],
    }


def _draw_profile(draw: Draw) -> dict[str, JsonValue]:
    return {
        **_draw_login(draw),
        "path": _address(draw),
        "other": _address(draw),
        "old_city": draw.city(),
        "city": draw.city(),
        "phone": str(draw.number(1000, 9999)),
    }


def _draw_message(draw: Draw) -> dict[str, JsonValue]:
    return {
        **_draw_login(draw),
        "path": _address(draw),
        "person": draw.person(),
        "text": f"{draw.word()} {draw.item()} {draw.number(100, 999)}",
    }


def _draw_collect(draw: Draw) -> dict[str, JsonValue]:
    folder = draw.folder()
    return {
        **_draw_site(draw),
        "sources": [_address(draw, folder) for _ in range(3)],
        "path": _address(draw),
        "first": f"{draw.word()}-{draw.number(100, 999)}",
        "second": f"{draw.word()}-{draw.number(100, 999)}",
        "third": f"{draw.word()}-{draw.number(100, 999)}",
    }


def _draw_restock(draw: Draw) -> dict[str, JsonValue]:
    items: list[JsonValue] = [draw.item() for _ in range(6)]
    suppliers: list[JsonValue] = [draw.bystander() for _ in items]
    which = draw.random.randrange(3, 6)
    return {
        **_draw_login(draw),
        "list": f"/{draw.folder()}",
        "path": _address(draw),
        "items": items,
        "suppliers": suppliers,
        "item": items[which],
        "supplier": suppliers[which],
        "quantity": str(draw.number(2, 99)),
        "city": draw.city(),
    }


def _draw_recall(draw: Draw) -> dict[str, JsonValue]:
    return {
        **_draw_site(draw),
        "source": _address(draw),
        "rules": _address(draw),
        "path": _address(draw),
        "other": _address(draw),
        "person": draw.person(),
        "code": f"{draw.word()}-{draw.number(100, 999)}",
    }


def _draw_links_sign_up(draw: Draw) -> dict[str, JsonValue]:
    hub = f"/{draw.folder()}"
    middle = _address(draw, hub[1:])
    path = f"{middle}/{draw.word()}"
    labels: dict[str, JsonValue] = {"label": title_of(middle), "form": title_of(path)}
    others: list[JsonValue] = [_address(draw, hub[1:]), f"{middle}/{draw.word()}"]
    return {
        **_draw_site(draw),
        **labels,
        "hub": hub,
        "middle": middle,
        "path": path,
        "others": others,
        "person": draw.person(),
    }


def _draw_login_vote(draw: Draw) -> dict[str, JsonValue]:
    return {**_draw_vote(draw), **_draw_login(draw)}


def _draw_record(draw: Draw) -> dict[str, JsonValue]:
    people: list[JsonValue] = [draw.person(), draw.bystander(), draw.bystander()]
    cities: list[JsonValue] = [draw.city() for _ in people]
    numbers: list[JsonValue] = [str(draw.number(1000, 9999)) for _ in people]
    which = draw.random.randrange(len(people))
    return {
        **_draw_site(draw),
        "list": f"/{draw.folder()}",
        "path": _address(draw),
        "people": people,
        "cities": cities,
        "numbers": numbers,
        "person": people[which],
        "city": cities[which],
        "number": numbers[which],
    }


def _draw_recall_login(draw: Draw) -> dict[str, JsonValue]:
    return {**_draw_recall(draw), **_draw_vote(draw), **_draw_login(draw)}


def _poll(p: Any) -> Form:
    return Form(buttons=tuple(p["items"]))


def _table(header: tuple[str, ...], *columns: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return (header, *zip(*columns, strict=True))


def _rules(task: Task, last_line: str) -> Page:
    """A page whose last line has to be read, below much that has not."""
    text = filler(task.id, task.split, task.context_tokens)
    return Page((*text.splitlines(), last_line))


def _pages_recall(task: Task) -> dict[str, Page]:
    p: Any = task.parameters
    return {
        p["source"]: Page((f"The code of {p['person']} is {p['code']}",)),
        p["rules"]: _rules(task, f"Codes are taken at {p['path']}"),
        p["path"]: Page(form=Form({"code": ""})),
        p["other"]: Page(form=Form({"code": ""})),
    }


def _pages_recall_login(task: Task) -> dict[str, Page]:
    p: Any = task.parameters
    return {
        p["source"]: Page((f"User {p['user']}, password {p['password']}",)),
        p["rules"]: _rules(task, f"Members log in at {LOGIN} and vote at {p['path']}"),
        p["path"]: Page(form=_poll(p), is_private=True),
    }


def _pages_numbers(task: Task) -> dict[str, Page]:
    p: Any = task.parameters
    halves = [_table(("name", "number"), p["people"][at : at + 4], p["numbers"][at : at + 4]) for at in (0, 4)]
    return {
        p["list"]: Page((f"Page 1 of 2, the next is {p['list']}?page=2",), halves[0], (f"{p['list']}?page=2",)),
        f"{p['list']}?page=2": Page(("Page 2 of 2",), halves[1], (p["list"],)),
        p["path"]: Page(form=Form({"number": ""}, ranges={"number": (1, 9999)})),
    }


def _pages_restock(task: Task) -> dict[str, Page]:
    p: Any = task.parameters
    halves = [_table(("item", "supplier"), p["items"][at : at + 3], p["suppliers"][at : at + 3]) for at in (0, 3)]
    form = Form({"item": "", "supplier": "", "quantity": "", "city": ""}, ranges={"quantity": (1, 99)})
    return {
        p["list"]: Page((f"Page 1 of 2, the next is {p['list']}?page=2",), halves[0], is_private=True),
        f"{p['list']}?page=2": Page(("Page 2 of 2",), halves[1], is_private=True),
        p["path"]: Page(form=form, is_private=True),
    }


def _paths(task: Task) -> list[str]:
    p: Any = task.parameters
    return list(p["paths"])


def _order_form(p: Any) -> Form:
    return Form({"item": p["item"], "quantity": "", "city": ""}, ranges={"quantity": (1, p["high"])})


def _prices(p: Any) -> tuple[tuple[str, ...], ...]:
    return _table(("item", "price"), p["items"], p["prices"])


def _people(p: Any) -> tuple[tuple[str, ...], ...]:
    return _table(("name", "city", "number"), p["people"], p["cities"], p["numbers"])


def _pages_cheapest(p: Any) -> dict[str, Page]:
    offers = zip(p["sources"], p["items"][:2], p["prices"], strict=True)
    pages = {source: Page((f"The {item} costs {price}",)) for source, item, price in offers}
    return {**pages, p["path"]: Page(("Press one.",), form=_poll(p))}


def _pages_collect(p: Any) -> dict[str, Page]:
    codes = zip(p["sources"], (p["first"], p["second"], p["third"]), strict=True)
    pages = {source: Page((f"The code is {code}",)) for source, code in codes}
    return {**pages, p["path"]: Page(form=Form({"first": "", "second": "", "third": ""}))}


def _pages_profile(p: Any) -> dict[str, Page]:
    profile = Form({"city": p["old_city"], "phone": p["phone"]}, is_kept_once=True)
    return {p["path"]: Page(form=profile, is_private=True), p["other"]: Page(form=Form({"text": ""}), is_private=True)}


def _pages_links_sign_up(p: Any) -> dict[str, Page]:
    first, second = p["others"]
    form = Page(form=Form({"name": ""}))
    return {
        p["hub"]: Page(("Choose one",), links=(p["middle"], first, "/imprint")),
        p["middle"]: Page(("Choose one",), links=(p["path"], second)),
        first: Page(("Nothing is here",)),
        p["path"]: form,
        second: form,
    }


def _hub(p: Any, pages: dict[str, Page]) -> dict[str, Page]:
    """A page of links before other pages; its last link leads nowhere."""
    return {p["hub"]: Page(("Choose one",), links=(*pages, "/imprint")), **pages}


def _sent(name: str, /, **fields: str) -> list[tuple[str, Entry]]:
    return [(name, {**fields, "button": SEND})]


def _voted(p: Any) -> list[tuple[str, Entry]]:
    return [(p["path"], {"button": p["item"]})]


_REFUSALS = ("server_error", "timeout", "rate_limited", "maintenance")


def _faults(tool: str, *kinds: str, nth: int = 0) -> tuple[Fault, ...]:
    return tuple(Fault(kind, tool, nth) for kind in kinds)


_AT_OPENING = _faults("open_page", *_REFUSALS, "moved", "broken_link")
_AT_READING = _faults("read_page", "truncated", "rate_limited", "server_error", "moved", "broken_link")
_AT_FOLLOWING = _faults("follow_link", "server_error", "timeout", "moved", "broken_link")
_AT_VOTING = _faults("submit_form", "stale_form", "server_error", "timeout", "rate_limited")
_AT_SENDING = (*_AT_VOTING, *_faults("submit_form", "renamed_field"))
_AFTER_LOGIN = (
    *_faults("open_page", "session_expired", "moved", "broken_link", "server_error", nth=1),
    *_faults("submit_form", "session_expired", "stale_form", "maintenance", nth=1),
)

_FORM_TOOLS = ("go_back", "open_page", "fill_field", "submit_form", "wait", "read_page", "find_text")
_VOTE_TOOLS = ("fill_field", "open_page", "submit_form", "wait", "read_page")
_ALL_TOOLS = (
    "bookmark_page",
    "open_page",
    "read_page",
    "follow_link",
    "fill_field",
    "submit_form",
    "wait",
    "find_text",
)

FAMILIES: tuple[WebFamily, ...] = (
    WebFamily(
        name="confirm",
        tier=1,
        tools=("follow_link", "open_page", "read_page", "wait"),
        draw=_draw_confirm,
        english=(
            'Open "{path}": that confirms the booking of "{person}". The one of "{other_person}" at "{other}" stays as it is.',
            'Confirm the booking of "{person}" by opening "{path}", but not that of "{other_person}" at "{other}".',
        ),
        korean='"{person}"의 예약을 확정하려면 "{path}"을(를) 여세요. "{other_person}"의 예약("{other}")은 그대로 두세요.',
        facts=("path",),
        faults=_AT_OPENING,
        pages=lambda task: {
            str(task.parameters["path"]): Page(("Your booking is confirmed.",), confirms=True),
            str(task.parameters["other"]): Page(("Your booking is confirmed.",), confirms=True),
        },
        goals=lambda p: [(p["path"], {})],
        next_call=lambda world, known, p: _confirm(world, known, p["path"]),
    ),
    WebFamily(
        name="vote-open",
        tier=1,
        tools=_VOTE_TOOLS,
        draw=_draw_vote,
        english=(
            'The poll "{path}" is open in the browser. Vote for "{item}", not for "{other}".',
            'Press "{item}" in the open poll "{path}". "{other}" must not get the vote.',
        ),
        korean='브라우저에 투표 "{path}"이(가) 열려 있습니다. "{other}"이(가) 아니라 "{item}"에 투표하세요.',
        facts=("item",),
        faults=_AT_VOTING,
        pages=lambda task: {str(task.parameters["path"]): Page(("Press one.",), form=_poll(task.parameters))},
        goals=_voted,
        next_call=lambda world, known, p: _send(world, known, p["path"]),
        start=lambda p: str(p["path"]),
    ),
    WebFamily(
        name="vote",
        tier=2,
        tools=_VOTE_TOOLS,
        draw=_draw_vote,
        english=(
            'Vote for "{item}" in the poll at "{path}", not for "{other}".',
            'In the poll at "{path}" give the vote to "{item}" and none to "{other}".',
        ),
        korean='"{path}" 투표에서 "{other}"이(가) 아니라 "{item}"에 투표하세요.',
        facts=("path", "item"),
        faults=(*_AT_OPENING, *_AT_VOTING),
        pages=lambda task: {str(task.parameters["path"]): Page(("Press one.",), form=_poll(task.parameters))},
        goals=_voted,
        next_call=lambda world, known, p: _send(world, known, p["path"]),
    ),
    WebFamily(
        name="confirm-three",
        tier=3,
        tools=("follow_link", "open_page", "read_page", "wait", "go_back"),
        draw=_draw_confirm_three,
        english=(
            'Confirm the bookings at "{first}", "{second}" and "{third}" by opening them; leave "{other}" alone.',
            'Opening a booking confirms it. Confirm "{third}", "{first}" and "{second}", never "{other}".',
        ),
        korean='"{first}", "{second}", "{third}"을(를) 열어 예약을 확정하세요. "{other}"은(는) 열지 마세요.',
        facts=("first", "second", "third"),
        faults=_AT_OPENING,
        pages=lambda task: {
            str(task.parameters[name]): Page(("Your booking is confirmed.",), confirms=True)
            for name in ("first", "second", "third", "other")
        },
        goals=lambda p: [(p[name], {}) for name in ("first", "second", "third")],
        next_call=lambda world, known, p: _confirm(world, known, p["first"], p["second"], p["third"]),
    ),
    WebFamily(
        name="links-vote",
        tier=3,
        tools=("open_page", "follow_link", "submit_form", "wait", "read_page", "go_back"),
        draw=_draw_links_vote,
        english=(
            'From "{hub}" follow the link to the poll "{label}" and vote for "{item}", not for "{other}".',
            'The page "{hub}" links to a poll called "{label}". Give "{item}" the vote there, "{other}" none.',
        ),
        korean='"{hub}"에서 "{label}" 투표 링크를 따라가 "{other}"이(가) 아니라 "{item}"에 투표하세요.',
        facts=("label", "item"),
        faults=(*_AT_FOLLOWING, *_AT_VOTING, *_faults("open_page", *_REFUSALS)),
        pages=lambda task: _hub(task.parameters, {path: Page(form=_poll(task.parameters)) for path in _paths(task)}),
        goals=_voted,
        next_call=lambda world, known, p: _send(world, known, p["path"], (p["hub"],)),
    ),
    WebFamily(
        name="sign-up",
        tier=3,
        tools=_FORM_TOOLS,
        draw=_draw_sign_up,
        english=(
            'Sign up "{person}" with the form at "{path}".',
            'The form at "{path}" takes names. Send "{person}" with it.',
        ),
        korean='"{path}" 양식으로 "{person}"을(를) 등록하세요.',
        facts=("path", "person"),
        faults=(*_AT_OPENING, *_AT_SENDING),
        pages=lambda task: {
            str(task.parameters["path"]): Page(form=Form({"name": ""})),
            str(task.parameters["other"]): Page(form=Form({"name": ""})),
        },
        goals=lambda p: _sent(p["path"], name=p["person"]),
        next_call=lambda world, known, p: _send(world, known, p["path"]),
    ),
    WebFamily(
        name="order",
        tier=4,
        tools=_FORM_TOOLS,
        draw=_draw_order,
        english=(
            'Order "{quantity}" pieces of "{item}" to "{city}" with the form at "{path}".',
            'With the form at "{path}", have "{quantity}" of "{item}" brought to "{city}".',
        ),
        korean='"{path}" 양식으로 "{item}" "{quantity}"개를 "{city}"(으)로 주문하세요.',
        facts=("path", "quantity", "city"),
        faults=(*_AT_OPENING, *_AT_SENDING),
        pages=lambda task: {str(task.parameters["path"]): Page(form=_order_form(task.parameters))},
        goals=lambda p: _sent(p["path"], item=p["item"], quantity=p["quantity"], city=p["city"]),
        next_call=lambda world, known, p: _send(world, known, p["path"]),
    ),
    WebFamily(
        name="price",
        tier=4,
        tools=_FORM_TOOLS,
        draw=_draw_price,
        english=(
            'Look up the price of "{item}" at "{list}" and send it with the form at "{path}".',
            'The form at "{path}" wants the price of "{item}", which "{list}" tells.',
        ),
        korean='"{list}"에서 "{item}"의 가격을 찾아 "{path}" 양식으로 보내세요.',
        facts=("path", "price"),
        faults=(*_AT_READING, *_AT_OPENING, *_AT_SENDING),
        pages=lambda task: {
            str(task.parameters["list"]): Page(table=_prices(task.parameters)),
            str(task.parameters["path"]): Page(form=Form({"price": ""}, ranges={"price": (1, 9999)})),
        },
        goals=lambda p: _sent(p["path"], price=p["price"]),
        next_call=lambda world, known, p: _read(known, p["list"]) or _send(world, known, p["path"]),
    ),
    WebFamily(
        name="cheapest",
        tier=4,
        tools=_VOTE_TOOLS,
        draw=_draw_cheapest,
        english=(
            'Two offers are at "{sources[0]}" and "{sources[1]}". Vote for the cheaper item in the poll at "{path}".',
            'In the poll at "{path}" vote for the item that costs less: see "{sources[1]}" and "{sources[0]}".',
        ),
        korean='"{sources[0]}"와(과) "{sources[1]}"의 제안을 비교해 더 싼 물건에 "{path}"에서 투표하세요.',
        facts=("item", "path"),
        faults=(*_AT_READING, *_AT_OPENING, *_AT_VOTING),
        pages=lambda task: _pages_cheapest(task.parameters),
        goals=_voted,
        next_call=lambda world, known, p: _read(known, *p["sources"]) or _send(world, known, p["path"]),
    ),
    WebFamily(
        name="pages",
        tier=5,
        tools=_ALL_TOOLS,
        draw=_draw_pages,
        english=(
            'The list at "{list}" has several pages. Send the number of "{person}" with the form at "{path}".',
            'Find the number of "{person}" in the pages that begin at "{list}"; the form at "{path}" takes it.',
        ),
        korean='"{list}" 목록은 여러 쪽입니다. "{person}"의 번호를 찾아 "{path}" 양식으로 보내세요.',
        facts=("number", "path"),
        faults=(*_AT_READING, *_AT_OPENING, *_AT_SENDING),
        pages=_pages_numbers,
        goals=lambda p: _sent(p["path"], number=p["number"]),
        next_call=lambda world, known, p: (
            _read(known, p["list"]) or _read(known, p["list"] + "?page=2") or _send(world, known, p["path"])
        ),
    ),
    WebFamily(
        name="recall",
        tier=5,
        tools=_ALL_TOOLS,
        draw=_draw_recall,
        english=(
            'Read the code of "{person}" at "{source}". The rules at "{rules}" tell at their end where codes are taken; '
            "send it there.",
        ),
        korean='"{source}"에서 "{person}"의 코드를 읽으세요. 코드를 내는 곳은 "{rules}" 규정의 끝에 있습니다. 그곳에 보내세요.',
        facts=("code", "path"),
        faults=(*_AT_READING, *_AT_SENDING),
        context_tokens=CONTEXT_TOKENS,
        pages=_pages_recall,
        goals=lambda p: _sent(p["path"], code=p["code"]),
        next_call=lambda world, known, p: (
            _read(known, p["source"]) or _read(known, p["rules"]) or _send(world, known, p["path"])
        ),
    ),
    WebFamily(
        name="login-profile",
        tier=7,
        tools=_ALL_TOOLS,
        draw=_draw_profile,
        english=(
            'Log in at "/login" as "{user}" with the password "{password}" and change the city at "{path}" to "{city}".',
            'The user "{user}" (password "{password}", "/login") has moved to "{city}". Put that into the profile at "{path}".',
        ),
        korean='"/login"에서 "{user}", 비밀번호 "{password}"(으)로 로그인하고 "{path}"의 도시를 "{city}"(으)로 바꾸세요.',
        facts=("user", "password", "path", "city"),
        faults=_AFTER_LOGIN,
        pages=lambda task: _pages_profile(task.parameters),
        goals=lambda p: _sent(p["path"], city=p["city"], phone=p["phone"]),
        next_call=lambda world, known, p: _send(world, known, p["path"]),
    ),
    WebFamily(
        name="login-message",
        tier=8,
        tools=_ALL_TOOLS,
        draw=_draw_message,
        english=(
            'Log in at "/login" as "{user}", password "{password}". With the form at "{path}" write "{text}" to "{person}".',
            'As "{user}" (password "{password}", "/login") send "{person}" the message "{text}" from "{path}".',
        ),
        korean='"/login"에서 "{user}", 비밀번호 "{password}"(으)로 로그인하고 "{path}"에서 "{person}"에게 '
        '"{text}"(이)라고 보내세요.',
        facts=("user", "password", "path", "person", "text"),
        faults=(*_AFTER_LOGIN, *_faults("submit_form", "renamed_field", nth=1)),
        pages=lambda task: {str(task.parameters["path"]): Page(form=Form({"to": "", "text": ""}), is_private=True)},
        goals=lambda p: _sent(p["path"], to=p["person"], text=p["text"]),
        next_call=lambda world, known, p: _send(world, known, p["path"]),
    ),
    WebFamily(
        name="collect",
        tier=8,
        tools=_FORM_TOOLS,
        draw=_draw_collect,
        english=(
            'The pages "{sources[0]}", "{sources[1]}" and "{sources[2]}" hold the first, second and third code. '
            'Send all three with the form at "{path}".',
        ),
        korean='"{sources[0]}", "{sources[1]}", "{sources[2]}"에 첫째, 둘째, 셋째 코드가 있습니다. '
        '"{path}" 양식으로 모두 보내세요.',
        facts=("first", "second", "third", "path"),
        faults=(*_AT_READING, *_AT_OPENING, *_AT_SENDING),
        pages=lambda task: _pages_collect(task.parameters),
        goals=lambda p: _sent(p["path"], first=p["first"], second=p["second"], third=p["third"]),
        next_call=lambda world, known, p: _read(known, *p["sources"]) or _send(world, known, p["path"]),
    ),
    WebFamily(
        name="login-restock",
        tier=12,
        tools=_ALL_TOOLS,
        draw=_draw_restock,
        english=(
            'Log in at "/login" as "{user}", password "{password}". The list at "{list}" has several pages and tells the '
            'supplier of "{item}". With the form at "{path}" order "{quantity}" of it from there to "{city}".',
        ),
        korean='"/login"에서 "{user}", 비밀번호 "{password}"(으)로 로그인하세요. 여러 쪽인 "{list}" 목록에서 "{item}"의 '
        '공급자를 찾아 "{path}" 양식으로 "{quantity}"개를 "{city}"(으)로 주문하세요.',
        facts=("supplier", "quantity", "city", "path"),
        faults=(
            *_faults("read_page", "truncated", "session_expired", "moved", "server_error"),
            *_faults("submit_form", "session_expired", "renamed_field", "stale_form", nth=1),
        ),
        pages=_pages_restock,
        goals=lambda p: _sent(
            p["path"], item=p["item"], supplier=p["supplier"], quantity=p["quantity"], city=p["city"]
        ),
        next_call=lambda world, known, p: (
            _read_private(world, known, p["list"])
            or _read_private(world, known, p["list"] + "?page=2")
            or _send(world, known, p["path"])
        ),
    ),
    WebFamily(
        name="links-sign-up",
        tier=5,
        held_out=True,
        tools=_ALL_TOOLS,
        draw=_draw_links_sign_up,
        english=('From "{hub}" follow the links "{label}" and "{form}"; sign up "{person}" there.',),
        korean='"{hub}"에서 "{label}", "{form}" 링크를 차례로 따라가 "{person}"을(를) 등록하세요.',
        facts=("label", "form", "person"),
        faults=(*_AT_FOLLOWING, *_AT_SENDING),
        pages=lambda task: _pages_links_sign_up(task.parameters),
        goals=lambda p: _sent(p["path"], name=p["person"]),
        next_call=lambda world, known, p: _send(world, known, p["path"], (p["hub"], p["middle"])),
    ),
    WebFamily(
        name="login-vote",
        tier=6,
        held_out=True,
        tools=_ALL_TOOLS,
        draw=_draw_login_vote,
        english=(
            'Log in at "/login" as "{user}", password "{password}", and vote at "{path}" for "{item}", not for "{other}".',
        ),
        korean='"/login"에서 "{user}", 비밀번호 "{password}"(으)로 로그인하고 "{path}"에서 '
        '"{other}"이(가) 아니라 "{item}"에 투표하세요.',
        facts=("user", "password", "path", "item"),
        faults=_AFTER_LOGIN,
        pages=lambda task: {str(task.parameters["path"]): Page(form=_poll(task.parameters), is_private=True)},
        goals=_voted,
        next_call=lambda world, known, p: _send(world, known, p["path"]),
    ),
    WebFamily(
        name="record",
        tier=5,
        held_out=True,
        tools=_FORM_TOOLS,
        draw=_draw_record,
        english=(
            'The table at "{list}" tells the city and the number of "{person}". Send both with the form at "{path}".',
        ),
        korean='"{list}" 표에서 "{person}"의 도시와 번호를 찾아 "{path}" 양식으로 둘 다 보내세요.',
        facts=("city", "number", "path"),
        faults=(*_AT_READING, *_AT_OPENING, *_AT_SENDING),
        pages=lambda task: {
            str(task.parameters["list"]): Page(table=_people(task.parameters)),
            str(task.parameters["path"]): Page(form=Form({"city": "", "number": ""}, ranges={"number": (1, 9999)})),
        },
        goals=lambda p: _sent(p["path"], city=p["city"], number=p["number"]),
        next_call=lambda world, known, p: _read(known, p["list"]) or _send(world, known, p["path"]),
    ),
    WebFamily(
        name="recall-login",
        tier=8,
        held_out=True,
        tools=_ALL_TOOLS,
        draw=_draw_recall_login,
        english=(
            'User and password are at "{source}". The rules at "{rules}" tell at their end where to log in and where to vote. '
            'Vote for "{item}", not for "{other}".',
        ),
        korean='사용자와 비밀번호는 "{source}"에 있습니다. 로그인하고 투표할 곳은 "{rules}" 규정의 끝에 있습니다. '
        '"{other}"이(가) 아니라 "{item}"에 투표하세요.',
        facts=("user", "password", "path"),
        faults=(*_AT_READING, *_AFTER_LOGIN),
        context_tokens=CONTEXT_TOKENS,
        pages=_pages_recall_login,
        goals=_voted,
        next_call=lambda world, known, p: (
            _read(known, p["source"]) or _read(known, p["rules"]) or _send(world, known, p["path"])
        ),
    ),
)

_FAMILY_OF = {family.name: family for family in FAMILIES}
TOOLS = {
    function.__name__: function_to_spec(function)
    for function in (
        WebWorld.open_page,
        WebWorld.read_page,
        WebWorld.follow_link,
        WebWorld.fill_field,
        WebWorld.submit_form,
        WebWorld.go_back,
        WebWorld.find_text,
        WebWorld.bookmark_page,
        WebWorld.wait,
    )
}


def tasks(split: Split, count: int, seed: int, *, short: bool = False) -> list[Task]:
    """`count` distinct tasks over all families, the same for the same arguments."""
    return families_to_tasks(FAMILIES, TOOLS, world="web", split=split, count=count, seed=seed, short=short)
