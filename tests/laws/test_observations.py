"""Laws of observations: embed(x), and log p(x_t | features)."""

from itertools import product

import pytest
import torch

from seqvae.observations import OBSERVATIONS

VARIANTS = {"tokens": [{"tied": True}, {"tied": False}, {"embedding_dropout": 0.5}]}
CASES = [{"name": name, **options} for name in OBSERVATIONS for options in VARIANTS.get(name, [{}])]
VOCABULARY, FEATURES = 11, 5 + 3  # of the small models: the decoder's hidden units, and z


@pytest.fixture(params=list(product(CASES, (False, True))), ids=str)
def observation(request, small_model):
    part, shared = request.param
    return small_model(observation=part, share_embedding=shared).observation


def features(*shape, scale=1.0):
    return scale * torch.randn(*shape, FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def everything(rows, steps):
    """Features of one step and all V targets of it."""
    return features(rows, 1).expand(-1, VOCABULARY, -1), torch.arange(VOCABULARY).expand(rows, -1)


def test_log_prob_is_that_of_the_distribution_of_the_logits(observation):
    f, x = features(2, 4), torch.randint(VOCABULARY, (2, 4), generator=torch.Generator().manual_seed(1))
    expected = torch.distributions.Categorical(logits=observation.logits(f)).log_prob(x)
    torch.testing.assert_close(observation.log_prob(f, x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_the_probabilities_of_all_tokens_sum_to_one(observation, scale):
    f, x = everything(3, 1)
    total = observation.log_prob(scale * f, x).exp().sum(1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


def test_log_prob_stays_finite_where_a_probability_vanishes(observation):
    f, x = everything(3, 1)
    assert observation.log_prob(1e4 * f, x).isfinite().all()


@pytest.mark.parametrize(("weights", "autocast"), [(torch.float32, True), (torch.bfloat16, False)])
def test_probabilities_are_normalized_in_single_precision_at_least(weights, autocast, observation):
    f, x = everything(3, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        said = observation.to(weights).log_prob(f.to(weights), x)
    assert said.dtype == torch.float32
    torch.testing.assert_close(said.exp().sum(1), torch.ones(3), rtol=0, atol=1e-5)


def test_padding_is_scored_like_any_token(observation):
    # Whoever knows what counts masks; an observation that ignores an id would hide a fault of the batch.
    f, x = features(1, 2), torch.zeros(1, 2, dtype=torch.long)
    assert (observation.log_prob(f, x) < 0).all()


def test_every_parameter_receives_a_finite_gradient(observation):
    x = torch.tensor([[4, VOCABULARY - 1]])
    (observation.log_prob(features(1, 2), x).sum() + observation.embed(x).sum()).backward()
    for name, parameter in observation.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_no_row_of_the_embedding_is_frozen(observation):
    observation.embed(torch.arange(VOCABULARY)[None]).sum().backward()
    weight = next(p for p in observation.parameters() if p.shape == (VOCABULARY, 6))
    assert (weight.grad.abs().sum(1) > 0).all()


def test_embedding_keeps_rows_and_steps(observation):
    assert observation.embed(torch.zeros(2, 4, dtype=torch.long)).shape == (2, 4, 6)


@pytest.mark.parametrize("tied", [True, False])
def test_the_softmax_follows_the_embedding_exactly_if_tied(tied, small_model):
    observation = small_model(observation={"tied": tied}).observation
    before = observation.logits(features(1, 1))
    with torch.no_grad():
        observation.embedding.weight[7] += 1
    changed = (observation.logits(features(1, 1)) != before)[0, 0].nonzero()[:, 0].tolist()
    assert changed == ([7] if tied else [])


@pytest.mark.parametrize("shared", [True, False])
def test_the_encoder_reads_the_decoders_embedding_exactly_if_shared(shared, small_model, random_batch):
    model = small_model(share_embedding=shared)
    before = model.encoder(random_batch())
    with torch.no_grad():
        model.observation.embedding.weight += 1
    assert torch.equal(model.encoder(random_batch()), before) is not shared


def test_embedding_dropout_drops_whole_words_and_scales_up_the_others(small_model):
    # 4,000 words at 5 standard errors: a false alarm once in 1.7 million seeds.
    torch.manual_seed(0)
    observation = small_model(observation={"embedding_dropout": 0.3}, vocabulary=4000).observation
    words = torch.arange(4000).repeat(2, 1)
    whole, dropped = observation.embed(words), observation.train().embed(words)
    kept = (dropped != 0).any(-1)
    assert torch.equal(kept[0], kept[1])
    assert abs(float(kept[0].double().mean()) - 0.7) < 5 * (0.3 * 0.7 / 4000) ** 0.5
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.7)
    assert not torch.equal(observation.embed(words), dropped)
