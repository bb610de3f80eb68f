"""A config of steps -> a curated set: what is kept, what was dropped and why, clusters of duplicates, counts.

    from data.curation.pipeline import CurateConfig, curate

    curate(CurateConfig.model_validate({"inputs": ["rows.jsonl"], "out": "runs/curated", "steps": [{"step": "exact"}]}))

In the folder `out`:

* curated.jsonl: the lines that were kept, byte for byte and in the order of the input;
* dropped.jsonl: each other line with its step, its reason and the text that triggered it;
* clusters.jsonl: for each row that was kept in the place of duplicates, those duplicates;
* manifest.json: the config, a hash of each input, counts that add up; written last, so a folder without one is not whole;
* timings.json: seconds and rows per second of each stage;
* report.json, report.md, report.png, topics.png where the step `report` is in the config.

All but timings.json are the same bytes for any number of workers, on one machine or on a cluster.
"""

from __future__ import annotations

import glob
import hashlib
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import IO, Annotated, Any, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, field_validator

from core.errors import UserError, nearest
from core.files import claimed_folder, code_sha256, file_sha256, whole_result, write_whole
from core.json_lines import BadLine, read_jsonl
from core.stages import Marker
from data.curation.contamination import Decontaminate, Reference, decontaminate_stages
from data.curation.diversity import REPORT_PAGES, DiversityReport, Sample, report_stages, sample_stages
from data.curation.duplicates import Exact, Near, exact_stages, near_stages, read_decisions, split_number
from data.curation.filters import PHRASES, Filter, filter_stages
from data.curation.rows import line_to_row
from data.curation.semantic import Semantic, load_encoder, semantic_stages
from data.curation.shards import (
    BLANK,
    KINDS,
    UNREADABLE,
    Cluster,
    ShardStage,
    Work,
    at_once,
    launch_stages,
    per_shard,
    plan_shards,
    read_lines,
    run_stages,
)
from data.records import Outcome, Trajectory

Step = Annotated[
    Filter | Exact | Near | Semantic | Decontaminate | Sample | DiversityReport, Field(discriminator="step")
]
STEPS: dict[str, tuple[type[BaseModel], Callable[..., list[ShardStage]]]] = {
    "filter": (Filter, filter_stages),
    "exact": (Exact, exact_stages),
    "near": (Near, near_stages),
    "semantic": (Semantic, semantic_stages),
    "decontaminate": (Decontaminate, decontaminate_stages),
    "sample": (Sample, sample_stages),
    "report": (DiversityReport, report_stages),
}


class CurateConfig(BaseModel):
    """The YAML of `python -m data curate`."""

    model_config = ConfigDict(extra="forbid")

    inputs: Annotated[list[str], Field(min_length=1)]
    """Files or patterns of chats, pairs and trajectories: JSON Lines, also .gz."""
    out: str | None = None
    """Folder of the results; `--out` goes before it."""
    scores: str | None = None
    """JSON Lines with `id` and `score`: of duplicates the better-scored one is kept. Null takes `metadata.score`."""
    steps: Annotated[list[Step], Field(min_length=1)]
    """What is done, in this order."""
    shard_mb: Annotated[int, Field(ge=1, le=1024, strict=True)] = 8
    """Size of a task's share of the input. No result depends on it."""
    cluster: Cluster | None = None

    @field_validator("steps", mode="before")
    @classmethod
    def _names_are_known(cls, value: Any) -> Any:
        """Tell a misspelt name with its nearest neighbour, which a union of models cannot do."""
        for step in value if isinstance(value, list) else []:
            name = step.get("step") if isinstance(step, dict) else None
            if not isinstance(name, str):
                continue
            if name not in STEPS:
                raise ValueError(f"there is no step {name!r}.{nearest(name, STEPS)} All of them: {', '.join(STEPS)}")
            options = STEPS[name][0].model_fields
            for option in step:
                if option not in options:
                    raise ValueError(f"step {name!r} has no option {option!r}.{nearest(str(option), options)}")
        return value


