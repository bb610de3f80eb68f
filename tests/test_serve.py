"""The read API: fuzzed from its own description, and used by a real client of a real process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from support.record_samples import record

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from core.errors import UserError
from data.__main__ import app as command_line
from data.records import Category, Outcome
from data.release.api import NDJSON, ApiLimits, create_app
from data.release.index import Filters, RecordIndex, cursor_to_number, number_to_cursor

ROOT = Path(__file__).parents[1]
WEB, FILES = 500, 20


def rows() -> list[dict[str, Any]]:
    """Records of two categories; the ids of `web` are not in the order of their times."""
    made = []
    for number in range(WEB + FILES):
        web = number < WEB
        each = record(
            id=f"{'웹' if web else 'f'}-{number:04d}",
            category="웹상호작용" if web else "file-ops",
            outcome=["success", "failure", "partial"][number % 3],
            tool=["browser", "검색"][number % 2] if web else "files",
            timestamp=f"2026-11-{1 + (number * 7) % 20:02d}T23:30:00{'+09:00' if number % 2 else 'Z'}",
        )
        each["metadata"] |= {"licence": "CC0-1.0", "language": ["ko", "en"][number % 2]}
        made.append(each)
    return made


def english(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"category": "web" if row["category"] == "웹상호작용" else row["category"]}


EXPECTED = [english(each) for each in rows()]
IN_WEB = sorted((each for each in EXPECTED if each["category"] == "web"), key=lambda each: each["id"])


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    (folder / "a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows()), encoding="utf-8")
    arguments = ["release", "build", "--version", "1.0.0", "--input", folder / "a.jsonl", "--out", folder / "r"]
    result = CliRunner().invoke(command_line, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder / "r"


@pytest.fixture(scope="session")
def leaderboard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("board") / "leaderboard.json"
    path.write_text(json.dumps({"runs": [{"label": "가", "kpis": {}}]}, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def index(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordIndex]:
    made = RecordIndex(release, tmp_path_factory.mktemp("index") / "index.sqlite")
    yield made
    made.close()


@pytest.fixture(scope="session")
def client(index: RecordIndex, leaderboard: Path) -> TestClient:
    return TestClient(create_app(index, leaderboard=leaderboard))


def get(client: TestClient, address: str, **parameters: Any) -> Any:
    answer = client.get(address, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def all_pages(client: TestClient, address: str, **parameters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = get(client, address, **parameters)
        found += page["records"]
        if page["next"] is None:
            assert page["total"] == len(found)
            return found
        parameters["cursor"] = page["next"]


# ---- what is read ----


def test_the_catalogue_says_what_is_there(client: TestClient) -> None:
    catalogue = get(client, "/datasets")
    assert [(each["category"], each["korean"], each["records"]) for each in catalogue["datasets"]] == [
        ("web", "웹상호작용", WEB),
        ("file-ops", "파일작업", FILES),
    ]
    assert catalogue["statistics"]["records"] == WEB + FILES


@pytest.mark.parametrize("limit", [1, 7, 100, 499, 500, 1000])
def test_pages_join_to_all_records_in_order(client: TestClient, limit: int) -> None:
    address = "/datasets/file-ops" if limit == 1 else "/datasets/web"
    expected = [each for each in EXPECTED if each["category"] == "file-ops"] if limit == 1 else IN_WEB
    assert all_pages(client, address, limit=limit) == expected


FILTERS = [
    ({"tool": "검색"}, lambda each: each["tool"] == "검색"),
    ({"outcome": "failure"}, lambda each: each["outcome"] == "failure"),
    (
        {"outcome": "실패", "language": "en"},
        lambda each: each["outcome"] == "failure" and each["metadata"]["language"] == "en",
    ),
    ({"since": "2026-11-15"}, lambda each: utc(each) >= "2026-11-15T00:00"),
    ({"since": "2026-11-10T23:30:00+09:00"}, lambda each: utc(each) >= "2026-11-10T14:30"),
    ({"tool": "none"}, lambda each: False),
]


def utc(row: dict[str, Any]) -> str:
    """2026-11-10T23:30Z or +09:00 as minutes in UTC."""
    text = row["timestamp"]
    return text[:11] + "14:30" if text.endswith("+09:00") else text[:16]


@pytest.mark.parametrize(("parameters", "passes"), FILTERS)
def test_filters_pass_what_other_code_finds(client: TestClient, parameters: dict[str, str], passes: Any) -> None:
    expected = [each for each in IN_WEB if passes(each)]
    assert all_pages(client, "/datasets/web", limit=50, **parameters) == expected
    answer = client.get("/datasets/web", params={**parameters, "format": "ndjson"})
    assert answer.headers["content-type"].startswith(NDJSON)
    assert [json.loads(line) for line in answer.text.splitlines()] == expected


@pytest.mark.parametrize("name", ["web", "웹상호작용", "웹 상호작용", "웹상호작용"])
def test_categories_have_korean_names_also_in_parts(client: TestClient, name: str) -> None:
    assert get(client, f"/datasets/{name}", limit=1)["total"] == WEB


def test_a_category_without_records_is_empty(client: TestClient) -> None:
    assert get(client, "/datasets/other") == {"records": [], "total": 0, "next": None}


def test_ndjson_by_header_and_by_pages(client: TestClient, release: Path) -> None:
    lines = (release / "data/web.jsonl").read_bytes()
    assert client.get("/datasets/web", headers={"Accept": NDJSON}).content == lines
    assert client.get("/datasets/web", headers={"Accept": NDJSON}, params={"format": "json", "limit": 1}).json()[
        "records"
    ]
    got, parameters = b"", {"format": "ndjson", "limit": 300}
    while True:
        answer = client.get("/datasets/web", params=parameters)
        got += answer.content
        if "x-next-cursor" not in answer.headers:
            break
        parameters["cursor"] = answer.headers["x-next-cursor"]
    assert got == lines


def test_a_page_ends_before_it_grows_too_large(index: RecordIndex) -> None:
    small = TestClient(create_app(index, limits=ApiLimits(page_bytes=3_000)))
    page = get(small, "/datasets/web", limit=500)
    assert 1 <= len(page["records"]) < 10
    assert all_pages(small, "/datasets/file-ops") == [each for each in EXPECTED if each["category"] == "file-ops"]
    tiny = TestClient(create_app(index, limits=ApiLimits(page_bytes=1)))
    assert len(get(tiny, "/datasets/web")["records"]) == 1


# ---- what is refused ----


@pytest.mark.parametrize(
    ("address", "parameters", "name", "word"),
    [
        ("/datasets/wbe", {}, "category", "Did you mean 'web'?"),
        ("/datasets/web", {"outcome": "sucess"}, "outcome", "Did you mean 'success'?"),
        ("/datasets/web", {"outcome": "부분성곰"}, "outcome", "Did you mean '부분성공'?"),
        ("/datasets/web", {"toool": "x"}, "toool", "Did you mean 'tool'?"),
        ("/datasets/web", {"정렬": "x"}, "정렬", "Known are tool"),
        ("/datasets", {"limit": "1"}, "limit", "none here"),
        ("/leaderboard", {"run": "1"}, "run", "none here"),
        ("/datasets/web", {"tool": ["a", "b"]}, "tool", "twice"),
        ("/datasets/web", {"tool": ""}, "tool", "at least 1"),
        ("/datasets/web", {"tool": "x" * 201}, "tool", "at most 200"),
        ("/datasets/web", {"limit": "0"}, "limit", "greater"),
        ("/datasets/web", {"limit": "1001"}, "limit", "less"),
        ("/datasets/web", {"limit": "9" * 300}, "limit", ""),
        ("/datasets/web", {"limit": "many"}, "limit", "integer"),
        ("/datasets/web", {"since": "yesterday"}, "since", "2026-11-21"),
        ("/datasets/web", {"since": "2026-02-30"}, "since", "2026-11-21"),
        ("/datasets/web", {"since": "2026-11-21T09:00:00"}, "since", "zone"),
        ("/datasets/web", {"since": "1700000000"}, "since", "2026-11-21"),
        ("/datasets/web", {"since": "0001-01-01T00:00:00+23:59x"}, "since", ""),
        ("/datasets/web", {"cursor": "AAAA"}, "cursor", "begin again"),
        ("/datasets/web", {"cursor": "%"}, "cursor", "begin again"),
        ("/datasets/web", {"cursor": "가"}, "cursor", "begin again"),
        ("/datasets/web", {"format": "csv"}, "format", "json"),
        ("/datasets/web", {"format": "ndjsn"}, "format", "Did you mean 'ndjson'?"),
    ],
)
def test_bad_parameters_are_named(
    client: TestClient, address: str, parameters: dict[str, Any], name: str, word: str
) -> None:
    answer = client.get(address, params=parameters)
    assert answer.status_code == 422, answer.text
    (fault,) = answer.json()["detail"]
    assert fault["loc"][-1] == name and word in fault["msg"]


def test_a_cursor_fits_its_filters_and_its_release_only(client: TestClient) -> None:
    cursor = get(client, "/datasets/web", limit=1, outcome="failure")["next"]
    assert client.get("/datasets/web", params={"limit": 9, "outcome": "실패", "cursor": cursor}).status_code == 200
    for other in ({"outcome": "success"}, {}, {"outcome": "failure", "tool": "browser"}):
        assert client.get("/datasets/web", params={**other, "cursor": cursor}).status_code == 422
    filters = Filters(Category.WEB, outcome=Outcome.FAILURE)
    with pytest.raises(ValueError):
        cursor_to_number(number_to_cursor(1, filters, "another release"), filters, "this release")


@given(number=st.integers(0, 2**63 - 1), place=st.integers(0, 200), letter=st.sampled_from("ABCDwxyz0189-_"))
def test_a_changed_cursor_is_refused(number: int, place: int, letter: str) -> None:
    filters = Filters(Category.WEB)
    cursor = number_to_cursor(number, filters, "r")
    assert cursor_to_number(cursor, filters, "r") == number
    place %= len(cursor) - 1  # the last character holds spare bits
    changed = cursor[:place] + letter + cursor[place + 1 :]
    if changed != cursor:
        with pytest.raises(ValueError):
            cursor_to_number(changed, filters, "r")


def test_a_long_query_is_refused(client: TestClient) -> None:
    assert client.get("/datasets?" + "x" * 3_000).status_code == 414


def test_nothing_can_be_written(client: TestClient) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert client.request(method, "/datasets/web").status_code == 405


def test_the_leaderboard_is_read_anew_and_may_be_missing(
    index: RecordIndex, client: TestClient, tmp_path: Path
) -> None:
    assert get(client, "/leaderboard")["runs"][0]["label"] == "가"
    assert TestClient(create_app(index)).get("/leaderboard").status_code == 404
    path = tmp_path / "leaderboard.json"
    own = TestClient(create_app(index, leaderboard=path))
    for content, status in (('{"runs": []}', 200), ('{"runs": [', 503), ("[]", 503), ('{"runs": [{"a": NaN}]}', 503)):
        path.write_text(content)
        assert own.get("/leaderboard").status_code == status


def test_a_changed_release_is_not_served(release: Path, tmp_path: Path) -> None:
    copy = tmp_path / "r"
    subprocess.run(["cp", "-r", release, copy], check=True)
    path = copy / "data/web.jsonl"
    path.write_bytes(path.read_bytes().replace(b"success", b"failure", 1))
    with pytest.raises(UserError, match=r"web\.jsonl"):
        RecordIndex(copy, tmp_path / "index")


def test_a_request_that_takes_too_long_is_ended(index: RecordIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(index, limits=ApiLimits(request_seconds=0.2, stream_seconds=1.5))

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", NDJSON.encode())]})
            await asyncio.sleep(0.3)  # longer than another request may take
            await send({"type": "http.response.body", "body": b"{}\n", "more_body": True})
        await asyncio.sleep(60)

    (guard,) = (each for each in app.user_middleware if each.cls.__name__ == "_Guard")
    guarded = guard.cls(slow, **guard.kwargs)
    sent: list[Any] = []

    async def call(path: str) -> None:
        async def send(message: Any) -> None:
            sent.append(message)

        await guarded({"type": "http", "path": path, "query_string": b"", "method": "GET", "headers": []}, None, send)

    asyncio.run(asyncio.wait_for(call("/slow"), 30))
    assert sent[0]["status"] == 503
    sent.clear()
    asyncio.run(asyncio.wait_for(call("/stream"), 30))
    # The answer stays unfinished, so its reader knows.
    assert sent[-1]["body"] == b"{}\n" and sent[-1]["more_body"] is True


# ---- its own description ----


def test_the_description_fits_the_answers(client: TestClient) -> None:
    description = get(client, "/openapi.json")
    for address, path in (
        ("/datasets", "/datasets"),
        ("/datasets/web", "/datasets/{category}"),
        ("/leaderboard", "/leaderboard"),
    ):
        schema = description["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(get(client, address), {**schema, "components": description["components"]})
    refused = description["paths"]["/datasets/{category}"]["get"]["responses"]["422"]["content"]["application/json"][
        "schema"
    ]
    answer = client.get("/datasets/web", params={"limit": 0, "outcome": "x"})
    jsonschema.validate(answer.json(), {**refused, "components": description["components"]})


def test_the_page_needs_no_network_and_names_every_parameter(client: TestClient) -> None:
    page = client.get("/docs")
    assert (
        page.status_code == 200
        and "<script" not in page.text
        and "http" not in re.sub(r"http://127\.0\.0\.1\S*", "", page.text)
    )
    for name in ("/datasets/{category}", "/leaderboard", "since", "cursor", "파일작업"):
        assert name in page.text
    assert client.get("/").url.path == "/docs"


def parameter_values(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    """Texts for a parameter: what its description allows, what is just outside, and anything."""
    schema = next((each for each in schema.get("anyOf", []) if each.get("type") != "null"), schema)
    hostile = st.sampled_from(
        ["", "null", "-1", "NaN", "' OR 1=1 --", "../../etc/passwd", "\0", "\ufeffweb", "%00", "1e9", "[]", "성공 "]
    )
    if "enum" in schema:
        allowed: st.SearchStrategy[str] = st.sampled_from(schema["enum"])
    elif "pattern" in schema:
        allowed = st.from_regex(schema["pattern"], fullmatch=True)
    elif schema["type"] == "integer":
        allowed = st.integers(schema["minimum"] - 1, schema["maximum"] + 1).map(str)
    else:
        allowed = st.text(max_size=schema["maxLength"] + 1)
    return st.one_of(allowed, allowed, hostile, st.text(max_size=50))


def test_fuzzed_from_its_own_description(client: TestClient) -> None:
    description = get(client, "/openapi.json")
    operations = {path: methods["get"] for path, methods in description["paths"].items()}
    assert set(operations) == {"/datasets", "/datasets/{category}", "/leaderboard"}
    seen: set[int] = set()

    @settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from([*operations, "/datasets/{category}", "/datasets/{category}"]))
        operation = operations[path]
        address, query, bad = path, [], None
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path":
                value = data.draw(parameter_values(parameter["schema"]).filter(lambda text: text.strip(".")))
                address = path.replace("{category}", quote(value.replace("/", "-"), safe=""))
            elif data.draw(st.booleans()):
                query.append((parameter["name"], data.draw(parameter_values(parameter["schema"]))))
        if data.draw(st.integers(0, 5)) == 0:
            bad = data.draw(st.text(min_size=1, max_size=20))
            query.append((bad, "x"))
        answer = client.get(address, params=query)
        seen.add(answer.status_code)
        assert str(answer.status_code) in operation["responses"], answer.text
        if answer.status_code == 422:
            faults = answer.json()["detail"]
            names = {"category", *(name for name, _ in query)}
            assert faults and all(fault["loc"][-1] in names and fault["msg"] for fault in faults)
        if bad is not None and bad not in {parameter["name"] for parameter in operation.get("parameters", [])}:
            assert answer.status_code in (422, 414)

    fuzz()
    assert {200, 422} <= seen


# ---- a real process ----


@pytest.fixture
def server(release: Path, leaderboard: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    call = [sys.executable, "-m", "data", "serve", str(release), "--port", "0", "--leaderboard", str(leaderboard)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        call, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    killer = threading.Timer(60, process.kill)
    killer.start()
    try:
        line = process.stdout.readline()
        match = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert match, process.communicate()
        yield match[0], process
    finally:
        killer.cancel()
        process.kill()
        process.communicate()


def test_a_real_client_reads_everything_under_load(server: tuple[str, subprocess.Popen[str]], release: Path) -> None:
    address, process = server
    lines = (release / "data/web.jsonl").read_bytes()

    def read(number: int) -> None:
        with httpx.Client(base_url=address, timeout=30) as client:
            if number % 2:
                with client.stream("GET", "/datasets/웹상호작용", headers={"Accept": NDJSON}) as stream:
                    assert b"".join(stream.iter_raw()) == lines
                return
            page = client.get("/datasets/web", params={"limit": 200})
            found = page.json()["records"]
            while cursor := page.json()["next"]:
                page = client.get("/datasets/web", params={"limit": 200, "cursor": cursor})
                found += page.json()["records"]
            assert found == IN_WEB

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(read, range(30)))
    assert httpx.get(f"{address}/leaderboard").json()["runs"]
    assert httpx.get(f"{address}/datasets/web?toool=1").status_code == 422
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0 and err == ""


def test_a_taken_port_and_a_wrong_leaderboard_are_told(
    server: tuple[str, subprocess.Popen[str]], release: Path
) -> None:
    port = server[0].rpartition(":")[2]
    result = CliRunner().invoke(command_line, ["serve", str(release), "--port", port])
    assert isinstance(result.exception, UserError) and port in str(result.exception)
    result = CliRunner().invoke(command_line, ["serve", str(release), "--leaderboard", str(release / "MANIFEST.json")])
    assert isinstance(result.exception, UserError) and "runs" in str(result.exception)
