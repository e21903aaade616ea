"""Spacing: between which pieces of a text no space is written, learnt from the training sentences.

A corpus is written in one way: `Well, it's (almost) done!` by people, `Well , it 's ( almost ) done !` by a treebank,
`我去了，很好。` in Chinese. For each pair of neighbours of which one at least is a mark, the majority decides; words
count as one kind, and so do numbers, so that a few dozen pairs suffice, but for words with a habit of their own, as
`mr.` of a treebank has. A sentence that departs from the habits of its corpus comes back in them.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from operator import or_

from tokenizers import Regex, decoders

WORD, NUMBER = r"\w", r"\d"
UNKNOWN_NAME = "<unk>"  # stands for a word more often than for a mark
QUOTES = "\"'*"  # marks that look alike at both ends of what they enclose
OPENING = "(?#opening)"
PAIRS = 1000  # that are kept, at most, and as many with single words: the most frequent ones
OFTEN = 3  # times that a word is next to a mark before it has a habit of its own

Pair = tuple[str, str]  # of kinds: WORD, NUMBER, a mark or a single word, each as a regular expression

_STORED = re.compile(r"\(\?<=(.+)\) \(\?=(.+)\)", re.DOTALL)
_JOINED = [{"type": "WordPiece", "prefix": "## ", "cleanup": False}, {"type": "Fuse"}]  # pieces, a space between each


class Spacing:
    """Where a text of pieces has no space.

    >>> spacing = Spacing.learn([[["well", ","], ["(", "yes", ")"], ["no", "."]]], {",", "(", ")", "."})
    >>> spacing.find_joined(["(", "no", ")", ",", "yes", "."])
    [False, True, True, True, False, True]
    """

    def __init__(self, habits: dict[Pair, bool]) -> None:
        """Take the pairs that have a habit of their own: true where no space is between the two."""
        self.habits = habits
        self._kinds: dict[str, Pair] = {}
        self._looked_up: dict[Pair, bool] = {}
        self._single = {kind for pair in habits for kind in pair if _generalize_kind(kind, 0) != kind}

    @classmethod
    def learn(cls, sentences: Iterable[Sequence[Sequence[str]]], known: Iterable[str]) -> "Spacing":
        """Learn how sentences are written from the counts of pairs of their pieces.

        Args:
            sentences: each as what is between its spaces, split into pieces.
            known: the pieces of the vocabulary; nothing is learnt of others.
        """
        together, apart = cls({})._count(sentences, {*known} - {UNKNOWN_NAME})
        spacing, seen = cls({}), together + apart
        general = Counter({pair: number for pair, number in seen.items() if _generalize(pair) == pair})
        single = Counter({pair: n for pair, n in seen.items() if n >= OFTEN and pair not in general})
        # From the general to the single: a pair is kept only where those before it would decide otherwise.
        kept = sorted((pair for pair, _ in general.most_common(PAIRS)), key=lambda p: (WORD not in p, NUMBER not in p))
        for pair in [*kept, *(pair for pair, _ in single.most_common())]:
            joined = together[pair] > apart[pair]
            if joined != spacing._is_joined(*pair) and len(spacing.habits) < 2 * PAIRS:
                spacing.habits[pair] = joined
        return cls(spacing.habits)

    def _count(self, sentences: Iterable[Sequence[Sequence[str]]], known: set[str]) -> tuple[Counter[Pair], ...]:
        """Return how often each pair is written without a space, and with one."""
        counts: tuple[Counter[Pair], Counter[Pair]] = Counter(), Counter()
        for sentence in sentences:
            pieces = [piece for part in sentence for piece in part]
            first = [place == 0 for part in sentence for place in range(len(part))]
            kinds = self._find_kinds(pieces)
            for place in range(1, len(pieces)):
                left, right = kinds[place - 1][1], kinds[place][0]
                words = left in (WORD, NUMBER), right in (WORD, NUMBER)
                familiar = pieces[place - 1] in known, pieces[place] in known
                if all(words) or not all(map(or_, words, familiar)):  # no mark, or an unknown one
                    continue
                counts[first[place]][left, right] += 1
                if any(words) and all(familiar):
                    word = _escape(pieces[place - words[0]])
                    counts[first[place]][(word, right) if words[0] else (left, word)] += 1
        return counts

    def find_joined(self, pieces: Sequence[str]) -> list[bool]:
        """Return for each piece whether it is joined to the one before it, without a space; false for the first."""
        if not pieces:
            return []
        kinds, known, found = self._find_kinds(pieces), self._looked_up, [False]
        for (_, left), (right, _) in pairwise(kinds):
            joined = known.get((left, right))
            if joined is None:
                joined = known[left, right] = self._is_joined(left, right)
            found.append(joined)
        return found

    def _is_joined(self, left: str, right: str) -> bool:
        found = self.habits.get((left, right))
        if found is not None:
            return found
        general = _generalize((left, right))
        if general != (left, right):
            return self._is_joined(*general)
        if NUMBER in general:  # as words, unless numbers have habits of their own
            return self._is_joined(*(WORD if kind == NUMBER else kind for kind in general))
        if WORD in general:
            return False
        return self.habits.get((WORD, right), False) or self.habits.get((left, WORD), False)

    def _find_kinds(self, pieces: Sequence[str]) -> list[Pair]:
        """Return the kind of each piece seen from the left, and seen from the right."""
        kinds = [self._kinds.get(piece) or self._find_kind(piece) for piece in pieces]
        for quote in QUOTES:
            if quote in pieces:
                places = [place for place, piece in enumerate(pieces) if piece == quote]
                # In turn they open and close; where one is missing, it is as often the first as the last.
                for place in places[::2] if places[0] == 0 else places[-2::-2]:
                    kinds[place] = (re.escape(quote) + OPENING,) * 2
        return kinds

    def _find_kind(self, piece: str) -> Pair:
        kind = WORD if piece == UNKNOWN_NAME else re.escape(piece)
        single = kind in self._single
        self._kinds[piece] = (kind, kind) if single else (_generalize_kind(kind, 0), _generalize_kind(kind, -1))
        return self._kinds[piece]

    def to_decoder(self) -> decoders.Decoder:
        """Return the decoder of a tokenizer.json, which holds the habits and has `tokenizers` follow most of them."""
        steps = [
            decoders.Replace(Regex(f"(?<={left}) (?={right})"), "" if joined else " ")
            for (left, right), joined in self.habits.items()
        ]
        return decoders.Sequence([decoders.WordPiece(prefix="## ", cleanup=False), decoders.Fuse(), *steps])

    @classmethod
    def from_decoder(cls, stored: dict | None) -> "Spacing":
        """Return the spacing of the JSON of a decoder that `to_decoder` made.

        Raises:
            ValueError: for another decoder.
        """
        steps = (stored or {}).get("decoders", [])
        if steps[:2] != _JOINED:
            raise ValueError("its decoder is none of ours")
        habits = {}
        for step in steps[2:]:
            found = _STORED.fullmatch(step["pattern"]["Regex"])
            if step["type"] != "Replace" or step["content"] not in ("", " ") or found is None:
                raise ValueError("its decoder is none of ours")
            habits[found[1], found[2]] = not step["content"]
        return cls(habits)


_escape = lru_cache(None)(re.escape)


def _generalize_kind(kind: str, end: int) -> str:
    """Return WORD or NUMBER for a single word, seen from the side of its first (0) or last (-1) letter."""
    if kind in (WORD, NUMBER) or (kind[0] != "_" and unicodedata.category(kind[0])[0] not in "LNM"):
        return kind
    return NUMBER if unicodedata.category(kind[end]) == "Nd" else WORD


def _generalize(pair: Pair) -> Pair:
    return _generalize_kind(pair[0], -1), _generalize_kind(pair[1], 0)
