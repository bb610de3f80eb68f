"""A class of a folder as tools, and its check: each in a process where the folder comes first and we are not found."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmark.worlds.own.sources import PythonSource
from benchmark.worlds.own.toolsets.opening import source_to_toolset
from benchmark.worlds.own.toolsets.python import STATE, run_check
from benchmark.worlds.own.toolsets.toolset import Place, ServersFault, Toolset
from benchmark.worlds.world import ToolResult

SHOP = '''
import sys, os
from dataclasses import dataclass
from typing import Literal, Optional
import data  # the folder's own, whatever else is called so

print("a line on standard output")

@dataclass
class Order:
    name: str
    count: int = 1

class Base:
    def inherited(self) -> str:
        """From the base."""
        return "base"

class Shop(Base):
    def __init__(self):
        self.orders = []

    def reset(self, **row):
        self.orders = list(row.get("orders", []))

    def get_reward(self) -> float:
        return len(self.orders) / 2

    def order(self, name: str, count: int = 1, size: Literal["작은", "large"] = "large", schema: Optional[dict] = None):
        """Order something.

        It is noted at once.

        Args:
            name: What to order,
                in one word.
            count (int): How many.

        Returns:
            The order.
        """
        if count < 1:
            raise ValueError("count must be 1 or more")
        print("ordered", name)
        self.orders.append(name)
        return Order(name, count)

    @staticmethod
    def place() -> dict:
        return {"path": sys.path[0], "cwd": os.getcwd(), "data": data.__file__, "names": sorted(os.environ)}

    def ours(self) -> list:
        found = []
        for name in ("benchmark", "core", "train", "tooltune"):
            try:
                __import__(name)
                found.append(name)
            except ImportError:
                pass
        return found

    async def later(self) -> tuple:
        return (1, float("nan"), "half \\ud800")

    def leave(self) -> None:
        os._exit(7)

    def sleep(self) -> None:
        import time
        time.sleep(60)

    def _private(self) -> None: ...
'''


@contextmanager
def opened(folder: Path, code: str = SHOP, **place: object) -> Iterator[Toolset]:
    (folder / "tools.py").write_text(textwrap.dedent(code), encoding="utf-8")
    (folder / "data.py").write_text("")
    where = Place(folder=folder, **{"timeout_s": 30, **place})  # type: ignore[arg-type]  # of whichever field
    toolset = source_to_toolset(PythonSource(python="tools.py:Shop"), where)
    try:
        toolset.open()
        yield toolset
    finally:
        toolset.close()


def test_typed_public_methods_become_tools(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with opened(tmp_path, state=state, row={"id": "t1", "orders": ["tea"]}) as toolset:
        tools = {tool.function.name: tool.function for tool in toolset.tools}
        assert list(tools) == ["inherited", "order", "place", "ours", "later", "leave", "sleep"]
        assert tools["order"].description == "Order something.\n\nIt is noted at once."
        order = tools["order"].parameters
        assert order["required"] == ["name"] and order["additionalProperties"] is False
        assert order["properties"] == {
            "name": {"type": "string", "description": "What to order, in one word."},
            "count": {"type": "integer", "default": 1, "description": "How many."},
            "size": {"type": "string", "enum": ["작은", "large"], "default": "large"},
            "schema": {"anyOf": [{"type": "object", "additionalProperties": True}, {"type": "null"}], "default": None},
        }
        toolset.reset()
        assert toolset.call("order", {"name": "책", "count": 2}) == ToolResult({"name": "책", "count": 2})
        assert toolset.call("order", {"name": "x", "count": 0}).error == "count must be 1 or more"
        assert "count" in str(toolset.call("order", {"name": "x", "count": "many"}).error)
        assert toolset.call("later", {}).output == [1, "nan", "half ?"] and toolset.call(STATE, {}).output == {
            "orders": ["tea", "책"]
        }
        assert toolset.reward() == 1.0
        place = toolset.call("place", {}).output
        assert isinstance(place, dict)
        assert (place["path"], place["cwd"], place["data"]) == (str(tmp_path), str(state), str(tmp_path / "data.py"))
        assert set(place["names"]) <= {"PATH", "HOME", "LANG", "TMPDIR", "LC_CTYPE"}
        assert toolset.call("ours", {}).output == []
        with pytest.raises(ServersFault, match=r"crashed: .* exit code 7"):
            toolset.call("leave", {})
        with pytest.raises(ServersFault, match="crashed"):
            toolset.call("inherited", {})
    assert not (tmp_path / "__pycache__").exists()


@pytest.mark.parametrize(
    "code, reason, words",
    [
        ("x = 1\nraise KeyError('no luck')", "broke", r"tools.py:2: KeyError: 'no luck'"),
        ("class Shp: ...", "broke", "no class Shop, there are: Shp"),
        ("class Shop:\n    def __init__(self, key): ...", "broke", "key"),
        ("import os; os._exit(3)", "crashed", "exit code 3"),
        ("class Shop:\n  def", "broke", "SyntaxError"),
    ],
)
def test_code_that_cannot_be_used_is_told_with_its_line(code: str, reason: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ServersFault, match=words) as fault, opened(tmp_path, code):
        pass
    assert fault.value.reason == reason


@pytest.mark.parametrize(
    ("parameters", "row", "given"),
    [
        ("id, instruction='-'", {}, {"id": "t1", "instruction": "차 한 잔"}),
        ("orders=()", {"orders": ["tea"]}, {"orders": ["tea"]}),
        ("**row", {"orders": []}, {"id": "t1", "instruction": "차 한 잔", "orders": []}),
        ("**row", {"id": "own"}, {"id": "own", "instruction": "차 한 잔"}),
        ("", {}, {}),
    ],
)
def test_reset_gets_the_fields_of_the_task_that_it_names(
    parameters: str, row: dict[str, object], given: dict[str, object], tmp_path: Path
) -> None:
    code = f"class Shop:\n    def reset(self, {parameters}):\n        self.given = dict(locals())\n"
    code += "        self.given.pop('self')\n        self.given.update(self.given.pop('row', {}))\n"
    task = {"id": "t1", "instruction": "차 한 잔"}
    with opened(tmp_path, code, task=task, row=row) as toolset:
        toolset.reset()
        told = toolset.call(STATE, {}).output
        assert told == {"given": given}


def test_a_row_whose_field_reset_does_not_take_is_told(tmp_path: Path) -> None:
    code = "class Shop:\n    def reset(self, orders=()):\n        pass\n"
    with opened(tmp_path, code, row={"ordrs": []}) as toolset, pytest.raises(ServersFault, match="ordrs"):
        toolset.reset()


def test_a_method_that_does_not_end_is_late(tmp_path: Path) -> None:
    with opened(tmp_path, timeout_s=3) as toolset, pytest.raises(ServersFault, match="late: "):
        toolset.call("sleep", {})


TOOLKIT = '''
from typing import Dict
from loguru import logger
from tau2.domains.shop.data_model import ShopDB, User
from tau2.environment.toolkit import ToolKitBase, ToolType, is_tool
from tau2.utils.text_match import fold_for_match

class Shop(ToolKitBase):
    db: ShopDB

    def __init__(self, db: ShopDB) -> None:
        super().__init__(db)

    def helper(self): ...

    @is_tool(ToolType.READ)
    def get_user(self, user_id: str) -> User:
        """Get a user.

        Args:
            user_id: Such as 'mina_1'.
        """
        logger.debug("asked")
        return self.db.users[user_id]

    @is_tool(ToolType.WRITE)
    def rename(self, user_id: str, user: User | dict) -> str:
        """Rename a user."""
        self.db.users[user_id] = user if isinstance(user, User) else User(**user)
        return fold_for_match("Álvaro")
'''
DATA_MODEL = """
from typing import Dict
from pydantic import Field
from tau2.environment.db import DB
from tau2.utils.pydantic_utils import BaseModelNoExtra

