"""The agent loop in the real worlds, with scripted policies and with small models."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmark.agent import FROZEN_START, LATENCY_SECONDS, Episode, Turn, Unreadable, move_to_message, run_tasks
from benchmark.backends import POLICIES, Expert, TransformersPolicy, policy_named
from benchmark.worlds import Task
from benchmark.worlds.table import make_tasks
from data.chats import Chat, Message, PreferencePair, Skip, ToolCall
from data.errors import UserError
from data.records import INVALID_CALL, Outcome, Trajectory
from data.render import Renderer
from data.trajectories import actions_to_messages, trajectory_to_chat, trajectory_to_pairs

BOTH = ["files", "api"]
Said = Callable[[Episode], Turn]


class Scripted:
    """A policy that asks a function, and remembers what it was given."""

    def __init__(self, says: Said) -> None:
        self.says = says
        self.given: dict[str, list[list[Message]]] = {}
        self.forgotten: list[str] = []

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        for episode in episodes:
            self.given.setdefault(episode.task.id, []).append(episode.messages)
        return [self.says(episode) for episode in episodes]

    def forget(self, episode: Episode) -> None:
        self.forgotten.append(episode.task.id)


def call(name: str, **arguments: Any) -> Message:
    return Message(role="assistant", tool_calls=(ToolCall(id="call_0", name=name, arguments=arguments),))


def expert(episode: Episode) -> Message:
    return move_to_message(episode.world.expert(episode.actions))


def first_then_expert(turn: Turn) -> Said:
    return lambda episode: turn if episode.turns == 0 else expert(episode)


def one(says: Said, task: Task, **options: Any) -> Trajectory:
    [record] = run_tasks(Scripted(says), [task], label="x", **options)
    return Trajectory.model_validate_json(record.to_json())


def extra(record: Trajectory, name: str) -> Any:
    assert record.metadata.model_extra is not None
    return record.metadata.model_extra[name]


def task_of_family(world: str, family: str, *, fault: str | None = None) -> Task:
    """The first training task of a family, with a fault of that kind or without any."""
    for task in make_tasks([world], "train", 400, 3):
        if task.family == family and [f.kind for f in task.faults] == ([fault] if fault else []):
            return task
    raise AssertionError(f"no {family} task with fault {fault}")


def test_what_a_policy_was_given_is_what_training_will_show() -> None:
    policy = Scripted(Expert(mistakes=0.5, seed=1)._turn)
    for record in run_tasks(policy, make_tasks(BOTH, "train", 40, 5), label="x", max_steps=40):
        chat = trajectory_to_chat(record)
        assert isinstance(chat, Chat)
        asked_at = [place for place, message in enumerate(chat.messages) if message.role == "assistant"]
        given = policy.given[str(record.metadata.group)]
        assert [list(chat.messages[:place]) for place in asked_at] == given


def test_the_expert_solves_everything_and_recovers_from_its_own_mistakes() -> None:
    records = list(run_tasks(Expert(mistakes=1, seed=2), make_tasks(BOTH, "train", 80, 2), label="x", max_steps=40))
    assert all(record.outcome is Outcome.SUCCESS for record in records)
    own = 0
    for record in records:
        struck = {step for step, _ in extra(record, "injected")}
        failed = {step for step, action in enumerate(record.action_sequence) if action.error is not None}
        assert struck <= failed
        own += len(failed - struck)
        assert len(failed - struck) <= 1
        # What failed stays as context and is not imitated.
        messages = actions_to_messages(record.metadata, record.action_sequence)
        weights = [message.loss_weight for message in messages if message.role == "assistant"]
        assert weights == [0.0 if step in failed else 1.0 for step in range(len(record.action_sequence))]
    assert own > len(records) / 2


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "expert"])
def test_trivial_policies_score_about_nothing(name: str) -> None:
    records = list(run_tasks(policy_named(name), make_tasks(BOTH, "test", 150, 1), label=name, max_steps=6))
    assert sum(record.outcome is Outcome.SUCCESS for record in records) < 0.02 * len(records)


def test_an_unknown_policy_is_told_its_nearest_name() -> None:
    with pytest.raises(UserError, match="say-done"):
        policy_named("saydone")


def test_records_do_not_depend_on_how_many_tasks_are_live() -> None:
    tasks = make_tasks(BOTH, "train", 24, 4)

    def lines(live: int) -> dict[str, str]:
        policy = Expert(mistakes=0.5, seed=4)
        records = run_tasks(policy, tasks, label="x", start=FROZEN_START, live=live)
        return {record.id: record.to_json() for record in records}

    assert lines(1) == lines(5) == lines(24)
    assert len(lines(5)) == 24


def test_stopping_early_leaves_no_world_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    running = run_tasks(Expert(), make_tasks(["files"], "train", 8, 1), label="x")
    assert isinstance(running, Generator)
    next(running)
    assert len(list(tmp_path.iterdir())) == 7
    running.close()
    assert not list(tmp_path.iterdir())


def test_an_unreadable_turn_ends_the_task_or_goes_back_to_the_model() -> None:
    task = task_of_family("files", "move")
    stopped = one(first_then_expert(Unreadable("<tool_call>{", "not JSON")), task)
    assert [action.command for action in stopped.action_sequence] == [INVALID_CALL]
    assert stopped.action_sequence[0].input == {"text": "<tool_call>{"}
    assert (stopped.outcome, stopped.metadata.answer) == (Outcome.FAILURE, None)

    policy = Scripted(first_then_expert(Unreadable("<tool_call>{", "not JSON")))
    [retried] = run_tasks(policy, [task], label="x", invalid="retry")
    assert retried.outcome is Outcome.SUCCESS
    assert [message.content for message in policy.given[task.id][1][-2:]] == ["<tool_call>{", "Error: not JSON"]


def test_a_tool_named_like_the_mark_of_unreadable_turns_is_unreadable() -> None:
    task = task_of_family("files", "move")
    record = one(first_then_expert(call(INVALID_CALL, path="a")), task)
    assert record.action_sequence[0].command == INVALID_CALL
    said = actions_to_messages(record.metadata, record.action_sequence)[2]
    assert INVALID_CALL in said.content and not said.tool_calls


def test_parallel_calls_become_one_message_again() -> None:
    task = task_of_family("files", "find-copy")
    calls = tuple(
        ToolCall(id=f"call_{n}", name="search_text", arguments={"text": text}) for n, text in enumerate(("a", "b"))
    )
    turn = Message(role="assistant", content="Both.", reasoning_content="Look.", tool_calls=calls)
    policy = Scripted(first_then_expert(turn))
    [record] = run_tasks(policy, [task], label="x")
    assert record.outcome is Outcome.SUCCESS
    again = policy.given[task.id][1]
    assert [message.role for message in again[2:]] == ["assistant", "tool", "tool"]
    assert (again[2].content, again[2].reasoning_content) == ("Both.", "Look.")
    assert [(c.name, c.arguments) for c in again[2].tool_calls] == [(c.name, c.arguments) for c in calls]


def test_an_episode_ends_after_max_steps() -> None:
    record = one(lambda episode: call("list_folder", path="."), task_of_family("files", "count"), max_steps=3)
    assert len(record.action_sequence) == 3
    assert record.outcome is Outcome.FAILURE
    assert record.metadata.answer is None


def test_time_is_the_worlds_own() -> None:
    record = one(expert, task_of_family("api", "create", fault="rate_limited"), start=FROZEN_START)
    assert record.timestamp == FROZEN_START
    clock = FROZEN_START
    for action in record.action_sequence:
        assert action.start_time == clock
        clock = action.end_time
        spent = clock - action.start_time
        assert spent >= timedelta(seconds=LATENCY_SECONDS)
        if action.command == "wait":
            assert isinstance(action.input, dict)
            assert spent >= timedelta(seconds=LATENCY_SECONDS + float(str(action.input["seconds"])))
    assert "wait" in [action.command for action in record.action_sequence]


def test_the_record_says_what_is_needed_to_make_the_task_again() -> None:
    [task] = make_tasks(["api"], "test", 1, 9)
    record = one(expert, task)
    assert record.metadata.group == task.id
    assert record.metadata.instruction == task.instruction
    assert record.metadata.tools == list(task.tools)
    said = extra(record, "task")
    assert (said["world"], said["family"], said["split"], said["seed"], said["tier"]) == (
        "api", task.family, "test", 9, task.tier,
    )  # fmt: skip
    assert said["parameters"] == json.loads(json.dumps(task.parameters)) and said["facts"] == task.facts
    assert extra(record, "score") == 1.0


# ---------------------------------------------------------------- advice


def pairs_of(record: Trajectory) -> list[PreferencePair | Skip]:
    return list(trajectory_to_pairs(record))


def test_a_failed_call_is_advised_with_the_experts_move_from_that_state() -> None:
    task = task_of_family("files", "copy")
    wrong = call("read_file", path="no/such.txt")
    record = one(first_then_expert(wrong), task, advise=True)
    assert record.outcome is Outcome.SUCCESS
    [advice] = record.metadata.advice
    first_right = record.action_sequence[1]
    assert (advice.step, advice.command, advice.input) == (0, first_right.command, first_right.input)
    [pair] = pairs_of(record)
    assert isinstance(pair, PreferencePair)
    assert pair.rejected[0].tool_calls[0].arguments == {"path": "no/such.txt"}
    assert pair.chosen[0].tool_calls[0].arguments == first_right.input


def test_a_premature_answer_is_advised_when_the_task_failed() -> None:
    claim = Message(role="assistant", content="All done!")
    record = one(lambda episode: claim, task_of_family("api", "update"), advise=True)
    [advice] = record.metadata.advice
    assert (advice.step, advice.command) == (0, "update_order")
    [pair] = pairs_of(record)
    assert isinstance(pair, PreferencePair) and pair.rejected[0].content == "All done!"


def test_a_wrong_call_that_worked_is_advised_when_the_task_failed() -> None:
    task = task_of_family("files", "write")
    right = task.parameters
    wrong = call("write_file", path=str(right["path"]) + "x", text=right["text"])
    record = one(
        lambda episode: wrong if episode.turns == 0 else Message(role="assistant", content="Done."), task, advise=True
    )
    assert record.outcome is not Outcome.SUCCESS and record.action_sequence[0].error is None
    assert [advice.step for advice in record.metadata.advice] == [0]


def test_unreadable_turns_are_advised() -> None:
    record = one(first_then_expert(Unreadable("{", "not JSON")), task_of_family("api", "update"), advise=True)
    assert [(advice.step, advice.command) for advice in record.metadata.advice] == [(0, "update_order")]
    [pair] = pairs_of(record)
    assert isinstance(pair, PreferencePair) and pair.rejected[0].content == "{"


def test_nobody_is_advised_to_do_what_was_done() -> None:
    for record in run_tasks(Expert(), make_tasks(BOTH, "train", 60, 6), label="x", max_steps=40, advise=True):
        assert record.metadata.advice == []
    # An injected fault is no mistake; giving up after it is one.
    struck = task_of_family("files", "write", fault="busy")
    gave_up = lambda e: expert(e) if e.turns == 0 else Message(role="assistant", content="Done.")  # noqa: E731
    record = one(gave_up, struck, advise=True)
    assert record.action_sequence[0].error is not None
    assert [advice.step for advice in record.metadata.advice] == [1]


def test_a_number_of_the_wrong_type_is_not_what_the_expert_did() -> None:
    task = task_of_family("api", "create", fault="rate_limited")

    def says(episode: Episode) -> Message:
        message = expert(episode)
        tried = [action.input for action in episode.actions if action.command == "wait"]
        if message.tool_calls and message.tool_calls[0].name == "wait" and not tried:
            return call("wait", seconds=float(str(message.tool_calls[0].arguments["seconds"])))
        return message

    record = one(says, task, advise=True)
    [advice] = record.metadata.advice
    assert record.action_sequence[advice.step].error is not None
    assert isinstance(advice.input["seconds"], int)


# ---------------------------------------------------------------- models


class Stops:
    """As much of a renderer as `generate` needs."""

    stop_ids = (2,)


def small_llama(**more: Any) -> Any:
    import torch  # noqa: PLC0415 - only these tests
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415 - as above

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, bos_token_id=1, eos_token_id=2, pad_token_id=0, **more,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4)  # random weights of the usual size repeat one token for ever
    return model


def test_batched_generation_with_a_kept_cache_says_what_generate_says() -> None:
    import torch  # noqa: PLC0415 - only this test

    model = small_llama()
    fed = 0
    forward = model.forward

    def counting(*args: Any, input_ids: Any, **keywords: Any) -> Any:
        nonlocal fed
        fed += input_ids.numel()
        return forward(*args, input_ids=input_ids, **keywords)

    policy = TransformersPolicy(model, Stops(), max_new_tokens=16)  # type: ignore[arg-type]
    rng = random.Random(0)
    some = lambda most: [rng.randrange(3, 64) for _ in range(rng.randrange(1, most))]  # noqa: E731
    tools = [rng.randrange(3, 64) for _ in range(30)]
    histories = {name: tools[: rng.randrange(31)] + some(30) for name in "abcdef"}
    lengths, needed = set(), 0
    for _ in range(3):
        model.forward = counting
        said = policy.generate(list(histories.values()), list(histories))
        model.forward = forward
        for name, ids in zip(histories, said, strict=True):
            prompt = histories[name]
            alone = model.generate(
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=16, do_sample=False,
            )  # fmt: skip
            assert ids == alone[0, len(prompt) :].tolist()
            lengths.add(len(ids))
            needed += len(prompt) + len(ids)
            histories[name] = prompt + ids + some(10)
    assert len(lengths) > 2, "all completions ended together: nothing was tested"
    assert fed < 0.8 * needed


def test_sampling_repeats_with_its_seed() -> None:
    def sample(seed: int) -> list[list[int]]:
        policy = TransformersPolicy(small_llama(), Stops(), max_new_tokens=12, temperature=1.5, seed=seed)  # type: ignore[arg-type]
        return policy.generate([[5, 6, 7], [8, 9]], ["a", "b"])

    assert sample(1) == sample(1) != sample(2)


def test_a_random_model_runs_and_its_turns_are_kept_as_it_wrote_them(tiny_model: Path) -> None:
    policy = TransformersPolicy.from_pretrained(str(tiny_model), max_new_tokens=8)
    records = list(run_tasks(policy, make_tasks(BOTH, "test", 6, 1), label="tiny", max_steps=2, live=4, advise=True))
    assert len(records) == 6
    for record in records:
        assert record.outcome is Outcome.FAILURE
        action = record.action_sequence[0]
        assert (action.command, action.error) == (INVALID_CALL, "no end within 8 tokens")
        assert isinstance(action.input, dict) and action.input["text"]
        assert [advice.step for advice in record.metadata.advice] == [0]
    assert set(policy._kept) <= {f"tools of {r.tool}/{extra(r, 'task')['family']}" for r in records}


def test_an_adapter_changes_what_its_base_says(tiny_model: Path, tmp_path: Path) -> None:
    import torch  # noqa: PLC0415 - only this test
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - as above
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - as above

    lora = LoraConfig(target_modules=["q_proj", "v_proj", "down_proj"])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), lora)
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(tmp_path / "adapter")
    prompt = Renderer.from_pretrained(tiny_model).prompt_ids([Message(role="user", content="안녕 hello")])
    with torch.inference_mode():
        expected = model.eval()(torch.tensor([prompt])).logits[0, -1]
    loaded = TransformersPolicy.from_pretrained(str(tmp_path / "adapter"))
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([prompt])).logits[0, -1]
        plain = TransformersPolicy.from_pretrained(str(tiny_model)).model(torch.tensor([prompt])).logits[0, -1]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert (logits - plain).abs().max() > 0.01


def test_a_template_that_shows_no_tools_is_refused_before_anything_is_run(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        encoding="utf-8",
    )
    policy = TransformersPolicy.from_pretrained(str(folder), max_new_tokens=8)
    with pytest.raises(UserError, match="loses tools"):
        list(run_tasks(policy, make_tasks(BOTH, "test", 2, 1), label="x"))


def test_more_new_tokens_than_the_window_holds_are_refused(tiny_model: Path) -> None:
    policy = TransformersPolicy.from_pretrained(str(tiny_model), max_new_tokens=8192)
    with pytest.raises(UserError, match="window of 8192"):
        list(run_tasks(policy, make_tasks(BOTH, "test", 1, 1), label="x"))


def test_a_missing_model_folder_is_told_with_the_nearest_name(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="tiny"):
        TransformersPolicy.from_pretrained(str(tiny_model.parent / "tinny"))


def test_worlds_and_agent_need_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None\n"
        "from benchmark.agent import run_tasks\nfrom benchmark.backends import Expert\n"
        "from benchmark.worlds.table import make_tasks\n"
        "records = list(run_tasks(Expert(), make_tasks(['files', 'api'], 'train', 4, 1), label='x'))\n"
        "assert all(record.outcome == 'success' for record in records)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
