"""Forms to fill in, with what other pages say."""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue

from benchmark.worlds.pools import Draw
from benchmark.worlds.web.expert import Send, read
from benchmark.worlds.web.families.family import (
    ALL_TOOLS,
    AT_FOLLOWING,
    AT_OPENING,
    AT_READING,
    AT_SENDING,
    FORM_TOOLS,
    WebFamily,
    draw_address,
    draw_site,
    sent,
    table_of,
)
from benchmark.worlds.web.pages import Form, Page, title_of
from benchmark.worlds.world import Task


def _draw_sign_up(draw: Draw) -> dict[str, JsonValue]:
    return {**draw_site(draw), "path": draw_address(draw), "person": draw.person(), "other": draw_address(draw)}


def _draw_order(draw: Draw) -> dict[str, JsonValue]:
    high = draw.number(50, 99)
    return {
        **draw_site(draw),
        "path": draw_address(draw),
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
        **draw_site(draw),
        "list": f"/{draw.folder()}",
        "path": draw_address(draw),
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
        **draw_site(draw),
        "list": f"/{draw.folder()}",
        "path": draw_address(draw),
        "people": people,
        "numbers": numbers,
        "person": people[subject],
        "number": numbers[subject],
    }


def _draw_collect(draw: Draw) -> dict[str, JsonValue]:
    folder = draw.folder()
    return {
        **draw_site(draw),
        "sources": [draw_address(draw, folder) for _ in range(3)],
        "path": draw_address(draw),
        "first": f"{draw.word()}-{draw.number(100, 999)}",
        "second": f"{draw.word()}-{draw.number(100, 999)}",
        "third": f"{draw.word()}-{draw.number(100, 999)}",
    }


def _draw_links_sign_up(draw: Draw) -> dict[str, JsonValue]:
    hub = f"/{draw.folder()}"
    middle = draw_address(draw, hub[1:])
    path = f"{middle}/{draw.word()}"
    labels: dict[str, JsonValue] = {"label": title_of(middle), "form": title_of(path)}
    others: list[JsonValue] = [draw_address(draw, hub[1:]), f"{middle}/{draw.word()}"]
    return {
        **draw_site(draw),
        **labels,
        "hub": hub,
        "middle": middle,
        "path": path,
        "others": others,
        "person": draw.person(),
    }


def _draw_record(draw: Draw) -> dict[str, JsonValue]:
    people: list[JsonValue] = [draw.person(), draw.bystander(), draw.bystander()]
    cities: list[JsonValue] = [draw.city() for _ in people]
    numbers: list[JsonValue] = [str(draw.number(1000, 9999)) for _ in people]
    which = draw.random.randrange(len(people))
    return {
        **draw_site(draw),
        "list": f"/{draw.folder()}",
        "path": draw_address(draw),
        "people": people,
        "cities": cities,
        "numbers": numbers,
        "person": people[which],
        "city": cities[which],
        "number": numbers[which],
    }


def _pages_numbers(task: Task) -> dict[str, Page]:
    p: Any = task.parameters
    halves = [table_of(("name", "number"), p["people"][at : at + 4], p["numbers"][at : at + 4]) for at in (0, 4)]
    return {
        p["list"]: Page((f"Page 1 of 2, the next is {p['list']}?page=2",), halves[0], (f"{p['list']}?page=2",)),
        f"{p['list']}?page=2": Page(("Page 2 of 2",), halves[1], (p["list"],)),
        p["path"]: Page(form=Form({"number": ""}, ranges={"number": (1, 9999)})),
    }


def _order_form(p: Any) -> Form:
    return Form({"item": p["item"], "quantity": "", "city": ""}, ranges={"quantity": (1, p["high"])})


def _prices(p: Any) -> tuple[tuple[str, ...], ...]:
    return table_of(("item", "price"), p["items"], p["prices"])


def _people(p: Any) -> tuple[tuple[str, ...], ...]:
    return table_of(("name", "city", "number"), p["people"], p["cities"], p["numbers"])


def _pages_collect(p: Any) -> dict[str, Page]:
    codes = zip(p["sources"], (p["first"], p["second"], p["third"]), strict=True)
    pages = {source: Page((f"The code is {code}",)) for source, code in codes}
    return {**pages, p["path"]: Page(form=Form({"first": "", "second": "", "third": ""}))}


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


SIGN_UP = WebFamily(
    name="sign-up",
    tier=3,
    tools=FORM_TOOLS,
    draw=_draw_sign_up,
    english=(
        'Sign up "{person}" with the form at "{path}".',
        'The form at "{path}" takes names. Send "{person}" with it.',
    ),
    korean='"{path}" 양식으로 "{person}"을(를) 등록하세요.',
    facts=("path", "person"),
    faults=(*AT_OPENING, *AT_SENDING),
    pages=lambda task: {
        str(task.parameters["path"]): Page(form=Form({"name": ""})),
        str(task.parameters["other"]): Page(form=Form({"name": ""})),
    },
    goals=lambda p: sent(p["path"], name=p["person"]),
    stages=lambda p: ((Send(p["path"]),),),
)


