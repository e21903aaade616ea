"""Distances: squared Wasserstein of each posterior from the prior; sliced Wasserstein and MMD of all posteriors."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import normalize

from seqvae.errors import ConfigError, check_size
from seqvae.model.distributions import get_gaussian_parameters
from seqvae.model.vae import Trace
from seqvae.objective.term import Term, refuse_weights


class Wasserstein(Term):
    """W^2(q(z|x), p) = ||m1 - m2||^2 + ||s1 - s2||^2 of two diagonal Gaussians, for each sentence by itself.

    A squared distance, not nats. Unlike the KL (half as large for the same shift) it has no -log s1, so that a small
    variance of q costs at most that of the prior, and a q of variance 0 is allowed.

    Source: Dowson & Landau, The Fréchet Distance between Multivariate Normal Distributions, 1982,
    https://doi.org/10.1016/0047-259X(82)90077-X.
    """

    kl_weight = 0.0

    def forward(self, trace: Trace) -> Tensor:
        """Return (B,) squared distances.

        Raises:
            ConfigError: if posterior or prior is not a diagonal Gaussian.
        """
        for place, distribution, usual in (("posterior", trace.q, "gaussian"), ("prior", trace.p, "normal")):
            if get_gaussian_parameters(distribution) is None:
                raise ConfigError(
                    f"objective.divergence = wasserstein needs diagonal Gaussians, and model.{place} gives another "
                    f"distribution: write --model.{place}.name {usual}, or --objective.divergence.name "
                    "sliced-wasserstein, which needs samples only"
                )
        shift, scaling = trace.q.mean - trace.p.mean, trace.q.stddev - trace.p.stddev
        return shift.square().sum(1) + scaling.square().sum(1)


def sample_from(p: Distribution, samples: int) -> Tensor:
    """Draw (S, D) from p, with a gradient to a learnt prior where torch has one (not to a mixture)."""
    return p.rsample((samples,)) if p.has_rsample else p.sample((samples,))


class SlicedWasserstein(Term):
    """scale * SW^2(q_agg, p): the z of the batch against as many samples of the prior, along random directions.

    As with `mmd`, it is of the aggregate posterior, nothing keeps q(z|x) from shrinking to a point, every row has the
    value of the batch, and the unit is a squared distance, not nats. A shift of all z by m costs scale * ||m||^2 / D.
    Two samples of the same distribution have a distance too, which falls with the batch size.

    Args:
        directions: L, the number of directions drawn for each batch, uniformly from the sphere.
        scale: factor of the squared distance, to make it comparable to the nats of the reconstruction.

    Source: Kolouri et al., Sliced-Wasserstein Autoencoder: An Embarrassingly Simple Generative Model, 2018,
    https://arxiv.org/abs/1804.01947.
    """

    kl_weight = 0.0

    def __init__(self, *, directions: int = 50, scale: float = 10.0) -> None:
        super().__init__()
        check_size(directions=directions)
        if not 0 < scale < float("inf"):
            raise ConfigError(f"divergence option scale = {scale}: expected a number above 0")
        self.directions, self.scale = directions, scale

    def forward(self, trace: Trace) -> Tensor:
        """Return (B,) squared distances, the value of the batch on every row.

        Raises:
            ConfigError: if sentences have weights.
        """
        refuse_weights(trace.weights, "divergence", "sliced-wasserstein", "wasserstein")
        sentences, dimensions = trace.z.shape
        directions = torch.randn(self.directions, dimensions, dtype=trace.z.dtype, device=trace.z.device)
        directions = normalize(directions, dim=1)
        return (self.scale * sliced_wasserstein(trace.z, sample_from(trace.p, sentences), directions)).expand(sentences)


def sliced_wasserstein(x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
    """Return the squared 2-Wasserstein distance of two samples along each of some directions, averaged over these.

    mean_l mean_i (sort(x theta_l)_i - sort(y theta_l)_i)^2, exact in one dimension.

    Args:
        x: (N, D).
        y: (N, D), as many.
        directions: (L, D) unit vectors.

    >>> sliced_wasserstein(torch.tensor([[0.0], [5.0]]), torch.tensor([[6.0], [2.0]]), torch.ones(1, 1))
    tensor(2.5000)
    """
    x, y = ((points @ directions.T).sort(dim=0).values for points in (x, y))  # (N, L)
    return (x - y).square().mean()


class MMD(Term):
    """scale * MMD^2(q_agg, p): the z of the batch against as many samples of the prior.

    Only the aggregate posterior has to match the prior, so that sentences may stay apart (WAE). The value is not in
    nats, and every row has that of the batch. Its noise falls with the batch size; a batch of one sentence has no
    pairs, and gives 0. Nothing keeps q(z|x) from shrinking to a point, where the KL, and with it the bound that is
    reported, has no limit; so the best model is the one that reconstructs the validation sentences best.

    Args:
        kernel: `imq`: sum_s C_s / (C_s + ||x - y||^2), C_s = 2 D s, s from 0.1 to 10, as in the authors' code.
            `rbf`: exp(-||x - y||^2 / (2 D)). Both are made for a prior of variance 1.
        scale: factor of MMD^2, to make it comparable to the nats of the reconstruction.

    Source: Tolstikhin et al., Wasserstein Auto-Encoders, 2018, https://arxiv.org/abs/1711.01558, algorithm 2.
    """

    kl_weight = 0.0

    def __init__(self, *, kernel: Literal["imq", "rbf"] = "imq", scale: float = 100.0) -> None:
        super().__init__()
        if not 0 < scale < float("inf"):
            raise ConfigError(f"divergence option scale = {scale}: expected a number above 0")
        self.kernel, self.scale = kernel, scale

    def forward(self, trace: Trace) -> Tensor:
        """Return (B,) without unit, the value of the batch on every row; it may be slightly below 0.

        Raises:
            ConfigError: if sentences have weights.
        """
        refuse_weights(trace.weights, "divergence", "mmd", "kl")
        sentences = len(trace.z)
        if sentences < 2:
            return trace.z.new_zeros(sentences)
        value = mmd_squared(trace.z, sample_from(trace.p, sentences), KERNELS[self.kernel])
        return (self.scale * value).expand(sentences)


SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def inverse_multiquadratic(squares: Tensor, dimensions: int) -> Tensor:
    """Return sum_s C_s / (C_s + ||x - y||^2), C_s = 2 D s for s in .1, .2, .5, 1, 2, 5, 10; elementwise, up to 7.

    Two samples of N(0, I) have a mean squared distance of 2 D; the heavy tail has a gradient far beyond.
    """
    return torch.stack([2 * dimensions * s / (2 * dimensions * s + squares) for s in SCALES]).sum(0)


def radial_basis(squares: Tensor, dimensions: int) -> Tensor:
    """Return exp(-||x - y||^2 / (2 D)), elementwise, up to 1."""
    return torch.exp(-squares / (2 * dimensions))


KERNELS: dict[str, Callable[[Tensor, int], Tensor]] = {"imq": inverse_multiquadratic, "rbf": radial_basis}


def mmd_squared(x: Tensor, y: Tensor, kernel: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Estimate MMD^2, without bias, from samples x (N, D) and y (M, D) of two distributions, N and M above 1.

    mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

    It has no unit; where the distributions are the same it is around 0, and so often below.

    Source: Gretton et al., A Kernel Two-Sample Test, 2012, https://jmlr.org/papers/v13/gretton12a.html, lemma 6.

    >>> x, y = torch.zeros(2, 1), torch.full((2, 1), 4.0)
    >>> mmd_squared(x, y, lambda squares, dimensions: 1 / (1 + squares))
    tensor(1.8824)
    """

    def k(a: Tensor, b: Tensor) -> Tensor:
        # By differences: |a|^2 + |b|^2 - 2ab loses the digits of points far from 0 and close together.
        # Not by cdist, which has no second derivative, as semi-amortized steps may need.
        return kernel((a[:, None] - b).square().sum(2), x.shape[1])

    def pairs(a: Tensor) -> Tensor:
        values = k(a, a)
        return (values.sum() - values.diagonal().sum()) / (len(a) * (len(a) - 1))

    return pairs(x) + pairs(y) - 2 * k(x, y).mean()


