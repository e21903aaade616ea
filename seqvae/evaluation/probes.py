"""Linear probes: how well a label or a number can be predicted from the posterior means, beside two baselines.

A linear classifier sees what lies open in z; what only a deeper one could find does not count. The bag of words says
how easy the label is from the text itself.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seqvae.data.batch import END
from seqvae.errors import ConfigError
from seqvae.evaluation.metrics import standard_error
from seqvae.evaluation.scores import score
from seqvae.model.frame_decoding import Unrolled

SENTENCES = 5_000  # that one probe uses, at most
CLASSES = 100
WORDS = 2_000  # that the bag of words counts, at most
L2 = (1.0, 10.0, 100.0, 1000.0)
FOLDS = 5
SPARSE = 0.1  # a table of which a smaller share is not zero is multiplied as a sparse one


_score = partial(score, section="probes")


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How well one label is predicted, each accuracy from the same folds of the same sentences."""

    label: str = _score("name of the label")
    classes: int = _score("how many values it has among these sentences")
    sentences: int = _score(f"sentences that were predicted, each once while held out ({SENTENCES} at most)")
    unlabelled: int = _score("sentences left out because they have no label")
    accuracy: float = _score("share predicted right by multinomial logistic regression from the posterior means")
    standard_error: float = _score("standard error of accuracy over the sentences, binomial")
    majority: float = _score("share predicted right by the most frequent label of the training folds")
    bag_of_words: float = _score(f"accuracy of the same regression from counts of the {WORDS} most frequent words")


def probes(
    means: Tensor,
    sequences: Sequence[Sequence[int]],
    columns: Mapping[str, Sequence[Any]],
    *,
    folds: int = FOLDS,
    seed: int = 0,
) -> list[Probe]:
    """Probe the posterior means for each column of labels.

    Args:
        means: (N, D), the posterior mean of each sentence.
        sequences: N sequences of ids; equal ones always share a fold, so that no sentence is learnt by heart.
        columns: the name of each label -> its N values, None or empty where there is none.
        folds: of the cross-validation.
        seed: of the folds, and of the choice of sentences where there are too many.

    Raises:
        ConfigError: if a column has not N rows, fewer than 2 classes, or more than 100 or half as many as sentences.

    Source: Alain & Bengio, Understanding intermediate layers using linear classifier probes, 2016, arXiv:1610.01644;
    Conneau et al., What you can cram into a single vector: Probing sentence embeddings for linguistic properties, 2018,
    arXiv:1805.01070 (bag-of-words and majority baselines).
    """
    return [_column(name, values, means, sequences, folds, seed) for name, values in columns.items()]


def _column(
    name: str, values: Sequence[Any], means: Tensor, sequences: Sequence[Sequence[int]], folds: int, seed: int
) -> Probe:
    if not len(values) == len(means) == len(sequences):
        raise ConfigError(f"label {name!r} has {len(values)} rows: expected {len(sequences)}, one for each sentence")
    labelled = _labelled(values)
    order = torch.randperm(len(labelled), generator=torch.Generator().manual_seed(seed))[:SENTENCES].tolist()
    rows = sorted(labelled[place] for place in order)
    classes = check(name, [values[row] for row in rows])
    labels = [str(values[row]).strip() for row in rows]
    kept = [sequences[row] for row in rows]
    groups = [tuple(sequence) for sequence in kept]
    options: dict[str, Any] = {"groups": groups, "folds": min(folds, len(set(groups))), "seed": seed}
    accuracy = probe(means[rows], labels, **options)
    return Probe(
        label=name,
        classes=classes,
        sentences=len(rows),
        unlabelled=len(values) - len(labelled),
        accuracy=accuracy,
        standard_error=math.sqrt(accuracy * (1 - accuracy) / len(rows)),
        majority=majority(labels, **options),
        bag_of_words=probe(bag_of_words(kept), labels, **options),
    )


