"""Laws of conditional models, q(z|x, y), p(x|z, y) and p(z), over the catalogues of their parts."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from seqvae.config import Config
from seqvae.data.batch import Batch
from seqvae.errors import ConfigError
from seqvae.evaluation.evaluate import evaluate
from seqvae.evaluation.inference_gap import inference_gap
from seqvae.evaluation.latent_space import find_labels
from seqvae.evaluation.likelihood import estimate_mixture_nll, log_likelihood, measure
from seqvae.model.decoders import DECODERS
from seqvae.model.decoding import decode
from seqvae.model.encoders import ENCODERS
from seqvae.model.noise import NOISES
from seqvae.model.posteriors import POSTERIORS, NarrowGaussian
from seqvae.model.priors import PRIORS
from seqvae.training.build import build_model, build_objective

CATALOGUES = {"encoder": ENCODERS, "posterior": POSTERIORS, "prior": PRIORS, "decoder": DECODERS, "noise": NOISES}
CASES = [{kind: {"name": name}} for kind, catalogue in CATALOGUES.items() for name in catalogue] + [{"kind": "lm"}]
VOCABULARY = 11
LABELS = [2, 0, 1, 0, 2]  # of the five sentences of a random batch


def made(case, small_model, small_config, labels):
    """The small model of a case; a language model, which has no sizes of its own, made like the others."""
    if "kind" not in case:
        return small_model(labels=labels, **case)
    config = Config.from_dict(small_config().to_dict() | case)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(config, VOCABULARY, labels).double().eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return model


@pytest.fixture(params=CASES, ids=str)
def model(request, small_model, small_config):
    return made(request.param, small_model, small_config, 3)


@pytest.fixture
def batch(random_batch):
    return random_batch(labels=LABELS)


def points(model, rows=5, seed=0):
    return torch.randn(rows, model.latent, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def relabelled(batch, row, label):
    labels = batch.labels.clone()
    labels[row] = label
    return replace(batch, labels=labels)


def test_a_label_changes_q_and_p_of_its_own_sentence_alone(model, batch):
    other = relabelled(batch, 2, 0)
    changed = torch.tensor([False, False, True, False, False])
    found = model.log_prob(batch, points(model)), model.log_prob(other, points(model))
    assert torch.equal((found[0] != found[1]).any(1), changed)
    if model.latent:
        one, two = model.encode(batch), model.encode(other)
        assert torch.equal((one.mean != two.mean).any(1), changed)
        fixed = isinstance(model.posterior, NarrowGaussian)  # a variance that is the same for all
        assert torch.equal((one.variance != two.variance).any(1), changed & (not fixed))


def test_the_prior_is_the_same_for_all_labels(model, batch):
    assert model.eval()(batch).p.batch_shape == () and model.prior().event_shape == (model.latent,)


def test_permuting_the_sentences_with_their_labels_permutes_all(model, batch):
    order = torch.tensor([3, 0, 4, 1, 2])
    moved, z = batch.select(order), points(model)
    close(model.encode(moved).mean, model.encode(batch).mean[order])
    close(model.log_prob(moved, z[order]), model.log_prob(batch, z)[order])


def test_a_batch_is_its_rows_one_by_one(model, batch):
    z, one = points(model), [batch.select(torch.tensor([row])) for row in range(5)]
    close(torch.cat([model.encode(row).mean for row in one]), model.encode(batch).mean)
    close(torch.cat([model.log_prob(row, z[i : i + 1]) for i, row in enumerate(one)]), model.log_prob(batch, z))


def test_padding_changes_nothing(model, batch, lengthen):
    wide, z = lengthen(batch, 3), points(model)
    close(model.encode(wide).mean, model.encode(batch).mean)
    close(model.log_prob(wide, z).sum(1), model.log_prob(batch, z).sum(1))


def test_every_parameter_and_the_vector_of_every_label_receives_a_finite_gradient(model, batch):
    objective = build_objective(Config.from_dict({"objective": {"weight": {"name": "constant", "end": 1.0}}}))
    objective(model.train()(batch), 0)[0].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    assert (model.condition.weight.grad.abs().sum(1) > 0).all()


def test_a_saved_and_loaded_model_gives_the_same(model, batch):
    again, z = deepcopy(model), points(model)
    for parameter in again.parameters():
        torch.nn.init.zeros_(parameter)
    assert not torch.equal(again.log_prob(batch, z), model.log_prob(batch, z))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.log_prob(batch, z), model.log_prob(batch, z))


def test_what_is_decoded_is_scored_the_same_as_read(model, batch):
    """Greedy, sampled and by a beam: the log-probability of the tokens is that of the model given z and label."""
    z, labels = points(model), batch.labels
    for options in ({"temperature": 0.0}, {"temperature": 1.0}, {"beam": 3}):
        found = decode(model, model.append_condition(z, labels), max_length=9, allow_unknown=True, **options)
        close(log_likelihood(model, replace(Batch.of(found.tokens), labels=labels), z), found.log_prob, 1e-9)


def test_without_labels_a_conditional_model_reports_what_is_missing(model, random_batch):
    for refused in (
        lambda: model.encode(random_batch()),
        lambda: model.log_prob(random_batch(), points(model)),
        lambda: decode(model, points(model)),
    ):
        with pytest.raises(ConfigError, match="labels") as caught:
            refused()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_model_without_a_condition_does_not_see_labels(case, small_model, small_config, random_batch):
    model, plain = made(case, small_model, small_config, 0), random_batch()
    labelled, z = replace(plain, labels=torch.tensor(LABELS)), points(model)
    assert not any("condition" in name for name in model.state_dict()) and model.conditioning_size == model.latent
    assert torch.equal(model.encode(labelled).mean, model.encode(plain).mean)
    assert torch.equal(model.log_prob(labelled, z), model.log_prob(plain, z))


# -- batches ----------------------------------------------------------------------------------------------------------


def test_labels_go_with_their_sentences(batch):
    assert batch.repeat(2).labels.tolist() == [2, 2, 0, 0, 1, 1, 0, 0, 2, 2]
    assert batch.select(torch.tensor([4, 1])).labels.tolist() == [2, 0]
    assert batch.select(batch.lengths > 4).labels.tolist() == [2, 1, 2]
    assert batch.to("cpu").labels.tolist() == LABELS and batch.reading.labels.tolist() == LABELS


@pytest.mark.parametrize("name", NOISES)
def test_noise_leaves_labels_alone(name, batch, small_model):
    noisy = small_model(noise={"name": name}, labels=3).noise.train()(batch)
    assert torch.equal(noisy.labels, batch.labels) and torch.equal(noisy.reading.labels, batch.labels)


# -- measures ---------------------------------------------------------------------------------------------------------


def test_one_sample_of_the_importance_weighted_bound_is_the_elbo(small_model, batch):
    """With a mixture prior the KL is estimated by the same sample, so that both are equal, not only on average."""
    table = measure(small_model(labels=3, prior={"name": "mixture"}), [(range(5), batch)], samples=1)
    close(table.nll, table.reconstruction + table.kl, 1e-9)


def test_the_likelihood_is_that_of_each_sentence_under_its_own_label(small_model, batch):
    """Against quadrature over z: log p(x|y) = log int p(x|z, y) p(z) dz."""
    model = small_model(labels=3, latent=1, spread=0.2)
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    with torch.no_grad():
        found = torch.stack([log_likelihood(model, batch, z.expand(5, 1)) for z in grid[::4]])  # (G, B)
    weight = model.prior().log_prob(grid[::4, None])[:, None] + math.log(float(grid[4] - grid[0]))
    exact = -(found + weight).logsumexp(0)
    found = measure(model, [(range(5), batch)], samples=4000).nll
    close(found, exact, 0.02)
    close(estimate_mixture_nll(model, [(range(5), batch)], samples=4000), exact, 0.02)
    swapped = measure(model, [(range(5), replace(batch, labels=(batch.labels + 1) % 3))], samples=4000).nll
    assert ((swapped - exact).abs() > 0.05).any()


def test_scores_do_not_depend_on_how_sentences_are_put_into_batches(small_model, batch):
    model = small_model(labels=3)
    apart = [([i], batch.select(torch.tensor([i]))) for i in (3, 0, 4, 1, 2)]
    one, two = (evaluate(model, b, words=20, bytes=90, samples=3) for b in ([(range(5), batch)], apart))
    for name, value in vars(one).items():
        assert vars(two)[name] == pytest.approx(value, abs=1e-9), name
    close(inference_gap(model, apart, steps=3), inference_gap(model, [(range(5), batch)], steps=3), 1e-9)


def test_labels_are_found_by_the_places_of_their_sentences(batch):
    kept = [
        (torch.tensor([7, 3]), batch.select(torch.tensor([0, 1]))),
        (torch.tensor([5]), batch.select(torch.tensor([2]))),
    ]
    assert find_labels(kept, torch.tensor([3, 5, 7])).tolist() == [0, 1, 2]
    assert find_labels(kept, torch.tensor([3, 7])).tolist() == [0, 2]
