"""The training loop: step, validate, keep the best model, log, save. It prints nothing.

`fit` is a generator of `Step`s and `Validation`s. Progress bars, notebooks and loggers iterate it:

    run = Run(config, corpus, folder)
    for event in fit(run):
        if isinstance(event, Validation):
            print(event.step, event.elbo)
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from seqvae.config import Config, adapt_to_corpus, describe_adaptation, describe_miss, meets_target
from seqvae.data.batching import Batches, iterate_by_length
from seqvae.data.corpus import Corpus
from seqvae.errors import CheckpointError, ConfigError, CorpusError, TrainingError
from seqvae.evaluation import likelihood
from seqvae.evaluation.latent_space import LatentUsage, measure_latent_usage
from seqvae.latent.refit import refit_prior
from seqvae.model.priors import Prior
from seqvae.training.build import build_model, build_objective, build_update
from seqvae.training.checkpoint import CONFIG, METRICS, STATE, Checkpoint, append, load_state, save_state
from seqvae.training.distributed import any_process, broadcast_state
from seqvae.training.init import Init, apply_init
from seqvae.training.own_parts import get_own_parts
from seqvae.training.runs import RESOLVED, lock, truncate_metrics, write_options
from seqvae.training.trainer import HALVINGS, Step, Trainer
from seqvae.training.vectors import freeze_rows, place_vectors
from seqvae.training.weighting import drop_weightless, identify

if TYPE_CHECKING:
    from accelerate import Accelerator

LOG_INTERVAL = 50  # steps between two lines of metrics.jsonl
MIN_INTERVAL, MAX_INTERVAL = 50, 2000  # steps between two validations, if the options do not set them
VALIDATED = 5000  # sentences of a validation, at most
LOST = 1.0  # nats that an earlier model is better by, for a warning
PROBED = 1000  # of these, sentences on which the use of z is measured, at most


def fit(run: Run) -> Iterator[Step | Validation]:
    """Train until the limits, the patience or Ctrl-C; `run.model` then has the best weights.

    Raises:
        TrainingError: when training cannot continue; the best model so far is in the folder.
    """
    from seqvae.training.runtime import catch_interrupt

    trainer, speed = run.trainer, Speed(run.trainer)
    with catch_interrupt() as interrupt:
        for step in () if run.out_of_patience else _save_if_diverged(run):  # a resumed run may have ended before
            speed.tokens += step.report.tokens
            if step.step % LOG_INTERVAL == 0:
                run.log("train", flatten(step))
            yield step
            if step.step % run.interval == 0:
                with speed.pause():
                    yield validate(run, speed.tokens_per_second)
                    run.halve_learning_rate()
                    run.save_state()
                if run.out_of_patience:
                    break
            if any_process(run.accelerator, interrupt.is_set()):
                run.interrupted, run.terminated = True, interrupt.terminated
                run.save_state()
                break
        if run.validated != trainer.step and not (run.interrupted and run.best.step):
            yield validate(run, speed.tokens_per_second)
            if not run.interrupted:  # else a resumed run continues from before this validation
                run.save_state()
    run.restore_best()
    if not run.terminated:
        run.refit_prior()


@dataclass(frozen=True)
class Validation:
    """The true bound (weight 1, raw KL) on the validation sentences, nats per sentence.

    Attributes:
        step: the number of steps before it.
        reconstruction, kl: the two parts of the bound.
        kept: whether this model is the best so far, and so the one in the folder.
        stationary: whether objective and steps are as until the end; before, the latest model is kept, better or not.
        weight, learning_rate: of the last step.
        seconds: of the training so far, validations included, over all resumed parts.
        tokens_per_second: of the training since it began or was resumed, validations excluded.
        usage: whether z is used; None for a model without z, and for a single validation sentence.
    """

    step: int
    reconstruction: float
    kl: float
    kept: bool
    stationary: bool
    weight: float
    learning_rate: float
    seconds: float
    tokens_per_second: float
    usage: LatentUsage | None

    @property
    def elbo(self) -> float:
        """-(reconstruction + kl)."""
        return -(self.reconstruction + self.kl)


def validate(run: Run, tokens_per_second: float) -> Validation:
    """Measure the bound and the use of z on the validation sentences, keep the model if it is the best, and log."""
    trainer, objective = run.trainer, run.objective
    bound = measure_bound(run)
    reconstruction, kl = bound.reconstruction / bound.sentences, bound.kl / bound.sentences
    broadcast_state(run.accelerator, run.model, objective, trainer.rule)
    objective.observe(kl)
    tier = run.find_tier(kl)
    kept = run.best.offer(run.score(bound), trainer.step, tier, kl)
    if kept:
        run.keep()
    usage = measure_usage(run)
    trainer.rule.observe(usage)
    run.validated = trainer.step
    validation = Validation(
        step=trainer.step,
        reconstruction=reconstruction,
        kl=kl,
        kept=kept,
        stationary=tier > 0,
        weight=trainer.weight,
        learning_rate=trainer.rate,
        seconds=trainer.seconds,
        tokens_per_second=tokens_per_second,
        usage=usage,
    )
    run.log("valid", flatten(validation) | {"elbo": validation.elbo} | (vars(usage) if usage else {}))
    return validation


def measure_bound(run: Run) -> likelihood.Bound:
    """Sum the bound over the validation sentences, each process measuring some of the batches."""
    rank, world = run.accelerator.process_index, run.accelerator.num_processes
    batches = islice(iterate_by_length(run.valid.at_most(VALIDATED), batch_size=128), rank, None, world)
    sums = likelihood.validate(run.model, batches, seed=run.config.training.seed).tensor()
    return likelihood.Bound.of(run.accelerator.reduce(sums.to(run.accelerator.device), reduction="sum"))


def measure_usage(run: Run) -> LatentUsage | None:
    """Measure the use of z on the validation sentences in the main process; all processes get the result, or error."""
    from accelerate.utils import broadcast_object_list

    sentences = run.valid.at_most(PROBED)
    found: list[LatentUsage | TrainingError | None] = [None]
    if run.accelerator.is_main_process and len(sentences) > 1:
        try:
            found = [
                measure_latent_usage(
                    run.model, iterate_by_length(sentences, batch_size=128), seed=run.config.training.seed
                )
            ]
        except TrainingError as error:
            found = [error]
    (usage,) = broadcast_object_list(found)
    if isinstance(usage, TrainingError):
        raise usage
    return usage


@dataclass
class Best:
    """The best validation so far.

    A model counts once the schedule has reached its full weight, the divergence its rate if it has one, and steps are
    made as they will be until the end. Before that the latest model is the best: the bound of a model that need not
    compress or use z yet means little. Afterwards no model counts while the rate is off its target again. If the
    KL has a target, a model that meets it is better than any that does not.

    Attributes:
        value: the true bound, nats per sentence, with the part of the KL that the divergence bounds (see `Run.score`).
        tier: 0 while objective or steps still change, 1 afterwards, 2 if the KL also meets its target.
        step: of this validation.
        since_best: the number of validations since.
        kl: nats per sentence.
    """

    value: float = -float("inf")
    tier: int = 0
    step: int = 0
    since_best: int = 0
    kl: float = float("nan")

    def offer(self, value: float, step: int, tier: int, kl: float = float("nan")) -> bool:
        """Take this validation if it is better; return whether it is."""
        if tier < self.tier or (tier == self.tier > 0 and value <= self.value):
            self.since_best += 1
            return False
        self.value, self.tier, self.step, self.since_best, self.kl = value, tier, step, 0, kl
        return True


def _make_accelerator() -> Accelerator:
    from accelerate import Accelerator

    return Accelerator(mixed_precision="no")


@dataclass
class Run:
    """A training: its inputs, and where the results go.

    Attributes:
        config: all options; those that the size of the corpus decides become numbers.
        corpus: with a train and a valid split.
        folder: of the model; None keeps the best weights in memory only.
        resume: continue from the state in `folder`.
        accelerator: device, precision and other processes; default: fp32 on the device that accelerate finds.
        init: the model that the training begins with.
        notes: log lines about that, and about the options that the size of the corpus decided.
        best: the best validation so far.
        interrupted: whether Ctrl-C or SIGTERM ended the training.
        terminated: whether that was SIGTERM, as of a cluster that takes the machine back: there is no time for reports.
        validated: the step of the last validation.
        replaced: the model in the folder of a resumed run whose prior was fitted again, until another is kept.
        history: the lines of metrics.jsonl since the training began or was resumed.
        locks: of a folder that took the place of a removed one.
    """

    config: Config
    corpus: Corpus
    folder: Path | None = None
    resume: bool = False
    accelerator: Accelerator = field(default_factory=_make_accelerator)
    init: Init | None = None
    best: Best = field(default_factory=Best)
    interrupted: bool = False
    terminated: bool = False
    validated: int = 0
    replaced: Checkpoint | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    locks: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        if self.corpus.train is None or self.corpus.valid is None:
            raise CorpusError(f"{self.corpus.name} has no training or no validation {self.corpus.units}")
        if bool(self.corpus.labels) != (self.config.data.label_column is not None):
            given = f"label_column = {self.config.data.label_column!r}"
            raise ConfigError(f"{given}, but {self.corpus.name} was read with another: expected the same in both")
        self.described = self.folder is not None and (self.folder / RESOLVED).is_file()
        self.train, self.valid = drop_weightless(self.corpus.train), self.corpus.valid
        steps = int(self.train.lengths.sum())
        adapted = describe_adaptation(self.config, steps, self.corpus.observation)
        self.config = adapt_to_corpus(self.config, steps)
        self.trainer = self._build_trainer()
        self.notes += [adapted] if adapted else []
        self.model, self.objective = self.trainer.model, self.trainer.objective
        self.interval = self.config.training.validate_every or set_interval(self.trainer.batches.steps)
        self.best_weights: dict[str, torch.Tensor] = {}  # if there is no folder
        if self.resume:
            self._load_state()
        elif self.folder is not None and self.accelerator.is_main_process:
            truncate_metrics(self.folder / METRICS, 0)  # of a run that was killed before it saved anything

    def _build_trainer(self) -> Trainer:
        """Build model, objective and batches, the weights from the seed of the options."""
        training, corpus = self.config.training, self.corpus
        torch.manual_seed(training.seed)
        model = build_model(self.config, corpus.size, len(corpus.labels))
        if model.observation.kind != corpus.observation:
            given = f"model.observation.name = {self.config.model.observation['name']}"
            raise ConfigError(f"{given}: expected {corpus.observation}, as {corpus.name} is made of {corpus.units}")
        model.observation.fit_scale(corpus.moments)
        if self.init is not None and not self.init.resumed:
            self.init.load_weights(model, corpus)
        self.notes = apply_init(self.config, self.init, corpus, model)
        data, ids = self.config.data, None
        if data.embeddings is not None and (data.embeddings_frozen or not self.resume):  # else they are in its state
            ids = place_vectors(model, corpus, data)
        objective = build_objective(self.config, vocabulary=corpus.size, sentences=len(self.train))
        batches = Batches(
            self.train,
            batch_size=training.batch_size,
            seed=training.seed,
            exact_length=training.exact_length,
            max_tokens=training.tokens_per_batch,
        )
        trainer = Trainer(model, objective, batches, training, self.accelerator, build_update(self.config))
        if ids is not None and data.embeddings_frozen:
            freeze_rows(model, ids, trainer.optimizer.optimizer)
        return trainer

    # -- the best model -----------------------------------------------------------------------------------------------

    @property
    def kl_weight(self) -> float:
        """How much of the KL counts where models are compared: none for autoencoders and divergences of q_agg alone."""
        return 0.0 if self.config.kind == "ae" else self.objective.divergence.kl_weight

    def score(self, bound: likelihood.Bound) -> float:
        """Return what the best model has most of, nats per sentence: the ELBO, with `kl_weight` of the KL."""
        return -bound.weigh(self.kl_weight)

    def find_tier(self, kl: float) -> int:
        """Return the `Best.tier` of the model as it is now, whose validation sentences have this mean KL."""
        full_weight = self.trainer.schedule_step > self.objective.weight.annealing_steps  # at the last step
        stationary = full_weight and self.objective.stationary and self.trainer.rule.stationary
        return stationary * (1 + meets_target(kl, self.config.kl_target))

    def keep(self) -> None:
        """Keep the model as it is now as the best: in the folder, or else in memory."""
        if self.folder is None:
            self.best_weights = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        elif self.accelerator.is_main_process:
            if self.replaced is None:
                self.checkpoint.save(self.folder)
            else:
                self.checkpoint.save_over(self.folder, self.replaced)
                self.replaced = None

    def restore_best(self) -> None:
        """Put the best weights back into the model, on the CPU and without accelerate's wrapper."""
        self.accelerator.unwrap_model(self.trainer.wrapped, keep_fp32_wrapper=False)
        self.model.to("cpu")
        if self.folder is None:
            self.model.load_state_dict(self.best_weights or self.model.state_dict())
            return
        self.accelerator.wait_for_everyone()
        best = Checkpoint.load(self.folder, get_own_parts(self.config))
        self.model.prior = best.model.prior  # of another size where it was fitted again, before the run was resumed
        self.model.load_state_dict(best.model.state_dict())

    def refit_prior(self) -> None:
        """Fit the prior again, if it is a mixture whose option `refit` asks for it, and the KL then meets a target."""
        part = self.config.model.prior
        frozen = "prior" in self.config.training.freeze
        if self.config.kind != "vae" or part["name"] != "mixture" or not part.get("refit") or frozen:
            return
        prior = refit_prior(self.model, self.train, self.valid, components=part["refit"])
        if prior is None or self._misses_target(prior):
            return
        self.model.prior = prior
        part = {**part, "components": len(prior.logits)}
        self.config = replace(self.config, model=replace(self.config.model, prior=part))
        if self.folder is not None and self.accelerator.is_main_process:
            best = Checkpoint.load(self.folder, get_own_parts(self.config))
            replace(best, model=self.model, config=self.config).save_over(self.folder, best)

    def _misses_target(self, prior: Prior) -> bool:
        """Return whether the KL of validation sentences to this prior misses the target; else it is that of `best`."""
        if self.config.kl_target is None:
            return False
        former, self.model.prior = self.model.prior, prior
        bound = measure_bound(self)
        self.model.prior, kl = former, bound.kl / bound.sentences
        if not meets_target(kl, self.config.kl_target):
            return True
        self.best.kl, self.best.tier = kl, 2 if self.best.tier else 0
        return False

    @property
    def checkpoint(self) -> Checkpoint:
        """The model as it is now."""
        corpus = self.corpus
        facts = {
            "corpus": corpus.name,
            "notes": corpus.notes,
            "fingerprint": corpus.fingerprint,
            "content": corpus.content,
            "step": self.trainer.step,
            "schedule_step": self.trainer.schedule_step,
        }
        if self.init is not None:
            facts["init"] = self.init.origin
        return Checkpoint(self.config, self.model, corpus.tokenizer, facts, corpus.labels)

    @property
    def target_warning(self) -> str | None:
        """A warning if the KL of the kept model misses its target; None if it meets it, or there is none."""
        target, kl = self.config.kl_target, self.best.kl
        if target is None or self.best.tier > 1:
            return None
        if meets_target(kl, target):
            return f"the KL of the kept model is {kl:.2f}, but it had not stayed at its target {target:g}: train longer"
        return (
            f"{describe_miss(kl, target)}, on the validation {self.corpus.units}: train longer, or set another target"
        )

    @property
    def overfit_warning(self) -> str | None:
        """A warning if a model from before the end of the KL weight's rise was better; None if not.

        Where the true bound chooses and the KL has no target, that happens in a training that is too long alone.
        """
        early = [line for line in self.history if line["kind"] == "valid" and not line["stationary"]]
        if not early or not self.best.tier or self.kl_weight != 1 or self.config.kl_target is not None:
            return None
        first = max(early, key=lambda line: float(line["elbo"]))
        lost = first["elbo"] - self.best.value
        if lost < LOST:
            return None
        units = self.corpus.units
        words = (
            ", or hide words from the decoder: --model.noise.rate 0.3" if self.corpus.observation == "tokens" else ""
        )
        return (
            f"step {first['step']:,} was better by {lost:.1f} nats on the validation {units}, but the objective "
            f"still changed then: the training is too long for so few {units}: set a shorter one{words}"
        )

    # -- patience -----------------------------------------------------------------------------------------------------

    def halve_learning_rate(self) -> None:
        """Halve the learning rate after every `learning_rate_patience` validations without a better one."""
        patience, waited = self.config.training.learning_rate_patience, self.best.since_best
        if patience and waited and waited % patience == 0:
            self.trainer.halvings += 1

    @property
    def out_of_patience(self) -> bool:
        """Whether validations without a better one end the training."""
        patience = self.config.training.patience
        return self.trainer.halvings > HALVINGS or bool(patience and self.best.since_best >= patience)

    # -- files --------------------------------------------------------------------------------------------------------

    def log(self, kind: str, values: dict[str, Any]) -> None:
        """Add a line to `history` and to metrics.jsonl, and pass its numbers to the trackers, in the main process."""
        self.history.append({"kind": kind} | values)
        if self.folder is not None and self.accelerator.is_main_process:
            append(self.folder / METRICS, json.dumps({"kind": kind} | values) + "\n")
        numbers = {f"{kind}/{name}": value for name, value in values.items() if name != "step"}
        self.accelerator.log(numbers, step=values["step"])

    def save_state(self) -> None:
        """Write what `resume` needs, in the main process; the options too, if somebody has removed the folder."""
        if self.folder is not None and self.accelerator.is_main_process:
            if self.described and not (self.folder / RESOLVED).is_file():
                write_options(self.folder, self.config)
                self.locks.enter_context(lock(self.folder))  # that of the folder before is gone with it
            own = {"best": vars(self.best), "validated": self.validated, "corpus": identify(self.corpus)}
            save_state(self.folder, self.trainer.state() | own)

    def _load_state(self) -> None:
        """Continue from the state in the folder.

        Raises:
            CheckpointError: if it is missing, damaged or of another run, or if the corpus has changed.
            ConfigError: if there is no folder.
        """
        if self.folder is None:
            raise ConfigError("resume = True without a folder: name the folder of the run to go on with")
        state = load_state(self.folder)
        try:
            if state["corpus"] != identify(self.corpus):
                raise CheckpointError(
                    f"{self.corpus.name} has changed since the run in {self.folder} began: start a new run"
                )
            self.best, self.validated = Best(**state["best"]), int(state.get("validated", state["counters"]["step"]))
            self.trainer.load_state(state)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError):
            raise CheckpointError(f"{self.folder / STATE} is not of this run: it cannot be resumed") from None
        if self.accelerator.is_main_process:
            truncate_metrics(self.folder / METRICS, self.trainer.step)
            if (self.folder / CONFIG).is_file():
                kept = Checkpoint.load(self.folder, get_own_parts(self.config))
                self.replaced = kept if kept.config.model.prior != self.config.model.prior else None


