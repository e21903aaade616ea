"""Linear probes: how well a label or a number can be predicted from the posterior means, beside two baselines.

A linear classifier sees what is linearly encoded in z; what only a deeper one could find does not count. The bag of
words tells how easy the label is from the text itself. Regression and folds are scikit-learn's, which is imported where
it is used, because its import takes a second.
"""

import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqvae.data.batch import END
from seqvae.errors import ConfigError
from seqvae.evaluation.metrics import standard_error
from seqvae.evaluation.scores import define_score
from seqvae.model.frame_decoding import GeneratedSeries

MAX_SENTENCES = 5_000  # that one probe uses
MAX_CLASSES = 100
MAX_WORDS = 2_000  # columns of the bag of words
L2 = (1.0, 10.0, 100.0, 1000.0)
FOLDS = 5

_probe_score = partial(define_score, section="probes")


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The accuracies with which one label is predicted, each from the same folds of the same sentences."""

    label: str = _probe_score("name of the label")
    classes: int = _probe_score("number of its values among these sentences")
    sentences: int = _probe_score(f"sentences predicted, each once while held out ({MAX_SENTENCES} at most)")
    unlabelled: int = _probe_score("sentences left out because they have no label")
    accuracy: float = _probe_score("accuracy of multinomial logistic regression from the posterior means")
    standard_error: float = _probe_score("standard error of accuracy over the sentences, binomial")
    majority: float = _probe_score("accuracy of the most frequent label of the training folds")
    bag_of_words: float = _probe_score(
        f"accuracy of the same regression from counts of the {MAX_WORDS} most frequent words"
    )


def probe_labels(
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
        sequences: N sequences of ids; equal ones always share a fold, so that no sentence can be memorized.
        columns: the name of each label -> its N values, None or empty where there is none.
        folds: of the cross-validation.
        seed: of the folds, and of the choice of sentences where there are too many.

    Raises:
        ConfigError: if a column has not N rows, fewer than 2 classes, or more than 100 or half as many as sentences.

    Source: Alain & Bengio, Understanding intermediate layers using linear classifier probes, 2016, arXiv:1610.01644;
    Conneau et al., What you can cram into a single vector: Probing sentence embeddings for linguistic properties, 2018,
    arXiv:1805.01070 (bag-of-words and majority baselines).
    """
    return [_probe_column(name, values, means, sequences, folds, seed) for name, values in columns.items()]


def _probe_column(
    name: str, values: Sequence[Any], means: Tensor, sequences: Sequence[Sequence[int]], folds: int, seed: int
) -> Probe:
    if not len(values) == len(means) == len(sequences):
        raise ConfigError(f"label {name!r} has {len(values)} rows: expected {len(sequences)}, one for each sentence")
    labelled = _find_labelled(values)
    order = torch.randperm(len(labelled), generator=torch.Generator().manual_seed(seed))[:MAX_SENTENCES].tolist()
    rows = sorted(labelled[number] for number in order)
    classes = check_label(name, [values[row] for row in rows])
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
        majority=predict_majority(labels, **options),
        bag_of_words=probe(count_words(kept), labels, **options),
    )