def check(name: str, values: Sequence[Any]) -> int:
    """The number of classes of a column of labels, if a probe can tell them apart; quick, to be asked before any work.

    Raises:
        ConfigError: for fewer than 2 classes, or more than 100 or half as many as labelled sentences.
    """
    rows = _labelled(values)
    classes = len({str(values[row]).strip() for row in rows})
    if not 2 <= classes <= min(CLASSES, len(rows) // 2):
        remedy = "merge its values into fewer" if classes > 1 else "choose sentences that differ in it"
        raise ConfigError(
            f"label {name!r} has {classes} different values in {len(rows)} sentences: expected 2 to {CLASSES}, "
            f"and no more than half the sentences; leave it out, or {remedy}"
        )
    return classes


def _labelled(values: Sequence[Any]) -> list[int]:
    """The rows that have a label."""
    return [row for row, value in enumerate(values) if value is not None and str(value).strip()]


def probe(
    features: Tensor,
    labels: Sequence[str],
    groups: Sequence[Hashable] | None = None,
    *,
    folds: int = FOLDS,
    l2: Sequence[float] = L2,
    seed: int = 0,
) -> float:
    """Accuracy of multinomial logistic regression on held-out rows, each of which is predicted once.

    Minimizes sum_n -log softmax(W f_n + b)[label_n] + l2/2 |W|^2, convex, f standardized by the training rows. One
    fixed l2 would favour one kind of features, as 32 means bear a small one and 2,000 counts of words need a large one;
    so each fold chooses its own by the likelihood of the next fold, a part of its training rows, and is then fitted to
    all of these.

    Args:
        features: (N, F).
        labels: N of them.
        groups: N keys; rows with the same key are always in the same fold. None: each row for itself.
        folds: of the cross-validation.
        l2: what there is to choose from; a single one is taken as it is.
        seed: of the folds.

    Returns:
        the share of rows predicted right, between 0 and 1.

    Raises:
        ConfigError: if there are fewer groups than folds, or fewer than 3 folds.

    >>> probe(torch.tensor([[-1.0], [1.0]]).repeat(30, 1), ["no", "yes"] * 30)
    1.0
    """
    target, fold = _numbers(labels), assign(len(labels), groups, folds=folds, seed=seed)
    right = 0
    for held in range(folds):
        test, check = fold == held, fold == (held + 1) % folds
        chosen = l2[0]
        if len(l2) > 1:
            judged = _judge(features, target, ~test & ~check, check, l2)
            chosen = max(zip(judged, l2, strict=True))[1]
        right += _judge(features, target, ~test, test, [chosen])[0][1]
    return right / len(labels)


def majority(
    labels: Sequence[str], groups: Sequence[Hashable] | None = None, *, folds: int = FOLDS, seed: int = 0
) -> float:
    """Accuracy on held-out rows of always saying the most frequent label of the others, from the folds of `probe`.

    Of labels that are about equally frequent, the one that leads among the others is rarer in the fold itself, and the
    result is somewhat below the share of either: as it is for any probe that finds nothing.

    >>> majority(["yes"] * 8 + ["no"] * 2)
    0.8
    """
    target, fold = _numbers(labels), assign(len(labels), groups, folds=folds, seed=seed)
    guesses = torch.stack([target[fold != held].bincount().argmax() for held in range(folds)])
    return float((guesses[fold] == target).double().mean())


def bag_of_words(sequences: Sequence[Sequence[int]], *, words: int = WORDS) -> Tensor:
    """How often each word occurs: of those in two sentences or more, the `words` that are in the most.

    Args:
        sequences: N sequences of ids; their end does not count.
        words: W, at most.

    Returns:
        (N, W) float32, columns in the order of the ids.

    >>> bag_of_words([[7, 8, END], [9, 8, 8, END]])
    tensor([[1.],
            [2.]])
    """
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    ids = torch.tensor(list(chain.from_iterable(sequences)), dtype=torch.long)
    rows = torch.arange(len(sequences)).repeat_interleave(lengths)[ids != END]
    ids = ids[ids != END]
    spread = torch.stack([rows, ids]).unique(dim=1)[1].bincount()  # the sentences that each id occurs in
    kept = spread.sort(descending=True, stable=True).indices[: min(words, int((spread > 1).sum()))].sort().values
    column = torch.full((len(spread),), -1).index_put((kept,), torch.arange(len(kept)))[ids]
    rows, column = rows[column >= 0], column[column >= 0]
    return torch.zeros(len(sequences), len(kept)).index_put((rows, column), torch.ones(len(rows)), accumulate=True)


def assign(count: int, groups: Sequence[Hashable] | None = None, *, folds: int = FOLDS, seed: int = 0) -> Tensor:
    """(N,) the fold of each row: the groups in a random order, cut where each fold has about its share of the rows.

    Raises:
        ConfigError: if there are fewer groups than folds, or fewer than 3 folds (train, choose, test).
    """
    numbers = {group: number for number, group in enumerate(dict.fromkeys(range(count) if groups is None else groups))}
    if not 3 <= folds <= len(numbers):
        raise ConfigError(f"folds = {folds}: expected 3 to {len(numbers)}, the number of different sentences")
    member = torch.arange(count) if groups is None else torch.tensor([numbers[group] for group in groups])
    order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(seed))
    sizes = member.bincount()[order]
    middle = sizes.cumsum(0) - (sizes + 1) // 2
    return torch.empty_like(order).index_put((order,), middle * folds // count)[member]


def _numbers(labels: Sequence[str]) -> Tensor:
    """(N,) int64, each label as its place among the sorted ones."""
    place = {label: number for number, label in enumerate(sorted(set(labels)))}
    return torch.tensor([place[label] for label in labels])


def _judge(
    features: Tensor, target: Tensor, train: Tensor, test: Tensor, l2: Sequence[float]
) -> list[tuple[float, int]]:
    """For each `l2`, the log-likelihood of the rows of `test`, nats, and how many a fit to `train` predicts right."""
    spread, mean = torch.std_mean(features[train], dim=0)
    spread = torch.where(spread > 1e-6, spread, torch.inf)  # what never varies says nothing
    x, shift = features[train] / spread, mean / spread
    if (x != 0).double().mean() < SPARSE:
        x = x.to_sparse()
    fits = [_fit(x, shift, target[train], int(target.max()) + 1, strength) for strength in l2]
    scaled, truth = features[test] / spread - shift, target[test]
    logits = [scaled @ weights + bias for weights, bias in fits]
    return [
        (-float(F.cross_entropy(one, truth, reduction="sum")), int((one.argmax(1) == truth).sum())) for one in logits
    ]


def _fit(x: Tensor, shift: Tensor, target: Tensor, classes: int, l2: float) -> tuple[Tensor, Tensor]:
    """The weights (F, C) and biases (C,) of the regression on x - shift, x itself being perhaps sparse."""
    weights, bias, count = shift.new_zeros(len(shift), classes), shift.new_zeros(classes), len(target)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=50, tolerance_change=1e-6, line_search_fn="strong_wolfe")
    truth, across = F.one_hot(target, classes).to(shift), x.t()
    across = across.coalesce() if x.is_sparse else across

    def loss() -> Tensor:
        log_prob = (x @ weights + (bias - shift @ weights)).log_softmax(1)
        slope = (log_prob.exp() - truth) / count  # by hand: autograd would transpose a sparse x at each step
        bias.grad = slope.sum(0)
        weights.grad = across @ slope - torch.outer(shift, bias.grad) + l2 / count * weights
        return l2 / (2 * count) * weights.square().sum() - (truth * log_prob).sum() / count

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights, bias


