"""Laws of the n-gram model: it is a distribution, and the one that Kneser and Ney describe."""

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest

from seqvae.data.batch import END, START, UNKNOWN
from seqvae.data.text import grammar
from seqvae.errors import ConfigError
from seqvae.evaluation.baselines import NGram

VOCABULARY = 9
SEQUENCES = [
    [*words, END] for words in np.random.default_rng(0).integers(UNKNOWN, VOCABULARY - 1, (40, 6)).tolist()
] + [[4, 5], [5, 5, 5, 5, 5, 5, 5], [END]]


def probabilities(model, context):
    """p(w | context) of every id that can be generated, by what each adds to the log-probability."""
    words = range(END, model.vocabulary)
    return np.exp(model.log_probs([[*context, word] for word in words]) - model.log_prob(context))


# Contexts that occurred, the empty one, ones that never did (8 never occurs), and ones longer than the order.
CONTEXTS = [[], [4], [4, 5], SEQUENCES[0][:5], [8], [8, 8, 4], [4, 8], [5] * 9, [END, END]]


@pytest.mark.parametrize(("order", "discount"), list(product([1, 2, 3, 5], [None, 0.75, 1.0])))
def test_the_probabilities_of_all_that_can_be_said_sum_to_one(order, discount):
    model = NGram.fit(SEQUENCES, order=order, vocabulary=VOCABULARY, discount=discount)
    for context in CONTEXTS:
        p = probabilities(model, context)
        assert p.sum() == pytest.approx(1.0, abs=1e-12) and (p > 0).all()


def test_a_bigram_model_solved_by_hand():
    # Two sentences, a b and a a, over the four words that can be generated: EOS, unknown, a, b. D = 3/4.
    # Pairs: start a (twice), a b, b end, a a, a end. Words before a: start, a; before b: a; before the end: b, a.
    # So of 5 pairs 2 are a's, 1 is b's, 2 are the end's; three words occur, and 3/4 * 3/5 * 1/4 = 0.1125 goes to each:
    # p(a) = 1.25/5 + 0.1125 = 0.3625 = p(end), p(b) = 0.25/5 + 0.1125 = 0.1625, p(unknown) = 0.1125.
    # p(a|start) = 1.25/2 + 3/4 * 1/2 * 0.3625 = 0.7609375
    # p(b|a)     = 0.25/3 + 3/4 * 3/3 * 0.1625 = 0.2052083...
    # p(end|b)   = 0.25/1 + 3/4 * 1/1 * 0.3625 = 0.521875
    # p(unknown|a) = 3/4 * 0.1125 = 0.084375; after the unknown word p(b) = 0.1625 as nothing ever followed it.
    a, b = 4, 5
    model = NGram.fit([[a, b, END], [a, a, END]], order=2, vocabulary=6, discount=0.75)
    first, second, last = 0.7609375, 0.25 / 3 + 0.75 * 0.1625, 0.521875
    assert model.log_prob([a, b, END]) == pytest.approx(math.log(first * second * last), abs=1e-12)
    assert model.log_prob([a, UNKNOWN, b]) == pytest.approx(math.log(first * 0.084375 * 0.1625), abs=1e-12)


def test_an_order_of_one_is_the_discounted_relative_frequency():
    model = NGram.fit(SEQUENCES, order=1, vocabulary=VOCABULARY, discount=0.5)
    counts = Counter(word for sequence in SEQUENCES for word in sequence)
    uniform = 0.5 * len(counts) / counts.total() / (VOCABULARY - 2)
    expected = [max(counts[word] - 0.5, 0) / counts.total() + uniform for word in range(END, VOCABULARY)]
    assert probabilities(model, [4, 4]) == pytest.approx(expected, abs=1e-12)


def test_three_orders_agree_with_the_recursion_written_out():
    padded = [[START, *sequence] for sequence in SEQUENCES]
    grams = {
        size: Counter(tuple(row[i : i + size]) for row in padded for i in range(len(row) - size + 1))
        for size in (1, 2, 3)
    }

    def count(gram):
        if len(gram) == 3 or gram[0] == START:
            return grams[len(gram)][gram]
        return sum(longer[1:] == gram for longer in grams[len(gram) + 1])

    def probability(context, word):
        words = {v: a for v in range(END, VOCABULARY) if (a := count((*context, v)))}
        total = sum(words.values())
        shorter = probability(context[1:], word) if context else 1 / (VOCABULARY - 2)
        return (max(words.get(word, 0) - 0.6, 0) + 0.6 * len(words) * shorter) / total if total else shorter

    model = NGram.fit(SEQUENCES, order=3, vocabulary=VOCABULARY, discount=0.6)
    for sentence in ([4, 5, 6, END], SEQUENCES[3], [8, 4, 4], [5, 5, 5, 8, 7]):
        row = (START, *sentence)
        expected = sum(math.log(probability(row[max(i - 2, 0) : i], row[i])) for i in range(1, len(row)))
        assert model.log_prob(sentence) == pytest.approx(expected, abs=1e-12)


def test_the_estimated_discount_is_that_of_the_counts_of_counts():
    # Of the words 4 and 5 occur once, 6 and the end twice: D = 2 / (2 + 2 * 2). Nothing occurs twice below: 3/4.
    model = NGram.fit([[4, 6, END], [5, 6, END]], order=1, vocabulary=7)
    assert model.tables[0].discount == pytest.approx(1 / 3)
    assert NGram.fit([[4, 5, 6]], order=1, vocabulary=7).tables[0].discount == 0.75


def test_longer_contexts_predict_held_out_sentences_of_the_grammar_better():
    texts = [sentence.text.split() for sentence in grammar.sample(3_000, seed=0)]
    ids = {word: id for id, word in enumerate(sorted({word for text in texts for word in text}), UNKNOWN)}
    sequences = [[ids[word] for word in text] + [END] for text in texts]
    train, held_out = sequences[:2_500], sequences[2_500:]
    score = [NGram.fit(train, order=order, vocabulary=len(ids) + 3).log_probs(held_out).mean() for order in (1, 2, 3)]
    assert score[0] < score[1] < score[2] < -grammar.entropy()


def test_many_sequences_score_as_each_alone_and_the_empty_one_is_certain():
    model = NGram.fit(SEQUENCES, order=4, vocabulary=VOCABULARY)
    some = [*SEQUENCES[::7], [], [8]]
    assert model.log_probs(some) == pytest.approx([model.log_prob(sequence) for sequence in some], abs=1e-12)
    assert model.log_prob([]) == 0 and len(model.log_probs([])) == 0


def test_nothing_learned_is_the_uniform_distribution():
    assert probabilities(NGram.fit([], order=3, vocabulary=VOCABULARY), [4]) == pytest.approx([1 / 7] * 7)


@pytest.mark.parametrize("options", [{"order": 0}, {"discount": 0.0}, {"discount": 1.5}], ids=str)
def test_an_order_or_a_discount_out_of_range_is_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        NGram.fit(SEQUENCES, vocabulary=VOCABULARY, **options)


@pytest.mark.parametrize("id", [-1, 0, START, VOCABULARY])
def test_what_cannot_be_said_cannot_be_scored(id):
    with pytest.raises(ValueError, match="ids must lie"):
        NGram.fit(SEQUENCES, order=2, vocabulary=VOCABULARY).log_prob([4, id])
