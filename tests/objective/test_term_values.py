"""Values of the terms, solved by hand or in closed form."""

import math
from itertools import permutations

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from seqvae.errors import ConfigError
from seqvae.model.vae import Trace
from seqvae.objective import DIVERGENCES
from seqvae.objective.discrepancy import (
    KERNELS,
    MMD,
    Info,
    SlicedWasserstein,
    Wasserstein,
    mmd_squared,
    sliced_wasserstein,
)
from seqvae.objective.kl import KL
from seqvae.training.build import make


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def gaussian(mean, scale):
    return Independent(Normal(mean, torch.as_tensor(scale, dtype=torch.float64).expand_as(mean)), 1)


def trace_of(mean, scale=1.0, *, prior=None, prior_scale=1.0, z=None):
    """Return a trace of posteriors with these means (B, D); the prior is N(0, I) and z a sample of q unless given."""
    q = gaussian(mean, scale)
    p = gaussian(torch.zeros_like(mean[0]) if prior is None else prior, prior_scale)
    return Trace(batch=None, q=q, p=p, z=q.rsample() if z is None else z, log_prob=None)


def sample(n, d, mean=0.0):
    return mean + torch.randn(n, d, dtype=torch.float64)


# One unit Gaussian with mean m against N(0, 1) costs m^2 / 2: here 2 and 10 nats, 6 in the mean.
TWO = [[2.0, 0.0], [4.0, 2.0]]


# -- maximum mean discrepancy -----------------------------------------------------------------------------------------


def test_the_kernels_of_one_dimension_by_hand():
    squares = tensor([0.0, 1.0])
    imq = 1 / 6 + 2 / 7 + 1 / 2 + 2 / 3 + 4 / 5 + 10 / 11 + 20 / 21  # C = .2, .4, 1, 2, 4, 10, 20
    assert KERNELS["imq"](squares, 1).tolist() == pytest.approx([7.0, imq])
    assert KERNELS["rbf"](squares, 1).tolist() == pytest.approx([1.0, math.exp(-1 / 2)])


def test_in_more_dimensions_the_kernels_reach_further():
    # Two samples of N(0, I) have a mean squared distance of 2 D, at which the kernels are the same for every D.
    for kernel in KERNELS.values():
        assert float(kernel(tensor(2.0), 1)) == pytest.approx(float(kernel(tensor(64.0), 32)))


def test_the_discrepancy_of_two_pairs_by_hand():
    # Within each pair a distance of 2; across 1, 3, 1, 1; k = exp(-d^2 / 2).
    by_hand = 2 * math.exp(-2) - 2 * (3 * math.exp(-1 / 2) + math.exp(-9 / 2)) / 4
    x, y = tensor([[0.0], [2.0]]), tensor([[1.0], [3.0]])
    assert float(mmd_squared(x, y, KERNELS["rbf"])) == pytest.approx(by_hand)


@pytest.mark.parametrize("name", KERNELS)
def test_the_discrepancy_is_that_of_the_loops(name):
    torch.manual_seed(0)
    x, y, k = sample(4, 3), sample(6, 3, mean=1.0), KERNELS[name]

    def mean(pairs):
        values = [float(k((a - b).square().sum(), 3)) for a, b in pairs]
        return sum(values) / len(values)

    loops = mean(permutations(x, 2)) + mean(permutations(y, 2)) - 2 * mean((a, b) for a in x for b in y)
    assert float(mmd_squared(x, y, k)) == pytest.approx(loops)


@pytest.mark.parametrize("name", KERNELS)
def test_equal_points_have_a_finite_gradient(name):
    x = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    mmd_squared(x, torch.zeros(3, 2, dtype=torch.float64), KERNELS[name]).backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 2.0])
def test_the_estimate_is_unbiased(shift):
    # E k(x, y) of x ~ N(0, 1), y ~ N(m, 1) is exp(-m^2 / 6) / sqrt(3), so that MMD^2 = 2 (1 - exp(-m^2 / 6)) / sqrt(3).
    # 5 standard errors: a false alarm once in 1.7 million seeds for each shift; this seed is fixed.
    torch.manual_seed(0)
    values = torch.stack([mmd_squared(sample(8, 1), sample(8, 1, shift), KERNELS["rbf"]) for _ in range(2000)])
    exact = 2 * (1 - math.exp(-(shift**2) / 6)) / math.sqrt(3)
    assert abs(values.mean() - exact) < 5 * values.std() / len(values) ** 0.5


