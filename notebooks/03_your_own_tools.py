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
# # Your own tools
#
# From a Python class to a model that can use it: a folder with the tools and some templates of tasks, records of an expert,
# fine-tuning, the benchmark on tasks with values it has never seen, and a leaderboard. An MCP server or an HTTP interface goes
# the same way; `examples/` has one of each to copy.
#
# With `MODEL = ".cache/tiny"`, a random two-layer model, it runs on two CPU cores in about a minute and shows the way, not a
# result. For a result set `MODEL = ".cache/smollm2-135m"` with `LEARNING_RATE = 1e-3`, `STEPS = 60`, `RECORDS = 90` and
# `TASKS = 40`.

# %%
import logging
import os
import shutil
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
STEPS = 6  # optimizer steps of two rows
RECORDS = 12  # training tasks to record
TASKS = 4  # test tasks for each model
MAX_STEPS = 2  # turns an agent has for a task
OUT = Path("runs/notebooks/03")

# %% [markdown]
# ## The tools
#
# Typed public methods are tools, their docstrings what the model reads. The text of an exception is the result,
# so say what to do next. All state is in the object, and `reset` puts it back.

# %%
FOLDER = OUT / "shelf"
shutil.rmtree(FOLDER, ignore_errors=True)
FOLDER.mkdir(parents=True)
(FOLDER / "tools.py").write_text('''
class Shelf:
    """Boxes on a shelf, and how many pieces each holds."""

    def __init__(self) -> None:
        self.boxes: dict[str, int] = {}

    def reset(self, **row: object) -> None:
        self.boxes = {}

    def show_boxes(self) -> dict[str, int]:
        """All boxes with their pieces."""
        return self.boxes

    def add_box(self, name: str, pieces: int) -> str:
        """Put a new box on the shelf."""
        if name in self.boxes:
            raise ValueError(f"there is a box {name!r} already; take_pieces changes it")
        self.boxes[name] = pieces
        return "ok"

    def take_pieces(self, name: str, pieces: int) -> int:
        """Take pieces out of a box; says how many are left."""
        if name not in self.boxes:
            raise ValueError(f"no box {name!r}; there are {', '.join(self.boxes)}")
        if pieces > self.boxes[name]:
            raise ValueError(f"box {name!r} holds only {self.boxes[name]}")
        self.boxes[name] -= pieces
        return self.boxes[name]
''')

# %% [markdown]
# ## The folder
#
# `init` makes `world.yaml`: where the tools come from, and which of them only read, which it found out by calling them. What
# these show before and after an episode is how it is judged. It also writes three example tasks.

# %%
from benchmark.runs.own_tools import init_command as init

init(FOLDER, python="tools.py:Shelf")
with open(FOLDER / "world.yaml", "a") as world:
    world.write("languages: [en, ko]\nfaults: [busy, timed_out, server_error]\n")
print((FOLDER / "world.yaml").read_text())
print((FOLDER / "tasks.jsonl").read_text())

# %% [markdown]
# Many tasks come from few templates: `families.yaml`. Values of train and test are disjoint, and a family may be held out of
# training. So the three example tasks are not needed.

# %%
(FOLDER / "tasks.jsonl").unlink()
(FOLDER / "families.yaml").write_text("""
tasks: {train: 60, test: 24}
korean: 0.4
pools:
  thing:
    train: [bolts, screws, nails, hooks, rings, beads, coins, keys, 단추, 못]
    test: [lamps, brushes, tapes, candles, 나사, 구슬]
  many: {from: 50, to: 99}
  few: {from: 2, to: 40}
families:
  - name: add
    values: {thing: thing, many: many}
    en: ["Put a box '{thing}' with {many} pieces on the shelf."]
    ko: ["선반에 {many}개가 든 '{thing}' 상자 추가."]
    solution:
      - {name: add_box, arguments: {name: "{thing}", pieces: "{many}"}}
  - name: take
    values: {thing: thing, many: many, few: few}
    en: ["Take {few} pieces out of the box '{thing}'."]
    ko: ["'{thing}' 상자에서 {few}개 꺼내기."]
    setup:
      - {name: add_box, arguments: {name: "{thing}", pieces: "{many}"}}
    solution:
      - {name: take_pieces, arguments: {name: "{thing}", pieces: "{few}"}}
  - name: add-and-take
    held_out: true
    values: {thing: thing, many: many, few: few}
    en: ["Put a box '{thing}' with {many} pieces on the shelf and take {few} out of it."]
    ko: ["{many}개가 든 '{thing}' 상자를 추가하고 {few}개 꺼내기."]
    solution:
      - {name: add_box, arguments: {name: "{thing}", pieces: "{many}"}}
      - {name: take_pieces, arguments: {name: "{thing}", pieces: "{few}"}}
""")

