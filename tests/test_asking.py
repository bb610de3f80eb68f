"""Tasks with a user: what has to be asked, agreed to or refused, and what guessing and asking too much cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from benchmark.agent.episodes import Episode, Turn, move_to_message, open_episode, run_tasks
from benchmark.agent.policies import POLICIES, policy_named
from benchmark.runs.asking_kpis import asking_kpis
from benchmark.runs.replay import replay
from benchmark.worlds.asking.tasks import BASES, CASES
from benchmark.worlds.asking.user import NEEDLESS_COST, Conversation
from benchmark.worlds.asking.world import AskingWorld
from benchmark.worlds.kinds import WORLDS, make_tasks
from benchmark.worlds.world import Task, User
from data.chats import Message, ToolCall
from data.contribution.quality import Replay
from data.records import Outcome, Trajectory
from data.trajectories import trajectory_to_chat
from support.commands import Run

Said = Callable[[Episode], Turn]
TASKS = make_tasks([*WORLDS], "test", 140, 5, asking=True)
"""Every case of every base of every world, some in both languages."""


@pytest.fixture
def bench(run_app: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "200")
    return partial(run_app, "benchmark")


class Saying:
    """A policy that asks a function."""

    def __init__(self, says: Said) -> None:
        self.says = says

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        return [self.says(episode) for episode in episodes]

    def forget(self, episode: Episode) -> None:
        return


def ask(question: str) -> Message:
    return Message(
        role="assistant", tool_calls=(ToolCall(id="call_0", name="ask_user", arguments={"question": question}),)
    )


def expert(episode: Episode) -> Message:
    return move_to_message(episode.world.expert(episode.actions))


def guess(episode: Episode) -> Message:
    """What somebody does who knows everything and asks nobody."""
    assert isinstance(episode.world, AskingWorld)
    return move_to_message(episode.world._world.expert(episode.actions))


def ask_always(question: str) -> Said:
    return lambda episode: ask(question) if episode.turns == 0 else expert(episode)


def refuse(episode: Episode) -> Message:
    return Message(
        role="assistant", content="죄송하지만 할 수 없습니다." if episode.task.language == "ko" else "Sorry, I can't."
    )


def extra(record: Trajectory, name: str) -> Any:
    return (record.metadata.model_extra or {})[name]


def case_of(record: Trajectory) -> str:
    return str(extra(record, "asking")["case"])


def run(says: Said, tasks: Sequence[Task] = TASKS) -> list[Trajectory]:
    return list(run_tasks(Saying(says), tasks, label="x", max_steps=40))


def test_the_expert_asks_what_is_needed_refuses_what_must_be_refused_and_its_records_replay() -> None:
    records = run(expert)
    assert {(extra(r, "task")["world"], case_of(r)) for r in records} == {(w, case) for w in WORLDS for case in CASES}
    assert {record.metadata.language for record in records} == {"en", "ko"}
    for record in records:
        assert record.outcome is Outcome.SUCCESS, (record.id, extra(record, "why"))
        again = replay(Trajectory.model_validate_json(record.to_json()))
        assert isinstance(again, Replay) and again.ok, again
        asked = sum(action.command == "ask_user" for action in record.action_sequence)
        assert asked == len(extra(record, "task")["user"]["questions"]) == extra(record, "asking")["needed"]
        chat = trajectory_to_chat(record)
        assert "ask_user" in str(chat) if asked else True
    kpis = asking_kpis(records)
    assert [kpis[name].value for name in kpis] == [1.0, 0.0, 1.0, 0.0, 1.0]
    assert all(kpi.low is not None and kpi.n > 30 for kpi in kpis.values())


def test_what_must_be_asked_stands_nowhere_else() -> None:
    for task in TASKS:
        assert task.user is not None
        values = [*task.user.knows.values(), *task.user.changes.values()]
        if task.user.case in ("missing", "mind"):
            assert values and not any(value in task.instruction + task.system for value in values), task.id
        if task.user.case == "ambiguous":
            assert values[0] in task.instruction
        with open_episode(task, label="x").world as world:
            assert isinstance(world, AskingWorld)
            for tool in task.tools:
                if not tool.function.parameters["properties"]:
                    text = str(world.call(tool.function.name, {}))
                    assert task.user.case not in ("missing", "mind") or not any(value in text for value in values)


def test_guessing_scores_nothing_even_where_the_guess_is_right() -> None:
    for record in run(guess):
        if extra(record, "task")["user"]["questions"]:
            assert extra(record, "score") == 0, (record.id, extra(record, "why"))
        elif case_of(record) == "known":
            assert record.outcome is Outcome.SUCCESS


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "expert"])
def test_trivial_policies_gain_nothing_but_by_refusing(policy: str) -> None:
    for record in run_tasks(policy_named(policy), TASKS, label="x", max_steps=6):
        may = policy == "say-no-tool" and case_of(record) in ("impossible", "forbidden")
        assert extra(record, "score") == 0 or may, (record.id, extra(record, "why"))


def test_refusing_always_is_right_only_where_it_is() -> None:
    records = run(refuse)
    for record in records:
        assert (extra(record, "score") == 1) == (case_of(record) in ("impossible", "forbidden"))
    kpis = asking_kpis(records)
    assert kpis["right_refusals"].value == kpis["wrong_refusals"].value == 1.0 and kpis["needed_questions"].value == 0.0


@pytest.mark.parametrize(
    "question", ["잠깐, 한 가지만 확인하겠습니다. 어떻게 할까요?", "Before I start - could you tell me more?"]
)
def test_a_question_in_other_words_is_answered_and_a_needless_one_costs(question: str) -> None:
    for record in run(ask_always(question)):
        user, asking = extra(record, "task")["user"], extra(record, "asking")
        needless = 0 if user["questions"] else 1
        assert (asking["needed"], asking["needless"]) == (len(user["questions"]), needless), record.id
        assert extra(record, "score") == pytest.approx(1 - NEEDLESS_COST * needless), (record.id, extra(record, "why"))


@pytest.mark.parametrize(
    ("language", "slot", "told", "question", "other"),
    [
        ("en", "the name of the note", "the text of the note", "What is the text of the note?", "And the name?"),
        ("ko", "노트 이름", "노트 내용", "노트 내용을 알려 주세요", "이름은요?"),
    ],
)
def test_asking_for_what_was_told_is_needless_and_tells_nothing(
    language: Literal["en", "ko"], slot: str, told: str, question: str, other: str
) -> None:
    talk = Conversation(User("missing", ("save_note",), knows={slot: "lion"}, told=(told,)), language)
    assert "lion" not in talk.ask(question) and (talk.needed, talk.needless) == (0, 1)
    assert "lion" in talk.ask(other) and (talk.needed, talk.needless) == (1, 1) and talk.is_over
    assert "lion" not in talk.ask(other) and (talk.needed, talk.needless) == (1, 2)


def test_a_change_of_mind_counts() -> None:
    for record in run(expert, [task for task in TASKS if task.user and task.user.case == "mind"]):
        user = extra(record, "task")["user"]
        [before], [after] = user["knows"].values(), user["changes"].values()
        answers = [str(a.output) for a in record.action_sequence if a.command == "ask_user"]
        assert before in answers[0] and after in answers[1] and before != after
        done = json.dumps([a.input for a in record.action_sequence if a.command != "ask_user"], ensure_ascii=False)
        assert after in done and before not in done


def test_a_question_that_is_none_is_an_error() -> None:
    with open_episode(TASKS[0], label="x").world as world:
        for arguments, told in (
            ({}, "argument 'question' is missing"),
            ({"qestion": "x"}, "has no argument 'qestion'. Did you mean 'question'?"),
            ({"question": 3}, "must be string, got 3"),
            ({"question": "?!"}, "must be a question"),
        ):
            assert told in str(world.call("ask_user", arguments).error)
        assert world.verdict().asking == {"case": TASKS[0].user.case, "needed": 0, "needless": 0, "refused": False}  # type: ignore[union-attr]


def test_train_and_test_share_no_case_that_is_held_out_and_no_value() -> None:
    train = make_tasks([*WORLDS], "train", 140, 5, asking=True)
    of_train, of_test = ({(task.world, task.family) for task in tasks} for tasks in (train, TASKS))
    assert len(of_test - of_train) == 2 * len(WORLDS) and of_train < of_test
    values = [{value for task in tasks for value in _values(task)} for tasks in (train, TASKS)]
    assert values[0] and not values[0] & values[1]
    again = make_tasks([*WORLDS], "train", 70, 5, asking=True)
    assert again == train[:70]
    assert WORLDS["api"].task(train[2].id) == train[2]


def _values(task: Task) -> list[str]:
    assert task.user is not None
    return [*task.user.knows.values(), *task.user.changes.values()]


def test_the_commands_draw_them_only_when_asked_to_and_tell_the_numbers(bench: Run, tmp_path: Path) -> None:
    run = ["run", "--policy", "expert", "--policy", "say-no-tool", "--count", 35, "--out"]
    code, out, err = bench(*run, tmp_path / "asking", "--asking")
    assert (code, err) == (0, "") and "Needed questions asked" in out
    told = json.loads((tmp_path / "asking" / "expert" / "kpis.json").read_text())
    assert told["asking"] is True and told["asking_kpis"]["right_refusals"]["value"] == 1.0
    folders = [tmp_path / "asking" / name for name in ("expert", "say-no-tool")]
    code, out, _ = bench("leaderboard", *folders, "--out", tmp_path / "board")
    assert code == 0 and "Refused where that is right" in out
    assert "Needless questions a task" in (tmp_path / "board" / "index.html").read_text()
    assert "Refused where that is wrong" in bench("failures", folders[1])[1]
    assert bench(*run, tmp_path / "plain")[0] == 0
    assert json.loads((tmp_path / "plain" / "expert" / "kpis.json").read_text())["asking_kpis"] == {}
    assert "ask_user" not in (tmp_path / "plain" / "expert" / "trajectories.jsonl").read_text()
    code, _, err = bench(
        "run", "--policy", "expert", "--short", "--asking", "--worlds", "files", "--out", tmp_path / "x"
    )
    assert code == 2 and "leave one out" in err
    assert bench("record", "--count", 70, "--asking", "--out", tmp_path / "r.jsonl")[0] == 0
    code, out, _ = bench("replay", tmp_path / "r.jsonl")
    assert code == 0, out


IN_OTHER_WORDS = {
    "the path of the file": [
        "Where should I save it?",
        "Which file do you mean?",
        "What should the file be called?",
        "To what location?",
    ],
    "the text": ["What should it say?", "What do you want me to write?", "What content goes in?", "Which words?"],
    "the new path": ["Where to?", "What is the destination?", "What should it be renamed to?", "Which folder?"],
    "the name of the note": ["What shall I call the note?", "Under which title?", "How should it be named?"],
    "the text of the note": ["What should the note say?", "What do I write in it?", "Which content?"],
    "the name to sign up": ["Who should I register?", "For whom?", "Which person is it?"],
    "the address": ["Which page should I open?", "What is the URL?", "Where should I go?"],
    "the city": ["Where does it go?", "Which town?", "Where should it be delivered?"],
    "the item": ["What would you like to order?", "Which product?", "What should I buy?"],
    "the customer": ["Who is it for?", "Whose order is it?", "Which client?"],
    "the file for the output": [
        "Where should the output go?",
        "What file should I write to?",
        "Where do I store the result?",
    ],
    "the name of the file": ["What should I call it?", "Which filename?", "Where should the code go?"],
    "파일 경로": ["어디에 저장할까요?", "어느 파일인가요?", "파일 이름을 알려 주세요"],
    "쓸 내용": ["뭐라고 쓸까요?", "무엇을 적을까요?", "본문은요?"],
    "새 경로": ["어디로 옮길까요?", "새 이름은 무엇인가요?"],
    "노트 이름": ["제목을 뭐로 할까요?", "노트를 뭐라고 부를까요?"],
    "노트 내용": ["노트에 뭐라고 쓸까요?", "무엇을 적을까요?"],
    "등록할 이름": ["누구를 등록할까요?", "어느 분인가요?"],
    "주소": ["어느 페이지를 열까요?", "링크가 무엇인가요?"],
    "도시": ["어디로 보낼까요?", "어느 도시인가요?"],
    "주문할 물건": ["무엇을 주문할까요?", "어떤 상품이요?", "뭘 사 드릴까요?"],
    "고객 이름": ["누구 주문인가요?", "누구를 위한 것인가요?"],
    "출력을 쓸 파일": ["결과를 어디에 쓸까요?", "어느 파일에 저장하나요?"],
    "파일 이름": ["뭐라고 이름 지을까요?", "어디에 만들까요?"],
}


@pytest.mark.parametrize("world", BASES)
def test_every_value_of_every_world_is_told_to_whoever_asks_for_it_in_other_words(world: str) -> None:
    languages: tuple[Literal["en", "ko"], ...] = ("en", "ko")
    for base in BASES[world]:
        for at, language in enumerate(languages):
            labels = [told[at] for told in base.slots.values()]
            for label in labels:
                others = tuple(each for each in labels if each != label)
                for question in IN_OTHER_WORDS[label]:
                    talk = Conversation(User("missing", base.acts, knows={label: "lion"}, told=others), language)
                    assert "lion" in talk.ask(question) and (talk.needed, talk.needless) == (1, 0), (label, question)
