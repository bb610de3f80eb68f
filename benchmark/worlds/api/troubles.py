"""What can go wrong in the API world; see `benchmark/worlds/troubles.py`. An error begins with its HTTP status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from benchmark.worlds.api.requests import AUTH, TABLES, Answer, Request
from benchmark.worlds.troubles import Again, Anew, By, Trouble, Troubles, Use, Values


class Struck(Protocol):
    """What troubles ask of the shop's services."""

    crossings: int

    @property
    def has_used_cursor(self) -> bool: ...

    def wait_s(self, service: str) -> int: ...

    def close(self, service: str) -> None: ...

    def lose_answer(self) -> Values: ...

    def end_token(self, request: Request) -> Values: ...

    def end_refresh(self) -> None: ...

    def end_cursors(self) -> None: ...

    def rename_field(self, request: Request) -> None: ...

    def move_row(self, request: Request) -> None: ...

    def write_meanwhile(self, request: Request) -> None: ...

    def answer_partly(self, request: Request) -> Answer: ...


@dataclass(frozen=True)
class Served:
    """A request that was right: what a fault may strike."""

    operation: str
    """The tool that leads to it."""
    request: Request
    answer: Answer

    @property
    def has_row(self) -> bool:
        """Whether it names a row that may move."""
        return len(self.request.path) > 1 and self.request.service in TABLES


_WAIT = By("wait", {"seconds": "{seconds}"})
_NO_ANSWER = "504 no answer within 30 s, it may have been done or not"
_SAME_KEY = Again(unsure=True, how="the same call again, with the same idempotency key")

TROUBLES: Troubles[Struck, Served] = Troubles(
    (
        Trouble(
            "malformed",
            "malformed answer, cut off: {start}",
            occasions=("reading",),
            may_hit=lambda shop, served: served.answer.body is not None and served.operation != "refresh_token",
            happens=lambda shop, served: served.answer._replace(is_cut_off=True),
        ),
        Trouble("server_error", "500 server error, nothing was done", occasions=("reading", "refusing", "keyed")),
        Trouble(
            "timeout",
            _NO_ANSWER,
            _SAME_KEY,
            ("reading", "refusing", "keyed"),
            happens=lambda shop, served: shop.lose_answer(),
        ),
        Trouble(
            "rate_limited",
            "429 too many requests, retry after {seconds} s",
            _WAIT,
            ("reading", "refusing", "keyed"),
            happens=lambda shop, served: shop.close(""),
            stands=lambda shop, values: bool(shop.wait_s("")),
        ),
        Trouble(
            "service_down",
            "503 the service {service} is down, retry after {seconds} s",
            By("wait", {"seconds": "{seconds}"}, "then again; other services work meanwhile"),
            ("reading", "refusing", "keyed"),
            happens=lambda shop, served: shop.close(served.request.service),
            stands=lambda shop, values: bool(shop.wait_s(values["service"])),
        ),
        Trouble(
            "lost_answer",
            _NO_ANSWER,
            _SAME_KEY,
            ("keyed",),
            may_hit=lambda shop, served: served.request.key is not None or served.operation == "graphql",
            happens=lambda shop, served: shop.lose_answer(),
            is_done=True,
        ),
        Trouble(
            "expired_token",
            "401 token expired",
            Anew("token", "`get_token`, `refresh_token` or `exchange_token`, then again"),
            ("keyed",),
            may_hit=lambda shop, served: served.request.service != AUTH or served.operation == "exchange_token",
            happens=lambda shop, served: shop.end_token(served.request),
            also="401 token not valid",
        ),
        Trouble(
            "invalid_grant",
            "400 invalid_grant: the refresh token has ended, log in with client and secret",
            Anew("refresh", "`get_token`, then again"),
            may_hit=lambda shop, served: served.operation == "refresh_token",
            happens=lambda shop, served: shop.end_refresh(),
            also="400 invalid_grant: no such refresh token",
        ),
        Trouble(
            "stale_cursor",
            "410 the cursor {cursor!r} has ended, begin again without one",
            Anew("output", "begin at the first page"),
            may_hit=lambda shop, served: shop.has_used_cursor,
            happens=lambda shop, served: shop.end_cursors(),
        ),
        Trouble(
            "version_conflict",
            "412 version {version} of {name!r} is out of date, read it again",
            Anew("version", "read it again, use the new version"),
            may_hit=lambda shop, served: served.request.version is not None,
            happens=lambda shop, served: shop.write_meanwhile(served.request),
        ),
        Trouble(
            "renamed_field",
            "422 no field {name!r}, it is called {now!r} now",
            Use("name", "now"),
            may_hit=lambda shop, served: served.operation == "change_customer",
            happens=lambda shop, served: shop.rename_field(served.request),
        ),
        Trouble(
            "moved",
            "301 {name!r} has moved to {now!r}",
            Use("name", "now"),
            may_hit=lambda shop, served: served.has_row,
            happens=lambda shop, served: shop.move_row(served.request),
        ),
        Trouble(
            "partial_data",
            "partial answer {data}, errors: {errors}",
            may_hit=lambda shop, served: shop.crossings > 0,
            happens=lambda shop, served: shop.answer_partly(served.request),
        ),
    )
)