# %% [markdown]
# Nothing of a folder starts before it is trusted: without `trust=True` the next line says what it would start, and stops.

# %%
from benchmark.runs.options import open_folder

kind = open_folder(FOLDER, trust=True)
for tool in kind.tools.values():
    print(f"{tool.function.name}: {tool.function.description}")
rows = kind.folder.rows
print(f"{len(rows)} tasks, such as: {rows[0].instruction}")

# %% [markdown]
# ## Records
#
# The expert makes the calls of the solution, and repairs the faults that strike some of them. Whether a training task is
# recorded (60 %), practised or validated on is decided by the hash of its id.

# %%
from benchmark.runs.recording import record
from data.sets.build import BuildConfig, build
from scripts.embedded_model import embedded_model

if MODEL in (".cache/tiny", ".cache/smollm2-135m"):
    embedded_model(Path(MODEL), tiny=MODEL == ".cache/tiny")

WORLD = str(FOLDER)  # a path holds a /, names of worlds do not
made = record(
    worlds=WORLD,
    count=RECORDS,
    seed=7,
    partials=0,
    failures=0,
    out=OUT / "train.jsonl",
)
print(f"{len(made)} records, {sum(bool(each.injected) for each in made)} with a fault that was repaired")
source = {"adapter": "trajectory", "path": str(OUT / "train.jsonl")}
manifest = build(BuildConfig(validation_share=0.1, sources=[source]), out=OUT / "data")
print({split: counts["rows"] for split, counts in manifest["splits"].items()})

# %% [markdown]
# ## Training
#
# `main` of `train/sft.py` with the options of its command line; what is inside shows
# [02_train_and_compare](02_train_and_compare.ipynb).

# %%
import torch

from train.sft import main as sft

options = {
    "model_name_or_path": MODEL,
    "data": OUT / "data",
    "output_dir": OUT / "sft",
    "learning_rate": LEARNING_RATE,
    "max_steps": STEPS,
    "per_device_train_batch_size": 2,
    "lora_r": 16,
    "lora_alpha": 32,
    "bf16": str(torch.cuda.is_available()).lower(),
    "use_cpu": str(not torch.cuda.is_available()).lower(),
    "dtype": "bfloat16" if torch.cuda.is_available() else "float32",
    "gradient_checkpointing": "false",
    "save_strategy": "no",
    "eval_strategy": "no",
    "report_to": "none",
    "resume": "never",
}
sft([part for name, value in options.items() for part in (f"--{name}", str(value))])

# %% [markdown]
# ## Benchmark
#
# Both models on the same test tasks; and the base once more with three records of training in its prompt, which says whether
# fine-tuning is needed at all.

# %%
from benchmark.runs.run import run_benchmark

same = {"worlds": WORLD, "count": TASKS, "seed": 1, "max_steps": MAX_STEPS, "out": OUT / "benchmark"}
results = run_benchmark(**same, model=[MODEL, str(OUT / "sft")], label=["base", "sft"])
results |= run_benchmark(**same, model=[MODEL], label=["base-3-shot"], examples=OUT / "train.jsonl", shots=3)

# %%
from benchmark.reports.compare import compare, describe
from benchmark.reports.leaderboard import write_leaderboard

runs = [OUT / "benchmark" / label for label in ("base", "base-3-shot", "sft")]
print("sft against base:", describe(compare(runs[0], runs[2]).success))
write_leaderboard(runs, OUT / "leaderboard")
print("the leaderboard:", OUT / "leaderboard" / "index.html")

# %%
from IPython.display import HTML, display

from benchmark.kpis import UNITS
from benchmark.runs.shown import kpi_to_text

header = "".join(f"<th>{label}</th>" for label in results)
body = "".join(
    f"<tr><td>{name}</td>" + "".join(f"<td>{kpi_to_text(name, run.kpi(name))}</td>" for run in results.values())
    for name in UNITS
)
display(HTML(f"<table><tr><th></th>{header}</tr>{body}</table>"))

# %% [markdown]
# Next: `python -m benchmark tasks check DIR` looks for tasks that cannot be solved or solve themselves, and
# `scripts/quickstart --world DIR` goes the whole way, with pairs from failures and DPO.
