"""Metrics of texts: how similar they are one to one, and how diverse a set of them is.

Texts are split at white space: set marks apart before (`a cat sat .`) if they shall count as words. Nothing here knows
a model or a tokenizer. All values lie in 0 to 1, but for BLEU, which goes from 0 to 100 as everywhere.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from importlib import import_module
from itertools import pairwise
from statistics import fmean
from typing import Any

from seqvae.errors import ConfigError

# -- reconstructions: one for each original ----------------------------------------------------------------------------


def exact_match(originals: Sequence[str], said: Sequence[str]) -> float:
    """The share of originals that were said word for word.

    >>> exact_match(["a cat .", "a dog ."], ["a cat .", "a cat ."])
    0.5
    """
    return fmean(x.split() == y.split() for x, y in zip(originals, said, strict=True))


def token_accuracy(originals: Sequence[Sequence[Hashable]], said: Sequence[Sequence[Hashable]]) -> float:
    """The share of tokens of the originals that stand at the same place, from the start, in what was said.

    Args:
        originals: N sequences of tokens, each with its end if that shall count.
        said: N sequences; what goes on beyond the length of the original costs nothing but the missed end.

    >>> token_accuracy([[7, 8, 2]], [[7, 9, 2, 5]]) == 2 / 3
    True
    """
    pairs = list(zip(originals, said, strict=True))
    right = sum(a == b for x, y in pairs for a, b in zip(x, y, strict=False))
    return right / sum(len(x) for x, _ in pairs)


def bleu(originals: Sequence[str], said: Sequence[str]) -> float:
    """Corpus BLEU-4 of the reconstructions against the originals, 0 to 100.

    The signature of sacrebleu is nrefs:1|case:mixed|eff:no|tok:none|smooth:exp: words are not cut or lowered any
    further.

    Raises:
        ConfigError: if sacrebleu is not installed.

    Source: Papineni, Roukos, Ward & Zhu, BLEU, 2002; Post, A call for clarity in reporting BLEU scores, 2018,
    arXiv:1804.08771.

    >>> round(bleu(["a b c d f"], ["a b c d e"]), 2)  # 100 (4/5 3/4 2/3 1/2)^(1/4)
    66.87
    """
    sacrebleu = optional("sacrebleu")
    return float(sacrebleu.corpus_bleu(said, [originals], tokenize="none", force=True).score)


def edit_distance(originals: Sequence[str], said: Sequence[str]) -> float:
    """The mean of the least number of words to insert, delete or replace, over the words of the longer of the two.

    Raises:
        ConfigError: if rapidfuzz is not installed.

    Source: Levenshtein, Binary codes capable of correcting deletions, insertions and reversals, 1966.

    >>> edit_distance(["a cat sat ."], ["a dog ran here ."])
    0.6
    """
    distance = optional("rapidfuzz.distance").Levenshtein.normalized_distance
    return fmean(distance(x.split(), y.split()) for x, y in zip(originals, said, strict=True))


# -- paths: each a list of texts from one end to the other -------------------------------------------------------------


def distinct_steps(paths: Sequence[Sequence[str]]) -> float:
    """The share of neighbours on the paths that differ."""
    return fmean(x != y for path in paths for x, y in pairwise(path))


def smoothness(paths: Sequence[Sequence[str]]) -> float:
    """How straight and even paths are: the mean of d(first, last) / (steps * longest step), 0 to 1.

    d is the number of words to insert, delete or replace. As d(first, last) is at most the sum of the steps, and that
    at most steps * longest step, 1 means that all steps are equally long and none is in vain; a single jump among K
    steps gives 1/K; a path that ends where it began, or never moves, gives 0. A path has at least 2 texts.

    Raises:
        ConfigError: if rapidfuzz is not installed.

    >>> smoothness([["a a", "a b", "b b"], ["a a", "b b", "b b"]])  # words changed: 1 and 1; 2 and 0
    0.75
    """
    distance = optional("rapidfuzz.distance").Levenshtein.distance
    found = []
    for path in paths:
        words = [text.split() for text in path]
        steps = [distance(x, y) for x, y in pairwise(words)]
        found.append(distance(words[0], words[-1]) / (len(steps) * max(1, *steps)))
    return fmean(found)


def optional(name: str) -> Any:
    """The module of that name, which the extra `eval` installs, or a `ConfigError` that says so."""
    try:
        return import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise ConfigError(f'this metric needs {package}, which is not installed: pip install "seqvae[eval]"') from None


BLOCK = 64  # texts compared at once with all the known ones


def self_bleu(texts: Sequence[str], n: int = 4) -> float:
    """How alike texts are: the mean BLEU-n of each against all others, 0 to 100; lower is more diverse.

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
    hopeless = set()
    for order in range(1, n + 1):
        for index, (matches, total) in enumerate(_matches([_ngrams(words, order) for words in sentences])):
            if order == 1 and not matches:
                hopeless.add(index)
            if total:
                logs[index].append(math.log((matches or 0.1) / total))
    lengths = Counter(map(len, sentences))
    scores = [
        0.0 if index in hopeless else math.exp(fmean(logs[index])) * _brevity(len(words), lengths)
        for index, words in enumerate(sentences)
    ]
    return 100 * fmean(scores)


