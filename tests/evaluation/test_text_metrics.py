"""Metrics of texts: cases solved by hand, and self-BLEU against sacrebleu."""

import math
import random
import sys

import pytest
from sacrebleu.metrics import BLEU

from seqvae.errors import ConfigError
from seqvae.evaluation.text_metrics import (
    bleu,
    bleu_standard_error,
    count_shared,
    distinct,
    distinct_steps,
    edit_distance,
    exact_match,
    is_directed,
    is_monotone,
    limit_by_ends,
    list_words,
    novelty,
    self_bleu,
    token_accuracy,
    unique,
)

END = 2

# -- reconstructions --------------------------------------------------------------------------------------------------


def test_exact_match_ignores_the_number_of_spaces():
    assert exact_match(["a b", "a b", "a b", ""], ["a  b ", "b a", "a b c", ""]) == 2 / 4


def test_token_accuracy_counts_the_positions_of_the_original_and_its_eos():
    # 5 6 7 EOS as 5 9 7 EOS: 3 of 4. 5 6 EOS as 5 6 7 EOS: 2 of 3, EOS missed. 8 EOS as EOS: 0 of 2.
    # An extra word at the start moves all others: 0 of 4.
    originals = [[5, 6, 7, END], [5, 6, END], [8, END], [5, 6, 7, END]]
    reconstructed = [[5, 9, 7, END], [5, 6, 7, END], [END], [9, 5, 6, 7, END]]
    assert token_accuracy(originals, reconstructed) == 5 / 13


def test_bleu_solved_by_hand_with_the_penalty_of_a_short_corpus():
    # a b c d e (of a b c d f) and a b c d (of a b c d g h): 4+4 of 5+4 words, 3+3 of 4+3 pairs, 2+2 of 3+2
    # triples, 1+1 of 2+1 quadruples; 9 words for 11: exp(1 - 11/9).
    expected = 100 * (8 / 9 * 6 / 7 * 4 / 5 * 2 / 3) ** 0.25 * 2.718281828459045 ** (1 - 11 / 9)
    assert bleu(["a b c d f", "a b c d g h"], ["a b c d e", "a b c d"]) == pytest.approx(expected)


def test_bleu_neither_splits_nor_lower_cases_words():
    assert bleu(["a b c d-e ."], ["a b c d-e ."]) == pytest.approx(100)
    assert bleu(["A, B, C, D,"], ["a, b, c, d,"]) == 0  # split at the commas, or lower-cased, something would match


def test_the_error_of_bleu_is_that_of_a_mean_where_each_sentence_is_all_right_or_all_wrong():
    # k of N right, of equal lengths: each precision is k / N, and BLEU 100 k / N, a mean of zeros and hundreds.
    originals, right = ["a b c d e"] * 40, 30
    reconstructed = originals[:right] + ["v w x y z"] * (40 - right)
    assert bleu(originals, reconstructed) == pytest.approx(100 * right / 40)
    expected = 100 * (0.75 * 0.25 / 40) ** 0.5
    assert bleu_standard_error(originals, reconstructed) == pytest.approx(expected, rel=0.15)
    assert bleu_standard_error(originals, reconstructed) == bleu_standard_error(originals, reconstructed)
    assert bleu_standard_error(originals, reconstructed) != bleu_standard_error(originals, reconstructed, seed=1)


def test_the_error_of_bleu_is_0_where_all_sentences_are_alike_and_for_empty_reconstructions():
    assert bleu_standard_error(["a b c d f"] * 5, ["a b c d e"] * 5) == pytest.approx(0, abs=1e-9)
    assert bleu_standard_error(["a b", "c d e f"], ["", ""]) == 0


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


def test_words_hold_a_letter_or_a_digit():
    assert list_words("( ça va ? ) 3 - 2 ... it's <unk> 😀 !") == ["ça", "va", "3", "2", "it's", "<unk>"]
    assert list_words(" . ") == []


def test_shared_words_count_as_often_as_both_have_them_and_marks_never():
    assert count_shared(["a b a .", "a", "a a a b b", ". .", ""], "a b a .") == [3, 1, 3, 0, 0]


