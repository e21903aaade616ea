"""Priors: () -> p(z)."""

import math
from abc import ABC, abstractmethod
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution

from seqvae.errors import ConfigError, check_size, check_whole
from seqvae.model.distributions import GaussianMixture, build_diagonal_gaussian, compute_scale
from seqvae.model.encoders import Encoder
from seqvae.model.flows import Family, FlowDistribution, build_flow
from seqvae.model.modes import evaluation_mode
from seqvae.model.posteriors import Posterior
from seqvae.model.spheres import SphericalUniform


class Prior(nn.Module, ABC):
    """The distribution of z that sentences are generated from.

    Attributes:
        spherical: z lies on the unit sphere, where its density is defined: the posterior has to be spherical too.
    """

    spherical: bool = False

    @abstractmethod
    def forward(self) -> Distribution:
        """Build p(z), batch () and event (D,), from the current parameters."""


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
        """Build p(z), batch () and event (D,), on the module's device and in its precision."""
        return build_diagonal_gaussian(self.zero, self.one)


class LearntGaussian(Prior):
    """p(z) = N(m, diag(s^2)), m and log s^2 learnt with the model; it starts as N(0, I).

    KL(q||p) fits it to the posteriors: at the optimum m and s^2 are mean and variance of the aggregate posterior,
    E_x[mu] and E_x[(mu - m)^2 + sigma^2]. Linear layers around z can absorb m and s, so it is a control for richer
    priors rather than one itself. The model chooses the scale of z: a threshold on its variance, as that of active
    units, no longer means the same for each dimension and model.

    Source: the parameterized prior p_theta(z) of Kingma & Welling, Auto-Encoding Variational Bayes, 2014,
    https://arxiv.org/abs/1312.6114, section 2.1, as a Gaussian.
    """

    def __init__(self, *, latent: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(latent))
        self.log_variance = nn.Parameter(torch.zeros(latent))

    def forward(self) -> Distribution:
        """Build p(z), batch () and event (D,), on the module's device and in its precision."""
        return build_diagonal_gaussian(self.mean, compute_scale(self.log_variance))


class Mixture(Prior):
    """p(z) = sum_k w_k N(m_k, diag(s_k^2)), weights, means and scales learnt with the model.

    It starts with equal weights, m_k ~ N(0, spread^2 I) and s_k^2 = 1 - spread^2: mean 0 and variance 1 as a whole, but
    components that differ, since equal ones would get equal gradients and stay equal. KL(q||p) has no closed form and
    is estimated from the sample of z, without bias but with noise: it may be negative. The mixture does not factorize
    over dimensions, so that free bits can only be per `total`.

    Args:
        components: K, the number of Gaussians.
        spread: standard deviation of the initial means, more than 0 and less than 1.
        refit: when the training is over, fit a mixture of this many Gaussians to the aggregate posterior and let it
            take the place of this one, if it is the better prior of the validation sentences (see
            `seqvae.latent.refit`); 0 keeps this one.

    Source: the mixture-of-Gaussians baseline (there with equal weights, here learnt ones) of Tomczak & Welling, VAE
    with a VampPrior, 2018, https://arxiv.org/abs/1705.07120.
    """

    def __init__(self, *, latent: int, components: int = 10, spread: float = 0.5, refit: int = 0) -> None:
        super().__init__()
        check_size(components=components)
        check_whole(0, refit=refit)
        if not 0 < spread < 1:
            raise ConfigError(f"prior option spread = {spread}: expected more than 0 and less than 1, such as 0.5")
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(nn.init.normal_(torch.empty(components, latent), std=spread))
        self.log_variances = nn.Parameter(torch.full((components, latent), math.log1p(-(spread**2))))

    def forward(self) -> Distribution:
        """Build p(z), batch () and event (D,), on the module's device and in its precision."""
        weights = Categorical(logits=self.logits, validate_args=False)
        components = build_diagonal_gaussian(self.means, compute_scale(self.log_variances))
        return GaussianMixture(weights, components, validate_args=False)


