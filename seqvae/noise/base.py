"""What every noise is, and what it needs to be one."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from seqvae.batch import END, PADDING, START, Batch
from seqvae.errors import ConfigError


class Noise(nn.Module, ABC):
    """A random change of what is read or fed; the identity in evaluation."""

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


def check_rates(**rates: float) -> None:
    """Raise a `ConfigError` for a rate that is no probability.

    >>> check_rates(blank=1.5)
    Traceback (most recent call last):
    ...
    seqvae.errors.ConfigError: noise option blank = 1.5: expected a probability between 0 and 1
    """
    for name, rate in rates.items():
        if not 0 <= rate <= 1:
            raise ConfigError(f"noise option {name} = {rate}: expected a probability between 0 and 1")
