"""The scores of texts: by a stand-in for a model with known texts, and by a tiny real one."""

import math
import sys
from dataclasses import asdict, fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from seqvae import TextVAE
from seqvae.data.batch import END
from seqvae.data.text.corpus import load
from seqvae.errors import ConfigError, CorpusError
from seqvae.evaluation.baselines import NGram
from seqvae.evaluation.scores import TextScores
from seqvae.reports.text_quality import evaluate_text

SENTENCES = [
    f"{subject} {verb}, {place}."
    for subject in ("a cat", "the dog", "one bird", "no horse")
    for verb in ("sat", "ran", "ate")
    for place in ("here", "there now", "at home")
]
SMALL = {"latent": 4, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}, "max_epochs": 2}
SMALL |= {"learning_rate": 0.02, "batch_size": 8, "precision": "fp32", "max_length": 20, "seed": 0}


class Parrot:
    """A stand-in for a model: its z is the number of a sentence, without noise, and its samples are given."""

    default_path = "linear"

    def __init__(self, tokenizer, sentences, samples=None):
        self.tokenizer, self.texts = tokenizer, [tokenizer.decode(tokenizer.encode(text)) for text in sentences]
        self.model, self.samples = SimpleNamespace(latent=1), samples or self.texts

    def read_labels(self, split):
        return None

    def encode(self, texts, labels):
        numbers = [[float(self.texts.index(self.tokenizer.decode(self.tokenizer.encode(text))))] for text in texts]
        return Independent(Normal(torch.tensor(numbers), 1e-6), 1)

    def decode(self, z, labels):
        return [self.texts[number] for number in z[:, 0].round().long().tolist()]

    def sample(self, n, *, seed, temperature):
        return (self.samples * n)[:n]

    def tokenize(self, texts):
        return [[*self.tokenizer.encode(text), END] for text in texts]

    sequences = tokenize


@pytest.fixture(scope="module")
def corpus():
    return load(SENTENCES, max_length=40)


@pytest.fixture(scope="module")
def model(corpus):
    return TextVAE.fit(SENTENCES, **SMALL)


@pytest.fixture(scope="module")
def scores(model, corpus):
    return evaluate_text(model, corpus.train.select(range(9)), corpus.train, number=12, steps=3, paths=4)


COUNTS = ("sentences", "samples", "temperature", "language_model_order", "paths", "steps", "length", "length_real")


def sequences(split):
    return split.sequences(range(len(split)))


def per_token(fitted, scored):
    return math.exp(-fitted.log_probs(scored).sum() / sum(map(len, scored)))


def test_a_parrot_reconstructs_everything_and_a_mute_nothing(corpus):
    split = corpus.train.select(range(6))
    parrot = evaluate_text(Parrot(corpus.tokenizer, SENTENCES), split, number=6)
    for z in ("mean", "sampled"):
        names = ("exact_match", "token_accuracy", "bleu")
        assert [getattr(parrot, f"{name}_{z}") for name in names] == pytest.approx([1, 1, 100])
    mute = Parrot(corpus.tokenizer, SENTENCES)
    mute.decode = lambda z, labels: [""] * len(z)
    scores = evaluate_text(mute, split, number=6)
    assert (scores.exact_match_mean, scores.bleu_mean) == (0, 0)
    assert (scores.token_accuracy_mean, scores.distinct_steps) == (0, 0)


def test_samples_that_are_the_held_out_sentences_score_as_these(corpus):
    split = corpus.train.select(range(8))
    scores = evaluate_text(Parrot(corpus.tokenizer, split.texts()), split, corpus.train, number=8, paths=0)
    assert scores.forward_perplexity == scores.forward_perplexity_real
    assert scores.length == scores.length_real and scores.unique == 1
    assert scores.novelty == 0  # as they are training sentences too
    assert scores.paths is None and scores.distinct_steps is None
    elsewhere = evaluate_text(Parrot(corpus.tokenizer, SENTENCES, ["a dog sat, here."]), split, corpus.train, number=8)
    assert elsewhere.novelty == 1 and elsewhere.unique == 1 / 8 and elsewhere.self_bleu_5 == pytest.approx(100)
    assert elsewhere.length == 6  # words and marks


def test_perplexities_are_those_of_n_gram_models_of_the_training_split_and_of_the_samples(corpus):
    split, samples = corpus.train.select(range(8)), SENTENCES[4:10]
    scores = evaluate_text(Parrot(corpus.tokenizer, SENTENCES, samples), split, corpus.train, number=6, paths=0)
    size, sampled = len(corpus.tokenizer), [[*corpus.tokenizer.encode(text), END] for text in samples]
    learned = NGram.fit(sequences(corpus.train), order=5, vocabulary=size)
    assert scores.language_model_order == 5
    assert scores.forward_perplexity == pytest.approx(per_token(learned, sampled))
    assert scores.forward_perplexity_real == pytest.approx(per_token(learned, sequences(split.at_most(6))))
    again = NGram.fit(sampled, order=5, vocabulary=size)
    assert scores.reverse_perplexity == pytest.approx(per_token(again, sequences(split)))
    real = NGram.fit(sequences(corpus.train.at_most(6)), order=5, vocabulary=size)
    assert scores.reverse_perplexity_real == pytest.approx(per_token(real, sequences(split)))


