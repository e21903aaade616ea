"""Laws of observations: embed(x), and log p(x_t | features)."""

import math

import pytest
import torch

from seqvae.data.batch import Batch
from seqvae.errors import ConfigError
from seqvae.model.observations import OBSERVATIONS, adaptive_softmax

VARIANTS = {
    "tokens": [
        {"tied": True},
        {"tied": False},
        {"embedding_dropout": 0.5},
        {"head_size": 4},
        {"head_size": 5, "tied": False},
        {"head_size": 4, "largest_cluster": 5},
    ],
    "frames": [{"variance": variance} for variance in ("fixed", "learnt", "per-step")],
}
CASES = [{"name": name, **options} for name in OBSERVATIONS for options in VARIANTS.get(name, [{}])]
VOCABULARY, FEATURES = 22, 5 + 3  # of the small models: the decoder's hidden units, and z
MEAN, STD = 40.0, 7.0  # of the channels of frames


def made(small_model, part, *, channels=1, **options):
    frames = part["name"] == "frames"
    found = small_model(observation=part, vocabulary=channels if frames else VOCABULARY, **options).observation
    if frames:
        found.scaler.fit(torch.full((channels,), MEAN), torch.full((channels,), STD))
    return found


@pytest.fixture(params=enumerate(CASES), ids=str)
def observation(request, small_model):
    number, part = request.param
    return made(small_model, part, share_embedding=number % 2 == 0)


@pytest.fixture(params=VARIANTS["tokens"], ids=str)
def tokens(request, small_model):
    return made(small_model, {"name": "tokens"} | request.param)


@pytest.fixture(params=VARIANTS["frames"], ids=str)
def frames(request, small_model):
    return made(small_model, {"name": "frames"} | request.param, channels=3)


def features(*shape, scale=1.0):
    return scale * torch.randn(*shape, FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def sample(observation, rows, steps):
    """Draw (rows, steps) targets of the observation's kind, some of them EOS."""
    g = torch.Generator().manual_seed(1)
    if isinstance(observation.embedding, torch.nn.Embedding):
        return torch.randint(VOCABULARY, (rows, steps), generator=g)
    border = (torch.rand(rows, steps, 1, generator=g) < 0.3).double()
    frame = MEAN + STD * torch.randn(rows, steps, observation.size, dtype=torch.float64, generator=g)
    return torch.cat([border, frame * (1 - border)], dim=2)


def everything(rows, steps):
    """Return features of one step and all V targets of it."""
    return features(rows, 1).expand(-1, VOCABULARY, -1), torch.arange(VOCABULARY).expand(rows, -1)


def mass(observation, f):
    """Return (N,), the total probability: a sum over tokens; or that of EOS plus a trapezoidal integral."""
    if isinstance(observation.embedding, torch.nn.Embedding):
        x = torch.arange(VOCABULARY).expand(len(f), -1)
        return observation.log_prob(f[:, None].expand(-1, VOCABULARY, -1), x).double().exp().sum(1)
    p = observation.distribution(f)
    at = torch.linspace(-12, 12, 2001, dtype=torch.float64)
    x = p.frame_mean.double() + p.scale.double() * at  # (R, grid) of one channel
    grid = torch.stack([torch.zeros_like(x), x], dim=-1)
    density = observation.log_prob(f[:, None].expand(-1, len(at), -1), grid).double().exp()
    end = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64).expand(len(f), 1, 2)
    return torch.trapezoid(density, x) + observation.log_prob(f[:, None], end)[:, 0].double().exp()


def test_log_prob_is_that_of_the_distribution(observation):
    f, x = features(2, 4), sample(observation, 2, 4)
    expected = observation.distribution(f).log_prob(x)
    torch.testing.assert_close(observation.log_prob(f, x), expected, rtol=0, atol=1e-12)


def test_the_probabilities_of_all_that_can_be_observed_sum_to_one(observation):
    for scale in (1.0, 1e4):
        total = mass(observation, features(3, scale=scale))
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-10)


def test_log_prob_stays_finite_where_a_probability_vanishes(observation):
    assert observation.log_prob(features(3, 5, scale=1e4), sample(observation, 3, 5)).isfinite().all()


@pytest.mark.parametrize(("weights", "autocast"), [(torch.float32, True), (torch.bfloat16, False)])
def test_probabilities_are_normalized_in_single_precision_at_least(weights, autocast, observation):
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        observation = observation.to(weights)
        assert observation.log_prob(features(3, 2).to(weights), sample(observation, 3, 2)).dtype.itemsize >= 4
        total = mass(observation, features(3).to(weights))
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-5)


def test_every_parameter_receives_a_finite_gradient(observation):
    x = sample(observation, 4, 8)
    (observation.log_prob(features(4, 8), x).sum() + observation.embed(x).sum()).backward()
    for name, parameter in observation.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_embedding_keeps_rows_and_steps(observation):
    assert observation.embed(sample(observation, 2, 4)).shape == (2, 4, 6)


