"""A density of the aggregate posterior, fitted after training, to sample from in place of the prior.

Where q_agg(z) = 1/N sum_n q(z|x_n) does not cover the prior, samples of the prior fall into holes, where the decoder
was never trained. A density fitted to samples of q_agg has fewer, and measures for each sample how near sentences are.

Source: Dai & Wipf, Diagnosing and Enhancing VAE Models, 2019, arXiv:1903.05789 (a second VAE is fitted to samples of
q_agg); Ghosh et al., From Variational to Deterministic Autoencoders, 2020, arXiv:1903.12436 (ex-post density
estimation, with the full-covariance mixture of Gaussians that is used here by default).
"""

import copy
import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, MultivariateNormal

from seqvae.data.batch import Batch
from seqvae.errors import ConfigError, TrainingError, check_number, check_whole, choose
from seqvae.evaluation.latent_space import aggregate_log_prob
from seqvae.evaluation.metrics import standard_error
from seqvae.model.flows import FlowDistribution, build_flow
from seqvae.model.modes import evaluating
from seqvae.model.vae import SequenceVAE
from seqvae.rng import Stream, shift_seed

MAX_ITERATIONS = 300  # of a mixture
TOLERANCE = 1e-4  # nats per point: the fit of a mixture ends when an iteration gains less
MAX_EPOCHS = 100  # of a flow
PATIENCE = 8  # epochs of a flow without a better density of the validation points
BATCH_SIZE = 256  # points of a step of a flow


