"""What a service needs from its data, and how much of that is there.

    python -m data plan configs/data/support-desk.plan.yaml train/*.jsonl --test test.jsonl

The specification is a YAML file: cells of category x tier x language x outcome with a number of records each, how an
answer is labelled, and what the test set holds. configs/data/support-desk.plan.yaml is an example with every key.

A record counts for the first cell that it fits. Its tier is `metadata.tier`, or `metadata.task.tier` in records of the
benchmark; its language is `metadata.language`. Records that fit no cell are counted with the reason.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from data.config import read_config
from data.errors import UserError
from data.files import write_whole
from data.output import print_table
from data.progress import with_progress
from data.quality import check_picture_name, figure_to_bytes
from data.records import CategoryName, OutcomeName, Trajectory, read_trajectories
from data.validate import files_to_check

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$", strict=True)]
Tier = Annotated[str | int, Field(union_mode="left_to_right")]


class Need(_Strict):
    """Cells of one size: every combination of the values of its four lists."""

    why: str = Field(min_length=1)
    """The requirement of the service that these records serve."""
    category: Annotated[list[CategoryName], BeforeValidator(_as_list), Field(min_length=1)]
    tier: Annotated[list[Tier], BeforeValidator(_as_list), Field(min_length=1)]
    """Difficulty; each is a key of `tiers`."""
    language: Annotated[list[Language], BeforeValidator(_as_list), Field(min_length=1)]
    """ISO 639 codes, such as en and ko."""
    outcome: Annotated[list[OutcomeName], BeforeValidator(_as_list), Field(min_length=1)]
    records: int = Field(gt=0, strict=True)
    """How many for each combination in the training data."""
    test_records: int = Field(default=0, ge=0, strict=True)
    """How many for each combination in the test set."""


class Labelling(_Strict):
    """How an answer gets its outcome."""

    by: Literal["final-state", "exact-answer", "human", "rubric"]
    """Who or what decides."""
    success: str = Field(min_length=1)
    """What must hold for success."""
    failure: str = Field(min_length=1)
    partial: str | None = None
    annotators: int = Field(default=1, ge=1, strict=True)
    """How many people label each record, where people do."""


class TestSet(_Strict):
    """What is kept apart for measuring."""

    __test__ = False  # no test class, whatever pytest thinks of the name

    holds: str = Field(min_length=1)
    """What it is made of, in words: which tasks, from where."""
    shares_groups_with_training: Literal[False] = False
    """No task stands on both sides; `metadata.group` names the task."""


class PlanSpec(_Strict):
    """The YAML of `python -m data plan`."""

    service: str = Field(min_length=1)
    """What the model is for."""
    tiers: dict[Tier, str] = Field(min_length=1)
    """Each tier, and what makes a task belong to it."""
    needs: list[Need] = Field(min_length=1)
    labelling: Labelling
    test_set: TestSet

    @model_validator(mode="after")
    def _names_agree(self) -> PlanSpec:
        known = [str(tier) for tier in self.tiers]
        owner: dict[Cell, int] = {}
        for index, need in enumerate(self.needs):
            for tier in need.tier:
                if str(tier) not in known:
                    raise ValueError(f"needs.{index}.tier: {tier!r} is none of the tiers {', '.join(known)}")
            for cell in need_to_cells(need):
                if owner.setdefault(cell, index) != index:
                    raise ValueError(f"needs.{index} and needs.{owner[cell]} both ask for {cell}")
        return self


class Cell(NamedTuple):
    """One kind of data."""

    category: str
    tier: str
    language: str
    outcome: str

    def __str__(self) -> str:
        return " x ".join(self)


def need_to_cells(need: Need) -> Iterator[Cell]:
    """The combinations that a need asks for; a value that is listed twice counts once."""
    lists = (need.category, map(str, need.tier), need.language, need.outcome)
    for values in itertools.product(*(dict.fromkeys(values) for values in lists)):
        yield Cell(*map(str, values))


def record_to_cell(record: Trajectory) -> Cell | str:
    """The cell of a record, or why it has none."""
    extra = record.metadata.model_extra or {}
    task = extra.get("task")
    tier = extra.get("tier", task.get("tier") if isinstance(task, dict) else None)
    if not isinstance(tier, str | int) or isinstance(tier, bool):
        return "metadata.tier is missing"
    if not record.metadata.language:
        return "metadata.language is missing"
    language = record.metadata.language.lower().replace("_", "-").split("-")[0]  # ko-KR is ko
    return Cell(record.category, str(tier), language, record.outcome)


@dataclass
class Coverage:
    """Records per cell, what was left out and why, and the groups that were seen."""

    cells: Counter[Cell]
    left_out: Counter[str]
    groups: set[str]

    @property
    def read(self) -> int:
        """How many records there were."""
        return self.cells.total() + self.left_out.total()


def files_to_coverage(files: list[Path], wanted: set[Cell]) -> Coverage:
    """Count the records of files.

    Raises:
        UserError: at a line that is no record.
    """
    coverage = Coverage(Counter(), Counter(), set())
    for path in files:
        for record in with_progress(read_trajectories(path), f"reading {path}"):
            cell = record_to_cell(record)
            coverage.groups.add(record.metadata.group or record.id)
            if isinstance(cell, str):
                coverage.left_out[cell] += 1
            elif cell not in wanted:
                coverage.left_out[f"no need asks for {cell}"] += 1
            else:
                coverage.cells[cell] += 1
    return coverage


@dataclass(frozen=True)
class Row:
    """One cell of the plan: how many it needs and how many there are, for training and for the test set."""

    cell: Cell
    why: str
    need: int
    have: int
    test_need: int
    test_have: int

    @property
    def missing(self) -> int:
        """Training records that are still to be made."""
        return max(0, self.need - self.have)

    @property
    def test_missing(self) -> int:
        """Test records that are still to be made."""
        return max(0, self.test_need - self.test_have)


def plan_to_rows(spec: PlanSpec, train: Coverage, test: Coverage) -> list[Row]:
    """The cells of the plan in its order, with what is there."""
    return [
        Row(cell, need.why, need.records, train.cells[cell], need.test_records, test.cells[cell])
        for need in spec.needs
        for cell in need_to_cells(need)
    ]


def rows_to_figure(rows: list[Row]) -> Figure:
    """A square for each cell: category and language down, tier and outcome across, the darker the fuller."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import; only pictures need it

    down = list(dict.fromkeys((row.cell.category, row.cell.language) for row in rows))
    across = sorted({(row.cell.tier, row.cell.outcome) for row in rows})
    figure = Figure(figsize=(2.6 + 1.0 * len(across), 1.6 + 0.5 * len(down)), layout="constrained")
    axis = figure.subplots()
    filled = [[float("nan")] * len(across) for _ in down]
    for row in rows:
        y, x = down.index((row.cell.category, row.cell.language)), across.index((row.cell.tier, row.cell.outcome))
        filled[y][x] = min(1.0, row.have / row.need)
        colour = "white" if filled[y][x] > 0.6 else "black"
        axis.text(x, y, f"{row.have}/{row.need}", ha="center", va="center", fontsize=8, color=colour)
    image = axis.imshow(filled, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    axis.set_xticks(range(len(across)), [f"{tier}\n{outcome}" for tier, outcome in across], fontsize=8)
    axis.set_yticks(range(len(down)), [f"{category}, {language}" for category, language in down], fontsize=8)
    axis.set_xlabel("tier and outcome")
    axis.set_title("training records: have/need", loc="left", fontsize=10)
    axis.set_facecolor("#eeeeee")
    figure.colorbar(image, ax=axis, label="covered", format=lambda share, _: f"{share:.0%}")
    return figure


def plan_command(
    spec_file: Annotated[Path, typer.Argument(metavar="SPEC", help="YAML specification of what is needed.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Training records, or folders of them.")],
    test: Annotated[list[Path] | None, typer.Option(help="Test records; may be repeated.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Write the table as a picture (.png, .svg, .pdf).")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the table as JSON.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit 1 if anything is missing.")] = False,
) -> None:
    """Show which kinds of data a specification asks for, which are covered, and how many records are missing.

    Exit codes: 0 done, 1 something is missing (with --check), 2 wrong input.

    \b
    Example:
        python -m data plan configs/data/support-desk.plan.yaml mine.jsonl --picture plan.png
    """
    if picture is not None:
        check_picture_name(picture)
    spec = read_config(spec_file, PlanSpec)
    wanted = {cell for need in spec.needs for cell in need_to_cells(need)}
    training = files_to_coverage(files_to_check(files), wanted)
    testing = files_to_coverage(files_to_check(test), wanted) if test else Coverage(Counter(), Counter(), set())
    if not training.read:
        raise UserError(f"{', '.join(map(str, files))}: holds no record")
    rows = plan_to_rows(spec, training, testing)
    shared = sorted(training.groups & testing.groups)
    print_table(
        (
            "category",
            "tier",
            "language",
            "outcome",
            "need",
            "have",
            "missing",
            "test need",
            "test have",
            "test missing",
        ),
        [(*row.cell, row.need, row.have, row.missing, row.test_need, row.test_have, row.test_missing) for row in rows],
        title=spec.service,
    )
    for name, coverage in (("training", training), ("test", testing)):
        for reason, count in coverage.left_out.most_common():
            typer.echo(f"{name}: {count} records left out: {reason}")
    covered, missing = sum(not row.missing for row in rows), sum(row.missing for row in rows)
    test_missing = sum(row.test_missing for row in rows)
    typer.echo(
        f"{covered} of {len(rows)} cells are covered; {missing} training and {test_missing} test records are missing"
    )
    typer.echo(
        f"{training.read} training records read, {training.cells.total()} counted; {testing.read} test records read"
    )
    typer.echo(f"success is decided by {spec.labelling.by}: {spec.labelling.success}")
    if shared:
        typer.echo(
            f"{len(shared)} groups stand in training and in test, which measures memory: {', '.join(shared[:3])}"
        )
    if out is not None:
        result = _result(spec, rows, training, testing, shared)
        write_whole(out, json.dumps(result, ensure_ascii=False, indent=2) + "\n")
        typer.echo(f"wrote {out}")
    if picture is not None:
        write_whole(picture, figure_to_bytes(rows_to_figure(rows), picture))
        typer.echo(f"wrote {picture}")
    if check and (missing or test_missing or shared):
        raise typer.Exit(1)


def _result(
    spec: PlanSpec, rows: list[Row], training: Coverage, testing: Coverage, shared: list[str]
) -> dict[str, Any]:
    return {
        "service": spec.service,
        "labelling": spec.labelling.model_dump(),
        "test_set": spec.test_set.model_dump(),
        "cells": [
            {
                **row.cell._asdict(),
                "why": row.why,
                "need": row.need,
                "have": row.have,
                "missing": row.missing,
                "test_need": row.test_need,
                "test_have": row.test_have,
                "test_missing": row.test_missing,
            }
            for row in rows
        ],
        "left_out": {"training": dict(training.left_out), "test": dict(testing.left_out)},
        "groups_in_both": shared,
    }
