"""`benchmark init` and `tools`: a folder made around tools, and what a model reads of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from benchmark.worlds.own.toolsets.opening import source_to_toolset
from support.commands import Run
from support.own_tools import play_notes, write_notes


@pytest.fixture(autouse=True)
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    play_notes(monkeypatch, tmp_path / "home")
    monkeypatch.chdir(tmp_path)


def test_init_writes_what_it_found_out_and_example_tasks_that_are_good(run_app: Run, tmp_path: Path) -> None:
    write_notes(tmp_path / "my notes")
    for name in ("world.yaml", "tasks.jsonl"):
        (tmp_path / "my notes" / name).unlink()
    code, said, err = run_app("benchmark", "init", "my notes", "--mcp", "python 'my server.py' {state}")
    assert code == 0, said + err
    world = yaml.safe_load(Path("my notes/world.yaml").read_text(encoding="utf-8"))
    assert world["name"] == "my-notes" and world["state"] == {"dir": "state"}
    assert world["tools"] == [{"mcp": {"command": ["{python}", "my server.py", "{state}"]}}]
    facts = world["per_tool"]
    assert facts["find_note"] == {"read_only": True, "guessed": True} and facts["add_note"]["read_only"] is False
    tasks = [json.loads(line) for line in Path("my notes/tasks.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(tasks) == 3 and {task["split"] for task in tasks} == {"train", "test"}
    code, said, err = run_app("benchmark", "tasks", "check", "my notes", "--workers", "1")  # trusted: it wrote it
    refused = [line for line in said.splitlines() if ": refused: " in line]
    # this server counts its starts in the notes that it adds, which is told
    assert all(line.startswith("add_note-1: ") for line in refused) and 'volatile: ["/notes.json/*/at"]' in said, (
        said + err
    )
    code, _, err = run_app("benchmark", "init", "my notes", "--mcp", "python x.py")
    assert code == 2 and "is there already" in err


def test_init_says_what_is_missing(run_app: Run, tmp_path: Path) -> None:
    for arguments, told in (
        ([], "give one of --mcp, --openapi, --python"),
        (["--python", "tools.py"], "expected FILE:CLASS"),
        (["--python", "nowhere.py:Shop"], "there is no such file"),
        (["--openapi", "nowhere.json"], "--base-url URL"),
        (["--mcp", "python 'x"], "not a command line"),
    ):
        code, _, err = run_app("benchmark", "init", "new", *arguments)
        assert code == 2 and told in err, err


def test_tools_shows_what_a_model_reads_and_what_has_changed(run_app: Run, tmp_path: Path) -> None:
    write_notes(tmp_path / "notes", wait=True)
    assert run_app("benchmark", "tools", "notes")[0] == 2  # not trusted yet
    code, said, _ = run_app("benchmark", "tools", "notes", "--trust", "--out", "old.json")
    assert code == 0 and "7 tools of notes" in said and "find_note" in said and "wait" in said
    old = json.loads(Path("old.json").read_text(encoding="utf-8"))
    assert run_app("benchmark", "tools", "notes", "--diff", "old.json")[0] == 0
    before = [each for each in old if each["function"]["name"] != "crash"]
    changed = next(each for each in before if each["function"]["name"] == "change_note")
    changed["function"]["parameters"]["properties"]["body"] = {"type": "string"}
    Path("old.json").write_text(json.dumps(before), encoding="utf-8")
    code, said, _ = run_app("benchmark", "tools", "notes", "--diff", "old.json")
    assert code == 1 and "change_note takes other arguments; 12 tasks use it" in said and "crash is new" in said
    assert "12 of 24 tasks need no tool" in said


SHOP = '''class Shop:
    """A shop."""

    def __init__(self) -> None:
        self.cart: list[str] = []
        self.wanted = "nothing"

    def reset(self, wanted: str = "nothing") -> None:
        self.cart, self.wanted = [], wanted

    def list_cart(self) -> list[str]:
        """What lies in the cart."""
        return self.cart

    def put(self, item: str) -> str:
        """Put an item into the cart."""
        self.cart.append(item)
        return "ok"
'''


def test_a_python_class_becomes_a_world_judged_by_its_state_or_its_own_reward(
    run_app: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.worlds.own.world.source_to_toolset", source_to_toolset)
    Path("shop").mkdir()
    Path("shop/tools.py").write_text(SHOP, encoding="utf-8")
    code, said, err = run_app("benchmark", "init", "shop", "--python", "tools.py:Shop")
    assert code == 0 and "3 example tasks" in said, said + err
    code, said, err = run_app("benchmark", "tasks", "check", "shop", "--workers", "1")
    assert "the solution passes" not in said and "does not pass" not in said, said + err
    code, said, err = run_app("benchmark", "run", "--policy", "expert", "--worlds", "./shop", "--out", "a")
    assert code == 0 and "100 %" in said, said + err

    reward = "\n    def get_reward(self) -> float:\n        return float(self.wanted in self.cart)\n"
    Path("shop/tools.py").write_text(SHOP + reward, encoding="utf-8")
    task = {"id": "t", "split": "test", "instruction": "Put tea.", "row": {"wanted": "tea"}}
    solved = {**task, "id": "s", "solution": [{"name": "put", "arguments": {"item": "tea"}}]}
    Path("shop/tasks.jsonl").write_text(json.dumps(task) + "\n" + json.dumps(solved) + "\n", encoding="utf-8")
    assert run_app("benchmark", "run", "--policy", "say-done", "--worlds", "./shop", "--out", "b")[0] == 2  # other code
    code, said, err = run_app("benchmark", "run", "--policy", "say-done", "--worlds", "./shop", "--trust", "--out", "b")
    kpis = json.loads(Path("b/say-done/kpis.json").read_text(encoding="utf-8"))
    assert kpis["kpis"]["success_rate"]["value"] == 0 and kpis["identity"]["shop"]["judged_by"] == "get_reward", (
        said + err
    )
    code, said, err = run_app("benchmark", "tasks", "check", "shop", "--workers", "1")
    assert ": refused: the solution passes" not in said and "judged by get_reward" in said, said + err
