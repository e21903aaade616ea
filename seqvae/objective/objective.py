"""The objective: what is minimized, and beside it what is reported. They are never the same variable."""

from dataclasses import dataclass

from torch import Tensor, nn

from seqvae.model.vae import Trace
from seqvae.objective.term import Nothing, Term
from seqvae.schedules import Schedule


@dataclass(frozen=True)
class Report:
    """One step, in nats per sentence of its batch.

    Attributes:
        loss: what was minimized, with its weights, floors and auxiliary term.
        reconstruction: -log p(x|z), raw.
        kl: KL(q||p), raw: weight 1, no floor.
        weight: the weight of the divergence in `loss`.
        sentences, tokens: how many the batch held.
    """

    loss: float
    reconstruction: float
    kl: float
    weight: float
    sentences: int
    tokens: int

    @property
    def elbo(self) -> float:
        """-(reconstruction + KL), whatever was minimized."""
        return -(self.reconstruction + self.kl)


class Objective(nn.Module):
    """reconstruction + weight(step) * divergence + auxiliary, averaged over the batch.

    With `weight` constantly 1, the plain KL and no auxiliary term this is the negative evidence lower bound. Terms may
    have parameters of their own, which are trained with those of the model and are no part of it.
    """

    def __init__(
        self, *, reconstruction: Term, divergence: Term, weight: Schedule, auxiliary: Term | None = None
    ) -> None:
        super().__init__()
        self.reconstruction = reconstruction
        self.divergence = divergence
        self.weight = weight
        self.auxiliary = auxiliary or Nothing()

    @property
    def settled(self) -> bool:
        """Whether its terms are what they will be to the end; the schedule of the weight has its own."""
        return self.divergence.settled and self.auxiliary.settled

    def observe(self, kl: float) -> None:
        """Let the terms take note of the mean KL of the validation sentences, in nats."""
        self.divergence.observe(kl)
        self.auxiliary.observe(kl)

    def forward(self, trace: Trace, step: int) -> tuple[Tensor, Report]:
        """The loss () to go backward from, and its report, at `step` (0, 1, 2, ...; weight 0 before)."""
        weight = self.weigh(step)
        loss = self.reconstruction(trace).mean()
        if weight:  # 0 * inf would not be 0
            loss = loss + weight * self.divergence(trace).mean()
        loss = loss + self.auxiliary(trace).mean()
        return loss, self.report(loss, trace, weight)

    def weigh(self, step: int) -> float:
        """The weight of the divergence at `step`; 0 at one below 0, before the schedule begins."""
        return self.weight(step) if step >= 0 else 0.0

    def report(self, loss: Tensor, trace: Trace, weight: float) -> Report:
        """What is said of a loss () beside the raw bound of the trace."""
        return Report(
            loss=loss.item(),
            reconstruction=trace.reconstruction.mean().item(),
            kl=trace.kl.mean().item(),
            weight=weight,
            sentences=len(trace.batch),
            tokens=trace.batch.tokens,
        )
