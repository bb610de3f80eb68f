"""How the tokens of packed trees see each other, and which attention computes it.

A batch holds trees side by side in rows, each tree in preorder: a token comes after its parent, and its whole subtree
follows it without a gap. So two numbers a token say everything: its `depth`, which is its position in every sequence that
runs through it, and the `end` of its subtree. Token q sees token k exactly when k is q itself or one of its ancestors:

    k <= q < end[k]                          and, in a layer with a sliding window,  depth[q] - depth[k] < window

Four ways to compute that, chosen by `choose_backend`:

* `segments`: any device with sdpa. Each stretch between two forks attends to the stretches above it, in one plain call
  each. Nothing is padded and nothing masked is computed, which is what makes trees fast on a CPU.
* `flex`: CUDA. FlexAttention with a block mask of the rule above; where it does not run on a card, `segments` does.
* `dense`: a full (length, length) mask, for models that only have eager attention or are loaded with another one.
* `varlen`: FlashAttention. It takes no mask, so it serves where rows hold only paths, told apart by their positions.

and `causal`, one path a row with padding on the right and no mask at all, which every causal model can do.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import flex_attention_mask, sdpa_mask

from core.errors import UserError

Backend = Literal["segments", "flex", "dense", "varlen", "causal"]
IMPLEMENTATION = "tooltune_segments"
FLEX_IMPLEMENTATION = "tooltune_flex"
FLEX_BLOCK_TOKENS = 128
FLEX_COMPILES = 64
"""So often torch may compile FlexAttention before it gives up: forward alone and with backward, two kinds of layers, short
rows each count. After 8, its default, attention would go on unfused, slowly and with full score matrices."""


@dataclass(frozen=True)
class Stretch:
    """Neighbouring positions of one row without a fork: `length` tokens from depth `depth` on, below the stretches `above`."""

    length: int
    depth: int
    above: tuple[int, ...]


def row_to_stretches(depths: Sequence[int], ends: Sequence[int]) -> list[Stretch]:
    """The stretches of one row in order; `above` are indices into the list, from the root down."""
    starts: list[int] = []
    for at in range(len(depths)):
        only_child = at > 0 and depths[at] == depths[at - 1] + 1 and ends[at] == ends[at - 1]
        if not only_child:
            starts.append(at)
    stretches: list[Stretch] = []
    open_above: list[int] = []  # the stretches on the path to the current one
    for number, start in enumerate(starts):
        stop = starts[number + 1] if number + 1 < len(starts) else len(depths)
        while open_above and ends[starts[open_above[-1]]] <= start:
            open_above.pop()
        stretches.append(Stretch(stop - start, depths[start], tuple(open_above)))
        open_above.append(number)
    return stretches


@dataclass
class Forest:
    """What the attention function of a layer needs to know: the stretches of each row, and the layer's window."""

    rows: list[list[Stretch]]
    window: int | None
    _masks: dict[tuple[int, int], torch.Tensor | None] = field(default_factory=dict)

    def mask(self, queries: int, above: int, device: torch.device) -> torch.Tensor | None:
        """(queries, above + queries) bool: a stretch against all that is above it and itself; None where all causal."""
        if (queries, above) not in self._masks:
            q = torch.arange(above, above + queries, device=device)[:, None]
            k = torch.arange(above + queries, device=device)[None]
            seen = k <= q
            if self.window is not None:
                seen &= q - k < self.window
            plain = above == 0 and (self.window is None or queries <= self.window)
            self._masks[queries, above] = None if plain else seen
        return self._masks[queries, above]


