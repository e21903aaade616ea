"""Unknown words: what a tokenizer reads as `<unk>`, in a corpus and in what somebody typed.

Whatever stands behind `<unk>` costs what one token costs, and is free beyond that: a corpus of nothing but unknown
words has an excellent likelihood. So it is said where there are many.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from seqvae.batch import END, UNKNOWN
from seqvae.errors import UnknownWordsWarning
from seqvae.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from seqvae.text.corpus import Corpus, Split

MANY = 0.1  # fraction of the held-out tokens from which on scores say little
COUNTED = 10_000  # sentences that are counted, at most
FEW_WORDS, LONG_WORD = 1.5, 20  # words a sentence, characters a word: fewer, or longer, are no words
STRING = 8  # characters of a sentence without a space from which on it is not simply a word
NAMED, SEARCHED = 8, 100  # unknown words that are named, sentences in which they are looked for


def fraction(split: "Split") -> float:
    """The fraction of the tokens of a split that are `<unk>`, ends of sentences not counted."""
    some = split.at_most(COUNTED)
    ids = np.fromiter((id for row in some.sequences(range(len(some))) for id in row if id != END), np.int64)
    return float((ids == UNKNOWN).mean()) if len(ids) else 0.0


def divided(split: "Split") -> bool:
    """Whether white space splits the sentences into words, as it does not in Chinese or in the strings of chemistry."""
    words, characters = int(split.words.sum()), int(split.characters.sum())
    return words >= FEW_WORDS * len(split) and characters <= LONG_WORD * words


def note(corpus: "Corpus") -> str | None:
    """What to know before training where many of the held-out tokens are unknown; None where all is well."""
    split, kind = corpus.valid or corpus.test, corpus.tokenizer.kind
    if split is None or kind == "bpe" or not len(split):
        return None
    unknown, whole = fraction(split), not divided(split)
    advice = "write --tokenizer char" if kind == "word" else "write --tokenizer bpe"
    if unknown <= MANY:
        if kind == "char" or not whole or split.characters.mean() < STRING:
            return None
        return f"white space does not split the sentences into words: {advice} to have every character as a token"
    why = "white space does not split the sentences into words: " if whole and kind == "word" else ""
    if not whole and kind == "word":
        advice += " or bpe"
    if corpus.train is not None and fraction(corpus.train) > MANY:
        advice += f", or a --vocabulary-size above {len(corpus.tokenizer):,}"
    return (
        f"{why}{unknown:.0%} of the held-out tokens are unknown (<unk>), and what stands behind them costs nothing, so "
        f"that scores look better than they are: {advice}"
    )


def typed(tokenizer: Tokenizer, texts: Sequence[str], sequences: Sequence[Sequence[int]]) -> str | None:
    """Name the unknown words of some sentences, in one line; None where all are known.

    Args:
        tokenizer: that read them.
        texts: the sentences.
        sequences: their ids.
    """
    having = [place for place, ids in enumerate(sequences) if UNKNOWN in ids]
    found = list(dict.fromkeys(word for place in having[:SEARCHED] for word in tokenizer.unknown(texts[place])))
    if not found:
        return None
    unit = "character" if tokenizer.kind == "char" else "word"
    more = " and others" if len(found) > NAMED or len(having) > SEARCHED else ""
    named = ", ".join(f'"{word}"' for word in found[:NAMED]) + more
    lost = sum(not set(sequences[place]) - {UNKNOWN, END} for place in having)
    where = [f"in {len(having):,} of {len(texts):,} sentences"] if len(texts) > 1 else []
    if lost:
        where.append(f"{f'{lost:,} of them' if where else 'the sentence'} without a known {unit}")
    plural = "" if len(found) == 1 and not more else "s"
    return f"unknown {unit}{plural}, read as <unk>: {named}" + (f" ({', '.join(where)})" if where else "")


def warn(message: str | None, stacklevel: int = 2) -> None:
    """Issue an `UnknownWordsWarning`, if there is something to say; `stacklevel` as in `warnings.warn`."""
    if message is not None:
        warnings.warn(message, UnknownWordsWarning, stacklevel=stacklevel + 1)


@contextmanager
def unmentioned() -> Iterator[None]:
    """Leave out these warnings: for the sentences of a corpus, whose scores say how many words are unknown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownWordsWarning)
        yield