class Speed:
    """Tokens per second of a training since it began or was resumed, pauses excluded."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.tokens, self.excluded = trainer, 0, trainer.seconds

    @property
    def tokens_per_second(self) -> float:
        """Of the steps so far."""
        return self.tokens / max(self.trainer.seconds - self.excluded, 1e-9)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Exclude the time until the end of the block."""
        begin = time.perf_counter()
        yield
        self.excluded += time.perf_counter() - begin


def set_interval(steps: int) -> int:
    """Return the steps between validations for epochs of `steps`: whole epochs, of `MIN_INTERVAL` steps together.

    A validation may cost as much as several short epochs.

    >>> set_interval(700), set_interval(50), set_interval(20), set_interval(1), set_interval(9000)
    (700, 50, 60, 50, 2000)
    """
    return min(MAX_INTERVAL, steps * -(-MIN_INTERVAL // steps))


def flatten(event: Step | Validation) -> dict[str, Any]:
    """Return the numbers of an event by name, those of a step's report among them."""
    values = dict(vars(event))
    values.pop("usage", None)
    return values | vars(values.pop("report")) if "report" in values else values


def _save_if_diverged(run: Run) -> Iterator[Step]:
    """Yield the trainer's steps; if one fails before the first validation, save the weights of the last good step."""
    try:
        yield from run.trainer.steps()
    except TrainingError:
        if run.folder is not None and run.trainer.step > run.best.step == 0 and run.accelerator.is_main_process:
            run.checkpoint.save(run.folder)
        raise
