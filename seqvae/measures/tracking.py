"""Tracking: how well series come back from their posterior means, and what a linear map reads there."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from seqvae.measures.metrics import standard_error
from seqvae.measures.scores import score
from seqvae.unrolling import Unrolled

_score = partial(score, section="reconstructions from posterior means")


@dataclass(frozen=True, kw_only=True)
class SeriesScores:
    """What becomes of series that go through the posterior mean and back, without noise."""

    series: int = _score("number of series reconstructed")
    r2: float = _score(
        "1 - squared error / squared distance from the mean of each channel, over all frames, each channel in its own "
        "standard deviations; the decoder sees z alone, no frame of the original, and goes on for as many frames"
    )
    r2_median: float = _score("the same for each series by itself, median over the series")
    length_error: float = _score("mean |frames of the reconstruction that ends by itself - frames of the original|")
    length_error_standard_error: float = _score("standard error of length_error over the series")


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
