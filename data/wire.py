"""What folders hand to each other: manifest.json of a prepared set, run.json of a training."""

from __future__ import annotations

from pydantic import BaseModel, JsonValue


class File(BaseModel):
    """A file that rows came from."""

    path: str
    sha256: str
    release: dict[str, str] | None = None
    """Name, version and sha256 of the release it is a part of."""


class Source(BaseModel):
    """One source of a prepared set."""

    adapter: str
    files: list[File] = []
    hub: list[dict[str, JsonValue]] = []
    licences: list[str] = []
    kept: int = 0
    """Rows that were taken."""
    kept_by_source: dict[str, int] = {}
    """The same by the source that each row itself names, such as a contributor."""

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


class Split(BaseModel):
    """One file of a prepared set."""

    rows: int
    sha256: str


class TrainingData(BaseModel):
    """A prepared set, as its manifest describes it."""

    kind: str = ""
    sources: list[Source] = []
    splits: dict[str, Split] = {}
    config: dict[str, JsonValue] = {}
