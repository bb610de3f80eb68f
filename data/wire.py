"""What folders hand to each other: manifest.json of a prepared set, run.json of a training, kpis.json of a benchmark's run.

Written and read by one model each.

Fields stand in the order of the file. Those that older folders lack have a default; what newer ones hold beside them is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_serializer

from core.config import describe_validation_error
from core.errors import UserError
from core.json_lines import json_to_object


class _Wire(BaseModel):
    model_config = ConfigDict(extra="allow")


class File(_Wire):
    """A file that rows came from."""

    path: str
    sha256: str
    release: dict[str, str] | None = None
    """Name, version and sha256 of the release it is a part of."""


class Source(_Wire):
    """One source of a prepared set."""

    adapter: str
    files: list[File] = []
    hub: list[dict[str, JsonValue]] = []
    licences: list[str] = []
    read: int = 0
    kept: int = 0
    """Rows that were taken."""
    kept_by_source: dict[str, int] = {}
    """The same by the source that each row itself names, such as a contributor."""
    dropped: dict[str, int] = {}
    """By reason."""
    not_read: dict[str, int] = {}
    """Keys of rows that no adapter looked at."""
    not_judged: dict[str, int] = {}
    redacted: dict[str, int] = {}
    too_long: Annotated[int, Field(exclude_if=lambda count: not count)] = 0
    """Windows that are longer than asked for, because one of their steps is."""
    stopped_at_max_rows: bool = False

    @property
    def name(self) -> str:
        """What it is called on a page: its files, or its place on the hub."""
        names = [file.path for file in self.files] or [str(hub.get("id")) for hub in self.hub]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return f"{names[0] if names else 'nothing'}{more} ({self.adapter})"

    @property
    def sha256s(self) -> tuple[str, ...]:
        """The contents, whatever they are called."""
        return tuple(sorted(file.sha256 for file in self.files))

    @property
    def contributors(self) -> list[tuple[str, int]]:
        """The sources that rows name, those of most rows first."""
        return sorted(self.kept_by_source.items(), key=lambda item: (-item[1], item[0]))

    @property
    def releases(self) -> list[str]:
        """`name version` of each release that its files are a part of."""
        found = (file.release for file in self.files if file.release)
        return sorted({f"{release.get('name')} {release.get('version')}" for release in found})


class Split(_Wire):
    """One file of a prepared set."""

    rows: int
    copies: int = 0
    """Rows of it that are there again, because of a weight over 1."""
    groups: int = 0
    labels: Annotated[dict[str, int], Field(exclude_if=lambda labels: not labels)] = {}
    """Rows by label, of a set of labelled chats."""
    sha256: str


class PreparedSet(_Wire):
    """manifest.json of a prepared set; run.json holds it as `data`, without the version."""

    kind: str = ""
    schema_version: JsonValue = None
    seed: int = 0
    sources: list[Source] = []
    splits: dict[str, Split] = {}
    config: dict[str, JsonValue] = {}


class StartedFrom(_Wire):
    """The model that a training started from."""

    base: str
    adapter: str | None
    sha256: dict[str, str | None]
    """Of the base, the adapter, the tokenizer and the chat template."""

    @property
    def name(self) -> str:
        """The adapter, where there was one; it has its base in it."""
        return self.adapter or self.base

    @property
    def name_sha256(self) -> str | None:
        """The hash of the same."""
        return self.sha256["adapter" if self.adapter else "base"]


class TrainingRun(_Wire):
    """run.json of a training."""

    method: str
    settings: dict[str, Any] = {}
    """What decides what is learned."""
    started: str | None = None
    finished: str | None
    """Null while it runs, and after it was broken off."""
    resumed_from: str | None = None
    processes: int = 1
    command: list[str] = []
    versions: dict[str, str | None] = {}
    machine: dict[str, Any] = {}
    git: dict[str, Any] = {}
    options: dict[str, Any]
    data: PreparedSet
    model: StartedFrom
    rows: dict[str, Any] = {}
    trees: Any = None
    audit: list[Any] = []
    metrics: dict[str, Any] = {}
    batches_without_targets: Any = None


# ---- kpis.json ----


_KEPT_OF_A_SET: dict[str, Any] = {
    "kind": True,
    "sources": {"__all__": {"adapter", "files", "hub", "licences", "kept", "kept_by_source"}},
    "splits": {"__all__": {"rows", "sha256"}},
    "config": True,
}
"""What kpis.json of a trained model tells of the set that it was trained on."""


class TrainingStage(_Wire):
    """One training: from one model to the next."""

    folder: str
    sha256: str | None = None
    """Of the weights and configs that it left (`data.models.source_sha256`)."""
    method: str = "training"
    started_from: str = ""
    started_sha256: str | None = None
    finished: str | None = None
    data: PreparedSet = PreparedSet()
    options: dict[str, JsonValue] = {}

    @field_serializer("data")
    def _as_kept(self, data: PreparedSet) -> dict[str, Any]:
        return data.model_dump(mode="json", include=_KEPT_OF_A_SET)

    @property
    def rows(self) -> int:
        """Rows that were trained on, copies included."""
        return self.data.splits["train"].rows if "train" in self.data.splits else 0

    @property
    def releases(self) -> list[str]:
        """`name version` of each release that some of its rows are from."""
        return sorted({release for source in self.data.sources for release in source.releases})


@dataclass(frozen=True)
class Kpi:
    """A number with its 95 % interval and the number of cases behind it.

    All three are None where nothing could be measured (`n` is 0). `low` and `high` alone are None for a mean that rests on
    one record, because one record cannot tell how much records differ.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


