"""TextScores: the numbers that what a model says is judged by, each with its definition."""

from dataclasses import dataclass
from functools import partial

from seqvae.measures.scores import score

_exact = partial(score, section="reconstruction", default=None)
_sample = partial(score, section="samples")
_missing = partial(score, section="samples", default=None)
_path = partial(score, section="paths", default=None)


@dataclass(frozen=True, kw_only=True)
class TextScores:
    """The scores of the texts of a model; None where there is no latent space, no training split or no path.

    Words are those of the text with marks set apart, unless the tokenizer splits at white space alone. `<unk>` stays in
    the held-out sentences but can never be said.
    """

    sentences: int = score(
        "number of held-out sentences that texts are compared with, reconstructed ones by greedy decoding",
        section="reconstruction",
    )
    exact_match_mean: float | None = _exact(
        "share of sentences reconstructed word for word from the posterior mean; never one with <unk>"
    )
    token_accuracy_mean: float | None = _exact(
        "share of the places of all sentences, counted from their starts, ends included, at which the reconstruction "
        "from the posterior mean says the same token; never that of an <unk>"
    )
    bleu_mean: float | None = _exact(
        "corpus BLEU-4 of the reconstructions from posterior means, 0 to 100 (sacrebleu, "
        "nrefs:1|case:mixed|eff:no|tok:none|smooth:exp)"
    )
    edit_distance_mean: float | None = _exact(
        "least number of words to insert, delete or replace, over the words of the longer text, 0 to 1: mean over the "
        "reconstructions from posterior means"
    )
    exact_match_sampled: float | None = _exact("exact_match_mean with z drawn from the posterior")
    token_accuracy_sampled: float | None = _exact("token_accuracy_mean with z drawn from the posterior")
    bleu_sampled: float | None = _exact("bleu_mean with z drawn from the posterior")
    edit_distance_sampled: float | None = _exact("edit_distance_mean with z drawn from the posterior")

    samples: int = _sample("number of samples from the prior")
    temperature: float = _sample("temperature at which their words are drawn; 0 is greedy")
    language_model_order: int | None = _missing(
        "the forward perplexities are those of a Kneser-Ney model of n-grams of this order, learned from the training "
        "split (200,000 sentences at most); none where a neural language model was given"
    )
    forward_perplexity: float | None = _missing(
        "perplexity of the samples per token, ends included, under the language model: low for fluent texts, and for "
        "dull ones"
    )
    forward_perplexity_real: float | None = _missing("the same of the held-out sentences without <unk>")
    reverse_perplexity: float | None = _missing(
        "perplexity of the held-out sentences without <unk> per token, ends included, under a Kneser-Ney 5-gram model "
        "learned from the samples: low if they cover the language"
    )
    reverse_perplexity_real: float | None = _missing(
        "the same, learned from as many training sentences, less those with <unk>, which samples have not either"
    )
    self_bleu_2: float = _sample("mean BLEU-2 of each sample against all others, 0 to 100, lower is more diverse")
    self_bleu_3: float = _sample("the same with BLEU-3")
    self_bleu_4: float = _sample("the same with BLEU-4")
    self_bleu_5: float = _sample("the same with BLEU-5")
    distinct_1: float = _sample("different words over all words of the samples together")
    distinct_2: float = _sample("different pairs of neighbouring words over all pairs")
    distinct_4: float = _sample("different runs of four words over all runs")
    unique: float = _sample("different samples over all samples")
    novelty: float | None = _missing("share of samples that are no training sentence")
    nearest: float | None = _missing(
        "mean edit distance of a sample to the nearest of at most 10,000 training sentences, in words over those of "
        "the longer text, 0 to 1"
    )
    length_divergence: float = _sample(
        "Jensen-Shannon divergence of the lengths in words of samples and held-out sentences, nats, 0 to log 2"
    )
    unigram_divergence: float = _sample(
        "Jensen-Shannon divergence of the words of samples and held-out sentences, nats, 0 to log 2"
    )

    paths: int | None = _path(
        "number of straight paths between the posterior means of two held-out sentences, decoded greedily"
    )
    steps: int | None = _path("texts on a path, both ends included")
    path_perplexity: float | None = _path("perplexity of the texts on the paths, as forward_perplexity")
    distinct_steps: float | None = _path("share of neighbours on the paths that differ")
    smoothness: float | None = _path(
        "words to change between the ends of a path, over its number of steps times its longest step in words: mean, "
        "0 to 1; 1 if all steps are equally long and none is in vain, 0 if the path leads nowhere"
    )
