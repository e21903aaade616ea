"""Space: a model and some of its items as points, and the answers to what can be asked there.

Points z are given as D numbers in any container, and come back as lists. All that is kept is made by `Space.build` and
never changed, so that several threads may ask at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.auto import AnyVAE
from seqvae.data.corpus import Split
from seqvae.errors import ConfigError, check_whole
from seqvae.evaluation.latent_space import aggregate_log_prob
from seqvae.explore import health, sentence
from seqvae.explore.answers import Attribute, Health, Knob, Neighbour, Place, Points, Reading, Step
from seqvae.explore.columns import find_attributes, make_columns
from seqvae.explore.items import encode_split, read_items, read_labels, show, write
from seqvae.explore.projection import Projection
from seqvae.latent.steering import check_attribute, mean_direction, split_by_attribute

PRIOR_POINTS = 250
NEAREST = 8


@dataclass(frozen=True)
class Space:
    """A model with N items as points of its latent space.

    Attributes:
        model: of text or of series, with a latent space.
        split: the N items.
        items: the sentences, or arrays (frames, channels).
        labels: of the items, in a model conditioned on labels; else None.
        q: their posteriors, batch (N,), event (D,).
        prior: p(z), batch (), event (D,).
        z: (N, D), the posterior means.
        projection: the plane of the map.
        layers: what `points` returns.
    """

    model: AnyVAE
    split: Split
    items: Sequence[Any]
    labels: Sequence[str] | None
    q: Distribution
    prior: Distribution
    z: Tensor
    projection: Projection
    layers: Points

    @classmethod
    def build(cls, model: AnyVAE, source: Any = None, limit: int = 2000, seed: int = 0) -> "Space":
        """Encode items, and lay out the map.

        Args:
            model: of text or of series.
            source: a split of the model's; or anything that `model.load_corpus` takes, of which held-out items are
                taken where there are splits; None is the corpus of the training.
            limit: of the items, which are then evenly spaced.
            seed: of the samples of the prior, and of z in the bounds of log p(x).

        Raises:
            ConfigError: for a model without a latent space, or fewer than 3 items.
            CorpusError: if the items cannot be read.
        """
        check_whole(3, limit=limit)
        if not model.model.has_latent:
            raise ConfigError("this model is of kind lm: it has no latent space to explore; train one of kind vae")
        split = source if isinstance(source, Split) else choose_split(model, source)
        split = split.at_most(limit)
        if len(split) < 3:
            raise ConfigError(f"{len(split)} {model.units} to explore: expected 3 or more")
        model.model.eval()
        encoded = encode_split(model, split, seed)
        z = encoded.q.mode
        projection = Projection.fit(as_array(z))
        labels = model.sample_labels(PRIOR_POINTS, seed=seed)
        samples = model.sample_prior(PRIOR_POINTS, seed=seed)
        items = read_items(split)
        layers = Points(
            xy=projection.project(projection.points).tolist(),
            texts=[show(item) for item in items],
            columns=make_columns(model, split, encoded.bound),
            prior_xy=projection.project(as_array(samples)).tolist(),
            prior_texts=[found.text for found in write(model, samples, labels)],
            prior_z=samples.tolist(),
            variance=projection.variance,
        )
        with torch.no_grad():
            prior = model.model.prior()
        return cls(model, split, items, read_labels(model, split), encoded.q, prior, z, projection, layers)

    # -- places -------------------------------------------------------------------------------------------------------

    def points(self) -> Points:
        """Return the layers of the map: items, samples of the prior, and what to colour by."""
        return self.layers

    def locate(
        self, *, index: int | None = None, xy: Sequence[float] | None = None, item: Any = None, label: str | None = None
    ) -> list[float]:
        """Return the point z (D numbers) of item `index`, of a position of the map, or of a new sentence or series.

        Exactly one is given. A position of an item gives the item's own z; see `Projection.lift`. `label` belongs to
        `item`, in a model conditioned on labels.

        Raises:
            ConfigError: for none or several of them, for an unknown index, or a blank sentence.
        """
        if sum(given is not None for given in (index, xy, item)) != 1:
            raise ConfigError("expected one of index, xy and item")
        if index is not None:
            if not 0 <= index < len(self.z):
                raise ConfigError(f"index {index}: expected 0 to {len(self.z) - 1}")
            return self.z[index].tolist()
        if xy is not None:
            return self._settle(torch.from_numpy(self.projection.lift(np.asarray(xy, float)))).tolist()
        return self.model.encode([sentence.check(item)], labels=label).mode[0].tolist()

    def look_at(
        self,
        *,
        index: int | None = None,
        xy: Sequence[float] | None = None,
        z: Sequence[float] | None = None,
        item: Any = None,
        label: str | None = None,
        nearest: int = NEAREST,
    ) -> Place:
        """Return what is at a point: that of item `index`, of a position `xy`, `z` itself, or of a new `item`.

        Args:
            index: of an item of the space; exactly one of index, xy, z and item is given; errors as of `locate`.
            xy: a position of the map.
            z: D numbers.
            item: a new sentence or series.
            label: to decode with, in a model conditioned on labels; None takes that of the nearest item.
            nearest: number of neighbours.
        """
        point = self._read(self.locate(index=index, xy=xy, item=item, label=label) if z is None else z)
        neighbours = self.find_nearest(point.tolist(), nearest)
        label = self.choose_label(point, label)
        found = write(self.model, point[None], label)[0]
        with torch.no_grad():
            log_prior = float(self.prior.log_prob(point))
            log_aggregate = float(aggregate_log_prob(self.q, point[None])[0])
        return Place(
            point.tolist(),
            self._place(point),
            found.text,
            found.values,
            found.log_prob,
            log_prior,
            log_aggregate,
            neighbours,
            label,
        )

    def find_nearest(self, z: Sequence[float], count: int = NEAREST) -> list[Neighbour]:
        """Return the `count` items whose posterior means are nearest to z, by Euclidean distance."""
        distances = (self.z.double() - self._read(z).double()).norm(dim=1)
        order = distances.argsort(stable=True)[:count].tolist()
        return [Neighbour(i, self.layers.texts[i], float(distances[i])) for i in order]

    def walk(
        self,
        a: Sequence[float],
        b: Sequence[float],
        steps: int = 7,
        spherical: bool | None = None,
        label: str | None = None,
    ) -> list[Step]:
        """Return `steps` points from z `a` to z `b`, both included, and what decodes there.

        Args:
            a: D numbers, as from `locate`.
            b: likewise.
            steps: 2 or more.
            spherical: along the arc between the directions of a and b, in place of the line; None takes
                `model.default_path`.
            label: to decode all with; None takes that of the item nearest to `a`.
        """
        path = self.model.default_path if spherical is None else ("slerp" if spherical else "linear")
        points = self.model.interpolate_points(self._read(a), self._read(b), steps=steps, path=path)
        return self._step(points, self.choose_label(points[0], label))

    # -- moves --------------------------------------------------------------------------------------------------------

    def knobs(self, z: Sequence[float], count: int = 8) -> list[Knob]:
        """Return the `count` dimensions with the largest variance of the posterior means, largest first."""
        point = self._read(z).double()
        means = self.z.double()
        variance = means.var(0)
        low, high = torch.quantile(means, means.new_tensor([0.01, 0.99]), dim=0)
        order = variance.argsort(descending=True, stable=True)[:count].tolist()
        return [
            Knob(
                d,
                float(point[d]),
                float(low[d].minimum(point[d])),
                float(high[d].maximum(point[d])),
                float(variance[d]),
            )
            for d in order
        ]

    def turn(self, z: Sequence[float], values: dict[int, float], label: str | None = None) -> Step:
        """Set dimensions of z to values, and return what decodes there."""
        point = self._read(z).clone()
        for dimension, value in values.items():
            if not 0 <= int(dimension) < len(point):
                raise ConfigError(f"dimension {dimension}: expected 0 to {len(point) - 1}")
            point[int(dimension)] = value
        return self._step(self._settle(point)[None], self.choose_label(self._read(z), label))[0]

    def add(self, a: Sequence[float], minus: Sequence[float], plus: Sequence[float], label: str | None = None) -> Place:
        """Return what is at a - minus + plus, of three points z; see `look_at`."""
        point = self._read(a) - self._read(minus) + self._read(plus)
        return self.look_at(z=self._settle(point).tolist(), label=label)

    def attributes(self) -> list[Attribute]:
        """Return the values of columns of labels that at least 2 items have and 2 have not; none for series."""
        return find_attributes(self.layers.columns)

    def steer(
        self,
        z: Sequence[float],
        attribute: Attribute | tuple[str, str],
        strength: float = 1.0,
        label: str | None = None,
    ) -> Step:
        """Move z along the direction of an attribute, by `strength` times the distance of the classes' means.

        Args:
            z: D numbers.
            attribute: one of `attributes`, or its column and value.
            strength: below 0 is away from it.
            label: to decode with; None takes that of the nearest item.

        Raises:
            ConfigError: for an attribute that the items have not.

        Source: Larsen et al., arXiv:1512.09300 (see `seqvae.latent.steering`).
        """
        name, value = attribute if isinstance(attribute, tuple) else (attribute.column, attribute.value)
        known = {column.name: column for column in self.layers.columns if column.kind == "category"}
        if name not in known:
            raise ConfigError(f"attribute {name}: there is no such column; there are: {', '.join(known) or 'none'}")
        check_attribute(name, known[name].values, value)
        having, lacking = split_by_attribute(known[name].values, value)
        point = self._read(z)
        moved = point + strength * mean_direction(self.z[having], self.z[lacking]).to(point)
        return self._step(self._settle(moved)[None], self.choose_label(point, label))[0]

    # -- one item, one training ---------------------------------------------------------------------------------------

    def read(self, item: Any, label: str | None = None, samples: int = 20, seed: int = 0) -> Reading:
        """Return what the model makes of a sentence or series: see `seqvae.explore.sentence.read`."""
        return sentence.read(self.model, item, label, samples=samples, seed=seed)

    def health(self, run_folder: Any = None) -> Health:
        """Return the diagnosis of the model on at most 100 of the items (seconds), and the curves of its run.

        For a run in progress, which may have no model yet, see `seqvae.explore.health.read_run`.
        """
        return health.examine_space(self.model, self.split, run_folder)

    # -- inside -------------------------------------------------------------------------------------------------------

    def choose_label(self, z: Tensor, label: str | None = None) -> str | None:
        """Return `label`, or else the label of the item nearest to z (D,); None in a model without labels."""
        if label is not None or self.labels is None:
            return label
        return self.labels[int((self.z - z).norm(dim=1).argmin())]

    def _read(self, z: Any) -> Tensor:
        """Return a point (D,) in the model's precision; raise a `ConfigError` unless it is D finite numbers."""
        point = torch.as_tensor(z, dtype=self.z.dtype, device=self.z.device)
        if point.shape != self.z.shape[1:] or not point.isfinite().all():
            raise ConfigError(f"a point z has shape {tuple(point.shape)}: expected {self.z.shape[1]} finite numbers")
        return point

    def _settle(self, z: Tensor) -> Tensor:
        """Return z (D,), on a spherical latent space scaled to length 1."""
        return z / z.norm().clamp_min(1e-12) if self.model.model.prior.spherical else z

    def _place(self, z: Tensor) -> list[float]:
        return self.projection.project(as_array(z)).tolist()

    def _step(self, points: Tensor, label: str | None) -> list[Step]:
        found = write(self.model, points, label)
        return [
            Step(z.tolist(), self._place(z), one.text, one.values, one.log_prob)
            for z, one in zip(points, found, strict=True)
        ]


def choose_split(model: AnyVAE, source: Any) -> Split:
    """Load a corpus, and return its test split, else that for validation, else all of it; one of 3 items or more."""
    splits: dict[str, Split] = dict(model.load_corpus(source).splits)
    found = [splits[name] for name in ("test", "valid", "train") if name in splits]
    return next((split for split in found if len(split) >= 3), found[0])


def as_array(z: Tensor) -> np.ndarray:
    """Return points as float64 on the CPU."""
    found: np.ndarray = z.detach().double().cpu().numpy()
    return found
