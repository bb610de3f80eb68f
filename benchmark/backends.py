"""Who acts: a model under transformers, the expert, an expert that errs on purpose, and policies too trivial to succeed."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmark.agent import Episode, Policy, Turn, Unreadable, move_to_message
from benchmark.worlds.table import WORLDS
from data.chats import Message, ToolCall
from data.errors import UserError, nearest
from data.render import Renderer, Unrenderable, find_base

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_MISTAKES_TRIED = 4
"""Some are no mistake where they are made, such as a wrong text that is written down all the same."""


class _Stateless:
    """A policy that keeps nothing for an episode."""

    def forget(self, episode: Episode) -> None:
        """Nothing was kept."""


class Expert(_Stateless):
    """Does what the world's expert would. With `mistakes`, it errs first in that share of the episodes.

    A mistake is a call that a model might make: a misspelt tool or argument, an argument left out, a path or value that
    is not there. It is tried in a twin of the world first and made only if it fails without doing harm, so what follows
    is a real recovery from a real error.
    """

    def __init__(self, *, mistakes: float = 0.0, seed: int = 0) -> None:
        self.mistakes, self.seed = mistakes, seed

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        """The expert's next move, or a mistake where one is due."""
        return [self._turn(episode) for episode in episodes]

    def _turn(self, episode: Episode) -> Turn:
        message = move_to_message(episode.world.expert(episode.actions))
        # Its own generator for each episode and step: the same record for any order or number of workers.
        chance = random.Random(f"{self.seed}:{episode.task.id}:{len(episode.actions)}")
        if message.tool_calls and self._errs_at(episode) == len(episode.actions):
            for _ in range(_MISTAKES_TRIED):
                wrong = _mistake(message.tool_calls[0], chance)
                if _fails_harmlessly(episode, wrong):
                    return Message(role="assistant", tool_calls=(wrong,))
        return message

    def _errs_at(self, episode: Episode) -> int:
        chance = random.Random(f"{self.seed}:{episode.task.id}")
        return chance.randrange(max(1, episode.task.tier)) if chance.random() < self.mistakes else -1


def _mistake(call: ToolCall, chance: random.Random) -> ToolCall:
    texts = [name for name, value in call.arguments.items() if isinstance(value, str) and len(value) > 3]
    kinds = ["tool", *(["name", "missing"] if call.arguments else []), *(["value"] if texts else [])]
    kind = chance.choice(kinds)
    arguments = dict(call.arguments)
    if kind == "tool":
        return ToolCall(
            id=call.id,
            name=call.name.rsplit("_", 1)[0] if "_" in call.name else f"{call.name}_all",
            arguments=arguments,
        )
    name = chance.choice(texts if kind == "value" else list(arguments))
    if kind == "missing":
        del arguments[name]
    elif kind == "name":
        arguments = {f"{key}_name" if key == name else key: value for key, value in arguments.items()}
    else:
        text = str(arguments[name])
        at = chance.randrange(len(text) - 1)
        arguments[name] = text[:at] + text[at + 1 :]
    return ToolCall(id=call.id, name=call.name, arguments=arguments)


def _fails_harmlessly(episode: Episode, call: ToolCall) -> bool:
    """Whether the call is an error of its own in a twin world brought to the same state."""
    with WORLDS[episode.task.world].open(episode.task) as twin:
        for action in episode.actions:
            twin.call(action.command, dict(action.input) if isinstance(action.input, dict) else {})
        result = twin.call(call.name, dict(call.arguments))
    return result.error is not None and result.injected is None


class Echo(_Stateless):
    """Repeats the instruction."""

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        """The instruction, as a final answer."""
        return [Message(role="assistant", content=episode.task.instruction) for episode in episodes]


class SameTool(_Stateless):
    """Calls the first tool every time, with the whole instruction for every argument."""

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        """One call of the first tool."""
        return [self._turn(episode) for episode in episodes]

    @staticmethod
    def _turn(episode: Episode) -> Turn:
        tool = episode.task.tools[0].function
        properties = tool.parameters.get("properties")
        arguments: dict[str, Any] = dict.fromkeys(
            properties if isinstance(properties, dict) else {}, episode.task.instruction
        )
        return Message(role="assistant", tool_calls=(ToolCall(id="call_0", name=tool.name, arguments=arguments),))


class SayDone(_Stateless):
    """Claims success and does nothing."""

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        """`Done.`"""
        return [Message(role="assistant", content="Done.") for _ in episodes]


class SayNoTool(_Stateless):
    """Always says that no tool fits. It is right where none does, which few tasks are made of."""

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        """`No tool can do that.`"""
        return [Message(role="assistant", content="No tool can do that.") for _ in episodes]


POLICIES: dict[str, type[Expert] | type[Echo] | type[SameTool] | type[SayDone] | type[SayNoTool]] = {
    "expert": Expert,
    "echo": Echo,
    "same-tool": SameTool,
    "say-done": SayDone,
    "say-no-tool": SayNoTool,
}


