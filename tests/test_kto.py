"""KTO on trees: TRL's own trainer on chats without tools, and only the model's words where there are tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import KTOConfig, KTOTrainer

from data.chats import Chat, Message, ToolCall
from data.rendering.renderer import Renderer
from data.sets.prepared import rows_to_dataset
from support.training import TOOL
from train.mismatched import prompt_of, with_mismatched
from train.parsing import LabelConfig
from train.reference import ReferenceCache
from train.trainers import LabelTrainer
from train.tree import Rendered, RenderReport, UnitCollator, chats_to_rendered, rendered_to_units

# A turn ends with its stop token alone: TRL would also score what this project's rendering holds for context, a line break.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = (
    "Yes.",
    "아니요, 파일이 없습니다.",
    "It depends on the day.",
    "세 개.",
    "I do not know that, sorry.",
    "Blue and green.",
)


def talk(number: int, label: str, **more: Any) -> Chat:
    messages = [
        {"role": "user", "content": f"Question {number}: {WORDS[-number % 6]}?"},
        {"role": "assistant", "content": WORDS[number % 6]},
    ]
    return Chat.model_validate({"messages": messages, "id": f"c{number}", "source": "made", "label": label, **more})


TALKS = [talk(number, "bad" if number in (1, 2, 5) else "good") for number in range(6)]


def adapter() -> LoraConfig:
    """Random on both ends, so that the policy differs from its reference."""
    return LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")


def tokenizer_of(model: Path, template: str | None = TEMPLATE) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(model)
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer


def arguments_of(config: Any, out: Path, size: int, **more: Any) -> Any:
    return config(
        output_dir=str(out), use_cpu=True, bf16=False, report_to=[], gradient_checkpointing=False, max_length=512,
        per_device_train_batch_size=size, per_device_eval_batch_size=size, **more,
    )  # fmt: skip


def rows_of(chats: list[Chat], tokenizer: Any, *, loss_type: str, block: int = 6) -> list[Rendered]:
    rows, report = chats_to_rendered(chats, Renderer(tokenizer), max_tokens=None)
    assert not report.dropped
    return with_mismatched(rows, block=block, max_tokens=None) if loss_type == "kto" else rows


def ours_of(rows: list[Rendered], model: Path, out: Path, *, share: bool = True, **more: Any) -> Any:
    units = rendered_to_units(rows, RenderReport(), share=share)
    torch.manual_seed(0)
    return LabelTrainer(
        model=AutoModelForCausalLM.from_pretrained(model), args=arguments_of(LabelConfig, out, len(rows), **more),
        train_units=units, eval_units=units, backend="segments" if share else "causal",
        data_collator=UnitCollator(0, "one" if share else "paths"), processing_class=tokenizer_of(model),
        peft_config=adapter(),
    )  # fmt: skip


def computed(trainer: Any, batch: Any) -> tuple[float, dict[str, torch.Tensor], dict[str, float]]:
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    gradients = {key: p.grad.clone() for key, p in trainer.model.named_parameters() if p.grad is not None}
    metrics = {key: values[-1] for key, values in trainer._metrics["train"].items() if key != "num_tokens"}
    return float(loss), gradients, metrics


def whole_batch(trainer: Any) -> Any:
    return trainer.data_collator([trainer.train_dataset[at] for at in range(len(trainer.train_dataset))])


def assert_equal(found: Any, wanted: Any) -> None:
    assert found[0] == pytest.approx(wanted[0], rel=1e-5)
    assert found[2] == pytest.approx(wanted[2], rel=1e-4, abs=1e-5)
    assert found[1].keys() == wanted[1].keys()
    assert any(float(gradient.abs().max()) > 1e-6 for gradient in found[1].values())
    for key, gradient in found[1].items():
        assert torch.allclose(gradient, wanted[1][key], rtol=1e-3, atol=1e-6), key


OPTIONS = {
    "as they are": {},
    "good ones more": {"desirable_weight": 1.33},
    "bad ones less, another beta": {"undesirable_weight": 0.25, "desirable_weight": 1.1, "beta": 0.5},
}


@pytest.mark.parametrize("share", [True, False], ids=["trees", "plain rows"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("loss_type", ["apo_zero_unpaired", "kto"])
def test_loss_gradients_and_metrics_are_those_of_trls_own_trainer(
    loss_type: str, options: dict[str, Any], share: bool, tiny_model: Path, tmp_path: Path
) -> None:
    """TRL renders, mismatches, pads and computes by itself, from messages."""
    more = {"loss_type": loss_type, **options}
    ours = ours_of(
        rows_of(TALKS, tokenizer_of(tiny_model), loss_type=loss_type), tiny_model, tmp_path, share=share, **more
    )
    rows = [
        {
            "prompt": [{"role": "user", "content": chat.messages[0].content}],
            "completion": [{"role": "assistant", "content": chat.messages[1].content}],
            "label": chat.label == "good",
        }
        for chat in TALKS
    ]
    import datasets  # noqa: PLC0415 - TRL's rows are nested, and only here

    theirs = KTOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model), args=arguments_of(KTOConfig, tmp_path, len(rows), **more),
        train_dataset=datasets.Dataset.from_list(rows), processing_class=tokenizer_of(tiny_model), peft_config=adapter(),
    )  # fmt: skip
    theirs.model.load_state_dict(ours.model.state_dict())
    assert_equal(computed(ours, whole_batch(ours)), computed(theirs, whole_batch(theirs)))
    if loss_type == "kto":  # or the comparison would be one of zeros
        assert ours._metrics["train"]["kl"][-1] > 0


def tool_chats() -> list[Chat]:
    """Four chats of two tasks, each with a call, a result and an answer."""
    chats = []
    for number in range(4):
        call = ToolCall(id="c", name="read_file", arguments={"path": f"{'파일' * number}{number}.csv"})
        messages = (
            Message(role="user", content=f"Read {number // 2}"),
            Message(role="assistant", tool_calls=(call,)),
            Message(role="tool", content=f"{number},2,3 " * (number + 2), tool_call_id="c", name="read_file"),
            Message(role="assistant", content=WORDS[number]),
        )
        label: Any = "bad" if number % 2 else "good"
        row = Chat(
            messages=messages, tools=(TOOL,), id=f"t{number}", source="made", group=str(number // 2), label=label
        )
        chats.append(row)
    return chats


def trl_batch(rows: list[Rendered], *, results_masked: bool) -> dict[str, torch.Tensor]:
    """TRL's layout of rows: everything from the first scored token on is the completion, unless results are masked out."""

    def padded(sides: list[Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        width = max(len(ids) for ids, _ in sides)
        masks = []
        for ids, weights in sides:
            begin = next(at for at, weight in enumerate(weights) if weight)
            scored = [int(weight > 0) if results_masked else int(at >= begin) for at, weight in enumerate(weights)]
            masks.append(scored + [0] * (width - len(ids)))
        ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in sides])
        real = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in sides])
        return ids, real, torch.tensor(masks)

    names = ("input_ids", "attention_mask", "completion_mask")
    batch = dict(zip(names, padded([row.sides[0][0] for row in rows]), strict=True))
    if len(rows[0].sides) > 1:
        batch |= {
            f"KL_{name}": value
            for name, value in zip(names, padded([row.sides[1][0] for row in rows]), strict=True)
        }  # fmt: skip
    return {**batch, "label": torch.tensor([row.label == "good" for row in rows])}


