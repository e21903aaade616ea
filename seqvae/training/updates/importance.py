"""The importance-weighted bound of several samples of z, in place of the ELBO."""

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
from seqvae.objective.term import Term, Zero, weigh
from seqvae.training.trainer import Trainer, Update


class Importance(Update):
    """Steps of all parameters down the gradient of the negative importance-weighted bound of several samples of z.

        -L = -E_{z_1..z_K ~ q}[ logsumexp_k l_k - log K ],   l_k = log p(x|z_k) + w (log p(z_k) - log q(z_k|x)),

    w the weight of the schedule, times that of a controller if there is one (`--target-kl`). At w = 1, L <= log p(x),
    tighter the larger K; with K = 1 it is the ELBO, its KL estimated from the sample. At w < 1 it is no bound, and at
    w = 0 the samples are weighted by p(x|z_k) alone.

    With v_k = softmax_k(l_k), the gradient of the parameters of p(x, z) is sum_k v_k dl_k in both cases. So is that of
    q with `plain`, where the density of q adds noise that does not decrease with K. With `dreg` q has another gradient
    of the same expectation, through the samples alone, with log q constant but for its argument:

        sum_k v_k (1 - w (1 - v_k)) dl_k/dz_k dz_k/dphi,     at w = 1: sum_k v_k^2 dl_k/dz_k dz_k/dphi.

    A sentence is encoded once. Reconstruction and KL of the report are unweighted means over the samples.

    Args:
        samples: K, samples of z for each sentence; the cost of the decoder is proportional to it.
        gradient: `plain`, or `dreg` (doubly reparameterized).

    Source: Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders, 2016, https://arxiv.org/abs/1509.00519,
    equation 8; Tucker, Lawson, Gu & Maddison, Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives,
    2019, https://arxiv.org/abs/1810.04152. The weight w is not in the papers; the gradient above is derived with it.
    """

    def __init__(self, *, samples: int = 5, gradient: Literal["plain", "dreg"] = "dreg") -> None:
        super().__init__()
        check_size(samples=samples)
        self.samples, self.gradient = samples, gradient

    def forward(self, trainer: Trainer, batch: Batch) -> tuple[Report, float]:
        """Compute the bound from K samples, and make a step.

        Raises:
            ConfigError: if the divergence is not a weighted KL, since only that is a mean of log ratios, or if there is
                an auxiliary term, which is not defined for several samples of a sentence.
        """
        if not isinstance(trainer.objective.auxiliary, Zero):
            raise ConfigError(
                "objective.update = importance does not go with an objective.auxiliary: write "
                "--objective.auxiliary.name none, or --objective.update.name joint"
            )
        trace, weight = trainer.trace(batch, samples=self.samples), trainer.objective.get_weight(trainer.schedule_step)
        weight_of_ratios = weight * find_weight(trainer.objective.divergence, trace)
        value, loss = importance_loss(trace, self.samples, weight_of_ratios, self.gradient)
        report = trainer.objective.report(value, trace, weight)
        report = replace(report, sentences=len(batch), tokens=batch.tokens)
        return report, trainer.descend(loss, report)


def find_weight(divergence: Term, trace: Trace) -> float:
    """Return the weight that a divergence gives to log q(z|x) - log p(z): 1, or that of a controller.

    Raises:
        ConfigError: if the divergence is another function of q and p.
    """
    if isinstance(divergence, Controlled):
        return divergence.update_weight(trace)
    if isinstance(divergence, KL) and not divergence.free_bits:
        return 1.0
    raise ConfigError(
        "objective.update = importance weights samples by log p(z) - log q(z|x), and objective.divergence is neither "
        "the plain kl nor controlled: write --objective.divergence.name kl --objective.divergence.free_bits 0, or "
        "--objective.divergence.name controlled (as --target-kl does)"
    )


def importance_loss(
    trace: Trace, samples: int, weight: float, gradient: Literal["plain", "dreg"]
) -> tuple[Tensor, Tensor]:
    """Compute the negative bound () in nats, mean over the sentences, and the loss () to backpropagate.

    Args:
        trace: of B * K rows, the K samples of a sentence adjacent.
        samples: K.
        weight: w.
        gradient: of q: see `Importance`.
    """
    log_likelihood = trace.log_prob.sum(1)
    log_q = trace.q.log_prob(trace.z)
    log_p = trace.p.log_prob(trace.z)
    logs = (log_likelihood + weight * (log_p - log_q)).view(-1, samples)  # (B, K)
    weights = None if trace.weights is None else trace.weights.view(-1, samples)[:, 0]
    value = weigh(math.log(samples) - logs.logsumexp(1), weights).mean()
    if gradient == "plain":
        return value, value
    normalized = logs.detach().softmax(1)
    log_q = (compute_score(trace) * trace.z).sum(1)  # only its gradient, that of log q by z alone, is used
    logs = (log_likelihood + weight * (log_p - log_q)).view(-1, samples)
    factor = (1 - weight * (1 - normalized)).view(-1, 1)
    trace.z.register_hook(lambda gradient: gradient * factor.to(gradient.dtype))  # of series it is double
    return value, -weigh((normalized * logs).sum(1), weights).mean()


def compute_score(trace: Trace) -> Tensor:
    """Compute (B, D) the gradient of log q(z|x) with respect to z, the parameters of q constant."""
    z = trace.z.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(trace.q.log_prob(z).sum(), z, retain_graph=True)
    return gradient
