"""Patterns: what a sequence of ids has to look like, slot after slot, and what must or must not be in it.

A search that follows a pattern generates nothing else: the words of a prefix, the known words around a blank, at least
the required ones, none of the banned ones, no n-gram twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seqvae.data.batch import END, PADDING, START, UNKNOWN
from seqvae.errors import ConfigError, check_whole


@dataclass(frozen=True)
class Slot:
    """One place of a pattern, filled by one id or by several in a row.

    Attributes:
        first: (V,) bool, the ids that it can begin with.
        more: (V,) bool, the ids that it can go on with; None for a slot of exactly one id.
        optional: whether it can be left out.
    """

    first: Tensor
    more: Tensor | None = None
    optional: bool = False


@dataclass(frozen=True)
class Rules:
    """What a sequence must and must not contain.

    Attributes:
        banned: sequences of ids that never occur.
        required: sequences of ids that all occur.
        no_repeat: no n-gram of this many ids occurs twice; 0 allows all.
    """

    banned: Sequence[Sequence[int]] = ()
    required: Sequence[Sequence[int]] = ()
    no_repeat: int = 0

    def __post_init__(self) -> None:
        check_whole(0, no_repeat=self.no_repeat)
        if any(not ids for ids in (*self.banned, *self.required)):
            raise ConfigError("a banned or required word is empty: expected words of the vocabulary")

    @property
    def restricts(self) -> bool:
        """Whether any id is forbidden anywhere."""
        return bool(self.banned or self.no_repeat)

    def forbid(self, generated: Sequence[int]) -> list[int]:
        """Return the ids that must not follow those generated so far.

        >>> Rules(banned=[[5], [6, 7]], no_repeat=2).forbid([6, 8, 6])
        [5, 7, 8]
        """
        found = [ids[-1] for ids in self.banned if ends_with(generated, ids[:-1])]
        if 0 < (n := self.no_repeat) <= len(generated):
            recent = list(generated[len(generated) - n + 1 :])
            places = range(len(generated) - n + 1)
            found += [generated[i + n - 1] for i in places if list(generated[i : i + n - 1]) == recent]
        return found

    def measure_progress(self, generated: Sequence[int]) -> tuple[int, list[int]]:
        """Count the required ids generated so far, and return those that would be the next ones of a sequence.

        >>> Rules(required=[[5, 6], [7]]).measure_progress([9, 5])
        (1, [6, 7])
        """
        done, following = 0, []
        for ids in self.required:
            if contains(generated, ids):
                done += len(ids)
                continue
            matched = next(n for n in range(len(ids) - 1, -1, -1) if ends_with(generated, ids[:n]))
            done += matched
            following.append(ids[matched])
        return done, following

    @property
    def needed(self) -> int:
        """The number of required ids."""
        return sum(map(len, self.required))


def ends_with(sequence: Sequence[int], end: Sequence[int]) -> bool:
    """Tell whether a sequence ends with another; each ends with the empty one."""
    return len(end) <= len(sequence) and list(sequence[len(sequence) - len(end) :]) == list(end)


def contains(sequence: Sequence[int], part: Sequence[int]) -> bool:
    """Tell whether the ids of `part` follow one another somewhere in a sequence."""
    places = range(len(sequence) - len(part) + 1)
    return any(list(sequence[i : i + len(part)]) == list(part) for i in places)


@dataclass(frozen=True)
class Pattern:
    """Slots in a row, then EOS; a hypothesis is at the slot that its last id belongs to, before the first at -1."""

    slots: Sequence[Slot]
    least: list[int] = field(init=False)
    ending: Tensor = field(init=False)

    def __post_init__(self) -> None:
        if not self.slots:
            raise ConfigError("the pattern of a sentence is empty: expected one word or more")
        rest = [1]  # EOS
        for slot in reversed(self.slots):
            rest.append(rest[-1] + (not slot.optional))
        object.__setattr__(self, "least", rest[::-1])
        object.__setattr__(self, "ending", torch.arange(len(self.slots[0].first)) == END)

    @property
    def end(self) -> int:
        """The place after the last slot: that of EOS."""
        return len(self.slots)

    @property
    def spread(self) -> int:
        """The number of slots that hypotheses of one length can be at: 1 up to the first one of several ids."""
        loose = [place for place, slot in enumerate(self.slots) if slot.more is not None or slot.optional]
        return self.end - loose[0] if loose else 1

    def list_moves(self, place: int, room: int) -> list[tuple[Tensor, int]]:
        """Return what can come next: masks (V,) of ids, and the place that each of them leads to.

        Args:
            place: of the hypothesis.
            room: ids that there is still room for, EOS included; moves after which the rest would not fit are left out.
        """
        found = []
        more = self.slots[place].more if 0 <= place < self.end else None
        if more is not None and 1 + self.least[place + 1] <= room:
            found.append((more, place))
        for following in range(place + 1, self.end):
            if 1 + self.least[following + 1] <= room:
                found.append((self.slots[following].first, following))
            if not self.slots[following].optional:
                return found
        return [*found, (self.ending, self.end)]


def allow_words(vocabulary: int, allow_unknown: bool = False) -> Tensor:
    """Return (V,) bool: all ids that a sentence can have inside it."""
    mask = torch.ones(vocabulary, dtype=torch.bool)
    mask[[PADDING, START, END] if allow_unknown else [PADDING, START, END, UNKNOWN]] = False
    return mask


def begin_with(prefix: Sequence[int], words: Tensor) -> Pattern:
    """Make the pattern of sentences that begin with the ids of `prefix`, and go on with any `words` (V,) or none."""
    return Pattern([*(fix(id, len(words)) for id in prefix), Slot(words, words, optional=True)])


def fix(id: int, vocabulary: int) -> Slot:
    """Make the slot of one given id."""
    return Slot(torch.arange(vocabulary) == id)
