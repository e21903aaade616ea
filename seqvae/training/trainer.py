"""Trainer: a generator that makes a step and yields its report; the optimizer and the learning rate of each step."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from seqvae.config import Training
from seqvae.data.batch import Batch
from seqvae.data.batching import Batches
from seqvae.errors import TrainingError
from seqvae.evaluation.latent_space import LatentUsage
from seqvae.model.vae import Refinement, SequenceVAE, Trace
from seqvae.objective.objective import Objective, Report
from seqvae.training.distributed import average_gradients, make_row_map

if TYPE_CHECKING:
    from accelerate import Accelerator

# If neither epochs nor minutes are given. A small corpus needs many passes before z is used at all.
EPOCHS, STEPS, MINUTES = 20, 3000, 5.0
HALVINGS = 5  # of the learning rate, at most
# That a resumed run continues from.
COUNTERS = ("step", "epoch", "index", "halvings", "seconds", "begun_seconds", "reached", "weight", "rate")


def set_limits(training: Training, steps: int) -> tuple[int, float | None]:
    """Return the most epochs, of `steps` steps each, and the most minutes: those of the options, or the defaults."""
    epochs = training.max_epochs or max(EPOCHS, math.ceil(STEPS / steps))
    minutes = MINUTES if training.max_epochs is None and training.max_minutes is None else training.max_minutes
    return epochs, minutes


def learning_rate(training: Training, step: int, progress: float, halvings: int = 0) -> float:
    """Rise over `warmup` steps, stay constant but for the halvings, and fall to 0 over the last fraction `decay`."""
    warmup = min(1.0, (step + 1) / (training.warmup + 1))
    decay = min(1.0, (1 - progress) / training.decay) if training.decay else 1.0
    return training.learning_rate * warmup * decay * 0.5**halvings


def make_optimizer(module: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Make the optimizer of all parameters; its learning rate is set at each step."""
    groups = group_parameters(module, training.weight_decay)
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=training.learning_rate, fused=True)
    return torch.optim.AdamW(groups, betas=(0.9, 0.99), fused=True)