class User(BaseModelNoExtra):
    name: str = Field(description="Name")

class ShopDB(DB):
    users: Dict[str, User]
"""


def test_a_toolkit_of_tau2_runs_without_tau2(tmp_path: Path) -> None:
    (tmp_path / "data_model.py").write_text(DATA_MODEL)
    (tmp_path / "db.json").write_text('{"users": {"mina_1": {"name": "미나"}}}', encoding="utf-8")
    with opened(tmp_path, TOOLKIT) as toolset:
        assert [tool.function.name for tool in toolset.tools] == ["get_user", "rename"]
        assert (toolset.hints["get_user"].read_only, toolset.hints["rename"].read_only) == (True, False)
        assert toolset.call("get_user", {"user_id": "mina_1"}).output == {"name": "미나"}
        assert toolset.call("rename", {"user_id": "mina_1", "user": {"name": "Min"}}).output == "alvaro"
        assert toolset.call(STATE, {}).output == {"users": {"mina_1": {"name": "Min"}}}
        assert toolset.call("get_user", {"user_id": "nobody"}).error == "'nobody'"


def checked(folder: Path, body: str, timeout_s: float = 20) -> object:
    (folder / "check.py").write_text(textwrap.dedent(body), encoding="utf-8")

    def call(name: str, arguments: dict[str, object]) -> ToolResult:
        return (
            ToolResult(output={"n": 2, **arguments}) if name == "count" else ToolResult(error=f"unknown tool {name!r}")
        )

    actions = [{"command": "count", "input": {}, "output": 2, "error": None}]
    return run_check(Place(folder, timeout_s=timeout_s), {"id": "t1"}, answer="둘", actions=actions, call=call)


def test_a_check_asks_the_world_and_says_what_holds(tmp_path: Path) -> None:
    goals = """
        def check(task, run):
            print("looking")
            found = run.call("count", {"of": "a"}, kind="b")
            goal = ("counted", found == {"n": 2, "of": "a", "kind": "b"}, "")
            return [goal, (task["id"] + run.answer, False, run.actions[0].command)]
    """
    assert checked(tmp_path, goals) == [("counted", True, ""), ("t1둘", False, "count")]
    assert checked(tmp_path, "def check(task, run): return task.id == 't1'") == [("check", True, "")]
    assert checked(tmp_path, "def check(task, run): return 0.25") == 0.25
    caught = """
        def check(task, run):
            try:
                run.call("nothing")
            except Exception as error:
                return [("told", str(error) == "unknown tool 'nothing'", "")]
    """
    assert checked(tmp_path, caught) == [("told", True, "")]


@pytest.mark.parametrize(
    "body, words",
    [
        ("def check(task, run):\n    return task['nothing']", r"broke: check.py:2: KeyError"),
        ("def check(task, run): return 'yes'", 'broke: .* got "yes"'),
        ("def check(task, run): return 2", "broke: .* got 2"),
        ("def check(task, run): run.call('nothing')", "broke: check.py:1: CallError: unknown tool"),
        ("def chek(task, run): return True", "broke: .*check"),
        ("import os\ndef check(task, run): os.abort()", "crashed: .*signal 6"),
        ("def check(task, run):\n    while True: pass", "late: "),
    ],
)
def test_a_check_that_fails_is_nobodys_score(body: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ServersFault, match=words):
        checked(tmp_path, body, timeout_s=2 if "while" in body else 20)
