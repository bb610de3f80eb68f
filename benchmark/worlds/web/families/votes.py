"""Pages to open and polls to vote in."""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue

from benchmark.worlds.pools import Draw
from benchmark.worlds.web.expert import Send, confirm, read
from benchmark.worlds.web.families.family import (
    AT_FOLLOWING,
    AT_OPENING,
    AT_READING,
    AT_VOTING,
    REFUSALS,
    VOTE_TOOLS,
    WebFamily,
    draw_address,
    draw_site,
    draw_vote,
    faults,
    poll_of,
    voted,
)
from benchmark.worlds.web.pages import Page, title_of
from benchmark.worlds.world import Task


def _draw_confirm(draw: Draw) -> dict[str, JsonValue]:
    folder = draw.folder()
    return {
        **draw_site(draw),
        "person": draw.person(),
        "path": draw_address(draw, folder),
        "other_person": draw.person(),
        "other": draw_address(draw, folder),
    }


def _draw_confirm_three(draw: Draw) -> dict[str, JsonValue]:
    folder = draw.folder()
    return {**draw_site(draw), **{name: draw_address(draw, folder) for name in ("first", "second", "third", "other")}}


def _draw_links_vote(draw: Draw) -> dict[str, JsonValue]:
    vote = draw_vote(draw)
    hub = f"/{draw.folder()}"
    paths: list[JsonValue] = [draw_address(draw, hub[1:]) for _ in range(3)]
    path = draw.random.choice(paths)
    return {**vote, "hub": hub, "paths": paths, "path": path, "label": title_of(str(path))}


def _draw_cheapest(draw: Draw) -> dict[str, JsonValue]:
    vote: Any = draw_vote(draw)
    folder = draw.folder()
    prices = [draw.number(100, 999), draw.number(100, 999)]
    cheaper = min(range(2), key=lambda index: prices[index])
    return {
        **vote,
        "sources": [draw_address(draw, folder), draw_address(draw, folder)],
        "prices": [str(price) for price in prices],
        "item": vote["items"][cheaper],
        "other": vote["items"][1 - cheaper],
    }


def _paths(task: Task) -> list[str]:
    p: Any = task.parameters
    return list(p["paths"])


def _pages_cheapest(p: Any) -> dict[str, Page]:
    offers = zip(p["sources"], p["items"][:2], p["prices"], strict=True)
    pages = {source: Page((f"The {item} costs {price}",)) for source, item, price in offers}
    return {**pages, p["path"]: Page(("Press one.",), form=poll_of(p))}


def _hub(p: Any, pages: dict[str, Page]) -> dict[str, Page]:
    """A page of links before other pages; its last link leads nowhere."""
    return {p["hub"]: Page(("Choose one",), links=(*pages, "/imprint")), **pages}


CONFIRM = WebFamily(
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
    faults=AT_OPENING,
    pages=lambda task: {
        str(task.parameters["path"]): Page(("Your booking is confirmed.",), confirms=True),
        str(task.parameters["other"]): Page(("Your booking is confirmed.",), confirms=True),
    },
    goals=lambda p: [(p["path"], {})],
    stages=lambda p: ((confirm(p["path"]),),),
)


VOTE_OPEN = WebFamily(
    name="vote-open",
    tier=1,
    tools=VOTE_TOOLS,
    draw=draw_vote,
    english=(
        'The poll "{path}" is open in the browser. Vote for "{item}", not for "{other}".',
        'Press "{item}" in the open poll "{path}". "{other}" must not get the vote.',
    ),
    korean='브라우저에 투표 "{path}"이(가) 열려 있습니다. "{other}"이(가) 아니라 "{item}"에 투표하세요.',
    facts=("item",),
    faults=AT_VOTING,
    pages=lambda task: {str(task.parameters["path"]): Page(("Press one.",), form=poll_of(task.parameters))},
    goals=voted,
    stages=lambda p: ((Send(p["path"]),),),
    start=lambda p: str(p["path"]),
)


VOTE = WebFamily(
    name="vote",
    tier=2,
    tools=VOTE_TOOLS,
    draw=draw_vote,
    english=(
        'Vote for "{item}" in the poll at "{path}", not for "{other}".',
        'In the poll at "{path}" give the vote to "{item}" and none to "{other}".',
    ),
    korean='"{path}" 투표에서 "{other}"이(가) 아니라 "{item}"에 투표하세요.',
    facts=("path", "item"),
    faults=(*AT_OPENING, *AT_VOTING),
    pages=lambda task: {str(task.parameters["path"]): Page(("Press one.",), form=poll_of(task.parameters))},
    goals=voted,
    stages=lambda p: ((Send(p["path"]),),),
)


CONFIRM_THREE = WebFamily(
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
    faults=AT_OPENING,
    pages=lambda task: {
        str(task.parameters[name]): Page(("Your booking is confirmed.",), confirms=True)
        for name in ("first", "second", "third", "other")
    },
    goals=lambda p: [(p[name], {}) for name in ("first", "second", "third")],
    stages=lambda p: (
        (
            confirm(p["first"]),
            confirm(p["second"]),
            confirm(p["third"]),
        ),
    ),
)


LINKS_VOTE = WebFamily(
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
    faults=(*AT_FOLLOWING, *AT_VOTING, *faults("open_page", *REFUSALS)),
    pages=lambda task: _hub(task.parameters, {path: Page(form=poll_of(task.parameters)) for path in _paths(task)}),
    goals=voted,
    stages=lambda p: ((Send(p["path"], (p["hub"],)),),),
)


CHEAPEST = WebFamily(
    name="cheapest",
    tier=4,
    tools=VOTE_TOOLS,
    draw=_draw_cheapest,
    english=(
        'Two offers are at "{sources[0]}" and "{sources[1]}". Vote for the cheaper item in the poll at "{path}".',
        'In the poll at "{path}" vote for the item that costs less: see "{sources[1]}" and "{sources[0]}".',
    ),
    korean='"{sources[0]}"와(과) "{sources[1]}"의 제안을 비교해 더 싼 물건에 "{path}"에서 투표하세요.',
    facts=("item", "path"),
    faults=(*AT_READING, *AT_OPENING, *AT_VOTING),
    pages=lambda task: _pages_cheapest(task.parameters),
    goals=voted,
    stages=lambda p: (
        tuple(map(read, p["sources"])),
        (Send(p["path"]),),
    ),
)
