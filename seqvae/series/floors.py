"""Floors: what models without a latent space and without training make of series, to hold a trained one against."""

import math
from dataclasses import dataclass

import numpy as np

from seqvae.observations.frames import LEAST
from seqvae.series.corpus import SeriesSplit

ORDER = 2  # frames that the linear autoregression looks back


@dataclass(frozen=True, eq=False)
class Linear:
    """Each frame a linear function of the `order` frames before it, with Gaussian noise; a geometric length.

    log p(x) = sum_t [ log(1 - s) + sum_c log N(x_tc; a_c + sum_k (A_k x_{t-k})_c, v_c) ] + [ended] log s

    with the least-squares a and A, the residual variance v of each channel, and s the share of steps that are ends. The
    first frames, which have not enough before them, are from a Gaussian of the channel. Order 0 is that Gaussian alone:
    independent of time.

    Attributes:
        order: how many frames each looks back.
        weights: (order * F + 1, F), the constant last.
        variances: (F,) of the residuals.
        mean, variance: (F,) of a frame by itself.
        stop: s.
    """

    order: int
    weights: np.ndarray
    variances: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    stop: float

    @classmethod
    def fit(cls, split: SeriesSplit, order: int) -> "Linear":
        """By least squares on the frames of a split.

        Args:
            split: the training series.
            order: 0 or more.
        """
        series = [one.astype(np.float64) for one in split.series()]
        frames = np.concatenate(series)
        # One that never varies gets the least that a model may give it, lest no model could come near this one.
        least = np.where(frames.var(0) > 0, np.finfo(np.float64).tiny ** 0.25, LEAST**2)
        mean, variance = frames.mean(0), np.maximum(frames.var(0), least)
        before, after = (np.concatenate(parts) for parts in zip(*(_windows(s, order) for s in series), strict=True))
        weights = np.linalg.lstsq(before, after, rcond=None)[0]
        rest = np.maximum((after - before @ weights).var(0), least) if len(after) else variance
        ends = int(split.complete.sum())
        stop = min(max(ends, 0.5) / int(split.lengths.sum()), 0.5 if not ends else 1.0)
        return cls(order, weights, rest, mean, variance, stop)

    def nll(self, split: SeriesSplit) -> np.ndarray:
        """(N,) nats: -log p of each series, in the units of the data."""
        found = []
        for series, complete in zip(split.series(), split.complete.tolist(), strict=True):
            x = series.astype(np.float64)
            before, after = _windows(x, self.order)
            said = _normal(x[: self.order], self.mean, self.variance)
            said += _normal(after, before @ self.weights, self.variances)
            found.append(-said - len(x) * math.log1p(-self.stop) - complete * math.log(self.stop))
        return np.array(found)


def _windows(x: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, order * F + 1) the frames before each, the nearest first, and a 1; and (n, F) these frames."""
    count = max(len(x) - order, 0)
    back = [x[order - k : order - k + count] for k in range(1, order + 1)]
    return np.concatenate([*back, np.ones((count, 1))], axis=1), x[order:]


def _normal(x: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> float:
    return float(-0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance)).sum())


def floors(split: SeriesSplit, train: SeriesSplit) -> dict[str, dict[str, float]]:
    """The scores of these models on a split: -log p(x) in nats per series and per frame.

    Args:
        split: the series that are scored.
        train: those that the models are fitted to.
    """
    found = {}
    for name, order in {"gaussian": 0, "autoregression": ORDER}.items():
        nll = float(Linear.fit(train, order).nll(split).sum())
        found[name] = {"nll": nll / len(split), "nll_per_frame": nll / split.frames}
    return found
