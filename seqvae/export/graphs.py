"""The parts of a model as modules that can be traced: encoder, first step of the decoder, any other step.

Of a model conditioned on labels, each takes the numbers of the labels too: `label` (B,) int64, after ids or z.
"""

import torch
from torch import Tensor, nn

from seqvae.data.batch import START
from seqvae.model.distributions import get_gaussian_parameters
from seqvae.model.observations import Tokens
from seqvae.model.vae import SequenceVAE


class Graph(nn.Module):
    """A part of a model."""

    def __init__(self, model: SequenceVAE) -> None:
        super().__init__()
        self.model = model

    def score(self, features: Tensor) -> Tensor:
        """Map features (B, features) to log p of each word (B, V)."""
        assert isinstance(self.model.observation, Tokens)
        return self.model.observation.logits(features).log_softmax(-1)


class EncoderGraph(Graph):
    """Ids (B, T) of sentences of one length -> mean and standard deviation (B, D) of q(z|x), or its mode alone."""

    def forward(self, ids: Tensor, label: Tensor | None = None) -> tuple[Tensor, ...]:
        """Encode sentences without padding."""
        encoder = self.model.encoder
        h = encoder.encode_embeddings(encoder.embed(ids), torch.full_like(ids[:, 0], ids.shape[1]))
        q = self.model.posterior(self.model.append_condition(h, label))
        return get_gaussian_parameters(q) or (q.mode,)


class StartGraph(Graph):
    """z (B, D) -> log p of the first token (B, V), and the state of the decoder."""

    def forward(self, z: Tensor, label: Tensor | None = None) -> tuple[Tensor, ...]:
        """Feed BOS to the decoder."""
        begin = torch.full_like(z[:, 0], START, dtype=torch.long)
        features, state = self.model.decode_step(begin, self.model.append_condition(z, label))
        return (self.score(features), *state)


class StepGraph(Graph):
    """The last token (B,), z (B, D) and the state -> log p of the next token (B, V), and the new state."""

    def forward(self, token: Tensor, z: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Feed one token to the decoder; `rest` is the state, after the label where there is one."""
        label, state = (None, rest) if self.model.condition is None else (rest[0], rest[1:])
        features, new = self.model.decode_step(token, self.model.append_condition(z, label), state)
        return (self.score(features), *new)
