"""`benchmark init` and `tools`: a folder made around tools, and what a model reads of them."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.runs.run import run_benchmark
from benchmark.worlds.own.tool_names import sounds_destructive, sounds_idempotent, sounds_read_only
from benchmark.worlds.own.toolsets.opening import source_to_toolset
from benchmark.worlds.own.toolsets.toolset import Place
from benchmark.worlds.world import ToolResult
from support.commands import Run
from support.own_tools import TOOLS, Notes, play_notes, write_notes


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
    assert facts["find_note"] == {"read_only": True, "guessed": True}
    assert facts["add_note"] == {
        "read_only": False,
        "idempotent": False,
        "guessed": True,
    }  # a second call adds a second note
    assert facts["change_note"] == {"read_only": False, "guessed": True}
    assert facts["delete_note"] == {"read_only": False, "destructive": True, "idempotent": True, "guessed": True}
    # this server counts its starts in the notes that it adds
    assert world["volatile"] == ["/notes.json/*/at"] and "volatile: " in said
    tasks = [json.loads(line) for line in Path("my notes/tasks.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(tasks) == 3 and {task["split"] for task in tasks} == {"train", "test"}
    code, said, err = run_app("benchmark", "tasks", "check", "my notes", "--workers", "1")  # trusted: it wrote it
    assert code == 0 and "0 refused" in said, said + err
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


ASKED: list[str] = []


class _Remembering(Notes):
    """Notes that stand nowhere in the state, and a count that differs with each reading."""

    def __init__(self, source: object, place: Place) -> None:
        super().__init__(source, replace(place, state=Path()))
        self.file = Path(tempfile.mkdtemp(dir=Path.cwd()), "notes.json")
        self.file.write_text('[{"id": 7, "title": "seed", "text": "옛글", "at": 0}]', encoding="utf-8")

    def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        ASKED.append(name)
        if name == "list_notes":
            return ToolResult(
                json.dumps({"notes": json.loads(self.file.read_text(encoding="utf-8")), "asked_at": len(ASKED)})
            )
        if name == "find_note":  # sounds as if it changed nothing
            return super().call("add_note", {"title": arguments["title"], "text": "found"})
        return super().call(name, arguments)


def test_init_shows_by_calls_what_changes_what_shows_the_state_and_what_differs_by_itself(
    run_app: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.worlds.own.world.source_to_toolset", _Remembering)
    monkeypatch.setattr("benchmark.worlds.own.exploring._PAUSE_SECONDS", 0)
    Path("notes/state").mkdir(parents=True)
    Path("notes/state/nothing.txt").write_text("", encoding="utf-8")
    code, said, err = run_app("benchmark", "init", "notes", "--mcp", "python server.py")
    assert code == 0 and "crash gave no answer to made-up arguments: crashed: it ended" in said, said + err
    world = yaml.safe_load(Path("notes/world.yaml").read_text(encoding="utf-8"))
    assert world["look"] == [{"name": "list_notes"}]
    assert set(world["volatile"]) >= {"/list_notes/asked_at"}
    assert world["per_tool"]["find_note"]["read_only"] is False and world["per_tool"]["list_notes"]["read_only"] is True
    tasks = [json.loads(line) for line in Path("notes/tasks.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(tasks) == 3
    # the way to a note that is there was found by looking
    assert {"name": "change_note", "arguments": {"id": 7, "text": "text-1"}} in [task["solution"][0] for task in tasks]


def test_nothing_that_changes_something_is_called_on_a_server_that_runs_already(
    run_app: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ASKED.clear()
    monkeypatch.setattr("benchmark.worlds.own.world.source_to_toolset", _Remembering)
    monkeypatch.setattr("benchmark.worlds.own.exploring._PAUSE_SECONDS", 0)
    Path("api.json").write_text("{}", encoding="utf-8")
    code, said, err = run_app("benchmark", "init", "new", "--openapi", "api.json", "--base-url", "http://127.0.0.1:9")
    assert code == 0 and "nothing that may change it was called" in said, said + err
    assert set(ASKED) == {"list_notes", "find_note"}  # their source says that they only read


@pytest.mark.parametrize(
    ("name", "reads", "destroys", "same_again"),
    [
        ("read_query", True, None, None),
        ("write_query", False, None, None),
        ("getUserById", True, None, None),
        ("deletePet", False, True, True),
        ("update-list", False, None, True),
        ("git_reset", False, True, None),
        ("메모_목록", False, None, None),
    ],
)
def test_names_of_tools_suggest_what_they_do(
    name: str, reads: bool, destroys: bool | None, same_again: bool | None
) -> None:
    assert (sounds_read_only(name), sounds_destructive(name), sounds_idempotent(name)) == (reads, destroys, same_again)


def test_tools_that_only_read_need_no_state(run_app: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_notes(tmp_path / "notes", tasks=[], look=[], volatile=[])
    world = yaml.safe_load(Path("notes/world.yaml").read_text(encoding="utf-8"))
    del world["state"]
    Path("notes/world.yaml").write_text(yaml.safe_dump(world), encoding="utf-8")
    monkeypatch.setattr("benchmark.worlds.own.world.source_to_toolset", _Remembering)
    code, said, err = run_app("benchmark", "tools", "notes", "--trust")
    assert code == 0 and "6 tools of notes" in said, said + err  # what shows the state may be said later
    assert run_app("benchmark", "tasks", "check", "notes")[0] == 2
    world["per_tool"] = {name: {"read_only": True} for name in TOOLS}
    task = {"id": "q", "split": "test", "instruction": "Who?", "says": ["nobody"], "expects": "no_change"}
    Path("notes/tasks.jsonl").write_text(json.dumps(task) + "\n", encoding="utf-8")
    Path("notes/world.yaml").write_text(yaml.safe_dump(world), encoding="utf-8")
    code, said, err = run_app("benchmark", "run", "--policy", "expert", "--worlds", "./notes", "--out", "a")
    assert code == 0 and "100 %" in said, said + err
    command = json.loads(Path("a/expert/kpis.json").read_text(encoding="utf-8"))["command"]
    assert command == ["python", "-m", "benchmark", "run", "--policy", "expert", "--worlds", "./notes", "--out", "a"]
    # in a notebook there is no command line of ours: what was called is told
    run_benchmark(Path("b"), policy=["expert"], worlds="./notes")
    command = json.loads(Path("b/expert/kpis.json").read_text(encoding="utf-8"))["command"]
    assert command[0] == "benchmark.runs.run.run_benchmark" and {"policy=['expert']", "worlds='./notes'"} < set(command)
