"""The folders of examples/: they are read, their tasks are what they say, their servers keep what their READMEs promise."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

from benchmark.agent.episodes import Episode, Turn, move_to_message, run_tasks
from benchmark.agent.policies import Expert
from benchmark.worlds.asking.world import AskingWorld
from benchmark.worlds.kinds import with_folders
from benchmark.worlds.own.check_tasks import check_task
from benchmark.worlds.own.folder import read_folder
from benchmark.worlds.own.kind import open_kind
from data.chats import Message, ToolCall
from data.records import Outcome, Trajectory

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FOLDERS = sorted(path.parent for path in EXAMPLES.glob("*/world.yaml"))


def values_of(value: Any) -> Iterator[str]:
    """What could be known from training: texts of 4 characters or more, numbers above 999."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key != "$from":
                yield from values_of(each)
    elif isinstance(value, list):
        for each in value:
            yield from values_of(each)
    elif (isinstance(value, str) and len(value) >= 4) or (isinstance(value, int) and value > 999):
        yield str(value)


@pytest.mark.parametrize("path", FOLDERS, ids=lambda path: path.name)
def test_an_example_has_tasks_in_both_languages_held_out_families_and_disjoint_values(path: Path) -> None:
    folder = read_folder(path)
    plain = [row for row in folder.rows if row.user is None]
    train, test = ([row for row in plain if row.split == split] for split in ("train", "test"))
    assert (len(train), len(test)) == (160, 100)
    families = {row.family for row in train}
    assert len(families) >= 6 and {row.family for row in test} - families, "held-out families"
    for rows in (train, test):
        assert min(Counter(row.language for row in rows)[language] for language in ("en", "ko")) >= len(rows) / 5
        assert sum(row.expects is not None for row in rows) <= len(rows) / 5
        assert len({row.instruction for row in rows}) >= 0.95 * len(rows)
    seen = [
        {
            value
            for row in rows
            for call in (*row.setup, *row.solution)
            for value in values_of(call.arguments)
            if value not in row.shared
        }
        for rows in (train, test)
    ]
    assert seen[0] and seen[1] and not seen[0] & seen[1]
    known = {name for name, facts in folder.world.per_tool.items() if facts.read_only}
    assert {call.name for call in folder.world.look} - known <= {"find_files", "read_file"}, "look only reads"


