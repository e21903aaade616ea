"""An autoencoder first, whose encoder the VAE then starts with."""

from typing import Any

import torch
from torch import Tensor, nn

from seqvae.data.batch import Batch
from seqvae.errors import check_size
from seqvae.model.vae import SequenceVAE
from seqvae.objective.objective import Report
from seqvae.training.trainer import Trainer, Update


class Pretrain(Update):
    """Updates without the divergence; then the decoder starts anew, and the schedule of the objective begins.

    The encoder then knows how to tell sentences apart, and a decoder that has learnt nothing yet has the more use for
    z. Decoder and observation go back to the weights that they began with (the authors' code draws new ones), and what
    the optimizer knows of them is dropped. A table of embeddings that the encoder reads too stays as it is.

    Alone it does not keep the KL from falling to 0 later; the paper adds free bits, `kl` with the floor `dimension`.

    Args:
        steps: how many are made before the schedule begins.

    Source: Li, He, Neubig, Berg-Kirkpatrick & Yang, A Surprisingly Effective Fix for Deep Latent Variable Modeling of
    Text, 2019, https://arxiv.org/abs/1909.00868.
    """

    def __init__(self, *, steps: int = 2000) -> None:
        super().__init__()
        check_size(2**40, steps=steps)
        self.steps = steps
        self.first: dict[str, Tensor] = {}  # the weights that the decoder goes back to, until it has

    @property
    def before(self) -> int:
        """Those of the autoencoder."""
        return self.steps

    def get_extra_state(self) -> dict[str, Tensor]:
        """What a run that is resumed before the decoder starts anew needs for that."""
        return self.first

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """The inverse."""
        self.first = dict(state)

    def forward(self, trainer: Trainer, batch: Batch) -> tuple[Report, float]:
        """As `joint`, but for the moment between the two stages."""
        if trainer.step == 0:
            self.first = {name: tensor.detach().clone() for name, tensor in decoder_side(trainer.model).items()}
        if trainer.scheduled == 0:
            self._start_anew(trainer)
        loss, report = trainer.objective(trainer.trace(batch), trainer.scheduled)
        return report, trainer.descend(loss, report)

    @torch.no_grad()
    def _start_anew(self, trainer: Trainer) -> None:
        for name, tensor in decoder_side(trainer.model).items():
            tensor.copy_(self.first[name])
            trainer.optimizer.state.pop(tensor, None)
        self.first = {}


def decoder_side(model: SequenceVAE) -> dict[str, Tensor]:
    """What p(x|z) has for itself: parameters and buffers of decoder and observation that the encoder does not have."""
    parts = nn.ModuleDict({"decoder": model.decoder, "observation": model.observation})
    read = {id(tensor) for tensor in model.encoder.state_dict(keep_vars=True).values()}
    return {name: tensor for name, tensor in parts.state_dict(keep_vars=True).items() if id(tensor) not in read}
