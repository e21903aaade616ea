"""Bounds: a small trained model whose log p(x) is known by quadrature, and every estimate beside it.

The corpus is repeated in the set, so that a mean over its copies has a small standard error. Statistical tests
use fixed seeds; each states what it would take to fail by chance.
"""

import copy
import math
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from torch import Tensor

from seqvae.data.batch import END, Batch
from seqvae.errors import ConfigError
from seqvae.evaluation.evaluate import evaluate
from seqvae.evaluation.latent_space import bound_mutual_information
from seqvae.evaluation.likelihood import draw_prior, estimate_mixture_nll, hash_sentences, measure
from seqvae.model.decoders import RecurrentDecoder
from seqvae.model.encoders import RecurrentEncoder
from seqvae.model.noise import WordDropout
from seqvae.model.observations import Tokens
from seqvae.model.posteriors import DiagonalGaussian
from seqvae.model.priors import StandardNormal
from seqvae.model.vae import SequenceVAE
from seqvae.rng import Stream, keyed_normal

CORPUS = [[4, END], [5, 4, END], [6, 6, 6, END], [7, 5, END], [4, 7, 7, 5, END], [6, 4, END], [END], [5, 6, 7]]
COPIES = 200
DIMENSIONS = [1, 2]


@dataclass(frozen=True)
class Exact:
    """A trained model and, by quadrature in float64, what its estimates aim at; each (8,) nats."""

    model: SequenceVAE
    log_p: Tensor
    elbo: Tensor
    kl: Tensor
    information: float  # of a sentence drawn evenly from the corpus and its z


def train(latent):
    with Stream(0):
        observation = Tokens(vocabulary=8, embedding=8, features=16 + latent)
        encoder = RecurrentEncoder(embed=observation.embedding, embedding=8, hidden=16, dropout=0.0)
        model = SequenceVAE(
            latent=latent,
            encoder=encoder,
            posterior=DiagonalGaussian(features=encoder.features, latent=latent),
            prior=StandardNormal(latent=latent),
            decoder=RecurrentDecoder(embedding=8, latent=latent, hidden=16, dropout=0.0),
            observation=observation,
            noise=WordDropout(rate=0.6),
        ).double()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        batch = Batch.of(CORPUS).repeat(2)
        for _ in range(180):
            trace = model(batch)
            optimizer.zero_grad()
            (trace.reconstruction + trace.kl).mean().backward()
            optimizer.step()
    return model.eval()


@cache
def exact(latent) -> Exact:
    """The trapezoidal rule on [-9, 9]^D, which errs by less than 10^-8 for a smooth integrand that vanishes there."""
    model, points = train(latent), {1: 2_001, 2: 161}[latent]
    axis = torch.linspace(-9, 9, points, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * latent).view(-1, latent)
    cell = latent * math.log(18 / (points - 1))
    with torch.no_grad():
        q, p = model.encode(Batch.of(CORPUS)), model.prior()
        log_prob = torch.stack([model.log_prob(Batch.of([ids]).repeat(len(grid)), grid).sum(1) for ids in CORPUS])
        log_q = q.log_prob(grid[:, None]).T  # (8, G)
        log_prior = p.log_prob(grid)
        log_p = (log_prob + log_prior + cell).logsumexp(1)
        kl = (log_q.exp() * (log_q - log_prior)).sum(1) * math.exp(cell)
        reconstruction = (log_q.exp() * log_prob).sum(1) * math.exp(cell)
        aggregate = log_q.logsumexp(0) - math.log(len(CORPUS))
        information = float((log_q.exp() * (log_q - aggregate)).sum() * math.exp(cell)) / len(CORPUS)
        assert torch.allclose((log_q + cell).logsumexp(1).exp(), torch.ones(8).double(), atol=1e-6)
    return Exact(model, log_p, reconstruction - kl, kl, information)


