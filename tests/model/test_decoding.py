"""Decoding: which tokens can be generated, how they are chosen, and their probability under the model."""

from itertools import product

import pytest
import torch

from seqvae.data.batch import END, PADDING, START, UNKNOWN, Batch
from seqvae.errors import ConfigError, TrainingError
from seqvae.model import decoding
from seqvae.model.decoders import RecurrentDecoder
from seqvae.model.decoding import beam_search, check_options, decode
from seqvae.model.encoders import RecurrentEncoder
from seqvae.model.modes import evaluating
from seqvae.model.noise import WordDropout
from seqvae.model.observations import Tokens
from seqvae.model.posteriors import DiagonalGaussian
from seqvae.model.priors import StandardNormal
from seqvae.model.sampling import filter_logits
from seqvae.model.vae import SequenceVAE
from seqvae.rng import Stream

VOCABULARY, LATENT = 8, 3


def make(seed=0, cell="lstm", layers=1, dropout=0.0, vocabulary=VOCABULARY, head_size=0):
    """A small model in float64 whose next word depends strongly on z and on the words before."""
    with Stream(seed):
        observation = Tokens(vocabulary=vocabulary, embedding=6, features=10 + LATENT, head_size=head_size)
        encoder = RecurrentEncoder(embed=observation.embedding, embedding=6, hidden=5)
        decoder = RecurrentDecoder(
            embedding=6, latent=LATENT, hidden=10, cell=cell, layers=layers, dropout=dropout, locked=False
        )
        model = SequenceVAE(
            latent=LATENT,
            encoder=encoder,
            posterior=DiagonalGaussian(features=encoder.features, latent=LATENT),
            prior=StandardNormal(latent=LATENT),
            decoder=decoder,
            observation=observation,
            noise=WordDropout(rate=0.5),
        ).double()
        torch.nn.init.normal_(observation.embedding.weight, std=2.0)
    return model


def points(rows, seed=1):
    return torch.randn(rows, LATENT, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def score(model, tokens, z):
    """Return log p(x|z) as training computes it."""
    with evaluating(model):
        return model.log_prob(Batch.of(tokens), z).sum(1)


def log_p(*probabilities):
    return torch.tensor([probabilities]).log()


# Filters


def test_temperature_divides_the_logits():
    logits = torch.randn(4, 9, generator=generator(), dtype=torch.float64)
    assert torch.allclose(filter_logits(logits, temperature=2.0), (logits / 2).log_softmax(-1))


def test_temperature_zero_leaves_the_most_probable_token_and_the_lowest_id_of_tied_ones():
    kept = filter_logits(torch.tensor([[0.0, 3.0, 3.0], [5.0, 1.0, 0.0]]), temperature=0).exp()
    assert kept.tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("temperature", [1e-320, 1e-30, 1e-3, 1e30])
def test_extreme_temperatures_give_no_nan(temperature):
    p = filter_logits(torch.tensor([[1.0, 2.0, -torch.inf]]), temperature=temperature).exp()
    assert torch.allclose(p.sum(-1), torch.ones(1, dtype=torch.float64))
    assert p[0, 2] == 0
    assert temperature > 1 or p[0, 1] == 1


def test_top_k_masks_each_row_by_itself_and_not_over_the_union_of_the_batch():
    p = filter_logits(torch.cat([log_p(0.6, 0.3, 0.1), log_p(0.1, 0.3, 0.6)]), top_k=1).exp()
    assert p.tolist() == [[1, 0, 0], [0, 0, 1]]


def test_top_k_keeps_exactly_k_of_tied_tokens_and_all_when_there_are_fewer():
    assert (filter_logits(torch.zeros(2, 6), top_k=4).exp() > 0).sum(-1).tolist() == [4, 4]
    assert torch.allclose(filter_logits(torch.zeros(1, 3), top_k=9).exp(), torch.full((1, 3), 1 / 3).double())


@pytest.mark.parametrize(("top_p", "kept"), [(0.001, 1), (0.49, 1), (0.51, 2), (0.79, 2), (0.81, 3), (0.999, 4)])
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p, kept):
    p = filter_logits(log_p(0.05, 0.3, 0.5, 0.15), top_p=top_p).exp()[0]
    expected = torch.zeros(4, dtype=torch.float64)
    ranked = [2, 1, 3, 0][:kept]
    expected[ranked] = torch.tensor([0.05, 0.3, 0.5, 0.15], dtype=torch.float64)[ranked]
    assert torch.allclose(p, expected / expected.sum(), atol=1e-6)


