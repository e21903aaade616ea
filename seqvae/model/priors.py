"""Priors: () -> p(z)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from seqvae.errors import ConfigError, check_size
from seqvae.model.distributions import Family, FlowDistribution, SphericalUniform, build_flow
from seqvae.model.encoders import Encoder
from seqvae.model.posteriors import Posterior


class Prior(nn.Module, ABC):
    """The distribution that sentences are generated from.

    Attributes:
        spherical: z lies on the unit sphere, where its density lives: the posterior has to be spherical too.
    """

    spherical: bool = False

    @abstractmethod
    def forward(self) -> Distribution:
        """A distribution with batch () and event (D,), made anew from the parameters at each call."""


class StandardNormal(Prior):
    """p(z) = N(0, I).

    Source: Kingma & Welling, Auto-Encoding Variational Bayes, 2014, https://arxiv.org/abs/1312.6114, appendix B.
    """

    zero: Tensor
    one: Tensor

    def __init__(self, *, latent: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent), persistent=False)
        self.register_buffer("one", torch.ones(latent), persistent=False)

    def forward(self) -> Distribution:
        """Batch (), event (D,), on the module's device and in its precision."""
        return Independent(Normal(self.zero, self.one, validate_args=False), 1, validate_args=False)


class LearntGaussian(Prior):
    """p(z) = N(m, diag(s^2)), m and log s^2 learnt with the model; it starts as N(0, I).

    The KL(q||p) fits it to the posteriors: at the optimum m and s^2 are mean and variance of q_agg, E_x[mu] and
    E_x[(mu - m)^2 + sigma^2]. The layers that write and read z can absorb m and s where they are linear, so it is a
    control for richer priors rather than one itself. The scale of z is then the model's choice: a threshold on its
    variance, as that of active units, no longer means the same for each dimension and model.

    Source: the prior with parameters p_theta(z) of Kingma & Welling, Auto-Encoding Variational Bayes, 2014,
    https://arxiv.org/abs/1312.6114, section 2.1, as a Gaussian.
    """

    def __init__(self, *, latent: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(latent))
        self.log_variance = nn.Parameter(torch.zeros(latent))

    def forward(self) -> Distribution:
        """Batch (), event (D,), on the module's device and in its precision."""
        # The bounds are those of the posterior: far beyond any useful scale, they keep it from being 0 or infinite.
        s = (self.log_variance.clamp(-15, 15) / 2).exp()
        return Independent(Normal(self.mean, s, validate_args=False), 1, validate_args=False)


class Mixture(Prior):
    """p(z) = sum_k w_k N(m_k, diag(s_k^2)), weights, means and scales learnt with the model.

    It starts with equal weights, m_k ~ N(0, spread^2 I) and s_k^2 = 1 - spread^2: about mean 0 and variance 1 as a
    whole, but with components that differ, since equal ones get equal gradients and never part. KL(q||p) has no closed
    form and is estimated from the draws of z, without bias but with noise: that of one draw may be negative. The
    mixture does not factorize over dimensions, so of the free bits only the floor `total` goes with it.

    Args:
        components: K, how many Gaussians.
        spread: standard deviation of the initial means, more than 0 and less than 1.

    Source: the mixture-of-Gaussians baseline (there with equal weights, here learnt ones) of Tomczak & Welling, VAE
    with a VampPrior, 2018, https://arxiv.org/abs/1705.07120.
    """

    def __init__(self, *, latent: int, components: int = 10, spread: float = 0.5) -> None:
        super().__init__()
        check_size(components=components)
        if not 0 < spread < 1:
            raise ConfigError(f"prior option spread = {spread}: expected more than 0 and less than 1, such as 0.5")
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(spread * torch.randn(components, latent))
        self.log_variances = nn.Parameter(torch.full((components, latent), math.log1p(-(spread**2))))

    def forward(self) -> Distribution:
        """Batch (), event (D,), on the module's device and in its precision."""
        s = (self.log_variances.clamp(-15, 15) / 2).exp()  # (K, D); the bounds are those of the posterior
        return MixtureSameFamily(
            Categorical(logits=self.logits, validate_args=False),
            Independent(Normal(self.means, s, validate_args=False), 1, validate_args=False),
            validate_args=False,
        )


class Sphere(Prior):
    """p(z) = 1 / area of the unit sphere S^(D-1), for z of norm 1; it goes with the posterior `vmf`.

    Source: Davidson, Falorsi, De Cao, Kipf & Tomczak, Hyperspherical Variational Auto-Encoders, 2018,
    https://arxiv.org/abs/1804.00891; Xu & Durrett, Spherical Latent Spaces for Stable Variational Autoencoders, 2018,
    https://arxiv.org/abs/1808.10805.
    """

    spherical = True
    like: Tensor

    def __init__(self, *, latent: int) -> None:
        super().__init__()
        if latent < 2:
            raise ConfigError(f"prior sphere with model.latent = {latent}: expected 2 or more, a circle at least")
        self.register_buffer("like", torch.zeros(latent), persistent=False)

    def forward(self) -> Distribution:
        """Batch (), event (D,), on the module's device and in its precision."""
        return SphericalUniform(self.like)


