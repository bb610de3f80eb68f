"""Rounds of recording, training, benchmarking and learning from failures, each step a plain command.

    tasks                      the test tasks, which training data is searched for
    round R: record            the expert solves training tasks
             sft-data, sft     the model imitates it; the first round starts from the base, later ones from the best so far
             practice          the model tries other training tasks; an expert says what it should have done
             pairs             its failures become preference pairs
             dpo-data, dpo     the model learns from them; or by orpo or kto, as the config says
             validate          all models of the round on a third set of training tasks
             choose            the best goes on; or the loop stops here (a single round may leave out these two)
             test              on test tasks, which decide nothing
    leaderboard                one page of all rounds

Each round has new tasks of every kind but the same validation and test tasks, and a folder of its own. docs/loop.md says
why it is built like this.

benchmark/loop/run.py runs it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Protocol

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from benchmark.kpis import compare_success, kpis
from benchmark.runs.shown import kpi_to_text
from benchmark.worlds.own.folder import read_folder
from core.errors import UserError
from core.files import read_json, write_json
from data.records import read_trajectories
from data.wire import Kpi

ROOT = Path(__file__).resolve().parents[2]
NO_PAIRS = "the model's failures gave no new pair"
PREFERRING = ("dpo", "orpo", "kto")
"""Trainings that learn from pairs; KTO from their sides as good and bad chats. A loop has one, and its stages have its name."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


def check_words(text: str) -> str:
    try:
        shlex.split(text)
    except ValueError as error:
        raise ValueError(f"not a command line: {error}") from None
    return text


class TaskSet(Strict):
    """Which tasks, and further options of the command that takes them."""

    count: int = Field(ge=1, strict=True)
    seed: int = Field(ge=0, strict=True)
    options: str = ""

    _options_are_words = field_validator("options")(check_words)


