"""An encoder that is not let lag behind its decoder."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from seqvae.data.batch import Batch
from seqvae.errors import ConfigError, check_size
from seqvae.evaluation.latent_space import Vitals
from seqvae.model.priors import Vamp
from seqvae.model.vae import SequenceVAE
from seqvae.objective.objective import Report
from seqvae.training.trainer import Trainer, Update


class Lagging(Update):
    """In an aggressive stage the encoder catches up before each step of the decoder; afterwards steps are `joint`.

    An aggressive update makes steps of encoder and posterior alone, each by another batch, until their loss per token,
    averaged over a window of steps, is no longer below that of the window before; then one step of all else, by the
    batch of the update. The stage ends for good when the mutual information of the validation sentences is no longer
    above its highest so far. Of its two ends the lower is compared: like the paper's estimate it counts a sentence's
    own posterior in the aggregate. Where it nears its limit, log N of the sentences watched, it stops rising too.

    The decoder's side is all that p(x, z) depends on: decoder, observation and prior. A table of embeddings that both
    share belongs to it, so that the steps of the encoder fit q to a p that rests. Both sides keep their AdamW.

    Only the steps count for the schedule, for an epoch and for the report; the steps of the encoder see batches of
    epochs beside those of the training, and take most of the time of the stage.

    Args:
        window: steps of the encoder whose mean loss is compared with that of as many before.
        steps: of the encoder in an update, at most.
        patience: validations in a row without a higher mutual information that end the stage; the paper has 1, where
            a validation comes after each epoch.

    Source: He, Spokoyny, Neubig & Berg-Kirkpatrick, Lagging Inference Networks and Posterior Collapse in Variational
    Autoencoders, 2019, https://arxiv.org/abs/1901.05534, algorithm 1. Windows of 15 steps as in the authors' code for
    text (text.py of https://github.com/jxhe/vae-lagging-encoder; for images they are of 10), whose first step of the
    encoder is by the batch of the decoder.
    """

    aggressive: Tensor
    information: Tensor
    taken: Tensor
    waited: Tensor

    def __init__(self, *, window: int = 15, steps: int = 100, patience: int = 1) -> None:
        super().__init__()
        check_size(window=window, steps=steps, patience=patience)
        self.window, self.steps, self.patience = window, steps, patience
        self.register_buffer("aggressive", torch.tensor(True))
        self.register_buffer("information", torch.tensor(-math.inf, dtype=torch.float64))
        self.register_buffer("taken", torch.tensor(0))  # batches beside those of the training
        self.register_buffer("waited", torch.tensor(0))  # validations since the highest
        self.stream: tuple[int, Iterator[Batch]] | None = None  # the next of them, and its number

    @property
    def settled(self) -> bool:
        """Whether the aggressive stage is over."""
        return not self.aggressive

    def observe(self, vitals: Vitals | None) -> None:
        """End the stage where the mutual information no longer rises, or cannot be known."""
        now = math.nan if vitals is None else vitals.mutual_information_lower
        if now > float(self.information):
            self.information.fill_(now)
            self.waited.zero_()
        else:
            self.waited.add_(1)
        if vitals is None or self.waited >= self.patience:
            self.aggressive.fill_(False)

    def forward(self, trainer: Trainer, batch: Batch) -> tuple[Report, float]:
        """The report is of the step by `batch`.

        Raises:
            ConfigError: if the prior moves with the encoder, which then has nothing that rests to catch up with.
        """
        if isinstance(trainer.model.prior, Vamp):
            raise ConfigError(
                "objective.update = lagging lets the encoder catch up with a prior that rests, and model.prior = vamp "
                "moves with the encoder: write --model.prior.name mixture, or --objective.update.name joint"
            )
        others: list[nn.Parameter] | None = None
        if self.aggressive:
            encoder = encoder_side(trainer.model)
            self._catch_up(trainer, encoder)
            mine = set(encoder)
            others = [p for group in trainer.optimizer.param_groups for p in group["params"] if p not in mine]
        loss, report = trainer.objective(trainer.trace(batch), trainer.scheduled)
        return report, trainer.descend(loss, report, only=others)

    def _catch_up(self, trainer: Trainer, encoder: list[nn.Parameter]) -> None:
        before, total, tokens = math.inf, 0.0, 0.0
        for step in range(1, self.steps + 1):
            trainer.objective.eval()  # what moves with each call of the objective moves with steps alone
            try:
                loss, report = trainer.objective(trainer.trace(self._another(trainer)), trainer.scheduled)
            finally:
                trainer.objective.train()
            trainer.descend(loss, report, only=encoder)
            total, tokens = total + report.loss * report.sentences, tokens + report.tokens
            if step % self.window == 0:
                now = total / tokens
                if not now < before:
                    return
                before, total, tokens = now, 0.0, 0.0

    def _another(self, trainer: Trainer) -> Batch:
        """The next batch beside those of the training; which one is decided by `taken` alone."""
        taken = int(self.taken)
        if self.stream is None or self.stream[0] != taken:
            self.stream = taken, trainer.batches.extra(taken)
        _, batches = self.stream
        self.taken.add_(1)
        self.stream = taken + 1, batches
        return next(batches)


def encoder_side(model: SequenceVAE) -> list[nn.Parameter]:
    """The parameters that q(z|x) depends on and p(x, z) does not."""
    shared = {p for part in (model.decoder, model.observation, model.prior) for p in part.parameters()}
    return [p for part in (model.encoder, model.posterior) for p in part.parameters() if p not in shared]