class Flow(Prior):
    """p(z) = N(f(z); 0, I) |det df/dz|, f an autoregressive flow that is learnt with the model; it starts as N(0, I).

    The KL has no closed form and is estimated from the draws of z, without bias but with noise. p does not factorize
    over dimensions, so of the free bits only the floor `total` goes with it. To draw from it takes D passes of the
    flow's networks, and to score one. It needs zuko: `pip install 'seqvae[flows]'`.

    Args:
        family: `maf` (affine) or `nsf` (splines within +-5: for richer shapes, at several times the cost).
        transforms: how many maps, one after the other.
        hidden: units of each of the two layers of the network inside each.

    Source: Chen, Kingma, Salimans, Duan, Dhariwal, Schulman, Sutskever & Abbeel, Variational Lossy Autoencoder, 2017,
    https://arxiv.org/abs/1611.02731 (an autoregressive flow as the prior); the flows, Papamakarios, Pavlakou & Murray,
    Masked Autoregressive Flow for Density Estimation, 2017, https://arxiv.org/abs/1705.07057, and Durkan, Bekasov,
    Murray & Papamakarios, Neural Spline Flows, 2019, https://arxiv.org/abs/1906.04032.
    """

    def __init__(self, *, latent: int, family: Family = "maf", transforms: int = 3, hidden: int = 64) -> None:
        super().__init__()
        self.flow = build_flow(latent, family=family, transforms=transforms, hidden=hidden)

    def forward(self) -> Distribution:
        """Batch (), event (D,), on the module's device and in its precision."""
        return FlowDistribution(self.flow)


class Vamp(Prior):
    """p(z) = 1/K sum_k q(z|u_k), the aggregate posterior of K pseudo-inputs u_k that are learnt with the model.

    A pseudo-input is `length` steps in the space of embeddings, which the encoder reads as if they were words; so
    encoder and posterior are shared with the model, and p follows them as they learn. Words are discrete, points of
    their space are not. They are read without dropout, and by a batch-norm posterior with its running statistics, which
    they do not disturb: p is one density, the same in training and evaluation. The KL has no closed form and is
    estimated from the draws of z, as with `mixture`; of the free bits only the floor `total` goes with it.

    Where the model is conditioned on labels, the place of a label's embedding beside the encoder's vector is learnt for
    each pseudo-input too, so that p is the same for all labels.

    Args:
        components: K, how many pseudo-inputs; each costs about as much time as another sentence in the batch.
        length: L, steps of each.

    Source: Tomczak & Welling, VAE with a VampPrior, 2018, https://arxiv.org/abs/1705.07120, section 3.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        posterior: Posterior,
        embedding: int,
        features: int,
        components: int = 50,
        length: int = 10,
    ) -> None:
        super().__init__()
        check_size(components=components, length=length)
        self.encoder, self.posterior = encoder, posterior
        self.spherical = posterior.spherical
        # As wide as the embeddings of words are at their start, uniform within 0.1 of 0.
        self.inputs = nn.Parameter(torch.empty(components, length, embedding).uniform_(-0.1, 0.1))
        label = features - encoder.features  # what stands beside the encoder's vector
        self.labels = nn.Parameter(torch.randn(components, label)) if label else None

    def forward(self) -> Distribution:
        """Batch (), event (D,), on the module's device; in single precision at least, as posteriors are."""
        count, length, _ = self.inputs.shape
        lengths = torch.full((count,), length, device=self.inputs.device)
        # cuDNN has no backward pass for a recurrent network in evaluation mode; the switch is one for all threads.
        switch = torch.backends.cudnn.flags(enabled=False) if torch.is_grad_enabled() else nullcontext()
        with settled(self.encoder), settled(self.posterior), switch:
            h = self.encoder.read(self.inputs, lengths)
            q = self.posterior(h if self.labels is None else torch.cat([h, self.labels.to(h)], dim=1))
        weights = Categorical(logits=self.inputs.new_zeros(count), validate_args=False)
        return MixtureSameFamily(weights, q, validate_args=False)


@contextmanager
def settled(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, with gradients; each submodule gets its own mode back afterwards."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


PRIORS: dict[str, type[Prior]] = {
    "normal": StandardNormal,
    "gaussian": LearntGaussian,
    "mixture": Mixture,
    "flow": Flow,
    "sphere": Sphere,
    "vamp": Vamp,
}
