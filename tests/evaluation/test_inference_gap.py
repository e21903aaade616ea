"""The inference gap: against quadrature, closed forms, and whatever must not change."""

import copy
import math

import pytest
import torch
from torch.distributions import Independent, StudentT

from seqvae.data.batch import Batch
from seqvae.errors import ConfigError, CorpusError, TrainingError
from seqvae.evaluation.inference_gap import inference_gap
from seqvae.model.posteriors import Posterior


class HeavyTailed(Posterior):
    """A posterior that is no Gaussian."""

    def forward(self, h):
        return Independent(StudentT(h.new_tensor(5.0), h[:, :3], h.new_ones(len(h), 3)), 1)


def spoil(model, shift):
    """Move every posterior mean by `shift`."""
    model.posterior.linear.bias.data[: model.latent] += shift
    return model


def deaf(model):
    """The same model with q(z|x) = N(0, 1) and a decoder that does not hear z: q is exact."""
    for parameter in (model.posterior.linear.weight, model.posterior.linear.bias, model.observation.project.weight):
        torch.nn.init.zeros_(parameter)
    return model


@pytest.fixture
def skipping(small_model):
    """z reaches only the output features."""
    return small_model(decoder={"initial_state": False, "every_step": False})


def quadrature(model, batch):
    """(B,) nats each: the ELBO of q(z|x), and that of the best Gaussian on a fine grid of means and scales.

    E_q[log p(x|z)] is a sum over a grid of z, one matrix product for each latent dimension. The scales stay above 0.15,
    which the trapezoidal rule with a step of 0.08 takes without error.
    """
    axis = torch.linspace(-8, 8, 201, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * model.latent).view(-1, model.latent)
    means = torch.linspace(-3, 3, 61, dtype=torch.float64)
    scales = torch.linspace(math.log(0.15), math.log(1.5), 24, dtype=torch.float64).exp()
    candidates = torch.cartesian_prod(means, scales)

    def weights(mean, scale):
        return torch.distributions.Normal(mean[:, None], scale[:, None]).log_prob(axis).softmax(1)

    def cost(mean, scale):
        return (mean**2 + scale**2 - 1) / 2 - scale.log()

    with torch.no_grad():
        q = model.encode(batch).base_dist
        log_probs = torch.stack([model.log_prob(batch.select(torch.tensor([n] * len(grid))), grid).sum(1)
                            for n in range(len(batch))])  # fmt: skip
    table, divergence = weights(*candidates.T), cost(*candidates.T)
    own, best = [], []
    for row, mean, scale in zip(log_probs, q.loc, q.scale, strict=True):
        if model.latent == 1:
            best.append((table @ row - divergence).max())
            own.append((weights(mean, scale) @ row)[0] - cost(mean, scale).sum())
        else:
            square = row.view(201, 201)
            best.append((table @ square @ table.T - divergence[:, None] - divergence).max())
            one, two = weights(mean, scale)
            own.append(one @ square @ two - cost(mean, scale).sum())
    return torch.stack(own), torch.stack(best)


@pytest.mark.parametrize("latent", [1, 2])
def test_refining_a_spoiled_posterior_reaches_the_best_gaussian_and_does_not_pass_it(latent, small_model, random_batch):
    # Over seeds the mean of the 5 gaps errs by 0.03, the noise of 1,000 draws: 0.15 is 5 of it, 6 of 10^7 seeds.
    model, batch = spoil(small_model(latent=latent), 1.0), random_batch()
    own, best = quadrature(model, batch)
    assert (best - own).mean() > 0.5
    gap = inference_gap(model, [(range(5), batch)], steps=100, samples=1_000)
    assert abs(float((gap - (best - own)).mean())) < 0.15


def test_twenty_steps_find_most_of_what_two_hundred_do(small_model, random_batch):
    # Both by the same samples. Over 20 seeds of the model the fraction is between 0.72 and 1.08; this one is fixed.
    model, batches = spoil(small_model(latent=2, spread=0.8), 1.0), [(range(5), random_batch())]
    few, many = (float(inference_gap(model, batches, steps=steps, samples=64).mean()) for steps in (20, 200))
    assert 0.7 * many < few < 1.05 * many


