"""Layers of encoders and decoders: the Transformer block, rotary positions, sequence dropout."""

from collections.abc import Callable
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqvae.errors import ConfigError, check_size

Cache = tuple[Tensor, Tensor]  # keys and values of earlier steps, (B, heads, S, W / heads) each
MOST_HEADS = 256


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)).

    Args:
        width: W, the size of the vector of each step.
        heads: so many attentions beside each other, of W / heads features each.
        hidden: units of the feed-forward layer, with GELU.
        dropout: share of what either half adds that is dropped.
        locked: drop the same features at every step of a sentence.

    Source: Vaswani et al., Attention Is All You Need, 2017, https://arxiv.org/abs/1706.03762, with the norms before the
    halves as in Xiong et al., On Layer Normalization in the Transformer Architecture, 2020,
    https://arxiv.org/abs/2002.04745.
    """

    def __init__(self, width: int, *, heads: int, hidden: int, dropout: float, locked: bool) -> None:
        super().__init__()
        check_size(width=width, hidden=hidden)
        check_size(MOST_HEADS, heads=heads)
        if width % (2 * heads):
            raise ConfigError(f"width = {width} with heads = {heads}: expected a width that 2 * heads divides")
        self.heads = heads
        self.norm_attention, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)  # a bias of keys would cancel in the softmax
        self.join = nn.Linear(width, width)
        self.forwards = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.dropout = SequenceDropout(dropout, locked=locked)

    def forward(self, x: Tensor, mask: Tensor, past: Cache | None = None) -> tuple[Tensor, Cache]:
        """(B, T, W), what each step may look at, the cache of S steps -> (B, T, W), the cache of S + T.

        `mask` spreads over (B, heads, T, S + T) and is true at some step in each row, since nothing to look at is NaN.
        """
        start = past[0].shape[2] if past else 0
        apart = self.queries_keys_values(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = apart.permute(2, 0, 3, 1, 4)  # (B, heads, T, W / heads) each
        queries, keys = rotated(queries, start), rotated(keys, start)
        if past:
            keys, values = (torch.cat([a.to(b.dtype), b], dim=2) for a, b in zip(past, (keys, values), strict=True))
        seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        x = x + self.dropout(self.join(seen.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.forwards(self.norm_forward(x))), (keys, values)


def rotated(x: Tensor, start: int = 0) -> Tensor:
    """Positions start, start + 1 ...: (..., T, F), its pairs of features turned by position * 10000^(-2i/F), i = 0 ...

    The product of two turned vectors then depends on the difference of their positions alone, and no position is the
    last. Source: Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding, 2021,
    https://arxiv.org/abs/2104.09864, section 3.2.2, whose pairs are neighbours; here each is i and F/2 + i.
    """
    steps, size = x.shape[-2:]
    exact = torch.float64 if x.dtype == torch.float64 else torch.float32
    turns = 10_000.0 ** (-torch.arange(0, size, 2, device=x.device, dtype=exact) / size)
    angles = torch.arange(start, start + steps, device=x.device, dtype=exact)[:, None] * turns  # (T, F / 2)
    cos, sin = angles.cos(), angles.sin()
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


Masks = Callable[[int], Tensor]  # how many rows -> their masks, (rows, ...)


def masks_of_rows(rows: int, masks: Masks) -> Tensor:
    """(rows, ...): draw the masks of as many rows as there are."""
    return masks(rows)


# Where several processes share a batch: draws the masks of the whole batch, and takes those of this process's rows.
DRAW: ContextVar[Callable[[int, Masks], Tensor]] = ContextVar("DRAW", default=masks_of_rows)


class SequenceDropout(nn.Module):
    """Zeroes features of (B, T, F) with probability `rate` while training, and scales up the others.

    Args:
        rate: in [0, 1).
        locked: one mask for all steps of a sentence, rather than a new one at each step.

    Source of the locked mask: Gal & Ghahramani, A Theoretically Grounded Application of Dropout in Recurrent Neural
    Networks, 2016, https://arxiv.org/abs/1512.05287.
    """

    def __init__(self, rate: float, *, locked: bool) -> None:
        super().__init__()
        check_share(dropout=rate)
        self.rate, self.locked = rate, locked

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        if not self.training or self.rate == 0:
            return x
        if not self.locked and DRAW.get() is masks_of_rows:
            return F.dropout(x, self.rate)
        return x * DRAW.get()(len(x), lambda rows: self._masks(x, rows))

    def _masks(self, x: Tensor, rows: int) -> Tensor:
        """(rows, 1 or T, F), 0 or 1 / (1 - rate), for (B, T, F)."""
        if not self.locked:
            return F.dropout(x.new_ones(rows, *x.shape[1:]), self.rate)
        keep = torch.rand(rows, 1, x.shape[2], device=x.device) >= self.rate
        return keep.to(x.dtype).div_(1 - self.rate)


def check_share(**shares: float) -> None:
    """Raise a `ConfigError` for a share that is none, or that leaves nothing.

    >>> check_share(weight_dropout=1.0)
    Traceback (most recent call last):
    ...
    seqvae.errors.ConfigError: weight_dropout = 1.0: expected a share of at least 0 and below 1
    """
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ConfigError(f"{name} = {share}: expected a share of at least 0 and below 1")
