"""Kahneman-Tversky optimisation (arXiv 2402.01306) of a LoRA adapter: from chats that are good or bad, without pairs.

    accelerate launch train/kto.py --config configs/kto/qwen3-0.6b.yaml
    python train/kto.py --config configs/kto/qwen3-0.6b.yaml --undesirable_weight 0.5 --dry_run true

The set is one of labelled chats (`labelled: true` of `python -m data build`). `loss_type` is apo_zero_unpaired (arXiv
2408.06266) unless it is said to be kto, which also computes each prompt with the completion of another chat for its KL term.

`model_name_or_path` is usually the SFT adapter's folder: training goes on from it, and a frozen copy of it is the reference.
With a whole model, the reference is that model with the new adapter switched off.

Options: those below, TRL's KTOConfig and ModelConfig; the command line wins over the YAML file.
Exit codes: 0 done, or planned with --dry_run; 2 a mistake in options, data or model, or a run that the audit refuses
(docs/audit.md); 3 no checkpoint is whole; 4 loss, gradients or weights are not finite; 75 stopped by SIGTERM or SIGUSR1 with
everything saved. Each is told in one message and in `output_dir/status.json` (docs/reliability.md).
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: put the project's root where train/ itself would be, from any working directory
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from train.options import OF_KTO, PairOptions, tell_help

if __name__ == "__main__":
    tell_help(__doc__, PairOptions, of_method=OF_KTO)  # before TRL is imported, which takes seconds

from train.environment import prepare_environment
from train.fit import fit, print_plan
from train.model import load_model
from train.outcome import RunFolder, deterministic, run_main
from train.parsing import LabelConfig, ModelOptions, parse_options
from train.reference import ReferenceCache, cache_folder, reference_key
from train.run_record import resolved
from train.trainers import LabelTrainer
from train.training_data import load_data


def main(argv: list[str] | None = None) -> None:
    """Parse, load the model, render the data, train, save."""
    options, model_options, training = parse_options((PairOptions, ModelOptions, LabelConfig), argv)
    with RunFolder(training.output_dir, dry_run=options.dry_run) as run, deterministic(options.deterministic):
        prepare_environment(options.wandb, training)
        everything = resolved(options, model_options, training)

        loaded = load_model(model_options, options.chat_template_path, training)
        data = load_data(options, loaded, training, kind="labelled chat")

        trainer = LabelTrainer(
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
            key = reference_key(loaded, autocast="bfloat16" if training.bf16 else "float16" if training.fp16 else None)
            trainer.use_references(data.units, data.rendered, ReferenceCache(cache_folder(), model_key=key))
        fit(
            trainer=trainer, loaded=loaded, options=options, training=training, method="kto",
            everything=everything, data=data, findings=findings, run=run,
        )  # fmt: skip


if __name__ == "__main__":
    run_main(main)
