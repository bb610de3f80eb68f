"""The board shows what the runs say, in the order given, what was trained from what, and on which data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmark.kpis import UNITS
from benchmark.reports.leaderboard import leaderboard_command, write_leaderboard
from benchmark.runs.shown import TITLES, kpi_table, kpi_to_text
from core.errors import UserError
from data.records import Trajectory
from data.wire import Kpi
from support.browser import CHROMIUM, Browser
from support.record_samples import record
from support.run_folders import PLANTED, made, sha, source, stage, write_run

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


class Page(HTMLParser):
    """The elements of a page, its attributes and its visible text; complains about tags that do not match."""

    VOID = frozenset({"meta", "rect", "line", "img", "br", "polyline", "input"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open, f"never closed: {self.open}"
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " " if tag in ("td", "th") else ""
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data


def outcomes(successes: int, **changes: Any) -> list[Trajectory]:
    return [
        made(n, outcome="success" if n < successes else "failure", world="files" if n % 2 else "api", **changes)
        for n in range(40)
    ]


def three_runs(folder: Path) -> list[Path]:
    """base -> SFT -> DPO."""
    sft = stage("sft", "sft", "base", source("train", 108, release="1.1.0", kim=8, lee=100))
    dpo = stage("dpo", "dpo", "sft", source("pairs", 64))
    return [
        write_run(folder / "base", outcomes(0), weights_sha256=sha("base")),
        write_run(folder / "sft", outcomes(25), weights_sha256=sha("sft"), trained_on=[sft]),
        write_run(folder / "dpo", outcomes(24), weights_sha256=sha("dpo"), trained_on=[sft, dpo]),
    ]


def test_the_page_shows_the_runs_in_order_with_their_changes(tmp_path: Path) -> None:
    write_leaderboard(three_runs(tmp_path), tmp_path / "board")
    page = Page(tmp_path / "board" / "index.html")
    table = page.text[page.text.index("Runs Press") :]
    places = [table.index(f"models/{name}") for name in ("base", "sft", "dpo")]
    assert places == sorted(places)
    assert "0 % (0-9)" in table and "63 % (47-76)" in table and "60 % (45-74)" in table
    assert re.search(r"\+62\.5 points \(\+4\d\.\d to \+7\d\.\d\), a significant gain, against base", table)
    assert re.search(r"-2\.5 points \(-\d\.\d to \+0\.0\), within chance, against sft", table)
    assert all(title in page.text and meaning in page.text for title, meaning in TITLES.values())
    heads = page.source[page.source.index("<thead>") : page.source.index("</thead>")]
    assert heads.count('<button type="button">') == len(UNITS) + 5  # keys reach a button by themselves
    values = [
        attributes["data-value"] for tag, attributes in page.tags if attributes.get("data-name") == "Task success"
    ]
    assert values == ["0.0", "0.625", "0.6"]


def test_every_link_leads_to_a_file_of_the_folder(tmp_path: Path) -> None:
    runs = [*three_runs(tmp_path), write_run(tmp_path / "한글 라벨", outcomes(3))]
    write_leaderboard(runs, tmp_path / "board")
    (tmp_path / "board").rename(tmp_path / "published elsewhere")
    checked = 0
    for path in (tmp_path / "published elsewhere").rglob("*.html"):
        page = Page(path)
        ids = {attributes.get("id") for _, attributes in page.tags}
        for target in (attributes["href"] or "" for tag, attributes in page.tags if tag == "a"):
            file, _, fragment = target.partition("#")
            assert (path.parent / Path(*map(unquoted, file.split("/")))).is_file() if file else fragment in ids, (
                path,
                target,
            )
            checked += 1
        assert not any("src" in attributes or tag == "link" for tag, attributes in page.tags)
        assert "http://" not in page.source and "https://" not in page.source and "url(" not in page.source
        assert "prefers-color-scheme: dark" in page.source and 'name="viewport"' in page.source
    assert checked > 500


def unquoted(part: str) -> str:
    from urllib.parse import unquote  # noqa: PLC0415 - beside its only use

    return unquote(part)


def test_arrows_follow_the_weights_from_model_to_model(tmp_path: Path) -> None:
    base, sft, dpo = three_runs(tmp_path)
    other = write_run(tmp_path / "other", outcomes(9), weights_sha256=sha("another"))
    # In any order of the runs; and where SFT was not benchmarked, one arrow holds both trainings.
    for runs, arrows in (
        ([dpo, other, sft, base], {"sft": "base", "dpo": "sft"}),
        ([base, dpo], {"dpo": "base"}),
        ([other, sft, dpo], {"dpo": "sft"}),
        ([other, dpo], {}),
    ):
        write_leaderboard(runs, tmp_path / "board")
        board = json.loads((tmp_path / "board" / "leaderboard.json").read_text(encoding="utf-8"))["runs"]
        assert {run["label"]: run["trained_from"] for run in board if run["trained_from"]} == arrows
        page = Page(tmp_path / "board" / "index.html")
        assert sum(attributes.get("class") == "arrow" for _, attributes in page.tags) == len(arrows)
        assert ("What was trained from what" in page.text) == bool(arrows)
    write_leaderboard([base, dpo], tmp_path / "board")
    assert "SFT on 108 rows, then DPO on 64 rows +60.0 points" in Page(tmp_path / "board" / "index.html").text


def test_models_that_claim_to_come_from_each_other_are_no_endless_chain(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, outcomes(1), weights_sha256=sha(name), trained_on=[stage("sft", name, start)])
        for name, start in (("a", "b"), ("b", "a"), ("c", "b"))
    ]
    write_leaderboard(runs, tmp_path / "board")
    assert {"a", "b", "c"} <= set(Page(tmp_path / "board" / "index.html").text.split())


def test_the_board_names_release_sources_contributors_and_hashes(tmp_path: Path) -> None:
    write_leaderboard(three_runs(tmp_path), tmp_path / "board")
    page = Page(tmp_path / "board" / "index.html")
    data = page.text[page.text.index("What each model was trained on") :]
    for part in (
        "release tool-records 1.1.0",
        "records/train.jsonl",
        "kim: 8",
        "lee: 100",
        "CC-BY-4.0",
        sha("train")[:12],
    ):
        assert part in data
    assert f'title="{sha("train")}"' in page.source
    changes = Page(tmp_path / "board" / "runs" / "dpo" / "changes.html").text
    assert "sft → dpo" in changes and "Newly failed: 1" in changes and "t-024" in changes
    assert f"dpo: records/pairs.jsonl (trajectory) - 64 rows, sha256 {sha('pairs')[:12]}" in changes


def test_the_json_holds_the_numbers_of_the_page(tmp_path: Path) -> None:
    runs = three_runs(tmp_path)
    write_leaderboard(runs, tmp_path / "board")
    board = json.loads((tmp_path / "board" / "leaderboard.json").read_text(encoding="utf-8"))["runs"]
    assert [(run["label"], run["page"]) for run in board] == [
        (n, f"runs/{n}/index.html") for n in ("base", "sft", "dpo")
    ]
    for run, folder in zip(board, runs, strict=True):
        told = json.loads((folder / "kpis.json").read_text(encoding="utf-8"))
        for name in ("kpis", "by_world", "success_by_context", "trajectories_sha256"):
            assert run[name] == told[name]
    assert board[0]["change"] is None
    change = board[1]["change"]["difference"]
    assert change["value"] == 0.625 and change["n"] == 40 and change["low"] > 0
    assert board[2]["trained_on"][0]["data"]["sources"][0]["kept_by_source"] == {"kim": 8, "lee": 100}


def test_the_curve_marks_what_does_not_fit_a_window_as_not_applicable(tmp_path: Path) -> None:
    sizes = (0, 512, 4096, 32768)
    long = [made(n, size=sizes[n % 4], outcome="success" if n % 8 < 5 else "failure") for n in range(40)]
    beyond = {"window": 8192, "tries": 10, "tasks": [f"t-{n:03}" for n in range(3, 40, 4)], "by_context": {"32768": 10}}
    runs = [
        write_run(tmp_path / "wide", long),
        write_run(tmp_path / "narrow", [each for n, each in enumerate(long) if n % 4 < 3], not_applicable=beyond),
    ]
    write_leaderboard(runs, tmp_path / "board")
    page = Page(tmp_path / "board" / "index.html")
    table = page.text[page.text.index("Success by context length") :]
    assert "Run none 0.5k 4k 32k wide 100 % (72-100)10 tries" in table
    assert (
        "not applicable: 10 tasks" in table
        and "10 n/a" in page.text
        and "narrow: 10 longer than 8,192 tokens." in page.text
    )
    narrow = page.source[page.source.index("<svg viewBox") :]
    assert narrow.count(">n/a</text>") == 1
    lines = re.findall(r'<polyline class="curve" points="([^"]*)"', narrow)
    assert [len(line.split()) for line in lines] == [3, 2]  # no line leads to the tasks without a length
    drawn = [float(y) for y in re.findall(r'cy="([\d.]+)"', narrow)]
    assert len(drawn) == 7 and all(12 <= y <= 256 for y in drawn)
    # Without lengths there is no curve.
    write_leaderboard([write_run(tmp_path / "short", outcomes(3))], tmp_path / "board")
    assert "context length" not in Page(tmp_path / "board" / "index.html").text


def test_pass_hat_k_has_a_column_where_tasks_were_tried_more_than_once(tmp_path: Path) -> None:
    three = {str(k): {"value": 0.5 / k, "low": 0.1, "high": 0.6, "n": 20} for k in (1, 2, 3)}
    runs = [write_run(tmp_path / "a", outcomes(3)), write_run(tmp_path / "b", outcomes(3), pass_hat_k=three)]
    write_leaderboard(runs[:1], tmp_path / "board")
    assert "pass^" not in Page(tmp_path / "board" / "index.html").text
    write_leaderboard(runs, tmp_path / "board")
    page = Page(tmp_path / "board" / "index.html")
    assert "pass^2 25 % (10-60)pass^3 17 % (10-60)" in page.text and "pass^1" not in page.text
    assert [a["data-value"] for _, a in page.tags if a.get("data-name") == "pass^k"] == ["", str(0.5 / 3)]


@pytest.mark.parametrize(
    "label", ["../up", "index", "leaderboard.json", "a/b\\c", "...", "<b>", "한 국어", "javascript:alert(1)"]
)
def test_a_label_is_never_a_way_out_of_the_folder(tmp_path: Path, label: str) -> None:
    write_leaderboard([write_run(tmp_path / "run", [made(1)], label=label)], tmp_path / "board")
    assert {path.name for path in (tmp_path / "board").iterdir()} == {"index.html", "leaderboard.json", "runs"}
    assert len(list((tmp_path / "board" / "runs").glob("*/index.html"))) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"run", "board"}


def test_a_second_board_replaces_the_first_and_nothing_else_is_removed(tmp_path: Path) -> None:
    base, sft, _ = three_runs(tmp_path)
    out = tmp_path / "board"
    write_leaderboard([base, sft], out)
    (out / "mine.txt").write_text("kept")
    write_leaderboard([sft], out)
    assert {path.name for path in (out / "runs").iterdir()} == {"sft"} and (out / "mine.txt").read_text() == "kept"
    inside = write_run(out / "runs" / "here", [made(1)])
    with pytest.raises(UserError, match="would replace"):
        write_leaderboard([inside], out)
    assert inside.is_dir()
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("somebody's")
    with pytest.raises(UserError, match="not of a leaderboard"):
        write_leaderboard([sft], site)
    assert (site / "index.html").read_text() == "somebody's"


def test_runs_of_other_tasks_are_not_compared(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", [made(1), made(2)]), write_run(tmp_path / "b", [made(3), made(4)], seed=2)]
    write_leaderboard(runs, tmp_path / "board")
    page = Page(tmp_path / "board" / "index.html")
    assert "no shared tasks with a" in page.text and "cannot be compared" in page.text and "points" not in page.text


def test_records_from_elsewhere_and_empty_runs_have_pages_too(tmp_path: Path) -> None:
    stranger = Trajectory.model_validate(record())
    write_leaderboard([write_run(tmp_path / "a", [stranger]), write_run(tmp_path / "b", [])], tmp_path / "board")
    assert "0 of 0" not in Page(tmp_path / "board" / "runs" / "b" / "index.html").text
    assert "no reason was recorded" in Page(tmp_path / "board" / "runs" / "a" / "files-1.html").text


def test_bars_stay_within_their_track(tmp_path: Path) -> None:
    write_leaderboard(three_runs(tmp_path), tmp_path / "board")
    page = Page(tmp_path / "board" / "index.html")
    drawn = [
        float(attributes[name] or "")
        for tag, attributes in page.tags
        for name in ("x1", "x2")
        if tag == "line" and name in attributes
    ]
    drawn += [float(attributes["width"] or "") for tag, attributes in page.tags if tag == "rect"]
    assert len(drawn) > 50 and all(0 <= place <= 100 for place in drawn)


# ---- in a browser ----


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as open_browser:
        yield open_browser


ORDER = "[...document.querySelectorAll('#board tbody tr')].map(row => row.cells[1].dataset.value)"
SORTED = (
    "[...document.querySelectorAll('#board th[aria-sort]')].map(head => head.textContent.trim() + ' ' + head.ariaSort)"
)


@needs_chromium
def test_columns_are_sorted_by_mouse_and_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    runs = [*three_runs(tmp_path), write_run(tmp_path / "가 모델", [], kpis={})]
    write_leaderboard(runs, tmp_path / "board")
    browser.open(tmp_path / "board" / "index.html")
    given = ["base", "sft", "dpo", "가 모델"]
    assert browser.run(ORDER) == given and browser.run(SORTED) == []
    browser.click("#board th:nth-child(3) button")
    assert browser.run(ORDER) == ["sft", "dpo", "base", "가 모델"]  # the unmeasured come last
    assert browser.run(SORTED) == ["Task success descending"]
    browser.click("#board th:nth-child(3) button")
    assert browser.run(ORDER) == ["base", "dpo", "sft", "가 모델"]
    assert browser.run(SORTED) == ["Task success ascending"]
    browser.click("#board th:nth-child(2) button")
    assert browser.run(ORDER) == ["base", "dpo", "sft", "가 모델"] and browser.run(SORTED) == ["Run ascending"]
    # By keyboard: from the head that was clicked Tab leads to the next one; Enter and the space bar press it.
    browser.press("Tab", 9)
    assert browser.run("document.activeElement.textContent") == "Task success"
    browser.press("Enter", 13, "\r")
    assert browser.run(ORDER) == ["sft", "dpo", "base", "가 모델"] and browser.run(SORTED) == [
        "Task success descending"
    ]
    browser.run("document.querySelector('#board button').focus()")
    browser.press(" ", 32, " ")
    assert browser.run(ORDER) == given and browser.run(SORTED) == ["# ascending"]
    assert browser.errors == []


@needs_chromium
@pytest.mark.parametrize("width", [360, 820, 1100, 1280])
def test_no_page_is_wider_than_the_window(browser: Browser, tmp_path: Path, width: int) -> None:
    runs = [
        *three_runs(tmp_path),
        write_run(tmp_path / ("label-without-any-space-" * 3), outcomes(3, answer="x" * 500)),
    ]
    write_leaderboard(runs, tmp_path / "board")
    browser.look(width=width)
    for page in ("index.html", "runs/dpo/index.html", "runs/dpo/t-001.html", "runs/dpo/changes.html"):
        browser.open(tmp_path / "board" / page)
        assert browser.run("document.documentElement.scrollWidth") <= width, page


@needs_chromium
def test_dark_pages_are_dark_and_their_text_can_be_read(browser: Browser, tmp_path: Path) -> None:
    write_leaderboard(three_runs(tmp_path), tmp_path / "board")
    for dark in (False, True):
        browser.look(dark=dark)
        browser.open(tmp_path / "board" / "index.html")
        for selector in ("body", ".quiet", ".good", "a", "h2"):
            ink = luminance(browser.run(f"getComputedStyle(document.querySelector('{selector}')).color"))
            paper = luminance(browser.run("getComputedStyle(document.body).backgroundColor"))
            contrast = (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05)
            assert contrast >= 4.5 and (paper < 0.1) == dark, (selector, dark)  # WCAG 2.2, 1.4.3


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, as WCAG defines it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# ---- texts and mistakes ----


@pytest.mark.parametrize(
    ("name", "kpi", "text"),
    [
        ("success_rate", Kpi(0.62, 0.47, 0.75, 40), "62 % (47-75)"),
        ("success_rate", Kpi(0.525, 0.375, 0.67, 40), "53 % (38-67)"),
        ("success_rate", Kpi(None, None, None, 0), "-"),
        ("recovery_steps", Kpi(1.44, 1.0, 2.06, 9), "1.4 (1.0-2.1)"),
        ("recovery_seconds", Kpi(2.0, None, None, 1), "2.0"),
        ("retention_tokens", Kpi(45.4, 41.2, 50.0, 80), "45 (41-50)"),
    ],
)
def test_a_kpi_as_text(name: str, kpi: Kpi, text: str) -> None:
    assert kpi_to_text(name, kpi) == text


def test_the_table_of_the_terminal(tmp_path: Path) -> None:
    runs = [*three_runs(tmp_path), write_run(tmp_path / "x", [made(1)], label="[red]한국어[/red]")]
    told = []
    for width in (140, 80):
        console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - only the recording is read
        console.print(kpi_table(runs))
        told.append([line.rstrip() for line in console.export_text().splitlines()])
    lines = [re.split("  +", line.strip()) for line in told[0] if line]
    assert lines[0] == [title for title, _ in TITLES.values()]
    assert [line[:2] for line in lines[2:5]] == [
        ["base", "0 % (0-9)"],
        ["sft", "63 % (47-76)"],
        ["dpo", "60 % (45-74)"],
    ]
    assert lines[5][0] == "[red]한국어[/red]"
    assert max(map(len, told[1])) <= 80 and "…" not in "".join(told[1]) and "retention" in "".join(told[1])


def test_the_board_shows_how_replies_were_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forms = {"llama-json": 17, PLANTED: 3}
    counted = {"unreadable": 1203, "unreadable_by_the_servers_fault": 2, "in_another_form": forms}
    runs = [write_run(tmp_path / "a", [made(1)]), write_run(tmp_path / "b", [made(1)], replies=counted)]
    leaderboard_command(runs, tmp_path / "board")
    told = capsys.readouterr().out
    assert "how replies were read" in told and re.search(r"unreadable +- +1,203", told)
    page = (tmp_path / "board" / "index.html").read_text(encoding="utf-8")
    table = page.split('<h2 id="replies">')[1].split("</table>")[0]
    cells = [re.sub("<[^>]+>", " ", line).split() for line in table.splitlines() if "<td" in line]
    assert ["unreadable", "-", "1,203"] in cells and ["calls", "read", "as", "llama-json", "-", "17"] in cells
    assert "<script>alert(1)" not in page
    read = json.loads((tmp_path / "board" / "leaderboard.json").read_text(encoding="utf-8"))
    assert [run["replies"] for run in read["runs"]] == [None, counted]
    leaderboard_command(runs[:1], tmp_path / "other")
    assert "how replies were read" not in capsys.readouterr().out
    assert 'id="replies"' not in (tmp_path / "other" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read"),
        ("{", "not JSON"),
        ("[]", "record"),
        ('{"model": "m"}', "field 'label' is missing"),
        ('{"label": "a", "model": "m", "split": "test", "count": "many"}', "field 'count'"),
    ],
)
def test_a_damaged_run_is_one_sentence_with_the_file(tmp_path: Path, text: str | None, told: str) -> None:
    run = write_run(tmp_path / "run", [made(1)])
    if text is None:
        (run / "kpis.json").unlink()
    else:
        (run / "kpis.json").write_text(text, encoding="utf-8")
    for read in (lambda: kpi_table([run]), lambda: write_leaderboard([run], tmp_path / "board")):
        with pytest.raises(UserError) as caught:
            read()
        assert str(run / "kpis.json") in str(caught.value) and told in str(caught.value)
    assert not (tmp_path / "board").exists()


def test_equal_labels_no_runs_and_changed_records_are_told(tmp_path: Path) -> None:
    first, second = (write_run(tmp_path / name, [made(1)], label="same") for name in ("a", "b"))
    with pytest.raises(UserError, match="'same' is taken"):
        write_leaderboard([first, second], tmp_path / "board")
    with pytest.raises(UserError, match="at least one run"):
        write_leaderboard([], tmp_path / "board")
    records = first / "trajectories.jsonl"
    records.write_text(records.read_text(encoding="utf-8").replace('"success"', '"failure"'), encoding="utf-8")
    with pytest.raises(UserError, match=r"trajectories\.jsonl: changed since kpis\.json"):
        write_leaderboard([first], tmp_path / "board")
    records.unlink()
    with pytest.raises(UserError, match=r"trajectories\.jsonl: cannot be read"):
        write_leaderboard([first], tmp_path / "board")
    with pytest.raises(UserError, match=r"Did you mean '.*/b'\?"):
        write_leaderboard([tmp_path / "bb"], tmp_path / "board")
