"""How like each other texts are, one to one: cases solved by hand."""

import sys

import pytest

from seqvae.errors import ConfigError
from seqvae.evaluation.text_metrics import bleu, distinct_steps, edit_distance, exact_match, smoothness, token_accuracy

END = 2


def test_a_text_said_word_for_word_matches_whatever_the_spaces():
    assert exact_match(["a b", "a b", "a b", ""], ["a  b ", "b a", "a b c", ""]) == 2 / 4


def test_token_accuracy_counts_the_places_of_the_original_and_its_end():
    # 5 6 7 end said as 5 9 7 end: 3 of 4. 5 6 end said as 5 6 7 end: 2 of 3, the end missed. 8 end said as end: 0 of 2.
    # A word too many at the start moves all others: 0 of 4.
    originals = [[5, 6, 7, END], [5, 6, END], [8, END], [5, 6, 7, END]]
    said = [[5, 9, 7, END], [5, 6, 7, END], [END], [9, 5, 6, 7, END]]
    assert token_accuracy(originals, said) == 5 / 13


def test_bleu_solved_by_hand_with_the_penalty_of_a_short_corpus():
    # Said a b c d e (of a b c d f) and a b c d (of a b c d g h): 4+4 of 5+4 words, 3+3 of 4+3 pairs, 2+2 of 3+2
    # triples, 1+1 of 2+1 quadruples; 9 words said for 11: exp(1 - 11/9).
    expected = 100 * (8 / 9 * 6 / 7 * 4 / 5 * 2 / 3) ** 0.25 * 2.718281828459045 ** (1 - 11 / 9)
    assert bleu(["a b c d f", "a b c d g h"], ["a b c d e", "a b c d"]) == pytest.approx(expected)


def test_bleu_cuts_and_lowers_no_word_any_further():
    assert bleu(["a b c d-e ."], ["a b c d-e ."]) == pytest.approx(100)
    assert bleu(["A, B, C, D,"], ["a, b, c, d,"]) == 0  # cut at the commas, or lowered, something would match


def test_the_edit_distance_counts_words_over_the_longer_text():
    # One of three replaced, two of four inserted, all deleted, nothing to do.
    assert edit_distance(["a b c", "a b", "a b", ""], ["a x c", "a x b y", "", ""]) == pytest.approx(
        (1 / 3 + 2 / 4 + 1 + 0) / 4
    )


@pytest.mark.parametrize("metric", [exact_match, token_accuracy, edit_distance])
def test_each_original_needs_its_reconstruction(metric):
    with pytest.raises(ValueError, match="zip"):
        metric(["a b", "a"], ["a b"])


def test_distinct_steps_are_the_neighbours_that_differ_on_all_paths_together():
    assert distinct_steps([["a", "a", "b", "a"], ["a", "b"]]) == 3 / 4


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["a a a", "b a a", "b b a", "b b b"], 1),  # 3 words apart, 3 steps of 1
        (["a a a", "a a a", "b b b", "b b b"], 1 / 3),  # 3 words apart, one step of 3 among 3
        (["a a a", "b a a", "b b b"], 3 / 4),  # 3 words apart, steps of 1 and 2
        (["a a a", "a a c", "a a d", "a a b"], 1 / 3),  # 1 word apart, 3 steps of 1: two in vain
        (["a", "b", "a"], 0),
        (["a", "a", "a"], 0),
        (["a", "b"], 1),
        (["", "a b"], 1),
    ],
    ids=str,
)
def test_smoothness_solved_by_hand(path, value):
    assert smoothness([path]) == pytest.approx(value)
    assert smoothness([path, ["a", "b"]]) == pytest.approx((value + 1) / 2)


@pytest.mark.parametrize(("package", "metric"), [("sacrebleu", bleu), ("rapidfuzz", edit_distance)])
def test_a_missing_package_is_told_with_what_to_install(package, metric, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.distance", None)
    with pytest.raises(ConfigError, match=rf'{package}.*pip install "seqvae\[eval\]"'):
        metric(["a b"], ["a b"])
