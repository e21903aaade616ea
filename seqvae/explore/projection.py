"""The plane of the map: principal components, and back from the plane into the latent space."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from seqvae.errors import ConfigError, choose

METHODS = ("tsne", "umap")


@dataclass(frozen=True)
class Projection:
    """The two principal components of N points.

    Attributes:
        points: (N, D), those that it was fitted to.
        centre: (D,), their mean.
        axes: (2, D), orthonormal; zero where there are fewer than two components.
        variance: fraction of the variance along each of the two.
    """

    points: np.ndarray
    centre: np.ndarray
    axes: np.ndarray
    variance: list[float]

    @classmethod
    def fit(cls, points: np.ndarray) -> "Projection":
        """Fit to points (N, D)."""
        centre = points.mean(0)
        _, singular, axes = np.linalg.svd(points - centre, full_matrices=False)
        axes = np.pad(axes, ((0, max(0, 2 - len(axes))), (0, 0)))[:2]
        axes = axes * np.where(axes[np.arange(2), np.abs(axes).argmax(1)] < 0, -1, 1)[:, None]  # the sign is arbitrary
        variances = np.pad(singular**2, (0, 2))
        total = float(variances.sum()) or 1.0
        return cls(points, centre, axes, [float(v / total) for v in variances[:2]])

    def project(self, z: np.ndarray) -> np.ndarray:
        """Return the positions (..., 2) of points (..., D)."""
        return (z - self.centre) @ self.axes.T

    def lift(self, xy: np.ndarray, neighbours: int = 5) -> np.ndarray:
        """Return a point (D,) that is projected to `xy` (2,).

        It is the inverse of the projection plus what the `neighbours` nearest fitted points (on the plane) have beside
        the plane, weighted by 1 / distance^2: at the position of a fitted point it is that point.
        """
        plane = self.project(self.points)
        squared = ((plane - xy) ** 2).sum(1)
        near = np.argsort(squared, kind="stable")[:neighbours]
        least = 1e-12 * max(float(((plane - plane.mean(0)) ** 2).mean()), 1e-12)
        if squared[near[0]] <= least:
            return self.points[near[0]].copy()
        weights = 1 / squared[near]
        beside = self.points[near] - self.centre - plane[near] @ self.axes
        return self.centre + xy @ self.axes + (weights / weights.sum()) @ beside


def embed(points: np.ndarray, method: str = "tsne", *, seed: int = 0) -> np.ndarray:
    """Embed points (N, D) in the plane: (N, 2), by `tsne` of scikit-learn or by `umap` of umap-learn.

    It takes seconds to minutes. There is no way back from such a plane into the latent space.

    Raises:
        ConfigError: for an unknown method, for fewer than 4 points, or if umap-learn is not installed.
    """
    choose("method", method, METHODS)
    if len(points) < 4:
        raise ConfigError(f"{len(points)} points to embed: expected 4 or more")
    if method == "tsne":
        from sklearn.manifold import TSNE

        maker: Any = TSNE(
            perplexity=min(30.0, (len(points) - 1) / 3),
            init="pca" if points.shape[1] > 1 else "random",
            random_state=seed,
        )
    else:
        try:
            import umap
        except ImportError:
            raise ConfigError("the method umap needs umap-learn: pip install umap-learn") from None
        maker = umap.UMAP(n_neighbors=min(15, len(points) - 1), random_state=seed)
    return np.asarray(maker.fit_transform(points.astype(np.float32)))
