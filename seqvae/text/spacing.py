"""Spacing: between which pieces of a text no space is written, learnt from the sentences of the training.

A corpus is written in one way: `Well, it's (almost) done!` by people, `Well , it 's ( almost ) done !` by a treebank,
`我去了，很好。` in Chinese. For each pair of neighbours of which one at least is a mark, the majority decides; words
count as one kind, and so do numbers, so that a few dozen pairs say it all. A sentence that departs from the habit of
its corpus comes back in that habit.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import compress, pairwise

from tokenizers import Regex, decoders

WORD, NUMBER = r"\w", r"\d"
UNKNOWN_NAME = "<unk>"  # stands for a word more often than for a mark
QUOTES = "\"'*"  # marks that look alike at both ends of what they enclose
OPENING = "(?#opening)"
PAIRS = 1000  # that are kept, at most: the most frequent ones

Pair = tuple[str, str]  # of kinds: WORD, NUMBER, or a mark as a regular expression

_STORED = re.compile(r"\(\?<=(.+)\) \(\?=(.+)\)", re.DOTALL)
_JOINED = [{"type": "WordPiece", "prefix": "## ", "cleanup": False}, {"type": "Fuse"}]  # pieces, a space between each


class Spacing:
    """Where a text of pieces has no space.

    >>> spacing = Spacing.learn([[["well", ","], ["(", "yes", ")"], ["no", "."]]], {",", "(", ")", "."})
    >>> spacing.near(["(", "no", ")", ",", "yes", "."])
    [False, True, True, True, False, True]
    """

    def __init__(self, habits: dict[Pair, bool]) -> None:
        """Take the pairs that have a habit of their own: true where no space stands between the two."""
        self.habits = habits
        self._kinds: dict[str, Pair] = {}
        self._looked_up: dict[Pair, bool] = {}

    @classmethod
    def learn(cls, sentences: Iterable[Sequence[Sequence[str]]], known: Iterable[str]) -> "Spacing":
        """Count how the sentences are written.

        Args:
            sentences: each as what stands between its spaces, cut into pieces.
            known: the pieces of the vocabulary; nothing is learnt of others.
        """
        votes: Counter[Pair] = Counter()
        seen: Counter[Pair] = Counter()
        spacing, known = cls({}), {*known, UNKNOWN_NAME}
        for sentence in sentences:
            pieces = [piece for part in sentence for piece in part]
            near = [place > 0 for part in sentence for place in range(len(part))]
            kinds = spacing._sides(pieces)
            for place in range(1, len(pieces)):
                pair = left, right = kinds[place - 1][1], kinds[place][0]
                marks = not _word(left), not _word(right)
                if any(marks) and all(piece in known for piece in compress(pieces[place - 1 : place + 1], marks)):
                    votes[pair] += 1 if near[place] else -1
                    seen[pair] += 1
        # Those with words come first, since the others are kept only where these do not tell.
        for pair, _ in sorted(seen.most_common(PAIRS), key=lambda one: (-(WORD in one[0]), -(NUMBER in one[0]))):
            if (votes[pair] > 0) != spacing._tight(*pair):
                spacing.habits[pair] = votes[pair] > 0
        return spacing

    def near(self, pieces: Sequence[str]) -> list[bool]:
        """Whether each piece stands next to the one before it, with no space between them; false for the first."""
        if not pieces:
            return []
        kinds, known, found = self._sides(pieces), self._looked_up, [False]
        for (_, left), (right, _) in pairwise(kinds):
            tight = known.get((left, right))
            if tight is None:
                tight = known[left, right] = self._tight(left, right)
            found.append(tight)
        return found

    def _tight(self, left: str, right: str) -> bool:
        found = self.habits.get((left, right))
        if found is not None:
            return found
        if _word(left) and _word(right):
            return False
        if NUMBER in (left, right):  # as with words, unless numbers have habits of their own
            return self._tight(WORD if left == NUMBER else left, WORD if right == NUMBER else right)
        if WORD in (left, right):
            return False
        return self.habits.get((WORD, right), False) or self.habits.get((left, WORD), False)

    def _sides(self, pieces: Sequence[str]) -> list[Pair]:
        """What each piece is to its neighbours: its kind seen from the left, and seen from the right."""
        kinds = [self._kinds.get(piece) or self._kind(piece) for piece in pieces]
        for quote in QUOTES:
            if quote in pieces:
                places = [place for place, piece in enumerate(pieces) if piece == quote]
                # In turn they open and close; where one is missing, it is as often the first as the last.
                for place in places[::2] if places[0] == 0 else places[-2::-2]:
                    kinds[place] = (re.escape(quote) + OPENING,) * 2
        return kinds

    def _kind(self, piece: str) -> Pair:
        self._kinds[piece] = _kind(piece, piece[0]), _kind(piece, piece[-1])
        return self._kinds[piece]

    def decoder(self) -> decoders.Decoder:
        """The decoder of a tokenizer.json, which holds the habits and lets `tokenizers` itself follow most of them."""
        steps = [
            decoders.Replace(Regex(f"(?<={left}) (?={right})"), "" if tight else " ")
            for (left, right), tight in self.habits.items()
        ]
        return decoders.Sequence([decoders.WordPiece(prefix="## ", cleanup=False), decoders.Fuse(), *steps])

    @classmethod
    def of(cls, stored: dict | None) -> "Spacing":
        """The inverse of `decoder`, from JSON; a `ValueError` for another decoder."""
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


def _word(kind: str) -> bool:
    return kind in (WORD, NUMBER)


def _kind(piece: str, end: str) -> str:
    """The kind of a piece, seen from the side where `end` stands."""
    if piece != UNKNOWN_NAME and piece[0] != "_" and unicodedata.category(piece[0])[0] not in "LNM":
        return re.escape(piece)
    return NUMBER if unicodedata.category(end) == "Nd" else WORD
