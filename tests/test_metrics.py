"""Metrics: formulas against published pairs, slow versions and cases with a known answer."""

import math

import pytest
import torch
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

from seqvae import metrics
from seqvae.metrics import (
    LogMeanExp,
    active_units,
    aggregate_log_prob,
    bits_per_byte,
    gaussian,
    keyed_normal,
    mutual_information,
    perplexity,
)


class Opaque(Distribution):
    """A distribution of which nothing is known but its density."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, inner):
        self.inner = inner
        super().__init__(inner.batch_shape, inner.event_shape, validate_args=False)

    def log_prob(self, value):
        return self.inner.log_prob(value)


def normal(mean, scale):
    return Independent(Normal(mean, scale), 1)


def posteriors(count, dimensions, spread=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    mean = spread * torch.randn(count, dimensions, dtype=torch.float64, generator=g)
    scale = 0.2 + torch.rand(count, dimensions, dtype=torch.float64, generator=g)
    return normal(mean, scale), mean + scale * torch.randn(mean.shape, dtype=torch.float64, generator=g)


def prior(dimensions):
    return normal(torch.zeros(dimensions, dtype=torch.float64), torch.ones(dimensions, dtype=torch.float64))


# Perplexity and bits


@pytest.mark.parametrize(
    ("sentences", "targets", "nll", "published"),
    [
        (3_761, 82_430, 101.04, 100.47),  # PTB, LSTM language model: Li et al. 2020, arXiv:2004.04092, appendix
        (3_761, 82_430, 102.10, 105.48),  # PTB, LSTM VAE: Texar's examples/vae_text/README.md
        (3_761, 82_430, 101.48, 102.53),  # PTB, VAE with a Transformer decoder: the same
        (10_000, 798_670, 337.36, 68.31),  # Yahoo, LSTM VAE: the same
        (10_000, 798_670, 326.41, 59.56),  # Yahoo, VAE with a Transformer decoder: the same
    ],
)
def test_published_pairs_of_nll_and_perplexity_reproduce(sentences, targets, nll, published):
    # 21.917 targets per sentence on PTB and 79.867 on Yahoo: the words and one end each. The NLL is
    # published to 0.01, which moves PTB's perplexity by 0.03 %. Without ends (20.917) 100.47 would be 125, with the
    # start as well (22.917) it would be 82.
    assert perplexity(nll * sentences, targets) == pytest.approx(published, rel=3e-4)


def test_perplexity_of_a_hopeless_model_is_infinite_and_not_a_crash():
    assert perplexity(1e6, 10) == math.inf


def test_bits_per_byte_of_uniform_bytes_is_eight():
    assert bits_per_byte(100 * math.log(256), 100) == pytest.approx(8.0)


# Active units


def test_active_units_count_the_dimensions_whose_means_vary_beyond_the_threshold():
    g = torch.Generator().manual_seed(0)
    means = torch.randn(5_000, 4, generator=g) * torch.tensor([0.02, 2.0, 0.3, 0.0]) + 7.0
    count, variances = active_units(means)
    assert count == 2
    assert variances.tolist() == sorted(variances.tolist(), reverse=True)
    assert torch.allclose(variances, torch.tensor([4.0, 0.09, 0.0004, 0.0]).double(), rtol=0.15)  # 0.02 is one sigma
    assert active_units(means, threshold=1e-4)[0] == 3
    assert active_units(means[:1])[0] == 0


# Aggregate posterior and mutual information


def test_the_fast_path_of_the_aggregate_equals_every_density_summed_one_by_one():
    q, z = posteriors(30, 3)
    everyone = torch.stack([q.log_prob(point).exp().mean().log() for point in z])
    assert torch.allclose(aggregate_log_prob(q, z), everyone, rtol=0, atol=1e-12)
    others = [torch.cat([q.log_prob(z[n])[:n], q.log_prob(z[n])[n + 1 :]]).exp().mean().log() for n in range(30)]
    assert torch.allclose(aggregate_log_prob(q, z, own=False), torch.stack(others), rtol=0, atol=1e-12)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("cells", [1, 700, 10**9])
def test_blocks_and_the_path_taken_change_nothing(own, cells, monkeypatch):
    q, z = posteriors(45, 3)
    expected = aggregate_log_prob(q, z, own=own)
    monkeypatch.setattr(metrics, "CELLS", cells)
    assert torch.allclose(aggregate_log_prob(q, z, own=own), expected, rtol=0, atol=1e-12)
    assert torch.allclose(aggregate_log_prob(Opaque(q), z, own=own), expected, rtol=0, atol=1e-12)


def test_narrow_far_posteriors_lose_no_digits_on_the_fast_path():
    mean = torch.tensor([[100.0, -50.0], [100.001, -50.0]], dtype=torch.float64)
    q = normal(mean, torch.full_like(mean, 1e-3))
    assert torch.allclose(aggregate_log_prob(q, mean), aggregate_log_prob(Opaque(q), mean), rtol=0, atol=1e-4)


def test_only_diagonal_gaussians_take_the_fast_path():
    assert gaussian(posteriors(3, 2)[0]) is not None
    assert gaussian(Normal(torch.zeros(3), torch.ones(3))) is None
    assert gaussian(MultivariateNormal(torch.zeros(3, 2), torch.eye(2))) is None


def test_leaving_out_the_own_component_needs_as_many_points_as_components():
    q, z = posteriors(5, 2)
    with pytest.raises(ValueError, match="N = M >= 2"):
        aggregate_log_prob(q, z[:4], own=False)


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0, 5.0])
@pytest.mark.parametrize("count", [2, 50, 1_000])
def test_mutual_information_keeps_its_order_and_its_caps(spread, count):
    q, z = posteriors(count, 4, spread)
    kl = kl_divergence(q, prior(4))
    lower, upper = mutual_information(q, z, kl)
    assert 0 <= lower <= upper <= float(kl.mean()) + 1e-12
    assert lower <= math.log(count)


def test_mutual_information_is_zero_without_information_and_log_n_with_distinct_sentences():
    count = 500
    same = normal(torch.zeros(count, 2).double(), torch.ones(count, 2).double())
    z = torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert mutual_information(same, z, torch.zeros(count)) == (0.0, 0.0)
    # Far apart, log q_agg(z) = log q(z|x) - log N exactly, and the noise of log q(z|x) - log p(z) is all that is left:
    # 6 standard errors of it are passed by chance in 2 of 10^9 seeds (the seed is fixed).
    apart = normal(torch.arange(count)[:, None].double(), torch.full((count, 1), 1e-3).double())
    z = apart.sample()
    kl = kl_divergence(apart, prior(1))
    lower, upper = mutual_information(apart, z, kl)
    noise = 6 * float((apart.log_prob(z) - prior(1).log_prob(z) - kl).std()) / count**0.5
    assert math.log(count) - noise <= lower <= math.log(count)
    assert upper > 10 * lower


def test_the_bracket_contains_the_mutual_information_of_a_gaussian_channel():
    # z = mean + noise with mean ~ N(0, 0.75), noise ~ N(0, 0.25), so that q_agg = p and I = D/2 log(1/0.25) exactly.
    # Tolerance: 5 standard errors of log q_agg - log p over 4,000 draws, at most 0.05 nats; 6 of 10^7 seeds fail.
    g, count, dimensions = torch.Generator().manual_seed(0), 4_000, 3
    mean = 0.75**0.5 * torch.randn(count, dimensions, dtype=torch.float64, generator=g)
    q = normal(mean, torch.full_like(mean, 0.5))
    z = mean + 0.5 * torch.randn(mean.shape, dtype=torch.float64, generator=g)
    kl = kl_divergence(q, prior(dimensions))
    lower, upper = mutual_information(q, z, kl)
    truth = dimensions / 2 * math.log(4)
    assert lower - 0.05 <= truth <= upper + 0.05
    assert upper - lower < 0.1


def test_a_single_sentence_has_no_mutual_information():
    q, z = posteriors(1, 2)
    assert mutual_information(q, z, kl_divergence(q, prior(2))) == (0.0, 0.0)


# Running mean of weights


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_log_mean_exp_in_chunks_equals_all_at_once_without_overflow(chunk):
    values = torch.randn(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 30 - 1e4
    mean = LogMeanExp()
    for part in values.split(chunk, dim=1):
        mean.add(part)
    assert torch.allclose(mean.value(), values.logsumexp(1) - math.log(7), rtol=0, atol=1e-10)


def test_log_mean_exp_bears_weights_of_zero_and_refuses_to_average_nothing():
    mean = LogMeanExp()
    mean.add(torch.tensor([[-torch.inf, -torch.inf]]))
    mean.add(torch.tensor([[0.0, 0.0]]))
    assert mean.value().item() == pytest.approx(math.log(0.5))
    with pytest.raises(ValueError, match="no draws"):
        LogMeanExp().value()


# Keyed noise


def test_keyed_noise_depends_on_its_own_keys_alone():
    rows = torch.tensor([5, 0, 10**12, 7])
    noise = keyed_normal(3, rows, 6, 4)
    assert torch.equal(keyed_normal(3, rows[2:3], 6, 4), noise[2:3])
    assert torch.equal(keyed_normal(3, rows.flip(0), 2, 4), noise.flip(0)[:, :2])
    assert torch.equal(keyed_normal(3, rows, 6, 3), noise[..., :3])
    assert (keyed_normal(4, rows, 6, 4) != noise).all()
    assert noise.flatten().unique().numel() == noise.numel()


@pytest.mark.parametrize("seed", [0, 1, -1, 2**64 + 3])
def test_keyed_noise_is_standard_gaussian_and_uncorrelated_along_every_key(seed):
    # Each moment of 10^6 numbers within 6 standard errors: 2 of 10^9 by chance for each (the seeds are fixed).
    noise = keyed_normal(seed, torch.arange(500), 100, 20)
    near = 6 / noise.numel() ** 0.5
    assert abs(float(noise.mean())) < near
    assert abs(float((noise**2).mean()) - 1) < near * 2**0.5
    assert abs(float((noise**3).mean())) < near * 15**0.5
    assert abs(float((noise**4).mean()) - 3) < near * 96**0.5
    for axis in range(3):
        for lag in (1, 2, 7):
            product = noise.narrow(axis, lag, noise.shape[axis] - lag) * noise.narrow(axis, 0, noise.shape[axis] - lag)
            assert abs(float(product.mean())) < 6 / product.numel() ** 0.5
    assert abs(float((noise * keyed_normal(seed + 1, torch.arange(500), 100, 20)).mean())) < near
    assert noise.abs().max() < 7
