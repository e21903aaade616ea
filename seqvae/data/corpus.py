"""What corpora of text and of series have in common: the names of splits, how missing ones are drawn, two base classes.

Training, evaluation and reports work with a `Corpus` and its `Split`s, and need not ask which of the two it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import numpy as np

from seqvae.data.batch import Batch
from seqvae.errors import ConfigError, CorpusError, choose, shorten

if TYPE_CHECKING:
    from seqvae.data.text.tokenizer import Tokenizer


BUILT_IN_TEXTS = {"chitchat": ("messages", "uncensored"), "grammar": (), "sotu": ()}  # by name, with their options
BUILT_IN_SERIES = ("curves",)

# What files, tables and data sets call a split, and the split that is meant.
SPLITS = {
    "train": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
}
HELD_OUT = 0.05  # fraction of train for validation and again for test, where the corpus has no such split

PART = 1_000_000  # rows that are looked through at a time, which saves memory where there are more

Indices = Sequence[int] | np.ndarray


def is_built_in(source: str) -> bool:
    """Return whether this names a built-in corpus of texts, with or without options."""
    return source.partition(":")[0] in BUILT_IN_TEXTS


def read_options(source: str) -> list[str]:
    """Return the name of a built-in corpus and its options, which are in one order whatever the one they were given in.

    Raises:
        ConfigError: for an option that it has not.
    """
    name, *given = source.split(":")
    known = BUILT_IN_TEXTS[name]
    if given and not known:
        raise ConfigError(f"the corpus {name} has no options: write {name} in place of {shorten(source)}")
    return [name, *sorted({choose(f"option of {name}", option, known) for option in given})]


class Split(ABC):
    """N sequences of a corpus: sentences (`seqvae.data.text.corpus.TextSplit`) or series (`SeriesSplit`)."""

    unit: ClassVar[str]  # what one sequence is called
    units: ClassVar[str]  # what several are called

    @abstractmethod
    def __len__(self) -> int:
        """Return N."""

    @property
    @abstractmethod
    def lengths(self) -> np.ndarray:
        """(N,) int32, the steps of each sequence, its end included."""

    @property
    @abstractmethod
    def complete(self) -> np.ndarray:
        """(N,) bool, false where a sequence was truncated and so has no end."""

    @property
    @abstractmethod
    def keys(self) -> np.ndarray:
        """(N,) uint64, equal for equal sequences."""

    @property
    @abstractmethod
    def labels(self) -> np.ndarray | None:
        """(N,) int64, the number of each sequence's label; None without labels."""

    @property
    @abstractmethod
    def columns(self) -> list[str]:
        """Names of the columns of the source."""

    @abstractmethod
    def column(self, name: str, indices: Indices | None = None) -> list[Any]:
        """Return the values of a column of the source, as labels or factors, for some sequences or for all.

        Raises:
            ConfigError: for a column that the source has not.
        """

    @property
    def weights(self) -> np.ndarray | None:
        """(N,) float64, how much each sequence counts in training; None where all count alike."""
        return None

    @property
    def counts(self) -> dict[str, np.ndarray | None]:
        """Units of the source in each sequence, (N,) each, by name; empty where there are none, as in series."""
        return {}

    @abstractmethod
    def batch(self, indices: Indices) -> Batch:
        """Return some sequences as a batch, in the given order."""

    @abstractmethod
    def select(self, indices: Indices) -> Self:
        """Return a split of some of the sequences, in the given order."""

    def at_most(self, limit: int | None) -> Self:
        """Return the split, or `limit` sequences evenly spread over it, always the same ones; None = no limit."""
        if limit is None or len(self) <= limit:
            return self
        return self.select(np.linspace(0, len(self) - 1, limit).astype(np.int64))


S = TypeVar("S", bound=Split)


