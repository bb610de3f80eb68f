"""What can go wrong in the web world; see `benchmark/worlds/troubles.py`. An error begins with its HTTP status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from benchmark.worlds.troubles import Anew, By, Trouble, Troubles, Use, Values
from benchmark.worlds.web.pages import ACCOUNT, LOGIN, MAP, Page


@dataclass(frozen=True)
class Visit:
    """A request that was right: what a fault may strike."""

    tool: str
    address: str
    name: str
    """The first address of the page."""
    page: Page
    ticket: str | None
    """That of the form, where one is sent."""

    @property
    def may_move(self) -> bool:
        """Whether the page may get another address."""
        return self.name not in (LOGIN, ACCOUNT, MAP)


class Struck(Protocol):
    """What troubles ask of the site."""

    @property
    def is_blocked(self) -> bool: ...

    def field_names(self, name: str) -> dict[str, str]: ...

    def let_time_pass(self) -> Values: ...

    def refuse_all(self, kind: str) -> Values: ...

    def move_page(self, visit: Visit, *, is_told: bool = True) -> None: ...

    def end_sessions(self) -> Values: ...

    def end_form(self, visit: Visit) -> Values: ...

    def rename_field(self, visit: Visit) -> Values: ...


_WAIT = By("wait", {"seconds": "{seconds}"})
_FILL_IN = Anew("page", "open the page again, fill in again")

TROUBLES: Troubles[Struck, Visit] = Troubles(
    (
        Trouble(
            "stale_form",
            "409 the form is out of date, open the page again",
            _FILL_IN,
            ("voting",),
            may_hit=lambda site, visit: visit.ticket is not None,
            happens=lambda site, visit: site.end_form(visit),
        ),
        Trouble("server_error", "500 server error", occasions=("refusing", "opening", "following", "voting")),
        Trouble(
            "timeout",
            "504 no answer within 30 s",
            occasions=("refusing", "opening", "following", "voting"),
            happens=lambda site, visit: site.let_time_pass(),
        ),
        Trouble(
            "rate_limited",
            "429 too many requests, try again in {seconds} s",
            _WAIT,
            ("refusing", "opening", "voting"),
            happens=lambda site, visit: site.refuse_all("rate_limited"),
            stands=lambda site, values: site.is_blocked,
        ),
        Trouble(
            "maintenance",
            "503 closed for maintenance, try again in {seconds} s",
            _WAIT,
            ("refusing", "opening"),
            happens=lambda site, visit: site.refuse_all("maintenance"),
            stands=lambda site, values: site.is_blocked,
        ),
        Trouble(
            "truncated",
            "the page came cut off: {start}",
            may_hit=lambda site, visit: visit.tool == "read_page",
            happens=lambda site, visit: None,
        ),
        Trouble(
            "moved",
            "410 {address} has moved to {now}",
            Use("address", "now"),
            ("opening", "following"),
            may_hit=lambda site, visit: visit.may_move,
            happens=lambda site, visit: site.move_page(visit),
        ),
        Trouble(
            "broken_link",
            "404 no such page: {address}, look for {title!r} in the site map at /map",
            By("read_page", {"address": MAP}, "use the address there", tells="address"),
            ("opening", "following"),
            may_hit=lambda site, visit: visit.may_move,
            happens=lambda site, visit: site.move_page(visit, is_told=False),
        ),
        Trouble(
            "session_expired",
            "401 the session has ended, log in again at /login",
            Anew("page", "log in again"),
            may_hit=lambda site, visit: visit.page.is_private,
            happens=lambda site, visit: site.end_sessions(),
        ),
        Trouble(
            "renamed_field",
            "422 the form has changed, open the page again",
            _FILL_IN,
            ("sending",),
            may_hit=lambda site, visit: (
                visit.ticket is not None and visit.name != LOGIN and bool(site.field_names(visit.name))
            ),
            happens=lambda site, visit: site.rename_field(visit),
        ),
    )
)