_tracked = partial(score, section="reconstructions from posterior means")


@dataclass(frozen=True, kw_only=True)
class SeriesScores:
    """What becomes of series that go through the posterior mean and back, without noise."""

    series: int = _tracked("number of series reconstructed")
    r2: float = _tracked(
        "1 - squared error / squared distance from the mean of each channel, over all frames, each channel in its own "
        "standard deviations; the decoder sees z alone, no frame of the original, and goes on for as many frames"
    )
    r2_median: float = _tracked("the same for each series by itself, median over the series")
    length_error: float = _tracked("mean |frames of the reconstruction that ends by itself - frames of the original|")
    length_error_standard_error: float = _tracked("standard error of length_error over the series")


def track(
    originals: Sequence[np.ndarray], forced: Unrolled, free: Unrolled, mean: np.ndarray, std: np.ndarray
) -> SeriesScores:
    """Compare series with their reconstructions.

    Args:
        originals: N arrays (frames, F).
        forced: their reconstructions, of as many frames each.
        free: those that ended by themselves.
        mean: (F,) of the training frames.
        std: (F,) likewise.
    """
    pairs = zip(originals, forced.series, strict=True)
    errors = np.array([(((x - y) / std) ** 2).sum() for x, y in pairs])
    spreads = np.array([(((x - mean) / std) ** 2).sum() for x in originals])
    off = torch.tensor([abs(len(x) - len(y)) for x, y in zip(originals, free.series, strict=True)]).double()
    return SeriesScores(
        series=len(originals),
        r2=float(1 - errors.sum() / spreads.sum()),
        r2_median=float(np.median(1 - errors / np.maximum(spreads, 1e-12))),
        length_error=float(off.mean()),
        length_error_standard_error=standard_error(off),
    )


def linear_r2(means: Tensor, values: Sequence[float], *, folds: int = 5, ridge: float = 1e-3, seed: int = 0) -> float:
    """Cross-validated R^2 of a factor by ridge regression from the posterior means.

    1 - sum (y - y')^2 / sum (y - mean of the training folds)^2, each series predicted once while held out; 0 or below
    where the means say nothing of it.

    Args:
        means: (N, D).
        values: N numbers.
        folds: of the cross-validation.
        ridge: added to the covariance of the standardized means.
        seed: of the folds.

    >>> z = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    >>> round(linear_r2(z, (3 * z[:, 0] - z[:, 1] + 5).tolist()), 3)
    1.0
    """
    x, y = means.double(), torch.tensor(list(values), dtype=torch.float64)
    fold = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)) * folds // len(x)
    wrong = total = 0.0
    for held in range(folds):
        train, test = fold != held, fold == held
        spread, middle = torch.std_mean(x[train], dim=0)
        f, g = ((x[part] - middle) / spread.clamp(min=1e-12) for part in (train, test))
        base = y[train].mean()
        gram = f.T @ f / len(f) + ridge * torch.eye(f.shape[1], dtype=torch.float64)
        weights = torch.linalg.solve(gram, f.T @ (y[train] - base) / len(f))
        wrong += float(((y[test] - base - g @ weights) ** 2).sum())
        total += float(((y[test] - base) ** 2).sum())
    return 1 - wrong / total if total else 0.0