@pytest.mark.parametrize("name", KERNELS)
def test_the_discrepancy_from_the_prior_rises_with_the_shift(name):
    # With 500 samples each step is over 9 of its standard deviations (60 seeds): a false alarm is out of the question.
    torch.manual_seed(0)
    term = MMD(kernel=name, scale=1.0)
    values = [float(term(trace_of(torch.full((500, 2), shift).double()))[0]) for shift in (0.0, 1.0, 2.0, 4.0)]
    assert values == sorted(values) and values[1] > 0.05


def test_the_term_compares_samples_of_z_and_of_the_prior():
    # A prior that is a point at 1: k(0, 2) + k(1, 1) - 2 (k(0, 1) + k(2, 1)) / 2, k = exp(-d^2 / 2); times 3.
    z = tensor([[0.0], [2.0]])
    trace = trace_of(torch.full((2, 1), 9.0).double(), prior=tensor([1.0]), prior_scale=1e-12, z=z)
    by_hand = math.exp(-2) + 1 - 2 * math.exp(-1 / 2)
    assert MMD(kernel="rbf", scale=3.0)(trace).tolist() == pytest.approx([3 * by_hand] * 2)


@pytest.mark.parametrize("term", [MMD(), SlicedWasserstein()], ids=lambda term: type(term).__name__)
def test_a_learnt_prior_gets_a_gradient(term):
    torch.manual_seed(0)
    prior = torch.ones(2, dtype=torch.float64, requires_grad=True)
    term(trace_of(torch.zeros(5, 2).double(), prior=prior)).mean().backward()
    assert (prior.grad > 0).all()  # from 1 towards the z around 0


@pytest.mark.parametrize("term", [MMD(), SlicedWasserstein()], ids=lambda term: type(term).__name__)
def test_a_prior_without_reparameterized_samples_works_too(term):
    mean = torch.zeros(5, 2, dtype=torch.float64, requires_grad=True)
    components = Independent(Normal(tensor([[0.0, 0.0], [3.0, 3.0]]), tensor(1.0)), 1)
    mixture = MixtureSameFamily(Categorical(logits=torch.zeros(2, dtype=torch.float64)), components)
    q = gaussian(mean, 1.0)
    term(Trace(batch=None, q=q, p=mixture, z=q.rsample(), log_prob=None)).mean().backward()
    assert mean.grad.isfinite().all() and mean.grad.any()


# -- InfoVAE ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "lam", "kl", "mmd"),
    [(0.0, 1.0, 1.0, 0.0), (1.0, 7.0, 0.0, 7.0), (0.25, 10.0, 0.75, 9.25), (-1.0, 3.0, 2.0, 1.0), (0.7, 0.3, 0.3, 0.0)],
)
def test_the_mixture_has_the_weights_of_the_paper(alpha, lam, kl, mmd):
    z = tensor([[0.0, 0.0], [2.0, 0.0]])
    trace = trace_of(tensor(TWO), z=z)

    def value(term):
        torch.manual_seed(0)
        return term(trace)

    expected = kl * value(KL()) + mmd * value(MMD(kernel="rbf", scale=1.0))
    torch.testing.assert_close(value(Info(alpha=alpha, lam=lam, kernel="rbf")), expected)


def test_without_the_kl_an_infinite_one_does_no_harm():
    trace = trace_of(tensor([[1e200, 0.0]] * 3), z=torch.zeros(3, 2, dtype=torch.float64))
    assert trace.kl.isinf().all() and Info(alpha=1.0)(trace).isfinite().all()


# -- Wasserstein ------------------------------------------------------------------------------------------------------


def test_two_gaussians_by_hand():
    # Means 3 and 4 away, standard deviations 2 and 0.5 against 1: 9 + 16 + 1 + 0.25; the second is the prior itself.
    trace = trace_of(tensor([[3.0, 4.0], [0.0, 0.0]]), tensor([[2.0, 0.5], [1.0, 1.0]]))
    assert Wasserstein()(trace).tolist() == pytest.approx([26.25, 0.0])
    elsewhere = trace_of(tensor([[3.0, 4.0]]), 2.0, prior=tensor([1.0, 5.0]), prior_scale=tensor([2.0, 5.0]))
    assert Wasserstein()(elsewhere).tolist() == pytest.approx([4 + 1 + 0 + 9])


