"""Metrics of texts: how similar they are one to one, and how diverse a set of them is.

Texts are split at white space: separate punctuation marks before (`a cat sat .`) if they count as words. Nothing here
depends on a model or a tokenizer. Fractions lie in 0 to 1, BLEU in 0 to 100 by convention.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from importlib import import_module
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np

from seqvae.errors import ConfigError

RESAMPLES = 500  # of a bootstrap

# -- reconstructions: one for each original ----------------------------------------------------------------------------


def exact_match(originals: Sequence[str], reconstructions: Sequence[str]) -> float:
    """Return the fraction of originals reconstructed word for word.

    >>> exact_match(["a cat .", "a dog ."], ["a cat .", "a cat ."])
    0.5
    """
    return fmean(x.split() == y.split() for x, y in zip(originals, reconstructions, strict=True))


def token_accuracy(originals: Sequence[Sequence[Hashable]], reconstructions: Sequence[Sequence[Hashable]]) -> float:
    """Return the fraction of tokens of the originals that the reconstructions have at the same position.

    Args:
        originals: N sequences of tokens, each with EOS if that counts.
        reconstructions: N sequences; tokens beyond the length of the original cost nothing but the missed EOS.

    >>> token_accuracy([[7, 8, 2]], [[7, 9, 2, 5]]) == 2 / 3
    True
    """
    pairs = list(zip(originals, reconstructions, strict=True))
    right = sum(a == b for x, y in pairs for a, b in zip(x, y, strict=False))
    return right / sum(len(x) for x, _ in pairs)


def bleu(originals: Sequence[str], reconstructions: Sequence[str]) -> float:
    """Return corpus BLEU-4 of the reconstructions against the originals, 0 to 100.

    The signature of sacrebleu is nrefs:1|case:mixed|eff:no|tok:none|smooth:exp: words are not split or lower-cased any
    further.

    Raises:
        ConfigError: if sacrebleu is not installed.

    Source: Papineni, Roukos, Ward & Zhu, BLEU, 2002; Post, A call for clarity in reporting BLEU scores, 2018,
    arXiv:1804.08771.

    >>> round(bleu(["a b c d f"], ["a b c d e"]), 2)  # 100 (4/5 3/4 2/3 1/2)^(1/4)
    66.87
    """
    sacrebleu = import_optional("sacrebleu")
    return float(sacrebleu.corpus_bleu(reconstructions, [originals], tokenize="none", force=True).score)


def bleu_standard_error(originals: Sequence[str], reconstructions: Sequence[str], *, seed: int = 0) -> float:
    """Return the standard error of `bleu` over the sentences, by a bootstrap: they are sampled with replacement.

    Args:
        originals: N texts.
        reconstructions: N texts.
        seed: of the 500 resamples.

    Raises:
        ConfigError: if sacrebleu is not installed.

    Source: Koehn, Statistical significance tests for machine translation evaluation, 2004.

    >>> round(bleu_standard_error(["a b c d f"] * 9, ["a b c d e"] * 9), 9)  # all alike
    0.0
    """
    scorer = import_optional("sacrebleu.metrics").BLEU(tokenize="none", effective_order=True, force=True)
    pairs = zip(reconstructions, originals, strict=True)
    each = [scorer.sentence_score(text, [original]) for text, original in pairs]
    counts = np.array([[*one.counts, *one.totals, one.sys_len, one.ref_len] for one in each])  # (N, 10)
    sums = (resample(len(each), seed) @ counts).tolist()
    return float(np.std([scorer.compute_bleu(s[:4], s[4:8], *s[8:], smooth_method="exp").score for s in sums]))


def edit_distance(originals: Sequence[str], reconstructions: Sequence[str]) -> float:
    """Return the mean normalized edit distance: words to insert, delete or replace, over the words of the longer text.

    Raises:
        ConfigError: if rapidfuzz is not installed.

    Source: Levenshtein, Binary codes capable of correcting deletions, insertions and reversals, 1966.

    >>> edit_distance(["a cat sat ."], ["a dog ran here ."])
    0.6
    """
    distance = import_optional("rapidfuzz.distance").Levenshtein.normalized_distance
    return fmean(distance(x.split(), y.split()) for x, y in zip(originals, reconstructions, strict=True))


# -- interpolations: each a list of texts from one end to the other ----------------------------------------------------


def distinct_steps(paths: Sequence[Sequence[str]]) -> float:
    """Return the fraction of neighbours on the paths that differ."""
    return fmean(x != y for path in paths for x, y in pairwise(path))


def list_words(text: str) -> list[str]:
    """List the words of a text without its punctuation marks: what holds a letter or a digit.

    >>> list_words("well , it's 3 p.m. - go !")
    ['well', "it's", '3', 'p.m.', 'go']
    """
    return [word for word in text.split() if any(map(str.isalnum, word))]


def count_shared(path: Sequence[str], end: str) -> list[int]:
    """Count the words that each text of a path has in common with `end`, marks left out, a repeated word as often.

    >>> count_shared(["the cat and the dog .", "the cat .", "a cat ."], "the cat and the dog .")
    [5, 2, 1]
    """
    words = Counter(list_words(end))
    return [(Counter(list_words(text)) & words).total() for text in path]


def is_monotone(path: Sequence[str]) -> bool:
    """Tell whether the words in common with the first text never rise along a path, and those with the last never fall.

    A single word by chance, as `to` in both ends and not between them, breaks it.

    >>> is_monotone(["we go .", "we ran .", "they ran ."]), is_monotone(["a b", "c d", "a d"])
    (True, False)
    """
    first, last = count_shared(path, path[0]), count_shared(path, path[-1])
    return all(a >= b for a, b in pairwise(first)) and all(a <= b for a, b in pairwise(last))


def is_directed(path: Sequence[str]) -> bool:
    """Tell whether the words in common with the first text, less those with the last, never rise along a path.

    Every path with `is_monotone` has it too. A word lost by both or regained by both counts nothing here.

    >>> path = ["we go to it", "we go in", "you are to it"]
    >>> is_directed(path), is_monotone(path)
    (True, False)
    """
    counts = zip(count_shared(path, path[0]), count_shared(path, path[-1]), strict=True)
    return all(a >= b for a, b in pairwise(first - last for first, last in counts))


def limit_by_ends(log_perplexities: Sequence[float], factor: float) -> float:
    """Return the largest log-perplexity that a step between the ends of a path may have: that of `factor` x the ends'.

    Of the two ends the one with the larger perplexity counts, so that a path that repeats its ends is within the limit.

    Args:
        log_perplexities: nats per token, of each text of a path.
        factor: 1 or more.

    >>> limit_by_ends([1.0, 9.0, 3.0, 0.5], factor=math.e)
    2.0
    """
    return max(log_perplexities[0], log_perplexities[-1]) + math.log(factor)


# -- for all of them --------------------------------------------------------------------------------------------------


def resample(count: int, seed: int = 0) -> np.ndarray:
    """Sample `count` of `count` items with replacement, 500 times: how often each was taken, (500, count) int64.

    >>> resample(3).sum(1).tolist() == [3] * 500
    True
    """
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES)


def import_optional(name: str) -> Any:
    """Import a module that the extra `eval` installs, or raise a `ConfigError` that says so."""
    try:
        return import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise ConfigError(f'this metric needs {package}, which is not installed: pip install "seqvae[eval]"') from None


# -- samples: a set of texts -------------------------------------------------------------------------------------------


def self_bleu(texts: Sequence[str], n: int = 4) -> float:
    """Return self-BLEU, the mean BLEU-n of each text against all others, 0 to 100; lower is more diverse.

    Exact, in time linear in the words. An order in which nothing matches counts 0.1 matches, a text shorter than n
    words is scored by the orders that it has, and the brevity penalty takes the nearest length: in the signature of
    sacrebleu, eff:yes|tok:none|smooth:floor[0.10].

    Raises:
        ValueError: if there are fewer than 2 texts.

    Source: Zhu et al., Texygen: a benchmarking platform for text generation models, 2018, arXiv:1802.01886.

    >>> round(self_bleu(["a cat sat", "a cat ran", "a cat sat"], n=2), 1)  # (100 + 100 (2/3 1/2)^(1/2) + 100) / 3
    85.9
    """
    if len(texts) < 2:
        raise ValueError(f"self-BLEU compares each text with the others: it needs at least 2, got {len(texts)}")
    sentences = [text.split() for text in texts]
    logs: list[list[float]] = [[] for _ in sentences]
    unmatched = set()
    for order in range(1, n + 1):
        for index, (matches, total) in enumerate(_count_matches([_count_ngrams(words, order) for words in sentences])):
            if order == 1 and not matches:
                unmatched.add(index)
            if total:
                logs[index].append(math.log((matches or 0.1) / total))
    lengths = Counter(map(len, sentences))
    scores = [
        0.0 if index in unmatched else math.exp(fmean(logs[index])) * _brevity_penalty(len(words), lengths)
        for index, words in enumerate(sentences)
    ]
    return 100 * fmean(scores)


def distinct(texts: Sequence[str], n: int) -> float:
    """Return distinct-n: different n-grams of all texts together, over all n-grams; 0 if there are none.

    Source: Li, Galley, Brockett, Gao & Dolan, A diversity-promoting objective function for neural conversation models,
    2016, arXiv:1510.03055.

    >>> distinct(["a b a", "a b"], n=2) == 2 / 3
    True
    """
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        counts.update(_count_ngrams(text.split(), n))
    return len(counts) / counts.total() if counts else 0.0


def unique(texts: Sequence[str]) -> float:
    """Return the number of different texts over that of all texts."""
    return len(set(texts)) / len(texts)


def novelty(texts: Sequence[Hashable], known: Iterable[Hashable]) -> float:
    """Return the fraction of texts (or tuples of ids) that are none of the known ones, which are iterated once.

    >>> novelty(["a cat", "a dog"], known=["a dog", "a bird"])
    0.5
    """
    different = set(texts)
    found = {text for text in known if text in different}
    return fmean(text not in found for text in texts)


def _count_ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[i:] for i in range(n)), strict=False))


def _count_matches(counts: Sequence[Counter[tuple[str, ...]]]) -> Iterator[tuple[int, int]]:
    """Yield for each text the number of its n-grams that another text has as often, and of all its n-grams."""
    most: dict[tuple[str, ...], tuple[int, int, int]] = {}  # highest count, the text it is in, highest of the others
    for owner, own in enumerate(counts):
        for gram, count in own.items():
            highest, holder, second = most.get(gram, (0, -1, 0))
            most[gram] = (count, owner, highest) if count > highest else (highest, holder, max(second, count))
    for owner, own in enumerate(counts):
        limits = ((count, *most[gram]) for gram, count in own.items())
        matches = sum(min(count, second if holder == owner else highest) for count, highest, holder, second in limits)
        yield matches, own.total()


def _brevity_penalty(length: int, lengths: Counter[int]) -> float:
    """Return BLEU's brevity penalty, against the nearest length (the shorter of two) among the other texts."""
    others = (other for other, count in lengths.items() if count > (other == length))
    target = min(others, key=lambda other: (abs(other - length), other))
    return 1.0 if length >= target else math.exp(1 - target / length)
