"""Linear probes: cases with a known answer, folds that do not leak, and labels that cannot be probed."""

import random

import numpy as np
import pytest
import torch

from seqvae.data.batch import END
from seqvae.data.text import grammar
from seqvae.errors import ConfigError
from seqvae.evaluation.probes import Probe, assign_folds, count_words, predict_majority, probe, probe_labels
from seqvae.evaluation.scores import get_definitions


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sequences_of(texts):
    ids = {}
    return [[*(ids.setdefault(word, 4 + len(ids)) for word in text.split()), END] for text in texts]


def distinct(count):
    """Sentences that are all different and carry no information."""
    return [[4 + row, 4, END] for row in range(count)]


# One probe


def test_linearly_separable_labels_are_all_predicted():
    # The three centres lie 10 apart and the noise is 0.5: an error would be a draw beyond 10 standard deviations.
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    label = torch.arange(300) % 3
    assert probe(centres[label] + 0.5 * noise(300, 2), [str(int(n)) for n in label]) == 1.0


def test_the_scale_and_place_of_the_features_do_not_matter():
    label = ["yes" if value > 0 else "no" for value in noise(200, 4).sum(1)]
    features = noise(200, 4)
    stretched = features * torch.tensor([1e-3, 1.0, 1e3, 1.0]) + torch.tensor([5.0, -5.0, 1e3, 0.0])
    assert probe(stretched, label) == pytest.approx(probe(features, label), abs=0.02)
    assert probe(features, label) > 0.9


def test_labels_independent_of_the_features_are_predicted_about_as_well_as_by_the_majority():
    # 1,000 held-out guesses with a standard error of at most 0.016: 5 of them, 6 of 10^7 by chance for each side.
    source = random.Random(0)
    labels = ["yes" if source.random() < 0.7 else "no" for _ in range(1_000)]
    assert predict_majority(labels) == pytest.approx(labels.count("yes") / 1_000)
    assert abs(probe(noise(1_000, 5), labels) - predict_majority(labels)) < 0.08


def test_a_feature_that_never_varies_changes_nothing():
    labels = [str(int(value > 0)) for value in noise(90, 2)[:, 0]]
    constant = torch.cat([noise(90, 2), torch.full((90, 1), 3.0)], dim=1)
    assert probe(constant, labels) == probe(noise(90, 2), labels)


def test_sparse_counts_give_the_accuracy_of_dense_ones():
    drawn = grammar.sample(200, seed=0)
    counts, labels = count_words(sequences_of([s.text for s in drawn])), [s.factors["tense"] for s in drawn]
    dense = probe(torch.from_numpy(counts.toarray()), labels)
    assert probe(counts, labels) == pytest.approx(dense, abs=0.01)


def test_the_same_seed_gives_the_same_number_and_gradients_may_be_off():
    features, labels = noise(120, 3), [str(n % 3) for n in range(120)]
    first = probe(features, labels, seed=1)
    with torch.no_grad():
        assert probe(features, labels, seed=1) == first


# Guessing


def test_the_majority_is_that_of_the_other_folds():
    # One row per fold: the majority without the only "b" is "a"; without an "a" it is tied, and "a" comes first.
    assert predict_majority(["a", "a", "b"], folds=3) == pytest.approx(2 / 3)
    # The label that is held out is the rarer one among the others, 1 to 2, as the rows of a pair share their fold.
    assert predict_majority(["a", "b", "b", "c", "c"], [0, 1, 1, 2, 2], folds=3) == 0.0


def test_the_bag_of_words_counts_the_most_frequent_words_that_are_in_two_sentences():
    given = [[7, 7, 8, END], [7, 9, 5, END], [8, 5, 7, END], [6, 6, END]]  # 6 and 9 are in one sentence only
    assert count_words(given).toarray().tolist() == [[0, 2, 1], [1, 1, 0], [1, 1, 1], [0, 0, 0]]  # 5, 7, 8
    assert count_words(given, words=1).toarray().tolist() == [[2], [1], [1], [0]]
    assert count_words([[4, END], [5, END]]).shape == (2, 0)


# Folds


