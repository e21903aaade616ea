"""Draws: each a function of its own keys, Gaussian, and those of the prior apart from those of the posterior."""

import pytest
import torch
from torch.distributions import Independent, Laplace, Normal

from seqvae.evaluation.likelihood import draw_prior
from seqvae.rng import Stream, keyed_normal


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


@pytest.mark.parametrize("family", [Normal, Laplace])
def test_draws_of_the_prior_depend_on_seed_and_place_alone_and_have_its_moments(family):
    # The mean and the standard deviation of 80,000 numbers within 6 standard errors of it: 2 of 10^9 seeds for each.
    p = Independent(family(torch.tensor([3.0, -1.0], dtype=torch.float64), torch.tensor([2.0, 0.5]).double()), 1)
    places, state = torch.arange(400), torch.get_rng_state()
    z = draw_prior(p, places, 100, 7)
    assert z.shape == (400, 100, 2)
    assert torch.equal(draw_prior(p, places[5:8], 100, 7), z[5:8])
    assert torch.equal(torch.get_rng_state(), state)
    assert (draw_prior(p, places, 100, 8) != z).all()
    flat = z.flatten(0, 1)
    assert ((flat.mean(0) - p.mean).abs() < 6 * p.stddev / 40_000**0.5).all()
    assert ((flat.std(0) / p.stddev - 1).abs() < 6 * 1.2 / 40_000**0.5).all()


def test_draws_of_the_prior_are_not_the_noise_of_the_posterior():
    p = Independent(Normal(torch.zeros(2).double(), torch.ones(2).double()), 1)
    assert (draw_prior(p, torch.arange(50), 10, 3) != keyed_normal(3, torch.arange(50), 10, 2)).all()


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1])
def test_a_stream_starts_where_torch_would_start_it(seed):
    torch.manual_seed(seed)
    expected = torch.rand(5), torch.randn(20)
    with Stream(seed):
        found = torch.rand(5), torch.randn(20)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