def segments_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over a `Forest`, which rides on the mask as its attribute; any other mask is plain sdpa.

    `query` (rows, heads, length, size), `key` and `value` with fewer heads where they are grouped. Returns (rows, length,
    heads, size), as transformers' attention functions do. A window needs no trimming of keys to be right; keys beyond
    it are masked.
    """
    forest: Forest | None = getattr(attention_mask, "forest", None)
    if forest is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None or kwargs.get("position_bias") is not None:
        raise UserError(
            f"{type(module).__name__}: its attention is more than a softmax over ancestors; use --tree false"
        )
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    rows = []
    for row, stretches in enumerate(forest.rows):
        lengths = [stretch.length for stretch in stretches]
        # split's backward is one concatenation; slicing each stretch by itself would add up full-size gradients.
        queries, keys, values = (tensor[row : row + 1].split(lengths, dim=2) for tensor in (query, key, value))
        outputs = []
        for at, stretch in enumerate(stretches):
            above = sum(lengths[i] for i in stretch.above)
            mask = forest.mask(stretch.length, above, query.device)
            path = [*stretch.above, at]
            outputs.append(
                F.scaled_dot_product_attention(
                    queries[at],
                    torch.cat([keys[i] for i in path], dim=2) if above else keys[at],
                    torch.cat([values[i] for i in path], dim=2) if above else values[at],
                    attn_mask=mask,
                    dropout_p=dropout,
                    scale=scaling,
                    is_causal=mask is None,
                )
            )
        rows.append(torch.cat(outputs, dim=2))
    return torch.cat(rows).transpose(1, 2).contiguous(), None


def flex_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """transformers' FlexAttention, in one type.

    Autocast knows sdpa and not FlexAttention: with weights in fp32, norms and rotations would leave queries and keys in fp32
    beside values in half precision, which it refuses.
    """
    device = query.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else value.dtype
    return flex_attention_forward(module, query.to(dtype), key.to(dtype), value.to(dtype), attention_mask, **kwargs)


AttentionInterface.register(IMPLEMENTATION, segments_attention)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
AttentionInterface.register(FLEX_IMPLEMENTATION, flex_attention)
AttentionMaskInterface.register(FLEX_IMPLEMENTATION, flex_attention_mask)


@functools.cache
def flex_fault(heads: int, key_heads: int, head_size: int, dtype: torch.dtype, device: torch.device) -> str | None:
    """Why FlexAttention does not run here, forward and backward, for heads of this kind; null where it does.

    It is compiled for the card: that takes a C compiler, a Triton that knows the card, and enough shared memory for heads of
    this size in this type. So it is tried, on one short row, which takes seconds.
    """
    query, key, value = (
        torch.randn(1, count, 2 * FLEX_BLOCK_TOKENS, head_size, device=device, dtype=dtype, requires_grad=True)
        for count in (heads, key_heads, key_heads)
    )
    at = torch.arange(2 * FLEX_BLOCK_TOKENS, device=device)[None]
    mask = block_mask(at, torch.full_like(at, at.shape[1]), None)
    try:
        with torch.enable_grad():
            output, _ = flex_attention(torch.nn.Identity(), query, key, value, mask, scaling=head_size**-0.5)
            output.float().sum().backward()
        is_finite = bool(query.grad is not None and query.grad.isfinite().all())  # waits for the device
    except Exception as error:  # whatever a compiler or a driver raises
        return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return None if is_finite else "its gradients are not finite"


def flex_fault_of(model: Any) -> str | None:
    """`flex_fault` for a model's heads, in the type of its weights and on its card."""
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    # A model that is moved to its card later, as by FSDP, is still on the CPU.
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    return flex_fault(heads, getattr(config, "num_key_value_heads", None) or heads, size, model.dtype, device)


def dense_mask(depths: torch.Tensor, ends: torch.Tensor, window: int | None) -> torch.Tensor:
    """(rows, 1, length, length) bool from `depths` and `ends` (rows, length) int64; True where the query sees the key."""
    at = torch.arange(depths.shape[1], device=depths.device)
    seen = (at[None, None, :] <= at[None, :, None]) & (at[None, :, None] < ends[:, None, :])
    if window is not None:
        seen &= depths[:, :, None] - depths[:, None, :] < window
    return seen[:, None]


def block_mask(depths: torch.Tensor, ends: torch.Tensor, window: int | None) -> Any:
    """The same rule as a FlexAttention BlockMask."""
    from torch.nn.attention.flex_attention import create_block_mask  # noqa: PLC0415 - only where it is used

    def sees(row: Any, _head: Any, query: Any, key: Any) -> Any:
        seen = (key <= query) & (query < ends[row, key])
        if window is not None:
            seen = seen & (depths[row, query] - depths[row, key] < window)
        return seen

    rows, length = depths.shape
    return create_block_mask(sees, rows, None, length, length, device=str(depths.device), BLOCK_SIZE=FLEX_BLOCK_TOKENS)


