"""Tasks for reinforcement learning with TRL's `GRPOTrainer`, in the two ways in which it takes them.

`tasks_to_environments` gives TRL classes whose methods are the tools; TRL renders, generates and parses. `tasks_to_rollouts`
gives it a function that plays whole episodes with our agent: every template works that the benchmark works with, prompts are
those that are trained and served, and last words count. Either way the reward is the score of the world's final state.

Example::

    tasks = make_tasks(["files"], "train", 200, 7)
    func, rows = tasks_to_rollouts(tasks, model="models/mine")
    GRPOTrainer("models/mine", reward_score, args, Dataset.from_list(rows), rollout_func=func).train()
"""

from __future__ import annotations

import inspect
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmark.agent.episodes import Episode, Try, Turn, Unreadable, run_tasks, try_to_record_id
from benchmark.agent.transformers_model import TransformersPolicy, read_renderer
from benchmark.worlds.kinds import WORLDS, Kind
from benchmark.worlds.world import Task, World
from core.errors import UserError
from data.chats import Chat, Skip
from data.records import ToolFunction, ToolSpec, Trajectory
from data.rendering.renderer import Renderer

if TYPE_CHECKING:
    from trl import GRPOTrainer

_LABEL = "rollout"
_PYTHON_TYPE = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list, "object": dict}


def _task_by_id(tasks: Sequence[Task]) -> dict[str, Task]:
    if tested := [task.id for task in tasks if task.split == "test"]:
        raise UserError(f"task {tested[0]}: is of the test split, on which nothing is trained")
    return {task.id: task for task in tasks}


# ---------------------------------------------------------------- TRL plays: classes whose methods are tools


class CallFailed(Exception):
    """A call that did not work; TRL shows the model its text."""


class Environment:
    """A world as TRL knows environments: `reset` before an episode, `get_reward` after it, and a method for each tool."""

    _tasks: Mapping[str, Task]
    _kinds: Mapping[str, Kind]

    def __init__(self) -> None:
        self._world: World | None = None
        self._reward: float | None = None

    def reset(self, *, task: str, **row: Any) -> None:
        """Build the world of the row's task anew. The prompt says everything, so nothing is added to it."""
        self._leave()
        self._reward = None
        chosen = self._tasks[task]
        self._world = self._kinds[chosen.world].open(chosen)
        self._world.__enter__()

    def get_reward(self) -> float | None:
        """The score of the final state; the world is gone after that."""
        if self._world is not None:
            try:
                self._reward = self._world.verdict().score
            finally:
                self._leave()
        return self._reward

    def _call(self, name: str, arguments: dict[str, Any]) -> Any:
        if self._world is None:
            raise CallFailed("the episode is over")
        result = self._world.call(name, arguments)
        if result.error is not None:
            raise CallFailed(result.error)
        return result.output

    def _leave(self) -> None:
        if self._world is not None:
            world, self._world = self._world, None
            world.__exit__(None, None, None)

    def __del__(self) -> None:
        with suppress(Exception):  # the interpreter may be ending
            self._leave()


class Environments(NamedTuple):
    """What `GRPOTrainer` takes as `environment_factory`, and the rows of its data set."""

    factories: dict[str, Callable[[], Environment]]
    """A class for each set of tools, by the name in the column `environment`."""
    rows: list[dict[str, Any]]


def tasks_to_environments(tasks: Sequence[Task], *, kinds: Mapping[str, Kind] = WORLDS) -> Environments:
    """Training tasks as environments. Last words do not reach a world this way: what is done by words alone scores 0.

    Raises:
        UserError: for a task of the test split, and for tools whose names no Python method can have.
    """
    of = {"_tasks": _task_by_id(tasks), "_kinds": kinds}
    factories: dict[str, Callable[[], Environment]] = {}
    rows = []
    for task in tasks:
        name = f"{task.world}/{task.family}"
        if name not in factories:
            methods = {tool.function.name: _spec_to_method(tool, task) for tool in task.tools}
            factories[name] = type(re.sub(r"\W", "_", name), (Environment,), {**methods, **of})
        messages = [("system", task.system), ("user", task.instruction)]
        prompt = [{"role": role, "content": content} for role, content in messages]
        rows.append({"prompt": prompt, "environment": name, "task": task.id})
    return Environments(factories, rows)