def test_min_p_keeps_what_reaches_its_fraction_of_the_largest_probability():
    p = filter_logits(log_p(0.5, 0.3, 0.11, 0.09), min_p=0.2).exp()[0]
    assert torch.allclose(p, torch.tensor([0.5, 0.3, 0.11, 0.0], dtype=torch.float64) / 0.91, atol=1e-6)
    assert (filter_logits(log_p(0.5, 0.3, 0.2), min_p=1.0).exp() > 0).tolist() == [[True, False, False]]


def test_filters_act_in_order_each_on_what_the_one_before_left():
    # Temperature 0.5 squares the probabilities to 64 : 16 : 4 : 1; top-k 3 leaves 64/84, 16/84, 4/84; top-p 0.77 then
    # needs the second (without top-k and temperature, other counts), and min-p 0.3 drops it since 16 < 0.3 * 64.
    options = {"temperature": 0.5, "top_k": 3, "top_p": 0.77}
    p = filter_logits(log_p(8 / 15, 4 / 15, 2 / 15, 1 / 15), **options).exp()[0]
    assert torch.allclose(p, torch.tensor([0.8, 0.2, 0, 0], dtype=torch.float64), atol=1e-6)
    assert filter_logits(log_p(8 / 15, 4 / 15, 2 / 15, 1 / 15), **options, min_p=0.3).exp()[0].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_any_mixture_of_filters_leaves_a_distribution_with_the_most_probable_token(seed):
    logits = torch.randn(50, 20, generator=generator(seed)) * 5
    logits[:, :2] = -torch.inf
    p = filter_logits(logits, temperature=0.7, top_k=1 + seed, top_p=0.05 + 0.2 * seed, min_p=0.25 * seed).exp()
    assert torch.allclose(p.sum(-1), torch.ones(50, dtype=torch.float64))
    assert (p.gather(1, logits.argmax(-1, keepdim=True)) > 0).all()
    assert (p[:, :2] == 0).all()
    assert ((p > 0).sum(-1) <= 1 + seed).all()


# Sampling


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 2])
def test_greedy_generates_the_most_probable_token_after_each_prefix(cell, layers):
    model, z = make(cell=cell, layers=layers), points(6)
    generated = decode(model, z, temperature=0, max_length=7).tokens
    for row, tokens in enumerate(generated):
        for length in range(len(tokens)):
            candidates = [[*tokens[:length], word] for word in (END, *range(UNKNOWN + 1, VOCABULARY))]
            values = score(model, candidates, z[row].expand(len(candidates), -1))
            assert candidates[int(values.argmax())][-1] == tokens[length]
    assert len({tuple(tokens) for tokens in generated}) > 1


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0}, {"temperature": 2.0, "top_k": 3}, {"top_p": 0.7, "min_p": 0.1}, {"beam": 3}],
)
@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize(("vocabulary", "head_size"), [(VOCABULARY, 0), (22, 4)])
def test_log_prob_is_the_models_own_whatever_chose_the_words(vocabulary, head_size, options, unknown):
    model, z = make(vocabulary=vocabulary, head_size=head_size), points(40)
    generated = decode(model, z, max_length=6, allow_unknown=unknown, generator=generator(), **options)
    assert torch.allclose(generated.log_prob, score(model, generated.tokens, z), rtol=0, atol=1e-10)
    assert {len(tokens) for tokens in generated.tokens} > {6}  # some ended, some were truncated