# -- tokens -----------------------------------------------------------------------------------------------------------


def test_padding_is_scored_like_any_token(tokens):
    # The model masks padding; an observation that ignores an id would hide a fault of the batch.
    f, x = features(1, 2), torch.zeros(1, 2, dtype=torch.long)
    assert (tokens.log_prob(f, x) < 0).all()


def test_no_row_of_the_embedding_is_frozen(tokens):
    tokens.embed(torch.arange(VOCABULARY)[None]).sum().backward()
    weight = next(p for p in tokens.parameters() if p.shape == (VOCABULARY, 6))
    assert (weight.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize("tied", [True, False])
def test_the_softmax_follows_the_embedding_exactly_if_tied(tied, small_model):
    observation = small_model(observation={"tied": tied}, vocabulary=VOCABULARY).observation
    before = observation.logits(features(1, 1))
    with torch.no_grad():
        observation.embedding.weight[7] += 1
    changed = (observation.logits(features(1, 1)) != before)[0, 0].nonzero()[:, 0].tolist()
    assert changed == ([7] if tied else [])


def test_a_word_of_a_cluster_costs_its_cluster_and_its_place_there(small_model):
    """By hand: all features are 0, so that only biases count; a head of 4 words, clusters of 12 and of 6."""
    tokens = small_model(observation={"head_size": 4}, vocabulary=VOCABULARY).observation
    torch.nn.init.zeros_(tokens.project.bias)
    first = torch.cat([tokens.output.bias[:4], tokens.output.clusters.bias]).softmax(0)
    far, last = tokens.output.bias[4:16].softmax(0), tokens.output.bias[16:].softmax(0)
    expected = torch.cat([first[:4], first[4] * far, first[5] * last]).log()
    log_prob = tokens.log_prob(
        torch.zeros(1, VOCABULARY, FEATURES, dtype=torch.float64), torch.arange(VOCABULARY)[None]
    )
    torch.testing.assert_close(log_prob[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("count", "scale"), [(1, 10.0), (3, 1.0), (7, 0.1), (VOCABULARY + 1, 1.0)])
def test_topk_is_that_of_all_tokens_and_none_is_banned(tokens, count, scale):
    f, banned = features(60, scale=scale), [0, 2]
    log_p = tokens.logits(f).log_softmax(-1)
    expected, _ = log_p.index_fill(-1, torch.tensor(banned), -torch.inf).sort(dim=-1, descending=True)
    ids, found = tokens.topk(f, count, banned)
    assert ids.shape == found.shape == (60, min(count, VOCABULARY))
    torch.testing.assert_close(found, expected[:, :count], rtol=0, atol=1e-12)
    certain = found.isfinite()
    torch.testing.assert_close(log_p.gather(-1, ids)[certain], found[certain], rtol=0, atol=1e-12)
    assert all(len(set(row)) == len(row) for row in ids.tolist())


def test_scores_of_all_tokens_give_the_words_that_clusters_give(tokens, monkeypatch):
    """As they are computed on a GPU."""
    f, u, banned = features(200, scale=2.0), torch.rand(200, dtype=torch.float64), [0, 2]
    x = torch.arange(200).remainder(VOCABULARY).view(10, 20)

    def compute():
        log_prob = tokens.log_prob(f.view(10, 20, -1), x)
        gradients = torch.autograd.grad(log_prob.sum(), list(tokens.output.parameters()))
        return [log_prob, *gradients, *tokens.sample(f, u, banned), *tokens.topk(f, 3, banned)]

    expected = compute()
    monkeypatch.setattr(adaptive_softmax, "skips_clusters", lambda x: False)
    for limit in (adaptive_softmax.MAX_LOGITS, 0):
        monkeypatch.setattr(adaptive_softmax, "MAX_LOGITS", limit)
        for one, other in zip(compute(), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("head_size", [VOCABULARY, VOCABULARY + 1])
def test_a_head_of_all_words_is_one_softmax(head_size, small_model):
    one, whole = (small_model(observation={"head_size": n}, vocabulary=VOCABULARY).observation for n in (0, head_size))
    assert one.state_dict().keys() == whole.state_dict().keys()
    f, x = features(2, 4), sample(one, 2, 4)
    assert torch.equal(one.log_prob(f, x), whole.log_prob(f, x))


@pytest.mark.parametrize(
    ("largest_cluster", "edges"),
    [(0, [0, 4, 16, 22]), (12, [0, 4, 16, 22]), (5, [0, 4, 9, 14, 19, 22]), (18, [0, 4, 16, 22])],
)
def test_no_cluster_is_larger_than_the_largest(largest_cluster, edges, small_model):
    tokens = small_model(
        observation={"head_size": 4, "largest_cluster": largest_cluster}, vocabulary=VOCABULARY
    ).observation
    assert tokens.output.edges == edges
    assert tokens.output.clusters.out_features == len(edges) - 2


def test_a_negative_size_is_refused(small_model):
    with pytest.raises(ConfigError, match="largest_cluster = -1"):
        small_model(observation={"largest_cluster": -1})


@pytest.mark.parametrize("head_size", [-1, 3])
def test_a_head_without_the_reserved_ids_is_refused(head_size, small_model):
    with pytest.raises(ConfigError, match=f"head_size = {head_size}"):
        small_model(observation={"head_size": head_size})


# -- frames -----------------------------------------------------------------------------------------------------------


def test_with_fixed_variance_a_frame_costs_its_squared_error_and_a_constant(small_model):
    frames = made(small_model, {"name": "frames", "variance": "fixed", "sigma": 0.3}, channels=3)
    f, x = features(2, 4), sample(frames, 2, 4)
    x[..., 0] = 0
    p = frames.distribution(f)
    error = (((x[..., 1:] - p.frame_mean) / STD) ** 2).sum(-1)  # of standardized numbers
    rest = -frames.log_prob(f, x) + torch.nn.functional.logsigmoid(-p.stop) - error / (2 * 0.3**2)
    constant = 3 * (math.log(0.3 * STD) + 0.5 * math.log(2 * math.pi))
    torch.testing.assert_close(rest, torch.full_like(rest, constant), rtol=0, atol=1e-10)


def test_eos_costs_minus_log_of_the_stop_probability_whatever_its_frame(frames):
    f, x = features(2, 4), sample(frames, 2, 4)
    x[..., 0] = 1
    expected = frames.distribution(f).stop.sigmoid().log()
    torch.testing.assert_close(frames.log_prob(f, x), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(frames.log_prob(f, x + torch.tensor([0.0, 9.0, 9.0, 9.0])), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_learnt_scales_are_bounded(frames, scale):
    sigma = frames.distribution(features(5, scale=scale)).scale / STD
    assert (sigma >= 0.999e-3).all() and (sigma <= 10.01).all()


def test_log_prob_of_frames_counts_in_the_units_of_the_data(frames):
    """Where data and scaler are 10 times as large, each frame costs log 10 more for each channel."""
    f, x = features(2, 4), sample(frames, 2, 4)
    before = frames.log_prob(f, x)
    frames.scaler.fit(10 * frames.scaler.mean, 10 * frames.scaler.std)
    x[..., 1:] *= 10
    expected = before - 3 * math.log(10) * (x[..., 0] == 0).double()
    torch.testing.assert_close(frames.log_prob(f, x), expected, rtol=0, atol=1e-9)


def test_a_border_is_embedded_alike_however_far_the_data_are_from_zero(frames):
    start = torch.tensor([[[1.0, 0, 0, 0]]])
    before = frames.embed(start)
    frames.scaler.fit(torch.full((3,), 1e9), torch.ones(3))
    assert torch.equal(frames.embed(start), before)


def test_small_differences_far_from_zero_are_seen(frames):
    frames.scaler.fit(torch.full((3,), 1e9), torch.full((3,), 0.01))
    x = torch.tensor([[[0, 1e9, 1e9, 1e9], [0, 1e9 + 0.01, 1e9, 1e9]]], dtype=torch.float64)
    one, other = frames.embed(x)[0]
    expected = frames.embedding.linear.weight[:, 1]
    torch.testing.assert_close(other - one, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sigma", [0.0, 1e-3, 10.0, math.inf])
def test_a_sigma_out_of_bounds_is_refused(sigma, small_model):
    with pytest.raises(ConfigError, match="sigma"):
        made(small_model, {"name": "frames", "sigma": sigma})


@pytest.mark.parametrize("variance", ["learnt", "per-step"])
def test_a_learnt_sigma_is_initially_as_given(variance, small_config):
    from seqvae.training.build import build_model

    config = small_config(observation={"name": "frames", "variance": variance, "sigma": 0.2})
    frames = build_model(config, 2).observation
    frames.output.weight.data.zero_()
    sigma = frames.distribution(features(4).float()).scale
    torch.testing.assert_close(sigma, torch.full_like(sigma, 0.2))


# -- sharing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", OBSERVATIONS)
def test_the_encoder_reads_the_decoders_embedding_exactly_if_shared(name, shared, small_model, random_batch):
    model = small_model(share_embedding=shared, observation={"name": name}, vocabulary=1 if name == "frames" else 11)
    batch = random_batch() if name == "tokens" else Batch.of_frames([torch.randn(4, 1).double().numpy()])
    before = model.encoder(batch)
    with torch.no_grad():
        for parameter in model.observation.embedding.parameters():
            parameter += 1
    assert torch.equal(model.encoder(batch), before) is not shared


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