class Info(Term):
    """(1 - alpha) KL(q(z|x)||p(z)) + (alpha + lambda - 1) MMD^2(q_agg, p).

    With I(x; z) the mutual information, E KL(q(z|x)||p) = I(x; z) + KL(q_agg||p): alpha reduces the weight of the
    information, lambda sets that of KL(q_agg||p), as an MMD. alpha = 0, lambda = 1 is the plain KL. MMD^2 is that of
    `mmd` with a scale of 1: without unit, of the batch as a whole, 0 in a batch of one sentence. The best model is the
    one with the lowest reconstruction + (1 - alpha) KL of the validation sentences.

    Args:
        alpha: at most 1, which leaves nothing of the KL (see the warning at `mmd`); at 0.5 a decoder of text may still
            learn to ignore z.
        lam: lambda, at least 1 - alpha.
        kernel: `imq` or `rbf`, as for `mmd`.

    Source: Zhao et al., InfoVAE: Balancing Learning and Inference in Variational Autoencoders, 2019,
    https://arxiv.org/abs/1706.02262.
    """

    def __init__(self, *, alpha: float = 0.9, lam: float = 100.0, kernel: Literal["imq", "rbf"] = "imq") -> None:
        super().__init__()
        if not -float("inf") < alpha <= 1:
            raise ConfigError(f"divergence option alpha = {alpha}: expected at most 1, or the KL would be driven up")
        if not -1e-9 <= alpha + lam - 1 < float("inf"):  # 0.7 + 0.3 - 1 is not quite 0
            least = f"expected at least 1 - alpha = {1 - alpha:.6g}, or the MMD would be driven up"
            raise ConfigError(f"divergence option lam = {lam}: {least}")
        self.kl_weight, self.mmd_weight = 1 - alpha, max(0.0, alpha + lam - 1)
        self.mmd = MMD(kernel=kernel, scale=1.0)

    def forward(self, trace: Trace) -> Tensor:
        """Return (B,): the KL of each sentence in nats, plus the MMD of the batch on every row.

        Raises:
            ConfigError: if sentences have weights.
        """
        refuse_weights(trace.weights, "divergence", "info", "kl")
        value = self.mmd_weight * self.mmd(trace)
        return value + self.kl_weight * trace.kl if self.kl_weight else value  # 0 * inf would not be 0