def distinct(texts: Sequence[str], n: int) -> float:
    """Different n-grams of all texts together, over all n-grams; 0 if there are none.

    Source: Li, Galley, Brockett, Gao & Dolan, A diversity-promoting objective function for neural conversation models,
    2016, arXiv:1510.03055.

    >>> distinct(["a b a", "a b"], n=2) == 2 / 3
    True
    """
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        counts.update(_ngrams(text.split(), n))
    return len(counts) / counts.total() if counts else 0.0


def unique(texts: Sequence[str]) -> float:
    """Different texts over all texts."""
    return len(set(texts)) / len(texts)


def novelty(texts: Sequence[Hashable], known: Iterable[Hashable]) -> float:
    """The share of texts (or tuples of ids) that are none of the known ones, which are gone through once.

    >>> novelty(["a cat", "a dog"], known=["a dog", "a bird"])
    0.5
    """
    wanted = set(texts)
    found = {text for text in known if text in wanted}
    return fmean(text not in found for text in texts)


def nearest(texts: Sequence[str], known: Sequence[str]) -> float:
    """The mean, over the texts, of the smallest normalized edit distance to a known one (see `surface.edit_distance`).

    Raises:
        ConfigError: if rapidfuzz is not installed.

    >>> nearest(["a cat sat ."], known=["the dog ran .", "a cat ran ."])
    0.25
    """
    distance, compare = optional("rapidfuzz.distance").Levenshtein.normalized_distance, optional("rapidfuzz.process")
    sentences, others = [text.split() for text in texts], [text.split() for text in known]
    least: list[float] = []
    for start in range(0, len(sentences), BLOCK):
        table = compare.cdist(sentences[start : start + BLOCK], others, scorer=distance, dtype=float)
        least += table.min(axis=1).tolist()
    return fmean(least)


def length_divergence(texts: Sequence[str], reference: Sequence[str]) -> float:
    """The Jensen-Shannon divergence of the lengths in words, nats, 0 (equal shares) to log 2 (no length in common)."""
    return _jensen_shannon(Counter(len(t.split()) for t in texts), Counter(len(t.split()) for t in reference))


def unigram_divergence(texts: Sequence[str], reference: Sequence[str]) -> float:
    """The Jensen-Shannon divergence of the words, nats, 0 (equal shares) to log 2 (no word in common).

    Source: Lin, Divergence measures based on the Shannon entropy, 1991.

    >>> unigram_divergence(["a b"], ["b a a b"]), unigram_divergence(["a"], ["b"]) == math.log(2)
    (0.0, True)
    """
    return _jensen_shannon(
        Counter(w for t in texts for w in t.split()), Counter(w for t in reference for w in t.split())
    )


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[i:] for i in range(n)), strict=False))


def _matches(counts: Sequence[Counter[tuple[str, ...]]]) -> Iterator[tuple[int, int]]:
    """For each text its n-grams that another has as often, and all its n-grams."""
    most: dict[tuple[str, ...], tuple[int, int, int]] = {}  # the highest count, whose it is, the highest of the others
    for owner, own in enumerate(counts):
        for gram, count in own.items():
            highest, holder, second = most.get(gram, (0, -1, 0))
            most[gram] = (count, owner, highest) if count > highest else (highest, holder, max(second, count))
    for owner, own in enumerate(counts):
        limits = ((count, *most[gram]) for gram, count in own.items())
        matches = sum(min(count, second if holder == owner else highest) for count, highest, holder, second in limits)
        yield matches, own.total()


def _brevity(length: int, lengths: Counter[int]) -> float:
    """BLEU's penalty for a text shorter than the nearest length (the shorter of two) among the other texts."""
    others = (other for other, count in lengths.items() if count > (other == length))
    target = min(others, key=lambda other: (abs(other - length), other))
    return 1.0 if length >= target else math.exp(1 - target / length)


def _jensen_shannon(one: Counter, other: Counter) -> float:
    """Sum of p log(p/m) / 2 + q log(q/m) / 2 with m = (p + q) / 2."""
    if not one or not other:
        return 0.0 if one == other else math.log(2)
    totals = one.total(), other.total()
    pairs = ((one[key] / totals[0], other[key] / totals[1]) for key in one.keys() | other.keys())
    # fsum is exact, so the order of the keys, which changes from process to process, does not show
    return max(0.0, math.fsum(share / 2 * math.log(2 * share / (p + q)) for p, q in pairs for share in (p, q) if share))
