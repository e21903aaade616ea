"""The loop around the trainer: validate, keep the best model, log, save; all in sight and none of it printed.

`fit` is a generator too: it yields each `Step` and each `Validation`, and whoever iterates shows them, or does not.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from seqvae.config import Config, met, miss
from seqvae.data.batching import Batches, ordered
from seqvae.data.series.corpus import SeriesCorpus, SeriesSplit
from seqvae.data.text.corpus import Corpus, Split
from seqvae.errors import CheckpointError, ConfigError, CorpusError, TrainingError
from seqvae.evaluation.latent_space import Vitals, vitals
from seqvae.evaluation.likelihood import Bound, validate
from seqvae.model.observations import Frames
from seqvae.training.build import build_model, build_objective, build_update
from seqvae.training.checkpoint import METRICS, STATE, Checkpoint, append, load_state, save_state, write
from seqvae.training.runtime import agreed, interruption
from seqvae.training.sharing import follow_main
from seqvae.training.trainer import HALVINGS, Step, Trainer


@dataclass(frozen=True)
class Validation:
    """The true bound (weight 1, raw KL) on validation sentences, in nats per sentence.

    Attributes:
        step: after how many steps.
        reconstruction, kl: its two parts.
        kept: whether the model of this moment is the best so far and stands in the folder.
        weight, learning_rate: of the last step.
        seconds: that the training has taken, validations included, over all resumed parts.
        tokens_per_second: of the training since the run began or went on, validations not counted.
        vitals: whether z is used; None for a model without z, and for a single validation sentence.
    """

    step: int
    reconstruction: float
    kl: float
    kept: bool
    weight: float
    learning_rate: float
    seconds: float
    tokens_per_second: float
    vitals: Vitals | None

    @property
    def elbo(self) -> float:
        """-(reconstruction + kl)."""
        return -(self.reconstruction + self.kl)


@dataclass
class Best:
    """The best validation so far.

    One counts only once the schedule has reached its full weight, the divergence its rate if it has one, and steps
    are made as they will be to the end. Before, the latest model is the best, since one that has not been asked to
    compress, or not yet to use z, would win with a bound that means little; after, none from a time at which the rate
    had left its target again. If the KL has a target, one that meets it is better than any that does not.

    Attributes:
        value: the true bound (for an autoencoder, which has none, -reconstruction), nats per sentence.
        settled: 0 before, 1 after, 2 where the KL meets its target too.
        kl: nats per sentence.
    """

    value: float = -float("inf")
    settled: int = 0
    step: int = 0
    waited: int = 0  # validations since then
    kl: float = float("nan")

    def offer(self, value: float, step: int, settled: int, kl: float = float("nan")) -> bool:
        """Whether this one is better; if so it takes the place."""
        if settled < self.settled or (settled == self.settled > 0 and value <= self.value):
            self.waited += 1
            return False
        self.value, self.settled, self.step, self.waited, self.kl = value, settled, step, 0, kl
        return True


LOG_EVERY = 50  # steps between two lines of metrics.jsonl
SHORTEST, LONGEST = 50, 2000  # steps between two validations, unless the user says otherwise
VALIDATED = 5000  # sentences that a validation looks at, at most
WATCHED = 1000  # sentences of these whose use of z is looked at


@dataclass
class Run:
    """One training: what goes in, and where the results go.

    Attributes:
        config: all options.
        corpus: with a train and a valid split.
        folder: where the model goes; None keeps the best weights in memory alone.
        resume: go on from the state in `folder`.
        accelerator: made from the options if not given.
        interrupted: whether the user stopped it.
    """

    config: Config
    corpus: Corpus | SeriesCorpus
    folder: Path | None = None
    resume: bool = False
    accelerator: Accelerator = field(default_factory=lambda: Accelerator(mixed_precision="no"))
    best: Best = field(default_factory=Best)
    interrupted: bool = False

    def __post_init__(self) -> None:
        train: Split | SeriesSplit | None = self.corpus.train
        valid: Split | SeriesSplit | None = self.corpus.valid
        training = self.config.training
        if train is None or valid is None:
            raise CorpusError(f"{self.corpus.name} has no training or no validation sentences")
        if bool(self.corpus.labels) != (self.config.data.label_column is not None):
            asked = f"label_column = {self.config.data.label_column!r}"
            raise ConfigError(f"{asked}, but {self.corpus.name} was read with another: expected the same in both")
        self.valid = valid
        torch.manual_seed(training.seed)
        self.model = build_model(self.config, self.corpus.size, len(self.corpus.labels))
        if isinstance(self.corpus, SeriesCorpus) != isinstance(self.model.observation, Frames):
            kind = "tokens, as this is text" if isinstance(self.corpus, Corpus) else "frames, as these are series"
            raise ConfigError(f"model.observation.name = {self.config.model.observation['name']}: expected {kind}")
        if isinstance(self.corpus, SeriesCorpus) and isinstance(self.model.observation, Frames):
            self.model.observation.scaler.fit(*map(torch.from_numpy, self.corpus.moments))
        self.objective = build_objective(self.config, vocabulary=self.corpus.size, sentences=len(train))
        batches = Batches(
            train,
            batch_size=training.batch_size,
            seed=training.seed,
            exact_length=training.exact_length,
            max_tokens=training.tokens_per_batch,
        )
        rule = build_update(self.config)
        self.trainer = Trainer(self.model, self.objective, batches, training, self.accelerator, rule)
        if self.resume:
            self._load()
        elif self.folder is not None and self.accelerator.is_main_process:
            keep_lines(self.folder / METRICS, 0)  # of a run that was killed before it saved anything

    @property
    def checkpoint(self) -> Checkpoint:
        """The model as it is now."""
        corpus, step = self.corpus, self.trainer.step
        known = {"fingerprint": corpus.fingerprint, "content": corpus.content}
        facts = {"corpus": corpus.name, "notes": corpus.notes} | known | {"step": step}
        return Checkpoint(self.config, self.model, self.corpus.tokenizer, facts, corpus.labels)

    @property
    def missed(self) -> str | None:
        """What to say of a kept model that has not the KL that was asked for; None where it has, or none was."""
        target, kl = self.config.held_kl, self.best.kl
        if target is None or self.best.settled > 1:
            return None
        if met(kl, target):
            return f"the KL of the kept model is {kl:.2f}, but it had not stayed at its target {target:g}: train longer"
        return f"{miss(kl, target)}, on the validation sentences: train longer, or ask for another"

    def _load(self) -> None:
        if self.folder is None:
            raise ConfigError("resume = True without a folder: name the folder of the run to go on with")
        state = load_state(self.folder)
        try:
            if state["corpus"] != self.corpus.fingerprint:
                raise CheckpointError(
                    f"{self.corpus.name} has changed since the run in {self.folder} began: start a new run"
                )
            self.best = Best(**state["best"])
            self.trainer.load_state(state)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError):
            raise CheckpointError(f"{self.folder / STATE} is not of this run: it cannot be resumed") from None
        if self.accelerator.is_main_process:
            keep_lines(self.folder / METRICS, self.trainer.step)

    def save_state(self) -> None:
        """Write what `resume` needs, in the main process."""
        if self.folder is not None and self.accelerator.is_main_process:
            save_state(self.folder, self.trainer.state() | {"best": vars(self.best), "corpus": self.corpus.fingerprint})

    def log(self, **values: Any) -> None:
        """Add a line to metrics.jsonl and pass its numbers on to the trackers, in the main process."""
        if self.folder is not None and self.accelerator.is_main_process:
            append(self.folder / METRICS, json.dumps(values) + "\n")
        kind, step = values.pop("kind"), values.pop("step")
        self.accelerator.log({f"{kind}/{name}": value for name, value in values.items()}, step=step)


def fit(run: Run) -> Iterator[Step | Validation]:
    """Train until the options, the patience or the user (Ctrl-C) say stop; the best model is then in `run.model`.

    Raises:
        TrainingError: when training cannot go on; the best model so far stands in the folder.
    """
    training, trainer = run.config.training, run.trainer
    every = training.validate_every or min(LONGEST, count_between(trainer.batches.steps))
    kept: dict[str, torch.Tensor] = {}
    validated, tokens, idle = trainer.step, 0, trainer.seconds
    with interruption() as asked:
        for step in _steps(run):
            tokens += step.report.tokens
            speed = tokens / max(trainer.seconds - idle, 1e-9)
            if step.step % LOG_EVERY == 0:
                run.log(kind="train", **plain(step))
            yield step
            if step.step % every == 0:
                validated, begin = step.step, time.perf_counter()
                yield _validate(run, kept, step, speed)
                if (
                    training.learning_rate_patience
                    and run.best.waited
                    and run.best.waited % training.learning_rate_patience == 0
                ):
                    trainer.halvings += 1
                run.save_state()
                idle += time.perf_counter() - begin
                if trainer.halvings > HALVINGS or (training.patience and run.best.waited >= training.patience):
                    break
            if agreed(run.accelerator, asked.is_set()):
                run.interrupted = True
                run.save_state()
                if run.best.step:  # else what follows sees to it that a model is kept
                    validated = step.step
                break
        if validated != trainer.step:
            yield _validate(run, kept, step, speed)
            if not asked.is_set():
                run.save_state()
    _restore(run, kept)


def count_between(steps: int) -> int:
    """Count the steps of as few epochs as have `SHORTEST` together: a validation may cost as much as several of them.

    >>> count_between(700), count_between(50), count_between(20), count_between(1)
    (700, 50, 60, 50)
    """
    return steps * -(-SHORTEST // steps)


def _steps(run: Run) -> Iterator[Step]:
    """The trainer's; if they break down before the first validation, the weights of the last good step are saved."""
    try:
        yield from run.trainer.steps()
    except TrainingError:
        if run.folder is not None and run.trainer.step > run.best.step == 0 and run.accelerator.is_main_process:
            run.checkpoint.save(run.folder)
        raise


