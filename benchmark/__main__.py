"""Commands around the benchmark: `python -m benchmark COMMAND --help`.

Exit codes, for all commands:

    0  done
    1  `compare` found a significant loss, or `replay` a record that does not give what it says
    2  the input or the command line is wrong; one message on standard error says what to change
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from benchmark.agent import FROZEN_START, Policy, run_tasks, task_to_metadata
from benchmark.backends import POLICIES, TransformersPolicy, policy_named
from benchmark.kpis import compare_success, kpis, kpis_by
from benchmark.leaderboard import kpi_table, write_leaderboard
from benchmark.recording import Order, Recorded, in_processes, kinds_of, record_order
from benchmark.replay import NO_RECORD, CannotReplay, replay_file
from benchmark.worlds import Task
from benchmark.worlds.table import WORLDS, make_tasks
from data.errors import UserError, nearest, run_command
from data.output import print_table, whole_file
from data.progress import with_progress
from data.records import Outcome, Trajectory, read_trajectories, write_trajectories
from data.render import find_base, missing_model_check, read_chat_template

app = typer.Typer(
    help="Checkpoint in, trajectories and KPIs out. Exit codes: 0 done, 1 a significant loss or a record that does not replay, "
    "2 wrong input or command line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class SplitName(StrEnum):
    """Which tasks: their parameters are disjoint."""

    train = "train"
    test = "test"


ALL_WORLDS = ",".join(WORLDS)
_TASKS_TOGETHER = 20
"""What a process records before it hands the records on."""
_SHOWN = 20
"""Differences that `replay` prints; the report holds them all."""
Worlds = Annotated[str, typer.Option(help="Worlds to take tasks from, with commas between.")]
Count = Annotated[int, typer.Option(min=1, help="How many tasks.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the tasks; the same seed gives the same tasks.")]


def _tasks(worlds: str, split: SplitName, count: int, seed: int) -> list[Task]:
    names = [name.strip() for name in worlds.split(",") if name.strip()]
    kind: Literal["train", "test"] = "train" if split is SplitName.train else "test"
    return make_tasks(names, kind, count, seed)


def _run(policy: Policy, tasks: Sequence[Task], what: str, **options: Any) -> list[Trajectory]:
    """All records, in the order of the tasks whatever the order in which they ended."""
    place = {task.id: at for at, task in enumerate(tasks)}
    records = list(with_progress(run_tasks(policy, tasks, **options), what, total=len(tasks)))
    return sorted(records, key=lambda record: place[str(record.metadata.group)])


@app.command()
def record(
    out: Annotated[Path, typer.Option(help="Where the trajectories go, JSON Lines.")],
    split: Annotated[SplitName, typer.Option(help="Whose tasks.")] = SplitName.train,
    count: Count = 120,
    seed: Seed = 7,
    worlds: Worlds = ALL_WORLDS,
    mistakes: Annotated[
        float, typer.Option(min=0, max=1, help="Share of records in which the expert errs once and recovers.")
    ] = 0.25,
    partials: Annotated[
        float, typer.Option(min=0, max=1, help="Share of records that end half done, or with damage.")
    ] = 0.1,
    failures: Annotated[float, typer.Option(min=0, max=1, help="Share of records in which nothing is done.")] = 0.15,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the file is the same for any number.")] = 1,
    freeze_clock: Annotated[
        bool,
        typer.Option(
            "--freeze-clock", "--freeze_clock", help="Start every record at a fixed time: byte-identical files."
        ),
    ] = False,
) -> None:
    """Let the expert solve tasks in real sandboxes, with injected faults, mistakes and their recoveries, and without success.

    Example: python -m benchmark record --split train --count 160 --seed 7 --out train.jsonl
    """
    _check_no_folder(out)
    tasks = _tasks(worlds, split, count, seed)
    kinds = kinds_of(count, {"recovery": mistakes, "partial": partials, "failure": failures}, seed)
    start = FROZEN_START if freeze_clock else datetime.now(UTC).replace(microsecond=0)
    orders = (
        Order(tasks[at : at + _TASKS_TOGETHER], kinds[at : at + _TASKS_TOGETHER], seed, start)
        for at in range(0, count, _TASKS_TOGETHER)
    )
    made: list[Recorded] = []
    with whole_file(out) as file:
        parts = in_processes(record_order, orders, workers)
        for part in with_progress(parts, "recording", total=count, size=len):
            for record in part:
                file.write(record.line.encode() + b"\n")
                made.append(replace(record, line=""))
    print_table(("category", "records", "Korean", "success", "partial", "failure", "with errors", "with faults"), [
        *((category, *_counts([record for record in made if record.category == category]))
          for category in dict.fromkeys(record.category for record in made)),
        ("all", *_counts(made)),
    ])  # fmt: skip
    print(f"wrote {out}: {count} trajectories")


def _check_no_folder(out: Path) -> None:
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder, expected the name of a file")


def _counts(made: Sequence[Recorded]) -> tuple[int, ...]:
    outcomes = Counter(record.outcome for record in made)
    return (
        len(made),
        sum(record.language == "ko" for record in made),
        *(outcomes[outcome] for outcome in (Outcome.SUCCESS, Outcome.PARTIAL, Outcome.FAILURE)),
        sum(bool(record.errors) for record in made),
        sum(bool(record.injected) for record in made),
    )


@app.command("replay")
def replay_command(
    file: Annotated[Path, typer.Argument(help="Trajectories, JSON Lines.")],
    out: Annotated[Path | None, typer.Option(help="Where the report goes, one JSON object a record.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Run every record again in a fresh sandbox and compare outputs, errors and outcome; exits 1 when any differs.

    Records of other worlds or versions cannot be run again: they are counted with the reason and not in the report.

    Example: python -m benchmark replay train.jsonl --out replay.jsonl
    """
    if out is not None:
        _check_no_folder(out)
        if out.resolve() == file.resolve():
            raise UserError(f"{out}: the report would overwrite the records")
    same, reasons, different = 0, Counter[str](), 0
    with whole_file(out) if out is not None else nullcontext() as report:
        for result in with_progress(replay_file(file, workers=workers), "replaying"):
            if isinstance(result, CannotReplay):
                reasons[result.reason] += 1
                if result.reason == NO_RECORD and reasons[NO_RECORD] <= _SHOWN:
                    print(result.id)
                continue
            if report is not None:
                report.write(result.model_dump_json().encode() + b"\n")
            same += result.ok
            if (difference := result.first_difference) is not None:
                different += 1
                if different <= _SHOWN:
                    was, now = (
                        json.dumps(value, ensure_ascii=False)[:200]
                        for value in (difference.recorded, difference.replayed)
                    )
                    name = result.id if result.id.isprintable() else repr(result.id)
                    print(f"{name}: step {difference.step}: {difference.field}: recorded {was}, replayed {now}")
    if different > _SHOWN:
        print(f"... and {different - _SHOWN} more")
    rows = [("as recorded", same), ("different", different)]
    rows += [(f"not replayed: {reason}", count) for reason, count in reasons.most_common()]
    print_table(("", "records"), [*rows, ("read", same + different + reasons.total())])
    if out is not None:
        print(f"wrote {out}")
    if different:
        raise typer.Exit(1)