def fit_mixture(z: Tensor, components: int, *, seed: int = 0) -> MixtureSameFamily:
    """Fit a mixture of Gaussians with full covariances, sum_k w_k N(z; m_k, C_k), by variational Bayes.

    The prior of a covariance counts as D + 2 more points of each component with the covariance P = C K^(-2/D), C being
    that of all points: with the responsibilities r_nk and N_k = sum_n r_nk,

        m_k = sum_n r_nk z_n / N_k,
        C_k = (sum_n r_nk (z_n - m_k)(z_n - m_k)' + (D + 2) P) / (N_k + D + 2),

    so that none shrinks to a point, and the weights are (N_k + 1/K) / (N + 1). With K = 1 these are the mean and the
    covariance of the points. The density is that of these expected parameters.

    Args:
        z: (N, D) float64.
        components: K.
        seed: of the initial centres, chosen by k-means++.

    Returns:
        batch (), event (D,), float64.

    Source: Bishop, Pattern Recognition and Machine Learning, 2006, section 10.2, in scikit-learn's
    `BayesianGaussianMixture`; the scale of P as in Fraley & Raftery, Bayesian regularization for normal mixture
    estimation and model-based clustering, 2007.

    >>> points = torch.tensor([[-3.0], [-1.0], [1.0], [3.0]], dtype=torch.float64)
    >>> round(float(fit_mixture(points, 1).variance), 4)
    5.0
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import BayesianGaussianMixture

    count, size = z.shape
    covariance = (z - z.mean(0)).T @ (z - z.mean(0)) / count
    ridge = torch.eye(size, dtype=z.dtype) * (1e-9 * float(covariance.diagonal().mean()) + 1e-12)
    strength = size + 2
    mixture = BayesianGaussianMixture(
        n_components=components,
        degrees_of_freedom_prior=strength,
        covariance_prior=(strength * (components ** (-2 / size) * covariance + ridge)).numpy(),
        mean_precision_prior=1e-9,
        weight_concentration_prior_type="dirichlet_distribution",
        reg_covar=0.0,
        init_params="k-means++",
        tol=TOLERANCE * count,
        max_iter=MAX_ITERATIONS,
        random_state=seed % 2**32,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(z.numpy())
    weights, means, covariances = map(torch.as_tensor, (mixture.weights_, mixture.means_, mixture.covariances_))
    normals = MultivariateNormal(means, covariances, validate_args=False)
    return MixtureSameFamily(Categorical(weights, validate_args=False), normals, validate_args=False)


def fit_flow(z: Tensor, valid: Tensor, *, seed: int = 0) -> FlowDistribution:
    """Fit a neural spline flow by maximum likelihood, with early stopping on other points.

    It transforms y = L^-1 (z - m), m and L L' mean and covariance of the points, and starts as the identity: at first
    the density is the Gaussian N(m, L L'), and with early stopping it never ends at one that fits `valid` less well.
    AdamW, weight decay 0.01, learning rate 0.002, batches of 256; it ends after 8 epochs without a gain, or 100.

    Args:
        z: (N, D) float64, the points to fit.
        valid: (M, D) float64, points for early stopping, which are not fitted to.
        seed: of the weights and of the order of the points.

    Returns:
        batch (), event (D,), float64.

    Raises:
        ConfigError: if zuko is not installed.

    Source: of the flow, see `seqvae.model.flows.build_flow`.
    """
    mean, size = z.mean(0), z.shape[1]
    covariance = (z - mean).T @ (z - mean) / len(z)
    ridge = torch.eye(size, dtype=z.dtype) * (1e-6 * float(covariance.diagonal().mean()) + 1e-12)
    factor = torch.linalg.cholesky(covariance + ridge)
    train, held_out = (torch.linalg.solve_triangular(factor, (x - mean).T, upper=False).T.float() for x in (z, valid))
    with Stream(seed) as stream:
        flow = build_flow(size, family="nsf", transforms=2, hidden=64)
    best, best_state, epochs_since = -math.inf, copy.deepcopy(flow.state_dict()), 0
    optimizer = torch.optim.AdamW(flow.parameters(), lr=2e-3, weight_decay=0.01)
    for _ in range(MAX_EPOCHS):
        with torch.no_grad():
            log_prob = float(flow().log_prob(held_out).mean())
        if log_prob > best:
            best, best_state, epochs_since = log_prob, copy.deepcopy(flow.state_dict()), 0
        elif (epochs_since := epochs_since + 1) >= PATIENCE:
            break
        with torch.enable_grad():
            for rows in torch.randperm(len(train), generator=stream.generator()).split(BATCH_SIZE):
                optimizer.zero_grad()
                (-flow().log_prob(train[rows]).mean()).backward()
                torch.nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
                optimizer.step()
    flow.load_state_dict(best_state)
    return FlowDistribution(flow.double().requires_grad_(False), mean, factor)


MAX_COMPONENTS = 10  # of a mixture, if no number is given; then also ...
MIN_SENTENCES = 10  # ... this many sentences for each
MAX_SAMPLES = 10_000  # of q that a density is fitted to: several of each sentence if there are fewer sentences
HELD_OUT = 10  # every tenth sentence is held out to evaluate the density
VALID = 10  # every tenth of the others is held out for the early stopping of a flow
HOLE_SAMPLES = 1_000  # that holes are measured with
MIN_WIDTH = 1_000  # points sampled at a time
MAX_TRIES = 100  # times that as many are sampled

Density = Literal["gaussian", "mixture", "flow"]


@dataclass(frozen=True)
class ScoredSamples:
    """Samples of z, with the confidence in each.

    Attributes:
        z: (n, D) float64.
        log_prob: (n,) float64, log q_agg(z) of the fitted density, nats.
        quantile: (n,) float64, the fraction of samples of held-out sentences that are less likely than z.
    """

    z: Tensor
    log_prob: Tensor
    quantile: Tensor


@dataclass(frozen=True)
class AggregateDensity:
    """A density fitted to the aggregate posterior of many sentences.

    Attributes:
        density: batch (), event (D,), in float64 on the CPU.
        held_out: (M,) float64, ascending: its log density, nats, at samples of q of held-out sentences.
        gain: nats by which these are likelier under it than under the prior, KL(q_agg||p) - KL(q_agg||density). Below 0
            the prior is the better density.
        gain_standard_error: over the held-out sentences; None if there is only one.
        sentences: the number of sentences that it was fitted to.
        holes: KL(d||q_agg) = E_d[log d(z) - log q_agg(z)] of the density d, nats: about 0 if d = q_agg of these
            sentences and those held out, large where samples of d lie far from all of them.
        holes_standard_error: over the samples.
        holes_prior: the same of the prior, KL(p||q_agg).
        holes_prior_standard_error: over the samples.
    """

    density: Distribution
    held_out: Tensor
    gain: float
    gain_standard_error: float | None
    sentences: int
    holes: float = math.nan
    holes_standard_error: float = math.nan
    holes_prior: float = math.nan
    holes_prior_standard_error: float = math.nan

    def sample(self, n: int, *, seed: int | None = None, min_confidence: float = 0.0) -> ScoredSamples:
        """Draw `n` samples; with a seed the same ones each time, the global random state untouched.

        Args:
            n: the number of samples.
            seed: of the samples.
            min_confidence: from 0 to 1, a quantile of `held_out`: samples that are less likely are rejected.

        Raises:
            ConfigError: for a value out of range, or if too few samples are accepted.
        """
        check_whole(1, n=n)
        check_confidence(min_confidence)
        threshold = float(self.held_out.quantile(min_confidence)) if min_confidence else -math.inf
        width, accepted, missing = max(n, MIN_WIDTH), [], n
        with Stream(shift_seed(seed)):
            for _ in range(MAX_TRIES):
                z = self.density.sample((width,))
                accepted.append(z[self.density.log_prob(z) >= threshold][:missing])
                missing -= len(accepted[-1])
                if not missing:
                    break
        if missing:
            raise ConfigError(
                f"min_confidence {min_confidence}: only {n - missing:,} of {MAX_TRIES * width:,} samples are as "
                f"likely, expected {n:,}; write a smaller one"
            )
        z = torch.cat(accepted)
        log_prob = self.density.log_prob(z)
        below = torch.searchsorted(self.held_out, log_prob)
        return ScoredSamples(z, log_prob, below.double() / len(self.held_out))


def check_confidence(min_confidence: float) -> None:
    """Raise a `ConfigError` unless it is a quantile."""
    check_number(min_confidence=min_confidence)
    if not 0 <= min_confidence <= 1:
        raise ConfigError(f"min_confidence must lie between 0 (any sample) and 1, got {min_confidence}")


def fit_aggregate(
    model: SequenceVAE,
    batches: Iterable[Batch],
    *,
    density: Density = "mixture",
    components: int | None = None,
    seed: int = 0,
) -> AggregateDensity:
    """Fit a density to samples of q(z|x).

    Args:
        model: with a latent space.
        batches: two sentences or more; every tenth is held out.
        density: `gaussian`, with the mean and the covariance of the samples; `mixture` of such Gaussians; or `flow`, a
            neural spline flow, with early stopping on another tenth.
        components: of the mixture. None takes 10, or fewer where there are not 10 sentences for each.
        seed: of the samples and of the initial parameters.

    Raises:
        ConfigError: without a latent space or on a sphere, for more components than sentences, or without zuko.
        TrainingError: if a sample is not finite.
    """
    choose("density", density, get_args(Density))
    if components is not None:
        check_whole(1, components=components)
    if components is not None and density != "mixture":
        raise ConfigError(f"components = {components} with density {density}: only a mixture has components")
    if not model.latent:
        raise ConfigError("a model of kind lm has no latent space to fit a density to; train one of kind vae")
    if model.prior.spherical:
        raise ConfigError(
            "the latent space of this model is a sphere, to which no density can be fitted: sample from its prior"
        )
    device = next(model.parameters()).device
    stream = Stream(seed)
    with evaluating(model):
        hidden = [model.encode_features(batch.to(device)) for batch in batches]
        count = sum(len(h) for h in hidden)
        if count < 2:
            raise ConfigError(f"{count} sentences to fit a density to: expected 2 or more")
        q, p = model.posterior(torch.cat(hidden)), model.prior()
        with stream:
            samples = q.rsample((max(1, MAX_SAMPLES // count),))  # (S, N, D)
        if not samples.isfinite().all():
            raise TrainingError("samples of q(z|x) are not finite: the model has diverged or its weights are damaged")
        held_out = torch.arange(count) % HELD_OUT == min(HELD_OUT, count) - 1  # (N,), M of them
        log_prior = p.log_prob(samples[:, held_out.to(device)]).double().cpu()  # (S, M)
        samples = samples.double().cpu()
        fitted = _fit(samples[:, ~held_out], density, components, seed)
        log_prob = fitted.log_prob(samples[:, held_out])  # (S, M)
        gains = (log_prob - log_prior).mean(0)
        with stream:
            holes_prior, holes = (_sample_holes(q, d) for d in (p, fitted))
    return AggregateDensity(
        density=fitted,
        held_out=log_prob.flatten().sort().values,
        gain=float(gains.mean()),
        gain_standard_error=standard_error(gains) if len(gains) > 1 else None,
        sentences=count - int(held_out.sum()),
        holes=float(holes.mean()),
        holes_standard_error=standard_error(holes),
        holes_prior=float(holes_prior.mean()),
        holes_prior_standard_error=standard_error(holes_prior),
    )


def _fit(samples: Tensor, density: Density, components: int | None, seed: int) -> Distribution:
    """Fit the density to samples (S, N, D) of N sentences."""
    count = samples.shape[1]
    if density == "flow":
        valid = torch.arange(count) % VALID == min(VALID, count) - 1
        train = samples[:, ~valid] if count > 1 else samples
        return fit_flow(train.flatten(0, 1), samples[:, valid].flatten(0, 1), seed=seed)
    if components is None:
        components = 1 if density == "gaussian" else min(MAX_COMPONENTS, max(1, count // MIN_SENTENCES))
    if not 1 <= components <= count:
        raise ConfigError(f"components = {components}: expected 1 to {count}, the number of sentences fitted to")
    return fit_mixture(samples.flatten(0, 1), components, seed=seed)


def _sample_holes(q: Distribution, density: Distribution) -> Tensor:
    """Return log d(z) - log q_agg(z) at samples of the density d, (`HOLE_SAMPLES`,) float64, nats."""
    z = density.sample((HOLE_SAMPLES,))
    return density.log_prob(z).double().cpu() - aggregate_log_prob(q, z.to(q.mean)).cpu()
