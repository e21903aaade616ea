"""Scores: the numbers that a model and its text are evaluated by, each with its definition."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from typing import Any

SHOWN = 8  # numbers of a list that are shown
ERROR = "_standard_error"


@dataclass(frozen=True)
class Unit:
    """The words for what is scored, which definitions name in braces."""

    sentence: str
    sentences: str
    tokens: str


TEXT = Unit("sentence", "sentences", "tokens")
SERIES = Unit("series", "series", "frames")


def define_score(definition: str, *, section: str, default: Any = MISSING) -> Any:
    """Make a field of a dataclass of scores.

    Args:
        definition: what the number is, with its unit, in one line; `{sentence}`, `{sentences}` and `{tokens}` stand for
            the words of a `Unit`.
        section: the heading that it is shown under.
        default: None where the score can be missing.
    """
    return field(default=default, metadata={"definition": definition, "section": section})


_likelihood = partial(define_score, section="likelihood")
_latent = partial(define_score, section="latent space")


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of a model on a set of sentences; None where a score does not apply, or was not asked for."""

    sentences: int = _likelihood("number of {sentences} scored")
    tokens: int = _likelihood("number of targets scored: the {tokens}, and EOS of each {sentence} not truncated")
    unknown: float | None = _likelihood(
        "fraction of the targets that are <unk>: it costs what one token costs, and the words behind it are free, so "
        "that nll can be compared between vocabularies only where this is 0",
        default=None,
    )
    samples: int = _likelihood("samples of z for each {sentence}; 1 without a latent space, where all are equal")
    seeds: int | None = _likelihood("repetitions of this sampling, each with a seed of its own", default=None)
    reconstruction: float = _likelihood("-E_q[log p(x|z)], nats per {sentence}, mean over the samples")
    reconstruction_standard_error: float | None = _likelihood(
        "standard error of reconstruction over the {sentences}", default=None
    )
    train_reconstruction: float | None = _likelihood(
        "the same of training {sentences}, one sample each: far below it where the model has memorised them",
        default=None,
    )
    train_reconstruction_standard_error: float | None = _likelihood(
        "standard error of train_reconstruction over these {sentences}", default=None
    )
    train_sentences: int | None = _likelihood(
        "training {sentences} of train_reconstruction, evenly spaced, at most 1000", default=None
    )
    train_tokens: int | None = _likelihood("their targets", default=None)
    kl: float = _likelihood("KL(q(z|x) || p(z)), nats per {sentence}, weight 1, no free bits")
    kl_standard_error: float | None = _likelihood("standard error of kl over the {sentences}", default=None)
    target_kl: float | None = _likelihood("the kl that the training was asked for, nats per {sentence}", default=None)
    target_kl_distance: float | None = _likelihood(
        "kl / target_kl - 1: the target is missed where it is above 0.05 or below -0.05", default=None
    )
    kl_dimensions: tuple[float, ...] | None = _likelihood(
        "mean KL of each latent dimension, in order; their sum is kl", default=None
    )
    elbo: float = _likelihood("-(reconstruction + kl), nats per {sentence}: a lower bound of log p(x)")
    elbo_standard_error: float | None = _likelihood("standard error of elbo over the {sentences}", default=None)
    nll: float = _likelihood(
        "-log p(x), nats per {sentence}, importance weighted over `samples` samples: an upper bound, tighter the more"
    )
    nll_standard_error: float = _likelihood("standard error of nll over the {sentences}, nats per {sentence}")
    nll_seed_standard_deviation: float | None = _likelihood(
        "standard deviation of the mean nll over the seeds", default=None
    )
    nll_per_frame: float | None = _likelihood("total nll / frames, nats in the units of the data", default=None)
    perplexity: float | None = _likelihood(
        "exp(total nll / (words + one EOS for each sentence not truncated)): per word, for any tokenizer; left out "
        "where white space does not split the text into words, as in Chinese or SMILES: see perplexity_token then",
        default=None,
    )
    perplexity_elbo: float | None = _likelihood("the same from -elbo in place of nll", default=None)
    perplexity_token: float | None = _likelihood(
        "exp(total nll / tokens): per target token, so only for models of one tokenizer", default=None
    )
    bits_per_byte: float | None = _likelihood(
        "total nll in bits / (UTF-8 bytes, with one line feed for each sentence not truncated)", default=None
    )
    bits_per_character: float | None = _likelihood(
        "total nll in bits / (Unicode characters, with one line feed for each sentence not truncated)", default=None
    )
    effective_sample_size: float | None = _likelihood(
        "(sum w)^2 / sum w^2 of the importance weights of a {sentence}, 1 to `samples`, mean over the {sentences}",
        default=None,
    )
    effective_sample_size_low: float | None = _likelihood(
        "the same, 5 % quantile over the {sentences}: near 1, their nll is far from tight", default=None
    )
    mixture_gain: float | None = _likelihood(
        "nll by samples of q minus nll by as many of (q + p) / 2, nats, at most 200 {sentences}: "
        "clearly positive where q misses mass",
        default=None,
    )
    mixture_gain_standard_error: float | None = _likelihood(
        "standard error of mixture_gain over its {sentences}", default=None
    )
    entropy: float | None = _likelihood(
        "mean of the exact -log p(x), nats per {sentence}, where the corpus knows it: the nll of the perfect model",
        default=None,
    )
    gap_to_entropy: float | None = _likelihood("nll - entropy, nats per {sentence}", default=None)
    gap_to_entropy_standard_error: float | None = _likelihood(
        "standard error of gap_to_entropy, {sentence} by {sentence}", default=None
    )
    mutual_information_lower: float = _latent(
        "I(x; z), nats, lower end, to be read from two standard errors below: at most log N of the N {sentences} used "
        "(10000 at most)"
    )
    mutual_information_lower_standard_error: float | None = _latent(
        "standard error of mutual_information_lower over these {sentences}", default=None
    )
    mutual_information_upper: float = _latent(
        "I(x; z), nats, upper end, to be read to two standard errors above: at most the kl of the same {sentences}"
    )
    mutual_information_upper_standard_error: float | None = _latent(
        "standard error of mutual_information_upper over these {sentences}", default=None
    )
    marginal_kl_lower: float | None = _latent(
        "KL(q_agg || p), nats, lower end: kl of the same N {sentences} - mutual_information_upper", default=None
    )
    marginal_kl_lower_standard_error: float | None = _latent(
        "standard error of marginal_kl_lower over these {sentences}", default=None
    )
    marginal_kl_upper: float | None = _latent("the same, upper end: kl - mutual_information_lower", default=None)
    marginal_kl_upper_standard_error: float | None = _latent(
        "standard error of marginal_kl_upper over these {sentences}", default=None
    )
    holes: float | None = _latent(
        "KL(p || q_agg) = E_p[log p(z) - log q_agg(z)], nats, 1000 samples of p: 0 if q_agg = p, large where samples "
        "lie far from all of the N {sentences} used (10000 at most); few {sentences} make it large",
        default=None,
    )
    holes_standard_error: float | None = _latent("standard error of holes over the samples", default=None)
    decoder_entropy_prior: float | None = _latent(
        "mean -log p(x_t | x_<t, z) of at most 200 sentences sampled from the decoder, nats per token, z from p",
        default=None,
    )
    decoder_entropy_posterior: float | None = _latent(
        "the same, z from q of as many scored sentences: far below the other where samples of p lie in holes",
        default=None,
    )
    decoder_entropy_standard_error: float | None = _latent(
        "standard error of the difference of these two", default=None
    )
    active_units: int = _latent(
        "latent dimensions whose posterior mean, on a sphere its direction, has a variance over the {sentences} above "
        "0.01 times that of the prior: 0.01 for N(0, I), 0.01 / D on the sphere"
    )
    variances: tuple[float, ...] | None = _latent("these variances over the prior's, largest first", default=None)
    permuted_nll_increase: float = _latent(
        "increase of the reconstruction when each {sentence} gets another one's z, nats per {sentence}"
    )
    inference_gap: float | None = _latent(
        "increase of the elbo when q of each {sentence} is refined by itself in 20 gradient steps, nats per "
        "{sentence}, 0 where that found no better one: less than the encoder loses, much less where q is far off; only "
        "of diagonal Gaussians",
        default=None,
    )
    inference_gap_standard_error: float | None = _latent(
        "standard error of inference_gap over its {sentences}", default=None
    )