def curate(
    config: CurateConfig, *, out: str | Path | None = None, workers: int = 1, name: str = "config"
) -> dict[str, Any] | None:
    """Run the steps of a config; a run that was broken off goes on where it stopped, a finished one is not repeated.

    Args:
        out: the folder; null takes the one of the config.
        workers: processes on this machine; no result depends on it. Not used where the config has a `cluster`.
        name: what the config is called in error messages, its path for instance.

    Returns:
        The manifest, or None where the work was only submitted to a cluster.

    Raises:
        UserError: for a wrong name or option, before any row is read; or when no row is left.
    """
    target = out or config.out
    if target is None:
        raise UserError(f"{name}: field 'out' is missing, and no --out was given")
    files = _find_inputs(config, name)
    folder = Path(target).resolve()
    if any(path.resolve().parent == folder for path in files):
        raise UserError(f"{name}: {target} holds an input; give the results a folder of their own")
    _check_steps(config, name)
    inputs = [{"path": str(path), "bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in files]
    plain = config.model_dump(mode="json", exclude={"out", "cluster"})
    side_files = _side_files(config)
    identity = {
        "config": plain,
        "inputs": inputs,
        "side_files": {path: file_sha256(Path(path)) for path in side_files},
        "versions": {package: version(package) for package in ("rensa", "py3langid")},
        "code": code_sha256(ROOT, DECIDING_CODE),
    }
    with claimed_folder(folder):
        marker = Marker(folder / ".stage.json", identity)
        if marker.changes() == []:
            manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            return _not_empty({**manifest, "reused": True}, name)
        shards = tuple(plan_shards([path.resolve() for path in files], config.shard_mb << 20))
        work = Work(folder / ".work", shards)
        if not marker.was_broken_off():
            shutil.rmtree(work.folder, ignore_errors=True)
        marker.begin()
        for step in [*_step_names(config), "read", "write"]:
            (work.folder / step).mkdir(parents=True, exist_ok=True)
        stages = _all_stages(work, config, marker)
        seconds: dict[str, float] = {}
        if config.cluster is None:
            seconds = run_stages(work, stages, workers=workers)
        elif not launch_stages(work, stages, config.cluster):
            return None
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if seconds:
            rates = {
                stage: {"seconds": round(wall, 3), "rows_per_second": round(manifest["read"] / max(wall, 1e-9))}
                for stage, wall in seconds.items()
            }
            write_whole(folder / "timings.json", json.dumps({"workers": workers, "stages": rates}, indent=2) + "\n")
        shutil.rmtree(work.folder)
    return _not_empty(manifest, name)


def _not_empty(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    if manifest["kept"]:
        return manifest
    listed = "".join(
        f"\n  {count} x {step}: {reason}"
        for step, reasons in manifest["dropped"].items()
        for reason, count in reasons.items()
    )
    raise UserError(f"{name}: no row is left of {manifest['read']}, for these reasons:{listed or ' nothing to read'}")


def _find_inputs(config: CurateConfig, name: str) -> list[Path]:
    files: list[Path] = []
    for pattern in config.inputs:
        found = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern, recursive=True))
        if Path(pattern).is_dir():
            raise UserError(f"{name}: inputs: {pattern} is a folder; name its files, for example {pattern}/*.jsonl")
        if not found:
            raise UserError(f"{name}: inputs: there is no file {pattern} (looked in {Path.cwd()})")
        files += [Path(path) for path in found]
    if twice := [path for path, times in Counter(path.resolve() for path in files).items() if times > 1]:
        raise UserError(f"{name}: inputs: {twice[0]} is named twice")
    return files


def _check_steps(config: CurateConfig, name: str) -> None:
    """Say what is wrong with a step's files before any row is read."""
    for index, step in enumerate(config.steps):
        try:
            if isinstance(step, Filter):
                _ = step.searches
            elif isinstance(step, Decontaminate):
                Reference(step)
            elif (
                isinstance(step, Semantic)
                or (isinstance(step, Sample) and "topic" in step.by)
                or (isinstance(step, DiversityReport) and step.topics)
            ):
                load_encoder(step.encoder)
        except UserError as error:
            raise UserError(f"{name}: steps.{index} ({step.step}): {error}") from None
    if config.scores is not None:
        read_scores(config.scores)


def _needs_topics(step: Any) -> TypeGuard[Sample | DiversityReport]:
    return (isinstance(step, Sample) and "topic" in step.by) or (
        isinstance(step, DiversityReport) and step.topics is not None
    )


def _side_files(config: CurateConfig) -> list[str]:
    """The files beside the inputs that decide a result."""
    files = [config.scores] if config.scores else []
    for step in config.steps:
        if isinstance(step, Filter):
            files.append(step.phrases or str(PHRASES))
        elif isinstance(step, Decontaminate):
            files += step.against
    return sorted(set(files))


ROOT = Path(__file__).resolve().parents[2]
DECIDING_CODE = ("core/**/*", "data/curation/**/*", "data/records.py", "data/chats.py", "data/trajectories.py")
"""What decides a result: the steps and their lists, and how a record becomes messages."""


def _step_names(config: CurateConfig) -> list[str]:
    """One name for each step: what it is called, numbered where it stands in the config more than once."""
    kinds = [step.step for step in config.steps]
    return [
        kind if kinds.count(kind) == 1 else f"{kind}-{kinds[: at + 1].count(kind)}" for at, kind in enumerate(kinds)
    ]


def _all_stages(work: Work, config: CurateConfig, marker: Marker) -> list[ShardStage]:
    names = _step_names(config)
    stages = [
        per_shard(work, "read", "lines", _read_shard, config.scores),
        at_once(work, "read", "totals", _count_lines),
    ]
    earlier = ["read"]
    for name, step in zip(names, config.steps, strict=True):
        stages += STEPS[step.step][1](work, name, step, list(earlier))
        if step.step != "report":
            earlier.append(name)
    kinds = {name: step.step for name, step in zip(names, config.steps, strict=True)}
    stages.append(per_shard(work, "write", "rows", _write_shard, list(earlier)))
    stages.append(at_once(work, "write", "files", _collect, kinds, marker))
    return stages


# --- reading -----------------------------------------------------------------------------------------------------


def read_scores(path: str) -> dict[str, float]:
    """Scores of rows by their ids.

    Raises:
        UserError: where a line is not an object with an `id` and a number `score`, naming file:line.
    """
    scores = {}
    for line, value in read_jsonl(path):
        if isinstance(value, BadLine):
            raise UserError(str(value))
        score = value.get("score") if isinstance(value, dict) else None
        if (
            not isinstance(value, dict)
            or "id" not in value
            or isinstance(score, bool)
            or not isinstance(score, int | float)
        ):
            raise UserError(f"{path}:{line}: expected an object with `id` and a number `score`")
        if value["id"] is not None:  # `data score` gives bad lines a score without an id
            scores[str(value["id"])] = float(score)
    return scores


OUTCOME_RANK = {Outcome.SUCCESS: 0, Outcome.PARTIAL: 1, Outcome.FAILURE: 2}
CALL_FAULTS = ("which is no open call", "is unanswered", "occurs twice")


def _read_shard(work: Work, step: str, scores_file: str | None, shard: int) -> None:
    """Tell each line's kind, and drop the lines that are no rows; note scores and ids for later steps."""
    import numpy as np  # noqa: PLC0415 - a command that only prints its help need not load it

    scores = read_scores(scores_file) if scores_file else {}
    kinds: list[int] = []
    priority: list[tuple[float, int]] = []
    ids: list[str] = []
    drops = []
    for place, line in read_lines(work.shards[shard]):
        kind, score, outcome, name = BLANK, None, 3, ""
        if line:
            try:
                row = line_to_row(line)
                kind, name = KINDS.index(row.kind), row.id
                score = scores.get(row.id) if scores_file else row.score
                outcome = OUTCOME_RANK[row.record.outcome] if isinstance(row.record, Trajectory) else 3
            except UserError as error:
                kind = UNREADABLE
                reason = "unbalanced calls" if any(fault in str(error) for fault in CALL_FAULTS) else "unreadable"
                drops.append({"place": place, "reason": reason, "text": str(error)})
        kinds.append(kind)
        priority.append((np.nan if score is None else score, outcome))
        ids.append(name)
    work.save(step, f"kinds-{shard:05d}.npy", np.array(kinds, np.int8))
    work.save(step, f"priority-{shard:05d}.npy", np.array(priority, np.float64).reshape(-1, 2))
    with work.open(step, f"ids-{shard:05d}.jsonl") as file:
        file.writelines(json.dumps(name).encode() + b"\n" for name in ids)
    work.write_drops(step, shard, drops)


def _count_lines(work: Work, step: str, _task: int) -> None:
    first_line: list[int] = []
    read, line, path = 0, 1, ""
    for number, shard in enumerate(work.shards):
        line, path = (line, path) if shard.path == path else (1, shard.path)
        kinds = work.kinds(number)
        first_line.append(line)
        line += len(kinds)
        read += int((kinds != BLANK).sum())
    work.save_json(step, "totals.json", {"read": read, "first_line": first_line})


# --- writing -----------------------------------------------------------------------------------------------------


def _write_shard(work: Work, step: str, steps: Sequence[str], shard: int) -> None:
    """Write a shard's kept lines and its dropped ones with what is known of them; count."""
    dropped = work.dropped(shard, steps)
    first_line = work.totals()["first_line"]

    def where(number: int, place: int) -> dict[str, Any]:
        return {"file": work.shards[number].path, "line": first_line[number] + place}

    counts: Counter[tuple[str, str]] = Counter()
    kept = 0
    with (
        work.open(step, f"kept-{shard:05d}.jsonl") as kept_file,
        work.open(step, f"dropped-{shard:05d}.jsonl") as dropped_file,
    ):
        for place, line in read_lines(work.shards[shard]):
            if line and place not in dropped:
                kept_file.write(line + b"\n")
                kept += 1
            elif line:
                decision = dropped[place]
                counts[decision["step"], decision["reason"]] += 1
                entry = {name: value for name, value in decision.items() if name not in ("place", "kept")}
                if "kept" in decision:
                    instead = where(*decision["kept"])
                    entry |= {"text": f"like {instead['file']}:{instead['line']}", "duplicate_of": instead}
                entry |= where(shard, place)
                # The row stands there as it was read; what is no JSON stands there as text.
                key, text = "row", line.decode("utf-8", "backslashreplace")
                if decision["step"] == "read":
                    key, text = "unread", json.dumps(text, ensure_ascii=False)
                dropped_file.write(f'{json.dumps(entry, ensure_ascii=False)[:-1]}, "{key}": {text}}}\n'.encode())
    found = {"kept": kept, "dropped": [[*names, count] for names, count in sorted(counts.items())]}
    work.save_json(step, f"counts-{shard:05d}.json", found)


def _collect(work: Work, step: str, kinds: dict[str, str], marker: Marker, _task: int) -> None:
    """Join what the shards wrote, count, and put it all in its place; what an earlier run left there goes."""
    shards = range(len(work.shards))
    kept = 0
    dropped: dict[str, Counter[str]] = {name: Counter() for name in ("read", *kinds)}
    for shard in shards:
        counts = json.loads(work.path(step, f"counts-{shard:05d}.json").read_text(encoding="utf-8"))
        kept += counts["kept"]
        for name, reason, count in counts["dropped"]:
            dropped[name][reason] += count
    read = work.totals()["read"]
    if read != kept + sum(counts.total() for counts in dropped.values()):
        raise RuntimeError(f"{read} rows were read, {kept} kept and {dropped} dropped: the counts do not add up")
    with whole_result(work.out / "curated.jsonl") as result:
        hashed = hashlib.sha256()
        for name, out in (("kept", "curated.jsonl"), ("dropped", "dropped.jsonl")):
            file = result.open(work.out / out)
            for shard in shards:
                with open(work.path(step, f"{name}-{shard:05d}.jsonl"), "rb") as part:
                    while block := part.read(1 << 20):
                        file.write(block)
                        if name == "kept":
                            hashed.update(block)
        _write_clusters(
            work,
            [name for name, kind in kinds.items() if kind in ("exact", "near", "semantic")],
            result.open(work.out / "clusters.jsonl"),
        )
        reports = [work.folder / name for name, kind in kinds.items() if kind == "report"]
        for page in REPORT_PAGES:
            result.remove(work.out / page)
            for report in reports:
                if (report / page).exists():
                    result.write(work.out / page, (report / page).read_bytes())
        result.remove(work.out / "timings.json")
        manifest = {
            "read": read,
            "kept": kept,
            "dropped": {name: dict(sorted(counts.items())) for name, counts in dropped.items()},
            "sha256": hashed.hexdigest(),
            "key": hashlib.sha256(json.dumps(marker.made_of, sort_keys=True).encode()).hexdigest(),
            **marker.made_of,
        }
        result.write(work.out / "manifest.json", json.dumps(manifest, ensure_ascii=False, indent=2) + "\n")
    made = [
        work.out / name for name in ("curated.jsonl", "dropped.jsonl", "clusters.jsonl", "manifest.json", *REPORT_PAGES)
    ]
    marker.finish(path for path in made if path.exists())


def _write_clusters(work: Work, steps: Sequence[str], file: IO[bytes]) -> None:
    """For each row that was kept in the place of others: its id and place, and those of the others."""
    decisions = {step: read_decisions(work, step) for step in steps}
    wanted: defaultdict[int, set[int]] = defaultdict(set)
    for decided in decisions.values():
        for field in ("row", "kept"):
            for number in decided[field].tolist():
                shard, place = split_number(number)
                wanted[shard].add(place)
    names: dict[tuple[int, int], dict[str, Any]] = {}
    first_line = work.totals()["first_line"]
    for shard, places in sorted(wanted.items()):
        with open(work.path("read", f"ids-{shard:05d}.jsonl"), encoding="utf-8") as ids:
            for place, line in enumerate(ids):
                if place in places:
                    where = {"file": work.shards[shard].path, "line": first_line[shard] + place}
                    names[shard, place] = {"id": json.loads(line), **where}
    for step, decided in decisions.items():
        ordered = decided[decided["kept"].argsort(kind="stable")].tolist()
        for kept, group in groupby(ordered, key=lambda entry: entry[1]):
            copies = [{**names[split_number(row)], "similarity": round(sim, 4)} for row, _, sim in group]
            entry = {"step": step, "kept": names[split_number(kept)], "size": len(copies) + 1, "dropped": copies}
            file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
