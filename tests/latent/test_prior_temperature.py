"""Samples of a prior at a temperature."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from seqvae.errors import ConfigError
from seqvae.latent.prior_temperature import has_temperature, sample_at_temperature
from seqvae.model.flows import FlowDistribution, build_flow
from seqvae.model.spheres import SphericalUniform
from seqvae.rng import Stream

N = 20_000
MEANS = torch.tensor([[-4.0, 0.0], [4.0, 0.0]])
SCALES = torch.tensor([[1.0, 2.0], [0.5, 0.25]])


def sample(p, temperature, n=N):
    with Stream(0):
        return sample_at_temperature(p, n, temperature)


def mixture():
    components = Independent(Normal(MEANS, SCALES), 1)
    return MixtureSameFamily(Categorical(torch.tensor([0.25, 0.75])), components)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_gaussian_keeps_its_mean_and_its_standard_deviation_is_multiplied(temperature):
    z = sample(Independent(Normal(MEANS[0], SCALES[0]), 1), temperature)
    torch.testing.assert_close(z.mean(0), MEANS[0], rtol=0, atol=6 * 2 * temperature / math.sqrt(N))
    torch.testing.assert_close(z.std(0), temperature * SCALES[0], rtol=0.03, atol=0)


def test_a_full_covariance_is_multiplied_by_the_square():
    covariance = torch.tensor([[2.0, 1.2], [1.2, 1.0]])
    z = sample(MultivariateNormal(torch.ones(2), covariance), 0.5)
    torch.testing.assert_close(z.T.cov(), 0.25 * covariance, rtol=0.05, atol=0.01)


def test_the_components_of_a_mixture_are_narrowed_each_and_come_as_often_as_before():
    z = sample(mixture(), 0.5)
    right = z[:, 0] > 0
    assert float(right.float().mean()) == pytest.approx(0.75, abs=0.015)
    for rows, mean, scale in ((~right, MEANS[0], SCALES[0]), (right, MEANS[1], SCALES[1])):
        torch.testing.assert_close(z[rows].mean(0), mean, rtol=0, atol=0.1)
        torch.testing.assert_close(z[rows].std(0), 0.5 * scale, rtol=0.05, atol=0)


def test_a_temperature_of_0_gives_means_and_of_1_what_the_prior_samples():
    assert all(any(torch.equal(row, mean) for mean in MEANS) for row in sample(mixture(), 0.0, 50))
    for p in (mixture(), SphericalUniform(torch.zeros(3))):
        with Stream(0):
            expected = p.sample((7,))
        assert torch.equal(sample(p, 1.0, 7), expected)


def test_a_flow_maps_less_noise():
    with Stream(1):
        p = FlowDistribution(build_flow(2))  # it starts as N(0, I)
    z = sample(p, 0.5).detach()
    torch.testing.assert_close(z.std(0), torch.full((2,), 0.5), rtol=0.03, atol=0)


@pytest.mark.parametrize(
    ("p", "temperature", "message"),
    [
        (mixture(), -0.1, "prior_temperature = -0.1: expected 0 or more"),
        (mixture(), math.nan, "expected 0 or more"),
        (mixture(), "1", "prior_temperature = '1': expected a number"),
        (SphericalUniform(torch.zeros(3)), 0.5, "prior_temperature = 0.5: expected 1, since SphericalUniform"),
    ],
)
def test_what_cannot_be_sampled_is_refused_in_a_line(p, temperature, message):
    with pytest.raises(ConfigError, match=message):
        sample(p, temperature, 3)


def test_what_has_a_temperature_is_what_can_be_sampled_at_one():
    assert has_temperature(mixture())
    assert not has_temperature(SphericalUniform(torch.zeros(3)))
    assert not has_temperature(torch.distributions.Independent(torch.distributions.StudentT(torch.full((3,), 4.0)), 1))
