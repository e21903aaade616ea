"""Evaluation of texts: the reconstructions of a model, its samples, and its interpolations between sentences."""

from collections.abc import Callable, Iterator
from statistics import fmean
from typing import Any

import numpy as np
import tokenizers
from tokenizers import pre_tokenizers
from torch import Tensor
from torch.distributions import Distribution

from seqvae.data.batch import UNKNOWN
from seqvae.data.text.corpus import TextSplit
from seqvae.data.text.tokenizer import PIECES
from seqvae.data.text.unknown import silence_unknown
from seqvae.errors import ConfigError, CorpusError
from seqvae.evaluation.baselines import NGram
from seqvae.evaluation.likelihood import draw_keyed, hash_sentences
from seqvae.evaluation.metrics import perplexity
from seqvae.evaluation.scores import TextScores
from seqvae.evaluation.text_metrics import (
    bleu,
    distinct,
    distinct_steps,
    exact_match,
    import_optional,
    novelty,
    self_bleu,
    token_accuracy,
    unique,
)
from seqvae.latent.paths import get_path
from seqvae.model.decoding import check_options
from seqvae.text_vae import TextVAE

ORDER = 5  # of the n-gram models
FITTED = 200_000  # sentences that an n-gram model is fitted to, at most

Sequences = list[list[int]]
Perplexity = Callable[[Sequences], float]  # per token of all sequences together
Found = dict[str, Any]

_SPLITTER = pre_tokenizers.Split(tokenizers.Regex(PIECES), behavior="removed", invert=True)


def check_packages() -> None:
    """Check before any work that all packages are there.

    Raises:
        ConfigError: where one is missing.
    """
    import_optional("sacrebleu")


