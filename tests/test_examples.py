"""`--examples FILE --shots N`: which records are shown before a task, how, and what is never shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmark.agent.episodes import Episode, Try, Turn, move_to_message, run_tasks
from benchmark.agent.examples import Examples, instruction_to_terms, read_examples
from benchmark.agent.policies import Echo, Expert
from benchmark.worlds.kinds import make_tasks
from benchmark.worlds.world import Task
from core.errors import UserError
from data.chats import Message, check_messages
from data.records import Outcome, Trajectory, write_trajectories
from support.chat_server import Fake, chat
from support.commands import Run


@pytest.fixture
def bench(run_app: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "200")
    return partial(run_app, "benchmark")


def solved(tasks: Sequence[Task], label: str = "expert") -> list[Trajectory]:
    return list(run_tasks(Expert(), tasks, label=label, max_steps=60))


def told(record: Trajectory, instruction: str) -> Trajectory:
    """The same record of another task with another instruction."""
    metadata = record.metadata.model_copy(update={"instruction": instruction, "group": instruction})
    return record.model_copy(update={"id": instruction, "metadata": metadata})


class Watched:
    """An expert that keeps the first prompt of each task."""

    def __init__(self) -> None:
        self.prompts: dict[str, list[Message]] = {}

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        for episode in episodes:
            self.prompts.setdefault(episode.task.id, episode.messages)
        return [move_to_message(episode.world.expert(episode.actions)) for episode in episodes]

    def forget(self, episode: Episode) -> None:
        return


def test_terms_are_words_and_pairs_of_syllables_wherever_spaces_stand() -> None:
    assert instruction_to_terms("Rename a.txt") == ["rename", "a", "txt"]
    assert instruction_to_terms("보고서를") == ["보고", "고서", "서를"] == instruction_to_terms("보고 서를")
    assert instruction_to_terms("책 a 3권") == ["책", "a", "3", "권"]


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("잔액 보고서를 archive 폴더로 옮겨 주세요", "보고서 파일을 archive 폴더로 옮기세요"),
        ("Put the balance report into the folder archive", "Move the report to the folder archive"),
        ("합계를 적어 줘", "모든 금액의 합계를 total.txt에 적으세요"),
    ],
)
def test_the_nearest_instruction_is_shown_last_in_korean_too(instruction: str, expected: str) -> None:
    task = make_tasks(["files"], "test", 1, 1)[0]
    [record] = solved(make_tasks(["files"], "train", 1, 7))
    texts = [
        "Move the report to the folder archive",
        "보고서 파일을 archive 폴더로 옮기세요",
        "모든 금액의 합계를 total.txt에 적으세요",
        "Write the sum of all amounts to total.txt",
    ]
    examples = Examples([told(record, text) for text in texts], sha256="")
    shown = examples.nearest(Task(**{**vars(task), "instruction": instruction}), 2)
    assert len(shown) == 2 and shown[-1].metadata.instruction == expected


def test_examples_are_earlier_turns_between_the_system_prompt_and_the_task() -> None:
    examples = Examples(solved(make_tasks(["files", "api"], "train", 30, 7)), sha256="")
    tries = [Try(task, examples=examples.nearest(task, 3)) for task in make_tasks(["files", "api"], "test", 10, 1)]
    policy = Watched()
    for record in run_tasks(policy, tries, label="x", max_steps=60):
        attempt = next(each for each in tries if each.task.id == record.metadata.group)
        prompt = policy.prompts[attempt.task.id]
        assert len(attempt.examples) == 3 and check_messages(prompt) is None
        assert [m.role for m in prompt[:2]] == ["system", "user"] and prompt[-1].content == attempt.task.instruction
        users = [message.content for message in prompt if message.role == "user"]
        assert users == [*(each.metadata.instruction for each in attempt.examples), attempt.task.instruction]
        answers = [message.content for message in prompt if message.role == "assistant" and not message.tool_calls]
        assert answers == [each.metadata.answer for each in attempt.examples]
        called = [call.name for message in prompt for call in message.tool_calls]
        assert called == [action.command for each in attempt.examples for action in each.action_sequence]
        assert record.outcome is Outcome.SUCCESS
        assert (record.metadata.model_extra or {})["examples"] == [each.id for each in attempt.examples]


def test_neither_the_task_itself_nor_a_failure_is_ever_shown() -> None:
    task, *others = make_tasks(["files"], "train", 12, 7)
    own, copied = solved([task]), solved([task], "other-seed")
    # The same task under other names, and a record that succeeded without a word.
    renamed = copied[0].model_copy(
        update={"id": "x", "metadata": copied[0].metadata.model_copy(update={"group": "y", "task": {"id": "z"}})}
    )
    silent = solved(others[:1])[0]
    silent = silent.model_copy(update={"metadata": silent.metadata.model_copy(update={"answer": None})})
    failed = list(run_tasks(Echo(), others, label="echo"))
    good = solved(others[1:])
    examples = Examples([*own, renamed, silent, *failed, *good], sha256="")
    shown = examples.nearest(task, 100)
    assert shown and {record.id for record in shown} <= {record.id for record in good}


@pytest.mark.parametrize("how", ["task", "group", "id"])
def test_a_record_of_the_test_split_is_refused_however_it_is_known(how: str, tmp_path: Path) -> None:
    train, [test] = solved(make_tasks(["files"], "train", 4, 7)), solved(make_tasks(["files"], "test", 1, 1))
    row = json.loads(test.to_json())
    if how != "task":
        del row["metadata"]["task"]
    if how == "id":
        row["metadata"]["group"] = None
    write_trajectories(tmp_path / "x.jsonl", [*train, Trajectory.model_validate(row)])
    with pytest.raises(UserError, match=f"record '{test.id}' is of the test split"):
        read_examples(tmp_path / "x.jsonl", shots=3)


def test_too_few_examples_are_told(tmp_path: Path) -> None:
    write_trajectories(tmp_path / "x.jsonl", solved(make_tasks(["files"], "train", 2, 7)))
    with pytest.raises(UserError, match=r"2 of its 2 records can be shown .* --shots 3 needs 3"):
        read_examples(tmp_path / "x.jsonl", shots=3)


@pytest.fixture
def train(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    write_trajectories(path, solved(make_tasks(["files"], "train", 24, 7)))
    return path


def test_a_run_with_examples_says_so_in_its_options_key_label_and_tables(
    bench: Run, train: Path, tmp_path: Path
) -> None:
    with Fake(chat("Done.")) as fake:
        run: list[Any] = ["run", "--server", fake.url, "--worlds", "files", "--count", 4, "--out", tmp_path / "out"]
        assert bench(*run)[0] == 0
        asked = len(fake.asked)
        code, out, err = bench(*run, "--examples", train)
        assert (code, err) == (0, "") and "tiny-3-shot" in out
        prompts = [body["messages"] for path, body in fake.asked[asked:] if path.endswith("completions")]
        assert all(sum(message["role"] == "user" for message in each) == 4 for each in prompts)
        assert bench(*run, "--examples", train, "--shots", 2, "--label", "two")[0] == 0
        assert "already done, reused" in bench(*run, "--examples", train)[1]
        write_trajectories(train, solved(make_tasks(["files"], "train", 25, 7)))
        assert "already done, reused" not in bench(*run, "--examples", train)[1]
    results = {
        name: json.loads((tmp_path / "out" / name / "kpis.json").read_text()) for name in ("tiny", "tiny-3-shot", "two")
    }
    assert len({each["key"] for each in results.values()}) == 3
    assert [each["options"]["shots"] for each in results.values()] == [0, 3, 2]
    assert results["tiny-3-shot"]["examples"] == str(train) and results["two"]["tries_by_shots"] == {"2": 4}
    _, out, _ = bench("compare", tmp_path / "out" / "tiny", tmp_path / "out" / "two")
    assert "two (2-shot)" in out and "shots" in out
    code, out, _ = bench(
        "leaderboard", tmp_path / "out" / "tiny", tmp_path / "out" / "two", "--out", tmp_path / "board"
    )
    assert code == 0 and "two (2-shot)" in out
    assert "two (2-shot)" in (tmp_path / "board" / "index.html").read_text()


def test_a_task_that_does_not_fit_with_its_examples_is_left_out_and_told(
    bench: Run, tiny_model: Path, train: Path, tmp_path: Path
) -> None:
    run = [
        "run", "--model", tiny_model, "--label", "tiny", "--worlds", "files", "--short", "--count", 2, "--max-steps", 1,
        "--max-new-tokens", 8, "--window", 700,
    ]  # fmt: skip
    code, out, _ = bench(*run, "--out", tmp_path / "plain")
    assert code == 0 and "not applicable" not in out
    code, out, _ = bench(*run, "--examples", train, "--out", tmp_path / "shown")
    assert code == 0 and "2 tries beyond the window of 700 tokens" in out and "with 3 examples shown" in out
    assert not (tmp_path / "shown" / "tiny" / "trajectories.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--policy", "echo", "--shots", "2"], "--shots 2 goes with --examples"),
        (["--policy", "echo", "--examples", "x.jsonl"], "--policy echo reads no prompt"),
        (["--server", "http://127.0.0.1:1/v1", "--examples", "no.jsonl"], "no.jsonl: cannot be read"),
    ],
)
def test_mistakes_are_told(bench: Run, tmp_path: Path, arguments: list[str], reason: str) -> None:
    code, _, err = bench("run", *arguments, "--out", tmp_path / "out")
    assert code == 2 and reason in err and not (tmp_path / "out").exists()
