"""What folders hand to each other: manifest.json of a prepared set, run.json of a training. Written and read by one model each.

Fields stand in the order of the file. Those that older folders lack have a default; what newer ones hold beside them is kept.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue


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
