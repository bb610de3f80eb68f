"""Models under transformers: batches, kept caches, sampling, windows, adapters, and the formats in which calls are written."""

from __future__ import annotations

import random
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.agent import transformers_model as backends
from benchmark.agent.episodes import Unreadable, open_episode, run_tasks
from benchmark.agent.transformers_model import TransformersPolicy, lengths_to_batches, read_renderer
from benchmark.worlds.kinds import make_tasks
from core.errors import UserError
from data.chats import Chat, Message, ToolCall
from data.records import INVALID_CALL, Outcome, ToolSpec, Trajectory
from data.rendering.renderer import Renderer

BOTH = ["files", "api"]


def extra(record: Trajectory, name: str) -> Any:
    assert record.metadata.model_extra is not None
    return record.metadata.model_extra[name]


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


@pytest.mark.parametrize("padding", [256, 4])
def test_batched_generation_with_a_kept_cache_says_what_generate_says(
    padding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where prompts are read apart from each other because padding is dear."""
    import torch  # noqa: PLC0415 - only this test

    monkeypatch.setattr(backends, "_PADDING_WORTH_A_READING", padding)
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


@given(st.lists(st.integers(1, 30_000), max_size=60), st.integers(1, 20))
def test_prompts_of_like_lengths_share_a_batch(lengths: list[int], batch_size: int) -> None:
    batches = lengths_to_batches(dict(enumerate(lengths)), batch_size, most_padding=16_384)
    flat = [place for batch in batches for place in batch]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[place] for place in flat] == sorted(lengths), "neighbours in length"
    padding = [sum(lengths[batch[-1]] - lengths[place] for place in batch) for batch in batches]
    assert all(len(batch) <= batch_size for batch in batches) and all(each <= 16_384 for each in padding)
    for batch, following in pairwise(batches):  # none was ended without a reason
        longer = lengths[following[0]]
        assert len(batch) == batch_size or sum(longer - lengths[place] for place in batch) > 16_384


@given(st.data())
def test_a_cache_with_room_holds_what_one_that_grows_holds(data: st.DataObject) -> None:
    import torch  # noqa: PLC0415 - only the tests of models
    from transformers.cache_utils import DynamicLayer  # noqa: PLC0415 - as above

    from benchmark.agent.kv_cache import RoomyLayer  # noqa: PLC0415 - as above

    pieces = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    rows = data.draw(st.integers(1, 5))
    grows, roomy = DynamicLayer(), RoomyLayer(sum(pieces))
    for length in pieces:
        keys, values = torch.rand(rows, 2, length, 3), torch.rand(rows, 2, length, 4)
        for grown, held in zip(grows.update(keys, values), roomy.update(keys, values), strict=True):
            assert torch.equal(grown, held)
        assert grows.get_seq_length() == roomy.get_seq_length()
        kept = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, unique=True).map(sorted))
        grows.reorder_cache(torch.tensor(kept))
        roomy.keep_rows(kept)
        rows = len(kept)
        assert torch.equal(grows.keys, roomy.keys) and torch.equal(grows.values, roomy.values)
    with pytest.raises(ValueError, match="tokens in a cache for"):
        roomy.update(torch.rand(rows, 2, 1, 3), torch.rand(rows, 2, 1, 4))


SHAPES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lfm2": ("Lfm2Config", "Lfm2ForCausalLM", {"layer_types": ["conv", "full_attention"], "conv_L_cache": 3}),
    "gemma3": (
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        {"head_dim": 16, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "mistral": ("MistralConfig", "MistralForCausalLM", {"sliding_window": 4}),
    "qwen3.5": (
        "Qwen3_5TextConfig",
        "Qwen3_5ForCausalLM",
        {
            "head_dim": 16, "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
            "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_models_that_keep_no_full_keys_say_what_generate_says(shape: str) -> None:
    """Sliding windows, convolutions and linear attention, with prompts of different lengths in one batch."""
    import torch  # noqa: PLC0415 - only these tests
    import transformers  # noqa: PLC0415 - as above

    config_class, model_class, more = SHAPES[shape]
    config = getattr(transformers, config_class)(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=256, eos_token_id=None, pad_token_id=0, bos_token_id=1, **more,
    )  # fmt: skip
    torch.manual_seed(0)
    model = getattr(transformers, model_class)(config).eval()
    prompts = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [5, 6, 7], [20, 21, 22, 23, 24]]
    alone = [
        model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False)[0, len(prompt) :].tolist()
        for prompt in prompts
    ]
    stops = type("Stops", (), {"stop_ids": (49,)})()
    wanted = [ids[: ids.index(49) + 1] if 49 in ids else ids for ids in alone]
    policy = TransformersPolicy(model, stops, max_new_tokens=8)
    assert policy.generate(prompts, ["a", "b", "c"]) == wanted
    longer = [prompt + ids + [3, 4] for prompt, ids in zip(prompts, wanted, strict=True)]
    alone = [
        model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False)[0, len(prompt) :].tolist()
        for prompt in longer
    ]
    wanted = [ids[: ids.index(49) + 1] if 49 in ids else ids for ids in alone]
    assert policy.generate(longer, ["a", "b", "c"]) == wanted


def test_an_adapter_of_a_tied_head_is_not_merged_into_the_embedding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch  # noqa: PLC0415 - only these tests
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - as above
    from transformers import LlamaForCausalLM  # noqa: PLC0415 - as above

    monkeypatch.setattr("benchmark.agent.transformers_model.read_renderer", lambda *_, **__: Stops())
    small_llama(tie_word_embeddings=True).save_pretrained(tmp_path / "base")
    lora = LoraConfig(target_modules=["lm_head"], init_lora_weights=False, r=4, lora_alpha=32)
    trained = get_peft_model(LlamaForCausalLM.from_pretrained(tmp_path / "base"), lora).eval()
    trained.save_pretrained(tmp_path / "adapter")
    policy = TransformersPolicy.from_pretrained(str(tmp_path / "adapter"))
    ids = torch.arange(8)[None]
    with torch.no_grad():
        assert (trained(ids).logits - policy.model(ids).logits).abs().max() < 1e-4


def test_a_rewritten_history_costs_what_is_new_and_changes_no_answer() -> None:
    """As a template that drops old reasoning: the next prompt is not the last one with more behind it."""
    import torch  # noqa: PLC0415 - only the tests of models

    model = small_llama()
    policy = TransformersPolicy(model, Stops(), max_new_tokens=8)  # type: ignore[arg-type]
    rng = random.Random(1)
    tools, thought, rest = ([rng.randrange(3, 64) for _ in range(size)] for size in (40, 20, 10))
    for prompt in (tools + thought + rest, tools + rest + thought, tools[:20] + rest):
        alone = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=8, do_sample=False,
        )  # fmt: skip
        assert policy.generate([prompt], ["a"]) == [alone[0, len(prompt) :].tolist()]


def test_what_prompts_of_a_batch_begin_with_is_computed_once() -> None:
    model = small_llama()
    fed, forward = [], model.forward

    def counting(*args: Any, input_ids: Any, **keywords: Any) -> Any:
        fed.append(input_ids.numel())
        return forward(*args, input_ids=input_ids, **keywords)

    model.forward = counting
    policy = TransformersPolicy(model, Stops(), max_new_tokens=1)  # type: ignore[arg-type]
    rng = random.Random(2)
    both, one, other = ([rng.randrange(3, 64) for _ in range(size)] for size in (50, 60, 70))
    prompts = [[*both, 5, 6], both + one + [7], both + one + [8], both + other + [9, 10, 11], both + other + [12]]
    policy.generate(prompts, list("abcde"))
    assert sorted(fed[:-1]) == [50, 60, 70]
    assert fed[-1] == 5 * 3, "five rows, padded to the longest rest"


def test_one_long_prompt_is_not_padded_into_all_rows() -> None:
    model = small_llama()
    fed, forward = [], model.forward

    def counting(*args: Any, input_ids: Any, **keywords: Any) -> Any:
        fed.append(tuple(input_ids.shape))
        return forward(*args, input_ids=input_ids, **keywords)

    model.forward = counting
    policy = TransformersPolicy(model, Stops(), max_new_tokens=1)  # type: ignore[arg-type]
    rng = random.Random(3)
    prompts = [[rng.randrange(3, 64) for _ in range(size)] for size in (30, 31, 33, 900, 30)]
    policy.generate(prompts, list("abcde"))
    assert fed == [(4, 32), (1, 899), (5, 1)]


def test_a_sample_depends_on_its_seed_and_on_no_other_task() -> None:
    def sample(prompts: dict[str, list[int]], seed: int) -> dict[str, list[int]]:
        policy = TransformersPolicy(small_llama(), Stops(), max_new_tokens=12, temperature=1.5)  # type: ignore[arg-type]
        policy._chances = {name: random.Random(f"{seed} {name}") for name in prompts}
        return dict(zip(prompts, policy.generate(list(prompts.values()), list(prompts)), strict=True))

    prompts = {"a": [5, 6, 7], "b": [8, 9], "c": [5, 6, 7]}
    together = sample(prompts, 1)
    assert together == sample(prompts, 1) != sample(prompts, 2)
    assert together["a"] != together["c"], "two tries of one task"
    for name, prompt in prompts.items():
        assert sample({name: prompt}, 1) == {name: together[name]}


def test_sampled_tokens_have_the_models_shares() -> None:
    import torch  # noqa: PLC0415 - only the tests of models

    policy = TransformersPolicy(small_llama(), Stops(), temperature=2.0)  # type: ignore[arg-type]
    policy._chances = {"x": random.Random(0)}
    logits = torch.tensor([[0.0, 2.0, 4.0, -float("inf")]]).repeat(4000, 1)
    drawn = np.bincount(policy._choose(logits, ["x"] * 4000).numpy(), minlength=4) / 4000
    expected = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
    assert np.abs(drawn[:3] - expected).max() < 0.03 and drawn[3] == 0


def test_a_random_model_runs_and_its_turns_are_kept_as_it_wrote_them(tiny_model: Path) -> None:
    policy = TransformersPolicy.from_pretrained(str(tiny_model), max_new_tokens=8)
    records = list(run_tasks(policy, make_tasks(BOTH, "test", 6, 1), label="tiny", max_steps=2, live=4, advise=True))
    assert len(records) == 6
    for record in records:
        assert record.outcome is Outcome.FAILURE
        action = record.action_sequence[0]
        assert (action.command, action.error) == (INVALID_CALL, "no end within 8 tokens")
        assert isinstance(action.input, dict) and action.input["text"]
        assert [action.command for action in record.action_sequence] == [INVALID_CALL] * 2, "given back as an error"
        assert [advice.step for advice in record.metadata.advice] == [0, 1]
    assert not policy._kept and policy._beginnings
    assert sum(len(ids) for ids, _ in policy._beginnings.values()) <= 16_384


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

    half = TransformersPolicy.from_pretrained(str(tmp_path / "adapter"), dtype="bfloat16").model
    rounded = {name: weight.to(torch.bfloat16) for name, weight in loaded.model.state_dict().items()}
    assert {name: weight.dtype for name, weight in half.state_dict().items()} == dict.fromkeys(rounded, torch.bfloat16)
    assert all(torch.equal(weight, rounded[name]) for name, weight in half.state_dict().items()), "rounded once"


def test_a_template_that_shows_no_tools_is_refused_before_anything_is_run(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        encoding="utf-8",
    )
    with pytest.raises(UserError, match="loses tools"):
        TransformersPolicy.from_pretrained(str(folder), max_new_tokens=8)


def test_a_full_window_ends_a_task_and_a_task_that_never_fits_is_told(tiny_model: Path) -> None:
    policy = TransformersPolicy.from_pretrained(str(tiny_model), max_new_tokens=8)
    [task] = make_tasks(["files"], "test", 1, 1)
    with open_episode(task, label="x").world:
        episode = open_episode(task, label="x")
        length = len(policy.renderer.prompt_ids(episode.messages, task.tools))
        policy.window = length + 8
        assert policy.fits(episode.messages, task.tools)
        first = policy.act([episode])[0]
        assert isinstance(first, Unreadable) and not first.ends
        [record] = run_tasks(policy, [task], label="x", max_steps=5)
        assert [action.error for action in record.action_sequence] == [
            "no end within 8 tokens", f"no room for 8 new tokens in the model's window of {length + 8}",
        ]  # fmt: skip
        policy.window = length + 7
        assert not policy.fits(episode.messages, task.tools)
        with pytest.raises(UserError, match=f"window of {length + 7}; use fewer --max-new-tokens"):
            policy.act([episode])
        episode.world.__exit__(None, None, None)


def test_a_missing_model_folder_is_told_with_the_nearest_name(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="tiny"):
        TransformersPolicy.from_pretrained(str(tiny_model.parent / "tinny"))


# ---------------------------------------------------------------- how calls are written

TOOL = ToolSpec.model_validate(
    {"function": {"name": "move_file", "parameters": {"type": "object", "properties": {
        "path": {"type": "string"}, "times": {"type": "integer"}, "how": {"type": "object"}}}}}
)  # fmt: skip
CALL = {"path": "보고서/7", "times": 7, "how": {"deep": [1, "둘", None]}}
SAID = {
    "answer": Message(role="assistant", content="다 했어요. Done."),
    "call": Message(role="assistant", tool_calls=(ToolCall(id="call_0", name="move_file", arguments=CALL),)),
    "text of digits": Message(
        role="assistant", tool_calls=(ToolCall(id="call_0", name="move_file", arguments={"path": "7"}),)
    ),
    "two calls": Message(
        role="assistant",
        tool_calls=tuple(ToolCall(id=f"call_{n}", name="move_file", arguments={"times": n}) for n in range(2)),
    ),
    "thought and call": Message(
        role="assistant",
        reasoning_content="because",
        tool_calls=(ToolCall(id="call_0", name="move_file", arguments=CALL),),
    ),
}


def model_folder(template: str, folder: Path) -> Path:
    """A model folder without weights: the tokenizer of a family, with one of TRL's templates."""
    from support.templates import STOPS, renderer_of  # noqa: PLC0415 - imports trl

    stops = next(
        (stops for family, stops in STOPS.items() if template.startswith(family)), ["<|im_end|>", "<|endoftext|>"]
    )
    tokenizer = renderer_of(template, "bytes").tokenizer
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    ids = [tokenizer.convert_tokens_to_ids(stop) for stop in stops]
    (folder / "generation_config.json").write_text(f'{{"eos_token_id": {ids}}}', encoding="utf-8")
    return folder


def read_back(renderer: Renderer, message: Message) -> Message | str:
    chat = Chat(messages=(Message(role="user", content="Go."), message), tools=(TOOL,), id="x", source="x")
    tree = renderer.chat_to_tree(chat)
    [(ids, weights)] = tree.rows()  # type: ignore[union-attr] - a refused chat fails here
    start = weights.index(1.0)
    return renderer.completion_to_message(ids[start:], prompt=ids[:start], tools=[TOOL])


@pytest.mark.parametrize(
    ("template", "shows"),
    [
        ("qwen2_5", ["answer", "call", "text of digits", "two calls"]),
        ("qwen3", list(SAID)),
        ("qwen3_5_think", list(SAID)),
        ("qwen3_5_think_training", list(SAID)),  # known to nobody by name
        ("glm4moe", list(SAID)),
        ("llama3_1", ["answer", "call", "text of digits"]),
        ("gptoss", ["answer", "call", "text of digits", "thought and call"]),
        ("gemma4_v5", list(SAID)),
        ("nemotron_3_nano", list(SAID)),
    ],
)
def test_calls_are_read_in_the_models_own_format(template: str, shows: list[str], tmp_path: Path) -> None:
    renderer = read_renderer(str(model_folder(template, tmp_path)))
    for name in shows:
        back = read_back(renderer, SAID[name])
        assert isinstance(back, Message), f"{name}: {back}"
        assert (back.content.strip(), (back.reasoning_content or "").strip(), back.tool_calls) == (
            SAID[name].content, SAID[name].reasoning_content or "", SAID[name].tool_calls,
        ), name  # fmt: skip


CHATML_MISTAKES = [
    '<tool_call>\n{"name": "move_file", "arguments": {"path": 1}\n</tool_call>',
    "<tool_call>nonsense</tool_call>",
    "<tool_call>[]</tool_call>",
    '<tool_call>{"arguments": {}}</tool_call>',
    '<tool_call>{"name": "", "arguments": {}}</tool_call>',
    '<tool_call>{"name": "move_file", "arguments": {"path": NaN}}</tool_call>',
    '<tool_call>{"name": "move_file", "arguments": [1]}</tool_call>',
]
LLAMA_MISTAKES = ['{"name": "move_file", "parameters": {"path": NaN}}', '{"name": "move_file", "parameters": [1]}']


@pytest.mark.parametrize(
    ("template", "text"),
    [
        *((template, text + "<|im_end|>") for template in ("qwen2_5", "qwen3") for text in CHATML_MISTAKES),
        *(("llama3_1", text + "<|eot_id|>") for text in LLAMA_MISTAKES),
    ],
)
def test_a_malformed_call_is_told_in_one_line(template: str, text: str, tmp_path: Path) -> None:
    renderer = read_renderer(str(model_folder(template, tmp_path)))
    prompt = renderer.prompt_ids([Message(role="user", content="Go.")], [TOOL])
    ids = renderer.tokenizer.encode(text, add_special_tokens=False)
    said = renderer.completion_to_message(ids, prompt=prompt, tools=[TOOL])
    assert isinstance(said, str) and said and "\n" not in said, said


def test_a_template_whose_calls_nothing_can_read_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    odd = template.replace("'<tool_call>\\n{\"name\": '", "'CALL {\"name\": '").replace("'}\\n</tool_call>'", "'} END'")
    assert odd != template
    (folder / "chat_template.jinja").write_text(odd, encoding="utf-8")
    with pytest.raises(UserError, match="no known format reads the calls"):
        read_renderer(str(folder))