def evaluate_text(
    model: TextVAE,
    split: TextSplit,
    train: TextSplit | None = None,
    *,
    number: int = 1000,
    temperature: float = 1.0,
    steps: int = 7,
    paths: int = 100,
    seed: int = 0,
    language_model: TextVAE | None = None,
) -> TextScores:
    """Score the texts of a model: reconstructions, samples from the prior, and paths between sentences.

    Args:
        model: a language model has samples only.
        split: held-out sentences, encoded with the model's tokenizer.
        train: the training sentences, encoded with it as well; None leaves out the scores that need them.
        number: of samples, and of held-out sentences at most.
        temperature: of the samples; reconstructions and paths are greedy.
        steps: texts on a path, both ends included.
        paths: number of paths at most; each needs two held-out sentences of its own.
        seed: of all samples; the global random state is not changed.
        language_model: for the forward perplexities, in place of an n-gram model of `train`; per token of its own.

    Raises:
        ConfigError: for an option out of range, or if what the extra `eval` installs is missing.
        CorpusError: if the split has fewer than 2 sentences.

    >>> from seqvae.data.text.corpus import load
    >>> sentences = [f"{who} {what} ." for who in ("a cat", "a dog", "a bird") for what in ("sat", "ran", "ate")] * 4
    >>> model = TextVAE.fit(sentences, latent=2, embedding=8, decoder={"hidden": 8}, max_epochs=1)
    >>> held_out = load(sentences, tokenizer=model.tokenizer, whole=True).test
    >>> scores = evaluate_text(model, held_out, number=20, paths=3)
    >>> scores.sentences, scores.samples, scores.paths, 0 <= scores.bleu_mean <= 100
    (20, 20, 3, True)
    """
    check_options(temperature=temperature)
    if language_model is not None and language_model.labels:
        raise ConfigError("the language model given needs labels: expected one trained without --label-column")
    for name, given, least in (("number", number, 2), ("steps", steps, 2), ("paths", paths, 0)):
        if given < least:
            raise ConfigError(f"{name} is {given}; it must be at least {least}")
    if len(split) < 2:
        raise CorpusError(f"the evaluation of texts needs at least 2 held-out sentences, got {len(split)}")
    check_packages()
    held_out = split.at_most(number)
    forward = _choose_language_model(model, train, language_model)
    samples = model.tokenize(model.sample(number, seed=seed, temperature=temperature))
    scores: Found = {"sentences": len(held_out), "samples": number, "temperature": temperature}
    if language_model is None and train is not None:
        scores["language_model_order"] = ORDER
    scores |= _score_fluency(model, samples, split, held_out, train, forward)
    scores |= _score_diversity(model, samples, _read_all(held_out), train)
    if model.model.latent:
        labels = model.read_labels(held_out)
        with silence_unknown():
            q = model.encode(held_out.texts(), labels=labels)
        scores |= _score_reconstructions(model, q, labels, held_out, seed)
        scores |= _score_paths(model, q, labels, steps, min(paths, len(held_out) // 2), seed, forward)
    return TextScores(**scores)


def _score_reconstructions(
    model: TextVAE, q: Distribution, labels: list[str] | None, held_out: TextSplit, seed: int
) -> Found:
    """Score reconstructions from the posterior mean and from a sample of q."""
    scores: Found = {}
    originals = _read_all(held_out)
    texts = _separate_marks(model, originals)
    for name, z in {"mean": q.mode, "sampled": _sample_posterior(model, q, labels, held_out, seed)}.items():
        sequences = model.tokenize(model.decode(z, labels=labels))
        reconstructed = _separate_marks(model, sequences)
        scores[f"exact_match_{name}"] = exact_match(texts, reconstructed)
        scores[f"token_accuracy_{name}"] = token_accuracy(originals, sequences)
        scores[f"bleu_{name}"] = bleu(texts, reconstructed)
    return scores


def _sample_posterior(
    model: TextVAE, q: Distribution, labels: list[str] | None, held_out: TextSplit, seed: int
) -> Tensor:
    """Draw z (N, D) from q(z|x) of each sentence; it depends on the seed and the sentence, not on its position."""
    texts = held_out.texts()

    def sample_row(row: int) -> Tensor:
        own = None if labels is None else labels[row : row + 1]
        with silence_unknown():
            return model.encode(texts[row : row + 1], labels=own).sample()

    return draw_keyed(q, sample_row, hash_sentences(held_out.batch(range(len(held_out)))), 1, seed)[:, 0]


def _score_fluency(
    model: TextVAE,
    samples: Sequences,
    split: TextSplit,
    held_out: TextSplit,
    train: TextSplit | None,
    forward: Perplexity | None,
) -> Found:
    """Measure perplexities forward and in reverse, beside those of real sentences without `<unk>`, as no sample has."""
    whole, real = _read_known(split.at_most(FITTED)), _read_known(held_out)
    scores: Found = {"reverse_perplexity": _fit_n_grams(samples, model)(whole) if whole else None}
    if train is not None:
        known = _read_known(train.at_most(len(samples)))
        scores["reverse_perplexity_real"] = _fit_n_grams(known, model)(whole) if known and whole else None
    if forward is not None:
        scores |= {"forward_perplexity": forward(samples), "forward_perplexity_real": forward(real) if real else None}
    return scores


def _score_diversity(model: TextVAE, samples: Sequences, originals: Sequences, train: TextSplit | None) -> Found:
    """Score how much the samples differ from each other, from training sentences and in length."""
    texts, real = _separate_marks(model, samples), _separate_marks(model, originals)
    scores: Found = {f"self_bleu_{n}": self_bleu(texts, n) for n in (2, 3, 4, 5)}
    scores |= {f"distinct_{n}": distinct(texts, n) for n in (1, 2, 4)}
    scores |= {
        "unique": unique(texts),
        "length": fmean(len(text.split()) for text in texts),
        "length_real": fmean(len(text.split()) for text in real),
    }
    if train is not None:
        scores["novelty"] = novelty([tuple(ids) for ids in samples], _iterate(train))
    return scores


def _score_paths(
    model: TextVAE,
    q: Distribution,
    labels: list[str] | None,
    steps: int,
    paths: int,
    seed: int,
    forward: Perplexity | None,
) -> Found:
    """Score paths between sentences, with the label of the first, if it has one, for all of the path."""
    if not paths:
        return {}
    order = np.random.default_rng(seed).permutation(len(q.mean))[: 2 * paths].reshape(2, paths)
    points = get_path(model.default_path)(q.mode[order[0]], q.mode[order[1]], steps)  # (steps, paths, D)
    names = None if labels is None else [labels[row] for row in order[0] for _ in range(steps)]
    sequences = model.tokenize(model.decode(points.transpose(0, 1).flatten(0, 1), labels=names))
    texts = _separate_marks(model, sequences)
    decoded = [texts[start : start + steps] for start in range(0, len(texts), steps)]
    return {
        "paths": paths,
        "steps": steps,
        "path_perplexity": forward and forward(sequences),
        "distinct_steps": distinct_steps(decoded),
    }


def _choose_language_model(
    model: TextVAE, train: TextSplit | None, language_model: TextVAE | None
) -> Perplexity | None:
    """Return the perplexity of the language model given, or of n-grams of the training sentences; None without both."""
    if language_model is None:
        return None if train is None else _fit_n_grams(_read_all(train.at_most(FITTED)), model)
    given = language_model

    def measure_perplexity(sequences: Sequences) -> float:
        texts = model.tokenizer.decode_batch(sequences)
        return perplexity(-float(given.score(texts).sum()), sum(map(len, given.tokenize(texts))))

    return measure_perplexity


def _fit_n_grams(sequences: Sequences, model: TextVAE) -> Perplexity:
    """Fit an n-gram model to `sequences` and return its perplexity."""
    grams = NGram.fit(sequences, order=ORDER, vocabulary=len(model.tokenizer))
    return lambda others: perplexity(-float(grams.log_probs(others).sum()), sum(map(len, others)))


def _separate_marks(model: TextVAE, sequences: Sequences) -> list[str]:
    """Decode texts with spaces around every word and punctuation mark, alike for all kinds of tokenizers."""
    texts = model.tokenizer.decode_batch(sequences)
    if model.tokenizer.kind == "word" and not model.tokenizer.split_punctuation:
        return texts
    return [" ".join(piece for piece, _ in _SPLITTER.pre_tokenize_str(text)) for text in texts]


def _read_all(split: TextSplit) -> Sequences:
    return split.sequences(range(len(split)))


def _read_known(split: TextSplit) -> Sequences:
    return [ids for ids in _read_all(split) if UNKNOWN not in ids]


def _iterate(split: TextSplit, step: int = 10_000) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(split), step):
        yield from map(tuple, split.sequences(range(start, min(start + step, len(split)))))
