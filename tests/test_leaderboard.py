"""The page shows what the runs say, in the order given, and nothing that a record says can become markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from record_samples import action, record
from rich.console import Console

from benchmark.kpis import Kpi, kpis, kpis_by
from benchmark.leaderboard import SORT_SCRIPT, TITLES, TRANSCRIPTS, kpi_table, kpi_to_text, write_leaderboard
from data.errors import UserError
from data.records import Trajectory, write_trajectories

PLANTED = """<script>alert(1)</script><img src=x onerror="alert(2)" '&amp;>"""


def made(number: int, *, outcome: str = "success", world: str = "files", **metadata: Any) -> Trajectory:
    row = record(id=f"r-{number}", outcome=outcome)
    row["metadata"] |= {
        "task": {"id": f"t-{number:03}", "world": world, "tier": 1, "facts": {}},
        "score": 1.0,
        "why": "every goal holds",
        "injected": [[0, "not_found"]],
        **metadata,
    }
    return Trajectory.model_validate(row)


def write_run(folder: Path, records: list[Trajectory], **changes: Any) -> Path:
    """A run folder as `python -m benchmark run` leaves it."""
    write_trajectories(folder / "trajectories.jsonl", records)
    groups = kpis_by(records, "world")
    result = {
        "label": folder.name,
        "model": f"models/{folder.name}",
        "model_hash": "abc",
        "split": "test",
        "count": len(records),
        "seed": 1,
        "kpis": {name: asdict(kpi) for name, kpi in kpis(records).items()},
        "by_world": {world: {name: asdict(kpi) for name, kpi in group.items()} for world, group in groups.items()},
        "wall_seconds": 90.0,
        "command": ["python", "-m", "benchmark", "run", "--label", "two words"],
        "versions": {"torch": "2.13.0"},
        "trained_on": None,
        "key": "not shown",
        **changes,
    }
    (folder / "kpis.json").write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")
    return folder


