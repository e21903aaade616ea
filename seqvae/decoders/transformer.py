"""A Transformer decoder."""

import torch
from torch import Tensor, nn

from seqvae.attention import Block
from seqvae.decoders.base import Decoder, State
from seqvae.dropout import SequenceDropout
from seqvae.errors import ConfigError, check_size

MOST_LAYERS = 64


class TransformerDecoder(Decoder):
    """Causal self-attention that hears of z in up to three ways; see `seqvae.attention` for the sources.

    Args:
        embedding: E.
        latent: D.
        width: size of the vector of each step, divisible by twice the heads.
        heads: attentions beside each other in each layer.
        hidden: units of each layer's feed-forward part.
        layers: how many, stacked.
        prefix: z, projected, is what stands before the first step, for all later ones to look at (as the memory of Li
            et al., Optimus: Organizing Sentences via Pre-trained Modeling of a Latent Space, 2020,
            https://arxiv.org/abs/2004.04092).
        every_step: z stands beside the embedding at each step.
        skip: z reaches the output features (Dieng et al. 2019, https://arxiv.org/abs/1807.04863).
        dropout: share dropped from what is fed and from what each half of a layer adds; never from z.
        locked: drop the same features at every step of a sentence instead of others at each step.
    """

    def __init__(
        self,
        *,
        embedding: int,
        latent: int,
        width: int = 256,
        heads: int = 4,
        hidden: int = 512,
        layers: int = 2,
        prefix: bool = True,
        every_step: bool = True,
        skip: bool = True,
        dropout: float = 0.1,
        locked: bool = False,
    ) -> None:
        super().__init__()
        if not (prefix or every_step or skip):
            raise ConfigError("decoder without z: set at least one of prefix, every_step and skip to true")
        check_size(MOST_LAYERS, layers=layers)
        self.enter = nn.Linear(embedding + latent * every_step, width)
        self.prefix = nn.Linear(latent, width) if prefix else None
        self.blocks = nn.ModuleList(
            Block(width, heads=heads, hidden=hidden, dropout=dropout, locked=locked) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = SequenceDropout(dropout, locked=locked)
        self.every_step, self.skip = every_step, skip
        self.features = width + latent * skip

    def forward(self, inputs: Tensor, z: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """(B, T, E), (B, D), state -> (B, T, features), state: keys and values of each layer, (B, heads, S, F)."""
        x = self.dropout(inputs)
        steps = x.shape[1]
        z_steps = z[:, None].expand(-1, steps, -1)  # (B, T, D)
        x = self.enter(torch.cat([x, z_steps.to(x.dtype)], dim=-1) if self.every_step else x)
        if self.prefix is not None and state is None:
            x = torch.cat([self.prefix(z)[:, None].to(x.dtype), x], dim=1)
        past = state[0].shape[2] if state else 0
        positions = torch.arange(past + x.shape[1], device=x.device)
        mask = positions <= positions[past:, None]  # (T, S + T)
        after: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x, cache = block(x, mask, (state[2 * i], state[2 * i + 1]) if state else None)
            after += cache
        features = self.norm(x[:, -steps:])
        if self.skip:
            features = torch.cat([features, z_steps.to(features.dtype)], dim=-1)
        return features, tuple(after)
