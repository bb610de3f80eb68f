"""The web world: what its site does to any HTTP client, what its browser offers, and what its tasks are made of."""

from __future__ import annotations

import itertools
import random
import re
import socket
from collections import Counter
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.agent.episodes import run_tasks
from benchmark.agent.policies import Expert
from benchmark.kpis import retention_tokens
from benchmark.worlds.family import CONTEXT_TOKENS
from benchmark.worlds.web.families import FAMILIES
from benchmark.worlds.web.pages import LOGIN, MAP, Form, Page
from benchmark.worlds.web.site import Site
from benchmark.worlds.web.world import WEB, WebWorld
from benchmark.worlds.world import Fault, Task
from data.records import Outcome, Trajectory

HELD_OUT = {family.name for family in FAMILIES if family.held_out}


def task_of(family: str, *faults: Fault, number: int = 0) -> Task:
    """A task of a family, in English, with these faults only."""
    found = [
        task for task in WEB.tasks("test", 40 * len(FAMILIES), 4) if task.family == family and task.language == "en"
    ]
    return replace(found[number], faults=faults)


def expert_run(task: Task) -> Trajectory:
    [record] = run_tasks(Expert(), [task], label="expert", max_steps=40)
    return record


# The site, asked by another client than our browser.

PAGES = {
    "/list": Page(("A & B <i>", "둘째 줄"), (("이름", "n"), ("하은 <b>", "7")), ("/list?page=2", "/imprint")),
    "/list?page=2": Page(("the end",)),
    "/form": Page(form=Form({"name": "", "count": "3"}, ranges={"count": (1, 9)})),
    "/profile": Page(form=Form({"city": "Oslo"}, is_kept_once=True), is_private=True),
}
SITE_TASK = Task(
    id="web-train-0-0000", world="web", family="none", split="train", seed=0, tier=1, language="en", instruction="",
    tools=(), parameters={"user": "하은", "password": "비밀 번호&=", "session": "s", "elsewhere": "attic", "retry_s": 20},
)  # fmt: skip


class Client(httpx.Client):
    """Asks the site, and finds the ticket of a form."""

    def __init__(self) -> None:
        self.site = Site(SITE_TASK, PAGES)
        super().__init__(transport=httpx.WSGITransport(self.site), base_url="http://site.local", trust_env=False)

    def ticket(self, address: str) -> str:
        found = re.search('name="ticket" value="([0-9]+)"', self.get(address).text)
        assert found
        return found[1]

    def fill_in(self, address: str, **values: str) -> httpx.Response:
        return self.post(address, data={"ticket": self.ticket(address), "button": "Send", **values})


def test_pages_are_html_that_holds_text_as_text() -> None:
    page = Client().get("/list")
    assert page.status_code == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
    assert "A &amp; B &lt;i&gt;" in page.text and "하은 &lt;b&gt;" in page.text and "<i>" not in page.text
    assert 'href="/list?page=2"' in page.text


def test_unknown_pages_and_wrong_methods_are_refused() -> None:
    client = Client()
    for address in ("/imprint", "/list?page=3", "/list?page=2&x=1", "/list/", "/토큰", "/%00", "/LIST"):
        assert client.get(address).status_code == 404, address
    assert client.post("/list", data={"button": "Send"}).status_code == 405
    assert client.post("/form", content=b"\xff\xfe=1").status_code == 409
    assert client.site.entries == []


