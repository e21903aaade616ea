"""Dropout on sequences."""

from collections.abc import Callable
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqvae.errors import ConfigError

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
