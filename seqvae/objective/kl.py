"""KL(q(z|x)||p(z)) of each sentence in nats: plain, with free bits, or held at a target by a controller."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Independent

from seqvae.config import meets_target
from seqvae.errors import ConfigError
from seqvae.model.distributions import kl_dimensions
from seqvae.model.vae import Trace
from seqvae.objective.term import Term, average


class KL(Term):
    """KL(q(z|x)||p(z)), with `free_bits` nats below which its gradient is 0.

    Args:
        free_bits: l, in nats per sentence, summed over the dimensions; 0 for none.
        free_bits_per: what they apply to. `total`: max(l, KL) of each sentence. `dimension`: sum_d max(l/D, KL_d) of
            each sentence (Li et al. 2019, https://arxiv.org/abs/1909.00868). `batch`: the same of the mean over the
            batch (Kingma et al. 2016, https://arxiv.org/abs/1606.04934, appendix C.8), so that sentences may differ.

    The free bits can be taken by the variance of q, without information in z: look at the mutual information too.
    """

    def __init__(
        self, *, free_bits: float = 0.0, free_bits_per: Literal["total", "dimension", "batch"] = "batch"
    ) -> None:
        super().__init__()
        if not 0 <= free_bits < float("inf"):
            raise ConfigError(f"divergence option free_bits = {free_bits}: expected 0 or more nats")
        self.free_bits, self.free_bits_per = free_bits, free_bits_per

    def forward(self, trace: Trace) -> Tensor:
        """Return (B,) nats; with free bits per `batch` every row has the value of the batch.

        Raises:
            ConfigError: if the KL does not factorize over dimensions, and free bits are not per `total`.
        """
        if self.free_bits == 0:
            return trace.kl
        if self.free_bits_per == "total":
            return trace.kl.clamp_min(self.free_bits)
        try:
            dimensions = kl_dimensions(trace.q, trace.p)  # (B, D)
        except NotImplementedError:
            raise ConfigError(
                f"divergence option free_bits_per = {self.free_bits_per} needs the KL of each dimension, and "
                f"{explain_missing_kl(trace)}: write --objective.divergence.free_bits_per total"
            ) from None
        if self.free_bits_per == "batch":
            dimensions = average(dimensions, trace.weights).expand_as(dimensions)
        return dimensions.clamp_min(self.free_bits / dimensions.shape[1]).sum(1)


def explain_missing_kl(trace: Trace) -> str:
    """Explain why there is no KL of each dimension, and name a part that would have one."""
    for place, distribution, usual in (("posterior", trace.q, "gaussian"), ("prior", trace.p, "normal")):
        if not isinstance(distribution, Independent):
            return f"model.{place} does not factorize over dimensions, as {usual} would"
    return "that of this model.posterior from this model.prior has no closed form, as that of gaussian from normal"


MIN_LOG_WEIGHT, MAX_LOG_WEIGHT = math.log(1e-3), math.log(10.0)
MOMENTUM = 0.99  # of the running mean of the KL; long, since batches of long sentences have a larger KL
TOLERANCE = 0.1  # relative distance between that mean and its set point within which it is near
PATIENCE = 200  # steps in a row near the set point until the KL counts as stationary; the mean lags by half as many
MAX_RATIO = 2.0  # between set point and target


class Controlled(Term):
    """KL(q||p) times a weight that a controller adjusts until the KL is `target`.

    log w <- log w + gain min(KL / set_point - 1, 1), between 0.001 and 10; a weight that multiplies it in the objective
    should be constantly 1. ControlVAE has such a controller of w itself, with a proportional part and gains in absolute
    nats; with the logarithm and relative distances one gain serves all targets.

    The target is the KL of held-out sentences. It can differ from that of training, whose sentences are known and read
    with dropout, and whose batches of long sentences count as much as those of short ones. The set point of the
    controller in training is therefore the target times the ratio of the two, as seen in the validations.

    Args:
        target: nats per sentence.
        start: the initial weight.
        gain: change of log w in a step, per relative distance.

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
        self.register_buffer("mean", torch.tensor(math.inf, dtype=torch.float64))  # running mean of the training KL
        self.register_buffer("aim", torch.tensor(target, dtype=torch.float64))  # the set point
        self.register_buffer("near", torch.tensor(0))  # steps in a row at which the mean was near the set point
        self.register_buffer("held_out", torch.tensor(math.inf, dtype=torch.float64))  # KL of the last validation

    @property
    def stationary(self) -> bool:
        """Whether the KL has stayed near its target in training, and met it in the last validation."""
        return self._stayed and meets_target(float(self.held_out), self.target)

    @property
    def _stayed(self) -> bool:
        return int(self.near) >= PATIENCE

    def observe(self, kl: float) -> None:
        """Move the set point half-way to where validation sentences have the target, once the KL has stayed near it."""
        self.held_out.fill_(kl)
        if self._stayed and kl > 0:
            expected = self.target * float(self.mean) / kl
            aim = math.sqrt(float(self.aim) * expected)
            self.aim.fill_(min(max(aim, self.target / MAX_RATIO), self.target * MAX_RATIO))

    def forward(self, trace: Trace) -> Tensor:
        """Return (B,) nats, weighted; while training each call is a step of the controller."""
        return self.update_weight(trace) * trace.kl

    def update_weight(self, trace: Trace) -> float:
        """Return the weight for this batch; while training each call is a step of the controller."""
        if self.training:
            self._step(float(average(trace.kl.detach(), trace.weights)))
        return float(self.log_weight.exp())

    def _step(self, kl: float) -> None:
        aim = float(self.aim)
        self.log_weight.add_(self.gain * min(kl / aim - 1, 1.0)).clamp_(MIN_LOG_WEIGHT, MAX_LOG_WEIGHT)
        mean = float(self.mean)
        self.mean.fill_(kl if math.isinf(mean) else MOMENTUM * mean + (1 - MOMENTUM) * kl)
        self.near.fill_(int(self.near) + 1 if abs(float(self.mean) / aim - 1) < TOLERANCE else 0)


class MinimumRate(Term):
    """KL(q||p) + u (rate - KL(q||p)), where the multiplier u >= 0 grows as long as the KL is below `rate`.

    The Lagrangian of minimizing the objective subject to E KL >= rate: max_{u >= 0} u (rate - KL), by gradient ascent.
    Ascent alone reacts slowly, and the KL can oscillate widely about its rate; with `damping` the multiplier in the
    loss is max(0, u + damping (rate - KL) / rate), with the KL of the batch (an augmented Lagrangian).

    Args:
        rate: the least KL, nats per sentence.
        step: size of a step of the ascent: u <- max(0, u + step (rate - KL) / rate), so that one serves all rates.
        damping: weight of the batch's own KL in the multiplier; 0 as in the paper.

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
        """Return (B,) nats; while training each call is a step of the multiplier."""
        mean = average(trace.kl, trace.weights)
        gap = 1 - float(mean.detach()) / self.rate
        if self.training:
            self.multiplier.add_(self.step * gap).clamp_min_(0.0)
        return trace.kl + max(0.0, float(self.multiplier) + self.damping * gap) * (self.rate - mean)
