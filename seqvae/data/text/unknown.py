"""Unknown words: what a tokenizer reads as `<unk>`, in a corpus and in what somebody typed.

Any word behind `<unk>` costs what that one token costs: a corpus of nothing but unknown words has an excellent
likelihood. So a log line warns where there are many.
"""

import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from seqvae.data.batch import END, UNKNOWN
from seqvae.data.text.tokenizer import Tokenizer
from seqvae.errors import UnknownWordsWarning

MANY = 0.1  # fraction of the held-out tokens from which on scores mean little
STRING = 8  # characters of a sentence without a space from which on it is not simply a word
NAMED, SEARCHED = 8, 100  # unknown words that are named, sentences in which they are looked for
LONGEST = 40  # characters of a word that is named


def advise(tokenizer: Tokenizer, *, held_out: float, train: float, spaced: bool, characters: float) -> str | None:
    """Return what to know before a training where many of the held-out tokens are unknown; None where all is well.

    Args:
        tokenizer: of the training.
        held_out: fraction of the held-out tokens that are `<unk>`.
        train: the same of the training sentences.
        spaced: whether white space splits the sentences into words.
        characters: mean length of a sentence in characters.
    """
    kind, unspaced = tokenizer.kind, "white space does not split the sentences into words"
    advice = "write --tokenizer char" if kind == "word" else "write --tokenizer bpe"
    if held_out <= MANY:
        strings = kind == "word" and not spaced and characters >= STRING
        return f"{unspaced}: {advice} to have every character as a token" if strings else None
    if spaced and kind == "word":
        advice += " or bpe"
    if train > MANY:
        advice += f", or a --vocabulary-size above {len(tokenizer):,}"
    why = f"{unspaced}: " if kind == "word" and not spaced else ""
    return (
        f"{why}{held_out:.0%} of the held-out tokens are <unk>, behind which all words are free, so that scores look "
        f"better than they are: {advice}"
    )


def describe_unknown(tokenizer: Tokenizer, texts: Sequence[str], sequences: Sequence[Sequence[int]]) -> str | None:
    """Name the unknown words of some sentences, in one line; None where all are known.

    Args:
        tokenizer: that encoded them.
        texts: the sentences.
        sequences: their ids.
    """
    having = [place for place, ids in enumerate(sequences) if UNKNOWN in ids]
    found = list(dict.fromkeys(word for place in having[:SEARCHED] for word in tokenizer.find_unknown(texts[place])))
    if not found:
        return None
    unit = "character" if tokenizer.kind == "char" else "word"
    more = " and others" if len(found) > NAMED or len(having) > SEARCHED else ""
    named = ", ".join(f'"{_shorten(word)}"' for word in found[:NAMED]) + more
    lost = sum(not set(sequences[place]) - {UNKNOWN, END} for place in having)
    where = [f"in {len(having):,} of {len(texts):,} sentences"] if len(texts) > 1 else []
    if lost:
        where.append(f"{f'{lost:,} of them' if where else 'the sentence'} without a known {unit}")
    plural = "" if len(found) == 1 and not more else "s"
    return f"unknown {unit}{plural}, read as <unk>: {named}" + (f" ({', '.join(where)})" if where else "")


def _shorten(word: str) -> str:
    """Return a word for a line of output: not too long, without control characters."""
    word = word if len(word) <= LONGEST else f"{word[: LONGEST - 3]}..."
    return "".join(repr(c)[1:-1] if unicodedata.category(c) == "Cc" else c for c in word)


def warn_unknown(message: str | None, stacklevel: int = 2) -> None:
    """Issue an `UnknownWordsWarning`, if there is a message; `stacklevel` as in `warnings.warn`."""
    if message is not None:
        warnings.warn(message, UnknownWordsWarning, stacklevel=stacklevel + 1)


@contextmanager
def silence_unknown() -> Iterator[None]:
    """Silence these warnings: for sentences of a corpus, whose scores report how many words are unknown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownWordsWarning)
        yield
