"""What a run's folder holds already: records of a stopped run, of a finished one, of shards; and what decides a record."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import ValidationError

from benchmark.agent.episodes import InvalidTry, Try, task_to_metadata
from benchmark.runs.actors import Options, json_sha256
from benchmark.runs.options import Chosen
from benchmark.runs.results import RECORDS, identity_changes, read_run
from core.errors import UserError
from core.files import code_sha256
from core.json_lines import json_line_to_object
from data.records import Trajectory
from data.wire import BenchmarkRun


@dataclass
class Done:
    """What is known of the tries that a run is to carry out."""

    records: dict[str, Trajectory]
    """By id, in any order."""
    beyond: set[str]
    """Ids of the tasks that the model's window cannot hold."""
    window: int | None
    invalid: list[InvalidTry] = field(default_factory=list)
    """Tries that a server spoilt just now; another run tries them again."""

    def left(self, wanted: dict[str, Try]) -> list[Try]:
        """The tries of which nothing is known."""
        known = self.records.keys()
        return [attempt for name, attempt in wanted.items() if name not in known and attempt.task.id not in self.beyond]

    def records_of(self, wanted: dict[str, Try]) -> list[Trajectory]:
        """The records in the order of the tries."""
        return [self.records[name] for name in wanted if name in self.records]


def find_done(folder: Path, key: str, wanted: dict[str, Try]) -> Done:
    """What a folder and its shards hold of a key: from a stopped run, and from a finished one with other tasks."""
    done = Done({}, set(), None)
    for part in (folder, *sorted(folder.glob("shards/*"))):
        files = [part / unfinished(key)]
        if (result := _read_result(part, key)) is not None:
            files.append(part / RECORDS)
            done.beyond |= set(result.not_applicable.tasks)
            done.window = result.not_applicable.window
        done.records |= {record.id: record for file in files for record in records_in(file) if _is_of(record, wanted)}
    return done


def is_finished(folder: Path, key: str, done: Done, wanted: dict[str, Try]) -> bool:
    """Whether a folder holds a run of this key with just what is known of these tries, and numbers that today's code has made
    of it."""
    result = _read_result(folder, key)
    if result is None or result.code_sha256 != code_sha256(ROOT, ALL_CODE):
        return False
    beyond = {attempt.task.id for attempt in wanted.values()} & done.beyond
    if set(result.not_applicable.tasks) != beyond:
        return False
    held = [record.id for record in records_in(folder / RECORDS)]
    return held == [record.id for record in done.records_of(wanted)]


def refuse_other_worlds(folder: Path, chosen: Chosen) -> None:
    """Whether what a folder of results holds was made in the same worlds.

    Raises:
        UserError: a folder of own tools has changed since, and how.
    """
    for file in (folder / RECORDS, *folder.glob(unfinished("*"))):
        record = next(records_in(file), None)
        for kind in chosen.folders:
            if record is None or record.environment.name != kind.name:
                continue
            if changed := identity_changes(record.environment.details.get("identity"), kind.identity):
                raise UserError(
                    f"{file}: made before world {kind.name!r} changed ({changed}); its numbers do not go with new ones. "
                    "Give another --out, or remove the folder"
                )


def unfinished(key: str) -> str:
    """The file in which the records of a run under way are kept."""
    return f"unfinished-{key[:16]}.jsonl"


def unfinished_rollouts(key: str) -> str:
    """The same for tries from states of these."""
    return f"unfinished-rollouts-{key[:16]}.jsonl"


def has_key(folder: Path, key: str) -> bool:
    """Whether a folder holds a finished run of a key."""
    return _read_result(folder, key) is not None


def _read_result(folder: Path, key: str) -> BenchmarkRun | None:
    """What kpis.json says of a finished run of this key, whose records are still those that it counts."""
    try:
        run = read_run(folder)
    except UserError:
        return None
    return run if run.key == key and run.trajectories_sha256 is not None and (folder / RECORDS).is_file() else None


def records_in(file: Path) -> Iterator[Trajectory]:
    """The whole records of a file. A kill may have left a part of a line at its end."""
    if not file.exists():
        return
    with open(file, "rb") as lines:
        for line in lines:
            try:
                yield Trajectory.model_validate(json_line_to_object(line))
            except (ValueError, ValidationError):
                continue


def _is_of(record: Trajectory, wanted: dict[str, Try]) -> bool:
    """Whether a record is of one of the tries: the same task, in all that a world is built from, and the same seed."""
    attempt = wanted.get(record.id)
    if attempt is None:
        return False
    extra, task = record.metadata.model_extra or {}, attempt.task
    same_seed = (extra.get("sampling") or {}).get("seed") == attempt.seed
    made = json.loads(json.dumps(task_to_metadata(task)))
    return same_seed and extra.get("task") == made and record.metadata.instruction == task.instruction


# ---------------------------------------------------------------- what decides a result


ROOT = Path(__file__).resolve().parents[2]
ALL_CODE = ("core/**/*", "data/**/*", "benchmark/**/*")
DECIDING_CODE = (
    *("core/**/*", "benchmark/agent/**/*", "benchmark/worlds/**/*", "data/rendering/**/*"),
    *("data/chats.py", "data/models.py", "data/records.py", "data/trajectories.py", "data/curation/__init__.py"),
    "data/curation/text.py",  # decides which examples are shown
    "data/sets/pair_kinds.py",  # decides when the expert steps in
)
"""What makes prompts, reads replies and runs worlds; a change elsewhere makes no record another one."""


def run_key(identity: str, options: Options, chosen: Chosen) -> str:
    """Hash of what decides a record beside its task: the model, the options, the code and the libraries."""
    parts = [identity, asdict(options), code_sha256(ROOT, DECIDING_CODE), versions()]
    return json_sha256([*parts, chosen.identity] if chosen.folders else parts)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("torch", "transformers", "peft", "tooltune"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