def test_the_distance_of_two_gaussians_is_that_of_their_quantiles():
    # In one dimension the optimal transport maps quantile to quantile: W^2 is the mean square of their difference.
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    quantiles = Normal(tensor(1.5), tensor(0.4)).icdf(u) - Normal(tensor(0.0), tensor(1.0)).icdf(u)
    value = Wasserstein()(trace_of(tensor([[1.5]]), 0.4))
    assert float(value) == pytest.approx(float(quantiles.square().mean()), rel=1e-4)


def test_other_than_diagonal_gaussians_are_refused_by_their_place():
    trace = trace_of(tensor(TWO))
    full = torch.distributions.MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
    with pytest.raises(ConfigError, match=r"model\.prior.*sliced-wasserstein"):
        Wasserstein()(Trace(batch=None, q=trace.q, p=full, z=trace.z, log_prob=None))


def test_on_the_line_the_sliced_distance_is_the_best_of_all_pairings():
    torch.manual_seed(0)
    x, y = sample(6, 1), sample(6, 1, mean=0.5)
    best = min(float((x[list(order)] - y).square().mean()) for order in permutations(range(6)))
    for direction in (1.0, -1.0):
        assert float(sliced_wasserstein(x, y, tensor([[direction]]))) == pytest.approx(best)


def test_along_the_axes_the_sliced_distance_is_the_mean_of_theirs():
    # Along the first axis {0, 5} against {2, 6}: (4 + 1) / 2; along the second {1, 1} against {1, 4}: 9 / 2.
    x, y = tensor([[0.0, 1.0], [5.0, 1.0]]), tensor([[6.0, 4.0], [2.0, 1.0]])
    assert float(sliced_wasserstein(x, y, torch.eye(2).double())) == pytest.approx((2.5 + 4.5) / 2)


def test_on_the_line_the_term_is_the_exact_distance():
    z = tensor([[0.0], [2.0], [7.0]])  # from a prior that is a point at 1: (1 + 1 + 36) / 3
    trace = trace_of(torch.zeros(3, 1).double(), prior=tensor([1.0]), prior_scale=1e-12, z=z)
    assert SlicedWasserstein(directions=3, scale=2.0)(trace).tolist() == pytest.approx([2 * 38 / 3] * 3)


def test_a_shift_costs_its_square_over_the_dimensions():
    # Of a shift m each direction sees (m theta)^2, ||m||^2 / D in the mean, with a variance below 2 (||m||^2 / D)^2.
    # 5 standard errors: a false alarm less than once in 1.7 million seeds; this seed is fixed.
    torch.manual_seed(0)
    trace = trace_of(tensor([[3.0, 4.0, 0.0, 0.0]]), prior_scale=1e-12, z=tensor([[3.0, 4.0, 0.0, 0.0]]))
    expected, directions = 25 / 4, 20_000
    value = float(SlicedWasserstein(directions=directions, scale=1.0)(trace))
    assert abs(value - expected) < 5 * math.sqrt(2 / directions) * expected


# -- all of them ------------------------------------------------------------------------------------------------------


# The minimum rate keeps a distance; a discriminator has to learn too (tests/objective/test_term_parts.py).
@pytest.mark.parametrize("name", sorted(DIVERGENCES.keys() - {"minimum-rate", "adversarial"}))
def test_minimizing_a_divergence_brings_z_to_the_prior(name):
    # One Gaussian for all sentences, first N(3, 0.3^2): afterwards its moments are those of N(0, 1), within 0.25.
    torch.manual_seed(0)
    term = make("objective.divergence", {"name": name}, latent=2, sentences=128)
    mean, log_scale = (torch.full((2,), v, dtype=torch.float64, requires_grad=True) for v in (3.0, math.log(0.3)))
    optimizer = torch.optim.Adam([mean, log_scale], lr=0.03)
    for _ in range(400):
        optimizer.zero_grad()
        term(trace_of(mean.expand(128, 2), log_scale.exp().expand(128, 2))).mean().backward()
        optimizer.step()
    assert mean.abs().max() < 0.25 and log_scale.abs().max() < 0.25


@pytest.mark.parametrize(
    ("term", "option", "value"),
    [
        (MMD, "scale", 0.0),
        (MMD, "scale", math.nan),
        (SlicedWasserstein, "scale", -1.0),
        (SlicedWasserstein, "directions", 0),
        (Info, "alpha", 1.5),
        (Info, "lam", 0.05),
        (KL, "free_bits", math.nan),
    ],
)
def test_an_option_out_of_its_range_is_refused_by_its_name(term, option, value):
    with pytest.raises(ConfigError, match=rf"{option} = .*expected"):
        term(**{option: value})