def layer_windows(config: Any) -> dict[str, int | None]:
    """Window in tokens of each kind of attention layer, None for full attention.

    Raises:
        UserError: if a layer is no attention over tokens (state-space and linear layers run along one sequence, and a
            chunked layer cuts it by position), so that trees cannot be computed.
    """
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    if getattr(config, "use_sliding_window", True) is False:
        window = None
    odd = kinds - {"full_attention", "sliding_attention", "attention"}
    if odd or getattr(config, "is_stateful", False):
        raise UserError(
            f"{config.model_type}: layers of the kind {', '.join(sorted(odd)) or 'state-space'} take no mask"
        )
    if kinds:
        return {kind: window if kind == "sliding_attention" else None for kind in kinds}
    return {"full_attention": window}


def choose_backend(model: Any, *, forks: bool, mixture_loss: bool = False) -> Backend:
    """The fastest backend that is right for this model on its device.

    `forks` says whether rows share tokens; `mixture_loss` whether a mixture-of-experts loss is on, which counts padding
    by a plain mask.

    Where torch's deterministic algorithms are on, only torch's own attention is: it knows of that switch, and errs. Kernels of
    FlashAttention add up gradients in any order, and FlexAttention's depend on what was timed to be fast.

    Raises:
        UserError: with `forks`, if the model's attention cannot take a mask; or if its attention is not deterministic and
            shall be. The text says why.
    """
    config = model.config.get_text_config()
    implementation = config._attn_implementation
    deterministic = torch.are_deterministic_algorithms_enabled()
    if deterministic and implementation not in ("sdpa", "eager"):
        raise UserError(
            f"--deterministic true: attn_implementation {implementation} may give other gradients each time, and torch cannot "
            "tell; expected sdpa or eager"
        )
    cuda = next(model.parameters()).device.type == "cuda" or torch.cuda.is_available()
    if "flash" in str(implementation) and not forks:
        return "varlen"
    try:
        if "flash" in str(implementation):
            raise UserError(f"{implementation} takes no mask; load the model with another --attn_implementation")
        if mixture_loss:
            raise UserError(f"{config.model_type}: the experts' balancing loss needs plain rows")
        layer_windows(config)
    except UserError:
        if forks:
            raise
        return "causal"
    dropout = getattr(config, "attention_dropout", 0.0) or 0.0  # which FlexAttention has not
    can_flex = cuda and not deterministic and not dropout and getattr(model, "_supports_flex_attn", False)
    if implementation == "flex_attention" or (implementation == "sdpa" and can_flex and flex_fault_of(model) is None):
        return "flex"
    if implementation == "sdpa" and model._can_set_attn_implementation():
        return "segments"
    return "dense" if forks else "causal"


def prepare_attention(model: Any, backend: Backend) -> None:
    """Switch the model to the attention function that the backend needs."""
    if backend == "flex":
        import torch._dynamo  # noqa: PLC0415 - a second, and only where something is compiled

        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, FLEX_COMPILES)
    wanted = {"segments": IMPLEMENTATION, "flex": FLEX_IMPLEMENTATION}.get(backend)
    if wanted is not None and model.config.get_text_config()._attn_implementation != wanted:
        model.set_attn_implementation(wanted)


def attention_arguments(backend: Backend, config: Any, depths: torch.Tensor, ends: torch.Tensor) -> dict[str, Any]:
    """`attention_mask` and `position_ids` for a backbone that computes rows of trees.

    `depths` and `ends` are (rows, length) int64. Models with two kinds of layers get a mask for each kind.
    """
    if backend == "causal":  # padding stands on the right, where no real token looks
        return {}
    if backend == "varlen":
        return {"position_ids": depths}
    masks: dict[str, Any] = {}
    rows = None
    for kind, window in layer_windows(config).items():
        if backend == "flex":
            masks[kind] = block_mask(depths, ends, window)
        elif backend == "segments":
            if rows is None:
                pairs = zip(depths.tolist(), ends.tolist(), strict=True)
                rows = [row_to_stretches(row_depths, row_ends) for row_depths, row_ends in pairs]
            # transformers hands a 4-D mask through to the attention function untouched.
            masks[kind] = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=depths.device)
            masks[kind].forest = Forest(rows, window)
        else:
            mask = dense_mask(depths, ends, window)
            if config._attn_implementation == "eager":  # eager adds its mask
                mask = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -math.inf)
            masks[kind] = mask
    mask_argument = next(iter(masks.values())) if len(masks) == 1 else masks
    return {"attention_mask": mask_argument, "position_ids": depths}
