"""Noise: Batch -> Batch, only while training. It never touches targets, the start, the end or padding."""

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor, nn

from seqvae.batch import END, PADDING, START, UNKNOWN, Batch
from seqvae.errors import ConfigError


class Noise(nn.Module, ABC):
    """A random change of what is read or fed; the identity in evaluation."""

    @abstractmethod
    def forward(self, batch: Batch) -> Batch:
        """A new batch, or the same one when not training."""


class WordDropout(Noise):
    """Each word fed to the decoder is replaced by `<unk>` with probability `rate`, so that it must ask z instead.

    Args:
        rate: in [0, 1]; 0 leaves the input alone, 1 hides every word (never the start).

    Source: Bowman et al., Generating Sentences from a Continuous Space, 2016, https://arxiv.org/abs/1511.06349,
    section 3.1.
    """

    def __init__(self, *, rate: float = 0.0) -> None:
        super().__init__()
        if not 0 <= rate <= 1:
            raise ConfigError(f"noise option rate = {rate}: expected a probability between 0 and 1")
        self.rate = rate

    def forward(self, batch: Batch) -> Batch:
        """The batch with some of its `inputs` hidden; `source` and `targets` as they were."""
        if not self.training or self.rate == 0:
            return batch
        hidden = (torch.rand(batch.inputs.shape, device=batch.inputs.device) < self.rate) & is_word(batch.inputs)
        return replace(batch, inputs=batch.inputs.masked_fill(hidden, UNKNOWN))


def is_word(tokens: Tensor) -> Tensor:
    """True where `tokens` holds a word: neither padding nor start nor end."""
    return (tokens != PADDING) & (tokens != START) & (tokens != END)


NOISES: dict[str, type[Noise]] = {"word-dropout": WordDropout}
