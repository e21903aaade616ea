"""The adversarial divergence: a discriminator between z of sentences and samples of the prior."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from seqvae.errors import ConfigError, check_size
from seqvae.model.vae import Trace
from seqvae.objective.discrepancy import sample_from
from seqvae.objective.term import Term


class Adversarial(Term):
    """-scale * log D(z), where a discriminator D learns to tell z of sentences (0) from samples of the prior (1).

    Two losses of one pass that do not interfere: the generator's (here the encoder's), -log D(z), goes through a D
    whose parameters are held fixed; the discriminator's, -log D(z') - log(1 - D(z)) with z' ~ p, gets a detached z. The
    latter adds its gradient and not its value. One step of one optimizer follows both (the papers alternate), so that
    the discriminator has the same learning rate. At a weight of 0 neither learns.

    As with `mmd`, only the aggregate posterior has to match the prior, and nothing keeps q(z|x) from shrinking to a
    point. The value is not part of a bound: the nats of a binary decision, log 2 where D cannot tell. The discriminator
    is part of the training, not of the model.

    Args:
        hidden: size of the two hidden layers of D.
        scale: factor of -log D(z), to make it comparable to the nats of the reconstruction.

    Source: Makhzani et al., Adversarial Autoencoders, 2016, https://arxiv.org/abs/1511.05644; with the loss of the
    encoder of Tolstikhin et al., Wasserstein Auto-Encoders, 2018, https://arxiv.org/abs/1711.01558, algorithm 1.
    """

    kl_weight = 0.0

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
        """Return (B,), the generator's loss, with the gradient of both losses."""
        with torch.autocast(trace.z.device.type, enabled=False):
            loss = self.discriminator_loss(trace.z, sample_from(trace.p, len(trace.z)))
            return self.scale * (self.generator_loss(trace.z) + keep_gradient_only(loss))

    def generator_loss(self, z: Tensor) -> Tensor:
        """Return -log D(z), (B,) nats, without a gradient to D."""
        fixed = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        return F.softplus(-functional_call(self.discriminator, fixed, (self._cast(z),))[:, 0])

    def discriminator_loss(self, z: Tensor, prior: Tensor) -> Tensor:
        """Return -log(1 - D(z)) - log D(prior), (B,) nats, without a gradient to z and prior (B, D)."""
        fake, real = (self.discriminator(self._cast(points.detach()))[:, 0] for points in (z, prior))
        return F.softplus(fake) + F.softplus(-real)

    def _cast(self, z: Tensor) -> Tensor:
        return z.to(next(self.discriminator.parameters()).dtype)


def keep_gradient_only(x: Tensor) -> Tensor:
    """Return 0, with the gradient of x."""
    return x - x.detach()
