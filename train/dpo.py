"""Direct preference optimisation (arXiv 2305.18290) of a LoRA adapter.

    accelerate launch train/dpo.py --config configs/dpo/quickstart.yaml
    python train/dpo.py --config configs/dpo/qwen3-8b-qlora.yaml --beta 0.05 --dry_run true

`model_name_or_path` is usually the SFT adapter's folder: training goes on from it, and a frozen copy of it is the reference.
With a whole model, the reference is that model with the new adapter switched off.

Options: those of TRL's DPOConfig and ModelConfig, and train/options.py. The command line wins over the YAML file.
Exit codes: 0 done, or planned with --dry_run; 2 a mistake in options, data or model, told in one message.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: put the project's root where train/ itself would be, from any working directory
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from trl import DPOConfig

from train.fit import fit, load_rows, print_plan, resolved
from train.model import load_model
from train.options import ModelOptions, PairOptions, parse_options, prepare_environment, run_main
from train.trainers import PairTrainer
from train.tree import PairCollator


def main(argv: list[str] | None = None) -> None:
    """Parse, load the model, render the data, train, save."""
    options, model_options, training = parse_options((PairOptions, ModelOptions, DPOConfig), argv)
    prepare_environment(options.wandb, training)
    everything = resolved(options, model_options, training)

    loaded = load_model(model_options, options.chat_template_path, training)
    prepared, rows, reports = load_rows(options, loaded.renderer, kind="pair", max_tokens=training.max_length)

    trainer = PairTrainer(
        model=loaded.model,
        args=training,
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        data_collator=PairCollator(loaded.renderer.tokenizer.pad_token_id),
        processing_class=loaded.renderer.tokenizer,
        peft_config=loaded.peft_config,
    )
    print_plan(options, training, loaded, trainer, reports)
    if options.dry_run:
        return
    fit(
        trainer=trainer, loaded=loaded, options=options, training=training, method="dpo",
        everything=everything, prepared=prepared, reports=reports,
    )  # fmt: skip


if __name__ == "__main__":
    run_main(main)
