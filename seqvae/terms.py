"""Terms of the objective: Trace -> (B,) nats per sentence."""

from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor, nn

from seqvae.divergences import kl_dimensions
from seqvae.errors import ConfigError
from seqvae.vae import Trace


class Term(nn.Module, ABC):
    """Something to be minimized, for each sentence by itself unless it says otherwise."""

    @abstractmethod
    def forward(self, trace: Trace) -> Tensor:
        """(B,) nats."""


class Reconstruction(Term):
    """-log p(x|z): the cross-entropy summed over the words and the one end of the sentence."""

    def forward(self, trace: Trace) -> Tensor:
        """(B,) nats."""
        return trace.reconstruction


class KL(Term):
    """KL(q(z|x)||p(z)), with a floor of `free_bits` nats below which it is not pushed further down.

    Args:
        free_bits: the floor, in nats per sentence summed over the dimensions; 0 for none.
        floor: what the floor applies to. `total`: max(l, KL) of each sentence. `dimension`: sum_d max(l/D, KL_d) of
            each sentence (Li et al. 2019, https://arxiv.org/abs/1909.00868). `batch`: the same of the mean over the
            batch (Kingma et al. 2016, https://arxiv.org/abs/1606.04934, appendix C.8), so that sentences may differ.

    The floor can be met by shrinking the variance of q, without information in z: look at the mutual information too.
    """

    def __init__(self, *, free_bits: float = 0.0, floor: Literal["total", "dimension", "batch"] = "batch") -> None:
        super().__init__()
        if free_bits < 0:
            raise ConfigError(f"divergence option free_bits = {free_bits}: expected 0 or more nats")
        self.free_bits, self.floor = free_bits, floor

    def forward(self, trace: Trace) -> Tensor:
        """(B,) nats; with the `batch` floor every row holds the batch's value."""
        if self.free_bits == 0:
            return trace.kl
        if self.floor == "total":
            return trace.kl.clamp_min(self.free_bits)
        dimensions = kl_dimensions(trace.q, trace.p)  # (B, D)
        if self.floor == "batch":
            dimensions = dimensions.mean(0, keepdim=True).expand_as(dimensions)
        return dimensions.clamp_min(self.free_bits / dimensions.shape[1]).sum(1)


DIVERGENCES: dict[str, type[Term]] = {"kl": KL}
