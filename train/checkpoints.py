"""Checkpoints that are whole or not there.

The HF Trainer writes a checkpoint file by file under its final name. Here it writes into `.saving/`; then everything is
flushed to the disk, `manifest.json` with size and sha256 of each file and the run's settings is added, and one rename makes
it `checkpoint-N`. So a folder of that name is whole, whenever the machine stopped, unless something damaged it later; that is
found by its hashes before anything of it is loaded. A checkpoint without a manifest is not ours and is never loaded.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_pt_utils import safe_globals

from core.errors import UserError, disk_fault, first_line
from train.benchmarking import spared_checkpoints
from train.outcome import NoCheckpoint, from_main, say

MANIFEST = "manifest.json"
SAVING = ".saving"
EARLIER = "earlier-checkpoints"
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def step_of(checkpoint: Path) -> int:
    """The step that a folder `checkpoint-N` holds."""
    return int(checkpoint.name.rsplit("-", 1)[-1])


def checkpoints(folder: Path) -> list[Path]:
    """The folders `checkpoint-N` of a run, oldest step first, whole or not."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if re.fullmatch(r"checkpoint-\d+", path.name) and path.is_dir()]
    return sorted(found, key=step_of)


@contextmanager
def publishing(trainer: Any, settings: dict[str, Any]) -> Iterator[None]:
    """What the HF Trainer's `_save_checkpoint` writes inside of this block becomes a whole checkpoint, or nothing.

    All processes go through it together. `settings` is what `differences` compares when the run is resumed.

    Raises:
        UserError: in every process, if the checkpoint could not be written; no part of it is left, older ones are as
            they were.
    """
    folder = Path(trainer.args.output_dir)
    saving, name = folder / SAVING, f"checkpoint-{trainer.state.global_step}"

    def prepare() -> None:
        shutil.rmtree(saving, ignore_errors=True)  # of a run that was killed inside of a save
        check_space(folder, bytes_of_a_checkpoint(trainer))
        (saving / name).mkdir(parents=True)

    from_main(prepare)
    trainer._get_output_dir = lambda trial=None: str(saving)
    problem = None
    try:
        yield
    except Exception as error:  # tokenizers raises nothing more special on a full disk
        if not _is_about_writing(error):
            raise
        problem = first_line(error)
    finally:
        del trainer._get_output_dir

    problems = [found for found in gather_object([problem]) if found]

    def publish() -> str | None:
        try:
            if problems:
                raise OSError(problems[0])
            _name_the_best(trainer, folder, saving / name)
            write_manifest(saving / name, step=trainer.state.global_step, settings=settings)
            if (folder / name).exists():  # damaged: the run would not have come to this step again otherwise
                delete(folder / name)
            (saving / name).rename(folder / name)
            flush(folder)
        except OSError as error:
            needed = _written_bytes(folder, trainer)
            shutil.rmtree(saving, ignore_errors=True)
            older = [path.name for path in checkpoints(folder)]
            raise UserError(
                f"{folder / name}: the checkpoint could not be written: {first_line(error)}. A checkpoint needs "
                f"{needed:,} bytes, {shutil.disk_usage(folder).free:,} bytes are free. "
                + (f"{older[-1]} is as it was; the run goes on from it" if older else "There is no older one")
            ) from None
        shutil.rmtree(saving, ignore_errors=True)
        rotate(folder, trainer.args.save_total_limit, newest=folder / name, best=trainer.state.best_model_checkpoint)
        return trainer.state.best_model_checkpoint

    trainer.state.best_model_checkpoint = from_main(publish)


def _is_about_writing(error: Exception) -> bool:
    text = str(error)
    return (
        (isinstance(error, OSError) and error.errno in (*FULL_DISK, errno.EIO, errno.EROFS, errno.EACCES, errno.ENOENT))
        or isinstance(error, SafetensorError)
        or "unexpected pos" in text
        or disk_fault(error) is not None
    )


def _name_the_best(trainer: Any, folder: Path, saved: Path) -> None:
    """The HF Trainer looks for its best checkpoint beside the one that it writes: write down where it will be."""
    best = trainer.state.best_global_step
    if best is None:
        return
    path = folder / f"checkpoint-{best}"
    trainer.state.best_model_checkpoint = str(path) if path.exists() or path.name == saved.name else None
    trainer.state.save_to_json(str(saved / TRAINER_STATE_NAME))