def copies(count):
    """The corpus `count` times, each copy of a sentence with a label of its own, which gives it its own draws."""
    for places in torch.arange(8 * count).split(8 * 50):
        yield places, replace(Batch.of(CORPUS * (len(places) // 8)), labels=places // 8)


def estimates(model, samples, count):
    """(count, 8) importance-weighted estimates of log p(x)."""
    return -measure(model, copies(count), samples=samples).nll.view(count, 8)


@pytest.mark.parametrize("latent", DIMENSIONS)
def test_the_small_model_uses_its_latent_space_and_its_posterior_is_not_exact(latent):
    truth = exact(latent)
    assert truth.kl.mean() > 0.5
    assert (truth.log_p - truth.elbo).mean() > 0.05  # else the bounds below would be ordered by accident
    assert -truth.log_p.mean() < 8 * math.log(8)


@pytest.mark.parametrize("latent", DIMENSIONS)
def test_the_bound_is_that_of_quadrature(latent):
    # 6 standard errors of 200 x 50 draws: 2 of 10^9 seeds for each of 8 sentences.
    truth = exact(latent)
    table = measure(truth.model, copies(COPIES), samples=50)
    assert torch.allclose(table.kl.view(COPIES, 8), truth.kl.expand(COPIES, 8), rtol=0, atol=1e-6)
    elbo = -(table.reconstruction + table.kl).view(COPIES, 8)
    assert ((elbo.mean(0) - truth.elbo).abs() < 6 * elbo.std(0) / COPIES**0.5 + 1e-6).all()


@pytest.mark.parametrize("latent", DIMENSIONS)
def test_more_draws_give_tighter_bounds_and_none_passes_log_p(latent):
    # Means over copies; a bound passes the one above by chance only if it errs by 5 standard errors: 3 of 10^7.
    truth = exact(latent)
    bounds = [estimates(truth.model, samples, count).mean(1) for samples, count in ((5, 4 * COPIES), (50, COPIES))]
    means = [truth.elbo.mean(), *(bound.mean() for bound in bounds), truth.log_p.mean()]
    errors = [0.0, *(float(bound.std()) / len(bound) ** 0.5 for bound in bounds), 0.0]
    for below, above, error, other in zip(means, means[1:], errors, errors[1:], strict=False):
        assert below <= above + 5 * math.hypot(error, other)
    assert means[0] < means[1] - 5 * errors[1]  # and the first steps are real ones
    assert means[1] < means[2] - 5 * math.hypot(*errors[1:3])


@pytest.mark.parametrize("latent", DIMENSIONS)
def test_five_thousand_draws_come_within_a_hundredth_of_a_nat_of_log_p(latent):
    # The mean of 24 estimates that err by about 0.01 each: 0.01 is 5 standard errors, 6 of 10^7 by chance.
    truth = exact(latent)
    errors = estimates(truth.model, 5_000, 3) - truth.log_p
    assert abs(float(errors.mean())) < 0.01
    assert (errors.mean(0).abs() < 0.05).all()


@pytest.mark.parametrize("latent", DIMENSIONS)
def test_one_draw_is_the_elbo_in_expectation(latent):
    # 6 standard errors: 2 of 10^9 seeds for each of 8 sentences.
    truth = exact(latent)
    single = estimates(truth.model, 1, 4 * COPIES)
    assert ((single.mean(0) - truth.elbo).abs() < 6 * single.std(0) / (4 * COPIES) ** 0.5).all()


@pytest.mark.parametrize("latent", DIMENSIONS)
def test_the_bracket_of_mutual_information_holds_that_of_quadrature(latent):
    # Each of the 8 posteriors is repeated 200 times in the mixture, so both ends are close to the truth; tolerance: 5
    # standard errors of log q_agg - log p over 1,600 draws, at most 0.1 nats.
    truth = exact(latent)
    table = measure(truth.model, copies(COPIES), samples=1)
    with torch.no_grad():
        q = truth.model.encode(Batch.of(CORPUS * COPIES))
        found, _ = bound_mutual_information(q, table.z, table.kl)
    lower, upper = found.lower, found.upper
    assert lower <= upper <= float(truth.kl.mean()) + 1e-6
    assert abs(lower - truth.information) < 0.1
    assert abs(upper - truth.information) < 0.1
    assert upper - lower < 0.02


@pytest.mark.parametrize("latent", DIMENSIONS)
def test_the_scores_of_the_trained_model_stand_in_order(latent):
    truth = exact(latent)
    found = evaluate(truth.model, copies(25), words=25 * 17, bytes=25 * 40, samples=200)
    assert found.elbo < -found.nll < float(truth.log_p.mean()) + 0.02
    assert -found.nll == pytest.approx(float(truth.log_p.mean()), abs=0.02)
    assert found.mutual_information_lower <= found.mutual_information_upper <= found.kl
    assert found.mutual_information_upper <= math.log(8) + 0.2
    assert 1 <= found.active_units <= latent
    assert found.permuted_nll_increase > 0.3


# The mixture of q and p as a proposal


def misplaced(model, latent):
    """The same model with a posterior that is too narrow and lies elsewhere; log p(x) does not know of it."""
    poor = copy.deepcopy(model)
    poor.posterior.linear.bias.data[:latent] += 2.5
    poor.posterior.linear.bias.data[latent:] -= 4
    return poor


@pytest.mark.parametrize("latent", DIMENSIONS)
def test_the_mixture_finds_log_p_even_where_q_misses_it(latent):
    # Each of 8 sentences within 6 standard errors of 20 estimates (some of 10^6 seeds: their error is estimated
    # too) and a bias below 0.05 (half the variance of the estimates).
    truth = exact(latent)
    poor = misplaced(truth.model, latent)
    for model in (truth.model, poor):
        error = -estimate_mixture_nll(model, copies(20), samples=300).view(20, 8) - truth.log_p
        assert (error.mean(0).abs() < 6 * error.std(0) / 20**0.5 + 0.05).all()
        assert float(error.std()) < 0.3
    assert float((estimates(poor, 300, 5) - truth.log_p).mean()) < -0.5


@pytest.mark.parametrize("latent", DIMENSIONS)
def test_the_gain_of_the_mixture_tells_a_poor_posterior_from_a_good_one(latent):
    # The draws of the prior are noise of about 0.01; a poor posterior loses more than half a nat.
    truth = exact(latent)
    good, poor = (
        evaluate(model, copies(25), words=1, bytes=1, samples=100)
        for model in (truth.model, misplaced(truth.model, latent))
    )
    assert abs(good.mixture_gain) < 0.05
    assert poor.mixture_gain > max(0.5, 5 * poor.mixture_gain_standard_error)
    assert poor.effective_sample_size < good.effective_sample_size


@pytest.mark.parametrize("samples", [2, 5])
def test_each_sentence_of_the_mixture_scores_what_an_explicit_loop_gives(samples):
    model, index = exact(2).model, torch.tensor([3, 1])
    found = estimate_mixture_nll(model, [(index, Batch.of([CORPUS[3], CORPUS[1]]))], samples=samples, seed=4)
    for row, place in enumerate((1, 3)):  # in the order of the corpus
        batch, near, p = Batch.of([CORPUS[place]]), samples - samples // 2, model.prior()
        with torch.no_grad():
            q = model.encode(batch)
            noise = keyed_normal(4, hash_sentences(batch), near, 2)[0]
            points = [q.mean + q.stddev * draw for draw in noise]
            points += draw_prior(p, hash_sentences(batch), samples // 2, 4)[0][:, None].unbind()
            weights = []
            for z in points:
                prior, posterior = float(p.log_prob(z).exp()), float(q.log_prob(z).exp())
                proposal = near / samples * posterior + (1 - near / samples) * prior
                weights.append(math.exp(float(model.log_prob(batch, z).sum())) * prior / proposal)
        assert float(found[row]) == pytest.approx(-math.log(sum(weights) / samples), abs=1e-10)


def test_a_mixture_needs_a_draw_of_each():
    with pytest.raises(ConfigError, match="at least 2 samples, got 1"):
        estimate_mixture_nll(exact(1).model, copies(1), samples=1)