@dataclass(frozen=True, eq=False, kw_only=True)
class Corpus(ABC, Generic[S]):
    """A corpus ready to be trained on or evaluated: `train`, `valid`, `test` (None where there is none).

    Attributes:
        tokenizer: what made the ids of a text; None for series.
        name: what to call the corpus.
        notes: facts about how it came about, each a short sentence: sizes, duplicates dropped, sequences truncated.
        labels: how many training sequences each label has, in sorted order; empty without labels.
    """

    train: S | None
    valid: S | None
    test: S | None
    tokenizer: "Tokenizer | None"
    name: str
    notes: list[str] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)

    unit: ClassVar[str]  # what one sequence is called
    units: ClassVar[str]  # what several are called
    observation: ClassVar[str]  # the distribution of a step, as `model.observation` names it: "tokens" or "frames"

    @property
    def splits(self) -> dict[str, S]:
        """The splits that are there, by name."""
        return {name: split for name in ("train", "valid", "test") if (split := getattr(self, name)) is not None}

    @property
    @abstractmethod
    def size(self) -> int:
        """What a model is built for: V, the tokens of the vocabulary, or F, the channels of a frame."""

    @property
    def moments(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Mean and standard deviation, (F,) each, of the channels over the frames of train; None for text."""
        return None

    @property
    def unknown_words(self) -> str | None:
        """What to know before a training where many of the held-out words are unknown; None where all is well."""
        return None

    @property
    @abstractmethod
    def content(self) -> str:
        """A hash that changes when the sequences, or the way they were divided, do; whatever the tokenizer."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A few letters that change when the sequences, the way they were divided, their ids or labels do."""


def divide(count: int, missing: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    """Draw the missing splits from the sequences of train: `HELD_OUT` of them each, at least one.

    Args:
        count: of the sequences.
        missing: names of the splits to be drawn.
        seed: of the order in which they are drawn.

    Returns:
        the numbers of the sequences of each of these splits, and of what is left to train, ascending.

    >>> {split: numbers.tolist() for split, numbers in divide(4, ["valid", "test"], seed=0).items()}
    {'valid': [2], 'test': [0], 'train': [1, 3]}
    """
    order, size = permute(count, np.random.default_rng(seed)), max(1, round(HELD_OUT * count))
    place = np.full(count, len(missing), np.uint8)
    for i in range(len(missing)):
        place[order[i * size : (i + 1) * size]] = i
    return {split: find_rows(place == i) for i, split in enumerate([*missing, "train"])}


def permute(count: int, random: np.random.Generator) -> np.ndarray:
    """Return the numbers below `count` in the order of `random.permutation(count)`, as small as they can be."""
    order = np.arange(count, dtype=_choose_kind(count))
    random.shuffle(order)
    return order


def find_rows(chosen: np.ndarray) -> np.ndarray:
    """Return the numbers of the rows that are chosen, (rows,) bool, ascending and as small as they can be.

    >>> find_rows(np.array([True, False, True]))
    array([0, 2], dtype=int32)
    """
    kind = _choose_kind(len(chosen))
    parts = range(0, len(chosen), PART)
    found = [(np.flatnonzero(chosen[start : start + PART]) + start).astype(kind) for start in parts]
    return np.concatenate([np.empty(0, kind), *found])


def _choose_kind(count: int) -> type[np.signedinteger[Any]]:
    return np.int32 if count < 2**31 else np.int64


def check_divisible(name: str, count: int, missing: Sequence[str], unit: str, units: str) -> None:
    """Raise a `CorpusError` if so few sequences cannot be divided."""
    if count <= len(missing):
        counted = f"{count} {unit if count == 1 else units}"
        raise CorpusError(f"{name} has {counted}, too few to be split into train, valid and test")


def check_max_length(max_length: int, step: str) -> None:
    """Raise a `ConfigError` for a length that leaves no step beside the end; `step` is what one is called."""
    if max_length < 2:
        raise ConfigError(f"max_length is {max_length}; it must be at least 2, a {step} and the end")


def describe_truncated(name: str, split: Split, max_length: int, steps: str) -> list[str]:
    """Return a note that some sequences of the split were truncated, if any were; `steps` is what their steps are."""
    if not (count := int((~split.complete).sum())):
        return []
    return [f"{count:,} {name} {split.unit if count == 1 else split.units} truncated at {max_length} {steps}"]