class Page(HTMLParser):
    """The elements of a page, its attributes and its visible text; complains about tags that do not match."""

    VOID = frozenset({"meta", "rect", "line", "img", "br"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data


def three_runs(folder: Path) -> list[Path]:
    def outcomes(successes: int) -> list[Trajectory]:
        return [
            made(n, outcome="success" if n < successes else "failure", world="files" if n % 2 else "api")
            for n in range(40)
        ]

    return [
        write_run(folder / name, outcomes(successes)) for name, successes in (("base", 0), ("sft", 25), ("dpo", 24))
    ]


def test_the_page_shows_the_runs_in_order_with_their_changes(tmp_path: Path) -> None:
    write_leaderboard(three_runs(tmp_path), tmp_path / "board")
    page = Page(tmp_path / "board" / "index.html")
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == ["base.html", "sft.html", "dpo.html", "leaderboard.json"]
    assert "0 % (0-9)" in page.text and "63 % (47-76)" in page.text and "60 % (45-74)" in page.text
    assert re.search(r"\+62\.5 points \(\+4\d\.\d to \+7\d\.\d\), a gain", page.text)
    assert re.search(r"-2\.5 points \(-\d\.\d to \+0\.0\), within chance", page.text)
    assert all(title in page.text and meaning in page.text for title, meaning in TITLES.values())
    assert page.text.count("files") == 1 and page.text.count("api") == 1  # one group of bars for each world
    heads = page.source[: page.source.index("</thead>")]
    assert heads.count('<th scope="col"><button type="button">') == len(TITLES) + 4  # keys reach a button by themselves
    values = [
        attributes["data-value"] for tag, attributes in page.tags if attributes.get("data-name") == "Task success"
    ]
    assert values == ["0.0", "0.625", "0.6"]


def test_the_json_holds_the_numbers_of_the_page(tmp_path: Path) -> None:
    runs = three_runs(tmp_path)
    write_leaderboard(runs, tmp_path / "board")
    board = json.loads((tmp_path / "board" / "leaderboard.json").read_text(encoding="utf-8"))["runs"]
    assert [(run["label"], run["page"]) for run in board] == [(name, f"{name}.html") for name in ("base", "sft", "dpo")]
    for run, folder in zip(board, runs, strict=True):
        source = json.loads((folder / "kpis.json").read_text(encoding="utf-8"))
        assert run["kpis"] == source["kpis"] and run["by_world"] == source["by_world"]
    assert board[0]["change"] is None
    assert board[1]["change"]["value"] == 0.625 and board[1]["change"]["n"] == 40 and board[1]["change"]["low"] > 0


def test_the_pages_need_nothing_from_outside_and_run_one_known_script(tmp_path: Path) -> None:
    write_leaderboard(three_runs(tmp_path), tmp_path / "board")
    for path in (tmp_path / "board").glob("*.html"):
        page = Page(path)
        assert not any("src" in attributes or tag == "link" for tag, attributes in page.tags)
        assert "http://" not in page.source and "https://" not in page.source and "url(" not in page.source
        assert any(attributes.get("name") == "viewport" for _, attributes in page.tags)
        assert "prefers-color-scheme: dark" in page.source
        policy = next(attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes) or ""
        scripts = re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)
        assert scripts == ([SORT_SCRIPT] if path.name == "index.html" else [])
        for script in scripts:
            assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
        assert "default-src 'none'" in policy and "script-src 'unsafe-inline'" not in policy


def test_a_transcript_tells_the_whole_story_in_korean_too(tmp_path: Path) -> None:
    told = made(
        1,
        instruction='"메모.txt"를 읽으세요.',
        answer="다 했습니다.",
        why="1 of 2 goals: 결과.txt is missing",
        advice=[
            {"step": 0, "command": "read_file", "input": {"path": "자료/메모.txt"}},
            {"step": 2, "command": None, "answer": "아직입니다."},
        ],
    )
    told.action_sequence[0].text = "먼저 읽겠습니다."
    told.action_sequence[1].output = {"내용": "안녕"}
    write_leaderboard([write_run(tmp_path / "모델", [told])], tmp_path / "board")
    page = Page(tmp_path / "board" / "모델.html")
    story = [
        '"메모.txt"를 읽으세요.',
        "먼저 읽겠습니다.",
        "read_file",
        '"path": "a.txt"',
        "injected: not_found",
        "not found: a.txt",
        'read_file {"path": "자료/메모.txt"}',
        '"path": "b/a.txt"',
        '{"내용": "안녕"}',
        "다 했습니다.",
        "answer: 아직입니다.",
        "success, score 1.0: 1 of 2 goals: 결과.txt is missing",
    ]
    rest = page.text[page.text.index("Transcripts") :]
    for part in story:
        assert part in rest
        rest = rest[rest.index(part) + len(part) :]
    assert "python -m benchmark run --label 'two words'" in page.text


def planted_everywhere(folder: Path) -> Path:
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
        "answer": PLANTED,
        "task": {"id": PLANTED, "world": PLANTED, "facts": {}},
        "score": PLANTED,
        "why": PLANTED,
        "injected": [[0, PLANTED], [PLANTED, PLANTED], PLANTED],
        "policy": PLANTED,
        "advice": [
            {"step": 1, "command": PLANTED, "input": {PLANTED: PLANTED}},
            {"step": 3, "command": None, "answer": PLANTED},
        ],
    }
    return write_run(
        folder,
        [Trajectory.model_validate(row)],
        label=PLANTED,
        model=PLANTED,
        model_hash=PLANTED,
        split=PLANTED,
        command=PLANTED,
        versions={PLANTED: PLANTED},
        trained_on={PLANTED: PLANTED},
    )


def test_nothing_planted_becomes_markup(tmp_path: Path) -> None:
    run = planted_everywhere(tmp_path / "run")
    write_leaderboard([run], tmp_path / "board")
    pages = [Page(path) for path in (tmp_path / "board").glob("*.html")]
    assert len(pages) == 2
    for page in pages:
        assert sum(tag == "script" for tag, _ in page.tags) == page.source.count(SORT_SCRIPT)
        assert not [tag for tag, _ in page.tags if tag == "img"]
        assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    # Everything is still there to be read, in the text of the pages.
    assert sum(page.text.count("<script>alert(1)</script>") for page in pages) >= 30