@pytest.mark.parametrize("loss_type", ["apo_zero_unpaired", "kto"])
def test_tokens_of_tool_results_move_trls_loss_and_never_ours(loss_type: str, tiny_model: Path, tmp_path: Path) -> None:
    rows = rows_of(tool_chats(), tokenizer_of(tiny_model, None), loss_type=loss_type, block=4)
    ours = ours_of(rows, tiny_model, tmp_path, loss_type=loss_type)
    assert [unit["count"] for unit in rendered_to_units(rows, RenderReport(), share=True)] == [2, 2]
    theirs = KTOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model),
        args=arguments_of(KTOConfig, tmp_path, 4, loss_type=loss_type),
        train_dataset=rows_to_dataset([{"prompt": "a", "completion": "b", "label": True}] * 4),
        processing_class=tokenizer_of(tiny_model), peft_config=adapter(),
    )  # fmt: skip
    theirs.model.load_state_dict(ours.model.state_dict())
    found = computed(ours, whole_batch(ours))
    assert_equal(found, computed(theirs, trl_batch(rows, results_masked=True)))
    assert found[0] != pytest.approx(computed(theirs, trl_batch(rows, results_masked=False))[0], rel=1e-4)


def test_no_token_of_a_tool_result_is_scored_by_any_side(tiny_model: Path) -> None:
    tokenizer = tokenizer_of(tiny_model, None)
    for row in rows_of(tool_chats(), tokenizer, loss_type="kto", block=4):
        for side in row.sides:
            for ids, weights in side:
                scored = tokenizer.decode([token for token, weight in zip(ids, weights, strict=True) if weight])
                assert ",2,3" in tokenizer.decode(ids)
                assert ",2,3" not in scored
                assert "read_file" in scored


