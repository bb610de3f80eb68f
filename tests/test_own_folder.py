"""A folder with the user's own tools, as data: what is read, what is refused and how, tasks from templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.worlds.own.folder import read_folder, schemas
from benchmark.worlds.own.tasks import part_of
from core.errors import UserError
from support.paths import ROOT

WORLD: dict[str, Any] = {
    "name": "shop",
    "tools": [{"mcp": {"command": ["{python}", "server.py"]}}],
    "state": {"dir": "state"},
}
TASK: dict[str, Any] = {
    "id": "a1",
    "split": "train",
    "instruction": "우유를 추가하세요.",
    "solution": [{"name": "add", "arguments": {"title": "우유"}}],
}
FAMILIES: dict[str, Any] = {
    "tasks": {"train": 160, "test": 100},
    "pools": {
        "title": [f"item {number:03d}" for number in range(400)],
        "person": {"train": ["Mina", "Jun"], "test": ["Sora", "Leo"]},
        "number": {"from": 1000, "to": 9999},
        "ticket": [{"id": number, "name": f"ticket-{number}"} for number in range(1000, 1400)],
    },
    "families": [
        {
            "name": f"family-{number}",
            "values": {"title": "title", "who": "person", "n": "number", "t": "ticket"},
            "en": ["Add {title} for {who} ({n}), see {t.name}."],
            "ko": ["{who}에게 {title}을 추가하세요 ({n}, {t.name})."],
            "solution": [
                {"name": "add", "arguments": {"title": "{title}", "n": "{n}", "ticket": "{t.id}", "note": "n={n}"}},
                {"name": "assign", "arguments": {"id": {"$from": [0, "/id"]}, "to": "{who}"}},
            ],
            "held_out": number == 5,
        }
        for number in range(6)
    ],
}


def make(folder: Path, *, world: Any = None, tasks: Any = (TASK,), families: Any = None) -> Path:
    (folder / "state").mkdir(parents=True, exist_ok=True)
    (folder / "world.yaml").write_text(yaml.safe_dump({**WORLD, **(world or {})}, allow_unicode=True), encoding="utf-8")
    lines = "".join(json.dumps(task, ensure_ascii=False) + "\n" for task in tasks)
    (folder / "tasks.jsonl").write_text(lines, encoding="utf-8")
    if families is not None:
        (folder / "families.yaml").write_text(yaml.safe_dump(families, allow_unicode=True), encoding="utf-8")
    return folder


def test_a_folder_is_read(tmp_path: Path) -> None:
    folder = read_folder(make(tmp_path / "shop"))
    assert folder.world.name == "shop" and folder.rows[0].instruction == "우유를 추가하세요."
    assert folder.rows[0].solution[0].arguments == {"title": "우유"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"world": {"name": "files"}}, "one of our worlds"),
        ({"world": {"vollatile": []}}, "vollatile"),
        ({"world": {"state": {"dir": "sate"}}}, "no such folder"),
        ({"world": {"volatile": ["a"]}}, "no JSON Pointer"),
        ({"tasks": [TASK, TASK]}, "tasks.jsonl:2: id 'a1' stands already on line 1"),
        ({"tasks": [{**TASK, "split": "trian"}]}, "tasks.jsonl:1: field 'split'"),
        ({"tasks": [{**TASK, "solution": []}]}, "solution is missing"),
        ({"tasks": [{**TASK, "says": ["3"]}]}, "only where expects: no_change"),
        ({"tasks": [{**TASK, "user": {"persona": "x"}}]}, "user.persona"),
        (
            {"tasks": [{**TASK, "solution": [{"name": "a", "arguments": {"x": {"$from": [0, "/id"]}}}]}]},
            "no earlier one",
        ),
        ({"tasks": [{**TASK, "check": [{"call": "get", "equals": 1, "contains": "a"}]}]}, "exactly one"),
        ({"tasks": [{**TASK, "check": [{"call": "get", "matches": "("}]}]}, "not a regular expression"),
        ({"families": {**FAMILIES, "pools": {}}}, "is unknown"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said.replace("(", r"\(").replace(":", ".")):
        read_folder(make(tmp_path / "shop", **changes))


def test_six_templates_make_160_tasks_whose_values_stand_in_one_split(tmp_path: Path) -> None:
    rows = read_folder(make(tmp_path / "shop", tasks=(), families=FAMILIES)).rows
    train, test = ([row for row in rows if row.split == split] for split in ("train", "test"))
    assert (len(train), len(test)) == (160, 100)
    assert len({row.instruction for row in rows}) == 260
    assert {row.language for row in train} == {"en", "ko"}
    assert {row.family for row in test} - {row.family for row in train} == {"family-5"}
    for name in ("title", "n", "ticket"):
        values = [{row.solution[0].arguments[name] for row in part} for part in (train, test)]
        assert values[0] and values[1] and not values[0] & values[1], name
    arguments = train[0].solution[0].arguments
    assert type(arguments["n"]) is int and arguments["note"] == f"n={arguments['n']}"
    assert str(arguments["n"]) in train[0].instruction and type(arguments["ticket"]) is int
    assert train[0].solution[1].arguments["id"] == {"$from": [0, "/id"]}
    assert read_folder(tmp_path / "shop").rows == rows


def test_pools_that_are_too_small_and_braces_are_told(tmp_path: Path) -> None:
    small = {
        **FAMILIES,
        "pools": {**FAMILIES["pools"], "title": ["one"], "number": ["1"], "ticket": [{"id": 1, "name": "a"}]},
    }
    with pytest.raises(UserError, match=r"pool '(title|number|ticket)' has no value for the split"):
        read_folder(make(tmp_path / "a", families=small))
    wrong = [{**FAMILIES["families"][0], "en": ["Add {titel}."]}]
    with pytest.raises(UserError, match=r"titel} is no value of it. Did you mean 'title'"):
        read_folder(make(tmp_path / "b", families={**FAMILIES, "families": wrong}))
    called = {**FAMILIES, "pools": {**FAMILIES["pools"], "title": {"call": {"name": "list"}, "pointer": "/*/title"}}}
    with pytest.raises(UserError, match="benchmark tasks make"):
        read_folder(make(tmp_path / "c", families=called))
    (tmp_path / "c" / "pools.json").write_text(
        json.dumps({"title": [f"read {n}" for n in range(300)]}), encoding="utf-8"
    )
    assert str(read_folder(tmp_path / "c").rows[-1].solution[0].arguments["title"]).startswith("read ")


def test_the_identity_tells_what_has_changed(tmp_path: Path) -> None:
    folder = make(tmp_path / "shop")
    before = read_folder(folder).identity
    (folder / "state" / "db.json").write_text("{}", encoding="utf-8")
    after = read_folder(folder).identity
    assert {name for name in before if before[name] != after[name]} == {"world"}
    (folder / "check.py").write_text("def check(task, run): return True\n", encoding="utf-8")
    assert {name for name in before if after[name] != read_folder(folder).identity[name]} == {"checks"}
    make(folder, tasks=[{**TASK, "instruction": "Add milk."}])
    assert {name for name in before if before[name] == read_folder(folder).identity[name]} == set()


def test_a_training_tasks_part_depends_on_its_id_alone() -> None:
    parts = [part_of(f"task-{number}") for number in range(2000)]
    shares = {part: parts.count(part) / 2000 for part in ("record", "practice", "validation")}
    assert abs(shares["record"] - 0.6) < 0.04 and abs(shares["practice"] - 0.25) < 0.04


def test_the_schemas_in_docs_are_those_of_the_models() -> None:
    for name, text in schemas().items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, "run python -m benchmark.worlds.own.folder"
