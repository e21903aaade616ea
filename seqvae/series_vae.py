"""SeriesVAE: a trained model of real-valued series; arrays go in, arrays come out."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.distributions import Distribution

from seqvae.config import for_series
from seqvae.data.batching import ordered
from seqvae.data.series.corpus import SeriesSplit, load_series
from seqvae.data.series.sources import in_memory
from seqvae.data.text.sources import located
from seqvae.errors import CheckpointError, ConfigError, check_whole, expand, shorten
from seqvae.evaluation.evaluate import score_split
from seqvae.evaluation.likelihood import measure
from seqvae.evaluation.probes import SeriesScores, track
from seqvae.evaluation.scores import Scores
from seqvae.model.frame_decoding import Unrolled, unroll
from seqvae.model.modes import Points, read_points
from seqvae.model.observations import Frames
from seqvae.pretrained import Pretrained, config_of, fitted, stored
from seqvae.rng import check_seed, seeded
from seqvae.text_vae import TextVAE
from seqvae.training.build import resolve_all
from seqvae.training.checkpoint import Checkpoint
from seqvae.training.runs import fresh

ROWS = 256  # series encoded at a time
LEVELS = "▁▂▃▄▅▆▇█"


class SeriesVAE(Pretrained):
    """A VAE of series of frames in R^F. A series is an array (frames, F), or (frames,) with one channel.

    >>> waves = [np.sin(np.arange(n) / 2)[:, None] for n in range(8, 28)]
    >>> model = SeriesVAE.fit(waves, latent=2, max_epochs=1)
    >>> len(model.sample(3, seed=1)), tuple(model.encode(waves[:1]).mean.shape)
    (3, (1, 2))
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        if not isinstance(checkpoint.model.observation, Frames):
            raise CheckpointError("this is a model of text, not of series: load it with TextVAE")
        super().__init__(checkpoint)
        self.frames = checkpoint.model.observation

    @classmethod
    def fit(cls, series: Any, *, output: str | os.PathLike | None = None, **options: Any) -> "SeriesVAE":
        """Train a model.

        Args:
            series: anything that `seqvae train` takes: `curves`, a .npz, .npy or .parquet file, a folder of such; or
                series in memory: a list of arrays, one array (N, frames, channels), a dict of the arrays of a .npz
                file, a table with a column of lists, or a dict of the splits train, valid and test, each of these.
            output: a folder for the model, which must not hold one yet; None keeps it in memory.
            options: those of `seqvae.config`, by name, as of `TextVAE.fit`.

        Raises:
            ConfigError: for an unknown option or a value that it cannot have.
            CorpusError: if the series cannot be read, or are too few.
        """
        config = resolve_all(for_series(config_of(options)))
        folder = None if output is None else fresh(expand(output))
        data = config.data
        corpus = load_series(series, column=data.column, max_length=data.max_length, seed=data.split_seed)
        place = located(series) if isinstance(series, str | os.PathLike) else corpus.name
        config = dataclasses.replace(config, corpus=place)
        model = cls(fitted(config, corpus, folder))
        if folder is not None:
            model.write_card(folder)
        return model

    # -- series -> z --------------------------------------------------------------------------------------------------

    def encode(self, series: Sequence[Any]) -> Distribution:
        """q(z|x): batch (B,), event (D,); `.mean` is the point to decode, `.stddev` how sure it is.

        Raises:
            ConfigError: for a model of kind lm, which has no z.
            CorpusError: for what is no series of this model's channels.
        """
        return self._posterior(ordered(self.split(series), ROWS))

    def score(self, series: Sequence[Any], *, samples: int = 100, seed: int = 0) -> Tensor:
        """(B,) float64 nats: log p(x) of each series in its own units, importance weighted over `samples` draws."""
        check_seed(seed)
        check_whole(1, samples=samples)
        return -measure(self.model, ordered(self.split(series), ROWS), samples=samples, seed=seed).nll

    # -- z -> series --------------------------------------------------------------------------------------------------

    def decode(
        self, z: Points, *, seed: int | None = None, temperature: float = 0.0, **options: Any
    ) -> list[np.ndarray]:
        """(B, D) -> B series, the mean of each frame unless a temperature is given; options as in `sample`."""
        return self.unrolled(z, seed=seed, temperature=temperature, **options).series

    def sample(
        self, n: int = 1, *, seed: int | None = None, temperature: float = 1.0, **options: Any
    ) -> list[np.ndarray]:
        """`n` series from draws of the prior.

        Args:
            n: how many.
            seed: of z and of the frames; None draws new ones each time.
            temperature: of the noise of the frames; 0 takes the mean of each, and ends at the median of the length.
            options: `max_length` (see `seqvae.model.frame_decoding.unroll`).
        """
        return self.decode(self.prior_draws(n, seed=seed), seed=seed, temperature=temperature, **options)

    def reconstruct(self, series: Sequence[Any], **options: Any) -> list[np.ndarray]:
        """Each series decoded from its posterior mean; options as in `decode`."""
        return self.decode(self.encode(series).mode, **options)

    def interpolate(
        self, start: Any, end: Any, *, steps: int = 7, path: str | None = None, **options: Any
    ) -> list[np.ndarray]:
        """`steps` series from the reconstruction of `start` to that of `end`.

        Args:
            start: a series.
            end: another.
            steps: 2 or more, the two ends included.
            path: `linear`, or `slerp` along the arc between the two directions; None takes `straight`.
            options: as in `decode`.
        """
        z = self.encode([start, end]).mode
        return self.decode(self.walk(z[0], z[1], steps=steps, path=path or self.straight), **options)

    def unrolled(self, z: Points, *, seed: int | None = None, temperature: float = 0.0, **options: Any) -> Unrolled:
        """As `decode`, with log densities and whether each series came to its end."""
        z = read_points(z, self.model.latent, next(self.model.parameters()))
        options.setdefault("max_length", self.config.data.max_length)
        stream = seeded(seed)
        if temperature:
            options["generator"] = stream.generator()
        return unroll(self.model, z, temperature=temperature, **options)

    # -- measuring ----------------------------------------------------------------------------------------------------

    def evaluate(
        self, split: SeriesSplit, *, samples: int = 100, seed: int = 0, seeds: int = 1, refined: int = 100
    ) -> Scores:
        """The scores of a split (see `score_split`)."""
        if not isinstance(split, SeriesSplit):
            raise ConfigError(
                f"a {type(split).__name__} was given where a split is expected: write model.split(series)"
            )
        check_seed(seed)
        check_whole(0, samples=samples, seeds=seeds, refined=refined)
        options = {"samples": samples, "seed": seed, "seeds": seeds, "refined": refined}
        return score_split(self.model, split, target_kl=self.config.held_kl, **options)[0]

    def track(self, split: SeriesSplit) -> SeriesScores:
        """How well the series of a split come back from their posterior means, without noise."""
        originals = split.series()
        means = self._posterior(ordered(split, ROWS)).mode
        forced = self.unrolled(means, frames=[len(series) for series in originals])
        scaler = self.frames.scaler
        return track(originals, forced, self.unrolled(means), scaler.mean.numpy(), scaler.std.numpy())

    def split(self, series: Sequence[Any]) -> SeriesSplit:
        """Series of this model's channels, checked, cut at the length that it was trained with."""
        if isinstance(series, np.ndarray | Tensor) and series.ndim < 3:
            raise ConfigError("one series was given where a list of series is expected: write [series]")
        if isinstance(series, str | bytes) or not isinstance(series, Iterable):
            raise ConfigError(f"{shorten(series)} was given where a list of series is expected: write [series]")
        table = in_memory(series, self.config.data.column)
        self.expect_channels(table.values.shape[1])
        return SeriesSplit(table, np.arange(len(table.lengths)), self.config.data.max_length)

    def expect_channels(self, given: int) -> None:
        """Raise a `ConfigError` unless frames have as many channels as the model was trained on."""
        if given != self.frames.size:
            raise ConfigError(f"frames have {given} channels: this model needs {self.frames.size}")

    def shown_samples(self) -> list[str]:
        """Five series as little pictures of their first channel."""
        return [f"`{picture(one)}`" for one in self.sample(5, seed=0, temperature=0.5)]


def picture(series: np.ndarray, channel: int = 0) -> str:
    """A channel of a series in a line of text, from its least to its largest value.

    >>> picture(np.array([[0.0], [1.0], [2.0]]))
    '▁▄█'
    """
    values = series[:, channel]
    if not len(values):
        return "(no frame)"
    reach = np.ptp(values) or 1.0
    return "".join(LEVELS[int(level)] for level in (values - values.min()) / reach * (len(LEVELS) - 1))


def opened(name: str | Path) -> TextVAE | SeriesVAE:
    """A model folder, or a model of the hub, of whatever kind it is."""
    checkpoint = stored(name)
    return TextVAE(checkpoint) if checkpoint.tokenizer is not None else SeriesVAE(checkpoint)
