"""What a training run can be told beside TRL's own options, and the short help of the entry points.

TRL's dataclasses carry most options (`SFTConfig`, `DPOConfig`, `ORPOConfig`, `KTOConfig`); these add where the data come from
and what happens around the training. A field name must not repeat one of TRL's, because argparse refuses the second. Nothing
here imports torch, so that help is quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal, get_args, get_type_hints

from core.command_line import Parser
from core.errors import UserError

DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass
class DataOptions:
    """Where the examples come from and what happens around the training itself."""

    _argument_group_name = "of this project"

    data: str | None = field(
        default=None, metadata={"help": "Folder of a prepared set, as `python -m data build` writes it."}
    )
    dry_run: bool = field(
        default=False,
        metadata={"help": "Load everything, print plan and audit, train nothing; exit 0, or 2 if refused."},
    )
    resume: str = field(
        default="auto",
        metadata={
            "help": "auto: go on from output_dir's newest checkpoint; never: start over; or a checkpoint folder."
        },
    )
    allow_mismatch: bool = field(
        default=False,
        metadata={"help": "Go on from a checkpoint of other options, data or model; the differences are printed."},
    )
    deterministic: bool = field(
        default=False,
        metadata={"help": "Stop at an operation that may give another result the next time; slower on a GPU."},
    )
    tree: Literal["auto", "true", "false"] = field(
        default="auto",
        metadata={"help": "Compute what sequences share once: where it pays and works, always, or never. Same result."},
    )
    benchmark_tasks: str | None = field(
        default=None,
        metadata={"help": "Test tasks that must not be in the data: the file that `python -m benchmark tasks` writes."},
    )
    benchmark_every: int = field(
        default=0,
        metadata={"help": "Every N steps and at the end, benchmark a checkpoint; best_checkpoint.json names the best."},
    )
    benchmark_args: str = field(
        default="",
        metadata={
            "help": "For `python -m benchmark run`, as one text: '--worlds files,api --count 40'. Tasks of train."
        },
    )
    audit_allow: list[str] = field(
        default_factory=list,
        metadata={"help": "Findings of the audit that shall not stop this run, by name; docs/audit.md lists them."},
    )
    wandb: Literal["off", "offline", "online"] = field(
        default="off", metadata={"help": "Weights & Biases: off, files only, or sent (needs a key)."}
    )

    def __post_init__(self) -> None:
        if isinstance(self.audit_allow, str):  # one name in a YAML file, without a list around it
            self.audit_allow = [self.audit_allow]
        # YAML reads off, true and false without quotes as truth values; here they are words.
        self.wandb = "off" if self.wandb is False else str(self.wandb)  # type: ignore[assignment] # a wrong word is told where it is used
        self.tree = str(self.tree).lower()  # type: ignore[assignment] # as above
        self.resume = str(self.resume)


@dataclass
class PairOptions(DataOptions):
    """`DataOptions` for preferences. SFTConfig has a `chat_template_path` of its own, the other configs have none."""

    chat_template_path: str | None = field(
        default=None, metadata={"help": "Chat template (Jinja) instead of the model's own; saved with the adapter."}
    )


@dataclass
class DpoOptions(PairOptions):
    """`PairOptions` for losses with a reference."""

    stop_at_chosen_drop: float | None = field(
        default=None,
        metadata={
            "help": "Stop when the chosen sides' log-probs fall below the reference's by this share, such as 0.1."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stop_at_chosen_drop is not None and not self.stop_at_chosen_drop > 0:
            raise UserError(f"stop_at_chosen_drop: {self.stop_at_chosen_drop}, expected a share above 0, such as 0.1")


GROUPS: Mapping[str, tuple[str, ...]] = {
    "What is trained on": ("data", "chat_template_path", "benchmark_tasks", "audit_allow"),
    "The run": ("dry_run", "resume", "allow_mismatch", "deterministic", "tree", "wandb"),
    "Preferences": ("stop_at_chosen_drop",),
    "The benchmark while training goes on": ("benchmark_every", "benchmark_args"),
}
OF_TRL: Mapping[str, str] = {
    "model_name_or_path": "Model or adapter to go on from: folder or hub id.",
    "output_dir": "Folder of the run: checkpoints, the adapter, run.json.",
    "max_length": "Longest row in tokens; older turns of longer ones are cut.",
    "learning_rate": "Highest learning rate.",
    "num_train_epochs": "Times that each row is trained on; max_steps goes before it.",
    "per_device_train_batch_size": "Rows of a device in one pass.",
    "gradient_accumulation_steps": "Passes that make one step.",
    "bf16": "Compute in bfloat16.",
    "gradient_checkpointing": "Less memory, more time.",
    "load_in_4bit": "Load the base in 4 bits (QLoRA; needs a GPU).",
    "use_peft": "Train a LoRA adapter, or with false all weights.",
    "lora_r": "Rank of the adapter.",
}
"""Those of TRL's that nearly every run sets, as the short help tells them."""