class NotApplicable(_Wire):
    """Tasks that do not fit into a model's window; they were not tried and are no failures."""

    window: int | None = None
    """In tokens of the model; null where none is known."""
    tries: int = 0
    tasks: list[str] = []
    by_context: dict[int, int] = {}
    """Tries by `context_tokens` of their task."""


class Replies(_Wire):
    """How the model's turns were read (docs/replies.md)."""

    unreadable: int = 0
    unreadable_by_the_servers_fault: int = 0
    in_another_form: dict[str, int] = {}
    """Turns whose calls were read in another form than the template's own, by form."""


class BenchmarkRun(_Wire):
    """kpis.json of a model's run."""

    label: str
    model: str
    model_hash: str | None = None
    weights_sha256: str | None = None
    """Of the model's folder, as stages name it; null for a policy and for a model of the hub."""
    key: str | None = None
    """Hash of what decides a record beside its task."""
    split: str
    count: int
    seed: int
    worlds: str = ""
    short: bool = False
    samples: int = 1
    server: str | None = None
    tokenizer: str | None = None
    options: dict[str, JsonValue] = {}
    kpis: dict[str, Kpi]
    pass_hat_k: dict[int, Kpi] = {}
    by_world: dict[str, dict[str, Kpi]] = {}
    by_tier: dict[str, dict[str, Kpi]] = {}
    by_language: dict[str, dict[str, Kpi]] = {}
    by_fault: dict[str, dict[str, Kpi]] = {}
    success_by_context: dict[str, Kpi] = {}
    not_applicable: NotApplicable = NotApplicable()
    asking: bool = False
    """Whether the tasks have a user who can be asked."""
    injections: bool = False
    """Whether a tool's result holds an instruction in each task."""
    asking_kpis: dict[str, Kpi] = {}
    """Of such tasks; empty for others."""
    replies: Replies | None = None
    """Null for a run that did not count them."""
    tries_by_shots: dict[int, int] | None = None
    """Tries by the number of examples that stood before their task; null where none were asked for."""
    invalid: dict[str, int] = {}
    """Tries of which there is no record because a tool's server spoilt them, by reason."""
    invalid_share: float = 0.0
    identity: dict[str, dict[str, str]] = {}
    """sha256 of world, tools, tasks and checks of each folder of own tools, by its name; with `judged_by` where the state does
    not judge."""
    wall_seconds: float
    command: str | list[str] = ""
    versions: dict[str, str] = {}
    code_sha256: str | None = None
    trained_on: list[TrainingStage] | None = None
    """How the model came to be, the first training first; null for a policy and for a served model."""
    trajectories_sha256: str | None = None

    @property
    def title(self) -> str:
        """The label, what helped the model beside its weights unless the label says it, and who judged if not the state."""
        shots = self.options.get("shots") or 0
        helps = [f"{shots}-shot" if shots else "", "repeat guard" if self.options.get("repeat_guard") else ""]
        if rule := self.options.get("intervene"):
            helps.append(f"expert at {rule}")
        if user := self.options.get("user_model"):
            helps.append(f"users played by {user}")
        judges = {identity["judged_by"] for identity in self.identity.values() if "judged_by" in identity}
        told = [each for each in helps if each and each not in self.label] + [
            f"judged by {each}" for each in sorted(judges)
        ]
        return f"{self.label} ({', '.join(told)})" if told else self.label

    @property
    def stages(self) -> list[TrainingStage]:
        """The same; empty where no training is known."""
        return self.trained_on or []

    def kpi(self, name: str) -> Kpi:
        """A KPI over all records; one without a value where the run has none of this name."""
        return self.kpis.get(name, NOTHING)


NOTHING = Kpi(None, None, None, 0)


def read_benchmark_run(path: Path) -> BenchmarkRun:
    """A kpis.json.

    Raises:
        UserError: if it cannot be read, is no JSON or lacks a field.
    """
    try:
        return BenchmarkRun.model_validate(json_to_object(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise UserError(f"{path}: {describe_validation_error(error, BenchmarkRun)}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
