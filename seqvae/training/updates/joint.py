"""The usual step: all parameters, down the gradient of the objective."""

from seqvae.data.batch import Batch
from seqvae.objective.objective import Report
from seqvae.training.trainer import Trainer, Update


class Joint(Update):
    """A step of all parameters, from one batch and one sample of z for each sentence.

    Source: Kingma & Welling, Auto-Encoding Variational Bayes, 2014, https://arxiv.org/abs/1312.6114, algorithm 1.
    """

    def forward(self, trainer: Trainer, batch: Batch) -> tuple[Report, float]:
        """Compute trace and loss, and make a step."""
        loss, report = trainer.objective(trainer.trace(batch), trainer.schedule_step)
        return report, trainer.descend(loss, report)
