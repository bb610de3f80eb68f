"""A run's pages tell each task's whole story, in Korean too, and nothing that a record says can become markup."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmark.reports.leaderboard import write_leaderboard
from benchmark.reports.page import file_names
from benchmark.runs.results import RECORDS
from data.records import Trajectory, read_trajectories
from support.browser import CHROMIUM, Browser
from support.record_samples import action, record
from support.run_folders import PLANTED, made, source, stage, write_run

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


def text_of(path: Path) -> str:
    """What a reader reads, without style, script and tags."""
    source = re.sub(r"<(style|script)>.*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", source)).replace("&#34;", '"')


def test_a_transcript_tells_the_whole_story_in_korean_too(tmp_path: Path) -> None:
    told = made(
        1,
        instruction='"메모.txt"를 읽으세요.',
        answer="다 했습니다.",
        answer_reasoning="이제 끝났다.",
        why="1 of 2 goals: 결과.txt is missing",
        advice=[
            {"step": 0, "command": "read_file", "input": {"path": "자료/메모.txt"}},
            {"step": 2, "command": None, "answer": "아직입니다."},
        ],
    )
    told.action_sequence[0].text = "먼저 읽겠습니다."
    told.action_sequence[0].reasoning = "파일이 어디에 있을까?"
    told.action_sequence[1].output = {"내용": "안녕"}
    write_leaderboard([write_run(tmp_path / "모델", [told])], tmp_path / "board")
    page = tmp_path / "board" / "runs" / "모델" / "t-001.html"
    story = [
        *("success, score 1.0", "1 of 2 goals: 결과.txt is missing", '"메모.txt"를 읽으세요.', "Read a text file."),
        *(
            "파일이 어디에 있을까?",
            "먼저 읽겠습니다.",
            "read_file",
            '{"path": "a.txt"}',
            "injected: not_found",
            "not found: a.txt",
        ),
        *('read_file {"path": "자료/메모.txt"}', '{"path": "b/a.txt"}', '{"내용": "안녕"}'),
        *("이제 끝났다.", "다 했습니다.", "answer: 아직입니다."),
    ]
    rest = text_of(page)
    for part in story:
        assert part in rest, part
        rest = rest[rest.index(part) + len(part) :]
    assert '<pre class="asked" lang="ko" dir="auto">' in page.read_text(encoding="utf-8")
    assert "run --label 'two words'" in text_of(page.with_name("index.html")).replace("&#39;", "'")


def test_calls_of_one_turn_stand_together(tmp_path: Path) -> None:
    row = record(
        action_sequence=[
            action("a", {}, output=1, turn=1),
            action("b", {}, output=2, turn=1),
            action("c", {}, output=3),
        ]
    )
    write_leaderboard([write_run(tmp_path / "run", [Trajectory.model_validate(row)])], tmp_path / "board")
    source = (tmp_path / "board/runs/run/files-1.html").read_text(encoding="utf-8")
    turns = source[source.index('<ol class="turns">') :].split("<li>")[1:]
    assert ["2 calls at once" in turn for turn in turns] == [True, False, False]  # the last one is the answer
    assert [turn.count('class="call"') for turn in turns] == [2, 1, 0]


def test_several_tries_of_a_task_stand_on_one_page(tmp_path: Path) -> None:
    tries = [made(number, outcome="success" if number != 1 else "failure") for number in range(4)]
    for each in tries[:3]:  # three tries of task 0, one of task 3, mixed up in the file
        (each.metadata.model_extra or {})["task"]["id"] = "t-000"
    write_leaderboard(
        [write_run(tmp_path / "run", [tries[0], tries[3], tries[1], tries[2]], samples=3)], tmp_path / "board"
    )
    folder = tmp_path / "board" / "runs" / "run"
    assert {path.name for path in folder.iterdir()} == {"index.html", "t-000.html", "t-003.html"}
    page = text_of(folder / "t-000.html")
    assert [f"Try {number} of 3" in page for number in (1, 2, 3)] == [True] * 3 and "2 of 3" in text_of(
        folder / "index.html"
    )


def test_a_long_result_shows_its_two_ends_and_says_what_is_left_out(tmp_path: Path) -> None:
    long = made(1)
    long.action_sequence[1].output = "begin" + "x" * 20_000 + "end"
    write_leaderboard([write_run(tmp_path / "run", [long])], tmp_path / "board")
    page = text_of(tmp_path / "board/runs/run/t-001.html")
    assert (
        "beginxxx" in page
        and "xxxend" in page
        and "[... 14,008 characters are not shown ...]" in page
        and len(page) < 10_000
    )


def test_a_task_leads_to_the_same_task_of_other_runs_and_to_its_neighbours(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", [made(1), made(2, outcome="failure")]),
        write_run(tmp_path / "b", [made(2), made(3)]),
    ]
    write_leaderboard(runs, tmp_path / "board")
    pages = {
        path.relative_to(tmp_path / "board" / "runs").as_posix(): re.findall(
            r'href="([^"#]*)', path.read_text(encoding="utf-8").split("</style>")[1]
        )
        for path in (tmp_path / "board" / "runs").glob("*/t-*.html")
    }
    assert pages["b/t-002.html"] == ["../../index.html", "index.html", "../a/t-002.html", "t-003.html"]
    assert pages["a/t-001.html"] == ["../../index.html", "index.html", "t-002.html"]


@pytest.mark.parametrize("names", [["A", "a", "A ", "a/"], ["..", "/", ""], ["index", "x"], ["한글 이름", "한글/이름"]])
def test_file_names_are_safe_and_unique(names: list[str]) -> None:
    found = file_names(names, ".html", taken=["index.html"])
    assert len({name.casefold() for name in found.values()} | {"index.html"}) == len(names) + 1
    assert all(re.fullmatch(r"[\w][\w.-]*\.html", name) for name in found.values())


# ---- in a browser ----


def planted_everywhere(folder: Path) -> Path:
    """A run in which every text that a model, a label or a source can reach holds markup, scripts and control signs."""
    row = record(
        id=PLANTED,
        action_sequence=[
            action(PLANTED, {PLANTED: PLANTED}, error=PLANTED, text=PLANTED, reasoning=PLANTED),
            action(PLANTED, PLANTED, output=PLANTED),
            action(PLANTED, {}, output={PLANTED: [PLANTED]}),
        ],
    )
    row["metadata"] = {
        "instruction": PLANTED,
        "system": PLANTED,
        "tools": [
            {
                "type": "function",
                "function": {"name": PLANTED, "description": PLANTED, "parameters": {PLANTED: PLANTED}},
            }
        ],
        "answer": PLANTED,
        "answer_reasoning": PLANTED,
        "language": PLANTED,
        "task": {
            "id": PLANTED,
            "world": PLANTED,
            "tier": PLANTED,
            "language": PLANTED,
            "family": PLANTED,
            "facts": {"a": PLANTED},
        }
        | {"faults": [{"kind": PLANTED}]},
        "score": PLANTED,
        "why": PLANTED,
        "injected": [[0, PLANTED], [PLANTED, PLANTED], PLANTED],
        "policy": PLANTED,
        "advice": [
            {"step": 1, "command": PLANTED, "input": {PLANTED: PLANTED}},
            {"step": 3, "command": None, "answer": PLANTED},
        ],
    }
    trained = stage(
        PLANTED, PLANTED, PLANTED, source(PLANTED, 3, release=PLANTED, **{PLANTED: 3}), learning_rate=PLANTED
    )
    trained["data"]["sources"][0] |= {"adapter": PLANTED, "licences": [PLANTED], "hub": [{"id": PLANTED}]}
    trained["data"]["splits"][PLANTED] = {"rows": 1, "sha256": PLANTED}
    return write_run(
        folder, [Trajectory.model_validate(row)],
        label=PLANTED, model=PLANTED, model_hash=PLANTED, split=PLANTED, worlds=PLANTED, command=PLANTED,
        versions={PLANTED: PLANTED}, options={PLANTED: PLANTED}, trained_on=[trained],
    )  # fmt: skip


@needs_chromium
def test_nothing_planted_runs_or_becomes_markup(tmp_path: Path) -> None:
    plain = write_run(tmp_path / "plain", list(read_trajectories(planted_everywhere(tmp_path / "planted") / RECORDS)))
    result = json.loads((plain / "kpis.json").read_text(encoding="utf-8"))
    (plain / "kpis.json").write_text(json.dumps({**result, "label": "plain"}), encoding="utf-8")
    write_leaderboard([plain, tmp_path / "planted"], tmp_path / "board")
    pages = sorted((tmp_path / "board").rglob("*.html"))
    assert len(pages) == 6  # the board; two lists, two tasks; what changed
    seen = 0
    with Browser() as browser:
        for path in pages:
            browser.open(path)
            found = browser.run(
                "({scripts: document.scripts.length, images: document.images.length,"
                "links: [...document.links].map(link => link.href), text: document.documentElement.textContent,"
                "handlers: [...document.querySelectorAll('*')].filter("
                "  each => each.getAttributeNames().some(name => name.startsWith('on'))).length})"
            )
            assert found["scripts"] == 1 and found["images"] == 0 and found["handlers"] == 0, path
            assert all(link.startswith((tmp_path / "board").as_uri()) for link in found["links"]), path
            assert "\x1b" not in found["text"]
            seen += found["text"].count("<script>alert(1)</script>")
        assert browser.errors == []
    assert seen >= 60  # it is all still there to be read


@needs_chromium
def test_the_policy_stops_a_script_even_where_one_got_in(tmp_path: Path) -> None:
    write_leaderboard([write_run(tmp_path / "run", [made(1)])], tmp_path / "board")
    page = tmp_path / "board" / "index.html"
    bad = '<script>document.title = "taken"</script><img src="x" onerror="document.title = 1">'
    bad += "<style>body { color: red }</style>"
    page.write_text(page.read_text(encoding="utf-8").replace("<main>", f"<main>{bad}"), encoding="utf-8")
    with Browser() as browser:
        browser.open(page)
        assert browser.run("document.title") == "Leaderboard - tooltune"
        assert browser.run("getComputedStyle(document.body).color") != "rgb(255, 0, 0)"
        assert len(browser.errors) >= 3 and all("Content Security Policy" in error for error in browser.errors)


@needs_chromium
def test_tasks_are_filtered_by_hand_and_by_address(tmp_path: Path) -> None:
    records = [
        made(number, world="api" if number % 3 else "files", outcome="failure" if number % 2 else "success")
        for number in range(12)
    ]
    records[4].metadata.instruction = "참외를 찾으세요"
    write_leaderboard([write_run(tmp_path / "run", records)], tmp_path / "board")
    rows = "[...document.querySelectorAll('#list tbody tr')]"
    shown = f"{rows}.filter(row => row.checkVisibility()).map(row => row.cells[1].dataset.value)"
    with Browser() as browser:
        browser.open(tmp_path / "board/runs/run/index.html", "#world=files&outcome=failure")
        assert browser.run(shown) == ["t-003", "t-009"]
        assert browser.run("document.querySelector('output').value") == "2 of 12 shown"
        browser.run("location.hash = 'world=nowhere'")
        assert len(browser.run(f"new Promise(done => setTimeout(() => done({shown}), 50))")) == 12
        browser.click("input[name=text]")
        browser.insert("참외")
        assert browser.run(shown) == ["t-004"]
        assert "text=" in browser.run("location.hash")
        assert browser.errors == []
