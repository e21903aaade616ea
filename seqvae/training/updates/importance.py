"""The importance-weighted bound of several draws, in place of the bound of one."""

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from seqvae.data.batch import Batch
from seqvae.errors import ConfigError, check_size
from seqvae.model.vae import Trace
from seqvae.objective.kl import KL, Controlled
from seqvae.objective.objective import Report
from seqvae.objective.term import Nothing, Term
from seqvae.training.trainer import Trainer, Update


class Importance(Update):
    """One step of all parameters down the gradient of the negative importance-weighted bound,

        -L = -E_{z_1..z_K ~ q}[ logsumexp_k l_k - log K ],   l_k = log p(x|z_k) + w (log p(z_k) - log q(z_k|x)),

    w the weight of the schedule, times that of a controller if there is one (`--target-kl`): at 1, L <= log p(x),
    tighter the larger K; with K = 1 it is the ELBO, its KL estimated by the draw. Below 1 it is no bound, and at 0 the
    draws are weighed by p(x|z_k) alone.

    With v_k = softmax_k(l_k), parameters of p(x, z) descend along sum_k v_k dl_k in both cases. `plain` lets q do the
    same, to which the density of q adds noise that does not fall with K. `dreg` gives it another gradient of the same
    expectation, through the draws alone, with log q held fixed but for its argument:

        sum_k v_k (1 - w (1 - v_k)) dl_k/dz_k dz_k/dphi,     at w = 1: sum_k v_k^2 dl_k/dz_k dz_k/dphi.

    The sentence is encoded once. Reconstruction and KL of the report are means over the draws, unweighted.

    Args:
        samples: K, draws of z for each sentence; the cost of the decoder grows with it.
        gradient: `plain`, or `dreg` (doubly reparameterized).

    Source: Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders, 2016, https://arxiv.org/abs/1509.00519,
    equation 8; Tucker, Lawson, Gu & Maddison, Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives,
    2019, https://arxiv.org/abs/1810.04152. The weight w is ours, and the gradient above is derived with it.
    """

    def __init__(self, *, samples: int = 5, gradient: Literal["plain", "dreg"] = "dreg") -> None:
        super().__init__()
        check_size(samples=samples)
        self.samples, self.gradient = samples, gradient

    def forward(self, trainer: Trainer, batch: Batch) -> tuple[Report, float]:
        """Trace of K draws, bound, step.

        Raises:
            ConfigError: if the divergence is no KL with a weight, which alone is a mean of log ratios, or if there is
                an auxiliary term, which is not made for several draws of a sentence.
        """
        if not isinstance(trainer.objective.auxiliary, Nothing):
            raise ConfigError(
                "objective.update = importance has no place for an objective.auxiliary: write "
                "--objective.auxiliary.name none, or --objective.update.name joint"
            )
        trace, weight = trainer.trace(batch, draws=self.samples), trainer.objective.weigh(trainer.scheduled)
        moved = weight * weight_of(trainer.objective.divergence, trace)
        value, loss = importance_loss(trace, self.samples, moved, self.gradient)
        report = trainer.objective.report(value, trace, weight)
        report = replace(report, sentences=len(batch), tokens=batch.tokens)
        return report, trainer.descend(loss, report)


def weight_of(divergence: Term, trace: Trace) -> float:
    """What a divergence weighs log q(z|x) - log p(z) by: 1, or what a controller has moved its weight to.

    Raises:
        ConfigError: if it is another function of q and p.
    """
    if isinstance(divergence, Controlled):
        return divergence.weigh(trace)
    if isinstance(divergence, KL) and not divergence.free_bits:
        return 1.0
    raise ConfigError(
        "objective.update = importance weighs draws by log p(z) - log q(z|x), and objective.divergence is neither the "
        "plain kl nor controlled: write --objective.divergence.name kl --objective.divergence.free_bits 0, or "
        "--objective.divergence.name controlled (as --target-kl does)"
    )


def importance_loss(
    trace: Trace, samples: int, weight: float, gradient: Literal["plain", "dreg"]
) -> tuple[Tensor, Tensor]:
    """The negative bound () in nats, mean over the sentences, and what to go backward from.

    Args:
        trace: of B * K rows, the K draws of a sentence in a row.
        samples: K.
        weight: w.
        gradient: of q: see `Importance`.
    """
    said = trace.log_prob.sum(1)
    log_q = trace.q.log_prob(trace.z)
    log_p = trace.p.log_prob(trace.z)
    logs = (said + weight * (log_p - log_q)).view(-1, samples)  # (B, K)
    value = (math.log(samples) - logs.logsumexp(1)).mean()
    if gradient == "plain":
        return value, value
    shares = logs.detach().softmax(1)
    log_q = (score(trace) * trace.z).sum(1)  # its gradient is that of log q by z alone; its value is of no use
    logs = (said + weight * (log_p - log_q)).view(-1, samples)
    doubly = (1 - weight * (1 - shares)).view(-1, 1)
    trace.z.register_hook(lambda slope: slope * doubly.to(slope.dtype))  # of series it is double
    return value, -(shares * logs).sum(1).mean()


def score(trace: Trace) -> Tensor:
    """(B, D): the gradient of log q(z|x) by z, the parameters of q held fixed."""
    z = trace.z.detach().requires_grad_()
    (slope,) = torch.autograd.grad(trace.q.log_prob(z).sum(), z, retain_graph=True)
    return slope
