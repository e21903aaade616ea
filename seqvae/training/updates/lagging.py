"""Aggressive training of the encoder, so that inference does not lag behind the decoder."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from seqvae.data.batch import Batch
from seqvae.errors import ConfigError, check_size
from seqvae.evaluation.latent_space import LatentUsage
from seqvae.model.priors import Vamp
from seqvae.model.vae import SequenceVAE
from seqvae.objective.objective import Report
from seqvae.training.trainer import Trainer, Update


class Lagging(Update):
    """In an aggressive stage the encoder is trained further before each step of the decoder; then steps are `joint`.

    An aggressive step first makes inner steps of encoder and posterior alone, each on another batch, until their loss
    per token, averaged over a window, is no longer below that of the window before; then one step of all other
    parameters, on its own batch. The stage ends for good when the mutual information of the validation sentences no
    longer exceeds its maximum so far. Its lower bound is compared: like the paper's estimate it includes a sentence's
    own posterior in the aggregate. It stops rising, too, near its limit, log N of the sentences measured.

    The decoder's parameters are all that p(x, z) depends on: decoder, observation and prior. An embedding that both
    sides share is one of them, so that inner steps fit q to a fixed p. Each side keeps its state in the optimizer.

    Inner steps do not count for schedule, epoch and report; their batches come from epochs apart from those of the
    training, and they take most of the time of the stage.

    Args:
        window: inner steps whose mean loss is compared with that of as many before.
        steps: inner steps before each step of the decoder, at most.
        patience: validations in a row without a higher mutual information that end the stage; 1 in the paper, which
            validates after each epoch.

    Source: He, Spokoyny, Neubig & Berg-Kirkpatrick, Lagging Inference Networks and Posterior Collapse in Variational
    Autoencoders, 2019, https://arxiv.org/abs/1901.05534, algorithm 1. Windows of 15 steps as in the authors' code for
    text (text.py of https://github.com/jxhe/vae-lagging-encoder; for images of 10), where the first inner step uses the
    batch of the decoder.
    """

    aggressive: Tensor
    best_information: Tensor
    inner_steps: Tensor
    since_best: Tensor

    def __init__(self, *, window: int = 15, steps: int = 100, patience: int = 1) -> None:
        super().__init__()
        check_size(window=window, steps=steps, patience=patience)
        self.window, self.steps, self.patience = window, steps, patience
        self.register_buffer("aggressive", torch.tensor(True))
        self.register_buffer("best_information", torch.tensor(-math.inf, dtype=torch.float64))
        self.register_buffer("inner_steps", torch.tensor(0))  # so far
        self.register_buffer("since_best", torch.tensor(0))  # validations since the highest information
        self.stream: tuple[int, Iterator[Batch]] | None = None  # batches from this inner step on

    @property
    def stationary(self) -> bool:
        """Whether the aggressive stage is over."""
        return not self.aggressive

    def observe(self, usage: LatentUsage | None) -> None:
        """End the stage if the mutual information no longer rises, or cannot be measured."""
        information = math.nan if usage is None else usage.mutual_information_lower
        if information > float(self.best_information):
            self.best_information.fill_(information)
            self.since_best.zero_()
        else:
            self.since_best.add_(1)
        if usage is None or self.since_best >= self.patience:
            self.aggressive.fill_(False)

    def forward(self, trainer: Trainer, batch: Batch) -> tuple[Report, float]:
        """Make inner steps in the aggressive stage, then a step on `batch`, which the report is of.

        Raises:
            ConfigError: if the prior depends on the encoder, so that inner steps would change p.
        """
        if isinstance(trainer.model.prior, Vamp):
            raise ConfigError(
                "objective.update = lagging trains the encoder against a fixed prior, and model.prior = vamp "
                "changes with the encoder: write --model.prior.name mixture, or --objective.update.name joint"
            )
        others: list[nn.Parameter] | None = None
        if self.aggressive:
            encoder = find_encoder_parameters(trainer.model)
            self._train_encoder(trainer, encoder)
            inner = set(encoder)
            others = [p for group in trainer.optimizer.param_groups for p in group["params"] if p not in inner]
        loss, report = trainer.objective(trainer.trace(batch), trainer.schedule_step)
        return report, trainer.descend(loss, report, only=others)

    def _train_encoder(self, trainer: Trainer, encoder: list[nn.Parameter]) -> None:
        """Make inner steps until the mean loss of a window is not below that of the one before."""
        before, total, tokens = math.inf, 0.0, 0.0
        for step in range(1, self.steps + 1):
            trainer.objective.eval()  # terms that change with each call change only with steps
            try:
                loss, report = trainer.objective(trainer.trace(self._next_batch(trainer)), trainer.schedule_step)
            finally:
                trainer.objective.train()
            trainer.descend(loss, report, only=encoder)
            total, tokens = total + report.loss * report.sentences, tokens + report.tokens
            if step % self.window == 0:
                loss_per_token = total / tokens
                if not loss_per_token < before:
                    return
                before, total, tokens = loss_per_token, 0.0, 0.0

    def _next_batch(self, trainer: Trainer) -> Batch:
        """Return the batch of the next inner step, a function of its number alone."""
        number = int(self.inner_steps)
        if self.stream is None or self.stream[0] != number:
            self.stream = number, trainer.batches.extra(number)
        _, batches = self.stream
        self.inner_steps.add_(1)
        self.stream = number + 1, batches
        return next(batches)


def find_encoder_parameters(model: SequenceVAE) -> list[nn.Parameter]:
    """Return the parameters that q(z|x) depends on and p(x, z) does not."""
    shared = {p for part in (model.decoder, model.observation, model.prior) for p in part.parameters()}
    return [p for part in (model.encoder, model.posterior) for p in part.parameters() if p not in shared]
