"""Texts with blanks, read as patterns: `_` is one word, `__` one word or more."""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from seqvae.data.batch import END, UNKNOWN
from seqvae.data.text.tokenizer import Tokenizer
from seqvae.errors import ConfigError, check_text, truncate
from seqvae.model.patterns import Pattern, Slot, allow_words, fix

LONGEST = {"word": 8, "char": 40}  # ids that a blank has at most; of tokens that are parts of words, PARTS
PARTS = 16
BLANK = re.compile(r"(?<!\w)(__?)(?!\w)")


@dataclass(frozen=True)
class WordClasses:
    """Which ids are words (V,) bool: those that one begins with, those that it goes on with, and all of a sentence."""

    first: Tensor
    more: Tensor | None
    every: Tensor

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "WordClasses":
        """Sort the ids of a tokenizer; words are what holds a letter or a digit."""
        every = allow_words(len(tokenizer))
        names = [tokenizer.get_token(id) for id in range(len(tokenizer))]
        lettered = torch.tensor([any(c.isalnum() and c not in "ĠĊ" for c in name) for name in names]) & every
        if tokenizer.kind == "word":
            return cls(lettered, None, every)
        if tokenizer.kind == "char":
            return cls(lettered, lettered, every)
        begins = torch.tensor([name.startswith("Ġ") for name in names])
        return cls(lettered & begins, lettered & ~begins, every)


@dataclass(frozen=True)
class Template:
    """A text with blanks in the ids of a tokenizer.

    Attributes:
        given: the ids as they stand, None for each blank, EOS the last where the end of the sentence is given.
        pattern: the form of the whole sentence.
        longest: most ids of a blank, on average over all blanks.
    """

    given: list[int | None]
    pattern: Pattern
    longest: int

    @property
    def max_length(self) -> int:
        """Return the most ids of the sentence, EOS included."""
        return len(self.given) + 1 + self.longest * max(1, self.given.count(None))


def read_template(text: str, tokenizer: Tokenizer) -> Template:
    """Read a text with blanks.

    Raises:
        ConfigError: for a text without blanks, or with words that the tokenizer does not know.
    """
    check_text("the text with blanks", text)
    pieces = BLANK.split(text)
    if len(pieces) == 1:
        raise ConfigError(f"{truncate(text)!r} has no blank: write _ for one word, __ for several, as in 'the _ sat .'")
    words, slots = WordClasses.of(tokenizer), list[Slot]()
    given: list[int | None] = []
    for place, piece in enumerate(pieces):
        if place % 2:
            given.append(None)
            slots.append(Slot(words.first, words.more) if piece == "_" else Slot(words.every, words.every))
            continue
        ids = read_words(piece, tokenizer)
        if tokenizer.kind == "char":
            ids = _restore_spaces(piece, ids, tokenizer)
        given += ids
        slots += [fix(id, len(tokenizer)) for id in ids]
    return Template([*given, END], Pattern(slots), LONGEST.get(tokenizer.kind, PARTS))


def read_prefix(text: str, tokenizer: Tokenizer) -> Template:
    """Read the beginning of a sentence.

    Raises:
        ConfigError: for an empty beginning, or words that the tokenizer does not know.
    """
    check_text("the beginning", text)
    ids = read_words(text, tokenizer)
    if not ids:
        raise ConfigError("the beginning is empty: expected one word or more; without any, write sample")
    every = allow_words(len(tokenizer))
    pattern = Pattern([*(fix(id, len(tokenizer)) for id in ids), Slot(every, every, optional=True)])
    return Template([*ids], pattern, 4 * LONGEST.get(tokenizer.kind, PARTS))


def read_words(text: str, tokenizer: Tokenizer) -> list[int]:
    """Return the ids of a text, all of which are known.

    Raises:
        ConfigError: for words that the tokenizer does not know.
    """
    ids = tokenizer.encode(text)
    if UNKNOWN in ids:
        names = ", ".join(repr(word) for word in dict.fromkeys(tokenizer.find_unknown(text))) or "'<unk>'"
        raise ConfigError(f"the model does not know {truncate(names)}: write words that its training sentences have")
    return ids


def _restore_spaces(piece: str, ids: list[int], tokenizer: Tokenizer) -> list[int]:
    """Put back the spaces at the ends of a piece, which the tokenizer strips."""
    space = tokenizer.encode("a a")[1:2]
    return [*(space if piece[:1].isspace() else []), *ids, *(space if piece.strip() and piece[-1:].isspace() else [])]
