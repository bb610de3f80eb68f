"""LoRA supervised fine-tuning on tool chats.

    python -m data build --config configs/data/quickstart.yaml
    accelerate launch train/sft.py --config configs/sft/quickstart.yaml
    accelerate launch --config_file configs/accelerate/ddp.yaml train/sft.py --config configs/sft/qwen3-0.6b.yaml
    python train/sft.py --config configs/sft/quickstart.yaml --learning_rate 2e-4 --dry_run true

Options: those below, TRL's SFTConfig and ModelConfig; the command line wins over the YAML file.
Exit codes: 0 done, or planned with --dry_run; 2 a mistake in options, data or model, or a run that the audit refuses
(docs/audit.md); 3 no checkpoint is whole; 4 loss, gradients or weights are not finite; 75 stopped by SIGTERM or SIGUSR1 with
everything saved. Each is told in one message and in `output_dir/status.json` (docs/reliability.md).
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: put the project's root where train/ itself would be, from any working directory
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from train.options import DataOptions, tell_help

if __name__ == "__main__":
    tell_help(__doc__, DataOptions)  # before TRL is imported, which takes seconds

from trl import SFTConfig

from train.environment import prepare_environment
from train.fit import fit, print_plan
from train.model import load_model
from train.outcome import RunFolder, deterministic, run_main
from train.parsing import ModelOptions, parse_options
from train.run_record import resolved
from train.trainers import ChatTrainer
from train.training_data import load_data


def main(argv: list[str] | None = None) -> None:
    """Parse, load the model, render the data, train, save."""
    options, model_options, training = parse_options((DataOptions, ModelOptions, SFTConfig), argv)
    with RunFolder(training.output_dir, dry_run=options.dry_run) as run, deterministic(options.deterministic):
        prepare_environment(options.wandb, training)
        everything = resolved(options, model_options, training)

        loaded = load_model(model_options, training.chat_template_path, training)
        training.chat_template_path = None  # applied; TRL would read it as a model to clone from
        data = load_data(options, loaded, training, kind="chat")

        trainer = ChatTrainer(
            model=loaded.model,
            args=training,
            train_units=data.units["train"],
            eval_units=data.units["validation"],
            backend=data.backend,
            data_collator=data.collator(loaded.renderer.tokenizer.pad_token_id),
            processing_class=loaded.renderer.tokenizer,
            peft_config=loaded.peft_config,
        )
        findings = print_plan(options, training, loaded, trainer, data)
        if options.dry_run:
            return
        fit(
            trainer=trainer, loaded=loaded, options=options, training=training, method="sft",
            everything=everything, data=data, findings=findings, run=run,
        )  # fmt: skip


if __name__ == "__main__":
    run_main(main)