@pytest.mark.parametrize("vocabulary", [VOCABULARY, 300])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.7}, {"top_k": 3, "temperature": 2.0}, {"min_p": 0.2}])
def test_a_sample_is_the_one_that_the_filters_would_give(options, vocabulary):
    # A top-p that keeps everything goes through `filter_logits`.
    model, z = make(vocabulary=vocabulary), points(100)
    direct = decode(model, z, max_length=6, generator=generator(), **options)
    filtered = decode(model, z, max_length=6, generator=generator(), top_p=1 - 1e-15, **options)
    assert direct.tokens == filtered.tokens
    assert len({token for tokens in direct.tokens for token in tokens}) > 3


def test_a_temperature_close_to_zero_is_greedy():
    model, z = make(), points(30)
    greedy = decode(model, z, temperature=0, max_length=9)
    assert decode(model, z, temperature=1e-6, max_length=9, generator=generator()).tokens == greedy.tokens
    assert decode(model, z, top_k=1, max_length=9, generator=generator()).tokens == greedy.tokens


def test_the_same_seed_gives_the_same_sample_and_another_seed_another():
    model, z = make(), points(30)
    first, again, other = (decode(model, z, generator=generator(seed), max_length=20).tokens for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_row_does_not_depend_on_the_others_nor_on_the_split_into_batches(monkeypatch):
    model, z = make(), points(20)
    together = decode(model, z, generator=generator(), max_length=15)
    assert decode(model, z[:1], generator=generator(), max_length=15).tokens == together.tokens[:1]
    stream = generator()
    parts = [decode(model, part, generator=stream, max_length=15) for part in z.split([3, 1, 16])]
    assert [tokens for part in parts for tokens in part.tokens] == together.tokens
    monkeypatch.setattr(decoding, "MAX_ROWS", 3)
    chunked = decode(model, z, generator=generator(), max_length=15)
    assert chunked.tokens == together.tokens
    assert torch.allclose(chunked.log_prob, together.log_prob, rtol=0, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.0}, {"beam": 2}, {"beam": 3, "n_best": 2}])
def test_some_rows_become_what_they_are_among_all(options):
    model, z = make(), points(9)
    together = decode(model, z, generator=generator(), max_length=15, **options)
    some, n = (
        decode(model, z, generator=generator(), max_length=15, rows=slice(2, 6), **options),
        options.get("n_best", 1),
    )
    assert some.tokens == together.tokens[2 * n : 6 * n]
    torch.testing.assert_close(some.log_prob, together.log_prob[2 * n : 6 * n])


@pytest.mark.parametrize(("vocabulary", "head_size", "most"), [(VOCABULARY, 0, 45), (22, 4, 82), (300, 0, 500)])
def test_words_come_with_the_probabilities_of_the_model(vocabulary, head_size, most):
    # Chi-square with 4, 18 and 296 degrees of freedom: `most` is passed by chance in 4 of 10^9, 3 of 10^10 and 5 of
    # 10^13 seeds (the seed is fixed); of 300 words most are too rare for the last to be exact.
    model, rows = make(vocabulary=vocabulary, head_size=head_size), 20_000
    z = points(1).expand(rows, -1)
    generated = decode(model, z, max_length=1, generator=generator(3)).tokens
    counts = torch.bincount(torch.tensor(generated)[:, 0], minlength=vocabulary).double()
    words = [END, *range(UNKNOWN + 1, vocabulary)]
    p = score(model, [[word] for word in words], z[: len(words)]).softmax(0)
    assert ((counts[words] - rows * p) ** 2 / (rows * p)).sum() < most
    assert counts[words].sum() == rows


