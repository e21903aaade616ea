"""SeriesVAE: a trained model of real-valued series; arrays go in, arrays come out."""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.distributions import Distribution

from seqvae.config import Config, select_frames
from seqvae.data.batching import iterate_by_length
from seqvae.data.series.corpus import SeriesCorpus, SeriesSplit, load_series
from seqvae.data.series.sources import read_series
from seqvae.data.text.labels import Labels, number_labels
from seqvae.data.text.sources import locate
from seqvae.errors import CheckpointError, ConfigError, CorpusError, check_whole, expand, shorten
from seqvae.evaluation.evaluate import score_split
from seqvae.evaluation.likelihood import measure
from seqvae.evaluation.probes import SeriesScores, compare_reconstructions
from seqvae.evaluation.scores import Scores
from seqvae.model.frame_decoding import GeneratedSeries, decode_frames
from seqvae.model.modes import Points, read_points
from seqvae.model.observations import Frames
from seqvae.pretrained import Pretrained, build_config
from seqvae.rng import Stream, check_seed
from seqvae.training.build import resolve_all
from seqvae.training.checkpoint import Checkpoint
from seqvae.training.devices import Device, choose_device
from seqvae.training.init import Init, refuse_series
from seqvae.training.runs import check_output
from seqvae.training.session import run_session

ROWS = 256  # series encoded at a time
LEVELS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, eq=False)
class Series:
    """A generated series.

    Attributes:
        frames: (N, F), in the units of the data.
        ended: whether the model ended it; false for one that reached the maximum length.
        log_prob: log p(x|z), nats, under the model itself, whatever the temperature.
    """

    frames: np.ndarray
    ended: bool
    log_prob: float