def _validate(run: Run, kept: dict[str, torch.Tensor], step: Step, speed: float) -> Validation:
    number = run.trainer.step
    bound = bound_of(run)
    said, cost = bound.reconstruction / bound.sentences, bound.kl / bound.sentences
    value = -said if run.config.kind == "ae" else -bound.nll
    follow_main(run.accelerator, run.model, run.objective, run.trainer.rule)
    run.objective.observe(cost)
    full = run.trainer.scheduled > run.objective.weight.settled  # the last step was one before that
    settled = full and run.objective.settled and run.trainer.rule.settled
    better = run.best.offer(value, number, settled * (1 + met(cost, run.config.held_kl)), cost)
    if better:
        if run.folder is None:
            kept.update({name: tensor.detach().clone() for name, tensor in run.model.state_dict().items()})
        elif run.accelerator.is_main_process:
            run.checkpoint.save(run.folder)
    seen = vitals_of(run)
    run.trainer.rule.observe(seen)
    weight, rate, seconds = step.report.weight, step.learning_rate, run.trainer.seconds
    validation = Validation(number, said, cost, better, weight, rate, seconds, speed, seen)
    values = dict(vars(validation), elbo=validation.elbo)
    del values["vitals"]
    run.log(kind="valid", **values, **(vars(seen) if seen else {}))
    return validation


