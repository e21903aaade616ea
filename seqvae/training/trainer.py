"""Trainer: a generator that makes one step, yields its report, and makes the next; and the learning rate of each."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from seqvae.config import Training
from seqvae.data.batch import Batch
from seqvae.data.batching import Batches
from seqvae.errors import TrainingError
from seqvae.evaluation.latent_space import Vitals
from seqvae.model.vae import Refinement, SequenceVAE, Trace
from seqvae.objective.objective import Objective, Report
from seqvae.training.sharing import average_gradients, share_of

# Where the user names neither epochs nor minutes. Few sentences need many passes before z is used at all.
EPOCHS, UPDATES, MINUTES = 20, 3000, 5.0
HALVINGS = 5  # of the learning rate, at most


def length(training: Training, steps: int) -> tuple[int, float | None]:
    """Epochs and minutes, whichever ends first, of `steps` steps each: what was asked, or else the defaults."""
    epochs = training.max_epochs or max(EPOCHS, math.ceil(UPDATES / steps))
    minutes = MINUTES if training.max_epochs is None and training.max_minutes is None else training.max_minutes
    return epochs, minutes


def learning_rate(training: Training, step: int, progress: float, halvings: int = 0) -> float:
    """Rises over `warmup` steps, stays but for the halvings, and falls to 0 over the last `decay`."""
    rise = min(1.0, (step + 1) / (training.warmup + 1))
    fall = min(1.0, (1 - progress) / training.decay) if training.decay else 1.0
    return training.learning_rate * rise * fall * 0.5**halvings


def optimizer_of(module: nn.Module, training: Training) -> torch.optim.Optimizer:
    """The optimizer of all parameters; its learning rate is set at each step."""
    groups = parameter_groups(module, training.weight_decay)
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=training.learning_rate, fused=True)
    return torch.optim.AdamW(groups, betas=(0.9, 0.99), fused=True)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, and whatever else has one axis, do not."""
    matrices: list[Tensor] = [p for p in model.parameters() if p.dim() >= 2]
    others: list[Tensor] = [p for p in model.parameters() if p.dim() < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


COUNTERS = ("step", "epoch", "index", "halvings", "seconds")  # that a resumed run goes on from


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        report: what the objective says of its batch, the sentences of all processes together.
        step: how many steps have been made, this one included.
        epoch: the pass over the training split that it belongs to, from 0.
        learning_rate: of this step.
        gradient_norm: before clipping.
        progress: share of the training that is over after it, by steps or by minutes, whichever is further.
    """

    report: Report
    step: int
    epoch: int
    learning_rate: float
    gradient_norm: float
    progress: float


class Update(nn.Module, ABC):
    """How a step is made; its buffers are what a resumed run has to know of it."""

    @property
    def before(self) -> int:
        """Updates that it makes before the schedule of the objective begins."""
        return 0

    @property
    def settled(self) -> bool:
        """Whether steps are what they will be to the end; the best model is one from after that."""
        return True

    def observe(self, vitals: Vitals | None) -> None:
        """Hear what a validation has seen of the use of z: the same in all processes; None where nothing could be."""

    @abstractmethod
    def forward(self, trainer: "Trainer", batch: Batch) -> tuple[Report, float]:
        """Make one step of the trainer; the report of `batch`, and the norm of the gradient before clipping."""


class Trainer:
    """An optimizer with warmup and decay on an objective; everything that a resumed run needs is in `state`.

    Args:
        model: trained in place.
        objective: gives the loss of a `Trace`; its parameters, if it has any, are trained too.
        batches: the training split, the same in all processes, which share the work on each batch.
        training: the options.
        accelerator: the device, the precision and the other processes.
        rule: how a step is made.
    """

    optimizer_of = staticmethod(optimizer_of)

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
        optimizer = self.optimizer_of(nn.ModuleList([model, objective]), training)
        self.model = model
        # What accelerate returns computes in the chosen precision. Gradients are averaged in `seqvae.training.sharing`.
        self.prepared = accelerator.prepare_model(model, evaluation_mode=True)
        self.optimizer = accelerator.prepare(optimizer)
        self.share = share_of(accelerator, training.seed)
        self.objective = objective
        self.batches = batches
        self.training = training
        self.epochs, self.minutes = length(training, batches.steps)
        self.accelerator = accelerator
        self.rule = rule
        self.step = self.epoch = self.index = self.halvings = 0
        self.seconds = 0.0  # by the wall clock, what the caller does between steps included, over all resumed parts

    def steps(self) -> Iterator[Step]:
        """Train until `max_epochs` or `max_minutes`, yielding after each step.

        Raises:
            TrainingError: when loss or gradient is no longer finite; the weights are those of the last good step.
        """
        last, progress = time.perf_counter(), self._progress()
        while self.epoch < self.epochs:
            for batch in self.batches.epoch(self.epoch, start=self.index):
                if progress >= 1:
                    return
                step = self._step(batch, progress)
                now = time.perf_counter()
                self.seconds, last = self.seconds + now - last, now
                progress = self._progress()
                yield replace(step, progress=progress)
            self.epoch, self.index = self.epoch + 1, 0

    def _step(self, batch: Batch, progress: float) -> Step:
        rate = learning_rate(self.training, self.step, progress, self.halvings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.noise.step = self.step
        report, norm = self.rule(self, batch)
        self.step, self.index = self.step + 1, self.index + 1
        return Step(report, self.step, self.epoch, rate, norm, progress)

    @property
    def scheduled(self) -> int:
        """The step by the schedule of the objective: below 0 before that begins."""
        return self.step - self.rule.before

    def trace(self, batch: Batch, draws: int = 1, refine: Refinement | None = None) -> Trace:
        """A pass of the batch through the model, as it is trained."""
        self.prepared.train()
        return self.prepared(batch.to(self.accelerator.device), draws, refine, self.share)

    def descend(self, loss: Tensor, report: Report, only: Collection[nn.Parameter] | None = None) -> float:
        """One step of the optimizer down the gradient of `loss` (), of which the norm before clipping is returned.

        Parameters that are not among `only` stay as they are, and so does what the optimizer knows of them.

        Raises:
            TrainingError: when the gradient is not finite; no weight has then moved.
        """
        self.optimizer.zero_grad()
        self.accelerator.backward(loss, inputs=None if only is None else list(only))
        trained = [*self.prepared.parameters(), *self.objective.parameters()]
        average_gradients(self.accelerator, trained)
        norm = float(self.accelerator.clip_grad_norm_(trained, self.training.clip))
        if not math.isfinite(norm):  # the norm is the same in every process, so that all of them stop
            raise TrainingError(self._cause(report, norm))
        self.optimizer.step()
        return norm

    def _progress(self) -> float:
        """In [0, 1]. Minutes count only where they bite, so that a run that ends by epochs is reproducible.

        While the learning rate is flat nothing depends on the progress; the clock can only start the decay.
        """
        by_steps = (self.epoch + self.index / self.batches.steps) / self.epochs
        if self.minutes is None:
            return by_steps
        by_minutes = torch.tensor(self.seconds / 60 / self.minutes, dtype=torch.float64)
        if self.accelerator.num_processes > 1:  # one clock for all, or their learning rates part
            by_minutes = broadcast(by_minutes.to(self.accelerator.device))
        return max(by_steps, float(by_minutes))

    def _cause(self, report: Report, norm: float) -> str:
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
        """All that `load_state` needs to go on as if nothing had happened: tensors and plain values only."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "objective": self.objective.state_dict(),
            "rule": self.rule.state_dict(),
            "generator": torch.get_rng_state(),
            "counters": {name: getattr(self, name) for name in COUNTERS},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state()`, bit for bit on a CPU in fp32."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.objective.load_state_dict(state["objective"])
        self.rule.load_state_dict(state["rule"])
        torch.set_rng_state(state["generator"])
        for name, value in state["counters"].items():
            setattr(self, name, value)