@pytest.mark.parametrize(("u", "word"), [(0.0, 1), (0.25, 1), (0.75, 3), (1 - 2**-53, 3)])
def test_no_random_number_however_extreme_picks_a_word_of_probability_zero(u, word, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, u, dtype=torch.float64))
    model = make()
    logits = torch.tensor([-torch.inf, 0.1, -torch.inf, 0.1, -torch.inf]).double()
    model.observation.logits = lambda features: torch.cat([torch.zeros(4), logits]).expand(len(features), -1)
    assert decode(model, points(2), max_length=1, top_k=2).tokens == [[4 + word]] * 2


@pytest.mark.parametrize("options", [{}, {"temperature": 0}, {"temperature": 50.0}, {"beam": 2}])
def test_padding_and_bos_are_never_generated_and_unknown_only_on_request(options):
    model, z = make(), points(100)
    torch.nn.init.zeros_(model.observation.output.bias)
    model.observation.output.bias.data[[PADDING, START, UNKNOWN]] = 15.0  # what the model prefers
    plain = decode(model, z, max_length=6, generator=generator(), **options).tokens
    assert not {PADDING, START, UNKNOWN} & {token for tokens in plain for token in tokens}
    asked = decode(model, z, max_length=6, generator=generator(), allow_unknown=True, **options).tokens
    assert not {PADDING, START} & {token for tokens in asked for token in tokens}
    assert UNKNOWN in {token for tokens in asked for token in tokens}


@pytest.mark.parametrize("options", [{}, {"temperature": 0}, {"beam": 3}])
def test_it_always_stops_and_a_truncated_sentence_has_no_eos(options):
    model, z = make(), points(5)
    model.observation.output.bias.data[END] = -1e4
    generated = decode(model, z, max_length=11, generator=generator(), **options).tokens
    assert [len(tokens) for tokens in generated] == [11] * 5
    assert not any(END in tokens for tokens in generated)


def test_eos_comes_last_and_once():
    generated = decode(make(), points(200), max_length=12, generator=generator()).tokens
    assert all(tokens.count(END) == (tokens[-1] == END) for tokens in generated)
    assert any(tokens[-1] == END for tokens in generated)


def test_rows_that_have_ended_leave_the_batch():
    model, seen = make(), []
    decode_step = model.decode_step
    model.decode_step = lambda tokens, z, state: seen.append(len(tokens)) or decode_step(tokens, z, state)
    generated = decode(model, points(50), max_length=12, generator=generator()).tokens
    assert seen == [sum(len(tokens) > time for tokens in generated) for time in range(len(seen))]
    assert seen[-1] < seen[0] == 50


def test_dropout_is_off_while_generating_and_each_mode_is_restored():
    model, z = make(dropout=0.9), points(20)
    model.train()
    model.encoder.eval()  # as a frozen part would be
    assert decode(model, z, temperature=0).tokens == decode(model, z, temperature=0).tokens
    assert model.training
    assert model.decoder.dropout.training
    assert not model.encoder.training
    with pytest.raises(ZeroDivisionError), evaluating(model):
        assert not model.training
        _ = 1 / 0
    assert model.training


def test_a_generator_leaves_the_global_random_state_alone_and_seeded_gives_it_back():
    before = torch.get_rng_state()
    decode(make(), points(3), generator=generator())
    with Stream(5):
        torch.rand(3)
    assert torch.equal(before, torch.get_rng_state())


def test_no_points_give_no_tokens():
    for options in ({}, {"beam": 2}):
        generated = decode(make(), points(0), **options)
        assert (generated.tokens, generated.log_prob.tolist()) == ([], [])


def test_points_are_moved_to_the_precision_of_the_model():
    model, z = make(), points(4).float()
    assert decode(model, z, temperature=0).tokens == decode(model, z.double(), temperature=0).tokens


