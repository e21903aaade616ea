"""A training that is watched from outside: its steps one by one, a progress bar, its history."""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from seqvae.errors import ConfigError
from seqvae.training.checkpoint import read_metrics
from seqvae.training.loop import Run, Validation, fit
from seqvae.training.trainer import Step

M = TypeVar("M")
RECENT = 50  # steps that the progress bar averages over


class History(list[dict[str, Any]]):
    """What a training logged, a dict a line: `kind` (train or valid), `step`, `reconstruction`, `kl` (nats) and others.

    >>> history = History([{"kind": "valid", "step": 50, "kl": 2.0}, {"kind": "train", "step": 50, "kl": 1.9}])
    >>> history.validations
    [{'kind': 'valid', 'step': 50, 'kl': 2.0}]
    """

    @property
    def validations(self) -> "History":
        """The lines about the validation sentences alone."""
        return History(row for row in self if row["kind"] == "valid")

    def to_pandas(self) -> Any:
        """Return a data frame of pandas, a row a line.

        Raises:
            ConfigError: if pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ConfigError("a data frame needs pandas: pip install pandas") from None
        return pandas.DataFrame(list(self))

    def plot(self) -> Any:
        """Draw -ELBO, reconstruction and KL of the validation sentences over steps; return the figure of matplotlib.

        Raises:
            ConfigError: if matplotlib is not installed, or there was no validation.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ConfigError("a picture needs matplotlib: pip install 'seqvae[plot]'") from None
        rows = self.validations
        if not rows:
            raise ConfigError("this model has no history: it is kept by `fit`, and in metrics.jsonl of a model folder")
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        steps = [row["step"] for row in rows]
        axes.plot(steps, [-row["elbo"] for row in rows], "-", color="#000000", label="-ELBO")
        axes.plot(steps, [row["reconstruction"] for row in rows], "--", color="#0072B2", label="reconstruction")
        axes.plot(steps, [row["kl"] for row in rows], ":", color="#D55E00", label="KL")
        axes.set(xlabel="step", ylabel="nats, of validation")
        axes.legend()
        return figure

    @classmethod
    def read(cls, path: Path) -> "History":
        """Read a metrics.jsonl; empty where there is none, and without the lines that cannot be read."""
        return cls(read_metrics(path))


class Session(Generic[M]):
    """A training that has not begun: iterating it makes the steps; `model` is what has been learnt.

    It yields a `Step` for each step and a `Validation` after each validation. Leaving the loop ends the training.

    Attributes:
        run: the model, the optimizer and the data (`run.trainer`, `run.model`).
    """

    def __init__(self, run: Run, finish: Callable[[Run], M], progress: bool | None) -> None:
        self.run, self._finish, self._progress = run, finish, progress
        self._model: M | None = None
        self._ended = self._begun = False

    @property
    def history(self) -> History:
        """What was logged so far."""
        return History(self.run.history)

    def __iter__(self) -> Iterator[Step | Validation]:
        """Make the steps of the training.

        Raises:
            ConfigError: where it has been iterated before.
        """
        if self._begun:
            raise ConfigError("this training has been iterated before: make another one with TextVAE.training(...)")
        self._begun = True
        recent: deque[tuple[Step, float]] = deque(maxlen=RECENT)
        with make_bar(self._progress) as bar:
            for event in fit(self.run):
                if isinstance(event, Step):
                    recent.append((event, self.run.trainer.seconds))
                    if not bar.disable:
                        bar.set_postfix_str(format_progress(recent), refresh=False)
                    bar.update(event.progress - bar.n)
                yield event
        self._ended = True

    @property
    def model(self) -> M:
        """The best model so far; the training ends here, with the steps that were made."""
        if self._model is None:
            if not self._ended:
                if not self.run.best.step:
                    self.run.keep()
                self.run.restore_best()
            self._ended = self._begun = True
            self._model = self._finish(self.run)
        return self._model


def run_session(session: Session[M]) -> M:
    """Make all steps of a training and return the model."""
    for _ in session:
        pass
    return session.model


def make_bar(progress: bool | None) -> Any:
    """Return a progress bar, from 0 to 1, on standard error; by default it is shown in a terminal and in a notebook."""
    from tqdm.auto import tqdm

    shown = (sys.stderr.isatty() or "ipykernel" in sys.modules) if progress is None else progress
    form = "{percentage:3.0f}% |{bar:16}| {elapsed} < {remaining}{postfix}"
    return tqdm(total=1.0, disable=not shown, bar_format=form, mininterval=0.2, dynamic_ncols=True)


def format_progress(recent: Sequence[tuple[Step, float]]) -> str:
    """Format the terms of the loss, averaged over the recent steps."""
    steps = [step for step, _ in recent]
    sentences = sum(step.report.sentences for step in steps)
    reconstruction = sum(step.report.reconstruction * step.report.sentences for step in steps) / sentences
    kl = sum(step.report.kl * step.report.sentences for step in steps) / sentences
    seconds = recent[-1][1] - recent[0][1]
    speed = sum(step.report.tokens for step in steps[1:]) / seconds if seconds else 0.0
    last = steps[-1]
    return (
        f" epoch {last.epoch + 1} step {last.step:,} | reconstruction {reconstruction:.1f} + {last.report.weight:.2f} "
        f"x KL {kl:.1f} nats | {speed:,.0f} tokens/s"
    )
