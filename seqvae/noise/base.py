"""What every noise is, and what it needs to be one."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from seqvae.batch import END, PADDING, START, Batch
from seqvae.errors import ConfigError
from seqvae.schedules import Constant, Linear


class Noise(nn.Module, ABC):
    """A random change of what is read or fed; the identity in evaluation.

    Attributes:
        update: how many updates have been made, for rates that move; the trainer sets it before each. No part of what
            is stored, since the trainer's own count is.
    """

    update: int = 0

    @abstractmethod
    def forward(self, batch: Batch) -> Batch:
        """A new batch, or the same one when not training."""


def is_word(tokens: Tensor) -> Tensor:
    """True where `tokens` holds a word: neither padding nor start nor end."""
    return (tokens != PADDING) & (tokens != START) & (tokens != END)


def uniform(words: Tensor) -> Tensor:
    """Draws of U[0, 1) where `words` (B, T) is true, 1 elsewhere; however wide the padding, the same for each word."""
    draws = torch.ones(words.shape, device=words.device)
    draws[words] = torch.rand(int(words.sum()), device=words.device)
    return draws


def moving(start: float | None, rate: float, updates: int) -> Linear | Constant:
    """The rate at each update: a straight line from `start` to `rate` over `updates`, and `rate` where start is None.

    >>> [moving(1.0, 0.5, 10)(update) for update in (0, 5, 10, 99)], moving(None, 0.5, 10)(0)
    ([1.0, 0.75, 0.5, 0.5], 0.5)
    """
    return Constant(end=rate) if start is None else Linear(start=start, end=rate, updates=updates)


def check_rates(**rates: float | None) -> None:
    """Raise a `ConfigError` for a rate that is no probability.

    >>> check_rates(blank=1.5)
    Traceback (most recent call last):
    ...
    seqvae.errors.ConfigError: noise option blank = 1.5: expected a probability between 0 and 1
    """
    for name, rate in rates.items():
        if rate is not None and not 0 <= rate <= 1:
            raise ConfigError(f"noise option {name} = {rate}: expected a probability between 0 and 1")