@pytest.mark.parametrize("seed", range(5))
def test_groups_never_straddle_folds_and_folds_are_about_equally_large(seed):
    source = random.Random(seed)
    groups = [source.randrange(100) for _ in range(400)]
    fold = assign_folds(400, groups, folds=5, seed=seed)
    assert all(len({int(f) for f, g in zip(fold, groups, strict=True) if g == group}) == 1 for group in set(groups))
    assert np.bincount(fold).min() > 60 and np.bincount(fold).max() < 100  # a group has at most 13 rows
    assert np.bincount(assign_folds(400, folds=5)).tolist() == [80] * 5


def test_a_memorized_sentence_does_not_help_its_copies():
    # Random labels, one for each of 40 sentences of 10 copies. Without groups the copies give everything away; with
    # them there are 40 independent guesses, of which 0.8 are right with odds of 10^-4 (the seed is fixed).
    source = random.Random(0)
    label, place = [source.choice("ab") for _ in range(40)], [row for row in range(40) for _ in range(10)]
    features, labels = torch.eye(40)[place], [label[row] for row in place]
    assert probe(features, labels) == 1.0
    assert probe(features, labels, place) < 0.8


@pytest.mark.parametrize("folds", [2, 11])
def test_folds_are_at_least_three_and_no_more_than_there_are_groups(folds):
    with pytest.raises(ConfigError, match=f"folds = {folds}: expected 3 to 10"):
        assign_folds(10, folds=folds)


# Probes of a table


@pytest.mark.slow
def test_words_give_the_factors_of_the_grammar_away_and_empty_means_do_not():
    drawn = grammar.sample(600, seed=0)
    columns = {factor: [s.factors[factor] for s in drawn] for factor in ("tense", "number", "negation", "object")}
    found = probe_labels(noise(600, 8), sequences_of([s.text for s in drawn]), columns)
    assert [f.label for f in found] == list(columns)
    assert [f.classes for f in found] == [3, 2, 2, 3]
    for f in found:
        assert f.bag_of_words > f.majority + 0.2
        assert f.accuracy < f.majority + 0.11  # 5 standard errors
        assert f.standard_error == pytest.approx((f.accuracy * (1 - f.accuracy) / 600) ** 0.5)


def test_rows_without_a_label_are_left_out_and_counted():
    labels = ["yes", "no"] * 30
    means = torch.tensor([[1.0], [-1.0]] * 30)
    empty = torch.full((3, 1), torch.nan)
    found = probe_labels(torch.cat([means, empty]), distinct(63), {"polite": [*labels, None, "", " "]})[0]
    assert (found.classes, found.sentences, found.unlabelled, found.accuracy) == (2, 60, 3, 1.0)


@pytest.mark.slow
def test_labels_need_not_be_strings():
    means = torch.tensor([[1.0], [-1.0]] * 30)
    assert probe_labels(means, distinct(60), {"is": [True, False] * 30, "zero": [0, 1] * 30})[1].accuracy == 1.0


def test_no_more_sentences_are_used_than_allowed(monkeypatch):
    monkeypatch.setattr("seqvae.evaluation.probes.MAX_SENTENCES", 40)
    found = probe_labels(noise(100, 2), distinct(100), {"side": ["left", "right"] * 50})[0]
    assert (found.sentences, found.unlabelled) == (40, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["same"] * 300, "'year' has 1 different values in 300 sentences: expected 2 to 100, .* choose"),
        ([None] * 300, "'year' has 0 different values in 0 sentences"),
        ([n % 101 for n in range(300)], "has 101 different values in 300 sentences: expected 2 to 100, .* merge"),
        ([*range(11), *range(9), *[None] * 280], "has 11 different values in 20 sentences: .* no more than half"),
        (["a", "b"], "'year' has 2 rows: expected 300"),
    ],
)
def test_a_label_that_cannot_be_probed_is_refused_by_name(values, message):
    with pytest.raises(ConfigError, match=message):
        probe_labels(noise(300, 2), distinct(300), {"year": values})


def test_every_field_has_its_definition_of_one_line():
    found = probe_labels(noise(30, 2), distinct(30), {"side": ["left", "right"] * 15})[0]
    assert list(get_definitions(Probe)) == list(vars(found))
    assert all(line and "\n" not in line for line in get_definitions(Probe).values())
