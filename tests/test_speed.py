"""`scripts/measure/step_speed.py` runs and its numbers belong together; how fast anything is, is measured and not tested."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from core.errors import UserError
from scripts.measure import step_speed as speed


@pytest.fixture(autouse=True)
def _threads() -> Any:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("case", ["pair", "sft"])
def test_a_training_case_steps_both_sides_and_writes_what_it_measured(
    case: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "SFT_LENGTHS_TOKENS", (81, 93))
    monkeypatch.setattr(speed, "_peak_of", lambda *_: 1.0)  # a process each; below in this one
    out = tmp_path / "result.json"
    speed.main(["--case", case, "--reps", "1", "--model", str(tiny_model), "--json", str(out)])
    result = json.loads(out.read_text())
    medians = result["median_seconds"]
    (ours,), (compact,) = ([n for n in medians if n.startswith("ours")], [n for n in medians if n.endswith("compact")])
    shipped = compact.removesuffix(speed.COMPACT)
    assert set(medians) == {ours, shipped, compact}
    assert result["measured"] == pytest.approx(medians[shipped] / medians[ours])
    assert result["measured_compact"] == pytest.approx(medians[compact] / medians[ours])
    assert result["ideal"] == pytest.approx(2 * (515 + 61) / (515 + 2 * 61) if case == "pair" else 1)
    assert result["efficiency"] == pytest.approx(result["measured_compact"] / result["ideal"])
    assert set(result["peak_memory_gb"]) == {ours, shipped}
    assert out.with_suffix(".png").stat().st_size > 1000
    assert "measured_compact" in capsys.readouterr().out


def test_the_memory_of_one_side_is_that_of_a_process_that_runs_only_it(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "one.json"
    speed.main(["--case", "pair", "--only", "ours, batch 1", "--model", str(tiny_model), "--json", str(out)])
    assert json.loads(out.read_text())["peak_memory_gb"] > 0.1


def test_the_ideal_by_operations_is_that_of_a_count_token_by_token() -> None:
    config = SimpleNamespace(
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=8,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        vocab_size=100,
    )
    rows = speed.trajectory_rows()
    tokens, operations = speed.ideal_ratios("pair", rows, config)
    weights = 24 * 8 * 3 * 2 + 24 * 8 * 2 + 3 * 24 * 40

    def cost(depth: int, *, scored: bool) -> int:
        return 2 * (2 * weights + 4 * 3 * 8 * (depth + 1)) + 2 * 24 * 100 * scored

    plain, unique, count = 0, {}, 0
    for row in rows:
        for side in row.sides:
            for ids, scores in side:
                for at in range(len(ids)):
                    plain += cost(at, scored=scores[at] > 0)
                    unique[tuple(ids[: at + 1])] = cost(at, scored=False)
                    count += 1
    # The head runs once for each scored token of each side.
    heads = sum(2 * 24 * 100 * (score > 0) for row in rows for side in row.sides for _, s in side for score in s)
    assert tokens == pytest.approx(count / len(unique))
    assert operations == pytest.approx(plain / (sum(unique.values()) + heads))


def test_a_model_that_is_not_there_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model folder"):
        speed.main(["--case", "pair", "--model", str(tmp_path / "none"), "--json", str(tmp_path / "x.json")])
