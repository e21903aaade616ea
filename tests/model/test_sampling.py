"""Sampling by the inverse of a cumulative distribution."""

import pytest
import torch

from seqvae.model.sampling import invert_cdf


def uniform(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("choices", [1, 7, 128, 129, 1000])
def test_the_choice_is_the_first_whose_cumulative_probability_exceeds_u(choices):
    p, u = uniform(500, choices, seed=1), uniform(500)
    cumulative = p.cumsum(1) / p.sum(1, keepdim=True)
    assert torch.equal(invert_cdf(p, u)[0], (cumulative <= u[:, None]).sum(1))


def test_what_remains_of_u_is_its_place_within_the_choice():
    p, u = uniform(500, 300, seed=1), uniform(500)
    choice, rest = invert_cdf(p, u)
    end = (p.cumsum(1) / p.sum(1, keepdim=True)).gather(1, choice[:, None])[:, 0]
    own = (p / p.sum(1, keepdim=True)).gather(1, choice[:, None])[:, 0]
    torch.testing.assert_close(end - own + rest * own, u, rtol=0, atol=1e-12)
    assert (rest >= 0).all() and (rest <= 1).all()


@pytest.mark.parametrize("u", [0.0, 0.5, 1 - 2**-53])
@pytest.mark.parametrize("choice", [0, 127, 128, 299])
def test_a_choice_of_probability_zero_is_never_made(u, choice):
    p = torch.zeros(1, 300).index_fill(1, torch.tensor([choice]), 1e-30)
    assert invert_cdf(p, torch.tensor([u], dtype=torch.float64))[0].tolist() == [choice]
