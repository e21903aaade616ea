"""Surface: how like each other texts are, one to one, by looking at their words alone.

Texts are split at white space: set marks apart before (`a cat sat .`) if they shall count as words. Nothing here knows
a model or a tokenizer. All values lie in 0 to 1, but for BLEU, which goes from 0 to 100 as everywhere.
"""

from collections.abc import Hashable, Sequence
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
