"""Noise by hand: what denoising does to which word, and how often."""

from dataclasses import replace

import pytest
import torch

from seqvae.data.batch import END, UNKNOWN, Batch
from seqvae.errors import ConfigError
from seqvae.model import noise
from seqvae.model.noise import Denoising, sample_uniform
from seqvae.training.build import resolve_part


def distinct(rows=100, steps=20):
    """`rows` sentences of `steps` words, each word another one, from 4 on."""
    words = torch.arange(4, 4 + rows * steps).view(rows, steps)
    return Batch.of([[*row, END] for row in words.tolist()])


def damaged(batch, **options):
    """The words that the encoder reads, (B, T - 1), where each sentence has as many."""
    torch.manual_seed(0)
    return Denoising(**{"delete": 0.0} | options).train()(batch).source[:, :-1]


def near(fraction, rate, count):
    # 5 standard errors: a false alarm once in 1.7 million seeds.
    return abs(float(fraction) - rate) <= 5 * (rate * (1 - rate) / count) ** 0.5


def given(monkeypatch, u):
    monkeypatch.setattr(noise, "sample_uniform", lambda words: torch.where(words, torch.tensor(u), 1.0))


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_a_word_is_blanked_below_the_one_rate_and_substituted_below_both(monkeypatch):
    given(monkeypatch, [[0.0, 0.29, 0.3, 0.49, 0.5, 0.99, 1.0]])
    batch = Batch.of([[9, 9, 9, 9, 8, 8, END]])
    monkeypatch.setattr(torch, "rand", lambda count, device: torch.full((count,), 0.999))  # the last word: 8
    found = Denoising(delete=0.0, blank=0.3, substitute=0.2).train()(batch)
    assert found.source.tolist() == [[UNKNOWN, UNKNOWN, 8, 8, 8, 8, END]]
    assert batch.source.tolist() == [[9, 9, 9, 9, 8, 8, END]]


def test_a_word_below_the_rate_of_deletion_is_gone_and_the_others_move_up(monkeypatch):
    given(monkeypatch, [[0.1, 0.3, 0.2, 0.39, 1.0], [0.4, 0.1, 1.0, 1.0, 1.0], [0.1, 0.2, 0.1, 0.1, 0.1]])
    batch = Batch.of([[4, 5, 6, 7, END], [8, 9, END], [4, 5, 6, 7, 8]])
    found = Denoising(delete=0.3, blank=0.1).train()(batch)
    assert found.source.tolist() == [[UNKNOWN, UNKNOWN, END, 0, 0], [8, END, 0, 0, 0], [4, 0, 0, 0, 0]]
    assert found.source_lengths.tolist() == [3, 2, 1] and found.lengths.tolist() == [5, 3, 5]
    assert found.reading.mask.sum(1).tolist() == [3, 2, 1] and found.mask.sum(1).tolist() == [5, 3, 5]


def test_words_are_put_in_the_order_of_their_keys(monkeypatch):
    # At a distance of 1 the keys are place + 2 * u: 1.8, 1, 2, 3 and 4.8, 4.2.
    given(monkeypatch, [[0.9, 0.0, 0.0, 0.0, 0.4, -0.4, 1.0]])
    batch = Batch.of([[4, 5, 6, 7, 8, 9, END]])
    assert Denoising(delete=0.0, shuffle=1).train()(batch).source.tolist() == [[5, 4, 6, 7, 9, 8, END]]


def test_all_blank_leaves_the_end_alone():
    found = Denoising(delete=0.0, blank=1.0).train()(Batch.of([[7, 8, END], [9, END], [END], [7, 8, 9]]))
    assert found.source.tolist() == [[3, 3, 2], [3, 2, 0], [2, 0, 0], [3, 3, 3]]
    assert found.inputs.tolist() == [[1, 7, 8], [1, 9, 0], [1, 0, 0], [1, 7, 8]]


def test_sentences_without_words_survive_every_noise():
    batch = Batch.of([[END], [END]])
    noise = Denoising(delete=0.2, blank=0.4, substitute=0.4, shuffle=3, word_dropout=1.0).train()
    assert noise(batch).source.tolist() == [[END], [END]]


# -- rates -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_words_are_deleted_at_their_rate_in_order(rate):
    batch = distinct()
    torch.manual_seed(0)
    read = Denoising(delete=rate).train()(batch).reading
    assert near((20 - (read.lengths - 1).double()).mean() / 20, rate, 2000)
    words = read.source[read.source > END]
    assert torch.equal(words, words.sort().values)  # as they stood in the text


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_words_are_blanked_at_their_rate(rate):
    batch = distinct()
    found, words = damaged(batch, blank=rate), batch.source[:, :-1]
    blank = found == UNKNOWN
    assert near(blank.double().mean(), rate, words.numel())
    assert torch.equal(found[~blank], words[~blank])


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
def test_words_are_substituted_at_their_rate_by_words_of_the_batch(rate):
    batch = distinct()
    found, words = damaged(batch, substitute=rate), batch.source[:, :-1]
    # Once in as many times as there are words, the sampled word is the word itself.
    assert near((found != words).double().mean(), rate * (1 - 1 / words.numel()), words.numel())
    assert torch.isin(found, words).all()


