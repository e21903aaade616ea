"""Sample and rank."""

from typing import NamedTuple

import pytest

from seqvae.errors import ConfigError
from seqvae.latent.ranking import check_sampling, choose_likeliest, repeat_labels


class Sentence(NamedTuple):
    log_prob: float
    tokens: int


def make(*pairs):
    return [Sentence(*pair) for pair in pairs]


def test_the_likeliest_per_token_of_each_length_is_kept_in_the_order_of_the_rows():
    found = make((-9.0, 8), (-4.0, 2), (-8.0, 8), (-2.0, 2))
    assert choose_likeliest(found, 2) == [2, 3]


def test_a_long_sentence_competes_with_long_ones_only():
    short, long = [(-0.2, 2)] * 4, [(-16.0, 8), (-24.0, 8), (-17.0, 8), (-9.0, 8)]
    kept = choose_likeliest(make(*short, *long), 4)
    assert [kept[0] < 4, kept[1]] == [True, 7]


def test_one_candidate_keeps_all():
    assert choose_likeliest(make((-3.0, 2), (-1.0, 9), (-2.0, 1)), 1) == [0, 1, 2]


def test_each_label_keeps_its_number_and_its_places():
    labels = repeat_labels(["a", "b", "a"], 2)
    assert labels == ["a", "a", "b", "b", "a", "a"]
    found = make((-1.0, 3), (-2.0, 3), (-9.0, 3), (-8.0, 3), (-4.0, 3), (-3.0, 3))
    kept = choose_likeliest(found, 2, labels)
    assert sorted(labels[row] for row in kept) == ["a", "a", "b"] and 3 in kept
    assert repeat_labels("a", 5) == "a" and repeat_labels(None, 5) is None


@pytest.mark.parametrize(("candidates", "message"), [(0, "at least 1"), (2.5, "whole"), (10**6, "at most 1000")])
def test_numbers_of_candidates_out_of_range_are_refused(candidates, message):
    with pytest.raises(ConfigError, match=message):
        check_sampling(candidates=candidates)
