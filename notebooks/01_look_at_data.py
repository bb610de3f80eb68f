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
# # Look at the data
#
# One record of an agent at work, followed all the way: the record, the chat it becomes, the tokens a model is trained on,
# and the fork of a preference pair. Then counts and pictures of many records.
#
# It runs on the CPU in about a minute. To look at your own data, set `RECORDS` and `MODEL` below.

# %%
import os
import warnings
from collections import Counter
from html import escape
from pathlib import Path

here = Path.cwd()
os.chdir(next(folder for folder in (here, *here.parents) if (folder / "train" / "sft.py").exists()))
print("project root:", Path.cwd().name)
warnings.filterwarnings("ignore", message="IProgress not found")  # no widgets are needed here

# %% tags=["parameters"]
MODEL = ".cache/tiny"  # whose tokenizer and template are used; or .cache/smollm2-135m, Qwen/Qwen3-0.6B, ...
RECORDS = None  # a file of trajectory records; None records some
COUNT = 48  # how many tasks are recorded
OUT = Path("runs/notebooks/01")

# %% [markdown]
# ## Records
#
# The benchmark's expert solves training tasks in real sandboxes, a folder on disk and an HTTP API. Into some tasks faults are
# injected: a file that was moved, a token that has expired, a rate limit. The expert recovers, and the record keeps both.
#
# Every command is a function, too: what is an option there is an argument here, and it gives back data
# ([docs/notebooks.md](../docs/notebooks.md)). `record` is `python -m benchmark record`.

# %%
from benchmark.runs.recording import record
from data.contribution.validate import validate
from scripts.embedded_model import embedded_model

if MODEL == ".cache/tiny":
    embedded_model(Path(MODEL), tiny=True)
if RECORDS is None:
    RECORDS = OUT / "train.jsonl"
    record(worlds="files,api", short=True, count=COUNT, seed=3, out=RECORDS)  # tasks of few calls
lines = list(validate([Path(RECORDS)]))
print(f"{sum(line.record is not None for line in lines)} good records, {sum(line.is_bad for line in lines)} bad lines")

# %%
from data.records import read_trajectories

records = list(read_trajectories(RECORDS))
repaired = [record for record in records if any(action.error for action in record.action_sequence)]
one = max(repaired or records, key=lambda record: len(record.action_sequence))

print(f"{len(records)} records, {len(repaired)} of them with a failed step. One of those:\n")
print(f"id           {one.id}")
print(f"category     {one.category}")
print(f"instruction  {one.metadata.instruction}")
for number, action in enumerate(one.action_sequence):
    came_back = f"ERROR {action.error}" if action.error else f"-> {action.output}"
    print(f"  step {number}     {action.command} {action.input}  {came_back}")
print(f"answer       {one.metadata.answer}")
print(f"outcome      {one.outcome}")

# %% [markdown]
# ## Its chat
#
# A record becomes a chat. The weight says what is learned: 1 for the assistant's turns, 0 for everybody else, and 0 for a
# failed step, which stays as context so that its *repair* is learned.

# %%
from IPython.display import HTML, display

from data.chats import Chat
from data.records import Outcome
from data.trajectories import trajectory_to_chat

chat = trajectory_to_chat(one, outcomes=frozenset(Outcome))
assert isinstance(chat, Chat), chat

rows = []
for message in chat.messages:
    said = message.content + " ".join(f"{call.name} {call.arguments}" for call in message.tool_calls)
    cells = (message.role, f"{message.loss_weight:g}", said)
    colour = "rgba(26, 127, 55, 0.15)" if message.loss_weight else "transparent"
    row = "".join(f'<td style="text-align: left; white-space: pre-wrap">{escape(cell)}</td>' for cell in cells)
    rows.append(f'<tr style="background: {colour}">{row}</tr>')
display(HTML(f"<table><tr><th>role</th><th>weight</th><th>what is said</th></tr>{''.join(rows)}</table>"))

# %% [markdown]
# ## Its tokens
#
# The model's own chat template makes the tokens. Green ones are trained, stop tokens included; all others are only read. Point
# at a token for its id. The same picture on a terminal: `python -m data show FILE --model MODEL --row 0`.

# %%
from data.rendering.renderer import Renderer
from data.rendering.show import describe_tree, tree_to_html
from data.rendering.token_tree import TokenTree

renderer = Renderer.from_pretrained(MODEL)


def show_tree(tree: TokenTree, height: int = 480) -> None:
    """The page that `data show --html` writes, in a frame of its own."""
    page = escape(tree_to_html(tree, renderer), quote=True)
    display(HTML(f'<div><iframe srcdoc="{page}" style="width: 100%; height: {height}px; border: 0"></iframe></div>'))


tree = renderer.chat_to_tree(chat)
assert isinstance(tree, TokenTree), tree
print("\n".join(describe_tree(tree)))
show_tree(tree)

# %% [markdown]
# ## A preference pair's fork
#
# A failed step and what should have been done from that very state share their history and then part. The history stands in
# the tree once. Here the pair comes from the record's own repair; for a trained model, `python -m benchmark run --advise` also
# stores what the expert would have done, and `python -m data pairs` makes pairs of both.

# %%
from data.chats import PreferencePair
from data.trajectories import trajectories_to_pairs

results = list(trajectories_to_pairs(records))
pairs = [result for result in results if isinstance(result, PreferencePair)]
print(f"{len(pairs)} pairs from {len(results)} failed steps; left out:")
for reason, count in Counter(result.reason for result in results if not isinstance(result, PreferencePair)).items():
    print(f"  {count} x {reason}")

if pairs:
    fork = renderer.pair_to_tree(pairs[0])
    assert isinstance(fork, TokenTree), fork
    print("\n".join(describe_tree(fork)))
    show_tree(fork)

# %% [markdown]
# ## Counts and pictures

# %%
import matplotlib.pyplot as plt

trees = []
for other in records:
    made = trajectory_to_chat(other, outcomes=frozenset(Outcome))
    rendered = renderer.chat_to_tree(made) if isinstance(made, Chat) else made
    if isinstance(rendered, TokenTree):
        trees.append(rendered)

figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")

kinds = [f"{other.category}\n{other.outcome}" for other in records]
names, counts = zip(*sorted(Counter(kinds).items()), strict=True)
bars = axes[0].barh(names, counts)
axes[0].bar_label(bars, padding=3)
axes[0].set_title("records by category and outcome", loc="left")

calls = {
    "without a failed step": [len(other.action_sequence) for other in records if other not in repaired],
    "with one": [len(other.action_sequence) for other in repaired],
}
longest = max(len(other.action_sequence) for other in records)
axes[1].hist(list(calls.values()), bins=[n - 0.5 for n in range(longest + 2)], stacked=True, label=list(calls))
axes[1].set_title("calls per record", loc="left")
axes[1].set_xlabel("calls")
axes[1].legend(frameon=False, loc="upper left")

trained = [len(target.nodes) for tree in trees for target in tree.targets]
axes[2].hist(trained, bins=20)
axes[2].set_title("trained tokens per turn", loc="left")
axes[2].set_xlabel("tokens")

for axis in axes:
    axis.spines[["top", "right"]].set_visible(False)
plt.show()

total = sum(len(tree.ids) for tree in trees)
print(f"{len(trees)} chats, {total:,} tokens, of which {sum(trained):,} ({sum(trained) / total:.0%}) are trained")

# %% [markdown]
# Next: [02_train_and_compare](02_train_and_compare.ipynb) trains a model on such records and measures it.