class SeriesVAE(Pretrained):
    """A VAE of series of frames in R^F. A series is an array (frames, F), or (frames,) with one channel.

    It has the methods of `TextVAE`, but for those of words (`tokenize`, `aggregate`), so that commands and reports need
    not know which of the two they have. There are no labels: an argument `labels` can only be None.

    Attributes:
        unit: one item of a corpus, as messages name it; `units` for several.
        tag: what such a model does, as the Hugging Face hub names it.
        frames: the observation model, with mean and standard deviation of each channel.

    >>> waves = [np.sin(np.arange(n) / 2)[:, None] for n in range(8, 28)]
    >>> model = SeriesVAE.fit(waves, latent=2, max_epochs=1)
    >>> len(model.sample(3, seed=1)), tuple(model.encode(waves[:1]).mean.shape)
    (3, (1, 2))
    """

    unit, units, tag = "series", "series", "time-series"
    sampling_options = ("prior_temperature", "temperature")
    labels: tuple[str, ...] = ()

    def __init__(self, checkpoint: Checkpoint) -> None:
        if not isinstance(checkpoint.model.observation, Frames):
            raise CheckpointError("this is a model of text, not of series: load it with TextVAE")
        super().__init__(checkpoint)
        self.frames = checkpoint.model.observation

    @classmethod
    def fit(
        cls,
        series: Any,
        *,
        output: str | os.PathLike | None = None,
        progress: bool | None = None,
        device: Device = None,
        **options: Any,
    ) -> "SeriesVAE":
        """Train a model and return it.

        Args:
            series: anything that `seqvae train` takes: `curves`, a .npz, .npy or .parquet file, a folder of such; or
                series in memory: a list of arrays, one array (N, frames, channels), a dict of the arrays of a .npz
                file, a table with a column of lists, or a dict of the splits train, valid and test, each of these.
            output: a folder for the model, which must not hold one yet; None keeps it in memory.
            progress: show a progress bar; None does in a terminal and in a notebook.
            device: as of `TextVAE.fit`.
            options: those of `seqvae.config`, by name, as of `TextVAE.fit`.

        Raises:
            ConfigError: for an unknown option or a value that it cannot have, or a device that is not there.
            CorpusError: if the series cannot be read, or are too few.
        """
        device = choose_device(device)
        config = cls.resolve(build_config(options))
        folder = None if output is None else check_output(expand(output))
        data = config.data
        corpus = load_series(series, column=data.column, max_length=data.max_length, seed=data.split_seed)
        return run_session(cls._prepare(config, corpus, series, folder, progress, device=device))

    @classmethod
    def resolve(cls, config: Config, init: Init | None = None) -> Config:
        """Return the configuration of a run on series with every default filled in.

        Raises:
            ConfigError: for options that a model of series cannot have, such as a model to begin with, or that cannot
                be combined.
        """
        refuse_series(config)
        return resolve_all(select_frames(config))

    @classmethod
    def read_corpus(cls, config: Config, init: Init | None = None) -> SeriesCorpus:
        """Read the corpus of a run; `init` is None, as `resolve` sees to."""
        data = config.data
        return load_series(config.corpus, column=data.column, max_length=data.max_length, seed=data.split_seed)

    @classmethod
    def hash_corpus(cls, config: Config) -> str:
        """Return a hash of the series of a run: equal for equal series divided alike.

        Raises:
            CorpusError: when they cannot be read, or not be divided.
        """
        return cls.read_corpus(config).content

    # -- series -> z --------------------------------------------------------------------------------------------------

    def encode(self, series: Sequence[Any], *, labels: Labels = None) -> Distribution:
        """Return the posterior q(z|x): batch (B,), event (D,); `.mode` is the point to decode, `.stddev` its spread.

        Raises:
            ConfigError: for a model of kind lm, which has no z.
            CorpusError: for what is no series of this model's channels.
        """
        return self._posterior(iterate_by_length(self._make_split(series, labels), ROWS))

    def score(self, series: Sequence[Any], *, labels: Labels = None, samples: int = 100, seed: int = 0) -> Tensor:
        """Estimate log p(x) of each series: (B,) float64 nats, importance weighted over `samples` samples of q(z|x).

        It is the log of a density, in the units of the data.
        """
        check_seed(seed)
        check_whole(1, samples=samples)
        return -measure(
            self.model, iterate_by_length(self._make_split(series, labels), ROWS), samples=samples, seed=seed
        ).nll

    # -- z -> series --------------------------------------------------------------------------------------------------

    def decode(
        self, z: Points, *, labels: Labels = None, seed: int | None = None, temperature: float = 0.0, **options: Any
    ) -> list[np.ndarray]:
        """Decode points (B, D) into B series, the mean of each frame unless a temperature is given.

        Args:
            z: (B, D), a tensor, an array or a list of rows.
            labels: None.
            seed: of the frames.
            temperature: as in `sample`.
            options: as in `sample`.
        """
        self.number_labels(labels, 1)
        return self._unroll(z, seed=seed, temperature=temperature, **options).series

    def recommend_sampling(self) -> dict[str, float]:
        """Return options of `sample` that show most: the mean of each frame, without noise."""
        return {"temperature": 0.0}

    def sample(
        self,
        n: int = 1,
        *,
        label: Labels = None,
        seed: int | None = None,
        temperature: float | None = None,
        **options: Any,
    ) -> list[np.ndarray]:
        """Generate `n` series from samples of the prior.

        Args:
            n: number of series.
            label: None.
            seed: of z and of the frames; None takes new random numbers each time.
            temperature: of the noise of the frames; 0 takes the mean of each, and ends at the median of the length.
                None is that of `generation_config`, else 1.
            options: `max_length` (see `seqvae.model.frame_decoding.decode_frames`); `prior_temperature`, of z
                (`seqvae.latent.prior_temperature`).
        """
        options = self.choose_sampling({"temperature": temperature, **options})
        z = self.sample_prior(n, seed=seed, temperature=options.pop("prior_temperature", 1.0))
        return self.decode(z, labels=label, seed=seed, **options)

    def reconstruct(self, series: Sequence[Any], *, labels: Labels = None, **options: Any) -> list[np.ndarray]:
        """Decode each series from its posterior mean; options as in `decode`."""
        return self.decode(self.encode(series, labels=labels).mode, **options)

    def interpolate(
        self,
        start: Any,
        end: Any,
        *,
        label: Labels = None,
        steps: int = 7,
        path: str | None = None,
        **options: Any,
    ) -> list[np.ndarray]:
        """Decode `steps` points between two series, from the reconstruction of `start` to that of `end`.

        Args:
            start: a series.
            end: another.
            label: None.
            steps: 2 or more, the two ends included.
            path: `linear`, or `slerp` along the arc between the two directions; None takes `default_path`.
            options: as in `decode`.
        """
        z = self.encode([start, end], labels=label).mode
        return self.decode(self.interpolate_points(z[0], z[1], steps=steps, path=path or self.default_path), **options)

    def generate(
        self, z: Points, *, labels: Labels = None, seed: int | None = None, temperature: float = 0.0, **options: Any
    ) -> list[Series]:
        """Decode points as `decode` does, into series with their log densities and whether they ended."""
        self.number_labels(labels, 1)
        found = self._unroll(z, seed=seed, temperature=temperature, **options)
        return [Series(*row) for row in zip(found.series, found.ended, found.log_prob.tolist(), strict=True)]

    # -- corpora ------------------------------------------------------------------------------------------------------

    def load_corpus(self, source: Any = None, *, column: str | None = None, whole: bool | None = None) -> SeriesCorpus:
        """Read a corpus of series of this model's channels.

        Args:
            source: anything that `fit` takes; None is the corpus of the training.
            column: the column of a table that holds lists, where there are several.
            whole: take all of it as `test`, in its order, unless it comes in splits; False divides it as for the
                training. None divides it if it is the corpus of the training, by name or by content.

        Raises:
            ConfigError: for series of other channels.
            CorpusError: when it cannot be read, or not be divided.
        """
        own = self.is_training_corpus(source)
        if whole is None and not own:
            with suppress(CorpusError):  # what cannot be divided as the corpus of the training is another one
                found = self.load_corpus(source, column=column, whole=False)
                if found.content == self.checkpoint.facts.get("content"):
                    return found
        data = self.config.data
        found = load_series(
            self.config.corpus if source is None else source,
            column=column or (data.column if own else None),
            max_length=data.max_length,
            seed=data.split_seed,
            whole=not own if whole is None else whole,
        )
        self.check_channels(found.size)
        return found

    def is_training_corpus(self, source: Any) -> bool:
        """Tell whether a corpus is that of the training, by its name; None stands for it."""
        return source is None or (isinstance(source, str | os.PathLike) and locate(source) == self.config.corpus)

    def read_training_keys(self) -> np.ndarray | None:
        """Return keys (N,) of the training series, equal for equal series; None if the corpus has changed."""
        found = self.read_corpus(self.config)
        if found.train is None or found.content != self.checkpoint.facts.get("content"):
            return None
        return found.train.keys

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def evaluate(
        self, split: SeriesSplit, *, samples: int = 100, seed: int = 0, seeds: int = 1, refined: int = 100
    ) -> Scores:
        """Score a split (see `score_split`)."""
        if not isinstance(split, SeriesSplit):
            raise ConfigError(
                f"a {type(split).__name__} was given where a split is expected: write "
                "model.load_corpus(series, whole=True).test"
            )
        check_seed(seed)
        check_whole(0, samples=samples, seeds=seeds, refined=refined)
        options: dict[str, Any] = {"samples": samples, "seed": seed, "seeds": seeds, "refined": refined}
        return score_split(self.model, split, target_kl=self.config.kl_target, **options)[0]

    def score_reconstructions(self, split: SeriesSplit) -> SeriesScores:
        """Compare the series of a split with their reconstructions from posterior means, without noise."""
        originals = split.series()
        means = self._posterior(iterate_by_length(split, ROWS)).mode
        forced = self._unroll(means, frames=[len(series) for series in originals])
        mean, std = (values.cpu().numpy() for values in (self.frames.scaler.mean, self.frames.scaler.std))
        return compare_reconstructions(originals, forced, self._unroll(means), mean, std)

    def choose_examples(self, split: SeriesSplit, count: int = 3) -> tuple[list[np.ndarray], None]:
        """Choose series evenly spread over a split; always the same ones. There are no labels beside them."""
        return split.at_most(count).series(), None

    def preview_samples(self) -> list[str]:
        """Generate five series for the model card, as pictures of their first channel in a line of text."""
        return [f"`{draw_line(one)}`" for one in self.sample(5, seed=0, temperature=0.5)]

    # -- channels and labels ------------------------------------------------------------------------------------------

    def check_channels(self, given: int) -> None:
        """Raise a `ConfigError` unless frames have as many channels as the model was trained on."""
        if given != self.frames.size:
            raise ConfigError(f"frames have {given} channels: this model needs {self.frames.size}")

    def number_labels(self, labels: Labels, count: int) -> None:
        """Raise a `ConfigError` for labels, which a model of series has not."""
        number_labels(labels, self.labels, None, count)

    def sample_labels(self, n: int, *, seed: int | None = None) -> None:
        """Return nothing, as there are no labels."""

    def read_labels(self, split: SeriesSplit) -> None:
        """Return nothing, as there are no labels."""

    def _make_split(self, series: Sequence[Any], labels: Labels) -> SeriesSplit:
        """Make a split of series in memory, checked, truncated at the length that the model was trained with."""
        if isinstance(series, np.ndarray | Tensor) and series.ndim < 3:
            raise ConfigError("one series was given where a list of series is expected: write [series]")
        if isinstance(series, str | bytes) or not isinstance(series, Iterable):
            raise ConfigError(f"{shorten(series)} was given where a list of series is expected: write [series]")
        table = read_series(series, self.config.data.column)
        self.check_channels(table.values.shape[1])
        self.number_labels(labels, len(table.lengths))
        return SeriesSplit(table, np.arange(len(table.lengths)), self.config.data.max_length)

    def _unroll(
        self, z: Points, *, seed: int | None = None, temperature: float = 0.0, **options: Any
    ) -> GeneratedSeries:
        z = read_points(z, self.model.latent, next(self.model.parameters()))
        options.setdefault("max_length", self.config.data.max_length)
        stream = Stream(seed)
        if temperature:
            options["generator"] = stream.generator()
        return decode_frames(self.model, z, temperature=temperature, **options)


def draw_line(series: np.ndarray, channel: int = 0) -> str:
    """Draw a channel of a series in a line of text, from its least to its largest value.

    >>> draw_line(np.array([[0.0], [1.0], [2.0]]))
    '▁▄█'
    """
    values = series[:, channel]
    if not len(values):
        return "(no frame)"
    reach = np.ptp(values) or 1.0
    return "".join(LEVELS[int(level)] for level in (values - values.min()) / reach * (len(LEVELS) - 1))
