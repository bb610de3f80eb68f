"""Direct preference optimisation (arXiv 2305.18290) of a LoRA adapter.

    accelerate launch train/dpo.py --config configs/dpo/quickstart.yaml
    python train/dpo.py --config configs/dpo/qwen3-8b-qlora.yaml --beta 0.05 --dry_run true

`model_name_or_path` is usually the SFT adapter's folder: training goes on from it, and a frozen copy of it is the reference.
With a whole model, the reference is that model with the new adapter switched off.

Options: those below, TRL's DPOConfig and ModelConfig; the command line wins over the YAML file.
Exit codes: 0 done, or planned with --dry_run; 2 a mistake in options, data or model, or a run that the audit refuses
(docs/audit.md); 3 no checkpoint is whole; 4 loss, gradients or weights are not finite; 75 stopped by SIGTERM or SIGUSR1 with
everything saved. Each is told in one message and in `output_dir/status.json` (docs/reliability.md).
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: put the project's root where train/ itself would be, from any working directory
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from train.options import DpoOptions, tell_help

if __name__ == "__main__":
    tell_help(__doc__, DpoOptions)  # before TRL is imported, which takes seconds

from trl import DPOConfig

from train.chosen_drop import ChosenDrop
from train.environment import prepare_environment
from train.fit import fit, print_plan
from train.model import load_model
from train.outcome import RunFolder, deterministic, run_main
from train.parsing import ModelOptions, parse_options
from train.reference import ReferenceCache, cache_folder, reference_key
from train.run_record import resolved
from train.trainers import PairTrainer
from train.training_data import load_data


def main(argv: list[str] | None = None) -> None:
    """Parse, load the model, render the data, train, save."""
    options, model_options, training = parse_options((DpoOptions, ModelOptions, DPOConfig), argv)
    with RunFolder(training.output_dir, dry_run=options.dry_run) as run, deterministic(options.deterministic):
        prepare_environment(options.wandb, training)
        everything = resolved(options, model_options, training)

        loaded = load_model(model_options, options.chat_template_path, training)
        data = load_data(options, loaded, training, kind="pair")

        trainer = PairTrainer(
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
        if training.precompute_ref_log_probs:
            # With ld_alpha the reference's sums are cut by lengths, which are not those of a plain reference.
            key = reference_key(loaded, autocast="bfloat16" if training.bf16 else "float16" if training.fp16 else None)
            key += f"-ld{training.ld_alpha:g}" if training.ld_alpha is not None else ""
            trainer.use_references(data.units, data.rendered, ReferenceCache(cache_folder(), model_key=key))
        drop = None
        if options.stop_at_chosen_drop is not None:
            drop = ChosenDrop(options.stop_at_chosen_drop, beta=training.beta)
        fit(
            trainer=trainer, loaded=loaded, options=options, training=training, method="dpo",
            everything=everything, data=data, findings=findings, run=run,
            drop=drop,
        )  # fmt: skip


if __name__ == "__main__":
    run_main(main)
