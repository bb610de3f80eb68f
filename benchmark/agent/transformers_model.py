"""A model under transformers, and the format in which a model writes its calls."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from benchmark.agent.episodes import Episode, Heard, Policy, Turn, Unreadable
from core.errors import UserError, first_line
from data.chats import Chat, Message, Skip, ToolCall
from data.models import find_base
from data.records import ToolSpec
from data.rendering.renderer import Renderer, Unrenderable
from data.rendering.replies import Reply

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    Layers = list[tuple[torch.Tensor, torch.Tensor]]
    """Keys and values of a sequence by layer, each (heads, tokens, size)."""

Dtype = Literal["auto", "float32", "bfloat16"]
"""What a model computes in."""

_WORTH_SHARING = 32
"""Tokens that several prompts of a batch must have in common before these are computed apart."""
_PADDING_WORTH_A_BATCH = 16_384
"""Tokens of padding in keys that cost a batch that writes about as much as one more batch would: for each token it reads all
weights and all keys. Measured with the embedded model."""
_PADDING_WORTH_A_READING = 256
"""The same for a prompt's first reading, which computes the padding too."""
_SHARED_TOKENS = 16_384
"""How many tokens of beginnings are kept beyond the tasks that computed them."""


@runtime_checkable
class Model(Policy, Protocol):
    """A policy with a window."""

    @property
    def window(self) -> int | None:
        """Most tokens of a prompt and its answer together; None where that is not known."""
        ...

    def fits(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> bool:
        """Whether the window holds the prompt of these messages and one more turn of the model."""
        ...


class TransformersPolicy:
    """A model under transformers: batched decoding with the KV cache kept between the turns of a task.

    A prompt usually begins with what this or another task has already computed: its own earlier turns, or the system turn
    with the same tools. Keys and values are kept unpadded, by token id, and only the rest of a prompt is computed; what
    several prompts of a batch have in common is computed once. The prompt itself is always the renderer's, so where a
    template rewrites its history, the longest common beginning is what is left of the cache.

    A sampled token is the one at which the summed probabilities pass a number from the try's own generator. So it depends
    on the seed of the try and on nothing that happens to other tasks.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        renderer: Renderer,
        *,
        max_new_tokens: int = 128,
        batch_size: int = 16,
        temperature: float = 0.0,
        window: int | None = None,
    ) -> None:
        self.model, self.renderer = model.eval(), renderer
        self.max_new_tokens, self.batch_size, self.temperature = max_new_tokens, batch_size, temperature
        from transformers.cache_utils import DynamicCache, DynamicLayer  # noqa: PLC0415 - only with a model

        told = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.window: int | None = min(filter(None, (window, told)), default=None)
        layers = DynamicCache(config=model.config).layers
        self._keeps_cache = all(type(layer) is DynamicLayer for layer in layers)
        """Sliding-window and recurrent layers keep no full keys; such models compute each prompt anew."""
        self._kept: dict[str, tuple[np.ndarray, Layers]] = {}
        """By try: the ids that are computed, and their keys and values."""
        self._beginnings: dict[str, tuple[np.ndarray, Layers]] = {}
        """What other prompts may begin with, the oldest first."""
        self._chances: dict[str, random.Random] = {}

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        *,
        dtype: Dtype = "auto",
        chat_template_path: str | None = None,
        **options: Any,
    ) -> TransformersPolicy:
        """A model folder, hub id or LoRA adapter folder (whose base is loaded with it).

        `auto` is fp32 on the CPU and bf16 on CUDA, or fp16 on GPUs that only emulate bf16.

        An adapter is merged in fp32 only, where that changes no bits that matter,
        and not if it changes the embedding or the head. On a CPU that is so for bf16 too: the sum is rounded once.

        Raises:
            UserError: if there is no such model, it or its adapter cannot be loaded, or nothing can read the calls that its
                template writes.
        """
        import torch  # noqa: PLC0415 - only with a model
        from safetensors import SafetensorError  # noqa: PLC0415 - as above
        from transformers import AutoModelForCausalLM  # noqa: PLC0415 - as above
        from transformers.utils import logging as transformers_logging  # noqa: PLC0415 - as above

        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        base, adapter = find_base(path)
        cuda = torch.cuda.is_available()
        half = dtype == "bfloat16" or (dtype == "auto" and cuda)
        # GPUs before Ampere only emulate bf16, slowly.
        emulated = cuda and dtype == "auto" and not torch.cuda.is_bf16_supported(including_emulation=False)
        computed = (torch.float16 if emulated else torch.bfloat16) if half else torch.float32
        loaded = computed if cuda else torch.float32
        try:
            model = AutoModelForCausalLM.from_pretrained(base, dtype=loaded, use_safetensors=True)
        except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
            raise UserError(f"{base}: the model cannot be loaded: {first_line(error)}") from None
        if adapter is not None:
            logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # PEFT imports it, and it tells what it lacks
            from peft import PeftModel  # noqa: PLC0415 - as above
            from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: PLC0415 - as above

            try:
                model = PeftModel.from_pretrained(model, adapter)
            except (RuntimeError, ValueError, TypeError, KeyError, SafetensorError) as error:
                raise UserError(f"{adapter}: the adapter cannot be loaded onto {base}: {first_line(error)}") from None
            # Head and embedding may share one tensor; merged into either, an adapter would change both.
            ends = (model.get_output_embeddings(), model.get_input_embeddings())
            if loaded == torch.float32 and not any(isinstance(end, BaseTunerLayer) for end in ends):
                model = model.merge_and_unload()
        renderer = read_renderer(path, chat_template_path=chat_template_path)
        model = model.to("cuda" if cuda else "cpu", computed)
        return cls(model, renderer, **options)

    def fits(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> bool:
        """Whether the window holds the prompt of these messages and one more turn of the model."""
        return self.window is None or prompt_fits(self.renderer, messages, tools, self.window - self.max_new_tokens)

    def act(self, episodes: Sequence[Episode]) -> list[Turn]:
        """What the model says next in each episode."""
        turns: list[Turn | None] = [None] * len(episodes)
        prompts: dict[int, list[int]] = {}
        for place, episode in enumerate(episodes):
            prompt = self.prompt(episode)
            if isinstance(prompt, Unreadable):
                turns[place] = prompt
                continue
            prompts[place] = prompt
            if self.temperature > 0:
                self._chances.setdefault(episode.attempt.key, random.Random(episode.attempt.seed))
        lengths = {place: len(ids) for place, ids in prompts.items()}
        for places in lengths_to_batches(lengths, self.batch_size, most_padding=_PADDING_WORTH_A_BATCH):
            keys = [episodes[place].attempt.key for place in places]
            for place, ids in zip(places, self.generate([prompts[p] for p in places], keys), strict=True):
                turns[place] = self.read(episodes[place], ids, prompt=prompts[place])
        return [turn for turn in turns if turn is not None]

    def prompt(self, episode: Episode) -> list[int] | Unreadable:
        """The ids that the model is asked with now, or the end of the episode."""
        return episode_to_prompt(self.renderer, episode, window=self.window, max_new_tokens=self.max_new_tokens)

    def read(self, episode: Episode, ids: Sequence[int], *, prompt: Sequence[int]) -> Turn:
        """What the model wrote after a prompt, as a turn."""
        is_cut = bool(ids) and ids[-1] not in self.renderer.stop_ids
        return completion_to_turn(self.renderer, ids, prompt=prompt, tools=episode.task.tools, is_cut=is_cut)

    def forget(self, episode: Episode) -> None:
        """Drop the keys and values of the try, but keep a beginning that tasks to come may share."""
        self._chances.pop(episode.attempt.key, None)
        kept = self._kept.pop(episode.attempt.key, None)
        if kept is None:
            return
        # Two tasks of a family both begin with the system turn and its tools; how long that is one alone does not tell.
        name = f"{episode.task.world}/{episode.task.family}"
        before = self._beginnings.pop(name, None)
        ids, layers = kept
        length = min(len(ids), _SHARED_TOKENS // 8) if before is None else _common_length(ids, before[0])
        self._begin_with(
            name, ids[:length], [(keys[:, :length].clone(), values[:, :length].clone()) for keys, values in layers]
        )

    def _begin_with(self, name: str, ids: np.ndarray, layers: Layers) -> None:
        """Keep a beginning for prompts to come, and drop the oldest ones that have no room beside it."""
        self._beginnings[name] = (ids, layers)
        while len(self._beginnings) > 1 and sum(len(ids) for ids, _ in self._beginnings.values()) > _SHARED_TOKENS:
            del self._beginnings[next(iter(self._beginnings))]

    def generate(self, prompts: Sequence[list[int]], keys: Sequence[str]) -> list[list[int]]:
        """Completions (stop token included) of `prompts`; `keys` name the tries whose cache is used and kept."""
        import torch  # noqa: PLC0415 - only with a model

        with torch.inference_mode():
            self._compute_shared(prompts)
            self._compute_ahead(prompts, keys)
            completions: list[list[int]] = [[] for _ in prompts]
            live = list(range(len(prompts)))
            tokens, mask, positions, cache = self._begin(prompts)
            for _ in range(self.max_new_tokens):
                outputs = self.model(
                    input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache,
                    use_cache=True, logits_to_keep=1,
                )  # fmt: skip
                following = self._choose(outputs.logits[:, -1], [keys[place] for place in live])
                ended = []
                for row, (place, token) in enumerate(zip(live, following.tolist(), strict=True)):
                    completions[place].append(token)
                    if token in self.renderer.stop_ids or len(completions[place]) == self.max_new_tokens:
                        ended.append(row)
                        if self._keeps_cache:
                            ids = np.array([*prompts[place], *completions[place][:-1]])
                            self._kept[keys[place]] = (ids, _unpadded(cache, row, mask[row]))
                going = [row for row in range(len(live)) if row not in ended]
                if not going:
                    break
                if ended:
                    index = torch.tensor(going, device=self.model.device)
                    if self._keeps_cache:
                        for layer in cache.layers:
                            layer.keep_rows(going)
                    else:
                        cache.reorder_cache(index)  # recurrent layers have this, and no batch_select_indices
                    mask, positions, following = mask[index], positions[index], following[index]
                    live = [live[row] for row in going]
                tokens = following[:, None]
                positions = positions[:, -1:] + 1
                mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
        return completions

    def _compute_shared(self, prompts: Sequence[list[int]]) -> None:
        """Compute once what several of the prompts begin with, where it is not kept yet."""
        if not self._keeps_cache:
            return
        for one, other in pairwise(sorted(prompts)):  # sorted, those with the longest common beginning are neighbours
            length = _common_length(np.array(one), np.array(other))
            if length - self._longest_prefix(one)[0] >= _WORTH_SHARING:
                shared = one[:length]
                [layers] = self._compute([shared])
                self._begin_with(str(shared), np.array(shared), layers)

    def _compute_ahead(self, prompts: Sequence[list[int]], keys: Sequence[str]) -> None:
        """Compute all but the last token of each prompt, neighbours in what is left of them together.

        Together with all others, each would be padded to the longest: one long tool result in a batch would cost as much as
        one in every row.
        """
        rests = {place: len(prompt) - self._longest_prefix(prompt)[0] for place, prompt in enumerate(prompts)}
        batches = lengths_to_batches(rests, len(prompts), most_padding=_PADDING_WORTH_A_READING)
        if not self._keeps_cache or len(batches) == 1:
            return
        for places in batches:
            read = [place for place in places if rests[place] > 1]
            computed = self._compute([prompts[place][:-1] for place in read]) if read else []
            for place, layers in zip(read, computed, strict=True):
                self._kept[keys[place]] = (np.array(prompts[place][:-1]), layers)

    def _compute(self, prompts: Sequence[list[int]]) -> list[Layers]:
        """Keys and values of prompts of about one length."""
        tokens, mask, positions, cache = self._begin(prompts)
        self.model(
            input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
        return [_unpadded(cache, row, mask[row]) for row in range(len(prompts))]

    def _begin(self, prompts: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Any]:
        """Tokens to compute, mask, positions and the cache of what is kept of the prompts.

        Columns: [padding, kept keys | padding, rest of the prompt]; padding is masked out of attention.
        """
        import torch  # noqa: PLC0415 - only with a model
        from transformers.cache_utils import Cache, DynamicCache  # noqa: PLC0415 - as above

        from benchmark.agent.kv_cache import RoomyLayer  # noqa: PLC0415 - as above

        device, pad = self.model.device, self.renderer.stop_ids[0]
        shared = [self._longest_prefix(prompt) for prompt in prompts]
        past = max(length for length, _ in shared)
        rest = max(len(prompt) - length for prompt, (length, _) in zip(prompts, shared, strict=True))
        mask = torch.zeros(len(prompts), past + rest, dtype=torch.long, device=device)
        tokens = torch.full((len(prompts), rest), pad, device=device)
        positions = torch.zeros_like(tokens)
        for row, (prompt, (length, _)) in enumerate(zip(prompts, shared, strict=True)):
            start = rest - (len(prompt) - length)
            mask[row, past - length : past] = 1
            mask[row, past + start :] = 1
            tokens[row, start:] = torch.tensor(prompt[length:], device=device)
            positions[row, start:] = torch.arange(length, len(prompt), device=device)
        if not self._keeps_cache:  # only the config knows which layer is of which kind
            return tokens, mask, positions, DynamicCache(config=self.model.config)
        room = past + rest + self.max_new_tokens
        cache = Cache(layers=[RoomyLayer(room) for _ in range(self.model.config.get_text_config().num_hidden_layers)])
        if past:
            for layer in range(len(cache.layers)):
                cache.update(*_padded(shared, layer, past), layer)
        return tokens, mask, positions, cache

    def _longest_prefix(self, prompt: list[int]) -> tuple[int, Layers]:
        """How much of the prompt is computed already, and its keys and values. The last token is always left to compute."""
        most = np.array(prompt[:-1])
        best: tuple[int, Layers] = (0, [])
        for ids, layers in (*self._kept.values(), *self._beginnings.values()):
            length = _common_length(most, ids)
            if length > best[0]:
                best = (length, layers)
        return best

    def _choose(self, logits: torch.Tensor, keys: Sequence[str]) -> torch.Tensor:
        """The next token of each row: the likeliest, or a drawn one."""
        import torch  # noqa: PLC0415 - only with a model

        if self.temperature <= 0:
            return logits.argmax(-1)
        sums = torch.softmax(logits.double() / self.temperature, -1).cumsum(-1)
        drawn = [self._chances[key].random() for key in keys]
        numbers = torch.tensor(drawn, dtype=torch.float64, device=logits.device)[:, None] * sums[:, -1:]
        return torch.searchsorted(sums, numbers, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


def lengths_to_batches(lengths: Mapping[int, int], batch_size: int, *, most_padding: int) -> list[list[int]]:
    """Which prompts share a batch, given the length of each in tokens: neighbours in length, with little padding."""
    batches: list[list[int]] = []
    padding = 0
    for place in sorted(lengths, key=lambda place: lengths[place]):
        if batches:
            padding += len(batches[-1]) * (lengths[place] - lengths[batches[-1][-1]])
        if not batches or len(batches[-1]) == batch_size or padding > most_padding:
            batches.append([])
            padding = 0
        batches[-1].append(place)
    return batches


def _common_length(one: np.ndarray, other: np.ndarray) -> int:
    """How many items two sequences have in common from their start."""
    length = min(len(one), len(other))
    different = np.flatnonzero(one[:length] != other[:length])
    return int(different[0]) if len(different) else length


def _unpadded(cache: Any, row: int, mask: torch.Tensor) -> Layers:
    """The keys and values of one row of a batch, where the mask is 1."""
    seen = mask.bool()
    return [(layer.keys[row][:, seen], layer.values[row][:, seen]) for layer in cache.layers]


def _padded(shared: Sequence[tuple[int, Layers]], layer: int, past: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of one layer for the batch, (batch, heads, past, size), padded with zeros on the left."""
    keys, values = next(layers[layer] for length, layers in shared if length)
    blocks = [like.new_zeros(len(shared), like.shape[0], past, like.shape[2]) for like in (keys, values)]
    for row, (length, layers) in enumerate(shared):
        for block, side in zip(blocks, layers[layer] if length else (), strict=bool(length)):
            block[row, :, past - length :] = side[:, :length]
    return blocks[0], blocks[1]


# ---------------------------------------------------------------- prompts and turns by our own renderer


def episode_to_prompt(
    renderer: Renderer, episode: Episode, *, window: int | None, max_new_tokens: int
) -> list[int] | Unreadable:
    """The ids that the model is given now, or the end of the episode: what the model did fills its window, or its template
    cannot show it.

    Raises:
        UserError: if nothing was said yet, so that it is the task which does not fit or cannot be shown.
    """
    try:
        prompt = renderer.prompt_ids(episode.messages, episode.task.tools)
    except Unrenderable as error:
        if not episode.actions:
            raise UserError(f"{renderer.tokenizer.name_or_path}: {error}") from None
        return Unreadable("", str(error), ends=True)
    if window is None or len(prompt) + max_new_tokens <= window:
        return prompt
    reason = f"no room for {max_new_tokens} new tokens in the model's window of {window}"
    if not episode.actions:
        raise UserError(
            f"task {episode.task.id}: {reason}; use fewer --max-new-tokens, or a model with a larger window"
        )
    return Unreadable("", reason, ends=True)


def prompt_fits(renderer: Renderer, messages: Sequence[Message], tools: Sequence[ToolSpec], tokens: int) -> bool:
    """Whether a prompt has at most so many tokens. One that the template cannot show is left for `act` to tell."""
    try:
        return len(renderer.prompt_ids(messages, tools)) <= tokens
    except Unrenderable:
        return True


def completion_to_turn(
    renderer: Renderer, ids: Sequence[int], *, prompt: Sequence[int], tools: Sequence[ToolSpec], is_cut: bool
) -> Turn:
    """What the model emitted after `prompt`, as a turn; `is_cut` when it came to no end."""
    cut = f"no end within {len(ids)} tokens"
    reply = Reply(cut) if is_cut else renderer.read_completion(ids, prompt=prompt, tools=tools)
    if isinstance(reply.said, str):
        return Unreadable(renderer.tokenizer.decode(ids, skip_special_tokens=True), reply.said)
    return reply.said if reply.form is None else Heard(**reply.said.model_dump(), form=reply.form)


def read_renderer(path: str, *, chat_template_path: str | None = None) -> Renderer:
    """The renderer of a model whose calls can be read, in a form of data/rendering/replies.py or by its tokenizer's
    response template.

    Raises:
        UserError: if there is no usable tokenizer, its template cannot show what an agent does, or no format fits.
    """
    renderer = Renderer.from_pretrained(path, chat_template_path=chat_template_path)
    tokenizer = renderer.tokenizer
    for part in ("tools", "calls", "results"):
        if part in renderer.faults:
            raise UserError(f"{path}: {renderer.faults[part]}")
    if _reads_its_own_calls(renderer) or getattr(tokenizer, "response_template", None):
        return renderer
    raise UserError(
        f"{path}: no known format reads the calls that its chat template writes; "
        "put a response_template into its tokenizer_config.json"
    )


_PROBE_TOOL = ToolSpec.model_validate(
    {"function": {"name": "probe", "parameters": {"type": "object", "properties": {
        "text": {"type": "string"}, "count": {"type": "integer"}}}}}
)  # fmt: skip
_PROBES = tuple(
    Message(role="assistant", content=content, tool_calls=calls)
    for content, calls in (
        ("A word.", ()),
        ("", (ToolCall(id="call_0", name="probe", arguments={"text": "7", "count": 7}),)),
    )
)


def _reads_its_own_calls(renderer: Renderer) -> bool:
    """Whether a text and a call, rendered as training renders them, are read back as they were.

    Raises:
        UserError: if the template cannot show one of them: then nobody knows whether a call would be read.
    """
    for probe in _PROBES:
        chat = Chat(
            messages=(Message(role="user", content="Go."), probe), tools=(_PROBE_TOOL,), id="probe", source="probe"
        )
        tree = renderer.chat_to_tree(chat)
        if isinstance(tree, Skip):
            raise UserError(
                f"{renderer.tokenizer.name_or_path}: no call can be shown, so none could be read: {tree.reason}"
            )
        [(ids, weights)] = tree.rows()
        start = weights.index(1.0)
        back = renderer.completion_to_message(ids[start:], prompt=ids[:start], tools=chat.tools)
        if not isinstance(back, Message) or (back.content.strip(), back.tool_calls) != (
            probe.content,
            probe.tool_calls,
        ):
            return False
    return True
