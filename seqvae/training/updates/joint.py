"""All parameters at once, down the gradient of the objective."""

from seqvae.data.batch import Batch
from seqvae.objective.objective import Report
from seqvae.training.trainer import Trainer, Update


class Joint(Update):
    """One step of all parameters, by one batch and one draw of z for each sentence.

    Source: Kingma & Welling, Auto-Encoding Variational Bayes, 2014, https://arxiv.org/abs/1312.6114, algorithm 1.
    """

    def forward(self, trainer: Trainer, batch: Batch) -> tuple[Report, float]:
        """Trace, loss, step."""
        loss, report = trainer.objective(trainer.trace(batch), trainer.scheduled)
        return report, trainer.descend(loss, report)
