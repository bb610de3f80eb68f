"""How options are read: one YAML file, then the command line over it."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml
from trl import KTOConfig, ModelConfig, TrlParser

from core.command_line import Parser, as_declared
from core.config import read_yaml
from core.errors import UserError, nearest


@dataclass
class ModelOptions(ModelConfig):
    """TRL's model options with LoRA on. `model_name_or_path` may be an adapter folder: training goes on from it, and for
    DPO its frozen copy is the reference."""

    _argument_group_name = "model and adapter"

    use_peft: bool = field(
        default=True, metadata={"help": "Train a LoRA adapter (default) or, with false, all weights."}
    )
    lora_target_modules: list[str] | None = field(
        default_factory=lambda: ["all-linear"], metadata={"help": "Modules that get an adapter."}
    )


@dataclass
class LabelConfig(KTOConfig):
    """TRL's options of KTO with the loss that needs no mismatched completions."""

    loss_type: str = field(
        default="apo_zero_unpaired",
        metadata={
            "help": "apo_zero_unpaired, or kto, whose KL term doubles the sequences that are computed.",
            "choices": ["apo_zero_unpaired", "kto"],
        },
    )

    def __post_init__(self) -> None:
        if self.loss_type == "kto" and self.per_device_train_batch_size < 2:
            raise ValueError(
                "per_device_train_batch_size: expected 2 or more with loss_type kto, which estimates its KL term over a batch; "
                "apo_zero_unpaired takes 1"
            )
        self.train_sampling_strategy = (
            "sequential"  # TRL insists on it; the order of an epoch is ours (train/global_batch.py)
        )
        super().__post_init__()


class _Parser(Parser, TrlParser):
    """TrlParser whose complaints are one line for the person at the keyboard, and whose switches may all be given bare."""

    def __init__(self, option_types: Sequence[Any]) -> None:
        defaults = argparse.ArgumentDefaultsHelpFormatter
        super().__init__(dataclass_types=list(option_types), formatter_class=defaults)
        truth = self._option_string_actions["--dry_run"].type
        for action in self._actions:
            if action.type is truth and action.nargs is None:  # those that are null where nothing is said
                action.nargs, action.const = "?", True

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def parse_options(option_types: Sequence[Any], argv: Sequence[str] | None = None) -> tuple[Any, ...]:
    """Instances of `option_types` from `--config FILE.yaml` and the command line, which wins.

    Abbreviations are off: `--learning_rat 1` is an error, not a guess.

    Raises:
        UserError: for an unknown key or option (with its nearest right name), a missing file, a value of the wrong type.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _Parser(option_types)
    options = {option for action in parser._actions for option in action.option_strings}
    argv = as_declared(argv, {*options, "--config", "--help-all"})
    if "--help-all" in argv:
        parser.print_help()
        sys.exit(0)
    names = {f.name for option_type in option_types for f in dataclasses.fields(option_type) if f.init}
    argv = [part for item in argv for part in (item.split("=", 1) if item.startswith("--config=") else [item])]
    for item in argv:
        option = item.split("=", 1)[0]
        if option.startswith("--") and " " not in option and option not in options | {"--config"}:  # or it is a value
            raise UserError(f"option {option} is unknown.{nearest(option, options | {'--config'})}")
    if argv and not argv[0].startswith("-"):
        raise UserError(f"argument {argv[0]!r}: expected options such as --config FILE.yaml")
    lines: dict[Any, int] = {}
    if "--config" in argv:
        at = argv.index("--config")
        if at + 1 >= len(argv):
            raise UserError("--config needs a file")
        lines = _check_config(Path(argv[at + 1]), names | {"env"})
    try:
        return tuple(parser.parse_args_and_config(argv))
    except UserError as error:
        # argparse names the option only; where the value came from the file, say where it stands there.
        key = re.match(r"argument --(\w+)", str(error))
        if key and key[1] in lines and not any(item.startswith(f"--{key[1]}") for item in argv):
            raise UserError(f"{argv[at + 1]}:{lines[key[1]]}: {error}") from None
        raise
    except (ValueError, TypeError, argparse.ArgumentError) as error:
        raise UserError(f"these options do not fit together: {error}") from None


def _check_config(path: Path, names: set[str]) -> dict[Any, int]:
    """Line of each key, once the file is known to hold known keys only."""
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        siblings = [str(path.parent / item.name) for item in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = nearest(str(path), siblings)
        raise UserError(f"{path}: the config cannot be read: {error.strerror}.{hint}") from None
    config = read_yaml(path)  # before TRL's parser reads it in a way that believes everything
    lines = _key_lines(path.read_text(encoding="utf-8-sig"))
    if not isinstance(config, dict):
        raise UserError(f"{path}: expected a mapping of options, got {type(config).__name__}")
    for key in config:
        if key not in names:
            raise UserError(f"{path}:{lines.get(key, 1)}: option {key!r} is unknown.{nearest(str(key), names)}")
    return lines


def _key_lines(text: str) -> dict[Any, int]:
    node = yaml.compose(text)
    return {key.value: key.start_mark.line + 1 for key, _ in node.value} if isinstance(node, yaml.MappingNode) else {}