class Sphere(Prior):
    """p(z) = 1 / area of the unit sphere S^(D-1), for z of norm 1; for the posterior `vmf`.

    Source: Davidson, Falorsi, De Cao, Kipf & Tomczak, Hyperspherical Variational Auto-Encoders, 2018,
    https://arxiv.org/abs/1804.00891; Xu & Durrett, Spherical Latent Spaces for Stable Variational Autoencoders, 2018,
    https://arxiv.org/abs/1808.10805.
    """

    spherical = True
    like: Tensor

    def __init__(self, *, latent: int) -> None:
        super().__init__()
        if latent < 2:
            raise ConfigError(f"prior sphere with model.latent = {latent}: expected 2 or more (a circle)")
        self.register_buffer("like", torch.zeros(latent), persistent=False)

    def forward(self) -> Distribution:
        """Build p(z), batch () and event (D,), on the module's device and in its precision."""
        return SphericalUniform(self.like)


class Flow(Prior):
    """p(z) = N(f(z); 0, I) |det df/dz|, f an autoregressive flow that is learnt with the model; it starts as N(0, I).

    The KL has no closed form and is estimated from the sample of z, without bias but with noise. p does not factorize
    over dimensions, so that free bits can only be per `total`. A sample takes D passes of the flow's networks, a
    density one. It needs zuko: `pip install 'seqvae[flows]'`.

    Args:
        family: `maf` (affine) or `nsf` (splines within +-5: richer densities, at several times the cost).
        transforms: number of transforms in sequence.
        hidden: units of each of the two layers of a transform's network.

    Source: Chen, Kingma, Salimans, Duan, Dhariwal, Schulman, Sutskever & Abbeel, Variational Lossy Autoencoder, 2017,
    https://arxiv.org/abs/1611.02731 (an autoregressive flow as the prior); the flows, Papamakarios, Pavlakou & Murray,
    Masked Autoregressive Flow for Density Estimation, 2017, https://arxiv.org/abs/1705.07057, and Durkan, Bekasov,
    Murray & Papamakarios, Neural Spline Flows, 2019, https://arxiv.org/abs/1906.04032.
    """

    def __init__(self, *, latent: int, family: Family = "maf", transforms: int = 3, hidden: int = 64) -> None:
        super().__init__()
        self.flow = build_flow(latent, family=family, transforms=transforms, hidden=hidden)

    def forward(self) -> Distribution:
        """Build p(z), batch () and event (D,), on the module's device and in its precision."""
        return FlowDistribution(self.flow)


class Vamp(Prior):
    """p(z) = 1/K sum_k q(z|u_k), the aggregate posterior of K pseudo-inputs u_k that are learnt with the model.

    A pseudo-input is `length` vectors in the space of embeddings, which the encoder reads as if they were embedded
    words (words themselves are discrete and cannot be learnt). Encoder and posterior are shared with the model, so that
    p follows them as they learn. Pseudo-inputs are encoded without dropout, and by a batch-norm posterior with its
    running statistics, which they leave unchanged: p is the same density in training and evaluation. The KL has no
    closed form and is estimated from the sample of z, as for `mixture`; free bits can only be per `total`.

    Where the model is conditioned on labels, each pseudo-input learns a vector in place of a label's embedding too, so
    that p is the same for all labels.

    Args:
        components: K, the number of pseudo-inputs; each costs about as much time as another sentence in the batch.
        length: L, the steps of each.

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
        # Initialized as the embeddings of words are, uniform within +-0.1.
        self.inputs = nn.Parameter(torch.empty(components, length, embedding).uniform_(-0.1, 0.1))
        label = features - encoder.features  # size of a label's embedding
        self.labels = nn.Parameter(nn.init.normal_(torch.empty(components, label))) if label else None

    def forward(self) -> Distribution:
        """Build p(z), batch () and event (D,), on the module's device; in single precision at least, as q is."""
        count, length, _ = self.inputs.shape
        lengths = torch.full((count,), length, device=self.inputs.device)
        # cuDNN has no backward pass for a recurrent network in evaluation mode; its switch is global to all threads.
        switch = torch.backends.cudnn.flags(enabled=False) if torch.is_grad_enabled() else nullcontext()
        with evaluation_mode(self.encoder), evaluation_mode(self.posterior), switch:
            h = self.encoder.encode_embeddings(self.inputs, lengths)
            q = self.posterior(h if self.labels is None else torch.cat([h, self.labels.to(h)], dim=1))
        weights = Categorical(logits=self.inputs.new_zeros(count), validate_args=False)
        return GaussianMixture(weights, q, validate_args=False)


PRIORS: dict[str, type[Prior]] = {
    "normal": StandardNormal,
    "gaussian": LearntGaussian,
    "mixture": Mixture,
    "flow": Flow,
    "sphere": Sphere,
    "vamp": Vamp,
}
