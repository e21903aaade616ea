"""What a model generates, for people to read: samples from the prior, reconstructions, and walks between two items.

Everything follows from a seed. Held-out items are chosen by it and by their length, never by what the model makes of
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from seqvae.auto import AnyVAE
from seqvae.data.series.corpus import SeriesSplit
from seqvae.data.text.corpus import TextSplit
from seqvae.data.text.unknown import silence_unknown

SAMPLES, RECONSTRUCTIONS, WALKS, STEPS = 10, 5, 2, 7
SHORTEST, LONGEST = 3, 8  # words of the sentences that are shown, where there are enough of such
CANDIDATES = 200  # items that those without <unk> and without repetitions are chosen from


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A held-out item and what comes back from its posterior mean."""

    original: Any
    result: Any

    @property
    def exact(self) -> bool:
        """Whether a sentence came back word for word; never of series."""
        return is_same(self.original, self.result)


@dataclass(frozen=True, eq=False)
class Walk:
    """An interpolation between two held-out items.

    Attributes:
        start: the first item.
        end: the last one.
        label: of the whole walk; None for a model without labels.
        steps: what is decoded from the points in turn, each with the number of times that it comes in a row.
    """

    start: Any
    end: Any
    label: str | None
    steps: list[tuple[Any, int]]


@dataclass(frozen=True, eq=False)
class Examples:
    """What a model generates, for people to read.

    Attributes:
        samples: from the prior, each with its label; None where the model has none.
        options: those that they were generated with.
        reconstructions: of held-out items.
        walks: between held-out items.
    """

    samples: list[tuple[str | None, Any]]
    options: dict[str, Any]
    reconstructions: list[Reconstruction] = field(default_factory=list)
    walks: list[Walk] = field(default_factory=list)

    @property
    def drawn(self) -> bool:
        """Whether the items are series, which are drawn where sentences are written."""
        return any(isinstance(item, np.ndarray) for _, item in self.samples)


def make_examples(model: AnyVAE, split: TextSplit | SeriesSplit | None, *, seed: int = 0) -> Examples:
    """Generate samples, and reconstructions and walks where there is a latent space and a held-out split.

    Args:
        model: a language model has samples only.
        split: held-out items, or None.
        seed: of the samples and of the choice of items; the global random state is not changed.
    """
    vae: Any = model
    options = choose_options(vae)
    samples = draw_samples(vae, SAMPLES, options, seed=seed)
    if not model.model.latent or split is None:
        return Examples(samples, options)
    rows = choose_rows(model, split, RECONSTRUCTIONS + 2 * WALKS, seed)
    items, labels = read_items(model, split, rows), vae.read_labels(split.select(rows))
    with silence_unknown():
        first = items[:RECONSTRUCTIONS]
        again = vae.reconstruct(first, labels=None if labels is None else labels[:RECONSTRUCTIONS])
        walks = [make_walk(vae, items, labels, *ends) for ends in pair_ends(len(items))]
    return Examples(samples, options, [Reconstruction(*pair) for pair in zip(first, again, strict=True)], walks)


def choose_options(model: AnyVAE) -> dict[str, Any]:
    """Return the options of `sample` that examples are generated with: the model's own, else those recommended."""
    return model.generation_config or model.recommend_sampling()


def draw_samples(model: Any, number: int, options: dict[str, Any], *, seed: int) -> list[tuple[str | None, Any]]:
    """Sample `number` items from the prior; with labels about as many in all, the most frequent labels first.

    `seqvae sample` generates the same ones with these options and this seed, where there are no labels.
    """
    if not model.labels:
        return [(None, item) for item in model.sample(number, seed=seed, **options)]
    shown = sorted(model.labels, key=model.checkpoint.labels.__getitem__, reverse=True)[:number]
    labels = [label for label in shown for _ in range(number // len(shown))]
    return list(zip(labels, model.sample(len(labels), label=labels, seed=seed, **options), strict=True))


def choose_rows(model: AnyVAE, split: Any, count: int, seed: int) -> list[int]:
    """Choose `count` places of a split by the seed, without repeats: short sentences without `<unk>` if possible.

    Fewer where the split has fewer different items.
    """
    order = np.random.default_rng(seed).permutation(len(split))
    if isinstance(split, TextSplit) and split.spaced:
        words = split.words[order]
        short = order[(words >= SHORTEST) & (words <= LONGEST)]
        order = short if len(short) >= count else order
    _, first = np.unique(split.keys[order], return_index=True)
    candidates = order[np.sort(first)[:CANDIDATES]].tolist()
    items = read_items(model, split, candidates)
    known = [
        row for row, item in zip(candidates, items, strict=True) if not (isinstance(item, str) and "<unk>" in item)
    ]
    return (known if len(known) >= count else candidates)[:count]


def read_items(model: AnyVAE, split: Any, rows: Sequence[int]) -> list[Any]:
    """Return items of a split: sentences as the model would write them, or series."""
    if isinstance(split, TextSplit):
        tokenizer = model.checkpoint.tokenizer
        assert tokenizer is not None
        return list(tokenizer.decode_batch(split.sequences(rows)))
    return list(split.series(rows))


def pair_ends(count: int) -> list[tuple[int, int]]:
    """Return the ends of the walks as places among `count` items, not those that are reconstructed if there are enough.

    >>> pair_ends(9), pair_ends(3), pair_ends(1)
    ([(5, 6), (7, 8)], [(0, 1)], [])
    """
    first = RECONSTRUCTIONS if count >= RECONSTRUCTIONS + 2 * WALKS else 0
    ends = range(first, min(count, first + 2 * WALKS))
    return [(start, end) for start, end in pairwise(ends) if (start - first) % 2 == 0]


def make_walk(model: Any, items: Sequence[Any], labels: Sequence[str] | None, start: int, end: int) -> Walk:
    """Interpolate between two items, with the label of the first for all of the way."""
    label = None if labels is None else labels[start]
    decoded = model.interpolate(items[start], items[end], label=label, steps=STEPS)
    return Walk(items[start], items[end], label, count_repeats(decoded))


def count_repeats(items: Sequence[Any]) -> list[tuple[Any, int]]:
    """Join equal sentences in a row, each with its number of times; series are never equal.

    >>> count_repeats(["a", "a", "b", "a"])
    [('a', 2), ('b', 1), ('a', 1)]
    """
    joined: list[tuple[Any, int]] = []
    for item in items:
        if joined and is_same(joined[-1][0], item):
            joined[-1] = (item, joined[-1][1] + 1)
        else:
            joined.append((item, 1))
    return joined


def is_same(one: Any, other: Any) -> bool:
    """Tell whether two sentences are equal word for word."""
    return isinstance(one, str) and isinstance(other, str) and one.split() == other.split()


def format_options(options: dict[str, Any]) -> str:
    """Write options of `sample` as those of `seqvae sample`, without those that are off.

    >>> format_options({"temperature": 0.5, "min_p": 0.1, "top_k": 0})
    '--temperature 0.5 --min-p 0.1'
    """
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items() if value)
