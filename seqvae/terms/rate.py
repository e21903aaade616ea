"""The rate KL(q(z|x)||p(z)) of each sentence: as it is, with a floor, or held at a target."""

from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Independent

from seqvae.divergences import kl_dimensions
from seqvae.errors import ConfigError
from seqvae.terms.term import Term
from seqvae.vae import Trace


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
        if not 0 <= free_bits < float("inf"):
            raise ConfigError(f"divergence option free_bits = {free_bits}: expected 0 or more nats")
        self.free_bits, self.floor = free_bits, floor

    def forward(self, trace: Trace) -> Tensor:
        """(B,) nats; with the `batch` floor every row holds the batch's value."""
        if self.free_bits == 0 or not trace.z.shape[1]:  # a language model has no dimension that could take them
            return trace.kl
        if self.floor == "total":
            return trace.kl.clamp_min(self.free_bits)
        try:
            dimensions = kl_dimensions(trace.q, trace.p)  # (B, D)
        except NotImplementedError:
            raise ConfigError(
                f"divergence option floor = {self.floor} needs the KL of each dimension by itself, and {cause(trace)}: "
                "write --objective.divergence.floor total"
            ) from None
        if self.floor == "batch":
            dimensions = dimensions.mean(0, keepdim=True).expand_as(dimensions)
        return dimensions.clamp_min(self.free_bits / dimensions.shape[1]).sum(1)


def cause(trace: Trace) -> str:
    """Why there is no KL of each dimension, and what else would have one."""
    for place, distribution, usual in (("posterior", trace.q, "gaussian"), ("prior", trace.p, "normal")):
        if not isinstance(distribution, Independent):
            return f"model.{place} does not factorize over dimensions, as {usual} would"
    return "that of this model.posterior from this model.prior has no closed form, as that of gaussian from normal"


class Capacity(Term):
    """|KL(q(z|x)||p(z)) - C|: the rate is drawn to C nats, from below too; C rises from 0 to `target`.

    Args:
        target: what C rises to, in nats per sentence summed over the dimensions.
        rise: updates over which C rises in a straight line; 0 for a C that is `target` from the start.
        level: what has to meet it. `batch`: the mean over the batch, so that sentences may differ. `sentence`: each.

    In the paper the term has a large weight; here the weight is that of the objective. With a weight below 1 the rate
    can settle above the target, where a nat of it still saves more than the weight. As with free bits the target can be
    met by the variance of q, without information in z.

    Source: Burgess et al., Understanding Disentangling in beta-VAE, 2018, https://arxiv.org/abs/1804.03599.
    """

    updates: Tensor

    def __init__(self, *, target: float = 8.0, rise: int = 0, level: Literal["batch", "sentence"] = "batch") -> None:
        super().__init__()
        if not 0 <= target < float("inf"):
            raise ConfigError(f"divergence option target = {target}: expected 0 or more nats")
        if rise < 0:
            raise ConfigError(f"divergence option rise = {rise}: expected 0 or more updates")
        self.target, self.rise, self.level = target, rise, level
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @property
    def capacity(self) -> float:
        """C of the next update, in nats per sentence."""
        return self.target * (1.0 if self.settled else int(self.updates) / self.rise)

    @property
    def settled(self) -> bool:
        """Whether C has risen to its target."""
        return int(self.updates) >= self.rise

    def forward(self, trace: Trace) -> Tensor:
        """(B,) nats; at the `batch` level every row holds the batch's value; each call while training is an update."""
        if not trace.z.shape[1]:  # a language model has no dimension that could take them
            return trace.kl
        capacity = self.capacity
        if self.training:
            self.updates.add_(1)
        rate = trace.kl.mean().expand_as(trace.kl) if self.level == "batch" else trace.kl
        return (rate - capacity).abs()
