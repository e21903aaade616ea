"""Word dropout: the decoder does not see all of what it said."""

from dataclasses import replace

import torch

from seqvae.batch import UNKNOWN, Batch
from seqvae.noise.base import Noise, check_rates, is_word, moving


class WordDropout(Noise):
    """Each word fed to the decoder is replaced by `<unk>` with probability `rate`, so that it must ask z instead.

    Args:
        rate: in [0, 1]; 0 leaves the input alone, 1 hides every word (never the start).
        start: the rate at the first update, which moves in a straight line; none = `rate` throughout.
        updates: how long the line is.

    Source: Bowman et al., Generating Sentences from a Continuous Space, 2016, https://arxiv.org/abs/1511.06349,
    section 3.1.
    """

    def __init__(self, *, rate: float = 0.0, start: float | None = None, updates: int = 2000) -> None:
        super().__init__()
        check_rates(rate=rate, start=start)
        self.rate = moving(start, rate, updates)

    def forward(self, batch: Batch) -> Batch:
        """The batch with some of its `inputs` hidden; `source` and `targets` as they were."""
        rate = self.rate(self.update)
        if not self.training or rate == 0:
            return batch
        hidden = (torch.rand(batch.inputs.shape, device=batch.inputs.device) < rate) & is_word(batch.inputs)
        return replace(batch, inputs=batch.inputs.masked_fill(hidden, UNKNOWN))