def _spec_to_method(tool: ToolSpec, task: Task) -> Callable[..., Any]:
    """A method that makes a call, with the signature and the docstring from which transformers writes the tool's schema."""
    function = tool.function
    properties: Any = function.parameters.get("properties") or {}
    required: Any = function.parameters.get("required") or ()
    for name in (function.name, *properties):
        if not name.isidentifier() or name.startswith("_") or name in ("reset", "get_reward"):
            raise UserError(
                f"task {task.id}: tool {function.name!r}: no method or argument of a TRL environment can be called {name!r}; "
                "use tasks_to_rollouts"
            )

    def method(self: Environment, **arguments: Any) -> Any:
        return self._call(function.name, {name: value for name, value in arguments.items() if value is not None})

    types = {name: _PYTHON_TYPE.get(str(schema.get("type")), Any) for name, schema in properties.items()}
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    for name in sorted(types, key=lambda name: name not in required):  # those without a default come first
        default = inspect.Parameter.empty if name in required else None
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(name, kind, default=default, annotation=types[name]))
    method.__name__ = function.name
    method.__doc__ = _spec_to_docstring(function, properties)
    method.__annotations__ = types
    method.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # inspect looks for it
    return method


def _spec_to_docstring(function: ToolFunction, properties: Mapping[str, Any]) -> str:
    def line(text: object, otherwise: str) -> str:
        # These words begin a part of a docstring; in a text they are words.
        return re.sub(r"\b(Args|Returns|Raises):", r"\1 -", " ".join(str(text or "").split())) or otherwise

    told = "".join(f"    {name}: {line(schema.get('description'), name)}\n" for name, schema in properties.items())
    return line(function.description, function.name) + (f"\n\nArgs:\n{told}" if told else "")


# ---------------------------------------------------------------- our agent plays: whole episodes as one path of tokens


@dataclass
class Path:
    """An episode as GRPO scores it: a prompt, then the model's tokens and what was put between them."""

    prompt: list[int]
    completion: list[int] = field(default_factory=list)
    is_models: list[int] = field(default_factory=list)
    """1 for each token of the completion that the model wrote, 0 for results and marks of turns."""
    turns_left_out: int = 0
    """Turns before the prompt: the template has rewritten them, so they cannot be scored in the same sequence."""
    turns: int = 0
    asked: list[int] = field(default_factory=list)
    """The prompt of the last turn as the template writes it; the model may have written its own words otherwise."""

    def add(self, ids: Sequence[int], *, is_models: bool) -> None:
        """Go on with some tokens."""
        self.completion += ids
        self.is_models += [int(is_models)] * len(ids)

    @property
    def scored(self) -> tuple[list[int], list[int]]:
        """Completion and mask up to the model's last token; an episode that ended otherwise may end with a result."""
        length = max((place + 1 for place, own in enumerate(self.is_models) if own), default=0)
        return self.completion[:length], self.is_models[:length]


class PathPolicy(TransformersPolicy):
    """A model that is asked with the very tokens that it wrote before, so that an episode is one path.

    What stands between two turns is what the template puts there. Where the template rewrites what was said, no path leads on,
    and the path begins anew with the prompt as it is now.

    Args:
        most_tokens: of a completion, results included; an episode without room for one more turn ends.
    """

    def __init__(self, model: Any, renderer: Renderer, *, most_tokens: int, **options: Any) -> None:
        super().__init__(model, renderer, **options)
        self.most_tokens = most_tokens
        self.paths: dict[str, Path] = {}

    def prompt(self, episode: Episode) -> list[int] | Unreadable:
        """The path so far and what leads to the next turn."""
        asked = super().prompt(episode)
        if isinstance(asked, Unreadable):
            return asked
        path = self.paths.get(episode.attempt.key) if episode.actions else None
        between = None if path is None else self._between(episode, path, asked)
        if path is None or between is None:
            path = self.paths[episode.attempt.key] = Path(asked, turns_left_out=0 if path is None else path.turns)
            path.turns = path.turns_left_out
        elif len(path.completion) + len(between) + self.max_new_tokens > self.most_tokens:
            return Unreadable("", f"no room for {self.max_new_tokens} of {self.most_tokens} tokens", ends=True)
        else:
            path.add(between, is_models=False)
        path.asked = asked
        return [*path.prompt, *path.completion]

    def read(self, episode: Episode, ids: Sequence[int], *, prompt: Sequence[int]) -> Turn:
        """What the model wrote, as a turn; the path goes on with it."""
        path = self.paths[episode.attempt.key]
        path.add(ids, is_models=True)
        path.turns += 1
        return super().read(episode, ids, prompt=prompt)

    def _between(self, episode: Episode, path: Path, asked: list[int]) -> list[int] | None:
        """What stands between the model's last token and its next; None where the template has rewritten what came before."""
        said = [*path.prompt, *path.completion]
        if asked[: len(said)] == said:
            return asked[len(said) :]
        messages = episode.messages
        last = max(place for place, message in enumerate(messages) if message.role == "assistant")
        context = [
            message.model_copy(update={"weight": 0.0 if message.role == "assistant" else None})
            for message in messages[:last]
        ]
        turn = messages[last].model_copy(update={"weight": 1.0})
        chat = Chat(messages=(*context, turn), tools=episode.task.tools, id="x", source="x")
        tree = self.renderer.chat_to_tree(chat)
        if isinstance(tree, Skip):
            return None
        shown = tree.rows()[-1][0]
        if shown[: len(path.asked)] != path.asked or asked[: len(shown)] != shown:
            return None
        is_closed = said[-1] in self.renderer.stop_ids
        return [*([] if is_closed else shown[-1:]), *asked[len(shown) :]]