def policy_named(name: str) -> Policy:
    """A policy without a model.

    Raises:
        UserError: for an unknown name, with the nearest.
    """
    if name not in POLICIES:
        raise UserError(f"policy {name!r} is unknown, expected {', '.join(POLICIES)}.{nearest(name, POLICIES)}")
    return POLICIES[name]()


class TransformersPolicy:
    """A model under transformers: batched greedy (or sampled) decoding with the KV cache kept between the turns of a task.

    A prompt usually begins with what this or another task has already computed: its own earlier turns, or the system
    turn with the same tools. Keys and values are kept unpadded per episode, and only the rest of a prompt is computed.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        renderer: Renderer,
        *,
        max_new_tokens: int = 128,
        batch_size: int = 16,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        import torch  # noqa: PLC0415 - only with a model

        self.model, self.renderer = model.eval(), renderer
        self.max_new_tokens, self.batch_size, self.temperature = max_new_tokens, batch_size, temperature
        self._generator = torch.Generator(device=model.device).manual_seed(seed)
        self._kept: dict[str, tuple[list[int], list[tuple[torch.Tensor, torch.Tensor]]]] = {}
        config = model.config.get_text_config()
        self._window: int = getattr(config, "max_position_embeddings", None) or sys.maxsize
        layers = getattr(config, "layer_types", None) or []
        self._keeps_cache = all(kind == "full_attention" for kind in layers)
        """Sliding-window and recurrent layers keep no full keys; such models compute each prompt anew."""

    @classmethod
    def from_pretrained(cls, path: str, *, chat_template_path: str | None = None, **options: Any) -> TransformersPolicy:
        """A model folder, hub id or LoRA adapter folder (whose base is loaded with it).

        fp32 on the CPU and bf16 on CUDA. An adapter is merged in fp32 only, where that changes no bits that matter.

        Raises:
            UserError: if there is no such model.
        """
        import torch  # noqa: PLC0415 - only with a model
        from transformers import AutoModelForCausalLM  # noqa: PLC0415 - as above
        from transformers.utils import logging as transformers_logging  # noqa: PLC0415 - as above

        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        base, adapter = find_base(path)
        cuda = torch.cuda.is_available()
        try:
            model = AutoModelForCausalLM.from_pretrained(
                base, dtype=torch.bfloat16 if cuda else torch.float32, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise UserError(f"{base}: the model cannot be loaded: {str(error).splitlines()[0]}") from None
        if adapter is not None:
            logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # PEFT imports it, and it tells what it lacks
            from peft import PeftModel  # noqa: PLC0415 - as above

            model = PeftModel.from_pretrained(model, adapter)
            if not cuda:
                model = model.merge_and_unload()
        renderer = Renderer.from_pretrained(path, chat_template_path=chat_template_path)
        return cls(model.to("cuda") if cuda else model, renderer, **options)

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        """What the model says next in each episode."""
        turns: list[Turn | None] = [None] * len(episodes)
        prompts: dict[int, list[int]] = {}
        for place, episode in enumerate(episodes):
            try:
                prompts[place] = self.renderer.prompt_ids(episode.messages, episode.task.tools)
            except Unrenderable as error:
                if not episode.actions:  # not what the model did, but a template that can show no task at all
                    raise UserError(f"{self.renderer.tokenizer.name_or_path}: {error}") from None
                turns[place] = Unreadable("", str(error))
                continue
            if len(prompts[place]) + self.max_new_tokens > self._window:
                reason = f"no room for {self.max_new_tokens} new tokens in the model's window of {self._window}"
                if not episode.actions:
                    raise UserError(f"{self.renderer.tokenizer.name_or_path}: {reason}")
                turns[place] = Unreadable("", reason)
                del prompts[place]
        # Neighbours in length share a batch, so that little is padded.
        order = sorted(prompts, key=lambda place: len(prompts[place]))
        for at in range(0, len(order), self.batch_size):
            places = order[at : at + self.batch_size]
            completions = self.generate([prompts[p] for p in places], [episodes[p].task.id for p in places])
            for place, ids in zip(places, completions, strict=True):
                message = self.renderer.completion_to_message(ids)
                if isinstance(message, str):
                    text = self.renderer.tokenizer.decode(ids, skip_special_tokens=True)
                    turns[place] = Unreadable(text, message)
                elif ids and ids[-1] not in self.renderer.stop_ids:
                    text = self.renderer.tokenizer.decode(ids, skip_special_tokens=True)
                    turns[place] = Unreadable(text, f"no end within {self.max_new_tokens} tokens")
                else:
                    turns[place] = message
        return [turn for turn in turns if turn is not None]

    def forget(self, episode: Episode) -> None:
        """Drop the episode's keys and values, but keep one of those that share its tools, for the tasks to come."""
        kept = self._kept.pop(episode.task.id, None)
        if kept is not None and self._keeps_cache:
            self._kept[f"tools of {episode.task.world}/{episode.task.family}"] = kept

    def generate(self, prompts: Sequence[list[int]], keys: Sequence[str]) -> list[list[int]]:
        """Completions (stop token included) of `prompts`; `keys` name the episodes whose cache is used and kept."""
        import torch  # noqa: PLC0415 - only with a model
        from transformers import DynamicCache  # noqa: PLC0415 - as above

        device, pad = self.model.device, self.renderer.stop_ids[0]
        with torch.inference_mode():
            shared = [self._longest_prefix(prompt) for prompt in prompts]
            past = max(length for length, _ in shared)
            rest = max(len(prompt) - length for prompt, (length, _) in zip(prompts, shared, strict=True))
            # Columns: [padding, kept keys | padding, rest of the prompt | generated]; padding is masked out of attention.
            mask = torch.zeros(len(prompts), past + rest, dtype=torch.long, device=device)
            tokens = torch.full((len(prompts), rest), pad, device=device)
            positions = torch.zeros_like(tokens)
            for row, (prompt, (length, _)) in enumerate(zip(prompts, shared, strict=True)):
                mask[row, past - length : past] = 1
                mask[row, past + rest - (len(prompt) - length) :] = 1
                tokens[row, rest - (len(prompt) - length) :] = torch.tensor(prompt[length:], device=device)
                positions[row, rest - (len(prompt) - length) :] = torch.arange(length, len(prompt), device=device)
            cache = DynamicCache()
            if past:
                for layer in range(self.model.config.get_text_config().num_hidden_layers):
                    cache.update(*self._padded(shared, layer, past), layer)
            completions: list[list[int]] = [[] for _ in prompts]
            live = list(range(len(prompts)))
            for _ in range(self.max_new_tokens):
                outputs = self.model(
                    input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache,
                    use_cache=True, logits_to_keep=1,
                )  # fmt: skip
                following = self._choose(outputs.logits[:, -1])
                ended = []
                for row, (place, token) in enumerate(zip(live, following.tolist(), strict=True)):
                    completions[place].append(token)
                    if token in self.renderer.stop_ids or len(completions[place]) == self.max_new_tokens:
                        ended.append(row)
                        self._keep(keys[place], [*prompts[place], *completions[place][:-1]], cache, row, mask[row])
                going = [row for row in range(len(live)) if row not in ended]
                if not going:
                    break
                if ended:
                    index = torch.tensor(going, device=device)
                    cache.batch_select_indices(index)
                    mask, positions, following = mask[index], positions[index], following[index]
                    live = [live[row] for row in going]
                tokens = following[:, None]
                positions = positions[:, -1:] + 1
                mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
        return completions

    def _longest_prefix(self, prompt: list[int]) -> tuple[int, list[tuple[torch.Tensor, torch.Tensor]]]:
        """How much of the prompt is computed already, and its keys and values. The last token is always left to compute."""
        best: tuple[int, list[tuple[torch.Tensor, torch.Tensor]]] = (0, [])
        for ids, layers in self._kept.values():
            length = 0
            for ours, theirs in zip(prompt[:-1], ids, strict=False):
                if ours != theirs:
                    break
                length += 1
            if length > best[0]:
                best = (length, layers)
        return best

    def _padded(
        self, shared: Sequence[tuple[int, list[tuple[torch.Tensor, torch.Tensor]]]], layer: int, past: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of one layer for the batch, (batch, heads, past, size), padded with zeros on the left."""
        import torch  # noqa: PLC0415 - only with a model

        example = next(layers[layer] for length, layers in shared if length)
        sides = []
        for side, like in enumerate(example):
            block = like.new_zeros(len(shared), like.shape[0], past, like.shape[2])
            for row, (length, layers) in enumerate(shared):
                if length:
                    block[row, :, past - length :] = layers[layer][side][:, :length]
            sides.append(block)
        keys, values = sides
        assert isinstance(keys, torch.Tensor)
        return keys, values

    def _keep(self, key: str, ids: list[int], cache: Any, row: int, mask: torch.Tensor) -> None:
        """Store the keys and values of `ids`, without their padding."""
        if not self._keeps_cache:
            return
        seen = mask.bool()
        self._kept[key] = (ids, [(layer.keys[row][:, seen], layer.values[row][:, seen]) for layer in cache.layers])

    def _choose(self, logits: torch.Tensor) -> torch.Tensor:
        import torch  # noqa: PLC0415 - only with a model

        if self.temperature <= 0:
            return logits.argmax(-1)
        shares = torch.softmax(logits.float() / self.temperature, -1)
        return torch.multinomial(shares, 1, generator=self._generator)[:, 0]
