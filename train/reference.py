"""Log-probs of the frozen reference model, kept on disk so that each row is computed once.

A preference loss compares the policy with a reference that never changes. Its two numbers a row depend on the row's tokens
and on the reference's weights alone, not on beta, the loss type, the row's place or the other rows. So they are stored by
those two: a folder for each reference (`reference_key`), in it an entry for each row (`row_key`). A run with another beta,
another mixture or some new rows computes the new rows only.

On disk, a folder holds parts. An entry is 52 bytes: the row's key, both log-probs as float64 (which holds a float32 bit for
bit), and a CRC-32. Every process that computes makes a part of its own and only ever appends to that one, so that none
waits for another, no lock is needed, and a file that another process broke off does no harm: an entry that is cut short or
damaged does not count, and its row is computed again. What is assumed of the file system is only that a file can be created
exclusively and appended to, which also holds for NFS and Lustre; there, what another machine has just written may stay
invisible for some seconds, and is then computed twice.

The folder is `TOOLTUNE_CACHE`, or `tooltune` in `XDG_CACHE_HOME` or `~/.cache`. It may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import struct
import zlib
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from core.screen import with_progress
from data.models import source_sha256

if TYPE_CHECKING:
    from train.model import LoadedModel
    from train.tree import Rendered

LogProbs = tuple[float, float]
"""Summed log-probs in nats of a row's first and second side: chosen and rejected of a pair; 0 where it has no second one."""

_BODY = struct.Struct("<32sdd")
_CRC = struct.Struct("<I")
ENTRY_BYTES = _BODY.size + _CRC.size
FORMAT = 1  # part of every reference key: another layout of entries is another folder


def cache_folder() -> Path:
    """Where reference log-probs are kept on this machine."""
    if folder := os.environ.get("TOOLTUNE_CACHE"):
        return Path(folder).expanduser() / "reference"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tooltune" / "reference"


def row_key(row: Rendered) -> str:
    """sha256 over what the model is shown and what is scored of it: the ids and loss weights of every sequence of each side.

    Neither the row's id nor its place counts, nor the trajectory it comes from.
    """
    digest = hashlib.sha256()
    for side in row.sides:
        digest.update(f"side of {len(side)}:".encode())
        for ids, weights in side:
            digest.update(f"{len(ids)} tokens:".encode())
            digest.update(array("q", ids).tobytes())
            digest.update(array("d", weights).tobytes())
    return digest.hexdigest()


def reference_key(loaded: LoadedModel, *, autocast: str | None = None) -> str:
    """sha256 over what decides the reference's numbers: weights and configs of base and adapter, and their precision.

    The chat template is not in it: it acts through the tokens alone, and those are in each row's key. `autocast` is the
    dtype that the forward pass computes in ("bfloat16", "float16") where that is not the dtype of the weights.
    """
    model: Any = loaded.model.get_base_model() if hasattr(loaded.model, "get_base_model") else loaded.model
    quantization: Any = getattr(model.config, "quantization_config", None)
    described = {
        "format": FORMAT,
        "base": source_sha256(loaded.base, revision=getattr(model.config, "_commit_hash", None)),
        "adapter": None if loaded.adapter is None else source_sha256(loaded.adapter),
        "dtype": str(model.dtype),
        "autocast": autocast,
        "quantization": quantization.to_dict() if hasattr(quantization, "to_dict") else quantization,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()


class ReferenceCache:
    """The entries of one reference model, in memory and on disk."""

    def __init__(self, folder: str | Path, *, model_key: str) -> None:
        """`folder` is that of all references (`cache_folder()`); what `model_key` names lies in a folder of its own."""
        self.folder = Path(folder) / model_key
        self.folder.mkdir(parents=True, exist_ok=True)
        self._known: dict[bytes, LogProbs] = {}
        self._read_bytes: dict[Path, int] = {}
        self._part: BinaryIO | None = None

    def get(self, keys: Iterable[str]) -> dict[str, LogProbs]:
        """The entries of those `keys` that are known, also of what other processes have written until now."""
        self._read_new_entries()
        digests = ((key, bytes.fromhex(key)) for key in keys)
        return {key: self._known[digest] for key, digest in digests if digest in self._known}

    def put(self, entries: Mapping[str, LogProbs]) -> None:
        """Append entries and wait until they are on disk. What is no finite number is not stored."""
        body = bytearray()
        for key, (chosen, rejected) in entries.items():
            if math.isfinite(chosen) and math.isfinite(rejected):
                entry = _BODY.pack(bytes.fromhex(key), chosen, rejected)
                body += entry + _CRC.pack(zlib.crc32(entry))
                self._known[bytes.fromhex(key)] = (chosen, rejected)
        if not body:
            return
        if self._part is None:
            self._part = open(self.folder / f"{secrets.token_hex(8)}.part", "xb", buffering=0)  # noqa: SIM115 - stays open
        view = memoryview(body)
        while view:
            view = view[self._part.write(view) :]
        os.fsync(self._part.fileno())

    def __len__(self) -> int:
        self._read_new_entries()
        return len(self._known)

    def _read_new_entries(self) -> None:
        for path in sorted(self.folder.glob("*.part")):
            start = self._read_bytes.get(path, 0)
            with open(path, "rb") as file:
                file.seek(start)
                new = file.read()
            whole = len(new) - len(new) % ENTRY_BYTES  # an entry may be half written at this moment, or for ever
            self._read_bytes[path] = start + whole
            for at in range(0, whole, ENTRY_BYTES):
                entry = new[at : at + _BODY.size]
                if _CRC.unpack_from(new, at + _BODY.size)[0] == zlib.crc32(entry):
                    digest, chosen, rejected = _BODY.unpack(entry)
                    self._known.setdefault(digest, (chosen, rejected))


def fill(
    cache: ReferenceCache,
    rows: Sequence[Rendered],
    compute: Callable[[list[Rendered]], Iterable[LogProbs]],
    *,
    batch_size: int = 8,
    progress: str = "reference log-probs",
) -> tuple[list[float], list[float]]:
    """(chosen, rejected) log-probs of all pairs, in their order; only what `cache` does not know is computed.

    `compute` gets up to `batch_size` pairs, longest first and those of one trajectory next to each other, so that they can
    share its tokens; it gives one pair of floats for each. What it gives is stored batch by batch: a run that is killed goes
    on from there. Pairs of equal content are computed once.

    Several processes: give each its own share of the rows, wait for all, then let each call this with all rows; it finds
    what the others stored. Where `compute` is collective (FSDP), every process needs the same batches instead: give all
    processes the same rows, and wait for all before the call, so that all start from the same files.

    Raises:
        ValueError: if `compute` gives another number of results than it got pairs.
    """
    keys = [row_key(row) for row in rows]
    found = cache.get(keys)
    missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in found}
    longest: dict[str, int] = {}  # of each trajectory
    for row in missing.values():
        longest[row.group] = max(longest.get(row.group, 0), _tokens(row))
    order = sorted(missing, key=lambda key: (-longest[missing[key].group], missing[key].group, -_tokens(missing[key])))
    batches = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
    for batch in with_progress(batches, progress, total=len(batches)):
        results = [(float(chosen), float(rejected)) for chosen, rejected in compute([missing[key] for key in batch])]
        new = dict(zip(batch, results, strict=True))
        cache.put(new)
        found |= new
    return [found[key][0] for key in keys], [found[key][1] for key in keys]


def _tokens(row: Rendered) -> int:
    return sum(len(ids) for side in row.sides for ids, _ in side)