@pytest.mark.parametrize(
    ("path", "monotone", "directed"),
    [
        (["a b c", "a b x", "a y x", "z y x"], True, True),
        (["a b", "a b", "x y", "x y"], True, True),  # steps that repeat an end
        (["a b", "a b"], True, True),
        (["a b .", "c d !", "e f ."], True, True),  # marks do not count
        (["a b c", "a y x", "a b x", "z y x"], False, False),  # one word of the first comes back for one of the last
        (["a b c", "p q r", "a q r", "z y x"], False, False),  # one word of the first comes back
        (["a b c", "p y x", "p q x", "z y x"], False, False),  # one word of the last is lost again
        (["a b to", "a b", "x to"], False, True),  # both ends have the word that is missing between them
        (["a b to", "a q", "x to"], False, True),
    ],
    ids=str,
)
def test_paths_that_turn_back_are_found(path, monotone, directed):
    assert (is_monotone(path), is_directed(path)) == (monotone, directed)
    assert is_monotone(path[::-1]) == monotone and is_directed(path[::-1]) == directed


def test_the_limit_of_a_step_is_that_of_the_end_of_the_larger_perplexity():
    assert limit_by_ends([math.log(20), 9.0, math.log(80)], 1.5) == pytest.approx(math.log(120))
    assert limit_by_ends([math.log(80), 0.1, math.log(20)], 1.0) == pytest.approx(math.log(80))


@pytest.mark.parametrize(
    ("package", "metric"), [("sacrebleu", bleu), ("sacrebleu", bleu_standard_error), ("rapidfuzz", edit_distance)]
)
def test_a_missing_package_is_refused_with_what_to_install(package, metric, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.distance", None)
    monkeypatch.setitem(sys.modules, f"{package}.metrics", None)
    with pytest.raises(ConfigError, match=rf'{package}.*pip install "seqvae\[eval\]"'):
        metric(["a b"], ["a b"])


# -- samples ----------------------------------------------------------------------------------------------------------


def texts_of(count, longest=9, words="abcde", seed=0):
    source = random.Random(seed)
    return [" ".join(source.choices(words, k=source.randrange(longest + 1))) for _ in range(count)]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_self_bleu_is_the_mean_that_sacrebleu_gives_with_all_others_as_references(n, seed):
    # Short texts, repeated words, empty texts and duplicates among them; a text of z alone shares nothing with any.
    texts = [*texts_of(40, seed=seed), "a b c d e a", "a b c d e a", "z", "z z z z z z z z z z z z z"]
    reference = BLEU(tokenize="none", smooth_method="floor", max_ngram_order=n, effective_order=True, force=True)
    each = [
        reference.sentence_score(text, texts[:i] + texts[i + 1 :]).score if text else 0.0
        for i, text in enumerate(texts)
    ]
    assert self_bleu(texts, n) == pytest.approx(sum(each) / len(each), abs=1e-9)


def test_self_bleu_is_100_for_equal_texts_and_0_for_texts_without_a_common_word():
    assert self_bleu(["a b c d e f"] * 3, 5) == pytest.approx(100)
    assert self_bleu(["a b c", "d e f"], 2) == 0


def test_self_bleu_of_one_text_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        self_bleu(["a b c"])


def test_distinct_counts_the_different_n_grams_of_all_texts_together():
    texts = ["a b a b", "a b c"]  # pairs: ab ba ab ab bc; quadruples: abab
    assert [distinct(texts, n) for n in (1, 2, 4, 5)] == [3 / 7, 3 / 5, 1, 0]


def test_unique_counts_each_different_text_once():
    assert unique(["a", "b", "a", "a"]) == 2 / 4


def test_novelty_is_the_fraction_of_texts_that_are_not_known_duplicates_counted():
    assert novelty(["a", "b", "a", "c"], iter(["a", "d"])) == 2 / 4
    assert novelty([(5, 2), (6, 2)], [(6, 2)]) == 1 / 2
