"""The objective: the loss that is minimized, and the bound that is reported. They are never the same variable."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seqvae.model.vae import Trace
from seqvae.objective.term import Term, Zero, weigh
from seqvae.schedules import Schedule


@dataclass(frozen=True)
class Report:
    """The values of one step, in nats per sentence of its batch.

    Attributes:
        loss: the minimized loss, with weights, free bits and auxiliary term.
        reconstruction: -log p(x|z).
        kl: KL(q||p), with weight 1 and without free bits.
        weight: the weight of the divergence in `loss`.
        sentences, tokens: their numbers in the batch.
    """

    loss: float
    reconstruction: float
    kl: float
    weight: float
    sentences: int
    tokens: int

    @property
    def elbo(self) -> float:
        """-(reconstruction + KL), whatever the loss is."""
        return -(self.reconstruction + self.kl)


class Objective(nn.Module):
    """reconstruction + weight(step) * divergence + auxiliary, averaged over the batch.

    Where sentences have weights, each sentence's value is multiplied by its own, which is 1 on average over the
    training split, not over the batch: so a sentence of weight 2 has the gradient of two. Reports are unweighted, but
    for the loss.

    With `weight` constantly 1, the plain KL and no auxiliary term this is the negative evidence lower bound. For a
    language model, whose z has no dimensions, it is the reconstruction alone. Terms may have parameters of their own,
    which are trained with those of the model but are not part of it.
    """

    def __init__(
        self, *, reconstruction: Term, divergence: Term, weight: Schedule, auxiliary: Term | None = None
    ) -> None:
        super().__init__()
        self.reconstruction = reconstruction
        self.divergence = divergence
        self.weight = weight
        self.auxiliary = auxiliary or Zero()

    @property
    def stationary(self) -> bool:
        """Whether the terms no longer change; the schedule of the weight has a property of its own."""
        return self.divergence.stationary and self.auxiliary.stationary

    def observe(self, kl: float) -> None:
        """Pass the mean KL of the validation sentences, in nats, to the terms."""
        self.divergence.observe(kl)
        self.auxiliary.observe(kl)

    def forward(self, trace: Trace, step: int) -> tuple[Tensor, Report]:
        """Return the loss () to differentiate and its report, at `step` of the schedule (below 0: before it begins)."""
        weight, weights = self.get_weight(step), trace.weights
        loss = weigh(self.reconstruction(trace), weights).mean()
        if trace.has_latent:
            if weight:  # 0 * inf would not be 0
                loss = loss + weight * weigh(self.divergence(trace), weights).mean()
            loss = loss + weigh(self.auxiliary(trace), weights).mean()
        return loss, self.report(loss, trace, weight)

    def get_weight(self, step: int) -> float:
        """Return the weight of the divergence at `step`; 0 below step 0, before the schedule begins."""
        return self.weight(step) if step >= 0 else 0.0

    def report(self, loss: Tensor, trace: Trace, weight: float) -> Report:
        """Return the report of a loss (), with the bound of the trace."""
        values = [loss, trace.reconstruction.mean(), trace.kl.mean()]
        bound, reconstruction, kl = torch.stack([x.detach().double() for x in values]).tolist()  # one wait for a GPU
        return Report(
            loss=bound,
            reconstruction=reconstruction,
            kl=kl,
            weight=weight,
            sentences=len(trace.batch),
            tokens=trace.batch.tokens,
        )
