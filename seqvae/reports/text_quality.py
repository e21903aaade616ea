"""Evaluation of texts: what a model says again, says by itself, and says on the way from one sentence to another."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tokenizers
from tokenizers.pre_tokenizers import Split as Cut
from torch import Tensor
from torch.distributions import Distribution

from seqvae.data.batch import UNKNOWN
from seqvae.data.text.corpus import Split
from seqvae.data.text.tokenizer import PIECES
from seqvae.data.text.unknown import unmentioned
from seqvae.errors import ConfigError, CorpusError
from seqvae.evaluation.baselines import NGram
from seqvae.evaluation.likelihood import draw, sentence_keys
from seqvae.evaluation.metrics import perplexity
from seqvae.evaluation.scores import TextScores
from seqvae.evaluation.text_metrics import (
    bleu,
    distinct,
    distinct_steps,
    edit_distance,
    exact_match,
    length_divergence,
    nearest,
    novelty,
    optional,
    self_bleu,
    smoothness,
    token_accuracy,
    unigram_divergence,
    unique,
)
from seqvae.latent.paths import path
from seqvae.model.decoding import check_options
from seqvae.text_vae import TextVAE

ORDER = 5  # of the n-gram models
LEARNED = 200_000  # training sentences that an n-gram model is learned from, at most
KNOWN = 10_000  # training sentences among which the nearest one is looked for, at most

Sequences = list[list[int]]
Perplexity = Callable[[Sequences], float]  # per token of all sequences together
Found = dict[str, Any]

_CUT = Cut(tokenizers.Regex(PIECES), behavior="removed", invert=True)


def check_packages() -> None:
    """Raise a `ConfigError` where a package is missing, so that a command can refuse before any work."""
    for package in ("sacrebleu", "rapidfuzz"):
        optional(package)


def evaluate_text(
    model: TextVAE,
    split: Split,
    train: Split | None = None,
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
        number: how many samples, and how many held-out sentences at most.
        temperature: of the samples; reconstructions and paths are greedy.
        steps: texts on a path, both ends included.
        paths: how many paths at most; each needs two held-out sentences of its own.
        seed: of all draws; the global random state is left alone.
        language_model: judges the forward perplexities, in place of an n-gram model of `train`; per token of its own.

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
        raise ConfigError("the language model that judges needs labels: expected one trained without --label-column")
    for name, given, least in (("number", number, 2), ("steps", steps, 2), ("paths", paths, 0)):
        if given < least:
            raise ConfigError(f"{name} is {given}; it must be at least {least}")
    if len(split) < 2:
        raise CorpusError(f"the evaluation of texts needs at least 2 held-out sentences, got {len(split)}")
    check_packages()
    held_out = split.at_most(number)
    judge = _judge(model, train, language_model)
    said = model.sequences(model.sample(number, seed=seed, temperature=temperature))
    scores: Found = {"sentences": len(held_out), "samples": number, "temperature": temperature}
    if language_model is None and train is not None:
        scores["language_model_order"] = ORDER
    scores |= _fluency(model, said, split, held_out, train, judge)
    scores |= _diversity(model, said, _all(held_out), train)
    if model.model.latent:
        labels = model.labels_of(held_out)
        with unmentioned():
            q = model.encode(held_out.texts(), labels=labels)
        scores |= _reconstruction(model, q, labels, held_out, seed)
        scores |= _interpolation(model, q, labels, steps, min(paths, len(held_out) // 2), seed, judge)
    return TextScores(**scores)


def _reconstruction(model: TextVAE, q: Distribution, labels: list[str] | None, held_out: Split, seed: int) -> Found:
    scores: Found = {}
    originals = _all(held_out)
    texts = _spaced(model, originals)
    for name, z in {"mean": q.mode, "sampled": _drawn(model, q, labels, held_out, seed)}.items():
        again = model.sequences(model.decode(z, labels=labels))
        said = _spaced(model, again)
        scores[f"exact_match_{name}"] = exact_match(texts, said)
        scores[f"token_accuracy_{name}"] = token_accuracy(originals, again)
        scores[f"bleu_{name}"] = bleu(texts, said)
        scores[f"edit_distance_{name}"] = edit_distance(texts, said)
    return scores


def _drawn(model: TextVAE, q: Distribution, labels: list[str] | None, held_out: Split, seed: int) -> Tensor:
    """(N, D), a draw of q(z|x) of each sentence, which depends on the seed and the sentence, not on its place."""
    texts = held_out.texts()

    def alone(row: int) -> Tensor:
        own = None if labels is None else labels[row : row + 1]
        with unmentioned():
            return model.encode(texts[row : row + 1], labels=own).sample()

    return draw(q, alone, sentence_keys(held_out.batch(range(len(held_out)))), 1, seed)[:, 0]


def _fluency(
    model: TextVAE, said: Sequences, split: Split, held_out: Split, train: Split | None, judge: Perplexity | None
) -> Found:
    """Perplexities forward and in reverse, beside those of real sentences without `<unk>`, which no sample can say."""
    whole, real = _known(split.at_most(LEARNED)), _known(held_out)
    scores: Found = {"reverse_perplexity": _learned(said, model)(whole) if whole else None}
    if train is not None:
        known = _known(train.at_most(len(said)))
        scores["reverse_perplexity_real"] = _learned(known, model)(whole) if known and whole else None
    if judge is not None:
        scores |= {"forward_perplexity": judge(said), "forward_perplexity_real": judge(real) if real else None}
    return scores


def _diversity(model: TextVAE, said: Sequences, originals: Sequences, train: Split | None) -> Found:
    texts, real = _spaced(model, said), _spaced(model, originals)
    scores: Found = {f"self_bleu_{n}": self_bleu(texts, n) for n in (2, 3, 4, 5)}
    scores |= {f"distinct_{n}": distinct(texts, n) for n in (1, 2, 4)}
    scores |= {
        "unique": unique(texts),
        "length_divergence": length_divergence(texts, real),
        "unigram_divergence": unigram_divergence(texts, real),
    }
    if train is not None:
        scores["novelty"] = novelty([tuple(ids) for ids in said], _each(train))
        scores["nearest"] = nearest(texts, _spaced(model, _all(train.at_most(KNOWN))))
    return scores


def _interpolation(
    model: TextVAE,
    q: Distribution,
    labels: list[str] | None,
    steps: int,
    paths: int,
    seed: int,
    judge: Perplexity | None,
) -> Found:
    """Scores of paths between sentences; where these have labels, that of the first goes with all of the path."""
    if not paths:
        return {}
    order = np.random.default_rng(seed).permutation(len(q.mean))[: 2 * paths].reshape(2, paths)
    points = path(model.straight)(q.mode[order[0]], q.mode[order[1]], steps)  # (steps, paths, D)
    names = None if labels is None else [labels[row] for row in order[0] for _ in range(steps)]
    said = model.sequences(model.decode(points.transpose(0, 1).flatten(0, 1), labels=names))
    texts = _spaced(model, said)
    walks = [texts[start : start + steps] for start in range(0, len(texts), steps)]
    return {
        "paths": paths,
        "steps": steps,
        "path_perplexity": judge and judge(said),
        "distinct_steps": distinct_steps(walks),
        "smoothness": smoothness(walks),
    }


def _judge(model: TextVAE, train: Split | None, language_model: TextVAE | None) -> Perplexity | None:
    """What gives the forward perplexities, if there is anything."""
    if language_model is None:
        return None if train is None else _learned(_all(train.at_most(LEARNED)), model)
    judge = language_model

    def neural(sequences: Sequences) -> float:
        texts = model.tokenizer.decode_batch(sequences)
        return perplexity(-float(judge.score(texts).sum()), sum(map(len, judge.sequences(texts))))

    return neural


def _learned(sequences: Sequences, model: TextVAE) -> Perplexity:
    """The perplexity under an n-gram model of `sequences`."""
    grams = NGram.fit(sequences, order=ORDER, vocabulary=len(model.tokenizer))
    return lambda said: perplexity(-float(grams.log_probs(said).sum()), sum(map(len, said)))


def _spaced(model: TextVAE, sequences: Sequences) -> list[str]:
    """The texts, every word and every mark between spaces, so that all kinds of tokenizers are compared alike."""
    texts = model.tokenizer.decode_batch(sequences)
    if model.tokenizer.kind == "word" and not model.tokenizer.split_punctuation:
        return texts
    return [" ".join(piece for piece, _ in _CUT.pre_tokenize_str(text)) for text in texts]


def _all(split: Split) -> Sequences:
    return split.sequences(range(len(split)))


def _known(split: Split) -> Sequences:
    return [ids for ids in _all(split) if UNKNOWN not in ids]


def _each(split: Split, step: int = 10_000) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(split), step):
        yield from map(tuple, split.sequences(range(start, min(start + step, len(split)))))
