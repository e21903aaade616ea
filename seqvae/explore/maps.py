"""Other maps of the same points than that of principal components, computed in the background when asked for."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from threading import Lock, Thread

import numpy as np

from seqvae.errors import SeqVAEError
from seqvae.explore.answers import Points
from seqvae.explore.projection import embed

PCA = "pca"
TITLES = {PCA: "PCA", "tsne": "t-SNE", "umap": "UMAP"}


class Maps:
    """The maps of a space by name: `pca`, `tsne` and, where umap-learn is installed, `umap`.

    Attributes:
        points: what they show.
        titles: what the page calls each.
    """

    def __init__(self, points: Points, z: np.ndarray, *, seed: int = 0) -> None:
        """Keep the points, and z (N, D) of the items; nothing is computed yet."""
        self.points, self.titles = points, dict(TITLES)
        if find_spec("umap") is None:
            del self.titles["umap"]
        self._z = np.concatenate([z, np.array(points.prior_z).reshape(-1, z.shape[1])])
        self._seed, self._lock = seed, Lock()
        self._found: dict[str, Points | str] = {PCA: points}
        self._begun: set[str] = set()

    def get(self, name: str | None) -> Points | str | None:
        """Return a map; or None while it is computed, which begins now; or why there is none."""
        if name not in self.titles:
            return "there is no such map here; this is the one of principal components"
        with self._lock:
            if name not in self._found and name not in self._begun:
                self._begun.add(name)
                Thread(target=self._compute, args=(name,), daemon=True).start()
            return self._found.get(name)

    def _compute(self, name: str) -> None:
        try:
            xy = embed(self._z, name, seed=self._seed).tolist()
            count = len(self.points.xy)
            found: Points | str = replace(self.points, xy=xy[:count], prior_xy=xy[count:])
        except SeqVAEError as error:
            found = str(error)
        with self._lock:
            self._found[name] = found