def test_a_ticket_is_good_for_one_sending_of_one_form() -> None:
    client = Client()
    right = {"ticket": client.ticket("/form"), "name": "도윤", "count": "9", "button": "Send"}
    assert client.post("/form", data={**right, "ticket": "99"}).status_code == 409
    assert client.post("/form", data={key: right[key] for key in ("name", "count", "button")}).status_code == 409
    assert client.post("/login", data=right).status_code == 409
    assert client.post("/form", data=right).status_code == 200
    assert client.post("/form", data=right).status_code == 409
    assert client.site.entries == [("/form", {"name": "도윤", "count": "9", "button": "Send"})]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"name": "", "count": "3"}, "name is empty"),
        ({"name": "  ", "count": "3"}, "name is empty"),
        ({"name": "x", "count": "0"}, "count must be a number from 1 to 9"),
        ({"name": "x", "count": "10"}, "count must be a number from 1 to 9"),
        ({"name": "x", "count": "３"}, "count must be a number from 1 to 9"),
        ({"name": "x", "count": "-1"}, "count must be a number from 1 to 9"),
        ({"name": "x"}, "the form has changed"),
        ({"name": "x", "count": "3", "more": "1"}, "the form has changed"),
        ({"name": "x", "count": "3", "button": "Delete"}, "no button 'Delete'"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(values: dict[str, str], told: str) -> None:
    client = Client()
    answer = client.fill_in("/form", **values)
    assert answer.status_code == 422 and told in answer.text.replace("&#x27;", "'")
    assert client.site.entries == []


def test_private_pages_need_the_session_cookie() -> None:
    client = Client()
    assert client.get("/profile").status_code == 401
    assert client.post("/profile", data={"city": "x", "button": "Send"}).status_code == 401
    for wrong in ({"user": "하은", "password": "x"}, {"user": "x", "password": "비밀 번호&="}):
        assert client.fill_in(LOGIN, button="Log in", **wrong).status_code == 422
    client.cookies.set("session", "s1")
    assert client.get("/profile").status_code == 401
    done = client.fill_in(LOGIN, button="Log in", user="하은", password="비밀 번호&=")
    assert done.status_code == 303 and "HttpOnly" in done.headers["set-cookie"]
    assert client.get("/profile").status_code == 200
    client.cookies.clear()
    assert client.get("/profile").status_code == 401


def test_a_profile_is_kept_once_and_shows_what_was_sent() -> None:
    client = Client()
    client.fill_in(LOGIN, button="Log in", user="하은", password="비밀 번호&=")
    client.fill_in("/profile", city="부산")
    assert 'value="부산"' in client.get("/profile").text
    client.fill_in("/profile", city="Seoul")
    assert client.site.entries == [("/profile", {"city": "Seoul", "button": "Send"})]


def test_the_site_map_names_every_page() -> None:
    text = Client().get(MAP).text
    for address in (*PAGES, LOGIN, "/account"):
        assert f": {address}</p>" in text


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    path=st.text(max_size=30),
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD"]),
    body=st.binary(max_size=60),
    cookie=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
)
def test_no_request_breaks_the_site(path: str, method: str, body: bytes, cookie: str) -> None:
    client = Client()
    try:
        request = client.build_request(method, f"http://site.local/{path}", content=body, headers={"Cookie": cookie})
    except (httpx.InvalidURL, UnicodeError):
        return
    if request.url.host == "site.local":
        assert client.send(request).status_code < 500


# The browser.


def test_the_browser_carries_hidden_fields_and_cookies() -> None:
    task = task_of("login-profile")
    p: Any = task.parameters
    with WEB.open(task) as live:
        assert live.call("open_page", {"address": p["path"]}).error == "401 log in first, at /login"
        form: Any = live.call("open_page", {"address": "/login"}).output
        assert form == {"title": "login", "fields": {"user": "", "password": ""}, "buttons": ["Log in"]}
        for field, value in (("user", p["user"]), ("password", "wrong")):
            assert live.call("fill_field", {"field": field, "value": value}).output == "ok"
        assert live.call("submit_form", {"button": "Log in"}).error == "422 wrong user or password"
        # What was filled in is still there, as in a real browser.
        live.call("fill_field", {"field": "password", "value": p["password"]})
        account: Any = live.call("submit_form", {"button": "Log in"}).output
        assert account["title"] == "account" and p["path"].rsplit("/")[-1] in account["links"]
        page: Any = live.call("open_page", {"address": p["path"]}).output
        assert page["fields"] == {"city": p["old_city"], "phone": p["phone"]}
        # Sending it as it is changes nothing.
        live.call("submit_form", {"button": "Send"})
        assert (live.verdict().score, "changed" in live.verdict().why) == (0, False)


