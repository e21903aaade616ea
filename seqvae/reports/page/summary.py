"""The few scores that matter after a training, each with what it is to be compared with."""

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from torch import Tensor

from seqvae.auto import AnyVAE
from seqvae.data.series.corpus import SeriesSplit
from seqvae.data.text.corpus import TextSplit
from seqvae.errors import ConfigError
from seqvae.evaluation.probes import SeriesScores
from seqvae.evaluation.text_metrics import bleu, exact_match
from seqvae.reports.examine import Examination
from seqvae.series_vae import SeriesVAE
from seqvae.text_vae import TextVAE


@dataclass(frozen=True)
class TextQuality:
    """How well sentences come back from their posterior means, decoded greedily.

    Attributes:
        sentences: N.
        exact_match: fraction that comes back word for word.
        bleu: corpus BLEU-4, 0 to 100; None without the package that computes it (extra `eval`).
    """

    sentences: int
    exact_match: float
    bleu: float | None


Quality = TextQuality | SeriesScores


@dataclass(frozen=True)
class Line:
    """A line of the summary: a name, a value, and what to compare it with (or nothing)."""

    name: str
    value: str
    beside: str = ""


def measure_quality(model: AnyVAE, split: TextSplit | SeriesSplit, means: Tensor) -> Quality | None:
    """Compare the items of a split with their reconstructions; None without a latent space.

    Args:
        model: the model.
        split: N held-out sentences or series.
        means: (N, D), their posterior means, in the order of the split.
    """
    return _compare(split, model, means) if model.model.latent else None


@singledispatch
def _compare(split: Any, model: Any, means: Tensor) -> Quality:
    raise TypeError(f"there are no scores of reconstructions of {type(split).__name__}")


@_compare.register
def _(split: SeriesSplit, model: SeriesVAE, means: Tensor) -> SeriesScores:
    return model.score_reconstructions(split)


@_compare.register
def _(split: TextSplit, model: TextVAE, means: Tensor) -> TextQuality:
    decode = model.tokenizer.decode_batch
    originals = model.tokenizer.separate_marks(decode(split.sequences(range(len(split)))))
    again = model.tokenizer.separate_marks(model.decode(means, labels=model.read_labels(split)))
    try:
        score = bleu(originals, again)
    except ConfigError:  # sacrebleu is not installed
        score = None
    return TextQuality(len(split), exact_match(originals, again), score)


def summarize(model: AnyVAE, found: Examination, quality: Quality | None = None) -> list[Line]:
    """Return at most four lines: likelihood, its parts, information and reconstructions, as far as there are any."""
    scores, unit = found.scores, model.unit
    values = {name: score["nll"] for name, score in found.baselines.items()}
    known = ", ".join(f"{name}: {value:.1f}" for name, value in sorted(values.items(), key=lambda pair: pair[1]))
    perplexity = "" if scores.perplexity is None else f", perplexity {scores.perplexity:.1f} a word"
    value = f"{scores.nll:.1f} ± {scores.nll_standard_error:.1f} nats a {unit}{perplexity}"
    lines = [Line("-log p(x)", value, known)]
    if not model.model.latent:
        return lines
    parts = f"reconstruction {scores.reconstruction:.1f} + KL {scores.kl:.1f}"
    lines.append(Line("-ELBO", f"{-scores.elbo:.1f} nats = {parts}", "an upper bound of -log p(x)"))
    low, high = scores.mutual_information_lower, scores.mutual_information_upper
    bracket = f"{low:.1f} nats" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f} nats"
    another = f"another {unit}'s z costs {scores.permuted_nll_increase:.1f} nats"
    lines.append(Line("information", f"{bracket} about x in z", another))
    return lines + ([_describe_quality(quality)] if quality else [])


def _describe_quality(quality: Quality) -> Line:
    """Describe the reconstructions in a line."""
    if isinstance(quality, SeriesScores):
        value = f"R^2 {quality.r2:.2f}, median of the series {quality.r2_median:.2f}"
        return Line("reconstruction", value, f"length off by {quality.length_error:.1f} frames")
    score = "" if quality.bleu is None else f", BLEU-4 {quality.bleu:.1f}"
    return Line(
        "reconstructed",
        f"{100 * quality.exact_match:.1f} % word for word{score}",
        f"of {quality.sentences:,} sentences",
    )
