"""What a family of the web world is, and what families share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from benchmark.worlds.expert import Step
from benchmark.worlds.family import Family
from benchmark.worlds.pools import Draw, filler
from benchmark.worlds.web.pages import SEND, Entry, Form, Page
from benchmark.worlds.web.troubles import TROUBLES
from benchmark.worlds.world import Fault, Task


@dataclass(frozen=True)
class WebFamily(Family):
    """A family with its pages, the entries that it asks for and the way there."""

    pages: Callable[[Task], dict[str, Page]] = lambda task: {}
    goals: Callable[[Any], list[tuple[str, Entry]]] = lambda p: []
    stages: Callable[[Any], Sequence[Sequence[Step]]] = lambda p: ()
    start: Callable[[Any], str | None] = lambda p: None
    """The page that is open at the beginning."""


def draw_address(draw: Draw, folder: str | None = None) -> str:
    return f"/{folder or draw.folder()}/{draw.word()}"


def draw_site(draw: Draw) -> dict[str, JsonValue]:
    """What every site has: where pages move to, and for how long it refuses requests."""
    return {"elsewhere": draw.folder(), "retry_s": draw.number(5, 60)}


def draw_login(draw: Draw) -> dict[str, JsonValue]:
    return {**draw_site(draw), "user": draw.person(), "password": draw.word(), "session": draw.word()}


def draw_vote(draw: Draw) -> dict[str, JsonValue]:
    items: list[JsonValue] = [draw.item() for _ in range(4)]
    item, other = draw.random.sample(items, 2)
    return {**draw_site(draw), "path": draw_address(draw), "items": items, "item": item, "other": other}


def draw_recall(draw: Draw) -> dict[str, JsonValue]:
    return {
        **draw_site(draw),
        "source": draw_address(draw),
        "rules": draw_address(draw),
        "path": draw_address(draw),
        "other": draw_address(draw),
        "person": draw.person(),
        "code": f"{draw.word()}-{draw.number(100, 999)}",
    }


def poll_of(p: Any) -> Form:
    return Form(buttons=tuple(p["items"]))


def table_of(header: tuple[str, ...], *columns: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return (header, *zip(*columns, strict=True))


def rules_page(task: Task, last_line: str) -> Page:
    """A page whose last line has to be read, below much that has not."""
    text = filler(task.id, task.split, task.context_tokens)
    return Page((*text.splitlines(), last_line))


def sent(name: str, /, **fields: str) -> list[tuple[str, Entry]]:
    return [(name, {**fields, "button": SEND})]


def voted(p: Any) -> list[tuple[str, Entry]]:
    return [(p["path"], {"button": p["item"]})]


REFUSALS = TROUBLES.at("refusing")


def faults(tool: str, *kinds: str, nth: int = 0) -> tuple[Fault, ...]:
    return tuple(Fault(kind, tool, nth) for kind in kinds)


AT_OPENING = TROUBLES.faults("opening", "open_page")
AT_READING = faults("read_page", "truncated", "rate_limited", "server_error", "moved", "broken_link")
AT_FOLLOWING = TROUBLES.faults("following", "follow_link")
AT_VOTING = TROUBLES.faults("voting", "submit_form")
AT_SENDING = (*AT_VOTING, *TROUBLES.faults("sending", "submit_form"))
AFTER_LOGIN = (
    *faults("open_page", "session_expired", "moved", "broken_link", "server_error", nth=1),
    *faults("submit_form", "session_expired", "stale_form", "maintenance", nth=1),
)

FORM_TOOLS = ("go_back", "open_page", "fill_field", "submit_form", "wait", "read_page", "find_text")
VOTE_TOOLS = ("fill_field", "open_page", "submit_form", "wait", "read_page")
ALL_TOOLS = (
    "bookmark_page",
    "open_page",
    "read_page",
    "follow_link",
    "fill_field",
    "submit_form",
    "wait",
    "find_text",
)
