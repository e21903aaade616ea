"""Laws of noise and dropout: random while training, the identity in evaluation."""

import pytest
import torch

from seqvae.data.batch import END, PADDING, START, UNKNOWN, Batch
from seqvae.errors import ConfigError
from seqvae.model.layers import SequenceDropout
from seqvae.model.noise import NOISES, WordDropout
from seqvae.training.build import make

VARIANTS = {
    "word-dropout": [*({"rate": rate} for rate in (0.0, 0.5, 1.0)), {"rate": 0.0, "start": 0.7, "steps": 9}],
    "denoising": [
        {},
        {"delete": 1.0},
        {"delete": 0.0, "blank": 1.0},
        {"delete": 0.0, "substitute": 1.0},
        {"delete": 0.0, "shuffle": 3},
        {"delete": 0.2, "blank": 0.3, "substitute": 0.3, "shuffle": 2, "word_dropout": 0.5},
        {"delete": 0.0, "word_dropout": 1.0},
        {"delete": 0.0, "word_dropout": 0.0, "word_dropout_start": 0.7, "word_dropout_steps": 9},
    ],
}
CASES = [{"name": name, **options} for name in NOISES for options in VARIANTS.get(name, [{}])]


@pytest.fixture(params=CASES, ids=str)
def noise(request):
    return make("model.noise", request.param).train()


def many(rows=200, steps=20):
    """Sentences of many lengths, without the unknown word."""
    g = torch.Generator().manual_seed(0)
    return Batch.of([[*torch.randint(4, 50, (1 + i % steps,), generator=g).tolist(), END] for i in range(rows)])


def test_evaluation_is_the_identity(noise):
    batch = many()
    after = noise.eval()(batch)
    for name in ("source", "inputs", "targets", "lengths"):
        assert torch.equal(getattr(after, name), getattr(batch, name))


def test_targets_and_lengths_are_never_touched(noise):
    batch, copy = many(), many()
    after = noise(batch)
    for it in (after, batch):
        assert torch.equal(it.targets, copy.targets) and torch.equal(it.lengths, copy.lengths)


def test_padding_start_and_end_stay_where_they_are(noise):
    batch = many()
    after = noise(batch)
    for special in (PADDING, START, END):
        assert torch.equal(after.inputs == special, batch.inputs == special)
        if not getattr(noise, "delete", 0):  # what is behind a deleted word moves up: see the next law
            assert torch.equal(after.source == special, batch.source == special)


def test_what_the_encoder_reads_ends_as_the_sentence_did_and_is_never_empty(noise):
    batch = Batch.of([*([7, *range(4, 4 + n % 9), END] for n in range(100)), *([7, 8][: 1 + n % 2] for n in range(50))])
    read = noise(batch).reading
    assert ((read.lengths >= 1) & (read.lengths <= batch.lengths)).all()
    assert torch.equal(read.source == PADDING, ~read.mask)
    last, first = (it.source.gather(1, it.lengths[:, None] - 1) for it in (read, batch))
    assert torch.equal(last == END, first == END)
    assert torch.equal((read.source == END).sum(1), (batch.source == END).sum(1)) and (read.source != START).all()


def test_the_given_batch_is_not_changed_in_place(noise):
    batch, copy = many(), many()
    noise(batch)
    assert torch.equal(batch.inputs, copy.inputs) and torch.equal(batch.source, copy.source)


def test_a_truncated_sentence_gets_no_eos_and_no_padding(noise):
    batch = Batch.of([[7, 8, 9, 10], [7, END]])  # the first one has no end
    after = noise(batch)
    for words in (after.source[0, : after.reading.lengths[0]], after.inputs[0, 1:4]):
        assert (words > END).all()


def test_the_same_seed_gives_the_same_noise(noise):
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(noise(many()))
    first, second = found
    assert torch.equal(first.source, second.source) and torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.reading.lengths, second.reading.lengths)


# Word dropout samples at each place of a batch, padding too: in a wider batch a seed gives other words.
OF_ANY_WIDTH = [case for case in CASES if case["name"] != "word-dropout"]


