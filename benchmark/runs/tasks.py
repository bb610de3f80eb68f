"""`python -m benchmark tasks`: tasks as data; with make, check and import, those of a folder with your own tools."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from benchmark.agent.episodes import task_to_metadata
from benchmark.runs.options import (
    ALL_WORLDS,
    Asking,
    Count,
    Injections,
    Seed,
    Short,
    SplitName,
    Trust,
    Worlds,
    check_no_folder,
    choose_worlds,
    draw_tasks,
    open_folder,
)
from benchmark.runs.record import in_processes
from benchmark.worlds.own.check_tasks import Checked, Refusal, check_task
from benchmark.worlds.own.check_together import check_together
from benchmark.worlds.own.families import Families, families_to_rows
from benchmark.worlds.own.folder import FAMILIES_FILE, POOLS_FILE, TASKS_FILE, WORLD_FILE, read_folder, read_pools
from benchmark.worlds.own.imports import Project, import_tasks
from benchmark.worlds.own.kind import OwnKind
from benchmark.worlds.own.pools import ask_pools
from benchmark.worlds.own.tasks import TaskRow
from benchmark.worlds.world import PARTS
from core.config import read_config
from core.errors import UserError, printable
from core.files import whole_file, write_json, write_whole
from core.screen import print_table, with_progress

tasks_app = typer.Typer(
    help="Write tasks as data; make, check or import those of a folder with your own tools.",
    add_completion=False,
    rich_markup_mode=None,
)


@tasks_app.callback(invoke_without_command=True)
def tasks(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(help="Where the tasks go, JSON Lines.")] = None,
    split: Annotated[SplitName, typer.Option(help="Whose tasks.")] = SplitName.test,
    count: Count = None,
    seed: Seed = 1,
    worlds: Worlds = ALL_WORLDS,
    short: Short = False,
    asking: Asking = False,
    injections: Injections = False,
    trust: Trust = False,
) -> None:
    """Write tasks as data: instruction, tools and parameters, for decontamination and audits.

    Example: python -m benchmark tasks --split test --count 200 --seed 1 --out test-tasks.jsonl
    """
    if context.invoked_subcommand is not None:
        return
    if out is None:
        raise UserError(
            "--out is missing: where the tasks go. To make, check or import tasks: tasks make|check|import DIR"
        )
    check_no_folder(out)
    made = draw_tasks(
        choose_worlds(worlds, trust=trust), split, count, seed, short=short, asking=asking, injections=injections
    )
    with whole_file(out) as file:
        for task in made:
            row = {
                **task_to_metadata(task),
                "instruction": task.instruction,
                "tools": [tool.model_dump() for tool in task.tools],
                "faults": [asdict(fault) for fault in task.faults],
            }
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    print(f"wrote {out}: {len(made)} tasks")


_SHOWN = 20
"""Refusals that are printed; the report holds them all."""
Folder = Annotated[Path, typer.Argument(help="The folder with your own tools.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes. [default: one a core]")]


@tasks_app.command("check")
def check_command(
    folder: Folder,
    trust: Trust = False,
    workers: Workers = None,
    out: Annotated[Path | None, typer.Option(help="Where the report goes, one JSON object a task.")] = None,
) -> None:
    """Run each task's solution, and what must not pass: nothing, reading, talk, the solution without its last change.

    Exits 1 where a task is refused.

    Example: python -m benchmark tasks check my-tools
    """
    kind = open_folder(folder, trust=trust)
    rows = kind.folder.rows
    if not rows:
        raise UserError(f"{folder}: has no tasks; write tasks.jsonl or families.yaml")
    one = 1 if kind.parallel is not None else workers or min(4, os.cpu_count() or 1)
    checked = list(with_progress(_check_all(kind, rows, one), "checking", total=len(rows)))
    refusals = [*check_together(kind), *(refusal for found in checked for refusal in found.refusals)]
    if out is not None:
        with whole_file(out) as file:
            file.writelines(json.dumps(asdict(found), ensure_ascii=False).encode() + b"\n" for found in checked)
    _show_families(kind, checked, refusals)
    for refusal in refusals[:_SHOWN]:
        print(printable(f"{refusal.task}: refused: {refusal.goal}: {refusal.seen}"))
    if len(refusals) > _SHOWN:
        print(f"... and {len(refusals) - _SHOWN} more")
    if unproved := [found.task for found in checked if found.unproved]:
        print(printable(f"{len(unproved)} have no solution, so nothing shows that they can be solved ({unproved[0]})"))
    _show_what_differs(kind, checked)
    if refusals or any(found.volatile for found in checked):
        raise typer.Exit(1)


def _check_all(kind: OwnKind, rows: Sequence[TaskRow], workers: int) -> Iterator[Checked]:
    """What was found about each task; the first of each way to solve has its arguments and order changed, too."""
    shapes: set[str] = set()
    parts: list[tuple[TaskRow, bool]] = []
    for row in rows:
        calls = [[call.name, *call.arguments] for call in row.solution]
        shape = json.dumps([row.family, calls, [check.call for check in row.check]])
        parts.append((row, shape not in shapes))
        shapes.add(shape)
    first = _check_one(kind, parts[0])
    yield first
    # what differs from run to run in one task does in the others, and is not looked for in each again
    rest = kind.with_volatile(first.volatile) if first.volatile else kind
    for found in in_processes(partial(_check_one, rest), parts[1:], workers):
        found.volatile = sorted({*first.volatile, *found.volatile})
        yield found


def _show_what_differs(kind: OwnKind, checked: Sequence[Checked]) -> None:
    """What to write into world.yaml."""
    of_state = sorted({pointer for found in checked for pointer in found.volatile})
    more = sorted({*of_state, *(pointer for found in checked for pointer in found.volatile_results)})
    world = kind.folder.world
    if more:
        what = "the state" if of_state else "results, which replay compares"
        print(printable(
            f"differs in {what} from run to run; the tasks were checked without it. Write into world.yaml:\n"
            f"volatile: {json.dumps([*world.volatile, *more], ensure_ascii=False)}"
        ))  # fmt: skip
    if world.deterministic and (found := next((each for each in checked if each.not_deterministic), None)):
        print(printable(
            f"the world is not deterministic: {found.task}: {found.not_deterministic}. No pointer names that; so that replay "
            "compares structure only, write into world.yaml:\ndeterministic: false"
        ))  # fmt: skip


def _check_one(kind: OwnKind, part: tuple[TaskRow, bool]) -> Checked:
    row, vary = part
    return check_task(kind, row, vary=vary)


def _show_families(kind: OwnKind, checked: Sequence[Checked], refusals: Sequence[Refusal]) -> None:
    refused = {refusal.task for refusal in refusals}
    rows: dict[str, list[TaskRow]] = {}
    for row in kind.folder.rows:
        rows.setdefault(row.family, []).append(row)
    matters = {found.task: found.matters for found in checked if found.matters}
    print_table(("family", "train", "test", "refused", "what matters"), [
        (name, sum(row.split == "train" for row in of), sum(row.split == "test" for row in of),
         sum(row.id in refused for row in of), "; ".join(next((matters[row.id] for row in of if row.id in matters), [])))
        for name, of in rows.items()
    ])  # fmt: skip
    parts = ", ".join(f"{part} {len(kind.rows_of('train', part))}" for part in PARTS)
    asking = sum(row.user is not None for row in kind.folder.rows)
    parts += f"; with a user, drawn with --asking: {asking}" if asking else ""
    judged = "" if kind.judged_by == "state" else f"; judged by {kind.judged_by}, not by the state"
    print(f"{len(checked)} tasks of {kind.name}: training by use: {parts}; {len(refused)} refused{judged}")


@tasks_app.command("make")
def make_command(folder: Folder, trust: Trust = False) -> None:
    """Ask the read-only calls of families.yaml for their values, keep these in pools.json, and count the tasks.

    Example: python -m benchmark tasks make my-tools
    """
    file = folder / FAMILIES_FILE
    if not file.is_file():
        raise UserError(f"{file}: there is none; docs/your-tools.md shows one")
    families = read_config(file, Families)
    called = {name: pool for name, pool in families.pools.items() if pool.call is not None}
    if called:
        values = ask_pools(open_folder(folder, trust=trust, without_tasks=True), called)
        write_json(folder / POOLS_FILE, values)
        print(f"wrote {folder / POOLS_FILE}: " + ", ".join(f"{len(found)} of {name}" for name, found in values.items()))
    rows = families_to_rows(families, read_pools(folder), where=file)
    counts = Counter((row.family, row.split) for row in rows)
    print_table(("family", "train", "test"), [
        (family.name, counts[family.name, "train"], counts[family.name, "test"]) for family in families.families
    ])  # fmt: skip
    print(f"{len(rows)} tasks; `python -m benchmark tasks check {folder}` says whether they are good")


@tasks_app.command("import")
def import_command(
    folder: Folder,
    file: Annotated[Path, typer.Argument(help="Their tasks: a JSON list, or JSON Lines.")],
    project: Annotated[Project, typer.Option("--from", help="Whose tasks they are.")],
    split: Annotated[
        Literal["train", "test"] | None,
        typer.Option(help="Of all; by default by the hash of each id, six in ten train."),
    ] = None,
) -> None:
    """Add another project's tasks to tasks.jsonl of a folder whose tools they are for.

    Example: python -m benchmark tasks import my-airline tasks.json --from tau2
    """
    made = import_tasks(project, file, split)
    out = folder / TASKS_FILE
    before = out.read_text(encoding="utf-8") if out.is_file() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    known = {row.id for row in read_folder(folder).rows} if (folder / WORLD_FILE).is_file() else set()
    if taken := next((row.id for row in made.rows if row.id in known), None):
        raise UserError(f"{out}: task {taken!r} is there already; remove the tasks that were imported before")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(out, before + "".join(row.model_dump_json(exclude_defaults=True) + "\n" for row in made.rows))
    for why, count in made.left_out.most_common():
        print(f"left out {count}: {why}")
    for what, count in made.changed.most_common():
        print(f"{count}: {what}")
    splits = Counter(row.split for row in made.rows)
    print(
        f"wrote {out}: {len(made.rows)} tasks (train {splits['train']}, test {splits['test']}), "
        f"{made.left_out.total()} left out"
    )