def bound_of(run: Run) -> Bound:
    """The bound on the validation sentences, each process measuring its share of the batches."""
    rank, world = run.accelerator.process_index, run.accelerator.num_processes
    batches = islice(ordered(run.valid.at_most(VALIDATED), batch_size=128), rank, None, world)
    sums = validate(run.model, batches, seed=run.config.training.seed).tensor()
    return Bound.of(run.accelerator.reduce(sums.to(run.accelerator.device), reduction="sum"))


def vitals_of(run: Run) -> Vitals | None:
    """Whether z is used on the validation sentences: measured in the main process, known to all, errors too."""
    watched = run.valid.at_most(WATCHED)
    seen: list[Vitals | TrainingError | None] = [None]
    if run.accelerator.is_main_process and len(watched) > 1:
        try:
            seen = [vitals(run.model, ordered(watched, batch_size=128), seed=run.config.training.seed)]
        except TrainingError as error:
            seen = [error]
    (found,) = broadcast_object_list(seen)
    if isinstance(found, TrainingError):
        raise found
    return found


def _restore(run: Run, kept: dict[str, torch.Tensor]) -> None:
    """Put the best weights back into the model, and take accelerate's wrapping off it."""
    run.accelerator.unwrap_model(run.trainer.prepared, keep_fp32_wrapper=False)
    run.model.to("cpu")
    if run.folder is None:
        run.model.load_state_dict(kept or run.model.state_dict())
        return
    run.accelerator.wait_for_everyone()
    run.model.load_state_dict(Checkpoint.load(run.folder).model.state_dict())


def plain(step: Step) -> dict[str, Any]:
    """A step as one flat line of numbers."""
    values = dict(vars(step))
    return values | vars(values.pop("report"))


def keep_lines(path: Path, step: int) -> None:
    """Drop the lines of metrics.jsonl that a killed run wrote after its last saved state."""
    if not path.is_file():
        return
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                lines.append(line)
        except ValueError:  # the line that the kill cut short
            break
    write(path, lambda beside: beside.write_text("".join(line + "\n" for line in lines), encoding="utf-8"))