class Rollouts(NamedTuple):
    """What `GRPOTrainer` takes as `rollout_func`, and the rows of its data set, which name tasks."""

    func: Callable[[list[str], GRPOTrainer], dict[str, list[Any]]]
    rows: list[dict[str, Any]]


def reward_score(*, score: Sequence[float | None], **_: Any) -> list[float | None]:
    """The reward function beside `tasks_to_rollouts`: the score of each final state; None where it cannot be known."""
    return list(score)


def tasks_to_rollouts(
    tasks: Sequence[Task],
    *,
    model: str,
    kinds: Mapping[str, Kind] = WORLDS,
    max_steps: int = 12,
    max_new_tokens: int = 128,
) -> Rollouts:
    """Training tasks as a function that plays them with the trainer's model as it is, and as rows.

    The trainer's `temperature` and `max_completion_length` (results included) count; the model draws from all tokens, so
    `top_p`, `top_k` and `min_p` must be left alone. The function also tells `score`, `outcome` and `turns_left_out`.

    Args:
        model: folder whose tokenizer and template are used.
        max_steps: turns after which an episode ends as it is.
        max_new_tokens: longest turn.

    Raises:
        UserError: for a task of the test split, and as `read_renderer`.
    """
    known = _task_by_id(tasks)
    renderer = read_renderer(model)

    def rollout(prompts: list[str], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        args = trainer.args
        if args.top_p != 1 or args.top_k or args.min_p or args.repetition_penalty != 1:
            raise UserError("rollouts draw from all tokens: leave top_p, top_k, min_p and repetition_penalty alone")
        most = args.max_completion_length
        if most < max_new_tokens:
            raise UserError(f"max_completion_length {most} holds no turn of {max_new_tokens} tokens (max_new_tokens)")
        played = trainer.accelerator.unwrap_model(trainer.model)
        was_training = played.training
        policy = PathPolicy(
            played, renderer, most_tokens=most, max_new_tokens=max_new_tokens, temperature=trainer.temperature
        )
        seed = f"{args.seed}:{trainer.state.global_step}:{trainer.accelerator.process_index}"
        tries = [
            Try(known[name], sample, zlib.crc32(f"{seed}:{name}:{sample}".encode()))
            for sample, name in enumerate(prompts)
        ]
        ended: dict[str, Trajectory] = {}
        try:
            records = run_tasks(
                policy, tries, label=_LABEL, kinds=kinds, max_steps=max_steps, live=len(tries), invalid_tries=[]
            )
            ended.update((record.id, record) for record in records)
            return _to_output(tries, policy, ended, trainer.temperature)
        finally:
            played.train(was_training)

    return Rollouts(rollout, [{"prompt": task.id} for task in tasks])


def _to_output(
    tries: Sequence[Try], policy: PathPolicy, ended: Mapping[str, Trajectory], temperature: float
) -> dict[str, list[Any]]:
    output: dict[str, list[Any]] = {
        name: []
        for name in ("prompt_ids", "completion_ids", "logprobs", "env_mask", "score", "outcome", "turns_left_out")
    }
    for attempt in tries:
        path = policy.paths[attempt.key]
        record = ended.get(try_to_record_id(attempt, label=_LABEL))
        completion, is_models = path.scored
        output["prompt_ids"].append(path.prompt)
        output["completion_ids"].append(completion)
        output["env_mask"].append(is_models)
        output["logprobs"].append(_logprobs(policy.model, path.prompt, completion, temperature))
        output["score"].append(None if record is None else (record.metadata.model_extra or {})["score"])
        output["outcome"].append(None if record is None else record.outcome.value)
        output["turns_left_out"].append(path.turns_left_out)
    return output


def _logprobs(model: Any, prompt: Sequence[int], completion: Sequence[int], temperature: float) -> list[float]:
    """The log-probability of each token of a completion under what it was drawn from."""
    import torch  # noqa: PLC0415 - only with a model

    ids = torch.tensor([[*prompt, *completion]], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=ids, logits_to_keep=len(completion) + 1).logits[0, :-1].float() / temperature
    told: list[float] = logits.log_softmax(-1).gather(-1, ids[0, len(prompt) :, None])[:, 0].tolist()
    return told