def test_links_fields_and_buttons_that_are_not_there_are_told_with_the_nearest() -> None:
    task = task_of("links-sign-up")
    p: Any = task.parameters
    with WEB.open(task) as live:
        for name, arguments in (
            ("follow_link", {"label": "x"}),
            ("fill_field", {"field": "x", "value": "x"}),
            ("submit_form", {"button": "Send"}),
            ("find_text", {"text": "x"}),
        ):
            assert live.call(name, arguments).error == "no page is open"
        live.call("open_page", {"address": p["hub"]})
        error = live.call("follow_link", {"label": p["label"] + "s"}).error
        assert error is not None and error.endswith(f"Did you mean {p['label']!r}?")
        for _ in range(2):
            assert live.call("follow_link", {"label": "imprint"}).error == "404 no such page: /imprint"
        assert live.call("find_text", {"text": "Choose"}).output == "Choose one"
        assert live.call("bookmark_page", {"name": "hub"}).output == "ok"
        for address in ("http://example.org/", "//example.org/x", "list", "file:///etc/passwd"):
            error = live.call("open_page", {"address": address}).error
            assert error is not None and "begins with one '/'" in error
        assert live.verdict().score == 0


def test_going_back_shows_the_page_with_what_was_filled_in() -> None:
    task = task_of("sign-up")
    p: Any = task.parameters
    with WEB.open(task) as live:
        assert live.call("go_back", {"pages": 1}).error == "there are 0 pages to go back"
        live.call("open_page", {"address": p["path"]})
        live.call("fill_field", {"field": "name", "value": p["person"]})
        live.call("open_page", {"address": p["other"]})
        page: Any = live.call("go_back", {"pages": 1}).output
        assert page["fields"] == {"name": p["person"]}
        live.call("submit_form", {"button": "Send"})
        assert live.verdict().outcome is Outcome.SUCCESS


def test_nothing_listens_and_nothing_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    for task in WEB.tasks("test", len(FAMILIES), 2):
        assert expert_run(task).outcome is Outcome.SUCCESS


# Faults. That the expert gets over each is in tests/test_every_world.py.


@pytest.mark.parametrize(
    ("kind", "family", "tool", "told"),
    [
        ("server_error", "vote", "open_page", "500 server error"),
        ("timeout", "vote", "open_page", "504 no answer within 30 s"),
        ("rate_limited", "vote", "open_page", "429 too many requests, try again in"),
        ("maintenance", "vote", "submit_form", "503 closed for maintenance, try again in"),
        ("truncated", "price", "read_page", "the page came cut off: "),
        ("moved", "price", "read_page", "410 /"),
        ("broken_link", "links-vote", "follow_link", "404 no such page: /"),
        ("session_expired", "login-vote", "submit_form", "401 the session has ended, log in again at /login"),
        ("stale_form", "order", "submit_form", "409 the form is out of date"),
        ("renamed_field", "order", "submit_form", "422 the form has changed"),
    ],
)
def test_a_fault_says_what_is_wrong_and_changes_nothing(kind: str, family: str, tool: str, told: str) -> None:
    record = expert_run(task_of(family, Fault(kind, tool, int(kind == "session_expired"))))
    struck = [action for action in record.action_sequence if action.error is not None]
    assert record.outcome is Outcome.SUCCESS and len(struck) == 1
    assert struck[0].command == tool and str(struck[0].error).startswith(told)
    repairs = {"broken_link": MAP, "session_expired": LOGIN}
    if kind in repairs:
        assert repairs[kind] in [action.input.get("address") for action in record.action_sequence]  # type: ignore[union-attr]
    if kind == "timeout":
        assert (struck[0].end_time - struck[0].start_time).total_seconds() > 30


def test_a_fault_with_nothing_to_hit_does_not_strike() -> None:
    for kind in ("session_expired", "stale_form", "renamed_field", "truncated"):
        record = expert_run(task_of("vote", Fault(kind, "open_page", 0)))
        assert record.outcome is Outcome.SUCCESS and len(record.action_sequence) == 2


# Tasks.