def test_words_are_sampled_as_often_as_they_occur():
    batch = Batch.of([[4, 4, 4, 5, END]] * 1000)
    assert near((damaged(batch, substitute=1.0) == 5).double().mean(), 0.25, 4000)


def test_a_blank_word_is_not_substituted():
    assert near((damaged(distinct(), blank=0.5, substitute=0.5) == UNKNOWN).double().mean(), 0.5, 2000)


def test_decoder_inputs_are_hidden_at_the_rate_of_word_dropout_and_only_they():
    batch = distinct()
    torch.manual_seed(0)
    found = Denoising(delete=0.0, word_dropout=0.3).train()(batch)
    assert near((found.inputs[:, 1:] == UNKNOWN).double().mean(), 0.3, 2000)
    assert torch.equal(found.source, batch.source)


def test_only_words_get_a_number_below_one():
    words = torch.tensor([[True, True, False], [True, False, False]])
    torch.manual_seed(0)
    u = sample_uniform(words)
    torch.manual_seed(0)
    assert torch.equal(u[words], torch.rand(3)) and (u[~words] == 1).all()


# -- the shuffle -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 2, 3, 50])
def test_a_word_moves_by_at_most_the_distance_and_none_is_lost(most):
    batch = distinct()
    found, words = damaged(batch, shuffle=most), batch.source[:, :-1]
    assert torch.equal(found.sort(dim=1).values, words)
    moved = (found - words).abs()  # word i of a row is its first one + i
    assert int(moved.max()) == min(most, 19) if most < 4 else int(moved.max()) > 10


def test_two_words_change_places_once_in_eight_times_at_a_distance_of_one():
    # They do where 2 u > 1 + 2 v for u, v ~ U[0, 1): a triangle of area (1/2)^2 / 2.
    batch = Batch.of([[4, 5, END]] * 20_000)
    assert near((damaged(batch, shuffle=1)[:, 0] == 5).double().mean(), 1 / 8, 20_000)


def test_words_of_a_short_sentence_stay_before_its_end_however_far_they_may_go():
    batch = Batch.of([[4, 5, END], list(range(4, 304))])
    found = damaged(batch, shuffle=2**16)
    assert sorted(found[0, :2].tolist()) == [4, 5] and found[0, 2] == END and not found[0, 3:].any()


# -- in a model --------------------------------------------------------------------------------------------------------


def test_the_encoder_reads_the_damage_and_the_decoder_the_sentence(small_model, random_batch):
    model, batch = small_model(noise={"name": "denoising", "delete": 0.0, "blank": 1.0}), random_batch()
    model.noise.train()
    trace = model(batch)
    blank = replace(batch, source=torch.where(batch.source > END, UNKNOWN, batch.source))
    assert torch.equal(trace.q.mean, model.encode(blank).mean)
    assert not torch.allclose(trace.q.mean, model.encode(batch).mean)
    assert torch.equal(trace.log_prob, model.log_prob(batch, trace.z)) and trace.batch is batch


def test_a_shortened_sentence_is_read_as_if_it_had_been_so_short(small_model, monkeypatch):
    model = small_model(noise={"name": "denoising", "delete": 0.5})
    model.noise.train()
    given(monkeypatch, [[0.1, 0.7, 0.3, 0.8, 1.0], [0.1, 0.9, 1.0, 1.0, 1.0]])
    batch = Batch.of([[4, 5, 6, 7, END], [8, 9, END]])
    trace = model(batch)
    torch.testing.assert_close(trace.q.mean, model.encode(Batch.of([[5, 7, END], [9, END]])).mean)
    assert torch.equal(trace.log_prob, model.log_prob(batch, trace.z)) and (trace.log_prob != 0).sum() == batch.tokens


def test_a_shortened_source_goes_where_its_batch_goes():
    batch = Denoising(delete=1.0).train()(Batch.of([[7, 8, END], [9, END]]))
    assert batch.source_lengths.tolist() == [1, 1] and batch.to("cpu").source_lengths.tolist() == [1, 1]
    assert batch.repeat(2).source_lengths.tolist() == [1] * 4 and len(batch.select(torch.tensor([1])).reading) == 1


def test_options_arrive_as_a_command_line_gives_them():
    part = resolve_part("model.noise", {"name": "denoising", "substitute": "0.1", "shuffle": "3"})
    assert part == {
        "name": "denoising",
        "substitute": 0.1,
        "shuffle": 3,
        "delete": 0.3,
        "blank": 0.0,
        "word_dropout": 0.0,
        "word_dropout_start": None,
        "word_dropout_steps": 2000,
    }


@pytest.mark.parametrize("option", ["delete", "blank", "substitute", "word_dropout"])
@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_probability_is_refused_by_name(option, rate):
    with pytest.raises(ConfigError, match=rf"{option} = .*expected a probability"):
        Denoising(**{option: rate})


def test_more_damage_than_there_are_words_is_refused():
    Denoising(delete=0.0, blank=0.7, substitute=0.3)
    with pytest.raises(ConfigError, match="blank"):
        Denoising(delete=0.2, blank=0.7, substitute=0.2)


@pytest.mark.parametrize("places", [-1, 2**16 + 1])
def test_a_distance_that_none_can_go_is_refused(places):
    with pytest.raises(ConfigError, match="shuffle"):
        Denoising(shuffle=places)