class Stagewise(Strict):
    """One kind of training."""

    config: str
    """YAML file of the training of this name in train/; model, data and output folder are given by the loop."""
    options: str = ""
    validation_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the groups of its data that are kept apart to measure the loss on."""

    _options_are_words = field_validator("options")(check_words)


class LoopConfig(Strict):
    """The YAML of `python -m benchmark loop`."""

    out: str
    """Folder of everything that the loop makes."""
    model: str
    """The base: a folder or a hub id."""
    rounds: int = Field(ge=1, strict=True)
    """At most so many."""
    patience: int = Field(default=1, ge=1, strict=True)
    """The loop stops after so many rounds in a row without a significant gain on the validation tasks."""
    launch: str = "python"
    """How training is started: python, or accelerate launch --config_file FILE."""
    serve: str = ""
    """A server that answers for the models, such as vllm serve {base} --enable-lora --port {port}; without it transformers."""
    tasks: str = ""
    """Options of all tasks, such as --worlds files,api --short."""
    run: str = ""
    """Options of all runs of a model, such as --max-steps 8."""
    record: TaskSet
    """Training tasks that the expert solves. Here and for practice, round R adds R - 1 to the seed."""
    practice: TaskSet
    """Training tasks whose failures become pairs."""
    validation: TaskSet | None = None
    """Training tasks that decide which model goes on, and whether another round is worth it; a single round needs none."""
    test: TaskSet
    sft: Stagewise
    dpo: Annotated[Stagewise | None, Field(exclude_if=lambda kind: kind is None)] = None
    """What learns from the pairs: exactly one of dpo, orpo and kto."""
    orpo: Annotated[Stagewise | None, Field(exclude_if=lambda kind: kind is None)] = None
    kto: Annotated[Stagewise | None, Field(exclude_if=lambda kind: kind is None)] = None
    pairs: str = ""
    """Options of `python -m data pairs`, such as --first 2 or --level trajectory."""

    _are_words = field_validator("launch", "serve", "tasks", "run", "pairs")(check_words)

    @field_validator("serve")
    @classmethod
    def _names_its_port(cls, serve: str) -> str:
        if serve and "{port}" not in serve:
            raise ValueError("expected {port} in it, as in: vllm serve {base} --enable-lora --port {port}")
        return serve

    @property
    def preferring(self) -> tuple[str, Stagewise]:
        """The training that learns from the pairs, by its name."""
        return next((name, kind) for name in PREFERRING if (kind := getattr(self, name)) is not None)

    @property
    def run_options(self) -> tuple[str, ...]:
        """Of all runs of a model, the server's command being one word."""
        return (self.run, *(("--serve", shlex.quote(self.serve)) if self.serve else ()))

    @model_validator(mode="after")
    def _one_learns_from_pairs(self) -> LoopConfig:
        named = [name for name in PREFERRING if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError(f"expected exactly one of {', '.join(PREFERRING)}, got {' and '.join(named) or 'none'}")
        return self

    @model_validator(mode="after")
    def _tasks_differ(self) -> LoopConfig:
        seeds = {
            "record.seed": range(self.record.seed, self.record.seed + self.rounds),
            "practice.seed": range(self.practice.seed, self.practice.seed + self.rounds),
        }
        if self.validation is not None:
            seeds["validation.seed"] = range(self.validation.seed, self.validation.seed + 1)
        elif self.rounds > 1:
            raise ValueError(
                f"validation is missing; with {self.rounds} rounds it decides which model goes on. Only rounds: 1 does without"
            )
        for (one, seeds_of_one), (other, seeds_of_other) in combinations(seeds.items(), 2):
            if set(seeds_of_one) & set(seeds_of_other):
                raise ValueError(
                    f"{one} and {other} give the same tasks within {self.rounds} rounds, because round R adds R - 1; "
                    "take seeds that are further apart"
                )
        return self


@dataclass(frozen=True)
class Stage:
    """One command of the loop."""

    name: str
    round: int
    """From 1; 0 for what belongs to all rounds, and in sweeps."""
    folder: Path
    """Where its marker and its log go."""
    command: tuple[str, ...]
    """As one would type it."""
    reads: tuple[Path, ...] = ()
    makes: tuple[Path, ...] = ()
    """What must be there when it has ended well."""
    may_make: tuple[Path, ...] = ()
    """What depends on the data: a set's held-out rows, pairs if there are any."""
    after: tuple[str, ...] = ()
    """Ids of the stages that must have finished."""
    configs: tuple[Path, ...] = ()
    """YAML files that hold options of it, or of how it is started."""
    writes: dict[Path, str] = field(default_factory=dict)
    """Files that are written before it starts."""
    uses_model: bool = False
    """Whether it computes with a model, and so wants a GPU."""
    part: str = ""
    """In a sweep, whose stage it is: a seed, an arm, a variant."""

    @property
    def id(self) -> str:
        """Its name among all stages."""
        if self.part:
            return f"{self.part}/{self.name}"
        return f"round-{self.round}/{self.name}" if self.round else self.name

    @property
    def trains(self) -> bool:
        """Whether it is a training."""
        return self.name in ("sft", *PREFERRING)

    @property
    def code(self) -> tuple[str, ...]:
        """The code that decides what it makes, as patterns."""
        folders = ["core", "data"]
        if self.trains:
            folders.append("train")
        elif self.name != "pairs" and not self.name.endswith("-data"):
            folders.append("benchmark")
        return tuple(f"{folder}/**/*" for folder in folders)

    @property
    def log(self) -> Path:
        """Where what it prints goes."""
        return self.folder / "logs" / f"{self.name}.log"

    @property
    def marker(self) -> Path:
        """What core/stages.py needs to tell whether it is done."""
        return self.folder / ".stages" / f"{self.name}.json"


class Plan(Protocol):
    """What is run stage by stage: a loop, or a sweep."""

    out: Path

    def stages(self) -> list[Stage]:
        """All stages in order, as far as can be said now."""
        ...

    def decides(self, stage: Stage) -> dict[str, Any]:
        """What decides the outcome of a stage that is no command, by name; empty for the others."""
        ...

    def decide(self, stage: Stage) -> str | None:
        """Carry out a stage that is no command, and tell what was decided; None for the others."""
        ...


class Loop:
    """A config with the folder it fills."""

    def __init__(self, config: LoopConfig, path: Path) -> None:
        self.config, self.path, self.out = config, path, Path(config.out)

    def folder(self, number: int) -> Path:
        """Everything of one round."""
        return self.out / f"round-{number}"

    def has_pairs(self, number: int) -> bool:
        """Whether the round's failures gave pairs, as far as is known yet."""
        return read_json(self.folder(number) / "pairs.counts.json").get("kept") != 0

    def decision(self, number: int) -> dict[str, Any]:
        """What `choose` decided after a round; empty before that."""
        return read_json(self.folder(number) / "round.json")

    def stopped_after(self) -> int | None:
        """The round after which the loop stopped."""
        rounds = range(1, self.config.rounds + 1)
        return next((number for number in rounds if self.decision(number).get("stop")), None)

    def stages(self) -> list[Stage]:
        """All stages in order, as far as can be said now: a round without pairs has no DPO, a stopped loop no more rounds."""
        last = self.stopped_after() or self.config.rounds
        stages = [self._tasks()]
        for number in range(1, last + 1):
            stages += self._round(number)
        return [*stages, self._leaderboard(last)]

    def tasks_of(self, use: str, tasks: TaskSet, number: int = 1) -> tuple[object, ...]:
        """The options that say which tasks.

        Of our worlds another seed gives others; a folder has only so many, so rounds cut its parts.
        """
        split = use if use == "test" else "train"
        if not self.has_folders:
            return ("--split", split, "--count", tasks.count, "--seed", tasks.seed + number - 1)
        skip = ("--skip", (number - 1) * tasks.count) if number > 1 else ()
        named = split if use in ("test", "record") else use
        return ("--split", named, "--count", tasks.count, "--seed", tasks.seed, *skip)

    @property
    def has_folders(self) -> bool:
        """Whether tasks come from a folder of own tools."""
        return bool(self._folders())

    def _folders(self) -> list[str]:
        words = shlex.split(self.config.tasks.replace("--worlds=", "--worlds "))
        named = [words[place + 1] for place, word in enumerate(words[:-1]) if word == "--worlds"]
        return [word.strip() for worlds in named for word in worlds.split(",") if "/" in word]

    def require_enough_tasks(self) -> None:
        """Whether folders have as many tasks as all rounds need. Starts nothing.

        Raises:
            UserError: a part has fewer, and how many there are.
        """
        folders = self._folders()
        worlds = 1 if len(folders) < 2 else len(folders)
        uses = [
            ("record", self.config.record, self.config.rounds),
            ("practice", self.config.practice, self.config.rounds),
        ]
        if self.config.validation is not None:
            uses.append(("validation", self.config.validation, 1))
        options = shlex.split(self.config.tasks)
        asking, injections = "--asking" in options, "--injections" in options
        for name in folders:
            rows = [
                row
                for row in read_folder(Path(name)).rows
                if (row.user is not None) is asking and (row.solution or not injections)
            ]
            for use, tasks, rounds in uses:
                there = sum(row.split == "train" and row.part == use for row in rows)
                wanted = -(-tasks.count * rounds // worlds)
                if wanted > there:
                    raise UserError(
                        f"{self.path}: {use}.count: {tasks.count} in {rounds} rounds, but {name} has {there} training tasks "
                        f"for this ({use}); ask for at most {there * worlds // rounds}, or add tasks"
                    )

    def _tasks(self) -> Stage:
        config, out = self.config, self.out / "test-tasks.jsonl"
        command = command_words(
            "python -m benchmark tasks", *self.tasks_of("test", config.test), config.tasks, "--out", out
        )
        return Stage("tasks", 0, self.out, command, makes=(out,))

    def _round(self, number: int) -> list[Stage]:
        config, here = self.config, self.folder(number)
        start = Path(config.model) if number == 1 else self.folder(number - 1) / "best"
        begin = (f"round-{number - 1}/choose",) if number > 1 else ()
        preferring, kind = config.preferring
        sft, preferred = here / "sft", here / preferring
        pairs = self.has_pairs(number)

        records = here / "records.jsonl"
        stages = [
            Stage(
                "record", number, here,
                command_words(
                    "python -m benchmark record", *self.tasks_of("record", config.record, number), config.tasks,
                    "--partials 0 --failures 0 --freeze-clock", config.record.options, "--out", records,
                ),
                makes=(records,), after=begin,
            ),
            self._data(number, "sft-data", "trajectory", records, config.sft, after="record"),
            self._training(number, "sft", config.sft, start, after=begin),
        ]  # fmt: skip

        practice = here / "practice"
        tried = [practice / "sft" / "trajectories.jsonl"]
        expert = ""
        # Pairs of whole records need successes of the same tasks to compare with.
        if "trajectory" in config.pairs.replace("=", " ").split():
            expert = "--policy expert --label expert"
            tried.append(practice / "expert" / "trajectories.jsonl")
        stages += [
            Stage(
                "practice", number, here,
                command_words(
                    "python -m benchmark run --model", sft, "--label sft", expert,
                    *self.tasks_of("practice", config.practice, number), config.tasks, *config.run_options,
                    config.practice.options,
                    "--advise --out", practice,
                ),
                reads=(sft,), makes=tuple(tried), after=(f"round-{number}/sft",), uses_model=True,
            ),
            Stage(
                "pairs", number, here,
                command_words("python -m data pairs", *tried, config.pairs, "--out", here / "pairs.jsonl"),
                reads=tuple(tried), makes=(here / "pairs.counts.json",), may_make=(here / "pairs.jsonl",),
                after=(f"round-{number}/practice",),
            ),
        ]  # fmt: skip
        if pairs:
            stages += [
                self._data(number, f"{preferring}-data", "pairs", here / "pairs.jsonl", kind, after="pairs"),
                self._training(number, preferring, kind, sft, after=(f"round-{number}/sft",)),
            ]
        models = [
            *([("base", Path(config.model))] if number == 1 else []),
            ("sft", sft),
            *([(preferring, preferred)] if pairs else []),
        ]
        trained = f"round-{number}/{preferring if pairs else 'pairs'}"
        if config.validation is not None:
            stages += [
                self._run(number, "validate", "validation", models, "validation", config.validation, trained),
                self._choose(number, [label for label, _ in models]),
            ]
        labelled = [(label if label == "base" else f"{label}-{number}", model) for label, model in models]
        return [*stages, self._run(number, "test", "test", labelled, "test", config.test, trained)]

    def _data(self, number: int, name: str, adapter: str, source: Path, kind: Stagewise, *, after: str) -> Stage:
        here = self.folder(number)
        build = {
            "seed": 7,
            "validation_share": kind.validation_share,
            **({"labelled": True} if name == "kto-data" else {}),
            "sources": [{"adapter": adapter, "path": str(source)}],
        }
        path = here / f"{name}.yaml"
        return Stage(
            name, number, here, command_words("python -m data build --config", path, "--out", here / name),
            reads=(source,), makes=(here / name / "manifest.json",),
            may_make=tuple(here / name / f"{split}.jsonl" for split in ("train", "validation")),
            after=(f"round-{number}/{after}",),
            writes={path: yaml.safe_dump(build, sort_keys=False, allow_unicode=True)},
        )  # fmt: skip

    def _training(self, number: int, name: str, kind: Stagewise, start: Path, *, after: Sequence[str]) -> Stage:
        here, tasks = self.folder(number), self.out / "test-tasks.jsonl"
        script = Path(os.path.relpath(ROOT / "train" / f"{name}.py"))
        manifest = here / f"{name}-data" / "manifest.json"
        command = command_words(
            self.config.launch, script, "--config", Path(kind.config), "--model_name_or_path", start, "--data", manifest.parent,
            "--output_dir", here / name, "--benchmark_tasks", tasks, kind.options,
        )  # fmt: skip
        # The test tasks are not among what it reads: they are looked for in its data, and other ones make no other adapter.
        return Stage(
            name, number, here, command, reads=(start, manifest), makes=(here / name,),
            after=("tasks", f"round-{number}/{name}-data", *after), uses_model=True,
            configs=(Path(kind.config), *(Path(word) for word in shlex.split(self.config.launch) if word.endswith(".yaml"))),
        )  # fmt: skip

    def _run(
        self,
        number: int,
        name: str,
        folder: str,
        models: list[tuple[str, Path]],
        split: str,
        tasks: TaskSet,
        after: str,
    ) -> Stage:
        out = self.folder(number) / folder
        asked = [part for label, model in models for part in ("--model", model, "--label", label)]
        return Stage(
            name, number, self.folder(number),
            command_words(
                "python -m benchmark run", *asked, *self.tasks_of(split, tasks), self.config.tasks,
                *self.config.run_options, tasks.options, "--out", out,
            ),
            reads=tuple(model for _, model in models),
            makes=tuple(out / label / "trajectories.jsonl" for label, _ in models),
            may_make=tuple(out / label / "kpis.json" for label, _ in models),
            after=(after,), uses_model=True,
        )  # fmt: skip

    def _choose(self, number: int, labels: list[str]) -> Stage:
        here = self.folder(number)
        earlier = [self.folder(number - 1) / "round.json"] if number > 1 else []
        command = command_words("python -m benchmark loop --config", self.path, "--stage choose --round", number)
        return Stage(
            "choose", number, here, command, makes=(here / "round.json",), after=(f"round-{number}/validate",),
            reads=(*earlier, *(here / "validation" / label / "trajectories.jsonl" for label in labels)),
        )  # fmt: skip

    def _leaderboard(self, last: int) -> Stage:
        tests = [stage for number in range(1, last + 1) for stage in self._round(number) if stage.name == "test"]
        runs = [made.parent for stage in tests for made in stage.makes]
        page = self.out / "leaderboard"
        return Stage(
            "leaderboard", 0, self.out, command_words("python -m benchmark leaderboard", *runs, "--out", page),
            reads=tuple(made for stage in tests for made in stage.makes), makes=(page / "index.html",),
            after=(*(stage.id for stage in tests), *([f"round-{last}/choose"] if self.config.validation else [])),
        )  # fmt: skip

    def decides(self, stage: Stage) -> dict[str, Any]:
        """See `Plan`."""
        if stage.name != "choose":
            return {}
        return {"rounds": self.config.rounds, "patience": self.config.patience}

    def decide(self, stage: Stage) -> str | None:
        """See `Plan`."""
        return decision_to_text(self.choose(stage.round)) if stage.name == "choose" else None

    def choose(self, number: int) -> dict[str, Any]:
        """Decide by the validation tasks which model goes on and whether the loop does; written to round.json and `best`.

        Of the round's own models the one with more successes is taken, of equals the later one. If it does not fall behind
        the best of the rounds before, it is the best now.
        """
        here, config = self.folder(number), self.config
        before = self.decision(number - 1) if number > 1 else {}
        labels = ["sft", *([config.preferring[0]] if self.has_pairs(number) else [])]
        tried = {label: list(read_trajectories(here / "validation" / label / "trajectories.jsonl")) for label in labels}
        measured = {label: kpis(records)["success_rate"] for label, records in tried.items()}
        taken = max(reversed(labels), key=lambda label: measured[label].value or 0.0)
        best_before = Path(before.get("validated", here / "validation" / "base"))
        gain = compare_success(read_trajectories(best_before / "trajectories.jsonl"), tried[taken])
        without = 0 if gain.significant_gain else before.get("rounds_without_gain", 0) + 1
        if number > 1 and (gain.value or 0.0) < 0:
            best, validated = before["best"], str(best_before)
        else:
            best, validated = str(here / taken), str(here / "validation" / taken)
        if not self.has_pairs(number):
            stop: str | None = NO_PAIRS
        elif without >= config.patience:
            stop = f"no significant gain on the validation tasks in {without} round{'s' * (without > 1)}"
        else:
            stop = "all rounds are done" if number == config.rounds else None
        decision = {
            "round": number,
            "taken": taken,
            "validation": {label: asdict(kpi) for label, kpi in measured.items()},
            "gain": asdict(gain),
            "rounds_without_gain": without,
            "best": best,
            "validated": validated,
            "stop": stop,
        }
        link, target = here / "best", Path(os.path.relpath(Path(best).resolve(), here.resolve()))
        new = here / ".best"
        new.unlink(missing_ok=True)
        new.symlink_to(target)
        os.replace(new, link)
        write_json(here / "round.json", decision)
        return decision


def command_words(*parts: object) -> tuple[str, ...]:
    """Words of a command; texts are split as a shell would, paths and numbers are not."""
    return tuple(
        word for part in parts for word in (shlex.split(part) if isinstance(part, str) else [str(part)]) if word
    )


def decision_to_text(decision: dict[str, Any]) -> str:
    shown = ", ".join(f"{label} {kpi_text('success_rate', kpi)}" for label, kpi in decision["validation"].items())
    stop = f"; the loop stops: {decision['stop']}" if decision["stop"] else ""
    return (
        f"round {decision['round']} on validation tasks: {shown}; {decision['taken']} is taken, "
        f"{_points(decision['gain'])} to the best before; the best now is {decision['best']}{stop}"
    )


def kpi_text(name: str, kpi: dict[str, Any]) -> str:
    return kpi_to_text(name, Kpi(**kpi))


def _points(gain: dict[str, Any]) -> str:
    if gain["value"] is None:
        return "not measured"
    if gain["low"] is None:
        return f"{100 * gain['value']:+.1f} points"
    return f"{100 * gain['value']:+.1f} points ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"