_reconstruction = partial(define_score, section="reconstruction", default=None)
_sample = partial(define_score, section="samples")
_optional = partial(define_score, section="samples", default=None)
_path = partial(define_score, section="paths", default=None)


@dataclass(frozen=True, kw_only=True)
class TextScores:
    """The scores of the texts of a model; None where there is no latent space, no training split or no path.

    Words are those of the text with punctuation marks separated, unless the tokenizer splits at white space alone.
    `<unk>` stays in the held-out sentences but is never generated.
    """

    sentences: int = define_score(
        "number of held-out sentences that texts are compared with",
        section="reconstruction",
    )
    beam: int = define_score(
        "width of the beam search of reconstructions and paths; 0 is greedy", section="reconstruction"
    )
    exact_match_mean: float | None = _reconstruction(
        "fraction of sentences reconstructed word for word from the posterior mean; never one with <unk>"
    )
    exact_match_mean_standard_error: float | None = _reconstruction("standard error of exact_match_mean")
    token_accuracy_mean: float | None = _reconstruction(
        "fraction of the positions of all sentences, counted from BOS, EOS included, at which the reconstruction from "
        "the posterior mean has the same token; never that of an <unk>"
    )
    bleu_mean: float | None = _reconstruction(
        "corpus BLEU-4 of the reconstructions from posterior means, 0 to 100 (sacrebleu, "
        "nrefs:1|case:mixed|eff:no|tok:none|smooth:exp)"
    )
    bleu_mean_standard_error: float | None = _reconstruction(
        "standard error of bleu_mean, by a bootstrap over the sentences"
    )
    short_sentences: int | None = _reconstruction(
        "number of the sentences with at most 8 words, marks (without letter or digit) not counted"
    )
    exact_match_short: float | None = _reconstruction("exact_match_mean of these")
    exact_match_short_standard_error: float | None = _reconstruction("standard error of exact_match_short")
    bleu_short: float | None = _reconstruction("bleu_mean of these")
    bleu_short_standard_error: float | None = _reconstruction("standard error of bleu_short, by a bootstrap")
    exact_match_sampled: float | None = _reconstruction("exact_match_mean with z sampled from the posterior")
    exact_match_sampled_standard_error: float | None = _reconstruction("standard error of exact_match_sampled")
    token_accuracy_sampled: float | None = _reconstruction("token_accuracy_mean with z sampled from the posterior")
    bleu_sampled: float | None = _reconstruction("bleu_mean with z sampled from the posterior")
    bleu_sampled_standard_error: float | None = _reconstruction("standard error of bleu_sampled, by a bootstrap")

    samples: int = _sample("number of samples from the prior")
    prior_temperature: float = _sample("factor of the prior's standard deviations; 1 is the prior itself")
    candidates: int = _sample("sentences generated for each sample, of which the likeliest of its length is kept")
    temperature: float = _sample("temperature at which their words are sampled; 0 is greedy")
    top_k: int | None = _optional("their words are among the K likeliest; none where all can be sampled")
    top_p: float | None = _optional("their words are among the likeliest with this probability together; none likewise")
    min_p: float | None = _optional("their words have at least this fraction of the likeliest's; none likewise")
    language_model_order: int | None = _optional(
        "the forward perplexities are those of a Kneser-Ney model of n-grams of this order, fitted to the training "
        "split (200,000 sentences at most); none where a neural language model was given"
    )
    forward_perplexity: float | None = _optional(
        "perplexity of the samples per token, EOS included, under the language model: low for fluent texts, and for "
        "dull ones"
    )
    forward_perplexity_standard_error: float | None = _optional("standard error of forward_perplexity over the samples")
    forward_perplexity_real: float | None = _optional("the same of the held-out sentences without <unk>")
    forward_perplexity_real_standard_error: float | None = _optional(
        "standard error of forward_perplexity_real over these sentences"
    )
    forward_perplexity_ratio: float | None = _optional("forward_perplexity / forward_perplexity_real, 1 for real text")
    forward_perplexity_ratio_standard_error: float | None = _optional(
        "standard error of this ratio, over samples and sentences"
    )
    reverse_perplexity: float | None = _optional(
        "perplexity of the held-out sentences without <unk> per token, EOS included, under a Kneser-Ney 5-gram model "
        "fitted to the samples: low if they cover the language"
    )
    reverse_perplexity_real: float | None = _optional(
        "the same, fitted to as many training sentences, less those with <unk>, which samples have not either"
    )
    self_bleu_2: float = _sample("mean BLEU-2 of each sample against all others, 0 to 100, lower is more diverse")
    self_bleu_3: float = _sample("the same with BLEU-3")
    self_bleu_4: float = _sample("the same with BLEU-4")
    self_bleu_5: float = _sample("the same with BLEU-5")
    distinct_1: float = _sample(
        "different words over all words of the samples together, as many of them as held-out sentences at most"
    )
    distinct_1_real: float | None = _optional("the same of the held-out sentences, as many of them as samples at most")
    distinct_2: float = _sample("different pairs of neighbouring words over all pairs, of the same samples")
    distinct_2_real: float | None = _optional("the same of the same held-out sentences")
    distinct_2_difference: float | None = _optional("distinct_2 / distinct_2_real - 1: 0 for real text")
    distinct_4: float = _sample("different runs of four words over all runs, of the same samples")
    distinct_4_real: float | None = _optional("the same of the same held-out sentences")
    unique: float = _sample("different samples over all samples")
    novelty: float | None = _optional("fraction of samples that are no training sentence")
    length: float = _sample("mean length of the samples in words, marks included")
    length_standard_error: float | None = _optional("standard error of length")
    length_real: float = _sample("the same of the held-out sentences")
    length_difference: float | None = _optional("length / length_real - 1: 0 for real text")

    paths: int | None = _path(
        "number of straight paths between the posterior means of two held-out sentences, decoded greedily"
    )
    steps: int | None = _path("texts on a path, both ends included")
    distinct_steps: float | None = _path("fraction of neighbours on the paths that differ")
    distinct_texts: float | None = _path("different texts on a path, 1 to `steps`, mean over the paths")
    distinct_texts_standard_error: float | None = _path("standard error of distinct_texts over the paths")
    varied_paths: float | None = _path(
        "fraction of paths of which at least 5 of 7 texts (as large a part of other `steps`) are different"
    )
    varied_paths_standard_error: float | None = _path("standard error of varied_paths")
    monotone_paths: float | None = _path(
        "fraction of paths on which the words in common with the first text, marks left out, never rise, and those "
        "with the last never fall, by not even one word"
    )
    monotone_paths_standard_error: float | None = _path("standard error of monotone_paths")
    directed_paths: float | None = _path(
        "fraction of paths on which the words in common with the first text, less those with the last, never rise: "
        "one that both lose or regain counts nothing"
    )
    directed_paths_standard_error: float | None = _path("standard error of directed_paths")
    path_perplexity: float | None = _path("perplexity of the texts on the paths, as forward_perplexity")
    path_perplexity_ends: float | None = _path("the same of the first and the last text of each path")
    path_perplexity_ratio: float | None = _path(
        "the largest, of the steps between the ends, of the perplexity of its texts of all paths together, over "
        "path_perplexity_ends: near 1 where paths lead through text as fluent as their ends"
    )
    path_perplexity_ratio_standard_error: float | None = _path(
        "standard error of path_perplexity_ratio, by a bootstrap over the paths"
    )
    fluent_steps: float | None = _path(
        "fraction of the steps between the ends whose own perplexity is at most 1.5 times that of the end with the "
        "larger one"
    )
    fluent_steps_standard_error: float | None = _path("standard error of fluent_steps over the paths")
    fluent_steps_real: float | None = _path(
        "the same with held-out sentences without <unk> in place of these steps: single sentences differ much"
    )
    fluent_paths: float | None = _path("fraction of paths of which all steps are such")
    fluent_paths_standard_error: float | None = _path("standard error of fluent_paths")
    fluent_paths_real: float | None = _path("the same with independent held-out sentences in place of the steps")