def write_manifest(checkpoint: Path, *, step: int, settings: dict[str, Any]) -> None:
    """Flush all files of a checkpoint to the disk and write what `problems_of` compares them with."""
    files = {}
    for path in sorted(checkpoint.rglob("*")):
        if path.is_dir():
            continue
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
            files[str(path.relative_to(checkpoint))] = {
                "bytes": path.stat().st_size,
                "sha256": hashlib.file_digest(stream, "sha256").hexdigest(),
            }
    body = {"step": step, "settings": settings, "files": files}
    text = json.dumps({"sha256": _hash(body), **body}, indent=1, ensure_ascii=False)
    with open(checkpoint / MANIFEST, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    for inner in [checkpoint, *(path for path in checkpoint.rglob("*") if path.is_dir())]:
        flush(inner)


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """The manifest of a checkpoint.

    Raises:
        UserError: if there is none, or if it is damaged.
    """
    path = checkpoint / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        body = {name: manifest[name] for name in ("step", "settings", "files")}
        if manifest["sha256"] != _hash(body):
            raise UserError(f"{path}: edited or damaged, it does not match its own hash")
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except (OSError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a manifest: {first_line(error)}") from None
    except ValueError as error:
        raise error if isinstance(error, UserError) else UserError(f"{path}: truncated or no JSON") from None
    return body


def problems_of(checkpoint: Path) -> list[str]:
    """Each file of a checkpoint that is not as it was written: missing, truncated, edited, added or a link."""
    try:
        manifest = read_manifest(checkpoint)
    except UserError as error:
        return [str(error)]
    found = {str(path.relative_to(checkpoint)): path for path in checkpoint.rglob("*") if not path.is_dir()}
    found.pop(MANIFEST)
    files: dict[str, dict[str, Any]] = manifest["files"]
    problems = []
    if checkpoint.name != (written_as := f"checkpoint-{manifest['step']}"):
        problems.append(f"{checkpoint}: was renamed, it was written as {written_as}")
    problems += [f"{found[name]}: a file that was not written with this checkpoint" for name in found.keys() - files]
    for name, entry in files.items():
        path = checkpoint / name
        if name not in found:
            problems.append(f"{path}: missing")
        elif path.is_symlink():
            problems.append(f"{path}: a link")
        elif (size := path.stat().st_size) != entry["bytes"]:
            problems.append(f"{path}: {'truncated' if size < entry['bytes'] else 'edited'}, {size:,} bytes of "
                            f"{entry['bytes']:,}")  # fmt: skip
        else:
            with open(path, "rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != entry["sha256"]:
                    problems.append(f"{path}: edited, its sha256 is not the one it was written with")
                    continue
            if path.parent == checkpoint and path.suffix in (".pt", ".pth") and (asked := _code_in(path)):
                problems.append(
                    f"{path}: a pickle that asks for {asked}, which would be run; no run leaves such a file"
                )
    return sorted(problems)


def _code_in(path: Path) -> str:
    """What a file of torch names that reading it with `weights_only` would not allow; nothing of it is run."""
    with safe_globals():  # what the HF Trainer allows when it reads the random states
        try:
            return ", ".join(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        except Exception as error:  # a pickle made to break its reader is no state of a run
            return f"something that cannot be read ({type(error).__name__})"


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint whose files are all as they were written; each damaged one is named on the way.

    Raises:
        NoCheckpoint: if there are checkpoints and none of them is whole.
    """
    damaged = []
    for checkpoint in reversed(checkpoints(folder)):
        problems = problems_of(checkpoint)
        if not problems:
            return checkpoint
        for problem in problems:
            say(f"not used: {problem}")
        damaged.append(problems[0])
    if damaged:
        raise NoCheckpoint(
            f"{folder}: none of its {len(damaged)} checkpoints is whole ({'; '.join(damaged)}). "
            "--resume never starts over and keeps them aside"
        )
    return None


def rotate(folder: Path, limit: int | None, *, newest: Path, best: str | None) -> None:
    """Delete all but `limit` checkpoints: those without a manifest first, then the oldest.

    Never `newest`, `best`, or what a benchmark needs or calls the best (train/benchmarking.py).
    """
    if not limit or limit < 0:
        return
    kept = {newest.name, *([Path(best).name] if best else []), *spared_checkpoints(folder)}
    there = checkpoints(folder)
    others = [path for path in there if path.name not in kept]
    others.sort(key=lambda path: ((path / MANIFEST).exists(), step_of(path)))
    for path in others[: max(len(there) - limit, 0)]:
        delete(path)


def delete(checkpoint: Path) -> None:
    """Remove a checkpoint, its manifest first: half deleted, it does not count."""
    (checkpoint / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def set_aside(folder: Path, *, after_step: int) -> None:
    """Move checkpoints of later steps out of the way of a run that starts again before them, into earlier-checkpoints/."""
    later = [path for path in checkpoints(folder) if step_of(path) > after_step]
    if not later:
        return
    aside = folder / EARLIER
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for path in later:
        path.rename(aside / path.name)
    say(f"{folder}: {', '.join(path.name for path in later)} moved to {aside}")


def check_space(folder: Path, needed: int) -> None:
    """Look for room before anything is written.

    Raises:
        UserError: if fewer than `needed` bytes are free.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: a checkpoint needs {needed:,} bytes, {free:,} bytes are free. Make room, or take another "
            "--output_dir; an unfinished run goes on from its newest whole checkpoint"
        )


def bytes_of_a_checkpoint(trainer: Any) -> int:
    """What the run's newest checkpoint takes; before there is one, an estimate: weights, two moments of AdamW, tokenizer."""
    for checkpoint in reversed(checkpoints(Path(trainer.args.output_dir))):
        try:
            return sum(entry["bytes"] for entry in read_manifest(checkpoint)["files"].values())
        except UserError:
            continue
    trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    tokenizer = trainer.processing_class.backend_tokenizer.to_str()
    return sum(parameter.numel() * parameter.element_size() * 3 for parameter in trained) + len(tokenizer.encode())


def _written_bytes(folder: Path, trainer: Any) -> int:
    """The larger of the estimate and of what lies in the unfinished folder."""
    written = sum(path.stat().st_size for path in (folder / SAVING).rglob("*") if path.is_file())
    return max(written, bytes_of_a_checkpoint(trainer))


# What may change without changing what is learned, and what is compared by content (`data`, `model`) or as a whole
# (`units a step`): not compared one by one.
NOT_COMPARED = frozenset({
    "output_dir", "logging_dir", "report_to", "run_name", "project", "trackio_space_id", "disable_tqdm", "wandb",
    "resume", "allow_mismatch", "dry_run", "benchmark_tasks", "benchmark_every", "benchmark_args", "audit_allow",
    "logging_steps", "logging_first_step", "logging_strategy", "logging_nan_inf_filter", "save_steps",
    "save_strategy", "save_total_limit", "log_level", "log_level_replica", "log_on_each_node", "local_rank",
    "ddp_timeout", "dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_pin_memory",
    "dataloader_persistent_workers", "push_to_hub", "data", "model_name_or_path", "chat_template_path",
    "per_device_train_batch_size", "gradient_accumulation_steps", "precompute_ref_log_probs",
    "precompute_ref_batch_size",
})  # fmt: skip


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What changed between two runs' settings and decides what is learned: `name: old -> new`, one a line.

    A name that only one of them knows comes from another version and is not compared.
    """
    changed = []
    for part in old.keys() & new.keys():
        pairs = (old[part], new[part])
        if all(isinstance(side, dict) for side in pairs):
            names = old[part].keys() & new[part].keys() - (NOT_COMPARED if part == "options" else set())
            prefix = "" if part == "options" else f"{part} "
            changed += [
                f"{prefix}{name}: {_short(old[part][name])} -> {_short(new[part][name])}"
                for name in names
                if old[part][name] != new[part][name]
            ]
        elif old[part] != new[part]:
            changed.append(f"{part}: {_short(old[part])} -> {_short(new[part])}")
    return sorted(changed)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text[:12] if re.fullmatch(r"[0-9a-f]{64}", text) else text if len(text) <= 120 else f"{text[:120]}..."


def flush(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power failure."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _hash(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
