"""Evaluation of texts: the reconstructions of a model, its samples, and its interpolations between sentences."""

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.data.batch import UNKNOWN
from seqvae.data.text.corpus import TextSplit
from seqvae.data.text.unknown import silence_unknown
from seqvae.errors import ConfigError, CorpusError
from seqvae.evaluation.baselines import NGram
from seqvae.evaluation.likelihood import draw_keyed, hash_sentences
from seqvae.evaluation.metrics import per_token, perplexity, standard_error
from seqvae.evaluation.scores import TextScores
from seqvae.evaluation.text_metrics import (
    bleu,
    bleu_standard_error,
    distinct,
    distinct_steps,
    exact_match,
    import_optional,
    is_directed,
    is_monotone,
    limit_by_ends,
    list_words,
    novelty,
    resample,
    self_bleu,
    token_accuracy,
    unique,
)
from seqvae.latent.paths import get_path
from seqvae.latent.ranking import check_sampling
from seqvae.model.decoding import check_options
from seqvae.text_vae import TextVAE

ORDER = 5  # of the n-gram models
FITTED = 200_000  # sentences that an n-gram model is fitted to, at most
SHORT = 8  # words of a short sentence, at most
VARIED = Fraction(5, 7)  # part of the texts of a path that differ if it is varied, at least
TOLERANCE = 1.5  # times the perplexity of the ends that a fluent step has, at most

Sequences = list[list[int]]
LanguageModel = Callable[[Sequences], tuple[Tensor, Tensor]]  # -log p of each sequence, (N,) nats; its tokens, (N,)
Found = dict[str, Any]


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
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    prior_temperature: float = 1.0,
    candidates: int = 1,
    beam: int = 0,
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
        temperature: of the samples' words.
        top_k: the samples' words are among the K likeliest; 0 keeps all.
        top_p: and among the likeliest with this probability together; 1 keeps all.
        min_p: and have at least this fraction of the likeliest's probability; 0 keeps all.
        prior_temperature: of the samples' z; 1 is the prior itself.
        candidates: sentences that are generated for each sample, of which the likeliest is kept.
        beam: width of the beam search of reconstructions and paths; 0 is greedy.
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
    sampling: Found = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    sampling |= {"prior_temperature": prior_temperature, "candidates": candidates}
    check_sampling(**sampling)
    check_options(beam=beam)
    if language_model is not None and language_model.labels:
        raise ConfigError("the language model given needs labels: expected one trained without --label-column")
    for name, given, least in (("number", number, 2), ("steps", steps, 2), ("paths", paths, 0)):
        if given < least:
            raise ConfigError(f"{name} is {given}; it must be at least {least}")
    if len(split) < 2:
        raise CorpusError(f"the evaluation of texts needs at least 2 held-out sentences, got {len(split)}")
    check_packages()
    held_out = split.at_most(number)
    judge = _choose_language_model(model, train, language_model)
    samples = model.tokenize(model.sample(number, seed=seed, **sampling))
    scores: Found = {"sentences": len(held_out), "samples": number, "temperature": temperature}
    scores |= {"top_k": top_k or None, "top_p": top_p if top_p < 1 else None, "min_p": min_p or None}
    scores |= {"prior_temperature": prior_temperature, "candidates": candidates, "beam": beam}
    if language_model is None and train is not None:
        scores["language_model_order"] = ORDER
    scores |= _score_fluency(model, samples, split, held_out, train, judge)
    scores |= _score_diversity(model, samples, _read_all(held_out), train)
    if model.model.latent:
        labels = model.read_labels(held_out)
        with silence_unknown():
            q = model.encode(held_out.texts(), labels=labels)
        scores |= _score_reconstructions(model, q, labels, held_out, seed, beam)
        if count := min(paths, len(held_out) // 2):
            sequences = _decode_paths(model, q, labels, steps, count, seed, beam)
            scores |= _score_paths(_write(model, sequences), steps)
            if judge is not None:
                scores |= _score_path_fluency(sequences, _read_known(held_out), steps, judge)
    return TextScores(**scores)


def _score_reconstructions(
    model: TextVAE, q: Distribution, labels: list[str] | None, held_out: TextSplit, seed: int, beam: int
) -> Found:
    """Score reconstructions from the posterior mean, those of short sentences by themselves, and from a sample of q."""
    originals = _read_all(held_out)
    texts = _write(model, originals)
    short = [row for row, text in enumerate(texts) if len(list_words(text)) <= SHORT]
    scores: Found = {"short_sentences": len(short)}
    for name, z in {"mean": q.mode, "sampled": _sample_posterior(model, q, labels, held_out, seed)}.items():
        sequences = model.tokenize(model.decode(z, labels=labels, beam=beam))
        reconstructed = _write(model, sequences)
        scores |= _compare(texts, reconstructed, name)
        scores[f"token_accuracy_{name}"] = token_accuracy(originals, sequences)
        if name == "mean" and short:
            scores |= _compare([texts[row] for row in short], [reconstructed[row] for row in short], "short")
    return scores


def _compare(originals: list[str], reconstructed: list[str], name: str) -> Found:
    """Score reconstructions word for word and by BLEU, with standard errors over the sentences."""
    matches = [exact_match([one], [other]) for one, other in zip(originals, reconstructed, strict=True)]
    return _average(f"exact_match_{name}", matches) | {
        f"bleu_{name}": bleu(originals, reconstructed),
        f"bleu_{name}_standard_error": bleu_standard_error(originals, reconstructed) if len(matches) > 1 else None,
    }


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
    judge: LanguageModel | None,
) -> Found:
    """Measure perplexities forward and in reverse, beside those of real sentences without `<unk>`, as no sample has."""
    whole, real = _read_known(split.at_most(FITTED)), _read_known(held_out)
    scores: Found = {"reverse_perplexity": _measure(_fit_n_grams(samples, model), whole)[0] if whole else None}
    if train is not None:
        known = _read_known(train.at_most(len(samples)))
        fitted = known and whole
        scores["reverse_perplexity_real"] = _measure(_fit_n_grams(known, model), whole)[0] if fitted else None
    if judge is not None:
        found, error = _measure(judge, samples)
        scores |= {"forward_perplexity": found, "forward_perplexity_standard_error": error}
    if judge is not None and real:
        other, other_error = _measure(judge, real)
        both = None if error is None or other_error is None else math.hypot(error / found, other_error / other)
        scores |= {"forward_perplexity_real": other, "forward_perplexity_real_standard_error": other_error}
        scores["forward_perplexity_ratio"] = found / other
        scores["forward_perplexity_ratio_standard_error"] = both and found / other * both
    return scores


