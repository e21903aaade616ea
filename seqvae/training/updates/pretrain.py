"""Pre-training of the encoder in an autoencoder, before the VAE is trained."""

from typing import Any

import torch
from torch import Tensor, nn

from seqvae.data.batch import Batch
from seqvae.errors import check_size
from seqvae.model.vae import SequenceVAE
from seqvae.objective.objective import Report
from seqvae.training.trainer import Trainer, Update


class Pretrain(Update):
    """Steps without the divergence; then the decoder is reset, and the schedule of the objective begins.

    The encoder then distinguishes sentences, and an untrained decoder relies on z more. Decoder and observation return
    to their initial weights (the authors' code samples new ones), and their state in the optimizer is dropped. An
    embedding that the encoder shares is not reset.

    Pre-training alone does not keep the KL from falling to 0 later; the paper adds free bits, per dimension.

    Args:
        steps: of pre-training, before the schedule begins.

    Source: Li, He, Neubig, Berg-Kirkpatrick & Yang, A Surprisingly Effective Fix for Deep Latent Variable Modeling of
    Text, 2019, https://arxiv.org/abs/1909.00868.
    """

    def __init__(self, *, steps: int = 2000) -> None:
        super().__init__()
        check_size(2**40, steps=steps)
        self.steps = steps
        self.initial: dict[str, Tensor] = {}  # the weights of the decoder, until it is reset

    @property
    def schedule_delay(self) -> int:
        """The steps of pre-training."""
        return self.steps

    def get_extra_state(self) -> dict[str, Tensor]:
        """Return the initial weights, for a run that is resumed before the decoder is reset."""
        return self.initial

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the initial weights."""
        self.initial = dict(state)

    def forward(self, trainer: Trainer, batch: Batch) -> tuple[Report, float]:
        """Make a step as `joint` does, after the reset if the schedule begins now."""
        if trainer.step == 0:
            self.initial = {
                name: tensor.detach().clone() for name, tensor in find_decoder_tensors(trainer.model).items()
            }
        if trainer.step == self.steps:
            self._reset_decoder(trainer)
        loss, report = trainer.objective(trainer.trace(batch), trainer.schedule_step)
        return report, trainer.descend(loss, report)

    @torch.no_grad()
    def _reset_decoder(self, trainer: Trainer) -> None:
        for name, tensor in find_decoder_tensors(trainer.model).items():
            tensor.copy_(self.initial[name])
            trainer.optimizer.state.pop(tensor, None)
        self.initial = {}


def find_decoder_tensors(model: SequenceVAE) -> dict[str, Tensor]:
    """Return the parameters and buffers of decoder and observation that the encoder does not share."""
    parts = nn.ModuleDict({"decoder": model.decoder, "observation": model.observation})
    shared = {id(tensor) for tensor in model.encoder.state_dict(keep_vars=True).values()}
    return {name: tensor for name, tensor in parts.state_dict(keep_vars=True).items() if id(tensor) not in shared}
