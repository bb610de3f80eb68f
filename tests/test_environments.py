"""Worlds for TRL's GRPO: environments that it plays itself, and rollouts that our agent plays for it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import get_json_schema
from trl import GRPOConfig, GRPOTrainer
from trl.chat_template_utils import qwen2_5_chat_template

from benchmark.agent.episodes import Try, move_to_message, open_episode, run_tasks, take_turn
from benchmark.agent.policies import Expert
from benchmark.agent.transformers_model import read_renderer
from benchmark.environments import (
    CallFailed,
    PathPolicy,
    reward_score,
    tasks_to_environments,
    tasks_to_rollouts,
)
from benchmark.worlds.kinds import WORLDS, make_tasks
from core.errors import UserError
from data.trajectories import trajectory_to_chat


def options(folder: Path, **more: Any) -> GRPOConfig:
    return GRPOConfig(
        output_dir=str(folder), max_steps=2, per_device_train_batch_size=2, num_generations=2, use_cpu=True, seed=3,
        report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True, max_completion_length=96, beta=0.0,
        learning_rate=1e-3, **more,
    )  # fmt: skip


def weights(model: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_an_environment_has_the_tools_of_its_tasks_and_the_score_of_the_final_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tasks = make_tasks([*WORLDS], "train", 40, 7)
    environments = tasks_to_environments(tasks)
    scores = []
    for task, row in zip(tasks, environments.rows, strict=True):
        assert [message["content"] for message in row["prompt"]] == [task.system, task.instruction]
        environment = environments.factories[row["environment"]]()
        for tool in task.tools:
            made = get_json_schema(getattr(environment, tool.function.name))["function"]
            assert (made["name"], made["description"]) == (tool.function.name, tool.function.description)
            shown = {name: value["type"] for name, value in made["parameters"]["properties"].items()}
            properties: Any = tool.function.parameters["properties"]
            assert shown == {name: value["type"] for name, value in properties.items()}
        environment.reset(**row)
        with pytest.raises(CallFailed, match="unknown tool"):
            environment._call("no_such_tool", {})
        [record] = run_tasks(Expert(), [task], label="x", max_steps=60)
        for action in record.action_sequence:
            call = getattr(environment, action.command)
            if action.error is None:
                assert call(**action.input) == action.output  # type: ignore[arg-type]
            else:
                with pytest.raises(CallFailed) as failed:
                    call(**action.input)  # type: ignore[arg-type]
                assert str(failed.value) == action.error
        scores.append(environment.get_reward())
        assert environment.get_reward() == scores[-1]
        environment.reset(**row)
        by_words = not record.action_sequence
        assert environment.get_reward() == 0 and (scores[-1] == 1 or by_words)
    assert scores.count(1.0) > 30
    assert not list(tmp_path.iterdir()), "no world stays behind"


def test_nothing_is_trained_on_tasks_of_the_test_split(tiny_model: Path) -> None:
    tasks = make_tasks(["files"], "test", 2, 1)
    for make in (tasks_to_environments, lambda tasks: tasks_to_rollouts(tasks, model=str(tiny_model))):
        with pytest.raises(UserError, match="files-test-1-0000: is of the test split"):
            make(tasks)


def test_grpo_plays_environments_itself_where_it_knows_the_template(minute_model: Path, tmp_path: Path) -> None:
    environments = tasks_to_environments(make_tasks(["files", "other"], "train", 4, 7))
    model = AutoModelForCausalLM.from_pretrained(minute_model)
    tokenizer = AutoTokenizer.from_pretrained(minute_model)

    def trainer_of() -> GRPOTrainer:
        return GRPOTrainer(
            model, args=options(tmp_path, max_tool_calling_iterations=2), processing_class=tokenizer,
            train_dataset=Dataset.from_list(environments.rows), environment_factory=environments.factories,
        )  # fmt: skip

    with pytest.raises(ValueError, match="Unrecognized chat template"):
        trainer_of()
    tokenizer.chat_template = qwen2_5_chat_template
    trainer = trainer_of()
    trainer.train()
    assert trainer.state.global_step == 2
    assert all(math.isfinite(log["loss"]) for log in trainer.state.log_history if "loss" in log)


def test_grpo_trains_on_rollouts_of_our_agent(
    minute_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = make_tasks(["files"], "train", 4, 7, short=True)
    func, rows = tasks_to_rollouts(tasks, model=str(minute_model), max_steps=3, max_new_tokens=24)
    model = AutoModelForCausalLM.from_pretrained(minute_model)
    tokenizer = AutoTokenizer.from_pretrained(minute_model)
    # A template that TRL does not know by heart: it refuses to train tools with it, our agent does not.
    tokenizer.chat_template += "{# ours #}"
    seen: list[dict[str, Any]] = []

    def noted(prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        before = trainer.model.training
        output = func(prompts, trainer)
        assert trainer.model.training is before
        assert len(prompts) == len(output["score"]) == 2
        for ids, completion, logprobs in zip(
            output["prompt_ids"], output["completion_ids"], output["logprobs"], strict=True
        ):
            exact = (
                trainer.model(torch.tensor([[*ids, *completion]])).logits[0, len(ids) - 1 : -1] / trainer.temperature
            )
            expected = exact.log_softmax(-1).gather(-1, torch.tensor(completion)[:, None])[:, 0]
            assert torch.allclose(expected, torch.tensor(logprobs), atol=1e-4)
        seen.append(output)
        return output

    # A random model scores nothing; a reward that differs is what moves the weights.
    rewards = iter(range(100))

    def reward(score: Sequence[float | None], **more: Any) -> list[float]:
        assert reward_score(score=score) == score and set(score) <= {0.0}
        return [float(next(rewards)) for _ in score]

    trainer = GRPOTrainer(
        model, reward, args=options(tmp_path), processing_class=tokenizer, train_dataset=Dataset.from_list(rows),
        rollout_func=noted,
    )  # fmt: skip
    before = weights(model)
    trainer.train()
    assert trainer.state.global_step == 2 and len(seen) == 2
    assert not torch.equal(before, weights(model))
    assert seen[0]["completion_ids"] != seen[1]["completion_ids"]
    for output in seen:
        for completion, mask in zip(output["completion_ids"], output["env_mask"], strict=True):
            assert len(completion) == len(mask) <= 96 and mask[-1] == 1 and 0 in mask


def test_a_path_is_what_training_and_serving_show(tiny_model: Path) -> None:
    """Played by the expert's words as the template writes them, the path's tokens are those of the chat."""
    renderer = read_renderer(str(tiny_model))
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    for task in make_tasks(["files", "api"], "train", 6, 11):
        policy = PathPolicy(model, renderer, most_tokens=100_000, max_new_tokens=8)
        attempt = Try(task)
        [record] = run_tasks(Expert(), [attempt], label="x", max_steps=40)
        chat = trajectory_to_chat(record)
        tree = renderer.chat_to_tree(chat)  # type: ignore[arg-type]
        rows = tree.rows()  # type: ignore[union-attr]
        episode = open_episode(attempt, label="x")
        with episode.world:
            while not episode.over:
                prompt = policy.prompt(episode)
                assert isinstance(prompt, list)
                said = move_to_message(episode.world.expert(episode.actions))
                ids = next(ids for ids, _ in rows if ids[: len(prompt)] == prompt)[len(prompt) :]
                end = next(place for place, token in enumerate(ids) if token in renderer.stop_ids) + 1
                policy.read(episode, ids[:end], prompt=prompt)
                take_turn(episode, said, advise=False, invalid="stop")
        path = policy.paths[attempt.key]
        completion, mask = path.scored
        assert path.turns_left_out == 0 and [*path.prompt, *completion] == rows[-1][0]
        failed = {place for place, action in enumerate(record.action_sequence) if action.error is not None}
        if not failed:
            assert [0.0] * len(path.prompt) + [float(own) for own in mask] == rows[-1][1]


def test_words_that_are_written_otherwise_than_the_template_would_stay_as_they_are(tiny_model: Path) -> None:
    renderer = read_renderer(str(tiny_model))
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    [task] = make_tasks(["files"], "train", 1, 7, short=True)
    policy = PathPolicy(model, renderer, most_tokens=100_000, max_new_tokens=8)
    episode = open_episode(task, label="x")
    with episode.world:
        prompt = policy.prompt(episode)
        for text, closes in (
            ('<tool_call>{"name":"list_folder" ,  "arguments":{}}</tool_call>', True),
            ("<tool_call>{", False),
        ):
            ids = renderer.tokenizer.encode(text, add_special_tokens=False) + [renderer.stop_ids[0]] * closes
            assert isinstance(prompt, list)
            take_turn(episode, policy.read(episode, ids, prompt=prompt), advise=False, invalid="retry")
            following = policy.prompt(episode)
            assert isinstance(following, list) and following[: len(prompt) + len(ids)] == [*prompt, *ids]
            between = renderer.tokenizer.decode(following[len(prompt) + len(ids) :])
            assert between.startswith("<|im_end|>\n" if not closes else "\n") and between.endswith("assistant\n")
            prompt = following
        path = policy.paths[episode.attempt.key]
        assert path.turns_left_out == 0 and path.turns == 2
        # What came before is shown otherwise now: no path leads on, so one begins anew and says what it leaves out.
        episode.metadata.instruction = "다른 말"
        anew = policy.prompt(episode)
        path = policy.paths[episode.attempt.key]
        assert anew == path.prompt == renderer.prompt_ids(episode.messages, task.tools) and not path.completion
        assert path.turns_left_out == 2