def _score_diversity(model: TextVAE, samples: Sequences, originals: Sequences, train: TextSplit | None) -> Found:
    """Score how much the samples differ from each other, from training sentences and in length."""
    texts, real = _write(model, samples), _write(model, originals)
    scores: Found = {f"self_bleu_{n}": self_bleu(texts, n) for n in (2, 3, 4, 5)}
    alike = min(len(texts), len(real))  # distinct-n falls with the number of texts
    for n in (1, 2, 4):
        scores |= {f"distinct_{n}": distinct(texts[:alike], n), f"distinct_{n}_real": distinct(real[:alike], n)}
    scores |= _average("length", [len(text.split()) for text in texts])
    scores |= {"length_real": fmean(len(text.split()) for text in real), "unique": unique(texts)}
    for name in ("distinct_2", "length"):
        expected = scores[f"{name}_real"]
        scores[f"{name}_difference"] = scores[name] / expected - 1 if expected else None
    if train is not None:
        scores["novelty"] = novelty([tuple(ids) for ids in samples], _iterate(train))
    return scores


def _decode_paths(
    model: TextVAE, q: Distribution, labels: list[str] | None, steps: int, paths: int, seed: int, beam: int
) -> Sequences:
    """Decode paths between two sentences each, with the label of the first for all of the path; one after another."""
    order = np.random.default_rng(seed).permutation(len(q.mean))[: 2 * paths].reshape(2, paths)
    points = get_path(model.default_path)(q.mode[order[0]], q.mode[order[1]], steps)  # (steps, paths, D)
    names = None if labels is None else [labels[row] for row in order[0] for _ in range(steps)]
    return model.tokenize(model.decode(points.transpose(0, 1).flatten(0, 1), labels=names, beam=beam))


def _score_paths(texts: list[str], steps: int) -> Found:
    """Score paths of `steps` texts: how many of these are different, and whether a path turns back."""
    paths = [texts[start : start + steps] for start in range(0, len(texts), steps)]
    different = [len(set(path)) for path in paths]
    scores: Found = {"paths": len(paths), "steps": steps, "distinct_steps": distinct_steps(paths)}
    scores |= _average("distinct_texts", different)
    scores |= _average("varied_paths", [count >= VARIED * steps for count in different])
    scores |= _average("monotone_paths", list(map(is_monotone, paths)))
    scores |= _average("directed_paths", list(map(is_directed, paths)))
    return scores


