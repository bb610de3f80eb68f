# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train and compare
#
# Supervised fine-tuning inside a notebook, with a loss plot that grows while it trains; then the benchmark of the base
# model and of what came out, side by side.
#
# With `MODEL = ".cache/tiny"`, a random two-layer model, it runs on two CPU cores in under two minutes and shows the way, not a
# result: such a model solves nothing, before or after. For a result set `MODEL = ".cache/smollm2-135m"` with
# `LEARNING_RATE = 1e-3`, `RECORDS = 160`, `STEPS = 80` and `TASKS = 40`, and have a coffee; or take a model such as
# `Qwen/Qwen3-0.6B` on a GPU.

# %%
import logging
import os
import warnings
from pathlib import Path

here = Path.cwd()
os.chdir(next(folder for folder in (here, *here.parents) if (folder / "train" / "sft.py").exists()))
print("project root:", Path.cwd().name)
warnings.filterwarnings("ignore", message="IProgress not found")  # no widgets are needed here
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # nor its faster kernels

# %% tags=["parameters"]
MODEL = ".cache/tiny"  # or .cache/smollm2-135m, Qwen/Qwen3-0.6B, any causal model with a chat template
LEARNING_RATE = 1e-2  # a random model needs a high one; 1e-3 for .cache/smollm2-135m, 1e-4 for larger models
STEPS = 16  # optimizer steps of two rows
RECORDS = 40  # training tasks to record
TASKS = 8  # test tasks for each model
MAX_STEPS = 4  # turns an agent has for a task
OUT = Path("runs/notebooks/02")

# %% [markdown]
# ## Data
#
# The expert solves training tasks; the records become a prepared set, split by task.

# %%
from benchmark.runs.recording import record
from data.sets.build import BuildConfig, build
from scripts.embedded_model import embedded_model

if MODEL in (".cache/tiny", ".cache/smollm2-135m"):
    embedded_model(Path(MODEL), tiny=MODEL == ".cache/tiny")

SHORT = {"worlds": "files,api", "short": True}  # tasks of few calls
record(**SHORT, count=RECORDS, seed=7, out=OUT / "train.jsonl")
source = {"adapter": "trajectory", "path": str(OUT / "train.jsonl")}
manifest = build(BuildConfig(validation_share=0.1, sources=[source]), out=OUT / "data")
print({split: counts["rows"] for split, counts in manifest["splits"].items()})

# %% [markdown]
# ## Model and options
#
# The same lines as in `train/sft.py`: options, model, rows of tokens, trainer. Without a GPU it trains on the CPU in fp32.

# %%
import torch
from trl import SFTConfig

from train.environment import prepare_environment, quiet
from train.fit import fit, print_plan, read_metrics
from train.model import load_model
from train.options import DataOptions
from train.parsing import ModelOptions
from train.run_record import resolved
from train.trainers import ChatTrainer
from train.training_data import load_data

