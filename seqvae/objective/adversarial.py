"""An adversary that tells the z of sentences from draws of the prior."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from seqvae.errors import ConfigError, check_size
from seqvae.model.vae import Trace
from seqvae.objective.discrepancy import fresh
from seqvae.objective.term import Term


class Adversarial(Term):
    """-scale * log D(z), where a discriminator D learns to tell z of sentences (0) from fresh draws of the prior (1).

    Two losses of one pass that do not meddle with each other: the encoder's, -log D(z), goes through a D whose
    parameters are held fixed; the discriminator's, -log D(z') - log(1 - D(z)) with z' ~ p, sees a z without its
    history. The latter adds its gradient and not its value. Both are followed in the same step of the same optimizer
    (the papers take turns), whose learning rate is also the discriminator's. At a weight of 0, both rest.

    As with `mmd` only all sentences together have to look like the prior, nothing keeps q(z|x) from shrinking to a
    point, and the value is not of the bound: nats of a decision between two, log 2 where D cannot tell. The
    discriminator is part of the training, not of the model.

    Args:
        hidden: size of the two hidden layers of D.
        scale: what -log D(z) is multiplied with, to be felt beside the nats of the reconstruction.

    Source: Makhzani et al., Adversarial Autoencoders, 2016, https://arxiv.org/abs/1511.05644; with the loss of the
    encoder of Tolstikhin et al., Wasserstein Auto-Encoders, 2018, https://arxiv.org/abs/1711.01558, algorithm 1.
    """

    def __init__(self, *, latent: int, hidden: int = 128, scale: float = 10.0) -> None:
        super().__init__()
        check_size(hidden=hidden)
        if not 0 < scale < float("inf"):
            raise ConfigError(f"divergence option scale = {scale}: expected a number above 0")
        self.scale = scale
        self.discriminator = nn.Sequential(
            nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )

    def forward(self, trace: Trace) -> Tensor:
        """(B,): the encoder's loss; its gradient is also that of the discriminator's."""
        if not trace.z.shape[1]:  # a language model has no z to be told from anything
            return trace.z.new_zeros(len(trace.z))
        with torch.autocast(trace.z.device.type, enabled=False):
            told = self.telling(trace.z, fresh(trace.p, len(trace.z)))
            return self.scale * (self.fooling(trace.z) + without_value(told))

    def fooling(self, z: Tensor) -> Tensor:
        """(B,) nats: -log D(z), without a gradient to D."""
        fixed = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        return F.softplus(-functional_call(self.discriminator, fixed, (self._cast(z),))[:, 0])

    def telling(self, z: Tensor, prior: Tensor) -> Tensor:
        """(B,) nats: -log(1 - D(z)) - log D(prior), without a gradient to either of the two (B, D)."""
        theirs, ours = (self.discriminator(self._cast(points.detach()))[:, 0] for points in (z, prior))
        return F.softplus(theirs) + F.softplus(-ours)

    def _cast(self, z: Tensor) -> Tensor:
        return z.to(next(self.discriminator.parameters()).dtype)


def without_value(x: Tensor) -> Tensor:
    """0, with the gradient of x."""
    return x - x.detach()