ORDER = WebFamily(
    name="order",
    tier=4,
    tools=FORM_TOOLS,
    draw=_draw_order,
    english=(
        'Order "{quantity}" pieces of "{item}" to "{city}" with the form at "{path}".',
        'With the form at "{path}", have "{quantity}" of "{item}" brought to "{city}".',
    ),
    korean='"{path}" 양식으로 "{item}" "{quantity}"개를 "{city}"(으)로 주문하세요.',
    facts=("path", "quantity", "city"),
    faults=(*AT_OPENING, *AT_SENDING),
    pages=lambda task: {str(task.parameters["path"]): Page(form=_order_form(task.parameters))},
    goals=lambda p: sent(p["path"], item=p["item"], quantity=p["quantity"], city=p["city"]),
    stages=lambda p: ((Send(p["path"]),),),
)


PRICE = WebFamily(
    name="price",
    tier=4,
    tools=FORM_TOOLS,
    draw=_draw_price,
    english=(
        'Look up the price of "{item}" at "{list}" and send it with the form at "{path}".',
        'The form at "{path}" wants the price of "{item}", which "{list}" tells.',
    ),
    korean='"{list}"에서 "{item}"의 가격을 찾아 "{path}" 양식으로 보내세요.',
    facts=("path", "price"),
    faults=(*AT_READING, *AT_OPENING, *AT_SENDING),
    pages=lambda task: {
        str(task.parameters["list"]): Page(table=_prices(task.parameters)),
        str(task.parameters["path"]): Page(form=Form({"price": ""}, ranges={"price": (1, 9999)})),
    },
    goals=lambda p: sent(p["path"], price=p["price"]),
    stages=lambda p: (
        (read(p["list"]),),
        (Send(p["path"]),),
    ),
)


PAGES = WebFamily(
    name="pages",
    tier=5,
    tools=ALL_TOOLS,
    draw=_draw_pages,
    english=(
        'The list at "{list}" has several pages. Send the number of "{person}" with the form at "{path}".',
        'Find the number of "{person}" in the pages that begin at "{list}"; the form at "{path}" takes it.',
    ),
    korean='"{list}" 목록은 여러 쪽입니다. "{person}"의 번호를 찾아 "{path}" 양식으로 보내세요.',
    facts=("number", "path"),
    faults=(*AT_READING, *AT_OPENING, *AT_SENDING),
    pages=_pages_numbers,
    goals=lambda p: sent(p["path"], number=p["number"]),
    stages=lambda p: (
        (read(p["list"]),),
        (read(p["list"] + "?page=2"),),
        (Send(p["path"]),),
    ),
)


COLLECT = WebFamily(
    name="collect",
    tier=8,
    tools=FORM_TOOLS,
    draw=_draw_collect,
    english=(
        'The pages "{sources[0]}", "{sources[1]}" and "{sources[2]}" hold the first, second and third code. '
        'Send all three with the form at "{path}".',
    ),
    korean='"{sources[0]}", "{sources[1]}", "{sources[2]}"에 첫째, 둘째, 셋째 코드가 있습니다. '
    '"{path}" 양식으로 모두 보내세요.',
    facts=("first", "second", "third", "path"),
    faults=(*AT_READING, *AT_OPENING, *AT_SENDING),
    pages=lambda task: _pages_collect(task.parameters),
    goals=lambda p: sent(p["path"], first=p["first"], second=p["second"], third=p["third"]),
    stages=lambda p: (
        tuple(map(read, p["sources"])),
        (Send(p["path"]),),
    ),
)


LINKS_SIGN_UP = WebFamily(
    name="links-sign-up",
    tier=5,
    held_out=True,
    tools=ALL_TOOLS,
    draw=_draw_links_sign_up,
    english=('From "{hub}" follow the links "{label}" and "{form}"; sign up "{person}" there.',),
    korean='"{hub}"에서 "{label}", "{form}" 링크를 차례로 따라가 "{person}"을(를) 등록하세요.',
    facts=("label", "form", "person"),
    faults=(*AT_FOLLOWING, *AT_SENDING),
    pages=lambda task: _pages_links_sign_up(task.parameters),
    goals=lambda p: sent(p["path"], name=p["person"]),
    stages=lambda p: ((Send(p["path"], (p["hub"], p["middle"])),),),
)


RECORD = WebFamily(
    name="record",
    tier=5,
    held_out=True,
    tools=FORM_TOOLS,
    draw=_draw_record,
    english=(
        'The table at "{list}" tells the city and the number of "{person}". Send both with the form at "{path}".',
    ),
    korean='"{list}" 표에서 "{person}"의 도시와 번호를 찾아 "{path}" 양식으로 둘 다 보내세요.',
    facts=("city", "number", "path"),
    faults=(*AT_READING, *AT_OPENING, *AT_SENDING),
    pages=lambda task: {
        str(task.parameters["list"]): Page(table=_people(task.parameters)),
        str(task.parameters["path"]): Page(form=Form({"city": "", "number": ""}, ranges={"number": (1, 9999)})),
    },
    goals=lambda p: sent(p["path"], city=p["city"], number=p["number"]),
    stages=lambda p: (
        (read(p["list"]),),
        (Send(p["path"]),),
    ),
)
