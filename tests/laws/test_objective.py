"""Laws of the objective: what is minimized and what is reported are never the same variable."""

import dataclasses
import math
from itertools import product

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from seqvae.config import Config
from seqvae.objective import AUXILIARIES, DIVERGENCES
from seqvae.objective.kl import KL
from seqvae.objective.objective import Objective
from seqvae.objective.term import Reconstruction
from seqvae.schedules import SCHEDULES, Constant
from seqvae.training.build import build_objective

FREE_BITS = [{"name": "kl", "free_bits": 9.0, "free_bits_per": per} for per in ("total", "dimension", "batch")]
DIVERGENCE_CASES = [*({"name": name} for name in DIVERGENCES), *FREE_BITS]
WEIGHTS = [{"name": name} for name in SCHEDULES]
SIZES = {"vocabulary": 11, "sentences": 100}


def objective_of(divergence, weight, auxiliary="none"):
    parts = {"divergence": divergence, "weight": weight, "auxiliary": {"name": auxiliary}}
    config = Config.from_dict({"model": {"latent": 3}, "objective": parts})
    return build_objective(config, **SIZES).double()


@pytest.fixture
def trace(small_model, random_batch):
    torch.manual_seed(0)
    return small_model()(random_batch())


def bound(trace):
    """-ELBO of the batch, term by term: E[-log p(x|z)] and KL from torch's own Gaussian pair."""
    q = Independent(Normal(trace.q.mean, trace.q.stddev), 1)
    p = Independent(Normal(torch.zeros(3).double(), torch.ones(3).double()), 1)
    values = [-sum(trace.log_prob[row, :n].tolist()) for row, n in enumerate(trace.batch.lengths.tolist())]
    return sum(values) / len(values), kl_divergence(q, p).mean().item()


def test_at_weight_one_the_loss_is_the_negative_bound(trace):
    loss, report = objective_of({"name": "kl"}, {"name": "constant", "end": 1.0})(trace, 0)
    assert loss.item() == pytest.approx(sum(bound(trace)), abs=1e-10)
    assert report.elbo == pytest.approx(-loss.item(), abs=1e-10)


@pytest.mark.parametrize("divergence", DIVERGENCE_CASES, ids=str)
def test_the_report_is_raw_under_every_objective(divergence, trace):
    reconstruction, kl = bound(trace)
    for weight, step in product(WEIGHTS, [0, 700, 10**6]):
        _, report = objective_of(divergence, weight)(trace, step)
        assert report.reconstruction == pytest.approx(reconstruction, abs=1e-10)
        assert report.kl == pytest.approx(kl, abs=1e-10)


@pytest.mark.parametrize("divergence", DIVERGENCE_CASES, ids=str)
def test_the_loss_is_the_reconstruction_and_the_weighted_divergence(divergence, trace):
    for weight in WEIGHTS:
        objective = objective_of(divergence, weight).eval()  # while training some divergences move at each call
        torch.manual_seed(1)  # some sample the prior
        loss, report = objective(trace, 700)
        torch.manual_seed(1)
        expected = trace.reconstruction.mean() + objective.weight(700) * objective.divergence(trace).mean()
        assert loss.item() == pytest.approx(expected.item(), abs=1e-10)
        assert report.loss == loss.item() and report.weight == objective.weight(700)


@pytest.mark.parametrize("auxiliary", AUXILIARIES)
def test_an_auxiliary_term_is_added_to_the_loss_and_stays_out_of_the_bound(auxiliary, trace):
    objective = objective_of({"name": "kl"}, {"name": "constant", "end": 0.5}, auxiliary)
    loss, report = objective(trace, 0)
    reconstruction, kl = bound(trace)
    expected = reconstruction + 0.5 * kl + objective.auxiliary(trace).mean().item()
    assert loss.item() == pytest.approx(expected, abs=1e-10)
    assert report.loss == loss.item() and report.elbo == pytest.approx(-(reconstruction + kl), abs=1e-10)


def test_the_report_counts_every_target_once_and_nothing_else(trace):
    _, report = objective_of({"name": "kl"}, {"name": "constant"})(trace, 0)
    assert (report.sentences, report.tokens) == (5, 5 + 1 + 7 + 3 + 7)


def test_losses_are_means_over_sentences_of_sums_over_tokens(small_model, random_batch, rows):
    model, batch = small_model(), random_batch()
    q = model.encode(batch)
    each = [-model.log_prob(rows(batch, slice(i, i + 1)), q.mean[i : i + 1]).sum().item() for i in range(5)]
    trace = dataclasses.replace(model(batch), log_prob=model.log_prob(batch, q.mean), z=q.mean)
    _, report = objective_of({"name": "kl"}, {"name": "constant"})(trace, 0)
    assert report.reconstruction == pytest.approx(sum(each) / 5, abs=1e-10)


def test_at_weight_zero_an_infinite_divergence_does_not_reach_the_loss(trace):
    class Infinite(KL):
        def forward(self, trace):
            return super().forward(trace) + math.inf

    objective = Objective(reconstruction=Reconstruction(), divergence=Infinite(), weight=Constant(end=0.0))
    assert objective(trace, 0)[0].isfinite()


def test_the_loss_carries_gradient_to_every_parameter(small_model, random_batch):
    model = small_model()
    objective_of({"name": "kl"}, {"name": "constant"})(model(random_batch()), 0)[0].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name
