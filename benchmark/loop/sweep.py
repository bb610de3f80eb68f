"""Arms that learn from the same model and the same tries, and the stages of their comparison: `python -m benchmark sweep`.

    tasks                      the test tasks, which training data is searched for
    record                     the expert solves training tasks
    SEED/start: sft            the model from which the arms start
    SEED/ARM: practice         its tries at other training tasks; complete, pairs: what is learned from them
    SEED/ARM/VARIANT           a training for each point of the grid
    SEED/ARM: validate, halve  variants on further training tasks; the worse half is left out, until one is left
    SEED/ARM: test             that one, on test tasks
    table                      all arms on one page

docs/preferences.md says what each arm is for. benchmark/loop/sweep_run.py runs it, and each stage only once.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from benchmark.kpis import kpis
from benchmark.loop.plan import ROOT, Stage, Stagewise, Strict, TaskSet, check_words, command_words
from core.files import read_json, write_json
from data.records import Trajectory, read_trajectories
from data.sets.pair_kinds import read_kinds

START = "start"
"""The arm that learns nothing more; every sweep has it."""
Value = float | int | str | bool


class Arm(Strict):
    """One way to go on from the start, or an opponent: one of its first five keys, or none to run the start otherwise."""

    prefers: str = ""
    """Kinds of pairs (`python -m data pairs --kinds`): DPO."""
    chosen_of: str = ""
    """The arm whose very pairs are taken; of them, the chosen sides alone are imitated: what do the rejected ones add?"""
    imitates: Literal["", "records", "successes", "completed"] = ""
    """SFT: on more of the expert's records, from the base; on own tries that succeed (expert iteration); on failed tries that
    the expert finishes (DAgger with expert completion)."""
    rates: Literal["", "tries"] = ""
    """KTO: own tries that succeed are good, those that fail are bad."""
    shots: int = Field(default=0, ge=0, strict=True)
    """Records of training that are shown before each task; nothing is trained."""
    records: int = Field(default=0, ge=0, strict=True)
    """With `imitates: records`: how many."""
    after: str = ""
    """The arm that it goes on from; without it, the start."""
    run: str = ""
    """Further options of its runs, such as --repeat-guard."""
    options: str = ""
    """Further options of its training."""
    grid: dict[str, list[Value]] | None = None
    """Options of its training and their values, in place of the sweep's; {} for none."""

    _options_are_words = field_validator("run", "options")(check_words)

    @model_validator(mode="after")
    def _is_one_thing(self) -> Arm:
        ways = [name for name in ("prefers", "chosen_of", "imitates", "rates", "shots") if getattr(self, name)]
        if len(ways) > 1:
            raise ValueError(f"{' and '.join(ways)}: an arm is one of these")
        if (self.imitates == "records") != bool(self.records):
            raise ValueError("imitates: records and records: N go together")
        if self.prefers:
            read_kinds(self.prefers)
        return self

    @property
    def method(self) -> str:
        """The entry point in train/ that trains it; empty where nothing is trained."""
        if self.prefers or self.chosen_of:
            return "dpo"
        return "sft" if self.imitates else "kto" if self.rates else ""


class SweepConfig(Strict):
    """The YAML of `python -m benchmark sweep`."""

    out: str
    """Folder of everything that the sweep makes."""
    model: str
    """The base: a folder or a hub id."""
    seeds: list[int] = Field(default=[7], min_length=1)
    """Of the trainings; each has a start, tries and arms of its own. Tasks are the same."""
    launch: str = "python"
    """How training is started: python, or accelerate launch --config_file FILE."""
    tasks: str = ""
    """Options of all tasks, such as --worlds files,api --short."""
    run: str = ""
    """Options of all runs of a model, such as --max-steps 8."""
    record: TaskSet
    practice: TaskSet
    """Training tasks whose tries are learned from; options such as --samples 6 --temperature 0.8 --prove 3."""
    validation: TaskSet
    """Training tasks that decide between variants."""
    test: TaskSet
    sft: Stagewise
    dpo: Stagewise
    kto: Stagewise | None = None
    grid: dict[str, list[Value]] = Field(default_factory=dict)
    """Options of the trainings that prefer or rate, and their values: every combination is a variant."""
    stop_at_chosen_drop: float = Field(default=0.1, gt=0)
    """DPO ends when the chosen sides' log-probs fall below the reference's by this share."""
    arms: dict[str, Arm]

    _are_words = field_validator("launch", "tasks", "run")(check_words)

    @model_validator(mode="after")
    def _arms_fit(self) -> SweepConfig:
        earlier = [START]
        for name, arm in self.arms.items():
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9+_.-]*", name) or name == START:
                raise ValueError(f"arms.{name}: expected a name of letters, digits and + _ . - other than {START}")
            for key in ("after", "chosen_of"):
                if (other := getattr(arm, key)) and other not in earlier:
                    raise ValueError(
                        f"arms.{name}.{key}: {other!r} is no arm before it; there are {', '.join(earlier)}"
                    )
            if arm.chosen_of and not self.arms[arm.chosen_of].prefers:
                raise ValueError(f"arms.{name}.chosen_of: {arm.chosen_of} has no pairs")
            if "pit" in arm.prefers and "--prove" not in self.practice.options:
                raise ValueError(f"arms.{name}.prefers: pit needs --prove K among practice.options")
            if arm.rates and self.kto is None:
                raise ValueError(f"arms.{name}.rates: kto is missing, the config of train/kto.py")
            earlier.append(name)
        seeds = [self.record.seed, self.practice.seed, self.validation.seed]
        if len(set(seeds)) < 3:
            raise ValueError("record.seed, practice.seed and validation.seed give the same tasks; take different ones")
        return self


