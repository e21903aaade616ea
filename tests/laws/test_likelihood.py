"""Likelihoods compare: across tokenizers by denominators that know none, and with the entropy of the source below all.

`Known` is a model without a latent space that gives each sentence a given probability, whatever its tokens are.
"""

import math

import pytest
import torch
from torch.distributions import Independent, Normal

from seqvae.data.batch import END, Batch
from seqvae.data.batching import iterate_by_length
from seqvae.data.text import grammar
from seqvae.data.text.corpus import load
from seqvae.errors import CorpusError
from seqvae.evaluation.evaluate import compute_scores, evaluate
from seqvae.evaluation.likelihood import measure
from seqvae.text_vae import TextVAE

SAMPLED = grammar.sample(60, seed=5)
TEXTS = [sentence.text for sentence in SAMPLED]
TRUTH = [sentence.log_prob for sentence in SAMPLED]
CHARACTERS = [len(text) + 1 for text in TEXTS]


class Known(torch.nn.Module):
    """log p(x) looked up by the ids of x, spread evenly over them."""

    latent, has_latent = 0, False

    def __init__(self, log_prob):
        super().__init__()
        self.known, self.anchor = log_prob, torch.nn.Parameter(torch.zeros(()))

    def encode_features(self, batch):
        return torch.zeros(len(batch), 0)

    def posterior(self, h):
        return Independent(Normal(h, h + 1), 1)

    def prior(self):
        return self.posterior(torch.zeros(0))

    def log_prob(self, batch, z):
        rows = zip(batch.targets.tolist(), batch.lengths.tolist(), strict=True)
        mean = torch.tensor([self.known[tuple(ids[:length])] / length for ids, length in rows], dtype=torch.float64)
        return torch.where(batch.mask, mean[:, None], 0.0)


def with_tokenizer(kind, log_probs):
    """Return the scores of sentences in the ids of that tokenizer under a model that gives them these probabilities."""
    split = load(TEXTS, tokenizer=kind, whole=True).test
    known = dict(zip(map(tuple, split.sequences(range(len(split)))), log_probs, strict=True))
    sizes = {"words": split.words, "bytes": split.bytes, "characters": CHARACTERS}
    return evaluate(Known(known), iterate_by_length(split, batch_size=7), **sizes, true_log_probs=TRUTH)


def test_tokenizers_of_one_corpus_are_compared_by_what_does_not_know_them():
    word, char = with_tokenizer("word", TRUTH), with_tokenizer("char", TRUTH)
    for name in ("nll", "nll_standard_error", "perplexity", "bits_per_byte", "bits_per_character", "gap_to_entropy"):
        assert getattr(word, name) == pytest.approx(getattr(char, name), abs=1e-9), name
    assert char.tokens > 3 * word.tokens
    assert char.perplexity_token < word.perplexity_token / 3  # the finer the tokens, the lower, for the same nats
    assert word.perplexity == pytest.approx(word.perplexity_token)  # here each token of the word tokenizer is a word
    assert math.log(char.perplexity_token) * char.tokens == pytest.approx(math.log(word.perplexity_token) * word.tokens)


def test_a_uniform_model_of_characters_needs_the_logarithm_of_their_number():
    letters = 30
    found = with_tokenizer("char", [-count * math.log(letters) for count in CHARACTERS])
    assert found.bits_per_character == pytest.approx(math.log2(letters))
    assert found.bits_per_byte == pytest.approx(math.log2(letters))  # the grammar is ASCII
    assert found.perplexity_token == pytest.approx(letters)
    assert found.nll == pytest.approx(sum(CHARACTERS) / 60 * math.log(letters))


def test_the_perfect_model_of_the_grammar_scores_its_entropy():
    found = with_tokenizer("word", TRUTH)
    assert found.entropy == pytest.approx(-sum(TRUTH) / 60)
    assert found.gap_to_entropy == pytest.approx(0, abs=1e-9)
    assert found.gap_to_entropy_standard_error == pytest.approx(0, abs=1e-9)
    assert found.nll_standard_error > 0.1  # so the gap is measured sentence by sentence


def test_the_gap_to_the_entropy_and_its_error_by_hand():
    worse = [log - (1.0 if place % 2 else 3.0) for place, log in enumerate(TRUTH)]
    found = with_tokenizer("word", worse)
    assert found.gap_to_entropy == pytest.approx(2.0)
    assert found.gap_to_entropy_standard_error == pytest.approx((60 / 59 / 60) ** 0.5)


def test_a_trained_model_of_the_grammar_stays_above_its_entropy():
    texts = [sentence.text for sentence in grammar.sample(300, seed=1)]
    options = {"latent": 2, "embedding": 16, "encoder": {"hidden": 16}, "decoder": {"hidden": 32}}
    model = TextVAE.fit(texts, **options, tokenizer="char", max_epochs=4, precision="fp32", learning_rate=0.01)
    split = load(TEXTS, tokenizer=model.tokenizer, whole=True).test
    assert not any(3 in ids for ids in split.sequences(range(60)))  # what is unknown may be anything, at no cost
    pairs = list(iterate_by_length(split))
    table = measure(model.model, pairs, samples=20)
    found = compute_scores(model.model, pairs, table, words=split.words, bytes=split.bytes, true_log_probs=TRUTH)
    assert found.gap_to_entropy > 1  # four epochs are not enough to know the grammar
    assert found.gap_to_entropy + 3 * found.gap_to_entropy_standard_error >= 0
    assert found.gap_to_entropy == pytest.approx(float(table.nll.mean()) - found.entropy)
    assert found.gap_to_entropy_standard_error < found.nll_standard_error


@pytest.mark.parametrize(
    ("exact", "words"), [([-1.0], "expected one for each of 2"), ([-1.0, -math.inf], "not finite")]
)
def test_exact_probabilities_that_cannot_be_those_of_the_sentences_are_refused(exact, words):
    model = Known({(4, END): -1.0, (5, END): -2.0})
    with pytest.raises(CorpusError, match=words):
        evaluate(model, [([0, 1], Batch.of([[4, END], [5, END]]))], words=2, bytes=4, true_log_probs=exact)
