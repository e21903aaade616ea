"""Laws of the batches."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqvae.data import batching
from seqvae.data.batch import Batch
from seqvae.data.batching import Batches, divide_by_length, iterate_by_length, sort_by_length
from seqvae.data.text.corpus import load
from seqvae.errors import ConfigError

settings.register_profile("calm", deadline=None)  # a busy machine is no failure
settings.load_profile("calm")


class Lengths:
    """The part of a split that a plan needs."""

    def __init__(self, lengths):
        self.lengths = np.array(lengths, np.int32)

    def __len__(self):
        return len(self.lengths)


@pytest.fixture(scope="module")
def split():
    return load([f"w{i} " + "a " * (i * 7 % 11) for i in range(150)], whole=True, max_length=9).test


some_lengths = st.lists(st.integers(1, 8), min_size=1, max_size=60)
deals = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 9),
        "seed": st.integers(0, 3),
        "exact_length": st.booleans(),
        "max_tokens": st.one_of(st.none(), st.integers(1, 30)),
    }
)


def plan_of(lengths, options, epoch=0):
    return Batches(Lengths(lengths), **options).plan(epoch)


@given(lengths=some_lengths, options=deals, epoch=st.integers(0, 3))
def test_every_sentence_comes_once_an_epoch_the_last_partial_batch_too(lengths, options, epoch):
    counts = Counter(int(i) for indices in plan_of(lengths, options, epoch) for i in indices)
    assert set(counts) == set(range(len(lengths))) and set(counts.values()) == {1}


@given(lengths=some_lengths, options=deals, epochs=st.tuples(st.integers(0, 5), st.integers(0, 5)))
def test_every_epoch_has_the_same_number_of_batches(lengths, options, epochs):
    counts = {len(plan_of(lengths, options, epoch)) for epoch in epochs}
    assert counts == {Batches(Lengths(lengths), **options).steps}


@given(lengths=some_lengths, options=deals, epoch=st.integers(0, 3))
def test_the_order_is_a_pure_function_of_seed_and_epoch(lengths, options, epoch):
    one, two = plan_of(lengths, options, epoch), plan_of(lengths, options, epoch)
    assert [indices.tolist() for indices in one] == [indices.tolist() for indices in two]


@given(lengths=some_lengths, options=deals)
def test_no_batch_is_empty_or_larger_than_asked(lengths, options):
    assert all(1 <= len(indices) <= options["batch_size"] for indices in plan_of(lengths, options))


@given(lengths=some_lengths, options=deals, tokens=st.integers(1, 30))
def test_no_batch_has_more_tokens_than_asked_unless_it_is_one_sentence(lengths, options, tokens):
    for indices in plan_of(lengths, options | {"max_tokens": tokens}):
        assert len(indices) == 1 or len(indices) * max(lengths[i] for i in indices) <= tokens


def test_a_limit_of_tokens_divides_no_more_than_needed():
    plan = Batches(Lengths([1] * 10 + [4] * 5 + [9]), batch_size=8, max_tokens=8).plan(0)
    assert sorted(map(len, plan)) == [1, 1, 2, 2, 2, 8]


@given(lengths=some_lengths, options=deals)
def test_exact_length_batches_need_no_padding(lengths, options):
    for indices in plan_of(lengths, options | {"exact_length": True}):
        assert len({lengths[i] for i in indices}) == 1


@given(lengths=some_lengths, options=deals)
def test_batches_hold_sentences_of_like_length(lengths, options):
    spans = sorted(
        (min(here), max(here)) for indices in plan_of(lengths, options) if (here := [lengths[i] for i in indices])
    )
    assert all(first[1] <= second[0] for first, second in pairwise(spans))


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 70), st.integers(0, 5))
@settings(deadline=None)
def test_sorting_a_part_at_a_time_is_a_stable_sort_of_all(lengths, part, seed):
    lengths, rows = np.array(lengths, np.int32), np.random.default_rng(seed).permutation(len(lengths)).astype(np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "PART", part)
        patch.setattr(batching, "MOST_SORTED", 30)
        found = sort_by_length(rows, lengths)
    expected = rows[np.argsort(lengths[rows].clip(max=30), kind="stable")]
    assert found.dtype == np.int32 and found.tolist() == expected.tolist()


def test_batches_are_formed_anew_every_epoch_and_for_every_seed():
    lengths = [5] * 1000  # the odds that two shuffles agree are 1 in 1000!
    formed = [
        {frozenset(indices.tolist()) for indices in Batches(Lengths(lengths), batch_size=10, seed=seed).plan(epoch)}
        for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]
    ]
    assert all(len(one & two) < 5 for i, one in enumerate(formed) for two in formed[:i])


def test_long_sentences_do_not_always_come_last():
    plan = Batches(Lengths(range(1, 1001)), batch_size=10).plan(0)
    means = [float(np.mean(indices)) for indices in plan]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.5  # false alarm: 5 sigma, odds below 1e-6, seed fixed


@pytest.mark.parametrize("exact_length", [False, True])
def test_an_epoch_resumed_at_any_batch_goes_on_as_it_would_have(split, exact_length):
    batches = Batches(split, batch_size=16, exact_length=exact_length)
    whole = [batch.targets.tolist() for batch in batches.epoch(3)]
    assert len(whole) == batches.steps
    for start in (0, 1, len(whole) - 1, len(whole)):
        assert [batch.targets.tolist() for batch in batches.epoch(3, start)] == whole[start:]


def test_a_batch_is_that_of_its_sequences(split):
    batches = Batches(split, batch_size=7)
    for indices, batch in zip(batches.plan(0), batches.epoch(0), strict=True):
        same = Batch.of(split.sequences(indices))
        for name in ("source", "inputs", "targets", "lengths"):
            assert getattr(batch, name).dtype == getattr(same, name).dtype
            assert getattr(batch, name).equal(getattr(same, name))


@pytest.mark.parametrize("max_tokens", [None, 1, 30])
def test_evaluation_sees_each_sentence_once_in_order_of_length(split, max_tokens):
    seen, last = [], 0
    for indices, batch in iterate_by_length(split, batch_size=16, max_tokens=max_tokens):
        assert len(batch) <= 16 and batch.lengths.tolist() == split.lengths[indices].tolist()
        assert max_tokens is None or len(batch) == 1 or batch.targets.numel() <= max_tokens
        assert last <= batch.lengths.min()
        last = batch.lengths.max()
        seen += indices.tolist()
    assert sorted(seen) == list(range(len(split)))


@settings(max_examples=50)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=200), st.integers(1, 100), st.none() | st.integers(1, 100))
def test_sequences_divided_by_length_share_a_batch_with_others_only_where_few_have_their_length(lengths, size, tokens):
    lengths = np.array(lengths)
    parts = list(divide_by_length(lengths, size, tokens))
    order = np.concatenate(parts)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) >= 0).all()
    counts = Counter(lengths.tolist())
    for part in parts:
        found = set(lengths[part].tolist())
        assert 0 < len(part) <= size
        assert len(found) == 1 or all(counts[length] < max(16, size // 4) for length in found)
        assert tokens is None or len(part) == 1 or max(found) * len(part) <= tokens


def test_a_batch_larger_than_any_number_of_the_machine_is_the_whole_corpus(split):
    (rows,) = Batches(split, batch_size=2**63).plan(0)
    assert len(rows) == len(split)


def test_a_batch_size_of_zero_is_refused(split):
    with pytest.raises(ConfigError):
        Batches(split, batch_size=0)