@pytest.mark.parametrize("path", FOLDERS, ids=lambda path: path.name)
def test_the_expert_solves_an_example_in_both_languages_and_repairs_a_fault(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mcp")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # states that are expected are kept there
    kind = open_kind(read_folder(path))
    train = {row.family for row in kind.folder.rows if row.split == "train"}
    tasks = kind.tasks("test", 100, 1)
    unseen = next(task for task in tasks if task.family not in train and task.language == "en" and not task.faults)
    struck = next(task for task in tasks if task.language == "ko" and task.faults and task.tier > 1)
    records = run_tasks(Expert(), [unseen, struck], label="expert", max_steps=30, kinds=with_folders([kind]))
    solved = {record.metadata.group: record for record in records if isinstance(record, Trajectory)}
    assert {each.outcome for each in solved.values()} == {Outcome.SUCCESS} and len(solved) == 2
    assert all(action.error is None for action in solved[unseen.id].action_sequence)
    assert any(action.error for action in solved[struck.id].action_sequence), "the fault was met"
    assert not list(path.rglob("*.db")) and not list(path.rglob("*.new")), "the folder itself stays as it is"


def test_of_the_to_do_list_asking_is_right_and_guessing_refusing_and_asking_too_much_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mcp")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kind = open_kind(read_folder(EXAMPLES / "todo-mcp"))
    first = {task.family: task for task in kind.tasks("test", 45, 1, asking=True)}
    tasks = [first[name] for name in ("ask-due", "ask-which", "ask-delete-no", "impossible")]

    class Saying:
        """The expert; asking nobody, refusing at once, or asking a question more."""

        def __init__(self, how: str) -> None:
            self.how = how

        def act(self, episodes: Sequence[Episode]) -> list[Turn]:
            return [self.turn(episode) for episode in episodes]

        def turn(self, episode: Episode) -> Turn:
            assert isinstance(episode.world, AskingWorld)
            if self.how == "refuses":
                return Message(role="assistant", content="I can't do that. 할 수 없습니다.")
            if self.how == "asks" and not episode.turns:
                call = ToolCall(id="call_0", name="ask_user", arguments={"question": "Anything else?"})
                return Message(role="assistant", tool_calls=(call,))
            world = episode.world._world if self.how == "guesses" else episode.world
            return move_to_message(world.expert(episode.actions))

        def forget(self, episode: Episode) -> None:
            return

    scores: dict[str, dict[str, float]] = {}
    for how in ("guesses", "refuses", "asks"):
        records = run_tasks(Saying(how), tasks, label=how, max_steps=30, kinds=with_folders([kind]))
        told = [(record, record.metadata.model_extra or {}) for record in records]
        scores[how] = {str(extra["task"]["family"]): extra["score"] for _, extra in told}
    nothing = dict.fromkeys((task.family for task in tasks), 0.0)
    assert scores["guesses"] == nothing
    assert scores["refuses"] == {**nothing, "impossible": 1.0}
    assert scores["asks"] == {**dict.fromkeys(nothing, 1.0), "impossible": 0.9}, "a needless question costs"


@pytest.mark.parametrize("path", FOLDERS, ids=lambda path: path.name)
def test_a_task_of_an_example_passes_the_check_of_tasks(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mcp")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kind = open_kind(read_folder(path))
    row = next(row for row in kind.folder.rows if row.split == "test" and row.user is None and len(row.solution) > 1)
    found = check_task(kind, row)
    assert (found.refusals, found.volatile, found.volatile_results, found.not_deterministic) == ([], [], [], "")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.parent.name.replace('-', '_')}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic looks up annotations there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def todo(tmp_path: Path) -> Any:
    """The tools of the to-do server, called in this process: (error?, result) of a call."""
    pytest.importorskip("mcp")
    module = load(EXAMPLES / "todo-mcp" / "server.py")
    shutil.copytree(EXAMPLES / "todo-mcp" / "state", tmp_path / "state")
    module.state = module.open_state(tmp_path / "state")
    tools = {function.__name__: module.function_to_tool(function, hints) for function, hints in module.TOOLS.items()}

    def call(name: str, /, **arguments: Any) -> str:
        result: str = anyio.run(tools[name].run, arguments, None)
        return result

    call.tools = tools  # type: ignore[attr-defined] # the fixture is both
    yield call
    module.state.close()


def test_the_to_do_servers_errors_say_what_to_do_next(todo: Any) -> None:
    from mcp.server.mcpserver.exceptions import ToolError  # noqa: PLC0415 - where it is installed

    assert todo("create_list", name="장보기") == '{"list":"장보기"}'
    assert todo("add_task", list="장보기", title="우유 사기", due="2026-05-04") == '{"id":3}'
    with pytest.raises(ToolError, match="task 3 is not finished; finish_task comes first"):
        todo("delete_task", id=3)
    todo("finish_task", id=3)
    todo("delete_task", id=3)
    with pytest.raises(ToolError, match="no task 3; find_tasks gives the ids"):
        todo("finish_task", id=3)
    with pytest.raises(ToolError, match="no list 'shop'; there are inbox, later, 장보기; create_list makes a new one"):
        todo("move_task", id=1, list="shop")
    assert todo("add_task", list="장보기", title="빵 사기") == '{"id":4}', "the id of a deleted task is given again"
    assert json.loads(todo("find_tasks", text="빵")) == [{"id": 4, "list": "장보기", "title": "빵 사기"}]


def test_the_to_do_servers_tools_are_short_and_say_what_they_change(todo: Any) -> None:
    tools = todo.tools
    assert len(tools) == 8
    shown = json.dumps([[name, tool.description, tool.parameters] for name, tool in tools.items()])
    assert len(shown) < 1800 and "Arguments" not in shown
    assert {name for name, tool in tools.items() if tool.annotations.read_only_hint} == {"show_lists", "find_tasks"}
    assert {name for name, tool in tools.items() if tool.annotations.destructive_hint} == {"delete_task"}


@pytest.fixture
def helpdesk(tmp_path: Path) -> Any:
    """Requests to the helpdesk in this process: (status, body)."""
    pytest.importorskip("fastapi")
    from starlette.testclient import TestClient  # noqa: PLC0415 - where it is installed

    module = load(EXAMPLES / "helpdesk-openapi" / "server.py")
    shutil.copytree(EXAMPLES / "helpdesk-openapi" / "state", tmp_path / "state")
    module.state = module.State(tmp_path / "state" / "helpdesk.json")
    client = TestClient(module.app, headers={"Authorization": f"Bearer {module.KEY}"})

    def ask(method: str, path: str, json: Any = None, **more: Any) -> tuple[int, Any]:
        answer = client.request(method, path, json=json, **more)
        return answer.status_code, answer.json()

    ask.module = module  # type: ignore[attr-defined] # the fixture is both
    return ask


def test_the_helpdesks_document_is_what_its_server_says(helpdesk: Any) -> None:
    written = json.loads((EXAMPLES / "helpdesk-openapi" / "openapi.json").read_text(encoding="utf-8"))
    assert written == helpdesk.module.app.openapi(), (
        "python examples/helpdesk-openapi/server.py --openapi > examples/helpdesk-openapi/openapi.json"
    )


def test_the_helpdesk_has_pages_a_key_and_errors_to_recover_from(helpdesk: Any) -> None:
    for _ in range(4):
        status, made = helpdesk("POST", "/tickets", {"subject": "프린터 고장", "customer": "한빛"})
        assert status == 201
    assert made == {"id": 6}
    status, page = helpdesk("GET", "/tickets", params={"page": 2})
    assert [each["id"] for each in page["tickets"]] == [6] and page["pages"] == 2
    assert helpdesk("GET", "/tickets", headers={"Authorization": "Bearer wrong"})[0] == 401
    assert helpdesk("POST", "/tickets/6/close") == (
        409,
        {"detail": "ticket 6 has no assignee; assign_ticket comes first"},
    )
    assert helpdesk("PUT", "/tickets/6/assignee", {"person": "Kai"}) == (
        409,
        {"detail": "Kai is away; here are Ann, Bo, 민지"},
    )
    assert helpdesk("PUT", "/tickets/6/priority", {"priority": "urgent"})[0] == 422
    assert helpdesk("PUT", "/tickets/6/assignee", {"person": "민지"})[0] == 200
    assert helpdesk("POST", "/tickets/6/close")[1]["status"] == "closed"
    assert helpdesk("GET", "/tickets/9")[0] in (404, 405)
    kept = json.loads(helpdesk.module.state.path.read_text(encoding="utf-8"))["tickets"]
    assert kept[-1]["status"] == "closed", "the state is in its file"