def get_definitions(cls: type = Scores, unit: Unit = TEXT) -> dict[str, str]:
    """Return the definition of each score of a dataclass, in their order: one plain line in the words of the unit."""
    return {entry.name: entry.metadata["definition"].format_map(vars(unit)) for entry in fields(cls)}


def read_scores(stored: Mapping[str, Any], cls: type = Scores) -> Any:
    """Read scores back from JSON: None for those that an older version did not know, without those of a newer one.

    >>> read_scores({"nll": 3.5, "variances": [2.0, 1.0], "charm": 1.0}).variances
    (2.0, 1.0)
    """
    values = {entry.name: stored.get(entry.name) for entry in fields(cls)}
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


@dataclass(frozen=True)
class Row:
    """A score as text: its section, its name, its value (± the standard error), its definition."""

    section: str
    name: str
    value: str
    definition: str


def format_rows(scores: Any) -> Iterator[Row]:
    """Yield the scores there are, as text, each with its standard error beside it.

    >>> stored = {"nll": 3.5, "nll_standard_error": 0.25, "variances": [2.0, 1.0]}
    >>> [row.value for row in format_rows(read_scores(stored))]
    ['3.500 ± 0.250', '2.00 1.00']
    """
    values = vars(scores)
    unit = TEXT if values.get("nll_per_frame") is None else SERIES
    lines = get_definitions(type(scores), unit)
    for entry in fields(scores):
        name, value = entry.name, values[entry.name]
        is_error = name.endswith(ERROR) and values.get(name.removesuffix(ERROR)) is not None
        if value is None or value == () or is_error:
            continue
        error = values.get(name + ERROR)
        text = format_value(value) if error is None else f"{format_value(value)} ± {format_value(error)}"
        shown = name.replace("sentences", unit.sentences)
        yield Row(entry.metadata["section"], shown, text, lines[name])


def format_value(value: float | tuple[float, ...]) -> str:
    """Format whole numbers with separators, others with three decimals, the first of several with two.

    >>> format_value(12_345), format_value(1 / 3), format_value((0.5, 0.25))
    ('12,345', '0.333', '0.50 0.25')
    """
    if isinstance(value, tuple):
        return " ".join([f"{part:.2f}" for part in value[:SHOWN]] + ["..."] * (len(value) > SHOWN))
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"