@pytest.mark.parametrize("label", ["../up", "index", "INDEX", "a/b\\c", "...", "<b>", "한 국어"])
def test_a_label_is_never_a_way_out_of_the_folder(tmp_path: Path, label: str) -> None:
    write_leaderboard([write_run(tmp_path / "run", [made(1)], label=label)], tmp_path / "board")
    names = {path.name for path in (tmp_path / "board").iterdir()}
    assert len(names) == 3 and {"index.html", "leaderboard.json"} < names
    assert {path.name for path in tmp_path.iterdir()} == {"run", "board"}
    assert "Task success by world" in Page(tmp_path / "board" / "index.html").text


def test_many_tasks_are_thinned_evenly_and_long_results_are_cut_aloud(tmp_path: Path) -> None:
    records = [made(number, world="api" if number < 50 else "files") for number in range(100)]
    records[0].action_sequence[1].output = "x" * 10_000
    write_leaderboard([write_run(tmp_path / "run", list(reversed(records)))], tmp_path / "board")
    page = Page(tmp_path / "board" / "run.html")
    shown = re.findall(r"<b>t-(\d+)</b>", page.source)
    assert len(shown) == TRANSCRIPTS and shown == sorted(shown) and sum(int(number) < 50 for number in shown) == 20
    assert f"{TRANSCRIPTS} of 100 tasks" in page.text
    assert "(6000 more characters)" in page.text


def test_runs_of_other_tasks_are_not_compared(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", [made(1), made(2)]), write_run(tmp_path / "b", [made(2), made(3)], seed=2)]
    write_leaderboard(runs, tmp_path / "board")
    page = Page(tmp_path / "board" / "index.html")
    assert "not the same tasks" in page.text and "cannot be compared" in page.text and "points" not in page.text


def test_records_from_elsewhere_and_empty_runs_have_a_page_too(tmp_path: Path) -> None:
    stranger = Trajectory.model_validate(record())
    write_leaderboard([write_run(tmp_path / "a", [stranger]), write_run(tmp_path / "b", [])], tmp_path / "board")
    assert "0 of 0 tasks" in Page(tmp_path / "board" / "b.html").text
    assert "no reason was recorded" in Page(tmp_path / "board" / "a.html").text


def test_bars_stay_within_their_track(tmp_path: Path) -> None:
    write_leaderboard(three_runs(tmp_path), tmp_path / "board")
    page = Page(tmp_path / "board" / "index.html")
    drawn = [
        float(attributes[name] or "") for _, attributes in page.tags for name in ("x1", "x2") if name in attributes
    ]
    drawn += [float(attributes["width"] or "") for tag, attributes in page.tags if tag == "rect"]
    assert len(drawn) > 50 and all(0 <= place <= 100 for place in drawn)


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
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - only the recording is read
    console.print(kpi_table(runs))
    lines = console.export_text().splitlines()
    assert all(label in lines[1] for label in ("base", "sft", "dpo", "[red]한국어[/red]"))
    assert [cell.strip() for cell in lines[3].split("│")[1:4]] == ["Task success", "0 % (0-9)", "63 % (47-76)"]
    assert len(lines) == 4 + len(TITLES)


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


def test_equal_labels_no_runs_and_missing_records_are_told(tmp_path: Path) -> None:
    first, second = (write_run(tmp_path / name, [made(1)], label="same") for name in ("a", "b"))
    with pytest.raises(UserError, match="'same' is taken"):
        write_leaderboard([first, second], tmp_path / "board")
    with pytest.raises(UserError, match="at least one run"):
        write_leaderboard([], tmp_path / "board")
    (first / "trajectories.jsonl").unlink()
    with pytest.raises(UserError, match=r"trajectories\.jsonl: cannot be read"):
        write_leaderboard([first], tmp_path / "board")
