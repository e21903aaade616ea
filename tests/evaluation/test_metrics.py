"""Metrics: formulas against published pairs and cases solved by hand."""

import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal

from seqvae.evaluation.metrics import LogMeanExp, active_units, bits_per, per_token, perplexity, standard_error
from seqvae.model.distributions import get_gaussian_parameters

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


def test_uniform_bytes_take_eight_bits_each():
    assert bits_per(100 * math.log(256), 100) == pytest.approx(8.0)


# Active units


def test_active_units_count_the_dimensions_whose_means_vary_beyond_the_threshold():
    g = torch.Generator().manual_seed(0)
    means = torch.randn(5_000, 4, generator=g) * torch.tensor([0.02, 2.0, 0.3, 0.0]) + 7.0
    count, variances = active_units(means)
    assert count == 2
    assert variances.tolist() == sorted(variances.tolist(), reverse=True)
    assert torch.allclose(variances, torch.tensor([4.0, 0.09, 0.0004, 0.0]).double(), rtol=0.15)  # 0.02 is one sigma
    assert active_units(means, variance=torch.full((means.shape[1],), 1e-2))[0] == 3
    assert active_units(means[:1])[0] == 0
    count, variances = active_units(torch.zeros(5, 0))
    assert (count, variances.tolist()) == (0, [])


# Means and their errors


def test_standard_error_of_four_numbers():
    # 1, 1, 3, 3: variance (1 + 1 + 1 + 1) / 3, and half of its root.
    assert standard_error(torch.tensor([1, 1, 3, 3])) == pytest.approx((4 / 3) ** 0.5 / 2)


def test_nats_per_token_weigh_sentences_by_their_length():
    # 12 nats over 6 tokens; the residuals 2 - 2 * 2 and 10 - 2 * 4 are -2 and 2, the mean length 3.
    ratio, error = per_token(torch.tensor([2.0, 10.0]), torch.tensor([2, 4]))
    assert ratio == 2.0
    assert error == pytest.approx((8 / 2) ** 0.5 / 3)


def test_the_standard_error_per_token_is_the_spread_over_repetitions():
    # 4,000 sets of 50 sentences give a standard deviation to 1.1 %: 6 of these, and 3 % for the formula being linear.
    g = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 9, (4_000, 50), generator=g)
    nll = 2.5 * tokens + torch.randn(4_000, 50, generator=g) * tokens.sqrt()
    found = [per_token(*pair) for pair in zip(nll, tokens, strict=True)]
    ratios, errors = torch.tensor(found, dtype=torch.float64).T
    assert float(ratios.mean()) == pytest.approx(2.5, abs=6 * float(ratios.std()) / 4_000**0.5)
    assert float(errors.mean()) == pytest.approx(float(ratios.std()), rel=0.1)


def test_only_diagonal_gaussians_take_the_fast_path():
    assert get_gaussian_parameters(Independent(Normal(torch.zeros(3, 2), torch.ones(3, 2)), 1)) is not None
    assert get_gaussian_parameters(Normal(torch.zeros(3), torch.ones(3))) is None
    assert get_gaussian_parameters(MultivariateNormal(torch.zeros(3, 2), torch.eye(2))) is None


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
    with pytest.raises(ValueError, match="no samples"):
        LogMeanExp().value()


def weighed(*weights, chunk=100):
    mean = LogMeanExp()
    for part in torch.tensor([weights], dtype=torch.float64).log().split(chunk, dim=1):
        mean.add(part)
    return mean.effective_size().item()


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_effective_sample_size_of_weights_solved_by_hand(chunk):
    assert weighed(1, 3, chunk=chunk) == pytest.approx(1.6)  # 4^2 / (1 + 9)
    assert weighed(2, 2, 2, 2, chunk=chunk) == pytest.approx(4)
    assert weighed(0, 0, 5, 0, chunk=chunk) == pytest.approx(1)


def test_effective_sample_size_does_not_depend_on_the_scale_of_the_weights():
    mean = LogMeanExp()
    mean.add(torch.tensor([[-1e4, -1e4 + math.log(3)], [1e4, 1e4 + math.log(3)]], dtype=torch.float64))
    assert torch.allclose(mean.effective_size(), torch.full((2,), 1.6, dtype=torch.float64), rtol=0, atol=1e-9)
