"""The aggregate posterior: fast paths against slow ones, and cases with a known answer."""

import math

import pytest
import torch
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from seqvae.evaluation import latent_space
from seqvae.evaluation.latent_space import aggregate_log_prob, bound_mutual_information, measure_holes


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
    monkeypatch.setattr(latent_space, "CELLS", cells)
    assert torch.allclose(aggregate_log_prob(q, z, own=own), expected, rtol=0, atol=1e-12)
    assert torch.allclose(aggregate_log_prob(Opaque(q), z, own=own), expected, rtol=0, atol=1e-12)


def test_narrow_far_posteriors_lose_no_digits_on_the_fast_path():
    mean = torch.tensor([[100.0, -50.0], [100.001, -50.0]], dtype=torch.float64)
    q = normal(mean, torch.full_like(mean, 1e-3))
    assert torch.allclose(aggregate_log_prob(q, mean), aggregate_log_prob(Opaque(q), mean), rtol=0, atol=1e-4)


def test_leaving_out_the_own_component_needs_as_many_points_as_components():
    q, z = posteriors(5, 2)
    with pytest.raises(ValueError, match="N = M >= 2"):
        aggregate_log_prob(q, z[:4], own=False)


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0, 5.0])
@pytest.mark.parametrize("count", [2, 50, 1_000])
def test_mutual_information_keeps_its_order_and_its_caps(spread, count):
    q, z = posteriors(count, 4, spread)
    kl = kl_divergence(q, prior(4))
    found, _ = bound_mutual_information(q, z, kl)
    lower, upper = found.lower, found.upper
    assert 0 <= lower <= upper <= float(kl.mean()) + 1e-12
    assert lower <= math.log(count)


def test_mutual_information_is_zero_without_information_and_log_n_with_distinct_sentences():
    count = 500
    same = normal(torch.zeros(count, 2).double(), torch.ones(count, 2).double())
    z = torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found, _ = bound_mutual_information(same, z, torch.zeros(count))
    assert (found.lower, found.upper) == (0.0, 0.0)
    # With a KL above 0 they hold none either: with the own component each bound is log q - log q_agg = 0 exactly.
    found, _ = bound_mutual_information(same, z, torch.ones(count))
    assert found.lower == pytest.approx(0.0, abs=1e-12) and found.upper == pytest.approx(0.0, abs=1e-12)
    # Far apart, log q_agg(z) = log q(z|x) - log N exactly, and the noise of log q(z|x) - log p(z) is all that is left:
    # 6 standard errors of it are passed by chance in 2 of 10^9 seeds (the seed is fixed).
    apart = normal(torch.arange(count)[:, None].double(), torch.full((count, 1), 1e-3).double())
    z = apart.sample()
    kl = kl_divergence(apart, prior(1))
    found, _ = bound_mutual_information(apart, z, kl)
    lower, upper = found.lower, found.upper
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
    found, _ = bound_mutual_information(q, z, kl)
    lower, upper = found.lower, found.upper
    truth = dimensions / 2 * math.log(4)
    assert lower - 0.05 <= truth <= upper + 0.05
    assert upper - lower < 0.1


def test_a_single_sentence_has_no_mutual_information():
    q, z = posteriors(1, 2)
    assert set(vars(bound_mutual_information(q, z, kl_divergence(q, prior(2)))[0]).values()) == {0.0}


# Holes


def test_there_are_no_holes_where_the_sentences_together_make_the_prior():
    z = torch.randn(100, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    same = normal(torch.zeros(7, 2).double(), torch.ones(7, 2).double())
    assert measure_holes(same, prior(2), z).abs().max() < 1e-12


def test_holes_of_one_shifted_sentence_are_half_the_squared_shift():
    # KL(N(0, 1) || N(2, 1)) = 2; log p - log q = 2 - 2z, so 20,000 draws err by 0.07 at 5 standard errors: 6 of 10^7.
    z = torch.randn(20_000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    depths = measure_holes(normal(torch.full((1, 1), 2.0).double(), torch.ones(1, 1).double()), prior(1), z)
    assert torch.allclose(depths, 2 - 2 * z[:, 0], rtol=0, atol=1e-12)
    assert float(depths.mean()) == pytest.approx(2, abs=5 * 2 / 20_000**0.5)


def test_without_dimensions_there_is_no_information_and_no_hole():
    q, p = normal(torch.zeros(5, 0), torch.ones(5, 0)), normal(torch.zeros(0), torch.ones(0))
    assert set(vars(bound_mutual_information(q, torch.zeros(5, 0), torch.zeros(5))[0]).values()) == {0.0}
    assert measure_holes(q, p, torch.zeros(3, 0)).abs().max() < 1e-12