def _score_path_fluency(sequences: Sequences, real: Sequences, steps: int, judge: LanguageModel) -> Found:
    """Compare the perplexities of the steps between the ends of paths with those of the ends, and real text with them.

    Real text stands for a step by each of the sentences in turn, and for all steps of a path by independent ones.
    """
    nll, tokens = (values.view(-1, steps) for values in judge(sequences))
    ends = perplexity(float(nll[:, [0, -1]].sum()), int(tokens[:, [0, -1]].sum()))
    scores: Found = {"path_perplexity": perplexity(float(nll.sum()), int(tokens.sum())), "path_perplexity_ends": ends}
    if steps == 2:
        return scores
    scores |= _compare_with_ends(nll, tokens)
    each = nll.double() / tokens
    limits = torch.tensor([[limit_by_ends(path, TOLERANCE)] for path in each.tolist()], dtype=torch.float64)
    fluent = each[:, 1:-1] <= limits
    scores |= _average("fluent_steps", fluent.double().mean(1).tolist())
    scores |= _average("fluent_paths", fluent.all(1).tolist())
    if real:
        real_nll, real_tokens = judge(real)
        expected = (real_nll.double() / real_tokens <= limits).double().mean(1)
        scores["fluent_steps_real"] = float(expected.mean())
        scores["fluent_paths_real"] = float((expected ** (steps - 2)).mean())
    return scores


def _compare_with_ends(nll: Tensor, tokens: Tensor) -> Found:
    """Divide the perplexity of the worst step between the ends by that of the ends, from -log p and tokens (N, S).

    Each step is that of all N paths together; the standard error is that of a bootstrap over the paths.
    """

    def divide(times: Tensor) -> Tensor:
        each, lengths = times @ nll.double(), times @ tokens.double()  # (500 or 1, S)
        ends = (each[:, 0] + each[:, -1]) / (lengths[:, 0] + lengths[:, -1])
        return ((each / lengths)[:, 1:-1].amax(1) - ends).exp()

    found, count = divide(torch.ones(1, len(nll), dtype=torch.float64)), len(nll)
    error = float(divide(torch.from_numpy(resample(count)).double()).std()) if count > 1 else None
    return {"path_perplexity_ratio": float(found), "path_perplexity_ratio_standard_error": error}


def _choose_language_model(
    model: TextVAE, train: TextSplit | None, language_model: TextVAE | None
) -> LanguageModel | None:
    """Return the language model given, or n-grams of the training sentences; None without both."""
    if language_model is None:
        return None if train is None else _fit_n_grams(_read_all(train.at_most(FITTED)), model)
    given = language_model

    def score_each(sequences: Sequences) -> tuple[Tensor, Tensor]:
        texts = model.tokenizer.decode_batch(sequences)
        return -given.score(texts), torch.tensor(list(map(len, given.tokenize(texts))))

    return score_each


def _fit_n_grams(sequences: Sequences, model: TextVAE) -> LanguageModel:
    """Fit an n-gram model to `sequences`."""
    grams = NGram.fit(sequences, order=ORDER, vocabulary=len(model.tokenizer))
    return lambda others: (-torch.from_numpy(grams.log_probs(others)), torch.tensor(list(map(len, others))))


def _measure(judge: LanguageModel, sequences: Sequences) -> tuple[float, float | None]:
    """Return the perplexity per token of all sequences together, and its standard error over them, if several."""
    nll, tokens = judge(sequences)
    found = perplexity(float(nll.sum()), int(tokens.sum()))
    return found, found * per_token(nll, tokens)[1] if len(sequences) > 1 else None


def _average(name: str, values: Sequence[float]) -> Found:
    """Return the mean of independent values, and its standard error if there are several, by their names."""
    error = standard_error(torch.tensor(values, dtype=torch.float64)) if len(values) > 1 else None
    return {name: fmean(values), f"{name}_standard_error": error}


def _write(model: TextVAE, sequences: Sequences) -> list[str]:
    return model.tokenizer.separate_marks(model.tokenizer.decode_batch(sequences))


def _read_all(split: TextSplit) -> Sequences:
    return split.sequences(range(len(split)))


def _read_known(split: TextSplit) -> Sequences:
    return [ids for ids in _read_all(split) if UNKNOWN not in ids]


def _iterate(split: TextSplit, step: int = 10_000) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(split), step):
        yield from map(tuple, split.sequences(range(start, min(start + step, len(split)))))
