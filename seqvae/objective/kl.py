"""The KL(q(z|x)||p(z)) of each sentence: as it is, with free bits, or held at a target, in nats per sentence."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Independent

from seqvae.config import met
from seqvae.errors import ConfigError
from seqvae.model.distributions import kl_dimensions
from seqvae.model.vae import Trace
from seqvae.objective.term import Term


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
        rise: steps over which C rises in a straight line; 0 for a C that is `target` from the start.
        level: what has to meet it. `batch`: the mean over the batch, so that sentences may differ. `sentence`: each.

    In the paper the term has a large weight; here the weight is that of the objective. With a weight below 1 the rate
    can settle above the target, where a nat of it still saves more than the weight. As with free bits the target can be
    met by the variance of q, without information in z.

    Source: Burgess et al., Understanding Disentangling in beta-VAE, 2018, https://arxiv.org/abs/1804.03599.
    """

    steps: Tensor

    def __init__(self, *, target: float = 8.0, rise: int = 0, level: Literal["batch", "sentence"] = "batch") -> None:
        super().__init__()
        if not 0 <= target < float("inf"):
            raise ConfigError(f"divergence option target = {target}: expected 0 or more nats")
        if rise < 0:
            raise ConfigError(f"divergence option rise = {rise}: expected 0 or more steps")
        self.target, self.rise, self.level = target, rise, level
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def capacity(self) -> float:
        """C of the next step, in nats per sentence."""
        return self.target * (1.0 if self.settled else int(self.steps) / self.rise)

    @property
    def settled(self) -> bool:
        """Whether C has risen to its target."""
        return int(self.steps) >= self.rise

    def forward(self, trace: Trace) -> Tensor:
        """(B,) nats; at the `batch` level every row holds the batch's value; each call while training is a step."""
        if not trace.z.shape[1]:  # a language model has no dimension that could take them
            return trace.kl
        capacity = self.capacity
        if self.training:
            self.steps.add_(1)
        rate = trace.kl.mean().expand_as(trace.kl) if self.level == "batch" else trace.kl
        return (rate - capacity).abs()


LIGHTEST, HEAVIEST = math.log(1e-3), math.log(10.0)  # of the weight
MEMORY = 0.99  # share of the running mean of the KL that a step keeps; batches of long sentences have more of it
NEAR = 0.1  # relative distance of that mean from its aim within which it is near
STAYED = 200  # steps in a row near its aim after which the KL is not just passing; the mean lags by half as many
FARTHEST = 2.0  # the most that the aim is above or below the target


