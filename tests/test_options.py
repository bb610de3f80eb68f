"""The command line of the entry points: the short help, switches, choices."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from trl import DPOConfig, SFTConfig
from trl.experimental.orpo import ORPOConfig

from core.errors import UserError
from train import dpo, kto, orpo, sft
from train.options import GROUPS, OF_KTO, OF_TRL, DataOptions, DpoOptions, PairOptions, help_text
from train.parsing import LabelConfig, ModelOptions, parse_options

ROOT = Path(__file__).resolve().parents[1]
ENTRIES: dict[str, tuple[Any, Any, Any]] = {
    "sft": (sft, DataOptions, SFTConfig),
    "dpo": (dpo, DpoOptions, DPOConfig),
    "orpo": (orpo, PairOptions, ORPOConfig),
    "kto": (kto, PairOptions, LabelConfig),
}
BASE = ["--output_dir", "runs/x", "--use_cpu", "--bf16", "false"]


def parsed(method: str, *arguments: str) -> tuple[Any, ...]:
    _, own, training = ENTRIES[method]
    return parse_options((own, ModelOptions, training), [*BASE, *arguments])


@pytest.mark.parametrize("method", ENTRIES)
def test_the_short_help_has_one_line_for_each_own_option_and_names_only_real_ones_of_trl(method: str) -> None:
    entry, own, training = ENTRIES[method]
    of_method = OF_KTO if method == "kto" else {}
    told = re.findall(r"^  --(\w+) +\S", help_text(entry.__doc__, own, of_method), re.MULTILINE)
    assert len(told) == len(set(told))
    assert {name for names in GROUPS.values() for name in names} >= {option.name for option in fields(own)}
    ours = {option.name for option in fields(own)} | {"chat_template_path"}
    named = {name for names in GROUPS.values() for name in names if name in ours}
    assert set(told) == {"config", *named, *OF_TRL, *of_method}
    real = {option.name for kind in (own, ModelOptions, training) for option in fields(kind)}
    assert set(told) - {"config"} <= real


@pytest.mark.parametrize("method", ENTRIES)
def test_help_answers_at_once_and_without_torch(method: str, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')\n")
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(
        [sys.executable, ROOT / "train" / f"{method}.py", "--help"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "--help-all" in done.stdout and done.stderr == ""
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 3  # 0.1 s on an idle machine


def test_all_options_of_trl_are_told_with_help_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options((DataOptions, ModelOptions, SFTConfig), ["--help-all"])
    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(
        f"--{option.name}" in told for kind in (DataOptions, SFTConfig) for option in fields(kind) if option.init
    )
    assert told.index("of this project:") < told.index("model and adapter:")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--greater_is_better"], True),
        (["--greater_is_better", "true"], True),
        (["--greater_is_better", "false"], False),
    ],
)
def test_a_switch_that_is_null_where_nothing_is_said_may_be_given_bare(given: list[str], expected: bool) -> None:
    assert parsed("sft", *given, "--dry_run")[2].greater_is_better is expected
    assert parsed("sft", *given, "--dry_run")[0].dry_run is True


def test_a_switch_that_is_on_can_be_put_off_by_its_no() -> None:
    assert parsed("dpo", "--no_use_peft")[1].use_peft is False
    assert parsed("dpo", "--no-use-peft")[1].use_peft is False
    assert parsed("dpo")[1].use_peft is True


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--tree", "aoto"], r"--tree.*'aoto'.*'auto', 'true', 'false'.*Did you mean 'auto'"),
        (["--wandb", "ofline"], r"--wandb.*'ofline'.*Did you mean 'offline'"),
        (["--tree", "언제나"], r"--tree.*'언제나' \(choose from 'auto', 'true', 'false'\)$"),
        (["--dtype", "float3"], r"--dtype.*Did you mean 'float32'"),
        (["--tf32", "treu"], r"--tf32.*treu"),
    ],
)
def test_a_wrong_choice_is_named_with_all_and_the_nearest(given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parsed("sft", *given)


def test_hyphens_and_underscores_mean_the_same_and_values_keep_theirs() -> None:
    own, model, training = parsed(
        "dpo", "--per-device_train_batch_size", "3", "--learning-rate=0.5", "--audit-allow", "cut", "lost_turns",
        "--benchmark-args", "--max-steps 3", "--model-name-or-path", "a-b_c", "--dry-run",
    )  # fmt: skip
    assert (training.per_device_train_batch_size, training.learning_rate) == (3, 0.5)
    assert (own.audit_allow, own.benchmark_args, own.dry_run) == (["cut", "lost_turns"], "--max-steps 3", True)
    assert model.model_name_or_path == "a-b_c"


def test_a_mistake_on_the_command_line_is_not_laid_on_the_file(tmp_path: Path) -> None:
    config = tmp_path / "설정.yaml"
    config.write_text("learning_rate: 0.1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^argument --learning_rate.*'빠르게'"):
        parsed("sft", "--config", str(config), "--learning-rate", "빠르게")
