"""Model and adapter folders: what is in them, and what they were trained from and on.

Training leaves `run.json` in the folder of each model. Following these from a model to what it was trained from gives its
stages. Models are known by the sha256 of their weights, so the way never leads to a folder that was trained again.
"""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path

from pydantic import BaseModel, JsonValue

from data.errors import UserError
from data.records import json_to_object

LONGEST_RUN_BYTES = 2**24


def source_sha256(source: str, *, revision: str | None = None) -> str:
    """sha256 over a model or adapter folder: its safetensors and its configs, because alpha and rope scaling act without
    being weights. A hub id is its name and `revision`, the commit."""
    folder = Path(source)
    digest = hashlib.sha256()
    if not folder.is_dir():
        digest.update(f"{source}@{revision}".encode())
    for file in sorted(
        [*folder.glob("*.safetensors"), *folder.glob("config.json"), *folder.glob("adapter_config.json")]
    ):
        status = file.stat()
        digest.update(f"{file.name}:{_file_sha256(file, status.st_size, status.st_mtime_ns)}:".encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=1024)
def _file_sha256(file: Path, _size: int, _modified_ns: int) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# ---- what a model was trained from ----


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


class Stage(BaseModel):
    """One training: from one model to the next."""

    folder: str
    sha256: str | None = None
    """Of the weights and configs that it left (`data.models.source_sha256`)."""
    method: str = "training"
    started_from: str = ""
    started_sha256: str | None = None
    finished: str | None = None
    data: TrainingData = TrainingData()
    options: dict[str, JsonValue] = {}

    @property
    def rows(self) -> int:
        """Rows that were trained on, copies included."""
        return self.data.splits["train"].rows if "train" in self.data.splits else 0

    @property
    def releases(self) -> list[str]:
        """`name version` of each release that some of its rows are from."""
        return sorted({release for source in self.data.sources for release in source.releases})


def weights_sha256(model: str) -> str | None:
    """The name by which stages know a model folder; None for what is no folder."""
    return source_sha256(model) if Path(model).is_dir() else None


def read_stages(model: str) -> list[Stage]:
    """How a model came to be, the first training first, from the `run.json` in its folder and in those it was trained from.

    The way back ends where a folder has none (a model from elsewhere), or is no longer what training started from.

    Raises:
        UserError: where the way comes back to a folder that it has left.
    """
    stages: list[Stage] = []
    expected = None
    seen: set[Path] = set()
    while (stage := _read_stage(Path(model))) is not None and expected in (None, stage.sha256):
        if (here := Path(model).resolve()) in seen:
            raise UserError(
                f"{model}: by the run.json of {'these folders' if len(seen) > 1 else 'this folder'}, the model was trained "
                "from itself. Remove or mend run.json"
            )
        seen.add(here)
        stages.insert(0, stage)
        model, expected = stage.started_from, stage.started_sha256
    return stages


def _read_stage(folder: Path) -> Stage | None:
    # A checkpoint's options and data stand with its run.
    path = (folder.parent if re.fullmatch(r"checkpoint-\d+", folder.name) else folder) / "run.json"
    try:
        if path.stat().st_size > LONGEST_RUN_BYTES:
            return None
        run = json_to_object(path.read_text(encoding="utf-8"))
        start = "adapter" if run["model"]["adapter"] else "base"
        return Stage(
            folder=str(folder),
            sha256=source_sha256(str(folder)),
            method=run["method"],
            started_from=run["model"][start],
            started_sha256=run["model"]["sha256"][start],
            finished=run["finished"],
            data=TrainingData.model_validate(run["data"]),
            options=run["options"],
        )
    except (OSError, ValueError, KeyError, TypeError):  # no training of ours, which hinders no benchmark
        return None
