"""Word dropout: the decoder does not see all of what it said."""

from dataclasses import replace

import torch

from seqvae.batch import UNKNOWN, Batch
from seqvae.noise.base import Noise, check_rates, is_word


class WordDropout(Noise):
    """Each word fed to the decoder is replaced by `<unk>` with probability `rate`, so that it must ask z instead.

    Args:
        rate: in [0, 1]; 0 leaves the input alone, 1 hides every word (never the start).

    Source: Bowman et al., Generating Sentences from a Continuous Space, 2016, https://arxiv.org/abs/1511.06349,
    section 3.1.
    """

    def __init__(self, *, rate: float = 0.0) -> None:
        super().__init__()
        check_rates(rate=rate)
        self.rate = rate

    def forward(self, batch: Batch) -> Batch:
        """The batch with some of its `inputs` hidden; `source` and `targets` as they were."""
        if not self.training or self.rate == 0:
            return batch
        hidden = (torch.rand(batch.inputs.shape, device=batch.inputs.device) < self.rate) & is_word(batch.inputs)
        return replace(batch, inputs=batch.inputs.masked_fill(hidden, UNKNOWN))
