"""Layers of encoders and decoders: blocks of attention and of convolution, rotary positions, sequence dropout."""

from collections.abc import Callable
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqvae.errors import ConfigError, check_size

Cache = tuple[Tensor, Tensor]  # keys and values of earlier steps, (B, heads, S, W / heads) each
MAX_LAYERS, MAX_HEADS = 64, 256


class Block(nn.Module):
    """The pre-norm Transformer block: x + attention(norm(x)), then x + feed-forward(norm(x)).

    Args:
        width: W, the size of the vector of each step.
        heads: attention heads, of W / heads features each.
        hidden: units of the feed-forward block, with GELU.
        dropout: probability of dropping features of either residual branch.
        locked: drop the same features at every step of a sentence.

    Source: Vaswani et al., Attention Is All You Need, 2017, https://arxiv.org/abs/1706.03762, with the norms placed as
    in Xiong et al., On Layer Normalization in the Transformer Architecture, 2020,
    https://arxiv.org/abs/2002.04745.
    """

    def __init__(self, width: int, *, heads: int, hidden: int, dropout: float, locked: bool) -> None:
        super().__init__()
        check_size(width=width, hidden=hidden)
        check_size(MAX_HEADS, heads=heads)
        if width % (2 * heads):
            raise ConfigError(f"width = {width} with heads = {heads}: expected a width that 2 * heads divides")
        self.heads = heads
        self.norm_attention, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)  # a bias of keys would cancel in the softmax
        self.join = nn.Linear(width, width)
        self.forwards = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.dropout = SequenceDropout(dropout, locked=locked)

    def forward(self, x: Tensor, mask: Tensor, past: Cache | None = None) -> tuple[Tensor, Cache]:
        """Map x (B, T, W) and the cache of S earlier steps to (B, T, W) and the cache of S + T steps.

        `mask` broadcasts to (B, heads, T, S + T); it has to be true somewhere in each row, or the output is NaN.
        """
        start = past[0].shape[2] if past else 0
        projected = self.queries_keys_values(self.norm_attention(x)).view(x.shape[0], x.shape[1], 3, self.heads, -1)
        queries, keys, values = projected.permute(2, 0, 3, 1, 4)  # (B, heads, T, W / heads) each
        queries, keys = apply_rotary(queries, start), apply_rotary(keys, start)
        if past:
            keys, values = (torch.cat([a.to(b.dtype), b], dim=2) for a, b in zip(past, (keys, values), strict=True))
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        x = x + self.dropout(self.join(attended.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.forwards(self.norm_forward(x))), (keys, values)


class CausalBlock(nn.Module):
    """A residual block of a causal convolution: x + linear(GELU(convolution(norm(x)))).

    Args:
        width: W, the size of the vector of each step.
        hidden: channels of the convolution.
        kernel: K, steps that the convolution reads.
        dilation: distance between them, so that it reads (K - 1) * dilation steps back.
        dropout: probability of dropping features of the residual branch.
        locked: drop the same features at every step of a sentence.

    Source: van den Oord et al., WaveNet: A Generative Model for Raw Audio, 2016, https://arxiv.org/abs/1609.03499, here
    with a norm in front and GELU in place of gates.
    """

    def __init__(self, width: int, *, hidden: int, kernel: int, dilation: int, dropout: float, locked: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.convolution, self.join = nn.Linear(kernel * width, hidden), nn.Linear(hidden, width)
        self.dropout = SequenceDropout(dropout, locked=locked)
        self.kernel, self.dilation = kernel, dilation
        self.reach = (kernel - 1) * dilation

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map x (B, T, W) and what its convolution read at earlier steps (B, R, W), R its reach, to the same two.

        None stands for zeros, those of steps before the first.
        """
        normed = self.norm(x)
        past = normed.new_zeros(len(x), self.reach, x.shape[2]) if past is None else past.to(normed.dtype)
        steps, seen = x.shape[1], torch.cat([past, normed], dim=1)  # (B, R + T, W)
        taps = [seen[:, tap * self.dilation : tap * self.dilation + steps] for tap in range(self.kernel)]
        branch = self.join(F.gelu(self.convolution(torch.cat(taps, dim=2))))
        return x + self.dropout(branch), seen[:, seen.shape[1] - self.reach :]


def apply_rotary(x: Tensor, start: int = 0) -> Tensor:
    """Rotate pairs of features of (..., T, F) by position * 10000^(-2i/F), i = 0 ..., positions start, start + 1 ...

    The product of two rotated vectors depends on the difference of their positions alone, and positions have no upper
    limit. Source: Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding, 2021,
    https://arxiv.org/abs/2104.09864, section 3.2.2, where pairs are adjacent features; here they are i and F/2 + i.
    """
    steps, size = x.shape[-2], x.shape[-1]
    exact = torch.float64 if x.dtype == torch.float64 else torch.float32
    frequencies = 10_000.0 ** (-torch.arange(0, size, 2, device=x.device, dtype=exact) / size)
    angles = torch.arange(start, start + steps, device=x.device, dtype=exact)[:, None] * frequencies  # (T, F / 2)
    cos, sin = angles.cos(), angles.sin()
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


Masks = Callable[[int], Tensor]  # number of rows -> sampled masks, (rows, ...)


def sample_masks(rows: int, masks: Masks) -> Tensor:
    """Draw the masks of `rows` rows: (rows, ...)."""
    return masks(rows)


# Where several processes share a batch, it draws the masks of the whole batch and returns those of the process's rows.
MASK_SAMPLER: ContextVar[Callable[[int, Masks], Tensor]] = ContextVar("MASK_SAMPLER", default=sample_masks)


class SequenceDropout(nn.Module):
    """Dropout of features of (B, T, F) with probability `rate` while training; the others are scaled up.

    Args:
        rate: in [0, 1).
        locked: use one mask for all steps of a sentence instead of a new one at each step.

    Source of the locked mask: Gal & Ghahramani, A Theoretically Grounded Application of Dropout in Recurrent Neural
    Networks, 2016, https://arxiv.org/abs/1512.05287.
    """

    def __init__(self, rate: float, *, locked: bool) -> None:
        super().__init__()
        check_dropout(dropout=rate)
        self.rate, self.locked = rate, locked

    def forward(self, x: Tensor) -> Tensor:
        """Drop features of x (B, T, F)."""
        if not self.training or self.rate == 0:
            return x
        if not self.locked and MASK_SAMPLER.get() is sample_masks:
            return F.dropout(x, self.rate)
        return x * MASK_SAMPLER.get()(len(x), lambda rows: self._sample_masks(x, rows))

    def _sample_masks(self, x: Tensor, rows: int) -> Tensor:
        """Draw masks (rows, 1 or T, F) of 0 and 1 / (1 - rate) for x (B, T, F)."""
        if not self.locked:
            return F.dropout(x.new_ones(rows, *x.shape[1:]), self.rate)
        keep = torch.rand(rows, 1, x.shape[2], device=x.device) >= self.rate
        return keep.to(x.dtype).div_(1 - self.rate)


def check_dropout(**rates: float) -> None:
    """Raise a `ConfigError` for a dropout rate below 0, or of 1 or more.

    >>> check_dropout(weight_dropout=1.0)
    Traceback (most recent call last):
    ...
    seqvae.errors.ConfigError: weight_dropout = 1.0: expected a probability of at least 0 and below 1
    """
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ConfigError(f"{name} = {rate}: expected a probability of at least 0 and below 1")