OF_KTO: Mapping[str, str] = {
    "loss_type": "apo_zero_unpaired (default), or kto, whose KL term doubles the sequences that are computed.",
    "beta": "How much the policy is held to its reference.",
    "desirable_weight": "What a good chat's loss is multiplied with.",
    "undesirable_weight": "What a bad chat's is; the audit proposes a weight where labels are unbalanced.",
}
"""Those of TRL's that KTO is set with."""


def tell_help(
    about: str | None,
    options: type[DataOptions],
    argv: Sequence[str] | None = None,
    *,
    of_method: Mapping[str, str] | None = None,
) -> None:
    """Print an entry point's short help and end, if `argv` asks for it.

    Called before TRL is imported, which takes seconds. `--help-all` is answered later, by TRL's parser.

    Args:
        about: the entry point's docstring.
        options: its options beside those of TRL.
        of_method: those of TRL's that its method is set with, by name.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not {"-h", "--help"} & set(argv):
        return
    if os.environ.get("LOCAL_RANK", "0") == "0":
        sys.stdout.write(help_text(about or "", options, of_method))
    sys.exit(0)


def help_text(about: str, options: type[DataOptions], of_method: Mapping[str, str] | None = None) -> str:
    """What an entry point is for, then its options in groups with a line each; TRL's others only named."""
    known = {each.name: each for each in fields(options)}
    told = {name: each.metadata["help"] + _default(each) for name, each in known.items()}
    told.setdefault("chat_template_path", "Chat template (Jinja) instead of the model's own; saved with the adapter.")
    groups = {title: {name: told[name] for name in names if name in told} for title, names in GROUPS.items()}
    groups = {title: entries for title, entries in groups.items() if entries}
    if of_method is not None:
        groups["The method"] = dict(of_method)
    groups["Most used of TRL's"] = dict(OF_TRL)
    lines = [
        about.strip(),
        "",
        "  --config FILE".ljust(_WIDTH) + "YAML file with any of these options; the command line wins.",
    ]
    for title, entries in groups.items():
        lines += ["", f"{title}:", *(f"  --{name}".ljust(_WIDTH) + text for name, text in entries.items())]
    lines += [
        "", "Hyphens are read as underscores. Switches are given bare, or with true or false.",
        "All options, those of TRL too: --help-all",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def export_parser(about: str | None) -> Parser:
    """The command line of `train.export`, whose docstring is `about`."""
    parser = Parser(description=about)
    parser.add_argument("model", help="adapter folder: a run's output_dir, or one of its checkpoints")
    parser.add_argument("--out", required=True, help="folder of the merged model; must not be there yet")
    parser.add_argument(
        "--dtype", default="auto", choices=DTYPES,
        help="of the saved weights; auto: the base's (default)",
    )  # fmt: skip
    parser.add_argument(
        "--load_in_4bit", nargs="?", const="true", choices=("true", "false"),
        help="whether the adapter was trained on a 4-bit base; default: as its run.json says",
    )  # fmt: skip
    parser.add_argument("--kpis", help="kpis.json of `python -m benchmark run`, for the model card")
    return parser


_WIDTH = 33


def _default(option: Field[Any]) -> str:
    """Its choices and its default, where they say something."""
    choices = get_args(get_type_hints(DataOptions).get(option.name)) if option.default_factory is MISSING else ()
    words = "|".join(choice for choice in choices if isinstance(choice, str))
    default = "" if option.default in (MISSING, None, False, "", 0) else f"default {option.default}"
    shown = ", ".join(filter(None, [words, default]))
    return f" [{shown}]" if shown else ""