class Controlled(Term):
    """KL(q||p) times a weight that a controller moves until the KL is `target`.

    log w <- log w + gain min(KL / aim - 1, 1), between 0.001 and 10; a weight that multiplies it in the
    objective should be constantly 1. ControlVAE has such a controller on w itself, with a proportional part and gains
    in absolute nats; on the logarithm and in relative terms one gain serves all targets.

    The target is that of sentences that were held out. Their KL can differ from that of the training, whose sentences
    are known and read with dropout, and whose batches of long sentences count as much as those of short ones. So what
    the controller aims at in training is the target times the ratio of the two, as seen in the validations.

    Args:
        target: nats per sentence.
        start: the first weight.
        gain: how much of the relative distance log w makes good in a step.

    Source: Shao et al., ControlVAE: Controllable Variational Autoencoder, 2020, https://arxiv.org/abs/2004.05988.
    """

    log_weight: Tensor
    mean: Tensor
    aim: Tensor
    near: Tensor
    held_out: Tensor

    def __init__(self, *, target: float = 8.0, start: float = 0.1, gain: float = 0.01) -> None:
        super().__init__()
        for name, value in (("target", target), ("start", start), ("gain", gain)):
            if not 0 < value < math.inf:
                raise ConfigError(f"divergence option {name} = {value}: expected more than 0")
        self.target, self.gain = target, gain
        self.register_buffer("log_weight", torch.tensor(math.log(start), dtype=torch.float64))
        self.register_buffer("mean", torch.tensor(math.inf, dtype=torch.float64))  # of the KL of training, running
        self.register_buffer("aim", torch.tensor(target, dtype=torch.float64))  # of the controller
        self.register_buffer("near", torch.tensor(0))  # steps in a row at which the mean was near the aim
        self.register_buffer("held_out", torch.tensor(math.inf, dtype=torch.float64))  # KL of the last validation

    @property
    def settled(self) -> bool:
        """Whether the KL has stayed near its target in training, and met it in the last validation."""
        return self._stayed and met(float(self.held_out), self.target)

    @property
    def _stayed(self) -> bool:
        return int(self.near) >= STAYED

    def observe(self, kl: float) -> None:
        """Move the aim half of the way to where the validation sentences have the target; once the KL has stayed."""
        self.held_out.fill_(kl)
        if self._stayed and kl > 0:
            there = self.target * float(self.mean) / kl
            aim = math.sqrt(float(self.aim) * there)
            self.aim.fill_(min(max(aim, self.target / FARTHEST), self.target * FARTHEST))

    def forward(self, trace: Trace) -> Tensor:
        """(B,) nats, weighted; while training each call is a step of the weight."""
        return self.weigh(trace) * trace.kl

    def weigh(self, trace: Trace) -> float:
        """The weight for this batch; while training each call is a step of it."""
        if self.training:
            self._move(float(trace.kl.detach().mean()))
        return float(self.log_weight.exp())

    def _move(self, kl: float) -> None:
        aim = float(self.aim)
        self.log_weight.add_(self.gain * min(kl / aim - 1, 1.0)).clamp_(LIGHTEST, HEAVIEST)
        known = float(self.mean)
        self.mean.fill_(kl if math.isinf(known) else MEMORY * known + (1 - MEMORY) * kl)
        self.near.fill_(int(self.near) + 1 if abs(float(self.mean) / aim - 1) < NEAR else 0)


class MinimumRate(Term):
    """KL(q||p) + u (rate - KL(q||p)), where the multiplier u >= 0 rises as long as the KL is below `rate`.

    The Lagrangian of minimizing the objective subject to E KL >= rate: max_{u >= 0} u (rate - KL), by gradient ascent.
    The ascent alone is slow to turn, and the KL can swing widely about its rate; with `damping` the multiplier that the
    gradient sees is max(0, u + damping (rate - KL) / rate), the batch's KL (an augmented Lagrangian).

    Args:
        rate: nats per sentence that the KL has at least.
        step: of the ascent, at a KL of 0: u <- max(0, u + step (rate - KL) / rate), so that one serves all rates.
        damping: how far the multiplier answers to the KL of the batch at once; 0 as in the paper.

    Source: Pelsmaeker & Aziz, Effective Estimation of Deep Generative Language Models, 2020,
    https://arxiv.org/abs/1904.08194, section 4.
    """

    multiplier: Tensor

    def __init__(self, *, rate: float = 8.0, step: float = 0.01, damping: float = 0.0) -> None:
        super().__init__()
        for name, value in (("rate", rate), ("step", step)):
            if not 0 < value < math.inf:
                raise ConfigError(f"divergence option {name} = {value}: expected more than 0")
        if not 0 <= damping < math.inf:
            raise ConfigError(f"divergence option damping = {damping}: expected 0 or more")
        self.rate, self.step, self.damping = rate, step, damping
        self.register_buffer("multiplier", torch.zeros((), dtype=torch.float64))

    def forward(self, trace: Trace) -> Tensor:
        """(B,) nats; while training each call is a step of the multiplier."""
        if not trace.z.shape[1]:  # a language model has no dimension that could take them
            return trace.kl
        mean = trace.kl.mean()
        short = 1 - float(mean.detach()) / self.rate
        if self.training:
            self.multiplier.add_(self.step * short).clamp_min_(0.0)
        return trace.kl + max(0.0, float(self.multiplier) + self.damping * short) * (self.rate - mean)