def test_paths_join_two_held_out_sentences_each_of_its_own_pair(corpus):
    split = corpus.train.select(range(6))
    parrot, decoded = Parrot(corpus.tokenizer, split.texts()), []
    decode = parrot.decode
    parrot.decode = lambda z, labels: decoded.append(z[:, 0]) or decode(z, labels)
    scores = evaluate_text(parrot, split, number=6, steps=3, paths=9)
    ends = decoded[-1].reshape(3, 3)
    assert (scores.paths, scores.steps) == (3, 3)
    assert sorted([*ends[:, 0].tolist(), *ends[:, 2].tolist()]) == [0, 1, 2, 3, 4, 5]
    assert torch.allclose(ends[:, 1], (ends[:, 0] + ends[:, 2]) / 2)


def test_the_kind_of_tokens_changes_no_score_of_words():
    found = []
    for kind in ("word", "bpe", "char"):
        corpus = load(SENTENCES, tokenizer=kind, lowercase=True, max_length=200, vocabulary_size=400)
        samples = [text.replace("cat", "horse") for text in SENTENCES[:10]]
        scores = asdict(evaluate_text(Parrot(corpus.tokenizer, SENTENCES, samples), corpus.train, number=10, steps=4))
        found.append({name: value for name, value in scores.items() if value and "perplexity" not in name})
    assert found[1] == pytest.approx(found[0]) and found[2] == pytest.approx(found[0])
    assert found[0]["distinct_1"] == len({*" ".join(samples).replace(",", " ,").replace(".", " .").split()}) / (
        sum(len(text.replace(",", " ,").replace(".", " .").split()) for text in samples)
    )


def test_the_scores_of_a_real_model_are_finite_and_in_range(scores):
    values = asdict(scores)
    assert (scores.sentences, scores.samples, scores.temperature, scores.paths, scores.steps) == (9, 12, 1.0, 4, 3)
    for name, value in values.items():
        assert isinstance(value, int | float) and math.isfinite(value), name
        top = 100 if "bleu" in name else math.log(2) if "divergence" in name else 1
        if "perplexity" in name:
            assert value >= 1
        elif not name.startswith(
            ("sentences", "samples", "temperature", "language_model_order", "paths", "steps", "length")
        ):
            assert 0 <= value <= top + 1e-9, name


def test_the_same_seed_gives_the_same_scores_and_leaves_the_global_random_numbers_alone(scores, model, corpus):
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.rand(3), np.random.rand(3)
    torch.manual_seed(5)
    np.random.seed(5)
    again = evaluate_text(model, corpus.train.select(range(9)), corpus.train, number=12, steps=3, paths=4)
    assert again == scores
    assert torch.equal(torch.rand(3), before[0]) and (np.random.rand(3) == before[1]).all()
    assert evaluate_text(model, corpus.train.select(range(9)), number=12, seed=1).self_bleu_2 != scores.self_bleu_2


def test_without_the_training_split_only_what_needs_it_is_missing(scores, model, corpus):
    without = evaluate_text(model, corpus.train.select(range(9)), number=12, steps=3, paths=4)
    needed = [
        "language_model_order",
        "forward_perplexity",
        "forward_perplexity_real",
        "reverse_perplexity_real",
        "novelty",
    ]
    assert without == replace(scores, **dict.fromkeys([*needed, "path_perplexity"]))


def test_a_given_language_model_is_that_of_the_forward_perplexities(scores, model, corpus):
    split = corpus.train.select(range(9))
    judged = evaluate_text(model, split, number=12, steps=3, paths=4, language_model=model)
    nll = -float(model.score(split.texts()).sum())
    assert judged.forward_perplexity_real == pytest.approx(math.exp(nll / split.lengths.sum()), rel=1e-9)
    samples = model.sample(12, seed=0, temperature=1.0)
    tokens = sum(min(len(ids) + 1, 20) for ids in model.tokenizer.encode_batch(samples))
    nll = -float(model.score(samples).sum())
    assert judged.forward_perplexity == pytest.approx(math.exp(nll / tokens), rel=1e-9)
    assert judged.language_model_order is None and judged.path_perplexity is not None
    assert judged.reverse_perplexity == scores.reverse_perplexity


def test_a_language_model_has_samples_but_no_reconstructions_and_no_paths(corpus):
    scores = evaluate_text(TextVAE.fit(SENTENCES, kind="lm", **SMALL), corpus.test, corpus.train, number=5)
    assert scores.forward_perplexity is not None and scores.bleu_mean is None and scores.paths is None


@pytest.mark.parametrize("options", [{"number": 1}, {"steps": 1}, {"paths": -1}, {"temperature": -1.0}], ids=str)
def test_an_option_out_of_range_is_refused_before_any_work(options, corpus):
    with pytest.raises(ConfigError, match=next(iter(options))):
        evaluate_text(None, corpus.test, **options)


def test_one_held_out_sentence_is_too_few(corpus):
    with pytest.raises(CorpusError, match="at least 2"):
        evaluate_text(None, corpus.test.select([0]))


def test_a_missing_package_is_named_before_any_work(corpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ConfigError, match=r'sacrebleu.*pip install "seqvae\[eval\]"'):
        evaluate_text(None, corpus.test)


def test_the_command_names_a_missing_package_before_any_score(corpus, model, tmp_path, refused, monkeypatch):
    model.save_pretrained(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    assert "seqvae[eval]" in refused("evaluate", tmp_path / "model", "grammar", "--text")


def test_every_score_has_its_definition_in_one_line_and_its_section():
    for score in fields(TextScores):
        assert score.metadata["definition"] and "\n" not in score.metadata["definition"]
        assert score.metadata["section"] in ("reconstruction", "samples", "paths")
