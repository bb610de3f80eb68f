"""How work is cut into tasks, and who runs them.

The input is cut once into shards of about the same number of bytes. A step never copies rows. Its tasks leave
decisions in the work folder: which rows of a shard it drops, and why. A later step reads the original bytes again and
passes over what was dropped before it. Only the last stage writes rows.

A step is a list of stages, a stage a number of tasks that need nothing of each other. What a task writes depends on
its number alone, never on who runs it or when, so every way to run gives the same bytes: in this process, in N
processes, or by datatrove's executors on one machine or a Slurm cluster. A task that is done leaves a marker, and is
passed over when the work is started again.
"""

from __future__ import annotations

import codecs
import json
import multiprocessing
import os
import shutil
import subprocess
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from core.errors import UserError
from core.files import naming, open_unpacked, partial_path
from core.json_lines import bounded_lines
from core.screen import with_progress
from data.curation.rows import CuratedRow, Kind, known_line_to_row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KINDS: tuple[Kind, ...] = ("chat", "pair", "trajectory")
BLANK, UNREADABLE = -1, -2


@dataclass(frozen=True)
class Shard:
    """The lines of a file that begin in the bytes from `start` up to `end` (of the unpacked text, for a packed file)."""

    path: str
    start: int
    end: int


PACKED = (".gz", ".zst")


def plan_shards(paths: Sequence[Path], shard_bytes: int) -> list[Shard]:
    """Cut files into shards. A packed file is one shard, because nobody can start to read in its middle."""
    shards = []
    for path in paths:
        if path.suffix in PACKED:
            shards.append(Shard(str(path), 0, 2**63 - 1))
        else:
            size = path.stat().st_size
            starts = range(0, size, shard_bytes)
            shards += [Shard(str(path), start, min(start + shard_bytes, size)) for start in starts]
    return shards


def read_lines(shard: Shard) -> Iterator[tuple[int, bytes]]:
    """The lines of a shard as (place, bytes without white space at the end); an empty line is b"".

    Raises:
        UserError: if a packed file cannot be unpacked.
    """
    with open_unpacked(shard.path) as file:
        at = max(shard.start - 1, 0)
        if shard.start:
            # The line that stands across the border belongs to the shard in which it begins.
            file.seek(at)
            while part := file.readline(1 << 20):
                at += len(part)
                if part.endswith(b"\n"):
                    break
        try:
            for place, line in enumerate(bounded_lines(shard.path, file)):
                if at >= shard.end:
                    return
                if at == 0:
                    line = line.removeprefix(codecs.BOM_UTF8)
                at += len(line)
                yield place, line.rstrip()
        except (EOFError, OSError, zlib.error) as error:
            raise UserError(f"{shard.path}: cannot be read: {error}") from None


@dataclass(frozen=True)
class Work:
    """The work folder of one run, and its shards. A row is named by its shard and its place in it."""

    folder: Path
    shards: tuple[Shard, ...]

    @property
    def out(self) -> Path:
        """Where results go: the work folder lies inside, and goes away when all is done."""
        return self.folder.parent

    def path(self, step: str, name: str) -> Path:
        """A file of a step."""
        return self.folder / step / name

    def kinds(self, shard: int) -> NDArray[np.int8]:
        """Of each line of a shard: index into `KINDS`, `BLANK` or `UNREADABLE`."""
        import numpy as np  # noqa: PLC0415 - a command that only prints its help need not load it

        loaded: NDArray[np.int8] = np.load(self.path("read", f"kinds-{shard:05d}.npy"))
        return loaded

    def totals(self) -> dict[str, Any]:
        """What is known once all is read: `read` rows, and `first_line` of each shard in its file, from 1."""
        totals: dict[str, Any] = json.loads(self.path("read", "totals.json").read_text())
        return totals

    def rows(self, shard: int, earlier: Sequence[str]) -> Iterator[tuple[int, CuratedRow]]:
        """The rows of a shard that none of the `earlier` steps dropped, as (place, row)."""
        kinds = self.kinds(shard)
        dropped = self.dropped(shard, earlier)
        for place, line in read_lines(self.shards[shard]):
            if line and place not in dropped:
                yield place, known_line_to_row(line, KINDS[kinds[place]])

    def dropped(self, shard: int, steps: Sequence[str]) -> dict[int, dict[str, Any]]:
        """What the steps dropped of a shard: place -> the decision, with its step, reason and text."""
        decisions = {}
        for step in steps:
            with open(self.path(step, f"drops-{shard:05d}.jsonl"), encoding="utf-8") as file:
                for line in file:
                    decision = json.loads(line)
                    decisions[decision["place"]] = {"step": step, **decision}
        return decisions

    def write_drops(self, step: str, shard: int, drops: Iterable[dict[str, Any]]) -> None:
        """Say what a step drops of a shard: objects with place, reason, text and whatever else explains it."""
        with self.open(step, f"drops-{shard:05d}.jsonl") as file:
            for drop in drops:
                file.write(json.dumps(drop, ensure_ascii=False).encode() + b"\n")

    @contextmanager
    def open(self, step: str, name: str) -> Iterator[IO[bytes]]:
        """A file of a step to write to. A part of one is never left, because no other task looks whether it is whole."""
        path = self.path(step, name)
        partial = partial_path(path)
        with naming(self.out, partial):
            try:
                with open(partial, "xb") as file:
                    yield file
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)

    def save(self, step: str, name: str, array: NDArray[Any]) -> None:
        """Write an array."""
        import numpy as np  # noqa: PLC0415 - as above

        with self.open(step, name) as file:
            # Into a file itself numpy writes around Python, and does not notice that a disk is full.
            np.save(SimpleNamespace(write=file.write), array)

    def save_json(self, step: str, name: str, value: Any) -> None:
        """Write a value as JSON."""
        with self.open(step, name) as file:
            file.write(json.dumps(value, ensure_ascii=False).encode())