def group_parameters(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Give weight decay to matrices; biases, and all else that has one axis, have none."""
    trained = [p for p in model.parameters() if p.requires_grad]  # others are frozen
    matrices: list[Tensor] = [p for p in trained if p.dim() >= 2]
    others: list[Tensor] = [p for p in trained if p.dim() < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


@dataclass(frozen=True)
class Step:
    """A step of the optimizer.

    Attributes:
        report: the objective's report of the batch, with the sentences of all processes.
        step: the number of steps so far, this one included.
        epoch: the pass over the training split that it belongs to, from 0.
        learning_rate: of this step.
        gradient_norm: before clipping.
        progress: the fraction of the training that is over, by steps or by minutes, whichever is larger.
    """

    report: Report
    step: int
    epoch: int
    learning_rate: float
    gradient_norm: float
    progress: float


class Update(nn.Module, ABC):
    """An update rule: how a step is made. A resumed run restores its buffers."""

    @property
    def schedule_delay(self) -> int:
        """The number of steps before the schedule of the objective begins."""
        return 0

    @property
    def stationary(self) -> bool:
        """Whether steps are made as they will be until the end; the best model is one from after that."""
        return True

    def observe(self, usage: LatentUsage | None) -> None:
        """Take note of the use of z at a validation, the same in all processes; None if it cannot be measured."""

    @abstractmethod
    def forward(self, trainer: Trainer, batch: Batch) -> tuple[Report, float]:
        """Make one step; return the report of `batch`, and the norm of the gradient before clipping."""


class Trainer:
    """Makes steps of an optimizer on an objective. Its `state` is all that a resumed run needs.

    Args:
        model: trained in place.
        objective: the loss of a `Trace`; its parameters, if any, are trained too.
        batches: of the training split, the same in all processes.
        training: the options.
        accelerator: device, precision and other processes.
        rule: how a step is made.
    """

    make_optimizer = staticmethod(make_optimizer)

    def __init__(
        self,
        model: SequenceVAE,
        objective: Objective,
        batches: Batches,
        training: Training,
        accelerator: Accelerator,
        rule: Update,
    ) -> None:
        objective.to(accelerator.device)
        optimizer = self.make_optimizer(nn.ModuleList([model, objective]), training)
        self.model = model
        # The wrapped model computes in the chosen precision. `seqvae.training.distributed` averages the gradients.
        self.wrapped = accelerator.prepare_model(model, evaluation_mode=True)
        self.optimizer = accelerator.prepare(optimizer)
        self.map_rows = make_row_map(accelerator, training.seed)
        self.objective = objective
        self.batches = batches
        self.training = training
        self.epochs, self.minutes = set_limits(training, batches.steps)
        self.accelerator = accelerator
        self.rule = rule
        self.step = self.epoch = self.index = self.halvings = 0
        self.seconds = 0.0  # of wall-clock time, with the caller's work between steps, over all resumed parts
        self.progress = 0.0  # the fraction of the training that is over
        self.begun_seconds = 0.0  # `seconds` when the schedule of the objective began
        self.reached = 0  # the latest step that the schedule was evaluated at
        self.weight = self.rate = 0.0  # of the divergence and of learning, at the last step

    def steps(self) -> Iterator[Step]:
        """Make steps until `max_epochs` or `max_minutes`; yield each.

        Raises:
            TrainingError: when loss or gradient is no longer finite; the weights are those of the last good step.
        """
        last, self.progress = time.perf_counter(), self._measure_progress()
        while self.epoch < self.epochs:
            for batch in self.batches.epoch(self.epoch, start=self.index):
                if self.progress >= 1:
                    return
                step = self._step(batch)
                now = time.perf_counter()
                self.seconds, last = self.seconds + now - last, now
                self.progress = self._measure_progress()
                self._follow_schedule()
                yield replace(step, progress=self.progress)
            self.epoch, self.index = self.epoch + 1, 0

    def _step(self, batch: Batch) -> Step:
        rate = learning_rate(self.training, self.step, self.progress, self.halvings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.noise.step = self.step
        report, norm = self.rule(self, batch)
        self.step, self.index, self.weight, self.rate = self.step + 1, self.index + 1, report.weight, rate
        return Step(report, self.step, self.epoch, rate, norm, self.progress)

    @property
    def schedule_step(self) -> int:
        """The step that the schedule of the objective is evaluated at; below 0 before it begins.

        It never goes back: in a run that is resumed with a longer limit, a schedule that is a fraction of the training
        waits where it was until that fraction of the longer one is over.
        """
        step, weight = self.step - self.rule.schedule_delay, self.objective.weight
        if weight.fraction is None or step < 0:
            return step
        begun = self._find_fraction(self.rule.schedule_delay, self.begun_seconds)
        fraction = (self.progress - begun) / (1 - begun) if begun < 1 else 0.0
        return max(self.reached, int(fraction / weight.fraction * weight.annealing_steps))

    def _follow_schedule(self) -> None:
        if self.step == self.rule.schedule_delay:
            self.begun_seconds = self._agree_on_seconds()
        self.reached = max(self.reached, self.schedule_step)

    def trace(self, batch: Batch, samples: int = 1, refine: Refinement | None = None) -> Trace:
        """Pass the batch through the model in training mode, with `samples` of z for each sentence."""
        self.wrapped.train()
        return self.wrapped(batch.to(self.accelerator.device), samples, refine, self.map_rows)

    def descend(self, loss: Tensor, report: Report, only: Collection[nn.Parameter] | None = None) -> float:
        """Make a step of the optimizer down the gradient of `loss` (); return the norm of the gradient before clipping.

        Parameters that are not in `only` keep their values and their state of the optimizer.

        Raises:
            TrainingError: when the gradient is not finite; no weight has changed then.
        """
        self.optimizer.zero_grad()
        self.accelerator.backward(loss, inputs=None if only is None else list(only))
        trained = [p for p in [*self.wrapped.parameters(), *self.objective.parameters()] if p.requires_grad]
        average_gradients(self.accelerator, trained)
        norm = float(self.accelerator.clip_grad_norm_(trained, self.training.clip))
        if not math.isfinite(norm):  # the norm is the same in every process, so that all of them stop
            raise TrainingError(self._describe_divergence(report, norm))
        self.optimizer.step()
        return norm

    def _measure_progress(self) -> float:
        """Return the fraction of the training that is over, in [0, 1]: the larger of that of steps and of minutes.

        A run that ends by epochs is reproducible: the clock matters only where it is further than the steps, and while
        the learning rate is constant nothing depends on the progress.
        """
        steps = self.epoch * self.batches.steps + self.index
        return self._find_fraction(steps, 0.0 if self.minutes is None else self._agree_on_seconds())

    def _find_fraction(self, steps: int, seconds: float) -> float:
        """Return the fraction of the training, as long as it is now, that so many steps and seconds are."""
        by_steps = steps / (self.batches.steps * self.epochs)
        return by_steps if self.minutes is None else max(by_steps, seconds / 60 / self.minutes)

    def _agree_on_seconds(self) -> float:
        """Return `seconds`, of the first process in all of them: one clock for all, or their learning rates differ."""
        if self.accelerator.num_processes == 1:
            return self.seconds
        from accelerate.utils import broadcast

        seconds = torch.tensor(self.seconds, dtype=torch.float64)
        return float(broadcast(seconds.to(self.accelerator.device)))

    def _describe_divergence(self, report: Report, norm: float) -> str:
        """Describe what is not finite, at which learning rate, and what to try."""
        rate = self.optimizer.param_groups[0]["lr"]
        terms = {"reconstruction": report.reconstruction, "KL": report.kl}
        bad = [f"{name} = {value}" for name, value in terms.items() if not math.isfinite(value)]
        cause = (
            f"the {' and the '.join(bad)}" if bad else f"the gradient's norm = {norm} (the loss was {report.loss:.4g})"
        )
        kept = "the model before this step is kept" if self.step else "nothing was learnt before it"
        return (
            f"training stopped at step {self.step + 1}: {cause}, at learning rate {rate:.3g}; "
            f"{kept}: try a lower --learning-rate, a lower --clip or --precision fp32"
        )

    def state(self) -> dict[str, Any]:
        """Return all that `load_state` needs to continue exactly: tensors and plain values only."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "objective": self.objective.state_dict(),
            "rule": self.rule.state_dict(),
            "generator": torch.get_rng_state(),
            "counters": {name: getattr(self, name) for name in COUNTERS},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state()`, bit for bit on a CPU in fp32."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.objective.load_state_dict(state["objective"])
        self.rule.load_state_dict(state["rule"])
        torch.set_rng_state(state["generator"])
        for name, value in state["counters"].items():
            setattr(self, name, value)