def test_families_are_many_and_some_are_only_tested() -> None:
    train, test = ({task.family for task in WEB.tasks(split, 200, 1)} for split in ("train", "test"))
    assert len(train) >= 12 and len(HELD_OUT) >= 3
    assert test - train == HELD_OUT and train | HELD_OUT == {family.name for family in FAMILIES}
    tiers = {family.tier for family in FAMILIES}
    assert {1, 2, 3, 4, 5, 7, 8, 12} <= tiers
    assert all(family.korean and len(family.faults) >= 4 for family in FAMILIES)


def test_every_family_offers_tools_that_it_does_not_need() -> None:
    for family in FAMILIES:
        record = expert_run(task_of(family.name))
        offered = {tool.function.name for tool in record.metadata.tools}
        assert len(offered - {action.command for action in record.action_sequence}) >= 2, family.name


def test_independent_calls_are_made_in_one_turn() -> None:
    for family, together in (("collect", 3), ("cheapest", 2), ("confirm-three", 3)):
        record = expert_run(task_of(family))
        assert [action.turn for action in record.action_sequence[:together]] == [1] * together
        assert len(record.action_sequence) == task_of(family).tier
        # Whoever makes one call a turn is asked for the others again.
    with WEB.open(task_of("collect")) as live:
        assert len(live.expert([]).beside) == 2


def test_the_context_tier_puts_the_fact_as_far_away_as_it_says() -> None:
    sizes: Counter[int] = Counter()
    for task in WEB.tasks("test", 600, 3):
        if not task.context_tokens:
            continue
        sizes[task.context_tokens] += 1
        if sizes[task.context_tokens] > 2:
            continue
        record = expert_run(replace(task, faults=()))
        far = max(retention_tokens(record).values())
        assert record.outcome is Outcome.SUCCESS
        assert 0.9 * task.context_tokens < far < 1.1 * task.context_tokens + 400, (
            task.family,
            task.context_tokens,
            far,
        )
    assert set(sizes) == set(CONTEXT_TOKENS) and min(CONTEXT_TOKENS) == 512 and max(CONTEXT_TOKENS) == 32768


def test_parts_are_partial_and_damage_is_no_success() -> None:
    task = task_of("confirm-three")
    p: Any = task.parameters
    with WEB.open(task) as live:
        live.call("open_page", {"address": p["first"]})
        live.call("open_page", {"address": p["first"]})
        assert live.verdict().score == pytest.approx(1 / 3)
        for name in ("second", "third"):
            live.call("open_page", {"address": p[name]})
        assert live.verdict().outcome is Outcome.SUCCESS
        live.call("open_page", {"address": p["other"]})
        assert live.verdict().score == pytest.approx(3 / 4) and live.verdict().outcome is Outcome.PARTIAL
    task = task_of("vote")
    p = task.parameters
    with WEB.open(task) as live:
        live.call("open_page", {"address": p["path"]})
        live.call("submit_form", {"button": p["other"]})
        assert live.verdict().score == 0
        live.call("submit_form", {"button": p["item"]})
        assert live.verdict().score == 0.5, "a vote cannot be taken back"


@pytest.mark.parametrize("order", ["tools", "reversed", "shuffled"])
def test_trying_everything_wins_about_nothing(order: str) -> None:
    """Every tool with every quoted text, twice: what the instruction says not to do gets done, too."""
    made = WEB.tasks("test", 160, 3)
    won = 0
    for task in made:
        quoted = task.instruction.split('"')[1::2]
        calls: list[tuple[str, dict[str, Any]]] = []
        for tool in task.tools:
            names: Any = tool.function.parameters["properties"]
            several = itertools.islice(itertools.product(quoted, repeat=len(names)), 200)
            calls += [(tool.function.name, dict(zip(names, values, strict=True))) for values in several]
        if order != "tools":
            calls.reverse()
        if order == "shuffled":
            random.Random(task.id).shuffle(calls)
        with WEB.open(task) as live:
            assert isinstance(live, WebWorld)
            for name, arguments in calls * 2:
                live.call(name, arguments)
            won += live.verdict().outcome is Outcome.SUCCESS
    assert won / len(made) < 0.04
