"""`python -m benchmark curve`: success against the number of records, before somebody records more.

For each share of the records and each seed a model is trained from the base and tried on the same tasks. The seed decides which
records are taken, and the training.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from benchmark.kpis import bootstrap_mean
from benchmark.loop.plan import ROOT, Loop, LoopConfig, Stage, command_words, kpi_text
from benchmark.loop.sweep_run import run_plan
from core.config import read_config
from core.errors import UserError
from core.files import read_json, write_json
from core.screen import print_table
from data.records import Outcome, read_trajectories


class Curve:
    """A loop's config with shares and seeds; a `Plan`."""

    def __init__(self, loop: Loop, shares: list[float], seeds: int, records: Path | None) -> None:
        self.loop, self.shares, self.seeds = loop, shares, range(1, seeds + 1)
        self.out = loop.out / "curve"
        self.records = records or self.out / "records.jsonl"
        self.is_recorded = records is None
        self.tasks = loop.config.validation or loop.config.test

    def stages(self) -> list[Stage]:
        """Records, a training and a run for each share and seed, the table."""
        config = self.loop.config
        stages = []
        if self.is_recorded:
            words = command_words(
                "python -m benchmark record", *self.loop.tasks_of("record", config.record), config.tasks,
                "--partials 0 --failures 0 --freeze-clock", config.record.options, "--out", self.records,
            )  # fmt: skip
            stages.append(Stage("record", 0, self.out, words, makes=(self.records,), part="all"))
        for share in self.shares:
            for seed in self.seeds:
                stages += self._point(share, seed)
        made = tuple(path for stage in stages if stage.name == "test" for path in stage.makes)
        table = Stage("table", 0, self.out, (), reads=tuple(path for path in made if path.exists()),
                      makes=(self.out / "curve.json",), part="all")  # fmt: skip
        return [*stages, table]

    def folder(self, share: float, seed: int) -> Path:
        """Everything of one point."""
        return self.out / f"{share:g}" / f"seed-{seed}"

    def _point(self, share: float, seed: int) -> Iterator[Stage]:
        config, here, part = self.loop.config, self.folder(share, seed), f"{share:g}/seed-{seed}"
        source = {"adapter": "trajectory", "path": str(self.records), "weight": float(share)}
        build = {"seed": seed, "validation_share": config.sft.validation_share, "sources": [source]}
        path, data, model = here / "data.yaml", here / "data", here / "sft"
        yield Stage(
            "sft-data", 0, here, command_words("python -m data build --config", path, "--out", data),
            reads=(self.records,), makes=(data / "manifest.json",),
            may_make=tuple(data / f"{split}.jsonl" for split in ("train", "validation")),
            writes={path: yaml.safe_dump(build, sort_keys=False, allow_unicode=True)}, part=part,
        )  # fmt: skip
        script = Path(os.path.relpath(ROOT / "train" / "sft.py"))
        yield Stage(
            "sft", 0, here,
            command_words(
                config.launch, script, "--config", Path(config.sft.config), "--model_name_or_path", Path(config.model),
                "--data", data, "--output_dir", model, config.sft.options, "--seed", seed,
            ),
            reads=(Path(config.model), data / "manifest.json"), makes=(model,), configs=(Path(config.sft.config),),
            uses_model=True, part=part,
        )  # fmt: skip
        use = "validation" if config.validation else "test"
        yield Stage(
            "test", 0, here,
            command_words(
                "python -m benchmark run --model", model, "--label sft", *self.loop.tasks_of(use, self.tasks), config.tasks,
                *config.run_options, self.tasks.options, "--out", here / "test",
            ),
            reads=(model,), makes=(here / "test" / "sft" / "trajectories.jsonl",), uses_model=True, part=part,
        )  # fmt: skip

    def decides(self, stage: Stage) -> dict[str, Any]:
        """See `Plan`."""
        return {"shares": self.shares, "seeds": len(self.seeds)} if stage.name == "table" else {}

    def decide(self, stage: Stage) -> str | None:
        """See `Plan`."""
        return self._tell() if stage.name == "table" else None

    def _tell(self) -> str:
        points: list[dict[str, Any]] = []
        for share in self.shares:
            by_task: dict[str, list[float]] = {}
            rows, rates = [], []
            for seed in self.seeds:
                here = self.folder(share, seed)
                file = here / "test" / "sft" / "trajectories.jsonl"
                if not file.exists():
                    continue
                tried = list(read_trajectories(file))
                for record in tried:
                    solved = float(record.outcome is Outcome.SUCCESS)
                    by_task.setdefault(record.metadata.group or record.id, []).append(solved)
                rates.append(sum(record.outcome is Outcome.SUCCESS for record in tried) / max(1, len(tried)))
                rows.append(read_json(here / "data" / "manifest.json").get("splits", {}).get("train", {}).get("rows"))
            success = bootstrap_mean(list(by_task.values()))  # a task is one case, however many seeds tried it
            points.append({"share": share, "records": rows, "success": asdict(success), "by_seed": rates})
        write_json(self.out / "curve.json", {"config": self.loop.config.model_dump(mode="json"), "points": points})
        lines = [
            (
                f"{point['share']:g}",
                ", ".join(str(each) for each in point["records"]),
                kpi_text("success_rate", point["success"]),
                ", ".join(f"{100 * rate:.0f} %" for rate in point["by_seed"]),
            )
            for point in points
        ]
        print_table(
            ("share", "records trained on", "success", "by seed"), lines, title="\nwith 95 % intervals over tasks"
        )
        return f"wrote {self.out / 'curve.json'}"


def curve_command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of a loop.")],
    shares: Annotated[str, typer.Option(help="Shares of the records, with commas between.")] = "0.1,0.3,1",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each share.")] = 2,
    records: Annotated[
        Path | None, typer.Option(help="Your own records (trajectories), instead of those of the loop's expert.")
    ] = None,
) -> None:
    """Train on shares of the records, and tell success against their number: would more records help?

    Models are tried on the loop's validation tasks (without any, on its test tasks). What is done is not done again.

    Example: python -m benchmark curve configs/benchmark/loop.yaml --shares 0.1,0.3,1 --seeds 2
    """
    read = read_config(config, LoopConfig)
    try:
        wanted = sorted({float(word) for word in shares.split(",")})
    except ValueError:
        raise UserError(f"--shares {shares}: expected numbers with commas between, such as 0.1,0.3,1") from None
    if not all(0 < share <= 1 for share in wanted):
        raise UserError(f"--shares {shares}: a share is above 0 and at most 1")
    if records is not None and not records.is_file():
        raise UserError(f"--records {records}: there is no such file")
    if not Path(read.sft.config).is_file():
        raise UserError(f"{config}: {read.sft.config}: there is no such file")
    run_plan(Curve(Loop(read, config), wanted, seeds, records))