quiet()
gpu = torch.cuda.is_available()
options = DataOptions(data=str(OUT / "data"), resume="never")
model_options = ModelOptions(
    model_name_or_path=MODEL, dtype="bfloat16" if gpu else "float32", lora_r=16, lora_alpha=32, lora_dropout=0.0
)
training = SFTConfig(
    output_dir=str(OUT / "sft"),
    learning_rate=LEARNING_RATE,
    lr_scheduler_type="cosine",
    warmup_steps=2,
    max_steps=STEPS,
    per_device_train_batch_size=2,
    per_device_eval_batch_size=2,
    max_length=1024,
    bf16=gpu,
    use_cpu=not gpu,
    gradient_checkpointing=gpu,
    eval_strategy="steps",
    eval_steps=max(STEPS // 2, 1),
    save_strategy="no",
    logging_steps=1,
    disable_tqdm=True,
    seed=7,
    report_to="none",
)
prepare_environment(options.wandb, training)

loaded = load_model(model_options, None, training)
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

# %% [markdown]
# ## Training, with a live plot

# %%
from contextlib import redirect_stderr

import matplotlib.pyplot as plt
from IPython.display import display
from transformers import TrainerCallback


class LivePlot(TrainerCallback):
    """Redraws the loss each time the trainer logs; `display` gives a handle whose picture can be replaced."""

    def __init__(self) -> None:
        self.figure, self.axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
        self.curves = {
            "loss": self.axis.plot([], [], linewidth=1.5, label="training")[0],
            "eval_loss": self.axis.plot([], [], marker="o", label="validation")[0],
        }
        self.axis.set(xlabel="step", ylabel="loss", xlim=(0, 1.02 * STEPS))
        self.axis.spines[["top", "right"]].set_visible(False)
        self.axis.legend(frameon=False)
        plt.close(self.figure)  # shown through the handle only
        self.handle = display(self.figure, display_id=True)

    def on_log(self, args, state, control, logs=None, **_):
        for name, curve in self.curves.items():
            if name in (logs or {}):
                curve.set_data([*curve.get_xdata(), state.global_step], [*curve.get_ydata(), logs[name]])
        self.axis.relim()
        self.axis.autoscale_view(scalex=False)
        self.handle.update(self.figure)


trainer.add_callback(LivePlot())
with open(OUT / "train.log", "w") as log, redirect_stderr(log):  # the plot says it better than a line per step
    fit(
        trainer=trainer,
        loaded=loaded,
        options=options,
        training=training,
        method="sft",
        everything=resolved(options, model_options, training),
        data=data,
        findings=findings,
    )
losses = [line["loss"] for line in read_metrics(OUT / "sft") if "loss" in line]
print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}; the adapter and run.json are in {OUT / 'sft'}")

# %% [markdown]
# ## Benchmark
#
# Both models work on the same test tasks, whose values never occur in training. Success is decided from the world's final
# state.

# %%
from benchmark.runs.run import run_benchmark

results = run_benchmark(
    **SHORT,
    model=[MODEL, str(OUT / "sft")],
    label=["base", "sft"],
    count=TASKS,
    seed=1,
    max_steps=MAX_STEPS,
    out=OUT / "benchmark",
)

# %% [markdown]
# ## The table
#
# Each number with its 95 % interval; how each is counted stands in [docs/kpis.md](../docs/kpis.md). Where the intervals
# overlap widely, the models do not differ as far as these tasks can tell.

# %%
from IPython.display import HTML

from benchmark.kpis import UNITS
from benchmark.runs.shown import kpi_to_text

header = "".join(f"<th>{label}</th>" for label in results)
body = "".join(
    f"<tr><td>{name}</td>" + "".join(f"<td>{kpi_to_text(name, run.kpi(name))}</td>" for run in results.values())
    for name in UNITS
)
display(HTML(f"<table><tr><th></th>{header}</tr>{body}</table>"))

# %%
figure, axis = plt.subplots(figsize=(6, 1.8), layout="constrained")
for row, run in enumerate(results.values()):
    rate = run.kpi("success_rate")
    axis.plot([rate.low, rate.high], [row, row], linewidth=3, alpha=0.4)
    axis.plot(rate.value, row, "o", color=axis.lines[-1].get_color())
axis.set(yticks=range(len(results)), yticklabels=list(results), ylim=(-0.5, len(results) - 0.5), xlim=(-0.02, 1.02))
axis.invert_yaxis()
axis.set_title(f"success rate on {TASKS} test tasks, with 95 % interval", loc="left")
axis.spines[["top", "right", "left"]].set_visible(False)
plt.show()

# %% [markdown]
# The trajectories behind these numbers are in `OUT/benchmark/LABEL/trajectories.jsonl`. To look at one, set `RECORDS` in
# [01_look_at_data](01_look_at_data.ipynb) to that file; to train on failures next, see "Your own data" in the
# [README](../README.md).
