"""A recurrent decoder."""

from typing import Literal

import torch
from torch import Tensor, nn

from seqvae.decoders.base import Decoder, State
from seqvae.dropout import SequenceDropout
from seqvae.errors import ConfigError, check_size

MOST_LAYERS = 64


class RecurrentDecoder(Decoder):
    """An LSTM or GRU that hears of z in up to three ways.

    Args:
        embedding: E.
        latent: D.
        cell: `lstm` or `gru`.
        hidden: units of each layer.
        layers: how many, stacked.
        initial_state: z sets the first state, h0 = tanh(W z) (and c0 = W' z).
        every_step: z stands beside the embedding at each step.
        skip: z reaches the output features (Dieng et al., Avoiding Latent Variable Collapse with Generative Skip
            Models, 2019, https://arxiv.org/abs/1807.04863).
        dropout: share of features dropped from embeddings and outputs, and of what passes between layers; never from z.
        locked: drop the same features at every step of a sentence instead of others at each step.
    """

    def __init__(
        self,
        *,
        embedding: int,
        latent: int,
        cell: Literal["lstm", "gru"] = "lstm",
        hidden: int = 256,
        layers: int = 1,
        initial_state: bool = True,
        every_step: bool = True,
        skip: bool = True,
        dropout: float = 0.3,
        locked: bool = True,
    ) -> None:
        super().__init__()
        if not (initial_state or every_step or skip):
            raise ConfigError("decoder without z: set at least one of initial_state, every_step and skip to true")
        check_size(hidden=hidden)
        check_size(MOST_LAYERS, layers=layers)
        rnn = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.rnn = rnn(
            embedding + latent * every_step,
            hidden,
            num_layers=layers,
            batch_first=True,
            dropout=dropout if layers > 1 else 0.0,
        )
        self.cells = 2 if cell == "lstm" else 1
        self.initial = nn.Linear(latent, self.cells * layers * hidden) if initial_state else None
        self.every_step, self.skip = every_step, skip
        self.dropout = SequenceDropout(dropout, locked=locked)
        self.features = hidden + latent * skip

    def forward(self, inputs: Tensor, z: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """(B, T, E), (B, D), state -> (B, T, features), state."""
        x = self.dropout(inputs)
        z_steps = z[:, None].expand(-1, x.shape[1], -1).to(x.dtype)  # (B, T, D)
        if self.every_step:
            x = torch.cat([x, z_steps], dim=-1)
        # torch wants layers first: (L, B, H)
        first = tuple(s.transpose(0, 1).contiguous().to(x.dtype) for s in state or self._initial_state(z))
        outputs, last = self.rnn(x, first if self.cells == 2 else first[0])
        features = self.dropout(outputs)
        if self.skip:
            features = torch.cat([features, z_steps.to(features.dtype)], dim=-1)
        return features, tuple(s.transpose(0, 1) for s in (last if self.cells == 2 else (last,)))

    def _initial_state(self, z: Tensor) -> State:
        """(B, D) -> one (B, L, H) for a GRU, two for an LSTM."""
        layers, hidden = self.rnn.num_layers, self.rnn.hidden_size
        if self.initial is None:
            return tuple(z.new_zeros(self.cells, len(z), layers, hidden))
        h, *c = self.initial(z).view(len(z), self.cells, layers, hidden).unbind(1)
        return (torch.tanh(h), *c)
