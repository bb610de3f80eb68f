"""A folder's tasks with a user: what has to be asked, agreed to or refused, and what guessing and asking too much cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from benchmark.agent.episodes import Episode, Turn, move_to_message, run_tasks
from benchmark.agent.policies import policy_named
from benchmark.runs.asking_kpis import asking_kpis
from benchmark.runs.replay import replay
from benchmark.worlds.asking.user import NEEDLESS_COST, Conversation
from benchmark.worlds.asking.world import AskingWorld
from benchmark.worlds.own.check_tasks import check_task
from benchmark.worlds.own.check_together import check_together
from benchmark.worlds.own.folder import read_folder
from benchmark.worlds.own.kind import OwnKind
from benchmark.worlds.world import Answer, User
from core.errors import UserError
from data.chats import Message, ToolCall
from data.contribution.quality import Replay
from data.records import Outcome, Trajectory
from support.commands import Run
from support.own_tools import TASKS, open_notes, play_notes, write_notes

CHANGE = [
    {"name": "find_note", "arguments": {"title": "seed"}},
    {"name": "change_note", "arguments": {"id": {"$from": ["find_note", "/id"]}, "text": "lion"}},
]
DELETE = [CHANGE[0], {"name": "delete_note", "arguments": {"id": {"$from": [0, "/id"]}}}]
ROWS: dict[str, dict[str, Any]] = {
    "missing": {
        "instruction": "Change the note 'seed'; I know the new words.",
        "solution": CHANGE,
        "user": {"knows": {"new words": "lion"}},
    },
    "said": {
        "instruction": "노트 'seed'를 바꾸세요.",
        "language": "ko",
        "solution": CHANGE,
        "user": {
            "answers": [{"when": ["내용", "words"], "say": "lion이라고 쓰세요."}, {"when": "색", "say": "파란색이요."}],
            "otherwise": "몰라요.",
        },
    },
    "confirm": {
        "instruction": "Delete the note 'seed'. Ask me before.",
        "solution": DELETE,
        "user": {"confirms": ["delete_note"]},
    },
    "declined": {
        "instruction": "Delete the note 'seed'. Ask me before.",
        "expects": "no_change",
        "user": {"confirms": ["delete_note"], "answers": [{"when": "delete_note", "say": "No, keep it!"}]},
    },
    "mind": {
        "instruction": "Change the note 'seed'. Ask me what to, and once more before you do it.",
        "solution": CHANGE,
        "user": {
            "knows": {"text": "tiger"},
            "changes_mind_after": 1,
            "changes": {"text": "lion"},
            "confirms": ["change_note"],
        },
    },
    "impossible": {"instruction": "Sing the note 'seed'.", "expects": "no_change", "user": {}},
    "forbidden": {
        "instruction": "Delete the note 'seed'.",
        "expects": "no_change",
        "user": {},
        "policy": "No note may be deleted.",
    },
    "told": {
        "instruction": "Change the note 'seed' to 'lion'.",
        "solution": CHANGE,
        "user": {},
        "policy": "No note may be deleted.",
    },
    "later": {
        "instruction": "Add a note 'plan' that says 'go', then change 'seed'; I know the words.",
        "solution": [{"name": "add_note", "arguments": {"title": "plan", "text": "go"}}, *CHANGE],
        "user": {"knows": {"words of seed": "lion"}},
    },
}
TASKS_WITH_USERS = [
    {"id": name, "split": "test", "family": name, "shared": ["seed"], **row} for name, row in ROWS.items()
]
WITH_QUESTIONS = ("missing", "said", "confirm", "declined", "mind", "later")


@pytest.fixture(autouse=True)
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    play_notes(monkeypatch, tmp_path / "home")


@pytest.fixture
def kind(tmp_path: Path) -> OwnKind:
    return open_notes(tmp_path / "notes", tasks=[*TASKS, *TASKS_WITH_USERS])


def ask(question: str) -> Message:
    call = ToolCall(id="call_0", name="ask_user", arguments={"question": question})
    return Message(role="assistant", tool_calls=(call,))


def do(name: str, **arguments: Any) -> Message:
    return Message(role="assistant", tool_calls=(ToolCall(id="call_0", name=name, arguments=arguments),))


def said(*turns: Message) -> Callable[[Episode], Turn]:
    last = Message(role="assistant", content="Done.")
    return lambda episode: [*turns, last][min(episode.turns, len(turns))]


def expert(episode: Episode) -> Message:
    return move_to_message(episode.world.expert(episode.actions))


def guess(episode: Episode) -> Message:
    """What somebody does who knows everything and asks nobody."""
    assert isinstance(episode.world, AskingWorld)
    return move_to_message(episode.world._world.expert(episode.actions))


def run(kind: OwnKind, says: Callable[[Episode], Turn], *names: str) -> dict[str, dict[str, Any]]:
    """What the records say, by task."""

    class Saying:
        def act(self, episodes: Sequence[Episode]) -> list[Turn]:
            return [says(episode) for episode in episodes]

        def forget(self, episode: Episode) -> None:
            return

    tasks = [task for name in names or ROWS if (task := kind.task(name)) is not None]
    records = list(run_tasks(Saying(), tasks, label="x", kinds={kind.name: kind}, max_steps=20))
    for record in records:
        again = replay(Trajectory.model_validate_json(record.to_json()), {kind.name: kind})
        assert isinstance(again, Replay) and again.ok, again
    return {str(record.metadata.group): {"record": record, **(record.metadata.model_extra or {})} for record in records}


def test_the_expert_asks_and_solves_and_its_records_replay(kind: OwnKind) -> None:
    told = run(kind, expert)
    assert told.keys() == ROWS.keys()
    for name, each in told.items():
        assert each["record"].outcome is Outcome.SUCCESS, (name, each["why"])
        asked = [str(a.output) for a in each["record"].action_sequence if a.command == "ask_user"]
        assert len(asked) == each["asking"]["needed"] == (name == "mind") + (name in WITH_QUESTIONS)
    answers = {
        name: [str(a.output) for a in each["record"].action_sequence if a.command == "ask_user"]
        for name, each in told.items()
    }
    assert answers["declined"] == ["No, keep it!"] and answers["said"] == ["lion이라고 쓰세요."]
    assert "tiger" in answers["mind"][0] and "lion" in answers["mind"][1]
    assert told["forbidden"]["record"].metadata.system.endswith("Policy: No note may be deleted.")
    assert told["forbidden"]["asking"] == {"case": "forbidden", "needed": 0, "needless": 0, "refused": True}
    kpis = asking_kpis([each["record"] for each in told.values()])
    assert [kpis[name].value for name in kpis] == [1.0, 0.0, 1.0, 0.0, 1.0] and kpis["needed_questions"].n == 7


def test_guessing_scores_nothing_even_where_the_guess_is_right(kind: OwnKind) -> None:
    for name, each in run(kind, guess, "missing", "said", "confirm", "mind", "later", "told").items():
        assert each["score"] == (name == "told"), (name, each["why"])
    told = run(kind, said(do("delete_note", id=1)), "declined", "forbidden")
    assert [each["score"] for each in told.values()] == [0, 0]
    late = said(do("change_note", id=1, text="lion"), ask("What are the new words?"))
    assert run(kind, late, "missing")["missing"]["score"] == 0


def test_what_needs_no_answer_may_come_before_the_question(kind: OwnKind) -> None:
    first = said(do("add_note", title="plan", text="go"), ask("Which words?"), do("change_note", id=1, text="lion"))
    assert run(kind, first, "later")["later"]["score"] == 1
    # Of a tool of which nobody knows that it only reads, the state tells it.
    unknown = said(do("delete_note", id=99), ask("Which words?"), do("change_note", id=1, text="lion"))
    assert run(kind, unknown, "missing")["missing"]["score"] == 1


def test_refusing_is_right_only_where_it_is_and_asking_always_costs(kind: OwnKind) -> None:
    def refuse(episode: Episode) -> Message:
        return Message(
            role="assistant", content="죄송하지만 할 수 없습니다." if episode.turns % 2 else "I can't do that."
        )

    told = run(kind, refuse)
    assert {name for name, each in told.items() if each["score"]} == {"impossible", "forbidden"}
    kpis = asking_kpis([each["record"] for each in told.values()])
    assert kpis["right_refusals"].value == kpis["wrong_refusals"].value == 1.0 and kpis["needed_questions"].value == 0.0
    told = run(kind, lambda episode: ask("Could you tell me more?") if episode.turns == 0 else expert(episode))
    for name, each in told.items():
        assert each["score"] == pytest.approx(1 - NEEDLESS_COST * (name not in WITH_QUESTIONS)), (name, each["why"])
    for policy in ("say-done", "echo", "same-tool"):
        tasks = [task for name in ROWS if (task := kind.task(name)) is not None]
        for record in run_tasks(policy_named(policy), tasks, label="x", kinds={kind.name: kind}, max_steps=4):
            assert (record.metadata.model_extra or {})["score"] == 0, (policy, record.id)


def test_a_declined_act_and_an_answer_from_the_script(kind: OwnKind) -> None:
    colour = run(kind, said(ask("무슨 색이 좋아요?"), ask("날씨는 어때요?"), ask("내용을 알려 주세요")), "said")["said"]
    answers = [str(action.output) for action in colour["record"].action_sequence]
    assert answers == ["파란색이요.", "몰라요.", "lion이라고 쓰세요."] and colour["asking"]["needless"] == 2
    told = run(kind, said(ask("Shall I delete it?")), "declined")["declined"]
    assert told["score"] == 1 and told["asking"]["refused"] is False


KNOWS = {"en": ("due date", "list", "title"), "ko": ("마감일", "목록", "제목")}


@pytest.mark.parametrize(
    ("language", "question"),
    [
        ("en", "When does it have to be finished?"),
        ("en", "By what day do you need this?"),
        ("en", "I do not know the deadline yet - could you tell me?"),
        ("en", "Could you give me the missing piece of information?"),
        ("en", "Which dueDate shall I use?"),
        ("ko", "언제까지 하면 될까요?"),
        ("ko", "기한이 어떻게 되나요?"),
        ("ko", "며칠로 설정할까요?"),
        ("ko", "빠진 정보를 알려 주시겠어요?"),
    ],
)
def test_a_value_is_told_to_whoever_asks_for_it_in_other_words(language: Literal["en", "ko"], question: str) -> None:
    due, where, title = KNOWS[language]
    talk = Conversation(User("missing", ("add",), knows={due: "2031-05-06"}, told=(where, title)), language)
    assert "2031-05-06" in talk.ask(question) and (talk.needed, talk.needless) == (1, 0)


@pytest.mark.parametrize(
    ("language", "question"),
    [
        ("en", "What is the title?"),
        ("en", "Which list should it go to?"),
        ("en", "What colour should it have?"),
        ("ko", "제목이 무엇인가요?"),
        ("ko", "어느 목록에 넣을까요?"),
        ("ko", "우선순위는요?"),
    ],
)
def test_what_is_known_or_nobody_knows_is_needless_and_tells_nothing(
    language: Literal["en", "ko"], question: str
) -> None:
    due, where, title = KNOWS[language]
    talk = Conversation(User("missing", ("add",), knows={due: "2031-05-06"}, told=(where, title)), language)
    assert "2031-05-06" not in talk.ask(question) and (talk.needed, talk.needless) == (0, 1)


@pytest.mark.parametrize(
    ("language", "question"),
    [
        ("en", "When is it due, and which list does it belong to? And may I delete the old one?"),
        ("ko", "마감은 언제이고 어느 목록에 넣을까요? 그리고 옛 것은 삭제해도 될까요?"),
    ],
)
def test_several_questions_in_one_get_everything(language: Literal["en", "ko"], question: str) -> None:
    due, where, title = KNOWS[language]
    user = User("missing", ("add",), knows={due: "2031-05-06", where: "garden"}, confirms=("delete",), told=(title,))
    talk = Conversation(user, language)
    answer = talk.ask(question)
    assert "2031-05-06" in answer and "garden" in answer and talk.is_over and talk.needed == 3


@pytest.mark.parametrize("language", ["en", "ko"])
def test_who_asks_which_does_not_ask_whether(language: Literal["en", "ko"]) -> None:
    talk = Conversation(User("confirm", ("delete",), confirms=("delete",), told=KNOWS[language][1:]), language)
    which = {"en": "Which list should I delete it from?", "ko": "어느 목록에서 삭제할까요?"}
    whether = {"en": "Shall I delete it from the list?", "ko": "목록에서 삭제할까요?"}
    talk.ask(which[language])
    assert not talk.is_over and talk.needless == 1
    talk.ask(whether[language])
    assert talk.is_over and talk.needless == 1


def test_a_change_of_mind_comes_after_so_many_answers() -> None:
    user = User("mind", ("add",), knows={"due": "May 1"}, changes={"due": "June 2"}, changes_mind_after=1)
    talk = Conversation(user, "en")
    assert "May 1" in talk.ask("When?") and talk.forbids("add")
    assert "June 2" in talk.ask("Really?") and talk.is_over and talk.needed == 2
    at_once = Conversation(
        User("mind", ("add",), knows={"due": "May 1"}, changes={"due": "June 2"}, changes_mind_after=0), "en"
    )
    answer = at_once.ask("When?")
    assert "June 2" in answer and "May 1" not in answer and at_once.is_over


def test_words_of_the_script_win_over_patience() -> None:
    answers = (Answer(("due", "finish line"), "On May 1."), Answer(("pizza",), "With cheese."))
    talk = Conversation(User("missing", ("add",), knows={"due": "May 1"}, answers=answers, otherwise="No idea."), "en")
    assert talk.ask("What pizza do you like?") == "With cheese." and talk.ask("How is the weather?") == "No idea."
    assert talk.ask("Where is the finish line?") == "On May 1." and talk.is_over and talk.needless == 2


def test_they_are_drawn_with_asking_only(kind: OwnKind, tmp_path: Path) -> None:
    plain = open_notes(tmp_path / "plain")
    assert kind.tasks("test", 12, 1) == plain.tasks("test", 12, 1) and kind.identity == plain.identity
    drawn = kind.tasks("test", len(ROWS), 1, asking=True)
    assert {task.id for task in drawn} == ROWS.keys() and all(
        task.tools[-1].function.name == "ask_user" for task in drawn
    )
    with pytest.raises(UserError, match="has 9 tasks with a user"):
        kind.tasks("test", 10, 1, asking=True)
    with pytest.raises(UserError, match="give tasks or families a user, or leave out --asking"):
        plain.tasks("test", 1, 1, asking=True)


def test_a_good_task_is_not_refused_and_a_bad_one_is(kind: OwnKind, tmp_path: Path) -> None:
    for name, row in kind.rows.items():
        assert check_task(kind, row).refusals == [], name
    assert [refusal.seen for refusal in check_together(kind)] == []
    changes: dict[str, tuple[str, dict[str, Any]]] = {
        "does not stand in the instruction": ("missing", {"instruction": "Change 'seed' to lion."}),
        "asking, then the solution, passes": ("mind", {"solution": DELETE[:1]}),
        "the user tells what they know": (
            "missing",
            {"user": {"knows": {"words": "lion"}, "answers": [{"when": "words", "say": "No."}]}},
        ),
    }
    for told, (name, change) in changes.items():
        bad = open_notes(tmp_path / name, tasks=[{"id": "bad", "split": "test", **ROWS[name], **change}])
        goals = [refusal.goal for refusal in check_task(bad, bad.rows["bad"]).refusals]
        assert any(told in goal for goal in goals), (told, goals)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"user": {"knws": {}}}, "user.knws"),
        ({"user": {"changes_mind_after": 1}}, "changes_mind_after and changes go together"),
        ({"user": {"knows": {"a": "x"}, "changes_mind_after": 1, "changes": {"a": "x"}}}, "expected another value"),
        ({"user": {"answers": [{"when": [], "say": "x"}]}}, "user.answers.0.when"),
        ({"policy": "Never."}, "policy goes with user"),
    ],
)
def test_a_user_that_is_none_is_an_error(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_folder(write_notes(tmp_path / "notes", tasks=[{**TASKS[0], **change}]))


def test_a_confirmation_of_an_unknown_tool_is_an_error(tmp_path: Path) -> None:
    row = {**TASKS_WITH_USERS[0], "user": {"confirms": ["delete_note_"]}}
    with pytest.raises(UserError, match=r"user.confirms: tool 'delete_note_' is unknown. Did you mean 'delete_note'"):
        open_notes(tmp_path / "notes", tasks=[row])


def test_a_family_has_a_user_in_each_language(tmp_path: Path) -> None:
    folder = write_notes(tmp_path / "notes", tasks=[])
    family: dict[str, Any] = {
        "name": "ask",
        "values": {"words": "words"},
        "en": ["Change 'seed'; ask me what to."],
        "ko": ["'seed'를 바꾸기, 내용은 물어보기."],
        "solution": [CHANGE[0], {"name": "change_note", "arguments": {"id": 1, "text": "{words}"}}],
        "user": {"en": {"knows": {"words": "{words}"}}, "ko": {"knows": {"내용": "{words}"}}},
        "policy": {"en": "Be kind.", "ko": "친절하게."},
    }
    pools = {"words": {"train": [f"a{n}" for n in range(20)], "test": [f"b{n}" for n in range(20)]}}
    file = folder / "families.yaml"
    file.write_text(json.dumps({"asking": {"train": 6, "test": 8}, "pools": pools, "families": [family]}))
    rows = read_folder(folder).rows
    assert [row.split for row in rows].count("test") == 8 and len(rows) == 14
    for row in rows:
        assert row.user is not None
        assert [*row.user.knows] == (["내용"] if row.language == "ko" else ["words"])
        assert row.policy == ("친절하게." if row.language == "ko" else "Be kind.")
    del family["user"]["ko"]
    file.write_text(json.dumps({"pools": pools, "families": [family]}))
    with pytest.raises(UserError, match="user: ko is missing"):
        read_folder(folder)


def test_the_commands_know_them(run_app: Run, kind: OwnKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    bench = partial(run_app, "benchmark")
    folder = tmp_path / "notes"
    code, out, err = bench(
        "run", "--policy", "expert", "--worlds", folder, "--trust", "--asking", "--out", tmp_path / "run"
    )
    assert (code, err) == (0, "") and "Needed questions asked" in out
    told = json.loads((tmp_path / "run" / "expert" / "kpis.json").read_text())
    assert told["asking_kpis"]["right_refusals"]["value"] == 1.0 and told["count"] == len(ROWS)
    records = tmp_path / "r.jsonl"
    shares = ("--mistakes", 0, "--partials", 0, "--failures", 0)
    code, out, err = bench(
        "record", "--split", "test", "--worlds", folder, "--trust", "--asking", *shares, "--out", records
    )
    assert code == 0, err
    assert bench("replay", records, "--worlds", folder, "--trust")[0] == 0
    assert bench("tasks", "check", folder, "--trust", "--workers", 1)[0] == 0


def test_the_example_has_families_with_a_user_in_both_languages_and_held_out_ones() -> None:
    rows = read_folder(Path(__file__).resolve().parents[1] / "examples" / "todo-mcp").rows
    asking = {
        split: [row for row in rows if row.user is not None and row.split == split] for split in ("train", "test")
    }
    families = {split: {row.family for row in of} for split, of in asking.items()}
    assert len(families["test"] - families["train"]) == 2 and families["train"] < families["test"]
    assert all({row.language for row in of} == {"en", "ko"} for of in asking.values())
