"""What a training run can be told, and how it is read: one YAML file, then the command line over it.

TRL's own dataclasses carry most options (`SFTConfig`, `DPOConfig`, `ORPOConfig`); these two add where the data and the model
come from. A field name must not repeat one of TRL's, because argparse refuses the second.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import netrc
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import httpx
import yaml
from datasets import disable_progress_bars
from transformers.utils.logging import disable_progress_bar
from trl import ModelConfig, TrlParser

from data.config import read_yaml
from data.errors import WHITE, UserError, disk_fault, nearest, printable
from train.outcome import EXIT_CODES, SIGNALS, Preempted, say, status_of


@dataclass
class DataOptions:
    """Where the examples come from and what happens around the training itself."""

    data: str | None = field(
        default=None,
        metadata={"help": "Folder of a prepared set, as `python -m data build` or `pairs` + `build` wrote it."},
    )
    dry_run: bool = field(
        default=False,
        metadata={
            "help": "Load everything, print the plan (rows, tokens, steps, memory, disk, time) and the audit, train nothing; "
            "exit 0, or 2 where the audit refuses."
        },
    )
    resume: str = field(
        default="auto",
        metadata={
            "help": "auto: go on from the newest checkpoint in output_dir; never: start over; or a checkpoint folder."
        },
    )
    allow_mismatch: bool = field(
        default=False,
        metadata={
            "help": "Go on from a checkpoint although options, data, tokenizer, template or base model have changed since; "
            "the differences are printed."
        },
    )
    deterministic: bool = field(
        default=False,
        metadata={
            "help": "Stop with an error at an operation that could give another result the next time (torch's deterministic "
            "algorithms, as errors). Slower on a GPU."
        },
    )
    tree: str = field(
        default="auto",
        metadata={
            "help": "auto: compute what sequences share only once, where that saves a tenth and the model can; "
            "true: insist on it; false: each sequence by itself. The result is the same."
        },
    )
    benchmark_tasks: str | None = field(
        default=None,
        metadata={
            "help": "Test tasks that must not be in the data: the file that `python -m benchmark tasks` writes. "
            "The pre-flight audit looks for them."
        },
    )
    benchmark_every: int = field(
        default=0,
        metadata={
            "help": "Every N steps and after the last one, save a checkpoint, run the benchmark on it and wait; "
            "best_checkpoint.json names the best. 0: never."
        },
    )
    benchmark_args: str = field(
        default="",
        metadata={
            "help": "For `python -m benchmark run`, as one text: '--worlds files,api --count 40'. Tasks are of the train split "
            "unless it says otherwise."
        },
    )
    audit_allow: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Findings of the pre-flight audit that shall not stop this run, by name; docs/audit.md lists them."
        },
    )
    wandb: str = field(
        default="off", metadata={"help": "off, offline (files only, no key needed) or online (needs a key)."}
    )

    def __post_init__(self) -> None:
        if isinstance(self.audit_allow, str):  # one name in a YAML file, without a list around it
            self.audit_allow = [self.audit_allow]
        # YAML reads off, true and false without quotes as truth values; here they are words.
        self.wandb = "off" if self.wandb is False else str(self.wandb)
        self.tree = str(self.tree).lower()
        self.resume = str(self.resume)


@dataclass
class PairOptions(DataOptions):
    """`DataOptions` for preferences. SFTConfig has a `chat_template_path` of its own, DPOConfig and ORPOConfig have none."""

    chat_template_path: str | None = field(
        default=None,
        metadata={"help": "Chat template file (Jinja) instead of the model's own; saved with the adapter."},
    )


@dataclass
class ModelOptions(ModelConfig):
    """TRL's model options with LoRA on. `model_name_or_path` may be an adapter folder: training goes on from it, and for
    DPO its frozen copy is the reference."""

    use_peft: bool = field(
        default=True, metadata={"help": "Train a LoRA adapter (default) or, with false, all weights."}
    )
    lora_target_modules: list[str] | None = field(
        default_factory=lambda: ["all-linear"], metadata={"help": "Modules that get an adapter."}
    )


class _Parser(TrlParser):
    """TrlParser whose complaints are one line for the person at the keyboard."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def parse_options(option_types: Sequence[Any], argv: Sequence[str] | None = None) -> tuple[Any, ...]:
    """Instances of `option_types` from `--config FILE.yaml` and the command line, which wins.

    Abbreviations are off: `--learning_rat 1` is an error, not a guess.

    Raises:
        UserError: for an unknown key or option (with its nearest right name), a missing file, a value of the wrong type.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _Parser(list(option_types), allow_abbrev=False)
    options = {option for action in parser._actions for option in action.option_strings}
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


def prepare_environment(wandb: str, training: Any) -> None:
    """Set what libraries read from the environment: wandb stays off unless asked for, and without a key it is offline.

    TRL's own `--report_to wandb` counts as asking.

    Raises:
        UserError: if wandb is asked for and not installed, or the mode is unknown.
    """
    if training.trust_remote_code:
        raise UserError("trust_remote_code is off here: a model's repository must not run code of its own")
    if wandb not in ("off", "offline", "online"):
        raise UserError(
            f"--wandb {wandb}: expected off, offline or online.{nearest(wandb, ['off', 'offline', 'online'])}"
        )
    if wandb == "off" and "wandb" in training.report_to:
        wandb = "online"
    training.report_to = [name for name in training.report_to if name != "wandb"]
    if wandb == "off":
        os.environ["WANDB_MODE"] = "disabled"
        return
    if find_spec("wandb") is None:
        raise UserError("--wandb needs the package: pip install 'tooltune[wandb]'")
    why = ""
    if wandb == "online":
        why = "" if _has_wandb_key() else "no key was found"
        why = why or ("" if _wandb_answers() else f"{_wandb_url()} does not answer")
    if why:
        wandb = "offline"
        _say_offline(why, training)
    os.environ["WANDB_MODE"] = wandb
    os.environ.setdefault("WANDB_DIR", training.output_dir)
    os.environ.setdefault("WANDB_SILENT", "true")
    Path(training.output_dir).mkdir(parents=True, exist_ok=True)
    training.report_to = [*training.report_to, "wandb"]


def open_wandb(training: Any) -> None:
    """Open the run at wandb where it is asked for; where the server refuses it, the run goes on offline and one line says so.

    The callback of the HF Trainer takes a run that is open.
    """
    if "wandb" not in training.report_to or os.environ.get("RANK", "0") != "0":
        return
    import wandb  # noqa: PLC0415 - an extra, and slow to import

    about = {"project": os.environ.get("WANDB_PROJECT", "huggingface"), "name": training.run_name}
    try:
        wandb.init(**about, settings=wandb.Settings(init_timeout=30))
    except wandb.Error as error:
        _say_offline((str(error).strip().splitlines() or [type(error).__name__])[0], training)
        os.environ["WANDB_MODE"] = "offline"
        wandb.init(**about, mode="offline")


def _say_offline(why: str, training: Any) -> None:
    if os.environ.get("RANK", "0") == "0":
        sys.stderr.write(f"wandb: {why}; the run is kept in {training.output_dir}/wandb, `wandb sync` sends it later\n")


def _wandb_url() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def _wandb_answers() -> bool:
    try:
        return httpx.get(_wandb_url(), timeout=5, follow_redirects=True).status_code < 500
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def _has_wandb_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators(httpx.URL(_wandb_url()).host) is not None
    except (OSError, netrc.NetrcParseError, httpx.InvalidURL):
        return False


def quiet() -> None:
    """Keep the libraries' advice to developers out of the log of a run."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name in ("transformers", "bitsandbytes", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    disable_progress_bar()
    disable_progress_bars()


def run_main(main: Callable[[], None]) -> NoReturn:
    """Run an entry point: what can be foreseen is one message on stderr and an exit code, never a traceback.

    Exit codes: 2 a user's mistake, 3 no whole checkpoint, 4 numbers that are not finite, 75 stopped by a signal, 130 Ctrl-C.
    """
    quiet()
    try:
        main()
    except Preempted as stop:
        for number in SIGNALS:  # a second one must not change the exit code while Python shuts down
            signal.signal(number, signal.SIG_IGN)
        say(str(stop))
        sys.exit(EXIT_CODES["preempted"])
    except KeyboardInterrupt:
        say("interrupted: nothing since the newest checkpoint is saved; the same command goes on from there")
        sys.exit(EXIT_CODES["interrupted"])
    except UserError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            sys.stderr.write(f"error: {printable(str(error), keep=WHITE)}\n")
        sys.exit(EXIT_CODES[status_of(error)])
    except Exception as error:
        told = disk_fault(error)
        if told is None:
            raise
        if os.environ.get("LOCAL_RANK", "0") == "0":
            sys.stderr.write(f"error: {printable(told)}\n")
        sys.exit(EXIT_CODES["user_error"])
    sys.exit(0)
