"""Evaluation: the scores agree with their definitions, whatever the batches, the mode and the random state."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import Independent, StudentT, kl_divergence

from seqvae.config import Config
from seqvae.data.batch import END, UNKNOWN, Batch
from seqvae.errors import ConfigError, CorpusError, TrainingError
from seqvae.evaluation import latent_space, likelihood
from seqvae.evaluation.evaluate import compute_scores, evaluate
from seqvae.evaluation.likelihood import Bound, hash_sentences, measure, validate
from seqvae.model import decoding
from seqvae.model.decoders import RecurrentDecoder
from seqvae.model.encoders import RecurrentEncoder
from seqvae.model.noise import WordDropout
from seqvae.model.observations import Tokens
from seqvae.model.posteriors import DiagonalGaussian, Posterior
from seqvae.model.priors import StandardNormal
from seqvae.model.vae import SequenceVAE
from seqvae.rng import Stream, keyed_normal
from seqvae.training.build import build_model

VOCABULARY, LATENT = 12, 3


class HeavyTailed(Posterior):
    """A posterior that has neither a closed KL nor a fast path."""

    def __init__(self, *, features, latent):
        super().__init__()
        self.linear = torch.nn.Linear(features, latent)

    def forward(self, h):
        mean = self.linear(h)
        return Independent(StudentT(torch.full_like(mean, 5.0), mean, torch.full_like(mean, 0.5)), 1)


def make(posterior=DiagonalGaussian, dropout=0.0, seed=0):
    with Stream(seed):
        observation = Tokens(vocabulary=VOCABULARY, embedding=6, features=10 + LATENT)
        encoder = RecurrentEncoder(embed=observation.embedding, embedding=6, hidden=8, dropout=dropout)
        model = SequenceVAE(
            latent=LATENT,
            encoder=encoder,
            posterior=posterior(features=encoder.features, latent=LATENT),
            prior=StandardNormal(latent=LATENT),
            decoder=RecurrentDecoder(embedding=6, latent=LATENT, hidden=10, dropout=dropout),
            observation=observation,
            noise=WordDropout(rate=dropout),
        ).double()
        torch.nn.init.normal_(observation.embedding.weight)
        model.posterior.linear.weight.data *= 4
    return model


def sentences(count, seed=0):
    """Random sentences of 0 to 6 words; every fifth was truncated and has no EOS."""
    g = torch.Generator().manual_seed(seed)
    found = []
    for place in range(count):
        words = torch.randint(3, VOCABULARY, (int(torch.randint(0, 7, (1,), generator=g)),), generator=g).tolist()
        found.append([*words, 4] if place % 5 == 0 else [*words, END])
    return found


def batches(given, size, order=None):
    order = list(range(len(given))) if order is None else order
    for first in range(0, len(order), size):
        places = order[first : first + size]
        yield places, Batch.of([given[place] for place in places])


def scores(model, given, size=8, order=None, samples=7, seed=0):
    words = sum(len(ids) - (ids[-1] == END) for ids in given)
    return evaluate(model, batches(given, size, order), words=words, bytes=5 * words, samples=samples, seed=seed)


def values(found):
    """All numbers of the scores, those of tuples too."""
    flat = [value if isinstance(value, tuple) else (value,) for value in vars(found).values() if value is not None]
    return torch.tensor([float(number) for numbers in flat for number in numbers], dtype=torch.float64)


def test_scores_agree_with_their_definitions():
    given = sentences(23)
    found = scores(make(), given)
    words, ends = sum(len(ids) - (ids[-1] == END) for ids in given), sum(ids[-1] == END for ids in given)
    assert (found.sentences, found.tokens, found.samples) == (23, words + ends, 7)
    assert ends == 18  # the truncated sentences have none to count
    assert found.elbo == pytest.approx(-(found.reconstruction + found.kl))
    assert found.perplexity == pytest.approx(math.exp(found.nll * 23 / (words + ends)))
    assert found.perplexity_elbo == pytest.approx(math.exp(-found.elbo * 23 / (words + ends)))
    assert found.bits_per_byte == pytest.approx(found.nll * 23 / (5 * words * math.log(2)))
    assert found.nll < -found.elbo
    table = measure(make(), batches(given, 8), samples=7)
    assert found.nll_standard_error == pytest.approx(float(table.nll.var(correction=1) / 23) ** 0.5)
    assert 0 <= found.mutual_information_lower <= found.mutual_information_upper <= found.kl


def test_perplexity_counts_words_and_not_the_tokens_of_the_tokenizer():
    given, model = sentences(10), make()
    coarse, fine = (
        evaluate(model, batches(given, 4), words=words, bytes=[3] * 10, samples=2) for words in ([2] * 10, [4] * 10)
    )
    ends = sum(ids[-1] == END for ids in given)
    assert math.log(coarse.perplexity) * (20 + ends) == pytest.approx(math.log(fine.perplexity) * (40 + ends))
    assert coarse.bits_per_byte == pytest.approx(coarse.nll * 10 / (30 * math.log(2)))


def test_each_sentence_scores_what_an_explicit_loop_gives():
    model, given, samples = make(), sentences(9), 5
    table = measure(model, batches(given, 4), samples=samples, seed=3)
    model.eval()
    for place, ids in enumerate(given):
        batch = Batch.of([ids])
        with torch.no_grad():
            q, p = model.encode(batch), model.prior()
            log_prob, weights = [], []
            for draw in range(samples):
                noise = keyed_normal(3, hash_sentences(batch), samples, LATENT)[:, draw]
                z = q.base_dist.loc + q.base_dist.scale * noise
                log_prob.append(float(model.log_prob(batch, z).sum()))
                weights.append(log_prob[-1] + float(p.log_prob(z)) - float(q.log_prob(z)))
            assert float(table.kl[place]) == pytest.approx(float(kl_divergence(q, p)), abs=1e-10)
        assert float(table.reconstruction[place]) == pytest.approx(-sum(log_prob) / samples, abs=1e-10)
        assert float(table.first[place]) == pytest.approx(-log_prob[0], abs=1e-10)
        naive = -math.log(sum(math.exp(weight) for weight in weights) / samples)
        assert float(table.nll[place]) == pytest.approx(naive, abs=1e-10)


@pytest.mark.parametrize("posterior", [DiagonalGaussian, HeavyTailed])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_one_batch_is_many_the_remainder_and_any_order_included(posterior, size):
    model, given = make(posterior), sentences(30)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1)).tolist()
    assert torch.allclose(values(scores(model, given, size, order)), values(scores(model, given, 7)), rtol=0, atol=1e-9)


def test_limits_of_memory_change_nothing(monkeypatch):
    model, given = make(), sentences(20)
    expected = values(scores(model, given, samples=11))
    for budget, draws in ((1, 10**6), (30, 10**6), (10**6, 1), (20, 40)):
        monkeypatch.setattr(likelihood, "MAX_TOKENS", budget)
        monkeypatch.setattr(likelihood, "MAX_NOISE", draws)
        assert torch.allclose(values(scores(model, given, samples=11)), expected, rtol=0, atol=1e-9)


def test_no_call_of_the_decoder_carries_more_steps_than_the_budget(monkeypatch):
    model, seen = make(), []
    log_prob = model.log_prob
    monkeypatch.setattr(likelihood, "MAX_TOKENS", 100)
    model.log_prob = lambda batch, z: seen.append(batch.targets.numel()) or log_prob(batch, z)
    scores(model, sentences(40), size=40, samples=30)
    assert max(seen) <= 100
    assert sum(seen) / len(seen) > 50  # and they are not one sentence at a time either


def test_dropout_and_noise_are_off_and_each_mode_is_restored():
    model, given = make(dropout=0.8), sentences(12)
    model.train()
    model.encoder.eval()
    first = scores(model, given)
    assert model.training
    assert model.noise.training
    assert not model.encoder.training
    assert scores(model, given) == first
    calm = make(dropout=0.0)
    calm.load_state_dict(model.state_dict())
    assert scores(calm, given) == first


def test_the_seed_decides_and_the_global_random_state_is_left_alone():
    model, given = make(), sentences(12)
    before = torch.get_rng_state()
    first = scores(model, given)
    torch.rand(5)
    assert scores(model, given) == first
    other = scores(model, given, seed=1)
    assert other.nll != first.nll
    assert other.kl == first.kl
    torch.set_rng_state(before)
    scores(make(HeavyTailed), given)
    validate(model, batches(given, 5))
    assert torch.equal(torch.get_rng_state(), before)


def test_autocast_around_it_changes_nothing():
    model, given = make().float(), sentences(12)
    expected = scores(model, given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert scores(model, given) == expected


def test_a_model_in_single_precision_scores_as_in_double():
    model, given = make(), sentences(30)
    expected = values(scores(model, given))
    assert torch.allclose(values(scores(copy.deepcopy(model).float(), given)), expected, rtol=1e-4, atol=1e-4)


def deafen(model):
    """Take z away from everything that the decoder does."""
    model.decoder.initial.weight.data.zero_()
    model.decoder.rnn.weight_ih_l0.data[:, -LATENT:] = 0
    model.observation.project.weight.data[:, -LATENT:] = 0


def test_permuting_z_costs_nothing_when_the_decoder_is_deaf_to_it():
    deaf, given = make(), sentences(40)
    deafen(deaf)
    assert scores(deaf, given).permuted_nll_increase == pytest.approx(0, abs=1e-10)


def test_permuting_z_of_two_sentences_swaps_them():
    model, given = make(), sentences(2)
    table = measure(model, batches(given, 2), samples=7)
    with torch.no_grad():
        swapped = -model.eval().log_prob(Batch.of(given), table.z.flip(0)).sum(1)
    assert scores(model, given).permuted_nll_increase == pytest.approx(float((swapped - table.first).mean()), abs=1e-10)


@pytest.mark.parametrize("count", [2, 3, 50])
def test_no_sentence_keeps_its_own_z_when_they_are_permuted(count, monkeypatch):
    model, given = make(), sentences(count)
    own, seen = measure(model, batches(given, count), samples=1), []
    log_prob = model.log_prob
    model.log_prob = lambda batch, z: seen.append(z) or log_prob(batch, z)
    scores(model, given, size=count, samples=1)
    assert (seen[-1] != own.z).any(1).all()
    assert torch.equal(seen[-1].sort(0).values, own.z.sort(0).values)  # and each z is given to one sentence


def test_mutual_information_of_a_large_set_looks_at_a_random_part_of_it(monkeypatch):
    model, given = make(), sentences(60)
    model.posterior.linear.weight.data *= 20
    whole = scores(model, given)
    monkeypatch.setattr(latent_space, "MAX_COMPONENTS", 5)
    part = scores(model, given)
    assert part.mutual_information_lower <= math.log(5) < whole.mutual_information_lower
    assert part.nll == whole.nll
    assert scores(model, given, size=3, order=list(range(59, -1, -1))).mutual_information_lower == pytest.approx(
        part.mutual_information_lower, abs=1e-9
    )


@pytest.mark.parametrize("size", [1, 4, 60])
def test_posteriors_samples_and_kl_of_a_subset_are_of_the_same_sentences(size, monkeypatch):
    model, given, seen = make(), sentences(60), []
    monkeypatch.setattr(latent_space, "MAX_COMPONENTS", 20)
    none = latent_space.Bounds(0.0, 0.0, 0.0, 0.0)
    monkeypatch.setattr(latent_space, "bound_mutual_information", lambda *given: seen.append(given) or (none, none))
    # Labels, which the model ignores, give different noise to equal sentences.
    kept = [(places, replace(batch, labels=torch.tensor(places))) for places, batch in batches(given, size)]
    evaluate(model, kept, samples=1)
    ((q, z, kl),) = seen
    table = measure(model, kept, samples=1)
    assert len(kl) == 20
    assert torch.allclose(kl_divergence(q, model.prior()), kl, rtol=0, atol=1e-10)
    places = torch.cat([(table.z == point).all(1).nonzero()[:, 0] for point in z])
    assert torch.allclose(table.kl[places], kl, rtol=0, atol=1e-10)
    assert places.max() > 40  # not simply the first ones: 6 of 10^5 random parts of 20 stay there
    assert len(places.unique()) == 20


def test_sentences_do_not_share_their_noise_whatever_the_posterior():
    for posterior in (DiagonalGaussian, HeavyTailed):
        model, given = make(posterior), sentences(12)
        table = measure(model, batches(given, 5), samples=1)
        base = model.encode(Batch.of(given)).base_dist
        noise = (table.z - base.loc) / base.scale
        assert torch.cdist(noise, noise).fill_diagonal_(1.0).min() > 1e-3


def test_a_kl_without_closed_form_is_estimated_from_all_draws():
    # The mean over 20,000 draws of each sentence against a fine sum over each dimension, within 6 standard errors.
    model, given, samples = make(HeavyTailed), sentences(3), 20_000
    table = measure(model, batches(given, 3), samples=samples)
    grid = torch.linspace(-60, 60, 60_001, dtype=torch.float64)
    q, p = model.encode(Batch.of(given)).base_dist, model.prior().base_dist
    log_q = StudentT(5.0, q.loc[..., None], 0.5).log_prob(grid)
    log_ratio = log_q - p.expand((LATENT,)).log_prob(grid[:, None]).T
    exact = (log_q.exp() * log_ratio).sum(-1).mul(grid[1] - grid[0])
    spread = (log_q.exp() * log_ratio**2).sum(-1).mul(grid[1] - grid[0]) - exact**2
    assert ((table.kl - exact.sum(-1)).abs() < 6 * (spread.sum(-1) / samples).sqrt()).all()


# Standard errors, seeds, weights


def test_standard_errors_are_those_of_means_over_sentences():
    given = sentences(23)
    found, table = scores(make(), given), measure(make(), batches(given, 8), samples=7)
    for name, column in (
        ("reconstruction", table.reconstruction),
        ("kl", table.kl),
        ("elbo", -(table.reconstruction + table.kl)),
        ("nll", table.nll),
    ):
        assert getattr(found, name) == pytest.approx(float(column.mean()))
        assert getattr(found, f"{name}_standard_error") == pytest.approx(float(column.var(correction=1) / 23) ** 0.5)


def test_the_kl_of_the_dimensions_adds_up_to_the_kl():
    model, given = make(), sentences(23)
    found = scores(model, given)
    assert len(found.kl_dimensions) == LATENT
    assert sum(found.kl_dimensions) == pytest.approx(found.kl)
    with torch.no_grad():
        q = model.encode(Batch.of(given)).base_dist
        last = kl_divergence(q, model.prior().base_dist)[:, -1]
    assert found.kl_dimensions[-1] == pytest.approx(float(last.mean()))
    assert scores(make(HeavyTailed), given).kl_dimensions is None


def test_perplexity_per_token_and_bits_per_character_have_their_own_denominators():
    given = sentences(10)
    found = evaluate(make(), batches(given, 4), words=20, bytes=40, characters=[3] * 10, samples=2)
    assert found.perplexity_token == pytest.approx(math.exp(found.nll * 10 / sum(map(len, given))))
    assert found.bits_per_character == pytest.approx(found.nll * 10 / (30 * math.log(2)))
    assert scores(make(), given).bits_per_character is None


@pytest.mark.parametrize("posterior", [DiagonalGaussian, HeavyTailed])
def test_several_seeds_average_their_nll_and_leave_the_rest_to_the_first(posterior):
    model, given = make(posterior), sentences(9)
    three = measure(model, batches(given, 4), samples=5, seed=2, seeds=3)
    ones = [measure(model, batches(given, 4), samples=5, seed=seed) for seed in (2, 3, 4)]
    assert torch.allclose(three.passes, torch.stack([one.nll for one in ones], 1), rtol=0, atol=1e-12)
    assert torch.allclose(three.nll, sum(one.nll for one in ones) / 3, rtol=0, atol=1e-12)
    for name in ("reconstruction", "kl", "first", "z", "effective"):
        assert torch.equal(getattr(three, name), getattr(ones[0], name))
    found = evaluate(model, batches(given, 4), words=30, bytes=90, samples=5, seed=2, seeds=3)
    assert found.seeds == 3
    assert found.nll == pytest.approx(float(three.nll.mean()))
    assert found.nll_seed_standard_deviation == pytest.approx(
        float(torch.stack([one.nll.mean() for one in ones]).std())
    )
    assert scores(model, given).nll_seed_standard_deviation is None


def test_a_table_that_was_measured_is_scored_as_if_it_were_measured_again():
    model, given = make(), sentences(12)
    table = measure(model, batches(given, 5), samples=4, seed=3)
    found = compute_scores(model, batches(given, 5), table, words=40, bytes=90, seed=3)
    assert found == evaluate(model, batches(given, 5), words=40, bytes=90, samples=4, seed=3)
    assert table.index.tolist() == list(range(12))
    assert found.nll == pytest.approx(float(table.nll.mean()))


def test_the_effective_sample_size_is_that_of_the_weights_of_each_sentence():
    model, given, samples = make(), sentences(9), 6
    table = measure(model, batches(given, 4), samples=samples, seed=3)
    for place, ids in enumerate(given):
        batch = Batch.of([ids])
        with torch.no_grad():
            q, p = model.encode(batch), model.prior()
            noise = keyed_normal(3, hash_sentences(batch), samples, LATENT)[0]
            points = [q.mean + q.stddev * draw for draw in noise]
            logs = [float(model.log_prob(batch, z).sum() + p.log_prob(z) - q.log_prob(z)) for z in points]
        weights = [math.exp(log) for log in logs]
        assert float(table.effective[place]) == pytest.approx(sum(weights) ** 2 / sum(w**2 for w in weights))
    found = scores(model, given, samples=samples, seed=3)
    assert found.effective_sample_size == pytest.approx(float(table.effective.mean()))
    assert 1 <= found.effective_sample_size_low <= found.effective_sample_size <= samples


def test_a_posterior_that_is_exact_needs_one_draw():
    deaf, given = make(), sentences(20)
    hush(deaf)
    found = scores(deaf, given, samples=9)
    assert found.effective_sample_size == pytest.approx(9)
    assert found.nll == pytest.approx(-found.elbo)
    assert found.mixture_gain == pytest.approx(0, abs=1e-12)


# The latent space


def hush(model):
    """Make the posterior the prior and the decoder deaf: no information at all."""
    for parameter in model.posterior.parameters():
        parameter.data.zero_()
    deafen(model)


def test_the_marginal_kl_is_the_kl_without_the_mutual_information():
    found = scores(make(), sentences(30))
    assert found.marginal_kl_lower == pytest.approx(found.kl - found.mutual_information_upper)
    assert found.marginal_kl_upper == pytest.approx(found.kl - found.mutual_information_lower)
    assert found.marginal_kl_lower <= found.marginal_kl_upper


def test_a_posterior_that_is_the_prior_leaves_no_holes_and_no_information():
    model = make()
    hush(model)
    found = scores(model, sentences(30))
    assert found.holes == pytest.approx(0, abs=1e-12)
    assert found.mutual_information_upper == found.marginal_kl_upper == found.active_units == 0
    assert found.variances == (0, 0, 0)


def test_a_narrow_posterior_away_from_the_prior_leaves_the_holes_of_its_closed_form():
    # KL(N(0, 1) || N(2, 1/4)) = log(1/2) + (1 + 4) / (2/4) - 1/2 for each dimension; 5 standard errors: 6 of 10^7.
    model = make()
    for parameter in model.posterior.parameters():
        parameter.data.zero_()
    model.posterior.linear.bias.data[:LATENT] = 2
    model.posterior.linear.bias.data[LATENT:] = math.log(0.25)
    found = scores(model, sentences(30))
    assert found.holes == pytest.approx(LATENT * (math.log(0.5) + 10 - 0.5), abs=5 * found.holes_standard_error)
    assert found.holes_standard_error < 1


def test_the_variances_of_the_means_are_sorted_and_counted():
    model, given = make(), sentences(40)
    found = scores(model, given)
    with torch.no_grad():
        means = model.encode(Batch.of(given)).mean
    assert found.variances == pytest.approx(sorted(means.var(0).tolist(), reverse=True))
    assert found.active_units == sum(variance > 0.01 for variance in found.variances)


def test_a_decoder_that_knows_nothing_is_unsure_of_every_token():
    model = make()
    for parameter in model.observation.parameters():
        parameter.data.zero_()
    found = scores(model, sentences(30))
    assert found.decoder_entropy_prior == pytest.approx(math.log(VOCABULARY))
    assert found.decoder_entropy_posterior == pytest.approx(math.log(VOCABULARY))
    assert found.decoder_entropy_standard_error == pytest.approx(0, abs=1e-9)


def test_a_decoder_that_is_lost_in_holes_is_unsure_there_alone(monkeypatch):
    # Beyond 3 EOS is certain, below all tokens are equally likely: q is at 5 +- 0.1, three samples of p hardly ever.
    model = make()
    for parameter in model.posterior.parameters():
        parameter.data.zero_()
    model.posterior.linear.bias.data[:LATENT] = 5
    model.posterior.linear.bias.data[LATENT:] = math.log(0.01)

    def logits(features):
        z, log_prob = features[:, -LATENT:], torch.zeros(len(features), VOCABULARY, dtype=torch.float64)
        log_prob[:, END] = torch.where((z > 3).all(1), 60.0, 0.0)
        return log_prob

    monkeypatch.setattr(decoding, "NO_FILTER", None)  # so that a draw asks for logits
    model.observation.logits = logits
    found = scores(model, sentences(50))
    assert found.decoder_entropy_prior == pytest.approx(math.log(VOCABULARY))
    assert found.decoder_entropy_posterior == pytest.approx(0, abs=1e-9)
    assert found.holes > 100


def test_costly_scores_are_computed_on_evenly_spaced_sentences(monkeypatch):
    assert latent_space.space_evenly(41, 5).tolist() == [0, 10, 20, 30, 40]
    assert latent_space.space_evenly(3, 5).tolist() == [0, 1, 2]
    monkeypatch.setattr("seqvae.evaluation.evaluate.space_evenly", lambda count: latent_space.space_evenly(count, 5))
    model, given, seen = make(), sentences(41), []
    monkeypatch.setattr(
        "seqvae.evaluation.evaluate.estimate_mixture_nll",
        lambda _, pairs, **options: seen.extend(pairs) or torch.zeros(5),
    )
    found = scores(model, given)
    assert sorted(place for index, _ in seen for place in index.tolist()) == [0, 10, 20, 30, 40]
    chosen = measure(model, batches(given, 8), samples=7).nll[[0, 10, 20, 30, 40]]
    assert found.mixture_gain == pytest.approx(float(chosen.mean()))
    assert found.mixture_gain_standard_error == pytest.approx(float(chosen.var() / 5) ** 0.5)


def test_one_draw_cannot_be_divided_between_two_proposals():
    assert scores(make(), sentences(9), samples=1).mixture_gain is None


# Without a latent space


def language_model():
    config = Config.from_dict({"kind": "lm", "model": {"embedding": 6, "decoder": {"hidden": 10}}})
    with Stream(0):
        return build_model(config, VOCABULARY).double()


@pytest.mark.filterwarnings("error")
def test_a_language_model_is_scored_with_one_draw_and_no_information():
    model, given = language_model(), sentences(23)
    found = scores(model, given, samples=50)
    assert (found.samples, found.effective_sample_size, found.kl, found.kl_dimensions) == (1, 1, 0, ())
    with torch.no_grad():
        batch = Batch.of(given)
        exact = -model.eval().log_prob(batch, torch.zeros(23, 0).double()).sum(1).mean()
    assert found.nll == pytest.approx(float(exact))
    assert found.nll == pytest.approx(found.reconstruction) == pytest.approx(-found.elbo)
    assert found.mutual_information_lower == found.mutual_information_upper == found.permuted_nll_increase == 0
    assert (found.active_units, found.variances) == (0, ())
    missing = ("holes", "mixture_gain", "decoder_entropy_prior", "decoder_entropy_posterior", "marginal_kl_lower")
    assert [getattr(found, name) for name in missing] == [None] * 5
    assert evaluate(model, batches(given, 8), words=9, bytes=9, seeds=3).nll_seed_standard_deviation == pytest.approx(
        0, abs=1e-12
    )


# Validation


def test_validation_gives_the_sums_of_the_true_bound_with_one_draw():
    model, given = make(dropout=0.5), sentences(21)
    table, found = measure(model, batches(given, 21), samples=1), validate(model.train(), batches(given, 4))
    assert (found.sentences, found.tokens) == (21, sum(map(len, given)))
    assert found.reconstruction == pytest.approx(float(table.reconstruction.sum()), abs=1e-9)
    assert found.kl == pytest.approx(float(table.kl.sum()), abs=1e-9)
    assert found.nll == pytest.approx((found.reconstruction + found.kl) / 21)
    assert model.training


def test_shares_of_two_processes_add_up_to_the_whole():
    model, given = make(), sentences(21)
    whole = validate(model, batches(given, 4))
    bounds = [validate(model, batches(given, 4, list(range(rank, 21, 2)))) for rank in (0, 1)]
    for total in (bounds[0] + bounds[1], Bound.of(bounds[0].tensor() + bounds[1].tensor())):
        assert (total.sentences, total.tokens) == (whole.sentences, whole.tokens)
        assert total.nll == pytest.approx(whole.nll, abs=1e-9)
    assert Bound().nll == 0


# Trouble


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_named(value):
    model, given = make(), sentences(6)
    model.posterior.linear.bias.data[0] = value
    with pytest.raises(TrainingError, match=r"the \w+ of sentence 0 is (nan|inf)"):
        scores(model, given)
    broken = validate(model, batches(given, 2))  # no error yet: the other processes wait for these sums
    with pytest.raises(TrainingError, match="the bound is not finite"):
        _ = broken.nll


def test_too_few_sentences_or_draws_are_refused():
    with pytest.raises(CorpusError, match="no sentence"):
        scores(make(), [])
    with pytest.raises(CorpusError, match="at least 2, got 1"):
        scores(make(), sentences(1))
    with pytest.raises(ConfigError, match="samples = 0: expected a whole number from 1 to"):
        scores(make(), sentences(3), samples=0)
    with pytest.raises(ConfigError, match="seeds = 0: expected a whole number from 1 to"):
        measure(make(), batches(sentences(3), 3), seeds=0)


def test_a_split_of_a_corpus_can_be_scored_as_it_comes():
    from seqvae.data.batching import iterate_by_length
    from seqvae.data.text.corpus import load

    split = load(["a b c", "d e", "a", "b c d e f g", "g f"], whole=True).test
    found = evaluate(make(), iterate_by_length(split, batch_size=2), words=split.words, bytes=split.bytes, samples=3)
    assert (found.sentences, found.tokens) == (5, 14 + 5)
    assert found.perplexity == pytest.approx(math.exp(found.nll * 5 / 19))
    assert found.bits_per_byte == pytest.approx(found.nll * 5 / (28 * math.log(2)))  # 23 characters and 5 line feeds


def test_the_share_of_unknown_words_counts_every_target_once():
    """2 of the 7 targets of [UNKNOWN, 5, END], [UNKNOWN, END], [6, END]; the padding is none."""
    given = [[UNKNOWN, 5, END], [UNKNOWN, END], [6, END]]
    assert scores(make(), given).unknown == pytest.approx(2 / 7)