@pytest.mark.parametrize("part", OF_ANY_WIDTH, ids=str)
def test_how_wide_the_padding_is_does_not_change_what_happens_to_a_sentence(part, lengthen):
    noise, batch, found = make("model.noise", part).train(), many(), []
    for it in (batch, lengthen(batch, 5)):
        torch.manual_seed(3)
        found.append(noise(it))
    narrow, wide = found
    assert torch.equal(narrow.reading.lengths, wide.reading.lengths)
    for name in ("source", "inputs"):
        assert torch.equal(getattr(wide, name)[:, :-5], getattr(narrow, name))
        assert (getattr(wide, name)[:, -5:] == PADDING).all()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_word_dropout_hides_words_at_its_rate(rate):
    # About 2,100 words at 5 standard errors: a false alarm once in 1.7 million seeds, for each of three rates.
    torch.manual_seed(0)
    batch = many()
    words = batch.inputs >= 4
    hidden = WordDropout(rate=rate).train()(batch).inputs[words] == UNKNOWN
    assert abs(float(hidden.double().mean()) - rate) < 5 * (rate * (1 - rate) / len(hidden)) ** 0.5


MOVING = [
    {"name": "word-dropout", "rate": 0.2, "start": 0.8, "steps": 10},
    {"name": "denoising", "word_dropout": 0.2, "word_dropout_start": 0.8, "word_dropout_steps": 10},
]


@pytest.mark.parametrize(("step", "rate"), [(0, 0.8), (5, 0.5), (10, 0.2), (1000, 0.2)])
@pytest.mark.parametrize("part", MOVING, ids=lambda part: part["name"])
def test_word_dropout_moves_linearly_over_the_steps(part, step, rate):
    # As above, for each of eight rates.
    torch.manual_seed(0)
    noise, batch = make("model.noise", part).train(), many()
    noise.step = step
    hidden = noise(batch).inputs[batch.inputs >= 4] == UNKNOWN
    assert abs(float(hidden.double().mean()) - rate) < 5 * (rate * (1 - rate) / len(hidden)) ** 0.5


@pytest.mark.parametrize("part", MOVING, ids=lambda part: part["name"])
def test_what_moves_is_not_stored_with_the_weights(part):
    noise = make("model.noise", part)
    noise.step = 7
    assert not noise.state_dict()


@pytest.mark.parametrize("start", [-0.1, 1.1, float("nan")])
def test_a_start_that_is_no_probability_is_refused(start):
    with pytest.raises(ConfigError, match="start"):
        WordDropout(start=start)


def test_word_dropout_of_one_hides_every_word_and_of_zero_none():
    batch = many()
    words = batch.inputs >= 4
    assert (WordDropout(rate=1.0).train()(batch).inputs[words] == UNKNOWN).all()
    assert torch.equal(WordDropout(rate=0.0).train()(batch).inputs, batch.inputs)


def test_word_dropout_never_changes_the_other_words():
    batch = many()
    after = WordDropout(rate=0.5).train()(batch).inputs
    seen = after != UNKNOWN
    assert torch.equal(after[seen], batch.inputs[seen])


def test_word_dropout_leaves_what_the_encoder_reads_alone():
    batch = many()
    assert torch.equal(WordDropout(rate=1.0).train()(batch).source, batch.source)


def test_each_pass_samples_new_noise():
    noise, batch = WordDropout(rate=0.5).train(), many()
    assert not torch.equal(noise(batch).inputs, noise(batch).inputs)


def test_the_model_scores_the_true_targets_of_a_noisy_batch(small_model, random_batch):
    model, batch = small_model(noise={"rate": 1.0}).train(), random_batch()
    assert model(batch).batch is batch


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_probability_is_refused(rate):
    with pytest.raises(ConfigError, match="rate"):
        WordDropout(rate=rate)


# -- dropout of features -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("locked", [True, False])
def test_locked_dropout_has_one_mask_for_all_steps_of_a_sentence(locked):
    torch.manual_seed(0)
    kept = SequenceDropout(0.5, locked=locked).train()(torch.ones(8, 10, 16)) != 0
    assert bool((kept == kept[:, :1]).all()) is locked
    assert not (kept == kept[:1]).all()


@pytest.mark.parametrize("locked", [True, False])
def test_dropout_keeps_its_rate_and_the_expectation(locked):
    # 40,000 independent features at 5 standard errors: a false alarm once in 1.7 million seeds.
    torch.manual_seed(0)
    rate, x = 0.3, torch.ones(100, 1, 400, dtype=torch.float64)
    after = SequenceDropout(rate, locked=locked).train()(x)
    kept = after != 0
    assert abs(float(kept.double().mean()) - (1 - rate)) < 5 * (rate * (1 - rate) / kept.numel()) ** 0.5
    torch.testing.assert_close(after[kept], torch.full_like(after[kept], 1 / (1 - rate)))


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_that_leaves_nothing_is_refused(rate):
    with pytest.raises(ConfigError, match="dropout"):
        SequenceDropout(rate, locked=True)