@pytest.mark.parametrize("options", [{}, {"beam": 2}])
def test_points_of_another_size_and_broken_points_are_refused(options):
    with pytest.raises(ConfigError, match=r"z has shape \(2, 5\); this model needs \(rows, 3\)"):
        decode(make(), torch.zeros(2, 5), **options)
    with pytest.raises(TrainingError, match="not finite"):
        decode(make(), torch.full((2, LATENT), torch.nan), max_length=4, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature must be 0"),
        ({"temperature": float("nan")}, "temperature must be 0"),
        ({"temperature": float("inf")}, "temperature must be 0"),
        ({"top_k": -1}, "top_k must be 0"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"top_p": 1.1}, "top_p must be above 0"),
        ({"min_p": -0.1}, "min_p must be between"),
        ({"min_p": 1.1}, "min_p must be between"),
        ({"beam": -1}, "beam must be 0"),
        ({"beam": 2**40}, "beam must be at most 100,000"),
        ({"max_length": 0}, "max_length must be at least 1"),
        ({"max_length": 2**40}, "max_length must be at most 1,000,000"),
        ({"beam": 2, "temperature": 0.5}, "cannot be combined"),
        ({"beam": 2, "top_k": 5}, "cannot be combined"),
    ],
)
def test_options_out_of_range_or_at_odds_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        check_options(**options)
    with pytest.raises(ConfigError, match=message):
        decode(make(), points(1), **options)


# Beam search


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_of_one_is_greedy(seed):
    model, z = make(seed), points(30, seed)
    greedy, narrow = decode(model, z, temperature=0, max_length=8), beam_search(model, z, 1, max_length=8)
    assert narrow.tokens == greedy.tokens
    assert torch.allclose(narrow.log_prob, greedy.log_prob, rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("layers", [1, 2])
def test_a_wide_beam_finds_the_most_probable_sentence_of_all(seed, layers):
    model, z, longest = make(seed, layers=layers), points(4, seed), 5
    words = range(UNKNOWN + 1, VOCABULARY)
    sentences = [[*body, END] for size in range(longest) for body in product(words, repeat=size)]
    found = beam_search(model, z, 4**longest, max_length=longest)
    for row in range(len(z)):
        values = score(model, sentences, z[row].expand(len(sentences), -1))
        assert found.tokens[row] == sentences[int(values.argmax())]
        assert torch.isclose(found.log_prob[row], values.max(), rtol=0, atol=1e-10)


def test_a_row_whose_best_sentence_is_whole_leaves_the_beam():
    model, z, seen = make(), points(50), []
    decode_step = model.decode_step
    model.decode_step = lambda tokens, z, state: seen.append(len(tokens)) or decode_step(tokens, z, state)
    found = beam_search(model, z, 3, max_length=12)
    assert seen[0] == 150 and seen == sorted(seen, reverse=True) and seen[-1] < 150
    alone = [beam_search(model, row, 3, max_length=12) for row in z.split(1)]
    assert [one.tokens[0] for one in alone] == found.tokens
    assert torch.allclose(torch.cat([one.log_prob for one in alone]), found.log_prob, rtol=0, atol=1e-10)


def test_a_wider_beam_finds_more_probable_sentences_than_greedy_does():
    model, z = make(), points(60)
    greedy, wide = (beam_search(model, z, width, max_length=30) for width in (1, 12))
    both = torch.tensor([a[-1] == END and b[-1] == END for a, b in zip(greedy.tokens, wide.tokens, strict=True)])
    gain = (wide.log_prob - greedy.log_prob)[both]
    assert (gain > 0.1).any()
    assert gain.mean() > 0


def test_rows_of_a_beam_do_not_mix(monkeypatch):
    model, z = make(layers=2), points(9)
    together = beam_search(model, z, 4, max_length=10)
    assert [beam_search(model, row, 4, max_length=10).tokens[0] for row in z.split(1)] == together.tokens
    monkeypatch.setattr(decoding, "MAX_ROWS", 8)
    assert beam_search(model, z, 4, max_length=10).tokens == together.tokens


def test_a_beam_wider_than_the_vocabulary_works_and_a_beam_of_none_is_refused():
    assert torch.isfinite(beam_search(make(), points(3), 50, max_length=1).log_prob).all()
    with pytest.raises(ConfigError, match="width of a beam"):
        beam_search(make(), points(1), 0)
