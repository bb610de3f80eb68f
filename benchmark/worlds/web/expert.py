"""The expert of the web world: the steps of its plans, and what only it knows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from benchmark.worlds.expert import Act, Expert, Look, Pursued
from benchmark.worlds.tools import GIVEN_UP
from benchmark.worlds.web.browser import Document
from benchmark.worlds.web.pages import LOGIN, LOGIN_BUTTON, MAP, Entry, title_of
from benchmark.worlds.web.site import Site
from benchmark.worlds.world import Move

_MAP_LINE = re.compile(r"(.+): (/\S+)")


def read(name: str) -> Look:
    """Read a page, by its first address."""
    return Look("read_page", {"address": name})


def confirm(name: str) -> Act:
    """Open a page that confirms something."""
    return Act("open_page", {"address": name}, (name, {}))


@dataclass(frozen=True)
class ReadPrivate:
    """Read a page that only a session opens."""

    name: str

    def next(self, expert: WebExpert) -> Sequence[Move]:
        """Log in where that is needed, then read."""
        return [expert.log_in() or move for move in read(self.name).next(expert)]


@dataclass(frozen=True)
class Send:
    """Send what the task wants of a page: log in where that is needed, get there, fill in, press."""

    name: str
    via: tuple[str, ...] = ()
    """The pages over which links lead there; without, the address is opened."""

    def next(self, expert: WebExpert) -> Sequence[Move]:
        """The next of these calls."""
        entry = next((entry for name, entry in expert.missing if name == self.name), None)
        if entry is None:
            return []
        site, page = expert.world.site, expert.world.page
        if site.pages[self.name].is_private and (move := expert.log_in()):
            return [move]
        values = {key: value for key, value in entry.items() if key != "button"}
        if move := expert.fill_and_press(self.name, values, entry["button"]):
            return [move]
        way = [*self.via, self.name]
        at = site.name_at.get(page.address) if page else None
        following = way[way.index(at) + 1] if at in way[:-1] else way[0]
        if at in way[:-1] and expert.now(following) == following:
            return [Move("follow_link", {"label": title_of(following)})]
        return [expert.call("open_page", {"address": following})]


class Browsing(Pursued, Protocol):
    """What the expert asks of the web world."""

    site: Site
    page: Document | None

    @property
    def is_logged_in(self) -> bool: ...

    def missing_goals(self) -> list[tuple[str, Entry]]: ...


class WebExpert(Expert[Browsing]):
    """What only the expert of the web world knows: the site map, logging in, filling in."""

    names: ClassVar = ("address",)

    def start(self) -> None:
        """What is still to be sent."""
        self.missing = self.world.missing_goals()

    def learn(self, command: str, given: Mapping[str, Any], output: Any) -> None:
        """Take new addresses from the site map."""
        if command == "read_page" and given["address"] == MAP:
            lines = filter(None, map(_MAP_LINE.fullmatch, str(output).splitlines()))
            at = {line[1]: line[2] for line in lines}
            for gone in self.met("broken_link"):
                if gone["title"] in at and self.now(self.first(gone["address"])) == gone["address"]:
                    self.rename(gone["address"], at[gone["title"]])

    def holds(self, act: Act) -> bool:
        """Whether an entry is there."""
        return act.goal not in self.missing

    def answer(self) -> str | None:
        """What was sent too much cannot be taken back."""
        return None if self.missing else super().answer() or GIVEN_UP

    def log_in(self) -> Move | None:
        """What logging in needs next; None where the session is good."""
        if self.world.is_logged_in:
            return None
        p: Any = self.world.task.parameters
        credentials = {"user": p["user"], "password": p["password"]}
        return self.fill_and_press(LOGIN, credentials, LOGIN_BUTTON) or Move("open_page", {"address": LOGIN})

    def fill_and_press(self, name: str, values: dict[str, str], button: str) -> Move | None:
        """What is to do on the page where it is open with a form that is still good; else None."""
        site, page = self.world.site, self.world.page
        if page is None or site.name_at.get(page.address) != name or not site.accepts(page.hidden.get("ticket")):
            return None
        for first, called in site.field_names(name).items():
            if called not in page.fields:
                return None
            if page.fields[called] != values[first]:
                return Move("fill_field", {"field": called, "value": values[first]})
        return Move("submit_form", {"button": button})
