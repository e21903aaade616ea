"""A set of texts by itself and against another: cases solved by hand, and self-BLEU against sacrebleu."""

import math
import random

import pytest
from sacrebleu.metrics import BLEU

from seqvae.evaluation import text_metrics
from seqvae.evaluation.text_metrics import (
    distinct,
    edit_distance,
    length_divergence,
    nearest,
    novelty,
    self_bleu,
    unigram_divergence,
    unique,
)


def texts_of(count, longest=9, words="abcde", seed=0):
    source = random.Random(seed)
    return [" ".join(source.choices(words, k=source.randrange(longest + 1))) for _ in range(count)]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_self_bleu_is_the_mean_that_sacrebleu_gives_with_all_others_as_references(n, seed):
    # Short texts, repeated words, empty texts and doubles among them; a text of z alone shares nothing with any.
    texts = [*texts_of(40, seed=seed), "a b c d e a", "a b c d e a", "z", "z z z z z z z z z z z z z"]
    judge = BLEU(tokenize="none", smooth_method="floor", max_ngram_order=n, effective_order=True, force=True)
    each = [
        judge.sentence_score(text, texts[:i] + texts[i + 1 :]).score if text else 0.0 for i, text in enumerate(texts)
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


def test_novelty_is_the_share_of_texts_that_are_not_known_doubles_counted():
    assert novelty(["a", "b", "a", "c"], iter(["a", "d"])) == 2 / 4
    assert novelty([(5, 2), (6, 2)], [(6, 2)]) == 1 / 2


@pytest.mark.parametrize("block", [1, 7, 64])
def test_the_nearest_known_text_is_the_one_that_comparing_all_pairs_finds(block, monkeypatch):
    monkeypatch.setattr(text_metrics, "BLOCK", block)
    texts, known = texts_of(20, seed=1), texts_of(30, seed=2)
    least = [min(edit_distance([text], [other]) for other in known) for text in texts]
    assert nearest(texts, known) == pytest.approx(sum(least) / len(least), abs=1e-12)


def test_divergences_solved_by_hand():
    # Lengths 1 and 2, half each, against 2 alone: m = (1/4, 3/4), so 1/4 log 2 + 1/4 log 2/3 + 1/2 log 4/3.
    expected = (math.log(2) + math.log(2 / 3) + 2 * math.log(4 / 3)) / 4
    assert length_divergence(["a", "b c"], ["x y"]) == pytest.approx(expected)
    # Words a and b, half each, against b alone: the same.
    assert unigram_divergence(["a b", "b a"], ["b b b"]) == pytest.approx(expected)
    assert unigram_divergence(["b"], ["a", "b"]) == pytest.approx(expected)


@pytest.mark.parametrize("divergence", [length_divergence, unigram_divergence])
def test_divergences_lie_between_0_and_log_2(divergence):
    assert divergence(["a b", "c"], ["c", "a b"]) == 0
    assert divergence(["a"], ["b c"]) == math.log(2)
    assert divergence(["", ""], ["b"]) == math.log(2)
    assert divergence([""], [""]) == 0
    # of 100 random texts against 100 others: neither end
    assert 0 < divergence(texts_of(100, seed=1), texts_of(100, seed=2)) < math.log(2)
