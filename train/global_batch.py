"""Units in whole global batches: filled up, in an order of each epoch, and gathered where processes hold unequal numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import Sampler

from data.sets.prepared import rows_to_dataset
from train.tree import Unit, filler_of

UNIT_COLUMNS = [
    "count", "example_weights", "ids", "depths", "ends", "parents", "labels", "scored", "weights", "sides",
]  # fmt: skip


def units_to_dataset(units: Sequence[Unit], batch: int) -> Dataset:
    """Units as a Dataset, with fillers up to a whole number of global batches of `batch` units."""
    return rows_to_dataset([*units, *[filler_of(units[0])] * (-len(units) % batch)])


class EpochSampler(Sampler[int]):
    """A new permutation of the units each epoch, then the fillers.

    Fillers count for nothing; they make every epoch a whole number of global batches. So each unit is seen exactly once an
    epoch, in an order that depends neither on the number of processes nor on how trees are packed.
    """

    def __init__(self, units: int, fillers: int, seed: int) -> None:
        self.units, self.fillers, self.seed, self.epoch = units, fillers, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch, also after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.units + self.fillers

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        yield from torch.randperm(self.units, generator=generator).tolist()
        yield from range(self.units, self.units + self.fillers)


def gather_uneven(
    gather: Callable[[torch.Tensor], torch.Tensor], counts: Callable[[], bool] = lambda: True
) -> Callable[[Any], Any]:
    """A gather for tensors whose first dimension differs between processes, as the number of pairs in a batch does.

    Values of processes in which `counts` is false are left out; where it is false in all of them, nothing is.
    """

    def gather_all(values: Any) -> Any:
        if isinstance(values, tuple | list):
            return type(values)(gather_all(value) for value in values)
        if not isinstance(values, torch.Tensor):
            return gather(values)
        own = values if values.ndim else values[None]
        counted = len(own) if counts() else 0
        sizes = gather(torch.tensor([[len(own), counted]], device=own.device)).tolist()
        if len({size for size, _ in sizes}) == 1 and (all(all(pair) for pair in sizes) or not any(n for _, n in sizes)):
            return gather(own)
        longest = max(size for size, _ in sizes)
        padded = own.new_zeros(longest, *own.shape[1:])
        padded[: len(own)] = own
        parts = gather(padded.contiguous()).split(longest)
        return torch.cat([part[:size] for part, (_, size) in zip(parts, sizes, strict=True)])

    return gather_all
