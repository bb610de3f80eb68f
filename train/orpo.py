"""Odds-ratio preference optimisation (arXiv 2403.07691): preferences without a reference model.

    accelerate launch train/orpo.py --config configs/orpo/qwen3-0.6b.yaml
    python train/orpo.py --config configs/orpo/qwen3-0.6b.yaml --beta 0.2 --dry_run true

Options: those below, TRL's ORPOConfig and ModelConfig; the command line wins over the YAML file.
Exit codes: 0 done, or planned with --dry_run; 2 a mistake in options, data or model, or a run that the audit refuses
(docs/audit.md); 3 no checkpoint is whole; 4 loss, gradients or weights are not finite; 75 stopped by SIGTERM or SIGUSR1 with
everything saved. Each is told in one message and in `output_dir/status.json` (docs/reliability.md).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # the pinned version of TRL is the one we test with

if not __package__:  # run as a file: put the project's root where train/ itself would be, from any working directory
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from train.options import PairOptions, tell_help

if __name__ == "__main__":
    tell_help(__doc__, PairOptions)  # before TRL is imported, which takes seconds

from trl.experimental.orpo import ORPOConfig

from train.environment import prepare_environment
from train.fit import fit, print_plan
from train.model import load_model
from train.outcome import RunFolder, deterministic, run_main
from train.parsing import ModelOptions, parse_options
from train.run_record import resolved
from train.trainers import OddsRatioTrainer
from train.training_data import load_data


def main(argv: list[str] | None = None) -> None:
    """Parse, load the model, render the data, train, save."""
    options, model_options, training = parse_options((PairOptions, ModelOptions, ORPOConfig), argv)
    with RunFolder(training.output_dir, dry_run=options.dry_run) as run, deterministic(options.deterministic):
        prepare_environment(options.wandb, training)
        everything = resolved(options, model_options, training)

        loaded = load_model(model_options, options.chat_template_path, training)
        data = load_data(options, loaded, training, kind="pair")

        trainer = OddsRatioTrainer(
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
            trainer=trainer, loaded=loaded, options=options, training=training, method="orpo",
            everything=everything, data=data, findings=findings, run=run,
        )  # fmt: skip


if __name__ == "__main__":
    run_main(main)
