"""The KV cache of a batch while it decodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer in memory that is taken once, for as many tokens as will come.

    transformers' own layer copies all that it holds for each new token, and again when a row ends. The longer the prompts of a
    batch are, the more of its time goes there.

    Args:
        tokens: how many tokens a row will hold in the end.
    """

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self._room: tuple[torch.Tensor, torch.Tensor] | None = None
        """(batch, heads, tokens, size) each; `keys` and `values` are the part of it that is filled."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take in the next tokens, (batch, heads, tokens, size), and return all so far."""
        if self._room is None:
            self.lazy_initialization(key_states, value_states)
            self._room = (self._empty_like(key_states), self._empty_like(value_states))
            held = 0
        else:
            held = self.get_seq_length()
        end = held + key_states.shape[2]
        if end > self.tokens:
            raise ValueError(f"{end} tokens in a cache for {self.tokens}")
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, held:end] = new
        self.keys, self.values = (room[:, :, :end] for room in self._room)
        return self.keys, self.values

    def _empty_like(self, states: torch.Tensor) -> torch.Tensor:
        batch, heads, _, size = states.shape
        return states.new_empty(batch, heads, self.tokens, size)

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in ascending order; each moves up in place, and no other is copied."""
        if self._room is None:
            return
        end = self.get_seq_length()
        for room in self._room:
            for place, row in enumerate(rows):
                if place != row:
                    room[place, :, :end] = room[row, :, :end]
        self._room = (self._room[0][: len(rows)], self._room[1][: len(rows)])
        self.keys, self.values = (room[:, :, :end] for room in self._room)