def check_label(name: str, values: Sequence[Any]) -> int:
    """Return the number of classes of a column of labels; quick, to be asked before any work.

    Raises:
        ConfigError: for fewer than 2 classes, or more than 100 or half as many as labelled sentences.
    """
    rows = _find_labelled(values)
    classes = len({str(values[row]).strip() for row in rows})
    if not 2 <= classes <= min(MAX_CLASSES, len(rows) // 2):
        remedy = "merge its values into fewer" if classes > 1 else "choose sentences that differ in it"
        raise ConfigError(
            f"label {name!r} has {classes} different values in {len(rows)} sentences: expected 2 to {MAX_CLASSES}, "
            f"and no more than half the sentences; leave it out, or {remedy}"
        )
    return classes


def _find_labelled(values: Sequence[Any]) -> list[int]:
    """Return the rows that have a label."""
    return [row for row, value in enumerate(values) if value is not None and str(value).strip()]


def probe(
    features: Any,
    labels: Sequence[str],
    groups: Sequence[Hashable] | None = None,
    *,
    folds: int = FOLDS,
    l2: Sequence[float] = L2,
    seed: int = 0,
) -> float:
    """Return the accuracy of multinomial logistic regression on held-out rows, each of which is predicted once.

    Minimizes sum_n -log softmax(W f_n + b)[label_n] + l2/2 |W|^2, f scaled to unit variance on the training rows. One
    fixed l2 would favour one kind of features, as 32 means need a small one and 2,000 counts of words a large one; so
    each fold chooses its own by the likelihood of the next fold, a part of its training rows, and is then fitted to all
    of these.

    Args:
        features: (N, F), a tensor or a sparse matrix.
        labels: N of them.
        groups: N keys; rows with the same key are always in the same fold. None: each row is a group of its own.
        folds: of the cross-validation.
        l2: the values to choose from; a single one is taken as it is.
        seed: of the folds.

    Returns:
        the fraction of rows predicted right, between 0 and 1.

    Raises:
        ConfigError: if there are fewer groups than folds, or fewer than 3 folds.

    >>> probe(torch.tensor([[-1.0], [1.0]]).repeat(30, 1), ["no", "yes"] * 30)
    1.0
    """
    x = features.detach().float().cpu().numpy() if isinstance(features, Tensor) else features
    target, fold = np.asarray(labels), assign_folds(len(labels), groups, folds=folds, seed=seed)
    right = 0
    for held_out in range(folds):
        test, valid = fold == held_out, fold == (held_out + 1) % folds
        chosen = l2[0] if len(l2) == 1 else _choose_l2(x, target, ~test & ~valid, valid, l2)
        classifier = _fit_classifier(x[~test], target[~test], chosen)
        right += int((classifier.predict(x[test]) == target[test]).sum())
    return right / len(labels)


def _fit_classifier(x: Any, target: np.ndarray, l2: float) -> Any:
    """Fit multinomial logistic regression to features of unit variance, where there are features and classes.

    Sparse features are not centred, which changes nothing but the bias, as that is not penalized.
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not x.shape[1] or len(set(target)) < 2:
        return DummyClassifier().fit(x, target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the accuracy has settled long before
        scaler = StandardScaler(with_mean=isinstance(x, np.ndarray))
        return make_pipeline(scaler, LogisticRegression(C=1 / l2)).fit(x, target)


def _choose_l2(x: Any, target: np.ndarray, train: np.ndarray, valid: np.ndarray, l2: Sequence[float]) -> float:
    """Return the l2 under whose fit to the rows `train` the rows `valid` are the likeliest."""
    fits = [_fit_classifier(x[train], target[train], strength) for strength in l2]
    return max(zip((_log_likelihood(fit, x[valid], target[valid]) for fit in fits), l2, strict=True))[1]


def _log_likelihood(classifier: Any, x: Any, target: np.ndarray) -> float:
    """Return sum log p(label), nats, over the rows whose label was in the training rows."""
    known = np.isin(target, classifier.classes_)
    probabilities = classifier.predict_proba(x)[known, np.searchsorted(classifier.classes_, target[known])]
    return float(np.log(np.maximum(probabilities, np.finfo(float).tiny)).sum())


def predict_majority(
    labels: Sequence[str], groups: Sequence[Hashable] | None = None, *, folds: int = FOLDS, seed: int = 0
) -> float:
    """Return the accuracy on held-out rows of the most frequent label of the others, with the folds of `probe`.

    Of labels that are about equally frequent, the one that leads among the others is rarer in the fold itself, and the
    result is somewhat below the fraction of either: as it is for any probe that finds nothing.

    >>> predict_majority(["yes"] * 8 + ["no"] * 2)
    0.8
    """
    target = np.unique(labels, return_inverse=True)[1]
    fold = assign_folds(len(labels), groups, folds=folds, seed=seed)
    guesses = np.array([np.bincount(target[fold != held_out]).argmax() for held_out in range(folds)])
    return float((guesses[fold] == target).mean())


def count_words(sequences: Sequence[Sequence[int]], *, words: int = MAX_WORDS) -> Any:
    """Count each word in each sentence: the most frequent words of those that occur in two sentences or more.

    Args:
        sequences: N sequences of ids; their end does not count.
        words: W, at most.

    Returns:
        (N, W) sparse matrix, columns in the order of the ids.

    >>> count_words([[7, 8, END], [9, 8, 8, END]]).toarray().tolist()
    [[1.0], [2.0]]
    """
    from sklearn.feature_extraction.text import CountVectorizer

    def split(ids: Sequence[int]) -> list[int]:
        return [word for word in ids if word != END]

    try:
        return CountVectorizer(analyzer=split, min_df=2, max_features=words, dtype=np.float32).fit_transform(sequences)
    except ValueError:  # no word occurs in two sentences
        return np.empty((len(sequences), 0))


def assign_folds(
    count: int, groups: Sequence[Hashable] | None = None, *, folds: int = FOLDS, seed: int = 0
) -> np.ndarray:
    """Return the fold of each row, (N,): groups in a random order, the folds about equally large.

    Raises:
        ConfigError: if there are fewer groups than folds, or fewer than 3 folds (train, choose, test).
    """
    from sklearn.model_selection import GroupKFold

    numbers = {group: number for number, group in enumerate(dict.fromkeys(range(count) if groups is None else groups))}
    if not 3 <= folds <= len(numbers):
        raise ConfigError(f"folds = {folds}: expected 3 to {len(numbers)}, the number of different sentences")
    member = range(count) if groups is None else [numbers[group] for group in groups]
    fold = np.empty(count, np.int64)
    splitter = GroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    for number, (_, held_out) in enumerate(splitter.split(fold, groups=member)):
        fold[held_out] = number
    return fold


_series_score = partial(define_score, section="reconstructions from posterior means")


@dataclass(frozen=True, kw_only=True)
class SeriesScores:
    """The reconstructions of series from their posterior means, without noise."""

    series: int = _series_score("number of series reconstructed")
    r2: float = _series_score(
        "1 - squared error / squared distance from the mean of each channel, over all frames, each channel in its own "
        "standard deviations; the decoder sees z alone, no frame of the original, and generates as many frames"
    )
    r2_median: float = _series_score("the same for each series by itself, median over the series")
    length_error: float = _series_score(
        "mean |frames of the reconstruction that ends by itself - frames of the original|"
    )
    length_error_standard_error: float = _series_score("standard error of length_error over the series")


def compare_reconstructions(
    originals: Sequence[np.ndarray], forced: GeneratedSeries, free: GeneratedSeries, mean: np.ndarray, std: np.ndarray
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
    distances = np.array([(((x - mean) / std) ** 2).sum() for x in originals])
    differences = torch.tensor([abs(len(x) - len(y)) for x, y in zip(originals, free.series, strict=True)]).double()
    return SeriesScores(
        series=len(originals),
        r2=float(1 - errors.sum() / distances.sum()),
        r2_median=float(np.median(1 - errors / np.maximum(distances, 1e-12))),
        length_error=float(differences.mean()),
        length_error_standard_error=standard_error(differences),
    )


def linear_r2(
    means: Tensor, values: Sequence[float], *, folds: int = FOLDS, ridge: float = 1e-3, seed: int = 0
) -> float:
    """Return the cross-validated R^2 of a factor by ridge regression from the posterior means.

    1 - sum (y - y')^2 / sum (y - mean of the training folds)^2, each series predicted once while held out; 0 or below
    where the means tell nothing about it, as a single series does.

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
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import KFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = means.detach().double().cpu().numpy(), np.asarray(values, np.float64)
    error = total = 0.0
    if len(x) < 2:
        return 0.0
    for train, test in KFold(min(folds, len(x)), shuffle=True, random_state=seed % 2**32).split(x):
        model = make_pipeline(StandardScaler(), Ridge(alpha=ridge * len(train))).fit(x[train], y[train])
        error += ((y[test] - model.predict(x[test])) ** 2).sum()
        total += ((y[test] - y[train].mean()) ** 2).sum()
    return float(1 - error / total) if total else 0.0