@dataclass(frozen=True)
class ShardStage:
    """`tasks` tasks that may run in any order, once all stages before are done. `run` can be pickled."""

    name: str
    tasks: int
    run: Callable[[int], None]


def per_shard(work: Work, step: str, name: str, function: Callable[..., None], *arguments: Any) -> ShardStage:
    """The stage that calls function(work, step, *arguments, shard) for each shard."""
    return ShardStage(f"{step}-{name}", len(work.shards), partial(function, work, step, *arguments))


def at_once(
    work: Work, step: str, name: str, function: Callable[..., None], *arguments: Any, tasks: int = 1
) -> ShardStage:
    """The stage that calls function(work, step, *arguments, task) for a number of tasks that is no number of shards."""
    return ShardStage(f"{step}-{name}", tasks, partial(function, work, step, *arguments))


class Cluster(BaseModel):
    """Who runs the tasks, where it is not `--workers`: an executor of datatrove (extra `cluster`)."""

    model_config = ConfigDict(extra="forbid")

    executor: Literal["local", "slurm"]
    workers: int = Field(default=-1, strict=True)
    """How many tasks at a time; -1 sets no limit."""
    partition: str | None = None
    time: str = "04:00:00"
    cpus_per_task: int = Field(default=1, ge=1, strict=True)
    mem_per_cpu_gb: int = Field(default=4, ge=1, strict=True)
    qos: str | None = None
    env_command: str | None = None
    """Shell line that a job runs first, such as `source /shared/tooltune/.venv/bin/activate`."""
    sbatch_args: dict[str, Any] = Field(default_factory=dict)


def run_task(work: Work, stage: ShardStage, task: int) -> float:
    """Run one task if its marker is not there yet; returns the seconds it took."""
    marker = work.folder / "done" / stage.name / f"{task:05d}"
    if marker.exists():
        return 0.0
    began = time.monotonic()
    stage.run(task)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    return time.monotonic() - began


def run_stages(work: Work, stages: Sequence[ShardStage], *, workers: int = 1) -> dict[str, float]:
    """Run all stages on this machine in `workers` processes; returns wall seconds for each stage."""
    seconds = {}
    # A fresh process for each worker: a fork would copy threads and whatever else the caller holds.
    context = multiprocessing.get_context("forkserver")
    pool = ProcessPoolExecutor(workers, mp_context=context) if workers > 1 else None
    try:
        for stage in stages:
            began = time.monotonic()
            tasks: Iterable[Any] = range(stage.tasks)
            if pool is not None and stage.tasks > 1:
                tasks = as_completed([pool.submit(run_task, work, stage, task) for task in tasks])
                for future in with_progress(tasks, stage.name, total=stage.tasks):
                    future.result()
            else:
                for task in with_progress(tasks, stage.name, total=stage.tasks):
                    run_task(work, stage, task)
            seconds[stage.name] = time.monotonic() - began
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
    return seconds


def _datatrove_step(work: Work, stage: ShardStage, _documents: Any, rank: int, _world_size: int) -> None:
    run_task(work, stage, rank)


def launch_stages(work: Work, stages: Sequence[ShardStage], cluster: Cluster) -> bool:
    """Give all stages to an executor of datatrove, each after the one before.

    Returns:
        Whether all is done: true for `local`; `slurm` only submits the jobs.

    Raises:
        UserError: if datatrove, or `sbatch`, is not there.
    """
    try:
        from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor  # noqa: PLC0415 - an extra
    except ImportError:
        raise UserError("an executor needs datatrove: pip install -c constraints.txt -e '.[cluster]'") from None
    if cluster.executor == "slurm" and shutil.which("sbatch") is None:
        raise UserError("cluster.executor: slurm needs `sbatch`, which is not on this machine")
    if cluster.executor == "slurm" and cluster.partition is None:
        raise UserError("cluster.partition: field is missing; `sinfo` lists the partitions of a Slurm cluster")
    before = None
    for stage in stages:
        logs = str(work.folder / "logs" / stage.name)
        pipeline = [partial(_datatrove_step, work, stage)]
        if cluster.executor == "local":
            limit = (os.cpu_count() or 1) if cluster.workers == -1 else cluster.workers
            LocalPipelineExecutor(pipeline, stage.tasks, min(limit, stage.tasks), logs).run()
            continue
        before = SlurmPipelineExecutor(
            pipeline,
            stage.tasks,
            cluster.time,
            cluster.partition,
            cpus_per_task=cluster.cpus_per_task,
            mem_per_cpu_gb=cluster.mem_per_cpu_gb,
            workers=cluster.workers,
            job_name=f"curate-{stage.name}",
            qos=cluster.qos,
            env_command=cluster.env_command,
            sbatch_args=cluster.sbatch_args,
            depends=before,
            logging_dir=logs,
            slurm_logs_folder=f"{logs}/slurm",
        )
        try:
            before.run()
        except subprocess.CalledProcessError:  # sbatch has said why on standard error
            raise UserError(f"sbatch refused the jobs of stage {stage.name}; its message is above") from None
    return cluster.executor == "local"