@pytest.mark.parametrize("loss_type", ["apo_zero_unpaired", "kto"])
def test_a_reference_from_the_cache_is_the_one_that_is_computed_beside_each_step(
    loss_type: str, tiny_model: Path, tmp_path: Path
) -> None:
    rows = rows_of(tool_chats(), tokenizer_of(tiny_model, None), loss_type=loss_type, block=4)
    beside = ours_of(rows, tiny_model, tmp_path, loss_type=loss_type)
    cached = ours_of(rows, tiny_model, tmp_path, loss_type=loss_type, precompute_ref_log_probs=True)
    cached.model.load_state_dict(beside.model.state_dict())
    cache = ReferenceCache(tmp_path / "cache", model_key="k")
    units = rendered_to_units(rows, RenderReport(), share=True)
    cached.use_references({"train": units, "validation": units}, {"train": rows, "validation": rows}, cache)
    assert len(cache) == 4
    assert_equal(computed(cached, whole_batch(cached)), computed(beside, whole_batch(beside)))
    assert cached.evaluate()["eval_loss"] == pytest.approx(beside.evaluate()["eval_loss"], rel=1e-5)


def row_with(number: int, prompt: list[int], said: list[int]) -> Rendered:
    weights = [0.0] * len(prompt) + [1.0] * len(said)
    return Rendered(f"r{number}", f"r{number}", (((prompt + said, weights),),), label="good")


def test_a_mismatched_completion_is_the_one_before_with_another_prompt() -> None:
    prompts = [[1], [2], [2], [3], [3], [3]]
    rows = [row_with(number, prompt, [10 + number]) for number, prompt in enumerate(prompts)]
    mixed = [row.sides[1][0][0] for row in with_mismatched(rows, block=4, max_tokens=None)]
    # As TRL rotates, within 4 and then 2 rows; the last two have one prompt, so the whole set is searched.
    assert mixed == [[1, 13], [2, 10], [2, 10], [3, 12], [3, 12], [3, 12]]
    assert [prompt_of(row.sides[0]) for row in rows] == prompts


def test_a_mismatched_side_scores_what_its_completion_scores_and_is_cut_at_its_end() -> None:
    with_result = Rendered("a", "a", ((([1, 2, 7, 8, 9], [0.0, 0.0, 1.0, 0.0, 0.5]),),), label="bad")
    rows = [with_result, row_with(1, [5], [6])]
    (first, second) = with_mismatched(rows, block=2, max_tokens=3)
    assert first.sides[1] == (([1, 2, 6], [0.0, 0.0, 1.0]),)
    assert second.sides[1] == (([5, 7, 8], [0.0, 1.0, 0.0]),)
    assert (first.label, second.label) == ("bad", "good")


def test_units_hold_neighbours_of_one_task_and_no_more_than_eight() -> None:
    rows = [Rendered(f"r{n}", "task", ((([1, 2, n], [0.0, 0.0, 1.0]),),), label="good") for n in range(3, 13)]
    units = rendered_to_units(rows, RenderReport(), share=True)
    assert [unit["count"] for unit in units] == [8, 2]
    assert len(units[0]["ids"]) == 2 + 8