@app.command()
def run(
    out: Annotated[Path, typer.Option(help="Folder of the results; one subfolder for each label.")],
    model: Annotated[
        list[str] | None, typer.Option(help="Model or adapter folder, or hub id; may be repeated.")
    ] = None,
    policy: Annotated[list[str] | None, typer.Option(help=f"A policy without a model: {', '.join(POLICIES)}.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Name of each model, in order; default: the last part.")
    ] = None,
    split: Annotated[SplitName, typer.Option(help="Whose tasks.")] = SplitName.test,
    count: Count = 40,
    seed: Seed = 1,
    worlds: Worlds = ALL_WORLDS,
    max_steps: Annotated[int, typer.Option(min=1, help="Turns after which a task ends as it is.")] = 12,
    batch_size: Annotated[int, typer.Option(min=1, help="Tasks that generate together.")] = 16,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest turn of a model.")] = 128,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    invalid: Annotated[
        str, typer.Option(help="An unreadable turn: stop the task, or give it back with retry.")
    ] = "stop",
    chat_template_path: Annotated[
        str | None, typer.Option("--chat_template_path", help="Chat template file instead of the models' own.")
    ] = None,
    advise: Annotated[bool, typer.Option("--advise", help="Store the expert's move at each failed step.")] = False,
) -> None:
    r"""Run models on tasks: trajectories, KPIs with intervals, and a table.

    A result is reused when its model, tasks and options are unchanged.

    Example: python -m benchmark run --model .cache/smollm2-135m --label base \
        --model runs/quickstart/sft --label sft --split test --count 40 --out results
    """
    warnings.filterwarnings("ignore", category=FutureWarning)  # libraries' advice to developers
    models = [("model", name) for name in model or []] + [("policy", name) for name in policy or []]
    if not models:
        raise UserError("nothing to run: give --model or --policy")
    if invalid not in ("stop", "retry"):
        raise UserError(f"--invalid {invalid}: expected stop or retry.{nearest(invalid, ['stop', 'retry'])}")
    labels = label or [Path(name).name for _, name in models]
    if len(labels) != len(models):
        raise UserError(f"{len(labels)} labels for {len(models)} models: give one --label for each, in order")
    if len(set(labels)) != len(labels):
        raise UserError(f"two models are called {max(labels, key=labels.count)!r}: give each its own --label")
    for name in labels:
        if not name or name.startswith(".") or "/" in name:
            raise UserError(f"--label {name!r}: expected the name of a folder, without '/'")
    tasks = _tasks(worlds, split, count, seed)
    for kind, name in models:
        if kind == "model":
            missing_model_check(name)
    options = {"max_steps": max_steps, "invalid": invalid, "advise": advise}
    if chat_template_path is not None:
        read_chat_template(chat_template_path)  # missing? say so before anything is loaded
    decoding = {"batch_size": batch_size, "max_new_tokens": max_new_tokens, "temperature": temperature}
    for (kind, name), label_name in zip(models, labels, strict=True):
        folder = out / label_name
        identity = _model_hash(name, chat_template_path) if kind == "model" else name
        key = _key([identity, [task_to_metadata(task) for task in tasks], options, decoding])
        if _finished(folder, key):
            print(f"{label_name}: already done, reused ({folder})")
            continue
        began = time.monotonic()
        actor = (
            policy_named(name)
            if kind == "policy"
            else TransformersPolicy.from_pretrained(name, chat_template_path=chat_template_path, seed=seed, **decoding)
        )
        records = _run(actor, tasks, f"running {label_name}", label=label_name, live=max(batch_size, 16), **options)
        del actor
        result = {
            "label": label_name,
            "model": name,
            "model_hash": identity,
            "key": key,
            "split": split.value,
            "count": count,
            "seed": seed,
            "worlds": worlds,
            "options": {**options, **decoding},
            "kpis": {kpi: asdict(value) for kpi, value in kpis(records).items()},
            "by_world": _plain(kpis_by(records, "world")),
            "by_tier": _plain(kpis_by(records, "tier")),
            "by_language": _plain(kpis_by(records, "language")),
            "wall_seconds": round(time.monotonic() - began, 1),
            "command": ["python", "-m", "benchmark", *sys.argv[1:]],
            "versions": _versions(),
            "trained_on": _trained_on(name) if kind == "model" else None,
        }
        write_trajectories(folder / "trajectories.jsonl", records)
        result["trajectories_sha256"] = _sha256(folder / "trajectories.jsonl")
        text = json.dumps(result, indent=2, ensure_ascii=False)
        (folder / "kpis.json").write_text(text + "\n", encoding="utf-8")
    Console().print(kpi_table([out / name for name in labels]))


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="Folder of the run to compare with.")],
    after: Annotated[Path, typer.Argument(help="Folder of the run that should be no worse.")],
) -> None:
    """Whether the second run solves more or fewer of the same tasks; exits 1 when it is significantly worse.

    Example: python -m benchmark compare runs/quickstart/benchmark/sft runs/quickstart/benchmark/dpo
    """
    first, second = (list(read_trajectories(folder / "trajectories.jsonl")) for folder in (before, after))
    result = compare_success(first, second)
    if result.value is None:
        raise UserError(f"{before} and {after} have no task in common: run both with the same split, count and seed")
    interval = (
        ""
        if result.low is None or result.high is None
        else f" (95 % {100 * result.low:+.1f} to {100 * result.high:+.1f})"
    )
    left_out = f"; {result.unpaired} tasks are in one of them only" if result.unpaired else ""
    print(
        f"success {after.name} - {before.name} on {result.n} shared tasks: {100 * result.value:+.1f} points{interval}{left_out}"
    )
    if result.significant_loss:
        print("a significant loss")
        raise typer.Exit(1)


