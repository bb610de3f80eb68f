"""What a service needs from its data, and how much of that is there.

    python -m data plan configs/data/support-desk.plan.yaml train/*.jsonl --test test.jsonl

The specification is a YAML file: cells of category x tier x language x outcome with a number of records each, how an
answer is labelled, and what the test set holds. configs/data/support-desk.plan.yaml is an example with every key.

A record counts for the first cell that it fits. Its tier is `metadata.tier`, or `metadata.task.tier` in records of the
benchmark; its language is `metadata.language`. Records that fit no cell are counted with the reason.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from core.screen import with_progress
from data.records import CategoryName, OutcomeName, Trajectory, read_trajectories

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
class CoverageRow:
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


def plan_to_rows(spec: PlanSpec, train: Coverage, test: Coverage) -> list[CoverageRow]:
    """The cells of the plan in its order, with what is there."""
    return [
        CoverageRow(cell, need.why, need.records, train.cells[cell], need.test_records, test.cells[cell])
        for need in spec.needs
        for cell in need_to_cells(need)
    ]


def rows_to_figure(rows: list[CoverageRow]) -> Figure:
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