@dataclass(frozen=True)
class Variant:
    """An arm with one value of each option of its grid."""

    name: str
    options: tuple[str, ...]
    folder: Path
    """Its stages and what they make."""
    model: Path


class Sweep:
    """A config with the folder it fills; a `Plan`."""

    def __init__(self, config: SweepConfig, *, write_table: Callable[[Sweep], str]) -> None:
        """`write_table` writes the page of all arms, and says what is on it."""
        self.config, self.out, self.write_table = config, Path(config.out), write_table
        self.arms = {START: Arm(), **config.arms}

    # ---- arms and variants ----

    def folder(self, seed: int, arm: str) -> Path:
        """Everything of one arm."""
        return self.out / f"seed-{seed}" / arm

    def variants(self, seed: int, name: str) -> list[Variant]:
        """Every point of the arm's grid; one without options where it has none."""
        arm, here = self.arms[name], self.folder(seed, name)
        if not arm.method:
            start = here if name == START else self.folder(seed, arm.after or START)
            model = start / "sft" if (arm.after or START) == START else self.winner(seed, arm.after).model
            return [Variant("only", (), here, model)]
        grid = arm.grid if arm.grid is not None else self.config.grid if arm.method in ("dpo", "kto") else {}
        if arm.chosen_of and arm.grid is None:
            grid = {key: values for key, values in grid.items() if key != "beta"}  # which the NLL does not know
        found = []
        for point in itertools.product(*grid.values()):
            chosen = dict(zip(grid, point, strict=True))
            called = ",".join(
                f"{key}={value:g}" if type(value) is float else f"{key}={value}" for key, value in chosen.items()
            )
            folder = here / (called or "only")
            words = tuple(word for key, value in chosen.items() for word in (f"--{key}", str(value)))
            found.append(Variant(called or "only", words, folder, folder / arm.method))
        return found

    def left(self, seed: int, name: str, rung: int) -> list[Variant]:
        """The variants that are validated in a rung, as far as it is decided."""
        names = None if rung == 0 else read_json(self._halving(seed, name, rung - 1)).get("left")
        return [each for each in self.variants(seed, name) if names is None or each.name in names]

    def winner(self, seed: int, name: str) -> Variant:
        """The variant that is tested. Only where `is_decided`."""
        return self.left(seed, name, self.rungs(name))[0]

    def is_decided(self, seed: int, name: str) -> bool:
        """Whether it is known which variant of an arm is tested, or that it has no data."""
        if not self.has_data(seed, name):
            return False
        return bool(read_json(self._halving(seed, name, self.rungs(name) - 1)))

    def rungs(self, name: str) -> int:
        """How often the variants of an arm are halved; each arm is validated at least once."""
        arm = self.arms[name]
        count = len(self.variants(self.config.seeds[0], name)) if arm.method else 1
        return max(1, math.ceil(math.log2(count)))

    def has_data(self, seed: int, name: str) -> bool:
        """Whether the tries gave an arm something to learn from, as far as is known yet."""
        arm = self.arms[name]
        if arm.chosen_of:
            return self.has_data(seed, arm.chosen_of)
        if arm.after and not self.has_data(seed, arm.after):
            return False
        return read_json(self.folder(seed, name) / "pairs.counts.json").get("kept") != 0

    def _halving(self, seed: int, name: str, rung: int) -> Path:
        return self.folder(seed, name) / f"halving-{rung}.json"

    # ---- stages ----

    def stages(self) -> list[Stage]:
        """All stages in order, as far as can be said now: which variants are validated again, and what follows an arm's
        winner, is known only later."""
        config, out = self.config, self.out
        tests = out / "test-tasks.jsonl"
        stages = [
            self._stage(
                "tasks", "", out, "python -m benchmark tasks", *self._tasks("test", config.test), config.tasks,
                "--out", tests, makes=(tests,),
            )
        ]  # fmt: skip
        wanted = {config.record.count, *(arm.records for arm in config.arms.values() if arm.records)}
        for count in sorted(wanted):
            records = self._records(count)
            stages.append(
                self._stage(
                    f"record-{count}", "", out, "python -m benchmark record",
                    *self._tasks("record", config.record.model_copy(update={"count": count})), config.tasks,
                    "--partials 0 --failures 0 --freeze-clock", config.record.options, "--out", records, makes=(records,),
                )
            )  # fmt: skip
        for seed in config.seeds:
            for name in self.arms:
                if self.arms[name].after and not self.is_decided(seed, self.arms[name].after):
                    continue
                stages += self._of_arm(seed, name)
        tested = [stage for stage in stages if stage.name == "test"]
        table = out / "table.md"
        made = tuple(path for stage in tested for path in stage.makes if path.exists())  # an arm may have failed
        return [*stages, Stage("table", 0, out, (), reads=made, makes=(table, out / "table.json"), part="all")]

    def _records(self, count: int) -> Path:
        return self.out / f"records-{count}.jsonl"

    def _stage(self, name: str, part: str, folder: Path, *words: object, **what: Any) -> Stage:
        return Stage(name, 0, folder, command_words(*words), part=part or "all", **what)

    def _tasks(self, use: str, tasks: TaskSet) -> tuple[object, ...]:
        has_folders = "/" in self.config.tasks
        named = use if has_folders and use != "test" else "test" if use == "test" else "train"
        return ("--split", named, "--count", tasks.count, "--seed", tasks.seed)

    def _of_arm(self, seed: int, name: str) -> Iterator[Stage]:
        arm, part = self.arms[name], f"seed-{seed}/{name}"
        if name == START:
            yield from self._sft_data(seed, name, self._records(self.config.record.count), part)
            [start] = self.variants(seed, name)
            yield self._training(seed, name, start, Path(self.config.model), part)
        elif arm.method:
            yield from self._learning(seed, name, part)
            if not self.has_data(seed, name):
                return
        if self._is_practised(name):
            yield from self._practice(seed, name, part)
        yield from self._validation(seed, name, part)

    def _is_practised(self, name: str) -> bool:
        """Whether other arms learn from its tries."""
        learners = [arm for arm in self.config.arms.values() if (arm.after or START) == name]
        return any(arm.prefers or arm.rates or arm.imitates in ("successes", "completed") for arm in learners)

    def _needs(self, name: str) -> set[str]:
        """States of its tries in which the expert has to go on."""
        kinds: set[str] = set()
        for arm in self.config.arms.values():
            if (arm.after or START) == name:
                kinds |= set(read_kinds(arm.prefers)) if arm.prefers else set()
                kinds |= {"drawn"} if arm.imitates == "completed" else set()
        return kinds

    def _practice(self, seed: int, name: str, part: str) -> Iterator[Stage]:
        """The tries of a model, and what they lead to."""
        config, here, practice = self.config, self.folder(seed, name), self.config.practice
        if name != START and not self.is_decided(seed, name):
            return
        model = here / "sft" if name == START else self.winner(seed, name).model
        tries, kinds = here / "practice" / "tries", self._needs(name)
        rollouts = (tries / "rollouts.jsonl",) if "--prove" in practice.options else ()
        yield self._stage(
            "practice", part, here, "python -m benchmark run --model", model, "--label tries",
            *self._tasks("practice", practice), config.tasks, config.run, practice.options, "--advise --out", here / "practice",
            reads=(model,), makes=(tries / "trajectories.jsonl",), may_make=rollouts, uses_model=True,
        )  # fmt: skip
        worlds = self._worlds_of_folders()
        for file, at in (("completed", kinds & {"stuck", "stop", "injection"}), ("drawn", kinds & {"drawn"})):
            if at:
                out = here / f"{file}.jsonl"
                yield self._stage(
                    file, part, here, "python -m benchmark complete", tries / "trajectories.jsonl", "--at",
                    ",".join(sorted(at)), *worlds, "--out", out, reads=(tries / "trajectories.jsonl",), makes=(out,),
                )  # fmt: skip

    def _worlds_of_folders(self) -> tuple[str, ...]:
        words = self.config.tasks.replace("--worlds=", "--worlds ").split()
        named = [words[place + 1] for place, word in enumerate(words[:-1]) if word == "--worlds"]
        folders = [word for worlds in named for word in worlds.split(",") if "/" in word]
        return (("--worlds", ",".join(folders)) if folders else ()) + (("--trust",) if "--trust" in words else ())

    def _learning(self, seed: int, name: str, part: str) -> Iterator[Stage]:
        """Data and trainings of an arm."""
        arm, here = self.arms[name], self.folder(seed, name)
        source = self.folder(seed, arm.after or START)
        tries = source / "practice" / "tries" / "trajectories.jsonl"
        if arm.prefers:
            kinds = set(read_kinds(arm.prefers))
            files = [tries]
            files += [source / "completed.jsonl"] if kinds & {"stuck", "stop", "injection"} else []
            files += [tries.with_name("rollouts.jsonl")] if "pit" in kinds else []
            yield self._stage(
                "pairs", part, here, "python -m data pairs", *files, "--kinds", arm.prefers, "--out", here / "pairs.jsonl",
                reads=tuple(files), makes=(here / "pairs.counts.json",), may_make=(here / "pairs.jsonl",),
            )  # fmt: skip
            if not self.has_data(seed, name):
                return
            yield self._data(name, here, "pairs", here / "pairs.jsonl", self.config.dpo, part)
        elif arm.chosen_of:
            if not self.has_data(seed, name):
                return
        elif arm.rates:
            assert self.config.kto is not None
            yield self._data(name, here, "trajectory", tries, self.config.kto, part, labelled=True)
        else:
            files_of = {"records": self._records(arm.records), "successes": tries, "completed": source / "drawn.jsonl"}
            yield from self._sft_data(seed, name, files_of[arm.imitates], part)
        start = Path(self.config.model)
        if arm.imitates != "records":
            begin = arm.after or START
            start = source / "sft" if begin == START else self.winner(seed, begin).model
        for variant in self.variants(seed, name):
            yield self._training(seed, name, variant, start, part)

    def _sft_data(self, seed: int, name: str, source: Path, part: str) -> Iterator[Stage]:
        yield self._data(name, self.folder(seed, name), "trajectory", source, self.config.sft, part)

    def _data(
        self, name: str, here: Path, adapter: str, source: Path, kind: Stagewise, part: str, *, labelled: bool = False
    ) -> Stage:
        build: dict[str, Any] = {
            "seed": 7,
            "validation_share": kind.validation_share,
            **({"labelled": True} if labelled else {}),
            "sources": [{"adapter": adapter, "path": str(source)}],
        }
        stage, path = f"{self.arms[name].method or 'sft'}-data", here / "data.yaml"
        return self._stage(
            stage, part, here, "python -m data build --config", path, "--out", here / "data",
            reads=(source,), makes=(here / "data" / "manifest.json",),
            may_make=tuple(here / "data" / f"{split}.jsonl" for split in ("train", "validation")),
            writes={path: yaml.safe_dump(build, sort_keys=False, allow_unicode=True)},
        )  # fmt: skip

    def _training(self, seed: int, name: str, variant: Variant, start: Path, part: str) -> Stage:
        arm = self.arms[name]
        method = arm.method or "sft"
        kind = {"sft": self.config.sft, "dpo": self.config.dpo, "kto": self.config.kto}[method]
        assert kind is not None
        data = self.folder(seed, arm.chosen_of or name) / "data"
        own: list[object] = []
        if method == "dpo":
            own = ["--precompute_ref_log_probs true --stop_at_chosen_drop", self.config.stop_at_chosen_drop]
        if arm.chosen_of:
            own += ["--loss_type sft --loss_weights 1.0"]
        script = Path(os.path.relpath(ROOT / "train" / f"{method}.py"))
        configs = (Path(kind.config), *(Path(word) for word in self.config.launch.split() if word.endswith(".yaml")))
        where = part if variant.name == "only" else f"{part}/{variant.name}"
        return self._stage(
            method, where, variant.folder, self.config.launch, script, "--config", Path(kind.config),
            "--model_name_or_path", start, "--data", data, "--output_dir", variant.folder / method,
            "--benchmark_tasks", self.out / "test-tasks.jsonl", "--seed", seed, *own, kind.options, *variant.options,
            arm.options,
            reads=(start, data / "manifest.json"), makes=(variant.folder / method,), configs=configs, uses_model=True,
        )  # fmt: skip

    def chunks(self, name: str) -> list[tuple[int, int]]:
        """(first, count) of the validation tasks of each rung, each twice as many as the one before."""
        rungs, count = self.rungs(name), self.config.validation.count
        ends = [max(rung + 1, round(count * (2 ** (rung + 1) - 1) / (2**rungs - 1))) for rung in range(rungs)]
        return [(start, end - start) for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def _validation(self, seed: int, name: str, part: str) -> Iterator[Stage]:
        """The variants of an arm on validation tasks, rung by rung, and the one that is left on the test tasks."""
        here, validation = self.folder(seed, name), self.config.validation
        for rung, (first, count) in enumerate(self.chunks(name)):
            if rung and not read_json(self._halving(seed, name, rung - 1)):
                return
            variants = self.left(seed, name, rung)
            tasks = validation.model_copy(update={"count": count})
            made: list[Path] = []
            for variant in variants:
                stage = self._run(seed, name, variant, f"validate-{rung}", "validation", tasks, part, skip=first)
                made += stage.makes
                yield stage
            yield Stage(
                f"halve-{rung}", 0, here, (), reads=tuple(made), makes=(self._halving(seed, name, rung),), part=part,
            )  # fmt: skip
        if self.is_decided(seed, name):
            yield self._run(seed, name, self.winner(seed, name), "test", "test", self.config.test, part)

    def _run(
        self, seed: int, name: str, variant: Variant, stage: str, use: str, tasks: TaskSet, part: str, *, skip: int = 0
    ) -> Stage:
        arm, out = self.arms[name], variant.folder / stage
        shown = self._records(self.config.record.count)
        shots = ("--examples", shown, "--shots", arm.shots) if arm.shots else ()
        where = part if variant.name == "only" or stage == "test" else f"{part}/{variant.name}"
        return self._stage(
            stage, where, variant.folder, "python -m benchmark run --model", variant.model, "--label", name,
            *self._tasks(use, tasks), *(("--skip", skip) if skip else ()), self.config.tasks, self.config.run, tasks.options,
            arm.run, *shots, "--out", out,
            reads=(variant.model, *((shown,) if shots else ())), makes=(out / name / "trajectories.jsonl",),
            may_make=(out / name / "kpis.json",), uses_model=True,
        )  # fmt: skip

    # ---- what is decided ----

    def decides(self, stage: Stage) -> dict[str, Any]:
        """See `Plan`."""
        return {"arms": list(self.arms)} if stage.name == "table" else {}

    def decide(self, stage: Stage) -> str | None:
        """See `Plan`."""
        if stage.name == "table":
            return self.write_table(self)
        if not stage.name.startswith("halve-"):
            return None
        rung = int(stage.name.removeprefix("halve-"))
        seed, name = int(stage.part.split("/")[0].removeprefix("seed-")), stage.part.split("/")[1]
        decision = self.halve(seed, name, rung)
        scores = decision["scores"].items()
        told = ", ".join(f"{each} {100 * of['success']:.0f} % (score {of['score']:.2f})" for each, of in scores)
        return f"{stage.part}: {told}; left: {', '.join(decision['left'])}"

    def halve(self, seed: int, name: str, rung: int) -> dict[str, Any]:
        """Leave out the worse half of an arm's variants, by success and then by mean score on all validation tasks so far.

        Those whose training was stopped stand last. Of equals, the one that was named first is better.
        """
        variants = self.left(seed, name, rung)
        scores = {}
        for variant in variants:
            records = list(self.validated(name, variant, rung))
            success = kpis(records)["success_rate"].value or 0.0
            score = sum(score_of_record(record) for record in records) / max(1, len(records))
            stopped = bool(read_json(variant.model / "run.json").get("stopped_at_chosen_drop"))
            scores[variant.name] = {"success": success, "score": score, "tasks": len(records), "stopped": stopped}
        order = sorted(
            scores, key=lambda each: (scores[each]["stopped"], -scores[each]["success"], -scores[each]["score"])
        )
        is_last = rung == self.rungs(name) - 1
        decision = {"scores": scores, "left": order[: 1 if is_last else math.ceil(len(order) / 2)]}
        write_json(self._halving(seed, name, rung), decision)
        return decision

    def validated(self, name: str, variant: Variant, rung: int) -> Iterator[Trajectory]:
        """The validation records of a variant up to a rung."""
        for number in range(rung + 1):
            yield from read_trajectories(variant.folder / f"validate-{number}" / name / "trajectories.jsonl")


def score_of_record(record: Trajectory) -> float:
    """The share of its task's goals that hold."""
    score = (record.metadata.model_extra or {}).get("score")
    return float(score) if isinstance(score, int | float) else 0.0