@app.command()
def leaderboard(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, in the order in which they are shown.")],
    out: Annotated[Path, typer.Option(help="Folder of the page.")],
) -> None:
    """One static page and one JSON file from runs, and their table.

    Example: python -m benchmark leaderboard results/base results/sft results/dpo --out results/leaderboard
    """
    for folder in runs:
        if not (folder / "kpis.json").is_file():
            siblings = (
                [str(folder.parent / item.name) for item in folder.parent.iterdir()] if folder.parent.is_dir() else []
            )
            raise UserError(f"{folder}: no finished run (kpis.json is missing).{nearest(str(folder), siblings)}")
    write_leaderboard(runs, out)
    Console().print(kpi_table(runs))
    print(f"wrote {out / 'index.html'}")


@app.command()
def tasks(
    out: Annotated[Path, typer.Option(help="Where the tasks go, JSON Lines.")],
    split: Annotated[SplitName, typer.Option(help="Whose tasks.")] = SplitName.test,
    count: Count = 40,
    seed: Seed = 1,
    worlds: Worlds = ALL_WORLDS,
) -> None:
    """Write tasks as data: instruction, tools and parameters, for decontamination and audits.

    Example: python -m benchmark tasks --split test --count 200 --seed 1 --out test-tasks.jsonl
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    made = _tasks(worlds, split, count, seed)
    with open(out, "w", encoding="utf-8") as file:
        for task in made:
            row = {
                **task_to_metadata(task),
                "instruction": task.instruction,
                "tools": [tool.model_dump() for tool in task.tools],
                "faults": [asdict(fault) for fault in task.faults],
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(f"wrote {out}: {len(made)} tasks")


def _plain(groups: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {str(name): {kpi: asdict(value) for kpi, value in values.items()} for name, values in groups.items()}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _model_hash(name: str, chat_template_path: str | None) -> str:
    """sha256 over the weights, tokenizer and template of a folder (and of an adapter's base); the name of a hub id."""
    base, adapter = find_base(name)
    digest = hashlib.sha256((read_chat_template(chat_template_path) if chat_template_path else "").encode())
    for folder in filter(None, (base, adapter)):
        files: Iterable[Path] = sorted(Path(folder).glob("*")) if Path(folder).is_dir() else []
        kept = [
            path
            for path in files
            if path.suffix == ".safetensors" or path.name.startswith(("tokenizer", "chat_template"))
        ]
        for path in kept:
            digest.update(f"{path.name} {_sha256(path)}".encode())
        if not kept:
            digest.update(folder.encode())
    return digest.hexdigest()


def _key(parts: Any) -> str:
    """Hash of everything that decides a result: the model, the tasks, the options, the code and the libraries."""
    here = Path(__file__).resolve().parent  # data/ makes the prompts and reads the replies
    code = [_sha256(path) for folder in (here, here.parent / "data") for path in sorted(folder.rglob("*.py"))]
    text = json.dumps([parts, code, _versions()], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _finished(folder: Path, key: str) -> bool:
    try:
        result = json.loads((folder / "kpis.json").read_text(encoding="utf-8"))
        return bool(result["key"] == key and result["trajectories_sha256"] == _sha256(folder / "trajectories.jsonl"))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _trained_on(name: str) -> Any:
    """The data that a checkpoint's run.json names, where it has one."""
    try:
        return json.loads((Path(name) / "run.json").read_text(encoding="utf-8")).get("data")
    except (OSError, ValueError, AttributeError):
        return None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("torch", "transformers", "peft", "tooltune"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    run_command(app, name="python -m benchmark")