def test_the_gap_of_an_exact_posterior_is_zero(skipping, random_batch):
    gap = inference_gap(deaf(skipping), [(range(5), random_batch())])
    assert torch.allclose(gap, torch.zeros(5).double(), rtol=0, atol=1e-12)


def test_the_gap_of_a_shifted_posterior_is_the_divergence_that_the_shift_costs(skipping, random_batch):
    # KL(N(m, 1) || N(0, 1)) = m^2 / 2 in each of 3 dimensions, without noise where the decoder does not hear z.
    gap = inference_gap(spoil(deaf(skipping), 2.0), [(range(5), random_batch())], steps=200)
    assert torch.allclose(gap, torch.full((5,), 3 * 2.0**2 / 2).double(), rtol=1e-3)


def test_a_sentence_that_refinement_made_worse_keeps_the_q_of_the_encoder(skipping, random_batch, monkeypatch):
    # A step from the exact N(0, 1) to N(1, 1) costs 1/2 in each of 3 dimensions.
    monkeypatch.setattr(
        "seqvae.evaluation.inference_gap._refine", lambda model, batch, p, mean, scale, *_: (mean + 1, scale)
    )
    gap = inference_gap(deaf(skipping), [(range(5), random_batch())])
    assert gap.tolist() == [0.0] * 5


@pytest.mark.parametrize("sizes", [[5], [2, 3], [1, 1, 1, 1, 1]])
def test_gaps_come_in_the_order_of_the_corpus_however_it_is_put_into_batches(sizes, small_model, random_batch, rows):
    model, batch = small_model(), random_batch()
    expected = inference_gap(model, [(range(5), batch)])
    order = torch.tensor([3, 0, 4, 2, 1])
    given = [(part, rows(batch, part)) for part in order.split(sizes)]
    assert torch.allclose(inference_gap(model, given), expected, rtol=0, atol=1e-9)


def test_the_draws_are_those_of_the_seed_and_the_sentence(small_model, random_batch):
    model, batch = small_model(), random_batch()
    first = inference_gap(model, [(range(5), batch)])
    assert torch.equal(inference_gap(model, [(range(5), batch)]), first)
    assert (inference_gap(model, [(range(5), batch)], seed=1) != first).all()
    assert torch.equal(inference_gap(model, [(range(5, 10), batch)]), first)


def test_model_gradients_modes_and_random_state_stay_as_they_were(small_model, random_batch):
    model = small_model(noise={"name": "word-dropout", "rate": 0.5})
    expected = inference_gap(model, [(range(5), random_batch())])
    model.train()
    model.decoder.eval()
    model.prior.requires_grad_(False)
    model.encoder.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    modes, wanted = ([f(x) for x in part] for f, part in (
        (lambda module: module.training, list(model.modules())), (lambda p: p.requires_grad, list(model.parameters()))
    ))  # fmt: skip
    state = torch.random.get_rng_state()
    assert torch.equal(inference_gap(model, [(range(5), random_batch())]), expected)  # without noise and dropout
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_without_a_latent_has_no_gap(small_model, random_batch):
    model = small_model()
    model.latent = 0
    assert inference_gap(model, [(range(5), random_batch())]).tolist() == [0.0] * 5


def test_other_posteriors_than_gaussians_are_not_implemented(small_model, random_batch):
    model = small_model()
    model.posterior = HeavyTailed()
    with pytest.raises(NotImplementedError, match="Gaussian"):
        inference_gap(model, [(range(5), random_batch())])


def test_what_cannot_be_refined_is_refused(small_model, random_batch):
    model, batches = small_model(), [(range(10, 15), random_batch())]
    with pytest.raises(ConfigError, match="steps = 0"):
        inference_gap(model, batches, steps=0)
    with pytest.raises(ConfigError, match="learning_rate = -1"):
        inference_gap(model, batches, learning_rate=-1)
    with pytest.raises(CorpusError, match="no sentence"):
        inference_gap(model, [])
    model.observation.output.bias.data[3] = math.nan
    with pytest.raises(TrainingError, match="sentence 10"):
        inference_gap(model, batches)


def test_one_sentence_is_refined_as_well_as_many(small_model):
    assert inference_gap(small_model(), [([7], Batch.of([[4, 5, 2]]))]).shape == (1,)
